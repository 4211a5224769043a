"""TopicMapDisplay: a map of topics with their names on it. Imports embedders and the rooms beside it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.embedders import unit_vectors
from skembed.optional import require
from skembed.plotting import drawing, inputs
from skembed.plotting.embedding_map import EmbeddingMapDisplay
from skembed.plotting.placement import densest_place
from skembed.plotting.projections import project_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from plotly.graph_objects import Figure as PlotlyFigure

_MOST_NAMED = 30  # topics whose names can be read on one map


class TopicMapDisplay:
    """Map of topics: each text is a point in the colour of its topic, and the names of the topics stand on the map.

    Create one with :meth:`from_estimator`, which also draws it. All parameters are stored as attributes.

    Parameters
    ----------
    positions : array of float, shape (n_rows, 2)
        Positions of the points. Rows with NaN are not drawn.
    topics : column of int, length n_rows
        Topic of each row; -1 or missing: none, drawn in grey.
    names : Series, dict or list, default=None
        Name of each topic: of a Series by its index, of a list by position. A topic without one is called "topic 3".
    texts : column of length n_rows, default=None
        For :meth:`plot_interactive`, which shows them on hover.
    index : sequence of length n_rows, default=None
        Index labels, for :meth:`plot_interactive`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the map.
    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    TopicSizesDisplay : Bars of the sizes of topics, in all or over time.
    EmbeddingMapDisplay : Map of embeddings with any labels, and a legend.

    Notes
    -----
    Positions depend on the vectors alone, not on the topics: topics that are close are alike, and topics that overlap
    have texts in common ground. :class:`EmbeddingMapDisplay` describes the methods. "auto" is "tsne" for 50 rows and
    more; of more than 5,000 rows it draws a random sample of 5,000, because t-SNE of more takes many minutes, and the
    principal components of many topics lie over each other.

    The name of a topic stands where its points are densest, or as near to that as there is room: not over other names,
    and not over a large part of a topic. The 30 largest topics are named. Up to 18 topics have a colour each; of more,
    those of the same colour are far apart.

    Examples
    --------
    >>> from skembed import TopicMapDisplay, TopicModel
    >>> asked = ["Where is my parcel?", "The parcel is late.", "I forgot my password.", "The password does not work."]
    >>> model = TopicModel(n_topics=2).fit(asked)
    >>> TopicMapDisplay.from_estimator(model, asked).ax_.get_title(loc="left")
    '4 texts, 2 topics'

    With positions and topics of your own:

    >>> positions = [[0.0, 0.1], [0.2, 0.0], [5.0, 4.9], [5.1, 5.2], [5.2, 5.0]]
    >>> display = TopicMapDisplay(positions, topics=[1, 1, 0, 0, 0], names=["refunds", "delivery"]).plot()
    >>> display.ax_.get_title(loc="left")
    '5 texts, 2 topics'
    """

    def __init__(self, positions: Any, topics: Any, *, names: Any = None, texts: Any = None, index: Any = None) -> None:
        self.positions = inputs.read_positions(positions)
        self.topics = inputs.read_topics(topics, len(self.positions))
        self.names = inputs.read_names(names, self.topics)
        self.texts = inputs.read_one_column(texts, "texts", len(self.positions))
        self.index = inputs.read_one_column(index, "index", len(self.positions))

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        method: Literal["auto", "pca", "tsne", "umap"] = "auto",
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the map of a fitted topic model.

        Parameters
        ----------
        estimator : TopicModel, or pipeline that ends in one
            Fitted.
        X : column of texts or of vectors, n_rows rows
            What it was fitted to, or new rows, which get the topics that it predicts. Missing rows are left out.
        method : {"auto", "pca", "tsne", "umap"}, default="auto"
            How positions are computed; see the notes of the class.
        random_state : int, RandomState or None, default=0
            Seed; with None the map may differ each time.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        TopicMapDisplay

        Raises
        ------
        TypeError, ValueError
            If the estimator is no fitted TopicModel, X does not become vectors, fewer than two rows have one, or the
            method does not exist.
        ImportError
            If matplotlib or the library of the method is not installed.
        """
        inputs.check_can_draw(cls, method)
        model = inputs.find_topic_model(estimator)
        features = inputs.compute_features(estimator, X)  # embeds texts; the model then predicts from their vectors
        topics = model.predict(features)
        vectors = unit_vectors(inputs.read_vector_column(features, "X"), None)
        positions = project_sample(vectors, method, random_state)
        names, texts = model.topics_["name"], inputs.texts_or_none(X)
        return cls(positions, topics, names=names, texts=texts, index=inputs.index_of(X)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, scatter_kw: dict[str, Any] | None = None) -> Self:
        """Draw the map with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure of a suitable size.
        scatter_kw : dict, default=None
            Further parameters of :meth:`matplotlib.axes.Axes.scatter`, e.g. ``{"s": 5, "alpha": 1}``.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = inputs.import_pyplot(type(self))
        rows = inputs.placed_rows(self.positions)
        if ax is None:
            ax = plt.subplots(figsize=_figure_size(self.positions[rows]), layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        ax.set_title(self._title(), loc="left", **drawing.TITLE)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        self._explain(n_named=min(len(self.names), _MOST_NAMED))  # the layout makes room for it
        drawing.frame_points(ax, self.positions[rows], margin=0.02)
        n_named = self._draw_topics(rows, scatter_kw or {})
        self._explain(n_named)
        return self

    def plot_interactive(self) -> PlotlyFigure:
        """Draw the map with plotly: hovering over a point shows its text, topic, position and index label.

        Returns
        -------
        plotly.graph_objects.Figure
            Not shown yet: a notebook shows it as the last line of a cell, a script with ``.show()``.

        Raises
        ------
        ImportError
            If plotly is not installed.
        """
        require("plotly.graph_objects", package="plotly", needed_by=f"{type(self).__name__}.plot_interactive")
        named = pd.Categorical(pd.Series(self.topics).map(self.names), categories=self.names.unique())
        labels = pd.Series(named, name="topic")
        figure = EmbeddingMapDisplay(
            self.positions, labels=labels, texts=self.texts, index=self.index
        ).plot_interactive()
        return figure.update_layout(title_text=self._title(), xaxis_title_text="", yaxis_title_text="")

    def _draw_topics(self, rows: NDArray[np.intp], scatter_kw: dict[str, Any]) -> int:
        """Draw the points, mixed so that no topic hides another, and the names; return how many there is room for."""
        points, codes = (
            self.positions[rows],
            self.names.index.get_indexer(pd.Index(self.topics[rows])),
        )  # -1 without a topic
        sizes = np.bincount(codes[codes >= 0], minlength=len(self.names))
        largest = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        places = np.array([densest_place(points[codes == code]) for code in largest]).reshape(-1, 2)
        colors = np.full(len(sizes) + 1, drawing.GREY, dtype=object)  # the last one is that of -1
        colors[largest] = drawing.spread_colors(places)
        order = np.random.default_rng(0).permutation(len(rows))
        order = order[np.argsort(codes[order] >= 0, kind="stable")]  # grey ones at the back
        style: dict[str, Any] = {"c": list(colors[codes[order]]), **drawing.point_style(len(rows))}
        style["alpha"] = max(style["alpha"], 0.65)
        self.ax_.scatter(*points[order].T, **{**style, **scatter_kw})
        named = largest[:_MOST_NAMED]
        names = [drawing.wrapped(name, 20, 3) for name in self.names.iloc[named]]
        shares = np.append(1 / np.maximum(sizes, 1), 0)[codes]  # each point's of its topic
        return drawing.write_names(self.ax_, places[: len(named)], names, list(colors[named]), points, shares)

    def _title(self) -> str:
        n_rows = int((~self._is_left_out()).sum())
        return f"{drawing.counted(n_rows, 'text')}, {drawing.counted(len(self.names), 'topic')}"

    def _is_left_out(self) -> NDArray[np.bool_]:
        """Return which rows have neither a position nor a topic: those without a text."""
        left_out: NDArray[np.bool_] = np.isnan(self.positions).any(axis=1) & (self.topics < 0)
        return left_out

    def _explain(self, n_named: int) -> None:
        """Write below the map how to read it, and what is not on it."""
        has_place = ~np.isnan(self.positions).any(axis=1)
        counts: list[tuple[str, Any, str]] = [
            ("Not named", len(self.names) - n_named, "smaller topic"),
            ("Not drawn", np.count_nonzero(~has_place & (self.topics >= 0)), "text"),
            ("Grey, without a topic", np.count_nonzero(has_place & (self.topics < 0)), "text"),
            ("Left out, without a text", np.count_nonzero(self._is_left_out()), "row"),
        ]
        notes = [f"{what}: {drawing.counted(number, noun)}." for what, number, noun in counts if number]
        text = textwrap.fill(" ".join(["Similar texts are close together.", *notes]), drawing.room_in(self.ax_))
        self.ax_.set_xlabel(text, loc="left", **drawing.NOTE)


def _figure_size(points: NDArray[np.float64]) -> tuple[float, float]:
    """Choose a figure that is wide enough for some names, and not much wider than the points need."""
    width, height = np.ptp(points, axis=0)
    return float(np.clip(7 * width / (height or 1), 7, 11)), 7.5
