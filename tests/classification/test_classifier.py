"""SentenceEmbeddingClassifier: from descriptions alone, from examples and descriptions, with several labels a row."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from scipy.special import softmax
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, get_scorer, roc_auc_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelBinarizer, LabelEncoder, MultiLabelBinarizer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags

import skembed
from skembed import (
    ModelChangedError,
    SentenceEmbeddingClassifier,
    SentenceEmbeddingFineTuner,
    SentenceEmbeddingTransformer,
    TruncationWarning,
    VectorArray,
)
from tests.training.fast import FAST

DESCRIPTIONS = {
    "login": ["a problem with a password", "I cannot log in"],
    "animal": "a quick fox",
    "parcel": "a parcel",
}
TEXTS = ["the fox", "password", "the wrong address", "an update of the app"]
LABELS = ["animal", "login", "parcel", "login"]
LONG = "the quick brown fox " * 60
METHODS = ["predict", "predict_proba", "decision_function"]
DIRECTIONS = {"a": [1.0, 0, 0, 0], "b": [0, 1.0, 0, 0], "c": [0, 0, 1.0, 0]}  # descriptions as vectors


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny)


@pytest.fixture
def zero_shot(embedder) -> SentenceEmbeddingClassifier:
    return SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(None)


@pytest.fixture
def fitted(embedder) -> SentenceEmbeddingClassifier:
    return SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(TEXTS, LABELS)


def unit(matrix) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=np.float64)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def logistic(**params) -> LogisticRegression:
    return LogisticRegression(C=10, max_iter=1000, **params)


def sharp() -> LogisticRegression:
    """A classifier that learns its examples by heart, even those of a tiny model, whose vectors are all alike."""
    return LogisticRegression(C=1e6, max_iter=10_000)


def draw_examples(seed: int = 0, n_rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around three directions, with the labels a, b and c."""
    numbers = np.random.default_rng(seed)
    labels = np.array(["a", "b", "c"])[np.arange(n_rows) % 3]
    return np.eye(4)[np.arange(n_rows) % 3] + numbers.normal(scale=0.7, size=(n_rows, 4)), labels


class TestZeroShot:
    """Without examples, the nearest description decides."""

    def test_the_score_of_a_label_is_the_largest_cosine_to_its_descriptions(self, zero_shot, tiny):
        texts = unit(skembed.embed(TEXTS, model=tiny))
        each = [unit(skembed.embed(DESCRIPTIONS["login"], model=tiny))]
        each += [unit(skembed.embed([DESCRIPTIONS[label]], model=tiny)) for label in ("animal", "parcel")]
        login, animal, parcel = ((texts @ described.T).max(axis=1) for described in each)
        scores = zero_shot.decision_function(TEXTS)
        assert (scores.dtype, scores.shape) == (np.float32, (4, 3))
        assert_allclose(scores, np.stack([animal, login, parcel], axis=1), atol=1e-5)

    def test_probabilities_are_the_softmax_of_the_scores(self, zero_shot):
        probabilities = zero_shot.predict_proba(TEXTS)
        assert (probabilities.dtype, probabilities.shape) == (np.float64, (4, 3))
        assert_allclose(probabilities.sum(axis=1), 1)
        scores = zero_shot.decision_function(TEXTS).astype(np.float64)
        assert_allclose(probabilities, softmax(scores / 0.05, axis=1))

    def test_a_description_gets_its_own_label(self, zero_shot):
        said = [*DESCRIPTIONS["login"], DESCRIPTIONS["animal"], DESCRIPTIONS["parcel"]]
        assert zero_shot.predict(said).tolist() == ["login", "login", "animal", "parcel"]
        assert zero_shot.predict_labels(said) == [["login"], ["login"], ["animal"], ["parcel"]]
        assert zero_shot.score(said, ["login", "login", "animal", "animal"]) == 0.75

    @pytest.mark.parametrize("no_rows", [[None], [[]], [[], []], [[], [], []], [np.empty((0, 32))]], ids=repr)
    def test_no_rows_are_no_examples(self, no_rows, embedder, zero_shot):
        other = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(*no_rows)
        assert other.classifier_ is None
        assert other.classes_.tolist() == ["animal", "login", "parcel"]
        assert_array_equal(other.decision_function(TEXTS), zero_shot.decision_function(TEXTS))

    def test_of_equally_near_labels_the_first_is_taken(self, embedder):
        tied = SentenceEmbeddingClassifier(dict.fromkeys("zbm", "a fox"), embedder=embedder).fit()
        assert tied.predict(TEXTS).tolist() == ["b"] * 4
        assert_allclose(tied.predict_proba(TEXTS), np.full((4, 3), 1 / 3))

    @given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(2, 5))
    @settings(deadline=None, max_examples=30)
    def test_it_is_the_class_of_the_nearest_vector_by_brute_force(self, seed, n_classes):
        numbers = np.random.default_rng(seed)
        described, texts = numbers.normal(size=(8, 4)), numbers.normal(size=(6, 4))
        labels = np.concatenate([np.arange(n_classes), numbers.integers(n_classes, size=8 - n_classes)])
        classifier = SentenceEmbeddingClassifier({n: described[labels == n] for n in range(n_classes)}).fit()
        cosines = unit(texts) @ unit(described).T
        assert classifier.predict(texts).tolist() == labels[cosines.argmax(axis=1)].tolist()
        expected = np.stack([cosines[:, labels == label].max(axis=1) for label in range(n_classes)], axis=1)
        expected = expected[:, 1] - expected[:, 0] if n_classes == 2 else expected
        assert_allclose(classifier.decision_function(texts), expected, atol=1e-6)

    def test_with_the_real_model_labels_make_sense(self):
        classifier = SentenceEmbeddingClassifier(
            {
                "shipping": "a question about the delivery of a parcel",
                "login": ["a problem with a password", "a problem with logging in"],
                "refund": "the customer wants the money back",
            }
        ).fit()
        texts = ["Where is my order?", "It does not know my e-mail address.", "Please pay back what I paid."]
        assert classifier.predict(texts).tolist() == ["shipping", "login", "refund"]
        assert (classifier.predict_proba(texts).max(axis=1) > 0.5).all()

    @pytest.mark.parametrize("label", ["a", 7, False])
    def test_one_label_is_an_error(self, label, embedder):
        with pytest.raises(ValueError, match=f"^{label!r} is the only label; describe others"):
            SentenceEmbeddingClassifier({label: ["a fox", "a dog"]}, embedder=embedder).fit()

    @pytest.mark.parametrize(
        ("fit", "message"),
        [
            (lambda c: c.fit(None, ["a"]), "X has no rows, but y has 1"),
            (lambda c: c.fit([], ["a", "b"]), "X has no rows, but y has 2"),
            (lambda c: c.fit(None, None, [1.0]), "X has no rows, but sample_weight has 1"),
            (lambda c: c.set_params(descriptions=None).fit(None), "There are neither examples nor descriptions"),
            (lambda c: c.set_params(descriptions={}).fit([], []), "There are neither examples nor descriptions"),
            (lambda c: c.set_params(description_weight=0).fit(None), "or descriptions with a description_weight above"),
        ],
    )
    def test_what_gives_nothing_to_go_by_is_an_error(self, fit, message, embedder):
        with pytest.raises(ValueError, match=message):
            fit(SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder))


