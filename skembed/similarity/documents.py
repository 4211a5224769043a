"""The documents of a search: their labels, texts, target and vectors, all of which can grow.

Imports the neighbours and growing arrays beside it, containers and scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import type_of_target

from skembed.encoding.containers import name_row, read_one_column
from skembed.encoding.distinct import blocks_of
from skembed.similarity.growing import GrowingArray, GrowingLabels
from skembed.similarity.neighbours import VectorIndex

_ROWS_PER_BLOCK = 8192


@dataclass(frozen=True)
class Documents:
    """All that a search has learned of its documents.

    Attributes
    ----------
    labels : GrowingLabels
        Index labels.
    texts : GrowingArray of str
        None for documents without a text.
    y : GrowingArray or None
        The target.
    classes : ndarray, shape (n_classes,), or None
        The labels in y, sorted; None if y is None or holds numbers.
    rows : GrowingArray of int
        Positions of the documents that have a vector.
    index : VectorIndex
        Index of their vectors.
    """

    labels: GrowingLabels
    texts: GrowingArray
    y: GrowingArray | None
    classes: NDArray[Any] | None
    rows: GrowingArray
    index: VectorIndex

    @classmethod
    def of(
        cls,
        labels: pd.Index[Any],
        texts: NDArray[np.object_],
        y: NDArray[Any] | None,
        rows: NDArray[np.intp],
        index: VectorIndex,
    ) -> Self:
        """Return documents from plain arrays.

        Raises
        ------
        TypeError
            If y holds labels that cannot be sorted.
        """
        classes = None if y is None or _are_numbers(y) else np.unique(y)
        target = None if y is None else GrowingArray(y)
        return cls(GrowingLabels(labels), GrowingArray(texts), target, classes, GrowingArray(rows), index)

    @cached_property
    def corpus(self) -> pd.DataFrame:
        """The texts under their index labels."""
        labels = self.labels.to_index()
        return pd.DataFrame({"text": pd.Series(self.texts.values, index=labels, dtype=object, copy=True)})

    @property
    def vectors(self) -> NDArray[np.float32]:
        """A copy of the vectors, NaN for documents without one; shape (n_documents, dim)."""
        index, code_of, rows = self.index.index, self.index.code_of, self.rows.values
        vectors = np.full((len(self), index.dim), np.nan, dtype=np.float32)
        for block in blocks_of(len(rows), _ROWS_PER_BLOCK):
            vectors[rows[block]] = index.take(code_of[block])
        return vectors

    def __getstate__(self) -> dict[str, Any]:  # whether the corpus was read changes no pickle
        return {name: value for name, value in vars(self).items() if name != "corpus"}

    def __len__(self) -> int:
        return len(self.texts)

    def among(self, where: Any) -> NDArray[np.intp] | None:
        """Return the rows of the index whose documents a filter lets pass; None if it lets all pass."""
        if where is None:
            return None
        rows = np.flatnonzero(read_filter(where, self.labels, len(self))[self.rows.values])
        return None if len(rows) == len(self.rows) else rows

    def appended(
        self,
        labels: pd.Index[Any],
        texts: NDArray[np.object_],
        y: NDArray[Any] | None,
        vectors: NDArray[np.float32],
    ) -> Self:
        """Return these and further documents, in time proportional to the further ones and the classes.

        Parameters
        ----------
        labels : Index
        texts : ndarray of str, shape (n_documents,)
        y : ndarray, shape (n_documents,), or None
        vectors : ndarray of float32, shape (n_documents, dim)
            NaN for documents without a vector.

        Raises
        ------
        TypeError, ValueError
            If y is not of the same kind as that of these documents.
        """
        target, classes = self._append_y(y)
        has_vector = ~np.isnan(vectors).any(axis=1)
        rows = self.rows.appended(len(self) + np.flatnonzero(has_vector))
        labels_, texts_ = self.labels.appended(labels), self.texts.appended(texts)
        index = self.index.appended(vectors[has_vector])  # last, because a graph keeps what it has got
        return type(self)(labels_, texts_, target, classes, rows, index)

    def _append_y(self, y: NDArray[Any] | None) -> tuple[GrowingArray | None, NDArray[Any] | None]:
        """Return y and classes of these and further documents."""
        if (y is None) != (self.y is None):
            raise ValueError("y must be given to partial_fit if, and only if, it was given to fit.")
        if y is None or self.y is None:
            return None, None
        target = self.y.appended(y)
        added = y.astype(target.values.dtype)
        were_numbers = self.classes is None
        are_numbers = added.dtype.kind == "f" and (were_numbers or _are_numbers(added))
        if were_numbers != are_numbers:
            raise ValueError("y must be of the same kind as in fit: numbers, or labels.")
        if self.classes is None:
            assert_all_finite(added, input_name="y")
            return target, None
        return target, np.union1d(self.classes, added)


def read_filter(where: Any, labels: GrowingLabels, n_documents: int) -> NDArray[np.bool_]:
    """Read which documents to look among.

    Parameters
    ----------
    where : column of bool, shape (n_documents,), or of int
        A mask, or positions, in any order and repeated or not.
    labels : GrowingLabels
        Index labels of the documents, which those of a mask must be, if it has any.
    n_documents : int

    Returns
    -------
    ndarray of bool, shape (n_documents,)

    Raises
    ------
    TypeError, ValueError
        If it is neither, a value is missing, a mask has another length or other index labels than the documents, or a
        position is beyond them; the message names the place.

    Examples
    --------
    >>> read_filter([2, 0, 2], GrowingLabels(pd.RangeIndex(4)), 4)
    array([ True, False,  True, False])
    """
    allowed = "a mask, with a bool for each document, or positions, which are integers"
    if isinstance(where, str) or not hasattr(where, "__iter__"):
        raise TypeError(f"where must be {allowed}; got {where!r:.80}.")
    own_labels = where.index if isinstance(where, pd.Series) else None
    column: Any = read_one_column(where, "where", None)
    if column.dtype == object:
        column = pd.Series(pd.array(column.tolist()))
    is_mask = pd.api.types.is_bool_dtype(column.dtype)
    if len(column) and not is_mask and not pd.api.types.is_integer_dtype(column.dtype):
        raise TypeError(f"where must be {allowed}; got values of the type {column.dtype}.")
    if column.hasnans:
        place = name_row("where", own_labels, int(column.isna().argmax()))
        raise ValueError(f"{place} is missing; say whether such documents pass, e.g. with where.fillna(False).")
    if is_mask:
        if len(column) != n_documents:
            raise ValueError(f"where has {len(column)} values for {n_documents} documents; a mask has one for each.")
        if own_labels is not None and not own_labels.equals(labels.to_index()):
            raise ValueError("where has other index labels than the corpus; pass it in its order, or as an array.")
        return column.to_numpy(dtype=bool)  # type: ignore[no-any-return]
    positions, passes = column.to_numpy(), np.zeros(n_documents, dtype=bool)
    is_beyond = (positions < 0) | (positions >= n_documents)
    if is_beyond.any():
        at = int(is_beyond.argmax())
        raise ValueError(
            f"{name_row('where', own_labels, at)} is {positions[at]}, but the {n_documents} documents have the "
            f"positions 0 to {n_documents - 1}."
        )
    passes[positions.astype(np.intp)] = True
    return passes


def _are_numbers(y: NDArray[Any]) -> bool:
    """Return whether y holds numbers rather than labels: floats that are not all whole, as for scikit-learn."""
    return str(type_of_target(y)).startswith("continuous")
