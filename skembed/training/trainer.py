"""One training run by sentence-transformers' own trainer, which can be interrupted and go on. Imports torch."""

from __future__ import annotations

import gc
import hashlib
import json
import operator
import os
import random
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer import evaluation
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed
from transformers.utils import logging

from skembed.atomic import atomic_write
from skembed.compat import is_out_of_memory
from skembed.encoding.forks import renew_in_child
from skembed.encoding.models.fingerprint import sha256_file
from skembed.encoding.progress import progress, without_bars
from skembed.errors import level_of_user
from skembed.locks import locked
from skembed.optional import require
from skembed.paths import SpecialFileError, read_path, refuse_special_file
from skembed.training.batches import TextsApart
from skembed.training.data import TrainingData, split
from skembed.training.losses import OBJECTIVES, check_batches, to_columns
from skembed.training.model_setup import add_adapters, make_collator, make_loss
from skembed.training.settings import TrainingSettings

_WEIGHTS_FILE = "state.safetensors"
_RUN_FILE = "run.json"
_SEAL = "sealed.json"  # of a checkpoint, written last: the sha256 of each of its files
_HISTORY_ROWS = 50  # of the loss, about, over a whole run
_CHECKPOINTS = 10  # over a run that is not early stopped, about
_PAIRS_A_VALIDATION_TEXT = 32
_ONE_BY_ONE = ("contrastive", "cosine_similarity", "softmax", "triplet")  # losses that average over examples
_LOSS_METRIC = "eval_loss"  # what a run is judged by where there is no evaluator

# By which the launchers of torch, accelerate and MPI tell a process its place among others.
_LAUNCH_VARIABLE = re.compile(
    "((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|"
    "(ACCELERATE|FSDP|OMPI_COMM_WORLD|PARALLELISM_CONFIG|PMI|MPI|MV2_COMM_WORLD|TORCHELASTIC)_.*"
)

_one_at_a_time = threading.Lock()  # the trainer seeds, and the random numbers it draws are those of the process


