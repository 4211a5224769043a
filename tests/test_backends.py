"""The tests on the backend that they do not run on by default; a quarter of them in .ci/run, all of them here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.exhaustive
def test_every_fast_test_passes_with_torch_as_well():
    command = [sys.executable, "-m", "pytest", "--backend", "torch", "-q", "-n", "2", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
