"""ThresholdDisplay: what is known about each threshold. Imports near-duplicates, thresholds and the rooms beside it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from skembed.checks import check_number
from skembed.plotting import drawing, inputs
from skembed.similarity.duplicates import NearDuplicates
from skembed.similarity.thresholds import Threshold, judge_thresholds, smallest_precise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_PRECISION, _RECALL = "#332288", "#CC6677"


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
        The axes of the rows dropped, on the right; None if they are not known.
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
    'Threshold 0.718: precision 1.00 (0.06 to 1.00)'
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
        once more, down to the lowest score.
        """
        inputs.import_pyplot(cls)
        if not isinstance(estimator, NearDuplicates):
            raise TypeError(
                f"estimator must be a NearDuplicates; got {type(estimator).__name__}. Use from_predictions."
            )
        if missing := {"score", "is_match", "weight"} - set(judged):
            raise ValueError(f"judged must have the columns score, is_match and weight; {sorted(missing)} missing.")
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
            Axes to draw on; None creates a figure.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = inputs.import_pyplot(type(self))
        if ax is None:
            ax = plt.subplots(figsize=(8, 5.2), layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        self.dropped_ax_: Axes | None = self._draw_dropped() if "dropped" in self.table else None
        self._draw_shares()
        self._mark_chosen()
        self._explain()
        return self

    def _draw_shares(self) -> None:
        """Draw precision and recall; between two scores, they are those of the higher one."""
        ax, table = self.ax_, self.table
        band: dict[str, Any] = {"color": _PRECISION, "alpha": 0.13, "linewidth": 0, "label": "95 % interval"}
        ax.fill_between(table["threshold"], table["low"], table["high"], step="pre", **band)
        ax.step(table["threshold"], table["precision"], where="pre", color=_PRECISION, linewidth=2, label="precision")
        ax.step(table["threshold"], table["recall"], where="pre", color=_RECALL, linewidth=2, label="recall")
        ax.axhline(self.precision, color="0.35", linestyle=(0, (4, 3)), linewidth=1, label="precision wanted")
        ax.set(ylim=(0, 1.02), xlabel="threshold", ylabel="precision, recall")
        ax.margins(x=0.02)

    def _draw_dropped(self) -> Any:
        """Draw the rows dropped behind the other curves, as an area with an axis of its own."""
        behind: Any = self.ax_.twinx()
        area: dict[str, Any] = {"color": drawing.GREY, "alpha": 0.6, "linewidth": 0, "label": "rows dropped"}
        behind.fill_between(self.table["threshold"], self.table["dropped"], step="pre", **area)
        behind.set_ylim(0, 1.02 * max(1, self.table["dropped"].max()))
        behind.set_ylabel("rows dropped", color="0.35")
        behind.locator_params(axis="y", integer=True)
        behind.yaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
        behind.tick_params(axis="y", colors="0.35")
        behind.spines["top"].set_visible(False)
        self.ax_.set_zorder(behind.get_zorder() + 1)
        self.ax_.patch.set_visible(False)  # it would hide the area
        return behind

    def _mark_chosen(self) -> None:
        if self.chosen is None:
            return
        at, share, low, high, _ = self.chosen
        self.ax_.axvline(at, color="0.2", linewidth=1)
        self.ax_.errorbar(
            at, share, [[share - low], [high - share]], fmt="o", color=_PRECISION, elinewidth=3, capsize=5, markersize=8
        )

    def _explain(self) -> None:
        """Write above and below the curves what was found, and which curve is which."""
        ax = self.ax_
        ax.spines[["top", "right"]].set_visible(False)
        if self.chosen is None:
            title, note = f"No threshold reaches {self.precision:g}", f"Best: {self.table['precision'].max():.3g}."
        else:
            at, share, low, high, recall = self.chosen
            title = f"Threshold {at:.3f}: precision {share:.2f} ({low:.2f} to {high:.2f})"
            note = f"Keeps {recall:.0%} of the matches among the judged pairs"
            if self.dropped_ax_ is not None:
                n_dropped = self.table.loc[self.table["threshold"] == at, "dropped"].iloc[0]
                note += f", and drops {drawing.counted(int(n_dropped), 'row')}"
            note += "."
        ax.set_title(f"{title}\n", loc="left", **drawing.TITLE)
        ax.annotate(
            textwrap.fill(note, drawing.room_in(ax)), (0, 1), (0, 6), "axes fraction", "offset points", **drawing.NOTE
        )
        axes = [ax] if self.dropped_ax_ is None else [ax, self.dropped_ax_]
        handles = [handle for one in axes for handle in one.get_legend_handles_labels()[0]]
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": len(handles)}
        ax.legend(handles=handles, frameon=False, fontsize="small", **place)
