"""Zero-shot labels: a text gets the label whose description is nearest. Imports scikit-learn and what embeds texts."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skembed.embedders import check_same_model, embed_column, model_tag, plan_of, read_column_for, resolve_embedder
from skembed.encoding.columns import Column
from skembed.encoding.labels import read_labels

if TYPE_CHECKING:
    from sklearn.utils import Tags


class NearestDescription(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Label texts by descriptions of the labels alone, without labelled examples (zero-shot classification).

    A text gets the label one of whose descriptions has the largest cosine to it.

    Parameters
    ----------
    embedder : transformer, default=None
        What embeds texts and descriptions; None: a :class:`SentenceEmbeddingTransformer`. A fitted embedder is used as
        it is; one that is not fitted is cloned, and learns from the descriptions. A fine-tuner that was fitted
        again since, to other weights, is refused (ValueError).
    temperature : float, default=0.05
        What cosines are divided by before ``predict_proba`` makes probabilities of them: the lower, the surer. The
        default is the scale of 20 that sentence-transformers trains with; no data has calibrated it.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels, sorted.
    embedder_ : transformer
        What embeds texts.

    See Also
    --------
    SemanticSearch : Finds texts instead of labels.
    sklearn.neighbors.NearestCentroid : The same with the means of labelled examples as descriptions.

    Notes
    -----
    Descriptions that sound like the texts themselves ("My parcel has not arrived.") may serve better than names
    ("shipping"); try both on some labelled texts. The idea is that of Chang, Ratinov, Roth & Srikumar (2008),
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
            In a mapping each label has one description or a list of them. Otherwise the descriptions, one a row.
        y : array of shape (n_descriptions,), default=None
            The labels; None with a mapping.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a description is missing or no text, a label has none, or labels are of mixed types.
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
        classes, class_of = np.unique(labels, return_inverse=True)
        self.embedder_: Any = embedder
        self._model_tag: str | None = model_tag(column, embedder, plan)
        self.classes_: NDArray[Any] = classes
        self._vectors: NDArray[np.float32] = vectors
        self._class_of: NDArray[np.intp] = class_of
        return self

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Compare texts with the labels.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float32, shape (n_texts, n_classes), or (n_texts,) for two classes
            The largest cosine to a description of each label, from -1 to 1; for two labels that of the second less
            that of the first, as scikit-learn has it. NaN for a missing text.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a text is not what it must be; the message names the position.
        """
        scores = self._scores(self._read(X))
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give each label a probability.

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
            Before ``fit``.
        TypeError, ValueError
            If a text is not what it must be; the message names the position.
        """
        self._check_temperature()  # it may have been set since
        probabilities: NDArray[np.float64] = softmax(
            self._scores(self._read(X)).astype(np.float64) / self.temperature, axis=1
        )
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Give each text the label whose description is nearest; of equal ones, the first of ``classes_``.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray, shape (n_texts,)

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a text is missing or not what it must be; the message names the position.
        """
        column = self._read(X)
        scores = self._scores(column)
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
        if not isinstance(self.temperature, Real) or isinstance(self.temperature, bool) or not self.temperature > 0:
            raise ValueError(f"temperature must be a positive number; got {self.temperature!r}.")

    def _read(self, X: Any) -> Column:
        check_is_fitted(self)
        return read_column_for(self.embedder_, X)

    def _scores(self, column: Column) -> NDArray[np.float32]:
        plan = plan_of(self.embedder_, column)
        check_same_model(model_tag(column, self.embedder_, plan), self._model_tag, ("X", "the descriptions"))
        vectors = embed_column(column, self.embedder_, plan)
        if vectors.shape[1] != self._vectors.shape[1]:
            raise ValueError(
                f"The vectors of X have {vectors.shape[1]} dimensions, those of the descriptions "
                f"{self._vectors.shape[1]}."
            )
        cosines = (vectors @ self._vectors.T).clip(-1, 1)
        scores = np.full((len(vectors), len(self.classes_)), -np.inf, dtype=np.float32)
        for number, class_number in enumerate(self._class_of):
            np.maximum(scores[:, class_number], cosines[:, number], out=scores[:, class_number])
        return scores


def _read_descriptions(X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
    """Take a mapping apart into descriptions and their labels."""
    if isinstance(X, Mapping):
        if y is not None:
            raise ValueError("The labels stand in the mapping already; leave y out.")
        listed = {label: [said] if _is_one(said) else list(said) for label, said in X.items()}
        empty = [label for label, said in listed.items() if not said]
        if empty:
            raise ValueError(f"Label {empty[0]!r} has no description.")
        X = [text for said in listed.values() for text in said]
        y = [label for label, said in listed.items() for _ in said]
    elif y is None:
        raise ValueError("Give a mapping of labels to descriptions, or the descriptions and their labels as y.")
    labels = _labels_of_one_kind(y)
    if not len(labels):
        raise ValueError("There is no description.")
    check_classification_targets(labels)
    return X, labels


def _is_one(said: Any) -> bool:
    """Tell one description, a text or a vector, from several."""
    is_vector = isinstance(said, (list, tuple, np.ndarray)) and all(isinstance(part, Real) for part in said)
    return not pd.api.types.is_list_like(said) or (is_vector and len(said) > 0)


def _labels_of_one_kind(y: Any) -> NDArray[Any]:
    """Take labels of one kind."""
    labels = read_labels(y, "labels")
    kinds = {type(label).__name__ for label in labels if not isinstance(label, str)} if labels.dtype == object else ()
    if kinds:
        raise TypeError(f"Labels are all texts, all integers or all bools; got {', '.join(sorted(kinds))} among them.")
    return labels
