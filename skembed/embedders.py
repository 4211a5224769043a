"""What the estimators with an ``embedder`` share: columns of texts or of vectors to unit vectors.

Imports the transformer and ``skembed.encoding``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from itertools import compress
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
_ROUNDING = 2.5e-7  # the most by which the length of a float32 vector that was scaled to unit length differs from 1


def unit_vectors(X: Any, embedder: BaseEstimator | None, *, name: str = "X") -> NDArray[np.float32]:
    """Embed texts, or read vectors, and scale them to unit length.

    Parameters
    ----------
    X : column of texts or of vectors
        Anything that :class:`skembed.SentenceEmbeddingTransformer` or :class:`skembed.VectorArray` reads.
    embedder : transformer or None
        Embeds texts. A fitted one is used as it is, any other is cloned. None: a ``SentenceEmbeddingTransformer`` with
        ``missing="nan"``.
    name : str, default="X"
        Name of the column in messages.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)
        Rows of unit length, so that their products are cosines; vectors of zeros stay zeros. Missing rows are NaN.

    Raises
    ------
    TypeError, ValueError
        If an element is not a text or a vector, as the others are; the message names its position.
    """
    embedder = resolve_embedder(embedder, missing="nan")
    column = read_column_for(embedder, X, name)
    learns = not isinstance(embedder, SentenceEmbeddingTransformer)
    return embed_column(column, embedder, plan_of(embedder, column), fit=learns)


def resolve_embedder(embedder: BaseEstimator | None, *, missing: Literal["error", "nan"] = "error") -> Any:
    """Return the embedder that an estimator uses: a fitted one as it is, a clone of any other.

    Parameters
    ----------
    embedder : transformer or None
        A FrozenEstimator is replaced by the fitted embedder in it, and None by a new ``SentenceEmbeddingTransformer``.
    missing : {"error", "nan"}, default="error"
        Parameter of the new one.

    Returns
    -------
    transformer
        A copy of a ``SentenceEmbeddingTransformer``, with the model that it was fitted with, if it was.

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
    """Return whether an embedder can be used without learning from texts first.

    That is the answer of ``check_is_fitted``. In a Pipeline or FeatureUnion, all steps are checked: scikit-learn checks
    the last one alone, so that TF-IDF before a Normalizer, which learns nothing, would count as fitted.
    """
    if isinstance(embedder, (Pipeline, FeatureUnion)):
        steps = [step for _, step in getattr(embedder, "steps", None) or embedder.transformer_list]
        return all(is_fitted(step) for step in steps if step is not None and not isinstance(step, str))
    if isinstance(embedder, SentenceEmbeddingTransformer):  # works unfitted, but has a known model only if fitted
        return hasattr(embedder, "model_fingerprint_")
    try:
        check_is_fitted(embedder)
    except NotFittedError:
        return False
    return True


def read_column_for(embedder: Any, X: Any, name: str = "X") -> Column:
    """Read a column for an embedder, whose parameter ``missing`` decides whether missing texts are an error."""
    is_ours = hasattr(embedder, "_embed_texts")
    return read_column(X, name, missing="error" if is_ours and embedder.missing == "error" else "nan")


def plan_of(embedder: Any, *columns: Column) -> Plan | None:
    """Return the plan by which an embedder of skembed embeds columns.

    Parameters
    ----------
    embedder : transformer
        From ``resolve_embedder``.
    *columns : Column

    Returns
    -------
    Plan or None
        None for other embedders, for a fine-tuner that is not fitted, and if no column holds texts.

    Raises
    ------
    ModelChangedError
        If the embedder's model has changed under the same name since it was fitted.
    """
    has_texts = any(column.texts is not None for column in columns)
    is_ready = isinstance(embedder, SentenceEmbeddingTransformer) or (
        hasattr(embedder, "_plan") and is_fitted(embedder)
    )
    plan: Plan | None = embedder._plan() if has_texts and is_ready else None
    return plan


def fit_embedder(embedder: Any, columns: Sequence[Column], targets: Sequence[Any] | None = None) -> Plan | None:
    """Fit an embedder on the texts of several columns together, so that their vectors can be compared.

    Parameters
    ----------
    embedder : transformer
        From ``resolve_embedder``. A fitted one is not fitted again.
    columns : sequence of Column
        Columns of vectors are ignored. Without texts, the embedder is not fitted.
    targets : sequence of ndarray, default=None
        For each column, the labels or the indicator of its rows.

    Returns
    -------
    Plan or None
        The plan by which it embeds them; see :func:`plan_of`.

    Raises
    ------
    ValueError
        If the embedder is a fine-tuner that would be trained without labels, unless its loss is one for texts alone.
    """
    if isinstance(embedder, SentenceEmbeddingTransformer):
        plan = plan_of(embedder, *columns)
        if plan is not None:
            embedder._learn(plan)
        return plan
    are_texts = [column.texts is not None for column in columns]
    if any(are_texts) and not is_fitted(embedder):
        texts = [column.to_series() for column in compress(columns, are_texts)]
        y = None if targets is None else np.concatenate(list(compress(targets, are_texts)))
        if y is None:
            _refuse_texts_alone(embedder)
        embedder.fit(texts[0] if len(texts) == 1 else pd.concat(texts, ignore_index=True), y)
    return plan_of(embedder, *columns)


