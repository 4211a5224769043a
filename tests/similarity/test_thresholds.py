"""choose_threshold: the smallest threshold that is precise enough, and an interval that holds after choosing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

from skembed import NearDuplicates, choose_threshold
from skembed.similarity import judging, thresholds
from skembed.similarity.thresholds import Threshold, judge_thresholds

SCORES = [0.99, 0.97, 0.95, 0.93, 0.91, 0.89]
ANSWERS = [True, True, False, True, True, False]


@st.composite
def judged(draw) -> tuple[list[float], list[bool], list[float]]:
    n = draw(st.integers(1, 30))
    scores = st.lists(st.integers(50, 100).map(lambda cent: cent / 100), min_size=n, max_size=n)
    weights = st.lists(st.sampled_from([1.0, 2.5, 40.0]), min_size=n, max_size=n)
    return draw(scores), draw(st.lists(st.booleans(), min_size=n, max_size=n)), draw(weights)


# The choice


@settings(deadline=None)
@given(judged(), st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]))
def test_it_is_the_smallest_score_from_which_up_the_pairs_are_precise_enough(pairs, precision):
    scores, answers, weights = map(np.array, pairs)
    shares = {score: np.average(answers[scores >= score], weights=weights[scores >= score]) for score in scores}
    enough = [score for score, share in shares.items() if share >= precision - 1e-9]
    if not enough:
        with pytest.raises(ValueError, match="No threshold reaches a precision of"):
            choose_threshold(scores, answers, precision=precision, weights=weights)
        return
    chosen = choose_threshold(scores, answers, precision=precision, weights=weights)
    assert chosen.threshold == min(enough)
    assert chosen.precision == pytest.approx(shares[min(enough)])
    assert 0 <= chosen.low <= chosen.precision <= chosen.high <= 1
    kept = scores >= chosen.threshold
    assert chosen.recall == pytest.approx((weights * answers)[kept].sum() / (weights * answers).sum())


def test_the_result_is_a_named_tuple_of_floats():
    chosen = choose_threshold(SCORES, ANSWERS, precision=0.8)
    assert chosen._fields == ("threshold", "precision", "low", "high", "recall")
    assert chosen[:2] == (0.91, 0.8)
    assert chosen.recall == 1
    assert {type(number) for number in chosen} == {float}


def test_pairs_of_one_score_are_kept_or_dropped_together():
    assert choose_threshold([0.9, 0.9, 0.8], [True, False, True], precision=0.6).threshold == 0.8
    with pytest.raises(ValueError, match=r"the best is 0\.667, at 0\.8\."):
        choose_threshold([0.9, 0.9, 0.8], [True, False, True], precision=0.7)


def test_the_order_of_the_pairs_changes_nothing():
    order = np.random.default_rng(0).permutation(6)
    shuffled = choose_threshold(np.array(SCORES)[order], np.array(ANSWERS)[order], precision=0.8)
    assert shuffled == choose_threshold(SCORES, ANSWERS, precision=0.8)


def test_only_the_ratios_of_weights_matter():
    weights = np.array([1, 1, 2, 5, 5, 9])
    assert choose_threshold(SCORES, ANSWERS, precision=0.8, weights=weights * 7) == pytest.approx(
        choose_threshold(SCORES, ANSWERS, precision=0.8, weights=weights)
    )


@pytest.mark.parametrize("n", [1, 7, 60])
def test_if_all_pairs_are_matches_the_lowest_score_is_chosen(n):
    chosen = choose_threshold(np.linspace(0.8, 1, n), [1] * n)
    assert (chosen.threshold, chosen.precision, chosen.high, chosen.recall) == (np.linspace(0.8, 1, n)[0], 1, 1, 1)


def test_if_no_pair_is_a_match_there_is_no_threshold():
    with pytest.raises(ValueError, match=r"^No threshold reaches a precision of 0\.95: the best is 0, at"):
        choose_threshold(SCORES, [False] * 6)


def test_rounding_does_not_hide_a_precision_that_is_reached():
    answers, weights = [1] * 19 + [0], [0.1] * 20
    assert choose_threshold(np.linspace(1, 0.8, 20), answers, weights=weights).threshold == 0.8


def test_near_duplicates_at_the_threshold_count_the_pair_on_which_it_stands(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    pairs = NearDuplicates(threshold=0.9).fit(vectors).pairs(1000)
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    read = pd.read_csv(tmp_path / "pairs.csv")
    at = choose_threshold(read["score"], [True] * len(read), weights=read["weight"]).threshold
    found = NearDuplicates(threshold=at).fit(vectors).pairs(1000, lowest=at)
    assert len(found) == len(pairs)


# The interval


def test_it_is_wilsons_with_the_heaviest_pair_turned_round():
    answers = [True] * 17 + [False] * 3
    made = judge_thresholds([0.9] * 20, answers).iloc[0]
    confidence = 1 - 2 * norm.sf(student_t.isf(0.01, 20))
    assert made["low"] == pytest.approx(binomtest(16, 20).proportion_ci(confidence, method="wilson").low)
    assert made["high"] == pytest.approx(binomtest(18, 20).proportion_ci(confidence, method="wilson").high)


def test_weights_make_it_wider_as_kish_says():
    made = judge_thresholds([0.9] * 12, [True] * 12, [5] * 2 + [1] * 10).iloc[0]
    expected = thresholds._interval(np.array([1.0]), np.array([20**2 / 60]), np.array([5 / 20]))
    assert (made["low"], made["high"]) == pytest.approx(tuple(end[0] for end in expected))
    assert made["low"] < judge_thresholds([0.9] * 12, [True] * 12).iloc[0]["low"]


@pytest.mark.parametrize(("n", "lowest"), [(1, 0), (20, 0.68), (60, 0.88), (400, 0.98)])
def test_the_more_pairs_are_judged_the_narrower_it_is(n, lowest):
    low = choose_threshold(np.linspace(0.9, 1, n), [True] * n).low
    assert lowest <= low <= lowest + 0.03


# Coverage: how often the interval holds the true precision of all pairs, over draws of the pairs to judge


SHAPES = {  # scores from 0.8 to 1 of n pairs; with 0 for the lowest score and 1 for the highest
    "even": lambda numbers, n: numbers.random(n),
    "few high": lambda numbers, n: -np.log(1 - numbers.random(n) * (1 - np.exp(-5))) / 5,
    "very few high": lambda numbers, n: -np.log(1 - numbers.random(n) * (1 - np.exp(-12))) / 12,
    "two humps": lambda numbers, n: np.where(
        numbers.random(n) < 0.05, 1 - 0.15 * numbers.random(n), 0.5 * numbers.random(n) ** 2
    ),
    "ties": lambda numbers, n: np.round(numbers.random(n), 1),
}
CHANCES = {  # of a match, by score from 0 to 1
    "nearly never": lambda x: np.full_like(x, 0.05),
    "half": lambda x: np.full_like(x, 0.5),
    "always a little too few": lambda x: np.full_like(x, 0.93),
    "always just right": lambda x: np.full_like(x, 0.95),
    "always a little more": lambda x: np.full_like(x, 0.97),
    "nearly always": lambda x: np.full_like(x, 0.995),
    "always": lambda x: np.ones_like(x),
    "rising": lambda x: x,
    "rising slowly": lambda x: 0.8 + 0.2 * x,
    "rising at the middle": lambda x: 1 / (1 + np.exp(-12 * (x - 0.5))),
    "rising late": lambda x: 1 / (1 + np.exp(-12 * (x - 0.85))),
    "rising at once": lambda x: np.where(x > 0.4, 0.98, 0.3),
    "rising to too few": lambda x: 0.93 / (1 + np.exp(-12 * (x - 0.4))),
    "falling": lambda x: 1 - 0.5 * x,
}
FAST = [
    ("few high", "rising at the middle", 60, 0.95, 20_000),
    ("very few high", "rising slowly", 60, 0.9, 20_000),
    ("even", "always just right", 30, 0.95, 20_000),
    ("two humps", "always a little too few", 60, 0.95, 3_000),
    ("ties", "rising to too few", 200, 0.9, 3_000),
    ("few high", "always", 30, 0.95, 300),
    ("few high", "half", 60, 0.8, 3_000),
    ("even", "nearly never", 30, 0.5, 20_000),
    ("even", "falling", 200, 0.8, 20_000),
]
GRID = [
    (shape, chance, n, precision, n_pairs)
    for shape in SHAPES
    for chance in CHANCES
    for n in (30, 60, 200)
    for precision in (0.8, 0.95)
    for n_pairs in (300, 20_000)
]


def coverage(shape, chance, n, precision, n_pairs, monkeypatch, n_draws=2000) -> tuple[float, int]:
    """Return the share of draws whose interval holds the true precision, and the number of those with a threshold."""
    numbers = np.random.default_rng(0)
    x = SHAPES[shape](numbers, n_pairs)
    scores, is_match = (0.8 + 0.2 * x).astype(np.float32), numbers.random(n_pairs) < CHANCES[chance](x)
    rows = np.arange(n_pairs, dtype=np.int32)
    monkeypatch.setattr(judging, "_scored_pairs", lambda *_: iter([(np.stack([rows, rows + 1], axis=1), scores)]))
    order = np.argsort(-scores, kind="stable")
    falling, matched = -scores[order].astype(np.float64), is_match[order].cumsum()
    held = []
    for seed in range(n_draws):
        sample = judging.sample_pairs(None, 0.8, n, seed)
        try:
            answers = is_match[sample.position]
            chosen = choose_threshold(sample.score, answers, precision=precision, weights=sample.weight)
        except ValueError:
            continue
        n_above = np.searchsorted(falling, -chosen.threshold, side="right")
        held.append(chosen.low - 1e-9 <= matched[n_above - 1] / n_above <= chosen.high + 1e-9)
    return float(np.mean(held)) if held else 1.0, len(held)


@pytest.mark.slow
@pytest.mark.parametrize("case", FAST, ids=lambda case: "-".join(map(str, case)))
def test_the_interval_holds_the_true_precision_in_93_of_100_draws(case, monkeypatch, record_property):
    share, n_counted = coverage(*case, monkeypatch)
    record_property("draws with a threshold", n_counted)
    record_property("share of intervals that hold", share)
    assert share >= 0.93


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", GRID, ids=lambda case: "-".join(map(str, case)))
def test_the_interval_holds_the_true_precision_in_every_case(case, monkeypatch, record_property):
    share, n_counted = coverage(*case, monkeypatch)
    record_property("draws with a threshold", n_counted)
    record_property("share of intervals that hold", share)
    assert share >= 0.93 or n_counted < 40  # of a few draws, nothing can be told


# Input


@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, pd.Series, pl.Series, lambda rows: pd.Series(rows, index=list("abcdef"))],
    ids=["list", "tuple", "array", "Series", "polars", "Series with labels"],
)
@pytest.mark.parametrize("answers", [ANSWERS, [1, 1, 0, 1, 1, 0], [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]])
def test_every_column_of_answers_is_read(kind, answers):
    chosen = choose_threshold(kind(SCORES), kind(answers), precision=0.8, weights=kind([2] * 6))
    assert chosen == choose_threshold(SCORES, ANSWERS, precision=0.8)


@pytest.mark.parametrize("dtype", ["boolean", "Int64", "Float64", "object", "bool[pyarrow]"])
def test_nullable_answers_are_read(dtype):
    assert choose_threshold(SCORES, pd.Series(ANSWERS).astype(dtype), precision=0.8).threshold == 0.91


LABELLED = {"index": [10, 11, 12, 13, 14, 15]}


@pytest.mark.parametrize(
    ("scores", "answers", "weights", "error", "message"),
    [
        (
            pd.Series([0.9] * 5 + [np.nan], **LABELLED),
            ANSWERS,
            None,
            ValueError,
            r"^scores\[5\] \(index label 15\) is nan",
        ),
        ([0.9] * 5 + [np.inf], ANSWERS, None, ValueError, r"^scores\[5\] is inf; it must be a finite number"),
        (["0.9"] * 6, ANSWERS, None, TypeError, r"^scores must be numbers; got str"),
        (None, ANSWERS, None, TypeError, r"^scores must be numbers; got None"),
        ([], [], None, ValueError, r"^scores is empty"),
        (SCORES, ANSWERS[:5], None, ValueError, r"^is_match must have the length 6; got 5\.$"),
        (SCORES, ANSWERS, [1] * 7, ValueError, r"^weights must have the length 6; got 7\.$"),
        (SCORES, None, None, TypeError, r"^is_match must be a column of True and False; got None\.$"),
        (
            SCORES,
            pd.Series(["yes", "no"] * 3, **LABELLED),
            None,
            ValueError,
            r"^is_match\[0\] \(index label 10\) is 'yes'; answers must be True or False, or 1 or 0\. Convert.*map\(",
        ),
        (SCORES, [1, 0, 2, 1, 1, 1], None, ValueError, r"^is_match\[2\] is 2; answers must be"),
        (SCORES, [1, 0, 0.5, 1, 1, 1], None, ValueError, r"^is_match\[2\] is 0\.5; answers must be"),
        (
            SCORES,
            pd.Series([True, None, True, True, True, False], dtype=object, **LABELLED),
            None,
            ValueError,
            r"^is_match\[1\] \(index label 11\) is missing; judge every pair",
        ),
        (SCORES, [1, np.nan, 1, 1, 1, 1], None, ValueError, r"^is_match\[1\] is missing"),
        (SCORES, ANSWERS, [1, 1, 0, 1, 1, 1], ValueError, r"^weights\[2\] is 0; weights must be positive\.$"),
        (SCORES, ANSWERS, [1, 1, -2, 1, 1, 1], ValueError, r"^weights\[2\] is -2; weights must be positive\.$"),
        (SCORES, ANSWERS, [1, 1, np.nan, 1, 1, 1], ValueError, r"^weights\[2\] is nan"),
        (SCORES, ANSWERS, [1, 1, np.inf, 1, 1, 1], ValueError, r"^weights\[2\] is inf"),
    ],
)
def test_what_cannot_be_read_is_one_error_that_says_where(scores, answers, weights, error, message):
    with pytest.raises(error, match=message):
        choose_threshold(scores, answers, weights=weights)


@pytest.mark.parametrize("precision", [0, -0.1, 1.01, 95, np.nan, "0.9", True, None])
def test_a_precision_is_a_share(precision):
    with pytest.raises(ValueError, match=r"^precision must be a share, above 0 and at most 1; got"):
        choose_threshold(SCORES, ANSWERS, precision=precision)


def test_a_threshold_can_be_pickled():
    import pickle

    chosen = choose_threshold(SCORES, ANSWERS, precision=0.8)
    assert pickle.loads(pickle.dumps(chosen)) == chosen
    assert isinstance(chosen, Threshold)


def test_columns_with_other_index_labels_are_refused():
    answers = pd.Series([False, True, True], index=[2, 1, 0])
    with pytest.raises(ValueError, match="is_match has other index labels than scores; pass columns of one frame"):
        choose_threshold(pd.Series([0.9, 0.8, 0.7]), answers)


def test_numbers_in_a_column_of_objects_are_numbers():
    assert choose_threshold(pd.Series([0.9, 0.8], dtype=object), [True, True]).threshold == 0.8
