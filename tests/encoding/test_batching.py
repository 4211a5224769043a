from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.encoding.batching import as_slice, chunks, even_batch_tokens, length_batches, positions_by_value

LENGTHS = st.lists(st.integers(0, 300), max_size=60).map(lambda lengths: np.array(lengths, dtype=np.int64))
BATCH_TOKENS = st.integers(1, 1000)
ONE_LENGTH_FROM = st.just(np.inf) | st.integers(1, 1000)
TEXTS = st.lists(st.text(max_size=12), max_size=40)
MAX_TEXTS = st.integers(1, 12)
MAX_CHARACTERS = st.integers(0, 40)


def n_padded(lengths, rows):
    return int(lengths[rows].max()) * len(rows)


def n_characters(texts):
    return sum(map(len, texts))


@pytest.mark.parametrize(
    ("lengths", "batch_tokens", "batches"),
    [
        pytest.param([], 8, [], id="no rows"),
        pytest.param([5], 8, [[0]], id="one row"),
        pytest.param([5], 1, [[0]], id="one row over the budget"),
        pytest.param([2, 9, 3, 8], 18, [[1, 3], [2, 0]], id="pairs of similar length"),
        pytest.param([2, 9, 3, 8], 17, [[1], [3, 2], [0]], id="a budget one token short of a pair"),
        pytest.param([4, 4, 4, 4], 8, [[0, 1], [2, 3]], id="equal rows stay in order"),
        pytest.param([20, 1, 30, 1], 10, [[2], [0], [1, 3]], id="two rows over the budget"),
        pytest.param([1, 2, 3], 10**12, [[2, 1, 0]], id="a budget for all"),
        pytest.param([0, 0, 0], 2, [[0, 1], [2]], id="rows without tokens count as one"),
    ],
)
def test_rows_are_grouped_by_length(lengths, batch_tokens, batches):
    grouped = length_batches(np.array(lengths, dtype=np.int64), batch_tokens)
    assert [rows.tolist() for rows in grouped] == batches


@settings(max_examples=80, deadline=None)
@given(LENGTHS, BATCH_TOKENS, ONE_LENGTH_FROM)
def test_every_row_is_in_exactly_one_batch(lengths, batch_tokens, one_length_from):
    rows = [row for batch in length_batches(lengths, batch_tokens, one_length_from) for row in batch]
    assert sorted(rows) == list(range(len(lengths)))


@settings(max_examples=80, deadline=None)
@given(LENGTHS, BATCH_TOKENS, ONE_LENGTH_FROM)
def test_a_batch_of_several_rows_keeps_to_the_budget_with_its_padding(lengths, batch_tokens, one_length_from):
    assert all(
        len(rows) == 1 or n_padded(lengths, rows) <= batch_tokens
        for rows in length_batches(lengths, batch_tokens, one_length_from)
    )


@pytest.mark.parametrize(
    ("lengths", "one_length_from", "batches"),
    [
        pytest.param([5, 5, 5, 4, 4, 4], 10, [[0, 1, 2], [3, 4, 5]], id="enough of each length"),
        pytest.param([5, 4, 4, 4], 10, [[0, 1, 2, 3]], id="a few longer ones join many of one length"),
        pytest.param([5, 5, 4, 4, 3, 3, 3, 3], 10, [[0, 1], [2, 3, 4, 5, 6], [7]], id="a few between many"),
        pytest.param([5, 4, 3, 2, 1], 10, [[0, 1, 2, 3], [4]], id="few of each fill the budget"),
        pytest.param([5] * 5 + [4], 10, [[0, 1, 2, 3], [4], [5]], id="the budget comes first"),
        pytest.param([4, 3], 1000, [[0, 1]], id="all together are too few"),
    ],
)
def test_a_batch_that_is_large_enough_ends_where_a_length_ends(lengths, one_length_from, batches):
    grouped = length_batches(np.array(lengths, dtype=np.int64), 20, one_length_from)
    assert [rows.tolist() for rows in grouped] == batches


def test_batches_need_no_padding_where_there_are_many_rows_of_each_length():
    lengths = np.repeat(np.arange(5, 30), 400)
    grouped = list(length_batches(lengths, 4000, 1000))
    assert all(len(set(lengths[rows])) == 1 for rows in grouped)


@settings(max_examples=80, deadline=None)
@given(LENGTHS, BATCH_TOKENS)
def test_no_batch_is_empty(lengths, batch_tokens):
    assert all(len(rows) for rows in length_batches(lengths, batch_tokens))


@settings(max_examples=80, deadline=None)
@given(LENGTHS, BATCH_TOKENS)
def test_rows_go_from_long_to_short_and_equal_ones_stay_in_order(lengths, batch_tokens):
    order = [row for rows in length_batches(lengths, batch_tokens) for row in rows]
    assert order == sorted(range(len(lengths)), key=lambda row: -lengths[row])


