"""link: the assignment with the largest sum of cosines, as scipy's dense one has it, with and without a lowest one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment

from skembed.similarity import linking
from skembed.similarity.linking import Links, link

MIN_SCORES = st.sampled_from([None, -1.0, -0.3, 0.0, 0.2, 0.5, 0.8, 0.95, 1.0])


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def cosines_of(left, right) -> np.ndarray:
    """Return the cosines of all pairs in float64; those of vectors of zeros are 0."""
    lengths = [np.linalg.norm(side.astype(np.float64), axis=1) for side in (left, right)]
    products = left.astype(np.float64) @ right.T.astype(np.float64)
    return np.divide(products, np.outer(*lengths), out=np.zeros_like(products), where=np.outer(*lengths) > 0)


def dense(left, right, min_score) -> tuple[np.ndarray, np.ndarray]:
    """Return scipy's assignment; with a lowest score, pairs that do not reach it or have a negative one count 0."""
    cosines = cosines_of(left, right)
    if min_score is None:
        return linear_sum_assignment(cosines, maximize=True)
    gains = np.where(cosines >= min_score - 1e-6, cosines, 0).clip(0)
    row, column = linear_sum_assignment(gains, maximize=True)
    is_link = gains[row, column] > 0
    return row[is_link], column[is_link]


def is_valid(links: Links) -> bool:
    return len(set(links.left)) == len(links.left) == len(set(links.right)) and (np.diff(links.left) > 0).all()


@st.composite
def sides(draw, kinds=("any", "grid")) -> tuple[np.ndarray, np.ndarray]:
    """Return two sides of up to 12 rows, at random or from a grid, whose rows have copies and ties."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, kind = draw(st.integers(1, 5)), draw(st.sampled_from(kinds))
    counts = draw(st.tuples(st.integers(0, 12), st.integers(0, 12)))
    if kind == "any":
        return tuple(unit(numbers.normal(size=(n, dim))) for n in counts)
    return tuple(unit(numbers.integers(-1, 2, size=(n, dim))) for n in counts)


@settings(deadline=None)
@given(sides(), MIN_SCORES)
def test_the_sum_of_scores_is_that_of_the_dense_assignment(both, min_score):
    links = link(*both, min_score)
    assert is_valid(links)
    assert links.scores.sum() == pytest.approx(cosines_of(*both)[dense(*both, min_score)].sum(), abs=1e-9)
    assert_allclose(links.scores, cosines_of(*both)[links.left, links.right], atol=1e-12)


@settings(deadline=None)
@given(sides(("any",)), MIN_SCORES)
def test_the_pairs_are_those_of_the_dense_assignment_where_no_other_has_its_sum(both, min_score):
    if both[0].shape[1] == 1:  # all cosines are 1 or -1
        return
    links = link(*both, min_score)
    assert [links.left.tolist(), links.right.tolist()] == [part.tolist() for part in dense(*both, min_score)]


@settings(deadline=None)
@given(sides(), MIN_SCORES)
def test_pairs_below_the_lowest_score_are_not_linked(both, min_score):
    scores = link(*both, min_score).scores
    assert min_score is None or (scores >= min_score - 1e-6).all()


@pytest.mark.parametrize("min_score", [-1.0, 0.0])
def test_pairs_that_add_nothing_to_the_sum_are_not_linked(min_score):
    assert len(link(unit([[1, 0], [0, 0]]), unit([[0, 1], [-1, 1]]), min_score).left) == 0


@settings(deadline=None)
@given(sides(), st.sampled_from([-1.0, 0.2, 0.5]))
def test_many_pairs_of_few_rows_are_assigned_from_all_cosines_with_the_same_sum(both, min_score):
    expected = link(*both, min_score).scores.sum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linking, "_MOST_PAIRS", 0)
        patch.setattr(linking, "_NUMBERS_PER_BLOCK", 3)
        links = link(*both, min_score)
    assert is_valid(links)
    assert links.scores.sum() == pytest.approx(expected, abs=1e-9)


def test_too_many_pairs_of_many_rows_are_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(linking, "_MOST_PAIRS", 8)
    monkeypatch.setattr(linking, "MOST_ROWS", 2)
    with pytest.raises(ValueError, match=r"min_score=0\.5 leaves more than 8 pairs of rows; raise it"):
        link(np.ones((3, 1), np.float32), np.ones((3, 1), np.float32), 0.5)


def test_without_a_lowest_score_the_smaller_side_is_linked_even_at_negative_cosines():
    left, right = unit([[1, 0], [-1, 0]]), unit([[1, 0.1], [1, -0.1], [1, 0.2]])
    assert len(link(left, right, None).left) == 2
    assert link(left, right, -1.0).left.tolist() == [0]


def test_a_row_stays_without_a_partner_where_the_sum_is_larger_so():
    left, right = unit([[1, 0], [0.6, 0.8]]), unit([[0.6, 0.8]])
    assert link(left, right, 0.5).left.tolist() == [1]


def test_the_sum_counts_and_not_the_nearest_row():
    left, right = unit([[1, 0.3], [1, 0.9]]), unit([[1, 0.4], [1, -0.2]])
    assert cosines_of(left, right).argmax(axis=1).tolist() == [0, 0]
    assert link(left, right, 0.1).right.tolist() == [1, 0]


@pytest.mark.parametrize("min_score", [None, 0.1])
class TestEqualRows:
    def test_are_linked_in_their_order(self, min_score):
        equal = unit([[1, 2], [1, 2], [1, 2]])
        links = link(equal, equal[:2], min_score)
        assert [links.left.tolist(), links.right.tolist()] == [[0, 1], [0, 1]]

    def test_the_first_gets_the_nearest(self, min_score):
        links = link(unit([[0, 1], [1, 0], [1, 0]]), unit([[1, 0.5], [1, 0.1], [0.1, 1]]), min_score)
        assert links.right.tolist() == [2, 1, 0]

    def test_the_last_are_left_over(self, min_score):
        links = link(unit([[1, 0]] * 3), unit([[1, 0.1]]), min_score)
        assert [links.left.tolist(), links.right.tolist()] == [[0], [0]]

    @pytest.mark.parametrize("swap", [False, True])
    def test_the_first_of_two_that_are_equally_near_is_linked(self, min_score, swap):
        one, two = unit([[1, 0]]), unit([[0.6, 0.8], [0.6, -0.8]])
        links = link(*((two, one) if swap else (one, two)), min_score)
        assert [links.left.tolist(), links.right.tolist()] == [[0], [0]]


@pytest.mark.parametrize("min_score", [None, 0.0])
@pytest.mark.parametrize(("n_left", "n_right"), [(0, 0), (0, 3), (3, 0)])
def test_a_side_without_rows_has_no_links(n_left, n_right, min_score):
    assert len(link(np.ones((n_left, 4), np.float32), np.ones((n_right, 4), np.float32), min_score).left) == 0


@pytest.mark.parametrize("min_score", [None, 0.3])
def test_the_links_do_not_depend_on_the_number_of_threads(min_score, monkeypatch):
    numbers = np.random.default_rng(0)
    left, right = unit(numbers.integers(-1, 2, size=(1500, 6))), unit(numbers.integers(-1, 2, size=(700, 6)))
    made = []
    for n_threads in (1, 3):
        monkeypatch.setattr("skembed.similarity.near_pairs.joblib.cpu_count", lambda n=n_threads: n)
        made.append([part.tolist() for part in link(left, right, min_score)])
    assert made[0] == made[1]
