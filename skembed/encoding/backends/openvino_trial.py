"""Compiled variants of a converted model: each is tried in a process of its own before it runs here.

Native code can end the process that runs it, and which code runs depends on the processor, the precision, the threads
and the layers. So what has not run before is compiled and run by a child first. How that went is kept beside the
model, and a variant that ended the child is never run here. Imports openvino, numpy and locks.
"""

from __future__ import annotations

import faulthandler
import importlib
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
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from skembed.atomic import UNFINISHED, atomic_write
from skembed.locks import FOREVER, locked


def _import_openvino() -> Any:
    """Import openvino without its telemetry, which would send a message over the network at once, from a fork."""
    if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:
        return importlib.import_module("openvino")  # the user's own doing
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as if not installed, which it copes with
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]


openvino = _import_openvino()

MODEL, TAIL = "model.xml", "tail.xml"
ONE_AT_A_TIME, SEVERAL_AT_A_TIME = "LATENCY", "THROUGHPUT"  # batches that are computed, as OpenVINO's hints say it

# A child that takes longer is taken to hang. Generous, as a wrong verdict is kept.
SECONDS_PER_VARIANT = 120.0
_BYTES_PER_SECOND = 2e7  # of weights, on top

_PRECISION = {"float32": "f32", "bfloat16": "bf16"}
_MOST_BLOBS = 16  # of a model; the one that was not used for longest leaves
_SETTINGS_OF_LIBRARIES = ("ONEDNN_", "DNNL_", "OV_", "OPENVINO_")  # environment variables that choose code

# Signals that come from outside; what else ends a child is the variant's doing. On Windows a crash has a large status.
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_WINDOWS_CRASH = 0xC0000000

_MARK = "skembed-trial:"  # before what the child says: native code may print, too
_PROGRAM = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:] = asked.pop("path")
from skembed.encoding.backends.openvino_trial import try_here
try_here(**asked)
"""


class CannotRunError(RuntimeError):
    """A compiled model that would end this process, or fail in it, or that could not be tried in another one.

    Attributes
    ----------
    lasts : bool
        Whether it will be so the next time.
    """

    def __init__(self, reason: str, *, lasts: bool) -> None:
        super().__init__(reason)
        self.lasts = lasts


class Outcome(NamedTuple):
    """How a trial went: why a variant must not run here (None: it may), and whether that is worth keeping."""

    reason: str | None
    lasts: bool


@dataclass(frozen=True)
class Variant:
    """One way to compile a converted model.

    Attributes
    ----------
    layers : tuple of int or None
        Whose hidden states it gives. None: it is the tail.
    dtype : {"float32", "bfloat16"}
    hint, n_threads
        See :meth:`options`. None for the tail.
    """

    layers: tuple[int, ...] | None
    dtype: str
    hint: str | None = None
    n_threads: int | None = None

    def options(self) -> dict[str, Any]:
        """Return what OpenVINO is told."""
        options = {"INFERENCE_PRECISION_HINT": _PRECISION[self.dtype]}
        if self.hint is None:
            return options
        return {"PERFORMANCE_HINT": self.hint, "INFERENCE_NUM_THREADS": self.n_threads, **options}

    def key(self) -> str:
        """Name the code that it runs: its options, OpenVINO's version, the processor and how much of it there is."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS_OF_LIBRARIES)}
        said = json.dumps([asdict(self), _processor(), cores, os.cpu_count(), settings], sort_keys=True, default=str)
        return blake2b(said.encode(errors="surrogateescape"), digest_size=8).hexdigest()


@cache
def core() -> Any:
    """Return OpenVINO's one object of this process, which starts its threads."""
    return openvino.Core()


