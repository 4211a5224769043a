"""Passages: texts cut between words into parts of at most so many tokens, as the model counts them.

Imports the plan, texts, the counting of tokens, and which scripts have no spaces.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from skembed.checks import check_count, check_integer
from skembed.clustering.words import UNSPACED_RUN
from skembed.encoding.batching import CHARACTERS_PER_CHUNK, TEXTS_PER_CHUNK, chunks
from skembed.encoding.long_texts import count_tokens, token_starts
from skembed.encoding.plan import Plan
from skembed.encoding.progress import progress
from skembed.encoding.texts import Texts

_WORD = re.compile(r"\s*\S+")  # with the space before it, which many tokenizers make part of its first token
_CLOSING, _OPENING = ("Pe", "Pf", "Po"), ("Ps", "Pi")  # kinds of punctuation
_JOINER = "\u200d"  # between emoji that are shown as one
_FIRST_SKIN_TONE, _LAST_SKIN_TONE = "\U0001f3fb", "\U0001f3ff"


class Passage(NamedTuple):
    """A part of a text: its first character, the one after its last, and its tokens with special ones and prompt."""

    start: int
    end: int
    n_tokens: int


def cut_into_passages(texts: Texts, plan: Plan, max_tokens: int, overlap: int) -> list[list[Passage]]:
    """Cut each distinct text into passages.

    Each distinct word is counted once, to know about where passages end. The passages are then counted as the model
    will read them, because in some tokenizers the tokens of a word depend on what stands beside it. From a passage that
    is too long, a text is cut anew, with a margin.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    max_tokens : int
        Most tokens of a passage, special tokens and prompt included.
    overlap : int
        Most tokens that a passage shares with the one before it.

    Returns
    -------
    list of list of Passage
        Those of each of ``texts.unique``, in order.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid, or a single character has more tokens than fit.
    """
    _check_room(max_tokens, overlap, plan)
    passages: list[list[Passage]] = []
    with progress(plan.settings.show_progress_bar, len(texts.unique), "Cutting") as bar:
        for chunk in chunks(texts.unique, TEXTS_PER_CHUNK, CHARACTERS_PER_CHUNK):
            some = to_do = _read_words(texts.unique[chunk], plan)
            while to_do:
                _cut_further(to_do, texts, plan, max_tokens, overlap)
                to_do = [text for text in to_do if not text.is_done]
            passages.extend(text.passages for text in some)
            bar.update(len(some))
    return passages


def _check_room(max_tokens: int, overlap: int, plan: Plan) -> None:
    check_count("max_tokens", max_tokens)
    if check_integer("overlap", overlap) < 0:
        raise ValueError(f"overlap must be 0 or more; got {overlap!r}.")
    limit, n_empty = plan.base_recipe.max_seq_length, _count_empty(plan)
    if limit is not None and max_tokens > limit:
        raise ValueError(f"max_tokens={max_tokens}: the model reads {limit} tokens of a text; choose at most {limit}.")
    if max_tokens <= n_empty + overlap:
        taken = "special tokens and those of the prompt" if plan.base_recipe.prompt else "special tokens"
        raise ValueError(
            f"max_tokens={max_tokens} leaves no room for text beside overlap={overlap} and {n_empty} {taken}; "
            f"choose at least max_tokens={n_empty + overlap + 1}, or a smaller overlap."
        )


def _count_empty(plan: Plan) -> int:
    """Count the tokens of an empty text: special ones and those of the prompt."""
    return int(count_tokens([plan.base_recipe.prompt], plan)[0])


@dataclass
class _Text:
    """A text that is being cut.

    Attributes
    ----------
    text : str
    bounds : list of int
        The characters with which its words begin, first 0, and its length. Words keep the space after them.
    tokens : list of int
        How many tokens about are before each of the bounds.
    inner : set of int
        Those bounds that are inside a word, because it was too long.
    passages : list of Passage
    first, end : int
        The latest passage: its first word, and the one after its last.
    margin : int
        By how many tokens passages have turned out longer than their words together.
    ahead : int
        How many passages are cut before they are counted.
    """

    text: str
    bounds: list[int]
    tokens: list[int]
    inner: set[int] = field(default_factory=set)
    passages: list[Passage] = field(default_factory=list)
    first: int = 0
    end: int = 0
    margin: int = 0
    ahead: int = 2**31

    @property
    def is_done(self) -> bool:
        """Whether the last passage ends with the text."""
        return self.end == len(self.bounds) - 1

    def next_passages(self, room: int, overlap: int) -> Iterator[tuple[int, int, int]]:
        """Yield the next passages: their first word, the first that the one before lacks, and the one after the last.

        Parameters
        ----------
        room : int
            Tokens of a passage without special ones and prompt.
        overlap : int
        """
        first, end, tokens, room = self.first, self.end, self.tokens, room - self.margin
        for _ in range(self.ahead):
            if end == len(self.bounds) - 1:
                return
            begin = end
            if end:  # a passage has to reach beyond the one before it
                fewest_before = max(tokens[end] - overlap + self.margin, tokens[end + 1] - room)
                first = bisect_left(tokens, fewest_before, first + 1, end)
                while first < end and self.bounds[first] in self.inner:
                    first += 1
            end = max(bisect_right(tokens, tokens[first] + room) - 1, end + 1)
            yield first, begin, end

    def keep(
        self, spans: list[tuple[int, int, int]], counts: list[tuple[int, int]], max_tokens: int, overlap: int
    ) -> bool:
        """Keep proposed passages before the first that is too long; return False if that one is a single word.

        Parameters
        ----------
        spans : list of (int, int, int)
            From ``next_passages``.
        counts : list of (int, int)
            The tokens of each, and how many of them it shares with the one before.
        max_tokens, overlap : int
        """
        for n_kept, ((first, _, end), (n_tokens, n_shared)) in enumerate(zip(spans, counts, strict=True)):
            excess = max(n_tokens - max_tokens, n_shared - overlap)
            if excess > 0:
                self.ahead = 2 * n_kept + 1  # few where many are too long
                self.margin += excess if end - first > 1 else 0
                return end - first > 1
            self.passages.append(Passage(self.bounds[first], self.bounds[end], n_tokens))
            self.first, self.end = first, end
        self.ahead *= 2
        return True

    def split(self, starts: Sequence[int]) -> bool:
        """Split the next word, which is too long, where its tokens begin; return False for a single character.

        Parameters
        ----------
        starts : sequence of int
            The characters of the word with which its tokens begin.
        """
        start, stop = self.bounds[self.end : self.end + 2]
        n_before = {at: bisect_left(starts, at) for at in sorted({*starts}) if 0 < at < stop - start}
        cuts = _cuts(self.text[start:stop], starts) or n_before or dict(zip(*[range(1, stop - start)] * 2, strict=True))
        self.insert(self.end, cuts, start)
        self.inner.update(start + at for at in cuts)
        return bool(cuts)

    def insert(self, word: int, cuts: Mapping[int, int], start: int) -> None:
        """Insert bounds into a word.

        Parameters
        ----------
        word : int
        cuts : mapping of int to int
            From ``_cuts``, of characters from ``start`` on.
        start : int
        """
        before, after = self.tokens[word : word + 2]
        self.tokens[word + 1 : word + 1] = [min(before + n_tokens, after) for n_tokens in cuts.values()]
        self.bounds[word + 1 : word + 1] = [start + position for position in cuts]


def _read_words(texts: list[str], plan: Plan) -> list[_Text]:
    """Find the words of texts, and count each distinct one once, as it stands after another word."""
    words_of = [_WORD.findall(text) for text in texts]
    words = list(dict.fromkeys(chain.from_iterable(words_of)))
    n_tokens = count_tokens(["a", *("a" + word if word[0].isspace() else "a " + word for word in words)], plan)
    n_tokens = np.maximum(n_tokens[1:] - n_tokens[0], 0)
    lengths, n_spaces = (np.array([count(word) for word in words], dtype=np.intp) for count in (len, _count_spaces))
    unspaced = [word for word in words if UNSPACED_RUN.search(word)]
    starts = token_starts([word.lstrip() for word in unspaced], plan)
    cuts_of = {word: _cuts_of_unspaced(word.lstrip(), own) for word, own in zip(unspaced, starts, strict=True)}
    code_of = {word: code for code, word in enumerate(words)}
    read = []
    for text, own in zip(texts, words_of, strict=True):
        codes = np.array([code_of[word] for word in own], dtype=np.intp)
        begins = (np.cumsum(lengths[codes]) - lengths[codes] + n_spaces[codes]).tolist()
        tokens = np.cumsum(n_tokens[codes]).tolist()
        read.append(_Text(text, [0, *begins[1:], len(text)], [0, *(tokens or [0])]))
        for number in range(len(own) - 1, -1, -1) if cuts_of else ():  # from the end, so that the numbers hold
            if own[number] in cuts_of:
                read[-1].insert(number, cuts_of[own[number]], begins[number])
    return read


def _count_spaces(word: str) -> int:
    return len(word) - len(word.lstrip())


def _cut_further(some: list[_Text], texts: Texts, plan: Plan, max_tokens: int, overlap: int) -> None:
    """Cut the next passages of some of the texts, and count them; keep those before the first that is too long."""
    prompt, n_empty = plan.base_recipe.prompt, _count_empty(plan)
    proposed = [list(text.next_passages(max_tokens - n_empty, overlap)) for text in some]
    to_count = []
    for text, spans in zip(some, proposed, strict=True):
        for first, begin, end in spans:
            start, stop_of_shared, stop = (text.bounds[word] for word in (first, begin, end))
            to_count += [prompt + text.text[start:stop], prompt + text.text[start:stop_of_shared]]
    counts = iter(count_tokens(to_count, plan).reshape(-1, 2).tolist())
    for text, spans in zip(some, proposed, strict=True):
        own = [(n_tokens, n_shared - n_empty) for n_tokens, n_shared in islice(counts, len(spans))]
        if text.keep(spans, own, max_tokens, overlap):
            continue
        start, stop = text.bounds[text.end : text.end + 2]
        if not text.split(token_starts([text.text[start:stop]], plan)[0]):
            row = texts.first_row(np.array([texts.unique.index(text.text)]))
            raise ValueError(
                f"{texts.where(row)} has at {start} the character {text.text[start:stop]!r}, which has more tokens than "
                f"fit; choose a larger max_tokens than {max_tokens}.{texts.about}"
            )


def _cuts(word: str, starts: Sequence[int]) -> dict[int, int]:
    """Return the characters before which a word may be cut, and how many of its tokens begin before each.

    Parameters
    ----------
    word : str
    starts : sequence of int
        The characters with which its tokens begin.
    """
    return {at: bisect_left(starts, at) for at in sorted({*starts}) if at > 0 and not _is_joined(word, at)}


def _cuts_of_unspaced(word: str, starts: Sequence[int]) -> dict[int, int]:
    """Return the same for the parts of a word that are in a script without spaces."""
    cuts = _cuts(word, starts)
    return {at: n for at, n in cuts.items() if UNSPACED_RUN.match(word, at) or UNSPACED_RUN.match(word, at - 1)}


def _is_joined(text: str, at: int) -> bool:
    """Return whether a character belongs to the one before it: a mark, part of an emoji, or most punctuation."""
    before, after = text[at - 1], text[at]
    kind = unicodedata.category(after)
    if kind.startswith("M") or kind in _CLOSING or unicodedata.category(before) in _OPENING:
        return True
    return _JOINER in (before, after) or _FIRST_SKIN_TONE <= after <= _LAST_SKIN_TONE
