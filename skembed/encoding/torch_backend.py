"""The torch backend: a SentenceTransformer taken apart, and run batch by batch.

Token ids (or, for a model that tokenises by itself, texts) in; pooled float32 vectors out. Imports torch,
sentence-transformers and the rooms below; knows no cache, no settings and no estimator.
"""

from __future__ import annotations

import copy
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize, Pooling
from torch import Tensor, nn

from skembed.encoding.batching import length_batches
from skembed.encoding.pooling import POOLERS
from skembed.encoding.reader import Defaults, Reader, TailModule, View, dim_after
from skembed.encoding.tokens import UNLIMITED, TextTokenizer, Tokens
from skembed.encoding.torch_threads import as_many_as_worth, multiplications_a_token

# What a tokenizer must do alike in our hands and in its owner's before we take it over.
_PROBE_TEXTS = ["A probe, with 2 clauses & an accent: é.", "", "  Two\nlines <pad> "]

_VECTOR = "sentence_embedding"  # what sentence-transformers calls the vector of a text among its features

# Modules after the pooling that read nothing but the pooled vector, so that each pooling can pass through them.
_TAIL_MODULES = (Dense, Dropout, LayerNorm, Normalize)

# On another device than the processor, that one goes on while the device computes. From CUDA results come back so many
# batches later; from others, the processor waits for so many batches at once.
_BATCHES_IN_FLIGHT = 4
_BATCHES_A_COPY = 16

# So many tokens of one length make batches for CUDA of their own. These need neither padding nor a mask, which the
# processor would wait for, as transformers looks into it.
_TOKENS_OF_ONE_LENGTH = 8192

_SHARE_OF_FREE_MEMORY = 0.5  # that a batch may take by our estimate

_has_run = False  # whether torch may have started threads

Result = TypeVar("Result")
Run = Callable[["TorchBackend", NDArray[np.intp]], Tensor]  # computes some rows by a backend


