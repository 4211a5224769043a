"""Reading labels: one a row, or several."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.preprocessing import MultiLabelBinarizer

from skembed.encoding.labels import has_several_labels, read_label_sets, read_labels

FRAME = pd.DataFrame({"a": [1, 0], "b": [1, 1]}, index=["r", "s"])


@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1))
def test_lists_are_read_as_scikit_learns_binarizer_reads_them(sets):
    binarizer = MultiLabelBinarizer()
    expected = binarizer.fit_transform(sets)
    for y in (sets, [sorted(row) for row in sets], pd.Series(sets), pd.DataFrame(expected, columns=binarizer.classes_)):
        if isinstance(y, pd.DataFrame) and y.shape[1] == 1:
            continue  # one column is one label a row
        assert has_several_labels(y)
        read = read_label_sets(y, "y")
        assert read.classes.tolist() == binarizer.classes_.tolist()
        assert_array_equal(read.indicator, expected)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (["a", "b"], False),
        (np.array([0, 1]), False),
        (np.array([[0], [1]]), False),
        (pd.DataFrame({"label": ["a", "b"]}), False),
        (pd.Series(["a", None]), False),
        (pl.Series(["a", "b"]), False),
        (pa.array(["a", "b"]), False),
        ([], False),
        (None, False),
        ("ab", False),
        (["a", ["b"]], True),
        ([{"a"}, {"b"}], True),
        (pl.Series([["a"], ["b", "c"]]), True),
        (pa.array([["a"], ["b", "c"]]), True),
        (FRAME, True),
        (FRAME.to_numpy(), True),
        (csr_array(FRAME), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_several_labels_are_told_from_one(y, expected):
    assert has_several_labels(y) is expected


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([["a"], []], ValueError, r"y\[1\] has no labels. .*pass an indicator.*MultiLabelBinarizer"),
        (pd.Series([["a"], set()], index=["r", "s"]), ValueError, r"y\[1\] \(index label 's'\) has no labels"),
        ([["a"], None], TypeError, r"y\[1\] is missing; where rows have several labels, each needs a list of them"),
        ([["a"], np.nan], TypeError, r"y\[1\] is missing"),
        ([["a"], "b"], TypeError, r"y\[1\] is str; where rows have several"),
        (["a", ["b"]], TypeError, r"y\[0\] is str; where rows have several"),
        ([["a"], {"b": 1}], TypeError, r"y\[1\] is dict"),
        ([["a"], ["b", None]], ValueError, r"y\[1\] holds a missing label; leave it out"),
        ([["a"], ["b", 1]], TypeError, r"A label in y\[1\] is int and A label in y\[0\] is str; labels must be all"),
        ([[["a"]], ["b"]], TypeError, r"A label in y\[0\] is list"),
        ([[0, 1, 1], [1, 0, 0]], ValueError, r"like the rows of an indicator. .*np\.array\(y\).*MultiLabelBinarizer"),
        (FRAME.replace({"b": {1: 2}}), ValueError, r"y\[0\] \(index label 'r'\) has 2 in column 'b'; .*MultiLabelBin"),
        (FRAME.astype(float).replace(0.0, np.nan), ValueError, r"y\[1\] .* has nan in column 'a'"),
        (np.array([[0, 1], [0, -1]]), ValueError, r"y\[1\] has -1 in column 1; an indicator"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, "y has 2 columns, and not all are numbers. .*MultiLabelBinar"),
        (FRAME.astype(str).replace("1", "x"), TypeError, "y has 2 columns, and not all are numbers"),
        (FRAME.set_axis(["a", "a"], axis=1), ValueError, "y has several columns 'a'"),
        (FRAME.set_axis(["a", 1], axis=1), TypeError, r"y\.columns\[1\] is int and y\.columns\[0\] is str"),
        (FRAME.set_axis([("a", 1), ("a", 2)], axis=1), TypeError, r"y\.columns\[0\] is tuple"),
    ],
)
def test_what_are_no_label_sets_is_one_clear_error(y, error, message):
    with pytest.raises(error, match=message):
        read_label_sets(y, "y")


def test_a_row_of_an_indicator_may_be_empty_and_a_list_where_that_is_allowed():
    assert read_label_sets(np.zeros((2, 3)), "y").indicator.tolist() == [[0, 0, 0]] * 2
    assert read_label_sets([[], ["a"]], "y", allow_empty=True).indicator.tolist() == [[0], [1]]


def test_labels_of_one_kind_keep_their_type():
    assert read_labels([True, False], "y").dtype == bool
    assert read_label_sets([[1], [2, 3]], "y").classes.dtype.kind == "i"
    assert read_label_sets([[0], [1]], "y").classes.tolist() == [0, 1]
