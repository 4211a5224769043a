"""The torch backend: memory that runs out, a model that stays as it was, and models of other kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from skembed import TruncationWarning, embed
from skembed.encoding.torch_backend import TorchBackend


@pytest.fixture
def small_memory(monkeypatch):
    """``small_memory(n)``: from here on, a batch of more than n padded tokens does not fit."""
    sizes: list[int] = []

    def limit(n_tokens, message="CUDA out of memory. Tried to allocate 2.00 GiB"):
        original = TorchBackend._token_vectors

        def forward(backend, input_ids, *rest):
            sizes.append(input_ids.numel())
            if input_ids.numel() > n_tokens:
                raise RuntimeError(message) if "CPU" in message else torch.OutOfMemoryError(message)
            return original(backend, input_ids, *rest)

        monkeypatch.setattr(TorchBackend, "_token_vectors", forward)
        return sizes

    return limit


@pytest.mark.parametrize("message", ["CUDA out of memory.", "", "DefaultCPUAllocator: can't allocate memory"])
@pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(message, tiny, mixed_texts, small_memory):
    expected = embed(mixed_texts, model=tiny, cache=None)
    small_memory(50, message)
    assert_allclose(embed(mixed_texts, model=tiny, cache=None), expected, atol=1e-6)


def test_after_running_out_of_memory_no_batch_as_large_is_tried_again(tiny, small_memory):
    sizes = small_memory(60)
    embed([f"fox {number}" for number in range(100)], model=tiny, batch_tokens=200)
    failed = [size for size in sizes if size > 60]
    assert failed == sorted(failed, reverse=True)
    assert len(failed) == len(set(failed))


def test_a_single_text_that_does_not_fit_is_an_error_that_says_what_to_do(tiny, small_memory):
    small_memory(3)
    with pytest.raises(MemoryError, match=r"a single text of \d+ tokens does not fit .* lower max_seq_length"):
        embed(["the quick brown fox jumps over the lazy dog"], model=tiny)


def test_another_runtime_error_is_passed_on(tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(TorchBackend, "_token_vectors", broken)
    with pytest.raises(RuntimeError, match="something else"):
        embed(["a"], model=tiny)


def test_a_loaded_model_in_training_stays_in_training_and_drops_nothing_out(tiny, reference):
    model = SentenceTransformer(tiny, device="cpu").train()
    assert_allclose(embed(["fox"], model=model), reference("bert").encode(["fox"]), atol=1e-6)
    assert all(module.training for module in model.modules())


def test_a_loaded_model_keeps_its_tokenizers_state_and_its_gradients(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    model.encode(["fox"])
    before = (model.tokenizer.backend_tokenizer.truncation, model.tokenizer.backend_tokenizer.padding)
    embed(["fox"], model=model, max_seq_length=9)
    after = (model.tokenizer.backend_tokenizer.truncation, model.tokenizer.backend_tokenizer.padding)
    assert before == after
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_loaded_model_is_not_cast_when_another_precision_is_asked_for(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    embed(["fox"], model=model, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
def test_a_router_is_read_in_its_own_way(reference, mixed_texts):
    modules = list(reference("bert").children())[:2]
    router = Router({"query": modules, "document": modules}, default_route="document")
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    assert_allclose(embed(mixed_texts, model=model), model.encode(mixed_texts), atol=1e-5)
    assert_allclose(embed(mixed_texts, model=model, prompt="a"), model.encode(mixed_texts, prompt="a"), atol=1e-5)


def test_cut_texts_are_counted_for_a_model_that_reads_in_its_own_way(reference):
    modules = list(reference("bert").children())[:2]
    router = Router({"query": modules, "document": modules}, default_route="document")
    model = SentenceTransformer(modules=[router], device="cpu")
    with pytest.warns(TruncationWarning, match="1 of 2 texts have more than 24 tokens"):
        embed(["fox", "fox " * 40], model=model)
    with pytest.raises(ValueError, match=r"X\[1\] has 42 tokens"):
        embed(["fox", "fox " * 40], model=model, long_texts="error")
    with pytest.raises(ValueError, match=r"long_texts='mean' cannot be had .*Router"):
        embed(["fox", "fox " * 40], model=model, long_texts="mean")


def test_left_padding_makes_no_difference_to_a_model_with_a_position_table(model_folder):
    model = SentenceTransformer(model_folder("gpt2"), device="cpu")
    texts = ["The quick brown fox jumps.", "fox", "a parcel was sent"]
    alone = np.vstack([model.encode([text]) for text in texts])
    model.tokenizer.padding_side = "left"  # now sentence-transformers shifts the positions of shorter texts
    assert not np.allclose(model.encode(texts), alone, atol=1e-3)
    assert_allclose(embed(texts, model=model), alone, atol=1e-5)


def test_texts_cut_on_the_left_keep_their_end(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    model.tokenizer.truncation_side = "left"
    text = "fox " * 40 + "the quick dog"
    with pytest.warns(TruncationWarning):
        vectors = embed([text], model=model)
    assert_allclose(vectors, model.encode([text]), atol=1e-6)


class ReadsTokens(torch.nn.Module):
    """A module after the pooling that reads more than the pooled vector."""

    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] + features["token_embeddings"].amax(dim=1)
        return features


@pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
def test_a_model_with_an_unknown_last_module_is_run_in_its_own_way(reference):
    model = SentenceTransformer(modules=[*list(reference("bert").children())[:2], ReadsTokens()], device="cpu")
    texts = ["fox", "a lazy dog"]
    alone = np.vstack([model.encode([text]) for text in texts])  # its maximum takes in the padding
    assert_allclose(np.vstack([embed([text], model=model) for text in texts]), alone, atol=1e-6)
    with pytest.raises(ValueError, match=r"pooling='cls' cannot be had from .*: its module ReadsTokens may read more"):
        embed(texts, model=model, pooling="cls")


def test_a_table_of_positions_with_an_offset_is_not_overrun():
    from transformers import OPTConfig, OPTModel

    from skembed.encoding.torch_backend import _max_positions

    config = OPTConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16)
    config.max_position_embeddings, config.word_embed_proj_dim = 20, 16
    model = OPTModel(config).eval()
    n_positions = _max_positions(model)
    assert n_positions == 20
    model(input_ids=torch.ones(1, n_positions, dtype=torch.long))
    with pytest.raises(IndexError):
        model(input_ids=torch.ones(1, n_positions + 1, dtype=torch.long))


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "weightedmean"])
def test_a_prompt_that_fills_the_window_and_is_left_out_is_as_in_sentence_transformers(pooling, reference):
    first, old, *tail = reference("bert").children()
    own = Pooling(old.embedding_dimension, pooling, include_prompt=False)
    model = SentenceTransformer(modules=[first, own, *tail], device="cpu")
    prompt = "the quick brown fox " * 12
    with pytest.warns(TruncationWarning):
        vectors = embed(["dog"], model=model, prompt=prompt)
    assert_allclose(vectors, model.encode(["dog"], prompt=prompt), atol=1e-5)


def test_windows_count_by_the_tokens_that_are_pooled(reference):
    first, old, *_ = reference("bert").children()
    model = SentenceTransformer(modules=[first, Pooling(old.embedding_dimension, "mean", False)], device="cpu")
    text = "jumps over the lazy dog " * 12
    ids = model.tokenizer("fox: " + text, truncation=True, max_length=24, return_overflowing_tokens=True)["input_ids"]
    n_prompt = len(model.tokenizer("fox: ")["input_ids"]) - 1
    total, n_pooled = np.zeros(old.embedding_dimension), 0
    for number, window in enumerate(ids):
        with torch.inference_mode():
            states = model[0].model(input_ids=torch.tensor([window])).last_hidden_state[0]
        pooled = states[n_prompt:] if number == 0 else states
        total, n_pooled = total + pooled.sum(0).numpy(), n_pooled + len(pooled)
    assert_allclose(embed([text], model=model, prompt="fox: ", long_texts="mean")[0], total / n_pooled, atol=1e-5)
    with pytest.raises(ValueError, match="fills the 24 tokens"):
        embed([text], model=model, prompt="fox " * 40, long_texts="mean")
