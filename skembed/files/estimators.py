"""Estimators that predict files: read from a file without pickle, and told apart from others.

Imports numpy, scikit-learn, joblib and the cache; skops when a file is read.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator

from skembed.encoding.cache.embedding_cache import EmbeddingCache
from skembed.encoding.models.fingerprint import sha256_file
from skembed.optional import require
from skembed.paths import read_path, refuse_special_file

# Types of skembed that a file may hold; a new one is added by name, never by its package.
TRUSTED = (
    "skembed.classification.classifier.SentenceEmbeddingClassifier",
    "skembed.clustering.topics.TopicModel",
    "skembed.finetuner.SentenceEmbeddingFineTuner",
    "skembed.similarity.duplicates.NearDuplicates",
    "skembed.similarity.pairs.PairSimilarity",
    "skembed.similarity.search.SemanticSearch",
    "skembed.transformer.SentenceEmbeddingTransformer",
)
CACHE_BYTES = 2**27  # enough for texts that recur in a stream
_WITHOUT_EFFECT = ("n_jobs", "verbose", "cache")  # parameters that change no prediction


def read_estimator(
    path: str | os.PathLike[str], *, trusted: Sequence[str] = (), trust_remote_code: bool, local_files_only: bool
) -> tuple[Any, str]:
    """Read an estimator that ``skops.io.dump`` has written.

    Parameters
    ----------
    path : path
    trusted : sequence of str
        Names of further types that the file may hold.
    trust_remote_code : bool
        Whether models in it may bring Python code of their own.
    local_files_only : bool
        Whether models in it are looked for on this machine alone.

    Returns
    -------
    estimator : estimator
        Vectors are cached in memory, up to 128 MiB for each embedder, whatever folder the file names.
    identity : str
        Digest of the file.

    Raises
    ------
    ImportError
        If skops is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a file of skops, or holds what is not trusted; the message names it.
    """
    skops = require("skops.io", extra="skops", needed_by="An estimator in a file")
    file = read_path(path, "estimator")
    refuse_special_file(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    try:
        types = skops.get_untrusted_types(file=file)
    except Exception as error:  # whatever a damaged archive raises
        raise ValueError(f"{file} is not a file that skops.io.dump has written.") from error
    trusted = [trusted] if isinstance(trusted, str) else trusted
    refused = [name for name in types if name not in TRUSTED and name not in trusted]
    if refused:
        raise ValueError(
            f"{file} holds types that are not trusted: {', '.join(refused)}. If you know where the file is from, name "
            f"them: trusted={tuple(refused)!r}."
        )
    estimator = skops.load(file, trusted=types)
    for embedder in _embedders_in(estimator):
        if embedder.trust_remote_code and not trust_remote_code:
            raise ValueError(
                f"The model {embedder.model!r} in {file} runs Python code of its own; trust_remote_code=True allows it."
            )
        embedder.set_params(cache=EmbeddingCache(max_bytes=CACHE_BYTES), local_files_only=local_files_only)
    return estimator, sha256_file(file)


def identity_of(estimator: Any) -> str:
    """Return a digest of a fitted estimator, the same in another process; parameters without effect do not count."""
    try:
        # An array may have other strides once it was in a pickle; all are hashed as they come out of one.
        digest: str = joblib.hash(pickle.loads(pickle.dumps(_essence(estimator))))  # noqa: S301 - it was made here
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"{type(estimator).__name__} cannot be told from others, because it cannot be pickled: {error} Define its "
            "functions in a module."
        ) from error
    return digest


def _essence(value: Any) -> Any:
    """Replace estimators by what determines their predictions, and models by their fingerprints."""
    if isinstance(value, dict):  # also a Bunch of scikit-learn, whose attributes are its items
        return {key: _essence(one) for key, one in value.items()}
    if isinstance(value, BaseEstimator) or _is_part_of_scikit_learn(value):
        state = _settings_of(value) if _is_embedder(value) else vars(value)
        kept = {name: _essence(one) for name, one in state.items() if name not in _WITHOUT_EFFECT}
        return type(value).__module__, type(value).__qualname__, kept
    if isinstance(value, np.ma.MaskedArray):  # which joblib cannot hash
        return _essence(value.filled().tolist()), value.mask
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [_essence(one) for one in value]
    return value


def _settings_of(embedder: Any) -> dict[str, Any]:
    """Return the parameters of an embedder, with the fingerprint of its model in place of a loaded one."""
    settings: dict[str, Any] = embedder.get_params(deep=False)
    if not isinstance(settings["model"], (str, os.PathLike)):
        del settings["model"]
    return {**settings, "model_fingerprint_": getattr(embedder, "model_fingerprint_", None)}


def _is_part_of_scikit_learn(value: Any) -> bool:
    """Return whether a value is an object of scikit-learn that is no estimator, but may hold some."""
    return type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__")


def _is_embedder(value: Any) -> bool:
    """Return whether a value is an estimator that loads a model; not one around it, such as a FrozenEstimator."""
    return isinstance(value, BaseEstimator) and "trust_remote_code" in vars(value)


def _embedders_in(root: Any) -> list[Any]:
    """Find the estimators that load a model, wherever they are in what was read from a file."""
    found, waiting, seen = [], [root], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, (str, bytes, int, float, type(None))):
            continue
        seen.add(id(value))
        if _is_embedder(value):
            found.append(value)
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value
        elif isinstance(value, np.ndarray) and value.dtype == object:
            waiting += value.ravel().tolist()
        waiting += getattr(value, "__dict__", {}).values()
    return found
