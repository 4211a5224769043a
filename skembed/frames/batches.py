"""Batches of rows, as engines such as Ray, Dask and Spark pass them to workers: ``BatchEmbedder``.

Imports pandas, the engine, the vector column and the transformer; pyarrow is recognised without being imported.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd

from skembed.encoding.settings import check_names
from skembed.frames.vectors import VectorArray
from skembed.transformer import SentenceEmbeddingTransformer


class BatchEmbedder:
    """Add vectors to batches of rows; for ``map_batches``, ``map_partitions`` and the like.

    A BatchEmbedder is pickled without weights. Each process loads the model with its first batch, and once however many
    copies of the BatchEmbedder it has.

    Parameters
    ----------
    column : str
        Name of the column of text.
    vector_column : str, default="vector"
        Name of the column of vectors that is added.
    **params
        Parameters of :class:`skembed.SentenceEmbeddingTransformer`. Here ``missing`` is "nan" and ``cache`` None by
        default: a stream of rows would fill a cache in memory with texts that never recur. Within a batch each distinct
        text is encoded only once in any case.

    See Also
    --------
    skembed.frames.ray.embed : Add vectors to a dataset of Ray, with workers that suit the cluster.
    skembed.frames.dask.embed : Add vectors to a frame of Dask.
    skembed.embed_parquet : Embed files into files on one machine.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import BatchEmbedder
    >>> embedder = BatchEmbedder("review", truncate_dim=2)
    >>> batch = pd.DataFrame({"review": ["Great sound.", None], "stars": [5, 2]})
    >>> embedder(batch)["vector"].isna().tolist()
    [False, True]
    """

    def __init__(self, column: str, *, vector_column: str = "vector", **params: Any) -> None:
        check_names(params, "BatchEmbedder", "column", "vector_column")
        self.column = column
        self.vector_column = vector_column
        self.transformer = SentenceEmbeddingTransformer(**{"missing": "nan", "cache": None, **params})
        self.transformer._settings()  # an invalid value raises here rather than in a worker

    def __call__(self, batch: Any) -> Any:
        """Embed a batch.

        Parameters
        ----------
        batch : DataFrame, pyarrow Table or RecordBatch, or dict of str to ndarray
            The types of Ray's pandas, pyarrow and numpy batches.

        Returns
        -------
        DataFrame, pyarrow Table or RecordBatch, or dict
            The batch with the vectors: a vector column in pandas, fixed-size lists of float32 in pyarrow, a float32
            matrix in a dict.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If the batch is of another type, has a column named ``vector_column`` already, or a value is not a text; the
            message names its position in the batch.
        ModelNotFoundError
            If the model cannot be found.
        """
        names = _column_names(batch)
        if self.column not in names:
            raise KeyError(f"The batch has no column {self.column!r}; its columns are {', '.join(map(repr, names))}.")
        if self.vector_column in names:
            raise ValueError(f"The batch has a column {self.vector_column!r} already; give another vector_column.")
        matrix, tag = self.transformer._embed_and_tag(batch[self.column], f"column {self.column!r}")
        if isinstance(batch, dict):
            return {**batch, self.vector_column: matrix}
        vectors = VectorArray(matrix, model=tag)
        if isinstance(batch, pd.DataFrame):
            return batch.assign(**{self.vector_column: vectors})
        return batch.append_column(self.vector_column, vectors.__arrow_array__())


def _column_names(batch: Any) -> list[Any]:
    if isinstance(batch, pd.DataFrame):
        return batch.columns.tolist()
    if isinstance(batch, dict):
        return list(batch)
    pyarrow = sys.modules.get("pyarrow")  # its tables exist only where it was imported
    if pyarrow is not None and isinstance(batch, (pyarrow.Table, pyarrow.RecordBatch)):
        return list(batch.schema.names)
    raise TypeError(
        f"The batch is a {type(batch).__name__}; it must be a DataFrame of pandas, a Table or RecordBatch of pyarrow, "
        "or a dict of arrays."
    )
