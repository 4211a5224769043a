"""Batching: token counts to batches of rows. Pure functions on numpy arrays; knows no text and no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def length_batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Group rows of similar length so that each batch holds at most ``batch_tokens`` padded tokens.

    Parameters
    ----------
    lengths : ndarray of int, shape (n_rows,)
        Tokens in each row.
    batch_tokens : int
        Most tokens in a batch, padding included. A row longer than that is a batch of its own.

    Yields
    ------
    rows : ndarray of int
        The rows of one batch, longest first. The longest batch comes first, so that a lack of memory shows at once.

    Examples
    --------
    >>> [rows.tolist() for rows in length_batches(np.array([2, 9, 3, 8]), batch_tokens=18)]
    [[1, 3], [2, 0]]
    """
    longest_first = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(longest_first):
        longest = max(int(lengths[longest_first[start]]), 1)
        n_rows = max(batch_tokens // longest, 1)
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
