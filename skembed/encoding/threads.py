"""Threads: producers that continue while their items are consumed, and results for all who ask at once.

Imports the standard library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

Item = TypeVar("Item")


def iterate_concurrently(iterables: Sequence[Iterable[Item]], n_ahead: int) -> Generator[Item]:
    """Iterate over several iterables at once, each in a thread of its own.

    Parameters
    ----------
    iterables : sequence of iterable
    n_ahead : int
        Maximum number of items produced but not yet consumed. Beyond it each thread waits with one more item.

    Yields
    ------
    item
        In order of arrival. An exception in one iterable is raised here and ends the others, as leaving the loop does;
        each thread first finishes its current item.

    Examples
    --------
    >>> sorted(iterate_concurrently([range(3), range(10, 12)], n_ahead=2))
    [0, 1, 2, 10, 11]
    """
    arrived: SimpleQueue[tuple[Item] | BaseException | None] = SimpleQueue()  # None: a thread has ended
    room, is_over = threading.Semaphore(n_ahead), threading.Event()

    def work(iterable: Iterable[Item]) -> None:
        try:
            for item in iterable:
                room.acquire()
                if is_over.is_set():
                    break
                arrived.put((item,))
        except BaseException as error:  # raised where the items are consumed
            arrived.put(error)
        else:
            arrived.put(None)

    threads = [threading.Thread(target=work, args=(iterable,), daemon=True) for iterable in iterables]
    try:
        for thread in threads:
            thread.start()
        n_running = len(threads)
        while n_running:
            arrival = arrived.get()
            if isinstance(arrival, tuple):
                room.release()
                yield arrival[0]
            elif arrival is None:
                n_running -= 1
            else:
                try:
                    raise arrival
                finally:
                    del arrival  # otherwise the error and its traceback keep each other alive
    finally:
        is_over.set()
        for _ in threads:
            room.release()  # a waiting thread continues, and sees that it is over
        for thread in threads:
            if thread.ident is not None:  # started
                thread.join()


class LockedIterator(Iterator[Item]):
    """An iterator shared by several threads: each item goes to one of them.

    Examples
    --------
    >>> items = LockedIterator(range(2))
    >>> next(items), next(items)
    (0, 1)
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items, self._lock = iter(items), threading.Lock()

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)


class SharedResult(Generic[Item]):
    """What several threads ask for at once, computed once for all of them.

    A result serves every thread that asked before its computation began, so that nobody gets an outdated one.

    Examples
    --------
    >>> SharedResult().get(lambda: 3)
    3
    """

    def __init__(self) -> None:
        self._n_begun, self._lock = 0, threading.RLock()
        self._found: tuple[int, Any] = 0, None  # the number of its computation, and the result

    def get(self, compute: Callable[[], Item]) -> Item:
        """Return a result that was computed after this call began."""
        n_before = self._n_begun
        with self._lock:
            number, result = self._found
            if number <= n_before:
                number = self._n_begun = self._n_begun + 1
                result = compute()
                self._found = number, result
            return cast("Item", result)
