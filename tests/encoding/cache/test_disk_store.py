"""The cache on disk: what is read back, who may share it, and what happens when processes die and files break."""

from __future__ import annotations

import ast
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import replace
from hashlib import shake_128
from pathlib import Path
from threading import Timer

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed import CacheError, CacheWarning, EmbeddingCache, embed
from skembed.encoding.cache import disk_store, lmdb_pages, records
from skembed.encoding.cache.disk_store import DiskStore
from skembed.encoding.recipes import Recipe
from tests.interrupts import at_each_line, interrupted_at_random

DIM = 8
SECONDS = 120  # a process that takes longer hangs; the time to import its libraries does not count
RECIPE = Recipe(1, "a" * 64, "torch", "float32", "", 256, False, (6,), ("mean",))
PREPARE = """
import os, sys
import numpy as np
from dataclasses import replace
from hashlib import shake_128
from pathlib import Path
from skembed import CacheError
from skembed.encoding.cache import disk_store
from tests.encoding.cache.test_disk_store import RECIPE, read, vectors_of, write
folder = Path(sys.argv[1])
store = disk_store.DiskStore(folder, None)
print("ready", flush=True)
"""
on_unix = pytest.mark.skipif(os.name != "posix", reason="signals, forks and file modes as on Unix")


def vectors_of(texts, dim=DIM):
    """Return the vectors that belong to texts, with arbitrary bits: all others are wrong."""
    content = b"".join(shake_128(text.encode()).digest(4 * dim) for text in texts)
    return np.frombuffer(content, dtype=np.float32).reshape(len(texts), dim)


def write(store, texts, recipe=RECIPE, dim=DIM):
    store.write(texts, np.array([len(text) for text in texts], dtype=np.int64), {recipe: vectors_of(texts, dim)})


def read(store, texts, recipe=RECIPE, dim=DIM):
    """Return the texts that are cached; fail if the vector or token count of one is wrong."""
    vectors, n_tokens = np.full((len(texts), dim), -7, dtype=np.float32), np.full(len(texts), -7)
    missing = store.read(recipe, texts, vectors, n_tokens).tolist()
    known = sorted(set(range(len(texts))) - set(missing))
    right = vectors_of([texts[position] for position in known], dim)
    assert vectors[known].tobytes() == right.tobytes()
    assert n_tokens[known].tolist() == [len(texts[position]) for position in known]
    assert (vectors[missing] == -7).all()
    return [texts[position] for position in known]


def python(code, *arguments):
    """Start a process that has ``store`` open on the folder given first."""
    command = [sys.executable, "-c", PREPARE + code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, text=True, cwd=Path(__file__).parents[3], **pipes)


def await_start(process):
    """Wait until a process has imported its libraries."""
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    """Return what a process printed after its start; fail if it hangs or does not end by itself."""
    await_start(process)
    return printed_until_end(process)


def printed_until_end(process):
    hang = Timer(SECONDS, process.kill)
    hang.start()
    with process:
        printed = process.stdout.read()
    hang.cancel()
    assert process.returncode == 0, printed
    return printed.strip()


def kill(process):
    process.kill()
    with process:
        process.stdout.read()


@pytest.fixture
def store(tmp_path):
    store = DiskStore(tmp_path / "cache", None)
    yield store
    store.close()


# What comes back


@pytest.mark.parametrize("dim", [1, 3, 384, 4097])
def test_what_was_written_is_read_back_bit_for_bit(dim, store):
    texts = [f"text {number}" for number in range(50)]
    write(store, texts, dim=dim)
    store.close()
    assert read(store, texts, dim=dim) == texts


def test_nan_payloads_signed_zeros_and_large_counts_are_read_back_bit_for_bit(store):
    bits = np.array([[0x7F800001, 0xFFC12345, 0x80000000, 0x00000001]], dtype=np.uint32)
    store.write(["a"], np.array([2**40]), {RECIPE: bits.view(np.float32)})
    vectors, n_tokens = np.zeros((1, 4), dtype=np.float32), np.zeros(1, dtype=np.int64)
    assert store.read(RECIPE, ["a"], vectors, n_tokens).tolist() == []
    assert vectors.view(np.uint32).tolist() == bits.tolist()
    assert n_tokens.tolist() == [2**40]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True, max_size=30)),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True, max_size=40),
)
def test_any_texts_written_in_any_batches_are_read_in_any_order(batches, others):
    with tempfile.TemporaryDirectory() as folder:
        store = DiskStore(Path(folder), None)
        for texts in batches:
            write(store, texts)
        written = {text for texts in batches for text in texts}
        asked = list(dict.fromkeys([*others, *sorted(written, key=hash)]))
        assert read(store, asked) == [text for text in asked if text in written]
        assert [asked[position] for position in store.missing(RECIPE, asked)] == [t for t in asked if t not in written]
        store.close()


