"""The plan of a call: the caller's settings resolved for a model. Imports settings, models and recipes; no data."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from skembed.encoding.models.loading import LoadedModel
from skembed.encoding.models.registry import get_model
from skembed.encoding.recipes import Recipe
from skembed.encoding.settings import POOLINGS, Settings
from skembed.encoding.tokens import UNLIMITED

# Names of a model's prompts for a task, in the order in which encode_query and encode_document of
# sentence-transformers look for them
TASK_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}

FORMAT_VERSION = 2  # of the vectors; raise it when the same recipe gives other vectors


@dataclass(frozen=True)
class Plan:
    """Settings resolved for a model: what a call computes, and how it finishes the vectors.

    Attributes
    ----------
    settings : Settings
    model : LoadedModel
    recipes : tuple of Recipe
        One for each part of a vector. The parts stand side by side, each truncated; the whole is then normalized. All
        have the same ``base_recipe``.
    dims : tuple of int
        Dimensions of each part.
    kept : tuple of int
        Number of leading dimensions to keep of each part.
    normalize : bool
        Whether the result has unit length.
    batch_tokens : int
        Most tokens in a batch, padding included.
    """

    settings: Settings
    model: LoadedModel
    recipes: tuple[Recipe, ...]
    dims: tuple[int, ...]
    kept: tuple[int, ...]
    normalize: bool
    batch_tokens: int

    @property
    def finished_dim(self) -> int:
        """Number of dimensions of the result."""
        return sum(self.kept)

    @property
    def base_recipe(self) -> Recipe:
        """The recipe without layers and pooling, which all recipes share."""
        return self.recipes[0].base_recipe

    @property
    def token_limit(self) -> int | None:
        """Most tokens of a text that are read; None if texts are never truncated."""
        return None if self.base_recipe.split_long_texts else self.base_recipe.max_seq_length


def make_plan(settings: Settings, model: LoadedModel | None = None) -> Plan:
    """Resolve settings for a model.

    Parameters
    ----------
    settings : Settings
    model : LoadedModel, default=None
        None: the model of the settings, which is loaded unless it is already.

    Returns
    -------
    Plan

    Raises
    ------
    ModelNotFoundError
        If the model of the settings does not exist.
    ValueError
        If the model does not support a parameter, or the device is not available on this machine.
    """
    model = model or get_model(settings)
    recipe = Recipe(
        format_version=FORMAT_VERSION,
        fingerprint=model.fingerprint,
        backend=model.backend.name,
        dtype=model.dtype,
        prompt=resolve_prompt(settings, model),
        max_seq_length=_max_seq_length(settings, model),
        split_long_texts=settings.long_texts == "mean",
        layers=_layers(settings, model),
        pooling=None,
        route=_route(settings, model),
    )
    recipes = tuple(replace(recipe, pooling=pooling) for pooling in _poolings(settings, model))
    try:
        dims = tuple(model.backend.vector_dim(recipe.pooling, recipe.route) for recipe in recipes)
    except ValueError as error:
        raise ValueError(f"pooling={settings.pooling!r}: {error}") from None
    normalize, asked = settings.normalize_embeddings, settings.batch_tokens
    return Plan(
        settings=settings,
        model=model,
        recipes=recipes,
        dims=dims,
        kept=_kept_dims(settings, model, dims),
        normalize=model.backend.ends_normalized if normalize == "default" else bool(normalize),
        batch_tokens=model.backend.best_batch_tokens() if isinstance(asked, str) else int(asked),
    )


def single_poolings(plan: Plan) -> dict[Recipe, int]:
    """Return the recipes of all single poolings that the model supports, with their dimensions."""
    supported = {}
    for mode in POOLINGS if plan.model.backend.spec is not None else ():
        recipe = replace(plan.recipes[0], pooling=(mode,))
        with suppress(ValueError):  # the model's tail may want more dimensions than one pooling gives
            supported[recipe] = plan.model.backend.vector_dim(recipe.pooling, recipe.route)
    return supported


def _poolings(settings: Settings, model: LoadedModel) -> tuple[tuple[str, ...] | None, ...]:
    """Return the pooling modes of each part; those of one part go through the model's tail together."""
    asked, spec = settings.pooling_names, model.backend.spec
    if spec is None:
        if asked is not None:
            raise ValueError(_not_supported("pooling", settings.pooling, model))
        return (None,)
    if asked is None and model.backend.post_pooling:  # a Dense layer takes the model's own modes together
        return (spec.own_pooling,)
    return tuple((mode,) for mode in asked or spec.own_pooling)


