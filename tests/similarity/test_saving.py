"""SemanticSearch.save and load: the same results, no pickle, and a clear error for whatever has changed."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from sentence_transformers import SentenceTransformer
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

import skembed
from skembed import (
    ModelChangedError,
    ModelNotFoundError,
    SavedSearchError,
    SemanticSearch,
    SentenceEmbeddingFineTuner,
    SentenceEmbeddingTransformer,
    VectorArray,
    atomic,
)
from skembed.similarity import saving
from tests.interrupts import at_each_line
from tests.tiny_models import make_bert
from tests.training.fast import FAST

TEXTS = ["a quick fox", "the wrong address", "an update of the app", "a lazy dog", "login", "café 🦊"]
QUERIES = ["fox", "login", "漢字"]
INDEXES = ["auto", "hnsw"]
each_index = pytest.mark.parametrize("index", INDEXES)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "saved"


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny)


@pytest.fixture
def saved(folder, embedder) -> Path:
    SemanticSearch(embedder, n_neighbors=2).fit(TEXTS).save(folder)
    return folder


def reseal(folder: Path, change) -> None:
    """Change search.json and its checksum with it."""
    file = folder / "search.json"
    description = json.loads(file.read_text())
    del description["sha256"]
    change(description)
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**description, "sha256": digest}))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name != "writing.lock")


def assert_same_answers(loaded: SemanticSearch, search: SemanticSearch, queries=QUERIES) -> None:
    assert_frame_equal(loaded.search(queries), search.search(queries), check_exact=True)
    assert_array_equal(loaded.transform(queries), search.transform(queries))
    assert loaded.get_feature_names_out().tolist() == search.get_feature_names_out().tolist()


@pytest.fixture
def search_before(embedder) -> SemanticSearch:
    return SemanticSearch(embedder, n_neighbors=2).fit(TEXTS)


# The loaded search


@each_index
def test_a_loaded_search_gives_the_same_answers_bit_for_bit(index, folder, embedder):
    search = SemanticSearch(embedder, n_neighbors=3, index=index).fit(TEXTS)
    search.save(folder)
    loaded = SemanticSearch.load(folder)
    assert_same_answers(loaded, search)
    for found, expected in zip(loaded.kneighbors(), search.kneighbors(), strict=True):
        assert_array_equal(found, expected)
    assert_frame_equal(loaded.corpus_, search.corpus_)


@each_index
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 200), dim=st.integers(1, 20))
def test_vectors_come_back_bit_for_bit(index, seed, n, dim, tmp_path_factory):
    rows = np.random.default_rng(seed).normal(size=(n, dim))
    search, folder = SemanticSearch(index=index, n_neighbors=3).fit(rows), tmp_path_factory.mktemp("search")
    search.save(folder)
    loaded = SemanticSearch.load(folder)
    assert_array_equal(loaded._documents.index.index.vectors, search._documents.index.index.vectors)
    assert_frame_equal(loaded.search(rows), search.search(rows), check_exact=True)
    assert loaded.corpus_["text"].tolist() == [None] * n


@each_index
def test_parameters_come_back(index, folder, tiny):
    embedder = SentenceEmbeddingTransformer(
        tiny, pooling=("mean", "cls"), layers=(1, 2), truncate_dim=8, max_seq_length=12, missing="nan", cache=None
    )
    params = {"n_neighbors": 3, "index": index, "query_prompt": "Q: 漢", "document_prompt": None}
    SemanticSearch(embedder, **params).fit(TEXTS).save(folder)
    loaded = SemanticSearch.load(folder)
    assert {name: loaded.get_params()[name] for name in params} == params
    kept = {"pooling": ("mean", "cls"), "layers": (1, 2), "truncate_dim": 8, "max_seq_length": 12, "missing": "nan"}
    assert {name: loaded.get_params()[f"embedder__{name}"] for name in kept} == kept
    assert loaded.get_params()["embedder__cache"] == "memory"  # of the machine, not of the search


def test_numbers_of_numpy_are_numbers(folder, tiny):
    embedder = SentenceEmbeddingTransformer(tiny, truncate_dim=np.int64(8), normalize_embeddings=np.True_)
    search = SemanticSearch(embedder, n_neighbors=np.int64(2)).fit(TEXTS)
    search.save(folder)
    assert_same_answers(SemanticSearch.load(folder), search)


@each_index
@pytest.mark.parametrize(
    "y",
    [
        list("abacbc"), [1, 2, 1, 3, 2, 3], [True, False] * 3, np.array(list("abacbc"), dtype=object),
        pd.Categorical(list("abacbc")), [0.5, 1, 2, 3, 4, 5], np.float32([0.1, 1, 2, 3, 4, 5]),
        np.array([0.5, 1, 2, 3, 4, 5], dtype=object), np.array([1, 2, 1, 3, 2, 3], dtype=np.uint8),
        pd.array([0.5, 1, 2, 3, 4, 5], dtype="Float64"),
    ],
    ids=[
        "str", "whole numbers", "bool", "objects", "categories", "numbers", "float32", "numbers as objects", "uint8",
        "nullable",
    ],
)  # fmt: skip
def test_y_and_its_classes_come_back(index, y, folder, embedder):
    search = SemanticSearch(embedder, n_neighbors=2, index=index).fit(TEXTS, y)
    search.save(folder)
    loaded = SemanticSearch.load(folder)
    assert_same_answers(loaded, search)
    assert loaded.y_.tolist() == search.y_.tolist()
    assert hasattr(loaded, "classes_") == hasattr(search, "classes_")
    assert getattr(loaded, "classes_", np.empty(0)).tolist() == getattr(search, "classes_", np.empty(0)).tolist()


LABELS = {
    "text": pd.Index(list("uvwxyz")),
    "repeated numbers": pd.Index([7, 7, 3, 9, 9, 9]),
    "real numbers": pd.Index([0.5, 1, 2, 3, 4, 5]),
    "every other row": pd.RangeIndex(10, 22, 2),
    "dates": pd.date_range("2024-01-01", periods=6, freq=None),
    "dates with a zone": pd.date_range("2024-01-01", periods=6, tz="Europe/Berlin"),
    "periods": pd.period_range("2024", periods=6, freq="M"),
    "durations": pd.timedelta_range("1D", periods=6),
    "categories": pd.CategoricalIndex(list("abcabc")),
    "intervals": pd.interval_range(0, 6),
    "bool": pd.Index([True, False] * 3),
    "bytes": pd.Index([b"u", b"v", b"w", b"x", b"y", b"z"]),
    "several levels": pd.MultiIndex.from_product([["x", "y"], [1, 2, 3]]),
    "levels named like columns": pd.MultiIndex.from_product([["x", "y"], [1, 2, 3]], names=["text", "vector"]),
    "named like a column": pd.Index(list("uvwxyz"), name="y"),
    "some missing": pd.Index(["u", None, "w", "x", "y", "z"], dtype=object),
}


@pytest.mark.parametrize("kind", LABELS)
@each_index
def test_index_labels_come_back(index, kind, folder, embedder):
    search = SemanticSearch(embedder, index=index).fit(pd.Series(TEXTS, index=LABELS[kind], dtype=object), range(6))
    search.save(folder)
    found, expected = (made.search(QUERIES, k=6)["id"] for made in (SemanticSearch.load(folder), search))
    assert found.isna().tolist() == expected.isna().tolist()
    assert found.dropna().tolist() == expected.dropna().tolist()
    assert found.dtype == expected.dtype or kind == "some missing"


@pytest.mark.parametrize(
    "labels",
    [
        pd.Index([1, "a", 2, 3, 4, 5], dtype=object),
        pd.Index([2**70 + row for row in range(6)], dtype=object),
        pd.Index([frozenset([row]) for row in range(6)]),
        pd.Index([1j * row for row in range(6)]),
        pd.Index(["\ud800"] * 6, dtype=object),
    ],
    ids=["mixed", "huge", "sets", "complex", "surrogates"],
)
def test_index_labels_that_parquet_has_not_are_refused_and_nothing_is_written(labels, folder, embedder):
    search = SemanticSearch(embedder).fit(pd.Series(TEXTS, index=labels, dtype=object))
    with pytest.raises(TypeError, match="The index labels or y cannot be written to a parquet file"):
        search.save(folder)
    assert names(folder) == []


@each_index
@pytest.mark.parametrize("missing", ["nan", "zero", "empty"])
def test_missing_documents_stay_what_they_are(index, missing, folder, tiny):
    texts = ["a fox", None, "login", None, "a dog"]
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing=missing), n_neighbors=3, index=index).fit(texts)
    search.save(folder)
    loaded = SemanticSearch.load(folder)
    assert_same_answers(loaded, search)
    assert loaded.corpus_["text"].tolist() == texts


@each_index
def test_missing_vectors_are_not_found_after_loading(index, folder):
    SemanticSearch(index=index).fit(pd.Series(VectorArray([[1, 0], None, [0, 1], None]), index=list("abcd"))).save(
        folder
    )
    hits = SemanticSearch.load(folder).search([[0.1, 1.0]], k=2)
    assert hits["id"].tolist() == ["c", "a"]
    assert hits["text"].tolist() == [None, None]


@each_index
def test_a_loaded_search_grows_like_the_first(index, folder, embedder):
    search = SemanticSearch(embedder, n_neighbors=3, index=index).fit(TEXTS, list("aabbcc"))
    search.save(folder)
    loaded = SemanticSearch.load(folder).partial_fit(["a fox", "the app"], ["d", "d"])
    assert_same_answers(loaded, search.partial_fit(["a fox", "the app"], ["d", "d"]))


def test_a_loaded_search_can_be_saved_fitted_and_cloned_again(saved, tmp_path):
    loaded = SemanticSearch.load(saved)
    loaded.save(tmp_path / "again")
    assert_same_answers(SemanticSearch.load(tmp_path / "again"), loaded)
    assert names(tmp_path / "again") == names(saved)
    assert_same_answers(clone(loaded).fit(TEXTS), loaded)
    assert loaded.fit(["fox", "dog"]).search("fox", k=2)["position"].max() == 1


def test_texts_are_not_embedded_again(saved, counted):
    SemanticSearch.load(saved)
    assert counted == []


def test_an_index_parameter_set_after_fit_does_not_mislead(folder, embedder):
    search = SemanticSearch(embedder, n_neighbors=2).fit(TEXTS).set_params(index="hnsw")
    search.save(folder)
    loaded = SemanticSearch.load(folder)
    assert_same_answers(loaded, search)
    assert loaded.index == "hnsw"


# The folder


@each_index
def test_the_folder_holds_what_it_should_and_no_more(index, folder, embedder):
    SemanticSearch(embedder, index=index).fit(TEXTS).save(folder)
    kinds = [name.partition("-")[0] for name in names(folder)]
    assert kinds == ["corpus", *(["search.json", "vectors"] if index == "auto" else ["graph", "search.json"])]


@pytest.mark.parametrize("second", INDEXES)
@each_index
def test_saving_again_replaces_what_was_there(index, second, folder, embedder):
    SemanticSearch(embedder, index=index).fit(["fox", "dog"], [1, 2]).save(folder)
    search = SemanticSearch(embedder, n_neighbors=2, index=second).fit(TEXTS)
    search.save(folder)
    assert_same_answers(SemanticSearch.load(folder), search)
    assert len(names(folder)) == 3


def test_the_same_search_saved_twice_is_the_same_files(folder, embedder):
    search = SemanticSearch(embedder).fit(TEXTS)
    search.save(folder)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    search.save(folder)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "corpus-2024.parquet", "graph-old.faiss", "corpus-final.parquet", "corpus-0123456789abcdef.csv"],
)
def test_a_file_of_somebody_else_stays(name, folder, embedder):
    folder.mkdir()
    (folder / name).write_text("mine")
    for texts in (TEXTS, ["fox", "dog"]):
        SemanticSearch(embedder, n_neighbors=1).fit(texts).save(folder)
    assert (folder / name).read_text() == "mine"


def test_a_save_that_fails_leaves_the_search_that_was_there(saved, embedder):
    before = SemanticSearch.load(saved)
    search = SemanticSearch(embedder).fit(pd.Series(TEXTS, index=pd.Index([1, "a", 2, 3, 4, 5], dtype=object)))
    with pytest.raises(TypeError):
        search.save(saved)
    assert_same_answers(SemanticSearch.load(saved), before)
    assert len(names(saved)) == 3


@pytest.mark.parametrize("spell", [str, Path, lambda path: f"{path}/"], ids=["str", "Path", "with a slash"])
def test_folders_are_made_and_named_as_one_likes(spell, tmp_path, embedder):
    path = spell(tmp_path / "not yet" / "there 漢字 [a-z]*")
    search = SemanticSearch(embedder, n_neighbors=2).fit(TEXTS)
    search.save(path)
    search.save(path)
    assert_same_answers(SemanticSearch.load(path), search)


def test_the_folder_of_a_search_can_be_moved(saved, tmp_path, embedder):
    saved.rename(tmp_path / "moved")
    assert len(SemanticSearch.load(tmp_path / "moved").search("fox")) == 2


def test_the_name_of_a_model_folder_is_kept_whole(tiny, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(tiny).parent)
    search = SemanticSearch(SentenceEmbeddingTransformer(Path(tiny).name), n_neighbors=2).fit(TEXTS)
    search.save(folder)
    monkeypatch.chdir(tmp_path)
    loaded = SemanticSearch.load("saved")
    assert loaded.get_params()["embedder__model"] == tiny
    assert loaded.search("fox")["position"].tolist() == search.corpus_.index[loaded.kneighbors(["fox"])[1][0]].tolist()


@pytest.mark.slow
@each_index
def test_a_fresh_process_finds_the_same(index, folder, embedder):
    embedder.set_params(dtype="float32")
    search = SemanticSearch(embedder, n_neighbors=3, index=index).fit(TEXTS)
    search.save(folder)
    script = (
        "import sys, skembed; hits = skembed.SemanticSearch.load(sys.argv[1]).search(['fox', 'login']); "
        "print(hits['position'].tolist(), [score.hex() for score in hits['score']])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True, timeout=120
    )
    hits = search.search(["fox", "login"])
    assert said.stdout.split("] [")[0] + "]" == str(hits["position"].tolist())
    found = [float.fromhex(score.strip("' ]\n")) for score in said.stdout.split("] [")[1].split(",")]
    assert found == pytest.approx(hits["score"].tolist(), abs=1e-6)


def test_before_fit_nothing_is_saved(folder):
    with pytest.raises(NotFittedError):
        SemanticSearch().save(folder)
    assert not folder.exists()


@pytest.mark.parametrize("action", ["save", "load"])
def test_without_pyarrow_the_error_names_the_extra(action, saved, embedder, monkeypatch):
    search, import_module = SemanticSearch(embedder).fit(TEXTS), importlib.import_module

    def without_pyarrow(name, *rest):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return import_module(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_pyarrow)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'skembed\[parquet\]'"):
        search.save(saved) if action == "save" else SemanticSearch.load(saved)


# Damage


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, tiny) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=2, index="hnsw").fit(TEXTS, list("aabbcc")).save(
        folder
    )
    return folder


def flip(file: Path, share: float) -> None:
    content = bytearray(file.read_bytes())
    content[min(int(len(content) * share), len(content) - 1)] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "first byte": lambda file: flip(file, 0),
    "byte in the middle": lambda file: flip(file, 0.5),
    "last byte": lambda file: flip(file, 1),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-2]),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "deleted": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["corpus", "graph", "search"])
def test_a_damaged_file_is_one_clear_error(kind, damage, pristine, folder):
    shutil.copytree(pristine, folder)
    DAMAGE[damage](next(folder.glob(f"{kind}*")))
    is_gone = kind == "search" and damage in ("deleted", "a folder")  # then there is no search
    with pytest.raises(FileNotFoundError if is_gone else SavedSearchError) as raised:
        SemanticSearch.load(folder)
    assert str(folder) in str(raised.value)


def seal(description):
    """Return the description with its checksum, as ``save`` writes it."""
    written = json.dumps(description, sort_keys=True).encode()
    return json.dumps({**description, "sha256": hashlib.sha256(written).hexdigest()})


def without(description, path):
    inner = description
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return description


SEALED = {
    **{f"without {key}": (lambda found, key=key: without(found, [key])) for key in (
        "parameters", "embedder", "model_fingerprint", "maker", "files"
    )},
    "without a parameter": lambda found: without(found, ["parameters", "index"]),
    "without a parameter of the embedder": lambda found: without(found, ["embedder", "parameters", "pooling"]),
    "without the corpus": lambda found: without(found, ["files", "corpus"]),
    "without an index": lambda found: {**found, "files": {"corpus": found["files"]["corpus"]}},
    "without a name of a file": lambda found: without(found, ["files", "corpus", "name"]),
    "with a list of files": lambda found: {**found, "files": []},
    "with the version alone": lambda found: {"version": found["version"]},
}  # fmt: skip


@pytest.mark.parametrize("change", SEALED.values(), ids=SEALED)
def test_a_sealed_description_that_lacks_something_is_one_clear_error(change, pristine, folder):
    shutil.copytree(pristine, folder)
    description = json.loads((folder / "search.json").read_text())
    del description["sha256"]
    (folder / "search.json").write_text(seal(change(description)))
    with pytest.raises(SavedSearchError, match=r"search\.json was not written by skembed: it lacks"):
        SemanticSearch.load(folder)


@pytest.mark.parametrize(
    "written", [b"[" * 100_000, b"null", b'{"version": 1}', b"9" * 5000], ids=lambda b: repr(b[:9])
)
def test_json_of_something_else_is_one_clear_error(written, pristine, folder):
    shutil.copytree(pristine, folder)
    (folder / "search.json").write_bytes(written)
    with pytest.raises(SavedSearchError, match=r"search\.json is damaged"):
        SemanticSearch.load(folder)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10**9), mask=st.integers(1, 255))
def test_whatever_byte_of_the_description_is_flipped_it_is_noticed(position, mask, pristine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flipped")
    for name in names(pristine):
        (folder / name).symlink_to(pristine / name)
    content = bytearray((pristine / "search.json").read_bytes())
    content[position % len(content)] ^= mask
    (folder / "search.json").unlink()
    (folder / "search.json").write_bytes(content)
    try:
        says_the_same = json.loads(content) == json.loads((pristine / "search.json").read_bytes())
    except ValueError:
        says_the_same = False
    if says_the_same:  # such as other white space
        assert len(SemanticSearch.load(folder).search("fox")) == 2
        return
    with pytest.raises(SavedSearchError):
        SemanticSearch.load(folder)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", "5", '"text"', '{"version": 1}', '{"version": 1, "sha256": "0"}', "[" * 10, "\0"],
)
def test_an_invalid_description_is_one_clear_error(content, saved):
    (saved / "search.json").write_text(content)
    with pytest.raises(SavedSearchError):
        SemanticSearch.load(saved)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, [2]], ids=repr)
def test_another_version_is_named(version, saved):
    reseal(saved, lambda description: description.update(version=version))
    with pytest.raises(SavedSearchError, match=r"has version .*; this skembed reads version 2"):
        SemanticSearch.load(saved)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("a file")])
def test_a_folder_without_a_saved_search_is_a_clear_error(make, folder):
    make(folder)
    with pytest.raises(FileNotFoundError, match="No search is saved in"):
        SemanticSearch.load(folder)


# What a file must not decide


@each_index
def test_nothing_is_pickled_or_unpickled(index, folder, embedder, monkeypatch):
    search = SemanticSearch(embedder, index=index).fit(TEXTS, list("aabbcc"))
    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("pickle was used"))
    search.save(folder)
    assert len(SemanticSearch.load(folder).search("fox")) == 5


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "../saved/../secret", "a/../../secret"])
@pytest.mark.parametrize("kind", ["corpus", "graph"])
def test_no_name_in_the_description_leads_out_of_the_folder(kind, name, saved):
    secret = saved.parent / "secret"
    secret.write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    reseal(saved, lambda description: description["files"].update({kind: {"name": name, "sha256": digest}}))
    with pytest.raises(SavedSearchError, match="is missing"):
        SemanticSearch.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda description: description["embedder"]["parameters"].update(trust_remote_code=True),
        lambda description: description["embedder"].update(trust_remote_code=True),
        lambda description: description["parameters"].update(embedder__trust_remote_code=True),
        lambda description: description["parameters"].update(trust_remote_code=True),
    ],
    ids=["embedder's parameters", "embedder", "nested parameter", "search's parameters"],
)
def test_a_file_cannot_say_that_remote_code_is_to_be_trusted(change, saved):
    reseal(saved, change)
    loaded = SemanticSearch.load(saved)
    assert loaded.embedder.trust_remote_code is loaded.embedder_.trust_remote_code is False


def test_a_file_cannot_say_where_vectors_are_kept(saved, tmp_path):
    reseal(saved, lambda description: description["embedder"]["parameters"].update(cache=str(tmp_path / "cache")))
    reseal(saved, lambda description: description["parameters"].update(embedder__cache=str(tmp_path / "cache")))
    SemanticSearch.load(saved).search("fox")
    assert not (tmp_path / "cache").exists()


def test_an_embedder_that_trusts_remote_code_must_be_given(folder, tiny):
    embedder = SentenceEmbeddingTransformer(tiny, trust_remote_code=True)
    SemanticSearch(embedder, n_neighbors=2).fit(TEXTS).save(folder)
    assert "trust_remote_code" not in (folder / "search.json").read_text()
    with pytest.raises(ValueError, match=r"pass it: SemanticSearch.load\(path, embedder=...\)"):
        SemanticSearch.load(folder)
    assert len(SemanticSearch.load(folder, embedder=embedder).search("fox")) == 2


def test_no_hub_is_asked_for_the_model_that_a_file_names(saved, monkeypatch):
    def refuse(*_):
        asked.append(True)
        raise OSError("no network here")

    asked: list[bool] = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    reseal(saved, lambda description: description["embedder"].update(model="somebody/some-model"))
    with pytest.raises(
        ModelNotFoundError, match=r"'somebody/some-model' .*To download it: .*load\(path, local_files_only=False\)"
    ):
        SemanticSearch.load(saved)
    assert asked == []


def test_a_given_embedder_decides_itself_whether_the_hub_is_asked(saved):
    elsewhere = SentenceEmbeddingTransformer("somebody/some-model", local_files_only=True)
    hint = r"To download it: pass an embedder with local_files_only=False\. If it"
    with pytest.raises(ModelNotFoundError, match=hint):
        SemanticSearch.load(saved, embedder=elsewhere)


def test_a_model_in_the_home_folder_is_found(saved, search_before, tiny, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(Path(tiny).parent))
    embedder = SentenceEmbeddingTransformer(f"~/{Path(tiny).name}", local_files_only=True)
    assert_same_answers(SemanticSearch.load(saved, embedder=embedder), search_before)


def test_the_hub_is_asked_if_the_caller_allows_it(saved, monkeypatch):
    def ask(name, *, local_files_only, trust_remote_code, **_):
        asked.append((name, local_files_only, trust_remote_code))
        raise OSError("no network here")

    asked: list[tuple[str, bool, bool]] = []
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", ask)
    reseal(saved, lambda description: description["embedder"].update(model="somebody/some-model"))
    with pytest.raises(ModelNotFoundError, match="somebody/some-model"):
        SemanticSearch.load(saved, local_files_only=False)
    assert asked == [("somebody/some-model", False, False)]


@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_loaded_search_asks_the_hub_later_only_if_loading_was_allowed_to(local_files_only, saved):
    loaded = SemanticSearch.load(saved, local_files_only=local_files_only)
    assert loaded.embedder.local_files_only is loaded.embedder_.local_files_only is local_files_only
    reseal(saved, lambda description: description["embedder"]["parameters"].update(local_files_only=False))
    assert SemanticSearch.load(saved).embedder.local_files_only is True


# The embedder


@pytest.fixture
def own_model(tmp_path):
    """A model that a test may delete or replace."""
    return make_bert(tmp_path / "model", seed=11)


def test_a_model_that_is_gone_is_named(own_model, folder):
    SemanticSearch(SentenceEmbeddingTransformer(own_model), n_neighbors=2).fit(TEXTS).save(folder)
    os.rename(own_model, f"{own_model}-moved")
    with pytest.raises(ModelNotFoundError, match=r"is not found: .*If it is elsewhere now, name it: Sem"):
        SemanticSearch.load(folder)
    moved = SentenceEmbeddingTransformer(f"{own_model}-moved")
    assert len(SemanticSearch.load(folder, embedder=moved).search("fox")) == 2


def test_another_model_in_the_same_folder_is_refused(own_model, folder, tmp_path):
    SemanticSearch(SentenceEmbeddingTransformer(own_model)).fit(TEXTS).save(folder)
    shutil.rmtree(own_model)
    make_bert(tmp_path / "model", seed=12)
    with pytest.raises(ModelChangedError, match=r"is not the one that the corpus of .* was embedded with"):
        SemanticSearch.load(folder)


def test_another_model_that_is_given_is_refused(saved, model_folder):
    with pytest.raises(ModelChangedError, match="is not the one that the corpus"):
        SemanticSearch.load(saved, embedder=SentenceEmbeddingTransformer(model_folder("dense_raw")))


@pytest.mark.parametrize("index", INDEXES)
def test_the_vectors_of_the_corpus_come_back(index, folder, tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, missing="nan"), index=index)
    search.fit(["fox", None, "login", "fox"]).partial_fit(["a dog", None]).save(folder)
    assert_array_equal(SemanticSearch.load(folder).vectors_, search.vectors_)


def test_a_search_of_vectors_of_an_unknown_model_is_asked_with_texts_once_an_embedder_is_chosen(folder, embedder):
    SemanticSearch(n_neighbors=1).fit(np.eye(32)).save(folder)
    loaded = SemanticSearch.load(folder)
    assert loaded.embedder is None
    with pytest.raises(ValueError, match="nothing says which model made the vectors of the corpus"):
        loaded.search("fox")
    assert len(SemanticSearch.load(folder, embedder=embedder).search("fox")) == 1


def test_vectors_need_no_model_to_come_back(own_model, folder):
    SemanticSearch(SentenceEmbeddingTransformer(own_model), n_neighbors=1).fit(np.eye(3)).save(folder)
    shutil.rmtree(own_model)
    assert SemanticSearch.load(folder).search(np.eye(3))["position"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("freeze", [lambda e: e, lambda e: FrozenEstimator(e.fit(["a"]))], ids=["as it is", "frozen"])
def test_an_embedder_that_is_given_stays_the_parameter(freeze, saved, search_before, tiny):
    embedder = freeze(SentenceEmbeddingTransformer(tiny))
    loaded = SemanticSearch.load(saved, embedder=embedder)
    assert loaded.embedder is embedder
    assert_frame_equal(loaded.search("fox"), search_before.search("fox"))


def test_a_loaded_model_must_be_given_again(tiny, folder):
    embedder = SentenceEmbeddingTransformer(SentenceTransformer(tiny, device="cpu"))
    search = SemanticSearch(embedder, n_neighbors=2).fit(TEXTS)
    search.save(folder)
    with pytest.raises(
        ValueError, match=r"cannot be read from a file .*; pass it: SemanticSearch.load\(path, embedder="
    ):
        SemanticSearch.load(folder)
    assert_same_answers(SemanticSearch.load(folder, embedder=embedder), search)


def test_an_embedder_of_another_kind_must_be_given_again(folder):
    search = SemanticSearch(TfidfVectorizer(), n_neighbors=2).fit(TEXTS)
    search.save(folder)
    with pytest.raises(ValueError, match=r"cannot be read from a file \(TfidfVectorizer\); pass it"):
        SemanticSearch.load(folder)
    assert_same_answers(SemanticSearch.load(folder, embedder=search.embedder_), search)


def test_an_embedder_that_has_learned_nothing_is_refused(folder):
    SemanticSearch(TfidfVectorizer(), n_neighbors=2).fit(TEXTS).save(folder)
    with pytest.raises(
        NotFittedError, match="TfidfVectorizer that is not fitted; pass the one that embedded the corpus"
    ):
        SemanticSearch.load(folder, embedder=TfidfVectorizer())


@pytest.mark.parametrize("is_saved", [False, True], ids=["in memory", "saved"])
def test_a_fine_tuner_with_other_weights_is_refused(is_saved, folder, tmp_path, tiny):
    tuners = [SentenceEmbeddingFineTuner(tiny, **{**FAST, "random_state": seed}) for seed in (0, 1)]
    for number, tuner in enumerate(tuners):
        tuner.fit(TEXTS * 2, list("abbcca") * 2)
        if is_saved:
            tuner.save(tmp_path / f"tuned{number}")
    search = SemanticSearch(tuners[0], n_neighbors=2).fit(TEXTS)
    search.save(folder)
    assert_same_answers(SemanticSearch.load(folder, embedder=tuners[0]), search)
    with pytest.raises(ModelChangedError, match="a fine-tuner with other weights"):
        SemanticSearch.load(folder, embedder=tuners[1])


@pytest.mark.parametrize("freeze", [lambda e: e, FrozenEstimator], ids=["as it is", "frozen"])
@pytest.mark.parametrize(
    ("given_kind", "kind"), [*itertools.permutations(["TfidfVectorizer", "CountVectorizer", "Pipeline", "ours"], 2)]
)
def test_an_embedder_of_the_wrong_kind_is_refused(given_kind, kind, freeze, folder, embedder):
    of_kind = {
        "TfidfVectorizer": TfidfVectorizer().fit(TEXTS),
        "CountVectorizer": CountVectorizer().fit(TEXTS),
        "Pipeline": make_pipeline(TfidfVectorizer(), Normalizer()).fit(TEXTS),
        "ours": embedder.fit(TEXTS),
    }
    SemanticSearch(of_kind[kind], n_neighbors=2).fit(TEXTS).save(folder)
    with pytest.raises(TypeError, match=r"The corpus was embedded by .*, not "):
        SemanticSearch.load(folder, embedder=freeze(of_kind[given_kind]))
    assert len(SemanticSearch.load(folder, embedder=freeze(of_kind[kind])).search("fox")) == 2


class OwnTransformer(SentenceEmbeddingTransformer):
    """A user's subclass."""


