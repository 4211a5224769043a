"""A map of embeddings in two dimensions. Imports what embeds texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_clusterer
from sklearn.decomposition import PCA

from skembed.embedders import resolve_embedder, unit_vectors
from skembed.optional import require
from skembed.plotting.drawing import (
    MARKERS,
    annotate,
    draw_layer,
    draw_legend,
    frame_points,
    point_style,
    split_by_look,
    wrapped,
    wrapped_html,
)
from skembed.plotting.inputs import (
    compute_features,
    find_predictor,
    import_pyplot,
    index_of,
    read_one_column,
    read_texts,
    refuse_texts,
    texts_or_none,
    with_index_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from plotly.graph_objects import Figure as PlotlyFigure


_METHODS = {"auto": "", "pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}  # method → its name on the axes


_TSNE_FROM, _TSNE_UP_TO = 50, 5_000  # rows: neighbours say little among fewer, and more take minutes
_MOST_ANNOTATED = 20  # points with their text


class EmbeddingMapDisplay:
    """Map of embeddings: each row a point, what is alike close together.

    Make one with :meth:`from_texts`, :meth:`from_embeddings` or :meth:`from_estimator`, which also draw it. All
    parameters are stored as attributes.

    Parameters
    ----------
    positions : array of float, shape (n_rows, 2)
        Where the points lie. Rows with NaN are not drawn; the title says how many.
    labels : column of length n_rows, default=None
        What the colours mean. Floats are scores and get a colour bar; anything else is a category with a colour and a
        marker of its own. Missing labels and the integer -1, which clusterers give a row without a cluster, are grey.
        Of more than 20 categories the 19 most frequent are told apart. A Series is read by position; its name heads
        the legend.
    texts : column of length n_rows, default=None
        Written beside the points if there are 20 or fewer; what :meth:`plot_interactive` shows of a point.
    index : sequence of length n_rows, default=None
        Index labels, for :meth:`plot_interactive`.
    method : str, default=None
        Where the positions are from, e.g. "pca"; names the axes.
    explained_variance_ratio : array of float, shape (2,), default=None
        Share of the variance along each axis, from 0 to 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What the map was drawn on.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    SimilarityDisplay : The cosines themselves, of a few dozen rows.

    Notes
    -----
    Vectors are brought to length 1, so that the map shows angles between them. Its methods:

    - "pca" keeps the directions of largest variance, and takes seconds even for 60,000 rows. Groups that it lays over
      each other may still lie apart.
    - "tsne" keeps neighbours together (van der Maaten & Hinton, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html).
      It is given the 50 largest principal components, and starts from the first two (Kobak & Berens, 2019,
      https://doi.org/10.1038/s41467-019-13056-x). Sizes of groups, and distances between them, mean little. 5,000 rows
      take up to a minute, 60,000 many.
    - "umap" (McInnes, Healy & Melville, 2018, https://arxiv.org/abs/1802.03426) is like it, and faster for many rows.
      It needs the package umap-learn, and 4 rows.
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
        self.positions: NDArray[np.float64] = np.asarray(positions, dtype=np.float64)
        if self.positions.ndim != 2 or self.positions.shape[1] != 2:
            raise ValueError(f"positions must have the shape (n_rows, 2); got {self.positions.shape}.")
        if np.isnan(self.positions).any(axis=1).all():
            raise ValueError("No row has a position.")
        self.labels = read_one_column(labels, "labels", len(self.positions))
        self.texts = read_one_column(texts, "texts", len(self.positions))
        self.index = read_one_column(index, "index", len(self.positions))
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
        """Draw a map of vectors that are there already.

        Parameters
        ----------
        X : column of vectors, shape (n_rows, dim)
            As :class:`VectorArray` reads them; missing ones are left out.
        labels : column of length n_rows, default=None
            What the colours mean: scores, if they are floats, or categories.
        texts : column of length n_rows, default=None
            Written beside the points if there are 20 or fewer; what :meth:`plot_interactive` shows of a point.
        method : {"auto", "pca", "tsne", "umap"}, default="auto"
            How positions are found; see the notes on the class.
        random_state : int, RandomState or None, default=0
            Seed; None may draw another map each time.
        ax : matplotlib Axes, default=None
            What to draw on; None: a new figure.

        Returns
        -------
        EmbeddingMapDisplay

        Raises
        ------
        TypeError, ValueError
            If X holds no vectors, fewer than two rows have one, lengths differ, or there is no such method.
        ImportError
            If matplotlib, or what the method needs, is not installed.
        """
        _refuse_what_cannot_be_drawn(cls, method)
        refuse_texts(X, "X")
        vectors = unit_vectors(X, None)
        n_rows, is_there = len(vectors), ~np.isnan(vectors).any(axis=1)
        labels, texts = (
            read_one_column(labels, "labels", n_rows),
            read_one_column(texts, "texts", n_rows),
        )  # before minutes of t-SNE
        positions = np.full((n_rows, 2), np.nan)
        positions[is_there], method, shares = _project(vectors[is_there], method, random_state, n_rows)
        display = cls(
            positions, labels=labels, texts=texts, index=index_of(X), method=method, explained_variance_ratio=shares
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
        """Embed texts, and draw a map of them.

        Parameters
        ----------
        texts : column of texts, length n_rows
            As :class:`SentenceEmbeddingTransformer` reads them; missing ones are left out.
        embedder : transformer, default=None
            What embeds texts, e.g. a :class:`SentenceEmbeddingTransformer`; None: one with ``missing="nan"``. A fitted
            embedder is used as it is; one that is not fitted is cloned, and learns from these texts.
        labels, method, random_state, ax
            As of :meth:`from_embeddings`.

        Returns
        -------
        EmbeddingMapDisplay

        Raises
        ------
        TypeError, ValueError
            If a text is not what it must be, fewer than two are there, lengths differ, or there is no such method.
        ImportError
            If matplotlib, or what the method needs, is not installed.
        """
        _refuse_what_cannot_be_drawn(cls, method)
        embedder = resolve_embedder(embedder, missing="nan")
        column = read_texts(texts, "texts", embedder)
        read_one_column(labels, "labels", len(column))  # its error comes before minutes of embedding
        vectors = with_index_of(texts, unit_vectors(column, embedder))
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
        """Draw a map of what a transformer makes, or of what a classifier or clusterer is given.

        Parameters
        ----------
        estimator : transformer, classifier, clusterer, or pipeline that ends in one
            Fitted, or one that needs no fit; a search stands for its best estimator. If it predicts, the map shows
            what goes into it, or into the last step of the pipeline, coloured by its predictions.
        X : what the estimator takes, n_rows of it
        labels : column of length n_rows, default=None
            What the colours mean, instead of predictions: scores, if they are floats, or categories.
        texts : column of length n_rows, default=None
            As of :meth:`from_embeddings`; None: X, if it is a column of texts.
        method, random_state, ax
            As of :meth:`from_embeddings`.

        Returns
        -------
        EmbeddingMapDisplay

        Raises
        ------
        TypeError, ValueError
            If X becomes no vectors, fewer than two rows have one, lengths differ, a clusterer cannot say where X
            belongs, or there is no such method.
        ImportError
            If matplotlib, or what the method needs, is not installed.
        """
        _refuse_what_cannot_be_drawn(cls, method)
        labels = _predictions(estimator, X) if labels is None else labels
        texts = texts_or_none(X) if texts is None else texts
        return cls.from_embeddings(
            compute_features(estimator, X), labels=labels, texts=texts, method=method, random_state=random_state, ax=ax
        )

    def plot(self, *, ax: Axes | None = None, scatter_kw: dict[str, Any] | None = None) -> Self:
        """Draw the map with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on; None: a new figure. A legend stands to the right of it: leave room, e.g. with
            ``plt.subplots(layout="constrained")``.
        scatter_kw : dict, default=None
            What else :meth:`matplotlib.axes.Axes.scatter` is given, e.g. ``{"s": 5, "alpha": 1}``.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = import_pyplot(type(self))
        rows, (x_name, y_name) = self._rows(), self._axis_names()
        texts = None if self.texts is None or len(rows) > _MOST_ANNOTATED else self.texts.iloc[rows]
        if ax is None:
            ax = plt.subplots(figsize=None if texts is None else (9, 6.5), layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        layers = split_by_look(self.labels, rows)
        style = {**point_style(len(rows)), **(scatter_kw or {})}
        points = [draw_layer(ax, self.positions[layer.rows], layer, style) for layer in layers]
        draw_legend(ax, layers, points, wrapped(self._label_name(), 30, 2))
        ax.set(xlabel=x_name, ylabel=y_name, xticks=[], yticks=[])
        if self._left_out():
            ax.set_title(self._left_out(), fontsize="medium", loc="left")
        frame_points(ax, self.positions[rows], margin=0.05 if texts is None else 0.2)
        if texts is not None:
            annotate(ax, self.positions[rows], texts)
        return self

    def plot_interactive(self) -> PlotlyFigure:
        """Draw the map with plotly: the pointer over a point shows its text, label, position and index label.

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
        label_name = {"text": wrapped_html(self._label_name(), 30)}
        layout = {
            "template": "simple_white",
            "title": {"text": self._left_out()},
            "legend": {"title": label_name, "itemsizing": "constant"},
            "xaxis": {"title": {"text": x_name}, **axis},
            "yaxis": {"title": {"text": y_name}, "scaleanchor": "x", **axis},
            "hoverlabel": {"align": "left"},
        }
        figure = plotly.Figure(layout=layout)
        for layer in split_by_look(self.labels, rows):
            style = point_style(len(rows))
            marker = {
                "color": layer.color,
                "symbol": MARKERS[layer.marker],
                "size": 1.5 * style["s"] ** 0.5,  # s is an area
                "opacity": style["alpha"],
                "colorscale": "Viridis",
                "showscale": layer.is_scored,
                "colorbar": {"title": label_name},
            }
            figure.add_scattergl(
                x=self.positions[layer.rows, 0],
                y=self.positions[layer.rows, 1],
                mode="markers",
                name=wrapped_html(layer.name, 30),
                showlegend=layer.name != "",
                hovertext=[self._hover(row) for row in layer.rows.tolist()],
                hoverinfo="text",
                marker=marker,
            )
        return figure

    def _rows(self) -> NDArray[np.intp]:
        return np.flatnonzero(~np.isnan(self.positions).any(axis=1))

    def _left_out(self) -> str:
        n_missing = len(self.positions) - len(self._rows())
        return f"left out: {n_missing} row{'s' * (n_missing > 1)} without a vector" if n_missing else ""

    def _label_name(self) -> str:
        return "" if self.labels is None or self.labels.name is None else str(self.labels.name)

    def _axis_names(self) -> list[str]:
        name = "dimension" if self.method is None else _METHODS.get(self.method, self.method)
        shares = self.explained_variance_ratio
        of_variance = ["", ""] if shares is None else [f" ({100 * share:.0f} % of variance)" for share in shares]
        return [f"{name} {axis}{share}" for axis, share in enumerate(of_variance, start=1)]

    def _hover(self, row: int) -> str:
        """Say what there is to say of a row, in the HTML of plotly."""
        lines = []
        if self.texts is not None and not pd.isna(self.texts[row]):
            lines.append(wrapped_html(self.texts[row], 70, most_lines=10))
        if self.labels is not None:
            lines.append(f"{wrapped_html(self._label_name(), 70) or 'label'}: {wrapped_html(self.labels[row], 70)}")
        index_label = "" if self.index is None else f" (index label {wrapped_html(self.index[row], 70)})"
        return "<br>".join([*lines, f"row {row}{index_label}"])


def _umap() -> Any:
    return require("umap", package="umap-learn", needed_by="method='umap'")


def _predictions(estimator: Any, X: Any) -> pd.Series[Any] | None:
    """Find what an estimator says of X, or what a clusterer said at its fit; None for a transformer."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    predictor = find_predictor(estimator)
    if predictor is None:
        return None
    labels = estimator.predict(X) if hasattr(predictor, "predict") else getattr(predictor, "labels_", None)
    if labels is None:
        raise TypeError(f"{type(predictor).__name__} has neither predict nor labels_; pass labels.")
    return pd.Series(labels, name="cluster" if is_clusterer(predictor) else "prediction")


def _project(vectors: NDArray[np.float32], method: str, random_state: Any, n_rows: int) -> tuple[Any, Any, Any]:
    """Find two-dimensional positions, the method that "auto" took, and for PCA each axis's share of the variance."""
    n_there = len(vectors)
    fewest = 4 if method == "umap" else 2
    if n_there < fewest:
        raise ValueError(f"A map needs at least {fewest} rows with a vector; got {n_there}, of {n_rows} rows.")
    if method == "auto":
        method = "tsne" if _TSNE_FROM <= n_there <= _TSNE_UP_TO else "pca"
    if method == "pca":
        positions, shares = _principal_components(vectors, 2, random_state)
        return positions, method, shares
    if method == "tsne":
        return _tsne(vectors, random_state), method, None
    n_jobs = -1 if random_state is None else 1  # with a seed it takes one, and warns if it may take more
    reducer = _umap().UMAP(n_neighbors=min(15, n_there - 1), metric="cosine", random_state=random_state, n_jobs=n_jobs)
    return reducer.fit_transform(vectors), method, None


def _tsne(vectors: NDArray[np.float32], random_state: Any) -> Any:
    from sklearn.manifold import TSNE

    points, _ = _principal_components(vectors, 50, random_state)
    start = 1e-4 * points[:, :2] / (points[:, 0].std() or 1)  # as init="pca", which divides by 0 if all are equal
    tsne = TSNE(perplexity=min(30, (len(vectors) - 1) / 3), init=start, random_state=random_state)
    return tsne.fit_transform(points)


def _principal_components(vectors: NDArray[np.float32], most: int, random_state: Any) -> tuple[Any, Any]:
    """Keep the largest components, at least two, and find each one's share of the variance."""
    pca = PCA(min(most, *vectors.shape), random_state=random_state)
    with np.errstate(invalid="ignore"):  # equal vectors have no variance to share
        points = pca.fit_transform(vectors)
    n_lacking = max(0, 2 - points.shape[1])  # of vectors with one dimension
    shares = np.pad(np.nan_to_num(pca.explained_variance_ratio_), (0, n_lacking))
    return np.pad(points, ((0, 0), (0, n_lacking))), shares


def _refuse_what_cannot_be_drawn(display: type, method: str) -> None:
    """Refuse, before minutes of embedding, what would fail after them."""
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, _METHODS))}; got {method!r}.")
    import_pyplot(display)
    if method == "umap":
        _umap()
