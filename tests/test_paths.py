"""Paths that users give: ``~`` is the home folder everywhere, and what is not a local path is one clear error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import skembed
from skembed.__main__ import main
from skembed.files.sources import Source
from skembed.paths import is_url, read_model_name, read_path

TEXTS = ["a fox", "a parcel", "the lazy dog", "an address"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, while the working directory is another."""
    folder, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(elsewhere)
    return folder


def _source(folder="."):
    path = Path(folder, "source.parquet")
    pd.DataFrame({"text": TEXTS}).to_parquet(path)
    return path


def _command(path, tiny):
    arguments = ["embed", str(_source()), "--column", "text", "--out", path, "--model", tiny]
    if main(arguments):
        raise ValueError("the command failed")


def _fine_tuner(tiny, **params):
    pytest.importorskip("accelerate")
    tuner = skembed.SentenceEmbeddingFineTuner(
        tiny, epochs=1, batch_size=2, device="cpu", random_state=0, show_progress_bar=False, **params
    )
    return tuner.fit(TEXTS, [0, 0, 1, 1])


# entry -> what writes there; each is called with a path and the folder of a model
WRITERS = {
    "EmbeddingCache": lambda path, tiny: skembed.embed(TEXTS, model=tiny, cache=skembed.EmbeddingCache(path)),
    "cache=": lambda path, tiny: skembed.embed(TEXTS, model=tiny, cache=path),
    "cache= of BatchEmbedder": lambda path, tiny: skembed.BatchEmbedder("text", model=tiny, cache=path)(
        pd.DataFrame({"text": TEXTS})
    ),
    "cache= of an accessor": lambda path, tiny: pd.Series(TEXTS).text.embed(model=tiny, cache=path),
    "cache= of precompute": lambda path, tiny: skembed.precompute(
        skembed.SentenceEmbeddingTransformer(tiny, cache=path), TEXTS
    ),
    "embed_parquet": lambda path, tiny: skembed.embed_parquet(_source(), path, "text", model=tiny),
    "the command": lambda path, tiny: _command(path, tiny),
    "SemanticSearch.save": lambda path, tiny: skembed.SemanticSearch(
        skembed.SentenceEmbeddingTransformer(tiny)
    ).fit(TEXTS).save(path),
}  # fmt: skip
SLOW_WRITERS = {
    "SentenceEmbeddingFineTuner.save": lambda path, tiny: _fine_tuner(tiny).save(path),
    "checkpoint_dir": lambda path, tiny: _fine_tuner(tiny, checkpoint_dir=path),
}
# entry -> what reads there
READERS = {
    "model=": lambda path, tiny: skembed.embed(TEXTS, model=path),
    "SemanticSearch.load": lambda path, tiny: skembed.SemanticSearch.load(path),
    "the source of embed_parquet": lambda path, tiny: skembed.embed_parquet(path, "out", "text", model=tiny),
    "sources of embed_parquet": lambda path, tiny: skembed.embed_parquet([path], "out", "text", model=tiny),
}
WRONG = {
    "s3://bucket/out": "is a URL, but only local files can be used",
    "gs://bucket/out": "is a URL",
    "hdfs://host:8020/out": "is a URL",
    "https://example.org/out": "is a URL",
    "file:///tmp/out": "is a URL",
    "out\0": "has a NUL character",
}
slow = pytest.mark.slow


@pytest.mark.parametrize(
    "write", [*WRITERS.values(), *(pytest.param(write, marks=slow) for write in SLOW_WRITERS.values())],
    ids=[*WRITERS, *SLOW_WRITERS],
)  # fmt: skip
@pytest.mark.parametrize("kind", [str, Path])
def test_what_is_written_to_the_home_folder_is_found_there(write, kind, home, tiny):
    path = "~/made/here" if kind is str or write is WRITERS["the command"] else Path("~/made/here")
    write(path, tiny)
    assert (home / "made" / "here").is_dir()
    assert (home / "made").is_dir() or write is SLOW_WRITERS["checkpoint_dir"]
    assert not Path("~").exists()


