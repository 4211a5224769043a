"""The mean and the sum of vectors: of a column and of groups, as those of numbers in pandas are found and labelled."""

from __future__ import annotations

import tracemalloc
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from pandas.testing import assert_index_equal

import skembed
from skembed import VectorArray, VectorDtype
from skembed.frames import aggregation

PANDAS = Version(pd.__version__)
DIM = 3
MODEL = "bert 0123456789abcdef"
NAN = float("nan")
MATRIX = np.random.default_rng(0).standard_normal((8, DIM)).astype(np.float32)
MATRIX[[2, 7]] = np.nan
THERE = MATRIX[[0, 1, 3, 4, 5, 6]].astype(np.float64)


def matrix_of(column) -> np.ndarray:
    return np.asarray(column, dtype=np.float32)


@pytest.fixture
def df() -> pd.DataFrame:
    """Eight vectors, two of them missing; the last one is alone in its group."""
    return pd.DataFrame(
        {
            "v": VectorArray(MATRIX, model=MODEL),
            "n": range(8),
            "group": list("xyxyxzzw"),
            "half": [1, 1, 2, 2, 1, None, 2, 2],
            "kind": pd.Categorical(list("abababab"), categories=["b", "a", "c"]),
            "time": pd.to_datetime(["2026-01-01", "2026-01-02"] * 3 + ["2026-01-05", "2026-01-04"]),
        },
        index=pd.Index([f"row {number}" for number in range(8)], name="label"),
    )


# What returns a column of means or sums of df["v"].
GROUPINGS = {
    "by a column": lambda df, how: getattr(df.groupby("group")["v"], how)(),
    "by name of the operation": lambda df, how: df.groupby("group")["v"].agg(how),
    "of a frame": lambda df, how: getattr(df[["group", "v"]].groupby("group"), how)()["v"],
    "of some columns": lambda df, how: df.groupby("group").agg({"n": "sum", "v": how})["v"],
    "under a new name": lambda df, how: df.groupby("group").agg(new=("v", how))["new"],
    "with others": lambda df, how: df.groupby("group")["v"].agg(["count", how])[how],
    "by a function": lambda df, how: df.groupby("group")["v"].agg(lambda rows: getattr(rows, how)()),
    "without an index": lambda df, how: df.groupby("group", as_index=False)["v"].agg(how)["v"],
    "by another column": lambda df, how: df["v"].groupby(df["group"]).agg(how),
    "by a level": lambda df, how: df.set_index("group", append=True)["v"].groupby(level="group").agg(how),
    "by a function of the label": lambda df, how: df["v"].groupby(lambda label: label < "row 3").agg(how),
    "unsorted": lambda df, how: df[::-1].groupby("group", sort=False)["v"].agg(how),
    "by two columns": lambda df, how: df.groupby(["group", "half"])["v"].agg(how),
    "by a column with missing values": lambda df, how: df.groupby("half")["v"].agg(how),
    "by a column whose missing values are a group": lambda df, how: df.groupby("half", dropna=False)["v"].agg(how),
    "by categories": lambda df, how: df.groupby("kind", observed=False)["v"].agg(how),
    "by observed categories": lambda df, how: df.groupby("kind", observed=True)["v"].agg(how),
    "by categories and a column": lambda df, how: df.groupby(["kind", "group"], observed=False)["v"].agg(how),
    "of no rows": lambda df, how: df[:0].groupby("group")["v"].agg(how),
    "of missing rows": lambda df, how: df[df["v"].isna()].groupby("group")["v"].agg(how),
    "for every row": lambda df, how: df.groupby("group")["v"].transform(how),
    "for every row that has a group": lambda df, how: df.groupby("half")["v"].transform(how),
    "by day": lambda df, how: df.set_index("time")["v"].resample("D").agg(how),
    "of a frame by day": lambda df, how: getattr(df.resample("D", on="time")["v"], how)(),
    "by group and day": lambda df, how: df.set_index("time").groupby("group").resample("D")["v"].agg(how),
    "by group and frequency": lambda df, how: df.groupby(["group", pd.Grouper(key="time", freq="2D")])["v"].agg(how),
    "in a pivot table": lambda df, how: df.pivot_table("v", "group", aggfunc=how, dropna=False)["v"],
    "over columns": lambda df, how: df.groupby(["group", "half"])["v"].agg(how).unstack()[2.0],
}


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("name", GROUPINGS)
def test_a_mean_and_a_sum_of_vectors_are_where_pandas_has_those_of_numbers(name, how, df):
    group = GROUPINGS[name]
    made = group(df, how)
    numbers = [group(df.assign(v=column), how) for column in MATRIX.T.astype(np.float64)]
    expected = np.array(numbers).T.reshape(-1, DIM)
    if how == "sum":  # pandas' sum of no number is 0
        expected[group(df.assign(v=MATRIX[:, 0]), "mean").isna()] = np.nan
    assert made.dtype == VectorDtype(DIM)
    assert made.name == numbers[0].name
    assert_index_equal(made.index, numbers[0].index)
    assert_allclose(matrix_of(made), expected, rtol=1e-6)
    assert made.array.model == (None if name == "by a function" else MODEL)  # pandas gets vectors from a function


