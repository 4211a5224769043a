"""Shared state survives an exception at any line: after an interrupted call, later calls return right vectors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import skembed
from skembed import EmbeddingCache, embed
from skembed.encoding import call, encoder, plan, tokens, turns
from skembed.encoding.cache import disk_store, embedding_cache, memory_store, records
from skembed.encoding.models import loading, registry
from skembed.encoding.settings import Settings
from tests.interrupts import at_each_line, interrupted_at_random

TEXTS = [f"fox number {number} jumps over {number % 7} dogs" for number in range(24)]
SETTINGS = ({}, {"pooling": ("cls", "max")}, {"long_texts": "mean", "max_seq_length": 8})

# An interrupt may leave the scan of a folder open until it is garbage-collected, or strike during a collection.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", "ignore::skembed.TruncationWarning"
)
on_unix = pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    with EmbeddingCache(tmp_path / "cache" if request.param == "disk" else None) as made:
        yield made


@pytest.fixture
def right(tiny):
    return [embed(TEXTS, model=tiny, cache=None, **setting) for setting in SETTINGS]


def use(cache, model):
    """Embed new and cached texts by several recipes."""
    cache.clear()
    for setting in SETTINGS:
        for start in (0, 8, 4):
            embed(TEXTS[start : start + 16], model=model, cache=cache, batch_tokens=64, **setting)


def check(cache, model, right):
    for _ in range(2):
        for setting, expected in zip(SETTINGS, right, strict=True):
            assert np.allclose(embed(TEXTS, model=model, cache=cache, **setting), expected, atol=1e-5)
    n_misses = cache.stats()["misses"]
    for setting in SETTINGS:
        embed(TEXTS, model=model, cache=cache, **setting)
    assert cache.stats()["misses"] == n_misses  # all vectors are cached
    assert cache.stats()["texts"] == len(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("one_in", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_after_an_interrupt_at_any_line_of_a_call_vectors_are_right(one_in, cache, tiny, right):
    n_struck, kept = 0, []
    rooms = [call, embedding_cache, disk_store, encoder, memory_store, plan, records, tokens, turns]
    for strike in islice(at_each_line(rooms, lambda: use(cache, tiny), visits=2), 0, None, one_in):
        n_struck += strike(lambda: use(cache, tiny), keep=kept)
        check(cache, tiny, right)
    assert n_struck > 200 / one_in


@pytest.mark.slow
@pytest.mark.parametrize("one_in", [9, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_after_an_interrupt_at_any_line_of_loading_a_model_vectors_are_right(one_in, tiny, reference, right):
    live = reference("bert")

    def load():
        skembed.unload_models()
        for model in (tiny, live):
            registry.get_model(Settings(model=model))

    n_struck = 0
    for strike in islice(at_each_line([loading, registry], load, visits=1), 0, None, one_in):
        n_struck += strike(load)
        for model in (tiny, live):
            assert np.allclose(embed(TEXTS, model=model, cache=None), right[0], atol=1e-5)
        assert registry.get_model(Settings(model=tiny)) is registry.get_model(Settings(model=tiny))
    assert n_struck > 50 / one_in


@pytest.mark.slow
@on_unix
@pytest.mark.parametrize("n_interrupts", [50, pytest.param(2000, marks=pytest.mark.exhaustive)])
def test_after_real_interrupts_of_calls_vectors_are_right(n_interrupts, cache, tiny, right):
    n_struck = interrupted_at_random(lambda: use(cache, tiny), lambda: check(cache, tiny, right), n_interrupts)
    assert n_struck == n_interrupts


@on_unix
def test_a_signal_handler_may_clear_the_cache_at_any_moment(tiny, right):
    code_is_over, n_cleared = False, 0

    def handle(*_):
        nonlocal n_cleared
        skembed.clear_cache()
        n_cleared += 1
        if not code_is_over:
            signal.setitimer(signal.ITIMER_REAL, 0.0007)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        handle()
        for _ in range(20):
            for setting, expected in zip(SETTINGS, right, strict=True):
                assert np.allclose(embed(TEXTS, model=tiny, **setting), expected, atol=1e-5)
        code_is_over = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert n_cleared > 5


WRITER = """
import sys
from pathlib import Path
import numpy as np
from skembed.encoding.cache import disk_store
from tests.encoding.cache.test_disk_store import write
import os, random, signal, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
from tests.encoding.cache.test_disk_store import read
for number in range(first, last):
    child = os.fork()
    if child == 0:
        store = disk_store.DiskStore(folder, 400_000)
        for batch in range(10**6):
            write(store, [f"{number} {batch} {row}" for row in range(7)], dim=384)
            if batch % 50 == 49:
                store.clear()
    time.sleep(random.Random(number).uniform(0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store = disk_store.DiskStore(folder, 400_000)
    for batch in range(2000):
        known = read(store, texts := [f"{number} {batch} {row}" for row in range(7)], dim=384)
        assert known in ([], texts), (known, texts)
        if batch > 60 and not known:
            break
    write(store, [f"after {number}"], dim=384)
    assert read(store, [f"after {number}"], dim=384) == [f"after {number}"]
    assert store.size()[1] <= 400_000
    store.close()
print("all")
"""


@pytest.mark.slow
@on_unix
@pytest.mark.parametrize("n_kills", [10, pytest.param(300, marks=pytest.mark.exhaustive)])
def test_killed_writers_leave_no_wrong_vector_and_no_lasting_error(n_kills, tmp_path):
    for first in range(0, n_kills, 50):
        command = [sys.executable, "-c", WRITER, tmp_path / "cache", str(first), str(min(first + 50, n_kills))]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=600)
        assert done.stdout == "all\n", done.stdout + done.stderr
