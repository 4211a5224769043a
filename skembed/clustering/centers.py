"""Centres of topics, and how many topics there are: unit vectors to centres. Imports scipy and scikit-learn.

The vectors come in an order by their content, so that nothing depends on the order of the rows.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_mutual_info_score
from threadpoolctl import threadpool_limits

from skembed.clustering.hierarchy import cut, merge_all
from skembed.encoding.distinct import blocks_of

_N_IN_TREE = 5000  # vectors that are merged one by one, in time and memory that grow with their square
_N_IN_KMEANS = 20_000
_N_NEAREST = 15
_FEW = 1000  # vectors
_MOST_STEPS = 100
_SCORE_OF_NOISE = 0.0003  # isotropic random vectors reach half of it, 200 texts ten times as much
_N_SPLITS = 6  # into halves, to see whether topics are found again
_WEIGHTS = [0.15, 0.7, 0.15]  # of the score of a number of topics and of those of the candidates beside it
_N_CANDIDATES, _MOST_TOPICS = 40, 500
_VECTORS_A_TOPIC = 8  # at least, on average
_FEWEST_TO_COUNT = 2 * _VECTORS_A_TOPIC  # vectors from which a number of topics can be told
_ROWS_PER_BLOCK, _QUERIES_PER_BLOCK = 8192, 1024
_DOUBT = 1e-5  # about ten times the error of cosines in float32

Vectors = NDArray[np.float32]
Codes = NDArray[np.intp]


def find_centers(
    vectors: Vectors,
    order: Codes,
    weights: NDArray[np.float64],
    n_topics: int | Literal["auto"],
    random_state: np.random.RandomState,
) -> Vectors:
    """Find the centres of topics.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_rows, dim)
        Of unit length.
    order : ndarray of int, shape (n_distinct,)
        Rows of the distinct vectors, in an order by content that has nothing to do with their meaning: the first ones
        are the sample.
    weights : ndarray of float64, shape (n_distinct,)
        How many rows have each of them.
    n_topics : int or "auto"
        At most the number of distinct vectors.
    random_state : RandomState
        Divides the sample into halves for "auto", and draws random starts for few vectors.

    Returns
    -------
    ndarray of float32, shape (n_topics, dim)
        Of unit length; fewer than ``n_topics`` if many vectors are nearly the same.
    """
    if n_topics == "auto":
        own = copy.deepcopy(random_state)  # so that the topics are those of the same number, asked for
        n_topics = choose_n_topics(vectors[order[:_N_IN_TREE]], own)
    n_sampled = max(_N_IN_KMEANS, n_topics)
    sample, weights = vectors[order[:n_sampled]], weights[:n_sampled]
    with threadpool_limits(1, user_api="openmp"):  # several threads add in any order, and the last digits vary
        if len(order) <= _FEW:
            return _centers_of_few(sample, weights, n_topics, random_state)
        return _centers_of_many(sample, weights, n_topics)


def _centers_of_few(
    vectors: Vectors, weights: NDArray[np.float64], n_topics: int, random_state: np.random.RandomState
) -> Vectors:
    """Return the best centres of k-means from Ward's topics and from random starts, refined by the cosine."""
    wards = _means(vectors, cut(merge_all(vectors), n_topics), n_topics, weights)
    from_wards = KMeans(n_topics, init=wards, n_init=1).fit(vectors, sample_weight=weights)
    n_starts = max(10, 1000 // len(vectors))  # of few vectors nearly all are tried, so that none decides by chance
    at_random = KMeans(n_topics, n_init=n_starts, random_state=random_state).fit(vectors, sample_weight=weights)
    best = min(from_wards, at_random, key=lambda means: means.inertia_)
    centers = _to_unit_length(best.cluster_centers_)
    for _ in range(_MOST_STEPS):
        nearest, _ = nearest_centers(vectors, centers)
        refined = _to_unit_length(_means(vectors, nearest, n_topics, weights))
        refined = np.where(np.bincount(nearest, minlength=n_topics)[:, None] > 0, refined, centers)
        if (refined == centers).all():
            break
        centers = refined
    return centers


def _centers_of_many(vectors: Vectors, weights: NDArray[np.float64], n_topics: int) -> Vectors:
    """Return the centres of topics found among vectors that are averaged with their nearest ones.

    The averages leave out much of what is particular to single texts. Ward's method merges them into topics, and
    k-means refines these; a centre is the mean of the vectors themselves. From Ward's topics, k-means finds a better
    solution than from the best of ten random starts if there are many topics, and a similar one if some vectors are
    missing.
    """
    averages = _average_with_nearest(vectors)
    leaves = averages[:_N_IN_TREE]
    start = averages[:n_topics]  # of more topics than the tree has leaves
    if n_topics <= len(leaves):
        start = _means(leaves, cut(merge_all(leaves), n_topics), n_topics).astype(np.float32)
    with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):  # averages of some may be equal
        means = KMeans(n_topics, init=start, n_init=1).fit(averages, sample_weight=weights)
    has_members = np.bincount(means.labels_, minlength=n_topics) > 0
    return _to_unit_length(_means(vectors, means.labels_, n_topics, weights))[has_members]


