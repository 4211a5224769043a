"""All pairs of vectors whose cosine reaches a threshold, exactly: few of them are compared in all dimensions.

Bounds from the first principal axes exclude nearly all pairs. The others are compared in float32, and where that cannot
decide, in float64. Imports numpy, joblib, threadpoolctl, the bounds, the engine's blocks, threads and its choice of
devices; torch only for many vectors, on use.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from skembed.encoding.distinct import blocks_of
from skembed.encoding.forks import renew_in_child
from skembed.encoding.models.devices import resolve_devices
from skembed.encoding.progress import progress
from skembed.encoding.threads import LockedIterator, iterate_concurrently
from skembed.processor import speed_of_bfloat16
from skembed.similarity.bounds import (
    COST_OF_ONE_BY_ONE,
    Leading,
    error_of_products,
    find_leading,
    normalise,
    to_bits,
)

Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]
Find = Callable[[slice, range], Pairs]

_NONE = np.empty(0, np.int32), np.empty(0, np.int32)

TOLERANCE = 1e-6  # a cosine so little below the threshold counts as equal to it

# Blocks whose products stay in the processor's cache: 1 MiB of float32, or of bfloat16.
_ROWS_PER_BLOCK, _OTHERS_PER_BLOCK = 512, {"float32": 512, "bfloat16": 1024}
_BLOCKS_AT_A_TIME = 16  # per thread: some milliseconds, and at most 32 MiB of pairs, 64 MiB for bfloat16
_PAIRS_PER_BLOCK = 2048  # whose vectors are gathered together
_NUMBERS_GATHERED = 2**18  # of pairs that are compared one by one
_FEWEST_FOR_TORCH, _FEWEST_FOR_IMPORT = 8192, 100_000  # vectors: importing torch takes a second or more

_SHAPE_ON_DEVICE = 2048, 2**14  # of blocks, one at a time: at most 256 MiB of pairs
_NUMBERS_ON_DEVICE = 2**25  # of pairs that are compared one by one
_BYTES_ON_DEVICE = 2**32  # that a comparison takes, besides the vectors
_MARGIN_ON_DEVICE = 2 * 2.0**-8 + 2.0**-16  # see OnDevice


def near_pairs(
    vectors: NDArray[np.float32],
    threshold: float,
    *,
    n_left: int | None = None,
    show: bool | str = "auto",
    device: str | None = None,
) -> Generator[Pairs]:
    """Yield all pairs of vectors whose cosine is at least the threshold, each pair once, in no particular order.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of unit length, or zeros, which have a cosine of 0 with all vectors. Of copies, all pairs are yielded.
    threshold : float
        A pair counts if its cosine in float64 is at least ``threshold - 1e-6``.
    n_left : int, default=None
        Only pairs of one of the first ``n_left`` vectors with one of those after them. None: all pairs.
    show : bool or "auto", default="auto"
        Whether to show a progress bar.
    device : str, default=None
        Where torch compares them. None: for many vectors, a CUDA device if there is one; otherwise the processor.

    Yields
    ------
    position, other : ndarray of int32, shape (n_found,)
        The first is the smaller one. There are several such arrays, of at most 64 MiB together; from a device, of 256
        MiB. Meanwhile a thread on each core finds the next ones: a few of them are in memory, however many pairs there
        are.

    Examples
    --------
    >>> [(first.tolist(), second.tolist()) for first, second in near_pairs(np.float32([[1, 0], [0, 1], [1, 0]]), 0.9)]
    [([0], [2])]
    """
    if len(vectors) < 2:
        return
    comparison = _choose(vectors, threshold - TOLERANCE, device)
    with closing(_compare(comparison, len(vectors), show, n_left)) as found:
        for position, other in found:
            if len(position):
                yield position, other


def cosines_of(
    vectors: NDArray[np.float32], position: NDArray[np.integer[Any]], other: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Compute the cosine of each pair.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of unit length, or zeros.
    position, other : ndarray of int, shape (n_pairs,)

    Returns
    -------
    ndarray of float32, shape (n_pairs,)

    Examples
    --------
    >>> cosines_of(np.float32([[1, 0], [0.8, 0.6]]), np.array([0]), np.array([1]))
    array([0.8], dtype=float32)
    """
    cosines = np.empty(len(position), np.float32)
    for block in blocks_of(len(position), _PAIRS_PER_BLOCK):
        np.einsum("ij,ij->i", vectors[position[block]], vectors[other[block]], out=cosines[block])
    return cosines.clip(-1, 1)


