"""The documents of a search: their labels, texts, target and vectors, all of which can grow.

Imports the neighbours and growing arrays beside it, and scikit-learn.
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

from skembed.similarity.growing import GrowingArray, GrowingLabels
from skembed.similarity.neighbours import VectorIndex


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

    def __len__(self) -> int:
        return len(self.texts)

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


def _are_numbers(y: NDArray[Any]) -> bool:
    """Return whether y holds numbers rather than labels: floats that are not all whole, as for scikit-learn."""
    return str(type_of_target(y)).startswith("continuous")
