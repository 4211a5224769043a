"""Iterating in threads: what yields goes on while its results are taken. Knows nothing of texts and models."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


def iterate_concurrently(iterables: Sequence[Iterable[Item]], n_ahead: int) -> Generator[Item]:
    """Iterate over several iterables at once, each in a thread of its own.

    Parameters
    ----------
    iterables : sequence of iterable
    n_ahead : int
        Most items that wait to be taken. Then the threads wait, each with one more in its hand.

    Yields
    ------
    item
        In the order in which they come. An exception of one iterable is raised here, and ends the others, as leaving
        the loop does: each thread ends with the item that it is at.

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
        except BaseException as error:  # to be raised where the items are taken
            arrived.put(error)
        else:
            arrived.put(None)

    threads = [threading.Thread(target=work, args=(iterable,), daemon=True) for iterable in iterables]
    try:
        for thread in threads:
            thread.start()
        n_running = len(threads)
        while n_running:
            came = arrived.get()
            if isinstance(came, tuple):
                room.release()
                yield came[0]
            elif came is None:
                n_running -= 1
            else:
                try:
                    raise came
                finally:
                    del came  # or else it and what its traceback holds would keep each other
    finally:
        is_over.set()
        for _ in threads:
            room.release()  # who waits for room goes on, and sees that it is over
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()


class LockedIterator(Iterator[Item]):
    """An iterator that several threads draw from: each item goes to one of them.

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
