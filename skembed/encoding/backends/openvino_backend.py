"""The OpenVINO backend: a converted model, run on the cores of one processor, several batches at a time.

Token ids in; pooled float32 vectors out. Imports numpy and the rooms below, but neither torch nor transformers nor
sentence-transformers, so that a process that only embeds starts fast.

The folder of a converted model, written by ``openvino_conversion.py`` and read here::

    model.xml, model.bin    token ids -> all hidden layers, the last one last
    tail.xml, tail.bin      pooled vector -> vector, if the model has modules after its pooling
    probe.npy               vectors of some texts in float32
    about.json              TransformerSpec, Defaults, modules after the pooling, versions, checksums; sealed
    *.blob                  the model compiled for a processor, with a checksum
    *.verdict               whether a compiled model runs on a processor, or ends the process; sealed
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
from numpy.typing import NDArray

from skembed.compat import is_out_of_memory
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
    openvino,
)
from skembed.encoding.backends.pooling import LayerPoolings, Mask, Rows, Vectors, mean_of, pool_side_by_side
from skembed.encoding.backends.reader import CannotComputeError, dim_after
from skembed.encoding.batching import even_batch_tokens, length_batches
from skembed.encoding.tokens import Tokens
from skembed.errors import warn_user
from skembed.processor import multiplies_bfloat16, processor_flags

SMALLEST_COSINE = 0.9999  # promised between the vectors of any text in bfloat16 and in float32

# A text of this many tokens or fewer is always computed in float32, because the rounding errors of few tokens hardly
# average out in the pooling. Of 38,000 texts, those below 0.99993 with all-MiniLM-L6-v2 had four to seven tokens. A
# single such text takes 1.6 times as long; among other texts they are few.
SHORT_TEXT = 7

# The probe texts must keep a margin, because other texts lose more. With all-MiniLM-L6-v2, the worst of 36,000 texts
# that are not short loses 1.5 times as much as the worst probe text; with small random models, the worst of 2,500 texts
# loses up to 2.6 times as much.
_MARGIN = 2
_SMALLEST_PROBE_COSINE = 1 - (1 - SMALLEST_COSINE) / _MARGIN

# Texts to try bfloat16 on, mostly of eight to thirty words and signs, and two longer ones. Answers and small talk lose
# most (see benchmarks/quality.py). A few are shorter, for the comparison in float32.
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

_POST_POOLING = Variant(None, "float32")
_LONGEST_EXAMPLE = 256  # tokens of the longest text that a compiled model is tried on

# As many batches as there are cores run at a time, and their activations should stay in the processor's cache. AMX
# multiplies several times as fast, and needs larger batches for that. Figures: benchmarks/README.md, "Size of a batch".
_BATCH_TOKENS, _BATCH_TOKENS_ON_AMX = 512, 2048


class OpenVINOBackend:
    """A converted model, in one precision.

    Parameters
    ----------
    conversion : Conversion
    dtype : {"float32", "bfloat16"}
        In bfloat16, the shortest texts are computed in float32.
    model_name : str, default="the model"
        The name of the model in messages.
    keep_compiled : bool, default=True
        Whether to store the compiled model for the next process.

    Attributes
    ----------
    spec, defaults, post_pooling, ends_normalized
        Those of the conversion.

    Raises
    ------
    CannotRunError
        If the model ends the process that runs it, or could not be tried in another process.
    """

    name = "openvino"
    device = "cpu"
    company = "any"  # other models are not converted
    unsupported_reason = None  # a converted model is supported
    why_no_layers = None  # a converted model returns all layers

    def __init__(
        self, conversion: Conversion, dtype: str, model_name: str = "the model", *, keep_compiled: bool = True
    ) -> None:
        self._conversion, self._folder, self.dtype = conversion, conversion.folder, dtype
        self.spec, self.defaults = conversion.spec, conversion.defaults
        self.post_pooling, self.ends_normalized = conversion.post_pooling, conversion.ends_normalized
        self._model_name, self._keep_compiled = model_name, keep_compiled
        self._last_layer = (conversion.spec.n_layers,)
        self._float32: OpenVINOBackend | None = None  # for short texts, when the first of them comes
        self._compiled_post_pooling: Any = None
        self._trials = trials_of(conversion, is_private=not keep_compiled)
        first, *_ = self._trials.outcomes(usual_variants(conversion, dtype))  # all in one child
        if conversion.post_pooling and first.reason is not None:
            raise CannotRunError(f"of the modules after its pooling, {first.reason}", lasts=first.lasts)
        self._variants: dict[tuple[tuple[int, ...], str], Variant] = {}
        self._queues: dict[Variant, Any] = {}
        self._queue(self._last_layer, ONE_AT_A_TIME)  # if it fails, it fails now, when torch can take over

    def route(self, task: str | None) -> None:
        """Return None: in a standard model all texts take the same route, whatever their task."""

    def vector_dim(self, pooling: tuple[str, ...] | None, route: str | None = None) -> int:  # noqa: ARG002
        """Return the dimensions of a vector before it is truncated.

        Raises
        ------
        ValueError
            If a module after the pooling does not take vectors of the dimensions that the pooling gives.
        """
        return dim_after(self.post_pooling, self.spec.hidden_dim * len(pooling or self.spec.own_pooling))

    def best_batch_tokens(self) -> int:
        """Choose the most tokens of a batch, padding included, with which the processor is fastest."""
        is_on_amx = self.dtype == "bfloat16" and "amx_bf16" in processor_flags()
        return _BATCH_TOKENS_ON_AMX if is_on_amx else _BATCH_TOKENS

    def embed_tokens(
        self, tokens: Tokens, layer_poolings: LayerPoolings, n_prompt_tokens: int, batch_tokens: int
    ) -> Iterator[tuple[Rows, Vectors]]:
        """Run tokens through the model; see :meth:`TorchBackend.embed_tokens`.

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
            if len(empty):  # pooled to the zero vector, which a later module may shift
                zeros = np.zeros((len(empty), 1, self.spec.hidden_dim), dtype=np.float32)
                states = dict.fromkeys((layers for layers, _ in layer_poolings), zeros)
                no_token = np.zeros((len(empty), 1), dtype=bool)
                yield empty, pool_side_by_side(states, no_token, layer_poolings, np.concatenate, self._after_pooling)
            yield from self._embed_rows(tokens, others, layer_poolings, n_prompt_tokens, batch_tokens)
            if len(short):
                yield from self._in_float32()._embed_rows(tokens, short, layer_poolings, n_prompt_tokens, batch_tokens)
        except RuntimeError as error:  # of OpenVINO
            raise CannotComputeError(str(error)) from error

    def _in_float32(self) -> OpenVINOBackend:
        if self._float32 is None:  # no cached_property: on Python 3.11 all models would wait for each other's
            name, keep_compiled = self._model_name, self._keep_compiled
            self._float32 = OpenVINOBackend(self._conversion, "float32", name, keep_compiled=keep_compiled)
        return self._float32

    def _embed_rows(
        self, tokens: Tokens, rows: Rows, layer_poolings: LayerPoolings, n_prompt_tokens: int, batch_tokens: int
    ) -> Iterator[tuple[Rows, Vectors]]:
        """Run some rows; when memory runs out, continue with batches of half the size."""
        lengths, is_first_row = tokens.lengths, tokens.is_first_row
        averages = {some for some, _ in layer_poolings}
        layers = tuple(sorted({layer for some in averages for layer in some}))
        hint, batch_tokens = self._spread(layers, lengths[rows], batch_tokens)
        while len(rows):
            is_done = np.zeros(len(lengths), dtype=bool)
            batches = (rows[batch] for batch in length_batches(lengths[rows], batch_tokens))
            inputs = ((batch, *tokens.padded(batch, self.spec.pad_id)) for batch in batches)
            try:
                for batch, is_token, outputs in self._run(layers, hint, inputs):
                    is_token[is_first_row[batch], :n_prompt_tokens] = False  # the only row that holds the prompt
                    output_of = dict(zip(layers, outputs, strict=True))
                    states = {some: mean_of([output_of[layer] for layer in some]) for some in averages}
                    vectors = pool_side_by_side(states, is_token, layer_poolings, np.concatenate, self._after_pooling)
                    del outputs, output_of, states  # a smaller batch may need their memory
                    is_done[batch] = True
                    yield batch, vectors
            except MemoryError as error:
                ran_out = str(error)
            rows = rows[~is_done[rows]]
            if len(rows) and batch_tokens <= lengths[rows].max():
                raise MemoryError(f"a single text does not fit into memory; lower max_seq_length. ({ran_out})")
            batch_tokens //= 2

    def _spread(self, layers: tuple[int, ...], lengths: NDArray[np.int64], batch_tokens: int) -> tuple[str, int]:
        """Choose how all cores get work.

        They share each batch if there are few texts, fewer than cores; otherwise each computes batches of its own.

        Returns
        -------
        hint : str
        batch_tokens : int
            Fewer, where the batches would not be enough for the cores.
        """
        n_threads = _n_threads()
        is_single = len(lengths) == 1 or (len(lengths) < n_threads and lengths.sum() <= batch_tokens)
        if is_single and layers == self._last_layer:
            return ONE_AT_A_TIME, batch_tokens  # by a compiled model of its own
        if lengths.sum() <= n_threads * batch_tokens:
            return SEVERAL_AT_A_TIME, min(batch_tokens, even_batch_tokens(lengths, n_threads))
        return SEVERAL_AT_A_TIME, batch_tokens

    def _run(
        self, layers: tuple[int, ...], hint: str, inputs: Iterator[tuple[Rows, NDArray[np.int64], Mask]]
    ) -> Iterator[tuple[Rows, Mask, list[Vectors]]]:
        """Run batches of (rows, input ids, mask); yield rows, mask and outputs as the batches finish.

        While some batches are computed, another one is prepared or pooled.
        """
        queue, done, variant = self._queue(layers, hint), deque[Any](), self._variant(layers, hint)
        del self._queues[variant]  # a call from a signal handler meanwhile makes another

        def store(request: Any, batch: tuple[Any, Any]) -> None:  # runs in a thread of OpenVINO's
            try:
                done.append((*batch, [np.array(output.data) for output in request.output_tensors]))
            except MemoryError as error:  # an error that leaves this function ends the process
                done.append(error)

        try:
            queue.set_callback(store)
            for rows, input_ids, is_token in inputs:
                named = {0: input_ids, 1: is_token.astype(np.int64)}
                queue.start_async(named, (rows, is_token))  # waits for a free request
                while done:
                    yield _raised(done.popleft())
            queue.wait_all()
            while done:
                yield _raised(done.popleft())
        except BaseException as error:  # a queue that failed always fails, and one that was abandoned may still run
            with suppress(RuntimeError):
                queue.wait_all()
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise
        self._queues[variant] = queue

    def _queue(self, layers: tuple[int, ...], hint: str) -> Any:
        """Return the queue of requests for some hidden layers; the model is compiled on first use.

        The queues of the last layer are kept, and of other layers only the most recent one.
        """
        variant = self._variant(layers, hint)
        if variant not in self._queues:
            self._queues = {kept: queue for kept, queue in self._queues.items() if kept.layers == self._last_layer}
            compiled = self._compile(variant)
            n_at_once = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            n_waiting = int(variant.hint == SEVERAL_AT_A_TIME)  # keeps all cores busy
            self._queues[variant] = openvino.AsyncInferQueue(compiled, n_at_once + n_waiting)
        return self._queues[variant]

    def is_there(self) -> bool:
        """Return whether the folder still exists: parts of it are read on first use."""
        return (self._folder / ABOUT).exists()

    def _variant(self, layers: tuple[int, ...], hint: str) -> Variant:
        """Choose how to compile the model for some layers, in a way that does not end the process.

        Inner layers may be computed in float32 instead; the last layer is always computed in the backend's dtype.
        """
        if (layers, hint) not in self._variants:
            dtypes = [self.dtype] if layers == self._last_layer else [*dict.fromkeys([self.dtype, "float32"])]
            hints = sorted([ONE_AT_A_TIME, SEVERAL_AT_A_TIME], key=lambda other: other != hint)
            outcomes: list[Outcome] = []
            for variant in [Variant(layers, dtype, some, _n_threads()) for dtype in dtypes for some in hints]:
                outcomes += self._trials.outcomes([variant])
                if outcomes[-1].reason is None:
                    break
            else:
                reason = f"in {self.dtype}, {outcomes[0].reason}"
                raise CannotRunError(reason, lasts=all(each.lasts for each in outcomes))
            self._variants[layers, hint] = variant
            if len(outcomes) > 1:
                how = "one batch at a time" if variant.hint == ONE_AT_A_TIME else "several batches at a time"
                warn_user(
                    f"OpenVINO runs {self._model_name} in {variant.dtype} and {how}, because otherwise "
                    f"{outcomes[0].reason}. Pass backend='torch' to avoid this warning.",
                )
        return self._variants[layers, hint]

    def _compile(self, variant: Variant) -> Any:
        is_kept = self._keep_compiled and variant.layers == self._last_layer  # what most calls need
        if is_kept and (compiled := import_blob(self._folder, variant)) is not None:
            return compiled
        compiled = compile_variant(self._folder, variant)
        if is_kept:
            with suppress(OSError):  # such as a full disk; then it is compiled again next time
                export_blob(compiled, self._folder, variant)
        return compiled

    def _after_pooling(self, pooled: Vectors) -> Vectors:
        if not self.post_pooling:
            return pooled
        if self._compiled_post_pooling is None:
            self._compiled_post_pooling = compile_variant(self._folder, _POST_POOLING)
        return cast("Vectors", self._compiled_post_pooling(pooled)[0])


