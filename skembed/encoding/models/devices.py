"""Devices and backends: where a model runs and what runs it, decided without torch where that is possible.

Imports the settings; torch and openvino only if the answer depends on them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from glob import glob
from typing import TYPE_CHECKING

from skembed.encoding.forks import renew_in_child
from skembed.encoding.settings import Settings
from skembed.optional import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")
# The device files of what torch calls "cuda" on Linux: NVIDIA, Jetson boards, AMD, and GPUs of Windows (WSL).
_DEVICE_FILES = "/dev"
_ACCELERATORS = ("nvidia[0-9]*", "nvhost-*", "kfd", "dxg")

_openvino_hangs = False  # True after a fork: only the parent has OpenVINO's threads


def openvino_hangs() -> bool:
    """Return whether this process was forked from one that has used OpenVINO."""
    return _openvino_hangs


def resolve_devices(device: str | list[str], live: SentenceTransformer | None) -> tuple[str, ...]:
    """Return the devices that the user means: one, or those of a list.

    Raises
    ------
    ValueError
        If one is not available, if they are of several types, or if one other than "cpu" is named twice.
    """
    devices = tuple(_resolve_device(name, live) for name in (device if isinstance(device, list) else [device]))
    if len({name.partition(":")[0] for name in devices}) > 1:
        raise ValueError(
            f"device={device!r} names devices of several types, whose vectors would differ; name devices of one type."
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
        if device.partition(":")[0] not in _DEVICE_TYPES:
            raise NotImplementedError(f"supported are {', '.join(_DEVICE_TYPES)}")
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device={device!r} is not available on this machine. Choose 'auto' or 'cpu'.") from error


def _has_only_cpu() -> bool:
    """Return whether torch would find only a CPU, as far as that is known without importing it, which is slow."""
    if "torch" in sys.modules or sys.platform != "linux":
        return False
    return not _has_accelerator(_DEVICE_FILES)


@cache  # reading the folder takes longer than the rest of finding a model
def _has_accelerator(folder: str) -> bool:
    return any(glob(pattern, root_dir=folder) for pattern in _ACCELERATORS)


def resolve_backend(settings: Settings, devices: Sequence[str], *, is_live: bool) -> str:
    """Return the backend that runs a model; "auto" leaves live models to torch, which has loaded them already.

    Raises
    ------
    ValueError
        If OpenVINO is asked for on other devices, or in a precision that it does not support.
    ImportError
        If OpenVINO is asked for and not installed.
    RuntimeError
        If OpenVINO is asked for and this process was forked from one that has used it.
    """
    is_on_cpu = tuple(devices) == ("cpu",)
    if settings.backend == "openvino":
        if not is_on_cpu:
            device = devices[0] if len(devices) == 1 else list(devices)
            raise ValueError(f"backend='openvino' runs on the CPU, not on device={device!r}. Choose backend='torch'.")
        if settings.dtype == "float16":
            raise ValueError("dtype='float16': backend='openvino' computes in float32 or bfloat16.")
        if not _has_openvino():
            require("openvino", needed_by="backend='openvino'", extra="openvino")  # its error says how to install it
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
    """Return whether OpenVINO is installed and works; a folder of that name or a broken installation is not enough."""
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
