"""Forks in the midst of everything: no child hangs, and each embeds right."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skembed.encoding import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

HEAD = """
import os, pickle, signal, sys, threading, time, warnings
import numpy as np
import skembed
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
warnings.simplefilter("ignore", skembed.TruncationWarning)
signal.alarm(int(sys.argv[1]))  # rather a failure than a test that never ends


def fork(work, seconds=60):
    '''Run some work in a child; say how it ended: 0 if all was right.'''
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            is_right = work()
        except BaseException as error:
            print(repr(error), flush=True)
            is_right = False
        os._exit(0 if is_right else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

"""


def run(code, *arguments, seconds=120):
    """Run code in a process of its own; return the lines that it printed."""
    command = [sys.executable, "-c", HEAD + code, str(seconds), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_an_unpickled_cache_in_memory_does_not_stop_a_fork():
    code = """
caches = [pickle.loads(pickle.dumps(skembed.EmbeddingCache())) for _ in range(3)]
name = caches[0]._name
cache = skembed.EmbeddingCache()
load = pickle.dumps(cache)
del cache
caches.append(pickle.loads(load))
print(fork(lambda: caches[-1].stats()["texts"] == 0), caches[-1] is pickle.loads(load))
"""
    assert run(code) == ["0 True"]


@pytest.mark.slow
@pytest.mark.parametrize("n_forks", [10, pytest.param(200, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_fork_in_the_midst_of_everything_leaves_a_child_that_works(backend, n_forks, tiny, model_folder, tmp_path):
    if backend == "openvino":
        pytest.importorskip("openvino")
    code = """
model, static, folder, backend, n_forks = *sys.argv[2:6], int(sys.argv[6])
sys.setswitchinterval(1e-4)
texts = [f"fox number {number} jumps over {number % 7} dogs" * (1 + number % 3) for number in range(64)]
caches = [skembed.EmbeddingCache(), skembed.EmbeddingCache(folder), None]
caches.append(pickle.loads(pickle.dumps(caches[0])))
caches.append(skembed.EmbeddingCache())
caches.append(pickle.loads(pickle.dumps(caches.pop())))  # known no more, so that it arrives as in another process
right = {name: skembed.embed(texts, model=name, cache=None, backend="torch") for name in (model, static)}
if backend == "openvino":
    skembed.embed(texts, model=model, cache=None, backend="openvino")
is_over = threading.Event()

def embed_on_and_on(seed):
    draw = np.random.default_rng(seed)
    while not is_over.is_set():
        some = draw.permutation(64)[: draw.integers(1, 64)]
        name, how = ((model, backend), (static, "torch"))[seed % 2]
        cache = caches[draw.integers(len(caches))]
        new = [f"{draw.integers(10**9)}", *[texts[position] for position in some]]
        skembed.embed(new, model=name, cache=cache, backend=how, batch_tokens=256)
        if draw.integers(20) == 0:
            skembed.clear_cache()

def tokenize_on_and_on():
    from skembed.encoding.models.registry import get_model
    from skembed.encoding.plan import make_plan
    plan = make_plan(skembed.SentenceEmbeddingTransformer(model, backend=backend)._settings())
    while not is_over.is_set():
        plan.model.backend.spec.tokenizer.tokenize(texts, 8 + int(time.monotonic() * 1000) % 8)

threads = [threading.Thread(target=embed_on_and_on, args=(seed,)) for seed in range(4)]
threads += [threading.Thread(target=tokenize_on_and_on) for _ in range(2)]
for thread in threads:
    thread.start()

def work(number):
    draw = np.random.default_rng(number)
    some = draw.permutation(64)[:9]
    for name in (model, static):
        for cache in (caches[number % len(caches)], caches[(number + 1) % len(caches)]):
            found = skembed.embed([texts[position] for position in some], model=name, cache=cache)
            if not np.allclose(found, right[name][some], atol=0.02):
                return False
    return True

for number in range(n_forks):
    time.sleep(0.003 * (number % 5))
    ended = fork(lambda: work(number))
    if ended:
        print("fork", number, "ended with", ended, flush=True)
is_over.set()
for thread in threads:
    thread.join()
print("all")
"""
    n_seconds = 120 + 10 * n_forks
    assert run(code, tiny, model_folder("static"), tmp_path / "cache", backend, n_forks, seconds=n_seconds) == ["all"]


@pytest.mark.slow
def test_forks_of_several_threads_at_once_wait_for_each_other():
    code = """
cache = skembed.EmbeddingCache()
ended = []
def fork_on_and_on():
    for _ in range(10):
        ended.append(fork(lambda: cache.stats()["texts"] == 0))
threads = [threading.Thread(target=fork_on_and_on) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(ended == [0] * 40)
"""
    assert run(code) == ["True"]


@pytest.mark.slow
def test_a_signal_handler_may_fork_in_the_midst_of_embedding(tiny):
    code = """
texts = [f"fox number {number}" for number in range(64)]
right = skembed.embed(texts, model=sys.argv[2], cache=None)
ended = []
def handle(*_):
    if in_handler:  # a fork in the midst of a fork is more than Python can do
        return
    in_handler.append(True)
    ended.append(fork(lambda: np.allclose(skembed.embed(texts, model=sys.argv[2]), right, atol=1e-5)))
    in_handler.clear()
in_handler = []
signal.signal(signal.SIGUSR1, handle)
parent = os.getpid()
def send():
    for _ in range(10):
        time.sleep(0.02); os.kill(parent, signal.SIGUSR1)
sender = threading.Thread(target=send); sender.start()
while sender.is_alive():
    skembed.clear_cache()
    assert np.allclose(skembed.embed(texts, model=sys.argv[2]), right, atol=1e-5)
print(set(ended))
"""
    assert run(code, tiny) == ["{0}"]


def test_what_is_held_is_let_go_in_the_other_order(monkeypatch):
    events = []
    found = [(lambda n=n: events.append(("take", n)), lambda n=n: events.append(("let go", n))) for n in range(3)]
    monkeypatch.setattr(forks, "_holds", {"tokenizers": lambda: found[:2], "caches": lambda: found[2:]})
    forks._before()
    forks._after()
    assert events == [("take", 0), ("take", 1), ("take", 2), ("let go", 2), ("let go", 1), ("let go", 0)]


@pytest.mark.parametrize("register", [forks.hold_at_fork, forks.renew_in_child])
def test_a_name_that_is_in_no_list_is_refused(register):
    with pytest.raises(ValueError, match="not in"):
        register("something else", list)


INSIDE = """
import os, sys
from skembed.encoding import forks
with forks.library_state():
    child = os.fork()
if not child:  # out of the lock that its parent took
    with forks.library_state():
        sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_is_forked_inside_the_lock_of_libraries_leaves_it_and_finds_it_free():
    subprocess.run([sys.executable, "-c", INSIDE], check=True, timeout=60)
