"""Locks of files among processes: filelock's, usable again after an interrupt. Imports nothing of the package."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from filelock import FileLock

# Seconds. Without a limit filelock refuses a lock that it takes to be held by this thread, to the end of the process if
# an interrupt came while it was let go.
FOREVER = 1e9

_held: WeakValueDictionary[tuple[int, int, str], FileLock] = WeakValueDictionary()  # by process, thread and path


def is_locked_here(path: str | os.PathLike[str]) -> bool:
    """Whether this thread holds a lock, so that a signal handler must not wait for it."""
    lock = _held.get(_key(path))
    return lock is not None and lock.is_locked


@contextmanager
def locked(
    path: str | os.PathLike[str],
    timeout: float = FOREVER,
    taking: AbstractContextManager[object] | None = None,
    **options: Any,
) -> Iterator[None]:
    """Hold the lock of a file; the operating system frees that of a process that dies.

    Parameters
    ----------
    path : path
        The file, which is made.
    timeout : float, default=1e9
        Seconds to wait for another process or thread.
    taking : context manager, default=None
        Entered while the lock is taken, and left before what it is for, as to translate errors.
    **options
        Of :class:`filelock.FileLock`.

    Raises
    ------
    filelock.Timeout
    RuntimeError
        If this thread holds it already, and so would wait for itself.
    """
    from filelock import FileLock  # which most processes have no need of

    if is_locked_here(path):
        raise RuntimeError(f"{os.fspath(path)} is locked by this thread already, in the midst of what was interrupted.")
    lock = FileLock(path, timeout=timeout, **options)
    try:
        with taking or nullcontext():
            lock.acquire()
        _held[_key(path)] = lock
        yield
    finally:
        lock.release()


def _key(path: str | os.PathLike[str]) -> tuple[int, int, str]:
    return os.getpid(), threading.get_ident(), os.fspath(path)
