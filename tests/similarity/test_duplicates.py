"""NearDuplicates: groups as a brute-force matrix of cosines, scipy and DBSCAN find them."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal, assert_index_equal
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import skembed
from skembed import NearDuplicates, SentenceEmbeddingTransformer, TruncationWarning

NAN = float("nan")
TEXTS = ["a quick fox", "the wrong address", "a quick fox", "quick fox", None, "the wrong address", "an update"]
ROWS = [[1.0, 0.0], [0.0, 2.0], None, [3.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]
GROUPS_OF_ROWS = [0, 1, -1, 0, 1, 2]  # at any threshold from 0.1 to 0.99
GROUPINGS = ["connected", "star"]
ON_A_CIRCLE = np.array([[np.cos(turn), np.sin(turn)] for turn in np.radians(range(0, 190, 10))])


def cosines_of(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def groups_of(vectors, threshold) -> list[int]:
    """Return the groups that scipy finds in the whole matrix, numbered in order of first appearance."""
    _, group_of = connected_components(cosines_of(vectors) >= threshold, directed=False)
    return pd.factorize(group_of)[0].tolist()


@st.composite
def clustered(draw) -> tuple[np.ndarray, float]:
    """Return vectors around centres, with no cosine close to the threshold."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, dim = draw(st.integers(1, 50)), draw(st.integers(1, 40))
    centres = numbers.normal(size=(draw(st.integers(1, 12)), dim))
    noise = numbers.normal(size=(n_rows, dim)) * draw(st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0]))
    vectors = (centres[numbers.integers(len(centres), size=n_rows)] + noise) * numbers.uniform(0.1, 9, (n_rows, 1))
    threshold = draw(st.sampled_from([-0.3, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99]))
    assume((abs(cosines_of(vectors) - threshold) > 1e-5).all())
    return vectors, threshold


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny, missing="nan")


@pytest.fixture
def random_vectors() -> np.ndarray:
    numbers = np.random.default_rng(0)
    return numbers.normal(size=(8, 5))[numbers.integers(8, size=60)] + 0.2 * numbers.normal(size=(60, 5))


# Groups


@settings(deadline=None)
@given(clustered())
def test_the_groups_are_the_connected_components_of_all_cosines(given_vectors):
    vectors, threshold = given_vectors
    assert NearDuplicates(threshold=threshold).fit(vectors).labels_.tolist() == groups_of(vectors, threshold)


@settings(deadline=None)
@given(clustered())
def test_the_groups_are_those_of_dbscan(given_vectors):
    vectors, threshold = given_vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = DBSCAN(min_samples=1, eps=np.sqrt(2 - 2 * threshold)).fit_predict(unit)
    assert_array_equal(NearDuplicates(threshold=threshold).fit(vectors).labels_, pd.factorize(expected)[0])


@pytest.mark.parametrize("grouping", GROUPINGS)
@settings(deadline=None, max_examples=50)
@given(clustered())
def test_groups_are_numbered_in_order_of_first_appearance(grouping, given_vectors):
    vectors, threshold = given_vectors
    labels = NearDuplicates(threshold=threshold, grouping=grouping).fit(vectors).labels_
    assert labels.dtype.kind == "i"
    assert list(dict.fromkeys(labels.tolist())) == list(range(labels.max() + 1))


@pytest.mark.parametrize("grouping", GROUPINGS)
@settings(deadline=None, max_examples=50)
@given(clustered())
def test_representatives_are_the_first_rows_of_the_groups(grouping, given_vectors):
    vectors, threshold = given_vectors
    made = NearDuplicates(threshold=threshold, grouping=grouping).fit(vectors)
    labels = made.labels_.tolist()
    assert made.representatives_.tolist() == [labels.index(group) for group in range(max(labels) + 1)]


@pytest.mark.parametrize("grouping", GROUPINGS)
@settings(deadline=None, max_examples=50)
@given(clustered())
def test_the_other_rows_are_listed_with_the_exact_cosine_to_their_representative(grouping, given_vectors):
    vectors, threshold = given_vectors
    made = NearDuplicates(threshold=threshold, grouping=grouping).fit(vectors)
    listed = made.duplicates_
    assert sorted([*listed.position, *made.representatives_]) == list(range(len(vectors)))
    assert listed.position.is_monotonic_increasing
    assert_array_equal(made.representatives_[made.labels_[listed.position]], listed.representative)
    assert_allclose(listed.score, cosines_of(vectors)[listed.position, listed.representative], atol=1e-5)
    assert listed.score.between(-1, 1).all()


