from __future__ import annotations

import re
from collections import UserList, deque
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed import VectorArray
from skembed.encoding.texts import read_texts

TEXTS = ["b", "a", "", "b", "naïve 🦊", "a\0b", "a"]
UNIQUE = ["b", "a", "", "naïve 🦊", "a\0b"]
CODES = [0, 1, 2, 0, 3, 4, 1]

TWO_LEVELS = pd.MultiIndex.from_tuples([("text", "english")])


def object_array(values):
    """Return an array with one value per element: numpy would spread nested lists over dimensions."""
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = value
    return array


def object_series(values):
    return pd.Series(object_array(values), dtype=object)


def labelled_series(values):
    return pd.Series(object_array(values), index=[f"row {row}" for row in range(len(values))], dtype=object)


def categories_of(values):
    """Name the categories: before pandas 3, finding them by itself stops at a NUL."""
    return pd.CategoricalDtype(sorted({*values} - {None}))


# container -> how to make it of texts and of None
WITH_MISSING = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "UserList": UserList,
    "object array": object_array,
    "(n, 1) object array": lambda values: object_array(values)[:, None],
    "Series of object": object_series,
    "Series of string[python]": lambda values: pd.Series(values, dtype="string[python]"),
    "Series of string[pyarrow]": lambda values: pd.Series(values, dtype="string[pyarrow]"),
    "Series of str": lambda values: pd.Series(values, dtype="str"),
    "Series of arrow strings": lambda values: pd.Series(values, dtype=pd.ArrowDtype(pa.string())),
    "Series of category": lambda values: pd.Series(values, dtype=categories_of(values)),
    "Series with repeated labels": lambda values: pd.Series(values, index=[7] * len(values), dtype=object),
    "Series with two-level labels": lambda values: pd.Series(
        values, index=pd.MultiIndex.from_tuples([("x", row) for row in range(len(values))], names=["a", "b"])
    ),
    "Index": lambda values: pd.Index(values, dtype=object),
    "CategoricalIndex": lambda values: pd.CategoricalIndex(values, dtype=categories_of(values)),
    "DataFrame": lambda values: pd.DataFrame({"text": values}),
    "DataFrame with a two-level column": lambda values: pd.DataFrame(
        object_array(values)[:, None], columns=TWO_LEVELS, dtype=object
    ),
    "DataFrame with repeated labels": lambda values: pd.DataFrame({"text": values}, index=[7] * len(values)),
    "string extension array": lambda values: pd.array(values, dtype="string"),
    "Categorical": lambda values: pd.Categorical(values, dtype=categories_of(values)),
    "polars Series": lambda values: pl.Series(values, dtype=pl.String),
    "polars Series of Object": lambda values: pl.Series(values, dtype=pl.Object),
    "polars Categorical": lambda values: pl.Series(values, dtype=pl.Categorical),
    "polars Enum": lambda values: pl.Series(values, dtype=pl.Enum(sorted({*values} - {None}))),
    "polars DataFrame": lambda values: pl.DataFrame({"text": pl.Series(values, dtype=pl.String)}),
    "arrow Array": lambda values: pa.array(values, pa.string()),
    "arrow large_string": lambda values: pa.array(values, pa.large_string()),
    "arrow string_view": lambda values: pa.array(values, pa.string_view()),
    "arrow ChunkedArray": lambda values: pa.chunked_array([values[:2], values[2:]], pa.string()),
    "arrow DictionaryArray": lambda values: pa.array(values, pa.string()).dictionary_encode(),
    "arrow ChunkedArray of dictionaries": lambda values: pa.chunked_array(
        [pa.array(part, pa.string()).dictionary_encode() for part in (values[:2], values[2:])]
    ),
    "arrow Table": lambda values: pa.table({"text": pa.array(values, pa.string())}),
    "arrow RecordBatch": lambda values: pa.record_batch({"text": pa.array(values, pa.string())}),
}
WITHOUT_MISSING = {
    "<U array": lambda values: np.array(values, dtype="U"),
    "(n, 1) <U array": lambda values: np.array(values, dtype="U")[:, None],
    "list of numpy strings": lambda values: [np.str_(value) for value in values],
    "numpy extension array": lambda values: pd.arrays.NumpyExtensionArray(object_array(values)),
}
if hasattr(np.dtypes, "StringDType"):
    WITH_MISSING["StringDType array"] = lambda values: np.array(values, dtype=np.dtypes.StringDType(na_object=None))
    WITHOUT_MISSING["(n, 1) StringDType array"] = lambda values: np.array(values, np.dtypes.StringDType())[:, None]
