"""Columns of texts and labels as arrays, and the names of their rows for messages. Imports texts and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from skembed.encoding.texts import read_texts


def plain_texts(X: Any, name: str = "X", *, missing: str = "nan") -> NDArray[np.object_]:
    """Read a column of texts from any container; None where a text is missing."""
    texts = read_texts(X, missing=missing, name=name)
    return np.array([*texts.unique, None], dtype=object)[texts.codes]


def labelled_texts(X: Any, name: str) -> pd.Series[Any]:
    """Make a series of a column of texts: a frame would be a list of its columns' names to a TfidfVectorizer.

    It keeps index labels and the column's name, which stand in the messages of an embedder.
    """
    texts = plain_texts(X, name)  # refuses a frame of several columns
    column = X.iloc[:, 0] if isinstance(X, pd.DataFrame) else X
    labels, own_name = (column.index, column.name) if isinstance(column, pd.Series) else (None, None)
    return pd.Series(texts, index=labels, name=own_name)


def read_labels(y: Any, name: str) -> NDArray[Any]:
    """Read labels or numbers as they are, into an array of their own; a missing one is an error.

    numpy makes texts of all where some are, and scikit-learn floats of nullable integers.
    """
    rows = np.array([*y, None], dtype=object)[:-1] if isinstance(y, (list, tuple, pd.Series, pd.Index)) else y
    labels: NDArray[Any] = np.array(column_or_1d(rows))
    if labels.dtype == object:
        labels = pd.Series(labels).infer_objects().to_numpy()
    is_missing = pd.isna(labels)
    if is_missing.any():
        raise ValueError(f"{place(name, y, int(is_missing.argmax()))} is missing.")
    return labels


def place(name: str, X: Any, row: int) -> str:
    """Name a row as the user knows it: its position, and its index label if there is one."""
    has_labels = isinstance(X, (pd.Series, pd.DataFrame))
    return f"{name}[{row}]" + (f" (index label {X.index[row : row + 1].tolist()[0]!r})" if has_labels else "")
