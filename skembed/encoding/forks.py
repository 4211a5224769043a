"""What a fork must know of, in one list and one order. Imports the standard library.

A forked child has only the thread that forked. So before a fork this process takes the locks whose owners are done in
a moment, in one order, and afterwards parent and child let go of them: nobody was in the midst of anything. Locks that
may be held for long, by whoever loads or runs a model, are not waited for; the child gets new ones.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Hold = tuple[Callable[[], object], Callable[[], object]]  # what takes hold before a fork, and what lets go after it

# Who holds a lock may wait for one further down, never for one further up.
_HELD = ("tokenizers", "caches", "bars")
# What a child renews: first it notes what of its parent's it can no longer use.
_RENEWED = ("openvino", "torch", "faiss", "models", "training")

_holds: dict[str, Callable[[], Iterable[Hold]]] = {}
_renewals: dict[str, Callable[[], None]] = {}
_one_at_a_time = threading.RLock()
_let_go: list[Callable[[], object]] = []


_library_lock = threading.RLock()


@contextmanager
def library_state() -> Iterator[None]:
    """Hold while functions or settings of a library are replaced for the whole process.

    transformers does so while it builds a model, and so does the conversion of one. Two at once would each put back
    what the other has set. A forked child finds the lock free.
    """
    with _library_lock:  # whoever is in here in a forked child lets go of the lock that was taken, not of the new one
        yield


def hold_at_fork(name: str, find: Callable[[], Iterable[Hold]]) -> None:
    """Hold still what ``find`` gives while the process forks; each is held before the next is asked for."""
    _holds[_HELD[_HELD.index(name)]] = find


def renew_in_child(name: str, renew: Callable[[], None]) -> None:
    """Call ``renew`` in a forked child, once all is let go."""
    _renewals[_RENEWED[_RENEWED.index(name)]] = renew


def _bars() -> Iterator[Hold]:
    """Hold tqdm's lock among threads, which it takes whenever a bar is made."""
    tqdm = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    lock = getattr(tqdm.get_lock(), "th_lock", None) if tqdm is not None else None
    if lock is not None:
        yield lock.acquire, lock.release


def _before() -> None:
    _one_at_a_time.acquire()
    for name in _HELD:
        for take_hold, let_go in _holds.get(name, tuple)():
            take_hold()
            _let_go.append(let_go)


def _after() -> None:
    while _let_go:
        _let_go.pop()()
    _one_at_a_time.release()


def _after_in_child() -> None:
    global _library_lock
    _after()
    _library_lock = threading.RLock()
    for name in _RENEWED:
        _renewals.get(name, lambda: None)()


hold_at_fork("bars", _bars)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
