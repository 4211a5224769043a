"""Measure what streaming from parquet to parquet costs over memory, and what two workers gain over one.

    python benchmarks/scale.py --json benchmarks/results/scale.json

The model is a tiny random BERT (3 layers of 32 dimensions), so that the engine is measured and not the model. Texts are
made up: distinct, about 6 words. Each figure is from a separate process. Its peak (``ru_maxrss``) covers its whole
life, including loading torch; timing starts after the model is loaded. Rounds alternate; figures are medians; ratios
are taken within rounds.

stream   ``embed`` of a million texts as a list, without a cache; ``embed_parquet`` of the same million rows and, once,
         of two million, with its defaults; ``predict_parquet`` of the million rows, with logistic regression on the
         vectors and a cache of the same size.
workers  Dask and Ray on this machine, 1 and 2 processes of one thread each, 200,000 rows: rows per second, model loads,
         and the peak memory of a worker.

Exit status 1 if a bound fails: a stream of a million rows peaks at 1.2 GB at most, a stream of 2 million no higher (to
5 %, the difference between single runs), its throughput is at least 0.85 of the in-memory encoder's, and that of
predictions at least 0.85 of the stream's. Needs Linux; takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter
from typing import Any

GB = 10**9
LARGEST_PEAK = 1.2 * GB
LARGEST_GROWTH = 1.05
WORKER_ROWS = 200_000
WORDS = (
    "parcel",
    "order",
    "late",
    "refund",
    "login",
    "password",
    "works",
    "broken",
    "heavy",
    "sound",
    "cheap",
    "great",
)
SMALLEST_THROUGHPUT = 0.85
HEADER = ("what", "rows", "rows/s", "of in-memory", "peak memory", "bound", "holds")
WORKER_HEADER = ("engine", "workers", "rows/s", "times one worker", "model loads", "peak memory of a worker")

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child[0]](*arguments.child[1:])))
        return 0
    with TemporaryDirectory(prefix="skembed-scale-") as folder:
        make_inputs(Path(folder), arguments.n_rows)
        streams = measure_streams(folder, arguments) if "stream" in arguments.parts else []
        workers = measure_workers(folder, arguments) if "workers" in arguments.parts else []
    return report(arguments, streams, workers)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the raw results there")
    parser.add_argument("--n-rows", type=int, default=1_000_000, metavar="N", help="default: 1,000,000")
    parser.add_argument("--repeats", type=int, default=2, help="rounds (default: 2)")
    parser.add_argument("--parts", nargs="+", default=["stream", "workers"], choices=["stream", "workers"])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_streams(folder: str, arguments: argparse.Namespace) -> list[Result]:
    n_rows, in_memory, streamed, predicted = arguments.n_rows, [], [], []
    for _ in range(arguments.repeats):
        in_memory.append(run_child("memory", folder, "once"))
        streamed.append(run_child("stream", folder, "once"))
        predicted.append(run_child("predict", folder, "once"))
    twice = run_child("stream", folder, "twice")
    reference = median(run["seconds"] for run in in_memory)
    results = [
        summarise("embed(list)", n_rows, in_memory, [1.0]),
        summarise(
            "embed_parquet",
            n_rows,
            streamed,
            [one["seconds"] / run["seconds"] for one, run in zip(in_memory, streamed, strict=True)],
        ),
        summarise("embed_parquet, twice the rows", 2 * n_rows, [twice], [2 * reference / twice["seconds"]]),
        summarise(
            "predict_parquet",
            n_rows,
            predicted,
            [one["seconds"] / run["seconds"] for one, run in zip(in_memory, predicted, strict=True)],
        ),
    ]
    _, once, double, labels = results
    of_stream = median(one["seconds"] / run["seconds"] for one, run in zip(streamed, predicted, strict=True))
    labels["bound"] = f">= {SMALLEST_THROUGHPUT} of embed_parquet ({of_stream:.2f}), <= {LARGEST_PEAK / GB:.1f} GB"
    labels["holds"] = of_stream >= SMALLEST_THROUGHPUT and labels["peak_bytes"] <= LARGEST_PEAK
    once["bound"] = f">= {SMALLEST_THROUGHPUT} of in-memory, <= {LARGEST_PEAK / GB:.1f} GB"
    once["holds"] = once["of_in_memory"] >= SMALLEST_THROUGHPUT and once["peak_bytes"] <= LARGEST_PEAK
    double["bound"] = f"<= {LARGEST_GROWTH} times the peak of half the rows"
    double["holds"] = double["peak_bytes"] <= LARGEST_GROWTH * once["peak_bytes"]
    return results


def summarise(what: str, n_rows: int, runs: list[Result], ratios: list[float]) -> Result:
    return {
        "what": what,
        "rows": n_rows,
        "rows_per_second": n_rows / median(run["seconds"] for run in runs),
        "of_in_memory": median(ratios),
        "of_in_memory_rounds": ratios,
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "peak_bytes_rounds": [run["peak_bytes"] for run in runs],
    }


def measure_workers(folder: str, arguments: argparse.Namespace) -> list[Result]:
    results = []
    for engine in ("dask", "ray"):
        runs = {n: [run_child(engine, folder, str(n)) for _ in range(arguments.repeats)] for n in (1, 2)}
        for n_workers, some in runs.items():
            speeds = [one["seconds"] / run["seconds"] for one, run in zip(runs[1], some, strict=True)]
            results.append(
                {
                    "engine": engine,
                    "workers": n_workers,
                    "rows_per_second": WORKER_ROWS / median(run["seconds"] for run in some),
                    "times_one_worker": median(speeds),
                    "model_loads": max(run["model_loads"] for run in some),
                    "worker_peak_bytes": int(median(run["worker_peak_bytes"] for run in some)),
                }
            )
    return results


def run_child(*child: str) -> Result:
    """Measure in a fresh process, which inherits this process's peak, so nothing is imported here."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, __file__, "--child", *child]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    print(child[0], *child[2:], result, file=sys.stderr)
    return result


