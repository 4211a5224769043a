"""Checks the pages of an LMDB file before LMDB reads them: it trusts them, and damage would end the process.

Knows LMDB's format (http://www.lmdb.tech/doc/, data version 1) and no table; imports numpy.

A page is a head, then, where it is a branch or a leaf, the places of its nodes, free room, and the nodes. A branch's
nodes name the pages below it; a leaf's hold keys and values, or the first of the pages that a large value fills.
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
_OF_FREE_PAGES = 8  # the flags of the tree of free pages
_SLACK = 2**26  # bytes that the last pages of a file, which nothing is in, may be beyond its end
_MOST_LEVELS = 32
_KNOWN_LAYOUT = sys.byteorder == "little" and sys.maxsize > 2**32  # LMDB writes what the processor reads


class DamagedPageError(Exception):
    """A page is not what another page, or the head of the file, says it is."""


@dataclass(frozen=True)
class _Nodes:
    """The nodes of some branches, or of some leaves, one after the other."""

    pages: NDArray[np.uint8]
    starts: NDArray[np.int64]  # where each begins, in all the pages' bytes
    words: NDArray[np.int64]  # the four numbers that it begins with

    @property
    def children(self) -> NDArray[np.int64]:
        low, high, highest, _ = self.words.T
        children: NDArray[np.int64] = low | high << 16 | highest << 32
        return children

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
    """Check both heads of a file that is not empty, of which LMDB takes the newer one.

    Raises
    ------
    DamagedPageError
        If one is damaged, or belongs to another kind of file.
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
            raise DamagedPageError("it ends within its first pages")
        head = heads[number] = np.frombuffer(content, _META)[0]
        page_bytes = int(head["trees"][0]["pad"])
        if head["magic"] != _MAGIC or head["version"] != _VERSION or head["head"]["flags"] != _META_FLAG:
            raise DamagedPageError("it does not begin as an LMDB file does")
        is_right = page_bytes in [2**power for power in range(9, 16)] and head["head"]["number"] == number
        is_right &= page_bytes == heads[0]["trees"][0]["pad"] and head["trees"][0]["flags"] == _OF_FREE_PAGES
        if not is_right or int(head["last_page"]) > (2 * n_bytes + _SLACK) // page_bytes:
            raise DamagedPageError(f"its head, page {number}, is not right")
    return heads


