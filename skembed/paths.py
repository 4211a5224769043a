"""The door for paths: whatever path a user gives comes in here. Imports nothing of the package."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")  # two letters or more: C:\ is a drive


def read_path(path: str | os.PathLike[str], name: str) -> Path:
    """Return a path on this machine as a user means it, ``~`` being the home folder.

    Parameters
    ----------
    path : path
    name : str
        What the user calls it, for messages.

    Raises
    ------
    TypeError
        If it is no path.
    ValueError
        If it is empty, holds a NUL character, is a URL, or names a home folder that is not known.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} must be a path; got {path!r}.")
    written = os.fspath(path)
    if not written:
        raise ValueError(f"{name} is an empty str; give a path.")
    return Path(_local(written, name))


def read_model_name(model: str | os.PathLike[str]) -> str:
    """Return the name of a model, with ``~`` expanded in that of a folder; a name on the hub stays as it is.

    Raises
    ------
    ValueError
        If it holds a NUL character, is a URL, or names a home folder that is not known.
    """
    return _local(os.fspath(model), "model")


def is_url(path: Any) -> bool:
    """Whether something is written as a URL is, e.g. ``s3://bucket/folder``."""
    return isinstance(path, (str, os.PathLike)) and _URL.match(str(os.fspath(path))) is not None


class SpecialFileError(OSError):
    """What is read where a file should be is a pipe, a socket or a device."""


def refuse_special_file(path: Path) -> None:
    """Raise SpecialFileError if a path leads to neither a file nor a folder, such as a pipe: reading might hang."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise SpecialFileError(f"{path} is no regular file (a pipe, a socket or a device), which is not read.")


def _local(path: str, name: str) -> str:
    if "\0" in path:
        raise ValueError(f"{name}={path!r} has a NUL character, which no path can hold.")
    if is_url(path):
        instead = "the model's name on the hub or a local folder" if name == "model" else "a path on this machine"
        raise ValueError(f"{name}={path!r} is a URL, and only local files are used; give {instead}.")
    expanded = os.path.expanduser(path)
    if expanded == path and re.match(r"~([/\\]|$)", path):
        raise ValueError(f"{name}={path!r} is in the home folder, which is not known here; give the whole path.")
    return expanded
