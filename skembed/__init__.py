"""Sentence embeddings as a real part of scikit-learn and pandas.

The public names are loaded when they are first used: importing skembed loads neither torch nor transformers. What is
done at import is to register the accessors of pandas, and those of polars and Dask where they are there already.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skembed.classification.descriptions import NearestDescription
    from skembed.embedding import embed
    from skembed.encoding.cache.embedding_cache import EmbeddingCache, clear_cache
    from skembed.encoding.models.registry import unload_models
    from skembed.errors import (
        CacheError,
        CacheWarning,
        DestinationError,
        ModelChangedError,
        ModelNotFoundError,
        SavedSearchError,
        SkembedError,
        TruncationWarning,
    )
    from skembed.files.parquet import embed_parquet, read_parquet
    from skembed.finetuner import SentenceEmbeddingFineTuner
    from skembed.frames.batches import BatchEmbedder
    from skembed.frames.vectors import VectorArray, VectorDtype
    from skembed.plotting.embedding_map import EmbeddingMapDisplay
    from skembed.plotting.similarity import SimilarityDisplay
    from skembed.plotting.training_curve import TrainingCurveDisplay
    from skembed.precomputing import precompute
    from skembed.similarity.duplicates import NearDuplicates
    from skembed.similarity.pairs import PairSimilarity, similarity_score
    from skembed.similarity.search import SemanticSearch
    from skembed.transformer import SentenceEmbeddingTransformer

__version__ = "0.1.0.dev0"

__all__ = [
    "BatchEmbedder",
    "CacheError",
    "CacheWarning",
    "DestinationError",
    "EmbeddingCache",
    "EmbeddingMapDisplay",
    "ModelChangedError",
    "ModelNotFoundError",
    "NearDuplicates",
    "NearestDescription",
    "PairSimilarity",
    "SavedSearchError",
    "SemanticSearch",
    "SentenceEmbeddingFineTuner",
    "SentenceEmbeddingTransformer",
    "SimilarityDisplay",
    "SkembedError",
    "TrainingCurveDisplay",
    "TruncationWarning",
    "VectorArray",
    "VectorDtype",
    "clear_cache",
    "embed",
    "embed_parquet",
    "precompute",
    "read_parquet",
    "similarity_score",
    "unload_models",
]

_HOME_OF = {
    "BatchEmbedder": "skembed.frames.batches",
    "CacheError": "skembed.errors",
    "CacheWarning": "skembed.errors",
    "DestinationError": "skembed.errors",
    "EmbeddingCache": "skembed.encoding.cache.embedding_cache",
    "EmbeddingMapDisplay": "skembed.plotting.embedding_map",
    "ModelChangedError": "skembed.errors",
    "ModelNotFoundError": "skembed.errors",
    "NearDuplicates": "skembed.similarity.duplicates",
    "NearestDescription": "skembed.classification.descriptions",
    "PairSimilarity": "skembed.similarity.pairs",
    "SavedSearchError": "skembed.errors",
    "SemanticSearch": "skembed.similarity.search",
    "SentenceEmbeddingFineTuner": "skembed.finetuner",
    "SentenceEmbeddingTransformer": "skembed.transformer",
    "SimilarityDisplay": "skembed.plotting.similarity",
    "SkembedError": "skembed.errors",
    "TrainingCurveDisplay": "skembed.plotting.training_curve",
    "TruncationWarning": "skembed.errors",
    "VectorArray": "skembed.frames.vectors",
    "VectorDtype": "skembed.frames.vectors",
    "clear_cache": "skembed.encoding.cache.embedding_cache",
    "embed": "skembed.embedding",
    "embed_parquet": "skembed.files.parquet",
    "precompute": "skembed.precomputing",
    "read_parquet": "skembed.files.parquet",
    "similarity_score": "skembed.similarity.pairs",
    "unload_models": "skembed.encoding.models.registry",
}

importlib.import_module("skembed.frames.pandas")  # registers df.text, series.text and series.embed
if sys.modules.get("polars") is not None:
    importlib.import_module("skembed.frames.polars")  # the same there; import it by name where polars comes later
if sys.modules.get("dask.dataframe") is not None:
    importlib.import_module("skembed.frames.dask")  # likewise


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
