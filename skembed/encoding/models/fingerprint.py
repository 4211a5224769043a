"""Fingerprints: which weights, tokenizer and configuration a model has, as one digest.

Two schemes, for a folder and for a live object. They never agree with each other, which costs only a second
encoding. Beside each a stamp: a cheap sign that nothing changed since the digest was taken. Imports the room of the
model's files; torch only for live objects, which bring it along.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle  # written only, to be digested; nothing is ever loaded
import uuid
import weakref
from collections.abc import Hashable
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any

from skembed.encoding.models.files import ModelFiles, Stamp, find_model_files

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_LIBRARIES = ("sentence_transformers.", "transformers.", "torch.")  # their configurations say all there is to say
# Entries of those configurations that name versions and working state, and leave the vectors as they are.
_NOT_IN_FINGERPRINT = frozenset(
    {"__version__", "version", "transformers_version", "_name_or_path", "name_or_path", "architectures", "auto_map",
     "tokenizer_class", "processor_class", "torch_dtype", "dtype", "padding", "truncation", "use_cache",
     "similarity_fn_name"}
)  # fmt: skip
_METHODS = frozenset({"forward", "preprocess", "tokenize", "encode"})  # that may be set on a live module
_ATTEMPTS = 3  # to read a folder that is being written
_FRESH_NS = 2 * 10**9  # a file that changed so lately may change again without another time


def fingerprint_folder(folder: str | os.PathLike[str], *, trust_remote_code: bool = False) -> str:
    """Digest what loading a model's folder reads and what shapes its vectors, without loading torch.

    Parameters
    ----------
    folder : path
    trust_remote_code : bool, default=False
        Whether code that the model brings along runs, and so counts.

    Returns
    -------
    str
        64 hexadecimal digits. Configuration counts by its content, less versions: a model saved again by another
        version of a library keeps its fingerprint.
    """
    return FolderState(folder, trust_remote_code=trust_remote_code).fingerprint


class FolderState:
    """A model's folder as it is now, and whether it still is later.

    Attributes
    ----------
    fingerprint : str
    is_all : bool
        Whether the folder says all there is to say; if not, only the loaded model can be fingerprinted.

    Raises
    ------
    OSError
        If a file cannot be read, or the folder never stays as it is.
    ValueError
        If a configuration is no JSON.
    """

    def __init__(self, folder: str | os.PathLike[str], *, trust_remote_code: bool = False) -> None:
        self._folder, self._trusts = folder, trust_remote_code
        self._digests: dict[tuple[Path, Stamp], str] = {}
        self._files, self.fingerprint = self._take()
        self.is_all = self._files.is_all
        self._is_fresh = any(max(stamp[1:], default=0) > time_ns() - _FRESH_NS for stamp in self._files.stamps.values())

    def _take(self) -> tuple[ModelFiles, str]:
        for _ in range(_ATTEMPTS):
            files = find_model_files(self._folder, trust_remote_code=self._trusts)
            fingerprint = self._digest(files)
            if files.are_unchanged():
                return files, fingerprint
        raise OSError(f"{self._folder} changes while it is read")

    def _digest(self, files: ModelFiles) -> str:
        digest = hashlib.sha256(b"skembed folder 2")
        for where, content in files.said:
            _update(digest, "said", where, content)
        digests: dict[tuple[Path, Stamp], str] = {}
        for where, path in files.read:
            of = path, files.stamps[path]
            digests[of] = self._digests.get(of) or sha256_file(path)
            _update(digest, "read", where, digests[of])
        self._digests = digests
        return digest.hexdigest()

    def is_current(self) -> bool:
        """Whether the folder still says the same; cheap while nothing in it changes."""
        if self._files.are_unchanged():
            return True
        try:
            files, fingerprint = self._take()
        except Exception:  # it is gone or damaged, in whatever way
            return False
        if fingerprint == self.fingerprint:  # a file that does not count
            self._files = files
            return True
        return False

    def held(self) -> bool:
        """Whether what was just loaded is what was fingerprinted before, however fast the folder was replaced."""
        if self._is_fresh:
            self._digests = {}
            try:
                return self._take()[1] == self.fingerprint
            except Exception:  # it is being replaced right now
                return False
        return self.is_current()


def sha256_file(path: Path) -> str:
    """Digest the bytes of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(content: Any) -> str:
    """Write a configuration in one way only, without what has no say in the vectors."""
    if isinstance(content, dict):
        content = {key: _with_written_keys(value) for key, value in content.items() if key not in _NOT_IN_FINGERPRINT}
    return json.dumps(content, sort_keys=True, default=repr)


def _with_written_keys(content: Any) -> Any:
    """Write down keys that JSON has not: those of a Router's mappings are tuples."""
    if not isinstance(content, dict):
        return content
    return {repr(key) if isinstance(key, tuple) else key: value for key, value in content.items()}


def _update(digest: Any, *parts: str) -> None:
    for part in parts:  # each with its length, so that no two lists of parts look alike
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(encoded)}:".encode() + encoded)


def fingerprint_live(sentence_transformer: SentenceTransformer) -> str:
    """Digest a live model: its modules' configurations, weights, tokenizer, prompts and limits.

    Weights count by their values, whatever the precision they are held in.
    """
    digest = hashlib.sha256(b"skembed live 2")
    _update(digest, *_live_configuration(sentence_transformer), _tokenizer_content(sentence_transformer))
    _update(digest, *_routes_content(sentence_transformer))
    for name, tensor in sorted(sentence_transformer.state_dict().items()):
        _update(digest, name, str(tuple(tensor.shape)))
        tensor = _offloaded(sentence_transformer, name) if tensor.is_meta else tensor
        digest.update(_bytes_of(tensor.float() if tensor.is_floating_point() else tensor))
    return digest.hexdigest()


