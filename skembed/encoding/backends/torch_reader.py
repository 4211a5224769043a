"""What the engine must know of a sentence-transformers model, and whether it may run its parts. Imports torch."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast
from urllib.parse import quote

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize, Pooling
from torch import nn

from skembed.encoding.backends.reader import TransformerSpec
from skembed.encoding.tokens import TextTokenizer

VECTOR = "sentence_embedding"  # what sentence-transformers calls the vector of a text among its features
# A short text, and a longer one that it is padded beside, to see whether a text's vector depends on its company. In
# float32 those of ordinary models differ by 1e-6 of their length, those of others by 4e-2 and more.
COMPANY = ["Where is my fox?", "I cannot log in: nobody answers my messages."]

# What a tokenizer must do alike in our hands and in its owner's before we take it over.
_PROBE_TEXTS = ["A probe, with 2 clauses & an accent: é.", "", "  Two\nlines <pad> "]


# Modules after the pooling that read nothing but the pooled vector, so that each pooling can pass through them.
_TAIL_MODULES = (Dense, Dropout, LayerNorm, Normalize)


# What a model may have of its own, in a subclass or set on an object, in the place of what we do for it.
_MODEL_METHODS = ("__call__", "forward", "preprocess", "tokenize", "encode")
_MODULE_METHODS = ("forward", "preprocess", "tokenize")
_TOKENIZER_METHODS = (
    "__call__", "encode", "_encode_plus", "_batch_encode_plus", "batch_encode_plus", "encode_plus", "tokenize", "pad",
    "prepare_for_tokenization", "convert_tokens_to_ids", "set_truncation_and_padding",
)  # fmt: skip
_LIBRARIES = ("sentence_transformers.", "transformers.", "huggingface_hub.", "torch.", "builtins.")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_OF_CAPTURING = "transformers.utils.output_capturing"  # hooks of transformers' own, which read hidden layers


def is_trailing_normalize(module: Any) -> bool:
    """Whether a module is sentence-transformers' own Normalize over the vector."""
    if type(module) is not Normalize or changes_of(module, _MODULE_METHODS):
        return False
    return {module.module_input_name, module.module_output_name} == {VECTOR}


def probe_texts(model: SentenceTransformer) -> list[str]:
    """Return a short text and a longer one that a model can read: of its own words, where it knows only some."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    words = (word for word in getattr(tokenizer, "word2idx", ()) if tokenizer.tokenize(word))  # others it passes over
    some = list(islice(words, 9))
    return [" ".join(some[:2]), " ".join(some)] if some else COMPANY


def find_own_code(model: SentenceTransformer) -> str | None:
    """Say what of a model is another's doing than its libraries', and is passed over where we run its parts."""
    if own := changes_of(model, _MODEL_METHODS):
        return f"its class {type(model).__name__} has {own} of its own"
    for module in model.modules():
        if module is not model and (own := changes_of(module, _MODULE_METHODS, inherited=False)):
            return f"its {type(module).__name__} has {own} of its own"
    return None


def changes_of(changed: Any, methods: Sequence[str], *, inherited: bool = True) -> str | None:
    """Name what is set on an object in place of its class's, or by a class of another than the libraries.

    It is a method or a hook. What torch.compile sets does the same.
    """
    if any(not captures_outputs(hook) for kind in _HOOKS for hook in vars(changed).get(kind, {}).values()):
        return "a hook"
    if type(changed).__module__.startswith("torch._dynamo."):
        return None
    foreign = [kind for kind in type(changed).__mro__ if not f"{kind.__module__}.".startswith(_LIBRARIES)]
    own = {name for name in vars(changed) if not is_of_class(changed, name)}
    places = [own, *(vars(kind) for kind in foreign if inherited)]
    return next((name for place in places for name in methods if name in place), None)


def is_of_class(changed: Any, name: str) -> bool:
    """Whether what is set on an object is its class's own method: transformers 5.0 puts it back so."""
    return getattr(vars(changed)[name], "__func__", None) is getattr(type(changed), name, changed)


def captures_outputs(hook: Any) -> bool:
    """Whether transformers set a hook to read hidden layers."""
    return getattr(hook, "__module__", "") == _OF_CAPTURING


