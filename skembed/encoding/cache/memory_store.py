"""Vectors in bounded memory; the least recently used are evicted first. Knows recipes and texts; imports numpy."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, repeat

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import as_slice, positions_by_value
from skembed.encoding.cache.store import DEFAULT_MAX_BYTES, BaseStore
from skembed.encoding.recipes import Recipe

_ROWS_PER_BLOCK = 1024  # at most
_BLOCKS = 512  # at least: a small cache has smaller blocks, so that few vectors are evicted at once
_BYTES_PER_ENTRY = 160  # beside a vector and its text: an entry in a dict, two numbers, places in lists
_BYTES_PER_RECIPE = 2048  # beside its prompt: the recipe, its shelf, a dict, a block with two arrays


def _row_bytes(dim: int) -> int:
    return 4 * dim + _BYTES_PER_ENTRY


@dataclass(eq=False)
class _Block:
    """Vectors of one recipe that were written one after the other and are evicted together.

    A thousand vectors share one array and one list, so that each costs no more than its entry in a dict. A row counts
    once its text is in the list, which happens after its vector is written.
    """

    number: int
    shelf: _Shelf
    n_rows: int  # at most; the arrays grow up to this number
    vectors: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    texts: list[str] = field(default_factory=list)
    n_bytes: int = 0

    def make_room(self, n_rows: int) -> None:
        """Enlarge the arrays if they have fewer rows than this."""
        if n_rows <= len(self.vectors):
            return
        n_more = len(self.vectors) // (8 if len(self.vectors) < 64 else 4) + 1  # free rows are not counted: few
        n_rows = min(max(len(self.vectors) + n_more, n_rows), self.n_rows)
        vectors, n_tokens = np.empty((n_rows, self.vectors.shape[1]), np.float32), np.empty(n_rows, np.int64)
        vectors[: len(self.vectors)], n_tokens[: len(self.n_tokens)] = self.vectors, self.n_tokens
        self.n_tokens = n_tokens
        self.vectors = vectors  # last, because its length counts as that of both


@dataclass(eq=False)
class _Shelf:
    """Where the vectors of a recipe are, and the block that takes the next one."""

    recipe: Recipe
    place_of: dict[str, int] = field(default_factory=dict)  # text -> block number * _ROWS_PER_BLOCK + row in the block
    open: _Block | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes that the recipe takes beside its vectors."""
        return _BYTES_PER_RECIPE + sys.getsizeof(self.recipe.prompt)


class _Contents:
    """Everything that a store holds, in one object that can be replaced in one step.

    Ctrl-C may interrupt an operation at any line, or a signal handler may begin another operation in the middle of it.
    Both leave ``is_intact`` False. :meth:`rebuilt` then makes a new object from what the blocks certainly hold.
    """

    def __init__(self) -> None:
        self.blocks: OrderedDict[int, _Block] = OrderedDict()  # by number, the least recently used first
        self.shelves: dict[Recipe, _Shelf] = {}  # without empty ones
        self.n_bytes = 0
        self.next_number = 0
        self.is_intact = True

    def rebuilt(self) -> _Contents:
        """Return a consistent copy that shares only the arrays; their free rows stay unused."""
        other = _Contents()
        other.next_number = self.next_number + 1  # the number may be in use but not yet counted
        for number, block in list(self.blocks.items()):
            texts, row_bytes = list(block.texts), _row_bytes(block.vectors.shape[1])
            if not texts:
                continue
            shelf = other.shelves.get(block.shelf.recipe)
            if shelf is None:
                shelf = other.shelves[block.shelf.recipe] = _Shelf(block.shelf.recipe)
                other.n_bytes += shelf.n_bytes
            shelf.place_of.update(zip(texts, count(number * _ROWS_PER_BLOCK)))
            n_bytes = sum(map(sys.getsizeof, texts)) + len(texts) * row_bytes
            other.blocks[number] = _Block(number, shelf, len(texts), block.vectors, block.n_tokens, texts, n_bytes)
            other.n_bytes += n_bytes
        return other


