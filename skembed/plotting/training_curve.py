"""TrainingCurveDisplay: the course of a training. Imports the fine-tuner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skembed.finetuner import SentenceEmbeddingFineTuner
from skembed.plotting.inputs import import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D


class TrainingCurveDisplay:
    """Curves of a training: the loss and, with early stopping, the validation score.

    Create one with :meth:`from_estimator`, which also draws it. All parameters are stored as attributes.

    Parameters
    ----------
    history : DataFrame
        As ``history_`` of :class:`SentenceEmbeddingFineTuner`: ``step``, ``loss`` and optionally ``validation_score``;
        rows may lack the loss or the score.
    loss_name : str, default=None
        Name of the loss, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the loss.
    score_ax_ : matplotlib Axes or None
        The axes of the validation score, on the right; None without scores.
    figure_ : matplotlib Figure
        The figure of the axes.
    line_ : matplotlib Line2D
        The curve of the loss.
    score_line_ : matplotlib Line2D or None
        The curve of the validation score; None without scores.

    See Also
    --------
    SentenceEmbeddingFineTuner : Records the history of its training.

    Notes
    -----
    The star marks the epoch to which early stopping returned.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay(pd.DataFrame({"step": [10, 20, 30], "loss": [0.31, 0.16, 0.09]})).plot()
    >>> display.ax_.get_ylabel(), display.score_ax_ is None
    ('loss', True)
    """

    def __init__(self, history: pd.DataFrame, *, loss_name: str | None = None) -> None:
        if not isinstance(history, pd.DataFrame) or not {"step", "loss"} <= set(history):
            raise ValueError(
                "history must be a frame with the columns step and loss, such as history_ of a fine-tuner."
            )
        self.history = history
        self.loss_name = loss_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the curves of a fitted fine-tuner.

        Parameters
        ----------
        estimator : SentenceEmbeddingFineTuner, or a PairSimilarity, pipeline or search that holds one
            Fitted; of a search, the best estimator is used.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        TrainingCurveDisplay

        Raises
        ------
        TypeError
            If the estimator holds no fitted fine-tuner.
        ImportError
            If matplotlib is not installed.
        """
        tuner = _find_tuner(estimator)
        if tuner is None or not hasattr(tuner, "history_"):
            raise TypeError(f"{type(estimator).__name__} holds no fitted SentenceEmbeddingFineTuner.")
        return cls(tuner.history_, loss_name=tuner.loss_).plot(ax=ax)

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
        plt = import_pyplot(type(self))
        if ax is None:
            ax = plt.subplots(layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        losses = self.history.dropna(subset="loss")
        self.line_: Line2D = ax.plot(losses["step"], losses["loss"], color="tab:blue", label="loss")[0]
        ax.set(xlabel="step", ylabel="loss" if self.loss_name is None else f"loss ({self.loss_name})")
        ax.set_ylim(bottom=min(0, losses["loss"].min()))
        self.score_ax_: Axes | None = None
        self.score_line_: Line2D | None = None
        if "validation_score" in self.history and self.history["validation_score"].notna().any():
            self._plot_scores(ax)
        return self

    def _plot_scores(self, ax: Axes) -> None:
        scores = self.history.dropna(subset="validation_score")
        best = scores.iloc[scores["validation_score"].argmax()]
        right: Any = ax.twinx()
        style: dict[str, Any] = {"color": "tab:orange", "marker": "o", "label": "validation score"}
        self.score_ax_ = right
        self.score_line_ = right.plot(scores["step"], scores["validation_score"], **style)[0]
        right.plot(best["step"], best["validation_score"], color="tab:orange", marker="*", markersize=16)
        right.set_ylabel("validation score")
        ax.legend(handles=[self.line_, self.score_line_])


def _find_tuner(estimator: Any) -> SentenceEmbeddingFineTuner | None:
    """Return the fine-tuner in an estimator, however it is wrapped; None if there is none."""
    if isinstance(estimator, SentenceEmbeddingFineTuner):
        return estimator
    if isinstance(estimator, FrozenEstimator):
        return _find_tuner(estimator.estimator)
    if isinstance(estimator, Pipeline):
        return next((tuner for _, step in estimator.steps if (tuner := _find_tuner(step)) is not None), None)
    inside = getattr(estimator, "best_estimator_", getattr(estimator, "embedder_", None))  # a search, a PairSimilarity
    return None if inside is None else _find_tuner(inside)