def test_a_few_texts_are_found_in_a_large_batch(store):
    texts = [f"text {number}" for number in range(1000)]
    write(store, texts)
    assert read(store, ["text 5", "unknown", "text 999"]) == ["text 5", "text 999"]


def test_vectors_are_read_into_some_columns_of_a_wider_matrix(store):
    write(store, ["a", "b", "c"])
    matrix = np.zeros((3, 3 * DIM), dtype=np.float32)
    store.read(RECIPE, ["c", "a", "b"], matrix[:, DIM : 2 * DIM], np.zeros(3, dtype=np.int64))
    assert (matrix[:, DIM : 2 * DIM] == vectors_of(["c", "a", "b"])).all()
    assert not matrix[:, :DIM].any()


def test_a_vector_that_is_cached_already_stays(store):
    write(store, ["a"])
    store.write(["a", "b"], np.array([1, 1]), {RECIPE: np.vstack([np.zeros(DIM, dtype=np.float32), vectors_of(["b"])])})
    assert read(store, ["a", "b"]) == ["a", "b"]
    assert store.size()[0] == 2


def test_several_recipes_are_written_at_once_and_kept_apart(store):
    other = replace(RECIPE, pooling=("max",))
    store.write(["a"], np.array([1]), {other: np.zeros((1, 3), dtype=np.float32), RECIPE: vectors_of(["a"])})
    assert read(store, ["a"]) == ["a"]
    assert store.missing(replace(RECIPE, pooling=("cls",)), ["a"]).tolist() == [0]
    assert store.count()[0] == 1
    assert store.size()[0] == 2


@pytest.mark.parametrize(("dim", "n_together"), [(384, 20), (384, 64), (32, 80)])
def test_the_estimated_bytes_are_about_what_batches_of_the_usual_size_take(dim, n_together, store):
    texts = [f"text {number}" for number in range(16 * n_together)]
    for start in range(0, len(texts), n_together):
        write(store, texts[start : start + n_together], dim=dim)
    assert 0.75 < store.estimate_bytes(texts, dim) / store.size()[1] < 1.25


def test_reading_and_writing_no_texts_does_nothing(store):
    write(store, [])
    assert read(store, []) == []
    assert store.count() == (0, 0)


def test_clear_removes_everything_and_the_store_can_still_be_used(store):
    write(store, ["a", "b"])
    store.clear()
    assert read(store, ["a", "b"]) == []
    assert store.count() == (0, 0)
    write(store, ["b"])
    assert read(store, ["a", "b"]) == ["b"]


def test_a_full_store_evicts_the_oldest_batches_first(tmp_path):
    store = DiskStore(tmp_path / "cache", 100_000)
    for number in range(200):
        write(store, [f"text {number} {letter}" for letter in "abc"])
        assert store.size()[1] <= 100_000
    known = read(store, [f"text {number} a" for number in range(200)])
    assert known == [f"text {number} a" for number in range(200 - len(known), 200)]
    assert len(known) > 15
    assert (tmp_path / "cache" / "data.mdb").stat().st_size < 400_000


@on_unix
@pytest.mark.slow
def test_a_reader_that_is_killed_does_not_let_the_file_grow(tmp_path):
    store = DiskStore(tmp_path / "cache", 1_000_000)
    for number in range(60):
        write(store, [f"{number} {row}" for row in range(20)], dim=384)
    with python("with store._transaction(): os.kill(os.getpid(), 9)", tmp_path / "cache") as reader:
        reader.wait()
    before = (tmp_path / "cache" / "data.mdb").stat().st_size
    for number in range(60, 300):
        write(store, [f"{number} {row}" for row in range(20)], dim=384)
    assert (tmp_path / "cache" / "data.mdb").stat().st_size < 2 * before


@pytest.mark.slow
def test_many_recipes_at_once_in_a_small_cache_leave_a_complete_file(tmp_path):
    recipes = [replace(RECIPE, layers=(layer,)) for layer in range(42)]
    for seed in range(8):
        store, draw = DiskStore(tmp_path / str(seed), 1_000_000), np.random.default_rng(seed)
        for number in range(25):
            texts = [f"{number} {row}" for row in range(draw.integers(2, 60))]
            n_tokens = np.array([len(text) for text in texts])
            some = recipes[: draw.choice([1, 6, 42])]
            store.write(texts, n_tokens, dict.fromkeys(some, vectors_of(texts, 384)))
            assert store.size()[1] <= 1_000_000
            read(store, texts, some[0], dim=384)
        store.close()
        read(store, texts, some[0], dim=384)


