"""What the estimators over embeddings share: texts, or vectors that are there already, to unit vectors.

Imports the transformer and ``skembed.encoding``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from skembed.encoding.columns import Column, read_column
from skembed.encoding.plan import Plan
from skembed.transformer import LIVE_MARK, TUNED_MARK, SentenceEmbeddingTransformer

_FINGERPRINT = re.compile(r"\b[0-9a-f]{16}$")


def unit_vectors(X: Any, embedder: BaseEstimator | None, *, name: str = "X") -> NDArray[np.float32]:
    """Embed texts, or take vectors as they are, and scale them to length 1.

    Parameters
    ----------
    X : column of texts or of vectors
        What :class:`skembed.SentenceEmbeddingTransformer` or :class:`skembed.VectorArray` reads.
    embedder : transformer or None
        What embeds texts: a fitted one as it is, a clone of any other; None: a ``SentenceEmbeddingTransformer`` with
        ``missing="nan"``.
    name : str, default="X"
        What messages call the column.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)
        Rows of length 1, so that their products are cosines; a vector of zeros stays one. Missing rows are NaN.

    Raises
    ------
    TypeError, ValueError
        If a text or a vector is not what it must be; the message names the position.
    """
    embedder = take_embedder(embedder, missing="nan")
    column = read_for(embedder, X, name)
    learns = not isinstance(embedder, SentenceEmbeddingTransformer)
    return embed_column(column, embedder, plan_of(embedder, column), fit=learns)


def take_embedder(embedder: BaseEstimator | None, *, missing: Literal["error", "nan"] = "error") -> Any:
    """Return the embedder that an estimator works with: a fitted one as it is, a clone of any other.

    Parameters
    ----------
    embedder : transformer or None
        A FrozenEstimator stands for the fitted embedder in it. None: a new ``SentenceEmbeddingTransformer``.
    missing : {"error", "nan"}, default="error"
        What the new one does with a missing text.

    Returns
    -------
    transformer
        Of a ``SentenceEmbeddingTransformer``, fitted or not, a copy that knows the same model.

    Raises
    ------
    NotFittedError
        If the embedder in a FrozenEstimator is not fitted.
    """
    while isinstance(embedder, FrozenEstimator):
        check_is_fitted(embedder)
        embedder = embedder.estimator
    if embedder is None:
        return SentenceEmbeddingTransformer(missing=missing)
    if isinstance(embedder, SentenceEmbeddingTransformer):
        return copy.copy(embedder)
    return embedder if is_fitted(embedder) else clone(embedder)


def is_fitted(embedder: Any) -> bool:
    """Return whether an embedder can be used as it is, without learning from texts first.

    That is what ``check_is_fitted`` says. Of a Pipeline and a FeatureUnion all steps are asked, because scikit-learn
    asks the last one alone: TF-IDF before a Normalizer, which learns nothing, would be taken for fitted.
    """
    if isinstance(embedder, (Pipeline, FeatureUnion)):
        steps = [step for _, step in getattr(embedder, "steps", None) or embedder.transformer_list]
        return all(is_fitted(step) for step in steps if step is not None and not isinstance(step, str))
    if isinstance(embedder, SentenceEmbeddingTransformer):  # works unfitted, but knows its model only when fitted
        return hasattr(embedder, "model_fingerprint_")
    try:
        check_is_fitted(embedder)
    except NotFittedError:
        return False
    return True


def read_for(embedder: Any, X: Any, name: str = "X") -> Column:
    """Read a column for an embedder, whose ``missing`` decides whether a missing text is an error."""
    is_ours = hasattr(embedder, "_embed_texts")
    return read_column(X, name, missing="error" if is_ours and embedder.missing == "error" else "nan")


def plan_of(embedder: Any, *columns: Column) -> Plan | None:
    """Return the plan by which an embedder of ours embeds columns; None for other embedders, and without texts.

    Raises
    ------
    ModelChangedError
        If the embedder was fitted, and its model has since changed under the same name.
    """
    has_texts = any(column.texts is not None for column in columns)
    is_ready = isinstance(embedder, SentenceEmbeddingTransformer) or (
        hasattr(embedder, "_plan") and is_fitted(embedder)
    )
    plan: Plan | None = embedder._plan() if has_texts and is_ready else None
    return plan


def fit_embedder(embedder: Any, columns: Sequence[Column]) -> Any:
    """Fit an embedder on several columns together, so that their vectors can be compared.

    Parameters
    ----------
    embedder : transformer
        From ``take_embedder``. A fitted one stays as it is.
    columns : sequence of Column
        Vectors are left out. Without texts nothing is learned.

    Returns
    -------
    transformer
        The same.
    """
    texts = [column.to_objects() for column in columns if column.texts is not None]
    if not texts:
        return embedder
    if isinstance(embedder, SentenceEmbeddingTransformer):
        embedder._learn(embedder._plan())
    elif not is_fitted(embedder):
        _refuse_texts_alone(embedder)
        embedder.fit(pd.Series(np.concatenate(texts)), None)
    return embedder


def embed_column(
    column: Column, embedder: Any, plan: Plan | None, *, fit: bool = False, y: Any = None
) -> NDArray[np.float32]:
    """Embed a column with an embedder from ``take_embedder``, and scale its vectors to length 1.

    Parameters
    ----------
    column : Column
    embedder : transformer
        Embeds texts; vectors never reach it.
    plan : Plan or None
        From ``plan_of``.
    fit : bool, default=False
        Whether the embedder learns from the texts first, unless it is fitted. A ``SentenceEmbeddingTransformer`` only
        remembers which model it has.
    y : column of labels, default=None
        What it is fitted with beside the texts.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)

    Raises
    ------
    ValueError
        If the embedder is a fine-tuner that would train on texts without labels, and no loss was chosen for that; if a
        vector holds NaN or infinity.
    """
    vectors = _embed(column, embedder, plan, fit, y) if column.vectors is None else column.vectors
    is_bad = ~np.isfinite(vectors).all(axis=1) & ~np.isnan(vectors).all(axis=1)
    if is_bad.any():
        raise ValueError(f"{column.where(int(is_bad.argmax()))} holds NaN or infinity.{column.about}")
    return _to_unit_length(vectors)


def embed_pair(
    left: Column, right: Column, embedder: Any, names: tuple[str, str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embed two columns that are to be compared, by one plan; see :func:`embed_column`.

    Raises
    ------
    ValueError
        If their vectors are of different models. The message has ``names``, or the columns' own.
    """
    plan = plan_of(embedder, left, right)
    tags = model_tag(left, embedder, plan), model_tag(right, embedder, plan)
    check_same_model(*tags, names or (left.name, right.name))
    vectors = embed_column(left, embedder, plan)
    return vectors, vectors if right is left else embed_column(right, embedder, plan)


