"""Scripts and trials of OpenVINO in processes that are forked from one that has imported the slow libraries."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_IMPORTED = ["pandas", "pyarrow", "sentence_transformers", "sklearn.linear_model", "sklearn.model_selection"]
_IMPORTED.append("skembed.encoding.backends.openvino_trial")  # and with it openvino, where it is installed


def run_script(script: Path, arguments: Sequence[str], cwd: Path, variables: Mapping[str, str]) -> str:
    """What a script prints, in a process of its own.

    Raises
    ------
    subprocess.CalledProcessError
        If it ends with another exit status than 0.
    """
    status, stdout, stderr = _run_process(_run_script, (str(script), list(arguments), str(cwd), dict(variables)))
    if status != 0:
        command = [str(script), *arguments]
        raise subprocess.CalledProcessError(status, command, stdout.decode(), stderr.decode())
    return stdout.decode()


def run_trial(task: Mapping[str, Any], seconds: float) -> tuple[int, bytes, bytes]:
    """The exit status, output and errors of a process that tries what OpenVINO compiled, as the package starts one."""
    return _run_process(_run_trial, (dict(task),), seconds)


def _run_process(
    target: Callable[..., None], arguments: tuple[Any, ...], seconds: float | None = None
) -> tuple[int, bytes, bytes]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        printed = [f"{folder}/{stream}" for stream in ("stdout", "stderr")]
        process = context.Process(target=_print_into, args=(printed, target, arguments))
        process.start()
        try:
            process.join(seconds)
            is_late = process.is_alive()
        finally:  # it never outlives the call
            process.kill()
            process.join()
        stdout, stderr = (Path(file).read_bytes() for file in printed)
    return 1 if is_late else process.exitcode or 0, stdout, stderr


def _print_into(files: Sequence[str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    target(*arguments)


def _run_trial(task: dict[str, Any]) -> None:
    from skembed.encoding.backends.openvino_trial import try_here

    try_here(**task)


def _run_script(script: str, arguments: list[str], cwd: str, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    sys.path[:0] = [str(Path(script).parent), *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(script, run_name="__main__")
