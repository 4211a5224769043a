"""Damaged files of every kind that is read: the right result or one clear error; never another result, never a hang.

Damage is drawn from a seed: bits that flip, ranges that are lost, zeroed, doubled or overwritten; in JSON also values
of other types, numbers without end and brackets without bottom. A failure names the seeds that show it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import skembed
from skembed.encoding.cache.records import KEY_BYTES, Records, write_records
from skembed.files.sources import Source
from tests.training.fast import StoppedError, stop_training_at

PACKAGE = str(Path(skembed.__file__).parent)
TEXTS = [None if number % 7 == 3 else f"a parcel {number} {'quick fox ' * (number % 4)}" for number in range(24)]
SECONDS = 10  # that a file may take, however it is damaged


# Damage


def damage(content: bytes, rng: random.Random, is_json: bool) -> bytes:
    """Return other bytes than those given."""
    if not content:
        return rng.randbytes(8)
    kinds = [flip, flip, cut, zero, scramble, double, drop, *([swap, swap] if is_json else [])]
    for _ in range(100):
        damaged = rng.choice(kinds)(content, rng)
        if damaged != content:
            return damaged
    raise AssertionError("nothing could be damaged")


def _range(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 2, 4, 16, 100, 1000]))


def flip(content: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8]) if content else 0):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice([0, rng.randrange(len(content) + 1), max(len(content) - 1, 0)])]


def zero(content: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def scramble(content: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def double(content: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:end] + content[start:end] + content[end:]


def drop(content: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:start] + content[end:]


ODD_VALUES = [None, True, -1, 0, 3, 2**63, 10**400, -1e308, float("nan"), "", "x", "\ud800", [], {}, [[]], {"a": None}]


def swap(content: bytes, rng: random.Random) -> bytes:
    """Put another value in the place of one, at any depth; or what no parser likes in the place of all."""
    if rng.random() < 0.1:
        return rng.choice(
            [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"null", b"[]", b"{}", b'"x"', b"\xff", b""]
        )
    value = root = json.loads(content)
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return json.dumps(rng.choice(ODD_VALUES)).encode()
        key = rng.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.7:
            value = value[key]
            continue
        if rng.random() < 0.2:
            del value[key]
        else:
            value[key] = rng.choice(ODD_VALUES)
        return json.dumps(root).encode()


# What is read


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    make : callable
        Makes a sound folder; given a path and the folder of a tiny model.
    files : tuple of str
        Patterns of the files in it that are damaged.
    use : callable
        Reads the folder, and returns what was read.
    same : callable
        Whether what was read is right; given it, what was read of the sound folder, and the damaged folder.
    n_cases : int
        Of 200.
    """

    make: Callable[[Path, str], None]
    files: tuple[str, ...]
    use: Callable[[Path, str], Any]
    n_cases: int
    same: Callable[[Any, Any, Path], bool] = lambda found, sound, folder: bool(found == sound)


def make_embedded(folder, tiny):
    """Files that were embedded, before another one came."""
    (folder / "source").mkdir(parents=True)
    frame = pd.DataFrame({"text": TEXTS, "number": range(len(TEXTS))})
    frame[:15].to_parquet(folder / "source" / "a.parquet")
    skembed.embed_parquet(folder / "source", folder / "out", "text", model=tiny, rows_per_file=6)
    (folder / "out" / ".lock").unlink(missing_ok=True)
    frame[15:].to_parquet(folder / "source" / "b.parquet")


def go_on_embedding(folder, tiny):
    n_rows = skembed.embed_parquet(folder / "source", folder / "out", "text", model=tiny, rows_per_file=6)
    found = parquet.read_table(folder / "out").to_pydict()
    vectors = np.array([[np.nan] * 32 if vector is None else vector for vector in found["vector"]])
    return n_rows, found["number"], found["text"], vectors


def are_same_rows(found, sound, folder):
    return found[:3] == sound[:3] and np.allclose(found[3], sound[3], atol=1e-6, equal_nan=True)


