"""Datasets of Ray: rows with vectors from workers of their own, also when one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import skembed

CLUSTER = """
import json, logging, os, signal, sys, threading, time
from pathlib import Path
import numpy as np
import pandas as pd
import psutil
import ray
import skembed
from skembed.frames.ray import embed

model, started = sys.argv[1], Path("started").absolute()

def note_start(batch):
    started.touch()
    return batch

def compare(rows, table):
    rows = rows.sort_values("number")
    is_same = rows["number"].tolist() == table["number"].tolist() and rows["text"].tolist() == table["text"].tolist()
    wanted = skembed.embed(table["text"], model=model)
    return {"same_rows": is_same, "difference": float(np.abs(np.stack(rows["vector"].to_numpy()) - wanted).max())}

ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
         object_store_memory=300 * 2**20)
ray.data.DataContext.get_current().enable_progress_bars = False
table = pd.DataFrame({"text": [f"a parcel {number} fox" for number in range(20_000)], "number": range(20_000)})
results, got = {}, []

ds = embed(ray.data.from_pandas(table).repartition(40), "text", n_workers=2, model=model, batch_size=500)
job = threading.Thread(target=lambda: got.append(ds.map_batches(note_start).to_pandas()))
job.start()
while job.is_alive() and not started.exists():  # some rows are done, others are not
    time.sleep(0.01)
workers = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(p.cmdline())]
results["n_workers"], results["mid_job"] = len(workers), job.is_alive()
os.kill(workers[0].pid, signal.SIGKILL)
job.join()
results["killed"] = compare(got[0], table)

few = table.head(300)
ds = ray.data.from_pandas(few)
done = ds.map_batches(
    skembed.BatchEmbedder, fn_constructor_kwargs={"column": "text", "model": model},
    compute=ray.data.ActorPoolStrategy(size=1), batch_size=64,
)
results["map_batches"] = compare(done.to_pandas(), few)
results["type"] = str(embed(ds, "text", model=model).schema().base_schema.field("vector").type)
ray.shutdown()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    script = folder / "cluster.py"
    script.write_text(CLUSTER)
    settings = {"HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, str(script), tiny], capture_output=True, text=True, env={**os.environ, **settings}, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_map_batches_accepts_the_embedder_as_it_is(results):
    assert results["map_batches"]["same_rows"]
    assert results["map_batches"]["difference"] < 1e-6


@pytest.mark.slow
def test_vectors_are_fixed_size_lists_of_float32(results):
    assert results["type"] == "fixed_size_list<item: float>[32]"


@pytest.mark.slow
def test_a_worker_killed_in_mid_job_loses_and_doubles_no_row(results):
    assert results["mid_job"]
    assert results["n_workers"] == 2
    assert results["killed"]["same_rows"]
    assert results["killed"]["difference"] < 1e-6


class TestHelper:
    def test_a_wrong_parameter_is_an_error_before_anything_starts(self, tiny):
        ray = pytest.importorskip("skembed.frames.ray")
        with pytest.raises(TypeError, match="poolings"):
            ray.embed(None, "text", model=tiny, poolings="mean")


def test_a_transformer_says_what_to_use_instead(tiny):
    class Dataset:
        __module__ = "ray.data.dataset"

    with pytest.raises(TypeError, match=r"X is a Dataset of ray.*use skembed\.frames\.ray\.embed"):
        skembed.SentenceEmbeddingTransformer(tiny).transform(Dataset())
