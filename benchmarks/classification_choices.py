"""Measure the figures of docs/classification.md: regularisation, uneven examples, and labels that are wrong.

    export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
    python benchmarks/classification_choices.py --data FOLDER --json benchmarks/results/classification_choices.json

All classifiers see vectors of the default model; figures are means of ``--draws`` draws, in percent, with their
standard errors.

- C: LogisticRegression(C, max_iter=1000) on 10 examples of each of 77 labels of banking77, accuracy on all test rows;
  and GridSearchCV over the five values with five folds, with its seconds beside those of one fit.
- Few uneven examples: SentenceEmbeddingClassifier with the names of the labels as descriptions, on n rows of banking77
  drawn at random, so that some labels have several examples and others none. ``description_weight`` is 1 or 10, and
  the classifier the default one or the same with class_weight="balanced".
- Wrong labels: 5 % of the training rows of trec (six labels) get another label at random. Of these, the share that is
  among the 5 % of rows with the smallest out-of-fold probability of their own label (ten folds), and the share that
  cleanlab names, with the number of rows it names.

There are no bounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from classification import draw_rows, in_words, read_task
from cleanlab.filter import find_label_issues
from data import add_data_argument
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, write_json
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.preprocessing import LabelEncoder

import skembed

STRENGTHS = (0.1, 1, 10, 20, 100)
N_UNEVEN = (20, 77, 154, 308)
SHARE_WRONG = 0.05
HEADER = ("what", "setting", "figure")

Draws = dict[str, list[float]]


def main() -> int:
    arguments = parse_arguments()
    machine, results = describe_machine(), []
    for what, measure in {"C": measure_strength, "uneven": measure_uneven, "wrong labels": measure_wrong}.items():
        draws: Draws = {}
        for draw in range(arguments.draws):
            for setting, figure in measure(arguments.data, arguments.vectors, draw):
                draws.setdefault(setting, []).append(figure)
        for setting, figures in draws.items():
            error = np.std(figures, ddof=1) / np.sqrt(len(figures)) if len(figures) > 1 else None
            figure = {"mean": float(np.mean(figures)), "standard_error": None if error is None else float(error)}
            results.append({"what": what, "setting": setting, "draws": figures, **figure})
            print(what, setting, in_words(figure), file=sys.stderr, flush=True)
    print_report(machine, HEADER, [(each["what"], each["setting"], in_words(each)) for each in results])
    write_json(arguments.json, machine=machine, results=results)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--draws", type=int, default=5, help="default: 5")
    parser.add_argument("--vectors", metavar="FOLDER", type=Path, help="keep the vectors of the texts there")
    return parser.parse_args()


def measure_strength(folder: str | None, kept: Path | None, draw: int) -> Iterator[tuple[str, float]]:
    """Yield the accuracy for each C and for the C that a grid search chooses, and the seconds of both."""
    table, vectors = read_task(folder, "banking77", kept)
    rows, is_test = draw_rows(table, "10", draw), (table["split"] == "test").to_numpy()
    X, y, new, true = vectors[rows], table["label"].iloc[rows], vectors[is_test], table["label"][is_test]
    for strength in STRENGTHS:
        start = perf_counter()
        classifier = LogisticRegression(C=strength, max_iter=1000).fit(X, y)
        seconds = perf_counter() - start
        yield f"C={strength}", 100 * classifier.score(new, true)
        if strength == 10:
            yield "C=10: seconds to fit", seconds
    start = perf_counter()
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": STRENGTHS}).fit(X, y)
    yield "grid search: seconds to fit", perf_counter() - start
    yield "grid search: accuracy", 100 * search.score(new, true)


def measure_uneven(folder: str | None, kept: Path | None, draw: int) -> Iterator[tuple[str, float]]:
    """Yield the accuracy with few rows drawn at random, by weight of the descriptions and of the labels."""
    table, vectors = read_task(folder, "banking77", kept)
    is_test = (table["split"] == "test").to_numpy()
    descriptions = {label: label.replace("_", " ") for label in table["label"].unique()}
    shuffled = table[table["split"] == "train"].sample(frac=1, random_state=draw).index.to_numpy()
    for n in (0, *N_UNEVEN):
        rows = shuffled[:n]
        for weight in (1, 10):
            for class_weight in (None, "balanced"):
                classifier = skembed.SentenceEmbeddingClassifier(
                    descriptions,
                    classifier=LogisticRegression(C=10, max_iter=1000, class_weight=class_weight),
                    description_weight=weight,
                )
                classifier.fit(vectors[rows], table["label"].iloc[rows])
                setting = f"{n} rows, description_weight={weight}, class_weight={class_weight!r}"
                yield setting, 100 * classifier.score(vectors[is_test], table["label"][is_test])


def measure_wrong(folder: str | None, kept: Path | None, draw: int) -> Iterator[tuple[str, float]]:
    """Yield the share of wrong labels that are found."""
    table, vectors = read_task(folder, "trec", kept)
    is_used = (table["split"] == "train").to_numpy()
    codes, random = LabelEncoder().fit_transform(table["label"][is_used]), np.random.default_rng(draw)
    is_wrong = np.zeros(len(codes), dtype=bool)
    is_wrong[random.choice(len(codes), round(SHARE_WRONG * len(codes)), replace=False)] = True
    n_labels = codes.max() + 1
    codes[is_wrong] = (codes[is_wrong] + random.integers(1, n_labels, is_wrong.sum())) % n_labels
    folds = StratifiedKFold(10, shuffle=True, random_state=draw)
    classifier = LogisticRegression(C=10, max_iter=1000)
    probabilities = cross_val_predict(classifier, vectors[is_used], codes, cv=folds, method="predict_proba")
    least_likely = np.argsort(probabilities[np.arange(len(codes)), codes])[: is_wrong.sum()]
    yield "5 % least likely: of the wrong labels", 100 * share(is_wrong, least_likely)
    named: Any = find_label_issues(codes, probabilities, return_indices_ranked_by="self_confidence")
    yield "cleanlab: of the wrong labels", 100 * share(is_wrong, named)
    yield "cleanlab: rows named", 100 * len(named) / len(codes)


def share(is_wrong: NDArray[np.bool_], rows: NDArray[np.intp]) -> float:
    return float(is_wrong[rows].sum() / is_wrong.sum())


if __name__ == "__main__":
    sys.exit(main())
