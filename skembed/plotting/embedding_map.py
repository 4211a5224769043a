"""EmbeddingMapDisplay: embeddings as points in two dimensions. Imports embedders and the rooms beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_clusterer

from skembed.embedders import resolve_embedder, unit_vectors
from skembed.optional import require
from skembed.plotting import drawing, inputs
from skembed.plotting.projections import METHODS, project

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from plotly.graph_objects import Figure as PlotlyFigure

_MOST_ANNOTATED = 20  # points that have their text beside them


class EmbeddingMapDisplay:
    """Map of embeddings: each row is a point, and similar rows are close together.

    Create one with :meth:`from_texts`, :meth:`from_embeddings` or :meth:`from_estimator`, which also draw it. All
    parameters are stored as attributes.

    Parameters
    ----------
    positions : array of float, shape (n_rows, 2)
        Positions of the points. Rows with NaN are not drawn; the title gives their number.
    labels : column of length n_rows, default=None
        Meaning of the colours. Floats are scores, explained by a colour bar. Anything else is a category with its own
        colour and marker. Missing labels and the integer -1, the label of rows without a cluster, are grey. Of more
        than 20 categories, the 19 most frequent have their own look. A Series is read by position; its name is the
        title of the legend.
    texts : column of length n_rows, default=None
        Written beside the points if there are 20 or fewer; :meth:`plot_interactive` shows them on hover.
    index : sequence of length n_rows, default=None
        Index labels, for :meth:`plot_interactive`.
    method : str, default=None
        How the positions were computed, e.g. "pca"; names the axes.
    explained_variance_ratio : array of float, shape (2,), default=None
        Share of the variance along each axis, from 0 to 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the map.
    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    SimilarityDisplay : Heat map of the cosines of a few dozen rows.
    TopicMapDisplay : Map of the topics of a topic model, with their names on it.

    Notes
    -----
    Vectors are scaled to length 1, so that the map shows the angles between them. The methods are:

    - "pca" keeps the directions of largest variance, and takes seconds even for 60,000 rows. Groups that overlap on the
      map may still be separate.
    - "tsne" keeps neighbours together (van der Maaten & Hinton, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html).
      It uses the 50 largest principal components and starts from the first two (Kobak & Berens, 2019,
      https://doi.org/10.1038/s41467-019-13056-x). Sizes of groups and distances between them mean little. 5,000 rows
      take up to a minute, 60,000 many minutes.
    - "umap" (McInnes, Healy & Melville, 2018, https://arxiv.org/abs/1802.03426) is similar, and faster for many rows.
      It needs the package umap-learn and at least 4 rows.
    - "auto" is "tsne" for 50 to 5,000 rows with a vector, and "pca" for fewer and for more.

    Examples
    --------
    >>> from skembed import EmbeddingMapDisplay
    >>> texts = ["A cat sat.", "A kitten sat.", "Stocks fell.", "Markets dropped."]
    >>> display = EmbeddingMapDisplay.from_texts(texts, labels=["pets", "pets", "money", "money"])
    >>> display.method, display.positions.shape
    ('pca', (4, 2))
    >>> display.ax_.get_xlabel()
    'PCA 1 (79 % of variance)'
    """

    def __init__(
        self,
        positions: Any,
        *,
        labels: Any = None,
        texts: Any = None,
        index: Any = None,
        method: str | None = None,
        explained_variance_ratio: Any = None,
    ) -> None:
        self.positions = inputs.read_positions(positions)
        self.labels = inputs.read_one_column(labels, "labels", len(self.positions))
        self.texts = inputs.read_one_column(texts, "texts", len(self.positions))
        self.index = inputs.read_one_column(index, "index", len(self.positions))
        self.method = method
        self.explained_variance_ratio = explained_variance_ratio

    @classmethod
    def from_embeddings(
        cls,
        X: Any,
        *,
        labels: Any = None,
        texts: Any = None,
        method: Literal["auto", "pca", "tsne", "umap"] = "auto",
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw a map of given vectors.

        Parameters
        ----------
        X : column of vectors, shape (n_rows, dim)
            As :class:`VectorArray` reads them; missing ones are left out.
        labels : column of length n_rows, default=None
            Meaning of the colours: scores if they are floats, else categories.
        texts : column of length n_rows, default=None
            Written beside the points if there are 20 or fewer; :meth:`plot_interactive` shows them on hover.
        method : {"auto", "pca", "tsne", "umap"}, default="auto"
            How positions are computed; see the notes of the class.
        random_state : int, RandomState or None, default=0
            Seed; with None the map may differ each time.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        EmbeddingMapDisplay

        Raises
        ------
        TypeError, ValueError
            If X does not hold vectors, fewer than two rows have one, lengths differ, or the method does not exist.
        ImportError
            If matplotlib or the library of the method is not installed.
        """
        inputs.check_can_draw(cls, method)
        vectors = unit_vectors(inputs.read_vector_column(X, "X"), None)
        labels = inputs.read_one_column(labels, "labels", len(vectors))  # raises before minutes of t-SNE
        texts = inputs.read_one_column(texts, "texts", len(vectors))
        positions, chosen, shares = project(vectors, method, random_state)
        index = inputs.index_of(X)
        display = cls(
            positions, labels=labels, texts=texts, index=index, method=chosen, explained_variance_ratio=shares
        )
        return display.plot(ax=ax)

    @classmethod
    def from_texts(
        cls,
        texts: Any,
        *,
        embedder: BaseEstimator | None = None,
        labels: Any = None,
        method: Literal["auto", "pca", "tsne", "umap"] = "auto",
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Embed texts and draw a map of them.

        Parameters
        ----------
        texts : column of texts, length n_rows
            As :class:`SentenceEmbeddingTransformer` reads them; missing ones are left out.
        embedder : transformer, default=None
            Embeds the texts, e.g. a :class:`SentenceEmbeddingTransformer`; None uses one with ``missing="nan"``. A
            fitted embedder is used as it is; another one is cloned and fitted on these texts.
        labels, method, random_state, ax
            As for :meth:`from_embeddings`.

        Returns
        -------
        EmbeddingMapDisplay

        Raises
        ------
        TypeError, ValueError
            If a text is not what it must be, there are fewer than two, lengths differ, or the method does not exist.
        ImportError
            If matplotlib or the library of the method is not installed.
        """
        inputs.check_can_draw(cls, method)
        embedder = resolve_embedder(embedder, missing="nan")
        column = inputs.read_texts(texts, "texts", embedder)
        inputs.read_one_column(labels, "labels", len(column))  # raises before minutes of embedding
        vectors = inputs.with_index_of(texts, unit_vectors(column, embedder))
        plain = column.to_objects()
        return cls.from_embeddings(vectors, labels=labels, texts=plain, method=method, random_state=random_state, ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        labels: Any = None,
        texts: Any = None,
        method: Literal["auto", "pca", "tsne", "umap"] = "auto",
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw a map of the output of a transformer, or of the input of a classifier or clusterer.

        Parameters
        ----------
        estimator : transformer, classifier, clusterer, or pipeline that ends in one
            Fitted, or one that needs no fit; of a search, the best estimator is used. If it predicts, the map shows its
            input, or that of the last step of the pipeline, coloured by its predictions.
        X : input of the estimator, n_rows rows
        labels : column of length n_rows, default=None
            Meaning of the colours, instead of predictions: scores if they are floats, else categories.
        texts : column of length n_rows, default=None
            As for :meth:`from_embeddings`; None uses X if it is a column of texts.
        method, random_state, ax
            As for :meth:`from_embeddings`.

        Returns
        -------
        EmbeddingMapDisplay

        Raises
        ------
        TypeError, ValueError
            If X does not become vectors, fewer than two rows have one, lengths differ, a clusterer has no labels for X,
            or the method does not exist.
        ImportError
            If matplotlib or the library of the method is not installed.
        """
        inputs.check_can_draw(cls, method)
        labels = _predict(estimator, X) if labels is None else labels
        texts = inputs.texts_or_none(X) if texts is None else texts
        vectors = inputs.compute_features(estimator, X)
        return cls.from_embeddings(vectors, labels=labels, texts=texts, method=method, random_state=random_state, ax=ax)

    def plot(self, *, ax: Axes | None = None, scatter_kw: dict[str, Any] | None = None) -> Self:
        """Draw the map with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure. The legend is to the right of the axes: leave room, e.g. with
            ``plt.subplots(layout="constrained")``.
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
        rows, (x_name, y_name) = self._rows(), self._axis_names()
        texts = None if self.texts is None or len(rows) > _MOST_ANNOTATED else self.texts.iloc[rows]
        if ax is None:
            ax = plt.subplots(figsize=None if texts is None else (9, 6.5), layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        layers = drawing.split_by_look(self.labels, rows)
        style = {**drawing.point_style(len(rows)), **(scatter_kw or {})}
        points = [drawing.draw_layer(ax, self.positions[layer.rows], layer, style) for layer in layers]
        drawing.draw_legend(ax, layers, points, drawing.wrapped(self._label_name(), 30, 2))
        ax.set(xlabel=x_name, ylabel=y_name, xticks=[], yticks=[])
        if self._left_out():
            ax.set_title(self._left_out(), fontsize="medium", loc="left")
        drawing.frame_points(ax, self.positions[rows], margin=0.05 if texts is None else 0.2)
        if texts is not None:
            drawing.annotate(ax, self.positions[rows], texts)
        return self

    def plot_interactive(self) -> PlotlyFigure:
        """Draw the map with plotly: hovering over a point shows its text, label, position and index label.

        Returns
        -------
        plotly.graph_objects.Figure
            Not shown yet: a notebook shows it as the last line of a cell, a script with ``.show()``.

        Raises
        ------
        ImportError
            If plotly is not installed.
        """
        plotly = require("plotly.graph_objects", package="plotly", needed_by=f"{type(self).__name__}.plot_interactive")
        rows, (x_name, y_name) = self._rows(), self._axis_names()
        axis = {"showticklabels": False, "ticks": "", "mirror": True}
        layout = {
            "template": "simple_white",
            "title": {"text": self._left_out()},
            "legend": {"title": self._label_title(), "itemsizing": "constant"},
            "xaxis": {"title": {"text": x_name}, **axis},
            "yaxis": {"title": {"text": y_name}, "scaleanchor": "x", **axis},
            "hoverlabel": {"align": "left"},
        }
        figure = plotly.Figure(layout=layout)
        style = drawing.point_style(len(rows))
        for layer in drawing.split_by_look(self.labels, rows):
            figure.add_scattergl(
                x=self.positions[layer.rows, 0],
                y=self.positions[layer.rows, 1],
                mode="markers",
                name=drawing.wrapped_html(layer.name, 30),
                showlegend=layer.name != "",
                hovertext=[self._hover_text(row) for row in layer.rows.tolist()],
                hoverinfo="text",
                marker={
                    "color": layer.color,
                    "symbol": drawing.MARKERS[layer.marker],
                    "size": 1.5 * style["s"] ** 0.5,  # s is an area
                    "opacity": style["alpha"],
                    "colorscale": "Viridis",
                    "showscale": layer.is_scored,
                    "colorbar": {"title": self._label_title()},
                },
            )
        return figure

    def _rows(self) -> NDArray[np.intp]:
        return inputs.placed_rows(self.positions)

    def _left_out(self) -> str:
        n_missing = len(self.positions) - len(self._rows())
        return f"left out: {drawing.counted(n_missing, 'row')} without a vector" if n_missing else ""

    def _label_name(self) -> str:
        return "" if self.labels is None or self.labels.name is None else str(self.labels.name)

    def _label_title(self) -> dict[str, str]:
        return {"text": drawing.wrapped_html(self._label_name(), 30)}

    def _axis_names(self) -> list[str]:
        name = "dimension" if self.method is None else METHODS.get(self.method, self.method)
        shares = self.explained_variance_ratio
        of_variance = ["", ""] if shares is None else [f" ({100 * share:.0f} % of variance)" for share in shares]
        return [f"{name} {axis}{share}" for axis, share in enumerate(of_variance, start=1)]

    def _hover_text(self, row: int) -> str:
        """Return what is known of a row, in the HTML of plotly."""
        lines = []
        if self.texts is not None and not pd.isna(self.texts[row]):
            lines.append(drawing.wrapped_html(self.texts[row], 70, most_lines=10))
        if self.labels is not None:
            name = drawing.wrapped_html(self._label_name(), 70) or "label"
            lines.append(f"{name}: {drawing.wrapped_html(self.labels[row], 70)}")
        index_label = "" if self.index is None else f" (index label {drawing.wrapped_html(self.index[row], 70)})"
        return "<br>".join([*lines, f"row {row}{index_label}"])


def _predict(estimator: Any, X: Any) -> pd.Series[Any] | None:
    """Return the predictions of an estimator, or the labels of a fitted clusterer; None for a transformer."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    predictor = inputs.find_predictor(estimator)
    if predictor is None:
        return None
    labels = estimator.predict(X) if hasattr(predictor, "predict") else getattr(predictor, "labels_", None)
    if labels is None:
        raise TypeError(f"{type(predictor).__name__} has neither predict nor labels_; pass labels.")
    return pd.Series(labels, name="cluster" if is_clusterer(predictor) else "prediction")