def embed_column(
    column: Column, embedder: Any, plan: Plan | None, *, fit: bool = False, y: Any = None, copy: bool = True
) -> NDArray[np.float32]:
    """Embed a column, unless it holds vectors, and scale the vectors to unit length.

    Parameters
    ----------
    column : Column
    embedder : transformer
        From ``resolve_embedder``. Embeds texts; vectors are never passed to it.
    plan : Plan or None
        From ``plan_of``.
    fit : bool, default=False
        Whether to fit the embedder on the texts first, unless it is fitted. A ``SentenceEmbeddingTransformer`` only
        records its model.
    y : column of labels, default=None
        Target to fit the embedder with.
    copy : bool, default=True
        False: vectors of a column that are of unit length already may be returned as they are, for those who only read
        them, and not for long: they may be the user's own.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)

    Raises
    ------
    ValueError
        If a vector holds NaN or infinity, or if the embedder is a fine-tuner that would be trained without labels,
        unless its loss is one for texts alone.
    """
    vectors = _compute_vectors(column, embedder, plan, fit, y) if column.vectors is None else column.vectors
    # in float64: the squares of very large or small float32 numbers exceed the range of float32
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    not_finite = np.flatnonzero(~np.isfinite(lengths))
    bad = not_finite[~np.isnan(vectors[not_finite]).all(axis=1)]
    if len(bad):
        raise ValueError(f"{column.where(int(bad[0]))} holds NaN or infinity.{column.about}")
    is_scaled = np.abs(lengths - 1) < _ROUNDING
    is_all_scaled = np.count_nonzero(is_scaled) + len(not_finite) == len(lengths)  # the latter are missing
    if is_all_scaled and not copy and vectors.flags.c_contiguous:
        return vectors
    lengths[is_scaled] = 1  # so that scaling them once more changes no digit
    return _to_unit_length(vectors, lengths)


