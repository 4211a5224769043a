"""Check that skembed stays correct and small for as long as a process lives: mixed calls, some of them killed.

    OMP_NUM_THREADS=1 python benchmarks/soak.py --minutes 30 --json benchmarks/results/soak.json

The inputs are a tiny random BERT (3 layers of 32 dimensions) and 20,000 made-up texts (1 to 200 words; some twice, some
missing). The expected vectors are those of one undisturbed ``embed`` without a cache for each of eight kinds of vector
(poolings, layers, dimensions, long texts). Then rounds follow, random but seeded:

threads   Three threads of this process call ``embed``, ``df.text.embed`` and ``transform`` on random samples: without
          a cache, with one in memory (4 MiB, so that vectors are evicted), and with one on disk (16 MiB) that all
          processes share; now and then ``clear_cache``, ``unload_models``, and the cache on disk cleared or closed.
child     A separate process does the same with the cache on disk.
parquet   A separate process runs ``embed_parquet`` on all texts, with 1,500 rows per file. As with the other children,
          about half are killed (SIGKILL) at a random moment. The same call is repeated until it completes. Then the
          rows are read back: each once, in order, missing texts null.

Every vector that is returned is compared with the expected one. Between rounds, when nothing of them should be left,
this process records its resident memory (after the C library has released free memory), file descriptors, threads,
children, and the size of the cache on disk. Three libraries keep memory that would hide a leak: more the longer the run
lasts, up to bounds that half an hour does not reach. Therefore all threads share two arenas of glibc; pyarrow, which
holds the texts of pandas' frames, allocates from glibc, too (its own mimalloc had kept 145 MB after 17 minutes, none of
it in use); and torch's oneDNN keeps the kernels of 64 shapes of batches, not of 1,024.
At most two things compute at a time. ``--minutes`` counts from the start, including the inputs, and winding down takes
up to a minute more. Exit status 1 if a bound fails: no wrong vector (to 1e-5); no unexpected error; resident memory,
the median of the last quarter of samples less that of the second, grows by at most 5 % or 30 MB; file descriptors and
threads, likewise, by at most 5; no process left; the cache on disk within its bound (by its own account), and its
folder within three times that. The first quarter of samples is warm-up. Needs Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # this process computes beside one child, or two children beside each other
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own keeps for good what threads that have ended allocated
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)

MB, MIB = 10**6, 2**20
M_ARENA_MAX = -8  # as glibc's malloc.h has it
TOLERANCE = 1e-5
LARGEST_GROWTH, LARGEST_GROWTH_BYTES = 0.05, 30 * MB
MOST_MORE = 5  # file descriptors or threads
MEMORY_CACHE_BYTES, DISK_CACHE_BYTES = 4 * MIB, 16 * MIB
DISK_CACHE_SLACK = 3  # times the bound, of the folder: pages that somebody still reads are not used again
ROWS_PER_FILE = 1500
SECONDS_A_SAMPLE = 10
LONGEST_ROUND, LONGEST_END = 180, 45  # seconds; what takes longer hangs
CHARACTERS_NOTED = 2000  # of an error
HEADER = ("what", "measured", "bound", "holds")
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "cls": {"pooling": "cls"},
    "max": {"pooling": "max", "normalize_embeddings": False},
    "mean and cls": {"pooling": ("mean", "cls")},
    "8 dimensions": {"truncate_dim": 8},
    "cls, 16 dimensions": {"pooling": "cls", "truncate_dim": 16},
    "layers 1 and 2": {"layers": (1, 2)},
    "long texts whole": {"long_texts": "mean"},
}
SAID = (
    "the quick brown fox jumps over lazy dog parcel sent to wrong address last week sentence vectors of numbers log in "
    "update app café naïve über résumé order late refund login password works broken heavy sound cheap great , . !"
)
WORDS = SAID.split()

Sample = dict[str, float]


def main() -> int:
    arguments = parse_arguments()
    warnings.simplefilter("error")  # a CacheWarning, or whatever else nobody expects, is an error
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".* tokens and were cut")
    if arguments.child:
        what, folder, out, *rest = arguments.child
        run_as_child(CHILDREN[what], Pool.load(Path(folder)), Tally(Path(out)), *rest)
        return 0
    from report import describe_machine

    keep_few_arenas()
    machine, end = describe_machine(), monotonic() + 60 * arguments.minutes
    with TemporaryDirectory(prefix="skembed-soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(Pool.make(Path(folder), arguments.n_texts), Random(arguments.seed), end)
        soak.run(min(SECONDS_A_SAMPLE, arguments.minutes))
        soak.wind_down()
    status = report(soak, arguments, machine)
    if soak.hangs:
        sys.stdout.flush()
        os._exit(status)  # what hangs may not let the interpreter go
    return status


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the raw results there")
    parser.add_argument("--minutes", type=float, default=30, metavar="N", help="default: 30")
    parser.add_argument("--n-texts", type=int, default=20_000, metavar="N", help="default: 20,000")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


@dataclass
class Pool:
    """The texts, their expected vectors by kind (NaN where a text is missing), and a folder for everything."""

    folder: Path
    texts: Any
    right: dict[str, Any]

    @classmethod
    def make(cls, folder: Path, n_texts: int) -> Pool:
        """Make the inputs in a new folder and embed them undisturbed."""
        import numpy as np
        import pandas as pd

        import skembed

        sys.path.insert(0, str(Path(__file__).parent.parent))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tests.tiny_models import make_bert

            make_bert(folder / "model")
        texts = make_texts(n_texts)
        pd.DataFrame({"id": range(n_texts), "text": texts}).to_parquet(folder / "pool.parquet")
        params = {"model": str(folder / "model"), "missing": "nan", "cache": None}
        right = {kind: skembed.embed(texts, **params, **some) for kind, some in KINDS.items()}
        np.savez(folder / "right.npz", **right)
        return cls(folder, np.array(texts, dtype=object), right)

    @classmethod
    def load(cls, folder: Path) -> Pool:
        """Read the inputs that another process made."""
        import numpy as np
        import pandas as pd

        texts = pd.read_parquet(folder / "pool.parquet")["text"].to_list()
        with np.load(folder / "right.npz") as right:
            return cls(folder, np.array(texts, dtype=object), dict(right))

    @property
    def model(self) -> str:
        """The folder of the model."""
        return str(self.folder / "model")

    def disk_cache(self) -> Any:
        """Return the cache that all processes share."""
        import skembed

        return skembed.EmbeddingCache(self.folder / "cache", max_bytes=DISK_CACHE_BYTES)

    def differences(self, vectors: Any, kind: str, rows: Any) -> Any:
        """Return how far each row is from the expected vector; infinity if one of the two is missing."""
        import numpy as np

        right = self.right[kind][rows]
        if vectors.shape != right.shape:
            return np.full(len(right), np.inf)
        return np.where(np.isnan(vectors) & np.isnan(right), 0, np.nan_to_num(abs(vectors - right), nan=np.inf)).max(1)

    def told_apart(self) -> float:
        """Return the share of neighbouring rows with different texts whose vectors would count as wrong for each other.

        It is the smallest over all kinds. If it were small, the comparison would prove little.
        """
        import numpy as np

        others = np.roll(np.arange(len(self.texts)), 1)
        differ = self.texts != self.texts[others]
        return min(
            float((self.differences(right[others], kind, slice(None)) > TOLERANCE)[differ].mean())
            for kind, right in self.right.items()
        )


def make_texts(n_texts: int) -> list[str | None]:
    """Make up texts; each starts with its number, digit by digit, which survives truncation."""
    random, texts = Random(0), []
    for number in range(n_texts):
        chance = random.random()
        if chance < 0.02:
            texts.append(None)
        elif chance < 0.12 and texts:
            texts.append(random.choice(texts))
        else:
            n_words = int(200 ** (random.random() ** 2))  # half of them have up to 4
            texts.append(" ".join([*str(number), *random.choices(WORDS, k=n_words)]))
    return texts


@dataclass
class Tally:
    """What was called and compared; in a child also in a file, line by line, which survives when it is killed."""

    file: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def compared(self, call: str, differences: Any) -> None:
        """Record vectors that were returned."""
        n_wrong = int((differences > TOLERANCE).sum())
        self.take({"call": call, "vectors": len(differences), "wrong": n_wrong, "worst": float(differences.max())})

    def error(self, call: str, said: str) -> None:
        """Record an unexpected error."""
        self.take({"call": call, "error": said[-CHARACTERS_NOTED:]})

    def take(self, line: dict[str, Any]) -> None:
        """Add a line of this process or of a child."""
        with self.lock:
            if self.file is not None:
                with open(self.file, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if "error" in line:
                self.errors.append(line)
                return
            self.counts[line["call"]] += 1
            self.counts["vectors"] += line["vectors"]
            if line["wrong"]:
                self.counts["wrong"] += line["wrong"]
                self.wrong.append(line)

    def count(self, what: str) -> None:
        """Count something other than a call."""
        with self.lock:
            self.counts[what] += 1

    def guarded(self, call: str, task: Callable[[], None]) -> None:
        """Do a task; anything it raises is an unexpected error."""
        try:
            task()
        except Exception:
            self.error(call, traceback.format_exc())


class Soak:
    """The rounds and their results."""

    def __init__(self, pool: Pool, random: Random, end: float) -> None:
        import skembed

        self.pool, self.random, self.end = pool, random, end
        self.start = monotonic()
        self.tally, self.samples = Tally(), list[Sample]()
        self.memory_cache, self.disk_cache = skembed.EmbeddingCache(max_bytes=MEMORY_CACHE_BYTES), pool.disk_cache()
        self.hangs, self.left_over = False, 0
        self.n_started = self.n_running = 0  # children
        self.n_completed = 0  # runs of embed_parquet

    def run(self, seconds_a_sample: float) -> None:
        """Run rounds until time is up."""
        threads_, child, parquet = self._threads, self._embedding_child, self._parquet_child
        plans = [[threads_], [threads_, child], [threads_, parquet], [threads_, parquet], [child, parquet]]
        last_sample = 0.0
        while monotonic() < self.end and not self.hangs:
            self._round([part(Random(self.random.random())) for part in self.random.choice(plans)], LONGEST_ROUND)
            if monotonic() - last_sample >= seconds_a_sample:
                last_sample = monotonic()
                self._note()

    def wind_down(self) -> None:
        """Complete what ``embed_parquet`` began, release everything, and look for what is left."""
        if not self.hangs:
            self.end = monotonic() + LONGEST_END
            self._round([partial(self._run_parquet, Random(0), may_kill=False)], LONGEST_END + 10)
        self._note()
        if not self.hangs:
            self.disk_cache.close()
        self.left_over = len(processes_of(self.pool.folder))

    def _round(self, tasks: list[Callable[[], None]], longest: float) -> None:
        """Run tasks concurrently, each in one or more threads; a task that does not end is an error."""
        runs = [threading.Thread(target=self.tally.guarded, args=("round", task), daemon=True) for task in tasks]
        for run in runs:
            run.start()
        end = monotonic() + longest
        for run in runs:
            run.join(max(end - monotonic(), 0))
            if run.is_alive():
                self.hangs = True
        if self.hangs:
            stacks = ["".join(traceback.format_stack(frame)[-4:]) for frame in sys._current_frames().values()]
            self.tally.error("hangs", "\n\n".join(stacks))

    def _note(self) -> None:
        n_held = 0 if self.hangs else self.disk_cache.stats()["bytes"]
        give_back_free_memory()
        n_resident, n_private = memory_bytes()
        sample = {
            "seconds": round(monotonic() - self.start, 1),
            "resident_bytes": n_resident,
            "private_bytes": n_private,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "children": len(processes_of(self.pool.folder)),
            "disk_cache_file_bytes": sum(path.stat().st_size for path in (self.pool.folder / "cache").iterdir()),
            "disk_cache_bytes": n_held,
            "calls": sum(n for call, n in self.tally.counts.items() if "/" in call),
        }
        self.samples.append(sample)
        print(sample, file=sys.stderr)

    def _threads(self, random: Random) -> Callable[[], None]:
        seeds = [random.random() for _ in range(3)]

        def task() -> None:
            workers = [
                threading.Thread(target=self.tally.guarded, args=("thread", partial(self._call_often, Random(seed))))
                for seed in seeds
            ]
            for worker in workers:
                worker.daemon = True
                worker.start()
            for worker in workers:
                worker.join()

        return task

    def _call_often(self, random: Random) -> None:
        """Call for a while, and for as long as a child is running."""
        import skembed

        n_left = random.randint(1, 12)
        while (n_left > 0 or self.n_running > 0) and monotonic() < self.end:
            n_left -= 1
            caches = {"memory": self.memory_cache, "disk": self.disk_cache, "no cache": None}
            caches["folder"], caches["own"] = self.pool.folder / "cache", skembed.EmbeddingCache(max_bytes=MIB)
            cache = random.choice([*caches, "memory", "disk"])
            call_once(self.pool, self.tally, random, cache, caches[cache])
            now_and_then = {
                "clear_cache": skembed.clear_cache,
                "unload_models": skembed.unload_models,
                "clear the cache on disk": self.disk_cache.clear,
                "close the cache on disk": self.disk_cache.close,
            }
            for what, doing in now_and_then.items():
                if random.random() < 0.02:
                    self.tally.guarded(what, doing)
                    self.tally.count(what)

    def _embedding_child(self, random: Random) -> Callable[[], None]:
        def task() -> None:
            self._run_child("embed", random, True, str(random.random()))

        return task

    def _parquet_child(self, random: Random) -> Callable[[], None]:
        return partial(self._run_parquet, random, may_kill=True)

    def _run_parquet(self, random: Random, may_kill: bool) -> None:
        """Start or resume a run of ``embed_parquet``, and check the rows of a run that completes."""
        kind, folder = list(KINDS)[self.n_completed % len(KINDS)], self.pool.folder / f"run {self.n_completed}"
        if self._run_child("parquet", random, may_kill, str(folder), kind):
            self.tally.guarded("parquet", partial(check_parquet, self.pool, self.tally, folder, kind))
            shutil.rmtree(folder)
            self.n_completed += 1

    def _run_child(self, what: str, random: Random, may_kill: bool, *rest: str) -> bool:
        """Run this script as a child, perhaps kill it, and count what it did; return whether it ended by itself."""
        self.n_started += 1
        out = self.pool.folder / f"{what} {self.n_started}"
        command = [sys.executable, __file__, "--child", what, str(self.pool.folder), str(out), *rest]
        longest = random.uniform(0, 5) if may_kill and random.random() < 0.5 else None  # seconds after it is ready
        is_early = random.random() < 0.2  # then after its start
        with open(out.with_suffix(".err"), "wb") as said, subprocess.Popen(command, stderr=said, stdout=said) as child:
            self.tally.count(f"{what} children")
            self.n_running += 1
            try:
                is_killed = self._wait(child, out, longest, is_early)
            finally:
                self.n_running -= 1
        for line in out.read_text(encoding="utf-8").splitlines() if out.exists() else []:
            if line.endswith("}"):  # else it was killed just then
                self.tally.take(json.loads(line))
        if is_killed:
            self.tally.count(f"{what} children killed")
        elif child.returncode != 0:
            self.tally.error(f"{what} child", f"exit status {child.returncode}: {out.with_suffix('.err').read_text()}")
        for file in (out, out.with_suffix(".err"), out.with_suffix(".ready")):
            file.unlink(missing_ok=True)
        return child.returncode == 0

    def _wait(self, child: subprocess.Popen[bytes], out: Path, longest: float | None, is_early: bool) -> bool:
        """Wait for a child to end, or kill it when its time or the soak's is up, or when it hangs."""
        since = monotonic() if is_early else None
        start, soak_ends = monotonic(), max(self.end, monotonic())
        while child.poll() is None:
            now = monotonic()
            if since is None and out.with_suffix(".ready").exists():
                since = now
            is_over = longest is not None and since is not None and now - since > longest
            hangs = now - start > LONGEST_ROUND - 30
            if is_over or hangs or now > soak_ends:
                child.kill()
                if hangs:
                    self.tally.error("child hangs", " ".join(child.args))
                return child.wait() != 0  # it may have come to its end just then
            sleep(0.02)
        return False