@settings(max_examples=80, deadline=None)
@given(LENGTHS.filter(len), BATCH_TOKENS)
def test_a_batch_ends_only_where_the_next_row_would_break_the_budget(lengths, batch_tokens):
    for rows, following in pairwise(length_batches(np.maximum(lengths, 1), batch_tokens)):
        assert n_padded(np.maximum(lengths, 1), [*rows, following[0]]) > batch_tokens


def test_grouping_leaves_the_lengths_alone():
    lengths = np.array([2, 9, 3])
    list(length_batches(lengths, 10))
    assert lengths.tolist() == [2, 9, 3]


@pytest.mark.parametrize(
    ("texts", "max_texts", "max_characters", "expected"),
    [
        pytest.param([], 10, 10, [], id="no texts"),
        pytest.param([""], 1, 0, [(0, 1)], id="one empty text"),
        pytest.param(["aa", "b", "ccc"], 10, 3, [(0, 2), (2, 3)], id="bounded by characters"),
        pytest.param(["aa", "b", "ccc"], 2, 100, [(0, 2), (2, 3)], id="bounded by texts"),
        pytest.param(["aa", "b", "ccc"], 1, 100, [(0, 1), (1, 2), (2, 3)], id="one text each"),
        pytest.param(["a" * 9, "b", "c"], 10, 3, [(0, 1), (1, 3)], id="the first text over the bound"),
        pytest.param(["a", "b" * 9, "c"], 10, 3, [(0, 1), (1, 2), (2, 3)], id="a middle text over the bound"),
        pytest.param(["a", "", "", "b"], 10, 1, [(0, 3), (3, 4)], id="empty texts weigh nothing"),
        pytest.param(["a", "b"], 2, 2, [(0, 2)], id="both bounds met exactly"),
    ],
)
def test_texts_are_cut_into_chunks(texts, max_texts, max_characters, expected):
    cut = chunks(texts, max_texts, max_characters)
    assert [(chunk.start, chunk.stop) for chunk in cut] == expected


@settings(max_examples=80, deadline=None)
@given(TEXTS, MAX_TEXTS, MAX_CHARACTERS)
def test_chunks_cover_all_texts_in_order(texts, max_texts, max_characters):
    assert [text for chunk in chunks(texts, max_texts, max_characters) for text in texts[chunk]] == texts


@settings(max_examples=80, deadline=None)
@given(TEXTS, MAX_TEXTS, MAX_CHARACTERS)
def test_a_chunk_has_at_least_one_text_and_no_more_than_allowed(texts, max_texts, max_characters):
    assert all(1 <= len(texts[chunk]) <= max_texts for chunk in chunks(texts, max_texts, max_characters))


@settings(max_examples=80, deadline=None)
@given(TEXTS, MAX_TEXTS, MAX_CHARACTERS)
def test_a_chunk_of_several_texts_keeps_to_the_characters_allowed(texts, max_texts, max_characters):
    for chunk in chunks(texts, max_texts, max_characters):
        assert len(texts[chunk]) == 1 or n_characters(texts[chunk]) <= max_characters


@settings(max_examples=80, deadline=None)
@given(TEXTS, MAX_TEXTS, MAX_CHARACTERS)
def test_a_chunk_ends_only_where_the_next_text_would_break_a_bound(texts, max_texts, max_characters):
    for chunk, following in pairwise(chunks(texts, max_texts, max_characters)):
        longer = texts[chunk.start : following.start + 1]
        assert len(longer) > max_texts or n_characters(longer) > max_characters


@given(st.lists(st.integers(-5, 5)))
def test_positions_are_grouped_by_value_in_ascending_order(values):
    groups = [(value, positions.tolist()) for value, positions in positions_by_value(np.array(values, dtype=np.int64))]
    expected = {value: [position for position, other in enumerate(values) if other == value] for value in values}
    assert groups == sorted(expected.items())


@given(st.lists(st.integers(0, 9)) | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: range(*ends)))
def test_a_slice_names_the_same_positions(positions):
    positions = np.array(positions, dtype=np.intp)
    assert np.arange(10)[as_slice(positions)].tolist() == positions.tolist()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 6))
def test_even_batches_are_no_more_than_asked_for_and_with_one_token_less_they_would_be(lengths, n_batches):
    lengths = np.array(lengths)
    batch_tokens = even_batch_tokens(lengths, n_batches)
    assert len(list(length_batches(lengths, batch_tokens))) <= n_batches
    fewer = batch_tokens - 1
    assert fewer < lengths.max() or len(list(length_batches(lengths, fewer))) > n_batches


def test_no_rows_need_no_tokens():
    assert even_batch_tokens(np.array([], dtype=np.int64), 2) == 0
