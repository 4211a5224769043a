"""The course of a training. Imports the fine-tuner."""

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
    """Curves of a fine-tuning: the loss, and with early stopping the validation score.

    Make one with :meth:`from_estimator`, which also draws it. All parameters are stored as attributes.

    Parameters
    ----------
    history : DataFrame
        As :class:`SentenceEmbeddingFineTuner` keeps it in ``history_``: ``step``, ``loss`` and, if there is one,
        ``validation_score``; rows may lack either.
    loss_name : str, default=None
        Which loss it was; names the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What the loss was drawn on.
    score_ax_ : matplotlib Axes or None
        The axes of the validation score, on the right; None if there is none.
    figure_ : matplotlib Figure
        Their figure.
    line_ : matplotlib Line2D
        The loss.
    score_line_ : matplotlib Line2D or None
        The validation score.

    See Also
    --------
    SentenceEmbeddingFineTuner : Keeps the history of its training.

    Notes
    -----
    The star is the epoch that early stopping went back to.

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
            raise ValueError("history must be a frame with the columns step and loss, as history_ of a fine-tuner is.")
        self.history = history
        self.loss_name = loss_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the training of a fine-tuner.

        Parameters
        ----------
        estimator : SentenceEmbeddingFineTuner, or a PairSimilarity, pipeline or search that holds one
            Fitted; a search stands for its best estimator.
        ax : matplotlib Axes, default=None
            What to draw on; None: a new figure.

        Returns
        -------
        TrainingCurveDisplay

        Raises
        ------
        TypeError
            If there is no fitted fine-tuner in the estimator.
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
            What to draw on; None: a new figure.

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
        scores = self.history.dropna(subset="validation_score").reset_index()
        best = scores["validation_score"].argmax()
        right: Any = ax.twinx()
        style: dict[str, Any] = {"color": "tab:orange", "marker": "o", "label": "validation score"}
        self.score_ax_ = right
        self.score_line_ = right.plot(scores["step"], scores["validation_score"], **style)[0]
        right.plot(
            scores["step"][best], scores["validation_score"][best], color="tab:orange", marker="*", markersize=16
        )
        right.set_ylabel("validation score")
        ax.legend(handles=[self.line_, self.score_line_])


def _find_tuner(estimator: Any) -> SentenceEmbeddingFineTuner | None:
    """Find a fine-tuner, however it is wrapped."""
    if isinstance(estimator, SentenceEmbeddingFineTuner):
        return estimator
    if isinstance(estimator, FrozenEstimator):
        return _find_tuner(estimator.estimator)
    if isinstance(estimator, Pipeline):
        return next((tuner for _, step in estimator.steps if (tuner := _find_tuner(step)) is not None), None)
    inside = getattr(estimator, "best_estimator_", getattr(estimator, "embedder_", None))  # a search, a PairSimilarity
    return None if inside is None else _find_tuner(inside)
