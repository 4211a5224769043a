"""The largest products of each query with many vectors, by torch, which selects them several times as fast as numpy.

Imports numpy, joblib and the engine's threads; torch on use.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from skembed.encoding.threads import LockedIterator, iterate_concurrently

_VECTORS_PER_BLOCK = 8192  # whose products with a thousand queries stay in the processor's cache, nearly: 32 MiB


def largest_products(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], n: int, among: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Find the vectors with the largest products, computed in float32.

    There are as many threads as cores, each with some of the vectors. Torch computes on one thread in each: its own
    threads would be missing in a forked child.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_vectors, dim)
    queries : ndarray of float32, shape (n_queries, dim)
    n : int
        At most as many as there are vectors, or positions in ``among``.
    among : ndarray of int, optional
        Positions of the vectors to look among; None: all.

    Returns
    -------
    ndarray of int, shape (n_queries, n)
        Positions, in no particular order.

    Examples
    --------
    >>> largest_products(np.eye(3, dtype=np.float32), np.float32([[0, 0.8, 0.6]]), 1)
    array([[1]])
    """
    torch = importlib.import_module("torch")
    one_thread = importlib.import_module("skembed.encoding.backends.torch_threads").one_thread
    left = torch.from_numpy(queries)
    n_vectors = len(vectors) if among is None else len(among)
    starts = LockedIterator(range(0, n_vectors, _VECTORS_PER_BLOCK))

    def work() -> Iterator[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        with one_thread():
            for start in starts:
                block = slice(start, start + _VECTORS_PER_BLOCK)
                right = torch.from_numpy(vectors[block if among is None else among[block]])
                products = left @ right.T
                values, places = products.topk(min(n, products.shape[1]), dim=1, sorted=False)
                found = [_largest([*found, (values, places + start)], n)]
        yield from found

    n_threads = min(joblib.cpu_count(), -(-n_vectors // _VECTORS_PER_BLOCK))
    parts = list(iterate_concurrently([work() for _ in range(n_threads)], n_ahead=n_threads))
    positions: NDArray[np.intp] = _largest(parts, n)[1].numpy()
    return positions if among is None else among[positions]


def _largest(parts: list[tuple[Any, Any]], n: int) -> tuple[Any, Any]:
    """Return the n largest of several parts of values and positions, or all if there are fewer."""
    torch = importlib.import_module("torch")
    values, positions = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    if values.shape[1] <= n:
        return values, positions
    values, places = values.topk(n, dim=1, sorted=False)
    return values, positions.gather(1, places)