class TestExamples:
    """With examples, a classifier of scikit-learn learns from them and from the descriptions."""

    def test_each_description_is_one_more_example_of_its_label(self, fitted, tiny):
        said = [*DESCRIPTIONS["login"], DESCRIPTIONS["animal"], DESCRIPTIONS["parcel"]]
        vectors = skembed.embed([*TEXTS, *said], model=tiny, normalize_embeddings=True)
        expected = logistic().fit(vectors, [*LABELS, "login", "login", "animal", "parcel"])
        assert_allclose(fitted.predict_proba(TEXTS), expected.predict_proba(vectors[:4]), atol=1e-4)
        assert_allclose(fitted.decision_function(TEXTS), expected.decision_function(vectors[:4]), atol=1e-3)
        likeliest = fitted.predict_proba(TEXTS).argmax(axis=1)
        assert fitted.predict(TEXTS).tolist() == fitted.classes_[likeliest].tolist()
        assert fitted.predict_labels(TEXTS) == [[label] for label in LABELS]
        assert isinstance(fitted.classifier_, LogisticRegression)

    @pytest.mark.parametrize("weight", [0, 0.3, 1, 2.5])
    def test_a_description_has_its_weight(self, weight):
        X, y = draw_examples()
        classifier = SentenceEmbeddingClassifier(DIRECTIONS, description_weight=weight).fit(X, y)
        rows, labels, weights = np.r_[unit(X), np.eye(4)[:3]], [*y, *"abc"], np.r_[np.ones(30), np.full(3, weight)]
        expected = logistic().fit(rows.astype(np.float32), labels, weights)
        assert_allclose(classifier.predict_proba(X), expected.predict_proba(unit(X)), atol=1e-3)

    @given(seed=st.integers(0, 1000), weight=st.sampled_from([0, 1]))
    @settings(deadline=None, max_examples=10)
    def test_with_many_examples_it_predicts_what_a_plain_classifier_does(self, seed, weight):
        X, y = draw_examples(seed, n_rows=300)
        described = DIRECTIONS
        classifier = SentenceEmbeddingClassifier(described, description_weight=weight).fit(X, y)
        plain = logistic().fit(unit(X).astype(np.float32), y)
        assert np.mean(classifier.predict(X) == plain.predict(unit(X))) >= (0.97 if weight else 1)

    @pytest.mark.parametrize("weight", [0, 1])
    def test_classes_are_those_of_examples_and_of_descriptions(self, weight, embedder):
        classifier = SentenceEmbeddingClassifier(
            {**DESCRIPTIONS, "bill": "an update of the bill"}, embedder=embedder, description_weight=weight
        ).fit([*TEXTS, "the dog"], [*LABELS, "zoo"])
        assert classifier.classes_.tolist() == ["animal", "bill", "login", "parcel", "zoo"]
        probabilities, scores = classifier.predict_proba(TEXTS), classifier.decision_function(TEXTS)
        assert probabilities.shape == scores.shape == (4, 5)
        assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert (probabilities[:, 1] > 0).all() == bool(weight)
        assert_array_equal(classifier.classes_[scores.argmax(axis=1)], classifier.predict(TEXTS))
        classifier.set_params(classifier=sharp()).fit([*TEXTS, "the dog"], [*LABELS, "zoo"])
        assert (classifier.predict(["an update of the bill"]) == "bill").all() == bool(weight)

    def test_labels_without_any_row_get_the_smallest_score_beside_two_that_have(self, embedder):
        classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, description_weight=0)
        classifier.fit(TEXTS[:2], LABELS[:2])
        scores = classifier.decision_function(TEXTS)
        assert_allclose(scores[:, 0], -scores[:, 1])
        assert (scores[:, 2] == np.finfo(scores.dtype).min).all()
        assert_array_equal(classifier.predict_proba(TEXTS)[:, 2], 0)

    def test_without_descriptions_it_is_a_classifier_of_vectors(self):
        X, y = draw_examples()
        classifier = SentenceEmbeddingClassifier().fit(X, y)
        assert_allclose(
            classifier.predict_proba(X), logistic().fit(unit(X).astype(np.float32), y).predict_proba(unit(X)), atol=1e-4
        )

    @pytest.mark.parametrize(
        "classifier",
        [KNeighborsClassifier(1), LinearSVC(C=10), make_pipeline(StandardScaler(), LogisticRegression())],
        ids=lambda classifier: type(classifier).__name__,
    )
    def test_any_classifier_learns_and_is_cloned(self, classifier, embedder):
        ours = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, classifier=classifier).fit(TEXTS, LABELS)
        assert ours.predict(TEXTS).tolist() == LABELS
        assert isinstance(ours.classifier_, type(classifier))
        assert not hasattr(classifier, "classes_")

    def test_it_has_the_methods_that_its_classifier_has(self, embedder):
        def methods(classifier):
            ours = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, classifier=classifier)
            return [[hasattr(each, name) for name in METHODS] for each in (ours, ours.fit(TEXTS, LABELS))]

        assert methods(None) == [[True, True, True]] * 2
        assert methods(LinearSVC()) == [[True, False, True]] * 2
        assert methods(KNeighborsClassifier(1)) == [[True, True, False]] * 2

    @pytest.mark.parametrize("weight", [0, 1, 1.0, True])
    def test_a_classifier_without_weights_takes_descriptions_or_leaves_them_out(self, weight):
        X, y = draw_examples()
        described = DIRECTIONS
        knn = KNeighborsClassifier(1)
        if weight is True:
            with pytest.raises(ValueError, match="description_weight must be a number >= 0; got True"):
                SentenceEmbeddingClassifier(described, classifier=knn, description_weight=weight).fit(X, y)
            return
        classifier = SentenceEmbeddingClassifier(described, classifier=knn, description_weight=weight).fit(X, y)
        assert classifier.classifier_.n_samples_fit_ == 30 + 3 * weight

    def test_a_classifier_without_weights_refuses_others(self):
        X, y = draw_examples()
        classifier = SentenceEmbeddingClassifier({"a": [1.0, 0, 0, 0]}, classifier=KNeighborsClassifier())
        with pytest.raises(ValueError, match=r"KNeighborsClassifier\.fit takes no sample_weight; leave it out"):
            classifier.fit(X, y, np.ones(30))
        with pytest.raises(ValueError, match=r"takes no sample_weight, so that description_weight must be 0 or 1; got"):
            classifier.set_params(description_weight=0.5).fit(X, y)

    def test_weights_of_examples_reach_the_classifier(self):
        X, y = draw_examples()
        weights = np.random.default_rng(0).uniform(size=30)
        classifier = SentenceEmbeddingClassifier({"a": [1.0, 0, 0, 0]}).fit(X, y, weights)
        rows, labels = np.r_[unit(X), np.eye(4)[:1]].astype(np.float32), [*y, "a"]
        expected = logistic().fit(rows, labels, np.append(weights, 1))
        assert_allclose(classifier.predict_proba(X), expected.predict_proba(unit(X)), atol=1e-3)

    def test_weights_of_classes_reach_the_classifier(self):
        X, y = draw_examples()
        heavy = SentenceEmbeddingClassifier(classifier=logistic(class_weight={"a": 100, "b": 1, "c": 1})).fit(X, y)
        assert (
            heavy.predict_proba(X)[:, 0].mean() > SentenceEmbeddingClassifier().fit(X, y).predict_proba(X)[:, 0].mean()
        )

    @pytest.mark.parametrize("weight", [-1, np.nan, np.inf, "1", None, False], ids=repr)
    def test_a_description_weight_is_a_finite_number_from_0_on(self, weight, embedder):
        with pytest.raises(ValueError, match="description_weight must be a number >= 0; got"):
            SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, description_weight=weight).fit(TEXTS, LABELS)

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
    @pytest.mark.parametrize(
        "make", [list, np.array, lambda y: np.array(y, dtype=object), lambda y: pd.Series(y, index=[9, 8])]
    )
    def test_labels_keep_their_type(self, labels, kind, make, embedder):
        descriptions = dict(zip(labels, ["a fox", "a parcel"], strict=True))
        for classifier in (
            SentenceEmbeddingClassifier(descriptions, embedder=embedder, classifier=KNeighborsClassifier(1)).fit(),
            SentenceEmbeddingClassifier(embedder=embedder, classifier=KNeighborsClassifier(1)).fit(
                ["a fox", "a parcel"], make(labels)
            ),
            SentenceEmbeddingClassifier(descriptions, embedder=embedder, classifier=KNeighborsClassifier(1)).fit(
                ["a fox", "a parcel"], make(labels)
            ),
        ):
            assert classifier.classes_.tolist() == sorted(labels)
            predicted = classifier.predict(["a parcel", "a fox"])
            assert predicted.tolist() == labels[::-1]
            assert all(isinstance(label, kind) for label in predicted)

    @pytest.mark.parametrize("dtype", ["Int64", "category", "string"])
    def test_labels_of_pandas_own_types_are_labels(self, dtype, embedder):
        labels = pd.Series([3, 1]).astype(dtype)
        classifier = SentenceEmbeddingClassifier(embedder=embedder, classifier=KNeighborsClassifier(1)).fit(
            ["a fox", "a parcel"], labels
        )
        assert classifier.predict(["a parcel", "a fox"]).tolist() == labels.tolist()[::-1]

    @pytest.mark.parametrize("make", [list, np.array, pd.Series, pl.Series], ids=lambda make: make.__name__)
    def test_texts_and_labels_come_in_any_container(self, make, embedder, fitted):
        other = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(make(TEXTS), make(LABELS))
        assert_allclose(other.predict_proba(make(TEXTS)), fitted.predict_proba(TEXTS), atol=1e-5)

    def test_each_fit_learns_anew(self, fitted, zero_shot):
        expected = zero_shot.decision_function(TEXTS)
        assert_array_equal(fitted.fit(None).decision_function(TEXTS), expected)
        assert fitted.fit(TEXTS, LABELS).classifier_ is not None
        assert fitted.set_params(descriptions=None).fit(TEXTS[:2], [1, 2]).classes_.tolist() == [1, 2]


