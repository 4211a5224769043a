"""Private interfaces of other libraries, each behind one function. Imports nothing of the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def lmdb_file_bytes(environment: Any) -> tuple[int, int]:
    """Return the bytes that an LMDB file must have to hold all pages it counts, and the bytes of one page.

    LMDB reads through a memory map, and reading a page beyond the end of the file kills the process. py-lmdb documents
    both numbers. That the pages lie one after the other from the start of the file is LMDB's format.
    """
    page_bytes = environment.stat()["psize"]
    return (environment.info()["last_pgno"] + 1) * page_bytes, page_bytes


def open_lmdb(folder: Path, **options: Any) -> Any:
    """Open an LMDB file in a folder, in the format of LMDB 0.9, whose pages the caller checks and pads.

    lmdb 3 bundles two engines, 0.9 and 1.0, which write different formats. Without ``lib_version`` the environment
    variable LMDB_DEFAULT_LIB_VERSION chooses the engine of a new file. Earlier versions of lmdb have only 0.9.
    """
    import lmdb

    if int(lmdb.__version__.partition(".")[0]) >= 3:
        options["lib_version"] = 0
    return lmdb.open(os.fsencode(folder), **options)


def pad_lmdb_file(file: Path, n_bytes: int) -> None:
    """Make an LMDB file longer, within a writing transaction, while any number of processes have it open.

    LMDB does not write pages that were allocated and freed in one transaction, so that its file may end too early. It
    never reads what such pages contain, and on all systems with a unified page cache the map shows the longer file.
    """
    os.truncate(file, n_bytes)