def check_trees(file: BinaryIO, transaction: int, names: Collection[bytes], most_leaves: int) -> bool:
    """Check the trees of a file as a transaction sees them, which must be open meanwhile.

    Parameters
    ----------
    file : binary file
    transaction : int
        Its number.
    names : collection of bytes
        Of the tables that count; those of others are not looked into.
    most_leaves : int
        How many leaves are looked into, so that a large file is opened fast, too; branches always are.

    Returns
    -------
    bool
        False if others have written so much meanwhile that the head is gone; then try again.

    Raises
    ------
    DamagedPageError
        If a page is not what it should be.
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
        walk.take_freed(content)
    return True


class _Walk:
    """A way through the trees of a file, which comes by each page once."""

    def __init__(self, file: BinaryIO, page_bytes: int, last_page: int, most_leaves: int) -> None:
        self._file, self._page_bytes, self._last_page, self._n_left = file, page_bytes, last_page, most_leaves
        self._is_taken = np.zeros(last_page + 1, dtype=bool)
        self._is_taken[:2] = True  # the heads

    def leaves(self, tree: np.void) -> Iterator[_Nodes]:
        """Check a tree; yield the nodes of its leaves, some leaves at a time."""
        depth, root = int(tree["depth"]), int(tree["root"])
        if root == _NO_PAGE or not 1 <= depth <= _MOST_LEVELS:
            if root != _NO_PAGE or depth:
                raise DamagedPageError("a tree has no root")
            return
        pages, n_branches, n_entries, n_large = np.array([root], dtype=np.uint64).astype(np.int64), 0, 0, 0
        for _ in range(depth - 1):
            self._take(pages)
            n_branches += len(pages)
            pages = np.concatenate([self._read(some, _BRANCH).children for some in _page_runs(pages)])
        self._take(pages)
        if (n_branches, len(pages)) != (int(tree["n_branches"]), int(tree["n_leaves"])):
            raise DamagedPageError("a tree has other pages than it counts")
        n_looked_into = min(len(pages), self._n_left)
        self._n_left -= n_looked_into
        for some in _page_runs(pages[:n_looked_into]):
            nodes = self._read(some, _LEAF)
            n_entries += len(nodes.starts)
            n_large += self._take_large(nodes)
            yield nodes
        if n_looked_into == len(pages) and (n_entries, n_large) != (int(tree["n_entries"]), int(tree["n_large"])):
            raise DamagedPageError("a tree has other entries than it counts")

    def _take(self, pages: NDArray[np.int64]) -> None:
        """Note that pages are used; none is used twice."""
        outside = (pages < 2) | (pages > self._last_page)
        if outside.any() or self._is_taken[pages].any() or len(np.unique(pages)) < len(pages):
            raise DamagedPageError("a page is outside of the file, or used twice")
        self._is_taken[pages] = True

    def _read(self, numbers: NDArray[np.int64], kind: int) -> _Nodes:
        """Read some branches or leaves, and check that each is one, and holds what it says where it says."""
        pages, size = self._read_pages(numbers), self._page_bytes
        heads = pages[:, : _HEAD.itemsize].copy().view(_HEAD)[:, 0]
        lower, upper = heads["lower"].astype(np.int64), heads["upper"].astype(np.int64)
        n_nodes = (lower - _HEAD.itemsize) // 2
        is_right = (heads["number"] == numbers) & (heads["flags"] == kind) & (lower % 2 == 0) & (n_nodes >= 1)
        self._refuse(numbers, ~(is_right & (lower <= upper) & (upper <= size)))
        page_of = np.repeat(np.arange(len(numbers)), n_nodes)
        slots = np.arange(len(page_of)) - np.repeat(np.cumsum(n_nodes) - n_nodes, n_nodes)
        halves = pages.reshape(-1).view("<u2")
        offsets = halves[page_of * (size // 2) + _HEAD.itemsize // 2 + slots].astype(np.int64)
        is_right = (offsets % 2 == 0) & (offsets >= upper[page_of]) & (offsets <= size - _NODE_HEAD)
        self._refuse(numbers[page_of], ~is_right)
        starts = page_of * size + offsets
        nodes = _Nodes(pages, starts, halves[starts[:, None] // 2 + np.arange(4)].astype(np.int64))
        node_bytes = _NODE_HEAD + nodes.words[:, 3]
        if kind == _LEAF:
            is_known = (nodes.flags & ~(_IS_LARGE | _IS_TREE)) == 0
            is_tree = (nodes.flags & _IS_TREE) > 0
            self._refuse(numbers[page_of], ~is_known | (is_tree & (nodes.sizes != _TREE.itemsize)))
            node_bytes += np.where(nodes.flags & _IS_LARGE, 8, nodes.sizes)
        self._refuse(numbers[page_of], offsets + node_bytes > size)
        filled = np.bincount(page_of, node_bytes + node_bytes % 2, len(numbers))
        self._refuse(numbers, filled != size - upper)
        return nodes

    def _take_large(self, nodes: _Nodes) -> int:
        """Take the pages of the large values of some leaves; return how many there are."""
        n_pages = 0
        for node in np.flatnonzero(nodes.flags & _IS_LARGE).tolist():
            first, n = int.from_bytes(nodes.value(node, 8), "little"), self._n_pages(int(nodes.sizes[node]))
            if not 2 <= first <= self._last_page - n + 1 or self._is_taken[first : first + n].any():
                raise DamagedPageError("a page is outside of the file, or used twice")
            self._is_taken[first : first + n] = True
            self._file.seek(first * self._page_bytes)
            head = self._file.read(_LARGE_HEAD.size)
            if len(head) < _LARGE_HEAD.size or _LARGE_HEAD.unpack(head)[::2] != (first, _LARGE):
                raise DamagedPageError(f"page {first} is not what it should be")
            if _LARGE_HEAD.unpack(head)[3] != n:
                raise DamagedPageError(f"page {first} is not what it should be")
            n_pages += n
        return n_pages

    def _n_pages(self, n_bytes: int) -> int:
        return (_LARGE_HEAD.size - 1 + n_bytes) // self._page_bytes + 1

    def value(self, nodes: _Nodes, node: int) -> bytes:
        """Read a value, wherever it is."""
        n_bytes = int(nodes.sizes[node])
        if not nodes.flags[node] & _IS_LARGE:
            return nodes.value(node, n_bytes)
        self._file.seek(int.from_bytes(nodes.value(node, 8), "little") * self._page_bytes + _LARGE_HEAD.size)
        return self._file.read(n_bytes)

    def take_freed(self, content: bytes) -> None:
        """Take the pages of a list of free ones."""
        numbers = np.frombuffer(content[: len(content) // 8 * 8], "<u8")
        if not len(numbers) or len(content) % 8 or numbers[0] != len(numbers) - 1 or (numbers[1:] >= 2**62).any():
            raise DamagedPageError("a list of free pages is not right")
        pages = numbers[1:].astype(np.int64)
        if (np.diff(pages) >= 0).any():  # LMDB keeps them sorted, the last page first
            raise DamagedPageError("a list of free pages is not right")
        self._take(pages)

    def _read_pages(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        content = bytearray()
        for number in numbers.tolist():
            self._file.seek(number * self._page_bytes)
            content += self._file.read(self._page_bytes)
        if len(content) < len(numbers) * self._page_bytes:
            raise DamagedPageError("it ends before its last page")
        return np.frombuffer(content, np.uint8).reshape(len(numbers), self._page_bytes)

    @staticmethod
    def _refuse(numbers: NDArray[np.int64], is_wrong: NDArray[np.bool_]) -> None:
        if is_wrong.any():
            raise DamagedPageError(f"page {numbers[is_wrong][0]} is not what it should be")


def _page_runs(pages: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(pages), 1024):
        yield pages[start : start + 1024]
