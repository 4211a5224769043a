"""The torch backend: a SentenceTransformer taken apart, and run batch by batch.

Token ids (or, for a model that tokenises by itself, texts) in; pooled float32 vectors out. Imports torch,
sentence-transformers and the rooms below; knows no cache, no settings and no estimator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from torch import Tensor, nn

from skembed.encoding.backends.pooling import Mask, mean_of, pool
from skembed.encoding.backends.reader import Defaults, LayerPooling, TailModule, TransformerSpec, dim_after
from skembed.encoding.backends.torch_batches import run_on_device
from skembed.encoding.backends.torch_reader import (
    COMPANY,
    VECTOR,
    captures_outputs,
    changes_of,
    find_own_code,
    input_module,
    is_of_class,
    is_trailing_normalize,
    make_spec,
    may_read_task,
    probe_texts,
    takes_task,
    task_routes,
    tokenizes_alike,
    why_unsupported,
)
from skembed.encoding.backends.torch_threads import as_many_as_worth, multiplications_a_token
from skembed.encoding.batching import length_batches
from skembed.encoding.forks import renew_in_child
from skembed.encoding.settings import TASKS
from skembed.encoding.tokens import UNLIMITED, Tokens, inside_tokenizer

# So many tokens of one length make batches for CUDA of their own. These need neither padding nor a mask, which the
# processor would wait for, as transformers looks into it.
_TOKENS_OF_ONE_LENGTH = 8192

_OTHERVECTOR, _OTHERVECTOR_IN_HALF = 1e-3, 3e-2

_SHARE_OF_FREE_MEMORY = 0.5  # that a batch may take by our estimate

Run = Callable[["TorchBackend", NDArray[np.intp]], Tensor]  # computes some rows by a backend

_has_run = False  # whether torch may have started threads


class TorchBackend:
    """One SentenceTransformer on one device, in one precision.

    Parameters
    ----------
    sentence_transformer : SentenceTransformer
        Already on its device and in its precision. It is read, never changed.

    Attributes
    ----------
    reader : TransformerSpec or None
        None if the model tokenises and pools in a way of its own (StaticEmbedding, CLIP, a Router, ...).
    unsupported_reason : str or None
        Why there is no reader.
    transformer : Module or None
        What gives the reader its token vectors; None if there is no reader.
    modules_after : list of Module
        The modules after the reader (after nothing, if there is none), without a trailing Normalize.
    ends_normalized : bool
        Whether the model's last module is a Normalize.
    company : {"any", "of its length", "none"}
        Which rows may share a batch with a row, so that its vector is what it is alone: few models (FNet, MobileBERT,
        Nystromformer, ...) let a text's padding into its vector.
    """

    name = "torch"

    def __init__(self, sentence_transformer: SentenceTransformer) -> None:
        self.sentence_transformer = sentence_transformer
        self.device: torch.device = sentence_transformer.device
        modules: list[Any] = list(sentence_transformer.children())
        self._is_run_whole = changes_of(sentence_transformer, ("__call__", "forward", "encode")) is not None
        self.ends_normalized = not self._is_run_whole and is_trailing_normalize(modules[-1])
        if self.ends_normalized:
            modules.pop()
        self.unsupported_reason = find_own_code(sentence_transformer) or why_unsupported(modules)
        self.reader = None if self.unsupported_reason else make_spec(modules[0], modules[1])
        if self.reader is not None and not tokenizes_alike(self.reader.tokenizer, modules[0].tokenizer):
            self.reader, self.unsupported_reason = None, "its tokenizer does more than its fast core"
        self.transformer: nn.Module | None = modules[0].model if self.reader else None
        self.modules_after = modules[2:] if self.reader else modules
        # To transformers' own models no mask says that all is to be read, unless they find what they take for padding
        # (a text may hold "<pad>"). Others may want one.
        self._runs_without_mask = type(self.transformer).__module__.startswith("transformers.models.")
        self._pad_ids = self._find_pad_ids()
        self._task_by_route = {} if self.reader else self._find_routes()
        self._own_dims = {} if self.reader else self._measure_dims()
        self.company = self._find_company()

    def vector_dim(self, pooling: tuple[str, ...] | None, route: str | None = None) -> int:
        """Count the dimensions of a vector, before it is cut.

        Raises
        ------
        ValueError
            If a layer of the tail does not take vectors of the dimensions that the pooling gives.
        """
        if self.reader is None or pooling is None:
            return self._own_dims[route]
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

    @cached_property
    def defaults(self) -> Defaults:
        """What the model does where the caller says nothing."""
        own, limit = self.sentence_transformer, self._own_limit(None)
        task_limits = {task: self._own_limit(task) for task in TASKS}
        others = {task: other for task, other in task_limits.items() if other != limit}
        return Defaults(dict(own.prompts), own.default_prompt_name, own.truncate_dim, limit, others)

    def route(self, task: str | None) -> str | None:
        """Name the way that texts of a task take through the model; None if all texts take the same.

        Raises
        ------
        ValueError
            If there is no way for the task.
        """
        if self.reader is not None:
            return None
        ways = list(task_routes(self.modules_after, task))
        is_read = may_read_task(self.sentence_transformer) or any(map(self._is_declared, self.modules_after))
        if task is not None and is_read:
            ways.append(f"task={task}")
        return "/".join(ways) or None

    def _of_task(self, task: str | None) -> dict[str, str]:
        """Tell the task only to a model that reads it: another one may have no place for it."""
        is_read = task is not None and (self.route(task) is not None or task in self.defaults.task_lengths)
        return {"task": task} if task is not None and is_read else {}

    def _is_declared(self, module: Any) -> bool:
        """Whether the model's files say that one of its modules is to be told the task."""
        declared: Mapping[str, Any] = self.sentence_transformer.module_kwargs or {}
        names = [name for name, own in self.sentence_transformer.named_children() if own is module]
        return any("task" in declared.get(name, ()) for name in names)

    def _own_limit(self, task: str | None) -> int | None:
        """Find how many tokens the model itself reads of a text; None: there is no limit, or no way for the task."""
        try:
            module = input_module(self.sentence_transformer, task)
        except ValueError:
            return None
        limit = getattr(module, f"{task}_length", None) or getattr(module, "max_seq_length", None)
        return None if limit is None or limit > UNLIMITED else int(limit)

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
        self, tokens: Tokens, views: Sequence[LayerPooling], n_prompt_tokens: int, batch_tokens: int
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
                return backend._pool(states, is_pooled, views)

        def n_padded(rows: NDArray[np.intp]) -> int:
            return int(lengths[rows].max(initial=0)) * len(rows)

        empty = np.flatnonzero(lengths == 0)  # nothing to read: pooled to the zero vector, which the tail may move
        if len(empty):
            yield empty, self._embed_nothing(len(empty), views)
        filled = np.flatnonzero(lengths)
        one_length = _TOKENS_OF_ONE_LENGTH if self.device.type == "cuda" else None
        if self.company != "any":
            one_length = 1
        rows_together = length_batches(lengths[filled], 1 if self.company == "none" else batch_tokens, one_length)
        yield from self._compute(run, (filled[batch] for batch in rows_together), n_padded)

    def _embed_nothing(self, n_rows: int, views: Sequence[LayerPooling]) -> NDArray[np.float32]:
        with self.inference():
            zeros = torch.zeros(n_rows, self._reader.hidden_dim, device=self.device)
            pooled = [torch.cat([zeros] * len(pooling), dim=1) for _, pooling in views]
            return torch.cat([self._through_tail(vectors) for vectors in pooled], dim=1).cpu().numpy()

    def _compute(
        self, run: Run, batches: Iterator[NDArray[np.intp]], size_of: Callable[[NDArray[np.intp]], int]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        return run_on_device(self.device, partial(run, self), batches, size_of)

    def embed_texts(
        self, texts: Sequence[str], prompt: str | None, batch_tokens: int, task: str | None = None
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
                pooled, is_full = backend._run_texts([texts[row] for row in rows], prompt, task)
            for row in rows[is_full]:
                n_tokens[row] = backend.count_tokens((prompt or "") + texts[row], task)
            return pooled

        batches = length_batches(lengths, batch_tokens if self.company == "any" else 1)
        for rows, vectors in self._compute(run, batches, lambda rows: int(lengths[rows].max() * len(rows))):
            yield rows, vectors, n_tokens[rows]

    def _find_routes(self) -> dict[str | None, str | None]:
        """List the routes through the model, each with a task that takes it."""
        tasks: dict[str | None, str | None] = {}
        for task in (None, *TASKS):
            with suppress(ValueError):  # whoever asks for it will hear of it
                tasks.setdefault(self.route(task), task)
        return tasks

    def _measure_dims(self) -> dict[str | None, int]:
        """Count the dimensions of the model's vectors by route."""
        text = probe_texts(self.sentence_transformer)[:1]
        with self.inference():
            return {route: self._run_texts(text, None, task)[0].shape[1] for route, task in self._task_by_route.items()}

    def _find_company(self) -> str:
        """Find out what may share a batch with a text, by a look at the configuration and by trying."""
        if _looks_at_length(self.sentence_transformer.config):
            return "of its length"
        if self.reader is None:
            short, long = probe_texts(self.sentence_transformer)
            with self.inference():
                for task in self._task_by_route.values():
                    alone, beside = (self._run_texts(texts, None, task)[0][0] for texts in ([short], [short, long]))
                    if not self._is_same(alone, beside):
                        return "none"
            return "any"
        tokens = self.reader.tokenizer.tokenize(COMPANY, self._token_limit)
        alone = self._own_states(tokens, [0])
        if self._is_same(alone, self._own_states(tokens, [0, 1])):
            return "any"
        return "of its length" if self._is_same(alone, self._own_states(tokens, [0, 0])) else "none"

    def _is_same(self, vectors: Tensor, others: Tensor) -> bool:
        is_half = next((some.dtype.itemsize < 4 for some in self.sentence_transformer.parameters()), False)
        most = _OTHERVECTOR_IN_HALF if is_half else _OTHERVECTOR
        return not bool((vectors - others).norm() > most * vectors.norm())  # nor if both are no numbers at all

    def _own_states(self, tokens: Tokens, rows: list[int]) -> Tensor:
        """Compute the last layer of the first of some rows, less its padding."""
        input_ids, is_token = tokens.padded(np.array(rows), self._reader.pad_id)
        views = [((self._reader.n_layers,), ("mean",))]
        with self.inference():
            return self._token_vectors(input_ids, is_token, views)[self._reader.n_layers,][0, : is_token[0].sum()]

    @property
    def _token_limit(self) -> int | None:
        limits = (self.defaults.max_seq_length, self._reader.max_positions)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def _reader(self) -> TransformerSpec:
        if self.reader is None:
            raise TypeError(f"this model reads texts, not tokens: {self.unsupported_reason}")
        return self.reader

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Switch dropout off and gradients off, and put the model back as it was: it may be the user's own."""
        mark_torch_used()
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
        self, input_ids: NDArray[np.int64], is_token: NDArray[np.bool_], views: Sequence[LayerPooling]
    ) -> dict[tuple[int, ...], Tensor]:
        """Compute the wanted means of hidden layers, each of shape (n_texts, n_tokens, hidden_dim), float32."""
        wanted, n_layers = {layers for layers, _ in views}, self._reader.n_layers
        last_only = all(set(layers) == {n_layers} for layers in wanted)
        needs_mask = not self._runs_without_mask or bool(np.isin(input_ids, self._pad_ids).any())
        with self._as_it_was(last_only):
            output = self.transformer(  # type: ignore[misc]  # there is one where there is a reader
                input_ids=self._to_device(input_ids),
                attention_mask=self._to_device(is_token).long() if needs_mask else None,
                output_hidden_states=not last_only,
                return_dict=True,
            )
        if last_only:
            return dict.fromkeys(wanted, output.last_hidden_state.float())
        states = [state[:, : input_ids.shape[1]] for state in output.hidden_states]  # BigBird pads to whole blocks
        return {layers: mean_of([states[layer].float() for layer in layers]) for layers in wanted}

    @cached_property
    def why_no_layers(self) -> str | None:
        """Why layers other than the last cannot be had, or None if they can: not every model gives what each made."""
        if self.transformer is None:
            return self.unsupported_reason
        ids = self._reader.tokenizer.tokenize(["a b c d e f g"], None).padded(np.zeros(1, dtype=np.intp), 0)[0]
        with self.inference(), self._as_it_was(last_only=False):
            input_ids = self._to_device(ids)
            mask = torch.ones_like(input_ids)
            output = self.transformer(
                input_ids=input_ids, attention_mask=mask, output_hidden_states=True, return_dict=True
            )
        states = getattr(output, "hidden_states", None)
        if states is None:
            return f"its {type(self.transformer).__name__} gives no hidden states by layer"
        if len(states) != self._reader.n_layers + 1 or any(state.shape != states[0].shape for state in states):
            kind = type(self.transformer).__name__
            return f"its {kind} gives {len(states)} hidden states, not one of the same shape for each layer"
        return None

    @cached_property
    def _rotary(self) -> list[nn.Module]:
        """The modules whose positions grow with the longest text so far."""
        modules: Any = self.transformer.modules() if self.transformer is not None else ()
        return [module for module in modules if "dynamic" in str(getattr(module, "rope_type", ""))]

    @contextmanager
    def _as_it_was(self, last_only: bool) -> Iterator[None]:
        """Leave a transformer as it was: the next text shall find it so, and it may be the user's own."""
        transformer: Any = self.transformer
        attention = getattr(transformer, "attention_type", None)
        if attention is not None:  # BigBird leaves its sparse attention for good once it has seen a short text
            transformer.set_attention_type(transformer.config.attention_type)
        try:
            with _as_short_texts(self._rotary), nullcontext() if last_only else without_hooks_left(transformer):
                yield
        finally:
            if attention is not None:
                transformer.set_attention_type(attention)

    def _pool(self, states: dict[tuple[int, ...], Tensor], is_pooled: Mask, views: Sequence[LayerPooling]) -> Tensor:
        each = {(layers, mode) for layers, pooling in views for mode in pooling}
        pooled = {(layers, mode): pool(states[layers], is_pooled, mode, self._to_device) for layers, mode in each}
        side_by_side = [torch.cat([pooled[layers, mode] for mode in pooling], dim=1) for layers, pooling in views]
        return torch.cat([self._through_tail(vectors) for vectors in side_by_side], dim=1)

    def _through_tail(self, pooled: Tensor) -> Tensor:
        features: dict[str, Tensor] = {VECTOR: pooled}
        for module in self.modules_after:
            parameter = next(module.parameters(), None)
            if parameter is not None:
                features[VECTOR] = features[VECTOR].to(parameter.dtype)
            features = module(features)
        return features[VECTOR].float()

    def _run_texts(
        self, texts: list[str], prompt: str | None, task: str | None = None
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        """Run the model's own modules; also say which texts fill the model's window, so may have been cut."""
        of_task = self._of_task(task)
        with inside_tokenizer:
            features = self.sentence_transformer.preprocess(texts, prompt=prompt, **of_task)
        limit = self._own_limit(task)
        mask = features.get("attention_mask")
        is_full = np.zeros(len(texts), dtype=bool)
        if mask is not None and limit is not None and len(mask) == len(texts):
            is_full = (mask.sum(dim=1) >= limit).numpy()
        if self._is_run_whole:
            return self._encode(texts, prompt, of_task), is_full
        features = {
            name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in features.items()
        }
        for module in self.modules_after:
            is_told = task is not None and (takes_task(module) or self._is_declared(module))
            features = module(features, **(of_task if is_told else {}))
        return features[VECTOR].float(), is_full

    def reads_nothing_of(self, text: str, task: str | None = None) -> bool:
        """Whether the model's own tokenizer finds no token in a text, as where it knows a list of words only."""
        of_task = self._of_task(task)
        with inside_tokenizer:
            mask = self.sentence_transformer.preprocess([text], **of_task).get("attention_mask")
        return mask is not None and not bool(mask.any())

    def _encode(self, texts: list[str], prompt: str | None, of_task: dict[str, str]) -> Tensor:
        encode: Any = partial(self.sentence_transformer.encode, show_progress_bar=False, convert_to_tensor=True)
        try:
            vectors = encode(texts, prompt=prompt or "", batch_size=len(texts), **of_task)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise TypeError(
                f"the model's own encode() must take what SentenceTransformer.encode takes: {error}."
            ) from error
        return cast("Tensor", vectors).to(self.device).float()

    def count_tokens(self, text: str, task: str | None = None) -> int:
        """Count the tokens of a whole text with the model's own tokenizer."""
        tokenizer: Any = input_module(self.sentence_transformer, task).tokenizer
        with inside_tokenizer:
            if not callable(tokenizer):  # one of words
                return len(tokenizer.tokenize(text))
            return len(tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])


@contextmanager
def _as_short_texts(rotary: Sequence[Any]) -> Iterator[None]:
    """Let positions that grow with the texts start from those of short ones, and put back what was there.

    transformers keeps them for the next text that is not short (``dynamic_rope_update``).
    """
    grown = [(module, name) for module in rotary for name in {**vars(module), **module._buffers} if _grows(name)]
    before = [(module, name, getattr(module, name)) for module, name in grown]
    for module, name in grown:
        if name.endswith("inv_freq"):
            first = getattr(module, name.replace("inv_freq", "original_inv_freq"))
            setattr(module, name, first.to(getattr(module, name).device))
        elif name.endswith("max_seq_len_cached"):
            setattr(module, name, module.original_max_seq_len)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _grows(name: str) -> bool:
    is_first = "original" in name
    return not is_first and name.endswith(("inv_freq", "max_seq_len_cached", "attention_scaling"))


@contextmanager
def without_hooks_left(model: Any) -> Iterator[None]:
    """Let transformers hook into a model to read its hidden layers, and leave the model as it was: it may be yours."""
    had = [module for module in model.modules() if "_output_capturing_hooks_installed" in vars(module)]
    as_classes = [module for module in model.modules() if "forward" not in vars(module)]
    try:
        yield
    finally:
        for module in as_classes:
            if "forward" in vars(module) and is_of_class(module, "forward"):
                del vars(module)["forward"]
        if not had:
            remove_capturing_hooks(model)


def remove_capturing_hooks(model: Any) -> None:
    """Remove the hooks that transformers sets to read hidden layers; it sets them again when they are needed."""
    for module in model.modules():
        vars(module).pop("_output_capturing_hooks_installed", None)
        for key, hook in list(module._forward_hooks.items()):
            if captures_outputs(hook):
                del module._forward_hooks[key]


def _looks_at_length(config: Any) -> bool:
    """Whether a transformer is known to do something else in a batch that is longer, whatever short texts show."""
    config = None if config is None else config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    changes = any(kind.get("rope_type", kind.get("type")) in ("dynamic", "longrope") for kind in kinds)
    return changes or getattr(config, "attention_type", None) == "block_sparse"


def mark_torch_used() -> None:
    """Note that torch is about to start threads, which a forked child will not have."""
    global _has_run
    _has_run = True


def _go_on_after_fork() -> None:
    """Keep a forked child from waiting for ever for threads that its parent had, as torch's own DataLoader does."""
    if _has_run:
        torch.set_num_threads(1)


renew_in_child("torch", _go_on_after_fork)