@settings(deadline=None)
@given(clustered(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_group(given_vectors, random):
    vectors, threshold = given_vectors
    order = random.sample(range(len(vectors)), len(vectors))
    shuffled = NearDuplicates(threshold=threshold).fit(vectors[order]).labels_
    there = NearDuplicates(threshold=threshold).fit(vectors).labels_[order]
    assert_array_equal(pd.factorize(there)[0], shuffled)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["forwards", "backwards"])
def test_a_chain_connects_rows_that_are_opposite(order):
    made = NearDuplicates(threshold=np.cos(np.radians(10.1))).fit(ON_A_CIRCLE[order])
    assert set(made.labels_) == {0}
    assert made.duplicates_.score.iloc[-1] == pytest.approx(-1)


def test_a_broken_chain_connects_nothing():
    made = NearDuplicates(threshold=np.cos(np.radians(9.9))).fit(ON_A_CIRCLE)
    assert made.labels_.tolist() == list(range(len(ON_A_CIRCLE)))
    assert made.duplicates_.empty


@settings(deadline=None, max_examples=50)
@given(clustered())
def test_in_a_star_every_row_is_near_its_representative(given_vectors):
    vectors, threshold = given_vectors
    listed = NearDuplicates(threshold=threshold, grouping="star").fit(vectors).duplicates_
    assert (cosines_of(vectors)[listed.position, listed.representative] >= threshold).all()


@settings(deadline=None, max_examples=50)
@given(clustered())
def test_stars_divide_connected_groups(given_vectors):
    vectors, threshold = given_vectors
    stars = NearDuplicates(threshold=threshold, grouping="star").fit(vectors).labels_
    connected = NearDuplicates(threshold=threshold).fit(vectors).labels_
    assert pd.Series(connected).groupby(stars).nunique().eq(1).all()


def test_the_order_of_the_rows_decides_the_stars_and_none_that_follows():
    star = NearDuplicates(threshold=np.cos(np.radians(10.1)), grouping="star")
    assert star.fit_predict(ON_A_CIRCLE[:4]).tolist() == [0, 0, 1, 1]
    assert star.fit_predict(ON_A_CIRCLE[[1, 0, 2, 3]]).tolist() == [0, 0, 0, 1]
    assert star.fit_predict(ON_A_CIRCLE)[:4].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("n_rows", [1, 7, 20, 1000])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.97])
def test_the_blocks_in_which_vectors_are_compared_change_nothing(n_rows, threshold, random_vectors, monkeypatch):
    whole = NearDuplicates(threshold=threshold).fit(random_vectors)
    monkeypatch.setattr("skembed.similarity.near_pairs._ROWS_PER_BLOCK", n_rows)
    in_blocks = NearDuplicates(threshold=threshold).fit(random_vectors)
    assert_array_equal(in_blocks.labels_, whole.labels_)
    assert_frame_equal(in_blocks.duplicates_, whole.duplicates_)


def test_a_chain_across_blocks_connects_them(monkeypatch):
    monkeypatch.setattr("skembed.similarity.near_pairs._ROWS_PER_BLOCK", 1)
    rows = np.random.default_rng(0).permutation(len(ON_A_CIRCLE))
    assert set(NearDuplicates(threshold=0.98).fit(ON_A_CIRCLE[rows]).labels_) == {0}


@pytest.mark.parametrize("threshold", [0.999, 1.0, 1])
def test_exact_repeats_are_found_at_the_highest_thresholds(threshold, random_vectors):
    doubled = np.vstack([random_vectors, random_vectors[::-1]])
    labels = NearDuplicates(threshold=threshold).fit(doubled).labels_
    assert labels[:60].tolist() == labels[60:][::-1].tolist() == list(range(60))


@settings(deadline=None)
@given(st.floats(1e-3, 1e3))
def test_a_vector_of_another_length_is_a_repeat(length):
    vector = np.random.default_rng(0).normal(size=384)
    assert NearDuplicates(threshold=1.0).fit([vector, vector * length]).labels_.tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e37])
def test_very_small_and_very_large_vectors_are_compared_by_angle(scale):
    assert NearDuplicates().fit(np.array([[1, 0], [0, 1], [2, 0]]) * scale).labels_.tolist() == [0, 1, 0]


def test_vectors_of_zeros_are_alike_and_like_nothing_else():
    labels = NearDuplicates(threshold=0.01).fit([[1.0, 1.0], [0.0, 0.0], [1.0, -1.0], [-0.0, 0.0]]).labels_
    assert labels.tolist() == [0, 1, 2, 1]


def test_at_the_lowest_threshold_everything_is_one_group(random_vectors):
    assert set(NearDuplicates(threshold=-1).fit(random_vectors).labels_) == {0}


