"""Progress: our own bars and lines, and those of other libraries hidden. Imports tqdm and transformers on use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(
    show: Any, total: int | None, doing: str = "Embedding", unit: str = "text", initial: int = 0
) -> Iterator[Any]:
    """Show a progress bar during a ``with`` block.

    There is no bar for a single text, such as a request to a pipeline that was saved with ``show=True``, and none if
    the environment variable ``TQDM_DISABLE`` is set.

    Parameters
    ----------
    show : bool or "auto"
        "auto" shows the bar after two seconds, and only in a terminal or notebook.
    total : int or None
    doing, unit : str
        What is counted.
    initial : int, default=0

    Yields
    ------
    tqdm, or a stand-in with its methods ``update``, ``reset`` and ``set_postfix`` where there is no bar
    """
    if total == 1 or not _is_shown(show):
        yield _HiddenBar()
        return
    from tqdm.auto import tqdm

    delay = 2 if show == "auto" else 0
    with tqdm(total=total, desc=doing, unit=unit, initial=initial, delay=delay) as bar:
        yield bar


def say(show: Any, line: str) -> None:
    """Print a line about something that takes long, where a progress bar would be shown; see :func:`progress`."""
    if _is_shown(show):
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)  # above the bars that are being drawn


def _is_shown(show: Any) -> bool:
    if sys.stderr is None:
        return False
    is_watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    is_hidden = not is_watched if isinstance(show, str) else not show
    return not is_hidden and os.environ.get("TQDM_DISABLE", "0").lower() in ("", "0", "false")


class _HiddenBar:
    """Stand-in for a bar that is not shown.

    A bar of tqdm, even one that is disabled, acquires a lock that forked processes share. If one of them is killed
    while it holds that lock, all others wait for ever.
    """

    def _ignore(self, *args: Any, **kwargs: Any) -> None: ...

    update = reset = set_postfix = _ignore


@contextmanager
def without_bars(*, local: bool = True) -> Iterator[None]:
    """Hide transformers' progress bar during a ``with`` block, unless weights are downloaded (``local=False``)."""
    from transformers.utils import logging

    hide = local and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
