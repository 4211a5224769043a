"""The prompts of a model for queries and for documents. Imports the transformer and ``skembed.encoding``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

from skembed.encoding.models.loading import LoadedModel
from skembed.encoding.models.registry import get_model
from skembed.encoding.plan import TASK_PROMPTS, Plan, make_plan, resolve_prompt
from skembed.encoding.settings import Settings
from skembed.transformer import SentenceEmbeddingTransformer

# Prompts that models were trained with but whose files may lack them; from the model cards
_E5 = {"query": "query: ", "document": "passage: "}
_BGE = {"query": "Represent this sentence for searching relevant passages: ", "document": ""}
_PROMPTS_OF_MODEL = {
    **{f"e5-{size}{version}": _E5 for size in ("small", "base", "large") for version in ("", "-v2")},
    **{f"multilingual-e5-{size}": _E5 for size in ("small", "base", "large")},
    **{f"bge-{size}-en{version}": _BGE for size in ("small", "base", "large") for version in ("", "-v1.5")},
}


def plan_side(embedder: SentenceEmbeddingTransformer, side: Literal["query", "document"], prompt: str | None) -> Plan:
    """Plan the embedding of queries or of documents, with their task and their prompt.

    Parameters
    ----------
    embedder : SentenceEmbeddingTransformer
        Its own task, if it is set, is used for both sides.
    side : {"query", "document"}
    prompt : str or None
        "default": the one from ``own_prompt``. None: no prompt.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError
        If the prompt is not a text.
    ModelNotFoundError
        If the model does not exist.
    ModelChangedError
        If the embedder's model has changed under the same name since it was fitted.
    """
    check_prompt(side, prompt)
    settings = embedder._settings()
    model = get_model(settings)
    text = own_prompt(settings, model, side) if prompt == "default" else prompt or ""
    plan = make_plan(replace(settings, task=settings.task or side, prompt=text, prompt_name=None), model)
    embedder._check_model(plan)
    return plan


def check_prompt(side: str, prompt: Any) -> str | None:
    """Return a prompt; raise TypeError unless it is a str or None."""
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"{side}_prompt must be a str or None; got {type(prompt).__name__}.")
    return prompt


def own_prompt(settings: Settings, model: LoadedModel, side: Literal["query", "document"]) -> str:
    """Return the prompt of a model for queries or for documents.

    Parameters
    ----------
    settings : Settings
    model : LoadedModel
    side : {"query", "document"}

    Returns
    -------
    str
        The prompt of the settings if there is one; else, if the model has a prompt for either side, that of this side;
        else the one known by the model's name, or its default prompt. "" if there is none. The task of the settings, if
        it is set, takes the place of ``side``.

    Raises
    ------
    ValueError
        If the model has no prompt of the name in the settings.

    Examples
    --------
    >>> settings = Settings(prompt="Question: ")
    >>> own_prompt(settings, get_model(settings), "query")
    'Question: '
    """
    side = settings.task or side
    if settings.prompt is not None or settings.prompt_name is not None:
        return resolve_prompt(settings, model)
    own = model.backend.defaults
    prompts = own.prompts
    if any(prompts.get(name) for names in TASK_PROMPTS.values() for name in names):
        # sentence-transformers adds an empty "document" to a model that has "passage"
        return next((str(prompts[name]) for name in TASK_PROMPTS[side] if prompts.get(name)), "")
    name = settings.model if isinstance(settings.model, (str, os.PathLike)) else ""
    known = _PROMPTS_OF_MODEL.get(os.path.basename(os.path.normpath(name)).lower())
    default = prompts.get(own.default_prompt_name or "") or ""
    return default if known is None else known[side]
