r"""The words of a text, in any script, and what two words have in common. Imports the standard library alone.

A text becomes a list of tokens: its words as they are spelled, and single signs where two words do not belong together.
A spelling keeps the joint to the next word, if there is no space between them: "Wi-Fi" is ``["Wi-", "Fi"]``.

Chinese, Japanese, Thai and other scripts without spaces become overlapping pairs of characters, each but the last with
a joint that is not seen: "信用卡" is ``["信用\u2060", "用卡"]``. Runs of katakana are words.
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import pairwise

_LONGEST_WORD = 40  # characters; what is longer is data, such as a key or a file in base 64
_LONGEST_NUMBER = 4  # digits; longer ones are data, as well: dates, prices, telephone numbers
_NO_SPACE = "\u2060"  # "word joiner" of Unicode
_JOINTS = "-.&/" + _NO_SPACE

_KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff"
_UNSPACED = (  # letters and marks of Thai, Lao, Burmese, Khmer; hiragana and katakana; Han
    "\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u103f\u1780-\u17d3\u3041-\u309f" + _KATAKANA + "\u3005\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
_MARKS_OF_UNSPACED = "\u0e30-\u0e3a\u0e45-\u0e4e\u0eb0-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u17b4-\u17d3\u3099\u309a"
_MARKS = (  # belong to the letter before them, but are no letters to Python: accents, Hebrew, Arabic, scripts of India
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
    "\u1ab0-\u1aff\u200c\u200d" + _MARKS_OF_UNSPACED
)
_LETTER = rf"[\w{_MARKS}]"
_ABBREVIATION = r"(?:[^\W\d]\.){2,}"  # U.S., z.B.
_WORD = rf"{_LETTER}+(?:'{_LETTER}+)*(?:(?:\+\+|#)(?!\w))?"  # don't, C++, C#
_TOKEN = re.compile(rf"{_ABBREVIATION}|{_WORD}(?:[-.&/](?=\w))?|[^\w\s]")

_CUT_WORD = re.compile(rf"\s\S{{1,{_LONGEST_WORD}}}\Z")  # at the end of a long text that is not read whole
UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")
_PART_OF_RUN = re.compile(rf"[{_KATAKANA}]{{2,}}|(?:(?![{_KATAKANA}]{{2}}).)+")
_CHARACTER = re.compile(rf"[เ-ไເ-ໄ]?.[{_MARKS_OF_UNSPACED}]*")  # with vowels before and after, and marks

_SUSPECT = re.compile(r"[<@\\/.]")  # in what is no word
_NO_WORDS = re.compile(
    r"<[a-zA-Z/!][^<>]*>"  # tags
    r"|(?:https?://|\bwww\.)\S+"
    r"|(?<![\w.+-])[\w.+-]+@\S+"
    r"|(?<![\w./])(?:\w{2,}|\d)(?:[./]+\w+){2,}"  # hosts, paths, versions, dates
    r"|\\[nrt](?![a-z])"  # a line break or tab that was escaped
)
_DAMAGED_ENTITY = re.compile(r"(?<!&)(#\d{2,5};|\b(?:amp|apos|gt|hellip|lt|nbsp|quot);)")
_CLEANED = {0x2019: "'", 0x2010: "-", 0x2011: "-"} | dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))

_ENDINGS = {"", "s", "es", "e", "n", "en", "er", "ing"}  # of short words: car and cars, but not car and card
_MORE_ENDINGS = _ENDINGS | {
    "a",
    "o",
    "d",
    "ed",
    "ing",
    "t",
    "te",
}  # after four letters: work, working; Konto, Konten


def tokens_of(text: str, longest: int) -> list[str]:
    """Split a text into spellings of words, and signs between them; read so many characters at most."""
    if len(text) > longest:
        text = _CUT_WORD.sub("", text[:longest])
    if ";" in text:
        text = html.unescape(_DAMAGED_ENTITY.sub(r"&\1", text))
    if _SUSPECT.search(text):
        text = _NO_WORDS.sub(" | ", text)
    text = text.replace("_", " ")
    if text.isascii():
        return _TOKEN.findall(text)
    text = unicodedata.normalize("NFC", text).translate(_CLEANED)
    if not UNSPACED_RUN.search(text):
        return _TOKEN.findall(text)
    tokens = _TOKEN.findall(UNSPACED_RUN.sub(r" \g<0> ", text))
    return [piece for token in tokens for piece in (_pieces_of(token) if UNSPACED_RUN.match(token) else (token,))]


def _pieces_of(run: str) -> list[str]:
    """Split a run of letters without spaces: katakana in one, others in overlapping pairs of characters."""
    pieces = []
    for part in _PART_OF_RUN.findall(run):
        characters = [part] if re.match(rf"[{_KATAKANA}]{{2}}", part) else _CHARACTER.findall(part)
        pieces += [first + second for first, second in pairwise(characters)] or characters
    return [piece + _NO_SPACE for piece in pieces[:-1]] + pieces[-1:]


def shown(spelling: str) -> str:
    """Return a word as it is shown alone: without its joint, a possessive ending, or an article of French."""
    word = spelling if _is_abbreviation(spelling) else spelling.rstrip(_JOINTS)
    if "'" not in word:
        return word
    first, last = word[: word.index("'")], word[word.rindex("'") + 1 :]
    if last in ("s", "S"):  # "bank's"
        return word[:-2]
    return last if len(first) <= 2 < len(last) else word  # "l'avion", but not "I'll"


def _is_abbreviation(spelling: str) -> bool:
    return len(spelling) >= 4 and spelling.endswith(".") and spelling.count(".") * 2 == len(spelling)


def key_of(spelling: str) -> str:
    """Return what all spellings of a word have in common, or an empty string if it is no word."""
    word = shown(spelling)
    too_long = len(word) > (_LONGEST_NUMBER if word.isnumeric() else _LONGEST_WORD)
    return "" if too_long or not word[:1].isalnum() else word.casefold()


def is_term(key: str) -> bool:
    """Tell whether a word is a term by itself: numbers and single letters are so only beside another word."""
    return len(key) > 1 and any(map(str.isalpha, key))


def is_short(word: str) -> bool:
    """Tell whether a word has one letter, or two small ones: in most languages, these words say little."""
    return len(word) == 1 or (len(word) == 2 and word.islower())


def weight_of_length(word: str, full: int) -> float:
    """Return 1 for a word with so many characters, and less for a shorter one that ends in a small letter.

    In all languages known, frequent words are short ("law of abbreviation": G. K. Zipf, "The psycho-biology of
    language", 1935). Acronyms, and scripts without capitals, are no shorter for that reason.
    """
    return min(len(word) / full, 1.0) ** 2 if word[-1:].islower() else 1.0


def joined(first: str, second: str) -> str:
    """Return how a pair of words is shown, with the joint between them."""
    word, next_word = shown(first), shown(second)
    if first.endswith(_NO_SPACE):
        overlap = _CHARACTER.findall(word)[-1]
        return word + (next_word.removeprefix(overlap) or next_word)
    has_joint = first[-1] in _JOINTS and not _is_abbreviation(first) and "'" not in first
    return word + (first[-1] if has_joint else " ") + next_word


def are_variants(one: str, other: str) -> bool:
    """Tell whether two words are forms of one word, such as singular and plural, judged by their letters alone.

    There is no dictionary: both begin alike, and differ by a short ending. Changed vowels (Buch, Bücher) are alike, as
    are y and i (city, cities). For scripts without spaces: whether they share characters, or could be one run.
    """
    if UNSPACED_RUN.match(one) and UNSPACED_RUN.match(other):
        return one[-1] == other[0] or one[0] == other[-1] or one in other or other in one
    one, other = _bare(one), _bare(other)
    n_alike = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    endings = {one[n_alike:], other[n_alike:]}
    if n_alike >= 4:
        return endings <= _MORE_ENDINGS or (n_alike >= 5 and n_alike >= 0.65 * max(len(one), len(other)))
    return n_alike >= min(3, len(one), len(other)) and endings <= _ENDINGS


def _bare(word: str) -> str:
    """Strip accents, spaces and signs."""
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", word.casefold()) if sign.isalnum() or sign in "+#")
    return letters.replace("y", "i")
