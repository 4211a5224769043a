"""The private model of a training, its loss, and batches that hold each text once."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from skembed.training.model_setup import DeduplicatedPairsLoss, TextsOnceCollator, _bound_to, add_adapters

ROWS = [
    {"text_a": "a quick fox", "text_b": "a lazy dog", "label": 1.0},
    {"text_a": "a lazy dog", "text_b": "the parcel was sent to the wrong address", "label": 0.0},
    {"text_a": "a quick fox", "text_b": "the parcel was sent to the wrong address", "label": 0.5},
]


@pytest.fixture
def model(tiny):
    return SentenceTransformer(tiny, device="cpu").eval()  # without dropout


def test_a_batch_holds_each_text_once(model):
    batch = TextsOnceCollator(model.preprocess)(ROWS)
    assert len(batch["text_a_input_ids"]) == 3
    assert batch["label"].tolist() == [[0, 1, 1.0], [1, 2, 0.0], [0, 2, 0.5]]


@pytest.mark.parametrize("make_loss", [losses.CosineSimilarityLoss, losses.CoSENTLoss])
def test_loss_and_gradients_are_those_of_the_pairs_one_by_one(make_loss, model):
    model.double()  # in float32 the sums of a different order differ by more than a mistake might
    loss, labels = make_loss(model), torch.tensor([row["label"] for row in ROWS])
    columns = [model.preprocess([row[name] for row in ROWS]) for name in ("text_a", "text_b")]
    expected = loss(columns, labels)
    expected.backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    batch = TextsOnceCollator(model.preprocess)(ROWS)
    features = {name.removeprefix("text_a_"): value for name, value in batch.items() if name != "label"}
    result = DeduplicatedPairsLoss(model, loss)([features], batch["label"])
    result.backward()
    assert result.item() == pytest.approx(expected.item(), rel=1e-12)
    assert gradients
    for name, parameter in model.named_parameters():
        if name in gradients:
            assert_allclose(parameter.grad, gradients[name], atol=1e-10, err_msg=name)


def test_a_loss_object_is_bound_to_the_model_but_its_guide_stays(model, tiny):
    first, guide = (SentenceTransformer(tiny, device="cpu") for _ in range(2))
    bound = _bound_to(model, losses.MatryoshkaLoss(first, losses.GISTEmbedLoss(first, guide), [16]))
    assert bound.model is model
    assert bound.loss.model is model
    assert bound.loss.guide is not model


def test_adapters_are_small_and_merging_them_gives_a_plain_model_back(model):
    names = [name for name, _ in model.named_parameters()]
    n_weights = sum(parameter.numel() for parameter in model.parameters())
    adapters = add_adapters(model, 2)
    n_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert 0 < n_trained < n_weights / 4
    adapters.merge_and_unload()
    assert [name for name, _ in model.named_parameters()] == names


def test_a_model_without_a_transformer_has_no_room_for_adapters(model_folder):
    static = SentenceTransformer(model_folder("static"), device="cpu")
    with pytest.raises(ValueError, match="lora_rank adds adapters to a transformer, and this model has none"):
        add_adapters(static, 2)
