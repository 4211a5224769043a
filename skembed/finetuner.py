"""Fine-tuning as a scikit-learn transformer: fits a model to labels or pairs, then embeds texts with it.

Imports scikit-learn, the encoder and the training data; torch, datasets and accelerate when something is fitted.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skembed.encoding.cache.embedding_cache import EmbeddingCache
from skembed.encoding.encoder import encode
from skembed.encoding.forks import library_state
from skembed.encoding.long_texts import check_lengths
from skembed.encoding.models.devices import resolve_backend, resolve_devices
from skembed.encoding.models.fingerprint import FolderState, fingerprint_live
from skembed.encoding.models.registry import load_private
from skembed.encoding.plan import Plan, make_plan
from skembed.encoding.progress import without_bars
from skembed.encoding.settings import Settings
from skembed.encoding.texts import Texts, read_columns, read_texts
from skembed.errors import ModelChangedError, level_of_user
from skembed.optional import require
from skembed.paths import read_path
from skembed.training.data import TrainingData, read_examples
from skembed.training.losses import describe_loss, doubt, name_loss
from skembed.training.settings import TrainingSettings
from skembed.transformer import TUNED_MARK, clone_sharing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sklearn.utils import Tags

    from skembed.encoding.backends.torch_backend import TorchBackend
    from skembed.encoding.models.registry import LoadedModel

_ORDER = 2  # of examples; a training that was interrupted under another one starts anew
_IN_KEY = (
    "pooling", "normalize_embeddings", "truncate_dim", "prompt", "prompt_name", "task", "max_seq_length", "missing",
)  # fmt: skip


class SentenceEmbeddingFineTuner(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Tune a sentence embedding model on your own labels or pairs, then embed texts with it.

    ``fit`` trains a private copy of the model with a loss of sentence-transformers; ``transform`` embeds a column of
    texts as :class:`SentenceEmbeddingTransformer` does, with the same cache. In a Pipeline with a classifier each fold
    tunes on its own training part. It needs datasets and accelerate: ``pip install 'skembed[train]'``.

    What it learns from is told by the shapes of X and y:

    ==========================  ===============================  ==================================================
    X                           y                                ``loss="auto"``
    ==========================  ===============================  ==================================================
    texts                       classes: strings or integers     "cosine_similarity" of pairs drawn from the classes
    pairs, shape (n, 2)         scores: floats, on any scale     "cosent"
    pairs, shape (n, 2)         0 or 1: do they belong together  "contrastive"
    pairs, shape (n, 2)         classes, e.g. those of NLI       "softmax"
    pairs that belong together  None                             "multiple_negatives_ranking"
    triplets, shape (n, 3)      None                             "multiple_negatives_ranking"
    texts                       None                             the same, of each text with itself (SimCSE)
    ==========================  ===============================  ==================================================

    Parameters
    ----------
    model : str, path or SentenceTransformer, default="all-MiniLM-L6-v2"
        What training starts from, as for :class:`SentenceEmbeddingTransformer`. It is never changed itself.
    loss : "auto", str, loss object or class, default="auto"
        By name: "cosent", "cosine_similarity", "contrastive", "online_contrastive", "batch_all_triplet",
        "batch_hard_triplet", "batch_semi_hard_triplet", "batch_hard_soft_margin_triplet", "softmax",
        "multiple_negatives_ranking", "cached_multiple_negatives_ranking" (the same in less memory and more time, which
        "auto" takes from batches of 128 on) or "triplet". Margins of triplet losses are 0.5. Or a loss of
        sentence-transformers: an object, its class, or a :func:`functools.partial` of the class. One
        without a name here gets X and y as they are, classes as numbers.
    epochs : int, default=1
        Times that each example is seen.
    batch_size : int, default=16
        Examples in a step. If memory runs out, a batch is computed in parts.
    learning_rate : float, default=2e-5
        At its peak; it falls linearly to zero. Small models such as all-MiniLM-L6-v2 stand 1e-4.
    warmup_ratio : float, default=0.1
        Share of all steps in which the learning rate rises linearly, from 0 to below 1.
    weight_decay : float, default=0.0
        Of AdamW.
    n_pairs_per_text : int, default=20
        2 or more: pairs drawn for each text with a class label, half of them within its class, for the losses that
        compare pairs.
    lora_rank : int, default=None
        Train low-rank adapters of this rank instead of all weights, and merge them in the end. It needs less memory
        and a higher ``learning_rate``.
    matryoshka_dims : sequence of int, default=None
        Dimensions after which ``truncate_dim`` may cut vectors: the loss is taken after each of them. Several poolings
        are then cut as one vector, as they were trained.
    validation_fraction : float, default=0.1
        Share of the examples that early stopping sets aside.
    early_stopping : bool, default=False
        Whether to stop when the validation score has not improved for ``n_iter_no_change`` epochs, and to return to
        the best epoch.
    n_iter_no_change : int, default=3
        Epochs.
    checkpoint_dir : path, default=None
        Folder for checkpoints: an interrupted ``fit`` goes on from there when it is called again with the same data
        and parameters, to the same result. Each training has a folder of its own there, which is removed when it ends;
        another process at the same training waits for that.
    random_state : int, RandomState or None, default=None
        Seeds the pairs, the order, the dropout and new layers. With an int, ``fit`` gives the same model again on the
        same machine.
    show_progress_bar : {"auto"} or bool, default="auto"
        As for :class:`SentenceEmbeddingTransformer`, with the loss.
    pooling, prompt, prompt_name, task, max_seq_length
        As for :class:`SentenceEmbeddingTransformer`; the model is trained with them, and keeps them when it is saved.
    normalize_embeddings, truncate_dim, long_texts, batch_tokens
        As for :class:`SentenceEmbeddingTransformer`, when texts are embedded. Training always cuts long texts.
    missing : {"error", "empty", "zero", "nan"}, default="error"
        As for :class:`SentenceEmbeddingTransformer`. Examples with a missing text are left out of the training where
        this is "zero" or "nan".
    device : str or list of str, default="auto"
        As for :class:`SentenceEmbeddingTransformer`; of several CUDA devices training takes the first.
    backend : {"auto", "torch", "openvino"}, default="auto"
        What runs the tuned model when texts are embedded. "auto" is torch, which trains it: then vectors stay the same
        when it is saved.
    revision, local_files_only, trust_remote_code
        As for :class:`SentenceEmbeddingTransformer`.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        As for :class:`SentenceEmbeddingTransformer`, when texts are embedded. Weights are trained in float32; on CUDA
        devices that have it, products are in bfloat16.
    cache : {"memory", "disk"}, path, EmbeddingCache or None, default="memory"
        As for :class:`SentenceEmbeddingTransformer`. A cache on disk is for a model that was saved: vectors of models
        that nobody keeps would fill it.

    Attributes
    ----------
    model_ : SentenceTransformer
        The tuned model.
    loss_ : str
        Name of the loss, or of its class if it has none here.
    history_ : DataFrame
        A row for each of some fifty parts of the training, and for each end of an epoch: ``step``, ``epoch``, ``loss``
        (mean since the row before), ``validation_score`` (where an epoch ends, with ``early_stopping``; higher is
        better) and ``seconds`` since the start.
    n_iter_ : int
        Epochs that were run.
    embedding_dim_ : int
        Number of columns of the result.
    model_fingerprint_ : str
        Digest of the tuned model's weights, tokenizer and configuration.

    See Also
    --------
    skembed.TrainingCurveDisplay : Draws ``history_``.
    skembed.PairSimilarity : With a fine-tuner as its embedder, tunes on pairs and gives their cosines.

    Notes
    -----
    Texts with class labels are trained in the manner of SetFit (Tunstall et al., 2022,
    https://arxiv.org/abs/2209.11055), but each distinct text of a batch goes through the model once, however many pairs
    it is in. The validation score is Spearman's correlation of cosines and scores; average precision of the cosines of
    pairs that belong together or not (for texts with classes: a text set aside and one of training); the share of
    triplets in the right order; else minus the loss. For training on pairs see Reimers & Gurevych (2019),
    https://arxiv.org/abs/1908.10084, for texts alone Gao et al. (2021), SimCSE, https://arxiv.org/abs/2104.08821.

    To "multiple_negatives_ranking" the other examples of a batch are negatives, so examples that share a text come to
    different batches: as many as the most frequent text has examples, if that is more than ``batch_size`` asks for, and
    of fewer examples each. In a process that a launcher such as ``torchrun`` has started, training is for that process
    alone: it uses one device and asks nothing of other processes.

    A pickle holds the tuned weights; after :meth:`save` only the path, and the model is read again from there. What was
    given as a parameter, e.g. a loaded ``model`` or a loss object, stays in it.

    Examples
    --------
    >>> from skembed import SentenceEmbeddingFineTuner
    >>> texts = ["A lovely film.", "I enjoyed it.", "What a bore.", "I left early."] * 2
    >>> opinions = ["good", "good", "bad", "bad"] * 2
    >>> tuner = SentenceEmbeddingFineTuner(n_pairs_per_text=4, batch_size=8, random_state=0).fit(texts, opinions)
    >>> tuner.loss_, tuner.n_iter_, tuner.transform(["A dull evening."]).shape
    ('cosine_similarity', 1, (1, 384))
    """

    _tuned: SentenceTransformer | None  # None after save, until it is asked for
    _saved: str | None  # the folder that it was saved in
    _held: tuple[Any, LoadedModel] | None  # it, ready to encode

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer = "all-MiniLM-L6-v2",
        *,
        loss: Any = "auto",
        epochs: int = 1,
        batch_size: int = 16,
        learning_rate: float = 2e-5,
        warmup_ratio: float = 0.1,
        weight_decay: float = 0.0,
        n_pairs_per_text: int = 20,
        lora_rank: int | None = None,
        matryoshka_dims: Sequence[int] | None = None,
        validation_fraction: float = 0.1,
        early_stopping: bool = False,
        n_iter_no_change: int = 3,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        show_progress_bar: Literal["auto"] | bool = "auto",
        pooling: str | tuple[str, ...] = "default",
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
    ) -> None:
        self.model = model
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warmup_ratio = warmup_ratio
        self.weight_decay = weight_decay
        self.n_pairs_per_text = n_pairs_per_text
        self.lora_rank = lora_rank
        self.matryoshka_dims = matryoshka_dims
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.checkpoint_dir = checkpoint_dir
        self.random_state = random_state
        self.show_progress_bar = show_progress_bar
        self.pooling = pooling
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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train a private copy of the model.

        Parameters
        ----------
        X : column of texts, or frame, array or list of rows with 2 or 3 columns of texts
            Texts, pairs or triplets (anchor, positive, negative).
        y : column of length n_examples, default=None
            Classes, scores or 0 and 1; see the table above.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, a text or a label is not what it must be, or there are too few examples. No step was
            trained then.
        ModelNotFoundError
            If there is no such model.
        ImportError
            If datasets or accelerate is not installed.

        Warns
        -----
        UserWarning
            If memory ran out, with the number of parts that a batch was computed in. If there is nothing to learn from
            the examples, or from some of them, and why. If the loss was 0 from the first step to the last.
        """
        for module in ("accelerate", "datasets"):
            require(module, extra="train", needed_by=type(self).__name__)
        settings = TrainingSettings(**{field.name: getattr(self, field.name) for field in fields(TrainingSettings)})
        encoding = self._settings()
        data = read_examples(X, y, missing=encoding.missing)
        loss_name = name_loss(settings.loss, data, settings.batch_size)
        message = doubt(data, loss_name, settings.batch_size)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        if message is not None:
            warnings.warn(message, UserWarning, stacklevel=level_of_user())
        self._train(settings, encoding, loss_name, data, seed)
        if message is None and (self.history_["loss"].dropna() == 0).all():
            warnings.warn(
                "The loss was 0 from the first step to the last, so the examples taught the model nothing: it already "
                f"does with them what loss={loss_name!r} asks for. Give harder examples, or another loss.",
                UserWarning,
                stacklevel=level_of_user(),
            )
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Train on texts, then embed them.

        Parameters
        ----------
        X : column of texts
        y : column of length n_texts, default=None

        Returns
        -------
        ndarray of float32, shape (n_texts, embedding_dim)

        Raises
        ------
        TypeError, ValueError
            As ``fit`` and ``transform`` do, and if X has several columns.
        """
        n_columns = len(read_columns(X))
        if n_columns != 1:
            raise ValueError(
                f"X has {n_columns} columns, and what is embedded is one column of texts: call fit(X, y), then "
                "transform a column. PairSimilarity(SentenceEmbeddingFineTuner()) gives the cosines of pairs."
            )
        # What transform would refuse is refused now rather than after the training.
        self._refuse_disk_cache(is_saved=False)
        settings = self._settings()
        texts = read_texts(X, missing=settings.missing)
        if settings.long_texts == "error":
            check_lengths(texts, make_plan(settings))
        return self.fit(X, y)._embed(X)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed texts with the tuned model.

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
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a text is not what it must be; the message names the position. Also with a cache on disk, for a model
            that was not saved.
        ModelNotFoundError, ModelChangedError
            If the model was saved, and its folder is gone or holds another one.

        Warns
        -----
        TruncationWarning
            If texts were longer than the model reads, once a call, with their number.
        """
        return self._embed(X)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the tuned model as a folder of sentence-transformers, with safetensors.

        ``SentenceTransformer(path)`` and ``SentenceEmbeddingTransformer(path)`` load it. From now on this estimator
        reads the model from there, and a pickle of it holds the path instead of the weights. Opened with
        ``pooling="default"``, the several poolings of a model's own are cut as one by ``truncate_dim``; name the
        poolings to have each cut.

        Parameters
        ----------
        path : path
            A new or empty folder, or that of a model, which is replaced in the end.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        FileExistsError
            If the folder holds something else.
        """
        check_is_fitted(self)
        folder = Path(os.path.abspath(read_path(path, "path")))
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _is_model(folder))):
            raise FileExistsError(f"{str(folder)!r} holds something that is no model; save into a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished, old = (folder.with_name(f".{folder.name}-{uuid4().hex}-{what}") for what in ("new", "old"))
        try:
            with without_bars():
                self.model_.save_pretrained(str(unfinished))
            if folder.exists():
                folder.rename(old)
            unfinished.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
        state = FolderState(folder, trust_remote_code=self.trust_remote_code)
        fingerprint = state.fingerprint if state.is_all else fingerprint_live(self.model_)
        # All at once: the vectors are those of the model in memory, or of the one in the folder.
        self._saved, self.model_fingerprint_, self._tuned, self._held = str(folder), fingerprint, None, None

    @property
    def model_(self) -> SentenceTransformer:
        """The tuned model; after ``save``, read again from its folder when it is asked for."""
        check_is_fitted(self)
        if self._tuned is None:
            self._tuned = self._read_saved()
        return self._tuned

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Name the columns of the result.

        Parameters
        ----------
        input_features : ignored
            There for compatibility with scikit-learn.

        Returns
        -------
        ndarray of str, shape (embedding_dim,)
            ``sentenceembeddingfinetuner0``, ``sentenceembeddingfinetuner1``, ...
        """
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{column}" for column in range(self._plan().finished_dim)], dtype=object)

    def _train(
        self, settings: TrainingSettings, encoding: Settings, loss_name: str, data: TrainingData, seed: int
    ) -> None:
        from skembed.training.model_setup import private_copy
        from skembed.training.trainer import Run, train

        devices = encoding.device if isinstance(encoding.device, list) else [encoding.device]
        plan = make_plan(replace(encoding, device=devices[0], dtype="float32", backend="torch"))
        found = [str(plan.model.backend.device), *devices[1:]]
        resolve_backend(encoding, found, is_live=True)  # fails now rather than later
        self._refuse_other_devices(plan)
        run = Run(lambda: private_copy(plan), settings, loss_name, data, seed, self.show_progress_bar)
        tuned = train(run, self._key(settings, loss_name, plan, data))
        self._tuned, self._saved, self._held = tuned.model, None, None
        self.loss_, self.history_, self.n_iter_ = loss_name, tuned.history, tuned.n_epochs
        plan = self._plan()
        self.embedding_dim_, self.model_fingerprint_ = plan.finished_dim, plan.model.fingerprint
        self._trained_fingerprint = plan.model.fingerprint

    def _refuse_other_devices(self, plan: Plan) -> None:
        device = cast("TorchBackend", plan.model.backend).device
        if device.type == "cuda" and device.index not in (None, 0):
            raise ValueError(
                f"device={str(device)!r}: training takes the first CUDA device that it sees; choose which with the "
                "environment variable CUDA_VISIBLE_DEVICES, and pass device='cuda'."
            )

    def _key(self, settings: TrainingSettings, loss_name: str, plan: Plan, data: TrainingData) -> str:
        """Digest all that a training's result depends on, but a seed that was drawn."""
        plain = asdict(replace(settings, loss=loss_name, checkpoint_dir=None))
        parts = [
            _ORDER,
            {**plain, "about_loss": describe_loss(settings.loss)},
            {name: getattr(self, name) for name in _IN_KEY},
            int(self.random_state) if isinstance(self.random_state, (int, np.integer)) else None,
            plan.model.fingerprint,
            data.columns,
            None if data.labels is None else data.labels.tolist(),
            None if data.classes is None else data.classes.tolist(),
        ]
        return hashlib.sha256(json.dumps(parts, default=repr).encode("utf-8", "surrogatepass")).hexdigest()

    def _read_saved(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        device = self._plan().model.backend.device  # the plan also looks whether the folder holds the model
        with library_state(), without_bars():
            return SentenceTransformer(self._saved, device=str(device), trust_remote_code=self.trust_remote_code)

    def _embed(self, X: Any, *, name: str = "X") -> NDArray[np.float32]:
        check_is_fitted(self)  # before the parameters are read, which may be invalid
        return self._embed_texts(read_texts(X, missing=self._settings().missing, name=name))

    def _embed_texts(self, texts: Texts, plan: Plan | None = None) -> NDArray[np.float32]:
        check_is_fitted(self)
        self._refuse_disk_cache(is_saved=self._saved is not None)
        return encode(texts.filled() if self.missing == "empty" else texts, plan or self._plan())

    def _plan(self) -> Plan:
        """Plan an encoding with the tuned model, which pools and cuts texts in its own way by now."""
        own: dict[str, Any] = dict.fromkeys(("prompt", "prompt_name", "task", "max_seq_length"))
        if isinstance(self.pooling, str) or self.matryoshka_dims is not None:
            own["pooling"] = "default"  # else several are still named, as truncate_dim cuts each of them
        if self._saved is None:
            settings = replace(self._settings(), model=self.model_, **own)
            return make_plan(settings, self._hold(settings))
        plan = make_plan(replace(self._settings(), model=self._saved, revision=None, **own))
        if plan.model.fingerprint != self.model_fingerprint_:
            raise ModelChangedError(
                f"The folder {self._saved!r} does not hold the model that was saved there: its weights, tokenizer or "
                "configuration differ. Bring it back, or fit again."
            )
        return plan

    def _model_note(self, plan: Plan | None = None) -> str | None:  # noqa: ARG002 - of the last training
        """Name the weights that the last training gave, saved or not; None before it."""
        trained = getattr(self, "_trained_fingerprint", None)
        return None if trained is None else f"a tuned model {TUNED_MARK}{trained[:16]}"

    def _hold(self, settings: Settings) -> LoadedModel:
        key = (settings.device, settings.dtype, settings.backend)
        if self._held is None or self._held[0] != key or not self._held[1].is_current():
            # Not where the tuned weights are: after unpickling that is the CPU, whatever device was meant.
            given = None if isinstance(self.model, (str, os.PathLike)) else self.model
            devices = list(resolve_devices(settings.device, given))
            self._held = (key, load_private(self.model_, replace(settings, device=devices)))
        return self._held[1]

    def _refuse_texts_alone(self) -> None:
        """Refuse to be trained, as the embedder of an estimator, on texts without labels that nobody meant for it."""
        if isinstance(self.loss, str) and self.loss == "auto":
            raise ValueError(
                "The embedder is a SentenceEmbeddingFineTuner that is not fitted, and the texts it would be trained on "
                "have no labels. Fit it on labelled texts first, and pass the fitted one. To train on the texts alone, "
                "choose a loss for that, e.g. loss='multiple_negatives_ranking'."
            )

    def _refuse_disk_cache(self, *, is_saved: bool) -> None:
        in_memory = self.cache is None or (isinstance(self.cache, str) and self.cache == "memory")
        if isinstance(self.cache, EmbeddingCache):
            in_memory = self.cache.path is None
        if not in_memory and not is_saved:
            raise ValueError(
                f"cache={self.cache!r} is on disk, where vectors of a tuned model that is not saved would stay without "
                "use. Call save(path) after fit, or pass cache='memory'."
            )

    def _settings(self) -> Settings:
        given = {field.name: getattr(self, field.name) for field in fields(Settings) if field.name != "layers"}
        if self.backend == "auto":  # a tuned model gives the same vectors before it is saved and after
            given["backend"] = "torch"
        return Settings(**given, layers=-1)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__()}
        if "_held" in state:
            state["_held"] = None
            state["_tuned"] = _for_pickle(state["_tuned"]) if state["_saved"] is None else None
        return state

    def __sklearn_clone__(self) -> Self:
        clone: Self = clone_sharing(self, "model", "loss")  # of a loss, too, training takes a copy
        return clone

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing != "error"
        tags.transformer_tags.preserves_dtype = []  # the result is float32 whatever comes in
        tags.non_deterministic = self.random_state is None
        return tags


def _for_pickle(model: Any) -> Any:
    """Copy a model to the processor, without the hooks that transformers sets to read hidden layers."""
    from skembed.encoding.backends.torch_backend import remove_capturing_hooks

    twin = copy.deepcopy(model).cpu()
    remove_capturing_hooks(twin)
    return twin


def _is_model(folder: Path) -> bool:
    return (folder / "modules.json").is_file()
