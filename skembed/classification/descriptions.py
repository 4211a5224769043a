"""Zero-shot classification by the nearest description of a label. Imports scikit-learn and the embedders."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_number
from skembed.embedders import embed_column, embed_like, model_tag, plan_of, read_column_for, resolve_embedder
from skembed.encoding.columns import Column
from skembed.encoding.labels import read_labels


class NearestDescription(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify texts by descriptions of the labels, without labelled examples (zero-shot classification).

    A text gets the label of the description that has the largest cosine to it.

    Parameters
    ----------
    embedder : transformer, default=None
        Embeds texts and descriptions; None: a :class:`SentenceEmbeddingTransformer`. A fitted embedder is used as it
        is; any other is cloned, and fitted on the descriptions. If a fine-tuner was fitted again since, to other
        weights, a ValueError is raised.
    temperature : float, default=0.05
        Divisor of the cosines before the softmax of ``predict_proba``: the lower, the more confident. The default is
        the scale of 20 that sentence-transformers trains with; it is not calibrated on data.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels, sorted.
    embedder_ : transformer
        The embedder of the texts.

    See Also
    --------
    SemanticSearch : Find texts instead of labels.
    sklearn.neighbors.NearestCentroid : Nearest means of labelled examples, in place of descriptions.

    Notes
    -----
    Descriptions that read like the texts themselves ("My parcel has not arrived.") may work better than names
    ("shipping"); try both on some labelled texts. The method is that of Chang, Ratinov, Roth & Srikumar (2008),
    Importance of Semantic Representation: Dataless Classification, AAAI.

    Examples
    --------
    >>> from skembed import NearestDescription
    >>> classifier = NearestDescription().fit(
    ...     {
    ...         "shipping": "a question about the delivery of a parcel",
    ...         "login": ["a problem with a password", "a problem with logging in"],
    ...     }
    ... )
    >>> texts = ["Where is my order?", "It does not know my e-mail address."]
    >>> classifier.predict(texts)
    array(['shipping', 'login'], dtype=object)
    >>> classifier.predict_proba(texts).round(2)
    array([[0.04, 0.96],
           [0.98, 0.02]])
    """

    def __init__(self, embedder: BaseEstimator | None = None, *, temperature: float = 0.05) -> None:
        self.embedder = embedder
        self.temperature = temperature

    def fit(self, X: Any, y: Any = None) -> Self:
        """Embed the descriptions.

        Parameters
        ----------
        X : mapping of labels to descriptions, or column of texts or of vectors
            A mapping has one description, or a list of them, for each label. Otherwise: the descriptions, one per row.
        y : array of shape (n_descriptions,), default=None
            The labels of the descriptions; None if X is a mapping.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a description is missing or is not a text or a vector, a label has none, or labels are of mixed types.
        """
        self._check_temperature()
        descriptions, labels = _read_descriptions(X, y)
        embedder = resolve_embedder(self.embedder)
        column = read_column_for(embedder, descriptions, "descriptions")
        plan = plan_of(embedder, column)
        vectors = embed_column(column, embedder, plan, fit=True)
        if len(vectors) != len(labels):
            raise ValueError(f"y has {len(labels)} labels for {len(vectors)} descriptions.")
        if np.isnan(vectors).any():
            raise ValueError(f"descriptions[{np.isnan(vectors).any(axis=1).argmax()}] is missing.")
        self.classes_, self._class_of = np.unique(labels, return_inverse=True)
        self.embedder_, self._model_tag, self._vectors = embedder, model_tag(column, embedder, plan), vectors
        return self

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Compute the similarity of each text to each label.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float32, shape (n_texts, n_classes), or (n_texts,) for two classes
            The largest cosine to a description of each label, from -1 to 1. For two labels, the value of the second
            minus that of the first, as in scikit-learn. NaN for a missing text.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError, ValueError
            If an element is not a text or a vector; the message names its position.
        """
        check_is_fitted(self)
        scores = self._score_labels(read_column_for(self.embedder_, X))
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Compute the probability of each label for each text.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float64, shape (n_texts, n_classes)
            The softmax of each label's largest cosine, divided by the temperature; NaN for a missing text.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError, ValueError
            If an element is not a text or a vector; the message names its position.
        """
        check_is_fitted(self)
        self._check_temperature()  # it may have been set after fit
        scores = self._score_labels(read_column_for(self.embedder_, X)).astype(np.float64)
        probabilities: NDArray[np.float64] = softmax(scores / self.temperature, axis=1)
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of the nearest description for each text; of equal ones, the first of ``classes_``.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray, shape (n_texts,)

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError, ValueError
            If an element is missing, or is not a text or a vector; the message names its position.
        """
        check_is_fitted(self)
        column = read_column_for(self.embedder_, X)
        scores = self._score_labels(column)
        is_missing = np.isnan(scores).any(axis=1)
        if is_missing.any():
            row = column.where(int(is_missing.argmax()))
            raise ValueError(f"{row} is missing, so that it has no label; drop it.{column.about}")
        labels: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return labels

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        texts = _read_descriptions(X, None)[0] if isinstance(X, Mapping) else X
        return [(resolve_embedder(self.embedder), texts)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags

    def _check_temperature(self) -> None:
        check_number("temperature", self.temperature, "a positive number", lambda divisor: divisor > 0)

    def _score_labels(self, column: Column) -> NDArray[np.float32]:
        plan, dim, names = plan_of(self.embedder_, column), self._vectors.shape[1], ("X", "the descriptions")
        vectors = embed_like(column, self.embedder_, plan, self._model_tag, dim, names)
        cosines = (vectors @ self._vectors.T).clip(-1, 1)
        scores = np.full((len(vectors), len(self.classes_)), -np.inf, dtype=np.float32)
        for number, class_number in enumerate(self._class_of):
            np.maximum(scores[:, class_number], cosines[:, number], out=scores[:, class_number])
        return scores


def _read_descriptions(X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
    """Return descriptions and their labels, from a mapping or from two columns."""
    if isinstance(X, Mapping):
        if y is not None:
            raise ValueError("The labels are the keys of the mapping; omit y.")
        lists = {label: [value] if _is_single(value) else list(value) for label, value in X.items()}
        empty = [label for label, descriptions in lists.items() if not descriptions]
        if empty:
            raise ValueError(f"Label {empty[0]!r} has no description.")
        X = [description for descriptions in lists.values() for description in descriptions]
        y = [label for label, descriptions in lists.items() for _ in descriptions]
    elif y is None:
        raise ValueError("Pass a mapping of labels to descriptions, or the descriptions and their labels as y.")
    labels = _read_labels(y)
    if not len(labels):
        raise ValueError("There is no description.")
    check_classification_targets(labels)
    return X, labels


def _is_single(value: Any) -> bool:
    """Return whether a value of the mapping is one description, a text or a vector, rather than several."""
    is_vector = isinstance(value, (list, tuple, np.ndarray)) and all(isinstance(number, Real) for number in value)
    return not pd.api.types.is_list_like(value) or (is_vector and len(value) > 0)


def _read_labels(y: Any) -> NDArray[Any]:
    """Read labels; raise TypeError if they are of mixed types."""
    labels = read_labels(y, "labels")
    types = {type(label).__name__ for label in labels if not isinstance(label, str)} if labels.dtype == object else ()
    if types:
        raise TypeError(
            f"Labels must be all texts, all integers or all bools; got {', '.join(sorted(types))} among them."
        )
    return labels
