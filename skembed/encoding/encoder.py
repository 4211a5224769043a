"""The encoder: the order of the steps of a call, from distinct texts to finished vectors.

The only file that knows that order: read the cache, tokenize, run the model, write the cache, finish. Imports the
files beside it and the three folders below.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.backends.reader import CannotComputeError
from skembed.encoding.batching import CHARACTERS_PER_CHUNK, TEXTS_PER_CHUNK, as_slice, chunks
from skembed.encoding.cache.embedding_cache import find_store
from skembed.encoding.cache.retention import keep, recipes_to_keep
from skembed.encoding.finishing import check_finite, column_slices, scatter_rows, truncate_normalize
from skembed.encoding.long_texts import average_windows, check_lengths, count_truncated
from skembed.encoding.models.registry import fall_back_to_torch
from skembed.encoding.plan import Plan, make_plan, single_poolings
from skembed.encoding.progress import progress
from skembed.encoding.recipes import Recipe
from skembed.encoding.texts import Texts
from skembed.encoding.threads import iterate_concurrently
from skembed.encoding.tokens import Tokens
from skembed.errors import CacheError, CacheWarning, TruncationWarning, warn_user

if TYPE_CHECKING:
    from skembed.encoding.backends.reader import TransformerSpec
    from skembed.encoding.cache.embedding_cache import Store

_CHARACTERS_AT_FIRST = 400_000  # in the first chunk, before the speed of the model is known
_SECONDS_PER_CHUNK = 5.0
_CHUNKS_AHEAD = 1  # tokenized chunks that wait while one is computed and another is tokenized

_BYTES_PER_READ = 2**26  # of vectors that are read from the cache together
_TEXTS_PER_FINISH = 4096  # few enough that their vectors stay in the processor's cache between two steps

_Chunk = tuple[NDArray[np.intp], int, Tokens | None]  # codes, limit of characters, and what was tokenized ahead


@dataclass
class _EncodeState:
    """The state of one call.

    Attributes
    ----------
    texts : Texts
    plan : Plan
    store : MemoryStore, DiskStore or None
        Where vectors are cached.
    vectors : ndarray of float32, shape (n_unique, finished_dim), or None
        The result; None if the vectors are computed for the cache alone.
    n_tokens : ndarray of int64, shape (n_unique,)
    n_encoded : int
        Number of texts that went through the model.
    chunk_characters : int
        Limit of characters of the next chunk.
    failure : CacheError or None
        Why the cache is no longer written to.
    """

    texts: Texts
    plan: Plan
    store: Store | None
    vectors: NDArray[np.float32] | None
    n_tokens: NDArray[np.int64]
    n_encoded: int = 0
    chunk_characters: int = _CHARACTERS_AT_FIRST
    failure: CacheError | None = None

    def texts_of(self, codes: NDArray[np.intp]) -> list[str]:
        positions = as_slice(codes)
        if isinstance(positions, slice):
            return self.texts.unique[positions]
        return [self.texts.unique[code] for code in codes.tolist()]


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


def _encode(texts: Texts, plan: Plan, vectors: NDArray[np.float32] | None, bar: Any) -> _EncodeState:
    """Read what the cache holds, run the model on the other texts, and count both."""
    if plan.model.has_failed:  # since the plan was made
        plan = make_plan(plan.settings)
    n_tokens = np.zeros(len(texts.unique), dtype=np.int64)
    state = _EncodeState(texts, plan, find_store(plan.settings.cache), vectors, n_tokens)
    missing = _read_cache(state, np.arange(len(texts.unique)))
    if plan.settings.long_texts == "error":
        check_lengths(texts, plan, missing, state.n_tokens)
    if bar is not None:
        bar.update(len(texts.unique if vectors is None else texts) - len(missing))
    if len(missing):
        with progress(plan.settings.show_progress_bar, len(missing)) if bar is None else nullcontext(bar) as shown:
            _encode_missing(state, missing, shown)
    if state.store is not None:
        state.store.record_hits(len(texts.unique) - state.n_encoded, state.n_encoded)
    return state


def _read_cache(state: _EncodeState, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Read and finish the vectors that the cache holds; return the codes of the other texts."""
    if state.store is None:
        return codes
    n_texts = max(_BYTES_PER_READ // (4 * sum(state.plan.dims)), 1)
    blocks = [codes[start : start + n_texts] for start in range(0, len(codes), n_texts)]
    return np.concatenate([codes[:0], *(block[_read_block(state, state.store, block)] for block in blocks)])


def _read_block(state: _EncodeState, store: Store, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Read and finish the vectors of some texts; return a mask of those that the cache lacks."""
    texts, plan = state.texts_of(codes), state.plan
    is_missing = np.zeros(len(codes), dtype=bool)
    if state.vectors is None:
        for recipe in plan.recipes:
            is_missing[store.missing(recipe, texts)] = True
        return is_missing
    positions, dim = as_slice(codes), sum(plan.dims)
    in_place = isinstance(positions, slice) and plan.finished_dim == dim
    raw = state.vectors[positions] if in_place else np.empty((len(codes), dim), dtype=np.float32)
    n_tokens = np.zeros(len(codes), dtype=np.int64)
    for recipe, columns in zip(plan.recipes, column_slices(plan.dims), strict=True):
        is_missing[store.read(recipe, texts, raw[:, columns], n_tokens)] = True
    for start in range(0, len(codes), _TEXTS_PER_FINISH):
        rows = slice(start, start + _TEXTS_PER_FINISH)
        is_found = ~is_missing[rows]
        if in_place and is_found.all():
            truncate_normalize(raw[rows], plan)
        else:
            state.vectors[codes[rows][is_found]] = truncate_normalize(raw[rows][is_found], plan)
    state.n_tokens[codes[~is_missing]] = n_tokens[~is_missing]
    return is_missing


def _encode_missing(state: _EncodeState, missing: NDArray[np.intp], bar: Any) -> None:
    """Run the model on texts chunk by chunk; the vectors of a finished chunk are cached, whatever happens next."""
    tokenizes_ahead = _runs_beside_processor(state.plan)
    to_do = _chunks(state, missing, tokenize=tokenizes_ahead)
    with closing(iterate_concurrently([to_do], _CHUNKS_AHEAD) if tokenizes_ahead else to_do) as all_chunks:
        for codes, limit, tokens in all_chunks:
            start = perf_counter()
            with (
                state.store.single_flight_lock(state.plan.base_recipe.fingerprint) if state.store else nullcontext(),
                state.plan.model.lock,
            ):
                _encode_chunk(state, codes, tokens, bar)
            pace = _SECONDS_PER_CHUNK / max(perf_counter() - start, 1e-3)
            longer = limit * min(max(pace, 0.5), 4.0)
            state.chunk_characters = int(min(max(longer, 1), CHARACTERS_PER_CHUNK))


def _runs_beside_processor(plan: Plan) -> bool:
    """Return whether the model runs on a device of its own, so that the processor is free to tokenize meanwhile."""
    return plan.model.backend.spec is not None and str(plan.model.backend.device) != "cpu"


def _chunks(state: _EncodeState, missing: NDArray[np.intp], *, tokenize: bool) -> Generator[_Chunk]:
    """Yield chunks of texts, each cut when it is asked for: codes, limit of characters, and tokens if wanted."""
    while len(missing):
        texts = state.texts_of(missing[:TEXTS_PER_CHUNK])
        limit = state.chunk_characters
        chunk = next(chunks(texts, TEXTS_PER_CHUNK, limit))
        yield missing[chunk], limit, _tokenize(texts[chunk], state.plan) if tokenize else None
        missing = missing[chunk.stop :]


def _encode_chunk(state: _EncodeState, codes: NDArray[np.intp], tokens: Tokens | None, bar: Any) -> None:
    n_wanted = len(codes)
    codes = _read_cache(state, codes)  # another thread or process may have encoded them meanwhile
    bar.update(n_wanted - len(codes))
    if not len(codes):
        return
    texts, failure = state.texts_of(codes), None
    recipes, is_done = dict(zip(state.plan.recipes, state.plan.dims, strict=True)), np.zeros(len(codes), dtype=bool)
    if state.store is not None and state.vectors is not None:
        n_chunks = len(state.texts.unique) / len(texts)
        recipes = recipes_to_keep(state.store, recipes, single_poolings(state.plan), texts, n_chunks)
    try:
        for positions, vectors, n_tokens in run_model(
            texts, tokens if len(codes) == n_wanted else None, state.plan, recipes
        ):
            _store_batch(state, codes[positions], vectors, n_tokens, recipes)
            is_done[positions] = True
            bar.update(len(positions))
    except CannotComputeError as error:
        failure = str(error)
    if failure is not None:  # outside the except clause, whose traceback would keep the failed batches alive
        fall_back_to_torch(state.plan.model, failure)
        state.plan = make_plan(state.plan.settings)  # by another backend, so that its vectors are cached apart
        with state.plan.model.lock:
            _encode_chunk(state, codes[~is_done], None, bar)


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


def _store_batch(
    state: _EncodeState,
    codes: NDArray[np.intp],
    vectors: NDArray[np.float32],
    n_tokens: NDArray[np.int64],
    dims: dict[Recipe, int],
) -> None:
    """Cache the vectors of a batch, and finish those that were asked for."""
    plan = state.plan
    columns_of = dict(zip(dims, column_slices(list(dims.values())), strict=True))
    vectors_by = {recipe: vectors[:, columns] for recipe, columns in columns_of.items()}
    raw = np.concatenate([vectors_by[recipe] for recipe in plan.recipes], axis=1)
    check_finite(raw, codes, state.texts, plan)
    state.n_encoded += len(codes)
    state.n_tokens[codes] = n_tokens
    if state.store is not None:
        try:
            keep(state.store, state.texts_of(codes), n_tokens, vectors_by)
        except CacheError as error:  # such as a full disk, which should not cost what was computed
            if state.vectors is None:  # the vectors were wanted for the cache alone
                raise
            state.store, state.failure = None, error
    if state.vectors is not None:
        state.vectors[codes] = truncate_normalize(raw, plan)


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
