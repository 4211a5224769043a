"""Semantic search: a corpus of texts, or their vectors, to the nearest of each query.

Imports scikit-learn, what embeds texts, what finds neighbours, and what saves them.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_count
from skembed.embedders import check_same_model, embed_column, model_tag, plan_of, read_for, take_embedder
from skembed.encoding.columns import Column
from skembed.encoding.labels import read_labels
from skembed.encoding.models.registry import get_model
from skembed.encoding.plan import Plan
from skembed.encoding.vectors import holds_vectors
from skembed.errors import ModelNotFoundError, level_of_user
from skembed.optional import require
from skembed.similarity.neighbours import ExactIndex, HnswIndex, VectorIndex
from skembed.similarity.prompts import own_prompt, plan_side
from skembed.similarity.saving import Documents, SavedSearch, load_search, save_search
from skembed.transformer import SentenceEmbeddingTransformer

if TYPE_CHECKING:
    from sklearn.utils import Tags

_INDEXES: dict[str, Callable[[NDArray[np.float32]], ExactIndex | HnswIndex]] = {
    "auto": ExactIndex,
    "hnsw": HnswIndex.of,
}


class SemanticSearch(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Find the texts of a corpus that mean most nearly what a query says.

    Nearest is what has the largest cosine; of equal ones, what stands first in the corpus. Texts and queries are
    embedded by the same model, each with the prompt that the model has for it: queries with ``task="query"`` and
    documents with ``task="document"``, which also decides their route through a model with a Router. If the embedder's
    own ``task`` is set, that holds for both.

    Parameters
    ----------
    embedder : transformer, default=None
        What embeds texts; None: a :class:`SentenceEmbeddingTransformer`. With ``missing="nan"``, documents without a
        text are never found. A fitted embedder is used as it is; one that is not fitted is cloned, and learns from the
        documents, and from y. A fine-tuner that was fitted again since, to other weights, is refused (ValueError).
    n_neighbors : int, default=5
        How many to find where a call does not say.
    index : {"auto", "hnsw"}, default="auto"
        "auto": every document is compared, through faiss if it is installed and scikit-learn otherwise. "hnsw": a graph
        of neighbours (faiss) that finds nearly all of them in a fraction of the time, for millions of documents.
    query_prompt, document_prompt : str or None, default="default"
        Put before each query and each document; None: nothing. "default": the model's own prompt for queries and for
        documents, as its files say; those of the English E5 (also multilingual) and BGE models are known by name.
        If the embedder's ``prompt`` or ``prompt_name`` is set, that holds for both.

    Attributes
    ----------
    corpus_ : DataFrame
        The documents under their index labels, in the column ``text`` (None if vectors were given).
    embedder_ : transformer
        What embeds queries.
    query_prompt_, document_prompt_ : str
        What was put before each query and each document.
    classes_ : ndarray, shape (n_classes,)
        The labels, if ``fit`` was given some.
    y_ : ndarray, shape (n_documents,), or None
        What ``fit`` was given.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : The same habits for numbers.

    Notes
    -----
    The exact search takes its candidates by float32 and ranks them by cosines in float64; where float32 cannot tell
    which are the nearest, it takes more of them. Vectors of another length than 1 are brought to it in float32 first.
    The graph is that of Malkov & Yashunin (2018), Efficient and Robust Approximate Nearest Neighbor Search Using
    Hierarchical Navigable Small World Graphs, https://arxiv.org/abs/1603.09320, as faiss builds it (Douze et al. 2024,
    https://arxiv.org/abs/2401.08281).

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
        """Embed a corpus and make its index.

        Parameters
        ----------
        X : column of texts or of vectors
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : array of shape (n_documents,), default=None
            Labels or numbers of the documents, for ``transform``. Numbers are floats that are not all whole.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the corpus is empty, a parameter or a text is not what it must be, or y has another length or misses
            values.
        ImportError
            If ``index="hnsw"`` and faiss is not installed (extra ``faiss``).
        """
        return self._fit(X, y)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add documents behind those that are there already.

        Parameters
        ----------
        X : column of texts or of vectors
            As for ``fit``. Without an index of their own, the new documents are labelled by their positions; beside
            labels of another type these cannot be saved.
        y : array of shape (n_documents,), default=None
            Must be given if, and only if, it was given to ``fit``, and be of the same kind.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As ``fit``; also if the vectors have other dimensions than those of the corpus. Nothing is added then.
        """
        if not hasattr(self, "corpus_"):
            return self._fit(X, y)
        self._add(X, y)
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Find the nearest documents of each query, as scikit-learn's neighbours do.

        Parameters
        ----------
        X : column of texts or of vectors, default=None
            The queries; None: the documents themselves, each of which is then no neighbour of its own.
        n_neighbors : int, default=None
            How many; None: the parameter of that name.
        return_distance : bool, default=True

        Returns
        -------
        distances : ndarray of float64, shape (n_queries, n_neighbors)
            Cosine distances, 1 - cosine, from 0 to 2 and in rising order; only if ``return_distance``.
        positions : ndarray of int, shape (n_queries, n_neighbors)
            Of the neighbours in the corpus.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a query is missing or no text, its vector has other dimensions or is of another model, there are fewer
            documents than neighbours asked for, or X is None and a document has no text.

        Warns
        -----
        UserWarning
            If queries are empty or blank: what is nearest to them means nothing.
        """
        check_is_fitted(self)
        if X is not None:
            cosines, positions = self._find(self._read_queries(X), n_neighbors)
        else:
            n_hits = self._n_hits(n_neighbors, of_others=True)
            if len(self._rows) < len(self.corpus_):
                raise ValueError("Some documents have no text, and so no neighbours; give those that have as X.")
            cosines, positions = self._others(n_hits)
        return (1 - cosines, positions) if return_distance else positions

    def search(self, queries: Any, k: int | None = None) -> pd.DataFrame:
        """Find the nearest documents of each query, as a table.

        Parameters
        ----------
        queries : str, or column of texts or of vectors
            One query or several.
        k : int, default=None
            How many hits a query gets; None: ``n_neighbors``.

        Returns
        -------
        DataFrame
            One hit a row: ``query`` (its text, or its position if it is a vector), ``query_id`` (its index label, or
            its position if it has none), ``rank`` (from 1), ``score`` (the cosine), and ``position``, ``id`` (index
            label) and ``text`` of the document.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a query is missing or no text, or there are fewer documents than hits asked for.

        Warns
        -----
        UserWarning
            If queries are empty or blank: what is nearest to them means nothing.
        """
        if queries is None:  # to kneighbors it would be the documents themselves
            raise TypeError("queries is None; give a text, or a column of texts or of vectors.")
        queries = [queries] if isinstance(queries, str) else queries
        column = self._read_queries(queries)
        scores, positions = self._find(column, k)
        asked: Any = range(len(scores)) if column.texts is None else column.to_objects()
        n_hits = positions.shape[1]
        found = positions.ravel()
        labels = pd.RangeIndex(len(scores)) if column.labels is None else column.labels
        table = {
            "query": np.repeat(np.asarray(asked, dtype=None if isinstance(asked, range) else object), n_hits),
            "query_id": labels.repeat(n_hits).to_flat_index(),
            "rank": np.tile(np.arange(1, n_hits + 1), len(scores)),
            "score": scores.ravel(),
            "position": found,
            "id": self.corpus_.index.take(found).to_flat_index(),
            "text": self.corpus_["text"].to_numpy().take(found),
        }
        return pd.DataFrame(table)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Describe each row by its nearest documents: a feature step.

        Parameters
        ----------
        X : column of texts or of vectors

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features)
            If ``fit`` was given labels: the share of the ``n_neighbors`` nearest documents that have each of
            ``classes_``. If it was given numbers: their mean. Otherwise: their cosines, largest first. NaN for a
            missing text.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a text is not what it must be, or there are fewer than ``n_neighbors`` documents.
        """
        check_is_fitted(self)
        vectors = self._embed(self._read_queries(X), "query")
        is_there = ~np.isnan(vectors).any(axis=1)
        features = np.full((len(vectors), len(self.get_feature_names_out())), np.nan, dtype=np.float32)
        features[is_there] = self._features(*self._nearest(vectors[is_there], self._n_hits(None)))
        return features

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Fit, and describe each row by its nearest other documents, so that no row sees its own label.

        Parameters
        ----------
        X : column of texts or of vectors
        y : array of shape (n_rows,), default=None

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features)
            As ``transform``, with each row's own document left out. An embedder that learns from y has seen the labels.

        Raises
        ------
        TypeError, ValueError
            As ``fit``; also if there are not ``n_neighbors`` other documents.
        """
        self._fit(X, y)
        features = np.full((len(self.corpus_), len(self.get_feature_names_out())), np.nan, dtype=np.float32)
        features[self._rows] = self._features(*self._others(self._n_hits(None, of_others=True)))
        return features

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Name the columns of what ``transform`` gives, e.g. ``semanticsearch_late`` for a label ``late``."""
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        if hasattr(self, "classes_"):
            return np.array([f"{prefix}_{label}" for label in self.classes_], dtype=object)
        n_columns = self._n_hits(None) if self.y_ is None else 1
        return np.array([f"{prefix}{column}" for column in range(n_columns)], dtype=object)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write corpus, vectors and index into a folder, from which ``load`` reads them.

        Parameters
        ----------
        path : str or path
            The folder; a search that was saved there before is replaced.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ImportError
            If pyarrow is not installed (extra ``parquet``).
        TypeError
            If index labels or y are of a type that parquet has not.

        Notes
        -----
        The texts and their vectors are a parquet file, the graph of ``index="hnsw"`` is faiss' own, the rest is JSON.
        The model is not in it: its name and its fingerprint are.

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
        documents = Documents(self.corpus_, self.y_, self._rows, self._index)
        save_search(SavedSearch(documents, self.embedder_, self._model_tag, self._own_params()), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], embedder: Any = None, *, local_files_only: bool = True) -> Self:
        """Read a search that was saved.

        The model that the folder names is looked for on this machine only: a file does not decide what is downloaded.

        Parameters
        ----------
        path : str or path
            The folder.
        embedder : transformer, default=None
            What embeds queries; None: what was saved. It must be given where a loaded model, an embedder of another
            kind or ``trust_remote_code`` was used, because a file cannot hold or should not decide that.
        local_files_only : bool, default=True
            False lets the model be downloaded from the hub; ignored if ``embedder`` is given, which says so itself.

        Returns
        -------
        SemanticSearch
            Fitted.

        Raises
        ------
        FileNotFoundError
            If no search was saved there.
        SavedSearchError
            If a file is damaged or of another version.
        TypeError, ValueError
            If the embedder must be given, or the one given is not of the kind, or has not the parameters, that the
            corpus was embedded with.
        ImportError
            If pyarrow (extra ``parquet``), or faiss for a graph, is not installed.
        ModelNotFoundError
            If the model is gone, or not on this machine.
        ModelChangedError
            If the model is not the one that the corpus was embedded with.
        NotFittedError
            If the embedder that is given has to learn, and has not.
        """
        given, saved = load_search(path, embedder, local_files_only=local_files_only)
        search = cls(given, **saved.params)
        search.embedder_, search._model_tag = saved.embedder, saved.model_tag
        search._set_documents(saved.documents)
        return search

    @property
    def query_prompt_(self) -> str:
        """The text put before each query."""
        return self._shown_prompt("query")

    @property
    def document_prompt_(self) -> str:
        """The text put before each document."""
        return self._shown_prompt("document")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "corpus_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _fit(self, X: Any, y: Any, *, name: str = "X") -> Self:
        if not isinstance(self.index, str) or self.index not in _INDEXES:
            raise ValueError(f"index must be 'auto' or 'hnsw'; got {self.index!r}.")
        if self.index == "hnsw":
            require("faiss", extra="faiss", needed_by="index='hnsw'")  # rather than after a million texts are embedded
        check_count("n_neighbors", self.n_neighbors)
        for side in ("query", "document"):
            _check_prompt(f"{side}_prompt", getattr(self, f"{side}_prompt"))
        for fitted in ("corpus_", "classes_"):
            self.__dict__.pop(fitted, None)
        self.embedder_ = take_embedder(self.embedder)
        column = read_for(self.embedder_, X, name)
        plan = self._plan(column, "document")
        vectors = embed_column(column, self.embedder_, plan, fit=True, y=y)
        self._model_tag: str | None = model_tag(column, self.embedder_, plan)
        y = _read_y(y, len(vectors))
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        if not len(rows):
            raise ValueError(f"There is nothing to search: the corpus has {len(vectors)} rows, none with a text.")
        index = VectorIndex.of(vectors[rows], _INDEXES[self.index])
        self._set_documents(Documents(_make_corpus(column, 0), y, rows, index))
        return self

    def _add(self, X: Any, y: Any) -> None:
        n_before = len(self.corpus_)
        column = read_for(self.embedder_, X)
        vectors = self._embed(column, "document")
        y = _read_y(y, len(vectors))
        if (y is None) != (self.y_ is None):
            raise ValueError("y must be given to partial_fit if, and only if, fit was given one.")
        y = None if y is None else np.concatenate([self.y_, y])
        if y is not None and _are_numbers(y) == hasattr(self, "classes_"):
            raise ValueError("y must be of the kind that fit was given: numbers, or labels.")
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        corpus = pd.concat([self.corpus_, _make_corpus(column, n_before)])
        all_rows = np.concatenate([self._rows, n_before + rows])
        self._set_documents(Documents(corpus, y, all_rows, self._index))
        self._index.add(vectors[rows])  # last, when nothing is left that could be refused

    def _own_params(self) -> dict[str, Any]:
        return {name: value for name, value in self.get_params(deep=False).items() if name != "embedder"}

    def _set_documents(self, documents: Documents) -> None:
        learned = {
            "corpus_": documents.corpus, "y_": documents.y, "_rows": documents.rows, "_index": documents.index,
        }  # fmt: skip
        if documents.y is not None and not _are_numbers(documents.y):
            learned["classes_"] = np.unique(documents.y)  # raises for what cannot be sorted, before anything changes
        self.__dict__.pop("classes_", None)
        self.__dict__.update(learned)

    def _read_queries(self, X: Any, name: str = "queries") -> Column:
        check_is_fitted(self)
        return read_for(self.embedder_, X, name)

    def _find(self, queries: Column, n_neighbors: int | None) -> Any:
        n_hits = self._n_hits(n_neighbors)
        vectors = self._embed(queries, "query")
        is_missing = np.isnan(vectors).any(axis=1)
        if is_missing.any():
            row = queries.where(int(is_missing.argmax()))
            raise ValueError(f"{row} is missing; drop it, there is nothing to look for.")
        warn_of_blank_texts(queries)
        return self._nearest(vectors, n_hits)

    def _find_all(self, X: Any, k: int, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the nearest documents of each row that has a text; NaN and -1 for the others."""
        column = self._read_queries(X, name)
        vectors = self._embed(column, "query")
        warn_of_blank_texts(column)
        is_there = ~np.isnan(vectors).any(axis=1)
        scores, positions = np.full((len(column), k), np.nan), np.full((len(column), k), -1)
        scores[is_there], positions[is_there] = self._nearest(vectors[is_there], self._n_hits(k))
        return scores, positions

    def _nearest(self, vectors: NDArray[np.float32], n_hits: int) -> Any:
        cosines, found = self._index.nearest(vectors, n_hits)
        return cosines, self._rows[found]

    def _others(self, n_hits: int) -> Any:
        """Find the nearest documents of each document but itself."""
        cosines, found = self._index.nearest_others(n_hits)
        return cosines, self._rows[found]

    def _features(self, cosines: NDArray[np.float64], positions: NDArray[np.intp]) -> Any:
        if self.y_ is None:
            return cosines
        values = self.y_[positions]
        if not hasattr(self, "classes_"):
            return values.mean(axis=1, keepdims=True)
        return np.stack([(values == label).mean(axis=1) for label in self.classes_], axis=1)

    def _n_hits(self, asked: int | None, of_others: bool = False) -> int:
        n_hits = check_count("n_neighbors", self.n_neighbors if asked is None else asked)
        n_documents = len(self._rows) - of_others
        if n_hits > n_documents:
            what = "other documents" if of_others else "documents"
            raise ValueError(f"{n_hits} neighbours were asked for, and there are {n_documents} {what} with a text.")
        return n_hits

    def _embed(self, column: Column, side: Literal["query", "document"]) -> NDArray[np.float32]:
        """Embed what is compared with the corpus, or added to it."""
        plan = self._plan(column, side)
        check_same_model(model_tag(column, self.embedder_, plan), self._model_tag, (column.name, "the corpus"))
        vectors = embed_column(column, self.embedder_, plan)
        dim = self._index.dim
        if vectors.shape[1] != dim:
            raise ValueError(
                f"The vectors of {column.name} have {vectors.shape[1]} dimensions, those of the corpus {dim}."
            )
        return vectors

    def _plan(self, column: Column, side: Literal["query", "document"]) -> Plan | None:
        """Plan the embedding of a column with the prompt and the task of its side."""
        if column.texts is None or not isinstance(self.embedder_, SentenceEmbeddingTransformer):
            return plan_of(self.embedder_, column)
        plan = plan_side(self.embedder_, side, getattr(self, f"{side}_prompt"))
        if side == "document":
            self.embedder_._learn(plan)  # queries must be embedded by the same model
        return plan

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        embedder = take_embedder(self.embedder)
        if holds_vectors(X) or not isinstance(embedder, SentenceEmbeddingTransformer):
            return [(embedder, X)]
        return [(self._of_side(embedder, side), X) for side in ("document", "query")]

    def _of_side(self, embedder: Any, side: Literal["query", "document"]) -> Any:
        """Copy an embedder of ours, with the prompt and the task of one side of the search."""
        of_side = copy.copy(embedder)
        of_side.prompt, of_side.prompt_name = self._prompt(embedder, side), None
        of_side.task = embedder.task or side
        return of_side

    def _shown_prompt(self, side: Literal["query", "document"]) -> str:
        embedder = getattr(self, "embedder_", None)
        if isinstance(embedder, SentenceEmbeddingTransformer) and not hasattr(embedder, "model_fingerprint_"):
            raise AttributeError(f"{side}_prompt_ is unknown: no text has been embedded yet.")
        try:
            return self._prompt(take_embedder(self.embedder) if embedder is None else embedder, side)
        except (ModelNotFoundError, ValueError) as error:  # a notebook asks for every attribute to show it
            raise AttributeError(f"{side}_prompt_ is unknown: {error}") from error

    def _prompt(self, embedder: Any, side: Literal["query", "document"]) -> str:
        asked = _check_prompt(f"{side}_prompt", getattr(self, f"{side}_prompt"))
        if not isinstance(embedder, SentenceEmbeddingTransformer):
            return ""
        if asked != "default":
            return asked or ""
        settings = embedder._settings()
        return own_prompt(settings, get_model(settings), side)


def warn_of_blank_texts(queries: Column) -> None:
    """Warn, once, if queries are empty or blank: they find something, but it means nothing."""
    blank = [row for row, text in enumerate(queries.to_objects()) if text is not None and not text.strip()]
    if blank:
        others = f", and {len(blank) - 1} more," if len(blank) > 1 else ""
        verb = "are" if others else "is"
        warnings.warn(
            f"{queries.where(blank[0])}{others} {verb} empty or blank: what is nearest to an empty text means "
            "nothing. Drop such queries.",
            UserWarning,
            stacklevel=level_of_user(),
        )


def _check_prompt(name: str, prompt: Any) -> str | None:
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"{name} must be a str or None; got {type(prompt).__name__}.")
    return prompt


def _are_numbers(y: NDArray[Any]) -> bool:
    """Tell numbers from labels, as scikit-learn does: floats that are not all whole."""
    return str(type_of_target(y)).startswith("continuous")


def _read_y(y: Any, n_rows: int) -> NDArray[Any] | None:
    if y is None:
        return None
    values = read_labels(y, "y")
    if len(values) != n_rows:
        raise ValueError(f"y has {len(values)} values for {n_rows} documents.")
    return values


def _make_corpus(column: Column, n_before: int) -> pd.DataFrame:
    """Keep the documents' texts and index labels."""
    labels = pd.RangeIndex(n_before, n_before + len(column)) if column.labels is None else column.labels
    return pd.DataFrame({"text": pd.Series(column.to_objects(), index=labels, dtype=object)})
