"""Checkpoints: the folder of a training, its seed, and weights that an interrupted one resumes from. Imports torch."""

from __future__ import annotations

import hashlib
import json
import operator
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skembed.atomic import atomic_write
from skembed.encoding.models.fingerprint import sha256_file
from skembed.encoding.plan import Plan
from skembed.locks import locked
from skembed.paths import SpecialFileError, read_path, refuse_special_file
from skembed.training.data import TrainingData
from skembed.training.losses import describe_loss
from skembed.training.settings import TrainingSettings

_ORDER = 3  # version of the order of examples; trainings interrupted under another version start anew
_IN_KEY = (
    "pooling", "normalize_embeddings", "truncate_dim", "prompt", "prompt_name", "task", "max_seq_length", "missing",
)  # fmt: skip
_WEIGHTS_FILE = "state.safetensors"
_SEED_FILE = "run.json"
_DAMAGE = (  # what reading an incomplete or damaged file may raise; not PermissionError, which may pass
    SpecialFileError, FileNotFoundError, IsADirectoryError, ValueError, TypeError, KeyError, RecursionError,
)  # fmt: skip
_SEAL = "sealed.json"  # of a checkpoint, written last: the sha256 of each of its files


def run_key(settings: TrainingSettings, loss_name: str, plan: Plan, data: TrainingData, random_state: Any) -> str:
    """Compute a digest of everything that the result of a training depends on, except a seed that was drawn.

    Parameters
    ----------
    settings : TrainingSettings
    loss_name : str
    plan : Plan
        Of the model from which training starts.
    data : TrainingData
    random_state : int, RandomState or None
        Part of the digest if it is an int.

    Returns
    -------
    str
    """
    parts = [
        _ORDER,
        {**asdict(replace(settings, loss=loss_name, checkpoint_dir=None)), "about_loss": describe_loss(settings.loss)},
        {name: getattr(plan.settings, name) for name in _IN_KEY},
        int(random_state) if isinstance(random_state, (int, np.integer)) else None,
        plan.model.fingerprint,
        data.columns,
        None if data.labels is None else data.labels.tolist(),
        None if data.classes is None else data.classes.tolist(),
    ]
    return hashlib.sha256(json.dumps(parts, default=repr).encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def run_folder(checkpoint_dir: str | os.PathLike[str] | None, key: str, seed: int) -> Iterator[tuple[Path, int]]:
    """Open the folder of a training, alone among processes; remove it when the training is done.

    Parameters
    ----------
    checkpoint_dir : path or None
        Where the folder is kept if the training is interrupted; None: nowhere.
    key : str
        From :func:`run_key`; names the folder.
    seed : int
        Seed of a new training.

    Yields
    ------
    folder : Path
    seed : int
        That of the interrupted training, if the folder holds one.
    """
    if checkpoint_dir is None:
        with TemporaryDirectory(prefix="skembed-training-") as temporary:
            yield Path(temporary), seed
        return
    folder = Path(os.path.abspath(read_path(checkpoint_dir, "checkpoint_dir"))) / f"run-{key[:16]}"
    lock_file = folder.with_suffix(".lock")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Processes with the same training wait, such as those of a grid search over parameters of a later step.
    with locked(lock_file):
        folder.mkdir(exist_ok=True)
        seed = fix_seed(folder, seed)
        is_done = False
        try:
            yield folder, seed
            is_done = True
        finally:
            if is_done or not any(folder.glob("checkpoint-*")):
                shutil.rmtree(folder)
                # A process that waits for this file checks whether it still exists, and otherwise waits for the next
                # one (filelock 4). Windows does not remove open files; there the lock file remains.
                with suppress(PermissionError):
                    lock_file.unlink(missing_ok=True)


def fix_seed(folder: Path, seed: int) -> int:
    """Return the seed of the training that was interrupted in a folder; write down that of a new one.

    Raises
    ------
    ValueError
        If the file with the seed is damaged.
    """
    file = folder / _SEED_FILE
    if file.exists():
        try:
            refuse_special_file(file)
            written = json.loads(file.read_text(encoding="utf-8"))
            if written != _sealed_seed(operator.index(written["seed"])):
                raise ValueError("sha256")
        except _DAMAGE as error:
            raise ValueError(f"{file} is damaged. Delete {folder} to train anew.") from error
        return int(written["seed"])
    with atomic_write(file) as unfinished:
        unfinished.write(json.dumps(_sealed_seed(seed)).encode())
    return seed


def _sealed_seed(seed: int) -> dict[str, Any]:
    return {"seed": seed, "sha256": hashlib.sha256(str(seed).encode()).hexdigest()}


def save_weights(folder: Path, modules: nn.ModuleList) -> None:
    """Write everything that training changes in a model and a loss into a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in _trained_tensors(modules).items()}
    save_file(tensors, folder / _WEIGHTS_FILE)


def load_weights(folder: Path, modules: nn.ModuleList) -> None:
    """Read what :func:`save_weights` wrote, into the same model and loss."""
    saved = load_file(folder / _WEIGHTS_FILE)
    for name, tensor in _trained_tensors(modules).items():
        tensor.copy_(saved[name])


def _trained_tensors(modules: nn.ModuleList) -> dict[str, Tensor]:
    """Return trainable weights and buffers by name; a tensor that several modules hold comes once."""
    trained = {name: tensor for name, tensor in modules.named_parameters() if tensor.requires_grad}
    return {name: tensor.detach() for name, tensor in (*trained.items(), *modules.named_buffers())}


def seal(checkpoint: Path) -> None:
    """Write down what each file of a complete checkpoint holds; a checkpoint without this seal is not used."""
    (checkpoint / _SEAL).write_text(json.dumps(_sha256_of_files(checkpoint)), encoding="utf-8")


def find_last_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that is intact and whose best checkpoint is intact; remove those that are not."""
    complete = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            _check_seal(checkpoint)
            state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            best = state["best_model_checkpoint"]  # a path that is no longer valid if the folder was moved
            if best is not None:
                _check_seal(Path(best))
            complete[operator.index(state["global_step"])] = checkpoint
        except _DAMAGE:
            shutil.rmtree(checkpoint)
    return complete[max(complete)] if complete else None


def remove_checkpoints(folder: Path, keep: set[str]) -> None:
    """Remove the checkpoints of a training, except those whose names are to be kept."""
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint.name not in keep:
            shutil.rmtree(checkpoint)


def _check_seal(checkpoint: Path) -> None:
    """Raise ValueError, SpecialFileError or FileNotFoundError unless a checkpoint is as it was sealed."""
    refuse_special_file(checkpoint / _SEAL)
    if json.loads((checkpoint / _SEAL).read_text(encoding="utf-8")) != _sha256_of_files(checkpoint):
        raise ValueError(f"{checkpoint} is damaged")


def _sha256_of_files(checkpoint: Path) -> dict[str, str]:
    files = (path for path in sorted(checkpoint.iterdir()) if path.name != _SEAL and path.is_file())
    return {path.name: sha256_file(path) for path in files}