def _offloaded(model: SentenceTransformer, name: str) -> torch.Tensor:
    """Fetch a weight that accelerate keeps in memory or on disk until it is needed, as ``device_map`` says."""
    place, _, own_name = name.rpartition(".")
    hook: Any = getattr(model.get_submodule(place), "_hf_hook", None)
    hooks = [hook, *getattr(hook, "hooks", ())]
    weights = next(weights for one in hooks if (weights := getattr(one, "weights_map", None)) is not None)
    fetched: torch.Tensor = weights[own_name]
    return fetched


def stamp_live(model: SentenceTransformer) -> Hashable:
    """Say cheaply whether a live model changed since it was fingerprinted.

    Storage and version counter of each tensor catch training and loading. Writes through ``.data`` bypass the
    counter: they are caught by a few values of each tensor, so not if they touch only some others.
    """
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_meta]
    places = tuple((tensor.data_ptr(), _version(tensor)) for tensor in tensors)
    return places, _samples(tensors), _tokenizer_outline(model), *_live_configuration(model)


def _live_configuration(model: SentenceTransformer) -> list[str]:
    """Describe everything but weights and vocabulary that shapes a live model's vectors."""
    from sentence_transformers.base.modules import Module

    parts = [repr((model.prompts, model.default_prompt_name, model.truncate_dim, model.max_seq_length))]
    for module in model.modules():
        parts += [type(module).__name__, module.extra_repr()]
        if isinstance(module, Module):
            parts.append(_canonical(module.get_config_dict()))
        if not type(module).__module__.startswith(_LIBRARIES):
            parts.append(_own_state(module))
        parts += _set_on(module)
    kind = type(getattr(model[0], "tokenizer", None))
    if not f"{kind.__module__}.".startswith((*_LIBRARIES, "tokenizers.", "builtins.")):
        parts.append(_own_code(kind))
    if model.transformers_model is not None:
        parts.append(_canonical(model.transformers_model.config.to_dict()))
    return parts


def _set_on(module: torch.nn.Module) -> list[str]:
    """Name hooks and methods that were set on a module: what they do cannot be told, so it is shared with nobody."""
    places = vars(module)
    if not places["_forward_hooks"] and not places["_forward_pre_hooks"] and _METHODS.isdisjoint(places):
        return []
    hooks = {**places["_forward_hooks"], **places["_forward_pre_hooks"]}  # by numbers that are given once
    of_transformers = "transformers.utils.output_capturing"  # which only reads
    said = [str(key) for key, hook in hooks.items() if getattr(hook, "__module__", "") != of_transformers]
    said += [_unique_token(places[name]) for name in sorted(_METHODS.intersection(places))]
    return [_unique_token(module), *said] if said else []


def _own_state(module: torch.nn.Module) -> str:
    """Digest what a class from elsewhere does and keeps beside its weights; unique if that cannot be told."""
    import torch

    known = vars(torch.nn.Module())
    attributes = {name: value for name, value in vars(module).items() if name not in known}
    try:
        content = inspect.getsource(type(module)).encode() + pickle.dumps(sorted(attributes.items()))
    except Exception:  # source or attributes are out of reach, which may show in any way: share with nobody
        content = _unique_token(module).encode()
    return hashlib.sha256(content).hexdigest()


def _own_code(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except Exception:  # it is out of reach
        return _unique_token(kind)


def _unique_token(of: Any) -> str:
    return _tokens.setdefault(of, uuid.uuid4().hex)


_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def _tokenizer_content(model: Any) -> str:
    tokenizer = getattr(model[0], "tokenizer", None)
    core: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(core, "to_str"):
        return _canonical(json.loads(core.to_str())) + repr(_tokenizer_outline(model)[1:])
    if hasattr(core, "get_vocab"):
        return _canonical({"vocab": core.get_vocab(), "settings": getattr(core, "init_kwargs", None)})
    return type(core).__name__


def _routes_content(model: SentenceTransformer) -> list[str]:
    """Describe the tokenizers and networks of a Router's routes, of which a model shows one alone as its own."""
    from sentence_transformers.base.modules import Router

    routers = [module for module in model.modules() if isinstance(module, Router)]
    parts = []
    for module in (part for router in routers for modules in router.sub_modules.values() for part in modules.modules()):
        if getattr(module, "tokenizer", None) is not None:
            parts.append(_tokenizer_content([module]))
        config: Any = getattr(module, "config", None)
        if hasattr(config, "to_dict"):
            parts.append(_canonical(config.to_dict()))
    return parts


def _tokenizer_outline(model: Any) -> tuple[Any, ...]:
    """Name a tokenizer's parts that may be exchanged, without its vocabulary."""
    tokenizer = getattr(model[0], "tokenizer", None)
    core: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    parts = [str(getattr(core, name, None)) for name in ("normalizer", "pre_tokenizer", "post_processor")]
    settings = [getattr(tokenizer, name, None) for name in ("truncation_side", "split_special_tokens")]
    n_tokens = core.get_vocab_size() if hasattr(core, "get_vocab_size") else 0
    return id(core), n_tokens, *parts, *settings


def _bytes_of(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)  # inference tensors cannot be written to in place


def _samples(tensors: list[torch.Tensor]) -> bytes:
    """Take a few values of each tensor, with one copy from each device."""
    import torch

    flat = [tensor.reshape(-1)[:: max(1, tensor.numel() // 16)].contiguous().view(torch.uint8) for tensor in tensors]
    devices = dict.fromkeys(some.device for some in flat)  # more than one where ``device_map`` spread a model
    return b"".join(_bytes_of(torch.cat([some for some in flat if some.device == device])) for device in devices)
