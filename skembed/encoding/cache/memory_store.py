"""Vectors in memory, bounded; the least recently used leave first. Knows recipes and texts, no model; imports numpy."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count, islice, repeat

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import as_slice, positions_by_value
from skembed.encoding.recipes import Recipe

DEFAULT_MAX_BYTES = 2**30

_ROWS_PER_BLOCK = 1024  # at most
_BLOCKS = 512  # at least: a small cache has smaller blocks, so that little leaves at once
_BYTES_PER_ENTRY = (
    160  # what a vector costs beside itself and its text: an entry in a dict, two numbers, places in lists
)
_BYTES_PER_RECIPE = 2048  # what a recipe costs beside its prompt: itself, its shelf, a dict, a block with two arrays


def _row_bytes(dim: int) -> int:
    return 4 * dim + _BYTES_PER_ENTRY


@dataclass(eq=False)
class _Block:
    """Vectors of one recipe, written one after the other; what is forgotten together.

    One array and one list for a thousand vectors, so that nothing weighs on a single one but its entry in a dict.
    A row counts once its text is in the list, which comes after its vector.
    """

    number: int
    shelf: _Shelf
    n_rows: int  # at most; the arrays grow up to there
    vectors: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    texts: list[str] = field(default_factory=list)
    n_bytes: int = 0

    def make_room(self, n_rows: int) -> None:
        """Let the arrays hold so many rows."""
        if n_rows <= len(self.vectors):
            return
        n_more = len(self.vectors) // (8 if len(self.vectors) < 64 else 4) + 1  # free rows are not counted: few
        n_rows = min(max(len(self.vectors) + n_more, n_rows), self.n_rows)
        vectors, n_tokens = np.empty((n_rows, self.vectors.shape[1]), np.float32), np.empty(n_rows, np.int64)
        vectors[: len(self.vectors)], n_tokens[: len(self.n_tokens)] = self.vectors, self.n_tokens
        self.n_tokens = n_tokens
        self.vectors = vectors  # the last, because its length is taken for that of both


@dataclass(eq=False)
class _Shelf:
    """What a recipe holds: where each text's vector is, and the block that the next one goes into."""

    recipe: Recipe
    place_of: dict[str, int] = field(default_factory=dict)  # text -> number of its block * _ROWS_PER_BLOCK + row in it
    open: _Block | None = None

    @property
    def n_bytes(self) -> int:
        """What it takes beside its vectors."""
        return _BYTES_PER_RECIPE + sys.getsizeof(self.recipe.prompt)


class _Held:
    """All that a store holds, in one object, so that it can be exchanged in one step.

    An operation may be cut short at any line by Ctrl-C, or a signal handler may begin another one in the middle of it.
    Both leave ``is_at_rest`` False, and then :meth:`rebuilt` makes a new object of what the blocks hold for certain.
    """

    def __init__(self) -> None:
        self.blocks: OrderedDict[int, _Block] = OrderedDict()  # by number; the least recently used first
        self.shelves: dict[Recipe, _Shelf] = {}  # without empty ones
        self.n_bytes = 0
        self.next_number = 0
        self.is_at_rest = True

    def rebuilt(self) -> _Held:
        """Return the same once more, sharing no more than arrays, whose free rows stay free."""
        other = _Held()
        other.next_number = self.next_number + 1  # the number may be taken, and not yet counted
        for number, block in list(self.blocks.items()):
            texts, row_bytes = list(block.texts), _row_bytes(block.vectors.shape[1])
            if not texts:
                continue
            shelf = other.shelves.get(block.shelf.recipe)
            if shelf is None:
                shelf = other.shelves[block.shelf.recipe] = _Shelf(block.shelf.recipe)
                other.n_bytes += shelf.n_bytes
            shelf.place_of.update(
                zip(texts, range(number * _ROWS_PER_BLOCK, (number + 1) * _ROWS_PER_BLOCK), strict=False)
            )
            n_bytes = sum(map(sys.getsizeof, texts)) + len(texts) * row_bytes
            other.blocks[number] = _Block(number, shelf, len(texts), block.vectors, block.n_tokens, texts, n_bytes)
            other.n_bytes += n_bytes
        return other


