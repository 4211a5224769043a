"""Locks among processes: one at a time, none kept by a call that was interrupted."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest
from filelock import Timeout

from skembed.locks import is_locked_here, locked
from tests.interrupts import interrupted_at_random


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
        with pytest.raises(RuntimeError, match=r"some\.lock is locked by this thread already"), locked(file):
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


@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one that comes in a __del__
@pytest.mark.parametrize(
    "n_interrupts", [pytest.param(500, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.exhaustive)]
)
def test_interrupts_at_any_moment_leave_it_free(n_interrupts, file):
    def use():
        for _ in range(5):
            with locked(file):
                pass

    assert interrupted_at_random(use, use, n_interrupts) == n_interrupts
