"""Semantic search: the nearest documents of each query, as a table, as positions or as features.

Imports scikit-learn, the embedders, and the documents, neighbours, prompts and saving beside it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_choice, check_count
from skembed.embedders import (
    embed_column,
    embed_like,
    model_tag,
    plan_of,
    read_column_for,
    refuse_guess,
    resolve_embedder,
)
from skembed.encoding.columns import Column, as_column
from skembed.encoding.labels import read_labels
from skembed.encoding.models.registry import get_model
from skembed.encoding.plan import Plan
from skembed.encoding.vectors import holds_vectors
from skembed.errors import ModelNotFoundError, warn_user
from skembed.optional import require
from skembed.similarity.documents import Documents
from skembed.similarity.linking import link
from skembed.similarity.neighbours import ExactIndex, HnswIndex, VectorIndex
from skembed.similarity.prompts import check_prompt, own_prompt, plan_side
from skembed.similarity.saving import PARAMETERS, SavedSearch, load_search, save_search
from skembed.transformer import SentenceEmbeddingTransformer

_INDEXES: dict[str, Callable[[NDArray[np.float32]], ExactIndex | HnswIndex]] = {
    "auto": ExactIndex,
    "hnsw": HnswIndex.from_vectors,
}


class SemanticSearch(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Find the documents of a corpus that are nearest in meaning to a query.

    The nearest document has the largest cosine; of equal ones, the first in the corpus. Queries and documents are
    embedded by the same model, queries with ``task="query"`` and documents with ``task="document"``: that selects their
    prompts and, in a model with a Router, their routes. If the embedder's own ``task`` is set, it is used for both.

    Parameters
    ----------
    embedder : transformer, default=None
        Embeds queries and documents; None: a :class:`SentenceEmbeddingTransformer`, but texts beside vectors that do
        not say which model made them are refused. With ``missing="nan"``, documents without a text are never found. A
        fitted embedder is used as it is; any other is cloned, and fitted on the documents and y. If a fine-tuner was
        fitted again since, to other weights, a ValueError is raised.
    n_neighbors : int, default=5
        Number of neighbours to find, unless a call gives another.
    index : {"auto", "hnsw"}, default="auto"
        "auto": compare all documents, with faiss if it is installed and scikit-learn otherwise. "hnsw": search a graph
        of neighbours (faiss) that finds nearly all of them in a fraction of the time, for millions of documents.
    query_prompt, document_prompt : str or None, default="default"
        Prompt to put before each query and each document; None: no prompt. "default": the model's own prompt for
        queries and for documents, from its files; those of the E5 (English and multilingual) and English BGE models are
        known by their names. If the embedder's ``prompt`` or ``prompt_name`` is set, it is used for both.

    Attributes
    ----------
    corpus_ : DataFrame
        The documents under their index labels, in the column ``text`` (None if vectors were given).
    embedder_ : transformer
        The embedder of the queries.
    query_prompt_, document_prompt_ : str
        The prompts that are put before each query and each document.
    classes_ : ndarray, shape (n_classes,)
        The labels, sorted; only if ``fit`` was given labels.
    vectors_ : ndarray of float32, shape (n_documents, dim)
        The vectors of the documents, of unit length; NaN for documents without a text. A copy, made when it is read.
    y_ : ndarray, shape (n_documents,), or None
        The target that ``fit`` was given.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : Nearest neighbours of numeric features.

    Notes
    -----
    The exact search finds candidates in float32 and ranks them by cosines in float64; where float32 cannot decide which
    are the nearest, it ranks more of them. Vectors that are not of unit length are scaled to it in float32 first.
    The graph is that of Malkov & Yashunin (2018), Efficient and Robust Approximate Nearest Neighbor Search Using
    Hierarchical Navigable Small World Graphs, https://arxiv.org/abs/1603.09320, as faiss builds it (Douze et al. 2024,
    https://arxiv.org/abs/2401.08281).

    With ``where``, an exact search compares the queries with the documents that pass alone. So does one with a graph,
    if fewer than a tenth of the distinct vectors pass, or so few that their share times their number is below 100,000.
    Else the walk through the graph is as much wider as fewer pass, and where it meets too few of these, they are
    compared as well.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import SemanticSearch
    >>> corpus = pd.Series(["It fell apart.", "Great sound.", "Arrived late."], index=["r1", "r2", "r3"])
    >>> search = SemanticSearch().fit(corpus)
    >>> search.search("The parcel took weeks.", k=2).round(2)
                        query  query_id  rank  score  position  id            text
    0  The parcel took weeks.         0     1   0.44         2  r3   Arrived late.
    1  The parcel took weeks.         0     2   0.16         0  r1  It fell apart.
    >>> distances, positions = search.kneighbors(["The parcel took weeks."], n_neighbors=2)
    >>> positions
    array([[2, 0]])

    A filter by other columns of the frame is a mask:

    >>> search.search("The parcel took weeks.", k=1, where=corpus.index != "r3")["id"][0]
    'r1'

    As a feature step, each row gets the share of its neighbours that have each label:

    >>> search = SemanticSearch(n_neighbors=1).fit(corpus, y=["bad", "good", "late"])
    >>> search.transform(["The parcel took weeks."])
    array([[0., 0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        embedder: BaseEstimator | None = None,
        *,
        n_neighbors: int = 5,
        index: str = "auto",
        query_prompt: str | None = "default",
        document_prompt: str | None = "default",
    ) -> None:
        self.embedder = embedder
        self.n_neighbors = n_neighbors
        self.index = index
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt

    def fit(self, X: Any, y: Any = None) -> Self:
        """Embed a corpus and build its index.

        Parameters
        ----------
        X : column of texts or of vectors
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : array of shape (n_documents,), default=None
            Labels or numbers of the documents, for ``transform``. Floats count as numbers unless all are whole.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the corpus is empty, a parameter is invalid, an element is not a text or a vector, or y has another
            length or missing values.
        ImportError
            If ``index="hnsw"`` and faiss is not installed (extra ``faiss``).
        """
        return self._fit(X, y)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Append documents to the corpus, in time proportional to their number.

        Parameters
        ----------
        X : column of texts or of vectors
            As for ``fit``. Without an index, the new documents are labelled by their positions; a corpus with labels of
            several types cannot be saved.
        y : array of shape (n_documents,), default=None
            Required if ``fit`` was given one, and of the same kind.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As ``fit``; also if the vectors have another number of dimensions than those of the corpus. Then the corpus
            stays as it was, as it does after Ctrl-C.

        Notes
        -----
        The first call after ``fit``, ``load`` or a copy reads all documents once, and moves them to memory with room
        for as many again. That happens again each time their number has doubled; meanwhile, both copies are there. A
        graph takes longer to insert a document the larger it is. ``corpus_`` is put together when it is read.
        """
        if not hasattr(self, "_documents"):
            return self._fit(X, y)
        column, embedder = read_column_for(self.embedder_, X), self.embedder_
        refuse_guess(self.embedder, column, self._model_tag, "the corpus")
        plan = self._plan_side(column, "document")
        vectors = self._embed_like_corpus(column, plan)
        y = _read_y(y, len(vectors))
        if plan is not None and isinstance(embedder, SentenceEmbeddingTransformer):
            embedder = copy.copy(embedder)
            embedder._learn(plan)  # queries must be embedded by the same model
        labels = column.to_index(len(self._documents))
        documents = self._documents.appended(labels, column.to_objects(), y, vectors)
        self.__dict__.update(_documents=documents, embedder_=embedder)  # in one step, which no interrupt divides
        return self

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True, *, where: Any = None
    ) -> Any:
        """Find the nearest documents of each query, as scikit-learn's ``NearestNeighbors`` does.

        Parameters
        ----------
        X : column of texts or of vectors, default=None
            The queries; None: the documents, each of which is then not its own neighbour.
        n_neighbors : int, default=None
            Number of neighbours; None: the parameter of that name.
        return_distance : bool, default=True
        where : column of bool or of int, default=None
            The documents to look among: a mask over the corpus, or their positions, in any order. A Series that is a
            mask must have the index labels of the corpus. None: all.

        Returns
        -------
        distances : ndarray of float64, shape (n_queries, n_neighbors)
            Cosine distances, 1 - cosine, from 0 to 2 in ascending order; only if ``return_distance``.
        positions : ndarray of int, shape (n_queries, n_neighbors)
            Positions of the neighbours in the corpus.

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError, ValueError
            If a query is missing, is not a text or a vector, or is a vector of another model or number of dimensions;
            if it is a text, the corpus was given as vectors of an unknown model, and there is no ``embedder``;
            if there are fewer than ``n_neighbors`` documents, or fewer that pass ``where``; if X is None and a document
            has no text; or if ``where`` is no mask of the corpus, and no positions in it.

        Warns
        -----
        UserWarning
            If queries are empty or blank, so that their neighbours mean nothing.
        """
        check_is_fitted(self)
        if X is not None:
            cosines, positions = self._find(read_column_for(self.embedder_, X, "queries"), n_neighbors, where)
        else:
            among = self._documents.among(where)
            n_hits = self._n_hits(n_neighbors, among, of_others=True)
            if len(self._documents.rows) < len(self._documents):
                raise ValueError("Some documents have no text, and so no neighbours; pass those that have one as X.")
            cosines, positions = self._others(n_hits, among)
        return (1 - cosines, positions) if return_distance else positions

    def search(self, queries: Any, k: int | None = None, *, where: Any = None) -> pd.DataFrame:
        """Find the nearest documents of each query, as a table.

        Parameters
        ----------
        queries : str, vector of shape (dim,), or column of texts or of vectors
            One query or several.
        k : int, default=None
            Number of hits per query; None: ``n_neighbors``.
        where : column of bool or of int, default=None
            The documents to look among: a mask over the corpus, or their positions, in any order. A Series that is a
            mask must have the index labels of the corpus. None: all.

        Returns
        -------
        DataFrame
            One hit per row: ``query`` (its text, or its position if it is a vector), ``query_id`` (its index label, or
            its position if it has none), ``rank`` (from 1), ``score`` (the cosine), and ``position``, ``id`` (index
            label) and ``text`` of the document.

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError, ValueError
            If a query is missing or is not a text or a vector, there are fewer than ``k`` documents, or fewer that pass
            ``where``, or ``where`` is no mask of the corpus, and no positions in it.

        Warns
        -----
        UserWarning
            If queries are empty or blank, so that their neighbours mean nothing.
        """
        if queries is None:  # to kneighbors it would be the documents themselves
            raise TypeError("queries is None; pass a text, or a column of texts or of vectors.")
        check_is_fitted(self)
        column = read_column_for(self.embedder_, as_column(queries), "queries")
        scores, positions = self._find(column, k, where)
        texts, n_hits, found = column.to_series(), positions.shape[1], positions.ravel()
        table = {
            "query": np.repeat(np.arange(len(scores)) if column.texts is None else texts.to_numpy(), n_hits),
            "query_id": texts.index.repeat(n_hits).to_flat_index(),
            "rank": np.tile(np.arange(1, n_hits + 1), len(scores)),
            "score": scores.ravel(),
            "position": found,
            "id": self._documents.labels.take(found).to_flat_index(),
            "text": self._documents.texts.values.take(found),
        }
        return pd.DataFrame(table)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute features of each row from its nearest documents.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features)
            If ``fit`` was given labels: for each of ``classes_``, the fraction of the ``n_neighbors`` nearest documents
            that have it. If it was given numbers: their mean. Otherwise: the cosines, largest first. NaN for a missing
            text.

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError, ValueError
            If an element is not a text or a vector, or there are fewer than ``n_neighbors`` documents.
        """
        check_is_fitted(self)
        cosines, positions = self._find(read_column_for(self.embedder_, X, "queries"), None, may_be_missing=True)
        features: NDArray[np.float32] = self._features(cosines, positions).astype(np.float32)
        features[positions[:, 0] < 0] = np.nan
        return features

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Fit, and compute features of each row from its nearest other documents, so that no row sees its own label.

        Parameters
        ----------
        X : column of texts or of vectors
        y : array of shape (n_rows,), default=None

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features)
            As ``transform``, without each row's own document. An embedder that learns from y has seen the labels.

        Raises
        ------
        TypeError, ValueError
            As ``fit``; also if there are fewer than ``n_neighbors`` other documents.
        """
        self._fit(X, y)
        features = np.full((len(self._documents), len(self.get_feature_names_out())), np.nan, dtype=np.float32)
        features[self._documents.rows.values] = self._features(*self._others(self._n_hits(None, of_others=True)))
        return features

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return the names of the columns of ``transform``, e.g. ``semanticsearch_late`` for a label ``late``."""
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        if hasattr(self, "classes_"):
            return np.array([f"{prefix}_{label}" for label in self.classes_], dtype=object)
        n_columns = self._n_hits(None) if self.y_ is None else 1
        return np.array([f"{prefix}{column}" for column in range(n_columns)], dtype=object)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write corpus, vectors and index to a folder, from which ``load`` reads them.

        Parameters
        ----------
        path : str or path
            The folder; a search that is saved there is replaced.

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        ImportError
            If pyarrow is not installed (extra ``parquet``).
        TypeError
            If index labels or y are of a type that parquet does not have.

        Notes
        -----
        The texts are saved in a parquet file, their vectors in another or, with ``index="hnsw"``, in a file of faiss,
        and the rest in a JSON file. The model is not saved, only its name and fingerprint.

        Examples
        --------
        >>> import tempfile
        >>> from skembed import SemanticSearch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     SemanticSearch().fit(["It fell apart.", "Great sound."]).save(folder)
        ...     print(SemanticSearch.load(folder).search("a broken handle", k=1)["text"][0])
        It fell apart.
        """
        check_is_fitted(self)
        params = {name: getattr(self, name) for name in PARAMETERS}
        rows, index = self._documents.rows.values, self._documents.index
        embedder = None if self.embedder is None and self._model_tag is None else self.embedder_
        saved = SavedSearch(self.corpus_, self.y_, rows, index, embedder, self._model_tag, params)
        save_search(saved, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], embedder: Any = None, *, local_files_only: bool = True) -> Self:
        """Read a search that was saved.

        The model is looked for on this machine only, so that a file cannot decide what is downloaded.

        Parameters
        ----------
        path : str or path
            The folder.
        embedder : transformer, default=None
            Embeds queries; None: the one that was saved. Required if the search was fitted with a loaded model, with
            another kind of embedder or with ``trust_remote_code``, which a file cannot hold or should not decide.
        local_files_only : bool, default=True
            False allows a download of the model from the hub. Ignored if ``embedder`` is given, which has a parameter
            of that name itself.

        Returns
        -------
        SemanticSearch
            Fitted.

        Raises
        ------
        FileNotFoundError
            If no search is saved there.
        SavedSearchError
            If a file is damaged or of another version.
        TypeError, ValueError
            If an embedder is required, or the given one is of another kind, or has other parameters, than the one that
            embedded the corpus.
        ImportError
            If pyarrow (extra ``parquet``), or faiss for a graph, is not installed.
        ModelNotFoundError
            If the model is not found on this machine.
        ModelChangedError
            If the model is not the one that embedded the corpus.
        NotFittedError
            If the given embedder must be fitted and is not.
        """
        given, saved = load_search(path, embedder, local_files_only=local_files_only)
        search = cls(given, **saved.params)
        search.embedder_, search._model_tag = saved.embedder, saved.model_tag
        texts = saved.corpus["text"].to_numpy()
        search._documents = Documents.of(saved.corpus.index, texts, saved.y, saved.rows, saved.index)
        return search

    @property
    def corpus_(self) -> pd.DataFrame:
        """The documents under their index labels, put together when it is first read after an addition."""
        check_is_fitted(self)
        return self._documents.corpus

    @property
    def vectors_(self) -> NDArray[np.float32]:
        """The vectors of the documents, NaN for those without a text: a new array each time it is read."""
        check_is_fitted(self)
        return self._documents.vectors

    @property
    def y_(self) -> NDArray[Any] | None:
        """The target that ``fit`` was given."""
        check_is_fitted(self)
        return None if self._documents.y is None else self._documents.y.values

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, sorted."""
        check_is_fitted(self)
        if self._documents.classes is None:
            raise AttributeError("There is no classes_: fit was not given labels.")
        return self._documents.classes

    @property
    def query_prompt_(self) -> str:
        """The text put before each query."""
        return self._shown_prompt("query")

    @property
    def document_prompt_(self) -> str:
        """The text put before each document."""
        return self._shown_prompt("document")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_documents")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _fit(self, X: Any, y: Any, *, name: str = "X") -> Self:
        check_choice("index", self.index, _INDEXES)
        if self.index == "hnsw":
            require("faiss", extra="faiss", needed_by="index='hnsw'")  # before a million texts are embedded
        check_count("n_neighbors", self.n_neighbors)
        check_prompt("query", self.query_prompt)
        check_prompt("document", self.document_prompt)
        self.__dict__.pop("_documents", None)
        self.embedder_ = resolve_embedder(self.embedder)
        column = read_column_for(self.embedder_, X, name)
        plan = self._plan_side(column, "document")
        vectors = embed_column(column, self.embedder_, plan, fit=True, y=y)
        self._model_tag: str | None = model_tag(column, self.embedder_, plan)
        y = _read_y(y, len(vectors))
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        if not len(rows):
            raise ValueError(f"There is nothing to search: the corpus has {len(vectors)} rows, none with a text.")
        index = VectorIndex.from_vectors(vectors[rows], _INDEXES[self.index])
        self._documents = Documents.of(column.to_index(), column.to_objects(), y, rows, index)
        return self

    def _find_all(self, X: Any, k: int, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest documents of each row; NaN and -1 for rows without a text."""
        column = read_column_for(self.embedder_, X, name)
        _warn_of_blank_texts(column)
        return self._find(column, k, may_be_missing=True)

    def _find(
        self, queries: Column, n_neighbors: int | None, where: Any = None, *, may_be_missing: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest documents; unless texts may be missing, raise for missing ones and warn of blank ones."""
        among = self._documents.among(where)
        n_hits = self._n_hits(n_neighbors, among)
        refuse_guess(self.embedder, queries, self._model_tag, "the corpus")
        vectors = self._embed_like_corpus(queries, self._plan_side(queries, "query"))
        has_text = ~np.isnan(vectors).any(axis=1)
        if not may_be_missing:
            if not has_text.all():
                row = queries.where(int(has_text.argmin()))
                raise ValueError(f"{row} is missing, so that there is nothing to search for; drop it.")
            _warn_of_blank_texts(queries)
        cosines, positions = np.full((len(vectors), n_hits), np.nan), np.full((len(vectors), n_hits), -1, dtype=np.intp)
        cosines[has_text], found = self._documents.index.nearest(vectors[has_text], n_hits, among)
        positions[has_text] = self._documents.rows.values[found]
        return cosines, positions

    def _link_all(self, X: Any, min_score: float | None, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Link each row to one document at most, as ``_find_all`` with one hit; NaN and -1 for rows without a link."""
        column = read_column_for(self.embedder_, X, name)
        _warn_of_blank_texts(column)
        vectors = self._embed_like_corpus(column, self._plan_side(column, "query"))
        rows, index = np.flatnonzero(~np.isnan(vectors).any(axis=1)), self._documents.index
        links = link(vectors[rows], index.index.take(index.code_of), min_score)
        cosines, positions = np.full((len(vectors), 1), np.nan), np.full((len(vectors), 1), -1, dtype=np.intp)
        cosines[rows[links.left], 0] = links.scores
        positions[rows[links.left], 0] = self._documents.rows.values[links.right]
        return cosines, positions

    def _others(self, n_hits: int, among: NDArray[np.intp] | None = None) -> Any:
        """Find the nearest documents of each document, without itself."""
        cosines, found = self._documents.index.nearest_others(n_hits, among)
        return cosines, self._documents.rows.values[found]

    def _features(self, cosines: NDArray[np.float64], positions: NDArray[np.intp]) -> Any:
        if self.y_ is None:
            return cosines
        values = self.y_[positions]
        if not hasattr(self, "classes_"):
            return values.mean(axis=1, keepdims=True)
        return np.stack([(values == label).mean(axis=1) for label in self.classes_], axis=1)

    def _n_hits(self, asked: int | None, among: NDArray[np.intp] | None = None, *, of_others: bool = False) -> int:
        n_hits = check_count("n_neighbors", self.n_neighbors if asked is None else asked)
        n_documents = len(self._documents.rows if among is None else among) - of_others
        if n_hits > n_documents:
            what = f"{max(0, n_documents)} {'other ' if of_others else ''}documents with a text"
            that_pass = "" if among is None else " that pass where"
            raise ValueError(f"{n_hits} neighbours were asked for, but there are {what}{that_pass}.")
        return n_hits

    def _embed_like_corpus(self, column: Column, plan: Plan | None) -> NDArray[np.float32]:
        """Embed a column; raise ValueError if its vectors cannot be compared with those of the corpus."""
        names, dim = (column.name, "the corpus"), self._documents.index.index.dim
        return embed_like(column, self.embedder_, plan, self._model_tag, dim, names)

    def _plan_side(self, column: Column, side: Literal["query", "document"]) -> Plan | None:
        """Plan the embedding of queries or documents, with their task and their prompt."""
        if column.texts is None or not isinstance(self.embedder_, SentenceEmbeddingTransformer):
            return plan_of(self.embedder_, column)
        return plan_side(self.embedder_, side, getattr(self, f"{side}_prompt"))

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        embedder = resolve_embedder(self.embedder)
        if holds_vectors(X) or not isinstance(embedder, SentenceEmbeddingTransformer):
            return [(embedder, X)]
        columns = []
        for side in ("document", "query"):
            settings, of_side = plan_side(embedder, side, getattr(self, f"{side}_prompt")).settings, copy.copy(embedder)
            # Not by set_params, which rejects parameters that a subclass does not take.
            of_side.task, of_side.prompt, of_side.prompt_name = settings.task, settings.prompt, None
            columns.append((of_side, X))
        return columns

    def _shown_prompt(self, side: Literal["query", "document"]) -> str:
        embedder = getattr(self, "embedder_", None)
        if isinstance(embedder, SentenceEmbeddingTransformer) and not hasattr(embedder, "model_fingerprint_"):
            raise AttributeError(f"{side}_prompt_ is unknown: no text has been embedded yet.")
        prompt = check_prompt(side, getattr(self, f"{side}_prompt"))
        try:
            embedder = resolve_embedder(self.embedder) if embedder is None else embedder
            if not isinstance(embedder, SentenceEmbeddingTransformer):
                return ""
            if prompt != "default":
                return prompt or ""
            settings = embedder._settings()
            return own_prompt(settings, get_model(settings), side)
        except (ModelNotFoundError, ValueError) as error:  # a notebook reads every attribute to show it
            raise AttributeError(f"{side}_prompt_ is unknown: {error}") from error


def _warn_of_blank_texts(queries: Column) -> None:
    """Warn, once, if queries are empty or blank: they have neighbours, but these mean nothing."""
    blank = [row for row, text in enumerate(queries.to_objects()) if text is not None and not text.strip()]
    if blank:
        others, verb = (f", and {len(blank) - 1} more,", "are") if len(blank) > 1 else ("", "is")
        warn_user(
            f"{queries.where(blank[0])}{others} {verb} empty or blank, so that the nearest documents mean nothing. "
            "Drop such queries.",
        )


def _read_y(y: Any, n_rows: int) -> NDArray[Any] | None:
    if y is None:
        return None
    values = read_labels(y, "y")
    if len(values) != n_rows:
        raise ValueError(f"y has {len(values)} values for {n_rows} documents.")
    return values
