"""How many threads torch uses for a small batch. Imports torch.

torch's threads wait for each other in a busy loop after each of some hundred steps of a batch. While other processes
keep the cores busy, each wait lasts until the system schedules the last thread: a text that takes 10 ms on one thread
took half a second on two. So a batch of a few texts is computed on one thread while the cores are busy. On idle cores
several threads are a quarter faster.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import nn

_MOST_ON_ONE_THREAD = 5e8  # multiplications: some ten milliseconds
_SPIN_SECONDS = 0.01  # about as long as OpenMP's threads look for more work before they sleep

_several_ended_at = -_SPIN_SECONDS  # when several threads last computed, by time.monotonic


def multiplications_per_token(network: nn.Module) -> int:
    """Count the weights that each token is multiplied with, that is all but tables of vectors."""
    layers = (module for module in network.modules() if not isinstance(module, nn.Embedding))
    return sum(weight.numel() for layer in layers for weight in layer.parameters(recurse=False))


@contextmanager
def suitable_threads(n_multiplications: float) -> Iterator[None]:
    """Limit torch to one thread for little work on busy cores, for calls from this thread only.

    ``torch.set_num_threads`` would also limit threads that start meanwhile, for as long as they live.
    """
    n_threads = torch.get_num_threads()
    is_small = can_limit_threads() and n_threads > 1 and n_multiplications <= _MOST_ON_ONE_THREAD
    if not (is_small and _are_cores_busy(n_threads)):
        try:
            yield
        finally:
            global _several_ended_at
            _several_ended_at = time.monotonic()
        return
    with one_thread():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, for calls from this thread only, where that is possible."""
    library, n_threads, of_mkl = _library(), torch.get_num_threads(), None
    if library is None:
        yield
        return
    try:  # around all of it, because an interrupt may come at any line
        of_mkl = library.MKL_Set_Num_Threads_Local(1)
        library.omp_set_num_threads(1)
        yield
    finally:
        library.MKL_Set_Num_Threads_Local(of_mkl or 0)  # 0: the same as other threads
        library.omp_set_num_threads(n_threads)


def can_limit_threads() -> bool:
    """Return whether ``one_thread`` has an effect."""
    return _library() is not None


def _are_cores_busy(n_threads: int) -> bool:
    """Return whether so many other threads want to run now that ours would wait for a core."""
    is_spinning = time.monotonic() - _several_ended_at < _SPIN_SECONDS
    n_others = _count_runnable() - (n_threads if is_spinning else 1)
    return n_others + n_threads > (os.cpu_count() or 1)


def _count_runnable() -> int:
    """Count the machine's threads that run or want to, this one included; return 0 if the system does not tell."""
    try:
        # The fourth field of man 5 proc_loadavg: threads that are runnable now, "/", all threads.
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 0


@cache
def _library() -> ctypes.CDLL | None:
    """Open torch's own library, if it uses the threads of OpenMP and MKL, as on Linux on Intel and AMD."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    except OSError:
        return None
    is_known = hasattr(library, "omp_set_num_threads") and hasattr(library, "MKL_Set_Num_Threads_Local")
    return library if is_known else None
