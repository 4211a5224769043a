"""Settings: every parameter is checked, and an error names the parameter and its allowed values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import numpy as np
import pytest

from skembed import EmbeddingCache, SentenceEmbeddingTransformer
from skembed.encoding.settings import POOLINGS, Settings

HERE = Path(__file__).parent

ILLEGAL = {
    "model": [None, 5, "", b"model", ["model"], ...],
    "pooling": [
        None, 5, True, "", "median", "Mean", b"mean", (), [], {"mean"}, np.array(["mean", "cls"]), ("mean", "median"),
        ("mean", 5), ("mean", "default"), (("mean", "cls"),),
    ],
    "layers": [
        None, "last", "1", 1.0, True, np.bool_(True), np.float64(1), (), [], {1}, (0, 1.0), (0, True), ((0, 1),),
    ],
    "normalize_embeddings": [None, 1, 0, np.int64(1), 1.0, "yes", "True", ("default",)],
    "truncate_dim": [0, -1, 8.0, True, np.bool_(True), np.float32(8), "8", (8,), float("nan"), np.array([8])],
    "prompt": [5, True, b"query: ", ["query: "], float("nan"), "half a character: \ud83d"],
    "prompt_name": [5, True, b"query", ["query"], float("nan")],
    "task": [True, "", "Query", "passage", b"query", ("query",), float("nan")],
    "max_seq_length": [0, -1, 8.0, True, np.bool_(True), np.float32(8), "8", (8,), float("nan"), np.array([8])],
    "long_texts": [None, True, "", "cut", "Mean", ("mean",), float("nan")],
    "missing": [None, True, "", "drop", "NaN", float("nan"), 0],
    "device": [None, 0, "", True, b"cpu", [], [None], ["cpu", None], ["cpu", ""], [["cpu"]], ("cpu",), {"cpu"}],
    "backend": [None, True, "", "onnx", "Torch", ("torch",)],
    "dtype": [None, True, "", "int8", "float64", np.float32, np.dtype("float32")],
    "batch_tokens": [
        None, 0, -1, 64.0, True, np.bool_(True), "", "all", (64,), float("nan"), np.array([64]), np.array([64, 64]),
    ],
    "cache": [True, False, 5, 1.5, "", "ram", "memroy", "Memory", np.str_("ram"), b"memory", ["memory"], ...],
    "revision": [5, True, b"main", ["main"], float("nan")],
    "local_files_only": [None, 1, 0, np.int64(0), "yes", "auto"],
    "trust_remote_code": [None, 1, 0, np.int64(0), "yes", "auto"],
    "show_progress_bar": [None, 1, 0, np.int64(0), "never", 2.0],
}  # fmt: skip

LEGAL = {
    "model": ["all-MiniLM-L6-v2", "org/name", "./folder", Path("folder"), np.str_("name")],
    "pooling": ["default", *POOLINGS, POOLINGS, ["mean", "cls"], ("mean",), np.str_("mean"), (np.str_("mean"), "cls")],
    "layers": [-1, 0, 6, np.int64(-1), np.uint8(3), (0, -1), [0, -1], (np.int32(1), 2), np.arange(3)[1]],
    "normalize_embeddings": ["default", True, False, np.True_, np.False_, np.str_("default")],
    "truncate_dim": [None, 1, 64, np.int64(64), np.uint8(64), np.array(64)],
    "prompt": [None, "", "query: ", "naïve 🦊: ", np.str_("query: ")],
    "prompt_name": [None, "query", np.str_("query")],
    "task": [None, "query", "document", np.str_("query")],
    "max_seq_length": [None, 1, 512, np.int64(512), np.int16(512)],
    "long_texts": ["truncate", "mean", "error", np.str_("mean")],
    "missing": ["error", "empty", "zero", "nan", np.str_("zero")],
    "device": ["auto", "cpu", "cuda", "cuda:1", "mps", ["cuda:1"], ["cuda:0", "cuda:1"], np.str_("cpu")],
    "backend": ["auto", "torch", np.str_("torch")],
    "dtype": ["auto", "float32", "bfloat16", "float16", np.str_("float16")],
    "batch_tokens": ["auto", 1, 4096, np.int64(4096), np.str_("auto")],
    "cache": [
        None,
        "memory",
        np.str_("memory"),
        "disk",
        np.str_("disk"),
        str(HERE),
        HERE,
        "./no-folder-yet",
        "no-folder-yet/",
        Path("no-folder-yet"),
        np.str_("no/folder/yet"),
        EmbeddingCache(),
        EmbeddingCache("no-folder-yet"),
    ],
    "revision": [None, "main", np.str_("v1.0")],
    "local_files_only": [True, False, np.True_, np.False_],
    "trust_remote_code": [True, False, np.True_, np.False_],
    "show_progress_bar": ["auto", True, False, np.True_, np.str_("auto")],
}


def make_settings(**changes) -> Settings:
    return Settings(**SentenceEmbeddingTransformer().get_params(deep=False) | changes)


def one_by_one(table):
    return [
        pytest.param(name, value, id=f"{name}={type(value).__name__} {value!r}"[:60])
        for name, values in table.items()
        for value in values
    ]


def test_the_defaults_are_legal():
    assert make_settings().model == "all-MiniLM-L6-v2"


@pytest.mark.parametrize("table", [ILLEGAL, LEGAL], ids=["illegal", "legal"])
def test_the_tables_of_this_file_hold_every_parameter(table):
    assert list(table) == [field.name for field in fields(Settings)]


@pytest.mark.parametrize(("name", "value"), one_by_one(ILLEGAL))
def test_an_illegal_value_is_refused_with_the_name_of_its_parameter(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}\b"):
        make_settings(**{name: value})


@pytest.mark.parametrize("name", ["truncate_dim", "max_seq_length", "batch_tokens"])
@pytest.mark.parametrize(
    ("value", "error", "said"),
    [(value, TypeError, "must be an integer") for value in ("a", 1.5, True, b"1", [1], np.float64(2))]
    + [(value, ValueError, "must be at least 1") for value in (0, -1, np.int32(0))],
    ids=lambda value: repr(value) if not isinstance(value, type) else value.__name__,
)
def test_a_size_of_a_wrong_type_is_a_type_error_and_one_below_one_a_value_error(value, error, said, name):
    with pytest.raises(error, match=rf"^{name} {said}; got "):
        make_settings(**{name: value})


@pytest.mark.parametrize(("name", "value"), one_by_one(LEGAL))
def test_a_legal_value_is_kept_as_it_was_given(name, value):
    assert getattr(make_settings(**{name: value}), name) is value


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("pooling", "median", "'cls' or 'max' or 'mean'"),
        ("long_texts", "cut", "'truncate' or 'mean' or 'error'"),
        ("missing", "drop", "'error' or 'empty' or 'zero' or 'nan'"),
        ("task", "passage", "None or 'query' or 'document'"),
        ("dtype", "int8", "'auto' or 'float32' or 'bfloat16' or 'float16'"),
        ("cache", "ram", "'memory', 'disk', a folder, an EmbeddingCache or None"),
        ("show_progress_bar", "never", "'auto' or True or False"),
    ],
    ids=lambda value: value,
)
def test_a_refused_choice_is_answered_with_the_choices(name, value, shown):
    with pytest.raises(ValueError, match=shown):
        make_settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("pooling", "median"), ("layers", 1.5), ("truncate_dim", 0), ("prompt", 5), ("missing", "drop"), ("device", 7)],
    ids=lambda value: str(value),
)
def test_an_error_shows_the_value_that_was_given(name, value):
    with pytest.raises((TypeError, ValueError), match=f"got {value!r}"):
        make_settings(**{name: value})


def test_settings_cannot_be_changed():
    settings = make_settings()
    with pytest.raises(FrozenInstanceError):
        settings.pooling = "cls"


@pytest.mark.parametrize(("prompt", "prompt_name"), [("query: ", "query"), ("", "query"), ("query: ", "")])
def test_a_prompt_and_the_name_of_a_prompt_exclude_each_other(prompt, prompt_name):
    with pytest.raises(ValueError, match=r"^prompt=.* and prompt_name=.*give one of them"):
        make_settings(prompt=prompt, prompt_name=prompt_name)


@pytest.mark.parametrize(
    ("pooling", "names"),
    [
        ("default", None),
        (np.str_("default"), None),
        (("default",), None),
        ("mean", ("mean",)),
        (("mean",), ("mean",)),
        (["mean", "cls"], ("mean", "cls")),
        (("cls", "mean"), ("cls", "mean")),
        (("mean", "mean"), ("mean", "mean")),
    ],
    ids=str,
)
def test_pooling_is_read_as_a_tuple_of_modes_or_as_none_for_the_models_own(pooling, names):
    assert make_settings(pooling=pooling).pooling_names == names


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [
        (-1, (-1,)),
        (np.int64(3), (3,)),
        ((0, -1), (0, -1)),
        ([2, 1], (2, 1)),
        ((np.int8(-2), 0), (-2, 0)),
    ],
    ids=str,
)
def test_layers_are_read_as_a_tuple_of_plain_integers(layers, numbers):
    read = make_settings(layers=layers).layer_numbers
    assert read == numbers
    assert {type(number) for number in read} == {int}


def test_a_loaded_model_is_a_model(reference):
    assert make_settings(model=reference("bert")).model is reference("bert")


def test_the_first_module_of_a_model_is_not_a_model(reference):
    with pytest.raises(TypeError, match=r"^model must be .*; got Transformer"):
        make_settings(model=reference("bert")[0])


@pytest.mark.parametrize("word", ["ram", "memroy", "Disk", "cache.d"])
def test_a_single_word_that_is_not_a_folder_is_refused_as_a_cache(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^cache must be .*got '{word}', .*no such folder. Write './{word}'"):
        make_settings(cache=word)


def test_a_single_word_that_is_a_folder_here_is_a_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vectors").mkdir()
    assert make_settings(cache="vectors").cache == "vectors"


def test_a_path_in_bytes_is_refused():
    class InBytes:
        def __fspath__(self):
            return b"folder"

    with pytest.raises(TypeError, match=r"^cache must be"):
        make_settings(cache=InBytes())


@pytest.mark.parametrize("cache", ["./vectors", Path("vectors"), Path("deep/vectors")], ids=repr)
def test_checking_the_folder_of_a_cache_does_not_create_it(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_settings(cache=cache)
    assert list(tmp_path.iterdir()) == []
