"""Pooling: token vectors in, one vector per text out. Works on numpy arrays and on tensors; imports numpy alone.

The six modes are those of sentence-transformers' ``Pooling`` module
(Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, for cls, mean and max;
Muennighoff 2022, https://arxiv.org/abs/2202.08904, for weightedmean and lasttoken).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def pool(token_vectors: Any, is_pooled: Mask, mode: str, to_device: Callable[[NDArray[Any]], Any] = np.asarray) -> Any:
    """Pool the token vectors of each text.

    What a mode reads follows from the mask alone: a weight for each token, or the position of one token. This is
    computed in numpy, where it costs least, and only the result is copied to the device of the token vectors.

    Parameters
    ----------
    token_vectors : ndarray or Tensor of float32, shape (n_texts, n_tokens, n_dims)
        Padded on the right.
    is_pooled : ndarray of bool, shape (n_texts, n_tokens)
        True on the tokens that count.
    mode : {"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"}
    to_device : callable, default=np.asarray
        Copies an array to the device of the token vectors.

    Returns
    -------
    ndarray or Tensor of float32, shape (n_texts, n_dims)
        The zero vector where no token counts, for example because a prompt that is left out fills the whole text.
        Only "cls" returns the first token's vector there, as sentence-transformers does.

    Examples
    --------
    >>> token_vectors = np.array([[[1, -8], [3, 2], [9, 9]]], dtype=np.float32)
    >>> pool(token_vectors, np.array([[True, True, False]]), "mean")
    array([[ 2., -3.]], dtype=float32)
    """
    if mode in _WEIGHTS:
        weights = to_device(_WEIGHTS[mode](is_pooled)[:, None])
        return (weights @ token_vectors)[:, 0]  # a single pass over the token vectors
    if mode == "max":
        pooled = _largest(token_vectors, to_device(is_pooled))
    else:
        rows, positions = np.arange(len(is_pooled)), _POSITIONS[mode](is_pooled)
        pooled = token_vectors[to_device(rows), to_device(positions)]
    is_empty: Any = ~is_pooled.any(axis=1)
    if mode != "cls" and is_empty.any():
        pooled[to_device(is_empty)] = 0
    return pooled


def mean_of(states: list[Any]) -> Any:
    """Average arrays or tensors of one shape, such as hidden layers."""
    return states[0] if len(states) == 1 else sum(states[1:], states[0]) / len(states)


def _largest(token_vectors: Any, is_pooled: Any) -> Any:
    if isinstance(token_vectors, np.ndarray):
        return np.where(is_pooled[..., None], token_vectors, np.float32(-np.inf)).max(axis=1)
    return token_vectors.masked_fill(~is_pooled[..., None], -np.inf).amax(dim=1)


def _n_pooled(is_pooled: Mask) -> Any:
    return np.maximum(is_pooled.sum(axis=1, keepdims=True, dtype=np.float32), np.float32(1))


def _weigh_by_position(is_pooled: Mask) -> Any:
    """Return the weight i for the token at position i, counted from 1, divided by the sum of the weights."""
    weights = is_pooled * np.arange(1, is_pooled.shape[1] + 1, dtype=np.float32)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), np.float32(1))


_WEIGHTS: dict[str, Callable[[Mask], Any]] = {
    "mean": lambda is_pooled: is_pooled / _n_pooled(is_pooled),
    "mean_sqrt_len_tokens": lambda is_pooled: is_pooled / np.sqrt(_n_pooled(is_pooled)),
    "weightedmean": _weigh_by_position,
}
_POSITIONS: dict[str, Callable[[Mask], Any]] = {
    "cls": lambda is_pooled: is_pooled.argmax(axis=1),
    "lasttoken": lambda is_pooled: is_pooled.shape[1] - 1 - is_pooled[:, ::-1].argmax(axis=1),
}
