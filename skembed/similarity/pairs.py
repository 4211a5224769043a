"""Pairs of texts: two columns to their cosines. Imports scikit-learn, scipy, the embedders and the fine-tuner."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skembed.embedders import (
    embed_pair,
    fit_embedder,
    is_fitted,
    read_column_for,
    refuse_guess_between,
    resolve_embedder,
)
from skembed.encoding.containers import read_columns
from skembed.encoding.labels import read_labels
from skembed.finetuner import SentenceEmbeddingFineTuner
from skembed.transformer import SentenceEmbeddingTransformer


class PairSimilarity(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Compare two columns of text row by row: the cosine of their embeddings as one feature.

    With a :class:`SentenceEmbeddingTransformer` nothing is learned from the data, so ``transform`` works without
    ``fit``.

    Parameters
    ----------
    embedder : transformer, default=None
        Embeds texts; None: a :class:`SentenceEmbeddingTransformer` with ``missing="nan"``. A fitted embedder is used
        as it is; any other is cloned and fitted by ``fit``.

    Attributes
    ----------
    embedder_ : transformer
        The embedder, once ``fit`` was called.

    Notes
    -----
    If a text is missing, its cosine is NaN. For STS, the task by which such features are evaluated, see Cer et al.
    (2017), SemEval-2017 Task 1, https://aclanthology.org/S17-2001.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import PairSimilarity
    >>> pairs = pd.DataFrame({"a": ["A cat sat.", "Stocks fell."], "b": ["A cat was sitting.", "A kitten slept."]})
    >>> PairSimilarity().transform(pairs).round(2)
    array([[0.86],
           [0.13]], dtype=float32)
    """

    def __init__(self, embedder: BaseEstimator | None = None) -> None:
        self.embedder = embedder

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check that there are two columns, and fit the embedder on both if it learns, as TF-IDF does.

        A :class:`SentenceEmbeddingFineTuner` that is not fitted is fitted on the pairs and y.

        Parameters
        ----------
        X : frame, array or list of pairs, shape (n_pairs, 2)
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : column of length n_pairs, default=None
            Target of a fine-tuner; ignored by other embedders.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X does not have two columns.
        """
        columns = _two_columns(X)
        embedder: Any = resolve_embedder(self.embedder, missing="nan")
        if isinstance(embedder, SentenceEmbeddingFineTuner) and not is_fitted(embedder):
            _check_scores(y)
            embedder.fit(X, y)
        else:
            fit_embedder(embedder, [read_column_for(embedder, column, name) for name, column in columns])
        self.embedder_ = embedder
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compare the two columns.

        Parameters
        ----------
        X : frame or array of shape (n_pairs, 2)
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.

        Returns
        -------
        ndarray of float32, shape (n_pairs, 1)
            Cosines, from -1 to 1; NaN if a text is missing. A frame after ``set_output``.

        Raises
        ------
        NotFittedError
            If the embedder learns, and neither it nor this estimator is fitted.
        ModelChangedError
            If the embedder's model has changed under the same name since ``fit``.
        TypeError, ValueError
            If X does not have two columns, an element is not a text or a vector, or the vectors of the two columns are
            of different models or dimensions. The message names column, position and index label. Also if one column
            holds texts, the other vectors of an unknown model, and there is no ``embedder``.
        """
        if self._learns():
            check_is_fitted(self, "embedder_")
        embedder = self.embedder_ if hasattr(self, "embedder_") else resolve_embedder(self.embedder, missing="nan")
        first, second = (read_column_for(embedder, column, name) for name, column in _two_columns(X))
        refuse_guess_between(self.embedder, first, second)
        left, right = embed_pair(first, second, embedder)
        cosines: NDArray[np.float32] = np.einsum("ij,ij->i", left, right).clip(-1, 1)
        return cosines[:, None]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return the name of the output column: ``pairsimilarity0``."""
        return np.array([f"{type(self).__name__.lower()}0"], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # the result is float32 whatever comes in
        tags.requires_fit = self._learns()
        return tags

    def _learns(self) -> bool:
        is_transformer = isinstance(self.embedder, (SentenceEmbeddingTransformer, type(None)))
        return not is_transformer and not is_fitted(self.embedder)

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        embedder = resolve_embedder(self.embedder, missing="nan")
        return [(embedder, column) for _, column in _two_columns(X)]


def similarity_score(estimator: Any, X: Any, y: Any) -> float:
    """Compute Spearman's rank correlation of the cosines of pairs with human scores; a scorer for scikit-learn.

    Parameters
    ----------
    estimator : PairSimilarity, or a pipeline that ends in one
    X : frame or array of shape (n_pairs, 2)
    y : array of float, shape (n_pairs,)
        Similarity of each pair as judged by people, on any scale.

    Returns
    -------
    float
        From -1 to 1; NaN if a cosine is NaN because a text is missing.

    Notes
    -----
    The measure of STS-Benchmark and MTEB: Reimers, Beyer & Gurevych (2016), Task-Oriented Intrinsic Evaluation of
    Semantic Textual Similarity, https://aclanthology.org/C16-1009.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import PairSimilarity, similarity_score
    >>> pairs = pd.DataFrame({"a": ["A cat sat."] * 3, "b": ["A cat was sitting.", "A dog sat.", "Stocks fell."]})
    >>> round(similarity_score(PairSimilarity(), pairs, [5, 3, 0]), 2)
    1.0
    """
    return float(spearmanr(y, np.ravel(estimator.transform(X))).statistic)


def _check_scores(y: Any) -> None:
    """Raise ValueError if a fine-tuner would read y as classes, from which it cannot learn a similarity."""
    labels = np.array([0]) if y is None else read_labels(y, "y")
    if labels.dtype.kind not in "fb" and not (labels.dtype.kind in "iu" and set(labels.tolist()) <= {0, 1}):
        raise ValueError(
            "y holds classes, but a similarity is learned from scores, which are floats, or from 0 and 1; pass e.g. "
            "y.astype(float)."
        )


def _two_columns(X: Any) -> list[tuple[str, Any]]:
    """Split X into two columns, each with its name in messages."""
    columns = read_columns(X)
    if len(columns) != 2:
        raise ValueError(f"Pairs have two columns; got {len(columns)}. Pass a frame, an array or a list of pairs.")
    return columns
