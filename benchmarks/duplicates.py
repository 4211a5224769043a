"""Measure how good and how fast ``NearDuplicates`` is, compared with semhash on the same vectors.

    python benchmarks/duplicates.py --data FOLDER --json benchmarks/results/duplicates.json
    python benchmarks/duplicates.py --data FOLDER --n-rows 0    # without the 100,000 rows, which take long

All tools get the vectors that ``skembed.embed`` computes with its default model:

- skembed: ``NearDuplicates(threshold=threshold).fit(vectors)``. Groups are chains of near rows; the first row of each
  group is kept. It sees only vectors.
- semhash: ``SemHash.from_embeddings(vectors, records).self_deduplicate(threshold)``, where a record is a dict with one
  text. Equal texts are one record from the start. Then, in the order of the rows, a row is kept unless it is near a row
  already kept; otherwise it belongs to the nearest of these. There are no chains. Two of its backends are measured: the
  default usearch is approximate and looks in bfloat16 first; faiss flat compares all pairs, as "basic" would. Without
  semhash, its rows are omitted.

Four tables:

- Equal texts: how many of the rows whose text appeared before are in one group with it, at threshold 0.999; in the
  short messages (SMS Spam), and in the product names of the two shops (Abt-Buy) together.
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
- Time: only the grouping, from finished vectors and records. The short messages and 20,000 made-up rows take several
  rounds, with all tools in turn, in reverse order every other round; figures are medians. CPU seconds are the sum over
  all threads, which is more reliable on a shared machine. ``--n-rows`` made-up rows are grouped once, by each tool in a
  fresh process; memory growth is the peak during grouping, less the resident memory before. Made-up vectors have 384
  dimensions; the variance of the k-th is proportional to 1/k, about how the vectors of the short messages spread over
  their principal directions. The last tenth are copies of earlier rows with noise. "Found" is the share of copies near
  enough to their origin that are in one group with it.

Needs Linux. Exit status 1 if a bound fails: skembed finds all equal texts, and groups 100,000 rows within 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
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
from data import add_data_argument, read_table
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import skembed

THRESHOLDS = (0.999, 0.99, 0.95, 0.9, 0.85, 0.8, 0.7)
EQUAL_THRESHOLD = 0.999
TIMED_THRESHOLD = 0.9
SLACK = 1e-6  # what NearDuplicates allows below the threshold
N_ROWS_IN_TURN = 20_000
LARGEST_SECONDS = 180  # for at most so many rows:
N_ROWS_OF_BOUND = 100_000
DIM = 384
MB = 10**6
OURS = "skembed"
BACKENDS = {"semhash, usearch": "usearch", "semhash, faiss flat": "faiss"}  # the rows that it has in the tables
EXACT_PEER = "semhash, faiss flat"
PEER_PACKAGES = ("semhash", "vicinity", "usearch", "numkong", "faiss-cpu")
EQUAL_HEADER = ("equal texts", "rows", "text came before", "tool", "found", "bound", "holds")
NEAR_HEADER = (
    "threshold", "near pairs", "tool", "dropped", "missed", "wrong", "left", "chained", "precision", "recall",
    "largest group",
)  # fmt: skip
TIME_HEADER = (
    "rows", "n", "tool", "seconds", "of single rounds", "times skembed's", "CPU seconds", "found", "memory growth",
    "bound", "holds",
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
    if arguments.tool is not None:
        print(json.dumps(time_once(arguments.tool, arguments.n_rows)))
        return 0
    tools = find_tools()
    packages = PEER_PACKAGES if len(tools) > 1 else ()
    machine = {**describe_machine(), **{package: version(package) for package in packages}}
    machine["load_before"] = round(os.getloadavg()[0], 1)
    texts, products = read_messages(arguments.data), read_products(arguments.data)
    vectors = skembed.embed(texts)
    equal = [
        *find_equal("short messages", texts, vectors, tools),
        *find_equal("product names", products.texts, products.vectors, tools),
    ]
    near = measure_near(texts, vectors, tools)
    matches = measure_matches(products, tools)
    times = measure_times(texts, vectors, tools, arguments)
    machine["load_after"] = round(os.getloadavg()[0], 1)
    print_report(machine, EQUAL_HEADER, map(equal_row, equal))
    print_report({}, NEAR_HEADER, map(near_row, near))
    print_report({}, *matches_table(matches))
    print_report({}, TIME_HEADER, map(time_row, times))
    facts = {"timed_threshold": TIMED_THRESHOLD, "n_rows": arguments.n_rows, "repeats": arguments.repeats}
    write_json(arguments.json, machine=machine, **facts, equal=equal, near=near, matches=matches, times=times)
    return 0 if all(result["holds"] is not False for result in (*equal, *times)) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--n-rows", type=int, default=100_000, metavar="N", help="default: 100,000; none: 0")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds in turn (default: 5)")
    parser.add_argument("--tool", choices=(OURS, *BACKENDS), help=argparse.SUPPRESS)
    return parser.parse_args()


def find_tools() -> dict[str, Tool]:
    """Return the tools by name; without semhash, only skembed."""
    if find_spec("semhash") is None:
        print('semhash is not installed, its rows are left out: pip install -c constraints.txt -e ".[bench]"')
        return {OURS: group_by_skembed}
    return {OURS: group_by_skembed, **{name: partial(group_by_semhash, backend=BACKENDS[name]) for name in BACKENDS}}


def group_by_skembed(vectors: Vectors, records: Records, threshold: float) -> Any:  # noqa: ARG001 - sees no texts
    return skembed.NearDuplicates(threshold=threshold).fit(vectors)


def group_by_semhash(vectors: Vectors, records: Records, threshold: float, *, backend: str) -> Any:
    return index_by_semhash(vectors, records, backend).self_deduplicate(threshold)


def index_by_semhash(vectors: Vectors, records: Records, backend: str, encoder: Any = None) -> Any:
    from semhash import SemHash

    return SemHash.from_embeddings(vectors, records, encoder, columns=["text"], ann_backend=backend)


def make_records(texts: Sequence[str]) -> Records:
    return [{"text": text, "row": row} for row, text in enumerate(texts)]


def find_kept(result: Any, n_rows: int) -> Rows:
    """Return, from a tool's result, the row that is kept in place of each row: itself, or the row it duplicates."""
    if isinstance(result, skembed.NearDuplicates):
        return result.representatives_[result.labels_]
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
    edges = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(n_rows, n_rows))
    _, group_of = connected_components(edges, directed=False)
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
    texts: list[str], vectors: Vectors, tools: dict[str, Tool], arguments: argparse.Namespace
) -> list[Result]:
    results = time_in_turn("short messages", texts, vectors, tools, arguments.repeats)
    made_up, origin = make_vectors(N_ROWS_IN_TURN)
    names = list(map(str, range(N_ROWS_IN_TURN)))
    results += time_in_turn("made up", names, made_up, tools, arguments.repeats, origin)
    if arguments.n_rows:
        results += [in_fresh_process(tool, arguments.n_rows) for tool in tools]
    for place, result in enumerate(results):
        ours = results[place - place % len(tools)]  # skembed is the first of the tools
        result["ratio"] = median(result["seconds"]) / median(ours["seconds"])
    return results