@pytest.mark.parametrize("grouping", GROUPINGS)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["a fox", "the dog", "an update", "login"]), min_size=1, max_size=12))
def test_repeated_texts_are_grouped_whatever_the_model(tiny, grouping, texts):
    made = NearDuplicates(SentenceEmbeddingTransformer(tiny), threshold=1.0, grouping=grouping).fit(texts)
    assert made.labels_.tolist() == pd.factorize(np.array(texts, dtype=object))[0].tolist()


def test_with_the_real_model_rewordings_are_grouped():
    texts = ["How do I reset my password?", "The weather is fine.", "How can I reset my password?"]
    assert NearDuplicates(threshold=0.9).fit(texts).labels_.tolist() == [0, 1, 0]


# New rows


@st.composite
def split(draw) -> tuple[np.ndarray, np.ndarray, float]:
    """Return vectors to fit and to match, some of them in both, with no cosine close to the threshold."""
    vectors, threshold = draw(clustered())
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    n_fitted = draw(st.integers(1, len(vectors)))
    return vectors[:n_fitted], vectors[draw(st.integers(0, n_fitted - 1)) :], threshold


@settings(deadline=None, max_examples=50)
@given(split())
def test_match_finds_the_nearest_fitted_row_and_of_ties_the_first(drawn):
    fitted, queries, threshold = drawn
    found = NearDuplicates(threshold=threshold).fit(fitted).match(queries)
    cosines = cosines_of(np.vstack([queries, fitted]))[: len(queries), len(queries) :]
    assert found.position.tolist() == found.id.tolist() == cosines.round(12).argmax(axis=1).tolist()
    assert_allclose(found.score, cosines.max(axis=1), atol=1e-12)
    assert_array_equal(found.is_duplicate, cosines.max(axis=1) >= threshold)


@pytest.mark.parametrize("grouping", GROUPINGS)
@settings(deadline=None, max_examples=50)
@given(split())
def test_predict_gives_the_group_of_the_nearest_row_if_it_is_near(grouping, drawn):
    fitted, queries, threshold = drawn
    made = NearDuplicates(threshold=threshold, grouping=grouping).fit(fitted)
    found = made.match(queries)
    expected = np.where(found.is_duplicate, made.labels_[found.position.to_numpy(np.intp)], -1)
    assert_array_equal(made.predict(queries), expected)
    assert made.predict(queries).dtype == made.labels_.dtype


@pytest.mark.parametrize("grouping", GROUPINGS)
@settings(deadline=None, max_examples=50)
@given(clustered())
def test_predict_of_the_fitted_rows_gives_their_labels(grouping, given_vectors):
    vectors, threshold = given_vectors
    made = NearDuplicates(threshold=threshold, grouping=grouping)
    assert_array_equal(made.fit(vectors).predict(vectors), made.labels_)


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_predict_of_the_fitted_texts_gives_their_labels(grouping, embedder):
    made = NearDuplicates(embedder, threshold=0.99, grouping=grouping)
    assert made.fit(TEXTS).predict(TEXTS).tolist() == made.labels_.tolist()


def test_a_new_row_may_be_far_from_the_representative_of_its_star():
    made = NearDuplicates(threshold=np.cos(np.radians(10.1)), grouping="star").fit(ON_A_CIRCLE[:2])
    assert made.predict(ON_A_CIRCLE[[2, 3]]).tolist() == [0, -1]


@pytest.mark.parametrize(("above", "is_near"), [(0, True), (9e-7, True), (1.1e-6, False)])
@pytest.mark.parametrize("seed", range(10))
def test_near_is_what_fit_calls_near(above, is_near, seed):
    pair = np.random.default_rng(seed).normal(size=(2, 384)).astype(np.float32)
    pair /= np.linalg.norm(pair, axis=1, keepdims=True)
    made = NearDuplicates(threshold=float(cosines_of(pair)[0, 1]) + above)
    assert made.fit(pair[:1]).match(pair[1:]).is_duplicate.tolist() == [is_near]
    assert made.fit(pair[:1]).predict(pair[1:]).tolist() == [0 if is_near else -1]
    assert made.fit_predict(pair).tolist() == [0, 0 if is_near else 1]


def test_leakage_is_found_with_the_real_model():
    train = pd.Series(["How do I reset my password?", "The weather is fine."], index=["r1", "r2"])
    test = pd.Series(["How can I reset my password?", "What does it cost?"], index=["t1", "t2"])
    found = NearDuplicates(threshold=0.9).fit(train).match(test)
    assert_index_equal(found.index, test.index)
    assert found.columns.tolist() == ["position", "id", "score", "is_duplicate"]
    assert found.is_duplicate.tolist() == [True, False]
    assert (found.position.iloc[0], found.id.iloc[0]) == (0, "r1")


