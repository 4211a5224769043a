"""Evaluators of sentence-transformers that score a model on examples set aside. Imports sentence-transformers."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer import evaluation

from skembed.training.data import TrainingData

_PAIRS_PER_VALIDATION_TEXT = 32


def make_evaluator(data: TrainingData, validation: TrainingData, rng: np.random.Generator) -> BaseEvaluator | None:
    """Make the evaluator for examples set aside.

    Parameters
    ----------
    data, validation : TrainingData
    rng : Generator

    Returns
    -------
    evaluator or None
        Its score is Spearman's correlation of cosines and scores; the average precision of cosines for pairs that
        belong together or not (for texts with class labels: pairs of a text set aside with one of training); or the
        share of triplets whose anchor is nearer to the positive. None for other kinds of examples, for which the loss
        has to do.
    """
    columns: Any = validation.columns
    labels: Any = validation.labels
    evaluators: Any = evaluation  # whose types do not distinguish columns
    evaluator: Any = None
    if validation.kind == "scores":
        evaluator = evaluators.EmbeddingSimilarityEvaluator(
            *columns, labels.tolist(), main_similarity="cosine", write_csv=False
        )
        evaluator.primary_metric = "spearman_cosine"
    elif validation.kind in ("binary", "classes"):
        pairs: Any = (*columns, labels) if validation.kind == "binary" else pair_with_training(validation, data, rng)
        evaluator = evaluators.BinaryClassificationEvaluator(
            pairs[0], pairs[1], pairs[2].tolist(), similarity_fn_names=["cosine"], write_csv=False
        )
        evaluator.primary_metric = "cosine_ap"
    elif validation.kind == "triplets":
        evaluator = evaluators.TripletEvaluator(*columns, main_similarity_function="cosine", write_csv=False)
        evaluator.primary_metric = "cosine_accuracy"
    made: BaseEvaluator | None = evaluator
    return made


def pair_with_training(
    validation: TrainingData, data: TrainingData, rng: np.random.Generator
) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """Pair texts with class labels that were set aside with some of those that are trained on.

    Returns
    -------
    left, right : list of str
        Texts set aside, texts of training; never the same text twice.
    same : ndarray of int
        1 for two texts of one class, else 0.
    """
    left, right, same = [], [], []
    labels: Any = data.labels
    texts: Any = zip(validation.columns[0], validation.labels, strict=True)  # type: ignore[arg-type]
    for text, label in texts:
        others = (row for row in rng.permutation(len(data)) if data.columns[0][row] != text)
        rows = np.fromiter(islice(others, _PAIRS_PER_VALIDATION_TEXT), dtype=np.intp)
        left += [text] * len(rows)
        right += [data.columns[0][row] for row in rows]
        same.append(labels[rows] == label)
    return left, right, np.concatenate(same).astype(np.int64)