def test_a_full_file_can_be_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr("skembed.encoding.cache.disk_store._SMALLEST_MAP", 2**16)
    store = DiskStore(tmp_path / "cache", None)
    for number in range(60):
        write(store, [f"{number} {letter}" for letter in "abcdefgh"], dim=384)
    store._environment.set_mapsize((tmp_path / "cache" / "data.mdb").stat().st_size)
    store.clear()
    assert store.count() == (0, 0)


def test_a_file_that_cannot_be_enlarged_is_an_error_and_the_store_can_still_be_used(store, monkeypatch):
    write(store, ["a"], dim=384)
    store._environment.set_mapsize(2**17)
    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "_enlarge_map", lambda self: (_ for _ in ()).throw(CacheError("no address space")))
        with pytest.raises(CacheError, match="no address space"):
            write(store, [f"text {number}" for number in range(200)], dim=384)
    assert read(store, ["a"], dim=384) == ["a"]
    write(store, [f"text {number}" for number in range(200)], dim=384)


def test_a_batch_larger_than_the_cache_is_not_stored_and_evicts_nothing(tmp_path):
    store = DiskStore(tmp_path / "cache", 10_000)
    write(store, ["a"])
    write(store, [f"text {number}" for number in range(1000)])
    assert read(store, ["a", "text 1"]) == ["a"]


@on_unix
def test_only_the_owner_has_access_to_folder_and_files(store):
    write(store, ["a"])
    with store.single_flight_lock("f"):
        modes = {path.name: path.stat().st_mode & 0o777 for path in [store.folder, *store.folder.iterdir()]}
    assert modes == {"cache": 0o700, "data.mdb": 0o600, "lock.mdb": 0o600, "f.lock": 0o600}


# Many processes


@pytest.mark.slow
def test_processes_that_have_the_folder_open_read_each_other_s_vectors(store):
    write(store, ["a"])
    process = python("write(store, ['b']); print(read(store, ['a', 'b', 'c']))", store.folder)
    assert finish(process) == "['a', 'b']"
    assert read(store, ["a", "b", "c"]) == ["a", "b"]


@pytest.mark.slow
def test_processes_that_enlarge_the_file_at_once_lose_nothing(tmp_path):
    code = """
disk_store._SMALLEST_MAP = 2**16
for number in range(150):
    write(store, [f"{sys.argv[2]} {number} {letter}" for letter in "abcdefgh"], dim=384)
"""
    processes = [python(code, tmp_path / "cache", name) for name in ("one", "two")]
    assert [finish(process) for process in processes] == ["", ""]
    texts = [f"{name} {number} {letter}" for name in ("one", "two") for number in range(150) for letter in "abcdefgh"]
    assert read(DiskStore(tmp_path / "cache", None), texts, dim=384) == texts


@pytest.mark.slow
@on_unix
def test_a_forked_child_uses_the_store_that_its_parent_has_open(tmp_path):
    code = """
from skembed import EmbeddingCache
store = EmbeddingCache(folder).store
write(store, ["a"])
child = os.fork()
if child == 0:
    is_right = read(store, ["a"]) == ["a"]
    write(store, ["b"])
    os._exit(0 if is_right else 1)
assert os.waitpid(child, 0)[1] == 0
print(read(store, ["a", "b"]))
"""
    assert finish(python(code, tmp_path / "cache")) == "['a', 'b']"


@pytest.mark.slow
@on_unix
@pytest.mark.parametrize("n_batches", [0, 1, 20])
def test_a_writer_that_is_killed_while_it_writes_breaks_nothing_for_two_others(n_batches, tmp_path):
    code = """
for number in range(int(sys.argv[3])):
    write(store, [f"{sys.argv[2]} {number} {letter}" for letter in "abcdefgh"], dim=384)
    if sys.argv[2] == "victim":
        print(number, flush=True)
"""
    folder = tmp_path / "cache"
    others = [python(code, folder, name, 30) for name in ("one", "two")]
    victim = python(code, folder, "victim", 1_000_000)
    await_start(victim)
    for number in range(n_batches):
        assert victim.stdout.readline() == f"{number}\n"
    kill(victim)
    assert [finish(other) for other in others] == [""] * 2
    store = DiskStore(folder, None)
    texts = [f"{name} {number} {letter}" for name in ("one", "two") for number in range(30) for letter in "abcdefgh"]
    assert read(store, texts, dim=384) == texts
    of_victim = [f"victim {number} {letter}" for number in range(5000) for letter in "abcdefgh"]
    known = read(store, of_victim, dim=384)
    assert known == of_victim[: len(known)]
    assert len(known) >= 8 * n_batches
    assert len(known) % 8 == 0  # a batch is cached as a whole or not at all
    write(store, ["afterwards"], dim=384)
    assert read(store, ["afterwards"], dim=384) == ["afterwards"]


