"""The vector column: input, output, and that pandas handles it like other columns."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from packaging.version import Version
from pandas.testing import assert_frame_equal, assert_series_equal
from sklearn.cluster import KMeans

from skembed import VectorArray, VectorDtype

PANDAS = Version(pd.__version__)
DIM = 4
MATRIX = np.arange(24, dtype=np.float32).reshape(6, DIM)
ROWS = [[1.0, 2.0], None, [3.0, 4.0]]
NAN = float("nan")


def matrix_of(column) -> np.ndarray:
    return np.asarray(column, dtype=np.float32)


@pytest.fixture
def vectors() -> pd.Series:
    """Six vectors, the third missing."""
    matrix = MATRIX.copy()
    matrix[2] = np.nan
    return pd.Series(VectorArray(matrix), index=list("abcdef"), name="v")


def fixed_size(rows, number=None):
    return pa.array(rows, type=pa.list_(number or pa.float32(), 2))


class TestTheType:
    def test_its_name_says_the_dimensions(self):
        assert VectorDtype(384).name == repr(VectorDtype(384)) == "vector[float32, 384]"
        assert pd.api.types.pandas_dtype("vector[float32, 384]") == VectorDtype(384) == "vector[float32, 384]"
        assert VectorDtype(384) != VectorDtype(383)
        assert VectorDtype(384) != "object"

    def test_its_str_is_object_so_that_any_pandas_reads_its_parquet_files(self):
        assert str(VectorDtype(384)) == "object"

    @pytest.mark.parametrize(
        "name", ["vector", "vector[float32]", "vector[float64, 3]", "vector[float32, 0]", "object"]
    )
    def test_other_names_are_not_its_own(self, name):
        with pytest.raises(TypeError, match="Cannot construct a 'VectorDtype'"):
            VectorDtype.construct_from_string(name)

    @pytest.mark.parametrize(("dim", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("3", TypeError)])
    def test_dimensions_are_a_positive_integer(self, dim, error):
        with pytest.raises(error):
            VectorDtype(dim)


class TestIn:
    @pytest.mark.parametrize(
        "rows",
        [
            ROWS,
            [np.array([1.0, 2.0]), None, np.array([3.0, 4.0], dtype=np.float16)],
            [(1, 2), NAN, [3, 4]],
            pd.Series([[1.0, 2.0], pd.NA, [3.0, 4.0]]),
            np.array([[1.0, 2.0], None, np.array([3.0, 4.0])], dtype=object),
            fixed_size(ROWS),
            fixed_size(ROWS, pa.float64()),
            fixed_size(ROWS, pa.int8()),
            fixed_size([[0.0, 0.0], *ROWS])[1:],
            pa.array(ROWS),
            pa.array(ROWS, type=pa.large_list(pa.float64())),
            pa.chunked_array([fixed_size(ROWS[:1]), fixed_size(ROWS[1:])]),
            pa.chunked_array([], type=pa.list_(pa.float64(), 2)),
            fixed_size([]),
            np.ma.masked_invalid(np.array([[1, 2], [NAN, NAN], [3, 4]])),
            np.ma.masked_invalid(np.array([[1, 2], [NAN, NAN], [3, 4]], dtype=np.float32)),
            np.array([[1, 2], [NAN, NAN], [3, 4]]).view(np.matrix),
            np.array([[1, 2], [NAN, NAN], [3, 4]], dtype=">f8", order="F")[:, ::1],
            pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), fixed_size(ROWS)),
            pd.Series(fixed_size(ROWS), dtype=pd.ArrowDtype(pa.list_(pa.float32(), 2))),
            pd.Series(pa.array(ROWS), dtype=pd.ArrowDtype(pa.list_(pa.float64()))),
            pd.DataFrame({"x": [1.0, np.nan, 3.0], "y": [2, None, 4]}),
            pd.DataFrame({"x": pd.array([1, None, 3], dtype="Int8"), "y": pd.array([2.0, None, 4.0], dtype="Float32")}),
            pd.DataFrame({"v": ROWS}),
            np.array([[1, 2], [NAN, NAN], [3, 4]]),
            VectorArray(ROWS),
            pd.Series(VectorArray(ROWS)),
        ],
        ids=lambda rows: f"{type(rows).__name__}-{getattr(rows, 'type', getattr(rows, 'dtype', ''))}",
    )
    def test_every_kind_of_vectors_is_read(self, rows):
        expected = np.array([[1, 2], [NAN, NAN], [3, 4]], dtype=np.float32)[: len(rows)]
        array = VectorArray(rows)
        assert_array_equal(matrix_of(array), expected)
        assert array.isna().tolist() == [False, True, False][: len(rows)]
        assert array.dtype == "vector[float32, 2]"

    @pytest.mark.parametrize(
        "column",
        [
            pd.Series(ROWS, dtype=object),
            pd.Series([None if row is None else np.array(row) for row in ROWS], dtype=object),
            pd.Series(fixed_size(ROWS), dtype=pd.ArrowDtype(pa.list_(pa.float32(), 2))),
            pd.Series(pa.array(ROWS), dtype=pd.ArrowDtype(pa.list_(pa.float64()))),
            pd.Series([None, None, None], dtype=object),
        ],
        ids=["lists", "arrays", "fixed-size", "lists-of-arrow", "all-missing"],
    )
    def test_astype_makes_a_vector_column(self, column):
        made = column.astype("vector[float32, 2]")
        assert made.dtype == VectorDtype(2)
        assert made.isna().tolist() == column.isna().tolist()

    def test_a_float32_matrix_is_not_copied_unless_asked(self):
        assert np.shares_memory(matrix_of(VectorArray(MATRIX)), MATRIX)
        assert not np.shares_memory(matrix_of(VectorArray(MATRIX, copy=True)), MATRIX)

    @pytest.mark.parametrize("part", [slice(None), slice(1, 3)], ids=["whole", "slice"])
    def test_an_arrow_column_without_nulls_is_not_copied(self, part):
        array = pa.FixedSizeListArray.from_arrays(pa.array(MATRIX.reshape(-1)), DIM)[part]
        assert np.shares_memory(matrix_of(VectorArray(array)), array.flatten().to_numpy())
        assert_array_equal(matrix_of(VectorArray(array)), MATRIX[part])

    @pytest.mark.parametrize(
        ("rows", "error", "message"),
        [
            ([[1, 2], [1, 2, 3]], ValueError, r"vectors\[0\] has 2 dimensions, not 3"),
            ([[1, 2], None, "text"], TypeError, r"vectors\[2\] is str, not a vector of numbers"),
            ([[1, 2], 3.0], TypeError, r"vectors\[1\] is float, not a vector"),
            ([["1", "2"]], TypeError, r"vectors\[0\] is an array of <U1, shape \(2,\), not a vector"),
            ([[1, None]], TypeError, r"vectors\[0\] is an array of object"),
            ([[[1, 2]]], TypeError, r"vectors\[0\] is an array of int64, shape \(1, 2\)"),
            ([], ValueError, "The number of dimensions is unknown"),
            ([None, None], ValueError, "The number of dimensions is unknown"),
            ([[]], ValueError, "The number of dimensions is unknown"),
            (np.zeros((2, 0)), ValueError, r"has the shape \(n_rows, dim\); got \(2, 0\)"),
            (np.zeros((2, 2, 2)), ValueError, r"got \(2, 2, 2\)"),
            (np.array([["a"]]), TypeError, "holds real numbers; got <U1"),
            (np.array([[1j]]), TypeError, "holds real numbers; got complex128"),
            (pd.DataFrame({"x": [1.0], "name": ["a"]}), TypeError, "Column 'name' does not hold real numbers"),
            (pa.array(["a"]), TypeError, "holds lists of numbers; got string"),
            (pa.array([["a"]]), TypeError, "holds lists of numbers; got list<"),
            (pa.array([[1.0], [1.0, 2.0]]), ValueError, r"vectors\[0\] has 1 dimensions, not 2"),
            (pa.table({"v": [[1.0]]}), TypeError, "Table is not a column of vectors; give one column of it"),
            (pl.DataFrame({"x": [1.0], "y": [2.0]}), TypeError, "DataFrame is not a column of vectors"),
            (pa.scalar(1.0), TypeError, "not from DoubleScalar"),
            (3, TypeError, "3 is not a column of vectors"),
            ("text", TypeError, "'text' is not a column of vectors"),
            (pd.DataFrame({"x": [1j], "y": [1.0]}), TypeError, "Column 'x' does not hold real numbers"),
            (pd.DataFrame({"x": [True], "y": [1.0]}), TypeError, "Column 'x' does not hold real numbers"),
        ],
    )
    def test_values_that_are_not_vectors_are_one_clear_error(self, rows, error, message):
        with pytest.raises(error, match=message):
            VectorArray(rows)

    @pytest.mark.parametrize(
        "rows",
        [[[1, 2]], np.ones((1, 2)), fixed_size([[1, 2]]), VectorArray([[1, 2]])],
        ids=lambda rows: type(rows).__name__,
    )
    def test_a_wrong_length_is_an_error_that_says_both(self, rows):
        with pytest.raises(ValueError, match="2 dimensions, not 3"):
            pd.array(rows, dtype="vector[float32, 3]") if isinstance(rows, list) else VectorArray._from_sequence(
                rows, dtype=VectorDtype(3)
            )


class TestOut:
    def test_numpy_gets_the_matrix_without_a_copy(self, vectors):
        assert np.shares_memory(matrix_of(vectors), matrix_of(vectors.array))
        assert np.shares_memory(vectors.to_numpy("float32"), matrix_of(vectors.array))
        assert vectors.to_numpy("float32").shape == matrix_of(vectors).shape == (6, DIM)
        assert_array_equal(matrix_of(vectors)[[0, 1, 3, 4, 5]], MATRIX[[0, 1, 3, 4, 5]])

    def test_numpy_gets_a_copy_where_it_asks_for_one(self, vectors):
        assert not np.shares_memory(np.array(vectors.array, dtype=np.float32), matrix_of(vectors))
        assert not np.shares_memory(vectors.to_numpy("float32", copy=True), matrix_of(vectors))
        assert vectors.to_numpy("float64").dtype == np.float64

    @pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="copy=False is no promise before numpy 2")
    def test_numpy_gets_an_error_where_it_forbids_a_copy_that_is_needed(self, vectors):
        assert np.shares_memory(np.array(vectors.array, dtype=np.float32, copy=False), matrix_of(vectors))
        for dtype in (None, object, np.float64):
            with pytest.raises(ValueError, match="without a copy"):
                np.array(vectors.array, dtype=dtype, copy=False)

    def test_missing_rows_of_the_matrix_become_what_the_user_says(self, vectors):
        assert np.isnan(matrix_of(vectors)[2]).all()
        assert (vectors.to_numpy("float32", na_value=0)[2] == 0).all()

    def test_as_objects_each_row_is_a_vector_or_missing(self, vectors):
        objects = vectors.to_numpy()
        assert objects.shape == np.asarray(vectors).shape == (6,)
        assert objects[2] is pd.NA
        assert_array_equal(objects[1], MATRIX[1])
        assert vectors.to_numpy(object, na_value=None)[2] is None
        assert_array_equal(np.stack(vectors.dropna()), np.delete(MATRIX, 2, axis=0))

    def test_the_matrix_does_not_let_the_column_be_changed(self, vectors):
        for matrix in (matrix_of(vectors), vectors.to_numpy("float32"), vectors.array.to_numpy("float32")):
            with pytest.raises(ValueError, match="read-only"):
                matrix /= 2
        vectors.to_numpy("float32", copy=True)[:] = 0
        assert_array_equal(vectors.iloc[0], MATRIX[0])

    def test_vectors_that_were_taken_out_never_change_with_the_column(self, vectors):
        ways = (
            lambda: vectors.iloc[0],
            lambda: next(iter(vectors)),
            lambda: vectors.tolist()[0],
            lambda: vectors.astype(object).iloc[0],
            lambda: vectors.to_frame().to_dict("records")[0]["v"],
        )
        taken = [take() for take in ways]
        taken[0][:] = 9
        assert_array_equal(vectors.iloc[0], MATRIX[0])
        vectors.iloc[0] = MATRIX[5]
        for vector in taken[1:]:
            assert_array_equal(vector, MATRIX[0])

    def test_two_rows_can_be_swapped(self, vectors):
        vectors.iloc[0], vectors.iloc[1] = vectors.iloc[1], vectors.iloc[0]
        assert_array_equal(matrix_of(vectors)[:2], MATRIX[[1, 0]])

    def test_a_missing_vector_cannot_be_an_integer(self, vectors):
        assert vectors.dropna().to_numpy("int64").dtype == np.int64
        assert vectors.to_numpy("int64", na_value=0)[2].tolist() == [0] * DIM
        with pytest.raises(ValueError, match="A missing vector cannot be int64"):
            vectors.to_numpy("int64")

    def test_it_does_not_become_a_column_of_numbers(self, vectors):
        with pytest.raises(
            TypeError, match=r"cannot become a column of float32; for the matrix use \.to_numpy\('float32'\)"
        ):
            vectors.astype("float32")

    def test_it_becomes_texts_and_objects(self, vectors):
        assert vectors.astype(object).dtype == object
        assert vectors.astype(str).iloc[0] == vectors.astype("string").iloc[0] == "[0.0, 1.0, 2.0, 3.0]"
        assert vectors.astype("string").isna().tolist() == [False, False, True, False, False, False]

    @pytest.mark.parametrize("write", [lambda column: column.to_csv(index=False), lambda column: column.astype(str)])
    def test_long_vectors_of_small_numbers_are_written_in_full(self, write):
        matrix = np.float32(10) ** np.linspace(-30, 2, 1500, dtype=np.float32) / 3
        written = write(pd.Series(VectorArray([matrix])))
        text = pd.read_csv(io.StringIO(written)).iloc[0, 0] if isinstance(written, str) else written.iloc[0]
        assert_array_equal(np.array(json.loads(text), dtype=np.float32), matrix)

    def test_objects_are_plain_arrays_to_pickle_and_repr(self, vectors):
        taken = vectors.astype(object).iloc[0]
        assert type(pickle.loads(pickle.dumps(taken))) is np.ndarray
        assert repr(taken) == repr(MATRIX[0])
        assert str(np.stack([taken, taken])) == str(MATRIX[[0, 0]])

    @pytest.mark.parametrize("dtype", ["float64", "float16"])
    def test_a_matrix_of_other_numbers_is_the_callers_own(self, dtype, vectors):
        for matrix in (np.asarray(vectors, dtype=dtype), vectors.to_numpy(dtype)):
            assert matrix.flags.writeable
            assert not np.shares_memory(matrix, vectors.array._matrix)

    def test_estimators_that_center_their_input_take_the_column(self, vectors):
        column = vectors.dropna()
        labels = KMeans(2, n_init=1, random_state=0).fit(column).predict(column)
        expected = KMeans(2, n_init=1, random_state=0).fit_predict(column.to_numpy("float64"))
        assert_array_equal(labels, expected)

    def test_arrow_gets_fixed_size_lists_with_nulls(self, vectors):
        array = pa.array(vectors)
        assert array.type == pa.list_(pa.float32(), DIM)
        assert array.null_count == 1
        assert array[1].as_py() == MATRIX[1].tolist()
        assert pa.array(vectors.array, type=pa.list_(pa.float64(), DIM)).type.value_type == pa.float64()
        assert pa.Table.from_pandas(vectors.to_frame())["v"].null_count == 1

    def test_arrow_shares_the_matrix(self):
        assert np.shares_memory(pa.array(VectorArray(MATRIX)).flatten().to_numpy(), MATRIX)

    def test_json_has_lists(self, vectors):
        assert vectors[:3].to_json() == '{"a":[0.0,1.0,2.0,3.0],"b":[4.0,5.0,6.0,7.0],"c":null}'

    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
    def test_copies_and_pickles_are_equal(self, vectors, make):
        assert_series_equal(make(vectors), vectors)

    def test_it_is_shown_short_in_a_terminal_and_in_html(self):
        column = pd.Series(VectorArray([np.linspace(0, 1, 384), np.full(384, np.nan)]))
        assert repr(column) == (
            "0    [0, 0.00261, ..., 0.997, 1]\n1                           <NA>\ndtype: vector[float32, 384]"
        )
        assert "<td>[0, 0.00261, ..., 0.997, 1]</td>" in column.to_frame()._repr_html_()
        assert "<td>&lt;NA&gt;</td>" in column.to_frame()._repr_html_()

    def test_the_array_names_its_type(self, vectors):
        assert repr(vectors.array[:1]) == "<VectorArray>\n[[0, 1, 2, 3]]\nLength: 1, dtype: vector[float32, 4]"

    def test_info_names_the_type(self, vectors):
        buffer = io.StringIO()
        vectors.to_frame().info(buf=buffer)
        assert "vector[float32, 4](1)" in buffer.getvalue()


class TestEquality:
    def test_columns_are_compared_row_by_row_and_missing_equals_nothing(self, vectors):
        assert (vectors == vectors).tolist() == [True, True, False, True, True, True]
        assert (vectors != vectors).tolist() == [False, False, True, False, False, False]

    def test_one_vector_is_compared_with_every_row(self, vectors):
        assert (vectors.array == MATRIX[1]).tolist() == [False, True, False, False, False, False]
        assert (vectors.array == MATRIX[1].tolist()).tolist() == [False, True, False, False, False, False]

    def test_nothing_equals_a_number_a_text_or_missing(self, vectors):
        for other in (1.0, "a", None, pd.NA):
            assert not (vectors.array == other).any()

    def test_other_lengths_are_errors(self, vectors):
        with pytest.raises(ValueError, match="Lengths must match"):
            vectors.array == vectors.array[:3]  # noqa: B015
        with pytest.raises(ValueError, match="2 dimensions, not 4"):
            vectors.array == VectorArray(np.ones((6, 2)))  # noqa: B015

    def test_equals_takes_missing_as_equal(self, vectors):
        assert vectors.equals(vectors.copy())
        assert not vectors.equals(vectors[::-1])
        partly = pd.Series(VectorArray(np.array([[np.nan, 1.0], [-np.nan, 1.0]])))
        assert partly.equals(partly.copy())
        assert partly.nunique() == 1

    def test_arithmetic_is_refused(self, vectors):
        for operation in (lambda: vectors + 1, lambda: vectors * vectors, lambda: np.sqrt(vectors), lambda: -vectors):
            with pytest.raises(TypeError):
                operation()

    def test_zeros_of_either_sign_are_one_vector(self):
        column = pd.Series(VectorArray([[0.0, 1.0], [-0.0, 1.0]]))
        assert (column.iloc[:1].array == column.iloc[1:].array).all()
        assert column.nunique() == 1


class TestAsAColumn:
    @pytest.fixture
    def df(self, vectors):
        return vectors.to_frame().assign(n=[5, 3, 4, 1, 2, 0], group=list("xyxyxx"))

    def test_it_follows_when_rows_are_sorted_by_another_column(self, df):
        by_n = df.sort_values("n")
        assert_array_equal(matrix_of(by_n["v"])[[0, 1, 2]], MATRIX[[5, 3, 4]])
        assert by_n["v"].isna().tolist() == [False, False, False, False, True, False]

    def test_rows_can_be_sorted_by_it_as_by_tuples(self):
        rows = [[1.0, -2.0], [1.0, -3.0], [-1.0, 0.0], None, [0.0, 9.0]]
        column = pd.Series(VectorArray(rows))
        assert column.sort_values().index.tolist() == [2, 4, 1, 0, 3]
        assert column.sort_values(ascending=False).index.tolist() == [0, 1, 4, 2, 3]

    def test_concat_keeps_the_type_and_fills_with_missing(self, df):
        both = pd.concat([df, df[["n"]]])
        assert both["v"].dtype == VectorDtype(DIM)
        assert both["v"].isna().sum() == 1 + 6
        assert pd.concat([df["v"], df["v"]]).dtype == VectorDtype(DIM)

    def test_merge_carries_it_along(self, df):
        other = pd.DataFrame({"n": [0, 1, 9]})
        merged = other.merge(df, on="n", how="left")
        assert merged["v"].isna().tolist() == [False, False, True]
        assert_array_equal(matrix_of(merged["v"])[:2], MATRIX[[5, 3]])

    def test_merge_on_it_finds_equal_vectors(self, df):
        merged = df[["v", "n"]].dropna().merge(df[["v", "group"]], on="v")
        assert merged["n"].tolist() == [5, 3, 1, 2, 0]

    def test_groups_have_a_first_and_a_last_vector(self, df):
        first, last = df.groupby("group")["v"].first(), df.groupby("group")["v"].last()
        assert first.dtype == last.dtype == VectorDtype(DIM)
        assert_array_equal(matrix_of(first), MATRIX[[0, 1]])
        assert_array_equal(matrix_of(last), MATRIX[[5, 3]])

    def test_a_groups_first_vector_is_not_the_missing_one(self, df):
        assert_array_equal(matrix_of(df[2:].groupby("group").first()["v"]), MATRIX[[4, 3]])
        assert df[2:3].groupby("group").first()["v"].isna().all()

    def test_groups_by_vector(self, df):
        doubled = pd.concat([df, df])
        assert doubled.groupby("v")["n"].sum().tolist() == [10, 6, 2, 4, 0]
        assert doubled.groupby("v", dropna=False)["n"].size().tolist() == [2] * 6

    def test_explode_puts_the_numbers_one_below_the_other(self, df):
        made = df["v"][1:4].explode()
        assert made.dtype == np.float32
        assert made.index.tolist() == ["b"] * 4 + ["c"] + ["d"] * 4
        assert_array_equal(made.to_numpy(), [*MATRIX[1], np.nan, *MATRIX[3]])
        counts = df[["v", "n"]].explode("v")["n"].value_counts().to_dict()
        assert counts == {5: 4, 3: 4, 4: 1, 1: 4, 2: 4, 0: 4}

    def test_the_most_frequent_vectors_are_its_mode(self, df):
        doubled = pd.concat([df["v"], df["v"][3:5]])
        assert_array_equal(matrix_of(doubled.mode()), MATRIX[[3, 4]])

    def test_duplicates_are_found_and_dropped(self, df):
        doubled = pd.concat([df, df])
        assert_frame_equal(doubled.drop_duplicates("v"), df)
        assert doubled["v"].duplicated().tolist() == [False] * 6 + [True] * 6
        assert_series_equal(doubled["v"].drop_duplicates(), df["v"])
        assert doubled["v"].nunique() == 5
        assert_frame_equal(doubled.drop_duplicates(), df)

    def test_unique_counts_and_membership(self, df):
        doubled = pd.concat([df["v"], df["v"][:1]])
        assert doubled.unique().equals(df["v"].array)
        assert doubled.value_counts().tolist() == [2, 1, 1, 1, 1]
        assert doubled.value_counts(dropna=False).sum() == 7
        assert df["v"].isin([MATRIX[1], MATRIX[3]]).tolist() == [False, True, False, True, False, False]
        assert df["v"].isin([None, MATRIX[0]]).tolist() == [True, False, True, False, False, False]
        assert not df["v"].isin(df["v"][:0]).any()
        assert not df["v"].isin(["a", 1, [1.0, 2.0], [["a"]]]).any()
        assert df["v"].isin(df["v"]).all()
        assert df.isin(["x", 5]).sum().to_dict() == {"v": 0, "n": 1, "group": 4}

    def test_describe_counts(self, df):
        described = df.describe(include="all")["v"]
        assert described["count"] == 5
        assert described["unique"] == 5
        assert df["v"].describe()["freq"] == 1

    def test_missing_vectors_are_found_dropped_and_filled(self, df):
        assert df["v"].isna().tolist() == [False, False, True, False, False, False]
        assert df.dropna()["v"].notna().all()
        assert_array_equal(matrix_of(df["v"].ffill())[2], MATRIX[1])
        assert_array_equal(matrix_of(df["v"].fillna(pd.Series({"c": MATRIX[0]})))[2], MATRIX[0])

    def test_a_partly_nan_vector_is_not_missing(self):
        assert VectorArray(np.array([[np.nan, 1.0], [np.nan, np.nan]])).isna().tolist() == [False, True]

    def test_reindexing_and_shifting_leave_gaps(self, vectors):
        assert vectors.reindex(["a", "z"]).isna().tolist() == [False, True]
        assert vectors.shift(1).isna().tolist() == [True, False, False, True, False, False]
        assert vectors.where(vectors.index == "a").notna().tolist() == [True] + [False] * 5

    def test_reshaping_keeps_it(self, df):
        wide = df.assign(row=[0, 0, 1, 1, 2, 3]).set_index(["row", "group"])["v"].unstack()
        assert wide["x"].dtype == VectorDtype(DIM)
        assert wide["y"].isna().tolist() == [False, False, True, True]
        assert df.explode("n")["v"].dtype == VectorDtype(DIM)

    def test_vectors_are_set_by_position_label_and_mask(self, vectors):
        vectors.iloc[0] = MATRIX[5]
        vectors.iloc[1:3] = [MATRIX[5], None]
        vectors.loc["d"] = pd.NA
        vectors[vectors.index == "e"] = VectorArray(MATRIX[:1])
        expected = MATRIX[[5, 5, 5, 5, 0, 5]]
        expected[[2, 3]] = np.nan
        assert_array_equal(matrix_of(vectors), expected)

    def test_numbers_that_pandas_has_aligned_with_rows_are_not_a_vector(self):
        column = pd.Series(VectorArray([None, None, [1.0, 2.0]]))
        with pytest.raises(ValueError, match=r"2 numbers for 2 vectors; to set all to one, give \[vector\]"):
            column.fillna(pd.Series([5.0, 6.0, 7.0]))
        with pytest.raises(ValueError, match="2 numbers for 2 vectors"):
            column.where([True, False, False], np.array([7.0, 8.0, 9.0]))
        column[:2] = [np.array([5.0, 6.0])] * 2
        assert_array_equal(matrix_of(column)[:2], [[5, 6], [5, 6]])

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ([1.0, 2.0], ValueError, "2 dimensions, not 4"),
            (1.0, TypeError, "1.0 is not a vector of numbers"),
            ("text", TypeError, "'text' is not a vector"),
            (["a", "b", "c", "d"], TypeError, r"vectors\[0\] is str, not a vector"),
        ],
    )
    def test_a_value_that_is_not_a_vector_is_not_set(self, vectors, value, error, message):
        with pytest.raises(error, match=message):
            vectors.array.copy()[0] = value
        with pytest.raises(error, match=message):
            vectors.array.take([0, -1], allow_fill=True, fill_value=value)

    def test_taking_can_fill_with_a_vector(self, vectors):
        taken = vectors.array.take([1, -1], allow_fill=True, fill_value=MATRIX[0])
        assert_array_equal(matrix_of(taken), MATRIX[[1, 0]])

    def test_a_column_over_read_only_memory_is_copied_when_it_is_written_to(self):
        matrix = MATRIX.copy()
        matrix.flags.writeable = False
        array = VectorArray(matrix)
        array[0] = np.zeros(DIM)
        assert_array_equal(matrix_of(array)[0], np.zeros(DIM))
        assert_array_equal(matrix, MATRIX)

    def test_views_see_changes_and_copies_do_not(self):
        array = VectorArray(MATRIX.copy())
        view, copied = array.view(), array.copy()
        array[0] = None
        assert view.isna()[0]
        assert not copied.isna()[0]
        with pytest.raises(NotImplementedError):
            array.view("float32")


MODEL, OTHER_MODEL = "bert 0123456789abcdef", "roberta fedcba9876543210"


def arrow_series(vectors) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(vectors)))


class TestTheModel:
    """A column notes which model made its vectors, as long as it was one."""

    @pytest.fixture
    def df(self) -> pd.DataFrame:
        column = pd.Series(VectorArray(MATRIX, model=MODEL), index=list("abcdef"))
        return pd.DataFrame({"v": column, "n": range(6), "group": list("xyxyxz")})

    @pytest.mark.parametrize(
        "make",
        [
            lambda df: df["v"],
            lambda df: df["v"][1:3],
            lambda df: df["v"][:0],
            lambda df: df["v"].iloc[[3, 1]],
            lambda df: df.loc[df["n"] > 2, "v"],
            lambda df: df.query("n > 2")["v"],
            lambda df: df["v"].take([1]),
            lambda df: df["v"].sample(3, random_state=0),
            lambda df: df["v"].copy(),
            lambda df: copy.copy(df["v"]),
            lambda df: copy.deepcopy(df["v"]),
            lambda df: pickle.loads(pickle.dumps(df["v"])),
            lambda df: pd.Series(df["v"].array.view()),
            lambda df: pd.Series(VectorArray(df["v"])),
            lambda df: pd.Series(VectorArray(df[["v"]])),
            lambda df: pd.Series(df["v"], dtype=VectorDtype(DIM)),
            lambda df: pd.concat([df["v"], df["v"]]),
            lambda df: pd.concat([df, df[:0], df])["v"],
            lambda df: pd.concat([df, df[["n"]]])["v"],
            lambda df: pd.concat([df["v"], pd.Series(VectorArray(np.full((2, DIM), np.nan)))]),
            lambda df: df["v"].reindex(["z", "b"]),
            lambda df: df["v"].sort_values(ascending=False),
            lambda df: df.sort_values("n", ascending=False)["v"],
            lambda df: df.groupby("group").head(1)["v"],
            lambda df: df.merge(pd.DataFrame({"n": [1, 9]}), on="n", how="outer")["v"],
            lambda df: df[["n"]].join(df["v"]),
            lambda df: df.set_index("v").reset_index()["v"],
            lambda df: df.explode("n")["v"],
            lambda df: df.pivot(index="n", columns="group", values="v")["x"],
            lambda df: df["v"].shift(1),
            lambda df: df["v"].where(df["n"] > 2).ffill(),
            lambda df: df["v"].where(df["n"] > 2).fillna(df["v"]),
            lambda df: df["v"].repeat(2).drop_duplicates(),
            lambda df: pd.Series(df["v"].unique()),
            lambda df: pd.Series(df["v"].factorize()[1]),
            lambda df: df["v"].astype(VectorDtype(DIM)),
            lambda df: arrow_series(df["v"]).astype(VectorDtype(DIM)),
            lambda df: pd.Series(VectorArray(arrow_series(df["v"])[1:3])),
            lambda df: pd.Series(VectorArray(pa.array(df["v"]))),
            lambda df: pd.Series(VectorArray(pa.Table.from_pandas(df)["v"])),
            lambda df: pd.Series(VectorArray(pa.concat_tables([pa.Table.from_pandas(df)] * 2)["v"])),
        ],
    )
    def test_it_is_kept(self, make, df):
        made = make(df)
        assert (made["v"] if isinstance(made, pd.DataFrame) else made).array.model == MODEL

    @pytest.mark.skipif(Version("3") > PANDAS, reason="older ones make the column anew from a list of its vectors")
    def test_it_is_kept_by_astype_to_a_type_of_arrow_and_back(self, df):
        lists = df["v"].astype(pd.ArrowDtype(pa.list_(pa.float32(), DIM)))
        assert lists.astype(VectorDtype(DIM)).array.model == MODEL

    @pytest.mark.skipif(Version("3.1") > PANDAS, reason="older ones make the column anew from a list of its vectors")
    def test_it_is_kept_by_the_first_and_last_of_groups(self, df):
        for made in (df.groupby("group").first()["v"], df.groupby("group")["v"].last()):
            assert made.array.model == MODEL

    @pytest.mark.parametrize(
        "value", [pd.NA, None, VectorArray(MATRIX[:1], model=MODEL), pd.Series(VectorArray(MATRIX[:1], model=MODEL))]
    )
    def test_it_is_kept_when_a_vector_of_the_same_model_or_none_is_set(self, value, df):
        array = df["v"].array.copy()
        array[:1] = value
        assert array.model == MODEL

    @pytest.mark.parametrize(
        "other",
        [VectorArray(MATRIX, model=OTHER_MODEL), VectorArray(MATRIX)],
        ids=["of another model", "of nobody knows which"],
    )
    @pytest.mark.parametrize(
        "make",
        [
            lambda one, other: pd.concat([pd.Series(one), pd.Series(other)]).array,
            lambda one, other: pd.concat([pd.Series(other), pd.Series(one)]).array,
            lambda one, other: pd.concat([pd.DataFrame({"v": one}), pd.DataFrame({"v": other})])["v"].array,
            lambda one, other: pd.Series(one).where([True] * 3 + [False] * 3, pd.Series(other)).array,
            lambda one, other: VectorArray(pa.chunked_array([pa.array(one), pa.array(other)])),
            lambda one, other: VectorArray(
                pa.concat_tables([pa.Table.from_pandas(pd.DataFrame({"v": array})) for array in (one, other)])["v"]
            ),
            lambda one, other: VectorArray(pd.concat([arrow_series(one), arrow_series(other)])),
        ],
        ids=["concat", "concat reversed", "concat of frames", "where", "chunks", "tables", "ArrowDtype"],
    )
    def test_it_is_lost_where_vectors_come_together(self, make, other, df):
        assert make(df["v"].array, other).model is None

    @pytest.mark.parametrize("value", [VectorArray(MATRIX[:2], model=OTHER_MODEL), MATRIX[:2], MATRIX[:2].tolist()])
    def test_it_is_lost_when_vectors_of_others_are_set(self, value, df):
        array = df["v"].array.copy()
        array[:2] = value
        assert array.model is None
        assert df["v"].array.model == MODEL

    @pytest.mark.parametrize(
        "make", [lambda column: column.astype(object), list, lambda column: column.to_numpy("float32")]
    )
    def test_it_is_lost_where_vectors_are_plain_arrays(self, make, df):
        assert VectorArray(make(df["v"])).model is None

    def test_it_can_be_told(self):
        assert VectorArray(MATRIX).model is None
        assert VectorArray(VectorArray(MATRIX, model=OTHER_MODEL), model=MODEL).model == MODEL
        with pytest.raises(TypeError, match="model must be a str or None; got int"):
            VectorArray(MATRIX, model=3)

    def test_it_has_no_part_in_equality_or_type(self, df):
        one, other = df["v"].array, VectorArray(MATRIX, model=OTHER_MODEL)
        assert (one == other).all()
        assert one.equals(other)
        assert one.dtype == other.dtype
        assert hash(one.dtype) == hash(other.dtype)
        assert pa.array(one).type == pa.array(other).type
        assert pa.array(one).equals(pa.array(other))
        assert_series_equal(pd.Series(one), pd.Series(other))
        assert pd.Series(one).isin(other).all()

    def test_embedding_notes_name_and_fingerprint_without_the_folder(self, tiny):
        for folder in (tiny, tiny + "/"):
            model = pd.Series(["a fox"]).embed(output="vector", model=folder).array.model
            assert re.fullmatch(r"bert [0-9a-f]{16}", model)

    def test_parameters_other_than_the_model_are_not_in_it(self, tiny):
        column = pd.Series(["a fox"])
        plain, cut = (column.embed(output="vector", model=tiny, truncate_dim=dim).array for dim in (None, 8))
        assert plain.model == cut.model


finite = st.floats(width=32, allow_nan=False, allow_infinity=True)
matrices = arrays(
    np.float32, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=finite | st.just(np.float32(NAN))
)


class TestProperties:
    @given(matrix=matrices, data=st.data())
    def test_taking_rows_is_taking_rows_of_the_matrix(self, matrix, data):
        rows = data.draw(
            st.lists(st.integers(-len(matrix), len(matrix) - 1), max_size=9) if len(matrix) else st.just([])
        )
        taken = VectorArray(matrix).take(np.array(rows, dtype=np.intp))
        assert_array_equal(matrix_of(taken), matrix[np.array(rows, dtype=np.intp)])

    @given(matrix=matrices)
    def test_every_way_out_and_in_keeps_the_bits_of_vectors_that_are_there(self, matrix):
        array, dtype = VectorArray(matrix), VectorDtype(matrix.shape[1])
        for rows in (pa.array(array), list(array), array.astype(object), pd.Series(array)):
            back = VectorArray._from_sequence(rows, dtype=dtype)
            assert back.isna().tolist() == array.isna().tolist()
            is_there = ~array.isna()
            assert matrix_of(back)[is_there].tobytes() == matrix[is_there].tobytes()

    @given(matrix=matrices)
    def test_missing_is_where_every_number_is_nan(self, matrix):
        assert VectorArray(matrix).isna().tolist() == np.isnan(matrix).all(axis=1).tolist()

    @given(matrix=arrays(np.float32, st.tuples(st.integers(0, 8), st.just(2)), elements=finite))
    def test_the_order_is_that_of_tuples(self, matrix):
        order = VectorArray(matrix).argsort(kind="stable")
        expected = sorted(range(len(matrix)), key=lambda row: tuple(matrix[row].tolist()))
        assert order.tolist() == expected

    @given(
        matrix=arrays(
            np.float32, st.tuples(st.integers(0, 8), st.just(2)), elements=st.sampled_from([-0.0, 0.0, 1.0, NAN])
        )
    )
    def test_codes_are_equal_where_vectors_are(self, matrix):
        codes, uniques = VectorArray(matrix).factorize(use_na_sentinel=False)
        for row, one in enumerate(matrix):
            for other_row, other in enumerate(matrix):
                both_missing = np.isnan(one).all() and np.isnan(other).all()
                is_equal = np.array_equal(one, other, equal_nan=True)
                assert (codes[row] == codes[other_row]) == (both_missing or is_equal)
        assert_array_equal(matrix_of(uniques)[codes], matrix)

    @given(
        matrix=arrays(
            np.float32, st.tuples(st.integers(0, 8), st.just(2)), elements=st.sampled_from([-0.0, 0.0, 1.0, 0.5, NAN])
        )
    )
    @settings(deadline=None)
    def test_pandas_finds_the_same_vectors_by_every_way(self, matrix):
        keys = [tuple("nan" if np.isnan(number) else float(number) + 0.0 for number in row) for row in matrix]
        column = pd.Series(VectorArray(matrix), name="v")
        frame = column.to_frame().assign(row=range(len(matrix)))
        distinct = list(dict.fromkeys(keys))
        assert column.duplicated().tolist() == [key in keys[:row] for row, key in enumerate(keys)]
        assert len(column.unique()) == len(frame.drop_duplicates("v")) == len(distinct)
        assert column.nunique(dropna=False) == len(distinct)
        assert sorted(column.value_counts(dropna=False)) == sorted(map(keys.count, distinct))
        for part in (slice(None), slice(0, 1), slice(1, 4)):
            assert column.isin(column[part]).tolist() == [key in keys[part] for key in keys]
            assert column.isin(list(column[part])).tolist() == [key in keys[part] for key in keys]
        groups = frame.groupby("v", dropna=False, sort=False)["row"].ngroup().tolist()
        assert groups == list(map(distinct.index, keys))
        pairs = [[row, other] for row, key in enumerate(keys) for other, its in enumerate(keys) if key == its]
        for how in ("inner", "left", "right", "outer"):
            merged = frame.merge(frame, on="v", how=how)
            assert sorted(merged[["row_x", "row_y"]].to_numpy().tolist()) == pairs
            assert merged["v"].dtype == column.dtype

    @given(matrix=arrays(np.float32, st.tuples(st.integers(1, 8), st.just(2)), elements=finite))
    @settings(deadline=None)
    def test_what_is_merged_or_grouped_in_order_is_in_the_order_of_vectors(self, matrix):
        frame = pd.DataFrame({"v": VectorArray(matrix)})
        expected = matrix_of(frame.drop_duplicates().sort_values("v")["v"])
        assert_array_equal(matrix_of(frame.merge(frame, on="v", sort=True)["v"].drop_duplicates()), expected)
        assert_array_equal(np.stack(list(frame.groupby("v").size().index)), expected)
