"""SemanticSearch: its input, its output, and its behaviour as a scikit-learn estimator."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sentence_transformers import SentenceTransformer
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skembed
from skembed import SemanticSearch, SentenceEmbeddingTransformer, TruncationWarning, VectorArray
from skembed.similarity import documents, growing, neighbours
from skembed.similarity import search as search_module
from tests.interrupts import at_each_line

NAN = float("nan")
TEXTS = ["a quick fox", "the wrong address", "an update of the app", "a lazy dog", "login", "naive resume"]
LONG = "fox " * 60
COLUMNS = ["query", "query_id", "rank", "score", "position", "id", "text"]
INDEXES = ["auto", "hnsw"]


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny)


@pytest.fixture
def search(embedder) -> SemanticSearch:
    return SemanticSearch(embedder, n_neighbors=2).fit(TEXTS)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 5))


def of_vectors(**params) -> SemanticSearch:
    """Return a search of vectors, whose embedder would fail if it were used."""
    return SemanticSearch(SentenceEmbeddingTransformer("/nowhere"), **params)


# kneighbors


@pytest.mark.parametrize("index", INDEXES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 50), dim=st.integers(1, 12), data=st.data())
def test_neighbours_are_those_of_scikit_learn(index, seed, n, dim, data):
    numbers = np.random.default_rng(seed)
    corpus, queries = numbers.normal(size=(n, dim + 1)), numbers.normal(size=(7, dim + 1))
    n_neighbors = data.draw(st.integers(1, n))
    theirs = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine").fit(corpus)
    distances, positions = of_vectors(n_neighbors=n_neighbors, index=index).fit(corpus).kneighbors(queries)
    expected_distances, expected_positions = theirs.kneighbors(queries)
    assert (distances.dtype, positions.dtype.kind) == (expected_distances.dtype, expected_positions.dtype.kind)
    assert_allclose(distances, expected_distances, atol=1e-5)
    differs = positions != expected_positions
    assert_allclose(distances[differs], theirs.kneighbors(queries)[0][differs], atol=1e-6)  # next to equal ones


@pytest.mark.parametrize("index", INDEXES)
def test_without_queries_each_document_is_left_out_of_its_own_neighbours(index, vectors):
    ours = of_vectors(n_neighbors=4, index=index).fit(vectors).kneighbors()
    theirs = NearestNeighbors(n_neighbors=4, metric="cosine").fit(vectors).kneighbors()
    assert_array_equal(ours[1], theirs[1])
    assert_allclose(ours[0], theirs[0], atol=1e-6)


@pytest.mark.parametrize(
    ("index", "n_copies"),
    [("auto", 2), ("auto", 6), ("auto", 40), ("auto", 300), ("hnsw", 2), ("hnsw", 6), ("hnsw", 40)],
)
def test_a_document_with_many_copies_is_left_out_of_its_own_neighbours(index, n_copies):
    corpus = np.repeat([[1.0, 0.0], [0.0, 1.0]], n_copies, axis=0)
    distances, positions = of_vectors(index=index).fit(corpus).kneighbors(n_neighbors=n_copies - 1)
    assert (positions != np.arange(2 * n_copies)[:, None]).all()
    assert all(len({*row}) == n_copies - 1 for row in positions.tolist())
    assert_array_equal(distances, np.zeros((2 * n_copies, n_copies - 1)))


def test_every_other_document_can_be_asked_for(vectors):
    _, positions = of_vectors().fit(vectors).kneighbors(n_neighbors=59)
    assert all({*row} == {*range(60)} - {own} for own, row in enumerate(positions.tolist()))


@pytest.mark.parametrize("of_zeros", [False, True])
def test_distances_are_never_negative_nor_above_two(of_zeros):
    corpus = np.array([[1.0, 1.0], [3.0, 3.0], [-2.0, -2.0], [0.0, 0.0]])
    distances = of_vectors().fit(corpus).kneighbors(np.zeros((1, 2)) if of_zeros else corpus, n_neighbors=4)[0]
    assert distances.min() >= 0
    assert distances.max() <= 2
    assert (np.diff(distances, axis=1) >= 0).all()


def test_the_number_of_neighbours_is_the_parameter_unless_a_call_gives_another(search):
    assert search.kneighbors(["fox"])[1].shape == (1, 2)
    assert search.kneighbors(["fox"], 3)[1].shape == (1, 3)
    assert search.set_params(n_neighbors=4).kneighbors(["fox"])[1].shape == (1, 4)


def test_positions_alone_are_given_if_no_distance_is_asked_for(search):
    assert_array_equal(search.kneighbors(["fox"], return_distance=False), search.kneighbors(["fox"])[1])


def test_distances_are_one_minus_the_scores(search):
    assert_allclose(1 - search.kneighbors(["fox", "login"])[0].ravel(), search.search(["fox", "login"])["score"])


@pytest.mark.parametrize("count", [0, -1, True, 2.5, "2", np.float64(2), np.True_], ids=repr)
@pytest.mark.parametrize("method", ["search", "kneighbors"])
def test_an_invalid_number_of_neighbours_is_refused(count, method, search):
    with pytest.raises(ValueError, match=r"n_neighbors must be a positive integer; got "):
        getattr(search, method)(["fox"], count)


@pytest.mark.parametrize("count", [0, True, 2.5, None, "5"], ids=repr)
def test_fit_refuses_an_invalid_number_of_neighbours(count, counted, embedder):
    with pytest.raises(ValueError, match=r"n_neighbors must be a positive integer; got "):
        SemanticSearch(embedder, n_neighbors=count).fit(TEXTS)
    assert counted == []


def test_a_number_of_numpy_is_accepted(search):
    assert len(search.search("fox", k=np.int64(3))) == 3


@pytest.mark.parametrize("method", ["search", "kneighbors"])
def test_more_neighbours_than_documents_are_refused_with_both_numbers(method, search):
    with pytest.raises(ValueError, match="7 neighbours were asked for, but there are 6 documents with a text"):
        getattr(search, method)(["fox"], 7)


def test_without_queries_the_document_itself_does_not_count(search):
    with pytest.raises(ValueError, match="6 neighbours were asked for, but there are 5 other documents"):
        search.kneighbors(n_neighbors=6)


def test_documents_without_a_text_do_not_count(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan")).fit(["fox", *[None] * 50, "login"])
    with pytest.raises(ValueError, match="5 neighbours were asked for, but there are 2 documents with a text"):
        search.search("fox")


def test_without_queries_missing_documents_are_refused(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), n_neighbors=1).fit(["fox", None, "dog"])
    with pytest.raises(ValueError, match="Some documents have no text"):
        search.kneighbors()


# where


@st.composite
def filtered_searches(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return queries, documents with copies, zeros and missing ones, a mask, and a number of neighbours that pass."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, n_distinct, n = draw(st.integers(1, 6)), draw(st.integers(1, 30)), draw(st.integers(2, 80))
    distinct = numbers.normal(size=(n_distinct, dim))
    distinct[0] = 0
    documents = distinct[numbers.integers(n_distinct, size=n)]
    documents[numbers.random(n) < draw(st.sampled_from([0, 0.2]))] = np.nan
    documents[0] = 1
    queries = np.concatenate([numbers.normal(size=(draw(st.integers(1, 6)), dim)), documents[:1], np.zeros((1, dim))])
    mask = numbers.random(n) < draw(st.sampled_from([0.1, 0.5, 0.95, 1]))
    mask[0] = True
    n_found = int((mask & ~np.isnan(documents[:, 0])).sum())
    return queries, documents, mask, draw(st.integers(1, n_found))


def brute_force(queries, documents, passes, n_neighbors) -> tuple[np.ndarray, np.ndarray]:
    """Sort the cosines of the documents that pass, in float64; equal ones by position."""
    queries, documents = (skembed.embedders.unit_vectors(rows, None).astype(float) for rows in (queries, documents))
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(documents, axis=1)
    products = np.einsum("id,jd->ij", queries, documents)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    cosines[:, ~passes | np.isnan(documents[:, 0])] = -np.inf
    positions = np.argsort(-cosines.round(12), axis=1, kind="stable")[:, :n_neighbors]
    return np.take_along_axis(cosines, positions, axis=1), positions


@pytest.mark.parametrize("index", INDEXES)
@settings(max_examples=60, deadline=None)
@given(case=filtered_searches())
def test_where_finds_the_nearest_of_the_documents_that_pass(index, case):
    queries, documents, mask, n_neighbors = case
    search = of_vectors(n_neighbors=n_neighbors, index=index).fit(documents)
    cosines, expected = brute_force(queries, documents, mask, n_neighbors)
    for where in (mask, np.flatnonzero(mask)):
        distances, positions = search.kneighbors(queries, where=where)
        assert_array_equal(positions, expected)
        assert_allclose(1 - distances, cosines, atol=1e-6)
    hits = search.search(queries, n_neighbors, where=mask)
    assert hits["position"].tolist() == expected.ravel().tolist()


@pytest.mark.parametrize("index", INDEXES)
@settings(max_examples=20, deadline=None)
@given(case=filtered_searches(), cut=st.integers(1, 79))
def test_where_looks_among_added_documents_too(index, case, cut):
    queries, documents, mask, n_neighbors = case
    search = of_vectors(n_neighbors=n_neighbors, index=index).fit(documents[:cut])
    if cut < len(documents):
        search.partial_fit(documents[cut:])
    assert_array_equal(search.kneighbors(queries, where=mask)[1], brute_force(queries, documents, mask, n_neighbors)[1])


@pytest.mark.parametrize("index", INDEXES)
def test_of_copies_only_those_that_pass_are_found(index):
    search = of_vectors(index=index).fit(np.repeat(np.eye(2), 50, axis=0))
    assert search.search([1.0, 0.0], 3, where=[49, 7, 60])["position"].tolist() == [7, 49, 60]


@pytest.mark.parametrize("index", INDEXES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 40))
def test_without_queries_all_documents_find_those_that_pass_but_never_themselves(index, seed, n):
    numbers = np.random.default_rng(seed)
    documents = numbers.normal(size=(n, 3))[numbers.integers(n, size=n)]
    mask = np.arange(n) < numbers.integers(3, n + 1)
    positions = of_vectors(index=index).fit(documents).kneighbors(n_neighbors=2, where=mask)[1]
    for row, found in enumerate(positions.tolist()):
        assert found == brute_force(documents[[row]], documents, mask & (np.arange(n) != row), 2)[1][0].tolist()


MASK = [True, False, True, True, False, False]
MASKS = {
    "list": MASK,
    "tuple": tuple(MASK),
    "array": np.array(MASK),
    "array of objects": np.array(MASK, dtype=object),
    "Series": pd.Series(MASK),
    "Series of objects": pd.Series(MASK, dtype=object),
    "nullable": pd.Series(MASK, dtype="boolean"),
    "nullable array": pd.array(MASK),
    "pandas of pyarrow": pd.Series(MASK, dtype="bool[pyarrow]"),
    "polars": pl.Series(MASK),
    "pyarrow": pa.array(MASK),
    "positions": [0, 2, 3],
    "positions in disorder": (3, 0, 2),
    "repeated positions": np.array([0, 2, 3, 3, 0]),
    "small numbers": np.array([0, 2, 3], dtype=np.uint8),
    "Series of positions": pd.Series([0, 2, 3], index=[7, 8, 9]),
    "nullable positions": pd.Series([0, 2, 3], dtype="Int64"),
    "Index": pd.Index([0, 2, 3]),
    "set": {0, 2, 3},
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_or_positions_may_come_in_any_container(kind, search):
    assert sorted(search.search("fox", k=3, where=MASKS[kind])["position"]) == [0, 2, 3]


def test_a_filter_is_of_one_call(search):
    everywhere = search.search("fox")
    assert search.search("fox", where=[4, 5])["position"].isin([4, 5]).all()
    assert_frame_equal(search.search("fox"), everywhere)


@pytest.mark.parametrize("where", [[True] * 6, range(6)], ids=["mask", "positions"])
def test_a_filter_that_lets_all_pass_changes_nothing(where, search):
    assert_frame_equal(search.search(["fox", "login"], where=where), search.search(["fox", "login"]))


def test_a_mask_from_the_frame_of_the_corpus_is_taken(embedder):
    reviews = pd.DataFrame({"text": TEXTS, "stars": [1, 5, 1, 2, 5, 5]}, index=list("uvwxyz"))
    search = SemanticSearch(embedder).fit(reviews["text"])
    assert set(search.search("fox", k=3, where=reviews["stars"] == 5)["id"]) == set("vyz")


def test_a_document_without_a_text_does_not_pass(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan")).fit(["fox", None, "login", None])
    assert sorted(search.search("fox", k=2, where=[0, 1, 2])["position"]) == [0, 2]
    with pytest.raises(
        ValueError, match="2 neighbours were asked for, but there are 1 documents with a text that pass"
    ):
        search.search("fox", k=2, where=[True, True, False, True])


@pytest.mark.parametrize("where", [[], np.array([]), [False] * 6], ids=repr)
@pytest.mark.parametrize("queries", [["fox"], None], ids=["queries", "documents"])
def test_where_nothing_passes_nothing_is_found(where, queries, search):
    what = "other documents" if queries is None else "documents"
    message = f"2 neighbours were asked for, but there are 0 {what} with a text that pass where"
    with pytest.raises(ValueError, match=message):
        search.kneighbors(queries, where=where)


LABELLED = pd.Series(MASK, index=list("uvwxyz"))
BAD_FILTERS = {
    "short mask": ([True, False], ValueError, "where has 2 values for 6 documents"),
    "long mask": (np.ones(7, dtype=bool), ValueError, "where has 7 values for 6 documents"),
    "other labels": (LABELLED, ValueError, "where has other index labels than the corpus"),
    "missing": ([True, None, *MASK[2:]], ValueError, r"where\[1\] is missing"),
    "missing, labelled": (
        LABELLED.astype("boolean").mask(LABELLED),
        ValueError,
        r"where\[0\] \(index label 'u'\) is mis",
    ),
    "missing position": (pd.array([0, None]), ValueError, r"where\[1\] is missing"),
    "floats": (np.ones(6), TypeError, "where must be a mask, .* or positions, .*; got values of the type float64"),
    "texts": (["fox"], TypeError, "where must be a mask"),
    "mixed": ([True, 1], TypeError, "where must be a mask"),
    "beyond": ([0, 6, 7], ValueError, r"where\[1\] is 6, but the 6 documents have the positions 0 to 5"),
    "negative": (pd.Series([0, 1, -1], index=list("abc")), ValueError, r"where\[2\] \(index label 'c'\) is -1"),
    "huge": (np.array([2**64 - 1], dtype=np.uint64), ValueError, r"where\[0\] is 18446744073709551615"),
    "one text": ("fox", TypeError, "where must be a mask, .*; got 'fox'"),
    "one number": (3, TypeError, "where must be a mask, .*; got 3"),
    "matrix": (np.ones((6, 1), dtype=bool), ValueError, "where must be one column"),
}


@pytest.mark.parametrize("kind", BAD_FILTERS)
@pytest.mark.parametrize("method", ["search", "kneighbors"])
def test_what_is_no_filter_is_one_clear_error_before_anything_is_embedded(method, kind, search, counted):
    where, error, message = BAD_FILTERS[kind]
    n_embedded = len(counted)
    with pytest.raises(error, match=message):
        getattr(search, method)(["dog"], where=where)
    assert len(counted) == n_embedded


# vectors_


@pytest.mark.parametrize("index", INDEXES)
def test_the_vectors_of_the_corpus_are_of_unit_length_and_nan_where_there_is_no_text(index, tiny):
    texts = ["fox", None, "login", "fox"]
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), index=index).fit(texts)
    expected = skembed.embed(texts, model=tiny, missing="nan")
    assert search.vectors_.dtype == np.float32
    assert_allclose(search.vectors_, expected, atol=1e-6)
    search.partial_fit([None, "a lazy dog"])
    assert_allclose(search.vectors_[:4], expected, atol=1e-6)
    assert np.isnan(search.vectors_).all(axis=1).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("index", INDEXES)
def test_given_vectors_are_scaled_and_those_of_zeros_stay(index, vectors, monkeypatch):
    monkeypatch.setattr(documents, "_ROWS_PER_BLOCK", 7)
    rows = np.concatenate([vectors, np.zeros((1, 5)), vectors[:3]])
    search = of_vectors(index=index).fit(rows)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    assert_allclose(search.vectors_, rows / np.where(lengths == 0, 1, lengths), atol=1e-6)


def test_a_change_of_the_vectors_changes_no_search(search):
    before = search.search("fox")
    search.vectors_[:] = 0
    assert_frame_equal(search.search("fox"), before)


def test_before_fit_there_are_no_vectors(embedder):
    assert not hasattr(SemanticSearch(embedder), "vectors_")


# Vectors of an unknown model


@pytest.mark.parametrize("method", ["search", "kneighbors", "transform", "partial_fit"])
def test_texts_beside_vectors_of_an_unknown_model_need_a_chosen_embedder(method, tiny, monkeypatch, counted):
    monkeypatch.setattr(SentenceEmbeddingTransformer.__init__, "__defaults__", (tiny,))
    search = SemanticSearch(n_neighbors=1).fit(np.eye(32))
    with pytest.raises(
        ValueError, match=r"nothing says which model made the vectors of the corpus.* with model='.*bert.*'"
    ):
        getattr(search, method)(["fox"])
    assert counted == []
    getattr(SemanticSearch(SentenceEmbeddingTransformer(), n_neighbors=1).fit(np.eye(32)), method)(["fox"])


def test_vectors_that_say_which_model_made_them_need_no_chosen_embedder(tiny, monkeypatch):
    monkeypatch.setattr(SentenceEmbeddingTransformer.__init__, "__defaults__", (tiny,))
    vectors = pd.Series(TEXTS).text.embed(output="vector", model=tiny)
    assert SemanticSearch(query_prompt=None).fit(vectors).search(TEXTS[2], k=1)["position"].tolist() == [2]


# search


def test_hits_are_a_tidy_table(search):
    hits = search.search(["a quick fox", "login"], k=2)
    assert hits.columns.tolist() == COLUMNS
    assert [hits[column].dtype.kind for column in ("query_id", "rank", "score", "position", "id")] == [*"iifii"]
    assert hits["query"].tolist() == ["a quick fox"] * 2 + ["login"] * 2
    assert hits["rank"].tolist() == [1, 2, 1, 2]
    assert hits["text"].tolist() == [TEXTS[position] for position in hits["position"]]
    assert hits.index.equals(pd.RangeIndex(4))


def test_scores_are_cosines_in_falling_order(search, tiny):
    hits = search.search(["a quick fox", "login"], k=6)
    queries = skembed.embed(["a quick fox", "login"], model=tiny, prompt_name="query").astype(float)
    expected = np.einsum("id,jd->ij", queries, skembed.embed(TEXTS, model=tiny).astype(float))
    for at, rows in enumerate((hits[:6], hits[6:])):
        assert_allclose(rows["score"], expected[at, rows["position"]], atol=1e-6)
        assert rows["score"].is_monotonic_decreasing
        assert sorted(rows["position"]) == list(range(6))


QUERIES = {
    "list": ["fox", "login"],
    "tuple": ("fox", "login"),
    "array": np.array(["fox", "login"]),
    "Series": pd.Series(["fox", "login"], index=["r", "s"]),
    "categories": pd.Series(["fox", "login"], dtype="category"),
    "frame": pd.DataFrame({"asked": ["fox", "login"]}),
    "polars": pl.Series(["fox", "login"]),
    "pyarrow": pa.array(["fox", "login"]),
}


@pytest.mark.parametrize("kind", QUERIES)
def test_every_column_of_queries_finds_the_same(kind, search):
    queries = QUERIES[kind]
    expected = pd.concat([search.search("fox"), search.search("login")], ignore_index=True)
    labels = queries.index.tolist() if isinstance(queries, (pd.Series, pd.DataFrame)) else [0, 1]
    expected["query_id"] = pd.Series(labels).repeat(2).to_numpy()
    assert_frame_equal(search.search(queries), expected)


def test_one_text_is_one_query(search):
    assert search.search("fox")["query"].tolist() == ["fox", "fox"]


@pytest.mark.parametrize("text", ["emoji 🦊 漢字", "a NUL \0"])
def test_odd_texts_are_queries_too(text, search):
    assert search.search(text)["query"].tolist() == [text] * 2


@pytest.mark.parametrize("text", ["", "   ", " \n\t"])
@pytest.mark.parametrize("method", ["search", "kneighbors"])
def test_an_empty_query_finds_something_with_a_warning_at_the_callers_line(method, text, search):
    with pytest.warns(UserWarning, match=r"queries\[1\] is empty or blank, .* mean nothing") as caught:
        found = getattr(search, method)(["fox", text])
    assert [Path(warning.filename).name for warning in caught] == ["test_search.py"]
    assert len(found) == (4 if method == "search" else 2)


def test_several_empty_queries_are_one_warning_that_names_the_first(search):
    queries = pd.Series(["", "fox", " ", ""], index=list("pqrs"))
    with pytest.warns(UserWarning, match=r"queries\[0\] \(index label 'p'\), and 2 more, are empty or blank") as caught:
        search.search(queries)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "queries", [[], np.array([], dtype=object), pd.Series([], dtype="str")], ids=["list", "array", "Series"]
)
def test_no_queries_have_no_hits(queries, search):
    hits = search.search(queries)
    assert (hits.columns.tolist(), len(hits)) == (COLUMNS, 0)


VECTOR_QUERIES = {
    "matrix": lambda rows: np.array(rows),
    "float16": lambda rows: np.array(rows, dtype=np.float16),
    "whole numbers": lambda rows: np.array(rows, dtype=int),
    "list": lambda rows: rows,
    "vector column": lambda rows: pd.Series(VectorArray(rows), index=["r", "s"]),
    "frame": pd.DataFrame,
    "polars": lambda rows: pl.Series(rows, dtype=pl.Array(pl.Float32, 3)),
}


@pytest.mark.parametrize("kind", VECTOR_QUERIES)
def test_vectors_are_queries_named_by_their_positions(kind, counted):
    hits = of_vectors().fit(np.eye(3)).search(VECTOR_QUERIES[kind]([[0, 0, 2], [0, 1, 0]]), k=1)
    assert hits["query"].tolist() == [0, 1]
    assert hits["position"].tolist() == [2, 1]
    assert hits["score"].tolist() == [1, 1]
    assert hits["text"].tolist() == [None, None]
    assert counted == []


ONE_VECTOR = {"array": np.array, "whole numbers": lambda row: np.array(row, dtype=int), "list": list, "tuple": tuple}


@pytest.mark.parametrize("kind", ONE_VECTOR)
def test_one_vector_is_one_query(kind):
    hits = of_vectors().fit(np.eye(3)).search(ONE_VECTOR[kind]([0.0, 1.0, 5.0]), k=2)
    assert (hits["query"].tolist(), hits["position"].tolist()) == ([0, 0], [2, 1])


def test_a_row_of_a_vector_column_is_one_query(search):
    vectors = pd.Series(VectorArray(search.vectors_))
    assert search.search(vectors[3], k=1)["position"].tolist() == [3]


def test_one_vector_in_a_list_is_one_query():
    assert of_vectors().fit(np.eye(3)).search([[0.0, 0.1, 5.0]], k=2)["position"].tolist() == [2, 1]


LABELS = {
    "text": pd.Index(["r", "s", "t"]),
    "repeated": pd.Index([7, 7, 8]),
    "dates": pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin"),
    "periods": pd.period_range("2024", periods=3, freq="M"),
    "several levels": pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["text", "query"]),
    "named like a column": pd.Index(["r", "s", "t"], name="text"),
    "mixed": pd.Index(["r", 1, None], dtype=object),
    "tuples": pd.Index([(1, 2), (3, 4), (5, 6)], tupleize_cols=False),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("container", [pd.DataFrame, lambda rows, index: pd.Series(VectorArray(rows), index=index)])
def test_documents_are_named_by_their_index_labels(kind, container):
    search = of_vectors().fit(container(np.eye(3), index=LABELS[kind]))
    labels = search.search(np.eye(3)[[2, 0]], k=1)["id"]
    assert labels.tolist() == LABELS[kind].take([2, 0]).tolist()
    if "levels" not in kind and kind != "tuples":
        assert labels.dtype == LABELS[kind].dtype


@pytest.mark.parametrize("kind", LABELS)
def test_equal_queries_have_different_index_labels_in_the_table(kind):
    queries = pd.Series(VectorArray([[1.0, 0, 0]] * 3), index=LABELS[kind])
    query_id = of_vectors().fit(np.eye(3)).search(queries, k=2)["query_id"]
    assert query_id.tolist() == LABELS[kind].take([0, 0, 1, 1, 2, 2]).tolist()
    if "levels" not in kind and kind != "tuples":
        assert query_id.dtype == LABELS[kind].dtype


def test_the_corpus_can_be_looked_up_by_the_labels_of_hits(embedder):
    reviews = pd.Series(TEXTS, index=list("uvwxyz"))
    search = SemanticSearch(embedder).fit(reviews)
    hits = search.search(["fox", "login"], k=3)
    assert reviews[hits["id"]].tolist() == hits["text"].tolist()
    assert search.corpus_.loc[hits["id"], "text"].tolist() == hits["text"].tolist()


def test_without_index_labels_positions_are_the_labels(search):
    hits = search.search("fox", k=6)
    assert hits["id"].tolist() == hits["position"].tolist()


def test_with_the_real_model_meaning_is_found():
    corpus = ["The parcel is late.", "I forgot my password.", "It broke after a day.", "The music sounds great."]
    hits = SemanticSearch().fit(corpus).search(["My delivery has not come.", "I cannot log in.", "Poor quality."], k=1)
    assert hits["position"].tolist() == [0, 1, 2]


# Input of fit

OF_TEXTS = {
    "list": lambda texts: texts,
    "tuple": tuple,
    "array": lambda texts: np.array(texts, dtype=object),
    "array of str": np.array,
    "(n, 1) array": lambda texts: np.array(texts)[:, None],
    "Series": pd.Series,
    "Series of object": lambda texts: pd.Series(texts, dtype=object),
    "Series of string": lambda texts: pd.Series(texts, dtype="string"),
    "Series of category": lambda texts: pd.Series(texts, dtype="category"),
    "Index": pd.Index,
    "frame": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": pl.Series,
    "polars frame": lambda texts: pl.DataFrame({"text": texts}),
    "pyarrow array": pa.array,
    "pyarrow chunks": lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
    "pyarrow table": lambda texts: pa.table({"text": texts}),
}
OF_VECTORS = {
    "matrix": np.array,
    "float16": lambda rows: np.array(rows, dtype=np.float16),
    "float64, by columns": lambda rows: np.array(rows, dtype=float, order="F"),
    "whole numbers": lambda rows: np.array(rows).astype(int),
    "every other column": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "backwards": lambda rows: np.array(rows)[::-1][::-1],
    "wide frame": pd.DataFrame,
    "vector column": lambda rows: pd.Series(VectorArray(rows)),
    "frame of a vector column": lambda rows: pd.DataFrame({"vector": VectorArray(rows)}),
    "lists": lambda rows: [list(row) for row in rows],
    "Series of lists": lambda rows: pd.Series([list(row) for row in rows]),
    "polars": lambda rows: pl.Series(rows, dtype=pl.List(pl.Float64)),
    "pyarrow": lambda rows: pa.array(rows, pa.list_(pa.float32())),
}
EMBEDDERS = {
    "tf-idf": TfidfVectorizer,
    "pipeline": lambda: make_pipeline(TfidfVectorizer(), TruncatedSVD(6, random_state=0)),
    "stateless": lambda: HashingVectorizer(n_features=64),
}


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_every_column_of_texts_gives_the_same_search(kind, search, embedder):
    made = SemanticSearch(embedder, n_neighbors=2).fit(OF_TEXTS[kind](TEXTS))
    assert made.corpus_["text"].tolist() == TEXTS
    assert_frame_equal(made.search(["fox", "login"]), search.search(["fox", "login"]))


@pytest.mark.parametrize("kind", OF_VECTORS)
def test_every_column_of_vectors_gives_the_same_search(kind, counted):
    rows = [[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 2.0, 1.0]]
    made = of_vectors().fit(OF_VECTORS[kind](rows))
    hits = made.search([[1.0, 0.0, 0.0]], k=3)
    assert hits["position"].tolist() == [0, 2, 1]
    assert_allclose(hits["score"], [1, 2 / 3, 0], atol=1e-6)
    assert made.corpus_["text"].tolist() == [None] * 3
    assert counted == []


@pytest.mark.parametrize("name", EMBEDDERS)
@pytest.mark.parametrize("kind", OF_TEXTS)
def test_another_embedder_reads_every_column_of_texts(name, kind):
    search = SemanticSearch(EMBEDDERS[name]()).fit(OF_TEXTS[kind](TEXTS))
    assert search.search(OF_TEXTS[kind](TEXTS), k=1)["position"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", EMBEDDERS)
def test_another_embedder_compares_by_the_cosines_of_its_vectors(name):
    embedder = EMBEDDERS[name]()
    corpus = embedder.fit_transform(TEXTS)
    theirs = NearestNeighbors(n_neighbors=3, metric="cosine").fit(corpus).kneighbors(embedder.transform(["a fox"]))
    assert_allclose(SemanticSearch(embedder, n_neighbors=3).fit(TEXTS).kneighbors(["a fox"])[0], theirs[0], atol=1e-5)


def test_another_embedder_is_fitted_once_on_the_first_documents():
    search = SemanticSearch(TfidfVectorizer(), n_neighbors=1).fit(["a fox", "the dog"]).partial_fit(["fox update"])
    assert sorted(search.embedder_.vocabulary_) == ["dog", "fox", "the"]
    assert search.search("fox", k=3)["position"].tolist() == [0, 2, 1]


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_the_embedder_is_never_changed_whatever_its_output(output, tiny):
    embedder = SentenceEmbeddingTransformer(tiny).set_output(transform=output)
    before = {**vars(embedder)}
    search = SemanticSearch(embedder, n_neighbors=1, query_prompt=None).fit(TEXTS)
    assert search.search("login")["position"].tolist() == [4]
    assert vars(embedder) == before
    assert search.embedder is embedder


def test_a_change_of_the_embedder_outside_changes_nothing_before_the_next_fit(tiny):
    embedder = SentenceEmbeddingTransformer(tiny)
    search = SemanticSearch(embedder, n_neighbors=2).fit(TEXTS)
    before = search.search("fox")
    embedder.set_params(pooling="cls")
    assert_frame_equal(search.search("fox"), before)
    assert not np.allclose(search.fit(TEXTS).search("fox")["score"], before["score"], atol=1e-4)


def test_a_loaded_model_embeds(tiny, search):
    made = SemanticSearch(SentenceEmbeddingTransformer(SentenceTransformer(tiny, device="cpu")), n_neighbors=2)
    assert_frame_equal(made.fit(TEXTS).search("fox"), search.search("fox"), atol=1e-6)


def test_each_document_and_each_query_is_embedded_once(counted, search):
    search.search(["fox", "fox", "fox"])
    search.search("fox")
    assert sorted(counted) == sorted([*TEXTS, "fox"])


@pytest.mark.parametrize("missing", ["nan", "zero", "empty"])
def test_the_embedder_decides_whether_a_missing_document_can_be_found(missing, tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing=missing)).fit(["fox", None, "dog", None])
    n_found = 2 if missing == "nan" else 4
    hits = search.search("fox", k=n_found)
    assert sorted(hits["position"]) == ([0, 2] if missing == "nan" else [0, 1, 2, 3])
    assert search.corpus_["text"].tolist() == ["fox", None, "dog", None]


@pytest.mark.parametrize("index", INDEXES)
def test_missing_vectors_are_never_found(index):
    search = of_vectors(index=index, n_neighbors=2).fit([[1.0, 0.0], None, [0.0, 1.0], None])
    assert search.search([[0.0, 1.0]])["position"].tolist() == [2, 0]


@pytest.mark.parametrize("index", INDEXES)
def test_what_was_given_can_be_changed_afterwards(index, tiny):
    texts, rows, y = np.array(TEXTS, dtype=object), np.eye(6, dtype=np.float32), np.arange(6.0) + 0.5
    by_text = SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=1, index=index).fit(texts)
    by_vector = of_vectors(n_neighbors=1, index=index).fit(rows, y)
    texts[:], rows[:], y[:] = "changed", 7, 0
    assert by_text.corpus_["text"].tolist() == TEXTS
    assert by_vector.search(np.eye(6))["position"].tolist() == [0, 1, 2, 3, 4, 5]
    assert by_vector.transform(np.eye(6)).ravel().tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]


@pytest.mark.parametrize("index", INDEXES)
def test_read_only_arrays_are_accepted(index):
    rows = np.eye(4, dtype=np.float32)
    rows.flags.writeable = False
    assert of_vectors(n_neighbors=1, index=index).fit(rows).search(rows)["position"].tolist() == [0, 1, 2, 3]


# Errors


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], r"There is nothing to search: the corpus has 0 rows"),
        (np.empty((0, 3)), r"the corpus has 0 rows, none with a text"),
        (pd.Series([], dtype="str"), r"the corpus has 0 rows"),
        ([[NAN, NAN]], r"the corpus has 1 rows, none with a text"),
    ],
    ids=["list", "matrix", "Series", "missing vectors"],
)
def test_a_corpus_without_a_document_is_refused(X, message, embedder):
    with pytest.raises(ValueError, match=message):
        SemanticSearch(embedder).fit(X)


def test_a_corpus_whose_texts_are_all_missing_is_refused(tiny):
    with pytest.raises(ValueError, match="the corpus has 2 rows, none with a text"):
        SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan")).fit([None, NAN])


REFUSED = [
    (["fox", None], ValueError, r"[\[]1\] is missing"),
    (pd.Series(["fox", None], index=["r", "s"]), ValueError, r"[\[]1\] \(index label 's'\) is missing"),
    (["fox", 42], TypeError, r"[\[]1\] is int, not str"),
    (pd.Series(["fox", b"x"], index=["r", "s"]), TypeError, r"[\[]1\] \(index label 's'\) is bytes, not str"),
    (42, TypeError, "is builtins.int, not a column of text"),
    (b"x", TypeError, "is builtins.bytes, not a column of text"),
    ({"text": ["fox"]}, TypeError, "is builtins.dict, not a column of text"),
    (iter(["fox"]), TypeError, "not a column of text"),
    (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, r"has 2 columns \('a', 'b'\)"),
    ([["fox"]], TypeError, r"(X|queries)\[0\] is an array of <U[13]"),
    (np.ones((1, 2, 3)), ValueError, r"1, 2, 3|3 dimensions"),
    (["fox \ud800"], ValueError, r"[\[]0\] has a lone surrogate"),
]


@pytest.mark.parametrize("method", ["fit", "kneighbors", "search", "transform"])
@pytest.mark.parametrize(
    ("X", "error", "message"), REFUSED, ids=[f"{type(X).__name__}-{error.__name__}" for X, error, _ in REFUSED]
)
def test_a_value_that_is_not_a_column_of_texts_is_refused(method, X, error, message, search):
    with pytest.raises(error, match=message):
        getattr(search, method)(X)


@pytest.mark.parametrize("method", ["kneighbors", "search", "transform"])
def test_a_query_that_is_not_a_text_is_called_a_query(method, search):
    with pytest.raises(TypeError, match=r"^queries\[1\] is int, not str"):
        getattr(search, method)(["fox", 42])


def test_no_query_is_refused(search):
    with pytest.raises(TypeError, match="queries is None; pass a text"):
        search.search(None)


@pytest.mark.parametrize("method", ["fit", "kneighbors", "transform"])
def test_a_single_text_is_refused_where_there_must_be_a_column(method, search):
    with pytest.raises(TypeError, match="is a single str"):
        getattr(search, method)("fox")


@pytest.mark.parametrize("method", ["kneighbors", "search"])
@pytest.mark.parametrize(
    ("queries", "named"),
    [
        (["fox", None], r"queries\[1\] is missing"),
        (pd.Series(["fox", None], index=["r", "s"]), r"queries\[1\] \(index label 's'\)"),
    ],
    ids=["list", "Series"],
)
def test_a_missing_query_is_refused_whatever_the_embedder_says(method, queries, named, tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), n_neighbors=1).fit(TEXTS)
    with pytest.raises(ValueError, match=named):
        getattr(search, method)(queries)


def test_a_missing_query_vector_is_refused_by_position_and_label():
    search = of_vectors(n_neighbors=1).fit(np.eye(2))
    with pytest.raises(ValueError, match=r"queries\[1\] \(index label 's'\) is missing"):
        search.search(pd.Series(VectorArray([[1, 0], None]), index=["r", "s"]))


@pytest.mark.parametrize("number", [np.inf, -np.inf, NAN], ids=repr)
@pytest.mark.parametrize("method", ["fit", "kneighbors", "search", "transform", "partial_fit"])
def test_a_number_that_is_not_finite_is_refused_by_position_and_label(method, number):
    search = of_vectors(n_neighbors=1).fit(np.eye(2))
    with pytest.raises(ValueError, match=r"\[1\] holds NaN or infinity"):
        getattr(search, method)([[1.0, 0.0], [number, 1.0]])
    with pytest.raises(ValueError, match=r"\[1\] \(index label 's'\) holds NaN or infinity"):
        getattr(search.fit(np.eye(2)), method)(pd.Series(VectorArray([[1.0, 0.0], [number, 1.0]]), index=["r", "s"]))


@pytest.mark.parametrize("method", ["kneighbors", "search", "transform", "partial_fit"])
def test_vectors_of_other_dimensions_are_refused_with_both_numbers(method):
    search = of_vectors(n_neighbors=1).fit(np.eye(3))
    with pytest.raises(ValueError, match=r"have 2 dimensions, those of the corpus 3"):
        getattr(search, method)(np.eye(2))


def test_texts_whose_vectors_have_other_dimensions_are_refused_with_both_numbers(embedder):
    with pytest.raises(ValueError, match=r"The vectors of queries have 32 dimensions, those of the corpus 3"):
        SemanticSearch(embedder, n_neighbors=1).fit(np.eye(3)).search("fox")


@pytest.mark.parametrize("index", ["exact", "HNSW", "", None, True, 5, [], {}], ids=repr)
def test_an_invalid_index_is_refused(index, counted, embedder):
    with pytest.raises(ValueError, match="index must be 'auto' or 'hnsw'; got "):
        SemanticSearch(embedder, index=index).fit(TEXTS)
    assert counted == []


def test_a_graph_without_faiss_is_refused_before_anything_is_embedded(counted, embedder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"index='hnsw' needs faiss: pip install 'skembed\[faiss\]'"):
        SemanticSearch(embedder, index="hnsw").fit(TEXTS)
    assert counted == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda search: search.kneighbors(["fox"]),
        lambda search: search.kneighbors(),
        lambda search: search.search("fox"),
        lambda search: search.transform(["fox"]),
        lambda search: search.get_feature_names_out(),
        lambda search: search.save("nowhere"),
    ],
    ids=["kneighbors", "kneighbors of all", "search", "transform", "names", "save"],
)
@pytest.mark.parametrize("parameters", [{}, {"n_neighbors": 0, "query_prompt": 5}], ids=["valid", "invalid parameters"])
def test_before_fit_nothing_can_be_found(ask, parameters, embedder):
    with pytest.raises(NotFittedError):
        ask(SemanticSearch(embedder, **parameters))


@pytest.mark.parametrize("output", ["default", "pandas"])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "kneighbors", "search", "transform", "fit_transform"])
def test_the_warning_about_long_texts_points_at_the_callers_line(method, output, embedder):
    search = SemanticSearch(embedder, n_neighbors=1).set_output(transform=output).fit(TEXTS)
    with pytest.warns(TruncationWarning) as caught:
        getattr(search, method)([LONG, "fox"])
    assert [warning.filename for warning in caught] == [__file__]


def test_a_first_partial_fit_warns_at_the_callers_line(embedder):
    with pytest.warns(TruncationWarning) as caught:
        SemanticSearch(embedder).partial_fit([LONG])
    assert [warning.filename for warning in caught] == [__file__]


# Fitting again, and more documents


@pytest.mark.parametrize("index", INDEXES)
def test_a_refit_forgets_what_was_there(index, embedder):
    search = SemanticSearch(embedder, n_neighbors=1, index=index).fit(TEXTS, list("aabbcc")).fit(np.eye(2))
    assert search.search(np.eye(2))["position"].tolist() == [0, 1]
    assert len(search.corpus_) == 2
    assert not hasattr(search, "classes_")
    assert search.get_feature_names_out().tolist() == ["semanticsearch0"]


def test_after_a_failed_fit_nothing_is_found_and_a_fit_mends_it(search):
    with pytest.raises(TypeError):
        search.fit(["fox", 42])
    with pytest.raises(NotFittedError):
        search.search("fox")
    assert search.fit(["fox", "dog"]).search("fox")["position"].tolist() in ([0, 1], [1, 0])


def test_other_parameters_take_effect_at_the_next_fit(embedder):
    search = SemanticSearch(embedder, n_neighbors=1).fit(TEXTS)
    search.set_params(index="hnsw", embedder=TfidfVectorizer())
    assert (
        search.search("quick fox")["text"].tolist()
        == SemanticSearch(embedder, n_neighbors=1).fit(TEXTS).search("quick fox")["text"].tolist()
    )
    search.fit(TEXTS)
    assert isinstance(search.embedder_, TfidfVectorizer)
    assert search.search("quick fox")["position"].tolist() == [0]


@pytest.mark.parametrize("index", INDEXES)
def test_added_documents_are_found_as_if_they_had_been_there_from_the_start(index, embedder):
    at_once = SemanticSearch(embedder, n_neighbors=3, index=index).fit(TEXTS)
    made = SemanticSearch(embedder, n_neighbors=3, index=index)
    for start in range(0, 6, 2):
        assert made.partial_fit(TEXTS[start : start + 2]) is made
    assert_frame_equal(made.search(TEXTS), at_once.search(TEXTS))
    assert_frame_equal(made.corpus_, at_once.corpus_)
    assert_array_equal(made.kneighbors()[1], at_once.kneighbors()[1])


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=4), seed=st.integers(0, 9))
def test_however_the_documents_are_divided_the_same_are_found(cuts, seed, vectors):
    rows = vectors.copy()
    rows[np.random.default_rng(seed).integers(60, size=10)] = NAN
    rows[0] = vectors[0]
    made = of_vectors(n_neighbors=4)
    edges = sorted({0, 60, *cuts})
    for start, end in pairwise(edges):
        made.partial_fit(rows[start:end])
    assert_frame_equal(made.search(vectors), of_vectors(n_neighbors=4).fit(rows).search(vectors))


@pytest.mark.parametrize("index", INDEXES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 40), max_size=5))
def test_copies_ties_and_zeros_are_found_in_the_same_order_however_they_came(index, seed, cuts):
    numbers = np.random.default_rng(seed)
    rows = numbers.integers(-1, 2, (40, 3)).astype(float)
    y = np.array(list("abc"))[numbers.integers(3, size=40)]
    made, at_once = of_vectors(n_neighbors=40, index=index), of_vectors(n_neighbors=40, index=index).fit(rows, y)
    for start, end in pairwise(sorted({0, 40, *cuts})):
        made.partial_fit(rows[start:end], y[start:end])
        made.search(rows[:1], k=1)
    assert_frame_equal(made.search(rows), at_once.search(rows))
    assert_array_equal(made.transform(rows), at_once.transform(rows))
    assert_array_equal(made.kneighbors(n_neighbors=39)[1], at_once.kneighbors(n_neighbors=39)[1])
    assert_frame_equal(made.corpus_, at_once.corpus_)


@pytest.mark.slow
@pytest.mark.parametrize("index", INDEXES)
def test_an_addition_interrupted_at_any_line_changes_nothing(index, vectors):
    y = np.array(list("abcdef") * 10)
    first, more = (slice(0, 40), slice(40, 60))

    def make() -> SemanticSearch:
        return of_vectors(n_neighbors=3, index=index).fit(vectors[first], y[first]).partial_fit(vectors[:1], ["new"])

    def add(search) -> SemanticSearch:
        return search.partial_fit(vectors[more], y[more])

    expected, afterwards = make().search(vectors), add(make()).search(vectors)
    grown = make()
    for strike in at_each_line([search_module, documents, neighbours, growing], lambda: add(grown), visits=1):
        made = make()
        is_struck = strike(lambda made=made: add(made))
        assert is_struck
        n_documents = 41 if len(made.corpus_) == 41 else 61  # an interrupt after the last step comes too late
        assert len(made.corpus_) == len(made.y_) == n_documents
        assert_frame_equal(made.search(vectors), expected if n_documents == 41 else afterwards)
        if n_documents == 41:
            assert_frame_equal(add(made).search(vectors), afterwards)


def test_a_graph_whose_addition_was_interrupted_can_be_saved(tmp_path, vectors, monkeypatch):
    search = of_vectors(n_neighbors=3, index="hnsw").fit(vectors[:30])
    with monkeypatch.context() as patch:
        patch.setattr(neighbours.HnswIndex, "__init__", interrupt)  # called when the graph has got the vectors
        with pytest.raises(KeyboardInterrupt):
            search.partial_fit(vectors[30:50])
    search.partial_fit(vectors[50:]).save(tmp_path)
    loaded = SemanticSearch.load(tmp_path, embedder=search.embedder_)
    assert_frame_equal(
        loaded.search(vectors), of_vectors(n_neighbors=3).fit(vectors[[*range(30), *range(50, 60)]]).search(vectors)
    )


def interrupt(*_) -> None:
    raise KeyboardInterrupt


def test_a_copy_of_a_search_grows_alone(vectors):
    for index in INDEXES:
        search = of_vectors(n_neighbors=1, index=index).fit(vectors[:30]).partial_fit(vectors[30:31])
        copied = copy.copy(search)
        search.partial_fit(vectors[31:40])
        copied.partial_fit(vectors[40:60])
        assert search.search(vectors[31:40])["position"].tolist() == [*range(31, 40)]
        assert copied.search(vectors[40:60])["position"].tolist() == [*range(31, 51)]


@pytest.mark.parametrize("y", [None, [1, 2, 1], [0.5, 1.5, 2.5], ["a", "b", "a"]], ids=["no y", "int", "float", "str"])
def test_an_addition_does_not_copy_what_is_there(y):
    search = of_vectors(n_neighbors=1).fit(np.eye(3), y)
    one = np.eye(3)[:1], None if y is None else y[:1]
    before = search.partial_fit(*one)._documents
    after = search.partial_fit(*one)._documents
    arrays = ["texts", "rows", *(["y"] if y else [])]
    pairs = [(getattr(before, name).values, getattr(after, name).values) for name in arrays]
    pairs.append((before.index.code_of, after.index.code_of))
    assert all(np.shares_memory(old, new) for old, new in pairs)


def test_added_documents_are_labelled_by_position_or_by_their_own_labels():
    search = of_vectors().fit(pd.DataFrame(np.eye(4)[:2], index=["r", "s"]))
    search.partial_fit(np.eye(4)[2:3]).partial_fit(pd.DataFrame(np.eye(4)[3:], index=["t"]))
    assert search.search(np.eye(4), k=1)["id"].tolist() == ["r", "s", 2, "t"]


def test_adding_nothing_changes_nothing(search):
    before = search.search("fox")
    assert_frame_equal(search.partial_fit([]).search("fox"), before)


def test_missing_documents_can_be_added(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), n_neighbors=3).fit(["fox", "dog"])
    hits = search.partial_fit([None, None]).partial_fit(["login", None]).search("fox")
    assert sorted(hits["position"]) == [0, 1, 4]
    assert search.corpus_["text"].tolist() == ["fox", "dog", None, None, "login", None]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.eye(2), ["a", "b"], "have 2 dimensions, those of the corpus 3"),
        (np.eye(3), None, "y must be given to partial_fit if, and only if, it was given to fit"),
        (np.eye(3), ["a"], "y has 1 values for 3 documents"),
        (np.eye(3), ["a", None, "b"], r"y\[1\] is missing"),
        ([[1.0, 0.0, np.inf]], ["a"], "holds NaN or infinity"),
    ],
    ids=["dimensions", "no y", "length", "missing y", "infinity"],
)
def test_what_partial_fit_refuses_changes_nothing(index, X, y, message):
    search = of_vectors(n_neighbors=1, index=index).fit(np.eye(3), ["x", "y", "z"])
    before = search.search(np.eye(3))
    with pytest.raises(ValueError, match=message):
        search.partial_fit(X, y)
    assert_frame_equal(search.search(np.eye(3)), before)
    assert len(search.corpus_) == len(search.y_) == 3
    assert search.partial_fit(np.eye(3), ["x", "y", "z"]).transform(np.eye(3)).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("index", INDEXES)
def test_labels_that_cannot_be_sorted_change_nothing(index):
    search = of_vectors(n_neighbors=1, index=index).fit(np.eye(3), np.array(["x", "y", "z"], dtype=object))
    with pytest.raises(TypeError, match="not supported between"):
        search.partial_fit(np.eye(3), np.array(["x", 1, None.__class__], dtype=object))
    assert len(search.corpus_) == len(search.y_) == 3
    assert search.search(np.eye(3), k=3)["position"].max() == 2


def test_fit_with_labels_that_cannot_be_sorted_leaves_nothing_half_fitted():
    search = of_vectors(n_neighbors=1)
    with pytest.raises(TypeError):
        search.fit(np.eye(2), np.array(["x", 1], dtype=object))
    with pytest.raises(NotFittedError):
        search.transform(np.eye(2))


def test_y_given_to_partial_fit_alone_is_refused():
    with pytest.raises(ValueError, match="y must be given to partial_fit if, and only if"):
        of_vectors().fit(np.eye(2)).partial_fit(np.eye(2), [0, 1])


def test_new_labels_are_learned_and_none_is_cut_short():
    search = of_vectors(n_neighbors=1).fit(np.eye(2), ["a", "b"]).partial_fit([[1.0, 1.0]], ["a long one"])
    assert search.classes_.tolist() == ["a", "a long one", "b"]
    assert search.transform([[2.0, 2.0]]).tolist() == [[0, 1, 0]]


def test_numbers_cannot_be_added_to_labels_nor_labels_to_numbers():
    for y, more in (([1, 2], [0.5]), ([0.5, 1.5], ["a"])):
        search = of_vectors(n_neighbors=1).fit(np.eye(2), y)
        with pytest.raises((TypeError, ValueError)):
            search.partial_fit([[1.0, 1.0]], more)
        assert len(search.corpus_) == 2


def test_vectors_of_another_model_are_refused(embedder, model_folder):
    search = SemanticSearch(embedder, n_neighbors=1).fit(TEXTS)
    other = pd.Series(TEXTS).embed(output="vector", model=model_folder("roberta"))
    for method in (search.search, search.partial_fit, search.transform):
        with pytest.raises(ValueError, match="vectors of different models cannot be compared"):
            method(other)


# A feature step


@pytest.mark.parametrize("index", INDEXES)
def test_labels_become_shares_of_the_neighbours_that_have_them(index):
    rows = [[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1]]
    search = of_vectors(n_neighbors=3, index=index).fit(rows, ["x", "y", "x", "z", "z"])
    features = search.transform([[1.0, 0.0], [0.0, 1.0]])
    assert features.dtype == np.float32
    assert_allclose(features, [[2 / 3, 1 / 3, 0], [1 / 3, 0, 2 / 3]], rtol=1e-6)
    assert search.classes_.tolist() == ["x", "y", "z"]
    assert search.get_feature_names_out().tolist() == ["semanticsearch_x", "semanticsearch_y", "semanticsearch_z"]


NUMBERS = {
    "list": [0.5, 2, 4, 8],
    "float32": np.float32([0.5, 2, 4, 8]),
    "objects": np.array([0.5, 2, 4, 8], dtype=object),
    "Series": pd.Series([0.5, 2, 4, 8], index=list("abcd")),
    "nullable": pd.array([0.5, 2, 4, 8], dtype="Float64"),
    "polars": pl.Series([0.5, 2, 4, 8]),
    "(n, 1)": np.array([[0.5], [2], [4], [8]]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_become_the_mean_of_the_neighbours(kind):
    search = of_vectors(n_neighbors=2).fit([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], NUMBERS[kind])
    assert search.transform([[1.0, 0.0], [0.0, 1.0]]).tolist() == [[1.25], [6]]
    assert search.get_feature_names_out().tolist() == ["semanticsearch0"]
    assert not hasattr(search, "classes_")


LABELS_OF_ROWS = {
    "str": ["b", "a", "b"],
    "whole numbers": [2, 1, 2],
    "bool": [True, False, True],
    "objects": np.array(["b", "a", "b"], dtype=object),
    "categories": pd.Categorical(["b", "a", "b"]),
    "nullable": pd.array(["b", "a", "b"], dtype="string"),
    "whole floats": [2.0, 1.0, 2.0],
}


@pytest.mark.parametrize("kind", LABELS_OF_ROWS)
def test_labels_may_be_of_any_kind(kind):
    search = of_vectors(n_neighbors=1).fit(np.eye(3), LABELS_OF_ROWS[kind])
    assert search.classes_.tolist() == sorted(set(LABELS_OF_ROWS[kind]))
    assert search.transform(np.eye(3)).tolist() == [[0, 1], [1, 0], [0, 1]]


def test_without_y_the_features_are_the_cosines(search):
    features = search.transform(["fox", "login"])
    assert features.dtype == np.float32
    assert_allclose(features, search.search(["fox", "login"])["score"].to_numpy().reshape(2, 2), atol=1e-6)
    assert search.get_feature_names_out().tolist() == ["semanticsearch0", "semanticsearch1"]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("of_numbers", [False, True], ids=["labels", "numbers"])
def test_no_row_sees_its_own_label(index, of_numbers):
    rows = np.repeat(np.eye(3), 20, axis=0)  # all neighbours are copies
    y = np.arange(60) + 0.5 if of_numbers else [f"own {row}" for row in range(60)]
    search = of_vectors(n_neighbors=19, index=index)
    features = search.fit_transform(rows, y)
    if of_numbers:
        others = [np.delete(np.arange(20), row % 20).mean() + 20 * (row // 20) + 0.5 for row in range(60)]
        assert_allclose(features[:, 0], others, rtol=1e-6)
    else:
        own = [search.classes_.tolist().index(label) for label in y]
        assert (features[np.arange(60), own] == 0).all()
        assert_allclose(features.sum(axis=1), 1, rtol=1e-6)


def test_fit_transform_leaves_a_fitted_search(vectors):
    search = of_vectors(n_neighbors=3)
    features = search.fit_transform(vectors)
    assert_allclose(features, 1 - search.kneighbors()[0], atol=1e-6)
    assert search.search(vectors, k=1)["position"].tolist() == list(range(60))


@pytest.mark.parametrize("y", [None, ["a", "b", "a", "b"], [0.5, 1.5, 2, 3]], ids=["no y", "labels", "numbers"])
@pytest.mark.parametrize("method", ["transform", "fit_transform"])
def test_a_missing_text_becomes_a_row_of_nan(y, method, tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), n_neighbors=1)
    X = ["fox", None, "dog", "login"]
    features = search.fit_transform(X, y) if method == "fit_transform" else search.fit(X, y).transform(X)
    assert np.isnan(features).all(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(features).any(axis=1).tolist() == [False, True, False, False]


def test_where_all_texts_are_missing_all_features_are(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), n_neighbors=2).fit(TEXTS)
    features = search.transform([None, None])
    assert features.shape == (2, 2)
    assert np.isnan(features).all()


def test_no_rows_have_no_features(search):
    assert search.transform([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([1, 2], ValueError, "y has 2 values for 6 documents"),
        ([1.0, 2, 3, NAN, 5, 6], ValueError, r"y\[3\] is missing"),
        (["a", "b", None, "a", "b", "c"], ValueError, r"y\[2\] is missing"),
        (pd.array([1, 2, 3, None, 5, 6], dtype="Int64"), ValueError, r"y\[3\] is missing"),
        (np.ones((6, 2)), ValueError, "y should be a 1d array"),
        ("abcdef", ValueError, "y should be a 1d array"),
    ],
    ids=["length", "NaN", "None", "NA", "two columns", "str"],
)
@pytest.mark.parametrize("method", ["fit", "fit_transform", "partial_fit"])
def test_a_y_that_does_not_fit_is_refused(method, y, error, message, embedder):
    with pytest.raises(error, match=message):
        getattr(SemanticSearch(embedder, n_neighbors=1), method)(TEXTS, y)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_features_can_be_a_frame(output, embedder):
    search = SemanticSearch(embedder, n_neighbors=1).set_output(transform=output)
    X = pd.Series(TEXTS, index=list("uvwxyz"))
    for frame in (search.fit_transform(X, list("aabbcc")), search.transform(X)):
        assert list(frame.columns) == ["semanticsearch_a", "semanticsearch_b", "semanticsearch_c"]
        assert frame.shape == (6, 3)
    if output == "pandas":
        assert frame.index.equals(X.index)


TRAINING = [f"{text} {word}" for text in ("a quick fox", "the wrong address") for word in "01234567"]
CLASSES = ["animal"] * 8 + ["post"] * 8


def test_it_is_a_step_of_a_pipeline_that_is_cross_validated(embedder):
    pipe = make_pipeline(SemanticSearch(embedder, n_neighbors=3, query_prompt=None), LogisticRegression())
    assert cross_val_score(pipe, TRAINING, CLASSES, cv=4).mean() > 0.9


def test_its_parameters_are_searched(embedder):
    pipe = make_pipeline(SemanticSearch(embedder), LogisticRegression())
    grid = {"semanticsearch__n_neighbors": np.arange(1, 4), "semanticsearch__index": INDEXES}
    made = GridSearchCV(pipe, grid, cv=2).fit(TRAINING, CLASSES)
    assert len(made.predict(TRAINING)) == 16
    assert set(made.cv_results_["param_semanticsearch__n_neighbors"]) == {1, 2, 3}
    assert np.isfinite(made.cv_results_["mean_test_score"]).all()


def test_it_stands_beside_other_features(embedder):
    union = make_union(SemanticSearch(embedder, n_neighbors=2), TfidfVectorizer())
    names = union.fit(TRAINING, CLASSES).get_feature_names_out().tolist()
    assert names[:2] == ["semanticsearch__semanticsearch_animal", "semanticsearch__semanticsearch_post"]
    assert union.transform(TRAINING).shape == (16, len(names))


@pytest.mark.parametrize("column", ["text", ["text"]], ids=["Series", "frame"])
def test_it_stands_in_a_column_transformer(column, embedder):
    frame = pd.DataFrame({"text": TRAINING, "n": range(16)}, index=range(100, 116))
    columns = make_column_transformer((SemanticSearch(embedder, n_neighbors=2), column), (StandardScaler(), ["n"]))
    made = columns.set_output(transform="pandas").fit_transform(frame, CLASSES)
    assert made.index.equals(frame.index)
    assert made.columns.tolist()[0] == "semanticsearch__semanticsearch_animal"


def test_it_follows_an_embedder_in_a_pipeline(embedder, search):
    pipe = make_pipeline(embedder, of_vectors(n_neighbors=2)).fit(TEXTS)
    assert_allclose(
        pipe.transform(["fox"]),
        SemanticSearch(embedder, n_neighbors=2, query_prompt=None).fit(TEXTS).transform(["fox"]),
        atol=1e-6,
    )


# As a scikit-learn estimator


def test_init_stores_its_arguments_and_nothing_else():
    expected = {
        "embedder": None, "n_neighbors": 5, "index": "auto", "query_prompt": "default", "document_prompt": "default",
    }  # fmt: skip
    assert SemanticSearch().get_params() == vars(SemanticSearch()) == expected


def test_fit_returns_itself(embedder):
    search = SemanticSearch(embedder)
    assert search.fit(TEXTS) is search


@pytest.mark.parametrize("index", INDEXES)
def test_a_clone_has_the_parameters_and_is_not_fitted(index, embedder):
    search = SemanticSearch(embedder, n_neighbors=3, index=index, query_prompt="Q: ", document_prompt=None).fit(TEXTS)
    copied = clone(search)
    assert copied.get_params(deep=False) | {"embedder": embedder} == search.get_params(deep=False)
    with pytest.raises(NotFittedError):
        copied.search("fox")


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_of_a_fitted_search_finds_the_same_and_lives_alone(index, copied, embedder):
    search = SemanticSearch(embedder, n_neighbors=2, index=index).fit(TEXTS, list("aabbcc"))
    expected, features = search.search(["fox", "login"]), search.transform(["fox"])
    other = copied(search)
    search.partial_fit(["fox", "login"], ["x", "x"])
    assert_frame_equal(other.search(["fox", "login"]), expected)
    assert_array_equal(other.transform(["fox"]), features)


@pytest.mark.parametrize("index", INDEXES)
def test_threads_find_what_one_finds(index, embedder):
    search = SemanticSearch(embedder, n_neighbors=3, index=index).fit(TRAINING)
    queries = [[text] for text in TRAINING] * 3
    expected = [search.search(query) for query in queries]
    skembed.clear_cache()
    with ThreadPoolExecutor(4) as threads:
        for found, wanted in zip(threads.map(search.search, queries), expected, strict=True):
            assert_frame_equal(found, wanted, atol=1e-6)


def test_what_was_found_stays_when_the_search_grows_or_goes(vectors):
    search = of_vectors(n_neighbors=2, index="hnsw").fit(vectors)
    features, hits = search.transform(vectors), search.search(vectors)
    kept = features.copy(), hits.copy()
    search.partial_fit(np.tile(vectors, (50, 1)))
    del search
    assert_array_equal(features, kept[0])
    assert_frame_equal(hits, kept[1])


@pytest.mark.parametrize("is_fitted", [False, True])
def test_it_is_shown_in_notebooks(is_fitted, embedder):
    search = SemanticSearch(embedder, n_neighbors=2)
    shown = (search.fit(TEXTS) if is_fitted else search)._repr_html_()
    assert "SemanticSearch" in shown
    assert "/nowhere" in of_vectors().fit(np.eye(5))._repr_html_()


def test_its_repr_shows_what_was_set():
    assert repr(SemanticSearch(n_neighbors=3, index="hnsw")) == "SemanticSearch(index='hnsw', n_neighbors=3)"


DO_NOT_FIT = {
    "check_n_features_in": "a column of texts has no number of features",
    "check_n_features_in_after_fitting": "a column of texts has no number of features",
    "check_estimators_empty_data_messages": "a matrix without columns has a message of its own",
    "check_fit1d": "one dimension is a column of texts, and numbers in it are refused with a TypeError",
    "check_fit2d_predict1d": "one dimension is a column of texts, and numbers in it are refused with a TypeError",
    "check_complex_data": "complex numbers are refused as every value that is neither text nor vector",
    "check_dtype_object": "a matrix of objects is no matrix of numbers, as for VectorArray",
    "check_transformer_data_not_an_array": "what is neither array nor frame is read as a column of texts",
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        SemanticSearch(HashingVectorizer(), n_neighbors=1),
        SemanticSearch(HashingVectorizer(), n_neighbors=2, index="hnsw"),
    ],
    expected_failed_checks=lambda estimator: DO_NOT_FIT,
)
def test_scikit_learns_check_passes_on_vectors(estimator, check):
    check(estimator)


def test_nullable_integers_stay_integers():
    search = SemanticSearch(n_neighbors=1).fit(np.eye(3), pd.Series([1, 2, 1], dtype="Int64"))
    assert search.get_feature_names_out().tolist() == ["semanticsearch_1", "semanticsearch_2"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_searches_after_its_parent_has():
    code = """
