"""The cache of vectors already computed, in memory and bounded. Knows recipes and texts, no model.

Imports numpy and the standard library.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_BYTES_AN_ENTRY = 400  # what a record costs beside its vector and its text: two tuples, an array, a place in the dict


class MemoryCache:
    """Vectors by recipe and text; the least recently used leave first.

    Parameters
    ----------
    max_bytes : int, default=1 GiB
        Most memory held, in bytes: vectors, texts and what it takes to find them.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._records: OrderedDict[tuple[int, str], tuple[NDArray[np.float32], int, int]] = OrderedDict()
        self._number_of: dict[Hashable, int] = {}  # recipe -> a small key that is cheap to hash
        self._lock = threading.Lock()

    def read(
        self, recipe: Hashable, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Fill in what is known.

        Parameters
        ----------
        recipe : hashable
            Everything but the text that shapes a vector.
        texts : sequence of str, length n_texts
        vectors : ndarray of float32, shape (n_texts, dim)
            Rows of known texts are written to.
        n_tokens : ndarray of int64, shape (n_texts,)
            Likewise.

        Returns
        -------
        missing : ndarray of int
            Positions of the texts that are not known.
        """
        missing = []
        with self._lock:
            number = self._number_of.get(recipe, -1)
            for position, text in enumerate(texts):
                record = self._records.get((number, text))
                if record is None:
                    missing.append(position)
                else:
                    self._records.move_to_end((number, text))
                    vectors[position], n_tokens[position], _ = record
        return np.array(missing, dtype=np.intp)

    def write(
        self, recipe: Hashable, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> None:
        """Keep the vectors of some texts, each as a copy of its own."""
        with self._lock:
            number = self._number_of.setdefault(recipe, len(self._number_of))
            for text, vector, n in zip(texts, vectors, n_tokens.tolist(), strict=True):
                self._remove((number, text))
                n_bytes = vector.nbytes + sys.getsizeof(text) + _BYTES_AN_ENTRY
                if n_bytes <= self.max_bytes:  # one that could never stay shall not drive out all others
                    self._records[number, text] = (vector.copy(), n, n_bytes)
                    self.n_bytes += n_bytes
            while self.n_bytes > self.max_bytes:
                self._remove(next(iter(self._records)))

    def _remove(self, key: tuple[int, str]) -> None:
        # The size is kept in the record: a text's own may grow once a tokenizer has read it.
        _, _, n_bytes = self._records.pop(key, (None, 0, 0))
        self.n_bytes -= n_bytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()
            self._number_of.clear()
            self.n_bytes = 0


_memory_cache = MemoryCache()


def memory_cache() -> MemoryCache:
    """Return the cache behind ``cache="memory"``: one for the whole process."""
    return _memory_cache


def clear_cache() -> None:
    """Forget all embeddings held in memory.

    Examples
    --------
    >>> import skembed
    >>> skembed.clear_cache()
    """
    _memory_cache.clear()


def _renew_lock() -> None:
    """Give a forked child a fresh lock: one held by another thread would stay locked for ever."""
    _memory_cache._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
