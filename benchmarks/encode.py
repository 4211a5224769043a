"""Measure how fast skembed encodes, compared with other ways to run the same model on the same texts and device.

    python benchmarks/encode.py --data FOLDER --json benchmarks/results/encode.json
    python benchmarks/encode.py --data FOLDER --batch-tokens 512 1024 2048
    python benchmarks/encode.py --csv reviews.csv --text review --n-texts 2000
    python benchmarks/encode.py --data FOLDER --device cuda --corpora short news window --n-texts 10000 20000 4000

To include sentence-transformers' own OpenVINO path and fastembed (ONNX), in a separate virtual environment:

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0 'sentence-transformers[openvino]' fastembed onnx
    /tmp/peers/bin/pip uninstall -y torchvision
    python benchmarks/encode.py --data FOLDER --peer-python /tmp/peers/bin/python

What is timed: one call, from a list of str to a float32 matrix in main memory. For skembed, that is
``skembed.embed(texts, cache=None, ...)``: checks of parameters and texts, finding duplicates, tokenising, sorting into
batches, the model, pooling, normalising, and the copy back from the device. For sentence-transformers (ST), it is
``SentenceTransformer.encode(texts)``, which does the same except for the checks and the duplicates: with its defaults
(float32, batches of 32 texts), with the batch size that is fastest on these texts (tried before, not timed here), and
in bfloat16 or float16. Importing, loading the model and one untimed call of each on the same texts come first.

The texts are distinct, so that removing duplicates is not an advantage, and nothing is cached. Each round times every
contestant once, in reverse order every other round; a figure is the median of the rounds. Tokens are those that the
model reads, including special tokens, but not padding or what is truncated. The ratio is to ST's defaults; for a
float16 row on CUDA, to ST in float16. Cosines are to ST's float32 vectors. The share of the ceiling is 21.3 MFLOP per
token, the cost of the weights of all-MiniLM-L6-v2, over what torch reaches on one large matrix product of the same
precision, timed in the same rounds.

Exit status 1 if a bound fails (``BOUNDS`` below: ratio and smallest cosine by backend and precision; default settings
are one of these). In addition, with 30 % of the texts replaced by copies of others, skembed must take at most 1.1 times
the share of tokens that remain, and it must be at least as fast as ST's OpenVINO path in the same precision. On CUDA,
default settings must be at least 1.3 times as fast as ST in float16 with its best batch size; and on an H200, they must
process 3 million tokens a second of the news (AG News, some 60 tokens a text).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from contestants import (
    Contestant,
    clocked,
    cpu_dtypes,
    is_cuda,
    left_out,
    load_st,
    model_folder,
    our_contestants,
    peer_contestants,
    st_contestants,
    st_dtypes,
)
from data import CORPORA, add_data_argument, read_corpus, sample
from numpy.typing import NDArray
from peers import Peer
from report import add_json_argument, describe_machine, print_report, print_table, verdict, write_json
from sentence_transformers import SentenceTransformer

import skembed

N_TEXTS = {"short": 2000, "medium": 400, "long": 160, "window": 150, "news": 800}  # 32,000 to 56,000 tokens each
BOUNDS = {
    ("torch", "float32"): (1.05, 0.99999),
    ("openvino", "float32"): (1.4, 0.99999),
    ("openvino", "bfloat16"): (2.4, 0.9999),
}
BOUNDS_ON_CUDA = {"short": (3.0, 0.9999), "news": (2.0, 0.9999), "window": (1.5, 0.9999)}  # float16
SMALLEST_RATIO_TO_BEST = 1.3
SMALLEST_SPEED = {"H200": 3e6}  # tokens a second of the news, by a word in the name of the GPU
DUPLICATES, MOST_TIME = 0.3, 1.1
SMALLEST_RATIO_TO_PEER = 1.0
FLOP_A_TOKEN = 21.3e6
HEADER = (
    "texts", "n", "tokens a text", "what", "precision", "batches", "tokens/s", "texts/s", "ratio", "of single rounds",
    "smallest cosine", "share of ceiling", "bound", "holds",
)  # fmt: skip
BESIDE_HEADER = ("texts", "what", "measured", "of single rounds", "bound", "holds")

Result = dict[str, Any]
Seconds = dict[str, list[float]]


def main() -> int:
    arguments = parse_arguments()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # all cut long texts, which is meant here
    machine, results, beside = describe_machine(), [], []
    with ExitStack() as stack:
        models = {dtype: load_st(arguments, dtype) for dtype in st_dtypes(arguments.device)}
        peer = None
        if arguments.peer_python:
            peer = stack.enter_context(Peer(arguments.peer_python, model_folder(arguments), cpu_dtypes()))
            machine |= peer.versions
        for name, texts in read_samples(arguments, models["float32"]).items():
            measured = measure(name, texts, models, peer, arguments)
            results += measured[0]
            beside += measured[1]
    print_report(machine, HEADER, map(table_row, results))
    print()
    print_table(BESIDE_HEADER, map(beside_row, beside))
    print("", *left_out(arguments, peer), sep="\n")
    facts = {"model": arguments.model, "device": arguments.device, "repeats": arguments.repeats}
    write_json(arguments.json, machine=machine, **facts, results=results, beside=beside)
    return 0 if all(result["holds"] is not False for result in results + beside) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--corpora", nargs="+", choices=N_TEXTS, default=CORPORA, help="default: short medium long")
    parser.add_argument("--csv", metavar="FILE", help="measure on the texts of this file instead")
    parser.add_argument("--text", metavar="COLUMN", default="text", help="their column (default: text)")
    parser.add_argument("--n-texts", type=int, nargs="+", metavar="N", help="sample sizes, one a corpus, or one a csv")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument("--batch-tokens", nargs="+", default=["auto"], metavar="N", help="budgets to try, or auto")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", metavar="FOLDER", help="another model of that shape")
    parser.add_argument("--peer-python", metavar="FILE", help="the python of the peers' virtual environment (CPU)")
    arguments = parser.parse_args()
    n_sizes = 1 if arguments.csv else len(arguments.corpora)
    if arguments.n_texts and len(arguments.n_texts) != n_sizes:
        parser.error(f"--n-texts takes {n_sizes} here")
    return arguments


def read_samples(arguments: argparse.Namespace, model: SentenceTransformer) -> dict[str, list[str]]:
    if arguments.csv:
        (n_texts,) = arguments.n_texts or [None]
        texts = pd.read_csv(arguments.csv, keep_default_na=False, dtype=str)[arguments.text].tolist()
        return {Path(arguments.csv).name: sample(texts, n_texts)}
    samples = {}
    for number, corpus in enumerate(arguments.corpora):
        n_texts = arguments.n_texts[number] if arguments.n_texts else N_TEXTS[corpus]
        texts = read_corpus(arguments.data, "long" if corpus == "window" else corpus)
        samples[corpus] = sample(fill_window(texts, model) if corpus == "window" else texts, n_texts)
    return samples


def fill_window(documents: list[str], model: SentenceTransformer) -> list[str]:
    """Make texts exactly as long as the model reads: documents joined with the next one, and truncated."""
    joined = [f"{document} {after}" for document, after in pairwise(documents)]
    n_tokens = model.max_seq_length
    tokens = model.tokenizer(joined, truncation=True, max_length=n_tokens, return_offsets_mapping=True)
    spans = zip(joined, tokens["offset_mapping"], strict=True)
    return [text[: offsets[-2][1]] for text, offsets in spans if len(offsets) == n_tokens]


def measure(
    name: str,
    texts: list[str],
    models: Mapping[str, SentenceTransformer],
    peer: Peer | None,
    arguments: argparse.Namespace,
) -> tuple[list[Result], list[Result]]:
    """Encode once untimed, for the vectors and to warm up; then time the rounds and compare all contestants."""
    contestants = our_contestants(arguments) + st_contestants(models, texts, arguments.device)
    if peer:
        contestants += peer_contestants(peer)
    vectors = {one.name: one.encode(texts) for one in contestants}
    repeated = with_copies(texts)
    jobs: dict[str, Callable[[], float]] = {one.name: partial(one.seconds, texts) for one in contestants}
    jobs |= {with_copies_name(one.name): partial(one.seconds, repeated) for one in contestants if meets_copies(one)}
    flop = {}
    for dtype in {one.dtype for one in contestants}:
        jobs[f"product {dtype}"], flop[dtype] = product(dtype, arguments.device)
    seconds = time_rounds(name, jobs, arguments.repeats)
    ceilings = {dtype: n / median(seconds[f"product {dtype}"]) for dtype, n in flop.items()}
    n_tokens = count_tokens(models["float32"], texts)
    cosines = {one: smallest_cosine(some, vectors["ST float32"]) for one, some in vectors.items()}
    sizes = {"texts": name, "n_texts": len(texts), "n_tokens": n_tokens}
    results = [sizes | compare(one, name, n_tokens, cosines[one.name], seconds, ceilings) for one in contestants]
    share = count_tokens(models["float32"], list(dict.fromkeys(repeated))) / n_tokens
    beside = [*compare_beside(contestants, seconds, share), *compare_on_cuda(name, n_tokens, seconds)]
    return results, [{"texts": name} | one for one in beside]


def with_copies(texts: list[str], seed: int = 0) -> list[str]:
    """Replace some texts by copies of others, in random order."""
    n_copies, rng = round(DUPLICATES * len(texts)), np.random.default_rng(seed)
    rows = np.arange(len(texts) - n_copies)
    return [texts[row] for row in rng.permutation(np.append(rows, rng.choice(rows, n_copies)))]


def meets_copies(one: Contestant) -> bool:
    return one.name in ("skembed, defaults", "ST float32")


def with_copies_name(name: str) -> str:
    return f"{name}, {DUPLICATES:.0%} copies"


def product(dtype: str, device: str) -> tuple[Callable[[], float], float]:
    """Return a call that times one large matrix product, and its number of operations."""
    size = 8192 if is_cuda(device) else 2048
    left, right = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))

    def multiply() -> None:
        left @ right
        if is_cuda(device):
            torch.cuda.synchronize()

    return partial(clocked, multiply), 2.0 * size**3


def time_rounds(name: str, jobs: dict[str, Callable[[], float]], repeats: int) -> Seconds:
    seconds: Seconds = {job: [] for job in jobs}
    for number in range(repeats):
        print(f"# {name}: round {number + 1} of {repeats}", file=sys.stderr)
        for job in jobs if number % 2 == 0 else reversed(jobs):
            seconds[job].append(jobs[job]())
    return seconds


def count_tokens(model: SentenceTransformer, texts: list[str]) -> int:
    return int(model.preprocess(texts)["attention_mask"].sum())


def compare(
    one: Contestant, name: str, n_tokens: int, cosine: float, seconds: Seconds, ceilings: Mapping[str, float]
) -> Result:
    """Compare a contestant with sentence-transformers and its defaults."""
    reference = "ST float16" if one.dtype == "float16" else "ST float32"
    ratio, single = ratios(seconds[reference], seconds[one.name])
    bound = None
    if one.has_bound:
        bound = BOUNDS_ON_CUDA.get(name) if one.dtype == "float16" else BOUNDS.get((one.backend, one.dtype))
    speed = n_tokens / median(seconds[one.name])
    return {
        "what": one.name,
        "backend": one.backend,
        "dtype": one.dtype,
        "batches": one.batches,
        "seconds": seconds[one.name],
        "ratio": ratio,
        "ratios_of_rounds": single,
        "smallest_cosine": cosine,
        "share_of_ceiling": speed * FLOP_A_TOKEN / ceilings[one.dtype],
        "ceiling_flop_per_s": ceilings[one.dtype],
        "bound": bound,
        "holds": None if bound is None else ratio >= bound[0] and cosine >= bound[1],
    }


def ratios(numerator: list[float], denominator: list[float]) -> tuple[float, list[float]]:
    """Divide the medians, and the times round by round."""
    single = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return median(numerator) / median(denominator), single


def smallest_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def compare_beside(contestants: list[Contestant], seconds: Seconds, share: float) -> Iterator[Result]:
    """Compare copies with distinct texts, and skembed with ST's OpenVINO path."""
    for one in filter(meets_copies, contestants):
        measured, single = ratios(seconds[with_copies_name(one.name)], seconds[one.name])
        most = MOST_TIME * share if one.has_bound else None
        yield {
            "what": f"{with_copies_name(one.name)}: time of the distinct",
            "measured": measured,
            "ratios_of_rounds": single,
            "bound": "" if most is None else f"at most {most:.2f}",
            "holds": None if most is None else measured <= most,
        }
    for one in contestants:
        theirs = f"ST OpenVINO {one.dtype}"
        if one.backend == "openvino" and one.has_bound and theirs in seconds:
            measured, single = ratios(seconds[theirs], seconds[one.name])
            yield {
                "what": f"{one.name}: speed of {theirs}",
                "measured": measured,
                "ratios_of_rounds": single,
                "bound": f"at least {SMALLEST_RATIO_TO_PEER}",
                "holds": measured >= SMALLEST_RATIO_TO_PEER,
            }


