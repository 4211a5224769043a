"""The embedding cache that users see, and the lookup from a ``cache`` parameter to a store: one per process and place.

retention.py decides what is kept, the stores when it is evicted. Imports the two stores; lmdb only when a cache on disk
is requested.
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

from skembed.checks import check_count
from skembed.encoding.cache.memory_store import MemoryStore
from skembed.encoding.forks import Hold, hold_at_fork
from skembed.errors import CacheError
from skembed.paths import read_path

if TYPE_CHECKING:
    from skembed.encoding.cache.disk_store import DiskStore

    Store: TypeAlias = MemoryStore | DiskStore


class EmbeddingCache:
    """A cache of sentence embeddings, in memory or in a folder.

    Pass it as ``cache`` to any number of transformers. Copies and clones share it, and so does a pickle that is loaded
    in the same process. In another process, a cache on disk is the same cache; a cache in memory starts empty, because
    a pickle never contains vectors.

    The cache stores each vector before it is normalised and truncated. Its key is everything else that determines it:
    model weights, tokenizer and configuration, pooling, layers, prompt, token limit, precision and text. Two models
    never read each other's vectors.

    Parameters
    ----------
    path : path, default=None
        A folder, created when it is first used, with access for its owner only (mode 0700). It must be on a local
        disk, not on a network drive. None: in memory.
    max_bytes : int, default=None
        Maximum size. None: 1 GiB, about 600,000 vectors of 384 dimensions; for a folder, the limit that it was last
        written with. In memory, the least recently used vectors are evicted first; on disk, the oldest, and the file
        may be somewhat larger than its contents. The limit given last for a folder applies to everyone who uses it.

    See Also
    --------
    skembed.precompute : Fill a cache for a whole grid search.

    Notes
    -----
    Embeddings can reveal the texts that they were computed from (Morris et al. 2023,
    https://arxiv.org/abs/2310.06816): protect the folder as you would protect the texts. It contains no texts, only
    digests of them.

    On disk, the cache is an LMDB file (http://www.lmdb.tech/doc/) that many processes may share. For each model, only
    one process encodes at a time; the others wait and read. Each batch is written as soon as it is computed, so an
    interrupted run resumes where it stopped. Each vector has a checksum: a damaged vector is computed again, and a
    damaged file raises :class:`~skembed.CacheError`. So does a folder that everyone may write to, because they could
    choose the vectors; if a group may write to it, a :class:`~skembed.CacheWarning` is issued.

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
        max_bytes = None if max_bytes is None else check_count("max_bytes", max_bytes)
        self.path = None if path is None else _real_path(read_path(path, "path"))
        self.store: Store = MemoryStore(max_bytes) if self.path is None else _disk_store(self.path, max_bytes)
        self._name = uuid4().hex  # by which a pickle finds a cache in memory
        if self.path is None:
            with _lock:
                _memory_caches[self._name] = self

    @property
    def max_bytes(self) -> int:
        """Maximum size in bytes."""
        return self.store.limit()

    def stats(self) -> dict[str, int]:
        """Return cache statistics.

        Returns
        -------
        dict
            ``hits`` and ``misses``: texts requested in this process that were cached, or that had to be encoded; a
            text that occurs twice in one call counts once. ``texts``: distinct texts in the cache. ``bytes``: size of
            their vectors. For a cache on disk, the last two cover all processes.

        Raises
        ------
        CacheError
            If the folder cannot be used.
        """
        (n_hits, n_misses), (n_texts, n_bytes) = self.store.calls, self.store.count()
        return {"hits": n_hits, "misses": n_misses, "texts": n_texts, "bytes": n_bytes}

    def clear(self) -> None:
        """Remove all vectors, also on disk, and reset hits and misses to 0.

        Raises
        ------
        CacheError
            If the folder cannot be used.
        """
        self.store.clear()

    def close(self) -> None:
        """Free the memory or close the file; vectors on disk stay. A closed cache may be used again."""
        self.store.close()

    def __repr__(self) -> str:
        where = [] if self.path is None else [repr(str(self.path))]
        try:
            n_vectors, n_bytes = self.store.size()
            held = f"{n_vectors:,} vectors, {n_bytes / 2**20:,.1f} of {self.max_bytes / 2**20:,.1f} MiB"
        except CacheError as error:  # a repr that fails would hide the error that the user is looking for
            held = f"failed: {error.__cause__}"
        n_hits, n_misses = self.store.calls
        return f"EmbeddingCache({', '.join([*where, held])}; {n_hits:,} hits, {n_misses:,} misses)"

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
_arrived: deque[EmbeddingCache] = deque(maxlen=3)  # the last ones from other processes, kept for their next pickle
_disk_stores: WeakValueDictionary[Path, DiskStore] = WeakValueDictionary()  # an unused store closes its file
_recently_used: deque[DiskStore] = deque(maxlen=8)  # stay open for callers that name the folder in each call
_lock = threading.RLock()  # of the four above; held while the process forks


def _find_in_memory(name: str, max_bytes: int | None) -> EmbeddingCache:
    """Load a pickle: return the cache of that name in this process, or an empty one."""
    with _lock:
        cache = _memory_caches.get(name)
        if cache is None:
            cache = EmbeddingCache(max_bytes=max_bytes)
            _memory_caches[name] = _memory_caches.pop(cache._name)
            cache._name = name
            _arrived.append(cache)
        return cache


def _open_folder(path: str, max_bytes: int | None) -> EmbeddingCache:
    """Load a pickle, whose limit may be outdated if the folder is in use."""
    cache = EmbeddingCache(path)
    cache.store.max_bytes = cache.store.max_bytes or max_bytes
    return cache


def _real_path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.path.realpath(path))
    except UnicodeEncodeError as error:
        raise CacheError(
            f"The cache in {str(path)!r} failed: {error}. Choose a folder without such characters in its path, or set "
            "PYTHONUTF8=1."
        ) from error


def _disk_store(folder: Path, max_bytes: int | None) -> DiskStore:
    from skembed.encoding.cache.disk_store import DiskStore

    with _lock:
        store = _disk_stores.get(folder)
        if store is None:
            store = _disk_stores[folder] = DiskStore(folder, max_bytes)
        store.max_bytes = max_bytes or store.max_bytes
        if store not in _recently_used:
            _recently_used.append(store)
        return store


_default_cache = EmbeddingCache()


def find_store(cache: str | os.PathLike[str] | EmbeddingCache | None) -> Store | None:
    """Return the store of a transformer's ``cache``, or None if nothing is cached."""
    if cache is None or isinstance(cache, EmbeddingCache):
        return None if cache is None else cache.store
    if cache == "memory":
        return _default_cache.store
    return EmbeddingCache(default_folder() if cache == "disk" else cache).store


def default_folder() -> Path:
    """Return the folder of ``cache="disk"``, in the user's cache folder of the operating system."""
    from platformdirs import user_cache_path

    try:
        return user_cache_path("skembed", appauthor=False) / "embeddings"
    except RuntimeError as error:  # a user without a home folder, as in containers
        raise CacheError(f"cache='disk' has no folder here: {error} Name a folder instead, cache='...'.") from error


def clear_cache() -> None:
    """Remove all embeddings from memory; those on disk stay.

    See Also
    --------
    EmbeddingCache.clear : Remove the vectors of one cache, also on disk.

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


def _find_locks() -> Iterator[Hold]:
    """Find the locks to hold while the process forks, so that no cache is being changed."""
    yield _lock.acquire, _lock.release
    stores = [*(cache.store for cache in list(_memory_caches.values())), *list(_disk_stores.values())]
    for store in dict.fromkeys(stores):
        yield store.before_fork, store.after_fork


hold_at_fork("caches", _find_locks)
