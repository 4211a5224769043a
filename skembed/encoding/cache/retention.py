"""What the cache keeps: the recipes of a pass whose vectors are stored, and which of their vectors.

How long they stay is up to the stores; records.py has the layout on disk. Imports recipes and numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.recipes import Recipe

if TYPE_CHECKING:
    from skembed.encoding.cache.embedding_cache import Store

_TEXTS_LOOKED_UP = 64  # of a chunk, to see whether its texts are being compared by pooling


def recipes_to_keep(
    store: Store, requested: Mapping[Recipe, int], poolings: Mapping[Recipe, int], texts: Sequence[str], n_chunks: float
) -> dict[Recipe, int]:
    """Return the recipes to compute and keep in one pass; those that were requested come last.

    If the cache knows the texts by another pooling, the caller is comparing poolings. Then the pass computes all of
    them, so that trying them one after the other takes two passes. It does not if they would fill more than half of
    the cache and evict what is still needed.

    Parameters
    ----------
    store : MemoryStore or DiskStore
    requested, poolings : mapping from Recipe to int
        The recipes that were requested, those of all single poolings, and the dimensions of their vectors.
    texts : sequence of str
        Those of one chunk.
    n_chunks : float
        Number of such chunks in the call.
    """
    others = {recipe: dim for recipe, dim in poolings.items() if recipe not in requested}
    some, recipes = texts[:_TEXTS_LOOKED_UP], others | dict(requested)
    if all(len(store.missing(recipe, some)) == len(some) for recipe in others):
        return dict(requested)
    n_bytes = n_chunks * sum(store.estimate_bytes(texts, dim) for dim in recipes.values())
    return recipes if 2 * n_bytes <= store.limit() else dict(requested)


def keep(
    store: Store, texts: list[str], n_tokens: NDArray[np.int64], vectors_by: Mapping[Recipe, NDArray[np.float32]]
) -> None:
    """Store the vectors and token counts of a batch, but no recipe with an infinite number or NaN among its vectors."""
    store.write(texts, n_tokens, {recipe: found for recipe, found in vectors_by.items() if np.isfinite(found).all()})
