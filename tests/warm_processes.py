"""Scripts in processes that need not import the slow libraries: they are forked from one that has done so once."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_IMPORTED = ["pandas", "pyarrow", "sentence_transformers", "sklearn.linear_model", "sklearn.model_selection"]


def run_script(script: Path, arguments: Sequence[str], cwd: Path, variables: Mapping[str, str]) -> str:
    """What a script prints, in a process of its own.

    Raises
    ------
    subprocess.CalledProcessError
        If it ends with another exit status than 0.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        printed = [f"{folder}/{stream}" for stream in ("stdout", "stderr")]
        process = context.Process(target=_run, args=(str(script), list(arguments), str(cwd), dict(variables), printed))
        process.start()
        process.join()
        stdout, stderr = (Path(file).read_text(encoding="utf-8") for file in printed)
    if process.exitcode != 0:
        raise subprocess.CalledProcessError(process.exitcode, [str(script), *arguments], stdout, stderr)
    return stdout


def _run(script: str, arguments: list[str], cwd: str, variables: dict[str, str], printed: list[str]) -> None:
    for descriptor, file in enumerate(printed, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    sys.path[:0] = [str(Path(script).parent), *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(script, run_name="__main__")
