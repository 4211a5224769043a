"""Recipes: everything but the text that shapes a vector, in one canonical form. Imports the standard library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b


@dataclass(frozen=True)
class Recipe:
    """How a vector is computed, before it is normalised and truncated: ``post_pooling(pool(mean of layers))``.

    Two settings share cached vectors if and only if their recipes are equal. Therefore no field is left out, and each
    value has only one form (layers counted from 0 and sorted, the backend by name, and so on).

    Attributes
    ----------
    format_version : int
        Raised when the same recipe comes to give other vectors.
    fingerprint : str
        Digest of the model's weights, tokenizer and configuration.
    backend, dtype : str
        What runs the model, and its precision.
    prompt : str
    max_seq_length : int or None
        Maximum number of tokens read. None: no limit.
    split_long_texts : bool
        Whether longer texts are read in chunks rather than truncated.
    layers : tuple of int or None
        Hidden layers that are averaged. None: the model's own modules do all of it.
    pooling : tuple of str or None
        Pooling modes whose vectors are concatenated before the modules that follow. None: as for layers.
    route : str or None, default=None
        The path through the model that the task of the texts selects. None: the model has only one.
    """

    format_version: int
    fingerprint: str
    backend: str
    dtype: str
    prompt: str
    max_seq_length: int | None
    split_long_texts: bool
    layers: tuple[int, ...] | None
    pooling: tuple[str, ...] | None
    route: str | None = None

    @property
    def base_recipe(self) -> Recipe:
        """The recipe without its layers and pooling: what one forward pass can serve."""
        return replace(self, layers=None, pooling=None)

    def to_json(self) -> str:
        """Return the recipe as JSON; equal recipes give equal strings."""
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> bytes:
        """Return a digest of 16 bytes."""
        return blake2b(self.to_json().encode(), digest_size=16).digest()
