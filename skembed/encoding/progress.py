"""Progress bars: ours while a call lasts, and none of the libraries' own. Imports what draws them when it is needed."""

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
    """Draw a bar: "auto" waits two seconds, and draws where somebody watches.

    There is none for one text, as in a request to a pipeline that was saved with True, nor where TQDM_DISABLE is set.
    """
    from tqdm.auto import tqdm

    watched = (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules
    hidden = not watched if isinstance(show, str) else not show
    hidden = hidden or total == 1 or os.environ.get("TQDM_DISABLE", "0").lower() not in ("", "0", "false")
    delay = 2 if show == "auto" else 0
    with tqdm(total=total, desc=doing, unit=unit, initial=initial, disable=hidden, delay=delay) as bar:
        yield bar


@contextmanager
def without_bars(*, local: bool = True) -> Iterator[None]:
    """Hide the bar that transformers draws while it reads or writes local weights; that of a download stays."""
    from transformers.utils import logging

    hide = local and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
