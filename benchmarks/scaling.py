"""Check that time and memory stay in proportion from a thousand texts to a million.

    python benchmarks/scaling.py --json benchmarks/results/scaling.json
    python benchmarks/scaling.py --real-model

``skembed.embed(texts, cache=None)``, with other settings at their defaults, on 1,000, 10,000, 100,000 and 1,000,000
made-up texts (distinct, short). The model is a tiny random BERT (3 layers of 32 dimensions), so that the engine is
measured and not the model; ``--real-model`` adds all-MiniLM-L6-v2, up to 100,000 texts (the better part of an hour on
two cores).

Each figure is from a separate process. Timing starts after the model is loaded and has embedded other texts; rounds go
through the sizes up and down in turn, and a figure is the median of the rounds. The peak is ``ru_maxrss``, which covers
the whole life of the process, including loading. Memory beyond output and texts is the peak less the output matrix and
less the texts, which belong to the caller. If OpenVINO is installed, one untimed process converts the model before the
first round.

Exit status 1 if a bound fails for the tiny model: time per text at the largest size within 1.15 times that at the next
smaller size, and memory beyond output and texts within 1.1 times that, plus 50 MB. Needs Linux; takes about ten minutes
on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from memory import make_texts, peak_bytes

MB = 10**6
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LARGEST_REAL_SIZE = 100_000
N_WARM_UP = 500
MOST_TIME_A_TEXT, MOST_MEMORY, MORE_MEMORY_BYTES = 1.15, 1.1, 50 * MB
HEADER = (
    "model", "texts", "time", "of single rounds", "texts/s", "time a text", "peak", "output", "texts themselves",
    "beyond both", "bound", "holds",
)  # fmt: skip

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    if arguments.child:
        model, n_texts = arguments.child
        print(json.dumps(measure(model, int(n_texts), arguments.backend)))
        return 0
    with TemporaryDirectory(prefix="skembed-scaling-") as folder:
        subprocess.run([sys.executable, "-c", MAKE_MODEL, folder], check=True)
        results = measure_sizes(f"{folder}/model", "tiny", arguments.sizes, arguments)
        judge(results)
    if arguments.real_model:
        sizes = [size for size in arguments.sizes if size <= LARGEST_REAL_SIZE]
        results += measure_sizes("all-MiniLM-L6-v2", "all-MiniLM-L6-v2", sizes, arguments)
    return report(arguments, results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the raw results there")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="two or more, ascending")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--backend", default="auto", help="auto (default), openvino or torch")
    parser.add_argument("--real-model", action="store_true", help="also all-MiniLM-L6-v2")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if len(arguments.sizes) < 2 or sorted(arguments.sizes) != list(arguments.sizes):
        parser.error("--sizes takes two or more, ascending")
    return arguments


# Run in a child, which inherits this process's peak: nothing large is imported here.
MAKE_MODEL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from pathlib import Path
from tests.tiny_models import make_bert
make_bert(Path(sys.argv[1]) / "model")
"""


def measure_sizes(model: str, name: str, sizes: list[int], arguments: argparse.Namespace) -> list[Result]:
    run_child(model, sizes[0], arguments.backend)
    runs: dict[int, list[Result]] = {size: [] for size in sizes}
    for number in range(arguments.repeats):
        for size in sizes if number % 2 == 0 else reversed(sizes):
            runs[size].append(run_child(model, size, arguments.backend))
    return [summarise(name, size, runs[size]) for size in sizes]


def run_child(model: str, n_texts: int, backend: str) -> Result:
    command = [sys.executable, __file__, "--backend", backend, "--child", model, str(n_texts)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    print(f"# {model}, {n_texts:,} texts: {result}", file=sys.stderr)
    return result


def measure(model: str, n_texts: int, backend: str) -> Result:
    import warnings

    import skembed

    warnings.simplefilter("ignore", skembed.TruncationWarning)  # the tiny model reads 24 tokens
    texts = make_texts(n_texts)
    skembed.embed(make_texts(N_WARM_UP, seed=1), model=model, backend=backend, cache=None)
    start = perf_counter()
    vectors = skembed.embed(texts, model=model, backend=backend, cache=None)
    return {
        "seconds": perf_counter() - start,
        "peak_bytes": peak_bytes(),
        "output_bytes": vectors.nbytes,
        "texts_bytes": sys.getsizeof(texts) + sum(map(sys.getsizeof, texts)),
    }


def summarise(name: str, n_texts: int, runs: list[Result]) -> Result:
    peak = median(run["peak_bytes"] for run in runs)
    output, texts = runs[0]["output_bytes"], runs[0]["texts_bytes"]
    return {
        "model": name,
        "n_texts": n_texts,
        "seconds": [run["seconds"] for run in runs],
        "seconds_a_text": median(run["seconds"] for run in runs) / n_texts,
        "peak_bytes": peak,
        "peak_bytes_rounds": [run["peak_bytes"] for run in runs],
        "output_bytes": output,
        "texts_bytes": texts,
        "beyond_bytes": peak - output - texts,
        "bound": "",
        "holds": None,
    }


def judge(results: list[Result]) -> None:
    """Compare the largest size with the next smaller one."""
    before, largest = results[-2:]
    most_time = MOST_TIME_A_TEXT * before["seconds_a_text"]
    most_memory = MOST_MEMORY * before["beyond_bytes"] + MORE_MEMORY_BYTES
    largest["bound"] = f"at most {1e6 * most_time:.1f} µs a text, {most_memory / MB:,.0f} MB beyond both"
    largest["holds"] = largest["seconds_a_text"] <= most_time and largest["beyond_bytes"] <= most_memory


def report(arguments: argparse.Namespace, results: list[Result]) -> int:
    from report import describe_machine, print_report, write_json

    machine = describe_machine()
    print_report(machine, HEADER, map(table_row, results))
    write_json(arguments.json, machine=machine, repeats=arguments.repeats, backend=arguments.backend, results=results)
    return 0 if all(result["holds"] is not False for result in results) else 1


def table_row(result: Result) -> list[str]:
    from report import verdict

    seconds = result["seconds"]
    return [
        result["model"],
        f"{result['n_texts']:,}",
        f"{median(seconds):.2f} s",
        f"{min(seconds):.2f} to {max(seconds):.2f} s",
        f"{1 / result['seconds_a_text']:,.0f}",
        f"{1e6 * result['seconds_a_text']:.1f} µs",
        *(f"{result[f'{name}_bytes'] / MB:,.0f} MB" for name in ("peak", "output", "texts", "beyond")),
        result["bound"],
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
