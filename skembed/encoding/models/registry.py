"""Registry of models: each is loaded once per process and shared, on the backend that fits.

A model is given as a hub name, a folder or a loaded SentenceTransformer. In each case the rest of the engine gets a
:class:`LoadedModel`, whose fingerprint identifies its weights, tokenizer and configuration. Imports the other files of
this folder; OpenVINO's backend only when it is used.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Hashable
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any, cast

from skembed.encoding.forks import renew_in_child
from skembed.encoding.models.devices import openvino_hangs, resolve_backend, resolve_devices
from skembed.encoding.models.fingerprint import fingerprint_live, stamp_live
from skembed.encoding.models.folders import check_model_folder, current_snapshot, folder_state, local_folder
from skembed.encoding.models.loading import LoadedModel, all_models, copy_to_devices, dtype_of, load_named, make_loaded
from skembed.encoding.settings import Settings
from skembed.encoding.threads import SharedResult
from skembed.errors import warn_user
from skembed.paths import read_model_name

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from skembed.encoding.backends.openvino_backend import OpenVINOBackend
    from skembed.encoding.backends.torch_backend import TorchBackend

_registry_lock = threading.RLock()  # never held for long
_key_locks: weakref.WeakValueDictionary[tuple[Hashable, ...], Any] = weakref.WeakValueDictionary()
_shared: weakref.WeakValueDictionary[tuple[Hashable, ...], SharedResult[LoadedModel]] = weakref.WeakValueDictionary()
_loaded: dict[tuple[Hashable, ...], LoadedModel] = {}
_not_convertible: set[str] = set()  # fingerprints of models that OpenVINO could not run
_live_fingerprints: weakref.WeakKeyDictionary[Any, tuple[Hashable, str]] = weakref.WeakKeyDictionary()


def get_model(settings: Settings) -> LoadedModel:
    """Return the model that the settings name, and load it if this process has not done so yet.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    ValueError
        If the device is not available, or the backend cannot use it.
    ImportError
        If the backend is not installed.
    RuntimeError
        If OpenVINO is asked for in a process that was forked from one that has used it.
    """
    if isinstance(settings.model, (str, os.PathLike)):
        name = read_model_name(settings.model)
        device = tuple(settings.device) if isinstance(settings.device, list) else settings.device
        key = (
            name,
            device,
            settings.backend,
            settings.dtype,
            settings.revision,
            settings.local_files_only,
            settings.trust_remote_code,
        )
        with _registry_lock:
            shared = _shared.setdefault(key, SharedResult())
        return shared.get(lambda: _get_named(name, settings))  # files are looked at once for all who ask
    return _get_live(settings.model, settings)


def load_private(given: SentenceTransformer, settings: Settings) -> LoadedModel:
    """Load a live model for exclusive use; it is not registered.

    Parameters
    ----------
    given : SentenceTransformer
    settings : Settings
        Of these, device and dtype count; "auto" means the precision of a named model.
    """
    devices, dtype = resolve_devices(settings.device, given), settings.dtype
    name, fingerprint, stamp = f"the tuned {type(given).__name__}", fingerprint_live(given), stamp_live(given)

    def load(dtype: str) -> LoadedModel:
        each = copy_to_devices(given, devices, dtype)
        return make_loaded(name, fingerprint, each, lambda: stamp_live(given) == stamp, is_live=True)

    wants_openvino = resolve_backend(settings, devices, is_live=True) == "openvino"
    if wants_openvino and (converted := _convert(load("float32"), dtype, settings)) is not None:
        return converted
    return load("float32" if dtype == "auto" and not devices[0].startswith("cuda") else dtype)


def unload_models() -> None:
    """Forget all loaded models and free their memory, also on devices.

    Models are loaded again when they are next needed. A SentenceTransformer that you loaded and passed yourself is
    released too; it stays in memory for as long as you keep it.

    Examples
    --------
    >>> import skembed
    >>> skembed.unload_models()
    """
    with _registry_lock:
        _loaded.clear()
        _live_fingerprints.clear()
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None:
        torch.cuda.empty_cache()  # does nothing without CUDA


def _get_or_load(key: tuple[Hashable, ...], load: Callable[[], LoadedModel | None]) -> LoadedModel | None:
    """Return the current model of a key; the first caller loads it, the others wait."""
    model = _loaded.get(key)
    if model is not None and model.is_current():
        return model
    with _loading_lock(*key):
        model = _loaded.get(key)
        if model is None or not model.is_current():
            model = None
            _loaded.pop(key, None)  # before loading: two versions of a large model may not fit in memory
            model = load()
            if model is not None:
                _loaded[key] = model
        return model


def _loading_lock(*key: Hashable) -> Any:
    """Return the lock for loading one model; callers that want other models do not wait for it."""
    with _registry_lock:
        return _key_locks.setdefault(key, threading.RLock())


def _get_named(name: str, settings: Settings) -> LoadedModel:
    devices, dtype = resolve_devices(settings.device, None), settings.dtype
    backend = resolve_backend(settings, devices, is_live=False)
    if dtype == "auto" and backend == "torch" and not devices[0].startswith("cuda"):
        dtype = "float32"
    folder = local_folder(name, settings.revision)
    key = (folder or name, settings.revision, settings.trust_remote_code, devices, dtype, backend)

    def load() -> LoadedModel:
        if backend == "torch":
            return load_named(name, folder, devices, dtype, settings)
        return _load_converted(name, folder, dtype, settings)

    return cast("LoadedModel", _get_or_load(key, load))


def _get_live(given: SentenceTransformer, settings: Settings) -> LoadedModel:
    """Return one shared copy of each distinct live model: scikit-learn deep-copies those in a grid."""
    with _loading_lock("live", id(given)):
        stamp, fingerprint = _fingerprint_of(given)
    devices = resolve_devices(settings.device, given)

    def load(dtype: str) -> LoadedModel:
        name = f"the given {type(given).__name__}"
        each = copy_to_devices(given, devices, dtype)
        resident, resident_stamp = each[0], stamp if each[0] is given else stamp_live(each[0])
        return make_loaded(name, fingerprint, each, lambda: stamp_live(resident) == resident_stamp, is_live=True)

    def load_converted() -> LoadedModel | None:
        model = replace(load("float32"), is_current=lambda: True)  # nobody can change the copy that is converted
        return _convert(model, settings.dtype, settings)

    wants_openvino = resolve_backend(settings, devices, is_live=True) == "openvino"
    may_convert = wants_openvino and fingerprint not in _not_convertible  # otherwise a copy would be made in vain
    key = (fingerprint, "openvino", settings.dtype)
    if may_convert and (converted := _get_or_load(key, load_converted)) is not None:
        return converted
    dtype = dtype_of(given) if settings.dtype == "auto" else settings.dtype
    return cast("LoadedModel", _get_or_load((fingerprint, devices, dtype), lambda: load(dtype)))


def _fingerprint_of(given: SentenceTransformer) -> tuple[Hashable, str]:
    """Return the stamp and the fingerprint of a live model; the fingerprint is computed again if it has changed."""
    stamp = stamp_live(given)
    known_stamp, fingerprint = _live_fingerprints.get(given, (None, ""))
    if known_stamp != stamp:
        for outdated in [key for key in list(_loaded) if key[0] == fingerprint]:
            _loaded.pop(outdated, None)  # the model itself, or a copy in another precision
        fingerprint = fingerprint_live(given)
        _live_fingerprints[given] = (stamp, fingerprint)
    return stamp, fingerprint


def _load_converted(name: str, folder: str | None, dtype: str, settings: Settings) -> LoadedModel:
    """Load a model that was converted for OpenVINO, without torch; if there is none, load with torch and convert."""
    if folder is not None:
        check_model_folder(name, folder)
    model = _find_converted(name, folder or current_snapshot(name, settings), dtype, settings)
    if model is not None:
        return model
    model = load_named(name, folder, ("cpu",), "float32", settings)
    converted = _convert(model, dtype, settings)
    if converted is None and dtype == "bfloat16":
        return load_named(name, folder, ("cpu",), dtype, settings)
    return converted or model


def _find_converted(name: str, folder: str | None, dtype: str, settings: Settings) -> LoadedModel | None:
    from skembed.encoding.backends.openvino_backend import find_converted
    from skembed.encoding.backends.openvino_folder import conversion_folder

    state = folder_state(name, folder, settings) if folder is not None else None
    if state is None or not state.is_complete or state.fingerprint in _not_convertible:
        return None
    kept = conversion_folder(state.fingerprint, settings.trust_remote_code)
    backend = None if kept is None else find_converted(kept, dtype, name)
    if backend is None:
        return None

    def is_current() -> bool:
        return _can_run(backend, state.fingerprint) and state.is_current()

    return LoadedModel(name, state.fingerprint, False, backend.dtype, backend, is_current)


def _convert(model: LoadedModel, dtype: str, settings: Settings) -> LoadedModel | None:
    """Convert a model that torch runs in float32 on the CPU; return None and warn once if OpenVINO cannot run it."""
    from skembed.encoding.backends.openvino_conversion import NotConvertibleError, make_converted

    if model.fingerprint in _not_convertible:
        return None
    try:
        backend = make_converted(
            cast("TorchBackend", model.backend),
            None if model.is_live else model.fingerprint,  # a model in training has many states, none of which recurs
            dtype,
            model.name,
            trust_remote_code=settings.trust_remote_code,
            show_progress_bar=settings.show_progress_bar,
        )
    except NotConvertibleError as error:
        _not_convertible.add(model.fingerprint)
        if settings.backend == "openvino" or model.backend.spec is not None:  # OpenVINO is of no use to the others
            _warn_of_fallback(model, str(error))
        return None
    is_current, fingerprint = model.is_current, model.fingerprint  # not the model, so that its weights can be freed
    return replace(
        model,
        dtype=backend.dtype,
        backend=backend,
        is_current=lambda: _can_run(backend, fingerprint) and is_current(),
    )


def _can_run(backend: OpenVINOBackend, fingerprint: str) -> bool:
    """Return whether a converted model is still usable: it never failed, its files exist, and there was no fork."""
    return fingerprint not in _not_convertible and not openvino_hangs() and backend.is_there()


def fall_back_to_torch(model: LoadedModel, reason: str) -> None:
    """Leave a model that OpenVINO fails to run to torch from now on, and warn the first time."""
    model.has_failed = True
    with _registry_lock:
        is_known = model.fingerprint in _not_convertible
        _not_convertible.add(model.fingerprint)
    if not is_known:
        _warn_of_fallback(model, reason)


def _warn_of_fallback(model: LoadedModel, reason: str) -> None:
    warn_user(
        f"OpenVINO cannot run {model.name}: {shorten(reason, 300)}. torch runs it instead; with backend='torch' there "
        "is no such warning.",
    )


_abandoned: list[LoadedModel] = []  # by a fork: never used again and never freed, because freeing may hang too


def _renew_after_fork() -> None:
    """Replace all locks in a forked child: one that another thread of the parent holds would never be released."""
    global _registry_lock, _key_locks, _shared
    _registry_lock, _key_locks = threading.RLock(), weakref.WeakValueDictionary()
    _shared = weakref.WeakValueDictionary()
    for model in all_models:
        model.renew_locks()
    for key, model in list(_loaded.items()):
        if model.backend.name == "openvino":
            _abandoned.append(_loaded.pop(key))


renew_in_child("models", _renew_after_fork)
