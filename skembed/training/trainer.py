"""A training by sentence-transformers' own trainer, which can be interrupted and resumed. Imports torch."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed

from skembed.compat import is_out_of_memory, set_checkpoint_loader
from skembed.encoding.plan import Plan
from skembed.encoding.progress import progress
from skembed.errors import warn_user
from skembed.optional import require
from skembed.training import checkpoints
from skembed.training.batches import TextsApart
from skembed.training.data import TrainingData, split
from skembed.training.evaluators import make_evaluator
from skembed.training.isolation import isolated
from skembed.training.losses import OBJECTIVES, check_batches, to_columns
from skembed.training.model_setup import add_adapters, make_collator, make_loss, private_copy
from skembed.training.settings import TrainingSettings

_HISTORY_ROWS = 50  # approximate number of rows of the history, without those at the ends of epochs
_CHECKPOINTS = 10  # approximate number of checkpoints of a training without early stopping
_LOSSES_BY_EXAMPLE = ("contrastive", "cosine_similarity", "softmax", "triplet")  # which average over the examples
_LOSSES_BY_TOKEN = ("mlm", "tsdae")  # which average over their tokens
_LOSS_METRIC = "eval_loss"  # the validation score of a training without evaluator


@dataclass(frozen=True)
class TrainingRun:
    """Everything that a training needs.

    Attributes
    ----------
    plan : Plan
        Of the model from which training starts.
    settings : TrainingSettings
    loss_name : str
    data : TrainingData
        All examples; early stopping sets a part of them aside.
    seed : int
    show_progress_bar : "auto" or bool
    n_parts : int, default=1
        Number of parts in which a batch is computed if the whole does not fit into memory.
    """

    plan: Plan
    settings: TrainingSettings
    loss_name: str
    data: TrainingData
    seed: int
    show_progress_bar: Any
    n_parts: int = 1

    @property
    def caches_gradients(self) -> bool:
        """Whether the loss itself computes a batch in parts, with the same result."""
        return isinstance(self.settings.loss, str) and self.loss_name.endswith("multiple_negatives_ranking")

    @property
    def batch_size(self) -> int:
        """Number of examples that the loss receives at once."""
        return self.settings.batch_size // (1 if self.caches_gradients else self.n_parts)

    @property
    def batch_sampler(self) -> Any:
        """The trainer's name for how batches are composed, or a sampler that keeps texts apart."""
        objective = OBJECTIVES.get(self.loss_name)
        # To a loss that is unknown here, other examples of a batch may be negatives.
        kind = objective.batches if objective else "any" if self.data.labels is not None else "no_duplicates"
        if kind != "no_duplicates":
            return "batch_sampler" if kind == "any" else kind
        is_ranking = isinstance(self.settings.loss, str)  # ours, to which a negative is one to the whole batch
        return partial(TextsApart, n_apart=2) if is_ranking else TextsApart

    def in_more_parts(self) -> TrainingRun | None:
        """Return the same training with batches in more, equal parts; None if they cannot be divided further."""
        whole, objective = self.settings.batch_size, OBJECTIVES.get(self.loss_name)
        in_groups = objective is not None and objective.batches == "group_by_label"
        smaller = range(whole // self.n_parts - 1, 3 if in_groups else 0, -1)
        sizes = (size for size in smaller if whole % size == 0 and not (in_groups and size % 2))
        return next((replace(self, n_parts=whole // size) for size in sizes), None)


def train(run: TrainingRun, key: str) -> tuple[SentenceTransformer, pd.DataFrame, int]:
    """Train a model, or resume an interrupted training with the same key.

    When memory runs out, batches are computed in parts whose gradients are added up.

    Parameters
    ----------
    run : TrainingRun
    key : str
        From :func:`skembed.training.checkpoints.run_key`.

    Returns
    -------
    model : SentenceTransformer
    history : DataFrame
        As ``SentenceEmbeddingFineTuner.history_``.
    n_epochs : int
        Number of epochs that were run.

    Raises
    ------
    ImportError
        If accelerate or datasets is not installed.
    ValueError
        If there are too few examples for a batch, or for early stopping to set aside.
    """
    with isolated(), checkpoints.run_folder(run.settings.checkpoint_dir, key, run.seed) as (folder, seed):
        run = replace(run, seed=seed)
        while True:
            try:
                return _train_once(run, folder)
            except RuntimeError as error:
                smaller = run.in_more_parts()
                if not is_out_of_memory(error) or smaller is None:
                    raise
            run = smaller  # outside the except clause, whose traceback keeps tensors alive
            gc.collect()
            torch.cuda.empty_cache()
            _warn_of_parts(run)


def _warn_of_parts(run: TrainingRun) -> None:
    if run.caches_gradients or run.loss_name in _LOSSES_BY_EXAMPLE:
        but = ""
    elif run.loss_name in _LOSSES_BY_TOKEN:
        but = ", each with the mean loss of its own tokens"
    else:
        but = ", and the loss compares examples within a part instead of within a batch"
    warn_user(
        f"Memory ran out: batches of {run.settings.batch_size} are computed in {run.n_parts} parts{but}.",
    )


def _train_once(run: TrainingRun, folder: Path) -> tuple[SentenceTransformer, pd.DataFrame, int]:
    set_seed(run.seed)
    model = private_copy(run.plan)
    truncate_dim, model.truncate_dim = model.truncate_dim, None  # all dimensions are trained
    adapters = None if run.settings.lora_rank is None else add_adapters(model, run.settings.lora_rank)
    with progress(run.show_progress_bar, 0, "Training", "step") as bar:
        trainer = _make_trainer(run, model, folder, bar)
        last = checkpoints.find_last_checkpoint(folder)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if run.settings.early_stopping:
        _load_best(trainer)
    if adapters is not None:
        adapters.merge_and_unload()
    model.truncate_dim = truncate_dim
    _unwrap(model, trainer)
    history = _history(trainer.state.log_history, _metric(trainer.evaluator))
    return model.eval(), history, int(np.ceil(trainer.state.epoch or 0))


def _load_best(trainer: _Trainer) -> None:
    best = trainer.state.best_model_checkpoint
    if best is None:
        raise ValueError(
            "The validation score is undefined, because the vectors of all examples set aside are alike, so there is "
            "no best epoch. Lower learning_rate, or pass early_stopping=False."
        )
    trainer.load_weights(best)


def _unwrap(model: SentenceTransformer, trainer: _Trainer) -> None:
    """Remove what the trainer has put on a model: another ``forward``, frozen weights and gradients."""
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    vars(model).pop("forward", None)
    for parameter in model.parameters():
        parameter.grad = None
        parameter.requires_grad_(True)


def _make_trainer(run: TrainingRun, model: SentenceTransformer, folder: Path, bar: Any) -> _Trainer:
    datasets = require("datasets", extra="train", needed_by="SentenceEmbeddingFineTuner")
    settings, rng = run.settings, np.random.default_rng(run.seed)
    caches = run.caches_gradients and run.n_parts > 1
    loss_name = "cached_multiple_negatives_ranking" if caches else run.loss_name
    data, evaluator, aside = run.data, None, None
    if settings.early_stopping:
        data, validation = split(run.data, settings.validation_fraction, run.seed)
        _check_validation(validation)
        evaluator = make_evaluator(data, validation, rng)
        aside = None if evaluator else datasets.Dataset.from_dict(to_columns(validation, loss_name, 2, rng))
    columns = to_columns(data, loss_name, settings.n_pairs_per_text, rng)
    check_batches(columns, loss_name, settings.batch_size)
    trainer = _Trainer(
        model=model,
        args=_arguments(run, model, folder, _metric(evaluator)),
        train_dataset=datasets.Dataset.from_dict(columns),
        eval_dataset=aside,
        evaluator=evaluator,
        loss=make_loss(settings, loss_name, model, data, run.n_parts),
        data_collator=make_collator(loss_name, model, data),
        callbacks=[_Callback(bar)],
    )
    if settings.early_stopping:
        trainer.add_callback(EarlyStoppingCallback(settings.n_iter_no_change))
    trainer.remove_callback(PrinterCallback)
    return trainer


def _check_validation(validation: TrainingData) -> None:
    """Raise ValueError if the examples set aside cannot distinguish one model from another."""
    labels = validation.labels
    if len(validation) < 2 or (validation.kind == "scores" and labels is not None and (labels == labels[0]).all()):
        raise ValueError(
            f"early_stopping=True sets {len(validation)} examples aside, which is too few, or all of one score; pass "
            "more examples, a larger validation_fraction, or early_stopping=False."
        )


def _arguments(run: TrainingRun, model: SentenceTransformer, folder: Path, metric: str) -> OneDeviceArguments:
    settings, stops_early = run.settings, run.settings.early_stopping
    can_resume = settings.checkpoint_dir is not None
    is_cuda = model.device.type == "cuda"
    return OneDeviceArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=settings.batch_size // run.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        batch_sampler=run.batch_sampler,
        seed=run.seed,
        use_cpu=model.device.type == "cpu",
        bf16=is_cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        dataloader_pin_memory=is_cuda,
        logging_steps=1 / _HISTORY_ROWS,
        report_to="none",
        disable_tqdm=True,
        eval_strategy="epoch" if stops_early else "no",
        save_strategy="epoch" if stops_early else "steps" if can_resume else "no",
        save_steps=1 / _CHECKPOINTS,
        save_only_model=not can_resume,
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model=metric if stops_early else None,
        greater_is_better=metric != _LOSS_METRIC,
    )


class OneDeviceArguments(SentenceTransformerTrainingArguments):
    """Arguments of a trainer that uses one CUDA device; by itself it uses all of them and splits each batch."""

    @property
    def n_gpu(self) -> int:
        """Number of CUDA devices: 1, or 0 on other devices."""
        n_devices: int = super().n_gpu
        return min(n_devices, 1)


class _Trainer(SentenceTransformerTrainer):
    """Trainer whose checkpoints hold all that is trained, layers of the loss too, and no pickle of the arguments."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Write no model card: its data would keep the trainer, and the examples, for as long as the model lives."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what is trained into a checkpoint."""
        checkpoints.save_weights(Path(output_dir or str(self.args.output_dir)), self._trained_modules())

    def load_weights(self, checkpoint: str) -> None:
        """Read what is trained from a checkpoint."""
        checkpoints.load_weights(Path(checkpoint), self._trained_modules())

    def _trained_modules(self) -> nn.ModuleList:
        modules: Any = [self.model, self.loss]
        return nn.ModuleList(modules)


set_checkpoint_loader(_Trainer, _Trainer.load_weights)


class _Callback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Updates the progress bar, seals checkpoints, logs the last steps of an epoch, and records the time."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self.bar.reset(total=state.max_steps)
        self.bar.update(state.global_step)
        seconds_before = max((entry.get("seconds", 0.0) for entry in state.log_history), default=0.0)
        self.started = perf_counter() - seconds_before

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self.bar.update()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        control.should_log = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        folder, newest = Path(args.output_dir), f"checkpoint-{state.global_step}"
        checkpoints.seal(folder / newest)  # before earlier ones are removed
        checkpoints.remove_checkpoints(folder, keep={newest, Path(state.best_model_checkpoint or "").name})

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        state.log_history[-1]["seconds"] = perf_counter() - self.started
        if "loss" in state.log_history[-1]:
            self.bar.set_postfix(loss=f"{state.log_history[-1]['loss']:.4f}")


def _metric(evaluator: BaseEvaluator | None) -> str:
    return _LOSS_METRIC if evaluator is None else f"eval_{evaluator.primary_metric}"


def _history(log: Sequence[dict[str, Any]], metric: str) -> pd.DataFrame:
    """Return the history by step: the loss since the previous row, and the validation score at the end of an epoch."""
    rows: dict[int, dict[str, float]] = {}
    for entry in log:
        row = rows.setdefault(entry["step"], {})
        row |= {name: entry[name] for name in ("step", "epoch", "seconds", "loss") if name in entry}
        if metric in entry:
            row["validation_score"] = -entry[metric] if metric == _LOSS_METRIC else entry[metric]
    return pd.DataFrame(list(rows.values()), columns=["step", "epoch", "loss", "validation_score", "seconds"])
