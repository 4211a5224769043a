"""Measure how good and how fast ``NearDuplicates`` is, beside semhash and exact searches on the same vectors.

    python benchmarks/duplicates.py --data FOLDER --json benchmarks/results/duplicates.json
    python benchmarks/duplicates.py --data FOLDER --n-rows 100000        # without the million rows, which take long
    python benchmarks/duplicates.py --data FOLDER --device cuda          # only what a CUDA device computes

All tools get the vectors that ``skembed.embed`` computes with its default model:

- skembed: ``NearDuplicates(threshold=threshold).fit(vectors)``. Groups are chains of near rows; the first row of each
  group is kept. It sees only vectors.
- semhash: ``SemHash.from_embeddings(vectors, records).self_deduplicate(threshold)``, where a record is a dict with one
  text. Equal texts are one record from the start. Then, in the order of the rows, a row is kept unless it is near a row
  already kept; otherwise it belongs to the nearest of these. There are no chains. Two of its backends are measured: the
  default usearch is approximate and looks in bfloat16 first; faiss flat compares all pairs, as "basic" would. Without
  semhash, its rows are omitted.
- block product: all pairs of blocks of 2,048 vectors, multiplied with numpy in float32; then the same groups.
- radius neighbours: scikit-learn's ``radius_neighbors_graph`` with the cosine, by brute force; then the same groups.

Five tables:

- Equal texts: how many of the rows whose text appeared before are in one group with it, at threshold 0.999; in the
  short messages (SMS Spam), and in the product names of the two shops (Abt-Buy) together.
- Exact: 30,000 texts of all sets, by threshold. Whether the groups are the connected components of all pairs whose
  cosine in float64 is at least the threshold less 1e-6.
- Short messages, by threshold. Nobody has labelled them, so the truth is the float64 cosines of all pairs; two rows are
  near if their cosine is at least the threshold less 1e-6. From these, each tool's own rule, with chains or without, is
  applied again: "missed" are rows that the rule drops and the tool keeps, "wrong" are rows that only the tool drops.
  "Left" are rows that are kept although a row kept before them is near; "chained" are rows that are dropped although no
  kept row is near. Precision is the share of pairs within a group that are near; recall is the share of near pairs that
  are within a group; each is 100 if there are no such pairs.
- Product names, by threshold: three percentages. Precision and recall are over the labelled pairs (one name of each
  shop; same product or not). The third is the precision over all pairs of names of the two shops, where pairs without a
  label count as different. Some of them are the same product nevertheless, so the third is a lower bound; and recall
  ignores pairs that were never labelled. The names of both shops are grouped as one column, the first shop's names
  first, and a pair counts as the same if both names are in one group. For comparison: whether the cosine of the pair
  alone, as computed by ``PairSimilarity``, is near; and semhash's ``deduplicate`` of the second shop's names against
  the first's, which finds at most one match for each.
- Time: only the grouping, from finished vectors and records. In turn, in reverse order every other round, with medians:
  the short messages with all tools; 100,000 texts of all sets with skembed and the block product. CPU seconds are the
  sum over all threads, which is more reliable on a shared machine. Then ``--n-rows`` rows once, by each tool in a fresh
  process; memory growth is the peak during grouping, less the resident memory before. These rows are texts of all sets
  (all of them, or half of the rows), and these again with Gaussian noise, so that the cosine to the origin is even from
  0.5 to 0.95. "Found" is the share of the noisy rows near enough to their origin that are in one group with it. Above
  100,000 rows, the time of exact tools other than skembed is estimated, as it grows with the square of the rows.

The vectors of all texts take a quarter of an hour on two cores; ``--vectors`` names a file in which they are kept.

Needs Linux. Exit status 1 if a bound fails: skembed finds all equal texts; its groups are exact; on 100,000 texts it is
at least 4 times as fast as the block product, 8 times with AMX, from threshold 0.85 on; it groups 1,000,000 rows within
15 minutes, 8 with AMX, or one on a CUDA device, in 4 GB beside the vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
from data import add_data_argument, read_all_texts, read_table
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

import skembed
from skembed.processor import processor_flags

THRESHOLDS = (0.999, 0.99, 0.95, 0.9, 0.85, 0.8, 0.7)
EQUAL_THRESHOLD = 0.999
TIMED_THRESHOLD = 0.9
SLACK = 1e-6  # what NearDuplicates allows below the threshold
EXACT_THRESHOLDS = (0.7, 0.8, 0.9, 0.95, 0.99)
N_ROWS_EXACT = 30_000
N_ROWS_IN_TURN = 100_000
THRESHOLDS_IN_TURN = (0.85, 0.9, 0.95)
N_ROWS_TIMED = 100_000  # by every tool
N_ROWS_OF_BOUND = 1_000_000
HAS_AMX = "amx_bf16" in processor_flags()
SMALLEST_RATIO = 8 if HAS_AMX else 4
LARGEST_SECONDS = {"cpu": 480 if HAS_AMX else 900, "cuda": 60}
LARGEST_GROWTH = 4 * 10**9
BLOCK = 2048
MB = 10**6
OURS, PLAIN, RADIUS = "skembed", "block product", "radius neighbours"
BACKENDS = {"semhash, usearch": "usearch", "semhash, faiss flat": "faiss"}  # the rows that it has in the tables
EXACT_PEER = "semhash, faiss flat"
ESTIMATED = (EXACT_PEER, PLAIN, RADIUS)  # above N_ROWS_TIMED
PEER_PACKAGES = ("semhash", "vicinity", "usearch", "numkong", "faiss-cpu")
EQUAL_HEADER = ("equal texts", "rows", "text came before", "tool", "found", "bound", "holds")
EXACT_HEADER = ("threshold", "rows", "near pairs", "groups", "seconds", "bound", "holds")
NEAR_HEADER = (
    "threshold", "near pairs", "tool", "dropped", "missed", "wrong", "left", "chained", "precision", "recall",
    "largest group",
)  # fmt: skip
TIME_HEADER = (
    "rows", "n", "threshold", "tool", "seconds", "of single rounds", "times skembed's", "CPU seconds", "found",
    "memory growth", "bound", "holds",
)  # fmt: skip

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]
Records = list[dict[str, Any]]
Tool = Callable[[Vectors, Records, float], Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Products:
    """The names of two shops as one column, the first shop's names first, and the labelled pairs by position."""

    texts: list[str]
    vectors: Vectors
    n_first: int
    position: Rows
    other: Rows
    is_match: NDArray[np.bool_]


