"""Batches that keep texts apart: no text twice in a batch, and every example once an epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.training.batches import TextsApart
from skembed.training.losses import TEXT_COLUMNS

QUESTIONS = [f"question {number}" for number in range(96)]


class Table(dict):
    """As much of a Dataset as a sampler asks for."""

    column_names = property(list)


def texts_apart(columns, batch_size, n_apart=3, seed=0):
    laid_out = dict(zip(TEXT_COLUMNS, columns, strict=False)) | {"label": [0] * len(columns[0])}
    options = {"batch_size": batch_size, "drop_last": False, "valid_label_columns": ["label"], "seed": seed}
    return TextsApart(Table(laid_out), n_apart=n_apart, **options)


def epochs(sampler, n):
    for epoch in range(n):
        sampler.set_epoch(epoch)
        yield list(sampler)


words = st.sampled_from("abcdefgh")


@settings(deadline=None)
@given(rows=st.lists(st.tuples(words, words, words), min_size=1, max_size=40), batch_size=st.integers(1, 9))
def test_every_example_comes_once_an_epoch_and_no_text_twice_in_a_batch(rows, batch_size):
    sampler = texts_apart(list(zip(*rows, strict=True)), batch_size)
    for batches in epochs(sampler, 3):
        assert len(batches) == len(sampler)
        assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
        for batch in batches:
            assert 1 <= len(batch) <= batch_size
            texts = Counter(text for row in batch for text in set(rows[row]))
            assert max(texts.values()) == 1


@settings(deadline=None)
@given(rows=st.lists(st.tuples(words, words, words), min_size=1, max_size=40), batch_size=st.integers(1, 9))
def test_a_negative_may_stand_twice_but_never_beside_a_pair_that_holds_it(rows, batch_size):
    sampler = texts_apart(list(zip(*rows, strict=True)), batch_size, n_apart=2)
    for batches in epochs(sampler, 3):
        assert len(batches) == len(sampler)
        assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
        for batch in batches:
            for row in batch:
                others = {text for other in batch if other != row for text in rows[other]}
                assert others.isdisjoint(rows[row][:2])


@pytest.mark.parametrize(
    ("answers", "n_batches", "smallest"),
    [
        ([f"answer {number % 8}" for number in range(96)], 12, 8),
        ([f"answer {number % 50}" for number in range(96)], 6, 16),
        (["the answer"] * 40 + [f"answer {number % 7}" for number in range(56)], 40, 2),
        (["the answer"] * 96, 96, 1),
    ],
)
def test_batches_are_as_few_and_as_equal_as_the_texts_allow(answers, n_batches, smallest):
    sampler = texts_apart((QUESTIONS, answers), 16)
    assert len(sampler) == n_batches
    assert min(map(len, sampler)) == smallest


def test_texts_that_stand_once_fill_batches_of_one_size():
    sampler = texts_apart((QUESTIONS[:50], [f"answer {number}" for number in range(50)]), 16)
    assert sorted(map(len, sampler)) == [12, 12, 13, 13]


def test_a_negative_that_all_triplets_share_costs_no_company():
    positives = [f"answer {number}" for number in range(96)]
    sampler = texts_apart((QUESTIONS, positives, ["nonsense"] * 96), 16, n_apart=2)
    assert [len(batch) for batch in sampler] == [16] * 6


def test_each_epoch_deals_anew_and_each_seed_in_its_own_way():
    answers = [f"answer {number % 8}" for number in range(96)]
    deals = [
        frozenset(map(frozenset, batches))
        for seed in (0, 1)
        for batches in epochs(texts_apart((QUESTIONS, answers), 16, seed=seed), 3)
    ]
    assert len(set(deals)) == 6
    again = [frozenset(map(frozenset, batches)) for batches in epochs(texts_apart((QUESTIONS, answers), 16), 3)]
    assert again == deals[:3]


@pytest.mark.exhaustive
def test_many_examples_are_dealt_without_a_text_twice():
    rng = np.random.default_rng(0)
    for n_texts in (300, 3_000, 200_000):
        columns = [rng.integers(n_texts, size=100_000).astype(str).tolist() for _ in range(2)]
        sampler = texts_apart(columns, 64)
        for batches in epochs(sampler, 2):
            assert len(batches) == len(sampler)
            assert sum(map(len, batches)) == 100_000
            assert all(
                len({text for row in batch for text in {columns[0][row], columns[1][row]}})
                == sum(len({columns[0][row], columns[1][row]}) for row in batch)
                for batch in batches
            )
