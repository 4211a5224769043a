"""pandas meets embeddings: ``df.text.embed()`` and the other verbs, ``series.text.embed()``, ``series.embed()``.

Imports pandas and the vector column; the transformer only when something is embedded.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pandas.api import types

from skembed.errors import level_of_user
from skembed.frames import verbs
from skembed.frames.accessors import FallbackAccessor, join_names, may_hold_text
from skembed.frames.vectors import VectorArray

if TYPE_CHECKING:
    from skembed.transformer import SentenceEmbeddingTransformer

Output = Literal["frame", "vector", "numpy"]


class TextFrame:
    """What is done with the text in a frame: ``df.text``, as long as no column has that name.

    ``df["text"].text.search(...)`` says the same of one column, and goes with any name that a column may have.

    Examples
    --------
    >>> import pandas as pd
    >>> import skembed
    >>> df = pd.DataFrame({"review": ["Great sound.", "Too heavy."], "stars": [5, 2]}, index=["r1", "r2"])
    >>> df.text.embed().shape
    (2, 384)
    >>> df.text["review"].embed(truncate_dim=2).columns.tolist()
    ['review_0', 'review_1']
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    __iter__ = None  # without it, __getitem__ would make this a sequence to Python

    def __getitem__(self, column: Hashable) -> TextColumn:
        return TextColumn(_named_column(self._frame, column))

    def embed(self, on: Hashable = None, *, output: Output = "frame", **params: Any) -> Any:
        """Embed a column of text.

        Parameters
        ----------
        on : column label, default=None
            Which column. None: the only one that holds text; columns of categories count if there is no other.
        output : {"frame", "vector", "numpy"}, default="frame"
            "frame": a float32 frame, one column a dimension, that any estimator takes. "vector": one column of vectors,
            to keep, join or write to a file. "numpy": the matrix alone.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame of float32, shape (n_rows, embedding_dim), or Series of vectors, or ndarray
            With the frame's index. Columns are called ``review_0``, ``review_1``, ... after a column ``review``. A row
            without a text has NaN in all of them, and ``<NA>`` as its vector.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If no column, or more than one, could be meant, or a value is no text; the message names columns, positions
            and index labels.

        Warns
        -----
        TruncationWarning
            If texts were longer than the model reads, once a call, with their number.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> from sklearn.cluster import KMeans
        >>> texts = ["Where is my parcel?", "I cannot log in.", "My order is late.", "Wrong password?"]
        >>> df = pd.DataFrame({"message": texts})
        >>> groups = KMeans(2, random_state=0).fit_predict(df.text.embed())
        >>> bool(groups[0] == groups[2] != groups[1] == groups[3])
        True
        >>> df["vector"] = df.text.embed(output="vector")
        >>> df["vector"].dtype
        vector[float32, 384]
        """
        column, _ = self._chosen(on, None)
        embedded = _embed(column, output, params, "on")
        if isinstance(embedded, pd.DataFrame) and embedded.columns.nlevels == self._frame.columns.nlevels:
            embedded.columns.names = self._frame.columns.names
        return embedded

    def similarity(self, other: Any, on: Hashable = None, *, vectors: Any = None, **params: Any) -> pd.DataFrame:
        """Compare each row with one text, or with the row of another column; see :meth:`TextColumn.similarity`.

        Parameters
        ----------
        other : str, vector, or column of texts or of vectors
            One text for all rows, or one for each.
        on : column label, default=None
            Which column of text. None: the only one.
        vectors : column label, column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of that column, if they are there already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 1)
            With the frame's index: ``score``, the cosine.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If no column, or more than one, could be meant, or as :meth:`TextColumn.similarity` says.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"review": ["Great sound.", "The zip broke."], "stars": [5, 2]})
        >>> df.text.similarity("It fell apart.").round(2)
           score
        0   0.18
        1   0.52
        """
        column, vectors = self._chosen(on, vectors)
        verbs.check_params(params, verbs.similarity, "on")
        return verbs.similarity(column, other, vectors, params)

    def search(
        self, query: Any, k: int = 5, on: Hashable = None, *, vectors: Any = None, **params: Any
    ) -> pd.DataFrame:
        """Find the rows nearest to a query; see :meth:`TextColumn.search`.

        Parameters
        ----------
        query : str, vector, or column of texts or of vectors
            One query or several.
        k : int, default=5
            How many rows to find for each.
        on : column label, default=None
            Which column of text. None: the only one.
        vectors : column label, column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of that column, if they are there already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_queries * k, 7)
            Under the index labels of the rows found: ``query``, ``query_id``, ``rank``, ``score``, ``position``, ``id``
            and ``text``.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If no column, or more than one, could be meant, or as :meth:`TextColumn.search` says.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"review": ["Great sound.", "The zip broke."], "stars": [5, 2]})
        >>> df.join(df.text.search("It fell apart.", k=1)["score"], how="right").round(2)
                   review  stars  score
        1  The zip broke.      2   0.52
        """
        column, vectors = self._chosen(on, vectors)
        verbs.check_params(params, verbs.search, "on")
        return verbs.search(column, query, k, vectors, params)

    def join(
        self,
        other: Any,
        k: int = 1,
        on: Hashable = None,
        *,
        vectors: Any = None,
        other_vectors: Any = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Find, for each row, the nearest rows of another column; see :meth:`TextColumn.join`.

        Parameters
        ----------
        other : column of texts or of vectors
            Where to look.
        k : int, default=1
            How many rows to find for each.
        on : column label, default=None
            Which column of text. None: the only one.
        vectors : column label, column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of that column, if they are there already.
        other_vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of ``other``, if they are there already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows * k, 5)
            With the frame's index, each label ``k`` times: ``rank``, ``score``, ``position``, ``id`` and ``text``.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If no column, or more than one, could be meant, or as :meth:`TextColumn.join` says.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"asked": ["Where is my parcel?", "It does not start."]})
        >>> df.text.join(pd.Series(["Delivery takes two days.", "Charge it first."]))["text"].tolist()
        ['Delivery takes two days.', 'Charge it first.']
        """
        column, vectors = self._chosen(on, vectors)
        verbs.check_params(params, verbs.join, "on")
        return verbs.join(column, other, k, vectors, other_vectors, params)

    def duplicates(
        self, threshold: float = 0.9, on: Hashable = None, *, vectors: Any = None, **params: Any
    ) -> pd.DataFrame:
        """Group rows that say nearly the same; see :meth:`TextColumn.duplicates`.

        Parameters
        ----------
        threshold : float, default=0.9
            Smallest cosine, from -1 to 1, that makes two rows near-duplicates.
        on : column label, default=None
            Which column of text. None: the only one.
        vectors : column label, column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of that column, if they are there already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 4)
            With the frame's index: ``group``, ``is_duplicate``, ``representative`` and ``score``.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If no column, or more than one, could be meant, or as :meth:`TextColumn.duplicates` says.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"review": ["The zip broke.", "Works well.", "The zip broke!"]})
        >>> df[~df.text.duplicates()["is_duplicate"]]
                   review
        0  The zip broke.
        1     Works well.
        """
        column, vectors = self._chosen(on, vectors)
        verbs.check_params(params, verbs.duplicates, "on")
        return verbs.duplicates(column, threshold, vectors, params)

    def cluster(
        self,
        n_clusters: int = 8,
        on: Hashable = None,
        *,
        vectors: Any = None,
        random_state: Any = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Gather rows that are about the same; see :meth:`TextColumn.cluster`.

        Parameters
        ----------
        n_clusters : int, default=8
        on : column label, default=None
            Which column of text. None: the only one.
        vectors : column label, column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of that column, if they are there already.
        random_state : int or RandomState, default=None
            Of :class:`sklearn.cluster.KMeans`; an int for the same clusters at every call.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 3)
            With the frame's index: ``cluster``, ``rank`` and ``score``.

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError, ValueError
            If no column, or more than one, could be meant, or as :meth:`TextColumn.cluster` says.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"asked": ["Where is my parcel?", "I cannot log in.", "My order is late."]})
        >>> df.text.cluster(2, random_state=0).columns.tolist()
        ['cluster', 'rank', 'score']
        """
        column, vectors = self._chosen(on, vectors)
        verbs.check_params(params, verbs.cluster, "on")
        return verbs.cluster(column, n_clusters, vectors, random_state, params)

    def _chosen(self, on: Hashable, vectors: Any) -> tuple[pd.Series, Any]:
        """Take a column of text, and the column of its vectors if that is named by its label."""
        column = _only_text_column(self._frame) if on is None else _named_column(self._frame, on)
        could_be_label = isinstance(vectors, tuple) and types.is_hashable(vectors)  # one of lists is vectors
        is_label = could_be_label or (types.is_scalar(vectors) and vectors is not None)
        if is_label and vectors not in self._frame:
            raise KeyError(f"There is no column {vectors!r} of vectors.")
        return column, self._frame[vectors] if is_label else vectors


