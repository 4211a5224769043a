"""polars meets embeddings: ``pl.col("review").text.embed()`` and ``series.text.embed()``.

Imports polars, so skembed imports this file only if polars is imported already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from skembed.encoding.plan import make_plan
from skembed.encoding.settings import check_names
from skembed.errors import warn_user
from skembed.transformer import SentenceEmbeddingTransformer


class TextExpression:
    """The text in an expression: ``pl.col("review").text``.

    Examples
    --------
    >>> import polars as pl
    >>> import skembed.frames.polars
    >>> df = pl.DataFrame({"review": ["Great sound.", None, "Too heavy."]})
    >>> df.with_columns(vector=pl.col("review").text.embed()).schema["vector"]
    Array(Float32, shape=(384,))
    """

    def __init__(self, expression: pl.Expr) -> None:
        self._expression = expression

    def embed(self, **params: Any) -> pl.Expr:
        """Embed each text; also in lazy queries and with the streaming engine.

        The model is loaded when the expression is made, because the number of dimensions is part of the type.

        Parameters
        ----------
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here, and makes
            nulls.

        Returns
        -------
        Expr
            Of ``pl.Array(pl.Float32, embedding_dim)``; null where the text is.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid.
        ModelNotFoundError
            If the model cannot be found.

        Warns
        -----
        TruncationWarning
            When the query runs, if texts are longer than the model reads.

        Notes
        -----
        A value that is not a text raises when the query runs. The message names its position; with the streaming engine
        this is the position in the chunk of the column that is being processed.
        """
        transformer = _make_transformer(params)
        dim = make_plan(transformer._settings()).finished_dim
        return self._expression.map_batches(
            lambda column: _embed_series(column, transformer),
            return_dtype=pl.Array(pl.Float32, dim),
            is_elementwise=True,
        )


class TextSeries:
    """A series of text: ``series.text``.

    Examples
    --------
    >>> import polars as pl
    >>> import skembed.frames.polars
    >>> pl.Series("review", ["Great sound.", None]).text.embed().null_count()
    1
    """

    def __init__(self, series: pl.Series) -> None:
        self._series = series

    def embed(self, **params: Any) -> pl.Series:
        """Embed each text.

        Parameters
        ----------
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here, and makes
            nulls.

        Returns
        -------
        Series
            Of ``pl.Array(pl.Float32, embedding_dim)``; null where the text is.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid or a value is not a text; the message names its position.
        ModelNotFoundError
            If the model cannot be found.

        Warns
        -----
        TruncationWarning
            If texts are longer than the model reads, with their number.
        """
        return _embed_series(self._series, _make_transformer(params))


def _make_transformer(params: dict[str, Any]) -> SentenceEmbeddingTransformer:
    check_names(params, "text.embed")
    return SentenceEmbeddingTransformer(**{"missing": "nan", **params})


def _embed_series(column: pl.Series, transformer: SentenceEmbeddingTransformer) -> pl.Series:
    name = f"column {column.name!r}" if column.name else "series"
    matrix, _ = transformer._embed_and_tag(column, name)
    # Without a copy of the matrix:
    vectors = pl.Series(column.name, matrix, dtype=pl.Array(pl.Float32, matrix.shape[1]))
    is_missing = np.isnan(matrix[:, 0])
    return vectors.set(pl.Series(is_missing), None) if is_missing.any() else vectors


def register() -> None:
    """Add the namespaces to polars; a namespace that somebody else has added stays."""
    for owner, add, namespace in (
        (pl.Expr, pl.api.register_expr_namespace, TextExpression),
        (pl.Series, pl.api.register_series_namespace, TextSeries),
    ):
        standing = getattr(owner, "text", None)
        if standing is None:
            add("text")(namespace)
        elif standing is not namespace:
            warn_user(
                f"polars.{owner.__name__}.text is {standing!r} already; skembed leaves it as it is.",
            )


register()
