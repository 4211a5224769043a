"""Losses by name, the data each learns from, and its columns. Imports data and pairs; no torch."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from skembed.training.data import KINDS, TrainingData
from skembed.training.pairs import draw_pairs

TEXT_COLUMNS = ("text_a", "text_b", "text_c")


@dataclass(frozen=True)
class Objective:
    """A loss, and the data it learns from.

    Attributes
    ----------
    class_name : str or None
        Name of its class in ``sentence_transformers.sentence_transformer.losses``; None: those of ADAPTATIONS.
    reads : tuple of str
        Kinds of training data that it learns from.
    batches : {"any", "no_duplicates", "group_by_label"}
        How its batches must be composed.
    draws_pairs : bool
        Whether it compares pairs, so that pairs are drawn from texts with labels.
    options : dict
        Parameters whose default in sentence-transformers does not suit vectors of length 1.
    """

    class_name: str | None
    reads: tuple[str, ...]
    batches: Literal["any", "no_duplicates", "group_by_label"] = "any"
    draws_pairs: bool = False
    options: dict[str, float] = field(default_factory=dict)


_LARGE_BATCH = 128  # examples; from this size it pays to compute a batch twice rather than to keep all of it
_PAIRS = ("classes", "binary")
_RANKED = ("positives", "triplets", "texts")
_DEGREES = ("scores", *_PAIRS, "label_sets")  # for losses that learn how alike two texts are
_MARGIN = {"margin": 0.5}
ADAPTATIONS = ("tsdae", "mlm")  # losses that adapt a model to texts, without labels; see adaptation.py
OBJECTIVES = {
    "cosent": Objective("CoSENTLoss", _DEGREES, draws_pairs=True),
    "cosine_similarity": Objective("CosineSimilarityLoss", _DEGREES, draws_pairs=True),
    "contrastive": Objective("ContrastiveLoss", _PAIRS, draws_pairs=True),
    "online_contrastive": Objective("OnlineContrastiveLoss", _PAIRS, draws_pairs=True),
    "batch_all_triplet": Objective("BatchAllTripletLoss", ("classes",), "group_by_label", options=_MARGIN),
    "batch_hard_triplet": Objective("BatchHardTripletLoss", ("classes",), "group_by_label", options=_MARGIN),
    "batch_semi_hard_triplet": Objective("BatchSemiHardTripletLoss", ("classes",), "group_by_label", options=_MARGIN),
    "batch_hard_soft_margin_triplet": Objective("BatchHardSoftMarginTripletLoss", ("classes",), "group_by_label"),
    "softmax": Objective("SoftmaxLoss", ("pair_classes", "binary")),
    "multiple_negatives_ranking": Objective("MultipleNegativesRankingLoss", _RANKED, "no_duplicates"),
    "cached_multiple_negatives_ranking": Objective("CachedMultipleNegativesRankingLoss", _RANKED, "no_duplicates"),
    "triplet": Objective("TripletLoss", ("triplets",), options={"triplet_margin": 0.5}),
    **{name: Objective(None, ("texts",)) for name in ADAPTATIONS},
}
AUTO = {
    "classes": "cosine_similarity",
    "label_sets": "cosine_similarity",
    "scores": "cosent",
    "binary": "contrastive",
    "pair_classes": "softmax",
    "positives": "multiple_negatives_ranking",
    "triplets": "multiple_negatives_ranking",
    "texts": "multiple_negatives_ranking",
}

_HINTS = {  # for labels that may have been meant otherwise
    "pair_classes": " Integers are classes; y.astype(float) makes them scores.",
    "scores": " Floats are scores; y.astype(int) makes them 0 and 1, or classes.",
}


def name_loss(loss: Any, data: TrainingData, batch_size: int) -> str:
    """Return the name of a loss: one of OBJECTIVES, or the name of its class if that is not among them.

    Parameters
    ----------
    loss : str, loss object, loss class or functools.partial of one
    data : TrainingData
        Determines the loss for "auto".
    batch_size : int
        For large batches, "auto" chooses a loss that caches gradients.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        If the loss does not exist, or does not learn from data of this kind.
    """
    if isinstance(loss, str):
        name = AUTO[data.kind] if loss == "auto" else loss
        if loss == "auto" and name == "multiple_negatives_ranking" and batch_size >= _LARGE_BATCH:
            name = f"cached_{name}"  # Gao et al. (2021), https://arxiv.org/abs/2101.06983
        if name not in OBJECTIVES:
            raise ValueError(f"loss must be 'auto' or one of {', '.join(map(repr, OBJECTIVES))}; got {loss!r}.")
    else:
        class_name = _class_of(loss).__name__
        known = {objective.class_name: name for name, objective in OBJECTIVES.items() if objective.class_name}
        name = known.get(class_name, class_name)
    objective = OBJECTIVES.get(name)
    if objective is not None and data.kind not in objective.reads:
        fitting = [other for other, its in OBJECTIVES.items() if data.kind in its.reads]
        raise ValueError(
            f"loss={name!r} learns from {' or '.join(KINDS[kind] for kind in objective.reads)}; X and y are "
            f"{KINDS[data.kind]}. Losses for these are {', '.join(map(repr, ['auto', *fitting]))}."
            + _HINTS.get(data.kind, "")
        )
    if name == "cosine_similarity" and data.kind == "scores":
        _check_cosines(data)
    return name


def _class_of(loss: Any) -> type:
    """Return the class of a loss given as an object, a class, or a partial of a class."""
    kind = loss.func if isinstance(loss, partial) else loss
    if inspect.isclass(kind):
        return kind
    if hasattr(kind, "forward") and hasattr(kind, "modules"):  # a torch module, without importing torch
        return type(kind)
    raise TypeError(f"loss must be a name or a loss of sentence-transformers; got {type(loss).__name__}.")


def describe_loss(loss: Any) -> str:
    """Return the class and settings of a loss, and of the losses inside it."""
    parts = []
    while loss is not None:
        is_object = hasattr(loss, "get_config_dict") and not inspect.isclass(loss)
        parts.append(f"{type(loss).__name__}{loss.get_config_dict()}" if is_object else repr(loss))
        loss = getattr(loss, "loss", None)
    return " of ".join(parts)


def _check_cosines(data: TrainingData) -> None:
    scores = data.labels
    if scores is not None and (np.abs(scores) > 1).any():
        raise ValueError(
            f"loss='cosine_similarity' learns cosines from -1 to 1; scores in y go from {scores.min():g} to "
            f"{scores.max():g}. Scale them, e.g. y / {np.abs(scores).max():g}, or use loss='cosent', which learns "
            "their order."
        )


def to_columns(
    data: TrainingData, loss_name: str, n_pairs_per_text: int, rng: np.random.Generator
) -> dict[str, list[Any]]:
    """Convert training data to the columns that a loss reads.

    Parameters
    ----------
    data : TrainingData
    loss_name : str
    n_pairs_per_text : int
        Number of pairs drawn for each text with labels, for losses that compare pairs.
    rng : Generator

    Returns
    -------
    dict of str to list
        Columns of text by name, in order, followed by "label" if there are labels.

    Raises
    ------
    ValueError
        If pairs are to be drawn, but no two texts share a label, or all pairs are equally alike.
    """
    columns, labels = data.columns, data.labels
    if loss_name in ADAPTATIONS:
        columns = (list(dict.fromkeys(columns[0])),)
    elif data.kind == "texts":  # SimCSE: a text and itself under different dropout (Gao et al., 2021)
        distinct = list(dict.fromkeys(columns[0]))
        columns = (distinct, distinct)
    elif labels is not None and compares_drawn_pairs(loss_name, data):
        left, right, labels = draw_pairs(columns[0], labels, n_pairs_per_text, rng)
        columns = (left, right)
        if len(set(labels.tolist())) < 2:
            what = "of one class, or none of two classes" if data.kind == "classes" else "that share labels, or all do"
            raise ValueError(
                f"There are no two different texts {what}; both are needed to learn what is similar and what is not."
            )
    laid_out = dict(zip(TEXT_COLUMNS, columns, strict=False))
    if labels is not None:
        as_float = loss_name == "cosine_similarity" or labels.dtype.kind == "f"
        laid_out["label"] = (labels.astype(np.float32) if as_float else labels).tolist()
    return laid_out


def compares_drawn_pairs(loss_name: str, data: TrainingData) -> bool:
    """Return whether the examples are pairs drawn from texts with labels, many pairs of few texts."""
    has_labels = data.kind in ("classes", "label_sets")
    return has_labels and loss_name in OBJECTIVES and OBJECTIVES[loss_name].draws_pairs


def check_batches(columns: dict[str, list[Any]], loss_name: str, batch_size: int) -> None:
    """Raise ValueError if there are too few examples for a batch, or the loss cannot compare those within a batch.

    Raises
    ------
    ValueError
    """
    n_examples = len(columns[TEXT_COLUMNS[0]])
    if n_examples < batch_size:
        raise ValueError(
            f"There are {n_examples} examples to train on, fewer than batch_size={batch_size}; pass more, or lower "
            f"batch_size to {n_examples} or less."
        )
    objective = OBJECTIVES.get(loss_name)
    if objective is None or objective.batches != "group_by_label":
        return
    if batch_size < 4 or batch_size % 2:
        raise ValueError(f"loss={loss_name!r} needs batch_size to be even, 4 or more; got {batch_size}.")
    if (np.bincount(columns["label"]) >= 2).sum() < 2:
        raise ValueError(f"loss={loss_name!r} compares classes; at least two classes need two texts or more.")


def find_doubt(data: TrainingData, loss_name: str, batch_size: int) -> str | None:
    """Return a message about examples that teach a loss nothing: how many there are, and why.

    Parameters
    ----------
    data : TrainingData
    loss_name : str
    batch_size : int

    Returns
    -------
    str or None
        None if texts and labels give no reason for doubt.
    """
    objective = OBJECTIVES.get(loss_name)
    if data.kind == "triplets" and data.columns[1] == data.columns[2]:
        return "The positive of each triplet is also its negative, so the triplets teach nothing."
    if objective is None or objective.batches == "any":
        return None
    if objective.batches == "group_by_label":
        return _doubt_groups(data, loss_name, batch_size)
    return None if data.kind == "triplets" else _doubt_company(data, loss_name, batch_size)


def _doubt_company(data: TrainingData, loss_name: str, batch_size: int) -> str | None:
    """Count the pairs that are alone in their batch because too many pairs share a text."""
    n = len(data)
    if batch_size == 1:
        return (
            f"loss={loss_name!r} compares each example with the others of its batch; with batch_size=1 there are none, "
            "and the model learns nothing. Use a larger batch_size."
        )
    if data.kind == "texts":  # each distinct text is used once
        return None
    shares = Counter(text for pair in zip(*data.columns, strict=True) for text in set(pair))
    text, n_sharing = shares.most_common(1)[0]
    n_alone = 2 * n_sharing - n  # each of the others shares a batch with one of them
    if n_alone <= 0:
        return None
    which = f"All {n} pairs" if n_alone == n else f"{n_sharing} of the {n} pairs"
    what = "the model learns nothing" if n_alone == n else f"{n_alone} of them are alone in theirs and teach nothing"
    return (
        f"{which} hold the text {_shortened(text)!r}. loss={loss_name!r} compares a pair with the others of its batch, "
        f"in which no text may occur twice, so {what}. Add pairs with other texts; or add pairs that do not belong "
        "together, and pass y with 1 and 0 for those that do and do not."
    )


def _doubt_groups(data: TrainingData, loss_name: str, batch_size: int) -> str | None:
    """Count the texts that are left over when the classes give two texts each in turn, from at least two classes."""
    if data.labels is None or data.classes is None:
        return None
    n_twos = np.bincount(data.labels) // 2
    n_turns = np.sort(n_twos)[-2]
    n_taken = 2 * int(np.minimum(n_twos, n_turns).sum())
    rest = n_taken % batch_size
    n_left = len(data) - (n_taken - (rest if rest < 4 else 0))
    if n_turns == 0 or n_left == 0:  # without any it is an error later on
        return None
    largest = data.classes.tolist()[int(n_twos.argmax())]
    return (
        f"loss={loss_name!r} fills each batch from two classes or more, two texts of each in turn, so an epoch leaves "
        f"out {n_left} of the {len(data)} texts; the largest class is {largest!r}. Each epoch leaves out others: use "
        "more epochs, or loss='auto', which learns from all texts."
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
