"""The one door to libraries that not everyone needs; imports nothing by itself."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, *, extra: str, needed_by: str) -> Any:
    """Import a library, or say who needs it and how to get it.

    Parameters
    ----------
    module : str
        Name to import, e.g. "pyarrow.parquet".
    extra : str
        The extra of skembed that brings it.
    needed_by : str
        What the user called.

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
        raise ImportError(f"{needed_by} needs {library}: pip install 'skembed[{extra}]'.") from error
