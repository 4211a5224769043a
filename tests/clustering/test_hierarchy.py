"""Trees of groups as scipy builds and cuts them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster.hierarchy import cut_tree, is_valid_linkage, linkage

from skembed.clustering.hierarchy import cut, merge_all, merge_centers, upper_part


def vectors_of(seed: int, n: int, dim: int = 4) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_cut(seed: int, n: int, n_groups: int):
    """Return a tree, and groups of its leaves numbered in a random order."""
    tree = merge_all(vectors_of(seed, n))
    return tree, np.random.default_rng(seed).permutation(n_groups)[cut(tree, n_groups)]


trees = given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 20), share=st.floats(0, 1))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_merges_are_those_of_scipy_by_wards_method(n):
    vectors = vectors_of(0, n)
    made, expected = merge_all(vectors), linkage(vectors.astype(np.float64), "ward")
    assert_array_equal(made[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    assert_allclose(made[:, 2], expected[:, 2], atol=1e-9)


@pytest.mark.parametrize("n", [0, 1])
def test_without_two_vectors_there_are_no_merges(n):
    assert merge_all(vectors_of(0, n)).shape == (0, 4)


@pytest.mark.parametrize("vectors", [np.zeros((5, 3)), np.ones((5, 3)), np.tile(np.eye(3), (3, 1))])
def test_equal_vectors_are_merged_at_height_zero(vectors):
    tree = merge_all(vectors.astype(np.float32))
    assert is_valid_linkage(tree)
    assert tree[0, 2] == pytest.approx(0, abs=1e-7)


@settings(deadline=None, max_examples=30)
@trees
def test_a_tree_is_cut_as_scipy_cuts_it(seed, n, share):
    n_groups = 1 + round(share * (n - 1))
    tree = merge_all(vectors_of(seed, n))
    made = cut(tree, n_groups)
    assert sorted(set(made)) == list(range(n_groups))
    if n > 1:
        expected = cut_tree(tree, n_groups)[:, 0]
        assert_array_equal(pd.factorize(made)[0], pd.factorize(expected)[0])
    assert_array_equal(pd.factorize(made)[0], made)  # numbered in order of the leaves


@settings(deadline=None, max_examples=30)
@trees
def test_the_upper_part_is_a_tree_of_the_groups(seed, n, share):
    n_groups = 1 + round(share * (n - 1))
    tree, group_of = random_cut(seed, n, n_groups)
    upper = upper_part(tree, group_of)
    assert upper.shape == (n_groups - 1, 4)
    assert_array_equal(upper[:, 2], tree[n - n_groups :, 2])
    if n_groups > 1:
        assert is_valid_linkage(upper, throw=True)
    for fewer in range(1, n_groups + 1):
        assert_array_equal(pd.factorize(cut(upper, fewer)[group_of])[0], cut(tree, fewer))


def test_the_upper_part_of_single_leaves_is_the_tree():
    tree = merge_all(vectors_of(0, 9))
    assert_array_equal(upper_part(tree, np.arange(9)), tree)


def test_merged_centres_are_mean_directions_by_size():
    centers = vectors_of(0, 3)
    merged = merge_centers(centers, np.array([3, 1, 5]), np.array([1, 1, 0]))
    expected = 3 * centers[0] + centers[1]
    assert_allclose(merged, [centers[2], expected / np.linalg.norm(expected)], atol=1e-6)
    assert merged.dtype == np.float32


def test_opposite_centres_have_no_direction():
    merged = merge_centers(np.float32([[1, 0], [-1, 0]]), np.array([2, 2]), np.array([0, 0]))
    assert_array_equal(merged, [[0, 0]])
