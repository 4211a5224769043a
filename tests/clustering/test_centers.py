"""Centres of topics: how many there are, k-means as scikit-learn finds it, and the nearest centre to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from skembed.clustering import centers
from skembed.clustering.centers import choose_n_topics, find_centers, nearest_centers


def unit(vectors) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def blobs(n_topics: int, n_each: int = 30, dim: int = 24, noise: float = 0.1, seed: int = 0):
    """Return unit vectors around well separated centres, and the centre of each."""
    numbers = np.random.default_rng(seed)
    middles = numbers.normal(size=(n_topics, dim)) / np.sqrt(dim)
    topics = numbers.permutation(np.repeat(np.arange(n_topics), n_each))
    return unit(middles[topics] + noise * numbers.normal(size=(len(topics), dim)) / np.sqrt(dim)), topics


def find(vectors, n_topics, weights=None, seed=0):
    weights = np.ones(len(vectors)) if weights is None else weights
    return find_centers(vectors, np.arange(len(vectors)), weights, n_topics, np.random.RandomState(seed))


def inertia(vectors, found) -> float:
    return float((1 - nearest_centers(vectors, found)[1].astype(np.float64)).sum())


@pytest.fixture
def small(monkeypatch):
    """Sizes by which a hundred vectors are many."""
    for name, size in {"_FEW": 20, "_N_IN_TREE": 60, "_N_IN_KMEANS": 100, "_N_NEAREST": 5}.items():
        monkeypatch.setattr(centers, name, size)


# How many topics


@pytest.mark.parametrize("n_topics", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_many_topics_are_found_as_there_are(n_topics, seed):
    vectors, _ = blobs(n_topics, n_each=240 // n_topics, seed=seed)
    found = choose_n_topics(vectors, np.random.RandomState(0))
    candidates = np.unique(np.geomspace(2, len(vectors) // 8, 40).round())
    nearest = candidates[abs(candidates - n_topics).argmin()]
    assert found == nearest


@pytest.mark.parametrize(("n", "dim"), [(30, 384), (100, 100), (200, 384)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_noise_there_are_no_topics(n, dim, seed):
    noise = unit(np.random.default_rng(seed).normal(size=(n, dim)))
    assert choose_n_topics(noise, np.random.RandomState(seed)) == 1


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (3, 1), (4, 2), (15, 2)])
def test_of_few_vectors_nothing_can_be_told(n, expected):
    assert choose_n_topics(unit(np.random.default_rng(0).normal(size=(n, 5))), np.random.RandomState(0)) == expected


@pytest.mark.parametrize("n", [16, 17, 40])
def test_there_are_at_least_eight_vectors_a_topic(n):
    vectors = unit(np.random.default_rng(0).normal(size=(n, 50)))
    assert 1 <= choose_n_topics(vectors, np.random.RandomState(0)) <= n // 8


def test_the_same_seed_chooses_the_same_number():
    vectors = unit(np.random.default_rng(0).normal(size=(70, 5)))
    assert len({choose_n_topics(vectors, np.random.RandomState(3)) for _ in range(3)}) == 1


@pytest.mark.parametrize("vectors", [np.zeros((30, 4)), np.tile(np.eye(4), (10, 1))], ids=["zeros", "four places"])
def test_vectors_without_spread_have_a_number_of_topics(vectors):
    assert 1 <= choose_n_topics(vectors.astype(np.float32), np.random.RandomState(0)) <= 5


# Centres


@pytest.mark.parametrize("n_topics", [1, 2, 7])
@pytest.mark.parametrize("is_many", [False, True], ids=["few", "many"])
def test_centres_are_as_many_as_asked_for_and_of_unit_length(n_topics, is_many, request):
    if is_many:
        request.getfixturevalue("small")
    vectors, topics = blobs(n_topics, n_each=140 // n_topics)
    found = find(vectors, n_topics)
    assert found.shape == (n_topics, 24)
    assert found.dtype == np.float32
    assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert adjusted_rand_score(nearest_centers(vectors, found)[0], topics) == 1


@pytest.mark.parametrize("seed", [21, 23, 26, 27, 31])
def test_the_topics_of_a_handful_of_vectors_do_not_depend_on_the_random_starts(seed):
    random = np.random.default_rng(seed)
    vectors = unit(random.normal(size=(8, 32)) + 1.5 * random.normal(size=32))
    nearest = [
        nearest_centers(vectors, find_centers(vectors, np.arange(8), np.ones(8), 2, np.random.RandomState(start)))[0]
        for start in range(6)
    ]
    assert all(adjusted_rand_score(nearest[0], one) == 1 for one in nearest)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_of_few_vectors_no_start_of_k_means_is_better(seed, n_topics):
    vectors = unit(np.random.default_rng(seed).normal(size=(60, 5)))
    means = KMeans(n_topics, n_init=10, random_state=0).fit(vectors)
    assert inertia(vectors, find(vectors, n_topics)) <= inertia(vectors, unit(means.cluster_centers_)) * 1.02


def test_of_many_vectors_k_means_is_hardly_better(small):
    vectors, _ = blobs(8, noise=0.8)
    means = KMeans(8, n_init=10, random_state=0).fit(vectors)
    assert inertia(vectors, find(vectors, 8)) <= inertia(vectors, unit(means.cluster_centers_)) * 1.1


@pytest.mark.parametrize("is_many", [False, True], ids=["few", "many"])
def test_the_weight_of_a_vector_is_how_often_it_counts(is_many, request):
    if is_many:
        request.getfixturevalue("small")
    vectors, _ = blobs(1, n_each=100, noise=0.5)
    weights = np.ones(100)
    weights[0] = 1000
    expected = unit((vectors * weights[:, None]).sum(axis=0, keepdims=True))
    assert_allclose(find(vectors, 1, weights), expected, atol=1e-5)


def test_more_topics_than_the_tree_has_leaves_have_nearly_as_many_centres(small):
    vectors = unit(np.random.default_rng(0).normal(size=(150, 5)))
    for n_topics in (61, 100, 101, 150):
        found = find(vectors, n_topics)
        assert 0.9 * n_topics < len(found) <= n_topics  # some averages are equal
        assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("is_many", [False, True], ids=["few", "many"])
def test_the_same_vectors_have_the_same_centres(is_many, request):
    if is_many:
        request.getfixturevalue("small")
    vectors = unit(np.random.default_rng(0).normal(size=(70, 5)))
    assert_array_equal(find(vectors, 6), find(vectors.copy(), 6))
    assert_array_equal(find(vectors, "auto"), find(vectors.copy(), "auto"))


def test_rows_beyond_the_sample_change_no_centre(small):
    vectors = unit(np.random.default_rng(0).normal(size=(150, 5)))
    weights = np.ones(150)
    assert_array_equal(find(vectors, 6, weights), find(np.vstack([vectors[:100], vectors[:50:-1]]), 6))


# The nearest centre


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40))
def test_the_nearest_centre_has_the_largest_cosine_in_float64(seed, n_centers, dim):
    numbers = np.random.default_rng(seed)
    vectors, found = (unit(numbers.normal(size=(n, dim))) for n in (30, n_centers))
    nearest, cosines = nearest_centers(vectors, found)
    exact = vectors.astype(np.float64) @ found.T.astype(np.float64)
    assert_allclose(exact[np.arange(30), nearest], exact.max(axis=1), atol=1e-12)
    assert_allclose(cosines, exact.max(axis=1).clip(-1, 1), atol=1e-6)
    assert cosines.dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 31), st.sampled_from([0.0, 1e-7, 1e-6, 1.0]))
def test_the_rows_beside_a_vector_change_nothing(seed, size, spread):
    numbers = np.random.default_rng(seed)
    vectors = unit(numbers.normal(size=(30, 17)))
    found = unit(numbers.normal(size=17) + spread * numbers.normal(size=(6, 17)))  # hardly to be told apart
    whole, cosines = nearest_centers(vectors, found)
    order = numbers.permutation(30)
    parts = [nearest_centers(vectors[order[start : start + size]], found) for start in range(0, 30, size)]
    assert_array_equal(np.concatenate([nearest for nearest, _ in parts]), whole[order])
    assert_array_equal(np.concatenate([each for _, each in parts]), cosines[order])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_centres_decides_no_tie(seed):
    numbers = np.random.default_rng(seed)
    found = unit(numbers.integers(-1, 2, size=(6, 3)) + np.array([0, 0, 3]))
    vectors = np.vstack([found, np.zeros((1, 3)), np.eye(3), -np.eye(3)]).astype(np.float32)
    order = numbers.permutation(6)
    one, other = nearest_centers(vectors, found)[0], nearest_centers(vectors, found[order])[0]
    assert_array_equal(found[one], found[order][other])


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    vectors, _ = blobs(5, noise=1.0)
    found = find(vectors, 5)
    whole = nearest_centers(vectors, found)
    monkeypatch.setattr(centers, "_ROWS_PER_BLOCK", 7)
    for expected, made in zip(whole, nearest_centers(vectors, found), strict=True):
        assert_array_equal(made, expected)


def test_no_vectors_have_no_centre():
    nearest, cosines = nearest_centers(np.empty((0, 3), np.float32), np.eye(3, dtype=np.float32))
    assert nearest.shape == cosines.shape == (0,)
