"""All pairs of vectors whose cosine reaches a threshold: exact, and few are compared in all dimensions.

The vectors are rotated to the principal axes of a sample. The first ``k - 1`` coordinates and the length of the rest
make a vector of ``k`` dimensions, and the product of two such vectors is an upper bound of the cosine: the rests cannot
contribute more than the product of their lengths (Cauchy-Schwarz). Real embeddings lie close to few axes, so nearly all
pairs are excluded by this small product, and only the others are compared in all dimensions.

Imports numpy, joblib, threadpoolctl and the engine's threads and devices; torch only for many vectors, on use.
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

from skembed.encoding.forks import renew_in_child
from skembed.encoding.models.devices import resolve_devices
from skembed.encoding.progress import progress
from skembed.encoding.threads import LockedIterator, iterate_concurrently
from skembed.processor import multiplies_bfloat16

Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]
Find = Callable[[slice, range], Pairs]

_NONE = np.empty(0, np.int32), np.empty(0, np.int32)

TOLERANCE = 1e-6  # a cosine so little below the threshold counts as equal to it

# Blocks whose products stay in the processor's cache: 1 MiB of float32, or of bfloat16
_ROWS_PER_BLOCK, _OTHERS_PER_BLOCK = 512, {"float32": 512, "bfloat16": 1024}
_BLOCKS_AT_A_TIME = 16  # per thread: some milliseconds, and at most 64 MiB of pairs
_NUMBERS_GATHERED = 2**18  # of pairs that are compared one by one
_ROWS_READ = 4096  # at a time, as float64

_FEWEST_TO_ROTATE = 8192  # vectors
_ROWS_PER_DIM = 4  # to rotate: finding the axes of many dimensions takes long
_LOWEST_CUT = 0.05  # of bounds: below it, they would exclude little
_FEWEST_FOR_TORCH = 100_000  # vectors: importing torch takes a second or more
_N_LEADING = (32, 48, 64, 96, 128, 192, 256)  # dimensions to choose from
_SAMPLE_OF_AXES, _SAMPLE_OF_BOUNDS = 8192, 2048
_COST_OF_ONE_BY_ONE = 40  # times a pair's share of a matrix product: reading vectors from everywhere takes long
_SPEED_OF_BFLOAT16 = 2.3  # times float32, with AVX512-BF16

_SHAPE_ON_DEVICE = 2048, 2**14
_NUMBERS_ON_DEVICE = 2**25  # of pairs that are compared one by one, in float64
_BYTES_ON_DEVICE = 2**32  # that this takes, besides the vectors

_UNIT_OF_FLOAT32, _UNIT_OF_BFLOAT16 = 2.0**-24, 2.0**-8  # largest relative errors of rounding


class Leading(NamedTuple):
    """Vectors whose products are upper bounds of the cosines.

    Attributes
    ----------
    values : ndarray of float32, shape (n, k)
        Coordinates on the first axes, and the length of the rest. They are numbers of bfloat16 if these are compared.
    margin : float
        By how much the product of two rows, computed in float32 or from bfloat16, may be below the cosine.
    """

    values: NDArray[np.float32]
    margin: float


def near_pairs(
    vectors: NDArray[np.float32], threshold: float, *, show: bool | str = "auto", device: str | None = None
) -> Generator[Pairs]:
    """Yield all pairs of vectors whose cosine is at least the threshold, each pair once, in no particular order.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of unit length, or zeros, which have a cosine of 0 with all vectors. Of copies, all pairs are yielded.
    threshold : float
        A pair counts if its cosine in float64 is at least ``threshold - 1e-6``.
    show : bool or "auto", default="auto"
        Whether to show a progress bar.
    device : str, default=None
        Where torch compares them. None: from 100,000 vectors on, a CUDA device if there is one; otherwise the CPU.

    Yields
    ------
    position, other : ndarray of int32, shape (n_found,)
        The first is the smaller one. There are several such arrays, of bounded size.

    Examples
    --------
    >>> [(first.tolist(), second.tolist()) for first, second in near_pairs(np.float32([[1, 0], [0, 1], [1, 0]]), 0.9)]
    [([0], [2])]
    """
    comparison = _choose(vectors, threshold - TOLERANCE, device)
    with closing(_compare(comparison, len(vectors), show)) as found:
        for position, other in found:
            if len(position):
                yield position, other


def _choose(vectors: NDArray[np.float32], cut: float, device: str | None) -> OnProcessor | OnDevice:
    """Decide where the vectors are compared, and in how many dimensions first."""
    has_torch = len(vectors) >= (_FEWEST_TO_ROTATE if "torch" in sys.modules else _FEWEST_FOR_TORCH)
    if device is None and has_torch:
        device = _cuda_device(vectors.nbytes)
    if device is not None:
        return OnDevice(vectors, cut, _find_leading(vectors, cut, dtype="float32"), device)
    dtype = "bfloat16" if has_torch and _limits_torch() and multiplies_bfloat16() else "float32"
    return OnProcessor(vectors, cut, _find_leading(vectors, cut, dtype=dtype), dtype)


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


def _limits_torch() -> bool:
    """Return whether each thread can make torch compute on it alone."""
    return importlib.import_module("skembed.encoding.backends.torch_threads").can_limit_threads()


# The blocks


def _compare(comparison: OnProcessor | OnDevice, n: int, show: bool | str) -> Generator[Pairs]:
    """Compare all blocks, in as many threads as there are cores; each takes the next blocks when it is free."""
    n_rows, n_others = comparison.shape
    tasks = LockedIterator(_divide(n, n_rows, n_others))
    n_threads = min(comparison.n_threads, -(-n // n_rows))
    with progress(show, _count_blocks(n, n_rows, n_others), "Comparing", "block") as bar:
        if n_threads < 2:  # no need to start and limit threads
            parts, limit = _work(comparison, tasks), nullcontext()
        else:
            parts, limit = _in_threads(comparison, tasks, n_threads), comparison.limit()
        with limit, closing(parts):
            for n_compared, pairs in parts:
                yield pairs
                bar.update(n_compared)


def _in_threads(
    comparison: OnProcessor | OnDevice, tasks: Iterator[tuple[slice, range]], n_threads: int
) -> Generator[tuple[int, Pairs]]:
    return iterate_concurrently([_work(comparison, tasks) for _ in range(n_threads)], n_ahead=n_threads)


def _count_blocks(n: int, n_rows: int, n_others: int) -> int:
    return sum(len(range(start - start % n_others, n, n_others)) for start in range(0, n, n_rows))


def _divide(n: int, n_rows: int, n_others: int) -> Iterator[tuple[slice, range]]:
    """Yield rows, and the starts of some blocks of others that end after them."""
    for start in range(0, n, n_rows):
        others = range(start - start % n_others, n, n_others)
        for first in range(0, len(others), _BLOCKS_AT_A_TIME):
            yield slice(start, min(start + n_rows, n)), others[first : first + _BLOCKS_AT_A_TIME]


def _work(
    comparison: OnProcessor | OnDevice, tasks: Iterator[tuple[slice, range]]
) -> Generator[tuple[int, Pairs]]:
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

    def __init__(self, vectors: NDArray[np.float32], cut: float, leading: Leading | None, dtype: str) -> None:
        self.vectors, self.cut = vectors, cut
        self.shape = _ROWS_PER_BLOCK, _OTHERS_PER_BLOCK[dtype]
        self.n_threads = joblib.cpu_count()
        self._error = _error_of_products(vectors)
        self._leading = self._lowest = None
        if leading is not None and dtype == "bfloat16":
            # Positive numbers of bfloat16 have the order of their bits as integers, and rounding keeps the order.
            self._leading, self._lowest = _bits(leading.values), _bits(np.float32([cut - leading.margin]))[0]
        elif leading is not None:
            self._leading, self._lowest = leading.values, np.float32(cut - leading.margin)

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
            if len(flat) * _COST_OF_ONE_BY_ONE > bounds.size:
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
            left, right = (_normalise(self.vectors[rows[some]])[0] for rows in (position, other))
            is_near[some] = np.einsum("ij,ij->i", left, right) >= self.cut
        return position[is_near], other[is_near]


class _Memory(NamedTuple):
    """What a thread writes to again and again, because new memory takes longer than the products."""

    products: NDArray[np.float32]
    is_found: NDArray[np.bool_]
    gathered: NDArray[np.float32]

    def where(self, products: NDArray[Any], lowest: Any) -> NDArray[np.intp]:
        """Return where products are not below the lowest, in the flattened block."""
        return np.flatnonzero(np.greater_equal(products.ravel(), lowest, out=self.is_found[: products.size]))


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

    n_threads = 1  # the device computes in parallel

    def __init__(self, vectors: NDArray[np.float32], cut: float, leading: Leading | None, device: str) -> None:
        torch = importlib.import_module("torch")
        self.cut, self.shape = cut, _SHAPE_ON_DEVICE
        self.vectors = torch.from_numpy(vectors).to(device)
        values, margin = leading or (vectors, _error_of_products(vectors))
        self._values = torch.from_numpy(values).to(device)
        # The user's settings may let torch round factors to TensorFloat-32 or bfloat16, each by 2^-8 at most.
        self._lowest = cut - margin - _UNIT_OF_BFLOAT16 * (2 + _UNIT_OF_BFLOAT16)

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


# Bounds


def _find_leading(vectors: NDArray[np.float32], cut: float, *, dtype: str) -> Leading | None:
    """Choose the axes and the number of dimensions by their cost on a sample; None if bounds would not pay."""
    n, dim = vectors.shape
    if n < max(_FEWEST_TO_ROTATE, _ROWS_PER_DIM * dim) or cut < _LOWEST_CUT:
        return None
    rows = np.random.default_rng(0).choice(n, min(n, _SAMPLE_OF_AXES), replace=False)
    axes = _principal_axes(vectors[rows])[:, : max(_N_LEADING) - 1]
    n_leading = _cheapest(vectors[rows[:_SAMPLE_OF_BOUNDS]], axes, cut, dtype)
    return None if n_leading is None else _lead(vectors, axes[:, : n_leading - 1], dtype)


def _principal_axes(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return orthonormal axes, those with most of the vectors' squared length first; they are not centred."""
    products = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), _ROWS_READ):
        unit, _ = _normalise(vectors[start : start + _ROWS_READ])
        products += unit.T @ unit
    axes: NDArray[np.float64] = np.linalg.eigh(products)[1][:, ::-1]
    return axes


