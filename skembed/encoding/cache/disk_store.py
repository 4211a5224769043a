"""Vectors in a folder that many processes may share. Knows recipes and texts; imports numpy, lmdb and locks.

The folder holds an LMDB file with three tables::

    index    recipe digest + text digest  -> number of a batch, row in the batch
    batches  number                       -> the records of one write, each with a checksum
    about    "format", "bytes", "max_bytes"; recipe digest -> the recipe

A batch and its index entries are written in one transaction and never changed. When the cache is full, the oldest
batches are evicted first. If a process dies, its unfinished transaction is discarded. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from skembed.compat import lmdb_file_bytes, open_lmdb, pad_lmdb_file
from skembed.encoding.batching import as_slice
from skembed.encoding.cache.lmdb_pages import DamagedPageError, check_heads, check_trees
from skembed.encoding.cache.records import KEY_BYTES, Records, record_bytes, write_records
from skembed.encoding.cache.store import DEFAULT_MAX_BYTES, BaseStore
from skembed.encoding.recipes import Recipe
from skembed.errors import CacheError, CacheWarning, warn_user
from skembed.locks import is_locked_here, locked

_FORMAT = b"skembed embeddings 1"
_DATA, _LOCK = "data.mdb", "lock.mdb"  # LMDB's names
_TABLES = ("about", "index", "batches")
_LOCK_BYTES = 32_768  # for some 500 processes that read at the same time
_SMALLEST_MAP = 2**26  # bytes; the map doubles when it is full
_SECONDS_BETWEEN_TRIES = 0.01  # while another process holds a lock or is writing
_TRIES = 10  # while another process may be writing
_LEAVES_CHECKED = 4096  # when a file is opened, in some 30 ms: all of them up to about 200,000 vectors

_NUMBER = struct.Struct(">Q")  # big-endian: numbers sort in the order in which batches were written
_PLACE = struct.Struct("<QI")  # number of a batch, row in the batch
_DIGEST_BYTES = KEY_BYTES // 2
_BYTES_PER_INDEX_ENTRY = 80  # key, place and LMDB's overhead
_PAGE_BYTES = 4096
_UNUSED_BYTES_PER_RECORD = 76  # an estimate: half of a batch's last page, shared by some 27 records


class DiskStore(BaseStore):
    """Vectors by recipe and text in one folder; a process has one object per folder.

    Parameters
    ----------
    folder : Path
        Created when it is first needed, with access for its owner only. It must be on a local disk: LMDB's memory map
        does not work over a network.
    max_bytes : int or None
        Maximum size of vectors and index. None: the limit that the folder was last written with, or 1 GiB.
    """

    def __init__(self, folder: Path, max_bytes: int | None) -> None:
        super().__init__()  # its lock is held during a transaction: LMDB allows one environment per process
        self.folder = folder
        self.max_bytes = max_bytes
        self._environment: Any = None  # set last, when the rest is ready
        self._tables: dict[str, Any] = {}
        self._inode = self._file_bytes = self._page_bytes = 0
        self._checked: tuple[int, ...] = ()  # the state of the file when its pages were last checked
        self._last_transaction: Any = None
        self._damaged: set[bytes] = set()  # keys of damaged records, to be written again

    def read(
        self, recipe: Recipe, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Fill in the rows of the texts that are cached; return the positions of the others.

        Raises
        ------
        CacheError
            If the folder cannot be used. A damaged record in an intact file counts as not cached.
        """
        is_known = np.zeros(len(texts), dtype=bool)
        with self._transaction() as transaction:
            for records, rows, positions in self._find(transaction, _keys(recipe, texts), vectors.shape[1]):
                of, to = as_slice(rows), as_slice(positions)
                vectors[to], n_tokens[to] = records.vectors[of], records.n_tokens[of]
                is_known[to] = True
        return np.flatnonzero(~is_known)

    def _find(
        self, transaction: Any, keys: list[bytes], dim: int
    ) -> Iterator[tuple[Records, NDArray[np.intp], NDArray[np.intp]]]:
        """Yield, batch by batch, the records of keys, their rows in the batch and the positions of the keys.

        What was written together is mostly read together, so one look-up in the index serves a whole batch.
        """
        position_of = {key: position for position, key in enumerate(keys)}
        for key in keys:
            place = transaction.get(key, db=self._tables["index"]) if key in position_of else None
            if place is None:  # found together with another key, or not cached
                continue
            number, row = _unpack_place(place)
            records = Records(transaction.get(_NUMBER.pack(number), db=self._tables["batches"]), dim)
            is_small = len(records) < 4 * len(position_of)
            row_of = records.find(position_of, slice(0, len(records)) if is_small else slice(row, row + 1))
            if key not in row_of:
                self._damaged.add(key)
            if row_of:
                positions = [position_of.pop(found) for found in row_of]
                yield records, np.fromiter(row_of.values(), dtype=np.intp), np.array(positions)

    def missing(self, recipe: Recipe, texts: Sequence[str]) -> NDArray[np.intp]:
        """Return the positions of the texts that are not cached, without reading vectors."""
        with self._transaction() as transaction:
            return np.flatnonzero(self._is_new(transaction, _keys(recipe, texts)))

    def _is_new(self, transaction: Any, keys: Sequence[bytes]) -> list[bool]:
        index = self._tables["index"]
        return [key in self._damaged or transaction.get(key, db=index) is None for key in keys]

    def write(
        self, texts: Sequence[str], n_tokens: NDArray[np.int64], vectors_by: Mapping[Recipe, NDArray[np.float32]]
    ) -> None:
        """Store the vectors of texts by one or more recipes, all or none; vectors that are cached already stay.

        Raises
        ------
        CacheError
            If the vectors could not be written; what was cached before stays.
        """
        keys_by = {recipe: _keys(recipe, texts) for recipe in vectors_by}

        def work(transaction: Any) -> None:
            first_new = self._next_number(transaction)
            for recipe, vectors in vectors_by.items():
                rows = np.flatnonzero(self._is_new(transaction, keys_by[recipe]))
                keys = [keys_by[recipe][row] for row in rows]
                batch = write_records(keys, n_tokens[rows], vectors[rows])
                if keys and self._evict(transaction, _n_bytes(batch, len(keys)), first_new):
                    self._write_batch(transaction, recipe, keys, batch)

        self._write(work)
        self._damaged.difference_update(*keys_by.values())

    def _write(self, work: Callable[[Any], None]) -> None:
        """Run ``work`` in a writing transaction; enlarge the file and run it again if it is full."""
        while True:
            try:
                with self._transaction(write=True) as transaction:
                    work(transaction)
                break
            except lmdb.MapFullError:
                self._enlarge_map()
        with self._lock, self._translate_errors():
            self._pad_file()

    def _write_batch(self, transaction: Any, recipe: Recipe, keys: list[bytes], batch: bytes) -> None:
        number = self._next_number(transaction)
        transaction.put(recipe.digest(), recipe.to_json().encode(), db=self._tables["about"])
        transaction.put(_NUMBER.pack(number), batch, append=True, db=self._tables["batches"])
        for row, key in enumerate(keys):
            transaction.put(key, _PLACE.pack(number, row), db=self._tables["index"])

    def _next_number(self, transaction: Any) -> int:
        with transaction.cursor(self._tables["batches"]) as cursor:
            return _batch_number(cursor.key()) + 1 if cursor.last() else 0

    def _evict(self, transaction: Any, n_bytes: int, first_new: int) -> bool:
        """Evict the oldest batches until new bytes fit, and count the new bytes; return False if they cannot fit.

        Batches from ``first_new`` on stay: they belong to the same transaction.
        """
        about, limit = self._tables["about"], self._limit(transaction)
        total = _number(transaction.get(b"bytes", db=about), 0)
        while n_bytes <= limit < total + n_bytes and (n_freed := self._evict_oldest(transaction, first_new)):
            total -= n_freed
        fits = total + n_bytes <= limit
        transaction.put(b"bytes", str(total + n_bytes * fits).encode(), db=about)
        transaction.put(b"max_bytes", str(limit).encode(), db=about)
        return fits

    def _limit(self, transaction: Any) -> int:
        written = transaction.get(b"max_bytes", db=self._tables["about"])
        return self.max_bytes or _number(written, DEFAULT_MAX_BYTES)

    def _evict_oldest(self, transaction: Any, first_new: int) -> int:
        """Remove the oldest batch and return its bytes; return 0 if there is none before this transaction."""
        with transaction.cursor(self._tables["batches"]) as cursor:
            number = _batch_number(cursor.key()) if cursor.first() else first_new
            if number >= first_new:
                return 0
            batch = bytes(cursor.value())
            cursor.delete()
        keys = Records(batch).keys
        for row, key in enumerate(keys):
            if transaction.get(key, db=self._tables["index"]) == _PLACE.pack(number, row):  # else a newer batch has it
                transaction.delete(key, db=self._tables["index"])
        return _n_bytes(batch, len(keys))

    @contextmanager
    def single_flight_lock(self, fingerprint: str) -> Iterator[None]:
        """Lock out other processes that would encode with the same model into the same folder.

        The operating system releases the lock of a process that dies.
        """
        file = self.folder / f"{fingerprint[:16]}.lock"
        if is_locked_here(file):  # a signal handler encodes while its own thread is encoding
            yield
            return
        with self._translate_errors():
            self._make_folder()
        with locked(
            file,
            taking=self._translate_errors(),
            mode=0o600,
            poll_interval=_SECONDS_BETWEEN_TRIES,
            fallback_to_soft=False,  # a soft lock outlives a process that dies
        ):
            start = monotonic()
            yield
        if monotonic() - start > 1:  # let a waiting process acquire it before this one does for its next chunk
            sleep(2 * _SECONDS_BETWEEN_TRIES)

    def count(self) -> tuple[int, int]:
        """Return the number of distinct texts and the bytes in use, by all processes."""
        with self._transaction() as transaction:
            with transaction.cursor(self._tables["index"]) as cursor:
                texts = {bytes(key[_DIGEST_BYTES:]) for key in cursor.iternext(values=False)}
            return len(texts), _number(transaction.get(b"bytes", db=self._tables["about"]), 0)

    def size(self) -> tuple[int, int]:
        """Return the number of vectors and the bytes in use, by all processes; do not create a missing folder."""
        if not self._is_there():
            return 0, 0
        with self._transaction() as transaction:
            n_bytes = _number(transaction.get(b"bytes", db=self._tables["about"]), 0)
            return transaction.stat(self._tables["index"])["entries"], n_bytes

    def estimate_bytes(self, texts: Collection[str], dim: int) -> int:
        """Estimate the bytes that the vectors of texts by one recipe take."""
        return len(texts) * (record_bytes(dim) + _BYTES_PER_INDEX_ENTRY + _UNUSED_BYTES_PER_RECORD)

    def limit(self) -> int:
        """Return the maximum number of bytes."""
        if self.max_bytes is not None or not self._is_there():
            return self.max_bytes or DEFAULT_MAX_BYTES
        with self._transaction() as transaction:
            return self._limit(transaction)

    def _is_there(self) -> bool:
        with self._translate_errors():
            return (self.folder / _DATA).exists()

    def clear(self) -> None:
        """Remove all vectors and reset the statistics. The file keeps its size and is filled again from the start."""

        def work(transaction: Any) -> None:
            for name in ("index", "batches"):
                transaction.drop(self._tables[name], delete=False)
            transaction.put(b"bytes", b"0", db=self._tables["about"])

        self._write(work)
        with self._lock:
            self._damaged.clear()
            self.calls = 0, 0

    def close(self) -> None:
        """Close the file; it is opened again when it is next needed."""
        with self._lock:
            if self._environment is not None:
                self._environment.close()  # before the reference is dropped: it may be closed twice
                self._environment = None

    def before_fork(self) -> None:
        """Lock, and close the file: two processes must not share one open environment."""
        super().before_fork()
        self.close()

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Any]:
        """Run a block in a transaction; errors of LMDB become a CacheError, except for a full map."""
        with self._lock, self._translate_errors():
            self._check_no_transaction()
            try:
                self._open_or_check()
                with self._begin(self._environment, write) as transaction:
                    self._last_transaction = transaction
                    self._check_length()  # another process may have written since
                    yield transaction
            except lmdb.MapFullError:
                raise
            except (lmdb.Error, DamagedPageError, OSError):
                self.close()  # some errors leave the environment unusable; the next call opens a new one
                raise

    def _check_no_transaction(self) -> None:
        """Raise CacheError if this thread is inside a transaction already, for which LMDB would wait forever."""
        if _is_open(self._last_transaction, "id"):
            raise CacheError(
                f"The cache in {str(self.folder)!r} cannot be used by a signal handler while the code that it "
                "interrupted is using it. Let the handler set a flag, and do the work afterwards."
            )

    def _begin(self, environment: Any, write: bool) -> Any:
        if write:  # a dead reader's slot pins old pages, and the file grows
            environment.reader_check()
        try:
            return environment.begin(write=write, buffers=True)
        except lmdb.MapResizedError:  # by another process
            environment.set_mapsize(0)
            return environment.begin(write=write, buffers=True)

    def _enlarge_map(self) -> None:
        with self._lock, self._translate_errors():
            try:
                if self._environment is not None:
                    self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error:
                self.close()
                raise

    def _open_or_check(self) -> None:
        """Open the file, or check that the open file is still the one in the folder, and complete."""
        data = self.folder / _DATA
        if not _is_open(self._environment, "path"):  # not open, or its closing was interrupted
            self._environment = None
        elif not data.exists() or (found := data.stat()).st_ino != self._inode:  # the folder was deleted or replaced
            self.close()
        elif found.st_size < 2 * self._page_bytes:  # the heads are gone, which LMDB would read
            raise lmdb.CorruptedError(f"the file ends after {found.st_size} of {self._file_bytes} bytes")
        elif found.st_size < self._file_bytes:
            self._pad_file()
        if self._environment is None:
            self._open(data)

    def _open(self, data: Path) -> None:
        self._make_folder()
        self._check_safety()
        is_new = not data.exists() or data.stat().st_size == 0
        if not is_new:
            self._check_heads(data)
        _reserve(self.folder / _LOCK)
        environment = None
        try:
            environment = open_lmdb(
                self.folder,
                map_size=max(_SMALLEST_MAP, 2 * data.stat().st_size if data.exists() else 0),
                max_dbs=len(_TABLES),
                max_readers=_LOCK_BYTES // 64,
                mode=0o600,
                metasync=False,  # a power cut may cost the last batch, never more
            )
            self._inode = data.stat().st_ino
            self._pad_file(environment)
            self._check_trees(environment)
            self._tables = self._open_tables(environment)
            self._environment = environment
        except BaseException:  # also an interrupt: LMDB must not open a file twice
            if environment is not None:
                environment.close()
            raise

    def _open_tables(self, environment: Any) -> dict[str, Any]:
        with self._begin(environment, True) as transaction:
            self._last_transaction = transaction
            is_new = transaction.stat()["entries"] == 0
            tables = {name: environment.open_db(name.encode(), txn=transaction, create=is_new) for name in _TABLES}
            if is_new:
                transaction.put(b"format", _FORMAT, db=tables["about"])
            elif transaction.get(b"format", db=tables["about"]) != _FORMAT:
                raise lmdb.InvalidError("the file was written by another version of skembed")
        return tables

    def _make_folder(self) -> None:
        """Create the folder and its missing parents with access for their owner only, whatever the umask."""
        if not self.folder.is_dir():
            for folder in [*reversed(self.folder.parents), self.folder]:
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)

    def _check_safety(self) -> None:
        """Raise CacheError if other users may write to the folder, as ssh does, or if a file is not a regular one.

        Whoever may write there can choose the vectors that are read, and with a link the file that is written to.
        """
        for name in (_DATA, _LOCK):
            path = self.folder / name
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise CacheError(
                    f"The cache in {str(self.folder)!r} was not opened: its {name} is not a regular file but a "
                    "link, a pipe or the like. Remove it, or choose another folder."
                )
        if os.name != "posix":
            return
        found = self.folder.stat()
        if found.st_mode & stat.S_IWOTH or (os.geteuid() != 0 and found.st_uid not in (0, os.geteuid())):
            raise CacheError(
                f"The cache in {str(self.folder)!r} was not opened: other users may write to this folder and thereby "
                "choose the vectors that you get. Restrict it to yourself (chmod 700), or choose another folder."
            )
        if found.st_mode & stat.S_IWGRP and not _is_private_group(found.st_gid):
            warn_user(
                f"A group may write to the cache folder {str(self.folder)!r}: its members can choose the vectors that "
                "you get. Restrict it to yourself: chmod 700.",
                CacheWarning,
            )

    def _check_heads(self, data: Path) -> None:
        """Raise DamagedPageError if LMDB could not safely read the first two pages."""
        for tries_left in reversed(range(_TRIES)):
            try:
                with data.open("rb", buffering=0) as file:
                    check_heads(file)
                break
            except DamagedPageError:
                if not tries_left:
                    raise
                sleep(_SECONDS_BETWEEN_TRIES)  # another process may be writing one

    def _check_trees(self, environment: Any, most_leaves: int = _LEAVES_CHECKED) -> None:
        """Raise DamagedPageError if a page could make LMDB kill the process; skip a file that was checked before."""
        data = self.folder / _DATA
        found = data.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns
        for _ in range(_TRIES if state != self._checked else 0):
            with self._begin(environment, False) as transaction, data.open("rb", buffering=0) as file:
                if check_trees(file, transaction.id(), [name.encode() for name in _TABLES], most_leaves):
                    break
        self._checked = state

    def _check_length(self) -> None:
        """Raise CorruptedError if the file ends before its last page: reading that page would kill the process."""
        for _ in range(_TRIES):
            n_bytes = self._measure(self._environment)
            if n_bytes >= self._file_bytes:
                return
            sleep(_SECONDS_BETWEEN_TRIES)  # another process may be about to pad it
        raise lmdb.CorruptedError(f"the file ends after {n_bytes} of {self._file_bytes} bytes")

    def _pad_file(self, environment: Any = None) -> None:
        """Pad the file to its last page: LMDB does not write pages that were allocated and freed in one transaction.

        A process may have been killed before it could pad the file; therefore check first that no used page is missing.
        """
        environment = environment or self._environment
        if environment is None or self._measure(environment) >= self._file_bytes:
            return
        with self._begin(environment, True) as transaction:  # no other process may lengthen it meanwhile
            self._last_transaction = transaction
            if self._measure(environment) < self._file_bytes:
                self._checked = ()
                self._check_trees(environment, most_leaves=2**62)
                pad_lmdb_file(self.folder / _DATA, self._file_bytes)

    def _measure(self, environment: Any) -> int:
        """Remember the length that the file must have, and return the length that it has."""
        self._file_bytes, self._page_bytes = lmdb_file_bytes(environment)
        return (self.folder / _DATA).stat().st_size

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.MapFullError, CacheError):
            raise
        except (lmdb.Error, DamagedPageError, OSError) as error:
            raise CacheError(f"The cache in {str(self.folder)!r} failed: {_explain(error)}") from error


