"""Compiled variants of a converted model: each is tried in a process of its own before it runs in this one.

Native code can end the process that runs it, and the processor, the precision, the threads and the layers decide which
code runs. So a child process first compiles and runs what has not run before. The outcome is stored beside the model,
and a variant that ended the child never runs in this process. Imports openvino, numpy and the ground.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, cast
from zlib import crc32

import numpy as np

from skembed.atomic import UNFINISHED, atomic_write
from skembed.compat import import_openvino, is_out_of_memory
from skembed.locks import FOREVER, locked
from skembed.processor import processor_flags

openvino = import_openvino()

MODEL, POST_POOLING = "model.xml", "tail.xml"
ONE_AT_A_TIME, SEVERAL_AT_A_TIME = "LATENCY", "THROUGHPUT"  # batches; OpenVINO's hints

# A child that takes longer is assumed to hang. The limit is generous, because a wrong verdict is stored.
SECONDS_PER_VARIANT = 120.0
_BYTES_PER_SECOND = 2e7  # of weights, in addition

_PRECISION = {"float32": "f32", "bfloat16": "bf16"}
_MOST_BLOBS = 16  # of a model; the least recently used one is removed
_SETTINGS_OF_LIBRARIES = ("ONEDNN_", "DNNL_", "OV_", "OPENVINO_")  # environment variables that select code

# Signals sent by others; all other signals are the variant's fault. On Windows, a crash has a large exit status.
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_WINDOWS_CRASH = 0xC0000000

_MARK = "skembed-trial:"  # starts the child's lines, because native code may print, too
_PROGRAM = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:] = asked.pop("path")
from skembed.encoding.backends.openvino_trial import try_here
try_here(**asked)
"""


class CannotRunError(RuntimeError):
    """A compiled model would end this process or fail in it, or it could not be tried in another process.

    Attributes
    ----------
    lasts : bool
        Whether a repetition would have the same outcome.
    """

    def __init__(self, reason: str, *, lasts: bool) -> None:
        super().__init__(reason)
        self.lasts = lasts


class Outcome(NamedTuple):
    """The outcome of a trial.

    Attributes
    ----------
    reason : str or None
        Why the variant must not run in this process. None: it may.
    lasts : bool
        Whether a repetition would have the same outcome.
    """

    reason: str | None
    lasts: bool


@dataclass(frozen=True)
class Variant:
    """One way to compile a converted model.

    Attributes
    ----------
    layers : tuple of int or None
        Whose hidden states it returns. None: the variant is of the modules after the pooling.
    dtype : {"float32", "bfloat16"}
    hint, n_threads
        See :meth:`options`. None for the modules after the pooling.
    """

    layers: tuple[int, ...] | None
    dtype: str
    hint: str | None = None
    n_threads: int | None = None

    def options(self) -> dict[str, Any]:
        """Return the options for OpenVINO."""
        options = {"INFERENCE_PRECISION_HINT": _PRECISION[self.dtype]}
        if self.hint is None:
            return options
        return {"PERFORMANCE_HINT": self.hint, "INFERENCE_NUM_THREADS": self.n_threads, **options}

    def key(self) -> str:
        """Return a digest of all that selects the code: options, OpenVINO's version, processor, number of cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS_OF_LIBRARIES)}
        content = json.dumps([asdict(self), _processor(), cores, os.cpu_count(), settings], sort_keys=True, default=str)
        return blake2b(content.encode(errors="surrogateescape"), digest_size=8).hexdigest()


@cache
def core() -> Any:
    """Return the OpenVINO core of this process, which starts OpenVINO's threads."""
    return openvino.Core()


