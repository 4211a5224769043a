"""Dask meets embeddings: ``ddf["review"].text.embed()``, and ``embed`` for a frame with its vectors.

Imports dask, so skembed imports this file only if dask.dataframe is imported already.
"""

from __future__ import annotations

from typing import Any, Literal

import dask.dataframe as dd
import numpy as np
from dask.dataframe.dispatch import make_meta
from dask.dataframe.extensions import make_array_nonempty, register_series_accessor

from skembed.checks import check_choice
from skembed.encoding.settings import check_names
from skembed.frames.batches import BatchEmbedder
from skembed.frames.pandas import embed_column
from skembed.frames.vectors import VectorArray, VectorDtype
from skembed.transformer import SentenceEmbeddingTransformer


class TextColumn:
    """A column of text of Dask: ``ddf["review"].text``.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> import skembed.frames.dask
    >>> ddf = dd.from_pandas(pd.DataFrame({"review": ["Great sound.", "Too heavy."]}), npartitions=2)
    >>> ddf["review"].text.embed(truncate_dim=2).columns.tolist()
    ['review_0', 'review_1']
    """

    def __init__(self, column: Any) -> None:
        self._column = column

    def embed(self, *, output: Literal["frame", "vector"] = "frame", **params: Any) -> Any:
        """Embed each text when the result is computed; each worker loads the model once.

        The model is loaded here, too, because the columns of the result depend on it. A worker that finds another model
        under the same name raises an error.

        Parameters
        ----------
        output : {"frame", "vector"}, default="frame"
            "frame": a float32 column for each dimension. "vector": one column of vectors.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here, and
            ``cache`` None.

        Returns
        -------
        dask DataFrame or Series
            With the divisions of the column.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid, or, when the result is computed, a value is not a text; the message names its
            position in the partition and its index label.
        ModelNotFoundError
            If the model cannot be found.
        """
        check_choice("output", output, ("frame", "vector"))
        check_names(params, "text.embed", "output")
        transformer = SentenceEmbeddingTransformer(**{"missing": "nan", "cache": None, **params}).fit([])
        meta = embed_column(make_meta(self._column), output, transformer)
        return self._column.map_partitions(embed_column, output, transformer, meta=meta)


def embed(ddf: Any, column: str, *, vector_column: str = "vector", **params: Any) -> Any:
    """Add a column of vectors to a frame of Dask.

    Parameters
    ----------
    ddf : dask DataFrame
    column : str
        Name of the column of text.
    vector_column : str, default="vector"
    **params
        Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here, and ``cache``
        None.

    Returns
    -------
    dask DataFrame
        With the vectors as a column ``vector[float32, dim]``, which ``to_parquet`` can write.

    Raises
    ------
    KeyError
        If there is no such column.
    TypeError, ValueError
        If a parameter is invalid, or, when the result is computed, a value is not a text.
    ModelNotFoundError
        If the model cannot be found.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> from skembed.frames.dask import embed
    >>> ddf = dd.from_pandas(pd.DataFrame({"review": ["Great sound.", "Too heavy."]}), npartitions=2)
    >>> embed(ddf, "review").dtypes["vector"]
    vector[float32, 384]
    """
    check_names(params, "skembed.frames.dask.embed", "ddf", "column", "vector_column")
    embedder = BatchEmbedder(column, vector_column=vector_column, **params)
    embedder.transformer.fit([])  # so that a worker that finds another model under the name raises
    return ddf.map_partitions(embedder, meta=embedder(make_meta(ddf)))


@make_array_nonempty.register(VectorDtype)
def _two_vectors(dtype: VectorDtype) -> VectorArray:
    """Return an example of a column, on which Dask tries its operations."""
    return VectorArray(np.ones((2, dtype.dim), dtype=np.float32))


if getattr(dd.Series, "text", None) is None:  # an accessor that somebody else has added stays
    register_series_accessor("text")(TextColumn)
