"""File locks between processes: filelock's, usable again after an interrupt. Imports nothing of the package."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from filelock import FileLock

# Seconds. Without a timeout, filelock refuses a lock that it believes this thread holds. If an interrupt strikes while
# the lock is released, it believes so until the process ends.
FOREVER = 1e9

_locks: WeakValueDictionary[tuple[int, int, str], FileLock] = WeakValueDictionary()  # by process, thread and path


def is_locked_here(path: str | os.PathLike[str]) -> bool:
    """Check whether this thread holds the lock of a file, so that a signal handler must not wait for it."""
    lock = _locks.get(_key(path))
    return lock is not None and lock.is_locked


@contextmanager
def locked(
    path: str | os.PathLike[str],
    timeout: float = FOREVER,
    taking: AbstractContextManager[object] | None = None,
    **options: Any,
) -> Iterator[None]:
    """Lock a file; the operating system releases the lock of a process that dies.

    Parameters
    ----------
    path : path
        The file to lock; it is created if it does not exist.
    timeout : float, default=1e9
        Seconds to wait for another process or thread.
    taking : context manager, default=None
        Entered only while the lock is acquired, for example to translate errors.
    **options
        Parameters of :class:`filelock.FileLock`.

    Raises
    ------
    filelock.Timeout
        If the lock is not acquired in time.
    RuntimeError
        If this thread holds the lock already and would wait for itself.
    """
    from filelock import FileLock  # most processes do not need it

    if is_locked_here(path):
        raise RuntimeError(f"{os.fspath(path)} is already locked by this thread, in the code that was interrupted.")
    lock = FileLock(path, timeout=timeout, **options)
    try:
        with taking or nullcontext():
            lock.acquire()
        _locks[_key(path)] = lock
        yield
    finally:
        lock.release()


def _key(path: str | os.PathLike[str]) -> tuple[int, int, str]:
    return os.getpid(), threading.get_ident(), os.fspath(path)
