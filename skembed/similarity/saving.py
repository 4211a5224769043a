"""A search in a folder: parquet for texts and vectors, faiss' own file for a graph, JSON for the rest; no pickle.

Imports numpy, what a search is made of, the fine-tuner and the door for paths; pyarrow and faiss when they are needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from skembed.atomic import atomic_write
from skembed.embedders import is_fitted, take_embedder
from skembed.encoding.models.fingerprint import sha256_file
from skembed.encoding.models.folders import hub_snapshot, local_folder
from skembed.encoding.vectors import read_vectors
from skembed.errors import ModelChangedError, ModelNotFoundError, SavedSearchError
from skembed.finetuner import SentenceEmbeddingFineTuner
from skembed.locks import locked
from skembed.optional import require
from skembed.paths import read_model_name, read_path
from skembed.similarity.neighbours import ExactIndex, HnswIndex, VectorIndex
from skembed.similarity.prompts import plan_side
from skembed.transformer import SentenceEmbeddingTransformer

FORMAT_VERSION = 2  # raise it when files that were saved before can no longer be read
_MAIN_FILE = "search.json"  # written last: a file that it does not name is no part of the search
_LOCK_FILE = "writing.lock"
_NAME_OF_FILE = re.compile(r"((corpus|vectors)-[0-9a-f]{16}\.parquet|graph-[0-9a-f]{16}\.faiss)")
_PARAMETERS = ("n_neighbors", "index", "query_prompt", "document_prompt")
# What shapes a vector. The others say how it is computed on one machine (device, cache, ...), or what a file should not
# decide (trust_remote_code).
_SHAPING = (
    "pooling", "layers", "normalize_embeddings", "truncate_dim", "prompt", "prompt_name", "task",
    "max_seq_length", "long_texts", "missing", "backend", "dtype", "revision",
)  # fmt: skip
_MAY_DIFFER = ("missing", "backend", "dtype")  # between corpus and queries: none of them moves a vector that matters


@dataclass(frozen=True)
class Documents:
    """The documents of a search.

    Attributes
    ----------
    corpus : DataFrame
        The texts under their index labels, in the column ``text``.
    y : ndarray, shape (n_documents,), or None
    rows : ndarray of int
        Positions of the documents that have a vector.
    index : VectorIndex
        Of these.
    """

    corpus: pd.DataFrame
    y: NDArray[Any] | None
    rows: NDArray[np.intp]
    index: VectorIndex


@dataclass(frozen=True)
class SavedSearch:
    """A fitted search, as a folder holds it.

    Attributes
    ----------
    documents : Documents
    embedder : transformer
        Fitted.
    model_tag : str or None
        Which model made the vectors; see :func:`skembed.embedders.model_tag`.
    params : dict
        Parameters of the search, without the embedder.
    """

    documents: Documents
    embedder: Any
    model_tag: str | None
    params: dict[str, Any]


def save_search(search: SavedSearch, path: str | os.PathLike[str]) -> None:
    """Write a fitted search into a folder; see :meth:`skembed.SemanticSearch.save`."""
    folder = read_path(path, "path")
    described = {
        "version": FORMAT_VERSION,
        "parameters": _plain({name: search.params[name] for name in _PARAMETERS}),
        "embedder": _describe(search.embedder),
        "model_fingerprint": getattr(search.embedder, "model_fingerprint_", None),
        "maker": search.model_tag,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK_FILE):  # two at a time would delete each other's files
        _write_all(search.documents, folder, described)


def _write_all(documents: Documents, folder: Path, described: dict[str, Any]) -> None:
    files = {"corpus": _write(folder, "corpus", ".parquet", lambda file: _write_corpus(documents, file))}
    index = documents.index.index
    if isinstance(index, HnswIndex):
        faiss, graph = require("faiss", extra="faiss", needed_by="index='hnsw'"), index.graph
        files["graph"] = _write(folder, "graph", ".faiss", lambda file: faiss.write_index(graph, str(file)))
    else:
        files["vectors"] = _write(folder, "vectors", ".parquet", lambda file: _write_vectors(index.vectors, file))
    description = {**described, "files": files}
    sealed = {**description, "sha256": _digest(description)}
    with atomic_write(folder / _MAIN_FILE) as file:
        file.write(f"{json.dumps(sealed, indent=1)}\n".encode())
    for old in folder.iterdir():  # of what was saved here before
        if _NAME_OF_FILE.fullmatch(old.name) and old.name not in {file["name"] for file in files.values()}:
            old.unlink()


def load_search(path: str | os.PathLike[str], given: Any, *, local_files_only: bool) -> tuple[Any, SavedSearch]:
    """Read a search from a folder; see :meth:`skembed.SemanticSearch.load`.

    Returns
    -------
    embedder : transformer
        The one that was given, or the one that was saved; not fitted.
    saved : SavedSearch
    """
    folder = read_path(path, "path")
    description = _read_description(folder)
    files = {kind: _check(folder, file) for kind, file in description["files"].items()}
    embedder = _find_embedder(description, given, folder, local_files_only=local_files_only)
    fitted = _fitted(embedder, description, folder, is_given=given is not None)
    params = {name: description["parameters"][name] for name in _PARAMETERS}
    return embedder, SavedSearch(_read_documents(files, folder), fitted, description["maker"], params)


def _read_documents(files: dict[str, Path], folder: Path) -> Documents:
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="SemanticSearch.load")
    frame = parquet.read_table(files["corpus"]).to_pandas()
    if "graph" in files:
        index: Any = _read_graph(files["graph"])
    else:
        index = ExactIndex(read_vectors(parquet.read_table(files["vectors"])["vector"]))
    code_of = frame["vector"].to_numpy()
    rows = np.flatnonzero(code_of >= 0)
    if len(index.vectors) != code_of.max() + 1:
        raise SavedSearchError(f"The vectors in {folder} are not those of the corpus there. Save the search again.")
    texts = frame[["text"]].astype(object)
    y = frame["y"].to_numpy() if "y" in frame else None
    return Documents(texts.where(texts.notna(), None), y, rows, VectorIndex(index, code_of[rows]))


def _read_graph(file: Path) -> HnswIndex:
    faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
    graph = faiss.read_index(str(file))
    if not isinstance(graph, faiss.IndexHNSWFlat) or graph.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise SavedSearchError(f"{file} is no graph that skembed has made. Save the search again.")
    return HnswIndex(graph)


def _write(folder: Path, kind: str, ending: str, write: Any) -> dict[str, str]:
    """Write a file under a name that tells its content, so that it never takes the place of another."""
    unfinished = folder / f"{kind}.unfinished"
    write(unfinished)
    digest = sha256_file(unfinished)
    name = f"{kind}-{digest[:16]}{ending}"
    unfinished.replace(folder / name)
    return {"name": name, "sha256": digest}


def _write_corpus(documents: Documents, file: Path) -> None:
    pyarrow = require("pyarrow", extra="parquet", needed_by="SemanticSearch.save")
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="SemanticSearch.save")
    corpus = documents.corpus.rename_axis([None] * documents.corpus.index.nlevels)
    code_of = np.full(len(corpus), -1)  # of the vector of each document, among those in the other file
    code_of[documents.rows] = documents.index.code_of
    corpus = corpus.assign(vector=code_of)
    if documents.y is not None:
        corpus = corpus.assign(y=documents.y)
    try:
        table = pyarrow.Table.from_pandas(corpus)
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise TypeError(f"The index labels or y cannot be written to a parquet file: {error}") from error
    parquet.write_table(table, file)


def _write_vectors(vectors: NDArray[np.float32], file: Path) -> None:
    pyarrow = require("pyarrow", extra="parquet", needed_by="SemanticSearch.save")
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="SemanticSearch.save")
    parquet.write_table(pyarrow.table({"vector": lists}), file, use_dictionary=False)  # no two numbers are alike


def _describe(embedder: Any) -> dict[str, Any]:
    """Say what an embedder is, as far as a file can hold it."""
    description: dict[str, Any] = {"kind": _kind(embedder)}
    if isinstance(embedder, SentenceEmbeddingFineTuner):  # its fingerprint is another one once it is saved
        return {**description, "is_saved": embedder._saved is not None}
    if not isinstance(embedder, SentenceEmbeddingTransformer):
        return description
    description["parameters"] = _plain({name: getattr(embedder, name) for name in _SHAPING})
    if isinstance(embedder.model, (str, os.PathLike)) and not embedder.trust_remote_code:
        model = read_model_name(embedder.model)
        description["model"] = os.path.abspath(model) if os.path.isdir(model) else model
    return description


def _kind(embedder: Any) -> str:
    """Name an embedder's class; a class derived from our transformer embeds as that does, and goes by its name."""
    ours = SentenceEmbeddingTransformer
    return ours.__name__ if isinstance(embedder, ours) else type(embedder).__name__


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / _MAIN_FILE
    if not file.is_file():
        raise FileNotFoundError(f"No search was saved in {folder}: it has no {_MAIN_FILE}.")
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version, digest = description["version"], description.pop("sha256")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SavedSearchError(f"{file} is damaged, or no file of skembed.") from error
    if version != FORMAT_VERSION:
        raise SavedSearchError(f"{file} has version {version}; this skembed reads version {FORMAT_VERSION}.")
    if digest != _digest(description):
        raise SavedSearchError(f"{file} is damaged: its checksum is wrong. Save the search again.")
    try:
        _look_at_all_keys(description)
    except (TypeError, KeyError, AttributeError) as error:
        raise SavedSearchError(f"{file} is no file of skembed: it lacks {error}. Save the search again.") from error
    return description