def _cheapest(sample: NDArray[np.float32], axes: NDArray[np.float64], cut: float, dtype: str) -> int | None:
    """Return the number of leading dimensions with the least work, counted in dimensions of a float32 product."""
    dim, speed = sample.shape[1], _SPEED_OF_BFLOAT16 if dtype == "bfloat16" else 1.0
    costs: dict[int | None, float] = {None: dim}
    for n_leading in _N_LEADING:
        if n_leading / speed < min(costs.values()):
            values, margin = _lead(sample, axes[:, : n_leading - 1], dtype)
            half = len(values) // 2
            share = float((values[:half] @ values[half:].T >= cut - margin).mean())
            costs[n_leading] = n_leading / speed + dim * min(1.0, _COST_OF_ONE_BY_ONE * share)
    return min(costs, key=lambda n_leading: costs[n_leading])


def _lead(vectors: NDArray[np.float32], axes: NDArray[np.float64], dtype: str) -> Leading:
    """Return the coordinates on the axes and the length of the rest, with the margin of their products.

    Let a and b be the exact rows, and a + e and b + f the stored ones, which are rounded. The cosine is at most
    a b <= 1, and (a + e)(b + f) - a b = (a + e) f + e (b + f) - e f. So the stored product is too small by at most
    2 E (1 + E) + E^2, where E is the largest length of an e. It is measured: less than 0.003 for bfloat16. To add k
    products in float32 may lose k 2^-24 of the sum of their sizes, which is at most (1 + E)^2. Where nearly nothing is
    left, the length of the rest is the root of a difference of numbers near 1, and wrong by up to 1e-6.
    """
    n_leading = axes.shape[1] + 1
    values = np.empty((len(vectors), n_leading), np.float32)
    largest = 0.0
    for start in range(0, len(vectors), _ROWS_READ):
        unit, lengths = _normalise(vectors[start : start + _ROWS_READ])
        exact = np.empty((len(unit), n_leading))
        exact[:, :-1] = unit @ axes
        rest = (lengths > 0) - np.einsum("ij,ij->i", exact[:, :-1], exact[:, :-1])
        exact[:, -1] = np.sqrt(rest.clip(0))
        rounded = exact.astype(np.float32)
        if dtype == "bfloat16":
            rounded = _from_bits(_bits(rounded))
        values[start : start + _ROWS_READ] = rounded
        largest = max(largest, float(np.linalg.norm(exact - rounded, axis=1).max(initial=0)))
    margin = 2 * largest * (1 + largest) + largest**2 + (n_leading + 2) * _UNIT_OF_FLOAT32 * (1 + largest) ** 2 + 1e-6
    return Leading(values, margin)


def _normalise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return vectors of length 1 in float64, and the lengths before; vectors of zeros stay as they are."""
    exact = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    exact /= np.where(lengths > 0, lengths, 1)[:, None]
    return exact, lengths


def _error_of_products(vectors: NDArray[np.float32]) -> float:
    """Return by how much products of vectors in float32 may differ from their cosines in float64.

    A sum of ``dim`` products is wrong by at most ``dim * 2^-24`` of the sum of their sizes, in whatever order they are
    added [1]_; and lengths that are not exactly 1 count.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM, 2002, section 3.1.
    """
    deviation = 0.0
    for start in range(0, len(vectors), _ROWS_READ):
        _, lengths = _normalise(vectors[start : start + _ROWS_READ])
        deviation = max(deviation, float(np.abs(lengths[lengths > 0] - 1).max(initial=0)))
    return (vectors.shape[1] + 4) * _UNIT_OF_FLOAT32 * (1 + deviation) ** 2 + deviation * (2 + deviation)


def _bits(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round to bfloat16, to nearest, ties to even, and return the bits as integers."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16).view(np.int16)


def _from_bits(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


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
