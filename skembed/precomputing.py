"""``precompute``: fill the cache with every embedding that a search will ask for, in one forward pass per model.

It walks through scikit-learn's searches and compositions to find the transformers in them and the texts that reach
each. Imports scikit-learn, the transformer, the fine-tuner, the embedders and the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from skembed.compat import column_positions, runs_in_processes, select_columns
from skembed.embedders import fit_transform, is_fitted, nested_estimators
from skembed.encoding.cache.embedding_cache import find_store
from skembed.encoding.cache.memory_store import MemoryStore
from skembed.encoding.encoder import encode_ahead
from skembed.encoding.plan import Plan, make_plan
from skembed.encoding.progress import progress
from skembed.encoding.recipes import Recipe
from skembed.encoding.texts import Texts, read_texts
from skembed.encoding.vectors import holds_vectors
from skembed.finetuner import SentenceEmbeddingFineTuner
from skembed.transformer import SentenceEmbeddingTransformer

if TYPE_CHECKING:
    from skembed.encoding.cache.embedding_cache import Store

_MOST_VALUES = 10_000  # of a distribution, if all are to be computed


@dataclass(frozen=True)
class _Use:
    """An embedder with all its parameters set, and the input that will reach it."""

    embedder: SentenceEmbeddingTransformer | SentenceEmbeddingFineTuner  # a fine-tuner is fitted
    X: Any
    in_processes: bool  # whether it will run in processes that do not share this process's memory


@dataclass
class _Pass:
    """One pass through one model: the texts, and the recipes of all settings with their dimensions."""

    plan: Plan
    store: Store
    dims: dict[Recipe, int]
    texts: list[Texts]

    @property
    def whole_plan(self) -> Plan:
        return replace(self.plan, recipes=tuple(self.dims), dims=tuple(self.dims.values()))

    @property
    def distinct_texts(self) -> set[str]:
        return {text for texts in self.texts for text in texts.unique}

    @property
    def n_bytes(self) -> int:
        """Approximate size of all vectors in the cache."""
        texts = self.distinct_texts
        return sum(self.store.estimate_bytes(texts, dim) for dim in self.dims.values())

    def is_kept(self) -> bool:
        texts = list(self.distinct_texts)
        return not any(len(self.store.missing(recipe, texts)) for recipe in self.dims)


def precompute(estimator: BaseEstimator, X: Any) -> Bunch:
    """Fill the cache with every embedding that an estimator or a search will ask for.

    All settings that share a model (and prompt, token limit, treatment of long texts and precision) are computed in
    one forward pass over the distinct texts, whatever their poolings and layers. A grid search then only reads.

    Parameters
    ----------
    estimator : estimator
        A :class:`SentenceEmbeddingTransformer`; a :class:`SemanticSearch`, :class:`PairSimilarity`,
        :class:`NearDuplicates` or :class:`SentenceEmbeddingClassifier`; a Pipeline, ColumnTransformer,
        StackingClassifier or another estimator around any of these; or a search around that: GridSearchCV,
        RandomizedSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV, or OptunaSearchCV of Optuna. Only clones of
        steps before a transformer in a Pipeline are fitted, to find the texts that it will get. A
        :class:`SentenceEmbeddingFineTuner` has no vectors before it is fitted; it counts if it is not fitted again: as
        the fitted embedder of an estimator, or in a FrozenEstimator.
    X : array-like or frame
        The input that will be passed to ``fit``.

    Returns
    -------
    Bunch
        ``texts``, ``models``, ``settings``: number of distinct texts, models and embedding settings. ``seconds``:
        duration. All can be read as attributes or as keys.

    Raises
    ------
    ValueError
        If nothing in the estimator embeds texts; if an embedding parameter has a distribution that is continuous, or
        of more than 10,000 values, instead of a list; if the search uses several processes and the cache is in memory,
        which they do not share; if nothing is cached (``cache=None``); or if the cache is too small.
    CacheError
        If vectors cannot be stored.

    See Also
    --------
    EmbeddingCache : The cache for the vectors.

    Notes
    -----
    For a randomized search, all values of lists, categories and distributions of integers are computed, in all
    combinations, because one pass serves them all. The documents of a SemanticSearch are computed with the prompt for
    queries, too, because in a cross-validation the same texts are both.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import Pipeline
    >>> import skembed
    >>> pipe = Pipeline([("embed", skembed.SentenceEmbeddingTransformer()), ("classify", LogisticRegression())])
    >>> grid = {"embed__pooling": ["mean", "cls", "max"], "embed__layers": [-1, -2], "classify__C": [1, 10]}
    >>> done = skembed.precompute(GridSearchCV(pipe, grid), ["a cat", "a dog", "a cat"])
    >>> done.texts, done.models, done.settings
    (2, 1, 6)
    """
    start = perf_counter()
    uses = list(_find_uses(estimator, X, in_processes=False))
    if not uses:
        raise ValueError(
            f"{type(estimator).__name__} holds no SentenceEmbeddingTransformer that gets texts, so nothing can be "
            "computed. A SentenceEmbeddingFineTuner has no vectors before it is fitted."
        )
    passes, settings = _plan_passes(uses)
    _check_cache_size(passes)
    work = [(texts, each.whole_plan) for each in passes for texts in each.texts]
    with progress(uses[0].embedder.show_progress_bar, sum(len(texts.unique) for texts, _ in work)) as bar:
        for texts, plan in work:
            encode_ahead(texts, plan, bar)
    if not all(each.is_kept() for each in passes):
        raise ValueError("The cache is too full to keep all vectors: clear it, or pass one with a larger max_bytes.")
    return Bunch(
        texts=len(set().union(*(each.distinct_texts for each in passes))),
        models=len({each.plan.base_recipe.fingerprint for each in passes}),
        settings=len(settings),
        seconds=perf_counter() - start,
    )


def _plan_passes(uses: Iterable[_Use]) -> tuple[list[_Pass], set[Any]]:
    """Group the uses by model and cache; also return the distinct settings."""
    texts_of: dict[tuple[int, str], Texts] = {}  # the same X is read once
    passes: dict[tuple[int, Recipe], _Pass] = {}
    settings = set()
    for use in uses:
        is_tuned, wanted = isinstance(use.embedder, SentenceEmbeddingFineTuner), use.embedder._settings()
        key = id(use.X), wanted.missing
        texts = texts_of[key] = texts_of.get(key) or read_texts(use.X, missing=wanted.missing)
        plan, store = use.embedder._plan() if is_tuned else make_plan(wanted), _store_of(use)
        each = passes.setdefault((id(store), plan.base_recipe), _Pass(plan, store, {}, []))
        each.dims.update(zip(plan.recipes, plan.dims, strict=True))
        if all(texts.unique != others.unique for others in each.texts):
            each.texts.append(texts)
        settings.add((plan.recipes, plan.kept, plan.normalize, wanted.missing))
    return list(passes.values()), settings


def _store_of(use: _Use) -> Store:
    store = find_store(use.embedder.cache)
    if store is None:
        raise ValueError("cache=None keeps no vectors; choose cache='memory', 'disk' or a folder to precompute them.")
    if isinstance(store, MemoryStore) and use.in_processes:
        raise ValueError(
            "n_jobs runs in several processes, which do not share a cache in memory. Choose cache='disk' or a folder, "
            "n_jobs=1, or threads: joblib.parallel_config('threading')."
        )
    return store


def _check_cache_size(passes: list[_Pass]) -> None:
    for store in {id(each.store): each.store for each in passes}.values():
        n_bytes = sum(each.n_bytes for each in passes if each.store is store)
        if n_bytes > store.limit():
            raise ValueError(
                f"The vectors of all settings take about {n_bytes:,} bytes, but the cache holds {store.limit():,}. "
                f"Pass an EmbeddingCache with max_bytes={round(1.2 * n_bytes)} as cache, or try fewer settings."
            )


def _find_uses(estimator: Any, X: Any, *, in_processes: bool, as_it_is: bool = False) -> Iterator[_Use]:
    """Find each embedder in an estimator, once for each setting that will be tried.

    With ``as_it_is`` the estimator is used without being fitted again; then fine-tuners count, too.
    """
    while isinstance(estimator, FrozenEstimator):  # first, because it has the attributes of its estimator
        estimator, as_it_is = estimator.estimator, True
    is_tuned = as_it_is and isinstance(estimator, SentenceEmbeddingFineTuner)
    if is_tuned or isinstance(estimator, SentenceEmbeddingTransformer):
        yield _Use(estimator, X, in_processes)
        return
    if hasattr(estimator, "n_jobs") and not type(estimator).__module__.startswith("optuna"):  # which uses threads
        in_processes = in_processes or runs_in_processes(estimator.n_jobs)
    if as_it_is and hasattr(estimator, "best_estimator_"):
        yield from _find_uses(estimator.best_estimator_, X, in_processes=in_processes, as_it_is=True)
    elif hasattr(estimator, "estimator") and _grids(estimator) is not None:  # a search
        for candidate in _candidates(estimator):
            yield from _find_uses(candidate, X, in_processes=in_processes)
    elif hasattr(estimator, "_embedded_columns"):  # one of skembed's own
        if _holds_embedder(estimator):
            for embedder, column in estimator._embedded_columns(X):
                if not holds_vectors(column):
                    yield from _find_uses(embedder, column, in_processes=in_processes, as_it_is=is_fitted(embedder))
    elif isinstance(estimator, Pipeline):
        yield from _find_in_pipeline(estimator, X, in_processes, as_it_is)
    elif isinstance(estimator, ColumnTransformer):
        for part, columns in _column_parts(estimator, X):
            if _holds_embedder(part):
                chosen = select_columns(X, columns)
                yield from _find_uses(part, chosen, in_processes=in_processes, as_it_is=as_it_is)
    else:  # a FeatureUnion, a VotingClassifier, ...: X goes to all parts
        for part in nested_estimators(estimator):
            yield from _find_uses(part, X, in_processes=in_processes, as_it_is=as_it_is)


def _find_in_pipeline(pipeline: Pipeline, X: Any, in_processes: bool, as_it_is: bool) -> Iterator[_Use]:
    steps = [step for _, step in pipeline.steps if step is not None and step != "passthrough"]
    first = next((number for number, step in enumerate(steps) if _holds_embedder(step)), None)
    if first is None:
        return
    for step in steps[:first]:
        X = step.transform(X) if as_it_is else fit_transform(clone(step), X)
    yield from _find_uses(steps[first], X, in_processes=in_processes, as_it_is=as_it_is)  # later steps get vectors


def _column_parts(columns_and_parts: ColumnTransformer, X: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of a ColumnTransformer with their columns, the remainder with the columns of no other part."""
    named: set[int] = set()
    for _, part, columns in columns_and_parts.transformers:
        columns = columns(X) if callable(columns) else columns
        named.update(column_positions(X, columns))
        yield part, columns
    if _holds_embedder(columns_and_parts.remainder):
        yield columns_and_parts.remainder, sorted(set(range(X.shape[1])) - named)


