"""The encoder conducts: unique texts, what the cache lacks, tokens, batches, backend, finished vectors.

The only file that knows the order of the steps. Imports the rooms beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import accumulate, pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.backends.reader import CannotComputeError
from skembed.encoding.batching import as_slice, chunks
from skembed.encoding.cache.embedding_cache import find_store
from skembed.encoding.models.registry import fall_back_to_torch
from skembed.encoding.plan import Plan, make_plan, single_poolings
from skembed.encoding.progress import progress
from skembed.encoding.recipes import Recipe
from skembed.encoding.texts import MISSING, Texts
from skembed.encoding.threads import iterate_concurrently
from skembed.encoding.tokens import Tokens
from skembed.errors import CacheError, CacheWarning, TruncationWarning, level_of_user

if TYPE_CHECKING:
    from skembed.encoding.backends.reader import TransformerSpec
    from skembed.encoding.backends.torch_backend import TorchBackend
    from skembed.encoding.cache.embedding_cache import Store

# What is tokenised and sorted by length together: many texts, so that neighbours in length are close, but no more
# than a few seconds' work, since others who use the same model or cache on disk wait meanwhile.
_TEXTS_PER_CHUNK = 16_384
_CHARACTERS_PER_CHUNK = 16_000_000
_CHARACTERS_AT_FIRST = 400_000  # until it is known how fast the model is
_SECONDS_PER_CHUNK = 5.0

_CHUNKS_AHEAD = 1  # that wait, tokenised, while one is computed and another tokenised

_BYTES_PER_READ = 2**26  # of vectors that are read from the cache together
_TEXTS_LOOKED_UP = 64  # of a chunk, to see whether its texts are being compared by pooling
_TEXTS_PER_FINISH = 4096  # few enough that they stay near the processor between two steps

_Chunk = tuple[NDArray[np.intp], int, Tokens | None]  # codes, most characters, and what was tokenised ahead


@dataclass
class _Call:
    """What one call has got so far.

    Attributes
    ----------
    texts : Texts
    plan : Plan
    store : MemoryStore, DiskStore or None
        Where vectors are kept.
    vectors : ndarray of float32, shape (n_unique, finished_dim), or None
        The result; None if the vectors are only to be kept.
    n_tokens : ndarray of int64, shape (n_unique,)
    n_encoded : int
        Texts that went through the model.
    chunk_characters : int
        How long the next chunk may be.
    failure : CacheError or None
        Why there is no store any more.
    """

    texts: Texts
    plan: Plan
    store: Store | None
    vectors: NDArray[np.float32] | None
    n_tokens: NDArray[np.int64]
    n_encoded: int = 0
    chunk_characters: int = _CHARACTERS_AT_FIRST
    failure: CacheError | None = None

    def some_texts(self, codes: NDArray[np.intp]) -> list[str]:
        where = as_slice(codes)
        if isinstance(where, slice):
            return self.texts.unique[where]
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
        Once, if texts were cut, with their number.
    """
    call, missing = _begin(texts, plan, np.empty((len(texts.unique), plan.finished_dim), dtype=np.float32))
    if len(missing):
        with progress(plan.settings.show_progress_bar, len(missing)) as bar:
            _encode(call, missing, bar)
    _count(call)
    warn(_n_cut(call), len(texts), plan, call.failure)
    return _scatter_rows(call)


def encode_chunk(texts: Texts, plan: Plan, bar: Any) -> tuple[NDArray[np.float32], int, CacheError | None]:
    """Encode a chunk of a longer column: as :func:`encode` does, but nothing is said until the end of the column.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    bar : tqdm
        Told of each row.

    Returns
    -------
    vectors : ndarray of float32, shape (n_rows, finished_dim), C-contiguous
    n_cut : int
        Rows whose text was cut.
    failure : CacheError or None
        Why vectors could not be kept; all three are what :func:`warn` takes.
    """
    call, missing = _begin(texts, plan, np.empty((len(texts.unique), plan.finished_dim), dtype=np.float32))
    bar.update(len(texts) - len(missing))
    _encode(call, missing, bar)
    _count(call)
    return _scatter_rows(call), _n_cut(call), call.failure


