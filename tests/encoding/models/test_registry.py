"""Models are found, loaded once and shared: by name or as objects, in threads and after forks."""

from __future__ import annotations

import copy
import dataclasses
import gc
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
from skembed.encoding.models import devices, folders, loading, registry
from skembed.encoding.models.fingerprint import fingerprint_folder
from skembed.encoding.settings import Settings
from tests.tiny_models import make_bert


@pytest.fixture(autouse=True)
def _no_models_left():
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
    assert model.fingerprint == fingerprint_folder(folder)
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
    assert model.fingerprint == fingerprint_folder(folder)


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


@pytest.fixture
def other_kind(tiny, tmp_path):
    """``other_kind(name)``: the folder of a model that does not give dense vectors."""

    def make(kind: str) -> Path:
        folder = Path(shutil.copytree(f"{tiny}-plain" if "plain" in kind else tiny, tmp_path / "other"))
        config = folder / ("config.json" if "plain" in kind else "config_sentence_transformers.json")
        said = json.loads(config.read_text())
        if kind == "plain CrossEncoder":
            said["architectures"] = ["BertForSequenceClassification"]
        elif kind == "plain ColBERT":
            said["architectures"] = ["HF_ColBERT"]
        else:
            said["model_type"] = kind
        config.write_text(json.dumps(said))
        return folder

    return make


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("SparseEncoder", r"is a SparseEncoder: it gives sparse .*load it with sentence_transformers.SparseEncoder"),
        ("CrossEncoder", r"is a CrossEncoder: it scores pairs .*sentence_transformers.CrossEncoder"),
        ("MultiVectorEncoder", r"is a MultiVectorEncoder: it gives several vectors"),
        ("ColBERT", r"is a ColBERT: it gives several vectors .*sentence_transformers.MultiVectorEncoder"),
        ("Unheard", r"is a Unheard: it is of another kind"),
        ("plain CrossEncoder", r"is a CrossEncoder: it scores pairs"),
        ("plain ColBERT", r"is a ColBERT: it gives several vectors"),
    ],
)
def test_a_model_of_another_kind_is_refused_and_named(kind, said, other_kind):
    with pytest.raises(ValueError, match=said):
        embed(["a"], model=other_kind(kind))


def test_a_model_of_another_kind_on_the_hub_is_refused_too(hub_model):
    folder = Path(folders.hub_snapshot(hub_model, None))
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "SparseEncoder"}')
    with pytest.raises(ValueError, match="is a SparseEncoder"):
        embed(["a"], model=hub_model, local_files_only=True)


def test_a_loaded_model_of_another_kind_is_refused_and_named(tiny):
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    model = SparseEncoder(modules=[SentenceTransformer(tiny, device="cpu")[0], SpladePooling()], device="cpu")
    with pytest.raises(TypeError, match="loaded SentenceTransformer; got SparseEncoder"):
        embed(["a"], model=model)


def test_a_plain_transformers_folder_is_mean_pooled(tiny):
    plain = f"{tiny}-plain"
    vectors = embed(["a fox", "dog"], model=plain)
    assert_allclose(vectors, SentenceTransformer(plain, device="cpu").encode(["a fox", "dog"]), atol=1e-5)


def test_the_packaged_default_model_needs_no_network(minilm_folder, loads):
    vectors = embed(["fox"], model="all-MiniLM-L6-v2")
    assert_allclose(vectors, SentenceTransformer(minilm_folder, device="cpu").encode(["fox"]), atol=1e-5)


@pytest.mark.parametrize("name", sorted(folders._OFFICIAL_SHA256))
def test_a_package_with_a_file_that_is_not_the_official_one_is_not_used(name, minilm_folder, tmp_path, monkeypatch):
    package = tmp_path / folders._PACKAGE
    shutil.copytree(minilm_folder, package / "model")
    (package / "__init__.py").touch()
    with (package / "model" / name).open("ab") as file:
        file.write(b" ")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, folders._PACKAGE, raising=False)
    with pytest.warns(UserWarning, match=rf"{name} is not the official one"):
        assert folders._packaged_folder() is None


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(folders, "_packaged_folder", lambda: None)
    with pytest.raises(ModelNotFoundError, match=r"pip install 'skembed\[offline\]'"):
        embed(["a"], model="all-MiniLM-L6-v2", local_files_only=True)


def test_a_model_that_does_not_exist_is_an_error_that_names_it():
    with pytest.raises(ModelNotFoundError, match="model='no/such-model' could not be loaded"):
        embed(["a"], model="no/such-model", local_files_only=True)


def test_a_missing_model_is_an_oserror_with_its_cause():
    with pytest.raises(OSError, match="no-such-model") as caught:
        embed(["a"], model="no-such-model", local_files_only=True)
    assert caught.value.__cause__ is not None


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


def test_a_hub_model_is_found_in_the_local_cache(hub_model, tiny):
    transformer = SentenceEmbeddingTransformer(hub_model, local_files_only=True).fit(["fox"])
    assert_allclose(transformer.transform(["fox"]), embed(["fox"], model=tiny), atol=1e-6)
    assert transformer.model_fingerprint_ == SentenceEmbeddingTransformer(tiny).fit(["fox"]).model_fingerprint_


