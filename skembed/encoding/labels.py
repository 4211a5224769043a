"""Reading labels, which an estimator learns. Imports containers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from skembed.encoding.containers import name_row


def read_labels(y: Any, name: str) -> NDArray[Any]:
    """Read labels or numbers into a new array, without changing their types.

    ``np.asarray`` would turn mixed values into strings, and scikit-learn would turn nullable integers into floats.

    Parameters
    ----------
    y : list, tuple, ndarray, Series or Index
    name : str
        Name of the labels in messages.

    Returns
    -------
    ndarray, shape (n_rows,)

    Raises
    ------
    ValueError
        If a label is missing; the message names its position.

    Examples
    --------
    >>> read_labels(pd.array([1, 0], dtype="Int64").tolist(), "y")
    array([1, 0])
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
    """Describe a row of any container in a message: its position, and its index label if there is one."""
    return name_row(name, X.index if isinstance(X, (pd.Series, pd.DataFrame)) else None, row)
