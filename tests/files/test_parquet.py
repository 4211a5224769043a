"""Vector columns in parquet files: pandas writes them, other libraries read them, and they come back bit for bit."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pandas.testing import assert_frame_equal

import skembed
from skembed import VectorArray


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    vectors[[1, 4]] = np.nan
    rows = {"v": VectorArray(vectors), "review": ["a", None, "c", "d", "e"], "n": [1, 2, 3, 4, 5]}
    return pd.DataFrame(rows, index=pd.Index(list("xyzyx"), name="id"))


@pytest.fixture(scope="module")
def file(df, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "df.parquet"
    df.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def noted(df) -> pd.DataFrame:
    return df.assign(v=VectorArray(df["v"].array, model="bert 0123456789abcdef"))


@pytest.fixture(scope="module")
def noted_file(noted, tmp_path_factory):
    path = tmp_path_factory.mktemp("noted") / "df.parquet"
    noted.to_parquet(path)
    return path


def test_a_frame_comes_back_as_it_was(df, file):
    assert_frame_equal(skembed.read_parquet(file), df)


def test_20000_vectors_of_384_come_back_bit_for_bit_and_missing_stays_missing(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20_000, 384)).astype(np.float32)
    is_missing = rng.random(20_000) < 0.01
    vectors[is_missing] = np.nan
    pd.DataFrame({"v": VectorArray(vectors)}).to_parquet(tmp_path / "v.parquet")
    back = skembed.read_parquet(tmp_path / "v.parquet")["v"]
    assert back.dtype == "vector[float32, 384]"
    assert (back.isna() == is_missing).all()
    assert back[~is_missing].to_numpy("float32").tobytes() == vectors[~is_missing].tobytes()
    by_pandas = pd.read_parquet(tmp_path / "v.parquet")["v"].astype("vector[float32, 384]")
    assert by_pandas.equals(back)


@settings(deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(1, 4)), elements=st.floats(width=32)))
def test_any_vectors_come_back(vectors):
    df = pd.DataFrame({"v": VectorArray(vectors)})
    file = io.BytesIO()
    df.to_parquet(file)
    assert_frame_equal(skembed.read_parquet(file), df)


def test_a_pandas_without_skembed_reads_arrays(df, file):
    code = (
        f"import pandas, sys; v = pandas.read_parquet({str(file)!r})['v']\n"
        "assert 'skembed' not in sys.modules\n"
        "print(v.dtype, v.isna().tolist(), v.iloc[0].tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == f"object [False, True, False, False, True] {df['v'].iloc[0].tolist()}"


def test_pandas_reads_arrays_and_astype_makes_vectors_of_them(df, file):
    plain = pd.read_parquet(file)
    assert plain["v"].dtype == object
    assert_frame_equal(plain.astype({"v": "vector[float32, 3]"}), df)


def test_pandas_with_arrow_types_reads_lists_and_astype_makes_vectors_of_them(df, file):
    lists = pa.parquet.read_table(file).to_pandas(types_mapper=pd.ArrowDtype)["v"]
    assert lists.astype("vector[float32, 3]").equals(df["v"].set_axis(lists.index))


def test_pyarrow_reads_fixed_size_lists(df, file):
    column = pa.parquet.read_table(file)["v"]
    assert pa.types.is_fixed_size_list(column.type)
    assert column.to_pylist() == [None if vector is pd.NA else vector.tolist() for vector in df["v"]]


def test_polars_reads_arrays(df, file):
    polars = pytest.importorskip("polars")
    column = polars.read_parquet(file)["v"]
    assert column.to_list() == [None if vector is pd.NA else vector.tolist() for vector in df["v"]]


def test_duckdb_reads_lists(df, file):
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(f"select v from '{file}'").fetchall()
    assert [row and list(row) for (row,) in rows] == [None if row is pd.NA else row.tolist() for row in df["v"]]


def test_columns_and_filters_are_chosen_as_with_pyarrow(df, file):
    assert skembed.read_parquet(file, columns=["v"]).columns.tolist() == ["v"]
    assert skembed.read_parquet(file, filters=[("n", ">", 3)])["n"].tolist() == [4, 5]


def test_a_folder_of_files_is_read_as_one(df, tmp_path):
    for number in range(2):
        df.reset_index().to_parquet(tmp_path / f"{number}.parquet")
    assert len(skembed.read_parquet(tmp_path)) == 10


def test_lists_that_are_not_float32_vectors_stay_as_pandas_reads_them():
    file = io.BytesIO()
    table = pa.table({"place": pa.array([[1.0, 2.0]], type=pa.list_(pa.float64(), 2)), "words": [["a", "b"]]})
    pa.parquet.write_table(table, file)
    assert skembed.read_parquet(file).dtypes.tolist() == [np.dtype(object)] * 2


def test_a_null_among_the_numbers_is_nan_as_for_pandas():
    file = io.BytesIO()
    places = pa.array([[1.0, None], [None, None], None], type=pa.list_(pa.float32(), 2))
    pa.parquet.write_table(pa.table({"place": places}), file)
    column = skembed.read_parquet(file)["place"]
    assert column.isna().tolist() == [False, True, True]
    np.testing.assert_array_equal(column.iloc[0], pd.read_parquet(file)["place"].iloc[0])


def test_everything_else_is_read_as_pandas_reads_it():
    df = pd.DataFrame(
        {
            "text": ["a", None],
            "category": pd.Categorical(["x", "y"]),
            "when": pd.to_datetime(["2026-01-01", None]),
            "n": pd.array([1, None], dtype="Int64"),
            "string": pd.array(["a", None], dtype="string"),
            "flag": [True, False],
        }
    )
    df.attrs = {"source": "a test"}
    file = io.BytesIO()
    df.to_parquet(file)
    by_pandas, by_us = pd.read_parquet(file), skembed.read_parquet(file)
    assert_frame_equal(by_us, by_pandas)
    assert by_us.attrs == by_pandas.attrs == {"source": "a test"}


def test_a_missing_file_and_one_that_is_not_parquet_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        skembed.read_parquet(tmp_path / "none.parquet")
    (tmp_path / "other.parquet").write_text("no parquet")
    with pytest.raises(pa.ArrowInvalid):
        skembed.read_parquet(tmp_path / "other.parquet")


def test_without_pyarrow_vectors_work_and_reading_says_how_to_get_it(tmp_path):
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError(\"No module named 'pyarrow'\", name='pyarrow')")
    code = (
        "import pandas, skembed\n"
        "column = pandas.Series(skembed.VectorArray([[1.0, 2.0], None]))\n"
        "assert pandas.concat([column, column]).isna().sum() == 2\n"
        "try: skembed.read_parquet('any.parquet')\n"
        "except ImportError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "skembed.read_parquet needs pyarrow: pip install 'skembed[parquet]'."


class TestModel:
    """The file says which model made the vectors; readers that do not know of it read the file as before."""

    def test_it_comes_back(self, noted, noted_file):
        for columns in (None, ["v"]):
            back = skembed.read_parquet(noted_file, columns=columns)
            assert back["v"].array.model == "bert 0123456789abcdef"
            assert back["v"].array.equals(noted["v"].array)

    def test_a_file_without_it_has_none(self, file):
        assert skembed.read_parquet(file)["v"].array.model is None

    def test_it_comes_through_pyarrow_and_arrow_types(self, noted_file, tmp_path):
        table = pa.parquet.read_table(noted_file)
        pa.parquet.write_table(table, tmp_path / "again.parquet")
        for column in (
            skembed.read_parquet(tmp_path / "again.parquet")["v"],
            table["v"],
            table.to_pandas(types_mapper=pd.ArrowDtype)["v"],
            pd.read_parquet(noted_file, dtype_backend="pyarrow")["v"],
            pd.read_parquet(noted_file, dtype_backend="pyarrow")["v"].astype("vector[float32, 3]"),
        ):
            assert VectorArray(column).model == "bert 0123456789abcdef"

    def test_polars_and_plain_pandas_lose_the_model_and_keep_the_vectors(self, noted, noted_file, tmp_path):
        polars = pytest.importorskip("polars")
        through = polars.read_parquet(noted_file)
        through.write_parquet(tmp_path / "polars.parquet")
        for column in (
            skembed.read_parquet(tmp_path / "polars.parquet")["v"],
            pd.Series(VectorArray(through.to_arrow()["v"])),
            pd.read_parquet(noted_file)["v"].astype("vector[float32, 3]"),
        ):
            assert column.array.model is None
            assert column.array.equals(noted["v"].array)

    def test_several_files_of_one_model_have_it_and_those_of_two_have_none(self, noted, tmp_path):
        noted.to_parquet(tmp_path / "0.parquet")
        noted[:0].to_parquet(tmp_path / "1.parquet")
        noted.to_parquet(tmp_path / "2.parquet")
        assert skembed.read_parquet(tmp_path)["v"].array.model == "bert 0123456789abcdef"
        noted.assign(v=VectorArray(noted["v"].array, model="other fedcba9876543210")).to_parquet(tmp_path / "3.parquet")
        assert skembed.read_parquet(tmp_path)["v"].array.model is None

    def test_other_libraries_read_the_vectors_as_from_a_file_without_it(self, file, noted_file):
        assert pa.parquet.read_table(file).equals(pa.parquet.read_table(noted_file))
        assert_frame_equal(pd.read_parquet(noted_file), pd.read_parquet(file))
        polars = pytest.importorskip("polars")
        assert polars.read_parquet(noted_file).equals(polars.read_parquet(file))
        duckdb = pytest.importorskip("duckdb")
        first, second = (duckdb.sql(f"select * from '{path}'").fetchall() for path in (file, noted_file))
        assert first == second

    def test_a_column_whose_vectors_are_all_missing_comes_back(self, tmp_path):
        column = VectorArray(np.full((2, 3), np.nan), model="bert 0123456789abcdef")
        pd.DataFrame({"v": column}).to_parquet(tmp_path / "v.parquet")
        assert skembed.read_parquet(tmp_path / "v.parquet")["v"].array.model == "bert 0123456789abcdef"

    def test_no_path_of_the_machine_is_in_the_file(self, tiny, tmp_path):
        df = pd.DataFrame({"v": pd.Series(["a fox"]).embed(output="vector", model=tiny)})
        df.to_parquet(tmp_path / "v.parquet")
        written = (tmp_path / "v.parquet").read_bytes()
        assert os.path.dirname(tiny).encode() not in written
        assert skembed.read_parquet(tmp_path / "v.parquet")["v"].array.model == df["v"].array.model


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(OSError, match=r"a\.parquet is not a regular file"):
        skembed.read_parquet(tmp_path / "a.parquet")