def test_two_revisions_of_a_hub_model_are_two_models(hub_model):
    main = embed(["fox"], model=hub_model, local_files_only=True)
    v1 = embed(["fox"], model=hub_model, revision="v1", local_files_only=True)
    assert not np.allclose(main, v1, atol=1e-3)
    assert_allclose(embed(["fox"], model=hub_model, local_files_only=True), main)


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


def test_a_folder_without_a_model_is_refused_at_once():
    with pytest.raises(ModelNotFoundError, match="model='/' is a folder without a model"):
        embed(["a"], model="/")


def test_a_model_without_a_folder_keeps_its_fingerprint_in_another_precision(hub_model, monkeypatch):
    monkeypatch.setattr(loading, "hub_snapshot", lambda *_: None)
    transformer = SentenceEmbeddingTransformer(hub_model, local_files_only=True).fit(["fox"])
    assert transformer.set_params(dtype="bfloat16").transform(["fox"]).shape == (1, 32)


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


@pytest.mark.parametrize("device", ["hpu", "mkldnn", "cuda:77", "gpu", "cpu:x", "meta"])
def test_a_device_that_is_not_available_is_refused(device, tiny):
    with pytest.raises(ValueError, match=f"device='{device}' is not available on this machine"):
        embed(["a"], model=tiny, device=device)


def test_auto_is_the_best_available_device(monkeypatch):
    import torch

    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert devices.resolve_devices("auto", None)[0].startswith(expected)


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


def test_a_snapshot_that_is_newer_than_the_load_is_not_taken_for_what_was_loaded(hub_model, monkeypatch):
    """Another process may fetch the next revision after we loaded the model and before we look at the cache."""
    other = folders.hub_snapshot(hub_model, "v1")
    snapshots = iter([folders.hub_snapshot(hub_model, None), other])
    monkeypatch.setattr(loading, "hub_snapshot", lambda *_: next(snapshots))
    vectors = embed(["fox"], model=hub_model, local_files_only=True)
    (model,) = registry._loaded.values()
    assert model.fingerprint == fingerprint_folder(other)
    assert_allclose(vectors, SentenceTransformer(other, device="cpu").encode(["fox"]), atol=1e-5)


@pytest.mark.parametrize(("name", "asked"), [("some/model", ["some/model"]), ("m", ["sentence-transformers/m", "m"])])
def test_weights_are_downloaded_before_other_models_have_to_wait(name, asked, monkeypatch):
    seen = []

    def fetch(repository, file, **_):
        assert file == "model.safetensors"
        seen.append(repository)
        raise OSError("there is none")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    folders.fetch_weights(name, Settings(model=name))
    assert seen == asked


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


class TestTheSnapshotOfAHubModel:
    """Which folder of the hub's local cache may be used without loading the model first."""

    def test_is_used_without_asking_the_hub_where_that_is_forbidden(self, hub_model, monkeypatch):
        monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked"))
        snapshot = folders.current_snapshot(hub_model, Settings(model=hub_model, local_files_only=True))
        assert snapshot == folders.hub_snapshot(hub_model, None)

    @pytest.mark.parametrize("revision", [None, "v1"])
    def test_is_used_if_the_hub_still_has_the_same(self, revision, hub_model, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        snapshot = folders.hub_snapshot(hub_model, revision)
        asked = []

        def answer(repository, file, **params):
            asked.append((repository, file, params["revision"]))
            return f"{snapshot}/{file}"

        monkeypatch.setattr("huggingface_hub.hf_hub_download", answer)
        assert folders.current_snapshot(hub_model, Settings(model=hub_model, revision=revision)) == snapshot
        assert asked == [("some/model", "config.json", revision)]

    def test_is_not_used_if_the_hub_has_another_one_now(self, hub_model, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        newer = folders.hub_snapshot(hub_model, None) + "0"
        monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: f"{newer}/config.json")
        assert folders.current_snapshot(hub_model, Settings(model=hub_model)) is None

    def test_is_not_used_if_the_hub_does_not_answer(self, hub_model, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

        def fail(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        assert folders.current_snapshot(hub_model, Settings(model=hub_model)) is None

    def test_is_none_for_a_model_that_does_not_exist(self):
        assert folders.current_snapshot("no/model", Settings(model="no/model")) is None


@pytest.mark.parametrize(
    ("listed", "expected"),
    [(["null", "zero"], True), (["null", "nvidia0"], False), (["kfd"], False), (["dxg"], False), (["nvidiactl"], True)],
)
def test_an_accelerator_is_seen_without_torch(listed, expected, tmp_path, monkeypatch):
    for name in listed:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "_DEVICE_FILES", str(tmp_path))
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.delitem(devices.sys.modules, "torch", raising=False)
    assert devices._has_only_cpu() is expected


def test_auto_is_torch_where_openvino_is_not_installed(tiny, monkeypatch):
    monkeypatch.setattr(devices, "_has_openvino", lambda: False)
    embed(["a"], model=tiny, cache=None)
    assert {model.backend.name for model in registry._loaded.values()} == {"torch"}


def test_without_openvino_the_error_names_the_command_that_installs_it(tiny, monkeypatch):
    monkeypatch.setattr(devices, "_has_openvino", lambda: False)
    monkeypatch.setitem(devices.sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"backend='openvino' needs openvino: pip install 'skembed\[openvino\]'"):
        embed(["a"], model=tiny, backend="openvino")