import os, numpy as np
from skembed import SemanticSearch
vectors = np.random.default_rng(0).normal(size=(20_000, 64)).astype("float32")
searches = [SemanticSearch(index=index).fit(vectors) for index in ("auto", "hnsw")]
for search in searches:
    search.kneighbors(vectors[:200])
child = os.fork()
if not child:
    for search in searches:
        search.kneighbors(vectors[:200])
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize("call", ["search", "kneighbors", "transform", "partial_fit"])
def test_texts_for_a_fine_tuner_that_vectors_have_not_fitted_are_refused(call):
    search = SemanticSearch(skembed.SentenceEmbeddingFineTuner(), n_neighbors=1).fit([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(NotFittedError, match="SentenceEmbeddingFineTuner instance is not fitted yet"):
        getattr(search, call)(["a text"])


@pytest.mark.parametrize("prompt", ["q: ", "", None])
def test_a_prompt_of_the_caller_is_shown_without_a_model(prompt):
    search = SemanticSearch(SentenceEmbeddingTransformer("no/such-model"), query_prompt=prompt)
    assert search.query_prompt_ == (prompt or "")


def test_a_missing_query_is_refused_before_anything_is_searched(embedder, monkeypatch):
    search = SemanticSearch(embedder, n_neighbors=1).fit(["a fox"])
    monkeypatch.setattr(type(search._documents.index), "nearest", lambda *_: pytest.fail("it was searched"))
    with pytest.raises(ValueError, match=r"queries\[1\] is missing"):
        search.search(["fox", None])
