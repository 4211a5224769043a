"""Reading vectors: any container of vectors to one float32 matrix.

Imports numpy and pandas; pyarrow only to read its arrays. skembed's own vector columns, which are defined on a floor
above, are recognized by the name of their dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from skembed.encoding.texts import is_missing

if TYPE_CHECKING:
    import pyarrow

MODEL_KEY = "skembed.model"  # in the metadata of the field of an Arrow list's numbers


def read_vectors(
    vectors: Any, dim: int | None = None, *, where: Callable[[int], str] = "vectors[{}]".format
) -> NDArray[np.float32]:
    """Read a column of vectors from any container.

    Parameters
    ----------
    vectors : array, frame, or sequence of vectors, shape (n_rows, dim)
        A matrix, a frame of numeric columns, a vector column, a column or list of arrays or lists, a pyarrow array of
        lists, or a column of an Arrow list type. Single vectors may be missing.
    dim : int, default=None
        Required number of dimensions; None: any, the same for all vectors.
    where : callable, default="vectors[{}]".format
        Describes a row in messages, given its position.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)
        Missing vectors are rows of NaN. Shares memory with a float32 matrix.

    Raises
    ------
    TypeError
        If an element is not a vector of numbers; the message names its position.
    ValueError
        If vectors differ in their number of dimensions, or have another one than ``dim``, or if there is no vector.

    Examples
    --------
    >>> read_vectors([[1, 2], None])
    array([[ 1.,  2.],
           [nan, nan]], dtype=float32)
    """
    if isinstance(vectors, pd.DataFrame):
        vectors = _read_frame(vectors)
    vectors = _unwrap(vectors)
    matrix: NDArray[np.float32]
    if _is_vector_column(vectors):
        matrix = vectors.to_numpy(np.float32)
    elif isinstance(vectors, np.ndarray) and vectors.ndim != 1:
        matrix = _read_matrix(vectors)
    elif type(vectors).__module__.startswith("pyarrow") and not _has_several_dimensions(vectors):
        matrix = _read_arrow(vectors, dim, where)
    elif _has_several_dimensions(vectors):
        raise TypeError(
            f"{type(vectors).__qualname__} is not a column of vectors; give one column of it, or its matrix."
        )
    elif not pd.api.types.is_list_like(vectors):
        raise TypeError(f"{vectors!r} is not a column of vectors.")
    else:
        matrix = _read_rows(list(vectors), dim, where)
    if dim is not None and matrix.shape[1] != dim:
        raise ValueError(f"The vectors have {matrix.shape[1]} dimensions, not {dim}.")
    return matrix


def holds_vectors(values: Any) -> bool:
    """Return whether a column holds vectors rather than texts, by its type or its first value that is not missing.

    Parameters
    ----------
    values : any container that ``read_vectors`` or ``read_texts`` takes

    Returns
    -------
    bool

    Examples
    --------
    >>> holds_vectors(["a text", None]), holds_vectors([None, [0.6, 0.8]]), holds_vectors(np.eye(2))
    (False, True, True)
    """
    if isinstance(values, pd.DataFrame):
        return all(map(_is_real, values.dtypes)) or (values.shape[1] == 1 and holds_vectors(values.iloc[:, 0]))
    values = _unwrap(values)
    if _has_several_dimensions(values):
        return isinstance(values, np.ndarray) and values.dtype.kind in "fiu"
    if _is_vector_column(values) or hasattr(_arrow_type(values), "list_size"):
        return True
    if not pd.api.types.is_list_like(values) or isinstance(values, Iterator):
        return False
    plain = (value.as_py() if hasattr(value, "as_py") else value for value in values)
    first = next((value for value in plain if not is_missing(value)), None)
    return pd.api.types.is_list_like(first)


def is_one_vector(value: Any, dim: int | None = None) -> bool:
    """Return whether a value is one vector, of ``dim`` numbers, rather than a sequence of vectors or anything else."""
    if isinstance(value, np.ndarray):
        is_vector = value.ndim == 1 and value.dtype.kind in "fiu"
    else:
        could_be = isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (int, float))
        is_vector = could_be and all(isinstance(number, (int, float)) for number in value)
    return is_vector and dim in (None, len(value))


def model_of(values: Any) -> str | None:
    """Return the model that made a column of vectors, if the column records it.

    Parameters
    ----------
    values : any container that ``read_vectors`` takes

    Returns
    -------
    str or None
        Name and fingerprint; None if it is unknown, or parts of the column are of different models.

    Examples
    --------
    >>> model_of(np.eye(2)) is None
    True
    """
    if isinstance(values, pd.DataFrame) and values.shape[1] == 1:
        values = values.iloc[:, 0]
    values = _unwrap(values)
    if _is_vector_column(values):
        model: str | None = values.model
        return model
    chunks = [chunk for chunk in getattr(values, "chunks", ()) if len(chunk) > chunk.null_count]
    models = {_recorded_model(chunk) for chunk in chunks or [values]}  # chunks may come from several files
    return models.pop() if len(models) == 1 else None


def _unwrap(values: Any) -> Any:
    """Return the array of a column of pandas, and if it is pyarrow's, that of pyarrow; other values as they are."""
    values = values.array if isinstance(values, (pd.Series, pd.Index)) else values
    return values.__arrow_array__() if isinstance(values, pd.arrays.ArrowExtensionArray) else values