class MemoryStore(BaseStore):
    """Vectors by recipe and text.

    They are evicted in blocks of at most 1,024 vectors and at most 1/512 of ``max_bytes``, the least recently used
    block first.

    Parameters
    ----------
    max_bytes : int or None
        Maximum memory for vectors, texts, recipes and what it takes to find them. None: 1 GiB.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        super().__init__()
        self.max_bytes = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
        self._contents = _Contents()

    def _intact(self) -> _Contents:
        """Return the contents for reading, rebuilt if an operation was interrupted; the lock must be held."""
        contents = self._contents
        if not contents.is_intact:
            rebuilt = contents.rebuilt()
            if self._contents is contents:  # no signal handler has cleared the store meanwhile
                self._contents = rebuilt
            contents = rebuilt
        return contents

    def _begin_change(self) -> _Contents:
        """Return the contents for a change; the lock must be held, and the caller sets ``is_intact`` at the end."""
        contents = self._intact()
        contents.is_intact = False
        return contents

    def read(
        self, recipe: Recipe, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Fill in the rows of the texts that are cached; return the positions of the others."""
        with self._lock:
            contents = self._begin_change()
            place_of = (contents.shelves.get(recipe) or _Shelf(recipe)).place_of
            places = np.fromiter(map(place_of.get, texts, repeat(-1)), dtype=np.int64, count=len(texts))
            numbers, rows = np.divmod(places, _ROWS_PER_BLOCK)
            for number, positions in positions_by_value(numbers):
                if number >= 0:
                    block, to, of = contents.blocks[number], as_slice(positions), as_slice(rows[positions])
                    vectors[to], n_tokens[to] = block.vectors[of], block.n_tokens[of]
                    contents.blocks.move_to_end(number)
            contents.is_intact = True
        return np.flatnonzero(places < 0)

    def missing(self, recipe: Recipe, texts: Iterable[str]) -> NDArray[np.intp]:
        """Return the positions of the texts that are not cached."""
        with self._lock:
            place_of = (self._intact().shelves.get(recipe) or _Shelf(recipe)).place_of
            return np.flatnonzero([text not in place_of for text in texts])

    def write(
        self, texts: Sequence[str], n_tokens: NDArray[np.int64], vectors_by: Mapping[Recipe, NDArray[np.float32]]
    ) -> None:
        """Store copies of the vectors of texts by one or more recipes; vectors that are cached already stay.

        Those of the last recipe count as the most recently used.
        """
        with self._lock:
            contents = self._begin_change()
            for recipe, vectors in vectors_by.items():
                shelf, start = contents.shelves.get(recipe) or _Shelf(recipe), 0
                while start < len(texts):
                    start = self._write_some(contents, shelf, texts, n_tokens, vectors, start)
            contents.is_intact = True

    def _write_some(
        self,
        contents: _Contents,
        shelf: _Shelf,
        texts: Sequence[str],
        n_tokens: NDArray[np.int64],
        vectors: NDArray[np.float32],
        start: int,
    ) -> int:
        """Write the texts from a position on that fit into one block; return the position of the next text."""
        place = shelf.place_of.get(texts[start])
        if place is not None:
            contents.blocks.move_to_end(place // _ROWS_PER_BLOCK)
            return start + 1
        row_bytes = _row_bytes(vectors.shape[1])
        n_bytes = sys.getsizeof(texts[start]) + row_bytes
        if n_bytes + shelf.n_bytes > self.max_bytes:  # what can never fit must not evict all others
            return start + 1
        while self._free_bytes(contents, shelf) < n_bytes:
            self._evict_oldest(contents)
        block = self._block_for(contents, shelf, n_bytes, vectors.shape[1])
        new, n_bytes = self._find_new(
            contents, block, texts[start : start + block.n_rows - len(block.texts)], row_bytes
        )
        end, rows = start + len(new), slice(len(block.texts), len(block.texts) + len(new))
        block.make_room(rows.stop)
        block.vectors[rows], block.n_tokens[rows] = vectors[start:end], n_tokens[start:end]
        block.texts.extend(new)
        block.n_bytes += n_bytes  # remembered: the size of a text may grow when a tokenizer reads it
        contents.n_bytes += n_bytes
        if not shelf.place_of:
            contents.shelves[shelf.recipe] = shelf
            contents.n_bytes += shelf.n_bytes
        shelf.place_of.update(zip(new, count(block.number * _ROWS_PER_BLOCK + rows.start)))
        contents.blocks.move_to_end(block.number)
        return end

    def _free_bytes(self, contents: _Contents, shelf: _Shelf) -> int:
        """Return the bytes that new vectors of a recipe may take before something must be evicted."""
        return self.max_bytes - contents.n_bytes - (0 if shelf.place_of else shelf.n_bytes)

    def _find_new(
        self, contents: _Contents, block: _Block, texts: Sequence[str], row_bytes: int
    ) -> tuple[list[str], int]:
        """Return the leading texts that are new and fit into the block, and their bytes; the first one fits."""
        most = min(self._free_bytes(contents, block.shelf), self.max_bytes // _BLOCKS - block.n_bytes)
        new, n_bytes = {texts[0]: None}, sys.getsizeof(texts[0]) + row_bytes
        for text in islice(texts, 1, None):
            n_bytes_now = n_bytes + sys.getsizeof(text) + row_bytes
            if n_bytes_now > most or text in new or text in block.shelf.place_of:
                break
            new[text], n_bytes = None, n_bytes_now
        return list(new), n_bytes

    def _block_for(self, contents: _Contents, shelf: _Shelf, n_bytes: int, dim: int) -> _Block:
        """Return the block that takes the next vector of a recipe.

        The arrays of a new recipe begin small: there may be many recipes with few texts.
        """
        block, most = shelf.open, self.max_bytes // _BLOCKS
        # A block of long texts is full before it has all its rows.
        if block is None or len(block.texts) == block.n_rows or block.n_bytes + n_bytes > most:
            n_rows = min(max(most // n_bytes, 1), _ROWS_PER_BLOCK)
            n_first = 1 if block is None else max(n_rows // 4, 1)
            vectors, n_tokens = np.empty((n_first, dim), dtype=np.float32), np.empty(n_first, dtype=np.int64)
            block = _Block(contents.next_number, shelf, n_rows, vectors, n_tokens)
            contents.blocks[block.number] = shelf.open = block
            contents.next_number += 1
        return block

    def _evict_oldest(self, contents: _Contents) -> None:
        _, block = contents.blocks.popitem(last=False)
        shelf = block.shelf
        if shelf.open is block:
            shelf.open = None
        for text in block.texts:
            del shelf.place_of[text]
        contents.n_bytes -= block.n_bytes
        if not shelf.place_of:
            del contents.shelves[shelf.recipe]
            contents.n_bytes -= shelf.n_bytes

    def count(self) -> tuple[int, int]:
        """Return the number of distinct texts and the bytes in use."""
        with self._lock:
            contents = self._intact()
            return len(set().union(*[shelf.place_of for shelf in list(contents.shelves.values())])), contents.n_bytes

    def size(self) -> tuple[int, int]:
        """Return the number of vectors and the bytes in use."""
        with self._lock:
            contents = self._intact()
            return sum(len(block.texts) for block in list(contents.blocks.values())), contents.n_bytes

    def estimate_bytes(self, texts: Collection[str], dim: int) -> int:
        """Estimate the bytes that the vectors of texts by one recipe take."""
        return _BYTES_PER_RECIPE + sum(map(sys.getsizeof, texts)) + len(texts) * _row_bytes(dim)

    def limit(self) -> int:
        """Return the maximum number of bytes."""
        return self.max_bytes

    def clear(self) -> None:
        """Remove all vectors and reset the statistics."""
        self.close()
        self.calls = 0, 0

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            self._contents = _Contents()  # an operation that a signal handler interrupted ends with the old one
