"""Passages: texts cut between words into parts of at most so many tokens, as the model counts them.

Imports the plan, texts, the counting of tokens, and which scripts have no spaces.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skembed.checks import check_count, check_integer
from skembed.clustering.words import UNSPACED_RUN
from skembed.encoding.batching import CHARACTERS_PER_CHUNK, TEXTS_PER_CHUNK, chunks
from skembed.encoding.long_texts import count_tokens, token_starts
from skembed.encoding.plan import Plan
from skembed.encoding.progress import progress
from skembed.encoding.texts import Texts

_WORD = re.compile(r"\s*\S+")  # with the space before it, which many tokenizers make part of its first token
_EDGE_OF_SPACE = re.compile(r"(?<=\s)(?=\S)|(?<=\S)(?=\s)")
_CHARACTERS_IN_LIST = 10_000
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
        How many tokens are before each of the bounds; about, because passages are counted once more.
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
            before, first, begin = first, end, end
            if end and overlap:  # a passage has to reach beyond the one before it
                fewest_before = max(tokens[end] - overlap + self.margin, tokens[end + 1] - room)
                first = bisect_left(tokens, fewest_before, before + 1, end)
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
        word = self.text[start:stop]
        at_spaces = [match.start() for match in _EDGE_OF_SPACE.finditer(word)]
        inside = range(1, len(word))
        cuts = at_spaces or _cuts(word, starts) or sorted({*starts} & {*inside}) or inside
        self.insert(self.end, cuts, starts, start)
        self.inner.update(start + at for at in cuts)
        return len(cuts) > 0

    def insert(self, word: int, cuts: Sequence[int], starts: Sequence[int], start: int) -> None:
        """Insert bounds into a word.

        Parameters
        ----------
        word : int
        cuts : sequence of int
            The characters, counted from ``start``, before which it is cut.
        starts : sequence of int
            Those with which its tokens begin.
        start : int
        """
        before, after = self.tokens[word : word + 2]
        self.tokens[word + 1 : word + 1] = [min(before + bisect_left(starts, at), after) for at in cuts]
        self.bounds[word + 1 : word + 1] = [start + at for at in cuts]


def _read_words(texts: list[str], plan: Plan) -> list[_Text]:
    """Find the words of texts, with their tokens."""
    code_of: defaultdict[str, int] = defaultdict()
    code_of.default_factory = code_of.__len__
    codes_of = [[code_of[word] for word in _WORD.findall(" " + text)] for text in texts]  # the first with a space, too
    words = list(code_of)
    lengths, n_spaces = (np.array([count(word) for word in words], dtype=np.intp) for count in (len, _count_spaces))
    n_tokens, unspaced = _count_words(words, lengths, plan)
    read = []
    for text, own in zip(texts, codes_of, strict=True):
        codes = np.array(own, dtype=np.intp)
        begins = (np.cumsum(lengths[codes]) - lengths[codes] + n_spaces[codes] - 1).tolist()
        tokens = np.cumsum(n_tokens[codes]).tolist()
        read.append(_Text(text, [0, *begins[1:], len(text)], [0, *(tokens or [0])]))
        for number in range(len(own) - 1, -1, -1) if unspaced else ():  # from the end, so that the numbers hold
            if own[number] in unspaced:
                read[-1].insert(number, *unspaced[own[number]], begins[number])
    return read


def _count_spaces(word: str) -> int:
    return len(word) - len(word.lstrip())


def _count_words(
    words: list[str], lengths: NDArray[np.intp], plan: Plan
) -> tuple[NDArray[np.intp], dict[int, tuple[list[int], list[int]]]]:
    """Count the tokens of words.

    They are tokenized in long lists, because one by one they would take a tokenizer several times as long.

    Returns
    -------
    n_tokens : ndarray of int, shape (n_words,)
    unspaced : dict
        For the number of a word in a script without spaces, the characters before which it may be cut, and those with
        which its tokens begin.
    """
    n_tokens, unspaced = np.empty(len(words), dtype=np.intp), {}
    lists = list(chunks(words, len(words), _CHARACTERS_IN_LIST))
    for some, starts in zip(lists, token_starts(["".join(words[some]) for some in lists], plan), strict=True):
        bounds = np.cumsum([0, *lengths[some]])
        firsts = np.searchsorted(starts, bounds)
        n_tokens[some] = np.diff(firsts)
        for number, word in enumerate(words[some]):
            if UNSPACED_RUN.search(word):
                begin = int(bounds[number]) + _count_spaces(word)
                own = [start - begin for start in starts[firsts[number] : firsts[number + 1]]]
                cuts = _cuts(word.lstrip(), own)
                parts = [at for at in cuts if UNSPACED_RUN.search(word.lstrip()[at - 1 : at + 1])]
                unspaced[some.start + number] = parts, own
    return n_tokens, unspaced


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
                f"{texts.where(row)} has at {start} the character {text.text[start:stop]!r}, which has more tokens "
                f"than fit; choose a larger max_tokens than {max_tokens}.{texts.about}"
            )


def _cuts(word: str, starts: Sequence[int]) -> list[int]:
    """Return the characters before which a word may be cut: tokens begin with them, and they stand by themselves."""
    return [at for at in sorted({*starts}) if 0 < at < len(word) and not _is_joined(word, at)]


def _is_joined(text: str, at: int) -> bool:
    """Return whether a character belongs to the one before it: a mark, part of an emoji, or most punctuation."""
    before, after = text[at - 1], text[at]
    kind = unicodedata.category(after)
    if kind.startswith("M") or kind in _CLOSING or unicodedata.category(before) in _OPENING:
        return True
    return _JOINER in (before, after) or _FIRST_SKIN_TONE <= after <= _LAST_SKIN_TONE