def main() -> int:
    arguments = parse_arguments()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # near-duplicates of what the model reads are meant
    if arguments.tool is not None:
        print(json.dumps(time_once(arguments)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        arguments.vectors = arguments.vectors or str(Path(folder) / "vectors.npy")
        return measure_on_device(arguments) if arguments.device == "cuda" else measure_all(arguments)


def measure_all(arguments: argparse.Namespace) -> int:
    tools = find_tools()
    packages = PEER_PACKAGES if len(tools) > 1 else ()
    machine = {**describe_machine(), **{package: version(package) for package in packages}}
    machine["load_before"] = round(os.getloadavg()[0], 1)
    texts, products = read_messages(arguments.data), read_products(arguments.data)
    vectors, of_all = skembed.embed(texts), embed_all(arguments)
    equal = [
        *find_equal("short messages", texts, vectors, tools),
        *find_equal("product names", products.texts, products.vectors, tools),
    ]
    exact = measure_exact(of_all)
    near = measure_near(texts, vectors, tools)
    matches = measure_matches(products, tools)
    times = measure_times(texts, vectors, of_all, tools, arguments)
    machine["load_after"] = round(os.getloadavg()[0], 1)
    print_report(machine, EQUAL_HEADER, map(equal_row, equal))
    print_report({}, EXACT_HEADER, map(exact_row, exact))
    print_report({}, NEAR_HEADER, map(near_row, near))
    print_report({}, *matches_table(matches))
    print_report({}, TIME_HEADER, map(time_row, times))
    facts = {"n_rows": arguments.n_rows, "repeats": arguments.repeats}
    results = {"equal": equal, "exact": exact, "near": near, "matches": matches, "times": times}
    write_json(arguments.json, machine=machine, **facts, **results)
    return 0 if all(result["holds"] is not False for result in (*equal, *exact, *times)) else 1


def measure_on_device(arguments: argparse.Namespace) -> int:
    """Measure what NearDuplicates computes on a CUDA device, which it chooses by itself."""
    machine = describe_machine()
    exact = measure_exact(embed_all(arguments))
    times = [in_fresh_process(OURS, n_rows, arguments) for n_rows in arguments.n_rows]
    print_report(machine, EXACT_HEADER, map(exact_row, exact))
    print_report({}, TIME_HEADER, map(time_row, times))
    write_json(arguments.json, machine=machine, exact=exact, times=times)
    return 0 if all(result["holds"] is not False for result in (*exact, *times)) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    sizes = {"nargs": "*", "default": [N_ROWS_TIMED, N_ROWS_OF_BOUND], "help": "default: 100,000 and 1,000,000"}
    parser.add_argument("--n-rows", type=int, metavar="N", **sizes)
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds in turn (default: 5)")
    parser.add_argument("--vectors", metavar="FILE", help="where the vectors of all texts are kept, as .npy")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", metavar="FOLDER", help="another model of that shape")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--tool", choices=(OURS, *BACKENDS, PLAIN, RADIUS), help=argparse.SUPPRESS)
    return parser.parse_args()


def find_tools() -> dict[str, Tool]:
    """Return the tools by name; without semhash, only skembed."""
    if find_spec("semhash") is None:
        print('semhash is not installed, its rows are left out: pip install -c constraints.txt -e ".[bench]"')
        return {OURS: group_by_skembed}
    return {OURS: group_by_skembed, **{name: partial(group_by_semhash, backend=BACKENDS[name]) for name in BACKENDS}}


def group_by_skembed(vectors: Vectors, records: Records, threshold: float) -> Any:  # noqa: ARG001 - sees no texts
    return skembed.NearDuplicates(threshold=threshold).fit(vectors).labels_


def group_by_blocks(vectors: Vectors, records: Records, threshold: float) -> Any:  # noqa: ARG001
    n_rows, pairs = len(vectors), [np.empty((2, 0), np.intp)]
    for first in range(0, n_rows, BLOCK):
        for second in range(first, n_rows, BLOCK):
            cosines = vectors[first : first + BLOCK] @ vectors[second : second + BLOCK].T
            if cosines.max() >= threshold - SLACK:  # rarely, and fast to check
                position, other = np.nonzero(cosines >= threshold - SLACK)
                pairs.append(np.array([position + first, other + second]))
    return components(np.concatenate(pairs, axis=1), n_rows)


def group_by_radius(vectors: Vectors, records: Records, threshold: float) -> Any:  # noqa: ARG001
    finder = NearestNeighbors(radius=1 - threshold + SLACK, algorithm="brute", metric="cosine").fit(vectors)
    return connected_components(finder.radius_neighbors_graph(), directed=False)[1]


def components(pairs: Rows, n_rows: int) -> Rows:
    edges = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(n_rows, n_rows))
    return connected_components(edges, directed=False)[1]