@pytest.mark.parametrize("missing", [None, NAN, pd.NA], ids=repr)
def test_a_missing_text_matches_nothing(missing, embedder):
    made = NearDuplicates(embedder, threshold=-1).fit([missing, "a fox"])
    found = made.match(["a fox", missing])
    assert found.position.dtype == "Int64"
    assert found.position.tolist() == [1, pd.NA]
    assert found[["id", "score"]].isna().all(axis=1).tolist() == [False, True]
    assert found.is_duplicate.tolist() == [True, False]
    assert found.is_duplicate.dtype == bool
    assert made.predict(["a fox", missing]).tolist() == [0, -1]


@pytest.mark.parametrize("fitted", [[], [None, None]], ids=["no rows", "missing"])
def test_where_no_text_was_fitted_nothing_matches(fitted, embedder):
    made = NearDuplicates(embedder).fit(fitted)
    found = made.match(["a fox", None])
    assert found[["position", "id", "score"]].isna().all(axis=None)
    assert found.is_duplicate.tolist() == [False, False]
    assert made.predict(["a fox"]).tolist() == [-1]


def test_no_rows_have_no_matches(embedder):
    found = NearDuplicates(embedder).fit(["a fox"]).match([])
    assert (found.shape, found.position.dtype, found.is_duplicate.dtype) == ((0, 4), "Int64", bool)


@pytest.mark.parametrize(("threshold", "groups"), [(0.1, [-1, 0]), (0.0, [0, 0])])
def test_a_vector_of_zeros_has_a_cosine_of_zero_with_all(threshold, groups):
    made = NearDuplicates(threshold=threshold).fit([[1.0, 0.0], [0.0, 0.0]])
    assert made.match([[0.0, 0.0]]).drop(columns="is_duplicate").to_numpy().tolist() == [[0, 0, 0.0]]
    assert made.predict([[0.0, 0.0], [2.0, 0.0]]).tolist() == groups


@pytest.mark.parametrize("method", ["predict", "match"])
class TestRefusals:
    def test_before_fit(self, method):
        with pytest.raises(NotFittedError):
            getattr(NearDuplicates(), method)(["a fox"])

    def test_vectors_of_other_dimensions(self, method):
        with pytest.raises(ValueError, match="X have 3 dimensions, those of the fitted rows 2"):
            getattr(NearDuplicates().fit(ROWS), method)([[1.0, 0.0, 0.0]])

    def test_vectors_of_another_model(self, method, embedder):
        made = NearDuplicates(embedder).fit(["a fox"])
        vectors = skembed.VectorArray(np.ones((1, 32)), model="other 0123456789abcdef")
        with pytest.raises(ValueError, match=r"vectors of X are of the model other .* those of the fitted rows of"):
            getattr(made, method)(vectors)

    def test_a_value_that_is_not_a_text(self, method, embedder):
        X = pd.Series(["a fox", 5], index=["r", "s"])
        with pytest.raises(TypeError, match=r"X\[1\] \(index label 's'\) is int, not str"):
            getattr(NearDuplicates(embedder).fit(["a fox"]), method)(X)

    def test_a_threshold_that_is_not_a_cosine(self, method):
        made = NearDuplicates().fit(ROWS).set_params(threshold=2)
        with pytest.raises(ValueError, match="threshold must be a cosine"):
            getattr(made, method)(ROWS)


@pytest.mark.parametrize("method", ["predict", "match"])
def test_the_warning_about_long_texts_to_match_points_at_the_callers_line(method, embedder):
    made = NearDuplicates(embedder).fit(["a fox"])
    with pytest.warns(TruncationWarning) as caught:
        getattr(made, method)(["fox " * 60])
    assert [warning.filename for warning in caught] == [__file__]


