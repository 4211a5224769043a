"""Adaptation to texts without labels: what is deleted or hidden, which weights are shared, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

import skembed
from skembed import SentenceEmbeddingFineTuner
from skembed.training.adaptation import delete_tokens, make_adaptation
from tests.training.fast import FAST, StoppedError, stop_training_at

LOSSES = ("tsdae", "mlm")


@pytest.fixture
def model(tiny):
    return SentenceTransformer(tiny, device="cpu")


def features_of(model, texts):
    return model.preprocess(texts)


class TestDeletion:
    @settings(deadline=None)
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.booleans(), st.floats(0, 1), st.integers(0, 99))
    def test_what_stays_is_in_order_and_each_text_keeps_a_token(self, lengths, on_the_left, share, seed):
        torch.manual_seed(seed)
        width = max(lengths) + 2
        rows = [[1, *range(10, 10 + length), 2] for length in lengths]
        rows = [[0] * (width - len(row)) + row if on_the_left else row + [0] * (width - len(row)) for row in rows]
        ids = torch.tensor(rows)
        features = {"input_ids": ids, "attention_mask": (ids > 0).long(), "n": 5}
        left = delete_tokens(features, (ids == 1) | (ids == 2), share)
        assert left["n"] == 5
        for length, row, mask in zip(lengths, left["input_ids"].tolist(), left["attention_mask"].tolist(), strict=True):
            kept = [token for token, is_token in zip(row, mask, strict=True) if is_token]
            assert mask == sorted(mask, reverse=True)  # padding is on the right
            assert (kept[0], kept[-1]) == (1, 2)
            assert kept[1:-1] == sorted(set(kept[1:-1]) & set(range(10, 10 + length)))
            assert len(kept) >= 3

    def test_about_the_given_share_is_deleted(self):
        ids = torch.full((50, 100), 7)
        torch.manual_seed(0)
        left = delete_tokens({"input_ids": ids, "attention_mask": ids}, torch.zeros_like(ids).bool(), 0.6)
        assert 0.38 < left["attention_mask"].sum() / ids.numel() < 0.42

    def test_a_prompt_that_the_pooling_leaves_out_stays_whole(self, model_folder, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "skembed.training.adaptation.delete_tokens",
            lambda features, stays, share: (
                seen.append((stays & (features["attention_mask"] > 0)).sum(dim=1).tolist()) or features
            ),
        )
        model = SentenceTransformer(model_folder("bert"), device="cpu")
        features = model.preprocess(["a quick fox", "a dog"])
        for n_prompt in (0, 3):
            make_adaptation("tsdae", model)([{**features, "prompt_length": n_prompt}], None)
        assert seen == [[2, 2], [4, 4]]  # [CLS] is the first token of the prompt


class TestWeights:
    def test_the_decoder_of_tsdae_is_the_model(self, model):
        decoder = make_adaptation("tsdae", model).loss.decoder
        own, shared = dict(model.transformers_model.named_parameters()), dict(decoder.bert.named_parameters())
        assert all(own[name] is shared[name] for name in own if name in shared)
        new = {name.split(".")[3] for name in shared if name not in own}
        assert new == {"crossattention"}

    def test_the_head_of_mlm_reads_the_model_and_guesses_by_its_table_of_tokens(self, model):
        loss = make_adaptation("mlm", model)
        assert loss.head.bert is model.transformers_model
        assert loss.head.get_output_embeddings().weight is model.transformers_model.embeddings.word_embeddings.weight

    @pytest.mark.parametrize("loss_name", LOSSES)
    def test_making_a_loss_changes_no_vector(self, loss_name, model):
        before = model.encode(["a quick fox"])
        named = model.transformers_model.config._name_or_path
        make_adaptation(loss_name, model)
        assert_array_equal(model.encode(["a quick fox"]), before)
        assert model.transformers_model.config._name_or_path == named

    @pytest.mark.parametrize("loss_name", LOSSES)
    def test_a_validation_draws_the_same_numbers_each_time_and_none_of_the_training(self, loss_name, model):
        loss, features = make_adaptation(loss_name, model).eval(), [model.preprocess(["a quick fox jumps over"] * 4)]
        model.eval()
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        values = [loss(features, None).item() for _ in range(2)]
        assert values[0] == values[1]
        assert torch.rand(1) == expected

    def test_a_batch_in_which_nothing_is_hidden_has_no_loss(self, model):
        loss = make_adaptation("mlm", model)([model.preprocess([""])], None)
        loss.backward()
        assert loss.item() == 0


class TestTraining:
    @pytest.mark.slow
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("parameters", [{}, {"early_stopping": True, "epochs": 2, "validation_fraction": 0.3}])
    def test_a_model_adapts_to_texts(self, loss, parameters, corpus, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, loss=loss, **{**FAST, "epochs": 3, **parameters}).fit(corpus)
        losses = tuner.history_["loss"].dropna()
        assert tuner.loss_ == loss
        assert losses.tail(3).mean() < losses.head(3).mean()
        assert tuner.history_["validation_score"].notna().any() == bool(parameters)
        assert np.abs(tuner.transform(corpus) - skembed.embed(corpus, model=tiny)).max() > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", LOSSES)
    def test_only_the_weights_of_the_model_are_kept(self, loss, corpus, tiny, tmp_path):
        tuner = SentenceEmbeddingFineTuner(tiny, loss=loss, **FAST).fit(corpus)
        vectors = tuner.transform(corpus)
        tuner.save(tmp_path / "tuned")
        saved = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
        before = SentenceTransformer(tiny, device="cpu")
        assert_allclose(saved.encode(corpus), vectors, atol=1e-5)
        assert [name for name, _ in saved.named_parameters()] == [name for name, _ in before.named_parameters()]

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", LOSSES)
    def test_the_same_seed_gives_the_same_vectors_and_another_gives_others(self, loss, corpus, tiny):
        first, again, other = (
            SentenceEmbeddingFineTuner(tiny, loss=loss, **{**FAST, "random_state": seed}).fit_transform(corpus)
            for seed in (0, 0, 1)
        )
        assert_allclose(again, first, atol=1e-6)
        assert np.abs(other - first).max() > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_an_interrupted_adaptation_resumes_to_the_same_result(
        self, loss, early_stopping, corpus, tiny, tmp_path, monkeypatch
    ):
        settings = {"loss": loss, "epochs": 3, "early_stopping": early_stopping, "validation_fraction": 0.3, **FAST}
        expected = SentenceEmbeddingFineTuner(tiny, **settings).fit_transform(corpus)
        tuner = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **settings)
        with monkeypatch.context() as patch:
            stop_training_at(8, patch)
            with pytest.raises(StoppedError):
                tuner.fit(corpus)
        assert any(tmp_path.glob("run-*/checkpoint-*"))
        assert_allclose(tuner.fit_transform(corpus), expected, atol=1e-5)

    @pytest.mark.slow
    def test_adapters_are_trained_by_mlm_and_merged(self, corpus, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, loss="mlm", lora_rank=2, **FAST).fit(corpus)
        table = "embeddings.word_embeddings.weight"
        before = SentenceTransformer(tiny, device="cpu").transformers_model.get_parameter(table)
        assert torch.equal(tuner.model_.transformers_model.get_parameter(table), before)
        assert np.abs(tuner.transform(corpus) - skembed.embed(corpus, model=tiny)).max() > 1e-4

    @pytest.mark.parametrize("loss", LOSSES)
    def test_labels_are_ignored_as_in_a_pipeline_before_a_classifier(self, loss, corpus, tiny, monkeypatch):
        trained = []
        monkeypatch.setattr("skembed.training.trainer.train", lambda run, key: trained.append(run.data) or 1 / 0)
        for y in (None, ["a", "b"] * 24, [["a"], ["a", "b"]] * 24):
            with pytest.raises(ZeroDivisionError):
                SentenceEmbeddingFineTuner(tiny, loss=loss, **FAST).fit_transform(corpus, y)
        assert trained[0] == trained[1] == trained[2]
        assert trained[0].kind == "texts"


class TestRefusal:
    @pytest.mark.parametrize(
        ("loss", "kind", "message"),
        [
            ("tsdae", "static", "loss='tsdae' adapts a transformer, and the model begins with StaticEmbedding"),
            ("mlm", "static", "loss='mlm' adapts a transformer, and the model begins with StaticEmbedding"),
            ("mlm", "router", "the model begins with Router"),
            ("mlm", "roberta", "loss='mlm' hides tokens, and the model's tokenizer has no mask token"),
            ("tsdae", "modernbert", "needs a decoder, and transformers has none for ModernBertModel"),
            ("tsdae", "decoder", "needs a decoder that reads a vector, and transformers has none for Qwen2Model"),
            ("tsdae", "dense", "vectors of 32 dimensions.* and the model's vectors have 16"),
        ],
    )
    def test_a_model_that_cannot_be_adapted_is_one_clear_error(self, loss, kind, message, model_folder):
        with pytest.raises(ValueError, match=message):
            make_adaptation(loss, SentenceTransformer(model_folder(kind), device="cpu"))

    def test_a_model_without_a_head_that_guesses_tokens_is_named(self, model_folder):
        model = SentenceTransformer(model_folder("decoder"), device="cpu")
        model.tokenizer.mask_token = "<|pad|>"
        with pytest.raises(ValueError, match="needs a head that guesses tokens, and transformers has none for Qwen2Mo"):
            make_adaptation("mlm", model)

    def test_several_poolings_are_not_rebuilt_from(self, model):
        model[1] = Pooling(32, ("mean", "max"))
        with pytest.raises(ValueError, match="the model's vectors have 64"):
            make_adaptation("tsdae", model)

    @pytest.mark.parametrize(
        ("X", "parameters", "message"),
        [
            ("texts", {"loss": "tsdae", "lora_rank": 2}, "loss='tsdae' shares all weights.*pass lora_rank=None"),
            ("texts", {"loss": "tsdae", "matryoshka_dims": [8]}, "rebuilds a text from all dimensions"),
            ("texts", {"loss": "mlm", "matryoshka_dims": [8]}, "learns from tokens, not from the vector"),
            (
                "positives",
                {"loss": "mlm"},
                "learns from texts alone; X and y are pairs that belong together",
            ),
        ],
    )
    def test_parameters_and_data_that_make_no_sense_are_one_error(self, X, parameters, message, training_data, tiny):
        with pytest.raises(ValueError, match=message):
            SentenceEmbeddingFineTuner(tiny, **{**FAST, **parameters}).fit(training_data[X][0])
