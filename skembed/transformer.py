"""The scikit-learn face of the encoder: ``SentenceEmbeddingTransformer``.

Imports scikit-learn and ``skembed.encoding``; loads no model library before a model is needed.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from skembed.encoding.encoder import encode
from skembed.encoding.plan import Plan, make_plan
from skembed.encoding.settings import Settings
from skembed.encoding.texts import Texts, read_texts
from skembed.errors import ModelChangedError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sklearn.utils import Tags

    from skembed.encoding.cache.embedding_cache import EmbeddingCache


# What stands before the fingerprint in the tag of a model that does not come from files
LIVE_MARK = "live:"  # a loaded model
TUNED_MARK = "tuned:"  # a fine-tuner's weights after training; saving them does not change the tag


class SentenceEmbeddingTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn a column of text into sentence embeddings.

    Each distinct text is encoded once per call, and not at all if its vector is in the cache: another classifier,
    another ``truncate_dim`` or another fold needs no second pass through the model. Each model is loaded once per
    process and shared by all clones, threads and calls. In return, vectors stay in memory, up to 1 GiB, until
    :func:`skembed.clear_cache`, and models until :func:`skembed.unload_models`. When a second pooling of the same
    texts is asked for, all poolings are cached, because one pass computes them; :func:`skembed.precompute` does the
    same for layers.

    Nothing is learned from the data, so ``transform`` works without ``fit``, and no fold can leak into another.

    Parameters
    ----------
    model : str, path or SentenceTransformer, default="all-MiniLM-L6-v2"
        Name on the Hugging Face hub, folder, or a loaded model. Clones share a loaded model, and it is never changed:
        for another ``device`` or ``dtype`` than its own, a copy is used.
    pooling : {"default", "mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"} or tuple of \
them, default="default"
        How the vectors of a text's tokens are pooled into one. "default": as the model does. For a tuple, the
        poolings are concatenated.
    layers : int or tuple of int, default=-1
        Hidden layer to pool: 0 is the input embeddings, -1 the last layer. The layers of a tuple are averaged first.
        Vectors of inner layers lie close together: put a StandardScaler between them and a classifier.
    normalize_embeddings : {"default"} or bool, default="default"
        Whether vectors are scaled to unit length. "default": as the model does. False also removes the model's own
        last Normalize step.
    truncate_dim : int, default=None
        Number of leading dimensions to keep, of each pooling if ``pooling`` names several. Vectors are normalized
        after they are truncated.
    prompt : str, default=None
        Prompt to put before each text. None: the one named by ``prompt_name``, that of the ``task``, or the model's
        default prompt.
    prompt_name : str, default=None
        Name of one of the model's own prompts, e.g. "query".
    task : {"query", "document"}, default=None
        What the texts are in a search, for models that embed queries and documents in different ways. It selects the
        prompt, the token limit and, in a model with a Router, the route, as ``encode_query`` and ``encode_document`` of
        sentence-transformers do. ``prompt`` and ``prompt_name`` replace the prompt alone.
    max_seq_length : int, default=None
        Most tokens of a text that are read, special tokens included. None: the model's own limit.
    long_texts : {"truncate", "mean", "error"}, default="truncate"
        How longer texts are treated. "truncate": they are truncated, with one TruncationWarning per call. "mean": they
        are split into consecutive windows of ``max_seq_length`` tokens, whose vectors are averaged with their token
        counts as weights. "error": raise a ValueError.
    missing : {"error", "empty", "zero", "nan"}, default="error"
        What becomes of a row without a text (None, NaN, NA, NaT, null): an error, the vector of the empty text, a
        vector of zeros, or a vector of NaN.
    device : str or list of str, default="auto"
        "cpu", "cuda", "cuda:1", "mps", or a list of devices of one kind, e.g. ["cuda:0", "cuda:1"]: each holds a copy
        of the model, and a free one computes the next batch. "auto": CUDA, else MPS, else the CPU; a loaded model
        stays where it is.
    backend : {"auto", "torch", "openvino"}, default="auto"
        Library that runs the model. "openvino" (extra ``openvino``) is faster on a CPU: the model is converted on first
        use and stored in the user's cache folder, so that the next process need not import torch. "auto": OpenVINO on
        a CPU if it is installed and the model is given by name or path, else torch. A model that OpenVINO cannot run
        is run by torch, with a warning.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the computation; the result is always float32. With torch, "auto" is float32 on CPU and MPS, and
        half precision on CUDA (bfloat16 if the weights are, else float16); a loaded model keeps its own. With OpenVINO,
        "auto" is bfloat16 if the processor supports it (AVX512-BF16 or AMX) and the vectors of a few texts stay the
        same (cosine of at least 0.9999), else float32.
    batch_tokens : int or "auto", default="auto"
        Most tokens in a batch, padding included.
    cache : {"memory", "disk"}, path, EmbeddingCache or None, default="memory"
        Where vectors are cached. "memory": in this process, up to 1 GiB. "disk" or a folder: for all processes, and
        after this one has ended; "disk" is a folder in the user's cache folder. None: not at all.
    revision : str, default=None
        Branch, tag or commit of a model on the hub.
    local_files_only : bool, default=False
        Whether to load the model from disk only, without asking the hub.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with a model from the hub.
    show_progress_bar : {"auto"} or bool, default="auto"
        "auto": show a bar if a call takes more than about two seconds, only in a terminal or notebook. True: show it
        anywhere, except for a call with one text to encode, such as a request to a deployed pipeline. The environment
        variable ``TQDM_DISABLE=1`` hides all bars.

    Attributes
    ----------
    embedding_dim_ : int
        Number of columns of the result.
    model_fingerprint_ : str
        Digest of the model's weights, tokenizer and configuration. A fitted transformer raises ModelChangedError for
        another model under the same name, also after it was pickled and loaded elsewhere.

    See Also
    --------
    skembed.embed : Embed texts in one call, without an estimator.
    skembed.precompute : Fill the cache for a whole grid search in one pass.
    skembed.EmbeddingCache : A separate cache, in memory or on disk.
    sklearn.feature_extraction.text.HashingVectorizer : Stateless features without a model.

    Notes
    -----
    Vectors are those of :meth:`sentence_transformers.SentenceTransformer.encode`, within 1e-5 in float32. For the
    method, see Reimers & Gurevych (2019), Sentence-BERT, https://arxiv.org/abs/1908.10084.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skembed import SentenceEmbeddingTransformer
    >>> texts = ["Where is my parcel?", "It has not arrived.", "I cannot log in.", "My password is refused."]
    >>> pipe = make_pipeline(SentenceEmbeddingTransformer(), LogisticRegression())
    >>> pipe.fit(texts, ["shipping", "shipping", "login", "login"]).predict(["The courier never came."])
    array(['shipping'], dtype='<U8')
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer = "all-MiniLM-L6-v2",
        *,
        pooling: str | tuple[str, ...] = "default",
        layers: int | tuple[int, ...] = -1,
        normalize_embeddings: Literal["default"] | bool = "default",
        truncate_dim: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        task: Literal["query", "document"] | None = None,
        max_seq_length: int | None = None,
        long_texts: Literal["truncate", "mean", "error"] = "truncate",
        missing: Literal["error", "empty", "zero", "nan"] = "error",
        device: str | list[str] = "auto",
        backend: Literal["auto", "torch", "openvino"] = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | Literal["auto"] = "auto",
        cache: Literal["memory", "disk"] | str | os.PathLike[str] | EmbeddingCache | None = "memory",
        revision: str | None = None,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
        show_progress_bar: Literal["auto"] | bool = "auto",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.layers = layers
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim
        self.prompt = prompt
        self.prompt_name = prompt_name
        self.task = task
        self.max_seq_length = max_seq_length
        self.long_texts = long_texts
        self.missing = missing
        self.device = device
        self.backend = backend
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.cache = cache
        self.revision = revision
        self.local_files_only = local_files_only
        self.trust_remote_code = trust_remote_code
        self.show_progress_bar = show_progress_bar

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn passes y to every step
        """Check the parameters and the texts, and load the model; nothing is learned from the texts.

        Parameters
        ----------
        X : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
            One text per row.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid, or an element is not a text; the message names its position.
        ModelNotFoundError
            If the model does not exist.
        """
        settings = self._settings()
        read_texts(X, missing=settings.missing)
        self._learn(make_plan(settings))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:  # noqa: ARG002
        """Fit and transform; the texts are read once.

        Parameters
        ----------
        X : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
            One text per row.
        y : ignored

        Returns
        -------
        ndarray of float32, shape (n_texts, embedding_dim)

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid, or an element is not a text; the message names its position.
        ModelNotFoundError
            If the model does not exist.

        Warns
        -----
        TruncationWarning
            If texts were truncated, with their number.
        """
        settings = self._settings()
        texts = read_texts(X, missing=settings.missing)
        return encode(texts, self._learn(make_plan(settings)))

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed texts.

        Parameters
        ----------
        X : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
            One text per row.

        Returns
        -------
        ndarray of float32, shape (n_texts, embedding_dim)
            C-contiguous; a frame after ``set_output``.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid, or an element is not a text; the message names its position.
        ModelNotFoundError
            If the model does not exist.
        ModelChangedError
            If the model has changed under the same name since ``fit``.

        Warns
        -----
        TruncationWarning
            If texts were truncated, once per call, with their number.
        """
        return self._embed_texts(read_texts(X, missing=self._settings().missing), self._plan())

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return the names of the output columns; works without ``fit``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (embedding_dim,)
            ``sentenceembeddingtransformer0``, ``sentenceembeddingtransformer1``, ...
        """
        prefix, dim = type(self).__name__.lower(), make_plan(self._settings()).finished_dim
        return np.array([f"{prefix}{column}" for column in range(dim)], dtype=object)

    def _embed_and_tag(self, X: Any, name: str) -> tuple[NDArray[np.float32], str]:
        """Embed texts; also return the tag of the model."""
        texts, plan = read_texts(X, missing=self._settings().missing, name=name), self._plan()
        return self._embed_texts(texts, plan), self._model_note(plan)

    def _embed_texts(self, texts: Texts, plan: Plan) -> NDArray[np.float32]:
        return encode(texts.filled() if self.missing == "empty" else texts, plan)

    def _plan(self) -> Plan:
        """Return the plan of a call; raise ModelChangedError if the model has changed since ``fit``."""
        plan = make_plan(self._settings())
        self._check_model(plan)
        return plan

    def _learn(self, plan: Plan) -> Plan:
        """Set the fitted attributes from a plan."""
        self.model_fingerprint_, self.embedding_dim_ = plan.model.fingerprint, plan.finished_dim
        self._fitted_model = None if plan.model.is_live else (self.model, self.revision)
        return plan

    def _model_note(self, plan: Plan | None = None) -> str:
        """Return the tag of the model: its name and the first digits of its fingerprint."""
        plan = plan or self._plan()
        if plan.model.is_live:  # the fingerprint of a loaded model never equals that of the files it came from
            return f"a loaded model {LIVE_MARK}{plan.model.fingerprint[:16]}"
        return f"{os.path.basename(os.path.normpath(plan.model.name))} {plan.model.fingerprint[:16]}"

    def _settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def _check_model(self, plan: Plan) -> None:
        """Raise ModelChangedError if the plan's model has the name of the one that was fitted, but is another."""
        fitted = getattr(self, "_fitted_model", None)  # None for a loaded model too, which may be changed
        if fitted is None or plan.model.is_live or fitted != (self.model, self.revision):
            return
        if plan.model.fingerprint != self.model_fingerprint_:
            raise ModelChangedError(
                f"model={self.model!r} is not the one this transformer was fitted with: its weights, tokenizer or "
                "configuration differ. Restore the old model, or fit again to accept the new one."
            )

    def __sklearn_clone__(self) -> Self:
        clone: Self = clone_sharing(self, "model")
        return clone

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing != "error"
        tags.transformer_tags.preserves_dtype = []  # the result is float32 whatever comes in
        tags.requires_fit = False
        return tags


def clone_sharing(estimator: Any, *names: str) -> Any:
    """Clone an estimator as scikit-learn does, but share some parameters instead of copying them.

    Parameters
    ----------
    estimator : estimator
    *names : str
        Parameters to share, such as a loaded model.

    Returns
    -------
    estimator
        Of the same class, not fitted.
    """
    without = object.__new__(type(estimator))  # not copy.copy, which copies a fitted model too (__getstate__)
    vars(without).update(vars(estimator), **dict.fromkeys(names))
    return BaseEstimator.__sklearn_clone__(without).set_params(**{name: getattr(estimator, name) for name in names})
