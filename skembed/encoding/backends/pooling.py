"""Pooling: token vectors in, one vector per text out. Works on numpy arrays and on tensors; imports numpy alone.

The six modes are those of sentence-transformers' ``Pooling`` module
(Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, for cls, mean and max;
Muennighoff 2022, https://arxiv.org/abs/2202.08904, for weightedmean and lasttoken).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
Vectors = NDArray[np.float32]

# For each vector of a text: hidden layers to average, and pooling modes to concatenate before the modules after the
# pooling.
LayerPoolings = Sequence[tuple[tuple[int, ...], tuple[str, ...]]]


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
    if mode != "cls" and not (has_any := np.any(is_pooled, axis=1)).all():
        pooled[to_device(~has_any)] = 0
    return pooled


def pool_side_by_side(
    states: Mapping[tuple[int, ...], Any],
    is_pooled: Mask,
    layer_poolings: LayerPoolings,
    concatenate: Callable[[list[Any], int], Any],
    after_pooling: Callable[[Any], Any],
    to_device: Callable[[NDArray[Any]], Any] = np.asarray,
) -> Any:
    """Compute several vectors for each text, and return them side by side.

    Parameters
    ----------
    states : dict of tuple of int to ndarray or Tensor
        Token vectors by the layers that they average; see :func:`pool`.
    is_pooled : ndarray of bool, shape (n_texts, n_tokens)
    layer_poolings : sequence of (layers, pooling)
    concatenate : callable
        ``np.concatenate`` or ``torch.cat``.
    after_pooling : callable
        The modules after the pooling, as a function from vectors to vectors.
    to_device : callable, default=np.asarray
    """
    each = {(layers, mode) for layers, pooling in layer_poolings for mode in pooling}
    pooled = {(layers, mode): pool(states[layers], is_pooled, mode, to_device) for layers, mode in each}
    together = [concatenate([pooled[layers, mode] for mode in pooling], 1) for layers, pooling in layer_poolings]
    return concatenate([after_pooling(vectors) for vectors in together], 1)


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
