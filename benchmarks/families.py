"""Check what runs which family of models, and how exactly; write the table in docs/families.md.

    python benchmarks/families.py --out docs/families.md

Makes a tiny random model of each family and compares skembed with sentence-transformers, each in a separate process
(see ``tests/families/check.py``). Differences are distances between vectors relative to their length: the largest over
all texts and all comparisons of a backend (whole calls, prompts, tasks, dimensions, poolings, layers, long texts). The
cosine is the smallest with default settings. Exit status 1 if a family fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from report import describe_machine

ROOT = Path(__file__).parents[1]
HEADER = ("family", "torch, float32", "OpenVINO, float32", "by default", "smallest cosine", "remark")
BEGINNING = """# Model families

This table shows which backend runs each family of models, and how far the vectors of skembed are from those of
sentence-transformers, computed for each text alone and in float32. The models are tiny and their weights are random.
`torch` and `OpenVINO` give the largest distance between two vectors, relative to their length, over whole calls,
prompts, tasks, dimensions, poolings, layers and long texts. `by default` is what `backend="auto"` and `dtype="auto"`
choose on the machine of the measurement, with the smallest cosine over all texts. The remark gives the reason why torch
runs a model, or why a model is rejected.

"""

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    sys.path.insert(0, str(ROOT))
    from tests.families.makers import FAMILIES

    with TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.processes) as threads:
        results = list(threads.map(partial(check, Path(folder)), arguments.families or FAMILIES))
    text = BEGINNING + "\n".join(write_table(results)) + "\n\n" + describe_run() + "\n"
    Path(arguments.out).write_text(text, encoding="utf-8")
    for result in results:
        for problem in result["problems"]:
            print(f"{result['name']}: {problem}", file=sys.stderr)
    return 1 if any(result["problems"] for result in results) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="FILE", help="the document to write")
    parser.add_argument("--processes", type=int, default=2, help="at a time, with one thread each (default: 2)")
    parser.add_argument("families", nargs="*", help="default: all")
    return parser.parse_args()


def check(folder: Path, name: str) -> Result:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "caches")}
    command = [sys.executable, "-m", "tests.families.check", name, str(folder / name)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(f"# {name}", file=sys.stderr)
    if done.returncode:
        return {"name": name, "problems": [f"exit {done.returncode}: {done.stderr[-500:]}"], "figures": {}, "ran": {}}
    line = done.stdout.splitlines()[-1].replace(str(folder / name), name)
    result: Result = json.loads(line)
    return result


def write_table(results: Iterable[Result]) -> list[str]:
    rows = [HEADER, ("---",) * len(HEADER), *map(row, results)]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def row(result: Result) -> tuple[str, ...]:
    figures, ran = result["figures"], result["ran"]
    if result.get("refused"):
        return result["name"], "", "", "rejected", "", one_line(result["refused"])
    if result["problems"]:
        return result["name"], "", "", "", "", f"does not hold: {one_line('; '.join(result['problems']))}"

    def largest(backend: str) -> str:
        values = [value for what, value in figures.items() if what.startswith(f"{backend}:")]
        return f"{max(values):.0e}" if values and ran.get(backend) == backend else "runs on torch"

    reasons = [what.removeprefix("reason: ") for what in figures if what.startswith("reason: ")]
    cosine = f"{figures['default: smallest cosine']:.5f}"
    return (
        result["name"],
        largest("torch"),
        largest("openvino"),
        ran["default"],
        cosine,
        one_line("; ".join(dict.fromkeys(reasons))),
    )


def one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def describe_run() -> str:
    machine = {name: value for name, value in describe_machine().items() if value is not None}
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    return f"Made by `python benchmarks/families.py --out docs/families.md` ({facts})."


if __name__ == "__main__":
    sys.exit(main())