class TorchBackend:
    """One SentenceTransformer on one device, in one precision.

    Parameters
    ----------
    sentence_transformer : SentenceTransformer
        Already on its device and in its precision. It is read, never changed.

    Attributes
    ----------
    reader : Reader or None
        None if the model tokenises and pools in a way of its own (StaticEmbedding, CLIP, a Router, ...).
    not_standard : str or None
        Why there is no reader.
    transformer : Module or None
        What gives the reader its token vectors; None if there is no reader.
    modules_after : list of Module
        The modules after the reader (after nothing, if there is none), without a trailing Normalize.
    ends_normalized : bool
        Whether the model's last module is a Normalize.
    """

    name = "torch"

    def __init__(self, sentence_transformer: SentenceTransformer) -> None:
        self.sentence_transformer = sentence_transformer
        self.device: torch.device = sentence_transformer.device
        modules: list[Any] = list(sentence_transformer.children())
        self.ends_normalized = _is_trailing_normalize(modules[-1])
        if self.ends_normalized:
            modules.pop()
        self.not_standard = _why_not_standard(modules)
        self.reader = None if self.not_standard else _take_reader(modules[0], modules[1])
        if self.reader is not None and not _tokenizes_alike(self.reader.tokenizer, modules[0].tokenizer):
            self.reader, self.not_standard = None, "its tokenizer does more than its fast core"
        self.transformer: nn.Module | None = modules[0].model if self.reader else None
        self.modules_after = modules[2:] if self.reader else modules
        # To transformers' own models no mask says that all is to be read, unless they find what they take for padding
        # (a text may hold "<pad>"). Others may want one.
        self._runs_without_mask = type(self.transformer).__module__.startswith("transformers.models.")
        self._pad_ids = self._find_pad_ids()
        self._own_dim = 0 if self.reader else self._measure_dim()

    def vector_dim(self, pooling: tuple[str, ...] | None) -> int:
        """Count the dimensions of a vector, before it is cut.

        Raises
        ------
        ValueError
            If a layer of the tail does not take vectors of the dimensions that the pooling gives.
        """
        if self.reader is None or pooling is None:
            return self._own_dim
        return dim_after(self.tail, self.reader.hidden_dim * len(pooling))

    @property
    def tail(self) -> tuple[TailModule, ...]:
        """What is known of the modules after the reader."""
        return tuple(
            TailModule(
                type(module).__name__,
                module.in_features if isinstance(module, Dense) else getattr(module, "dimension", None),
                module.out_features if isinstance(module, Dense) else None,
            )
            for module in self.modules_after
        )

    @property
    def defaults(self) -> Defaults:
        """What the model does where the caller says nothing."""
        own, limit = self.sentence_transformer, self.sentence_transformer.max_seq_length
        limit = None if limit is None or limit > UNLIMITED else int(limit)
        return Defaults(dict(own.prompts), own.default_prompt_name, own.truncate_dim, limit)

    @property
    def has_activations(self) -> bool:
        """Whether a batch takes memory inside the model, as in a transformer; a table of vectors takes none."""
        return self.sentence_transformer.transformers_model is not None

    @cached_property
    def _multiplications_a_token(self) -> float:
        on_processor = self.device.type == "cpu" and self.transformer is not None
        return multiplications_a_token(self.transformer) if on_processor else math.inf  # type: ignore[arg-type]

    def _find_pad_ids(self) -> list[int]:
        transformer: Any = self.transformer
        if self.reader is None:
            return []
        of_model = getattr(transformer.config.get_text_config(), "pad_token_id", None)
        return [self.reader.pad_id] if of_model is None else [self.reader.pad_id, int(of_model)]

    def tokens_that_fit(self) -> float:
        """Estimate the tokens of a batch that the device's free memory holds; infinite where that is not known.

        A token takes the widest step of a layer, all hidden layers (which are there at once if more than the last one
        is asked for), and a few float32 vectors while they are pooled. An estimate: what does not fit after all is
        halved until it does.
        """
        model = self.sentence_transformer.transformers_model
        if self.device.type != "cuda" or model is None:
            return float("inf")
        config = model.config.get_text_config()
        hidden = getattr(config, "hidden_size", None)
        if not isinstance(hidden, int):  # a model of other parts
            return float("inf")
        layer = 6 * hidden + 2 * (getattr(config, "intermediate_size", None) or 4 * hidden)
        states = (getattr(config, "num_hidden_layers", 12) + 1) * hidden
        n_bytes = model.dtype.itemsize * (layer + states) + 4 * 4 * hidden
        kept_by_torch = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + kept_by_torch
        return float(_SHARE_OF_FREE_MEMORY * free / n_bytes)

    def embed_tokens(
        self, tokens: Tokens, views: Sequence[View], n_prompt_tokens: int, batch_tokens: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Run the tokens of a window through the model, batch by batch.

        Parameters
        ----------
        tokens : Tokens
        views : sequence of (layers, pooling)
            The vectors that are wanted of each row, all from the same pass: hidden layers to average (0 = the input
            embeddings), and pooling modes to concatenate before the tail.
        n_prompt_tokens : int
            Leading tokens of each text that are read but not pooled.
        batch_tokens : int
            Most tokens in a batch, padding included.

        Yields
        ------
        rows : ndarray of int
            Rows of ``tokens`` that are done; each comes once.
        vectors : ndarray of float32, shape (len(rows), sum of the views' dimensions)
            After the tail, the views side by side.
        """
        lengths = tokens.lengths
        is_first_row = tokens.is_first_row  # the only one that holds the prompt

        def run(backend: TorchBackend, rows: NDArray[np.intp]) -> Tensor:
            input_ids, is_token = tokens.padded(rows, backend._reader.pad_id)
            is_pooled = is_token.copy()
            is_pooled[is_first_row[rows], :n_prompt_tokens] = False
            with backend.inference(), as_many_as_worth(input_ids.size * backend._multiplications_a_token):
                states = backend._token_vectors(input_ids, is_token, views)
                return backend._pool(states, backend._to_device(is_pooled), views)

        def n_padded(rows: NDArray[np.intp]) -> int:
            return int(lengths[rows].max(initial=0)) * len(rows)

        empty = np.flatnonzero(lengths == 0)  # nothing to read: pooled to the zero vector, which the tail may move
        if len(empty):
            yield empty, self._embed_nothing(len(empty), views)
        filled = np.flatnonzero(lengths)
        one_length = _TOKENS_OF_ONE_LENGTH if self.device.type == "cuda" else None
        batches = (filled[batch] for batch in length_batches(lengths[filled], batch_tokens, one_length))
        yield from self._compute(run, batches, n_padded)

    def _embed_nothing(self, n_rows: int, views: Sequence[View]) -> NDArray[np.float32]:
        with self.inference():
            zeros = torch.zeros(n_rows, self._reader.hidden_dim, device=self.device)
            pooled = [torch.cat([zeros] * len(pooling), dim=1) for _, pooling in views]
            return torch.cat([self._through_tail(vectors) for vectors in pooled], dim=1).cpu().numpy()

    def _compute(
        self, run: Run, batches: Iterator[NDArray[np.intp]], size_of: Callable[[NDArray[np.intp]], int]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Run batches on the device and bring the vectors back."""
        done = _run_batches(partial(run, self), batches, size_of)
        if self.device.type == "cuda":
            yield from _copied_behind(done, _start_copy)
            return
        n_together = 1 if self.device.type == "cpu" else _BATCHES_A_COPY
        while some := list(islice(done, n_together)):
            yield np.concatenate([rows for rows, _ in some]), torch.cat([vectors for _, vectors in some]).cpu().numpy()

    def embed_texts(
        self, texts: Sequence[str], prompt: str | None, batch_tokens: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int64]]]:
        """Run texts through a model that tokenises and pools in its own way, batch by batch.

        Yields
        ------
        rows : ndarray of int
            Texts that are done; each comes once.
        vectors : ndarray of float32, shape (len(rows), dim)
        n_tokens : ndarray of int64, shape (len(rows),)
            Tokens of each whole text; 0 where the model sets no limit, so that nothing can be cut.
        """
        # Characters stand in for tokens, four to one (English averages 4 to 5): this only shapes the batches.
        lengths = np.array([len(text) // 4 + 3 for text in texts], dtype=np.int64)
        n_tokens = np.zeros(len(texts), dtype=np.int64)

        def run(backend: TorchBackend, rows: NDArray[np.intp]) -> Tensor:
            with backend.inference():
                pooled, is_full = backend._run_texts([texts[row] for row in rows], prompt)
            for row in rows[is_full]:
                n_tokens[row] = backend.count_tokens((prompt or "") + texts[row])
            return pooled

        batches = length_batches(lengths, batch_tokens)
        for rows, vectors in self._compute(run, batches, lambda rows: int(lengths[rows].max() * len(rows))):
            yield rows, vectors, n_tokens[rows]

    def _measure_dim(self) -> int:
        with self.inference():
            return self._run_texts(["a"], prompt=None)[0].shape[1]

    @property
    def _reader(self) -> Reader:
        if self.reader is None:
            raise TypeError(f"this model reads texts, not tokens: {self.not_standard}")
        return self.reader

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Switch dropout off and gradients off, and put the model back as it was: it may be the user's own."""
        will_run()
        training = [module for module in self.sentence_transformer.modules() if module.training]
        for module in training:
            module.training = False
        try:
            # Its device is this thread's current one, too, for kernels that do not look where their tensors are.
            is_cuda = self.device.type == "cuda"
            with torch.inference_mode(), torch.cuda.device(self.device) if is_cuda else nullcontext():
                yield
        finally:
            for module in training:
                module.training = True

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type != "cuda":
            return tensor.to(self.device)
        with suppress(RuntimeError):  # where there is no pinned memory to be had
            tensor = tensor.pin_memory()  # which travels while the processor goes on
        return tensor.to(self.device, non_blocking=True)

    def _token_vectors(
        self, input_ids: NDArray[np.int64], is_token: NDArray[np.bool_], views: Sequence[View]
    ) -> dict[tuple[int, ...], Tensor]:
        """Compute the wanted means of hidden layers, each of shape (n_texts, n_tokens, hidden_dim), float32."""
        wanted, n_layers = {layers for layers, _ in views}, self._reader.n_layers
        last_only = all(set(layers) == {n_layers} for layers in wanted)
        needs_mask = not self._runs_without_mask or bool(np.isin(input_ids, self._pad_ids).any())
        output = self.transformer(  # type: ignore[misc]  # there is one where there is a reader
            input_ids=self._to_device(input_ids),
            attention_mask=self._to_device(is_token).long() if needs_mask else None,
            output_hidden_states=not last_only,
            return_dict=True,
        )
        if last_only:
            return dict.fromkeys(wanted, output.last_hidden_state.float())
        if len(output.hidden_states) != n_layers + 1:
            raise TypeError(f"the model gives {len(output.hidden_states)} hidden states for {n_layers} layers")
        return {layers: _mean([output.hidden_states[layer].float() for layer in layers]) for layers in wanted}

    def _pool(self, states: dict[tuple[int, ...], Tensor], is_pooled: Tensor, views: Sequence[View]) -> Tensor:
        each = {(layers, mode) for layers, pooling in views for mode in pooling}
        pooled = {(layers, mode): POOLERS[mode](states[layers], is_pooled) for layers, mode in each}
        side_by_side = [torch.cat([pooled[layers, mode] for mode in pooling], dim=1) for layers, pooling in views]
        return torch.cat([self._through_tail(vectors) for vectors in side_by_side], dim=1)

    def _through_tail(self, pooled: Tensor) -> Tensor:
        features: dict[str, Tensor] = {_VECTOR: pooled}
        for module in self.modules_after:
            parameter = next(module.parameters(), None)
            if parameter is not None:
                features[_VECTOR] = features[_VECTOR].to(parameter.dtype)
            features = module(features)
        return features[_VECTOR].float()

    def _run_texts(self, texts: list[str], prompt: str | None) -> tuple[Tensor, NDArray[np.bool_]]:
        """Run the model's own modules; also say which texts fill the model's window, so may have been cut."""
        features = self.sentence_transformer.preprocess(texts, prompt=prompt)
        limit = self.sentence_transformer.max_seq_length
        mask = features.get("attention_mask")
        is_full = np.zeros(len(texts), dtype=bool)
        if mask is not None and limit is not None and len(mask) == len(texts):
            is_full = (mask.sum(dim=1) >= limit).numpy()
        features = {
            name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in features.items()
        }
        for module in self.modules_after:
            features = module(features)
        return features[_VECTOR].float(), is_full

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a whole text with the model's own tokenizer."""
        tokenizer = self.sentence_transformer.tokenizer
        return len(tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])


def _run_batches(
    run: Callable[[NDArray[np.intp]], Result],
    batches: Iterator[NDArray[np.intp]],
    size_of: Callable[[NDArray[np.intp]], int],
) -> Iterator[tuple[NDArray[np.intp], Result]]:
    """Run all batches; when memory runs out, go on with batches of half the size that did not fit.

    A batch is drawn when it is its turn: others may draw from the same iterator.

    Raises
    ------
    MemoryError
        If a single row does not fit.
    """
    waiting: deque[NDArray[np.intp]] = deque()  # halves
    too_large = float("inf")
    while (rows := waiting.popleft() if waiting else next(batches, None)) is not None:
        if len(rows) > 1 and size_of(rows) >= too_large:
            waiting.extendleft(reversed(np.array_split(rows, 2)))
            continue
        try:
            result = run(rows)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU and MPS raise plain ones
            if not is_out_of_memory(error):
                raise
            ran_out = str(error)
        else:
            yield rows, result
            continue
        # Outside the except clause, whose traceback would keep the failed batch's memory alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            raise MemoryError(
                f"a single text of {size_of(rows)} tokens does not fit into the device's memory; lower "
                f"max_seq_length, or choose dtype='float16' or another device. ({ran_out})"
            )
        too_large = size_of(rows)
        waiting.appendleft(rows)