def make_csv(folder, tiny):
    folder.mkdir()
    with open(folder / "a.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "n"])
        writer.writerows(
            [f'{text} "é,\r\n{number}' if number % 3 else text, number] for number, text in enumerate(TEXTS)
        )


def read_rows(folder, tiny):
    source = Source(folder)
    table = pa.Table.from_batches([batch for _, _, batch in source.read(0)], source.schema)
    table.validate(full=True)
    return table.to_pylist()


def is_what_python_reads(found, sound, folder):
    """A CSV file has no checksum: what stands there now is right, as Python's csv module reads it."""
    content = (folder / "a.csv").read_bytes().decode("utf-8-sig").lstrip("\r\n")
    header, *expected = csv.reader(io.StringIO(content, newline=""))
    expected = [row or [""] for row in expected if row or len(header) == 1]
    return [list(row) for row in map(dict.keys, found[:1])] in ([], [header]) and expected == [
        ["" if value is None else value for value in row.values()] for row in found
    ]


def make_parquet(folder, tiny):
    folder.mkdir()
    frame = pd.DataFrame({"text": TEXTS, "n": range(len(TEXTS))})
    parquet.write_table(pa.Table.from_pandas(frame), folder / "a.parquet", row_group_size=9, write_page_checksum=True)


def is_what_pyarrow_reads(found, sound, folder):
    """The pages have checksums here; of the rest, what stands there now is right, as pyarrow reads it."""
    return bool(found == parquet.read_table(folder / "a.parquet").to_pylist())


def make_search(folder, tiny):
    texts = [text for text in TEXTS if text is not None]
    skembed.SemanticSearch(skembed.SentenceEmbeddingTransformer(tiny), n_neighbors=3).fit(texts).save(folder)
    (folder / "writing.lock").unlink(missing_ok=True)


def search(folder, tiny):
    return skembed.SemanticSearch.load(folder).search(["fox", "a parcel 8"])[["text", "rank"]].to_dict("list")


KEYS = [bytes([number]) * KEY_BYTES for number in range(5)]


def make_records(folder, tiny):
    folder.mkdir()
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    (folder / "records").write_bytes(write_records(KEYS, np.arange(5), vectors))


def find_records(folder, tiny):
    records = Records((folder / "records").read_bytes(), dim=8)
    rows = records.find(set(KEYS), slice(0, len(records)))
    return {key: (records.n_tokens[row], *records.vectors[row].tolist()) for key, row in rows.items()}


def has_no_other_records(found, sound, folder):
    """One that is damaged is computed again."""
    return all(sound[key] == record for key, record in found.items())


def make_model(folder, tiny):
    shutil.copytree(tiny, folder)


def embed_with_it(folder, tiny):
    transformer = skembed.SentenceEmbeddingTransformer(folder, cache=None, backend="torch").fit(["a fox"])
    try:
        return transformer.model_fingerprint_, transformer.transform(["a fox", "a parcel was sent to the lazy dog"])
    finally:
        skembed.unload_models()


def is_same_or_another_model(found, sound, folder):
    """Whoever flips a bit of a weight has another model: it must be known as one."""
    return found[0] != sound[0] or np.allclose(found[1], sound[1], atol=1e-6)


X, Y = [text or "nothing" for text in TEXTS], [0, 1] * (len(TEXTS) // 2)


def _train(folder, tiny):
    tuner = skembed.SentenceEmbeddingFineTuner(
        tiny, checkpoint_dir=folder, epochs=1, batch_size=4, n_pairs_per_text=2, random_state=0, cache=None,
        show_progress_bar=False, device="cpu",
    )  # fmt: skip
    return tuner.fit(X, Y).transform(X[:5])


def make_checkpoint(folder, tiny):
    """A training that was interrupted."""
    pytest.importorskip("accelerate")
    with pytest.MonkeyPatch.context() as patch:
        stop_training_at(4, patch)
        with pytest.raises(StoppedError):
            _train(folder, tiny)
    assert list(folder.glob("run-*/checkpoint-*/sealed.json"))


def make_conversion(folder, tiny):
    pytest.importorskip("openvino")
    embed_converted(folder, tiny)


def embed_converted(folder, tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        skembed.unload_models()
        return skembed.embed(["a fox", "a parcel"], model=tiny, backend="openvino", dtype="float32", cache=None)


def are_same_vectors(found, sound, folder):
    return np.allclose(found, sound, atol=1e-5)


KINDS = {
    "manifest": Kind(make_embedded, ("out/_manifest.json",), go_on_embedding, 34, are_same_rows),
    "finished part": Kind(make_embedded, ("out/*.parquet",), go_on_embedding, 20, are_same_rows),
    "csv": Kind(make_csv, ("a.csv",), read_rows, 45, is_what_python_reads),
    "parquet": Kind(make_parquet, ("a.parquet",), read_rows, 35, is_what_pyarrow_reads),
    "saved search": Kind(make_search, ("search.json", "*.parquet"), search, 14),
    "records": Kind(make_records, ("records",), find_records, 40, has_no_other_records),
    "checkpoint": Kind(make_checkpoint, ("run-*/*.json", "run-*/checkpoint-*/*"), _train, 3, are_same_vectors),
    "conversion": Kind(make_conversion, ("skembed/**/*.*",), embed_converted, 3, are_same_vectors),
    "model": Kind(make_model, ("*.json", "*/*.json", "*.safetensors"), embed_with_it, 6, is_same_or_another_model),
}


# Cases


@contextmanager
def alarm():
    def ring(*_):
        raise AssertionError(f"it took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def what_is_wrong_with(error: BaseException, folder: Path) -> str | None:
    """Say why an error is not one of the package's own that names where the damage is; None if it is."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if not isinstance(error, (skembed.SkembedError, OSError, ValueError, TypeError, ImportError)):
        return f"{type(error).__name__}: {error}"[:300]
    if not raised_in.startswith(PACKAGE):
        return f"{type(error).__name__} from {raised_in}: {error}"[:300]
    names = {str(folder), *(path.relative_to(folder).as_posix() for path in folder.rglob("*"))}
    if not any(name in str(error) for name in names):
        return f"names no file: {type(error).__name__}: {error}"[:300]
    return None


def run_case(kind: Kind, seed: int, sound: Path, expected: Any, folder: Path, tiny: str) -> str | None:
    """Damage one file of a copy and read it; say what is wrong with what comes of it."""
    rng = random.Random(seed)
    shutil.copytree(sound, folder)
    file = rng.choice(sorted(path for pattern in kind.files for path in folder.glob(pattern)))
    file.write_bytes(damage(file.read_bytes(), rng, file.suffix == ".json"))
    os.utime(file, ns=(1, 1))
    try:
        with alarm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.use(folder, tiny)
            return None if kind.same(found, expected, folder) else f"{file.name}: another result: {found!r}"[:300]
    except AssertionError as error:
        return str(error)
    except BaseException as error:  # what native code panics with is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        wrong = what_is_wrong_with(error, folder)
        return None if wrong is None else f"{file.name}: {wrong}"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("times", [
    pytest.param(1, marks=pytest.mark.slow, id="200 cases"),
    pytest.param(50, marks=pytest.mark.exhaustive, id="10,000 cases"),
])  # fmt: skip
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_gives_the_right_result_or_one_clear_error(name, times, tiny, tmp_path):
    kind = KINDS[name]
    kind.make(tmp_path / "sound", tiny)
    shutil.copytree(tmp_path / "sound", tmp_path / "copy")
    expected = kind.use(tmp_path / "copy", tiny)
    assert kind.same(expected, expected, tmp_path / "copy")
    wrong = {}
    for seed in range(times * kind.n_cases):
        problem = run_case(kind, seed, tmp_path / "sound", expected, tmp_path / "damaged", tiny)
        if problem is not None:
            wrong[seed] = problem
    assert wrong == {}
