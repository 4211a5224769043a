"""Measure how well two tables are linked, whether the links have the largest sum, and what they cost.

    python benchmarks/linking.py --data FOLDER --json benchmarks/results/linking.json

Three tables:

- Quality: three pairs of columns whose truth is known. Products: the names in the tables of two shops (Abt-Buy), where
  a pair of rows is right if it is labelled as the same product. Abstracts: the titles of 1,000 papers and their
  abstracts (SciFact). Paraphrases: the two sentences of the pairs with a score of at least 4 of 5 (STS-Benchmark,
  test). Scores of a pair: the cosine of embeddings (``skembed.embed``, default model), the cosine of TF-IDF of words,
  of TF-IDF of 3 to 5 characters within words, and the mean of the first and the last. Ways to link: each row of the
  left side to its nearest; the same where it is mutual; and one to one. One to one with embeddings is
  ``text.join(..., min_score=..., one_to_one=True)``; with other scores, scipy's dense assignment of the same pairs.
  Each figure is F1 at the best threshold, in steps of 0.01, with its precision and recall: a threshold chosen with the
  truth in hand.
- Exact: 1,000 texts of all sets, and noisy copies of them, or 1,000 other texts, by ``min_score``. Whether
  ``text.join`` has the same pairs as scipy's dense assignment, and the same sum. Pairs that do not reach ``min_score``
  count 0 there.
- Time: 100,000 texts and a noisy copy of each, shuffled, with a ``min_score`` that leaves 4.6 million pairs; 50,000
  texts and 50,000 others, which takes longer, because hardly a row has a partner of its own; and the same without
  ``min_score``, with fewer rows. Each once, in a fresh process, from vectors. Memory growth is the peak during the
  call, less the resident memory before. "Right" is the share of links that are between a row and its copy.

Noise is Gaussian; the cosine of a copy to its origin is even from 0.5 to 0.95. The texts are all distinct ones of fewer
than 200 characters; ``--vectors`` names a file in which the vectors of 100,000 of them are kept, which take minutes.

Needs Linux. Exit status 1 if a bound fails: on the products, one to one with embeddings has an F1 of 0.865; all links
are those of the dense assignment; 100,000 with 100,000 rows are linked in 10 minutes and 4 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
from data import add_data_argument, read_all_texts, read_table, sample
from duplicates import MB, add_noise, status_bytes
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from scipy.optimize import linear_sum_assignment
from sklearn.feature_extraction.text import TfidfVectorizer

import skembed

SMALLEST_F1 = 0.865
THRESHOLDS = np.arange(1, 100) / 100
MIN_SCORES = (None, 0.0, 0.3, 0.5, 0.7)
SLACK = 1e-6  # what text.join allows below min_score
N_ROWS_EXACT = 1000
N_VECTORS = 100_000
LARGEST_SECONDS, LARGEST_GROWTH = 600, 4 * 10**9
TIMED = {  # rows of each side, min_score
    "noisy copies": (100_000, 0.43),
    "other texts": (50_000, 0.43),
    "noisy copies, all pairs": (20_000, None),
    "other texts, all pairs": (10_000, None),
}
BOUND = "noisy copies"
OURS = "embeddings"
QUALITY_HEADER = ("columns", "score", "way", "threshold", "precision", "recall", "F1", "bound", "holds")
EXACT_HEADER = ("rows", "min_score", "links", "sum", "bound", "holds")
TIME_HEADER = (
    "rows", "a side", "min_score", "links", "right", "seconds", "CPU seconds", "memory growth", "bound", "holds",
)  # fmt: skip

Rows = NDArray[np.intp]
Matrix = NDArray[np.float64]
Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    if arguments.time is not None:
        print(json.dumps(time_once(arguments.time, arguments.vectors)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        arguments.vectors = arguments.vectors or str(Path(folder) / "vectors.npy")
        return measure_all(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--vectors", metavar="FILE", help="where the vectors of the texts are kept, as .npy")
    parser.add_argument("--time", choices=TIMED, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace) -> int:
    machine = describe_machine()
    machine["load_before"] = round(os.getloadavg()[0], 1)
    quality = measure_quality(arguments.data)
    vectors = embed_texts(arguments)
    exact = measure_exact(vectors)
    del vectors
    times = [in_fresh_process(name, arguments.vectors) for name in TIMED]
    machine["load_after"] = round(os.getloadavg()[0], 1)
    print_report(machine, QUALITY_HEADER, map(quality_row, quality))
    print_report({}, EXACT_HEADER, map(exact_row, exact))
    print_report({}, TIME_HEADER, map(time_row, times))
    write_json(arguments.json, machine=machine, quality=quality, exact=exact, times=times)
    return 0 if all(result["holds"] is not False for result in (*quality, *exact, *times)) else 1


# Quality


def measure_quality(folder: str | None) -> list[Result]:
    results = []
    for name, read in {"products": read_products, "abstracts": read_abstracts, "paraphrases": read_paraphrases}.items():
        left, right, is_match = read(folder)
        for score, cosines in score_pairs(left, right).items():
            for way, link in {"nearest": link_nearest, "mutual": link_mutual}.items():
                results.append({"columns": name, "score": score, "way": way, **judge_best(*link(cosines), is_match)})
            if score == OURS:
                vectors = [pd.Series(skembed.VectorArray(skembed.embed(side))) for side in (left, right)]
                judged = [judge(*join(*vectors, threshold), is_match, threshold) for threshold in THRESHOLDS]
            else:
                judged = [judge(*assign(cosines, threshold), is_match, threshold) for threshold in THRESHOLDS]
            best = max(judged, key=lambda result: result["f1"])
            results.append({"columns": name, "score": score, "way": "one to one", **best})
            if score == OURS and name == "products":
                results[-1] |= {"bound": f"at least {SMALLEST_F1}", "holds": best["f1"] >= SMALLEST_F1}
    return results


def read_products(folder: str | None) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    left, right, pairs = (read_table(folder, f"abt_buy/abt_buy_{name}") for name in ("table_a", "table_b", "pairs"))
    pairs = pairs[pairs["label"] == 1]
    is_match = np.zeros((len(left), len(right)), dtype=bool)
    is_match[pd.Index(left["id"]).get_indexer(pairs["id_a"]), pd.Index(right["id"]).get_indexer(pairs["id_b"])] = True
    return left["text"].tolist(), right["text"].tolist(), is_match


def read_abstracts(folder: str | None) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    papers = read_table(folder, "scifact/corpus").sample(1000, random_state=0)
    shuffled = papers.sample(frac=1, random_state=1)
    return (
        papers["title"].tolist(),
        shuffled["text"].tolist(),
        papers.index.to_numpy()[:, None] == shuffled.index.to_numpy(),
    )


def read_paraphrases(folder: str | None) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    pairs = read_table(folder, "stsbenchmark/stsbenchmark")
    pairs = pairs[(pairs["split"] == "test") & (pairs["score"] >= 4)]
    left, right = pairs["text_a"].tolist(), pairs["text_b"].tolist()
    told = set(zip(left, right, strict=True))  # some sentences are in several pairs
    return left, right, np.array([[(one, other) in told for other in right] for one in left])


def score_pairs(left: list[str], right: list[str]) -> dict[str, Matrix]:
    of_embeddings = cosines_of(skembed.embed(left), skembed.embed(right))
    of_words = tfidf(left, right, analyzer="word")
    of_characters = tfidf(left, right, analyzer="char_wb", ngram_range=(3, 5))
    both = (of_embeddings + of_characters) / 2
    return {OURS: of_embeddings, "words": of_words, "characters": of_characters, "embeddings and characters": both}


def tfidf(left: list[str], right: list[str], **params: Any) -> Matrix:
    vectorizer = TfidfVectorizer(sublinear_tf=True, **params).fit([*left, *right])
    return (vectorizer.transform(left) @ vectorizer.transform(right).T).toarray()


def cosines_of(left: NDArray[np.float32], right: NDArray[np.float32]) -> Matrix:
    left, right = (
        side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left.astype(float), right.astype(float))
    )
    return left @ right.T


def link_nearest(scores: Matrix) -> tuple[Rows, Rows, Matrix]:
    rows, others = np.arange(len(scores)), scores.argmax(axis=1)
    return rows, others, scores[rows, others]


def link_mutual(scores: Matrix) -> tuple[Rows, Rows, Matrix]:
    rows, others, of_pairs = link_nearest(scores)
    is_mutual = scores.argmax(axis=0)[others] == rows
    return rows[is_mutual], others[is_mutual], of_pairs[is_mutual]


def assign(scores: Matrix, min_score: float | None) -> tuple[Rows, Rows]:
    """Return scipy's assignment; pairs that do not reach min_score, or have a negative score, count 0."""
    if min_score is None:
        return linear_sum_assignment(scores, maximize=True)
    gains = np.where(scores >= min_score - SLACK, scores, 0).clip(0)
    rows, others = linear_sum_assignment(gains, maximize=True)
    is_link = gains[rows, others] > 0
    return rows[is_link], others[is_link]