# Descriptions


@pytest.mark.parametrize("make", [list, tuple, np.array, pd.Series, lambda said: dict.fromkeys(said).keys()])
def test_several_descriptions_come_in_any_container(make, zero_shot, embedder):
    descriptions = {**DESCRIPTIONS, "login": make(DESCRIPTIONS["login"])}
    other = SentenceEmbeddingClassifier(descriptions, embedder=embedder).fit()
    assert_array_equal(other.decision_function(TEXTS), zero_shot.decision_function(TEXTS))


@pytest.mark.parametrize("X", [None, ["x", "y"]], ids=["alone", "with examples"])
@pytest.mark.parametrize(
    ("descriptions", "error", "message"),
    [
        ({"a": "x", "b": []}, ValueError, "Label 'b' has no description"),
        ({"a": "x", "b": None}, ValueError, "Label 'b' has no description"),
        ({"a": "x", "b": np.nan}, ValueError, "Label 'b' has no description"),
        ({"a": "x", "b": [None]}, ValueError, "Label 'b' has no description"),
        ({"a": ["x", None]}, ValueError, r"descriptions\['a'\]\[1\] is missing"),
        ({"a": "x", "b": [1.0, 0.0]}, TypeError, r"descriptions\['a'\] is a text and descriptions\['b'\] is a vector"),
        ({"a": [1.0, 0.0], "b": [1.0]}, ValueError, r"descriptions\[1\] \(index label 'b'\) has 1 dimensions, not 2"),
        ({"a": "x", "b": 5}, TypeError, r"descriptions\['b'\] is int, not str"),
        ({"a": "x", "b": ["y", 5]}, TypeError, r"descriptions\['b'\]\[1\] is int, not str"),
        ({"a": "x", "b": b"y"}, TypeError, r"descriptions\['b'\] is bytes, not str"),
        (["x", "y"], TypeError, "descriptions must be a mapping of labels to texts or lists of texts; got list"),
        ("x", TypeError, "descriptions must be a mapping .* got str"),
        ({"a": "x", 1: "y"}, TypeError, r"list\(descriptions\)\[1\] is int and .*\[0\] is str; labels must be all"),
        ({True: "x", 2: "y"}, TypeError, r"\[1\] is int and .*\[0\] is bool; labels must be all texts, all integers"),
        ({("a", 1): "x"}, TypeError, r"list\(descriptions\)\[0\] is tuple; labels must be all texts"),
        ({None: "x", "a": "y"}, ValueError, r"list\(descriptions\)\[0\] is missing"),
        ({1.5: "x", 2.5: "y"}, ValueError, "Unknown label type: continuous"),
    ],
)
def test_what_are_no_descriptions_is_one_clear_error(descriptions, error, message, X, embedder):
    with pytest.raises(error, match=message):
        SentenceEmbeddingClassifier(descriptions, embedder=embedder).fit(X, X and ["a", "b"])


def test_a_description_may_not_be_missing_where_a_text_may(tiny):
    embedder = SentenceEmbeddingTransformer(tiny, missing="nan")
    with pytest.raises(ValueError, match=r"descriptions\['a'\]\[1\] is missing"):
        SentenceEmbeddingClassifier({"a": ["x", None], "b": "y"}, embedder=embedder).fit()


