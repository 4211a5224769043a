"""Drawing: colours, legends, and labels that do not overlap. Imports pandas and the placement of labels.

Functions receive their axes, so matplotlib is not imported before it is used.
"""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skembed.plotting.placement import overlaps, place_boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import PathCollection
    from matplotlib.image import AxesImage

_MOST_CATEGORIES = 20  # of a legend
MOST_NUMBERS, _MOST_TICK_LABELS = 20, 50  # rows or columns with numbers in their cells, with names
COLORS = (  # Paul Tol's "muted", safe for colour-blind people, https://sronpersonalpages.nl/~pault; then shades of it
    *("#332288", "#CC6677", "#117733", "#88CCEE", "#DDCC77", "#AA4499", "#44AA99", "#882255", "#999933"),
    *("#9990C3", "#70383F", "#88BB99", "#4B7082", "#7A7040", "#D4A1CC", "#255E54", "#C391AA", "#545419"),
)
GREY, _DARK_GREY = "#CCCCCC", "#888888"
TITLE: dict[str, Any] = {"fontsize": "x-large", "fontweight": "bold"}
NOTE: dict[str, Any] = {"fontsize": "medium", "color": "0.35"}
MARKERS = dict(  # of matplotlib → of plotly
    zip("os^DvPX*", ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star"], strict=True)
)
_MOST_REPEATED = 9  # colours, the most different ones, if each stands for several topics
_FAR = 8  # typographic points between a name and its place that need a line
_BRIGHTNESS = [0.299, 0.587, 0.114]  # of red, green and blue
_PLACES = np.array(  # offsets of a text from its point, in typographic points, the nearest first
    [(distance * x, distance * y) for distance in (7, 20, 33, 46) for x in (1, -1, 0) for y in (0, 1, -1) if x or y]
)


@dataclass(frozen=True)
class Layer:
    """Points of one look: their name in the legend, if any, and their colour, or the scores that determine it."""

    name: str
    rows: NDArray[np.intp]
    color: str | NDArray[np.float64]
    marker: str = "o"

    @property
    def is_scored(self) -> bool:
        """Whether the colours represent scores."""
        return not isinstance(self.color, str)


def split_by_look(labels: pd.Series[Any] | None, rows: NDArray[np.intp]) -> list[Layer]:
    """Group rows by the look of their labels; grey ones come last."""
    if labels is None:
        layers = [Layer("", rows, COLORS[0])]
    elif pd.api.types.is_float_dtype(labels.dtype):
        scores = labels.iloc[rows].to_numpy(np.float64, na_value=np.nan)
        is_finite = np.isfinite(scores)
        layers = [Layer("", rows[is_finite], scores[is_finite]), Layer("missing", rows[~is_finite], GREY)]
    else:
        layers = _category_layers(pd.Categorical(labels.iloc[rows]).remove_unused_categories(), rows)
    return [layer for layer in layers if len(layer.rows)]


def _category_layers(labels: pd.Categorical, rows: NDArray[np.intp]) -> list[Layer]:
    codes, names, markers = labels.codes, labels.categories.tolist(), list(MARKERS)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    noise = [code for code, name in enumerate(names) if isinstance(name, int) and name == -1]
    by_frequency = sorted(set(range(len(names))) - set(noise), key=lambda code: (-counts[code], code))
    n_named = len(by_frequency) if len(by_frequency) <= _MOST_CATEGORIES else _MOST_CATEGORIES - 1
    named, others = sorted(by_frequency[:n_named]), by_frequency[n_named:]
    layers = [
        Layer(str(names[code]) or '""', rows[codes == code], COLORS[i % len(COLORS)], markers[i % len(markers)])
        for i, code in enumerate(named)
    ]
    layers.append(Layer(f"{len(others)} others", rows[np.isin(codes, others)], _DARK_GREY))
    layers.append(Layer("-1", rows[np.isin(codes, noise)], GREY))
    return [*layers, Layer("missing", rows[codes == -1], GREY)]


def point_style(n_points: int) -> dict[str, Any]:
    """Return the style of points: the more there are, the smaller and fainter."""
    return {
        "s": float(np.clip(700 / np.sqrt(n_points), 2, 60)),
        "alpha": float(np.clip(1.6 - 0.3 * np.log10(n_points), 0.3, 0.9)),
        "linewidths": 0,
        "rasterized": n_points > 5_000,
    }


def draw_layer(ax: Axes, positions: NDArray[np.float64], layer: Layer, style: dict[str, Any]) -> PathCollection:
    """Scatter the points of a layer."""
    name = wrapped(layer.name, 30, 2)
    name = f" {name}" if name.startswith("_") else name  # a legend leaves out names that start with "_"
    is_grey = not layer.is_scored and layer.color in (GREY, _DARK_GREY)
    zorder = 1 if is_grey else 1 + 1 / (1 + len(positions))  # the rarest in front
    look = {"c": layer.color, "marker": layer.marker, "cmap": "viridis" if layer.is_scored else None}
    return ax.scatter(*positions.T, **{"label": name, "zorder": zorder, **look, **style})


def draw_legend(ax: Axes, layers: list[Layer], points: list[PathCollection], title: str) -> None:
    """Explain scores by a colour bar beside the axes, and categories by a legend beside them, or above the bar."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "title": title}
    for scored in (drawn for drawn, layer in zip(points, layers, strict=True) if layer.is_scored):
        colorbar: Any = ax.figure.colorbar(scored, ax=ax, label=title)
        colorbar.solids.set(alpha=1)
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    named = [drawn for drawn, layer in zip(points, layers, strict=True) if layer.name]
    if named:
        legend = ax.legend(handles=named, frameon=False, fontsize="small", alignment="left", **place)
        for handle in legend.legend_handles:
            handle.set(sizes=[36], alpha=0.9)  # type: ignore[union-attr] # of scatter


def frame_points(ax: Axes, positions: NDArray[np.float64], margin: float) -> None:
    """Set the limits so that the points fill the axes, with the same scale in both directions."""
    ax.figure.canvas.figure.draw_without_rendering()  # performs the layout, which determines the size of the axes
    box = ax.get_window_extent()
    middle, extent = (positions.min(axis=0) + positions.max(axis=0)) / 2, np.ptp(positions, axis=0)
    scale = max(extent[0] / box.width, extent[1] / box.height) or 1 / box.width  # 0 if all lie at one place
    half = (0.5 + margin) * scale * np.array([box.width, box.height])
    (left, bottom), (right, top) = middle - half, middle + half
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")


def annotate(ax: Axes, positions: NDArray[np.float64], texts: pd.Series[Any]) -> None:
    """Write each text beside its point, where it hides least of the other points and texts."""
    pixels = ax.figure.dpi / 72  # per typographic point
    points: NDArray[np.float64] = ax.transData.transform(positions)
    marks = np.hstack([points - 5 * pixels, points + 5 * pixels])  # left, bottom, right, top
    taken = np.tile(marks, (4, 1))  # hiding a point is worse than hiding words
    inside = np.array(ax.get_window_extent().extents)[None]
    line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 7}
    for position, point, text in zip(positions, points, texts, strict=True):
        if pd.isna(text):
            continue
        note = wrapped(text, 28, 2)
        size = np.array(_size_of(ax, note, {"fontsize": "small"}))
        corners = point + _PLACES * pixels + (np.sign(_PLACES) - 1) / 2 * size
        boxes = np.hstack([corners, corners + size])
        hidden = overlaps(boxes, taken).sum(axis=1) + size.prod() - overlaps(boxes, inside)[:, 0]
        best = int(hidden.round(-1).argmin())  # a few pixels do not matter, a place nearby does
        taken = np.vstack([taken, boxes[best]])
        x, y = np.sign(_PLACES[best])
        ax.annotate(
            note,
            position,
            xytext=_PLACES[best],
            textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[x],
            va={1: "bottom", 0: "center", -1: "top"}[y],
            fontsize="small",
            arrowprops=line,
            in_layout=False,
        )


def spread_colors(places: NDArray[np.float64]) -> list[str]:
    """Choose a colour for each place; of many places, those of the same colour are far from each other."""
    n_colors = len(COLORS) if len(places) <= len(COLORS) else _MOST_REPEATED
    chosen = np.empty(len(places), dtype=np.intp)
    for number, place in enumerate(places):
        nearest = np.full(n_colors, np.inf)  # distance of each colour
        np.minimum.at(nearest, chosen[:number], np.linalg.norm(places[:number] - place, axis=1))
        chosen[number] = nearest.argmax()
    return [COLORS[color] for color in chosen]


def write_names(
    ax: Axes,
    places: NDArray[np.float64],
    texts: list[str],
    colors: list[str],
    points: NDArray[np.float64],
    weights: Any,
) -> int:
    """Write names on a map, each as near to its place as there is room; return how many there is room for.

    Parameters
    ----------
    ax : matplotlib Axes
        With its limits set.
    places : ndarray of float, shape (n_names, 2)
        In the order of importance: the first get the better places.
    texts : list of str
        The names. A thin line leads from one that is elsewhere to its place.
    colors : list of str
    points : ndarray of float, shape (n_points, 2)
        What names should not hide.
    weights : ndarray of float, shape (n_points,)
        How much each point counts; 1 is as bad as a name that is 40 typographic points from its place.

    Returns
    -------
    int
    """
    from matplotlib.patheffects import withStroke

    if not texts:
        return 0
    per_pixel = 72 / ax.figure.dpi  # typographic points
    width = per_pixel * ax.get_window_extent().width
    fontsize = float(np.clip(np.interp(len(texts), [8, 30], [13, 9.5]), 6, max(6, width / 40)))
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": fontsize, "fontweight": "bold"}
    sizes = per_pixel * np.array([_size_of(ax, text, style) for text in texts]) + 4
    anchors, marks = (per_pixel * ax.transData.transform(where) for where in (places, points))
    inside = per_pixel * np.array(ax.get_window_extent().extents)
    middles = place_boxes(anchors, sizes, inside, marks, weights)
    halo, paper = withStroke(linewidth=2.5, foreground="white"), {"fc": "white", "alpha": 0.6, "ec": "none", "pad": 0.5}
    has_room = ~np.isnan(middles).any(axis=1)
    for number in np.flatnonzero(has_room):
        offset, color = middles[number] - anchors[number], _darkened(colors[number])
        at: dict[str, Any] = {"xy": places[number], "xytext": offset, "textcoords": "offset points", "in_layout": False}
        if np.linalg.norm((np.abs(offset) - sizes[number] / 2).clip(0)) > _FAR:
            line = {"arrowstyle": "-", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "color": color}
            ax.annotate("", **at, arrowprops=line, zorder=3)  # by itself, so that it is under all names
            ax.plot(*places[number], "o", color=color, markersize=5, markeredgecolor="white", zorder=3)
        ax.annotate(texts[number], **at, color=color, path_effects=[halo], bbox=paper, zorder=4, **style)
    return int(has_room.sum())


def _size_of(ax: Axes, text: str, style: dict[str, Any]) -> tuple[float, float]:
    """Measure a text in pixels."""
    note = ax.text(0, 0, text, **style)
    box = note.get_window_extent()
    note.remove()
    return box.width, box.height


def _darkened(color: str) -> str:
    """Return a colour, or a darker one of its hue, that is readable on white."""
    rgb = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)])
    rgb = rgb * min(1, 75 / (rgb @ _BRIGHTNESS))
    return "#" + "".join(f"{round(part):02x}" for part in rgb)


def name_ticks(axis: Axis, labels: pd.Series[Any] | None, n_ticks: int, most_lines: int = 1, **long_style: Any) -> None:
    """Write labels along an axis, if there is room for them."""
    if n_ticks > _MOST_TICK_LABELS:
        axis.set_ticks([])
        return
    labels = pd.Series(range(n_ticks)) if labels is None else labels
    names = ["missing" if pd.isna(label) else wrapped(label, 30, most_lines) for label in labels]
    style = long_style if max(map(len, names)) > 4 else {}
    axis.set_ticks(range(n_ticks), names, fontsize="small" if n_ticks <= MOST_NUMBERS else "x-small", **style)


def write_numbers(ax: Axes, im: AxesImage, similarities: NDArray[np.floating[Any]]) -> None:
    """Write each cosine into its cell, in black or white, whichever is readable."""
    ax.figure.canvas.figure.draw_without_rendering()  # performs the layout, which determines the size of cells
    width = np.diff(ax.transData.transform([(0, 0), (1, 0)])[:, 0])[0] * 72 / ax.figure.dpi
    brightness = im.to_rgba(similarities)[..., :3] @ _BRIGHTNESS
    for (row, column), cosine in np.ndenumerate(similarities):
        if not np.isnan(cosine):
            number = f"{round(float(cosine), 2) + 0:.2f}"  # + 0: not "-0.00"
            color = "black" if brightness[row, column] > 0.5 else "white"
            ax.text(column, row, number, ha="center", va="center", color=color, fontsize=min(10, width / 3.2))


def part_of_figure(ax: Axes) -> Any:
    """Return a subfigure in the place of axes, for panels."""
    spec = ax.get_subplotspec()
    if spec is None:
        raise ValueError("ax must be in a grid, such as one of plt.subplots, to make room for panels.")
    ax.set_axis_off()
    return ax.figure.add_subfigure(spec)


def room_in(ax: Axes) -> int:
    """Return about how many letters of medium size fit into the width of axes."""
    return max(10, int(ax.get_window_extent().width * 72 / ax.figure.dpi / 5.5))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "5,574 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _lines(value: Any, width: int, most_lines: int) -> list[str]:
    return textwrap.wrap(" ".join(str(value).split()), width, max_lines=most_lines, placeholder="…")


def wrapped(value: Any, width: int, most_lines: int) -> str:
    """Wrap and shorten a text for matplotlib, which would read text between dollars as a formula."""
    return "\n".join(_lines(value, width, most_lines)).replace("$", r"\$")


def wrapped_html(value: Any, width: int, most_lines: int = 2) -> str:
    """Wrap and shorten a text for plotly, which reads HTML, and formulas between dollars."""
    return "<br>".join(
        html.escape(line, quote=False).replace("$", "&#36;") for line in _lines(value, width, most_lines)
    )