_DAMAGE_ERRORS = (
    DamagedPageError,
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)


def _explain(error: Exception) -> str:
    reason = str(error).rstrip(".")
    if isinstance(error, _DAMAGE_ERRORS):
        return f"{_DATA} is damaged or not a cache of skembed: {reason}. Delete the folder, or choose another."
    if isinstance(error, lmdb.NotFoundError):
        return f"{_DATA} belongs to another program. Choose another folder."
    return f"{reason}. Make sure that it is a folder on a local disk with write permission and free space."


def _is_open(opened: Any, method: str) -> bool:
    """Check whether an environment or a transaction is open, by calling one of its methods."""
    try:
        return opened is not None and getattr(opened, method)() is not None
    except lmdb.Error:
        return False


def _is_private_group(gid: int) -> bool:
    """Check whether the user is the only member of a group; many systems create such a group for each user."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def _reserve(file: Path) -> None:
    """Reserve space for LMDB's lock file: on a full disk, touching its memory map would kill the process."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if hasattr(os, "posix_fallocate") and os.fstat(descriptor).st_size < _LOCK_BYTES:
            os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
    finally:
        os.close(descriptor)


def _unpack_place(written: Any) -> tuple[int, int]:
    """Return batch and row of an index entry; those of a damaged entry do not exist."""
    return _PLACE.unpack(written) if len(written) == _PLACE.size else (2**64 - 1, 0)


def _number(written: Any, default: int) -> int:
    try:
        return default if written is None else int(bytes(written))
    except ValueError:
        raise lmdb.CorruptedError("a number in the file is damaged") from None


def _batch_number(key: Any) -> int:
    if len(key) != _NUMBER.size:
        raise lmdb.CorruptedError("a batch in the file has no number")
    return int(_NUMBER.unpack(key)[0])


def _keys(recipe: Recipe, texts: Sequence[str]) -> list[bytes]:
    prefix, empty = recipe.digest(), blake2b(digest_size=_DIGEST_BYTES)
    keys = []
    for text in texts:  # copying an empty hash is faster than creating one
        text_hash = empty.copy()
        text_hash.update(text.encode())
        keys.append(prefix + text_hash.digest())
    return keys


def _n_bytes(batch: bytes, n_records: int) -> int:
    """Return the bytes that a batch takes on disk: whole pages, and an index entry for each record."""
    return -(-len(batch) // _PAGE_BYTES) * _PAGE_BYTES + n_records * _BYTES_PER_INDEX_ENTRY
