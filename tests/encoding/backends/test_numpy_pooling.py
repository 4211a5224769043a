"""The poolings on numpy arrays are those on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from skembed.encoding.backends.numpy_pooling import NUMPY_POOLERS
from skembed.encoding.backends.torch_pooling import POOLERS


@st.composite
def batches(draw):
    """Token vectors, and which tokens count: any of them, also none."""
    n_texts, n_tokens, n_dims = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 6))
    token_vectors = draw(
        arrays(np.float32, (n_texts, n_tokens, n_dims), elements=st.floats(-100, 100, width=32, allow_subnormal=False))
    )
    return token_vectors, draw(arrays(bool, (n_texts, n_tokens)))


def test_every_pooling_has_its_twin():
    assert list(NUMPY_POOLERS) == list(POOLERS)


@pytest.mark.parametrize("pooling", POOLERS)
@settings(max_examples=50, deadline=None)
@given(batch=batches())
def test_the_result_is_that_on_tensors(pooling, batch):
    token_vectors, is_pooled = batch
    pooled = NUMPY_POOLERS[pooling](token_vectors, is_pooled)
    expected = POOLERS[pooling](torch.from_numpy(token_vectors), torch.from_numpy(is_pooled)).numpy()
    assert pooled.dtype == np.float32
    assert_allclose(pooled, expected, rtol=1e-5, atol=1e-4)