def group_by_semhash(vectors: Vectors, records: Records, threshold: float, *, backend: str) -> Any:
    return index_by_semhash(vectors, records, backend).self_deduplicate(threshold)


def index_by_semhash(vectors: Vectors, records: Records, backend: str, encoder: Any = None) -> Any:
    from semhash import SemHash

    return SemHash.from_embeddings(vectors, records, encoder, columns=["text"], ann_backend=backend)


def make_records(texts: Sequence[str]) -> Records:
    return [{"text": text, "row": row} for row, text in enumerate(texts)]


def find_kept(result: Any, n_rows: int) -> Rows:
    """Return, from a tool's result, the row that is kept in place of each row: itself, or the row it duplicates."""
    if isinstance(result, np.ndarray):  # the number of each row's group
        return np.unique(result, return_index=True)[1][result]
    kept_for = np.arange(n_rows)
    for duplicate in result.filtered:
        kept_for[duplicate.record["row"]] = duplicate.duplicate_of["row"]
    return kept_for


def read_messages(folder: str | None) -> list[str]:
    return read_table(folder, "sms_spam/sms_spam")["text"].tolist()


def read_products(folder: str | None) -> Products:
    first, second, pairs = (read_table(folder, f"abt_buy/abt_buy_{name}") for name in ("table_a", "table_b", "pairs"))
    texts = [*first["text"], *second["text"]]
    row_of_first = {number: row for row, number in enumerate(first["id"])}
    row_of_second = {number: row for row, number in enumerate(second["id"], start=len(first))}
    return Products(
        texts=texts,
        vectors=skembed.embed(texts),
        n_first=len(first),
        position=pairs["id_a"].map(row_of_first).to_numpy(),
        other=pairs["id_b"].map(row_of_second).to_numpy(),
        is_match=pairs["label"].to_numpy() == 1,
    )


