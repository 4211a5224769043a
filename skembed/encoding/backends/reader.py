"""What the engine must know of a model beside its weights, without a model library: numpy and tokenizers are enough.

Both backends give it, so that plan and encoder need not know which of them runs. Imports the room of the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skembed.encoding.tokens import TextTokenizer

LayerPooling = tuple[
    tuple[int, ...], tuple[str, ...]
]  # layers to average, pooling modes to concatenate before the tail


class CannotComputeError(RuntimeError):
    """A backend that fails to run a model, which another backend may run."""


@dataclass(frozen=True)
class TransformerSpec:
    """The text-reading part of a standard model: token ids in, one vector a token out.

    A standard model is a fast tokenizer, a transformer, a Pooling module and what follows it. Only for those
    can the tokens be cut by us, the pooling be replaced and inner layers be asked for.
    """

    tokenizer: TextTokenizer
    pad_id: int
    special_ids: frozenset[int]
    own_pooling: tuple[str, ...]
    include_prompt: bool
    n_layers: int
    hidden_dim: int
    max_positions: int | None  # most tokens that a learned position table allows

    def count_prompt_tokens(self, prompt: str, max_seq_length: int | None) -> int:
        """Count the leading tokens that belong to the prompt, where the model leaves them out of its pooling.

        As in sentence-transformers: the prompt alone, tokenised and cut, less a trailing special token.
        """
        if self.include_prompt or not prompt:
            return 0
        ids = self.tokenizer.tokenize([prompt], max_seq_length).ids
        return len(ids) - int(ids[-1] in self.special_ids)


@dataclass(frozen=True)
class Defaults:
    """What a model does where the caller says nothing.

    ``task_lengths`` are the tokens that it reads of a text of a task, where these are not ``max_seq_length``.
    """

    prompts: dict[str, str | None]
    default_prompt_name: str | None
    truncate_dim: int | None
    max_seq_length: int | None
    task_lengths: dict[str, int | None]


@dataclass(frozen=True)
class TailModule:
    """A module after the pooling: its name, and the dimensions that it takes and gives (None: any, and the same)."""

    name: str
    takes: int | None
    gives: int | None


def dim_after(tail: Sequence[TailModule], dim: int) -> int:
    """Count the dimensions of a pooled vector of ``dim`` after a model's tail.

    Raises
    ------
    ValueError
        If a module of the tail does not take vectors of the dimensions that the pooling gives.
    """
    for module in tail:
        if module.takes not in (None, dim):
            raise ValueError(
                f"the model's {module.name} layer takes {module.takes} dimensions, not {dim}: it was trained "
                "for the model's own pooling; choose pooling='default'."
            )
        dim = module.gives or dim
    return dim
