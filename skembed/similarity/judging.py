"""Near pairs by their score: a sample to judge by eye, and the scores at which they join groups.

Both take one pass over the pairs and bounded memory. Imports numpy, scipy and the near pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from skembed.similarity.near_pairs import cosines_of, near_pairs

_MOST_BANDS, _FEWEST_PER_BAND = 10, 3
_MAX_EDGES = 2**22  # in memory at a time: 64 MiB

Kept = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint64]]  # pairs, their scores and random numbers


class Sample(NamedTuple):
    """Pairs drawn from all near pairs; arrays of length n, by falling score.

    Attributes
    ----------
    position, other : ndarray of int32
        Rows of the vectors; the first is the smaller one.
    score : ndarray of float32
        Their cosines.
    weight : ndarray of float64
        How many pairs each stands for.
    """

    position: NDArray[np.int32]
    other: NDArray[np.int32]
    score: NDArray[np.float32]
    weight: NDArray[np.float64]


def sample_pairs(vectors: NDArray[np.float32], lowest: float, n: int, seed: int) -> Sample:
    """Draw near pairs so that rare high scores and frequent low ones are both represented.

    The scores from the lowest to 1 are divided into bands of equal width, 10 or fewer, and as many pairs are drawn from
    each; what a band cannot fill goes to the others. A pair's weight is the number of pairs in its band, divided by how
    many of them were drawn.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_vectors, dim)
        Of unit length, or zeros.
    lowest : float
        Smallest cosine of a pair.
    n : int
        How many pairs to draw; fewer if there are fewer.
    seed : int
        From 0 to 2**63 - 1. Each pair has a random number that depends on the seed and on its rows alone, and those
        with the smallest numbers are drawn: the order in which pairs are found does not matter.

    Returns
    -------
    Sample

    Examples
    --------
    >>> sample = sample_pairs(np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8]]), 0.7, n=1, seed=0)
    >>> sample.position, sample.other, sample.weight
    (array([0], dtype=int32), array([1], dtype=int32), array([2.]))
    """
    n_bands = max(1, min(_MOST_BANDS, n // _FEWEST_PER_BAND))
    kept = [(np.empty((0, 2), np.int32), np.empty(0, np.float32), np.empty(0, np.uint64))] * n_bands
    counts = np.zeros(n_bands, np.int64)
    for pairs, scores in _scored_pairs(vectors, lowest):
        priorities = _random_numbers(pairs, seed)
        bands = ((scores - lowest) / max(1 - lowest, 1e-9) * n_bands).clip(0, n_bands - 1).astype(np.intp)
        counts += np.bincount(bands, minlength=n_bands)
        for band in np.unique(bands):
            here = bands == band
            kept[band] = _keep_smallest(kept[band], (pairs[here], scores[here], priorities[here]), n)
    sizes = _share(n, counts)
    drawn = [(pairs[:size], scores[:size]) for (pairs, scores, _), size in zip(kept, sizes, strict=True)]
    pairs, scores = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    weights = np.repeat(counts / np.maximum(sizes, 1), sizes)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -scores))
    return Sample(pairs[order, 0], pairs[order, 1], scores[order], weights[order])


def joining_scores(vectors: NDArray[np.float32], lowest: float) -> NDArray[np.float32]:
    """Compute the scores at which groups are joined as the threshold falls, those of the maximum spanning forest.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_vectors, dim)
        Of unit length, or zeros.
    lowest : float
        Smallest cosine of a pair.

    Returns
    -------
    ndarray of float32, shape (n_joins,)
        In rising order. At a threshold, there are as many fewer groups than vectors as there are scores that reach it.

    Examples
    --------
    >>> joining_scores(np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8]]), 0.5)
    array([0.8       , 0.96000004], dtype=float32)
    """
    pairs, scores = np.empty((0, 2), np.int32), np.empty(0, np.float32)
    waiting = [(pairs, scores)]
    for found in _scored_pairs(vectors, lowest):
        waiting.append(found)
        if sum(len(some) for _, some in waiting) > _MAX_EDGES + len(vectors):
            waiting = [_forest_of(waiting, len(vectors))]
    return np.sort(_forest_of(waiting, len(vectors))[1])


def _scored_pairs(
    vectors: NDArray[np.float32], lowest: float
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    for position, other in near_pairs(vectors, lowest):
        yield np.stack([position, other], axis=1), cosines_of(vectors, position, other)


def _random_numbers(pairs: NDArray[np.int32], seed: int) -> NDArray[np.uint64]:
    """Compute a random number from each pair and the seed."""
    keys = pairs[:, 0].astype(np.uint64) << np.uint64(32) | pairs[:, 1].astype(np.uint64)
    return _mix(keys ^ _mix(np.array([seed], np.uint64)))


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits, as splitmix64 does: Steele, Lea & Flood (2014), https://doi.org/10.1145/2660193.2660195."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ keys >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ keys >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return keys ^ keys >> np.uint64(31)


def _keep_smallest(kept: Kept, new: Kept, n: int) -> Kept:
    """Return the n pairs with the smallest random numbers, in their order."""
    if len(kept[2]) == n:  # nearly all pairs end here
        is_smaller = new[2] < kept[2][-1]
        new = new[0][is_smaller], new[1][is_smaller], new[2][is_smaller]
    pairs, scores, numbers = (np.concatenate([kept[part], new[part]]) for part in range(3))
    order = np.argsort(numbers)[:n]
    return pairs[order], scores[order], numbers[order]


def _share(n: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide n among bands equally; what one cannot fill goes to the others, a remainder to those with most pairs."""
    sizes = np.zeros_like(counts)
    while n > 0 and (sizes < counts).any():
        is_open = np.flatnonzero(sizes < counts)
        by_size = is_open[np.argsort(-counts[is_open], kind="stable")]
        more = np.minimum(max(1, n // len(is_open)), counts[by_size] - sizes[by_size])[:n]
        sizes[by_size[: len(more)]] += more
        n -= int(more.sum())
    return sizes


def _forest_of(
    parts: list[tuple[NDArray[np.int32], NDArray[np.float32]]], n_vectors: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Keep the pairs of a maximum spanning forest: the others join nothing that is not joined already."""
    pairs, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    distances = 2 - scores.astype(np.float64)  # positive, because scipy takes 0 for no pair
    forest = minimum_spanning_tree(coo_array((distances, pairs.T), shape=(n_vectors, n_vectors))).tocoo()
    return np.stack(forest.coords, axis=1).astype(np.int32), (2 - forest.data).astype(np.float32)
