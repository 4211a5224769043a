"""Records: vectors as bytes, each with its key, token count and checksum. Knows no files; imports numpy."""

from __future__ import annotations

import struct
from collections.abc import Container, Sequence
from functools import cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32

_HEAD = struct.Struct("<II")  # number of records, dimensions of their vectors


@cache
def _dtype(dim: int) -> np.dtype[np.void]:
    return np.dtype([("key", f"V{KEY_BYTES}"), ("n_tokens", "<i8"), ("vector", "<f4", (dim,)), ("checksum", "<u4")])


def record_bytes(dim: int) -> int:
    """Return the bytes that one record takes."""
    return KEY_BYTES + 8 + 4 * dim + 4


def write_records(keys: Sequence[bytes], n_tokens: NDArray[np.int64], vectors: NDArray[np.float32]) -> bytes:
    """Write vectors as records, one after the other.

    Parameters
    ----------
    keys : sequence of bytes
        ``KEY_BYTES`` each.
    n_tokens : ndarray of int64, shape (len(keys),)
    vectors : ndarray of float32, shape (len(keys), dim)
    """
    records = np.zeros(len(keys), _dtype(vectors.shape[1]))
    records["key"] = np.frombuffer(b"".join(keys), records["key"].dtype)
    records["n_tokens"], records["vector"] = n_tokens, vectors
    content, size = records.view(np.uint8).data, records.dtype.itemsize
    records["checksum"] = [crc32(content[start : start + size - 4]) for start in range(0, len(content), size)]
    return _HEAD.pack(len(keys), vectors.shape[1]) + records.tobytes()


class Records:
    """Read what :func:`write_records` wrote, without copying.

    Parameters
    ----------
    written : buffer or None
        None, a truncated buffer and vectors of another dimension count as no records.
    dim : int, default=None
        The expected dimension of the vectors. None: any.

    Attributes
    ----------
    n_tokens : ndarray of int64, shape (n_records,)
    vectors : ndarray of float32, shape (n_records, dim)
    """

    def __init__(self, written: memoryview | bytes | None, dim: int | None = None) -> None:
        content = memoryview(written or b"")
        n_records, written_dim = _HEAD.unpack_from(content) if len(content) >= _HEAD.size else (0, 1)
        is_whole = len(content) == _HEAD.size + n_records * record_bytes(written_dim)
        if not is_whole or dim not in (None, written_dim):
            content, written_dim = content[:0], dim or 1
        dtype = _dtype(written_dim)
        self._content = content[_HEAD.size :]
        self._fields = np.frombuffer(self._content, dtype)
        self.n_tokens: NDArray[np.int64] = self._fields["n_tokens"]
        self.vectors: NDArray[np.float32] = self._fields["vector"]

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def keys(self) -> list[bytes]:
        """Keys in order."""
        keys: list[bytes] = self._fields["key"].tolist()
        return keys

    def find(self, wanted: Container[bytes], among: slice) -> dict[bytes, int]:
        """Find the wanted keys in a slice of the records; damaged records are left out.

        Returns
        -------
        dict
            From key to row of the record.
        """
        some, size = self._fields[among], self._fields.dtype.itemsize
        entries = zip(some["key"].tolist(), some["checksum"].tolist(), strict=True)
        return {
            key: row
            for row, (key, checksum) in enumerate(entries, start=among.start)
            if key in wanted and crc32(self._content[row * size : (row + 1) * size - 4]) == checksum
        }
