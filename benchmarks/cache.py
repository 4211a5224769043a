"""Measure how fast the embedding cache returns 100,000 vectors, and how much memory it really takes.

    python benchmarks/cache.py --json benchmarks/results/cache.json
    python benchmarks/cache.py --folder FOLDER    # where to put the cache on disk during the run

The model runs for one text only: the cache is filled with random vectors of 384 float32 under the recipe that
``skembed.embed`` looks for. As in real encoding on a CPU, 64 vectors are written at a time, and the texts of one write
are scattered over 3,000 neighbours: about as many as two cores encode in 5 seconds, which are sorted by length
together. With --window 16384, the most that are ever sorted together, they are scattered more.

What is timed:

- embed: ``skembed.embed(texts, cache=cache)`` of a list of distinct str, all of them cached: checks of parameters and
  texts, finding duplicates, reading, normalising. The result is compared with what was written; that is not timed.
- store.read: only the read, 4,096 texts per call as in embed, into an existing array.
- store.write: filling, once; on disk, each write of 64 vectors is a transaction that has reached the disk.
- first read: embed in a fresh process that has loaded the model, but not opened the cache; the operating system may
  still have the file in memory.

Each round gets new str objects, as when a file is read again. Figures are medians of the rounds.

Memory: a fresh process writes 10 times as many vectors as fit into an ``EmbeddingCache`` of 200 MB, and records the
highest resident memory beyond that before the first write. The texts are made up, with 10 to 60 characters.

Needs Linux. Exit status 1 if a bound fails: 300,000 texts per second in memory and 100,000 from disk (embed), memory at
most max_bytes + 10 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from memory import WORDS, resident_bytes
from numpy.typing import NDArray

if TYPE_CHECKING:
    from skembed import EmbeddingCache
    from skembed.encoding.recipes import Recipe

DIM = 384
TEXTS_A_WRITE = 64
TEXTS_PER_READ = 4096
SMALLEST_RATE = {"memory": 300_000, "disk": 100_000}
LARGEST_GROWTH = 1.1  # of max_bytes
MB = 10**6
HEADER = ("cache", "what", "median", "of single rounds", "bound", "holds")

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    if arguments.part is not None:
        print(json.dumps(PARTS[arguments.part](arguments)))
        return 0
    memory = in_fresh_process("memory", arguments)  # first, because a child starts with its parent's peak
    from report import describe_machine, print_report, write_json

    machine = describe_machine()
    with TemporaryDirectory(dir=arguments.folder) as folder:
        results = [*measure("memory", None, arguments), *measure("disk", folder, arguments), memory]
    print_report(machine, HEADER, map(table_row, results))
    facts = {"n_texts": arguments.n_texts, "dim": DIM, "window": arguments.window, "repeats": arguments.repeats}
    write_json(arguments.json, machine=machine, **facts, results=results)
    return 0 if all(result.get("holds") is not False for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the raw results there")
    parser.add_argument("--folder", help="a folder on the disk to measure (default: that for temporary files)")
    parser.add_argument("--n-texts", type=int, default=100_000, metavar="N", help="default: 100,000")
    parser.add_argument("--window", type=int, default=3000, metavar="N", help="texts sorted together (default: 3,000)")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds (default: 9)")
    parser.add_argument("--max-bytes", type=int, default=200 * MB, metavar="N", help="of memory (default: 200 MB)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_fresh_process(part: str, arguments: argparse.Namespace, **changes: Any) -> Result:
    values = {"n_texts": arguments.n_texts, "max_bytes": arguments.max_bytes, **changes}
    command = [sys.executable, __file__, "--part", part]
    for name, value in values.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(child.stdout.splitlines()[-1])
    return result


def make_texts(n_texts: int) -> list[str]:
    """Make up distinct texts: the same ones each time, as new objects."""
    words = np.random.default_rng(0).choice(WORDS, (n_texts, 10)).tolist()
    lengths = np.random.default_rng(1).integers(2, 11, n_texts).tolist()
    return [f"{' '.join(words[number][: lengths[number]])} {number}" for number in range(n_texts)]


def make_vectors(n_texts: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((n_texts, DIM), dtype=np.float32)


def measure(place: str, folder: str | None, arguments: argparse.Namespace) -> Iterator[Result]:
    import skembed

    texts, vectors = make_texts(arguments.n_texts), make_vectors(arguments.n_texts)
    with skembed.EmbeddingCache(folder) as cache:
        recipe = find_recipe(cache)
        written = fill(cache, recipe, texts, vectors, arguments.window)
        yield rates(place, f"store.write, {TEXTS_A_WRITE} at a time", len(texts), [written])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.allclose(skembed.embed(texts, cache=cache), vectors, atol=1e-6) or cache.stats()["misses"]:
            raise SystemExit(f"The cache ({place}) gave back other vectors than were written: {cache!r}")
        buffer, n_tokens = np.empty((TEXTS_PER_READ, DIM), np.float32), np.empty(TEXTS_PER_READ, np.int64)

        def embed(texts: list[str]) -> None:
            skembed.embed(texts, cache=cache)

        def read(texts: list[str]) -> None:
            for start in range(0, len(texts), TEXTS_PER_READ):
                some = texts[start : start + TEXTS_PER_READ]
                if len(cache.store.read(recipe, some, buffer[: len(some)], n_tokens[: len(some)])):
                    raise SystemExit(f"The cache ({place}) lost texts.")

        seconds = time_rounds({"embed": embed, "store.read": read}, arguments)
        yield rates(place, "embed", len(texts), seconds["embed"], SMALLEST_RATE[place])
        yield rates(place, "store.read", len(texts), seconds["store.read"])
    if folder is not None:
        first = [in_fresh_process("first_read", arguments, folder=folder)["seconds"] for _ in range(3)]
        yield rates(place, "first read in a fresh process", len(texts), first)
        yield file_size(place, folder, vectors.nbytes)


def find_recipe(cache: EmbeddingCache) -> Recipe:
    """Load the model and return the recipe under which ``skembed.embed`` looks for a vector."""
    import skembed
    from skembed.encoding.plan import make_plan

    plan = make_plan(skembed.SentenceEmbeddingTransformer(cache=cache)._settings())
    (recipe,) = plan.recipes
    return recipe


def fill(
    cache: EmbeddingCache, recipe: Recipe, texts: list[str], vectors: NDArray[np.float32], n_together: int
) -> float:
    """Write everything and return the seconds it took."""
    n_tokens, seconds, random = np.full(TEXTS_A_WRITE, 8), 0.0, np.random.default_rng(3)
    for window in range(0, len(texts), n_together):
        rows = window + random.permutation(min(n_together, len(texts) - window))
        for first in range(0, len(rows), TEXTS_A_WRITE):
            some = rows[first : first + TEXTS_A_WRITE]
            batch, batch_vectors = [texts[row] for row in some], vectors[some]
            start = perf_counter()
            cache.store.write(batch, n_tokens[: len(batch)], {recipe: batch_vectors})
            seconds += perf_counter() - start
    return seconds


def time_rounds(calls: dict[str, Callable[[list[str]], None]], arguments: argparse.Namespace) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(arguments.repeats):
        for name in calls if number % 2 == 0 else reversed(calls):
            texts = make_texts(arguments.n_texts)
            start = perf_counter()
            calls[name](texts)
            seconds[name].append(perf_counter() - start)
    return seconds


def first_read(arguments: argparse.Namespace) -> Result:
    """Read everything from a folder that this process has not opened before."""
    import skembed

    texts = make_texts(arguments.n_texts)
    skembed.embed(texts[:1], cache=None)  # loads the model
    start = perf_counter()
    skembed.embed(texts, cache=arguments.folder)
    return {"seconds": perf_counter() - start}


def measure_memory(arguments: argparse.Namespace) -> Result:
    """Write 10 times as many vectors as fit, without a model, whose loading would leave free memory behind."""
    from skembed import EmbeddingCache
    from skembed.encoding.recipes import Recipe

    recipe = Recipe(1, "made up", "torch", "float32", "", 256, False, (6,), ("mean",))
    cache = EmbeddingCache(max_bytes=arguments.max_bytes)
    n_texts = 10 * arguments.max_bytes // (4 * DIM)  # a little more, since texts take memory too
    n_tokens, random = np.full(TEXTS_A_WRITE, 8), np.random.default_rng(0)
    before = highest = 0
    for number in range(n_texts // TEXTS_A_WRITE):
        words = random.choice(WORDS, (TEXTS_A_WRITE, 10)).tolist()
        texts = [f"{' '.join(row[: 2 + i % 9])} {number} {i}" for i, row in enumerate(words)]
        vectors = random.standard_normal((TEXTS_A_WRITE, DIM), dtype=np.float32)
        before = before or resident_bytes()  # once everything but the cache is there
        cache.store.write(texts, n_tokens, {recipe: vectors})
        highest = max(highest, resident_bytes())
    n_held, n_bytes = cache.store.size()
    growth = highest - before
    return {
        "cache": "memory",
        "what": "growth of resident memory",
        "n_written": n_texts,
        "n_held": n_held,
        "held_bytes": n_bytes,
        "max_bytes": arguments.max_bytes,
        "growth_bytes": growth,
        "holds": growth <= LARGEST_GROWTH * arguments.max_bytes,
    }


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {"memory": measure_memory, "first_read": first_read}


def rates(place: str, what: str, n_texts: int, seconds: list[float], bound: int | None = None) -> Result:
    rate = n_texts / median(seconds)
    holds = None if bound is None else rate >= bound
    return {"cache": place, "what": what, "seconds": seconds, "texts_a_second": rate, "bound": bound, "holds": holds}


def file_size(place: str, folder: str, payload: int) -> Result:
    n_bytes = sum(512 * file.stat().st_blocks for file in Path(folder).iterdir())
    return {"cache": place, "what": "space on disk", "file_bytes": n_bytes, "payload_bytes": payload}


def table_row(result: Result) -> list[str]:
    from report import verdict

    spread, bound, holds = "", "", result.get("holds")
    if "seconds" in result:
        n_texts = result["texts_a_second"] * median(result["seconds"])
        figure = f"{result['texts_a_second']:,.0f} texts/s"
        if len(result["seconds"]) > 1:
            spread = f"{n_texts / max(result['seconds']):,.0f} to {n_texts / min(result['seconds']):,.0f}"
        bound = f"at least {result['bound']:,}" if result["bound"] else ""
    elif "growth_bytes" in result:
        figure = f"{result['growth_bytes'] / MB:,.0f} MB"
        bound = f"at most {LARGEST_GROWTH * result['max_bytes'] / MB:,.0f} MB"
    else:
        figure = f"{result['file_bytes'] / MB:,.0f} MB ({result['file_bytes'] / result['payload_bytes']:.2f} x vectors)"
    return [result["cache"], result["what"], figure, spread, bound, "" if holds is None else verdict(holds)]


if __name__ == "__main__":
    sys.exit(main())