def encode_ahead(texts: Texts, plan: Plan, bar: Any) -> None:
    """Fill the cache with the vectors of some texts, by all of the plan's recipes, in one pass.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    bar : tqdm
        Told of each text.

    Raises
    ------
    CacheError
        If vectors cannot be kept.
    """
    call, missing = _begin(texts, plan, vectors=None)
    bar.update(len(texts.unique) - len(missing))
    _encode(call, missing, bar)
    _count(call)


def _begin(texts: Texts, plan: Plan, vectors: NDArray[np.float32] | None) -> tuple[_Call, NDArray[np.intp]]:
    """Start a call with what the cache holds; also return the codes of the texts that it lacks."""
    n_unique = len(texts.unique)
    if plan.model.has_failed:  # since the plan was made
        plan = make_plan(plan.settings)
    call = _Call(texts, plan, find_store(plan.settings.cache), vectors, np.zeros(n_unique, dtype=np.int64))
    missing = _read(call, np.arange(n_unique))
    if plan.settings.long_texts == "error":
        with plan.model.lock:
            _refuse_long_texts(texts, missing, call.n_tokens, plan)
    return call, missing


def _count(call: _Call) -> None:
    if call.store is not None:
        call.store.record_hits(len(call.texts.unique) - call.n_encoded, call.n_encoded)


def _read(call: _Call, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Take from the cache what it holds, finished; return the codes of the other texts."""
    if call.store is None:
        return codes
    missing = [codes[:0]]
    n_together = max(_BYTES_PER_READ // (4 * sum(call.plan.dims)), 1)
    for start in range(0, len(codes), n_together):
        some = codes[start : start + n_together]
        missing.append(some[_read_some(call, call.store, some)])
    return np.concatenate(missing)


def _read_some(call: _Call, store: Store, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Take a chunk of texts from the cache; say which it lacks."""
    texts, plan = call.some_texts(codes), call.plan
    is_missing = np.zeros(len(codes), dtype=bool)
    if call.vectors is None:
        for recipe in plan.recipes:
            is_missing[store.missing(recipe, texts)] = True
        return is_missing
    where, dim = as_slice(codes), sum(plan.dims)
    in_place = isinstance(where, slice) and plan.finished_dim == dim
    raw = call.vectors[where] if in_place else np.empty((len(codes), dim), dtype=np.float32)
    n_tokens = np.zeros(len(codes), dtype=np.int64)
    for recipe, columns in zip(plan.recipes, _column_slices(plan.dims), strict=True):
        is_missing[store.read(recipe, texts, raw[:, columns], n_tokens)] = True
    for start in range(0, len(codes), _TEXTS_PER_FINISH):
        rows = slice(start, start + _TEXTS_PER_FINISH)
        is_found = ~is_missing[rows]
        if in_place and is_found.all():
            _truncate_normalize(raw[rows], plan)
        else:
            call.vectors[codes[rows][is_found]] = _truncate_normalize(raw[rows][is_found], plan)
    call.n_tokens[codes[~is_missing]] = n_tokens[~is_missing]
    return is_missing


def _column_slices(dims: Sequence[int]) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(accumulate(dims, initial=0))]


def _encode(call: _Call, missing: NDArray[np.intp], bar: Any) -> None:
    """Run the model on texts chunk by chunk; what a chunk computed is kept, whatever happens next."""
    tokenizes_ahead = _runs_beside_processor(call.plan)
    to_do = _chunks(call, missing, tokenize=tokenizes_ahead)
    with closing(iterate_concurrently([to_do], _CHUNKS_AHEAD) if tokenizes_ahead else to_do) as all_chunks:
        for codes, limit, tokens in all_chunks:
            start = perf_counter()
            with (
                call.store.single_flight_lock(call.plan.base_recipe.fingerprint) if call.store else nullcontext(),
                call.plan.model.lock,
            ):
                _encode_chunk(call, codes, tokens, bar)
            pace = _SECONDS_PER_CHUNK / max(perf_counter() - start, 1e-3)
            longer = limit * min(max(pace, 0.5), 4.0)
            call.chunk_characters = int(min(max(longer, 1), _CHARACTERS_PER_CHUNK))


