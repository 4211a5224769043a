"""Fixtures of the tests of models: nothing loaded, what is loaded, and a model of the hub's local cache."""

from __future__ import annotations

import shutil

import pytest

import skembed
from skembed.encoding.models import registry
from tests.tiny_models import make_bert


@pytest.fixture
def no_models_left():
    """A process without models, before and after the test."""
    skembed.unload_models()
    yield
    skembed.unload_models()


@pytest.fixture
def loads(monkeypatch):
    """The names of the models that were really loaded."""
    seen: list[str] = []
    original = registry.load_named
    monkeypatch.setattr(registry, "load_named", lambda name, *rest: (seen.append(name), original(name, *rest))[1])
    return seen


@pytest.fixture
def hub_model(tiny, tmp_path, monkeypatch):
    """``some/model``, with two revisions in the hub's local cache."""
    snapshots = tmp_path / "hub" / "models--some--model" / "snapshots"
    revisions = {"main": "a" * 40, "v1": "b" * 40}
    shutil.copytree(tiny, snapshots / revisions["main"])
    make_bert(snapshots / revisions["v1"], seed=7)
    shutil.rmtree(snapshots / f"{revisions['v1']}-plain")
    refs = snapshots.parent / "refs"
    refs.mkdir()
    for name, commit in revisions.items():
        (refs / name).write_text(commit)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "hub"))
    return "some/model"
