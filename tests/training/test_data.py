"""Training data: what X and y are taken for, what is refused and where, and what is set aside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.sparse import csc_matrix, csr_array

from skembed.training.data import TrainingData, read_examples, split

TEXTS = ["one", "two", "three", "four"]
PAIRS = [("one", "two"), ("three", "four"), ("five", "six"), ("seven", "eight")]
TRIPLETS = [(*pair, "nine") for pair in PAIRS]


def read(X, y, missing="error"):
    return read_examples(X, y, missing=missing)


@pytest.mark.parametrize(
    ("X", "y", "kind"),
    [
        (TEXTS, None, "texts"),
        (TEXTS, ["a", "b", "a", "b"], "classes"),
        (TEXTS, [0, 1, 0, 1], "classes"),
        (TEXTS, [True, False, True, False], "classes"),
        (TEXTS, pd.Categorical(["u", "v", "u", "v"]), "classes"),
        (TEXTS, [["a"], ["a", "b"], ["b"], ["c"]], "label_sets"),
        (TEXTS, [{1}, {1, 2}, {2}, {3}], "label_sets"),
        (PAIRS, None, "positives"),
        (PAIRS, [0.5, 1.0, 0.0, 3.2], "scores"),
        (PAIRS, [0.0, 1.0, 0.0, 1.0], "scores"),
        (PAIRS, [0, 1, 0, 1], "binary"),
        (PAIRS, [True, False, True, False], "binary"),
        (PAIRS, [0, 1, 2, 1], "pair_classes"),
        (PAIRS, ["entailment", "neutral", "contradiction", "neutral"], "pair_classes"),
        (TRIPLETS, None, "triplets"),
    ],
)
def test_the_shapes_of_x_and_y_determine_the_kind_of_examples(X, y, kind):
    assert read(X, y).kind == kind


@pytest.mark.parametrize(
    "make",
    [
        list,
        lambda pairs: [list(pair) for pair in pairs],
        lambda pairs: np.array(pairs, dtype=object),
        lambda pairs: pd.DataFrame(pairs, index=list("wxyz")),
        lambda pairs: pl.DataFrame(pairs, schema=["a", "b"], orient="row"),
        lambda pairs: pa.table({"a": [left for left, _ in pairs], "b": [right for _, right in pairs]}),
        lambda pairs: Dataset.from_dict({"a": [left for left, _ in pairs], "b": [right for _, right in pairs]}),
    ],
    ids=["tuples", "lists", "array", "pandas", "polars", "pyarrow", "datasets"],
)
def test_pairs_come_in_any_container(make):
    assert read(make(PAIRS), None).columns == (["one", "three", "five", "seven"], ["two", "four", "six", "eight"])


def test_classes_are_counted_from_zero_in_sorted_order():
    data = read(TEXTS, ["b", "c", "a", "b"])
    assert_array_equal(data.labels, [1, 2, 0, 1])
    assert_array_equal(data.classes, ["a", "b", "c"])


def test_a_pair_with_label_one_belongs_together_even_if_the_first_label_is_one():
    assert_array_equal(read(PAIRS, [1, 0, 1, 1]).labels, [1, 0, 1, 1])


FRAME = pd.DataFrame({"left": ["a", None, "c"], "right": ["d", "e", "f"]}, index=["r1", "r2", "r3"])


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        ("text", None, TypeError, "X is a single str"),
        (np.array([["a"] * 4] * 2), None, ValueError, "X has 4 columns; texts come in one, pairs in two, triplets"),
        ([("a", "b"), ("c",)], None, ValueError, r"X\[1\] is a row of 1 texts, X\[0\] a row of 2"),
        ([("a", "b"), "c"], None, ValueError, r"X\[1\] is a str, X\[0\] a row of 2"),
        (["a", 5], None, TypeError, r"X\[1\] is int, not str"),
        (FRAME, None, ValueError, r"column 'left'\[1\] \(index label 'r2'\) is missing"),
        ([], None, ValueError, "X has no texts to learn from"),
        (TEXTS, ["a", "b"], ValueError, "X has 4 rows and y has 2"),
        (TEXTS, ["a", "a", "a", "a"], ValueError, "y has one class only, 'a'"),
        (TEXTS, [3, 3, 3, 3], ValueError, "y has one class only, 3"),
        (PAIRS, [1, 1, 1, 1], ValueError, "y has one class only, 1"),
        (TEXTS, ["a", None, "b", "b"], ValueError, r"y\[1\] is missing"),
        (PAIRS, [0.5, float("nan"), 1.0, 0.0], ValueError, r"y\[1\] is missing"),
        (TEXTS, pd.Series(["a", "b", pd.NA, "b"], index=list("wxyz")), ValueError, r"y\[2\] \(index label 'y'\) is mi"),
        (PAIRS, [0.5, 1.0, float("inf"), 0.0], ValueError, r"y\[2\] is infinite"),
        (PAIRS, [0.5, 0.5, 0.5, 0.5], ValueError, "All scores in y are 0.5"),
        (TEXTS, ["a", 1, "b", 2], TypeError, r"y mixes labels of several types: y\[0\] is str, y\[1\] is int"),
        (
            TEXTS,
            ["a", pd.Timestamp(0), "b", "b"],
            TypeError,
            r"y\[1\] is Timestamp; labels must be strings or integers",
        ),
        (TEXTS, [0.0, 1.0, 0.0, 1.0], ValueError, r"y holds floats, e\.g\. 0\.0.*e\.g\. y\.astype\(int\)"),
        (TEXTS, [["a"]] * 4, ValueError, "All rows of y have the same labels"),
        (TEXTS, np.ones((4, 2)), ValueError, "All rows of y have the same labels"),
        (TEXTS, [["a"], ["b"]], ValueError, "X has 4 rows and y has 2"),
        (TEXTS, [["a"], [], ["b"], ["a"]], ValueError, r"y\[1\] has no labels"),
        (TEXTS, [["a"], "b", ["b"], ["a"]], TypeError, r"y\[1\] is str"),
        (TEXTS, [["a"], ["b", 1], ["b"], ["a"]], TypeError, r"A label in y\[1\] is int"),
        (TEXTS, [[1.0], [2.0], [1.0], [2.0]], TypeError, r"y holds lists of floats, e\.g\. 1\.0"),
        (TEXTS, np.full((4, 2), 0.5), ValueError, r"y\[0\] has 0\.5 in column 0"),
        (PAIRS, [["a"], ["b"], ["a"], ["b"]], ValueError, "y has several labels a row, and X has 2 columns"),
        (TRIPLETS, [0, 1, 0, 1], ValueError, "which are triplets; these have no labels"),
    ],
)
def test_invalid_training_data_is_one_clear_error(X, y, error, message):
    with pytest.raises(error, match=message):
        read(X, y)


SETS = [["b"], ["c", "a"], ["a"], ["b"]]
ROWS = np.array([[0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    "y",
    [
        SETS,
        [tuple(row) for row in SETS],
        [set(row) for row in SETS],
        pd.Series(SETS, index=list("wxyz")),
        np.array([*SETS, None], dtype=object)[:-1],
        pd.DataFrame(ROWS, columns=list("abc")),
        pd.DataFrame(ROWS.astype(bool), columns=list("abc")),
    ],
    ids=["lists", "tuples", "sets", "series", "objects", "frame", "bools"],
)
def test_several_labels_a_row_come_in_any_container(y):
    data = read(TEXTS, y)
    assert_array_equal(data.labels, ROWS)
    assert data.classes.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("make", [np.asarray, csr_array, csc_matrix])
def test_the_columns_of_an_indicator_without_names_are_numbered(make):
    data = read(TEXTS, make(ROWS))
    assert_array_equal(data.labels, ROWS)
    assert data.classes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("missing", ["nan", "zero"])
def test_an_example_with_a_missing_text_is_left_out(missing):
    data = read(FRAME, ["x", "y", "z"], missing)
    assert data.columns == (["a", "c"], ["d", "f"])
    assert_array_equal(data.classes[data.labels], ["x", "z"])


def test_a_missing_text_is_read_as_the_empty_text_on_request():
    assert read(FRAME, None, "empty").columns[0] == ["a", "", "c"]


class TestSplit:
    def test_the_split_is_stratified_by_class(self):
        data = read([str(number) for number in range(40)], ["a", "b", "b", "b"] * 10)
        kept, aside = split(data, 0.2, seed=0)
        assert np.bincount(aside.labels).tolist() == [2, 6]
        assert sorted(kept.columns[0] + aside.columns[0]) == sorted(data.columns[0])

    @settings(deadline=None)
    @given(st.lists(st.integers(1, 30), min_size=2, max_size=200), st.floats(0.01, 0.99), st.integers(0, 99))
    def test_of_each_class_its_share_is_set_aside_and_one_example_kept(self, sizes, fraction, seed):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        data = TrainingData("classes", ([str(row) for row in range(len(labels))],), labels, np.arange(len(sizes)))
        try:
            kept, aside = split(data, fraction, seed)
        except ValueError:  # classes of one example each
            assert fraction * max(sizes) < 1 or max(sizes) == 1
            return
        n_kept, n_aside = (np.bincount(part.labels, minlength=len(sizes)) for part in (kept, aside))
        share = np.ceil(fraction * len(labels)) / len(labels) * np.array(sizes)
        assert_array_equal(n_kept + n_aside, sizes)
        assert n_kept.min() >= 1
        assert (n_aside <= np.ceil(share)).all()
        assert (n_aside >= np.minimum(np.floor(share), np.array(sizes) - 1)).all()

    def test_rows_with_several_labels_are_set_aside_at_random(self):
        kept, aside = split(read([str(number) for number in range(40)], [["a", "b"], ["b"]] * 20), 0.25, seed=0)
        assert (len(kept), len(aside)) == (30, 10)
        assert aside.labels.shape == (10, 2)

    def test_classes_of_one_example_each_are_an_error_that_says_what_to_do(self):
        with pytest.raises(ValueError, match=r"sets validation_fraction=0\.5 of the 4 examples aside.*too few of each"):
            split(read(TEXTS, list("abcd")), 0.5, seed=0)
