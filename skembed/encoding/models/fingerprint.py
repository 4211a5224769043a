"""Fingerprints: one digest of the weights, tokenizer and configuration of a model.

There are two schemes, for folders and for live objects. Their digests never agree, which only costs encoding a text
twice. Each has a stamp besides, a cheap sign that nothing has changed since. Imports the files of models and private
interfaces; torch only for live objects, whose owner has imported it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle  # only to digest what it writes; nothing is ever loaded
import uuid
import weakref
from collections.abc import Hashable
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any

from skembed.compat import forward_hooks, offloaded_weight, tensor_version
from skembed.encoding.models.files import ModelFiles, Stamp, find_model_files

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_LIBRARIES = ("sentence_transformers.", "transformers.", "torch.")  # their configurations are complete
# Entries of those configurations that name versions and working state, and do not affect vectors.
_NOT_IN_FINGERPRINT = frozenset(
    {"__version__", "version", "transformers_version", "_name_or_path", "name_or_path", "architectures", "auto_map",
     "tokenizer_class", "processor_class", "torch_dtype", "dtype", "padding", "truncation", "use_cache",
     "similarity_fn_name"}
)  # fmt: skip
_METHODS = frozenset({"forward", "preprocess", "tokenize", "encode"})  # that users set on a live module
_ATTEMPTS = 3  # at reading a folder that is being written
_FRESH_NS = 2 * 10**9  # a file that changed this recently may change again within the same tick of the clock


class FolderState:
    """State of a model's folder, to be compared with its later state; it is read without importing torch.

    Parameters
    ----------
    folder : path
    trust_remote_code : bool, default=False
        Whether code in the folder runs, and therefore counts.

    Attributes
    ----------
    fingerprint : str
        64 hexadecimal digits: a digest of all that loading reads and that shapes vectors. Configurations count by
        content, without versions: a model that another version of a library saves again keeps its fingerprint.
    is_complete : bool
        Whether the folder alone determines the vectors; if not, only the loaded model has a meaningful fingerprint.

    Raises
    ------
    OSError
        If a file cannot be read, or the folder keeps changing.
    ValueError
        If a configuration is not valid JSON.
    """

    def __init__(self, folder: str | os.PathLike[str], *, trust_remote_code: bool = False) -> None:
        self._folder, self._trusts = folder, trust_remote_code
        self._digests: dict[tuple[Path, Stamp], str] = {}
        self._files, self.fingerprint = self._read_folder()
        self.is_complete = self._files.is_complete
        self._is_fresh = any(max(stamp[1:], default=0) > time_ns() - _FRESH_NS for stamp in self._files.stamps.values())

    def _read_folder(self) -> tuple[ModelFiles, str]:
        for _ in range(_ATTEMPTS):
            files = find_model_files(self._folder, trust_remote_code=self._trusts)
            fingerprint = self._digest(files)
            if files.are_unchanged():
                return files, fingerprint
        raise OSError(f"{self._folder} changes while it is read")

    def _digest(self, files: ModelFiles) -> str:
        digest = hashlib.sha256(b"skembed folder 2")
        for label, content in files.configurations:
            _update(digest, "said", label, content)
        for label, path in files.binaries:
            key = path, files.stamps[path]
            if key not in self._digests:
                self._digests[key] = sha256_file(path)
            _update(digest, "read", label, self._digests[key])
        return digest.hexdigest()

    def is_current(self) -> bool:
        """Return whether the fingerprint is still the same; cheap while no file changes."""
        return self._files.are_unchanged() or self._reads_the_same()

    def verify(self) -> bool:
        """Return whether a model that was just loaded has this fingerprint, even if files changed within a tick."""
        if not self._is_fresh:
            return self.is_current()
        self._digests = {}
        return self._reads_the_same()

    def _reads_the_same(self) -> bool:
        try:
            files, fingerprint = self._read_folder()
        except Exception:  # it is gone, damaged in some way, or being replaced right now
            return False
        if fingerprint == self.fingerprint:  # only files changed that do not count
            self._files = files
        return fingerprint == self.fingerprint


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(content: Any) -> str:
    """Return a configuration as canonical JSON, without the entries that do not affect vectors."""
    if isinstance(content, dict):
        content = {key: _with_written_keys(value) for key, value in content.items() if key not in _NOT_IN_FINGERPRINT}
    return json.dumps(content, sort_keys=True, default=repr)


def _with_written_keys(content: Any) -> Any:
    """Replace keys that JSON cannot hold: those of a Router's mappings are tuples."""
    if not isinstance(content, dict):
        return content
    return {repr(key) if isinstance(key, tuple) else key: value for key, value in content.items()}


def _update(digest: Any, *parts: str) -> None:
    for part in parts:  # each with its length, so that different lists of parts differ
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(encoded)}:".encode() + encoded)