def _holds_embedder(estimator: Any) -> bool:
    """Return whether something in an estimator embeds texts; skembed's own estimators do so by default."""
    if isinstance(estimator, (SentenceEmbeddingTransformer, SentenceEmbeddingFineTuner)):
        return True
    if hasattr(estimator, "_embedded_columns") and estimator.embedder is None:
        return True
    grids = _grids(estimator) or []
    tried = [value for grid in grids for values in grid.values() for value in _all_values(values) or ()]
    return any(map(_holds_embedder, [*nested_estimators(estimator), *tried]))


def _grids(search: Any) -> list[Mapping[str, Any]] | None:
    grids = getattr(search, "param_grid", getattr(search, "param_distributions", None))
    return [grids] if isinstance(grids, Mapping) else grids


def _all_values(values: Any) -> Iterable[Any] | None:
    """Return all values that a search may try for a parameter; None if they are continuous or too many."""
    if hasattr(values, "choices"):  # a categorical distribution of Optuna
        return list(values.choices)
    if isinstance(getattr(values, "low", None), int) and isinstance(getattr(values, "high", None), int):  # of integers
        return _list_range(range(values.low, values.high + 1, getattr(values, "step", None) or 1))
    if hasattr(getattr(values, "dist", values), "pmf"):  # a distribution of scipy over integers
        return _support(values)
    return None if hasattr(values, "rvs") or not isinstance(values, Iterable) else values