def _choose(vectors: NDArray[np.float32], cut: float, device: str | None) -> OnProcessor | OnDevice:
    """Decide where the vectors are compared, and in how many dimensions first."""
    has_torch = len(vectors) >= (_FEWEST_FOR_TORCH if "torch" in sys.modules else _FEWEST_FOR_IMPORT)
    if device is None and has_torch:
        device = _cuda_device(vectors.nbytes)
    if device is not None:
        return OnDevice(vectors, cut, find_leading(vectors, cut, dtype="float32"), device)
    speed = speed_of_bfloat16()
    dtype = "bfloat16" if speed > 1 and has_torch and _can_limit_torch() else "float32"
    leading = find_leading(vectors, cut, dtype=dtype, speed=speed if dtype == "bfloat16" else 1.0)
    return OnProcessor(vectors, cut, leading, dtype)


def _cuda_device(n_bytes: int) -> str | None:
    """Return the CUDA device that ``device="auto"`` means, if it has room for the vectors, and work on them."""
    (device,) = resolve_devices("auto", None)
    if not device.startswith("cuda"):
        return None
    import torch

    try:
        n_free, _ = torch.cuda.mem_get_info(device)
    except RuntimeError:  # in a forked child, for example
        return None
    return device if n_free > 2 * n_bytes + _BYTES_ON_DEVICE else None


def _can_limit_torch() -> bool:
    """Return whether torch can compute in several threads of ours, on one core each."""
    can_limit: bool = importlib.import_module("skembed.encoding.backends.torch_threads").can_limit_threads()
    return can_limit


# The blocks


