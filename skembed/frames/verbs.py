"""The verbs of a text column beyond embedding it: similarity, search, join, duplicates, cluster, passages.

Imports pandas, vector columns, and what reads texts and vectors; the estimators when a verb is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.checks import check_choice, check_count, check_number
from skembed.encoding.columns import as_column, is_single, read_column
from skembed.encoding.texts import MISSING, read_texts
from skembed.encoding.vectors import holds_vectors
from skembed.frames.vectors import VectorArray

if TYPE_CHECKING:
    from skembed.transformer import SentenceEmbeddingTransformer


def similarity(column: pd.Series, other: Any, vectors: Any, params: dict[str, Any]) -> pd.DataFrame:
    """Compare each row with one text, or with the same row of another column; see ``TextColumn.similarity``."""
    from skembed.embedders import embed_pair, read_column_for

    embedder = make_embedder(params, similarity)
    own = read_column_for(embedder, _with_vectors(column, vectors), describe(column))
    others = read_column_for(embedder, _align(as_column(other), column), "other")
    left, right = embed_pair(own, others, embedder, ("the column", "other"))
    if not is_single(other) and len(right) != len(left):
        raise ValueError(f"other has {len(right)} rows for {len(left)}; pass one text, or one for each row.")
    return pd.DataFrame({"score": (left * right).sum(axis=1).clip(-1, 1)}, index=column.index)


def search(column: pd.Series, query: Any, k: int, vectors: Any, params: dict[str, Any]) -> pd.DataFrame:
    """Find the rows nearest to a query; see ``TextColumn.search``."""
    from skembed.similarity.search import SemanticSearch

    check_count("k", k)
    engine = SemanticSearch(make_embedder(params, search))
    engine._fit(_with_vectors(column, vectors), None, name=describe(column))
    hits = engine.search(as_column(query), k)
    positions = hits["position"].to_numpy()
    return hits.assign(text=_texts_of(column)[positions]).set_axis(column.index.take(positions))


def join(
    column: pd.Series,
    other: Any,
    k: int,
    min_score: float | None,
    one_to_one: bool,
    vectors: Any,
    other_vectors: Any,
    params: dict[str, Any],
) -> pd.DataFrame:
    """Find, for each row, the nearest rows of another column, or its partner; see ``TextColumn.join``."""
    from skembed.similarity.near_pairs import TOLERANCE
    from skembed.similarity.search import SemanticSearch

    texts = as_series(other, "other")
    _check_join(k, min_score, one_to_one, max(len(column), len(texts)))
    engine = SemanticSearch(make_embedder(params, join), n_neighbors=k)
    engine._fit(_with_vectors(texts, other_vectors), None, name="other")
    asked = _with_vectors(column, vectors)
    if one_to_one:
        score, position = engine._link_all(asked, min_score, describe(column))
    else:
        score, position = engine._find_all(asked, k, describe(column))
        is_below = score < (-np.inf if min_score is None else min_score - TOLERANCE)
        score[is_below], position[is_below] = np.nan, -1
    rows, found = np.repeat(np.arange(len(column)), k), position.ravel()
    labels = texts.index.to_flat_index().to_numpy(dtype=object)[found]
    text = _texts_of(texts)[found]
    labels[found < 0] = text[found < 0] = None
    table = {
        "rank": np.tile(np.arange(1, k + 1), len(column)),
        "score": score.ravel(),
        "position": pd.arrays.IntegerArray(found, mask=found < 0),
        "id": labels,
        "text": text,
    }
    return pd.DataFrame(table, index=column.index.take(rows))


def _check_join(k: int, min_score: float | None, one_to_one: bool, n_rows: int) -> None:
    from skembed.similarity.linking import MOST_ROWS

    check_count("k", k)
    check_choice("one_to_one", one_to_one, (True, False))
    if min_score is not None:
        check_number("min_score", min_score, "None or a cosine, from -1 to 1", lambda cosine: -1 <= cosine <= 1)
    if one_to_one and k > 1:
        raise ValueError(f"one_to_one=True finds one row for each, and k is {k}; omit one of the two.")
    if one_to_one and min_score is None and n_rows > MOST_ROWS:
        raise ValueError(
            f"one_to_one=True compares all pairs of at most {MOST_ROWS:,} rows a side, and one side has {n_rows:,}; "
            "set min_score, e.g. min_score=0.5."
        )


def duplicates(
    column: pd.Series,
    threshold: float,
    grouping: str,
    against: Any,
    vectors: Any,
    other_vectors: Any,
    params: dict[str, Any],
) -> pd.DataFrame:
    """Group rows that say nearly the same, or find rows of another column that do; see ``TextColumn.duplicates``."""
    from skembed.similarity.duplicates import NearDuplicates

    estimator = NearDuplicates(make_embedder(params, duplicates), threshold=threshold, grouping=grouping)
    own = _with_vectors(column, vectors)
    if against is not None:
        estimator._keep(_with_vectors(as_series(against, "against"), other_vectors), "against")
        return estimator._match(own, name=describe(column), fitted="against")
    if other_vectors is not None:
        raise ValueError("other_vectors are those of against, which is None; pass the other column as against.")
    estimator._fit(own, name=describe(column))
    others, representative = estimator.duplicates_, np.arange(len(column))
    score = np.where(estimator.labels_ < 0, np.nan, 1.0)
    representative[others["position"]], score[others["position"]] = others["representative"], others["score"]
    table = {
        "group": estimator.labels_,
        "is_duplicate": representative != np.arange(len(column)),
        "representative": column.index.take(representative).to_flat_index(),
        "representative_text": _texts_of(column)[representative],
        "score": score,
    }
    return pd.DataFrame(table).set_axis(column.index)


def cluster(
    column: pd.Series, n_clusters: int | Literal["auto"], vectors: Any, random_state: Any, params: dict[str, Any]
) -> pd.DataFrame:
    """Group rows by what they are about; see ``TextColumn.cluster``."""
    from skembed.clustering.topics import TopicModel

    if not (isinstance(n_clusters, str) and n_clusters == "auto"):
        check_count("n_clusters", n_clusters)
    model = TopicModel(n_clusters, embedder=make_embedder(params, cluster), random_state=random_state)
    texts = None if vectors is None or holds_vectors(column) else column
    closeness = model._fit(_with_vectors(column, vectors), texts, name=describe(column), noun="clusters")
    number = pd.arrays.IntegerArray(model.labels_, mask=model.labels_ < 0)
    table = pd.DataFrame({"cluster": number, "score": closeness})
    rank = table.groupby("cluster")["score"].rank(method="first", ascending=False)
    table.insert(1, "name", table["cluster"].map(model.topics_["name"]))
    table.insert(2, "rank", rank.astype("Int64"))
    return table.set_axis(column.index)


def passages(column: pd.Series, max_tokens: int, overlap: int, params: dict[str, Any]) -> pd.DataFrame:
    """Cut the texts into passages; see ``TextColumn.passages``."""
    from skembed.similarity.passages import cut_into_passages

    plan = make_embedder(params, passages)._plan()
    texts = read_texts(column, missing=plan.settings.missing, name=describe(column))
    found = cut_into_passages(texts, plan, max_tokens, overlap)
    parts = [(texts.unique[code], part) for code in texts.codes.tolist() if code != MISSING for part in found[code]]
    rows = [row for row, code in enumerate(texts.codes.tolist()) if code != MISSING for _ in found[code]]
    table = {
        "text": np.array([text[part.start : part.end] for text, part in parts], dtype=object),
        "start": np.array([part.start for _, part in parts], dtype=np.int64),
        "end": np.array([part.end for _, part in parts], dtype=np.int64),
        "n_tokens": np.array([part.n_tokens for _, part in parts], dtype=np.int64),
    }
    return pd.DataFrame(table, index=column.index.take(rows))


def describe(column: pd.Series) -> str:
    """Return the name of a column in messages."""
    return "series" if column.name is None else f"column {column.name!r}"


def as_series(values: Any, name: str) -> pd.Series:
    """Return a column of any kind as a Series, so that its rows have index labels and texts.

    Parameters
    ----------
    values : column of texts or of vectors, or one of them
    name : str
        Name of the column in messages.

    Returns
    -------
    Series
    """
    if isinstance(values, pd.Series):
        return values
    values = as_column(values)
    own = VectorArray(values) if holds_vectors(values) else read_column(values, name).to_objects()
    return pd.Series(own, index=values.index if isinstance(values, pd.DataFrame) else None, copy=False)


def check_params(params: dict[str, Any], verb: Callable[..., Any], *own: str) -> None:
    """Raise TypeError for a keyword that neither the verb nor the transformer takes; it lists ``own`` first."""
    from skembed.encoding.settings import check_names

    of_verb = [name for name in inspect.signature(verb).parameters if name not in ("self", "column", "params")]
    check_names(params, f"text.{verb.__name__}", *own, *of_verb)


def make_embedder(params: dict[str, Any], verb: Callable[..., Any]) -> SentenceEmbeddingTransformer:
    """Return the transformer for a verb, with the parameters that the user passed to the verb."""
    from skembed.transformer import SentenceEmbeddingTransformer

    check_params(params, verb)
    return SentenceEmbeddingTransformer(**{"missing": "nan", **params})


def _with_vectors(column: pd.Series, vectors: Any) -> pd.Series:
    """Return the column, or its given vectors under its index labels and name."""
    if vectors is None:
        return column
    array = VectorArray(vectors)  # raises for other values, such as another column of texts
    if len(array) != len(column):
        raise ValueError(f"vectors has {len(array)} rows for {len(column)} texts.")
    if isinstance(vectors, (pd.Series, pd.DataFrame)) and not vectors.index.equals(column.index):
        raise ValueError("vectors has other index labels than the column; pass it in the same order, or as an array.")
    return pd.Series(array, index=column.index, name=column.name, copy=False)


def _align(other: Any, column: pd.Series) -> Any:
    """Align another column with the index labels of this one, as pandas does."""
    if not isinstance(other, (pd.Series, pd.DataFrame)) or other.index.equals(column.index):
        return other
    if column.index.is_unique and other.index.is_unique and len(other) == len(column):
        rows = other.index.get_indexer(column.index)
        if (rows >= 0).all():
            return other.iloc[rows]
    raise ValueError("other has other index labels than the column, so that its rows cannot be matched.")


def _texts_of(column: pd.Series) -> NDArray[np.object_]:
    if holds_vectors(column):
        return np.full(len(column), None, dtype=object)
    return column.to_numpy(dtype=object)
