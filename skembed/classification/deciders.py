"""What decides on vectors: the nearest description, or a classifier of each label. Imports scikit-learn and compat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.dummy import DummyClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.parallel import Parallel, delayed

from skembed.compat import fit_binary

_TEMPERATURE = 0.05  # the scale of 20 with which sentence-transformers trains


@dataclass(frozen=True)
class NearestDescription:
    """Decides by the nearest description of each label, as a fitted classifier would.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n_descriptions, dim)
        Of unit length.
    class_of : ndarray of int, shape (n_descriptions,)
        Position of each description's label in ``classes``.
    classes : ndarray
    """

    vectors: NDArray[np.float32]
    class_of: NDArray[np.intp]
    classes: NDArray[Any]

    def predict(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Return the label of the nearest description; of equally near ones, the first of ``classes``."""
        labels: NDArray[Any] = self.classes[self._scores(vectors).argmax(axis=1)]
        return labels

    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the softmax of the largest cosines of each label, divided by the temperature."""
        probabilities: NDArray[np.float64] = softmax(self._scores(vectors).astype(np.float64) / _TEMPERATURE, axis=1)
        return probabilities

    def decision_function(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the largest cosine of each label; for two labels, that of the second less that of the first."""
        scores = self._scores(vectors)
        return scores[:, 1] - scores[:, 0] if len(self.classes) == 2 else scores

    def _scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        cosines = (vectors @ self.vectors.T).clip(-1, 1)
        scores = np.full((len(vectors), len(self.classes)), -np.inf, dtype=np.float32)
        for number, class_number in enumerate(self.class_of):
            np.maximum(scores[:, class_number], cosines[:, number], out=scores[:, class_number])
        return scores


def fit_one_vs_rest(
    classifier: OneVsRestClassifier,
    vectors: NDArray[np.float32],
    indicator: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    n_examples: int,
    classes: NDArray[Any],
) -> None:
    """Fit a classifier for each label on all examples and the descriptions of that label.

    A description says that texts like it have its label, and nothing about other labels: that of an intent is no
    example against the domain of that intent. OneVsRestClassifier itself would fit all labels on the same rows.
    """
    base, n_classes = classifier.estimator, len(classes)
    rows_of_all = np.eye(n_classes, dtype=np.int64)
    classifier.set_params(estimator=DummyClassifier()).fit(rows_of_all, rows_of_all)  # prepares all but estimators_
    is_used = np.ones((n_classes, len(vectors)), dtype=bool)
    is_used[:, n_examples:] = indicator[n_examples:].T == 1
    classifier.estimators_ = Parallel(n_jobs=classifier.n_jobs, verbose=classifier.verbose)(
        delayed(fit_binary)(
            base,
            vectors[rows],
            target[rows],
            label,
            {} if weights is None else {"sample_weight": weights[rows]},
        )
        for rows, target, label in zip(is_used, indicator.T, classes.tolist(), strict=True)
    )
    classifier.set_params(estimator=base).n_features_in_ = vectors.shape[1]


def predict_each(classifier: OneVsRestClassifier, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Predict 0 or 1 for each label by its own classifier.

    OneVsRestClassifier itself has one threshold for all labels, by what the classifier of the first one is.
    """
    return np.stack([each.predict(vectors) for each in classifier.estimators_], axis=1).astype(np.int64)
