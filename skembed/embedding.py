"""``embed``: texts to vectors in one call. Imports ``skembed.encoding`` alone, not scikit-learn, to start fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.encoder import encode
from skembed.encoding.plan import make_plan
from skembed.encoding.settings import Settings, check_names
from skembed.encoding.texts import read_texts


def embed(texts: Sequence[str] | Any, **params: Any) -> NDArray[np.float32]:
    """Embed texts in one call.

    Parameters
    ----------
    texts : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
        One text per row.
    **params
        Parameters of :class:`~skembed.SentenceEmbeddingTransformer`.

    Returns
    -------
    ndarray of float32, shape (n_texts, embedding_dim)

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid, or an element is not a text; the message names its position.
    ModelNotFoundError
        If the model does not exist.

    Examples
    --------
    >>> import skembed
    >>> vectors = skembed.embed(["A cat sat.", "A cat was sitting.", "Stocks fell."])
    >>> vectors.shape, vectors.dtype
    ((3, 384), dtype('float32'))
    >>> (vectors @ vectors[0]).round(2)
    array([1.  , 0.86, 0.1 ], dtype=float32)
    """
    check_names(params, "embed", "texts")
    settings = Settings(**params)
    return encode(read_texts(texts, missing=settings.missing), make_plan(settings))
