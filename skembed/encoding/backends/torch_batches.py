"""Batches on one or more devices: halved when memory runs out, copied back while the device computes. Imports torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from skembed.compat import is_out_of_memory
from skembed.encoding.backends.pooling import Rows, Vectors
from skembed.encoding.threads import LockedIterator, iterate_concurrently

# A device other than the processor computes while the processor prepares the next batches. From CUDA, results are read
# this many batches later; from other devices, this many batches are read together.
_BATCHES_IN_FLIGHT = 4
_BATCHES_PER_COPY = 16

_RESULTS_AHEAD = 16  # of several devices that may wait to be read, before the devices wait

Result = TypeVar("Result")


def run_on_devices(
    runs: Sequence[tuple[torch.device, Callable[[Rows], Tensor]]],
    batches: Iterator[Rows],
    size_of: Callable[[Rows], int],
) -> Iterator[tuple[Rows, Vectors]]:
    """Run batches on one or more devices: whichever is free takes the next batch.

    Each of several devices has a thread. That is enough where a batch takes a device longer than it takes Python to
    launch it, some milliseconds for models of a few layers.

    Parameters
    ----------
    runs : sequence of (device, callable)
        For each device, what computes the vectors of some rows on it.
    batches : iterator of ndarray of int
    size_of : callable
        Returns the size of a batch, to compare with batches that did not fit into memory.

    Yields
    ------
    rows : ndarray of int
    vectors : ndarray of float32

    Raises
    ------
    MemoryError
        If a single row does not fit into memory.
    """
    shared = batches if len(runs) == 1 else LockedIterator(batches)
    computing = [_run_on_device(device, run, shared, size_of) for device, run in runs]
    yield from computing[0] if len(runs) == 1 else iterate_concurrently(computing, _RESULTS_AHEAD)


def _run_on_device(
    device: torch.device, run: Callable[[Rows], Tensor], batches: Iterator[Rows], size_of: Callable[[Rows], int]
) -> Iterator[tuple[Rows, Vectors]]:
    done = run_batches(run, batches, size_of)
    if device.type == "cuda":
        yield from read_behind(done, start_copy)
        return
    n_together = 1 if device.type == "cpu" else _BATCHES_PER_COPY
    while some := list(islice(done, n_together)):
        yield np.concatenate([rows for rows, _ in some]), torch.cat([vectors for _, vectors in some]).cpu().numpy()


def run_batches(
    run: Callable[[Rows], Result], batches: Iterator[Rows], size_of: Callable[[Rows], int]
) -> Iterator[tuple[Rows, Result]]:
    """Run all batches; when memory runs out, continue with batches of half the size that did not fit.

    Each batch is drawn only when its turn comes, because other devices may draw from the same iterator.

    Raises
    ------
    MemoryError
        If a single row does not fit.
    """
    waiting: deque[Rows] = deque()  # halves
    too_large = float("inf")
    while (rows := waiting.popleft() if waiting else next(batches, None)) is not None:
        if len(rows) > 1 and size_of(rows) >= too_large:
            waiting.extendleft(reversed(np.array_split(rows, 2)))
            continue
        try:
            result = run(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            ran_out = str(error)
        else:
            yield rows, result
            continue
        # Outside the except clause, whose traceback would keep the failed batch's memory alive.
        torch.cuda.empty_cache()  # does nothing without CUDA
        if len(rows) == 1:
            raise MemoryError(
                f"a single text of {size_of(rows)} tokens does not fit into the device's memory; lower "
                f"max_seq_length, or choose dtype='float16' or another device. ({ran_out})"
            )
        too_large = size_of(rows)
        waiting.appendleft(rows)


def read_behind(
    done: Iterator[tuple[Rows, Tensor]], start_copy: Callable[[Tensor], Callable[[], Vectors]]
) -> Iterator[tuple[Rows, Vectors]]:
    """Read each result a few batches later, so that the device does not wait for the copy."""
    in_flight: deque[tuple[Rows, Callable[[], Vectors]]] = deque()
    for rows, vectors in done:
        in_flight.append((rows, start_copy(vectors)))
        if len(in_flight) > _BATCHES_IN_FLIGHT:
            rows, wait = in_flight.popleft()
            yield rows, wait()
    for rows, wait in in_flight:
        yield rows, wait()


def start_copy(vectors: Tensor) -> Callable[[], Vectors]:
    """Start a copy from CUDA into pinned memory, which torch reuses; return a function that waits for its end."""
    try:
        copied = torch.empty(vectors.shape, dtype=vectors.dtype, device="cpu", pin_memory=True)
    except RuntimeError:  # no pinned memory is left
        copied = vectors.cpu()
        return copied.numpy
    copied.copy_(vectors, non_blocking=True)
    is_copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # else waiting keeps a core busy
    is_copied.record(torch.cuda.current_stream(vectors.device))

    def wait() -> Vectors:
        is_copied.synchronize()
        return cast("Vectors", copied.numpy())

    return wait