class TextColumn:
    """What is done with a column of text: ``series.text``, as long as no row has that name.

    Examples
    --------
    >>> import pandas as pd
    >>> import skembed
    >>> pd.Series(["Great sound.", None], name="review").text.embed(output="vector", truncate_dim=2).isna().tolist()
    [False, True]
    """

    def __init__(self, column: pd.Series) -> None:
        self._column = column

    def embed(self, *, output: Output = "frame", **params: Any) -> Any:
        """Embed the column.

        Parameters
        ----------
        output : {"frame", "vector", "numpy"}, default="frame"
            "frame": a float32 frame, one column a dimension, that any estimator takes. "vector": one column of vectors,
            to keep, join or write to a file. "numpy": the matrix alone.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame of float32, shape (n_rows, embedding_dim), or Series of vectors, or ndarray
            With the column's index. Columns are called ``review_0``, ``review_1``, ... after a column ``review``, and
            ``text_0``, ... if it has no name. A row without a text has NaN in all of them, and ``<NA>`` as its vector.

        Raises
        ------
        TypeError, ValueError
            If a value is no text; the message names its position and index label.

        Warns
        -----
        TruncationWarning
            If texts were longer than the model reads, once a call, with their number.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> reviews = pd.Series(["Great sound.", "Too heavy."], index=["r1", "r2"], name="review")
        >>> reviews.embed().index.tolist()
        ['r1', 'r2']
        """
        if "on" in params:
            raise TypeError(
                f"on={params['on']!r}: this is one column already, {self._column.name!r}. "
                f"For another column of its frame write df[{params['on']!r}].embed()."
            )
        return _embed(self._column, output, params)

    def similarity(self, other: Any, *, vectors: Any = None, **params: Any) -> pd.DataFrame:
        """Compare each row with one text, or with the row of another column.

        Parameters
        ----------
        other : str, vector, or column of texts or of vectors
            One text for all rows, or one for each. A series is brought into the order of the index labels.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column, if they are there already, made with the same parameters.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 1)
            With the column's index: ``score``, the cosine, from -1 to 1; NaN where a text is missing.

        Raises
        ------
        TypeError, ValueError
            If a value is no text or vector, or the two sides differ in rows, index labels, dimensions or model.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> reviews = pd.Series(["Great sound.", "The zip broke.", None], index=["r1", "r2", "r3"])
        >>> reviews.text.similarity("It fell apart.").round(2)
            score
        r1   0.18
        r2   0.52
        r3    NaN
        """
        return verbs.similarity(self._column, other, vectors, params)

    def search(self, query: Any, k: int = 5, *, vectors: Any = None, **params: Any) -> pd.DataFrame:
        """Find the rows nearest to a query.

        Parameters
        ----------
        query : str, vector, or column of texts or of vectors
            One query or several.
        k : int, default=5
            How many rows to find for each.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column, if they are there already. A model's prompt for documents is not in them, unless
            they were made with it.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here. With a
            model that has prompts for queries and documents, ``prompt=""`` leaves both out.

        Returns
        -------
        DataFrame, shape (n_queries * k, 7)
            Under the index labels of the rows found: ``query`` (its text, or its position if it is a vector),
            ``query_id`` (its index label, or its position if it has none), ``rank`` (from 1), ``score`` (the cosine),
            ``position`` in the column, ``id`` (the index label once more), and ``text``. Rows without a text are not
            found.

        Raises
        ------
        TypeError, ValueError
            If a query is missing or no text, ``k`` is larger than the number of texts, or vectors have other dimensions
            or are of another model.

        Warns
        -----
        UserWarning
            If queries are empty or blank: what is nearest to them means nothing.

        See Also
        --------
        skembed.SemanticSearch : Keeps its index for many calls, saves it, and searches millions of texts.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> reviews = pd.Series(["Great sound.", "The zip broke.", "Too heavy."], index=["r1", "r2", "r3"])
        >>> reviews.text.search("It fell apart.", k=1)[["rank", "text"]]
            rank            text
        r2     1  The zip broke.
        """
        return verbs.search(self._column, query, k, vectors, params)

    def join(
        self, other: Any, k: int = 1, *, vectors: Any = None, other_vectors: Any = None, **params: Any
    ) -> pd.DataFrame:
        """Find, for each row, the nearest rows of another column.

        Parameters
        ----------
        other : column of texts or of vectors
            Where to look.
        k : int, default=1
            How many rows to find for each.
        vectors, other_vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of this and of the other column, if they are there already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here. With a
            model that has prompts for queries (this column) and documents (the other), ``prompt=""`` leaves both out.

        Returns
        -------
        DataFrame, shape (n_rows * k, 5)
            With the column's index, each label ``k`` times: ``rank`` (from 1), ``score`` (the cosine), and
            ``position``, ``id`` (index label) and ``text`` of what was found in ``other``. A row without a text keeps
            its place and finds nothing.

        Raises
        ------
        TypeError, ValueError
            If a value is no text, ``k`` is larger than the number of texts in ``other``, or the two sides differ in
            dimensions or model.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> asked = pd.Series(["Where is my parcel?", "It does not start."])
        >>> answers = pd.Series(["Delivery takes two days.", "Charge it first."], index=["a1", "a2"])
        >>> asked.text.join(answers)[["id", "text"]]
           id                      text
        0  a1  Delivery takes two days.
        1  a2          Charge it first.
        """
        return verbs.join(self._column, other, k, vectors, other_vectors, params)

    def duplicates(self, threshold: float = 0.9, *, vectors: Any = None, **params: Any) -> pd.DataFrame:
        """Group rows that say nearly the same.

        Parameters
        ----------
        threshold : float, default=0.9
            Smallest cosine, from -1 to 1, that makes two rows near-duplicates.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column, if they are there already, made with the same parameters.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 4)
            With the column's index: ``group`` (a number; -1 for a missing text), ``is_duplicate`` (whether the row
            could be dropped), ``representative`` (index label of the first row of the group) and ``score`` (cosine to
            that).

        Raises
        ------
        TypeError, ValueError
            If the threshold is no cosine, or a value is no text or vector.

        See Also
        --------
        skembed.NearDuplicates : How groups are made.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> reviews = pd.Series(["The zip broke.", "Works well.", "The zip broke!"], index=["r1", "r2", "r3"])
        >>> reviews.text.duplicates().round(2)
            group  is_duplicate representative  score
        r1      0         False             r1   1.00
        r2      1         False             r2   1.00
        r3      0          True             r1   0.93
        """
        return verbs.duplicates(self._column, threshold, vectors, params)

    def cluster(
        self, n_clusters: int = 8, *, vectors: Any = None, random_state: Any = None, **params: Any
    ) -> pd.DataFrame:
        """Gather rows that are about the same.

        Parameters
        ----------
        n_clusters : int, default=8
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column, if they are there already.
        random_state : int or RandomState, default=None
            Of :class:`sklearn.cluster.KMeans`; an int for the same clusters at every call.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 3)
            With the column's index: ``cluster`` (a number), ``rank`` (1 for the row nearest to the centre of its
            cluster) and ``score`` (the cosine to the centre). Missing where the text is.

        Raises
        ------
        TypeError, ValueError
            If a value is no text or vector, or there are fewer texts than clusters.

        Notes
        -----
        The clusters are those of k-means on vectors of length 1, the best of ten starts.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> asked = pd.Series(["Where is my parcel?", "I cannot log in.", "My order is late.", "Wrong password?"])
        >>> found = asked.text.cluster(2, random_state=0)["cluster"]
        >>> bool(found[0] == found[2] != found[1] == found[3])
        True
        """
        return verbs.cluster(self._column, n_clusters, vectors, random_state, params)