def _runs_beside_processor(plan: Plan) -> bool:
    """Whether the processor is free to tokenise while the model runs, on a device of its own."""
    return plan.model.backend.spec is not None and str(plan.model.backend.device) != "cpu"


def _chunks(call: _Call, missing: NDArray[np.intp], *, tokenize: bool) -> Generator[_Chunk]:
    """Cut texts into chunks, each when it is asked for; yield codes, how long it could be, and tokens if wanted."""
    while len(missing):
        texts = call.some_texts(missing[:_TEXTS_PER_CHUNK])
        limit = call.chunk_characters
        chunk = next(chunks(texts, _TEXTS_PER_CHUNK, limit))
        yield missing[chunk], limit, _tokenize(texts[chunk], call.plan) if tokenize else None
        missing = missing[chunk.stop :]


def _encode_chunk(call: _Call, codes: NDArray[np.intp], tokens: Tokens | None, bar: Any) -> None:
    n_wanted = len(codes)
    codes = _read(call, codes)  # another thread or process may have encoded them meanwhile
    bar.update(n_wanted - len(codes))
    if not len(codes):
        return
    texts, failure = call.some_texts(codes), None
    recipes, is_done = _recipes_to_compute(call, texts), np.zeros(len(codes), dtype=bool)
    try:
        for positions, vectors, n_tokens in _run_model(
            texts, tokens if len(codes) == n_wanted else None, call.plan, recipes
        ):
            _store_batch(call, codes[positions], vectors, n_tokens, recipes)
            is_done[positions] = True
            bar.update(len(positions))
    except CannotComputeError as error:
        failure = str(error)
    if failure is not None:  # outside the except clause, whose traceback would keep the failed batches alive
        fall_back_to_torch(call.plan.model, failure)
        call.plan = make_plan(call.plan.settings)  # whose vectors are kept apart in the cache
        with call.plan.model.lock:
            _encode_chunk(call, codes[~is_done], None, bar)


def _recipes_to_compute(call: _Call, texts: list[str]) -> list[Recipe]:
    """Return the recipes to compute in one pass; those that were requested come last.

    If the cache knows the texts by another pooling, the caller is comparing poolings. Then the pass computes all of
    them, so that trying them one after the other takes two passes. It does not if they would fill more than half of
    the cache and evict what is still needed.
    """
    requested, store = list(dict.fromkeys(call.plan.recipes)), call.store
    if store is None or call.vectors is None:
        return requested
    others, some = (
        [recipe for recipe in single_poolings(call.plan) if recipe not in requested],
        texts[:_TEXTS_LOOKED_UP],
    )
    if all(len(store.missing(recipe, some)) == len(some) for recipe in others):
        return requested
    vector_dim, n_chunks = call.plan.model.backend.vector_dim, len(call.texts.unique) / len(texts)
    dims = [vector_dim(recipe.pooling, recipe.route) for recipe in others + requested]
    n_bytes = n_chunks * sum(store.estimate_bytes(texts, dim) for dim in dims)
    return others + requested if 2 * n_bytes <= store.limit() else requested


def _tokenize(texts: list[str], plan: Plan) -> Tokens:
    family, spec = plan.base_recipe, cast("TransformerSpec", plan.model.backend.spec)
    return spec.tokenizer.tokenize(
        [family.prompt + text for text in texts], family.max_seq_length, split=family.split_long_texts
    )


def _run_model(
    texts: list[str], tokens: Tokens | None, plan: Plan, recipes: list[Recipe]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int64]]]:
    """Run texts through the model; yield, batch by batch, positions, vectors by all recipes, and token counts.

    ``tokens`` are those of the texts, where they were tokenised ahead.
    """
    backend, family = plan.model.backend, plan.base_recipe
    views = [(recipe.layers, recipe.pooling) for recipe in recipes if recipe.layers and recipe.pooling]
    if backend.spec is None:
        yield from backend.embed_texts(texts, family.prompt or None, plan.batch_tokens, plan.settings.task)
        return
    if tokens is None:
        tokens = _tokenize(texts, plan)
    n_prompt_tokens = backend.spec.count_prompt_tokens(family.prompt, family.max_seq_length)
    if family.split_long_texts and n_prompt_tokens >= (family.max_seq_length or np.inf) - 1:
        raise ValueError(f"prompt={family.prompt!r} fills the {family.max_seq_length} tokens that the model reads.")
    batches = backend.embed_tokens(tokens, views, n_prompt_tokens, plan.batch_tokens)
    if len(tokens.lengths) > len(texts):
        batches = _average_windows(batches, tokens, n_prompt_tokens)
    for positions, vectors in batches:
        yield positions, vectors, tokens.n_tokens[positions]


