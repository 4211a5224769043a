"""Vectors in memory, bounded; the least recently used leave first. Knows recipes and texts, no model; imports numpy."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.recipes import Recipe

DEFAULT_MAX_BYTES = 2**30

_ROWS_A_BLOCK = 1024  # at most
_BLOCKS = 512  # at least: a small cache has smaller blocks, so that little leaves at once
_BYTES_AN_ENTRY = (
    160  # what a vector costs beside itself and its text: an entry in a dict, two numbers, places in lists
)


@dataclass
class _Block:
    """Vectors of one recipe, written one after the other; what is forgotten together.

    One array and one list for a thousand vectors, so that nothing weighs on a single one but its entry in a dict.
    """

    recipe: Recipe
    vectors: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    texts: list[str] = field(default_factory=list)
    n_bytes: int = 0


class MemoryStore:
    """Vectors by recipe and text.

    They leave in blocks of at most 1,024 vectors, and at most 1/512 of what fits: first the block that was not used
    for longest.

    Parameters
    ----------
    max_bytes : int or None
        Most memory held: vectors, texts and what it takes to find them. None: 1 GiB.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
        self.n_bytes = 0
        self.n_hits = self.n_misses = 0  # of the texts that this process asked for
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, _Block] = OrderedDict()  # by number; the least recently used first
        self._open: dict[Recipe, int] = {}  # the block that the next vector of a recipe goes into
        self._place_of: dict[Recipe, dict[str, int]] = {}  # text -> number of its block * _ROWS_A_BLOCK + row in it
        self._next_number = 0

    def read(
        self, recipe: Recipe, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Fill in the rows of the texts that are known; return the positions of the others."""
        with self._lock:
            place_of = self._place_of.get(recipe, {})
            places = np.fromiter(map(place_of.get, texts, repeat(-1)), dtype=np.int64, count=len(texts))
            numbers, rows = np.divmod(places, _ROWS_A_BLOCK)
            for number, positions in positions_by_value(numbers):
                if number >= 0:
                    block, to, of = self._blocks[number], as_slice(positions), as_slice(rows[positions])
                    vectors[to], n_tokens[to] = block.vectors[of], block.n_tokens[of]
                    self._blocks.move_to_end(number)
        return np.flatnonzero(places < 0)

    def missing(self, recipe: Recipe, texts: Iterable[str]) -> NDArray[np.intp]:
        """Return the positions of the texts that are not known."""
        with self._lock:
            place_of = self._place_of.get(recipe, {})
            return np.flatnonzero([text not in place_of for text in texts])

    def write(
        self, texts: Sequence[str], n_tokens: NDArray[np.int64], vectors_by: Mapping[Recipe, NDArray[np.float32]]
    ) -> None:
        """Keep copies of the vectors of some texts by one or more recipes; a vector that is there already stays.

        Those of the last recipe count as used last.
        """
        with self._lock:
            for recipe, vectors in vectors_by.items():
                for text, n, vector in zip(texts, n_tokens, vectors, strict=True):
                    self._write_one(recipe, text, n, vector)

    def _write_one(self, recipe: Recipe, text: str, n_tokens: np.int64, vector: NDArray[np.float32]) -> None:
        n_bytes = vector.nbytes + sys.getsizeof(text) + _BYTES_AN_ENTRY
        place = self._place_of.get(recipe, {}).get(text)
        if place is not None:
            self._blocks.move_to_end(place // _ROWS_A_BLOCK)
            return
        if n_bytes > self.max_bytes:  # one that could never stay shall not drive out all others
            return
        while self.n_bytes + n_bytes > self.max_bytes:
            self._forget_block(next(iter(self._blocks)))
        number, row = divmod(self._new_place(recipe, text, n_bytes, vector.nbytes), _ROWS_A_BLOCK)
        block = self._blocks[number]
        block.vectors[row], block.n_tokens[row] = vector, n_tokens
        self._blocks.move_to_end(number)

    def _new_place(self, recipe: Recipe, text: str, n_bytes: int, n_vector_bytes: int) -> int:
        number = self._open.get(recipe)
        if number is None or self._is_full(self._blocks[number], n_bytes):
            number = self._open[recipe] = self._next_number
            self._next_number += 1
            n_rows = min(max(self.max_bytes // _BLOCKS // n_bytes, 1), _ROWS_A_BLOCK)
            vectors = np.empty((n_rows, n_vector_bytes // 4), dtype=np.float32)
            self._blocks[number] = _Block(recipe, vectors, np.empty(n_rows, dtype=np.int64))
        block = self._blocks[number]
        place = number * _ROWS_A_BLOCK + len(block.texts)
        block.texts.append(text)
        block.n_bytes += n_bytes  # kept, because the size of a text may grow once a tokenizer has read it
        self.n_bytes += n_bytes
        self._place_of.setdefault(recipe, {})[text] = place
        return place

    def _is_full(self, block: _Block, n_bytes: int) -> bool:
        is_heavy = block.n_bytes + n_bytes > self.max_bytes // _BLOCKS  # it may hold long texts
        return len(block.texts) == len(block.vectors) or is_heavy

    def _forget_block(self, number: int) -> None:
        block = self._blocks.pop(number)
        if self._open.get(block.recipe) == number:
            del self._open[block.recipe]
        place_of = self._place_of[block.recipe]
        for text in block.texts:
            del place_of[text]
        if not place_of:
            del self._place_of[block.recipe]
        self.n_bytes -= block.n_bytes

    def relatives(self, asked: Sequence[Recipe], texts: Iterable[str]) -> list[Recipe]:
        """List the recipes of the same family, but not among those asked for, that hold a vector of any text."""
        with self._lock:
            others = [other for other in self._place_of if other not in asked and other.family == asked[0].family]
            return [other for other in others if not self._place_of[other].keys().isdisjoint(texts)]

    def flight(self, fingerprint: str) -> AbstractContextManager[object]:  # noqa: ARG002 - memory is nobody else's
        """Return what keeps other processes from encoding the same texts at the same time: nothing need."""
        return nullcontext()

    def note_call(self, n_hits: int, n_misses: int) -> None:
        """Count how many texts of a call were known, and how many had to be encoded."""
        with self._lock:
            self.n_hits, self.n_misses = self.n_hits + n_hits, self.n_misses + n_misses

    def count(self) -> tuple[int, int]:
        """Count distinct texts, and bytes."""
        with self._lock:
            return len(set().union(*self._place_of.values())), self.n_bytes

    def size(self) -> tuple[int, int]:
        """Count vectors and bytes."""
        with self._lock:
            return sum(map(len, self._place_of.values())), self.n_bytes

    def limit(self) -> int:
        """Return the most bytes held."""
        return self.max_bytes

    def clear(self) -> None:
        """Forget everything, and count anew."""
        self.close()
        self.n_hits = self.n_misses = 0

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            self._blocks.clear()
            self._open.clear()
            self._place_of.clear()
            self.n_bytes = 0

    def before_fork(self) -> None:
        """Hold still, so that the child gets a store that nobody was about to change."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._lock.release()


def positions_by_value(values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Group positions by the value that stands there, each group in ascending order.

    Examples
    --------
    >>> [(value, positions.tolist()) for value, positions in positions_by_value(np.array([7, 2, 7]))]
    [(2, [1]), (7, [0, 2])]
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order])) + 1
    for positions in np.split(order, starts):
        if len(positions):
            yield int(values[positions[0]]), positions


def as_slice(positions: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """Return consecutive positions as a slice, which numpy copies much faster, and others as they are.

    Examples
    --------
    >>> as_slice(np.array([3, 4, 5])), as_slice(np.array([3, 5]))
    (slice(3, 6, None), array([3, 5]))
    """
    if len(positions) and positions[-1] - positions[0] == len(positions) - 1 and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions
