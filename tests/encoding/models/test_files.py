"""The fingerprint of a folder covers what loading reads: no more, no less."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import BoW, Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from skembed.encoding.models.files import SLOW_TOKENIZERS, find_model_files
from skembed.encoding.models.fingerprint import FolderState
from tests.tiny_models import make_bert, make_dense, make_static

TEXT = "the quick brown fox, café 12"
WORDS = ["the", "quick", "brown", "fox", "lazy", "dog"]
READ_BUT_NOT_COUNTED = {"README.md", "generation_config.json"}


def make_sharded(folder: Path) -> str:
    make_bert(folder)
    SentenceTransformer(str(folder), device="cpu")[0].model.save_pretrained(folder, max_shard_size="50KB")
    (folder / "model.safetensors").unlink()
    return str(folder)


def make_bin(folder: Path) -> str:
    make_bert(folder)
    import torch

    weights = SentenceTransformer(str(folder), device="cpu")[0].model.state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "unrelated.safetensors").write_bytes(b"nothing of the kind")
    return str(folder)


def make_word_embeddings(folder: Path) -> str:
    rng = np.random.default_rng(0)
    words = WordEmbeddings(WhitespaceTokenizer(WORDS, stop_words=[]), rng.normal(size=(len(WORDS), 8)))
    SentenceTransformer(modules=[words, Pooling(8)], device="cpu").save(str(folder))
    return str(folder)


def make_bag_of_words(folder: Path) -> str:
    SentenceTransformer(modules=[BoW(WORDS)], device="cpu").save(str(folder))
    return str(folder)


def make_router(folder: Path) -> str:
    first, pooling, _ = SentenceTransformer(make_bert(folder), device="cpu").children()
    static = SentenceTransformer(make_static(folder.with_name("static-of-router")), device="cpu")[0]
    router = Router({"query": [static], "document": [first, pooling]}, default_route="document")
    shutil.rmtree(folder)
    SentenceTransformer(modules=[router], device="cpu").save(str(folder))
    return str(folder)


def make_plain(folder: Path) -> str:
    return f"{make_bert(folder)}-plain"


def make_vocabulary_alone(folder: Path) -> str:
    """An old model whose tokenizer is only a vocabulary."""
    make_bert(folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.get)))
    (folder / "tokenizer.json").unlink()
    return str(folder)


def make_odd_paths(folder: Path) -> str:
    """Modules in a folder with a dot, one called onnx, and one behind a link."""
    make_dense(folder)
    modules = json.loads((folder / "modules.json").read_text())
    for module, name in zip(modules[1:], [".pooling", "onnx", "deep/linked"], strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / module["path"]).rename(folder / name)
        module["path"] = name
    (folder / "onnx").rename(folder.with_name("elsewhere"))
    (folder / "onnx").symlink_to(folder.with_name("elsewhere"))
    (folder / "modules.json").write_text(json.dumps(modules))
    return str(folder)


MAKERS = {
    "bert": make_bert,
    "dense": make_dense,
    "sharded": make_sharded,
    "pytorch_model.bin": make_bin,
    "word embeddings": make_word_embeddings,
    "bag of words": make_bag_of_words,
    "router": make_router,
    "static": make_static,
    "plain": make_plain,
    "vocabulary alone": make_vocabulary_alone,
    "odd paths": make_odd_paths,
}

CLUTTER = {
    "train_script.py": "print()", "checkpoint-5/model.safetensors": "x", "checkpoint-5/config.json": "{}",
    "original/model.safetensors": "x", "openvino_model/config.json": "{}", "onnx_model/model.onnx": "x",
    "trainer_state.json": "{}", "generation_config.json": "{}", "tf_model.h5": "x", ".gitattributes": "x",
    "adapter.safetensors": "x", "config.json.bak": "x",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(kind)``: a folder of each kind, with files in it that loading does not read."""
    root, known = tmp_path_factory.mktemp("kinds"), {}

    def make(kind: str) -> Path:
        if kind not in known:
            folder = Path(MAKERS[kind](root / kind / "model"))
            for name, content in CLUTTER.items():
                (folder / name).parent.mkdir(exist_ok=True)
                if not (folder / name).exists():
                    (folder / name).write_text(content)
            known[kind] = folder
        return known[kind]

    return make


@pytest.fixture
def copied(made, tmp_path):
    """``copied(kind)``: a folder that a test may change, with its links."""

    def copy(kind: str) -> Path:
        shutil.copytree(made(kind).parent, tmp_path / "copy", symlinks=True)
        folder = tmp_path / "copy" / made(kind).name
        for link in [path for path in folder.rglob("*") if path.is_symlink()]:
            target = tmp_path / "copy" / Path(os.readlink(link)).name
            link.unlink()
            link.symlink_to(target)
        return folder

    return copy


