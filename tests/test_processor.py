"""What the processor can do, as Linux lists it."""

from __future__ import annotations

import pytest

from skembed import processor

READ_FLAGS = processor.processor_flags.__wrapped__  # each time, not once


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """Return a function that lets the processor have flags; None: nothing lists them."""

    def have(flags: str | None):
        file = tmp_path / "cpuinfo"
        if flags is not None:
            file.write_text(f"processor : 0\nflags\t\t: {flags}\n\nprocessor : 1\nflags\t\t: {flags}\n")
        monkeypatch.setattr(processor, "Path", lambda _: file)
        monkeypatch.setattr(processor, "processor_flags", READ_FLAGS)

    return have


def test_each_flag_is_listed_once(lists):
    lists("fpu avx2 fpu")
    assert processor.processor_flags() == ("avx2", "fpu")


@pytest.mark.parametrize("flags", [None, "", "fpu avx512f avx512_vnni"])
def test_without_a_flag_for_it_bfloat16_is_not_multiplied(flags, lists):
    lists(flags)
    assert not processor.multiplies_bfloat16()
    assert processor.speed_of_bfloat16() == 1


@pytest.mark.parametrize(("flags", "faster"), [("fpu avx512_bf16", "fpu"), ("avx512_bf16 amx_bf16", "avx512_bf16")])
def test_bfloat16_is_faster_with_avx512_and_faster_still_with_amx(flags, faster, lists):
    lists(faster)
    without = processor.speed_of_bfloat16()
    lists(flags)
    assert processor.multiplies_bfloat16()
    assert processor.speed_of_bfloat16() > without