def fingerprint_live(sentence_transformer: SentenceTransformer) -> str:
    """Compute the fingerprint of a live model from its configurations, weights, tokenizer, prompts and limits.

    Weights count by their values, whatever precision they are stored in.
    """
    digest = hashlib.sha256(b"skembed live 2")
    tokenizer = getattr(sentence_transformer[0], "tokenizer", None)
    _update(digest, *_live_configuration(sentence_transformer), _tokenizer_content(tokenizer))
    _update(digest, *_routes_content(sentence_transformer))
    for name, tensor in sorted(sentence_transformer.state_dict().items()):
        _update(digest, name, str(tuple(tensor.shape)))
        tensor = offloaded_weight(sentence_transformer, name) if tensor.is_meta else tensor
        digest.update(_bytes_of(tensor.float() if tensor.is_floating_point() else tensor))
    return digest.hexdigest()


def stamp_live(model: SentenceTransformer) -> Hashable:
    """Return a cheap stamp of a live model, which differs once the model has changed.

    The storage and version counter of each tensor reveal training and loading. Writes through ``.data`` bypass the
    counter; a few values of each tensor reveal them, unless only other values change.
    """
    tokenizer = getattr(model[0], "tokenizer", None)
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_meta]
    storages = tuple((tensor.data_ptr(), tensor_version(tensor)) for tensor in tensors)
    return storages, _samples(tensors), _tokenizer_outline(tokenizer), *_live_configuration(model)


def _live_configuration(model: SentenceTransformer) -> list[str]:
    """Return everything but weights and vocabulary that shapes a live model's vectors."""
    from sentence_transformers.base.modules import Module

    parts = [repr((model.prompts, model.default_prompt_name, model.truncate_dim, model.max_seq_length))]
    for module in model.modules():
        parts += [type(module).__name__, module.extra_repr()]
        if isinstance(module, Module):
            parts.append(_canonical(module.get_config_dict()))
        if not type(module).__module__.startswith(_LIBRARIES):
            parts.append(_own_state(module))
        parts += _custom_behaviour(module)
    kind = type(getattr(model[0], "tokenizer", None))
    if not f"{kind.__module__}.".startswith((*_LIBRARIES, "tokenizers.", "builtins.")):
        parts.append(_own_code(kind))
    if model.transformers_model is not None:
        parts.append(_canonical(model.transformers_model.config.to_dict()))
    return parts


def _custom_behaviour(module: torch.nn.Module) -> list[str]:
    """Identify hooks and methods that were set on a module; they may do anything, so no two modules are alike."""
    attributes = vars(module)
    parts = [str(number) for number in forward_hooks(module)]  # torch never uses a number twice
    parts += [_unique_token(attributes[name]) for name in sorted(_METHODS.intersection(attributes))]
    return [_unique_token(module), *parts] if parts else []


def _own_state(module: torch.nn.Module) -> str:
    """Digest the code and the attributes of a module of another library; unique if they cannot be read."""
    import torch

    known = vars(torch.nn.Module())
    attributes = {name: value for name, value in vars(module).items() if name not in known}
    try:
        content = inspect.getsource(type(module)).encode() + pickle.dumps(sorted(attributes.items()))
    except Exception:  # source or attributes cannot be read, for whatever reason
        content = _unique_token(module).encode()
    return hashlib.sha256(content).hexdigest()


def _own_code(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except Exception:  # it cannot be read, for whatever reason
        return _unique_token(kind)


def _unique_token(thing: Any) -> str:
    return _tokens.setdefault(thing, uuid.uuid4().hex)


_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def _tokenizer_content(tokenizer: Any) -> str:
    core: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(core, "to_str"):
        return _canonical(json.loads(core.to_str())) + repr(_tokenizer_outline(tokenizer)[1:])
    if hasattr(core, "get_vocab"):
        return _canonical({"vocab": core.get_vocab(), "settings": getattr(core, "init_kwargs", None)})
    return type(core).__name__


def _routes_content(model: SentenceTransformer) -> list[str]:
    """Return the tokenizers and configurations of a Router's routes; a model shows only one of them as its own."""
    from sentence_transformers.base.modules import Router

    routers = [module for module in model.modules() if isinstance(module, Router)]
    parts = []
    for module in (part for router in routers for modules in router.sub_modules.values() for part in modules.modules()):
        if (tokenizer := getattr(module, "tokenizer", None)) is not None:
            parts.append(_tokenizer_content(tokenizer))
        config: Any = getattr(module, "config", None)
        if hasattr(config, "to_dict"):
            parts.append(_canonical(config.to_dict()))
    return parts


def _tokenizer_outline(tokenizer: Any) -> tuple[Any, ...]:
    """Return the parts of a tokenizer that users replace, without its vocabulary."""
    core: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    parts = [str(getattr(core, name, None)) for name in ("normalizer", "pre_tokenizer", "post_processor")]
    settings = [getattr(tokenizer, name, None) for name in ("truncation_side", "split_special_tokens")]
    n_tokens = core.get_vocab_size() if hasattr(core, "get_vocab_size") else 0
    return id(core), n_tokens, *parts, *settings


def _bytes_of(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _samples(tensors: list[torch.Tensor]) -> bytes:
    """Return a few values of each tensor, with one copy from each device."""
    import torch

    flat = [tensor.reshape(-1)[:: max(1, tensor.numel() // 16)].contiguous().view(torch.uint8) for tensor in tensors]
    devices = dict.fromkeys(values.device for values in flat)  # several if ``device_map`` has spread the model
    return b"".join(_bytes_of(torch.cat([values for values in flat if values.device == device])) for device in devices)
