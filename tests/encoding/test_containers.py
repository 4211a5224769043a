"""What texts can come in: columns of a container, their rows, and their names in messages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skembed.encoding.containers import about_column, name_row, read_columns, rows_and_labels

PAIRS = {
    "list of tuples": [("a", "b"), ("c", "d")],
    "array": np.array([["a", "b"], ["c", "d"]]),
    "frame of pandas": pd.DataFrame({"left": ["a", "c"], "right": ["b", "d"]}),
    "frame of polars": pl.DataFrame({"left": ["a", "c"], "right": ["b", "d"]}),
    "table of pyarrow": pa.table({"left": ["a", "c"], "right": ["b", "d"]}),
}


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_pairs_are_split_into_columns_whatever_holds_them(pairs):
    columns = [rows_and_labels(column)[0] for _, column in read_columns(pairs)]
    assert columns == [["a", "c"], ["b", "d"]]


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_a_column_is_named_as_its_container_names_it(pairs):
    names = [name for name, _ in read_columns(pairs)]
    assert names == (
        ["X[:, 0]", "X[:, 1]"] if isinstance(pairs, (list, np.ndarray)) else ["column 'left'", "column 'right'"]
    )


def test_texts_are_one_column():
    assert read_columns(["a", "b"]) == [("X", ["a", "b"])]


def test_rows_of_different_lengths_are_refused_by_position():
    with pytest.raises(ValueError, match=r"X\[1\] is a row of 3 texts, X\[0\] a row of 2"):
        read_columns([("a", "b"), ("a", "b", "c")])


def test_only_pandas_has_labels():
    assert rows_and_labels(pd.Series(["a"], index=["r"]))[1].tolist() == ["r"]
    assert rows_and_labels(pl.Series(["a"]))[1] is None


def test_rows_do_not_change_with_the_list_they_were_read_from():
    texts = ["a"]
    rows, _ = rows_and_labels(texts)
    texts.append("b")
    assert rows == ["a"]


def test_a_row_is_named_by_its_position_and_its_label():
    assert name_row("X", pd.Index(["r", "s"]), 1) == "X[1] (index label 's')"
    assert name_row("X", None, 1) == "X[1]"


@pytest.mark.parametrize(
    ("column", "about"),
    [
        (pd.Series(["a"], name="title"), " X is column 'title'."),
        (pd.DataFrame({"title": ["a"]}), " X is column 'title'."),
        (pl.Series("title", ["a"]), " X is column 'title'."),
        (pa.table({"title": ["a"]}), " X is column 'title'."),
        (["a"], ""),
        (pd.Series(["a"]), ""),
    ],
)
def test_messages_end_with_the_name_of_the_column_if_it_has_one(column, about):
    assert about_column(column) == about
