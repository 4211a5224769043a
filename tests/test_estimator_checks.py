"""scikit-learn's own estimator checks, fed with texts.

For an estimator of strings ``check_estimator`` runs one check only. Here all checks that it would run for numbers are
run, with a column of texts in place of each matrix of numbers; those that make no sense for texts are named below.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import estimator_checks

from skembed import SentenceEmbeddingClassifier, SentenceEmbeddingFineTuner, SentenceEmbeddingTransformer

NO_SENSE_FOR_TEXTS = {
    "check_positive_only_tag_during_fit": "does arithmetic on X",
    "check_estimators_dtypes": "casts X to numbers",
    "check_complex_data": "complex numbers; refused like any number, see test_texts.py",
    "check_estimators_empty_data_messages": "no rows are welcome here: they give a matrix of no rows",
    "check_estimators_nan_inf": "infinities; missing texts have tests of their own",
    "check_estimator_sparse_tag": "makes X sparse, which texts cannot be; refused, see test_transformer.py",
    "check_estimator_sparse_array": "makes X sparse",
    "check_estimator_sparse_matrix": "makes X sparse",
    "check_array_api_input": "arrays of numbers on other devices",
    "check_n_features_in": "a text is not a number of features; scikit-learn's text vectorizers have none either",
    "check_fit2d_predict1d": "expects one dimension to be refused; for texts it is the usual one",
    "check_fit1d": "expects one dimension to be refused; for texts it is the usual one",
}
NO_SENSE = {
    SentenceEmbeddingTransformer: {
        **NO_SENSE_FOR_TEXTS,
        "check_transformer_data_not_an_array": "passes a column as nested lists, which are refused; arrays are welcome",
    },
    SentenceEmbeddingFineTuner: {
        **NO_SENSE_FOR_TEXTS,
        "check_transformer_data_not_an_array": "passes a column as nested lists, which are refused; arrays are welcome",
        "check_n_features_in_after_fitting": "a text is not a number of features",
    },
    SentenceEmbeddingClassifier: {
        **NO_SENSE_FOR_TEXTS,
        "check_n_features_in_after_fitting": "a text is not a number of features",
        "check_classifiers_train": "passes a column as nested lists, which are refused; see test_classifier.py",
        "check_classifiers_multilabel_representation_invariance": "expects lists of 0 and 1 to be an indicator; here, "
        "lists hold labels",
    },
}


SLOW = (SentenceEmbeddingFineTuner,)  # each of its checks trains a model several times
A_CLASS_FOR_EACH_TEXT = (  # nothing can be learned from these labels, but from the texts
    "check_dict_unchanged", "check_dont_overwrite_parameters", "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
)  # fmt: skip


def _all_checks(estimator_class):
    class ListedAsNumeric(estimator_class):
        """Lists the checks as for numbers, because scikit-learn omits most of them for strings."""

        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.input_tags.string, tags.input_tags.two_d_array = False, True
            return tags

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = [check for _, check in estimator_checks.estimator_checks_generator(ListedAsNumeric())]
    return {f"{check.func.__name__}{'-' * number}": check for number, check in _numbered(checks)}


def _numbered(checks):
    names = [check.func.__name__ for check in checks]
    return [(names[:position].count(names[position]), check) for position, check in enumerate(checks)]


CHECKS = {estimator_class: _all_checks(estimator_class) for estimator_class in NO_SENSE}


def _as_texts(estimator, X, kernel=None, X_test=None):
    """Write each row of numbers as one text of digits, which scikit-learn's checks can still read as a number."""
    if X_test is not None:
        return _as_texts(estimator, X), _as_texts(estimator, X_test)
    rows = np.asarray(X)
    rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows[:, None]
    return np.array([[str(abs(int(row.real.sum() * 1000)))] for row in rows], dtype=object)


def _make(estimator_class, model, check=""):
    transformer = SentenceEmbeddingTransformer(model)
    if estimator_class is SentenceEmbeddingTransformer:
        return transformer
    if estimator_class is SentenceEmbeddingFineTuner:
        loss = "mlm" if check in A_CLASS_FOR_EACH_TEXT else "auto"
        settings = {"n_pairs_per_text": 2, "batch_size": 2, "random_state": 0, "cache": None}
        return SentenceEmbeddingFineTuner(model, loss=loss, **settings)
    # the iterations of LogisticRegression end at a tolerance that is larger than that check's
    classifier = DecisionTreeClassifier(random_state=0) if check.startswith("check_sample_weight_equiv") else None
    return estimator_class(embedder=transformer, classifier=classifier)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator_class", "name"),
    [
        pytest.param(estimator_class, name, marks=[pytest.mark.slow] if estimator_class in SLOW else [])
        for estimator_class, checks in CHECKS.items()
        for name in sorted(checks)
        if name.rstrip("-") not in NO_SENSE[estimator_class]
    ],
)
def test_scikit_learns_check_passes_on_texts(estimator_class, name, tiny, monkeypatch):
    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", _as_texts)
    check = CHECKS[estimator_class][name]
    estimator = _make(estimator_class, tiny, name)
    check.func(estimator_class.__name__, estimator, *check.args[1:], **check.keywords)


@pytest.mark.parametrize("estimator_class", NO_SENSE)
def test_every_check_left_out_is_one_that_exists(estimator_class):
    known = {name.rstrip("-") for name in CHECKS[estimator_class]}
    known |= {"check_array_api_input", "check_classifiers_multilabel_representation_invariance"}  # not in every version
    assert set(NO_SENSE[estimator_class]) <= known


@pytest.mark.parametrize("estimator_class", NO_SENSE)
def test_most_checks_run(estimator_class):
    assert len(CHECKS[estimator_class]) - len(NO_SENSE[estimator_class]) >= 30


@pytest.mark.filterwarnings("ignore:Can't test estimator")
@pytest.mark.parametrize("estimator_class", sorted(set(NO_SENSE) - set(SLOW), key=str))  # the others read pairs, too
def test_check_estimator_itself_passes(estimator_class, tiny):
    estimator_checks.check_estimator(_make(estimator_class, tiny))
