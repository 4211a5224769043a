"""Accessors that leave room for a column of their own name: ``FallbackAccessor``.

Imports pandas, the vector column, which columns hold text, and whom a warning is for.
"""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd
from pandas.api import types

from skembed.errors import warn_user
from skembed.frames.text_columns import join_names, may_hold_text
from skembed.frames.vectors import VectorDtype


class FallbackAccessor:
    """An accessor that yields to a column, a row or an attribute of its own name.

    An accessor that is registered with pandas comes before them: ``df.text`` would no longer be the column ``text``,
    and ``df.text = ...`` would be lost. This one raises AttributeError if there is such a column or row label, or no
    text to work on; pandas then does what it does without skembed.

    Parameters
    ----------
    name : str
        The attribute, e.g. "text".
    accessor : type
        Made from the frame or series when the attribute is read.
    method : str, default=None
        A method of the accessor that the attribute is instead.
    """

    def __init__(self, name: str, accessor: type, method: str | None = None) -> None:
        self.name = name
        self._accessor = accessor
        self._method = method

    def register(self, owner: type[pd.DataFrame | pd.Series]) -> None:
        """Add the accessor to a class of pandas; an attribute that somebody else has added stays, with a warning."""
        standing = owner.__dict__.get(self.name)
        if standing is None or isinstance(standing, FallbackAccessor):
            setattr(owner, self.name, self)
        else:
            warn_user(
                f"pandas.{owner.__name__}.{self.name} is {standing!r} already; skembed leaves it as it is. "
                "skembed.embed(series) does the same.",
            )

    def __get__(self, owner: pd.DataFrame | pd.Series | None, kind: type) -> Any:
        if owner is None:
            return self._accessor if self._method is None else _as_function(self._accessor, self._method)
        if self.name in owner.__dict__:  # a plain attribute that was set by hand
            return owner.__dict__[self.name]
        if self._is_taken(owner):
            raise AttributeError(self.name)  # pandas then looks for the column or row
        if not self._has_text(owner):
            raise AttributeError(self._why_not(owner))
        accessor = self._accessor(owner)
        return accessor if self._method is None else getattr(accessor, self._method)

    def __set__(self, owner: pd.DataFrame | pd.Series, value: Any) -> None:
        would_hide = self.name not in owner.__dict__ and not self._is_taken(owner) and self._has_text(owner)
        if would_hide and isinstance(owner, pd.DataFrame) and types.is_list_like(value):
            warn_user(  # as pandas does where there is no accessor
                f"Pandas doesn't allow columns to be created via a new attribute name; write df[{self.name!r}] = ...",
            )
        owner.__dict__[self.name] = value

    def __delete__(self, owner: pd.DataFrame | pd.Series) -> None:
        try:
            del owner.__dict__[self.name]
        except KeyError:
            raise AttributeError(self.name) from None

    def _is_taken(self, owner: pd.DataFrame | pd.Series) -> bool:
        """Return whether the name is a label, or an attribute that a subclass provides."""
        labels = owner.columns if isinstance(owner, pd.DataFrame) else owner.index
        can_be_text = isinstance(labels, pd.MultiIndex) or may_hold_text(labels.dtype)  # no look-up among numbers
        if can_be_text and self.name in labels:
            return True
        is_plain = type(owner).__getattr__ in (pd.DataFrame.__getattr__, pd.Series.__getattr__)
        return self.name in owner._metadata or not is_plain

    def _has_text(self, owner: pd.DataFrame | pd.Series) -> bool:
        if isinstance(owner, pd.Series):  # only embedding needs text; the other verbs work on vectors, too
            return may_hold_text(owner.dtype) or (self._method is None and _may_hold_vectors(owner.dtype))
        different = {id(dtype): dtype for dtype in owner.dtypes}  # few, however many columns
        return any(map(may_hold_text, different.values()))

    def _why_not(self, owner: pd.DataFrame | pd.Series) -> str:
        if isinstance(owner, pd.DataFrame):
            names = join_names(owner.columns[:11].tolist())
            reason = f"none of its columns holds text ({names})" if names else "it has no columns"
        else:
            reason = f"its values are {owner.dtype.name}, not text"
        return f"{type(owner).__name__!r} object has no attribute {self.name!r}: {reason}."


def _may_hold_vectors(dtype: Any) -> bool:
    """Return whether a column of this type may hold vectors; the data is not read."""
    if not isinstance(dtype, pd.ArrowDtype):
        return isinstance(dtype, VectorDtype)
    from pyarrow.types import is_fixed_size_list, is_floating, is_integer, is_large_list, is_list

    arrow = dtype.pyarrow_dtype
    holds_lists = is_list(arrow) or is_large_list(arrow) or is_fixed_size_list(arrow)
    return bool(holds_lists and (is_floating(arrow.value_type) or is_integer(arrow.value_type)))


def _as_function(accessor: type, method: str) -> Any:
    """Return the method as a function of a series, as pandas' own methods are when taken from the class."""

    @functools.wraps(getattr(accessor, method))
    def function(column: pd.Series, **params: Any) -> Any:
        return getattr(accessor(column), method)(**params)

    return function