def _embed(column: Column, embedder: Any, plan: Plan | None, fit: bool, y: Any) -> NDArray[np.float32]:
    vectors: Any
    if fit and isinstance(embedder, SentenceEmbeddingTransformer) and plan is not None:
        embedder._learn(plan)
    if fit and not is_fitted(embedder):
        vectors = _fit_transform(embedder, column.to_series(), y)
    elif hasattr(embedder, "_embed_texts"):
        vectors = embedder._embed_texts(column.texts, plan)
    else:
        vectors = embedder.transform(column.to_series())
    return np.asarray(vectors.toarray() if issparse(vectors) else vectors, dtype=np.float32)


def _fit_transform(embedder: Any, texts: pd.Series[Any], y: Any) -> Any:
    if y is None:
        _refuse_texts_alone(embedder)
    if hasattr(embedder, "fit_transform"):
        return embedder.fit_transform(texts) if y is None else embedder.fit_transform(texts, y)
    return embedder.fit(texts, y).transform(texts)


def _refuse_texts_alone(embedder: Any) -> None:
    """Let a fine-tuner, also one within a pipeline, refuse to train on texts that have no labels."""
    if hasattr(embedder, "_refuse_texts_alone"):
        embedder._refuse_texts_alone()
    for step in nested_estimators(embedder):
        if hasattr(step, "fit") and not is_fitted(step):  # a kernel has parameters, too, but is no estimator
            _refuse_texts_alone(step)


def nested_estimators(estimator: Any) -> Iterator[Any]:
    """List the estimators that are parameters of an estimator, alone, or in lists such as those of (name, step)."""
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return
    for value in estimator.get_params(deep=False).values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            yield from (item for item in (part if isinstance(part, tuple) else [part]) if hasattr(item, "get_params"))


def model_tag(column: Column, embedder: Any, plan: Plan | None = None) -> str | None:
    """Return which model makes the vectors of a column of texts, or made those that are there already.

    Parameters
    ----------
    column : Column
    embedder : transformer
        What embeds texts.
    plan : Plan, default=None
        From ``plan_of``.

    Returns
    -------
    str or None
        Name and fingerprint; None if nobody knows.
    """
    if column.texts is None:
        return column.model
    tag: str | None = embedder._model_note(plan) if hasattr(embedder, "_model_note") else None
    return tag


def check_same_model(tag: str | None, other: str | None, names: tuple[str, str]) -> None:
    """Raise if vectors that are to be compared are known to be of different models.

    Parameters
    ----------
    tag, other : str or None
        What ``model_tag`` returns for each side.
    names : (str, str)
        What the message calls them.

    Raises
    ------
    ValueError
        The message says both.
    """
    if tag is None or other is None or _identity(tag) == _identity(other):
        return
    if any((mark in tag) != (mark in other) for mark in (LIVE_MARK, TUNED_MARK)):
        return  # may be the same: fingerprints of two kinds never agree
    raise ValueError(
        f"The vectors of {names[0]} are of the model {tag}, those of {names[1]} of {other}: "
        "vectors of different models cannot be compared. Embed both with the same."
    )


def _identity(tag: str) -> str:
    """Return the fingerprint, whatever the model was called; the whole tag if it has none."""
    found = _FINGERPRINT.search(tag)
    return tag if found is None else found[0]


def _to_unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # in float64, because the squares of large and small float32 do not fit into float32
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths != 0)
    return unit