def choose_n_topics(sample: Vectors, random_state: np.random.RandomState) -> int:
    """Choose the number of topics that are best separated and are found again.

    The sample is divided into two halves at random, several times. For each of up to 40 candidates, from 2 to one topic
    per 8 vectors or 500, topics are found in each half by Ward's method, and all vectors get that of the nearest
    centre. The score is the product of

    - the separation: the mean simplified silhouette [1]_ of all vectors by the cosine, less that of random vectors with
      the same mean and covariance, as in the gap statistic [2]_. Without the second term, it would grow with the number
      of topics;
    - the square of the stability: how well the topics of two halves agree about all vectors [3]_, by the adjusted
      mutual information [4]_, which is 0 for agreement by chance, 1 for the same topics. It is squared because a few
      broad topics that are found again are worth more than many that differ from half to half.

    It is averaged with the scores of the candidates beside it, because a number that is much better than its neighbours
    is often so by chance.

    Parameters
    ----------
    sample : ndarray of float32, shape (n, dim)
        Distinct vectors of unit length.
    random_state : RandomState

    Returns
    -------
    int
        1 if no candidate does clearly better than random vectors. Of fewer than 16 vectors, nothing can be told: 2, or
        1 if there are fewer than 4.

    References
    ----------
    .. [1] E. R. Hruschka, R. J. G. B. Campello and L. N. de Castro, "Evolutionary Algorithms for Clustering Gene-
       Expression Data", ICDM 2004: the distance to centres in place of the mean distance to members.
    .. [2] R. Tibshirani, G. Walther and T. Hastie, "Estimating the Number of Clusters in a Data Set via the Gap
       Statistic", Journal of the Royal Statistical Society B 63, 2001.
    .. [3] T. Lange, V. Roth, M. L. Braun and J. M. Buhmann, "Stability-Based Validation of Clustering Solutions",
       Neural Computation 16, 2004.
    .. [4] N. X. Vinh, J. Epps and J. Bailey, "Information Theoretic Measures for Clusterings Comparison", Journal of
       Machine Learning Research 11, 2010.
    """
    n = len(sample)
    if n < _FEWEST_TO_COUNT:
        return 1 if n < 4 else 2
    most = min(n // _VECTORS_A_TOPIC, _MOST_TOPICS)
    candidates = np.unique(np.geomspace(2, most, _N_CANDIDATES).round().astype(int)).tolist()
    separation, stability = _compare_halves(sample, candidates, _N_SPLITS, random_state)
    by_chance, _ = _compare_halves(_random_vectors_like(sample, random_state), candidates, 1, random_state)
    scores = (separation - by_chance) * stability.clip(0) ** 2
    scores = np.convolve(np.pad(scores, 1, mode="edge"), _WEIGHTS, mode="valid")
    return candidates[int(scores.argmax())] if scores.max() > _SCORE_OF_NOISE else 1


def nearest_centers(vectors: Vectors, centers: Vectors) -> tuple[Codes, NDArray[np.float32]]:
    """Find the nearest centre of each vector, whatever other vectors are beside it.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
    centers : ndarray of float32, shape (n_centers, dim)

    Returns
    -------
    nearest : ndarray of int, shape (n,)
        Of equally near centres, the one with the smallest numbers, whatever their order. Cosines in float32 depend on
        the size of the block, so those that are nearly the largest are compared in float64.
    cosines : ndarray of float32, shape (n,)
    """
    nearest, cosines = np.empty(len(vectors), dtype=np.intp), np.empty(len(vectors), dtype=np.float32)
    by_content = np.lexsort(centers.T[::-1])
    centers = centers[by_content]
    exact_centers = centers.astype(np.float64)
    for block in blocks_of(len(vectors), _ROWS_PER_BLOCK):
        rows = vectors[block]
        products = rows @ centers.T
        is_near = products >= products.max(axis=1, keepdims=True) - np.float32(_DOUBT)
        found = is_near.argmax(axis=1)
        for row in np.flatnonzero(is_near.sum(axis=1) > 1):
            rivals = np.flatnonzero(is_near[row])
            found[row] = rivals[(exact_centers[rivals] * rows[row]).sum(axis=1).argmax()]
        nearest[block] = by_content[found]
        # in float64, so that the last digit does not decide which of two rows is nearer to their common centre
        cosines[block] = np.einsum("ij,ij->i", rows, centers[found], dtype=np.float64)
    return nearest, cosines.clip(-1, 1)


def _average_with_nearest(vectors: Vectors) -> Vectors:
    """Average each vector with its 15 nearest ones."""
    averages = np.empty_like(vectors)
    for block in blocks_of(len(vectors), _QUERIES_PER_BLOCK):
        nearest = np.argpartition(-(vectors[block] @ vectors.T), _N_NEAREST, axis=1)[:, : _N_NEAREST + 1]
        averages[block] = vectors[nearest].mean(axis=1)
    return averages


def _compare_halves(
    sample: Vectors, numbers: list[int], n_splits: int, random_state: np.random.RandomState
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute how separate the topics of a half are, and how well those of two halves agree, by number of topics.

    Both are about the whole sample, and means over all splits.
    """
    silhouettes, agreements = np.zeros((n_splits, len(numbers))), np.zeros((n_splits, len(numbers)))
    for split in range(n_splits):
        rows = random_state.permutation(len(sample))
        halves = sample[rows[: len(rows) // 2]], sample[rows[len(rows) // 2 :]]
        both = zip(*(_topics_from(half, sample, numbers) for half in halves), strict=True)
        for number, ((topics, silhouette), (others, other_silhouette)) in enumerate(both):
            silhouettes[split, number] = (silhouette + other_silhouette) / 2
            agreements[split, number] = adjusted_mutual_info_score(topics, others)
    return silhouettes.mean(axis=0), agreements.mean(axis=0)


def _topics_from(half: Vectors, sample: Vectors, numbers: list[int]) -> Iterator[tuple[Codes, float]]:
    """Yield the topics of the sample by the nearest centres of a half, and their mean simplified silhouette."""
    tree = merge_all(half)
    for number in numbers:
        cosines = sample @ _centers(half, cut(tree, number), number).T
        nearest, second = np.partition(1 - cosines, 1, axis=1)[:, :2].T.clip(0)
        yield cosines.argmax(axis=1), float((1 - nearest / np.maximum(second, 1e-12)).mean())


def _random_vectors_like(sample: Vectors, random_state: np.random.RandomState) -> Vectors:
    """Draw random unit vectors that have the mean and the covariance of a sample before they are scaled."""
    mean = sample.mean(axis=0)
    weights = random_state.standard_normal((len(sample), len(sample))).astype(np.float32) / np.sqrt(len(sample))
    return _to_unit_length(weights @ (sample - mean) + mean)


def _centers(vectors: Vectors, group_of: NDArray[np.integer[Any]], n_groups: int) -> Vectors:
    return _to_unit_length(_means(vectors, group_of, n_groups))


def _means(
    vectors: Vectors,
    group_of: NDArray[np.integer[Any]],
    n_groups: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    weights = np.ones(len(vectors)) if weights is None else weights
    shares = weights / np.maximum(np.bincount(group_of, weights, n_groups), 1)[group_of]
    members = csr_array((shares, (group_of, np.arange(len(vectors)))), shape=(n_groups, len(vectors)))
    means: NDArray[np.float64] = members @ vectors.astype(np.float64)
    return means


def _to_unit_length(vectors: NDArray[np.floating[Any]]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0).astype(np.float32)
    return unit
