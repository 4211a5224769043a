"""The package's own errors and warnings, and whom a warning is for; imports nothing of the package.

Each is also the built-in that people already catch::

    SkembedError
    ├── CacheError          (OSError)     the cache's folder or file cannot be used
    ├── DestinationError    (OSError)     a folder of embedded files cannot be gone on with
    ├── ModelNotFoundError  (OSError)     no such folder, package or hub model
    ├── ModelChangedError   (ValueError)  the weights are not those the estimator was fitted with
    └── SavedSearchError    (OSError)     a saved search is damaged or of another version
    CacheWarning            (UserWarning) vectors were computed but could not be kept
    TruncationWarning       (UserWarning) texts were longer than the model reads
"""

import sys


class SkembedError(Exception):
    """Base class of the errors that skembed raises on its own behalf."""


class CacheError(SkembedError, OSError):
    """The folder of an embedding cache cannot be written to, or its file is damaged or foreign."""


class DestinationError(SkembedError, OSError):
    """A folder of embedded files holds something else, is being written to, or cannot be written to."""


class ModelNotFoundError(SkembedError, OSError):
    """The model is neither a folder, nor an installed package, nor reachable on the hub."""


class ModelChangedError(SkembedError, ValueError):
    """A model of the same name has other weights, tokenizer or configuration than at fit time."""


class SavedSearchError(SkembedError, OSError):
    """A file of a saved search is damaged, missing, or not one that this version of skembed reads."""


class CacheWarning(UserWarning):
    """Vectors are right but could not be kept, so that they will be computed again."""


class TruncationWarning(UserWarning):
    """Texts exceeded ``max_seq_length`` tokens and only their beginning was embedded."""


_BETWEEN = ("skembed", "sklearn", "pandas")  # packages that may stand between the user's line and a warning


def level_of_user() -> int:
    """Count the frames from the caller, which warns, up to the first that is not of skembed or a package it extends.

    Returns
    -------
    int
        The ``stacklevel`` for :func:`warnings.warn`, with which the warning names the user's line, be it
        ``estimator.fit`` or ``pipeline.fit``.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    return level