@pytest.mark.parametrize("given", [SentenceEmbeddingTransformer, OwnTransformer])
@pytest.mark.parametrize("kind", [SentenceEmbeddingTransformer, OwnTransformer])
def test_a_class_derived_from_the_transformer_is_of_its_kind(given, kind, folder, tiny):
    search = SemanticSearch(kind(tiny), n_neighbors=2).fit(TEXTS)
    search.save(folder)
    assert_same_answers(SemanticSearch.load(folder, embedder=given(tiny)), search)
    assert_same_answers(SemanticSearch.load(folder), search)


@pytest.mark.parametrize(
    "other",
    [{"pooling": "cls"}, {"layers": 1}, {"truncate_dim": 8}, {"normalize_embeddings": False}, {"prompt": "Q: "},
     {"task": "query"}, {"max_seq_length": 10}, {"long_texts": "mean"}],
    ids=str,
)  # fmt: skip
def test_an_embedder_that_makes_other_vectors_is_refused_by_what_differs(other, saved, tiny):
    (name,) = other
    with pytest.raises(ValueError, match=f"The corpus was embedded with {name}=.*; embedder has "):
        SemanticSearch.load(saved, embedder=SentenceEmbeddingTransformer(tiny, **other))


@pytest.mark.parametrize(
    "other", [{"device": "cpu"}, {"cache": None}, {"batch_tokens": 64}, {"show_progress_bar": False}], ids=str
)
def test_how_an_embedder_computes_may_differ(other, saved, tiny):
    loaded = SemanticSearch.load(saved, embedder=SentenceEmbeddingTransformer(tiny, **other))
    assert len(loaded.search("fox")) == 2