@pytest.mark.parametrize("entry", ["EmbeddingCache", "SentenceEmbeddingTransformer", "model"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_a_local_path_is_refused_when_it_is_given(entry, wrong):
    def give():
        if entry == "EmbeddingCache":
            skembed.EmbeddingCache(wrong)
        else:
            name = "model" if entry == "model" else "cache"
            skembed.SentenceEmbeddingTransformer(**{name: wrong}).fit(TEXTS)

    with pytest.raises(ValueError, match=WRONG[wrong]):
        give()


@pytest.mark.parametrize(
    "use", [*WRITERS.values(), *READERS.values(), *(pytest.param(use, marks=slow) for use in SLOW_WRITERS.values())],
    ids=[*WRITERS, *READERS, *SLOW_WRITERS],
)  # fmt: skip
@pytest.mark.parametrize("wrong", ["s3://bucket/out", "file:///tmp/out", "out\0"])
def test_what_is_not_a_local_path_is_an_error_and_creates_nothing(use, wrong, home, tiny):
    with pytest.raises(ValueError, match=WRONG[wrong] if use is not WRITERS["the command"] else "the command failed"):
        use(wrong, tiny)
    assert {path.name for path in Path(".").iterdir()} <= {"source.parquet"}


class TestReadingFromTheHomeFolder:
    def test_a_model(self, home, tiny):
        shutil.copytree(tiny, home / "model")
        vectors = skembed.embed(TEXTS, model="~/model")
        assert (vectors == skembed.embed(TEXTS, model=home / "model")).all()
        assert (vectors == skembed.embed(TEXTS, model=Path("~/model"))).all()

    def test_a_saved_search_and_its_model(self, home, tiny):
        shutil.copytree(tiny, home / "model")
        search = skembed.SemanticSearch(skembed.SentenceEmbeddingTransformer("~/model")).fit(TEXTS)
        search.save("~/search")
        loaded = skembed.SemanticSearch.load("~/search")
        assert loaded.search("fox", k=1)["text"].tolist() == search.search("fox", k=1)["text"].tolist()

    def test_files(self, home, tiny):
        _source(home)
        assert Source("~/source.parquet").n_rows == Source(["~/source.parquet"]).n_rows == len(TEXTS)
        skembed.embed_parquet("~", "~/../out", "text", model=tiny)
        assert skembed.read_parquet("~/../out")["text"].tolist() == TEXTS


class TestReadPath:
    @pytest.mark.parametrize(
        "path", ["a", "./a", "../a b", "/a/b", "C:\\data", "C:/data", "\\\\server\\share", "a:b", "x=1/s3", "é", "a~"]
    )
    def test_a_path_stays_as_it_is(self, path):
        assert read_path(path, "path") == read_path(Path(path), "path") == Path(path)

    @pytest.mark.parametrize(
        "path", ["s3://b", "S3A://b/c", "gs://b", "abfss://c@a.net/p", "file:/x", Path("s3://b/c")]
    )
    def test_a_url_is_not_a_path(self, path):
        assert is_url(path)
        with pytest.raises(ValueError, match=r"destination='.*' is a URL, but only local files can be used"):
            read_path(path, "destination")

    @pytest.mark.parametrize("path", [None, 3, b"bytes", ["a"]], ids=repr)
    def test_another_object_is_not_a_path(self, path):
        with pytest.raises(TypeError, match="destination must be a path"):
            read_path(path, "destination")

    def test_an_empty_str_is_not_a_path(self):
        with pytest.raises(ValueError, match="destination is an empty str"):
            read_path("", "destination")

    @pytest.mark.parametrize("path", ["~", "~/a"])
    def test_a_home_folder_that_is_not_known_is_an_error(self, path, monkeypatch):
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
        with pytest.raises(ValueError, match="is in the home folder, which is not known here"):
            read_path(path, "path")

    @pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "org/name", "./x", "../x", "/models/x", "C:\\models\\x"])
    def test_the_name_of_a_model_stays_as_it_is(self, name):
        assert read_model_name(name) == name

    def test_a_model_in_the_home_folder_is_found_there(self, home):
        assert read_model_name("~/models/x") == os.path.join(home, "models/x")
