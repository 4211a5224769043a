"""Pairs to judge: a sample by bands of score whose weights are right, and the scores at which groups are joined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.csgraph import connected_components
from sklearn.exceptions import NotFittedError

from skembed import NearDuplicates, SentenceEmbeddingTransformer
from skembed.similarity import judging
from skembed.similarity.judging import joining_scores, sample_pairs


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(60, 4)))


def unit(vectors) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def all_pairs(vectors, lowest) -> dict[tuple[int, int], float]:
    """Return the cosine of each near pair, from the whole matrix."""
    cosines = vectors.astype(np.float64) @ vectors.T
    first, second = np.nonzero(np.triu(cosines >= lowest, 1))
    return dict(zip(zip(first.tolist(), second.tolist(), strict=True), cosines[first, second], strict=True))


def given_pairs(monkeypatch, pairs, scores, n_parts=1) -> None:
    """As if these were the near pairs of the vectors."""
    parts = [(pairs[part::n_parts], scores[part::n_parts]) for part in range(n_parts)]
    monkeypatch.setattr(judging, "_scored_pairs", lambda *_: iter(parts))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 80), st.sampled_from([-1.0, 0.3, 0.7, 0.95, 1.0]))
def test_the_weights_add_up_to_the_number_of_near_pairs(seed, n_vectors, n, lowest):
    vectors = unit(np.random.default_rng(seed).normal(size=(n_vectors, 3)))
    expected = all_pairs(vectors, lowest - 1e-6)
    sample = sample_pairs(vectors, lowest, n, seed)
    assert len(sample.score) == min(n, len(expected))
    assert sample.weight.sum() == pytest.approx(len(expected))
    assert (sample.weight >= 1).all()
    drawn = list(zip(sample.position.tolist(), sample.other.tolist(), strict=True))
    assert len(set(drawn)) == len(drawn)
    assert_allclose(sample.score, [expected[pair] for pair in drawn], atol=1e-6)


def test_if_all_pairs_are_drawn_each_stands_for_itself(vectors):
    assert set(sample_pairs(vectors, 0.5, 10_000, 0).weight) == {1}


def test_each_band_gives_as_many_pairs_and_a_small_one_all_it_has(monkeypatch):
    scores = np.float32([0.95] * 2 + [0.75] * 50 + [0.55] * 1000)
    given_pairs(monkeypatch, np.arange(2 * len(scores), dtype=np.int32).reshape(-1, 2), scores)
    sample = sample_pairs(None, 0.5, n=22, seed=0)
    drawn = pd.Series(sample.weight).groupby(sample.score).agg(["size", "sum"])
    assert drawn["size"].tolist() == [10, 10, 2]
    assert drawn["sum"].tolist() == pytest.approx([1000, 50, 2])


def test_the_order_in_which_pairs_are_found_changes_nothing(vectors, monkeypatch):
    expected = sample_pairs(vectors, 0.2, 20, seed=3)
    found = [part for parts in judging._scored_pairs(vectors, 0.2) for part in zip(*parts, strict=True)]
    pairs, scores = (np.array(column) for column in zip(*found, strict=True))
    for seed, n_parts in ((1, 1), (2, 7), (3, 100)):
        order = np.random.default_rng(seed).permutation(len(scores))
        given_pairs(monkeypatch, pairs[order], scores[order], n_parts)
        for made, there in zip(sample_pairs(vectors, 0.2, 20, seed=3), expected, strict=True):
            assert_array_equal(made, there)


def test_the_highest_scores_come_first(vectors):
    assert (np.diff(sample_pairs(vectors, 0.2, 30, 0).score) <= 0).all()


def test_every_pair_of_a_band_is_drawn_equally_often(monkeypatch):
    pairs = np.array([(first, second) for first in range(8) for second in range(first + 1, 8)], dtype=np.int32)
    given_pairs(monkeypatch, pairs, np.full(len(pairs), 0.9, np.float32))
    samples = [sample_pairs(None, 0.8, 4, seed) for seed in range(2000)]
    counts = pd.Series([(a, b) for sample in samples for a, b in zip(sample.position, sample.other, strict=True)])
    assert len(counts.value_counts()) == 28
    expected = 4 / 28 * 2000
    assert (abs(counts.value_counts() - expected) < 4.5 * expected**0.5).all()


def test_memory_does_not_grow_with_the_number_of_pairs(monkeypatch):
    kept = []
    original = judging._keep_smallest

    def keep(*args):
        made = original(*args)
        kept.append(len(made[2]))
        return made

    monkeypatch.setattr(judging, "_keep_smallest", keep)
    pairs = np.arange(200_000, dtype=np.int32).reshape(-1, 2)
    given_pairs(monkeypatch, pairs, np.linspace(0.5, 1, len(pairs), dtype=np.float32), n_parts=50)
    assert len(sample_pairs(None, 0.5, 12, seed=0).score) == 12
    assert max(kept) == 12


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(-1, 1))
def test_at_each_threshold_as_many_scores_join_groups_as_groups_are_missing(seed, n_vectors, threshold):
    vectors = unit(np.random.default_rng(seed).normal(size=(n_vectors, 3)))
    joins = joining_scores(vectors, -1)
    n_groups, _ = connected_components(vectors.astype(np.float64) @ vectors.T >= threshold, directed=False)
    near = np.count_nonzero(abs(joins - threshold) < 1e-5)  # float32 cannot decide
    assert abs(n_vectors - n_groups - np.count_nonzero(joins >= threshold)) <= near


def test_joining_in_parts_finds_the_same_scores(vectors, monkeypatch):
    whole = joining_scores(vectors, 0)
    monkeypatch.setattr(judging, "_MAX_EDGES", 0)
    pairs, scores = (np.concatenate(part) for part in zip(*judging._scored_pairs(vectors, 0), strict=True))
    given_pairs(monkeypatch, pairs, scores, n_parts=30)
    assert_allclose(joining_scores(vectors, 0), whole)


class TestPairsOfNearDuplicates:
    TEXTS = ("a fox", "the dog", "a fox", None, "a quick fox", "the dog jumps", "a quick brown fox")

    @pytest.fixture
    def made(self, tiny) -> NearDuplicates:
        return NearDuplicates(SentenceEmbeddingTransformer(tiny, missing="nan"), threshold=0.9).fit(self.TEXTS)

    def test_the_columns_name_rows_and_texts(self, made):
        pairs = made.pairs(lowest=-1)
        assert list(pairs) == ["position", "other", "score", "weight", "text", "other_text"]
        assert pairs["text"].tolist() == [self.TEXTS[position] for position in pairs["position"]]
        assert pairs["other_text"].tolist() == [self.TEXTS[position] for position in pairs["other"]]
        assert (pairs["position"] < pairs["other"]).all()
        cosines = made._vectors @ made._vectors.T
        assert_allclose(pairs["score"], cosines[pairs["position"], pairs["other"]], atol=1e-6)

    def test_copies_count_once_and_are_in_no_pair_with_each_other(self, made):
        pairs = made.pairs(1000, lowest=-1)
        assert pairs["weight"].sum() == len(pairs) == 5 * 4 / 2  # of five distinct texts
        assert not {2, 3} & {*pairs["position"], *pairs["other"]}  # the second copy, and the missing text

    def test_the_lowest_score_is_a_tenth_below_the_threshold(self, vectors):
        made = NearDuplicates(threshold=0.8).fit(vectors)
        expected = all_pairs(vectors, 0.7 - 1e-6)
        assert made.pairs()["weight"].sum() == pytest.approx(len(expected))
        assert made.pairs(10_000)["score"].min() == pytest.approx(min(expected.values()))

    def test_the_seed_decides_which_pairs(self, vectors):
        made = NearDuplicates(threshold=0.5).fit(vectors)
        pd.testing.assert_frame_equal(made.pairs(), made.pairs(random_state=0))
        pd.testing.assert_frame_equal(made.pairs(random_state=np.random.RandomState(0)), made.pairs())
        assert not made.pairs(random_state=1).equals(made.pairs())
        assert not made.pairs(random_state=None).equals(made.pairs(random_state=None))

    def test_without_texts_there_are_none(self, vectors):
        assert NearDuplicates().fit(vectors).pairs()["text"].isna().all()

    @pytest.mark.parametrize("rows", [[[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0], None]])
    def test_without_near_pairs_the_table_is_empty(self, rows):
        pairs = NearDuplicates().fit(rows).pairs()
        assert pairs.empty
        assert pairs.dtypes.drop(["text", "other_text"]).map(lambda dtype: dtype.kind).tolist() == list("iiff")

    def test_before_fit_there_are_no_pairs(self):
        with pytest.raises(NotFittedError):
            NearDuplicates().pairs()

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"n": 0}, r"^n must be a positive integer; got 0"),
            ({"n": 2.5}, r"^n must be a positive integer; got 2\.5"),
            ({"lowest": 1.2}, r"^lowest must be a cosine, from -1 to 1; got 1\.2"),
            ({"lowest": "0.8"}, r"^lowest must be a cosine, from -1 to 1; got '0\.8'"),
            ({"random_state": "a"}, "cannot be used to seed"),
        ],
    )
    def test_a_wrong_parameter_is_an_error(self, parameters, message):
        with pytest.raises(ValueError, match=message):
            NearDuplicates().fit([[1.0, 0.0], [0.0, 1.0]]).pairs(**parameters)
