"""Pairs of texts: two columns in, their cosine out. Imports scikit-learn, scipy and what embeds texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skembed.embedders import embed_pair, fit_embedder, is_fitted, read_column_for, resolve_embedder
from skembed.encoding.labels import read_labels
from skembed.encoding.texts import read_columns
from skembed.finetuner import SentenceEmbeddingFineTuner
from skembed.transformer import SentenceEmbeddingTransformer

if TYPE_CHECKING:
    from sklearn.utils import Tags


class PairSimilarity(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Compare two columns of text row by row: the cosine of their embeddings as one feature.

    With a :class:`SentenceEmbeddingTransformer` nothing is learned from the data, so ``transform`` works without
    ``fit``.

    Parameters
    ----------
    embedder : transformer, default=None
        What embeds texts, e.g. a :class:`SentenceEmbeddingTransformer`; None: one with ``missing="nan"``. A fitted
        embedder is used as it is; one that is not fitted is cloned, and learns from what ``fit`` is given.

    Attributes
    ----------
    embedder_ : transformer
        What embeds texts after ``fit``.

    Notes
    -----
    Where a text is missing, so is the cosine (NaN). For STS, the task that this feature is scored by, see Cer et al.
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
        """Check that there are two columns, and let an embedder that learns, such as TF-IDF, learn from both.

        A :class:`SentenceEmbeddingFineTuner` that is not fitted learns from the pairs as such, and from y.

        Parameters
        ----------
        X : frame, array or list of pairs, shape (n_pairs, 2)
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : column of length n_pairs, default=None
            What a fine-tuner learns; ignored by all others.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X has not two columns.
        """
        columns = _two_columns(X)
        embedder = resolve_embedder(self.embedder, missing="nan")
        if isinstance(embedder, SentenceEmbeddingFineTuner) and not is_fitted(embedder):
            _refuse_integer_scores(y)
            self.embedder_: Any = embedder.fit(X, y)
        else:
            self.embedder_ = fit_embedder(
                embedder, [read_column_for(embedder, column, name) for name, column in columns]
            )
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
            Cosines, from -1 to 1; NaN where a text is missing. A frame if ``set_output`` says so.

        Raises
        ------
        NotFittedError
            Before ``fit``, if the embedder learns and is not fitted.
        ModelChangedError
            If the embedder's model has changed under the same name since ``fit``.
        TypeError, ValueError
            If X has not two columns, a text is not what it must be, or the vectors differ in dimensions or model; the
            message names column, position and index label.
        """
        columns = _two_columns(X)
        if self._learns():
            check_is_fitted(self, "embedder_")
        has_own = hasattr(self, "embedder_")
        embedder = self.embedder_ if has_own else resolve_embedder(self.embedder, missing="nan")
        first, second = (read_column_for(embedder, column, name) for name, column in columns)
        left, right = embed_pair(first, second, embedder)
        if left.shape[1] != right.shape[1]:
            raise ValueError(f"The vectors of the first column have {left.shape[1]} dimensions, not {right.shape[1]}.")
        cosines: NDArray[np.float32] = np.einsum("ij,ij->i", left, right).clip(-1, 1)
        return cosines[:, None]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Name the column of the result: ``pairsimilarity0``."""
        return np.array([f"{type(self).__name__.lower()}0"], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # the result is float32 whatever comes in
        tags.requires_fit = self._learns()
        return tags

    def _learns(self) -> bool:
        is_ours = isinstance(self.embedder, (SentenceEmbeddingTransformer, type(None)))
        return not is_ours and not is_fitted(self.embedder)

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        embedder = resolve_embedder(self.embedder, missing="nan")
        return [(embedder, column) for _, column in _two_columns(X)]


def similarity_score(estimator: Any, X: Any, y: Any) -> float:
    """Score cosines of pairs by Spearman's rank correlation with what people said; a scorer for scikit-learn.

    Parameters
    ----------
    estimator : PairSimilarity, or a pipeline that ends in one
    X : frame or array of shape (n_pairs, 2)
    y : array of float, shape (n_pairs,)
        How similar people found the two, on any scale.

    Returns
    -------
    float
        From -1 to 1; NaN if a cosine is, because a text is missing.

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


def _refuse_integer_scores(y: Any) -> None:
    """Refuse what a fine-tuner would take for classes, from which no similarity is learned."""
    labels = np.array([0]) if y is None else read_labels(y, "y")
    if labels.dtype.kind not in "fb" and not (labels.dtype.kind in "iu" and set(labels.tolist()) <= {0, 1}):
        raise ValueError(
            "y holds classes, and a similarity is learned from scores, which are floats, e.g. y.astype(float), or from "
            "0 and 1."
        )


def _two_columns(X: Any) -> list[tuple[str, Any]]:
    """Take X apart into two columns, with what messages call them."""
    columns = read_columns(X)
    if len(columns) != 2:
        raise ValueError(f"Pairs have two columns; got {len(columns)}. Pass a frame, an array or a list of pairs.")
    return columns