def _embed(column: pd.Series, output: Output, params: dict[str, Any], *own: str) -> Any:
    from skembed.encoding.settings import check_names
    from skembed.transformer import SentenceEmbeddingTransformer

    check_names(params, "text.embed", *own, "output")
    if output not in ("frame", "vector", "numpy"):
        raise ValueError(f"output must be 'frame' or 'vector' or 'numpy'; got {output!r}.")
    transformer = SentenceEmbeddingTransformer(**{"missing": "nan", **params})
    return embed_column(column, output, transformer)


def embed_column(column: pd.Series, output: Output, transformer: SentenceEmbeddingTransformer) -> Any:
    """Embed a column of text into what pandas people do next with it."""
    from skembed.encoding.texts import read_texts

    texts = read_texts(column, missing=transformer._settings().missing, name=verbs.describe(column))
    plan = transformer._plan()
    vectors = transformer._embed_texts(texts, plan)
    if output == "numpy":
        return vectors
    if output == "vector":
        array = VectorArray(vectors, model=transformer._model_note(plan))
        return pd.Series(array, index=column.index, name=column.name, copy=False)  # nobody else has them
    names = _column_names(column.name, vectors.shape[1])
    return pd.DataFrame(vectors, index=column.index, columns=names, copy=False)


def _column_names(name: Hashable, dim: int) -> pd.Index:
    if isinstance(name, tuple) and name:  # of a frame whose columns have several levels: so that it can be joined
        return pd.MultiIndex.from_tuples([(*name[:-1], f"{name[-1]}_{number}") for number in range(dim)])
    return pd.Index([f"{'text' if name is None else name}_{number}" for number in range(dim)])