@pytest.mark.slow
@on_unix
@pytest.mark.parametrize(
    "hold", ["store.single_flight_lock('a' * 64)", "store._transaction(write=True)"], ids=["encoding", "writing"]
)
def test_the_lock_of_a_dead_process_stops_no_other(hold, tmp_path):
    victim = python(f"with {hold}:\n    print('held', flush=True)\n    sys.stdin.read()", tmp_path / "cache")
    assert await_start(victim).stdout.readline() == "held\n"
    waiting = python(
        "with store.single_flight_lock('a' * 64):\n    write(store, ['a'])\nprint(read(store, ['a']))", victim.args[3]
    )
    await_start(waiting)
    kill(victim)
    assert printed_until_end(waiting) == "['a']"


@pytest.mark.slow
def test_one_process_at_a_time_encodes_with_a_model(tmp_path):
    code = """
sys.stdin.readline()
for _ in range(100):
    with store.single_flight_lock("model"):
        count = int(counter.read_text())
        counter.write_text(str(count + 1))
"""
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [python(f"counter = Path({str(counter)!r})" + code, tmp_path / "cache") for _ in range(2)]
    for process in processes:
        await_start(process)
    for process in processes:  # both at once, now that their libraries are imported
        process.stdin.write("\n")
        process.stdin.flush()
    assert [printed_until_end(process) for process in processes] == ["", ""]
    assert counter.read_text() == "200"


# Damage


def run_reader(folder):
    """Read in a new process, because a damaged file might kill it."""
    code = """
try:
    known = read(store, sys.argv[2:], dim=384)
except CacheError as error:
    known = error
print(known)
"""
    return finish(python(code, folder, *[f"text {number}" for number in range(200)]))


@pytest.fixture
def filled(tmp_path):
    """A folder with 200 vectors in batches of 20, closed."""
    store = DiskStore(tmp_path / "cache", None)
    for number in range(0, 200, 20):
        write(store, [f"text {row}" for row in range(number, number + 20)], dim=384)
    store.close()
    return tmp_path / "cache"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.05, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_an_error_with_a_way_out(share, filled):
    data = filled / "data.mdb"
    os.truncate(data, int(share * data.stat().st_size))
    printed = run_reader(filled)
    assert printed == "[]" if share == 0 else "is damaged" in printed
    assert share == 0 or "Delete the folder" in printed


@pytest.mark.slow
def test_a_file_that_is_truncated_while_it_is_open_is_an_error(filled):
    code = """
texts = [f"text {number}" for number in range(200)]
assert read(store, texts, dim=384) == texts
os.truncate(folder / "data.mdb", 4000)
for _ in range(2):
    try:
        print(read(store, texts, dim=384))
    except CacheError as error:
        print("is damaged" in str(error))
"""
    assert finish(python(code, filled)) == "True\nTrue"


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"not a database at all" * 1000, bytes(4000), b"SQLite format 3\0" + bytes(8000), b"x"], ids=len
)
def test_a_file_of_another_kind_is_an_error_and_stays_as_it_is(content, tmp_path):
    (tmp_path / "data.mdb").write_bytes(content)
    assert "is damaged or not a cache of skembed" in run_reader(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"about", b"theirs"])
def test_an_lmdb_file_of_another_program_is_an_error_and_stays_as_it_is(name, tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=1) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", b"value", db=environment.open_db(name, txn=transaction))
    content = (tmp_path / "data.mdb").read_bytes()
    printed = run_reader(tmp_path)
    assert "another program" in printed or "another version" in printed
    assert (tmp_path / "data.mdb").read_bytes() == content


