"""Trainings leave the process as they found it: random numbers, environment and log levels. Imports torch."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from transformers.utils import logging

from skembed.compat import accelerate_states
from skembed.encoding.forks import renew_in_child
from skembed.encoding.progress import without_bars

# By these variables the launchers of torch, accelerate and MPI tell a process its place among others.
_LAUNCH_VARIABLE = re.compile(
    "((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|"
    "(ACCELERATE|FSDP|OMPI_COMM_WORLD|PARALLELISM_CONFIG|PMI|MPI|MV2_COMM_WORLD|TORCHELASTIC)_.*"
)

_one_at_a_time = threading.Lock()  # the trainer seeds the random numbers of the process, and draws them


def _renew_after_fork() -> None:
    """Replace the lock in a forked child: another thread of the parent may hold it."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


renew_in_child("training", _renew_after_fork)


@contextmanager
def isolated() -> Iterator[None]:
    """Train without traces in the process, and independently of other processes; one thread at a time."""
    with _one_at_a_time, _random_states_kept(), _without_launcher(), _quiet():
        yield


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restore the random states at the end, so that the process draws the numbers it would have drawn without this."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=_seeded_devices()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _seeded_devices() -> list[int]:
    """Return the CUDA devices that the trainer seeds: all of them, or none before CUDA is in use."""
    is_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if is_in_use else []


@contextmanager
def _without_launcher() -> Iterator[None]:
    """Hide what a launcher has set from the trainer, and restore it, with the state of accelerate, at the end."""
    states = accelerate_states()
    kept_states, kept_variables = [dict(state) for state in states], _launch_variables()
    for name in kept_variables:
        del os.environ[name]
    try:
        yield
    finally:
        for name in _launch_variables():
            del os.environ[name]
        os.environ.update(kept_variables)
        for state, kept in zip(states, kept_states, strict=True):
            state.clear()
            state.update(kept)


def _launch_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if _LAUNCH_VARIABLE.fullmatch(name)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the trainer's log messages, which require no action of the user, and its bars while it reads weights."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with without_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)
