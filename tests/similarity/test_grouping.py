"""connected_groups and star_groups: the groups that a matrix of float64 cosines gives, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skembed.similarity import grouping as module
from skembed.similarity.grouping import connected_groups, star_groups

ROUNDING = 1e-11  # two ways to compute a cosine in float64 differ by less


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cosines_of(vectors) -> np.ndarray:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact @ exact.T


def stars_of(cosines, cut) -> list[int]:
    """Read the rows in their order, one by one."""
    representatives: list[int] = []
    found = []
    for row, of_row in enumerate(cosines):
        near = [first for first in representatives if of_row[first] >= cut]
        if near:
            found.append(max(near, key=lambda first: (of_row[first].round(10), -first)))
        else:
            representatives.append(row)
            found.append(row)
    return found


@st.composite
def at_a_cut(draw) -> tuple[np.ndarray, float]:
    """Return vectors around centres, and a threshold that is often the cosine of two of them, or close to it."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, dim = draw(st.integers(2, 60)), draw(st.integers(2, 30))
    centres = numbers.normal(size=(draw(st.integers(1, 10)), dim))
    noise = draw(st.sampled_from([0.03, 0.2, 0.5, 1.0])) * numbers.normal(size=(n_rows, dim))
    vectors = unit(centres[numbers.integers(len(centres), size=n_rows)] + noise)
    of_a_pair = float(draw(st.sampled_from(cosines_of(vectors)[np.triu_indices(n_rows, 1)])))
    close = [of_a_pair + difference for difference in (0.0, -1e-6, 0.9e-6, 1.1e-6)]
    return vectors, draw(st.sampled_from([-0.2, 0.3, 0.8, 0.95, *close]))


@settings(deadline=None, max_examples=50)
@given(at_a_cut())
def test_stars_are_those_of_rows_read_one_by_one(drawn):
    vectors, threshold = drawn
    assert star_groups(vectors, threshold).tolist() == stars_of(cosines_of(vectors), threshold - 1e-6)


@settings(deadline=None, max_examples=50)
@given(at_a_cut())
def test_every_row_is_near_its_representative_and_representatives_are_not_near_each_other(drawn):
    vectors, threshold = drawn
    cosines, found = cosines_of(vectors), star_groups(vectors, threshold)
    assert (cosines[np.arange(len(found)), found] >= threshold - 1e-6 - ROUNDING).all()
    representatives = np.unique(found)
    among_them = cosines[np.ix_(representatives, representatives)][np.triu_indices(len(representatives), 1)]
    assert (among_them < threshold - 1e-6 + ROUNDING).all()


@settings(deadline=None, max_examples=50)
@given(at_a_cut(), st.integers(0, 60))
def test_rows_that_are_added_at_the_end_change_no_star(drawn, n_before):
    vectors, threshold = drawn
    assert_array_equal(star_groups(vectors[:n_before], threshold), star_groups(vectors, threshold)[:n_before])


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (7, 3), (1000, 2)], ids=str)
@settings(deadline=None, max_examples=20)
@given(at_a_cut())
def test_the_blocks_in_which_rows_are_read_change_no_star(sizes, drawn):
    vectors, threshold = drawn
    whole = star_groups(vectors, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_PER_BLOCK", sizes[0])
        patch.setattr(module, "_REPRESENTATIVES_PER_BLOCK", sizes[1])
        assert_array_equal(star_groups(vectors, threshold), whole)


@settings(deadline=None, max_examples=50)
@given(at_a_cut(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_connected_group(drawn, random):
    vectors, threshold = drawn
    order = random.sample(range(len(vectors)), len(vectors))
    shuffled, there = connected_groups(vectors[order], threshold), connected_groups(vectors, threshold)[order]
    assert_array_equal(pd.factorize(shuffled)[0], pd.factorize(there)[0])


@pytest.mark.parametrize("size", [1, 512])
def test_of_equally_near_representatives_the_first_is_joined(size, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_PER_BLOCK", size)
    monkeypatch.setattr(module, "_REPRESENTATIVES_PER_BLOCK", size)
    vectors = unit([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1e-4]])
    assert star_groups(vectors, 0.7).tolist() == [0, 1, 0, 0]
    assert star_groups(vectors[[1, 0, 2, 3]], 0.7).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("size", [(0, 3), (1, 3)], ids=str)
@pytest.mark.parametrize("find", [connected_groups, star_groups])
def test_fewer_than_two_vectors_are_their_own_groups(find, size):
    assert find(np.ones(size, np.float32), 0.5).tolist() == list(range(size[0]))


@pytest.mark.parametrize("find", [connected_groups, star_groups])
def test_pairs_that_are_joined_early_change_no_group(find, monkeypatch):
    vectors = unit(np.random.default_rng(0).normal(size=(300, 3)))
    monkeypatch.setattr("skembed.similarity.near_pairs._ROWS_PER_BLOCK", 16)
    whole = find(vectors, 0.98)
    monkeypatch.setattr(module, "_MAX_EDGES", 1)
    assert_array_equal(pd.factorize(find(vectors, 0.98))[0], pd.factorize(whole)[0])


@pytest.mark.parametrize("find", [connected_groups, star_groups])
def test_memory_does_not_grow_with_the_number_of_pairs(find, monkeypatch):
    vectors = unit([[1.0, 0.0, 0.0]] + 1e-3 * np.random.default_rng(0).normal(size=(1500, 3)))
    monkeypatch.setattr("skembed.similarity.near_pairs._ROWS_PER_BLOCK", 32)
    monkeypatch.setattr("skembed.similarity.near_pairs._OTHERS_PER_BLOCK", {"float32": 32, "bfloat16": 32})
    monkeypatch.setattr("skembed.similarity.near_pairs._NUMBERS_GATHERED", 2**10)
    monkeypatch.setattr("skembed.similarity.near_pairs.joblib.cpu_count", lambda: 2)
    monkeypatch.setattr(module, "_MAX_EDGES", 2**12)
    monkeypatch.setattr(module, "_ROWS_PER_BLOCK", 32)
    tracemalloc.start()
    assert len(np.unique(find(vectors, 0.9))) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n_pairs = len(vectors) * (len(vectors) - 1) // 2
    assert peak < n_pairs * 8 / 4  # a quarter of the bytes of all pairs
