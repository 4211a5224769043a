"""Reading columns of texts or of vectors, once, with their model and the labels of their rows.

Imports containers, texts and vectors.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.encoding.containers import about_column, name_row
from skembed.encoding.texts import MISSING, Texts, read_texts
from skembed.encoding.vectors import holds_vectors, is_one_vector, model_of, read_vectors


@dataclass(frozen=True)
class Column:
    """A column of texts or of vectors.

    Attributes
    ----------
    name : str
        Name of the column in messages.
    texts : Texts or None
        None for a column of vectors.
    vectors : ndarray of float32, shape (n_rows, dim), or None
        As they were given; missing rows are NaN. None for a column of texts.
    model : str or None
        Name and fingerprint of the model that made the vectors, if the column records it.
    labels : Index or None
        Index labels of the rows; None for containers without an index.
    own_name : hashable or None
        Name of a Series, or of the one column of a frame.
    about : str
        End of each message, see :func:`skembed.encoding.containers.about_column`.
    """

    name: str
    texts: Texts | None
    vectors: NDArray[np.float32] | None
    model: str | None
    labels: pd.Index | None
    own_name: Hashable | None
    about: str

    def __len__(self) -> int:
        if self.texts is not None:
            return len(self.texts)
        return 0 if self.vectors is None else len(self.vectors)

    def where(self, row: int) -> str:
        """Describe a row in a message: its position, and its index label if there is one."""
        return name_row(self.name, self.labels, row) if self.texts is None else self.texts.where(row)

    def sorted_by_text(self) -> tuple[Column, NDArray[np.intp]]:
        """Return the rows in the order of their texts, missing ones first, and the row from which each comes.

        A model that reads the texts in this order gives them the same vectors, to the last digit, whatever the order of
        the rows was. Columns of vectors stay as they are.
        """
        if self.texts is None:
            return self, np.arange(len(self))
        order = sorted(range(len(self.texts.unique)), key=self.texts.unique.__getitem__)
        place = np.empty(len(order) + 1, dtype=np.intp)
        place[order], place[-1] = np.arange(len(order)), MISSING  # the last one is that of the code of missing texts
        codes = place[self.texts.codes]
        rows = np.argsort(codes, kind="stable")
        labels = None if self.labels is None else self.labels.take(rows)
        unique = [self.texts.unique[code] for code in order]
        texts = replace(
            self.texts, unique=unique, codes=codes[rows], labels=labels, where_is=lambda row: self.where(int(rows[row]))
        )
        return replace(self, texts=texts, labels=labels), rows

    def to_objects(self) -> NDArray[np.object_]:
        """Return the texts, None for missing ones; for a column of vectors, None for each row."""
        if self.texts is None:
            return np.full(len(self), None, dtype=object)
        return np.array([*self.texts.unique, None], dtype=object)[self.texts.codes]

    def to_index(self, start: int = 0) -> pd.Index[Any]:
        """Return a copy of the index labels; without any, positions from ``start``."""
        return pd.RangeIndex(start, start + len(self)) if self.labels is None else self.labels.copy()

    def to_series(self) -> pd.Series[Any]:
        """Return the texts as a Series with the index labels and the name of the column.

        A Series, because scikit-learn's vectorizers read a frame as the list of its column names.
        """
        return pd.Series(self.to_objects(), index=self.labels, name=self.own_name)


def as_column(value: Any) -> Any:
    """Return one text or one vector as a column, and columns as they are.

    Examples
    --------
    >>> as_column("a text"), as_column([0.6, 0.8]), as_column(["a text"])
    (['a text'], [[0.6, 0.8]], ['a text'])
    """
    return [value] if is_single(value) else value


def is_single(value: Any) -> bool:
    """Return whether a value is one text or one vector. Numbers that are all NaN are a column of missing texts."""
    return isinstance(value, str) or (is_one_vector(value) and not np.isnan(value).all())


def read_column(X: Any, name: str = "X", *, missing: str = "nan") -> Column:
    """Read a column of texts or of vectors from any container.

    Parameters
    ----------
    X : any container that ``read_texts`` or ``read_vectors`` takes, or a Column
        A Column is returned as it is.
    name : str, default="X"
        Name of the column in messages.
    missing : {"error", "empty", "zero", "nan"}, default="nan"
        How missing texts are read; see :func:`skembed.encoding.texts.read_texts`.

    Returns
    -------
    Column

    Raises
    ------
    TypeError, ValueError
        If an element is not a text or a vector, as the others are; the message names its position.

    Examples
    --------
    >>> column = read_column(pd.Series(["a", None], index=[7, 8], name="title"))
    >>> column.to_objects().tolist(), column.where(1), column.own_name
    (['a', None], 'X[1] (index label 8)', 'title')
    >>> read_column([[0.6, 0.8], None]).vectors
    array([[0.6, 0.8],
           [nan, nan]], dtype=float32)
    """
    if isinstance(X, Column):
        return X
    X = list(X) if isinstance(X, (list, tuple)) else X  # iterated once, because what follows reads it several times
    labels = X.index if isinstance(X, (pd.Series, pd.DataFrame)) else None
    texts, vectors, model = None, None, None
    if holds_vectors(X):
        vectors, model = read_vectors(X, where=lambda row: name_row(name, labels, row)), model_of(X)
    else:
        texts = read_texts(X, missing=missing, name=name)
    series = X.iloc[:, 0] if isinstance(X, pd.DataFrame) and X.shape[1] == 1 else X
    own_name = series.name if isinstance(series, pd.Series) else None
    return Column(name, texts, vectors, model, labels, own_name, about_column(X) if name == "X" else "")