def embed_pair(
    left: Column, right: Column, embedder: Any, names: tuple[str, str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embed two columns to compare, by one plan; see :func:`embed_column`.

    Parameters
    ----------
    left, right : Column
        If they are the same object, it is embedded once.
    embedder : transformer
        From ``resolve_embedder``.
    names : (str, str), default=None
        Names of the two in messages; None: those of the columns.

    Returns
    -------
    left, right : ndarray of float32, shape (n_rows, dim)

    Raises
    ------
    ValueError
        If their vectors are of different models or dimensions.
    """
    plan = plan_of(embedder, left, right)
    tags = model_tag(left, embedder, plan), model_tag(right, embedder, plan)
    names = names or (left.name, right.name)
    check_same_model(*tags, names)
    vectors = embed_column(left, embedder, plan)
    others = vectors if right is left else embed_column(right, embedder, plan)
    _check_same_dim(vectors.shape[1], others.shape[1], names)
    return vectors, others


def _compute_vectors(column: Column, embedder: Any, plan: Plan | None, fit: bool, y: Any) -> NDArray[np.float32]:
    if fit and isinstance(embedder, SentenceEmbeddingTransformer) and plan is not None:
        embedder._learn(plan)
    if fit and not is_fitted(embedder):
        vectors = fit_transform(embedder, column.to_series(), y)
    elif hasattr(embedder, "_embed_texts"):
        vectors = embedder._embed_texts(column.texts, plan)
    else:
        vectors = embedder.transform(column.to_series())
    return np.asarray(vectors.toarray() if issparse(vectors) else vectors, dtype=np.float32)


def fit_transform(transformer: Any, X: Any, y: Any = None) -> Any:
    """Fit a transformer and transform; not all transformers have ``fit_transform``.

    Raises
    ------
    ValueError
        If there is no y, and the transformer or a step of it is a fine-tuner that learns from labels.
    """
    if y is None:
        _refuse_texts_alone(transformer)
    if hasattr(transformer, "fit_transform"):
        return transformer.fit_transform(X) if y is None else transformer.fit_transform(X, y)
    return transformer.fit(X, y).transform(X)


def _refuse_texts_alone(embedder: Any) -> None:
    """Raise ValueError if an embedder, or a step of it, is a fine-tuner that should not be trained without labels."""
    if hasattr(embedder, "_refuse_texts_alone"):
        embedder._refuse_texts_alone()
    for step in nested_estimators(embedder):
        if hasattr(step, "fit") and not is_fitted(step):  # a kernel has parameters too, but is not an estimator
            _refuse_texts_alone(step)


def nested_estimators(estimator: Any) -> Iterator[Any]:
    """Yield the estimators among the parameters of an estimator, also those in lists of steps or of (name, step)."""
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return
    for value in estimator.get_params(deep=False).values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            yield from (item for item in (part if isinstance(part, tuple) else [part]) if hasattr(item, "get_params"))


def model_tag(column: Column, embedder: Any, plan: Plan | None = None) -> str | None:
    """Return the tag of the model that embeds a column of texts, or that made a column of vectors.

    Parameters
    ----------
    column : Column
    embedder : transformer
        Embeds texts.
    plan : Plan, default=None
        From ``plan_of``.

    Returns
    -------
    str or None
        Name and first digits of the fingerprint; None if the model is unknown.
    """
    if column.texts is None:
        return column.model
    tag: str | None = embedder._model_note(plan) if hasattr(embedder, "_model_note") else None
    return tag


def embed_like(
    column: Column, embedder: Any, plan: Plan | None, tag: str | None, dim: int, names: tuple[str, str]
) -> NDArray[np.float32]:
    """Embed a column to compare it with vectors that are there already; see :func:`embed_column`.

    Parameters
    ----------
    column : Column
    embedder : transformer
        From ``resolve_embedder``.
    plan : Plan or None
        From ``plan_of``.
    tag : str or None
        Tag of the model of the other vectors, from ``model_tag``.
    dim : int
        Number of dimensions of the other vectors.
    names : (str, str)
        Names of the column and of the other vectors in messages.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)

    Raises
    ------
    ValueError
        If the vectors are of another model or of other dimensions.
    """
    check_same_model(model_tag(column, embedder, plan), tag, names)
    vectors = embed_column(column, embedder, plan)
    _check_same_dim(vectors.shape[1], dim, names)
    return vectors


def _check_same_dim(dim: int, other: int, names: tuple[str, str]) -> None:
    """Raise ValueError if vectors to compare have different numbers of dimensions."""
    if dim != other:
        raise ValueError(f"The vectors of {names[0]} have {dim} dimensions, those of {names[1]} {other}.")


def refuse_guess(given: Any, column: Column, tag: str | None, of: str) -> None:
    """Raise ValueError if texts would be compared with vectors of an unknown model, by a model that nobody chose.

    Parameters
    ----------
    given : transformer or None
        The parameter ``embedder`` of the estimator.
    column : Column
        Columns of vectors are never refused.
    tag : str or None
        Tag of the model of the vectors, from ``model_tag``.
    of : str
        Whose vectors they are, in the message.
    """
    if given is None and tag is None and column.texts is not None and column.texts.unique:
        raise ValueError(
            f"{column.name} holds texts, but nothing says which model made the vectors of {of}. Without embedder=, the "
            f"texts would be embedded with model={SentenceEmbeddingTransformer().model!r}. Pass the embedder that made "
            "the vectors, even if it is that one, or pass vectors."
        )


def refuse_guess_between(given: Any, left: Column, right: Column) -> None:
    """Raise ValueError if one of two columns holds texts, and the other vectors that do not say what made them."""
    for texts, vectors in ((left, right), (right, left)):
        if vectors.vectors is not None:
            refuse_guess(given, texts, vectors.model, vectors.name)


def check_same_model(tag: str | None, other: str | None, names: tuple[str, str]) -> None:
    """Raise ValueError if vectors to compare are known to be of different models.

    Parameters
    ----------
    tag, other : str or None
        Tags of their models, from ``model_tag``.
    names : (str, str)
        Names of the two in the message.
    """
    if tag is None or other is None or _fingerprint_in(tag) == _fingerprint_in(other):
        return
    if any((mark in tag) != (mark in other) for mark in (LIVE_MARK, TUNED_MARK)):
        return  # perhaps the same model: fingerprints of different kinds are never equal
    raise ValueError(
        f"The vectors of {names[0]} are of the model {tag}, those of {names[1]} of {other}: "
        "vectors of different models cannot be compared. Embed both with the same model."
    )


def _fingerprint_in(tag: str) -> str:
    """Return the fingerprint in a tag, without the model's name; the whole tag if it has none."""
    found = _FINGERPRINT.search(tag)
    return tag if found is None else found[0]


def _to_unit_length(vectors: NDArray[np.float32], lengths: NDArray[np.float64]) -> NDArray[np.float32]:
    zeros = np.zeros_like(vectors, order="C")  # whatever the order was, because products depend on it in the last digit
    where = (lengths != 0)[:, None]
    unit: NDArray[np.float32] = np.divide(vectors, lengths[:, None], out=zeros, where=where)
    return unit