@pytest.mark.parametrize("X", [None, TEXTS], ids=["alone", "with examples"])
def test_vectors_stand_for_descriptions(X, embedder, tiny):
    y = X and LABELS
    expected = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(X, y)
    login, animal, parcel = (
        skembed.embed([said] if isinstance(said, str) else said, model=tiny) for said in DESCRIPTIONS.values()
    )
    for descriptions in (
        {"login": login, "animal": animal[0], "parcel": parcel[0].tolist()},
        {"login": list(login), "animal": animal, "parcel": VectorArray(parcel)},
    ):
        other = SentenceEmbeddingClassifier(descriptions, embedder=embedder).fit(X, y)
        assert_allclose(other.decision_function(TEXTS), expected.decision_function(TEXTS), atol=1e-3)


# Labels


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (None, ValueError, "requires y to be passed, but the target y is None. .* descriptions alone"),
        (["a"], ValueError, "X has 2 rows and y has 1; each example needs its label"),
        ("a", ValueError, "1d array"),
        (5, ValueError, "1d array"),
        (["a", 1], TypeError, r"y\[1\] is int and y\[0\] is str; labels must be all texts, all integers or all bools"),
        (np.array([True, 2], dtype=object), TypeError, r"y\[1\] is int and y\[0\] is bool"),
        (["a", None], ValueError, r"y\[1\] is missing"),
        (["a", np.nan], ValueError, r"y\[1\] is missing"),
        (pd.Series(["a", None], index=["r", "s"]), ValueError, r"y\[1\] \(index label 's'\) is missing"),
        ([1.0, np.nan], ValueError, r"y\[1\] is missing"),
        ([1.5, 2.5], ValueError, "Unknown label type: continuous"),
        (pd.to_datetime(["2020", "2021"]), TypeError, r"y\[0\] is datetime64"),
        (["a", "a"], ValueError, "y has one class only, 'a'; there is no difference to learn. Add examples or desc"),
        ([["a"], ["a"]], ValueError, "y has one class only; there is no difference to learn"),
        ([["a", "b"], ["a", "b"]], ValueError, "All rows of y have the same labels; there is no difference"),
    ],
)
def test_what_are_no_labels_is_one_clear_error(y, error, message, embedder):
    with pytest.raises(error, match=message):
        SentenceEmbeddingClassifier(embedder=embedder).fit(["x", "y"], y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"sample_weight has the shape \(1,\); it must be \(2,\), a weight for each row of X"),
        ([[1.0], [1.0]], r"sample_weight has the shape \(2, 1\)"),
        ([1.0, np.nan], r"sample_weight\[1\] is NaN or infinite"),
        (pd.Series([1.0, np.inf], index=["r", "s"]), r"sample_weight\[1\] \(index label 's'\) is NaN or infinite"),
    ],
)
def test_what_are_no_weights_is_one_clear_error(weights, message, embedder):
    with pytest.raises(ValueError, match=message):
        SentenceEmbeddingClassifier(embedder=embedder).fit(["x", "y"], ["a", "b"], weights)


class TestEncodedLabels:
    """scikit-learn's tools that encode labels as integers, which keys of descriptions are never matched with."""

    TEXTS = ["a fox", "the quick fox", "a dog", "a parcel", "the wrong address", "my parcel"] * 2
    LABELS = (["animal"] * 3 + ["parcel"] * 3) * 2
    DESCRIPTIONS = {"animal": "a quick fox", "parcel": "a parcel"}  # noqa: RUF012
    TOOLS = {  # noqa: RUF012
        "probabilities": lambda e, X, y: cross_val_predict(e, X, y, method="predict_proba", cv=2),
        "stacking": lambda e, X, y: StackingClassifier([("e", e)], cv=2).fit(X, y).predict(X),
        "voting": lambda e, X, y: VotingClassifier([("e", e)], voting="soft").fit(X, y).predict(X),
    }

    @pytest.mark.parametrize("tool", TOOLS)
    def test_keys_of_texts_are_refused_with_the_way_out(self, tool, embedder):
        classifier = SentenceEmbeddingClassifier(self.DESCRIPTIONS, embedder=embedder)
        with pytest.raises(TypeError, match=r"are integers, e\.g\. 0, but the keys of descriptions are texts.*encodes"):
            self.TOOLS[tool](classifier, np.array(self.TEXTS, dtype=object), self.LABELS)

    @pytest.mark.parametrize("tool", TOOLS)
    def test_keys_that_are_encoded_as_the_message_says_are_used(self, tool, embedder):
        y, descriptions = self.LABELS, self.DESCRIPTIONS
        encoder = LabelEncoder().fit([*y, *descriptions])
        y = encoder.transform(y)
        descriptions = {
            number: descriptions[label] for number, label in enumerate(encoder.classes_) if label in descriptions
        }
        made = self.TOOLS[tool](
            SentenceEmbeddingClassifier(descriptions, embedder=embedder), np.array(self.TEXTS, dtype=object), y
        )
        made = made.argmax(axis=1) if made.ndim == 2 else made
        assert np.mean(made == y) > 0.8

    def test_numbers_of_stars_are_not_taken_for_encoded_labels(self, embedder):
        stars = SentenceEmbeddingClassifier({1: "a quick fox", 2: "a parcel"}, embedder=embedder)
        X, y = np.array(self.TEXTS, dtype=object), np.array([1, 1, 1, 2, 2, 2] * 2)
        assert stars.fit(X, y).classes_.tolist() == [1, 2]
        with pytest.raises(ValueError, match=r"are 0 to 1, .* 2 other integers, from 1 to 2\. .*Encode both"):
            self.TOOLS["voting"](stars, X, y)

    @pytest.mark.parametrize("y", [pd.DataFrame(np.eye(2, dtype=int)), np.eye(2, dtype=int)], ids=["frame", "array"])
    def test_an_indicator_without_names_asks_for_a_frame(self, y, embedder):
        classifier = SentenceEmbeddingClassifier(self.DESCRIPTIONS, embedder=embedder)
        with pytest.raises(TypeError, match=r"indicator, whose columns have no names.*Pass a frame"):
            classifier.fit(["a fox", "a parcel"], y)

    def test_calibration_leaves_labels_as_they_are(self, embedder):
        classifier = SentenceEmbeddingClassifier(self.DESCRIPTIONS, embedder=embedder)
        calibrated = CalibratedClassifierCV(classifier, cv=2).fit(np.array(self.TEXTS, dtype=object), self.LABELS)
        assert calibrated.predict(["a parcel"]).tolist() == ["parcel"]

    @pytest.mark.parametrize(("keys", "y"), [([1, 2], ["a", "b"]), ([True, False], [1, 2]), ([1, 2], [1.0, 2.0])])
    def test_other_types_of_keys_are_refused_too(self, keys, y, embedder):
        descriptions = dict(zip(keys, ["a fox", "a dog"], strict=True))
        with pytest.raises(TypeError, match=r"keys of descriptions are .* All must be of one type|encodes"):
            SentenceEmbeddingClassifier(descriptions, embedder=embedder).fit(["x", "y"], y)


# Texts