def _renew_after_fork() -> None:
    """Be free in a forked child, whatever another thread of the parent was training."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


renew_in_child("training", _renew_after_fork)


@dataclass
class Run:
    """What there is to train.

    Attributes
    ----------
    make_model : callable
        Makes the private model, untrained, on its device.
    settings : TrainingSettings
    loss_name : str
    data : TrainingData
        All of it; early stopping sets a part of it aside.
    seed : int
    show_progress_bar : "auto" or bool
    n_parts : int, default=1
        Parts in which a batch is computed, because it does not fit into memory in one.
    """

    make_model: Callable[[], SentenceTransformer]
    settings: TrainingSettings
    loss_name: str
    data: TrainingData
    seed: int
    show_progress_bar: Any
    n_parts: int = 1

    @property
    def caches_gradients(self) -> bool:
        """Whether the loss computes a batch in parts by itself, with the same result."""
        return isinstance(self.settings.loss, str) and self.loss_name.endswith("multiple_negatives_ranking")

    @property
    def batch_size(self) -> int:
        """Examples that are given to the loss at once."""
        return self.settings.batch_size // (1 if self.caches_gradients else self.n_parts)


@dataclass(frozen=True)
class TrainingResult:
    """What came out of a run.

    Attributes
    ----------
    model : SentenceTransformer
    history : DataFrame
        As ``SentenceEmbeddingFineTuner.history_``.
    n_epochs : int
        Epochs that were run.
    """

    model: SentenceTransformer
    history: pd.DataFrame
    n_epochs: int


def train(run: Run, key: str) -> TrainingResult:
    """Train a model, or go on where an interrupted run of the same key stopped.

    When memory runs out, batches are computed in parts whose gradients are added up.

    Parameters
    ----------
    run : Run
    key : str
        Digest of everything that the result depends on; names the folder in ``checkpoint_dir``.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ImportError
        If accelerate or datasets is not installed.
    ValueError
        If there are too few examples for a batch, or to be set aside.
    """
    with _one_at_a_time, _random_states_kept(), _alone(), _quiet(), _folder(run, key) as folder:
        while True:
            try:
                return _train_once(run, folder)
            except RuntimeError as error:
                n_parts = _more_parts(run)
                if not is_out_of_memory(error) or n_parts is None:
                    raise
            _train_in_parts(run, n_parts)  # outside the except clause, whose traceback keeps tensors alive


def _train_once(run: Run, folder: Path) -> TrainingResult:
    set_seed(run.seed)
    model = run.make_model()
    cut, model.truncate_dim = model.truncate_dim, None  # all dimensions are trained
    adapters = None if run.settings.lora_rank is None else add_adapters(model, run.settings.lora_rank)
    with progress(run.show_progress_bar, 0, "Training", "step") as bar:
        trainer = _make_trainer(run, model, folder, bar)
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
    if run.settings.early_stopping and trainer.state.best_model_checkpoint is None:
        raise ValueError(
            "The validation score is undefined, because the vectors of all examples set aside are alike, so there is "
            "no best epoch. Lower learning_rate, or pass early_stopping=False."
        )
    if adapters is not None:
        adapters.merge_and_unload()
    model.truncate_dim = cut
    for name in ("forward", "_original_forward"):  # set over the class's own, to compute in bfloat16 or by dimensions
        vars(model).pop(name, None)
    for parameter in model.parameters():
        parameter.grad = None
        parameter.requires_grad_(True)
    history = _history(trainer.state.log_history, _metric(trainer.evaluator))
    return TrainingResult(model.eval(), history, int(np.ceil(trainer.state.epoch or 0)))


def _make_trainer(run: Run, model: SentenceTransformer, folder: Path, bar: Any) -> _Trainer:
    datasets = require("datasets", extra="train", needed_by="SentenceEmbeddingFineTuner")
    settings, rng = run.settings, np.random.default_rng(run.seed)
    loss_name = run.loss_name
    if run.caches_gradients and run.n_parts > 1:
        loss_name = "cached_multiple_negatives_ranking"
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
        callbacks=[_Watcher(bar)],
    )
    if settings.early_stopping:
        trainer.add_callback(EarlyStoppingCallback(settings.n_iter_no_change))
    trainer.remove_callback(PrinterCallback)
    return trainer


def _check_validation(validation: TrainingData) -> None:
    """Refuse examples set aside that cannot tell one model from another."""
    labels = validation.labels
    if len(validation) < 2 or (validation.kind == "scores" and labels is not None and (labels == labels[0]).all()):
        raise ValueError(
            f"early_stopping=True sets {len(validation)} examples aside, which is too few, or all of one score; give "
            "more examples, a larger validation_fraction, or early_stopping=False."
        )


def _batches(run: Run) -> str:
    """Say how batches are composed; other examples of a batch may be negatives to a loss that is unknown here."""
    objective = OBJECTIVES.get(run.loss_name)
    kind = objective.batches if objective else "any" if run.data.labels is not None else "no_duplicates"
    return "batch_sampler" if kind == "any" else kind


def _sampler(run: Run) -> Any:
    """Name the trainer's own way to compose batches, or give one that keeps texts apart and leaves no example out."""
    kind = _batches(run)
    if kind != "no_duplicates":
        return kind
    is_ranking = isinstance(run.settings.loss, str)  # one of ours, to which a negative is one to the whole batch
    return partial(TextsApart, n_apart=2) if is_ranking else TextsApart


def _arguments(run: Run, model: SentenceTransformer, folder: Path, metric: str) -> SentenceTransformerTrainingArguments:
    settings, stops_early = run.settings, run.settings.early_stopping
    keeps_all = settings.checkpoint_dir is not None
    is_cpu, is_cuda = model.device.type == "cpu", model.device.type == "cuda"
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=settings.batch_size // run.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        batch_sampler=_sampler(run),
        seed=run.seed,
        use_cpu=is_cpu,
        bf16=is_cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        dataloader_pin_memory=is_cuda,
        logging_steps=1 / _HISTORY_ROWS,
        report_to="none",
        disable_tqdm=True,
        eval_strategy="epoch" if stops_early else "no",
        save_strategy="epoch" if stops_early else "steps" if keeps_all else "no",
        save_steps=1 / _CHECKPOINTS,
        save_only_model=not keeps_all,
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=stops_early,
        metric_for_best_model=metric if stops_early else None,
        greater_is_better=metric != _LOSS_METRIC,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # of several the trainer would take all, and split each batch
    return arguments


class _Trainer(SentenceTransformerTrainer):
    """The trainer of sentence-transformers, whose checkpoints hold the loss's weights too and no pickle of settings."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Write no card while training: it would keep the trainer, and the data, for as long as the model lives."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self._state().items()}, folder / _WEIGHTS_FILE)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint, seal it, and only then remove those before it, but for the best one."""
        super()._save_checkpoint(model, trial)
        folder = Path(str(self.args.output_dir))
        newest = folder / f"checkpoint-{self.state.global_step}"
        _seal(newest)
        for other in folder.glob("checkpoint-*"):
            if other.name not in (newest.name, Path(self.state.best_model_checkpoint or "").name):
                shutil.rmtree(other)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:  # type: ignore[override]
        saved = load_file(Path(checkpoint_path) / _WEIGHTS_FILE)
        for name, tensor in self._state().items():
            tensor.copy_(saved[name])

    def _load_best_model(self) -> None:
        """Load the best model as the parent does, but do not go on without it."""
        if self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _state(self) -> dict[str, Tensor]:
        """Collect what training may change, each tensor once: of the model, and of a loss with layers of its own."""
        loss: Any = self.loss
        both = nn.ModuleList([self.model, loss])
        trained = {name: tensor for name, tensor in both.named_parameters() if tensor.requires_grad}
        return {name: tensor.detach() for name, tensor in (*trained.items(), *both.named_buffers())}


