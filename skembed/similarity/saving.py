"""Saving a search to a folder: parquet for texts and vectors, a faiss file for a graph, JSON for the rest; no pickle.

Imports the neighbours and prompts beside it, the embedders, the fine-tuner and paths; pyarrow and faiss when needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from skembed.atomic import atomic_write
from skembed.embedders import is_fitted, resolve_embedder
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

FORMAT_VERSION = 2  # raise it when older files can no longer be read
_MAIN_FILE = "search.json"  # written last; files that it does not name are not part of the search
_LOCK_FILE = "writing.lock"
_NAME_OF_FILE = re.compile(r"((corpus|vectors)-[0-9a-f]{16}\.parquet|graph-[0-9a-f]{16}\.faiss)")
PARAMETERS = ("n_neighbors", "index", "query_prompt", "document_prompt")
# Parameters that shape a vector. The others are about how it is computed on one machine (device, cache, ...), or should
# not be decided by a file (trust_remote_code).
_SHAPING = (
    "pooling", "layers", "normalize_embeddings", "truncate_dim", "prompt", "prompt_name", "task",
    "max_seq_length", "long_texts", "missing", "backend", "dtype", "revision",
)  # fmt: skip
_MAY_DIFFER = ("missing", "backend", "dtype")  # between corpus and queries: the vectors are nearly the same


@dataclass(frozen=True)
class SavedSearch:
    """The contents of a folder with a saved search.

    Attributes
    ----------
    corpus : DataFrame
        The texts under their index labels, in the column ``text``.
    y : ndarray, shape (n_documents,), or None
    rows : ndarray of int
        Positions of the documents that have a vector.
    index : VectorIndex
        Index of their vectors.
    embedder : transformer or None
        Fitted; None if neither the model of the vectors is known nor an embedder was chosen.
    model_tag : str or None
        The model that made the vectors, from :func:`skembed.embedders.model_tag`.
    params : dict
        PARAMETERS of the search.
    """

    corpus: pd.DataFrame
    y: NDArray[Any] | None
    rows: NDArray[np.intp]
    index: VectorIndex
    embedder: Any
    model_tag: str | None
    params: dict[str, Any]


def save_search(search: SavedSearch, path: str | os.PathLike[str]) -> None:
    """Write a fitted search to a folder; see :meth:`skembed.SemanticSearch.save`."""
    folder = read_path(path, "path")
    description = {
        "version": FORMAT_VERSION,
        "parameters": _to_json_types(search.params),
        "embedder": _describe(search.embedder),
        "model_fingerprint": getattr(search.embedder, "model_fingerprint_", None),
        "maker": search.model_tag,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK_FILE):  # two writers at a time would delete each other's files
        _write_files(search, folder, description)


def _write_files(search: SavedSearch, folder: Path, description: dict[str, Any]) -> None:
    names = ("pyarrow", "pyarrow.parquet")
    pyarrow, parquet = (require(name, extra="parquet", needed_by="SemanticSearch.save") for name in names)
    corpus, index = _corpus_table(search, pyarrow), search.index.index
    files = {"corpus": _write_file(folder, "corpus", ".parquet", lambda file: parquet.write_table(corpus, file))}
    if isinstance(index, HnswIndex):
        faiss, graph = require("faiss", extra="faiss", needed_by="index='hnsw'"), index.graph
        files["graph"] = _write_file(folder, "graph", ".faiss", lambda file: faiss.write_index(graph, str(file)))
    else:
        lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(index.vectors.ravel()), index.dim)
        # Without a dictionary, because hardly any number repeats.
        write = partial(parquet.write_table, pyarrow.table({"vector": lists}), use_dictionary=False)
        files["vectors"] = _write_file(folder, "vectors", ".parquet", write)
    description = {**description, "files": files}
    description["sha256"] = _digest(description)
    with atomic_write(folder / _MAIN_FILE) as file:
        file.write(f"{json.dumps(description, indent=1)}\n".encode())
    for old in folder.iterdir():  # of the search that was saved here before
        if _NAME_OF_FILE.fullmatch(old.name) and old.name not in {file["name"] for file in files.values()}:
            with suppress(PermissionError):  # on Windows, while somebody reads it; the next save deletes it
                old.unlink()


def load_search(path: str | os.PathLike[str], given: Any, *, local_files_only: bool) -> tuple[Any, SavedSearch]:
    """Read a search from a folder; see :meth:`skembed.SemanticSearch.load`.

    A save in another process may delete files before they are read. Then the search is read that it has written. This
    needs no lock, which a folder that is read-only could not hold.

    Returns
    -------
    embedder : transformer or None
        The parameter of the search: the given embedder, or the one that was saved, not fitted.
    saved : SavedSearch
    """
    folder = read_path(path, "path")
    while True:
        before = _written_at(folder)
        try:
            return _read_folder(folder, given, local_files_only)
        except (SavedSearchError, OSError, RuntimeError):  # the last is faiss' for a file that is not there
            if _written_at(folder) == before:
                raise


def _written_at(folder: Path) -> tuple[int, ...] | None:
    """Return what tells one main file from the next, even if both say the same; None if there is none."""
    try:
        main = (folder / _MAIN_FILE).stat()
    except OSError:
        return None
    return main.st_ino, main.st_mtime_ns, main.st_ctime_ns


def _read_folder(folder: Path, given: Any, local_files_only: bool) -> tuple[Any, SavedSearch]:
    description = _read_description(folder)
    files = {kind: _check_file(folder, file) for kind, file in description["files"].items()}
    was_chosen = description["embedder"]["kind"] is not None
    embedder = _make_embedder(description, folder, local_files_only) if given is None and was_chosen else given
    fitted = resolve_embedder(embedder)
    if was_chosen:
        _check_embedder(description["embedder"], fitted)
    _fit_saved(fitted, description, folder, is_given=given is not None)
    params = {name: description["parameters"][name] for name in PARAMETERS}
    corpus, y, rows, index = _read_documents(files, folder)
    return embedder, SavedSearch(corpus, y, rows, index, fitted, description["maker"], params)


def _read_documents(files: dict[str, Path], folder: Path) -> tuple[Any, ...]:
    """Return corpus, y, rows and index."""
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="SemanticSearch.load")
    frame = parquet.read_table(files["corpus"]).to_pandas()
    code_of = frame["vector"].to_numpy()
    rows = np.flatnonzero(code_of >= 0)
    codes = np.unique(code_of[rows])
    if "graph" in files:
        index: Any = _read_graph(files["graph"], codes)
    else:
        index = ExactIndex(read_vectors(parquet.read_table(files["vectors"])["vector"]))
    if len(index) != len(codes) or index.n_positions <= codes.max():
        raise SavedSearchError(f"The vectors in {folder} are not those of the corpus there. Save the search again.")
    texts = frame[["text"]].astype(object)
    y = frame["y"].to_numpy() if "y" in frame else None
    return texts.where(texts.notna(), None), y, rows, VectorIndex(index, code_of[rows])


def _read_graph(file: Path, codes: NDArray[np.intp]) -> HnswIndex:
    faiss = require("faiss", extra="faiss", needed_by="index='hnsw'")
    graph = faiss.read_index(str(file))
    if not isinstance(graph, faiss.IndexHNSWFlat) or graph.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise SavedSearchError(f"{file} is not a graph that skembed wrote. Save the search again.")
    return HnswIndex(graph, np.setdiff1d(np.arange(graph.ntotal), codes))


def _write_file(folder: Path, kind: str, ending: str, write: Any) -> dict[str, str]:
    """Write a file under a name with the digest of its contents, so that it never replaces another."""
    unfinished = folder / f"{kind}.unfinished"
    write(unfinished)
    digest = sha256_file(unfinished)
    name = f"{kind}-{digest[:16]}{ending}"
    unfinished.replace(folder / name)
    return {"name": name, "sha256": digest}


def _corpus_table(search: SavedSearch, pyarrow: Any) -> Any:
    corpus = search.corpus.rename_axis([None] * search.corpus.index.nlevels)
    code_of = np.full(len(corpus), -1)  # number of each document's vector in the other file
    code_of[search.rows] = search.index.code_of
    corpus = corpus.assign(vector=code_of)
    if search.y is not None:
        corpus = corpus.assign(y=search.y)
    try:
        return pyarrow.Table.from_pandas(corpus)
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise TypeError(f"The index labels or y cannot be written to a parquet file: {error}") from error


def _describe(embedder: Any) -> dict[str, Any]:
    """Describe an embedder, as far as a file can hold it."""
    if embedder is None:
        return {"kind": None}
    description: dict[str, Any] = {"kind": _class_name(embedder)}
    if isinstance(embedder, SentenceEmbeddingFineTuner):  # saving it changes its fingerprint
        return {**description, "is_saved": embedder._saved is not None}
    if not isinstance(embedder, SentenceEmbeddingTransformer):
        return description
    description["parameters"] = _to_json_types({name: getattr(embedder, name) for name in _SHAPING})
    if isinstance(embedder.model, (str, os.PathLike)) and not embedder.trust_remote_code:
        model = read_model_name(embedder.model)
        description["model"] = os.path.abspath(model) if os.path.isdir(model) else model
    return description


def _class_name(embedder: Any) -> str:
    """Return the name of an embedder's class; for subclasses of our transformer, which embed as it does, its name."""
    is_transformer = isinstance(embedder, SentenceEmbeddingTransformer)
    return SentenceEmbeddingTransformer.__name__ if is_transformer else type(embedder).__name__


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / _MAIN_FILE
    if not file.is_file():
        raise FileNotFoundError(f"No search is saved in {folder}: it has no {_MAIN_FILE}.")
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version, digest = description["version"], description.pop("sha256")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SavedSearchError(f"{file} is damaged, or was not written by skembed.") from error
    if version != FORMAT_VERSION:
        raise SavedSearchError(f"{file} has version {version}; this skembed reads version {FORMAT_VERSION}.")
    if digest != _digest(description):
        raise SavedSearchError(f"{file} is damaged: its checksum is wrong. Save the search again.")
    try:
        _read_all_keys(description)
    except (TypeError, KeyError, AttributeError) as error:
        raise SavedSearchError(
            f"{file} was not written by skembed: it lacks {error}. Save the search again."
        ) from error
    return description


