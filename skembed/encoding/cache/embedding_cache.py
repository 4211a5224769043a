"""The embedding cache as its user holds it, and how a caller's ``cache`` finds its store: one a process and place.

Imports the two stores beside it; lmdb only once a cache on disk is asked for.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np

from skembed.encoding.cache.memory_store import MemoryStore
from skembed.encoding.forks import Hold, hold_at_fork
from skembed.errors import CacheError
from skembed.paths import read_path

if TYPE_CHECKING:
    from skembed.encoding.cache.disk_store import DiskStore

    Store: TypeAlias = MemoryStore | DiskStore


class EmbeddingCache:
    """Vectors that were computed before, in memory or in a folder.

    Pass it as ``cache`` to as many transformers as you like: copies and clones share it, and so does a pickle that is
    loaded in the same process. In another process a cache on disk is the same cache again; one in memory starts
    empty, because a pickle never holds vectors.

    What is kept is the vector before it is normalised and cut, under everything else that shapes it: model weights,
    tokenizer and configuration, pooling, layers, prompt, token limit, precision and text. Two models never read each
    other's vectors.

    Parameters
    ----------
    path : path, default=None
        A folder, made when it is first used, with access for its owner alone (mode 0700). It must be on a disk of
        this machine, not on a network drive. None: in memory.
    max_bytes : int, default=None
        Most bytes held. None: 1 GiB, about 600,000 vectors of 384 dimensions; for a folder, what it was last written
        with.
        In memory, vectors that were not used for longest leave first; on disk, those that were written first, and the
        file may be somewhat larger than what it holds. The last bound given for a folder holds for all who use it.

    See Also
    --------
    skembed.precompute : Fills a cache for a whole grid search.

    Notes
    -----
    Embeddings can reveal the texts they were made from (Morris et al. 2023, https://arxiv.org/abs/2310.06816):
    protect the folder as you would protect the texts. It holds no text itself, only digests of them.

    On disk it is an LMDB file (http://www.lmdb.tech/doc/), safe with many processes at once: for each model only one
    of them encodes at a time, and the others wait and read. Each batch is written as soon as it is computed, so that
    a run that was interrupted goes on where it stopped. Each vector carries a checksum; a damaged one is computed
    again, a damaged file is a :class:`~skembed.CacheError`. A folder that everybody may write to is refused, since
    whoever does chooses the vectors; of one that a group may write to, a :class:`~skembed.CacheWarning` says so.

    Examples
    --------
    >>> import skembed
    >>> with skembed.EmbeddingCache() as cache:
    ...     vectors = skembed.embed(["a cat", "a dog", "a cat"], cache=cache)
    ...     again = skembed.embed(["a cat"], cache=cache)
    ...     stats = cache.stats()
    >>> stats["hits"], stats["misses"], stats["texts"]
    (1, 2, 2)
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, max_bytes: int | None = None) -> None:
        is_integer = isinstance(max_bytes, (int, np.integer)) and not isinstance(max_bytes, bool)
        if max_bytes is not None and not (is_integer and max_bytes >= 1):
            raise ValueError(f"max_bytes must be a positive int or None; got {max_bytes!r}.")
        self.path = None if path is None else _real_path(read_path(path, "path"))
        self.store: Store = MemoryStore(max_bytes) if self.path is None else _disk_store(self.path, max_bytes)
        self._name = uuid4().hex  # by which a pickle finds a cache in memory again
        if self.path is None:
            with _lock:
                _memory_caches[self._name] = self

    @property
    def max_bytes(self) -> int:
        """Most bytes held."""
        return self.store.limit()

    def stats(self) -> dict[str, int]:
        """Say how much the cache holds and how often it helped.

        Returns
        -------
        dict
            ``hits`` and ``misses``: texts asked for in this process that were known, or had to be encoded; a text
            that stands twice in one call counts once. ``texts``: distinct texts held. ``bytes``: what their vectors
            take. The last two are those of all processes if the cache is on disk.

        Raises
        ------
        CacheError
            If the folder cannot be used.
        """
        n_texts, n_bytes = self.store.count()
        return {"hits": self.store.n_hits, "misses": self.store.n_misses, "texts": n_texts, "bytes": n_bytes}

    def clear(self) -> None:
        """Forget all vectors, on disk too; hits and misses start from 0 again.

        Raises
        ------
        CacheError
            If the folder cannot be used.
        """
        self.store.clear()

    def close(self) -> None:
        """Free memory, or let go of the file; vectors on disk stay. A closed cache may be used again."""
        self.store.close()

    def __repr__(self) -> str:
        where = [] if self.path is None else [repr(str(self.path))]
        try:
            n_vectors, n_bytes = self.store.size()
            held = f"{n_vectors:,} vectors, {n_bytes / 2**20:,.1f} of {self.max_bytes / 2**20:,.1f} MiB"
        except CacheError as error:  # a repr that fails would hide the error that is being looked for
            held = f"failed: {error.__cause__}"
        used = f"{self.store.n_hits:,} hits, {self.store.n_misses:,} misses"
        return f"EmbeddingCache({', '.join([*where, held])}; {used})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            return _find_in_memory, (self._name, self.store.max_bytes)
        return _open_folder, (str(self.path), self.store.max_bytes)


_memory_caches: WeakValueDictionary[str, EmbeddingCache] = WeakValueDictionary()
_arrived: deque[EmbeddingCache] = deque(maxlen=3)  # the last that came from other processes: for their next pickle
_disk_stores: WeakValueDictionary[Path, DiskStore] = WeakValueDictionary()  # one that nobody holds closes its file
_used_last: deque[DiskStore] = deque(maxlen=8)  # so that whoever names a folder in each call finds it open
_lock = threading.RLock()  # over the four above; held while a process forks


def _find_in_memory(name: str, max_bytes: int | None) -> EmbeddingCache:
    """Load a pickle: the cache of that name if it lives in this process, else an empty one."""
    with _lock:
        cache = _memory_caches.get(name)
        if cache is None:
            cache = EmbeddingCache(max_bytes=max_bytes)
            _memory_caches[name] = cache
            del _memory_caches[cache._name]
            cache._name = name
            _arrived.append(cache)
        return cache


def _open_folder(path: str, max_bytes: int | None) -> EmbeddingCache:
    """Load a pickle, whose bound may be outdated where the folder is in use."""
    cache = EmbeddingCache(path)
    cache.store.max_bytes = cache.store.max_bytes or max_bytes
    return cache


def _real_path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.path.realpath(path))
    except UnicodeEncodeError as error:
        raise CacheError(
            f"The cache in {str(path)!r} failed: {error}. Choose a folder whose path has no such characters, or set "
            "PYTHONUTF8=1."
        ) from error


