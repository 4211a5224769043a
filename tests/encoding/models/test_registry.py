"""Models are loaded once and shared: by name or as objects, in threads and after forks."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer

import skembed
from skembed import SentenceEmbeddingTransformer, embed
from skembed.encoding.models import registry
from skembed.encoding.settings import Settings
from tests.tiny_models import make_bert

pytestmark = pytest.mark.usefixtures("no_models_left")


def test_one_copy_serves_all_calls_clones_and_settings(tiny, loads):
    from sklearn.base import clone

    transformer = SentenceEmbeddingTransformer(tiny, cache=None).fit(["a"])
    clone(transformer).set_params(pooling="cls").transform(["b"])
    embed(["c"], model=Path(tiny), layers=0)
    assert loads == [tiny]


def test_threads_that_ask_at_once_share_one_copy_and_get_right_vectors(tiny, loads, mixed_texts):
    texts = [text for text in mixed_texts if len(text) < 60]
    limits = [6, 9, 24] * 4
    params = {"model": tiny, "long_texts": "mean", "cache": None}
    expected = {limit: embed(texts, max_seq_length=limit, **params) for limit in limits}
    skembed.unload_models()
    loads.clear()
    results: dict[int, np.ndarray] = {}

    def work(number):
        results[number] = embed(texts, max_seq_length=limits[number], **params)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(limits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert loads == [tiny]
    for number, limit in enumerate(limits):
        assert_allclose(results[number], expected[limit], atol=1e-6)


def test_threads_that_want_the_same_texts_encode_them_once(tiny, counted):
    threads = [
        threading.Thread(target=embed, args=([f"text {i}" for i in range(50)],), kwargs={"model": tiny})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(counted) == 50


def test_a_folder_that_has_changed_is_loaded_again(tmp_path, loads):
    folder = make_bert(tmp_path / "model", seed=1)
    before = embed(["fox"], model=folder)
    make_bert(tmp_path / "model", seed=2)
    after = embed(["fox"], model=folder)
    assert len(loads) == 2
    assert_allclose(after, SentenceTransformer(folder, device="cpu").encode(["fox"]), atol=1e-5)
    assert not np.allclose(before, after, atol=1e-3)


def test_a_file_that_does_not_count_does_not_load_a_model_again(tmp_path, loads):
    folder = make_bert(tmp_path / "model")
    embed(["fox"], model=folder)
    Path(folder, "notes.txt").write_text("new")
    Path(folder, "tokenizer.json").touch()
    embed(["dog"], model=folder)
    assert len(loads) == 1


class Waiting:
    """Replaces the loading of models by name: for those called "slow" it waits until the test goes on."""

    def __init__(self, monkeypatch, template):
        self.started, self.go_on, self.names = threading.Event(), threading.Event(), []
        self._template = template
        monkeypatch.setattr(registry, "load_named", self._load)

    def _load(self, name, *_):
        self.names.append(name)
        if name.endswith("slow"):
            self.started.set()
            assert self.go_on.wait(60)
        return dataclasses.replace(self._template, name=name)


@pytest.fixture
def waiting(tiny, tmp_path, monkeypatch):
    """A process in which a thread is loading the folder ``tmp_path / "slow"``."""
    embed(["a"], model=tiny)
    (template,) = registry._loaded.values()
    waiting = Waiting(monkeypatch, template)
    for name in ("slow", "fast"):
        shutil.copytree(tiny, tmp_path / name)
    thread = threading.Thread(target=registry.get_model, args=(Settings(model=tmp_path / "slow"),))
    thread.start()
    assert waiting.started.wait(60)
    yield waiting
    waiting.go_on.set()
    thread.join(60)


def test_a_loaded_model_does_not_wait_for_another_to_load(waiting, tiny):
    model = registry.get_model(Settings(model=tiny))
    assert model.name == tiny
    assert len(waiting.names) == 1


def test_two_threads_that_load_different_models_do_not_wait_for_each_other(waiting, tmp_path):
    assert registry.get_model(Settings(model=tmp_path / "fast")).name.endswith("fast")


def test_two_threads_that_want_the_same_model_load_it_once(waiting, tmp_path):
    found = []
    other = threading.Thread(target=lambda: found.append(registry.get_model(Settings(model=tmp_path / "slow"))))
    other.start()
    waiting.go_on.set()
    other.join(60)
    assert len(waiting.names) == len(found) == 1


def test_after_a_load_that_failed_the_next_call_tries_again(tiny, monkeypatch):
    monkeypatch.setattr(registry, "load_named", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        registry.get_model(Settings(model=tiny))
    monkeypatch.undo()
    assert embed(["a"], model=tiny, backend="torch").shape == (1, 32)


def test_a_cached_text_does_not_wait_for_the_encoding_of_another_thread(tiny):
    embed(["fox"], model=tiny)
    (model,) = registry._loaded.values()
    done = threading.Event()
    with model.lock:
        thread = threading.Thread(target=lambda: (embed(["fox"], model=tiny), done.set()))
        thread.start()
        assert done.wait(60)
    thread.join(60)


def test_deep_copies_of_a_live_model_share_one_resident_copy(tiny):
    original = SentenceTransformer(tiny, device="cpu")
    twin = copy.deepcopy(original)
    embed(["a"], model=original, cache=None)
    embed(["a"], model=twin, cache=None)
    assert [model.backend.sentence_transformer for model in registry._loaded.values()] == [original]


def test_a_live_model_that_is_trained_on_gives_its_new_vectors(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    before = embed(["fox"], model=model)
    for parameter in model.parameters():
        parameter.data.mul_(1.3)
    assert_allclose(embed(["fox"], model=model), model.encode(["fox"]), atol=1e-5)
    assert not np.allclose(before, embed(["fox"], model=model), atol=1e-4)


def test_a_deep_copy_is_not_served_by_an_original_that_was_trained_on(tiny):
    original = SentenceTransformer(tiny, device="cpu")
    twin = copy.deepcopy(original)
    expected = embed(["fox"], model=original)
    for parameter in original.parameters():
        parameter.data.mul_(1.3)
    assert_allclose(embed(["fox"], model=twin, cache=None), expected, atol=1e-6)


def test_superseded_live_models_are_not_kept(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    for _ in range(3):
        embed(["fox"], model=model)
        next(model.parameters()).data.mul_(1.1)
    gc.collect()
    assert len(registry._loaded) == 1


def test_superseded_copies_in_another_precision_are_not_kept(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    for _ in range(3):
        embed(["fox"], model=model, dtype="bfloat16")
        next(model.parameters()).data.mul_(1.1)
    assert len(registry._loaded) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(tiny):
    embed(["a"], model=tiny)
    held, release = threading.Event(), threading.Event()

    def hold():
        with registry._registry_lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        free = registry._registry_lock.acquire(timeout=5)
        os._exit(0 if free else 1)
    _, status = os.waitpid(child, 0)
    release.set()
    holder.join(60)
    assert os.waitstatus_to_exitcode(status) == 0
