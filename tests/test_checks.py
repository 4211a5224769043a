"""Checks of single parameters."""

from __future__ import annotations

import numpy as np
import pytest

from skembed.checks import check_count


@pytest.mark.parametrize("count", [1, 7, np.int64(7), np.uint8(7), np.array(7)], ids=repr)
def test_a_count_is_returned_as_an_int(count):
    assert check_count("k", count) == count
    assert type(check_count("k", count)) is int


@pytest.mark.parametrize("count", [0, -1, True, np.True_, 2.0, "2", None, float("nan"), np.array([2])], ids=repr)
def test_what_is_not_a_positive_integer_is_not_a_count(count):
    with pytest.raises(ValueError, match=r"^k must be a positive integer; got "):
        check_count("k", count)
