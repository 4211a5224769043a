"""Reading a sentence-transformers model: what it consists of, and whether its parts may be run one by one.

Imports torch, sentence-transformers and the room of the tokens.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast
from urllib.parse import quote

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize, Pooling
from torch import nn

from skembed.compat import forward_hooks, is_compiled, is_own_method, processing_kwargs, reads_plain_text, route_of
from skembed.encoding.backends.reader import TransformerSpec
from skembed.encoding.tokens import TextTokenizer

VECTOR = "sentence_embedding"  # sentence-transformers' name for the vector of a text among its features

# A short text, and a longer one in its batch, to see whether the vector of a text depends on the others. In float32 it
# changes by 1e-6 of its length in ordinary models, and by 4e-2 or more in those where it depends on them.
COMPANY = ["Where is my fox?", "I cannot log in: nobody answers my messages."]

# Texts that our tokenizer and the model's own must tokenize alike.
_PROBE_TEXTS = ["A probe, with 2 clauses & an accent: é.", "", "  Two\nlines <pad> "]

# Modules that may follow the pooling: they read the pooled vector alone, so that every pooling can pass through them.
_POST_POOLING_CLASSES = (Dense, Dropout, LayerNorm, Normalize)

# Methods that a model may replace, in a subclass or on an object, although skembed does their work for it.
_MODEL_METHODS = ("__call__", "forward", "preprocess", "tokenize", "encode")
_MODULE_METHODS = ("forward", "preprocess", "tokenize")
_TOKENIZER_METHODS = (
    "__call__", "encode", "_encode_plus", "_batch_encode_plus", "batch_encode_plus", "encode_plus", "tokenize", "pad",
    "prepare_for_tokenization", "convert_tokens_to_ids", "set_truncation_and_padding",
)  # fmt: skip
_LIBRARIES = ("sentence_transformers.", "transformers.", "huggingface_hub.", "torch.", "builtins.")


def is_trailing_normalize(module: Any) -> bool:
    """Return whether a module is sentence-transformers' own Normalize over the vector of the text."""
    if type(module) is not Normalize or changes_of(module, _MODULE_METHODS):
        return False
    return {module.module_input_name, module.module_output_name} == {VECTOR}


