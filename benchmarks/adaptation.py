"""Measure what it is worth to adapt a model to texts of a domain, without labels, before a task of that domain.

    export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
    python benchmarks/adaptation.py --data FOLDER --json benchmarks/results/adaptation.json
    python benchmarks/adaptation.py --data FOLDER --tasks banking77 --losses tsdae --learning-rate 1e-5

The default model is adapted to 5,000 texts by each loss for texts alone, with default settings otherwise. Then
``LogisticRegression(C=10, max_iter=1000)`` learns the task from the vectors of a few labelled texts, 8 a label, before
and after the adaptation, from the same texts in the same five draws. Accuracy in percent; the gain is a mean over the
draws, with its standard error.

- banking77: 5,000 of the training rows; tested on the test rows.
- stackoverflow_titles: 5,000 rows; examples and the 5,000 test rows are others.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from data import add_data_argument, read_table
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, write_json
from sklearn.linear_model import LogisticRegression

import skembed
from skembed import SentenceEmbeddingFineTuner

TASKS = ("banking77", "stackoverflow_titles")
LOSSES = ("tsdae", "mlm", "multiple_negatives_ranking")
N_TEXTS = 5000
HEADER = ("task", "loss", "learning rate", "before", "after", "gain", "minutes")

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    machine = describe_machine()
    results = []
    for task in arguments.tasks:
        unlabelled, pool, test = read_task(arguments.data, task)
        draws = [pool.groupby("label").sample(arguments.examples, random_state=draw) for draw in range(arguments.draws)]
        before = scores_of(lambda texts: skembed.embed(texts), draws, test)
        for loss in arguments.losses:
            tuner = SentenceEmbeddingFineTuner(loss=loss, learning_rate=arguments.learning_rate, random_state=0)
            start = perf_counter()
            tuner.fit(unlabelled)
            seconds = perf_counter() - start
            after = scores_of(tuner.transform, draws, test)
            results.append(
                {"task": task, "loss": loss, "rate": arguments.learning_rate, "seconds": seconds}
                | {"before": before.tolist(), "after": after.tolist()}
            )
            print(" ".join(row(results[-1])), file=sys.stderr, flush=True)
    print_report(machine, HEADER, map(row, results))
    write_json(arguments.json, machine=machine, results=results)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="default: all")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES, help="default: all")
    parser.add_argument("--learning-rate", type=float, default=2e-5, help="default: 2e-5")
    parser.add_argument("--examples", type=int, default=8, help="labelled examples of each label; default: 8")
    parser.add_argument("--draws", type=int, default=5, help="default: 5")
    return parser.parse_args()


def read_task(folder: str | None, task: str) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """Return texts without labels, rows from which labelled examples are drawn, and test rows."""
    table = read_table(folder, f"{task}/{task}")
    if "split" in table:
        train, test = table[table["split"] == "train"], table[table["split"] == "test"]
        return train["text"].sample(N_TEXTS, random_state=0).tolist(), train, test
    shuffled = table.sample(frac=1, random_state=0)
    return shuffled["text"].iloc[:N_TEXTS].tolist(), shuffled.iloc[2 * N_TEXTS :], shuffled.iloc[N_TEXTS : 2 * N_TEXTS]


def scores_of(embed: Any, draws: list[pd.DataFrame], test: pd.DataFrame) -> NDArray[np.float64]:
    """Return the accuracy of each draw, in percent."""
    vectors = embed(test["text"].tolist())
    accuracies = []
    for few in draws:
        classifier = LogisticRegression(C=10, max_iter=1000).fit(embed(few["text"].tolist()), few["label"])
        accuracies.append(100 * classifier.score(vectors, test["label"]))
    return np.array(accuracies)


def row(result: Result) -> list[str]:
    before, after = np.array(result["before"]), np.array(result["after"])
    gain = after - before
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else 0.0
    cells = [f"{before.mean():.2f}", f"{after.mean():.2f}", f"{gain.mean():+.2f} ± {error:.2f}"]
    return [result["task"], result["loss"], f"{result['rate']:g}", *cells, f"{result['seconds'] / 60:.1f}"]


if __name__ == "__main__":
    sys.exit(main())