def _look_at_all_keys(description: dict[str, Any]) -> None:
    embedder, files = description["embedder"], description["files"]
    _ = description["model_fingerprint"], description["maker"], embedder["kind"], files["corpus"]
    _ = [description["parameters"][name] for name in _PARAMETERS]
    _ = [embedder["parameters"][name] for name in _SHAPING if "parameters" in embedder]
    _ = files["graph" if "graph" in files else "vectors"], [(file["name"], file["sha256"]) for file in files.values()]


def _check(folder: Path, file: dict[str, str]) -> Path:
    path = folder / os.path.basename(file["name"])
    if not path.is_file():
        raise SavedSearchError(f"{path} is missing. Save the search again.")
    if sha256_file(path) != file["sha256"]:
        raise SavedSearchError(f"{path} is damaged: its checksum is wrong. Save the search again.")
    return path


def _find_embedder(description: dict[str, Any], given: Any, folder: Path, *, local_files_only: bool) -> Any:
    """Take the embedder that was given, or make the one that was saved; refuse it if it makes other vectors."""
    saved = description["embedder"]
    if given is None and "model" not in saved:
        raise ValueError(
            f"The embedder of {folder} cannot be read from a file ({saved['kind']}); "
            "give it: SemanticSearch.load(path, embedder=...)."
        )
    taken = None if given is None else take_embedder(given)
    is_ours = isinstance(taken, SentenceEmbeddingTransformer)
    if given is not None and _kind(taken) != saved["kind"]:
        raise TypeError(f"The corpus was embedded by {saved['kind']}, not {type(taken).__name__}.")
    if given is not None and not is_ours:
        return given
    shaping = {name: saved["parameters"][name] for name in _SHAPING}  # and nothing else that a file may say
    if given is None:
        as_given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in shaping.items()
        }
        return SentenceEmbeddingTransformer(saved["model"], **as_given, local_files_only=local_files_only)
    for name, value in shaping.items():
        if name not in _MAY_DIFFER and _plain(getattr(taken, name)) != value:
            raise ValueError(f"The corpus was embedded with {name}={value!r}; embedder has {getattr(taken, name)!r}.")
    return given