def make_inputs(folder: Path, n_rows: int) -> None:
    """Make the model and the files in a separate process."""
    subprocess.run([sys.executable, __file__, "--child", "inputs", str(folder), str(n_rows)], check=True)


def child_inputs(folder: str, n_rows: str) -> Result:
    import pyarrow as pa
    from pyarrow import parquet

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from random import Random

    from tests.tiny_models import make_bert

    make_bert(Path(folder) / "model")
    random = Random(0)
    for name, some in (("once", int(n_rows)), ("twice", 2 * int(n_rows)), ("workers", WORKER_ROWS)):
        with parquet.ParquetWriter(Path(folder) / f"{name}.parquet", pa.schema({"text": pa.string()})) as writer:
            for start in range(0, some, 100_000):
                numbers = range(start, min(start + 100_000, some))
                texts = [" ".join(random.choices(WORDS, k=random.randint(2, 10))) + f" {number}" for number in numbers]
                writer.write_table(pa.table({"text": texts}))
    return {}


def child_memory(folder: str, name: str) -> Result:
    from pyarrow import parquet

    import skembed

    texts = parquet.read_table(f"{folder}/{name}.parquet")["text"].to_pylist()
    params: dict[str, Any] = {"model": f"{folder}/model", "cache": None}
    skembed.embed(["a"], **params)
    start = perf_counter()
    skembed.embed(texts, **params)
    return {"seconds": perf_counter() - start, "peak_bytes": peak_bytes()}


def child_stream(folder: str, name: str) -> Result:
    import skembed

    skembed.embed(["a"], model=f"{folder}/model", cache=None)
    with TemporaryDirectory(dir=folder) as out:
        start = perf_counter()
        skembed.embed_parquet(f"{folder}/{name}.parquet", out, "text", model=f"{folder}/model")
        seconds = perf_counter() - start
    return {"seconds": seconds, "peak_bytes": peak_bytes()}


