"""The torch backend: memory that runs out, a model that stays as it was, and models of other kinds."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from skembed import TruncationWarning, embed, unload_models
from skembed.encoding.plan import make_plan
from skembed.encoding.settings import Settings
from skembed.encoding.torch_backend import _BATCHES_IN_FLIGHT, TorchBackend, _copied_behind, _start_copy


@pytest.fixture
def small_memory(monkeypatch):
    """``small_memory(n)``: from here on, a batch of more than n padded tokens does not fit."""
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


def masks_of(model, monkeypatch) -> list:
    """Note the masks that a model is given."""
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


def test_a_text_that_holds_the_sign_of_padding_gets_a_mask(tiny, monkeypatch):
    unload_models()
    model = SentenceTransformer(tiny, device="cpu")
    masks = masks_of(model, monkeypatch)
    text = f"a {model.tokenizer.pad_token} fox"
    vectors = embed([text], model=model, cache=None)
    assert masks[-1] is not None
    assert_allclose(vectors, model.encode([text]), atol=1e-6)


def test_a_model_with_code_of_its_own_gets_a_mask_always(tiny):
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
    """What needs no CUDA device of the code for one."""

    @pytest.mark.parametrize("n_batches", [0, 1, 3, 20])
    def test_results_are_waited_for_a_few_batches_after_their_copy_began(self, n_batches):
        said = []

        def batches():
            for number in range(n_batches):
                said.append(("computed", number))
                yield np.array([number]), torch.full((1, 2), float(number))

        def start_copy(vectors):
            return lambda: (said.append(("waited for", int(vectors[0, 0]))), vectors.numpy())[1]

        found = list(_copied_behind(batches(), start_copy))
        assert [int(rows[0]) for rows, _ in found] == list(range(n_batches))
        assert [vectors[0, 0] for _, vectors in found] == list(range(n_batches))
        for number in range(n_batches - _BATCHES_IN_FLIGHT):
            assert said.index(("waited for", number)) > said.index(("computed", number + _BATCHES_IN_FLIGHT))

    def test_a_batch_takes_half_of_the_free_memory_at_most(self, tiny, monkeypatch):
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
    def test_memory_that_is_short_makes_batches_small(self, fitting, batch_tokens, tiny, monkeypatch):
        monkeypatch.setattr(TorchBackend, "tokens_that_fit", lambda _: fitting)
        monkeypatch.setattr(TorchBackend, "has_activations", False)  # as where it is not on the CPU
        assert make_plan(Settings(model=tiny)).batch_tokens == batch_tokens

    @pytest.mark.parametrize("is_pinned", [True, False])
    def test_a_copy_is_read_once_it_has_landed(self, is_pinned, monkeypatch):
        """With stand-ins for what CUDA has: pinned memory and events."""
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
        wait = _start_copy(torch.ones(2, 3))
        assert said == (["recorded on the stream of cpu"] if is_pinned else [])
        assert wait().tolist() == [[1.0] * 3] * 2
        assert said == (["recorded on the stream of cpu", "waited"] if is_pinned else [])
