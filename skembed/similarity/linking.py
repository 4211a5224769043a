"""Links between two sets of vectors: each row has at most one partner, and the sum of the cosines is the largest.

Imports numpy, scipy, the distinct vectors of the engine and near pairs.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from skembed.encoding.distinct import blocks_of, distinct_rows
from skembed.similarity.bounds import normalise
from skembed.similarity.near_pairs import TOLERANCE, near_pairs

MOST_ROWS = 20_000  # a side, of which all pairs are held: 3.2 GB
_MOST_PAIRS = 2**25  # held by themselves, in some 4 GB
_DECIMALS = 12  # cosines that agree to so many are ties
_NUMBERS_PER_BLOCK = 2**22  # of float64: 32 MiB

_Pairs = tuple[NDArray[Any], NDArray[Any]]  # positions or numbers


class Links(NamedTuple):
    """Rows of two sides that belong together, in order of the left ones.

    Attributes
    ----------
    left, right : ndarray of int, shape (n_links,)
        Positions.
    scores : ndarray of float64, shape (n_links,)
        Cosines.
    """

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    scores: NDArray[np.float64]


def link(left: NDArray[np.float32], right: NDArray[np.float32], min_score: float | None) -> Links:
    """Link the rows of two sides one to one, so that the sum of the cosines is the largest possible.

    Parameters
    ----------
    left : ndarray of float32, shape (n_left, dim)
        Of unit length, or zeros, which have a cosine of 0 with all vectors.
    right : ndarray of float32, shape (n_right, dim)
    min_score : float or None
        Pairs with a cosine in float64 below ``min_score - 1e-6`` are not linked, nor are those that would lower the
        sum, which have a negative one. None: each row of the smaller side is linked, whatever its cosine.

    Returns
    -------
    Links
        Rows with the same vector are linked in their order: the first has the largest cosine, and the last ones are
        left over. The same rows always give the same links, also where several sums are equally large.

    Raises
    ------
    ValueError
        If so many pairs reach ``min_score`` that they cannot be held.

    Notes
    -----
    Without ``min_score``, or if nearly all pairs of a few thousand rows reach it, this is the dense assignment of
    :func:`scipy.optimize.linear_sum_assignment` [1]_. Otherwise the pairs that reach it are the edges of a sparse
    graph. Each row of the left side gets a partner of its own beside them, at a cosine of 0, so that it may stay alone,
    and :func:`scipy.sparse.csgraph.min_weight_full_bipartite_matching` finds the matching [2]_.

    References
    ----------
    .. [1] D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace and
       Electronic Systems 52(4), 2016.
    .. [2] R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment
       problems", Computing 38, 1987.

    Examples
    --------
    >>> left, right = np.float32([[1, 0], [0.8, 0.6]]), np.float32([[1, 0], [0, 1]])
    >>> links = link(left, right, None)
    >>> links.left, links.right, links.scores.round(2)
    (array([0, 1]), array([0, 1]), array([1. , 0.6]))
    >>> link(left, right, 0.7).left
    array([0])
    """
    sides = _Side.of(left), _Side.of(right)
    codes = _assign_all(*sides) if min_score is None else _assign_near(*sides, min_score)
    return _link_first_rows(*sides, *codes)


class _Side(NamedTuple):
    """The distinct vectors of one side, and the number of each row's."""

    vectors: NDArray[np.float32]
    code_of: NDArray[np.intp]

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> _Side:
        code_of, first_rows = distinct_rows(vectors)
        return cls(vectors[first_rows], code_of)

    @property
    def n_copies(self) -> NDArray[np.intp]:
        """How many rows have each vector."""
        return np.bincount(self.code_of, minlength=len(self.vectors))

    def rows_of(self, codes: NDArray[Any], rank: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return rows by the number of their vector and their rank among its rows, from 0."""
        starts = np.cumsum(self.n_copies) - self.n_copies
        rows: NDArray[np.intp] = np.argsort(self.code_of, kind="stable")[starts[codes] + rank]
        return rows


def _assign_all(left: _Side, right: _Side, lowest: float | None = None) -> _Pairs:
    """Return the vectors of each link, by number, from the cosines of all pairs of rows; None: at any cosine."""
    if len(left.code_of) > len(right.code_of):  # scipy would copy the matrix to transpose it
        return _assign_all(right, left, lowest)[::-1]
    lefts, rights = normalise(left.vectors)[0], normalise(right.vectors)[0]
    costs = np.empty((len(left.code_of), len(right.code_of)))
    for block in blocks_of(len(costs), max(1, _NUMBERS_PER_BLOCK // max(1, len(right.code_of)))):
        cosines = lefts[left.code_of[block]] @ rights.T
        if lowest is not None:
            cosines[cosines < max(lowest - TOLERANCE, 0)] = 0
        costs[block] = -cosines.round(_DECIMALS)[:, right.code_of]
    row, other = linear_sum_assignment(costs)
    if lowest is not None:
        is_link = costs[row, other] < 0
        row, other = row[is_link], other[is_link]
    return left.code_of[row], right.code_of[other]


def _assign_near(left: _Side, right: _Side, lowest: float) -> _Pairs:
    """Return the vectors of each link, by number, from the pairs of rows that reach the lowest cosine."""
    near = _find_near(left, right, lowest)
    if near is None:
        if max(len(left.code_of), len(right.code_of)) <= MOST_ROWS:
            return _assign_all(left, right, lowest)
        raise ValueError(f"min_score={lowest:g} leaves more than {_MOST_PAIRS:,} pairs of rows; raise it.")
    scores = _cosines(left, right, *near).round(_DECIMALS)
    is_gain = scores > 0
    position, other, scores = near[0][is_gain], near[1][is_gain], scores[is_gain]
    pair, row, column = _rows_of_pairs(left, right, position, other)
    n_left, n_right = len(left.code_of), len(right.code_of)
    last, alone = n_left - 1, np.arange(n_left)
    costs = np.concatenate([2 - scores[pair], np.full(n_left, 2.0)])  # a cost of 0 would be no edge
    # The last row first, because the matcher prefers the last of rows that are equally near.
    places = np.concatenate([last - row, alone]), np.concatenate([column, n_right + alone])
    graph = coo_array((costs, places), shape=(n_left, n_right + n_left)).tocsr()  # sorted, whatever was found first
    row, column = min_weight_full_bipartite_matching(graph)
    is_link = column < n_right
    return left.code_of[last - row[is_link]], right.code_of[column[is_link]]


def _find_near(left: _Side, right: _Side, lowest: float) -> _Pairs | None:
    """Return the pairs of vectors that reach the lowest cosine, if they are not too many; none that are negative."""
    n_left, n_pairs = len(left.vectors), 0
    left_copies, right_copies = left.n_copies, right.n_copies
    found = [(np.empty(0, np.int32), np.empty(0, np.int32))]
    with closing(near_pairs(np.concatenate([left.vectors, right.vectors]), max(lowest, 0), n_left=n_left)) as pairs:
        for position, other in pairs:
            found.append((position, other - n_left))
            n_pairs += int(left_copies[position] @ right_copies[other - n_left])
            if n_pairs > _MOST_PAIRS:
                return None
    position, other = (np.concatenate(part) for part in zip(*found, strict=True))
    return position, other


def _rows_of_pairs(left: _Side, right: _Side, position: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return the pairs of rows of pairs of vectors: the number of the latter, and both rows."""
    n_others = right.n_copies[other]
    n_pairs = left.n_copies[position] * n_others
    pair = np.repeat(np.arange(len(position)), n_pairs)
    number = np.arange(len(pair)) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
    rank, rank_of_other = np.divmod(number, n_others[pair])
    return pair, left.rows_of(position[pair], rank), right.rows_of(other[pair], rank_of_other)


def _link_first_rows(left: _Side, right: _Side, position: NDArray[Any], other: NDArray[Any]) -> Links:
    """Return the rows of pairs of vectors; of rows with the same vector, the first ones, and the first the nearest."""
    scores = _cosines(left, right, position, other)
    order = np.lexsort((other, -scores.round(_DECIMALS), position))
    position, other, scores = position[order], other[order], scores[order]
    rows = left.rows_of(position, _ranks(position))
    order = np.lexsort((rows, other))
    others = np.empty_like(rows)
    others[order] = right.rows_of(other[order], _ranks(other[order]))
    order = np.argsort(rows)
    return Links(rows[order], others[order], scores[order])


def _ranks(codes: NDArray[Any]) -> NDArray[np.intp]:
    """Return, for sorted numbers, how many of the same stand before each."""
    return np.arange(len(codes)) - np.searchsorted(codes, codes)


def _cosines(left: _Side, right: _Side, position: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    cosines = np.empty(len(position))
    for block in blocks_of(len(position), max(1, _NUMBERS_PER_BLOCK // max(1, left.vectors.shape[1]))):
        lefts, rights = normalise(left.vectors[position[block]])[0], normalise(right.vectors[other[block]])[0]
        np.einsum("ij,ij->i", lefts, rights, out=cosines[block])
    return cosines.clip(-1, 1)
