"""Labels of rows: what a model learns, and what messages call a row. Imports the names of rows from texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from skembed.encoding.texts import name_row


def read_labels(y: Any, name: str) -> NDArray[Any]:
    """Read labels or numbers as they are into a new array; a missing one is an error.

    ``np.asarray`` would turn mixed values into strings, and scikit-learn nullable integers into floats.
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
    """Name a row of any container: its position, and its index label if there is one."""
    return name_row(name, X.index if isinstance(X, (pd.Series, pd.DataFrame)) else None, row)
