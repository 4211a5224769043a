"""Nearest neighbours: exact ones as by brute force, approximate ones nearly so."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
import tracemalloc
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skembed.embedders import unit_vectors
from skembed.encoding import distinct
from skembed.similarity import neighbours
from skembed.similarity.neighbours import ExactIndex, HnswIndex, VectorIndex, nearest


@contextmanager
def without_faiss():
    """Hide faiss from ``find_spec``, and fail if it is imported all the same."""
    find_spec = importlib.util.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == "faiss" else find_spec(name, *rest)
        )
        patch.setattr(neighbours, "require", lambda *_, **__: pytest.fail("faiss was asked for"))
        yield


COMPARERS = {"faiss": nullcontext, "scikit-learn": without_faiss}
each_comparer = pytest.mark.parametrize("comparer", COMPARERS)
each_index = pytest.mark.parametrize("make", [ExactIndex, HnswIndex.from_vectors], ids=["exact", "hnsw"])


def cosines_of(queries, vectors) -> np.ndarray:
    queries, vectors = np.asarray(queries, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    products = np.einsum("id,jd->ij", queries, vectors)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)


def brute_force(queries, vectors, n_neighbors) -> tuple[np.ndarray, np.ndarray]:
    """Sort all cosines in float64; those that agree to 12 decimals by position."""
    cosines = cosines_of(queries, vectors)
    positions = np.argsort(-cosines.round(12), axis=1, kind="stable")[:, :n_neighbors]
    return np.take_along_axis(cosines, positions, axis=1), positions


@st.composite
def searches(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Return queries, vectors and a number of neighbours; of small integers with zeros, repeats and multiples."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, n_distinct, n = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 60))
    largest = draw(st.integers(0, 3))
    distinct = numbers.integers(-largest, largest + 1, (n_distinct, dim))
    vectors = distinct[numbers.integers(n_distinct, size=n)] * numbers.integers(1, 4, (n, 1))
    queries = np.concatenate([numbers.integers(-largest, largest + 1, (3, dim)), vectors[:2], np.zeros((1, dim))])
    return queries.astype(float), vectors.astype(float), draw(st.integers(1, n))


@pytest.fixture(scope="module")
def clustered() -> np.ndarray:
    numbers = np.random.default_rng(0)
    centres = numbers.normal(size=(60, 24))
    return unit_vectors(np.repeat(centres, 50, axis=0) + 0.5 * numbers.normal(size=(3000, 24)), None)


# Exact


@each_comparer
@settings(max_examples=150, deadline=None)
@given(search=searches())
def test_exact_neighbours_are_those_of_all_cosines_ties_included(comparer, search):
    queries, vectors, n_neighbors = search
    unit, unit_queries = unit_vectors(vectors, None), unit_vectors(queries, None)
    with COMPARERS[comparer]():
        cosines, positions = nearest(ExactIndex(unit), unit_queries, n_neighbors)
    assert_array_equal(positions, brute_force(unit_queries, unit, n_neighbors)[1])
    assert_allclose(cosines, np.take_along_axis(cosines_of(queries, vectors), positions, axis=1), atol=1e-5)


@each_comparer
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), dim=st.integers(1, 40), data=st.data())
def test_exact_neighbours_of_real_numbers_are_those_of_all_cosines(comparer, seed, n, dim, data):
    numbers = np.random.default_rng(seed)
    unit, queries = unit_vectors(numbers.normal(size=(n, dim)), None), unit_vectors(numbers.normal(size=(4, dim)), None)
    n_neighbors = data.draw(st.integers(1, n))
    with COMPARERS[comparer]():
        cosines, positions = nearest(ExactIndex(unit), queries, n_neighbors)
    expected, at = brute_force(queries, unit, n_neighbors)
    assert_array_equal(positions, at)
    assert_allclose(cosines, expected, atol=1e-12)


@each_comparer
def test_what_float32_cannot_tell_apart_is_ranked_by_float64(comparer):
    numbers = np.random.default_rng(0)
    vectors = unit_vectors(np.ones((300, 64)) + 3e-7 * numbers.normal(size=(300, 64)), None)
    queries = unit_vectors(np.ones((5, 64)) + 0.3 * numbers.normal(size=(5, 64)), None)
    with COMPARERS[comparer]():
        _, positions = nearest(ExactIndex(vectors), queries, 5)
    assert_array_equal(positions, brute_force(queries, vectors, 5)[1])


@each_comparer
@pytest.mark.parametrize("n_copies", [8, 9, 10, 50, 500])
def test_of_more_copies_than_there_are_candidates_the_first_are_found(comparer, n_copies):
    other, copied = np.float32([[0, 1]]), np.float32([[1, 0]])
    vectors = np.concatenate([other, np.repeat(copied, n_copies, axis=0), other])
    with COMPARERS[comparer]():
        cosines, positions = nearest(ExactIndex(vectors), copied, 3)
    assert (positions.tolist(), cosines.tolist()) == ([[1, 2, 3]], [[1, 1, 1]])


@each_comparer
def test_a_query_of_zeros_has_the_first_vectors_as_neighbours(comparer):
    vectors = unit_vectors(np.random.default_rng(0).normal(size=(100, 3)), None)
    with COMPARERS[comparer]():
        cosines, positions = nearest(ExactIndex(vectors), np.zeros((2, 3), dtype=np.float32), 4)
    assert_array_equal(positions, [[0, 1, 2, 3]] * 2)
    assert_array_equal(cosines, np.zeros((2, 4)))


@each_comparer
@pytest.mark.parametrize("kind", [lambda m: m, np.asfortranarray, lambda m: np.repeat(m, 2, axis=1)[:, ::2]])
def test_the_layout_of_the_vectors_in_memory_changes_nothing(comparer, kind):
    vectors = unit_vectors(np.random.default_rng(0).normal(size=(40, 6)), None)
    with COMPARERS[comparer]():
        expected = nearest(ExactIndex(vectors), vectors[::3], 5)
        found = nearest(ExactIndex(kind(vectors)), kind(vectors)[::3], 5)
    assert_array_equal(found[1], expected[1])
    assert_allclose(found[0], expected[0], atol=1e-12)


@each_comparer
def test_read_only_vectors_are_accepted(comparer):
    vectors = np.eye(4, dtype=np.float32)
    vectors.flags.writeable = False
    with COMPARERS[comparer]():
        assert nearest(ExactIndex(vectors), vectors, 1)[1].ravel().tolist() == [0, 1, 2, 3]


def test_the_blocks_in_which_queries_are_compared_change_nothing(clustered, monkeypatch):
    queries = np.concatenate([clustered[:37], np.zeros((3, 24), dtype=np.float32)])
    cosines, positions = nearest(ExactIndex(clustered), queries, 7)
    monkeypatch.setattr(neighbours, "_QUERIES_PER_BLOCK", 5)
    monkeypatch.setattr(neighbours, "_NUMBERS_PER_BLOCK", 100)
    in_blocks = nearest(ExactIndex(clustered), queries, 7)
    assert_array_equal(in_blocks[1], positions)
    assert_array_equal(in_blocks[0], cosines)


def test_where_much_is_equal_few_queries_are_ranked_at_once(monkeypatch):
    asked = []
    rank = neighbours._rank
    monkeypatch.setattr(neighbours, "_NUMBERS_PER_BLOCK", 2**10)
    monkeypatch.setattr(
        neighbours, "_rank", lambda index, queries, n, _: asked.append((len(queries), n)) or rank(index, queries, n, _)
    )
    nearest(ExactIndex(np.ones((900, 1), dtype=np.float32)), np.ones((64, 1), dtype=np.float32), 2)
    assert max(n for _, n in asked) == 900  # all had to be compared
    assert max(n_queries * n for n_queries, n in asked[1:]) <= 2**10


@each_index
def test_a_cosine_is_never_more_than_one(make):
    numbers = np.random.default_rng(0)
    rows = numbers.normal(size=(2000, 7))
    unit = unit_vectors(np.concatenate([rows, rows * numbers.uniform(0.1, 9, (2000, 1)), -rows]), None)
    cosines, _ = nearest(make(unit), unit[:200], 3)
    assert cosines.max() <= 1


@each_index
def test_no_queries_have_no_neighbours(make):
    cosines, positions = nearest(make(np.eye(3, dtype=np.float32)), np.empty((0, 3), dtype=np.float32), 2)
    assert cosines.shape == positions.shape == (0, 2)
    assert positions.dtype.kind == "i"


@each_index
def test_appended_vectors_are_found_behind_the_others(make):
    index = make(np.eye(4, dtype=np.float32)[:2]).appended(np.eye(4, dtype=np.float32)[2:])
    assert nearest(index, np.eye(4, dtype=np.float32), 1)[1].ravel().tolist() == [0, 1, 2, 3]


@each_index
def test_appending_nothing_changes_nothing(make):
    index = make(np.eye(3, dtype=np.float32)).appended(np.empty((0, 3), dtype=np.float32))
    assert nearest(index, np.eye(3, dtype=np.float32), 1)[1].ravel().tolist() == [0, 1, 2]


# Approximate


def test_the_graph_finds_what_the_exact_search_finds_nearly_always(clustered):
    queries = unit_vectors(clustered[::7] + 0.1 * np.random.default_rng(1).normal(size=(429, 24)), None)
    _, exact = nearest(ExactIndex(clustered), queries, 10)
    _, found = nearest(HnswIndex.from_vectors(clustered), queries, 10)
    assert np.mean([len({*row} & {*other}) / 10 for row, other in zip(exact, found, strict=True)]) >= 0.99


def test_what_the_graph_finds_is_ranked_by_exact_cosines(clustered):
    cosines, positions = nearest(HnswIndex.from_vectors(clustered[:500]), clustered[500:520], 10)
    exact = np.take_along_axis(cosines_of(clustered[500:520], clustered[:500]), positions, axis=1)
    assert_allclose(cosines, exact, atol=1e-12)
    assert (np.diff(cosines, axis=1) <= 0).all()


@pytest.mark.parametrize("n", [1, 2, 5, 40, 300])
def test_of_a_graph_as_many_are_found_as_are_asked_for(n):
    vectors = unit_vectors(np.random.default_rng(0).normal(size=(n, 3)), None)
    cosines, positions = nearest(HnswIndex.from_vectors(vectors), vectors[:3], n)
    expected = brute_force(vectors[:3], vectors, n)
    assert_array_equal(positions, expected[1])
    assert_allclose(cosines, expected[0], atol=1e-12)


@pytest.mark.parametrize("n_neighbors", [1, 150, 400])
def test_where_the_walk_ends_too_early_all_are_compared(n_neighbors):
    copies = np.repeat(np.float32([[1, 0], [0, 1]]), 200, axis=0)
    cosines, positions = nearest(HnswIndex.from_vectors(copies), copies[:1], n_neighbors)
    assert len({*positions[0]}) == n_neighbors
    assert_array_equal(cosines[0], np.r_[np.ones(min(n_neighbors, 200)), np.zeros(max(0, n_neighbors - 200))])


def test_the_graph_holds_the_vectors_once(clustered):
    index = HnswIndex.from_vectors(clustered)
    assert_array_equal(index.vectors, clustered)
    assert not any(isinstance(value, np.ndarray) and len(value) for value in vars(index).values())


@each_index
@pytest.mark.parametrize("read", [lambda index: index.vectors, lambda index: index.take(np.arange(2))])
def test_vectors_read_from_an_index_stay_the_same_when_it_grows(make, read):
    vectors = np.eye(4, dtype=np.float32)
    index = make(vectors[:2])
    before = read(index)
    grown = index.appended(np.repeat(vectors, 5000, axis=0))  # more than fits into the memory of the first ones
    assert_array_equal(before, vectors[:2])
    assert not np.shares_memory(before, read(grown))


@pytest.mark.parametrize("copied", [lambda index: pickle.loads(pickle.dumps(index)), copy.deepcopy])
def test_a_copied_graph_finds_the_same_and_lives_alone(clustered, copied):
    index = HnswIndex.from_vectors(clustered[:500])
    expected = nearest(index, clustered[500:540], 5)
    other = copied(index)
    index.appended(clustered[500:540])
    found = nearest(other, clustered[500:540], 5)
    assert_array_equal(found[1], expected[1])
    assert_array_equal(found[0], expected[0])


def test_a_graph_without_faiss_is_an_import_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"index='hnsw' needs faiss: pip install 'skembed\[faiss\]'"):
        HnswIndex.from_vectors(np.eye(2, dtype=np.float32))


def test_an_exact_index_needs_no_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert nearest(ExactIndex(np.eye(2, dtype=np.float32)), np.eye(2, dtype=np.float32), 1)[1].tolist() == [[0], [1]]


# Among some


def share_found(found, expected) -> float:
    return float(np.mean([len({*row} & {*other}) / len(row) for row, other in zip(found, expected, strict=True)]))


@pytest.fixture
def always_walks(monkeypatch) -> None:
    """Search a graph even where comparing would be as fast."""
    monkeypatch.setattr(neighbours, "_FEW_VECTORS", 0)


@each_comparer
@pytest.mark.parametrize("n_queries", [1, 9])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), data=st.data())
def test_exact_neighbours_among_some_are_those_of_their_cosines(comparer, n_queries, seed, n, data):
    numbers = np.random.default_rng(seed)
    vectors, queries = (unit_vectors(numbers.normal(size=(rows, 4)), None) for rows in (n, n_queries))
    among = np.sort(numbers.choice(n, data.draw(st.integers(1, n)), replace=False))
    n_neighbors = data.draw(st.integers(1, len(among)))
    with COMPARERS[comparer](), pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_ROWS_PER_BLOCK", 7)
        cosines, positions = nearest(ExactIndex(vectors), queries, n_neighbors, among)
    expected, at = brute_force(queries, vectors[among], n_neighbors)
    assert_array_equal(positions, among[at])
    assert_allclose(cosines, expected, atol=1e-12)


@pytest.mark.parametrize("n_queries", [1, 9])
@pytest.mark.parametrize("share", [0.01, 0.5])
def test_a_search_among_some_copies_few_vectors(n_queries, share):
    vectors = unit_vectors(np.random.default_rng(0).normal(size=(100_000, 16)), None)
    index, among = ExactIndex(vectors), np.flatnonzero(np.random.default_rng(1).random(len(vectors)) < share)
    nearest(index, vectors[:n_queries], 5, among)
    tracemalloc.start()
    nearest(index, vectors[:n_queries], 5, among)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors.nbytes / 4


FILTERS = {
    "a tenth": lambda cosines, numbers: numbers.random(len(cosines)) < 0.12,
    "half": lambda cosines, numbers: numbers.random(len(cosines)) < 0.5,
    "nearly all": lambda cosines, numbers: numbers.random(len(cosines)) < 0.95,
    "the nearer half": lambda cosines, _: cosines > np.median(cosines),
    "the farther half": lambda cosines, _: cosines < np.median(cosines),
    "all but the nearest": lambda cosines, _: cosines < np.quantile(cosines, 0.95),
    "other clusters": lambda cosines, _: np.arange(len(cosines)) >= 250,
}


@pytest.mark.usefixtures("always_walks")
@pytest.mark.parametrize("kind", FILTERS)
def test_a_graph_finds_among_some_what_it_finds_among_all(kind, clustered):
    numbers = np.random.default_rng(1)
    queries = unit_vectors(clustered[:250:3] + 0.1 * numbers.normal(size=(84, 24)), None)
    among = np.flatnonzero(FILTERS[kind](clustered @ queries.mean(axis=0), numbers))
    graph, exact = HnswIndex.from_vectors(clustered), ExactIndex(clustered)
    recall = share_found(nearest(graph, queries, 10)[1], nearest(exact, queries, 10)[1])
    found = nearest(graph, queries, 10, among)[1]
    assert np.isin(found, among).all()
    assert share_found(found, nearest(exact, queries, 10, among)[1]) >= recall > 0.99


@pytest.mark.usefixtures("always_walks")
def test_a_graph_walks_no_wider_than_it_is(clustered):
    among = np.arange(0, len(clustered), 2)
    found = nearest(HnswIndex.from_vectors(clustered), clustered[:3], len(among), among)[1]
    assert_array_equal(np.sort(found), np.tile(among, (3, 1)))


@pytest.mark.parametrize(("n_passing", "few"), [(1499, 750), (299, 0)], ids=["few", "a small share"])
def test_a_graph_is_not_searched_where_comparing_is_as_fast(n_passing, few, clustered, monkeypatch):
    monkeypatch.setattr(neighbours, "_FEW_VECTORS", few)
    index = HnswIndex.from_vectors(clustered)
    monkeypatch.setattr(index, "graph", StorageAlone(index.graph))
    among = np.arange(3000 - n_passing, 3000)
    found = nearest(index, clustered[:9], 10, among)[1]
    assert_array_equal(found, nearest(ExactIndex(clustered), clustered[:9], 10, among)[1])


class StorageAlone:
    """A graph that has vectors and cannot be searched."""

    def __init__(self, graph) -> None:
        self.storage, self.ntotal, self.d = graph.storage, graph.ntotal, graph.d


# Copies


@settings(max_examples=150, deadline=None)
@given(search=searches(), n_first=st.integers(1, 30))
def test_rows_are_those_of_all_cosines_however_many_copies_there_are(search, n_first):
    queries, vectors, n_neighbors = search
    unit, unit_queries = unit_vectors(vectors, None), unit_vectors(queries, None)
    index = VectorIndex.from_vectors(unit[:n_first], ExactIndex).appended(unit[n_first:])
    cosines, rows = index.nearest(unit_queries, n_neighbors)
    expected, at = brute_force(unit_queries, unit, n_neighbors)
    assert_array_equal(rows, at)
    assert_allclose(cosines, expected, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(search=searches())
def test_the_others_of_a_row_are_its_neighbours_but_itself(search):
    _, vectors, n_neighbors = search
    unit = unit_vectors(np.concatenate([vectors, vectors[:1]]), None)
    _, rows = VectorIndex.from_vectors(unit, ExactIndex).nearest_others(n_neighbors)
    cosines = cosines_of(unit, unit).round(12)
    np.fill_diagonal(cosines, -2)
    assert_array_equal(rows, np.argsort(-cosines, axis=1, kind="stable")[:, :n_neighbors])


@pytest.mark.slow
@each_index
def test_thousands_of_copies_hide_nothing_and_cost_little(make, clustered):
    rows = np.concatenate([clustered, np.repeat(clustered[:1], 20_000, axis=0)])
    index = VectorIndex.from_vectors(rows, make)
    assert len(index.index) == len(clustered)
    _, found = index.nearest(clustered, 10)
    expected = brute_force(clustered, rows[: len(clustered)], 10)[1]
    is_near_copies = (expected == 0).any(axis=1)
    hits = [np.isin(a, b).mean() for a, b in zip(found[~is_near_copies], expected[~is_near_copies], strict=True)]
    assert np.mean(hits) > 0.99
    assert_array_equal(index.nearest_others(2)[1][-1], [0, 3000])


# Growing


@st.composite
def growing(draw) -> tuple[np.ndarray, list[int]]:
    """Return vectors with zeros, repeats and multiples, and where to cut them into the first and the additions."""
    _, vectors, _ = draw(searches())
    cuts = draw(st.lists(st.integers(1, len(vectors)), max_size=5))
    return unit_vectors(vectors, None), sorted({*cuts, len(vectors)})


def grown(vectors, edges, make) -> VectorIndex:
    index = VectorIndex.from_vectors(vectors[: edges[0]], make)
    for start, end in pairwise(edges):
        index = index.appended(vectors[start:end])
    return index


@each_index
@settings(max_examples=30, deadline=None)
@given(rows=growing())
def test_an_index_that_has_grown_is_that_of_all_rows(make, rows):
    vectors, edges = rows
    at_once, by_and_by = VectorIndex.from_vectors(vectors, make), grown(vectors, edges, make)
    assert_array_equal(by_and_by.code_of, at_once.code_of)
    assert_array_equal(by_and_by.index.vectors, at_once.index.vectors)
    for n_neighbors in (1, len(vectors)):
        for found, expected in zip(
            by_and_by.nearest(vectors, n_neighbors), at_once.nearest(vectors, n_neighbors), strict=True
        ):
            assert_array_equal(found, expected)


def test_copies_are_known_across_additions_even_if_all_keys_are_equal(monkeypatch):
    for module in (neighbours, distinct):
        monkeypatch.setattr(module, "keys_of", lambda vectors: np.zeros(len(vectors), dtype=np.uint64))
    vectors = np.float32([[1, 2], [2, 1], [0, 0], [1, 2], [3, 1], [-0.0, 0], [2, 1], [3, 1], [0, 0]])
    index = grown(vectors, [2, 4, 5, 9], ExactIndex)
    assert index.code_of.tolist() == [0, 1, 2, 0, 3, 4, 1, 3, 2]
    assert_array_equal(index.index.vectors, vectors[[0, 1, 2, 4, 5]])


@each_index
def test_an_addition_does_not_touch_the_vectors_that_are_there(make, clustered, monkeypatch):
    index = VectorIndex.from_vectors(clustered[:400], make).appended(clustered[400:401])
    n_read = {"hashed": 0, "compared": 0}
    keys_of, take = distinct.keys_of, type(index.index).take

    def count_keys(vectors):
        n_read["hashed"] += len(vectors)
        return keys_of(vectors)

    def count_taken(self, positions):
        n_read["compared"] += len(positions)
        return take(self, positions)

    for module in (neighbours, distinct):
        monkeypatch.setattr(module, "keys_of", count_keys)
    monkeypatch.setattr(type(index.index), "take", count_taken)
    for start in range(401, 1301, 100):
        index = index.appended(np.concatenate([clustered[start : start + 90], clustered[:10]]))
    assert n_read == {"hashed": 2 * 900, "compared": 9 * 10}  # once among themselves, once against those known


@each_index
def test_an_index_stays_as_it_was_when_another_grows_from_it(make, clustered, monkeypatch):
    index = VectorIndex.from_vectors(clustered[:300], make).appended(clustered[300:310])
    expected = index.nearest(clustered[:400], 5)
    ours, others = index.appended(clustered[310:350]), index.appended(clustered[350:400])
    assert len(index.index) == len(index) == 310
    assert_array_equal(index.nearest(clustered[:400], 5)[1], expected[1])
    assert ours.nearest(clustered[310:350], 1)[1].ravel().tolist() == [*range(310, 350)]
    assert others.nearest(clustered[350:400], 1)[1].ravel().tolist() == [*range(310, 360)]
    assert others.nearest_others(3)[1].max() < 360
    assert sorted(others.nearest(clustered[:1], 360)[1][0]) == [*range(360)]  # more than the walk finds
    monkeypatch.setattr(neighbours, "_FEW_VECTORS", 0)
    among = np.arange(100, 360)
    expected = brute_force(clustered[:5], clustered[[*range(310), *range(350, 400)]][among], 5)[1]
    assert_array_equal(others.nearest(clustered[:5], 5, among)[1], among[expected])


@pytest.mark.parametrize("copied", [lambda index: pickle.loads(pickle.dumps(index)), copy.deepcopy])
@each_index
def test_a_copy_knows_the_vectors_that_are_there(copied, make):
    index = copied(grown(np.eye(4, dtype=np.float32), [2, 3, 4], make))
    assert index.appended(np.eye(4, dtype=np.float32)[::-1]).code_of.tolist() == [0, 1, 2, 3, 3, 2, 1, 0]