def test_an_interrupted_refit_leaves_no_groups_of_other_rows(monkeypatch):
    made = NearDuplicates().fit(ON_A_CIRCLE)
    monkeypatch.setattr(NearDuplicates, "_group", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        made.fit(ROWS)
    with pytest.raises(NotFittedError):
        made.predict(ROWS)


def test_rows_that_are_changed_after_fit_change_no_match(random_vectors):
    given_vectors = random_vectors.astype(np.float32)
    made = NearDuplicates().fit(given_vectors)
    expected = made.match(random_vectors)
    given_vectors[:] = 1
    assert_frame_equal(made.match(random_vectors), expected)


# Input

OF_TEXTS = {
    "list": lambda texts: texts,
    "tuple": tuple,
    "array": lambda texts: np.array(texts, dtype=object),
    "(n, 1) array": lambda texts: np.array(texts, dtype=object)[:, None],
    "Series of object": lambda texts: pd.Series(texts, dtype=object),
    "Series of str": lambda texts: pd.Series(texts, dtype="str"),
    "Series of string[pyarrow]": lambda texts: pd.Series(texts, dtype="string[pyarrow]"),
    "Series of category": lambda texts: pd.Series(texts, dtype="category"),
    "Index": lambda texts: pd.Index(texts, dtype=object),
    "frame of one column": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": lambda texts: pl.Series(texts, dtype=pl.String),
    "polars frame of one column": lambda texts: pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}),
    "pyarrow array": lambda texts: pa.array(texts, pa.string()),
    "pyarrow table of one column": lambda texts: pa.table({"text": pa.array(texts, pa.string())}),
}
OF_VECTORS = {
    "list of lists": lambda rows: rows,
    "tuple of arrays": lambda rows: tuple(None if row is None else np.array(row) for row in rows),
    "list of Series": lambda rows: [None if row is None else pd.Series(row) for row in rows],
    "matrix": lambda rows: np.array([[NAN, NAN] if row is None else row for row in rows]),
    "float16 matrix": lambda rows: np.array([[NAN, NAN] if row is None else row for row in rows], dtype=np.float16),
    "Fortran matrix": lambda rows: np.array([[NAN, NAN] if row is None else row for row in rows], order="F"),
    "frame of numbers": lambda rows: pd.DataFrame([[NAN, NAN] if row is None else row for row in rows]),
    "frame of nullable numbers": lambda rows: pd.DataFrame(
        [[pd.NA, pd.NA] if row is None else row for row in rows], dtype="Float64"
    ),
    "Series of lists": lambda rows: pd.Series(rows, dtype=object),
    "frame of one column of lists": lambda rows: pd.DataFrame({"v": rows}),
    "vector column": lambda rows: pd.Series(skembed.VectorArray(rows)),
    "VectorArray": skembed.VectorArray,
    "frame of one vector column": lambda rows: pd.DataFrame({"v": skembed.VectorArray(rows)}),
    "pyarrow array": lambda rows: pa.array(rows, pa.list_(pa.float32())),
    "pyarrow chunks of fixed size": lambda rows: pa.chunked_array([rows[:2], rows[2:]], pa.list_(pa.float32(), 2)),
    "Series of an Arrow type": lambda rows: pd.Series(
        pa.array(rows, pa.list_(pa.float64())), dtype=pd.ArrowDtype(pa.list_(pa.float64()))
    ),
    "polars List": lambda rows: pl.Series(rows, dtype=pl.List(pl.Float32)),
    "polars Array": lambda rows: pl.Series(rows, dtype=pl.Array(pl.Float32, 2)),
}


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_every_column_of_texts_gives_the_same_groups(kind, embedder):
    vectors = embedder.transform(TEXTS)
    cosines = cosines_of(np.delete(vectors, 4, axis=0))
    threshold = float(np.median(cosines[cosines < 0.9999]))
    expected = NearDuplicates(threshold=threshold).fit(vectors)
    made = NearDuplicates(embedder, threshold=threshold).fit(OF_TEXTS[kind](TEXTS))
    assert_array_equal(made.labels_, expected.labels_)
    assert_array_equal(made.duplicates_.to_numpy(), expected.duplicates_.to_numpy())
    assert made.labels_[[0, 1]].tolist() == made.labels_[[2, 5]].tolist()
    assert made.labels_[4] == -1


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_every_column_of_texts_gives_the_same_matches(kind, embedder):
    made = NearDuplicates(embedder, threshold=1.0).fit(TEXTS[:3])
    found = made.match(OF_TEXTS[kind](TEXTS))
    assert found.index.tolist() == list(range(7))
    assert found.is_duplicate.tolist() == [True, True, True, False, False, True, False]
    assert found.position[found.is_duplicate].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("kind", OF_VECTORS)
def test_every_column_of_vectors_gives_the_same_matches(kind, counted):
    made = NearDuplicates(threshold=0.9).fit(ROWS)
    assert made.match(OF_VECTORS[kind](ROWS)).position.tolist() == [0, 1, pd.NA, 3, 1, 5]
    assert made.predict(OF_VECTORS[kind](ROWS)).tolist() == GROUPS_OF_ROWS
    assert counted == []


@pytest.mark.parametrize("kind", OF_VECTORS)
def test_every_column_of_vectors_gives_the_same_groups(kind, counted):
    made = NearDuplicates(threshold=0.9).fit(OF_VECTORS[kind](ROWS))
    assert made.labels_.tolist() == GROUPS_OF_ROWS
    assert made.representatives_.tolist() == [0, 1, 5]
    assert made.duplicates_.position.tolist() == [3, 4]
    assert counted == []


def test_a_polars_frame_of_numbers_is_read_by_rows_or_refused():
    frame = pl.DataFrame({"x": [1.0, 0.0, 3.0], "y": [0.0, 2.0, 0.1]})
    try:
        labels = NearDuplicates().fit(frame).labels_.tolist()
    except (TypeError, ValueError):
        return
    assert labels == [0, 1, 0]


def test_an_iterator_loses_no_row_or_is_refused():
    try:
        labels = NearDuplicates().fit(iter([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).labels_.tolist()
    except TypeError:
        return
    assert labels == [0, 1, 0]


def test_vectors_given_are_not_changed(random_vectors):
    given_vectors = random_vectors.astype(np.float32)
    before = given_vectors.copy()
    NearDuplicates().fit(given_vectors)
    assert_array_equal(given_vectors, before)


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("missing", [None, NAN, pd.NA, pd.NaT], ids=repr)
def test_a_missing_text_is_in_no_group(missing, grouping, embedder):
    made = NearDuplicates(embedder, threshold=1.0, grouping=grouping).fit([missing, "a fox", missing, "a fox"])
    assert made.labels_.tolist() == [-1, 0, -1, 0]
    assert made.representatives_.tolist() == [1]
    assert made.duplicates_.position.tolist() == [3]


@pytest.mark.parametrize(
    "column",
    [
        [None, None],
        pd.Series([None, NAN], dtype=object),
        pd.Series(skembed.VectorArray(ROWS))[[2, 2]],
        [[NAN, NAN]] * 2,
    ],
    ids=["list", "Series", "vector column", "matrix"],
)
def test_if_all_texts_are_missing_there_is_no_group(column, embedder):
    made = NearDuplicates(embedder).fit(column)
    assert made.labels_.tolist() == [-1, -1]
    assert len(made.representatives_) == len(made.duplicates_) == 0


@pytest.mark.parametrize(
    "column",
    [
        [],
        np.empty((0, 3)),
        pd.Series([], dtype="str"),
        pd.Series(skembed.VectorArray(ROWS))[:0],
        pd.DataFrame({"t": []}),
    ],
    ids=["list", "matrix", "Series", "vector column", "frame"],
)
def test_no_rows_give_no_groups(column, embedder):
    made = NearDuplicates(embedder).fit(column)
    assert made.labels_.shape == made.representatives_.shape == (0,)
    assert made.labels_.dtype.kind == made.representatives_.dtype.kind == "i"
    assert made.duplicates_.columns.tolist() == ["position", "representative", "score"]
    assert len(made.duplicates_) == 0


@pytest.mark.parametrize("column", [["a fox"], [[3.0, 4.0]], np.ones((1, 1))], ids=["text", "vector", "matrix"])
def test_one_row_is_one_group(column, embedder):
    made = NearDuplicates(embedder).fit(column)
    assert (made.labels_.tolist(), made.representatives_.tolist(), len(made.duplicates_)) == ([0], [0], 0)


# Index labels


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(list("abcdef"), name="row"),
        pd.Index([7, 7, 7, 8, 8, 8]),
        pd.MultiIndex.from_product([["x", "y"], [1, 2, 3]], names=["letter", "number"]),
        pd.date_range("2024-01-01", periods=6),
    ],
    ids=["str", "repeated", "two levels", "dates"],
)
@pytest.mark.parametrize("kind", ["Series of lists", "vector column", "frame of numbers", "Series of an Arrow type"])
def test_duplicates_are_listed_under_their_index_labels(kind, index):
    made = NearDuplicates().fit(OF_VECTORS[kind](ROWS).set_axis(index))
    assert_index_equal(made.duplicates_.index, index[[3, 4]])
    assert made.duplicates_.columns.tolist() == ["position", "representative", "score"]
    assert made.duplicates_[["position", "representative"]].to_numpy().tolist() == [[3, 0], [4, 1]]
    assert_allclose(made.duplicates_.score, [3 / np.hypot(3, 0.1), 1], atol=1e-5)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(list("abcdef"), name="row"),
        pd.Index([7, 7, 7, 8, 8, 8]),
        pd.MultiIndex.from_product([["x", "y"], [1, 2, 3]], names=["letter", "number"]),
        pd.date_range("2024-01-01", periods=6),
    ],
    ids=["str", "repeated", "two levels", "dates"],
)
def test_matches_have_the_labels_of_both_sides(index):
    column = pd.Series(skembed.VectorArray(ROWS), index=index)
    found = NearDuplicates().fit(column).match(column[::-1])
    assert_index_equal(found.index, index[::-1])
    labels = index.to_flat_index()[[5, 1, 3, 1, 0]].tolist()
    assert found.id.dropna().tolist() == labels


def test_the_rows_to_drop_can_be_dropped_by_their_labels(embedder):
    column = pd.Series(TEXTS, index=list("abcdefg"), dtype=object)
    made = NearDuplicates(embedder, threshold=1.0).fit(column)
    assert column.drop(made.duplicates_.index).tolist() == list(dict.fromkeys(TEXTS))


def test_without_index_labels_the_positions_are_the_labels():
    made = NearDuplicates().fit(ROWS)
    assert made.duplicates_.index.tolist() == made.duplicates_.position.tolist() == [3, 4]


# Errors


@pytest.mark.parametrize("threshold", [1.5, -1.01, "a", True, NAN, None, 1j, [0.9]], ids=repr)
def test_a_threshold_that_is_not_a_cosine_is_one_clear_error(threshold, counted):
    with pytest.raises(ValueError, match=r"threshold must be a cosine, from -1 to 1; got .*\.$"):
        NearDuplicates(threshold=threshold).fit(["a fox"])
    assert counted == []


@pytest.mark.parametrize("grouping", ["chain", None, 1, ["star"]], ids=repr)
def test_an_unknown_grouping_is_one_clear_error(grouping, counted):
    with pytest.raises(ValueError, match=r"grouping must be 'connected' or 'star'; got .*\.$"):
        NearDuplicates(grouping=grouping).fit(["a fox"])
    assert counted == []


@pytest.mark.parametrize("threshold", [np.float64(0.9), np.float32(0.9), np.int64(0)], ids=repr)
def test_a_threshold_of_numpy_is_welcome(threshold):
    assert NearDuplicates(threshold=threshold).fit(ROWS[:2]).labels_.tolist() == ([0, 1] if threshold else [0, 0])


@pytest.mark.parametrize("number", [NAN, np.inf, -np.inf], ids=repr)
@pytest.mark.parametrize("kind", ["list of lists", "matrix", "frame of numbers", "vector column", "polars List"])
def test_a_number_that_is_not_finite_is_an_error_that_names_the_position(number, kind):
    with pytest.raises(ValueError, match=r"X\[3\]"):
        NearDuplicates().fit(OF_VECTORS[kind]([*ROWS[:3], [1.0, number]]))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([None, "a fox", 5], TypeError, r"X\[2\] is int, not str"),
        (pd.Series(["a fox", b"a"], index=["r", "s"]), TypeError, r"X\[1\] \(index label 's'\) is bytes, not str"),
        (["a fox", [1.0, 2.0]], TypeError, r"X\[1\] is a vector of 2 numbers, not str"),
        ([[1.0, 2.0], None, "a fox"], TypeError, r"\[2\] is str, not a vector"),
        ([[1.0, 2.0], [1.0]], ValueError, r"\[1\] has 1 dimensions, not 2"),
        ([[1.0, None]], TypeError, r"\[0\] is an array of object"),
        ("a fox", TypeError, "X is a single str"),
        (None, TypeError, "X is builtins.NoneType, not a column of text"),
        (5, TypeError, "X is builtins.int, not a column of text"),
        (pd.DataFrame({"x": [1.0], "text": ["a"]}), ValueError, r"X has 2 columns \('x', 'text'\)"),
        (np.zeros((2, 2, 2)), ValueError, r"got \(2, 2, 2\)"),
    ],
    ids=repr,
)
def test_a_value_that_is_not_a_column_of_texts_or_vectors_is_one_clear_error(X, error, message, embedder):
    with pytest.raises(error, match=message):
        NearDuplicates(embedder).fit(X)


# The embedder


def test_each_text_is_embedded_once(counted, embedder):
    NearDuplicates(embedder).fit(TEXTS).set_params(threshold=0.5).fit(TEXTS)
    assert sorted(counted) == sorted({*TEXTS} - {None})


def test_an_embedder_of_the_caller_is_used(tiny):
    vectors = skembed.embed(["a fox", "a quick fox", "login"], model=tiny, pooling="cls")
    made = NearDuplicates(SentenceEmbeddingTransformer(tiny, pooling="cls"), threshold=-1)
    assert_allclose(
        made.fit(["a fox", "a quick fox", "login"]).duplicates_.score, cosines_of(vectors)[0, 1:], atol=1e-5
    )


def test_a_parameter_of_the_embedder_takes_effect(tiny):
    made = NearDuplicates(SentenceEmbeddingTransformer(tiny), threshold=-1)
    mean = made.fit(["a fox", "login"]).duplicates_.score.item()
    cls = made.set_params(embedder__pooling="cls").fit(["a fox", "login"]).duplicates_.score.item()
    assert cls != pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_the_embedder_is_never_changed_whatever_its_output(output, tiny):
    embedder = SentenceEmbeddingTransformer(model=tiny, pooling="cls").set_output(transform=output)
    before = {**vars(embedder)}
    assert NearDuplicates(embedder, threshold=1.0).fit(["a fox", "login", "a fox"]).labels_.tolist() == [0, 1, 0]
    assert vars(embedder) == before


@pytest.mark.parametrize(("missing", "labels"), [("nan", [0, -1, -1]), ("zero", [0, 1, 1]), ("empty", [0, 1, 1])])
def test_the_embedder_decides_what_a_missing_text_is(missing, labels, tiny):
    embedder = SentenceEmbeddingTransformer(tiny, missing=missing)
    assert NearDuplicates(embedder, threshold=1.0).fit(["a fox", None, None]).labels_.tolist() == labels


def test_an_embedder_that_forbids_missing_texts_refuses_them(tiny):
    with pytest.raises(ValueError, match=r"X\[1\] is missing"):
        NearDuplicates(SentenceEmbeddingTransformer(tiny)).fit(["a fox", None])


@pytest.mark.parametrize("method", ["fit", "fit_predict"])
def test_the_warning_about_long_texts_points_at_the_callers_line(method, embedder):
    with pytest.warns(TruncationWarning) as caught:
        getattr(NearDuplicates(embedder), method)(["fox " * 60])
    assert [warning.filename for warning in caught] == [__file__]


# As a scikit-learn estimator


def test_init_stores_its_arguments_and_nothing_else():
    assert (
        NearDuplicates().get_params()
        == vars(NearDuplicates())
        == {
            "embedder": None,
            "threshold": 0.9,
            "grouping": "connected",
        }
    )


def test_its_repr_shows_what_was_set():
    assert repr(NearDuplicates(threshold=0.8)) == "NearDuplicates(threshold=0.8)"


def test_fit_returns_itself():
    made = NearDuplicates()
    assert made.fit(ROWS) is made


def test_fit_predict_returns_the_labels(random_vectors):
    made = NearDuplicates()
    assert_array_equal(made.fit_predict(random_vectors), made.labels_)


def test_a_changed_threshold_takes_effect_at_the_next_fit(random_vectors):
    made = NearDuplicates(threshold=-1).fit(random_vectors)
    made.set_params(threshold=0.97).fit(random_vectors)
    assert made.labels_.tolist() == groups_of(random_vectors, 0.97)
    assert len(made.representatives_) + len(made.duplicates_) == 60


def test_a_refit_forgets_the_rows_before(random_vectors):
    made = NearDuplicates().fit(random_vectors).fit(ROWS)
    assert made.labels_.tolist() == GROUPS_OF_ROWS
    assert made.duplicates_.position.tolist() == [3, 4]


def test_a_clone_has_the_parameters_and_is_not_fitted(embedder):
    copied = clone(NearDuplicates(embedder, threshold=0.7, grouping="star").fit(ROWS))
    assert (copied.threshold, copied.grouping, copied.embedder.model) == (0.7, "star", embedder.model)
    with pytest.raises(NotFittedError):
        copied.match(ROWS)


def test_a_pickle_keeps_what_was_found(embedder):
    made = NearDuplicates(embedder, threshold=1.0).fit(TEXTS)
    loaded = pickle.loads(pickle.dumps(made))
    assert_array_equal(loaded.labels_, made.labels_)
    assert_array_equal(loaded.representatives_, made.representatives_)
    assert_frame_equal(loaded.duplicates_, made.duplicates_)
    assert_frame_equal(loaded.match(TEXTS), made.match(TEXTS))
    assert_array_equal(loaded.predict(TEXTS), made.predict(TEXTS))
    assert_array_equal(loaded.fit_predict(TEXTS), made.labels_)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_it_ends_a_pipeline(output, embedder):
    pipe = make_pipeline(embedder, NearDuplicates(threshold=1.0)).set_output(transform=output)
    assert pipe.fit_predict(TEXTS).tolist() == NearDuplicates(embedder, threshold=1.0).fit(TEXTS).labels_.tolist()


DO_NOT_FIT = {
    "check_n_features_in": "a column of texts has no number of features",
    "check_n_features_in_after_fitting": "a column of texts has no number of features",
    "check_estimators_empty_data_messages": "no rows are welcome: they give no groups",
    "check_fit1d": "one dimension is a column of texts, and numbers in it are refused with a TypeError",
    "check_fit2d_predict1d": "one dimension is a column of texts, and numbers in it are refused with a TypeError",
    "check_complex_data": "complex numbers are refused as every value that is neither text nor vector",
    "check_dtype_object": "a matrix of objects is no matrix of numbers, as for VectorArray",
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [NearDuplicates(), NearDuplicates(grouping="star")], expected_failed_checks=lambda estimator: DO_NOT_FIT
)
def test_scikit_learns_check_passes_on_vectors(estimator, check):
    check(estimator)
