"""Tokenizing: texts in, token ids out. Needs the tokenizers library, but neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import chunks
from skembed.encoding.forks import Hold, hold_at_fork

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

UNLIMITED = 10**15  # tokenizers store "no limit" as an even larger number

# Limits of one call to the tokenizer: its encodings take some 100 bytes per token until they are copied.
_TEXTS_PER_CALL = 4096
_CHARACTERS_PER_CALL = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """The token ids of some texts, concatenated in one array.

    Attributes
    ----------
    ids : ndarray of int32, shape (n_ids,)
    starts : ndarray of int64, shape (n_rows + 1,)
        Row r holds ``ids[starts[r]:starts[r + 1]]``.
    text_of_row : ndarray of int, shape (n_rows,)
        The number of the text that a row belongs to: the row's own, unless long texts are split over several rows.
    n_tokens : ndarray of int64, shape (n_texts,)
        Tokens of each whole text, special tokens included, before any truncation.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    text_of_row: NDArray[np.intp]
    n_tokens: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens in each row, shape (n_rows,)."""
        return np.diff(self.starts)

    @property
    def is_first_row(self) -> NDArray[np.bool_]:
        """Whether a row is the first of its text, shape (n_rows,)."""
        steps: NDArray[np.intp] = np.diff(self.text_of_row, prepend=-1)
        return steps > 0

    def padded(self, rows: NDArray[np.intp], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return some rows as a batch, padded on the right.

        The padding is on the right for every model, whichever side its tokenizer prefers. So a token's position, and
        what a causal model sees before it, do not depend on the other texts in the batch.

        Returns
        -------
        input_ids : ndarray of int64, shape (len(rows), longest)
        is_token : ndarray of bool, same shape
            False on padding.
        """
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max(initial=0))
        is_token = columns < lengths[:, None]
        input_ids = np.full(is_token.shape, pad_id, dtype=np.int64)
        input_ids[is_token] = self.ids[(self.starts[rows][:, None] + columns)[is_token]]
        return input_ids, is_token


class TextTokenizer:
    """Tokenize texts with a private fast tokenizer, in one thread at a time.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        A private copy.
    truncation_side : {"right", "left"}, default="right"
        The end at which a long text is truncated.
    """

    def __init__(self, tokenizer: Tokenizer, truncation_side: str = "right") -> None:
        self._tokenizer = tokenizer
        self._truncation_side = truncation_side
        self.n_special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        self.lock = RLock()  # because the truncation is a state of the tokenizer
        tokenizer.no_padding()
        _all_tokenizers.add(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as a dict that JSON can store."""
        return {
            "tokenizer": self._tokenizer.to_str(),
            "cut_side": self._truncation_side,
            "encode_special_tokens": self._tokenizer.encode_special_tokens,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TextTokenizer:
        """Create a tokenizer from the result of :meth:`to_dict`."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(stored["tokenizer"])
        tokenizer.encode_special_tokens = stored["encode_special_tokens"]
        return cls(tokenizer, stored["cut_side"])

    def tokenize(self, texts: Sequence[str], max_seq_length: int | None, *, split: bool = False) -> Tokens:
        """Tokenize texts, and truncate or split those longer than ``max_seq_length``.

        Parameters
        ----------
        texts : sequence of str
        max_seq_length : int or None
            Most tokens in a row, special tokens included. None: no limit.
        split : bool, default=False
            Split a long text into rows of ``max_seq_length`` tokens, instead of truncating it.

        Returns
        -------
        Tokens
        """
        side = "right" if split else self._truncation_side  # rows are counted from the beginning of a text
        ids: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        rows_of_text: list[int] = []
        n_tokens: list[int] = []
        for call in chunks(texts, _TEXTS_PER_CALL, _CHARACTERS_PER_CALL):
            for encoding in self._encode(list(texts[call]), max_seq_length, side):
                rows = [encoding.ids, *(rest.ids for rest in encoding.overflowing)] if split else [encoding.ids]
                ids.append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
                lengths.extend(map(len, rows))
                rows_of_text.append(len(rows))
                # Of the whole text: truncated tokens included, special ones counted once.
                n_truncated = sum(len(rest.ids) - self.n_special_tokens for rest in encoding.overflowing)
                n_tokens.append(len(encoding.ids) + n_truncated)
        return Tokens(
            ids=np.concatenate(ids) if ids else np.empty(0, dtype=np.int32),
            starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            text_of_row=np.repeat(np.arange(len(texts)), rows_of_text),
            n_tokens=np.array(n_tokens, dtype=np.int64),
        )

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Count the tokens of each whole text, special tokens included."""
        calls = chunks(texts, _TEXTS_PER_CALL, _CHARACTERS_PER_CALL)
        lengths = (len(encoding) for call in calls for encoding in self._encode(list(texts[call]), None, "right"))
        return np.fromiter(lengths, dtype=np.int64, count=len(texts))

    def starts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the positions of the characters with which the tokens of each text begin, special tokens left out.

        Several tokens may begin with one character, such as those of the bytes of an emoji.
        """
        found: list[list[int]] = []
        for call in chunks(texts, _TEXTS_PER_CALL, _CHARACTERS_PER_CALL):
            with self.lock:
                self._tokenizer.no_truncation()
                encodings = self._tokenizer.encode_batch(list(texts[call]), add_special_tokens=False)
            found.extend([start for start, _ in encoding.offsets] for encoding in encodings)
        return found

    def _encode(self, texts: list[str], max_seq_length: int | None, side: str) -> list[Encoding]:
        with self.lock:
            if max_seq_length is None:
                self._tokenizer.no_truncation()
            else:
                self._tokenizer.enable_truncation(max_seq_length, direction=side)
            return self._tokenizer.encode_batch_fast(texts)


_all_tokenizers: WeakSet[TextTokenizer] = WeakSet()
inside_tokenizer = RLock()  # held during calls to tokenizers that are not a TextTokenizer


def _hold() -> Iterator[Hold]:
    """Yield the locks of all tokenizers: if one is in use during a fork, its own lock stays locked in the child."""
    yield inside_tokenizer.acquire, inside_tokenizer.release
    for tokenizer in list(_all_tokenizers):
        yield tokenizer.lock.acquire, tokenizer.lock.release


hold_at_fork("tokenizers", _hold)
