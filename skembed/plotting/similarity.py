"""SimilarityDisplay: cosines as a heat map. Imports embedders and the rooms beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skembed.embedders import embed_pair, fit_embedder, resolve_embedder
from skembed.plotting.drawing import GREY, MOST_NUMBERS, name_ticks, write_numbers
from skembed.plotting.inputs import (
    compute_features,
    import_pyplot,
    index_of,
    read_one_column,
    read_texts,
    read_vector_column,
    texts_or_none,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

_MOST_CELLS = 2_000**2


class SimilarityDisplay:
    """Heat map of cosines: how similar each row is to each column.

    Create one with :meth:`from_texts`, :meth:`from_embeddings` or :meth:`from_estimator`, which also draw it. All
    parameters are stored as attributes.

    Parameters
    ----------
    similarities : array of float, shape (n_rows, n_columns)
        Cosines, from -1 to 1. Cells with NaN are grey.
    row_labels : column of length n_rows, default=None
        Names of the rows; None uses their positions.
    column_labels : column of length n_columns, default=None
        Names of the columns; None uses those of the rows if there are as many, else their positions.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the heat map.
    figure_ : matplotlib Figure
        The figure of the axes.
    im_ : matplotlib AxesImage
        The cells.

    See Also
    --------
    EmbeddingMapDisplay : Map of hundreds of rows and more.

    Notes
    -----
    Colours always range from -1 to 1 with white at 0, so that two heat maps can be compared. Cells hold numbers for up
    to 20 rows and columns, and labels are written for up to 50. There may be up to four million cells, e.g. 2,000 rows
    and columns.

    Examples
    --------
    >>> from skembed import SimilarityDisplay
    >>> display = SimilarityDisplay.from_texts(["A cat sat.", "A kitten sat.", "Stocks fell."])
    >>> display.similarities.round(2)
    array([[1.  , 0.81, 0.1 ],
           [0.81, 1.  , 0.14],
           [0.1 , 0.14, 1.  ]], dtype=float32)
    """

    def __init__(self, similarities: Any, row_labels: Any = None, column_labels: Any = None) -> None:
        self.similarities: NDArray[np.floating[Any]] = np.asarray(similarities)
        if self.similarities.ndim != 2 or self.similarities.size == 0:
            raise ValueError(f"similarities must have the shape (n_rows, n_columns); got {self.similarities.shape}.")
        n_rows, n_columns = self.similarities.shape
        _check_n_cells(n_rows, n_columns)
        is_cosine = np.isnan(self.similarities) | (np.abs(self.similarities) <= 1.01)  # half precision is off by less
        if not is_cosine.all():
            raise ValueError(f"similarities must be cosines, from -1 to 1; got {self.similarities[~is_cosine][0]:.3g}.")
        if column_labels is None and n_rows == n_columns:
            column_labels = row_labels
        self.row_labels = read_one_column(row_labels, "row_labels", n_rows)
        self.column_labels = read_one_column(column_labels, "column_labels", n_columns)

    @classmethod
    def from_embeddings(
        cls, X: Any, Y: Any = None, *, row_labels: Any = None, column_labels: Any = None, ax: Axes | None = None
    ) -> Self:
        """Draw the cosines of given vectors.

        Parameters
        ----------
        X : column of vectors, shape (n_rows, dim)
            As :class:`VectorArray` reads them; cells of missing ones are grey.
        Y : column of vectors, shape (n_columns, dim), default=None
            Vectors that X is compared with; None compares X with itself.
        row_labels : column of length n_rows, default=None
            Names of the rows; None uses index labels or positions.
        column_labels : column of length n_columns, default=None
            Names of the columns; None uses index labels or positions of Y, or the names of the rows without Y.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        SimilarityDisplay

        Raises
        ------
        TypeError, ValueError
            If X or Y does not hold vectors, their dimensions or models differ, the number of labels is not that of
            rows or columns, or there are too many cells.
        ImportError
            If matplotlib is not installed.
        """
        import_pyplot(cls)
        row_labels = index_of(X) if row_labels is None else row_labels
        if column_labels is None:
            column_labels = row_labels if Y is None else index_of(Y)
        rows = read_vector_column(X, "X")
        columns = rows if Y is None else read_vector_column(Y, "Y")
        left, right = embed_pair(rows, columns, resolve_embedder(None, missing="nan"))
        _check_n_cells(len(left), len(right))
        column_labels = range(len(right)) if column_labels is None else column_labels  # not those of the rows
        return cls((left @ right.T).clip(-1, 1), row_labels, column_labels).plot(ax=ax)

    @classmethod
    def from_texts(
        cls, texts: Any, other: Any = None, *, embedder: BaseEstimator | None = None, ax: Axes | None = None
    ) -> Self:
        """Embed texts and draw their cosines.

        Parameters
        ----------
        texts : column of texts, length n_rows
            As :class:`SentenceEmbeddingTransformer` reads them; cells of missing ones are grey.
        other : column of texts, length n_columns, default=None
            Texts that they are compared with; None compares them with themselves.
        embedder : transformer, default=None
            Embeds the texts, e.g. a :class:`SentenceEmbeddingTransformer`; None uses one with ``missing="nan"``. A
            fitted embedder is used as it is; another one is cloned and fitted on these texts.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        SimilarityDisplay

        Raises
        ------
        TypeError, ValueError
            If a text is not what it must be, or there are too many cells.
        ImportError
            If matplotlib is not installed.
        """
        import_pyplot(cls)
        embedder = resolve_embedder(embedder, missing="nan")
        rows = read_texts(texts, "texts", embedder)
        columns = rows if other is None else read_texts(other, "other", embedder)
        _check_n_cells(len(rows), len(columns))  # before minutes of embedding
        fit_embedder(embedder, [rows] if other is None else [rows, columns])
        left, right = embed_pair(rows, columns, embedder)
        labels = rows.to_objects(), columns.to_objects()
        return cls.from_embeddings(left, right, row_labels=labels[0], column_labels=labels[1], ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        Y: Any = None,
        *,
        row_labels: Any = None,
        column_labels: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the cosines of the output of a transformer, or of the input of a classifier or clusterer.

        Parameters
        ----------
        estimator : transformer, classifier, clusterer, or pipeline that ends in one
            Fitted, or one that needs no fit; of a search, the best estimator is used. If it predicts, its input, or
            that of the last step of the pipeline, is compared.
        X : input of the estimator, n_rows rows
        Y : input of the estimator, n_columns rows, default=None
            What X is compared with; None compares X with itself.
        row_labels, column_labels, ax
            As for :meth:`from_embeddings`; but texts are their own names.

        Returns
        -------
        SimilarityDisplay

        Raises
        ------
        TypeError, ValueError
            If X or Y does not become vectors, the number of labels is not that of rows or columns, or there are too
            many cells.
        ImportError
            If matplotlib is not installed.
        """
        import_pyplot(cls)
        row_labels = texts_or_none(X) if row_labels is None else row_labels
        if column_labels is None and Y is not None:
            column_labels = texts_or_none(Y)
        left, right = compute_features(estimator, X), None if Y is None else compute_features(estimator, Y)
        return cls.from_embeddings(left, right, row_labels=row_labels, column_labels=column_labels, ax=ax)

    def plot(self, *, ax: Axes | None = None, im_kw: dict[str, Any] | None = None) -> Self:
        """Draw the heat map with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a figure of a suitable size.
        im_kw : dict, default=None
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, e.g. ``{"cmap": "viridis", "vmin": 0}``.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = import_pyplot(type(self))
        n_rows, n_columns = self.similarities.shape
        if ax is None:
            size = (3.5 + np.clip(0.45 * n_columns, 1, 9), 1.5 + np.clip(0.45 * n_rows, 1, 9))
            ax = plt.subplots(figsize=size, layout="constrained")[1]
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        # aspect "equal" with a constrained layout cuts labels off
        style = {"cmap": plt.get_cmap("RdBu_r").with_extremes(bad=GREY), "vmin": -1, "vmax": 1, "aspect": "auto"}
        self.im_: AxesImage = ax.imshow(self.similarities, **{**style, **(im_kw or {})})
        self.figure_.colorbar(self.im_, ax=ax, label="cosine")
        name_ticks(ax.yaxis, self.row_labels, n_rows, most_lines=2)
        name_ticks(ax.xaxis, self.column_labels, n_columns, rotation=45, ha="right", rotation_mode="anchor")
        if max(n_rows, n_columns) <= MOST_NUMBERS:
            write_numbers(ax, self.im_, self.similarities)
        return self


def _check_n_cells(n_rows: int, n_columns: int) -> None:
    """Raise ValueError for more cells than a picture shows."""
    if n_rows * n_columns > _MOST_CELLS:
        raise ValueError(f"{n_rows:,} x {n_columns:,} cosines are too many for a picture; pass a sample of the rows.")