def _named_column(frame: pd.DataFrame, name: Hashable) -> pd.Series:
    """Take a column of text by its label."""
    try:
        found = frame[name] if types.is_hashable(name) and not callable(name) else None
    except KeyError as error:
        raise KeyError(
            f"There is no column {name!r}; columns with text: {join_names(_text_columns(frame))}."
        ) from error
    if not isinstance(found, pd.Series):
        what = "is no label of a column" if found is None else f"stands for {found.shape[1]} columns"
        raise ValueError(f"{name!r} {what}; embed one column, chosen by label or with df.iloc[:, position].embed().")
    if not may_hold_text(found.dtype):
        listed = join_names(_text_columns(frame))
        raise TypeError(f"Column {name!r} is {found.dtype.name}, not text; columns with text: {listed}.")
    return found


def _only_text_column(frame: pd.DataFrame) -> pd.Series:
    columns = _text_columns(frame)
    if not columns:  # any more: there was one when the accessor was made
        raise ValueError("No column holds text.")
    if len(columns) > 1:
        raise ValueError(f"Several columns hold text: {join_names(columns)}. Say which, e.g. on={columns[0].name!r}.")
    return columns[0]


def _text_columns(frame: pd.DataFrame) -> list[pd.Series]:
    """List the columns with text; if there is none, those of categories that are text; if none, those of objects."""
    columns = [frame.iloc[:, position] for position, dtype in enumerate(frame.dtypes) if may_hold_text(dtype)]
    kinds = [_kind(column) for column in columns]
    first = next((kind for kind in ("text", "categories") if kind in kinds), "other")
    return [column for column, kind in zip(columns, kinds, strict=True) if kind == first]


def _kind(column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categories"
    if column.dtype != object:
        return "text"
    inferred = types.infer_dtype(column, skipna=True)
    is_text = inferred == "string" or (inferred.startswith("mixed") and any(isinstance(value, str) for value in column))
    return "text" if is_text else "other"


def register() -> None:
    """Add the accessors to pandas; one that somebody else has added stays."""
    for owner, accessor in (
        (pd.DataFrame, FallbackAccessor("text", TextFrame)),
        (pd.Series, FallbackAccessor("text", TextColumn)),
        (pd.Series, FallbackAccessor("embed", TextColumn, method="embed")),
    ):
        standing = owner.__dict__.get(accessor._name)
        if standing is None or isinstance(standing, FallbackAccessor):
            setattr(owner, accessor._name, accessor)
        else:
            warnings.warn(
                f"pandas.{owner.__name__}.{accessor._name} is {standing!r} already; skembed leaves it as it is. "
                "skembed.embed(series) does the same.",
                UserWarning,
                stacklevel=level_of_user(),
            )


register()
