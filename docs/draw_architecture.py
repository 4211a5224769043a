"""Draw ``images/architecture.svg``: the way of a text through the engine, and the floors of the rule of imports.

Run by ``nox -s docs``; needs matplotlib (extra ``plot``). The floors are those that ``tests/test_imports.py`` enforces.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

TARGET = Path(__file__).parent / "images" / "architecture.svg"
INK, GREY, BLUE, GREEN, PAPER = "#222222", "#6b7280", "#dbeafe", "#dcfce7", "#f3f4f6"

STEPS = [  # file, what it makes of what it gets
    ("texts.py", "any container\n→ unique texts,\nrow codes"),
    ("cache/", "which vectors\nare known"),
    ("tokens.py", "texts\n→ token ids"),
    ("batching.py", "token counts\n→ batches"),
    ("backends/", "token ids\n→ token vectors\n→ pooled vectors"),
    ("encoder.py", "normalise, truncate;\nrows by their codes"),
]
FLOORS = [
    ("top", "__init__  __main__"),
    ("rows", "files/   on   frames/"),
    ("views", "plotting/  precomputing"),
    ("jobs", "similarity/  classification/"),
    ("learning", "finetuner"),
    ("estimators", "embedders   on   transformer  embedding"),
    ("training", "training/"),
    ("engine", "encoder   on   finishing  long_texts   on   plan"),
    ("", "models/   on   backends/   on   settings   on   cache/"),
    ("", "texts  vectors  tokens  batching  recipes  threads  forks ..."),
    ("ground", "errors  checks  compat  optional  paths  atomic  locks"),
]


def draw_steps(ax: plt.Axes) -> None:
    """Draw the steps from a column to a matrix, from left to right."""
    width, gap, top, height = 1.56, 0.42, 2.35, 1.15
    for number, (file, does) in enumerate(STEPS):
        left = 1.35 + number * (width + gap)
        box = FancyBboxPatch((left, top), width, height, boxstyle="round,pad=0.04", fc=BLUE, ec=INK, lw=0.8)
        ax.add_patch(box)
        ax.text(left + width / 2, top + height - 0.22, file, ha="center", weight="bold", family="monospace", fontsize=9)
        ax.text(left + width / 2, top + 0.4, does, ha="center", va="center", fontsize=8)
        arrow(ax, (left - gap, top + height / 2), (left, top + height / 2))
    right = 1.35 + len(STEPS) * (width + gap) - gap
    arrow(ax, (right, top + height / 2), (right + gap, top + height / 2))
    ax.text(0.85, top + height / 2, "a column\nof text", ha="right", va="center", fontsize=9)
    ax.text(right + gap + 0.05, top + height / 2, "a float32\nmatrix", ha="left", va="center", fontsize=9)

    cache, backend, finish = (1.35 + number * (width + gap) + width / 2 for number in (1, 4, 5))
    arrow(ax, (cache, top + height + 0.05), (finish - 0.2, top + height + 0.05), bend=-0.16)
    ax.text((cache + finish) / 2, top + height + 0.98, "vectors that are known skip the model", ha="center", fontsize=8)
    arrow(ax, (backend, top - 0.05), (cache + 0.2, top - 0.05), bend=-0.16)
    ax.text(backend - width - gap, top - 0.78, "new vectors are stored", ha="center", fontsize=8)

    plan = FancyBboxPatch((1.35, 0.25), right - 1.35, 0.62, boxstyle="round,pad=0.04", fc=GREEN, ec=INK, lw=0.8)
    ax.add_patch(plan)
    ax.text((1.35 + right) / 2, 0.56, "plan.py: settings.py (what the caller asked for) fitted to a model of models/;  "
            "recipes.py: the key of every vector", ha="center", va="center", fontsize=9)  # fmt: skip
    for number in (1, 2, 4, 5):
        middle = 1.35 + number * (width + gap) + width / 2 + 0.45
        ax.add_patch(FancyArrowPatch((middle, 0.92), (middle, top - 0.06), arrowstyle="->", mutation_scale=9, ls=":",
                                     color=GREY))  # fmt: skip
    ax.set(xlim=(-0.2, right + gap + 1.1), ylim=(0, 5))
    ax.set_title("The way of a text: encoder.py conducts", loc="left", fontsize=11, weight="bold")
    ax.axis("off")


def draw_floors(ax: plt.Axes) -> None:
    """Draw the floors from the ground up, and which way imports go."""
    height = 0.62
    for number, (name, files) in enumerate(reversed(FLOORS)):
        is_engine = 1 <= number <= 3
        colour = BLUE if is_engine else PAPER
        ax.add_patch(Rectangle((2.0, number * height), 10, height * 0.92, fc=colour, ec=INK, lw=0.6))
        ax.text(7.0, number * height + height * 0.45, files, ha="center", va="center", family="monospace", fontsize=9)
        ax.text(1.85, number * height + height * 0.45, name, ha="right", va="center", fontsize=9, color=GREY)
    top = len(FLOORS) * height
    arrow(ax, (12.45, top - 0.1), (12.45, 0.1))
    ax.text(12.6, top / 2, "imports go down,\nnever up and\nnever in a circle", va="center", fontsize=9)
    ax.set(xlim=(-0.2, 15), ylim=(-0.1, top + 0.1))
    ax.set_title("The rule of imports", loc="left", fontsize=11, weight="bold")
    ax.axis("off")


def arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    """Draw an arrow between two points."""
    style = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK, connectionstyle=style))


def main() -> None:
    """Draw both parts into one file, the same bytes each time."""
    mpl.rcParams.update({"svg.hashsalt": "skembed", "svg.fonttype": "path", "font.family": "DejaVu Sans"})
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(11.5, 9), height_ratios=(5, 6.6), layout="constrained")
    draw_steps(upper)
    draw_floors(lower)
    figure.savefig(TARGET, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
