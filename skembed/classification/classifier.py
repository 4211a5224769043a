"""Classification of texts from descriptions of the labels, from labelled examples, or from both.

Imports scikit-learn, the embedders and the reader of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skembed.checks import check_number
from skembed.classification.deciders import NearestDescription, fit_one_vs_rest, predict_each
from skembed.classification.targets import (
    check_differences,
    check_empty,
    check_same_kind,
    read_descriptions,
    read_targets,
    read_weights,
    to_indicator,
)
from skembed.embedders import (
    embed_column,
    embed_like,
    fit_embedder,
    model_tag,
    plan_of,
    read_column_for,
    refuse_guess,
    resolve_embedder,
)
from skembed.encoding.columns import Column
from skembed.encoding.labels import read_label_sets
from skembed.encoding.plan import Plan
from skembed.encoding.texts import MISSING


def _decides_by(method: str) -> Callable[[Any], bool]:
    """Return a check of whether what decides in a classifier has a method."""

    def check(self: Any) -> bool:
        decider = self._decider
        several = isinstance(decider, OneVsRestClassifier) and getattr(self, "_has_several", False)
        getattr(decider.estimator if several else decider, method)  # AttributeError if not, as in scikit-learn
        return True

    return check


class SentenceEmbeddingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify texts by descriptions of the labels, by labelled examples, or by both.

    Without examples, a text gets the label whose description is nearest to it (zero-shot classification). With
    examples, a classifier of scikit-learn learns from their vectors, and each description is one more example of its
    label. Descriptions help most where examples are few; with many they change little.

    Parameters
    ----------
    descriptions : mapping of labels to texts or lists of texts, default=None
        One or more descriptions of each label, e.g. its name as people would say it. They may also be vectors. Labels
        that are described, but have no example, can be predicted, too.
    embedder : transformer, default=None
        Embeds texts and descriptions; None: a :class:`SentenceEmbeddingTransformer`. A fitted embedder is used as it
        is; any other is cloned, and fitted on texts and descriptions together: a :class:`SentenceEmbeddingFineTuner`
        learns from both. If a fine-tuner was fitted again since, to other weights, a ValueError is raised.
    classifier : classifier, default=None
        Learns from the vectors; it is cloned. None: ``LogisticRegression(C=10, max_iter=1000)``. Where rows have
        several labels, a OneVsRestClassifier around it, in which a description is a row for its own label alone: it
        says nothing about the other labels. The default ``C=1`` of LogisticRegression is too small for
        vectors of unit length.
    description_weight : float, default=1.0
        Weight of each single description; that of an example is 1. 0 leaves them out. A classifier whose ``fit`` takes
        no ``sample_weight`` allows 0 and 1 only. A fine-tuner as the embedder learns from all texts alike, whatever
        their weight.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels of examples and descriptions, sorted; for an indicator, its columns in their order, then the labels
        that have only descriptions.
    embedder_ : transformer
        The embedder of the texts.
    classifier_ : classifier or None
        The fitted classifier of vectors; None without examples.

    See Also
    --------
    SemanticSearch : Find texts instead of labels.
    SentenceEmbeddingFineTuner : Tune the model on labels.
    precompute : Embed once for a whole search over parameters.

    Notes
    -----
    Descriptions that read like the texts themselves ("My parcel has not arrived.") may work better than names
    ("shipping"); try both on some labelled texts.

    A classifier takes labels with many examples for frequent ones. Where examples are few, and some labels have more of
    them than others by chance, descriptions alone may do better than the default classifier; pass
    ``classifier=LogisticRegression(C=10, max_iter=1000, class_weight="balanced")``.

    Without examples, the method is that of Chang, Ratinov, Roth & Srikumar (2008), Importance of Semantic
    Representation: Dataless Classification, AAAI; the temperature of the probabilities, 0.05, is the scale with which
    sentence-transformers trains, and not calibrated on data.

    Some tools of scikit-learn encode labels as integers before they fit. Then the keys of ``descriptions`` must be
    these integers; the error for other keys says how to encode them. With several labels a row, scikit-learn's scorers
    and searches need an indicator as y: ``MultiLabelBinarizer().fit_transform(lists)``, as a frame whose columns are
    the labels if there are descriptions.

    Examples
    --------
    >>> from skembed import SentenceEmbeddingClassifier
    >>> descriptions = {
    ...     "login": ["a problem with a password", "a problem with logging in"],
    ...     "shipping": "a question about the delivery of a parcel",
    ... }
    >>> texts = ["Where is my order?", "It does not know my e-mail address."]
    >>> zero_shot = SentenceEmbeddingClassifier(descriptions).fit(None)
    >>> zero_shot.predict(texts)
    array(['shipping', 'login'], dtype=object)
    >>> zero_shot.predict_proba(texts).round(2)
    array([[0.04, 0.96],
           [0.98, 0.02]])

    With examples, some of a label that has no description:

    >>> examples = ["The courier left it with a neighbour.", "I was charged twice.", "The invoice is wrong."]
    >>> classifier = SentenceEmbeddingClassifier(descriptions).fit(examples, ["shipping", "billing", "billing"])
    >>> classifier.predict([*texts, "Why are there two payments on my card?"]).tolist()
    ['shipping', 'login', 'billing']

    Several labels a row:

    >>> several = SentenceEmbeddingClassifier().fit(examples, [["shipping"], ["billing", "urgent"], ["billing"]])
    >>> several.predict(["The bill is not right."])
    array([[1, 0, 0]])
    >>> several.predict_labels(["The bill is not right."])
    [['billing']]
    """

    def __init__(
        self,
        descriptions: Mapping[Any, Any] | None = None,
        *,
        embedder: BaseEstimator | None = None,
        classifier: BaseEstimator | None = None,
        description_weight: float = 1.0,
    ) -> None:
        self.descriptions = descriptions
        self.embedder = embedder
        self.classifier = classifier
        self.description_weight = description_weight

    def fit(self, X: Any = None, y: Any = None, sample_weight: Any = None) -> Self:
        """Embed examples and descriptions, and fit the classifier.

        Parameters
        ----------
        X : column of texts or of vectors, default=None
            The examples; None or no rows: only the descriptions are used.
        y : column of length n_texts, or indicator of shape (n_texts, n_labels), default=None
            One label a row, or several: a list, Series or object array of lists, tuples or sets. Arrays, sparse
            matrices and frames of several columns are indicators of 0 and 1; the columns of a frame are the labels.
        sample_weight : array of shape (n_texts,), default=None
            Weights of the examples for the classifier. A fine-tuner as the embedder takes none.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a text, label or description is missing or not what it must be, labels are of mixed types or of one class
            only, or the classifier takes no weights; the message names the position.
        """
        check_number(
            "description_weight", self.description_weight, "a number >= 0", lambda weight: 0 <= weight < np.inf
        )
        embedder = resolve_embedder(self.embedder)
        examples = None if X is None else read_column_for(embedder, X)
        texts, keys = read_descriptions(self.descriptions)
        described = _read_descriptions_for(embedder, texts, keys) if texts and self.description_weight > 0 else None
        for column in (examples, described):
            if column is not None:
                _refuse_missing(column, embedder)
        if examples is not None and len(examples):
            self._fit_examples(embedder, examples, described, keys, y, sample_weight)
        else:
            check_empty(y, sample_weight)
            self._fit_descriptions(embedder, described, keys)
        return self

    def _fit_descriptions(self, embedder: Any, described: Column | None, keys: NDArray[Any]) -> None:
        if described is None:
            raise ValueError(
                "There are neither examples nor descriptions: pass texts and their labels, or descriptions with a "
                "description_weight above 0."
            )
        if (keys == keys[0]).all():
            raise ValueError(f"{keys.tolist()[0]!r} is the only label; describe others, or pass labelled examples.")
        vectors, tag = _embed([described], embedder, fit_embedder(embedder, [described]))
        self.classes_, self._class_of = np.unique(keys, return_inverse=True)
        self.embedder_, self.classifier_, self._vectors, self._has_several = embedder, None, vectors, False
        self._model_tag, self._dim = tag, vectors.shape[1]

    def _fit_examples(
        self, embedder: Any, examples: Column, described: Column | None, keys: NDArray[Any], y: Any, sample_weight: Any
    ) -> None:
        classes, targets = read_targets(y, len(examples), keys)
        columns = [examples] if described is None else [examples, described]
        targets = targets[: len(columns)]
        check_differences(targets)
        weights = read_weights(sample_weight, len(examples))
        if described is not None and (weights is not None or self.description_weight != 1):
            weights = np.ones(len(examples)) if weights is None else weights
            weights = np.append(weights, np.full(len(described), self.description_weight))
        classifier = self._new_classifier(weights, has_several=targets[0].ndim == 2)
        vectors, tag = _embed(columns, embedder, fit_embedder(embedder, columns, targets))
        target, has_several = np.concatenate(targets), targets[0].ndim == 2
        if has_several:
            fit_one_vs_rest(classifier, vectors, target, weights, len(examples), classes)
        else:
            classifier.fit(vectors, target, **({} if weights is None else {"sample_weight": weights}))
        self.classes_, self.embedder_, self.classifier_, self._has_several = classes, embedder, classifier, has_several
        self._model_tag, self._dim = tag, vectors.shape[1]
        self._vectors, self._class_of = vectors[:0], np.array([], dtype=np.intp)  # of a fit without examples

    def _new_classifier(self, weights: NDArray[np.float64] | None, *, has_several: bool) -> Any:
        """Return an unfitted classifier; raise ValueError if there are weights and it takes none."""
        classifier = self._default() if self.classifier is None else clone(self.classifier)
        if has_several and not isinstance(classifier, OneVsRestClassifier):
            classifier = OneVsRestClassifier(classifier)
        base = classifier.estimator if has_several else classifier
        if weights is not None and not has_fit_parameter(base, "sample_weight"):
            name = f"{type(base).__name__}.fit takes no sample_weight"
            if self.description_weight not in (0, 1):
                raise ValueError(f"{name}, so that description_weight must be 0 or 1; got {self.description_weight!r}.")
            raise ValueError(f"{name}; leave it out, or choose another classifier.")
        return classifier

    @staticmethod
    def _default() -> LogisticRegression:
        return LogisticRegression(C=10, max_iter=1000)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the label of each text, or its labels as an indicator.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray, shape (n_texts,), or ndarray of int, shape (n_texts, n_classes)
            Labels; of equally near descriptions, the first of ``classes_``. If ``fit`` saw several labels a row: 1 for
            those with a probability of more than 0.5, which may be none.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError, ValueError
            If an element is missing, or is not a text or a vector; the message names its position.
        """
        check_is_fitted(self)
        column = read_column_for(self.embedder_, X)
        labels, is_missing = self._decide("predict", column)
        if is_missing.any():
            row = column.where(int(is_missing.argmax()))
            raise ValueError(f"{row} is missing, so that it has no label; drop it.{column.about}")
        return labels

    def predict_labels(self, X: Any) -> list[list[Any]]:
        """Predict the labels of each text as a list.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        list of lists of labels, length n_texts
            In the order of ``classes_``; a list may be empty. One label each, if ``fit`` saw one label a row.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError, ValueError
            If an element is missing, or is not a text or a vector; the message names its position.
        """
        predicted = self.predict(X)
        if not self._has_several:
            return [[label] for label in predicted.tolist()]
        return [self.classes_[row.astype(bool)].tolist() for row in predicted]

    @available_if(_decides_by("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Compute the probability of each label for each text.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float, shape (n_texts, n_classes)
            Those of ``classifier_``. Without examples: the softmax of each label's largest cosine, divided by 0.05. NaN
            for a missing text. 0 for a label without examples whose descriptions have the weight 0.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        AttributeError
            If ``classifier`` has no such method.
        TypeError, ValueError
            If an element is not a text or a vector; the message names its position.
        """
        check_is_fitted(self)
        probabilities, _ = self._decide("predict_proba", read_column_for(self.embedder_, X))
        return self._to_all_classes(probabilities, 0)

    @available_if(_decides_by("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Compute a score of each label for each text.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float, shape (n_texts, n_classes), or (n_texts,) for two classes
            Those of ``classifier_``. Without examples: the largest cosine to a description of each label, from -1 to 1;
            for two labels, the value of the second minus that of the first, as in scikit-learn. NaN for a missing text.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        AttributeError
            If ``classifier`` has no such method.
        TypeError, ValueError
            If an element is not a text or a vector; the message names its position.
        """
        check_is_fitted(self)
        scores, _ = self._decide("decision_function", read_column_for(self.embedder_, X))
        if scores.ndim == 1 and len(self.classes_) > 2:  # some of them are unknown to classifier_
            scores = np.stack([-scores, scores], axis=1)
        return self._to_all_classes(scores, np.finfo(scores.dtype).min)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy; with several labels a row, the share of rows with exactly the right ones.

        Parameters
        ----------
        X : column of texts or of vectors
        y : column of length n_texts, or indicator of shape (n_texts, n_classes)
            The true labels: as in ``fit``, lists or an indicator, whatever ``fit`` saw. The columns of an array are
            those of ``classes_``. A row may have no labels.
        sample_weight : array of shape (n_texts,), default=None
            Weights of the rows.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError, ValueError
            As in ``predict`` and for labels in ``fit``.
        """
        check_is_fitted(self)
        if not self._has_several:
            accuracy: float = super().score(X, y, sample_weight)
            return accuracy
        true, predicted = read_label_sets(y, "y", allow_empty=True), self.predict(X)
        if true.origin == "array":
            indicator = true.indicator
            if indicator.shape[1] != predicted.shape[1]:
                raise ValueError(f"y has {indicator.shape[1]} columns, but there are {predicted.shape[1]} classes.")
        else:
            check_same_kind(true.classes, self.classes_, true.origin, "labels seen in fit")
            unknown = np.setdiff1d(true.classes, self.classes_)
            indicator = to_indicator(true, np.concatenate([self.classes_, unknown]))
            predicted = np.pad(predicted, ((0, 0), (0, len(unknown))))
        return float(accuracy_score(indicator, predicted, sample_weight=sample_weight))

    def _decide(self, method: str, column: Column) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Call a method of what decides on the vectors of a column; return its result and which rows are missing.

        Missing rows have NaN in the result, or are absent if it holds labels.
        """
        names = ("X", "the descriptions" if self.classifier_ is None else "the examples")
        refuse_guess(self.embedder, column, self._model_tag, names[1])
        plan = plan_of(self.embedder_, column)
        vectors = embed_like(column, self.embedder_, plan, self._model_tag, self._dim, names)
        is_missing: NDArray[np.bool_] = np.isnan(vectors[:, 0])  # a vector is missing as a whole
        # classifiers of scikit-learn refuse to predict no rows, so that they get one, which is dropped
        known = np.zeros((1, self._dim), np.float32) if is_missing.all() else vectors[~is_missing]
        decide = getattr(self._decider, method)
        if method == "predict" and self._has_several:
            decide = partial(predict_each, self.classifier_)
        decided = np.asarray(decide(known))[: np.count_nonzero(~is_missing)]
        if method == "predict" or not is_missing.any():
            return decided, is_missing
        result = np.full((len(vectors), *decided.shape[1:]), np.nan, dtype=decided.dtype)
        result[~is_missing] = decided
        return result, is_missing

    @property
    def _decider(self) -> Any:
        """What decides on vectors: ``classifier_``, or the nearest description if there is none."""
        if not hasattr(self, "classes_"):
            return self._default() if self.classifier is None else self.classifier
        if self.classifier_ is None:
            return NearestDescription(self._vectors, self._class_of, self.classes_)
        return self.classifier_

    def _to_all_classes(self, scores: NDArray[Any], fill: float) -> NDArray[Any]:
        """Add columns for labels that ``classifier_`` does not know: those of descriptions with the weight 0."""
        if self._has_several or self.classifier_ is None or len(self.classifier_.classes_) == len(self.classes_):
            return scores
        result = np.full((len(scores), len(self.classes_)), fill, dtype=scores.dtype)
        result[:, np.isin(self.classes_, self.classifier_.classes_)] = scores
        result[np.isnan(scores).any(axis=1)] = np.nan
        return result

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        embedder, (texts, _) = resolve_embedder(self.embedder), read_descriptions(self.descriptions)
        columns = [X, texts if self.description_weight else None]
        return [(embedder, column) for column in columns if column is not None and len(column)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, False  # a text has no number of features
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags


def _read_descriptions_for(embedder: Any, texts: list[Any], keys: NDArray[Any]) -> Column:
    """Read descriptions; their labels are their index labels, so that messages name them."""
    return read_column_for(embedder, pd.Series(texts, index=keys, dtype=object), "descriptions")


def _refuse_missing(column: Column, embedder: Any) -> None:
    """Raise ValueError for a missing text that would be left out of the training of an embedder."""
    if column.texts is not None and getattr(embedder, "missing", None) == "nan":
        _raise_for_missing(column, column.texts.codes == MISSING)


def _raise_for_missing(column: Column, is_missing: NDArray[np.bool_]) -> None:
    if is_missing.any():
        row = column.where(int(is_missing.argmax()))
        raise ValueError(f"{row} is missing, so that nothing can be learned from it; drop it.{column.about}")


def _embed(columns: Sequence[Column], embedder: Any, plan: Plan | None) -> tuple[NDArray[np.float32], str | None]:
    """Embed columns, none of whose rows may be missing; return their vectors, one below the other, and their model."""
    first = columns[0]
    vectors, tag = [embed_column(first, embedder, plan)], model_tag(first, embedder, plan)
    for column in columns[1:]:
        names = (column.name, first.name)
        vectors.append(embed_like(column, embedder, plan, tag, vectors[0].shape[1], names))
        tag = tag or model_tag(column, embedder, plan)
    for column, matrix in zip(columns, vectors, strict=True):
        _raise_for_missing(column, np.isnan(matrix[:, 0]))
    return np.concatenate(vectors), tag