def test_a_missing_text_is_an_error_before_a_model_is_trained(tiny):
    tuner = SentenceEmbeddingFineTuner(tiny, missing="nan", loss=lambda *_: 1 / 0, **FAST)
    with pytest.raises(ValueError, match=r"^X\[1\] \(index label 8\) is missing"):
        SentenceEmbeddingClassifier(embedder=tuner).fit(pd.Series(["a", None, "b"], index=[7, 8, 9]), ["x", "y", "x"])


@pytest.mark.parametrize("value", [pd.DataFrame({"text": ["a fox"]}), {"en": "a fox"}], ids=["frame", "mapping"])
def test_descriptions_of_a_label_are_a_text_or_a_list(value, embedder):
    with pytest.raises(TypeError, match=r"descriptions\['a'\] is a \w+; it must be a text or a list of texts"):
        SentenceEmbeddingClassifier({"a": value, "b": "a dog"}, embedder=embedder).fit()


def test_a_bad_description_is_named_by_its_label(embedder):
    with pytest.raises(ValueError, match=r"descriptions\[1\] \(index label 'b'\)"):
        SentenceEmbeddingClassifier({"a": "a dog", "b": "a lone \ud800"}, embedder=embedder).fit()


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
@pytest.mark.parametrize("X", [None, TEXTS], ids=["zero-shot", "examples"])
def test_a_missing_text_has_no_label_and_probabilities_of_nan(X, missing, tiny):
    embedder = SentenceEmbeddingTransformer(tiny, missing="nan")
    classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(X, X and LABELS)
    for method in ("predict_proba", "decision_function"):
        scores = getattr(classifier, method)(["a fox", missing])
        assert np.isnan(scores).tolist() == [[False] * 3, [True] * 3]
        assert_allclose(scores[0], getattr(classifier, method)(["a fox"])[0], atol=1e-5)
        assert np.isnan(getattr(classifier, method)([missing])).all()
    with pytest.raises(ValueError, match=r"X\[1\] is missing, so that it has no label; drop it"):
        classifier.predict(["a fox", missing])


@pytest.mark.parametrize("missing", ["error", "nan"])
def test_an_example_may_not_be_missing(missing, tiny):
    classifier = SentenceEmbeddingClassifier(embedder=SentenceEmbeddingTransformer(tiny, missing=missing))
    with pytest.raises(ValueError, match=r"X\[1\] \(index label 's'\) is missing.* X is column 'title'"):
        classifier.fit(pd.Series(["x", None], index=["r", "s"], name="title"), ["a", "b"])


def test_missing_texts_that_have_a_vector_are_examples(tiny):
    embedder = SentenceEmbeddingTransformer(tiny, missing="zero")
    classifier = SentenceEmbeddingClassifier(embedder=embedder, classifier=KNeighborsClassifier(1))
    classifier.fit(["a fox", None], ["fox", "none"])
    assert classifier.predict([None, "a fox"]).tolist() == ["none", "fox"]


@pytest.mark.parametrize("method", METHODS)
class TestMethods:
    @pytest.fixture(params=["zero_shot", "fitted"])
    def classifier(self, request):
        return request.getfixturevalue(request.param)

    def test_no_texts_give_no_rows(self, method, classifier):
        assert getattr(classifier, method)([]).shape == ((0,) if method == "predict" else (0, 3))

    def test_a_missing_text_is_an_error_unless_the_embedder_takes_it(self, method, classifier):
        with pytest.raises(ValueError, match=r"X\[1\] is missing"):
            getattr(classifier, method)(["a fox", None])

    @pytest.mark.parametrize(
        ("X", "message"), [("x", "single str"), (None, "not a column"), (["a", 4], r"X\[1\] is int, not str")]
    )
    def test_a_value_that_is_not_a_text_is_an_error(self, method, X, message, classifier):
        with pytest.raises(TypeError, match=message):
            getattr(classifier, method)(X)

    def test_before_fit_there_is_nothing_to_say(self, method, classifier):
        with pytest.raises(NotFittedError):
            getattr(clone(classifier), method)(TEXTS)

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
            assert made.tolist() == (expected.tolist() if method == "predict" else pytest.approx(expected, abs=1e-4))
        assert counted == []


def test_fit_warns_of_long_texts_at_the_callers_line(embedder):
    for descriptions, X, y in (
        ({"a": LONG, "b": "x"}, None, None),
        (None, [LONG, "x"], ["a", "b"]),
        ({"b": "y"}, [LONG, "x"], ["a", "b"]),
    ):
        classifier = SentenceEmbeddingClassifier(descriptions, embedder=embedder)
        with pytest.warns(TruncationWarning, match="1 of 2") as caught:
            classifier.fit(X, y)
        assert [warning.filename for warning in caught] == [__file__]


def test_each_text_is_encoded_once(embedder, counted):
    classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(TEXTS, LABELS)
    assert len(counted) == 8
    classifier.predict(TEXTS)
    classifier.predict_proba(TEXTS)
    clone(classifier).fit(TEXTS, LABELS)
    assert len(counted) == 8


# Vectors and other embedders


def test_with_vectors_on_all_sides_no_model_is_needed(counted):
    nowhere = SentenceEmbeddingTransformer("no-such-model")
    classifier = SentenceEmbeddingClassifier({"x": [1.0, 0.0], "y": [0.0, 1.0]}, embedder=nowhere)
    assert classifier.fit().predict([[0.1, 3.0], [2.0, 1.0]]).tolist() == ["y", "x"]
    classifier.fit([[1.0, 1.0], [-1.0, -1.0]], ["y", "z"])
    assert classifier.predict([[0.1, 3.0], [-2.0, -1.0]]).tolist() == ["y", "z"]
    assert counted == []


def test_examples_may_be_vectors_and_descriptions_texts(embedder, tiny, fitted):
    vectors = pd.Series(TEXTS).embed(output="vector", model=tiny)
    other = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(vectors, LABELS)
    assert_allclose(other.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-4)


def test_vectors_of_another_model_than_the_embedders_are_refused(embedder):
    vectors = VectorArray(np.eye(32)[:2], model="other 0123456789abcdef")
    with pytest.raises(ValueError, match=r"descriptions are of the model bert \w{16}.* those of X of other"):
        SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(vectors, ["login", "animal"])
    classifier = SentenceEmbeddingClassifier(embedder=embedder).fit(vectors, ["x", "y"])
    with pytest.raises(ValueError, match=r"bert \w{16}.* other 0123456789abcdef"):
        classifier.predict(["x"])
    with pytest.raises(ValueError, match="descriptions have 32 dimensions, those of X 3"):
        SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(np.eye(3)[:2], ["login", "animal"])


def test_a_tfidf_vectorizer_learns_from_texts_and_descriptions():
    embedder = TfidfVectorizer()
    descriptions = {"fox": "a quick fox", "parcel": ["a parcel", "the wrong address"]}
    classifier = SentenceEmbeddingClassifier(descriptions, embedder=embedder).fit()
    assert classifier.predict(["a wrong parcel", "fox"]).tolist() == ["parcel", "fox"]
    assert sorted(classifier.embedder_.vocabulary_) == ["address", "fox", "parcel", "quick", "the", "wrong"]
    classifier.fit(["a lazy dog"], ["dog"])
    assert classifier.predict(["lazy", "fox"]).tolist() == ["dog", "fox"]
    assert {"lazy", "fox"} <= set(classifier.embedder_.vocabulary_)
    assert not hasattr(embedder, "vocabulary_")


