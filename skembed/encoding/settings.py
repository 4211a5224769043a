"""The user's parameters, checked once and in one place. Imports no model and no heavy library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from skembed.checks import check_choice, check_integer, check_positive, is_same
from skembed.encoding.cache.embedding_cache import EmbeddingCache
from skembed.encoding.texts import MISSING_POLICIES, about_surrogates
from skembed.paths import read_model_name, read_path

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TASKS = ("query", "document")
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

# parameter -> its allowed values; parameters with rules of their own are checked by the functions below
_CHOICES: dict[str, tuple[Any, ...]] = {
    "normalize_embeddings": ("default", True, False),
    "task": (None, *TASKS),
    "long_texts": ("truncate", "mean", "error"),
    "missing": MISSING_POLICIES,
    "backend": ("auto", "torch", "openvino"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "local_files_only": (True, False),
    "trust_remote_code": (True, False),
    "show_progress_bar": ("auto", True, False),
}
_POSITIVE_INTEGERS = {"truncate_dim": None, "max_seq_length": None, "batch_tokens": "auto"}  # or that value
_STRINGS = ("prompt", "prompt_name", "revision")  # or None


@dataclass(frozen=True)
class Settings:
    """What the user asked for; every value is legal.

    The parameters are documented in :class:`skembed.SentenceEmbeddingTransformer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter has an illegal value, or two parameters contradict each other.
    """

    model: str | os.PathLike[str] | SentenceTransformer = "all-MiniLM-L6-v2"
    pooling: str | tuple[str, ...] = "default"
    layers: int | tuple[int, ...] = -1
    normalize_embeddings: Literal["default"] | bool = "default"
    truncate_dim: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    task: Literal["query", "document"] | None = None
    max_seq_length: int | None = None
    long_texts: Literal["truncate", "mean", "error"] = "truncate"
    missing: Literal["error", "empty", "zero", "nan"] = "error"
    device: str | list[str] = "auto"
    backend: Literal["auto", "torch", "openvino"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: int | Literal["auto"] = "auto"
    cache: Literal["memory", "disk"] | str | os.PathLike[str] | EmbeddingCache | None = "memory"
    revision: str | None = None
    local_files_only: bool = False
    trust_remote_code: bool = False
    show_progress_bar: Literal["auto"] | bool = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name, other in _POSITIVE_INTEGERS.items():
            if not is_same(getattr(self, name), other):
                check_positive(name, getattr(self, name))
        for name in _STRINGS:
            if not isinstance(getattr(self, name), (str, type(None))):
                raise TypeError(f"{name} must be a str or None; got {getattr(self, name)!r}.")
        _check_model(self.model)
        _check_cache(self.cache)
        _check_device(self.device)
        _check_prompt(self)
        _ = self.pooling_names, self.layer_numbers  # checked when they are read

    @property
    def pooling_names(self) -> tuple[str, ...] | None:
        """The pooling modes asked for; None means the model's own."""
        names = (self.pooling,) if isinstance(self.pooling, str) else self.pooling
        if not isinstance(names, (tuple, list)) or not names:
            raise TypeError(f"pooling must be a str or a tuple of str; got {self.pooling!r}.")
        for name in names:
            check_choice("pooling", name, POOLINGS if len(names) > 1 else ("default", *POOLINGS))
        return None if tuple(names) == ("default",) else tuple(names)

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The hidden layers to average, as given."""
        layers = self.layers if isinstance(self.layers, (tuple, list)) else (self.layers,)
        if not layers:
            raise ValueError("layers is empty; name at least one hidden layer, e.g. -1 for the last.")
        return tuple(check_integer("layers", layer) for layer in layers)


def check_names(params: Iterable[str], call: str, *own: str) -> None:
    """Raise TypeError for a keyword that is not a parameter of the transformer.

    Parameters
    ----------
    params : iterable of str
        The keywords that were passed on.
    call : str
        What the user called, e.g. "text.search".
    *own : str
        What it takes besides the transformer's parameters.

    Raises
    ------
    TypeError
        The message names the call, the first unknown keyword, and all that the call takes.

    Examples
    --------
    >>> check_names({"pooling": "mean"}, "text.embed", "output")
    """
    known = [field.name for field in fields(Settings)]
    unknown = [name for name in params if name not in known]
    if unknown:
        takes = ", ".join([*own, *known])
        raise TypeError(f"{call}() got an unexpected keyword argument {unknown[0]!r}; it takes {takes}.")


def _check_model(model: Any) -> None:
    if isinstance(model, (str, os.PathLike)):
        if not os.fspath(model):
            raise ValueError("model is an empty str; give a name, a folder or a loaded SentenceTransformer.")
        read_model_name(model)
        return
    library = sys.modules.get("sentence_transformers")  # whoever holds a loaded model has imported it
    if library is None or not isinstance(model, library.SentenceTransformer):
        raise TypeError(f"model must be a name, a folder or a loaded SentenceTransformer; got {type(model).__name__}.")


def _check_cache(cache: Any) -> None:
    if cache is None or isinstance(cache, EmbeddingCache):
        return
    if not isinstance(cache, (str, os.PathLike)) or isinstance(os.fspath(cache), bytes) or not os.fspath(cache):
        raise TypeError(f"cache must be 'memory', 'disk', a folder, an EmbeddingCache or None; got {cache!r}.")
    folder, is_word = read_path(cache, "cache"), isinstance(cache, str) and os.path.basename(cache) == cache
    if is_word and cache not in ("memory", "disk") and not folder.is_dir():  # more likely a typing error than a folder
        raise ValueError(
            f"cache must be 'memory', 'disk', a folder, an EmbeddingCache or None; got {cache!r}, and there is no such "
            f"folder. Write {os.path.join('.', cache)!r} to create it."
        )


def _check_device(device: Any) -> None:
    names = device if isinstance(device, list) else [device]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(
            f"device must be 'auto', a device such as 'cpu', 'cuda:1' or 'mps', or a list of devices; got {device!r}."
        )


def _check_prompt(settings: Settings) -> None:
    try:
        (settings.prompt or "").encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"prompt {about_surrogates(settings.prompt or '')}") from error
    if settings.prompt is not None and settings.prompt_name is not None:
        raise ValueError(
            f"prompt={settings.prompt!r} and prompt_name={settings.prompt_name!r} exclude each other; give one of them."
        )
