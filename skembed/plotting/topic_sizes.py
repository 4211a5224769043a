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
    Sizes of all texts are horizontal bars, one for each topic, up to 30. Sizes of periods are panels with the same axes,
    one for each topic, up to 12; bars of groups, up to 8, are on top of each other. The largest topics and groups are
    drawn, and the picture says how many are not.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import TopicSizesDisplay
    >>> display = TopicSizesDisplay(pd.Series([120, 80]), names=["refunds", "delivery"]).plot()
    >>> display.ax_.get_title(loc="left")
    '200 texts, 2 topics'
    >>> months = pd.period_range("2026-01", periods=3, freq="M")
    >>> by_month = pd.DataFrame({0: [50, 30, 40], 1: [10, 20, 50]}, index=months)
    >>> TopicSizesDisplay(by_month, names=["refunds", "delivery"]).plot().axes_[1].get_title(loc="left")
    'delivery'
    """

    def __init__(self, sizes: Any, *, names: Any = None) -> None:
        sizes = sizes if isinstance(sizes, pd.DataFrame) else pd.Series(sizes)
        topics = sizes.columns if isinstance(sizes, pd.DataFrame) else sizes.index
        if not pd.api.types.is_integer_dtype(topics.dtype):
            raise TypeError("sizes must have the numbers of topics in its index, or in its columns if it is a DataFrame.")
        self.sizes: Any = sizes.drop(-1, axis=sizes.ndim - 1, errors="ignore")
        if self.sizes.size == 0:
            raise ValueError(f"sizes must have at least one topic; got the shape {self.sizes.shape}.")
        self.names = inputs.read_names(names, self._topics())

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
        is_table = isinstance(self.sizes, pd.DataFrame)
        totals = self.sizes.sum() if is_table else self.sizes
        shown = totals.sort_values(ascending=False, kind="stable").index[: _MOST_PANELS if is_table else _MOST_BARS]
        if ax is None:
            ax = plt.subplots(figsize=_figure_size(len(shown), is_table), layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        ...
