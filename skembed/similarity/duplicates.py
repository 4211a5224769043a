"""Near-duplicates: texts, or their vectors, to groups, and new ones to those that are near.

Imports scikit-learn, the embedders, grouping, near pairs and neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_choice, check_count, check_number
from skembed.embedders import (
    embed_column,
    embed_like,
    model_tag,
    plan_of,
    read_column_for,
    refuse_guess,
    resolve_embedder,
)
from skembed.encoding.distinct import distinct_rows
from skembed.similarity.grouping import connected_groups, star_groups
from skembed.similarity.judging import joining_scores, sample_pairs
from skembed.similarity.near_pairs import TOLERANCE, cosines_of
from skembed.similarity.neighbours import ExactIndex, VectorIndex

MISSING = -1  # the label of a row without a text
_GROUPINGS: dict[str, Callable[[NDArray[np.float32], float], NDArray[np.integer[Any]]]] = {
    "connected": connected_groups,
    "star": star_groups,
}


class NearDuplicates(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Group texts that say nearly the same, and find those that new texts repeat.

    Two rows are near-duplicates if their cosine is at least ``threshold``. All pairs of distinct vectors are compared,
    nearly all of them in a few dimensions only: time grows with the square of the number of rows, memory with the
    number of rows. A CUDA device is used from 100,000 distinct vectors on.

    Parameters
    ----------
    embedder : transformer, default=None
        Embeds texts; None: a :class:`SentenceEmbeddingTransformer` with ``missing="nan"``. A fitted embedder is used
        as it is; any other is cloned and fitted by ``fit``.
    threshold : float, default=0.9
        Smallest cosine, from -1 to 1, of two near-duplicates. A good value depends on the model and the texts: look at
        the scores in ``duplicates_``.
    grouping : {"connected", "star"}, default="connected"
        "connected": rows are in one group if they are near, or if a chain of near rows connects them. The order of the
        rows does not matter. "star": each row of a group is near its representative. Rows are read in their order: a
        row joins the nearest of the representatives before it if that is near, and becomes one otherwise. So sort the
        rows to keep first; rows that are added at the end do not change the groups of the others.

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
        ``representative`` of their group, and the ``score``, the cosine of the two. Where only a chain connects them,
        it may be less than the threshold; with ``grouping="star"``, it is not.

    See Also
    --------
    sklearn.cluster.DBSCAN : Finds the connected groups with ``min_samples=1`` and ``eps=sqrt(2 - 2 * threshold)``.

    Notes
    -----
    A pair is near if the cosine of its vectors, which have unit length and are in float32, is at least ``threshold -
    1e-6`` in float64. Copies of one vector are always in one group. Other than that, a vector of zeros is near another
    row only if the threshold is 0 or less.

    The connected groups are the connected components of the graph whose edges are the near pairs, see
    :func:`scipy.sparse.csgraph.connected_components`. Stars are those of the leader algorithm [2]_, but a row joins the
    nearest representative, not the first. They are looked for within the connected groups, where each row is compared
    with the representatives before it. The pairs themselves are not kept: they are found in blocks, which take some 300
    MiB a core at most, and joined to groups.

    The result is exact, as if each pair were compared in all dimensions. Vectors are rotated to principal axes, and
    divided into their first coordinates and the rest. The cosine is the product of the first coordinates plus that of
    the rests, which by the Cauchy-Schwarz inequality is at most the product of the rests' lengths. A pair whose bound
    is below the threshold is not looked at again. The number of coordinates depends on a sample of the vectors; where
    bounds exclude too few pairs, as at low thresholds, all dimensions are compared at once. The same bound serves
    searches for large inner products [1]_.

    A fitted estimator keeps the vectors of all rows, 4 bytes a number, and their texts; a pickle contains both.

    References
    ----------
    .. [1] C. Teflioudi, R. Gemulla and O. Mykytiuk, "LEMP: Fast Retrieval of Large Entries in a Matrix Product", SIGMOD
       2015, section 4.
    .. [2] J. A. Hartigan, "Clustering Algorithms", Wiley 1975, chapter 3.

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

    Texts of a test set that are in the training set, too:

    >>> duplicates.match(["The zip broke", "The strap is too short."]).round(2)
       position id  score  is_duplicate
    0         0  0   0.98          True
    1         2  2   0.26         False
    """

    def __init__(
        self, embedder: BaseEstimator | None = None, *, threshold: float = 0.9, grouping: str = "connected"
    ) -> None:
        self.embedder = embedder
        self.threshold = threshold
        self.grouping = grouping

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
            If a parameter is invalid, or an element is not a text or a vector; the message names its position.
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
            If a parameter is invalid, or an element is not a text or a vector; the message names its position.
        """
        return self._fit(X).labels_

    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the group of the nearest fitted row, if that is near.

        Parameters
        ----------
        X : column of texts or of vectors, n_rows rows
            Vectors must be of the same model.

        Returns
        -------
        ndarray of int, shape (n_rows,)
            -1 for a row that is near no fitted row, and for a missing text. For the fitted rows, ``labels_``, with two
            exceptions: of rows that differ by rounding alone, the first one counts, and vectors of zeros are near
            nothing at a threshold above 0. With ``grouping="star"``, a new row may be further than the threshold from
            the representative of its group.

        Raises
        ------
        NotFittedError
            If nothing was fitted.
        TypeError, ValueError
            If the threshold is not a cosine, an element is not a text or a vector, or vectors are of another model or
            number of dimensions.

        Notes
        -----
        A vector of zeros has a cosine of 0 with all rows, and so no group at a threshold above 0. With
        ``grouping="star"``, fitted rows whose vectors differ by rounding alone may get the group of the first of them.

        Examples
        --------
        >>> from skembed import NearDuplicates
        >>> duplicates = NearDuplicates().fit(["The zip broke.", "Works well."])
        >>> duplicates.predict(["The zip broke!", "The strap is too short."])
        array([ 0, -1])
        """
        check_is_fitted(self, "labels_")
        table = self._match(X)
        group_of = np.full(len(table), MISSING)
        is_near = table["is_duplicate"].to_numpy()
        group_of[is_near] = self.labels_[table["position"].to_numpy(np.intp, na_value=MISSING)[is_near]]
        return group_of

    def match(self, X: Any) -> pd.DataFrame:
        """Find the nearest fitted row of each row, and whether it is a near-duplicate.

        ``fit(train).match(test)`` finds leakage: rows of a test set that were trained on.

        Parameters
        ----------
        X : column of texts or of vectors, n_rows rows
            Vectors must be of the same model.

        Returns
        -------
        DataFrame, shape (n_rows, 4)
            With the index of X: ``position`` and ``id`` (index label) of the nearest fitted row, of equally near ones
            the first; ``score``, the cosine to it; and ``is_duplicate``, whether that is at least the threshold. For a
            missing text, or where no text was fitted, the others are missing and ``is_duplicate`` is False.

        Raises
        ------
        NotFittedError
            If nothing was fitted.
        TypeError, ValueError
            If the threshold is not a cosine, an element is not a text or a vector, or vectors are of another model or
            number of dimensions.

        See Also
        --------
        SemanticSearch : Finds several nearest rows.

        Examples
        --------
        >>> import pandas as pd
        >>> from skembed import NearDuplicates
        >>> train = pd.Series(["The zip broke.", "Works well."], index=["r1", "r2"])
        >>> test = pd.Series(["The zip broke!", None], index=["t1", "t2"])
        >>> NearDuplicates().fit(train).match(test).round(2)
            position   id  score  is_duplicate
        t1         0   r1   0.93          True
        t2      <NA>  NaN    NaN         False
        """
        return self._match(X)

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
        sample = sample_pairs(_take(self._vectors, self._distinct_rows), float(lowest), n, seed)
        position, other = self._distinct_rows[sample.position], self._distinct_rows[sample.other]
        table = {"position": position, "other": other, "score": sample.score, "weight": sample.weight}
        texts = np.full(len(self._vectors), None) if self._texts is None else self._texts
        return pd.DataFrame({**table, "text": texts[position], "other_text": texts[other]})

    def _fit(self, X: Any, *, name: str = "X") -> Self:
        self._keep(X, name)
        self._group()
        return self

    def _keep(self, X: Any, name: str) -> None:
        """Embed the rows to compare with, and keep them with their texts and index labels."""
        self._check_threshold()
        check_choice("grouping", self.grouping, _GROUPINGS)
        embedder = resolve_embedder(self.embedder, missing="nan")
        column = read_column_for(embedder, X, name)
        plan = plan_of(embedder, column)
        vectors = embed_column(column, embedder, plan, fit=True)
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        code_of, first_rows = distinct_rows(_take(vectors, rows))
        self.__dict__.pop("labels_", None)  # of the rows before
        self.embedder_: Any = embedder
        self._model_tag = model_tag(column, embedder, plan)
        self._vectors, self._labels = vectors, column.to_index()
        self._texts = None if column.texts is None else column.to_objects()
        self._distinct_rows = rows[first_rows]
        self._code_of = np.full(len(vectors), MISSING)  # place of each row's vector in _distinct_rows
        self._code_of[rows] = code_of

    def _group(self) -> None:
        """Group the rows that are kept."""
        rows = np.flatnonzero(self._code_of != MISSING)
        groups = _GROUPINGS[self.grouping](_take(self._vectors, self._distinct_rows), float(self.threshold))
        group_of = pd.factorize(groups[self._code_of[rows]])[0]
        self.labels_ = np.full(len(self._vectors), MISSING)
        self.labels_[rows] = group_of
        self.representatives_ = rows[np.unique(group_of, return_index=True)[1]]
        is_other = rows != self.representatives_[group_of]
        position, representative = rows[is_other], self.representatives_[group_of][is_other]
        score = cosines_of(self._vectors, position, representative)
        table = {"position": position, "representative": representative, "score": score}
        self.duplicates_ = pd.DataFrame(table, index=self._labels[position])

    def _match(self, X: Any, *, name: str = "X", fitted: str = "the fitted rows") -> pd.DataFrame:
        """Find the nearest of the rows that are kept; the names are those of both sides in messages."""
        check_is_fitted(self, "_vectors")
        cut = self._check_threshold() - TOLERANCE
        column = read_column_for(self.embedder_, X, name)
        refuse_guess(self.embedder, column, self._model_tag, fitted)
        plan, dim = plan_of(self.embedder_, column), self._vectors.shape[1]
        vectors = embed_like(column, self.embedder_, plan, self._model_tag, dim, (name, fitted))
        position, score = np.full(len(vectors), MISSING), np.full(len(vectors), np.nan)
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        if len(rows) and len(self._distinct_rows):
            distinct = _take(self._vectors, self._distinct_rows)
            index = VectorIndex(ExactIndex(distinct), np.arange(len(distinct)))
            cosines, found = index.nearest(_take(vectors, rows), 1)
            position[rows], score[rows] = self._distinct_rows[found[:, 0]], cosines[:, 0]
        is_missing = position == MISSING
        labels = self._labels.to_flat_index().to_numpy(dtype=object)
        table = {
            "position": pd.arrays.IntegerArray(position, mask=is_missing),
            "id": np.append(labels, [None])[position],
            "score": score,
            "is_duplicate": score >= cut,
        }
        return pd.DataFrame(table, index=column.to_index())

    def _check_threshold(self) -> float:
        check_number("threshold", self.threshold, "a cosine, from -1 to 1", lambda cosine: -1 <= cosine <= 1)
        return float(self.threshold)

    def _count_dropped(self, thresholds: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return how many rows would be listed in ``duplicates_`` at each threshold.

        Connected groups of all thresholds come from one pass over the pairs; stars are made anew for each.
        """
        distinct = _take(self._vectors, self._distinct_rows)
        n_copies = np.count_nonzero(self._code_of != MISSING) - len(distinct)
        if self.grouping == "star":
            own = np.arange(len(distinct))
            return n_copies + np.array([(star_groups(distinct, cut) != own).sum() for cut in thresholds], np.intp)
        joins = joining_scores(distinct, float(thresholds.min()))
        dropped: NDArray[np.intp] = n_copies + len(joins) - np.searchsorted(joins, thresholds - TOLERANCE)
        return dropped

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        return [(resolve_embedder(self.embedder, missing="nan"), X)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags


def _take(vectors: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return some rows in their order; if they are all rows, without a copy."""
    return vectors if len(rows) == len(vectors) else vectors[rows]
