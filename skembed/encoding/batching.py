"""Batching: token counts to batches of rows. Pure functions on numpy arrays; knows no text and no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray


def length_batches(
    lengths: NDArray[np.int64], batch_tokens: int, one_length_from: int | None = None
) -> Iterator[NDArray[np.intp]]:
    """Group rows of similar length so that each batch holds at most ``batch_tokens`` padded tokens.

    Parameters
    ----------
    lengths : ndarray of int, shape (n_rows,)
        Tokens in each row.
    batch_tokens : int
        Most tokens in a batch, padding included. A row longer than that is a batch of its own.
    one_length_from : int, optional
        About as many tokens of one length make batches of their own, without padding. Fewer join the next lengths,
        until there are so many.

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
    ascending = -lengths[longest_first]  # for searchsorted
    start = 0
    while start < len(longest_first):
        longest = max(int(-ascending[start]), 1)
        n_rows = max(batch_tokens // longest, 1)
        if one_length_from is not None:
            last_needed = min(start + max(one_length_from // longest, 1), len(longest_first)) - 1
            n_to_end = int(np.searchsorted(ascending, ascending[last_needed], side="right")) - start
            n_rows = ceil(n_to_end / ceil(n_to_end / n_rows))  # in equal parts, so that no small rest joins others
        yield longest_first[start : start + n_rows]
        start += n_rows


def windows(texts: Sequence[str], max_texts: int, max_characters: int) -> Iterator[slice]:
    """Cut texts into consecutive stretches that are tokenised, and held in memory, together.

    Parameters
    ----------
    texts : sequence of str
    max_texts, max_characters : int
        Bounds of one stretch. A text longer than ``max_characters`` is a stretch of its own.

    Yields
    ------
    slice

    Examples
    --------
    >>> list(windows(["aa", "b", "ccc"], max_texts=10, max_characters=3))
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
