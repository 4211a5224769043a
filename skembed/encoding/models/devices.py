"""Where a model runs: which devices, and by which backend, as far as can be told without torch.

Imports the settings; torch and openvino only when they are needed to tell.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from typing import TYPE_CHECKING

from skembed.encoding.forks import renew_in_child
from skembed.encoding.settings import Settings
from skembed.optional import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DEVICES = ("cpu", "cuda", "mps", "xpu")
# As Linux lists what torch calls "cuda": NVIDIA's devices, those of Jetson boards, AMD's, and those of Windows.
_ACCELERATORS = ("nvidia[0-9]*", "nvhost-*", "kfd", "dxg")

_openvino_hangs = False  # after a fork: its threads are the parent's alone


def openvino_hangs() -> bool:
    """Whether this process was forked from one that has used OpenVINO."""
    return _openvino_hangs


def resolve_devices(device: str | list[str], live: SentenceTransformer | None) -> tuple[str, ...]:
    """Find the devices that are meant: one, or those of a list.

    Raises
    ------
    ValueError
        If one does not exist here, they are of several kinds, or one other than "cpu" is named twice.
    """
    devices = tuple(_resolve_device(name, live) for name in (device if isinstance(device, list) else [device]))
    if len({_kind(name) for name in devices}) > 1:
        raise ValueError(
            f"device={device!r} names devices of several kinds, whose vectors would differ; name one kind."
        )
    if len(set(devices)) < len(devices) and devices[0] != "cpu":
        raise ValueError(f"device={device!r} names a device twice: {', '.join(devices)}.")
    return devices


def _resolve_device(device: str, live: SentenceTransformer | None) -> str:
    if live is None and (device == "cpu" or (device == "auto" and _has_only_cpu())):
        return "cpu"
    import torch

    if device == "auto":
        if live is not None:
            return str(live.device)
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if _kind(device) not in _DEVICES:
            raise NotImplementedError(f"only {', '.join(_DEVICES)} are")
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device={device!r} is not to be had here. Choose 'auto' or 'cpu'.") from error


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _has_only_cpu() -> bool:
    """Whether it can be told without torch, which is slow to import, that there is nothing but a CPU for it."""
    if "torch" in sys.modules or sys.platform != "linux":
        return False
    try:
        devices = os.listdir("/dev")
    except OSError:
        return False
    return not any(fnmatch(device, pattern) for device in devices for pattern in _ACCELERATORS)


def resolve_backend(settings: Settings, devices: Sequence[str], *, is_live: bool) -> str:
    """Choose what runs a model; "auto" leaves loaded models to torch, which loaded them.

    Raises
    ------
    ValueError
        If OpenVINO is asked for on other devices, or in a precision that it has not.
    ImportError
        If it is not installed.
    RuntimeError
        If this process was forked from one that has used it.
    """
    is_on_cpu = tuple(devices) == ("cpu",)
    if settings.backend == "openvino":
        if not is_on_cpu:
            device = devices[0] if len(devices) == 1 else list(devices)
            raise ValueError(f"backend='openvino' runs on the CPU, not on device={device!r}. Choose backend='torch'.")
        if settings.dtype == "float16":
            raise ValueError("dtype='float16': backend='openvino' computes in float32 or bfloat16.")
        if not _has_openvino():
            require("openvino", needed_by="backend='openvino'", extra="openvino")  # says how to get it
        if _openvino_hangs:
            raise RuntimeError(
                "backend='openvino' would hang in a process forked from one that has used it. Start processes with "
                "'spawn' or joblib's 'loky', or choose backend='torch'."
            )
        return "openvino"
    fits = settings.backend == "auto" and is_on_cpu and settings.dtype != "float16" and not is_live
    return "openvino" if fits and not _openvino_hangs and _has_openvino() else "torch"


@cache
def _has_openvino() -> bool:
    """Whether OpenVINO is installed, and not just a folder of that name, or broken."""
    spec = importlib.util.find_spec("openvino")
    if spec is None or spec.origin is None:
        return False
    try:
        importlib.import_module("skembed.encoding.backends.openvino_backend")
    except ImportError:
        return False
    return True


def _notice_fork() -> None:
    global _openvino_hangs
    openvino_backend = sys.modules.get("skembed.encoding.backends.openvino_backend")
    _openvino_hangs |= getattr(openvino_backend, "has_run", lambda: False)()


renew_in_child("openvino", _notice_fork)