def _disk_store(folder: Path, max_bytes: int | None) -> DiskStore:
    from skembed.encoding.cache.disk_store import DiskStore

    with _lock:
        store = _disk_stores.get(folder)
        if store is None:
            store = _disk_stores[folder] = DiskStore(folder, max_bytes)
        store.max_bytes = max_bytes or store.max_bytes
        if store not in _used_last:
            _used_last.append(store)
        return store


_default_cache = EmbeddingCache()


def find_store(cache: str | os.PathLike[str] | EmbeddingCache | None) -> Store | None:
    """Return what is behind a transformer's ``cache``, or None if nothing is to be kept."""
    if cache is None or isinstance(cache, EmbeddingCache):
        return None if cache is None else cache.store
    if cache == "memory":
        return _default_cache.store
    return EmbeddingCache(default_folder() if cache == "disk" else cache).store


def default_folder() -> Path:
    """Return the folder behind ``cache="disk"``: where the operating system keeps a user's caches."""
    from platformdirs import user_cache_path

    try:
        return user_cache_path("skembed", appauthor=False) / "embeddings"
    except RuntimeError as error:  # a user without a home folder, as in a container
        raise CacheError(f"cache='disk' has no place here: {error} Name a folder instead, cache='...'.") from error


def clear_cache() -> None:
    """Forget all embeddings held in memory; those on disk stay.

    See Also
    --------
    EmbeddingCache.clear : Forgets what one cache holds, on disk too.

    Examples
    --------
    >>> import skembed
    >>> skembed.clear_cache()
    """
    with _lock:
        caches = list(_memory_caches.values())
        _arrived.clear()
    for cache in caches:
        cache.clear()


def _hold() -> Iterator[Hold]:
    """Let nobody be changing a cache while the process forks."""
    yield _lock.acquire, _lock.release
    stores = [*(cache.store for cache in list(_memory_caches.values())), *list(_disk_stores.values())]
    for store in dict.fromkeys(stores):
        yield store.before_fork, store.after_fork


hold_at_fork("caches", _hold)
