"""Pooling without torch: the functions of ``pooling.py`` on numpy arrays, for backends that give those.

Imports numpy alone. Shapes, and what becomes of a text of which no token counts, are as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]


def cls_pool(token_vectors: Vectors, is_pooled: Mask) -> Vectors:
    """Take the first token's vector."""
    return _token_at(is_pooled.argmax(axis=1), token_vectors)


def lasttoken_pool(token_vectors: Vectors, is_pooled: Mask) -> Vectors:
    """Take the last token's vector."""
    last = is_pooled.shape[1] - 1 - is_pooled[:, ::-1].argmax(axis=1)
    return _zero_if_none(_token_at(last, token_vectors), is_pooled)


def max_pool(token_vectors: Vectors, is_pooled: Mask) -> Vectors:
    """Take the largest value of each dimension over the tokens."""
    largest = np.where(is_pooled[..., None], token_vectors, np.float32(-np.inf)).max(axis=1)
    return _zero_if_none(largest, is_pooled)


def mean_pool(token_vectors: Vectors, is_pooled: Mask) -> Vectors:
    """Average the tokens' vectors."""
    return _weighted_sum(token_vectors, is_pooled / _n_pooled(is_pooled))


def mean_sqrt_len_tokens_pool(token_vectors: Vectors, is_pooled: Mask) -> Vectors:
    """Sum the tokens' vectors and divide by the square root of their number."""
    return _weighted_sum(token_vectors, is_pooled / np.sqrt(_n_pooled(is_pooled)))


def weightedmean_pool(token_vectors: Vectors, is_pooled: Mask) -> Vectors:
    """Average the tokens' vectors, the token at position i (from 1) with weight i."""
    weights = is_pooled * np.arange(1, is_pooled.shape[1] + 1, dtype=np.float32)
    return _weighted_sum(token_vectors, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1))


NUMPY_POOLERS: dict[str, Callable[[Vectors, Mask], Vectors]] = {
    "cls": cls_pool,
    "max": max_pool,
    "mean": mean_pool,
    "mean_sqrt_len_tokens": mean_sqrt_len_tokens_pool,
    "weightedmean": weightedmean_pool,
    "lasttoken": lasttoken_pool,
}


def _n_pooled(is_pooled: Mask) -> Vectors:
    n_pooled: Vectors = np.maximum(is_pooled.sum(axis=1, keepdims=True, dtype=np.float32), np.float32(1))
    return n_pooled


def _weighted_sum(token_vectors: Vectors, weights: NDArray[np.floating[Any]]) -> Vectors:
    """Sum over the tokens as one matrix product a text: a single pass over the token vectors."""
    summed: Vectors = np.matmul(weights.astype(np.float32)[:, None, :], token_vectors)[:, 0, :]
    return summed


def _token_at(position: NDArray[np.intp], token_vectors: Vectors) -> Vectors:
    taken: Vectors = token_vectors[np.arange(len(position)), position]
    return taken


def _zero_if_none(pooled: Vectors, is_pooled: Mask) -> Vectors:
    return np.where(is_pooled.any(axis=1, keepdims=True), pooled, np.float32(0))
