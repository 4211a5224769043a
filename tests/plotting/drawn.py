"""What is drawn: points, colours, legends, ticks and notes of a display, read from its axes; and texts to draw."""

from __future__ import annotations

from matplotlib.colors import to_hex

TEXTS = ["a fox", "a parcel", "the quick brown fox", "login", "the update", "a fox jumps"]
KINDS = ["animals", "shipping", "animals", "app", "app", "animals"]


def points_of(display) -> list:
    return display.ax_.collections


def legend_of(display) -> list[str]:
    legend = display.ax_.get_legend()
    return [] if legend is None else [written(text) for text in legend.get_texts()]


def colors_of(display) -> list[str]:
    return [to_hex(points.get_facecolor()[0]) for points in points_of(display)]


def color_bar_of(display):
    bars = [ax for ax in display.figure_.axes if ax.get_label() == "<colorbar>"]
    return bars[0] if bars else None


def notes_of(display) -> list[str]:
    return [written(text) for text in display.ax_.texts]


def ticks_of(axis) -> list[str]:
    return [written(text) for text in axis.get_ticklabels()]


def written(text) -> str:
    """The letters that matplotlib puts on the picture."""
    letters, is_formula = text._preprocess_math(text.get_text())
    assert not is_formula
    return letters
