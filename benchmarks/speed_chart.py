"""Draw the results of encode.py as one bar chart: tokens per second of each contestant, one panel per corpus.

    python benchmarks/speed_chart.py
    python benchmarks/speed_chart.py --json benchmarks/results/encode_peers.json --out docs/images/speed.png

A bar is the median of the rounds. Next to it are the tokens per second and the ratio to sentence-transformers with its
defaults, as in the table that encode.py prints. Needs matplotlib (``pip install 'skembed[plot]'``); the suffix of
``--out`` selects the format.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

ROOT = Path(__file__).parent.parent
# Okabe and Ito's colours, which colour-blind readers can tell apart, too.
COLORS = {"skembed, defaults": "#0072B2", "skembed": "#56B4E9", "ST": "#E69F00", "fastembed": "#999999"}
NAMES = {"skembed, defaults": "skembed, default settings", "ST float32": "ST float32, its defaults"}
TITLE = "all-MiniLM-L6-v2: tokens a second (in brackets: times sentence-transformers, ST, with its defaults)"
CORPORA = {"short": "short texts", "medium": "medium texts", "long": "long texts", "window": "full window"}

Result = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", default=str(ROOT / "benchmarks" / "results" / "encode_peers.json"))
    parser.add_argument("--out", metavar="FILE", default=str(ROOT / "docs" / "images" / "speed.png"))
    arguments = parser.parse_args()
    measured = json.loads(Path(arguments.json).read_text(encoding="utf-8"))
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    draw(measured).savefig(arguments.out, dpi=130)
    return 0


def draw(measured: dict[str, Any]) -> Figure:
    results = [result for result in measured["results"] if "batch_tokens=" not in result["what"]]
    corpora = list(dict.fromkeys(result["texts"] for result in results))
    names = sorted({result["what"]: None for result in results}, key=lambda name: name != "skembed, defaults")
    size = (2.5 * len(corpora) + 2.5, 0.34 * len(names) + 1.4)
    figure, axes = plt.subplots(1, len(corpora), sharex=True, sharey=True, squeeze=False, figsize=size)
    for corpus, panel in zip(corpora, axes[0], strict=True):
        draw_panel(panel, names, {result["what"]: result for result in results if result["texts"] == corpus})
        panel.set_title(CORPORA.get(corpus, corpus) + panel.get_title(), fontsize="medium")
    axes[0, 0].set_yticks(range(len(names)), [NAMES.get(name, name) for name in names])
    axes[0, 0].get_yticklabels()[0].set_fontweight("bold" if names[0] == "skembed, defaults" else "normal")
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_xlim(0, 1.75 * max(map(tokens_per_second, results)))  # room for the numbers
    figure.suptitle(TITLE)
    figure.supxlabel(conditions(measured["machine"], measured["device"]), fontsize="small", color="#555555")
    figure.set_layout_engine("constrained")
    return figure


def draw_panel(panel: Axes, names: list[str], results: dict[str, Result]) -> None:
    for row, name in enumerate(names):
        if name in results:
            speed = tokens_per_second(results[name])
            panel.barh(row, speed, color=COLORS.get(name) or COLORS[name.split()[0]])
            panel.text(speed, row, f" {speed:,.0f}  ({results[name]['ratio']:.1f}×)", va="center", fontsize="small")  # noqa: RUF001
    n_tokens = [result["n_tokens"] / result["n_texts"] for result in results.values()]
    panel.set_title(f", {n_tokens[0]:.0f} tokens")
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.xaxis.set_major_locator(MaxNLocator(3))
    panel.spines[["top", "right"]].set_visible(False)


def tokens_per_second(result: Result) -> float:
    return float(result["n_tokens"] / median(result["seconds"]))


def conditions(machine: dict[str, Any], device: str) -> str:
    where = machine["gpu"] if device.startswith("cuda") else f"{machine['processor']}, {machine['cores']} cores"
    packages = ("sentence-transformers", "torch", "openvino")
    return ", ".join([where, *(f"{name} {machine[name]}" for name in packages if name in machine), machine["date"]])


if __name__ == "__main__":
    sys.exit(main())