DAMAGES = """
import random, shutil, signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

def damage(content, draw):
    n_pages = len(content) // 4096
    tree = [page for page in range(n_pages) if content[4096 * page + 10] in (1, 2, 8)]  # branches, leaves and heads
    page = draw.choice([draw.randrange(n_pages), *draw.choices(tree, k=3), draw.choice([0, 1])])
    start, kind = 4096 * page, draw.randrange(6)
    if kind == 0:
        content[start : start + 4096] = bytes(4096)
    elif kind == 1:
        other = 4096 * draw.choice([draw.randrange(n_pages), draw.choice(tree)])
        content[start : start + 4096] = content[other : other + 4096]
    elif kind == 2:
        content[start : start + 4096] = draw.randbytes(4096)
    elif kind == 3:
        cut = draw.randrange(0, 4096, 512)
        content[start + cut : start + 4096] = bytes(4096 - cut)
    elif kind == 4:
        cut = draw.randrange(4096 - 8)
        content[start + cut : start + cut + 8] = draw.randbytes(8)
    else:
        content[start + draw.randrange(draw.choice([16, 64, 152, 4096]))] ^= 1 << draw.randrange(8)

def use(damaged, texts):
    try:
        known = read(damaged, texts, dim=384)
        damaged.count(), damaged.size(), damaged.missing(replace(RECIPE, layers=(1,)), texts[:5])
        for number in range(30):  # evicts what was cached
            write(damaged, [f"new {number} {row}" for row in range(20)], dim=384)
        read(damaged, [*texts, *(f"new {number} {row}" for number in range(30) for row in range(20))], dim=384)
        write(damaged, texts, dim=384)
        return "was read"
    except CacheError as error:
        assert "is damaged" in str(error) or "another" in str(error), error
        return "is damaged"

texts = [f"text {number}" for number in range(600)]
original, copied = folder / "data.mdb", folder.parent / "copy"
content, told = original.read_bytes(), {"is damaged": 0, "was read": 0}
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a process that hangs fails
        changed, draw = bytearray(content), random.Random(seed)
        damage(changed, draw)
        shutil.rmtree(copied, ignore_errors=True)
        copied.mkdir(mode=0o700)
        (copied / "data.mdb").write_bytes(changed)
        try:
            end = use(disk_store.DiskStore(copied, 900_000), texts) == "is damaged"
        except BaseException as error:
            print(seed, repr(error), flush=True)
            end = 2
        os._exit(end)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended in (0, 1):
        told["is damaged" if ended else "was read"] += 1
    else:
        print("seed", seed, "ended with", ended, flush=True)
print(told)
"""


@pytest.mark.slow
@on_unix
@pytest.mark.parametrize("n_damages", [50, pytest.param(500, marks=pytest.mark.exhaustive)])
def test_no_damaged_page_kills_the_process_or_gives_a_wrong_vector(n_damages, tmp_path):
    store, draw = DiskStore(tmp_path / "cache", 1_500_000), np.random.default_rng(0)
    start = 0
    while start < 600:
        stop = min(start + int(draw.choice([1, 2, 20, 64])), 600)
        write(store, [f"text {number}" for number in range(start, stop)], dim=384)
        start = stop
    store.close()
    for seed in range(0, n_damages, 50):
        told = finish(python(DAMAGES, tmp_path / "cache", seed, seed + 50))
        assert told.startswith("{"), told
        assert ast.literal_eval(told)["is damaged"] > 12


def test_a_path_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CacheError, match=r"file' failed: .* Make sure that it is a folder"):
        read(DiskStore(tmp_path / "file", None), ["a"])
    assert (tmp_path / "file").read_text() == "mine"


def test_a_flipped_bit_in_a_record_costs_that_record_and_no_other(filled):
    store, texts = DiskStore(filled, None), [f"text {number}" for number in range(200)]
    content = bytearray((filled / "data.mdb").read_bytes())
    for number in (7, 107):
        content[content.find(vectors_of([f"text {number}"], 384).tobytes()) + 700] ^= 16
    (filled / "data.mdb").write_bytes(content)
    assert read(store, texts, dim=384) == [text for text in texts if text not in ("text 7", "text 107")]
    write(store, texts, dim=384)
    assert read(store, texts, dim=384) == texts
    store.close()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_no_damage_to_a_record_gives_a_wrong_vector(data):
    with tempfile.TemporaryDirectory() as folder:
        store, texts = DiskStore(Path(folder), None), [f"text {number}" for number in range(20)]
        write(store, texts)
        store.close()
        path = Path(folder) / "data.mdb"
        content = bytearray(path.read_bytes())
        start = content.find(vectors_of(["text 0"]).tobytes()) - 40
        stop = content.find(vectors_of(["text 19"]).tobytes()) + 4 * DIM + 4
        for place in data.draw(st.lists(st.integers(start, stop - 1), min_size=1, max_size=5)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        assert len(read(store, texts)) >= 15
        write(store, texts)
        assert read(store, texts) == texts
        store.close()


@pytest.mark.parametrize("place", range(8))
def test_a_batch_with_a_damaged_head_counts_as_missing_and_is_written_again(place, tmp_path):
    store, texts = DiskStore(tmp_path / "cache", None), [f"text {number}" for number in range(20)]
    write(store, texts)
    store.close()
    path = tmp_path / "cache" / "data.mdb"
    content = bytearray(path.read_bytes())
    content[content.find(vectors_of(["text 0"]).tobytes()) - 48 + place] ^= 64
    path.write_bytes(content)
    assert read(store, texts) == []
    write(store, texts)
    assert read(store, texts) == texts
    store.close()


@pytest.mark.slow
def test_a_folder_that_is_deleted_while_it_is_open_is_created_again(store):
    write(store, ["a"])
    shutil.rmtree(store.folder)
    assert read(store, ["a"]) == []
    write(store, ["a"])
    assert finish(python("print(read(store, ['a']))", store.folder)) == "['a']"


@pytest.mark.slow
@on_unix
def test_a_folder_without_write_permission_is_an_error():
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent, "cache")
        folder.mkdir(mode=0o555)
        code = """
import lmdb, filelock
if os.geteuid() == 0:
    os.seteuid(65534)
lock = store.single_flight_lock
for operation in (lambda: read(store, ["a"]), lambda: write(store, ["a"]), lambda: lock("f").__enter__()):
    try:
        print(operation())
    except CacheError as error:
        print("write permission" in str(error))
"""
        assert finish(python(code, folder)) == "True\nTrue\nTrue"


