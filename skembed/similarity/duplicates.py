"""Near-duplicates: texts, or their vectors, to groups. Imports scikit-learn, scipy, the embedders, near pairs."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_count, check_number
from skembed.embedders import embed_column, plan_of, read_column_for, resolve_embedder
from skembed.encoding.distinct import distinct_rows
from skembed.similarity.judging import joining_scores, sample_pairs
from skembed.similarity.near_pairs import TOLERANCE, cosines_of, near_pairs

MISSING = -1  # the label of a row without a text
_MAX_EDGES = 2**22  # in memory at a time: 32 MiB


class NearDuplicates(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Group texts that say nearly the same.

    Two rows are in one group if their cosine is at least ``threshold``, or if a chain of such rows connects them. All
    pairs of distinct vectors are compared, nearly all of them in a few dimensions only: time grows with the square of
    the number of rows, memory with the number of rows. A CUDA device is used from 100,000 distinct vectors on.

    Parameters
    ----------
    embedder : transformer, default=None
        Embeds texts; None: a :class:`SentenceEmbeddingTransformer` with ``missing="nan"``. A fitted embedder is used
        as it is; any other is cloned and fitted by ``fit``.
    threshold : float, default=0.9
        Smallest cosine, from -1 to 1, of two near-duplicates. A good value depends on the model and the texts: look at
        the scores in ``duplicates_``.

    Attributes
    ----------
    embedder_ : transformer
        The embedder that was used.
    labels_ : ndarray of int, shape (n_rows,)
        Number of each row's group, in order of first appearance; -1 for a missing text.
    representatives_ : ndarray of int, shape (n_groups,)
        Position of the first row of each group: the rows to keep.
    duplicates_ : DataFrame
        The other rows, which could be dropped, under their index labels: their ``position``, that of the
        ``representative`` of their group, and the ``score``, the cosine of the two. If only a chain connects them, it
        may be less than the threshold.

    See Also
    --------
    sklearn.cluster.DBSCAN : Finds the same groups with ``min_samples=1`` and ``eps=sqrt(2 - 2 * threshold)``.

    Notes
    -----
    The groups are the connected components of the graph whose edges are the pairs, see
    :func:`scipy.sparse.csgraph.connected_components`. A pair counts if the cosine of its vectors, which have unit
    length and are in float32, is at least ``threshold - 1e-6`` in float64.

    The result is exact, as if each pair were compared in all dimensions. Vectors are rotated to principal axes, and
    divided into their first coordinates and the rest. The cosine is the product of the first coordinates plus that of
    the rests, which by the Cauchy-Schwarz inequality is at most the product of the rests' lengths. A pair whose bound
    is below the threshold is not looked at again. The number of coordinates depends on a sample of the vectors; where
    bounds exclude too few pairs, as at low thresholds, all dimensions are compared at once. The same bound serves
    searches for large inner products [1]_.

    References
    ----------
    .. [1] C. Teflioudi, R. Gemulla and O. Mykytiuk, "LEMP: Fast Retrieval of Large Entries in a Matrix Product", SIGMOD
       2015, section 4.

    Examples
    --------
    >>> from skembed import NearDuplicates
    >>> texts = ["The zip broke.", "Works well.", "The zip broke!", None, "Works well."]
    >>> duplicates = NearDuplicates(threshold=0.9)
    >>> duplicates.fit_predict(texts)
    array([ 0,  1,  0, -1,  1])
    >>> duplicates.representatives_
    array([0, 1])
    >>> duplicates.duplicates_.round(2)
       position  representative  score
    2         2               0   0.93
    4         4               1   1.00
    """

    def __init__(self, embedder: BaseEstimator | None = None, *, threshold: float = 0.9) -> None:
        self.embedder = embedder
        self.threshold = threshold

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn passes y to every step
        """Find the groups.

        Parameters
        ----------
        X : column of texts or of vectors
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the threshold is not a cosine, or an element is not a text or a vector; the message names its position.
        """
        return self._fit(X)

    def fit_predict(self, X: Any, y: Any = None) -> NDArray[np.intp]:  # noqa: ARG002
        """Find the groups, and return the label of each row.

        Parameters
        ----------
        X : column of texts or of vectors
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : ignored

        Returns
        -------
        ndarray of int, shape (n_rows,)
            ``labels_``.

        Raises
        ------
        TypeError, ValueError
            If the threshold is not a cosine, or an element is not a text or a vector; the message names its position.
        """
        return self._fit(X).labels_

    def _fit(self, X: Any, *, name: str = "X") -> Self:
        check_number("threshold", self.threshold, "a cosine, from -1 to 1", lambda cosine: -1 <= cosine <= 1)
        self.embedder_: Any = resolve_embedder(self.embedder, missing="nan")
        column = read_column_for(self.embedder_, X, name)
        vectors = embed_column(column, self.embedder_, plan_of(self.embedder_, column), fit=True)
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        code_of, first_rows = distinct_rows(_take(vectors, rows))
        group_of = pd.factorize(_group_vectors(_take(vectors, rows[first_rows]), float(self.threshold))[code_of])[0]
        self.labels_ = np.full(len(vectors), MISSING)
        self.labels_[rows] = group_of
        self.representatives_ = rows[np.unique(group_of, return_index=True)[1]]
        is_other = rows != self.representatives_[group_of]
        position, representative = rows[is_other], self.representatives_[group_of][is_other]
        score = cosines_of(vectors, position, representative)
        table = {"position": position, "representative": representative, "score": score}
        labels = pd.RangeIndex(len(vectors)) if column.labels is None else column.labels
        self.duplicates_ = pd.DataFrame(table, index=labels[position])
        self._vectors, self._texts, self._labels = vectors, column.to_objects(), labels
        return self

    def pairs(
        self, n: int = 20, lowest: float | None = None, random_state: int | np.random.RandomState | None = 0
    ) -> pd.DataFrame:
        """Draw pairs of distinct texts to judge by eye, from somewhat below the threshold to the highest score.

        The scores are divided into bands of equal width, and each band gives as many pairs, or all that it has: the few
        high scores are represented, and so are the many low ones. The columns ``score`` and ``weight``, with the
        answers, are what :func:`choose_threshold` takes.

        Parameters
        ----------
        n : int, default=20
            How many pairs; fewer if there are fewer.
        lowest : float, default=None
            Smallest cosine of a pair; None: the threshold less 0.1. The lower it is, the longer it takes: all pairs of
            rows are compared once more.
        random_state : int, RandomState or None, default=0
            Seed; with the same one, the same rows give the same pairs. With None they differ each time.

        Returns
        -------
        DataFrame, n rows
            The pairs, those with the highest score first:

            - ``position`` and ``other``, their positions among the fitted rows;
            - ``score``, their cosine;
            - ``weight``, how many of all pairs from ``lowest`` up the row stands for. The sum is their number;
            - ``text`` and ``other_text``; None if the estimator was fitted to vectors.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If n is not a positive integer, or lowest is not a cosine.

        Notes
        -----
        Rows whose vectors are equal, such as copies of a text, count as one, the first of them: that they belong
        together needs no judge. They are in no pair with each other, and the weights count their pairs with others
        once.

        Time and comparisons are those of ``fit``; memory grows with n, not with the number of pairs.

        Examples
        --------
        >>> from skembed import NearDuplicates
        >>> texts = ["The zip broke.", "Works well.", "The zip broke!", None, "It works very well.", "Works well."]
        >>> NearDuplicates().fit(texts).pairs(lowest=0.5).round(2)
           position  other  score  weight            text           other_text
        0         0      2   0.93     1.0  The zip broke.       The zip broke!
        1         1      4   0.72     1.0     Works well.  It works very well.
        """
        check_is_fitted(self)
        n = check_count("n", n)
        lowest = max(-1.0, self.threshold - 0.1) if lowest is None else lowest
        check_number("lowest", lowest, "a cosine, from -1 to 1", lambda cosine: -1 <= cosine <= 1)
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        rows = self._distinct_rows()
        sample = sample_pairs(_take(self._vectors, rows), float(lowest), n, seed)
        table: dict[str, Any] = {"position": rows[sample.position], "other": rows[sample.other]}
        table |= {"score": sample.score, "weight": sample.weight}
        table |= {"text": self._texts[table["position"]], "other_text": self._texts[table["other"]]}
        return pd.DataFrame(table)

    def _count_dropped(self, thresholds: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return how many rows are listed in ``duplicates_`` at each threshold, by one pass over the pairs."""
        rows = self._distinct_rows()
        n_copies = np.count_nonzero(self.labels_ != MISSING) - len(rows)
        joins = joining_scores(_take(self._vectors, rows), float(thresholds.min()))
        dropped: NDArray[np.intp] = n_copies + len(joins) - np.searchsorted(joins, thresholds - TOLERANCE)
        return dropped

    def _distinct_rows(self) -> NDArray[np.intp]:
        """Return the first row of each distinct vector."""
        rows = np.flatnonzero(~np.isnan(self._vectors).any(axis=1))
        return rows[distinct_rows(_take(self._vectors, rows))[1]]

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        return [(resolve_embedder(self.embedder, missing="nan"), X)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags


def _take(vectors: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return some rows in their order; if they are all rows, without a copy."""
    return vectors if len(rows) == len(vectors) else vectors[rows]


def _group_vectors(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.int32]:
    """Return the group of each vector: the connected components of all pairs, joined before they fill the memory."""
    group_of = np.arange(len(vectors), dtype=np.int32)
    edges: list[NDArray[np.int32]] = []
    n_edges = 0
    for position, other in near_pairs(vectors, threshold):
        joins = group_of[position] != group_of[other]
        edges.append(np.stack([position[joins], other[joins]]))
        n_edges += edges[-1].shape[1]
        if n_edges > _MAX_EDGES:
            group_of, edges, n_edges = _join_groups(group_of, edges), [], 0
    return _join_groups(group_of, edges) if edges else group_of


def _join_groups(group_of: NDArray[np.int32], edges: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    position, other = group_of[np.concatenate(edges, axis=1)]
    graph = coo_array((np.ones(len(position), dtype=bool), (position, other)), shape=(len(group_of),) * 2)
    joined: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return joined[group_of]
