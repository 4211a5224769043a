"""The parameters of a training, checked once. Imports checks; no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skembed.checks import check_count, check_number
from skembed.paths import read_path


@dataclass(frozen=True)
class TrainingSettings:
    """Parameters of a training, as documented by :class:`skembed.SentenceEmbeddingFineTuner`.

    Raises
    ------
    TypeError, ValueError
        If a parameter has an invalid value.
    """

    loss: Any
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    n_pairs_per_text: int
    lora_rank: int | None
    matryoshka_dims: Sequence[int] | None
    validation_fraction: float
    early_stopping: bool
    n_iter_no_change: int
    checkpoint_dir: str | os.PathLike[str] | None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "n_pairs_per_text", "n_iter_no_change"):
            check_count(name, getattr(self, name))
        if self.n_pairs_per_text < 2:
            raise ValueError("n_pairs_per_text must be 2 or more: one pair within a class, one across classes; got 1.")
        if self.lora_rank is not None:
            check_count("lora_rank", self.lora_rank)
        _check_dims(self.matryoshka_dims)
        check_number("learning_rate", self.learning_rate, "a number, positive", lambda rate: 0 < rate < math.inf)
        check_number("warmup_ratio", self.warmup_ratio, "a number, from 0 to below 1", lambda ratio: 0 <= ratio < 1)
        check_number("weight_decay", self.weight_decay, "a number, 0 or more", lambda decay: 0 <= decay < math.inf)
        check_number(
            "validation_fraction", self.validation_fraction, "a number, between 0 and 1", lambda share: 0 < share < 1
        )
        if not isinstance(self.early_stopping, bool):
            raise TypeError(f"early_stopping must be True or False; got {self.early_stopping!r}.")
        if self.checkpoint_dir is not None:
            if not isinstance(self.checkpoint_dir, (str, os.PathLike)) or not os.fspath(self.checkpoint_dir):
                raise TypeError(f"checkpoint_dir must be a folder or None; got {self.checkpoint_dir!r}.")
            read_path(self.checkpoint_dir, "checkpoint_dir")


def _check_dims(dims: Any) -> None:
    if dims is None:
        return
    if isinstance(dims, str) or not isinstance(dims, Sequence) or not dims:
        raise TypeError(f"matryoshka_dims must be a list of dimensions, e.g. [256, 128], or None; got {dims!r}.")
    for dim in dims:
        check_count("each of matryoshka_dims", dim)
