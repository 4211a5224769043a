"""What the processor can do. Imports the standard library."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


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
    return not _BFLOAT16_FLAGS.isdisjoint(processor_flags())
