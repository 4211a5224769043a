"""Training examples: X and y of any container, read and checked. Imports texts and labels of the engine; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.containers import read_columns
from skembed.encoding.labels import has_several_labels, kind_of, place, read_label_sets, read_labels
from skembed.encoding.texts import MISSING, Texts, read_texts

# Kinds of examples, as messages call them.
KINDS = {
    "texts": "texts alone",
    "classes": "texts with class labels",
    "label_sets": "texts with several labels a row",
    "positives": "pairs that belong together",
    "scores": "pairs with scores",
    "binary": "pairs with 0 or 1",
    "pair_classes": "pairs with class labels",
    "triplets": "triplets",
}
_WITH_CLASSES = ("classes", "binary", "pair_classes")


@dataclass(frozen=True)
class TrainingData:
    """Examples of one kind, from which a model learns.

    Attributes
    ----------
    kind : str
        One of KINDS.
    columns : tuple of list of str
        One column of texts, two of pairs, or three of triplets (anchor, positive, negative), of equal length.
    labels : ndarray or None
        Scores as float64, shape (n_examples,); positions in ``classes`` as int64, shape (n_examples,); of several
        labels a row an indicator as int64, shape (n_examples, n_classes).
    classes : ndarray or None
        The distinct labels, sorted; those of an indicator in the order of its columns.
    """

    kind: str
    columns: tuple[list[str], ...]
    labels: NDArray[Any] | None = None
    classes: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    def take(self, rows: NDArray[np.intp]) -> TrainingData:
        """Return some of the examples, in the order of ``rows``."""
        columns = tuple([column[row] for row in rows.tolist()] for column in self.columns)
        return TrainingData(self.kind, columns, None if self.labels is None else self.labels[rows], self.classes)


def read_examples(X: Any, y: Any, *, missing: str) -> TrainingData:
    """Read training data from any container.

    Parameters
    ----------
    X : column of texts, or frame, array or list of rows with 2 or 3 columns of texts
        Texts, pairs or triplets.
    y : column of length n_examples or None
        As for :func:`make_examples`.
    missing : {"error", "empty", "zero", "nan"}
        What happens to an example with a missing text: "error" raises; "empty" reads it as the empty text; "zero" and
        "nan" leave the example out, because it teaches nothing.

    Returns
    -------
    TrainingData

    Raises
    ------
    TypeError, ValueError
        If a text or label is not what it must be, or X and y do not fit; the message names the position.
    """
    named = read_columns(X)
    if not 1 <= len(named) <= 3:
        raise ValueError(f"X has {len(named)} columns; texts come in one, pairs in two, triplets in three.")
    return make_examples([read_texts(column, name=name, missing=missing) for name, column in named], y)


def make_examples(columns: Sequence[Texts], y: Any) -> TrainingData:
    """Make training data of columns that were read; their number and y determine the kind of examples.

    Parameters
    ----------
    columns : sequence of 1 to 3 Texts
        Examples with a missing text are left out.
    y : column of length n_examples, indicator of shape (n_examples, n_labels), or None
        Floats are scores; strings and integers are classes; for a pair, 0 and 1 say whether it belongs together. Lists,
        tuples, sets and the rows of an indicator are the labels of a text.

    Returns
    -------
    TrainingData

    Raises
    ------
    TypeError, ValueError
        If a label is not what it must be, or columns and labels do not fit; the message names the position.
    """
    if y is None:
        kind, labels, classes = ("texts", "positives", "triplets")[len(columns) - 1], None, None
    elif has_several_labels(y):
        kind, (labels, classes) = "label_sets", _read_label_sets(y, len(columns[0]), len(columns))
    else:
        kind, labels, classes = _read_targets(y, len(columns[0]), len(columns))
    texts = tuple(np.array([*column.unique, None], dtype=object)[column.codes].tolist() for column in columns)
    examples = TrainingData(kind, texts, labels, classes)
    is_complete = np.all([column.codes != MISSING for column in columns], axis=0)
    if not is_complete.all():
        examples = examples.take(np.flatnonzero(is_complete))
    _check_targets(examples)
    return examples


def _read_label_sets(y: Any, n_rows: int, n_columns: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    sets = read_label_sets(y, "y")
    _check_length(len(sets.indicator), n_rows)
    if n_columns > 1:
        raise ValueError(
            f"y has several labels a row, and X has {n_columns} columns of texts. Several labels are learned of "
            "single texts; pass one column of texts, or one score or class for each pair."
        )
    if kind_of(sets.classes) == "floats":
        raise TypeError(f"y holds lists of floats, e.g. {sets.classes.tolist()[0]!r}; labels are strings or integers.")
    return sets.indicator, sets.classes


def _check_length(n_labels: int, n_rows: int) -> None:
    if n_labels != n_rows:
        raise ValueError(f"X has {n_rows} rows and y has {n_labels}; each example needs its label.")


def _read_targets(y: Any, n_rows: int, n_columns: int) -> tuple[str, NDArray[Any], NDArray[Any] | None]:
    labels = read_labels(y, "y")
    _check_length(len(labels), n_rows)
    if n_columns == 3:
        raise ValueError("X has three columns, which are triplets; these have no labels: pass y=None.")
    _check_types(labels, y)
    if labels.dtype.kind == "f":
        if n_columns == 1:
            raise ValueError(
                f"y holds floats, e.g. {labels.tolist()[0]!r}. Floats are scores of pairs, but X has one column of "
                "texts. If they are classes, pass strings or integers, e.g. y.astype(int); if they are scores, pass "
                "two columns in X, the texts that are compared."
            )
        if not np.isfinite(labels).all():
            row = int(np.argmin(np.isfinite(labels)))
            raise ValueError(f"{place('y', y, row)} is infinite; scores must be finite.")
        return "scores", labels.astype(np.float64), None
    classes, codes = np.unique(labels, return_inverse=True)
    is_binary = labels.dtype.kind in "iub" and set(classes.tolist()) <= {0, 1}
    if n_columns == 2 and is_binary:
        return "binary", labels.astype(np.int64), np.array([0, 1])
    return ("classes" if n_columns == 1 else "pair_classes"), codes.astype(np.int64), classes


def _check_types(labels: NDArray[Any], y: Any) -> None:
    """Raise TypeError unless all labels are strings, all integers or all floats."""
    if labels.dtype.kind in "fiubU":
        return
    types = [type(label) for label in labels.tolist()]
    for row, kind in enumerate(types):
        if not issubclass(kind, (str, int, float, np.str_)):
            raise TypeError(
                f"{place('y', y, row)} is {kind.__name__}; labels must be strings or integers, scores floats."
            )
        if kind is not types[0]:
            raise TypeError(
                f"y mixes labels of several types: {place('y', y, 0)} is {types[0].__name__}, {place('y', y, row)} is "
                f"{kind.__name__}. Convert them to one type, e.g. y.astype(str)."
            )


def _check_targets(examples: TrainingData) -> None:
    """Raise ValueError if there are no examples, or all have the same label."""
    if len(examples) == 0:
        raise ValueError("X has no texts to learn from.")
    labels, classes = examples.labels, examples.classes
    if labels is not None and (labels == labels[0]).all():
        if labels.ndim == 2:
            what = "All rows of y have the same labels"
        elif classes is None:
            what = f"All scores in y are {labels[0]:g}"
        else:
            what = f"y has one class only, {classes.tolist()[labels[0]]!r}"
        raise ValueError(f"{what}; there is no difference to learn.")


def split(examples: TrainingData, fraction: float, seed: int) -> tuple[TrainingData, TrainingData]:
    """Split examples into those for training and those for validation, by class as far as that is possible.

    Of each class, its share of the examples is set aside, rounded up or down at random, and at least one is kept.

    Parameters
    ----------
    examples : TrainingData
    fraction : float
        Share of the examples for validation, between 0 and 1.
    seed : int

    Returns
    -------
    for_training, for_validation : TrainingData

    Raises
    ------
    ValueError
        If no example can be set aside.
    """
    n, rng = len(examples), np.random.default_rng(seed)
    classes = np.zeros(n) if examples.labels is None or examples.kind not in _WITH_CLASSES else examples.labels
    order = np.lexsort([rng.random(n), classes])  # by class; at random within a class
    n_aside = int(np.ceil(fraction * n))
    is_aside = np.zeros(n, dtype=bool)  # of the ordered examples: every so many of them
    is_aside[((np.arange(n_aside) + rng.random()) * n / n_aside).astype(int)] = True
    is_first = np.append(True, np.diff(classes[order]) != 0)
    n_kept = np.add.reduceat(~is_aside, np.flatnonzero(is_first))
    is_aside[np.flatnonzero(is_first)[n_kept == 0]] = False
    if not is_aside.any():
        raise ValueError(
            f"early_stopping=True sets validation_fraction={fraction} of the {n} examples aside, and there are too few "
            "of each class to do so and keep one. Pass more examples, or early_stopping=False."
        )
    return examples.take(np.sort(order[~is_aside])), examples.take(np.sort(order[is_aside]))
