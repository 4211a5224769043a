"""Check whether a change made skembed slower: two checkouts do the same work, in turn, in one run.

    git worktree add /tmp/before COMMIT
    python benchmarks/before_after.py --before /tmp/before --data FOLDER --json FILE

Two processes are ready, one for each checkout. Both do each job in turn; which one begins alternates from pair to pair.
A figure is the median, over the pairs, of the time after divided by the time before, with the 95 % bootstrap interval
of that median (10,000 draws, seed 0). Loading, converting and one untimed round of every job come first.

encode      ``skembed.embed(texts, cache=None)`` of the texts of encode.py: short, medium and long ones, with defaults,
            with OpenVINO in float32 and with torch in float32
one text    as in latency.py: the median of 200 calls with one text each
cache       as in cache.py: embed of 20,000 texts that are all cached, in memory and on disk, and writing 20,000 vectors
frame       as in frames.py: df.text.embed of 20,000 texts that are all cached, for each dtype and each kind of output,
            and reading their vectors from a parquet file
cold start  as in latency.py: from the start of a process until it has the vector of one text

Exit status 1 if an interval lies wholly above 1.03.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

MOST = 1.03
N_TEXTS = {"short": 800, "medium": 160, "long": 64}
N_CALLS = 200
N_CACHED = 20_000
SETTINGS = {
    "default": {},
    "OpenVINO float32": {"backend": "openvino", "dtype": "float32"},
    "torch float32": {"backend": "torch", "dtype": "float32"},
}
COLD = "import skembed; skembed.embed(['a text'])"
HEADER = ("job", "seconds before", "seconds after", "after / before", "95 % interval", "bound", "holds")

Result = dict[str, Any]
Jobs = dict[str, Callable[[], float]]


def main() -> int:
    arguments = parse_arguments()
    if arguments.work:
        return work(arguments)
    from report import describe_machine, print_report, write_json

    machine = describe_machine()
    checkouts = {"before": arguments.before, "after": str(Path(__file__).parents[1])}
    workers = {side: Worker(checkout, arguments) for side, checkout in checkouts.items()}
    seconds: dict[str, dict[str, list[float]]] = {job: {"before": [], "after": []} for job in workers["after"].jobs}
    for number in range(-1, arguments.pairs):
        print(f"# pair {number + 1} of {arguments.pairs}", file=sys.stderr)
        for job in seconds:
            for side in ("before", "after") if number % 2 == 0 else ("after", "before"):
                taken = workers[side].run(job)
                if number >= 0:
                    seconds[job][side].append(taken)
    for worker in workers.values():
        worker.close()
    results = [compare(job, **sides) for job, sides in seconds.items()]
    print_report(machine, HEADER, map(table_row, results))
    write_json(arguments.json, machine=machine, before=arguments.commit, pairs=arguments.pairs, results=results)
    return 0 if all(result["holds"] for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    from data import add_data_argument
    from report import add_json_argument

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--before", required=True, metavar="FOLDER", help="another checkout of this repository")
    parser.add_argument("--commit", default="", help="what to call it in the results")
    parser.add_argument("--pairs", type=int, default=11, help="default: 11")
    parser.add_argument("--jobs", default="", metavar="WORD", help="only those whose name holds this word")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


class Worker:
    """A process that does the jobs of one checkout on request."""

    def __init__(self, checkout: str, arguments: argparse.Namespace) -> None:
        rest = os.environ.get("PYTHONPATH", "")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([checkout, rest])}
        self.caches = TemporaryDirectory()  # each converts for itself: the format may differ
        environment["XDG_CACHE_HOME"] = self.caches.name
        command = [sys.executable, __file__, "--work", "--before", checkout, "--data", arguments.data]
        command += ["--jobs", arguments.jobs]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.jobs = self._read()

    def run(self, job: str) -> float:
        """Do a job and return the seconds it took."""
        assert self.process.stdin
        print(job, file=self.process.stdin, flush=True)
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self.caches.cleanup()

    def _read(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("A worker has ended; its errors are above.")
        return json.loads(line)


def work(arguments: argparse.Namespace) -> int:
    import skembed

    assert Path(skembed.__file__).is_relative_to(Path(arguments.before).resolve()), skembed.__file__
    with TemporaryDirectory() as folder:
        jobs = {name: job for name, job in make_jobs(arguments, folder).items() if arguments.jobs in name}
        print(json.dumps(list(jobs)), flush=True)
        for line in sys.stdin:
            print(jobs[line.strip()](), flush=True)
    return 0


def make_jobs(arguments: argparse.Namespace, folder: str) -> Jobs:
    from data import read_corpus, sample

    import skembed

    jobs: Jobs = {}
    has_openvino = find_spec("openvino") is not None
    settings = {name: some for name, some in SETTINGS.items() if has_openvino or "OpenVINO" not in name}
    short = sample(read_corpus(arguments.data, "short"), N_CALLS)
    for name, some in settings.items():
        embed = partial(skembed.embed, cache=None, **some)
        for corpus, n_texts in N_TEXTS.items():
            texts = sample(read_corpus(arguments.data, corpus), n_texts)
            jobs[f"encode {corpus}, {name}"] = partial(clocked, partial(embed, texts))
        jobs[f"one text, {name}"] = partial(time_single_texts, embed, short)
    jobs |= make_cache_jobs("memory", None) | make_cache_jobs("disk", folder) | make_frame_jobs(folder)
    jobs["cold start"] = start_cold
    return jobs


def make_cache_jobs(place: str, folder: str | None) -> Jobs:
    import cache as benchmark

    import skembed

    cache = skembed.EmbeddingCache(folder)
    recipe = benchmark.find_recipe(cache)
    texts, vectors = benchmark.make_texts(N_CACHED), benchmark.make_vectors(N_CACHED)
    benchmark.fill(cache, recipe, texts, vectors, 3000)

    def write() -> float:
        other = skembed.EmbeddingCache(None if folder is None else f"{folder}/{perf_counter()}")
        return benchmark.fill(other, recipe, texts, vectors, 3000)

    def read() -> float:
        same = benchmark.make_texts(N_CACHED)  # new objects, as when a file is read again
        return clocked(partial(skembed.embed, same, cache=cache))

    return {f"cache, {place}: embed": read, f"cache, {place}: write": write}


def make_frame_jobs(folder: str) -> Jobs:
    import cache as benchmark
    import pandas as pd
    from frames import DTYPES

    import skembed

    cache = skembed.EmbeddingCache()
    texts, vectors = benchmark.make_texts(N_CACHED), benchmark.make_vectors(N_CACHED)
    benchmark.fill(cache, benchmark.find_recipe(cache), texts, vectors, 3000)
    pd.DataFrame({"vector": skembed.VectorArray(vectors)}).to_parquet(f"{folder}/vectors.parquet")

    def embed(dtype: str, output: str) -> float:
        frame = pd.DataFrame({"text": pd.Series(benchmark.make_texts(N_CACHED), dtype=dtype)})
        return clocked(partial(frame.text.embed, output=output, cache=cache))

    ways = [(dtype, "numpy") for dtype in DTYPES] + [("object", "frame"), ("object", "vector")]
    jobs: Jobs = {f"frame, {dtype}: embed to {output}": partial(embed, dtype, output) for dtype, output in ways}
    read = partial(skembed.read_parquet, f"{folder}/vectors.parquet")
    return jobs | {"frame: read_parquet": partial(clocked, read)}


def clocked(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def time_single_texts(embed: Callable[[list[str]], Any], texts: list[str]) -> float:
    return median(clocked(partial(embed, [text])) for text in texts)


def start_cold() -> float:
    return clocked(partial(subprocess.run, [sys.executable, "-c", COLD], check=True))


def compare(job: str, before: list[float], after: list[float]) -> Result:
    from report import interval_of_median

    ratios = [one / other for one, other in zip(after, before, strict=True)]
    low, high = interval_of_median(ratios)
    return {
        "job": job,
        "before": before,
        "after": after,
        "ratio": median(ratios),
        "interval": [low, high],
        "holds": bool(low <= MOST),
    }


def table_row(result: Result) -> list[str]:
    from report import verdict

    low, high = result["interval"]
    return [
        result["job"],
        *(f"{median(result[side]):.4g}" for side in ("before", "after")),
        f"{result['ratio']:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"not wholly above {MOST}",
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
