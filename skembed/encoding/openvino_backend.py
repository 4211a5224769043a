"""The OpenVINO backend: a converted model from a folder, several batches at a time on the cores of one processor.

Token ids in; pooled float32 vectors out. Imports openvino, numpy and the rooms below; neither torch nor transformers
nor sentence-transformers, so that a process that only embeds starts fast.

The folder of a converted model, written by ``openvino_conversion.py`` and read here::

    model.xml, model.bin    token ids -> every hidden layer, and the last one
    tail.xml, tail.bin      pooled vector -> vector, where the model has modules after its pooling
    probe.npy               vectors of a few texts in float32
    about.json              what Reader, Defaults and tail say; a checksum of each file
    *.blob                  the model compiled for a processor, with a checksum
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from zlib import crc32

import joblib
import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import length_batches
from skembed.encoding.numpy_pooling import NUMPY_POOLERS
from skembed.encoding.reader import Defaults, Reader, TailModule, View, dim_after
from skembed.encoding.tokens import TextTokenizer, Tokens


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

FORMAT = 1  # of the folder; to be raised when it comes to hold something else
ABOUT, MODEL, TAIL, PROBE = "about.json", "model.xml", "tail.xml", "probe.npy"
SMALLEST_COSINE = 0.9999  # of a vector in bfloat16 to the same in float32

# Texts that bfloat16 is tried on: short and long ones, of words, numbers and signs.
PROBE_TEXTS = [
    "cat",
    "Where is my parcel?",
    "I cannot log in since the update of the app, and nobody answers my messages!",
    "3.14159 is not 22/7, but it is close enough for most purposes.",
    "Stocks fell on Monday as investors weighed new tariffs, a weak jobs report and rising oil prices.",
    "def mean(values): return sum(values) / len(values)",
    "Der Kurier kam nie an. Le colis est arrivé cassé. 荷物が届きません。",
    "the quick brown fox jumps over the lazy dog " * 8,
    "We report a randomised trial of two doses in 412 patients; the primary outcome was survival at 28 days. " * 12,
]

_PRECISION = {"float32": "f32", "bfloat16": "bf16"}
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Conversion:
    """A converted model as its folder describes it.

    Attributes
    ----------
    folder : Path
    reader : Reader
    defaults : Defaults
    tail : tuple of TailModule
    ends_normalized : bool
        Whether the model's last module is a Normalize, which is not among its tail.
    checksums : dict
        Of each file.
    """

    folder: Path
    reader: Reader
    defaults: Defaults
    tail: tuple[TailModule, ...]
    ends_normalized: bool
    checksums: dict[str, int]

    def is_whole(self, name: str) -> bool:
        """Whether a file of the folder, and the weights beside it, are as they were written."""
        names = [other for other in self.checksums if Path(other).stem == Path(name).stem]
        return bool(names) and all(checksum(self.folder / other) == self.checksums[other] for other in names)


def checksum(file: Path) -> int:
    """Digest a file, fast rather than safe from forgery: the folder is the user's own."""
    return crc32(file.read_bytes())


