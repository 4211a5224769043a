"""near_pairs: the pairs that a matrix of float64 cosines has, whatever computes them and in whatever blocks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from skembed.similarity import bounds
from skembed.similarity import near_pairs as module
from skembed.similarity.near_pairs import OnDevice, OnProcessor, near_pairs

DIMS = st.integers(1, 70)
WAYS = ["float32", "bfloat16", "device"]
THRESHOLDS = [0.3, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0]


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def cosines_of(vectors) -> np.ndarray:
    """Return the cosines of vectors in float64; those of vectors of zeros are 0."""
    exact = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    exact = exact / np.where(lengths > 0, lengths, 1)
    return exact @ exact.T


def true_pairs(vectors, threshold) -> list[tuple[int, int]]:
    return sorted(zip(*np.nonzero(np.triu(cosines_of(vectors) >= threshold - 1e-6, 1)), strict=True))


def listed(found) -> list[tuple[int, int]]:
    return sorted((first, second) for pairs in found for first, second in zip(*pairs, strict=True))


def compare(vectors, threshold, way, n_leading=None, shape=None):
    """Find the pairs in one way, with bounds of so many dimensions; None: without bounds."""
    dtype = "float32" if way == "device" else way
    leading = None
    if n_leading is not None:
        leading = bounds.lead(vectors, bounds.principal_axes(vectors)[:, : n_leading - 1], dtype)
    if way == "device":
        comparison = OnDevice(vectors, threshold - 1e-6, leading, "cpu")
    else:
        comparison = OnProcessor(vectors, threshold - 1e-6, leading, dtype)
    comparison.shape = shape or comparison.shape
    return listed(module._compare(comparison, len(vectors), False))


@st.composite
def clustered(draw, dims=DIMS) -> np.ndarray:
    """Return unit vectors around centres, some of them copies, some of zeros."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, dim = draw(st.integers(2, 60)), draw(dims)
    centres = numbers.normal(size=(draw(st.integers(1, 12)), dim)) / np.arange(1, dim + 1) ** draw(
        st.sampled_from([0, 1])
    )
    noise = numbers.normal(size=(n_rows, dim)) * draw(st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0]))
    vectors = centres[numbers.integers(len(centres), size=n_rows)] + noise
    vectors[numbers.integers(n_rows, size=draw(st.integers(0, 3)))] = 0
    return unit(vectors)


