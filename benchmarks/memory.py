"""Measure how much memory skembed needs to embed many short texts with default settings (cached in memory).

    python benchmarks/memory.py --json benchmarks/results/memory.json

A fresh process makes the texts, loads the model, records its resident memory, embeds, and records its peak
(``ru_maxrss``, which covers the whole life of a process, including loading). The bound: the peak less the resident
memory after loading is at most the output matrix plus 1 GB. Texts are made up: distinct, about 6 tokens each. Needs
Linux; takes ten to twenty minutes on two cores. Exit status 1 if the bound fails.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

GB = 10**9
WORDS = ("red", "blue", "old", "new", "small", "large", "open", "house", "road", "river", "train", "book", "door")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the raw results there")
    parser.add_argument("--n-texts", type=int, default=200_000, metavar="N", help="default: 200,000")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        print(json.dumps(measure(arguments.n_texts)))
        return 0
    # The child inherits this process's peak, so nothing large is imported before.
    command = [sys.executable, __file__, "--in-this-process", "--n-texts", str(arguments.n_texts)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return judge(json.loads(child.stdout.splitlines()[-1]), arguments.json)


def measure(n_texts: int) -> dict[str, int]:
    import skembed

    texts = make_texts(n_texts)
    embedder = skembed.SentenceEmbeddingTransformer().fit(texts[:1])
    after_load, peak_of_load = resident_bytes(), peak_bytes()
    vectors = embedder.transform(texts)
    return {
        "n_texts": n_texts,
        "output_bytes": vectors.nbytes,
        "resident_after_load_bytes": after_load,
        "peak_of_load_bytes": peak_of_load,
        "peak_bytes": peak_bytes(),
    }


def make_texts(n_texts: int, seed: int = 0) -> list[str]:
    random = Random(seed)
    return [f"{random.choice(WORDS)} {random.choice(WORDS)} {number}" for number in range(n_texts)]


def resident_bytes() -> int:
    n_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return n_pages * resource.getpagesize()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def judge(result: dict[str, Any], file: str | None) -> int:
    from report import describe_machine, print_report, verdict, write_json

    result["difference_bytes"] = result["peak_bytes"] - result["resident_after_load_bytes"]
    result["bound_bytes"] = result["output_bytes"] + GB
    result["holds"] = result["difference_bytes"] <= result["bound_bytes"]
    amounts = ("output", "resident_after_load", "peak", "difference", "bound")
    row = [f"{result['n_texts']:,}", *(f"{result[f'{name}_bytes'] / GB:.2f} GB" for name in amounts)]
    header = ("texts", "output matrix", "RSS after load", "peak", "peak - RSS", "bound", "holds")
    machine = describe_machine()
    print_report(machine, header, [[*row, verdict(result["holds"])]])
    write_json(file, machine=machine, results=result)
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