def read_conversion(folder: Path) -> Conversion | None:
    """Read what a folder says of its model; None if there is none, or it was written in another format or damaged."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            return None
        reader = {**about["reader"], "tokenizer": TextTokenizer.from_dict(about["reader"]["tokenizer"])}
        reader["special_ids"], reader["own_pooling"] = frozenset(reader["special_ids"]), tuple(reader["own_pooling"])
        conversion = Conversion(
            folder,
            Reader(**reader),
            Defaults(**about["defaults"]),
            tuple(TailModule(**module) for module in about["tail"]),
            about["ends_normalized"],
            about["checksums"],
        )
        files = [MODEL, PROBE, *([TAIL] if conversion.tail else [])]
        return conversion if all(conversion.is_whole(name) for name in files) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


class OpenVINOBackend:
    """A converted model, in one precision.

    Parameters
    ----------
    conversion : Conversion
    dtype : {"float32", "bfloat16"}
    keep_compiled : bool, default=True
        Whether to keep the compiled model for the next process.

    Attributes
    ----------
    reader, defaults, tail, ends_normalized
        As of the conversion.
    """

    name = "openvino"
    device = "cpu"
    has_activations = True
    not_standard = None  # else it would not have been converted

    def __init__(self, conversion: Conversion, dtype: str, *, keep_compiled: bool = True) -> None:
        self._folder, self.dtype = conversion.folder, dtype
        self.reader, self.defaults = conversion.reader, conversion.defaults
        self.tail, self.ends_normalized = conversion.tail, conversion.ends_normalized
        self._keep_compiled = keep_compiled
        self._queues: dict[tuple[int, ...], Any] = {}
        self._tail: Any = None

    def vector_dim(self, pooling: tuple[str, ...] | None) -> int:
        """Count the dimensions of a vector, before it is cut.

        Raises
        ------
        ValueError
            If a layer of the tail does not take vectors of the dimensions that the pooling gives.
        """
        return dim_after(self.tail, self.reader.hidden_dim * len(pooling or self.reader.own_pooling))

    def embed_tokens(
        self, tokens: Tokens, views: Sequence[View], n_prompt_tokens: int, batch_tokens: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Run the tokens of a window through the model; see :meth:`TorchBackend.embed_tokens`.

        Raises
        ------
        MemoryError
            If a batch does not fit into memory.
        """
        lengths, is_first_row = tokens.lengths, tokens.is_first_row
        empty = np.flatnonzero(lengths == 0)  # nothing to read: pooled to the zero vector, which the tail may move
        if len(empty):
            zeros = np.zeros((len(empty), 1, self.reader.hidden_dim), dtype=np.float32)
            states = dict.fromkeys({layers for layers, _ in views}, zeros)
            yield empty, self._pool(states, np.zeros((len(empty), 1), dtype=bool), views)
        filled = np.flatnonzero(lengths)
        layers = tuple(sorted({layer for some, _ in views for layer in some}))
        batches = (filled[batch] for batch in length_batches(lengths[filled], batch_tokens))
        inputs = ((rows, *tokens.padded(rows, self.reader.pad_id)) for rows in batches)
        for rows, is_token, outputs in _run(self._queue(layers), inputs):
            is_token[is_first_row[rows], :n_prompt_tokens] = False  # the only row that holds the prompt
            output_of = dict(zip(layers, outputs, strict=True))
            states = {some: _mean([output_of[layer] for layer in some]) for some, _ in views}
            yield rows, self._pool(states, is_token, views)

    def _queue(self, layers: tuple[int, ...]) -> Any:
        """Return the queue that gives some hidden layers; the compiled model is made when it is first needed."""
        if layers not in self._queues:
            compiled = self._compile(layers)
            n_at_once = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            self._queues[layers] = openvino.AsyncInferQueue(compiled, n_at_once + 1)  # one waits, so that no core does
        return self._queues[layers]

    def _compile(self, layers: tuple[int, ...]) -> Any:
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _PRECISION[self.dtype],
            "INFERENCE_NUM_THREADS": _n_threads(),
        }
        kept = self._folder / f"{_digest(options)}.blob"
        is_kept = self._keep_compiled and layers == (self.reader.n_layers,)  # what nearly everyone asks for
        if is_kept and (compiled := _import(kept, options)) is not None:
            return compiled
        model = _core().read_model(self._folder / MODEL)
        results = model.get_results()
        some = openvino.Model([results[layer] for layer in layers], model.get_parameters())
        compiled = _core().compile_model(some, "CPU", options)
        if is_kept:
            with suppress(OSError):  # a full disk, say: then it is compiled again next time
                _export(compiled, kept)
        return compiled

    def _pool(
        self, states: dict[tuple[int, ...], NDArray[np.float32]], is_pooled: NDArray[np.bool_], views: Sequence[View]
    ) -> NDArray[np.float32]:
        side_by_side = []
        for layers, pooling in views:
            pooled = [NUMPY_POOLERS[mode](states[layers], is_pooled) for mode in pooling]
            side_by_side.append(self._through_tail(np.concatenate(pooled, axis=1)))
        return np.concatenate(side_by_side, axis=1)

    def _through_tail(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.tail:
            return pooled
        if self._tail is None:
            self._tail = _core().compile_model(self._folder / TAIL, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        vectors: NDArray[np.float32] = self._tail(pooled)[0]
        return vectors


def embed_probe(backend: Any) -> NDArray[np.float32]:
    """Embed the probe texts with a backend of either kind, in the model's own way."""
    reader = backend.reader
    tokens = reader.tokenizer.tokenize(PROBE_TEXTS, backend.defaults.max_seq_length or reader.max_positions)
    own_way = [((reader.n_layers,), reader.own_pooling if backend.tail else (mode,)) for mode in reader.own_pooling]
    vectors: NDArray[np.float32] | None = None
    for rows, some in backend.embed_tokens(tokens, own_way[:1], 0, batch_tokens=512):
        vectors = np.empty((len(PROBE_TEXTS), some.shape[1]), dtype=np.float32) if vectors is None else vectors
        vectors[rows] = some
    if vectors is None:
        raise ValueError("there is nothing to probe")
    return vectors


def find_converted(fingerprint: str, dtype: str) -> OpenVINOBackend | None:
    """Make ready a model that was converted before; None if it was not.

    Parameters
    ----------
    fingerprint : str
    dtype : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 where the processor has it and the probe texts' vectors stay what they are, else float32.
    """
    conversion = read_conversion(conversion_folder(fingerprint))
    return None if conversion is None else make_backend(conversion, dtype)


def conversion_folder(fingerprint: str) -> Path:
    """Return where a converted model is kept: where the operating system keeps a user's caches."""
    from platformdirs import user_cache_path

    return user_cache_path("skembed", appauthor=False) / "openvino" / fingerprint[:32]


def make_backend(conversion: Conversion, dtype: str) -> OpenVINOBackend:
    """Make a backend in a precision; see :func:`find_converted`."""
    if dtype == "auto" and _has_native_bfloat16():
        backend = OpenVINOBackend(conversion, "bfloat16")
        found, expected = embed_probe(backend), np.load(conversion.folder / PROBE, allow_pickle=False)
        if np.isfinite(found).all() and cosines(found, expected).min() >= SMALLEST_COSINE:
            return backend
    return OpenVINOBackend(conversion, "float32" if dtype == "auto" else dtype)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the cosine of each row of ``a`` to the same row of ``b``."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    found: NDArray[np.float64] = (a64 * b64).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return found


def _run(
    queue: Any, inputs: Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_], list[NDArray[np.float32]]]]:
    """Run batches of (rows, input ids, mask) through a queue; yield rows, mask and outputs, in the order of their ends.

    A batch is prepared, and another pooled, while others are computed.
    """
    done: deque[Any] = deque()
    queue.set_callback(
        lambda request, batch: done.append((*batch, [np.array(output.data) for output in request.output_tensors]))
    )
    try:
        for rows, input_ids, is_token in inputs:
            queue.start_async({0: input_ids, 1: is_token.astype(np.int64)}, (rows, is_token))  # waits for a free place
            while done:
                yield done.popleft()
        queue.wait_all()
        yield from done
    except RuntimeError as error:
        if "alloc" in str(error):
            raise MemoryError(
                f"a batch does not fit into memory; lower batch_tokens or max_seq_length. ({error})"
            ) from error
        raise
    finally:
        queue.wait_all()  # whoever stopped reading leaves nothing behind that still runs