def call_once(pool: Pool, tally: Tally, random: Random, cache_name: str, cache: Any) -> None:
    """Embed a random sample in a random way, and compare the vectors."""
    import numpy as np
    import pandas as pd

    import skembed

    kind, way = random.choice(list(KINDS)), random.choice(["embed", "transform", "df.text.embed"])
    start = random.randrange(len(pool.texts))
    rows = np.random.default_rng(random.getrandbits(32)).integers(len(pool.texts), size=int(3000 ** random.random()))
    if random.random() < 0.3:  # rows that lie together, and come again in the same order
        rows = (start + np.arange(len(rows))) % len(pool.texts)
    texts = pool.texts[rows]
    params = {"model": pool.model, "missing": "nan", "cache": cache, **KINDS[kind]}

    def task() -> None:
        if way == "embed":
            vectors = skembed.embed(random.choice([texts, texts.tolist(), pd.Series(texts)]), **params)
        elif way == "transform":
            vectors = skembed.SentenceEmbeddingTransformer(**params).fit(texts[:1]).transform(texts)
        else:
            embedded = pd.DataFrame({"n": rows, "review": texts}).text.embed("review", output="vector", **params)
            vectors = embedded.to_numpy("float32")
        tally.compared(f"{way}/{cache_name}", pool.differences(vectors, kind, rows))

    tally.guarded(f"{way}/{cache_name}, {kind}", task)


