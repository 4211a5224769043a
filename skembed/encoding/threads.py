"""Iterating in threads: what yields goes on while its results are taken. Knows nothing of texts and models."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from queue import Queue
from typing import TypeVar

Item = TypeVar("Item")


def merged(iterables: Sequence[Iterable[Item]], n_ahead: int) -> Generator[Item]:
    """Iterate over several iterables at once, each in a thread of its own.

    Parameters
    ----------
    iterables : sequence of iterable
    n_ahead : int
        Most items that wait to be taken; then the threads wait.

    Yields
    ------
    item
        In the order in which they come. An exception of one iterable is raised here, and ends the others, as leaving
        the loop does; the threads have ended by then.

    Examples
    --------
    >>> sorted(merged([range(3), range(10, 12)], n_ahead=2))
    [0, 1, 2, 10, 11]
    """
    arrived: Queue[tuple[Iterable[Item] | None, Item | BaseException | None]] = Queue(n_ahead)
    is_over = threading.Event()

    def work(iterable: Iterable[Item]) -> None:
        failure = None
        try:
            for item in iterable:
                arrived.put((iterable, item))
                if is_over.is_set():
                    break
        except BaseException as error:  # to be raised where the items are taken
            failure = error
        arrived.put((None, failure))

    threads = [threading.Thread(target=work, args=(iterable,), daemon=True) for iterable in iterables]
    n_running = 0
    try:
        for thread in threads:
            thread.start()
            n_running += 1
        while n_running:
            source, item = arrived.get()
            if source is not None:
                yield item  # type: ignore[misc]  # one of its items
                continue
            n_running -= 1
            if isinstance(item, BaseException):
                raise item
    finally:
        is_over.set()
        while n_running:  # who waits to hand something over must not wait for ever
            n_running -= arrived.get()[0] is None
        for thread in threads:
            if thread.ident is not None:
                thread.join()


class Shared(Iterator[Item]):
    """An iterator that several threads draw from: each item goes to one of them.

    Examples
    --------
    >>> items = Shared(range(2))
    >>> next(items), next(items)
    (0, 1)
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items, self._lock = iter(items), threading.Lock()

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)
