"""Whether skembed's vectors are as good as published: known scores of all-MiniLM-L6-v2, with default settings.

    python benchmarks/quality.py --data FOLDER --json benchmarks/results/quality.json

- STS-Benchmark, test: Spearman correlation, times 100, between the given scores and the cosine of the two texts; for
  the model's own pooling and for all six.
- Banking77: accuracy on the test split, in percent, of a logistic regression on 8 training texts a label; the mean of
  10 draws, as MTEB does it.
- SciFact, test: nDCG@10, times 100, of an exact search by cosine; a document is its title, a space and its text.

The bounds are for the CPU, where the default precision is float32. Takes about ten minutes on two cores, most of it
for SciFact. Exit status 1 if a score leaves its bound.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # the published scores cut long texts too
    machine = describe_machine()
    results = list(measure(arguments.data))
    print_report(machine, ("score", "measured", "published", "bound", "holds"), map(table_row, results))
    write_json(arguments.json, machine=machine, results=results)
    return 0 if all(result["holds"] for result in results) else 1


def measure(folder: str | None) -> Iterator[dict[str, Any]]:
    for pooling, published in STS.items():
        yield result(f"STS-Benchmark test, Spearman, pooling={pooling}", sts(folder, pooling), published, 0.02)
    accuracies = banking77(folder)
    yield result("Banking77 test, accuracy", float(np.mean(accuracies)), 80.04, 0.7, draws=accuracies)
    yield result("SciFact test, nDCG@10", scifact(folder), 64.51, 0.1)


def result(score: str, measured: float, published: float, bound: float, **more: Any) -> dict[str, Any]:
    holds = abs(measured - published) <= bound
    return {"score": score, "measured": measured, "published": published, "bound": bound, "holds": holds, **more}


def sts(folder: str | None, pooling: str) -> float:
    pairs = read_table(folder, "stsbenchmark/stsbenchmark").query("split == 'test'")
    a, b = (unit(skembed.embed(pairs[column], pooling=pooling)) for column in ("text_a", "text_b"))
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
    """Draw rows as MTEB does: shuffle, take the first few of each label, and shuffle on from there."""
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


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table_row(result: dict[str, Any]) -> list[str]:
    return [
        result["score"],
        f"{result['measured']:.2f}",
        f"{result['published']:.2f}",
        f"± {result['bound']}",
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