def _mean(states: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return states[0] if len(states) == 1 else np.mean(states, axis=0, dtype=np.float32)


@cache
def _core() -> Any:
    return openvino.Core()


def has_run() -> bool:
    """Whether OpenVINO has started threads in this process."""
    return _core.cache_info().currsize > 0


def _n_threads() -> int:
    """Count the cores that this process may use: joblib's workers tell theirs in ``OMP_NUM_THREADS``."""
    n_cores, said = joblib.cpu_count(), os.environ.get("OMP_NUM_THREADS", "")
    return min(n_cores, int(said)) if said.isdecimal() and int(said) > 0 else int(n_cores)


@cache
def _has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX); only Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(_BF16_FLAGS.intersection(line.split()) for line in lines if line.startswith("flags"))


def _digest(options: dict[str, Any]) -> str:
    """Name what a compiled model depends on beside its weights: options, version and processor."""
    processor = (
        _core().get_property("CPU", "FULL_DEVICE_NAME"),
        _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    )
    said = json.dumps([openvino.get_version(), processor, options], sort_keys=True, default=str)
    return blake2b(said.encode(), digest_size=8).hexdigest()


def _import(kept: Path, options: dict[str, Any]) -> Any:
    """Read a compiled model; None if there is none, or it is damaged or of no use here."""
    try:
        content = kept.read_bytes()
        if len(content) > 4 and crc32(memoryview(content)[4:]) == int.from_bytes(content[:4], "little"):
            return _core().import_model(io.BytesIO(memoryview(content)[4:]), "CPU", options)
    except (OSError, RuntimeError):
        pass
    return None


def _export(compiled: Any, kept: Path) -> None:
    content = compiled.export_model().getvalue()
    write_whole(kept, crc32(content).to_bytes(4, "little") + content)


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    with NamedTemporaryFile(dir=file.parent, delete=False) as unfinished:
        unfinished.write(content)
    os.replace(unfinished.name, file)