def _list_range(values: range) -> Sequence[int] | None:
    return list(values) if len(values) <= _MOST_VALUES else None


def _support(distribution: Any) -> Sequence[Any] | None:
    """Return the integers that a distribution of scipy may yield."""
    low, high = distribution.support()
    values = _list_range(range(int(low), int(high) + 1)) if np.isfinite(low) and np.isfinite(high) else None
    return values and [value for value in values if distribution.pmf(value) > 0]


def _candidates(search: Any) -> Iterator[Any]:
    """Yield clones of the searched estimator, one for each combination of parameters that may change an embedding."""
    for grid in _grids(search) or []:
        names = [name for name in grid if _changes_embeddings(search.estimator, name, grid)]
        for params in ParameterGrid({name: _all_values(grid[name]) for name in names}):
            tried = {name: _clone_estimators(value) for name, value in params.items()}
            yield clone(search.estimator).set_params(**tried)


def _clone_estimators(value: Any) -> Any:
    """Clone estimators, alone or in lists of steps, so that the caller's are never changed."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_clone_estimators, value))
    return clone(value) if hasattr(value, "get_params") and not isinstance(value, type) else value


def _changes_embeddings(estimator: Any, name: str, grid: Mapping[str, Any]) -> bool:
    """Return whether a parameter may change embeddings: it is theirs or of a step before them, not of one after."""
    params, values = estimator.get_params(deep=True), _all_values(grid[name])
    owner_name, _, parameter = name.rpartition("__")
    owner = params.get(owner_name) if owner_name else estimator
    is_replaced = any(f"{owner_name}__".startswith(f"{other}__") for other in grid if other != name)
    is_known = hasattr(owner, "get_params") and not is_replaced
    if values is None:
        is_ours = parameter in SentenceEmbeddingTransformer._get_param_names()
        if isinstance(owner, SentenceEmbeddingTransformer) or (is_ours and not is_known):
            raise ValueError(
                f"{name} has a distribution, whose values cannot all be computed ahead; pass a list of values instead."
            )
        return False  # at most of a step before the embeddings, whose texts are then encoded when they are needed
    if not is_known or isinstance(owner, SentenceEmbeddingTransformer):
        return True
    if hasattr(owner, "_embedded_columns"):  # one of skembed's own, with an embedder and perhaps prompts
        return True
    if owner_name:
        return hasattr(owner, "transform") or _holds_embedder(owner)
    return any(hasattr(value, "transform") or _holds_embedder(value) for value in [params.get(parameter), *values])
