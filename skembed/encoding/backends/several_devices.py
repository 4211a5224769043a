"""A model on several devices at once: whichever is free takes the next batch. Imports the torch backend and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from skembed.encoding.backends.torch_backend import Run, TorchBackend
from skembed.encoding.backends.torch_batches import run_on_device
from skembed.encoding.threads import LockedIterator, iterate_concurrently

_RESULTS_AHEAD = 16  # batches that wait to be taken, before the devices wait


class SeveralDevices(TorchBackend):
    """One model on several devices of a kind, in one precision; in all else it is the torch backend of the first.

    Each device has a thread. That is enough where a batch takes a device longer than it takes Python to launch it: some
    milliseconds for models of a few layers.

    Parameters
    ----------
    each : list of SentenceTransformer
        The same model, one on each device. They are read, never changed.
    """

    def __init__(self, each: list[SentenceTransformer]) -> None:
        super().__init__(each[0])
        self._others = [TorchBackend(other) for other in each[1:]]

    def tokens_that_fit(self) -> float:
        """Estimate the tokens of a batch that fit into the smallest free memory of all devices."""
        return min(super().tokens_that_fit(), *(other.tokens_that_fit() for other in self._others))

    def _compute(
        self, run: Run, batches: Iterator[NDArray[np.intp]], size_of: Callable[[NDArray[np.intp]], int]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        shared = LockedIterator(batches)
        each = (self, *self._others)
        computing = [run_on_device(backend.device, partial(run, backend), shared, size_of) for backend in each]
        yield from iterate_concurrently(computing, _RESULTS_AHEAD)