@pytest.mark.slow
@on_unix
def test_a_full_disk_costs_no_cached_vector_and_later_writes_succeed(tmp_path):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
written, failures = [], []
for number in range(60):
    texts = [f"{number} {letter}" for letter in "abcdefgh" * 2]
    texts = [f"{text} {position}" for position, text in enumerate(texts)]
    try:
        write(store, texts, dim=384)
        written += texts
    except CacheError as error:
        failures.append(error)
assert len(failures) > 5 and "free space" in str(failures[0]), failures
assert read(store, written, dim=384) == written
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write(store, ["later"], dim=384)
print(read(store, ["later", *written], dim=384) == ["later", *written])
"""
    assert finish(python(code, tmp_path / "cache")) == "True"


# Through the encoder


@on_unix
def test_a_full_disk_costs_one_warning_and_no_result(tiny, tmp_path, monkeypatch):
    texts = [f"a quick brown fox number {number}" for number in range(300)]
    cache = EmbeddingCache(tmp_path / "cache")

    def fail(*arguments):
        raise CacheError("no space left")

    monkeypatch.setattr(DiskStore, "write", fail)
    with pytest.warns(CacheWarning, match="The result is right, but not all of it could be kept") as caught:
        vectors = embed(texts, model=tiny, cache=cache)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.allclose(vectors, embed(texts, model=tiny, cache=None), atol=1e-6)


def test_a_damaged_vector_is_encoded_again(tiny, tmp_path, counted):
    folder = tmp_path / "cache"
    expected = embed(["a quick fox", "a dog"], model=tiny, cache=folder, normalize_embeddings=False)
    EmbeddingCache(folder).close()
    content = bytearray((folder / "data.mdb").read_bytes())
    content[content.find(expected[1].tobytes()) + 2] ^= 1
    (folder / "data.mdb").write_bytes(content)
    for _ in range(2):
        again = embed(["a quick fox", "a dog"], model=tiny, cache=folder, normalize_embeddings=False)
        assert np.allclose(again, expected, atol=1e-6)
    assert counted == ["a quick fox", "a dog", "a dog"]


ENCODE = """
import sys, skembed
from skembed.encoding import encoder
encoder._CHARACTERS_AT_FIRST, encoder._SECONDS_PER_CHUNK = 2000, 0.1  # many chunks
texts = [f"a fox, the {number}th of them" for number in range(int(sys.argv[3]))]
cache = skembed.EmbeddingCache(sys.argv[1])
skembed.embed(texts[:1], model=sys.argv[2], cache=None)
print("ready", flush=True)
vectors = skembed.embed(texts, model=sys.argv[2], cache=cache, batch_tokens=256, show_progress_bar=False)
print(cache.stats()["misses"])
"""


DIE_AT_500_TEXTS = """
import os, signal
from skembed.encoding.cache.disk_store import DiskStore
write = DiskStore.write

def write_and_die(store, *batch):
    write(store, *batch)
    if store.count()[0] >= 500:
        os.kill(os.getpid(), signal.SIGKILL)

