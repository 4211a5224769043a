"""similarity, search, join, duplicates and cluster of columns of texts, and of given vectors."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from pandas.testing import assert_frame_equal, assert_index_equal
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

import skembed
from skembed import NearDuplicates, SentenceEmbeddingTransformer, TopicModel, TruncationWarning, VectorArray
from skembed.encoding.settings import Settings

TEXTS = ["a quick fox", "the wrong address", "a quick fox", "login", "an update of the app"]
LONG = "the quick brown fox " * 60
VERBS = ["similarity", "search", "join", "duplicates", "cluster"]
COLUMNS = {
    "similarity": ["score"],
    "search": ["query", "query_id", "rank", "score", "position", "id", "text"],
    "join": ["rank", "score", "position", "id", "text"],
    "duplicates": ["group", "is_duplicate", "representative", "representative_text", "score"],
    "cluster": ["cluster", "name", "rank", "score"],
}
INDEXES = {
    "labels": pd.Index(list("abcde"), name="id"),
    "doubled": pd.Index([7, 7, 8, 8, 7]),
    "levels": pd.MultiIndex.from_product([["a"], range(5)], names=["p", "q"]),
    "dates": pd.date_range("2026-01-01", periods=5, name="day"),
    "intervals": pd.interval_range(0, 5),
    "categories": pd.CategoricalIndex(list("aabbc")),
    "mixed": pd.Index([None, "b", 1, 2.5, (1, 2)], dtype=object),
}
OTHER = pd.Series(["the fox", "an address", "update", "log in"], index=list("wxyz"))


def call(accessor, verb, **params) -> pd.DataFrame:
    """Call a verb with plain arguments."""
    arguments = {
        "similarity": {"other": "a fox"},
        "search": {"query": ["a fox", "the address"], "k": 2},
        "join": {"other": OTHER, "k": 2},
        "duplicates": {"threshold": -1},
        "cluster": {"n_clusters": 2},
    }[verb]
    return getattr(accessor, verb)(**{**arguments, **params})


def unit(matrix) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=np.float64)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def order_of(queries, vectors, k) -> np.ndarray:
    """Return the positions of the nearest rows by brute force, ties in order of their positions."""
    return np.argsort(-(unit(queries) @ unit(vectors).T).round(12), axis=1, kind="stable")[:, :k]


@pytest.fixture
def column() -> pd.Series:
    return pd.Series(TEXTS, index=list("abcde"), name="review")


@pytest.fixture
def df(column) -> pd.DataFrame:
    return pd.DataFrame({"stars": [5, 1, 4, 2, 3], "review": column})


@pytest.fixture
def vectors(column, tiny) -> pd.Series:
    return column.embed(output="vector", model=tiny)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory) -> str:
    """Return a model of the same dimensions with other weights."""
    from tests.tiny_models import make_bert

    return make_bert(tmp_path_factory.mktemp("other") / "another", seed=9)


@pytest.fixture(autouse=True)
def _tiny_by_default(tiny, monkeypatch):
    """Make the tiny model the default."""
    monkeypatch.setattr(SentenceEmbeddingTransformer.__init__, "__defaults__", (tiny,))  # clone() sees its signature
    monkeypatch.setattr(Settings.__init__, "__defaults__", (tiny, *Settings.__init__.__defaults__[1:]))


@pytest.mark.parametrize("verb", VERBS)
class TestEveryVerb:
    def test_it_returns_its_columns(self, verb, column):
        assert call(column.text, verb).columns.tolist() == COLUMNS[verb]

    def test_frame_series_and_column_of_a_frame_give_the_same(self, verb, df):
        expected = call(df["review"].text, verb)
        assert_frame_equal(call(df.text, verb), expected)
        assert_frame_equal(call(df.text, verb, on="review"), expected)
        assert_frame_equal(call(df.text["review"], verb), expected)

    @pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
    def test_rows_keep_their_labels_whatever_the_index(self, verb, index, column):
        made, expected = call(column.set_axis(index).text, verb), call(column.reset_index(drop=True).text, verb)
        rows = expected.index
        assert_index_equal(made.index, index.take(rows), exact="equiv")
        labels = ["representative", "id"] if verb != "join" else "representative"
        assert_frame_equal(
            made.reset_index(drop=True).drop(columns=labels, errors="ignore"),
            expected.reset_index(drop=True).drop(columns=labels, errors="ignore"),
        )
        if verb == "search":
            assert made["id"].tolist() == made.index.tolist()

    def test_the_frame_is_not_changed(self, verb, df):
        before = df.copy(deep=True)
        call(df.text, verb, vectors=df["review"].embed())
        assert_frame_equal(df, before)

    def test_several_text_columns_are_an_error_that_names_them(self, verb, df):
        df["title"] = "x"
        with pytest.raises(ValueError, match=r"'review', 'title'\. Say which, e\.g\. on='review'"):
            call(df.text, verb)
        assert_frame_equal(call(df.text, verb, on="review"), call(df["review"].text, verb))

    def test_a_wrong_column_is_an_error(self, verb, df):
        with pytest.raises(KeyError, match="There is no column 'nope'"):
            call(df.text, verb, on="nope")
        with pytest.raises(TypeError, match="Column 'stars' is int64, not text"):
            call(df.text, verb, on="stars")

    def test_a_column_called_text_is_reached_by_brackets(self, verb, df):
        df = df.rename(columns={"review": "text"})
        assert_frame_equal(call(df["text"].text, verb), call(df["text"].rename("review").text, verb))

    def test_a_value_that_is_not_a_text_is_named_by_position_and_label(self, verb, column):
        column = column.astype(object)
        column.iloc[1] = 3.5
        with pytest.raises(TypeError, match=r"\[1\] \(index label 'b'\) is float, not str"):
            call(column.text, verb)

    @pytest.mark.parametrize("of_frame", [True, False], ids=["frame", "column"])
    def test_an_unknown_parameter_is_refused_with_the_verb_and_what_it_takes(self, verb, of_frame, df, vectors):
        accessor = df.text if of_frame else df["review"].text
        own = {"similarity": "other", "search": "k", "join": "other_vectors", "duplicates": "threshold"}.get(verb, "")
        message = (
            rf"^text\.{verb}\(\) got an unexpected keyword argument 'poolin'; it takes (?=.*{own}.*pooling).*vectors.*"
        )
        with pytest.raises(TypeError, match=message) as refused:
            call(accessor, verb, vectors=vectors, poolin="cls")
        assert ("takes on, " in str(refused.value)) == of_frame

    def test_parameters_of_the_transformer_are_passed_on(self, verb, column):
        vectors = column.embed(pooling="cls", output="vector")
        query = {"query": OTHER.embed(pooling="cls")} if verb == "search" else {}
        query = {"other": OTHER.embed(pooling="cls", output="vector")} if verb == "join" else query
        query = {"other": OTHER.embed(pooling="cls", output="numpy")[0]} if verb == "similarity" else query
        made = call(column.text, verb, pooling="cls", prompt="", **query)
        assert_allclose(made["score"], call(column.text, verb, vectors=vectors, **query)["score"], atol=1e-5)
        assert not np.allclose(made["score"], call(column.text, verb, pooling="mean", prompt="", **query)["score"])

    def test_a_missing_text_is_an_error_if_that_is_asked_for(self, verb, column):
        column.iloc[2] = None
        with pytest.raises(ValueError, match=r"\[2\] \(index label 'c'\) is missing"):
            call(column.text, verb, missing="error")

    def test_texts_are_encoded_once(self, verb, df, counted):
        call(df.text, verb)
        n_texts = len(counted)
        assert n_texts == len(set(counted)) > 0
        call(df.text, verb)
        call(df["review"].text, verb)
        assert len(counted) == n_texts

    def test_a_truncation_warning_points_to_the_caller(self, verb):
        df = pd.DataFrame({"review": [LONG, LONG + "!"]})
        other = {"other": ["x", "y"]} if verb == "join" else {}
        for accessor in (df.text, df["review"].text, df.text["review"]):
            with pytest.warns(TruncationWarning, match="2 of 2") as caught:
                getattr(accessor, verb)(**{**other, **_few_arguments(verb)})
            assert [warning.filename for warning in caught] == [__file__]

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda vectors: vectors[:3], ValueError, "vectors has 3 rows for 5 texts"),
            (lambda vectors: vectors[::-1], ValueError, "vectors has other index labels than the column"),
            (lambda vectors: vectors.to_frame()[::-1], ValueError, "vectors has other index labels than the column"),
            (lambda vectors: pd.Series(TEXTS, index=vectors.index), TypeError, "vector"),
            (lambda vectors: TEXTS, TypeError, r"vectors\[0\] is str, not a vector of numbers"),
            (lambda vectors: np.ones(5), TypeError, r"vectors\[0\] is float64, not a vector"),
            (lambda vectors: [1, 2, 3, 4, 5], TypeError, r"vectors\[0\] is int, not a vector"),
        ],
        ids=["rows", "order", "order of a frame", "texts", "list of texts", "numbers", "list of numbers"],
    )
    def test_what_are_no_vectors_of_these_rows_is_an_error(self, verb, make, error, message, column, vectors):
        with pytest.raises(error, match=message):
            call(column.text, verb, vectors=make(vectors))

    def test_for_a_frame_vectors_may_be_a_label(self, verb, df, vectors, counted):
        expected = call(df.text, verb, vectors=vectors)
        df["v"], df[0] = vectors, vectors
        counted.clear()
        assert_frame_equal(call(df.text, verb, vectors="v"), expected)
        assert_frame_equal(call(df.text, verb, vectors=0), expected)
        assert counted == []

    def test_a_frame_of_vectors_under_one_label_counts(self, verb, column):
        wide = column.embed()
        wide.columns = pd.MultiIndex.from_product([["v"], range(32)])
        df = pd.concat([column.to_frame().set_axis([("said", "review")], axis=1), wide], axis=1)
        df.columns = pd.MultiIndex.from_tuples(df.columns)
        expected = call(column.text, verb, vectors=column.embed())
        assert_frame_equal(call(df.text, verb, vectors="v"), expected)

    def test_a_wrong_label_of_vectors_is_an_error(self, verb, df, column):
        for label in ("nope", ("no", "pe"), 3):
            with pytest.raises(KeyError, match=r"There is no column .*(nope|pe|3).* of vectors"):
                call(df.text, verb, vectors=label)
        with pytest.raises(TypeError, match="vector"):
            call(df.text, verb, vectors="stars")
        with pytest.raises(TypeError, match="'v' is not a column of vectors"):
            call(column.text, verb, vectors="v")


@pytest.mark.parametrize("verb", ["similarity", "search", "join"])
def test_vectors_of_other_dimensions_are_an_error_with_both_numbers(verb, column):
    with pytest.raises(ValueError, match=r"(3 .*32|32 .*3)"):
        call(column.text, verb, vectors=np.ones((5, 3)))


def _few_arguments(verb) -> dict:
    return {
        "similarity": {"other": "x"},
        "search": {"query": "x", "k": 1},
        "join": {"k": 1},
        "duplicates": {},
        "cluster": {"n_clusters": 1},
    }[verb]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
class TestMissingTexts:
    @pytest.fixture
    def gappy(self, missing) -> pd.Series:
        return pd.Series(["a quick fox", missing, "login", "a quick fox"], index=list("abcd"), dtype=object)

    def test_their_similarity_is_nan(self, gappy):
        assert gappy.text.similarity("a fox")["score"].isna().tolist() == [False, True, False, False]
        other = pd.Series(["x", "y", None, "z"], index=gappy.index)
        assert gappy.text.similarity(other)["score"].isna().tolist() == [False, True, True, False]

    def test_search_never_finds_them(self, gappy):
        assert sorted(gappy.text.search("x", k=3).index) == ["a", "c", "d"]
        with pytest.raises(ValueError, match=r"4 .* there are 3"):
            gappy.text.search("x", k=4)

    def test_join_keeps_their_rows_and_finds_nothing(self, gappy):
        joined = gappy.text.join(OTHER, k=2)
        assert joined.index.tolist() == list("aabbccdd")
        assert joined["rank"].tolist() == [1, 2] * 4
        lost = [False, False, True, True, False, False, False, False]
        for name in ("score", "position", "id", "text"):
            assert joined[name].isna().tolist() == lost
        assert joined["position"].dtype == "Int64"
        assert joined["position"].iloc[2] is pd.NA

    def test_join_never_finds_them(self, gappy):
        assert set(OTHER.text.join(gappy, k=3)["id"]) == set("acd")

    def test_they_are_in_no_group(self, gappy):
        groups = gappy.text.duplicates(0.9999)
        assert groups["group"].tolist() == [0, -1, 1, 0]
        assert groups["is_duplicate"].tolist() == [False, False, False, True]
        assert groups["representative"].tolist() == list("abca")
        assert groups["score"].isna().tolist() == [False, True, False, False]

    def test_they_are_in_no_cluster(self, gappy):
        clusters = gappy.text.cluster(2)
        assert clusters.isna().all(axis=1).tolist() == [False, True, False, False]
        assert clusters["cluster"].iloc[1] is pd.NA
        assert clusters["rank"].dtype == clusters["cluster"].dtype == "Int64"


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_join_finds_labels_of_any_index_and_missing_ones(index):
    found = pd.Series([TEXTS[1], None]).text.join(pd.Series(TEXTS, index=index), prompt="")["id"]
    assert found[0] == index.to_flat_index()[1]
    assert pd.isna(found[1])


class TestNoRows:
    """A column without rows: an empty table, or an error if rows must be found."""

    @pytest.mark.parametrize("verb", ["similarity", "join", "duplicates"])
    def test_an_empty_column_returns_an_empty_table_of_the_same_columns(self, verb, df):
        for accessor in (df[:0].text, df["review"][:0].text):
            made = call(accessor, verb)
            assert made.shape == (0, len(COLUMNS[verb]))
            assert made.columns.tolist() == COLUMNS[verb]

    def test_a_table_of_no_rows_can_be_put_below_one_of_some(self, df):
        some, none = df.text.join(OTHER), df[:0].text.join(OTHER)
        assert_frame_equal(pd.concat([none, some])[["rank", "score", "position"]], some[["rank", "score", "position"]])

    @pytest.mark.parametrize("queries", [[], np.array([]), np.empty((0, 32)), pd.Series([], dtype=object)], ids=repr)
    def test_no_queries_find_nothing(self, queries, column):
        assert column.text.search(queries, k=2).shape == (0, 7)

    def test_nothing_is_found_in_no_texts_which_is_an_error(self, column):
        for empty in (column[:0], pd.Series([None, None], dtype=object)):
            with pytest.raises(ValueError, match=f"nothing to search: the corpus has {len(empty)} rows"):
                empty.text.search("x", k=1)
            with pytest.raises(ValueError, match=f"nothing to search: the corpus has {len(empty)} rows"):
                column.text.join(empty)

    def test_no_texts_make_no_clusters_which_is_an_error(self, column):
        with pytest.raises(ValueError, match="2 clusters were asked for, but there are 0 rows with a text"):
            column[:0].text.cluster(2)
        with pytest.raises(ValueError, match="There are no clusters, because there are 0 rows with a text"):
            column[:0].text.cluster()

    def test_a_column_of_missing_texts_has_no_pairs_groups_or_hits(self):
        column = pd.Series([None, None], dtype=object)
        assert column.text.similarity("x")["score"].isna().all()
        assert column.text.join(OTHER)["id"].isna().all()
        assert column.text.duplicates()["group"].tolist() == [-1, -1]


def _float16(vectors) -> np.ndarray:
    return vectors.to_numpy("float32").astype(np.float16)


def _not_contiguous(vectors) -> np.ndarray:
    return np.repeat(vectors.to_numpy("float64"), 2, axis=1)[:, ::2]


def _read_only(vectors) -> np.ndarray:
    matrix = vectors.to_numpy("float32", copy=True)
    matrix.flags.writeable = False
    return matrix


def _arrow(number, size=-1):
    dtype = pd.ArrowDtype(pa.list_(number, size))
    return lambda vectors: pd.Series(vectors.tolist(), index=vectors.index, name=vectors.name).astype(dtype)


COLUMNS_OF_VECTORS = {
    "vector column": lambda vectors: vectors,
    "arrays": lambda vectors: vectors.astype(object),
    "lists": lambda vectors: pd.Series([vector.tolist() for vector in vectors], index=vectors.index, dtype=object),
    "fixed-size lists of arrow": _arrow(pa.float32(), 32),
    "lists of arrow": _arrow(pa.float64()),
}
CONTAINERS = {
    **COLUMNS_OF_VECTORS,
    "vector array": lambda vectors: vectors.array,
    "frame of one column": lambda vectors: vectors.to_frame(),
    "wide frame": lambda vectors: pd.DataFrame(vectors.to_numpy("float32"), index=vectors.index),
    "list of arrays": list,
    "float32": lambda vectors: vectors.to_numpy("float32"),
    "float64": lambda vectors: vectors.to_numpy("float64"),
    "float16": _float16,
    "not contiguous": _not_contiguous,
    "read-only": _read_only,
    "pyarrow": lambda vectors: pa.array(vectors),
    "polars": lambda vectors: pl.Series([vector.tolist() for vector in vectors]),
}


def assert_close(made, expected, rough=False) -> None:
    made, expected = (
        table.drop(columns=["query", "text", "representative_text"], errors="ignore") for table in (made, expected)
    )
    assert_frame_equal(made, expected, check_exact=False, atol=1e-2 if rough else 1e-5, rtol=0)


@pytest.mark.parametrize(("name", "make"), CONTAINERS.items(), ids=CONTAINERS)
class TestVectorsThatAreThere:
    def test_they_stand_for_the_texts(self, name, make, column, vectors, counted):
        asked = {verb: {} for verb in VERBS}
        asked["similarity"] = {"other": vectors.iloc[1]}
        asked["search"] = {"query": vectors.iloc[1], "k": 1}
        asked["join"] = {"other": vectors}
        expected = {verb: call(column.text, verb, prompt="", **asked[verb]) for verb in VERBS}
        counted.clear()
        for verb in VERBS:
            made = call(column.text, verb, vectors=make(vectors), **asked[verb])
            if name == "float16":  # its order may be another
                assert_close(made[["score"]], expected[verb][["score"]], rough=True)
            else:
                assert_close(made, expected[verb])
        assert counted == []

    def test_they_are_compared(self, name, make, column, vectors, counted):
        other = vectors.iloc[::-1].set_axis(vectors.index)
        expected = column.text.similarity(column.iloc[::-1].set_axis(column.index))
        counted.clear()
        assert_close(column.text.similarity(make(other), vectors=vectors), expected, rough=name == "float16")
        assert counted == []

    def test_they_are_queries(self, name, make, column, vectors, counted):
        expected = column.text.search(column, k=1, prompt="")
        counted.clear()
        made = column.text.search(make(vectors), k=1, vectors=vectors)
        other = ["query", "query_id"]  # of vectors without an index: their positions
        assert_close(made.drop(columns=other), expected.drop(columns=other), rough=name == "float16")
        assert made["query"].tolist() == [0, 1, 2, 3, 4]
        assert made["text"].tolist() == TEXTS
        assert counted == []

    def test_they_are_where_join_looks(self, name, make, column, vectors, counted):
        expected = column.text.join(column, k=2, prompt="")
        label = expected["id"] if name in _LABELLED else expected["position"]
        counted.clear()
        made = column.text.join(make(vectors), k=2, vectors=vectors)
        assert_close(made[["rank", "score"]], expected[["rank", "score"]], rough=name == "float16")
        assert made["text"].isna().all()
        if name != "float16":
            assert made["position"].tolist() == expected["position"].tolist()
            assert made["id"].tolist() == label.tolist()
        assert counted == []

    def test_they_stand_for_the_texts_where_join_looks(self, name, make, column, vectors, counted):
        expected = column.text.join(column, k=1, prompt="")
        counted.clear()
        made = column.text.join(column, k=1, vectors=vectors, other_vectors=make(vectors))
        assert_close(made, expected, rough=name == "float16")
        assert made["text"].tolist() == TEXTS
        assert counted == []


_LABELLED = [*COLUMNS_OF_VECTORS, "frame of one column", "wide frame"]


@pytest.mark.parametrize("make", COLUMNS_OF_VECTORS.values(), ids=COLUMNS_OF_VECTORS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_column_of_vectors_has_the_verbs_itself(verb, make, column, vectors, counted):
    asked = {"query": vectors, "k": 1} if verb == "search" else {}
    asked = {"other": vectors} if verb in ("similarity", "join") else asked
    expected = call(column.text, verb, prompt="", **asked)
    counted.clear()
    made = call(make(vectors).text, verb, **asked)
    if verb == "cluster":  # vectors have no words for a name
        assert set(made.pop("name")) == {"topic 0", "topic 1"}
        expected = expected.drop(columns="name")
    assert_close(made, expected)
    assert counted == []
    if verb == "search":
        assert made["text"].isna().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda vector: vector,
        lambda vector: vector.tolist(),
        lambda vector: tuple(vector.tolist()),
        lambda vector: vector.astype(np.float16),
        lambda vector: np.repeat(vector, 3)[::3],
        lambda vector: [vector],
        lambda vector: vector[None],
    ],
    ids=["array", "list", "tuple", "float16", "strided", "list of one", "matrix of one"],
)
def test_one_vector_is_one_query(make, column, vectors, counted):
    counted.clear()
    found = column.text.search(make(vectors.iloc[3]), k=1, vectors=vectors)
    assert found.index.tolist() == ["d"]
    assert found["query"].tolist() == [0]
    assert counted == []


class TestSimilarity:
    def test_one_text_is_compared_with_every_row(self, column):
        expected = unit(skembed.embed(TEXTS)) @ unit(skembed.embed(["a fox"]))[0]
        assert_allclose(column.text.similarity("a fox")["score"], expected, atol=1e-5)
        assert column.text.similarity("a quick fox")["score"].max() <= 1

    def test_one_vector_is_compared_with_every_row(self, column):
        vector = np.random.default_rng(0).normal(size=32)
        expected = unit(skembed.embed(TEXTS)) @ unit([vector])[0]
        for one in (vector, vector.tolist()):
            assert_allclose(column.text.similarity(one)["score"], expected, atol=1e-5)

    @pytest.mark.parametrize("make", [list, np.array, pd.Index, pl.Series, pa.array], ids=lambda make: make.__name__)
    def test_other_containers_are_compared_row_by_row(self, make, column):
        assert_allclose(column.text.similarity(make(TEXTS))["score"], np.ones(5), atol=1e-6)

    def test_a_series_is_brought_into_the_order_of_the_labels(self, column, vectors):
        shuffled = [3, 1, 4, 0, 2]
        for other in (column, vectors, vectors.to_frame(), column.embed()):
            assert_allclose(column.text.similarity(other.iloc[shuffled])["score"], np.ones(5), atol=1e-6)

    def test_doubled_labels_in_the_same_order_are_compared_and_in_another_refused(self, column):
        doubled = column.set_axis([1, 1, 2, 2, 3])
        assert_allclose(doubled.text.similarity(doubled)["score"], np.ones(5), atol=1e-6)
        with pytest.raises(ValueError, match="other has other index labels"):
            doubled.text.similarity(doubled[::-1])

    @pytest.mark.parametrize("rows", [slice(0, 3), slice(0, 0)])
    def test_other_labels_are_an_error(self, rows, column):
        with pytest.raises(ValueError, match="other has other index labels"):
            column.text.similarity(column[rows])
        with pytest.raises(ValueError, match="other has other index labels"):
            column.text.similarity(column.reset_index(drop=True))

    @pytest.mark.parametrize("n_rows", [0, 1, 4, 6])
    def test_other_lengths_are_an_error_with_both_numbers(self, n_rows, column):
        with pytest.raises(ValueError, match=f"other has {n_rows} rows for 5"):
            column.text.similarity(["x"] * n_rows)

    def test_a_list_of_one_text_is_not_a_single_text(self):
        assert pd.Series(["x"]).text.similarity(["x"])["score"].tolist() == pytest.approx([1])
        with pytest.raises(ValueError, match="other has 1 rows for 2"):
            pd.Series(["x", "y"]).text.similarity(["x"])

    @pytest.mark.parametrize("other", [None, 42, 4.2, pd.NA, {"a": 1}], ids=str)
    def test_a_value_that_is_not_a_text_is_an_error(self, other, column):
        with pytest.raises(TypeError, match="not a column of text"):
            column.text.similarity(other)

    @pytest.mark.parametrize("other", [[np.nan] * 5, np.full(5, np.nan), [None] * 5], ids=["list", "array", "None"])
    def test_a_column_of_nothing_but_nan_is_one_of_missing_texts(self, other, column):
        assert column.text.similarity(other)["score"].isna().all()

    def test_an_empty_text_is_a_text(self, column):
        assert column.text.similarity("")["score"].notna().all()

    def test_a_vector_of_zeros_is_like_nothing(self, column):
        assert (column.text.similarity(np.zeros(32))["score"] == 0).all()

    def test_a_long_other_side_warns_at_the_callers_line(self, column):
        with pytest.warns(TruncationWarning, match="1 of 1") as caught:
            column.text.similarity(LONG)
        assert [warning.filename for warning in caught] == [__file__]

    def test_the_real_model_finds_meaning(self, minilm_folder):
        reviews = pd.Series(["Great sound.", "The zip broke.", "Too heavy."])
        score = reviews.text.similarity("It fell apart.", model=minilm_folder)["score"]
        assert score.idxmax() == 1

    @given(seed=st.integers(0, 2**32 - 1))
    @settings(deadline=None, max_examples=25)
    def test_it_is_the_cosine(self, seed):
        left, right = np.random.default_rng(seed).normal(size=(2, 6, 4))
        column = pd.Series(VectorArray(left))
        expected = (unit(left) * unit(right)).sum(axis=1)
        assert_allclose(column.text.similarity(right)["score"], expected, atol=1e-6)


class TestSearch:
    def test_hits_stand_under_the_labels_of_their_rows(self, column):
        hits = column.text.search("login", k=3)
        assert hits["rank"].tolist() == [1, 2, 3]
        assert hits["query"].tolist() == ["login"] * 3
        assert hits.index.tolist() == column.index[hits["position"]].tolist()
        assert hits["text"].tolist() == column.iloc[hits["position"]].tolist()
        assert hits["score"].is_monotonic_decreasing

    def test_of_equal_rows_the_first_comes_first(self, column):
        hits = column.text.search("a quick fox", k=2, prompt="")
        assert hits.index.tolist() == ["a", "c"]
        assert hits["score"].nunique() == 1

    def test_five_are_found_by_default(self, column):
        assert len(column.text.search("x")) == 5

    def test_the_score_joins_with_the_frame(self, df):
        joined = df.join(df.text.search("login", k=2)["score"], how="right")
        assert joined.columns.tolist() == ["stars", "review", "score"]

    @pytest.mark.parametrize("make", [list, np.array, pd.Series, pl.Series, pa.array], ids=lambda make: make.__name__)
    def test_several_queries_come_in_any_container(self, make, column):
        assert column.text.search(make(["a", "b"]), k=1)["query"].tolist() == ["a", "b"]

    def test_queries_get_the_prompt_of_the_model_for_queries(self, column):
        vectors = skembed.embed(TEXTS), skembed.embed(["a fox"], prompt_name="query")
        expected = order_of(vectors[1], vectors[0], 5)
        assert column.text.search("a fox")["position"].tolist() == expected[0].tolist()

    @pytest.mark.parametrize(
        ("query", "error", "message"),
        [
            (None, TypeError, "queries is None"),
            (42, TypeError, "not a column of text"),
            (["a", None], ValueError, r"queries\[1\] is missing"),
            ([np.nan], ValueError, r"queries\[0\] is missing"),
            (["a", 42], TypeError, r"queries\[1\] is int, not str"),
            (np.ones(3), ValueError, "3 dimensions.* 32"),
        ],
    )
    def test_an_invalid_query_is_an_error(self, query, error, message, column):
        with pytest.raises(error, match=message):
            column.text.search(query, k=1)

    @pytest.mark.parametrize("k", [0, -1, True, 2.0, "2", None], ids=repr)
    def test_k_is_a_positive_integer(self, k, column, counted):
        with pytest.raises(ValueError, match="k must be a positive integer; got"):
            column.text.search("x", k=k)
        with pytest.raises(ValueError, match="k must be a positive integer; got"):
            column.text.join(OTHER, k=k)
        assert counted == []

    def test_k_may_be_an_integer_of_numpy(self, column):
        assert len(column.text.search("x", k=np.int64(2))) == 2
        assert len(column.text.join(OTHER, k=np.int64(2))) == 10

    def test_equal_queries_keep_their_labels(self, column):
        hits = column.text.search(pd.Series(["a fox", "a fox"], index=["q1", "q2"]), k=2)
        assert hits["query_id"].tolist() == ["q1", "q1", "q2", "q2"]
        assert hits["query"].tolist() == ["a fox"] * 4

    def test_a_blank_query_warns_at_the_callers_line(self, column):
        for ask, where in (
            (lambda: column.text.search("  ", k=1), r"queries\[0\]"),
            (lambda: pd.Series(["a", ""], index=["p", "q"]).text.join(column), r"series\[1\] \(index label 'q'\)"),
        ):
            with pytest.warns(UserWarning, match=f"{where} is empty or blank") as caught:
                ask()
            assert [warning.filename for warning in caught] == [__file__]

    def test_more_hits_than_texts_are_an_error_with_both_numbers(self, column):
        with pytest.raises(ValueError, match=r"6 .* there are 5"):
            column.text.search("x", k=6)
        with pytest.raises(ValueError, match=r"5 .* there are 4"):
            column.text.join(OTHER, k=5)

    def test_a_long_query_warns_at_the_callers_line(self, column):
        with pytest.warns(TruncationWarning, match="1 of 1") as caught:
            column.text.search(LONG, k=1)
        assert [warning.filename for warning in caught] == [__file__]

    @given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12))
    @settings(deadline=None, max_examples=25)
    def test_it_is_the_order_of_all_cosines(self, seed, k):
        numbers = np.random.default_rng(seed)
        vectors = numbers.integers(-1, 2, size=(12, 3)) + 0.5  # so that there are ties
        queries = numbers.integers(-1, 2, size=(4, 3)) + 0.5
        hits = pd.Series(VectorArray(vectors)).text.search(queries, k=k)
        assert_array_equal(hits["position"].to_numpy().reshape(4, k), order_of(queries, vectors, k))
        cosines = unit(queries) @ unit(vectors).T
        assert_allclose(hits["score"], cosines[hits["query"], hits["position"]], atol=1e-6)


class TestJoin:
    def test_each_row_is_there_k_times_with_what_was_found(self, column):
        joined = column.text.join(OTHER, k=2)
        assert joined.index.tolist() == list("aabbccddee")
        assert joined["rank"].tolist() == [1, 2] * 5
        assert joined["id"].tolist() == OTHER.index[joined["position"]].tolist()
        assert joined["text"].tolist() == OTHER.iloc[joined["position"]].tolist()

    def test_the_label_joins_with_the_frame_that_was_looked_in(self, column):
        answers = pd.DataFrame({"answer": OTHER, "n": range(4)}, index=OTHER.index)
        joined = column.text.join(answers["answer"]).join(answers, on="id")
        assert joined["answer"].tolist() == joined["text"].tolist()

    @pytest.mark.parametrize(
        "make",
        [list, np.array, pd.Index, pl.Series, pa.array, lambda texts: pd.Series(texts, dtype="category")],
        ids=["list", "array", "index", "polars", "pyarrow", "categories"],
    )
    def test_other_containers_of_texts_are_labelled_by_position(self, make, column):
        joined = column.text.join(make(OTHER.tolist()))
        assert joined["id"].tolist() == joined["position"].tolist()
        assert joined["text"].tolist() == OTHER.iloc[joined["position"]].tolist()

    def test_a_frame_of_one_column_keeps_its_labels(self, column):
        assert_frame_equal(column.text.join(OTHER.to_frame()), column.text.join(OTHER))

    def test_one_text_is_a_column_of_one(self, column):
        assert column.text.join("a fox")["id"].tolist() == [0] * 5

    @pytest.mark.parametrize(
        ("other", "error", "message"),
        [
            (None, TypeError, "not a column of text"),
            (42, TypeError, "not a column of text"),
            (["a", 42], TypeError, r"other\[1\] is int, not str"),
            (pd.DataFrame({"x": ["a"], "y": ["b"]}), ValueError, "2 columns"),
            (np.ones((2, 3)), ValueError, "32 dimensions.* 3"),
        ],
        ids=["None", "number", "number in a list", "two columns", "dimensions"],
    )
    def test_a_value_that_is_not_a_column_is_an_error(self, other, error, message, column):
        with pytest.raises(error, match=message):
            column.text.join(other)

    def test_vectors_of_the_other_column_must_have_its_rows(self, column, vectors):
        with pytest.raises(ValueError, match="vectors has 5 rows for 4 texts"):
            column.text.join(OTHER, other_vectors=vectors)
        with pytest.raises(TypeError, match="not a vector"):
            column.text.join(OTHER, other_vectors=OTHER.tolist())

    def test_a_long_other_side_warns_at_the_callers_line(self, column):
        with pytest.warns(TruncationWarning, match="1 of 1") as caught:
            column.text.join([LONG])
        assert [warning.filename for warning in caught] == [__file__]

    def test_the_real_model_finds_answers(self, minilm_folder):
        asked = pd.Series(["Where is my parcel?", "It does not start."])
        answers = pd.Series(["Delivery takes two days.", "Charge it first."], index=["a1", "a2"])
        assert asked.text.join(answers, model=minilm_folder)["id"].tolist() == ["a1", "a2"]

    @given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
    @settings(deadline=None, max_examples=25)
    def test_it_is_the_order_of_all_cosines(self, seed, k):
        numbers = np.random.default_rng(seed)
        left, right = numbers.integers(-1, 2, size=(7, 3)) + 0.5, numbers.integers(-1, 2, size=(9, 3)) + 0.5
        joined = pd.Series(VectorArray(left)).text.join(right, k=k)
        assert_array_equal(joined["position"].to_numpy(np.intp).reshape(7, k), order_of(left, right, k))
        cosines = unit(left) @ unit(right).T
        assert_allclose(joined["score"], cosines[joined.index, joined["position"].to_numpy(np.intp)], atol=1e-6)


TURNS = pd.Series(VectorArray([[1, 0], [0.9, 0.3], [0, 1], [np.nan, np.nan]]), index=list("abcd"))
GOALS = pd.Series(VectorArray([[0.95, 0.2], [1, -0.3], [np.nan, np.nan]]), index=list("xyz"))


class TestJoinWithALowestScore:
    def test_what_is_below_is_missing_and_the_row_stays(self):
        joined = TURNS.text.join(GOALS, min_score=0.9)
        assert joined.index.tolist() == list("abcd")
        assert joined["rank"].tolist() == [1] * 4
        assert joined["id"].tolist()[:2] == ["x", "x"]
        for name in ("score", "position", "id", "text"):
            assert joined[name].isna().tolist() == [name == "text", name == "text", True, True]

    def test_each_row_keeps_its_k_places_and_the_ranks_that_reach_it(self):
        joined = TURNS.text.join(GOALS, k=2, min_score=0.9)
        assert joined.index.tolist() == list("aabbccdd")
        assert joined.dropna(subset="score")["rank"].tolist() == [1, 2, 1]
        assert_frame_equal(joined.iloc[:3], TURNS.text.join(GOALS, k=2).iloc[:3])

    @pytest.mark.parametrize("one_to_one", [False, True])
    def test_a_cosine_so_little_below_as_rounding_reaches_it(self, one_to_one):
        score = TURNS[:1].text.join(GOALS[:1])["score"].iloc[0]
        for min_score, is_found in ((score + 0.9e-6, True), (score + 1.1e-6, False)):
            joined = TURNS[:1].text.join(GOALS[:1], min_score=min_score, one_to_one=one_to_one)
            assert joined["score"].notna().tolist() == [is_found]

    @pytest.mark.parametrize("min_score", [1.1, -1.1, np.nan, "0.9", True], ids=repr)
    def test_it_is_a_cosine(self, min_score, column, counted):
        with pytest.raises(ValueError, match="min_score must be None or a cosine"):
            column.text.join(OTHER, min_score=min_score)
        assert counted == []


class TestJoinOneToOne:
    def test_no_row_is_found_twice_and_rows_without_a_partner_stay(self):
        joined = TURNS.text.join(GOALS, one_to_one=True)
        assert joined.index.tolist() == list("abcd")
        assert joined["rank"].tolist() == [1] * 4
        assert joined["id"].dropna().to_dict() == {"a": "y", "b": "x"}
        assert joined["position"].dtype == "Int64"
        assert joined.dtypes.equals(TURNS.text.join(GOALS).dtypes)

    def test_pairs_below_the_lowest_score_are_left_out_first(self):
        joined = TURNS[:2].text.join(GOALS, min_score=0.96, one_to_one=True)
        assert joined["id"].dropna().to_dict() == {"b": "x"}

    def test_texts_are_linked_under_their_labels_and_equal_ones_in_order(self, column):
        joined = column.text.join(column[["c", "e", "a"]], min_score=0.999, one_to_one=True, prompt="")
        assert joined["id"].dropna().to_dict() == {"a": "c", "c": "a", "e": "e"}
        assert joined["text"].dropna().to_dict() == {row: column[row] for row in "ace"}

    @given(seed=st.integers(0, 2**32 - 1), min_score=st.sampled_from([None, 0.0, 0.4]))
    @settings(deadline=None, max_examples=25)
    def test_the_sum_is_that_of_the_dense_assignment(self, seed, min_score):
        numbers = np.random.default_rng(seed)
        left, right = numbers.normal(size=(7, 3)), numbers.normal(size=(9, 3))
        cosines = unit(left) @ unit(right).T
        gains = cosines if min_score is None else np.where(cosines >= min_score, cosines, 0)
        joined = pd.Series(VectorArray(left)).text.join(right, min_score=min_score, one_to_one=True)
        assert joined["score"].sum() == pytest.approx(
            gains[linear_sum_assignment(gains, maximize=True)].sum(), abs=1e-5
        )

    def test_it_finds_one_row_for_each(self, column, counted):
        with pytest.raises(ValueError, match="one_to_one=True finds one row for each, and k is 2; omit one of the two"):
            column.text.join(OTHER, k=2, one_to_one=True)
        with pytest.raises(ValueError, match="one_to_one must be True or False; got 1"):
            column.text.join(OTHER, one_to_one=1)
        assert counted == []

    @pytest.mark.parametrize(("n_left", "n_right"), [(20_001, 1), (1, 20_001)])
    def test_many_rows_need_a_lowest_score(self, n_left, n_right):
        left, right = (pd.Series(VectorArray(np.ones((n, 1)))) for n in (n_left, n_right))
        with pytest.raises(ValueError, match=r"at most 20,000 rows a side, .* has 20,001; set min_score"):
            left.text.join(right, one_to_one=True)
        assert left.text.join(right, min_score=1, one_to_one=True)["score"].sum() == 1

    def test_a_frame_takes_the_same_parameters(self, df):
        expected = df["review"].text.join(OTHER, min_score=0.2, one_to_one=True)
        assert_frame_equal(df.text.join(OTHER, min_score=0.2, one_to_one=True), expected)

    def test_nothing_to_link_with_is_an_error(self, column):
        with pytest.raises(ValueError, match="nothing to search: the corpus has 0 rows"):
            column.text.join(column[:0], one_to_one=True)


class TestDuplicates:
    @pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
    def test_a_representative_is_the_label_of_the_first_of_its_group(self, index, column):
        groups = column.set_axis(index).text.duplicates(0.9999)
        labels = index.to_flat_index()
        assert groups["group"].tolist() == [0, 1, 0, 2, 3]
        assert groups["is_duplicate"].tolist() == [False, False, True, False, False]
        for row, first in enumerate([0, 1, 0, 3, 4]):
            found = groups["representative"].iloc[row]
            assert found == labels[first] or pd.isna(found)

    def test_the_text_of_the_representative_is_beside_it(self, column):
        groups = column.text.duplicates(0.9999)
        assert groups["representative_text"].tolist() == ["a quick fox", "the wrong address", "a quick fox", *TEXTS[3:]]
        vectors = column.embed(output="vector")
        assert_frame_equal(column.text.duplicates(0.9999, vectors=vectors), groups)
        assert vectors.text.duplicates(0.9999)["representative_text"].isna().all()

    def test_in_a_star_every_row_is_near_its_representative(self):
        arc = VectorArray(np.array([[np.cos(turn), np.sin(turn)] for turn in np.radians([0, 20, 40, 60])]))
        column = pd.Series(["a", "b", "c", "d"], index=list("wxyz"))
        assert column.text.duplicates(0.9, vectors=arc)["representative"].tolist() == list("wwww")
        stars = column.text.duplicates(0.9, vectors=arc, grouping="star")
        assert stars["representative"].tolist() == list("wwyy")
        assert stars["representative_text"].tolist() == list("aacc")
        assert (stars["score"] >= 0.9).all()

    @pytest.mark.parametrize("against", [None, OTHER], ids=["groups", "against"])
    def test_an_unknown_grouping_is_an_error(self, against, column, counted):
        with pytest.raises(ValueError, match="grouping must be 'connected' or 'star'; got 'chain'"):
            column.text.duplicates(grouping="chain", against=against)
        assert counted == []

    def test_one_line_keeps_the_rows_that_are_not_duplicates(self, df):
        assert df[~df.text.duplicates(0.9999)["is_duplicate"]].index.tolist() == list("abde")

    @pytest.mark.parametrize("threshold", [1.1, -1.1, np.nan, "0.9", None, True], ids=repr)
    def test_a_threshold_is_a_cosine(self, threshold, column, counted):
        with pytest.raises(ValueError, match="threshold must be a cosine"):
            column.text.duplicates(threshold)
        assert counted == []

    @given(seed=st.integers(0, 2**32 - 1), threshold=st.sampled_from([-0.2, 0.5, 0.8, 0.95]))
    @settings(deadline=None, max_examples=25)
    def test_groups_are_the_connected_components(self, seed, threshold):
        vectors = np.random.default_rng(seed).normal(size=(20, 3))
        cosines = unit(vectors) @ unit(vectors).T
        if (abs(cosines - threshold) < 1e-5).any():
            return
        made = pd.Series(VectorArray(vectors)).text.duplicates(threshold)
        _, group_of = connected_components(cosines >= threshold, directed=False)
        assert made["group"].tolist() == pd.factorize(group_of)[0].tolist()
        firsts = made.groupby("group")["representative"].first()
        assert (firsts.to_numpy() == made.drop_duplicates("group").index).all()
        assert_allclose(made["score"], cosines[made.index, made["representative"]], atol=1e-6)
        assert (made["is_duplicate"] == (made["representative"] != made.index)).all()


class TestDuplicatesOfAnotherColumn:
    @pytest.fixture
    def train(self) -> pd.Series:
        return pd.Series(["login", None, "a quick fox", "login"], index=list("wxyz"), dtype=object)

    def test_each_row_has_its_nearest_row_there(self, column, train):
        found = column.text.duplicates(0.9999, against=train)
        assert found.columns.tolist() == ["position", "id", "score", "is_duplicate"]
        assert_index_equal(found.index, column.index)
        assert found["is_duplicate"].tolist() == [True, False, True, True, False]
        assert found.loc[found["is_duplicate"], "position"].tolist() == [2, 2, 0]
        assert found.loc[found["is_duplicate"], "id"].tolist() == list("yyw")

    def test_it_is_the_table_of_match(self, column, train):
        estimator = NearDuplicates(SentenceEmbeddingTransformer(missing="nan"), threshold=0.8)
        assert_frame_equal(column.text.duplicates(0.8, against=train), estimator.fit(train).match(column))

    def test_a_frame_and_a_column_give_the_same(self, df, train):
        expected = df["review"].text.duplicates(0.9, against=train)
        assert_frame_equal(df.text.duplicates(0.9, against=train), expected)
        assert_frame_equal(df.text.duplicates(0.9, "review", against=train), expected)

    @pytest.mark.parametrize("kind", [list, pl.Series, pa.array, pd.Series.to_frame], ids=lambda kind: kind.__name__)
    def test_the_other_column_is_of_any_kind(self, kind, column, train):
        found = column.text.duplicates(0.9999, against=kind(train))
        assert found["position"].tolist() == column.text.duplicates(0.9999, against=train)["position"].tolist()

    def test_missing_texts_keep_their_rows_and_are_never_found(self, train):
        found = train.text.duplicates(0.9999, against=train)
        assert found["position"].tolist() == [0, pd.NA, 2, 0]
        assert found.isna().any(axis=1).tolist() == [False, True, False, False]
        assert found["is_duplicate"].tolist() == [True, False, True, True]

    def test_vectors_of_both_may_exist_already(self, column, train, counted):
        expected = column.text.duplicates(0.9, against=train)
        vectors, others = column.embed(output="vector"), train.embed(output="vector")
        counted.clear()
        assert_frame_equal(column.text.duplicates(0.9, against=train, vectors=vectors, other_vectors=others), expected)
        assert_frame_equal(vectors.text.duplicates(0.9, against=others), expected)
        assert counted == []

    def test_vectors_of_another_model_are_an_error(self, column, train):
        others = pd.Series(VectorArray(np.ones((4, 32)), model="other 0123456789abcdef"), index=train.index)
        with pytest.raises(ValueError, match=r"column 'review' are of the model .*, those of against of other 0123"):
            column.text.duplicates(against=train, other_vectors=others)

    def test_other_vectors_without_another_column_are_an_error(self, column, vectors):
        with pytest.raises(ValueError, match="other_vectors are those of against, which is None"):
            column.text.duplicates(other_vectors=vectors)

    def test_a_value_that_is_not_a_text_is_named_with_its_column(self, column):
        with pytest.raises(TypeError, match=r"against\[1\] \(index label 1\) is float, not str"):
            column.text.duplicates(against=pd.Series(["a", 3.5]))

    def test_pairs_within_the_other_column_are_not_compared(self, column, train, monkeypatch):
        monkeypatch.setattr("skembed.similarity.grouping.near_pairs", None)
        assert len(column.text.duplicates(against=train)) == len(column)


class TestCluster:
    def test_an_int_gives_the_same_clusters_at_every_call(self, column):
        assert_frame_equal(column.text.cluster(3, random_state=7), column.text.cluster(3, random_state=7))

    def test_rows_about_the_same_are_together(self, minilm_folder):
        asked = pd.Series(["Where is my parcel?", "I cannot log in.", "My order is late.", "Wrong password?"])
        found = asked.text.cluster(2, model=minilm_folder)["cluster"]
        assert found[0] == found[2] != found[1] == found[3]

    def test_their_number_is_that_of_the_separate_groups_by_default(self):
        centres = np.random.default_rng(0).normal(size=(5, 16))
        vectors = centres.repeat(40, axis=0) + 0.2 * np.random.default_rng(1).normal(size=(200, 16))
        found = pd.Series(VectorArray(vectors)).text.cluster()["cluster"]
        assert found.nunique() == 5
        assert (found.groupby(np.arange(5).repeat(40)).nunique() == 1).all()

    def test_a_name_is_made_of_words_of_the_texts_and_missing_where_they_are(self, column):
        column.iloc[1] = None
        names = column.text.cluster(2)["name"]
        assert names.iloc[0] == names.iloc[2] != names.iloc[3]
        assert "quick" in names.iloc[0]
        assert pd.isna(names.iloc[1])

    def test_they_are_the_topics_of_a_topic_model_with_their_names(self, column, tiny):
        made = column.text.cluster(3, model=tiny)
        model = TopicModel(3, embedder=SentenceEmbeddingTransformer(tiny)).fit(column)
        assert made["cluster"].tolist() == model.labels_.tolist()
        assert made["name"].tolist() == model.topics_["name"][model.labels_].tolist()

    def test_given_vectors_are_named_by_the_texts_of_the_column(self, column, vectors, tiny, counted):
        expected = column.text.cluster(3, model=tiny)
        counted.clear()
        made = column.text.cluster(3, vectors=vectors)
        assert_frame_equal(made[["name", "rank", "score"]], expected[["name", "rank", "score"]])
        assert counted == []

    def test_a_row_with_a_vector_but_no_text_has_a_cluster(self, vectors):
        without = pd.Series([TEXTS[0], None, *TEXTS[2:]], index=vectors.index)
        made = without.text.cluster(2, vectors=vectors)
        assert made.notna().all(axis=None)

    def test_without_texts_they_have_numbers_for_names(self, vectors):
        made = vectors.text.cluster(2)
        assert made["name"].tolist() == [f"topic {number}" for number in made["cluster"]]

    def test_the_order_of_the_rows_changes_nothing(self, column):
        made = column.text.cluster(3).drop(columns="rank")
        assert_frame_equal(column[::-1].text.cluster(3).drop(columns="rank")[::-1], made)

    @pytest.mark.parametrize("n_clusters", [0, -1, True, 2.0, "2", None], ids=repr)
    def test_their_number_is_a_positive_integer(self, n_clusters, column, counted):
        with pytest.raises(ValueError, match="n_clusters must be a positive integer; got"):
            column.text.cluster(n_clusters)
        assert counted == []

    def test_more_clusters_than_texts_are_an_error_with_both_numbers(self, column):
        column.iloc[0] = None
        with pytest.raises(ValueError, match="5 clusters were asked for, but there are 4 rows with a text"):
            column.text.cluster(5)

    @given(seed=st.integers(0, 2**32 - 1), n_clusters=st.integers(1, 5))
    @settings(deadline=None, max_examples=10)
    def test_score_and_rank_are_those_of_the_cosine_to_the_centre(self, seed, n_clusters):
        vectors = np.random.default_rng(seed).normal(size=(20, 3))
        made = pd.Series(VectorArray(vectors)).text.cluster(n_clusters)
        assert sorted(made["cluster"].unique()) == list(range(n_clusters))
        for number, rows in made.groupby("cluster"):
            members = unit(vectors)[made["cluster"] == number]
            centre = unit(members.mean(axis=0, keepdims=True))[0]
            assert_allclose(rows["score"], members @ centre, atol=1e-4)
            in_order = rows.sort_values("rank")
            assert in_order["rank"].tolist() == list(range(1, len(rows) + 1))
            assert in_order["score"].is_monotonic_decreasing

    def test_of_equally_near_rows_the_first_has_the_lower_rank(self):
        vectors = pd.Series(VectorArray([[1, 1], [1, -1], [1, 1]]))
        assert vectors.text.cluster(1)["rank"].tolist()[::2] in ([1, 2], [2, 3])


class TestModels:
    """Vectors record their model; those of different models are not compared."""

    @pytest.mark.parametrize("verb", ["similarity", "search"])
    def test_a_text_of_another_model_is_refused_with_both_names(self, verb, column, vectors, other_model):
        with pytest.raises(ValueError, match=r"(another \w{16}.* bert \w{16}|bert \w{16}.* another \w{16})"):
            call(column.text, verb, vectors=vectors, model=other_model)
        with pytest.raises(ValueError, match="cannot be compared"):
            call(vectors.text, verb, model=other_model)

    def test_a_column_of_another_model_is_refused(self, column, vectors, other_model):
        others = column.embed(output="vector", model=other_model)
        for refused in (
            lambda: vectors.text.similarity(others),
            lambda: vectors.text.search(others, k=1),
            lambda: vectors.text.join(others),
            lambda: column.text.join(others),
            lambda: column.text.join(OTHER, vectors=others),
            lambda: column.text.join(column, other_vectors=others),
            lambda: column.text.join(column, vectors=vectors, other_vectors=others),
            lambda: column.text.similarity(column, vectors=others),
        ):
            with pytest.raises(ValueError, match=r"another .*cannot be compared"):
                refused()

    def test_nothing_is_encoded_before_models_are_compared(self, column, vectors, other_model, counted):
        counted.clear()
        with pytest.raises(ValueError, match="cannot be compared"):
            column.text.search("a text that nobody has seen", vectors=vectors, model=other_model)
        assert counted == []

    @pytest.mark.parametrize(
        "make",
        [
            lambda vectors: vectors.array,
            lambda vectors: vectors.to_frame(),
            lambda vectors: pa.array(vectors),
            lambda vectors: pd.Series(pd.arrays.ArrowExtensionArray(pa.array(vectors)), index=vectors.index),
        ],
        ids=["array", "frame", "pyarrow", "ArrowDtype"],
    )
    def test_the_note_is_read_from_other_containers(self, make, column, vectors, other_model):
        with pytest.raises(ValueError, match="cannot be compared"):
            column.text.search("x", k=1, vectors=make(vectors), model=other_model)

    def test_a_copy_of_the_model_in_another_folder_is_the_same_model(self, column, vectors, tiny, tmp_path):
        copied = shutil.copytree(tiny, tmp_path / "renamed copy")
        made = column.text.search("login", k=1, vectors=vectors, model=copied)
        assert_frame_equal(made, column.text.search("login", k=1))
        renamed = column.embed(output="vector", model=copied)
        assert renamed.array.model.startswith("renamed copy ")
        assert vectors.text.similarity(renamed)["score"].tolist() == pytest.approx([1] * 5)

    def test_vectors_that_nobody_knows_are_compared_with_any(self, column, vectors, other_model):
        unknown = column.embed(output="numpy", model=other_model)
        assert vectors.text.similarity(unknown).shape == (5, 1)
        assert vectors.text.join(list(unknown)).shape == (5, 5)


def test_all_verbs_work_on_every_dtype_of_text():
    dtypes = [object, "string", "string[pyarrow]", pd.ArrowDtype(pa.string()), "category"]
    dtypes += ["str"] if Version(pd.__version__) >= Version("3") else []
    plain = pd.Series(["a fox", "login", None, "a fox"], dtype=object)
    for verb in VERBS:
        expected = call(plain.text, verb)
        for dtype in dtypes:
            assert_close(call(plain.astype(dtype).text, verb), expected)