class MemoryStore:
    """Vectors by recipe and text.

    They leave in blocks of at most 1,024 vectors, and at most 1/512 of what fits: first the block that was not used
    for longest.

    Parameters
    ----------
    max_bytes : int or None
        Most memory held: vectors, texts, recipes and what it takes to find them. None: 1 GiB.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
        self._calls = 0, 0  # hits and misses, exchanged in one step
        self._lock = threading.RLock()  # a signal handler may ask the store that its thread is asking already
        self._held = _Held()

    @property
    def n_bytes(self) -> int:
        """The memory that is held."""
        with self._lock:
            return self._whole().n_bytes

    @property
    def n_hits(self) -> int:
        """How many of the texts that this process asked for were known."""
        return self._calls[0]

    @property
    def n_misses(self) -> int:
        """How many of the texts that this process asked for had to be encoded."""
        return self._calls[1]

    def _whole(self) -> _Held:
        """Return what is held, rebuilt if an operation was cut short; for looking only, and under the lock."""
        held = self._held
        if not held.is_at_rest:
            whole = held.rebuilt()
            if self._held is held:  # no signal handler has cleared the store meanwhile
                self._held = whole
            held = whole
        return held

    def _take(self) -> _Held:
        """Return what is held, to be changed, under the lock; who takes it sets ``is_at_rest`` when all is done."""
        held = self._whole()
        held.is_at_rest = False
        return held

    def read(
        self, recipe: Recipe, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Fill in the rows of the texts that are known; return the positions of the others."""
        with self._lock:
            held = self._take()
            shelf = held.shelves.get(recipe)
            place_of = shelf.place_of if shelf is not None else {}
            places = np.fromiter(map(place_of.get, texts, repeat(-1)), dtype=np.int64, count=len(texts))
            numbers, rows = np.divmod(places, _ROWS_PER_BLOCK)
            for number, positions in positions_by_value(numbers):
                if number >= 0:
                    block, to, of = held.blocks[number], as_slice(positions), as_slice(rows[positions])
                    vectors[to], n_tokens[to] = block.vectors[of], block.n_tokens[of]
                    held.blocks.move_to_end(number)
            held.is_at_rest = True
        return np.flatnonzero(places < 0)

    def missing(self, recipe: Recipe, texts: Iterable[str]) -> NDArray[np.intp]:
        """Return the positions of the texts that are not known."""
        with self._lock:
            shelf = self._whole().shelves.get(recipe)
            place_of = shelf.place_of if shelf is not None else {}
            return np.flatnonzero([text not in place_of for text in texts])

    def write(
        self, texts: Sequence[str], n_tokens: NDArray[np.int64], vectors_by: Mapping[Recipe, NDArray[np.float32]]
    ) -> None:
        """Keep copies of the vectors of some texts by one or more recipes; a vector that is there already stays.

        Those of the last recipe count as used last.
        """
        with self._lock:
            held = self._take()
            for recipe, vectors in vectors_by.items():
                shelf, start = held.shelves.get(recipe) or _Shelf(recipe), 0
                while start < len(texts):
                    start = self._write_some(held, shelf, texts, n_tokens, vectors, start)
            held.is_at_rest = True

    def _write_some(
        self,
        held: _Held,
        shelf: _Shelf,
        texts: Sequence[str],
        n_tokens: NDArray[np.int64],
        vectors: NDArray[np.float32],
        start: int,
    ) -> int:
        """Write the texts from a position on that go into one block; return the position of the next."""
        place = shelf.place_of.get(texts[start])
        if place is not None:
            held.blocks.move_to_end(place // _ROWS_PER_BLOCK)
            return start + 1
        row_bytes = _row_bytes(vectors.shape[1])
        n_bytes = sys.getsizeof(texts[start]) + row_bytes
        if n_bytes + shelf.n_bytes > self.max_bytes:  # one that could never stay shall not drive out all others
            return start + 1
        while self._free_bytes(held, shelf) < n_bytes:
            self._evict_oldest(held)
        block = self._block_for(held, shelf, n_bytes, vectors.shape[1])
        new, n_bytes = self._find_new(held, block, texts[start : start + block.n_rows - len(block.texts)], row_bytes)
        end, rows = start + len(new), slice(len(block.texts), len(block.texts) + len(new))
        block.make_room(rows.stop)
        block.vectors[rows], block.n_tokens[rows] = vectors[start:end], n_tokens[start:end]
        block.texts.extend(new)
        block.n_bytes += n_bytes  # kept, because the size of a text may grow once a tokenizer has read it
        held.n_bytes += n_bytes
        if not shelf.place_of:
            held.shelves[shelf.recipe] = shelf
            held.n_bytes += shelf.n_bytes
        shelf.place_of.update(zip(new, count(block.number * _ROWS_PER_BLOCK + rows.start)))
        held.blocks.move_to_end(block.number)
        return end

    def _free_bytes(self, held: _Held, shelf: _Shelf) -> int:
        """Return what more vectors of a recipe may take before something must be forgotten."""
        return self.max_bytes - held.n_bytes - (0 if shelf.place_of else shelf.n_bytes)

    def _find_new(self, held: _Held, block: _Block, texts: Sequence[str], row_bytes: int) -> tuple[list[str], int]:
        """List the first texts, up to one that is known or no longer fits, and their bytes; the first one fits."""
        most = min(self._free_bytes(held, block.shelf), self.max_bytes // _BLOCKS - block.n_bytes)
        new, n_bytes = {texts[0]: None}, sys.getsizeof(texts[0]) + row_bytes
        for text in islice(texts, 1, None):
            n_bytes_now = n_bytes + sys.getsizeof(text) + row_bytes
            if n_bytes_now > most or text in new or text in block.shelf.place_of:
                break
            new[text], n_bytes = None, n_bytes_now
        return list(new), n_bytes

    def _block_for(self, held: _Held, shelf: _Shelf, n_bytes: int, dim: int) -> _Block:
        """Return the block that the next vector of a recipe goes into.

        Its arrays begin small where a recipe is new: there may be many recipes of few texts.
        """
        block = shelf.open
        if block is None or self._is_full(block, n_bytes):
            n_rows = min(max(self.max_bytes // _BLOCKS // n_bytes, 1), _ROWS_PER_BLOCK)
            n_first = 1 if block is None else max(n_rows // 4, 1)
            vectors, n_tokens = np.empty((n_first, dim), dtype=np.float32), np.empty(n_first, dtype=np.int64)
            block = _Block(held.next_number, shelf, n_rows, vectors, n_tokens)
            held.blocks[block.number] = shelf.open = block
            held.next_number += 1
        return block

    def _is_full(self, block: _Block, n_bytes: int) -> bool:
        is_heavy = block.n_bytes + n_bytes > self.max_bytes // _BLOCKS  # it may hold long texts
        return len(block.texts) == block.n_rows or is_heavy

    def _evict_oldest(self, held: _Held) -> None:
        _, block = held.blocks.popitem(last=False)
        shelf = block.shelf
        if shelf.open is block:
            shelf.open = None
        for text in block.texts:
            del shelf.place_of[text]
        held.n_bytes -= block.n_bytes
        if not shelf.place_of:
            del held.shelves[shelf.recipe]
            held.n_bytes -= shelf.n_bytes

    def single_flight_lock(self, fingerprint: str) -> AbstractContextManager[object]:  # noqa: ARG002 - memory is nobody else's
        """Return what keeps other processes from encoding the same texts at the same time: nothing need."""
        return nullcontext()

    def record_hits(self, n_hits: int, n_misses: int) -> None:
        """Count how many texts of a call were known, and how many had to be encoded."""
        with self._lock:
            self._calls = self._calls[0] + n_hits, self._calls[1] + n_misses

    def count(self) -> tuple[int, int]:
        """Count distinct texts, and bytes."""
        with self._lock:
            held = self._whole()
            return len(set().union(*[shelf.place_of for shelf in list(held.shelves.values())])), held.n_bytes

    def size(self) -> tuple[int, int]:
        """Count vectors and bytes."""
        with self._lock:
            held = self._whole()
            return sum(len(block.texts) for block in list(held.blocks.values())), held.n_bytes

    def estimate_bytes(self, texts: Collection[str], dim: int) -> int:
        """Estimate the bytes that the vectors of some texts by one recipe take."""
        return _BYTES_PER_RECIPE + sum(map(sys.getsizeof, texts)) + len(texts) * _row_bytes(dim)

    def limit(self) -> int:
        """Return the most bytes held."""
        return self.max_bytes

    def clear(self) -> None:
        """Forget everything, and count anew."""
        self.close()
        self._calls = 0, 0

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            self._held = _Held()  # an operation that a signal handler has interrupted ends with the old one

    def before_fork(self) -> None:
        """Hold still, so that the child gets a store that nobody was about to change."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._lock.release()