def run_as_child(task: Callable[..., None], pool: Pool, tally: Tally, *rest: str) -> None:
    import skembed

    skembed.embed(["a"], model=pool.model, cache=None)
    assert tally.file is not None
    tally.file.with_suffix(".ready").touch()
    task(pool, tally, *rest)


def embed_in_child(pool: Pool, tally: Tally, seed: str) -> None:
    random = Random(float(seed))
    for _ in range(random.randint(1, 30)):
        call_once(pool, tally, random, "disk, child", pool.disk_cache())


def parquet_in_child(pool: Pool, tally: Tally, destination: str, kind: str) -> None:
    import skembed

    cache = {"cache": pool.disk_cache()} if len(KINDS[kind]) != 1 else {}  # else the call's own, in memory
    params = {"model": pool.model, "rows_per_file": ROWS_PER_FILE, **cache, **KINDS[kind]}
    n_rows = skembed.embed_parquet(pool.folder / "pool.parquet", destination, "text", **params)
    if n_rows != len(pool.texts):
        tally.error("embed_parquet", f"{n_rows} rows instead of {len(pool.texts)}")


CHILDREN: dict[str, Callable[..., None]] = {"embed": embed_in_child, "parquet": parquet_in_child}


def check_parquet(pool: Pool, tally: Tally, folder: Path, kind: str) -> None:
    """Compare what ``embed_parquet`` wrote: each row once, in order, with its vector or null, in the files it lists."""
    import skembed

    files = [part["file"] for part in json.loads((folder / "_manifest.json").read_text(encoding="utf-8"))["parts"]]
    there = {path.name for path in folder.iterdir()}
    if there - {".lock"} != {*files, "_manifest.json"}:
        tally.error("parquet", f"{sorted(there)} instead of {files}")
    frame = skembed.read_parquet(folder)
    if frame["id"].tolist() != list(range(len(pool.texts))):
        tally.error("parquet", f"{len(frame)} rows, not each once in order")
    elif not all(a == b or (a is None and b != b) for a, b in zip(pool.texts, frame["text"], strict=True)):
        tally.error("parquet", "other texts than in the source")
    elif frame["vector"].isna().tolist() != [text is None for text in pool.texts]:
        tally.error("parquet", "vectors are null where texts are not, or the other way round")
    else:
        matrix = frame["vector"].to_numpy("float32")
        tally.compared("embed_parquet/completed", pool.differences(matrix, kind, slice(None)))


