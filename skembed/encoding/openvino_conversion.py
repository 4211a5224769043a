"""Converting a model for the OpenVINO backend, once a fingerprint. Imports torch, openvino and the rooms below."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from skembed.encoding.openvino_backend import (
    ABOUT,
    FORMAT,
    MODEL,
    PROBE,
    TAIL,
    OpenVINOBackend,
    checksum,
    conversion_folder,
    embed_probe,
    make_backend,
    openvino,
    read_conversion,
)
from skembed.encoding.reader import Reader
from skembed.encoding.torch_backend import TorchBackend

_LARGEST_DIFFERENCE = 1e-3  # of a vector of the converted model to that of the model itself, both in float32


class NotConvertibleError(Exception):
    """A model that OpenVINO cannot run as it is."""


class _HiddenStates(nn.Module):
    """A transformer as a function of two tensors, whose results are all hidden layers."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        output = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
        )
        return (*output.hidden_states[:-1], output.last_hidden_state)


class _Tail(nn.Module):
    """The modules after the pooling as a function of one tensor."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.through = nn.ModuleList(modules)

    def forward(self, pooled: Tensor) -> Tensor:
        features = {"sentence_embedding": pooled}
        for module in self.through:
            features = module(features)
        return features["sentence_embedding"]


def make_converted(backend: TorchBackend, fingerprint: str, dtype: str) -> OpenVINOBackend:
    """Make ready a model for OpenVINO, and keep what was converted for other processes.

    Parameters
    ----------
    backend : TorchBackend
        On the CPU, in float32.
    fingerprint : str
    dtype : {"auto", "float32", "bfloat16"}
        See :func:`find_converted`.

    Raises
    ------
    NotConvertibleError
        If OpenVINO cannot run it, or gives other vectors.
    """
    folder = conversion_folder(fingerprint)
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock"), mode=0o600):  # others who need it wait rather than do it too
            if read_conversion(folder) is None:
                convert(backend, folder)
    except OSError:  # it cannot be kept
        folder = Path(_for_this_process().name) / fingerprint[:32]
        convert(backend, folder)
    conversion = read_conversion(folder)
    if conversion is None:
        raise NotConvertibleError("what was converted cannot be read back")
    return make_backend(conversion, dtype)


@cache
def _for_this_process() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="skembed-openvino-")


def convert(backend: TorchBackend, folder: Path) -> None:
    """Convert a model into a folder, which is there afterwards as a whole or not at all.

    Parameters
    ----------
    backend : TorchBackend
        On the CPU, in float32.
    folder : Path

    Raises
    ------
    NotConvertibleError
        If OpenVINO cannot convert it, or gives other vectors.
    OSError
        If the folder cannot be written.
    """
    if backend.reader is None or backend.transformer is None:
        raise NotConvertibleError(str(backend.not_standard))
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(dir=folder.parent, prefix=".unfinished-"))
    try:
        try:
            _write(backend, backend.reader, backend.transformer, unfinished)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # whatever an architecture makes of being traced
            raise NotConvertibleError(f"{type(error).__name__}: {error}") from error
        _compare(unfinished)
        shutil.rmtree(folder, ignore_errors=True)  # one of another format, or damaged
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(backend: TorchBackend, reader: Reader, transformer: nn.Module, folder: Path) -> None:
    with _silence(), backend.inference():
        examples = reader.tokenizer.tokenize(["a b c d e", "a b"], None).padded(np.arange(2), reader.pad_id)
        ids, mask = (torch.from_numpy(some.astype(np.int64)) for some in examples)
        model = openvino.convert_model(
            _HiddenStates(transformer), example_input={"input_ids": ids, "attention_mask": mask}
        )
        openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
        if backend.modules_after:
            dim = backend.tail[0].takes or reader.hidden_dim
            tail = openvino.convert_model(_Tail(backend.modules_after), example_input=torch.ones(2, dim))
            openvino.save_model(tail, folder / TAIL, compress_to_fp16=False)
    np.save(folder / PROBE, embed_probe(backend), allow_pickle=False)
    described = {**vars(reader), "tokenizer": reader.tokenizer.to_dict(), "special_ids": sorted(reader.special_ids)}
    about = {
        "format": FORMAT,
        "openvino": openvino.get_version(),
        "reader": described,
        "defaults": asdict(backend.defaults),
        "tail": [asdict(module) for module in backend.tail],
        "ends_normalized": backend.ends_normalized,
        "checksums": {file.name: checksum(file) for file in sorted(folder.iterdir())},
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _compare(folder: Path) -> None:
    """Refuse a conversion that gives other vectors, e.g. since tracing saw one way through the model's code only."""
    conversion = read_conversion(folder)
    if conversion is None:
        raise NotConvertibleError("what was converted cannot be read back")
    try:
        found = embed_probe(OpenVINOBackend(conversion, "float32", keep_compiled=False))
    except RuntimeError as error:
        raise NotConvertibleError(f"the converted model fails: {error}") from error
    expected = np.load(folder / PROBE, allow_pickle=False)
    difference = float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise NotConvertibleError(f"the converted model gives other vectors (they differ by {difference:.2%})")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from the user what tracing says of the model's code; whether it went well, the vectors tell."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
