"""Containers: what texts can come in, as rows, index labels, columns and names in messages.

Imports numpy and pandas; polars and pyarrow objects are recognized without importing either.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ABOUT_VECTORS = (
    "Vectors are not embedded again. Give them, as a matrix, to the step that comes after the model; the matrix of a "
    "vector column is column.to_numpy('float32')."
)

# Libraries whose rows are elsewhere or not computed yet, and what to do instead.
_ENGINES = {
    "dask": "which is computed in partitions; use ddf[column].text.embed() of skembed.frames.dask, or X.compute() if "
    "it fits into memory.",
    "ray": "which is computed in blocks; use skembed.frames.ray.embed(ds, column), or ds.to_pandas()[column] if it "
    "fits into memory.",
    "pyspark": "which is computed elsewhere; use df.mapInArrow with a skembed.BatchEmbedder, or toPandas() if it fits "
    "into memory.",
}


def rows_and_labels(X: Any) -> tuple[Iterable[Any], pd.Index | None]:
    """Return the rows of a container and, for pandas, their index labels.

    Parameters
    ----------
    X : list, tuple, ndarray, Series, Index, one-column frame, polars Series, pyarrow array

    Returns
    -------
    rows : list, Categorical or sequence
    labels : Index or None

    Raises
    ------
    TypeError, ValueError
        If X is not one column.
    """
    if isinstance(X, str):
        raise TypeError("X is a single str; pass a list, e.g. [text].")
    if isinstance(X, (list, tuple)):
        return list(X), None  # a copy, which no other thread changes
    if isinstance(X, np.ndarray):
        return _array_rows(X), None
    if isinstance(X, pd.DataFrame):
        _require_one_column(X.shape[1], list(X.columns))
        return _values(X.iloc[:, 0]), X.index
    if isinstance(X, pd.Series):
        return _values(X), X.index
    if isinstance(X, (pd.Index, pd.api.extensions.ExtensionArray)):
        return _values(X), None
    for read_rows in (_polars_rows, _pyarrow_rows):
        if (rows := read_rows(X)) is not None:
            return rows, None
    library = type(X).__module__.partition(".")[0]
    if library in _ENGINES:
        raise TypeError(f"X is a {type(X).__name__} of {library}, {_ENGINES[library]}")
    if isinstance(X, Sequence) and not isinstance(X, (bytes, bytearray, memoryview)):
        return X, None
    if hasattr(X, "__array__") and not isinstance(X, (type, np.generic)):
        with suppress(Exception):  # cannot be converted: not a column of text
            return _array_rows(np.asarray(X, dtype=object)), None
    raise TypeError(
        f"X is {type(X).__module__}.{type(X).__qualname__}, not a column of text. "
        "Pass a list of str, a numpy array, or a pandas, polars or pyarrow column."
    )


def _values(column: Any) -> list[Any] | pd.Categorical:
    return pd.Categorical(column) if isinstance(column.dtype, pd.CategoricalDtype) else column.tolist()


def _array_rows(X: NDArray[Any]) -> list[Any]:
    if X.ndim == 2:
        if X.shape[1] > 1 and X.dtype.kind in "fiu":
            raise ValueError(f"X is a matrix of numbers, shape {X.shape}, not a column of text. {ABOUT_VECTORS}")
        _require_one_column(X.shape[1])
        X = X[:, 0]
    if X.ndim != 1:
        raise ValueError(f"X is an array of {X.ndim} dimensions; pass one text a row, shape (n,) or (n, 1).")
    rows: list[Any] = X.tolist()
    return rows


def _polars_rows(X: Any) -> list[Any] | None:
    polars = sys.modules.get("polars")  # whoever holds a polars object has imported polars
    if polars is None:
        return None
    if isinstance(X, polars.LazyFrame):
        raise TypeError("X is a polars LazyFrame; collect() it first and pass one column.")
    if isinstance(X, polars.DataFrame):
        _require_one_column(X.width, X.columns)
        X = X.to_series()
    return X.to_list() if isinstance(X, polars.Series) else None


def _pyarrow_rows(X: Any) -> list[Any] | None:
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is None or not hasattr(pyarrow, "Table"):
        return None
    if isinstance(X, (pyarrow.Table, pyarrow.RecordBatch)):
        _require_one_column(X.num_columns, X.schema.names)
        X = X.column(0)
    if not isinstance(X, (pyarrow.Array, pyarrow.ChunkedArray)):
        return None
    try:
        rows: list[Any] = X.to_pylist()
    except UnicodeDecodeError:  # values that are not text stay bytes, so that the message can name their row
        rows = [_text_or_bytes(value) for value in X]
    return rows


def _text_or_bytes(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        is_category = hasattr(value, "dictionary")
        return (value.value if is_category else value).as_buffer().to_pybytes()


def _require_one_column(n_columns: int, names: list[Any] | None = None) -> None:
    if n_columns != 1:
        named = f" ({', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''})" if names else ""
        raise ValueError(
            f"X has {n_columns} columns{named}; pass one column of text, or one transformer "
            "for each text column in a ColumnTransformer."
        )


def name_row(name: str, labels: pd.Index | None, row: int) -> str:
    """Describe a row in a message: its position, and its index label if there is one."""
    label = "" if labels is None else f" (index label {labels[row : row + 1].tolist()[0]!r})"
    return f"{name}[{row}]{label}"  # tolist: the label as Python shows it, not numpy


def about_column(X: Any) -> str:
    """Return the end of a message about X, which tells one column of a ColumnTransformer from another.

    Parameters
    ----------
    X : any container that ``read_texts`` takes

    Returns
    -------
    str
        "" if the column has no name.

    Examples
    --------
    >>> about_column(pd.Series(["a text"], name="title"))
    " X is column 'title'."
    """
    name = getattr(X, "name", None) if isinstance(X, pd.Series) or type(X).__module__.startswith("polars.") else None
    if len(getattr(X, "shape", ())) == 2:  # a frame of one column, or a table of pyarrow
        names: Any = getattr(X, "column_names", getattr(X, "columns", None))
        name = None if names is None or len(names) != 1 else names[0]
    return "" if name is None or (isinstance(name, str) and not name) else f" X is column {name!r}."


def read_columns(X: Any) -> list[tuple[str, Any]]:
    """Split texts, pairs or triplets into columns, each with its name in messages.

    Parameters
    ----------
    X : frame, array of shape (n_rows, n_columns), list of rows, or one column of text

    Returns
    -------
    list of (str, column)
        A container without columns is one column, called "X".

    Raises
    ------
    ValueError
        If the rows of a list differ in length; the message names the position.

    Examples
    --------
    >>> read_columns([("a", "b"), ("c", "d")])
    [('X[:, 0]', ['a', 'c']), ('X[:, 1]', ['b', 'd'])]
    """
    if isinstance(X, pd.DataFrame):
        return [(f"column {name!r}", X.iloc[:, position]) for position, name in enumerate(X.columns)]
    if hasattr(X, "get_columns"):  # a frame of polars
        return [(f"column {column.name!r}", column) for column in X.get_columns()]
    if hasattr(X, "column_names"):  # a table of pyarrow, or a Dataset of datasets
        read_column = X.column if hasattr(X, "column") else lambda position: list(X[X.column_names[position]])
        return [(f"column {name!r}", read_column(position)) for position, name in enumerate(X.column_names)]
    if isinstance(X, np.ndarray) and X.ndim == 2:
        return [(f"X[:, {position}]", column) for position, column in enumerate(X.T)]
    if isinstance(X, (list, tuple)) and X and isinstance(X[0], (list, tuple)):
        return [(f"X[:, {position}]", list(column)) for position, column in enumerate(_transposed(X))]
    return [("X", X)]


def read_one_column(values: Any, name: str, length: int | None) -> pd.Series[Any] | None:
    """Read a column of anything by position; integers stay integers beside missing values.

    Parameters
    ----------
    values : column of any container, or None
    name : str
        Name of the column in messages.
    length : int or None
        Number of rows that it must have; None: any.

    Returns
    -------
    Series or None

    Raises
    ------
    TypeError, ValueError
        If it is not one column of this length.
    """
    if values is None:
        return None
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name} must be a column, with a value for each row; got {values!r:.80}.")
    if len(getattr(values, "shape", (0,))) != 1:
        raise ValueError(f"{name} must be one column; got the shape {values.shape}.")
    is_numbers = isinstance(values, np.ndarray) and values.dtype.kind in "biuf"
    if not is_numbers and not isinstance(values, (pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        values = pd.array(values.to_pylist() if hasattr(values, "to_pylist") else list(values))
    column: pd.Series[Any] = pd.Series(values).reset_index(drop=True)
    if length is not None and len(column) != length:
        raise ValueError(f"{name} must have the length {length}; got {len(column)}.")
    return column


def _transposed(rows: Sequence[Any]) -> Iterable[Any]:
    for position, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or len(row) != len(rows[0]):
            what = f"a row of {len(row)} texts" if isinstance(row, (list, tuple)) else f"a {type(row).__name__}"
            raise ValueError(f"X[{position}] is {what}, X[0] a row of {len(rows[0])}; all need as many texts.")
    return zip(*rows, strict=True)
