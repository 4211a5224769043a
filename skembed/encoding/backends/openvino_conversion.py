"""Conversion of a model for the OpenVINO backend, once per fingerprint. Imports torch, openvino and the rooms below."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from time import time
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from skembed.atomic import UNFINISHED, atomic_folder
from skembed.compat import (
    attention_kind,
    broadcast_masks,
    is_out_of_memory,
    is_write_error,
    trace_for_openvino,
    without_capturing_hooks,
)
from skembed.encoding.backends.openvino_backend import (
    LONG_PROBE_TEXTS,
    PROBE_TEXTS,
    OpenVINOBackend,
    embed_probe,
    fastest_dtype,
    make_backend,
    trials_of,
    usual_key,
    usual_variants,
)
from skembed.encoding.backends.openvino_folder import (
    ABOUT,
    PROBE,
    Conversion,
    checksum,
    conversion_folder,
    read_conversion,
    versions,
)
from skembed.encoding.backends.openvino_trial import MODEL, POST_POOLING, CannotRunError, openvino, sealed, why_no_trial
from skembed.encoding.backends.pooling import Vectors
from skembed.encoding.backends.torch_backend import TorchBackend
from skembed.encoding.forks import library_state
from skembed.encoding.progress import say
from skembed.locks import locked

_LARGEST_DIFFERENCE = 1e-3  # between vectors of the converted model and of the model itself, both in float32

_TOKENS_TO_TRACE = 11  # not a multiple of the blocks that some models read, so that the trace sees their padding

# Some architectures compute differently by length, for example if they attend only to the neighbours of a token.
_TOKENS_TO_COMPARE = (1, 2, 3, 17, 64, 100, 129, 600, 2048)
_LONG_TEXT = "We report a randomised trial of two doses in 412 patients, followed for 28 days. " * 120

_TEMPORARY, _IN_USE = "skembed-openvino-", "in-use"
_NEW_SECONDS = 60.0  # within which the creator of a temporary folder holds its lock
_OUTDATED_SECONDS = 24 * 3600  # after which the creator of something unfinished is dead


class NotConvertibleError(Exception):
    """OpenVINO cannot run a model."""


class _HiddenStates(nn.Module):
    """A transformer as a function from two tensors to all hidden layers."""

    def __init__(self, transformer: nn.Module, n_layers: int) -> None:
        super().__init__()
        self.transformer, self.n_layers = transformer, n_layers

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        output = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
        )
        if len(output.hidden_states) != self.n_layers + 1:
            raise TypeError(f"it gives {len(output.hidden_states)} hidden states for {self.n_layers} layers")
        return (*output.hidden_states[:-1], output.last_hidden_state)


class _PostPooling(nn.Module):
    """The modules after the pooling as a function of one tensor."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.through = nn.ModuleList(modules)

    def forward(self, pooled: Tensor) -> Tensor:
        features = {"sentence_embedding": pooled}
        for module in self.through:
            features = module(features)
        return features["sentence_embedding"]


def make_converted(
    backend: TorchBackend,
    fingerprint: str | None,
    dtype: str,
    model_name: str,
    *,
    trust_remote_code: bool,
    show_progress_bar: Any = False,
) -> OpenVINOBackend:
    """Convert a model for OpenVINO, and keep the conversion for other processes.

    Where somebody watches, a line says that the model is being converted, because this takes several seconds.

    Parameters
    ----------
    backend : TorchBackend
        On the CPU, in float32.
    fingerprint : str or None
        None: the conversion lasts only as long as the backend.
    dtype : {"auto", "float32", "bfloat16"}
        See :func:`find_converted`.
    model_name : str
        The name of the model in messages.
    trust_remote_code : bool
        Whether the model may have code of its own.
    show_progress_bar : bool or "auto", default=False
        Where the line is shown; see :func:`~skembed.encoding.progress.progress`.

    Raises
    ------
    NotConvertibleError
        If OpenVINO cannot run it or computes other vectors, if it cannot be tried, or if nothing can be written.
    """
    of_company = None if backend.company == "any" else "its vectors depend on the padding of their batch"
    why_not = backend.unsupported_reason or of_company or why_no_trial()  # before the conversion, which takes long
    if why_not is not None:
        raise NotConvertibleError(why_not)
    folder = None if fingerprint is None else conversion_folder(fingerprint, trust_remote_code)
    if folder is not None:
        with suppress(OSError):  # then it cannot be kept
            return _find_or_convert(backend, folder, dtype, model_name, show_progress_bar)
    say(show_progress_bar, f"skembed: converting {model_name} for OpenVINO.")
    return _make_temporary(backend, dtype, model_name)


