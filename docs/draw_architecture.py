"""Draw ``images/architecture.svg``: the steps of a call, and the floors of the rule of imports.

Run by ``nox -s docs``; needs matplotlib (extra ``plot``). ``tests/test_docs.py`` compares the floors with those that
``tests/test_imports.py`` enforces.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

TARGET = Path(__file__).parent / "images" / "architecture.svg"
INK, GREY, BLUE, GREEN, PAPER = "#222222", "#6b7280", "#dbeafe", "#dcfce7", "#f3f4f6"

STEPS = [  # file, and what it turns into what
    ("containers.py", "any container → rows\n→ distinct texts\n(texts.py)"),
    ("cache/", "recipe and text\n→ known vectors"),
    ("tokens.py", "texts\n→ token ids"),
    ("batching.py", "token counts\n→ batches"),
    ("backends/", "token ids\n→ token vectors\n→ pooled vectors"),
    ("finishing.py", "truncate, normalise\n→ one vector\nper row"),
]
FLOORS = [  # what it is for, and its files and folders; "encoding/" are those that are not on a floor of their own
    ("public names, command", "__init__  __main__"),
    ("files of any size, verbs as functions", "files/  text"),
    ("tables", "frames/"),
    ("displays, filling the cache", "plotting/  precomputing"),
    ("tasks", "similarity/  classification/  clustering/"),
    ("the transformer that learns", "finetuner"),
    ("texts or vectors", "embedders"),
    ("texts to vectors", "transformer  embedding"),
    ("training", "training/"),
    ("engine: the order of steps", "encoding/encoder"),
    ("engine: the state of a call", "encoding/call"),
    ("engine: after the model", "encoding/finishing  encoding/long_texts"),
    ("engine: the plan of a call", "encoding/plan"),
    ("engine: loading models", "encoding/models/"),
    ("engine: running models", "encoding/backends/"),
    ("engine: parameters", "encoding/settings"),
    ("engine: vectors kept", "encoding/cache/"),
    ("engine: data", "encoding/ (texts, vectors, tokens, batching, recipes, threads, forks ...)"),
    ("ground", "errors  checks  compat  optional  paths  processor  atomic  locks"),
]


def draw_steps(ax: Axes) -> None:
    """Draw the steps from a column to a matrix, from left to right."""
    width, gap, top, height = 1.56, 0.42, 2.35, 1.15
    middles = [1.35 + number * (width + gap) + width / 2 for number in range(len(STEPS))]
    for middle, (file, does) in zip(middles, STEPS, strict=True):
        left = middle - width / 2
        box = FancyBboxPatch((left, top), width, height, boxstyle="round,pad=0.04", fc=BLUE, ec=INK, lw=0.8)
        ax.add_patch(box)
        ax.text(middle, top + height - 0.22, file, ha="center", weight="bold", family="monospace", fontsize=9)
        ax.text(middle, top + 0.4, does, ha="center", va="center", fontsize=8)
        arrow(ax, (left - gap, top + height / 2), (left, top + height / 2))
    right = middles[-1] + width / 2
    arrow(ax, (right, top + height / 2), (right + gap, top + height / 2))
    ax.text(0.85, top + height / 2, "a column\nof text", ha="right", va="center", fontsize=9)
    ax.text(right + gap + 0.05, top + height / 2, "a float32\nmatrix", ha="left", va="center", fontsize=9)

    _, cache, tokens, _, backend, finish = middles
    arrow(ax, (cache, top + height + 0.05), (finish - 0.2, top + height + 0.05), bend=-0.16)
    ax.text((cache + finish) / 2, top + height + 0.98, "known vectors skip the model", ha="center", fontsize=8)
    arrow(ax, (backend, top - 0.05), (cache + 0.2, top - 0.05), bend=-0.16)
    ax.text((tokens + backend) / 2, top - 0.78, "new vectors are stored", ha="center", fontsize=8)

    plan = FancyBboxPatch((1.35, 0.25), right - 1.35, 0.62, boxstyle="round,pad=0.04", fc=GREEN, ec=INK, lw=0.8)
    ax.add_patch(plan)
    ax.text((1.35 + right) / 2, 0.56, "plan.py: the caller's parameters (settings.py) resolved for a model (models/)  "
            "→ the keys of the vectors (recipes.py)", ha="center", va="center", fontsize=9)  # fmt: skip
    for position in (cache - 0.45, tokens + 0.45, backend + 0.45, finish + 0.45):
        arrow(ax, (position, 0.92), (position, top - 0.06), color=GREY)
    ax.set(xlim=(-0.2, right + gap + 1.1), ylim=(0, 5))
    ax.set_title("The steps of a call, in the order of encoder.py", loc="left", fontsize=11, weight="bold")
    ax.axis("off")


def draw_floors(ax: Axes) -> None:
    """Draw the floors from the ground up, and the direction of imports."""
    height = 0.62
    for number, (purpose, files) in enumerate(reversed(FLOORS)):
        colour = BLUE if files.startswith("encoding/") else PAPER
        ax.add_patch(Rectangle((2.6, number * height), 9.6, height * 0.92, fc=colour, ec=INK, lw=0.6))
        ax.text(7.4, number * height + height * 0.45, files, ha="center", va="center", family="monospace", fontsize=9)
        ax.text(2.45, number * height + height * 0.45, purpose, ha="right", va="center", fontsize=9, color=GREY)
    top = len(FLOORS) * height
    arrow(ax, (12.6, top - 0.1), (12.6, 0.1))
    ax.text(12.75, top / 2, "imports go down,\nnever up and\nnever in a circle", va="center", fontsize=9)
    ax.set(xlim=(-0.2, 15), ylim=(-0.1, top + 0.1))
    ax.set_title("The rule of imports", loc="left", fontsize=11, weight="bold")
    ax.axis("off")


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0, color: str = INK) -> None:
    """Draw an arrow between two points."""
    style = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=color, connectionstyle=style))


def main() -> None:
    """Draw both parts into one file, the same bytes each time."""
    with mpl.rc_context({"svg.hashsalt": "skembed", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11.5, 11), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=(5, 8.6))
        draw_steps(upper)
        draw_floors(lower)
        figure.savefig(TARGET, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