def _compare(
    comparison: OnProcessor | OnDevice, n: int, show: bool | str, n_left: int | None = None
) -> Generator[Pairs]:
    """Compare all blocks, in as many threads as there are cores; each takes the next blocks when it is free."""
    n_rows, _ = comparison.shape
    tasks = LockedIterator(_divide(n, *comparison.shape, n_left, comparison.n_blocks))
    n_threads = min(comparison.n_threads, -(-n // n_rows))
    work = [_work(comparison, tasks) for _ in range(n_threads)]
    with (
        progress(show, _count_blocks(n, *comparison.shape, n_left), "Comparing", "block") as bar,
        comparison.limit() if n_threads > 1 else nullcontext(),
        closing(iterate_concurrently(work, n_ahead=n_threads) if n_threads > 1 else work[0]) as parts,
    ):
        for n_compared, pairs in parts:
            yield pairs
            bar.update(n_compared)


def _count_blocks(n: int, n_rows: int, n_others: int, n_left: int | None = None) -> int:
    return sum(len(starts) for _, starts in _bands(n, n_rows, n_others, n_left))


def _divide(n: int, n_rows: int, n_others: int, n_left: int | None, n_blocks: int) -> Iterator[tuple[slice, range]]:
    """Yield rows, and the starts of up to ``n_blocks`` blocks of others with which they are compared."""
    for rows, starts in _bands(n, n_rows, n_others, n_left):
        for first in range(0, len(starts), n_blocks):
            yield rows, starts[first : first + n_blocks]


def _bands(n: int, n_rows: int, n_others: int, n_left: int | None) -> Iterator[tuple[slice, range]]:
    """Yield rows, and the starts of all blocks of others: those that end after the rows, or those on the right."""
    end = n if n_left is None else n_left
    for start in range(0, end, n_rows):
        yield (
            slice(start, min(start + n_rows, end)),
            range(start - start % n_others if n_left is None else end, n, n_others),
        )


def _work(comparison: OnProcessor | OnDevice, tasks: Iterator[tuple[slice, range]]) -> Generator[tuple[int, Pairs]]:
    with comparison.start() as find:
        for rows, starts in tasks:
            yield len(starts), find(rows, starts)


class OnProcessor:
    """Compares blocks of vectors with numpy; bounds from bfloat16 with torch, which is twice as fast.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
    cut : float
        Smallest cosine of a pair.
    leading : Leading or None
        None: all pairs are compared in all dimensions.
    dtype : {"float32", "bfloat16"}
        In which the bounds are computed.
    """

    n_blocks = _BLOCKS_AT_A_TIME

    def __init__(self, vectors: NDArray[np.float32], cut: float, leading: Leading | None, dtype: str) -> None:
        self.vectors, self.cut = vectors, cut
        self.shape = _ROWS_PER_BLOCK, _OTHERS_PER_BLOCK[dtype]
        self.n_threads = joblib.cpu_count()
        self._error = error_of_products(vectors)
        self._leading: NDArray[Any] | None = None
        if leading is not None:
            lowest = np.array([cut - leading.margin], np.float32)
            # Torch rounds products to bfloat16. The lowest bound is rounded alike, which keeps their order. Positive
            # numbers of bfloat16 have the order of their bits as integers, which numpy compares fast.
            self._leading = leading.values
            self._lowest = (to_bits(lowest) if dtype == "bfloat16" else lowest)[0]

    @contextmanager
    def start(self) -> Iterator[Find]:
        """Allocate the memory of one thread, and yield the function that finds the pairs of two blocks."""
        size = self.shape[0] * self.shape[1]
        n_gathered = max(1, _NUMBERS_GATHERED // max(1, self.vectors.shape[1]))
        memory = _Memory(
            np.empty(size, np.float32),
            np.empty(size, bool),
            np.empty((2, n_gathered, self.vectors.shape[1]), np.float32),
        )
        with _one_thread_of_torch() if self._multiplies_bits() else nullcontext():
            yield lambda rows, starts: self._find(rows, starts, memory)

    def limit(self) -> AbstractContextManager[None]:
        """Limit the library behind numpy's products to one thread, for several of our own."""
        return _one_thread_of_blas()

    def _multiplies_bits(self) -> bool:
        return self._leading is not None and self._leading.dtype == np.int16

    def _find(self, rows: slice, starts: range, memory: _Memory) -> Pairs:
        found, candidates = [_NONE], [_NONE]
        for start in starts:
            others = slice(start, start + self.shape[1])
            if self._leading is None:
                found.append(self._compare_all(rows, others, memory))
                continue
            bounds = self._multiply(self._leading, rows, others, memory)
            flat = memory.where(bounds, self._lowest)
            if len(flat) * COST_OF_ONE_BY_ONE > bounds.size:
                found.append(self._compare_all(rows, others, memory))
            else:
                candidates.append(_pairs_at(flat, bounds.shape[1], rows, others))
        found.append(self._compare_one_by_one(*_join(candidates), memory))
        return _join(found)

    def _multiply(self, values: NDArray[Any], rows: slice, others: slice, memory: _Memory) -> NDArray[Any]:
        left, right = values[rows], values[others]
        products = memory.products.view(values.dtype)[: len(left) * len(right)].reshape(len(left), len(right))
        if values.dtype == np.float32:
            return np.dot(left, right.T, out=products)
        torch = sys.modules["torch"]
        first, second, out = (torch.from_numpy(bits).view(torch.bfloat16) for bits in (left, right, products))
        torch.mm(first, second.T, out=out)
        return products

    def _compare_all(self, rows: slice, others: slice, memory: _Memory) -> Pairs:
        cosines = self._multiply(self.vectors, rows, others, memory)
        flat = memory.where(cosines, np.float32(self.cut - self._error))
        position, other = _pairs_at(flat, cosines.shape[1], rows, others)
        return self._decide(position, other, cosines[position - rows.start, other - others.start])

    def _compare_one_by_one(self, position: NDArray[np.int32], other: NDArray[np.int32], memory: _Memory) -> Pairs:
        cosines = np.empty(len(position), np.float32)
        left, right = memory.gathered
        for start in range(0, len(position), len(left)):
            some = slice(start, start + len(left))
            n = len(position[some])
            np.take(self.vectors, position[some], axis=0, out=left[:n], mode="clip")
            np.take(self.vectors, other[some], axis=0, out=right[:n], mode="clip")
            np.einsum("ij,ij->i", left[:n], right[:n], out=cosines[some])
        return self._decide(position, other, cosines)

    def _decide(self, position: NDArray[np.int32], other: NDArray[np.int32], cosines: NDArray[np.float32]) -> Pairs:
        """Keep the pairs that reach the cut, and compute those again in float64 that float32 cannot decide."""
        is_near = cosines >= self.cut + self._error
        unsure = np.flatnonzero((cosines >= self.cut - self._error) & ~is_near)
        step = max(1, _NUMBERS_GATHERED // max(1, self.vectors.shape[1]))
        for start in range(0, len(unsure), step):
            some = unsure[start : start + step]
            left, right = (normalise(self.vectors[rows[some]])[0] for rows in (position, other))
            is_near[some] = np.einsum("ij,ij->i", left, right) >= self.cut
        return position[is_near], other[is_near]


class _Memory(NamedTuple):
    """What a thread writes to again and again, because new memory takes longer than the products."""

    products: NDArray[np.float32]
    is_found: NDArray[np.bool_]
    gathered: NDArray[np.float32]

    def where(self, products: NDArray[Any], lowest: Any) -> NDArray[np.intp]:
        """Return where products are not below the lowest, in the flattened block."""
        is_found = np.greater_equal(products.ravel(), lowest, out=self.is_found[: products.size])
        if products.size % 8:
            return np.flatnonzero(is_found)
        eights = np.flatnonzero(is_found.view(np.uint64) != 0)  # nearly all are zero, and this is an eighth to look at
        found = np.flatnonzero(is_found.reshape(-1, 8)[eights])
        return eights[found // 8] * 8 + found % 8


def _pairs_at(flat: NDArray[np.intp], n_others: int, rows: slice, others: slice) -> Pairs:
    """Return the pairs at places of a flattened block, without those of the other half of the matrix."""
    position, other = np.divmod(flat, n_others)
    position, other = (position + rows.start).astype(np.int32), (other + others.start).astype(np.int32)
    if others.start >= rows.stop:
        return position, other
    is_after = other > position
    return position[is_after], other[is_after]


def _join(parts: list[Pairs]) -> Pairs:
    position, other = (np.concatenate(part) for part in zip(*parts, strict=True))
    return position, other


class OnDevice:
    """Compares blocks of vectors with torch on a device, and those that may be near again in float64.

    Parameters
    ----------
    vectors, cut, leading
        See :class:`OnProcessor`.
    device : str
    """

    n_threads = n_blocks = 1  # the device computes in parallel, and its blocks are large

    def __init__(self, vectors: NDArray[np.float32], cut: float, leading: Leading | None, device: str) -> None:
        torch = importlib.import_module("torch")
        self.cut, self.shape = cut, _SHAPE_ON_DEVICE
        self.vectors = torch.from_numpy(vectors).to(device)
        values, margin = leading or (vectors, error_of_products(vectors))
        self._values = torch.from_numpy(values).to(device)
        # The caller's settings decide whether torch rounds the factors to TensorFloat-32, or even to bfloat16. Each
        # changes by 2^-8 of itself at most, and so by Cauchy-Schwarz the product by at most 2 * 2^-8 + 2^-16.
        self._lowest = cut - margin - _MARGIN_ON_DEVICE

    @contextmanager
    def start(self) -> Iterator[Find]:
        """Yield the function that finds the pairs of two blocks."""
        yield self._find

    def limit(self) -> AbstractContextManager[None]:
        """Limit nothing."""
        return nullcontext()

    def _find(self, rows: slice, starts: range) -> Pairs:
        return _join([self._find_in_block(rows, slice(start, start + self.shape[1])) for start in starts])

    def _find_in_block(self, rows: slice, others: slice) -> Pairs:
        bounds = self._values[rows] @ self._values[others].T
        flat = (bounds >= self._lowest).view(-1).nonzero().view(-1)
        position, other = flat // bounds.shape[1] + rows.start, flat % bounds.shape[1] + others.start
        is_after = other > position
        position, other = position[is_after], other[is_after]
        step = max(1, _NUMBERS_ON_DEVICE // max(1, self.vectors.shape[1]))
        near = [self._reach(position[at : at + step], other[at : at + step]) for at in range(0, len(position), step)]
        is_near = sys.modules["torch"].cat(near) if near else slice(0)
        return tuple(kept[is_near].cpu().numpy().astype(np.int32) for kept in (position, other))

    def _reach(self, position: Any, other: Any) -> Any:
        left, right = (self.vectors[rows].double() for rows in (position, other))
        lengths = left.norm(dim=1) * right.norm(dim=1)
        lengths[lengths == 0] = 1
        return (left * right).sum(dim=1) / lengths >= self.cut  # no matrix product, which could be rounded


# Threads of libraries


def _one_thread_of_torch() -> AbstractContextManager[None]:
    of_torch = importlib.import_module("skembed.encoding.backends.torch_threads")
    limit: AbstractContextManager[None] = of_torch.one_thread()
    return limit


_limit_lock = threading.Lock()
_limiting: set[object] = set()  # the calls that want one thread
_limits: Any = None  # what restores the number before


@contextmanager
def _one_thread_of_blas() -> Iterator[None]:
    """Limit the library behind numpy's products to one thread, in the whole process, until the last call is over."""
    global _limits
    call = object()
    try:
        with _limit_lock:
            _limiting.add(call)
            if _limits is None:
                _limits = threadpool_limits(1, user_api="blas")
        yield
    finally:
        with _limit_lock:
            _limiting.discard(call)
            _stop_limiting()


def _stop_limiting() -> None:
    global _limits
    if not _limiting and _limits is not None:
        _limits.restore_original_limits()
        _limits = None


def _renew_in_child() -> None:
    """Restore the number of threads: the calls that limited it run in the parent only."""
    global _limit_lock
    _limit_lock = threading.Lock()
    _limiting.clear()
    _stop_limiting()


renew_in_child("blas", _renew_in_child)
