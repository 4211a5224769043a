"""Models are loaded from folders that change, are damaged, hold code or other things than files."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer

import skembed
from skembed import ModelNotFoundError, SentenceEmbeddingTransformer, embed
from skembed.encoding.models import folders, loading, registry
from skembed.encoding.models.fingerprint import FolderState
from skembed.encoding.settings import Settings
from tests.tiny_models import make_bert

pytestmark = pytest.mark.usefixtures("no_models_left")


def replace_while_loading(monkeypatch, replace):
    """Call ``replace`` with the folder each time after its weights were read."""
    original = loading._construct

    def construct(source, *rest, **params):
        loaded = original(source, *rest, **params)
        replace(source)
        return loaded

    monkeypatch.setattr(loading, "_construct", construct)


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "by another folder"])
def test_a_folder_replaced_while_it_loads_never_gets_the_vectors_of_the_other(in_place, tmp_path, monkeypatch):
    folder, other = make_bert(tmp_path / "model", seed=1), make_bert(tmp_path / "other", seed=2)
    before = embed(["fox"], model=folder, cache=None)
    skembed.unload_models()

    def replace(source):
        if not Path(other).exists() or Path(f"{source}/replaced").exists():
            return
        if in_place:
            shutil.copy(Path(other, "model.safetensors"), Path(source, "model.safetensors"))
            Path(source, "replaced").touch()
        else:
            Path(source).rename(f"{source}-old")
            Path(other).rename(source)

    replace_while_loading(monkeypatch, replace)
    vectors = embed(["fox"], model=folder)
    (model,) = registry._loaded.values()
    assert model.fingerprint == FolderState(folder).fingerprint
    assert_allclose(vectors, SentenceTransformer(folder, device="cpu").encode(["fox"]), atol=1e-5)
    assert not np.allclose(vectors, before, atol=1e-3)


def test_a_file_edited_twice_within_a_tick_of_the_clock_is_noticed(tmp_path, monkeypatch):
    folder = make_bert(tmp_path / "model", seed=1)
    weights = Path(folder, "model.safetensors")
    monkeypatch.setattr("skembed.encoding.models.files.stamp_of", lambda _: (1, 2, time.time_ns()))  # tells nothing
    monkeypatch.setattr("skembed.encoding.models.files.ModelFiles.are_unchanged", lambda _: True)
    content = bytearray(weights.read_bytes())
    content[-3] ^= 0x40
    edits = iter([bytes(content)])
    replace_while_loading(monkeypatch, lambda _: [weights.write_bytes(new) for new in edits])
    vectors = embed(["fox"], model=folder)
    assert_allclose(vectors, SentenceTransformer(folder, device="cpu").encode(["fox"]), atol=1e-6)
    (model,) = registry._loaded.values()
    assert model.fingerprint == FolderState(folder).fingerprint


def test_a_folder_that_keeps_changing_is_an_error(tmp_path, monkeypatch):
    folder = make_bert(tmp_path / "model")
    seeds = iter(range(1, 100))
    replace_while_loading(monkeypatch, lambda _: make_bert(tmp_path / "model", seed=next(seeds)))
    with pytest.raises(ModelNotFoundError, match="its folder changes while it is read"):
        embed(["fox"], model=folder)


def test_a_file_that_is_half_written_while_its_folder_loads_is_one_clear_error(tmp_path, monkeypatch):
    folder = make_bert(tmp_path / "model")
    half = tmp_path / "model" / "tokenizer_config.json"
    replace_while_loading(monkeypatch, lambda _: half.write_bytes(half.read_bytes()[:20]))
    with pytest.raises(ModelNotFoundError, match=r"tokenizer_config\.json"):
        embed(["fox"], model=folder)


def test_a_snapshot_that_is_newer_than_the_load_is_not_taken_for_what_was_loaded(hub_model, monkeypatch):
    """Another process may fetch the next revision after we loaded the model and before we look at the cache."""
    other = folders.hub_snapshot(hub_model, "v1")
    snapshots = iter([folders.hub_snapshot(hub_model, None), other])
    monkeypatch.setattr(loading, "hub_snapshot", lambda *_: next(snapshots))
    vectors = embed(["fox"], model=hub_model, local_files_only=True)
    (model,) = registry._loaded.values()
    assert model.fingerprint == FolderState(other).fingerprint
    assert_allclose(vectors, SentenceTransformer(other, device="cpu").encode(["fox"]), atol=1e-5)


def test_a_model_without_a_folder_keeps_its_fingerprint_in_another_precision(hub_model, monkeypatch):
    monkeypatch.setattr(loading, "hub_snapshot", lambda *_: None)
    transformer = SentenceEmbeddingTransformer(hub_model, local_files_only=True).fit(["fox"])
    assert transformer.set_params(dtype="bfloat16").transform(["fox"]).shape == (1, 32)


def test_models_are_built_one_after_the_other(model_folder, monkeypatch):
    """While transformers builds a model, it exchanges functions of torch's and its own for the whole process."""
    inside, most, original = [], [], SentenceTransformer.__init__

    def build(self, *args, **params):
        inside.append(1)
        most.append(len(inside))
        original(self, *args, **params)
        inside.pop()

    monkeypatch.setattr(SentenceTransformer, "__init__", build)
    kinds = ["bert", "roberta", "decoder", "static"]
    folders = [model_folder(kind) for kind in kinds]
    most.clear()
    threads = [threading.Thread(target=registry.get_model, args=(Settings(model=folder),)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * len(kinds)


def test_a_plain_transformers_folder_is_mean_pooled(tiny):
    plain = f"{tiny}-plain"
    vectors = embed(["a fox", "dog"], model=plain)
    assert_allclose(vectors, SentenceTransformer(plain, device="cpu").encode(["a fox", "dog"]), atol=1e-5)


def test_an_adapter_is_identified_by_its_weights_and_those_of_its_base(tiny, tmp_path):
    peft = pytest.importorskip("peft")
    folders = []
    for number, base in enumerate([f"{tiny}-plain", f"{make_bert(tmp_path / 'base', seed=5)}-plain"]):
        model = SentenceTransformer(tiny, device="cpu")
        model[0].model.load_state_dict(SentenceTransformer(base, device="cpu")[0].model.state_dict())
        model.add_adapter(peft.LoraConfig(target_modules=["query"], r=2, init_lora_weights=True))
        folders.append(str(tmp_path / str(number)))
        model.save(folders[-1])
        config = Path(folders[-1], "adapter_config.json")
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
    shutil.copy(Path(folders[0], "adapter_model.safetensors"), Path(folders[1], "adapter_model.safetensors"))
    for folder in folders:
        expected = SentenceTransformer(folder, device="cpu").encode(["fox"])
        assert_allclose(embed(["fox"], model=folder), expected, atol=1e-5)
    assert len({model.fingerprint for model in registry._loaded.values()}) == 2


def test_a_model_that_does_not_exist_is_an_error_that_names_it():
    with pytest.raises(ModelNotFoundError, match="model='no/such-model' could not be loaded"):
        embed(["a"], model="no/such-model", local_files_only=True)


def test_a_missing_model_is_an_oserror_with_its_cause():
    with pytest.raises(OSError, match="no-such-model") as caught:
        embed(["a"], model="no-such-model", local_files_only=True)
    assert caught.value.__cause__ is not None


def test_code_that_comes_with_a_model_is_not_run(tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "remote"))
    modules = (
        (folder / "modules.json")
        .read_text()
        .replace("sentence_transformers.sentence_transformer.modules.pooling.Pooling", "evil.Pooling")
    )
    (folder / "modules.json").write_text(modules)
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    assert "evil" in modules
    with pytest.raises(Exception, match="trust_remote_code"):
        embed(["a"], model=str(folder))


def cut_the_weights(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def break_a_link(folder: Path) -> None:
    (folder / "config.json").rename(folder / "elsewhere.json")
    (folder / "config.json").symlink_to(folder / "nowhere")


@pytest.mark.parametrize(
    "damage",
    [
        cut_the_weights,
        lambda folder: (folder / "modules.json").write_text("{"),
        lambda folder: (folder / "tokenizer.json").write_bytes(b"\xff"),
        lambda folder: (folder / "config.json").unlink(),
        break_a_link,
    ],
    ids=["weights cut", "broken modules.json", "broken tokenizer", "no config.json", "broken link"],
)
def test_a_damaged_folder_is_one_error_that_names_it(damage, tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "damaged"))
    damage(folder)
    with pytest.raises(ModelNotFoundError, match=r"damaged' could not be loaded. The folder may be damaged"):
        embed(["a"], model=str(folder))


@pytest.mark.parametrize(
    ("file", "content"),
    [("modules.json", '{"a": 1}'), ("1_Pooling/config.json", '{"pooling_mode": 3}')],
    ids=["wrong modules.json", "wrong pooling"],
)
def test_a_folder_with_a_wrong_configuration_is_one_error_that_names_it(file, content, tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "wrong"))
    (folder / file).write_text(content)
    with pytest.raises(ModelNotFoundError, match=r"wrong' could not be loaded. A configuration file has a wrong entry"):
        embed(["a"], model=str(folder))


