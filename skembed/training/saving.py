"""The file beside a saved model from which a fine-tuner is loaded again: JSON, no pickle. Imports losses; no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skembed.encoding.models.files import TUNER_FILE
from skembed.paths import read_model_name, refuse_special_file
from skembed.training.losses import OBJECTIVES

FORMAT_VERSION = 1  # raise it when older files can no longer be read
_ATTRIBUTES = ("loss_", "n_iter_", "embedding_dim_", "_trained_fingerprint")
_INTEGERS = ("step",)  # columns of the history


@dataclass(frozen=True)
class SavedTuner:
    """What a file keeps of a fitted fine-tuner, apart from the model.

    Attributes
    ----------
    parameters : dict
        All but ``trust_remote_code``, which no file should decide.
    replaced : list of str
        Names of parameters that were objects. ``parameters`` has other values in their place, or leaves them out.
    attributes : dict
        Those that ``fit`` set.
    fingerprint : str or None
        Of the model's folder; None if the folder alone does not determine the model.
    """

    parameters: dict[str, Any]
    replaced: list[str]
    attributes: dict[str, Any]
    fingerprint: str | None


def write_tuner(folder: Path, tuner: Any, fingerprint: str | None) -> None:
    """Write what a file keeps of a fitted fine-tuner into the folder of its model."""
    given = {name: value for name, value in tuner.get_params(deep=False).items() if name != "trust_remote_code"}
    kept = {name: _to_json(name, value) for name, value in given.items()}
    replaced = [name for name, value in kept.items() if value is _NOTHING]
    stand_ins = {name: value for name, value in _stand_ins(tuner).items() if name in replaced}
    content = {
        "version": FORMAT_VERSION,
        "parameters": {name: value for name, value in (kept | stand_ins).items() if value is not _NOTHING},
        "replaced": replaced,
        "attributes": {name: getattr(tuner, name) for name in _ATTRIBUTES},
        "history": tuner.history_.astype(object).where(tuner.history_.notna(), None).to_dict("list"),
        "fingerprint": fingerprint,
    }
    content["sha256"] = _digest(content)
    (folder / TUNER_FILE).write_text(f"{json.dumps(content, indent=1)}\n", encoding="utf-8")


def read_tuner(folder: Path) -> SavedTuner:
    """Read what :func:`write_tuner` wrote.

    Raises
    ------
    FileNotFoundError
        If the folder holds no fine-tuner.
    ValueError
        If the file is damaged, or was not written by this version of skembed.
    """
    file = folder / TUNER_FILE
    if not file.exists():
        is_model = (folder / "modules.json").is_file()
        raise FileNotFoundError(
            f"No fine-tuner is saved in {folder}: "
            + (f"it holds a model and no {TUNER_FILE}. SentenceEmbeddingTransformer({str(folder)!r}) embeds with it."
               if is_model else f"there is no {TUNER_FILE}. SentenceEmbeddingFineTuner.save writes such a folder.")
        )  # fmt: skip
    refuse_special_file(file)
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version, digest = content["version"], content.pop("sha256")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, IsADirectoryError) as error:
        raise ValueError(f"{file} is damaged, or was not written by skembed. Save the fine-tuner again.") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{file} has version {version}; this skembed reads version {FORMAT_VERSION}.")
    if digest != _digest(content):
        raise ValueError(f"{file} is damaged: its checksum is wrong. Save the fine-tuner again.")
    try:
        return _from_content(content)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} was not written by skembed: {error}. Save the fine-tuner again.") from error


def _from_content(content: dict[str, Any]) -> SavedTuner:
    history = pd.DataFrame(content["history"], dtype=np.float64)
    attributes = {name: content["attributes"][name] for name in _ATTRIBUTES}
    attributes["history_"] = history.astype(dict.fromkeys(_INTEGERS, np.int64))
    parameters = {name: _from_json(value) for name, value in content["parameters"].items()}
    return SavedTuner(parameters, list(content["replaced"]), attributes, content["fingerprint"])


_NOTHING = object()  # in place of a value that JSON does not hold


def _to_json(name: str, value: Any) -> Any:
    """Return a parameter as JSON holds it: tuples as ``{"tuple": [...]}``, paths as text; _NOTHING if it does not."""
    if name == "model" and isinstance(value, (str, os.PathLike)):
        read = read_model_name(value)
        return os.path.abspath(read) if os.path.isdir(read) else read
    if (name == "cache" and value not in (None, "memory", "disk")) or (name == "checkpoint_dir" and value is not None):
        return _NOTHING  # a folder of this machine, which no file should choose
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (tuple, list)):
        items = [_to_json("", item) for item in value]
        if any(item is _NOTHING for item in items):
            return _NOTHING
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else _NOTHING


def _from_json(value: Any) -> Any:
    return tuple(value["tuple"]) if isinstance(value, Mapping) else value


def _stand_ins(tuner: Any) -> dict[str, Any]:
    loss = tuner.loss_ if tuner.loss_ in OBJECTIVES else "auto"
    return {"loss": loss, "cache": "memory", "checkpoint_dir": None}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
