from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.encoding.tokens import TextTokenizer, Tokens

LIMIT = 12

# kind of model -> special tokens before and after a text
SPECIAL_TOKENS = {"bert": (1, 1), "roberta": (1, 1), "decoder": (0, 1), "gpt2": (0, 0), "minilm": (1, 1)}

SPECIAL_LOOKING = ["[SEP] in a text", "<s> and </s>", "<|end|>", "<pad> [PAD]", "[CLS]", "[UNK] [MASK] <mask>"]

every_kind = pytest.mark.parametrize("kind", SPECIAL_TOKENS)
either_side = pytest.mark.parametrize("truncation_side", ["right", "left"])
any_limit = pytest.mark.parametrize("limit", [3, 5, LIMIT, 24, 512, None])


@pytest.fixture(scope="module")
def theirs(model_folder, minilm_folder):
    """``theirs(kind, truncation_side)``: the tokenizer as transformers loads it."""
    from transformers import AutoTokenizer

    def load(kind, truncation_side="right"):
        folder = minilm_folder if kind == "minilm" else model_folder(kind)
        return AutoTokenizer.from_pretrained(folder, truncation_side=truncation_side)

    return cache(load)


@pytest.fixture(scope="module")
def fresh(theirs):
    """``fresh(kind, truncation_side)``: a TextTokenizer that nobody has used, over a private copy of the same."""
    return lambda kind, truncation_side="right": TextTokenizer(
        copy.deepcopy(theirs(kind).backend_tokenizer), truncation_side
    )


@pytest.fixture(scope="module")
def ours(fresh):
    """``ours(kind, truncation_side)``: the same, shared by all tests."""
    return cache(fresh)


@pytest.fixture(scope="module")
def ids_by_transformers(theirs):
    """The ids that transformers gives for some texts, cut at ``limit`` where there is one."""

    def tokenize(kind, texts, limit=None, truncation_side="right"):
        cut = {"truncation": False} if limit is None else {"truncation": True, "max_length": limit}
        return theirs(kind, truncation_side)(texts, padding=False, verbose=False, **cut)["input_ids"]

    return tokenize


def rows_of(tokens):
    return [tokens.ids[start:stop].tolist() for start, stop in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


def without_special_tokens(kind, ids):
    n_before, n_after = SPECIAL_TOKENS[kind]
    return ids[n_before : len(ids) - n_after]


@any_limit
@either_side
@every_kind
def test_ids_are_those_of_transformers(ours, ids_by_transformers, mixed_texts, kind, truncation_side, limit):
    texts = mixed_texts + SPECIAL_LOOKING
    assert rows_of(ours(kind, truncation_side).tokenize(texts, limit)) == ids_by_transformers(
        kind, texts, limit, truncation_side
    )


@every_kind
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4), limit=st.integers(3, 20))
def test_ids_of_any_text_are_those_of_transformers(ours, ids_by_transformers, kind, texts, limit):
    assert rows_of(ours(kind).tokenize(texts, limit)) == ids_by_transformers(kind, texts, limit)


@every_kind
def test_the_special_tokens_are_counted(ours, kind):
    assert ours(kind).n_special_tokens == sum(SPECIAL_TOKENS[kind])


@any_limit
@pytest.mark.parametrize("split", [False, True], ids=["cut", "split"])
@either_side
@every_kind
def test_n_tokens_counts_the_whole_text_whatever_was_cut(
    ours, ids_by_transformers, mixed_texts, kind, truncation_side, split, limit
):
    texts = mixed_texts + SPECIAL_LOOKING
    n_tokens = ours(kind, truncation_side).tokenize(texts, limit, split=split).n_tokens
    assert n_tokens.tolist() == [len(ids) for ids in ids_by_transformers(kind, texts)]


@every_kind
def test_counting_counts_the_whole_text_after_a_call_that_truncated(ours, mixed_texts, kind):
    ours(kind).tokenize(mixed_texts, 5)
    assert ours(kind).count(mixed_texts).tolist() == ours(kind).tokenize(mixed_texts, None).n_tokens.tolist()


@every_kind
def test_each_token_has_the_character_with_which_it_begins(ours, mixed_texts, kind):
    ours(kind).tokenize(mixed_texts, 5)
    starts = ours(kind).starts(mixed_texts)
    assert [len(own) for own in starts] == (ours(kind).count(mixed_texts) - ours(kind).n_special_tokens).tolist()
    assert all(own == sorted(own) for own in starts)
    assert starts[0][0] == 0
    assert {3, 4} & {*starts[0]}  # "quick" of "The quick brown fox.", with or without the space before it


