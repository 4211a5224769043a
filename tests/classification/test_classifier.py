"""NearestDescription: texts get the label whose description is nearest."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

import skembed
from skembed import ModelChangedError, NearestDescription, SentenceEmbeddingTransformer, TruncationWarning, VectorArray

DESCRIPTIONS = {
    "login": ["a problem with a password", "I cannot log in"],
    "animal": "a quick fox",
    "parcel": "a parcel",
}
TEXTS = ["the fox", "password", "the wrong address", "an update of the app"]
LONG = "the quick brown fox " * 60


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny)


@pytest.fixture
def classifier(embedder) -> NearestDescription:
    return NearestDescription(embedder).fit(DESCRIPTIONS)


def unit(matrix) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=np.float64)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


# Output


def test_the_score_of_a_label_is_the_largest_cosine_to_its_descriptions(classifier, tiny):
    texts = unit(skembed.embed(TEXTS, model=tiny))
    each = [unit(skembed.embed(DESCRIPTIONS["login"], model=tiny))]
    each += [unit(skembed.embed([DESCRIPTIONS[label]], model=tiny)) for label in ("animal", "parcel")]
    login, animal, parcel = ((texts @ described.T).max(axis=1) for described in each)
    scores = classifier.decision_function(TEXTS)
    assert (scores.dtype, scores.shape) == (np.float32, (4, 3))
    assert_allclose(scores, np.stack([animal, login, parcel], axis=1), atol=1e-5)


def test_probabilities_are_the_softmax_of_the_scores(classifier):
    for temperature in (0.05, 0.5, 1):
        probabilities = classifier.set_params(temperature=temperature).predict_proba(TEXTS)
        assert (probabilities.dtype, probabilities.shape) == (np.float64, (4, 3))
        assert_allclose(probabilities.sum(axis=1), 1)
        scores = classifier.decision_function(TEXTS).astype(np.float64)
        assert_allclose(probabilities, softmax(scores / temperature, axis=1))


def test_the_label_is_that_of_the_largest_score_and_probability(classifier):
    labels = classifier.predict(TEXTS)
    assert_array_equal(labels, classifier.classes_[classifier.decision_function(TEXTS).argmax(axis=1)])
    assert_array_equal(labels, classifier.classes_[classifier.predict_proba(TEXTS).argmax(axis=1)])


def test_a_description_gets_its_own_label(classifier):
    said = [*DESCRIPTIONS["login"], DESCRIPTIONS["animal"], DESCRIPTIONS["parcel"]]
    assert classifier.predict(said).tolist() == ["login", "login", "animal", "parcel"]
    assert classifier.score(said, ["login", "login", "animal", "animal"]) == 0.75


def test_classes_are_sorted_whatever_the_order_of_the_mapping(classifier):
    assert classifier.classes_.tolist() == ["animal", "login", "parcel"]


def test_of_equally_near_labels_the_first_is_taken(embedder):
    tied = NearestDescription(embedder).fit({"z": "a fox", "b": "a fox", "m": "a fox"})
    assert tied.predict(TEXTS).tolist() == ["b"] * 4
    assert_allclose(tied.predict_proba(TEXTS), np.full((4, 3), 1 / 3))


@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_it_is_the_class_of_the_nearest_vector_by_brute_force(seed, n_classes):
    numbers = np.random.default_rng(seed)
    described, texts = numbers.normal(size=(8, 4)), numbers.normal(size=(6, 4))
    labels = np.concatenate([np.arange(n_classes), numbers.integers(n_classes, size=8 - n_classes)])
    classifier = NearestDescription().fit(described, labels)
    cosines = unit(texts) @ unit(described).T
    assert classifier.predict(texts).tolist() == labels[cosines.argmax(axis=1)].tolist()
    expected = np.stack([cosines[:, labels == label].max(axis=1) for label in range(n_classes)], axis=1)
    expected = expected[:, 1] - expected[:, 0] if n_classes == 2 else expected
    assert_allclose(classifier.decision_function(texts), expected, atol=1e-6)


def test_with_the_real_model_labels_make_sense():
    classifier = NearestDescription().fit(
        {
            "shipping": "a question about the delivery of a parcel",
            "login": ["a problem with a password", "a problem with logging in"],
            "refund": "the customer wants the money back",
        }
    )
    texts = ["Where is my order?", "It does not know my e-mail address.", "Please pay back what I paid."]
    assert classifier.predict(texts).tolist() == ["shipping", "login", "refund"]
    assert (classifier.predict_proba(texts).max(axis=1) > 0.5).all()


# Labels and descriptions


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([3, 1], np.integer),
        ([True, False], np.bool_),
        (["b", "a"], str),
        ([np.int64(3), np.int64(1)], np.integer),
        ([np.str_("b"), np.str_("a")], str),
    ],
    ids=["int", "bool", "str", "numpy int", "numpy str"],
)
def test_labels_of_a_mapping_and_of_y_keep_their_type(labels, kind, embedder):
    for classifier in (
        NearestDescription(embedder).fit(dict(zip(labels, ["a fox", "a parcel"], strict=True))),
        NearestDescription(embedder).fit(["a fox", "a parcel"], labels),
        NearestDescription(embedder).fit(["a fox", "a parcel"], np.array(labels)),
        NearestDescription(embedder).fit(["a fox", "a parcel"], np.array(labels, dtype=object)),
        NearestDescription(embedder).fit(["a fox", "a parcel"], pd.Series(labels, index=[9, 8])),
    ):
        assert classifier.classes_.tolist() == sorted(labels)
        predicted = classifier.predict(["a parcel", "a fox"])
        assert predicted.tolist() == labels[::-1]
        assert all(isinstance(label, kind) for label in predicted)


@pytest.mark.parametrize("dtype", ["Int64", "category", "string"])
def test_labels_of_pandas_own_types_are_labels(dtype, embedder):
    labels = pd.Series([3, 1]).astype(dtype)
    classifier = NearestDescription(embedder).fit(["a fox", "a parcel"], labels)
    assert classifier.predict(["a parcel", "a fox"]).tolist() == labels.tolist()[::-1]


@pytest.mark.parametrize("labels", [["a"], [7], [False]])
def test_one_label_is_always_right(labels, embedder):
    classifier = NearestDescription(embedder).fit({labels[0]: "a fox"})
    assert classifier.predict(TEXTS).tolist() == labels * 4
    assert_array_equal(classifier.predict_proba(TEXTS), np.ones((4, 1)))


@pytest.mark.parametrize("make", [list, tuple, np.array, pd.Series, lambda said: dict.fromkeys(said).keys()])
def test_several_descriptions_come_in_any_container(make, classifier, embedder):
    other = NearestDescription(embedder).fit({**DESCRIPTIONS, "login": make(DESCRIPTIONS["login"])})
    assert_array_equal(other.decision_function(TEXTS), classifier.decision_function(TEXTS))


@pytest.mark.parametrize("make", [list, np.array, pd.Series, pl.Series], ids=lambda make: make.__name__)
def test_descriptions_and_labels_may_be_two_columns(make, classifier, embedder):
    said = ["I cannot log in", "a quick fox", "a parcel", "a problem with a password"]
    other = NearestDescription(embedder).fit(make(said), make(["login", "animal", "parcel", "login"]))
    assert_array_equal(other.classes_, classifier.classes_)
    assert_allclose(other.decision_function(TEXTS), classifier.decision_function(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        ({}, None, ValueError, "There is no description"),
        ([], [], ValueError, "There is no description"),
        ({"a": "x", "b": []}, None, ValueError, "Label 'b' has no description"),
        ({"a": "x", "b": None}, None, ValueError, r"descriptions\[1\] is missing"),
        ({"a": "x", "b": np.nan}, None, ValueError, r"descriptions\[1\] is missing"),
        ({"a": ["x", None]}, None, ValueError, r"descriptions\[1\] is missing"),
        (["x", None], ["a", "b"], ValueError, r"descriptions\[1\] is missing"),
        ([[1.0, 2.0], None], ["a", "b"], ValueError, r"descriptions\[1\] is missing"),
        ({"a": 5}, None, TypeError, r"descriptions\[0\] is int, not str"),
        (["x", 5], ["a", "b"], TypeError, r"descriptions\[1\] is int, not str"),
        ("x", ["a"], TypeError, "X is a single str"),
        (["x"], None, ValueError, "Pass a mapping of labels to descriptions, or"),
        ({"a": "x"}, ["a"], ValueError, "omit y"),
        (["x", "y"], ["a"], ValueError, "y has 1 labels for 2 descriptions"),
        (["x"], "a", ValueError, "1d array"),
        (["x"], 5, ValueError, "1d array"),
        ({"a": "x", 1: "y"}, None, TypeError, "all texts, all integers or all bools; got int among them"),
        ({1: "x", "a": "y"}, None, TypeError, "got int among them"),
        (["x", "y"], ["a", 1], TypeError, "got int among them"),
        ({True: "x", 2: "y"}, None, TypeError, "got bool, int among them"),
        ({("a", 1): "x"}, None, TypeError, "got tuple among them"),
        (["x", "y"], [["a", "b"], ["c", "d"]], TypeError, "got list among them"),
        (["x", "y"], np.array([["a", "b"], ["c", "d"]]), ValueError, "1d array"),
        ({None: "x", "a": "y"}, None, ValueError, r"labels\[0\] is missing"),
        (["x", "y"], [1.0, np.nan], ValueError, r"labels\[1\] is missing"),
        (["x", "y"], [1.5, 2.5], ValueError, "Unknown label type: continuous"),
    ],
)
def test_what_are_no_labels_or_descriptions_is_one_clear_error(X, y, error, message, embedder):
    with pytest.raises(error, match=message):
        NearestDescription(embedder).fit(X, y)


def test_a_description_may_not_be_missing_where_a_text_may(tiny):
    embedder = SentenceEmbeddingTransformer(tiny, missing="nan")
    with pytest.raises(ValueError, match=r"descriptions\[1\] is missing"):
        NearestDescription(embedder).fit({"a": ["x", None], "b": "y"})


# Texts


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
def test_a_missing_text_has_no_label_and_probabilities_of_nan(missing, tiny):
    classifier = NearestDescription(SentenceEmbeddingTransformer(tiny, missing="nan")).fit(DESCRIPTIONS)
    for scores in (classifier.predict_proba(["a fox", missing]), classifier.decision_function(["a fox", missing])):
        assert np.isnan(scores).tolist() == [[False] * 3, [True] * 3]
    with pytest.raises(ValueError, match=r"X\[1\] is missing, so that it has no label; drop it"):
        classifier.predict(["a fox", missing])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
class TestMethods:
    def test_no_texts_give_no_rows(self, method, classifier):
        assert len(getattr(classifier, method)([])) == 0

    def test_a_missing_text_is_an_error_unless_the_embedder_takes_it(self, method, classifier):
        with pytest.raises(ValueError, match=r"X\[1\] is missing"):
            getattr(classifier, method)(["a fox", None])

    @pytest.mark.parametrize(
        ("X", "message"), [("x", "single str"), (None, "not a column"), (["a", 4], r"X\[1\] is int, not str")]
    )
    def test_a_value_that_is_not_a_text_is_an_error(self, method, X, message, classifier):
        with pytest.raises(TypeError, match=message):
            getattr(classifier, method)(X)

    def test_before_fit_there_is_nothing_to_say(self, method, embedder):
        with pytest.raises(NotFittedError):
            getattr(NearestDescription(embedder), method)(TEXTS)

    def test_not_fitted_comes_before_an_invalid_parameter(self, method, embedder):
        with pytest.raises(NotFittedError):
            getattr(NearestDescription(embedder, temperature=0), method)(TEXTS)

    def test_a_truncation_warning_points_to_the_caller(self, method, classifier):
        with pytest.warns(TruncationWarning, match="1 of 2") as caught:
            getattr(classifier, method)(["short", LONG])
        assert [warning.filename for warning in caught] == [__file__]

    def test_vectors_of_other_dimensions_are_an_error_with_both_numbers(self, method, classifier):
        with pytest.raises(ValueError, match=r"X have 3 dimensions.* 32"):
            getattr(classifier, method)(np.ones((2, 3)))

    def test_vectors_of_another_model_are_an_error_that_names_both(self, method, classifier):
        vectors = VectorArray(np.ones((2, 32)), model="other 0123456789abcdef")
        with pytest.raises(ValueError, match=r"other 0123456789abcdef.* bert \w{16}"):
            getattr(classifier, method)(vectors)

    def test_vectors_stand_for_texts(self, method, classifier, tiny, counted):
        expected = getattr(classifier, method)(TEXTS)
        column = pd.Series(TEXTS).embed(output="vector", model=tiny)
        counted.clear()
        for vectors in (column, column.array, column.to_numpy("float32"), column.astype(object), list(column)):
            made = getattr(classifier, method)(vectors)
            assert made.tolist() == (expected.tolist() if method == "predict" else pytest.approx(expected, abs=1e-5))
        assert counted == []


def test_fit_warns_of_long_descriptions_at_the_callers_line(embedder):
    for X, y in (({"a": LONG, "b": "x"}, None), ([LONG, "x"], ["a", "b"])):
        with pytest.warns(TruncationWarning, match="1 of 2") as caught:
            NearestDescription(embedder).fit(X, y)
        assert [warning.filename for warning in caught] == [__file__]


def test_descriptions_are_encoded_once_and_texts_once(embedder, counted):
    classifier = NearestDescription(embedder).fit(DESCRIPTIONS)
    assert len(counted) == 4
    classifier.predict(TEXTS)
    classifier.predict_proba(TEXTS)
    clone(classifier).fit(DESCRIPTIONS)
    assert len(counted) == 8


# Vectors and other embedders


def test_vectors_stand_for_descriptions(classifier, embedder, tiny):
    login, animal, parcel = (
        skembed.embed([said] if isinstance(said, str) else said, model=tiny) for said in DESCRIPTIONS.values()
    )
    for X, y in (
        ({"login": login, "animal": animal[0], "parcel": parcel[0].tolist()}, None),
        ({"login": list(login), "animal": animal, "parcel": VectorArray(parcel)}, None),
        (np.concatenate([login, animal, parcel]), ["login", "login", "animal", "parcel"]),
        (pd.Series(VectorArray(np.concatenate([login, animal, parcel]))), ["login", "login", "animal", "parcel"]),
    ):
        other = NearestDescription(embedder).fit(X, y)
        assert_allclose(other.decision_function(TEXTS), classifier.decision_function(TEXTS), atol=1e-5)


def test_with_vectors_on_both_sides_no_model_is_needed(counted):
    classifier = NearestDescription(SentenceEmbeddingTransformer("no-such-model")).fit(np.eye(2), ["x", "y"])
    assert classifier.predict([[0.1, 3.0], [2.0, 1.0]]).tolist() == ["y", "x"]
    assert counted == []


def test_texts_of_another_model_than_the_descriptions_vectors_are_refused(tiny):
    described = VectorArray(np.eye(32)[:2], model="other 0123456789abcdef")
    classifier = NearestDescription(SentenceEmbeddingTransformer(tiny)).fit(described, ["x", "y"])
    with pytest.raises(ValueError, match=r"bert \w{16}.* other 0123456789abcdef"):
        classifier.predict(["x"])


@pytest.mark.parametrize(
    "described",
    [
        ({"fox": "a quick fox", "parcel": ["a parcel", "the wrong address"]},),
        (["a quick fox", "a parcel", "the wrong address"], ["fox", "parcel", "parcel"]),
    ],
    ids=["mapping", "two columns"],
)
def test_a_tfidf_vectorizer_learns_from_the_descriptions(described):
    embedder = TfidfVectorizer()
    classifier = NearestDescription(embedder).fit(*described)
    assert classifier.predict(["a wrong parcel", "fox"]).tolist() == ["parcel", "fox"]
    assert sorted(classifier.embedder_.vocabulary_) == ["address", "fox", "parcel", "quick", "the", "wrong"]
    assert not hasattr(embedder, "vocabulary_")


def test_a_frozen_embedder_is_taken_as_it_is(embedder, classifier):
    frozen = FrozenEstimator(TfidfVectorizer().fit(["quick fox parcel"]))
    tfidf = NearestDescription(frozen).fit({"fox": "a quick fox", "parcel": "a parcel of login"})
    assert tfidf.predict(["a parcel"]).tolist() == ["parcel"]
    assert len(tfidf.embedder_.vocabulary_) == 3
    other = NearestDescription(FrozenEstimator(embedder.fit(TEXTS))).fit(DESCRIPTIONS)
    assert_allclose(other.decision_function(TEXTS), classifier.decision_function(TEXTS), atol=1e-6)


def test_a_pipeline_embeds(embedder):
    pipe = make_pipeline(embedder, FunctionTransformer(lambda vectors: vectors[:, :4]))
    classifier = NearestDescription(pipe).fit(DESCRIPTIONS)
    assert classifier.predict([DESCRIPTIONS["animal"]]).tolist() == ["animal"]


# Parameters


@pytest.mark.parametrize("temperature", [0, -1, np.nan, True, "0.1", None], ids=repr)
def test_a_temperature_is_a_positive_number(temperature, embedder, classifier):
    with pytest.raises(ValueError, match="temperature must be a positive number; got"):
        NearestDescription(embedder, temperature=temperature).fit(DESCRIPTIONS)
    with pytest.raises(ValueError, match="temperature must be a positive number; got"):
        classifier.set_params(temperature=temperature).predict_proba(TEXTS)


def test_the_lower_the_temperature_the_surer(classifier):
    cold = classifier.set_params(temperature=np.float32(0.001)).predict_proba(TEXTS).max(axis=1)
    warm = classifier.set_params(temperature=100).predict_proba(TEXTS).max(axis=1)
    assert (cold > warm).all()


def test_each_fit_learns_anew(classifier):
    classifier.fit({"one": "x", "two": "y"})
    assert classifier.classes_.tolist() == ["one", "two"]
    assert classifier.predict_proba(TEXTS).shape == (4, 2)


def test_the_embedder_is_never_changed(embedder):
    before = {**vars(embedder)}
    NearestDescription(embedder).fit(DESCRIPTIONS).predict(TEXTS)
    assert vars(embedder) == before


def test_parameters_of_the_embedder_are_reached(classifier, embedder):
    assert classifier.get_params()["embedder__pooling"] == "default"
    cls = clone(classifier).set_params(embedder__pooling="cls").fit(DESCRIPTIONS)
    assert not np.allclose(cls.decision_function(TEXTS), classifier.decision_function(TEXTS))
    assert embedder.pooling == "default"


def test_copies_and_pickles_say_the_same(classifier):
    for other in (clone(classifier).fit(DESCRIPTIONS), pickle.loads(pickle.dumps(classifier))):
        assert_array_equal(other.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert len(pickle.dumps(classifier)) < 10_000  # holds no model


def test_a_changed_model_under_the_same_name_is_refused(tiny, model_folder, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    classifier = NearestDescription(SentenceEmbeddingTransformer(str(folder))).fit(DESCRIPTIONS)
    shutil.copytree(model_folder("roberta"), folder, dirs_exist_ok=True)
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(ModelChangedError, match="not the one this transformer was fitted with"):
            getattr(classifier, method)(TEXTS)


# As a scikit-learn estimator


def test_it_is_a_classifier_of_texts(classifier):
    assert is_classifier(classifier)
    tags = get_tags(classifier)
    assert tags.input_tags.string
    assert tags.classifier_tags.multi_class
    assert tags.requires_fit


def test_it_is_shown_in_text_and_in_html(classifier):
    assert repr(NearestDescription(temperature=0.1)) == "NearestDescription(temperature=0.1)"
    assert "NearestDescription" in classifier._repr_html_()


def test_a_fitted_one_is_cross_validated_frozen(classifier):
    y = classifier.predict(TEXTS)
    assert cross_val_score(FrozenEstimator(classifier), TEXTS * 3, np.tile(y, 3), cv=3).tolist() == [1, 1, 1]


def test_with_two_columns_it_is_cross_validated_and_searched(embedder):
    texts = ["a fox", "the quick fox", "a parcel", "the wrong address"] * 3
    labels = ["animal", "animal", "parcel", "parcel"] * 3
    assert cross_val_score(NearestDescription(embedder), texts, labels, cv=3).tolist() == [1, 1, 1]
    grid = {"temperature": [0.05, 1.0], "embedder__pooling": ["mean", "cls"]}
    search = GridSearchCV(NearestDescription(embedder), grid, cv=3, scoring="neg_log_loss").fit(texts, labels)
    assert search.best_params_["temperature"] == 0.05
    assert search.best_estimator_.predict(["a fox"]).tolist() == ["animal"]


def test_two_classes_are_scored_as_scikit_learn_scores_them():
    numbers = np.random.default_rng(0)
    texts, labels = numbers.normal(size=(40, 4)), np.repeat(["no", "yes"], 20)
    texts[20:, 0] += 1
    classifier = NearestDescription().fit([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]], ["no", "yes"])
    expected = roc_auc_score(labels == "yes", classifier.predict_proba(texts)[:, 1])
    assert get_scorer("roc_auc")(classifier, texts, labels) == pytest.approx(expected)
    assert CalibratedClassifierCV(FrozenEstimator(classifier)).fit(texts, labels).score(texts, labels) > 0.6
