"""The prompts that a model has for queries and for documents. Imports the transformer and ``skembed.encoding``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

from skembed.encoding.plan import TASK_PROMPTS, make_plan
from skembed.transformer import SentenceEmbeddingTransformer

# Prompts that models were trained with, though their files may not say so; from their model cards
_E5 = {"query": "query: ", "document": "passage: "}
_BGE = {"query": "Represent this sentence for searching relevant passages: ", "document": ""}
_OF_MODEL = {
    **{f"e5-{size}{version}": _E5 for size in ("small", "base", "large") for version in ("", "-v2")},
    **{f"multilingual-e5-{size}": _E5 for size in ("small", "base", "large")},
    **{f"bge-{size}-en{version}": _BGE for size in ("small", "base", "large") for version in ("", "-v1.5")},
}


def own_prompt(embedder: SentenceEmbeddingTransformer, side: Literal["query", "document"]) -> str:
    """Find what an embedder puts before the texts of one side of a search.

    Parameters
    ----------
    embedder : SentenceEmbeddingTransformer
    side : {"query", "document"}

    Returns
    -------
    str
        The embedder's own prompt if it was given one; else, if the model has one for either side, that of this side;
        else the model's default prompt. "" if there is none. The embedder's own task, if it has one, holds for both.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.

    Examples
    --------
    >>> own_prompt(SentenceEmbeddingTransformer(prompt="Question: "), "query")
    'Question: '
    """
    side = embedder.task or side
    plan = make_plan(replace(embedder._settings(), task=side))
    if embedder.prompt is not None or embedder.prompt_name is not None:
        return plan.base_recipe.prompt
    own = plan.model.backend.defaults
    prompts = own.prompts
    if any(prompts.get(name) for names in TASK_PROMPTS.values() for name in names):
        # sentence-transformers adds an empty "document" to a model that has "passage"
        return next((str(prompts[name]) for name in TASK_PROMPTS[side] if prompts.get(name)), "")
    name = embedder.model if isinstance(embedder.model, (str, os.PathLike)) else ""
    known = _OF_MODEL.get(os.path.basename(os.path.normpath(name)).lower())
    default = prompts.get(own.default_prompt_name or "") or ""
    return default if known is None else known[side]
