"""What the stores in memory and on disk have in common. Imports the standard library."""

from __future__ import annotations

import threading

DEFAULT_MAX_BYTES = 2**30


class BaseStore:
    """A lock, and the statistics of this process.

    Attributes
    ----------
    calls : tuple of int
        Number of requested texts that were cached, and of those that had to be encoded; replaced in one step.
    """

    def __init__(self) -> None:
        self.calls = 0, 0
        self._lock = threading.RLock()  # a signal handler may use the store while its own thread is using it

    def record_hits(self, n_hits: int, n_misses: int) -> None:
        """Add the texts of a call that were cached and those that had to be encoded to the statistics."""
        with self._lock:
            self.calls = self.calls[0] + n_hits, self.calls[1] + n_misses

    def before_fork(self) -> None:
        """Lock, so that the child inherits a consistent store."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Unlock, in the parent and in the child."""
        self._lock.release()