def _copied_behind(
    done: Iterator[tuple[NDArray[np.intp], Tensor]], start_copy: Callable[[Tensor], Callable[[], NDArray[np.float32]]]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Bring results back a few batches later, so that the device need not wait while they are taken."""
    in_flight: deque[tuple[NDArray[np.intp], Callable[[], NDArray[np.float32]]]] = deque()
    for rows, vectors in done:
        in_flight.append((rows, start_copy(vectors)))
        if len(in_flight) > _BATCHES_IN_FLIGHT:
            rows, wait = in_flight.popleft()
            yield rows, wait()
    for rows, wait in in_flight:
        yield rows, wait()


def _start_copy(vectors: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Start a copy from CUDA into pinned memory, which torch keeps for the next time; return what waits for its end."""
    try:
        landing = torch.empty(vectors.shape, dtype=vectors.dtype, device="cpu", pin_memory=True)
    except RuntimeError:  # there is none of it to be had
        landing = vectors.cpu()
        return landing.numpy
    landing.copy_(vectors, non_blocking=True)
    has_landed = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # else waiting keeps a core busy
    has_landed.record(torch.cuda.current_stream(vectors.device))

    def wait() -> NDArray[np.float32]:
        has_landed.synchronize()
        landed: NDArray[np.float32] = landing.numpy()
        return landed

    return wait


def _mean(states: list[Tensor]) -> Tensor:
    return states[0] if len(states) == 1 else torch.stack(states).mean(dim=0)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell that memory ran out, on whatever device, from another error."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error)
        or "can't allocate memory" in str(error)
        or "ALLOC_FAILED" in str(error)
    )


