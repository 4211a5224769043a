"""Check that skembed's vectors are as good as published: known scores, and the smallest cosines to float32.

    python benchmarks/quality.py --data FOLDER --json benchmarks/results/quality.json

- STS-Benchmark, test: Spearman correlation, times 100, between the given scores and the cosine of the two texts; for
  the model's own pooling and for all six poolings with torch in float32; and with default settings.
- Banking77: accuracy on the test split, in percent, of a logistic regression on 8 training texts per label; the mean of
  10 draws, as in MTEB.
- SciFact, test: nDCG@10, times 100, of an exact search by cosine; a document is its title, a space and its text.
- The smallest cosine between the vector of a text with default settings and that with torch in float32, over all texts
  of the data sets in which it was smallest among thirteen. Short answers, and above all thanks, have the smallest.

Banking77 and SciFact use default settings: OpenVINO if it is installed, in bfloat16 if the processor supports it,
otherwise torch in float32. Takes about fifteen minutes on two cores. Exit status 1 if a score is out of bounds.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from data import add_data_argument, read_table, title_and_text
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

import skembed

# pooling -> Spearman x 100; "default" is published, the others were computed with sentence-transformers (README)
STS = {
    "default": 82.03,
    "mean": 82.03,
    "mean_sqrt_len_tokens": 82.03,
    "weightedmean": 81.59,
    "max": 78.80,
    "lasttoken": 77.97,
    "cls": 73.50,
}
N_DRAWS = 10
TEXTS_A_LABEL = 8
SEED = 42
TOP = 10
CHATTY = ("sms_spam/sms_spam", "clinc150/clinc150", "sst2/sst2")
SMALLEST_COSINE = 0.9999

FLOAT32: dict[str, Any] = {"backend": "torch", "dtype": "float32", "cache": None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # the published scores truncate long texts, too
    machine = describe_machine()
    results = list(measure(arguments.data))
    print_report(machine, ("score", "measured", "published", "bound", "holds"), map(table_row, results))
    write_json(arguments.json, machine=machine, results=results)
    return 0 if all(result["holds"] for result in results) else 1


def measure(folder: str | None) -> Iterator[dict[str, Any]]:
    for pooling, published in STS.items():
        measured = sts(folder, pooling=pooling, **FLOAT32)
        yield result(f"STS-Benchmark test, Spearman, torch float32, pooling={pooling}", measured, published, 0.02)
    yield result("STS-Benchmark test, Spearman, default settings", sts(folder), STS["default"], 0.05)
    accuracies = banking77(folder)
    yield result("Banking77 test, accuracy", float(np.mean(accuracies)), 80.04, 0.7, draws=accuracies)
    yield result("SciFact test, nDCG@10", scifact(folder), 64.51, 0.1)
    for name in CHATTY:
        cosine = smallest_cosine(read_table(folder, name)["text"])
        holds = cosine >= SMALLEST_COSINE
        yield {"score": f"{name}: smallest cosine", "measured": cosine, "bound": SMALLEST_COSINE, "holds": holds}


def result(score: str, measured: float, published: float, bound: float, **more: Any) -> dict[str, Any]:
    holds = abs(measured - published) <= bound
    return {"score": score, "measured": measured, "published": published, "bound": bound, "holds": holds, **more}


def sts(folder: str | None, **settings: Any) -> float:
    pairs = read_table(folder, "stsbenchmark/stsbenchmark").query("split == 'test'")
    a, b = (unit(skembed.embed(pairs[column], **settings)) for column in ("text_a", "text_b"))
    return 100 * float(spearmanr((a * b).sum(axis=1), pairs["score"]).statistic)


def banking77(folder: str | None) -> list[float]:
    table = read_table(folder, "banking77/banking77")
    train, test = (table[table["split"] == split] for split in ("train", "test"))
    train_vectors, test_vectors = skembed.embed(train["text"]), skembed.embed(test["text"])
    train_labels, test_labels = train["label"].to_numpy(), test["label"].to_numpy()
    accuracies = []
    for rows in draws(train_labels):
        classifier = LogisticRegression(max_iter=100, random_state=SEED).fit(train_vectors[rows], train_labels[rows])
        accuracies.append(100 * float(classifier.score(test_vectors, test_labels)))
    return accuracies


def draws(labels: NDArray[Any]) -> Iterator[list[int]]:
    """Draw rows as MTEB does: shuffle, take the first few of each label, and continue shuffling from there."""
    random_state, shuffled = np.random.RandomState(SEED), np.arange(len(labels))
    for _ in range(N_DRAWS):
        random_state.shuffle(shuffled)
        n_taken: Counter[Any] = Counter()
        rows = []
        for row in shuffled:
            if n_taken[labels[row]] < TEXTS_A_LABEL:
                n_taken[labels[row]] += 1
                rows.append(int(row))
        yield rows


def scifact(folder: str | None) -> float:
    documents = read_table(folder, "scifact/corpus")
    queries = read_table(folder, "scifact/queries").query("split == 'test'")
    qrels = read_table(folder, "scifact/qrels").query("split == 'test' and score > 0")
    relevant = qrels.groupby("query_id")["doc_id"].agg(set)
    cosines = unit(skembed.embed(queries["text"])) @ unit(skembed.embed(title_and_text(documents))).T
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :TOP]
    found = documents["doc_id"].to_numpy()[best]
    gains = [ndcg(ids, relevant[query]) for query, ids in zip(queries["query_id"], found, strict=True)]
    return 100 * float(np.mean(gains))


def ndcg(found: NDArray[Any], relevant: set[Any]) -> float:
    """Compute the normalised discounted cumulative gain of one ranking, with gains of 0 and 1."""
    discounts = 1 / np.log2(np.arange(2, len(found) + 2))
    gains = [doc_id in relevant for doc_id in found]
    return float(discounts @ gains / discounts[: len(relevant)].sum())


def smallest_cosine(texts: pd.Series[str]) -> float:
    found, expected = unit(skembed.embed(texts, cache=None)), unit(skembed.embed(texts, **FLOAT32))
    return float(np.einsum("ij,ij->i", found, expected, dtype=np.float64).min())


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table_row(result: dict[str, Any]) -> list[str]:
    is_cosine = "published" not in result
    return [
        result["score"],
        f"{result['measured']:.6f}" if is_cosine else f"{result['measured']:.2f}",
        "" if is_cosine else f"{result['published']:.2f}",
        f"at least {result['bound']}" if is_cosine else f"± {result['bound']}",
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