def embed_all(arguments: argparse.Namespace) -> Vectors:
    """Return the vectors of all distinct texts, from the file in which they are kept if it is there."""
    if not Path(arguments.vectors).is_file():
        texts = read_all_texts(arguments.data)
        np.save(arguments.vectors, skembed.embed(texts, model=arguments.model, device=arguments.device))
    return np.load(arguments.vectors)


def find_equal(name: str, texts: list[str], vectors: Vectors, tools: dict[str, Tool]) -> list[Result]:
    """Count the rows that are in one group with the first row of the same text."""
    row_of: dict[str, int] = {}
    first = np.array([row_of.setdefault(text, row) for row, text in enumerate(texts)])
    rows = np.flatnonzero(first != np.arange(len(texts)))
    results = []
    for tool, group in tools.items():
        kept_for = find_kept(group(vectors, make_records(texts), EQUAL_THRESHOLD), len(texts))
        n_found = int((kept_for[rows] == kept_for[first[rows]]).sum())
        holds = n_found == len(rows) if tool == OURS else None
        result = {"texts": name, "n_rows": len(texts), "n_equal": len(rows), "tool": tool, "n_found": n_found}
        results.append({**result, "holds": holds})
    return results


def measure_exact(of_all: Vectors) -> list[Result]:
    """Compare skembed's groups with those of all cosines in float64."""
    vectors = draw(of_all, N_ROWS_EXACT)
    results = []
    for threshold in EXACT_THRESHOLDS:
        pairs = float64_pairs(vectors, threshold - SLACK)
        start = perf_counter()
        labels = group_by_skembed(vectors, [], threshold)
        seconds = perf_counter() - start
        is_equal = bool(
            (find_kept(labels, len(vectors)) == find_kept(components(pairs, len(vectors)), len(vectors))).all()
        )
        facts = {"threshold": threshold, "n_rows": len(vectors), "n_near_pairs": pairs.shape[1]}
        results.append({**facts, "n_groups": int(labels.max()) + 1, "seconds": seconds, "holds": is_equal})
    return results


def float64_pairs(vectors: Vectors, cut: float) -> Rows:
    pairs = []
    for start in range(0, len(vectors), BLOCK):
        position, other = np.nonzero(
            np.triu(float64_cosines(vectors[start : start + BLOCK], vectors[start:]) >= cut, 1)
        )
        pairs.append([position + start, other + start])
    return np.concatenate(pairs, axis=1)


def draw(vectors: Vectors, n_rows: int) -> Vectors:
    return vectors[np.random.default_rng(0).permutation(len(vectors))[:n_rows]]


