"""The one door to libraries that not everyone needs; imports nothing by itself."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, *, needed_by: str, extra: str | None = None, package: str | None = None) -> Any:
    """Import a library, or say who needs it and how to get it.

    Parameters
    ----------
    module : str
        Name to import, e.g. "pyarrow.parquet".
    needed_by : str
        What the user called.
    extra : str, default=None
        The extra of skembed that brings it.
    package : str, default=None
        What to install where no extra brings it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed.

    Examples
    --------
    >>> require("json", extra="plot", needed_by="an example").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name != library:
            raise  # installed but broken: its own error tells more
        what = f"'skembed[{extra}]'" if package is None else package
        raise ImportError(f"{needed_by} needs {package or library}: pip install {what}.") from error
