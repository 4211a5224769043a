"""Descriptions, labels and weights, as users give them, to what a classifier learns.

Imports scikit-learn and the reader of labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skembed.encoding.labels import (
    LabelSets,
    check_one_kind,
    has_several_labels,
    kind_of,
    place,
    read_label_sets,
    read_labels,
)
from skembed.encoding.texts import is_missing

_KEYS = "keys of descriptions"
_HOW_TO_ENCODE = (
    "scikit-learn encodes labels as integers in cross_val_predict of probabilities, in stacking, voting and "
    "calibration, and which label a number stands for cannot be known here. Encode both first: "
    "encoder = LabelEncoder().fit([*y, *descriptions]); y = encoder.transform(y); descriptions = {number: "
    "descriptions[label] for number, label in enumerate(encoder.classes_) if label in descriptions}."
)


def read_descriptions(descriptions: Any) -> tuple[list[Any], NDArray[Any]]:
    """Return all descriptions in one list, and the label of each."""
    if descriptions is None:
        return [], np.array([])
    if not isinstance(descriptions, Mapping):
        kind = type(descriptions).__name__
        raise TypeError(f"descriptions must be a mapping of labels to texts or lists of texts; got {kind}.")
    keys = read_labels(list(descriptions), "list(descriptions)")
    check_one_kind(keys, lambda position: f"list(descriptions)[{position}]")
    _check_discrete(keys)
    lists = [_list_descriptions(label, value) for label, value in descriptions.items()]
    texts, labels = [text for each in lists for text in each], keys.repeat([len(each) for each in lists])
    _check_texts_or_vectors(texts, labels)
    return texts, labels


def _check_texts_or_vectors(descriptions: list[Any], labels: NDArray[Any]) -> None:
    """Raise TypeError if some descriptions are texts and others vectors."""
    are_texts = [isinstance(each, str) for each in descriptions]
    if len(set(are_texts)) == 2:
        text, vector = labels[[are_texts.index(True), are_texts.index(False)]].tolist()
        raise TypeError(
            f"descriptions[{text!r}] is a text and descriptions[{vector!r}] is a vector; pass either texts or vectors."
        )


def _list_descriptions(label: Any, value: Any) -> list[Any]:
    """Return the descriptions of one label as a list."""
    if isinstance(value, (Mapping, pd.DataFrame)):
        kind = type(value).__name__
        raise TypeError(f"descriptions[{label!r}] is a {kind}; it must be a text or a list of texts.")
    texts = [value] if _is_single(value) else list(value)
    if not texts or (len(texts) == 1 and is_missing(texts[0])):
        raise ValueError(f"Label {label!r} has no description.")
    for position, text in enumerate(texts):
        where = f"descriptions[{label!r}]" + ("" if _is_single(value) else f"[{position}]")
        if is_missing(text):
            raise ValueError(f"{where} is missing.")
        if not isinstance(text, str) and not pd.api.types.is_list_like(text):
            raise TypeError(f"{where} is {type(text).__name__}, not str.")
    return texts


def _is_single(value: Any) -> bool:
    """Return whether a value of the mapping is one description, a text or a vector, rather than several."""
    is_vector = isinstance(value, (list, tuple, np.ndarray)) and all(isinstance(number, Real) for number in value)
    return not pd.api.types.is_list_like(value) or (is_vector and len(value) > 0)


def read_targets(y: Any, n_rows: int, keys: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return all classes, and what is learned of examples and of descriptions: labels, or rows of an indicator."""
    if y is None:
        raise ValueError(
            "SentenceEmbeddingClassifier requires y to be passed, but the target y is None. fit(None) uses the "
            "descriptions alone."
        )
    sets = read_label_sets(y, "y") if has_several_labels(y) else None
    labels = _read_one_label(y) if sets is None else sets.classes
    n_labels = len(labels if sets is None else sets.indicator)
    if n_labels != n_rows:
        raise ValueError(f"X has {n_rows} rows and y has {n_labels}; each example needs its label.")
    check_same_kind(labels, keys, "column" if sets is None else sets.origin)
    if sets is None:
        _check_not_encoded(labels, keys)
    classes = np.union1d(labels, keys) if len(keys) else np.unique(labels)
    if sets is None:
        return classes, [labels, keys]
    if sets.origin != "lists":  # predictions have the columns of y, so that scorers can compare them
        classes = np.concatenate([labels, np.setdiff1d(keys, labels)]) if len(keys) else labels
    of_one_label = np.eye(len(classes), dtype=np.int64)
    return classes, [to_indicator(sets, classes), of_one_label[pd.Index(classes).get_indexer(keys)]]