class Watch(BaseEstimator):
    """An embedder that notes what it was fitted on."""

    def fit(self, X, y=None):
        self.seen_ = list(X), y
        return self

    def transform(self, X):
        return np.array([[len(text), text.count("a") + 1] for text in X], dtype=float)


class TestEmbedderThatLearns:
    def test_it_gets_descriptions_with_their_labels_after_the_examples(self):
        classifier = SentenceEmbeddingClassifier({"fox": ["a fox", "foxes"], "z": "zoo"}, embedder=Watch())
        texts, y = classifier.fit(["dog", "the fox"], ["dog", "fox"]).embedder_.seen_
        assert (texts, y.tolist()) == (["dog", "the fox", "a fox", "foxes", "zoo"], ["dog", "fox", "fox", "fox", "z"])

    def test_descriptions_without_weight_are_left_out(self):
        classifier = SentenceEmbeddingClassifier({"fox": "a fox"}, embedder=Watch(), description_weight=0)
        assert classifier.fit(["dog", "the fox"], ["dog", "fox"]).embedder_.seen_[0] == ["dog", "the fox"]

    def test_several_labels_come_as_an_indicator(self):
        classifier = SentenceEmbeddingClassifier({"z": "zoo"}, embedder=Watch())
        _, y = classifier.fit(["dog", "the fox"], [["dog"], ["fox", "red"]]).embedder_.seen_
        assert y.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]

    @pytest.mark.slow
    def test_a_fine_tuner_is_trained_on_examples_and_descriptions(self, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, **FAST)
        classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=tuner).fit(TEXTS, LABELS)
        said = [*DESCRIPTIONS["login"], DESCRIPTIONS["animal"], DESCRIPTIONS["parcel"]]
        alone = clone(tuner).fit([*TEXTS, *said], [*LABELS, "login", "login", "animal", "parcel"])
        assert classifier.embedder_.model_fingerprint_ == alone.model_fingerprint_
        assert classifier.predict(TEXTS).tolist() == LABELS
        again = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=classifier.embedder_).fit(TEXTS, LABELS)
        assert again.embedder_ is classifier.embedder_
        assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))

    def test_without_examples_a_fine_tuner_is_refused(self, tiny):
        with pytest.raises(ValueError, match=r"have no labels\. Fit it on labelled texts first"):
            SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=SentenceEmbeddingFineTuner(tiny, **FAST)).fit()


def test_a_frozen_embedder_is_taken_as_it_is(embedder, fitted):
    frozen = FrozenEstimator(TfidfVectorizer().fit(["quick fox parcel"]))
    descriptions = {"fox": "a quick fox", "parcel": "a parcel of login"}
    tfidf = SentenceEmbeddingClassifier(descriptions, embedder=frozen).fit(["the login"], ["parcel"])
    assert tfidf.predict(["a parcel"]).tolist() == ["parcel"]
    assert len(tfidf.embedder_.vocabulary_) == 3
    same = FrozenEstimator(embedder.fit(TEXTS))
    other = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=same).fit(TEXTS, LABELS)
    assert_allclose(other.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-6)


def test_a_pipeline_embeds(embedder):
    pipe = make_pipeline(embedder, FunctionTransformer(lambda vectors: vectors[:, :4]))
    classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=pipe).fit()
    assert classifier.predict([DESCRIPTIONS["animal"]]).tolist() == ["animal"]


# Parameters


def test_the_parameters_are_never_changed(embedder):
    before, classifier = {**vars(embedder)}, logistic()
    SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, classifier=classifier).fit(TEXTS, LABELS)
    assert vars(embedder) == before
    assert not hasattr(classifier, "classes_")


def test_parameters_of_the_embedder_are_reached(zero_shot, embedder):
    assert zero_shot.get_params()["embedder__pooling"] == "default"
    cls = clone(zero_shot).set_params(embedder__pooling="cls").fit()
    assert not np.allclose(cls.decision_function(TEXTS), zero_shot.decision_function(TEXTS))
    assert embedder.pooling == "default"


@pytest.mark.parametrize("X", [None, TEXTS], ids=["zero-shot", "examples"])
def test_copies_and_pickles_say_the_same(X, embedder):
    y = X and LABELS
    classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(X, y)
    for other in (clone(classifier).fit(X, y), pickle.loads(pickle.dumps(classifier))):
        assert_array_equal(other.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert len(pickle.dumps(classifier)) < 10_000  # holds no model


@pytest.mark.parametrize("X", [None, TEXTS], ids=["zero-shot", "examples"])
def test_a_changed_model_under_the_same_name_is_refused(X, tiny, model_folder, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    embedder = SentenceEmbeddingTransformer(str(folder))
    classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(X, X and LABELS)
    shutil.copytree(model_folder("roberta"), folder, dirs_exist_ok=True)
    for each in (classifier, pickle.loads(pickle.dumps(classifier))):
        for method in METHODS:
            with pytest.raises(ModelChangedError, match="not the one this transformer was fitted with"):
                getattr(each, method)(TEXTS)


# Several labels a row

SETS = [["animal"], ["login"], ["parcel", "urgent"], ["login", "urgent"]]
COLUMNS = ["animal", "login", "parcel", "urgent"]
INDICATOR = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]])


