"""How many texts of each topic hold each word and each pair of adjacent words. Imports numpy, scipy and words.py."""

from __future__ import annotations

import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skembed.clustering import words

_LONGEST_TEXT, _SHORTEST_CUT, _ALL_TEXTS = 10_000, 100, 1 << 27  # characters that are read: of one text, of all
_MOST_SPELLINGS = 1 << 20  # that are told apart: a row of a chunk and two spellings are one number of 64 bits
_MOST_COUNTED = 1 << 21  # spellings in topics, while they are counted
_CHUNK = 1 << 20  # tokens counted at a time
_KEPT, _FEWEST_KEPT, _KEPT_IN_ALL = 300, 50, 50_000  # words, and as many pairs: of a topic, and in all
_DECIMALS = 2  # of a closeness
_LOWEST_CLOSENESS = 0.1
_VOTE, _VOTE_OF_FIRST = 100, 1  # for a spelling; first words of texts or clauses. Integers, whose sums are exact

_PRIOR = 2  # texts like those of all topics, added to each topic: a share of few texts is not certain
_RARE = 0.004  # added to shares before they are compared: one text in a thousand is not much more than none
_POWER = 3  # of the contrast in the score


@dataclass(frozen=True)
class TermCounts:
    """How many texts of each topic hold each term, weighed by their closeness to the centre of the topic.

    Attributes
    ----------
    vocabulary : list of str, length n_terms
        Terms in their commonest spelling: words, and then pairs of adjacent words.
    counts : scipy.sparse.csr_matrix of float32, shape (n_topics, n_terms)
        Sums of the weights of the texts that hold a term.
    n_texts : ndarray of float64, shape (n_topics,)
        Sums of the weights of all texts.
    pairs : ndarray of int32, shape (n_pairs, 2)
        The two words of the last ``n_pairs`` terms, as positions in the vocabulary.
    """

    vocabulary: list[str]
    counts: sparse.csr_matrix
    n_texts: NDArray[np.float64]
    pairs: NDArray[np.int32]

    @property
    def n_words(self) -> int:
        """The number of terms that are single words; they come first."""
        return len(self.vocabulary) - len(self.pairs)

    def merged(self, topic_of: NDArray[np.integer[Any]]) -> Self:
        """Merge topics, without reading a text.

        Parameters
        ----------
        topic_of : ndarray of int, shape (n_topics,)
            The merged topic of each topic, from 0 to their number less 1.

        Returns
        -------
        TermCounts
        """
        n_topics = len(topic_of)
        ones = sparse.csr_matrix((np.ones(n_topics), (topic_of, np.arange(n_topics))))
        counts = (ones @ self.counts).astype(np.float32).tocsr()
        return replace(self, counts=counts, n_texts=_sum(topic_of, self.n_texts))