def usual_variants(conversion: Conversion, dtype: str) -> list[Variant]:
    """Return the variants that most calls use: first of modules after the pooling, if any; float32 before others."""
    last_layer, n_threads = (conversion.spec.n_layers,), _n_threads()
    dtypes, hints = dict.fromkeys(["float32", dtype]), (ONE_AT_A_TIME, SEVERAL_AT_A_TIME)
    variants = [Variant(last_layer, some, hint, n_threads) for some in dtypes for hint in hints]
    return [_POST_POOLING, *variants] if conversion.post_pooling else variants


def usual_key() -> str:
    """Return a key of what selects the code that most calls run, apart from the model and its precision."""
    return Variant(None, "float32", None, _n_threads()).key()


def fastest_dtype() -> str:
    """Return the precision in which the processor is fastest."""
    return "bfloat16" if multiplies_bfloat16() else "float32"


def trials_of(conversion: Conversion, *, is_private: bool) -> Trials:
    """Return the trials of a converted model, with inputs of the shapes that select different code."""

    def examples() -> dict[str, Any]:
        spec = conversion.spec
        limits = [limit for limit in (conversion.defaults.max_seq_length, spec.max_positions) if limit is not None]
        longest = min([*limits, _LONGEST_EXAMPLE])
        ids = spec.tokenizer.tokenize(PROBE_TEXTS, longest).ids
        pairs = []
        for n_texts, n_tokens in ((1, 1), (1, 7), (3, 17), (16, 32), (1, longest)):
            shape = n_texts, min(n_tokens, longest)
            is_token = np.ones(shape, dtype=np.int64)
            is_token[1::2, shape[1] // 2 + 1 :] = 0
            pairs.append([np.where(is_token, np.resize(ids, shape), spec.pad_id).tolist(), is_token.tolist()])
        pooled_dim = conversion.post_pooling[0].takes if conversion.post_pooling else None
        pooled_dim = pooled_dim or spec.hidden_dim * len(spec.own_pooling)
        return {"tokens": pairs, "pooled_dim": pooled_dim, "kept_layers": [spec.n_layers]}

    return Trials(conversion.folder, examples, is_private=is_private)


def embed_probe(backend: Any, texts: Sequence[str], most_tokens: int | None = None) -> Vectors:
    """Embed some texts in one batch with a backend of either kind; the vectors are not normalized."""
    spec, tokens = backend.spec, tokenize_probe(backend, texts, most_tokens)
    pooling = spec.own_pooling if backend.post_pooling else spec.own_pooling[:1]
    in_one_batch = len(texts) * int(tokens.lengths.max())
    parts = backend.embed_tokens(tokens, [((spec.n_layers,), pooling)], 0, in_one_batch)
    rows, vectors = map(np.concatenate, zip(*parts, strict=True))
    return cast("Vectors", vectors[np.argsort(rows)])


def tokenize_probe(backend: Any, texts: Sequence[str], most_tokens: int | None = None) -> Tokens:
    """Tokenize some texts, truncated to ``most_tokens`` or to the fewer that the model reads."""
    limits = (backend.defaults.max_seq_length, backend.spec.max_positions, most_tokens)
    most = min((limit for limit in limits if limit is not None), default=None)
    return cast("Tokens", backend.spec.tokenizer.tokenize(texts, most))


def find_converted(folder: Path, dtype: str, model_name: str) -> OpenVINOBackend | None:
    """Load a model that was converted before; return None if there is no usable conversion.

    Parameters
    ----------
    folder : Path
    dtype : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 if the processor supports it and it keeps the vectors of the probe texts, else float32.
    model_name : str
        The name of the model in messages.
    """
    with suppress(RuntimeError):  # of OpenVINO
        if (conversion := read_conversion(folder)) is not None:
            return make_backend(conversion, dtype, model_name)
    return None


def make_backend(conversion: Conversion, dtype: str, model_name: str) -> OpenVINOBackend:
    """Create a backend in a precision; see :func:`find_converted`."""
    cannot = None
    if dtype == "auto" and multiplies_bfloat16():
        try:
            backend = OpenVINOBackend(conversion, "bfloat16", model_name)
            if _keeps_vectors(backend, np.load(conversion.folder / PROBE, allow_pickle=False)):
                return backend
        except CannotRunError as error:
            cannot = error
    backend = OpenVINOBackend(conversion, "float32" if dtype == "auto" else dtype, model_name)
    if cannot is not None:
        warn_user(
            f"OpenVINO runs {model_name} in float32, which is slower: {cannot}. Pass dtype='float32' to avoid "
            "this warning.",
        )
    return backend


def _keeps_vectors(backend: OpenVINOBackend, expected: Vectors) -> bool:
    """Return whether a backend in bfloat16 keeps the vectors of the probe texts, short ones apart."""
    n_done, smallest = 0, np.inf
    for texts in (PROBE_TEXTS, LONG_PROBE_TEXTS):
        rows = np.flatnonzero(tokenize_probe(backend, texts).lengths > SHORT_TEXT)
        if len(rows):
            found = embed_probe(backend, [texts[row] for row in rows])
            nearness = cosines(found, expected[n_done + rows])
            smallest = min(smallest, nearness.min() if np.isfinite(found).all() else -np.inf)
        n_done += len(texts)
    return bool(_SMALLEST_PROBE_COSINE <= smallest < np.inf)


def cosines(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Compute the cosine of each row of ``a`` and the same row of ``b``."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    return cast("NDArray[np.float64]", (a64 * b64).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


def _raised(result: Any) -> Any:
    if isinstance(result, BaseException):
        raise result
    return result


def has_run() -> bool:
    """Return whether OpenVINO has started threads in this process."""
    return core.cache_info().currsize > 0


def _n_threads() -> int:
    """Return the number of cores for this process, at most ``OMP_NUM_THREADS``, which joblib sets for its workers."""
    n_cores, limit = joblib.cpu_count(), os.environ.get("OMP_NUM_THREADS", "")
    return min(n_cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else int(n_cores)