class TestSeveralLabels:
    @pytest.mark.parametrize(
        "y",
        [
            SETS,
            tuple(map(tuple, SETS)),
            list(map(set, SETS)),
            list(map(frozenset, SETS)),
            list(map(np.array, SETS)),
            pd.Series(SETS, index=list("wxyz")),
            pd.Series(map(set, SETS)),
            pl.Series(SETS),
            np.array([*SETS, None], dtype=object)[:-1],
            pd.DataFrame(INDICATOR, columns=COLUMNS),
            pd.DataFrame(INDICATOR, columns=COLUMNS).astype(bool),
            pd.DataFrame(INDICATOR, columns=COLUMNS).astype("Int64"),
            pl.DataFrame(INDICATOR, schema=COLUMNS),
        ],
        ids=lambda y: type(y).__module__.partition(".")[0],
    )
    def test_they_come_in_any_container(self, y, embedder):
        expected = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, classifier=sharp()).fit(TEXTS, SETS)
        classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, classifier=sharp()).fit(TEXTS, y)
        assert classifier.classes_.tolist() == COLUMNS
        assert_array_equal(classifier.predict(TEXTS), INDICATOR)
        assert classifier.predict_labels(TEXTS) == SETS
        assert classifier.score(TEXTS, y) == 1
        assert_allclose(classifier.predict_proba(TEXTS), expected.predict_proba(TEXTS), atol=1e-4)

    @pytest.mark.parametrize(
        "make", [np.array, lambda y: y.astype(bool), lambda y: y.astype(float), csr_matrix, csr_array]
    )
    def test_an_indicator_has_numbers_for_labels(self, make, embedder):
        classifier = SentenceEmbeddingClassifier({2: "a parcel", 7: "a dog"}, embedder=embedder, classifier=sharp())
        classifier.fit(TEXTS, make(INDICATOR))
        assert classifier.classes_.tolist() == [0, 1, 2, 3, 7]
        predicted = classifier.predict(TEXTS)
        assert predicted.dtype == np.int64
        assert_array_equal(predicted, np.c_[INDICATOR, np.zeros(4, int)])
        assert classifier.predict_labels(TEXTS[2:]) == [[2, 3], [1, 3]]

    def test_a_description_is_a_row_for_its_own_label_alone(self, embedder, tiny):
        classifier = SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder).fit(TEXTS, SETS)
        assert isinstance(classifier.classifier_, OneVsRestClassifier)
        vectors = skembed.embed(TEXTS, model=tiny, normalize_embeddings=True)
        for number, label in enumerate(COLUMNS):
            said = DESCRIPTIONS.get(label, [])
            said = [said] if isinstance(said, str) else said
            described = skembed.embed(said, model=tiny, normalize_embeddings=True) if said else vectors[:0]
            expected = logistic().fit(np.r_[vectors, described], [*INDICATOR[:, number], *[1] * len(said)])
            scores = classifier.decision_function(TEXTS)[:, number]
            assert_allclose(scores, expected.decision_function(vectors), atol=1e-3)
            probabilities = classifier.predict_proba(TEXTS)[:, number]
            assert_allclose(probabilities, expected.predict_proba(vectors)[:, 1], atol=1e-4)

    def test_without_descriptions_it_is_the_one_vs_rest_classifier_of_scikit_learn(self):
        X, y = draw_examples()
        indicator = np.c_[LabelBinarizer().fit_transform(y), np.zeros(30, int)]
        ours = SentenceEmbeddingClassifier()
        with pytest.warns(UserWarning, match="Label not 3 is present in all training examples"):
            ours.fit(X, indicator)
        with pytest.warns(UserWarning, match="Label not 3"):
            expected = OneVsRestClassifier(logistic()).fit(unit(X).astype(np.float32), indicator)
        for method in METHODS:
            assert_allclose(getattr(ours, method)(X), getattr(expected, method)(unit(X)), atol=1e-3)
        assert vars(ours.classifier_).keys() == vars(expected).keys()
        assert repr(ours.classifier_) == repr(expected)

    @pytest.mark.parametrize("base", [logistic(), LinearSVC()], ids=["probabilities", "margins"])
    @pytest.mark.parametrize("constant", [0, 1])
    @pytest.mark.filterwarnings("ignore:Label not 0 is present:UserWarning", "ignore:Label 0 is present:UserWarning")
    def test_a_first_label_that_all_or_no_rows_have_changes_nothing_for_the_others(self, base, constant):
        X, y = draw_examples()
        others = LabelBinarizer().fit_transform(y)
        ours = SentenceEmbeddingClassifier(classifier=base).fit(X, np.c_[np.full(30, constant), others])
        expected = SentenceEmbeddingClassifier(classifier=base).fit(X, others)
        assert_array_equal(ours.predict(X)[:, 0], constant)
        assert_array_equal(ours.predict(X)[:, 1:], expected.predict(X))
        assert hasattr(ours, "predict_proba") == hasattr(expected, "predict_proba")

    def test_a_label_of_descriptions_alone_is_a_column(self, embedder):
        classifier = SentenceEmbeddingClassifier({"zoo": "a lazy dog"}, embedder=embedder, classifier=sharp()).fit(
            TEXTS, SETS
        )
        assert classifier.classes_.tolist() == [*COLUMNS, "zoo"]
        assert "zoo" in classifier.predict_labels(["a lazy dog"])[0]
        assert_array_equal(classifier.predict(TEXTS)[:, -1], 0)

    def test_a_prediction_may_have_no_label(self):
        X = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
        classifier = SentenceEmbeddingClassifier().fit(X, np.array([[1, 0], [0, 1], [0, 0], [0, 0]]))
        assert classifier.predict_labels([[0, 0, 1]]) == [[]]
        assert classifier.score(X[3:], [[]]) == 1

    def test_columns_keep_the_order_of_the_frame_so_that_scorers_compare_the_right_ones(self, embedder):
        frame = pd.DataFrame(INDICATOR, columns=COLUMNS)[["urgent", "animal", "parcel", "login"]]
        classifier = SentenceEmbeddingClassifier({"bill": "the bill"}, embedder=embedder, classifier=sharp()).fit(
            TEXTS, frame
        )
        assert classifier.classes_.tolist() == ["urgent", "animal", "parcel", "login", "bill"]
        assert_array_equal(classifier.predict(TEXTS)[:, :4], frame)
        assert classifier.predict_labels(TEXTS[3:]) == [["urgent", "login"]]
        assert classifier.score(TEXTS, frame[frame.columns[::-1]]) == classifier.score(TEXTS, SETS) == 1

    def test_hundreds_of_labels_are_kept_apart(self):
        X = np.eye(200)
        classifier = SentenceEmbeddingClassifier(classifier=logistic(class_weight="balanced"))
        classifier.fit(np.r_[X, X], np.r_[X, X].astype(int))
        assert_array_equal(classifier.predict(X[-3:]).argmax(axis=1), [197, 198, 199])

    @pytest.mark.parametrize("weight", [0.3, 2.0])
    def test_weights_of_examples_and_descriptions_reach_each_classifier(self, weight):
        X, y = draw_examples()
        sets = [[label, "x"] if number % 2 else [label] for number, label in enumerate(y)]
        weights = np.random.default_rng(0).uniform(0.5, 2, size=30)
        classifier = SentenceEmbeddingClassifier({"a": [1.0, 0, 0, 0]}, description_weight=weight)
        classifier.fit(X, sets, weights)
        rows, indicator = unit(X).astype(np.float32), MultiLabelBinarizer().fit_transform(sets)
        for number in range(4):
            n = int(number == 0)  # of descriptions
            of_rows = [*weights, weight][: 30 + n]
            expected = logistic().fit(np.r_[rows, np.eye(4)[:n]], [*indicator[:, number], 1][: 30 + n], of_rows)
            assert_allclose(classifier.predict_proba(X)[:, number], expected.predict_proba(rows)[:, 1], atol=1e-3)

    def test_a_one_vs_rest_classifier_is_not_put_into_another(self, embedder):
        ours = SentenceEmbeddingClassifier(
            embedder=embedder, classifier=OneVsRestClassifier(LinearSVC(C=1e6), n_jobs=2)
        )
        assert isinstance(ours.fit(TEXTS, SETS).classifier_.estimator, LinearSVC)
        assert ours.classifier_.n_jobs == 2
        assert not hasattr(ours, "predict_proba")
        assert_array_equal(ours.predict(TEXTS), INDICATOR)

    def test_missing_texts_have_scores_of_nan(self, tiny):
        embedder = SentenceEmbeddingTransformer(tiny, missing="nan")
        classifier = SentenceEmbeddingClassifier(embedder=embedder, classifier=sharp()).fit(TEXTS, SETS)
        assert np.isnan(classifier.predict_proba([None, "a"])).tolist() == [[True] * 4, [False] * 4]
        for method in ("predict", "predict_labels"):
            with pytest.raises(ValueError, match=r"X\[0\] is missing"):
                getattr(classifier, method)([None, "a"])

    @pytest.mark.parametrize("scorer", ["f1_micro", "f1_macro", "average_precision", "roc_auc", "accuracy"])
    def test_scorers_of_scikit_learn_and_searches_take_an_indicator(self, scorer):
        X, y = draw_examples(n_rows=60)
        sets = [[label, "x"] if row[3] > 0 else [label] for label, row in zip(y, X, strict=True)]
        frame = pd.DataFrame(MultiLabelBinarizer().fit_transform(sets), columns=[*"abcx"])
        classifier = SentenceEmbeddingClassifier(DIRECTIONS)
        assert cross_val_score(classifier, X, frame, cv=3, scoring=scorer).min() > 0.3
        search = GridSearchCV(classifier, {"description_weight": [0, 1]}, cv=3, scoring=scorer).fit(X, frame)
        assert search.score(X, frame) > 0.5
        predicted = classifier.fit(X, sets).predict(X)
        assert get_scorer("f1_micro")(classifier, X, frame) == f1_score(frame, predicted, average="micro")

    @pytest.mark.parametrize("y", [SETS, np.array([*SETS, None], dtype=object)[:-1]], ids=["list", "array"])
    def test_scikit_learn_itself_says_what_lists_must_become(self, y, embedder):
        with pytest.raises(ValueError, match="MultiLabelBinarizer"):
            cross_val_score(
                SentenceEmbeddingClassifier(embedder=embedder, classifier=sharp()), TEXTS, y, cv=2, error_score="raise"
            )

    def test_score_counts_rows_with_exactly_the_right_labels(self, embedder):
        classifier = SentenceEmbeddingClassifier(embedder=embedder, classifier=sharp()).fit(TEXTS, SETS)
        assert classifier.score(TEXTS, INDICATOR) == 1
        assert classifier.score(TEXTS, [["animal"], ["login"], ["parcel"], ["login", "new"]]) == 0.5
        assert classifier.score(TEXTS, [["animal"], [], [], []], sample_weight=[3, 1, 1, 1]) == 0.5
        with pytest.raises(ValueError, match="y has 3 columns, but there are 4 classes"):
            classifier.score(TEXTS, INDICATOR[:, :3])
        with pytest.raises(TypeError, match=r"labels in y are integers.* labels seen in fit are texts"):
            classifier.score(TEXTS, pd.DataFrame(INDICATOR))
        with pytest.raises(TypeError, match=r"y\[0\] is str; where rows have several labels, each needs a list"):
            classifier.score(TEXTS, LABELS)

    def test_an_indicator_without_names_does_not_fit_keys_with_names(self, embedder):
        with pytest.raises(TypeError, match=r"columns have no names.*MultiLabelBinarizer"):
            SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=embedder, classifier=sharp()).fit(TEXTS, INDICATOR)


