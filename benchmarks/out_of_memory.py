"""Check that running out of GPU memory costs only time: batches are halved, and no vector is lost.

    python benchmarks/out_of_memory.py

2,048 made-up texts of 250 words, truncated to the 256 tokens that all-MiniLM-L6-v2 reads, in float32: first in batches
of 16,384 tokens with all of the GPU's memory; then in batches of 524,288 tokens, for which the activations of a single
layer are 3 GB, while torch may use only 1 GB more than the model (``torch.cuda.set_per_process_memory_fraction``).
Nothing is timed: the point is that a smaller batch size is found after failing. Needs CUDA.

Exit status 1 if a bound fails: allocations did fail (by torch's own count), memory stayed within the limit, and every
cosine between the two vectors of a text is at least 0.99999.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from random import Random
from typing import Any

import torch
from memory import WORDS
from report import add_json_argument, describe_machine, print_report, verdict, write_json

import skembed

GB = 10**9
N_TEXTS, N_WORDS = 2048, 250
FITTING_TOKENS, TOO_MANY_TOKENS = 2**14, 2**19
SMALLEST_COSINE = 0.99999
HEADER = ("what", "measured", "bound", "holds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2", metavar="FOLDER", help="another model of that shape")
    add_json_argument(parser)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device.")
    warnings.simplefilter("ignore", skembed.TruncationWarning)
    random = Random(0)
    texts = [" ".join(random.choices(WORDS, k=N_WORDS)) + f" {number}" for number in range(N_TEXTS)]
    params: dict[str, Any] = {"model": arguments.model, "device": "cuda", "dtype": "float32", "cache": None}
    expected = skembed.embed(texts, **params, batch_tokens=FITTING_TOKENS)
    limit = limit_memory(GB)
    vectors = skembed.embed(texts, **params, batch_tokens=TOO_MANY_TOKENS)
    n_failures, peak = torch.cuda.memory_stats()["num_ooms"], torch.cuda.max_memory_reserved()
    cosine = float((expected * vectors).sum(axis=1).min())  # both have unit length
    rows = [
        ("allocations that failed", f"{n_failures}", "at least 1", n_failures >= 1),
        ("peak of torch's memory", f"{peak / GB:.2f} GB", f"at most {limit / GB:.2f} GB", peak <= limit),
        ("smallest cosine", f"{cosine:.7f}", f"at least {SMALLEST_COSINE}", cosine >= SMALLEST_COSINE),
    ]
    machine = describe_machine()
    print_report(machine, HEADER, [[*row, verdict(holds)] for *row, holds in rows])
    write_json(arguments.json, machine=machine, results=rows)
    return 0 if all(holds for *_, holds in rows) else 1


def limit_memory(more_bytes: int) -> int:
    """Allow torch this much more than it uses now; return the limit in bytes."""
    torch.cuda.empty_cache()
    torch.cuda.reset_accumulated_memory_stats()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    limit = torch.cuda.memory_reserved() + more_bytes
    torch.cuda.set_per_process_memory_fraction(limit / total)
    return limit


if __name__ == "__main__":
    sys.exit(main())
