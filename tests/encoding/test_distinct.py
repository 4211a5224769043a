"""distinct: rows of the same bits get one number."""

from __future__ import annotations

import numpy as np

from skembed.encoding.distinct import distinct_rows


def test_equal_vectors_get_one_number_in_order_of_appearance():
    code_of, first_rows = distinct_rows(np.float32([[2, 0], [0, 1], [2, 0], [0, 2], [0, 1]]))
    assert (code_of.tolist(), first_rows.tolist()) == ([0, 1, 0, 2, 1], [0, 1, 3])


def test_different_vectors_with_equal_keys_get_different_numbers(monkeypatch):
    class AllAlike:
        def integers(self, *_, size, dtype):
            return np.zeros(size, dtype=dtype)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: AllAlike())
    code_of, first_rows = distinct_rows(np.float32([[1, 2], [2, 1], [1, 2]]))
    assert (code_of.tolist(), first_rows.tolist()) == ([0, 1, 0], [0, 1])
