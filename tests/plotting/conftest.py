"""Fixtures of the tests of plotting: pyplot in memory, vectors, an embedder, and libraries that are not installed."""

from __future__ import annotations

import importlib

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans

from skembed import SentenceEmbeddingTransformer
from skembed.embedders import resolve_embedder, unit_vectors


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


class Topics(ClusterMixin, BaseEstimator):
    """What the displays need of a topic model: two topics, with their names and sizes."""

    def __init__(self, embedder=None):
        self.embedder = embedder

    def fit(self, X, y=None):
        self.embedder_ = resolve_embedder(self.embedder, missing="nan")
        vectors = unit_vectors(X, self.embedder_)
        self.centers_ = KMeans(2, n_init=1, random_state=0).fit(vectors[~np.isnan(vectors).any(axis=1)])
        self.labels_ = self.predict(vectors)
        sizes = np.bincount(self.labels_[self.labels_ >= 0], minlength=2)
        index = pd.RangeIndex(2, name="topic")
        self.topics_ = pd.DataFrame({"size": sizes, "name": ["first, one", "second, one"]}, index=index)
        return self

    def predict(self, X):
        vectors = unit_vectors(X, self.embedder_)
        has_text = ~np.isnan(vectors).any(axis=1)
        labels = np.full(len(vectors), -1)
        labels[has_text] = self.centers_.predict(vectors[has_text])
        return labels

    def over(self, times, freq=None, by=None):
        times = pd.Series(times) if freq is None else pd.Series(times).dt.to_period(freq)
        labels = pd.Series(self.labels_, name="topic")
        return pd.crosstab([times] if by is None else [pd.Series(by, name="product"), times], labels)


@pytest.fixture
def topic_model(embedder) -> Topics:
    """A topic model that is not fitted."""
    return Topics(embedder)


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
