"""Bounds: products of leading coordinates are at least the cosine, less a margin that is small."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from skembed.similarity import bounds

NUMBERS = st.floats(-2, 2, width=32)
MATRICES = st.tuples(st.integers(1, 30), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=NUMBERS)
)
DTYPES = ["float32", "bfloat16"]


def exact(vectors) -> np.ndarray:
    """Return unit vectors in float64; zeros stay zeros."""
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None)
@given(MATRICES, st.integers(1, 40))
def test_products_of_leading_coordinates_are_at_least_the_cosine_less_the_margin(dtype, vectors, n_leading):
    unit = exact(vectors).astype(np.float32)
    axes = bounds.principal_axes(unit)[:, : min(n_leading, unit.shape[1]) - 1]
    leading = bounds.lead(unit, axes, dtype)
    cosines = exact(unit) @ exact(unit).T
    assert (leading.numbers @ leading.numbers.T >= cosines - leading.margin).all()
    assert leading.margin < (0.02 if dtype == "bfloat16" else 2e-5)


@settings(deadline=None)
@given(MATRICES)
def test_axes_are_orthonormal_and_those_with_most_length_come_first(vectors):
    axes = bounds.principal_axes(vectors)
    assert_allclose(axes.T @ axes, np.eye(vectors.shape[1]), atol=1e-9)
    lengths = ((exact(vectors) @ axes) ** 2).sum(axis=0)
    assert (np.diff(lengths) <= 1e-9).all()


@settings(deadline=None)
@given(MATRICES)
def test_products_in_float32_differ_from_cosines_by_the_error_at_most(vectors):
    unit = exact(vectors).astype(np.float32)
    difference = np.abs(unit @ unit.T - exact(unit) @ exact(unit).T)
    assert difference.max() <= bounds.error_of_products(unit)


def test_vectors_of_other_lengths_have_a_larger_error():
    unit = np.float32([[1, 0], [0.6, 0.8]])
    assert bounds.error_of_products(unit) < 1e-6
    assert bounds.error_of_products(unit * np.float32(1.01)) >= 0.0201 - 1e-6


@given(arrays(np.float32, st.integers(0, 20), elements=NUMBERS))
def test_bits_are_those_of_torchs_bfloat16(numbers):
    of_torch = torch.from_numpy(numbers).bfloat16()
    assert_array_equal(bounds.to_bits(numbers), of_torch.view(torch.int16).numpy())
    assert_array_equal(bounds.from_bits(bounds.to_bits(numbers)), of_torch.float().numpy())


def flat(n_rows, n_axes=6, dim=100):
    """Return unit vectors close to a few axes."""
    numbers = np.random.default_rng(0)
    return exact(numbers.normal(size=(n_rows, n_axes)) @ numbers.normal(size=(n_axes, dim))).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_close_to_few_axes_get_few_dimensions(dtype):
    assert bounds.find_leading(flat(9000), 0.95, dtype=dtype).values.shape == (9000, 32)


@pytest.mark.parametrize(
    ("n_rows", "n_axes", "cut"), [(8000, 6, 0.95), (9000, 6, 0.0), (9000, 6, -0.5), (9000, 100, 0.1)]
)
def test_there_are_no_bounds_for_few_vectors_low_cuts_and_vectors_in_all_directions(n_rows, n_axes, cut):
    assert bounds.find_leading(flat(n_rows, n_axes), cut, dtype="float32") is None


def test_fast_products_get_more_dimensions():
    numbers = np.random.default_rng(0)
    vectors = exact(numbers.normal(size=(9000, 200)) / np.arange(1, 201) ** 0.5).astype(np.float32)
    slow, fast = (bounds.find_leading(vectors, 0.6, dtype="float32", speed=speed) for speed in (1.0, 10.0))
    assert fast.values.shape[1] > slow.values.shape[1]
