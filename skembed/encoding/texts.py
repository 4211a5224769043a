"""Reading texts: the rows of any container to its distinct texts, and an array of codes that leads back to the rows.

Imports containers, numpy and pandas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.encoding.containers import ABOUT_VECTORS, about_column, name_row, rows_and_labels

MISSING = -1  # the code of a row without a text
MISSING_POLICIES = ("error", "empty", "zero", "nan")

_LONE_SURROGATE = re.compile(r"[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")


@dataclass(frozen=True)
class Texts:
    """A column of text, each distinct text once.

    Attributes
    ----------
    unique : list of str
        The distinct texts, in order of first appearance.
    codes : ndarray of int, shape (n_rows,)
        ``unique[codes[row]]`` is the text of ``row``; -1 where the text is missing.
    labels : pandas.Index or None
        The index labels of the rows, where the container had an index.
    name : str, default="X"
        Name of the column in messages.
    where_is : callable, default=None
        Describes a row by its position, for columns whose positions mean nothing to the user.
    about : str, default=""
        End of each message, e.g. " X is column 'title'."
    """

    unique: list[str]
    codes: NDArray[np.intp]
    labels: pd.Index | None = None
    name: str = "X"
    where_is: Callable[[int], str] | None = None
    about: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    def first_row(self, codes: NDArray[np.intp]) -> int:
        """Return the first row that has one of the codes."""
        return int(np.argmax(np.isin(self.codes, codes)))

    def where(self, row: int) -> str:
        """Describe a row in a message: its position, and its index label if there is one."""
        if self.where_is is not None:
            return self.where_is(row)
        return name_row(self.name, self.labels, row)

    def filled(self) -> Texts:
        """Return the column with missing texts replaced by the empty text."""
        is_missing = self.codes == MISSING
        if not is_missing.any():
            return self
        unique = self.unique if "" in self.unique else [*self.unique, ""]
        return replace(self, unique=unique, codes=np.where(is_missing, unique.index(""), self.codes))


def read_texts(
    X: Any, *, missing: str = "error", name: str = "X", where_is: Callable[[int], str] | None = None
) -> Texts:
    """Read a column of text from any container.

    Parameters
    ----------
    X : list, tuple, ndarray, Series, Index, one-column frame, polars Series, pyarrow array
        One text a row. Rows may be missing (None, NaN, ``pd.NA``, ``NaT``, null).
    missing : {"error", "empty", "zero", "nan"}, default="error"
        "error": raise for a missing row. "empty": read it as ``""``. "zero", "nan": give it the code -1.
    name : str, default="X"
        Name of the column in messages.
    where_is : callable, default=None
        Describes a row by its position, instead of ``name`` and index label.

    Returns
    -------
    Texts

    Raises
    ------
    TypeError
        If X is not a column of text, or an element is neither a string nor missing.
    ValueError
        If X has several columns, if a row is missing and ``missing="error"``, or if a text holds surrogates.

    Examples
    --------
    >>> texts = read_texts(["b", "a", "b"])
    >>> texts.unique, texts.codes.tolist()
    (['b', 'a'], [0, 1, 0])
    """
    rows, labels = rows_and_labels(X)
    unique, codes, problem = _read_all_at_once(rows, missing) or _read_one_by_one(rows, missing)
    texts = Texts(unique, codes, labels, name, where_is, about_column(X) if name == "X" else "")
    _check_surrogates(texts)  # first, because the problem below is of a later row
    if problem is not None:
        error, reason = problem
        raise error(f"{texts.where(len(texts))} {reason}{texts.about}")
    return texts


def _read_all_at_once(rows: Iterable[Any], missing: str) -> tuple[list[str], NDArray[np.intp], None] | None:
    """Read rows that need no conversion and hold no problem; return None if they may."""
    if isinstance(rows, pd.Categorical):
        codes, used_categories = rows.factorize()
        texts = used_categories.tolist()
        needs_text = missing in ("error", "empty") and (codes == MISSING).any()
        return None if needs_text or not set(map(type, texts)) <= {str} else (texts, codes, None)
    if isinstance(rows, (list, tuple)) and set(map(type, rows)) <= {str}:
        code_of = {text: code for code, text in enumerate(dict.fromkeys(rows))}
        codes = np.fromiter(map(code_of.__getitem__, rows), dtype=np.intp, count=len(rows))
        return list(code_of), codes, None
    return None


def _read_one_by_one(
    rows: Iterable[Any], missing: str
) -> tuple[list[str], NDArray[np.intp], tuple[type[Exception], str] | None]:
    """Read rows of any kind, up to the first that has a problem; also return the problem."""
    code_of: dict[str, int] = {}
    codes: list[int] = []
    problem = None
    for value in rows:
        if isinstance(value, str):  # also numpy.str_ and other subclasses; str(value) may be overridden
            codes.append(code_of.setdefault(str.__str__(value), len(code_of)))
        elif (problem := _problem_of(value, missing)) is not None:
            break
        elif missing == "empty":
            codes.append(code_of.setdefault("", len(code_of)))
        else:
            codes.append(MISSING)
    return list(code_of), np.array(codes, dtype=np.intp), problem


def _problem_of(value: Any, missing: str) -> tuple[type[Exception], str] | None:
    """Return the error for an element that is not a string; None if it is missing, and missing rows are allowed."""
    if _is_vector(value):
        return TypeError, f"is a vector of {len(value)} numbers, not str. {ABOUT_VECTORS}"
    if not is_missing(value):
        return TypeError, f"is {type(value).__name__}, not str. {_suggestion_for(value)}"
    if missing == "error":
        return ValueError, f"is missing ({value!r}). Fill or drop it, or pass missing='empty', 'zero' or 'nan'."
    return None


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NA, NaT or null."""
    if isinstance(value, Decimal):  # comparing a signalling NaN raises, in pandas too
        return value.is_nan()
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_vector(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "fiu"
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(number, Real) for number in value)


def _suggestion_for(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        try:
            value.decode()
        except UnicodeDecodeError:
            return "It is not UTF-8: decode it first with the encoding that it has, e.g. with .decode('latin-1')."
        return "Decode it first, e.g. with .decode('utf-8')."
    if isinstance(value, (list, tuple)):
        return "Each row is one text: join its parts, or embed each part in a row of its own."
    return "Convert it with str() if it is meant as text, or drop it."


def _check_surrogates(texts: Texts) -> None:
    """Raise ValueError for the first text with surrogates: halves of characters, which tokenizers cannot read."""
    is_ascii = np.fromiter(map(str.isascii, texts.unique), dtype=bool, count=len(texts.unique))
    for code in np.flatnonzero(~is_ascii).tolist():
        try:
            texts.unique[code].encode()
        except UnicodeEncodeError as error:
            row = texts.first_row(np.array([code]))
            raise ValueError(f"{texts.where(row)} {about_surrogates(texts.unique[code])}{texts.about}") from error


def about_surrogates(text: str) -> str:
    """Return what is wrong with a text that holds surrogates, and how to repair it.

    Two in a row are the halves of one character; a lone one cannot be restored.
    """
    lone = _LONE_SURROGATE.search(text)
    repair = "text.encode('utf-16', 'surrogatepass').decode('utf-16'"
    if lone is not None:
        return f"has a lone surrogate at character {lone.start()}, which is not text. Replace it: {repair}, 'replace')."
    at = next(position for position, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return (
        f"has a pair of surrogates at character {at}: one character, such as an emoji, that was read as two halves, as "
        f"from JSON or UTF-16. Put them together: {repair})."
    )
