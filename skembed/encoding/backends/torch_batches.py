"""Batches on one device: halved when memory runs out, and copied back behind the device. Imports torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# On another device than the processor, that one goes on while the device computes. From CUDA results come back so many
# batches later; from others, the processor waits for so many batches at once.
_BATCHES_IN_FLIGHT = 4
_BATCHES_PER_COPY = 16


Rows = NDArray[np.intp]
Result = TypeVar("Result")


def run_on_device(
    device: torch.device, run: Callable[[Rows], Tensor], batches: Iterator[Rows], size_of: Callable[[Rows], int]
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Run batches on a device and bring the vectors back; see :func:`run_batches`."""
    done = run_batches(run, batches, size_of)
    if device.type == "cuda":
        yield from copied_behind(done, start_copy)
        return
    n_together = 1 if device.type == "cpu" else _BATCHES_PER_COPY
    while some := list(islice(done, n_together)):
        yield np.concatenate([rows for rows, _ in some]), torch.cat([vectors for _, vectors in some]).cpu().numpy()


def run_batches(
    run: Callable[[Rows], Result],
    batches: Iterator[Rows],
    size_of: Callable[[Rows], int],
) -> Iterator[tuple[Rows, Result]]:
    """Run all batches; when memory runs out, go on with batches of half the size that did not fit.

    A batch is drawn when it is its turn: others may draw from the same iterator.

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
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU and MPS raise plain ones
            if not is_out_of_memory(error):
                raise
            ran_out = str(error)
        else:
            yield rows, result
            continue
        # Outside the except clause, whose traceback would keep the failed batch's memory alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            raise MemoryError(
                f"a single text of {size_of(rows)} tokens does not fit into the device's memory; lower "
                f"max_seq_length, or choose dtype='float16' or another device. ({ran_out})"
            )
        too_large = size_of(rows)
        waiting.appendleft(rows)


def copied_behind(
    done: Iterator[tuple[Rows, Tensor]], start_copy: Callable[[Tensor], Callable[[], NDArray[np.float32]]]
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Bring results back a few batches later, so that the device need not wait while they are taken."""
    in_flight: deque[tuple[Rows, Callable[[], NDArray[np.float32]]]] = deque()
    for rows, vectors in done:
        in_flight.append((rows, start_copy(vectors)))
        if len(in_flight) > _BATCHES_IN_FLIGHT:
            rows, wait = in_flight.popleft()
            yield rows, wait()
    for rows, wait in in_flight:
        yield rows, wait()


def start_copy(vectors: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Start a copy from CUDA into pinned memory, which torch keeps for the next time; return what waits for its end."""
    try:
        landing = torch.empty(vectors.shape, dtype=vectors.dtype, device="cpu", pin_memory=True)
    except RuntimeError:  # there is none of it to be had
        landing = vectors.cpu()
        return landing.numpy
    landing.copy_(vectors, non_blocking=True)
    has_landed = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # else waiting keeps a core busy
    has_landed.record(torch.cuda.current_stream(vectors.device))

    def wait() -> NDArray[np.float32]:
        has_landed.synchronize()
        landed: NDArray[np.float32] = landing.numpy()
        return landed

    return wait


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell that memory ran out, on whatever device, from another error."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error)
        or "can't allocate memory" in str(error)
        or "ALLOC_FAILED" in str(error)
    )
