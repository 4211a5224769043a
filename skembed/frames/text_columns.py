"""Which columns of a frame hold text. Imports pandas and nothing of the package; pyarrow where a type is of Arrow."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
from pandas.api import types

_MOST_NAMES = 10  # in a message


def may_hold_text(dtype: Any) -> bool:
    """Return whether a column of this type may hold text; the data is not read."""
    if isinstance(dtype, pd.CategoricalDtype):
        return may_hold_text(dtype.categories.dtype)
    if isinstance(dtype, pd.ArrowDtype):
        from pyarrow.types import is_dictionary

        arrow = dtype.pyarrow_dtype
        arrow = arrow.value_type if is_dictionary(arrow) else arrow
        return str(arrow) in ("string", "large_string", "string_view")  # older versions have no is_string_view
    return types.is_object_dtype(dtype) or types.is_string_dtype(dtype)


def only_text_column(frame: pd.DataFrame) -> pd.Series:
    """Return the one column with text.

    Raises
    ------
    ValueError
        If no column, or more than one, holds text.
    """
    columns = _text_columns(frame)
    if not columns:  # an accessor may outlive the column that it was made for
        raise ValueError("No column holds text.")
    if len(columns) > 1:
        names = join_names([column.name for column in columns])
        raise ValueError(f"Several columns hold text: {names}. Say which, e.g. on={columns[0].name!r}.")
    return columns[0]


def named_column(frame: pd.DataFrame, name: Hashable) -> pd.Series:
    """Return a column of text by its label.

    Raises
    ------
    KeyError
        If there is no such column.
    TypeError, ValueError
        If it does not hold text, or the label does not name exactly one column.
    """
    try:
        found = frame[name] if types.is_hashable(name) and not callable(name) else None
    except KeyError as error:
        raise KeyError(f"There is no column {name!r}; {_columns_with_text(frame)}.") from error
    if not isinstance(found, pd.Series):
        what = "is not a column label" if found is None else f"names {found.shape[1]} columns"
        raise ValueError(f"{name!r} {what}; embed one column, chosen by label or with df.iloc[:, position].embed().")
    if not may_hold_text(found.dtype):
        raise TypeError(f"Column {name!r} is {found.dtype.name}, not text; {_columns_with_text(frame)}.")
    return found


def join_names(names: Sequence[Hashable]) -> str:
    """Join names for a message, the first ten of them."""
    return ", ".join(map(repr, names[:_MOST_NAMES])) + (", ..." if len(names) > _MOST_NAMES else "")


def _columns_with_text(frame: pd.DataFrame) -> str:
    return f"columns with text: {join_names([column.name for column in _text_columns(frame)]) or 'none'}"


def _text_columns(frame: pd.DataFrame) -> list[pd.Series]:
    """List the columns with text; if there are none, the categories that are text; else the other objects."""
    columns = [frame.iloc[:, position] for position, dtype in enumerate(frame.dtypes) if may_hold_text(dtype)]
    contents = [_content(column) for column in columns]
    wanted = next((content for content in ("text", "categories") if content in contents), "other")
    return [column for column, content in zip(columns, contents, strict=True) if content == wanted]


def _content(column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categories"
    if column.dtype != object:
        return "text"
    inferred = types.infer_dtype(column, skipna=True)
    is_text = inferred == "string" or (inferred.startswith("mixed") and any(isinstance(value, str) for value in column))
    return "text" if is_text else "other"