def _make_temporary(backend: TorchBackend, dtype: str, model_name: str) -> OpenVINOBackend:
    """Convert a model into a temporary folder, which is removed with the backend."""
    try:
        _sweep_temporary()
        with ExitStack() as undo:
            parent = Path(mkdtemp(prefix=_TEMPORARY))
            lock = FileLock(parent / _IN_USE)
            undo.callback(_remove, parent, lock, os.getpid())
            lock.acquire()
            convert(backend, parent / "model")
            made = _read_back(parent / "model", dtype, model_name)
            weakref.finalize(made, _remove, parent, lock, os.getpid())
            undo.pop_all()
            return made
    except OSError as error:
        raise NotConvertibleError(f"there is no room for the converted model: {error}") from error


def _sweep_temporary() -> None:
    """Remove temporary folders of this user's killed processes, that is those whose lock is free."""
    own = getattr(os, "getuid", int)()
    for left in Path(gettempdir()).glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            state = left.lstat()
            if state.st_uid == own and stat.S_ISDIR(state.st_mode) and time() - state.st_mtime > _NEW_SECONDS:
                with FileLock(left / _IN_USE, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)


def _find_or_convert(backend: TorchBackend, folder: Path, dtype: str, model_name: str, show: Any) -> OpenVINOBackend:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(f"{folder}.lock", mode=0o600):  # other processes wait instead of converting it, too
        for left in folder.parent.glob(f"{UNFINISHED}-*"):
            is_of_this_model = left.name.startswith(f"{UNFINISHED}-{folder.name}-")  # so no process is writing it
            if is_of_this_model or time() - left.stat().st_mtime > _OUTDATED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        if read_conversion(folder) is None:
            _convert_unless_it_failed(backend, folder, model_name, show)
    return _read_back(folder, dtype, model_name)


def _convert_unless_it_failed(backend: TorchBackend, folder: Path, model_name: str, show: Any) -> None:
    """Convert a model, unless the same libraries failed to do so before.

    Failures are stored in a file, because a repetition takes long. A model that was converted but could not be run may
    run on another processor, or with other threads.
    """
    failed, libraries = Path(f"{folder}.failed"), {**versions(), "skembed": version("skembed")}
    here = usual_key()
    with suppress(OSError, ValueError, TypeError):  # no failure, or a damaged file
        of, where, reason = json.loads(failed.read_text(encoding="utf-8"))
        if of == libraries and where in (None, here):
            raise NotConvertibleError(reason)
    say(show, f"skembed: converting {model_name} for OpenVINO, once; later processes start without it.")
    try:
        convert(backend, folder)
    except NotConvertibleError as error:
        cause = error.__cause__
        if cause.lasts if isinstance(cause, CannotRunError) else not is_out_of_memory(error):
            where = here if isinstance(cause, CannotRunError) else None
            failed.write_text(json.dumps([libraries, where, str(error)]), encoding="utf-8")
        raise


def _read_back(folder: Path, dtype: str, model_name: str) -> OpenVINOBackend:
    try:
        return make_backend(_conversion_in(folder), dtype, model_name)
    except RuntimeError as error:  # of OpenVINO
        raise NotConvertibleError(f"the converted model fails: {error}") from error


def _conversion_in(folder: Path) -> Conversion:
    if (conversion := read_conversion(folder)) is None:
        raise NotConvertibleError("what was converted cannot be read back")
    return conversion


