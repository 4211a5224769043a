"""How the tests train: in few steps, the same each time, and interrupted where they ask for it."""

from __future__ import annotations

import pytest

FAST = {"learning_rate": 1e-3, "batch_size": 8, "n_pairs_per_text": 4, "random_state": 0, "cache": None}


class StoppedError(Exception):
    """Raised by a training that was told to stop."""


def stop_training_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Let trainings raise StoppedError at the end of a step, as Ctrl-C would raise KeyboardInterrupt."""
    from transformers import DefaultFlowCallback

    on_step_end = DefaultFlowCallback.on_step_end

    def stop(self, args, state, control, **rest):
        if state.global_step == step:
            raise StoppedError
        return on_step_end(self, args, state, control, **rest)

    patch.setattr(DefaultFlowCallback, "on_step_end", stop)
