"""The torch backend: running out of memory, leaving models as they were, and models of other kinds."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from skembed import TruncationWarning, embed, unload_models
from skembed.encoding.backends.torch_backend import TorchBackend
from skembed.encoding.backends.torch_batches import _BATCHES_IN_FLIGHT, read_behind, start_copy
from skembed.encoding.backends.torch_reader import max_positions
from skembed.encoding.models import registry
from skembed.encoding.models.fingerprint import fingerprint_live
from skembed.encoding.plan import make_plan
from skembed.encoding.settings import Settings
from tests.tiny_models import HIDDEN, make_decoder


@pytest.fixture
def small_memory(tiny, monkeypatch):
    """``small_memory(n)``: from here on, a batch of more than n padded tokens does not fit."""
    embed(["a"], model=tiny, cache=None)  # its weights do
    sizes: list[int] = []

    def limit(n_tokens, message="CUDA out of memory. Tried to allocate 2.00 GiB"):
        original = TorchBackend._token_vectors

        def forward(backend, input_ids, *rest):
            sizes.append(input_ids.size)
            if input_ids.size > n_tokens:
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


def test_another_runtime_error_is_raised(tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("something else")

    embed(["a"], model=tiny, cache=None)
    monkeypatch.setattr(TorchBackend, "_token_vectors", broken)
    with pytest.raises(RuntimeError, match="something else"):
        embed(["a"], model=tiny)


def test_a_loaded_model_in_training_mode_stays_so_and_runs_without_dropout(tiny, reference):
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
def test_a_router_tokenizes_and_pools_by_itself(reference, mixed_texts):
    modules = list(reference("bert").children())[:2]
    router = Router({"query": modules, "document": modules}, default_route="document")
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    assert_allclose(embed(mixed_texts, model=model), model.encode(mixed_texts), atol=1e-5)
    assert_allclose(embed(mixed_texts, model=model, prompt="a"), model.encode(mixed_texts, prompt="a"), atol=1e-5)


def test_truncated_texts_are_counted_for_a_model_that_tokenizes_by_itself(reference):
    modules = list(reference("bert").children())[:2]
    router = Router({"query": modules, "document": modules}, default_route="document")
    model = SentenceTransformer(modules=[router], device="cpu")
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts have more than 24 tokens .* embed shorter ones"):
        embed(["fox", "fox " * 40], model=model)
    with pytest.raises(ValueError, match=r"X\[1\] has 42 tokens, .* or choose long_texts='truncate'"):
        embed(["fox", "fox " * 40], model=model, long_texts="error")
    with pytest.raises(ValueError, match=r"long_texts='mean' is not supported by .*Router"):
        embed(["fox", "fox " * 40], model=model, long_texts="mean")


def test_left_padding_makes_no_difference_to_a_model_with_a_position_table(model_folder):
    model = SentenceTransformer(model_folder("gpt2"), device="cpu")
    texts = ["The quick brown fox jumps.", "fox", "a parcel was sent"]
    alone = np.vstack([model.encode([text]) for text in texts])
    model.tokenizer.padding_side = "left"  # now sentence-transformers shifts the positions of shorter texts
    assert not np.allclose(model.encode(texts), alone, atol=1e-3)
    assert_allclose(embed(texts, model=model), alone, atol=1e-5)


def test_texts_truncated_on_the_left_keep_their_end(tiny):
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
def test_a_model_with_an_unknown_last_module_is_run_as_a_whole(reference):
    model = SentenceTransformer(modules=[*list(reference("bert").children())[:2], ReadsTokens()], device="cpu")
    texts = ["fox", "a lazy dog"]
    alone = np.vstack([model.encode([text]) for text in texts])  # its maximum takes in the padding
    assert_allclose(np.vstack([embed([text], model=model) for text in texts]), alone, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"pooling='cls' is not supported by .* \(its module ReadsTokens may read more"
    ):
        embed(texts, model=model, pooling="cls")


def other_first(model, monkeypatch):
    class Own(Transformer):
        def preprocess(self, inputs, *args, **params):
            return super().preprocess([f"{text} lazy dog" for text in inputs], *args, **params)

    model[0].__class__ = Own


def other_pooling(model, monkeypatch):
    class Own(Pooling):
        def forward(self, features, **params):
            features["attention_mask"] = features["attention_mask"].clone()
            features["attention_mask"][:, 0] = 0
            return super().forward(features, **params)

    model[1].__class__ = Own


def other_normalize(model, monkeypatch):
    class Own(Normalize):
        def forward(self, features, **params):
            features = super().forward(features, **params)
            features["sentence_embedding"] = features["sentence_embedding"] * 3
            return features

    model[2].__class__ = Own


def own_model(**methods):
    def change(model, monkeypatch):
        model.__class__ = type("Own", (SentenceTransformer,), methods)

    return change


def own_preprocess(self, inputs, *args, **params):
    return SentenceTransformer.preprocess(self, [f"{text} lazy" for text in inputs], *args, **params)


def own_forward(self, features, **params):
    features = SentenceTransformer.forward(self, features, **params)
    return {**features, "sentence_embedding": features["sentence_embedding"] + 1}


def own_encode(self, inputs, *args, **params):
    return SentenceTransformer.encode(self, [text.upper() + " fox" for text in inputs], *args, **params)


def shift(module, args, output):
    return {**output, "sentence_embedding": output["sentence_embedding"] + 1}


def hook_on_pooling(model, monkeypatch):
    model[1].register_forward_hook(shift)


def hook_on_the_last_module(model, monkeypatch):
    model[2].register_forward_hook(shift)


def hook_before_a_layer(model, monkeypatch):
    model[0].model.encoder.layer[1].register_forward_pre_hook(lambda module, args: (args[0].flip(-1), *args[1:]))


def method_set_on_a_module(model, monkeypatch):
    original = model[1].forward
    model[1].forward = lambda features, **params: shift(None, None, original(features, **params))


def method_set_on_the_model(model, monkeypatch):
    original = model.preprocess
    model.preprocess = lambda inputs, *args, **params: original([f"{text} lazy" for text in inputs], *args, **params)


def tokenizer_of_its_own(model, monkeypatch):
    class Own(type(model.tokenizer)):
        def _encode_plus(self, text, *args, **params):
            is_one = isinstance(text, str)
            changed = [one.replace("quick", "lazy") for one in ([text] if is_one else text)]
            return super()._encode_plus(changed[0] if is_one else changed, *args, **params)

    model.tokenizer.__class__ = Own


def another_dense(model, monkeypatch):
    class Own(Dense):
        def forward(self, features):
            return {**features, "sentence_embedding": features["token_embeddings"].mean(dim=1)}

    model.append(Own(HIDDEN, HIDDEN))


OF_ITS_OWN = {
    "a Transformer": other_first,
    "a Pooling": other_pooling,
    "a Normalize": other_normalize,
    "a Dense": another_dense,
    "a model's preprocess": own_model(preprocess=own_preprocess),
    "a model's forward": own_model(forward=own_forward),
    "a model's encode": own_model(encode=own_encode),
    "a hook on the pooling": hook_on_pooling,
    "a hook on the last module": hook_on_the_last_module,
    "a hook before a layer": hook_before_a_layer,
    "a method set on a module": method_set_on_a_module,
    "a method set on the model": method_set_on_the_model,
    "a tokenizer": tokenizer_of_its_own,
}


@pytest.mark.parametrize("change", OF_ITS_OWN.values(), ids=OF_ITS_OWN)
def test_code_that_is_not_the_libraries_own_is_run(change, tiny, monkeypatch):
    model, plain = (SentenceTransformer(tiny, device="cpu") for _ in range(2))
    change(model, monkeypatch)
    texts = ["the quick brown fox", "dog"]
    expected = np.vstack([model.encode([text]) for text in texts])
    vectors = embed(texts, model=model)
    assert_allclose(vectors, expected, atol=1e-5)
    assert not np.allclose(vectors, plain.encode(texts), atol=1e-3)
    with pytest.raises(ValueError, match=r"pooling='cls' is not supported by"):
        embed(texts, model=model, pooling="cls")


@pytest.mark.parametrize("change", OF_ITS_OWN.values(), ids=OF_ITS_OWN)
def test_code_that_is_not_the_libraries_own_changes_the_fingerprint(change, tiny, monkeypatch):
    model = SentenceTransformer(tiny, device="cpu")
    embed(["fox"], model=model)
    before = fingerprint_live(model)
    change(model, monkeypatch)
    assert fingerprint_live(model) != before
    assert_allclose(embed(["fox"], model=model), model.encode(["fox"]), atol=1e-5)


def test_a_parametrisation_is_part_of_the_weights(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    torch.nn.utils.parametrizations.weight_norm(model[0].model.encoder.layer[0].output.dense)
    assert_allclose(embed(["fox"], model=model, pooling="default"), model.encode(["fox"]), atol=1e-5)
    assert TorchBackend(model).unsupported_reason is None


def network_of(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": 400, "hidden_size": HIDDEN, "num_hidden_layers": 2, "intermediate_size": 64}
    if kind == "FNet":
        return transformers.FNetModel(transformers.FNetConfig(**sizes, max_position_embeddings=64))
    sizes["num_attention_heads"] = 4
    if kind == "MobileBERT":
        config = transformers.MobileBertConfig(
            **sizes, embedding_size=16, intra_bottleneck_size=16, max_position_embeddings=64
        )
        return transformers.MobileBertModel(config)
    if kind == "Nystromformer":
        config = transformers.NystromformerConfig(
            **sizes, max_position_embeddings=64, num_landmarks=64, segment_means_seq_len=64
        )
        return transformers.NystromformerModel(config)
    config = transformers.BigBirdConfig(
        **sizes, max_position_embeddings=64, block_size=2, num_random_blocks=1, attention_type="block_sparse"
    )
    return transformers.BigBirdModel(config)


@pytest.fixture(scope="module")
def dependent(tiny, tmp_path_factory):
    """``dependent(kind)``: the folder of a model whose vectors depend on the padding of their batch."""
    root = tmp_path_factory.mktemp("dependent")

    @cache
    def make(kind: str) -> str:
        plain, folder = Path(shutil.copytree(f"{tiny}-plain", root / f"{kind}-plain")), str(root / kind)
        network = network_of(kind).eval()
        for weights in network.parameters():  # as far apart as after a training
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=0.3)
        network.save_pretrained(plain)
        modules = [Transformer(str(plain), max_seq_length=24), Pooling(HIDDEN, "mean"), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(folder)
        return folder

    return make


TEXTS = [
    "fox",
    "the quick brown fox jumps over the lazy dog",
    "a dog",
    "the fox",
    "a parcel was sent",
    "over it",
    "dog",
]


@pytest.mark.parametrize("kind", ["FNet", "MobileBERT", "Nystromformer", "BigBird"])
def test_a_vector_depends_on_its_text_alone(kind, dependent):
    alone = np.vstack([SentenceTransformer(dependent(kind), device="cpu").encode([text]) for text in TEXTS])
    assert_allclose(embed(TEXTS, model=dependent(kind), cache=None), alone, atol=1e-5)
    assert_allclose(embed(TEXTS[:1], model=dependent(kind), cache=None), alone[:1], atol=1e-5)
    (model,) = [model for model in registry._loaded.values() if model.name == dependent(kind)]
    assert model.backend.company == "of its length"


@pytest.mark.parametrize("n_tokens", [23, 24])
def test_an_inner_layer_has_no_vectors_of_what_the_network_pads(n_tokens, dependent):
    """BigBird reads blocks of tokens, here of two."""
    first = SentenceTransformer(dependent("BigBird"), device="cpu")[0]
    text = " ".join(["fox"] * (n_tokens - 2))
    features = first.preprocess([text])
    assert features["input_ids"].shape[1] == n_tokens
    with torch.no_grad():
        states = first.model(**features, output_hidden_states=True).hidden_states
    expected = torch.nn.functional.normalize(states[1][:, :n_tokens].mean(dim=1))
    found = embed([text], model=dependent("BigBird"), layers=1, backend="torch", cache=None)
    assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["FNet", "MobileBERT", "Nystromformer"])
def test_in_sentence_transformers_a_vector_depends_on_its_batch(kind, dependent):
    """If this fails, transformers has fixed it, and the test above tests nothing."""
    model = SentenceTransformer(dependent(kind), device="cpu")
    assert not np.allclose(model.encode(TEXTS)[0], model.encode(TEXTS[:1])[0], atol=1e-3)


@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder", "gpt2", "dense", "static"])
def test_texts_of_ordinary_models_share_batches(kind, reference):
    assert TorchBackend(reference(kind)).company == "any"


def test_a_model_that_tokenizes_by_itself_gets_texts_one_by_one_if_the_batch_matters(reference):
    first, pooling, _ = reference("bert").children()
    model = SentenceTransformer(modules=[first, pooling, ReadsTokens()], device="cpu")
    alone = np.vstack([model.encode([text]) for text in TEXTS])
    assert_allclose(embed(TEXTS, model=model, cache=None), alone, atol=1e-5)
    assert TorchBackend(model).company == "none"


def test_positions_that_depend_on_the_longest_text_keep_texts_of_one_length_together(model_folder):
    model = SentenceTransformer(model_folder("decoder"), device="cpu")
    model[0].model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert TorchBackend(model).company == "of its length"


def test_positions_that_grow_with_a_long_text_are_reset_for_the_next(tmp_path):
    folder = tmp_path / "dynamic"
    make_decoder(folder, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}, max_positions=8)
    model = SentenceTransformer(str(folder), device="cpu")
    rotary = next(module for module in model.modules() if hasattr(module, "max_seq_len_cached"))
    longer, longest = "the quick brown fox " * 4, "the quick brown fox " * 12
    params = {"model": model, "backend": "torch", "cache": None, "max_seq_length": 60}
    alone = embed([longer], **params)
    embed([longest], **params)
    assert_array_equal(embed([longer], **params), alone)
    assert_array_equal(embed([longest, longer], **params)[1:], alone)
    assert rotary.max_seq_len_cached == rotary.original_max_seq_len


@pytest.mark.parametrize("params", [{"layers": 0}, {"layers": (-1, -2)}], ids=str)
def test_reading_layers_of_a_loaded_model_leaves_nothing_in_it(params, tiny):
    model = SentenceTransformer(tiny, device="cpu")
    before = pickle.dumps(model)
    embed(["fox"], model=model, **params)
    assert not any(module._forward_hooks for module in model.modules())
    assert len(pickle.dumps(model)) == len(before)


def test_hooks_that_transformers_set_for_the_user_stay(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    model[0].model(torch.ones(1, 3, dtype=torch.long), output_hidden_states=True)
    n_hooks = sum(len(module._forward_hooks) for module in model.modules())
    if not n_hooks:
        pytest.skip("this version of transformers leaves no hooks")
    embed(["fox"], model=model, layers=0)
    assert sum(len(module._forward_hooks) for module in model.modules()) == n_hooks
    assert TorchBackend(model).spec is not None


WORDS = ["a", "fox", "dog", "lazy", "quick", "brown", "jumps"]


@pytest.mark.parametrize("n_words", [3, 4, 5, 20])
def test_a_model_of_word_vectors_truncates_texts_as_sentence_transformers_does(n_words):
    words = WordEmbeddings(WhitespaceTokenizer(WORDS), np.eye(len(WORDS), 8), max_seq_length=4)
    model = SentenceTransformer(modules=[words, Pooling(8)], device="cpu")
    texts = ["fox " + " ".join(["lazy"] * (n_words - 1)), "dog"]
    with nullcontext() if n_words <= 4 else pytest.warns(TruncationWarning, match="1 of 2 texts have more than 4"):
        vectors = embed(texts, model=model)
    assert_allclose(vectors, model.encode(texts), atol=1e-6)


@pytest.mark.slow
def test_a_model_that_cannot_read_one_letter_is_loaded(tiny, tmp_path):
    """CANINE reads four characters at a time."""
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.CanineConfig(
        **sizes, max_position_embeddings=256, num_hash_buckets=64, num_hash_functions=4, local_transformer_stride=16
    )
    transformers.CanineModel(config).eval().save_pretrained(tmp_path)
    transformers.CanineTokenizer().save_pretrained(tmp_path)
    modules = [Transformer(str(tmp_path), max_seq_length=128), Pooling(HIDDEN)]
    model = SentenceTransformer(modules=modules, device="cpu")
    texts = ["Where is my fox?", "the quick brown fox jumps"]
    expected = np.vstack([model.encode([text]) for text in texts])
    assert_allclose(embed(texts, model=model), expected, atol=1e-5)


@pytest.mark.parametrize("places", [{"": "cpu"}, {"embeddings": "cpu", "encoder": "disk", "pooler": "cpu"}], ids=str)
def test_a_model_that_accelerate_placed_is_run_where_it_is(places, tiny, tmp_path):
    pytest.importorskip("accelerate")
    options = {"device_map": places, "offload_folder": str(tmp_path)}
    model = SentenceTransformer(tiny, device=None, model_kwargs=options)
    expected = SentenceTransformer(tiny, device="cpu")
    assert_allclose(embed(["fox", "a lazy dog"], model=model), expected.encode(["fox", "a lazy dog"]), atol=1e-5)


def test_a_position_table_with_an_offset_is_not_overrun():
    from transformers import OPTConfig, OPTModel

    config = OPTConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16)
    config.max_position_embeddings, config.word_embed_proj_dim = 20, 16
    model = OPTModel(config).eval()
    n_positions = max_positions(model)
    assert n_positions == 20
    model(input_ids=torch.ones(1, n_positions, dtype=torch.long))
    with pytest.raises(IndexError):
        model(input_ids=torch.ones(1, n_positions + 1, dtype=torch.long))


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "weightedmean"])
def test_a_prompt_that_fills_the_text_and_is_left_out_is_handled_as_in_sentence_transformers(pooling, reference):
    first, old, *tail = reference("bert").children()
    own = Pooling(old.embedding_dimension, pooling, include_prompt=False)
    model = SentenceTransformer(modules=[first, own, *tail], device="cpu")
    prompt = "the quick brown fox " * 12
    with pytest.warns(TruncationWarning):
        vectors = embed(["dog"], model=model, prompt=prompt)
    assert_allclose(vectors, model.encode(["dog"], prompt=prompt), atol=1e-5)


def test_rows_of_a_long_text_are_weighted_by_their_pooled_tokens(reference):
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


def masks_of(model, monkeypatch) -> list:
    """Return a list that grows by each mask that a model is called with."""
    masks, kind = [], type(model[0].model)
    original = kind.forward

    def forward(self, *args, **params):
        masks.append(params["attention_mask"])
        return original(self, *args, **params)

    monkeypatch.setattr(kind, "forward", forward)
    return masks


@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder", "gpt2"])
def test_a_batch_without_padding_goes_without_a_mask_and_gives_the_same(kind, model_folder, monkeypatch):
    unload_models()  # or else a copy from another test would serve
    model = SentenceTransformer(model_folder(kind), device="cpu")
    masks = masks_of(model, monkeypatch)
    params = {"model": model, "pooling": ("mean", "cls", "lasttoken"), "cache": None}
    alone = embed(["the lazy dog"], **params)
    padded = embed(["the lazy dog", "the quick brown fox jumps over the lazy dog"], **params)
    assert masks[-2] is None
    assert masks[-1] is not None
    assert_allclose(alone[0], padded[0], atol=1e-6)


def test_a_text_that_contains_the_padding_token_gets_a_mask(tiny, monkeypatch):
    unload_models()
    model = SentenceTransformer(tiny, device="cpu")
    masks = masks_of(model, monkeypatch)
    text = f"a {model.tokenizer.pad_token} fox"
    vectors = embed([text], model=model, cache=None)
    assert masks[-1] is not None
    assert_allclose(vectors, model.encode([text]), atol=1e-6)


def test_a_model_with_code_of_its_own_always_gets_a_mask(tiny):
    unload_models()
    model = SentenceTransformer(tiny, device="cpu")
    masks = []

    class Own(type(model[0].model)):
        def forward(self, input_ids, attention_mask, **more):
            masks.append(attention_mask.tolist())
            return super().forward(input_ids, attention_mask, **more)

    model[0].model.__class__ = Own
    embed(["fox"], model=model, cache=None)
    assert masks[-1] == [[1] * len(masks[-1][0])]


FORK = """
import os, signal, sys, skembed
texts = [f"the quick brown fox jumps over {n} lazy dogs " * 5 for n in range(64)]
before = skembed.embed(texts, model=sys.argv[1], cache=None, backend="torch")
child = os.fork()
if child == 0:
    signal.alarm(60)
    after = skembed.embed(texts, model=sys.argv[1], cache=None, backend="torch")
    os._exit(0 if abs(after - before).max() < 1e-5 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_forked_from_a_process_that_has_encoded_encodes_too(tiny):
    several_threads = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", FORK, tiny], env=several_threads, capture_output=True, text=True)
    assert run.stdout.strip() == "0", run.stderr


class TestCuda:
    """The code for CUDA, as far as it can be tested without a CUDA device."""

    @pytest.mark.parametrize("n_batches", [0, 1, 3, 20])
    def test_results_are_read_a_few_batches_after_their_copy_began(self, n_batches):
        said = []

        def batches():
            for number in range(n_batches):
                said.append(("computed", number))
                yield np.array([number]), torch.full((1, 2), float(number))

        def start_copy(vectors):
            return lambda: (said.append(("waited for", int(vectors[0, 0]))), vectors.numpy())[1]

        found = list(read_behind(batches(), start_copy))
        assert [int(rows[0]) for rows, _ in found] == list(range(n_batches))
        assert [vectors[0, 0] for _, vectors in found] == list(range(n_batches))
        for number in range(n_batches - _BATCHES_IN_FLIGHT):
            assert said.index(("waited for", number)) > said.index(("computed", number + _BATCHES_IN_FLIGHT))

    def test_a_batch_takes_at_most_half_of_the_free_memory(self, tiny, monkeypatch):
        backend = TorchBackend(SentenceTransformer(tiny, device="cpu"))
        assert backend.tokens_that_fit() == np.inf
        backend.device = torch.device("cuda:0")
        free = iter([(10**6, 10**9), (2 * 10**6, 10**9), (10**6, 10**9)])
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: next(free))
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 500)
        monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 500)
        few, more = backend.tokens_that_fit(), backend.tokens_that_fit()
        config = backend.transformer.config
        widest = 6 * config.hidden_size + 2 * config.intermediate_size
        states = (config.num_hidden_layers + 1) * config.hidden_size
        assert few == 10**6 / 2 / (4 * (widest + states) + 16 * config.hidden_size)
        assert more == 2 * few
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 10**6 + 500)  # kept by torch, and free
        assert backend.tokens_that_fit() == more
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (0, 10**9))
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 500)
        assert backend.tokens_that_fit() == 0

    @pytest.mark.parametrize(("fitting", "batch_tokens"), [(0.0, 1024), (5000.7, 5000), (float("inf"), 32_768)])
    def test_little_free_memory_makes_batches_small(self, fitting, batch_tokens, tiny, monkeypatch):
        monkeypatch.setattr(TorchBackend, "tokens_that_fit", lambda _: fitting)
        monkeypatch.setattr(TorchBackend, "has_activations", False)  # as where it is not on the CPU
        assert make_plan(Settings(model=tiny)).batch_tokens == batch_tokens

    @pytest.mark.parametrize("is_pinned", [True, False])
    def test_a_copy_is_read_after_its_end(self, is_pinned, monkeypatch):
        """With stand-ins for pinned memory and events, which only CUDA has."""
        said, original = [], torch.empty

        class Event:
            def __init__(self, blocking):
                assert blocking

            def record(self, stream):
                said.append(f"recorded on {stream}")

            def synchronize(self):
                said.append("waited")

        def empty(*shape, pin_memory, **params):
            if not is_pinned:
                raise RuntimeError("CUDA error: out of memory")
            assert params["device"] == "cpu"  # whatever the default device
            return original(*shape, **params)

        monkeypatch.setattr("torch.empty", empty)
        monkeypatch.setattr("torch.cuda.Event", Event)
        monkeypatch.setattr("torch.cuda.current_stream", lambda device: f"the stream of {device}")
        wait = start_copy(torch.ones(2, 3))
        assert said == (["recorded on the stream of cpu"] if is_pinned else [])
        assert wait().tolist() == [[1.0] * 3] * 2
        assert said == (["recorded on the stream of cpu", "waited"] if is_pinned else [])