def _remove(folder: Path, lock: FileLock, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child, which may end before its parent
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def convert(backend: TorchBackend, folder: Path) -> None:
    """Convert a model into a folder, which exists afterwards completely or not at all.

    Parameters
    ----------
    backend : TorchBackend
        On the CPU, in float32, with a spec.
    folder : Path
        Its parent must exist.

    Raises
    ------
    NotConvertibleError
        If OpenVINO cannot convert it, or computes other vectors.
    OSError
        If the folder cannot be written.
    """
    with atomic_folder(folder, mode=0o700) as unfinished:  # in place of one of other versions, or damaged
        try:
            _convert_with_any_attention(backend, unfinished)
        except (NotConvertibleError, OSError, MemoryError):
            raise
        except CannotRunError as error:
            raise NotConvertibleError(f"the converted model cannot be run: {error}") from error
        except Exception as error:  # tracing an architecture may raise anything
            if is_write_error(error):
                raise OSError(f"{unfinished} cannot be written") from error
            raise NotConvertibleError(f"{type(error).__name__}: {error}") from error


def _convert_with_any_attention(backend: TorchBackend, folder: Path) -> None:
    """Convert a model with its own kind of attention, which is the fastest, or if that fails with the plainest."""
    try:
        _trace_and_save(backend, folder, attention=None)
        _check_vectors(backend, folder)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        is_temporary = isinstance(error, CannotRunError) and not error.lasts
        if is_temporary or is_out_of_memory(error) or not _has_other_attention(backend.transformer):
            raise
        for file in folder.iterdir():
            file.unlink()
        _trace_and_save(backend, folder, attention="eager")
        _check_vectors(backend, folder)


def _has_other_attention(transformer: Any) -> bool:
    return attention_kind(transformer) != "eager" and hasattr(transformer, "set_attn_implementation")


def _copy_sharing_weights(module: Any, attention: str | None = None) -> Any:
    """Copy a module for tracing, but share its weights; the given one, which may be the user's, stays as it is."""
    weights = [*module.parameters(), *module.buffers()]
    copied: Any = copy.deepcopy(module, {id(tensor): tensor for tensor in weights})
    if attention is not None:
        copied.set_attn_implementation(attention)
    return copied


def _trace_and_save(backend: TorchBackend, folder: Path, attention: str | None) -> None:
    spec = backend.known_spec
    with (
        library_state(), _silence(), broadcast_masks(), backend.inference(),
        without_capturing_hooks(backend.transformer),
    ):  # fmt: skip
        examples = spec.tokenizer.tokenize(["a b c d e f g h i j k", "a b"], _TOKENS_TO_TRACE)
        ids, mask = (torch.from_numpy(some.astype(np.int64)) for some in examples.padded(np.arange(2), spec.pad_id))
        hidden_states = _HiddenStates(_copy_sharing_weights(backend.transformer, attention), spec.n_layers)
        traced = trace_for_openvino(hidden_states, {"input_ids": ids, "attention_mask": mask})
        model = openvino.convert_model(traced)
        openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
        if backend.modules_after:
            dim = backend.post_pooling[0].takes or spec.hidden_dim
            modules_after = _copy_sharing_weights(_PostPooling(backend.modules_after))
            post_pooling = openvino.convert_model(trace_for_openvino(modules_after, torch.ones(2, dim)))
            openvino.save_model(post_pooling, folder / POST_POOLING, compress_to_fp16=False)
    probe = np.vstack([embed_probe(backend, texts) for texts in (PROBE_TEXTS, LONG_PROBE_TEXTS)])
    np.save(folder / PROBE, probe, allow_pickle=False)
    described = {**vars(spec), "tokenizer": spec.tokenizer.to_dict(), "special_ids": sorted(spec.special_ids)}
    about = {
        "versions": versions(),
        "reader": described,
        "defaults": asdict(backend.defaults),
        "tail": [asdict(module) for module in backend.post_pooling],
        "ends_normalized": backend.ends_normalized,
        "checksums": {file.name: checksum(file) for file in sorted(folder.iterdir())},
    }
    (folder / ABOUT).write_bytes(sealed(about))


def _check_vectors(backend: TorchBackend, folder: Path) -> None:
    """Raise if a conversion computes other vectors, for example because tracing saw only one path through the code."""
    conversion = _conversion_in(folder)
    trials_of(conversion, is_private=True).outcomes(usual_variants(conversion, fastest_dtype()))  # in one child
    converted = OpenVINOBackend(conversion, "float32", keep_compiled=False)
    probe = np.load(folder / PROBE, allow_pickle=False)[: len(PROBE_TEXTS)]
    lengths = _lengths_to_compare(backend)
    together = [_LONG_TEXT, *PROBE_TEXTS[:3]]  # with much padding
    batches = [(together, lengths[len(lengths) // 2]), *(([_LONG_TEXT], length) for length in lengths)]
    pairs = [(embed_probe(converted, PROBE_TEXTS), probe)]
    pairs += [(embed_probe(converted, *batch), embed_probe(backend, *batch)) for batch in batches]
    difference = max(_difference(found, expected) for found, expected in pairs)
    if not difference <= _LARGEST_DIFFERENCE:
        raise NotConvertibleError(f"the converted model gives other vectors (they differ by {difference:.2%})")


def _lengths_to_compare(backend: TorchBackend) -> list[int]:
    spec = backend.known_spec
    limits = (backend.defaults.max_seq_length, spec.max_positions, _TOKENS_TO_COMPARE[-1])
    longest = min(limit for limit in limits if limit is not None)
    fewest = min(spec.tokenizer.n_special_tokens + 1, longest)
    return sorted({min(max(length, fewest), longest) for length in _TOKENS_TO_COMPARE})


def _difference(found: Vectors, expected: Vectors) -> float:
    """Compute the largest difference between vectors that should be the same, relative to the vector."""
    norms = np.maximum(np.linalg.norm(expected, axis=1), np.finfo(np.float32).tiny)
    differences = np.linalg.norm(found - expected, axis=1) / norms
    return float(differences.max()) if np.isfinite(differences).all() else np.inf


@contextmanager
def _silence() -> Iterator[None]:
    """Hide warnings about the model's code while it is traced; the vectors are compared afterwards."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
