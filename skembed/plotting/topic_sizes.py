"""TopicSizesDisplay: how many texts each topic has, in all or over time. Imports the rooms beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.plotting import drawing, inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MOST_BARS, _MOST_PANELS, _MOST_GROUPS = 30, 12, 8
_COLOR = "#44AA99"
_PERIODS = {"h": "hour", "D": "day", "W": "week", "M": "month", "Q": "quarter", "Y": "year"}  # by pandas' letters
_CYCLES = {"h": 24, "M": 12, "Q": 4}  # periods after which a new day or year begins


class TopicSizesDisplay:
    """Bars of the sizes of topics: of all texts, or of each period and group.

    Create one with :meth:`from_estimator`, which also draws it. All parameters are stored as attributes.

    Parameters
    ----------
    sizes : Series or DataFrame
        Numbers of texts. A Series has a row for each topic; its index holds their numbers. A DataFrame has a column for
        each topic and a row for each period or value, as ``TopicModel.over`` returns it; the index may have two levels,
        (group, period). Topic -1 is ignored.
    names : Series, dict or list, default=None
        Name of each topic: of a Series by its index, of a list by position. A topic without one is called "topic 3".

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the bars, or those whose place the panels take.
    axes_ : ndarray of matplotlib Axes, shape (n_panels,)
        The axes with bars in them: one, or one for each topic.
    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    TopicMapDisplay : Map of topics.

    Notes
    -----
    Sizes of all texts are horizontal bars, one for each topic, up to 30. Sizes of periods are panels with the
    same axes, one for each topic, up to 12; bars of groups, up to 8, are on top of each other. The largest topics and
    groups are drawn, and the picture says how many are not.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import TopicModel, TopicSizesDisplay
    >>> asked = ["Where is my parcel?", "The parcel is late.", "The parcel is lost.", "I forgot my password."]
    >>> model = TopicModel(n_topics=2).fit(asked)
    >>> TopicSizesDisplay.from_estimator(model).ax_.get_title(loc="left")
    '4 texts, 2 topics'
    >>> days = pd.to_datetime(["2026-01-05", "2026-01-20", "2026-03-01", "2026-03-02"])
    >>> len(TopicSizesDisplay.from_estimator(model, days, freq="M").axes_)  # a panel for each topic
    2

    With sizes of your own:

    >>> display = TopicSizesDisplay(pd.Series([120, 80]), names=["refunds", "delivery"]).plot()
    >>> display.ax_.get_title(loc="left")
    '200 texts, 2 topics'
    >>> months = pd.period_range("2026-01", periods=3, freq="M")
    >>> by_month = pd.DataFrame({0: [50, 30, 40], 1: [10, 20, 50]}, index=months)
    >>> TopicSizesDisplay(by_month, names=["refunds", "delivery"]).plot().axes_[1].get_title(loc="left")
    'delivery'
    """

    def __init__(self, sizes: Any, *, names: Any = None) -> None:
        self.sizes: Any = _read_sizes(sizes)
        self.names = inputs.read_names(names, self._totals().index.to_numpy())

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        times: Any = None,
        *,
        freq: str | None = None,
        by: Any = None,
        normalize: bool = False,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the sizes of the topics of a fitted topic model.

        Parameters
        ----------
        estimator : TopicModel, or pipeline that ends in one
            Fitted.
        times : column of length n_rows, default=None
            A time or another value of each text that it was fitted to; None draws the sizes of all texts.
        freq : str, default=None
            Length of the periods, e.g. "M" for months; see ``TopicModel.over``.
        by : column of length n_rows, default=None
            Group of each text; see ``TopicModel.over``.
        normalize, ax
            As for :meth:`plot`.

        Returns
        -------
        TopicSizesDisplay

        Raises
        ------
        TypeError, ValueError
            If the estimator is no fitted TopicModel, or times and groups do not fit to its texts.
        ImportError
            If matplotlib is not installed.
        """
        inputs.import_pyplot(cls)
        model = inputs.find_topic_model(estimator)
        sizes = model.topics_["size"] if times is None else model.over(times, freq=freq, by=by)
        return cls(sizes, names=model.topics_["name"]).plot(normalize=normalize, ax=ax)

    def plot(self, *, normalize: bool = False, ax: Axes | None = None) -> Self:
        """Draw the bars with matplotlib.

        Parameters
        ----------
        normalize : bool, default=False
            Whether to draw shares of the texts of each period, instead of their numbers. Bars of all texts have both.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure of a suitable size. Panels take the place of the axes, which must be
            in a grid, as those of ``plt.subplots`` are.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If panels are to be drawn on axes that are in no grid.
        ImportError
            If matplotlib is not installed.
        """
        plt = inputs.import_pyplot(type(self))
        most = _MOST_PANELS if self._is_table else _MOST_BARS
        shown = self._totals().sort_values(ascending=False, kind="stable").index[:most]
        if ax is None:
            ax = plt.subplots(figsize=_figure_size(len(shown), self._is_table), layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        if self._is_table:
            self._plot_panels(shown, normalize)
        else:
            self._plot_bars(shown)
        return self

    @property
    def _is_table(self) -> bool:
        return isinstance(self.sizes, pd.DataFrame)

    def _totals(self) -> pd.Series[Any]:
        """Return the number of texts of each topic."""
        totals: pd.Series[Any] = self.sizes.sum() if self._is_table else self.sizes
        return totals

    def _title(self) -> str:
        totals = self._totals()
        return f"{drawing.counted(int(totals.sum()), 'text')}, {drawing.counted(len(totals), 'topic')}"

    def _not_drawn(self, shown: pd.Index[Any]) -> str:
        rest = self._totals().drop(shown)
        what = f"{drawing.counted(len(rest), 'smaller topic')} with {drawing.counted(int(rest.sum()), 'text')}"
        return f"Not drawn: {what}." if len(rest) else ""

    def _plot_bars(self, shown: pd.Index[Any]) -> None:
        ax, sizes = self.ax_, self.sizes[shown]
        self.axes_: NDArray[np.object_] = np.array([ax], dtype=object)
        bars = ax.barh(range(len(shown)), sizes, color=_COLOR)
        share = sizes / max(self.sizes.sum(), 1)
        ax.bar_label(
            bars, [f"{size:,} ({_percent(of_all)})" for size, of_all in zip(sizes, share, strict=True)], padding=4
        )
        ax.set_yticks(range(len(shown)), [drawing.wrapped(self.names[topic], 40, 2) for topic in shown])
        ax.set(xticks=[], xlim=(0, 1.25 * max(sizes.max(), 1)), ylim=(len(shown) - 0.4, -0.6))  # room for the numbers
        ax.tick_params(length=0)
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.set_title(self._title(), loc="left", **drawing.TITLE)
        ax.set_xlabel(self._not_drawn(shown), loc="left", **drawing.NOTE)

    def _plot_panels(self, shown: pd.Index[Any], normalize: bool) -> None:
        groups = _split_by_group(self.sizes)
        groups = _to_shares(groups) if normalize else groups
        index = next(iter(groups.values())).index
        part, n_columns = drawing.part_of_figure(self.ax_), _n_columns(len(shown))
        panels = part.subplots(-(-len(shown) // n_columns), n_columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel in panels[len(shown) :]:
            panel.remove()
        self.axes_ = panels[: len(shown)]
        for topic, panel in zip(shown, self.axes_, strict=True):
            _stack_bars(panel, {group: table[topic] for group, table in groups.items()})
            panel.set_title(
                drawing.wrapped(self.names[topic], drawing.room_in(panel), 2), loc="left", fontsize="medium"
            )
        for panel in self.axes_[-n_columns:]:  # the lowest of each column
            panel.tick_params(labelbottom=True)
            _label_values(panel, index)
        _label_heights(self.axes_[0], normalize)
        self._explain_panels(part, index, normalize, shown)

    def _explain_panels(self, part: Any, index: pd.Index[Any], normalize: bool, shown: pd.Index[Any]) -> None:
        """Write above and below the panels what they show, and beside them the colours of groups."""
        by = _name_of(index)
        bars = f"Bars: {'share of the texts' if normalize else 'texts'} of each {by}."
        part.suptitle(f"{self._title()}, by {by}", x=0.01, ha="left", **drawing.TITLE)
        part.supxlabel(f"{bars} {self._not_drawn(shown)}", x=0.01, ha="left", **drawing.NOTE)
        if self.sizes.index.nlevels > 1:
            name = self.sizes.index.names[0]
            handles, groups = self.axes_[0].get_legend_handles_labels()
            part.legend(
                handles[::-1], groups[::-1], title=name, loc="outside right upper", frameon=False, alignment="left"
            )


def _read_sizes(sizes: Any) -> Any:
    """Return sizes without those of topic -1; raise for sizes that are not those of topics."""
    table: Any = sizes if isinstance(sizes, pd.DataFrame) else pd.Series(sizes)
    topics = table.columns if isinstance(table, pd.DataFrame) else table.index
    if not pd.api.types.is_integer_dtype(topics.dtype):
        raise TypeError("sizes must have the numbers of topics in its index, or in its columns if it is a DataFrame.")
    if not topics.is_unique:
        raise ValueError(f"sizes has topic {topics[topics.duplicated()][0]} twice; add them up first.")
    table = table.drop(-1, axis=table.ndim - 1, errors="ignore")
    if table.size == 0:
        raise ValueError(f"sizes must have at least one topic, and a DataFrame one row; got the shape {table.shape}.")
    return table


def _figure_size(n_shown: int, is_table: bool) -> tuple[float, float]:
    if not is_table:
        return 9, 1.2 + 0.36 * n_shown
    n_columns = _n_columns(n_shown)
    return max(6, 3.2 * n_columns), 1.4 + 2 * -(-n_shown // n_columns)


def _n_columns(n_panels: int) -> int:
    return n_panels if n_panels <= 3 else int(np.ceil(np.sqrt(n_panels)))


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _split_by_group(sizes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the sizes of each group, the largest first, all with the same rows; of "" without groups."""
    if not isinstance(sizes.index, pd.MultiIndex):
        return {"": sizes[sizes.index.notna()]}
    groups = sizes.index.get_level_values(0).astype(object).fillna("missing")
    largest = sizes.sum(axis=1).groupby(groups).sum().sort_values(ascending=False, kind="stable").index
    n_named = len(largest) if len(largest) <= _MOST_GROUPS else _MOST_GROUPS - 1
    others = f"{len(largest) - n_named} others"
    names = pd.Series(
        [drawing.wrapped(group, 20, 2) for group in largest[:n_named]] + [others] * (len(largest) - n_named), largest
    )
    tables = sizes.groupby([groups.map(names.to_dict()), sizes.index.get_level_values(1)]).sum()
    index = sizes.index.remove_unused_levels().levels[1]
    return {name: tables.loc[[name]].droplevel(0).reindex(index, fill_value=0) for name in names.unique()}


def _to_shares(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Divide sizes by the number of texts in their period, of all topics and groups."""
    totals = np.sum([table.sum(axis=1).to_numpy() for table in tables.values()], axis=0)
    return {group: table.div(np.where(totals > 0, totals, 1), axis=0) for group, table in tables.items()}


def _stack_bars(ax: Axes, sizes: dict[str, pd.Series[Any]]) -> None:
    """Draw the bars of groups on top of each other."""
    colors = drawing.COLORS if len(sizes) > 1 else (_COLOR,)
    bottom: Any = 0
    for (group, heights), color in zip(sizes.items(), colors, strict=False):
        width = 0.85 if len(heights) <= 40 else 1  # gaps between thin bars would flicker
        ax.bar(_places_of(heights.index), heights, width, bottom, color=color, label=group)
        bottom = bottom + heights
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)


def _places_of(index: pd.Index[Any]) -> NDArray[np.int64]:
    """Return where along the axis values are: periods by their number, so that one without texts leaves a gap."""
    is_period = isinstance(index, pd.PeriodIndex)
    return index.astype("int64").to_numpy() if is_period else np.arange(len(index))


def _label_values(ax: Axes, index: pd.Index[Any]) -> None:
    """Label a few periods or values."""
    if isinstance(index, pd.PeriodIndex):
        places = _places_of(index)
        step = _tick_step(places.max() - places.min() + 1, _CYCLES.get(_letter_of(index), 1))
        ticks = np.arange(-(-places.min() // step) * step, places.max() + 1, step)
        labels = [str(pd.Period(ordinal=tick, freq=index.freqstr)).partition("/")[0] for tick in ticks.tolist()]
    else:
        ticks = np.arange(0, len(index), 1 if len(index) <= 12 else -(-len(index) // 8))
        labels = [drawing.wrapped(value, 16, 1) for value in index[ticks]]
    is_crowded = len("  ".join(labels)) > drawing.room_in(ax)
    style: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
    ax.set_xticks(ticks, labels, fontsize="small", **style)


def _label_heights(ax: Axes, normalize: bool) -> None:
    if normalize:
        ax.yaxis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g} %")
    else:
        ax.locator_params(axis="y", integer=True)
        ax.yaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")


def _tick_step(n_periods: int, cycle: int) -> int:
    """Return the distance of about four ticks, so that one falls on the start of each year or day."""
    least = -(-n_periods // 4)
    divisors = [step for step in range(least, cycle + 1) if cycle % step == 0]
    return divisors[0] if divisors else -(-least // cycle) * cycle


def _letter_of(index: pd.PeriodIndex) -> str:
    return index.freqstr.partition("-")[0]


def _name_of(index: pd.Index[Any]) -> str:
    """Return what the rows of sizes are: "month", or the name of the values."""
    if isinstance(index, pd.PeriodIndex):
        return _PERIODS.get(_letter_of(index), "period")
    return "value" if index.name is None else str(index.name)