class TestAColumn:
    def test_it_has_a_mean_and_a_sum_without_the_missing_vectors(self, df):
        assert_allclose(df["v"].mean(), THERE.mean(axis=0), rtol=1e-6)
        assert_allclose(df["v"].sum(), THERE.sum(axis=0), rtol=1e-6)
        assert df["v"].mean().dtype == df["v"].sum().dtype == np.float32

    @pytest.mark.parametrize(
        "mean",
        [
            lambda df: df["v"].array.mean(),
            lambda df: np.mean(df["v"]),
            lambda df: np.mean(df["v"].array),
            lambda df: df["v"].agg("mean"),
            lambda df: df["v"].agg(["mean", "sum"])["mean"],
            lambda df: df[["v"]].mean()["v"],
            lambda df: df[["v", "n"]].mean()["v"],
            lambda df: df[["n", "v"]].agg("mean")["v"],
            lambda df: df[["v", "n"]].agg(["mean", "sum"]).loc["mean", "v"],
            lambda df: df.agg({"v": "mean", "n": "sum"})["v"],
        ],
    )
    def test_its_mean_is_the_same_by_every_way(self, mean, df):
        assert_array_equal(mean(df), df["v"].mean())

    def test_its_sum_is_the_same_by_every_way(self, df):
        for total in (df["v"].array.sum(), np.sum(df["v"]), np.sum(df["v"].array), df[["v", "n"]].sum()["v"]):
            assert_array_equal(total, df["v"].sum())

    def test_it_is_left_out_where_only_numbers_are_asked_for(self, df):
        assert df.mean(numeric_only=True).index.tolist() == ["n", "half"]
        assert df.groupby("group").sum(numeric_only=True).columns.tolist() == ["n", "half"]

    def test_two_columns_have_a_mean_in_every_row(self, df):
        made = df[["v"]].assign(other=df["v"][::-1].array).mean(axis=1)
        assert made.dtype == VectorDtype(DIM)
        both = np.stack([MATRIX, MATRIX[::-1]])
        expected = np.where(np.isnan(both[0]), both[1], np.where(np.isnan(both[1]), both[0], both.mean(axis=0)))
        assert_allclose(matrix_of(made), expected, rtol=1e-6)

    def test_missing_vectors_make_it_missing_where_they_are_not_left_out(self, df):
        for column in (df["v"], df["v"].array):
            assert column.mean(skipna=False) is column.sum(skipna=False) is pd.NA
            assert_array_equal(column[3:7].mean(skipna=False), column[3:7].mean())

    @pytest.mark.parametrize("rows", [slice(0), slice(2, 3)], ids=["no row", "a missing one"])
    @pytest.mark.parametrize("name", ["mean", "sum"])
    def test_without_a_vector_both_are_missing(self, name, rows, df):
        assert getattr(df["v"][rows], name)() is getattr(df["v"].array[rows], name)() is pd.NA
        assert getattr(df[rows].assign(group="x").groupby("group")["v"], name)().isna().all()

    def test_a_sum_can_need_more_vectors(self, df):
        assert df["v"].sum(min_count=7) is df["v"].array.sum(min_count=7) is pd.NA
        assert_array_equal(df["v"].sum(min_count=6), df["v"].sum())
        sums = df.groupby("group")["v"].sum(min_count=2)
        assert sums.isna().to_dict() == {"w": True, "x": False, "y": False, "z": False}

    @pytest.mark.skipif(Version("3") > PANDAS, reason="groups have had skipna since pandas 3")
    def test_groups_with_a_missing_vector_are_missing_where_it_is_not_left_out(self, df):
        for name in ("mean", "sum"):
            made = getattr(df.groupby("group")["v"], name)(skipna=False)
            assert made.isna().to_dict() == {"w": True, "x": True, "y": False, "z": False}

    def test_a_partly_nan_vector_counts(self):
        column = pd.Series(VectorArray(np.array([[NAN, 1.0], [2.0, 3.0]])))
        assert_array_equal(column.mean(), [NAN, 2.0])

    def test_infinite_and_very_large_sums_are_infinite(self):
        largest = np.finfo(np.float32).max
        column = pd.Series(VectorArray([[largest, np.inf, np.inf, 1.0], [largest, 1.0, -np.inf, 1.0]]))
        assert_array_equal(column.sum(), [np.inf, np.inf, NAN, 2.0])
        assert_array_equal(column.mean(), [largest, np.inf, NAN, 1.0])

    @pytest.mark.parametrize(
        ("arguments", "named"), [({"axis": 1}, "other axis"), ({"dtype": "float64"}, "dtype"), ({"out": 0}, "out")]
    )
    @pytest.mark.parametrize("function", [np.mean, np.sum])
    def test_what_else_numpy_knows_is_refused(self, function, arguments, named, df):
        with pytest.raises(TypeError, match=f"The {function.__name__} of a column of vectors .* it has no {named}"):
            function(df["v"].array, **arguments)