def _recorded_model(arrow: Any) -> str | None:
    metadata = getattr(getattr(_arrow_type(arrow), "value_field", None), "metadata", None) or {}
    return metadata[MODEL_KEY.encode()].decode() if MODEL_KEY.encode() in metadata else None


def _arrow_type(arrow: Any) -> Any:
    """Return the type of an Arrow array, for an extension array that of its storage; None for other values."""
    kind = getattr(arrow, "type", None)
    return getattr(kind, "storage_type", kind)


def _has_several_dimensions(values: Any) -> bool:
    """Return whether values are a matrix or a frame, including those of polars and pyarrow, rather than a column."""
    return len(getattr(values, "shape", ())) > 1


def _is_vector_column(values: Any) -> bool:
    return isinstance(values, ExtensionArray) and str(values.dtype.name).startswith("vector[")


def _read_frame(frame: pd.DataFrame) -> Any:
    """Return the one column of a frame, or its numeric columns as a matrix."""
    others = [column for column, dtype in frame.dtypes.items() if not _is_real(dtype)]
    if frame.shape[1] == len(others) == 1:
        return frame.iloc[:, 0]
    if others:
        raise TypeError(
            f"Column {others[0]!r} does not hold real numbers; choose the columns that make up the vectors."
        )
    return frame.to_numpy(dtype=np.float32, na_value=np.nan)


def _is_real(dtype: Any) -> bool:
    types = pd.api.types
    return types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype) and not types.is_bool_dtype(dtype)


def _read_matrix(matrix: NDArray[Any]) -> NDArray[np.float32]:
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"A matrix of vectors has the shape (n_rows, dim); got {matrix.shape}.")
    if matrix.dtype.kind not in "fiu":
        raise TypeError(f"A matrix of vectors holds real numbers; got {matrix.dtype}.")
    if isinstance(matrix, np.ma.MaskedArray):
        return np.ma.filled(matrix.astype(np.float32), np.nan)
    return np.asarray(matrix, dtype=np.float32)


def _read_arrow(
    array: pyarrow.Array | pyarrow.ChunkedArray, dim: int | None, where: Callable[[int], str]
) -> NDArray[np.float32]:
    """Read an Arrow array of lists of numbers; without a copy if they are float32 and none is missing."""
    import pyarrow

    if not isinstance(array, (pyarrow.Array, pyarrow.ChunkedArray)):
        raise TypeError(f"Vectors are read from one column of pyarrow, not from {type(array).__qualname__}.")
    if isinstance(array, pyarrow.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    number = getattr(array.type, "value_type", None)
    if number is None or not (pyarrow.types.is_floating(number) or pyarrow.types.is_integer(number)):
        raise TypeError(f"A column of vectors holds lists of numbers; got {array.type}.")
    is_present = array.is_valid().to_numpy(zero_copy_only=False)
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    is_fixed = pyarrow.types.is_fixed_size_list(array.type)
    dim = array.type.list_size if is_fixed and dim is None else dim
    dim = _common_dim(np.where(is_present, lengths, -1), dim, where)
    if not is_present.any():
        return np.full((len(array), dim), np.nan, dtype=np.float32)
    if is_fixed:  # flatten() would leave missing rows out, .values the offset
        numbers = array.values.slice(array.offset * dim, len(array) * dim)
    else:
        numbers = array.filter(pyarrow.array(is_present)).flatten()
    matrix: NDArray[np.float32] = numbers.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, dim)
    if len(matrix) < len(array):
        return _fill_missing(matrix, is_present)
    return matrix if is_present.all() else np.where(is_present[:, None], matrix, np.float32(np.nan))


def _read_rows(rows: list[Any], dim: int | None, where: Callable[[int], str]) -> NDArray[np.float32]:
    """Read a list whose elements are vectors or missing."""
    is_present = np.array([not is_missing(row) for row in rows], dtype=bool)
    vectors = [np.asarray(row) for row in rows if not is_missing(row)]
    for row, vector in zip(np.flatnonzero(is_present).tolist(), vectors, strict=True):
        if vector.ndim != 1 or vector.dtype.kind not in "fiu":
            what = f"an array of {vector.dtype}, shape {vector.shape}" if vector.ndim else type(rows[row]).__name__
            raise TypeError(f"{where(row)} is {what}, not a vector of numbers.")
    lengths = np.full(len(rows), -1)
    lengths[is_present] = [len(vector) for vector in vectors]
    dim = _common_dim(lengths, dim, where)
    numbers = np.array(vectors, dtype=np.float32).reshape(-1, dim)
    return numbers if is_present.all() else _fill_missing(numbers, is_present)


def _common_dim(lengths: NDArray[Any], dim: int | None, where: Callable[[int], str]) -> int:
    """Return the number of dimensions that all vectors have; -1 stands for a missing one."""
    dim = int(lengths.max(initial=-1)) if dim is None else dim
    if dim < 1:
        raise ValueError(
            "The number of dimensions is unknown, because there is no vector; pass e.g. dtype='vector[float32, 384]'."
        )
    odd = np.flatnonzero((lengths != -1) & (lengths != dim))
    if len(odd):
        raise ValueError(f"{where(int(odd[0]))} has {lengths[odd[0]]} dimensions, not {dim}.")
    return dim


def _fill_missing(numbers: NDArray[np.float32], is_present: NDArray[np.bool_]) -> NDArray[np.float32]:
    matrix = np.full((len(is_present), numbers.shape[1]), np.nan, dtype=np.float32)
    matrix[is_present] = numbers
    return matrix
