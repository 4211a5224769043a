"""Nearest neighbours among unit vectors by cosine: exact, or approximate for millions of vectors.

Imports numpy, pandas, scikit-learn, ``skembed.encoding.forks`` and the growing arrays beside it; faiss if it is
installed.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from skembed.encoding.distinct import bits_of, blocks_of, distinct_rows, keys_of
from skembed.encoding.forks import renew_in_child
from skembed.optional import require
from skembed.similarity.growing import GrowingArray, SortedPairs
from skembed.similarity.largest import largest_products

_N_SPARE = 8  # candidates beyond those asked for, because float32 may rank them in another order
_TOLERANCE = 1e-5  # about ten times the error of cosines in float32
_DECIMALS = 12  # cosines that agree to so many are ties
_QUERIES_PER_BLOCK = 1024
_PAIRS_FOR_TORCH, _PAIRS_FOR_IMPORT = 2**22, 2**26  # of a query and a vector; importing torch takes a second or more
_ROWS_PER_BLOCK = 8192
_NUMBERS_PER_BLOCK = 2**22  # of float64 vectors or of candidates, compared together: 32 MiB
_N_LINKS, _EF_CONSTRUCTION, _EF_SEARCH = 32, 40, 256  # see benchmarks/search.py
_FEW_VECTORS, _SMALL_SHARE = 100_000, 0.1  # of a graph: where comparing them is as fast as a walk
_FEW_QUERIES = 4  # for which passing over a vector costs less than copying the others


def _run_on_one_thread() -> None:
    """Keep faiss from waiting for threads that a forked child does not have."""
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(1)


renew_in_child("faiss", _run_on_one_thread)


class ExactIndex:
    """Compares queries with all vectors, with faiss if it is installed and scikit-learn or torch otherwise.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of unit length.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = GrowingArray(vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def n_positions(self) -> int:
        """Number of positions, and the position of the next vector."""
        return len(self)

    @property
    def dim(self) -> int:
        """Number of dimensions of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def vectors(self) -> NDArray[np.float32]:
        """A view of the vectors."""
        return self._vectors.values

    def take(self, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return a copy of some vectors."""
        return self.vectors[positions]

    def appended(self, vectors: NDArray[np.float32]) -> Self:
        """Return an index of these and further vectors."""
        grown = copy.copy(self)
        grown._vectors = self._vectors.appended(vectors)
        return grown

    def candidates(
        self, queries: NDArray[np.float32], n: int, among: NDArray[np.intp] | None = None
    ) -> NDArray[np.intp]:
        """Return the positions of the n nearest vectors of each query, of all or among some, compared in float32."""
        return _compare(self.vectors, queries, n, among)

    def compares_each(self, among: NDArray[np.intp] | None) -> bool:  # noqa: ARG002
        """Return whether candidates are the nearest for certain, as far as float32 can tell."""
        return True


class HnswIndex:
    """Searches a graph of neighbours, which finds nearly all of the nearest vectors in a fraction of the time.

    A graph can grow but not forget. What an interrupted addition has left in it, and what was added to a copy of this
    index, keeps its positions and is never found.

    Parameters
    ----------
    graph : faiss.IndexHNSWFlat
        Holds the vectors, which have unit length.
    unused : ndarray of int, optional
        Positions in the graph of vectors that are not of this index.
    """

    def __init__(self, graph: Any, unused: NDArray[np.intp] | None = None) -> None:
        self.graph = graph
        self._end = int(graph.ntotal)  # what is added behind it is of another index
        self._unused = np.empty(0, dtype=np.intp) if unused is None else unused

    @classmethod
    def from_vectors(cls, vectors: NDArray[np.float32]) -> Self:
        """Build the graph of vectors of unit length."""
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        graph = faiss.IndexHNSWFlat(vectors.shape[1], _N_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _EF_CONSTRUCTION
        return cls(graph).appended(vectors)

    def __len__(self) -> int:
        return self._end - len(self._unused)

    @property
    def n_positions(self) -> int:
        """Number of positions, and the position of the next vector."""
        return int(self.graph.ntotal)

    @property
    def unused(self) -> NDArray[np.intp]:
        """Positions of vectors that are not of this index."""
        return np.append(self._unused, np.arange(self._end, self.n_positions))

    @property
    def dim(self) -> int:
        """Number of dimensions of the vectors."""
        return int(self.graph.d)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """A copy of the vectors at all positions."""
        return self._in_faiss().copy()

    def take(self, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return a copy of some vectors."""
        return self._in_faiss()[positions]

    def appended(self, vectors: NDArray[np.float32]) -> Self:
        """Return an index of these and further vectors, in the same graph."""
        unused = self.unused
        self.graph.add(np.ascontiguousarray(vectors))
        return type(self)(self.graph, unused)

    def candidates(
        self, queries: NDArray[np.float32], n: int, among: NDArray[np.intp] | None = None
    ) -> NDArray[np.intp]:
        """Return the positions of n vectors for each query, of all or among some, nearly all of them its nearest."""
        if among is not None:
            return self._candidates_among(queries, n, among)
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        unused, width = self.unused, max(_EF_SEARCH, 2 * n)
        if len(unused):  # the walk passes them, so it has to be wider
            others = faiss.IDSelectorNot(faiss.IDSelectorBatch(unused))
            walk = faiss.SearchParametersHNSW(efSearch=width * self.n_positions // len(self), sel=others)
        else:
            walk = faiss.SearchParametersHNSW(efSearch=width)
        positions: NDArray[np.intp] = self.graph.search(np.ascontiguousarray(queries), n, params=walk)[1]
        is_short = (positions < 0).any(axis=1)  # the walk through the graph ended before it had found enough
        if is_short.any():
            used = np.delete(np.arange(self.n_positions), unused) if len(unused) else None
            positions[is_short] = _compare(self._in_faiss(), queries[is_short], n, used)
        return positions

    def compares_each(self, among: NDArray[np.intp] | None) -> bool:
        """Return whether candidates are the nearest for certain, as far as float32 can tell.

        Comparing takes time proportional to the vectors to look among, a walk to the inverse of their share.
        """
        share = 1 if among is None else len(among) / len(self)
        return among is not None and (share * len(among) < _FEW_VECTORS or share < _SMALL_SHARE)

    def _candidates_among(self, queries: NDArray[np.float32], n: int, among: NDArray[np.intp]) -> NDArray[np.intp]:
        """Walk the graph so widely that enough of the vectors found are among those that are asked for.

        faiss can leave the others out itself, but does not say how far its walk has come. Where few are near a query,
        that is not far enough: of vectors further out, the walk meets some by chance, and misses nearer ones.
        """
        if self.compares_each(among):
            return _compare(self._in_faiss(), queries, n, among)
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        n_positions = self.n_positions
        n_near = 2 * n * n_positions // len(among)  # twice as many as have n of them on average
        width = min(n_positions, 2 * max(_EF_SEARCH, 2 * n) * n_positions // len(among))
        walk, positions = faiss.SearchParametersHNSW(efSearch=width), np.empty((len(queries), n), dtype=np.intp)
        is_asked_for = np.zeros(n_positions + 1, dtype=bool)  # the last one stands for -1: nothing found
        is_asked_for[among] = True
        for block in blocks_of(len(queries), max(1, _NUMBERS_PER_BLOCK // width)):
            found = self.graph.search(np.ascontiguousarray(queries[block]), width, params=walk)[1]
            is_hit = is_asked_for[found]
            positions[block] = np.take_along_axis(found, np.argsort(~is_hit, axis=1, kind="stable")[:, :n], axis=1)
            is_short = np.count_nonzero(is_hit[:, :n_near], axis=1) < n  # further out, the walk misses more
            if is_short.any():
                rows = np.flatnonzero(is_short) + block.start
                positions[rows] = _compare(self._in_faiss(), queries[rows], n, among)
        return positions

    def _in_faiss(self) -> NDArray[np.float32]:
        """Return a view of faiss' memory, so that there is one copy of the vectors.

        An addition moves that memory, and the view then points to nowhere. So no other class gets to see it.
        """
        faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
        storage = faiss.downcast_index(self.graph.storage)
        matrix: NDArray[np.float32] = faiss.rev_swig_ptr(storage.get_xb(), self.n_positions * self.dim)
        return matrix.reshape(self.n_positions, self.dim)


class VectorIndex:
    """Rows of vectors to search: an index of the distinct vectors, and the rows of each.

    Copies of one vector would hide its other neighbours in a graph, and an exact search would have to rank all of them.

    Parameters
    ----------
    index : ExactIndex or HnswIndex
        Of the distinct vectors, in order of first appearance.
    code_of : ndarray of int, shape (n_rows,)
        Position in the index of each row's vector.
    """

    def __init__(self, index: ExactIndex | HnswIndex, code_of: NDArray[np.intp]) -> None:
        self.index = index
        self._code_of = GrowingArray(code_of)
        self._rows_by_code = SortedPairs(code_of, np.arange(len(code_of)))
        self._codes_by_key: SortedPairs | None = None  # made by the first addition

    @classmethod
    def from_vectors(
        cls, vectors: NDArray[np.float32], make: Callable[[NDArray[np.float32]], ExactIndex | HnswIndex]
    ) -> Self:
        """Build the index of the vectors of all rows."""
        code_of, first_rows = distinct_rows(vectors)
        return cls(make(vectors[first_rows]), code_of)

    def __len__(self) -> int:
        return len(self._code_of)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_codes_by_key": None}  # another version of numpy may make other keys

    @property
    def code_of(self) -> NDArray[np.intp]:
        """Position in the index of each row's vector."""
        return self._code_of.values

    def appended(self, vectors: NDArray[np.float32]) -> Self:
        """Return an index of these and further rows, in time proportional to the further ones.

        The first addition also reads the vectors that are there.
        """
        number_of, first_rows = distinct_rows(vectors)
        distinct = vectors[first_rows]
        known, keys = self._codes_by_key or self._read_keys(), keys_of(distinct)
        codes = self._known_codes(distinct, *known.take(*known.find(keys)))
        is_new = codes < 0
        codes[is_new] = self.index.n_positions + np.arange(is_new.sum())
        code_of, rows = codes[number_of], np.arange(len(self), len(self) + len(vectors))
        grown = copy.copy(self)
        grown._codes_by_key = known.appended(keys[is_new], codes[is_new])
        grown._rows_by_code = self._rows_by_code.appended(code_of, rows)
        grown._code_of = self._code_of.appended(code_of)
        grown.index = self.index.appended(distinct[is_new])  # last, because a graph keeps what it has got
        return grown

    def nearest(
        self, queries: NDArray[np.float32], n_neighbors: int, among: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest rows of each query, nearest first, ties in order of their rows.

        Parameters
        ----------
        queries : ndarray of float32, shape (n_queries, dim)
        n_neighbors : int
            At most as many as there are rows, or rows in ``among``.
        among : ndarray of int, optional
            The rows to look among, ascending; None: all.

        Returns
        -------
        cosines : ndarray of float64, shape (n_queries, n_neighbors)
        rows : ndarray of int, shape (n_queries, n_neighbors)
        """
        codes, n_codes, rows_by_code, first = None, len(self.index), self._rows_by_code, np.arange(n_neighbors)
        if among is not None:
            code_of = self.code_of[among]
            is_code = np.zeros(self.index.n_positions, dtype=bool)  # a hundred times as fast as np.unique
            is_code[code_of] = True
            codes, rows_by_code, first = np.flatnonzero(is_code), SortedPairs(code_of, among), among[:n_neighbors]
            n_codes = len(codes)
        cosines, rows = np.zeros((len(queries), n_neighbors)), np.tile(first, (len(queries), 1))
        has_angle = queries.any(axis=1)  # to a vector of zeros, all rows are equally near
        found = nearest(self.index, queries[has_angle], min(n_neighbors, n_codes), codes)
        cosines[has_angle], rows[has_angle] = _expand_to_rows(*found, rows_by_code, n_neighbors)
        return np.minimum.accumulate(cosines, axis=1), rows  # ties may differ in the last bit

    def nearest_others(
        self, n_neighbors: int, among: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest rows of each row, of all or among some, without the row itself."""
        codes = np.arange(self.index.n_positions)
        blocks = blocks_of(len(codes), _QUERIES_PER_BLOCK)
        by_block = [self.nearest(self.index.take(codes[block]), n_neighbors + 1, among) for block in blocks]
        cosines, found = (np.concatenate(parts)[self.code_of] for parts in zip(*by_block, strict=True))
        is_other = found != np.arange(len(self))[:, None]
        is_other[is_other.all(axis=1), -1] = False  # not found, e.g. among its many copies: drop the last one
        shape = (len(self), n_neighbors)
        return cosines[is_other].reshape(shape), found[is_other].reshape(shape)

    def _read_keys(self) -> SortedPairs:
        """Return the code of each vector under its key."""
        codes = np.unique(self.code_of)
        blocks = blocks_of(len(codes), _ROWS_PER_BLOCK)
        return SortedPairs(np.concatenate([keys_of(self.index.take(codes[block])) for block in blocks]), codes)

    def _known_codes(
        self, vectors: NDArray[np.float32], candidate_of: NDArray[np.intp], candidates: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Return the code of each vector, -1 for a new one, from the codes of vectors that have the same key."""
        codes = np.full(len(vectors), -1)
        for block in blocks_of(len(candidates), _ROWS_PER_BLOCK):
            row, code = candidate_of[block], candidates[block]
            is_same = (bits_of(vectors[row]) == bits_of(self.index.take(code))).all(axis=1)
            codes[row[is_same]] = code[is_same]
        return codes


def nearest(
    index: ExactIndex | HnswIndex,
    queries: NDArray[np.float32],
    n_neighbors: int,
    among: NDArray[np.intp] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find the nearest vectors of each query, nearest first, ties in order of their positions.

    Parameters
    ----------
    index : ExactIndex or HnswIndex
    queries : ndarray of float32, shape (n_queries, dim)
    n_neighbors : int
        At most as many as there are vectors, or positions in ``among``.
    among : ndarray of int, optional
        The positions to look among, ascending; None: all.

    Returns
    -------
    cosines : ndarray of float64, shape (n_queries, n_neighbors)
        Computed in float64. Cosines that agree to 12 decimals are ties.
    positions : ndarray of int, shape (n_queries, n_neighbors)

    Examples
    --------
    >>> cosines, positions = nearest(ExactIndex(np.eye(3, dtype=np.float32)), np.float32([[0, 0.6, 0.8]]), 2)
    >>> cosines.round(2), positions
    (array([[0.8, 0.6]]), array([[2, 1]]))
    """
    cosines = np.empty((len(queries), n_neighbors))
    positions = np.empty((len(queries), n_neighbors), dtype=np.intp)
    for block in blocks_of(len(queries), _QUERIES_PER_BLOCK):
        cosines[block], positions[block] = _nearest_of_block(index, queries[block], n_neighbors, among)
    return cosines, positions


def _expand_to_rows(
    cosines: NDArray[np.float64], codes: NDArray[np.intp], rows_by_code: SortedPairs, n_neighbors: int
) -> Any:
    """Replace ranked vectors by the rows that have them.

    The rows of vectors with equal cosines are mixed, in order of their rows. So all rows of a tie are laid out and
    sorted before the surplus is dropped.
    """
    starts, by_run = rows_by_code.find(codes)
    rounded, n_copies = cosines.round(_DECIMALS), by_run.sum(axis=0)
    n_before = np.cumsum(n_copies, axis=1) - n_copies
    is_tied = np.diff(rounded, axis=1, prepend=np.inf) == 0
    n_before = np.maximum.accumulate(np.where(is_tied, 0, n_before), axis=1)  # rows before the first of its tie
    n_taken = np.clip(n_neighbors - n_before, 0, n_copies)
    n_earlier = np.cumsum(by_run, axis=0) - by_run  # copies in the runs before
    place, rows = rows_by_code.take(starts, np.clip(n_taken - n_earlier, 0, by_run))
    order = np.lexsort((rows, -rounded.ravel()[place], place // codes.shape[1]))
    n_of_query = n_taken.sum(axis=1)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(n_of_query) - n_of_query, n_of_query)
    chosen = order[rank < n_neighbors]
    shape = (len(codes), n_neighbors)
    return cosines.ravel()[place[chosen]].reshape(shape), rows[chosen].reshape(shape)


def _nearest_of_block(
    index: ExactIndex | HnswIndex, queries: NDArray[np.float32], n_neighbors: int, among: NDArray[np.intp] | None
) -> Any:
    """Rank candidates in float64; rank more of them where float32 cannot decide which vectors are the nearest."""
    n_vectors = len(index) if among is None else len(among)
    n_candidates = min(n_vectors, n_neighbors + _N_SPARE)
    ranked, positions = _rank(index, queries, n_candidates, among)
    cosines, positions = ranked[:, :n_neighbors], positions[:, :n_neighbors]
    is_undecided = ranked[:, n_neighbors - 1] - ranked[:, -1] <= _TOLERANCE
    while index.compares_each(among) and n_candidates < n_vectors and is_undecided.any():
        n_candidates = min(n_vectors, 4 * n_candidates)
        undecided = np.flatnonzero(is_undecided)
        for block in blocks_of(len(undecided), max(1, _NUMBERS_PER_BLOCK // n_candidates)):
            rows = undecided[block]
            ranked, found = _rank(index, queries[rows], n_candidates, among)
            cosines[rows], positions[rows] = ranked[:, :n_neighbors], found[:, :n_neighbors]
            is_undecided[rows] = ranked[:, n_neighbors - 1] - ranked[:, -1] <= _TOLERANCE
    return cosines, positions


def _rank(index: ExactIndex | HnswIndex, queries: NDArray[np.float32], n: int, among: NDArray[np.intp] | None) -> Any:
    """Sort candidates by their cosine in float64, then by position."""
    positions = index.candidates(queries, n, among)
    cosines = _cosines(queries, index, positions)
    order = np.lexsort((positions, -cosines.round(_DECIMALS)), axis=-1)
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(positions, order, axis=1)


def _cosines(
    queries: NDArray[np.float32], index: ExactIndex | HnswIndex, positions: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute the cosines of each query with its candidates; those of equal vectors are equal to the last bit."""
    cosines = np.empty(positions.size)
    of_query = np.repeat(np.arange(len(queries)), positions.shape[1])
    for block in blocks_of(positions.size, max(1, _NUMBERS_PER_BLOCK // index.dim)):
        left = queries[of_query[block]].astype(np.float64)
        right = index.take(positions.ravel()[block]).astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right))
        products = np.einsum("ij,ij->i", left, right)
        cosines[block] = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    return cosines.clip(-1, 1).reshape(positions.shape)


def _compare(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], n: int, among: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Return the positions of the n nearest vectors of each query, of all or among some, compared in float32."""
    positions: NDArray[np.intp]
    if importlib.util.find_spec("faiss") is not None:
        return _compare_with_faiss(vectors, queries, n, among)
    n_vectors = len(vectors) if among is None else len(among)
    is_large = len(queries) * n_vectors >= (_PAIRS_FOR_TORCH if "torch" in sys.modules else _PAIRS_FOR_IMPORT)
    if is_large:
        return largest_products(vectors, queries, n, among)
    with config_context(assume_finite=True):  # they are finite, and checking it takes as long as a query
        chosen = vectors if among is None else vectors[among]  # of which scikit-learn makes a copy as well
        finder = NearestNeighbors(n_neighbors=n, algorithm="brute", metric="cosine").fit(chosen)
        positions = finder.kneighbors(queries, return_distance=False)
    return positions if among is None else among[positions]


def _compare_with_faiss(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], n: int, among: NDArray[np.intp] | None
) -> NDArray[np.intp]:
    faiss = require("faiss", extra="faiss", needed_by="an exact index")
    positions: NDArray[np.intp]
    if among is None:
        positions = faiss.knn(queries, vectors, n, metric=faiss.METRIC_INNER_PRODUCT)[1]
        return positions
    if len(queries) <= _FEW_QUERIES:
        return _compare_in_place(vectors, queries, n, among)
    products, positions = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.intp)
    for block in blocks_of(len(among), _ROWS_PER_BLOCK):  # so that few vectors are copied at a time
        chosen = among[block]
        found = faiss.knn(queries, vectors[chosen], min(n, len(chosen)), metric=faiss.METRIC_INNER_PRODUCT)
        products = np.concatenate([products, found[0]], axis=1)
        positions = np.concatenate([positions, chosen[found[1]]], axis=1)
        if products.shape[1] > n:
            best = np.argpartition(-products, n - 1, axis=1)[:, :n]
            products = np.take_along_axis(products, best, axis=1)
            positions = np.take_along_axis(positions, best, axis=1)
    return positions


def _compare_in_place(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], n: int, among: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Let faiss pass over the other vectors."""
    faiss = require("faiss", extra="faiss", needed_by="an exact index")
    is_chosen = np.zeros(len(vectors), dtype=bool)
    is_chosen[among] = True
    bits = np.packbits(is_chosen, bitorder="little")
    queries, vectors = np.ascontiguousarray(queries), np.ascontiguousarray(vectors)
    products, positions = np.empty((len(queries), n), np.float32), np.empty((len(queries), n), np.int64)
    left, right, *found = (faiss.swig_ptr(array) for array in (queries, vectors, products, positions))
    sizes = vectors.shape[1], len(queries), len(vectors), n
    faiss.knn_inner_product(left, right, *sizes, *found, faiss.IDSelectorBitmap(bits))
    return positions