@any_limit
@every_kind
def test_a_text_that_was_cut_is_one_row(ours, mixed_texts, kind, limit):
    assert ours(kind).tokenize(mixed_texts, limit).text_of_row.tolist() == list(range(len(mixed_texts)))


@either_side
@every_kind
def test_the_rows_of_a_split_text_hold_all_of_it_in_order(
    ours, ids_by_transformers, mixed_texts, kind, truncation_side
):
    tokens = ours(kind, truncation_side).tokenize(mixed_texts, LIMIT, split=True)
    contents = [[] for _ in mixed_texts]
    for text, row in zip(tokens.text_of_row, rows_of(tokens), strict=True):
        contents[text].extend(without_special_tokens(kind, row))
    assert contents == [without_special_tokens(kind, ids) for ids in ids_by_transformers(kind, mixed_texts)]


@every_kind
def test_every_row_of_a_split_text_has_the_special_tokens(ours, ids_by_transformers, mixed_texts, kind):
    n_before, n_after = SPECIAL_TOKENS[kind]
    special = ids_by_transformers(kind, [""])[0]
    for row in rows_of(ours(kind).tokenize(mixed_texts, LIMIT, split=True)):
        assert row[:n_before] + row[len(row) - n_after :] == special


@every_kind
def test_every_row_of_a_split_text_is_full_except_the_last(ours, mixed_texts, kind):
    tokens = ours(kind).tokenize(mixed_texts, LIMIT, split=True)
    is_last = np.diff(tokens.text_of_row, append=len(mixed_texts)) != 0
    assert set(tokens.lengths[~is_last]) == {LIMIT}
    assert tokens.lengths.max() == LIMIT


@every_kind
def test_a_text_that_fits_is_not_split(ours, kind):
    tokenizer = ours(kind)
    n_tokens = int(tokenizer.tokenize(["the quick brown fox"], None).n_tokens[0])
    assert tokenizer.tokenize(["the quick brown fox"], n_tokens, split=True).text_of_row.tolist() == [0]


@every_kind
def test_a_text_one_token_too_long_is_split_in_two(ours, kind):
    tokenizer = ours(kind)
    n_tokens = int(tokenizer.tokenize(["the quick brown fox"], None).n_tokens[0])
    assert tokenizer.tokenize(["the quick brown fox"], n_tokens - 1, split=True).text_of_row.tolist() == [0, 0]


@every_kind
def test_split_texts_stand_in_order(ours, mixed_texts, kind):
    text_of_row = ours(kind).tokenize(mixed_texts, LIMIT, split=True).text_of_row
    assert (np.diff(text_of_row) >= 0).all()
    assert set(text_of_row) == set(range(len(mixed_texts)))


@every_kind
def test_splitting_without_a_limit_splits_nothing(ours, ids_by_transformers, mixed_texts, kind):
    assert rows_of(ours(kind).tokenize(mixed_texts, None, split=True)) == ids_by_transformers(kind, mixed_texts)


@every_kind
def test_a_call_does_not_change_the_next(fresh, mixed_texts, kind):
    used, unused = fresh(kind, "left"), fresh(kind, "left")
    for limit, split in [(5, True), (None, False), (7, False)]:
        used.tokenize(mixed_texts, limit, split=split)
    assert rows_of(used.tokenize(mixed_texts, LIMIT)) == rows_of(unused.tokenize(mixed_texts, LIMIT))


def test_padding_that_was_enabled_before_is_switched_off(theirs):
    core = copy.deepcopy(theirs("bert").backend_tokenizer)
    core.enable_padding(length=50)
    assert TextTokenizer(core).tokenize(["fox", "the fox"], None).lengths.max() < 50


def test_more_texts_than_one_call_to_the_tokenizer_takes_stay_in_order(ours):
    texts = [f"{number} fox" for number in range(9000)]
    tokens = ours("bert").tokenize(texts, LIMIT)
    some = [0, 4095, 4096, 8191, 8192, 8999]
    rows = [tokens.ids[tokens.starts[row] : tokens.starts[row + 1]].tolist() for row in some]
    assert rows == rows_of(ours("bert").tokenize([texts[row] for row in some], LIMIT))


