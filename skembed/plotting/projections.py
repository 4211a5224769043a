"""Projections: vectors to positions in two dimensions. Imports scikit-learn; umap when it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from skembed.optional import require

METHODS = {"auto": "", "pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}  # method → its name on the axes
_TSNE_FROM, _TSNE_UP_TO = 50, 5_000  # rows; among fewer, neighbours say little, and more take minutes


def check_method(method: str) -> None:
    """Raise ValueError unless a method exists, and ImportError unless its library is installed."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}; got {method!r}.")
    if method == "umap":
        _import_umap()


def project(
    vectors: NDArray[np.float32], method: str, random_state: Any
) -> tuple[NDArray[np.float64], str, NDArray[np.floating[Any]] | None]:
    """Compute two-dimensional positions.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_rows, dim)
        Of length 1. Rows without a vector are NaN.
    method : {"auto", "pca", "tsne", "umap"}
    random_state : int, RandomState or None

    Returns
    -------
    positions : ndarray of float, shape (n_rows, 2)
        NaN for rows without a vector.
    method : str
        The method that "auto" chose, or the given one.
    shares : ndarray of float, shape (2,), or None
        Each axis's share of the variance, for PCA.

    Raises
    ------
    ValueError
        If there are too few vectors.
    """
    has_vector = ~np.isnan(vectors).any(axis=1)
    n_vectors, fewest = int(has_vector.sum()), 4 if method == "umap" else 2
    if n_vectors < fewest:
        raise ValueError(f"A map needs at least {fewest} rows with a vector; got {n_vectors}, of {len(vectors)} rows.")
    if method == "auto":
        method = "tsne" if _TSNE_FROM <= n_vectors <= _TSNE_UP_TO else "pca"
    shares = None
    positions = np.full((len(vectors), 2), np.nan)
    if method == "pca":
        positions[has_vector], shares = _principal_components(vectors[has_vector], 2, random_state)
    else:
        compute = _tsne if method == "tsne" else _umap
        positions[has_vector] = compute(vectors[has_vector], random_state)
    return positions, method, shares


def project_sample(vectors: NDArray[np.float32], method: str, random_state: Any) -> NDArray[np.float64]:
    """Compute positions as :func:`project`; "auto" is t-SNE of a random sample if there are too many rows for t-SNE.

    Rows that are not in the sample have NaN.
    """
    rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
    if method != "auto" or len(rows) <= _TSNE_UP_TO:
        return project(vectors, method, random_state)[0]
    sample = np.sort(check_random_state(random_state).choice(rows, _TSNE_UP_TO, replace=False))
    positions = np.full((len(vectors), 2), np.nan)
    positions[sample] = project(vectors[sample], "tsne", random_state)[0]
    return positions


def _tsne(vectors: NDArray[np.float32], random_state: Any) -> Any:
    from sklearn.manifold import TSNE

    points, _ = _principal_components(vectors, 50, random_state)
    start = 1e-4 * points[:, :2] / (points[:, 0].std() or 1)  # as init="pca", which divides by 0 if all are equal
    tsne = TSNE(perplexity=min(30, (len(vectors) - 1) / 3), init=start, random_state=random_state)
    return tsne.fit_transform(points)


def _umap(vectors: NDArray[np.float32], random_state: Any) -> Any:
    n_neighbors = min(15, len(vectors) - 1)
    n_jobs = -1 if random_state is None else 1  # with a seed umap uses one, and warns if more are allowed
    umap = _import_umap().UMAP(n_neighbors=n_neighbors, metric="cosine", random_state=random_state, n_jobs=n_jobs)
    return umap.fit_transform(vectors)


def _import_umap() -> Any:
    return require("umap", package="umap-learn", needed_by="method='umap'")


def _principal_components(vectors: NDArray[np.float32], most: int, random_state: Any) -> tuple[Any, Any]:
    """Compute the largest components, at least two, and each one's share of the variance."""
    pca = PCA(min(most, *vectors.shape), random_state=random_state)
    with np.errstate(invalid="ignore"):  # equal vectors have no variance to share
        points = pca.fit_transform(vectors)
    n_lacking = max(0, 2 - points.shape[1])  # for vectors of one dimension
    shares = np.pad(np.nan_to_num(pca.explained_variance_ratio_), (0, n_lacking))
    return np.pad(points, ((0, 0), (0, n_lacking))), shares