def compare_on_cuda(name: str, n_tokens: int, seconds: Seconds) -> Iterator[Result]:
    """Compare default settings with ST's best batch size, and their speed with what the GPU should reach."""
    ours, theirs = "skembed, defaults", "ST float16, best batch size"
    if theirs not in seconds:
        return
    measured, single = ratios(seconds[theirs], seconds[ours])
    yield {
        "what": f"{ours}: speed of {theirs}",
        "measured": measured,
        "ratios_of_rounds": single,
        "bound": f"at least {SMALLEST_RATIO_TO_BEST}",
        "holds": measured >= SMALLEST_RATIO_TO_BEST,
    }
    gpu = torch.cuda.get_device_name()
    for word, speed in SMALLEST_SPEED.items():
        if word in gpu and name == "news":
            speeds = [n_tokens / each / 1e6 for each in seconds[ours]]
            yield {
                "what": f"{ours}: million tokens a second",
                "measured": median(speeds),
                "ratios_of_rounds": speeds,
                "bound": f"at least {speed / 1e6}",
                "holds": median(speeds) >= speed / 1e6,
            }


def table_row(result: Result) -> list[str]:
    seconds, n_texts, n_tokens = median(result["seconds"]), result["n_texts"], result["n_tokens"]
    return [
        result["texts"],
        f"{n_texts:,}",
        f"{n_tokens / n_texts:.0f}",
        result["what"],
        result["dtype"],
        result["batches"],
        f"{n_tokens / seconds:,.0f}",
        f"{n_texts / seconds:,.1f}",
        f"{result['ratio']:.2f}",
        span(result["ratios_of_rounds"]),
        f"{result['smallest_cosine']:.7f}",
        f"{result['share_of_ceiling']:.0%}",
        "" if result["bound"] is None else "{}, {}".format(*result["bound"]),
        verdict(result["holds"]),
    ]


def beside_row(result: Result) -> list[str]:
    measured = f"{result['measured']:.2f}"
    return [
        *(result["texts"], result["what"], measured, span(result["ratios_of_rounds"]), result["bound"]),
        verdict(result["holds"]),
    ]


def span(ratios_of_rounds: list[float]) -> str:
    return f"{min(ratios_of_rounds):.2f} to {max(ratios_of_rounds):.2f}"


if __name__ == "__main__":
    sys.exit(main())
