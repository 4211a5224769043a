"""The largest products of each query: those of numpy, whatever the blocks, and no thread left."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skembed.similarity import largest, neighbours
from skembed.similarity.largest import largest_products
from skembed.similarity.neighbours import ExactIndex, nearest


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(largest, "_VECTORS_PER_BLOCK", 7)


def unit(n_rows, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99), st.sampled_from([None, 0.4, 1]))
@settings(deadline=None)
def test_they_are_those_of_numpy(n_vectors, n_queries, n, seed, share):
    vectors, queries = unit(n_vectors, seed=seed), unit(n_queries, seed=seed + 1)
    among = None if share is None else np.flatnonzero(np.random.default_rng(seed).random(n_vectors) <= share)
    passes = np.isin(np.arange(n_vectors), np.arange(n_vectors) if among is None else among)
    n = min(n, passes.sum())
    if n == 0:
        return
    found = largest_products(vectors, queries, n, among)
    assert found.shape == (n_queries, n)
    assert all(len(set(row)) == n for row in found.tolist())
    products = np.where(passes, queries @ vectors.T, -np.inf)
    expected = -np.sort(-products, axis=1)[:, :n]
    assert_allclose(-np.sort(-np.take_along_axis(products, found, axis=1), axis=1), expected, atol=1e-6)


def test_a_search_of_many_finds_the_same_with_torch_as_with_scikit_learn(monkeypatch):
    monkeypatch.setattr(neighbours.importlib.util, "find_spec", lambda _: None)  # no faiss
    vectors, queries = unit(300), unit(20, seed=1)
    vectors[7] = vectors[200]
    by_scikit_learn = nearest(ExactIndex(vectors), queries, 5)
    monkeypatch.setattr(neighbours, "_PAIRS_FOR_TORCH", 0)
    monkeypatch.setattr(neighbours, "_PAIRS_FOR_IMPORT", 0)
    by_torch = nearest(ExactIndex(vectors), queries, 5)
    for found, expected in zip(by_torch, by_scikit_learn, strict=True):
        assert_array_equal(found, expected)


def test_no_thread_is_left():
    before = set(threading.enumerate())
    largest_products(unit(100), unit(3), 2)
    assert set(threading.enumerate()) <= before
