"""The prompts that a model has for queries and for documents. Imports the transformer and ``skembed.encoding``."""

from __future__ import annotations

import os
from typing import Literal

from skembed.encoding.plan import make_plan
from skembed.transformer import SentenceEmbeddingTransformer

# What sentence-transformers' encode_query and encode_document look for among a model's prompts, in this order
_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}

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
        else the model's default prompt. "" if there is none.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.

    Examples
    --------
    >>> own_prompt(SentenceEmbeddingTransformer(prompt="Question: "), "query")
    'Question: '
    """
    plan = make_plan(embedder._settings())
    default = plan.family.prompt
    if embedder.prompt is not None or embedder.prompt_name is not None:
        return default
    prompts = plan.model.backend.defaults.prompts
    if any(prompts.get(name) for names in _NAMES.values() for name in names):
        # sentence-transformers adds an empty "document" to a model that has "passage"
        return next((str(prompts[name]) for name in _NAMES[side] if prompts.get(name)), "")
    name = embedder.model if isinstance(embedder.model, (str, os.PathLike)) else ""
    known = _OF_MODEL.get(os.path.basename(os.path.normpath(name)).lower())
    return default if known is None else known[side]