@cache
def processor_flags() -> tuple[str, ...]:
    """Return what the processor can do; only Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(sorted({flag for line in lines if line.startswith("flags") for flag in line.split()[2:]}))


def _processor() -> tuple[Any, ...]:
    asked = (core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"))
    return (openvino.get_version(), *asked, processor_flags())


def compile_variant(folder: Path, variant: Variant) -> Any:
    """Compile a variant of the model in a folder."""
    if variant.layers is None:
        return core().compile_model(folder / TAIL, "CPU", variant.options())
    model = core().read_model(folder / MODEL)
    results = model.get_results()
    some = openvino.Model([results[layer] for layer in variant.layers], model.get_parameters())
    return core().compile_model(some, "CPU", variant.options())


def import_blob(folder: Path, variant: Variant) -> Any:
    """Read a compiled model; None if there is none, or it is damaged or of no use here."""
    kept = folder / f"{variant.key()}.blob"
    try:
        content = kept.read_bytes()
        if len(content) > 4 and crc32(memoryview(content)[4:]) == int.from_bytes(content[:4], "little"):
            compiled = core().import_model(io.BytesIO(memoryview(content)[4:]), "CPU", variant.options())
            os.utime(kept)
            return compiled
    except (OSError, RuntimeError):
        pass
    return None


def export_blob(compiled: Any, folder: Path, variant: Variant) -> None:
    """Keep a compiled model, and let those go that were not used for long: of other versions, processors or threads.

    Raises
    ------
    OSError
        If it cannot be written, e.g. as another process has the folder.
    """
    content = compiled.export_model().getvalue()
    with writing_alone(folder, timeout=0):
        with atomic_write(folder / f"{variant.key()}.blob", sync=False) as file:
            file.write(crc32(content).to_bytes(4, "little") + content)
        for outdated in sorted(folder.glob("*.blob"), key=lambda path: -path.stat().st_mtime)[_MOST_BLOBS:]:
            outdated.unlink(missing_ok=True)


@contextmanager
def writing_alone(folder: Path, timeout: float = FOREVER) -> Iterator[None]:
    """Hold the lock of a conversion, and sweep away what a process that was killed has left unfinished."""
    with locked(f"{folder}.lock", timeout=timeout, mode=0o600):
        _sweep(folder)
        try:
            yield
        finally:
            _sweep(folder)


def _sweep(folder: Path) -> None:
    for left in folder.glob(f"*{UNFINISHED}"):
        with suppress(OSError):
            left.unlink()


def sealed(said: dict[str, Any]) -> bytes:
    """Write a dict, which is not empty, as JSON that tells if it was damaged."""
    body = json.dumps(said)[1:].encode()
    return _seal(body) + body


def unsealed(content: bytes) -> dict[str, Any]:
    """Read what :func:`sealed` wrote.

    Raises
    ------
    ValueError
        If it is not as it was written.
    """
    seal_length = len(_seal(b""))
    if content[:seal_length] != _seal(content[seal_length:]):
        raise ValueError("damaged")
    said: dict[str, Any] = json.loads(content)
    return said


def _seal(body: bytes) -> bytes:
    return f'{{"seal": "{blake2b(body, digest_size=16).hexdigest()}", '.encode()


class Trials:
    """What is known of the variants of one converted model, and finding out.

    Parameters
    ----------
    folder : Path
        The conversion's.
    examples : callable
        Gives what :func:`_run` runs; it is called only for a trial.
    is_private : bool
        Whether no other process knows the folder.
    """

    def __init__(self, folder: Path, examples: Callable[[], dict[str, Any]], *, is_private: bool) -> None:
        self._folder, self._examples, self._is_private = folder, examples, is_private
        self._known: dict[str, Outcome] = {}  # by key

    def outcomes(self, variants: Sequence[Variant]) -> list[Outcome]:
        """Return for each variant whether it may run in this process; those of which nothing is known are tried."""
        if not all(map(self._is_known, variants)):
            try:
                with nullcontext() if self._is_private else writing_alone(self._folder):
                    self._try(variants)
            except OSError:  # the folder is not ours to write to
                self._try(variants)
        return [self._known[variant.key()] for variant in variants]

    def _try(self, variants: Sequence[Variant]) -> None:
        unknown = [variant for variant in variants if not self._is_known(variant)]  # others may have tried meanwhile
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
        if variant.key() not in self._known:
            try:
                reason = unsealed(self._verdict(variant).read_bytes())["reason"]
                self._known[variant.key()] = Outcome(reason, lasts=True)
            except (OSError, ValueError):
                return False
        return True

    def _verdict(self, variant: Variant) -> Path:
        return self._folder / f"{variant.key()}.verdict"

    @cached_property
    def _graph(self) -> str:
        """Digest the model without its weights: in training it changes these alone, and runs the same code."""
        files = (self._folder / name for name in (MODEL, TAIL))
        said = b"".join(file.read_bytes() for file in files if file.exists())
        return blake2b(re.sub(rb' name="[^"]*"', b"", said)).hexdigest()  # names count on from model to model


_outcomes: dict[tuple[str, str], Outcome] = {}  # in this process, by graph and key


def _try_in_children(folder: Path, asked: list[dict[str, Any]], examples: dict[str, Any]) -> list[Outcome]:
    """Try some variants in one child; if it dies of one, another child goes on with the next."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(asked):
        outcomes += _try_in_child(folder, asked[len(outcomes) :], examples)
    return outcomes


