"""Descriptions of a model, without its weights and without a model library. Imports the room of the tokens.

Every backend describes its model by these classes, so that plan and encoder need not know which backend runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skembed.encoding.tokens import TextTokenizer


class CannotComputeError(RuntimeError):
    """A backend failed to run a model. Another backend may succeed."""


@dataclass(frozen=True)
class TransformerSpec:
    """The part of a standard model that reads text: token ids in, one vector per token out.

    A standard model is a fast tokenizer, a transformer, a Pooling module and the modules after it. Only in such a model
    can skembed truncate the tokens, replace the pooling and read inner layers.

    Attributes
    ----------
    tokenizer : TextTokenizer
    pad_id : int
    special_ids : frozenset of int
    own_pooling : tuple of str
        The model's pooling modes, concatenated.
    include_prompt : bool
        Whether the model pools the tokens of the prompt.
    n_layers, hidden_dim : int
    max_positions : int or None
        Number of tokens that a learned position table has room for. None: positions are computed.
    """

    tokenizer: TextTokenizer
    pad_id: int
    special_ids: frozenset[int]
    own_pooling: tuple[str, ...]
    include_prompt: bool
    n_layers: int
    hidden_dim: int
    max_positions: int | None

    def count_prompt_tokens(self, prompt: str, max_seq_length: int | None) -> int:
        """Count the leading tokens of the prompt, if the model leaves them out of its pooling; otherwise return 0.

        As in sentence-transformers: the prompt is tokenized and truncated alone, and a trailing special token is not
        counted.
        """
        if self.include_prompt or not prompt:
            return 0
        ids = self.tokenizer.tokenize([prompt], max_seq_length).ids
        return len(ids) - int(ids[-1] in self.special_ids)


@dataclass(frozen=True)
class Defaults:
    """What a model does unless the caller says otherwise.

    Attributes
    ----------
    prompts : dict of str to str or None
    default_prompt_name : str or None
    truncate_dim : int or None
    max_seq_length : int or None
        Most tokens of a text that are read. None: no limit.
    task_lengths : dict of str to int or None
        The same by task, for the tasks where it is not ``max_seq_length``.
    """

    prompts: dict[str, str | None]
    default_prompt_name: str | None
    truncate_dim: int | None
    max_seq_length: int | None
    task_lengths: dict[str, int | None]


@dataclass(frozen=True)
class PostPoolingModule:
    """A module after the pooling.

    Attributes
    ----------
    name : str
    takes, gives : int or None
        Dimensions of its input and output. None: any, and the same.
    """

    name: str
    takes: int | None
    gives: int | None


def dim_after(post_pooling: Sequence[PostPoolingModule], dim: int) -> int:
    """Return the dimensions of a pooled vector of ``dim`` dimensions after the modules that follow the pooling.

    Raises
    ------
    ValueError
        If a module does not take vectors of the dimensions it would get.
    """
    for module in post_pooling:
        if module.takes not in (None, dim):
            raise ValueError(
                f"the model's {module.name} layer takes {module.takes} dimensions, not {dim}: it was trained "
                "for the model's own pooling; choose pooling='default'."
            )
        dim = module.gives or dim
    return dim
