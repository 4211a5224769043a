"""What a fork must know of, in one list and one order. Imports the standard library.

A forked child has only the thread that forked. Before a fork, this process therefore acquires the locks that are held
for moments only, in a fixed order; afterwards, parent and child release them, and no operation was cut in two. Locks
that may be held for long, while a model is loaded or run, are not waited for; the child gets new ones. What modules
remember of files and models stays true in the child, so it is neither held nor renewed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Hold = tuple[Callable[[], object], Callable[[], object]]  # what acquires before a fork, and what releases after it

# The order of acquiring: whoever holds one of these may wait for one further down, never for one further up.
_HELD = ("tokenizers", "caches", "bars")
# The order of renewing in the child, which begins by noting what it can no longer use.
_RENEWED = ("openvino", "torch", "faiss", "blas", "models", "training")

_holds: dict[str, Callable[[], Iterable[Hold]]] = {}
_renewals: dict[str, Callable[[], None]] = {}
_releases: list[Callable[[], object]] = []  # of the fork that is under way
_fork_lock = threading.RLock()
_library_lock = threading.RLock()


@contextmanager
def library_state() -> Iterator[None]:
    """Lock while functions or settings of a library are replaced for the whole process.

    transformers does so while it builds a model, and so does the conversion of one. Two at once would each restore
    what the other has set. A forked child finds the lock free.
    """
    with _library_lock:  # a child that was forked in here releases the lock that was acquired, not the new one
        yield


def hold_at_fork(name: str, find: Callable[[], Iterable[Hold]]) -> None:
    """Register the locks to hold while the process forks; each is acquired before ``find`` yields the next."""
    _holds[_HELD[_HELD.index(name)]] = find


def renew_in_child(name: str, renew: Callable[[], None]) -> None:
    """Register what to call in a forked child after all locks are released."""
    _renewals[_RENEWED[_RENEWED.index(name)]] = renew


def _find_bar_locks() -> Iterator[Hold]:
    """Find the lock among threads that tqdm acquires whenever a bar is made."""
    tqdm = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    lock = getattr(tqdm.get_lock(), "th_lock", None) if tqdm is not None else None
    if lock is not None:
        yield lock.acquire, lock.release


def _before_fork() -> None:
    _fork_lock.acquire()
    for name in _HELD:
        for acquire, release in _holds.get(name, tuple)():
            acquire()
            _releases.append(release)


def _after_fork() -> None:
    while _releases:
        _releases.pop()()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _library_lock
    _after_fork()
    _library_lock = threading.RLock()
    for name in _RENEWED:
        _renewals.get(name, lambda: None)()


hold_at_fork("bars", _find_bar_locks)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
