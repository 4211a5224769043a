"""Training examples: X and y of any container, read and checked. Imports texts and labels of the engine; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from skembed.encoding.containers import read_columns
from skembed.encoding.labels import place, read_labels
from skembed.encoding.texts import MISSING, Texts, read_texts

# Kinds of examples, as messages call them.
KINDS = {
    "texts": "texts alone",
    "classes": "texts with class labels",
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
    labels : ndarray of shape (n_examples,) or None
        Scores as float64; positions in ``classes`` as int64.
    classes : ndarray or None
        The distinct labels, sorted.
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
    y : column of length n_examples or None
        Floats are scores; strings and integers are classes; for a pair, 0 and 1 say whether it belongs together.

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
    else:
        kind, labels, classes = _read_targets(y, len(columns[0]), len(columns))
    texts = tuple(np.array([*column.unique, None], dtype=object)[column.codes].tolist() for column in columns)
    examples = TrainingData(kind, texts, labels, classes)
    is_complete = np.all([column.codes != MISSING for column in columns], axis=0)
    if not is_complete.all():
        examples = examples.take(np.flatnonzero(is_complete))
    _check_targets(examples)
    return examples


def _read_targets(y: Any, n_rows: int, n_columns: int) -> tuple[str, NDArray[Any], NDArray[Any] | None]:
    labels = read_labels(y, "y")
    if len(labels) != n_rows:
        raise ValueError(f"X has {n_rows} rows and y has {len(labels)}; each example needs its label.")
    if n_columns == 3:
        raise ValueError("X has three columns, which are triplets; these have no labels: pass y=None.")
    _check_types(labels, y)
    if labels.dtype.kind == "f":
        if n_columns == 1:
            raise ValueError(
                "y holds floats, which are scores of pairs, but X has one column of texts. Class labels are strings or "
                "integers, e.g. y.astype(int); scores need two columns in X, the texts that are compared."
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
        one_class = "" if classes is None else f"y has one class only, {classes.tolist()[labels[0]]!r}"
        raise ValueError(f"{one_class or f'All scores in y are {labels[0]:g}'}; there is no difference to learn.")


def split(examples: TrainingData, fraction: float, seed: int) -> tuple[TrainingData, TrainingData]:
    """Split examples into those for training and those for validation, stratified by class.

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
        If there are too few examples of a class for both.
    """
    stratify = examples.labels if examples.kind in _WITH_CLASSES else None
    try:
        kept, aside = train_test_split(
            np.arange(len(examples)), test_size=fraction, random_state=seed, shuffle=True, stratify=stratify
        )
    except ValueError as error:
        raise ValueError(
            f"early_stopping=True sets validation_fraction={fraction} of the {len(examples)} examples aside, and there "
            f"are too few: {error} Pass more examples, a larger fraction, or early_stopping=False."
        ) from error
    return examples.take(np.sort(kept)), examples.take(np.sort(aside))


def draw_pairs(
    texts: Sequence[str], labels: NDArray[np.int64], n_pairs_per_text: int, rng: np.random.Generator
) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Pair each text with others of its class and of other classes.

    Parameters
    ----------
    texts : sequence of str, length n_texts
    labels : ndarray of int, shape (n_texts,)
    n_pairs_per_text : int
        Half of them are of the same class, if that has other texts. A partner is drawn again only when all others have
        been drawn.
    rng : Generator

    Returns
    -------
    left, right : list of str, length n_pairs
    same : ndarray of int, shape (n_pairs,)
        1 for two texts of one class, 0 for texts of two classes.

    Notes
    -----
    As in SetFit: Tunstall et al. (2022), https://arxiv.org/abs/2209.11055.

    Examples
    --------
    >>> import numpy as np
    >>> draw_pairs(["a", "b", "c"], np.array([0, 0, 1]), 2, np.random.default_rng(0))
    (['a', 'a', 'b', 'b', 'c'], ['b', 'c', 'a', 'c', 'b'], array([1, 0, 1, 0, 0]))
    """
    distinct = pd.DataFrame({"text": pd.Series(texts, dtype=object), "label": labels}).drop_duplicates()
    texts, labels = distinct["text"].tolist(), distinct["label"].to_numpy()
    left, right, same = [], [], []
    for label in np.unique(labels):
        inside, outside = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        for position, row in enumerate(inside.tolist()):
            others = np.delete(inside, position)
            for is_same, partners, n in ((1, others, n_pairs_per_text // 2), (0, outside, -(-n_pairs_per_text // 2))):
                for partner in _in_turn(partners, n, rng):
                    if texts[partner] != texts[row]:  # a text with two labels does not differ from itself
                        left.append(texts[row])
                        right.append(texts[partner])
                        same.append(is_same)
    return left, right, np.array(same, dtype=np.int64)


def _in_turn(partners: NDArray[np.intp], n: int, rng: np.random.Generator) -> list[int]:
    """Draw n rows; a row is drawn again only when all others have been drawn."""
    if len(partners) == 0:
        return []
    rounds = [rng.permutation(partners) for _ in range(n // len(partners))]
    rest = rng.choice(partners, n % len(partners), replace=False)
    drawn: list[int] = np.concatenate([*rounds, rest]).tolist()
    return drawn