shapes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@contextmanager
def large_inputs_begin_at(n_rows):
    """Rotate even so few vectors, and compare them in several threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "_FEWEST_VECTORS", n_rows)
        patch.setattr(bounds, "_VECTORS_PER_DIM", 0)
        patch.setattr(bounds, "_N_LEADING", (2, 4, 8, 16))
        patch.setattr(module, "_FEWEST_FOR_TORCH", n_rows)
        patch.setattr(module, "_ROWS_PER_BLOCK", 8)
        patch.setattr(module, "_OTHERS_PER_BLOCK", {"float32": 8, "bfloat16": 16})
        patch.setattr(module.joblib, "cpu_count", lambda: 3)
        yield patch


# The pairs


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)
@given(clustered(), st.sampled_from(THRESHOLDS), st.integers(1, 70), shapes)
def test_bounds_exclude_no_pair_whatever_the_blocks(way, vectors, threshold, n_leading, shape):
    n_leading = min(n_leading, vectors.shape[1])
    assert compare(vectors, threshold, way, n_leading, shape) == true_pairs(vectors, threshold)


@pytest.mark.parametrize("way", ["float32", "device"])
@settings(deadline=None)
@given(clustered(), st.sampled_from([-1.0, -0.9, -0.2, 0.0, *THRESHOLDS]), shapes)
def test_without_bounds_the_pairs_are_the_same_at_negative_thresholds_too(way, vectors, threshold, shape):
    assert compare(vectors, threshold, way, None, shape) == true_pairs(vectors, threshold)


@settings(deadline=None)
@given(clustered(), st.sampled_from([-1.0, -0.2, 0.0, *THRESHOLDS]))
def test_small_inputs_are_compared_exactly(vectors, threshold):
    assert listed(near_pairs(vectors, threshold)) == true_pairs(vectors, threshold)


@settings(deadline=None)
@given(clustered(), st.sampled_from([-1.0, 0.0, *THRESHOLDS]), st.data(), st.sampled_from([None, "cpu"]))
def test_of_two_sides_only_pairs_of_one_with_the_other_are_found(vectors, threshold, data, device):
    n_left = data.draw(st.integers(0, len(vectors)))
    expected = [pair for pair in true_pairs(vectors, threshold) if pair[0] < n_left <= pair[1]]
    with large_inputs_begin_at(2):
        assert listed(near_pairs(vectors, threshold, n_left=n_left, device=device)) == expected


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)
@given(clustered(st.integers(2, 70)), st.integers(0, 1000))
def test_a_threshold_at_a_cosine_finds_it_and_one_above_the_tolerance_does_not(way, vectors, which):
    cosines = cosines_of(vectors)
    cosine = cosines[np.triu_indices(len(vectors), 1)][which % (len(vectors) * (len(vectors) - 1) // 2)]
    for threshold in (cosine, cosine + 1e-6 - 1e-9, cosine + 1e-6 + 1e-9):
        n_leading = 2 if threshold > 0.1 else None
        assert compare(vectors, threshold, way, n_leading) == true_pairs(vectors, threshold)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_all_pairs_of_copies_are_found(way, threshold):
    vectors = np.repeat(unit([[1, 2, 3, 4], [4, 3, -2, -1]]), 40, axis=0)
    assert len(compare(vectors, threshold, way, 2, (16, 8))) == 2 * 40 * 39 // 2


@pytest.mark.parametrize("way", WAYS)
def test_vectors_of_zeros_have_a_cosine_of_zero_with_all(way):
    vectors = unit([[0, 0, 0], [1, 2, 2], [0, 0, 0]])
    assert compare(vectors, 0.0, way) == [(0, 1), (0, 2), (1, 2)]
    assert compare(vectors, 0.1, way, 2) == compare(vectors, 0.1, way) == []


@pytest.mark.parametrize("threshold", [-1.0, 0.9])
@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("dim", [0, 1, 384])
def test_fewer_than_two_vectors_have_no_pairs(n, dim, threshold):
    assert list(near_pairs(np.ones((n, dim), np.float32), threshold)) == []


@settings(deadline=None)
@given(
    clustered(), st.sampled_from([-1.0, 0.0, *THRESHOLDS]), st.sampled_from([1, 10**6]), st.sampled_from([None, "cpu"])
)
def test_whatever_is_chosen_for_large_inputs_the_pairs_are_exact(vectors, threshold, fewest_for_torch, device):
    with large_inputs_begin_at(2) as patch:
        patch.setattr(module, "_FEWEST_FOR_TORCH", fewest_for_torch)
        patch.setattr(module, "COST_OF_ONE_BY_ONE", 2)
        patch.setattr(bounds, "COST_OF_ONE_BY_ONE", 2)
        assert listed(near_pairs(vectors, threshold, device=device)) == true_pairs(vectors, threshold)


@pytest.mark.parametrize("way", WAYS)
def test_vectors_close_to_few_axes_lose_no_pair_to_rounding(way):
    numbers = np.random.default_rng(0)
    vectors = unit(numbers.normal(size=(300, 3)) @ numbers.normal(size=(3, 64)) + 1e-6 * numbers.normal(size=(300, 64)))
    for threshold in (0.5, 0.9, 0.999, 0.999999):
        assert compare(vectors, threshold, way, 4) == true_pairs(vectors, threshold)


# What is chosen


def choose(vectors, threshold, **of_module):
    with large_inputs_begin_at(2) as patch:
        for name, value in of_module.items():
            patch.setattr(module, name, value)
        return module._choose(vectors, threshold, None)


FLAT = unit(np.random.default_rng(0).normal(size=(600, 4)) @ np.random.default_rng(1).normal(size=(4, 60)))
ROUND = unit(np.random.default_rng(0).normal(size=(600, 60)))


def test_vectors_close_to_few_axes_are_compared_in_few_dimensions_first():
    assert choose(FLAT, 0.95)._leading.shape == (600, 8)


@pytest.mark.parametrize(("vectors", "threshold"), [(FLAT, -0.5), (FLAT, 0.0), (ROUND, 0.1)])
def test_bounds_that_exclude_too_little_are_not_computed(vectors, threshold):
    assert choose(vectors, threshold)._leading is None


def test_small_inputs_are_not_rotated():
    assert module._choose(FLAT, 0.95, None)._leading is None


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bounds_are_computed_in_bfloat16_where_the_processor_multiplies_it(has_bfloat16):
    if not module._can_limit_torch():
        pytest.skip("this torch has no limit for one thread")
    comparison = choose(FLAT, 0.95, speed_of_bfloat16=lambda: 2.0 if has_bfloat16 else 1.0)
    assert comparison._leading.dtype == ("int16" if has_bfloat16 else "float32")


def test_a_cuda_device_is_used_for_many_vectors(monkeypatch):
    monkeypatch.setattr(module, "resolve_devices", lambda *_: ("cuda:0",))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**40, 2**40))
    assert module._cuda_device(10) == "cuda:0"


def of_a_full_device(_):
    return 2**20, 2**40


def of_a_forked_child(_):
    raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")


@pytest.mark.parametrize("mem_get_info", [of_a_full_device, of_a_forked_child])
def test_a_cuda_device_that_has_no_room_or_does_not_work_is_not_used(mem_get_info, monkeypatch):
    monkeypatch.setattr(module, "resolve_devices", lambda *_: ("cuda:0",))
    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    assert module._cuda_device(10) is None


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_are_not_used(device, monkeypatch):
    monkeypatch.setattr(module, "resolve_devices", lambda *_: (device,))
    assert module._cuda_device(10) is None


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [100, 9000])
def test_torch_is_not_imported_for_few_vectors(n_rows):
    program = f"""
