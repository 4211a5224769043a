"""ThresholdDisplay: what is known about each threshold. Imports near-duplicates, thresholds and the rooms beside it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skembed.checks import check_number
from skembed.plotting import drawing, inputs
from skembed.similarity.duplicates import NearDuplicates
from skembed.similarity.thresholds import Threshold, judge_thresholds, smallest_precise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_PRECISION, _RECALL, _DROPPED = "#332288", "#CC6677", "#88CCEE"


class ThresholdDisplay:
    """Precision and recall of judged pairs by threshold, and how many rows each threshold would drop.

    Create one with :meth:`from_estimator` or :meth:`from_predictions`, which also draw it. All parameters are stored as
    attributes.

    Parameters
    ----------
    table : DataFrame
        A row for each threshold, rising: ``threshold``, ``precision``, ``low``, ``high`` and ``recall``, as
        :func:`choose_threshold` describes them; and ``dropped``, the number of rows dropped, if it is known.
    precision : float, default=0.95
        The precision that is wanted, above 0 and at most 1.

    Attributes
    ----------
    chosen : tuple or None
        What :func:`choose_threshold` returns; None if no threshold is precise enough.
    ax_ : matplotlib Axes
        The axes of precision and recall.
    dropped_ax_ : matplotlib Axes or None
        The axes of the rows dropped, below them; None if they are not known.
    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    choose_threshold : Chooses the threshold that is marked.
    NearDuplicates.pairs : Draws the pairs to judge.

    Notes
    -----
    The interval of the precision holds for whichever threshold is chosen, see the notes of :func:`choose_threshold`.
    Recall is that of the matches among the judged pairs.

    Examples
    --------
    >>> from skembed import NearDuplicates, ThresholdDisplay
    >>> texts = ["The zip broke.", "Works well.", "The zip broke!", "It works very well.", "It never worked well."]
    >>> duplicates = NearDuplicates().fit(texts)
    >>> judged = duplicates.pairs(lowest=0.5).assign(is_match=[True, True, False, False])
    >>> display = ThresholdDisplay.from_estimator(duplicates, judged)
    >>> display.ax_.get_title(loc="left")
    'Threshold 0.720: precision 1.00 (0.01 to 1.00)'
    """

    def __init__(self, table: pd.DataFrame, *, precision: float = 0.95) -> None:
        if not isinstance(table, pd.DataFrame) or not set(Threshold._fields) <= set(table) or table.empty:
            raise ValueError(f"table must be a frame with rows, and with the columns {', '.join(Threshold._fields)}.")
        check_number("precision", precision, "a share, above 0 and at most 1", lambda share: 0 < share <= 1)
        self.table = table
        self.precision = precision
        self.chosen = smallest_precise(table, precision)

    @classmethod
    def from_estimator(
        cls, estimator: NearDuplicates, judged: pd.DataFrame, *, precision: float = 0.95, ax: Axes | None = None
    ) -> Self:
        """Draw precision, recall and rows dropped of near-duplicates.

        Parameters
        ----------
        estimator : NearDuplicates
            Fitted.
        judged : DataFrame
            Pairs that its method ``pairs`` drew, with their ``score`` and ``weight``, and a further column
            ``is_match``: whether each is a match, as True and False or 1 and 0.
        precision : float, default=0.95
            The precision that is wanted.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        ThresholdDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If the estimator is no NearDuplicates, or for pairs that :func:`choose_threshold` refuses.
        ImportError
            If matplotlib is not installed.

        Notes
        -----
        The rows dropped are exact, those of :class:`NearDuplicates` at each threshold. All pairs of rows are compared
        once more, down to the lowest score; with ``grouping="star"``, once for each distinct score.
        """
        inputs.import_pyplot(cls)
        if not isinstance(estimator, NearDuplicates):
            name = type(estimator).__name__
            raise TypeError(f"estimator must be a NearDuplicates, not {name}; of other pairs, use from_predictions.")
        if missing := {"score", "is_match", "weight"} - set(judged):
            raise ValueError(f"judged must have the columns score, is_match and weight; {sorted(missing)} missing.")
        check_is_fitted(estimator)
        table = judge_thresholds(judged["score"], judged["is_match"], judged["weight"])
        table["dropped"] = estimator._count_dropped(table["threshold"].to_numpy())
        return cls(table, precision=precision).plot(ax=ax)

    @classmethod
    def from_predictions(
        cls, scores: Any, is_match: Any, *, precision: float = 0.95, weights: Any = None, ax: Axes | None = None
    ) -> Self:
        """Draw precision and recall of any judged pairs.

        Parameters
        ----------
        scores, is_match, precision, weights
            As for :func:`choose_threshold`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        ThresholdDisplay

        Raises
        ------
        TypeError, ValueError
            For pairs that :func:`choose_threshold` refuses.
        ImportError
            If matplotlib is not installed.
        """
        inputs.import_pyplot(cls)
        return cls(judge_thresholds(scores, is_match, weights), precision=precision).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the curves with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure. If the rows dropped are drawn, two panels take the place of the
            axes, which must be in a grid, as those of ``plt.subplots`` are.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = inputs.import_pyplot(type(self))
        has_dropped = "dropped" in self.table
        if ax is None:
            ax = plt.subplots(figsize=(8, 6.4 if has_dropped else 4.8), layout="constrained")[1]
        self.figure_: Figure | SubFigure = ax.figure
        axes = [ax]
        if has_dropped:
            axes = list(drawing.part_of_figure(ax).subplots(2, 1, sharex=True, height_ratios=(3, 1)))
        self.ax_: Axes = axes[0]
        self.dropped_ax_: Axes | None = axes[1] if has_dropped else None
        self._draw_shares()
        if has_dropped:
            self._draw_dropped(axes[1])
        self._mark_chosen(axes)
        self._explain()
        axes[-1].set_xlabel("threshold")
        for one in axes:
            one.spines[["top", "right"]].set_visible(False)
        return self

    def _draw_shares(self) -> None:
        """Draw precision and recall; between two scores, they are those of the higher one."""
        ax, table = self.ax_, self.table
        band: dict[str, Any] = {"color": _PRECISION, "alpha": 0.13, "linewidth": 0, "label": "95 % interval"}
        ax.step(table["threshold"], table["precision"], where="pre", color=_PRECISION, linewidth=2, label="precision")
        ax.fill_between(table["threshold"], table["low"], table["high"], step="pre", **band)
        ax.step(table["threshold"], table["recall"], where="pre", color=_RECALL, linewidth=2, label="recall")
        ax.axhline(self.precision, color="0.35", linestyle=(0, (4, 3)), linewidth=1, label="precision wanted")
        ax.set(ylim=(0, 1.02), ylabel="precision, recall")
        ax.margins(x=0.02)

    def _draw_dropped(self, below: Axes) -> None:
        """Draw the rows dropped below the other curves."""
        below.fill_between(self.table["threshold"], self.table["dropped"], step="pre", color=_DROPPED, linewidth=0)
        below.set(ylim=(0, 1.05 * max(1, self.table["dropped"].max())), ylabel="rows dropped")
        below.locator_params(axis="y", integer=True, nbins=4)
        below.yaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")

    def _mark_chosen(self, axes: list[Axes]) -> None:
        if self.chosen is None:
            return
        at, share, low, high, _ = self.chosen
        for ax in axes:
            ax.axvline(at, color="0.2", linewidth=1)
        ends = [[share - low], [high - share]]
        self.ax_.errorbar(at, share, ends, fmt="o", color=_PRECISION, elinewidth=3, capsize=5, markersize=8)

    def _explain(self) -> None:
        """Write above the curves what was found."""
        if self.chosen is None:
            title = f"No threshold reaches {self.precision:g}"
            note = f"The best is {self.table['precision'].max():.3g}."
        else:
            at, share, low, high, recall = self.chosen
            title = f"Threshold {at:.3f}: precision {share:.2f} ({low:.2f} to {high:.2f})"
            note = f"Keeps {100 * recall:.0f} % of the matches among the judged pairs"
            if self.dropped_ax_ is not None:
                n_dropped = self.table.loc[self.table["threshold"] == at, "dropped"].iloc[0]
                note += f", and drops {drawing.counted(int(n_dropped), 'row')}"
            note += "."
        self.figure_.canvas.figure.draw_without_rendering()  # performs the layout, which determines the room
        room = drawing.room_in(self.ax_)
        note, title = textwrap.fill(note, room), textwrap.fill(title, int(0.7 * room))
        legend: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "frameon": False}
        ncols = 4 if room > 70 else 2
        self.ax_.legend(**legend, fontsize="small", ncols=ncols, handlelength=1.5, borderpad=0)
        height = 8 + 14 * (4 // ncols)  # of the legend, in typographic points
        self.ax_.annotate(note, (0, 1), (0, height), "axes fraction", "offset points", **drawing.NOTE)
        self.ax_.set_title(title, loc="left", pad=height + 4 + 14 * (note.count("\n") + 1), **drawing.TITLE)