def _average_windows(
    batches: Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]], tokens: Tokens, n_prompt_tokens: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Put together the rows of texts that were split: their average, weighted by the tokens pooled in each."""
    n_waiting = np.bincount(tokens.text_of_row, minlength=len(tokens.n_tokens))
    n_pooled = tokens.lengths - n_prompt_tokens * tokens.is_first_row
    weights = np.maximum(n_pooled, 1).astype(np.float32)[:, None]
    parts: NDArray[np.float32] | None = None
    for rows, vectors in batches:
        if parts is None:
            parts = np.empty((len(tokens.lengths), vectors.shape[1]), dtype=np.float32)
        parts[rows] = vectors
        np.subtract.at(n_waiting, tokens.text_of_row[rows], 1)
        touched = np.unique(tokens.text_of_row[rows])
        done = touched[n_waiting[touched] == 0]
        if len(done):
            some = np.flatnonzero(np.isin(tokens.text_of_row, done))
            first_rows = np.flatnonzero(tokens.is_first_row[some])
            sums: NDArray[np.float32] = np.add.reduceat(parts[some] * weights[some], first_rows, axis=0)
            sums /= np.add.reduceat(weights[some], first_rows, axis=0)
            yield done, sums


def _store_batch(
    call: _Call,
    codes: NDArray[np.intp],
    vectors: NDArray[np.float32],
    n_tokens: NDArray[np.int64],
    recipes: list[Recipe],
) -> None:
    """Keep the vectors of a batch, and finish those that were asked for."""
    plan = call.plan
    dims = [plan.model.backend.vector_dim(recipe.pooling, recipe.route) for recipe in recipes]
    vectors_by = {recipe: vectors[:, columns] for recipe, columns in zip(recipes, _column_slices(dims), strict=True)}
    raw = np.concatenate([vectors_by[recipe] for recipe in plan.recipes], axis=1)
    is_finite = np.isfinite(raw).all(axis=1)
    if not is_finite.all():
        _refuse_not_finite(call.texts, codes[~is_finite], plan)
    call.n_encoded += len(codes)
    call.n_tokens[codes] = n_tokens
    if call.store is not None:
        finite = {recipe: some for recipe, some in vectors_by.items() if np.isfinite(some).all()}
        try:
            call.store.write(call.some_texts(codes), n_tokens, finite)
        except CacheError as error:  # a full disk, say, which shall not cost what was computed
            if call.vectors is None:  # nothing but the cache was wanted
                raise
            call.store, call.failure = None, error
    if call.vectors is not None:
        call.vectors[codes] = _truncate_normalize(raw, plan)


def _refuse_not_finite(texts: Texts, codes: NDArray[np.intp], plan: Plan) -> None:
    """Stop before an overflow becomes a feature: float16 ends at 65,504, and some models go beyond."""
    way_out = (
        "The model's weights may be damaged." if plan.base_recipe.dtype == "float32" else "Choose dtype='float32'."
    )
    row, backend = texts.first_row(codes), plan.model.backend
    text = plan.base_recipe.prompt + texts.unique[texts.codes[row]]
    if backend.spec is None and backend.reads_nothing_of(text, plan.settings.task):
        raise ValueError(
            f"{texts.where(row)} has no word that {plan.model.name} knows, and without one its vector is NaN. Drop "
            "the row, or make it missing (None) and choose missing='zero' or 'nan'."
        )
    raise ValueError(
        f"{texts.where(row)} gets infinite or NaN values from {plan.model.name} in "
        f"{plan.base_recipe.dtype}, as {len(codes)} texts do. {way_out}"
    )


def _truncate_normalize(raw: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Cut the vectors and give them unit length, in place unless several parts are cut.

    Cutting first and normalising once gives what normalising, cutting and normalising again would.
    """
    finished = raw[:, : plan.finished_dim]
    if len(plan.kept) > 1 and plan.finished_dim < raw.shape[1]:
        starts = (columns.start for columns in _column_slices(plan.dims))
        parts = [raw[:, start : start + kept] for start, kept in zip(starts, plan.kept, strict=True)]
        finished = np.concatenate(parts, axis=1)
    if plan.normalize:
        norms = np.sqrt(np.einsum("ij,ij->i", finished, finished))
        finished /= np.maximum(norms, 1e-12)[:, None]  # as torch.nn.functional.normalize
    return finished