# As a scikit-learn estimator


def test_it_is_a_classifier_of_texts(zero_shot):
    assert is_classifier(zero_shot)
    tags = get_tags(zero_shot)
    assert tags.input_tags.string
    assert tags.classifier_tags.multi_class
    assert tags.classifier_tags.multi_label
    assert tags.requires_fit


def test_it_is_shown_in_text_and_in_html(zero_shot):
    assert (
        repr(SentenceEmbeddingClassifier(description_weight=2)) == "SentenceEmbeddingClassifier(description_weight=2)"
    )
    assert "SentenceEmbeddingClassifier" in zero_shot._repr_html_()


def test_a_fitted_one_is_cross_validated_frozen(zero_shot):
    y = zero_shot.predict(TEXTS)
    assert cross_val_score(FrozenEstimator(zero_shot), TEXTS * 3, np.tile(y, 3), cv=3).tolist() == [1, 1, 1]


def test_it_is_searched_over_descriptions_classifier_and_embedder(embedder):
    texts = ["a fox", "the quick fox", "a parcel", "the wrong address"] * 3
    labels = ["animal", "animal", "parcel", "parcel"] * 3
    grid = {
        "descriptions": [None, {"animal": "a fox", "parcel": "a parcel"}],
        "description_weight": [0, 0.5, 1],
        "classifier__C": [0.1, 10],
        "embedder__pooling": ["mean", "cls"],
    }
    classifier = SentenceEmbeddingClassifier(embedder=embedder, classifier=logistic())
    search = GridSearchCV(classifier, grid, cv=3, scoring="neg_log_loss", error_score="raise").fit(texts, labels)
    assert search.best_params_["classifier__C"] == 10
    assert search.best_estimator_.predict(["a fox"]).tolist() == ["animal"]


def test_weights_pass_through_a_search_and_are_routed_on_request():
    X, y = draw_examples()
    weights = np.random.default_rng(0).uniform(size=30)
    classifier = SentenceEmbeddingClassifier({"a": [1.0, 0, 0, 0]})
    expected = clone(classifier).fit(X, y, weights).predict_proba(X)
    search = GridSearchCV(classifier, {"description_weight": [1]}, cv=3).fit(X, y, sample_weight=weights)
    assert_allclose(search.predict_proba(X), expected)
    with sklearn.config_context(enable_metadata_routing=True):
        requesting = clone(classifier).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = GridSearchCV(requesting, {"description_weight": [1]}, cv=3).fit(X, y, sample_weight=weights)
        assert_allclose(routed.predict_proba(X), expected)
        assert cross_validate(requesting, X, y, params={"sample_weight": weights}, error_score="raise")


def test_two_classes_are_scored_as_scikit_learn_scores_them():
    numbers = np.random.default_rng(0)
    texts, labels = numbers.normal(size=(40, 4)), np.repeat(["no", "yes"], 20)
    texts[20:, 0] += 1
    descriptions = {"no": [-1.0, 0, 0, 0], "yes": [1.0, 0, 0, 0]}
    for classifier in (
        SentenceEmbeddingClassifier(descriptions).fit(),
        SentenceEmbeddingClassifier(descriptions).fit(texts, labels),
    ):
        assert classifier.decision_function(texts).shape == (40,)
        expected = roc_auc_score(labels == "yes", classifier.predict_proba(texts)[:, 1])
        assert get_scorer("roc_auc")(classifier, texts, labels) == pytest.approx(expected)
        assert CalibratedClassifierCV(FrozenEstimator(classifier)).fit(texts, labels).score(texts, labels) > 0.6
        fixed = FixedThresholdClassifier(FrozenEstimator(classifier), threshold=0.999, response_method="predict_proba")
        assert (fixed.fit(texts, labels).predict(texts) == "yes").mean() < (classifier.predict(texts) == "yes").mean()
