"""Reading labels, which an estimator learns: one a row, or several. Imports containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import column_or_1d

from skembed.encoding.containers import name_row

_KINDS: dict[str, tuple[type, ...]] = {  # in this order, because a bool is an int
    "texts": (str,),
    "bools": (bool, np.bool_),
    "integers": (int, np.integer),
    "floats": (float, np.floating),
}
_KIND_OF_DTYPE = {"U": "texts", "O": "texts", "b": "bools", "i": "integers", "u": "integers", "f": "floats"}
_ALLOWED = "labels must be all texts, all integers or all bools"


def read_labels(y: Any, name: str) -> NDArray[Any]:
    """Read labels or numbers into a new array, without changing their types.

    ``np.asarray`` would turn mixed values into strings, and scikit-learn would turn nullable integers into floats.

    Parameters
    ----------
    y : list, tuple, ndarray, Series or Index
    name : str
        Name of the labels in messages.

    Returns
    -------
    ndarray, shape (n_rows,)

    Raises
    ------
    ValueError
        If a label is missing; the message names its position.

    Examples
    --------
    >>> read_labels(pd.array([1, 0], dtype="Int64").tolist(), "y")
    array([1, 0])
    """
    rows = _to_objects(y) if isinstance(y, (list, tuple, pd.Series, pd.Index)) else y
    labels: NDArray[Any] = np.array(column_or_1d(rows))
    if labels.dtype == object:
        labels = pd.Series(labels).infer_objects().to_numpy()
    is_missing = pd.isna(labels)
    if is_missing.any():
        raise ValueError(f"{place(name, y, int(is_missing.argmax()))} is missing.")
    return labels


@dataclass(frozen=True)
class LabelSets:
    """Several labels a row, or none.

    Attributes
    ----------
    classes : ndarray, shape (n_classes,)
        The distinct labels: the columns of an indicator in their order, else sorted.
    indicator : ndarray of int64, shape (n_rows, n_classes)
        1 where a row has a label. Not of a smaller type: scikit-learn numbers the columns of an int8 matrix in int8,
        and confuses those beyond 127.
    origin : {"lists", "frame", "array"}
        What they were read from. The classes of an array are the numbers of its columns.
    """

    classes: NDArray[Any]
    indicator: NDArray[np.int64]
    origin: str


def has_several_labels(y: Any) -> bool:
    """Return whether y has several labels a row: rows that are lists or sets, or a matrix of several columns.

    Examples
    --------
    >>> has_several_labels(["a", "b"]), has_several_labels([["a"], ["a", "b"]]), has_several_labels(np.eye(2))
    (False, True, True)
    """
    if issparse(y) or len(getattr(y, "shape", ())) == 2:
        return bool(y.shape[1] != 1)
    if isinstance(y, np.ndarray) and y.dtype != object:
        return False
    return any(map(pd.api.types.is_list_like, _rows(y)))


def read_label_sets(y: Any, name: str, *, allow_empty: bool = False) -> LabelSets:
    """Read several labels a row.

    Parameters
    ----------
    y : list, Series or object array of lists, tuples or sets; or frame, array or sparse matrix of 0 and 1
        A matrix is an indicator, with one column for each label. The columns of a frame are the labels; those of an
        array are numbered.
    name : str
        Name of the labels in messages.
    allow_empty : bool, default=False
        Whether a list may be empty. A row of an indicator may always be all 0.

    Returns
    -------
    LabelSets

    Raises
    ------
    TypeError, ValueError
        If a row is no list of labels, or an empty one, labels are of mixed types, or an indicator has other values
        than 0 and 1; the message names the position.

    Examples
    --------
    >>> sets = read_label_sets([["a"], {"b", "a"}], "y")
    >>> sets.classes.tolist(), sets.indicator.tolist()
    (['a', 'b'], [[1, 0], [1, 1]])
    """
    is_matrix = issparse(y) or len(getattr(y, "shape", ())) == 2
    return _read_indicator(y, name) if is_matrix else _read_lists(y, name, allow_empty)


def kind_of(labels: NDArray[Any]) -> str:
    """Return what labels are, of those that ``check_one_kind`` accepts: "texts", "integers", "bools" or "floats"."""
    return _KIND_OF_DTYPE[labels.dtype.kind]


def check_one_kind(labels: NDArray[Any], where: Callable[[int], str]) -> None:
    """Raise TypeError unless all labels are texts, all integers, all bools or all floats.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        From ``read_labels``.
    where : callable
        Describes the label at a position in a message.
    """
    if labels.dtype != object:
        if labels.dtype.kind not in _KIND_OF_DTYPE:
            raise TypeError(f"{where(0)} is {labels.dtype.name}; {_ALLOWED}.")
        return
    first = None
    for position, label in enumerate(labels.tolist()):
        kind = next((kind for kind, types in _KINDS.items() if isinstance(label, types)), None)
        first = first or kind
        if kind is None or kind != first:
            beside = f" and {where(0)} is {type(labels[0]).__name__}" if position else ""
            raise TypeError(f"{where(position)} is {type(label).__name__}{beside}; {_ALLOWED}.")


def place(name: str, X: Any, row: int) -> str:
    """Describe a row of any container in a message: its position, and its index label if there is one."""
    return name_row(name, X.index if isinstance(X, (pd.Series, pd.DataFrame)) else None, row)


def _to_objects(rows: Any) -> NDArray[Any]:
    return np.array([*rows, None], dtype=object)[:-1]  # None: rows of equal length would become a matrix


def _rows(y: Any) -> list[Any]:
    """Return the rows of a column; those of arrays of objects as they are."""
    for method in ("to_list", "to_pylist", "tolist"):  # pandas and polars, pyarrow, numpy
        if hasattr(y, method):
            rows: list[Any] = getattr(y, method)()
            return rows
    return list(y) if isinstance(y, (list, tuple)) else []


def _read_lists(y: Any, name: str, allow_empty: bool) -> LabelSets:
    rows = _rows(y)
    for position, row in enumerate(rows):
        if not pd.api.types.is_list_like(row) or isinstance(row, Mapping):
            what = "missing" if row is None or row is pd.NA or row != row else type(row).__name__
            raise TypeError(
                f"{place(name, y, position)} is {what}; where rows have several labels, each needs a list of them."
            )
    rows = [list(row) for row in rows]
    is_empty = [not row for row in rows]
    if any(is_empty) and not allow_empty:
        raise ValueError(
            f"{place(name, y, is_empty.index(True))} has no labels. If they are not known, drop the row; if none "
            "applies, pass an indicator, in which a row may be all 0: MultiLabelBinarizer().fit_transform(y)."
        )
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    labels = _to_objects([label for row in rows for label in row])
    if (is_missing := pd.isna(labels)).any():
        raise ValueError(f"{place(name, y, int(owners[is_missing.argmax()]))} holds a missing label; leave it out.")
    labels = pd.Series(labels).infer_objects().to_numpy()
    check_one_kind(labels, lambda position: f"A label in {place(name, y, int(owners[position]))}")
    classes, codes = np.unique(labels, return_inverse=True)
    indicator = np.zeros((len(rows), len(classes)), dtype=np.int64)
    indicator[owners, codes] = 1
    if kind_of(classes) != "texts" and set(classes.tolist()) <= {0, 1} and indicator.sum() < len(labels):
        raise ValueError(
            f"{name} is a list of lists in which labels repeat, like the rows of an indicator. Pass an indicator as an "
            f"array, np.array({name}), and labels as lists without repetition; MultiLabelBinarizer turns them into one."
        )
    return LabelSets(classes, indicator, "lists")


def _read_indicator(y: Any, name: str) -> LabelSets:
    columns = getattr(y, "columns", None)  # of a frame of pandas or polars
    labels = np.arange(y.shape[1]) if columns is None else read_labels(list(columns), f"{name}.columns")
    check_one_kind(labels, lambda position: f"{name}.columns[{position}]")
    repeated = pd.Index(labels).duplicated()
    if repeated.any():
        raise ValueError(f"{name} has several columns {labels[repeated][:1].tolist()[0]!r}; each label needs one.")
    try:
        values = _to_numbers(y)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} has {y.shape[1]} columns, and not all are numbers. A matrix is an indicator of 0 and 1. Pass one "
            "label a row, a list of labels a row, or MultiLabelBinarizer().fit_transform of these lists."
        ) from None
    is_bad = (values != 0) & (values != 1)
    if is_bad.any():
        row, column = np.argwhere(is_bad)[0].tolist()
        label = labels.tolist()[column]
        raise ValueError(
            f"{place(name, y, row)} has {values[row, column]:g} in column {label!r}; an indicator has 1 for "
            "the labels of a row and 0 for the others, as MultiLabelBinarizer makes it."
        )
    return LabelSets(labels, values.astype(np.int64), "array" if columns is None else "frame")


def _to_numbers(y: Any) -> NDArray[np.float64]:
    if issparse(y):
        y = y.toarray()
    if isinstance(y, pd.DataFrame):
        numbers: NDArray[np.float64] = y.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers
    return np.asarray(y, dtype=np.float64)
