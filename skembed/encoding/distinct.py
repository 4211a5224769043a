"""Distinct vectors: which rows of a matrix have the same bits. Imports numpy and pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_ROWS_PER_BLOCK = 8192


def distinct_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Assign a number to each distinct vector, in order of first appearance.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_rows, dim)
        Without NaN.

    Returns
    -------
    code_of : ndarray of int, shape (n_rows,)
        Number of each row's vector.
    first_rows : ndarray of int, shape (n_distinct,)
        First row of each vector.

    Examples
    --------
    >>> distinct_rows(np.float32([[1, 0], [0, 1], [1, 0]]))
    (array([0, 1, 0]), array([0, 1]))
    """
    bits, blocks = bits_of(vectors), blocks_of(len(vectors), _ROWS_PER_BLOCK)
    code_of, _ = pd.factorize(keys_of(vectors))
    first_rows = np.unique(code_of, return_index=True)[1]
    if any((bits[block] != bits[first_rows[code_of[block]]]).any() for block in blocks):  # two vectors with one key
        code_of, _ = pd.factorize(np.array([row.tobytes() for row in bits], dtype=object))
        first_rows = np.unique(code_of, return_index=True)[1]
    return code_of, first_rows


def keys_of(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Compute a number from the bits of each vector; hardly any two vectors have the same."""
    bits = bits_of(vectors)
    factors = np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) * 2 + 1
    keys = np.empty(len(bits), dtype=np.uint64)
    for block in blocks_of(len(bits), _ROWS_PER_BLOCK):
        keys[block] = (bits[block] * factors).sum(axis=1, dtype=np.uint64)  # modulo 2**64
    return keys


def bits_of(vectors: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bits of each number."""
    return np.ascontiguousarray(vectors).view(np.uint32)


def blocks_of(n: int, size: int) -> list[slice]:
    """Divide n rows into blocks of ``size``, the last of which may be smaller."""
    return [slice(start, start + size) for start in range(0, n, size)]
