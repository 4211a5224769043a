"""What the displays read: columns, texts, vectors, features and topics.

Imports embedders and projections; matplotlib when it is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline

from skembed.embedders import read_column_for, unit_vectors
from skembed.encoding.columns import Column, read_column
from skembed.encoding.containers import read_one_column as read_one_column  # the displays find it here
from skembed.optional import require
from skembed.plotting.projections import check_method


def import_pyplot(display: type) -> Any:
    """Import and return pyplot; raise ImportError naming the extra if matplotlib is not installed."""
    return require("matplotlib.pyplot", extra="plot", needed_by=display.__name__)


def check_can_draw(display: type, method: str) -> None:
    """Raise, before minutes of embedding, what would be raised after them."""
    import_pyplot(display)
    check_method(method)


def read_positions(positions: Any) -> NDArray[np.float64]:
    """Read the positions of points; raise ValueError if no row has one."""
    array: NDArray[np.float64] = np.asarray(positions, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"positions must have the shape (n_rows, 2); got {array.shape}.")
    if np.isnan(array).any(axis=1).all():
        raise ValueError("No row has a position.")
    return array


def placed_rows(positions: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows that have a position."""
    return np.flatnonzero(~np.isnan(positions).any(axis=1))


def read_topics(topics: Any, length: int) -> NDArray[np.intp]:
    """Read the topic of each row; missing ones and negative numbers are -1."""
    column = read_one_column(topics, "topics", length)
    if column is None or not (pd.api.types.is_integer_dtype(column.dtype) or column.isna().all()):
        raise TypeError("topics must be whole numbers, one for each row, and -1 for none.")
    numbers: NDArray[np.intp] = np.maximum(column.fillna(-1).to_numpy(np.intp), -1)
    return numbers


def read_names(names: Any, topics: NDArray[np.intp]) -> pd.Series[Any]:
    """Read the names of topics, by number; a topic without one is called "topic 3"."""
    given = pd.Series([] if names is None else names, dtype=object)
    if not given.index.is_unique:
        raise ValueError("names must have one name for each topic; its index has duplicates.")
    numbers = np.unique(topics[topics >= 0])
    plain = pd.Series([f"topic {number}" for number in numbers], index=numbers, dtype=object)
    return given.reindex(numbers).fillna(plain)


def index_of(X: Any) -> pd.Index[Any] | None:
    """Return the index labels of pandas data; None for other containers."""
    return X.index.to_flat_index() if isinstance(X, (pd.Series, pd.DataFrame)) else None


def with_index_of(X: Any, vectors: NDArray[Any]) -> NDArray[Any] | pd.DataFrame:
    """Return vectors with the index labels of X, if it has any."""
    return vectors if index_of(X) is None else pd.DataFrame(vectors, index=index_of(X))


def read_texts(texts: Any, name: str, embedder: Any = None) -> Column:
    """Read a column of texts as an embedder needs it; raise TypeError for vectors."""
    column = read_column_for(embedder, texts, name)
    if column.texts is None:
        raise TypeError(f"{name} holds vectors, not texts; use from_embeddings.")
    return column


def texts_or_none(X: Any) -> NDArray[np.object_] | None:
    """Return the texts of a column; None if it is not a column of texts."""
    try:
        return read_texts(X, "X").to_objects()
    except (TypeError, ValueError):
        return None


def read_vector_column(X: Any, name: str) -> Column:
    """Read a column of vectors; raise TypeError for texts."""
    column = read_column(X, name)
    if column.texts is not None and column.texts.unique:
        raise TypeError(f"{name} holds texts, not vectors; use from_texts.")
    return column


def find_predictor(estimator: Any) -> Any:
    """Return the estimator, or the last step of a pipeline, if it predicts; else None."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return last if hasattr(last, "predict") or hasattr(last, "fit_predict") else None


def find_topic_model(estimator: Any) -> Any:
    """Return the fitted topic model, or that at the end of a pipeline; raise TypeError if there is none."""
    model = find_predictor(getattr(estimator, "best_estimator_", estimator))
    if not hasattr(model, "topics_"):
        raise TypeError(f"{type(estimator).__name__} holds no fitted TopicModel.")
    return model


def compute_features(estimator: Any, X: Any) -> Any:
    """Compute the output of a transformer, or the input of what predicts, for X."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    predictor = find_predictor(estimator)
    if predictor is None:
        features = estimator.transform(X)
    else:
        has_steps_before = isinstance(estimator, Pipeline) and len(estimator) > 1
        features = estimator[:-1].transform(X) if has_steps_before else X
        texts = texts_or_none(features) if hasattr(predictor, "embedder") else None
        if texts is not None:
            features = unit_vectors(texts, getattr(predictor, "embedder_", predictor.embedder))  # the fitted one first
        elif not has_steps_before:
            return X
    return with_index_of(X, features.toarray() if issparse(features) else np.asarray(features))