@pytest.mark.parametrize("pooling", [["mean", "cls"], ("mean", "cls")], ids=["list", "tuple"])
def test_poolings_may_be_a_list_or_a_tuple(pooling, folder, tiny):
    SemanticSearch(SentenceEmbeddingTransformer(tiny, pooling=["mean", "cls"]), n_neighbors=2).fit(TEXTS).save(folder)
    loaded = SemanticSearch.load(folder, embedder=SentenceEmbeddingTransformer(tiny, pooling=pooling))
    assert len(loaded.search("fox")) == 2


def test_an_embedder_that_is_given_is_not_changed(saved, tiny):
    embedder = SentenceEmbeddingTransformer(tiny)
    before = {**vars(embedder)}
    SemanticSearch.load(saved, embedder=embedder).search("fox")
    assert vars(embedder) == before


@pytest.mark.parametrize("is_given", [True, False])
def test_a_change_of_the_embedder_after_loading_waits_for_the_next_fit(is_given, saved, embedder):
    loaded = SemanticSearch.load(saved, embedder=embedder if is_given else None)
    before = loaded.search("fox")
    loaded.set_params(embedder__pooling="cls")
    skembed.clear_cache()
    assert_frame_equal(loaded.search("fox"), before)


def test_vectors_of_another_model_are_still_refused_after_loading(saved, model_folder):
    other = pd.Series(["fox"]).embed(output="vector", model=model_folder("roberta"))
    with pytest.raises(ValueError, match="vectors of different models cannot be compared"):
        SemanticSearch.load(saved).search(other)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_vectors_are_one_clear_error(damage, saved):
    DAMAGE[damage](next(saved.glob("vectors*")))
    with pytest.raises(SavedSearchError, match="vectors-"):
        SemanticSearch.load(saved)


