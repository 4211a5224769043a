"""Fingerprints: equal for models that give the same vectors, different for others."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers.normalizers import NFC

from skembed.encoding.models.fingerprint import FolderState, fingerprint_live, stamp_live


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """A copy of a tiny model that a test may change."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.fixture
def live(tiny) -> SentenceTransformer:
    """A loaded model that a test may change."""
    return SentenceTransformer(tiny, device="cpu")


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_copied_folder_has_the_same_fingerprint(tiny, folder):
    assert FolderState(folder).fingerprint == FolderState(tiny).fingerprint


def test_a_model_saved_again_has_the_same_fingerprint(live, tiny, tmp_path):
    live.encode(["leaves padding and truncation set in the tokenizer"])
    live.save(str(tmp_path / "again"))
    assert FolderState(tmp_path / "again").fingerprint == FolderState(tiny).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit_json(folder / "config.json", transformers_version="99.0", dtype="bfloat16"),
        lambda folder: (folder / "README.md").write_text("another card"),
        lambda folder: (folder / "onnx").mkdir(),
        lambda folder: (folder / "modules.json").write_text(
            (folder / "modules.json")
            .read_text()
            .replace("sentence_transformers.base.modules", "sentence_transformers.models")
        ),
        lambda folder: edit_json(folder / "config.json", text_config={"dtype": "float16", "transformers_version": "1"}),
    ],
    ids=["versions", "model card", "another backend", "a class that moved", "versions of a part"],
)
def test_a_change_that_does_not_affect_vectors_keeps_the_fingerprint(change, folder, tiny):
    edit_json(folder / "config.json", text_config={"transformers_version": "0"})
    before = FolderState(folder).fingerprint
    change(folder)
    assert FolderState(folder).fingerprint == before


def flip_a_weight(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


@pytest.mark.parametrize(
    "change",
    [
        flip_a_weight,
        lambda folder: edit_json(folder / "1_Pooling" / "config.json", pooling_mode="cls"),
        lambda folder: edit_json(folder / "config.json", layer_norm_eps=1e-3),
        lambda folder: edit_json(folder / "config_sentence_transformers.json", default_prompt_name="query"),
        lambda folder: edit_json(folder / "tokenizer_config.json", model_max_length=9),
        lambda folder: edit_json(folder / "tokenizer.json", pre_tokenizer={"type": "Whitespace"}),
    ],
    ids=["a weight", "pooling", "a constant", "default prompt", "token limit", "tokenizer"],
)
def test_a_change_that_affects_vectors_changes_the_fingerprint(change, folder, tiny):
    change(folder)
    assert FolderState(folder).fingerprint != FolderState(tiny).fingerprint


def test_the_fingerprint_of_a_folder_needs_no_torch(tiny):
    code = (
        "import sys; from skembed.encoding.models.fingerprint import FolderState; "
        f"print(FolderState({tiny!r}).fingerprint, 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed == [FolderState(tiny).fingerprint, "False"]


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_live_model_copied_or_pickled_has_the_same_fingerprint(again, live):
    assert fingerprint_live(again(live)) == fingerprint_live(live)


def train_a_step(model) -> None:
    with torch.no_grad():
        next(model.parameters()).add_(0.5)


def write_through_data(model) -> None:
    next(model.parameters()).data.mul_(1.5)


def set_the_limit(model) -> None:
    model.max_seq_length = 9


def set_a_prompt(model) -> None:
    model.prompts["query"] = "else: "


def set_the_pooling(model) -> None:
    model[1].pooling_mode = "cls"


def cut_on_the_left(model) -> None:
    model.tokenizer.truncation_side = "left"


def replace_the_normalizer(model) -> None:
    model.tokenizer.backend_tokenizer.normalizer = NFC()


def replace_a_constant(model) -> None:
    model[0].model.encoder.layer[0].output.LayerNorm.eps = 0.1


CHANGES = [
    train_a_step,
    write_through_data,
    replace_a_constant,
    replace_the_normalizer,
    cut_on_the_left,
    set_the_limit,
    set_a_prompt,
    set_the_pooling,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_a_live_model_changes_its_fingerprint_and_its_stamp(change, live):
    fingerprint, stamp = fingerprint_live(live), stamp_live(live)
    assert stamp_live(live) == stamp
    change(live)
    assert fingerprint_live(live) != fingerprint
    assert stamp_live(live) != stamp


def test_every_kind_of_model_has_its_own_live_fingerprint(reference):
    kinds = ["bert", "roberta", "decoder", "gpt2", "dense", "static"]
    assert len({fingerprint_live(reference(kind)) for kind in kinds}) == len(kinds)


def test_the_precision_of_the_weights_does_not_count(live):
    halved = copy.deepcopy(live).to(torch.bfloat16)
    assert fingerprint_live(copy.deepcopy(halved).float()) == fingerprint_live(halved) != fingerprint_live(live)


class Scale(torch.nn.Module):
    """A module of the user, whose factor is neither a weight nor a configuration."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] * self.factor
        return features


class Shift(Scale):
    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] + self.factor
        return features


class Unpicklable(Scale):
    def __init__(self, factor):
        super().__init__(lambda: factor)


def with_module(live, module) -> SentenceTransformer:
    return SentenceTransformer(modules=[*live.children(), module], device="cpu")


@pytest.mark.parametrize(
    ("one", "other"),
    [(Scale(1.0), Scale(-3.0)), (Scale(2.0), Shift(2.0)), (Unpicklable(1.0), Unpicklable(1.0))],
    ids=["state", "code", "state that cannot be read"],
)
def test_a_module_of_the_user_counts_with_its_state_and_code(one, other, live):
    assert fingerprint_live(with_module(live, one)) != fingerprint_live(with_module(live, other))
    assert fingerprint_live(with_module(live, one)) == fingerprint_live(with_module(live, one))


def test_a_copy_of_a_module_of_the_user_has_the_same_fingerprint(live):
    model = with_module(live, Scale(2.0))
    assert fingerprint_live(copy.deepcopy(model)) == fingerprint_live(model)
    assert fingerprint_live(with_module(live, Scale(2.0))) == fingerprint_live(model)