def encode(folder: Path) -> np.ndarray:
    return SentenceTransformer(str(folder), device="cpu").encode([TEXT, "fox", "Ein anderer Text."])


def all_files(folder: Path) -> list[Path]:
    """List the files of a folder, also behind links, under the names that they have in it."""
    return sorted(Path(here, name) for here, _, names in os.walk(folder, followlinks=True) for name in names)


def opened(folder: Path) -> set[str]:
    """Return the files of a folder that are opened while its model is loaded, by Python or native code."""
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    in_open, watched = 0x20, {}
    for here, _, _ in os.walk(folder, followlinks=True):
        watched[libc.inotify_add_watch(watcher, os.fsencode(here), in_open)] = Path(here)
    try:
        SentenceTransformer(str(folder), device="cpu")
        events, names = b"", set()
        while True:
            try:
                events += os.read(watcher, 65536)
            except BlockingIOError:
                break
        while events:
            number, _, _, n_bytes = struct.unpack_from("iIII", events)
            name = os.fsdecode(events[16 : 16 + n_bytes].rstrip(b"\0"))
            if (watched[number] / name).is_file():
                names.add((watched[number] / name).relative_to(folder).as_posix())
            events = events[16 + n_bytes :]
        return names
    finally:
        os.close(watcher)


def counted(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in find_model_files(folder).stamps if path.is_file()}


@pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")
@pytest.mark.parametrize("kind", MAKERS)
def test_the_files_that_count_are_those_that_loading_opens(kind, made):
    assert opened(made(kind)) - READ_BUT_NOT_COUNTED == counted(made(kind))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_folder_of_each_kind_is_complete(kind, made):
    assert find_model_files(made(kind)).is_complete


def edit(file: Path) -> None:
    """Change a file so that it stays valid but means something else."""
    content = file.read_bytes()
    if file.suffix != ".json":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return
    said = json.loads(content)
    if isinstance(said, list):
        said.append({"idx": 9, "name": "9", "path": "", "type": "sentence_transformers.models.Normalize"})
    elif "weight_map" in said:  # of which only the names of the files count
        said["weight_map"]["more"] = "more.safetensors"
    elif "structure" in said:
        said["parameters"]["default_route"] = "query"
    else:
        said["more"] = 1
    file.write_text(json.dumps(said))


@pytest.mark.parametrize("kind", MAKERS)
def test_an_edited_file_counts_if_loading_opens_it(kind, copied):
    folder = copied(kind)
    before, counts = FolderState(folder).fingerprint, counted(folder)
    for file in all_files(folder):
        content = file.read_bytes()
        edit(file)
        is_read = file.relative_to(folder).as_posix() in counts
        if file.name.endswith(".index.json"):
            (folder / "more.safetensors").write_text("x")
        assert (FolderState(folder).fingerprint != before) == is_read, file
        file.write_bytes(content)
        (folder / "more.safetensors").unlink(missing_ok=True)
    assert FolderState(folder).fingerprint == before


@pytest.mark.parametrize("kind", MAKERS)
def test_a_removed_or_renamed_file_counts_if_loading_opened_it(kind, copied):
    folder = copied(kind)
    before, counts = FolderState(folder).fingerprint, counted(folder)
    for file in all_files(folder):
        for hidden in (folder.with_name("removed"), file.with_name(f"{file.name}.old")):
            file.rename(hidden)
            is_read = file.relative_to(folder).as_posix() in counts
            try:
                assert (FolderState(folder).fingerprint != before) == is_read, file
            except (KeyError, AttributeError):  # it cannot be loaded without
                assert is_read
            hidden.rename(file)
    assert FolderState(folder).fingerprint == before


@pytest.mark.parametrize("kind", MAKERS)
def test_a_link_counts_as_the_file_that_it_leads_to(kind, copied):
    folder = copied(kind)
    before = FolderState(folder).fingerprint
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for number, file in enumerate(all_files(folder)):  # as the hub's local cache does
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    assert FolderState(folder).fingerprint == before


