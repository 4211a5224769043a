"""Nearest neighbours among unit vectors, by cosine: exact ones, or approximate ones for millions.

Imports numpy, pandas, scikit-learn and ``skembed.encoding.forks``; faiss where it is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from skembed.encoding.forks import renew_in_child
from skembed.optional import require

_SPARE = 8  # candidates beyond those asked for: float32 may have put them in another order
_SLACK = 1e-5  # what float32 can be wrong by, and ten times more
_DECIMALS = 12  # cosines that differ by less are ties
_QUERIES_PER_BLOCK = 1024
_ROWS_PER_BLOCK = 8192
_NUMBERS_PER_BLOCK = 2**22  # of float64 vectors, or of candidates, that are compared together: 32 MiB
_N_LINKS, _EF_CONSTRUCTION, _EF_SEARCH = 32, 40, 256  # see benchmarks/search.py


def _run_on_one_thread() -> None:
    """Keep faiss from waiting for threads that a fork has not brought along."""
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(1)


renew_in_child("faiss", _run_on_one_thread)


class ExactIndex:
    """Compares a query with every vector, through faiss if it is installed and scikit-learn otherwise.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of length 1.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append vectors."""
        self.vectors = np.concatenate([self.vectors, vectors])

    def candidates(self, queries: NDArray[np.float32], n: int) -> NDArray[np.intp]:
        """Find the positions of the n nearest vectors of each query, as float32 tells them."""
        return _compare_with_all(self.vectors, queries, n)


class HnswIndex:
    """Walks a graph of neighbours; finds nearly all of the nearest in a fraction of the time.

    Parameters
    ----------
    graph : faiss.IndexHNSWFlat
        Of vectors of length 1, which it holds.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Self:
        """Build the graph of some vectors of length 1."""
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        graph = faiss.IndexHNSWFlat(vectors.shape[1], _N_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _EF_CONSTRUCTION
        index = cls(graph)
        index.add(vectors)
        return index

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append vectors."""
        self.graph.add(np.ascontiguousarray(vectors))

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors where faiss keeps them, so that there is one copy."""
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        n, dim = self.graph.ntotal, self.graph.d
        matrix: NDArray[np.float32] = faiss.rev_swig_ptr(faiss.downcast_index(self.graph.storage).get_xb(), n * dim)
        return matrix.reshape(n, dim)

    def candidates(self, queries: NDArray[np.float32], n: int) -> NDArray[np.intp]:
        """Find the positions of nearly the n nearest vectors of each query."""
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        walk = faiss.SearchParametersHNSW(efSearch=max(_EF_SEARCH, 2 * n))
        positions: NDArray[np.intp] = self.graph.search(np.ascontiguousarray(queries), n, params=walk)[1]
        is_short = (positions < 0).any(axis=1)  # the walk ended before it had met enough
        if is_short.any():
            positions[is_short] = _compare_with_all(self.vectors, queries[is_short], n)
        return positions


class VectorIndex:
    """Rows of vectors to be searched: an index of the distinct ones, and the rows that have each of them.

    Copies would hide what is near in a graph, and have an exact search rank all of them.

    Parameters
    ----------
    index : ExactIndex or HnswIndex
        Of the distinct vectors, in order of first appearance.
    code_of : ndarray of int, shape (n_rows,)
        The position in the index of each row's vector.
    """

    def __init__(self, index: ExactIndex | HnswIndex, code_of: NDArray[np.intp]) -> None:
        self.index = index
        self._arrange(code_of)

    @classmethod
    def of(cls, vectors: NDArray[np.float32], make: Callable[[NDArray[np.float32]], ExactIndex | HnswIndex]) -> Self:
        """Build it from the vectors of all rows."""
        code_of, first_rows = distinct_rows(vectors)
        return cls(make(vectors[first_rows]), code_of)

    def __len__(self) -> int:
        return len(self.code_of)

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return int(self.index.vectors.shape[1])

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append rows."""
        n_known = len(self.index.vectors)
        code_of, first_rows = distinct_rows(np.concatenate([self.index.vectors, vectors]))
        self.index.add(vectors[first_rows[n_known:] - n_known])
        self._arrange(np.concatenate([self.code_of, code_of[n_known:]]))

    def nearest(self, queries: NDArray[np.float32], n_neighbors: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest rows of each query, nearest first and ties by row.

        Parameters
        ----------
        queries : ndarray of float32, shape (n_queries, dim)
        n_neighbors : int
            At most as many as there are rows.

        Returns
        -------
        cosines : ndarray of float64, shape (n_queries, n_neighbors)
        rows : ndarray of int, shape (n_queries, n_neighbors)
        """
        cosines, rows = np.zeros((len(queries), n_neighbors)), np.tile(np.arange(n_neighbors), (len(queries), 1))
        has_angle = queries.any(axis=1)  # to a vector of zeros all rows are alike
        found = nearest(self.index, queries[has_angle], min(n_neighbors, len(self.index.vectors)))
        cosines[has_angle], rows[has_angle] = self._rows_of(*found, n_neighbors)
        return np.minimum.accumulate(cosines, axis=1), rows  # ties may differ in the last bit

    def nearest_others(self, n_neighbors: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest rows of each row but itself."""
        cosines, found = self.nearest(self.index.vectors, n_neighbors + 1)
        cosines, found = cosines[self.code_of], found[self.code_of]
        is_other = found != np.arange(len(self))[:, None]
        is_other[is_other.all(axis=1), -1] = False  # so many copies that it is not among them: the last is one too many
        shape = (len(self), n_neighbors)
        return cosines[is_other].reshape(shape), found[is_other].reshape(shape)

    def _arrange(self, code_of: NDArray[np.intp]) -> None:
        self.code_of = code_of
        self._rows_by_code = np.argsort(code_of, kind="stable")
        self._n_copies = np.bincount(code_of)
        self._first_place = np.cumsum(self._n_copies) - self._n_copies  # of a vector's rows among them

    def _rows_of(self, cosines: NDArray[np.float64], codes: NDArray[np.intp], n_neighbors: int) -> Any:
        """Put the rows that have them in the place of ranked vectors, those of equal cosines by row.

        Vectors with equal cosines take turns by row. So all rows of a tie are laid out, not only as many as are left to
        be found, before they are sorted and cut.
        """
        rounded, n_copies = cosines.round(_DECIMALS), self._n_copies[codes]
        n_before = np.cumsum(n_copies, axis=1) - n_copies
        is_tied = np.diff(rounded, axis=1, prepend=np.inf) == 0
        n_before = np.maximum.accumulate(np.where(is_tied, 0, n_before), axis=1)  # rows that are nearer than all ties
        n_taken = np.clip(n_neighbors - n_before, 0, n_copies)
        flat = n_taken.ravel()
        number = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)  # of a row among its vector's
        rows = self._rows_by_code[np.repeat(self._first_place[codes].ravel(), flat) + number]
        of_query = np.repeat(np.arange(len(codes)), n_taken.sum(axis=1))
        order = np.lexsort((rows, -np.repeat(rounded.ravel(), flat), of_query))
        n_of_query = n_taken.sum(axis=1)
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(n_of_query) - n_of_query, n_of_query)
        chosen = order[rank < n_neighbors]
        shape = (len(codes), n_neighbors)
        return np.repeat(cosines.ravel(), flat)[chosen].reshape(shape), rows[chosen].reshape(shape)


def distinct_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give each distinct vector a number, in order of first appearance.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_rows, dim)
        Without NaN.

    Returns
    -------
    code_of : ndarray of int, shape (n_rows,)
        The number of each row's vector.
    first_rows : ndarray of int, shape (n_distinct,)
        The first row of each vector.

    Examples
    --------
    >>> distinct_rows(np.float32([[1, 0], [0, 1], [1, 0]]))
    (array([0, 1, 0]), array([0, 1]))
    """
    bits = np.ascontiguousarray(vectors).view(np.uint32)
    factors = np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) * 2 + 1
    keys = np.empty(len(bits), dtype=np.uint64)
    blocks = [slice(start, start + _ROWS_PER_BLOCK) for start in range(0, len(bits), _ROWS_PER_BLOCK)]
    for block in blocks:
        keys[block] = (bits[block] * factors).sum(axis=1, dtype=np.uint64)  # modulo 2**64
    code_of, _ = pd.factorize(keys)
    first_rows = np.unique(code_of, return_index=True)[1]
    if any((bits[block] != bits[first_rows[code_of[block]]]).any() for block in blocks):  # two vectors with one key
        code_of, _ = pd.factorize(np.array([row.tobytes() for row in bits], dtype=object))
        first_rows = np.unique(code_of, return_index=True)[1]
    return code_of, first_rows


def nearest(
    index: ExactIndex | HnswIndex, queries: NDArray[np.float32], n_neighbors: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find the nearest vectors of each query, nearest first and ties by position.

    Parameters
    ----------
    index : ExactIndex or HnswIndex
    queries : ndarray of float32, shape (n_queries, dim)
    n_neighbors : int
        At most as many as there are vectors.

    Returns
    -------
    cosines : ndarray of float64, shape (n_queries, n_neighbors)
        Computed in float64. Those that agree to 12 decimals are ties.
    positions : ndarray of int, shape (n_queries, n_neighbors)

    Examples
    --------
    >>> cosines, positions = nearest(ExactIndex(np.eye(3, dtype=np.float32)), np.float32([[0, 0.6, 0.8]]), 2)
    >>> cosines.round(2), positions
    (array([[0.8, 0.6]]), array([[2, 1]]))
    """
    cosines = np.empty((len(queries), n_neighbors))
    positions = np.empty((len(queries), n_neighbors), dtype=np.intp)
    for start in range(0, len(queries), _QUERIES_PER_BLOCK):
        block = slice(start, start + _QUERIES_PER_BLOCK)
        cosines[block], positions[block] = _nearest_of_block(index, queries[block], n_neighbors)
    return cosines, positions


def _nearest_of_block(index: ExactIndex | HnswIndex, queries: NDArray[np.float32], n_neighbors: int) -> Any:
    """Rank candidates in float64; take more of them where float32 cannot tell which are the nearest."""
    n_vectors = len(index.vectors)
    n_candidates = min(n_vectors, n_neighbors + _SPARE)
    ranked, positions = _rank(index, queries, n_candidates)
    cosines, positions = ranked[:, :n_neighbors], positions[:, :n_neighbors]
    is_open = ranked[:, n_neighbors - 1] - ranked[:, -1] <= _SLACK
    while isinstance(index, ExactIndex) and n_candidates < n_vectors and is_open.any():
        n_candidates = min(n_vectors, 4 * n_candidates)
        all_open, n_rows = np.flatnonzero(is_open), max(1, _NUMBERS_PER_BLOCK // n_candidates)
        for start in range(0, len(all_open), n_rows):
            rows = all_open[start : start + n_rows]
            ranked, found = _rank(index, queries[rows], n_candidates)
            cosines[rows], positions[rows] = ranked[:, :n_neighbors], found[:, :n_neighbors]
            is_open[rows] = ranked[:, n_neighbors - 1] - ranked[:, -1] <= _SLACK
    return cosines, positions


def _rank(index: ExactIndex | HnswIndex, queries: NDArray[np.float32], n: int) -> Any:
    """Sort candidates by their cosine in float64, then by position."""
    positions = index.candidates(queries, n)
    cosines = _cosines(queries, index.vectors, positions)
    order = np.lexsort((positions, -cosines.round(_DECIMALS)), axis=-1)
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(positions, order, axis=1)


def _cosines(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], positions: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute the cosine of each query with its candidates; equal vectors get equal cosines, to the last bit."""
    cosines = np.empty(positions.size)
    of_query = np.repeat(np.arange(len(queries)), positions.shape[1])
    n_pairs = max(1, _NUMBERS_PER_BLOCK // vectors.shape[1])
    for start in range(0, positions.size, n_pairs):
        block = slice(start, start + n_pairs)
        left = queries[of_query[block]].astype(np.float64)
        right = vectors[positions.ravel()[block]].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right))
        products = np.einsum("ij,ij->i", left, right)
        cosines[block] = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    return cosines.clip(-1, 1).reshape(positions.shape)


def _compare_with_all(vectors: NDArray[np.float32], queries: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    positions: NDArray[np.intp]
    if importlib.util.find_spec("faiss") is not None:
        faiss = require("faiss", extra="faiss", needed_by="an exact index")
        positions = faiss.knn(queries, vectors, n, metric=faiss.METRIC_INNER_PRODUCT)[1]
        return positions
    with config_context(assume_finite=True):  # they are, and looking again takes as long as a query
        finder = NearestNeighbors(n_neighbors=n, algorithm="brute", metric="cosine").fit(vectors)
        positions = finder.kneighbors(queries, return_distance=False)
    return positions