ANY_CONTAINER = WITH_MISSING | WITHOUT_MISSING

# Containers that accept any object, for the fuzz test
OF_ANYTHING = {
    name: WITH_MISSING[name]
    for name in (
        "list",
        "tuple",
        "deque",
        "object array",
        "(n, 1) object array",
        "Series of object",
        "DataFrame with a two-level column",
        "polars Series of Object",
    )
} | {
    "labelled Series": labelled_series,
    "Index": lambda values: pd.Index(object_array(values), dtype=object, tupleize_cols=False),
    "numpy extension array": WITHOUT_MISSING["numpy extension array"],
}

MISSING_VALUES = {
    "None": None,
    "float nan": float("nan"),
    "numpy nan": np.float64("nan"),
    "half precision nan": np.float16("nan"),
    "NA": pd.NA,
    "NaT": pd.NaT,
    "datetime64 NaT": np.datetime64("NaT"),
    "timedelta64 NaT": np.timedelta64("NaT"),
    "Decimal NaN": Decimal("NaN"),
    "signaling Decimal NaN": Decimal("sNaN"),
}


def cases(table):
    return [pytest.param(value, id=name) for name, value in table.items()]


class Colour(str, Enum):  # noqa: UP042 - StrEnum's str() is its value; here it is "Colour.RED"
    RED = "red"


class NoArray:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("like a tensor that has a gradient")


class Pretender(str):
    __slots__ = ()

    def __str__(self):
        return "something else"

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@pytest.mark.parametrize("container", cases(ANY_CONTAINER))
def test_every_container_gives_the_same_texts(container):
    texts = read_texts(container(TEXTS))
    assert texts.unique == UNIQUE
    assert texts.codes.tolist() == CODES


@pytest.mark.parametrize("container", cases(ANY_CONTAINER))
def test_every_container_gives_plain_strings(container):
    assert {type(text) for text in read_texts(container(TEXTS)).unique} == {str}


@pytest.mark.parametrize("container", cases(ANY_CONTAINER))
def test_every_container_may_have_no_rows(container):
    texts = read_texts(container([]))
    assert texts.unique == []
    assert texts.codes.shape == (0,)
    assert texts.codes.dtype == np.intp


@pytest.mark.parametrize(
    "container", cases({"list": [], "float array": np.array([]), "frame": pd.DataFrame({"a": []})})
)
def test_no_rows_need_no_type(container):
    assert len(read_texts(container)) == 0


def test_unique_texts_stand_in_order_of_first_appearance():
    assert read_texts(["z", "a", "z", "m", "a"]).unique == ["z", "a", "m"]


def test_texts_that_look_alike_stay_apart():
    composed, decomposed = "\u00e9", "e\u0301"
    assert read_texts([composed, decomposed, "a", "A", " a", "a "]).codes.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "column",
    cases(
        {
            "Series": pd.Series(pd.Categorical(["b", "a", "b"], categories=["unused", "a", "b", 5])),
            "Categorical": pd.Categorical(["b", "a", "b"], categories=["unused", "a", "b", 5]),
            "polars Enum": pl.Series(["b", "a", "b"], dtype=pl.Enum(["unused", "a", "b"])),
            "arrow dictionary": pa.DictionaryArray.from_arrays([2, 1, 2], ["unused", "a", "b"]),
        }
    ),
)
def test_a_category_that_no_row_uses_is_not_read(column):
    assert read_texts(column).unique == ["b", "a"]


def test_a_frame_may_call_its_one_column_anything():
    assert read_texts(pd.DataFrame([["a"]], columns=[None])).unique == ["a"]


@pytest.mark.parametrize("column", cases({"Series": object_series(TEXTS), "frame": pd.DataFrame({"text": TEXTS})}))
def test_a_slice_with_gaps_in_its_index_is_read_by_position(column):
    assert read_texts(column[::-2]).codes.tolist() == [0, 1, 2, 3]


