"""Checks of single parameters."""

from __future__ import annotations

import re

import numpy as np
import pytest

from skembed.checks import check_count, check_number


@pytest.mark.parametrize("count", [1, 7, np.int64(7), np.uint8(7), np.array(7)], ids=repr)
def test_a_count_is_returned_as_an_int(count):
    assert check_count("k", count) == count
    assert type(check_count("k", count)) is int


@pytest.mark.parametrize("count", [0, -1, True, np.True_, 2.0, "2", None, float("nan"), np.array([2])], ids=repr)
def test_what_is_not_a_positive_integer_is_not_a_count(count):
    with pytest.raises(ValueError, match=r"^k must be a positive integer; got "):
        check_count("k", count)


@pytest.mark.parametrize("value", [0, 0.5, np.float32(1)], ids=repr)
def test_a_valid_number_passes(value):
    check_number("share", value, "a share", lambda share: 0 <= share <= 1)


@pytest.mark.parametrize("value", [True, "1", None, 2, float("nan"), 1j], ids=repr)
def test_anything_but_a_valid_number_is_an_error_with_its_value(value):
    with pytest.raises(ValueError, match=re.escape(f"share must be a share; got {value!r}.")):
        check_number("share", value, "a share", lambda share: 0 <= share <= 1)