def memory_bytes() -> tuple[int, int]:
    """Return the resident memory, and how much of it is not mapped files, such as that of the cache on disk."""
    n_resident, n_shared = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3])
    return n_resident * resource.getpagesize(), (n_resident - n_shared) * resource.getpagesize()


def processes_of(folder: Path) -> list[int]:
    """List the children of this process, including zombies, and processes started with the folder's name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() or os.fsencode(folder) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it ended just now
                continue
    return found


def give_back_free_memory() -> None:
    """Make glibc release free memory."""
    gc.collect()
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_few_arenas() -> None:
    """Make all threads allocate from the same two arenas.

    glibc creates up to eight per core, and a page of any of them remains as long as one allocation in it does. What
    threads leave in 16 arenas grows for half an hour, although the bytes in use do not.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, 2)


def judge(soak: Soak) -> list[dict[str, Any]]:
    samples, counts = soak.samples, soak.tally.counts
    n_before, n_growth = before(samples, "resident_bytes"), growth(samples, "resident_bytes")
    most_growth = max(LARGEST_GROWTH * n_before, LARGEST_GROWTH_BYTES)
    results = [
        result("wrong vectors", counts["wrong"], "0", counts["wrong"] == 0),
        result("unexpected errors", len(soak.tally.errors), "0", not soak.tally.errors),
        result("runs of `embed_parquet` completed", soak.n_completed, "1 at least", soak.n_completed > 0),
        result(
            "growth of resident memory",
            f"{n_growth / MB:+.1f} MB, of {n_before / MB:.0f} MB",
            f"{most_growth / MB:.1f} MB",
            n_growth <= most_growth,
        ),
    ]
    for what, name in (("file descriptors", "descriptors"), ("threads", "threads")):
        n, most = int(samples[-1][name]), int(before(samples, name)) + MOST_MORE
        results.append(result(f"{what} at the end", n, most, n <= most))
    n_left = max(int(largest(samples, "children")), soak.left_over)
    results.append(result("processes left after a round", n_left, "0", n_left == 0))
    for what, name, most in (
        ("most in the cache on disk", "disk_cache_bytes", DISK_CACHE_BYTES),
        ("most bytes of its folder", "disk_cache_file_bytes", DISK_CACHE_SLACK * DISK_CACHE_BYTES),
    ):
        n = int(largest(samples, name))
        results.append(result(what, f"{n / MIB:.1f} MiB", f"{most / MIB:.0f} MiB", n <= most))
    return results