class TestTheResult:
    @pytest.fixture
    def means(self, df) -> pd.DataFrame:
        return df.groupby("group").agg(v=("v", "mean"), rows=("n", "count"))

    def test_it_goes_through_parquet(self, means, tmp_path):
        means.to_parquet(tmp_path / "means.parquet")
        back = skembed.read_parquet(tmp_path / "means.parquet")
        pd.testing.assert_frame_equal(back, means)
        assert back["v"].array.model == MODEL
        by_pandas = pd.read_parquet(tmp_path / "means.parquet")["v"].astype(VectorDtype(DIM))
        assert by_pandas.equals(means["v"])

    def test_it_goes_through_arrow_and_duckdb(self, means):
        table = pa.Table.from_pandas(means)
        assert table["v"].null_count == 1
        assert VectorArray(table["v"]).equals(means["v"].array)
        duckdb = pytest.importorskip("duckdb")
        rows = duckdb.sql('select "group", v[1], len(v) from "table" order by "group"').fetchall()
        assert [row[0] for row in rows] == list("wxyz")
        assert rows[0][1:] == (None, None)
        assert_array_equal(np.float32([row[1] for row in rows[1:]]), matrix_of(means["v"])[1:, 0])
        assert rows[1][2] == DIM

    def test_it_is_shown_like_other_vectors(self):
        means = pd.DataFrame({"v": VectorArray([[1.0, 0.0], [0.0, 1.0], None]), "g": ["a", "a", "b"]}).groupby("g")
        assert repr(means.mean()) == "            v\ng            \na  [0.5, 0.5]\nb        <NA>"
        assert repr(means["v"].sum()) == "g\na    [1, 1]\nb      <NA>\nName: v, dtype: vector[float32, 2]"

    def test_it_is_a_query_and_is_compared_by_its_direction(self, df):
        column = df["v"].dropna()
        search = skembed.SemanticSearch().fit(column)
        means = df.groupby("kind", observed=True)["v"].mean()
        hits = search.search(means, k=1)
        cosines = [
            matrix_of(column) @ mean / np.linalg.norm(matrix_of(column), axis=1) / np.linalg.norm(mean)
            for mean in means
        ]
        assert hits["position"].tolist() == [row.argmax() for row in cosines]
        assert_allclose(hits["score"], [row.max() for row in cosines], rtol=1e-5)

    def test_its_model_is_still_compared(self, df):
        others = pd.Series(VectorArray(THERE, model="roberta fedcba9876543210"))
        with pytest.raises(ValueError, match=r"(?s)roberta.*bert|bert.*roberta"):
            others.text.search(df.groupby("kind", observed=True)["v"].mean(), k=1)


