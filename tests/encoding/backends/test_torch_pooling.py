from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.modules import Pooling
from torch.testing import assert_close

from skembed.encoding.backends.torch_pooling import POOLERS
from skembed.encoding.settings import POOLINGS

# Two texts of three tokens in two dimensions; the first text has two tokens and a padding.
TOKEN_VECTORS = torch.tensor([[[1.0, -8.0], [3.0, 2.0], [100.0, 100.0]], [[1.0, 0.0], [-2.0, 4.0], [7.0, -1.0]]])
IS_TOKEN = torch.tensor([[True, True, False], [True, True, True]])

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


@st.composite
def padded_batches(draw):
    """Random token vectors and where their tokens are: between one and all places of each text, from the left."""
    n_texts, n_tokens, n_dims = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, n_tokens), min_size=n_texts, max_size=n_texts))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    token_vectors = torch.randn(n_texts, n_tokens, n_dims, generator=generator)
    return token_vectors, torch.arange(n_tokens) < torch.tensor(lengths)[:, None]


def pool_by_sentence_transformers(pooling, token_vectors, is_token, n_prompt_tokens=None):
    module = Pooling(token_vectors.shape[-1], pooling, include_prompt=n_prompt_tokens is None)
    features = {"token_embeddings": token_vectors, "attention_mask": is_token.long()}
    if n_prompt_tokens is not None:
        features["prompt_length"] = n_prompt_tokens
    return module(features)["sentence_embedding"]


def without_leading(is_token, n_leading):
    is_pooled = is_token.clone()
    is_pooled[:, :n_leading] = False
    return is_pooled


def test_every_pooling_that_can_be_asked_for_can_be_computed():
    assert sorted(POOLERS) == sorted(POOLINGS)


def test_the_poolings_are_those_of_sentence_transformers():
    assert sorted(POOLERS) == sorted(Pooling.POOLING_MODES)


@every_pooling
def test_a_case_worked_by_hand(pooling):
    assert_close(POOLERS[pooling](TOKEN_VECTORS, IS_TOKEN), torch.tensor(BY_HAND[pooling]))


@every_pooling
def test_a_case_worked_by_hand_without_the_first_token(pooling):
    pooled = POOLERS[pooling](TOKEN_VECTORS, without_leading(IS_TOKEN, 1))
    assert_close(pooled, torch.tensor(BY_HAND_WITHOUT_THE_FIRST_TOKEN[pooling]))


@every_pooling
@settings(max_examples=25, deadline=None)
@given(batch=padded_batches())
def test_the_result_is_that_of_sentence_transformers(pooling, batch):
    assert_close(POOLERS[pooling](*batch), pool_by_sentence_transformers(pooling, *batch))


@every_pooling
@settings(max_examples=25, deadline=None)
@given(batch=padded_batches(), n_prompt_tokens=st.integers(0, 4))
def test_the_result_without_a_prompt_is_that_of_sentence_transformers(pooling, batch, n_prompt_tokens):
    token_vectors, is_token = batch
    is_pooled = without_leading(is_token, n_prompt_tokens)
    expected = pool_by_sentence_transformers(pooling, token_vectors, is_token, n_prompt_tokens)
    if pooling == "max":  # of nothing but prompt theirs is -inf, which no classifier takes
        expected = expected.masked_fill(~is_pooled.any(dim=1, keepdim=True), 0.0)
    assert_close(POOLERS[pooling](token_vectors, is_pooled), expected)


@every_pooling
@settings(max_examples=15, deadline=None)
@given(batch=padded_batches())
def test_what_stands_on_padding_does_not_matter(pooling, batch):
    token_vectors, is_token = batch
    other = torch.where(is_token[..., None], token_vectors, 1e6)
    assert_close(POOLERS[pooling](other, is_token), POOLERS[pooling](token_vectors, is_token), rtol=0, atol=0)


@every_pooling
@settings(max_examples=15, deadline=None)
@given(batch=padded_batches())
def test_a_text_gets_the_same_vector_alone_or_in_company(pooling, batch):
    token_vectors, is_token = batch
    n_tokens = int(is_token[0].sum())
    alone = POOLERS[pooling](token_vectors[:1, :n_tokens], is_token[:1, :n_tokens])
    assert_close(POOLERS[pooling](token_vectors, is_token)[:1], alone)


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "cls"])
def test_a_text_of_which_no_token_counts_becomes_the_zero_vector(pooling):
    is_pooled = torch.tensor([[False, False, False], [True, True, True]])
    assert POOLERS[pooling](TOKEN_VECTORS, is_pooled)[0].tolist() == [0.0, 0.0]


def test_cls_keeps_the_first_token_of_a_text_of_which_no_token_counts():
    assert POOLERS["cls"](TOKEN_VECTORS, torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[1.0, -8.0], [1.0, 0.0]]


@every_pooling
def test_a_text_of_which_no_token_counts_changes_no_other(pooling):
    is_pooled = torch.tensor([[False, False, False], [True, True, True]])
    assert_close(POOLERS[pooling](TOKEN_VECTORS, is_pooled)[1], torch.tensor(BY_HAND[pooling][1]))


@every_pooling
def test_pooling_changes_neither_vectors_nor_mask(pooling):
    token_vectors, is_token = TOKEN_VECTORS.clone(), IS_TOKEN.clone()
    POOLERS[pooling](token_vectors, is_token)
    assert_close(token_vectors, TOKEN_VECTORS, rtol=0, atol=0)
    assert is_token.equal(IS_TOKEN)


@every_pooling
def test_no_texts_give_no_vectors(pooling):
    assert POOLERS[pooling](torch.empty(0, 3, 2), torch.empty(0, 3, dtype=torch.bool)).shape == (0, 2)
