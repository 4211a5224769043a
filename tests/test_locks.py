"""Locks among processes: one at a time, none kept by a call that was interrupted."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from skembed.locks import is_locked_here, locked


@pytest.fixture
def file(tmp_path):
    return tmp_path / "some.lock"


def test_another_thread_waits(file):
    order = []

    def other():
        with locked(file):
            order.append("other")

    thread = threading.Thread(target=other)
    with locked(file):
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_whoever_does_not_want_to_wait_is_told(file):
    told = []

    def other():
        with pytest.raises(Timeout), locked(file, timeout=0):
            pass
        told.append(True)

    with locked(file):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert told == [True]


def test_a_thread_that_would_wait_for_itself_is_told(file):
    with locked(file):
        assert is_locked_here(file)
        with pytest.raises(RuntimeError, match=r"some\.lock is already locked by this thread"), locked(file):
            pass
    assert not is_locked_here(file)
    with locked(file):
        pass


def test_an_error_lets_it_go(file):
    with pytest.raises(ValueError, match="no"), locked(file):
        raise ValueError("no")
    with locked(file, timeout=0):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are forked")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of newer versions of Python, for a fork beside threads
def test_what_a_parent_holds_is_not_its_childs(file):
    with locked(file):
        child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(is_locked_here(file)))
        child.start()
        child.join()
    assert child.exitcode == 0


INTERRUPTED = """
import sys
from skembed.locks import locked
from tests.interrupts import interrupted_at_random
file, n_interrupts = sys.argv[1], int(sys.argv[2])

def use():
    for _ in range(5):
        with locked(file):
            pass

print(interrupted_at_random(use, use, n_interrupts))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
@pytest.mark.parametrize(
    "n_interrupts", [pytest.param(500, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.exhaustive)]
)
def test_interrupts_at_any_moment_leave_it_free(n_interrupts, file):
    """In a process of its own: a condition variable of filelock's may stay locked, which no other thread gets past."""
    command = [sys.executable, "-c", INTERRUPTED, str(file), str(n_interrupts)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=600)
    assert done.stdout == f"{n_interrupts}\n", done.stderr[-2000:]
