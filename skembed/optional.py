"""The one door to optional dependencies. Imports nothing by itself."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, *, needed_by: str, extra: str | None = None, package: str | None = None) -> Any:
    """Import an optional dependency; raise an error that says who needs it and how to install it.

    Parameters
    ----------
    module : str
        Name to import, e.g. "pyarrow.parquet".
    needed_by : str
        What the user called.
    extra : str, default=None
        The extra of skembed that installs it.
    package : str, default=None
        The package to install if no extra does.

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
