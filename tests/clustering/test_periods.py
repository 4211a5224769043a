"""Topics over time: counts as pandas makes them, of times, strings, periods and any other values."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal, assert_index_equal

from skembed.clustering.periods import count_by_period

LABELS = np.array([0, 1, 0, -1, 2, 0])
DAYS = ["2025-12-31", "2026-01-01", "2026-01-31", "2026-01-31", "2026-03-01", "2026-03-02"]
BY_MONTH = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]
MONTHS = pd.period_range("2025-12", "2026-03", freq="M")

TIMES = {
    "strings": DAYS,
    "timestamps": [pd.Timestamp(day) for day in DAYS],
    "datetimes": [datetime.datetime.fromisoformat(day) for day in DAYS],
    "dates": [datetime.date.fromisoformat(day) for day in DAYS],
    "numpy": np.array(DAYS, dtype="datetime64[s]"),
    "DatetimeIndex": pd.to_datetime(DAYS),
    "Series": pd.Series(pd.to_datetime(DAYS), index=list("uvwxyz")),
    "Series of strings": pd.Series(DAYS, dtype="str"),
    "Series of dates of Arrow": pd.Series(pd.to_datetime(DAYS)).astype(pd.ArrowDtype(pa.timestamp("us"))),
    "category": pd.Series(DAYS, dtype="category"),
    "days": pd.PeriodIndex(DAYS, freq="D"),
    "list of days": [pd.Period(day, freq="D") for day in DAYS],
    "polars dates": pl.Series([datetime.date.fromisoformat(day) for day in DAYS]),
    "polars datetimes": pl.Series([datetime.datetime.fromisoformat(day) for day in DAYS]),
    "pyarrow": pa.array([datetime.datetime.fromisoformat(day) for day in DAYS]),
    "UTC": pd.to_datetime(DAYS).tz_localize("UTC"),
    "New York": pd.to_datetime(DAYS).tz_localize("America/New_York"),
    "strings with a zone": [f"{day}T23:30:00-05:00" for day in DAYS],
}


def count(times, freq=None, by=None, labels=LABELS, n_topics=3) -> pd.DataFrame:
    return count_by_period(labels, n_topics, times, freq, by)


@pytest.mark.parametrize("kind", TIMES)
def test_every_kind_of_times_is_counted_by_month_as_its_clock_shows_it(kind):
    counts = count(TIMES[kind], "M")
    assert_index_equal(counts.index, MONTHS)
    assert counts.to_numpy().tolist() == BY_MONTH
    assert counts.columns.name == "topic"
    assert (counts.dtypes == "int64").all()


@pytest.mark.parametrize("freq", ["W", "Q", "Y", "D", "h"])
def test_periods_may_have_any_length(freq):
    counts = count(DAYS, freq)
    assert counts.index.freqstr.startswith(freq)
    assert_array_equal(counts.sum(), [3, 1, 1])
    assert_index_equal(counts.index, pd.period_range(counts.index[0], counts.index[-1]))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 300), st.sampled_from("xyz")), min_size=1, max_size=30))
def test_counts_are_those_of_a_crosstab(rows):
    labels, days, groups = (np.array(column) for column in zip(*rows, strict=True))
    times = pd.Series(pd.Timestamp("2026-01-01") + pd.to_timedelta(days, unit="D"))
    counts = count(times, "M", groups, labels, 5)
    kept = labels >= 0
    assert counts.to_numpy().sum() == kept.sum()
    periods = times.dt.to_period("M")
    for (group, period), row in counts.iterrows():
        members = labels[kept & (groups == group) & (periods == period).to_numpy()]
        assert row.tolist() == np.bincount(members, minlength=5).tolist()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([2026, 2025, 2025, 2024, 2026, 2026], [2025, 2026]),
        ([2026, 2025, 2025, None, 2026, 2026], [2025, 2026]),
        (list("bbaaab"), ["a", "b"]),
        (["x", 2, "x", 2, 2, "x"], [2, "x"]),
        ([True, False, True, False, False, True], [False, True]),
        (pd.Series(list("bbaaab"), dtype="category"), ["a", "b"]),
    ],
    ids=str,
)
def test_without_a_frequency_each_value_is_counted_in_ascending_order(times, expected):
    counts = count(times)
    assert counts.index.tolist() == expected
    assert counts.index.name is None
    assert_array_equal(counts.sum(), [3, 1, 1])


def test_without_a_frequency_values_in_between_are_not_made_up():
    assert count([1, 1, 5, 5, 5, 1]).index.tolist() == [1, 5]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NaT, pd.NA], ids=str)
@pytest.mark.parametrize("freq", [None, "M"])
def test_rows_without_a_time_are_not_counted(missing, freq):
    times = [missing, *DAYS[1:]]
    assert_array_equal(count(times, freq).sum(), [2, 1, 1])


def test_rows_without_a_group_are_not_counted():
    assert_array_equal(count(DAYS, "M", [None, "x", "x", "x", np.nan, "y"]).sum(), [2, 1, 0])


@pytest.mark.parametrize("freq", [None, "M"])
def test_if_nothing_is_counted_the_table_is_empty(freq):
    for counts in (
        count([None] * 6, freq),
        count(DAYS, freq, labels=np.full(6, -1)),
        count(DAYS, freq, by=[None] * 6),
        count([], freq, labels=np.array([], int)),
    ):
        assert counts.shape == (0, 3)


def test_groups_are_counted_apart_up_to_the_last_period_of_all():
    counts = count(DAYS, "M", list("xxyyyy"))
    assert counts.index.nlevels == 2
    assert_index_equal(counts.loc["x"].index, MONTHS, check_names=False)
    assert counts.loc["x"].to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert counts.loc["y"].to_numpy().tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("by", [pd.Series([1, 1, 2, 2, 2, 2], index=list("uvwxyz")), pl.Series([1, 1, 2, 2, 2, 2])])
def test_groups_are_matched_by_position(by):
    assert_frame_equal(count(DAYS, by=by), count(DAYS, by=[1, 1, 2, 2, 2, 2]), check_index_type=False)


def test_a_category_that_no_row_has_is_no_group():
    by = pd.Series(list("xxyyyy"), dtype=pd.CategoricalDtype(["x", "y", "z"]))
    assert count(DAYS, "M", by).index.get_level_values(0).unique().tolist() == ["x", "y"]


def test_topics_without_rows_have_a_column():
    assert count(DAYS, n_topics=5).columns.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((DAYS[:5],), ValueError, r"^times must have the length 6; got 5\.$"),
        ((DAYS, None, DAYS[:5]), ValueError, r"^by must have the length 6; got 5\.$"),
        ((np.ones((6, 2)),), ValueError, r"^times must be one column; got the shape \(6, 2\)\.$"),
        ((pd.DataFrame({"day": DAYS}),), ValueError, r"^times must be one column; got the shape \(6, 1\)\.$"),
        ((DAYS, None, pl.DataFrame({"by": DAYS})), ValueError, r"^by must be one column; got the shape \(6, 1\)\.$"),
        (("months",), TypeError, r"^times must be a column, with a value for each row; got 'months'\.$"),
        ((None,), TypeError, r"^times must be a column, with a value for each row; got None\.$"),
        ((2026, "M"), TypeError, r"^times must be a column, with a value for each row; got 2026\.$"),
        ((DAYS, "M", 5), TypeError, r"^by must be a column, with a value for each row; got 5\.$"),
        ((list("abcdef"), "M"), ValueError, "^times must be times, and freq the length of a period of pandas: .*a"),
        (([*DAYS[:5], "soon"], "M"), ValueError, "^times must be times, .*soon"),
        ((range(6), "M"), ValueError, "^times must be times, .*: Int64 cannot be read as times; convert the column"),
        (([1.5] * 6, "M"), ValueError, "^times must be times, .* cannot be read as times"),
        (([True] * 6, "M"), ValueError, "^times must be times, .* cannot be read as times"),
        ((DAYS, "fortnight"), ValueError, "^times must be times, and freq the length of a period .*fortnight"),
        ((DAYS, "ME"), ValueError, "^times must be times, .*please use 'M' instead of 'ME'"),
        ((DAYS, 5), ValueError, "^times must be times, and freq the length of a period of pandas"),
        ((pd.PeriodIndex(DAYS, freq="D"), "fortnight"), ValueError, "^times must be times, .*fortnight"),
        ((["2026-01-01T00:00+01:00", *DAYS[1:]], "M"), ValueError, "^times must be times"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Could not infer format")
def test_what_cannot_be_counted_is_one_clear_error(arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        count(*arguments)
    assert "\n" not in str(raised.value)
