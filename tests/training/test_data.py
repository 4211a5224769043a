"""Training data: what X and y are taken for, what is refused and where, and how pairs are drawn."""

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

from skembed.training.data import draw_pairs, read_examples, split

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
def test_the_shapes_of_x_and_y_say_what_kind_of_examples_they_are(X, y, kind):
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


def test_a_pair_with_label_one_belongs_together_also_if_no_pair_has_label_zero_first():
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
        (TEXTS, [0.0, 1.0, 0.0, 1.0], ValueError, r"y holds floats.*e\.g\. y\.astype\(int\)"),
        (TRIPLETS, [0, 1, 0, 1], ValueError, "which are triplets; these have no labels"),
    ],
)
def test_what_is_no_training_data_is_one_clear_error(X, y, error, message):
    with pytest.raises(error, match=message):
        read(X, y)


@pytest.mark.parametrize("missing", ["nan", "zero"])
def test_an_example_with_a_missing_text_is_left_out(missing):
    data = read(FRAME, ["x", "y", "z"], missing)
    assert data.columns == (["a", "c"], ["d", "f"])
    assert_array_equal(data.classes[data.labels], ["x", "z"])


def test_a_missing_text_is_read_as_the_empty_one_where_that_is_asked_for():
    assert read(FRAME, None, "empty").columns[0] == ["a", "", "c"]


class TestSplit:
    def test_classes_keep_their_shares(self):
        data = read([str(number) for number in range(40)], ["a", "b", "b", "b"] * 10)
        kept, aside = split(data, 0.2, seed=0)
        assert np.bincount(aside.labels).tolist() == [2, 6]
        assert sorted(kept.columns[0] + aside.columns[0]) == sorted(data.columns[0])

    def test_too_few_examples_of_a_class_are_an_error_that_says_what_to_do(self):
        with pytest.raises(
            ValueError, match=r"early_stopping=True sets validation_fraction=0\.5 of the 4 examples asid"
        ):
            split(read(TEXTS, ["a", "b", "c", "c"]), 0.5, seed=0)


labelled = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3)), min_size=2, max_size=20)


class TestDrawnPairs:
    @settings(deadline=None)
    @given(labelled, st.integers(1, 9), st.integers(0, 99))
    def test_a_pair_is_of_two_texts_and_says_whether_a_class_holds_both(self, rows, n_pairs, seed):
        texts, labels = [text for text, _ in rows], np.array([label for _, label in rows])
        left, right, same = draw_pairs(texts, labels, n_pairs, np.random.default_rng(seed))
        classes_of = {text: {label for other, label in rows if other == text} for text in texts}
        assert len(left) == len(right) == len(same)
        for one, other, is_same in zip(left, right, same, strict=True):
            assert one != other
            together = classes_of[one] & classes_of[other]
            assert together if is_same else len(classes_of[one] | classes_of[other]) > 1

    @settings(deadline=None)
    @given(st.integers(2, 6), st.integers(1, 30))
    def test_half_of_the_pairs_are_of_one_class_and_each_text_leads_as_many(self, n_texts, n_pairs):
        texts, labels = [str(number) for number in range(2 * n_texts)], np.repeat([0, 1], n_texts)
        left, _, same = draw_pairs(texts, labels, n_pairs, np.random.default_rng(0))
        assert {left.count(text) for text in texts} == {n_pairs}
        assert same.sum() == 2 * n_texts * (n_pairs // 2)

    def test_no_partner_comes_twice_before_all_had_their_turn(self):
        texts, labels = [str(number) for number in range(10)], np.repeat([0, 1], 5)
        left, right, _ = draw_pairs(texts, labels, 8, np.random.default_rng(0))
        assert len(set(zip(left, right, strict=True))) == len(left)

    def test_a_text_that_is_alone_in_its_class_only_shows_what_is_different(self):
        left, _, same = draw_pairs(["a", "b", "c"], np.array([0, 0, 1]), 4, np.random.default_rng(0))
        assert [int(value) for text, value in zip(left, same, strict=True) if text == "c"] == [0, 0]

    def test_a_repeated_text_is_one(self):
        left, _, _ = draw_pairs(["a", "a", "b", "c"], np.array([0, 0, 0, 1]), 2, np.random.default_rng(0))
        assert left.count("a") == 2
