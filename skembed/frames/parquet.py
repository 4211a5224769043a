"""Vector columns in parquet files. Imports pandas; pyarrow when a file is read."""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from skembed.frames.vectors import VectorDtype
from skembed.optional import require

if TYPE_CHECKING:
    import pyarrow


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
