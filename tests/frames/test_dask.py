"""Frames of Dask: what is known before anything is computed, the results, and a killed worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from dask.dataframe.dispatch import make_meta
from numpy.testing import assert_allclose

import skembed
import skembed.frames.dask
from skembed.frames.vectors import VectorDtype

TABLE = pd.DataFrame(
    {"text": ["fox", None, "a lazy dog", "fox", "parcel", "quick"], "number": range(6)}, index=[*"abcdef"]
)


@pytest.fixture
def ddf():
    with dask.config.set(scheduler="synchronous"):
        yield dd.from_pandas(TABLE, npartitions=3)


@pytest.fixture
def wanted(tiny):
    return skembed.embed(TABLE["text"], model=tiny, missing="nan", cache=None)


class TestColumn:
    def test_a_frame_has_the_vectors_and_index_of_the_texts(self, ddf, tiny, wanted):
        found = ddf["text"].text.embed(model=tiny).compute()
        assert found.index.tolist() == TABLE.index.tolist()
        assert_allclose(found.to_numpy(), wanted, atol=1e-6)

    def test_a_column_of_vectors_has_the_same_vectors(self, ddf, tiny, wanted):
        found = ddf["text"].text.embed(model=tiny, output="vector").compute()
        assert_allclose(found.to_numpy("float32"), wanted, atol=1e-6)

    @pytest.mark.parametrize("output", ["frame", "vector"])
    def test_the_type_of_the_result_is_known_before_it_is_computed(self, output, ddf, tiny, counted):
        promised = ddf["text"].text.embed(model=tiny, output=output)
        meta = make_meta(promised)
        assert counted == []
        found = promised.compute()
        if output == "frame":
            assert meta.dtypes.equals(found.dtypes)
            assert promised.columns.tolist() == [f"text_{number}" for number in range(32)]
        else:
            assert meta.dtype == found.dtype == VectorDtype(32)
        assert promised.known_divisions

    def test_another_model_under_the_name_is_refused_by_the_workers(self, ddf, tmp_path, model_folder):
        folder = shutil.copytree(model_folder("bert"), tmp_path / "model")
        promised = ddf["text"].text.embed(model=str(folder))
        shutil.rmtree(folder)
        shutil.copytree(model_folder("roberta"), folder)
        with pytest.raises(skembed.ModelChangedError):
            promised.compute()

    @pytest.mark.parametrize("output", ["numpy", "frames"])
    def test_another_output_is_refused(self, output, ddf, tiny):
        with pytest.raises(ValueError, match="output must be 'frame' or 'vector'"):
            ddf["text"].text.embed(model=tiny, output=output)


class TestFrame:
    @pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # Dask uses it
    def test_a_frame_gets_a_column_of_vectors_that_is_written_to_files(self, ddf, tiny, wanted, tmp_path):
        skembed.frames.dask.embed(ddf, "text", model=tiny).to_parquet(tmp_path)
        found = skembed.read_parquet(tmp_path)
        assert found["number"].tolist() == TABLE["number"].tolist()
        assert_allclose(found["vector"].to_numpy("float32"), wanted, atol=1e-6)

    def test_the_type_is_known_before_it_is_computed(self, ddf, tiny):
        promised = skembed.frames.dask.embed(ddf, "text", model=tiny, vector_column="v")
        assert promised.dtypes["v"] == VectorDtype(32)
        assert promised.columns.tolist() == ["text", "number", "v"]

    def test_a_missing_column_is_an_error_at_once(self, ddf, tiny):
        with pytest.raises(KeyError, match="no column 'review'"):
            skembed.frames.dask.embed(ddf, "review", model=tiny)


@pytest.mark.parametrize("column", [True, False], ids=["column", "frame"])
def test_a_transformer_says_what_to_use_instead(column, ddf, tiny):
    with pytest.raises(TypeError, match=r"of dask.*use ddf\[column\]\.text\.embed\(\)"):
        skembed.SentenceEmbeddingTransformer(tiny).transform(ddf["text"] if column else ddf)


CLUSTER = """
import json, os, signal, sys, time
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster, wait
import skembed.frames.dask

def about():
    from skembed.encoding.models import registry
    return os.getpid(), len(registry._loaded)

if __name__ == "__main__":
    model = sys.argv[1]
    table = pd.DataFrame({"text": [f"a parcel {number} fox" for number in range(24_000)]})
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster, Client(cluster) as client:
        embedded = dd.from_pandas(table, npartitions=24)["text"].text.embed(model=model)
        future = client.compute(embedded)
        while not any(n for _, n in client.run(about, on_error="ignore").values()):
            time.sleep(0.05)
        victim = client.run(os.getpid, workers=[next(iter(client.scheduler_info()["workers"]))])
        is_mid_job = not future.done()
        os.kill(next(iter(victim.values())), signal.SIGKILL)
        found = future.result()
        loads = [n for _, n in client.run(about).values()]
    wanted = skembed.embed(table["text"], model=model)
    print(json.dumps({
        "mid_job": is_mid_job, "index": found.index.equals(table.index), "models": loads,
        "difference": float(np.abs(found.to_numpy() - wanted).max()),
    }))
"""


@pytest.mark.slow
def test_a_killed_worker_loses_no_row_and_each_worker_has_one_model(tiny, tmp_path):
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), tiny], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["mid_job"]
    assert found["index"]
    assert found["difference"] < 1e-6
    assert max(found["models"]) == 1