def test_a_strided_array_is_read_by_position():
    assert read_texts(np.array(TEXTS)[::-2]).unique == ["a", "naïve 🦊", "", "b"]


def test_a_masked_row_is_missing():
    masked = np.ma.array(["a", "b"], mask=[False, True])
    assert read_texts(masked, missing="zero").codes.tolist() == [0, -1]


def test_reading_leaves_the_container_as_it_was():
    column = pd.Series(["b", None, "b"], dtype=object)
    before = column.copy(deep=True)
    read_texts(column, missing="empty")
    pd.testing.assert_series_equal(column, before)


@pytest.mark.parametrize("container", cases(WITH_MISSING))
@pytest.mark.parametrize("missing", ["zero", "nan"])
def test_a_missing_row_has_the_code_minus_one(container, missing):
    texts = read_texts(container(["b", None, "a", None]), missing=missing)
    assert texts.unique == ["b", "a"]
    assert texts.codes.tolist() == [0, -1, 1, -1]


@pytest.mark.parametrize("container", cases(WITH_MISSING))
def test_a_missing_row_may_become_the_empty_text(container):
    texts = read_texts(container(["b", None, "", None]), missing="empty")
    assert texts.unique == ["b", ""]
    assert texts.codes.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("container", cases(WITH_MISSING))
def test_a_missing_row_is_an_error_unless_something_else_is_asked_for(container):
    with pytest.raises(ValueError, match=r"^X\[2\] .*is missing"):
        read_texts(container(["b", "a", None, None]))


@pytest.mark.parametrize("container", cases(WITH_MISSING))
def test_all_rows_may_be_missing(container):
    texts = read_texts(container([None, None]), missing="nan")
    assert texts.unique == []
    assert texts.codes.tolist() == [-1, -1]


@pytest.mark.parametrize("value", cases(MISSING_VALUES))
@pytest.mark.parametrize(
    ("missing", "codes"), [("empty", [0, 1]), ("zero", [0, -1]), ("nan", [0, -1])], ids=["empty", "zero", "nan"]
)
def test_every_kind_of_missing_value_follows_the_policy(value, missing, codes):
    assert read_texts(["a", value], missing=missing).codes.tolist() == codes


@pytest.mark.parametrize("value", cases(MISSING_VALUES))
def test_every_kind_of_missing_value_is_an_error_by_default(value):
    with pytest.raises(ValueError, match=r"^X\[1\] is missing"):
        read_texts(["a", value])


@pytest.mark.parametrize(
    "column",
    cases(
        {
            "float array": np.array([np.nan, np.nan]),
            "datetime64 array": np.array(["NaT", "NaT"], dtype="datetime64[ns]"),
            "timedelta64 array": np.array(["NaT", "NaT"], dtype="timedelta64[ns]"),
            "float Series": pd.Series([np.nan, np.nan]),
            "datetime Series": pd.Series([pd.NaT, pd.NaT]),
            "nullable integer Series": pd.Series([None, None], dtype="Int64"),
            "polars nulls": pl.Series([None, None]),
            "polars nan": pl.Series([float("nan"), None]),
            "arrow nulls": pa.nulls(2),
            "arrow nan": pa.array([float("nan"), None]),
        }
    ),
)
def test_a_column_without_any_text_may_have_another_type(column):
    assert read_texts(column, missing="zero").codes.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("column", "where"),
    [
        pytest.param(["a", None], "X[1]", id="list"),
        pytest.param(pl.Series(["a", None]), "X[1]", id="polars"),
        pytest.param(pa.array(["a", None]), "X[1]", id="arrow"),
        pytest.param(pd.Index(["a", None], dtype=object), "X[1]", id="Index"),
        pytest.param(pd.Series(["a", None]), "X[1] (index label 1)", id="default index"),
        pytest.param(pd.Series(["a", None], index=["x", "y"]), "X[1] (index label 'y')", id="string labels"),
        pytest.param(pd.Series(["a", None], index=[7, 9]), "X[1] (index label 9)", id="integer labels"),
        pytest.param(pd.Series(["a", None], index=[0.5, 1.5]), "X[1] (index label 1.5)", id="float labels"),
        pytest.param(pd.Series(["a", None], index=["x", "x"]), "X[1] (index label 'x')", id="repeated labels"),
        pytest.param(
            pd.Series(["a", None], index=pd.MultiIndex.from_tuples([("x", "u"), ("y", "v")])),
            "X[1] (index label ('y', 'v'))",
            id="two-level labels",
        ),
        pytest.param(pd.DataFrame({"a": ["b", None]}, index=["x", "y"]), "X[1] (index label 'y')", id="frame"),
        pytest.param(pd.DataFrame({"a": ["b", None]}, index=[7, 9]), "X[1] (index label 9)", id="frame, integers"),
    ],
)
def test_an_error_names_the_position_and_the_index_label(column, where):
    with pytest.raises(ValueError, match=re.escape(where) + " is missing"):
        read_texts(column)