def _kept_dims(settings: Settings, model: LoadedModel, dims: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of leading dimensions to keep of each part.

    ``truncate_dim`` holds for each part if the caller named several poolings. A model's own poolings are truncated as
    one vector, as sentence-transformers truncates them.
    """
    asked, names = settings.truncate_dim, settings.pooling_names or ()
    n_kept = int(asked or model.backend.defaults.truncate_dim or sum(dims))
    if len(names) > 1:
        for name, dim in zip(names, dims, strict=True):
            if asked is not None and asked > dim:
                raise ValueError(f"truncate_dim={asked}: the vectors of pooling {name!r} have only {dim} dimensions.")
        return tuple(min(n_kept, dim) for dim in dims)
    if asked is not None and asked > sum(dims):
        raise ValueError(f"truncate_dim={asked}: the vectors have only {sum(dims)} dimensions.")
    starts = accumulate(dims, initial=0)
    return tuple(min(max(n_kept - start, 0), dim) for start, dim in zip(starts, dims, strict=False))


def _layers(settings: Settings, model: LoadedModel) -> tuple[int, ...] | None:
    asked, spec = settings.layer_numbers, model.backend.spec
    if spec is None:
        if asked != (-1,):
            raise ValueError(_not_supported("layers", settings.layers, model))
        return None
    n_states = spec.n_layers + 1  # the input embeddings are number 0
    if not all(-n_states <= layer < n_states for layer in asked):
        raise ValueError(
            f"layers={settings.layers!r}: the model has {spec.n_layers} layers, numbered "
            f"0 (input embeddings) to {spec.n_layers}, or -{n_states} to -1."
        )
    numbers = tuple(sorted(layer % n_states for layer in asked))
    if set(numbers) != {spec.n_layers}:
        why_not = model.why_no_layers()
        if why_not is not None:
            raise ValueError(_not_supported("layers", settings.layers, model, why_not))
    return numbers


def resolve_prompt(settings: Settings, model: LoadedModel) -> str:
    """Return the prompt that is put before each text: the caller's, or the model's own for the task.

    Raises
    ------
    ValueError
        If the model has no prompt of the name that the caller gave.
    """
    own, name = model.backend.defaults, settings.prompt_name
    if settings.prompt is not None:
        return settings.prompt
    if name is None:
        names = TASK_PROMPTS.get(settings.task or "", ())
        name = next((known for known in names if known in own.prompts), own.default_prompt_name)
    if name is None:
        return ""
    if name not in own.prompts:
        known = ", ".join(map(repr, own.prompts)) or "none"
        raise ValueError(f"prompt_name={name!r}: the model's prompts are {known}.")
    return own.prompts[name] or ""


def _route(settings: Settings, model: LoadedModel) -> str | None:
    try:
        return model.backend.route(settings.task)
    except ValueError as error:
        if settings.task is None:
            message = f"task=None is not supported by {model.name} ({error}); choose task='query' or 'document'."
            raise ValueError(message) from None
        raise ValueError(_not_supported("task", settings.task, model, str(error))) from None


def _max_seq_length(settings: Settings, model: LoadedModel) -> int | None:
    """Return the token limit: the caller's, or the model's own, within the positions that the model has."""
    spec, asked, defaults = model.backend.spec, settings.max_seq_length, model.backend.defaults
    own = defaults.task_lengths.get(settings.task or "", defaults.max_seq_length)
    if spec is None:
        if asked is not None:
            raise ValueError(_not_supported("max_seq_length", asked, model))
        if settings.long_texts == "mean" and own is not None:
            raise ValueError(_not_supported("long_texts", "mean", model))
        return own
    most = spec.max_positions
    if asked is None:
        return min((limit for limit in (own, most) if limit is not None), default=None)
    if most is not None and asked > most:
        raise ValueError(f"max_seq_length={asked}: the model has positions for {most} tokens.")
    if asked <= spec.tokenizer.n_special_tokens:
        raise ValueError(
            f"max_seq_length={asked}: the model's {spec.tokenizer.n_special_tokens} special tokens leave no room."
        )
    return int(asked) if asked < UNLIMITED else None


def _not_supported(parameter: str, value: Any, model: LoadedModel, why: str | None = None) -> str:
    return (
        f"{parameter}={value!r} is not supported by {model.name} ({why or model.backend.unsupported_reason}); omit it."
    )
