"""Placement: names of a map lie within it, not over each other, and near what they name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skembed.plotting.placement import densest_place, overlaps, place_boxes

AREA = np.array([0.0, 0.0, 300.0, 200.0])
NOWHERE, NOTHING = np.empty((0, 2)), np.empty(0)


def boxes_of(middles, sizes) -> np.ndarray:
    return np.hstack([middles - sizes / 2, middles + sizes / 2])


@settings(max_examples=25, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.floats(0, 300), st.floats(0, 200), st.floats(1, 150), st.floats(1, 60)), min_size=1, max_size=12
    )
)
def test_boxes_lie_within_the_area_and_not_over_each_other(boxes):
    anchors, sizes = np.array(boxes)[:, :2], np.array(boxes)[:, 2:]
    middles = place_boxes(anchors, sizes, AREA, anchors, np.ones(len(anchors)))
    has_room = ~np.isnan(middles).any(axis=1)
    placed = boxes_of(middles, sizes)[has_room]
    assert (placed[:, :2] >= 0).all()
    assert (placed[:, 2:] <= AREA[2:]).all()
    shared = overlaps(placed, placed)
    np.fill_diagonal(shared, 0)
    assert shared.max() == 0
    assert has_room[0]


def test_a_box_lies_on_its_anchor_if_nothing_is_there():
    anchors = np.array([[51.7, 60.1], [200.0, 150.0]])
    assert_allclose(place_boxes(anchors, np.full((2, 2), 30.0), AREA, NOWHERE, NOTHING), anchors)


def test_a_box_beside_the_area_is_moved_into_it():
    middles = place_boxes(np.array([[0.0, 200.0]]), np.array([[40.0, 20.0]]), AREA, NOWHERE, NOTHING)
    assert_allclose(middles, [[20, 190]])


def test_of_boxes_with_the_same_anchor_all_are_near_it():
    anchors, sizes = np.tile([150.0, 100.0], (9, 1)), np.tile([60.0, 12.0], (9, 1))
    middles = place_boxes(anchors, sizes, AREA, NOWHERE, NOTHING)
    assert (np.abs(middles - anchors) < [100, 60]).all()


def test_a_box_without_room_is_nan_and_the_first_ones_get_the_room():
    middles = place_boxes(np.tile([150.0, 50.0], (3, 1)), np.tile([200.0, 90.0], (3, 1)), AREA, NOWHERE, NOTHING)
    assert_array_equal(np.isnan(middles).any(axis=1), [False, False, True])


@pytest.mark.parametrize(("weight", "is_hidden"), [(0.01, True), (1, False)])
def test_a_box_moves_off_what_it_would_hide_if_that_weighs_enough(weight, is_hidden):
    anchor = np.array([[150.0, 100.0]])
    middle = place_boxes(anchor, np.array([[60.0, 12.0]]), AREA, anchor, np.array([weight]))
    assert (np.abs(middle - anchor) < [30, 6]).all() == is_hidden
    assert np.linalg.norm(middle - anchor) < 20


@pytest.mark.parametrize("n_strays", [0, 40])
def test_the_densest_place_is_in_the_crowd_and_not_among_strays(n_strays):
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(3, 0.1, size=(100, 2)), rng.uniform(-20, 20, size=(n_strays, 2))])
    assert_allclose(densest_place(points), [3, 3], atol=0.3)


@pytest.mark.parametrize("points", [[[2.0, 5.0]], [[2.0, 5.0]] * 3, [[1.0, 4.0], [3.0, 6.0]]])
def test_one_point_two_points_and_equal_points_have_a_densest_place(points):
    place = densest_place(np.array(points))
    assert (place >= np.min(points, axis=0)).all()
    assert (place <= np.max(points, axis=0)).all()


def test_the_densest_place_of_very_many_points_is_that_of_some_of_them():
    points = np.random.default_rng(0).normal(size=(100_000, 2))
    assert_allclose(densest_place(points), [0, 0], atol=0.5)