def child_predict(folder: str, name: str) -> Result:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    import skembed

    embedder = skembed.SentenceEmbeddingTransformer(f"{folder}/model", cache=skembed.EmbeddingCache(max_bytes=2**27))
    classifier = make_pipeline(embedder, LogisticRegression()).fit(WORDS, [len(word) > 5 for word in WORDS])
    with TemporaryDirectory(dir=folder) as out:
        start = perf_counter()
        skembed.predict_parquet(classifier, f"{folder}/{name}.parquet", out, "text")
        seconds = perf_counter() - start
    return {"seconds": seconds, "peak_bytes": peak_bytes()}


def child_dask(folder: str, n_workers: str) -> Result:
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client, LocalCluster

    import skembed.frames.dask  # noqa: F401 - registers .text

    frame = pd.read_parquet(f"{folder}/workers.parquet")
    with (
        LocalCluster(n_workers=int(n_workers), threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        ddf = dd.from_pandas(frame, npartitions=16).persist()
        vectors = ddf["text"].text.embed(output="vector", model=f"{folder}/model")
        client.run(warm_up, f"{folder}/model")
        start = perf_counter()
        assert len(vectors.persist()) == len(frame)
        seconds = perf_counter() - start
        about = client.run(about_this_process).values()
    return {
        "seconds": seconds,
        "model_loads": sum(one["models"] for one in about),
        "worker_peak_bytes": max(one["peak_bytes"] for one in about),
    }


def child_ray(folder: str, n_workers: str) -> Result:
    import ray

    from skembed.frames.ray import embed

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    ds = ray.data.read_parquet(f"{folder}/workers.parquet", override_num_blocks=16).materialize()
    start = perf_counter()
    with watched_workers() as peaks:
        done = embed(ds, "text", n_workers=int(n_workers), num_cpus=1, model=f"{folder}/model").materialize()
    seconds = perf_counter() - start
    assert done.count() == WORKER_ROWS
    return {"seconds": seconds, "model_loads": len(peaks), "worker_peak_bytes": max(peaks.values())}


@contextmanager
def watched_workers() -> Iterator[dict[int, int]]:
    """Record the peak memory of each process that Ray starts for the embedder; each loads its model once."""
    import psutil

    peaks: dict[int, int] = {}
    done = Event()

    def watch() -> None:
        while not done.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "MapWorker" in " ".join(process.cmdline()):
                        peaks[process.pid] = max(peaks.get(process.pid, 0), process.memory_info().rss)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def warm_up(model: str) -> None:
    import skembed

    skembed.embed(["a"], model=model, cache=None)


def about_this_process() -> dict[str, int]:
    from skembed.encoding.models import registry

    return {"models": len(registry._loaded), "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


CHILDREN: dict[str, Callable[..., Result]] = {
    "inputs": child_inputs,
    "memory": child_memory,
    "stream": child_stream,
    "predict": child_predict,
    "dask": child_dask,
    "ray": child_ray,
}


def report(arguments: argparse.Namespace, streams: list[Result], workers: list[Result]) -> int:
    from report import describe_machine, print_report, write_json

    machine = describe_machine()
    if streams:
        print_report(machine, HEADER, map(stream_row, streams))
    if workers:
        print_report(machine, WORKER_HEADER, map(worker_row, workers))
    write_json(arguments.json, machine=machine, repeats=arguments.repeats, streams=streams, workers=workers)
    return 0 if all(result.get("holds") is not False for result in streams) else 1


def stream_row(result: Result) -> tuple[str, ...]:
    from report import verdict

    return (
        result["what"],
        f"{result['rows']:,}",
        f"{result['rows_per_second']:,.0f}",
        f"{result['of_in_memory']:.2f}",
        f"{result['peak_bytes'] / GB:.2f} GB",
        result.get("bound", ""),
        verdict(result.get("holds")),
    )


def worker_row(result: Result) -> tuple[str, ...]:
    return (
        result["engine"],
        str(result["workers"]),
        f"{result['rows_per_second']:,.0f}",
        f"{result['times_one_worker']:.2f}",
        str(result["model_loads"]),
        f"{result['worker_peak_bytes'] / GB:.2f} GB",
    )


if __name__ == "__main__":
    sys.exit(main())
