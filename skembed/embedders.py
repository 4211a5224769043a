"""What the estimators over embeddings share: texts, or vectors that are there already, to unit vectors.

Imports the transformer and ``skembed.encoding``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import column_or_1d

from skembed.encoding.texts import read_texts
from skembed.encoding.vectors import holds_vectors, model_of, read_vectors
from skembed.transformer import LIVE_MARK, SentenceEmbeddingTransformer

_FINGERPRINT = re.compile(r"\b[0-9a-f]{16}$")


def unit_vectors(
    X: Any, embedder: BaseEstimator | None, *, name: str = "X", stacklevel: int = 3
) -> NDArray[np.float32]:
    """Embed texts, or take vectors as they are, and give them length 1.

    Parameters
    ----------
    X : column of texts or of vectors
        What :class:`skembed.SentenceEmbeddingTransformer` or :class:`skembed.VectorArray` reads.
    embedder : transformer or None
        What embeds texts; None: a ``SentenceEmbeddingTransformer`` with ``missing="nan"``.
    name : str, default="X"
        What messages call the column.
    stacklevel : int, default=3
        Whose line a TruncationWarning points to: 3 is the caller's, 4 that of its caller.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)
        Rows of length 1, so that their products are cosines; a vector of zeros stays one. Missing rows are NaN.

    Raises
    ------
    TypeError, ValueError
        If a text or a vector is not what it must be; the message names the position.
    """
    return embed_column(X, _own_copy(embedder), fit=True, name=name, stacklevel=stacklevel + 1)


def fit_embedder(embedder: BaseEstimator | None, columns: Sequence[Any]) -> Any:
    """Copy an embedder, and let it learn from several columns together, so that their vectors can be compared.

    Parameters
    ----------
    embedder : transformer or None
        None: a ``SentenceEmbeddingTransformer`` with ``missing="nan"``, which has nothing to learn.
    columns : sequence of columns of texts or of vectors

    Returns
    -------
    transformer
    """
    embedder = _own_copy(embedder)
    texts = [plain_texts(column) for column in columns if not holds_vectors(column)]
    if texts and not isinstance(embedder, SentenceEmbeddingTransformer):
        embedder.fit(pd.Series(np.concatenate(texts)), None)
    return embedder


def _own_copy(embedder: BaseEstimator | None) -> Any:
    return SentenceEmbeddingTransformer(missing="nan") if embedder is None else clone(embedder)


def embed_column(X: Any, embedder: Any, *, fit: bool, name: str = "X", stacklevel: int = 3) -> NDArray[np.float32]:
    """Do the same with an embedder of one's own, which is fitted or to be fitted.

    Parameters
    ----------
    X : column of texts or of vectors
    embedder : transformer
        Embeds texts; vectors never reach it.
    fit : bool
        Whether it is to learn from the texts first. A ``SentenceEmbeddingTransformer`` has nothing to learn.
    name, stacklevel
        As for :func:`unit_vectors`.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)
    """
    if holds_vectors(X):
        vectors = read_vectors(X)
    elif isinstance(embedder, SentenceEmbeddingTransformer):
        vectors = embedder._embed(X, name=name, stacklevel=stacklevel)
    else:
        texts = pd.Series(plain_texts(X, name))  # a frame would be a list of its columns' names to a TfidfVectorizer
        if fit and hasattr(embedder, "fit_transform"):
            vectors = embedder.fit_transform(texts)
        else:  # a FrozenEstimator has no such method, and wants a y
            vectors = (embedder.fit(texts, None) if fit else embedder).transform(texts)
        vectors = np.asarray(vectors.toarray() if issparse(vectors) else vectors, dtype=np.float32)
    is_bad = ~np.isfinite(vectors).all(axis=1) & ~np.isnan(vectors).all(axis=1)
    if is_bad.any():
        raise ValueError(f"{place(name, X, int(is_bad.argmax()))} holds NaN or infinity.")
    return _to_unit_length(vectors)


def plain_texts(X: Any, name: str = "X", *, missing: str = "nan") -> NDArray[np.object_]:
    """Read a column of texts from any container; None where a text is missing."""
    texts = read_texts(X, missing=missing, name=name)
    return np.array([*texts.unique, None], dtype=object)[texts.codes]


def read_labels(y: Any, name: str) -> NDArray[Any]:
    """Read labels or numbers as they are, into an array of their own; a missing one is an error.

    numpy makes texts of all where some are, and scikit-learn floats of nullable integers.
    """
    rows = np.array([*y, None], dtype=object)[:-1] if isinstance(y, (list, tuple, pd.Series, pd.Index)) else y
    labels: NDArray[Any] = np.array(column_or_1d(rows))
    if labels.dtype == object:
        labels = pd.Series(labels).infer_objects().to_numpy()
    is_missing = pd.isna(labels)
    if is_missing.any():
        raise ValueError(f"{place(name, y, int(is_missing.argmax()))} is missing.")
    return labels


def place(name: str, X: Any, row: int) -> str:
    """Name a row as the user knows it: its position, and its index label if there is one."""
    has_labels = isinstance(X, (pd.Series, pd.DataFrame))
    return f"{name}[{row}]" + (f" (index label {X.index[row : row + 1].tolist()[0]!r})" if has_labels else "")


def maker_of(X: Any, embedder: Any) -> str | None:
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
    return embedder._model_note() if isinstance(embedder, SentenceEmbeddingTransformer) else None


def refuse_other_maker(maker: str | None, other: str | None, names: tuple[str, str]) -> None:
    """Raise if vectors that are to be compared are known to be of different models.

    Parameters
    ----------
    maker, other : str or None
        What ``maker_of`` says of each side.
    names : (str, str)
        What the message calls them.

    Raises
    ------
    ValueError
        The message says both.
    """
    if maker is None or other is None or _identity(maker) == _identity(other):
        return
    if (LIVE_MARK in maker) != (LIVE_MARK in other):  # may be the same: their fingerprints never agree
        return
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
