"""Fixtures of the tests of plotting: pyplot in memory, vectors, an embedder, and libraries that are not installed."""

from __future__ import annotations

import importlib

import matplotlib.pyplot
import numpy as np
import pytest

from skembed import SentenceEmbeddingTransformer, TopicModel


@pytest.fixture(autouse=True)
def plt():
    """pyplot, drawing to memory; its figures are closed afterwards."""
    matplotlib.pyplot.switch_backend("agg")
    yield matplotlib.pyplot
    matplotlib.pyplot.close("all")


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny, missing="nan")


@pytest.fixture
def topic_model(embedder) -> TopicModel:
    """A model of two topics that is not fitted."""
    return TopicModel(2, embedder=embedder)


@pytest.fixture
def without(monkeypatch):
    """``without(library)``: as if it were not installed."""
    import_module = importlib.import_module

    def hide(library: str) -> None:
        def importing(module: str):
            if module.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {library!r}", name=library)
            return import_module(module)

        monkeypatch.setattr(importlib, "import_module", importing)

    return hide