class TestRefused:
    @pytest.mark.parametrize("name", ["min", "max", "std", "median", "prod", "any", "quantile", "cumsum"])
    def test_other_reductions_are_refused_with_what_there_is(self, name, df):
        with pytest.raises(
            TypeError,
            match=rf"A column of vectors does not support operation '{name}'; it has a mean and a sum. For others use",
        ):
            getattr(df["v"], name)()

    @pytest.mark.parametrize("name", ["min", "std", "median", "prod", "cumsum"])
    def test_other_operations_on_groups_are_refused_with_what_there_is(self, name, df):
        with pytest.raises(
            TypeError, match=rf"A group of vectors does not support operation '{name}'; it has a mean, a sum, a first"
        ):
            getattr(df.groupby("group")["v"], name)()

    @pytest.mark.parametrize(
        "compute",
        [
            lambda df: df["v"].rolling(2).mean(),
            lambda df: df["v"].rolling(2, win_type="triang").sum(),
            lambda df: df["v"].rolling(2).apply(len),
            lambda df: df[["v", "n"]].rolling(2).mean(),
            lambda df: df.groupby("group")["v"].rolling(2).mean(),
            lambda df: df.set_index("time")["v"].sort_index().rolling("2D").sum(),
            lambda df: df["v"].expanding().mean(),
            lambda df: df["v"].ewm(com=1).mean(),
            lambda df: df["v"].corr(df["v"]),
            lambda df: df[["v", "n"]].corr(),
        ],
    )
    def test_windows_and_correlations_are_refused_with_what_to_do(self, compute, df):
        with pytest.raises(
            pd.errors.DataError, match="does not have one number a row, so pandas cannot compute rolling"
        ):
            compute(df)

    def test_what_the_error_says_to_do_gives_the_means_of_windows(self, df):
        column = df["v"]
        made = VectorArray([rows.mean() for rows in column.rolling(3)])
        expected = [pd.DataFrame(MATRIX)[max(0, end - 3) : end].mean() for end in range(1, 9)]
        assert_allclose(matrix_of(made), expected, rtol=1e-6)


class TestAddingUp:
    @given(data=st.data())
    def test_sums_and_means_are_those_of_numpy_for_blocks_of_any_size(self, data):
        n_rows, n_groups, dim = (data.draw(st.integers(low, high)) for low, high in [(0, 20), (1, 5), (1, 4)])
        numbers = st.floats(-9, 9, width=32) | st.sampled_from([NAN, np.inf, -np.inf])
        matrix = data.draw(arrays(np.float32, (n_rows, dim), elements=numbers))
        rows = np.array(sorted(data.draw(st.sets(st.integers(0, n_rows - 1)))) if n_rows else [], dtype=np.intp)
        groups = data.draw(arrays(np.intp, len(rows), elements=st.integers(0, n_groups - 1)))
        divisors = data.draw(arrays(np.float64, n_groups, elements=st.sampled_from([1.0, 3.0, NAN])))
        with patch.object(aggregation, "_NUMBERS_PER_BLOCK", data.draw(st.integers(1, 30))):
            made = aggregation.add_up(matrix, rows, groups, divisors)
        for group in range(n_groups):
            own = matrix[rows[groups == group]].astype(np.float64)
            with np.errstate(invalid="ignore"):
                expected = own.sum(axis=0) / divisors[group] if len(own) else np.full(dim, NAN)
            assert_allclose(made[group], expected, rtol=1e-6, atol=1e-12)

    @given(
        matrix=arrays(np.float32, st.tuples(st.integers(0, 12), st.just(2)), elements=st.floats(-9, 9, width=32)),
        data=st.data(),
    )
    def test_groups_of_a_column_have_the_means_of_the_vectors_that_are_there(self, matrix, data):
        def draw(values):
            return np.array(data.draw(st.lists(values, min_size=len(matrix), max_size=len(matrix))), dtype=int)

        groups, is_missing = draw(st.integers(-1, 3)), draw(st.booleans()) == 1
        array = VectorArray(np.where(is_missing[:, None], np.float32(NAN), matrix))
        made = array._groupby_op(how="mean", has_dropped_na=True, min_count=-1, ngroups=4, ids=groups)
        for group in range(4):
            own = matrix[(groups == group) & ~is_missing].astype(np.float64)
            assert (made[group] is pd.NA) == (len(own) == 0)
            if len(own):
                assert_allclose(made[group], own.mean(axis=0), rtol=1e-6, atol=1e-12)

    def test_many_vectors_are_added_up_without_a_loss(self):
        column = pd.Series(VectorArray(np.full((100_000, 2), 0.1, dtype=np.float32)))
        assert_array_equal(column.mean(), np.full(2, 0.1, dtype=np.float32))

    @pytest.mark.parametrize("n_groups", [1, 1000])
    def test_the_vectors_are_not_copied_as_a_whole(self, n_groups):
        array = VectorArray(np.ones((200_000, 128), dtype=np.float32))
        column, groups = pd.Series(array, copy=False), np.arange(len(array)) % n_groups
        tracemalloc.start()
        made = column.groupby(groups).mean()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert_array_equal(matrix_of(made), np.ones((n_groups, 128)))
        assert peak < array.nbytes / 3