class _Watcher(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Draws the bar, logs the last steps of an epoch too, and notes the time."""

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

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        state.log_history[-1]["seconds"] = perf_counter() - self.started
        if "loss" in state.log_history[-1]:
            self.bar.set_postfix(loss=f"{state.log_history[-1]['loss']:.4f}")


def make_evaluator(data: TrainingData, validation: TrainingData, rng: np.random.Generator) -> BaseEvaluator | None:
    """Make what scores a model on examples set aside; None where minus the loss has to do.

    Parameters
    ----------
    data, validation : TrainingData
    rng : Generator

    Returns
    -------
    evaluator or None
        Spearman's correlation of cosines and scores; average precision of cosines for pairs that belong together or
        not, which for texts with class labels are pairs of a text set aside with one of training; or the share of
        triplets whose anchor is nearer to the positive.
    """
    columns: Any = validation.columns
    labels: Any = validation.labels
    evaluators: Any = evaluation  # whose types do not tell columns apart
    evaluator: Any = None
    if validation.kind == "scores":
        evaluator = evaluators.EmbeddingSimilarityEvaluator(
            *columns, labels.tolist(), main_similarity="cosine", write_csv=False
        )
        evaluator.primary_metric = "spearman_cosine"
    elif validation.kind in ("binary", "classes"):
        pairs: Any = (*columns, labels) if validation.kind == "binary" else _across(data, validation, rng)
        evaluator = evaluators.BinaryClassificationEvaluator(
            pairs[0], pairs[1], pairs[2].tolist(), similarity_fn_names=["cosine"], write_csv=False
        )
        evaluator.primary_metric = "cosine_ap"
    elif validation.kind == "triplets":
        evaluator = evaluators.TripletEvaluator(*columns, main_similarity_function="cosine", write_csv=False)
        evaluator.primary_metric = "cosine_accuracy"
    made: BaseEvaluator | None = evaluator
    return made


def _metric(evaluator: BaseEvaluator | None) -> str:
    return _LOSS_METRIC if evaluator is None else f"eval_{evaluator.primary_metric}"


def _across(
    data: TrainingData, validation: TrainingData, rng: np.random.Generator
) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """Pair texts that were set aside with some of those that are trained on."""
    left, right, same = [], [], []
    labels: Any = data.labels
    texts: Any = zip(validation.columns[0], validation.labels, strict=True)  # type: ignore[arg-type]
    for text, label in texts:
        others = (row for row in rng.permutation(len(data)) if data.columns[0][row] != text)
        rows = np.fromiter(islice(others, _PAIRS_A_VALIDATION_TEXT), dtype=np.intp)
        left += [text] * len(rows)
        right += [data.columns[0][row] for row in rows]
        same.append(labels[rows] == label)
    return left, right, np.concatenate(same).astype(np.int64)


def _history(log: Sequence[dict[str, Any]], metric: str) -> pd.DataFrame:
    """Tell the run by step: the loss since the row before, and the validation score where an epoch ends."""
    rows: dict[int, dict[str, float]] = {}
    for entry in log:
        row = rows.setdefault(entry["step"], {"epoch": np.nan, "loss": np.nan, "validation_score": np.nan})
        row |= {"epoch": entry["epoch"], "seconds": entry["seconds"]}
        if "loss" in entry:
            row["loss"] = entry["loss"]
        if metric in entry:
            row["validation_score"] = -entry[metric] if metric == _LOSS_METRIC else entry[metric]
    columns = ["step", "epoch", "loss", "validation_score", "seconds"]
    return pd.DataFrame([{"step": step, **row} for step, row in rows.items()], columns=columns)


def _more_parts(run: Run) -> int | None:
    """Say into how many equal parts a batch can be taken apart, if into more than now."""
    whole, objective = run.settings.batch_size, OBJECTIVES.get(run.loss_name)
    in_groups = objective is not None and objective.batches == "group_by_label"
    smaller = range(whole // run.n_parts - 1, 3 if in_groups else 0, -1)
    sizes = (size for size in smaller if whole % size == 0 and not (in_groups and size % 2))
    return next((whole // size for size in sizes), None)


def _train_in_parts(run: Run, n_parts: int) -> None:
    run.n_parts = n_parts
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    same = run.caches_gradients or run.loss_name in _ONE_BY_ONE
    but = "" if same else ", and what the loss compares within a batch it compares within a part"
    warnings.warn(
        f"Memory ran out: batches of {run.settings.batch_size} are computed in {n_parts} parts{but}.",
        UserWarning,
        stacklevel=level_of_user(),
    )


@contextmanager
def _folder(run: Run, key: str) -> Iterator[Path]:
    """Give a run its folder; one that is to outlive an interruption knows the run's seed, and goes when it is done."""
    if run.settings.checkpoint_dir is None:
        with TemporaryDirectory(prefix="skembed-training-") as temporary:
            yield Path(temporary)
        return
    folder = Path(os.path.abspath(read_path(run.settings.checkpoint_dir, "checkpoint_dir"))) / f"run-{key[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Others wait who are at the same training, as those of a grid search that differ in a later step only.
    with locked(folder.with_suffix(".lock")):
        folder.mkdir(exist_ok=True)
        run.seed = _seed_of(folder, run.seed)
        is_done = False
        try:
            yield folder
            is_done = True
        finally:
            if is_done or not any(folder.glob("checkpoint-*")):
                shutil.rmtree(folder)
                # Who waits for this file looks whether it is still there, and else waits for the next (filelock 4).
                # Windows removes no file that is open; there it stays.
                with suppress(PermissionError):
                    folder.with_suffix(".lock").unlink(missing_ok=True)


def _seed_of(folder: Path, seed: int) -> int:
    """Read the seed of the run that was interrupted in a folder, or write that of a new one."""
    file = folder / _RUN_FILE
    if file.exists():
        try:
            refuse_special_file(file)
            written = json.loads(file.read_text(encoding="utf-8"))
            if written != _sealed_seed(operator.index(written["seed"])):
                raise ValueError("sha256")
        except (SpecialFileError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{file} is damaged. Delete {folder} to train anew.") from error
        return int(written["seed"])
    with atomic_write(file) as unfinished:
        unfinished.write(json.dumps(_sealed_seed(seed)).encode())
    return seed


def _sealed_seed(seed: int) -> dict[str, Any]:
    return {"seed": seed, "sha256": hashlib.sha256(str(seed).encode()).hexdigest()}


def _seal(checkpoint: Path) -> None:
    """Write down what each file of a checkpoint holds, when all of them are there."""
    (checkpoint / _SEAL).write_text(json.dumps(_sha256_of_files(checkpoint)), encoding="utf-8")


def _refuse_unsealed(checkpoint: Path) -> None:
    """Raise ValueError, SpecialFileError or FileNotFoundError unless a checkpoint is as it was sealed."""
    refuse_special_file(checkpoint / _SEAL)
    if json.loads((checkpoint / _SEAL).read_text(encoding="utf-8")) != _sha256_of_files(checkpoint):
        raise ValueError(f"{checkpoint} is damaged")


def _sha256_of_files(checkpoint: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(checkpoint.iterdir()):
        if path.name != _SEAL and path.is_file():
            digests[path.name] = sha256_file(path)
    return digests


def _last_checkpoint(folder: Path) -> str | None:
    """Find the last checkpoint that is as it was written, with its best one, and remove the others."""
    complete = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            _refuse_unsealed(checkpoint)
            state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            best = state["best_model_checkpoint"]  # a path, which leads nowhere once the folder was moved
            if best is not None:
                _refuse_unsealed(Path(best))
            complete[operator.index(state["global_step"])] = str(checkpoint)
        except (
            FileNotFoundError,
            IsADirectoryError,
            SpecialFileError,
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
        ):  # cut short, or damaged
            shutil.rmtree(checkpoint)
    return complete[max(complete)] if complete else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the trainer's notes to itself, of which nothing follows for the user, and its bars of reading weights."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with without_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Give the process back the random numbers that it would have drawn without a training."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=_seeded_devices()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _seeded_devices() -> list[int]:
    """List the CUDA devices whose random numbers the trainer seeds anew: all of them, or none before CUDA is in use."""
    is_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if is_in_use else []


@contextmanager
def _alone() -> Iterator[None]:
    """Hide from the trainer what a launcher has said of other processes, and from these what the trainer says."""
    states = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    kept_states, kept_names = [dict(state) for state in states], _launch_variables()
    for name in kept_names:
        del os.environ[name]
    try:
        yield
    finally:
        for name in _launch_variables():
            del os.environ[name]
        os.environ.update(kept_names)
        for state, kept in zip(states, kept_states, strict=True):
            state.clear()
            state.update(kept)


def _launch_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if _LAUNCH_VARIABLE.fullmatch(name)}
