"""Arrays, sorted pairs and labels that grow: as if made at once, and the old ones stay as they were."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_index_equal

from skembed.similarity.growing import GrowingArray, GrowingLabels, SortedPairs

COPIED = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


# Arrays


@given(parts=st.lists(st.lists(st.integers(-9, 9), max_size=20), min_size=1, max_size=12))
def test_an_array_is_all_its_parts_and_the_old_ones_stay(parts):
    grown = [GrowingArray(np.array(parts[0], dtype=int))]
    for part in parts[1:]:
        grown.append(grown[-1].appended(np.array(part, dtype=int)))
    for number, array in enumerate(grown):
        assert array.values.tolist() == [value for part in parts[: number + 1] for value in part]


def test_rows_that_are_there_are_copied_twice_on_average_at_most():
    array, n_copied = GrowingArray(np.zeros((1000, 2))), 0
    for _ in range(5000):
        grown = array.appended(np.ones((1, 2)))
        n_copied += 0 if np.shares_memory(grown.values, array.values) else len(array)
        array = grown
    assert n_copied <= 2 * len(array)


@pytest.mark.parametrize("copied", COPIED, ids=["copy", "deepcopy", "pickle"])
def test_two_that_grow_from_one_array_do_not_meet(copied):
    first = GrowingArray(np.arange(3)).appended(np.array([3]))
    second = copied(first)
    assert first.appended(np.array([4])).values.tolist() == [0, 1, 2, 3, 4]
    ours, theirs = first.appended(np.array([5])), second.appended(np.array([6]))
    assert (ours.values[-1], theirs.values[-1]) == (5, 6)


def test_a_pickle_is_without_the_room():
    array = GrowingArray(np.zeros(10_000)).appended(np.zeros(1))
    assert len(pickle.dumps(array)) < 90_000


def test_the_type_holds_all_values():
    array = GrowingArray(np.array(["a"])).appended(np.array(["a long one"])).appended(np.array([1], dtype=object))
    assert array.values.tolist() == ["a", "a long one", 1]


def test_an_array_that_cannot_be_written_grows():
    rows = np.arange(3)
    rows.flags.writeable = False
    assert GrowingArray(rows).appended(np.array([7])).values.tolist() == [0, 1, 2, 7]


# Pairs


@settings(deadline=None)
@given(keys=st.lists(st.integers(0, 8), min_size=1, max_size=80), cuts=st.lists(st.integers(1, 80), max_size=9))
def test_the_values_of_a_key_are_all_there_in_the_order_of_their_addition(keys, cuts):
    edges = sorted({min(cut, len(keys)) for cut in cuts} | {len(keys)})
    pairs = SortedPairs(np.array(keys[: edges[0]]), np.arange(edges[0]))
    for start, end in pairwise(edges):
        pairs = pairs.appended(np.array(keys[start:end]), np.arange(start, end))
    asked = np.arange(9).reshape(3, 3)
    starts, counts = pairs.find(asked)
    key_of, values = pairs.take(starts, counts)
    assert starts.shape == counts.shape == (len(starts), 3, 3)
    for key in range(9):
        assert values[key_of == key].tolist() == [place for place, other in enumerate(keys) if other == key]


def test_fewer_values_can_be_taken():
    pairs = SortedPairs(np.array([5, 5, 4]), np.arange(3))
    starts, counts = pairs.find(np.array([4, 5]))
    assert pairs.take(starts, np.minimum(counts, 1))[1].tolist() == [2, 0]


def test_pairs_lie_in_few_runs():
    pairs = SortedPairs(np.arange(10_000), np.arange(10_000))
    n_merged, n_runs = 0, 0
    for number in range(2000):
        grown = pairs.appended(np.array([number]), np.array([number]))
        n_merged += sum(len(keys) for keys, _ in grown._runs if not any(keys is old for old, _ in pairs._runs))
        pairs, n_runs = grown, max(n_runs, len(grown._runs))
    assert n_runs <= 5
    assert n_merged <= 30 * 2000


# Labels


INDEXES = {
    "positions": pd.RangeIndex(0, 12),
    "numbers": pd.Index([5, 3, 3, 9, 1, 2, 7, 7, 0, 4, 6, 8], name="id"),
    "strings": pd.Index(list("abcdefghijkl")),
    "several types": pd.Index([1, "a", 2.5, None, *range(8)], dtype=object),
    "dates": pd.date_range("2026-01-01", periods=12, tz="Europe/Berlin"),
    "categories": pd.CategoricalIndex(list("abcabcabcabc")),
    "levels": pd.MultiIndex.from_arrays([list("aabbaabbaabb"), range(12)], names=["x", "y"]),
}


@pytest.mark.parametrize("kind", INDEXES)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 12), max_size=8), taken=st.lists(st.integers(0, 11), max_size=8))
def test_labels_are_all_their_parts(kind, cuts, taken):
    edges = sorted({*cuts, 12})
    labels = GrowingLabels(INDEXES[kind][: edges[0]])
    for start, end in pairwise(edges):
        labels = labels.appended(INDEXES[kind][start:end])
    assert_index_equal(labels.to_index(), INDEXES[kind])
    positions = np.array(taken, dtype=int)
    assert_index_equal(labels.take(positions), INDEXES[kind].take(positions), exact="equiv")


@settings(deadline=None)
@given(st.lists(st.sampled_from(list(INDEXES)), min_size=1, max_size=5))
def test_labels_of_several_types_are_what_pandas_makes_of_them(kinds):
    labels, whole = GrowingLabels(INDEXES[kinds[0]]), INDEXES[kinds[0]]
    for kind in kinds[1:]:
        labels, whole = labels.appended(INDEXES[kind][:4]), whole.append(INDEXES[kind][:4])
    positions = np.arange(len(whole))[::-1]
    assert_index_equal(labels.to_index(), whole, exact="equiv")
    assert_index_equal(labels.take(positions), whole.take(positions), exact="equiv")


def test_no_further_labels_change_nothing():
    labels = GrowingLabels(pd.RangeIndex(3))
    assert labels.appended(pd.Index([], dtype=object)) is labels


@pytest.mark.parametrize("first", [range(5000), [*range(4999), "a"]], ids=["numbers", "objects"])
def test_labels_lie_in_few_parts(first):
    labels = GrowingLabels(pd.Index(first)).appended(pd.Index([0]))
    largest = labels._parts[0]
    for number in range(1, 300):
        labels = labels.appended(pd.Index([number]))
    assert labels._parts[0] is largest
    assert len(labels._parts) <= 5
    assert labels.to_index().tolist() == [*first, *range(300)]
