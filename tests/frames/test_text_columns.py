"""Which column of a frame is meant: the only one with text, or the one that ``on`` names."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

import skembed

pytestmark = pytest.mark.usefixtures("tiny_by_default")


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"review": ["good", "bad", "good"], "stars": [5, 1, 4]}, index=["r1", "r2", "r3"])


def test_the_only_text_column_is_meant(df):
    assert df.text.embed().columns[0] == "review_0"


@pytest.mark.parametrize("other", [pd.Categorical(["x", "y", "x"]), [[1.0], [2.0], [3.0]], [1, 2.5, None], [None] * 3])
def test_categories_and_other_objects_do_not_count_beside_text(df, other):
    df["other"] = pd.Series(other, index=df.index, dtype=getattr(other, "dtype", object))
    assert df.text.embed().columns[0] == "review_0"


def test_a_column_with_some_texts_counts_so_that_one_bad_cell_chooses_no_other(df):
    df["title"] = pd.Series(["x", 3.5, "z"], index=df.index, dtype=object)
    with pytest.raises(ValueError, match="Several columns hold text: 'review', 'title'"):
        df.text.embed()


def test_of_many_text_columns_ten_are_named():
    df = pd.DataFrame({f"c{number}": ["a"] for number in range(12)})
    with pytest.raises(ValueError, match=r"'c9', \.\.\.\. Say which"):
        df.text.embed()


def test_categories_of_arrow_count_as_text():
    texts = pd.Series(pd.arrays.ArrowExtensionArray(pa.array(["a", "b"]).dictionary_encode()))
    assert texts.to_frame("review").text.embed().shape == (2, 32)
    numbers = pd.Series(pd.arrays.ArrowExtensionArray(pa.array([1, 2]).dictionary_encode()))
    assert not hasattr(numbers, "embed")


@pytest.mark.parametrize("kind", ["list_view", "binary_view", "month_day_nano_interval"])
def test_columns_of_arrow_that_pandas_has_no_class_for_are_left_alone(kind, df):
    arrow = pa.list_view(pa.string()) if kind == "list_view" else getattr(pa, kind)()
    column = pd.Series(pd.arrays.ArrowExtensionArray(pa.nulls(len(df), arrow)), index=df.index)
    assert not hasattr(column, "text")
    assert not hasattr(column, "embed")
    assert not hasattr(column.to_frame("other"), "text")
    assert df.assign(other=column).text.embed().columns[0] == "review_0"


@pytest.mark.parametrize("is_encoded", [False, True])
def test_strings_of_arrow_count_as_text_whatever_their_layout(is_encoded):
    arrow = pa.array(["a", "b"], type=pa.string_view())
    if is_encoded:
        arrow = pa.DictionaryArray.from_arrays(pa.array([0, 1]), arrow)
    texts = pd.Series(pd.arrays.ArrowExtensionArray(arrow))
    expected = skembed.embed(["a", "b"])
    assert_array_equal(texts.text.embed(), expected)
    assert_array_equal(texts.embed(), expected)
    assert_array_equal(texts.to_frame("review").text.embed(), expected)


def test_vectors_do_not_count(df):
    df["v"] = df["review"].embed(output="vector")
    assert df.text.embed().columns[0] == "review_0"


def test_categories_of_text_count_if_there_is_nothing_else(df):
    df["review"] = df["review"].astype("category")
    assert df.text.embed().columns[0] == "review_0"


def test_several_text_columns_are_an_error_that_names_them(df):
    df["title"] = ["x", "y", "z"]
    with pytest.raises(
        ValueError, match=r"Several columns hold text: 'review', 'title'\. Say which, e\.g\. on='review'"
    ):
        df.text.embed()
    assert df.text.embed(on="title").columns[0] == "title_0"
    assert df.text.embed("title").columns[0] == "title_0"
    assert df.text["title"].embed().columns[0] == "title_0"


def test_an_unknown_column_is_an_error_that_names_those_with_text(df):
    for call in (lambda: df.text.embed(on="nope"), lambda: df.text["nope"]):
        with pytest.raises(KeyError, match="There is no column 'nope'; columns with text: 'review'"):
            call()


def test_an_accessor_that_outlives_the_only_text_column_says_so(df):
    accessor = df.text
    del df["review"]
    with pytest.raises(ValueError, match="No column holds text"):
        accessor.embed()


def test_a_column_of_numbers_is_an_error(df):
    with pytest.raises(TypeError, match="Column 'stars' is int64, not text; columns with text: 'review'"):
        df.text.embed(on="stars")


def test_a_column_of_vectors_is_an_error(df):
    df["v"] = df["review"].embed(output="vector")
    with pytest.raises(TypeError, match=r"Column 'v' is vector\[float32, 32\], not text"):
        df.text.embed(on="v")


@pytest.mark.parametrize("on", [["review"], {"review"}, lambda df: df.index == "r1"])
def test_a_value_that_is_not_a_label_is_an_error(df, on):
    with pytest.raises(ValueError, match="is not a column label"):
        df.text.embed(on=on)


def test_two_columns_of_one_name_are_an_error():
    df = pd.DataFrame([["a", "b"]], columns=["review", "review"])
    with pytest.raises(ValueError, match="'review' names 2 columns"):
        df.text.embed(on="review")
    with pytest.raises(ValueError, match="Several columns hold text: 'review', 'review'"):
        df.text.embed()


def test_doubled_names_of_other_columns_do_no_harm():
    df = pd.DataFrame([["a", 1, 2]], columns=["review", "n", "n"])
    assert df.text.embed().shape == (1, 32)
