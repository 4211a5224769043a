"""Accessors that leave room for a column of their own name. Imports pandas."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Hashable, Sequence
from typing import Any, overload

import pandas as pd
from pandas.api import types

from skembed.errors import level_of_user
from skembed.frames.vectors import VectorDtype

_ARROW_LIST = re.compile(r"(fixed_size_|large_)?list<\w+: (float|double|halffloat|u?int\d+)\b")


def join_names(columns: list[pd.Series]) -> str:
    """List the names of columns for a message."""
    return _enumerated([column.name for column in columns]) or "none"


def _enumerated(names: Sequence[Hashable]) -> str:
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")


def may_hold_text(dtype: Any) -> bool:
    """Tell from the type alone, so that looking for an accessor never reads the data."""
    if isinstance(dtype, pd.CategoricalDtype):
        return may_hold_text(dtype.categories.dtype)
    if isinstance(dtype, pd.ArrowDtype):  # of whose type pandas cannot always say more than the name
        return dtype.name.removeprefix("dictionary<values=").startswith(("string", "large_string"))
    return types.is_object_dtype(dtype) or types.is_string_dtype(dtype)


def _may_hold_vectors(dtype: Any) -> bool:
    is_list = isinstance(dtype, pd.ArrowDtype) and _ARROW_LIST.match(dtype.name) is not None
    return is_list or isinstance(dtype, VectorDtype)


class FallbackAccessor:
    """An accessor that yields to a column, a row or an attribute of its own name.

    One that is registered with pandas comes before them: ``df.text`` would no longer be the column ``text``, and
    ``df.text = ...`` would be lost. This one raises AttributeError wherever there is such a column or row label, or no
    text to work on; pandas then does what it does without skembed.
    """

    def __init__(self, name: str, accessor: type, method: str | None = None) -> None:
        self._name = name
        self._accessor = accessor
        self._method = method

    @overload
    def __get__(self, owner: None, kind: type) -> Any: ...

    @overload
    def __get__(self, owner: pd.DataFrame | pd.Series, kind: type) -> Any: ...

    def __get__(self, owner: pd.DataFrame | pd.Series | None, kind: type) -> Any:
        if owner is None:
            return self._accessor if self._method is None else _as_function(self._accessor, self._method)
        if self._name in owner.__dict__:  # a plain attribute that was set by hand
            return owner.__dict__[self._name]
        if self._is_taken(owner):
            raise AttributeError(self._name)  # pandas then looks for the column or row
        if not _has_text(owner, vectors_too=self._method is None):
            raise AttributeError(self._refusal(owner))
        accessor = self._accessor(owner)
        return accessor if self._method is None else getattr(accessor, self._method)

    def __set__(self, owner: pd.DataFrame | pd.Series, value: Any) -> None:
        would_hide = (
            self._name not in owner.__dict__
            and not self._is_taken(owner)
            and _has_text(owner, vectors_too=self._method is None)
        )
        if would_hide and isinstance(owner, pd.DataFrame) and types.is_list_like(value):
            warnings.warn(  # as pandas does where there is no accessor
                f"Pandas doesn't allow columns to be created via a new attribute name; write df[{self._name!r}] = ...",
                UserWarning,
                stacklevel=level_of_user(),
            )
        owner.__dict__[self._name] = value

    def __delete__(self, owner: pd.DataFrame | pd.Series) -> None:
        try:
            del owner.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def _is_taken(self, owner: pd.DataFrame | pd.Series) -> bool:
        """Tell whether the name is a label, or something that a subclass has under it."""
        labels = owner.columns if isinstance(owner, pd.DataFrame) else owner.index
        can_be_text = isinstance(labels, pd.MultiIndex) or may_hold_text(labels.dtype)  # no look-up among numbers
        if can_be_text and self._name in labels:
            return True
        return self._name in owner._metadata or type(owner).__getattr__ is not pd.Series.__getattr__

    def _refusal(self, owner: pd.DataFrame | pd.Series) -> str:
        if isinstance(owner, pd.DataFrame):
            names = _enumerated(owner.columns[:11].tolist())
            reason = f"none of its columns holds text ({names})" if names else "it has no columns"
        else:
            reason = f"its values are {owner.dtype.name}, not text"
        return f"{type(owner).__name__!r} object has no attribute {self._name!r}: {reason}."


def _has_text(owner: pd.DataFrame | pd.Series, *, vectors_too: bool) -> bool:
    if isinstance(owner, pd.Series):
        return may_hold_text(owner.dtype) or (vectors_too and _may_hold_vectors(owner.dtype))
    different = {id(dtype): dtype for dtype in owner.dtypes}  # few, however many columns
    return any(map(may_hold_text, different.values()))


def _as_function(accessor: type, method: str) -> Any:
    """Make a function of a series, as other methods of pandas are when they are taken from the class."""

    @functools.wraps(getattr(accessor, method))
    def function(column: pd.Series, **params: Any) -> Any:
        return getattr(accessor(column), method)(**params)

    return function
