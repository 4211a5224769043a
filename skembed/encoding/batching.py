"""Batching: token counts in, batches of rows out. Pure functions on numpy arrays; knows no model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# What is tokenized and sorted by length together: many texts, so that neighbours in length are close, but no more
# than a few seconds' work, since others who use the same model or cache on disk wait meanwhile.
TEXTS_PER_CHUNK = 16_384
CHARACTERS_PER_CHUNK = 16_000_000


def length_batches(
    lengths: NDArray[np.int64], batch_tokens: int, one_length_from: float = np.inf
) -> Iterator[NDArray[np.intp]]:
    """Group rows of similar length so that each batch holds at most ``batch_tokens`` padded tokens.

    Parameters
    ----------
    lengths : ndarray of int, shape (n_rows,)
        Tokens in each row.
    batch_tokens : int
        Most tokens in a batch, padding included. A row longer than that is a batch of its own.
    one_length_from : int, default=inf
        Number of tokens of one length that make batches of their own, without padding. A few longer rows may join them.

    Yields
    ------
    rows : ndarray of int
        The rows of one batch, longest first. The longest batch comes first, so that a lack of memory shows at once.

    Examples
    --------
    >>> [rows.tolist() for rows in length_batches(np.array([2, 9, 3, 8]), batch_tokens=18)]
    [[1, 3], [2, 0]]
    >>> [rows.tolist() for rows in length_batches(np.array([3, 3, 2, 2]), batch_tokens=9, one_length_from=6)]
    [[0, 1], [2, 3]]
    """
    longest_first = np.argsort(-lengths, kind="stable")
    ordered = lengths[longest_first]
    for start, end in _same_length_spans(ordered, one_length_from):
        while start < end:
            n_rows = max(batch_tokens // max(int(ordered[start]), 1), 1)
            yield longest_first[start : min(start + n_rows, end)]
            start += n_rows


def even_batch_tokens(lengths: NDArray[np.int64], n_batches: int) -> int:
    """Return the fewest ``batch_tokens`` that hold any row, and make at most ``n_batches`` of :func:`length_batches`.

    The batches then take about the same time, so that as many processors begin and end together.

    Examples
    --------
    >>> budget = even_batch_tokens(np.array([9, 3, 3, 3]), n_batches=2)
    >>> budget, [rows.tolist() for rows in length_batches(np.array([9, 3, 3, 3]), budget)]
    (9, [[0], [1, 2, 3]])
    """
    longest_first = sorted(lengths.tolist(), reverse=True)

    def is_enough(batch_tokens: int) -> bool:
        start = 0
        for _ in range(n_batches):
            if start < len(longest_first):
                start += max(batch_tokens // max(longest_first[start], 1), 1)
        return start >= len(longest_first)

    longest = max(longest_first, default=0)
    candidates = range(longest, longest * -(-len(longest_first) // n_batches) + 1)
    return candidates[bisect_left(candidates, True, hi=len(candidates) - 1, key=is_enough)]


def _same_length_spans(ordered: NDArray[np.int64], one_length_from: float) -> Iterator[tuple[int, int]]:
    """Yield spans of rows, ordered by length, that no batch crosses: they part lengths that have enough tokens."""
    start = n_tokens = 0
    is_after_large = False
    for begin, end in pairwise([0, *(np.flatnonzero(np.diff(ordered)) + 1), len(ordered)]):
        n_of_length = (end - begin) * int(ordered[begin]) if end > begin else 0
        is_large = n_of_length >= one_length_from
        # Few rows before a length that has enough join it: they would be a small batch.
        if is_after_large or (is_large and n_tokens >= one_length_from):
            yield start, begin
            start, n_tokens = begin, 0
        n_tokens += n_of_length
        is_after_large = is_large
    yield start, len(ordered)


def chunks(texts: Sequence[str], max_texts: int, max_characters: int) -> Iterator[slice]:
    """Cut texts into consecutive chunks that are tokenized, and held in memory, together.

    Parameters
    ----------
    texts : sequence of str
    max_texts, max_characters : int
        Limits of one chunk. A text longer than ``max_characters`` is a chunk of its own.

    Yields
    ------
    slice

    Examples
    --------
    >>> list(chunks(["aa", "b", "ccc"], max_texts=10, max_characters=3))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    start = n_characters = 0
    for position, text in enumerate(texts):
        n_characters += len(text)
        if position > start and (n_characters > max_characters or position - start == max_texts):
            yield slice(start, position)
            start, n_characters = position, len(text)
    if start < len(texts):
        yield slice(start, len(texts))


def positions_by_value(values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Group the positions of an array by value, each group in ascending order.

    Examples
    --------
    >>> [(value, positions.tolist()) for value, positions in positions_by_value(np.array([7, 2, 7]))]
    [(2, [1]), (7, [0, 2])]
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order])) + 1
    for positions in np.split(order, starts):
        if len(positions):
            yield int(values[positions[0]]), positions


def as_slice(positions: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """Return consecutive positions as a slice, which numpy copies much faster; return other positions as they are.

    Examples
    --------
    >>> as_slice(np.array([3, 4, 5])), as_slice(np.array([3, 5]))
    (slice(3, 6, None), array([3, 5]))
    """
    if len(positions) and positions[-1] - positions[0] == len(positions) - 1 and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions
