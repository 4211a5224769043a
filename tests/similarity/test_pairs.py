"""PairSimilarity and similarity_score: two columns to one column of cosines."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skembed
from skembed import PairSimilarity, SentenceEmbeddingFineTuner, SentenceEmbeddingTransformer, similarity_score

LEFT = ["a fox", "a parcel", "a fox", "the quick brown fox"]
RIGHT = ["the fox", "a fox", "a fox", "login"]


@pytest.fixture
def pairs() -> pd.DataFrame:
    return pd.DataFrame({"left": LEFT, "right": RIGHT}, index=list("abcd"))


@pytest.fixture
def similarity(tiny) -> PairSimilarity:
    return PairSimilarity(SentenceEmbeddingTransformer(tiny, missing="nan"))


@pytest.fixture
def expected(tiny) -> np.ndarray:
    left, right = (skembed.embed(texts, model=tiny).astype(np.float64) for texts in (LEFT, RIGHT))
    return (left * right).sum(axis=1, keepdims=True) / (
        np.linalg.norm(left, axis=1, keepdims=True) * np.linalg.norm(right, axis=1, keepdims=True)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda frame: frame,
        lambda frame: frame.to_numpy(),
        lambda frame: frame.to_numpy().astype(str),
        lambda frame: frame.astype("category"),
        lambda frame: pl.from_pandas(frame),
    ],
    ids=["frame", "objects", "str", "categories", "polars"],
)
def test_cosines_are_those_of_the_vectors(pairs, similarity, expected, make):
    cosines = similarity.transform(make(pairs))
    assert (cosines.dtype, cosines.shape) == (np.float32, (4, 1))
    assert_allclose(cosines, expected, atol=1e-6)
    assert cosines[2] == pytest.approx(1)


def test_vectors_that_are_there_already_are_compared(pairs, similarity, expected, tiny):
    vectors = pairs.apply(lambda column: column.embed(output="vector", model=tiny))
    assert_allclose(similarity.transform(vectors), expected, atol=1e-6)


def test_vectors_of_any_length_are_compared_by_angle():
    vectors = pd.DataFrame({"a": [[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]], "b": [[9.0, 0.0], [5.0, 0.0], [0.0, 0.0]]})
    assert_array_equal(PairSimilarity().transform(vectors), [[1], [0], [0]])


def test_vectors_of_different_dimensions_are_an_error_with_both_numbers():
    vectors = pd.DataFrame({"a": [[3.0, 0.0]], "b": [[9.0, 0.0, 1.0]]})
    with pytest.raises(ValueError, match="column 'a' have 2 dimensions, those of column 'b' 3"):
        PairSimilarity().transform(vectors)


class TestModels:
    @pytest.fixture
    def vectors(self, pairs, tiny) -> pd.DataFrame:
        return pairs.apply(lambda column: column.embed(output="vector", model=tiny))

    def test_vectors_of_two_models_are_an_error_that_names_both(self, vectors, similarity):
        vectors["right"] = skembed.VectorArray(vectors["right"], model="other 0123456789abcdef")
        with pytest.raises(
            ValueError, match=r"column 'left' .* bert \w{16}, .* column 'right' of other 0123456789abcdef"
        ):
            similarity.transform(vectors)

    def test_texts_are_not_compared_with_vectors_of_another_model(self, pairs, similarity):
        pairs["right"] = skembed.VectorArray(np.ones((4, 32)), model="other 0123456789abcdef")
        with pytest.raises(ValueError, match="cannot be compared"):
            similarity.transform(pairs)

    def test_texts_are_compared_with_vectors_of_the_same_model(self, pairs, vectors, similarity, expected):
        assert_allclose(similarity.transform(pairs.assign(right=vectors["right"])), expected, atol=1e-6)

    def test_vectors_of_one_model_need_not_be_of_the_embedders(self, vectors, expected):
        assert_allclose(PairSimilarity(SentenceEmbeddingTransformer("none")).transform(vectors), expected, atol=1e-6)


def test_where_a_text_is_missing_the_cosine_is(pairs, similarity):
    pairs.loc["b", "right"] = None
    assert np.isnan(similarity.transform(pairs)).ravel().tolist() == [False, True, False, False]


def test_a_fine_tuner_does_not_learn_similarity_from_classes(pairs, tiny):
    with pytest.raises(ValueError, match=r"y holds classes, but a similarity is learned from scores"):
        PairSimilarity(SentenceEmbeddingFineTuner(tiny)).fit(pairs, [5, 3, 0, 1][: len(pairs)])


def test_pairs_may_come_as_a_list(pairs, similarity):
    assert_allclose(similarity.transform(pairs.to_numpy().tolist()), similarity.transform(pairs))


def test_no_pairs_give_no_cosines(pairs, similarity):
    assert similarity.transform(pairs[:0]).shape == (0, 1)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (pd.DataFrame({"a": ["x"]}), ValueError, "Pairs have two columns; got 1"),
        (pd.DataFrame({"a": ["x"], "b": ["y"], "c": ["z"]}), ValueError, "Pairs have two columns; got 3"),
        (["x", "y"], ValueError, "Pairs have two columns; got 1. Pass a frame, an array or a list of pairs"),
        (pd.Series(["x"]), ValueError, "Pairs have two columns; got 1"),
        ([("x", "y"), ("z",)], ValueError, r"X\[1\] is a row of 1 texts, X\[0\] a row of 2"),
        (pd.DataFrame({"a": ["x"], "b": [1]}), TypeError, r"column 'b'\[0\] \(index label 0\) is int, not str"),
        (np.array([["x", 2.5]], dtype=object), TypeError, r"X\[:, 1\]\[0\] is float, not str"),
    ],
)
def test_a_value_that_is_not_pairs_of_texts_is_one_clear_error(X, error, message, similarity):
    with pytest.raises(error, match=message):
        similarity.transform(X)


def test_fit_refuses_what_has_not_two_columns(similarity):
    with pytest.raises(ValueError, match="Pairs have two columns"):
        similarity.fit(pd.DataFrame({"a": ["x"]}))


def test_it_stands_in_pipelines_column_transformers_and_grid_searches(pairs, similarity, tiny):
    twelve = pd.concat([pairs.assign(n=[1, 2, 3, 4])] * 3)
    columns = make_column_transformer((similarity, ["left", "right"]), (StandardScaler(), ["n"]))
    names = columns.fit(twelve).get_feature_names_out().tolist()
    assert names == ["pairsimilarity__pairsimilarity0", "standardscaler__n"]
    pipe = make_pipeline(similarity, LogisticRegression())
    search = GridSearchCV(pipe, {"pairsimilarity__embedder__pooling": ["mean", "cls"]}, cv=3)
    assert search.fit(twelve[["left", "right"]], [0, 1, 1, 0] * 3).best_score_ >= 0


def test_the_embedder_is_never_changed_and_another_one_takes_effect(pairs, similarity, tiny):
    before = similarity.embedder.get_params()
    mean = similarity.transform(pairs)
    assert similarity.embedder.get_params() == before
    assert not hasattr(similarity.embedder, "model_fingerprint_")
    similarity.set_params(embedder__pooling="cls")
    assert not np.allclose(similarity.transform(pairs), mean)


def test_output_can_be_a_frame(pairs, similarity):
    made = clone(similarity).set_output(transform="pandas").fit(pairs).transform(pairs)
    assert made.columns.tolist() == ["pairsimilarity0"]
    assert made.index.equals(pairs.index)


def test_copies_and_pickles_give_the_same(pairs, similarity):
    for other in (clone(similarity), pickle.loads(pickle.dumps(similarity))):
        assert_array_equal(other.transform(pairs), similarity.transform(pairs))


class TestScore:
    def test_it_is_spearmans_correlation(self, pairs, similarity, expected):
        said = [3.0, 1.0, 5.0, 0.0]
        assert similarity_score(similarity, pairs, said) == pytest.approx(spearmanr(said, expected.ravel()).statistic)

    def test_it_is_a_scorer_for_scikit_learn(self, pairs, similarity):
        scores = cross_val_score(similarity, pairs, [3.0, 1.0, 5.0, 0.0], scoring=similarity_score, cv=2)
        assert scores.shape == (2,)
        assert (abs(scores) <= 1).all()

    def test_with_the_real_model_closer_texts_score_higher(self):
        pairs = pd.DataFrame(
            {
                "a": ["A man is playing a guitar."] * 4,
                "b": [
                    "A man plays the guitar.",
                    "Someone is making music.",
                    "A dog is running.",
                    "Stocks fell.",
                ],
            }
        )
        assert similarity_score(PairSimilarity(), pairs, [5, 3, 1, 0]) == pytest.approx(1)


def test_not_fitted_comes_before_what_is_wrong_with_the_pairs():
    with pytest.raises(NotFittedError):
        PairSimilarity(TfidfVectorizer()).transform(["one column"])


def test_an_embedder_that_learns_learns_from_both_columns_together(pairs):
    embedder = make_pipeline(TfidfVectorizer(analyzer="char_wb"), TruncatedSVD(3, random_state=0))
    same = pd.DataFrame({"left": LEFT, "right": LEFT})
    with pytest.raises(NotFittedError):
        PairSimilarity(embedder).transform(same)
    assert_allclose(PairSimilarity(embedder).fit(pairs).transform(same), 1, atol=1e-5)