DiskStore.write = write_and_die
"""


def encoder_process(folder, model, n_texts, before=""):
    command = [sys.executable, "-c", before + ENCODE, str(folder), str(model), str(n_texts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # several threads slow down tiny batches
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.mark.slow
def test_two_processes_encode_the_same_texts_only_once_together(tiny, tmp_path):
    processes = [encoder_process(tmp_path / "cache", tiny, 1000) for _ in range(2)]
    n_encoded = [int(finish(process)) for process in processes]
    assert sum(n_encoded) == 1000
    assert EmbeddingCache(tmp_path / "cache").stats()["texts"] == 1000


@pytest.mark.slow
@on_unix
def test_a_run_that_was_killed_resumes_where_it_stopped(tiny, tmp_path):
    with encoder_process(tmp_path / "cache", tiny, 4000, before=DIE_AT_500_TEXTS) as killed:
        killed.communicate()
    n_kept = EmbeddingCache(tmp_path / "cache").stats()["texts"]
    assert 500 <= n_kept < 4000
    n_encoded = int(finish(encoder_process(tmp_path / "cache", tiny, 4000)))
    assert n_encoded == 4000 - n_kept


# Interrupts and signal handlers


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt in a __del__
class TestInterrupts:
    """After an operation is interrupted, the next one works, and no vector is wrong."""

    batches = tuple([f"{number} {row}" for row in range(6)] for number in range(6))

    def use(self, store):
        """Call every method, and write until the store is full."""
        with store.single_flight_lock("a" * 64):
            for texts in self.batches:
                write(store, texts)
                read(store, texts)
        self.look(store)
        store.clear()
        for texts in self.batches[:2]:
            write(store, texts)
        store.close()

    def look(self, store):
        texts = [text for batch in self.batches for text in batch]
        read(store, texts)
        store.missing(RECIPE, texts)
        store.record_hits(1, 2)
        store.count(), store.size(), store.limit()

    def check(self, store):
        """Check what is cached, and then what is written."""
        for texts in self.batches:
            known = read(store, texts)
            assert known in ([], texts)  # a batch is cached as a whole or not at all
        n_known = sum(len(read(store, texts)) for texts in self.batches)
        assert store.size()[0] == n_known
        assert store.size()[1] == (n_known // 6) * self.batch_bytes(store)
        write(store, self.batches[0])
        assert read(store, self.batches[0]) == self.batches[0]

    def batch_bytes(self, store):
        other = DiskStore(store.folder.parent / "other", None)
        if not other.size()[0]:
            write(other, self.batches[0])
        n_bytes = other.size()[1]
        other.close()
        return n_bytes

    def made(self, folder):
        return DiskStore(folder, 4 * self.batch_bytes(DiskStore(folder, None)))

    @pytest.mark.slow
    @pytest.mark.parametrize("visits", [1, pytest.param(5, marks=pytest.mark.exhaustive)])
    @pytest.mark.parametrize("is_new", [True, False], ids=["one store each", "one store for all"])
    def test_an_interrupt_at_any_line_leaves_a_correct_store(self, is_new, visits, tmp_path):
        n_struck, store, kept = 0, self.made(tmp_path / "cache"), []
        modules = [disk_store, lmdb_pages, records]
        strikes = at_each_line(modules, lambda: self.use(self.made(tmp_path / "first")), visits=visits)
        for number, strike in enumerate(strikes):
            store = self.made(tmp_path / f"cache {number}") if is_new else store
            try:
                n_struck += strike(lambda: self.use(store), keep=kept)  # noqa: B023 - run at once
            except CacheError as error:
                pytest.fail(f"{strike}: {error}")
            self.check(store)
            store.close()
        assert n_struck > 100

    @pytest.mark.slow
    @on_unix
    @pytest.mark.parametrize("n_interrupts", [50, pytest.param(2000, marks=pytest.mark.exhaustive)])
    def test_real_interrupts_leave_a_correct_store(self, n_interrupts, tmp_path):
        store = self.made(tmp_path / "cache")
        assert interrupted_at_random(lambda: self.use(store), lambda: self.check(store), n_interrupts) == n_interrupts

    def test_a_signal_handler_that_uses_the_store_during_a_transaction_is_refused(self, store):
        write(store, ["a"])
        for within in (False, True):
            with store._transaction(write=within):
                for operation in (lambda: read(store, ["a"]), lambda: write(store, ["b"]), store.clear, store.count):
                    with pytest.raises(CacheError, match="by a signal handler"):
                        operation()
        assert read(store, ["a", "b"]) == ["a"]

    def test_a_signal_handler_that_encodes_while_its_thread_encodes_does_not_wait_for_itself(self, store):
        with store.single_flight_lock("a" * 64), store.single_flight_lock("a" * 64):
            write(store, ["a"])
        with store.single_flight_lock("a" * 64):
            assert read(store, ["a"]) == ["a"]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), struct.error("a bug")], ids=repr)
def test_an_unrelated_error_in_a_transaction_is_not_reported_as_damage(error, store, monkeypatch):
    def fail(*arguments):
        raise error

    write(store, ["a"])
    with monkeypatch.context() as patch:
        patch.setattr(disk_store, "write_records", fail)
        with pytest.raises(type(error), match="a bug"):
            write(store, ["b"])
    assert read(store, ["a", "b"]) == ["a"]


@pytest.mark.slow
@on_unix
@pytest.mark.parametrize("encoded", ["os.fsdecode('caf\\u00e9'.encode())", "'caf\\u00e9'"])
def test_in_an_ascii_locale_a_path_with_an_accent_works_or_is_a_clear_error(encoded, tmp_path):
    code = f"""
