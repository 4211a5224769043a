"""Vectors of few dimensions whose products are upper bounds of cosines, and the errors of products. Imports numpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROWS_READ = 4096  # at a time, as float64
_FEWEST_VECTORS = 8192  # for which bounds pay
_VECTORS_PER_DIM = 4  # likewise: finding the axes of many dimensions takes long
_LOWEST_CUT = 0.05  # below it, bounds exclude little
_N_LEADING = (32, 48, 64, 96, 128, 192, 256)  # dimensions to choose from
_SAMPLE_OF_AXES, _SAMPLE_OF_BOUNDS = 8192, 2048  # vectors
_UNIT_ROUNDOFF = 2.0**-24  # the largest relative error of rounding to float32

COST_OF_ONE_BY_ONE = 40  # a pair by itself, times its share of a matrix product: vectors are read from everywhere


class Leading(NamedTuple):
    """Vectors whose products are upper bounds of cosines.

    The exact vectors have unit length, and their product is at least the cosine: it is the product of the coordinates
    on some axes, plus the product of the lengths of the rests, which by the Cauchy-Schwarz inequality is at least the
    product of the rests.

    Attributes
    ----------
    values : ndarray of float32 or int16, shape (n, k)
        Coordinates on ``k - 1`` axes, and the length of the rest; as int16, the bits of numbers of bfloat16.
    margin : float
        The product of two rows, added up in float32, is at most this much below the cosine.
    """

    values: NDArray[Any]
    margin: float

    @property
    def numbers(self) -> NDArray[np.float32]:
        """The values as float32."""
        return from_bits(self.values) if self.values.dtype == np.int16 else self.values


def find_leading(vectors: NDArray[np.float32], cut: float, *, dtype: str, speed: float = 1.0) -> Leading | None:
    """Choose axes and their number from a sample, so that cosines are compared with a cut in the shortest time.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
    cut : float
    dtype : {"float32", "bfloat16"}
        To which the leading coordinates are rounded.
    speed : float, default=1.0
        Of products of them, in products of float32.

    Returns
    -------
    Leading or None
        None: it is faster to compare all pairs in all dimensions.
    """
    n, dim = vectors.shape
    if n < max(_FEWEST_VECTORS, _VECTORS_PER_DIM * dim) or cut < _LOWEST_CUT:
        return None
    rows = np.random.default_rng(0).choice(n, min(n, _SAMPLE_OF_AXES), replace=False)
    axes = principal_axes(vectors[rows])
    n_leading = _cheapest(vectors[rows[:_SAMPLE_OF_BOUNDS]], axes, cut, dtype, speed)
    return None if n_leading is None else lead(vectors, axes[:, : n_leading - 1], dtype)


def _cheapest(
    sample: NDArray[np.float32], axes: NDArray[np.float64], cut: float, dtype: str, speed: float
) -> int | None:
    """Return the number of leading dimensions with the least work, counted in dimensions of a float32 product."""
    dim, half = sample.shape[1], len(sample) // 2
    costs: dict[int | None, float] = {None: dim}
    for n_leading in _N_LEADING:
        if n_leading / speed < min(costs.values()):
            leading = lead(sample, axes[:, : n_leading - 1], dtype)
            numbers = leading.numbers
            share = float((numbers[:half] @ numbers[half:].T >= cut - leading.margin).mean())
            costs[n_leading] = n_leading / speed + dim * min(1.0, COST_OF_ONE_BY_ONE * share)
    return min(costs, key=lambda n_leading: costs[n_leading])


def principal_axes(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return orthonormal axes as columns, those with most of the vectors' squared length first, without centring."""
    products = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), _ROWS_READ):
        unit, _ = normalise(vectors[start : start + _ROWS_READ])
        products += unit.T @ unit
    axes: NDArray[np.float64] = np.linalg.eigh(products)[1][:, ::-1]
    return axes


def lead(vectors: NDArray[np.float32], axes: NDArray[np.float64], dtype: str) -> Leading:
    """Return the coordinates on orthonormal axes and the length of the rest, with the margin of their products."""
    values = np.empty((len(vectors), axes.shape[1] + 1), np.int16 if dtype == "bfloat16" else np.float32)
    largest = 0.0  # length of what rounding takes from a row, or adds
    for start in range(0, len(vectors), _ROWS_READ):
        unit, lengths = normalise(vectors[start : start + _ROWS_READ])
        exact = np.empty((len(unit), values.shape[1]))
        exact[:, :-1] = unit @ axes
        of_rest = (lengths > 0) - np.einsum("ij,ij->i", exact[:, :-1], exact[:, :-1])
        exact[:, -1] = np.sqrt(of_rest.clip(0))
        rounded = exact.astype(np.float32)
        if dtype == "bfloat16":
            bits = values[start : start + _ROWS_READ] = to_bits(rounded)
            rounded = from_bits(bits)
        else:
            values[start : start + _ROWS_READ] = rounded
        largest = max(largest, float(np.linalg.norm(exact - rounded, axis=1).max(initial=0)))
    return Leading(values, _margin(largest, values.shape[1]))


def _margin(largest: float, n_leading: int) -> float:
    """Return by how much the product of rounded rows, added up in float32, may be below that of the exact ones.

    Let a and b be exact rows, of length 1, and a' and b' the rounded ones. Then a'b' - ab = (a' - a) b' + a (b' - b).
    Where a' - a and b' - b have at most the length E, this is at most E (1 + E) + E. E is measured: for bfloat16 it is
    at most 2^-8, and usually half of that. Adding k products in float32 loses at most k 2^-24 of the sum of their
    sizes, which is at most (1 + E)^2. And a rest is the root of a difference of numbers near 1, whose errors of some
    1e-14 become at most 1e-6 where nearly nothing is left.
    """
    of_adding = (n_leading + 2) * _UNIT_ROUNDOFF * (1 + largest) ** 2
    return largest * (2 + largest) + of_adding + 1e-6


def error_of_products(vectors: NDArray[np.float32]) -> float:
    """Return by how much products of vectors in float32 may differ from their cosines in float64.

    A sum of ``dim`` products is wrong by at most ``dim * 2^-24`` of the sum of their sizes, in whatever order they are
    added [1]_. Lengths that are not exactly 1 add to this.

    References
    ----------
    .. [1] N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, SIAM, 2002, section 3.1.
    """
    deviation = 0.0
    for start in range(0, len(vectors), _ROWS_READ):
        _, lengths = normalise(vectors[start : start + _ROWS_READ])
        deviation = max(deviation, float(np.abs(lengths[lengths > 0] - 1).max(initial=0)))
    of_adding: float = (vectors.shape[1] + 4) * _UNIT_ROUNDOFF * (1 + deviation) ** 2
    return of_adding + deviation * (2 + deviation)


def normalise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return vectors of length 1 in float64, and the lengths before; vectors of zeros stay as they are."""
    exact = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    exact /= np.where(lengths > 0, lengths, 1)[:, None]
    return exact, lengths


def to_bits(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round to bfloat16, to nearest, ties to even, and return the bits as integers."""
    bits = values.view(np.uint32)
    half_or_less = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    upper: NDArray[Any] = (bits + half_or_less) >> np.uint32(16)
    return upper.astype(np.uint16).view(np.int16)


def from_bits(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the numbers of bfloat16 that have these bits."""
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
