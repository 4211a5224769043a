"""Columns of texts or of vectors, with their labels, names and model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skembed import VectorArray
from skembed.encoding.columns import read_column

NAMED = pd.Series(["b", None, "a"], index=[7, 8, 9], name="title")


@pytest.mark.parametrize("X", [NAMED, NAMED.to_frame()])
def test_texts_keep_labels_and_name(X):
    column = read_column(X)
    assert column.to_objects().tolist() == ["b", None, "a"]
    assert column.vectors is None
    assert column.to_series().index.tolist() == [7, 8, 9]
    assert column.to_series().name == "title"


def test_a_list_has_neither_labels_nor_a_name():
    column = read_column(["a"], "texts")
    assert (column.labels, column.own_name, column.about) == (None, None, "")
    assert column.where(0) == "texts[0]"


def test_rows_without_labels_are_labelled_by_their_positions():
    assert read_column(["a", "b"]).to_index(3).tolist() == [3, 4]
    assert read_column(NAMED).to_index(3).tolist() == [7, 8, 9]


def test_a_row_is_named_by_position_and_label():
    assert read_column(NAMED).where(2) == "X[2] (index label 9)"


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[0.6, 0.8], "fox"], r"^corpus\[1\] \(index label 8\) is str, not a vector"),
        ([[0.6, 0.8], [1.0]], r"^corpus\[1\] \(index label 8\) has 1 dimensions, not 2"),
    ],
)
def test_what_is_no_vector_is_named_by_position_and_label(vectors, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_column(pd.Series(vectors, index=[7, 8]), "corpus")


def test_rows_sorted_by_text_come_in_the_order_of_their_texts_missing_ones_first():
    texts = pd.Series(["b", None, "a", "b", "Z", ""], index=list("uvwxyz"), name="title")
    column, rows = read_column(texts).sorted_by_text()
    assert column.to_objects().tolist() == [None, "", "Z", "a", "b", "b"]
    assert rows.tolist() == [1, 5, 4, 2, 0, 3]
    assert column.labels.tolist() == column.to_series().index.tolist() == ["v", "z", "y", "w", "u", "x"]
    assert (column.own_name, column.about) == ("title", " X is column 'title'.")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "A", "ä", "", "a b", None, "🦊"]), max_size=9), st.randoms())
def test_shuffled_texts_are_sorted_alike(texts, random):
    shuffled = random.sample(texts, len(texts))
    (one, of_one), (other, _) = (read_column(rows).sorted_by_text() for rows in (texts, shuffled))
    assert one.texts.unique == other.texts.unique == sorted(one.texts.unique)
    assert_array_equal(one.texts.codes, other.texts.codes)
    assert one.to_objects().tolist() == [texts[row] for row in of_one]


def test_sorted_rows_are_named_by_their_place_in_the_column():
    column, _ = read_column(NAMED).sorted_by_text()
    assert [column.where(row) for row in range(3)] == [
        "X[1] (index label 8)", "X[2] (index label 9)", "X[0] (index label 7)",
    ]  # fmt: skip


def test_vectors_stay_in_their_order():
    column = read_column([[1.0, 0.0], [0.0, 1.0]])
    same, rows = column.sorted_by_text()
    assert same is column
    assert rows.tolist() == [0, 1]


@pytest.mark.parametrize("index", [None, [3, 4]])
def test_vectors_keep_their_model(index):
    column = read_column(pd.Series(VectorArray(np.eye(2), model="some 0123"), index=index))
    assert column.texts is None
    assert_array_equal(column.vectors, np.eye(2))
    assert column.model == "some 0123"
    assert column.to_objects().tolist() == [None, None]
    assert len(column) == 2


def test_a_column_that_was_read_stays_as_it_is():
    column = read_column(["a"])
    assert read_column(column, "other") is column


def test_a_missing_text_is_an_error_if_asked_for():
    with pytest.raises(ValueError, match=r"title\[1\] \(index label 8\) is missing"):
        read_column(NAMED, "title", missing="error")


@pytest.mark.parametrize("texts", [["a", None, "b"], ["", None, "b"], [None], []])
def test_filling_replaces_missing_texts_by_the_empty_text(texts):
    filled = read_column(texts).texts.filled()
    assert [filled.unique[code] for code in filled.codes] == [text or "" for text in texts]
    assert len(set(filled.unique)) == len(filled.unique)


def test_a_column_without_missing_texts_is_filled_already():
    texts = read_column(["a", "b"]).texts
    assert texts.filled() is texts
