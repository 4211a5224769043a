"""Trees of groups that are alike, as scipy's linkage gives them: built, cut and merged. Imports numpy and scipy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform


def merge_all(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Merge vectors into larger and larger groups by Ward's method; return the merges as scipy's linkage does."""
    if len(vectors) < 2:
        return np.empty((0, 4))
    vectors = vectors.astype(np.float64)
    squares = (vectors**2).sum(axis=1)
    distances = np.sqrt((squares[:, None] + squares - 2 * vectors @ vectors.T).clip(0))
    np.fill_diagonal(distances, 0)
    tree: NDArray[np.float64] = linkage(squareform(distances, checks=False), "ward")
    return tree


def cut(tree: NDArray[np.float64], n_groups: int) -> NDArray[np.int32]:
    """Return the group of each leaf after all but ``n_groups - 1`` merges, numbered in order of the leaves."""
    n_leaves = len(tree) + 1
    n_merges = n_leaves - n_groups
    children = tree[:n_merges, :2].astype(np.int32).ravel()  # as scipy's graphs need it
    parents = np.repeat(np.arange(n_leaves, n_leaves + n_merges, dtype=np.int32), 2)
    graph = coo_array((np.ones(2 * n_merges, dtype=bool), (children, parents)), shape=(n_leaves + n_merges,) * 2)
    group_of: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return group_of[:n_leaves]


def upper_part(tree: NDArray[np.float64], group_of: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the merges of groups of leaves, numbered as scipy numbers leaves and merges."""
    n_leaves, n_groups = len(group_of), int(group_of.max()) + 1
    node_of = [*group_of.tolist(), *[0] * len(tree)]  # the node of each old node: its group, or a later merge
    upper: list[list[float]] = []
    for number, (left, right, height, _) in enumerate(tree):
        node = node_of[int(left)]
        if number >= n_leaves - n_groups:
            children = sorted((node, node_of[int(right)]))
            n_merged = sum(upper[child - n_groups][3] if child >= n_groups else 1 for child in children)
            node = n_groups + len(upper)
            upper.append([*children, height, n_merged])
        node_of[n_leaves + number] = node
    return np.array(upper, dtype=np.float64).reshape(-1, 4)


def merge_centers(
    centers: NDArray[np.float32], sizes: NDArray[np.integer], group_of: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the mean direction of the centres of each group, by their sizes."""
    sums = np.zeros((int(group_of.max()) + 1, centers.shape[1]))
    np.add.at(sums, group_of, centers * sizes[:, None])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    merged: NDArray[np.float32] = np.divide(sums, lengths, out=sums, where=lengths > 0).astype(np.float32)
    return merged
