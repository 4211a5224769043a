"""Check the pages of an LMDB file before LMDB reads them: it trusts them, and a damaged page kills the process.

Knows LMDB's format (http://www.lmdb.tech/doc/, data version 1) but not the tables; imports numpy.

A page begins with a head. In branches and leaves, the offsets of the nodes, free space and the nodes follow. The nodes
of a branch name the pages below it; those of a leaf hold keys and values, or the first page of a large value.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_HEAD = np.dtype([("number", "<u8"), ("pad", "<u2"), ("flags", "<u2"), ("lower", "<u2"), ("upper", "<u2")])
_LARGE_HEAD = struct.Struct("<QHHI")  # number, pad, flags, pages of a large value
_COUNTS = [(name, "<u8") for name in ("n_branches", "n_leaves", "n_large", "n_entries")]
_TREE = np.dtype([("pad", "<u4"), ("flags", "<u2"), ("depth", "<u2"), *_COUNTS, ("root", "<u8")])
_FILE = [("magic", "<u4"), ("version", "<u4"), ("address", "<u8"), ("map_bytes", "<u8"), ("trees", _TREE, (2,))]
_META = np.dtype([("head", _HEAD), *_FILE, ("last_page", "<u8"), ("transaction", "<u8")])
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _LARGE, _META_FLAG = 1, 2, 4, 8
_IS_LARGE, _IS_TREE = 1, 2  # flags of a leaf's node
_NO_PAGE = 2**64 - 1
_NODE_HEAD = 8
_FLAGS_OF_FREE_TREE = 8
_SLACK = 2**26  # bytes by which the last, empty pages may lie beyond the end of the file
_MAX_DEPTH = 32
_KNOWN_LAYOUT = sys.byteorder == "little" and sys.maxsize > 2**32  # LMDB writes numbers as the processor has them


class DamagedPageError(Exception):
    """A page contradicts another page or the head of the file."""


@dataclass(frozen=True)
class _Nodes:
    """The nodes of several branches, or of several leaves, in order."""

    pages: NDArray[np.uint8]
    starts: NDArray[np.int64]  # of each node, in the bytes of all pages
    words: NDArray[np.int64]  # the four numbers that each node begins with, shape (n_nodes, 4)

    @property
    def children(self) -> NDArray[np.int64]:
        return self.sizes | self.flags << 32

    @property
    def sizes(self) -> NDArray[np.int64]:
        return self.words[:, 0] | self.words[:, 1] << 16

    @property
    def flags(self) -> NDArray[np.int64]:
        return self.words[:, 2]

    def key(self, node: int) -> bytes:
        start = int(self.starts[node]) + _NODE_HEAD
        return self.pages.reshape(-1)[start : start + int(self.words[node, 3])].tobytes()

    def value(self, node: int, n_bytes: int) -> bytes:
        start = int(self.starts[node]) + _NODE_HEAD + int(self.words[node, 3])
        return self.pages.reshape(-1)[start : start + n_bytes].tobytes()


def check_heads(file: BinaryIO) -> None:
    """Check both heads of a non-empty file; LMDB uses the newer one.

    Raises
    ------
    DamagedPageError
        If a head is damaged or belongs to another kind of file.
    """
    if _KNOWN_LAYOUT:
        _read_heads(file)


def _read_heads(file: BinaryIO) -> NDArray[np.void]:
    heads = np.zeros(2, _META)
    page_bytes, n_bytes = 0, file.seek(0, os.SEEK_END)
    for number in (0, 1):
        file.seek(number * page_bytes)
        content = file.read(_META.itemsize)
        if len(content) < _META.itemsize:
            raise DamagedPageError("the file ends within its first pages")
        head = heads[number] = np.frombuffer(content, _META)[0]
        page_bytes = int(head["trees"][0]["pad"])
        if head["magic"] != _MAGIC or head["version"] != _VERSION or head["head"]["flags"] != _META_FLAG:
            raise DamagedPageError("the file does not begin like an LMDB file")
        is_valid = page_bytes in [2**power for power in range(9, 16)] and head["head"]["number"] == number
        is_valid &= page_bytes == heads[0]["trees"][0]["pad"] and head["trees"][0]["flags"] == _FLAGS_OF_FREE_TREE
        if not is_valid or int(head["last_page"]) > (2 * n_bytes + _SLACK) // page_bytes:
            raise DamagedPageError(f"the head on page {number} is not valid")
    return heads


def check_trees(file: BinaryIO, transaction: int, names: Collection[bytes], most_leaves: int) -> bool:
    """Check the trees of a file as an open transaction sees them.

    Parameters
    ----------
    file : binary file
    transaction : int
        Number of the transaction.
    names : collection of bytes
        Names of the tables to check.
    most_leaves : int
        Maximum number of leaves to read, so that large files open quickly. Branches are always read.

    Returns
    -------
    bool
        False if other processes have overwritten the head of the transaction meanwhile; then try again.

    Raises
    ------
    DamagedPageError
        If a page is damaged.
    """
    if not _KNOWN_LAYOUT:
        return True
    head = _read_heads(file)[transaction % 2]
    if int(head["transaction"]) != transaction:
        return False
    walk = _Walk(file, int(head["trees"][0]["pad"]), int(head["last_page"]), most_leaves)
    free, main = head["trees"]
    freed = [walk.value(nodes, node) for nodes in walk.leaves(free) for node in range(len(nodes.starts))]
    tables = []
    for nodes in walk.leaves(main):
        for node in np.flatnonzero(nodes.flags & _IS_TREE).tolist():
            if nodes.key(node) in names:
                tables.append(np.frombuffer(nodes.value(node, _TREE.itemsize), _TREE)[0])
    for table in sorted(tables, key=lambda table: int(table["n_leaves"])):
        for _ in walk.leaves(table):
            pass
    for content in freed:
        walk.mark_free(content)
    return True


class _Walk:
    """A walk through the trees of a file, which may visit each page only once."""

    def __init__(self, file: BinaryIO, page_bytes: int, last_page: int, most_leaves: int) -> None:
        self._file, self._page_bytes, self._last_page, self._n_leaves_left = file, page_bytes, last_page, most_leaves
        self._is_used = np.zeros(last_page + 1, dtype=bool)
        self._is_used[:2] = True  # the heads

    def leaves(self, tree: np.void) -> Iterator[_Nodes]:
        """Check a tree; yield the nodes of its leaves, several leaves at a time."""
        depth, root = int(tree["depth"]), int(tree["root"])
        if root == _NO_PAGE or not 1 <= depth <= _MAX_DEPTH:
            if root != _NO_PAGE or depth:
                raise DamagedPageError("a tree has no root")
            return
        pages, n_branches, n_entries, n_large = np.array([root], dtype=np.uint64).astype(np.int64), 0, 0, 0
        for _ in range(depth - 1):
            self._mark_used(pages)
            n_branches += len(pages)
            pages = np.concatenate([self._read_nodes(run, _BRANCH).children for run in _page_runs(pages)])
        self._mark_used(pages)
        if (n_branches, len(pages)) != (int(tree["n_branches"]), int(tree["n_leaves"])):
            raise DamagedPageError("a tree has a wrong count of pages")
        n_read = min(len(pages), self._n_leaves_left)
        self._n_leaves_left -= n_read
        for run in _page_runs(pages[:n_read]):
            nodes = self._read_nodes(run, _LEAF)
            n_entries += len(nodes.starts)
            n_large += self._mark_large_values(nodes)
            yield nodes
        if n_read == len(pages) and (n_entries, n_large) != (int(tree["n_entries"]), int(tree["n_large"])):
            raise DamagedPageError("a tree has a wrong count of entries")

    def _mark_used(self, pages: NDArray[np.int64]) -> None:
        """Mark pages as used, and check that none is used twice."""
        outside = (pages < 2) | (pages > self._last_page)
        if outside.any() or self._is_used[pages].any() or len(np.unique(pages)) < len(pages):
            raise DamagedPageError("a page lies outside of the file or is used twice")
        self._is_used[pages] = True

    def _read_nodes(self, numbers: NDArray[np.int64], kind: int) -> _Nodes:
        """Read branches or leaves, and check their kind and where they say that their contents are."""
        pages, size = self._read_pages(numbers), self._page_bytes
        heads = pages[:, : _HEAD.itemsize].copy().view(_HEAD)[:, 0]
        lower, upper = heads["lower"].astype(np.int64), heads["upper"].astype(np.int64)
        n_nodes = (lower - _HEAD.itemsize) // 2
        is_valid = (heads["number"] == numbers) & (heads["flags"] == kind) & (lower % 2 == 0) & (n_nodes >= 1)
        self._check(numbers, is_valid & (lower <= upper) & (upper <= size))
        page_of = np.repeat(np.arange(len(numbers)), n_nodes)
        slots = np.arange(len(page_of)) - np.repeat(np.cumsum(n_nodes) - n_nodes, n_nodes)
        halves = pages.reshape(-1).view("<u2")
        offsets = halves[page_of * (size // 2) + _HEAD.itemsize // 2 + slots].astype(np.int64)
        is_valid = (offsets % 2 == 0) & (offsets >= upper[page_of]) & (offsets <= size - _NODE_HEAD)
        self._check(numbers[page_of], is_valid)
        starts = page_of * size + offsets
        nodes = _Nodes(pages, starts, halves[starts[:, None] // 2 + np.arange(4)].astype(np.int64))
        node_bytes = _NODE_HEAD + nodes.words[:, 3]
        if kind == _LEAF:
            is_known = (nodes.flags & ~(_IS_LARGE | _IS_TREE)) == 0
            is_tree = (nodes.flags & _IS_TREE) > 0
            self._check(numbers[page_of], is_known & (~is_tree | (nodes.sizes == _TREE.itemsize)))
            node_bytes += np.where(nodes.flags & _IS_LARGE, 8, nodes.sizes)
        self._check(numbers[page_of], offsets + node_bytes <= size)
        filled = np.bincount(page_of, node_bytes + node_bytes % 2, len(numbers))
        self._check(numbers, filled == size - upper)
        return nodes

    def _mark_large_values(self, nodes: _Nodes) -> int:
        """Mark the pages of the large values of leaves as used; return their number."""
        n_pages = 0
        for node in np.flatnonzero(nodes.flags & _IS_LARGE).tolist():
            first = int.from_bytes(nodes.value(node, 8), "little")
            n = (_LARGE_HEAD.size - 1 + int(nodes.sizes[node])) // self._page_bytes + 1
            if not 2 <= first <= self._last_page - n + 1 or self._is_used[first : first + n].any():
                raise DamagedPageError("a page lies outside of the file or is used twice")
            self._is_used[first : first + n] = True
            self._file.seek(first * self._page_bytes)
            head = self._file.read(_LARGE_HEAD.size)
            number, _, flags, n_said = _LARGE_HEAD.unpack(head.ljust(_LARGE_HEAD.size, b"\0"))
            if (number, flags, n_said) != (first, _LARGE, n):
                raise DamagedPageError(f"page {first} is damaged")
            n_pages += n
        return n_pages

    def value(self, nodes: _Nodes, node: int) -> bytes:
        """Read a value, from its leaf or from pages of its own."""
        n_bytes = int(nodes.sizes[node])
        if not nodes.flags[node] & _IS_LARGE:
            return nodes.value(node, n_bytes)
        self._file.seek(int.from_bytes(nodes.value(node, 8), "little") * self._page_bytes + _LARGE_HEAD.size)
        return self._file.read(n_bytes)

    def mark_free(self, content: bytes) -> None:
        """Mark the pages in a list of free pages as used."""
        numbers = np.frombuffer(content[: len(content) // 8 * 8], "<u8")
        pages = numbers[1:].astype(np.int64)
        is_whole = len(numbers) > 0 and len(content) % 8 == 0 and numbers[0] == len(pages)
        if not is_whole or (numbers[1:] >= 2**62).any() or (np.diff(pages) >= 0).any():  # sorted, the last page first
            raise DamagedPageError("a list of free pages is damaged")
        self._mark_used(pages)

    def _read_pages(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        content = bytearray()
        for number in numbers.tolist():
            self._file.seek(number * self._page_bytes)
            content += self._file.read(self._page_bytes)
        if len(content) < len(numbers) * self._page_bytes:
            raise DamagedPageError("the file ends before its last page")
        return np.frombuffer(content, np.uint8).reshape(len(numbers), self._page_bytes)

    @staticmethod
    def _check(numbers: NDArray[np.int64], is_valid: NDArray[np.bool_]) -> None:
        """Raise for the first page that is not valid."""
        if not is_valid.all():
            raise DamagedPageError(f"page {numbers[~is_valid][0]} is damaged")


def _page_runs(pages: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(pages), 1024):
        yield pages[start : start + 1024]
