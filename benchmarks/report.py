"""What every benchmark reports with its figures: the machine, a markdown table, intervals, and raw results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGES = ("skembed", "sentence-transformers", "transformers", "torch", "tokenizers", "scikit-learn", "numpy")
OPTIONAL_PACKAGES = ("openvino",)
FAST_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="also write the raw results there")


def describe_machine() -> dict[str, Any]:
    """Describe hardware, versions, commit and date, without naming the host. Call this when a run begins."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads_torch": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        **{package: version(package) for package in OPTIONAL_PACKAGES if find_spec(package)},
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices natively."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu_facts().get("flags", "").split())


def _processor() -> str:
    """Return the processor's name, with the instruction sets that decide how fast it multiplies matrices."""
    facts = _cpu_facts()
    if not facts:
        return platform.processor() or platform.machine()
    name = facts.get("model name", platform.machine())
    family = f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"
    has = set((facts.get("flags") or facts.get("Features") or "").split())
    return f"{name} ({family}; {' '.join(flag for flag in FAST_CPU_FLAGS if flag in has)})"


def _cpu_facts() -> dict[str, str]:
    """Return what Linux knows about the processor; elsewhere, nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def print_report(machine: dict[str, Any], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print the machine and a markdown table."""
    print(", ".join(f"{name} {value}" for name, value in machine.items() if value is not None), end="\n\n")
    print_table(header, rows)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a markdown table."""
    for cells in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(map(str, cells)), "|")


def write_json(file: str | None, **results: Any) -> None:
    """Write the raw results, if a file was named."""
    if file is not None:
        Path(file).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(values, size=(10_000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(low), float(high)


def verdict(holds: bool | None) -> str:
    """Return whether a bound holds, as text; empty if there is no bound."""
    return "" if holds is None else "yes" if holds else "NO"