import sys
import numpy as np
from skembed import NearDuplicates
NearDuplicates().fit(np.random.default_rng(0).normal(size=({n_rows}, 40)))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Threads, interrupts and progress


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def iterator():
    """Return an iterator over the pairs of several threads, many of them still to come."""
    with large_inputs_begin_at(10**6):
        before = threading.active_count(), blas_threads()
        yield near_pairs(np.repeat(ROUND, 5, axis=0), -1.0)
        assert (threading.active_count(), blas_threads()) == before


def test_leaving_the_loop_ends_the_threads_and_their_limit(iterator):
    next(iterator)
    assert set(blas_threads()) == {1}
    iterator.close()


def test_an_exception_where_pairs_are_consumed_ends_the_threads(iterator):
    next(iterator)
    with pytest.raises(KeyboardInterrupt):
        iterator.throw(KeyboardInterrupt)


def test_an_exception_in_a_thread_reaches_the_caller(iterator, monkeypatch):
    def fail(*_):
        raise MemoryError("no memory")

    monkeypatch.setattr(module, "_pairs_at", fail)
    with pytest.raises(MemoryError, match="no memory"):
        list(iterator)


def test_two_calls_at_once_restore_the_number_of_threads():
    before = blas_threads()
    with large_inputs_begin_at(10**6):
        first, second = near_pairs(ROUND, -1.0), near_pairs(ROUND, -1.0)
        next(first), next(second)
        first.close()
        assert set(blas_threads()) == {1}
        second.close()
    assert blas_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_meanwhile_compares_with_the_number_of_threads_before():
    before = blas_threads()
    with large_inputs_begin_at(10**6):
        pairs = near_pairs(ROUND, -1.0)
        next(pairs)
        child = os.fork()
        if child == 0:
            os._exit(0 if blas_threads() == before and len(listed(near_pairs(ROUND[:50], -1.0))) == 1225 else 1)
        assert os.waitpid(child, 0)[1] == 0
        pairs.close()


@pytest.mark.parametrize(("show", "is_shown"), [(True, True), (False, False), ("auto", False)])
def test_the_progress_bar_counts_blocks(show, is_shown, capsys):
    with large_inputs_begin_at(2):
        list(near_pairs(FLAT, 0.95, show=show))
    assert ("block" in capsys.readouterr().err) == is_shown


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 16), (200, 100)])
@pytest.mark.parametrize("n_blocks", [1, 16])
def test_every_pair_of_rows_is_in_exactly_one_block(n, shape, n_blocks):
    tasks = list(module._divide(n, *shape, None, n_blocks))
    assert max(len(starts) for _, starts in tasks) <= n_blocks
    blocks = [(rows, slice(start, start + shape[1])) for rows, starts in tasks for start in starts]
    counts = np.zeros((n, n), int)
    for rows, others in blocks:
        counts[rows, others] += 1
    assert (counts[np.triu_indices(n)] == 1).all()
    assert counts.max() == 1
    assert len(blocks) == module._count_blocks(n, *shape)


@pytest.mark.parametrize("n_left", [0, 1, 8, 30, 100])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 16), (200, 100)])
def test_every_pair_of_two_sides_is_in_exactly_one_block(n_left, shape):
    tasks = list(module._divide(100, *shape, n_left, 16))
    counts = np.zeros((100, 100), int)
    for rows, starts in tasks:
        for start in starts:
            counts[rows, start : start + shape[1]] += 1
    assert (counts[:n_left, n_left:] == 1).all()
    assert counts.sum() == n_left * (100 - n_left)
    assert sum(len(starts) for _, starts in tasks) == module._count_blocks(100, *shape, n_left)