def test_a_text_may_be_longer_than_one_call_to_the_tokenizer_takes(ours):
    tokens = ours("bert").tokenize(["fox", "fox " + "x" * 1_000_000, "the fox"], LIMIT)
    assert tokens.lengths.tolist() == [3, 4, 4]


@pytest.mark.parametrize("limit", [LIMIT, None])
@pytest.mark.parametrize("split", [False, True], ids=["cut", "split"])
@every_kind
def test_no_texts_have_no_rows(ours, kind, split, limit):
    tokens = ours(kind).tokenize([], limit, split=split)
    assert (tokens.ids.size, tokens.text_of_row.size, tokens.n_tokens.size, tokens.lengths.size) == (0, 0, 0, 0)
    assert tokens.starts.tolist() == [0]


@pytest.mark.parametrize("split", [False, True], ids=["cut", "split"])
def test_a_text_without_tokens_is_an_empty_row(ours, split):
    tokens = ours("gpt2").tokenize(["fox", "", "fox"], LIMIT, split=split)
    fox = int(tokens.n_tokens[0])
    assert fox > 0
    assert tokens.n_tokens.tolist() == [fox, 0, fox]
    assert tokens.lengths.tolist() == [fox, 0, fox]
    assert tokens.text_of_row.tolist() == [0, 1, 2]


@pytest.mark.parametrize("texts", [[], ["fox"], ["fox", ""]], ids=["no texts", "one text", "one without tokens"])
def test_the_arrays_have_the_types_they_say(ours, texts):
    tokens = ours("gpt2").tokenize(texts, LIMIT)
    assert (tokens.ids.dtype, tokens.starts.dtype) == (np.int32, np.int64)
    assert (tokens.text_of_row.dtype, tokens.n_tokens.dtype) == (np.intp, np.int64)


@pytest.fixture
def three_rows() -> Tokens:
    """Rows of three, no and two tokens."""
    return Tokens(
        ids=np.array([5, 6, 7, 8, 9], dtype=np.int32),
        starts=np.array([0, 3, 3, 5]),
        text_of_row=np.arange(3),
        n_tokens=np.array([3, 0, 2]),
    )


def test_lengths_count_the_tokens_of_each_row(three_rows):
    assert three_rows.lengths.tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    ("rows", "input_ids"),
    [
        pytest.param([0, 1, 2], [[5, 6, 7], [1, 1, 1], [8, 9, 1]], id="all"),
        pytest.param([2, 0], [[8, 9, 1], [5, 6, 7]], id="in the order asked for"),
        pytest.param([2], [[8, 9]], id="no wider than the longest"),
        pytest.param([2, 2], [[8, 9], [8, 9]], id="one row twice"),
        pytest.param([1], [[]], id="a row without tokens"),
    ],
)
def test_rows_are_padded_on_the_right(three_rows, rows, input_ids):
    assert three_rows.padded(np.array(rows), pad_id=1)[0].tolist() == input_ids


@pytest.mark.parametrize(
    ("rows", "is_token"),
    [
        pytest.param([0, 1, 2], [[True, True, True], [False, False, False], [True, True, False]], id="all"),
        pytest.param([2, 1], [[True, True], [False, False]], id="some"),
    ],
)
def test_the_mask_is_true_on_tokens_and_false_on_padding(three_rows, rows, is_token):
    assert three_rows.padded(np.array(rows), pad_id=1)[1].tolist() == is_token


def test_a_token_equal_to_the_padding_is_a_token(three_rows):
    assert three_rows.padded(np.array([0, 2]), pad_id=9)[1].tolist() == [[True, True, True], [True, True, False]]


def test_no_rows_are_padded_to_an_empty_batch(three_rows):
    input_ids, is_token = three_rows.padded(np.array([], dtype=np.intp), pad_id=1)
    assert input_ids.shape == is_token.shape == (0, 0)


def test_a_padded_batch_has_the_types_that_models_take(three_rows):
    input_ids, is_token = three_rows.padded(np.array([0, 2]), pad_id=1)
    assert (input_ids.dtype, is_token.dtype) == (np.int64, np.bool_)


@every_kind
def test_a_padded_batch_holds_exactly_its_rows(ours, mixed_texts, kind):
    tokens = ours(kind).tokenize(mixed_texts, LIMIT, split=True)
    rows = np.arange(len(tokens.lengths))[::-1]
    input_ids, is_token = tokens.padded(rows, pad_id=0)
    held = [ids[mask].tolist() for ids, mask in zip(input_ids, is_token, strict=True)]
    assert held == rows_of(tokens)[::-1]
