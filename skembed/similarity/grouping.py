"""Unit vectors to groups of near ones: connected by chains, or near one representative.

Imports numpy, scipy, near pairs, and the exact cosines of the bounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skembed.encoding.distinct import blocks_of
from skembed.similarity.bounds import normalise
from skembed.similarity.near_pairs import TOLERANCE, near_pairs

_MAX_EDGES = 2**22  # in memory at a time: 32 MiB
_ROWS_PER_BLOCK, _REPRESENTATIVES_PER_BLOCK = 512, 4096  # compared together: 16 MiB of cosines
_TIE = 1e-12  # cosines that differ by less are equal


def connected_groups(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.int32]:
    """Return the group of each vector: the connected components of all near pairs.

    Pairs are joined to groups before they fill the memory.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of unit length, or zeros.
    threshold : float
        Of :func:`near_pairs`.

    Returns
    -------
    ndarray of int32, shape (n,)
        Numbers of the groups, in no particular order.

    Examples
    --------
    >>> connected_groups(np.float32([[1, 0], [0.8, 0.6], [0.28, 0.96], [-1, 0]]), 0.75)
    array([0, 0, 0, 1], dtype=int32)
    """
    group_of = np.arange(len(vectors), dtype=np.int32)
    edges: list[NDArray[np.int32]] = []
    n_edges = 0
    for position, other in near_pairs(vectors, threshold):
        joins = group_of[position] != group_of[other]
        edges.append(np.stack([position[joins], other[joins]]))
        n_edges += edges[-1].shape[1]
        if n_edges > _MAX_EDGES:
            group_of, edges, n_edges = _join_groups(group_of, edges), [], 0
    return _join_groups(group_of, edges) if edges else group_of


def _join_groups(group_of: NDArray[np.int32], edges: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    position, other = group_of[np.concatenate(edges, axis=1)]
    graph = coo_array((np.ones(len(position), dtype=bool), (position, other)), shape=(len(group_of),) * 2)
    joined: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return joined[group_of]


def star_groups(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Return the representative of each vector, which is near to it.

    The vectors are read in their order. One that is near to a representative before it belongs to the nearest of these,
    and of equally near ones to the first. Any other becomes a representative. So what follows a vector does not change
    to which representative it belongs.

    A chain connects a vector and its representative. So all pairs are compared once, to find the few vectors that are
    connected at all, and these are compared with the representatives among them. The pairs themselves are never kept.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of unit length, or zeros.
    threshold : float
        Of :func:`near_pairs`.

    Returns
    -------
    ndarray of int, shape (n,)
        Positions of the representatives; a representative has its own.

    Examples
    --------
    >>> star_groups(np.float32([[1, 0], [0.8, 0.6], [0.28, 0.96], [-1, 0]]), 0.75)
    array([0, 0, 2, 3])
    """
    group_of = connected_groups(vectors, threshold)
    rows = np.argsort(group_of, kind="stable")
    representative_of = np.arange(len(vectors))
    for together in np.split(rows, np.flatnonzero(np.diff(group_of[rows])) + 1):
        if len(together) > 1:
            representative_of[together] = _find_representatives(vectors, together, threshold - TOLERANCE)
    return representative_of


def _find_representatives(vectors: NDArray[np.float32], rows: NDArray[np.intp], cut: float) -> NDArray[np.intp]:
    """Return the representatives of some rows, among these rows, which are read in blocks."""
    before, found = np.empty(0, np.intp), []
    for block in blocks_of(len(rows), _ROWS_PER_BLOCK):
        here = rows[block]
        unit, _ = normalise(vectors[here])
        cosine, nearest = np.full(len(here), -np.inf), here.copy()
        for some in blocks_of(len(before), _REPRESENTATIVES_PER_BLOCK):
            others, _ = normalise(vectors[before[some]])
            _keep_nearer(cosine, nearest, unit @ others.T, before[some])
        cosines = unit @ unit.T
        chosen = _choose(cosines >= cut, cosine >= cut)
        is_before = chosen < np.arange(len(here))[:, None]
        _keep_nearer(cosine, nearest, np.where(is_before, cosines[:, chosen], -np.inf), here[chosen])
        nearest[chosen] = here[chosen]
        found.append(nearest)
        before = np.append(before, here[chosen])
    return np.concatenate(found)


def _choose(is_near: NDArray[np.bool_], has_representative: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the rows of a block that become representatives: those that are near to none before them."""
    chosen = []
    for row in range(len(is_near)):
        if not has_representative[row]:
            chosen.append(row)
            has_representative |= is_near[row]
    return np.array(chosen, np.intp)


def _keep_nearer(
    cosine: NDArray[np.float64], nearest: NDArray[np.intp], cosines: NDArray[np.float64], others: NDArray[np.intp]
) -> None:
    """Replace the nearest of each row, in place, where one of some others is nearer; of ties, the first stays."""
    if len(others):
        largest = cosines.max(axis=1)
        first = (cosines >= largest[:, None] - _TIE).argmax(axis=1)
        is_nearer = largest > cosine + _TIE
        cosine[is_nearer], nearest[is_nearer] = largest[is_nearer], others[first[is_nearer]]