import os, sys
from pathlib import Path
from skembed import CacheError, EmbeddingCache
try:
    print(EmbeddingCache(Path(sys.argv[1]) / {encoded}).stats()["texts"])
except CacheError as error:
    print("PYTHONUTF8" in str(error) and "damaged" not in str(error))
"""
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env={**os.environ, **ascii_only}, capture_output=True, text=True
    )
    assert done.stdout.strip() in ("0", "True"), done.stdout + done.stderr


# Foreign hands


@on_unix
class TestSafety:
    @pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
    def test_a_link_to_another_file_is_refused_and_the_file_stays_as_it_is(self, name, tmp_path):
        victim, folder = tmp_path / "victim", tmp_path / "cache"
        victim.write_bytes(b"precious")
        folder.mkdir(mode=0o700)
        (folder / name).symlink_to(victim)
        store = DiskStore(folder, None)
        for operation in (lambda: read(store, ["a"]), lambda: write(store, ["a"]), store.clear):
            with pytest.raises(CacheError, match=f"its {name} is not a regular file"):
                operation()
        assert victim.read_bytes() == b"precious"

    def test_a_link_in_place_of_a_model_s_lock_is_refused_and_the_file_stays_as_it_is(self, store, tmp_path):
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        write(store, ["a"])
        (store.folder / f"{'a' * 16}.lock").symlink_to(victim)
        with pytest.raises(CacheError), store.single_flight_lock("a" * 64):
            pass
        assert victim.read_bytes() == b"precious"

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
    @pytest.mark.parametrize("make", ["os.mkfifo(path)", "path.mkdir()", "path.symlink_to('/dev/zero')"])
    def test_a_special_file_is_refused(self, make, name, tmp_path):
        code = f"""
import signal
signal.alarm(60)
folder.mkdir(mode=0o700)
path = folder / {name!r}
{make}
try:
    read(store, ["a"])
except CacheError as error:
    print("not a regular file" in str(error))
"""
        assert finish(python(code, tmp_path / "cache")) == "True"

    def test_a_folder_that_everyone_may_write_to_is_refused(self, tmp_path):
        store = DiskStore(tmp_path, None)
        tmp_path.chmod(0o777)
        with pytest.raises(CacheError, match="other users may write to this folder"):
            write(store, ["a"])
        assert list(tmp_path.iterdir()) == []
        tmp_path.chmod(0o755)
        write(store, ["a"])
        assert read(store, ["a"]) == ["a"]
        store.close()

    def test_a_folder_that_a_group_may_write_to_is_a_warning(self, tmp_path, monkeypatch):
        store = DiskStore(tmp_path, None)
        tmp_path.chmod(0o770)
        monkeypatch.setattr(disk_store, "_is_private_group", lambda gid: False)
        with pytest.warns(CacheWarning, match="A group may write to the cache folder"):
            write(store, ["a"])
        store.close()
        monkeypatch.setattr(disk_store, "_is_private_group", lambda gid: True)
        assert read(store, ["a"]) == ["a"]
        store.close()

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may give a folder away")
    def test_a_folder_of_another_user_is_refused(self, tmp_path, monkeypatch):
        os.chown(tmp_path, 12_345, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 54_321)
        with pytest.raises(CacheError, match="other users may write to this folder"):
            read(DiskStore(tmp_path, None), ["a"])

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077], ids=oct)
    def test_parent_folders_are_created_with_access_for_their_owner_only(self, umask, tmp_path):
        before = os.umask(umask)
        try:
            store = DiskStore(tmp_path / "a" / "b" / "c", None)
            write(store, ["a"])
            store.close()
        finally:
            os.umask(before)
        assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")} == {
            "a": 0o700,
            "b": 0o700,
        }
