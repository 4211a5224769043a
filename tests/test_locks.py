"""File locks: one holder at a time, and none left locked by an interrupted call."""

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


def test_a_lock_that_is_not_free_in_time_is_a_timeout(file):
    timeouts = []

    def other():
        with pytest.raises(Timeout) as error, locked(file, timeout=0):
            pass
        timeouts.append(error.type)

    with locked(file):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert timeouts == [Timeout]


def test_a_thread_that_would_wait_for_itself_gets_an_error(file):
    with locked(file):
        assert is_locked_here(file)
        with pytest.raises(RuntimeError, match=r"some\.lock is already locked by this thread"), locked(file):
            pass
    assert not is_locked_here(file)
    with locked(file):
        pass


def test_an_error_releases_the_lock(file):
    with pytest.raises(ValueError, match="no"), locked(file):
        raise ValueError("no")
    with locked(file, timeout=0):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are forked")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of newer versions of Python, for a fork beside threads
def test_a_lock_of_the_parent_is_not_held_by_its_child(file):
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
def test_interrupts_at_any_moment_leave_the_lock_free(n_interrupts, file):
    """Run in a new process: a condition variable of filelock may stay locked, and block all other threads."""
    command = [sys.executable, "-c", INTERRUPTED, str(file), str(n_interrupts)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=600)
    assert done.stdout == f"{n_interrupts}\n", done.stderr[-2000:]
