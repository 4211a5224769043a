"""The state of one call: what the cache holds of its texts, what becomes of computed vectors, and chunks of the call.

Imports the plan, texts, tokens, the cache, finishing and batching.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import as_slice
from skembed.encoding.cache.retention import keep
from skembed.encoding.finishing import check_finite, column_slices, truncate_normalize
from skembed.encoding.plan import Plan
from skembed.encoding.recipes import Recipe
from skembed.encoding.texts import Texts
from skembed.encoding.tokens import Tokens
from skembed.errors import CacheError

if TYPE_CHECKING:
    from skembed.encoding.cache.embedding_cache import Store

_BYTES_PER_READ = 2**26  # of vectors that are read from the cache together
_MOST_TEXTS_TO_ESTIMATE = 512
_TEXTS_PER_FINISH = 4096  # few enough that their vectors stay in the processor's cache between two steps


@dataclass
class Call:
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
    chunk_characters : int
        Limit of characters of the next chunk.
    n_encoded : int
        Number of texts that went through the model.
    failure : CacheError or None
        Why the cache is no longer written to.
    """

    texts: Texts
    plan: Plan
    store: Store | None
    vectors: NDArray[np.float32] | None
    n_tokens: NDArray[np.int64]
    chunk_characters: int
    n_encoded: int = 0
    failure: CacheError | None = None

    def texts_of(self, codes: NDArray[np.intp]) -> list[str]:
        """Return the texts of some codes."""
        positions = as_slice(codes)
        if isinstance(positions, slice):
            return self.texts.unique[positions]
        return [self.texts.unique[code] for code in codes.tolist()]

    def estimate_tokens(self, codes: NDArray[np.intp]) -> float:
        """Estimate the tokens of a few texts, as a fourth of their characters; infinite if the texts are not few."""
        if len(codes) > _MOST_TEXTS_TO_ESTIMATE:
            return np.inf
        limit, n_before = self.plan.token_limit or np.inf, len(self.plan.base_recipe.prompt)
        return sum(min((n_before + len(text)) // 4 + 3, limit) for text in self.texts_of(codes))

    def read_cache(self, codes: NDArray[np.intp]) -> NDArray[np.intp]:
        """Read and finish the vectors that the cache holds; return the codes of the other texts."""
        if self.store is None:
            return codes
        n_texts = max(_BYTES_PER_READ // (4 * sum(self.plan.dims)), 1)
        blocks = [codes[start : start + n_texts] for start in range(0, len(codes), n_texts)]
        return np.concatenate([codes[:0], *(block[self._read_block(self.store, block)] for block in blocks)])

    def _read_block(self, store: Store, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Read and finish the vectors of some texts; return a mask of those that the cache lacks."""
        texts, plan = self.texts_of(codes), self.plan
        is_missing = np.zeros(len(codes), dtype=bool)
        if self.vectors is None:
            for recipe in plan.recipes:
                is_missing[store.missing(recipe, texts)] = True
            return is_missing
        positions, dim = as_slice(codes), sum(plan.dims)
        in_place = isinstance(positions, slice) and plan.finished_dim == dim
        raw = self.vectors[positions] if in_place else np.empty((len(codes), dim), dtype=np.float32)
        n_tokens = np.zeros(len(codes), dtype=np.int64)
        for recipe, columns in zip(plan.recipes, column_slices(plan.dims), strict=True):
            is_missing[store.read(recipe, texts, raw[:, columns], n_tokens)] = True
        for start in range(0, len(codes), _TEXTS_PER_FINISH):
            rows = slice(start, start + _TEXTS_PER_FINISH)
            is_found = ~is_missing[rows]
            if in_place and is_found.all():
                truncate_normalize(raw[rows], plan)
            else:
                self.vectors[codes[rows][is_found]] = truncate_normalize(raw[rows][is_found], plan)
        self.n_tokens[codes[~is_missing]] = n_tokens[~is_missing]
        return is_missing

    def store_batch(
        self, codes: NDArray[np.intp], vectors_by: Mapping[Recipe, NDArray[np.float32]], n_tokens: NDArray[np.int64]
    ) -> None:
        """Cache the vectors of a batch, and finish those that were asked for.

        Parameters
        ----------
        codes : ndarray of int, shape (n_texts,)
        vectors_by : mapping from Recipe to ndarray of float32, shape (n_texts, dim)
        n_tokens : ndarray of int64, shape (n_texts,)

        Raises
        ------
        ValueError
            If a vector that was asked for is not finite.
        CacheError
            If nothing can be cached, and the vectors were wanted for the cache alone.
        """
        raw = np.concatenate([vectors_by[recipe] for recipe in self.plan.recipes], axis=1)
        check_finite(raw, codes, self.texts, self.plan)
        self.n_encoded += len(codes)
        self.n_tokens[codes] = n_tokens
        if self.store is not None:
            try:
                keep(self.store, self.texts_of(codes), n_tokens, vectors_by)
            except CacheError as error:  # such as a full disk, which should not cost what was computed
                if self.vectors is None:
                    raise
                self.store, self.failure = None, error
        if self.vectors is not None:
            self.vectors[codes] = truncate_normalize(raw, self.plan)


@dataclass(eq=False)
class Chunk:
    """Some texts of a call, which go through the model together.

    Attributes
    ----------
    call : Call
    codes : ndarray of int
        The texts that are still to be encoded.
    limit : int
        Number of characters by which the chunk was cut.
    tokens : Tokens or None
        Those of the texts, if they were tokenized ahead.
    bar : tqdm
    error : Exception or None
        What went wrong, if another call computed the chunk together with its own.
    seconds : float
        How long the model was in use for it.
    """

    call: Call
    codes: NDArray[np.intp]
    limit: int
    tokens: Tokens | None
    bar: Any
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def texts(self) -> list[str]:
        """The texts that are still to be encoded."""
        return self.call.texts_of(self.codes)

    def read_cache(self) -> None:
        """Drop what another thread or process has encoded since the call read the cache."""
        n_wanted = len(self.codes)
        self.codes = self.call.read_cache(self.codes)
        if len(self.codes) < n_wanted:
            self.tokens = None
        self.bar.update(n_wanted - len(self.codes))

    def store(
        self,
        positions: NDArray[np.intp],
        vectors_by: Mapping[Recipe, NDArray[np.float32]],
        n_tokens: NDArray[np.int64],
    ) -> None:
        """Store the vectors of some of the texts; see :meth:`Call.store_batch`."""
        self.call.store_batch(self.codes[positions], vectors_by, n_tokens)
        self.bar.update(len(positions))

    @contextmanager
    def keeping_error(self) -> Iterator[None]:
        """Keep an error for the call that the chunk belongs to, instead of raising it."""
        try:
            yield
        except Exception as error:
            self.error = error
