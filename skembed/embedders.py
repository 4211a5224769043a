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

from skembed.encoding.labels import labelled_texts, place, plain_texts
from skembed.encoding.texts import about_column
from skembed.encoding.vectors import holds_vectors, model_of, read_vectors
from skembed.transformer import LIVE_MARK, TUNED_MARK, SentenceEmbeddingTransformer

_FINGERPRINT = re.compile(r"\b[0-9a-f]{16}$")


def unit_vectors(X: Any, embedder: BaseEstimator | None, *, name: str = "X") -> NDArray[np.float32]:
    """Embed texts, or take vectors as they are, and give them length 1.

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
    fit = not isinstance(embedder, SentenceEmbeddingTransformer)  # which would note its model for later, and is let go
    return embed_column(X, embedder, fit=fit, name=name)


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


def fit_embedder(embedder: Any, columns: Sequence[Any]) -> Any:
    """Let an embedder learn from several columns together, so that their vectors can be compared.

    Parameters
    ----------
    embedder : transformer
        From ``take_embedder``. A fitted one stays as it is.
    columns : sequence of columns of texts or of vectors
        Vectors are left out. Without texts nothing is learned.

    Returns
    -------
    transformer
        The same.
    """
    texts = [plain_texts(column) for column in columns if not holds_vectors(column)]
    if not texts:
        return embedder
    if isinstance(embedder, SentenceEmbeddingTransformer):
        embedder._keep_to_model()
    elif not is_fitted(embedder):
        _refuse_texts_alone(embedder)
        embedder.fit(pd.Series(np.concatenate(texts)), None)
    return embedder


def embed_column(X: Any, embedder: Any, *, fit: bool, y: Any = None, name: str = "X") -> NDArray[np.float32]:
    """Do the same with an embedder of one's own, which is fitted or to be fitted.

    Parameters
    ----------
    X : column of texts or of vectors
    embedder : transformer
        From ``take_embedder``. Embeds texts; vectors never reach it.
    fit : bool
        Whether it is to learn from the texts first, unless it is fitted. A ``SentenceEmbeddingTransformer`` only notes
        which model it has.
    y : column of labels, default=None
        What it is fitted with beside the texts.
    name : str, default="X"
        As for :func:`unit_vectors`.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)

    Raises
    ------
    ModelChangedError
        If the embedder was fitted, and its model has since changed under the same name.
    ValueError
        If it is a fine-tuner that should train on texts without labels, and no loss was chosen for that.
    """
    if holds_vectors(X):
        vectors = read_vectors(X)
    elif isinstance(embedder, SentenceEmbeddingTransformer):
        if fit:
            embedder._keep_to_model()
        vectors = embedder._embed(X, name=name)
    else:
        texts = labelled_texts(X, name)
        if fit and not is_fitted(embedder):
            vectors = _fit_transform(embedder, texts, y)
        elif hasattr(embedder, "_embed"):  # a fine-tuner, which can be told what messages call the column
            vectors = embedder._embed(texts, name=name)
        else:
            vectors = embedder.transform(texts)
        vectors = np.asarray(vectors.toarray() if issparse(vectors) else vectors, dtype=np.float32)
    is_bad = ~np.isfinite(vectors).all(axis=1) & ~np.isnan(vectors).all(axis=1)
    if is_bad.any():
        raise ValueError(
            f"{place(name, X, int(is_bad.argmax()))} holds NaN or infinity.{about_column(X) if name == 'X' else ''}"
        )
    return _to_unit_length(vectors)


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


def model_tag(X: Any, embedder: Any) -> str | None:
    """Say which model makes the vectors of a column of texts, or made those that are there already.

    Parameters
    ----------
    X : column of texts or of vectors
    embedder : transformer
        What embeds texts.

    Returns
    -------
    str or None
        Name and fingerprint; None if nobody knows.
    """
    if holds_vectors(X):
        return model_of(X)
    note: str | None = embedder._model_note() if hasattr(embedder, "_model_note") else None
    return note


def check_same_model(maker: str | None, other: str | None, names: tuple[str, str]) -> None:
    """Raise if vectors that are to be compared are known to be of different models.

    Parameters
    ----------
    maker, other : str or None
        What ``model_tag`` says of each side.
    names : (str, str)
        What the message calls them.

    Raises
    ------
    ValueError
        The message says both.
    """
    if maker is None or other is None or _identity(maker) == _identity(other):
        return
    if any((mark in maker) != (mark in other) for mark in (LIVE_MARK, TUNED_MARK)):
        return  # may be the same: fingerprints of two kinds never agree
    raise ValueError(
        f"The vectors of {names[0]} are of the model {maker}, those of {names[1]} of {other}: "
        "vectors of different models cannot be compared. Embed both with the same."
    )


def _identity(maker: str) -> str:
    """Take the fingerprint, whatever the model was called; the whole note if somebody wrote one without."""
    found = _FINGERPRINT.search(maker)
    return maker if found is None else found[0]


def _to_unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # in float64, because the squares of large and small float32 do not fit into float32
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths != 0)
    return unit
