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


LIVE_MARK = "live:"  # before the fingerprint of a loaded model in a note beside its vectors
TUNED_MARK = "tuned:"  # before that of a fine-tuner's weights when they were trained, which saving does not change


class SentenceEmbeddingTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn a column of text into sentence embeddings.

    Each distinct text is encoded once a call, and not at all when its vector is still in the cache: trying another
    classifier, another ``truncate_dim`` or another fold costs no second pass through the model. One copy of a model
    is loaded per process and shared by all clones, threads and calls. The price: vectors stay in memory, up to
    1 GiB, until :func:`skembed.clear_cache`; models until :func:`skembed.unload_models`. A second pooling of the same
    texts caches all poolings, because they come out of the same pass; :func:`skembed.precompute` does so for layers.

    Nothing is learned from the data, so ``transform`` works without ``fit``, and no fold can leak into another.

    Parameters
    ----------
    model : str, path or SentenceTransformer, default="all-MiniLM-L6-v2"
        Name on the Hugging Face hub, folder, or a loaded model. A loaded model is shared by clones and never changed;
        another ``device`` or ``dtype`` than its own takes a copy.
    pooling : {"default", "mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"} or tuple of \
them, default="default"
        How the vectors of a text's tokens become one. "default" is the model's own way. A tuple concatenates.
    layers : int or tuple of int, default=-1
        Hidden layer to pool: 0 is the input embeddings, -1 the last layer. Those of a tuple are averaged first. Vectors
        of inner layers lie close together: put a StandardScaler between them and a classifier.
    normalize_embeddings : {"default"} or bool, default="default"
        Whether vectors get unit length. "default": as the model says. False also removes the model's own last
        Normalize step.
    truncate_dim : int, default=None
        Keep the first so many dimensions, of each pooling where ``pooling`` names several; a result that is to be
        normalised is normalised after the cut.
    prompt : str, default=None
        Put before every text. None: the prompt that ``prompt_name`` names, that of the ``task``, or the model's default
        prompt.
    prompt_name : str, default=None
        Name of one of the model's own prompts, e.g. "query".
    task : {"query", "document"}, default=None
        What the texts are in a search, for models that embed questions and documents in different ways: their prompt,
        their limit of tokens and, in a model with a Router, their route, as ``encode_query`` and ``encode_document`` of
        sentence-transformers take them. ``prompt`` and ``prompt_name`` replace the prompt alone.
    max_seq_length : int, default=None
        Most tokens of a text that are read, special tokens included. None: the model's own limit.
    long_texts : {"truncate", "mean", "error"}, default="truncate"
        What happens to longer texts. "truncate": they are cut, with one TruncationWarning a call. "mean": they are
        split into consecutive windows of ``max_seq_length`` tokens, whose vectors are averaged with their token
        counts as weights. "error": a ValueError.
    missing : {"error", "empty", "zero", "nan"}, default="error"
        What happens to a row without a text (None, NaN, NA, NaT, null): an error, the vector of the empty text,
        a vector of zeros or one of NaN.
    device : str or list of str, default="auto"
        "cpu", "cuda", "cuda:1", "mps", or a list of devices of one kind, e.g. ["cuda:0", "cuda:1"]: each holds a copy
        of the model, and whichever is free takes the next batch. "auto" takes CUDA, then MPS, then the CPU; a loaded
        model stays where it is.
    backend : {"auto", "torch", "openvino"}, default="auto"
        What runs the model. "openvino", with the extra of that name, is the faster one on a CPU: the model is converted
        when it is first used, and kept among the user's caches, so that the next process need not import torch. "auto"
        takes it on a CPU, where it is installed, for models given by name or path. A model that OpenVINO cannot run is
        run by torch, with a warning.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the computation; the result is always float32. With torch, "auto" is float32 on CPU and MPS, and
        half precision on CUDA (bfloat16 if the weights are, else float16); a loaded model keeps its own. With OpenVINO,
        "auto" is bfloat16 where the processor has it (AVX512-BF16 or AMX) and the vectors of a few texts stay the same
        (cosine 0.9999 at least), else float32.
    batch_tokens : int or "auto", default="auto"
        Most tokens in a batch, padding included.
    cache : {"memory", "disk"}, path, EmbeddingCache or None, default="memory"
        Where vectors are kept for the next call. "memory": in this process, up to 1 GiB. "disk" or a folder: for all
        processes, and for the next one too; "disk" is a folder among the user's caches. None: nowhere.
    revision : str, default=None
        Branch, tag or commit of a model on the hub.
    local_files_only : bool, default=False
        Whether to load from disk only.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with a model from the hub.
    show_progress_bar : {"auto"} or bool, default="auto"
        "auto" shows a bar once a call takes more than about two seconds, on a terminal or in a notebook; True shows one
        anywhere, but for a call with one text to encode, such as a request to a pipeline that was saved. The
        environment variable ``TQDM_DISABLE=1`` hides all bars.

    Attributes
    ----------
    embedding_dim_ : int
        Number of columns of the result.
    model_fingerprint_ : str
        Digest of the model's weights, tokenizer and configuration. A fitted transformer, also one that was pickled
        and loaded elsewhere, refuses another model under the same name.

    See Also
    --------
    skembed.embed : The same in one call, without an estimator.
    skembed.precompute : Fills the cache for a whole grid search in one pass.
    skembed.EmbeddingCache : A cache of your own, in memory or on disk.
    sklearn.feature_extraction.text.HashingVectorizer : Stateless features without a model.

    Notes
    -----
    Vectors are those of :meth:`sentence_transformers.SentenceTransformer.encode`, to 1e-5 in float32. For the method
    see Reimers & Gurevych (2019), Sentence-BERT, https://arxiv.org/abs/1908.10084.

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
        """Check the parameters and the texts, and load the model; nothing is learned.

        Parameters
        ----------
        X : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
            One text a row.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or a text is not what it must be; the message names the position.
        ModelNotFoundError
            If there is no such model.
        """
        settings = self._settings()
        read_texts(X, missing=settings.missing)
        self._learn(make_plan(settings))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:  # noqa: ARG002
        """Do what ``fit(X).transform(X)`` does, reading the texts once.

        Parameters
        ----------
        X : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
            One text a row.
        y : ignored

        Returns
        -------
        ndarray of float32, shape (n_texts, embedding_dim)

        Raises
        ------
        TypeError, ValueError
            If a parameter or a text is not what it must be; the message names the position.
        ModelNotFoundError
            If there is no such model.

        Warns
        -----
        TruncationWarning
            If texts were longer than the model reads, with their number.
        """
        settings = self._settings()
        texts = read_texts(X, missing=settings.missing)
        return encode(texts, self._learn(make_plan(settings)))

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed texts.

        Parameters
        ----------
        X : list, tuple, ndarray, Series, Index, one-column frame, polars Series or pyarrow array of str
            One text a row.

        Returns
        -------
        ndarray of float32, shape (n_texts, embedding_dim)
            C-contiguous; a frame if ``set_output`` says so.

        Raises
        ------
        TypeError, ValueError
            If a parameter or a text is not what it must be; the message names the position.
        ModelNotFoundError
            If there is no such model.
        ModelChangedError
            If the transformer was fitted, and its model has since changed under the same name.

        Warns
        -----
        TruncationWarning
            If texts were longer than the model reads, once a call, with their number.
        """
        return self._embed(X)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Name the columns of the result; works without ``fit``.

        Parameters
        ----------
        input_features : ignored
            There for compatibility with scikit-learn.

        Returns
        -------
        ndarray of str, shape (embedding_dim,)
            ``sentenceembeddingtransformer0``, ``sentenceembeddingtransformer1``, ...
        """
        prefix, dim = type(self).__name__.lower(), make_plan(self._settings()).finished_dim
        return np.array([f"{prefix}{column}" for column in range(dim)], dtype=object)

    def _embed(self, X: Any, *, name: str = "X") -> NDArray[np.float32]:
        return self._embed_texts(read_texts(X, missing=self._settings().missing, name=name), self._plan())

    def _embed_texts(self, texts: Texts, plan: Plan) -> NDArray[np.float32]:
        return encode(texts.filled() if self.missing == "empty" else texts, plan)

    def _plan(self) -> Plan:
        """Plan a call; raise ModelChangedError if the model is not the one that ``fit`` saw."""
        plan = make_plan(self._settings())
        self._check_model(plan)
        return plan

    def _learn(self, plan: Plan) -> Plan:
        """Remember which model the plan is of, as ``fit`` does."""
        self.model_fingerprint_, self.embedding_dim_ = plan.model.fingerprint, plan.finished_dim
        self._fitted_model = None if plan.model.is_live else (self.model, self.revision)
        return plan

    def _model_note(self, plan: Plan | None = None) -> str:
        """Return the name and fingerprint of the model, short enough to be kept beside its vectors."""
        plan = plan or self._plan()
        if plan.model.is_live:  # its fingerprint is of another kind than that of files, and never agrees with one
            return f"a loaded model {LIVE_MARK}{plan.model.fingerprint[:16]}"
        return f"{os.path.basename(os.path.normpath(plan.model.name))} {plan.model.fingerprint[:16]}"

    def _settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def _check_model(self, plan: Plan) -> None:
        """Compare with the model that ``fit`` saw, for as long as the same name is asked for."""
        named = getattr(self, "_fitted_model", None)  # None too for a loaded model, which is what it is
        if named is None or plan.model.is_live or named != (self.model, self.revision):
            return
        if plan.model.fingerprint != self.model_fingerprint_:
            raise ModelChangedError(
                f"model={self.model!r} is not the one this transformer was fitted with: its weights, tokenizer or "
                "configuration differ. Bring the old model back, or fit again to accept the new one."
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
    """Clone as scikit-learn does, but share some parameters, such as a loaded model, instead of copying them."""
    stand_in = object.__new__(type(estimator))
    stand_in.__dict__.update(estimator.__dict__)
    for name in names:
        setattr(stand_in, name, "shared")
    clone = BaseEstimator.__sklearn_clone__(stand_in)
    for name in names:
        setattr(clone, name, getattr(estimator, name))
    return clone
