"""The private interfaces of other libraries: each test fails when its interface goes."""

from __future__ import annotations

import lmdb
import pytest

from skembed import compat


@pytest.fixture
def environment(tmp_path):
    environment = compat.open_lmdb(tmp_path, map_size=2**24)
    yield environment
    environment.close()


def leave_out_pages(environment):
    """Put and delete a large value in one transaction, while older free pages take the list of those it frees."""
    sizes = [{b"kept": 100, b"large": 100_000}, {b"large": 0}, {b"small": 10}, {b"larger": 300_000}]
    for n_bytes_of in sizes:
        with environment.begin(write=True) as transaction:
            for key, n_bytes in n_bytes_of.items():
                transaction.put(key, b"a" * n_bytes)
            transaction.delete(b"larger")


def test_an_lmdb_file_may_be_shorter_than_the_bytes_it_must_have(environment, tmp_path):
    leave_out_pages(environment)
    n_bytes, page_bytes = compat.lmdb_file_bytes(environment)
    assert n_bytes % page_bytes == 0
    assert (tmp_path / "data.mdb").stat().st_size < n_bytes


def test_an_lmdb_file_that_is_full_has_the_bytes_it_must_have(environment, tmp_path):
    with environment.begin(write=True) as transaction:
        transaction.put(b"key", b"a" * 100_000)
    assert (tmp_path / "data.mdb").stat().st_size == compat.lmdb_file_bytes(environment)[0]


def test_a_padded_lmdb_file_is_read_and_written_by_whoever_has_it_open(environment, tmp_path):
    leave_out_pages(environment)
    n_bytes, _ = compat.lmdb_file_bytes(environment)
    with environment.begin(write=True):
        compat.pad_lmdb_file(tmp_path / "data.mdb", n_bytes)
    with environment.begin(write=True) as transaction:
        assert transaction.get(b"kept") == b"a" * 100
        transaction.put(b"new", b"c" * 50_000)
    with environment.begin() as transaction:
        assert transaction.get(b"new") == b"c" * 50_000


@pytest.mark.skipif(int(lmdb.__version__.partition(".")[0]) < 3, reason="lmdb with one engine")
def test_lmdb_writes_the_format_of_its_engine_0_9(environment):
    assert environment.lib_version()[:2] == (0, 9)
