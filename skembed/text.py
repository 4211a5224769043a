"""The verbs of a column of text as functions: ``skembed.text.search(column, query)`` and so on.

They are the methods of ``series.text`` for columns of any kind. Imports the accessors of pandas; polars, if a column is
one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from skembed.frames.pandas import TextColumn, documented_as
from skembed.frames.verbs import as_series

_FOR_ANY_COLUMN = {
    r"\A(Parameters\n-+\n)": r"\1column : column of texts or of vectors\n"
    "    A list, an array, or a column of pandas, polars or pyarrow. For one of polars, the result is a polars frame,\n"
    "    whose first column ``row`` has the positions.\n",
    "With the column's index": "With the index of a column of pandas, or positions",
}


@documented_as(TextColumn.similarity, _FOR_ANY_COLUMN)
def similarity(column: Any, other: Any, *, vectors: Any = None, **params: Any) -> Any:
    """Compare each row with one text, or with the same row of another column.

    Examples
    --------
    >>> from skembed import text
    >>> text.similarity(["Great sound.", "The zip broke."], "It fell apart.").round(2)
       score
    0   0.18
    1   0.52
    """
    return _call(TextColumn.similarity, column, other, vectors=vectors, **params)


@documented_as(TextColumn.search, _FOR_ANY_COLUMN)
def search(column: Any, query: Any, k: int = 5, *, vectors: Any = None, **params: Any) -> Any:
    """Find the rows nearest to a query.

    Examples
    --------
    >>> from skembed import text
    >>> text.search(["Great sound.", "The zip broke."], "It fell apart.", k=1)[["position", "text"]]
       position            text
    1         1  The zip broke.
    """
    return _call(TextColumn.search, column, query, k, vectors=vectors, **params)


@documented_as(TextColumn.join, _FOR_ANY_COLUMN)
def join(
    column: Any,
    other: Any,
    k: int = 1,
    *,
    min_score: float | None = None,
    one_to_one: bool = False,
    vectors: Any = None,
    other_vectors: Any = None,
    **params: Any,
) -> Any:
    """Find, for each row, the nearest rows of another column, or its one partner.

    Examples
    --------
    >>> from skembed import text
    >>> text.join(["Where is my parcel?"], ["Charge it first.", "Delivery takes two days."])[["position", "text"]]
       position                      text
    0         1  Delivery takes two days.
    """
    chosen = {"min_score": min_score, "one_to_one": one_to_one, "vectors": vectors, "other_vectors": other_vectors}
    return _call(TextColumn.join, column, other, k, **chosen, **params)


@documented_as(TextColumn.duplicates, _FOR_ANY_COLUMN)
def duplicates(
    column: Any,
    threshold: float = 0.9,
    *,
    grouping: str = "connected",
    against: Any = None,
    vectors: Any = None,
    other_vectors: Any = None,
    **params: Any,
) -> Any:
    """Group rows whose texts mean nearly the same, or find those that another column has, too.

    Examples
    --------
    >>> from skembed import text
    >>> text.duplicates(["The zip broke.", "Works well.", "The zip broke!"])["group"].tolist()
    [0, 1, 0]
    """
    chosen = {"grouping": grouping, "against": against, "vectors": vectors, "other_vectors": other_vectors}
    return _call(TextColumn.duplicates, column, threshold, **chosen, **params)


@documented_as(TextColumn.cluster, _FOR_ANY_COLUMN)
def cluster(
    column: Any,
    n_clusters: int | Literal["auto"] = "auto",
    *,
    vectors: Any = None,
    random_state: Any = 0,
    **params: Any,
) -> Any:
    """Cluster rows by what their texts are about.

    Examples
    --------
    >>> from skembed import text
    >>> asked = ["Where is my parcel?", "I cannot log in.", "My order is late.", "Wrong password?"]
    >>> found = text.cluster(asked, 2)["cluster"]
    >>> bool(found[0] == found[2] != found[1] == found[3])
    True
    """
    return _call(TextColumn.cluster, column, n_clusters, vectors=vectors, random_state=random_state, **params)


@documented_as(TextColumn.passages, {**_FOR_ANY_COLUMN, "column of texts or of vectors": "column of texts"})
def passages(column: Any, max_tokens: int = 200, overlap: int = 40, **params: Any) -> Any:
    """Cut long texts between words into passages that the model reads whole.

    Examples
    --------
    >>> from skembed import text
    >>> text.passages(["The zip broke on day two. Great sound, though."], max_tokens=9, overlap=0)["text"].tolist()
    ['The zip broke on day two. ', 'Great sound, though.']
    """
    return _call(TextColumn.passages, column, max_tokens, overlap, **params)


def _call(verb: Callable[..., Any], column: Any, *arguments: Any, **keywords: Any) -> Any:
    """Call a method of ``series.text``; of a column of polars, return a frame of polars."""
    table = verb(TextColumn(as_series(column, "column")), *arguments, **keywords)
    if not type(column).__module__.startswith("polars"):
        return table
    import polars

    return polars.from_pandas(table.rename_axis("row").reset_index())
