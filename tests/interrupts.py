"""Exceptions at every line: run an action repeatedly, and each time raise at another line of given modules.

    for strike in at_each_line([memory_store], lambda: use(MemoryStore())):
        store = MemoryStore()
        strike(lambda: use(store))      # KeyboardInterrupt at one line, once
        check(store)

Some lines are left out, because CPython handles no signal there before their work is done: the return to the header
of a ``with``, the lines of ``finally``, and ``__exit__`` and ``__del__``.
"""

from __future__ import annotations

import ast
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from time import perf_counter, sleep
from types import CodeType, FrameType, ModuleType
from typing import Any

Line = tuple[CodeType, int]


def at_each_line(modules: Sequence[ModuleType], action: Callable[[], object], *, visits: int = 2) -> Iterator[Strike]:
    """Yield, for each line that an action runs, a callable that runs an action and raises KeyboardInterrupt there.

    Parameters
    ----------
    modules : sequence of module
        The modules whose lines are interrupted.
    action : callable
        Run once, to find the lines.
    visits : int, default=2
        Number of visits of each line to interrupt: the first, the last, and others in between.

    Yields
    ------
    Strike
    """
    seen: Counter[Line] = Counter()
    _traced(modules, action, lambda line: seen.update([line]))
    for line, n_visits in seen.items():
        for visit in sorted({1 + round(step * (n_visits - 1) / max(visits - 1, 1)) for step in range(visits)}):
            yield Strike(modules, line, visit)


class Strike:
    """Run an action and interrupt it once, at one visit of one line."""

    def __init__(self, modules: Sequence[ModuleType], line: Line, visit: int) -> None:
        self._modules, self._line, self._visit = modules, line, visit

    def __repr__(self) -> str:
        return f"visit {self._visit} of {Path(self._line[0].co_filename).name}:{self._line[1]}"

    def __call__(
        self,
        action: Callable[[], object],
        *,
        instead: Callable[[], object] | None = None,
        keep: list[BaseException] | None = None,
    ) -> bool:
        """Run an action like the first one; return whether it was interrupted and raised the interrupt.

        Parameters
        ----------
        action : callable
        instead : callable, default=None
            Called at the line instead of raising KeyboardInterrupt, as a signal handler might be.
        keep : list, default=None
            Receives the interrupt, so that everything its traceback refers to stays alive, as in a notebook.
        """
        n_to_come, is_done = self._visit, False

        def on_line(line: Line) -> None:
            nonlocal n_to_come, is_done
            n_to_come -= line == self._line
            if n_to_come == 0 and not is_done:
                is_done = True
                if instead is None:
                    raise KeyboardInterrupt(repr(self))
                instead()

        try:
            _traced(self._modules, action, on_line)
        except KeyboardInterrupt as interrupt:
            if keep is not None:
                keep.append(interrupt)
            return True
        return is_done and instead is not None


def interrupted_at_random(action: Callable[[], object], check: Callable[[], object], n_interrupts: int) -> int:
    """Run an action repeatedly, each time until a real signal raises KeyboardInterrupt in it, and check.

    Returns
    -------
    int
        Number of interrupts that the action raised. None is sent while ``check`` runs.
    """
    random, n_struck = Random(0), 0
    seconds = 0.02
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        while n_struck < n_interrupts:
            try:
                start = perf_counter()
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, seconds))
                action()
                signal.setitimer(signal.ITIMER_REAL, 0)
                seconds = max(perf_counter() - start, 1e-4)  # so that the signal may arrive anywhere in it
            except KeyboardInterrupt:
                n_struck += 1
            check()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return n_struck


def wait_until_all_advance(counts: list[int], seconds: float = 60) -> None:
    """Wait until each of several counters has advanced; fail if one does not, because its thread is stuck."""
    before, until = list(counts), perf_counter() + seconds
    while not all(now > then for now, then in zip(counts, before, strict=True)):
        assert perf_counter() < until, f"a thread is stuck: {counts}, {before} before"
        sleep(0.01)


def _traced(modules: Sequence[ModuleType], action: Callable[[], object], on_line: Callable[[Line], None]) -> None:
    """Run an action, and call ``on_line`` before each line of the modules."""
    files = {str(module.__file__) for module in modules}

    def enter(frame: FrameType, _event: str, _arg: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename not in files or code.co_name in ("__exit__", "__del__"):
            return None
        previous = frame.f_lineno  # where a generator that is resumed was left

        def step(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal previous
            if event == "line":
                before, previous = previous, frame.f_lineno
                if not _is_left_out(code.co_filename, before, frame.f_lineno):
                    on_line((code, frame.f_lineno))
            return step

        return step

    outer = sys.gettrace()
    sys.settrace(enter)
    try:
        action()
    finally:
        sys.settrace(outer)


def _is_left_out(file: str, before: int, line: int) -> bool:
    withs, finals = _withs_and_finals(file)
    returns = any(line in header and before in body for header, body in withs)
    return returns or any(line in lines for lines in finals)


@cache
def _withs_and_finals(file: str) -> tuple[list[tuple[range, range]], list[range]]:
    """Find the lines of each ``with`` of a file, as header and body, and those of each ``finally``."""
    nodes = list(ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))))
    withs = [
        (range(node.lineno, node.body[0].lineno), range(node.body[0].lineno, (node.end_lineno or 0) + 1))
        for node in nodes
        if isinstance(node, ast.With)
    ]
    finals = [
        range(node.finalbody[0].lineno, (node.finalbody[-1].end_lineno or 0) + 1)
        for node in nodes
        if isinstance(node, ast.Try) and node.finalbody
    ]
    return withs, finals