def test_a_wrong_element_is_named_by_its_index_label_too():
    with pytest.raises(TypeError, match=r"^X\[1\] \(index label 'y'\) is int, not str"):
        read_texts(pd.Series(["a", 5], index=["x", "y"], dtype=object))


def test_a_lone_surrogate_is_named_by_its_index_label_too():
    with pytest.raises(ValueError, match=r"^X\[1\] \(index label 'y'\) has a lone surrogate"):
        read_texts(pd.Series(["a", "\ud800"], index=["x", "y"], dtype=object))


@pytest.mark.parametrize(("row", "name"), [(0, "X[0] (index label 'x')"), (1, "X[1] (index label 'y')")])
def test_texts_name_a_row_as_the_user_knows_it(row, name):
    assert read_texts(pd.Series(["a", "b"], index=["x", "y"])).where(row) == name


def test_texts_without_labels_name_a_row_by_its_position():
    assert read_texts(["a", "b"]).where(1) == "X[1]"


def test_texts_are_as_long_as_their_container():
    assert len(read_texts(["a", "a", "b"])) == 3


def test_a_missing_row_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match="missing='empty', 'zero' or 'nan'"):
        read_texts([None])


@pytest.mark.parametrize("text", cases({"str": "a lone text", "empty str": "", "numpy str": np.str_("a")}))
def test_a_single_string_is_refused_with_the_fix(text):
    with pytest.raises(TypeError, match=r"^X is a single str; pass a list"):
        read_texts(text)


@pytest.mark.parametrize(
    "thing",
    cases(
        {
            "bytes": b"a",
            "bytearray": bytearray(b"a"),
            "memoryview": memoryview(b"a"),
            "generator": (text for text in "ab"),
            "iterator": iter(["a"]),
            "set": {"a"},
            "frozenset": frozenset("a"),
            "dict": {"a": "b"},
            "dict keys": {"a": "b"}.keys(),
            "int": 5,
            "float": 0.5,
            "bool": True,
            "None": None,
            "NA": pd.NA,
            "object": object(),
            "object whose array cannot be had": NoArray(),
            "type": str,
            "polars LazyFrame": pl.LazyFrame({"a": ["b"]}),
            "polars expression": pl.col("a"),
            "arrow scalar": pa.scalar("a"),
            "groupby": pd.DataFrame({"a": ["b"]}).groupby("a"),
        }
    ),
)
def test_a_value_that_is_not_a_column_is_refused(thing):
    with pytest.raises(TypeError, match=r"^X is "):
        read_texts(thing)


def test_a_numpy_number_is_refused():
    with pytest.raises((TypeError, ValueError), match=r"^X is "):
        read_texts(np.int64(5))


def test_a_generator_is_not_used_up_by_the_refusal():
    generator = (text for text in ["first", "second"])
    with pytest.raises(TypeError):
        read_texts(generator)
    assert next(generator) == "first"


def test_a_lazy_frame_is_refused_with_the_fix():
    with pytest.raises(TypeError, match=r"LazyFrame; collect\(\) it first"):
        read_texts(pl.LazyFrame({"a": ["b"]}))


@pytest.mark.parametrize(
    ("array", "n_dimensions"),
    [
        pytest.param(np.array("a"), 0, id="0-d text"),
        pytest.param(np.array(None, dtype=object), 0, id="0-d object"),
        pytest.param(np.array(5), 0, id="0-d integer"),
        pytest.param(np.full((2, 1, 1), "a"), 3, id="3-d"),
    ],
)
def test_an_array_of_other_dimensions_is_refused(array, n_dimensions):
    with pytest.raises(ValueError, match=f"^X is an array of {n_dimensions} dimensions"):
        read_texts(array)


