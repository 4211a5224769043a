"""Turns: who uses a model next, and whose work is done together. Imports the standard library."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE = 0.5  # seconds in which a thread should notice that it is first


class _Ticket(Generic[Item]):
    """A place in the queue, and what is to be done for it."""

    def __init__(self, items: list[Item], key: Hashable | None, size: float) -> None:
        self.items, self.key, self.size = items, key, size
        self.thread, self.has_begun, self.is_done = threading.get_ident(), False, False
        self.gate: Any = threading.Lock()  # its thread waits here
        self.gate.acquire()


class Turns(Generic[Item]):
    """A queue of threads, one of which works at a time: first come, first served.

    Whoever is first does the work of others together with its own, if they have the same key, up to a limit. Nobody
    waits for others to come, and there is no thread but those of the callers. A thread that an interrupt strikes leaves
    the queue; the work of the others is left to the next one. A thread that does not come when it is first, because a
    signal handler keeps it, is passed by the others. So ``work`` must lock what only one thread may use.

    Examples
    --------
    >>> turns = Turns()
    >>> turns.take(["a text"], print)
    ['a text']
    """

    def __init__(self) -> None:
        self._tickets: deque[_Ticket[Item]] = deque()  # all changes to it are single steps, which no signal divides

    @property
    def is_empty(self) -> bool:
        """Whether no thread works or waits."""
        return not self._tickets

    @property
    def is_within(self) -> bool:
        """Whether this thread works or waits already, so that this is a signal handler or a hook."""
        return any(ticket.thread == threading.get_ident() for ticket in list(self._tickets))

    def take(
        self,
        items: list[Item],
        work: Callable[[list[Item]], None],
        *,
        key: Hashable | None = None,
        size: float = 0,
        limit: float = 0,
    ) -> None:
        """Call ``work(items)`` when it is this thread's turn, unless another thread has done so meanwhile.

        Parameters
        ----------
        items : list
        work : callable
            Called with a list of items: these, and perhaps those of others after them. It must keep errors that concern
            only the items of others. If it raises one, that is raised here, and the others take turns of their own.
        key : hashable or None, default=None
            Items of equal keys may be worked on together. None: these are worked on alone.
        size, limit : float, default=0
            The size of these items, and the largest sum of sizes to work on together.
        """
        if self.is_within:
            work(items)  # amid a turn of this thread or its waiting, which cannot be waited for
            return
        ticket = _Ticket(items, key, size)
        try:
            try:
                self._tickets.append(ticket)
                self._wait(ticket)
                if not ticket.is_done:
                    ticket.has_begun = True
                    together = self._together(ticket, limit)
                    work([item for each in together for item in each.items])
                    for each in together:
                        each.is_done = True
            finally:
                self._leave(ticket)
        finally:
            self._leave(ticket)  # again, because an interrupt may have struck in there

    def _first(self) -> _Ticket[Item] | None:
        return next((ticket for ticket in list(self._tickets) if not ticket.is_done), None)

    def _wait(self, ticket: _Ticket[Item]) -> None:
        while not ticket.is_done:
            first = self._first()
            if first is None or first is ticket:
                return
            is_woken = ticket.gate.acquire(timeout=_PATIENCE)
            if not is_woken and not first.has_begun and first is self._first():
                return

    def _together(self, first: _Ticket[Item], limit: float) -> list[_Ticket[Item]]:
        together, size = [first], first.size
        for ticket in list(self._tickets) if first.key is not None else ():
            if ticket is first or ticket.is_done or ticket.key != first.key or size + ticket.size > limit:
                continue
            together.append(ticket)
            size += ticket.size
        return together

    def _leave(self, ticket: _Ticket[Item]) -> None:
        """Leave the queue, and wake the thread that is first now, then those whose work is done."""
        with suppress(ValueError):  # it has left already
            self._tickets.remove(ticket)
        first, others = self._first(), list(self._tickets)
        for waiting in [first, *(other for other in others if other.is_done)]:
            if waiting is not None and waiting.gate.locked():
                with suppress(RuntimeError):  # another thread has just opened it
                    waiting.gate.release()
