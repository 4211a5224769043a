"""Files and folders that are written completely or not at all. Imports nothing of the package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

UNFINISHED = ".unfinished"  # how the name of an unfinished file ends, and that of an unfinished folder begins


@contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when the block ends; after an exception ``path`` is as it was.

    A process that is killed leaves ``<name>.unfinished`` beside it.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    sync : bool, default=True
        Whether to wait until the file is on the disk, so that it survives a power failure. Pass False for a file that
        can be made again and whose damage would be noticed.

    Yields
    ------
    file
        Opened for writing bytes.
    """
    unfinished = path.with_name(f"{path.name}{UNFINISHED}")
    try:
        with open(unfinished, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
        if sync:
            _sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(folder: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Make a folder that takes the place of ``folder`` when the block ends; after an exception that is as it was.

    A process that is killed leaves ``.unfinished-<name>-<digits>`` beside it, and in the moment of replacing the
    previous folder as ``.unfinished-<name>-<digits>-old``.

    Parameters
    ----------
    folder : Path
        In a folder that exists. A folder of this name is replaced, whatever it holds.
    mode : int, default=0o777
        Permissions of the new folder, less those that the umask takes away.

    Yields
    ------
    Path
        The new folder, empty, to be filled.
    """
    unfinished = folder.with_name(f"{UNFINISHED}-{folder.name}-{uuid4().hex}")
    old = unfinished.with_name(f"{unfinished.name}-old")
    try:
        unfinished.mkdir(mode)
        yield unfinished
        if folder.exists():
            folder.rename(old)
        unfinished.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
