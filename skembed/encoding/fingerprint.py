"""Fingerprints: which weights, tokenizer and configuration a model has, as one digest.

Two schemes, for a folder and for a live object. They never agree with each other, which costs only a second
encoding. Beside each a stamp: a cheap sign that nothing changed since the digest was taken. Imports the standard
library; torch only for live objects, which bring it along.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle  # written only, to be digested; nothing is ever loaded
import re
import uuid
import weakref
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# The files of a model folder that shape its vectors. Cards, checkpoints of other frameworks and logs do not.
_WEIGHTS = (re.compile(r".+\.safetensors$"), re.compile(r"pytorch_model.*\.bin$"))  # the first kind that is there
_CONFIGURATION = re.compile(
    r"((sentence_.+_|.*tokenizer_|.*processor_|router_|adapter_)?config|config_sentence_transformers|modules)\.json$"
    r"|(tokenizer|special_tokens_map|added_tokens|vocab)\.json$|(vocab|merges)\.txt$|.+\.(model|jinja|py)$"
)
_OTHER_BACKENDS = ("onnx", "openvino")
_LIBRARIES = ("sentence_transformers.", "transformers.", "torch.")  # their configurations say all there is to say
# Entries of those files that name versions, class paths and working state, and leave the vectors as they are.
_NOT_IN_FINGERPRINT = frozenset(
    {"__version__", "version", "transformers_version", "_name_or_path", "name_or_path", "architectures", "auto_map",
     "tokenizer_class", "processor_class", "torch_dtype", "dtype", "padding", "truncation", "use_cache",
     "similarity_fn_name"}
)  # fmt: skip


def fingerprint_folder(folder: str | os.PathLike[str]) -> str:
    """Digest the files of a model folder that shape its vectors, without loading torch.

    Parameters
    ----------
    folder : path

    Returns
    -------
    str
        64 hexadecimal digits. JSON files count by their content, less versions and class paths: a model saved
        again by another version of a library keeps its fingerprint.
    """
    digest = hashlib.sha256(b"skembed folder 1")
    for path in _defining_files(Path(folder)):
        name = path.relative_to(folder).as_posix()
        _update(digest, name, _json_content(path) if path.suffix == ".json" else sha256_file(path))
    return digest.hexdigest()


def _defining_files(folder: Path) -> list[Path]:
    """List the files that shape the vectors, sorted; pytorch_model.bin only where there are no safetensors."""
    files: list[Path] = []
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if name not in _OTHER_BACKENDS and not name.startswith(".")]
        weights = next((found for kind in _WEIGHTS if (found := [name for name in names if kind.match(name)])), [])
        files += [Path(here, name) for name in names if name in weights or _CONFIGURATION.match(name)]
    return sorted(files)


def stamp_folder(folder: str) -> Hashable:
    """Say cheaply whether a folder changed: names, sizes and times of the files that define the model."""
    stats = [(str(path), path.stat()) for path in _defining_files(Path(folder))]
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def sha256_file(path: Path) -> str:
    """Digest the bytes of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_content(path: Path) -> str:
    content = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "modules.json":
        content = [{**module, "type": module["type"].rpartition(".")[2]} for module in content]
    return _canonical(content)


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
    digest = hashlib.sha256(b"skembed live 1")
    _update(digest, *_live_configuration(sentence_transformer), _tokenizer_content(sentence_transformer))
    _update(digest, *_routes_content(sentence_transformer))
    for name, tensor in sorted(sentence_transformer.state_dict().items()):
        _update(digest, name, str(tuple(tensor.shape)))
        digest.update(_bytes_of(tensor.float() if tensor.is_floating_point() else tensor))
    return digest.hexdigest()


def stamp_live(model: SentenceTransformer) -> Hashable:
    """Say cheaply whether a live model changed since it was fingerprinted.

    Storage and version counter of each tensor catch training and loading. Writes through ``.data`` bypass the
    counter: they are caught by a few values of each tensor, so not if they touch only some others.
    """
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
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
    if model.transformers_model is not None:
        parts.append(_canonical(model.transformers_model.config.to_dict()))
    return parts


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


def _unique_token(module: torch.nn.Module) -> str:
    return _tokens.setdefault(module, uuid.uuid4().hex)


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
    """Take a few values of each tensor, with one copy from the device."""
    import torch

    flat = [tensor.reshape(-1)[:: max(1, tensor.numel() // 16)].contiguous().view(torch.uint8) for tensor in tensors]
    return _bytes_of(torch.cat(flat)) if flat else b""
