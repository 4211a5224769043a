"""Fine-tuning as a scikit-learn transformer: fit trains a model on labels or pairs, transform embeds texts with it.

Imports the transformer, the encoder and, when something is fitted, the training.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skembed.atomic import atomic_folder
from skembed.checks import is_same
from skembed.encoding.cache.embedding_cache import EmbeddingCache
from skembed.encoding.containers import read_columns
from skembed.encoding.encoder import encode
from skembed.encoding.forks import library_state
from skembed.encoding.long_texts import check_lengths
from skembed.encoding.models.devices import resolve_backend, resolve_devices
from skembed.encoding.models.fingerprint import FolderState, fingerprint_live
from skembed.encoding.models.registry import load_private
from skembed.encoding.plan import Plan, make_plan
from skembed.encoding.progress import without_bars
from skembed.encoding.settings import Settings
from skembed.encoding.texts import Texts, read_texts
from skembed.errors import ModelChangedError, warn_user
from skembed.optional import require
from skembed.paths import read_path
from skembed.training.data import TrainingData, make_examples, read_examples
from skembed.training.losses import ADAPTATIONS, find_doubt, name_loss
from skembed.training.saving import read_tuner, write_tuner
from skembed.training.settings import TrainingSettings
from skembed.transformer import TUNED_MARK, clone_sharing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sklearn.utils import Tags

    from skembed.encoding.models.loading import LoadedModel


class SentenceEmbeddingFineTuner(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Tune a sentence embedding model on your own labels or pairs, then embed texts with it.

    ``fit`` trains a private copy of the model with a loss of sentence-transformers. ``transform`` embeds a column of
    texts as :class:`SentenceEmbeddingTransformer` does, with the same cache. In a Pipeline with a classifier, each
    cross-validation fold tunes on its own training part. To install what fine-tuning needs:
    ``pip install 'skembed[openvino,train]'``.

    The shapes of X and y determine what is learned:

    ==========================  ===============================  ==================================================
    X                           y                                ``loss="auto"``
    ==========================  ===============================  ==================================================
    texts                       classes: strings or integers     "cosine_similarity" of pairs drawn from the classes
    texts                       several labels a row             "cosine_similarity" of pairs, as alike as their labels
    pairs, shape (n, 2)         scores: floats, on any scale     "cosent"
    pairs, shape (n, 2)         0 or 1: do they belong together  "contrastive"
    pairs, shape (n, 2)         classes, e.g. those of NLI       "softmax"
    pairs that belong together  None                             "multiple_negatives_ranking"
    triplets, shape (n, 3)      None                             "multiple_negatives_ranking"
    texts                       None                             the same, of each text with itself (SimCSE)
    ==========================  ===============================  ==================================================

    Several labels a row are lists, tuples or sets of strings or integers, or an indicator: an array, frame or sparse
    matrix of 0 and 1 with a column for each label.

    With ``loss="tsdae"`` or ``loss="mlm"`` the model is adapted to texts alone, e.g. to many texts of a domain before
    a few of them are labelled. These losses ignore y, so that they can stand in a Pipeline before a classifier.

    Parameters
    ----------
    model : str, path or SentenceTransformer, default="all-MiniLM-L6-v2"
        Model from which training starts, as for :class:`SentenceEmbeddingTransformer`. It is not changed.
    loss : "auto", str, loss object or class, default="auto"
        A name: "cosent", "cosine_similarity", "contrastive", "online_contrastive", "batch_all_triplet",
        "batch_hard_triplet", "batch_semi_hard_triplet", "batch_hard_soft_margin_triplet", "softmax",
        "multiple_negatives_ranking", "cached_multiple_negatives_ranking" (the same loss with less memory and more time;
        "auto" uses it for batches of 128 and more), "triplet", "tsdae" or "mlm". Triplet losses have a margin of 0.5.
        Several labels a row are learned by "cosine_similarity" and "cosent". Or a loss of sentence-transformers: an
        object, a class, or a :func:`functools.partial` of a class. A loss that has no name here receives X and y as
        they are, with classes as numbers and several labels as rows of 0 and 1.
    epochs : int, default=1
        Number of passes over the examples.
    batch_size : int, default=16
        Examples per step. If memory runs out, a batch is computed in parts.
    learning_rate : float, default=2e-5
        Peak learning rate; it decreases linearly to zero. Small models such as all-MiniLM-L6-v2 tolerate 1e-4.
    warmup_ratio : float, default=0.1
        Share of all steps in which the learning rate increases linearly, from 0 to below 1.
    weight_decay : float, default=0.0
        Weight decay of AdamW.
    n_pairs_per_text : int, default=20
        Number of pairs, 2 or more, drawn for each text with labels, by losses that compare pairs. Half of them are with
        texts of its class, or with texts that share a label with it, in turn for each of its labels; a text that is
        alone in its class has none of these. The other half are with texts of the other classes or sets of labels, each
        in its turn, so that rare ones get their share.
    lora_rank : int, default=None
        Train low-rank adapters of this rank instead of all weights, and merge them at the end. Adapters need less
        memory and a higher ``learning_rate``. Not with "tsdae".
    matryoshka_dims : sequence of int, default=None
        Dimensions after which ``truncate_dim`` may cut vectors: the loss is computed after each of them. Several
        poolings are then cut as one vector, as they were trained. Not with "softmax", "tsdae" and "mlm".
    validation_fraction : float, default=0.1
        Share of the examples that early stopping sets aside; of each class about this share, and never all.
    early_stopping : bool, default=False
        Whether to stop when the validation score has not improved for ``n_iter_no_change`` epochs, and to return to
        the best epoch.
    n_iter_no_change : int, default=3
        Number of epochs without improvement after which early stopping ends the training.
    checkpoint_dir : path, default=None
        Folder for checkpoints. An interrupted ``fit`` resumes from there, to the same result, when it is called again
        with the same data and parameters. Each training has a folder of its own in it, which is removed when the
        training ends; another process that starts the same training waits until then.
    random_state : int, RandomState or None, default=None
        Seed of the pairs, the order, the dropout and new layers. With an int, ``fit`` gives the same model again on the
        same machine.
    show_progress_bar : {"auto"} or bool, default="auto"
        As for :class:`SentenceEmbeddingTransformer`; the bar also shows the loss.
    pooling, prompt, prompt_name, task, max_seq_length
        As for :class:`SentenceEmbeddingTransformer`. The model is trained with them, and a saved model keeps them.
    normalize_embeddings, truncate_dim, long_texts, batch_tokens
        As for :class:`SentenceEmbeddingTransformer`, when texts are embedded. Training always truncates long texts.
    missing : {"error", "empty", "zero", "nan"}, default="error"
        As for :class:`SentenceEmbeddingTransformer`. With "zero" and "nan", examples with a missing text are left out
        of the training.
    device : str or list of str, default="auto"
        As for :class:`SentenceEmbeddingTransformer`; of several CUDA devices, training uses the first.
    backend : {"auto", "torch", "openvino"}, default="auto"
        What runs the tuned model when texts are embedded. "auto" is torch, which also trains: vectors are the same
        before and after the model is saved.
    revision, local_files_only, trust_remote_code
        As for :class:`SentenceEmbeddingTransformer`.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        As for :class:`SentenceEmbeddingTransformer`, when texts are embedded. Weights are trained in float32; CUDA
        devices that support bfloat16 compute products in it.
    cache : {"memory", "disk"}, path, EmbeddingCache or None, default="memory"
        As for :class:`SentenceEmbeddingTransformer`. A cache on disk requires a saved model: otherwise it would fill
        with vectors of models that nobody keeps.

    Attributes
    ----------
    model_ : SentenceTransformer
        The tuned model.
    loss_ : str
        Name of the loss, or of its class if it has no name here.
    history_ : DataFrame
        One row for each of about fifty parts of the training, and for each end of an epoch: ``step``, ``epoch``,
        ``loss`` (mean since the previous row), ``validation_score`` (at the end of an epoch, with ``early_stopping``;
        higher is better) and ``seconds`` since the start.
    n_iter_ : int
        Number of epochs that were run.
    embedding_dim_ : int
        Number of columns of the result.
    model_fingerprint_ : str
        Digest of the tuned model's weights, tokenizer and configuration.

    See Also
    --------
    skembed.TrainingCurveDisplay : Plot of ``history_``.
    skembed.PairSimilarity : Cosines of pairs; with a fine-tuner as its embedder it tunes on them.

    Notes
    -----
    Texts with class labels are trained as in SetFit (Tunstall et al., 2022, https://arxiv.org/abs/2209.11055), but
    each distinct text of a batch passes through the model once, in however many pairs it is. For training on pairs see
    Reimers & Gurevych (2019), https://arxiv.org/abs/1908.10084; for texts alone, SimCSE by Gao et al. (2021),
    https://arxiv.org/abs/2104.08821.

    With several labels a row, two texts are as alike as their labels overlap: the number of labels they share over the
    number of all labels they have, the coefficient of Jaccard (1912), as in the contrastive loss of Lin, Qin, Wang,
    Zhou & Yang (2023), https://arxiv.org/abs/2212.00552. It is the cosine that "cosine_similarity" learns.

    "tsdae" deletes 60 % of the tokens of a text, and a decoder rebuilds the text from the vector of what is left (Wang,
    Reimers & Gurevych, 2021, https://arxiv.org/abs/2104.06979). "mlm" hides 15 % of the tokens and guesses them, as in
    the pre-training of BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805); on texts of a domain see
    Gururangan et al. (2020), https://arxiv.org/abs/2004.10964. Decoder and head use the model's own weights as far as
    it has them; the others, new and random, are trained too, and not kept. Both are for models that begin with a
    transformer. "tsdae" needs one that transformers can also run as a decoder, such as BERT and RoBERTa, and vectors
    of its own number of dimensions; "mlm" needs a mask token. An error says so for other models.

    They are meant for models that were only pre-trained. A model that already compares texts well, such as the default
    one, forgets part of that: with 8 labelled examples a label, accuracy on Banking77 was 83.9 %, and 71.1 % ("tsdae")
    or 81.3 % ("mlm") after an adaptation to 5,000 texts of it (``benchmarks/adaptation.py``). Measure before and after.

    The validation score depends on the examples. For scores it is Spearman's correlation of cosines and scores. For
    pairs that belong together or not it is the average precision of their cosines; for texts with classes, that of
    pairs of a text set aside and one of training; with several labels, Spearman's correlation of the cosines of such
    pairs and the overlap of their labels. For triplets it is the share in the right order. Otherwise it is minus the
    loss.

    For "multiple_negatives_ranking" the other examples of a batch are negatives, so examples that share a text are put
    into different batches. If the most frequent text is in more examples than there would be batches, there are as many
    batches as it has examples, each of fewer examples.

    In a process started by a launcher such as ``torchrun``, the training is independent of the other processes: it uses
    one device and does not communicate.

    A pickle holds the tuned weights; after :meth:`save` it holds only the path, and the model is read from there.
    Objects passed as parameters, e.g. a loaded ``model`` or a loss, remain in the pickle.

    Examples
    --------
    >>> from skembed import SentenceEmbeddingFineTuner
    >>> texts = ["A lovely film.", "I enjoyed it.", "What a bore.", "I left early."] * 2
    >>> opinions = ["good", "good", "bad", "bad"] * 2
    >>> tuner = SentenceEmbeddingFineTuner(n_pairs_per_text=4, batch_size=8, random_state=0).fit(texts, opinions)
    >>> tuner.loss_, tuner.n_iter_, tuner.transform(["A dull evening."]).shape
    ('cosine_similarity', 1, (1, 384))
    """

    _tuned: Any  # the tuned SentenceTransformer; None after save, until model_ is read
    _saved: str | None  # folder of the saved model
    _loaded: tuple[Any, LoadedModel] | None  # the tuned model, ready to encode, and the settings it was loaded with

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
        y : column of length n_examples, or indicator of shape (n_examples, n_labels), default=None
            Classes, several labels a row, scores, or 0 and 1; see the table above. Ignored by "tsdae" and "mlm".

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, a text or a label is not what it must be, or there are too few examples. These errors are
            raised before the first step.
        ModelNotFoundError
            If the model does not exist.
        ImportError
            If datasets or accelerate is not installed.

        Warns
        -----
        UserWarning
            If memory ran out; the message gives the number of parts in which a batch is computed. If the examples, or
            some of them, teach nothing; the message says why. If the loss was 0 from the first step to the last.
        """
        settings, encoding = self._training_settings(), self._settings()
        self._fit(settings, encoding, read_examples(X, self._learned(y), missing=encoding.missing))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Train on texts, then embed them.

        Parameters
        ----------
        X : column of texts
        y : column of length n_texts, or indicator of shape (n_texts, n_labels), default=None

        Returns
        -------
        ndarray of float32, shape (n_texts, embedding_dim)

        Raises
        ------
        TypeError, ValueError
            As for ``fit`` and ``transform``, and if X has several columns.
        """
        n_columns = len(read_columns(X))
        if n_columns != 1:
            raise ValueError(
                f"X has {n_columns} columns, but fit_transform embeds one column of texts: call fit(X, y), then "
                "transform a column. PairSimilarity(SentenceEmbeddingFineTuner()) computes the cosines of pairs."
            )
        # Whatever transform would raise is raised before the training.
        self._check_cache(is_saved=False)
        encoding = self._settings()
        texts = read_texts(X, missing=encoding.missing)
        if encoding.long_texts == "error":
            check_lengths(texts, make_plan(encoding))
        self._fit(self._training_settings(), encoding, make_examples([texts], self._learned(y)))
        return self._embed_texts(texts)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed texts with the tuned model.

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
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a text is not what it must be; the message names the position. If the cache is on disk and the model is
            not saved.
        ModelNotFoundError, ModelChangedError
            If the model was saved, and its folder is gone or holds another model.

        Warns
        -----
        TruncationWarning
            If texts were truncated; one warning per call, with their number.
        """
        check_is_fitted(self)
        return self._embed_texts(read_texts(X, missing=self._settings().missing))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the tuned model as a folder of sentence-transformers, with safetensors.

        ``SentenceTransformer(path)`` and ``SentenceEmbeddingTransformer(path)`` load the model; :meth:`load` also
        restores this estimator, from a file ``fine_tuner.json`` in the folder. From then on this estimator reads the
        model from the folder, and a pickle of it holds the path instead of the weights.

        When a model that was trained with several poolings is loaded with ``pooling="default"``, ``truncate_dim`` cuts
        them as one vector; name the poolings to cut each of them.

        Parameters
        ----------
        path : path
            A new or empty folder, or the folder of a model, which is replaced at the end.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        FileExistsError
            If the folder holds something else.
        """
        check_is_fitted(self)
        folder = Path(os.path.abspath(read_path(path, "path")))
        is_model = (folder / "modules.json").is_file()
        if folder.exists() and not is_model and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{str(folder)!r} holds something that is not a model; save into a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as unfinished, without_bars():
            self.model_.save_pretrained(str(unfinished))
            state = FolderState(unfinished, trust_remote_code=self.trust_remote_code)
            write_tuner(unfinished, self, state.fingerprint if state.is_complete else None)
        fingerprint = state.fingerprint if state.is_complete else fingerprint_live(self.model_)
        # In one statement: an interrupt leaves either the model in memory or the one in the folder.
        self._saved, self.model_fingerprint_, self._tuned, self._loaded = str(folder), fingerprint, None, None

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, trust_remote_code: bool = False) -> Self:
        """Load a fitted fine-tuner from a folder that ``save`` wrote.

        Nothing is unpickled, and the model is read when it is first used.

        Parameters
        ----------
        path : path
            The folder.
        trust_remote_code : bool, default=False
            Parameter of the loaded fine-tuner, which the folder does not decide: whether Python code in the folder may
            run.

        Returns
        -------
        SentenceEmbeddingFineTuner
            Fitted, with the parameters of the one that was saved. JSON does not hold objects: in place of a loaded
            model it has the folder, of a loss its name or "auto", of a RandomState None. A file does not choose other
            folders either: in place of a ``checkpoint_dir`` it has None, and of a cache other than "memory" and "disk"
            a cache in memory.

        Raises
        ------
        FileNotFoundError
            If the folder holds no fine-tuner, but perhaps a model.
        ValueError
            If ``fine_tuner.json`` is damaged, or of another version of skembed, or the model has code of its own and
            ``trust_remote_code`` is False.
        ModelChangedError
            If the folder holds another model than the one that was saved with it.

        Warns
        -----
        UserWarning
            If the model, the loss or ``random_state`` was an object, or there was a ``checkpoint_dir``. It matters if
            the fine-tuner is fitted again.

        Examples
        --------
        >>> import tempfile
        >>> from skembed import SentenceEmbeddingFineTuner
        >>> texts = ["A lovely film.", "I enjoyed it.", "What a bore.", "I left early."]
        >>> tuner = SentenceEmbeddingFineTuner(n_pairs_per_text=2, batch_size=4).fit(texts, [1, 1, 0, 0])
        >>> folder = f"{tempfile.mkdtemp()}/tuned"
        >>> tuner.save(folder)
        >>> SentenceEmbeddingFineTuner.load(folder).transform(["A dull evening."]).shape
        (1, 384)
        """
        folder = Path(os.path.abspath(read_path(path, "path")))
        saved = read_tuner(folder)
        if unknown := sorted(set(saved.parameters) - set(cls._get_param_names())):
            raise ValueError(f"{folder} was saved by another version of skembed: {cls.__name__} has no {unknown[0]!r}.")
        tuner = cls(**{"model": str(folder), **saved.parameters, "trust_remote_code": trust_remote_code})
        state = FolderState(folder, trust_remote_code=trust_remote_code)
        if saved.fingerprint not in (None, state.fingerprint):
            if saved.fingerprint == FolderState(folder, trust_remote_code=True).fingerprint:  # which runs no code
                raise ValueError(f"The model in {folder} has code of its own. To run it, pass trust_remote_code=True.")
            raise ModelChangedError(_another_model(str(folder)))
        tuner._tuned, tuner._saved, tuner._loaded = None, str(folder), None
        for name, value in {**saved.attributes, "model_fingerprint_": state.fingerprint}.items():
            setattr(tuner, name, value)
        if not state.is_complete:
            tuner.model_fingerprint_ = make_plan(tuner._tuned_settings()).model.fingerprint
        if objects := [name for name in saved.replaced if name != "cache"]:
            kept = ", ".join(f"{name}={getattr(tuner, name)!r}" for name in objects)
            warn_user(f"A file does not hold objects. In their place the loaded fine-tuner has {kept}.")
        return tuner

    @property
    def model_(self) -> SentenceTransformer:
        """The tuned model; after ``save`` it is read from its folder on first use."""
        check_is_fitted(self)
        if self._tuned is None:
            self._tuned = self._read_saved()
        return cast("SentenceTransformer", self._tuned)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return the names of the columns of the result.

        Parameters
        ----------
        input_features : ignored
            Present for compatibility with scikit-learn.

        Returns
        -------
        ndarray of str, shape (embedding_dim,)
            ``sentenceembeddingfinetuner0``, ``sentenceembeddingfinetuner1``, ...
        """
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{column}" for column in range(self._plan().finished_dim)], dtype=object)

    def _learned(self, y: Any) -> Any:
        """Return what is learned of y: nothing by a loss for texts alone, which may stand before a classifier."""
        return None if isinstance(self.loss, str) and self.loss in ADAPTATIONS else y

    def _fit(self, settings: TrainingSettings, encoding: Settings, data: TrainingData) -> None:
        """Train on examples that were read, and warn about those that teach nothing."""
        loss_name = name_loss(settings.loss, data, settings.batch_size)
        doubt = find_doubt(data, loss_name, settings.batch_size)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        if doubt is not None:
            warn_user(doubt)
        from skembed.training.checkpoints import run_key
        from skembed.training.trainer import TrainingRun, train

        devices = encoding.device if isinstance(encoding.device, list) else [encoding.device]
        plan = make_plan(replace(encoding, device=devices[0], dtype="float32", backend="torch"))
        device = str(plan.model.backend.device)
        resolve_backend(encoding, [device, *devices[1:]], is_live=True)  # raises before rather than after the training
        _check_first_device(device)
        run = TrainingRun(plan, settings, loss_name, data, seed, self.show_progress_bar)
        tuned, history, n_epochs = train(run, run_key(settings, loss_name, plan, data, self.random_state))
        self._tuned, self._saved, self._loaded = tuned, None, None
        self.loss_, self.history_, self.n_iter_ = loss_name, history, n_epochs
        plan = self._plan()
        self.embedding_dim_, self.model_fingerprint_ = plan.finished_dim, plan.model.fingerprint
        self._trained_fingerprint = plan.model.fingerprint
        if doubt is None and (history["loss"].dropna() == 0).all():
            warn_user(
                "The loss was 0 from the first step to the last: the examples taught the model nothing, because it "
                f"already does what loss={loss_name!r} asks for. Pass harder examples, or another loss.",
            )

    def _read_saved(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        device = self._plan().model.backend.device  # the plan also checks that the folder holds the model
        with library_state(), without_bars():
            return SentenceTransformer(self._saved, device=str(device), trust_remote_code=self.trust_remote_code)

    def _embed_texts(self, texts: Texts, plan: Plan | None = None) -> NDArray[np.float32]:
        check_is_fitted(self)  # a search that was fitted with vectors has not fitted its embedder
        self._check_cache(is_saved=self._saved is not None)
        return encode(texts.filled() if self.missing == "empty" else texts, plan or self._plan())

    def _plan(self) -> Plan:
        """Return the plan of an encoding with the tuned model, which has adopted the settings it was trained with."""
        settings = self._tuned_settings()
        if self._saved is None:
            return make_plan(settings, self._load_tuned(settings))
        plan = make_plan(settings)
        if plan.model.fingerprint != self.model_fingerprint_:
            raise ModelChangedError(_another_model(self._saved))
        return plan

    def _tuned_settings(self) -> Settings:
        """Return the settings for the tuned model, in memory or in its folder."""
        own: dict[str, Any] = dict.fromkeys(("prompt", "prompt_name", "task", "max_seq_length"))
        if isinstance(self.pooling, str) or self.matryoshka_dims is not None:
            own["pooling"] = "default"  # several poolings stay named otherwise, so that truncate_dim cuts each of them
        if self._saved is None:
            return replace(self._settings(), model=self._tuned, **own)
        return replace(self._settings(), model=self._saved, revision=None, **own)

    def _model_note(self, plan: Plan | None = None) -> str | None:  # noqa: ARG002 - the weights decide
        """Return the name and fingerprint of the weights after the last training, saved or not; None before it."""
        trained = getattr(self, "_trained_fingerprint", None)
        return None if trained is None else f"a tuned model {TUNED_MARK}{trained[:16]}"

    def _load_tuned(self, settings: Settings) -> LoadedModel:
        """Load the tuned model for encoding, unless it is loaded already and unchanged."""
        key = (settings.device, settings.dtype, settings.backend)
        if self._loaded is None or self._loaded[0] != key or not self._loaded[1].is_current():
            # Not the device of the tuned weights: after unpickling that is the CPU, whatever device was asked for.
            given = None if isinstance(self.model, (str, os.PathLike)) else self.model
            devices = list(resolve_devices(settings.device, given))
            self._loaded = (key, load_private(self._tuned, replace(settings, device=devices)))
        return self._loaded[1]

    def _refuse_texts_alone(self) -> None:
        """Raise ValueError if an estimator is to train this embedder on texts without labels and the loss is "auto"."""
        if isinstance(self.loss, str) and self.loss == "auto":
            raise ValueError(
                "The embedder is a SentenceEmbeddingFineTuner that is not fitted, and the texts it would be trained on "
                "have no labels. Fit it on labelled texts first, and pass the fitted one. To train on the texts alone, "
                "choose a loss for that: 'tsdae', 'mlm' or 'multiple_negatives_ranking'."
            )

    def _check_cache(self, *, is_saved: bool) -> None:
        """Raise ValueError for a cache on disk, unless the model is saved."""
        path = self.cache.path if isinstance(self.cache, EmbeddingCache) else self.cache
        if not is_saved and path is not None and not is_same(path, "memory"):
            raise ValueError(
                f"cache={self.cache!r} is on disk, where vectors of a tuned model that is not saved would be of no use "
                "later. Call save(path) after fit, or pass cache='memory'."
            )

    def _training_settings(self) -> TrainingSettings:
        for module in ("accelerate", "datasets"):
            require(module, extra="train", needed_by=type(self).__name__)
        return TrainingSettings(**{field.name: getattr(self, field.name) for field in fields(TrainingSettings)})

    def _settings(self) -> Settings:
        given = {field.name: getattr(self, field.name) for field in fields(Settings) if field.name != "layers"}
        if self.backend == "auto":  # vectors are the same before and after the model is saved
            given["backend"] = "torch"
        return Settings(**given, layers=-1)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__()}
        if "_loaded" in state:
            state["_loaded"] = None
            state["_tuned"] = _copy_for_pickle(state["_tuned"]) if state["_saved"] is None else None
        return state

    def __sklearn_clone__(self) -> Self:
        clone: Self = clone_sharing(self, "model", "loss")  # training copies both
        return clone

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing != "error"
        tags.transformer_tags.preserves_dtype = []  # the result is float32 for any input
        tags.non_deterministic = self.random_state is None
        return tags


def _check_first_device(device: str) -> None:
    """Raise ValueError for a CUDA device other than the first, the only one that the trainer uses."""
    if device.startswith("cuda:") and device != "cuda:0":
        raise ValueError(
            f"device={device!r}: training uses the first visible CUDA device; choose it with the environment "
            "variable CUDA_VISIBLE_DEVICES, and pass device='cuda'."
        )


def _another_model(folder: str) -> str:
    return (
        f"The folder {folder!r} does not hold the model that was saved there: its weights, tokenizer or configuration "
        "differ. Restore it, or fit again."
    )


def _copy_for_pickle(model: Any) -> Any:
    """Copy a model to the CPU, without the hooks by which transformers reads hidden layers."""
    from skembed.compat import remove_capturing_hooks

    twin = copy.deepcopy(model).cpu()
    remove_capturing_hooks(twin)
    return twin
