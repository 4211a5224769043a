"""scikit-learn's own estimator checks, fed with texts.

For an estimator of strings ``check_estimator`` runs one check only. Here all checks that it would run for numbers are
run, with a column of texts in place of each matrix of numbers; those that make no sense for texts are named below.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.utils import estimator_checks

from skembed import SentenceEmbeddingTransformer

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
    "check_transformer_data_not_an_array": "passes a column as nested lists, which are refused; arrays are welcome",
    "check_fit2d_predict1d": "expects one dimension to be refused; for texts it is the usual one",
    "check_fit1d": "expects one dimension to be refused; for texts it is the usual one",
}


class _ListedAsNumeric(SentenceEmbeddingTransformer):
    """Lists the checks as for numbers, because scikit-learn omits most of them for strings."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        return tags


def _all_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = [check for _, check in estimator_checks.estimator_checks_generator(_ListedAsNumeric())]
    return {f"{check.func.__name__}{'-' * number}": check for number, check in _numbered(checks)}


def _numbered(checks):
    names = [check.func.__name__ for check in checks]
    return [(names[:position].count(names[position]), check) for position, check in enumerate(checks)]


CHECKS = _all_checks()


def _as_texts(estimator, X, kernel=None):
    """Write each row of numbers as one text of digits, which scikit-learn's checks can still read as a number."""
    rows = np.asarray(X)
    rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows[:, None]
    return np.array([[str(abs(int(row.real.sum() * 1000)))] for row in rows], dtype=object)


@pytest.fixture
def transformer(tiny, monkeypatch):
    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", _as_texts)
    return SentenceEmbeddingTransformer(tiny)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(name for name in CHECKS if name.rstrip("-") not in NO_SENSE_FOR_TEXTS))
def test_scikit_learns_check_passes_on_texts(name, transformer):
    check = CHECKS[name]
    check.func("SentenceEmbeddingTransformer", transformer, *check.args[1:], **check.keywords)


def test_every_check_left_out_is_one_that_exists():
    known = {name.rstrip("-") for name in CHECKS} | {
        "check_array_api_input"
    }  # scikit-learn 1.6 does not have all of them
    assert set(NO_SENSE_FOR_TEXTS) <= known


def test_most_checks_run():
    assert len(CHECKS) - len(NO_SENSE_FOR_TEXTS) >= 30


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_check_estimator_itself_passes(tiny):
    estimator_checks.check_estimator(SentenceEmbeddingTransformer(tiny))
