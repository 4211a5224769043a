"""Arrays, sorted pairs and index labels that grow in time proportional to what is added. Imports numpy and pandas.

Each is a value: ``appended`` returns a new one, and the old one stays as it was, so that an interrupt between the two
leaves nothing half done. Large parts are shared by both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_LARGER = 8  # a part so many times as large as what is added is left as it is; smaller ones are merged with it


@dataclass
class _Memory:
    """Memory that several arrays share; the first ``n_used`` rows are taken."""

    array: NDArray[Any]
    n_used: int


class GrowingArray:
    """An array with room behind it.

    Memory without room is replaced by twice as much, so that rows are copied twice on average, at most. While they are
    copied, both are there. An array that grows a second time, because the first addition was interrupted or was made to
    a copy, does so in new memory.

    Parameters
    ----------
    values : ndarray, shape (n_rows, ...)

    Attributes
    ----------
    values : ndarray, shape (n_rows, ...)
        A view of the memory.

    Examples
    --------
    >>> some = GrowingArray(np.array([1, 2]))
    >>> more = some.appended(np.array([3]))
    >>> some.values, more.values
    (array([1, 2]), array([1, 2, 3]))
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self._memory = values, _Memory(values, len(values))

    def __len__(self) -> int:
        return len(self.values)

    def __reduce__(self) -> Any:  # without the room
        return type(self), (self.values,)

    def appended(self, values: NDArray[Any]) -> Self:
        """Return an array with further rows, of a type that holds both."""
        n, n_all = len(self), len(self) + len(values)
        memory, dtype = self._memory, np.result_type(self.values.dtype, values.dtype)
        if memory.n_used != n or len(memory.array) < n_all or memory.array.dtype != dtype:
            memory = _Memory(np.empty((max(n_all, 2 * n), *self.values.shape[1:]), dtype), n)
            memory.array[:n] = self.values
        memory.n_used = n_all  # before they are written: from here on, nobody else writes there
        memory.array[n:n_all] = values
        grown = type(self)(memory.array[:n_all])
        grown._memory = memory
        return grown


class SortedPairs:
    """Pairs of a key and a value, sorted by key, to look up all values of a key in the order of their addition.

    They are sorted in a few runs, each many times as large as the next. What is added is sorted and merged with the
    small runs alone, so that a pair is merged about log(n) times in all.

    Parameters
    ----------
    keys : ndarray of int, shape (n,)
    values : ndarray, shape (n,)

    Examples
    --------
    >>> pairs = SortedPairs(np.array([7, 5, 7]), np.array([0, 1, 2])).appended(np.array([7]), np.array([3]))
    >>> pairs.take(*pairs.find(np.array([6, 7])))
    (array([1, 1, 1]), array([0, 2, 3]))
    """

    def __init__(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        order = np.argsort(keys, kind="stable")
        self._runs = [(keys[order], values[order])]

    def appended(self, keys: NDArray[Any], values: NDArray[Any]) -> Self:
        """Return these and further pairs."""
        if not len(keys):
            return self
        grown, runs = type(self)(keys, values), list(self._runs)
        keys, values = grown._runs[0]
        while runs and len(runs[-1][0]) < _LARGER * len(keys):
            older, its_values = runs.pop()
            places = np.searchsorted(older, keys, side="right")  # behind equal ones, which were there before
            keys, values = np.insert(older, places, keys), np.insert(its_values, places, values)
        grown._runs = [*runs, (keys, values)]
        return grown

    def find(self, keys: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find where the values of keys are.

        Parameters
        ----------
        keys : ndarray of int, any shape

        Returns
        -------
        starts, counts : ndarray of int, shape (n_runs, *keys.shape)
            Place of the first value of a key in each run, and the number of its values there.
        """
        starts = np.stack([np.searchsorted(run, keys) for run, _ in self._runs])
        return starts, np.stack([np.searchsorted(run, keys, side="right") for run, _ in self._runs]) - starts

    def take(self, starts: NDArray[np.intp], counts: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return values that ``find`` has found, or with smaller counts the first of them.

        Returns
        -------
        key_of : ndarray of int, shape (n_values,)
            Position of each value's key in the flat array of the keys that were asked for.
        values : ndarray, shape (n_values,)
        """
        key_of, found = [], []
        for (_, values), start, count in zip(self._runs, starts.reshape(len(starts), -1), counts, strict=True):
            n_each = count.ravel()
            key_of.append(np.repeat(np.arange(len(n_each)), n_each))
            first = np.cumsum(n_each) - n_each  # place of each key's first value among those that are taken
            found.append(values[np.repeat(start - first, n_each) + np.arange(n_each.sum())])
        return np.concatenate(key_of), np.concatenate(found)


class GrowingLabels:
    """Index labels in a few parts, each many times as large as the next.

    All parts have the type that pandas chooses for all labels. Where further labels change it, all are converted.

    Parameters
    ----------
    labels : Index

    Examples
    --------
    >>> labels = GrowingLabels(pd.Index(["a", "b"], dtype=object)).appended(pd.RangeIndex(2, 4))
    >>> labels.take(np.array([3, 0])).tolist(), labels.to_index().tolist()
    ([3, 'a'], ['a', 'b', 2, 3])
    """

    def __init__(self, labels: pd.Index[Any]) -> None:
        self._parts = [labels]

    def appended(self, labels: pd.Index[Any]) -> Self:
        """Return these and further labels."""
        if not len(labels):
            return self
        last = self._parts[-1][-1:]
        if _holds_objects(last):
            last = pd.Index([""], dtype=object, name=last.name)  # where all are numbers, pandas would change the type
        joined = last.append(labels)
        if _kind(joined) != _kind(last):
            return type(self)(self.to_index().append(labels))
        parts, added = list(self._parts), joined[1:]
        while parts and len(parts[-1]) < _LARGER * len(added):
            added = _join([parts.pop(), added])
        grown = type(self)(added)
        grown._parts = [*parts, added]
        return grown

    def to_index(self) -> pd.Index[Any]:
        """Return all labels."""
        return _join(self._parts)

    def take(self, positions: NDArray[np.intp]) -> pd.Index[Any]:
        """Return some labels."""
        ends = np.cumsum([len(part) for part in self._parts])
        part_of = np.searchsorted(ends, positions, side="right")
        by_part = np.argsort(part_of, kind="stable")
        taken = [
            part.take(positions[part_of == number] - (ends[number] - len(part)))
            for number, part in enumerate(self._parts)
        ]
        return _join(taken).take(np.argsort(by_part))


def _kind(labels: pd.Index[Any]) -> Any:
    """Return what labels have in common that can be appended without converting the others."""
    return labels.names, [labels.get_level_values(level).dtype for level in range(labels.nlevels)]


def _holds_objects(labels: pd.Index[Any]) -> bool:
    return labels.nlevels == 1 and labels.dtype == object


def _join(parts: list[pd.Index[Any]]) -> pd.Index[Any]:
    """Join labels of one type, which they keep."""
    if _holds_objects(parts[0]):  # pandas would make numbers of objects that are all numbers
        values = np.concatenate([part.to_numpy() for part in parts])
        return pd.Index(values, dtype=object, name=parts[0].name, tupleize_cols=False)
    return parts[0].append(parts[1:])
