"""pandas meets embeddings: ``df.text.embed()`` and the other verbs, ``series.text.embed()``, ``series.embed()``.

Imports pandas, the accessors, the verbs and the vector column; the transformer only when something is embedded.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pandas as pd
from pandas.api import types

from skembed.checks import check_choice
from skembed.frames import verbs
from skembed.frames.accessors import FallbackAccessor
from skembed.frames.text_columns import named_column, only_text_column
from skembed.frames.vectors import VectorArray

if TYPE_CHECKING:
    from skembed.transformer import SentenceEmbeddingTransformer

Output = Literal["frame", "vector", "numpy"]
_Result = TypeVar("_Result")


class TextColumn:
    """A column of text, or of vectors that are there already: ``series.text``, unless a row has that name.

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
            "frame": a float32 frame with a column for each dimension, which any estimator accepts. "vector": one column
            of vectors, to keep, join or write to a file. "numpy": the matrix alone.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame of float32, shape (n_rows, embedding_dim), or Series of vectors, or ndarray
            With the column's index. The columns of the frame are named ``review_0``, ``review_1``, ... after a column
            ``review``, and ``text_0``, ... if it has no name. A row without a text has NaN in all of them, and ``<NA>``
            as its vector.

        Raises
        ------
        TypeError, ValueError
            If a value is not a text; the message names its position and index label.

        Warns
        -----
        TruncationWarning
            If texts are longer than the model reads; one warning a call, with their number.

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
        transformer = verbs.make_embedder(params, TextColumn.embed)
        check_choice("output", output, ("frame", "vector", "numpy"))
        return embed_column(self._column, output, transformer)

    def similarity(self, other: Any, *, vectors: Any = None, **params: Any) -> pd.DataFrame:
        """Compare each row with one text, or with the same row of another column.

        Parameters
        ----------
        other : str, vector, or column of texts or of vectors
            One text for all rows, or one for each. A series is aligned by its index labels.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column if they exist already, made with the same parameters.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 1)
            With the column's index: ``score``, the cosine, from -1 to 1; NaN where a text is missing.

        Raises
        ------
        TypeError, ValueError
            If a value is not a text or a vector, or the two sides differ in rows, index labels, dimensions or model.

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
            Number of rows to find for each query.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column if they exist already. They contain the model's prompt for documents only if they
            were made with it.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here. If the
            model has prompts for queries and for documents, ``prompt=""`` omits both.

        Returns
        -------
        DataFrame, shape (n_queries * k, 7)
            Indexed by the labels of the rows found: ``query`` (its text, or its position if it is a vector),
            ``query_id`` (its index label, or its position if it has none), ``rank`` (from 1), ``score`` (the cosine),
            ``position`` in the column, ``id`` (the index label again), and ``text``. Rows without a text are never
            found.

        Raises
        ------
        TypeError, ValueError
            If a query is missing or not a text, ``k`` exceeds the number of texts, or vectors have other dimensions or
            are of another model.

        Warns
        -----
        UserWarning
            If queries are empty or blank: their nearest rows mean nothing.

        See Also
        --------
        skembed.SemanticSearch : Build an index once for many calls, save it, and search millions of texts.

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
        self,
        other: Any,
        k: int = 1,
        *,
        min_score: float | None = None,
        one_to_one: bool = False,
        vectors: Any = None,
        other_vectors: Any = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Find, for each row, the nearest rows of another column, or the one row that is its partner.

        Parameters
        ----------
        other : column of texts or of vectors
            The column to search.
        k : int, default=1
            Number of rows to find for each row.
        min_score : float, default=None
            Smallest cosine, from -1 to 1, at which two rows belong together. None: any.
        one_to_one : bool, default=False
            Whether a row of ``other`` is found for one row at most. Of all such links, those with the largest sum of
            scores are chosen, so that a row does not always get the one nearest to it.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column if they exist already.
        other_vectors : column of vectors, matrix or frame, shape (n_other_rows, dim), default=None
            The vectors of ``other`` if they exist already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here. If the
            model has prompts for queries (this column) and for documents (the other), ``prompt=""`` omits both.

        Returns
        -------
        DataFrame, shape (n_rows * k, 5)
            With the column's index, each label ``k`` times: ``rank`` (from 1), ``score`` (the cosine), and the
            ``position``, ``id`` (index label) and ``text`` of the row found in ``other``. A row without a text keeps
            its place, with missing values, and so does what ``min_score`` or ``one_to_one`` leaves without a row:
            ``dropna(subset="score")`` drops it.

        Raises
        ------
        TypeError, ValueError
            If a value is not a text, ``k`` exceeds the number of texts in ``other``, or the two sides differ in
            dimensions or model. With ``one_to_one``, also if ``k`` is not 1, or a side has more than 20,000 rows and
            there is no ``min_score``, or one that 30 million pairs reach.

        Notes
        -----
        A pair counts if its cosine in float64 is at least ``min_score - 1e-6``.

        With ``one_to_one``, pairs that do not reach ``min_score`` are left out first. The largest sum is that of the
        pairs that remain, and it is exact: a row stays without a partner where that makes the sum larger, and no pair
        with a negative score is linked. Time and memory depend on the number of these pairs; all rows of the two sides
        are compared, most of them in a few dimensions only. Without ``min_score``, every row of the smaller side gets a
        partner, as from :func:`scipy.optimize.linear_sum_assignment`, in memory of eight bytes for each pair of rows.

        Rows with the same text are linked in their order: the first gets the nearest, and the last stay without.

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

        The tables of two shops, in which a product stands once:

        >>> ours = pd.Series(["kettle, 1.7 l", "toaster, two slices", "hand mixer"])
        >>> theirs = pd.Series(["water kettle 1.7 litres, steel", "2-slice toaster", "toaster with 4 slots"])
        >>> ours.text.join(theirs, min_score=0.6, one_to_one=True)[["position", "score"]].round(2)
           position  score
        0         0   0.78
        1         1   0.93
        2      <NA>    NaN
        """
        return verbs.join(self._column, other, k, min_score, one_to_one, vectors, other_vectors, params)

    def duplicates(
        self,
        threshold: float = 0.9,
        *,
        grouping: str = "connected",
        against: Any = None,
        vectors: Any = None,
        other_vectors: Any = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Group rows whose texts mean nearly the same, or find those that another column has, too.

        Parameters
        ----------
        threshold : float, default=0.9
            Smallest cosine, from -1 to 1, at which two rows are near-duplicates.
        grouping : {"connected", "star"}, default="connected"
            "connected": a chain of near-duplicates connects rows to a group. "star": each row of a group is a
            near-duplicate of its representative, which is before it. Not used with ``against``.
        against : column of texts or of vectors, default=None
            Another column, such as the training set of this test set. Each row is compared with the rows of that one,
            and there are no groups.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column if they exist already, made with the same parameters.
        other_vectors : column of vectors, matrix or frame, shape (n_other_rows, dim), default=None
            The vectors of ``against`` if they exist already.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 5)
            With the column's index: ``group`` (a number; -1 for a missing text), ``is_duplicate`` (whether the row
            could be dropped), ``representative`` (index label of the first row of the group), ``representative_text``
            and ``score`` (cosine to the representative). With ``against``: ``position``, ``id`` (index label) and
            ``score`` (cosine) of the nearest row there, and ``is_duplicate``; see
            :meth:`skembed.NearDuplicates.match`.

        Raises
        ------
        TypeError, ValueError
            If the threshold is not a cosine, a value is not a text or a vector, or ``against`` has vectors of another
            model or number of dimensions.

        See Also
        --------
        skembed.NearDuplicates : The estimator behind it; explains how groups form.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> reviews = pd.Series(["The zip broke.", "Works well.", "The zip broke!"], index=["r1", "r2", "r3"])
        >>> reviews.text.duplicates().round(2)
            group  is_duplicate representative representative_text  score
        r1      0         False             r1      The zip broke.   1.00
        r2      1         False             r2         Works well.   1.00
        r3      0          True             r1      The zip broke.   0.93
        >>> pd.Series(["The zip broke", "Too short."]).text.duplicates(against=reviews).round(2)
           position  id  score  is_duplicate
        0         0  r1   0.98          True
        1         0  r1   0.24         False
        """
        return verbs.duplicates(self._column, threshold, grouping, against, vectors, other_vectors, params)

    def cluster(
        self, n_clusters: int | Literal["auto"] = "auto", *, vectors: Any = None, random_state: Any = 0, **params: Any
    ) -> pd.DataFrame:
        """Cluster rows by what their texts are about.

        Parameters
        ----------
        n_clusters : int or "auto", default="auto"
            Number of clusters; "auto" chooses it as :class:`skembed.TopicModel` does.
        vectors : column of vectors, matrix or frame, shape (n_rows, dim), default=None
            The vectors of the column if they exist already.
        random_state : int, RandomState or None, default=0
            Seed of :class:`skembed.TopicModel`; with None, the clusters may differ at each call.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here.

        Returns
        -------
        DataFrame, shape (n_rows, 4)
            With the column's index: ``cluster`` (a number, 0 for the largest), ``name`` (of the cluster, from its
            texts), ``rank`` (1 for the row nearest to the centre of its cluster) and ``score`` (the cosine to the
            centre). All are missing where the text is.

        Raises
        ------
        TypeError, ValueError
            If a value is not a text or a vector, or there are fewer texts than clusters.

        Notes
        -----
        The clusters are the topics of :class:`skembed.TopicModel`, which also finds those of new texts, merges them
        and counts them over time. They do not depend on the order of the rows.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> asked = pd.Series(["Where is my parcel?", "I cannot log in.", "My order is late.", "Wrong password?"])
        >>> found = asked.text.cluster(2)["cluster"]
        >>> bool(found[0] == found[2] != found[1] == found[3])
        True
        """
        return verbs.cluster(self._column, n_clusters, vectors, random_state, params)

    def passages(self, max_tokens: int = 200, overlap: int = 40, **params: Any) -> pd.DataFrame:
        """Cut texts into passages that the model reads whole.

        Parameters
        ----------
        max_tokens : int, default=200
            Most tokens of a passage, special tokens and prompt included.
        overlap : int, default=40
            Most tokens that a passage repeats from the one before it, in whole words.
        **params
            Parameters of :class:`skembed.SentenceEmbeddingTransformer`, with which the passages will be embedded:
            ``model``, ``prompt``, ``task``, ``max_seq_length``.

        Returns
        -------
        DataFrame, shape (n_passages, 4)
            Under the index label of its row, each passage: ``text``, ``start`` and ``end`` (the characters of the row's
            text that it is: ``text[start:end]``) and ``n_tokens`` (as the model counts them, special tokens and prompt
            included). A row without a text has no passages, an empty text has one.

        Raises
        ------
        TypeError, ValueError
            If a value is not a text, ``max_tokens`` is more than the model reads, or leaves no room beside ``overlap``,
            special tokens and prompt.

        Notes
        -----
        Passages end between words, and keep the space after the last one. Without overlap, they are the whole text when
        they are joined. A word that is longer than ``max_tokens`` is cut between its tokens, and so are scripts without
        spaces, such as Chinese, Japanese and Thai.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> reviews = pd.Series(["The zip broke on day two. Great sound, though."], index=["r1"])
        >>> reviews.text.passages(max_tokens=9, overlap=3)
                                  text  start  end  n_tokens
        r1  The zip broke on day two.       0   26         9
        r1        day two. Great sound,      17   39         8
        r1         Great sound, though.     26   46         7
        """
        return verbs.passages(self._column, max_tokens, overlap, params)


def documented_as(
    verb: Callable[..., Any], changes: Mapping[str, str]
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Complete a docstring, a summary and examples, by the sections between them of the method that is called.

    Parameters
    ----------
    verb : method of TextColumn
    changes : mapping of str to str
        Regular expressions for what is different, and what stands there instead.
    """

    def complete(method: Callable[..., _Result]) -> Callable[..., _Result]:
        if method.__doc__ and verb.__doc__:  # python -OO leaves none
            summary, _, examples = inspect.cleandoc(method.__doc__).partition("\n\n")
            sections = inspect.cleandoc(verb.__doc__).partition("\n\n")[2].partition("Examples\n---")[0]
            for pattern, replacement in changes.items():
                sections = re.sub(pattern, replacement, sections, count=1, flags=re.MULTILINE)
            method.__doc__ = f"{summary}\n\n{sections}{examples}"
        return method

    return complete