@pytest.mark.parametrize("kind", MAKERS)
def test_white_space_and_the_order_of_entries_do_not_count(kind, copied):
    folder = copied(kind)
    before = FolderState(folder).fingerprint
    for file in all_files(folder):
        if file.suffix == ".json" and not file.is_symlink():
            said = json.loads(file.read_text())
            file.write_text(json.dumps(dict(reversed(said.items())) if isinstance(said, dict) else said, indent=3))
    assert FolderState(folder).fingerprint == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("sharded", "model.safetensors"),
        ("vocabulary alone", "tokenizer.json"),
        ("bert", "special_tokens_map.json"),
        ("dense", "2_Dense/model.safetensors"),
        ("plain", "modules.json"),
        ("bert", "chat_template.jinja"),
        ("bert", "additional_chat_templates/one.jinja"),
        ("bert", "preprocessor_config.json"),
        ("bert", "adapter_config.json"),
    ],
)
def test_a_file_that_takes_precedence_counts_once_it_exists(kind, name, copied):
    folder = copied(kind)
    if name == "special_tokens_map.json":
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("added_tokens_decoder", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    state = FolderState(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("[]" if name == "modules.json" else "{}")
    assert not state.is_current()


@pytest.mark.parametrize(
    ("trusted", "where"),
    [(True, "here"), (True, "elsewhere"), (False, "here")],
)
@pytest.mark.parametrize("by", ["modules.json", "config.json"])
def test_code_of_the_model_counts_where_it_is_trusted(trusted, where, by, copied):
    folder = copied("bert")
    module = "own" if where == "here" else "other/repository--own" if by == "config.json" else "installed.own"
    if by == "modules.json":
        modules = json.loads((folder / by).read_text())
        modules[1]["type"] = f"{module}.Pooling"
        (folder / by).write_text(json.dumps(modules))
    else:
        config = json.loads((folder / by).read_text())
        (folder / by).write_text(json.dumps({**config, "auto_map": {"AutoModel": f"{module}.Model"}}))
    (folder / "own.py").write_text("one")
    before = FolderState(folder, trust_remote_code=trusted).fingerprint
    assert find_model_files(folder, trust_remote_code=trusted).is_complete == (where == "here")
    (folder / "own.py").write_text("two")
    assert (FolderState(folder, trust_remote_code=trusted).fingerprint != before) == trusted


def test_a_class_of_another_library_with_a_known_name_makes_another_model(copied):
    folder = copied("bert")
    before = FolderState(folder).fingerprint
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace("sentence_transformers.sentence_transformer.modules", "mine"))
    assert FolderState(folder).fingerprint != before


def test_folders_of_modules_may_have_any_name(copied):
    folder = copied("dense")
    before = FolderState(folder).fingerprint
    modules = json.loads((folder / "modules.json").read_text())
    (folder / modules[1]["path"]).rename(folder / ".hidden")
    modules[1]["path"] = ".hidden"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert FolderState(folder).fingerprint == before


def test_a_folder_whose_tokenizer_is_elsewhere_is_not_complete(copied):
    folder = copied("bert")
    (folder / "sentence_bert_config.json").write_text('{"tokenizer_name_or_path": "elsewhere"}')
    assert not find_model_files(folder).is_complete


@pytest.mark.slow
def test_the_tokenizers_with_files_of_their_own_are_known():
    """If this fails after an update of transformers, complete SLOW_TOKENIZERS and the suffixes of vocabularies."""
    import importlib
    import inspect

    import transformers.models
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    from skembed.encoding.models.files import _VOCABULARIES

    root = Path(transformers.models.__path__[0])
    for file in sorted(root.glob("*/tokenization_*.py")):
        try:
            module = importlib.import_module(f"transformers.models.{file.parent.name}.{file.stem}")
        except Exception:  # a library is missing that it needs
            continue
        for name, found in inspect.getmembers(module, inspect.isclass):
            is_own = (found.__module__, found.__name__) == (module.__name__, name)  # rather than an alias
            if is_own and hasattr(found, "vocab_files_names"):
                assert issubclass(found, TokenizersBackend) or name in SLOW_TOKENIZERS, name
                assert all(Path(str(file)).suffix in _VOCABULARIES for file in found.vocab_files_names.values()), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("change", ["edit", "remove", "rename", "link", "add"])
def test_folders_that_give_different_vectors_have_different_fingerprints(change, kind, copied):
    folder = copied(kind)
    before, vectors = FolderState(folder).fingerprint, encode(folder)
    for file in all_files(folder):
        content, aside = file.read_bytes(), folder.with_name("aside")
        if change == "edit":
            edit(file)
        elif change == "add":
            added = file.with_name(f"more-{file.name}")
            added.write_bytes(content)
        else:
            file.rename(file.with_name(f"{file.name}.old") if change == "rename" else aside)
            if change == "link":
                file.symlink_to(aside)
        try:
            is_same = np.array_equal(encode(folder), vectors)
        except Exception:  # it cannot be loaded
            is_same = None
        if is_same is not None:
            fingerprint = FolderState(folder).fingerprint
            assert is_same or fingerprint != before, file
            assert change not in ("link", "add") or fingerprint == before or "vocab" in kind, file
        if change == "add":
            added.unlink()
        elif change == "edit":
            file.write_bytes(content)
        else:
            file.unlink(missing_ok=True)
            (file.with_name(f"{file.name}.old") if change == "rename" else aside).rename(file)