def input_module(modules: Any, task: str | None) -> Any:
    """Return the module that tokenises the texts of a task."""
    first = modules[0]
    return input_module(first.sub_modules[route_through(first, task)], task) if isinstance(first, Router) else first


def route_through(router: Router, task: str | None) -> str:
    """Name the modules that a Router sends the texts of a task through."""
    try:
        return str(router._resolve_route(task=task, modality="text"))
    except ValueError:
        routes = " and ".join(map(repr, router.sub_modules))
        raise ValueError(f"the model's routes are {routes}, none of which is for task={task!r}") from None


def task_routes(modules: Iterable[Any], task: str | None) -> Iterator[str]:
    """Name what a task decides on the way through modules: the routes, and the task itself where a module reads it."""
    for module in modules:
        if isinstance(module, Router):
            route, routes = route_through(module, task), cast("Mapping[str, Any]", module.sub_modules)
            yield quote(route, safe="")  # so that no name looks like two
            yield from task_routes(routes[route], task)
        elif task is not None and may_read_task(module):
            yield f"task={task}"


def may_read_task(module: Any) -> bool:
    """Whether a module may do something else for another task, the number of tokens apart."""
    is_foreign = not type(module).__module__.startswith("sentence_transformers.")
    reads = getattr(module, "preprocess", None) if is_foreign else None  # nobody knows what it makes of the task
    template = getattr(getattr(module, "tokenizer", None), "chat_template", None)
    expands = getattr(module, "query_expansion", None) is not None
    return takes_task(module) or (reads is not None and _accepts_task(reads)) or expands or "task" in str(template)


def _accepts_task(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.name == "task" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def takes_task(module: Any) -> bool:
    """Whether a module declares that its forward reads the task."""
    return "task" in getattr(module, "forward_kwargs", ())


def why_unsupported(modules: list[Any]) -> str | None:
    """Say why a model is not transformer + Pooling + tail over a fast tokenizer, or None if it is."""
    first = modules[0]
    if type(first) is not Transformer:
        return f"its first module is {type(first).__name__}, not a Transformer"
    if len(modules) < 2 or type(modules[1]) is not Pooling:
        return "it has no Pooling module after its Transformer"
    for module in modules[2:]:
        reads_and_writes = {getattr(module, f"module_{way}_name", VECTOR) for way in ("input", "output")}
        if type(module) not in _TAIL_MODULES or reads_and_writes != {VECTOR}:
            return f"its module {type(module).__name__} may read more than the pooled vector"
    if getattr(first.tokenizer, "backend_tokenizer", None) is None:
        return "it has no fast tokenizer"
    if own := changes_of(first.tokenizer, _TOKENIZER_METHODS):
        return f"its tokenizer has {own} of its own"
    plain_text = {"method": "forward", "method_output_name": "last_hidden_state"}
    text = first.modality_config.get("text")
    if first.transformer_task != "feature-extraction" or text != plain_text or "message" in first.modality_config:
        return "its Transformer does more with a text than read its tokens"
    if getattr(first, "query_expansion", None) is not None:
        return "its Transformer lengthens queries"
    if first.processing_kwargs:
        return "its Transformer has processing_kwargs of its own"
    return None


def make_spec(transformer: Transformer, pooling: Pooling) -> TransformerSpec:
    """Describe a supported model: its tokenizer, pooling, layers and dimensions."""
    tokenizer: Any = transformer.tokenizer
    config = transformer.model.config.get_text_config()
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    modes = pooling.pooling_mode
    core = copy.deepcopy(tokenizer.backend_tokenizer)
    core.encode_special_tokens = tokenizer.split_special_tokens
    return TransformerSpec(
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


def tokenizes_alike(ours: TextTokenizer, theirs: Any) -> bool:
    """Compare our private tokenizer with the model's own on a few texts, segment ids included."""
    theirs = copy.deepcopy(theirs)  # calling it changes its state, and it may be in use
    encoded = theirs(_PROBE_TEXTS, padding=False, truncation=False, verbose=False)
    tokens = ours.tokenize(_PROBE_TEXTS, None)
    same_ids = tokens.ids.tolist() == [token for ids in encoded["input_ids"] for token in ids]
    return same_ids and not any(any(segments) for segments in encoded.get("token_type_ids", []))
