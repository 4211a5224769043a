"""Checks of single parameters, and the errors that name the allowed values. Imports nothing of the package."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Real
from typing import Any

import numpy as np


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise ValueError unless value is one of the choices."""
    if not any(is_same(value, choice) for choice in choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}; got {value!r}.")


def is_same(value: Any, choice: Any) -> bool:
    """Return whether a value is a choice in type and value: 1 is not True, but numpy's str and bool are accepted."""
    if isinstance(choice, bool):
        return isinstance(value, (bool, np.bool_)) and bool(value) == choice
    return value is choice or (isinstance(value, str) and isinstance(choice, str) and value == choice)


def check_integer(name: str, value: Any) -> int:
    """Return value as int; raise TypeError unless it is an integer. Bools are rejected."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}.") from None


def check_positive(name: str, value: Any) -> None:
    """Check a setting of the engine: raise TypeError unless it is an integer, ValueError unless it is at least 1."""
    if check_integer(name, value) < 1:
        raise ValueError(f"{name} must be at least 1; got {value!r}.")


def check_count(name: str, count: Any) -> int:
    """Return a parameter of an estimator as int; raise ValueError unless it is an integer of at least 1."""
    with suppress(TypeError):
        if (number := check_integer(name, count)) >= 1:
            return number
    raise ValueError(f"{name} must be a positive integer; got {count!r}.")


def check_number(name: str, value: Any, what: str, is_valid: Callable[[Any], bool]) -> None:
    """Raise ValueError unless value is a real number that is valid; ``what`` says which are. Bools are rejected."""
    if isinstance(value, bool) or not isinstance(value, Real) or not is_valid(value):
        raise ValueError(f"{name} must be {what}; got {value!r}.")
