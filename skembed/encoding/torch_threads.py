"""How many threads a small batch is worth to torch. Imports torch.

torch's threads wait for each other in a loop after each of a batch's some hundred steps. Where other processes keep the
cores busy, each of these waits lasts until the system lets the last thread go on: a text that takes 10 ms on one thread
took half a second on two. Batches of a few texts gain little from several threads, so one computes them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import nn

_WORTH_ONE_THREAD = 5e8  # multiplications: some ten milliseconds


def multiplications_a_token(network: nn.Module) -> int:
    """Count the weights that each token is multiplied with; tables of vectors are looked up."""
    layers = (module for module in network.modules() if not isinstance(module, nn.Embedding))
    return sum(weight.numel() for layer in layers for weight in layer.parameters(recurse=False))


@contextmanager
def as_many_as_worth(n_multiplications: float) -> Iterator[None]:
    """Let torch use one thread in this one for what is little work; other threads go on as they are.

    ``torch.set_num_threads`` would also set what threads that start meanwhile get, for as long as they live.
    """
    library = _library()
    n_threads = torch.get_num_threads()
    if library is None or n_multiplications > _WORTH_ONE_THREAD or n_threads == 1:
        yield
        return
    of_mkl = None
    try:  # first: an interrupt may come at any line
        of_mkl = library.MKL_Set_Num_Threads_Local(1)
        library.omp_set_num_threads(1)
        yield
    finally:
        library.MKL_Set_Num_Threads_Local(of_mkl or 0)  # 0: as many as for other threads
        library.omp_set_num_threads(n_threads)


@cache
def _library() -> ctypes.CDLL | None:
    """Open torch's own library, if its threads are those of OpenMP and MKL, as on Linux on Intel and AMD."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    except OSError:
        return None
    is_known = hasattr(library, "omp_set_num_threads") and hasattr(library, "MKL_Set_Num_Threads_Local")
    return library if is_known else None
