"""Vectors in a folder, safe with many processes. Knows recipes and texts, no model; imports numpy, lmdb and locks.

The folder holds an LMDB file with three tables::

    index    recipe digest + text digest  -> number of a batch, row in it
    batches  number                       -> the records of one write, each with a checksum
    about    "format", "bytes", "max_bytes"; recipe digest -> the recipe

A batch is written in one transaction with its index, never changed, and leaves when the cache is full, the first
written first. A process that dies takes its unfinished transaction with it. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import as_slice
from skembed.encoding.cache.lmdb_pages import DamagedPageError, check_heads, check_trees
from skembed.encoding.cache.memory_store import DEFAULT_MAX_BYTES
from skembed.encoding.cache.records import KEY_BYTES, Records, record_bytes, write_records
from skembed.encoding.recipes import Recipe
from skembed.errors import CacheError, CacheWarning, level_of_user
from skembed.locks import is_locked_here, locked

_FORMAT = b"skembed embeddings 1"
_DATA, _LOCK = "data.mdb", "lock.mdb"  # as LMDB calls them
_TABLES = ("about", "index", "batches")
_LOCK_BYTES = 32_768  # room for some 500 processes that read at the same time
_SMALLEST_MAP = 2**26  # bytes; the map doubles when it is full
_SECONDS_BETWEEN_TRIES = 0.01  # to get the lock that another process holds
_TRIES = 10  # while another process may be in the middle of something
_LEAVES_CHECKED = 4096  # when a file is opened, some 30 ms: of up to about 200,000 vectors all

_NUMBER = struct.Struct(">Q")  # big-endian: numbers sort in the order in which batches were written
_PLACE = struct.Struct("<QI")  # number of a batch, row in it
_DIGEST_BYTES = KEY_BYTES // 2
_BYTES_PER_INDEX_ENTRY = 80  # of key, place and what LMDB needs to keep them sorted
_PAGE_BYTES = 4096
_PAGE_BYTES_LEFT_PER_RECORD = 76  # about: half of a batch's last page, for some 27 records


class DiskStore:
    """Vectors by recipe and text in one folder; one object a process and folder.

    Parameters
    ----------
    folder : Path
        Made when it is first needed, for its owner alone. It must lie on a disk of this machine: LMDB's memory map
        does not work over a network.
    max_bytes : int or None
        Most bytes that vectors and their index take. None: what it was last written with, or 1 GiB.
    """

    def __init__(self, folder: Path, max_bytes: int | None) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._calls = 0, 0  # hits and misses, exchanged in one step
        self._lock = threading.RLock()  # one environment a process is all that LMDB allows; held through a transaction
        self._environment: Any = None  # set the last, when the rest is there
        self._tables: dict[str, Any] = {}
        self._inode = self._least_bytes = self._page_bytes = 0
        self._checked: tuple[int, ...] = ()  # the state of the file whose pages were found to be right
        self._transaction_now: Any = None  # the last that was begun
        self._damaged: set[bytes] = set()  # keys whose record was found damaged, to be written again

    @property
    def n_hits(self) -> int:
        """How many of the texts that this process asked for were known."""
        return self._calls[0]

    @property
    def n_misses(self) -> int:
        """How many of the texts that this process asked for had to be encoded."""
        return self._calls[1]

    def read(
        self, recipe: Recipe, texts: Sequence[str], vectors: NDArray[np.float32], n_tokens: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Fill in the rows of the texts that are known; return the positions of the others.

        Raises
        ------
        CacheError
            If the folder cannot be used. A record that is damaged by itself counts as not known.
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
        """Find the records of some keys: batch by batch, their rows in it and the positions of the keys.

        What was written together is mostly read together: one look into the index serves a whole batch.
        """
        position_of = {key: position for position, key in enumerate(keys)}
        for key in keys:
            place = transaction.get(key, db=self._tables["index"]) if key in position_of else None
            if place is None:  # found together with another, or not known
                continue
            number, row = _read_place(place)
            records = Records(transaction.get(_NUMBER.pack(number), db=self._tables["batches"]), dim)
            is_small = len(records) < 4 * len(position_of)
            row_of = records.find(position_of, slice(0, len(records)) if is_small else slice(row, row + 1))
            if key not in row_of:
                self._damaged.add(key)
            if row_of:
                positions = [position_of.pop(found) for found in row_of]
                yield records, np.fromiter(row_of.values(), dtype=np.intp), np.array(positions)

    def missing(self, recipe: Recipe, texts: Sequence[str]) -> NDArray[np.intp]:
        """Return the positions of the texts that are not known, without reading their vectors."""
        with self._transaction() as transaction:
            return np.flatnonzero(self._is_new(transaction, _keys(recipe, texts)))

    def _is_new(self, transaction: Any, keys: Sequence[bytes]) -> list[bool]:
        index = self._tables["index"]
        return [key in self._damaged or transaction.get(key, db=index) is None for key in keys]

    def write(
        self, texts: Sequence[str], n_tokens: NDArray[np.int64], vectors_by: Mapping[Recipe, NDArray[np.float32]]
    ) -> None:
        """Keep the vectors of some texts by one or more recipes, all or none; a vector that is there already stays.

        Raises
        ------
        CacheError
            If they could not be written; what was there before still is.
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
        """Do some work in a writing transaction, again in a larger file if it is too small."""
        while True:
            try:
                with self._transaction(write=True) as transaction:
                    work(transaction)
                break
            except lmdb.MapFullError:
                self._enlarge_map()
        with self._lock, self._translated():
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
        """Let go of the oldest batches until some bytes fit, and count these; False if they do not.

        Batches from ``first_new`` on stay: they are of the same transaction.
        """
        about, limit = self._tables["about"], self._limit(transaction)
        total = _number(transaction.get(b"bytes", db=about), 0)
        while total + n_bytes > limit:
            n_freed = self._evict_oldest(transaction, first_new) if n_bytes <= limit else 0
            if n_freed == 0:
                break
            total -= n_freed
        fits = total + n_bytes <= limit
        transaction.put(b"bytes", str(total + n_bytes * fits).encode(), db=about)
        transaction.put(b"max_bytes", str(limit).encode(), db=about)
        return fits

    def _limit(self, transaction: Any) -> int:
        written = transaction.get(b"max_bytes", db=self._tables["about"])
        return self.max_bytes or _number(written, DEFAULT_MAX_BYTES)

    def _evict_oldest(self, transaction: Any, first_new: int) -> int:
        """Remove the batch that was written first, and return its bytes; 0 if there is none from before."""
        with transaction.cursor(self._tables["batches"]) as cursor:
            number = _batch_number(cursor.key()) if cursor.first() else first_new
            if number >= first_new:
                return 0
            batch = bytes(cursor.value())
            cursor.delete()
        keys = Records(batch).keys
        for row, key in enumerate(keys):
            if transaction.get(key, db=self._tables["index"]) == _PLACE.pack(number, row):  # else written again later
                transaction.delete(key, db=self._tables["index"])
        return _n_bytes(batch, len(keys))

    @contextmanager
    def single_flight_lock(self, fingerprint: str) -> Iterator[None]:
        """Keep other processes from encoding with the same model into the same folder meanwhile.

        The operating system frees the lock of a process that dies.
        """
        file = self.folder / f"{fingerprint[:16]}.lock"
        if is_locked_here(file):  # a signal handler encodes in the midst of its thread's encoding
            yield
            return
        with self._translated():
            self._make_folder()
        lock = locked(
            file,
            taking=self._translated(),
            mode=0o600,
            poll_interval=_SECONDS_BETWEEN_TRIES,
            fallback_to_soft=False,  # a lock that nobody frees for a dead process
        )
        with lock:
            start = monotonic()
            yield
        if monotonic() - start > 1:  # let those get it who wait for it, before it is taken for the next window
            sleep(2 * _SECONDS_BETWEEN_TRIES)

    def record_hits(self, n_hits: int, n_misses: int) -> None:
        """Count how many texts of a call were known, and how many had to be encoded."""
        with self._lock:
            self._calls = self._calls[0] + n_hits, self._calls[1] + n_misses

    def count(self) -> tuple[int, int]:
        """Count distinct texts, and bytes, as all processes wrote them."""
        with self._transaction() as transaction:
            with transaction.cursor(self._tables["index"]) as cursor:
                texts = {bytes(key[_DIGEST_BYTES:]) for key in cursor.iternext(values=False)}
            return len(texts), _number(transaction.get(b"bytes", db=self._tables["about"]), 0)

    def size(self) -> tuple[int, int]:
        """Count vectors and bytes, as all processes wrote them; 0 without making a folder that is not there yet."""
        if not self._is_there():
            return 0, 0
        with self._transaction() as transaction:
            n_bytes = _number(transaction.get(b"bytes", db=self._tables["about"]), 0)
            return transaction.stat(self._tables["index"])["entries"], n_bytes

    def estimate_bytes(self, texts: Collection[str], dim: int) -> int:
        """Estimate the bytes that the vectors of some texts by one recipe take."""
        return len(texts) * (record_bytes(dim) + _BYTES_PER_INDEX_ENTRY + _PAGE_BYTES_LEFT_PER_RECORD)

    def limit(self) -> int:
        """Return the most bytes held."""
        if self.max_bytes is not None or not self._is_there():
            return self.max_bytes or DEFAULT_MAX_BYTES
        with self._transaction() as transaction:
            return self._limit(transaction)

    def _is_there(self) -> bool:
        with self._translated():
            return (self.folder / _DATA).exists()

    def clear(self) -> None:
        """Forget everything. The file keeps its size and fills again from the start."""

        def work(transaction: Any) -> None:
            for name in ("index", "batches"):
                transaction.drop(self._tables[name], delete=False)
            transaction.put(b"bytes", b"0", db=self._tables["about"])

        self._write(work)
        with self._lock:
            self._damaged.clear()
            self._calls = 0, 0

    def close(self) -> None:
        """Let go of the file; it is opened again when it is next needed."""
        with self._lock:
            if self._environment is not None:
                self._environment.close()  # before it is forgotten: it can be closed twice, but not opened twice
                self._environment = None

    def before_fork(self) -> None:
        """Close the file, which must not be open in two processes by one opening, and hold still."""
        self._lock.acquire()
        self.close()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._lock.release()

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Any]:
        """Run a block in a transaction; what fails in LMDB becomes a CacheError, except for a map that is full."""
        with self._lock, self._translated():
            self._refuse_second_transaction()
            try:
                self._open_or_check()
                with self._begin(self._environment, write) as transaction:
                    self._transaction_now = transaction
                    self._await_last_page()  # another process may have written since
                    yield transaction
            except lmdb.MapFullError:
                raise
            except (lmdb.Error, DamagedPageError, OSError):
                self.close()  # some failures leave it of no use; the next call starts afresh
                raise

    def _refuse_second_transaction(self) -> None:
        """Raise where this thread is in the midst of a transaction, for which LMDB would wait for ever."""
        if _is_open(self._transaction_now, "id"):
            raise CacheError(
                f"The cache in {str(self.folder)!r} cannot be used by a signal handler while the code that it "
                "interrupted uses it. Let the handler set a flag, and do the work afterwards."
            )

    def _begin(self, environment: Any, write: bool) -> Any:
        if write:  # a reader that was killed would keep all that it saw, and the file would grow for ever
            environment.reader_check()
        try:
            return environment.begin(write=write, buffers=True)
        except lmdb.MapResizedError:  # by another process
            environment.set_mapsize(0)
            return environment.begin(write=write, buffers=True)

    def _enlarge_map(self) -> None:
        with self._lock, self._translated():
            try:
                if self._environment is not None:
                    self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error:
                self.close()
                raise

    def _open_or_check(self) -> None:
        """Open the file, or make sure that the one that is open still is the one in the folder, and whole."""
        data = self.folder / _DATA
        if not _is_open(self._environment, "path"):  # or closing it was interrupted
            self._environment = None
        if self._environment is not None:
            found = data.stat() if data.exists() else None
            if found is None or found.st_ino != self._inode:  # somebody deleted or exchanged the folder
                self.close()
            elif found.st_size < 2 * self._page_bytes:  # its heads are gone, which LMDB would look at
                raise lmdb.CorruptedError(f"it ends after {found.st_size} of {self._least_bytes} bytes")
            elif found.st_size < self._least_bytes:
                self._pad_file()
        if self._environment is None:
            self._open(data)

    def _open(self, data: Path) -> None:
        self._make_folder()
        self._refuse_unsafe()
        is_new = not data.exists() or data.stat().st_size == 0
        if not is_new:
            self._check_heads(data)
        _allocate(self.folder / _LOCK)
        environment = None
        try:
            environment = lmdb.open(
                os.fsencode(self.folder),
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
        except BaseException:  # also an interrupt: LMDB opens no file twice
            if environment is not None:
                environment.close()
            raise

    def _open_tables(self, environment: Any) -> dict[str, Any]:
        with self._begin(environment, True) as transaction:
            self._transaction_now = transaction
            is_new = transaction.stat()["entries"] == 0
            tables = {name: environment.open_db(name.encode(), txn=transaction, create=is_new) for name in _TABLES}
            if is_new:
                transaction.put(b"format", _FORMAT, db=tables["about"])
            elif transaction.get(b"format", db=tables["about"]) != _FORMAT:
                raise lmdb.InvalidError("it was written by another version of skembed")
        return tables

    def _make_folder(self) -> None:
        """Make the folder, and what is missing above it, for its owner alone, whatever the umask."""
        if not self.folder.is_dir():
            for folder in [*reversed(self.folder.parents), self.folder]:
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)

    def _refuse_unsafe(self) -> None:
        """Refuse a folder that others may write to, as ssh does, and files that are not plain ones.

        Whoever may write there chooses the vectors that are read, and through a link the file that is written to.
        """
        for name in (_DATA, _LOCK):
            path = self.folder / name
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise CacheError(
                    f"The cache in {str(self.folder)!r} was not opened: its {name} is no regular file, but a link, "
                    "a pipe or the like. Remove it, or choose another folder."
                )
        if os.name != "posix":
            return
        found = self.folder.stat()
        if found.st_mode & stat.S_IWOTH or (os.geteuid() != 0 and found.st_uid not in (0, os.geteuid())):
            raise CacheError(
                f"The cache in {str(self.folder)!r} was not opened: other users may write to this folder, and whoever "
                "does chooses the vectors that you get. Make it yours alone (chmod 700), or choose another."
            )
        if found.st_mode & stat.S_IWGRP and not _is_private_group(found.st_gid):
            warnings.warn(
                f"A group may write to the folder {str(self.folder)!r} of a cache: whoever of them does chooses the "
                "vectors that you get. Make it yours alone: chmod 700.",
                CacheWarning,
                stacklevel=level_of_user(),
            )

    def _check_heads(self, data: Path) -> None:
        """Refuse a file whose first two pages LMDB could not stand."""
        for tries_left in reversed(range(_TRIES)):
            try:
                with data.open("rb", buffering=0) as file:
                    check_heads(file)
                break
            except DamagedPageError:
                if not tries_left:
                    raise
                sleep(_SECONDS_BETWEEN_TRIES)  # another process may just be writing one

    def _check_trees(self, environment: Any, most_leaves: int = _LEAVES_CHECKED) -> None:
        """Refuse a file whose pages would let LMDB kill the process; nothing to do if they were checked before."""
        data = self.folder / _DATA
        found = data.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns
        for _ in range(_TRIES if state != self._checked else 0):
            with self._begin(environment, False) as transaction, data.open("rb", buffering=0) as file:
                if check_trees(file, transaction.id(), [name.encode() for name in _TABLES], most_leaves):
                    break
        self._checked = state

    def _await_last_page(self) -> None:
        """Refuse a file that ends before its last page: to read that page would kill the process."""
        for _ in range(_TRIES):
            n_bytes = self._measure(self._environment)
            if n_bytes >= self._least_bytes:
                return
            sleep(_SECONDS_BETWEEN_TRIES)  # another process may just be about to fill it up
        raise lmdb.CorruptedError(f"it ends after {n_bytes} of {self._least_bytes} bytes")

    def _pad_file(self, environment: Any = None) -> None:
        """Let the file end with its last page: LMDB leaves out pages that were taken and freed in one transaction.

        Also after a process that was killed before it could do so; then nothing that is used may be missing.
        """
        environment = environment or self._environment
        if environment is None or self._measure(environment) >= self._least_bytes:
            return
        with self._begin(environment, True) as transaction:  # so that nobody else makes it longer meanwhile
            self._transaction_now = transaction
            if self._measure(environment) < self._least_bytes:
                self._checked = ()
                self._check_trees(environment, most_leaves=2**62)
                os.truncate(self.folder / _DATA, self._least_bytes)

    def _measure(self, environment: Any) -> int:
        """Note how long the file must be, and return how long it is."""
        n_pages, self._page_bytes = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
        self._least_bytes = n_pages * self._page_bytes
        return (self.folder / _DATA).stat().st_size

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.MapFullError, CacheError):
            raise
        except (lmdb.Error, DamagedPageError, OSError, UnicodeEncodeError) as error:
            raise CacheError(f"The cache in {str(self.folder)!r} failed: {_explain(error)}") from error


