"""The encoder: the order of the steps of a call, from distinct texts to finished vectors.

The only file that knows that order: read the cache, tokenize, run the model, write the cache, finish. Imports the
files beside it and the three folders below.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.backends.reader import CannotComputeError
from skembed.encoding.batching import CHARACTERS_PER_CHUNK, TEXTS_PER_CHUNK, chunks
from skembed.encoding.cache.embedding_cache import find_store
from skembed.encoding.cache.memory_store import MemoryStore
from skembed.encoding.cache.retention import recipes_to_keep
from skembed.encoding.call import Call, Chunk
from skembed.encoding.finishing import column_slices, scatter_rows
from skembed.encoding.long_texts import average_windows, check_lengths, count_truncated
from skembed.encoding.models.registry import fall_back_to_torch
from skembed.encoding.plan import Plan, make_plan, single_poolings
from skembed.encoding.progress import progress
from skembed.encoding.recipes import Recipe
from skembed.encoding.texts import Texts
from skembed.encoding.threads import iterate_concurrently
from skembed.encoding.tokens import Tokens
from skembed.encoding.turns import Turns
from skembed.errors import CacheError, CacheWarning, TruncationWarning, warn_user

if TYPE_CHECKING:
    from skembed.encoding.backends.reader import TransformerSpec

_CHARACTERS_AT_FIRST = 400_000  # in the first chunk, before the speed of the model is known
_SECONDS_PER_CHUNK = 5.0
_SECONDS_WHILE_OTHERS_WAIT = 0.5
_CHUNKS_AHEAD = 1  # tokenized chunks that wait while one is computed and another is tokenized

# Chunks of several calls are computed together if each is small, so that nobody waits long for the texts of others.
_TOKENS_OF_SMALL_CHUNK, _TOKENS_TOGETHER = 512, 4096


def encode(texts: Texts, plan: Plan) -> NDArray[np.float32]:
    """Encode a column of text.

    Parameters
    ----------
    texts : Texts
    plan : Plan

    Returns
    -------
    ndarray of float32, shape (n_rows, finished_dim), C-contiguous

    Raises
    ------
    ValueError
        If a text is too long and ``long_texts="error"``, or a vector is not finite.
    MemoryError
        If a single text does not fit into the device's memory.

    Warns
    -----
    TruncationWarning
        Once, if texts were truncated, with their number.
    """
    vectors, n_truncated, failure = encode_chunk(texts, plan)
    warn(n_truncated, len(texts), plan, failure)
    return vectors


def encode_chunk(texts: Texts, plan: Plan, bar: Any = None) -> tuple[NDArray[np.float32], int, CacheError | None]:
    """Encode a chunk of a longer column, without warnings; see :func:`encode`.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    bar : tqdm, default=None
        Updated for each row. None: a bar of its own, if texts must go through the model.

    Returns
    -------
    vectors : ndarray of float32, shape (n_rows, finished_dim), C-contiguous
    n_truncated : int
        Number of rows whose text was truncated.
    failure : CacheError or None
        Why vectors could not be cached. :func:`warn` takes the sum of ``n_truncated`` over all chunks, and this.
    """
    vectors = np.empty((len(texts.unique), plan.finished_dim), dtype=np.float32)
    state = _encode(texts, plan, vectors, bar)
    rows = scatter_rows(vectors, texts, plan.settings.missing)
    return rows, count_truncated(state.n_tokens, texts, state.plan), state.failure


def encode_ahead(texts: Texts, plan: Plan, bar: Any) -> None:
    """Fill the cache with the vectors of texts by all recipes of the plan, in one pass.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    bar : tqdm
        Updated for each text.

    Raises
    ------
    CacheError
        If vectors cannot be cached.
    """
    _encode(texts, plan, None, bar)


def _encode(texts: Texts, plan: Plan, vectors: NDArray[np.float32] | None, bar: Any) -> Call:
    """Read what the cache holds, run the model on the other texts, and count both."""
    if plan.model.has_failed:  # since the plan was made
        plan = make_plan(plan.settings)
    n_tokens = np.zeros(len(texts.unique), dtype=np.int64)
    call = Call(texts, plan, find_store(plan.settings.cache), vectors, n_tokens, _CHARACTERS_AT_FIRST)
    missing = call.read_cache(np.arange(len(texts.unique)))
    if plan.settings.long_texts == "error":
        check_lengths(texts, plan, missing, call.n_tokens)
    if bar is not None:
        bar.update(len(texts.unique if vectors is None else texts) - len(missing))
    if len(missing):
        with progress(plan.settings.show_progress_bar, len(missing)) if bar is None else nullcontext(bar) as shown:
            _encode_missing(call, missing, shown)
    if call.store is not None:
        n_encoded = min(call.n_encoded, len(texts.unique))  # after an interrupt, a text may have been encoded twice
        call.store.record_hits(len(texts.unique) - n_encoded, n_encoded)
    return call


def _encode_missing(call: Call, missing: NDArray[np.intp], bar: Any) -> None:
    """Run the model on texts chunk by chunk; the vectors of a finished chunk are cached, whatever happens next."""
    tokenizes_ahead = _runs_beside_processor(call.plan) and call.estimate_tokens(missing) > _TOKENS_OF_SMALL_CHUNK
    to_do = _chunks(call, missing, bar, tokenize=tokenizes_ahead)
    with closing(iterate_concurrently([to_do], _CHUNKS_AHEAD) if tokenizes_ahead else to_do) as all_chunks:
        for chunk in all_chunks:
            seconds = _SECONDS_WHILE_OTHERS_WAIT if _take_turn(chunk) else _SECONDS_PER_CHUNK
            longer = chunk.limit * min(max(seconds / max(chunk.seconds, 1e-3), 0.1), 4.0)
            call.chunk_characters = int(min(max(longer, 1), CHARACTERS_PER_CHUNK))


def _runs_beside_processor(plan: Plan) -> bool:
    """Return whether the model runs on a device of its own, so that the processor is free to tokenize meanwhile."""
    return plan.model.backend.spec is not None and str(plan.model.backend.device) != "cpu"


def _chunks(call: Call, missing: NDArray[np.intp], bar: Any, *, tokenize: bool) -> Generator[Chunk]:
    """Yield chunks of texts, each cut when it is asked for, with their tokens if wanted."""
    while len(missing):
        texts = call.texts_of(missing[:TEXTS_PER_CHUNK])
        limit = call.chunk_characters
        chunk = next(chunks(texts, TEXTS_PER_CHUNK, limit))
        tokens = _tokenize(texts[chunk], call.plan) if tokenize else None
        yield Chunk(call, missing[chunk], limit, tokens, bar)
        missing = missing[chunk.stop :]


def _take_turn(chunk: Chunk) -> bool:
    """Encode a chunk when it is its turn, unless another call has done so together with its own.

    Returns
    -------
    bool
        Whether others wait.
    """
    plan, store, size = chunk.call.plan, chunk.call.store, chunk.call.estimate_tokens(chunk.codes)
    turns, key = plan.model.turns, _key(chunk) if size <= _TOKENS_OF_SMALL_CHUNK else None
    queue, limit = turns, max(plan.batch_tokens, _TOKENS_TOGETHER)

    def encode_locked(chunks: list[Chunk]) -> None:
        with plan.model.lock:
            _encode_all(chunks)

    if store is None or isinstance(store, MemoryStore) or turns.is_within:
        turns.take([chunk], encode_locked, key=key, size=size, limit=limit)
    else:
        folder_lock = store.single_flight_lock(plan.base_recipe.fingerprint)

        def encode_into_folder(chunks: list[Chunk]) -> None:
            with folder_lock:
                turns.take(chunks, encode_locked)

        queue = plan.model.turns_by_store.setdefault(store, Turns())
        queue.take([chunk], encode_into_folder, key=key, size=size, limit=limit)
    if chunk.error is not None:
        try:
            raise chunk.error
        finally:
            chunk.error = None  # otherwise the error and its traceback keep each other alive
    return not (turns.is_empty and queue.is_empty)


def _key(chunk: Chunk) -> Hashable | None:
    """Return a key of what chunks must have in common to share a pass; None if the chunk is to have its own."""
    plan, backend = chunk.call.plan, chunk.call.plan.model.backend
    if backend.company != "any" or chunk.tokens is not None:
        return None
    # OpenVINO compiles the model for each choice of layers.
    layers = frozenset(recipe.layers for recipe in plan.recipes) if backend.name == "openvino" else None
    return plan.base_recipe, plan.settings.task, plan.settings.batch_tokens, layers


def _encode_all(chunks: list[Chunk]) -> None:
    """Encode the chunk of this thread, and those of other calls together with it, or one by one if that fails."""
    start, is_done = perf_counter(), False
    for chunk in chunks:
        chunk.error = None  # of an attempt that was interrupted
    if len(chunks) == 1:
        _encode_alone(chunks[0])
        is_done = True
    else:
        with suppress(Exception):  # which may be the fault of one of them, or of their number
            _encode_together(chunks)
            is_done = True
    for chunk in chunks if not is_done else ():  # after the error is gone, whose traceback keeps the batches alive
        chunk.error = None
        with chunk.keeping_error():
            _encode_alone(chunk)
    for chunk in chunks:
        chunk.seconds = perf_counter() - start


def _encode_together(chunks: list[Chunk]) -> None:
    """Encode chunks of several calls in one pass. Each call gets its own vectors, or its own error."""
    recipes_of: dict[Chunk, dict[Recipe, int]] = {}
    for chunk in chunks:
        with chunk.keeping_error():
            chunk.read_cache()
            if len(chunk.codes):
                recipes_of[chunk] = _recipes(chunk)
    texts = list(dict.fromkeys(text for chunk in recipes_of for text in chunk.texts))
    if not texts:
        return
    recipes = {recipe: dim for own in recipes_of.values() for recipe, dim in own.items()}
    vectors = np.empty((len(texts), sum(recipes.values())), dtype=np.float32)
    n_tokens = np.empty(len(texts), dtype=np.int64)
    for positions, found, n_found in run_model(texts, None, chunks[0].call.plan, recipes):
        vectors[positions], n_tokens[positions] = found, n_found
    position_of = {text: position for position, text in enumerate(texts)}
    for chunk, own in recipes_of.items():
        with chunk.keeping_error():
            chunk.read_cache()  # which may have got some of the texts from another of the chunks
            rows = np.array([position_of[text] for text in chunk.texts], dtype=np.intp)
            vectors_by = _by_recipe(vectors[rows], recipes)
            chunk.store(np.arange(len(rows)), {recipe: vectors_by[recipe] for recipe in own}, n_tokens[rows])


def _encode_alone(chunk: Chunk) -> None:
    """Encode a chunk by itself."""
    chunk.read_cache()
    if not len(chunk.codes):
        return
    call, failure = chunk.call, None
    recipes, is_done = _recipes(chunk), np.zeros(len(chunk.codes), dtype=bool)
    try:
        for positions, vectors, n_tokens in run_model(chunk.texts, chunk.tokens, call.plan, recipes):
            chunk.store(positions, _by_recipe(vectors, recipes), n_tokens)
            is_done[positions] = True
    except CannotComputeError as error:
        failure = str(error)
    if failure is not None:  # outside the except clause, whose traceback would keep the failed batches alive
        fall_back_to_torch(call.plan.model, failure)
        call.plan = make_plan(call.plan.settings)  # by another backend, so that its vectors are cached apart
        chunk.codes, chunk.tokens = chunk.codes[~is_done], None
        with call.plan.model.lock:
            _encode_alone(chunk)


def _recipes(chunk: Chunk) -> dict[Recipe, int]:
    """Return the recipes to compute for a chunk, with the dimensions of their vectors."""
    call, recipes = chunk.call, dict(zip(chunk.call.plan.recipes, chunk.call.plan.dims, strict=True))
    if call.store is None or call.vectors is None:
        return recipes
    n_chunks = len(call.texts.unique) / len(chunk.codes)
    return recipes_to_keep(call.store, recipes, single_poolings(call.plan), chunk.texts, n_chunks)


def _by_recipe(vectors: NDArray[np.float32], recipes: Mapping[Recipe, int]) -> dict[Recipe, NDArray[np.float32]]:
    """Divide vectors by several recipes that stand side by side."""
    columns = column_slices(list(recipes.values()))
    return {recipe: vectors[:, own] for recipe, own in zip(recipes, columns, strict=True)}


def _tokenize(texts: list[str], plan: Plan) -> Tokens:
    base, spec = plan.base_recipe, cast("TransformerSpec", plan.model.backend.spec)
    prompted = [base.prompt + text for text in texts]
    return spec.tokenizer.tokenize(prompted, base.max_seq_length, split=base.split_long_texts)


def run_model(
    texts: list[str], tokens: Tokens | None, plan: Plan, recipes: Iterable[Recipe]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int64]]]:
    """Run texts through the model, batch by batch. Every text of a call passes through here.

    Parameters
    ----------
    texts : list of str
    tokens : Tokens or None
        Those of the texts, if they were tokenized ahead.
    plan : Plan
    recipes : iterable of Recipe

    Yields
    ------
    positions : ndarray of int
        The texts of the batch.
    vectors : ndarray of float32, shape (len(positions), sum of dimensions)
        By all recipes, side by side.
    n_tokens : ndarray of int64, shape (len(positions),)
    """
    backend, base = plan.model.backend, plan.base_recipe
    layer_poolings = [(recipe.layers, recipe.pooling) for recipe in recipes if recipe.layers and recipe.pooling]
    if backend.spec is None:
        yield from backend.embed_texts(texts, base.prompt or None, plan.batch_tokens, plan.settings.task)
        return
    if tokens is None:
        tokens = _tokenize(texts, plan)
    n_prompt_tokens = backend.spec.count_prompt_tokens(base.prompt, base.max_seq_length)
    if base.split_long_texts and n_prompt_tokens >= (base.max_seq_length or np.inf) - 1:
        raise ValueError(f"prompt={base.prompt!r} fills the {base.max_seq_length} tokens that the model reads.")
    batches = backend.embed_tokens(tokens, layer_poolings, n_prompt_tokens, plan.batch_tokens)
    if len(tokens.lengths) > len(texts):
        batches = average_windows(batches, tokens, n_prompt_tokens)
    for positions, vectors in batches:
        yield positions, vectors, tokens.n_tokens[positions]


def warn(n_truncated: int, n_texts: int, plan: Plan, failure: CacheError | None) -> None:
    """Warn, once a call and at the caller's line, if texts were truncated or vectors could not be cached.

    Parameters
    ----------
    n_truncated, n_texts : int
        Number of rows whose text was truncated, and of all rows.
    plan : Plan
    failure : CacheError or None
        Why vectors could not be cached.
    """
    if n_truncated:
        remedy = "choose long_texts='mean' to read them whole, or a larger max_seq_length if the model allows it"
        if plan.model.backend.spec is None:
            remedy = "this model cannot read more of a text, so embed shorter ones"
        warn_user(
            f"{n_truncated} of {n_texts} texts have more than {plan.token_limit} tokens and were cut; {remedy}.",
            TruncationWarning,
        )
    if failure is not None:
        warn_user(f"The result is right, but not all of it could be kept. {failure}", CacheWarning)