def _processor() -> tuple[Any, ...]:
    properties = (core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"))
    return (openvino.get_version(), *properties, processor_flags())


def compile_variant(folder: Path, variant: Variant) -> Any:
    """Compile a variant of the model in a folder."""
    if variant.layers is None:
        return core().compile_model(folder / POST_POOLING, "CPU", variant.options())
    model = core().read_model(folder / MODEL)
    results = model.get_results()
    some = openvino.Model([results[layer] for layer in variant.layers], model.get_parameters())
    return core().compile_model(some, "CPU", variant.options())


def import_blob(folder: Path, variant: Variant) -> Any:
    """Read a compiled model; return None if there is none, or it is damaged or of no use here."""
    kept = folder / f"{variant.key()}.blob"
    with suppress(OSError, RuntimeError):
        content = kept.read_bytes()
        if len(content) > 4 and crc32(memoryview(content)[4:]) == int.from_bytes(content[:4], "little"):
            compiled = core().import_model(io.BytesIO(memoryview(content)[4:]), "CPU", variant.options())
            os.utime(kept)
            return compiled
    return None


def export_blob(compiled: Any, folder: Path, variant: Variant) -> None:
    """Store a compiled model, and remove those not used for long, made for other versions, processors or threads.

    Raises
    ------
    OSError
        If it cannot be written, for example because another process has locked the folder.
    """
    content = compiled.export_model().getvalue()
    with writing_alone(folder, timeout=0):
        _write_blob(content, folder, variant)


def _write_blob(content: bytes, folder: Path, variant: Variant) -> None:
    with atomic_write(folder / f"{variant.key()}.blob", sync=False) as file:
        file.write(crc32(content).to_bytes(4, "little"))
        file.write(content)
    for outdated in sorted(folder.glob("*.blob"), key=lambda path: -path.stat().st_mtime)[_MOST_BLOBS:]:
        outdated.unlink(missing_ok=True)


@contextmanager
def writing_alone(folder: Path, timeout: float = FOREVER) -> Iterator[None]:
    """Hold the lock of a conversion, and remove unfinished files of killed processes."""
    with locked(f"{folder}.lock", timeout=timeout, mode=0o600):
        for left in folder.glob(f"*{UNFINISHED}"):
            with suppress(OSError):
                left.unlink()
        yield


def sealed(values: dict[str, Any]) -> bytes:
    """Return a dict, which must not be empty, as JSON with a checksum."""
    body = json.dumps(values)[1:].encode()
    return _seal(body) + body


def unsealed(content: bytes) -> dict[str, Any]:
    """Return the dict that :func:`sealed` was given.

    Raises
    ------
    ValueError
        If the content was changed.
    """
    seal_length = len(_seal(b""))
    if content[:seal_length] != _seal(content[seal_length:]):
        raise ValueError("damaged")
    return cast("dict[str, Any]", json.loads(content))


def _seal(body: bytes) -> bytes:
    return f'{{"seal": "{blake2b(body, digest_size=16).hexdigest()}", '.encode()


class Trials:
    """The trials of the variants of one converted model.

    Parameters
    ----------
    folder : Path
        Of the conversion.
    examples : callable
        Returns the inputs for :func:`_run`; it is called only for a trial.
    is_private : bool
        Whether no other process uses the folder.
    """

    def __init__(self, folder: Path, examples: Callable[[], dict[str, Any]], *, is_private: bool) -> None:
        self._folder, self._examples, self._is_private = folder, examples, is_private
        self._known: dict[str, Outcome] = {}  # by key

    def outcomes(self, variants: Sequence[Variant]) -> list[Outcome]:
        """Return for each variant whether it may run in this process; variants with unknown outcome are tried."""
        if not all(map(self._is_known, variants)):
            try:
                with nullcontext() if self._is_private else writing_alone(self._folder):
                    self._try(variants)
            except OSError:  # the folder is read-only
                self._try(variants)
        return [self._known[variant.key()] for variant in variants]

    def _try(self, variants: Sequence[Variant]) -> None:
        # Other processes may have tried some meanwhile.
        unknown = [variant for variant in variants if not self._is_known(variant)]
        new = [variant for variant in unknown if (self._graph, variant.key()) not in _outcomes]
        if new:
            outcomes = _try_in_children(self._folder, [asdict(variant) for variant in new], self._examples())
            _outcomes.update(zip([(self._graph, variant.key()) for variant in new], outcomes, strict=True))
        for variant in unknown:
            outcome = self._known[variant.key()] = _outcomes[self._graph, variant.key()]
            if outcome.lasts:
                with suppress(OSError), atomic_write(self._verdict(variant), sync=False) as file:
                    file.write(sealed({"reason": outcome.reason}))

    def _is_known(self, variant: Variant) -> bool:
        if (key := variant.key()) not in self._known:
            with suppress(OSError, ValueError):
                reason = unsealed(self._verdict(variant).read_bytes())["reason"]
                self._known[key] = Outcome(reason, lasts=True)
        return key in self._known

    def _verdict(self, variant: Variant) -> Path:
        return self._folder / f"{variant.key()}.verdict"

    @cached_property
    def _graph(self) -> str:
        """Digest of the model without its weights, which are all that training changes: the code stays the same."""
        files = (self._folder / name for name in (MODEL, POST_POOLING))
        content = b"".join(file.read_bytes() for file in files if file.exists())
        return blake2b(re.sub(rb' name="[^"]*"', b"", content)).hexdigest()  # names have numbers that differ


_outcomes: dict[tuple[str, str], Outcome] = {}  # of this process, by graph and key


def _try_in_children(folder: Path, asked: list[dict[str, Any]], examples: dict[str, Any]) -> list[Outcome]:
    """Try some variants in one child; if one ends it, another child continues with the next."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(asked):
        outcomes += _try_in_child(folder, asked[len(outcomes) :], examples)
    return outcomes


def _try_in_child(folder: Path, asked: list[dict[str, Any]], examples: dict[str, Any]) -> list[Outcome]:
    """Try some variants, up to the first that ends the child."""
    if (why := why_no_trial()) is not None:
        return [Outcome(why, lasts=False)] * len(asked)
    seconds = SECONDS_PER_VARIANT + sum(file.stat().st_size for file in folder.glob("*.bin")) / _BYTES_PER_SECOND
    task = {"folder": str(folder), "asked": asked, "examples": examples, "seconds": seconds}
    try:
        status, printed, complaint = _run_child(task, seconds * (len(asked) + 1))
    except (OSError, ValueError) as error:
        return [Outcome(_no_trial(str(error)), lasts=False)] * len(asked)
    lines = [line.removeprefix(_MARK) for line in printed.decode(errors="replace").splitlines() if _MARK in line]
    if not lines:  # not even Python and the package could be started
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return [Outcome(_no_trial(f"{sys.executable} ended with status {status}: {last}"), lasts=False)] * len(asked)
    outcomes = []
    with suppress(ValueError):  # it died in the middle of a line
        outcomes += [Outcome(reason, reason is None or _lasts(reason)) for reason in map(json.loads, lines[1:])]
    return outcomes if len(outcomes) == len(asked) else [*outcomes, _outcome_of_death(status, seconds)]


def _run_child(task: dict[str, Any], seconds: float) -> tuple[int, bytes, bytes]:
    """Start a Python that tries variants; return its exit status, output and errors. It never outlives the call."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM],  # without importing this process's __main__
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as child:
        try:
            path = [str(entry) for entry in sys.path]
            printed, complaint = child.communicate(json.dumps({"path": path, **task}).encode(), timeout=seconds)
            return child.returncode, printed, complaint
        except subprocess.TimeoutExpired:
            child.kill()
            return 1, *child.communicate()
        except BaseException:  # after an interrupt, Popen would not wait for the child
            child.kill()
            child.wait()
            raise


def _lasts(error: str) -> bool:
    return error.startswith("RuntimeError:") and not is_out_of_memory(error)  # an error of OpenVINO


def why_no_trial() -> str | None:
    """Return why no child can be started, or None if one probably can."""
    if not sys.executable:
        return _no_trial("sys.executable is empty")
    if getattr(sys, "frozen", False) or "py" not in Path(sys.executable).name.lower():
        return _no_trial(f"{sys.executable} is not a Python")  # but an application, which would start a second time
    return None


def _no_trial(why: str) -> str:
    return f"it could not be tried in a process of its own first, because {why}"


def _outcome_of_death(status: int, seconds: float) -> Outcome:
    if status < 0:
        name = signal.Signals(-status).name if -status in {*signal.Signals} else f"signal {-status}"
        return Outcome(f"it ends the process that runs it with {name}", name not in _FROM_OUTSIDE)
    if status >= _WINDOWS_CRASH:
        return Outcome(f"it ends the process that runs it with status {status:#x}", lasts=True)
    reason = f"a process that ran it ended early, or did not end within {seconds:.0f} s (status {status})"
    return Outcome(reason, status != 0)  # 0 if the real status is lost, for example because SIGCHLD is ignored


def try_here(folder: str, asked: list[dict[str, Any]], examples: dict[str, Any], seconds: float) -> None:
    """Compile and run some variants in this process, which is a child, and print the outcome of each."""
    with suppress(ImportError):  # on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _print("started")
    for fields in asked:
        faulthandler.dump_traceback_later(seconds, exit=True)  # even inside native code
        try:
            _run(Path(folder), Variant(**fields), examples)
            _print(None)
        except Exception as error:  # the parent would see the same error
            _print(f"{type(error).__name__}: {error}")
    faulthandler.cancel_dump_traceback_later()


def _run(folder: Path, variant: Variant, examples: dict[str, Any]) -> None:
    """Compile and run a variant: as compiled, and as imported from a file. Store what a first call needs.

    Parameters
    ----------
    folder : Path
    variant : Variant
    examples : dict
        "tokens": pairs of input ids and attention mask, each of shape (n_texts, n_tokens); "pooled_dim": dimensions of
        a vector before the modules after the pooling. "kept_layers": the layers whose compiled model is stored.
    """
    if variant.layers is None:
        inputs = [{0: np.ones((n_texts, examples["pooled_dim"]), dtype=np.float32)} for n_texts in (1, 16)]
    else:
        inputs = [dict(enumerate(np.array(pair, dtype=np.int64))) for pair in examples["tokens"]]
    compiled = compile_variant(folder, variant)
    _run_compiled(compiled, inputs)
    if variant.layers is not None:
        content = compiled.export_model().getvalue()
        del compiled
        _run_compiled(core().import_model(io.BytesIO(content), "CPU", variant.options()), inputs)
        is_for_many_texts = variant.dtype == "float32" and variant.hint == SEVERAL_AT_A_TIME
        if [*variant.layers] == examples["kept_layers"] and not is_for_many_texts:  # else compiled when it is needed
            with suppress(OSError):  # the parent, which holds the lock of the folder, then compiles nothing
                _write_blob(content, folder, variant)


def _run_compiled(compiled: Any, inputs: list[dict[int, Any]]) -> None:
    queue = openvino.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    for some in inputs:
        queue.start_async(some)
    queue.wait_all()


def _print(outcome: str | None) -> None:
    print(f"\n{_MARK}{json.dumps(outcome)}", flush=True)  # noqa: T201 - the parent reads it
