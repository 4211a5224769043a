"""Evaluators of sentence-transformers that score a model on examples set aside. Imports sentence-transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer import evaluation

from skembed.training.data import TrainingData
from skembed.training.pairs import Partners

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
        belong together or not; or the share of triplets whose anchor is nearer to the positive. Texts with labels are
        paired with those of training: with one label a text, pairs belong together or not; with several, the overlap
        of their labels is a score. None for other kinds of examples, for which the loss has to do.
    """
    columns: Any = validation.columns
    labels: Any = validation.labels
    evaluators: Any = evaluation  # whose types do not distinguish columns
    evaluator: Any = None
    has_labels = validation.kind in ("classes", "label_sets")
    pairs: Any = pair_with_training(validation, data, rng) if has_labels else (*columns, labels)
    if validation.kind in ("scores", "label_sets"):
        evaluator = evaluators.EmbeddingSimilarityEvaluator(
            pairs[0], pairs[1], pairs[2].tolist(), main_similarity="cosine", write_csv=False
        )
        evaluator.primary_metric = "spearman_cosine"
    elif validation.kind in ("binary", "classes"):
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
    """Pair texts with labels that were set aside with some of those that are trained on.

    Returns
    -------
    left, right : list of str
        Texts set aside, texts of training; never the same text twice. Half of the pairs share a label, if there are
        such.
    alike : ndarray
        As of :func:`skembed.training.pairs.draw_pairs`.
    """
    texts, n = validation.columns[0] + data.columns[0], len(validation)
    labels: Any = np.concatenate([np.asarray(validation.labels), np.asarray(data.labels)])
    partners = Partners(labels, np.arange(len(texts)) >= n)
    rows = []
    for row in range(n):
        half = _PAIRS_PER_VALIDATION_TEXT // 2
        drawn = partners.draw_alike(row, half, rng) + partners.draw_others(row, half, rng)
        rows += [(row, other) for other in dict.fromkeys(drawn) if texts[row] != texts[other]]
    return partners.to_columns(texts, rows)
