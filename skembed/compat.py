"""Private interfaces of other libraries, each behind one function. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def accelerate_states() -> list[dict[str, Any]]:
    """Return the dicts in which accelerate keeps, for the whole process, its devices and its place among processes."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    return [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]


def set_checkpoint_loader(trainer_class: Any, load: Callable[[Any, str], None]) -> None:
    """Make trainers of a class resume by ``load(trainer, path)``; by default they expect a complete model there."""
    trainer_class._load_from_checkpoint = load
