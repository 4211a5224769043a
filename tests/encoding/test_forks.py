"""Forks at any moment: no child hangs, and each computes the right vectors."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skembed
from skembed.encoding import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

HEAD = """
import os, pickle, signal, sys, threading, time, warnings
import numpy as np
import skembed
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
warnings.simplefilter("ignore", skembed.TruncationWarning)
signal.alarm(int(sys.argv[1]))  # a test that hangs fails


def fork(work, seconds=60):
    '''Run some work in a child; return its exit status, 0 if it returned True.'''
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
    """Run code in a new process; return the lines that it printed."""
    command = [sys.executable, "-c", HEAD + code, str(seconds), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
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
def test_a_fork_while_threads_embed_and_tokenize_leaves_a_child_that_works(
    backend, n_forks, tiny, model_folder, tmp_path
):
    if backend == "openvino":
        pytest.importorskip("openvino")
    code = """
model, static, folder, backend, n_forks = *sys.argv[2:6], int(sys.argv[6])
sys.setswitchinterval(1e-4)
texts = [f"fox number {number} jumps over {number % 7} dogs" * (1 + number % 3) for number in range(64)]
caches = [skembed.EmbeddingCache(), skembed.EmbeddingCache(folder), None]
caches.append(pickle.loads(pickle.dumps(caches[0])))
caches.append(skembed.EmbeddingCache())
caches.append(pickle.loads(pickle.dumps(caches.pop())))  # no longer known, so it is loaded as in another process
right = {name: skembed.embed(texts, model=name, cache=None, backend="torch") for name in (model, static)}
if backend == "openvino":
    skembed.embed(texts, model=model, cache=None, backend="openvino")
is_over = threading.Event()

def keep_embedding(seed):
    draw = np.random.default_rng(seed)
    while not is_over.is_set():
        some = draw.permutation(64)[: draw.integers(1, 64)]
        name, how = ((model, backend), (static, "torch"))[seed % 2]
        cache = caches[draw.integers(len(caches))]
        new = [f"{draw.integers(10**9)}", *[texts[position] for position in some]]
        skembed.embed(new, model=name, cache=cache, backend=how, batch_tokens=256)
        if draw.integers(20) == 0:
            skembed.clear_cache()

def keep_tokenizing():
    from skembed.encoding.models.registry import get_model
    from skembed.encoding.plan import make_plan
    plan = make_plan(skembed.SentenceEmbeddingTransformer(model, backend=backend)._settings())
    while not is_over.is_set():
        plan.model.backend.spec.tokenizer.tokenize(texts, 8 + int(time.monotonic() * 1000) % 8)

threads = [threading.Thread(target=keep_embedding, args=(seed,)) for seed in range(4)]
threads += [threading.Thread(target=keep_tokenizing) for _ in range(2)]
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
def keep_forking():
    for _ in range(10):
        ended.append(fork(lambda: cache.stats()["texts"] == 0))
threads = [threading.Thread(target=keep_forking) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(ended == [0] * 40)
"""
    assert run(code) == ["True"]


@pytest.mark.slow
def test_a_signal_handler_may_fork_while_its_thread_embeds(tiny):
    code = """
texts = [f"fox number {number}" for number in range(64)]
right = skembed.embed(texts, model=sys.argv[2], cache=None)
ended = []
def handle(*_):
    if in_handler:  # Python cannot fork during a fork
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


@pytest.mark.slow
@pytest.mark.parametrize("device_type", ["cuda", "mtia"])
def test_a_child_seeds_torch_although_another_thread_was_seeding_when_it_was_forked(device_type, tiny):
    code = """
import torch
skembed.embed(["a fox"], model=sys.argv[2], backend="torch")
with getattr(torch, sys.argv[3])._initialization_lock:
    print(fork(lambda: torch.manual_seed(0) is not None, seconds=30))
"""
    assert run(code, tiny, device_type) == ["0"]


@pytest.mark.slow
def test_a_child_of_a_process_with_everything_alive_works(tiny, model_folder, tmp_path):
    """Models on each backend, caches, indexes and a fine-tuner, while another thread trains."""
    code = """
from importlib.util import find_spec
from sklearn.base import clone
from tests.training.fast import FAST
model, static, folder = sys.argv[2:5]
texts = [f"{kind} number {number}" for number in range(20) for kind in ("a fox", "a parcel")]
labels = ["animal", "post"] * 20
backends = ["torch", *(["openvino"] if find_spec("openvino") else [])]
ways = [*((model, backend) for backend in backends), (static, "torch")]
caches = [skembed.EmbeddingCache(), skembed.EmbeddingCache(folder), None]
settings = [{"model": name, "backend": backend, "cache": cache} for name, backend in ways for cache in caches]
embedded = [skembed.embed(texts, **each) for each in settings]
indexes = ["auto", *(["hnsw"] if find_spec("faiss") else [])]
embedder = skembed.SentenceEmbeddingTransformer(model)
searches = [skembed.SemanticSearch(embedder, index=index).fit(texts) for index in indexes]
neighbours = [search.kneighbors(["a fox"], 3) for search in searches]
tuner = skembed.SentenceEmbeddingFineTuner(model, **FAST).fit(texts, labels)
tuned = tuner.transform(texts)
is_over = threading.Event()

def keep_training():
    while not is_over.is_set():
        clone(tuner).fit(texts, labels)

def work():
    for each, expected in zip(settings, embedded):  # openvino would hang in a child, and says so
        found = skembed.embed([*texts, "a new text"], **{**each, "backend": "torch"})
        assert np.allclose(found[:-1], expected, atol=0.02), each
    for search, expected in zip(searches, neighbours):
        assert np.allclose(search.kneighbors(["a fox"], 3)[0], expected[0], atol=0.02), search
    assert np.allclose(tuner.transform(texts), tuned, atol=1e-5)
    assert np.allclose(clone(tuner).fit(texts, labels).transform(texts), tuned, atol=1e-3)
    return True

thread = threading.Thread(target=keep_training)
thread.start()
print([fork(work, seconds=120) for _ in range(3)])
is_over.set()
thread.join()
"""
    assert run(code, tiny, model_folder("static"), tmp_path / "cache", seconds=400) == ["[0, 0, 0]"]


IN_ORDER = """
import os
from skembed.encoding import forks
events = []

def lock(name):
    return lambda: events.append(f"acquire {name}"), lambda: events.append(f"release {name}")

forks.hold_at_fork("caches", lambda: [lock("c")])
forks.hold_at_fork("tokenizers", lambda: [lock("a"), lock("b")])
forks.renew_in_child("models", lambda: events.append("renew models"))
forks.renew_in_child("torch", lambda: events.append("renew torch"))
if child := os.fork():
    os.waitpid(child, 0)
print("parent" if child else "child", *events, sep=", ", flush=True)
"""


def test_locks_are_acquired_in_order_released_in_reverse_and_others_renewed_in_the_child():
    done = subprocess.run([sys.executable, "-c", IN_ORDER], capture_output=True, text=True, check=True, timeout=60)
    in_both = "acquire a, acquire b, acquire c, release c, release b, release a"
    assert done.stdout.splitlines() == [f"child, {in_both}, renew torch, renew models", f"parent, {in_both}"]


# State of modules that is sound in a child: what was true of the parent's files and models still is.
SOUND_IN_A_CHILD = {
    "skembed.encoding.backends.openvino_trial": {"_outcomes", "openvino"},
    "skembed.encoding.backends.torch_threads": {"_several_ended_at"},
    "skembed.encoding.models.fingerprint": {"_tokens"},
    "skembed.encoding.models.folders": {"_package_is_official"},
    "skembed.encoding.models.loading": {"all_models"},  # whose locks the registry renews
    "skembed.locks": {"_locks"},  # by process
}


def test_the_state_of_a_module_is_held_or_renewed_at_a_fork_or_sound_in_a_child():
    package, found = Path(skembed.__file__).parent, {}
    for file in package.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        assigned = [node for node in ast.parse(source).body if isinstance(node, (ast.Assign, ast.AnnAssign))]
        names = {ast.unparse(getattr(node, "target", None) or node.targets[0]) for node in assigned}
        state = {name for name in names if re.fullmatch("[a-z_]+", name) and not name.startswith("__")}
        if state and not re.search(r"(hold_at_fork|renew_in_child|register_at_fork)\(", source):
            found[".".join(file.relative_to(package.parent).with_suffix("").parts)] = state
    assert found == SOUND_IN_A_CHILD


@pytest.mark.parametrize("register", [forks.hold_at_fork, forks.renew_in_child])
def test_a_name_that_is_not_in_the_lists_is_refused(register):
    with pytest.raises(ValueError, match="not in"):
        register("something else", list)


INSIDE = """
import os, sys
from skembed.encoding import forks
with forks.library_state():
    child = os.fork()
if not child:  # has left the lock that its parent acquired
    with forks.library_state():
        sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_is_forked_inside_library_state_leaves_it_and_finds_it_free():
    subprocess.run([sys.executable, "-c", INSIDE], check=True, timeout=60)