def before(samples: list[Sample], name: str) -> float:
    return median(sample[name] for sample in quarter(samples, 1))


def growth(samples: list[Sample], name: str) -> float:
    return median(sample[name] for sample in quarter(samples, 3)) - before(samples, name)


def largest(samples: list[Sample], name: str) -> float:
    return max(sample[name] for sample in samples)


def quarter(samples: list[Sample], number: int) -> list[Sample]:
    start, stop = number * len(samples) // 4, (number + 1) * len(samples) // 4
    return samples[start : max(stop, start + 1)]


def result(what: str, measured: Any, bound: Any, holds: bool) -> dict[str, Any]:
    return {"what": what, "measured": measured, "bound": bound, "holds": holds}


def report(soak: Soak, arguments: argparse.Namespace, machine: dict[str, Any]) -> int:
    from report import print_report, verdict, write_json

    counts, verdicts = soak.tally.counts, judge(soak)
    n_calls = {call: n for call, n in sorted(counts.items()) if "/" in call}
    n_killed = counts["embed children killed"] + counts["parquet children killed"]
    facts = {
        "calls": f"{sum(n_calls.values()):,}",
        "vectors compared": f"{counts['vectors']:,}",
        "vectors that the comparison tells apart": f"{soak.pool.told_apart():.2%}",
        "children": f"{soak.n_started:,}",
        "children killed": f"{n_killed:,}",
        "growth of private memory": f"{growth(soak.samples, 'private_bytes') / MB:+.1f} MB",
    }
    for line in [*soak.tally.wrong[:5], *soak.tally.errors[:5]]:
        print(*line.values(), file=sys.stderr)
    rows = [[one["what"], one["measured"], one["bound"], verdict(one["holds"])] for one in verdicts]
    print_report(machine, HEADER, [*([what, n, "", ""] for what, n in facts.items()), *rows])
    write_json(
        arguments.json,
        machine=machine,
        minutes=arguments.minutes,
        seed=arguments.seed,
        facts=facts,
        results=verdicts,
        counts=dict(sorted(counts.items())),
        wrong=soak.tally.wrong[:50],
        errors=soak.tally.errors[:50],
        samples=soak.samples,
    )
    return 0 if all(one["holds"] for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