def _try_in_child(folder: Path, asked: list[dict[str, Any]], examples: dict[str, Any]) -> list[Outcome]:
    """Try some variants up to the first that the child dies of."""
    if (why := why_no_trial()) is not None:
        return [Outcome(why, lasts=False)] * len(asked)
    seconds = SECONDS_PER_VARIANT + sum(file.stat().st_size for file in folder.glob("*.bin")) / _BYTES_PER_SECOND
    said = {"folder": str(folder), "asked": asked, "examples": examples, "seconds": seconds}
    try:
        status, printed, complaint = _run_child(said, seconds * (len(asked) + 1))
    except (OSError, ValueError) as error:
        return [Outcome(_no_trial(str(error)), lasts=False)] * len(asked)
    lines = [line.removeprefix(_MARK) for line in printed.decode(errors="replace").splitlines() if _MARK in line]
    if not lines:  # not even Python and the package could be started
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return [Outcome(_no_trial(f"{sys.executable} ended with status {status}: {last}"), lasts=False)] * len(asked)
    outcomes = []
    with suppress(ValueError):  # it died in the midst of a line
        outcomes += [Outcome(reason, reason is None or _lasts(reason)) for reason in map(json.loads, lines[1:])]
    return outcomes if len(outcomes) == len(asked) else [*outcomes, _death(status, seconds)]


def _run_child(said: dict[str, Any], seconds: float) -> tuple[int, bytes, bytes]:
    """Start a Python that reads what to try; return its exit status and what it printed. It never outlives the call."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM],  # not this process's __main__, whatever that is
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as child:
        try:
            path = [str(entry) for entry in sys.path]
            printed, complaint = child.communicate(json.dumps({"path": path, **said}).encode(), timeout=seconds)
            return child.returncode, printed, complaint
        except subprocess.TimeoutExpired:
            child.kill()
            return 1, *child.communicate()
        except BaseException:  # an interrupt, after which Popen would not wait for the child's end
            child.kill()
            child.wait()
            raise


def _lasts(error: str) -> bool:
    return error.startswith("RuntimeError:") and not is_out_of_memory(error)  # it is OpenVINO's own


def is_out_of_memory(said: object) -> bool:
    """Tell that memory ran out from other errors of OpenVINO's."""
    return any(part in str(said).lower() for part in ("bad_alloc", "bad alloc", "allocat", "out of memory"))


def why_no_trial() -> str | None:
    """Tell why no child can be started, if that is seen at once."""
    if not sys.executable:
        return _no_trial("sys.executable is empty")
    if getattr(sys, "frozen", False) or "py" not in Path(sys.executable).name.lower():
        return _no_trial(f"{sys.executable} is no Python")  # but an application, which would be started once more
    return None


def _no_trial(why: str) -> str:
    return f"it could not be tried in a process of its own first, as {why}"


def _death(status: int, seconds: float) -> Outcome:
    if status < 0:
        name = signal.Signals(-status).name if -status in {*signal.Signals} else f"signal {-status}"
        return Outcome(f"it ends the process that runs it with {name}", name not in _FROM_OUTSIDE)
    if status >= _WINDOWS_CRASH:
        return Outcome(f"it ends the process that runs it with status {status:#x}", lasts=True)
    reason = f"a process that ran it ended early, or came to no end in {seconds:.0f} s (status {status})"
    return Outcome(reason, status != 0)  # 0: somebody else was told how the child ended, e.g. since SIGCHLD is ignored


def try_here(folder: str, asked: list[dict[str, Any]], examples: dict[str, Any], seconds: float) -> None:
    """Compile and run some variants in this process, a child, and print how each went."""
    with suppress(ImportError):  # on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _say("started")
    for fields in asked:
        faulthandler.dump_traceback_later(seconds, exit=True)  # whatever native code is at
        try:
            _run(Path(folder), Variant(**fields), examples)
            _say(None)
        except Exception as error:  # the parent would see it, too
            _say(f"{type(error).__name__}: {error}")
    faulthandler.cancel_dump_traceback_later()


def _run(folder: Path, variant: Variant, examples: dict[str, Any]) -> None:
    """Compile and run a variant: as it is compiled, and as it comes back from a file.

    Parameters
    ----------
    folder : Path
    variant : Variant
    examples : dict
        "tokens": pairs of input ids and attention mask, each shape (n_texts, n_tokens); "tail_dim": dimensions of a
        vector that the tail takes.
    """
    if variant.layers is None:
        inputs = [{0: np.ones((n_texts, examples["tail_dim"]), dtype=np.float32)} for n_texts in (1, 16)]
    else:
        inputs = [dict(enumerate(np.array(pair, dtype=np.int64))) for pair in examples["tokens"]]
    compiled = compile_variant(folder, variant)
    _run_compiled(compiled, inputs)
    if variant.layers is not None:
        content = io.BytesIO(compiled.export_model().getvalue())
        del compiled
        _run_compiled(core().import_model(content, "CPU", variant.options()), inputs)


def _run_compiled(compiled: Any, inputs: list[dict[int, Any]]) -> None:
    queue = openvino.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    for some in inputs:
        queue.start_async(some)
    queue.wait_all()


def _say(outcome: str | None) -> None:
    print(f"\n{_MARK}{json.dumps(outcome)}", flush=True)  # noqa: T201 - the parent reads it
