"""Sentence embeddings as a real part of scikit-learn and pandas.

The public names are loaded when they are first used, so importing skembed loads neither torch nor transformers. The
import registers the accessors of pandas, and those of polars and Dask if they are imported already.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from skembed import errors

if TYPE_CHECKING:  # for type checkers, which do not read the table below
    from skembed.classification.classifier import SentenceEmbeddingClassifier as SentenceEmbeddingClassifier
    from skembed.clustering.topics import TopicModel as TopicModel
    from skembed.embedding import embed as embed
    from skembed.encoding.cache.embedding_cache import EmbeddingCache as EmbeddingCache
    from skembed.encoding.cache.embedding_cache import clear_cache as clear_cache
    from skembed.encoding.models.registry import unload_models as unload_models
    from skembed.errors import CacheError as CacheError
    from skembed.errors import CacheWarning as CacheWarning
    from skembed.errors import DestinationError as DestinationError
    from skembed.errors import ModelChangedError as ModelChangedError
    from skembed.errors import ModelNotFoundError as ModelNotFoundError
    from skembed.errors import SavedSearchError as SavedSearchError
    from skembed.errors import SkembedError as SkembedError
    from skembed.errors import TruncationWarning as TruncationWarning
    from skembed.files.parquet import embed_parquet as embed_parquet
    from skembed.files.parquet import predict_parquet as predict_parquet
    from skembed.files.parquet import read_parquet as read_parquet
    from skembed.finetuner import SentenceEmbeddingFineTuner as SentenceEmbeddingFineTuner
    from skembed.frames.batches import BatchEmbedder as BatchEmbedder
    from skembed.frames.vectors import VectorArray as VectorArray
    from skembed.frames.vectors import VectorDtype as VectorDtype
    from skembed.plotting.embedding_map import EmbeddingMapDisplay as EmbeddingMapDisplay
    from skembed.plotting.similarity import SimilarityDisplay as SimilarityDisplay
    from skembed.plotting.threshold import ThresholdDisplay as ThresholdDisplay
    from skembed.plotting.topic_map import TopicMapDisplay as TopicMapDisplay
    from skembed.plotting.topic_sizes import TopicSizesDisplay as TopicSizesDisplay
    from skembed.plotting.training_curve import TrainingCurveDisplay as TrainingCurveDisplay
    from skembed.precomputing import precompute as precompute
    from skembed.similarity.duplicates import NearDuplicates as NearDuplicates
    from skembed.similarity.pairs import PairSimilarity as PairSimilarity
    from skembed.similarity.pairs import similarity_score as similarity_score
    from skembed.similarity.search import SemanticSearch as SemanticSearch
    from skembed.similarity.thresholds import choose_threshold as choose_threshold
    from skembed.transformer import SentenceEmbeddingTransformer as SentenceEmbeddingTransformer

__version__ = "0.1.0.dev0"

_NAMES_IN = {
    "skembed.classification.classifier": ("SentenceEmbeddingClassifier",),
    "skembed.clustering.topics": ("TopicModel",),
    "skembed.embedding": ("embed",),
    "skembed.encoding.cache.embedding_cache": ("EmbeddingCache", "clear_cache"),
    "skembed.encoding.models.registry": ("unload_models",),
    "skembed.errors": [name for name, value in vars(errors).items() if isinstance(value, type)],
    "skembed.files.parquet": ("embed_parquet", "predict_parquet", "read_parquet"),
    "skembed.finetuner": ("SentenceEmbeddingFineTuner",),
    "skembed.frames.batches": ("BatchEmbedder",),
    "skembed.frames.vectors": ("VectorArray", "VectorDtype"),
    "skembed.plotting.embedding_map": ("EmbeddingMapDisplay",),
    "skembed.plotting.similarity": ("SimilarityDisplay",),
    "skembed.plotting.threshold": ("ThresholdDisplay",),
    "skembed.plotting.topic_map": ("TopicMapDisplay",),
    "skembed.plotting.topic_sizes": ("TopicSizesDisplay",),
    "skembed.plotting.training_curve": ("TrainingCurveDisplay",),
    "skembed.precomputing": ("precompute",),
    "skembed.similarity.duplicates": ("NearDuplicates",),
    "skembed.similarity.pairs": ("PairSimilarity", "similarity_score"),
    "skembed.similarity.search": ("SemanticSearch",),
    "skembed.similarity.thresholds": ("choose_threshold",),
    "skembed.transformer": ("SentenceEmbeddingTransformer",),
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names}

__all__ = sorted(_MODULE_OF)

importlib.import_module("skembed.frames.pandas")  # registers df.text, series.text and series.embed
if sys.modules.get("polars") is not None:
    importlib.import_module("skembed.frames.polars")  # import this one by name if polars is imported later
if sys.modules.get("dask.dataframe") is not None:
    importlib.import_module("skembed.frames.dask")  # likewise


def __getattr__(name: str) -> Any:
    if name == "text":  # the verbs as functions; not in __all__, because texts are often called so
        return importlib.import_module("skembed.text")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
