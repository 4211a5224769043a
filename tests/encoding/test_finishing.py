"""Finishing: raw vectors are truncated, normalized and scattered to rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skembed.encoding.finishing import scatter_rows, truncate_normalize
from skembed.encoding.texts import read_texts


def plan(dims, kept, *, normalize):
    return SimpleNamespace(dims=dims, kept=kept, finished_dim=sum(kept), normalize=normalize)


def test_each_part_is_truncated():
    raw = np.float32([[1, 2, 3, 4, 5]])
    assert_array_equal(truncate_normalize(raw, plan((3, 2), (2, 1), normalize=False)), [[1, 2, 4]])


def test_vectors_are_normalized_after_they_are_truncated():
    raw = np.float32([[3, 4, 12]])
    assert_allclose(truncate_normalize(raw, plan((3,), (2,), normalize=True)), [[0.6, 0.8]])


def test_a_vector_of_zeros_stays_one():
    assert_array_equal(truncate_normalize(np.zeros((1, 2), np.float32), plan((2,), (2,), normalize=True)), [[0, 0]])


def test_rows_get_the_vectors_of_their_texts():
    texts = read_texts(["b", "a", "b"])
    assert_array_equal(scatter_rows(np.float32([[1], [2]]), texts, "error"), [[1], [2], [1]])


@pytest.mark.parametrize(("missing", "value"), [("zero", 0), ("nan", np.nan)])
def test_missing_rows_become_zeros_or_nan(missing, value):
    texts = read_texts(["b", None], missing=missing)
    assert_array_equal(scatter_rows(np.float32([[1]]), texts, missing), [[1], [value]])


def test_vectors_of_rows_that_all_differ_are_not_copied():
    vectors = np.float32([[1], [2]])
    assert scatter_rows(vectors, read_texts(["b", "a"]), "error") is vectors
