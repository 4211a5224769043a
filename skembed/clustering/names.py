"""Names of topics: the terms that tell a topic from the others, and names made of them. Imports numpy and terms.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skembed.clustering import words
from skembed.clustering.terms import TermCounts, scores_of

_DECIMALS = 4  # of a score, as a share of the largest one
_FAINT = 0.7  # the lowest contrast of a term: twice as frequent as in the other topics
_FULL_LENGTH, _FULL_LENGTH_ALONE = 4, 8  # letters of a word that counts fully; with one topic, little else tells
_DISTINCT = 1.2  # the contrast of the words of a pair: more than three times as frequent
_GLUE_IN_TOPIC, _GLUE = 0.2, 0.05  # how much of both of its words a pair is, at least: in its topic, in all texts
_GLUE_OF_SHORT = 0.5  # in all texts, if one word has two letters: top up
_BOUND = 0.9  # how much of a word stands behind a word that needs no contrast: New York
_COMMON = 0.2  # the share of all texts with a word that is bound to none
_REPLACES = 0.5  # how much of a word, in its topic, is in the pair that takes its place
_TERMS_IN_NAME, _LONGEST_NAME = 3, 30  # characters; two terms may be longer


def top_terms(counts: TermCounts, n_terms: int) -> list[list[str]]:
    """Choose the terms that tell each topic from the others, the best first.

    Words come in the order of their scores (`skembed.clustering.terms.scores_of`), very short ones later; those that
    are not twice as frequent as in the other topics are left out. A pair takes the place of a word if half of the texts
    of the topic with the word have the pair. Both of its words must be distinct for the topic and often stand together,
    so that "card" does not become "my card"; but "New" is distinct for no topic, and "York" rarely stands without it.
    Words that are written together, such as "e-mail", need not be distinct each.

    No word of a topic is repeated: neither in a pair nor in another form ("card", "cards", "credit card").

    Parameters
    ----------
    counts : TermCounts
    n_terms : int
        The most terms of a topic; there are fewer if its texts have no more.

    Returns
    -------
    list of list of str

    Examples
    --------
    >>> import numpy as np
    >>> from skembed.clustering.terms import count_terms
    >>> texts = ["Where is my card?", "The card is lost", "Cards for all", "Where is the bank?", "The bank is closed"]
    >>> counts = count_terms(texts, np.ones(5), np.array([0, 0, 0, 1, 1]), np.ones(5), 2)
    >>> top_terms(counts, 2)
    [['card', 'lost'], ['bank', 'closed']]
    """
    scores, contrasts = scores_of(counts.counts, counts.n_texts)
    pairs = _Pairs.of(counts)
    n_letters = _FULL_LENGTH if len(counts.n_texts) > 1 else _FULL_LENGTH_ALONE
    weights = np.array([words.weight_of_length(word, n_letters) for word in counts.vocabulary[: counts.n_words]])
    chosen = []
    for topic in range(len(counts.n_texts)):
        in_topic, score, contrast = (_row(matrix, topic) for matrix in (counts.counts, scores, contrasts))
        score = np.where(contrast < _FAINT, 0, score)[: counts.n_words] * weights
        rank = (-score / (score.max(initial=0) or 1)).round(_DECIMALS)  # equal but for the last digits: ties
        ranked = sorted(np.flatnonzero(score).tolist(), key=lambda word: (rank[word], counts.vocabulary[word]))
        replacing = pairs.replacing(counts, in_topic, contrast)
        candidates = [[*replacing.get(word, []), word] for word in ranked]
        chosen.append(_without_repetition(counts, candidates, n_terms))
    return chosen


def _row(matrix: Any, number: int) -> NDArray[np.float64]:
    """Return a row of a sparse matrix as an array."""
    start, stop = matrix.indptr[number : number + 2]
    row = np.zeros(matrix.shape[1])
    row[matrix.indices[start:stop]] = matrix.data[start:stop]
    return row


class _Pairs(NamedTuple):
    """What the texts of all topics say about pairs of words; arrays of shape (n_pairs,).

    Attributes
    ----------
    are_together : ndarray of bool
        Whether the words are written without a space.
    are_glued : ndarray of bool
        Whether a good part of both words is in the pair.
    are_bound : ndarray of bool
        Whether nearly all of the second word is in the pair, and the first one is in few texts.
    """

    are_together: NDArray[np.bool_]
    are_glued: NDArray[np.bool_]
    are_bound: NDArray[np.bool_]

    @classmethod
    def of(cls, counts: TermCounts) -> _Pairs:
        """Look at all pairs."""
        in_all = np.asarray(counts.counts.sum(axis=0)).ravel()
        of_words = in_all[counts.n_words :, None] / in_all[counts.pairs]
        are_short = np.array([words.is_short(word) for word in counts.vocabulary], bool)[counts.pairs].any(axis=1)
        are_together = np.array([" " not in pair for pair in counts.vocabulary[counts.n_words :]], bool)
        are_glued = of_words.min(axis=1, initial=1) >= np.where(are_short, _GLUE_OF_SHORT, _GLUE)
        are_rare = in_all[counts.pairs[:, 0]] < _COMMON * counts.n_texts.sum()
        return cls(are_together, are_glued, are_rare & (of_words[:, 1] >= _BOUND))

    def replacing(
        self, counts: TermCounts, in_topic: NDArray[np.float64], contrast: NDArray[np.float64]
    ) -> dict[int, list[int]]:
        """Map words of a topic to the pairs that may take their place, the most frequent first."""
        found = np.flatnonzero(in_topic[counts.n_words :])
        columns, pairs = found + counts.n_words, counts.pairs[found]
        of_words = in_topic[columns, None] / in_topic[pairs]
        first, second = (contrast[pairs] >= _DISTINCT).T
        are_glued = self.are_glued[found] & (of_words.min(axis=1, initial=1) >= _GLUE_IN_TOPIC)
        is_allowed = second & (first | self.are_bound[found]) & are_glued
        is_allowed |= self.are_together[found] & (contrast[columns] >= _DISTINCT)
        replacing: dict[int, list[int]] = {}
        order = sorted(
            np.flatnonzero(is_allowed), key=lambda pair: (-in_topic[columns[pair]], counts.vocabulary[columns[pair]])
        )
        for pair in order:
            for word in pairs[pair][of_words[pair] >= _REPLACES].tolist():
                replacing.setdefault(word, []).append(int(columns[pair]))
        return replacing


def _without_repetition(counts: TermCounts, candidates: Sequence[Sequence[int]], n_terms: int) -> list[str]:
    """Take the first term of each list whose words are not yet taken, in any form."""
    terms: list[str] = []
    taken: list[str] = []
    for columns in candidates:
        if len(terms) == n_terms:
            break
        for column in columns:
            is_pair = column >= counts.n_words
            of_term = counts.pairs[column - counts.n_words].tolist() if is_pair else [column]
            parts = [counts.vocabulary[word] for word in of_term]
            forms = {*parts, counts.vocabulary[column]}
            if any(map(words.is_term, parts)) and not any(
                words.are_variants(form, other) for form in forms for other in taken
            ):
                terms.append(counts.vocabulary[column])
                taken += sorted(forms)
                break
    return terms


def make_names(terms: Sequence[Sequence[str]]) -> list[str]:
    """Name topics by their first terms, as in "exchange rate, currency": all names are distinct.

    Parameters
    ----------
    terms : sequence of sequences of str
        Of each topic, the best first.

    Returns
    -------
    list of str
        Two or three terms; more where another topic has this name. "topic 3" is a topic without terms.

    Examples
    --------
    >>> make_names([["exchange rate", "currency", "dollar"], ["card", "PIN", "lost"], []])
    ['exchange rate, currency', 'card, PIN, lost', 'topic 2']
    """
    names: list[str] = []
    taken: set[frozenset[str]] = set()
    for topic, found in enumerate(terms):
        n_terms = 2
        if len(", ".join(found[:_TERMS_IN_NAME])) <= _LONGEST_NAME:
            n_terms = _TERMS_IN_NAME
        while n_terms < len(found) and frozenset(map(str.casefold, found[:n_terms])) in taken:
            n_terms += 1
        taken.add(frozenset(map(str.casefold, found[:n_terms])))
        names.append(", ".join(found[:n_terms]) or f"topic {topic}")
    return _distinct(names)


def name_with(
    namer: Callable[[list[str], list[str]], str], terms: Sequence[Sequence[str]], examples: Sequence[Sequence[str]]
) -> list[str]:
    """Name topics by a function of the user.

    Parameters
    ----------
    namer : callable
        Gets the terms and the examples of a topic, two lists of str, and returns its name. Its errors pass through.
    terms, examples : sequence of sequences of str
        Of each topic.

    Returns
    -------
    list of str
        Names without the space around them. Of equal ones, the second ends with " (2)".

    Raises
    ------
    TypeError, ValueError
        If a name is no str, or empty.
    """
    names = []
    for topic, (found, texts) in enumerate(zip(terms, examples, strict=True)):
        name = namer(list(found), list(texts))
        if not isinstance(name, str):
            raise TypeError(
                f"namer must return a str, but for topic {topic} it returned {type(name).__name__}: {name!r:.80}."
            )
        if not name.strip():
            raise ValueError(f"namer returned an empty name for topic {topic}; return a name of one character or more.")
        names.append(name.strip())
    return _distinct(names)


def _distinct(names: Sequence[str]) -> list[str]:
    """Add numbers to names that are equal but for capitals, from the second."""
    taken = set(map(str.casefold, names))
    seen: set[str] = set()
    distinct = []
    for name in names:
        number, new = 2, name
        while new.casefold() in seen or (number > 2 and new.casefold() in taken):
            new, number = f"{name} ({number})", number + 1
        seen.add(new.casefold())
        distinct.append(new)
    return distinct