def test_a_bug_in_a_library_is_not_called_damage(tiny, monkeypatch):
    def mistaken(*_, **__):
        raise AttributeError("'NoneType' object has no attribute 'shape'")

    monkeypatch.setattr(SentenceTransformer, "__init__", mistaken)
    with pytest.raises(ModelNotFoundError, match=r"could not be loaded.*at fault.*no attribute 'shape'") as caught:
        embed(["a"], model=tiny)
    assert "damaged" not in str(caught.value)


def test_a_bug_of_our_own_is_not_blamed_on_the_model(tiny, monkeypatch):
    def mistaken(*_):
        raise AttributeError("a bug of our own")

    monkeypatch.setattr(loading, "_cast", mistaken)
    with pytest.raises(AttributeError, match="a bug of our own"):
        embed(["a"], model=tiny)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "README.md", "modules.json"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["a pipe", "a link to a device"]
)
def test_what_is_not_a_regular_file_is_refused_unread(make, file, tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "special"))
    (folder / file).unlink(missing_ok=True)
    make(folder / file)
    with pytest.raises(ModelNotFoundError, match=rf"{file} is not a regular file|without a model"):
        embed(["a"], model=str(folder))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_that_loading_does_not_read_does_no_harm(tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "special"))
    os.mkfifo(folder / "log")
    assert_allclose(embed(["fox"], model=str(folder)), embed(["fox"], model=tiny))
