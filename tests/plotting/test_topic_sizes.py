"""TopicSizesDisplay: bars of all texts, panels of periods, values and groups, and what is said of the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline

from skembed import TopicSizesDisplay
from tests.plotting.drawn import TEXTS, notes_of, ticks_of, written

MONTHS = pd.period_range("2025-11", periods=4, freq="M")
BY_MONTH = pd.DataFrame({0: [5, 0, 3, 2], 1: [1, 4, 4, 4]}, index=MONTHS)
NAMES = ["refund", "parcel"]


def heights_of(panel) -> list[list[float]]:
    """The heights of the bars of each group."""
    return [[bar.get_height() for bar in bars] for bars in panel.containers]


def titles_of(display) -> list[str]:
    return [written(panel._left_title).replace("\n", " ") for panel in display.axes_]


def part_of(display):
    """The part of the figure that the panels are in."""
    return display.axes_[0].figure


def table_of(n_topics: int, index=MONTHS) -> pd.DataFrame:
    return pd.DataFrame(np.ones((len(index), n_topics), int), index=index)


class TestSizesOfAllTexts:
    def test_the_largest_topic_is_on_top_with_its_name_number_and_share(self):
        display = TopicSizesDisplay(pd.Series([30, 1_200, 4]), names=["refund", "parcel", "login"]).plot()
        assert ticks_of(display.ax_.yaxis) == ["parcel", "refund", "login"]
        assert notes_of(display) == ["1,200 (97 %)", "30 (2 %)", "4 (< 1 %)"]
        assert [bar.get_width() for bar in display.ax_.patches] == [1_200, 30, 4]
        bottom, top = display.ax_.get_ylim()
        assert bottom > top
        assert display.ax_.get_title(loc="left") == "1,234 texts, 3 topics"
        assert display.axes_.tolist() == [display.ax_]

    def test_all_numbers_are_within_the_axes(self):
        display = TopicSizesDisplay({0: 123_456, 1: 99}).plot()
        display.figure_.canvas.draw()
        box = display.ax_.get_window_extent()
        assert all(note.get_window_extent().x1 < box.x1 for note in display.ax_.texts)

    def test_of_many_topics_the_largest_are_drawn_and_a_line_says_how_many_are_not(self):
        display = TopicSizesDisplay(pd.Series(range(1, 201))).plot()
        assert ticks_of(display.ax_.yaxis)[::29] == ["topic 199", "topic 170"]
        assert len(display.ax_.patches) == 30
        assert display.ax_.get_xlabel() == "Not drawn: 170 smaller topics with 14,535 texts."

    def test_rows_without_a_topic_do_not_count(self):
        display = TopicSizesDisplay(pd.Series([70, 3], index=[-1, 5])).plot()
        assert ticks_of(display.ax_.yaxis) == ["topic 5"]
        assert display.ax_.get_title(loc="left") == "3 texts, 1 topic"

    @pytest.mark.parametrize("sizes", [pd.Series([0, 0]), pd.Series([5])])
    def test_empty_topics_and_a_single_one_are_drawn(self, sizes):
        assert len(TopicSizesDisplay(sizes).plot().ax_.patches) == len(sizes)

    def test_long_names_are_wrapped_and_dollars_are_no_formula(self):
        display = TopicSizesDisplay({0: 3}, names=["$5, " + "a name of many words " * 5]).plot()
        assert ticks_of(display.ax_.yaxis) == [
            "$5, a name of many words a name of many\nwords a name of many words a name of…"
        ]

    def test_it_draws_on_given_axes(self, plt):
        figure, (left, right) = plt.subplots(1, 2)
        display = TopicSizesDisplay({0: 3})
        assert display.plot(ax=right) is display
        assert (display.ax_, display.figure_) == (right, figure)
        assert not left.has_data()


class TestSizesOfPeriods:
    def test_each_topic_has_a_panel_the_largest_first(self):
        display = TopicSizesDisplay(BY_MONTH, names=NAMES).plot()
        assert titles_of(display) == ["parcel", "refund"]
        assert [heights_of(panel) for panel in display.axes_] == [[[1, 4, 4, 4]], [[5, 0, 3, 2]]]
        assert part_of(display).get_suptitle() == "23 texts, 2 topics, by month"
        assert part_of(display).get_supxlabel() == "Bars: texts of each month. "
        assert part_of(display).legends == []

    def test_panels_share_their_axes(self):
        display = TopicSizesDisplay(table_of(5)).plot()
        assert len({(panel.get_xlim(), panel.get_ylim()) for panel in display.axes_}) == 1

    def test_shares_are_of_the_texts_of_the_period(self):
        display = TopicSizesDisplay(BY_MONTH, names=NAMES).plot(normalize=True)
        assert_allclose(heights_of(display.axes_[0]), [[1 / 6, 1, 4 / 7, 4 / 6]])
        assert part_of(display).get_supxlabel() == "Bars: share of the texts of each month. "
        assert ticks_of(display.axes_[0].yaxis)[:2] == ["0 %", "20 %"]

    def test_a_period_without_texts_has_no_share(self):
        display = TopicSizesDisplay(BY_MONTH * np.array([[0], [1], [1], [1]])).plot(normalize=True)
        assert heights_of(display.axes_[0])[0][0] == 0

    def test_a_period_that_is_not_there_leaves_a_gap(self):
        display = TopicSizesDisplay(BY_MONTH.iloc[[0, 1, 3]]).plot()
        middles = [bar.get_x() + bar.get_width() / 2 for bar in display.axes_[0].patches]
        assert_allclose(np.diff(middles), [1, 2])

    def test_of_many_topics_the_largest_have_a_panel_and_a_line_says_how_many_have_none(self):
        display = TopicSizesDisplay(table_of(30)).plot()
        assert titles_of(display) == [f"topic {number}" for number in range(12)]
        assert part_of(display).get_supxlabel().endswith("Not drawn: 18 smaller topics with 72 texts.")

    @pytest.mark.parametrize(
        ("freq", "n_periods", "ticks", "by"),
        [
            ("h", 30, ["2025-01-01 00:00", "2025-01-01 08:00", "2025-01-01 16:00", "2025-01-02 00:00"], "hour"),
            ("D", 5, ["2025-01-02", "2025-01-04"], "day"),
            ("W", 8, ["2025-01-06", "2025-01-20", "2025-02-03", "2025-02-17"], "week"),
            ("M", 24, ["2025-01", "2025-07", "2026-01", "2026-07"], "month"),
            ("M", 36, ["2025-01", "2026-01", "2027-01"], "month"),
            ("Q", 12, ["2025Q1", "2026Q1", "2027Q1"], "quarter"),
            ("Y", 3, ["2025", "2026", "2027"], "year"),
            ("2M", 3, ["2025-01", "2025-03", "2025-05"], "period"),
            ("Y", 1, ["2025"], "year"),
        ],
    )
    def test_a_few_periods_are_named_so_that_years_and_days_begin_with_one(self, freq, n_periods, ticks, by):
        index = pd.period_range("2025-01-01", periods=n_periods, freq=freq)
        display = TopicSizesDisplay(table_of(1, index)).plot()
        assert ticks_of(display.axes_[0].xaxis) == ticks
        assert part_of(display).get_suptitle().endswith(f", by {by}")

    @pytest.mark.parametrize(
        ("index", "ticks", "by"),
        [
            (pd.Index([1, 2, 5], name="stars"), ["1", "2", "5"], "stars"),
            (pd.Index(["$5", "$10"]), ["$5", "$10"], "value"),
            (pd.Index(range(1, 26), name="n"), ["1", "5", "9", "13", "17", "21", "25"], "n"),
            (pd.CategoricalIndex(["low", "high"], categories=["low", "high"], name="level"), ["low", "high"], "level"),
        ],
    )
    def test_other_values_are_named(self, index, ticks, by):
        display = TopicSizesDisplay(table_of(2, index)).plot()
        assert ticks_of(display.axes_[0].xaxis) == ticks
        assert part_of(display).get_suptitle().endswith(f", by {by}")

    def test_names_that_would_touch_each_other_are_turned(self):
        countries = pd.Index(["United Kingdom", "Czech Republic", "South Africa", "New Zealand"], name="country")
        for index, angle in ((countries, 45), (pd.Index([1, 2, 3]), 0)):
            panel = TopicSizesDisplay(table_of(3, index)).plot().axes_[-1]
            assert panel.get_xticklabels()[0].get_rotation() == angle

    def test_the_lowest_panel_of_each_column_names_the_values(self):
        display = TopicSizesDisplay(table_of(5)).plot()
        display.figure_.canvas.draw()
        is_named = [any(tick.label1.get_visible() for tick in panel.xaxis.get_major_ticks()) for panel in display.axes_]
        assert is_named == [False, False, True, True, True]

    def test_rows_without_a_period_are_not_drawn(self):
        sizes = table_of(1, pd.PeriodIndex(["2025-01", "NaT", "2025-02"], freq="M"))
        assert heights_of(TopicSizesDisplay(sizes).plot().axes_[0]) == [[1, 1]]

    def test_panels_take_the_place_of_given_axes(self, plt):
        figure, (left, right) = plt.subplots(1, 2, layout="constrained")
        display = TopicSizesDisplay(BY_MONTH).plot(ax=right)
        figure.canvas.draw()
        assert (display.ax_, display.figure_) == (right, figure)
        assert all(panel.get_window_extent().x0 > left.get_window_extent().x1 for panel in display.axes_)
        assert not right.axison

    def test_axes_in_no_grid_are_an_error(self, plt):
        with pytest.raises(ValueError, match=r"^ax must be in a grid, such as one of plt\.subplots"):
            TopicSizesDisplay(BY_MONTH).plot(ax=plt.figure().add_axes((0, 0, 1, 1)))


class TestSizesOfGroups:
    GROUPED = pd.concat({"web": BY_MONTH, "app": BY_MONTH.iloc[1:] * 2}, names=["product", "month"])

    def test_bars_of_groups_are_on_top_of_each_other_the_largest_at_the_bottom(self):
        display = TopicSizesDisplay(self.GROUPED, names=NAMES).plot()
        app, web = display.axes_[0].containers
        assert (app.get_label(), web.get_label()) == ("app", "web")
        assert heights_of(display.axes_[0]) == [[0, 8, 8, 8], [1, 4, 4, 4]]
        assert [bar.get_y() for bar in web] == [0, 8, 8, 8]
        assert len({to_hex(bars[0].get_facecolor()) for bars in (app, web)}) == 2

    def test_a_legend_names_the_groups_in_the_order_of_the_bars(self):
        (legend,) = part_of(TopicSizesDisplay(self.GROUPED).plot()).legends
        assert [text.get_text() for text in legend.get_texts()] == ["web", "app"]
        assert legend.get_title().get_text() == "product"

    def test_shares_are_of_all_groups_of_the_period(self):
        display = TopicSizesDisplay(self.GROUPED).plot(normalize=True)
        assert_allclose(sum(np.array(heights_of(panel)) for panel in display.axes_).sum(axis=0), 1)

    def test_of_many_groups_the_largest_have_a_color_and_the_others_share_one(self):
        sizes = pd.concat({f"group {number}": BY_MONTH * (20 - number) for number in range(10)})
        display = TopicSizesDisplay(sizes).plot()
        labels = [bars.get_label() for bars in display.axes_[0].containers]
        assert labels == [*(f"group {number}" for number in range(7)), "3 others"]
        assert_allclose(np.sum(heights_of(display.axes_[0]), axis=0), BY_MONTH[1] * sum(range(11, 21)))

    def test_a_missing_group_is_called_missing(self):
        index = pd.MultiIndex.from_arrays([["web", None], [1, 1]], names=["product", "stars"])
        display = TopicSizesDisplay(table_of(1, index)).plot()
        assert {bars.get_label() for bars in display.axes_[0].containers} == {"web", "missing"}


class TestOfAModel:
    TIMES = pd.to_datetime(["2025-01-03", "2025-01-20", "2025-02-01", "2025-02-02", "2025-02-28", "2025-03-01"])

    def test_without_times_it_draws_the_sizes_of_all_texts(self, topic_model):
        display = TopicSizesDisplay.from_estimator(topic_model.fit(TEXTS))
        assert ticks_of(display.ax_.yaxis) == topic_model.topics_["name"].tolist()
        assert display.ax_.get_title(loc="left") == "6 texts, 2 topics"

    def test_with_times_it_draws_the_sizes_of_periods(self, topic_model):
        display = TopicSizesDisplay.from_estimator(topic_model.fit(TEXTS), self.TIMES, freq="M", normalize=True)
        assert part_of(display).get_suptitle() == "6 texts, 2 topics, by month"
        assert_allclose(sum(heights_of(panel)[0][1] for panel in display.axes_), 1)

    def test_with_groups_it_draws_those(self, topic_model, plt):
        axes = plt.subplots()[1]
        model = topic_model.fit(TEXTS)
        display = TopicSizesDisplay.from_estimator(model, self.TIMES, freq="M", by=list("aaabbb"), ax=axes)
        assert [text.get_text() for text in part_of(display).legends[0].get_texts()] == ["b", "a"]
        assert display.ax_ is axes

    def test_the_model_may_be_in_a_pipeline(self, topic_model, embedder):
        display = TopicSizesDisplay.from_estimator(make_pipeline(embedder, topic_model).fit(TEXTS))
        assert display.sizes.sum() == 6

    @pytest.mark.parametrize("fit", [lambda model: model, lambda model: KMeans(2).fit(np.eye(3))])
    def test_what_is_no_fitted_topic_model_is_refused(self, fit, topic_model):
        with pytest.raises(TypeError, match=r"holds no fitted TopicModel\.$"):
            TopicSizesDisplay.from_estimator(fit(topic_model))

    def test_without_matplotlib_the_error_says_what_to_install(self, without):
        without("matplotlib")
        with pytest.raises(ImportError, match=r"^TopicSizesDisplay needs matplotlib: pip install 'skembed\[plot\]'\.$"):
            TopicSizesDisplay({0: 1}).plot()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TopicSizesDisplay({"a": 3}), TypeError, "sizes must have the numbers of topics in its index, or in"),
        (lambda: TopicSizesDisplay(pd.DataFrame({"a": [3]})), TypeError, "sizes must have the numbers of topics"),
        (
            lambda: TopicSizesDisplay(pd.Series([4], index=[-1])),
            ValueError,
            r"at least one topic.*got the shape \(0,\)",
        ),
        (lambda: TopicSizesDisplay(BY_MONTH.iloc[:0]), ValueError, r"a DataFrame one row; got the shape \(0, 2\)"),
        (lambda: TopicSizesDisplay(pd.Series([1, 2], index=[0, 0])), ValueError, "topic 0 twice"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_error(make, error, message):
    with pytest.raises(error, match=message):
        make()