def join(left: pd.Series, right: pd.Series, min_score: float | None) -> tuple[Rows, Rows]:
    joined = left.text.join(right, min_score=min_score, one_to_one=True)
    rows = np.flatnonzero(joined["position"].notna())
    return rows, joined["position"].to_numpy(dtype=np.intp, na_value=-1)[rows]


def judge_best(rows: Rows, others: Rows, scores: Matrix, is_match: NDArray[np.bool_]) -> Result:
    judged = []
    for threshold in THRESHOLDS:
        is_link = scores >= threshold - SLACK
        judged.append(judge(rows[is_link], others[is_link], is_match, threshold))
    return max(judged, key=lambda result: result["f1"])


def judge(rows: Rows, others: Rows, is_match: NDArray[np.bool_], threshold: float) -> Result:
    n_right, n_links, n_matches = int(is_match[rows, others].sum()), len(rows), int(is_match.sum())
    return {
        "threshold": float(threshold),
        "precision": n_right / max(1, n_links),
        "recall": n_right / n_matches,
        "f1": 2 * n_right / (n_links + n_matches),
        "holds": None,
    }


# Exactness and time


def embed_texts(arguments: argparse.Namespace) -> NDArray[np.float32]:
    """Return the vectors of short texts, from the file in which they are kept if it is there."""
    if not Path(arguments.vectors).is_file():
        texts = [text for text in read_all_texts(arguments.data) if len(text) < 200]
        np.save(arguments.vectors, skembed.embed(sample(texts, N_VECTORS)))
    return np.load(arguments.vectors)


