"""What the cache keeps of a pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skembed.encoding.cache.memory_store import MemoryStore
from skembed.encoding.cache.retention import keep, recipes_to_keep
from skembed.encoding.recipes import Recipe

MEAN = Recipe(1, "model", "torch", "float32", "", 24, False, None, ("mean",))
MAX, CLS = replace(MEAN, pooling=("max",)), replace(MEAN, pooling=("cls",))
POOLINGS = {MEAN: 4, MAX: 4, CLS: 4}
TEXTS = ["a fox", "a dog"]


def store_with(recipe: Recipe | None, **params) -> MemoryStore:
    store = MemoryStore(**params)
    if recipe is not None:
        keep(store, TEXTS, np.array([3, 3]), {recipe: np.ones((2, 4), np.float32)})
    return store


def test_of_new_texts_what_was_requested_is_kept():
    assert recipes_to_keep(store_with(None), {MEAN: 4}, POOLINGS, TEXTS, 1) == {MEAN: 4}


def test_of_texts_known_by_another_pooling_all_poolings_are_kept_the_requested_one_last():
    kept = recipes_to_keep(store_with(MAX), {MEAN: 4}, POOLINGS, TEXTS, 1)
    assert kept == POOLINGS
    assert list(kept)[-1] == MEAN


def test_texts_known_by_the_same_pooling_say_nothing_about_others():
    assert recipes_to_keep(store_with(MEAN), {MEAN: 4}, POOLINGS, TEXTS, 1) == {MEAN: 4}


@pytest.mark.parametrize(("n_chunks", "n_kept"), [(1, 3), (1000, 1)])
def test_poolings_that_would_fill_half_of_the_cache_are_not_kept(n_chunks, n_kept):
    store = store_with(MAX, max_bytes=2**16)
    assert len(recipes_to_keep(store, {MEAN: 4}, POOLINGS, TEXTS, n_chunks)) == n_kept


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_recipe_with_a_number_that_is_not_finite_is_not_kept(number):
    store, bad = store_with(None), np.ones((2, 4), np.float32)
    bad[1, 2] = number
    keep(store, TEXTS, np.array([3, 3]), {MEAN: np.ones((2, 4), np.float32), MAX: bad})
    assert len(store.missing(MEAN, TEXTS)) == 0
    assert len(store.missing(MAX, TEXTS)) == 2
