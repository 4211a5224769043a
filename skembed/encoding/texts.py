"""Reading texts: any container of text to its distinct texts, and an array of codes that leads back to the rows.

Imports numpy and pandas; polars and pyarrow objects are recognized without importing either.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING = -1  # the code of a row without a text
MISSING_POLICIES = ("error", "empty", "zero", "nan")

_LONE_SURROGATE = re.compile(r"[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")

# Libraries whose rows are elsewhere or not computed yet, and what to do instead.
_ENGINES = {
    "dask": "which is computed in partitions; use ddf[column].text.embed() of skembed.frames.dask, or X.compute() if "
    "it fits into memory.",
    "ray": "which is computed in blocks; use skembed.frames.ray.embed(ds, column), or ds.to_pandas()[column] if it "
    "fits into memory.",
    "pyspark": "which is computed elsewhere; use df.mapInArrow with a skembed.BatchEmbedder, or toPandas() if it fits "
    "into memory.",
}


@dataclass(frozen=True)
class Texts:
    """A column of text, each distinct text once.

    Attributes
    ----------
    unique : list of str
        The distinct texts, in order of first appearance.
    codes : ndarray of int, shape (n_rows,)
        ``unique[codes[row]]`` is the text of ``row``; -1 where the text is missing.
    labels : pandas.Index or None
        The index labels of the rows, where the container had an index.
    name : str, default="X"
        Name of the column in messages.
    where_is : callable, default=None
        Describes a row by its position, for columns whose positions mean nothing to the user.
    about : str, default=""
        End of each message, e.g. " X is column 'title'."
    """

    unique: list[str]
    codes: NDArray[np.intp]
    labels: pd.Index | None = None
    name: str = "X"
    where_is: Callable[[int], str] | None = None
    about: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    def first_row(self, codes: NDArray[np.intp]) -> int:
        """Return the first row that has one of the codes."""
        return int(np.argmax(np.isin(self.codes, codes)))

    def where(self, row: int) -> str:
        """Describe a row in a message: its position, and its index label if there is one."""
        if self.where_is is not None:
            return self.where_is(row)
        return name_row(self.name, self.labels, row)

    def filled(self) -> Texts:
        """Return the column with missing texts replaced by the empty text."""
        is_missing = self.codes == MISSING
        if not is_missing.any():
            return self
        unique = self.unique if "" in self.unique else [*self.unique, ""]
        return replace(self, unique=unique, codes=np.where(is_missing, unique.index(""), self.codes))


def read_texts(
    X: Any, *, missing: str = "error", name: str = "X", where_is: Callable[[int], str] | None = None
) -> Texts:
    """Read a column of text from any container.

    Parameters
    ----------
    X : list, tuple, ndarray, Series, Index, one-column frame, polars Series, pyarrow array
        One text a row. Rows may be missing (None, NaN, ``pd.NA``, ``NaT``, null).
    missing : {"error", "empty", "zero", "nan"}, default="error"
        "error": raise for a missing row. "empty": read it as ``""``. "zero", "nan": give it the code -1.
    name : str, default="X"
        Name of the column in messages.
    where_is : callable, default=None
        Describes a row by its position, instead of ``name`` and index label.

    Returns
    -------
    Texts

    Raises
    ------
    TypeError
        If X is not a column of text, or an element is neither a string nor missing.
    ValueError
        If X has several columns, if a row is missing and ``missing="error"``, or if a text holds surrogates.

    Examples
    --------
    >>> texts = read_texts(["b", "a", "b"])
    >>> texts.unique, texts.codes.tolist()
    (['b', 'a'], [0, 1, 0])
    """
    rows, labels = _rows_and_labels(X)
    unique, codes, problem = _read_all_at_once(rows, missing) or _read_one_by_one(rows, missing)
    texts = Texts(unique, codes, labels, name, where_is, about_column(X) if name == "X" else "")
    _check_surrogates(texts)  # first, because the problem below is of a later row
    if problem is not None:
        error, reason = problem
        raise error(f"{texts.where(len(texts))} {reason}{texts.about}")
    return texts


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


def _transposed(rows: Sequence[Any]) -> Iterable[Any]:
    for position, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or len(row) != len(rows[0]):
            what = f"a row of {len(row)} texts" if isinstance(row, (list, tuple)) else f"a {type(row).__name__}"
            raise ValueError(f"X[{position}] is {what}, X[0] a row of {len(rows[0])}; all need as many texts.")
    return zip(*rows, strict=True)


def _read_all_at_once(rows: Iterable[Any], missing: str) -> tuple[list[str], NDArray[np.intp], None] | None:
    """Read rows that need no conversion and hold no problem; return None if they may."""
    if isinstance(rows, pd.Categorical):
        codes, used_categories = rows.factorize()
        texts = used_categories.tolist()
        needs_text = missing in ("error", "empty") and (codes == MISSING).any()
        return None if needs_text or not set(map(type, texts)) <= {str} else (texts, codes, None)
    if isinstance(rows, (list, tuple)) and set(map(type, rows)) <= {str}:
        code_of = {text: code for code, text in enumerate(dict.fromkeys(rows))}
        codes = np.fromiter(map(code_of.__getitem__, rows), dtype=np.intp, count=len(rows))
        return list(code_of), codes, None
    return None


def _read_one_by_one(
    rows: Iterable[Any], missing: str
) -> tuple[list[str], NDArray[np.intp], tuple[type[Exception], str] | None]:
    """Read rows of any kind, up to the first that has a problem; also return the problem."""
    code_of: dict[str, int] = {}
    codes: list[int] = []
    problem = None
    for value in rows:
        if isinstance(value, str):  # also numpy.str_ and other subclasses; str(value) may be overridden
            codes.append(code_of.setdefault(str.__str__(value), len(code_of)))
        elif (problem := _problem_of(value, missing)) is not None:
            break
        elif missing == "empty":
            codes.append(code_of.setdefault("", len(code_of)))
        else:
            codes.append(MISSING)
    return list(code_of), np.array(codes, dtype=np.intp), problem


def _problem_of(value: Any, missing: str) -> tuple[type[Exception], str] | None:
    """Return the error for an element that is not a string; None if it is missing, and missing rows are allowed."""
    if _is_vector(value):
        return TypeError, f"is a vector of {len(value)} numbers, not str. {_ABOUT_VECTORS}"
    if not is_missing(value):
        return TypeError, f"is {type(value).__name__}, not str. {_suggestion_for(value)}"
    if missing == "error":
        return ValueError, f"is missing ({value!r}). Fill or drop it, or pass missing='empty', 'zero' or 'nan'."
    return None


def _rows_and_labels(X: Any) -> tuple[Iterable[Any], pd.Index | None]:
    """Return the rows of a container and, for pandas, their index labels."""
    if isinstance(X, str):
        raise TypeError("X is a single str; pass a list, e.g. [text].")
    if isinstance(X, (list, tuple)):
        return X, None
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
            raise ValueError(f"X is a matrix of numbers, shape {X.shape}, not a column of text. {_ABOUT_VECTORS}")
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


_ABOUT_VECTORS = (
    "Vectors are not embedded again. Give them, as a matrix, to the step that comes after the model; the matrix of a "
    "vector column is column.to_numpy('float32')."
)


def _require_one_column(n_columns: int, names: list[Any] | None = None) -> None:
    if n_columns != 1:
        named = f" ({', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''})" if names else ""
        raise ValueError(
            f"X has {n_columns} columns{named}; pass one column of text, or one transformer "
            "for each text column in a ColumnTransformer."
        )


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NA, NaT or null."""
    if isinstance(value, Decimal):  # comparing a signalling NaN raises, in pandas too
        return value.is_nan()
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_vector(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "fiu"
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(number, Real) for number in value)


