"""The encoder against sentence-transformers' encode; its order of rows, cache, truncation and progress bar."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

import skembed
from skembed import EmbeddingCache, SentenceEmbeddingTransformer, TruncationWarning, embed
from skembed.encoding.cache.embedding_cache import find_store
from skembed.encoding.cache.memory_store import MemoryStore
from skembed.encoding.plan import make_plan
from skembed.encoding.settings import POOLINGS, Settings
from skembed.encoding.tokens import TextTokenizer
from skembed.encoding.turns import Turns

KINDS = ["minilm", "bert", "roberta", "decoder", "gpt2", "dense", "dense_raw", "static"]
WITH_POOLING = ["minilm", "bert", "roberta", "decoder", "gpt2", "dense_raw"]

pytestmark = pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")


@pytest.fixture(scope="session")
def path_of(model_folder, minilm_folder):
    return lambda kind: minilm_folder if kind == "minilm" else model_folder(kind)


@pytest.fixture
def texts_for(mixed_texts):
    """A causal model without special tokens has nothing to read in an empty text, and its own encode fails on it."""
    return lambda kind: [text for text in mixed_texts if text or kind != "gpt2"]


def with_pooling(model, mode) -> SentenceTransformer:
    """Return the same model with another pooling module, as a user of sentence-transformers would build it."""
    first, _, *tail = model.children()
    return SentenceTransformer(modules=[first, Pooling(model[1].embedding_dimension, mode), *tail], device="cpu")


def without_normalize(model) -> SentenceTransformer:
    return SentenceTransformer(modules=[m for m in model.children() if not isinstance(m, Normalize)], device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_sentence_transformers(kind, path_of, reference, texts_for):
    texts = texts_for(kind)
    assert_allclose(embed(texts, model=path_of(kind)), reference(kind).encode(texts), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_gives_the_same_vectors_as_its_folder(kind, path_of, reference, texts_for):
    texts = texts_for(kind)
    assert_allclose(embed(texts, model=reference(kind)), embed(texts, model=path_of(kind)), atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", [pytest.param("minilm", marks=pytest.mark.slow), *WITH_POOLING[1:]])
def test_every_pooling_is_that_of_sentence_transformers(kind, pooling, path_of, reference, texts_for):
    texts = texts_for(kind)
    expected = with_pooling(reference(kind), pooling).encode(texts)
    assert_allclose(embed(texts, model=path_of(kind), pooling=pooling), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITH_POOLING)
def test_a_tuple_of_poolings_is_the_concatenation_then_normalised(kind, path_of, reference, texts_for):
    texts = texts_for(kind)
    raw = [without_normalize(with_pooling(reference(kind), mode)).encode(texts) for mode in ("max", "cls", "mean")]
    expected = np.hstack(raw)
    if isinstance(list(reference(kind).children())[-1], Normalize):
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert_allclose(embed(texts, model=path_of(kind), pooling=("max", "cls", "mean")), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_normalised_vectors_are_those_of_sentence_transformers(kind, path_of, reference, texts_for):
    texts = texts_for(kind)
    expected = reference(kind).encode(texts, normalize_embeddings=True)
    assert_allclose(embed(texts, model=path_of(kind), normalize_embeddings=True), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_vectors_are_those_of_the_model_without_its_normalize(kind, path_of, reference, texts_for):
    texts = texts_for(kind)
    expected = without_normalize(reference(kind)).encode(texts)
    assert_allclose(embed(texts, model=path_of(kind), normalize_embeddings=False), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_vectors_are_those_of_sentence_transformers(kind, path_of, reference, texts_for):
    texts = texts_for(kind)
    expected = reference(kind).encode(texts, truncate_dim=7, normalize_embeddings=True)
    assert_allclose(embed(texts, model=path_of(kind), truncate_dim=7, normalize_embeddings=True), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_raw_vectors_are_the_first_dimensions(kind, path_of, texts_for):
    texts = texts_for(kind)
    whole = embed(texts, model=path_of(kind), normalize_embeddings=False)
    cut = embed(texts, model=path_of(kind), normalize_embeddings=False, truncate_dim=5)
    assert_array_equal(cut, whole[:, :5])
    assert cut.flags.c_contiguous


@pytest.mark.parametrize("kind", KINDS)
def test_prompted_vectors_are_those_of_sentence_transformers(kind, path_of, reference, mixed_texts):
    expected = reference(kind).encode(mixed_texts, prompt="search for: ")
    assert_allclose(embed(mixed_texts, model=path_of(kind), prompt="search for: "), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder"])
def test_a_prompt_by_name_is_that_of_the_model(kind, path_of, reference, mixed_texts):
    expected = reference(kind).encode(mixed_texts, prompt_name="query")
    assert_allclose(embed(mixed_texts, model=path_of(kind), prompt_name="query"), expected, atol=1e-5)


def test_the_models_default_prompt_applies_unless_another_is_given(reference, mixed_texts):
    model = SentenceTransformer(
        modules=list(reference("bert").children()), prompts={"q": "fox: "}, default_prompt_name="q", device="cpu"
    )
    assert_allclose(embed(mixed_texts, model=model), model.encode(mixed_texts), atol=1e-5)
    assert_allclose(embed(mixed_texts, model=model, prompt=""), model.encode(mixed_texts, prompt=""), atol=1e-5)


def test_an_unknown_prompt_name_is_refused_with_the_known_ones(tiny):
    with pytest.raises(ValueError, match=r"prompt_name='nope': the model's prompts are .*'query'"):
        embed(["a"], model=tiny, prompt_name="nope")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["bert", "decoder"])
def test_a_model_that_leaves_its_prompt_out_of_the_pooling_does_so_here(kind, pooling, reference, texts_for):
    first, old, *tail = reference(kind).children()
    own = Pooling(old.embedding_dimension, pooling, include_prompt=False)
    model = SentenceTransformer(modules=[first, own, *tail], device="cpu")
    texts = texts_for(kind)
    assert_allclose(embed(texts, model=model, prompt="fox: "), model.encode(texts, prompt="fox: "), atol=1e-5)


@pytest.mark.parametrize("max_seq_length", [5, 12, 40])
@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder"])
def test_another_token_limit_has_the_effect_of_one_of_the_model(kind, max_seq_length, model_folder, mixed_texts):
    model = SentenceTransformer(model_folder(kind), device="cpu")
    model.max_seq_length = max_seq_length
    expected = model.encode(mixed_texts)
    assert_allclose(embed(mixed_texts, model=model_folder(kind), max_seq_length=max_seq_length), expected, atol=1e-5)


def hidden_states(model, text):
    tokens = model.tokenizer(text, truncation=True, max_length=model.max_seq_length, return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        return model[0].model(**inputs, output_hidden_states=True, return_dict=True).hidden_states


@pytest.mark.parametrize("layers", [0, 1, -2, (1, -1), (0, 1, 2, 3), [2], (-1, -1, 0)], ids=str)
@pytest.mark.parametrize("pooling", ["mean", "max", ("lasttoken", "cls")], ids=str)
@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder"])
def test_layers_are_averaged_then_pooled(kind, pooling, layers, model_folder, reference, mixed_texts):
    model = reference(kind)
    one_text_pool = {
        "mean": lambda states: states.mean(0),
        "max": lambda states: states.max(0).values,
        "cls": lambda states: states[0],
        "lasttoken": lambda states: states[-1],
    }
    expected = []
    for text in mixed_texts:
        states = hidden_states(model, text)
        chosen = [states[layer][0] for layer in (layers if isinstance(layers, (tuple, list)) else [layers])]
        averaged = torch.stack(chosen).mean(0)
        names = (pooling,) if isinstance(pooling, str) else pooling
        expected.append(torch.cat([one_text_pool[name](averaged) for name in names]).numpy())
    got = embed(mixed_texts, model=model_folder(kind), pooling=pooling, layers=layers, normalize_embeddings=False)
    assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("layers", [4, -5, (0, 9)], ids=str)
def test_a_layer_that_is_not_there_is_refused_with_the_range(layers, tiny):
    with pytest.raises(ValueError, match=r"layers=.*: the model has 3 layers, numbered 0 .* to 3, or -4 to -1"):
        embed(["a"], model=tiny, layers=layers)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("pooling", "cls"), ("layers", 0), ("max_seq_length", 9)],
)
def test_a_static_embedding_refuses_what_makes_no_sense_for_it(parameter, value, model_folder):
    with pytest.raises(ValueError, match=rf"{parameter}={value!r} is not supported by .*StaticEmbedding"):
        embed(["a"], model=model_folder("static"), **{parameter: value})


def test_a_pooling_that_a_dense_layer_does_not_take_is_refused(model_folder):
    with pytest.raises(ValueError, match=r"pooling='max': the model's Dense layer takes 64 .* pooling='default'"):
        embed(["a"], model=model_folder("dense"), pooling="max")


@pytest.mark.parametrize("normalize", ["default", False])
@pytest.mark.parametrize("kind", ["bert", "dense_raw", "decoder"])
def test_of_several_poolings_each_is_cut(kind, normalize, path_of):
    poolings, texts = ("max", "mean", "cls"), ["a quick fox", "dog", "a quick fox"]
    params = {"model": path_of(kind), "cache": None}
    parts = [embed(texts, pooling=mode, normalize_embeddings=False, **params)[:, :5] for mode in poolings]
    expected = np.hstack(parts)
    if normalize == "default" and kind != "dense_raw":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embed(texts, pooling=poolings, truncate_dim=5, normalize_embeddings=normalize, **params)
    assert_allclose(found, expected, atol=1e-6)
    assert found.flags.c_contiguous


def test_a_models_own_default_cut_holds_for_each_pooling(tiny):
    model = SentenceTransformer(tiny, device="cpu", truncate_dim=5)
    expected = embed(["fox"], model=tiny, pooling=("max", "mean"), truncate_dim=5)
    assert_allclose(embed(["fox"], model=model, pooling=("max", "mean")), expected, atol=1e-6)


@pytest.mark.parametrize("dim", [5, 32, 40])
def test_a_models_own_poolings_are_cut_as_one_as_sentence_transformers_cuts_them(dim, reference):
    model = SentenceTransformer(modules=[reference("bert")[0], Pooling(32, ("cls", "mean"))], device="cpu")
    texts = ["a quick fox", "dog"]
    assert_allclose(embed(texts, model=model, truncate_dim=dim), model.encode(texts, truncate_dim=dim), atol=1e-5)


def test_cut_parts_from_the_cache_are_those_computed(tiny):
    cache, params = EmbeddingCache(), {"model": tiny, "pooling": ("cls", "mean")}
    whole = embed(["fox", "dog"], cache=cache, normalize_embeddings=False, **params)
    cut = embed(["fox", "dog"], cache=cache, normalize_embeddings=False, truncate_dim=4, **params)
    assert_array_equal(cut, np.hstack([whole[:, :4], whole[:, 32:36]]))
    assert cache.stats()["misses"] == 2


def test_a_part_with_fewer_dimensions_than_are_to_stay_is_named(tiny):
    with pytest.raises(ValueError, match="truncate_dim=33: the vectors of pooling 'cls' have only 32 dimensions"):
        embed(["a"], model=tiny, pooling=("cls", "mean"), truncate_dim=33)


@pytest.mark.of_torch
@pytest.mark.parametrize("layers", [1, -2, (0, 1)], ids=str)
@pytest.mark.parametrize("kind", ["bart", "funnel"])
def test_layers_are_refused_for_a_model_that_returns_no_hidden_states(kind, layers, model_folder, reference):
    with pytest.raises(
        ValueError, match=rf"^layers={re.escape(repr(layers))} is not supported by .*{kind}.* \(its .*Model gives"
    ):
        embed(["a"], model=model_folder(kind), layers=layers)
    for last in (-1, reference(kind)[0].model.config.num_hidden_layers):
        assert_allclose(
            embed(["fox"], model=model_folder(kind), layers=last), reference(kind).encode(["fox"]), atol=1e-5
        )


def test_more_dimensions_than_there_are_is_refused(tiny):
    with pytest.raises(ValueError, match="truncate_dim=33: the vectors have only 32 dimensions"):
        embed(["a"], model=tiny, truncate_dim=33)


@pytest.mark.parametrize(
    ("kind", "max_seq_length", "message"),
    [
        ("bert", 65, "positions for 64 tokens"),
        ("roberta", 65, "positions for 64 tokens"),
        ("gpt2", 33, "positions for 32 tokens"),
        ("bert", 2, "2 special tokens leave no room"),
    ],
)
def test_a_token_limit_that_the_model_cannot_keep_is_refused(kind, max_seq_length, message, model_folder):
    with pytest.raises(ValueError, match=message):
        embed(["a"], model=model_folder(kind), max_seq_length=max_seq_length)


def test_a_limit_beyond_the_position_table_is_lowered_to_it(model_folder):
    model = SentenceTransformer(model_folder("roberta"), device="cpu")
    model.max_seq_length = 66  # what sentence-transformers takes from the configuration; the table has room for 64
    with pytest.warns(TruncationWarning, match="64 tokens"):
        vectors = embed(["fox " * 200], model=model)
    model.max_seq_length = 64
    assert_allclose(vectors, model.encode(["fox " * 200]), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "decoder", "static"])
def test_a_text_gets_the_same_vector_alone_or_in_company(kind, model_folder, mixed_texts):
    alone = np.vstack([embed([text], model=model_folder(kind), cache=None) for text in mixed_texts])
    assert_allclose(embed(mixed_texts, model=model_folder(kind), cache=None), alone, atol=1e-6)


@given(order=st.permutations(range(12)), batch_tokens=st.integers(1, 200))
@settings(max_examples=15, deadline=None)
def test_order_and_batch_size_change_nothing(order, batch_tokens, tiny, mixed_texts):
    expected = embed(mixed_texts, model=tiny, cache=None)
    got = embed([mixed_texts[i] for i in order], model=tiny, cache=None, batch_tokens=batch_tokens)
    assert_allclose(got, expected[list(order)], atol=1e-6)


def test_many_chunks_give_the_vectors_of_one(tiny, mixed_texts, monkeypatch):
    expected = embed(mixed_texts, model=tiny, cache=None)
    monkeypatch.setattr("skembed.encoding.encoder.TEXTS_PER_CHUNK", 3)
    assert_allclose(embed(mixed_texts, model=tiny, cache=None), expected, atol=1e-6)


class TestTokenizingAhead:
    """Tokenizing beside a model on a device of its own, which the processor stands for here."""

    @pytest.fixture(autouse=True)
    def _ahead(self, monkeypatch):
        monkeypatch.setattr("skembed.encoding.encoder._runs_beside_processor", lambda plan: True)
        monkeypatch.setattr("skembed.encoding.encoder.TEXTS_PER_CHUNK", 3)
        monkeypatch.setattr("skembed.encoding.encoder._TOKENS_OF_SMALL_CHUNK", 0)

    @pytest.mark.parametrize("params", [{}, {"long_texts": "mean"}, {"prompt": "fox: "}, {"cache": None}], ids=str)
    def test_changes_no_vector(self, tiny, mixed_texts, params, monkeypatch):
        ahead = embed(mixed_texts, model=tiny, **params)
        monkeypatch.setattr("skembed.encoding.encoder._runs_beside_processor", lambda plan: False)
        skembed.clear_cache()
        assert_allclose(ahead, embed(mixed_texts, model=tiny, **params), atol=1e-6)

    def test_is_done_in_another_thread(self, tiny, mixed_texts, monkeypatch):
        embed(mixed_texts, model=tiny, cache=None)  # loads the model, which tokenizes too
        threads, original = set(), TextTokenizer.tokenize

        def tokenize(*given, **params):
            threads.add(threading.current_thread())
            return original(*given, **params)

        monkeypatch.setattr(TextTokenizer, "tokenize", tokenize)
        embed(mixed_texts, model=tiny, cache=None)
        assert len(threads) == 1
        assert threading.current_thread() not in threads

    def test_is_done_anew_where_others_encoded_some_of_the_texts_meanwhile(self, tiny, mixed_texts, counted):
        texts = [f"{text} {number}" for number, text in enumerate(mixed_texts)]
        expected = embed(texts, model=tiny, cache=None)
        counted.clear()
        (recipe,) = make_plan(Settings(model=tiny)).recipes

        def meanwhile(*_):
            find_store("memory").write([texts[4]], np.array([5]), {recipe: expected[4:5]})

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Turns, "_wait", meanwhile)
            assert_allclose(embed(texts, model=tiny), expected, atol=1e-6)
        assert sorted(counted) == sorted(texts[:4] + texts[5:])

    def test_an_error_leaves_no_thread_behind(self, tiny, mixed_texts, monkeypatch):
        def broken(*_):
            raise ArithmeticError

        monkeypatch.setattr("skembed.encoding.encoder.run_model", broken)
        before = threading.active_count()
        with pytest.raises(ArithmeticError):
            embed(mixed_texts, model=tiny, cache=None)
        assert threading.active_count() == before


@pytest.mark.parametrize("params", [{}, {"truncate_dim": 3}, {"pooling": ("cls", "max")}], ids=str)
def test_no_rows_give_a_matrix_of_no_rows(tiny, params):
    vectors = embed([], model=tiny, **params)
    assert vectors.shape == (0, embed(["a"], model=tiny, **params).shape[1])
    assert vectors.dtype == np.float32


def test_each_distinct_text_is_encoded_once(tiny, counted):
    embed(["a", "b", "a", "a"], model=tiny, cache=None)
    assert counted == ["a", "b"]


def test_a_cached_text_is_not_encoded_again(tiny, counted):
    first = embed(["a", "b"], model=tiny)
    assert_array_equal(embed(["c", "b", "a"], model=tiny)[[2, 1]], first)
    assert sorted(counted) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "params", [{"normalize_embeddings": False}, {"truncate_dim": 4}, {"batch_tokens": 9}, {"missing": "zero"}], ids=str
)
def test_what_does_not_change_the_pooled_vector_needs_no_second_pass(params, tiny, counted):
    embed(["a", "b"], model=tiny)
    from_cache = embed(["a", "b"], model=tiny, **params)
    assert counted == ["a", "b"]
    assert_allclose(from_cache, embed(["a", "b"], model=tiny, cache=None, **params), atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "cls"},
        {"pooling": ("mean", "cls")},
        {"layers": 1},
        {"layers": (0, -1)},
        {"prompt": "fox: "},
        {"max_seq_length": 5},
        {"long_texts": "mean"},
        pytest.param({"dtype": "bfloat16"}, marks=pytest.mark.of_torch),  # OpenVINO rounds less
    ],
    ids=str,
)
def test_what_changes_the_vector_is_never_read_from_the_cache_of_another(params, tiny, mixed_texts):
    embed(mixed_texts, model=tiny)
    cached_beside = embed(mixed_texts, model=tiny, **params)
    assert_allclose(cached_beside, embed(mixed_texts, model=tiny, cache=None, **params), atol=1e-6)
    assert not np.allclose(cached_beside[:, :32], embed(mixed_texts, model=tiny), atol=1e-4)


@pytest.mark.parametrize("params", [{"pooling": "mean"}, {"layers": 3}, {"layers": (-1,)}, {"prompt": ""}], ids=str)
def test_two_ways_to_say_the_same_share_the_cache(params, tiny, counted):
    embed(["a"], model=tiny)
    embed(["a"], model=tiny, **params)
    assert counted == ["a"]


def test_cut_texts_are_counted_in_one_warning(tiny):
    texts = ["fox " * 100, "fox", "dog " * 100, "fox " * 100, None]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embed(texts, model=tiny, missing="zero")
    assert [w.category for w in caught] == [TruncationWarning]
    assert "3 of 5 texts have more than 24 tokens and were cut" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_cut_texts_from_the_cache_are_counted_too(tiny):
    with pytest.warns(TruncationWarning):
        embed(["fox " * 100], model=tiny)
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        embed(["fox " * 100, "fox"], model=tiny)


@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder", "gpt2"])
def test_a_text_of_exactly_the_limit_is_not_cut(kind, model_folder, reference):
    n_special = len(reference(kind).tokenizer("")["input_ids"])
    text = " fox" * (24 - n_special) if kind != "bert" else "fox " * (24 - n_special)
    n_tokens = len(reference(kind).tokenizer(text)["input_ids"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed([text], model=model_folder(kind), max_seq_length=n_tokens)
    with pytest.warns(TruncationWarning, match="1 of 1"):
        embed([text], model=model_folder(kind), max_seq_length=n_tokens - 1)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "fresh"])
def test_long_texts_can_be_an_error_that_names_the_first(tiny, cached):
    texts = ["fox", "fox " * 30, "dog " * 50]
    if cached:
        embed(texts, model=tiny)
    with pytest.raises(ValueError, match=r"X\[1\] has 32 tokens, more than the 24 .* 2 of 3 texts"):
        embed(texts, model=tiny, long_texts="error")


def test_long_texts_as_an_error_let_short_ones_pass(tiny):
    assert_allclose(embed(["fox"], model=tiny, long_texts="error"), embed(["fox"], model=tiny), atol=1e-7)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "decoder", "dense_raw"])
def test_the_mean_of_a_long_text_is_that_of_its_windows(kind, pooling, model_folder, reference):
    text = "The quick brown fox jumps over the lazy dog, 0 1 2 3. " * 5
    tokenizer = reference(kind).tokenizer
    chunks = tokenizer(text, truncation=True, max_length=24, return_overflowing_tokens=True)["input_ids"]
    model = without_normalize(with_pooling(reference(kind), pooling))
    weighted = np.zeros(model.get_embedding_dimension())
    for ids in chunks:
        features = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        with torch.inference_mode():
            weighted += model(features)["sentence_embedding"][0].numpy() * len(ids)
    expected = weighted / sum(map(len, chunks))
    got = embed(["fox", text], model=model_folder(kind), pooling=pooling, long_texts="mean", normalize_embeddings=False)
    assert len(chunks) > 2
    assert_allclose(got[1], expected, atol=1e-5)
    assert_allclose(got[0], model.encode("fox"), atol=1e-5)


def test_missing_rows_are_zero_or_nan_as_asked(tiny):
    zero = embed(["a", None, "b"], model=tiny, missing="zero")
    nan = embed(["a", None, "b"], model=tiny, missing="nan")
    empty = embed(["a", None, "b"], model=tiny, missing="empty")
    assert_array_equal(zero[1], 0)
    assert np.isnan(nan[1]).all()
    assert_array_equal(empty[1], embed([""], model=tiny)[0])
    for vectors in (zero, nan, empty):
        assert_array_equal(vectors[[0, 2]], embed(["a", "b"], model=tiny))


def test_nothing_but_missing_rows_needs_no_text(tiny):
    assert np.isnan(embed([None, float("nan")], model=tiny, missing="nan")).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close_and_comes_out_as_float32(dtype, tiny, mixed_texts):
    half = embed(mixed_texts, model=tiny, dtype=dtype)
    assert half.dtype == np.float32
    assert_allclose((half * embed(mixed_texts, model=tiny)).sum(1), 1, atol=1e-2)


@pytest.mark.slow
def test_ctrl_c_ends_the_process_at_once(tiny):
    code = (
        "import skembed, threading\n"
        f"skembed.embed(['fox'], model={tiny!r})  # an interrupted import may end Python in ways of its own\n"
        "print('started', flush=True)\n"
        "try:\n"
        f"    skembed.embed([f'fox {{n}} ' * 8 for n in range(1_000_000)], model={tiny!r})\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', threading.active_count())"
    )
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    time.sleep(4)  # time to reach the encoding; earlier is fine too
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert printed.startswith("interrupted")
    assert process.returncode == 0


def test_ctrl_c_keeps_what_is_finished_and_frees_the_model(tiny, monkeypatch, counted):
    original, calls = MemoryStore.write, []

    def interrupted_write(store, *rest):
        original(store, *rest)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(MemoryStore, "write", interrupted_write)
    with pytest.raises(KeyboardInterrupt):
        embed(list("abcdef"), model=tiny, batch_tokens=6)  # two texts a batch
    assert len(counted) == 4
    assert embed(list("abcdef"), model=tiny, batch_tokens=6).shape == (6, 32)
    assert sorted(counted) == list("abcdef")


def test_the_bar_counts_texts_also_where_long_ones_are_split(tiny, capsys):
    embed(["fox", "fox " * 100], model=tiny, long_texts="mean", show_progress_bar=True)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize(("show", "drawn"), [(True, True), (False, False), ("auto", False)])
def test_a_bar_is_drawn_when_asked_for(show, drawn, tiny, capsys):
    embed(["a", "b"], model=tiny, show_progress_bar=show)
    assert ("2/2" in capsys.readouterr().err) == drawn


@pytest.mark.parametrize("show", [True, "auto"])
def test_no_bar_is_drawn_for_one_text(show, tiny, capsys):
    SentenceEmbeddingTransformer(tiny, show_progress_bar=show).fit(["a"]).transform(["a", "a"])
    assert capsys.readouterr().err == ""


def test_a_text_without_a_word_that_the_model_knows_is_named():
    words = WordEmbeddings(WhitespaceTokenizer(["fox", "dog"]), np.eye(2, 4, dtype=np.float32))
    model = SentenceTransformer(modules=[words, Pooling(4, "max"), Normalize()], device="cpu")
    assert embed(["fox", "dog"], model=model).shape == (2, 4)
    with pytest.raises(ValueError, match=r"^X\[1\] \(index label 'y'\) has no word that .* knows, .* missing='zero'"):
        embed(pd.Series(["fox", "cat", "dog"], index=list("xyz")), model=model)


@pytest.mark.parametrize("dtype", ["auto", "float16"])
def test_vectors_that_are_not_finite_are_an_error(dtype, tiny):
    model = SentenceTransformer(tiny, device="cpu")
    model[0].model.embeddings.word_embeddings.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match=r"X\[0\] gets infinite or NaN values .* in float\d\d, as 2 texts do"):
        embed(["fox", "dog"], model=model, dtype=dtype)


@pytest.mark.of_torch
def test_unloading_frees_the_model(tiny):
    import gc
    import weakref

    from skembed.encoding.models import registry

    skembed.unload_models()
    embed(["a"], model=tiny)
    watched = weakref.ref(next(iter(registry._loaded.values())).backend.sentence_transformer)
    skembed.unload_models()
    gc.collect()
    assert watched() is None
    assert embed(["a"], model=tiny).shape == (1, 32)


# Several poolings and layers


@pytest.fixture(params=["memory", "disk"])
def some_cache(request, tmp_path):
    return EmbeddingCache(None if request.param == "memory" else tmp_path / "cache")


FOXES = [f"a quick fox, the {number}th" for number in range(5)]


def test_a_second_pooling_is_the_last_pass(some_cache, tiny, counted):
    for n_passes, pooling in enumerate(["mean", "cls", *POOLINGS, ("max", "cls"), ("mean", "lasttoken", "max")]):
        vectors = embed(FOXES, model=tiny, pooling=pooling, cache=some_cache)
        assert_allclose(vectors, embed(FOXES, model=tiny, pooling=pooling, cache=None), atol=1e-6)
        assert len(counted) == 5 * (min(n_passes + 1, 2) + n_passes + 1)  # each expected vector is a pass, too


def test_another_layer_is_another_pass_that_caches_no_other(some_cache, tiny, counted):
    for n_passes, layers in enumerate((-1, 0, 1), start=1):
        embed(FOXES, model=tiny, layers=layers, cache=some_cache)
        assert len(counted) == some_cache.store.size()[0] == n_passes * 5


def test_several_poolings_of_several_layers_take_two_passes_per_layer(some_cache, tiny, counted):
    for layers in (-1, 1, 2):
        for pooling in ("mean", "cls", "max"):
            vectors = embed(FOXES, model=tiny, layers=layers, pooling=pooling, cache=some_cache)
            assert_allclose(vectors, embed(FOXES, model=tiny, layers=layers, pooling=pooling, cache=None), atol=1e-6)
    assert len(counted) == 3 * 2 * 5 + 9 * 5


def test_all_poolings_are_not_cached_where_they_would_fill_more_than_half_of_the_cache(tiny):
    cache = EmbeddingCache(max_bytes=10_000)
    for pooling in ("mean", "cls"):
        embed(FOXES, model=tiny, pooling=pooling, cache=cache)
    assert cache.store.size()[0] == 2 * 5


def test_another_pooling_of_other_texts_is_kept_alone(some_cache, tiny):
    embed(["a fox"], model=tiny, pooling="mean", cache=some_cache)
    embed(["a dog"], model=tiny, pooling="cls", cache=some_cache)
    assert some_cache.store.size()[0] == 2


def test_what_was_known_stays_as_it_was_when_all_poolings_are_kept(some_cache, tiny):
    before = embed(FOXES, model=tiny, cache=some_cache)
    embed([*FOXES, "company"], model=tiny, pooling="max", cache=some_cache)
    assert_array_equal(embed(FOXES, model=tiny, cache=some_cache), before)


@pytest.mark.parametrize("kind", ["dense", "dense_raw", "static", "decoder"])
def test_models_of_any_kind_give_what_they_give_without_a_cache(kind, some_cache, model_folder):
    poolings = ["default"] if kind in ("dense", "static") else ["default", "cls", "max"]
    for pooling in poolings * 2:
        vectors = embed(FOXES, model=model_folder(kind), pooling=pooling, cache=some_cache)
        assert_allclose(vectors, embed(FOXES, model=model_folder(kind), pooling=pooling, cache=None), atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_split_texts_are_put_together_whatever_batches_their_parts_come_in(pooling, some_cache, tiny, mixed_texts):
    params = {"model": tiny, "long_texts": "mean", "pooling": pooling}
    expected = embed(mixed_texts, cache=None, **params)
    embed(mixed_texts, model=tiny, long_texts="mean", batch_tokens=30, cache=some_cache)
    assert_allclose(embed(mixed_texts, batch_tokens=30, cache=some_cache, **params), expected, atol=1e-6)
