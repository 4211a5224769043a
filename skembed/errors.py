"""The package's own errors and warnings, and where warnings point. Imports nothing of the package.

Each derives from the built-in class that people already catch::

    SkembedError
    ├── CacheError          (OSError)     the folder or file of a cache cannot be used
    ├── DestinationError    (OSError)     a folder of embedded files cannot be continued
    ├── ModelNotFoundError  (OSError)     there is no such folder, package or hub model
    ├── ModelChangedError   (ValueError)  the estimator was fitted with another model
    └── SavedSearchError    (OSError)     a saved search is damaged or of another version
    CacheWarning            (UserWarning) vectors were computed but could not be stored
    TruncationWarning       (UserWarning) texts were longer than the model can read
"""

import sys
import warnings


class SkembedError(Exception):
    """Base class of skembed's own errors."""


class CacheError(SkembedError, OSError):
    """The folder of an embedding cache cannot be written to, or its file is damaged or not skembed's."""


class DestinationError(SkembedError, OSError):
    """A folder of embedded files holds something else, is being written to, or cannot be written to."""


class ModelNotFoundError(SkembedError, OSError):
    """The model is not a folder, not an installed package and cannot be read from the hub."""


class ModelChangedError(SkembedError, ValueError):
    """A model of the same name has other weights, tokenizer or configuration than at fit time."""


class SavedSearchError(SkembedError, OSError):
    """A file of a saved search is damaged or missing, or this version of skembed cannot read it."""


class CacheWarning(UserWarning):
    """The vectors are right but could not be stored; they will be computed again."""


class TruncationWarning(UserWarning):
    """Some texts are longer than ``max_seq_length`` tokens; only their beginning was embedded."""


_BETWEEN = ("skembed", "sklearn", "pandas")  # packages that may stand between the user's line and a warning


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's line: the first outside of skembed, scikit-learn and pandas.

    That is the line of ``estimator.fit``, but also of ``pipeline.fit``.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