def measure_near(texts: list[str], vectors: Vectors, tools: dict[str, Tool]) -> list[Result]:
    """Compare each tool's groups with the cosines of all pairs of rows."""
    cosines = float64_cosines(vectors, vectors)
    results = []
    for threshold in THRESHOLDS:
        is_near = cosines >= threshold - SLACK
        pairs = np.array(np.nonzero(np.triu(is_near, 1)))
        n_edge = int((cosines[tuple(pairs)] < threshold).sum())  # near for skembed, but not for semhash
        wanted = {True: chain(pairs, len(texts)), False: keep_greedily(is_near)}
        for tool, group in tools.items():
            kept_for = find_kept(group(vectors, make_records(texts), threshold), len(texts))
            facts = {"threshold": threshold, "n_near_pairs": pairs.shape[1], "n_edge_pairs": n_edge, "tool": tool}
            results.append({**facts, **judge_groups(kept_for, wanted[tool == OURS], pairs)})
    return results


def float64_cosines(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    first, second = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for vectors in (first.astype(np.float64), second.astype(np.float64))
    )
    return first @ second.T


def chain(pairs: Rows, n_rows: int) -> NDArray[np.bool_]:
    """Return which rows skembed's rule drops: all but the first of each connected component."""
    group_of = components(pairs, n_rows)
    is_dropped = np.ones(n_rows, dtype=bool)
    is_dropped[np.unique(group_of, return_index=True)[1]] = False
    return is_dropped


