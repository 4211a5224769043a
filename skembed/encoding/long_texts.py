"""Texts with more tokens than the model reads: count tokens, find these texts, average their windows.

Imports the plan, texts, tokens and batching.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import CHARACTERS_PER_CHUNK, TEXTS_PER_CHUNK, chunks
from skembed.encoding.plan import Plan
from skembed.encoding.texts import MISSING, Texts
from skembed.encoding.tokens import Tokens


def check_lengths(
    texts: Texts, plan: Plan, codes: NDArray[np.intp] | None = None, n_tokens: NDArray[np.int64] | None = None
) -> None:
    """Raise ValueError for the first row whose text is longer than the model reads, before anything is computed.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    codes : ndarray of int, default=None
        Codes of the texts whose tokens are still to be counted; None: all.
    n_tokens : ndarray of int64, shape (n_unique,), default=None
        Token counts of the other texts.
    """
    base = plan.base_recipe
    limit = base.max_seq_length
    if limit is None:
        return
    codes = np.arange(len(texts.unique)) if codes is None else codes
    known = np.zeros(len(texts.unique), dtype=np.int64) if n_tokens is None else n_tokens.copy()
    for chunk in chunks([texts.unique[code] for code in codes], TEXTS_PER_CHUNK, CHARACTERS_PER_CHUNK):
        known[codes[chunk]] = count_tokens([base.prompt + texts.unique[code] for code in codes[chunk]], plan)
    too_long = np.flatnonzero(known > limit)
    if len(too_long):
        row = texts.first_row(too_long)
        others = "'truncate'" if plan.model.backend.spec is None else "'mean' or 'truncate'"
        raise ValueError(
            f"{texts.where(row)} has {known[texts.codes[row]]} tokens, more than the {limit} that the model reads, "
            f"as {np.isin(texts.codes, too_long).sum()} of {len(texts)} texts have. Shorten them, or choose "
            f"long_texts={others}.{texts.about}"
        )


def count_tokens(texts: list[str], plan: Plan) -> NDArray[np.int64]:
    """Count the tokens of each whole text as the model reads it, special tokens included.

    Parameters
    ----------
    texts : list of str
        With their prompt.
    plan : Plan

    Returns
    -------
    ndarray of int64, shape (n_texts,)
    """
    if plan.model.backend.spec is not None:
        return plan.model.backend.spec.tokenizer.count(texts)
    backend = plan.model.backend
    with plan.model.lock:
        return np.array([backend.count_tokens(text, plan.settings.task) for text in texts], dtype=np.int64)


def token_starts(texts: list[str], plan: Plan) -> list[list[int]]:
    """Return the positions of the characters with which the tokens of each text begin, special tokens left out.

    Parameters
    ----------
    texts : list of str
    plan : Plan

    Returns
    -------
    list of list of int
        One for each text, in ascending order. Several tokens may begin with one character.

    Raises
    ------
    ValueError
        If the model's tokenizer does not tell.
    """
    if plan.model.backend.spec is not None:
        return plan.model.backend.spec.tokenizer.starts(texts)
    backend = plan.model.backend
    with plan.model.lock:
        return [backend.token_starts(text, plan.settings.task) for text in texts]


def count_truncated(n_tokens: NDArray[np.int64], texts: Texts, plan: Plan) -> int:
    """Count the rows whose text was truncated.

    Parameters
    ----------
    n_tokens : ndarray of int64, shape (n_unique,)
        Tokens of each distinct text.
    texts : Texts
    plan : Plan
    """
    is_truncated = n_tokens > (np.inf if plan.token_limit is None else plan.token_limit)
    return int(is_truncated[texts.codes[texts.codes != MISSING]].sum()) if is_truncated.any() else 0


def average_windows(
    batches: Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]], tokens: Tokens, n_prompt_tokens: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Average the windows of texts that were split, weighted by the number of tokens pooled in each.

    Parameters
    ----------
    batches : iterator of (rows, vectors)
        Vectors of windows, which are rows of ``tokens``, in any order.
    tokens : Tokens
    n_prompt_tokens : int
        Tokens of the first window of a text that are not pooled.

    Yields
    ------
    positions : ndarray of int
        Texts whose last window has come.
    vectors : ndarray of float32, shape (len(positions), dim)
    """
    n_waiting = np.bincount(tokens.text_of_row, minlength=len(tokens.n_tokens))
    n_pooled = tokens.lengths - n_prompt_tokens * tokens.is_first_row
    weights = np.maximum(n_pooled, 1).astype(np.float32)[:, None]
    windows: NDArray[np.float32] | None = None
    for rows, vectors in batches:
        if windows is None:
            windows = np.empty((len(tokens.lengths), vectors.shape[1]), dtype=np.float32)
        windows[rows] = vectors
        np.subtract.at(n_waiting, tokens.text_of_row[rows], 1)
        touched = np.unique(tokens.text_of_row[rows])
        complete = touched[n_waiting[touched] == 0]
        if len(complete):
            of_complete = np.flatnonzero(np.isin(tokens.text_of_row, complete))
            first_rows = np.flatnonzero(tokens.is_first_row[of_complete])
            means: NDArray[np.float32] = np.add.reduceat(
                windows[of_complete] * weights[of_complete], first_rows, axis=0
            )
            means /= np.add.reduceat(weights[of_complete], first_rows, axis=0)
            yield complete, means