def time_in_turn(
    name: str,
    texts: list[str],
    vectors: Vectors,
    tools: dict[str, Tool],
    repeats: int,
    origin: Rows | None = None,
) -> list[Result]:
    records = make_records(texts)
    start: Result = {"rows": name, "n_rows": len(texts), "holds": None}
    results = {tool: {**start, "tool": tool, "seconds": [], "cpu_seconds": []} for tool in tools}
    for group in tools.values():
        group(vectors[:500], records[:500], TIMED_THRESHOLD)  # to warm up
    for number in range(repeats):
        for tool in tools if number % 2 == 0 else reversed(tools):
            result, seconds, cpu_seconds = time(tools[tool], vectors, records)
            results[tool]["seconds"].append(seconds)
            results[tool]["cpu_seconds"].append(cpu_seconds)
            if origin is not None:
                results[tool]["found_percent"] = percent_found(find_kept(result, len(texts)), vectors, origin)
            print(f"{name}, {tool}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return list(results.values())


def time(group: Tool, vectors: Vectors, records: Records) -> tuple[Any, float, float]:
    """Group, and return the result, the seconds that passed, and the CPU seconds of all cores."""
    start, cpu_start = perf_counter(), process_time()
    result = group(vectors, records, TIMED_THRESHOLD)
    return result, perf_counter() - start, process_time() - cpu_start


def make_vectors(n_rows: int) -> tuple[Vectors, Rows]:
    """Make up vectors, the last tenth of them near copies, and return the row that each of these was copied from."""
    random, n_copies = np.random.default_rng(0), n_rows // 10
    vectors, noise = (draw_directions(random, n) for n in (n_rows, n_copies))
    origin = random.integers(0, n_rows - n_copies, n_copies)
    vectors[-n_copies:] = vectors[origin] + noise * random.uniform(0.02, 0.45, (n_copies, 1)).astype(np.float32)
    vectors[-n_copies:] /= np.linalg.norm(vectors[-n_copies:], axis=1, keepdims=True)
    return vectors, origin


def draw_directions(random: np.random.Generator, n_rows: int) -> Vectors:
    vectors = random.standard_normal((n_rows, DIM), dtype=np.float32)
    vectors /= np.sqrt(np.arange(1, DIM + 1, dtype=np.float32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def percent_found(kept_for: Rows, vectors: Vectors, origin: Rows) -> float:
    copies = np.arange(len(vectors) - len(origin), len(vectors))
    is_near = np.einsum("ij,ij->i", vectors[copies], vectors[origin]) >= TIMED_THRESHOLD
    return 100 * float((kept_for[copies] == kept_for[origin])[is_near].mean())


def in_fresh_process(tool: str, n_rows: int) -> Result:
    command = [sys.executable, __file__, "--tool", tool, "--n-rows", str(n_rows)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(child.stdout.splitlines()[-1])
    print(f"made up, {n_rows} rows, {tool}: {result['seconds'][0]:.1f} s", file=sys.stderr, flush=True)
    return result


def time_once(tool: str, n_rows: int) -> Result:
    """Group made-up rows and return how far the resident memory rose meanwhile."""
    vectors, origin = make_vectors(n_rows)
    records, group = make_records(list(map(str, range(n_rows)))), find_tools()[tool]
    group(vectors[:500], records[:500], TIMED_THRESHOLD)  # to warm up
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = status_bytes("VmRSS")
    result, seconds, cpu_seconds = time(group, vectors, records)
    return {
        "rows": "made up",
        "n_rows": n_rows,
        "tool": tool,
        "seconds": [seconds],
        "cpu_seconds": [cpu_seconds],
        "growth_bytes": status_bytes("VmHWM") - before,
        "found_percent": percent_found(find_kept(result, n_rows), vectors, origin),
        "holds": seconds <= LARGEST_SECONDS if tool == OURS and n_rows <= N_ROWS_OF_BOUND else None,
    }


def status_bytes(name: str) -> int:
    """Read VmRSS, the resident memory of this process, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def equal_row(result: Result) -> list[str]:
    found = f"{result['n_found']:,} ({percent(result['n_found'], result['n_equal'], if_none=100.0):.1f} %)"
    bound = ["", ""] if result["holds"] is None else ["all", verdict(result["holds"])]
    return [result["texts"], f"{result['n_rows']:,}", f"{result['n_equal']:,}", result["tool"], found, *bound]


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
    bound = ["", ""] if result["holds"] is None else [f"at most {LARGEST_SECONDS} s", verdict(result["holds"])]
    return [
        result["rows"],
        f"{result['n_rows']:,}",
        result["tool"],
        f"{median(seconds):.2f}",
        f"{min(seconds):.2f} to {max(seconds):.2f}" if len(seconds) > 1 else "",
        f"{result['ratio']:.2f}",
        f"{median(result['cpu_seconds']):.2f}",
        "" if found is None else f"{found:.2f} %",
        "" if growth is None else f"{growth / MB:,.0f} MB",
        *bound,
    ]


if __name__ == "__main__":
    sys.exit(main())