_OF_DAMAGE = (
    DamagedPageError,
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)


def _explain(error: Exception) -> str:
    reason = str(error).rstrip(".")
    if isinstance(error, UnicodeEncodeError):
        return f"{reason}. Choose a folder whose path has no such characters, or set PYTHONUTF8=1."
    if isinstance(error, _OF_DAMAGE):
        return f"{_DATA} is damaged or not a cache of skembed: {reason}. Delete the folder, or choose another."
    if isinstance(error, lmdb.NotFoundError):
        return f"{_DATA} belongs to another program. Choose another folder."
    return f"{reason}. Make sure that it is a folder on a local disk that you may write to and that has space left."


def _is_open(opened: Any, method: str) -> bool:
    """Whether an environment or a transaction is there, and not yet closed; one of its methods will tell."""
    try:
        return opened is not None and getattr(opened, method)() is not None
    except lmdb.Error:
        return False


def _is_private_group(gid: int) -> bool:
    """Whether a group has its user as its only member, as many systems make one for each user."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def _allocate(file: Path) -> None:
    """Reserve room for LMDB's lock file: on a full disk, its memory map would kill the process at the first touch."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if hasattr(os, "posix_fallocate") and os.fstat(descriptor).st_size < _LOCK_BYTES:
            os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
    finally:
        os.close(descriptor)


def _read_place(written: Any) -> tuple[int, int]:
    """Read where a record is said to be; nowhere if that is damaged."""
    return _PLACE.unpack(written) if len(written) == _PLACE.size else (2**64 - 1, 0)


def _number(written: Any, default: int) -> int:
    try:
        return default if written is None else int(bytes(written))
    except ValueError:
        raise lmdb.CorruptedError("a number in it is none") from None


def _batch_number(key: Any) -> int:
    if len(key) != _NUMBER.size:
        raise lmdb.CorruptedError("a batch in it has no number")
    return int(_NUMBER.unpack(key)[0])


def _keys(recipe: Recipe, texts: Sequence[str]) -> list[bytes]:
    prefix, empty = recipe.digest(), blake2b(digest_size=_DIGEST_BYTES)
    keys = []
    for text in texts:  # a copy of an empty hash is made faster than another
        text_hash = empty.copy()
        text_hash.update(text.encode())
        keys.append(prefix + text_hash.digest())
    return keys


def _n_bytes(batch: bytes, n_records: int) -> int:
    """Count what a batch takes on disk: whole pages, and an index entry for each record."""
    return -(-len(batch) // _PAGE_BYTES) * _PAGE_BYTES + n_records * _BYTES_PER_INDEX_ENTRY
