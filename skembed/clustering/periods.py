"""Topics over time: how many rows of each topic are of each period and group. Imports pandas and containers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.encoding.containers import read_one_column


def count_by_period(labels: NDArray[np.intp], n_topics: int, times: Any, freq: str | None, by: Any) -> pd.DataFrame:
    """Count the rows of each topic in each period; see ``TopicModel.over``.

    Parameters
    ----------
    labels : ndarray of int, shape (n_rows,)
        Topic of each row; rows with -1 are not counted.
    n_topics : int
    times : column of length n_rows
    freq : str or None
    by : column of length n_rows, or None

    Returns
    -------
    DataFrame of int, shape (n_periods, n_topics)
    """
    groups = {} if by is None else {"group": _read_rows(by, "by", len(labels))}
    table = pd.DataFrame({**groups, "period": _read_periods(times, freq, len(labels)), "topic": labels})
    table = table[(table["topic"] >= 0) & table.notna().all(axis=1)]
    counts = table.groupby([*groups, "period", "topic"], observed=True).size().unstack("topic", fill_value=0)
    counts = counts.reindex(columns=pd.RangeIndex(n_topics, name="topic"), fill_value=0)
    if freq is not None and len(counts):
        counts = _with_all_periods(counts, table["period"])
    counts.index.names = [None] * counts.index.nlevels
    return counts


def _read_rows(values: Any, name: str, n_rows: int) -> pd.Series[Any]:
    column = read_one_column(values, name, n_rows)
    if column is None:
        raise TypeError(f"{name} must be a column, with a value for each row; got None.")
    return column


def _read_periods(times: Any, freq: str | None, n_rows: int) -> pd.Series[Any]:
    column = _read_rows(times, "times", n_rows)
    if freq is None:
        return column
    try:
        if isinstance(column.dtype, pd.PeriodDtype):
            periods: pd.Series[Any] = column.dt.asfreq(freq)
            return periods
        if pd.api.types.is_numeric_dtype(column.dtype) and column.notna().any():
            raise TypeError(f"{column.dtype} cannot be read as times; convert the column by pandas.to_datetime")
        moments = pd.to_datetime(column)
        return moments.dt.tz_localize(None).dt.to_period(freq)
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"times must be times, and freq the length of a period of pandas: {reason}") from error


def _with_all_periods(counts: pd.DataFrame, periods: pd.Series[Any]) -> pd.DataFrame:
    """Add periods without rows, up to the last one of any group."""
    every = pd.period_range(periods.min(), periods.max(), name="period")
    if counts.index.nlevels == 1:
        return counts.reindex(every, fill_value=0)
    groups = counts.index.get_level_values(0).unique()
    return counts.reindex(pd.MultiIndex.from_product([groups, every], names=counts.index.names), fill_value=0)