def scores_of(counts: sparse.csr_matrix, n_texts: NDArray[np.float64]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Compare the share of a topic's texts that hold a term with its mean share in the other topics.

    Parameters
    ----------
    counts : scipy.sparse.csr_matrix, shape (n_topics, n_terms)
    n_texts : ndarray of float, shape (n_topics,)

    Returns
    -------
    scores : scipy.sparse.csr_matrix, shape (n_topics, n_terms)
        The share, times the third power of the contrast.
    contrasts : scipy.sparse.csr_matrix, shape (n_topics, n_terms)
        The logarithm of how many times as frequent a term is in the topic; 0 if it is more frequent elsewhere.

    Notes
    -----
    Class-based tf-idf [1]_ is the share of a term among the words of a topic, times the logarithm of 1 plus the mean
    number of words of a topic over the number of times that all topics have the term. So words that are frequent
    everywhere keep a weight, and come first unless a list of stop words removes them. Here,

    - the logarithm is that of the quotient of two shares, in the topic and in the others: 0 for words that are equally
      frequent in both. All topics count alike, so that a large one does not hide the words of a small one;
    - it has the third power: with the first, function words are still among the first terms of short questions;
    - a text counts once for a term, and close texts count more;
    - shares are drawn towards the mean of all topics by some texts, since those of few texts are not certain.

    With one topic, there is nothing to compare with: terms that are neither rare nor in most texts come first.

    References
    ----------
    .. [1] M. Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure",
       https://arxiv.org/abs/2203.05794, 2022.
    """
    n_topics, n_terms = counts.shape
    rows, columns = np.repeat(np.arange(n_topics), np.diff(counts.indptr)), counts.indices
    share = counts.data / n_texts[rows]
    total = np.bincount(columns, share, n_terms)[columns]
    mean, in_others = total / n_topics, (total - share) / max(n_topics - 1, 1)
    n_others = n_texts.sum() - n_texts[rows]
    here = (counts.data + _PRIOR * mean) / (n_texts[rows] + _PRIOR)
    elsewhere = (in_others * n_others + _PRIOR * mean) / (n_others + _PRIOR) if n_topics > 1 else here**2 / 3
    contrast = np.log(np.maximum((here + _RARE) / (elsewhere + _RARE), 1))
    scores, contrasts = counts.astype(np.float64), counts.astype(np.float64)
    scores.data, contrasts.data = here * contrast**_POWER, contrast
    return scores, contrasts


def count_terms(
    texts: Sequence[str],
    weights: NDArray[np.float64],
    topic_of: NDArray[np.integer[Any]],
    closeness: NDArray[np.floating[Any]],
    n_topics: int,
) -> TermCounts:
    """Count in how many texts of each topic words and pairs of adjacent words are.

    A text counts once for a term, however often it holds it. Pairs count if two texts hold them. The order of the
    texts does not matter. The beginning of long texts is read: 10,000 characters, or fewer of very many texts, 134
    million characters in all. This bounds time and memory. A few hundred terms of each topic are kept, so that topics
    can be merged.

    Parameters
    ----------
    texts : sequence of str
        Distinct ones.
    weights : ndarray of float, shape (n_texts,)
        How many rows have each text.
    topic_of : ndarray of int, shape (n_texts,)
        From 0 to ``n_topics - 1``.
    closeness : ndarray of float, shape (n_texts,)
        The cosine of each text with the centre of its topic. Close texts count more; below 0.1, it counts as 0.1.
    n_topics : int

    Returns
    -------
    TermCounts
    """
    order = _order_of(texts)
    topic_of = np.asarray(topic_of, np.int64)[order]
    rounded = np.asarray(closeness, np.float64).round(_DECIMALS)  # the last digits of vectors vary, names should not
    weights = (np.asarray(weights, np.float64) * np.maximum(rounded, _LOWEST_CLOSENESS))[order]
    n_texts = _sum(topic_of, weights, n_topics)
    tokens = _read([texts[row] for row in order])
    single = _Counter(tokens, 1, n_topics).fed(weights, topic_of).counted()
    double = _Counter(tokens, 2, n_topics).fed(weights, topic_of).counted().of_several_texts()

    kept_pairs = _best(double.counts, n_texts)
    pair_keys = np.array(np.divmod(double.keys[kept_pairs], len(tokens.spellings)))
    is_counted = np.isin(pair_keys, single.keys).all(axis=0)
    kept_pairs, pairs = kept_pairs[is_counted], np.searchsorted(single.keys, pair_keys[:, is_counted])
    kept_words = np.union1d(_best(single.counts, n_texts), pairs)
    counts = sparse.hstack([single.counts[:, kept_words], double.counts[:, kept_pairs]], format="csr", dtype=np.float32)
    vocabulary = single.terms(kept_words, tokens) + double.terms(kept_pairs, tokens)
    return TermCounts(vocabulary, counts, n_texts, np.searchsorted(kept_words, pairs).T.astype(np.int32))


def _sum(groups: NDArray[Any], weights: NDArray[np.float64], n_groups: int = 0) -> NDArray[np.float64]:
    """Sum the weights of each group."""
    return np.bincount(groups, weights, n_groups).astype(np.float64)


def _order_of(texts: Sequence[str]) -> NDArray[np.intp]:
    """Return an order that depends on the texts alone, and is like a random one, unlike that of the alphabet."""
    by_text = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.intp)
    checksums = np.array([zlib.crc32(texts[row].encode(errors="replace")) for row in by_text])
    return by_text[np.argsort(checksums, kind="stable")]


def _best(counts: sparse.csr_matrix, n_texts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the columns with the best scores of each topic, in order."""
    n_topics = len(n_texts)
    n_kept = min(_KEPT, max(_FEWEST_KEPT, _KEPT_IN_ALL // n_topics))
    scores, _ = scores_of(counts, n_texts)
    best = [np.empty(0, np.int64)]
    for start, stop in zip(scores.indptr, scores.indptr[1:], strict=False):
        first = np.argsort(-scores.data[start:stop], kind="stable")[:n_kept]
        best.append(scores.indices[start:stop][first])
    return np.unique(np.concatenate(best))


class _Spellings(dict[str, int]):
    """Numbers of spellings, and of the words that they are of, from 1 in the order in which they are met."""

    def __init__(self) -> None:
        super().__init__()
        self.spellings, self.words = [""], [0]
        self._words: dict[str, int] = {}

    def __missing__(self, spelling: str) -> int:
        key = words.key_of(spelling)
        if not key or len(self.spellings) == _MOST_SPELLINGS:
            return 0
        self[spelling] = len(self.spellings)
        self.spellings.append(spelling)
        self.words.append(self._words.setdefault(key, len(self._words) + 1))
        return self[spelling]


@dataclass(frozen=True)
class _Tokens:
    """The tokens of all texts, as numbers.

    Attributes
    ----------
    numbers : ndarray of uint32
        The spelling of each token; 0 for signs, and after each text.
    ends : ndarray of int64, shape (n_texts + 1,)
        Where each text ends, and where the first one starts.
    spellings : list of str
    words : ndarray of int64
        The word that each spelling is of.
    """

    numbers: NDArray[np.uint32]
    ends: NDArray[np.int64]
    spellings: list[str]
    words: NDArray[np.int64]

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the tokens of some whole texts at a time, and the rows of their texts."""
        start, n_texts = 0, len(self.ends) - 1
        while start < n_texts:
            stop = int(np.searchsorted(self.ends, self.ends[start] + _CHUNK))
            stop = min(max(stop, start + 1), n_texts)
            numbers = self.numbers[self.ends[start] : self.ends[stop]].astype(np.int64)
            yield numbers, np.repeat(np.arange(start, stop), np.diff(self.ends[start : stop + 1]))
            start = stop


def _read(texts: list[str]) -> _Tokens:
    longest = max(_SHORTEST_CUT, min(_LONGEST_TEXT, _ALL_TEXTS // max(len(texts), 1)))
    known = _Spellings()
    numbers, ends = array("I"), [0]
    for text in texts:
        numbers.extend(map(known.__getitem__, words.tokens_of(text, longest)))
        numbers.append(0)
        ends.append(len(numbers))
    return _Tokens(np.array(numbers, np.uint32), np.array(ends), known.spellings, np.array(known.words))


class _Counter:
    """Counts words, or pairs of adjacent words, in topics; in bounded memory, since rare ones are dropped.

    Parameters
    ----------
    tokens : _Tokens
    n_words : int
        Of a term: 1 or 2.
    n_topics : int
    """

    def __init__(self, tokens: _Tokens, n_words: int, n_topics: int) -> None:
        self.tokens, self.n_words, self.n_topics = tokens, n_words, n_topics
        self.codes = np.empty(0, np.int64)  # of spelling and topic
        self.sums = np.empty((3, 0))  # of weights, of texts, and of votes for the spelling

    def fed(self, weights: NDArray[np.float64], topic_of: NDArray[np.int64]) -> Self:
        """Count all texts, each term once a text."""
        for numbers, rows in self.tokens.chunks():
            spelled, at = self._spelled(numbers)
            n_keys = len(self.tokens.spellings) ** self.n_words
            _, first = np.unique((rows[at] - rows[0]) * n_keys + self._keys(spelled), return_index=True)
            spelled, row = spelled[first], rows[at[first]]
            is_inside = (numbers[at[first] - 1] > 0) & (at[first] > 0)
            added = np.vstack([weights[row], np.ones(len(row)), np.where(is_inside, _VOTE, _VOTE_OF_FIRST)])
            self._add(spelled * self.n_topics + topic_of[row], added)
        return self

    def _spelled(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the spelling of each term, and where it starts."""
        if self.n_words == 1:
            at = np.flatnonzero(numbers)
            return numbers[at], at
        word = self.tokens.words[numbers]
        at = np.flatnonzero((word[:-1] > 0) & (word[1:] > 0) & (word[:-1] != word[1:]))
        return numbers[at] * len(self.tokens.spellings) + numbers[at + 1], at

    def _keys(self, spelled: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the word of each spelling, or its two words as one number."""
        if self.n_words == 1:
            return self.tokens.words[spelled]
        size = len(self.tokens.spellings)
        first, second = np.divmod(spelled, size)
        return self.tokens.words[first] * size + self.tokens.words[second]

    def _add(self, codes: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        codes, sums = np.concatenate([self.codes, codes]), np.hstack([self.sums, sums])
        self.codes, sums = _sum_by(codes, sums)
        self.sums = sums
        if len(self.codes) > _MOST_COUNTED:
            _, term = np.unique(self.codes // self.n_topics, return_inverse=True)
            in_texts = np.bincount(term, self.sums[1])[term]
            is_kept = in_texts > np.partition(in_texts, -_MOST_COUNTED // 2)[-_MOST_COUNTED // 2]
            self.codes, self.sums = self.codes[is_kept], self.sums[:, is_kept]

    def counted(self) -> _Counted:
        """Sum what is counted: spellings to terms."""
        spelled, topic = np.divmod(self.codes, self.n_topics)
        keys, column = np.unique(self._keys(spelled), return_inverse=True)
        counts = sparse.csr_matrix((self.sums[0], (topic, column)), shape=(self.n_topics, len(keys)))
        spellings, sums = _sum_by(spelled, self.sums)
        return _Counted(keys, counts, spellings, np.searchsorted(keys, self._keys(spellings)), *sums[1:])


def _sum_by(codes: NDArray[np.int64], sums: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sum the columns of equal codes; codes come back in order."""
    if not len(codes):
        return codes, sums
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[starts], np.add.reduceat(sums[:, order], starts, axis=1)


@dataclass(frozen=True)
class _Counted:
    """Words, or pairs of words, in topics.

    Attributes
    ----------
    keys : ndarray of int64, shape (n_terms,)
        Of words, or of pairs; increasing.
    counts : scipy.sparse.csr_matrix of float64, shape (n_topics, n_terms)
    spellings, of_term, in_texts, votes : ndarray, shape (n_spellings,)
        Each spelling, the position of its term in ``keys``, how many texts have it, and in how many it is no first
        word, which may have a capital for that.
    """

    keys: NDArray[np.int64]
    counts: sparse.csr_matrix
    spellings: NDArray[np.int64]
    of_term: NDArray[np.int64]
    in_texts: NDArray[np.float64]
    votes: NDArray[np.float64]

    def of_several_texts(self) -> _Counted:
        """Drop terms of one text."""
        is_kept = np.bincount(self.of_term, self.in_texts, len(self.keys)) >= 3
        kept, of_kept = np.flatnonzero(is_kept), is_kept[self.of_term]
        of_term = np.searchsorted(kept, self.of_term[of_kept])
        of_spellings = (self.spellings[of_kept], of_term, self.in_texts[of_kept], self.votes[of_kept])
        return _Counted(self.keys[kept], self.counts[:, kept], *of_spellings)

    def terms(self, kept: NDArray[np.int64], tokens: _Tokens) -> list[str]:
        """Return the commonest spelling of some terms; of equally common ones, that with more small letters."""
        found: list[Counter[str]] = [Counter() for _ in kept]
        chosen = np.flatnonzero(np.isin(self.of_term, kept))
        positions = np.searchsorted(kept, self.of_term[chosen])
        for position, at in zip(positions.tolist(), chosen.tolist(), strict=True):
            numbers = np.divmod(self.spellings[at], len(tokens.spellings))
            spelled = [tokens.spellings[number] for number in numbers if number]
            found[position][words.joined(*spelled) if len(spelled) == 2 else words.shown(*spelled)] += self.votes[at]
        return [max(spellings, key=lambda term: (spellings[term], term)) for spellings in found]
