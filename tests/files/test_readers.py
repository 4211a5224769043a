"""Other libraries read what embed_parquet writes: the same rows and the same vectors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from numpy.testing import assert_array_equal

import skembed

TEXTS = ["a fox", None, "a parcel", "", "the lazy dog", None, "a fox"]
QUERY = TEXTS.index("a parcel")


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory):
    """A folder of three parts, and what must be read from it."""
    folder = tmp_path_factory.mktemp("readers")
    source = folder / "source.parquet"
    pa.parquet.write_table(pa.table({"text": TEXTS, "n": range(len(TEXTS))}), source)
    skembed.embed_parquet(source, folder / "out", "text", model=tiny, rows_per_file=3)
    vectors = skembed.embed(TEXTS, model=tiny, missing="nan")
    lists = [None if text is None else vector.tolist() for text, vector in zip(TEXTS, vectors, strict=True)]
    return SimpleNamespace(folder=folder / "out", glob=f"{folder}/out/*.parquet", vectors=vectors, lists=lists)


def test_pandas_reads_the_folder_as_arrays(written):
    df = pd.read_parquet(written.folder)
    assert df.columns.tolist() == ["text", "n", "vector"]
    assert df["text"].isna().tolist() == [text is None for text in TEXTS]
    assert df["text"].dropna().tolist() == [text for text in TEXTS if text is not None]
    assert df["n"].tolist() == list(range(len(TEXTS)))
    assert [vector if vector is None else vector.tolist() for vector in df["vector"]] == written.lists


def test_skembed_reads_the_folder_as_a_vector_column(written):
    df = skembed.read_parquet(written.folder)
    assert df["n"].tolist() == list(range(len(TEXTS)))
    assert df["vector"].dtype == "vector[float32, 32]"
    assert df["vector"].isna().tolist() == [text is None for text in TEXTS]
    assert_array_equal(df["vector"].to_numpy("float32"), written.vectors)


def test_pyarrow_reads_the_folder_as_one_dataset(written):
    table = pa.dataset.dataset(written.folder).to_table()
    assert table.to_pydict() == {"text": TEXTS, "n": list(range(len(TEXTS))), "vector": written.lists}
    assert table.schema.field("vector").type.list_size == 32


@pytest.mark.parametrize("how", ["read_parquet", "scan_parquet"])
def test_polars_reads_the_files_as_arrays(written, how):
    polars = pytest.importorskip("polars")
    df = getattr(polars, how)(written.glob).lazy().collect()
    assert df.schema["vector"] == polars.Array(polars.Float32, 32)
    assert df.to_dict(as_series=False) == {"text": TEXTS, "n": list(range(len(TEXTS))), "vector": written.lists}


def test_duckdb_reads_the_files_as_lists(written):
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(f"select text, n, vector from '{written.glob}' order by n").fetchall()
    assert [row[:2] for row in rows] == list(zip(TEXTS, range(len(TEXTS)), strict=True))
    assert [row and list(row) for _, _, row in rows] == written.lists


def test_duckdb_finds_the_nearest(written):
    duckdb = pytest.importorskip("duckdb")
    nearest = duckdb.execute(
        f"select n from '{written.glob}' where vector is not null "
        "order by array_distance(vector::float[32], $1::float[32]) limit 1",
        [written.lists[QUERY]],
    ).fetchall()
    assert nearest == [(QUERY,)]


def test_datasets_reads_the_files_as_lists_of_a_fixed_length(written, tmp_path):
    datasets = pytest.importorskip("datasets")
    read = datasets.load_dataset("parquet", data_files=written.glob, cache_dir=str(tmp_path), split="train")
    assert read.features["vector"].length == 32
    assert read[:] == {"text": TEXTS, "n": list(range(len(TEXTS))), "vector": written.lists}


def test_lancedb_reads_the_folder_and_finds_the_nearest(written, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    rows = pa.dataset.dataset(written.folder).to_table(filter=pa.dataset.field("vector").is_valid())
    table = lancedb.connect(tmp_path).create_table("reviews", rows)
    assert table.count_rows() == sum(text is not None for text in TEXTS)
    (hit,) = table.search(written.vectors[QUERY]).limit(1).to_list()
    assert (hit["text"], hit["n"]) == (TEXTS[QUERY], QUERY)
    assert_array_equal(np.array(hit["vector"], dtype=np.float32), written.vectors[QUERY])


def test_lancedb_reads_rows_without_vectors_if_told_to(written, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    rows = pa.parquet.read_table(written.folder)
    table = lancedb.connect(tmp_path).create_table("reviews", rows, on_bad_vectors="null")
    assert table.to_arrow().to_pydict() == {"text": TEXTS, "n": list(range(len(TEXTS))), "vector": written.lists}