SAVING = """
import sys, time
import numpy as np, pandas as pd
from pathlib import Path
from skembed import SemanticSearch
folder, index = Path(sys.argv[1]), sys.argv[2]
states = []
for name, n in (("a", 300), ("b", 200)):
    vectors = np.random.default_rng(n).normal(size=(n, 8))
    states.append(SemanticSearch(index=index).fit(pd.DataFrame(vectors, index=[f"{name}{row}" for row in range(n)])))
states[0].save(folder)
print("ready", flush=True)
while not (folder / "stop").exists():
    for search in states[::-1]:
        search.save(folder)
        time.sleep(0.01)
"""

LOADING = """
import sys
from pathlib import Path
from skembed import SemanticSearch
folder, found = Path(sys.argv[1]), set()
for _ in range(150):
    search = SemanticSearch.load(folder)
    labels, hits = search.corpus_.index, search.search(search.vectors_, k=1)
    assert hits["id"].tolist() == labels.tolist()
    found.add((labels[0], len(labels)))
print(sorted(found))
"""


@pytest.mark.slow
@each_index
def test_a_search_loads_while_others_save_it_anew(index, folder):
    folder.mkdir()
    run = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SAVING, folder, index], **run) as writer:
        assert writer.stdout.readline() == "ready\n"
        readers = [subprocess.Popen([sys.executable, "-c", LOADING, folder], **run) for _ in range(2)]
        printed = [reader.communicate(timeout=200) for reader in readers]
        (folder / "stop").touch()
        assert writer.wait(timeout=60) == 0
    assert printed == [("[('a0', 300), ('b0', 200)]\n", "")] * 2


