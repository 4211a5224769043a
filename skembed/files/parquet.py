"""Vectors in parquet files: made from files of text, and read back. Imports pandas; pyarrow when there is a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from skembed.checks import check_count
from skembed.encoding.settings import check_names
from skembed.frames.vectors import VectorDtype
from skembed.optional import require
from skembed.paths import is_url, read_path, refuse_special_file

if TYPE_CHECKING:
    import pyarrow


_CACHE_BYTES = 2**27  # of a stream: enough for texts that are said again and again


def embed_parquet(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    column: str,
    *,
    vector_column: str = "vector",
    resume: bool = True,
    rows_per_file: int = 100_000,
    **params: Any,
) -> int:
    """Embed a column of parquet or CSV files of any size into parquet files, in memory that does not grow with them.

    The rows go from ``source`` to ``destination`` in order, with all of their columns and one more, the vectors. A run
    that was interrupted, by whatever, goes on after its last whole file when it is called again. Files that are added
    at the end of a folder later are embedded by the next call.

    Parameters
    ----------
    source : path or list of paths
        A parquet file (``.parquet``, ``.pq``), a CSV file (``.csv`` with commas, ``.tsv`` with tabs; UTF-8, with a
        header), a list of them, or a folder, which is read in the order of the paths in it. A folder's parts such as
        ``country=de`` are columns.
    destination : path
        A folder on a local disk, new or empty or of an earlier call: it gets ``part-000000.parquet`` and so on, and a
        ``_manifest.json`` that says what is in them.
    column : str
        Name of the column of text.
    vector_column : str, default="vector"
        Name of the column of vectors: lists of a fixed number of float32, null where a text is missing.
    resume : bool, default=True
        Whether to go on with what is there, after it was read, at about 1 GB a second, to see that it is as it was
        written. False: what an earlier call wrote is deleted, and all is done again.
    rows_per_file : int, default=100_000
        Rows in each file of the destination but the last, and the most that are lost when a run is killed.
    **params
        Parameters of :class:`skembed.SentenceEmbeddingTransformer`. Here ``missing`` is "nan" by default, and the cache
        is one of 128 MiB that goes with the call.

    Returns
    -------
    int
        Rows in the destination, those of earlier calls included.

    Raises
    ------
    ImportError
        If pyarrow is not installed (extra ``parquet``).
    FileNotFoundError
        If there is no such file.
    KeyError
        If the source has no such column.
    TypeError, ValueError
        If the column is no text, a text cannot be read, the files differ in their columns, or a path is a URL; the
        message names the file and the row, counted from 0.
    DestinationError
        If the folder holds something else or was embedded with other settings, if a file in it is damaged or one
        whose rows are in it has changed, if another process is writing into it, or if there is no room for more.
    OSError
        If a part of a file cannot be read. What was finished before it stays.

    Warns
    -----
    TruncationWarning
        At the end, if texts were longer than the model reads, with their number.

    See Also
    --------
    skembed.read_parquet : Reads the result, or some columns of it, with vectors as a column of vectors.
    skembed.BatchEmbedder : Embeds batches, for Ray, Dask and Spark.

    Notes
    -----
    The same from a shell: ``python -m skembed embed reviews.parquet --column text --out embedded``.

    In CSV files an empty field is missing, and all columns are text, letter for letter: a guess at types would make 123
    of 00123. Fields may be quoted with ``"``, which is doubled within; a row may have up to 16 MiB. Parquet files may
    differ in the width of their numbers and in their categories, but in nothing that would be lost.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> import skembed
    >>> folder = Path(tempfile.mkdtemp())
    >>> pd.DataFrame({"review": ["Great sound.", "Too heavy."], "stars": [5, 2]}).to_parquet(folder / "reviews.parquet")
    >>> skembed.embed_parquet(folder / "reviews.parquet", folder / "embedded", "review")
    2
    >>> skembed.read_parquet(folder / "embedded").dtypes["vector"]
    vector[float32, 384]
    """
    require("pyarrow", extra="parquet", needed_by="skembed.embed_parquet")
    from skembed.encoding.cache.embedding_cache import EmbeddingCache
    from skembed.files.job import EmbeddingJob
    from skembed.files.sources import Source
    from skembed.transformer import SentenceEmbeddingTransformer

    own = ("source", "destination", "column", "vector_column", "resume", "rows_per_file")
    check_names(params, "embed_parquet", *own)
    check_count("rows_per_file", rows_per_file)
    folder = read_path(destination, "destination")
    transformer = SentenceEmbeddingTransformer(
        **{"missing": "nan", "cache": EmbeddingCache(max_bytes=_CACHE_BYTES), **params}
    )
    job = EmbeddingJob(Source(source), column, vector_column, transformer)
    n_rows = job.run(folder, rows_per_file, resume)
    job.warn()
    return n_rows


def read_parquet(path: str | os.PathLike[str] | IO[bytes], **params: Any) -> pd.DataFrame:
    """Read a parquet file, or a folder of them, with its vectors as vector columns.

    A vector column is written by pandas' own ``df.to_parquet(path)``, as a list of a fixed number of float32, which
    pandas, polars, duckdb and pyarrow read without skembed. :func:`pandas.read_parquet` gives such a column back as one
    array object a row; this function as the vector column that it was.

    Parameters
    ----------
    path : str, path or file object
        The file or folder.
    **params
        Parameters of :func:`pyarrow.parquet.read_table`, e.g. ``columns`` and ``filters``.

    Returns
    -------
    DataFrame
        As :func:`pandas.read_parquet` reads it, but for the columns of fixed-size lists of float32, which are vector
        columns.

    Raises
    ------
    ImportError
        If pyarrow is not installed (extra ``parquet``).
    FileNotFoundError
        If there is no such file.
    pyarrow.ArrowInvalid
        If it is no parquet file.

    Notes
    -----
    Lists of another number type, or without a fixed size, stay as pandas gives them:
    ``df["v"].astype("vector[float32, 384]")`` makes a vector column of them.

    Missing vectors need pyarrow 26: older ones cannot write or cannot read them. Since no two numbers of vectors are
    alike, ``df.to_parquet(path, use_dictionary=False)`` may give a smaller file.

    Examples
    --------
    >>> import io
    >>> import pandas as pd
    >>> import skembed
    >>> file = io.BytesIO()
    >>> pd.DataFrame({"v": skembed.VectorArray([[0.6, 0.8], None])}).to_parquet(file)
    >>> skembed.read_parquet(file)["v"].dtype
    vector[float32, 2]
    """
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="skembed.read_parquet")
    if isinstance(path, (str, os.PathLike)) and not is_url(path):  # pyarrow reads some URLs
        path = read_path(path, "path")
        refuse_special_file(path)
    table = parquet.read_table(path, **params)
    frame: pd.DataFrame = table.to_pandas(types_mapper=_vector_type)
    attributes = (table.schema.metadata or {}).get(b"PANDAS_ATTRS")
    if attributes is not None:
        frame.attrs = json.loads(attributes)
    return frame


def _vector_type(arrow: pyarrow.DataType) -> VectorDtype | None:
    """Say which type of pandas an Arrow type becomes; None: as pyarrow decides."""
    import pyarrow

    is_vector = pyarrow.types.is_fixed_size_list(arrow) and pyarrow.types.is_float32(arrow.value_type)
    return VectorDtype(arrow.list_size) if is_vector and arrow.list_size else None
