"""Fixtures of the tests of training: texts of a tiny model's words, and data of every kind."""

from __future__ import annotations

import numpy as np
import pytest

WORDS = "the quick brown fox jumps over a lazy dog parcel was sent to wrong address sentence embeddings turn texts into"


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    """Forty-eight texts of six words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS.split(), 6)) for _ in range(48)]


@pytest.fixture(scope="session")
def training_data(corpus):
    """``training_data[kind]``: X and y."""
    texts, pairs = corpus, list(zip(corpus, corpus[1:] + corpus[:1], strict=True))
    return {
        "classes": (texts, ["a", "b"] * 24),
        "label_sets": (texts, [["a", "c"], ["b", "c"], ["a"], ["b", "d"]] * 12),
        "scores": (pairs, np.linspace(0, 5, 48)),
        "binary": (pairs, [0, 1] * 24),
        "pair_classes": (pairs, ["a", "b", "c"] * 16),
        "positives": (pairs, None),
        "triplets": ([(*pair, corpus[0]) for pair in pairs], None),
        "texts": (texts, None),
    }