# What is different where the column is one of a frame; the first pattern is the first keyword-only parameter.
_IN_A_FRAME = {
    r"^(?=output :|grouping :|min_score :|vectors :|\*\*params)": "on : column label, default=None\n"
    "    The column of text. None: the only one; categories of text count if there is no other.\n",
    r"^vectors : ": "vectors : column label, ",
    r"With the column's index": "With the frame's index",
    r"^(Raises\n-+\n)": r"\1KeyError\n    If there is no such column.\n"
    "ValueError\n    If ``on`` is None, and no column or more than one holds text.\n",
}


class TextFrame:
    """The text in a frame: ``df.text``, unless a column has that name.

    ``on`` chooses the column. ``df["text"].text.search(...)`` does the same with one column, whatever its name.

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

    __iter__ = None  # with __getitem__ alone, Python would take this for a sequence

    def __getitem__(self, column: Hashable) -> TextColumn:
        return TextColumn(named_column(self._frame, column))

    @documented_as(TextColumn.embed, _IN_A_FRAME)
    def embed(self, on: Hashable = None, *, output: Output = "frame", **params: Any) -> Any:
        """Embed a column of text.

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
        embedded = self._call(TextColumn.embed, on, params, output=output)
        if isinstance(embedded, pd.DataFrame) and embedded.columns.nlevels == self._frame.columns.nlevels:
            embedded.columns.names = self._frame.columns.names
        return embedded

    @documented_as(TextColumn.similarity, _IN_A_FRAME)
    def similarity(self, other: Any, on: Hashable = None, *, vectors: Any = None, **params: Any) -> pd.DataFrame:
        """Compare each row with one text, or with the same row of another column.

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
        return self._call(TextColumn.similarity, on, params, other, vectors=vectors)

    @documented_as(TextColumn.search, _IN_A_FRAME)
    def search(
        self, query: Any, k: int = 5, on: Hashable = None, *, vectors: Any = None, **params: Any
    ) -> pd.DataFrame:
        """Find the rows nearest to a query.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"review": ["Great sound.", "The zip broke."], "stars": [5, 2]})
        >>> df.join(df.text.search("It fell apart.", k=1)["score"], how="right").round(2)
                   review  stars  score
        1  The zip broke.      2   0.52
        """
        return self._call(TextColumn.search, on, params, query, k, vectors=vectors)

    @documented_as(TextColumn.join, _IN_A_FRAME)
    def join(
        self,
        other: Any,
        k: int = 1,
        on: Hashable = None,
        *,
        min_score: float | None = None,
        one_to_one: bool = False,
        vectors: Any = None,
        other_vectors: Any = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Find, for each row, the nearest rows of another column, or the one row that is its partner.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"asked": ["Where is my parcel?", "It does not start."]})
        >>> df.text.join(pd.Series(["Delivery takes two days.", "Charge it first."]))["text"].tolist()
        ['Delivery takes two days.', 'Charge it first.']
        """
        linking = {"min_score": min_score, "one_to_one": one_to_one}
        return self._call(
            TextColumn.join, on, params, other, k, **linking, vectors=vectors, other_vectors=other_vectors
        )

    @documented_as(TextColumn.duplicates, _IN_A_FRAME)
    def duplicates(
        self,
        threshold: float = 0.9,
        on: Hashable = None,
        *,
        grouping: str = "connected",
        against: Any = None,
        vectors: Any = None,
        other_vectors: Any = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Group rows whose texts mean nearly the same, or find those that another column has, too.

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
        keywords = {"grouping": grouping, "against": against, "vectors": vectors, "other_vectors": other_vectors}
        return self._call(TextColumn.duplicates, on, params, threshold, **keywords)

    @documented_as(TextColumn.cluster, _IN_A_FRAME)
    def cluster(
        self,
        n_clusters: int | Literal["auto"] = "auto",
        on: Hashable = None,
        *,
        vectors: Any = None,
        random_state: Any = 0,
        **params: Any,
    ) -> pd.DataFrame:
        """Cluster rows by what their texts are about.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"asked": ["Where is my parcel?", "I cannot log in.", "My order is late."]})
        >>> df.text.cluster(2).columns.tolist()
        ['cluster', 'name', 'rank', 'score']
        """
        return self._call(TextColumn.cluster, on, params, n_clusters, vectors=vectors, random_state=random_state)

    @documented_as(TextColumn.passages, _IN_A_FRAME)
    def passages(self, max_tokens: int = 200, overlap: int = 40, on: Hashable = None, **params: Any) -> pd.DataFrame:
        """Cut texts into passages that the model reads whole.

        Examples
        --------
        >>> import pandas as pd
        >>> import skembed
        >>> df = pd.DataFrame({"review": ["The zip broke on day two. Great sound, though."], "stars": [2]})
        >>> df[["stars"]].join(df.text.passages(max_tokens=9, overlap=0))
           stars                        text  start  end  n_tokens
        0      2  The zip broke on day two.       0   26         9
        0      2        Great sound, though.     26   46         7
        """
        return self._call(TextColumn.passages, on, params, max_tokens, overlap)

    def _call(
        self, verb: Callable[..., _Result], on: Hashable, params: dict[str, Any], *arguments: Any, **keywords: Any
    ) -> _Result:
        """Call a verb of the chosen column; ``vectors`` may be a column label."""
        column = only_text_column(self._frame) if on is None else named_column(self._frame, on)
        verbs.check_params(params, verb, "on")  # the message of the column's own verb would not list it
        if "vectors" in keywords:
            keywords["vectors"] = self._vectors(keywords["vectors"])
        return verb(TextColumn(column), *arguments, **keywords, **params)

    def _vectors(self, vectors: Any) -> Any:
        """Return the column of vectors if a label names it, else the vectors as they were given."""
        could_be_label = isinstance(vectors, tuple) and types.is_hashable(vectors)  # a tuple of lists is vectors
        if not could_be_label and not (types.is_scalar(vectors) and vectors is not None):
            return vectors
        if vectors not in self._frame:
            raise KeyError(f"There is no column {vectors!r} of vectors.")
        return self._frame[vectors]


def embed_column(column: pd.Series, output: Output, transformer: SentenceEmbeddingTransformer) -> Any:
    """Embed a column of text into a frame, a vector column or a matrix; see :meth:`TextColumn.embed`."""
    vectors, tag = transformer._embed_and_tag(column, verbs.describe(column))
    if output == "numpy":
        return vectors
    if output == "vector":
        array = VectorArray(vectors, model=tag)
        return pd.Series(array, index=column.index, name=column.name, copy=False)  # nobody else holds them
    names = _column_names(column.name, vectors.shape[1])
    return pd.DataFrame(vectors, index=column.index, columns=names, copy=False)


def _column_names(name: Hashable, dim: int) -> pd.Index:
    if isinstance(name, tuple) and name:  # as many levels as the frame's columns have, so that it can be joined
        return pd.MultiIndex.from_tuples([(*name[:-1], f"{name[-1]}_{number}") for number in range(dim)])
    return pd.Index([f"{'text' if name is None else name}_{number}" for number in range(dim)])


def register() -> None:
    """Add the accessors to pandas; an attribute that somebody else has added stays."""
    FallbackAccessor("text", TextFrame).register(pd.DataFrame)
    FallbackAccessor("text", TextColumn).register(pd.Series)
    FallbackAccessor("embed", TextColumn, method="embed").register(pd.Series)


register()
