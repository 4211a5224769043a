"""What the processor can do. Imports the standard library."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_SPEEDS = {"amx_bf16": 4.0, "avx512_bf16": 2.3}  # of small matrix products; see benchmarks/duplicates.py


@cache
def processor_flags() -> tuple[str, ...]:
    """Return the processor's feature flags; only Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(sorted({flag for line in lines if line.startswith("flags") for flag in line.split()[2:]}))


def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 natively (AVX512-BF16 or AMX); only Linux tells."""
    return speed_of_bfloat16() > 1


def speed_of_bfloat16() -> float:
    """Return about how many times faster than float32 the processor multiplies bfloat16; 1 where that is unknown."""
    return next((speed for flag, speed in _SPEEDS.items() if flag in processor_flags()), 1.0)