def _check_discrete(labels: NDArray[Any]) -> None:
    """Raise ValueError for numbers that are no classes."""
    if len(labels) and labels.dtype.kind == "f":  # for others it would warn where classes have one example each
        check_classification_targets(labels)


def to_indicator(sets: LabelSets, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return an indicator whose columns are all classes, among them those of the sets."""
    indicator = np.zeros((len(sets.indicator), len(classes)), dtype=np.int64)
    indicator[:, pd.Index(classes).get_indexer(sets.classes)] = sets.indicator
    return indicator


def _read_one_label(y: Any) -> NDArray[Any]:
    """Read one label a row, which scikit-learn accepts as a class."""
    if len(getattr(y, "shape", ())) == 2:
        column_or_1d(y, warn=True)
        y = y.iloc[:, 0] if isinstance(y, pd.DataFrame) else y
    labels = read_labels(y, "y")
    check_one_kind(labels, lambda position: place("y", y, position))
    _check_discrete(labels)
    return labels


def check_same_kind(labels: NDArray[Any], others: NDArray[Any], origin: str, named: str = _KEYS) -> None:
    """Raise TypeError if the labels in y and others, e.g. the keys of the descriptions, are of different types."""
    if not len(labels) or not len(others) or kind_of(labels) == kind_of(others):
        return
    if origin == "array" or (origin == "frame" and kind_of(labels) == "integers" and named == _KEYS):
        raise TypeError(
            f"y is an indicator, whose columns have no names, and the {named} are {kind_of(others)}. Pass a frame "
            "whose columns are the labels: pd.DataFrame(binarizer.fit_transform(y), columns=binarizer.classes_) with "
            "binarizer = MultiLabelBinarizer()."
        )
    is_perhaps_encoded = kind_of(labels) == "integers" and named == _KEYS and origin == "column"
    raise TypeError(
        f"The labels in y are {kind_of(labels)}, e.g. {labels[:1].tolist()[0]!r}, but the {named} are "
        f"{kind_of(others)}, e.g. {others[:1].tolist()[0]!r}. "
        + (_HOW_TO_ENCODE if is_perhaps_encoded else "All must be of one type.")
    )


def _check_not_encoded(labels: NDArray[Any], keys: NDArray[Any]) -> None:
    """Raise ValueError for labels 0, 1, 2 ... beside as many other integers as keys, such as numbers of stars."""
    classes, described = np.unique(labels), np.unique(keys)
    if len(keys) == 0 or kind_of(classes) != "integers" or len(classes) != len(described):
        return
    if (classes == np.arange(len(classes))).all() and (classes != described).any():
        raise ValueError(
            f"The labels in y are 0 to {classes.max()}, but the keys of descriptions are {len(described)} other "
            f"integers, from {described.min()} to {described.max()}. {_HOW_TO_ENCODE} If they are not encoded, "
            "use texts as labels."
        )


def check_differences(targets: list[NDArray[Any]]) -> None:
    """Raise ValueError if all examples and descriptions have the same label or labels."""
    rows = np.concatenate(targets)
    if (rows == rows[0]).all():
        what = "All rows of y have the same labels"
        if rows.ndim == 1 or rows.shape[1] == 1:
            what = "y has one class only" + (f", {rows[:1].tolist()[0]!r}" if rows.ndim == 1 else "")
        raise ValueError(f"{what}; there is no difference to learn. Add examples or descriptions of other labels.")


def check_empty(y: Any, sample_weight: Any) -> None:
    """Raise ValueError if there are labels or weights of no examples."""
    for name, values in (("y", y), ("sample_weight", sample_weight)):
        n_values = 0 if values is None else values.shape[0] if hasattr(values, "shape") else len(values)
        if n_values:
            raise ValueError(f"X has no rows, but {name} has {n_values}.")


def read_weights(sample_weight: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Read weights of examples; raise ValueError, which names the position, unless each is a finite number."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    weights = np.full(n_rows, weights) if weights.ndim == 0 else weights
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has the shape {weights.shape}; it must be ({n_rows},), a weight for each row of X."
        )
    is_bad = ~np.isfinite(weights)
    if is_bad.any():
        raise ValueError(f"{place('sample_weight', sample_weight, int(is_bad.argmax()))} is NaN or infinite.")
    return weights