def _fitted(embedder: Any, description: dict[str, Any], folder: Path, *, is_given: bool) -> Any:
    """Take an embedder of ours, as ``fit`` does, and refuse it if its model is another one than the corpus'."""
    embedder, fingerprint = take_embedder(embedder), description["model_fingerprint"]
    if not isinstance(embedder, SentenceEmbeddingTransformer):
        _refuse_other_embedder(embedder, description, folder)
        return embedder
    if fingerprint is None:
        return embedder
    try:
        _refuse_model_elsewhere(embedder)
        embedder._learn(plan_side(embedder, "query", None))
    except ModelNotFoundError as error:
        call = (
            "give an embedder with local_files_only=False"
            if is_given
            else "SemanticSearch.load(path, local_files_only=False)"
        )
        raise ModelNotFoundError(
            f"The model that the corpus of {folder} was embedded with is gone: {error} "
            f"{f'To download it: {call}. ' if embedder.local_files_only else ''}"
            "If it is elsewhere now, name it: SemanticSearch.load(path, embedder=...)."
        ) from error
    was_loaded, is_loaded = "model" not in description["embedder"], not isinstance(embedder.model, (str, os.PathLike))
    if embedder.model_fingerprint_ != fingerprint and was_loaded != is_loaded:
        kind = {True: "a loaded model", False: "a model given by name"}
        raise ValueError(
            f"The corpus of {folder} was embedded with {kind[was_loaded]}, and embedder has {kind[is_loaded]}: "
            "whether they are the same cannot be told. Give it in the same way."
        )
    if embedder.model_fingerprint_ != fingerprint:
        name = "the loaded model" if is_loaded else f"model={embedder.model!r}"
        raise ModelChangedError(
            f"{name} is not the one that the corpus of {folder} was embedded with: its weights, "
            "tokenizer or configuration differ. Bring the old model back, or fit again with the new one."
        )
    return embedder


def _refuse_model_elsewhere(embedder: SentenceEmbeddingTransformer) -> None:
    """Refuse a model that is not on this machine without loading it: huggingface_hub would go online even then."""
    name = read_model_name(embedder.model) if isinstance(embedder.model, (str, os.PathLike)) else None
    if name is None or not embedder.local_files_only or local_folder(name, embedder.revision) is not None:
        return
    if hub_snapshot(name, embedder.revision) is None:
        raise ModelNotFoundError(f"model={name!r} is neither a folder nor in the hub's local cache.")


def _refuse_other_embedder(embedder: Any, description: dict[str, Any], folder: Path) -> None:
    """Refuse one that has learned nothing, and a fine-tuner with other weights, as far as that can be told."""
    if not is_fitted(embedder):
        raise NotFittedError(
            f"embedder is a {type(embedder).__name__} that is not fitted; give the one that embedded the corpus of "
            f"{folder}, e.g. embedder_ of the search that was saved."
        )
    is_saved = description["embedder"].get("is_saved")
    can_be_told = isinstance(embedder, SentenceEmbeddingFineTuner) and is_saved == (embedder._saved is not None)
    if can_be_told and embedder.model_fingerprint_ != description["model_fingerprint"]:
        raise ModelChangedError(
            f"embedder is a fine-tuner with other weights than the one that the corpus of {folder} was embedded with. "
            "Give that one, or fit the search again with this one."
        )


def _plain(value: Any) -> Any:
    """Bring a parameter to what JSON gives back: lists for tuples, Python's numbers for numpy's."""
    return json.loads(json.dumps(value, default=lambda number: number.item()))


def _digest(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
