"""Pooling gives what sentence-transformers gives, on numpy arrays and on tensors alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers.sentence_transformer.modules import Pooling

from skembed.encoding.backends.pooling import mean_of, pool
from skembed.encoding.settings import POOLINGS

# Two texts of three tokens in two dimensions; the first text has two tokens and a padding.
TOKEN_VECTORS = np.array(
    [[[1.0, -8.0], [3.0, 2.0], [100.0, 100.0]], [[1.0, 0.0], [-2.0, 4.0], [7.0, -1.0]]], dtype=np.float32
)
IS_TOKEN = np.array([[True, True, False], [True, True, True]])

BY_HAND = {
    "cls": [[1.0, -8.0], [1.0, 0.0]],
    "max": [[3.0, 2.0], [7.0, 4.0]],
    "mean": [[2.0, -3.0], [2.0, 1.0]],
    "mean_sqrt_len_tokens": [[4 / 2**0.5, -6 / 2**0.5], [6 / 3**0.5, 3 / 3**0.5]],
    "weightedmean": [[7 / 3, -4 / 3], [18 / 6, 5 / 6]],
    "lasttoken": [[3.0, 2.0], [7.0, -1.0]],
}
# The same with the first token left out, as a prompt is. A weight of weightedmean stays that of the token's position.
BY_HAND_WITHOUT_THE_FIRST_TOKEN = {
    "cls": [[3.0, 2.0], [-2.0, 4.0]],
    "max": [[3.0, 2.0], [7.0, 4.0]],
    "mean": [[3.0, 2.0], [2.5, 1.5]],
    "mean_sqrt_len_tokens": [[3.0, 2.0], [5 / 2**0.5, 3 / 2**0.5]],
    "weightedmean": [[3.0, 2.0], [17 / 5, 5 / 5]],
    "lasttoken": [[3.0, 2.0], [7.0, -1.0]],
}

every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


def pool_tensors(token_vectors, is_pooled, mode):
    return pool(torch.from_numpy(token_vectors), is_pooled, mode, torch.from_numpy).numpy()


on_arrays_and_tensors = pytest.mark.parametrize("pooled_by", [pool, pool_tensors], ids=["arrays", "tensors"])


@st.composite
def padded_batches(draw):
    """Random token vectors, and a mask of between one and all tokens of each text, from the left."""
    n_texts, n_tokens, n_dims = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, n_tokens), min_size=n_texts, max_size=n_texts))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    token_vectors = rng.standard_normal((n_texts, n_tokens, n_dims), dtype=np.float32)
    return token_vectors, np.arange(n_tokens) < np.array(lengths)[:, None]


@st.composite
def any_batches(draw):
    """Token vectors of any size, and a mask of any tokens, also of none."""
    n_texts, n_tokens, n_dims = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 6))
    values = st.floats(-100, 100, width=32, allow_subnormal=False)
    token_vectors = draw(arrays(np.float32, (n_texts, n_tokens, n_dims), elements=values))
    return token_vectors, draw(arrays(bool, (n_texts, n_tokens)))


def pool_by_sentence_transformers(pooling, token_vectors, is_token, n_prompt_tokens=None):
    module = Pooling(token_vectors.shape[-1], pooling, include_prompt=n_prompt_tokens is None)
    features = {
        "token_embeddings": torch.from_numpy(token_vectors),
        "attention_mask": torch.from_numpy(is_token).long(),
    }
    if n_prompt_tokens is not None:
        features["prompt_length"] = n_prompt_tokens
    return module(features)["sentence_embedding"].numpy()


def without_leading(is_token, n_leading):
    is_pooled = is_token.copy()
    is_pooled[:, :n_leading] = False
    return is_pooled


def assert_near(found, expected):
    assert_allclose(found, expected, rtol=1.3e-6, atol=1e-5)


def test_the_poolings_are_those_of_sentence_transformers():
    assert sorted(POOLINGS) == sorted(Pooling.POOLING_MODES)


def test_an_unknown_pooling_is_an_error():
    with pytest.raises(KeyError, match="median"):
        pool(TOKEN_VECTORS, IS_TOKEN, "median")


@on_arrays_and_tensors
@every_pooling
def test_a_case_worked_by_hand(pooling, pooled_by):
    assert_near(pooled_by(TOKEN_VECTORS, IS_TOKEN, pooling), BY_HAND[pooling])


@on_arrays_and_tensors
@every_pooling
def test_a_case_worked_by_hand_without_the_first_token(pooling, pooled_by):
    pooled = pooled_by(TOKEN_VECTORS, without_leading(IS_TOKEN, 1), pooling)
    assert_near(pooled, BY_HAND_WITHOUT_THE_FIRST_TOKEN[pooling])


@on_arrays_and_tensors
@every_pooling
@settings(max_examples=25, deadline=None)
@given(batch=padded_batches())
def test_the_result_is_that_of_sentence_transformers(pooling, pooled_by, batch):
    assert_near(pooled_by(*batch, pooling), pool_by_sentence_transformers(pooling, *batch))


@on_arrays_and_tensors
@every_pooling
@settings(max_examples=25, deadline=None)
@given(batch=padded_batches(), n_prompt_tokens=st.integers(0, 4))
def test_the_result_without_a_prompt_is_that_of_sentence_transformers(pooling, pooled_by, batch, n_prompt_tokens):
    token_vectors, is_token = batch
    is_pooled = without_leading(is_token, n_prompt_tokens)
    expected = pool_by_sentence_transformers(pooling, token_vectors, is_token, n_prompt_tokens)
    if pooling == "max":  # sentence-transformers returns -inf for a text that is all prompt; no classifier takes it
        expected[~is_pooled.any(axis=1)] = 0
    assert_near(pooled_by(token_vectors, is_pooled, pooling), expected)


@every_pooling
@settings(max_examples=50, deadline=None)
@given(batch=any_batches())
def test_arrays_and_tensors_give_the_same(pooling, batch):
    pooled = pool(*batch, pooling)
    assert pooled.dtype == np.float32
    assert_allclose(pooled, pool_tensors(*batch, pooling), rtol=1e-5, atol=1e-4)


@on_arrays_and_tensors
@every_pooling
@settings(max_examples=15, deadline=None)
@given(batch=padded_batches())
def test_the_vectors_of_padding_do_not_matter(pooling, pooled_by, batch):
    token_vectors, is_token = batch
    other = np.where(is_token[..., None], token_vectors, np.float32(1e6))
    assert_array_equal(pooled_by(other, is_token, pooling), pooled_by(token_vectors, is_token, pooling))


@on_arrays_and_tensors
@pytest.mark.parametrize("pooling", ["cls", "lasttoken"])
@pytest.mark.parametrize("value", [np.inf, np.nan], ids=str)
def test_one_token_is_read_whatever_the_others_are(value, pooling, pooled_by):
    """In float16 a single token of a text may be infinite."""
    token_vectors = TOKEN_VECTORS.copy()
    token_vectors[1, 1] = token_vectors[0, 2] = value
    assert_near(pooled_by(token_vectors, IS_TOKEN, pooling), BY_HAND[pooling])


@on_arrays_and_tensors
@every_pooling
@settings(max_examples=15, deadline=None)
@given(batch=padded_batches())
def test_a_text_gets_the_same_vector_alone_and_in_a_batch(pooling, pooled_by, batch):
    token_vectors, is_token = batch
    n_tokens = int(is_token[0].sum())
    alone = pooled_by(token_vectors[:1, :n_tokens], is_token[:1, :n_tokens], pooling)
    assert_near(pooled_by(token_vectors, is_token, pooling)[:1], alone)


@on_arrays_and_tensors
@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "cls"])
def test_a_text_without_a_token_that_counts_becomes_the_zero_vector(pooling, pooled_by):
    is_pooled = np.array([[False, False, False], [True, True, True]])
    assert pooled_by(TOKEN_VECTORS, is_pooled, pooling)[0].tolist() == [0.0, 0.0]


@on_arrays_and_tensors
def test_cls_reads_the_first_token_of_a_text_without_a_token_that_counts(pooled_by):
    pooled = pooled_by(TOKEN_VECTORS, np.zeros((2, 3), dtype=bool), "cls")
    assert pooled.tolist() == [[1.0, -8.0], [1.0, 0.0]]


@on_arrays_and_tensors
@every_pooling
def test_a_text_without_a_token_that_counts_changes_no_other(pooling, pooled_by):
    is_pooled = np.array([[False, False, False], [True, True, True]])
    assert_near(pooled_by(TOKEN_VECTORS, is_pooled, pooling)[1], BY_HAND[pooling][1])


@on_arrays_and_tensors
@every_pooling
def test_pooling_changes_neither_vectors_nor_mask(pooling, pooled_by):
    token_vectors, is_pooled = TOKEN_VECTORS.copy(), np.array([[False, False, False], [True, True, True]])
    pooled_by(token_vectors, is_pooled, pooling)
    assert_array_equal(token_vectors, TOKEN_VECTORS)
    assert is_pooled.tolist() == [[False, False, False], [True, True, True]]


@on_arrays_and_tensors
@every_pooling
def test_no_texts_give_no_vectors(pooling, pooled_by):
    assert pooled_by(np.empty((0, 3, 2), dtype=np.float32), np.empty((0, 3), dtype=bool), pooling).shape == (0, 2)


@pytest.mark.parametrize("make", [np.float32, torch.tensor], ids=["arrays", "tensors"])
def test_hidden_layers_are_averaged(make):
    states = [make([[1.0, 2.0]]), make([[3.0, 4.0]]), make([[8.0, 0.0]])]
    assert mean_of(states).tolist() == [[4.0, 2.0]]
    assert mean_of(states[:1]).tolist() == [[1.0, 2.0]]
    assert states[0].tolist() == [[1.0, 2.0]]
