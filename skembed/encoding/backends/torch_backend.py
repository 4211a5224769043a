"""The torch backend: a SentenceTransformer taken apart and run batch by batch.

Token ids in (texts, for a model that tokenizes by itself); pooled float32 vectors out. Imports torch,
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
from sentence_transformers.util import batch_to_device
from tokenizers import Tokenizer
from torch import Tensor, nn

from skembed.compat import (
    growing_rotary_modules,
    reads_all_without_mask,
    renew_seeding_locks,
    short_positions,
    without_capturing_hooks,
)
from skembed.encoding.backends.pooling import LayerPoolings, Mask, Rows, Vectors, mean_of, pool_side_by_side
from skembed.encoding.backends.reader import Defaults, PostPoolingModule, TransformerSpec, dim_after
from skembed.encoding.backends.torch_batches import run_on_devices
from skembed.encoding.backends.torch_reader import (
    COMPANY,
    VECTOR,
    changes_of,
    find_own_code,
    input_module,
    is_trailing_normalize,
    make_spec,
    may_read_task,
    probe_texts,
    takes_task,
    task_routes,
    tokenizes_alike,
    why_unsupported,
)
from skembed.encoding.backends.torch_threads import multiplications_per_token, suitable_threads
from skembed.encoding.batching import length_batches
from skembed.encoding.forks import renew_in_child
from skembed.encoding.settings import TASKS
from skembed.encoding.tokens import UNLIMITED, Tokens, inside_tokenizer

# On a CPU, a batch's activations should stay in the processor's cache (see benchmarks/encode.py --batch-tokens).
# Elsewhere, a batch should be large enough to fill the device, within its memory.
_BATCH_TOKENS_ON_CPU = 1024
_BATCH_TOKENS = 32_768
_FEWEST_BATCH_TOKENS = 1024  # even if less memory is free: batches that do not fit are halved

# On CUDA, this many tokens of one length make batches of their own. They need neither padding nor a mask, for which the
# processor would have to wait, because transformers looks into it.
_TOKENS_OF_ONE_LENGTH = 8192

# Relative distance up to which two vectors of a text count as the same.
_LARGEST_DISTANCE, _LARGEST_DISTANCE_IN_HALF = 1e-3, 3e-2

_FRACTION_OF_FREE_MEMORY = 0.5  # that a batch may take by our estimate

_has_run = False  # whether torch may have started threads


class TorchBackend:
    """One SentenceTransformer on one device or several of a kind, in one precision.

    Parameters
    ----------
    sentence_transformer : SentenceTransformer
        Already on its device and in its precision. It is read, never changed.
    replicas : sequence of TorchBackend, default=()
        The same model on other devices. Whichever device is free computes the next batch.

    Attributes
    ----------
    spec : TransformerSpec or None
        None if the model tokenizes and pools in a way of its own (StaticEmbedding, CLIP, a Router, ...).
    unsupported_reason : str or None
        Why there is no spec.
    transformer : Module or None
        The module that computes the token vectors; None if there is no spec.
    modules_after : list of Module
        The modules after the pooling without a trailing Normalize; all modules if there is no spec.
    ends_normalized : bool
        Whether the model's last module is a Normalize.
    company : {"any", "of its length", "none"}
        Which texts may share a batch with a text without changing its vector. A few models (FNet, MobileBERT,
        Nystromformer, ...) let a text's padding into its vector.
    """

    name = "torch"

    def __init__(self, sentence_transformer: SentenceTransformer, replicas: Sequence[TorchBackend] = ()) -> None:
        self.sentence_transformer, self.replicas = sentence_transformer, replicas
        self.device: torch.device = sentence_transformer.device
        modules: list[Any] = list(sentence_transformer.children())
        self._is_run_whole = changes_of(sentence_transformer, ("__call__", "forward", "encode")) is not None
        self.ends_normalized = not self._is_run_whole and is_trailing_normalize(modules[-1])
        if self.ends_normalized:
            modules.pop()
        self.unsupported_reason = find_own_code(sentence_transformer) or why_unsupported(modules)
        self.spec = None if self.unsupported_reason else make_spec(modules[0], modules[1])
        if self.spec is not None and not tokenizes_alike(self.spec.tokenizer, modules[0].tokenizer):
            self.spec, self.unsupported_reason = None, "its tokenizer does more than its fast core"
        self.transformer: nn.Module | None = modules[0].model if self.spec else None
        self.modules_after = modules[2:] if self.spec else modules
        self._task_by_route = {} if self.spec else self._find_routes()
        self._own_dims = {} if self.spec else self._measure_dims()
        self.company = self._find_company()

    def vector_dim(self, pooling: tuple[str, ...] | None, route: str | None = None) -> int:
        """Return the dimensions of a vector before it is truncated.

        Raises
        ------
        ValueError
            If a module after the pooling does not take vectors of the dimensions that the pooling gives.
        """
        if self.spec is None or pooling is None:
            return self._own_dims[route]
        return dim_after(self.post_pooling, self.spec.hidden_dim * len(pooling))

    @property
    def post_pooling(self) -> tuple[PostPoolingModule, ...]:
        """Descriptions of the modules after the pooling."""
        return tuple(
            PostPoolingModule(
                type(module).__name__,
                module.in_features if isinstance(module, Dense) else getattr(module, "dimension", None),
                module.out_features if isinstance(module, Dense) else None,
            )
            for module in self.modules_after
        )

    @cached_property
    def defaults(self) -> Defaults:
        """What the model does unless the caller says otherwise."""
        own, limit = self.sentence_transformer, self._own_limit(None)
        task_limits = {task: self._own_limit(task) for task in TASKS}
        others = {task: other for task, other in task_limits.items() if other != limit}
        return Defaults(dict(own.prompts), own.default_prompt_name, own.truncate_dim, limit, others)

    def route(self, task: str | None) -> str | None:
        """Return the name of the route that texts of a task take through the model; None if all take the same.

        Raises
        ------
        ValueError
            If no route is for the task.
        """
        if self.spec is not None:
            return None
        steps = list(task_routes(self.modules_after, task))
        is_read = may_read_task(self.sentence_transformer) or any(map(self._is_declared, self.modules_after))
        if task is not None and is_read:
            steps.append(f"task={task}")
        return "/".join(steps) or None

    def _task_argument(self, task: str | None) -> dict[str, str]:
        """Return the task as an argument, if the model reads it: other models may not accept the argument."""
        is_read = task is not None and (self.route(task) is not None or task in self.defaults.task_lengths)
        return {"task": task} if task is not None and is_read else {}

    def _is_declared(self, module: Any) -> bool:
        """Return whether the model's files declare that one of its modules takes the task."""
        declared: Mapping[str, Any] = self.sentence_transformer.module_kwargs or {}
        names = [name for name, own in self.sentence_transformer.named_children() if own is module]
        return any("task" in declared.get(name, ()) for name in names)

    def _own_limit(self, task: str | None) -> int | None:
        """Return the most tokens that the model itself reads of a text; None if there is no limit or no route."""
        try:
            module = input_module(self.sentence_transformer, task)
        except ValueError:
            return None
        limit = getattr(module, f"{task}_length", None) or getattr(module, "max_seq_length", None)
        return None if limit is None or limit > UNLIMITED else int(limit)

    @property
    def has_activations(self) -> bool:
        """Whether a batch takes memory inside the model, as in a transformer but not in a table of vectors."""
        return self.sentence_transformer.transformers_model is not None

    @cached_property
    def _multiplications_per_token(self) -> float:
        if self.device.type != "cpu" or self.transformer is None:
            return math.inf
        return multiplications_per_token(self.transformer)

    @cached_property
    def _pad_ids(self) -> list[int]:
        transformer: Any = self.transformer
        of_model = getattr(transformer.config.get_text_config(), "pad_token_id", None)
        return [self.known_spec.pad_id] if of_model is None else [self.known_spec.pad_id, int(of_model)]

    def best_batch_tokens(self) -> int:
        """Choose the most tokens of a batch, padding included, with which the device is fastest."""
        # A model without a transformer has hardly any activations, so that only the number of calls counts.
        if self.device.type == "cpu" and self.has_activations:
            return _BATCH_TOKENS_ON_CPU
        return int(min(max(self.tokens_that_fit(), _FEWEST_BATCH_TOKENS), _BATCH_TOKENS))

    def tokens_that_fit(self) -> float:
        """Estimate how many tokens of a batch fit into the free memory of each device; infinite if it is not known.

        A token takes the widest step of a layer, all hidden layers (which exist at the same time if not only the last
        one is requested), and a few float32 vectors during the pooling. A batch that does not fit after all is halved.
        """
        return min(backend._tokens_that_fit() for backend in (self, *self.replicas))

    def _tokens_that_fit(self) -> float:
        model = self.sentence_transformer.transformers_model
        if self.device.type != "cuda" or model is None:
            return float("inf")
        config = model.config.get_text_config()
        hidden = getattr(config, "hidden_size", None)
        if not isinstance(hidden, int):  # a model of several parts
            return float("inf")
        layer = 6 * hidden + 2 * (getattr(config, "intermediate_size", None) or 4 * hidden)
        states = (getattr(config, "num_hidden_layers", 12) + 1) * hidden
        n_bytes = model.dtype.itemsize * (layer + states) + 4 * 4 * hidden
        kept_by_torch = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + kept_by_torch
        return float(_FRACTION_OF_FREE_MEMORY * free / n_bytes)

    def embed_tokens(
        self, tokens: Tokens, layer_poolings: LayerPoolings, n_prompt_tokens: int, batch_tokens: int
    ) -> Iterator[tuple[Rows, Vectors]]:
        """Run tokens through the model, batch by batch.

        Parameters
        ----------
        tokens : Tokens
        layer_poolings : sequence of (layers, pooling)
            The vectors to compute for each row, all in one pass: hidden layers to average (0: the input embeddings),
            and pooling modes to concatenate before the modules after the pooling.
        n_prompt_tokens : int
            Number of leading tokens of each text that are read but not pooled.
        batch_tokens : int
            Most tokens in a batch, padding included.

        Yields
        ------
        rows : ndarray of int
            Rows of ``tokens`` that are done; each comes once.
        vectors : ndarray of float32, shape (len(rows), sum of the dimensions of layer_poolings)
            After the modules that follow the pooling, side by side.
        """
        lengths = tokens.lengths
        is_first_row = tokens.is_first_row  # the only row of a text that holds the prompt

        def run(backend: TorchBackend, rows: Rows) -> Tensor:
            input_ids, is_token = tokens.padded(rows, backend.known_spec.pad_id)
            is_pooled = is_token.copy()
            is_pooled[is_first_row[rows], :n_prompt_tokens] = False
            with backend.inference(), suitable_threads(input_ids.size * backend._multiplications_per_token):
                states = backend._token_vectors(input_ids, is_token, layer_poolings)
                pooled: Tensor = pool_side_by_side(
                    states, is_pooled, layer_poolings, torch.cat, backend._after_pooling, backend._to_device
                )
                return pooled

        empty = np.flatnonzero(lengths == 0)  # pooled to the zero vector, which a later module may shift
        if len(empty):
            yield empty, self._embed_nothing(len(empty), layer_poolings)
        filled = np.flatnonzero(lengths)
        of_device = _TOKENS_OF_ONE_LENGTH if self.device.type == "cuda" else np.inf
        one_length = of_device if self.company == "any" else 1
        rows_together = length_batches(lengths[filled], 1 if self.company == "none" else batch_tokens, one_length)
        yield from self._compute(run, (filled[batch] for batch in rows_together), lengths)

    def _embed_nothing(self, n_rows: int, layer_poolings: LayerPoolings) -> Vectors:
        with self.inference():
            zeros = torch.zeros(n_rows, self.known_spec.hidden_dim, device=self.device)
            pooled = [torch.cat([zeros] * len(pooling), dim=1) for _, pooling in layer_poolings]
            return torch.cat([self._after_pooling(vectors) for vectors in pooled], dim=1).cpu().numpy()

    def _compute(
        self, run: Callable[[TorchBackend, Rows], Tensor], batches: Iterator[Rows], lengths: NDArray[np.int64]
    ) -> Iterator[tuple[Rows, Vectors]]:
        runs = [(backend.device, partial(run, backend)) for backend in (self, *self.replicas)]
        return run_on_devices(runs, batches, lambda rows: int(lengths[rows].max()) * len(rows))

    def embed_texts(
        self, texts: Sequence[str], prompt: str | None, batch_tokens: int, task: str | None = None
    ) -> Iterator[tuple[Rows, Vectors, NDArray[np.int64]]]:
        """Run texts through a model that tokenizes and pools in a way of its own, batch by batch.

        Yields
        ------
        rows : ndarray of int
            Texts that are done; each comes once.
        vectors : ndarray of float32, shape (len(rows), dim)
        n_tokens : ndarray of int64, shape (len(rows),)
            Tokens of each whole text; 0 if the model has no limit, so that nothing can be truncated.
        """
        # Tokens are estimated as a fourth of the characters (English averages 4 to 5), which only shapes the batches.
        lengths = np.array([len(text) // 4 + 3 for text in texts], dtype=np.int64)
        n_tokens = np.zeros(len(texts), dtype=np.int64)

        def run(backend: TorchBackend, rows: Rows) -> Tensor:
            with backend.inference():
                pooled, is_full = backend._run_texts([texts[row] for row in rows], prompt, task)
            for row in rows[is_full]:
                n_tokens[row] = backend.count_tokens((prompt or "") + texts[row], task)
            return pooled

        batches = length_batches(lengths, batch_tokens if self.company == "any" else 1)
        for rows, vectors in self._compute(run, batches, lengths):
            yield rows, vectors, n_tokens[rows]

    def _find_routes(self) -> dict[str | None, str | None]:
        """Return the routes through the model, each with a task that takes it."""
        tasks: dict[str | None, str | None] = {}
        for task in (None, *TASKS):
            with suppress(ValueError):  # raised again for a caller who requests the task
                tasks.setdefault(self.route(task), task)
        return tasks

    def _measure_dims(self) -> dict[str | None, int]:
        """Return the dimensions of the model's vectors by route."""
        text = probe_texts(self.sentence_transformer)[:1]
        with self.inference():
            return {route: self._run_texts(text, None, task)[0].shape[1] for route, task in self._task_by_route.items()}

    def _find_company(self) -> str:
        """Find out which texts may share a batch with a text, from the configuration and by trial."""
        if _depends_on_length(self.sentence_transformer.config):
            return "of its length"
        if self.spec is None:
            short, long = probe_texts(self.sentence_transformer)
            with self.inference():
                for task in self._task_by_route.values():
                    alone, beside = (self._run_texts(texts, None, task)[0][0] for texts in ([short], [short, long]))
                    if not self._is_same(alone, beside):
                        return "none"
            return "any"
        limits = [limit for limit in (self.defaults.max_seq_length, self.spec.max_positions) if limit is not None]
        tokens = self.spec.tokenizer.tokenize(COMPANY, min(limits, default=None))
        alone = self._own_states(tokens, [0])
        if self._is_same(alone, self._own_states(tokens, [0, 1])):
            return "any"
        return "of its length" if self._is_same(alone, self._own_states(tokens, [0, 0])) else "none"

    def _is_same(self, vectors: Tensor, others: Tensor) -> bool:
        is_half = next((some.dtype.itemsize < 4 for some in self.sentence_transformer.parameters()), False)
        most = _LARGEST_DISTANCE_IN_HALF if is_half else _LARGEST_DISTANCE
        return not bool((vectors - others).norm() > most * vectors.norm())  # NaN and NaN are the same, too

    def _own_states(self, tokens: Tokens, rows: list[int]) -> Tensor:
        """Compute the last layer of the first of some rows, without its padding."""
        input_ids, is_token = tokens.padded(np.array(rows), self.known_spec.pad_id)
        layers = (self.known_spec.n_layers,)
        with self.inference():
            states = self._token_vectors(input_ids, is_token, [(layers, ("mean",))])[layers]
        return states[0, : is_token[0].sum()]

    @property
    def known_spec(self) -> TransformerSpec:
        """The spec of a model that has one."""
        if self.spec is None:
            raise TypeError(f"this model reads texts, not tokens: {self.unsupported_reason}")
        return self.spec

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Switch off dropout and gradients, and restore the model afterwards: it may be the user's own."""
        mark_torch_used()
        training = [module for module in self.sentence_transformer.modules() if module.training]
        for module in training:
            module.training = False
        try:
            # Make its device the current one, for kernels that do not look where their tensors are.
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
        with suppress(RuntimeError):  # no pinned memory is left
            tensor = tensor.pin_memory()  # copied while the processor goes on
        return tensor.to(self.device, non_blocking=True)

    def _token_vectors(
        self, input_ids: NDArray[np.int64], is_token: Mask, layer_poolings: LayerPoolings
    ) -> dict[tuple[int, ...], Tensor]:
        """Compute means of hidden layers, each float32 of shape (n_texts, n_tokens, hidden_dim)."""
        all_layers, last_layer = {layers for layers, _ in layer_poolings}, self.known_spec.n_layers
        last_only = all(set(layers) == {last_layer} for layers in all_layers)
        # Padding needs a mask, and so does a text that contains "<pad>", which would pass for padding.
        needs_mask = not reads_all_without_mask(self.transformer) or bool(np.isin(input_ids, self._pad_ids).any())
        with self._restoring_transformer(last_only):
            output = self.transformer(  # type: ignore[misc]  # not None where there is a spec
                input_ids=self._to_device(input_ids),
                attention_mask=self._to_device(is_token).long() if needs_mask else None,
                output_hidden_states=not last_only,
                return_dict=True,
            )
        if last_only:
            return dict.fromkeys(all_layers, output.last_hidden_state.float())
        states = [state[:, : input_ids.shape[1]] for state in output.hidden_states]  # BigBird pads to whole blocks
        return {layers: mean_of([states[layer].float() for layer in layers]) for layers in all_layers}

    @cached_property
    def why_no_layers(self) -> str | None:
        """Why layers other than the last are not available; None if they are. Not every model returns all of them."""
        if self.transformer is None:
            return self.unsupported_reason
        row = self.known_spec.tokenizer.tokenize(["a b c d e f g"], None).padded(np.zeros(1, dtype=np.intp), 0)[0]
        with self.inference(), self._restoring_transformer(last_only=False):
            ids = self._to_device(row)
            mask = torch.ones_like(ids)
            output = self.transformer(input_ids=ids, attention_mask=mask, output_hidden_states=True, return_dict=True)
        states, kind = getattr(output, "hidden_states", None), type(self.transformer).__name__
        if states is None:
            return f"its {kind} gives no hidden states by layer"
        if len(states) != self.known_spec.n_layers + 1 or any(state.shape != states[0].shape for state in states):
            return f"its {kind} gives {len(states)} hidden states, not one of the same shape for each layer"
        return None

    @cached_property
    def _rotary(self) -> list[Any]:
        return [] if self.transformer is None else growing_rotary_modules(self.transformer)

    @contextmanager
    def _restoring_transformer(self, last_only: bool) -> Iterator[None]:
        """Leave the transformer as it was, for the next text and because it may be the user's own."""
        transformer: Any = self.transformer
        attention = getattr(transformer, "attention_type", None)
        if attention is not None:  # BigBird abandons its sparse attention for good after a short text
            transformer.set_attention_type(transformer.config.attention_type)
        try:
            with short_positions(self._rotary), nullcontext() if last_only else without_capturing_hooks(transformer):
                yield
        finally:
            if attention is not None:
                transformer.set_attention_type(attention)

    def _after_pooling(self, pooled: Tensor) -> Tensor:
        features: dict[str, Tensor] = {VECTOR: pooled}
        for module in self.modules_after:
            parameter = next(module.parameters(), None)
            if parameter is not None:
                features[VECTOR] = features[VECTOR].to(parameter.dtype)
            features = module(features)
        return features[VECTOR].float()

    def _run_texts(self, texts: list[str], prompt: str | None, task: str | None = None) -> tuple[Tensor, Mask]:
        """Run the model's own modules; also return which texts reach the model's limit and may have been truncated."""
        task_argument = self._task_argument(task)
        with inside_tokenizer:
            features = self.sentence_transformer.preprocess(texts, prompt=prompt, **task_argument)
        limit = self._own_limit(task)
        mask = features.get("attention_mask")
        is_full = np.zeros(len(texts), dtype=bool)
        if mask is not None and limit is not None and len(mask) == len(texts):
            is_full = (mask.sum(dim=1) >= limit).numpy()
        if self._is_run_whole:
            return self._encode(texts, prompt, task_argument), is_full
        features = batch_to_device(features, self.device)
        for module in self.modules_after:
            is_passed = task is not None and (takes_task(module) or self._is_declared(module))
            features = module(features, **(task_argument if is_passed else {}))
        return features[VECTOR].float(), is_full

    def reads_nothing_of(self, text: str, task: str | None = None) -> bool:
        """Return whether the model's own tokenizer finds no token in a text, such as one that knows some words only."""
        task_argument = self._task_argument(task)
        with inside_tokenizer:
            mask = self.sentence_transformer.preprocess([text], **task_argument).get("attention_mask")
        return mask is not None and not bool(mask.any())

    def _encode(self, texts: list[str], prompt: str | None, task_argument: dict[str, str]) -> Tensor:
        encode: Any = partial(self.sentence_transformer.encode, show_progress_bar=False, convert_to_tensor=True)
        try:
            vectors = encode(texts, prompt=prompt or "", batch_size=len(texts), **task_argument)
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
            if isinstance(tokenizer, Tokenizer):  # of a table of vectors
                return len(tokenizer.encode(text, add_special_tokens=False))
            if not callable(tokenizer):  # a tokenizer of words
                return len(tokenizer.tokenize(text))
            return len(tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    def token_starts(self, text: str, task: str | None = None) -> list[int]:
        """Return the positions of the characters with which the tokens of a text begin, special tokens left out.

        Raises
        ------
        ValueError
            If the model's own tokenizer does not tell.
        """
        tokenizer: Any = input_module(self.sentence_transformer, task).tokenizer
        with inside_tokenizer:
            if isinstance(tokenizer, Tokenizer):
                offsets = tokenizer.encode(text, add_special_tokens=False).offsets
            elif getattr(tokenizer, "is_fast", False):
                asked = {"add_special_tokens": False, "return_offsets_mapping": True}
                offsets = tokenizer(text, truncation=False, padding=False, verbose=False, **asked)["offset_mapping"]
            else:
                raise ValueError(
                    "The model's tokenizer does not tell where its tokens are; choose a model with a fast one."
                )
        return [start for start, _ in offsets]


def _depends_on_length(config: Any) -> bool:
    """Return whether a transformer is known to compute something else in a longer batch, which short texts hide."""
    config = None if config is None else config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    changes = any(kind.get("rope_type", kind.get("type")) in ("dynamic", "longrope") for kind in kinds)
    return changes or getattr(config, "attention_type", None) == "block_sparse"


def mark_torch_used() -> None:
    """Record that torch is about to start threads, which a forked child does not inherit."""
    global _has_run
    _has_run = True


def _renew_in_child() -> None:
    """Keep a forked child from waiting forever for its parent's threads, as torch's DataLoader does."""
    renew_seeding_locks()
    if _has_run:
        torch.set_num_threads(1)


renew_in_child("torch", _renew_in_child)
