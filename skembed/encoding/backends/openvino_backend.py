"""The OpenVINO backend: a converted model from a folder, several batches at a time on the cores of one processor.

Token ids in; pooled float32 vectors out. Imports numpy and the rooms below; neither torch nor transformers
nor sentence-transformers, so that a process that only embeds starts fast.

The folder of a converted model, written by ``openvino_conversion.py`` and read here::

    model.xml, model.bin    token ids -> every hidden layer, and the last one
    tail.xml, tail.bin      pooled vector -> vector, where the model has modules after its pooling
    probe.npy               vectors of some texts in float32
    about.json              the TransformerSpec, Defaults and tail; versions of libraries; checksums of files; sealed
    *.blob                  the model compiled for a processor, with a checksum
    *.verdict               whether a compiled model runs on a processor, or ends the process; sealed
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from skembed.encoding.backends.openvino_folder import ABOUT, PROBE, Conversion, read_conversion
from skembed.encoding.backends.openvino_trial import (
    ONE_AT_A_TIME,
    SEVERAL_AT_A_TIME,
    CannotRunError,
    Outcome,
    Trials,
    Variant,
    compile_variant,
    core,
    export_blob,
    import_blob,
    is_out_of_memory,
    openvino,
    processor_flags,
)
from skembed.encoding.backends.pooling import mean_of, pool
from skembed.encoding.backends.reader import CannotComputeError, LayerPooling, dim_after
from skembed.encoding.batching import length_batches
from skembed.encoding.tokens import Tokens
from skembed.errors import level_of_user

SMALLEST_COSINE = 0.9999  # of a vector in bfloat16 to the same in float32: what is promised of every text

# A text of so few tokens is computed in float32 even so: roundings of its tokens hardly average out when it is pooled.
# Among 38,000 texts those of all-MiniLM-L6-v2 that came below 0.99993 had four to seven. One alone takes 1.6 times as
# long; among others they are few.
SHORT_TEXT = 7

# The probe texts must keep a margin, as others lose more: of all-MiniLM-L6-v2, the worst of 36,000 texts that are not
# short loses 1.5 times what the worst of the probe does; of small random models the worst of 2,500 up to 2.6 times.
_MARGIN = 2
_SMALLEST_PROBE_COSINE = 1 - (1 - SMALLEST_COSINE) / _MARGIN

# Texts that bfloat16 is tried on, of eight to some thirty words and signs, and two longer ones. Answers and small talk
# lose most (see benchmarks/quality.py). A few are shorter, for the comparison in float32.
PROBE_TEXTS = [
    "a",
    "7",
    "cat",
    "Thanks a lot!",
    "Where is my parcel?",
    "Thank you so much for all of your help!",
    "oh, thank you very much indeed, that is kind",
    "No, I really do not think so, sorry.",
    "yes yes yes yes yes yes yes yes",
    "i am not sure what you mean by that",
    "that is wrong, you have got it all wrong!",
    "Sorry mate, stuck at the dentist, ring you tonight.",
    "omg yesss c u 2nite at ten lol :-)",
    "how late is it over in auckland at the moment",
    "would you look up which of my cards has any money on it",
    "wake me up tomorrow at a quarter to six, please",
    "a charming , clumsy , forgettable little film .",
    "two hours of rain , and not one good joke .",
    "I cannot log in since the update of the app, and nobody answers my messages!",
    "How do I sort a list of dictionaries by a value of the dictionary in Python?",
    "FREE!!! Claim ur 250 voucher 2day, txt YES to 80012 b4 midnight. T&Cs apply, 18+ only!",
    "3.14159 is not 22/7, but it is close enough for most purposes.",
    "0 1 1 2 3 5 8 13 21 34 55 89 144 233",
    "+1 (555) 010-9999, 2024-02-29 23:59:59, 19,99 EUR, 50 %",
    "!!!!!!!!!! ?????????? ..........",
    "😀 😂 ❤️ 🔥 👍 🎉 🙏 😭 🥰 ✨",
    "ha ha ha ha ha ha ha ha ha ha ha",
    "the the the the the the the the the the",
    "def mean(values): return sum(values) / len(values)",
    "SELECT name, COUNT(*) FROM users WHERE age > 30 GROUP BY name;",
    '<div class="note"><p>Hello &amp; goodbye</p></div>',
    '{"id": 17, "tags": ["a", "b"], "ok": true, "note": null}',
    "https://www.example.com/index.php?id=42&lang=en#top",
    "E = mc^2, a^2 + b^2 = c^2, and e^(i*pi) + 1 = 0",
    "Der Kurier kam nie an. Le colis est arrivé cassé.",
    "¿Dónde está mi pedido? Llevo tres semanas esperando.",
    "荷物が届きません。いつ届きますか。",
    "我的包裹在哪里?已经三个星期了。",
    "Где моя посылка? Я жду уже три недели.",
    "أين طلبي؟ لقد انتظرت ثلاثة أسابيع.",
    "मेरा पार्सल कहाँ है? मैं तीन सप्ताह से इंतज़ार कर रहा हूँ।",
    "Stocks fell on Monday as investors weighed new tariffs, a weak jobs report and rising oil prices.",
    "The mitochondrion is the powerhouse of the cell; its matrix holds the enzymes of the citric acid cycle.",
    "She sells sea shells by the sea shore, and the shells that she sells are surely sea shells.",
    "MICROSOFT AND GOOGLE ANNOUNCE QUARTERLY RESULTS ABOVE EXPECTATIONS",
    "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor",
    "xqzv blorf nfjk wpty hgkd qqqq zzzz",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune must want a wife.",
]
LONG_PROBE_TEXTS = [
    "the quick brown fox jumps over the lazy dog " * 8,
    "We report a randomised trial of two doses in 412 patients; the primary outcome was survival at 28 days. " * 10,
]

_TAIL = Variant(None, "float32")
_LONGEST_EXAMPLE = 256  # tokens of a text that a compiled model is tried on
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


class OpenVINOBackend:
    """A converted model, in one precision.

    Parameters
    ----------
    conversion : Conversion
    dtype : {"float32", "bfloat16"}
        In bfloat16, the shortest texts are computed in float32.
    model_name : str, default="the model"
        How to call it in messages.
    keep_compiled : bool, default=True
        Whether to keep the compiled model for the next process.

    Attributes
    ----------
    reader, defaults, tail, ends_normalized
        As of the conversion.

    Raises
    ------
    CannotRunError
        If the model ends the process that runs it, or could not be tried in another one.
    """

    name = "openvino"
    device = "cpu"
    has_activations = True
    unsupported_reason = None  # else it would not have been converted
    why_no_layers = None  # likewise

    def __init__(
        self, conversion: Conversion, dtype: str, model_name: str = "the model", *, keep_compiled: bool = True
    ) -> None:
        self._conversion, self._folder, self.dtype = conversion, conversion.folder, dtype
        self.reader, self.defaults = conversion.reader, conversion.defaults
        self.tail, self.ends_normalized = conversion.tail, conversion.ends_normalized
        self._model_name, self._keep_compiled = model_name, keep_compiled
        self._last_layer = (conversion.reader.n_layers,)
        self._trials = trials_of(conversion, is_private=not keep_compiled)
        tail, *_ = self._trials.outcomes(usual_variants(conversion, dtype))  # in one child
        if conversion.tail and tail.reason is not None:
            raise CannotRunError(f"of the modules after its pooling, {tail.reason}", lasts=tail.lasts)
        self._variants: dict[tuple[tuple[int, ...], str], Variant] = {}
        self._queues: dict[Variant, Any] = {}
        self._tail: Any = None
        self._precise: OpenVINOBackend | None = None
        self._queue(self._last_layer, ONE_AT_A_TIME)  # fails now, when torch can take over

    def route(self, task: str | None) -> None:
        """Return None: all texts take one way through a standard model, whatever their task."""

    def vector_dim(self, pooling: tuple[str, ...] | None, route: str | None = None) -> int:  # noqa: ARG002
        """Count the dimensions of a vector, before it is cut.

        Raises
        ------
        ValueError
            If a layer of the tail does not take vectors of the dimensions that the pooling gives.
        """
        return dim_after(self.tail, self.reader.hidden_dim * len(pooling or self.reader.own_pooling))

    def embed_tokens(
        self, tokens: Tokens, views: Sequence[LayerPooling], n_prompt_tokens: int, batch_tokens: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Run the tokens of a window through the model; see :meth:`TorchBackend.embed_tokens`.

        Raises
        ------
        MemoryError
            If a single row does not fit into memory.
        CannotComputeError
            If OpenVINO fails.
        """
        lengths = tokens.lengths
        is_short = lengths <= (SHORT_TEXT if self.dtype == "bfloat16" else 0)
        empty, short, others = (np.flatnonzero(some) for some in (lengths == 0, is_short & (lengths > 0), ~is_short))
        try:
            if len(empty):  # nothing to read: pooled to the zero vector, which the tail may move
                zeros = np.zeros((len(empty), 1, self.reader.hidden_dim), dtype=np.float32)
                states = dict.fromkeys({layers for layers, _ in views}, zeros)
                yield empty, self._pool(states, np.zeros((len(empty), 1), dtype=bool), views)
            if len(others):
                yield from self._embed_waiting(tokens, others, views, n_prompt_tokens, batch_tokens)
            if len(short):
                yield from self._in_float32()._embed_waiting(tokens, short, views, n_prompt_tokens, batch_tokens)
        except RuntimeError as error:  # OpenVINO's own
            raise CannotComputeError(str(error)) from error

    def _in_float32(self) -> OpenVINOBackend:
        if self._precise is None:
            self._precise = OpenVINOBackend(
                self._conversion, "float32", self._model_name, keep_compiled=self._keep_compiled
            )
        return self._precise

    def _embed_waiting(
        self,
        tokens: Tokens,
        waiting: NDArray[np.intp],
        views: Sequence[LayerPooling],
        n_prompt_tokens: int,
        batch_tokens: int,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Run some rows, in smaller and smaller batches where memory runs out."""
        lengths = tokens.lengths
        hint = self._hint(lengths[waiting], views, batch_tokens)
        while len(waiting):
            is_done = np.zeros(len(lengths), dtype=bool)
            try:
                for rows, vectors in self._embed_rows(tokens, waiting, views, n_prompt_tokens, batch_tokens, hint):
                    is_done[rows] = True
                    yield rows, vectors
            except MemoryError as error:
                ran_out = str(error)
            waiting = waiting[~is_done[waiting]]
            if len(waiting) and batch_tokens <= lengths[waiting].max():
                raise MemoryError(f"a single text does not fit into memory; lower max_seq_length. ({ran_out})")
            batch_tokens //= 2

    def _hint(self, lengths: NDArray[np.int64], views: Sequence[LayerPooling], batch_tokens: int) -> str:
        """Give all cores to a batch that is alone, which takes a compiled model of its own."""
        is_alone = len(lengths) * int(lengths.max(initial=0)) <= batch_tokens or len(lengths) == 1
        is_usual = all(layers == self._last_layer for layers, _ in views)
        return ONE_AT_A_TIME if is_alone and is_usual else SEVERAL_AT_A_TIME

    def _embed_rows(
        self,
        tokens: Tokens,
        rows_to_do: NDArray[np.intp],
        views: Sequence[LayerPooling],
        n_prompt_tokens: int,
        batch_tokens: int,
        hint: str,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        is_first_row = tokens.is_first_row
        layers = tuple(sorted({layer for some, _ in views for layer in some}))
        batches = (rows_to_do[batch] for batch in length_batches(tokens.lengths[rows_to_do], batch_tokens))
        inputs = ((rows, *tokens.padded(rows, self.reader.pad_id)) for rows in batches)
        for rows, is_token, outputs in self._run(layers, hint, inputs):
            is_token[is_first_row[rows], :n_prompt_tokens] = False  # the only row that holds the prompt
            output_of = dict(zip(layers, outputs, strict=True))
            states = {some: mean_of([output_of[layer] for layer in some]) for some in {some for some, _ in views}}
            yield rows, self._pool(states, is_token, views)

    def _run(
        self,
        layers: tuple[int, ...],
        hint: str,
        inputs: Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]],
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_], list[NDArray[np.float32]]]]:
        """Run batches of (rows, input ids, mask); yield rows, mask and outputs, in the order in which they end.

        A batch is prepared, and another pooled, while others are computed.
        """
        queue, done, variant = self._queue(layers, hint), deque[Any](), self._variant(layers, hint)
        del self._queues[variant]  # whoever embeds in a signal handler meanwhile makes another

        def take(request: Any, batch: tuple[Any, Any]) -> None:  # called in a thread of OpenVINO's
            try:
                done.append((*batch, [np.array(output.data) for output in request.output_tensors]))
            except MemoryError as error:  # one that leaves this function would end the process
                done.append(error)

        is_whole = False
        try:
            queue.set_callback(take)
            for rows, input_ids, is_token in inputs:
                queue.start_async({0: input_ids, 1: is_token.astype(np.int64)}, (rows, is_token))  # waits for its turn
                while done:
                    yield _raised(done.popleft())
            queue.wait_all()
            while done:
                yield _raised(done.popleft())
            is_whole = True
            self._queues[variant] = queue
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise
        finally:
            if not is_whole:  # a queue that failed fails for ever, and one that was left may still be running
                with suppress(RuntimeError):
                    queue.wait_all()

    def _queue(self, layers: tuple[int, ...], hint: str) -> Any:
        """Return the queue that gives some hidden layers; the compiled model is made when it is first needed.

        Those of the last layer stay, and that of the layers which were asked for last.
        """
        variant = self._variant(layers, hint)
        if variant not in self._queues:
            self._queues = {kept: queue for kept, queue in self._queues.items() if kept.layers == self._last_layer}
            compiled = self._compile(variant)
            n_at_once = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            n_waiting = int(variant.hint == SEVERAL_AT_A_TIME)  # so that no core waits
            self._queues[variant] = openvino.AsyncInferQueue(compiled, n_at_once + n_waiting)
        return self._queues[variant]

    def is_there(self) -> bool:
        """Whether the folder still is: parts of it are read when they are first needed."""
        return (self._folder / ABOUT).exists()

    def _variant(self, layers: tuple[int, ...], hint: str) -> Variant:
        """Choose how to compile the model for some layers, of the ways that do not end the process.

        Vectors of inner layers may be computed in float32 instead; for those of the last one a backend has one dtype.
        """
        if (layers, hint) not in self._variants:
            dtypes = [self.dtype] if layers == self._last_layer else [*dict.fromkeys([self.dtype, "float32"])]
            hints = sorted([ONE_AT_A_TIME, SEVERAL_AT_A_TIME], key=lambda other: other != hint)
            tried = [Variant(layers, dtype, some, _n_threads()) for dtype in dtypes for some in hints]
            wanted, *_ = outcomes = [*self._outcomes_up_to_a_good_one(tried)]
            if outcomes[-1].reason is not None:
                reason = f"in {self.dtype}, {wanted.reason}"
                raise CannotRunError(reason, lasts=all(each.lasts for each in outcomes))
            chosen = self._variants[layers, hint] = tried[len(outcomes) - 1]
            if wanted.reason is not None:
                self._warn_of_change(chosen, wanted.reason)
        return self._variants[layers, hint]

    def _outcomes_up_to_a_good_one(self, variants: Sequence[Variant]) -> Iterator[Outcome]:
        for variant in variants:
            (outcome,) = self._trials.outcomes([variant])
            yield outcome
            if outcome.reason is None:
                return

    def _warn_of_change(self, variant: Variant, reason: str) -> None:
        how = "one batch at a time" if variant.hint == ONE_AT_A_TIME else "several batches at a time"
        warnings.warn(
            f"OpenVINO runs {self._model_name} in {variant.dtype} and {how}, as otherwise {reason}. With "
            "backend='torch' there is no such warning.",
            UserWarning,
            stacklevel=level_of_user(),
        )

    def _compile(self, variant: Variant) -> Any:
        is_kept = self._keep_compiled and variant.layers == self._last_layer  # what nearly everyone asks for
        if is_kept and (compiled := import_blob(self._folder, variant)) is not None:
            return compiled
        compiled = compile_variant(self._folder, variant)
        if is_kept:
            with suppress(OSError):  # a full disk, say: then it is compiled again next time
                export_blob(compiled, self._folder, variant)
        return compiled

    def _pool(
        self,
        states: dict[tuple[int, ...], NDArray[np.float32]],
        is_pooled: NDArray[np.bool_],
        views: Sequence[LayerPooling],
    ) -> NDArray[np.float32]:
        side_by_side = []
        for layers, pooling in views:
            pooled = [pool(states[layers], is_pooled, mode) for mode in pooling]
            side_by_side.append(self._through_tail(np.concatenate(pooled, axis=1)))
        return np.concatenate(side_by_side, axis=1)

    def _through_tail(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.tail:
            return pooled
        if self._tail is None:
            self._tail = compile_variant(self._folder, _TAIL)
        vectors: NDArray[np.float32] = self._tail(pooled)[0]
        return vectors


def usual_variants(conversion: Conversion, dtype: str) -> list[Variant]:
    """List the compiled models that most calls take: the tail's, if there is one, those in float32, the others."""
    last_layer, n_threads = (conversion.reader.n_layers,), _n_threads()
    dtypes, hints = dict.fromkeys(["float32", dtype]), (ONE_AT_A_TIME, SEVERAL_AT_A_TIME)
    variants = [Variant(last_layer, some, hint, n_threads) for some in dtypes for hint in hints]
    return [_TAIL, *variants] if conversion.tail else variants


def usual_key() -> str:
    """Name what decides which code most calls run, beside the model and its precision."""
    return Variant(None, "float32", None, _n_threads()).key()


def fastest_dtype() -> str:
    """Name the precision that the processor is fastest in."""
    return "bfloat16" if _has_native_bfloat16() else "float32"


def trials_of(conversion: Conversion, *, is_private: bool) -> Trials:
    """Return the trials of a converted model, with examples of the shapes that choose other code."""

    def examples() -> dict[str, Any]:
        reader = conversion.reader
        limits = [limit for limit in (conversion.defaults.max_seq_length, reader.max_positions) if limit is not None]
        longest = min([*limits, _LONGEST_EXAMPLE])
        ids = reader.tokenizer.tokenize(PROBE_TEXTS, longest).ids
        pairs = []
        for n_texts, n_tokens in ((1, 1), (1, 7), (3, 17), (16, 32), (1, longest)):
            shape = n_texts, min(n_tokens, longest)
            is_token = np.ones(shape, dtype=np.int64)
            is_token[1::2, shape[1] // 2 + 1 :] = 0
            pairs.append([np.where(is_token, np.resize(ids, shape), reader.pad_id).tolist(), is_token.tolist()])
        tail_dim = conversion.tail[0].takes if conversion.tail else None
        return {"tokens": pairs, "tail_dim": tail_dim or reader.hidden_dim * len(reader.own_pooling)}

    return Trials(conversion.folder, examples, is_private=is_private)


def embed_probe(backend: Any, texts: Sequence[str], most_tokens: int | None = None) -> NDArray[np.float32]:
    """Embed some texts in one batch with a backend of either kind, before vectors are normalised."""
    reader, tokens = backend.reader, tokenize_probe(backend, texts, most_tokens)
    pooling = reader.own_pooling if backend.tail else reader.own_pooling[:1]
    in_one_batch = len(texts) * int(tokens.lengths.max())
    parts = list(backend.embed_tokens(tokens, [((reader.n_layers,), pooling)], 0, in_one_batch))
    vectors: NDArray[np.float32] = np.concatenate([some for _, some in parts])
    return vectors[np.argsort(np.concatenate([rows for rows, _ in parts]))]


def tokenize_probe(backend: Any, texts: Sequence[str], most_tokens: int | None = None) -> Tokens:
    """Tokenise some texts, cut to what the model reads or less."""
    limits = (backend.defaults.max_seq_length, backend.reader.max_positions, most_tokens)
    tokens: Tokens = backend.reader.tokenizer.tokenize(texts, min((n for n in limits if n is not None), default=None))
    return tokens


def find_converted(folder: Path, dtype: str, model_name: str) -> OpenVINOBackend | None:
    """Make ready a model that was converted before; None if it was not, or is of no use any more.

    Parameters
    ----------
    folder : Path
    dtype : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 where the processor has it and the probe texts' vectors stay what they are, else float32.
    model_name : str
        How to call it in messages.
    """
    conversion = read_conversion(folder)
    try:
        return None if conversion is None else make_backend(conversion, dtype, model_name)
    except RuntimeError:  # OpenVINO's own
        return None


def make_backend(conversion: Conversion, dtype: str, model_name: str) -> OpenVINOBackend:
    """Make a backend in a precision; see :func:`find_converted`."""
    cannot = None
    if dtype == "auto" and _has_native_bfloat16():
        try:
            backend = OpenVINOBackend(conversion, "bfloat16", model_name)
            if _keeps_vectors(backend, np.load(conversion.folder / PROBE, allow_pickle=False)):
                return backend
        except CannotRunError as error:
            cannot = error
    backend = OpenVINOBackend(conversion, "float32" if dtype == "auto" else dtype, model_name)
    if cannot is not None:
        warnings.warn(
            f"OpenVINO runs {model_name} in float32, which is slower: {cannot}. With dtype='float32' there is no such "
            "warning.",
            UserWarning,
            stacklevel=level_of_user(),
        )
    return backend


def _keeps_vectors(backend: OpenVINOBackend, expected: NDArray[np.float32]) -> bool:
    """Whether what a backend gives is near to vectors of the probe texts, where it does not compute in float32."""
    n_done, smallest = 0, np.inf
    for texts in (PROBE_TEXTS, LONG_PROBE_TEXTS):
        rows = np.flatnonzero(tokenize_probe(backend, texts).lengths > SHORT_TEXT)
        if len(rows):
            found = embed_probe(backend, [texts[row] for row in rows])
            nearness = cosines(found, expected[n_done + rows])
            smallest = min(smallest, nearness.min() if np.isfinite(found).all() else -np.inf)
        n_done += len(texts)
    return bool(_SMALLEST_PROBE_COSINE <= smallest < np.inf)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the cosine of each row of ``a`` to the same row of ``b``."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    found: NDArray[np.float64] = (a64 * b64).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return found


def _raised(result: Any) -> Any:
    if isinstance(result, BaseException):
        raise result
    return result


def has_run() -> bool:
    """Whether OpenVINO has started threads in this process."""
    return core.cache_info().currsize > 0


def _n_threads() -> int:
    """Count the cores that this process may use: joblib's workers tell theirs in ``OMP_NUM_THREADS``."""
    n_cores, said = joblib.cpu_count(), os.environ.get("OMP_NUM_THREADS", "")
    return min(n_cores, int(said)) if said.isdecimal() and int(said) > 0 else int(n_cores)


def _has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX); only Linux tells."""
    return not _BF16_FLAGS.isdisjoint(processor_flags())
