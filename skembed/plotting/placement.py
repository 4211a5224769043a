"""Placement: where names stand on a map. Imports numpy and scipy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

_MOST_COMPARED = 1_000  # points, for the densest part of them
_STEP = 6  # between the places that are tried
_ROUNDS = 3  # in the first a box knows the boxes before it, in later ones all others
_OF_HIDING = 40  # distance that is as bad as hiding points of weight 1
_OF_OFF_MIDDLE = 0.3  # of the distance to the middle of a box, beside that to its edge


def densest_place(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the middle of the densest part of some points, shape (n_points, 2)."""
    points = points[:: -(-len(points) // _MOST_COMPARED)]
    width = points.std(axis=0).max() * len(points) ** (-1 / 6) or 1  # Scott's rule for two dimensions
    weights = np.exp(-cdist(points, points, "sqeuclidean") / (2 * width**2))
    place: NDArray[np.float64] = np.average(points, axis=0, weights=weights[weights.sum(axis=1).argmax()])
    return place


def place_boxes(
    anchors: NDArray[np.float64],
    sizes: NDArray[np.float64],
    inside: NDArray[np.float64],
    marks: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Place each box near its anchor, within an area, not over another box, and over few marks.

    Parameters
    ----------
    anchors : ndarray of float, shape (n_boxes, 2)
    sizes : ndarray of float, shape (n_boxes, 2)
        Width and height of each box.
    inside : ndarray of float, shape (4,)
        Left, bottom, right and top of the area.
    marks : ndarray of float, shape (n_marks, 2)
    weights : ndarray of float, shape (n_marks,)
        How bad it is to hide each mark.

    Returns
    -------
    ndarray of float, shape (n_boxes, 2)
        The middle of each box; NaN if there is no room for it.
    """
    middles = np.full_like(anchors, np.nan)
    edges = [np.arange(start, end + _STEP, _STEP) for start, end in inside.reshape(2, 2).T]
    grid = np.stack(np.meshgrid(*edges), axis=-1).reshape(-1, 2)
    sums: NDArray[np.float64] = (
        np.histogram2d(marks[:, 0], marks[:, 1], bins=edges, weights=weights)[0].cumsum(axis=0).cumsum(axis=1)
    )
    for _ in range(_ROUNDS):
        for number, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
            middles[number] = np.nan
            tried = np.vstack([anchor.clip(inside[:2] + size / 2, inside[2:] - size / 2), grid])
            boxes = np.hstack([tried - size / 2, tried + size / 2])
            taken = np.hstack([middles - sizes / 2, middles + sizes / 2])[~np.isnan(middles).any(axis=1)]
            is_free = _lie_within(boxes, inside) & ~_meet(boxes, taken).any(axis=1)
            if is_free.any():
                apart = np.abs(tried - anchor)
                cost = np.linalg.norm((apart - size / 2).clip(0), axis=1)  # from the edge
                cost += _OF_OFF_MIDDLE * np.linalg.norm(apart, axis=1) + _OF_HIDING * _within(boxes, sums, inside)
                middles[number] = tried[np.where(is_free, cost, np.inf).argmin()]
    return middles


def _lie_within(boxes: NDArray[np.float64], area: NDArray[np.float64]) -> NDArray[np.bool_]:
    lies: NDArray[np.bool_] = np.hstack([boxes[:, :2] - area[:2], area[2:] - boxes[:, 2:]]).min(axis=1) >= 0
    return lies


def _meet(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each box overlaps each of the others; several times as fast as the areas."""
    left, bottom, right, top = boxes.T[..., None]
    meets: NDArray[np.bool_] = (
        (left < others[:, 2]) & (right > others[:, 0]) & (bottom < others[:, 3]) & (top > others[:, 1])
    )
    return meets


def _within(boxes: NDArray[np.float64], sums: NDArray[np.float64], area: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up the weights in each box, from the sums of all cells to the left and below."""
    sums = np.pad(sums, ((1, 0), (1, 0)))
    cells = ((boxes - np.tile(area[:2], 2)) / _STEP).round().astype(int).clip(0, np.tile(sums.shape, 2) - 1)
    left, bottom, right, top = cells.T
    found: NDArray[np.float64] = sums[right, top] - sums[left, top] - sums[right, bottom] + sums[left, bottom]
    return found


def overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the area that each box shares with each of the others."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    areas: NDArray[np.float64] = (high - low).clip(0).prod(axis=2)
    return areas