def _read_all_keys(description: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or AttributeError if a part of the description is missing."""
    embedder, files = description["embedder"], description["files"]
    _ = description["model_fingerprint"], description["maker"], embedder["kind"], files["corpus"]
    _ = [description["parameters"][name] for name in PARAMETERS]
    _ = [embedder["parameters"][name] for name in _SHAPING if "parameters" in embedder]
    _ = files["graph" if "graph" in files else "vectors"], [(file["name"], file["sha256"]) for file in files.values()]


def _check_file(folder: Path, file: dict[str, str]) -> Path:
    path = folder / os.path.basename(file["name"])
    if not path.is_file():
        raise SavedSearchError(f"{path} is missing. Save the search again.")
    if sha256_file(path) != file["sha256"]:
        raise SavedSearchError(f"{path} is damaged: its checksum is wrong. Save the search again.")
    return path


def _make_embedder(description: dict[str, Any], folder: Path, local_files_only: bool) -> SentenceEmbeddingTransformer:
    """Make the embedder that was saved, not fitted."""
    saved = description["embedder"]
    if "model" not in saved:
        raise ValueError(
            f"The embedder of {folder} cannot be read from a file ({saved['kind']}); "
            "pass it: SemanticSearch.load(path, embedder=...)."
        )
    params = {name: saved["parameters"][name] for name in _SHAPING}  # and no other parameter that a file may hold
    params |= {name: tuple(value) for name, value in params.items() if isinstance(value, list)}
    return SentenceEmbeddingTransformer(saved["model"], **params, local_files_only=local_files_only)


def _check_embedder(saved: dict[str, Any], embedder: Any) -> None:
    """Raise if an embedder is of another class, or has other parameters that shape a vector, than the saved one."""
    if _class_name(embedder) != saved["kind"]:
        raise TypeError(f"The corpus was embedded by {saved['kind']}, not {type(embedder).__name__}.")
    if not isinstance(embedder, SentenceEmbeddingTransformer):
        return
    for name in _SHAPING:
        value = saved["parameters"][name]
        if name not in _MAY_DIFFER and _to_json_types(getattr(embedder, name)) != value:
            raise ValueError(
                f"The corpus was embedded with {name}={value!r}; embedder has {getattr(embedder, name)!r}."
            )


def _fit_saved(embedder: Any, description: dict[str, Any], folder: Path, *, is_given: bool) -> None:
    """Fit the embedder; raise if its model is not the one that embedded the corpus."""
    if not isinstance(embedder, SentenceEmbeddingTransformer):
        _check_fitted_embedder(embedder, description, folder)
    elif description["model_fingerprint"] is not None:
        try:
            _check_model_is_local(embedder)
            embedder._learn(plan_side(embedder, "query", None))
        except ModelNotFoundError as error:
            call = "SemanticSearch.load(path, local_files_only=False)"
            call = "pass an embedder with local_files_only=False" if is_given else call
            raise ModelNotFoundError(
                f"The model that embedded the corpus of {folder} is not found: {error} "
                f"{f'To download it: {call}. ' if embedder.local_files_only else ''}"
                "If it is elsewhere now, name it: SemanticSearch.load(path, embedder=...)."
            ) from error
        _check_fingerprint(embedder, description, folder)


def _check_fingerprint(embedder: SentenceEmbeddingTransformer, description: dict[str, Any], folder: Path) -> None:
    if embedder.model_fingerprint_ == description["model_fingerprint"]:
        return
    was_loaded, is_loaded = "model" not in description["embedder"], not isinstance(embedder.model, (str, os.PathLike))
    if was_loaded != is_loaded:
        kind = {True: "a loaded model", False: "a model given by name"}
        raise ValueError(
            f"The corpus of {folder} was embedded with {kind[was_loaded]}, and embedder has {kind[is_loaded]}: "
            "skembed cannot tell whether they are the same. Pass the model in the same way."
        )
    name = "the loaded model" if is_loaded else f"model={embedder.model!r}"
    raise ModelChangedError(
        f"{name} is not the one that the corpus of {folder} was embedded with: its weights, "
        "tokenizer or configuration differ. Restore the old model, or fit again with the new one."
    )


def _check_model_is_local(embedder: SentenceEmbeddingTransformer) -> None:
    """Raise for a model that is not on this machine, without loading it: huggingface_hub would go online."""
    if isinstance(embedder.model, (str, os.PathLike)) and embedder.local_files_only:
        name = read_model_name(embedder.model)
        if local_folder(name, embedder.revision) is None and hub_snapshot(name, embedder.revision) is None:
            raise ModelNotFoundError(f"model={name!r} is neither a folder nor in the hub's local cache.")


def _check_fitted_embedder(embedder: Any, description: dict[str, Any], folder: Path) -> None:
    """Raise for an embedder that is not fitted, and for a fine-tuner with other weights, if they can be compared."""
    if not is_fitted(embedder):
        raise NotFittedError(
            f"embedder is a {type(embedder).__name__} that is not fitted; pass the one that embedded the corpus of "
            f"{folder}, e.g. embedder_ of the search that was saved."
        )
    if not isinstance(embedder, SentenceEmbeddingFineTuner):
        return
    is_comparable = description["embedder"].get("is_saved") == (embedder._saved is not None)
    if is_comparable and embedder.model_fingerprint_ != description["model_fingerprint"]:
        raise ModelChangedError(
            f"embedder is a fine-tuner with other weights than the one that embedded the corpus of {folder}. "
            "Pass that one, or fit the search again with this one."
        )


def _to_json_types(value: Any) -> Any:
    """Return a value as JSON gives it back: lists for tuples, Python's numbers for numpy's."""
    return json.loads(json.dumps(value, default=lambda number: number.item()))


def _digest(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