@pytest.mark.parametrize("saves_back", [False, True])
def test_files_that_a_save_has_deleted_before_they_were_read_are_not_missed(saves_back, folder, monkeypatch):
    first, second = (SemanticSearch(n_neighbors=1).fit(np.eye(n)) for n in (2, 3))
    first.save(folder)
    check, overtaken = saving._check_file, []

    def check_too_late(*arguments):
        if overtaken:
            return check(*arguments)
        second.save(folder)
        overtaken.append(True)
        try:
            return check(*arguments)
        finally:
            if saves_back:  # search.json says again what the reader knows
                first.save(folder)

    monkeypatch.setattr(saving, "_check_file", check_too_late)
    assert len(SemanticSearch.load(folder).corpus_) == (2 if saves_back else 3)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything can be written to")
def test_a_search_loads_from_a_folder_that_cannot_be_written_to(saved):
    saved.chmod(0o500)
    try:
        assert len(SemanticSearch.load(saved).corpus_) == len(TEXTS)
    finally:
        saved.chmod(0o700)


def test_two_that_save_into_one_folder_leave_one_of_the_two_searches(folder, embedder):
    searches = [SemanticSearch(embedder, n_neighbors=1).fit(texts) for texts in (TEXTS, ["fox", "dog"])]
    for _ in range(3):
        threads = [threading.Thread(target=search.save, args=(folder,)) for search in searches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(SemanticSearch.load(folder).corpus_) in (len(TEXTS), 2)
        assert len(names(folder)) == 3


@pytest.mark.parametrize("kind", ["flat", "other metric", "other vectors"])
def test_a_graph_that_is_not_the_corpus_own_is_refused(kind, folder, embedder):
    search = SemanticSearch(embedder, index="hnsw").fit(TEXTS)
    vectors = search._documents.index.index.vectors
    dim = vectors.shape[1]
    search._documents.index.index.graph = {
        "flat": faiss.IndexFlatIP(dim),
        "other metric": faiss.IndexHNSWFlat(dim, 8, faiss.METRIC_L2),
        "other vectors": faiss.IndexHNSWFlat(dim, 8, faiss.METRIC_INNER_PRODUCT),
    }[kind]
    search._documents.index.index.graph.add(vectors[:-1])
    search.save(folder)
    with pytest.raises(SavedSearchError, match="Save the search again"):
        SemanticSearch.load(folder)


def test_a_loaded_model_and_one_given_by_name_cannot_be_compared(saved, tiny):
    loaded = SentenceEmbeddingTransformer(SentenceTransformer(tiny, device="cpu"))
    with pytest.raises(ValueError, match="with a model given by name, and embedder has a loaded model"):
        SemanticSearch.load(saved, embedder=loaded)


@pytest.mark.parametrize("parameters", [{"missing": "nan"}, {"dtype": "float32"}, {"backend": "torch"}])
def test_an_embedder_that_makes_the_same_vectors_is_taken(parameters, saved, tiny):
    assert SemanticSearch.load(saved, embedder=SentenceEmbeddingTransformer(tiny, **parameters)).search("fox", k=1).size


@pytest.mark.slow
@pytest.mark.parametrize("index", INDEXES)
def test_an_interrupt_at_any_line_of_saving_leaves_the_search_that_was_there_or_the_new_one(
    index, saved, embedder, tmp_path
):
    new, kept = SemanticSearch(embedder, n_neighbors=2, index=index).fit(TEXTS[::-1]), []
    right = [SemanticSearch.load(saved).search(QUERIES), new.search(QUERIES)]
    n_struck = 0
    for number, strike in enumerate(at_each_line([saving, atomic], lambda: new.save(tmp_path / "first"))):
        folder = shutil.copytree(saved, tmp_path / str(number))
        n_struck += strike(lambda folder=folder: new.save(folder), keep=kept)
        assert any(SemanticSearch.load(folder).search(QUERIES).equals(one) for one in right)
        new.save(folder)
        assert_frame_equal(SemanticSearch.load(folder).search(QUERIES), right[1])
        assert not list(folder.glob("*.unfinished"))
    assert n_struck > 40