@pytest.mark.parametrize(
    ("table", "n_columns"),
    [
        pytest.param(np.full((3, 2), "a"), 2, id="array"),
        pytest.param(np.full((1, 3), "a", dtype=object), 3, id="one row of an array"),
        pytest.param(np.empty((3, 0), dtype=object), 0, id="array without columns"),
        pytest.param(pd.DataFrame({"a": ["x"], "b": ["y"]}), 2, id="pandas"),
        pytest.param(pd.DataFrame([["x", "y"]], columns=["a", "a"]), 2, id="pandas, repeated names"),
        pytest.param(pd.DataFrame(index=[1, 2]), 0, id="pandas without columns"),
        pytest.param(pl.DataFrame({"a": ["x"], "b": ["y"]}), 2, id="polars"),
        pytest.param(pl.DataFrame(), 0, id="polars without columns"),
        pytest.param(pa.table({"a": ["x"], "b": ["y"]}), 2, id="arrow Table"),
        pytest.param(pa.record_batch({"a": ["x"], "b": ["y"]}), 2, id="arrow RecordBatch"),
        pytest.param(pa.table({}), 0, id="arrow Table without columns"),
    ],
)
def test_a_table_must_have_one_column(table, n_columns):
    with pytest.raises(ValueError, match=f"^X has {n_columns} columns.*pass one column"):
        read_texts(table)


@pytest.mark.parametrize(
    "frame",
    cases(
        {
            "pandas": pd.DataFrame({"title": ["x"], "body": ["y"]}),
            "polars": pl.DataFrame({"title": ["x"], "body": ["y"]}),
            "arrow": pa.table({"title": ["x"], "body": ["y"]}),
        }
    ),
)
def test_several_columns_are_named(frame):
    with pytest.raises(ValueError, match=r"'title', 'body'"):
        read_texts(frame)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        pytest.param(5, "int", id="int"),
        pytest.param(0.5, "float", id="float"),
        pytest.param(float("inf"), "float", id="infinity"),
        pytest.param(True, "bool", id="bool"),
        pytest.param(np.int64(5), "int64", id="numpy integer"),
        pytest.param(np.bool_(False), "bool", id="numpy bool"),
        pytest.param(Decimal(1), "Decimal", id="Decimal"),
        pytest.param(pd.Timestamp("2026-01-01"), "Timestamp", id="Timestamp"),
        pytest.param(b"a", "bytes", id="bytes"),
        pytest.param(bytearray(b"a"), "bytearray", id="bytearray"),
        pytest.param(("a", "b"), "tuple", id="tuple of two strings"),
        pytest.param(["a"], "list", id="list"),
        pytest.param([], "list", id="empty list"),
        pytest.param({"a": "b"}, "dict", id="dict"),
        pytest.param({"a"}, "set", id="set"),
        pytest.param(np.array(["a"]), "ndarray", id="array"),
        pytest.param(np.array(np.nan), "ndarray", id="0-d array of nan"),
        pytest.param(pd.Series([None]), "Series", id="Series of None"),
        pytest.param(str, "type", id="the type str"),
        pytest.param(object(), "object", id="object"),
    ],
)
def test_an_element_that_is_not_a_text_is_refused_by_its_type(value, kind):
    with pytest.raises(TypeError, match=rf"^X\[2\] is {kind}_?, not str"):
        read_texts(["a", None, value, 6], missing="zero")


@pytest.mark.parametrize("missing", ["error", "empty", "zero", "nan"])
def test_no_policy_for_missing_rows_lets_a_number_pass(missing):
    with pytest.raises(TypeError, match=r"^X\[0\] is int, not str"):
        read_texts([5], missing=missing)


