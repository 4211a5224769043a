"""Sums and means of the vectors of each group, added up in float64, in blocks of rows.

Imports numpy; scipy when vectors are added up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NUMBERS_PER_BLOCK = 2**20  # 8 MiB of float64: memory does not grow with the number of rows


def add_up(
    matrix: NDArray[np.float32], rows: NDArray[np.intp], groups: NDArray[np.intp], divisors: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Add up the rows of each group, and divide the sum.

    The rows are read group by group. A product with a sparse matrix of ones adds up each block of them: that takes half
    the time of ``numpy.add.reduceat``, and a fifth of that of ``numpy.bincount`` for each dimension.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n_rows, dim)
    rows : ndarray of int, shape (n_added,)
        The rows of ``matrix`` to add up.
    groups : ndarray of int, shape (n_added,)
        The group of each of them, from 0.
    divisors : ndarray of float64, shape (n_groups,)
        What the sum of each group is divided by.

    Returns
    -------
    ndarray of float32, shape (n_groups, dim)
        NaN for a group without rows, or whose divisor is NaN.

    Examples
    --------
    >>> matrix = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    >>> add_up(matrix, np.array([0, 1]), np.array([1, 1]), np.array([1.0, 2.0]))
    array([[nan, nan],
           [ 2.,  3.]], dtype=float32)
    """
    from scipy.sparse import csr_array

    dim = matrix.shape[1]
    result = np.full((len(divisors), dim), np.nan, dtype=np.float32)
    order = np.argsort(groups, kind="stable")
    n_rows = max(1, _NUMBERS_PER_BLOCK // dim)
    last, carried = -1, np.zeros(dim)
    for start in range(0, len(order), n_rows):
        block = order[start : start + n_rows]
        firsts = np.flatnonzero(np.diff(groups[block], prepend=-1))  # where the next group begins
        found = groups[block[firsts]]
        ones = csr_array((np.ones(len(block)), np.arange(len(block)), np.append(firsts, len(block))))
        sums = ones @ matrix[rows[block]]  # float64, as the ones are
        with np.errstate(over="ignore", invalid="ignore"):  # as in pandas, infinity and NaN are results like others
            if found[0] == last:  # the block before ended within this group
                sums[0] += carried
            result[found] = sums / divisors[found, None]
        last, carried = found[-1], sums[-1]
    return result
