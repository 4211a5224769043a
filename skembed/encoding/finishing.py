"""Finishing: raw vectors to those of the result, and from distinct texts back to rows. Imports the plan and texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.plan import Plan
from skembed.encoding.texts import MISSING, Texts


def column_slices(dims: Sequence[int]) -> list[slice]:
    """Return the columns of each of several vectors that stand side by side.

    Examples
    --------
    >>> column_slices([2, 3])
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return [slice(start, stop) for start, stop in pairwise(accumulate(dims, initial=0))]


def truncate_normalize(raw: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Truncate vectors and normalize them; in place, unless several parts are truncated.

    Truncating first and normalizing once gives the same as normalizing, truncating and normalizing again.

    Parameters
    ----------
    raw : ndarray of float32, shape (n_texts, sum of plan.dims)
        Overwritten, or copied.
    plan : Plan

    Returns
    -------
    ndarray of float32, shape (n_texts, finished_dim)
    """
    finished = raw[:, : plan.finished_dim]
    if len(plan.kept) > 1 and plan.finished_dim < raw.shape[1]:
        parts = [raw[:, part][:, :kept] for part, kept in zip(column_slices(plan.dims), plan.kept, strict=True)]
        finished = np.concatenate(parts, axis=1)
    if plan.normalize:
        norms = np.sqrt(np.einsum("ij,ij->i", finished, finished))
        finished /= np.maximum(norms, 1e-12)[:, None]  # as torch.nn.functional.normalize
    return finished


def check_finite(raw: NDArray[np.float32], codes: NDArray[np.intp], texts: Texts, plan: Plan) -> None:
    """Raise ValueError if a vector holds NaN or infinity, before it becomes a feature.

    float16 ends at 65,504, and some models exceed that.

    Parameters
    ----------
    raw : ndarray of float32, shape (n_texts, dim)
    codes : ndarray of int, shape (n_texts,)
        Codes of the texts that the vectors belong to.
    texts : Texts
    plan : Plan
    """
    is_bad = ~np.isfinite(raw).all(axis=1)
    if not is_bad.any():
        return
    backend, base = plan.model.backend, plan.base_recipe
    row = texts.first_row(codes[is_bad])
    text = base.prompt + texts.unique[texts.codes[row]]
    if backend.spec is None and backend.reads_nothing_of(text, plan.settings.task):
        raise ValueError(
            f"{texts.where(row)} has no word that {plan.model.name} knows, and without one its vector is NaN. Drop "
            "the row, or make it missing (None) and choose missing='zero' or 'nan'."
        )
    remedy = "The model's weights may be damaged." if base.dtype == "float32" else "Choose dtype='float32'."
    raise ValueError(
        f"{texts.where(row)} gets infinite or NaN values from {plan.model.name} in "
        f"{base.dtype}, as {is_bad.sum()} texts do. {remedy}"
    )


def scatter_rows(vectors: NDArray[np.float32], texts: Texts, missing: str) -> NDArray[np.float32]:
    """Return one vector for each row from those of the distinct texts.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_unique, dim)
        Returned as they are if each row has a text of its own.
    texts : Texts
    missing : {"error", "empty", "zero", "nan"}
        Rows without a text become NaN for "nan", else zeros.

    Returns
    -------
    ndarray of float32, shape (n_rows, dim)

    Examples
    --------
    >>> texts = Texts(["a", "b"], np.array([1, -1, 0]))
    >>> scatter_rows(np.float32([[1, 2], [3, 4]]), texts, "zero")
    array([[3., 4.],
           [0., 0.],
           [1., 2.]], dtype=float32)
    """
    codes = texts.codes
    if len(vectors) == len(codes) and MISSING not in codes:  # all rows differ, so they are in order already
        return vectors
    rows = np.full((len(codes), vectors.shape[1]), np.nan if missing == "nan" else 0.0, dtype=np.float32)
    has_text = codes != MISSING
    rows[has_text] = vectors[codes[has_text]]
    return rows
