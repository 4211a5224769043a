"""Losses of sentence-transformers by name: which data each reads, and how that is laid out for it. No torch."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from skembed.training.data import KINDS, TrainingData, draw_pairs

TEXT_COLUMNS = ("text_a", "text_b", "text_c")


@dataclass(frozen=True)
class Objective:
    """A loss of sentence-transformers, and what it learns from.

    Attributes
    ----------
    class_name : str
        Its name in ``sentence_transformers.sentence_transformer.losses``.
    reads : tuple of str
        Kinds of training data.
    batches : {"any", "no_duplicates", "group_by_label"}
        How its batches must be composed.
    draws_pairs : bool
        Whether it compares pairs, which are then drawn from texts with class labels.
    options : dict
        Where sentence-transformers' own default is not meant for vectors of length 1.
    """

    class_name: str
    reads: tuple[str, ...]
    batches: Literal["any", "no_duplicates", "group_by_label"] = "any"
    draws_pairs: bool = False
    options: dict[str, float] = field(default_factory=dict)


_LARGE_BATCH = 128  # examples, from which on it pays to compute a batch twice rather than to hold all of it
_PAIRS = ("classes", "binary")
_RANKED = ("positives", "triplets", "texts")
OBJECTIVES = {
    "cosent": Objective("CoSENTLoss", ("scores", *_PAIRS), draws_pairs=True),
    "cosine_similarity": Objective("CosineSimilarityLoss", ("scores", *_PAIRS), draws_pairs=True),
    "contrastive": Objective("ContrastiveLoss", _PAIRS, draws_pairs=True),
    "online_contrastive": Objective("OnlineContrastiveLoss", _PAIRS, draws_pairs=True),
    "batch_all_triplet": Objective("BatchAllTripletLoss", ("classes",), "group_by_label", options={"margin": 0.5}),
    "batch_hard_triplet": Objective("BatchHardTripletLoss", ("classes",), "group_by_label", options={"margin": 0.5}),
    "batch_semi_hard_triplet": Objective(
        "BatchSemiHardTripletLoss", ("classes",), "group_by_label", options={"margin": 0.5}
    ),
    "batch_hard_soft_margin_triplet": Objective("BatchHardSoftMarginTripletLoss", ("classes",), "group_by_label"),
    "softmax": Objective("SoftmaxLoss", ("pair_classes", "binary")),
    "multiple_negatives_ranking": Objective("MultipleNegativesRankingLoss", _RANKED, "no_duplicates"),
    "cached_multiple_negatives_ranking": Objective("CachedMultipleNegativesRankingLoss", _RANKED, "no_duplicates"),
    "triplet": Objective("TripletLoss", ("triplets",), options={"triplet_margin": 0.5}),
}
AUTO = {
    "classes": "cosine_similarity",
    "scores": "cosent",
    "binary": "contrastive",
    "pair_classes": "softmax",
    "positives": "multiple_negatives_ranking",
    "triplets": "multiple_negatives_ranking",
    "texts": "multiple_negatives_ranking",
}


# What labels of the other type would have meant.
_HINTS = {
    "pair_classes": " Integers are classes; y.astype(float) makes scores of them.",
    "scores": " Floats are scores; y.astype(int) makes 0 and 1, or classes, of them.",
}


def name_loss(loss: Any, data: TrainingData, batch_size: int) -> str:
    """Say which loss is meant: a name of OBJECTIVES, or that of a class that is none of them.

    Parameters
    ----------
    loss : str, loss object, loss class or functools.partial of one
    data : TrainingData
        What "auto" chooses by.
    batch_size : int
        "auto" caches the gradients of large batches.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        If there is no such loss, or it does not learn from such data.
    """
    if isinstance(loss, str):
        name = loss
        if loss == "auto":
            name = AUTO[data.kind]
            if name == "multiple_negatives_ranking" and batch_size >= _LARGE_BATCH:
                name = f"cached_{name}"  # Gao et al. (2021), https://arxiv.org/abs/2101.06983
        if name not in OBJECTIVES:
            raise ValueError(f"loss must be 'auto' or one of {', '.join(map(repr, OBJECTIVES))}; got {loss!r}.")
    else:
        class_name = _class_of(loss).__name__
        known = {objective.class_name: name for name, objective in OBJECTIVES.items()}
        name = known.get(class_name, class_name)
    objective = OBJECTIVES.get(name)
    if objective is not None and data.kind not in objective.reads:
        fitting = [other for other, its in OBJECTIVES.items() if data.kind in its.reads]
        raise ValueError(
            f"loss={name!r} learns from {' or '.join(KINDS[kind] for kind in objective.reads)}; X and y are "
            f"{KINDS[data.kind]}. For these: {', '.join(map(repr, ['auto', *fitting]))}." + _HINTS.get(data.kind, "")
        )
    if name == "cosine_similarity" and data.kind == "scores":
        _check_cosines(data)
    return name


def _class_of(loss: Any) -> type:
    """Find the class of a loss that is given as an object, a class, or a partial of a class."""
    kind = loss.func if isinstance(loss, partial) else loss
    if inspect.isclass(kind):
        return kind
    if hasattr(kind, "forward") and hasattr(kind, "modules"):  # a torch module, without importing torch
        return type(kind)
    raise TypeError(f"loss must be a name, or a loss of sentence-transformers; got {type(loss).__name__}.")


def describe_loss(loss: Any) -> str:
    """Write a loss down with its settings, those of a loss inside it too."""
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
            f"{scores.max():g}. Scale them, e.g. y / {np.abs(scores).max():g}, or take loss='cosent', which learns "
            "their order."
        )


def to_columns(
    data: TrainingData, loss_name: str, n_pairs_per_text: int, rng: np.random.Generator
) -> dict[str, list[Any]]:
    """Lay training data out in the columns that a loss reads.

    Parameters
    ----------
    data : TrainingData
    loss_name : str
    n_pairs_per_text : int
        Of texts with class labels, for losses that compare pairs.
    rng : Generator

    Returns
    -------
    dict of str to list
        Columns of text by name, in order, then "label" if there are labels.

    Raises
    ------
    ValueError
        If there are class labels, but no two texts of one class or none of two classes.
    """
    columns, labels = data.columns, data.labels
    if data.kind == "texts":  # SimCSE: a text and itself, seen through different dropout (Gao et al., 2021)
        distinct = list(dict.fromkeys(columns[0]))
        columns = (distinct, distinct)
    elif labels is not None and compares_drawn_pairs(loss_name, data):
        left, right, labels = draw_pairs(columns[0], labels, n_pairs_per_text, rng)
        columns = (left, right)
        if len(set(labels.tolist())) < 2:
            raise ValueError(
                "There are no two different texts of one class, or none of two classes, to train on; it takes both to "
                "learn what is alike and what is not."
            )
    laid_out = dict(zip(TEXT_COLUMNS, columns, strict=False))
    if labels is not None:
        as_float = loss_name == "cosine_similarity" or data.kind == "scores"
        laid_out["label"] = (labels.astype(np.float32) if as_float else labels).tolist()
    return laid_out


def compares_drawn_pairs(loss_name: str, data: TrainingData) -> bool:
    """Say whether pairs were drawn from texts with class labels, so that few texts make up many pairs."""
    return data.kind == "classes" and loss_name in OBJECTIVES and OBJECTIVES[loss_name].draws_pairs


def check_batches(columns: dict[str, list[Any]], loss_name: str, batch_size: int) -> None:
    """Refuse training data that does not make up one batch, or batches that a loss cannot compare within.

    Raises
    ------
    ValueError
    """
    n_examples = len(columns[TEXT_COLUMNS[0]])
    if n_examples < batch_size:
        raise ValueError(
            f"There are {n_examples} examples to train on, fewer than batch_size={batch_size}; give more, or lower it "
            f"to {n_examples} or less."
        )
    objective = OBJECTIVES.get(loss_name)
    if objective is None or objective.batches != "group_by_label":
        return
    if batch_size < 4 or batch_size % 2:
        raise ValueError(f"loss={loss_name!r} takes texts in twos; batch_size must be even, 4 or more: {batch_size}.")
    if (np.bincount(columns["label"]) >= 2).sum() < 2:
        raise ValueError(f"loss={loss_name!r} compares classes; at least two need two texts or more.")


def doubt(data: TrainingData, loss_name: str, batch_size: int) -> str | None:
    """Say how many examples a loss will learn nothing from, and why.

    Parameters
    ----------
    data : TrainingData
    loss_name : str
    batch_size : int

    Returns
    -------
    str or None
        A message, or None if all is well as far as the texts and labels tell.
    """
    objective = OBJECTIVES.get(loss_name)
    if data.kind == "triplets" and data.columns[1] == data.columns[2]:
        return "The positive of each triplet is its negative as well, so the triplets teach nothing."
    if objective is None or objective.batches == "any":
        return None
    if objective.batches == "group_by_label":
        return _doubt_groups(data, loss_name, batch_size)
    return None if data.kind == "triplets" else _doubt_company(data, loss_name, batch_size)


def _doubt_company(data: TrainingData, loss_name: str, batch_size: int) -> str | None:
    """Count the pairs that no batch can hold beside another, because too many share a text."""
    n = len(data)
    if batch_size == 1:
        return (
            f"loss={loss_name!r} compares each example with the others of its batch; with batch_size=1 there are none, "
            "and the model learns nothing. Take a larger batch_size."
        )
    if data.kind == "texts":  # of which each distinct one is taken once
        return None
    shares = Counter(text for pair in zip(*data.columns, strict=True) for text in set(pair))
    text, n_sharing = shares.most_common(1)[0]
    n_alone = 2 * n_sharing - n  # each of the others keeps one of them company
    if n_alone <= 0:
        return None
    which = f"All {n} pairs" if n_alone == n else f"{n_sharing} of the {n} pairs"
    what = "the model learns nothing" if n_alone == n else f"{n_alone} of them are alone in theirs and teach nothing"
    return (
        f"{which} hold the text {_shortened(text)!r}. loss={loss_name!r} compares a pair with the others of its batch, "
        f"where no text may stand twice, so {what}. Add pairs with other texts; or give pairs that do not belong "
        "together as well, and y with 1 and 0 to say which do."
    )


def _doubt_groups(data: TrainingData, loss_name: str, batch_size: int) -> str | None:
    """Count the texts that are left over when two classes or more take turns to give two texts each."""
    if data.labels is None or data.classes is None:
        return None
    n_twos = np.bincount(data.labels) // 2
    n_turns = np.sort(n_twos)[-2]
    n_taken = 2 * int(np.minimum(n_twos, n_turns).sum())
    rest = n_taken % batch_size
    n_left = len(data) - (n_taken - (rest if rest < 4 else 0))
    if n_turns == 0 or n_left == 0:  # none at all is an error later on
        return None
    largest = data.classes.tolist()[int(n_twos.argmax())]
    return (
        f"loss={loss_name!r} takes texts of two classes or more into each batch, two of each in turn, so an epoch goes "
        f"without {n_left} of the {len(data)} texts; the largest class is {largest!r}. Each epoch leaves others out: "
        "take more epochs, or loss='auto', which learns from all of them."
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