def _suggestion_for(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        try:
            value.decode()
        except UnicodeDecodeError:
            return "It is not UTF-8: decode it first with the encoding that it has, e.g. with .decode('latin-1')."
        return "Decode it first, e.g. with .decode('utf-8')."
    if isinstance(value, (list, tuple)):
        return "Each row is one text: join its parts, or embed each part in a row of its own."
    return "Convert it with str() if it is meant as text, or drop it."


def _check_surrogates(texts: Texts) -> None:
    """Raise ValueError for the first text with surrogates: halves of characters, which tokenizers cannot read."""
    is_ascii = np.fromiter(map(str.isascii, texts.unique), dtype=bool, count=len(texts.unique))
    for code in np.flatnonzero(~is_ascii).tolist():
        try:
            texts.unique[code].encode()
        except UnicodeEncodeError as error:
            row = texts.first_row(np.array([code]))
            raise ValueError(f"{texts.where(row)} {about_surrogates(texts.unique[code])}{texts.about}") from error


def about_surrogates(text: str) -> str:
    """Return what is wrong with a text that holds surrogates, and how to repair it.

    Two in a row are the halves of one character; a lone one cannot be restored.
    """
    lone = _LONE_SURROGATE.search(text)
    repair = "text.encode('utf-16', 'surrogatepass').decode('utf-16'"
    if lone is not None:
        return f"has a lone surrogate at character {lone.start()}, which is not text. Replace it: {repair}, 'replace')."
    at = next(position for position, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return (
        f"has a pair of surrogates at character {at}: one character, such as an emoji, that was read as two halves, as "
        f"from JSON or UTF-16. Put them together: {repair})."
    )