def _scatter_rows(call: _Call) -> NDArray[np.float32]:
    """Give each row the vector of its text, and missing rows zeros or NaN."""
    vectors, codes = call.vectors, call.texts.codes
    if vectors is None:
        raise TypeError("the vectors of this call were only to be kept")
    if len(vectors) == len(codes) and MISSING not in codes:  # all rows differ, so they are in order already
        return vectors
    fill = np.nan if call.plan.settings.missing == "nan" else 0.0
    rows = np.full((len(codes), vectors.shape[1]), fill, dtype=np.float32)
    present = codes != MISSING
    rows[present] = vectors[codes[present]]
    return rows


def refuse_long_texts(texts: Texts, plan: Plan) -> None:
    """Raise ValueError for the first row whose text is longer than the plan's model reads."""
    n_unique = len(texts.unique)
    with plan.model.lock:
        _refuse_long_texts(texts, np.arange(n_unique), np.zeros(n_unique, dtype=np.int64), plan)


def _refuse_long_texts(texts: Texts, missing: NDArray[np.intp], n_tokens: NDArray[np.int64], plan: Plan) -> None:
    """Raise for the first row whose text is too long, before anything is computed."""
    limit, spec = plan.base_recipe.max_seq_length, plan.model.backend.spec
    if limit is None:
        return
    known = n_tokens.copy()
    for chunk in chunks([texts.unique[code] for code in missing], _TEXTS_PER_CHUNK, _CHARACTERS_PER_CHUNK):
        codes = missing[chunk]
        prompted = [plan.base_recipe.prompt + texts.unique[code] for code in codes]
        if spec is not None:
            known[codes] = spec.tokenizer.tokenize(prompted, limit).n_tokens
        else:
            count, task = cast("TorchBackend", plan.model.backend).count_tokens, plan.settings.task
            known[codes] = [count(text, task) for text in prompted]
    too_long = np.flatnonzero(known > limit)
    if len(too_long):
        row = texts.first_row(too_long)
        others = "'mean' or 'truncate'" if spec is not None else "'truncate'"
        raise ValueError(
            f"{texts.where(row)} has {known[texts.codes[row]]} tokens, more than the {limit} that the model reads, "
            f"as {np.isin(texts.codes, too_long).sum()} of {len(texts)} texts have. Shorten them, or choose "
            f"long_texts={others}.{texts.about}"
        )


def _n_cut(call: _Call) -> int:
    """Count the rows whose text was cut."""
    limit, codes = call.plan.token_limit, call.texts.codes
    is_cut = call.n_tokens > (np.inf if limit is None else limit)
    return int(is_cut[codes[codes != MISSING]].sum()) if is_cut.any() else 0


def warn(n_cut: int, n_texts: int, plan: Plan, failure: CacheError | None) -> None:
    """Say, once a call and pointing to the caller's line, that texts were cut or vectors not kept."""
    if n_cut:
        way_out = "choose long_texts='mean' to read them whole, or a larger max_seq_length if the model allows it"
        if plan.model.backend.spec is None:
            way_out = "this model cannot read more of a text, so embed shorter ones"
        warnings.warn(
            f"{n_cut} of {n_texts} texts have more than {plan.token_limit} tokens and were cut; {way_out}.",
            TruncationWarning,
            stacklevel=level_of_user(),
        )
    if failure is not None:
        warnings.warn(
            f"The result is right, but not all of it could be kept. {failure}",
            CacheWarning,
            stacklevel=level_of_user(),
        )
