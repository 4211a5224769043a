"""Pairs drawn from texts with labels, one a text or several: which are alike, and how far. Imports numpy and scipy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array, identity


class Partners:
    """Draws partners for rows with labels: rows that share labels with them, and rows that share none.

    Rows with the same label, or with the same set of labels, form a group.

    Parameters
    ----------
    labels : ndarray of int
        Classes, shape (n_rows,), or an indicator of several labels a row, shape (n_rows, n_classes).
    may_be_drawn : ndarray of bool, shape (n_rows,), default=None
        Which rows can be partners; None: all.
    """

    def __init__(self, labels: NDArray[np.int64], may_be_drawn: NDArray[np.bool_] | None = None) -> None:
        self._has_several = labels.ndim == 2
        groups, self.group_of = np.unique(labels, axis=0, return_inverse=True)
        # of each group; one label each makes it as large as the square of their number, unless it is sparse
        self._labels = csr_array(groups if self._has_several else identity(len(groups), dtype=np.int64))
        rows = np.arange(len(labels)) if may_be_drawn is None else np.flatnonzero(may_be_drawn)
        self._rows_of = _split_by(self.group_of[rows], rows, len(groups))
        by_label = self._labels.tocsc()
        self._groups_with = np.split(by_label.indices, by_label.indptr[1:-1])
        self._rows_with = [_join([self._rows_of[group] for group in groups]) for groups in self._groups_with]
        self._has_rows = np.array([len(rows) > 0 for rows in self._rows_of])

    def draw_alike(self, row: int, n: int, rng: np.random.Generator) -> list[int]:
        """Draw n other rows that share a label with a row, in turn for each of its labels; none if there is none."""
        pools = [self._rows_with[label] for label in self._labels_of(row)]
        return _deal([pool for pool in pools if len(pool)], n, row, rng)

    def draw_others(self, row: int, n: int, rng: np.random.Generator) -> list[int]:
        """Draw n rows that share no label with a row, in turn from each group, so that a small one gets its share.

        If all rows share a label with it, those with another set of labels; none if there is none.
        """
        is_other = self._has_rows.copy()
        is_other[self.group_of[row]] = False
        shares_none = is_other.copy()
        for label in self._labels_of(row):
            shares_none[self._groups_with[label]] = False
        groups = np.flatnonzero(shares_none if shares_none.any() else is_other)
        if len(groups) > n:
            groups = rng.choice(groups, n, replace=False)
        return _deal([self._rows_of[group] for group in groups], n, row, rng)

    def to_columns(
        self, texts: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> tuple[list[str], list[str], NDArray[Any]]:
        """Return the texts of pairs of rows, and how far they are alike; see :func:`draw_pairs`."""
        left, right = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        overlap = self._overlap(left, right)
        return (
            [texts[row] for row in left.tolist()],
            [texts[row] for row in right.tolist()],
            overlap if self._has_several else overlap.astype(np.int64),
        )

    def _overlap(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.float64]:
        """Compute how far the labels of rows overlap: the number of those they share over that of all they have.

        The coefficient of Jaccard (1912), The Distribution of the Flora in the Alpine Zone, New Phytologist 11.
        """
        counts = np.diff(self._labels.indptr)
        of_left, of_right = self.group_of[left], self.group_of[right]
        n_shared = self._labels[of_left].multiply(self._labels[of_right]).sum(axis=1)
        n_all = counts[of_left] + counts[of_right] - n_shared
        overlap: NDArray[np.float64] = np.divide(n_shared, n_all, out=np.zeros(len(left)), where=n_all > 0)
        return overlap

    def _labels_of(self, row: int) -> list[int]:
        group, bounds = self.group_of[row], self._labels.indptr
        labels: list[int] = self._labels.indices[bounds[group] : bounds[group + 1]].tolist()
        return labels


def draw_pairs(
    texts: Sequence[str], labels: NDArray[np.int64], n_pairs_per_text: int, rng: np.random.Generator
) -> tuple[list[str], list[str], NDArray[Any]]:
    """Pair each text with others that share a label with it, and with others that share none.

    Parameters
    ----------
    texts : sequence of str, length n_texts
    labels : ndarray of int
        Classes, shape (n_texts,), or an indicator of several labels a text, shape (n_texts, n_classes).
    n_pairs_per_text : int
        Half of them are with texts that share a label, if there are others, in turn for each label of the text; half
        with texts that share none, in turn from each class or set of labels. A partner is drawn again only when all
        others have been drawn, or, of those that share none, all others of its turn.
    rng : Generator

    Returns
    -------
    left, right : list of str, length n_pairs
    alike : ndarray, shape (n_pairs,)
        For classes, int: 1 for two texts of one class, 0 for texts of two classes. For several labels, float: from 0
        for no label in common to 1 for the same labels: the number of labels they share over that of all they have, the
        coefficient of Jaccard.

    Notes
    -----
    For one label a text as in SetFit: Tunstall et al. (2022), https://arxiv.org/abs/2209.11055. That pairs are alike
    as far as their labels overlap is from the Jaccard similarity contrastive loss of Lin, Qin, Wang, Zhou & Yang
    (2023), https://arxiv.org/abs/2212.00552.

    Examples
    --------
    >>> import numpy as np
    >>> draw_pairs(["a", "b", "c"], np.array([0, 0, 1]), 2, np.random.default_rng(0))
    (['a', 'a', 'b', 'b', 'c'], ['b', 'c', 'a', 'c', 'a'], array([1, 0, 1, 0, 0]))
    """
    _, group_of = np.unique(labels, axis=0, return_inverse=True)
    distinct = pd.DataFrame({"text": pd.Series(texts, dtype=object), "group": group_of}).drop_duplicates()
    texts, labels = distinct["text"].tolist(), labels[distinct.index]
    partners, pairs = Partners(labels), []
    for row in range(len(texts)):
        drawn = partners.draw_alike(row, n_pairs_per_text // 2, rng)
        drawn += partners.draw_others(row, -(-n_pairs_per_text // 2), rng)
        pairs += [(row, other) for other in drawn if texts[row] != texts[other]]  # a text may have two labels
    return partners.to_columns(texts, pairs)


def _deal(pools: Sequence[NDArray[np.intp]], n: int, without: int, rng: np.random.Generator) -> list[int]:
    """Draw n rows other than one, a row from each pool in turn; a row again only when all others were drawn."""
    drawn: list[int] = []
    while pools and len(drawn) < n:
        # of each pool as many as could be needed, if one of them is the row itself
        hands = [pool[rng.choice(len(pool), min(len(pool), n + 1), replace=False)] for pool in pools]
        turns = np.concatenate([np.arange(len(hand)) for hand in hands])
        rows = np.concatenate(hands)[np.lexsort([rng.random(len(turns)), turns])]
        fresh = [row for row in dict.fromkeys(rows.tolist()) if row != without]
        if not fresh:
            break
        drawn += fresh[: n - len(drawn)]
    return drawn


def _split_by(groups: NDArray[np.intp], rows: NDArray[np.intp], n_groups: int) -> list[NDArray[np.intp]]:
    order = np.argsort(groups, kind="stable")
    return np.split(rows[order], np.cumsum(np.bincount(groups, minlength=n_groups))[:-1])


def _join(parts: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    return np.concatenate([np.array([], dtype=np.intp), *parts])