def _is_trailing_normalize(module: nn.Module) -> bool:
    return isinstance(module, Normalize) and {module.module_input_name, module.module_output_name} == {_VECTOR}


def _why_not_standard(modules: list[Any]) -> str | None:
    """Say why a model is not transformer + Pooling + tail over a fast tokenizer, or None if it is."""
    first = modules[0]
    if not isinstance(first, Transformer):
        return f"its first module is {type(first).__name__}, not a Transformer"
    if len(modules) < 2 or not isinstance(modules[1], Pooling):
        return "it has no Pooling module after its Transformer"
    for module in modules[2:]:
        reads_and_writes = {getattr(module, f"module_{way}_name", _VECTOR) for way in ("input", "output")}
        if type(module) not in _TAIL_MODULES or reads_and_writes != {_VECTOR}:
            return f"its module {type(module).__name__} may read more than the pooled vector"
    if getattr(first.tokenizer, "backend_tokenizer", None) is None:
        return "it has no fast tokenizer"
    plain_text = {"method": "forward", "method_output_name": "last_hidden_state"}
    text = first.modality_config.get("text")
    if first.transformer_task != "feature-extraction" or text != plain_text or "message" in first.modality_config:
        return "its Transformer does more with a text than read its tokens"
    if first.processing_kwargs:
        return "its Transformer has processing_kwargs of its own"
    return None


