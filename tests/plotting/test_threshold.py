"""ThresholdDisplay: precision, its interval and recall by threshold, and the rows that each would drop."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skembed import NearDuplicates, ThresholdDisplay, choose_threshold
from skembed.similarity.thresholds import judge_thresholds
from tests.plotting.drawn import notes_of, written

SCORES = [0.99, 0.97, 0.95, 0.93, 0.91, 0.89]
ANSWERS = [True, True, True, True, False, False]


@pytest.fixture
def duplicates() -> NearDuplicates:
    """Fitted to 50 vectors, ten of which are copies, and a missing one."""
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    return NearDuplicates(threshold=0.9).fit(np.vstack([vectors, vectors[:10], [[np.nan] * 3]]))


@pytest.fixture
def judged(duplicates) -> pd.DataFrame:
    pairs = duplicates.pairs(30)
    return pairs.assign(is_match=pairs["score"] > 0.93)


def lines_of(display) -> dict:
    return {line.get_label(): line for line in display.ax_.get_lines()}


def title_of(display) -> str:
    return display.ax_.get_title(loc="left")


def test_the_curves_are_those_of_the_table():
    display = ThresholdDisplay.from_predictions(SCORES, ANSWERS, weights=[1, 1, 1, 1, 2, 3])
    table = judge_thresholds(SCORES, ANSWERS, [1, 1, 1, 1, 2, 3])
    pd.testing.assert_frame_equal(display.table, table)
    for name in ("precision", "recall"):
        line = lines_of(display)[name]
        assert_allclose(line.get_xdata(), table["threshold"])
        assert_allclose(line.get_ydata(), table[name])
        assert line.get_drawstyle() == "steps-pre"  # what a threshold between two scores keeps


def test_the_band_is_the_interval():
    display = ThresholdDisplay.from_predictions(SCORES, ANSWERS)
    heights = display.ax_.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(display.table["low"].min())
    assert heights.max() == pytest.approx(display.table["high"].max())


def test_what_choose_threshold_chooses_is_marked_and_in_the_title():
    display = ThresholdDisplay.from_predictions(SCORES, ANSWERS, precision=0.8)
    assert display.chosen == choose_threshold(SCORES, ANSWERS, precision=0.8)
    low, high = display.chosen.low, display.chosen.high
    assert title_of(display) == f"Threshold 0.910: precision 0.80 ({low:.2f} to {high:.2f})"
    assert any(set(line.get_xdata()) == {0.91} for line in display.ax_.get_lines())
    assert notes_of(display) == ["Keeps 100 % of the matches among the judged pairs."]


def test_if_no_threshold_is_precise_enough_the_title_says_so():
    display = ThresholdDisplay.from_predictions(SCORES, [False, *ANSWERS[1:]])
    assert display.chosen is None
    assert title_of(display) == "No threshold reaches 0.95"
    assert notes_of(display) == ["The best is 0.75."]


@pytest.mark.parametrize("answers", [[True], [False]])
def test_a_single_pair_is_drawn(answers):
    assert len(ThresholdDisplay.from_predictions([0.9], answers).table) == 1


def test_a_legend_names_the_curves():
    legend = ThresholdDisplay.from_predictions(SCORES, ANSWERS).ax_.get_legend()
    names = {"precision", "95 % interval", "recall", "precision wanted"}
    assert {written(text) for text in legend.get_texts()} == names


@pytest.mark.parametrize("grouping", ["connected", "star"])
def test_rows_dropped_are_those_of_near_duplicates_at_each_threshold(grouping, duplicates, judged):
    duplicates = clone(duplicates).set_params(grouping=grouping).fit(duplicates._vectors)
    table = ThresholdDisplay.from_estimator(duplicates, judged).table
    for at, dropped in zip(table["threshold"], table["dropped"], strict=True):
        assert len(NearDuplicates(threshold=at, grouping=grouping).fit(duplicates._vectors).duplicates_) == dropped


def test_rows_dropped_are_drawn_below(duplicates, judged):
    display = ThresholdDisplay.from_estimator(duplicates, judged)
    assert display.dropped_ax_.get_ylabel() == "rows dropped"
    assert display.dropped_ax_.get_xlim() == display.ax_.get_xlim()
    heights = display.dropped_ax_.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == display.table["dropped"].max()
    n_dropped = int(display.table.set_index("threshold")["dropped"][display.chosen.threshold])
    assert notes_of(display)[0].replace("\n", " ").endswith(f"and drops {n_dropped} rows.")


def test_without_rows_dropped_there_is_one_panel():
    display = ThresholdDisplay.from_predictions(SCORES, ANSWERS)
    assert display.dropped_ax_ is None
    assert display.ax_.get_xlabel() == "threshold"
    assert display.figure_.axes == [display.ax_]


def test_it_draws_on_given_axes(plt, duplicates, judged):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 7), layout="constrained")
    one = ThresholdDisplay.from_predictions(SCORES, ANSWERS, ax=left)
    two = ThresholdDisplay.from_estimator(duplicates, judged, ax=right)
    assert (one.ax_, one.figure_, two.figure_) == (left, figure, figure)
    figure.canvas.draw()
    assert two.ax_.get_window_extent().x0 > left.get_window_extent().x1
    assert not right.axison


@pytest.mark.parametrize("size", [(4, 3.5), (8, 6), (14, 9)])
def test_title_note_and_legend_are_above_each_other_at_any_size(plt, size):
    ax = plt.subplots(figsize=size, layout="constrained")[1]
    display = ThresholdDisplay.from_predictions(SCORES, ANSWERS, ax=ax)
    display.figure_.canvas.draw()
    parts = [ax, ax.get_legend(), ax.texts[0], ax._left_title]
    boxes = [part.get_window_extent() for part in parts]
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(boxes))
    assert boxes[-1].y1 <= display.figure_.bbox.y1


def test_an_estimator_that_is_not_fitted_is_an_error(judged):
    with pytest.raises(NotFittedError):
        ThresholdDisplay.from_estimator(NearDuplicates(), judged)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda made, judged: ThresholdDisplay.from_estimator("model", judged),
            TypeError,
            "must be a NearDuplicates, not",
        ),
        (
            lambda made, judged: ThresholdDisplay.from_estimator(made, judged.drop(columns=["is_match"])),
            ValueError,
            r"judged must have the columns score, is_match and weight; \['is_match'\] missing",
        ),
        (
            lambda made, judged: ThresholdDisplay.from_estimator(made, judged.assign(is_match="yes")),
            ValueError,
            r"is_match\[0\] \(index label 0\) is 'yes'",
        ),
        (
            lambda made, judged: ThresholdDisplay(judged),
            ValueError,
            "table must be a frame with rows, and with the columns",
        ),
        (
            lambda made, judged: ThresholdDisplay.from_predictions(SCORES, ANSWERS, precision=95),
            ValueError,
            "precision must be a share",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_error(make, error, message, duplicates, judged):
    with pytest.raises(error, match=message):
        make(duplicates, judged)


def test_without_matplotlib_the_error_says_what_to_install(without):
    without("matplotlib")
    with pytest.raises(ImportError, match=r"^ThresholdDisplay needs matplotlib: pip install 'skembed\[plot\]'\.$"):
        ThresholdDisplay.from_predictions(SCORES, ANSWERS)