def make_sides(vectors: NDArray[np.float32], name: str, n_rows: int) -> tuple[Any, Any, Rows]:
    """Return two sides, and the row of the left side that each row of the right one copies; -1 for none."""
    if name.startswith("other"):
        return vectors[:n_rows], vectors[n_rows : 2 * n_rows], np.full(n_rows, -1)
    rows, origin = add_noise(vectors, 2 * n_rows)
    order = np.random.default_rng(0).permutation(n_rows)
    return rows[:n_rows], rows[n_rows:][order], origin[order]


def measure_exact(vectors: NDArray[np.float32]) -> list[Result]:
    results = []
    for name in ("noisy copies", "other texts"):
        left, right, _ = make_sides(vectors, name, N_ROWS_EXACT)
        scores = cosines_of(left, right)
        for min_score in MIN_SCORES:
            rows, others = join(*(pd.Series(skembed.VectorArray(side)) for side in (left, right)), min_score)
            wanted = assign(scores, min_score)
            is_same = np.array_equal(rows, wanted[0]) and np.array_equal(others, wanted[1])
            of_links, of_wanted = scores[rows, others].sum(), scores[wanted].sum()
            results.append(
                {
                    "rows": name,
                    "min_score": min_score,
                    "n_links": len(rows),
                    "sum": float(of_links),
                    "sum_of_scipy": float(of_wanted),
                    "holds": bool(is_same and abs(of_links - of_wanted) < 1e-9 * len(scores)),
                }
            )
    return results


def in_fresh_process(name: str, vectors: str) -> Result:
    command = [sys.executable, __file__, "--time", name, "--vectors", vectors]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(child.stdout.splitlines()[-1])
    print(f"{name}: {result['seconds']:.1f} s", file=sys.stderr, flush=True)
    return result


def time_once(name: str, file: str) -> Result:
    """Link two sides and return how far the resident memory rose meanwhile."""
    n_rows, min_score = TIMED[name]
    left, right, origin = make_sides(np.load(file, mmap_mode="r"), name, n_rows)
    left, right = (pd.Series(skembed.VectorArray(side)) for side in (left, right))
    left[:500].text.join(right[:500], min_score=min_score, one_to_one=True)  # to warm up
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, start, cpu_start = status_bytes("VmRSS"), perf_counter(), process_time()
    rows, others = join(left, right, min_score)
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    growth = status_bytes("VmHWM") - before
    is_bound = name == BOUND
    return {
        "rows": name,
        "n_rows": n_rows,
        "min_score": min_score,
        "n_links": len(rows),
        "right_percent": 100 * float((origin[others] == rows).mean()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "growth_bytes": growth,
        "bound": f"at most {LARGEST_SECONDS} s, {LARGEST_GROWTH / MB:,.0f} MB" if is_bound else "",
        "holds": seconds <= LARGEST_SECONDS and growth <= LARGEST_GROWTH if is_bound else None,
    }


# Tables


def quality_row(result: Result) -> list[str]:
    shares = (f"{result[name]:.3f}" for name in ("precision", "recall", "f1"))
    start = [result[name] for name in ("columns", "score", "way")]
    return [*start, f"{result['threshold']:.2f}", *shares, result.get("bound", ""), verdict(result["holds"])]


def exact_row(result: Result) -> list[str]:
    start = [result["rows"], str(result["min_score"]), f"{result['n_links']:,}", f"{result['sum']:.6f}"]
    return [*start, "pairs and sum of scipy's", verdict(result["holds"])]


def time_row(result: Result) -> list[str]:
    return [
        result["rows"],
        f"{result['n_rows']:,}",
        str(result["min_score"]),
        f"{result['n_links']:,}",
        "" if result["rows"].startswith("other") else f"{result['right_percent']:.1f} %",
        f"{result['seconds']:.0f}",
        f"{result['cpu_seconds']:.0f}",
        f"{result['growth_bytes'] / MB:,.0f} MB",
        result["bound"],
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