def _take_reader(transformer: Transformer, pooling: Pooling) -> Reader:
    tokenizer: Any = transformer.tokenizer
    config = transformer.model.config.get_text_config()
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    modes = pooling.pooling_mode
    core = copy.deepcopy(tokenizer.backend_tokenizer)
    core.encode_special_tokens = tokenizer.split_special_tokens
    return Reader(
        tokenizer=TextTokenizer(core, cut_side=tokenizer.truncation_side),
        pad_id=int(pad_id or 0),
        special_ids=frozenset(tokenizer.all_special_ids),
        own_pooling=(modes,) if isinstance(modes, str) else tuple(modes),
        include_prompt=bool(pooling.include_prompt),
        n_layers=int(config.num_hidden_layers),
        hidden_dim=int(transformer.get_embedding_dimension()),
        max_positions=_max_positions(transformer.model),
    )


def _max_positions(model: nn.Module) -> int | None:
    """Count the positions of a learned position table; None where positions are computed (rotary, relative).

    RoBERTa and its kin (MPNet, XLM-R) count positions from ``padding_idx + 1``: the first entries are never used.
    """
    for module in model.modules():
        for name in ("position_embeddings", "wpe", "embed_positions"):  # BERT's name, GPT-2's, and OPT's and BART's
            table = getattr(module, name, None)
            if isinstance(table, nn.Embedding):
                padding_idx = getattr(module, "padding_idx", None)
                first = padding_idx + 1 if name == "position_embeddings" and isinstance(padding_idx, int) else 0
                return int(table.num_embeddings - getattr(table, "offset", first))
    return None


def _tokenizes_alike(ours: TextTokenizer, theirs: Any) -> bool:
    """Compare our private tokenizer with the model's own on a few texts, segment ids included."""
    theirs = copy.deepcopy(theirs)  # calling it changes its state, and it may be in use
    encoded = theirs(_PROBE_TEXTS, padding=False, truncation=False, verbose=False)
    tokens = ours.tokenize(_PROBE_TEXTS, None)
    same_ids = tokens.ids.tolist() == [token for ids in encoded["input_ids"] for token in ids]
    return same_ids and not any(any(segments) for segments in encoded.get("token_type_ids", []))


def will_run() -> None:
    """Note that torch is about to start threads, which a forked child will not have."""
    global _has_run
    _has_run = True


def _go_on_after_fork() -> None:
    """Keep a forked child from waiting for ever for threads that its parent had, as torch's own DataLoader does."""
    if _has_run:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_on_after_fork)
