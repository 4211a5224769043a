"""The package's own errors and warnings; imports nothing.

Each is also the built-in that people already catch::

    SkembedError
    ├── ModelNotFoundError  (OSError)     no such folder, package or hub model
    └── ModelChangedError   (ValueError)  the weights are not those the estimator was fitted with
    TruncationWarning       (UserWarning) texts were longer than the model reads
"""


class SkembedError(Exception):
    """Base class of the errors that skembed raises on its own behalf."""


class ModelNotFoundError(SkembedError, OSError):
    """The model is neither a folder, nor an installed package, nor reachable on the hub."""


class ModelChangedError(SkembedError, ValueError):
    """A model of the same name has other weights, tokenizer or configuration than at fit time."""


class TruncationWarning(UserWarning):
    """Texts exceeded ``max_seq_length`` tokens and only their beginning was embedded."""
