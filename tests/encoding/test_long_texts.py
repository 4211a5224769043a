"""Long texts: their windows are averaged, whatever batches they come in, and truncated rows are counted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skembed.encoding.long_texts import average_windows, count_truncated
from skembed.encoding.texts import read_texts
from skembed.encoding.tokens import Tokens

# The first text has windows of 3 and 1 tokens, the second one window of 2
SPLIT = Tokens(np.arange(6, dtype=np.int32), np.array([0, 3, 4, 6]), np.array([0, 0, 1]), np.array([4, 2]))
VECTORS = np.float32([[1, 0], [5, 8], [7, 7]])


def averaged(batches, n_prompt_tokens=0):
    found = np.full((2, 2), np.nan)
    for positions, vectors in average_windows(((np.array(b), VECTORS[b]) for b in batches), SPLIT, n_prompt_tokens):
        found[positions] = vectors
    return found


@pytest.mark.parametrize("batches", [[[0, 1, 2]], [[1], [2], [0]], [[2, 0], [1]]], ids=str)
def test_windows_are_averaged_by_their_numbers_of_tokens(batches):
    assert_allclose(averaged(batches), [[2, 2], [7, 7]])


def test_tokens_of_the_prompt_do_not_count():
    assert_allclose(averaged([[0, 1, 2]], n_prompt_tokens=2), [[3, 4], [7, 7]])


def test_a_text_comes_as_soon_as_its_last_window_has():
    batches = iter([(np.array([2]), VECTORS[[2]]), (np.array([0, 1]), VECTORS[[0, 1]])])
    assert [positions.tolist() for positions, _ in average_windows(batches, SPLIT, 0)] == [[1], [0]]


@pytest.mark.parametrize(("limit", "n_truncated"), [(None, 0), (3, 2), (2, 3), (9, 0)])
def test_each_row_of_a_truncated_text_counts(limit, n_truncated):
    texts = read_texts(["a", "b", "a", None], missing="nan")
    assert count_truncated(np.array([5, 3]), texts, SimpleNamespace(token_limit=limit)) == n_truncated
