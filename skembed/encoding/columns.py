"""A column that is read once: texts or vectors, which model made them, and what its rows are called.

Imports texts and vectors.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.encoding.texts import Texts, about_column, name_row, read_texts
from skembed.encoding.vectors import holds_vectors, model_of, read_vectors


@dataclass(frozen=True)
class Column:
    """One column of texts or of vectors.

    Attributes
    ----------
    name : str
        What messages call the column.
    texts : Texts or None
        None for a column of vectors.
    vectors : ndarray of float32, shape (n_rows, dim), or None
        As they were given, missing rows are NaN; None for a column of texts.
    model : str or None
        Name and fingerprint of the model that made the vectors, if the column says so.
    labels : Index or None
        The index labels of the rows; None for containers without an index.
    own_name : hashable or None
        The name of a Series or of the one column of a frame.
    about : str
        What messages say last about the column, see :func:`skembed.encoding.texts.about_column`.
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
        """Name a row as the user knows it: its position, and its index label if there is one."""
        return name_row(self.name, self.labels, row)

    def to_objects(self) -> NDArray[np.object_]:
        """Return the texts, None where one is missing; of a column of vectors, None for each row."""
        if self.texts is None:
            return np.full(len(self), None, dtype=object)
        return np.array([*self.texts.unique, None], dtype=object)[self.texts.codes]

    def to_series(self) -> pd.Series[Any]:
        """Return the texts as a series with the column's index labels and name.

        Scikit-learn's vectorisers would read a frame as the list of its columns' names, and their messages name the
        series.
        """
        return pd.Series(self.to_objects(), index=self.labels, name=self.own_name)


def read_column(X: Any, name: str = "X", *, missing: str = "nan") -> Column:
    """Read a column of texts or of vectors from any container.

    Parameters
    ----------
    X : any container that ``read_texts`` or ``read_vectors`` takes
    name : str, default="X"
        What messages call the column.
    missing : {"error", "empty", "zero", "nan"}, default="nan"
        What a missing text becomes; see :func:`skembed.encoding.texts.read_texts`.

    Returns
    -------
    Column

    Raises
    ------
    TypeError, ValueError
        If a text or a vector is not what it must be; the message names the position.

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
    texts, vectors, model = None, None, None
    if holds_vectors(X):
        vectors, model = read_vectors(X), model_of(X)
    else:
        texts = read_texts(X, missing=missing, name=name)
    labels = X.index if isinstance(X, (pd.Series, pd.DataFrame)) else None
    one = X.iloc[:, 0] if isinstance(X, pd.DataFrame) and X.shape[1] == 1 else X
    own_name = one.name if isinstance(one, pd.Series) else None
    return Column(name, texts, vectors, model, labels, own_name, about_column(X) if name == "X" else "")


def plain_texts(X: Any, name: str = "X", *, missing: str = "nan") -> NDArray[np.object_]:
    """Read a column of texts from any container; None where a text is missing."""
    texts = read_texts(X, missing=missing, name=name)
    return np.array([*texts.unique, None], dtype=object)[texts.codes]