@pytest.mark.parametrize(
    "column",
    cases(
        {
            "integer array": np.array([1, 2]),
            "float array": np.array([[1.0], [2.0]]),
            "bytes array": np.array([b"a"]),
            "date array": np.array(["2026-01-01"], dtype="datetime64[D]"),
            "record array": np.array([("a",)], dtype=[("text", "U1")]),
            "integer Series": pd.Series([1, 2]),
            "category of integers": pd.Series([1, 2], dtype="category"),
            "MultiIndex": pd.MultiIndex.from_tuples([("a", "b")]),
            "range": range(2),
            "polars integers": pl.Series([1, 2]),
            "polars lists": pl.Series([["a"]]),
            "polars structs": pl.DataFrame({"a": ["b"]}).to_struct(),
            "polars binary": pl.Series([b"a"]),
            "arrow integers": pa.array([1, 2]),
            "arrow binary": pa.array([b"a"]),
            "arrow lists": pa.array([["a"]]),
        }
    ),
)
def test_a_column_of_something_else_is_refused_at_its_first_row(column):
    with pytest.raises(TypeError, match=r"^X\[0\] .*not str"):
        read_texts(column)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        pytest.param(b"a", "Decode it", id="bytes"),
        pytest.param(("a", "b"), "join its parts", id="tuple"),
        pytest.param(["a"], "join its parts", id="list"),
        pytest.param(5, r"Convert it with str\(\)", id="number"),
        pytest.param([0.6, 0.8], r"is a vector of 2 numbers, not str\. Vectors are not embedded again", id="vector"),
        pytest.param(np.zeros(2), r"column\.to_numpy\('float32'\)", id="vector of numpy"),
    ],
)
def test_a_refused_element_comes_with_a_remedy(value, advice):
    with pytest.raises(TypeError, match=advice):
        read_texts([value])


@pytest.mark.parametrize(
    "column",
    cases(
        {
            "vector column": pd.Series(VectorArray([[0.6, 0.8]])),
            "frame with one": pd.DataFrame({"v": VectorArray([[0.6, 0.8]])}),
            "arrow lists": pa.array([[0.6, 0.8]]),
            "polars arrays": pl.Series([[0.6, 0.8]], dtype=pl.Array(pl.Float32, 2)),
        }
    ),
)
def test_vectors_are_refused_as_vectors(column):
    with pytest.raises(
        TypeError, match=r"^X\[0\].* is a vector of 2 numbers, not str\. Vectors are not embedded again"
    ):
        read_texts(column)


def test_a_matrix_is_refused_as_one():
    with pytest.raises(ValueError, match=r"X is a matrix of numbers, shape \(3, 2\).* Vectors are not embedded again"):
        read_texts(np.zeros((3, 2)))


@pytest.mark.parametrize("text", cases({"alone": "\ud800", "low half": "\udc00", "after others": "né\ud83d"}))
def test_a_lone_surrogate_is_refused(text):
    with pytest.raises(ValueError, match=rf"^X\[2\] has a lone surrogate at character {len(text) - 1}"):
        read_texts(["a", "a", text, text])


REPAIR = re.compile(r"text\.encode\(.*\)(?=\.$)")


@pytest.mark.parametrize(
    "text", cases({"alone": "\ud83d\ude00", "inside": "né \ud83e\udd8a!", "two": "\ud83d\ude00\ud83e\udd8a"})
)
def test_the_advice_for_a_pair_of_surrogates_restores_the_character(text):
    with pytest.raises(ValueError, match=r"^X\[1\] has a pair of surrogates at character \d") as caught:
        read_texts(["a", text])
    repaired = eval(REPAIR.search(str(caught.value))[0], {"text": text})  # as a reader of the message would
    assert repaired == text.encode("utf-16", "surrogatepass").decode("utf-16")
    assert read_texts([repaired]).unique == [repaired]


@pytest.mark.parametrize(
    ("text", "at", "repaired"),
    [
        ("\ud83d\ude00\ud83d b", 2, "😀\ufffd b"),
        ("\ude00\ud83d", 0, "\ufffd\ufffd"),
        ("a\ud83d\ud83d\ude00", 1, "a\ufffd😀"),
    ],
    ids=["after a pair", "in the wrong order", "before a pair"],
)
def test_the_advice_for_a_lone_surrogate_loses_nothing_else(text, at, repaired):
    with pytest.raises(ValueError, match=rf"^X\[0\] has a lone surrogate at character {at}") as caught:
        read_texts([text])
    assert eval(REPAIR.search(str(caught.value))[0], {"text": text}) == repaired