def keep_greedily(is_near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows semhash's rule drops: those that are near an earlier row that is kept."""
    is_dropped = np.zeros(len(is_near), dtype=bool)
    for row in range(len(is_near)):
        is_dropped[row] = (is_near[row, :row] & ~is_dropped[:row]).any()
    return is_dropped


def judge_groups(kept_for: Rows, is_wanted: NDArray[np.bool_], pairs: Rows) -> Result:
    """Compare one tool's groups with the near pairs, and its dropped rows with those that its rule drops."""
    is_dropped = kept_for != np.arange(len(kept_for))
    dropped = is_dropped[pairs]
    has_kept = np.zeros(len(kept_for), dtype=bool)
    for this, beside in ((0, 1), (1, 0)):
        has_kept[pairs[this, ~dropped[beside]]] = True
    sizes = np.bincount(kept_for)
    n_pairs_in_groups = int((sizes * (sizes - 1) // 2).sum())
    n_right = int((kept_for[pairs[0]] == kept_for[pairs[1]]).sum())
    return {
        "n_dropped": int(is_dropped.sum()),
        "n_missed": int((is_wanted & ~is_dropped).sum()),
        "n_wrong": int((is_dropped & ~is_wanted).sum()),
        "n_left": len(np.unique(pairs[1, ~dropped.any(axis=0)])),
        "n_chained": int((is_dropped & ~has_kept).sum()),
        "precision": percent(n_right, n_pairs_in_groups, if_none=100.0),
        "recall": percent(n_right, pairs.shape[1], if_none=100.0),
        "largest_group": int(sizes.max()),
    }


def percent(part: int, whole: int, *, if_none: float) -> float:
    return 100 * part / whole if whole else if_none


def measure_matches(products: Products, tools: dict[str, Tool]) -> list[Result]:
    """Compare what each method calls the same product with the labels."""
    ways: dict[str, Callable[[float], NDArray[np.bool_]]] = {"cosine alone": partial(near_between, products)}
    for tool, group in tools.items():
        ways[tool] = partial(grouped_between, products, group)
    if EXACT_PEER in tools:
        ways["semhash, second against first"] = partial(deduplicated_between, products, BACKENDS[EXACT_PEER])
    return [
        {"threshold": threshold, "way": way, **judge_matches(find(threshold), products)}
        for threshold in THRESHOLDS
        for way, find in ways.items()
    ]


def near_between(products: Products, threshold: float) -> NDArray[np.bool_]:
    """Return which names of the first shop (rows) and of the second (columns) are near."""
    first, second = np.split(products.vectors, [products.n_first])
    return float64_cosines(first, second) >= threshold - SLACK


def grouped_between(products: Products, group: Tool, threshold: float) -> NDArray[np.bool_]:
    """Return which are in one group."""
    result = group(products.vectors, make_records(products.texts), threshold)
    first, second = np.split(find_kept(result, len(products.texts)), [products.n_first])
    return first[:, None] == second


def deduplicated_between(products: Products, backend: str, threshold: float) -> NDArray[np.bool_]:
    """Return which names of the first shop semhash finds for each of the second."""
    first, second = np.split(np.arange(len(products.texts)), [products.n_first])
    records = make_records(products.texts)
    index = index_by_semhash(products.vectors[first], records[: len(first)], backend, KnownVectors(products))
    is_same = np.zeros((len(first), len(second)), dtype=bool)
    for duplicate in index.deduplicate(records[len(first) :], threshold).filtered:
        is_same[duplicate.duplicate_of["row"], duplicate.record["row"] - len(first)] = True
    return is_same


class KnownVectors:
    """An encoder for semhash that returns the existing vectors of the texts."""

    def __init__(self, products: Products) -> None:
        self.vector_by_text = dict(zip(products.texts, products.vectors, strict=True))

    def encode(self, inputs: Sequence[str]) -> Vectors:
        """Look the vectors up."""
        return np.array([self.vector_by_text[text] for text in inputs])


def judge_matches(is_same: NDArray[np.bool_], products: Products) -> Result:
    is_found = is_same[products.position, products.other - products.n_first]
    n_found, n_right, n_all = int(is_found.sum()), int((is_found & products.is_match).sum()), int(is_same.sum())
    n_matches = int(products.is_match.sum())
    return {
        "n_matches": n_matches,
        "n_found": n_found,
        "n_right": n_right,
        "n_found_of_all_pairs": n_all,
        "precision": percent(n_right, n_found, if_none=100.0),
        "recall": percent(n_right, n_matches, if_none=100.0),
        "precision_of_all_pairs": percent(n_right, n_all, if_none=100.0),
        "f1": percent(2 * n_right, n_found + n_matches, if_none=100.0),
    }


def measure_times(
    texts: list[str], vectors: Vectors, of_all: Vectors, tools: dict[str, Tool], arguments: argparse.Namespace
) -> list[Result]:
    all_tools = {**tools, PLAIN: group_by_blocks, RADIUS: group_by_radius}
    exact = {OURS: group_by_skembed, PLAIN: group_by_blocks}
    results = time_in_turn("short messages", texts, vectors, all_tools, TIMED_THRESHOLD, arguments.repeats)
    some = draw(of_all, N_ROWS_IN_TURN)
    names = list(map(str, range(len(some))))
    for threshold in THRESHOLDS_IN_TURN:
        results += time_in_turn("texts of all sets", names, some, exact, threshold, arguments.repeats)
        results[-1]["holds"] = results[-1]["ratio"] >= SMALLEST_RATIO
        results[-1]["bound"] = f"at least {SMALLEST_RATIO} times"
    for n_rows in arguments.n_rows:
        results += time_in_processes(n_rows, list(all_tools), arguments)
    return results


def time_in_turn(
    name: str, texts: list[str], vectors: Vectors, tools: dict[str, Tool], threshold: float, repeats: int
) -> list[Result]:
    records = make_records(texts)
    start: Result = {"rows": name, "n_rows": len(texts), "threshold": threshold, "holds": None}
    results = {tool: {**start, "tool": tool, "seconds": [], "cpu_seconds": []} for tool in tools}
    for group in tools.values():
        group(vectors[:500], records[:500], threshold)  # to warm up
    for number in range(repeats):
        for tool in tools if number % 2 == 0 else reversed(tools):
            _, seconds, cpu_seconds = time(tools[tool], vectors, records, threshold)
            results[tool]["seconds"].append(seconds)
            results[tool]["cpu_seconds"].append(cpu_seconds)
            print(f"{name}, {threshold}, {tool}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return with_ratios(list(results.values()))


def with_ratios(results: list[Result]) -> list[Result]:
    """Add each tool's time in times of skembed's, which is the first."""
    for result in results:
        result["ratio"] = median(result["seconds"]) / median(results[0]["seconds"])
    return results


def time(group: Tool, vectors: Vectors, records: Records, threshold: float) -> tuple[Any, float, float]:
    """Group, and return the result, the seconds that passed, and the CPU seconds of all cores."""
    start, cpu_start = perf_counter(), process_time()
    result = group(vectors, records, threshold)
    return result, perf_counter() - start, process_time() - cpu_start


def time_in_processes(n_rows: int, tools: list[str], arguments: argparse.Namespace) -> list[Result]:
    """Group the noisy rows by each tool once; estimate exact ones that would take hours."""
    results = []
    for tool in tools:
        is_estimated = tool in ESTIMATED and n_rows > N_ROWS_TIMED
        result = in_fresh_process(tool, N_ROWS_TIMED if is_estimated else n_rows, arguments)
        if is_estimated:
            factor = (n_rows / N_ROWS_TIMED) ** 2
            scaled = {name: [value * factor for value in result[name]] for name in ("seconds", "cpu_seconds")}
            estimate = {"n_rows": n_rows, "growth_bytes": None, "found_percent": None, "is_estimated": True}
            result = {**result, **scaled, **estimate}
        results.append(result)
    return with_ratios(results)


def add_noise(vectors: Vectors, n_rows: int) -> tuple[Vectors, Rows]:
    """Return some vectors, then noisy copies of them, and the row of the origin of each copy.

    The cosine of a copy to its origin is even from 0.5 to 0.95.
    """
    originals = draw(vectors, min(len(vectors), n_rows // 2))
    random, n = np.random.default_rng(0), len(originals)
    rows = np.empty((n_rows, vectors.shape[1]), np.float32)
    rows[:n] = originals
    origin = np.arange(n_rows - n) % n
    for start in range(0, n_rows - n, 10_000):
        source = originals[origin[start : start + 10_000]]
        noise = random.standard_normal(source.shape, dtype=np.float32)
        noise -= np.einsum("ij,ij->i", noise, source)[:, None] * source
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        cosine = random.uniform(0.5, 0.95, (len(source), 1)).astype(np.float32)
        rows[n + start : n + start + len(source)] = cosine * source + np.sqrt(1 - cosine**2) * noise
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, origin


def percent_found(kept_for: Rows, vectors: Vectors, origin: Rows) -> float:
    copies = np.arange(len(vectors) - len(origin), len(vectors))
    is_near = cosines_of_pairs(vectors, copies, origin) >= TIMED_THRESHOLD
    return 100 * float((kept_for[copies] == kept_for[origin])[is_near].mean())


def cosines_of_pairs(vectors: Vectors, first: Rows, second: Rows) -> Vectors:
    starts = range(0, len(first), BLOCK)
    parts = [(vectors[first[start : start + BLOCK]], vectors[second[start : start + BLOCK]]) for start in starts]
    return np.concatenate([np.einsum("ij,ij->i", *part) for part in parts])


def in_fresh_process(tool: str, n_rows: int, arguments: argparse.Namespace) -> Result:
    options = ["--vectors", arguments.vectors, "--device", arguments.device]
    command = [sys.executable, __file__, "--tool", tool, "--n-rows", str(n_rows), *options]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(child.stdout.splitlines()[-1])
    print(f"with noise, {n_rows} rows, {tool}: {result['seconds'][0]:.1f} s", file=sys.stderr, flush=True)
    return result


def time_once(arguments: argparse.Namespace) -> Result:
    """Group noisy rows and return how far the resident memory rose meanwhile."""
    (n_rows,) = arguments.n_rows
    vectors, origin = add_noise(np.load(arguments.vectors, mmap_mode="r"), n_rows)
    records = make_records(list(map(str, range(n_rows))))
    group = {**find_tools(), PLAIN: group_by_blocks, RADIUS: group_by_radius}[arguments.tool]
    group(vectors[:500], records[:500], TIMED_THRESHOLD)  # to warm up
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = status_bytes("VmRSS")
    result, seconds, cpu_seconds = time(group, vectors, records, TIMED_THRESHOLD)
    growth = status_bytes("VmHWM") - before
    is_bound = arguments.tool == OURS and n_rows == N_ROWS_OF_BOUND
    most_seconds = LARGEST_SECONDS[arguments.device]
    return {
        "rows": "with noise",
        "n_rows": n_rows,
        "threshold": TIMED_THRESHOLD,
        "tool": arguments.tool,
        "seconds": [seconds],
        "cpu_seconds": [cpu_seconds],
        "ratio": 1.0,
        "growth_bytes": growth,
        "found_percent": percent_found(find_kept(result, n_rows), vectors, origin),
        "bound": f"at most {most_seconds} s, {LARGEST_GROWTH / MB:,.0f} MB" if is_bound else "",
        "holds": seconds <= most_seconds and growth <= LARGEST_GROWTH if is_bound else None,
    }


def status_bytes(name: str) -> int:
    """Read VmRSS, the resident memory of this process, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def equal_row(result: Result) -> list[str]:
    found = f"{result['n_found']:,} ({percent(result['n_found'], result['n_equal'], if_none=100.0):.1f} %)"
    bound = ["", ""] if result["holds"] is None else ["all", verdict(result["holds"])]
    return [result["texts"], f"{result['n_rows']:,}", f"{result['n_equal']:,}", result["tool"], found, *bound]


def exact_row(result: Result) -> list[str]:
    counts = (f"{result[what]:,}" for what in ("n_rows", "n_near_pairs", "n_groups"))
    seconds = f"{result['seconds']:.2f}"
    return [str(result["threshold"]), *counts, seconds, "groups of all cosines", verdict(result["holds"])]


def near_row(result: Result) -> list[str]:
    counts = (f"{result[f'n_{what}']:,}" for what in ("dropped", "missed", "wrong", "left", "chained"))
    shares = (f"{result[what]:.1f}" for what in ("precision", "recall"))
    start = [str(result["threshold"]), f"{result['n_near_pairs']:,}", result["tool"]]
    return [*start, *counts, *shares, f"{result['largest_group']:,}"]


def matches_table(results: list[Result]) -> tuple[list[str], list[list[str]]]:
    """Return one column for each method and one row for each threshold."""
    ways = dict.fromkeys(result["way"] for result in results)
    cells: dict[float, list[str]] = {}
    for result in results:
        shares = (f"{result[what]:.1f}" for what in ("precision", "recall", "precision_of_all_pairs"))
        cells.setdefault(result["threshold"], []).append(" / ".join(shares))
    return ["threshold", *ways], [[str(threshold), *row] for threshold, row in cells.items()]


def time_row(result: Result) -> list[str]:
    seconds, growth, found = result["seconds"], result.get("growth_bytes"), result.get("found_percent")
    return [
        result["rows"],
        f"{result['n_rows']:,}",
        str(result["threshold"]),
        result["tool"],
        f"{median(seconds):,.2f}{' (estimated)' if result.get('is_estimated') else ''}",
        f"{min(seconds):.2f} to {max(seconds):.2f}" if len(seconds) > 1 else "",
        f"{result['ratio']:.2f}",
        f"{median(result['cpu_seconds']):,.2f}",
        "" if found is None else f"{found:.2f} %",
        "" if growth is None else f"{growth / MB:,.0f} MB",
        *(["", ""] if result["holds"] is None else [result["bound"], verdict(result["holds"])]),
    ]


if __name__ == "__main__":
    sys.exit(main())
