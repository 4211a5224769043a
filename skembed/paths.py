"""The one door for paths that users give. Imports nothing of the package."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")  # two letters or more: C:\ is a drive


def read_path(path: str | os.PathLike[str], name: str) -> Path:
    """Return a local path that a user gave; ``~`` is the home folder.

    Parameters
    ----------
    path : path
    name : str
        Name of the parameter, for messages.

    Raises
    ------
    TypeError
        If it is not a path.
    ValueError
        If it is empty, contains a NUL character, is a URL, or names a home folder that is not known.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} must be a path; got {path!r}.")
    written = os.fspath(path)
    if not written:
        raise ValueError(f"{name} is an empty str; give a path.")
    return Path(_local(written, name))


def read_model_name(model: str | os.PathLike[str]) -> str:
    """Return the name of a model, with ``~`` expanded if it is a folder; a name on the hub stays as it is.

    Raises
    ------
    ValueError
        If it contains a NUL character, is a URL, or names a home folder that is not known.
    """
    return _local(os.fspath(model), "model")


def is_url(path: Any) -> bool:
    """Return whether a path is written as a URL, e.g. ``s3://bucket/folder``."""
    return isinstance(path, (str, os.PathLike)) and _URL.match(str(os.fspath(path))) is not None


class SpecialFileError(OSError):
    """A pipe, a socket or a device is where a file should be."""


def refuse_special_file(path: Path) -> None:
    """Raise SpecialFileError if a path leads to a pipe, a socket or a device, because reading it might hang."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise SpecialFileError(f"{path} is not a regular file but a pipe, a socket or a device, and is not read.")


def _local(path: str, name: str) -> str:
    if "\0" in path:
        raise ValueError(f"{name}={path!r} has a NUL character, which a path cannot contain.")
    if is_url(path):
        instead = "the model's name on the hub or a local folder" if name == "model" else "a path on this machine"
        raise ValueError(f"{name}={path!r} is a URL, but only local files can be used; give {instead}.")
    expanded = os.path.expanduser(path)
    if expanded == path and re.match(r"~([/\\]|$)", path):
        raise ValueError(f"{name}={path!r} is in the home folder, which is not known here; give the full path.")
    return expanded