def test_a_lone_surrogate_is_refused_in_a_numpy_array():
    with pytest.raises(ValueError, match=r"^X\[1\] has a lone surrogate"):
        read_texts(np.array(["a", "\ud800"]))


@pytest.mark.parametrize("later", cases({"number": 5, "missing": None, "bytes": b"a"}))
def test_a_lone_surrogate_is_named_before_what_is_wrong_further_down(later):
    with pytest.raises(ValueError, match=r"^X\[1\] has a lone surrogate"):
        read_texts(["a", "\ud800", later])


def test_a_whole_surrogate_pair_written_as_one_character_is_text():
    assert read_texts(["\U0001f98a"]).unique == ["🦊"]


def test_an_enum_that_is_a_string_is_read_as_its_value():
    assert read_texts([Colour.RED, "red"]).unique == ["red"]


def test_a_string_subclass_is_read_as_its_characters_whatever_its_methods_return():
    assert read_texts([Pretender("a"), Pretender("b"), "a"]).codes.tolist() == [0, 1, 0]


PLAIN_TEXT = st.text(max_size=6) | st.sampled_from(["", "a", "a\0", "\0", "🦊", "é"])
ANY_TEXT = PLAIN_TEXT | st.text(st.characters(), max_size=4) | st.sampled_from(["\ud800", "a\udfff"])
MISSING_VALUE = st.sampled_from(
    [value for name, value in MISSING_VALUES.items() if name != "signaling Decimal NaN"]  # has a test of its own
)
ODD_TEXT = st.builds(np.str_, PLAIN_TEXT) | st.builds(Pretender, PLAIN_TEXT) | st.just(Colour.RED)
NO_TEXT = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.binary(max_size=3)
    | st.lists(PLAIN_TEXT, max_size=2)
    | st.tuples(PLAIN_TEXT, PLAIN_TEXT)
    | st.sets(PLAIN_TEXT, max_size=2)
    | st.dictionaries(PLAIN_TEXT, PLAIN_TEXT, max_size=1)
    | st.dates()
)
MOSTLY_TEXT = st.lists(PLAIN_TEXT | PLAIN_TEXT | MISSING_VALUE | ODD_TEXT, max_size=8)
ANYTHING = st.lists(PLAIN_TEXT | ANY_TEXT | MISSING_VALUE | ODD_TEXT | NO_TEXT, max_size=8)


def is_missing(value):
    return any(value is known for known in MISSING_VALUES.values())


def characters(value):
    return str.__str__(value)


def is_offence(value, missing):
    if is_missing(value):
        return missing == "error"
    return not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in characters(value))


def back_to_rows(texts):
    return [None if code == -1 else texts.unique[code] for code in texts.codes]


@settings(max_examples=400, deadline=None)
@given(
    values=MOSTLY_TEXT | ANYTHING,
    container=st.sampled_from(sorted(OF_ANYTHING)),
    missing=st.sampled_from(["error", "empty", "zero", "nan"]),
)
def test_any_content_is_either_read_faithfully_or_refused_at_its_first_offence(values, container, missing):
    column = OF_ANYTHING[container](values)
    offences = [row for row, value in enumerate(values) if is_offence(value, missing)]
    if offences:
        with pytest.raises((TypeError, ValueError), match=rf"^X\[{offences[0]}\] ") as caught:
            read_texts(column, missing=missing)
        assert type(caught.value) in (TypeError, ValueError)
        return
    absent = "" if missing == "empty" else None
    expected = [absent if is_missing(value) else characters(value) for value in values]
    texts = read_texts(column, missing=missing)
    assert back_to_rows(texts) == expected
    assert texts.unique == list(dict.fromkeys(text for text in expected if text is not None))


@settings(max_examples=300, deadline=None)
@given(values=st.lists(PLAIN_TEXT | st.none(), max_size=8), container=st.sampled_from(sorted(WITH_MISSING)))
def test_any_text_passes_any_container_unchanged(values, container):
    assert back_to_rows(read_texts(WITH_MISSING[container](values), missing="nan")) == values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=6).map(lambda text: text.rstrip("\0")), max_size=8))
def test_any_text_that_numpy_can_hold_passes_unchanged(values):
    assert back_to_rows(read_texts(np.array(values, dtype="U"))) == values