def probe_texts(model: SentenceTransformer) -> list[str]:
    """Return a short and a longer text that a model can read: of its own words, if it knows a list of words only."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    words = (word for word in getattr(tokenizer, "word2idx", ()) if tokenizer.tokenize(word))  # it skips the others
    some = list(islice(words, 9))
    return [" ".join(some[:2]), " ".join(some)] if some else COMPANY


def find_own_code(model: SentenceTransformer) -> str | None:
    """Return a description of code in a model that is not its libraries', or None if there is none.

    Running the parts of the model one by one would bypass such code.
    """
    if own := changes_of(model, _MODEL_METHODS):
        return f"its class {type(model).__name__} has {own} of its own"
    for module in model.modules():
        if module is not model and (own := changes_of(module, _MODULE_METHODS, inherited=False)):
            return f"its {type(module).__name__} has {own} of its own"
    return None


def changes_of(changed: Any, methods: Sequence[str], *, inherited: bool = True) -> str | None:
    """Return the name of a method that an object replaces, "a hook" if it has one, or None.

    A method is replaced on the object itself, or by a class that is not the libraries' own. ``torch.compile`` replaces
    methods, too, but the result is the same.
    """
    if forward_hooks(changed):
        return "a hook"
    if is_compiled(changed):
        return None
    foreign = [kind for kind in type(changed).__mro__ if not f"{kind.__module__}.".startswith(_LIBRARIES)]
    own = {name for name in vars(changed) if not is_own_method(changed, name)}
    places = [own, *(vars(kind) for kind in foreign if inherited)]
    return next((name for place in places for name in methods if name in place), None)


def input_module(modules: Any, task: str | None) -> Any:
    """Return the module that tokenizes the texts of a task."""
    first = modules[0]
    return input_module(first.sub_modules[route_through(first, task)], task) if isinstance(first, Router) else first


def route_through(router: Router, task: str | None) -> str:
    """Return the name of the route that a Router sends the texts of a task through.

    Raises
    ------
    ValueError
        If no route is for the task.
    """
    try:
        return route_of(router, task)
    except ValueError:
        routes = " and ".join(map(repr, router.sub_modules))
        raise ValueError(f"the model's routes are {routes}, none of which is for task={task!r}") from None


def task_routes(modules: Iterable[Any], task: str | None) -> Iterator[str]:
    """Yield what a task decides on the way through modules: routes, and the task itself where a module reads it."""
    for module in modules:
        if isinstance(module, Router):
            route, routes = route_through(module, task), cast("Mapping[str, Any]", module.sub_modules)
            yield quote(route, safe="")  # so that a single name cannot look like two
            yield from task_routes(routes[route], task)
        elif task is not None and may_read_task(module):
            yield f"task={task}"


def may_read_task(module: Any) -> bool:
    """Return whether the result of a module may depend on the task, beyond the number of tokens it reads."""
    is_foreign = not type(module).__module__.startswith("sentence_transformers.")
    preprocess = getattr(module, "preprocess", None) if is_foreign else None  # it may use the task in any way
    template = getattr(getattr(module, "tokenizer", None), "chat_template", None)
    expands = getattr(module, "query_expansion", None) is not None
    parameters = () if preprocess is None else inspect.signature(preprocess).parameters.values()
    accepts = any(parameter.name == "task" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return takes_task(module) or accepts or expands or "task" in str(template)


def takes_task(module: Any) -> bool:
    """Return whether a module declares that its forward takes the task."""
    return "task" in getattr(module, "forward_kwargs", ())


def why_unsupported(modules: list[Any]) -> str | None:
    """Return why a model is not a standard one, as in :class:`TransformerSpec`; None if it is."""
    first = modules[0]
    if type(first) is not Transformer:
        return f"its first module is {type(first).__name__}, not a Transformer"
    if len(modules) < 2 or type(modules[1]) is not Pooling:
        return "it has no Pooling module after its Transformer"
    for module in modules[2:]:
        reads_and_writes = {getattr(module, f"module_{way}_name", VECTOR) for way in ("input", "output")}
        if type(module) not in _POST_POOLING_CLASSES or reads_and_writes != {VECTOR}:
            return f"its module {type(module).__name__} may read more than the pooled vector"
    if getattr(first.tokenizer, "backend_tokenizer", None) is None:
        return "it has no fast tokenizer"
    if own := changes_of(first.tokenizer, _TOKENIZER_METHODS):
        return f"its tokenizer has {own} of its own"
    if not reads_plain_text(first):
        return "its Transformer does more with a text than read its tokens"
    if getattr(first, "query_expansion", None) is not None:
        return "its Transformer lengthens queries"
    if processing_kwargs(first):
        return "its Transformer has processing_kwargs of its own"
    return None


def make_spec(transformer: Transformer, pooling: Pooling) -> TransformerSpec:
    """Describe a standard model: its tokenizer, pooling, layers and dimensions."""
    tokenizer: Any = transformer.tokenizer
    config = transformer.model.config.get_text_config()
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    modes = pooling.pooling_mode
    core = copy.deepcopy(tokenizer.backend_tokenizer)
    core.encode_special_tokens = tokenizer.split_special_tokens
    return TransformerSpec(
        tokenizer=TextTokenizer(core, truncation_side=tokenizer.truncation_side),
        pad_id=int(pad_id or 0),
        special_ids=frozenset(tokenizer.all_special_ids),
        own_pooling=(modes,) if isinstance(modes, str) else tuple(modes),
        include_prompt=bool(pooling.include_prompt),
        n_layers=int(config.num_hidden_layers),
        hidden_dim=int(transformer.get_embedding_dimension()),
        max_positions=max_positions(transformer.model),
    )


def max_positions(model: nn.Module) -> int | None:
    """Return the number of positions in a learned table; None if positions are computed (rotary, relative).

    RoBERTa and its relatives (MPNet, XLM-R) count positions from ``padding_idx + 1`` and never use the entries before.
    """
    for module in model.modules():
        for name in ("position_embeddings", "wpe", "embed_positions"):  # in BERT; in GPT-2; in OPT and BART
            table = getattr(module, name, None)
            if isinstance(table, nn.Embedding):
                padding_idx = getattr(module, "padding_idx", None)
                first = padding_idx + 1 if name == "position_embeddings" and isinstance(padding_idx, int) else 0
                return int(table.num_embeddings - getattr(table, "offset", first))
    return None


def tokenizes_alike(ours: TextTokenizer, theirs: Any) -> bool:
    """Return whether our private tokenizer and the model's own agree on a few texts, segment ids included."""
    theirs = copy.deepcopy(theirs)  # a call changes its state, and it may be in use
    encoded = theirs(_PROBE_TEXTS, padding=False, truncation=False, verbose=False)
    tokens = ours.tokenize(_PROBE_TEXTS, None)
    same_ids = tokens.ids.tolist() == [token for ids in encoded["input_ids"] for token in ids]
    return same_ids and not any(any(segments) for segments in encoded.get("token_type_ids", []))
