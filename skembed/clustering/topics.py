"""TopicModel: topics of texts, with names. Imports scikit-learn, the embedders and the rooms beside it."""

from __future__ import annotations

import copy
import hashlib
import html
import textwrap
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_count
from skembed.clustering.centers import find_centers, nearest_centers
from skembed.clustering.hierarchy import cut, merge_all, merge_centers, upper_part
from skembed.clustering.names import make_names, name_with, top_terms
from skembed.clustering.periods import count_by_period
from skembed.clustering.terms import TermCounts, count_terms
from skembed.embedders import (
    embed_column,
    embed_like,
    model_tag,
    plan_of,
    read_column_for,
    refuse_guess,
    resolve_embedder,
)
from skembed.encoding.columns import Column
from skembed.encoding.distinct import distinct_rows, keys_of

MISSING = -1  # the topic of a row without a text
_DECIMALS = 5  # cosines that agree to so many are ties between examples
_SHOWN, _MOST_SHOWN = 120, 60  # characters of an example, and topics, in the table of a notebook


class TopicModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Find out what texts are about: topics that have names, keep still and leave nobody out.

    Every text belongs to the topic whose centre is nearest to its vector. The topics do not depend on the order of the
    rows. Topic 0 is the largest.

    Parameters
    ----------
    n_topics : int or "auto", default="auto"
        Number of topics. "auto" chooses the number, up to 500, whose topics are best separated and are found again in
        other texts; see the notes.
    embedder : transformer, default=None
        Embeds texts; None: a :class:`SentenceEmbeddingTransformer` with ``missing="nan"``. A fitted embedder is used
        as it is; any other is cloned and fitted by ``fit``.
    n_terms : int, default=8
        The most terms of a topic in ``topics_``.
    n_examples : int, default=3
        The most texts of a topic in ``topics_``: those nearest to its centre.
    namer : callable, default=None
        Names a topic: gets its terms and its examples, two lists of str, and returns a str; for example, it may ask a
        language model. None: a name is made of the first terms.
    random_state : int, RandomState or None, default=0
        Seed for "auto", which divides texts at random, and for further starts of k-means with few texts. With None, the
        topics may differ each time.

    Attributes
    ----------
    labels_ : ndarray of int, shape (n_rows,)
        Topic of each row; -1 for a missing text.
    topics_ : DataFrame, shape (n_topics, 4)
        Under the number of each topic: ``size`` (its rows), ``name``, ``terms`` (list of str, the best first) and
        ``examples`` (list of str, the nearest to the centre first). If vectors alone were given, names are "topic 0"
        and so on, terms None, and examples positions of rows.
    centers_ : ndarray of float32, shape (n_topics, dim)
        Mean direction of the vectors of each topic, of unit length.
    hierarchy_ : ndarray of float64, shape (n_topics - 1, 4)
        Which topics are alike: the centres, merged by Ward's method, as :func:`scipy.cluster.hierarchy.linkage` gives
        it.
    n_topics_ : int
        Number of topics. It is less than ``n_topics`` only if vectors are too near to each other to be told apart.
    embedder_ : transformer
        The embedder that was used.

    See Also
    --------
    TopicMapDisplay : A map of the texts with the names of their topics.
    TopicSizesDisplay : Bars of the sizes of topics, in all or over time.
    NearDuplicates : Groups of texts that say nearly the same.
    sklearn.cluster.KMeans : Refines the centres here, and takes any features.

    Notes
    -----
    Up to 1,000 distinct vectors: k-means, the best of ten random starts and a start from Ward's method. More: each
    vector of a sample of up to 20,000 is averaged with its 15 nearest ones, Ward's method merges 5,000 of the averages,
    and k-means refines the result on all of them. This finds nearly the same topics if some rows are missing. Time for
    all other rows is proportional to their number, and memory hardly grows beside the vectors.

    The number of topics: of up to 40 numbers, "auto" takes the one with the largest product of separation (a
    silhouette, less that of random vectors of the same distribution [1]_) and squared stability (the agreement of
    topics that are found in two halves of the sample [2]_). On labelled data, this is within a factor of 2.5 of the
    number of labels for questions to a bank (77 intents), titles of questions (20 subjects), newsgroups (20) and news
    (4). It is a good start: look at the topics, and :meth:`reduce` them or pass a number.

    Terms are words, and pairs of words, that are more frequent in the texts of a topic than in the others; texts near
    the centre count more. They need no list of stop words. The weighting is a variant of class-based tf-idf [3]_.

    References
    ----------
    .. [1] R. Tibshirani, G. Walther and T. Hastie, "Estimating the Number of Clusters in a Data Set via the Gap
       Statistic", Journal of the Royal Statistical Society B 63, 2001.
    .. [2] T. Lange, V. Roth, M. L. Braun and J. M. Buhmann, "Stability-Based Validation of Clustering Solutions",
       Neural Computation 16, 2004.
    .. [3] M. Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure",
       arXiv:2203.05794, 2022.

    Examples
    --------
    >>> from skembed import TopicModel
    >>> asked = [
    ...     "Where is my parcel?", "My parcel has not arrived.", "When does the parcel arrive?", "The parcel is late.",
    ...     "I forgot my password.", "How do I reset the password?", "The password does not work.", None,
    ... ]
    >>> model = TopicModel(n_topics=2).fit(asked)
    >>> model.labels_
    array([ 0,  0,  0,  0,  1,  1,  1, -1])
    >>> model.topics_[["size", "name"]]  # doctest: +NORMALIZE_WHITESPACE
           size                     name
    topic
    0         4   parcel, arrived, Where
    1         3  password, reset, forgot
    >>> model.predict(["Is there a new password?"])
    array([1])
    """  # fmt: skip

    topics_: pd.DataFrame

    def __init__(
        self,
        n_topics: int | Literal["auto"] = "auto",
        *,
        embedder: BaseEstimator | None = None,
        n_terms: int = 8,
        n_examples: int = 3,
        namer: Callable[[list[str], list[str]], str] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_topics = n_topics
        self.embedder = embedder
        self.n_terms = n_terms
        self.n_examples = n_examples
        self.namer = namer
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn passes y to every step
        """Find the topics.

        Parameters
        ----------
        X : column of texts or of vectors, n_rows rows
            Texts as :class:`SentenceEmbeddingTransformer` reads them, or vectors as :class:`VectorArray` does.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter is not what it must be, an element is not a text or a vector (the message names its
            position), no row has one, or there are fewer distinct ones than topics.
        """
        self._fit(X)
        return self

    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the topic of each row: that of the nearest centre.

        Parameters
        ----------
        X : column of texts or of vectors, n_rows rows
            Vectors must be of the same model.

        Returns
        -------
        ndarray of int, shape (n_rows,)
            -1 for a missing text. For the texts that the model was fitted to, ``labels_``.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        TypeError, ValueError
            If an element is not a text or a vector; the message names its position.
        """
        vectors, row_of = self._embed(X)
        has_text = ~np.isnan(vectors[:, 0])
        labels = np.full(len(vectors), MISSING)
        labels[row_of[has_text]] = self._topic_of_center[nearest_centers(vectors[has_text], self._all_centers)[0]]
        return labels

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute how close each row is to each topic.

        Parameters
        ----------
        X : column of texts or of vectors, n_rows rows
            Vectors must be of the same model.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_topics)
            Cosine to the centre; after :meth:`reduce`, the largest one to the centres that were merged. NaN for a
            missing text.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        TypeError, ValueError
            If an element is not a text or a vector; the message names its position.
        """
        vectors, row_of = self._embed(X)
        cosines = np.empty((len(vectors), len(self._all_centers)), dtype=np.float32)
        cosines[row_of] = (vectors @ self._all_centers.T).clip(-1, 1)
        by_topic = np.argsort(self._topic_of_center, kind="stable")
        firsts = np.searchsorted(self._topic_of_center[by_topic], np.arange(self.n_topics_))
        largest: NDArray[np.float32] = np.maximum.reduceat(cosines[:, by_topic], firsts, axis=1)
        return largest

    def reduce(self, n_topics: int) -> Self:
        """Merge topics that are alike, along ``hierarchy_``. Nothing is embedded or read again.

        Parameters
        ----------
        n_topics : int
            Number of topics to keep, up to ``n_topics_``.

        Returns
        -------
        TopicModel
            A new model; this one stays as it is. A row has the merged topic of its nearest original topic. Topics are
            named anew, from their merged terms.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If there are fewer topics.

        Examples
        --------
        >>> from skembed import TopicModel
        >>> model = TopicModel(n_topics=3).fit(["A cat.", "A kitten.", "Two cats.", "A dog.", "Stocks fell."])
        >>> model.reduce(2).topics_["size"].tolist()
        [4, 1]
        """
        check_is_fitted(self)
        n_topics = check_count("n_topics", n_topics)
        if n_topics > self.n_topics_:
            raise ValueError(f"n_topics must be at most {self.n_topics_}, the number of topics; got {n_topics}.")
        group_of = cut(self.hierarchy_, n_topics)
        group_of_center = group_of[self._topic_of_center]  # of the original topics, so that several steps are as one
        sizes = np.bincount(group_of_center, self._all_sizes)
        number_of = _numbers_by_size(sizes, np.unique(group_of_center, return_index=True)[1])[group_of]
        model = copy.copy(self)
        model.n_topics = n_topics
        model.labels_ = np.append(number_of, MISSING)[self.labels_]  # the last one is that of -1
        model.hierarchy_ = upper_part(self.hierarchy_, number_of)
        model._topic_of_center = number_of[self._topic_of_center]
        model.centers_ = merge_centers(self._all_centers, self._all_sizes, model._topic_of_center)
        return model._describe()

    def rename(self, names: Mapping[int, str]) -> Self:
        """Give topics other names, in place.

        Parameters
        ----------
        names : mapping of int to str
            New names of some topics.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        TypeError, ValueError
            If there is no such topic, a name is no str or empty, or two topics would have the same name; then nothing
            is changed.
        """
        check_is_fitted(self)
        if not hasattr(names, "items"):
            raise TypeError(f"names must be a dict of topics and their names; got {names!r:.80}.")
        new: pd.Series[Any] = self.topics_["name"].copy()
        for topic, name in names.items():
            if topic not in new.index:
                raise ValueError(f"There is no topic {topic!r}; there are 0 to {self.n_topics_ - 1}.")
            if not isinstance(name, str):
                raise TypeError(f"The name of topic {topic} must be a str; got {name!r}.")
            if not name.strip():
                raise ValueError(f"The name of topic {topic} is empty.")
            new[topic] = name.strip()
        is_repeated = new.duplicated(keep=False)
        if is_repeated.any():
            topics = " and ".join(map(str, new.index[new == new[is_repeated].iloc[0]]))
            raise ValueError(f"Topics {topics} would both be called {new[is_repeated].iloc[0]!r}; use distinct names.")
        self.topics_ = self.topics_.assign(name=new)
        return self

    def over(self, times: Any, freq: str | None = None, by: Any = None) -> pd.DataFrame:
        """Count the rows of each topic over time.

        Parameters
        ----------
        times : column of length n_rows
            A time or another value of each row that the model was fitted to. Rows without one are not counted.
        freq : str, default=None
            Length of the periods, e.g. "M" for months or "W" for weeks, as in :meth:`pandas.Series.dt.to_period`; None
            counts each value of ``times``. Periods in between without rows have zeros. Time zones are dropped.
        by : column of length n_rows, default=None
            Group of each row, e.g. a country, to count separately. Rows without one are not counted.

        Returns
        -------
        DataFrame of int
            A row for each period, or each (group, period), in ascending order, and a column for each topic.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If a column has another length, or with ``freq``, values that are not times.

        Examples
        --------
        >>> import pandas as pd
        >>> from skembed import TopicModel
        >>> model = TopicModel(n_topics=2).fit(["A cat.", "A kitten.", "Stocks fell.", "Two cats."])
        >>> model.over(pd.to_datetime(["2026-01-05", "2026-01-20", "2026-03-01", "2026-03-02"]), freq="M")
        topic    0  1
        2026-01  2  0
        2026-02  0  0
        2026-03  1  1
        """
        check_is_fitted(self)
        return count_by_period(self.labels_, self.n_topics_, times, freq, by)

    def _fit(self, X: Any, texts: Any = None, *, name: str = "X", noun: str = "topics") -> NDArray[np.float32]:
        """Find the topics of a column, named by its texts or by those given; return each row's cosine to its centre."""
        self._check_params()
        self.embedder_: Any = resolve_embedder(self.embedder, missing="nan")
        column, row_of = read_column_for(self.embedder_, X, name).sorted_by_text()
        plan = plan_of(self.embedder_, column)
        vectors, named = embed_column(column, self.embedder_, plan, fit=True, copy=False), column
        if texts is not None:
            named, row_of = read_column_for(self.embedder_, texts, "texts").sorted_by_text()
            vectors = vectors[row_of]
        self._model_tag = model_tag(column, self.embedder_, plan)
        rows = np.flatnonzero(~np.isnan(vectors[:, 0]))  # a vector is missing as a whole
        given = vectors if len(rows) == len(vectors) else vectors[rows]
        order, weights = _order_by_content(named, rows, given)
        n_topics = self._check_n_topics(len(rows), len(order), noun)
        centers = find_centers(given, order, weights, n_topics, check_random_state(self.random_state))
        nearest, closeness = nearest_centers(given, centers)
        topic_of = self._number_topics(centers, nearest, order)
        self.labels_ = np.full(len(column), MISSING)
        self.labels_[row_of[rows]] = topic_of
        self._name_topics(named, rows, row_of[rows], topic_of, closeness)
        close_by_row = np.full(len(column), np.nan, dtype=np.float32)
        close_by_row[row_of[rows]] = closeness
        return close_by_row

    def _check_params(self) -> None:
        check_count("n_terms", self.n_terms)
        check_count("n_examples", self.n_examples)
        if self.namer is not None and not callable(self.namer):
            raise TypeError(f"namer must be a function of terms and examples, or None; got {self.namer!r}.")
        check_random_state(self.random_state)  # before texts are embedded
        if not (isinstance(self.n_topics, str) and self.n_topics == "auto"):
            check_count("n_topics", self.n_topics)

    def _check_n_topics(self, n_rows: int, n_distinct: int, noun: str) -> int | Literal["auto"]:
        if isinstance(self.n_topics, str):
            if n_rows == 0:
                raise ValueError(f"There are no {noun}, because there are 0 rows with a text.")
            return "auto"
        n_topics = int(self.n_topics)
        if n_topics > n_distinct:
            of_which = "" if n_topics > n_rows else f", {n_distinct} of them distinct"
            raise ValueError(f"{n_topics} {noun} were asked for, but there are {n_rows} rows with a text{of_which}.")
        return n_topics

    def _number_topics(
        self, centers: NDArray[np.float32], nearest: NDArray[np.intp], order: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Give the topics their numbers by size, without centres that are nearest to no row; return each row's."""
        sizes = np.bincount(nearest, minlength=len(centers))
        first = np.full(len(centers), len(order))
        np.minimum.at(first, nearest[order], np.arange(len(order)))
        number_of = _numbers_by_size(sizes, first)
        self.n_topics_ = int(np.count_nonzero(sizes))
        largest_first = np.argsort(number_of)[: self.n_topics_]
        self.centers_ = self._all_centers = centers[largest_first]
        self._all_sizes = sizes[largest_first]
        self._topic_of_center = np.arange(self.n_topics_)
        self.hierarchy_ = merge_all(self.centers_)
        return number_of[nearest]

    def _name_topics(
        self,
        column: Column,
        rows: NDArray[np.intp],
        positions: NDArray[np.intp],
        topic_of: NDArray[np.intp],
        closeness: NDArray[np.float32],
    ) -> None:
        """Describe the topics by the texts of a column, or if it holds vectors, by positions."""
        size = (self.n_topics_, self.n_examples)
        if column.texts is None:
            self._all_counts: TermCounts | None = None
            self._all_examples = _nearest_examples(positions, positions, topic_of, closeness, *size)
            self._describe()
            return
        unique, codes = column.texts.unique, column.texts.codes[rows]
        has_text = codes != MISSING  # all of them, unless texts and vectors were given apart
        in_order = sorted(range(len(unique)), key=unique.__getitem__)
        places = np.argsort(in_order)[codes[has_text]]
        # with vectors of its own in each row, a text may be in several topics
        pairs, pair_of, weights = np.unique(
            places * self.n_topics_ + topic_of[has_text], return_inverse=True, return_counts=True
        )
        texts = [unique[in_order[place]] for place in pairs // self.n_topics_]
        closest = np.full(len(pairs), -1, dtype=np.float32)
        np.maximum.at(closest, pair_of, closeness[has_text])
        topic_of = pairs % self.n_topics_
        self._all_counts = count_terms(texts, weights.astype(np.float64), topic_of, closest, self.n_topics_)
        self._all_examples = _nearest_examples(texts, np.arange(len(texts)), topic_of, closest, *size)
        self._describe()

    def _describe(self) -> Self:
        """Set ``topics_``, from the terms of the original topics and the texts nearest to their centres."""
        self._n_features_out = self.n_topics_ = len(self.centers_)
        counts = None if self._all_counts is None else self._all_counts.merged(self._topic_of_center)
        examples = _merge_examples(self._all_examples, self._topic_of_center, self.n_examples)
        terms = [[]] * self.n_topics_ if counts is None else top_terms(counts, self.n_terms)
        names = make_names(terms)
        if counts is not None and self.namer is not None:
            names = name_with(self.namer, terms, examples)
        sizes = np.bincount(self.labels_[self.labels_ != MISSING], minlength=self.n_topics_)
        table = {"size": sizes, "name": names, "terms": None if counts is None else terms, "examples": examples}
        self.topics_ = pd.DataFrame(table, index=pd.RangeIndex(self.n_topics_, name="topic"))
        return self

    def _embed(self, X: Any) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return the vectors in the order of their texts, and the row from which each comes."""
        check_is_fitted(self)
        column, row_of = read_column_for(self.embedder_, X).sorted_by_text()
        refuse_guess(self.embedder, column, self._model_tag, "the topics")
        plan, dim, names = plan_of(self.embedder_, column), self._all_centers.shape[1], ("X", "the topics")
        return embed_like(column, self.embedder_, plan, self._model_tag, dim, names), row_of

    def _embedded_columns(self, X: Any) -> list[tuple[Any, Any]]:
        return [(resolve_embedder(self.embedder, missing="nan"), X)]

    @property
    def _repr_html_(self) -> Callable[[], str]:
        """In a notebook, a fitted model shows the table of its topics."""
        shown: Callable[[], str] = super()._repr_html_  # raises AttributeError where HTML is switched off
        return lambda: shown() + self._topics_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._topics_html()
        return bundle

    def _topics_html(self) -> str:
        if not hasattr(self, "topics_"):
            return ""
        formatters = dict.fromkeys(self.topics_.columns, _to_html)
        with pd.option_context("display.max_colwidth", None):
            return self.topics_.to_html(escape=False, formatters=formatters, border=0, max_rows=_MOST_SHOWN)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # cosines are float32, also of vectors in float64
        return tags


def _order_by_content(
    column: Column, rows: NDArray[np.intp], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the first row of each distinct vector and how many rows have it, by checksums of its texts and numbers."""
    code_of, first_rows = distinct_rows(vectors)
    no_text = np.iinfo(np.uint64).max
    keys = np.full(len(first_rows), no_text, dtype=np.uint64)
    if column.texts is not None:
        sums = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in column.texts.unique]
        keys_of_texts = np.append(np.frombuffer(b"".join(sums), dtype=np.uint64), np.uint64(no_text))
        np.minimum.at(keys, code_of, keys_of_texts[column.texts.codes[rows]])  # the last one is that of no text
    order = np.lexsort((keys_of(vectors)[first_rows], keys))
    return first_rows[order], np.bincount(code_of, minlength=len(order))[order].astype(np.float64)


def _numbers_by_size(sizes: NDArray[Any], ties: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of each topic: 0 for the largest; of equally large ones, the smaller of ``ties`` is first."""
    numbers = np.empty(len(sizes), dtype=np.intp)
    numbers[np.lexsort((ties, -sizes))] = np.arange(len(sizes))
    return numbers


def _merge_examples(examples: list[list[Any]], group_of: NDArray[np.intp], n_examples: int) -> list[list[Any]]:
    """Take the examples of merged topics in turn: the first of each, the largest topic first, then the second."""
    merged: list[list[Any]] = [[] for _ in range(int(group_of.max()) + 1)]
    for place in range(n_examples):
        for of_topic, group in zip(examples, group_of, strict=True):
            is_new = place < len(of_topic) and of_topic[place] not in merged[group]
            if is_new and len(merged[group]) < n_examples:
                merged[group].append(of_topic[place])
    return merged


def _nearest_examples(
    values: Any,
    ties: NDArray[np.intp],
    topic_of: NDArray[np.intp],
    closeness: NDArray[np.float32],
    n_topics: int,
    n_examples: int,
) -> list[list[Any]]:
    """Return the values that are nearest to the centre of each topic; of equally near ones, by ``ties``."""
    order = np.lexsort((ties, -closeness.round(_DECIMALS), topic_of))
    ends = np.searchsorted(topic_of[order], np.arange(n_topics + 1))
    return [
        [values[row] if isinstance(values, list) else int(values[row]) for row in order[start:end][:n_examples]]
        for start, end in pairwise(ends)
    ]


def _to_html(value: Any) -> str:
    """Show a cell of ``topics_``: terms on one line, each example on one of its own."""
    parts = value if isinstance(value, list) else [value]
    short = [html.escape(textwrap.shorten(str(part), _SHOWN, placeholder=" …")) for part in parts]
    return ("<br>" if any(" " in part for part in short) and len(parts) > 1 else ", ").join(short)
