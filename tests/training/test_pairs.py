"""Pairs of texts with labels: who is drawn with whom, how often, and how far the two are alike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skembed.training.pairs import Partners, draw_pairs


def draw(texts, labels, n_pairs, seed=0):
    return draw_pairs(texts, np.asarray(labels), n_pairs, np.random.default_rng(seed))


def numbered(n):
    return [str(number) for number in range(n)]


labelled = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3)), min_size=2, max_size=20)
indicators = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=2, max_size=20)
)


class TestClasses:
    @settings(deadline=None)
    @given(labelled, st.integers(1, 9), st.integers(0, 99))
    def test_a_pair_has_two_texts_and_a_label_for_whether_they_share_a_class(self, rows, n_pairs, seed):
        left, right, same = draw([text for text, _ in rows], [label for _, label in rows], n_pairs, seed)
        classes_of = {text: {label for other, label in rows if other == text} for text, _ in rows}
        assert len(left) == len(right) == len(same)
        assert same.dtype == np.int64
        for one, other, is_same in zip(left, right, same, strict=True):
            assert one != other
            together = classes_of[one] & classes_of[other]
            assert together if is_same else len(classes_of[one] | classes_of[other]) > 1

    @settings(deadline=None)
    @given(st.integers(2, 6), st.integers(1, 30))
    def test_half_of_the_pairs_are_of_one_class_and_each_text_comes_first_equally_often(self, n_texts, n_pairs):
        left, _, same = draw(numbered(2 * n_texts), np.repeat([0, 1], n_texts), n_pairs)
        assert set(Counter(left).values()) == {n_pairs}
        assert same.sum() == 2 * n_texts * (n_pairs // 2)

    def test_no_partner_is_drawn_twice_before_all_others_were_drawn(self):
        left, right, _ = draw(numbered(10), np.repeat([0, 1], 5), 8)
        assert len(set(zip(left, right, strict=True))) == len(left)

    def test_a_text_alone_in_its_class_has_only_pairs_of_two_classes(self):
        left, _, same = draw(["a", "b", "c"], [0, 0, 1], 4)
        assert [int(value) for text, value in zip(left, same, strict=True) if text == "c"] == [0, 0]

    def test_a_repeated_text_counts_once(self):
        left, _, _ = draw(["a", "a", "b", "c"], [0, 0, 0, 1], 2)
        assert left.count("a") == 2

    @pytest.mark.parametrize("sizes", [(500, 3, 2), (60, 1, 1), (40, 20, 10, 2)])
    def test_rare_classes_get_the_same_share_of_the_pairs_across_classes(self, sizes):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        left, right, same = draw(numbered(len(labels)), labels, 2 * 12)
        pairs = Counter((labels[int(one)], labels[int(other)]) for one, other in zip(left, right, strict=True))
        for label, other in pairs:
            if label != other:
                expected = sizes[label] * 12 / (len(sizes) - 1)
                if min(np.delete(sizes, label)) * (len(sizes) - 1) >= 12:  # none is used up
                    assert pairs[label, other] == expected
                assert pairs[label, other] >= sizes[label] * min(sizes[other], 12 // (len(sizes) - 1))
        assert sum(same) == 12 * sum(size for size in sizes if size > 1)

    def test_hundreds_of_classes_of_two_texts_are_half_alike(self):
        labels = np.repeat(np.arange(300), 2)
        left, right, same = draw(numbered(600), labels, 4)
        assert same.mean() == 0.5
        assert_array_equal(labels[np.array(left, dtype=int)] == labels[np.array(right, dtype=int)], same == 1)


class TestSeveralLabels:
    @settings(deadline=None)
    @given(indicators, st.integers(2, 9), st.integers(0, 99))
    def test_two_texts_are_as_alike_as_their_labels_overlap(self, rows, n_pairs, seed):
        left, right, alike = draw(numbered(len(rows)), rows, n_pairs, seed)
        sets = [set(np.flatnonzero(row)) for row in rows]
        for one, other, overlap in zip(left, right, alike, strict=True):
            mine, others = sets[int(one)], sets[int(other)]
            assert one != other
            assert mine or others
            assert_allclose(overlap, len(mine & others) / len(mine | others))

    @settings(deadline=None)
    @given(indicators, st.integers(1, 6), st.integers(0, 99))
    def test_half_of_the_pairs_share_a_label_and_half_share_none_if_there_are_such(self, rows, half, seed):
        left, _, alike = draw(numbered(len(rows)), rows, 2 * half, seed)
        indicator = np.array(rows)
        shares = (indicator @ indicator.T) > 0
        np.fill_diagonal(shares, False)
        is_other = (indicator[:, None] != indicator).any(axis=2) & ~shares
        for row in range(len(rows)):
            mine = [value for one, value in zip(left, alike, strict=True) if one == str(row)]
            if shares[row].any() and is_other[row].any():
                assert np.count_nonzero(mine) == np.count_nonzero(np.equal(mine, 0)) == half

    def test_each_label_of_a_text_gets_its_turn(self):
        # 0 is a common label, which all texts have; 1 to 8 are rare ones, of four texts each
        indicator = np.hstack([np.ones((32, 1), int), np.repeat(np.eye(8, dtype=int), 4, axis=0)])
        left, _, alike = draw(numbered(32), indicator, 6)
        for text in numbered(32):
            mine = [value for one, value in zip(left, alike, strict=True) if one == text]
            assert mine.count(1) >= 1  # by the rare label; those by the common one are nearly all less alike
            assert len(mine) == 6

    def test_one_label_a_row_gives_the_pairs_of_classes(self):
        labels = np.repeat([0, 1, 2], [5, 2, 3])
        of_sets = draw(numbered(10), np.eye(3, dtype=int)[labels], 6)
        of_classes = draw(numbered(10), labels, 6)
        assert Counter(of_sets[2].tolist()) == Counter(of_classes[2].tolist())

    def test_texts_without_labels_are_not_alike(self):
        left, right, alike = draw(["a", "b", "c"], [[0, 0], [0, 0], [1, 1]], 4)
        assert ("a", "b") not in set(zip(left, right, strict=True))
        assert_array_equal(alike, 0)


def test_partners_come_only_from_the_rows_that_may_be_drawn():
    partners = Partners(np.array([0, 0, 0, 1, 1]), np.array([False, True, True, True, False]))
    rng = np.random.default_rng(0)
    assert sorted(partners.draw_alike(0, 2, rng)) == [1, 2]
    assert partners.draw_others(0, 1, rng) == [3]
    assert partners.draw_alike(3, 2, rng) == []
