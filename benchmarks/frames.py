"""Measure what a frame costs on top of the encoder: ``df.text.embed`` and ``skembed.embed`` of cached texts.

    python benchmarks/frames.py --json benchmarks/results/frames.json

The model runs for one text only: the cache in memory is first filled with random vectors of 384 float32. Each round
makes new str objects, as when a file is read again, and times every call once, in turn. Figures are medians of the
rounds, and of the ratios within them. Only the call is timed, not the construction of the frame.

Then 20,000 vectors of 384 dimensions, 1 % of them missing, make a round trip through a parquet file: with
skembed.read_parquet, and with pandas alone and numpy.stack.

Exit status 1 if a bound fails: ``df.text.embed(output="numpy")`` takes at most 1.2 times as long as
``skembed.embed(list)``, with each dtype that pandas has for text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from cache import fill, find_recipe, make_texts, make_vectors
from report import add_json_argument, describe_machine, print_report, verdict, write_json

import skembed

LARGEST_RATIO = 1.2
DTYPES = ("object", "string", "str", "category")  # "str": the type of text in pandas 3
HEADER = ("what", "median", "times embed(list), median", "of single rounds", "bound", "holds")

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    machine = {**describe_machine(), "pandas": pd.__version__}
    results = [*measure_embedding(arguments), *measure_parquet(arguments)]
    print_report(machine, HEADER, map(table_row, results))
    write_json(arguments.json, machine=machine, n_texts=arguments.n_texts, repeats=arguments.repeats, results=results)
    return 0 if all(result.get("holds") is not False for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_json_argument(parser)
    parser.add_argument("--n-texts", type=int, default=100_000, metavar="N", help="default: 100,000")
    parser.add_argument("--repeats", type=int, default=15, help="timed rounds (default: 15)")
    return parser.parse_args()


def measure_embedding(arguments: argparse.Namespace) -> list[Result]:
    texts, vectors = make_texts(arguments.n_texts), make_vectors(arguments.n_texts)
    with skembed.EmbeddingCache() as cache:
        fill(cache, find_recipe(cache), texts, vectors, 3000)
        ways: dict[str, Callable[[pd.DataFrame], Any]] = {
            "numpy": lambda df: df.text.embed(output="numpy", cache=cache),
            "frame": lambda df: df.text.embed(cache=cache),
            "vector": lambda df: df.text.embed(output="vector", cache=cache),
        }
        seconds: dict[str, list[float]] = {}

        def time(what: str, call: Callable[[Any], Any], data: Any) -> None:
            start = perf_counter()
            call(data)
            seconds.setdefault(what, []).append(perf_counter() - start)

        def time_list() -> None:
            texts = make_texts(arguments.n_texts)
            time("skembed.embed(list)", lambda data: skembed.embed(data, cache=cache), texts)

        def time_frame(dtype: str, output: str) -> None:
            frame = pd.DataFrame({"review": make_texts(arguments.n_texts), "stars": 1}).astype({"review": dtype})
            time(f"df.text.embed(output={output!r}), {dtype}", ways[output], frame)

        pairs = [*((dtype, "numpy") for dtype in DTYPES), ("str", "frame"), ("str", "vector")]
        for number in range(arguments.repeats + 1):
            for pair in pairs:
                if number % 2:
                    time_list()
                time_frame(*pair)
                if not number % 2:
                    time_list()
            if number == 0:
                seconds.clear()  # the first is to warm up
    return compare(seconds, len(pairs))


def compare(seconds: dict[str, list[float]], n_pairs: int) -> list[Result]:
    """Divide each time by the median of the encoder's times in the same round."""
    encoder = np.median(np.reshape(seconds.pop("skembed.embed(list)"), (-1, n_pairs)), axis=1)
    results: list[Result] = [{"what": "skembed.embed(list)", "seconds": encoder.tolist()}]
    for what, times in seconds.items():
        ratios = (np.array(times) / encoder).tolist()
        holds = median(ratios) <= LARGEST_RATIO if "numpy" in what else None
        results.append({"what": what, "seconds": times, "ratios": ratios, "holds": holds})
    return results


def measure_parquet(arguments: argparse.Namespace) -> list[Result]:
    vectors = make_vectors(20_000)
    vectors[np.random.default_rng(4).random(len(vectors)) < 0.01] = np.nan
    df = pd.DataFrame({"v": skembed.VectorArray(vectors)})
    seconds: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "v.parquet"

        def by_pandas() -> Any:
            return np.stack(pd.read_parquet(file)["v"].dropna())

        steps: dict[str, Callable[[], Any]] = {
            "write 20,000 vectors, df.to_parquet": lambda: df.to_parquet(file),
            "read them, skembed.read_parquet": lambda: skembed.read_parquet(file)["v"].to_numpy("float32"),
            "read them, pd.read_parquet and np.stack": by_pandas,
        }
        for _ in range(arguments.repeats):
            for what, step in steps.items():
                start = perf_counter()
                step()
                seconds.setdefault(what, []).append(perf_counter() - start)
        if skembed.read_parquet(file)["v"].to_numpy("float32").tobytes() != vectors.tobytes():
            raise SystemExit("Other vectors came back than were written.")
    return [{"what": what, "seconds": times} for what, times in seconds.items()]


def table_row(result: Result) -> list[str]:
    row = [result["what"], f"{1000 * median(result['seconds']):,.0f} ms"]
    if "ratios" not in result:
        return [*row, "", "", "", ""]
    ratios, holds = result["ratios"], result["holds"]
    bound = ["", ""] if holds is None else [f"at most {LARGEST_RATIO}", verdict(holds)]
    return [*row, f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}", *bound]


if __name__ == "__main__":
    sys.exit(main())
