"""One run of ``skembed.predict_parquet``: what a fitted estimator gives for the rows of files.

Imports pyarrow, scikit-learn, the vector column, and the job and the source beside it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from skembed.files.job import Job, check_column, check_new_column
from skembed.files.sources import Chunk, Source, read_chunks
from skembed.frames.vectors import vector_type

CLASSES_KEY = "skembed.classes"  # in the metadata of the field: the class of each number of a list, as JSON
METHODS = ("predict", "predict_proba", "decision_function", "transform")

_ROW = re.compile(r"\[(\d+)\] \(index label")  # as messages of skembed name a row


class PredictionJob(Job):
    """The predictions of an estimator for the rows of a source.

    Parameters
    ----------
    source : Source
    columns : str or list of str
        Of one name the estimator gets a Series, of a list a frame.
    output : str
        Name of the column that is added.
    estimator : estimator
        Fitted.
    method : str
        One of METHODS.
    identity : str
        Digest that tells this estimator from others.
    show_progress_bar : bool or "auto"
    """

    doing = "Predicting"

    def __init__(
        self,
        source: Source,
        columns: str | list[str],
        output: str,
        estimator: Any,
        method: str,
        identity: str,
        show_progress_bar: bool | str,
    ) -> None:
        self.names = [columns] if isinstance(columns, str) else columns
        for name in self.names:
            check_column(source.schema, name)
        check_new_column(source.schema, output, "output")
        check_is_fitted(estimator)
        self.columns, self.method, self.identity = columns, method, identity
        self._call = _method_of(estimator, method)
        field = self._new_field(source, output, estimator)
        super().__init__(source, source.schema.append(field), type(estimator).__name__, show_progress_bar)

    def settings(self) -> dict[str, Any]:
        """Return everything that determines the rows of the destination, in types that JSON has."""
        return {
            "columns": [f"{field.name}: {field.type}" for field in self.schema],
            "column": self.columns,
            "method": self.method,
            "estimator": self.identity,
        }

    def compute(self, chunk: Chunk, bar: Any) -> pa.Array:
        """Return the predictions of a chunk."""
        predicted, kind = self._predict(chunk), self.schema.field(-1).type
        try:
            array = _to_arrow(predicted, kind)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise TypeError(
                f"{self.method} gives values of type {kind} for the first row of the source, and others in the rows "
                f"from {chunk.where(0)} on: {error}"
            ) from error
        bar.update(len(array))
        return array

    def _new_field(self, source: Source, output: str, estimator: Any) -> pa.Field:
        """Return the field of the predictions, from that of the first row; of a source without rows, of type null."""
        chunk = next(read_chunks(source, 0, 1, 1, 1), None)
        if chunk is None:
            return pa.field(output, pa.null())
        kind = _to_arrow(self._predict(chunk)).type
        classes = getattr(estimator, "classes_", None)
        if self.method == "predict_proba" and isinstance(classes, np.ndarray):  # those of several outputs are a list
            return pa.field(output, kind, metadata={CLASSES_KEY: json.dumps(classes.tolist(), default=str)})
        return pa.field(output, kind)

    def _predict(self, chunk: Chunk) -> Any:
        """Call the estimator; an error about a row names its file and its number there."""
        n_rows = len(chunk.table)
        frame = chunk.table.select(self.names).to_pandas(types_mapper=vector_type, ignore_metadata=True)
        try:
            predicted = self._call(frame[self.columns])
        except (TypeError, ValueError) as error:
            named = _ROW.search(str(error))
            row = int(named[1]) if named and int(named[1]) < n_rows else None
            where = f"in the rows from {chunk.where(0)} on" if row is None else f"at {chunk.where(row)}"
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self.method} fails {where}: {error}") from error
        try:
            shape = np.shape(predicted)
        except ValueError:  # arrays of different shapes, one for each output
            shape = ()
        if shape[:1] != (n_rows,) or len(shape) > 2 or issparse(predicted):
            of_outputs = "a list of arrays" if isinstance(predicted, list) else f"values of shape {shape}"
            what = "a sparse matrix" if issparse(predicted) else of_outputs
            raise ValueError(
                f"{self.method} gives {what} for {n_rows} rows; a number, a text or a vector each is needed."
            )
        return predicted


def read_names(column: Any) -> str | list[str]:
    """Return the name of one column, or a list of the names of several; raise for anything else."""
    if isinstance(column, str):
        return column
    if not isinstance(column, (list, tuple)) or not all(isinstance(name, str) for name in column):
        raise TypeError(f"column must be a name or a list of names; got {column!r}.")
    if not column or len({*column}) < len(column):
        raise ValueError(f"column must name one column, or several different ones; got {column!r}.")
    return [*column]


def _method_of(estimator: Any, method: str) -> Any:
    found = [name for name in METHODS if hasattr(estimator, name)]
    if method not in found:
        raise ValueError(f"{type(estimator).__name__} has no method {method!r}; it has {', '.join(found) or 'none'}.")
    return getattr(estimator, method)


def _to_arrow(predicted: Any, kind: pa.DataType | None = None) -> pa.Array:
    """Return predictions as an Arrow array; vectors whose numbers are all NaN are null."""
    values = np.asarray(predicted)
    if values.ndim == 1:
        array = pa.array(values)
        return array if kind is None else array.cast(kind)  # raises where a number would be cut
    is_missing = np.isnan(values).all(axis=1) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    mask = pa.array(is_missing) if is_missing.any() else None
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1], mask=mask)
    return lists if kind is None else lists.cast(kind)
