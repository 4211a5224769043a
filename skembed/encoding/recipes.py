"""Recipes: everything but the text that shapes a vector, in one canonical form. Imports the standard library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b


@dataclass(frozen=True)
class Recipe:
    """How a vector came about, before it was normalised and cut: ``tail(pool(mean of layers))``.

    Two settings share cached vectors exactly if their recipes are equal, so a field is never left out, and each
    value is written in one way only (layers counted from 0 and sorted, the backend by name, and so on).

    Attributes
    ----------
    format_version : int
        Of the vectors; raised when the same recipe comes to give other vectors.
    fingerprint : str
        Digest of the model's weights, tokenizer and configuration.
    backend, dtype : str
        What runs the model, and in which precision.
    prompt : str
    max_seq_length : int or None
        Most tokens that are read; None: no limit.
    split_long_texts : bool
        Whether longer texts are read in windows, rather than cut.
    layers : tuple of int or None
        Hidden layers that are averaged; None: the model's own modules do all of it.
    pooling : tuple of str or None
        Pooling modes whose vectors lie side by side before the model's tail; None: as above.
    route : str or None, default=None
        The way through the model that the texts' task decides; None: there is one for all.
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
        """What one forward pass has in common: the recipe without its layers and pooling."""
        return replace(self, layers=None, pooling=None)

    def to_json(self) -> str:
        """Write the recipe down, always in the same way."""
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> bytes:
        """Digest the recipe to 16 bytes."""
        return blake2b(self.to_json().encode(), digest_size=16).digest()
