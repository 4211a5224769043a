"""Calls of several threads: computed together where one pass can serve them, each with its own vectors and errors."""

from __future__ import annotations

import random
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer

import skembed
from skembed import EmbeddingCache, TruncationWarning, embed
from skembed.encoding import encoder
from skembed.encoding.backends.reader import CannotComputeError
from skembed.encoding.models.registry import get_model
from skembed.encoding.settings import Settings
from skembed.errors import CacheError
from tests.interrupts import interrupted_at_random, wait_until_all_advance

BUSY = "the model is busy with this text"


@pytest.fixture
def together(tiny, monkeypatch):
    """``together(calls)``: run calls in threads that all wait for a busy model; return their outcomes, and the passes.

    A call is a dict of parameters, with the texts as ``texts``. An outcome is a matrix or an exception.
    """
    passes, is_busy, may_go, original = [], threading.Event(), threading.Event(), encoder.run_model

    def run_model(texts, *rest):
        if texts == [BUSY]:
            is_busy.set()
            assert may_go.wait(60)
        else:
            passes.append(sorted(texts))
        yield from original(texts, *rest)

    def call(given):
        try:
            return embed(**{"model": tiny, "cache": None, "dtype": "float32", **given})
        except Exception as error:
            return error

    def run(calls, wait_for=None, **of_busy):
        calls = [{"texts": [BUSY], **of_busy}, *calls]
        model = get_model(Settings(model=of_busy.get("model", tiny), dtype="float32", **_backend(of_busy)))
        monkeypatch.setattr(encoder, "run_model", run_model)
        with ThreadPoolExecutor(len(calls)) as pool:
            outcomes = [pool.submit(call, calls[0])]
            assert is_busy.wait(60), outcomes
            for number, given in enumerate(calls[1:], start=2):
                outcomes.append(pool.submit(call, given))
                until = time.monotonic() + 30
                while len(model.turns._tickets) < min(number, (wait_for or np.inf) + 1) and time.monotonic() < until:
                    time.sleep(0.002)
            may_go.set()
            got = [outcome.result(60) for outcome in outcomes][1:]
        monkeypatch.setattr(encoder, "run_model", original)
        return got, passes

    return run


def _backend(params):
    return {name: params[name] for name in ("backend",) if name in params}


def one_by_one(calls, **params):
    return [embed(**{**params, "cache": None, "dtype": "float32", **call}) for call in calls]


def test_calls_that_wait_for_the_model_share_a_pass(together, tiny):
    calls = [{"texts": [f"fox {number}", "dog"]} for number in range(5)]
    vectors, passes = together(calls)
    assert passes == [["dog", "fox 0", "fox 1", "fox 2", "fox 3", "fox 4"]]  # the dog once
    assert_allclose(vectors, one_by_one(calls, model=tiny), atol=1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "cls"},
        {"pooling": ("max", "mean")},
        {"truncate_dim": 8},
        {"normalize_embeddings": False},
        {"missing": "zero"},
        {"cache": EmbeddingCache()},
    ],
    ids=str,
)
def test_what_one_pass_can_give_is_computed_together(params, together, tiny):
    calls = [{"texts": ["fox"]}, {"texts": ["dog", "fox"], **params}, {"texts": ["a"]}]
    vectors, passes = together(calls)
    assert passes == [["a", "dog", "fox"]]
    for found, expected in zip(vectors, one_by_one(calls, model=tiny), strict=True):
        assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("params", [{"prompt": "query: "}, {"max_seq_length": 7}, {"long_texts": "mean"}], ids=str)
def test_what_needs_a_pass_of_its_own_gets_one(params, together, tiny):
    calls = [{"texts": ["fox"]}, {"texts": ["dog"], **params}, {"texts": ["a"]}]
    vectors, passes = together(calls)
    assert passes == [["a", "fox"], ["dog"]]
    for found, expected in zip(vectors, one_by_one(calls, model=tiny), strict=True):
        assert_allclose(found, expected, atol=1e-5)


def test_other_layers_share_a_pass_of_torch(together, tiny):
    embed(["a"], model=tiny, layers=0, backend="torch")  # so that it is known that there are layers
    calls = [{"texts": ["fox"], "backend": "torch"}, {"texts": ["dog"], "layers": (0, 1), "backend": "torch"}]
    vectors, passes = together(calls, backend="torch")
    assert passes == [["dog", "fox"]]
    assert_allclose(np.vstack(vectors), np.vstack(one_by_one(calls, model=tiny)), atol=1e-5)


@pytest.mark.parametrize("kind", ["static", "router"])
def test_models_that_tokenize_by_themselves_share_a_pass_by_task(kind, together, model_folder):
    model = model_folder(kind)
    calls = [
        {"texts": [text], "model": model, "task": task} for text, task in [("fox", None), ("dog", None), ("a", "query")]
    ]
    vectors, passes = together(calls, model=model)
    assert passes == [["dog", "fox"], ["a"]]
    assert_allclose(np.vstack(vectors), np.vstack(one_by_one(calls)), atol=1e-5)


def test_a_model_whose_vectors_depend_on_their_batch_is_never_shared(together, model_folder):
    model = SentenceTransformer(model_folder("decoder"), device="cpu")
    model[0].model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    _, passes = together([{"texts": [text], "model": model} for text in ("fox", "a brown dog")], model=model)
    assert passes == [["fox"], ["a brown dog"]]


def test_long_calls_are_not_shared(together):
    calls = [{"texts": ["fox"]}, {"texts": [f"dog number {number}" for number in range(600)]}, {"texts": ["a"]}]
    _, passes = together(calls)
    assert [len(texts) for texts in passes] == [2, 600]


def test_each_call_fills_its_own_cache(together, tiny, tmp_path):
    caches = [EmbeddingCache(), EmbeddingCache(tmp_path / "one"), EmbeddingCache(tmp_path / "two"), None]
    calls = [{"texts": ["fox", f"dog {number}"], "cache": cache} for number, cache in enumerate(caches)]
    vectors, _ = together(calls)
    assert_allclose(vectors, one_by_one([{**call, "cache": None} for call in calls], model=tiny), atol=1e-5)
    for cache in caches[:3]:
        assert (cache.stats()["misses"], cache.stats()["texts"]) == (2, 2)


def test_calls_that_share_a_folder_share_a_pass(together, tmp_path):
    cache = EmbeddingCache(tmp_path)
    _, passes = together([{"texts": [text], "cache": cache} for text in ("a", "b", "c", "d")], wait_for=1)
    assert sorted(text for texts in passes for text in texts) == ["a", "b", "c", "d"]
    assert len(passes) < 4
    assert cache.stats()["misses"] == 4


def test_a_text_that_two_calls_need_is_encoded_for_one_and_cached_for_the_other(together):
    cache = EmbeddingCache()
    _, passes = together([{"texts": ["fox"], "cache": cache}, {"texts": ["fox", "dog"], "cache": cache}])
    assert passes == [["dog", "fox"]]
    assert (cache.stats()["hits"], cache.stats()["misses"]) == (1, 2)


def test_an_error_reaches_the_call_it_belongs_to(together, tiny, monkeypatch):
    broken = EmbeddingCache()
    original, n_reads = broken.store.read, []

    def read(*given):  # fails when the call's turn has come
        n_reads.append(1)
        if len(n_reads) == 2:
            raise CacheError("damaged")
        return original(*given)

    monkeypatch.setattr(broken.store, "read", read)
    calls = [{"texts": ["fox"]}, {"texts": ["dog"], "cache": broken}, {"texts": ["a"]}]
    found, passes = together(calls)
    assert passes == [["a", "fox"]]
    assert isinstance(found[1], CacheError)
    assert_allclose(np.vstack([found[0], found[2]]), embed(["fox", "a"], model=tiny), atol=1e-5)


@pytest.mark.parametrize("error", [ArithmeticError, MemoryError])
def test_a_pass_that_fails_is_computed_again_call_by_call(error, together, tiny, monkeypatch):
    def failing(texts, *rest):
        if "dog" in texts:
            raise error("a bad dog")
        return real(texts, *rest)

    real = encoder._tokenize
    monkeypatch.setattr(encoder, "_tokenize", failing)
    found, passes = together([{"texts": [text]} for text in ("fox", "dog", "a")])
    assert passes == [["a", "dog", "fox"], ["fox"], ["dog"], ["a"]]
    assert isinstance(found[1], error)
    assert_allclose(np.vstack([found[0], found[2]]), embed(["fox", "a"], model=tiny), atol=1e-5)


def test_an_error_knows_nothing_of_other_calls(together, monkeypatch):
    def failing(texts, *rest):
        raise ArithmeticError(str(texts))

    monkeypatch.setattr(encoder, "_tokenize", failing)
    found, _ = together([{"texts": ["fox"]}, {"texts": ["dog"]}])
    assert [str(error) for error in found] == ["['fox']", "['dog']"]
    assert [error.__context__ for error in found] == [None, None]


def test_a_budget_that_depends_on_free_memory_keeps_no_calls_apart(together, tiny, monkeypatch):
    budgets, backend = iter(range(5000, 6000)), get_model(Settings(model=tiny, dtype="float32")).backend
    monkeypatch.setattr(type(backend), "best_batch_tokens", lambda _: next(budgets))
    _, passes = together([{"texts": [text]} for text in ("a", "b", "c")])
    assert passes == [["a", "b", "c"]]


def test_a_call_of_a_signal_handler_into_a_folder_waits_for_nobody_behind_its_own_thread(tiny, tmp_path, monkeypatch):
    """The main thread waits for the model; behind it waits another call into the same folder."""
    cache, model, original = EmbeddingCache(tmp_path), get_model(Settings(model=tiny)), encoder.run_model
    is_busy, may_go, threads, found = threading.Event(), threading.Event(), [], []

    def run_model(texts, *rest):
        if texts == [BUSY]:
            is_busy.set()
            assert may_go.wait(60)
        yield from original(texts, *rest)

    def start(text, cache):
        n_before = len(model.turns._tickets)
        threads.append(threading.Thread(target=embed, args=([text],), kwargs={"model": tiny, "cache": cache}))
        threads[-1].start()
        while len(model.turns._tickets) == n_before:
            time.sleep(0.001)

    def handle(*_):
        start("behind", cache)
        threading.Timer(0.1, may_go.set).start()
        found.append(embed(["handler"], model=tiny, cache=cache))

    monkeypatch.setattr(encoder, "run_model", run_model)
    start(BUSY, None)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        found.append(embed(["main"], model=tiny, cache=None))
    finally:
        signal.signal(signal.SIGALRM, before)
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert cache.stats()["texts"] == 2


def test_a_vector_that_is_not_finite_is_the_error_of_its_call_alone(together, monkeypatch):
    real = encoder._by_recipe

    def spoil_calls_of_two_texts(vectors, recipes):
        return real(np.full_like(vectors, np.nan) if len(vectors) == 2 else vectors, recipes)

    monkeypatch.setattr(encoder, "_by_recipe", spoil_calls_of_two_texts)
    found, _ = together([{"texts": ["fox"]}, {"texts": ["a", "dog"]}, {"texts": ["b"]}])
    assert isinstance(found[1], ValueError)
    assert "X[0] gets infinite or NaN values" in str(found[1])
    assert isinstance(found[0], np.ndarray)
    assert isinstance(found[2], np.ndarray)


def test_a_backend_that_fails_is_replaced_for_every_call(together, tiny, monkeypatch):
    pytest.importorskip("openvino")
    from skembed.encoding.backends.openvino_backend import OpenVINOBackend

    def broken(*_):
        raise CannotComputeError("broken")

    expected = embed(["fox", "dog"], model=tiny, backend="torch", cache=None)
    monkeypatch.setattr(OpenVINOBackend, "embed_tokens", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, _ = together(
            [{"texts": ["fox"], "backend": "auto"}, {"texts": ["dog"], "backend": "auto"}], backend="auto"
        )
    skembed.unload_models()
    assert_allclose(np.vstack(found), expected, atol=1e-5)
    assert sum("OpenVINO cannot run" in str(each.message) for each in caught) <= 1


def test_a_warning_of_truncated_texts_names_the_line_of_its_own_call(tiny, monkeypatch):
    long, passes, original = "fox " * 100, [], encoder.run_model
    model = get_model(Settings(model=tiny))
    calls = [
        lambda: embed(["fox"], model=tiny, cache=None),
        lambda: embed([long], model=tiny, cache=None),  # line one
        lambda: embed([f"a {long}", f"b {long}"], model=tiny, cache=None),  # line two
    ]

    def run_model(texts, *rest):
        passes.append(len(texts))
        while len(passes) == 1 and len(model.turns._tickets) < len(calls):
            time.sleep(0.001)
        yield from original(texts, *rest)

    monkeypatch.setattr(encoder, "run_model", run_model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        threads = [threading.Thread(target=call) for call in calls]
        for n_waiting, thread in enumerate(threads):
            thread.start()
            while len(model.turns._tickets) <= n_waiting:
                time.sleep(0.001)
        for thread in threads:
            thread.join(60)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    told = {lines[each.lineno - 1].rpartition("# ")[2]: str(each.message)[:8] for each in caught}
    assert told == {"line one": "1 of 1 t", "line two": "2 of 2 t"}
    assert passes == [1, 3]


def test_an_interrupt_hands_the_waiting_calls_on(tiny, monkeypatch):
    """The main thread computes for others when Ctrl-C strikes."""
    original, found, threads = encoder.run_model, {}, []
    model = get_model(Settings(model=tiny))

    def come(text):
        n_before = len(model.turns._tickets)
        threads.append(threading.Thread(target=lambda: found.update({text: embed([text], model=tiny, cache=None)})))
        threads[-1].start()
        while len(model.turns._tickets) == n_before:
            time.sleep(0.001)

    def interrupted(texts, *rest):
        if threading.current_thread() is threading.main_thread():
            for text in ("dog", "a"):
                come(text)
            raise KeyboardInterrupt
        yield from original(texts, *rest)

    monkeypatch.setattr(encoder, "run_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(["fox"], model=tiny, cache=None)
    for thread in threads:
        thread.join(60)
    monkeypatch.setattr(encoder, "run_model", original)
    assert_allclose(np.vstack([found["dog"], found["a"]]), embed(["dog", "a"], model=tiny, cache=None), atol=1e-5)
    assert model.turns.is_empty


def test_a_long_call_lets_others_in_between_its_chunks(tiny, monkeypatch):
    original, passes, threads = encoder.run_model, [], []
    monkeypatch.setattr(encoder, "TEXTS_PER_CHUNK", 600)
    model = get_model(Settings(model=tiny))

    def run_model(texts, *rest):
        passes.append(len(texts))
        if len(passes) == 1:
            threads.append(threading.Thread(target=embed, args=(["a"],), kwargs={"model": tiny, "cache": None}))
            threads[0].start()
            while len(model.turns._tickets) < 2:
                time.sleep(0.001)
        yield from original(texts, *rest)

    monkeypatch.setattr(encoder, "run_model", run_model)
    embed([f"fox {number}" for number in range(1800)], model=tiny, cache=None)
    threads[0].join(60)
    assert passes == [600, 1, 600, 600]


def test_chunks_are_short_while_others_wait(tiny, monkeypatch):
    sizes, original = [], encoder.run_model

    class Busy:
        is_empty = is_within = False

        def take(self, items, work, **_):
            work(items)

    def run_model(texts, *rest):
        sizes.append(len(texts))
        yield from original(texts, *rest)

    monkeypatch.setattr(encoder, "run_model", run_model)
    monkeypatch.setattr(encoder, "_SECONDS_WHILE_OTHERS_WAIT", 1e-9)
    monkeypatch.setattr(get_model(Settings(model=tiny)), "turns", Busy())
    monkeypatch.setattr(encoder, "_CHARACTERS_AT_FIRST", 800)
    embed([f"fox {number:04}" for number in range(200)], model=tiny, cache=None)
    assert sizes[0] == 100
    assert sizes[1] == 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
@pytest.mark.parametrize("n_calls", [1500, pytest.param(100_000, marks=pytest.mark.exhaustive)])
def test_mixed_calls_of_many_threads_get_their_own_vectors(n_calls, tiny):
    choose = random.Random(0)
    texts = [f"fox {number} jumps over {number % 7} dogs" * (1 + number % 3) for number in range(200)]
    settings = [
        {},
        {"pooling": "cls"},
        {"pooling": ("max", "mean"), "truncate_dim": 9},
        {"prompt": "query: "},
        {"truncate_dim": 5, "normalize_embeddings": False},
        {"long_texts": "mean", "max_seq_length": 9},
        {"long_texts": "error", "max_seq_length": 9},
    ]
    caches = [None, "memory", EmbeddingCache(max_bytes=20_000)]
    expected = [
        embed(
            texts,
            model=tiny,
            cache=None,
            **{**params, "long_texts": params.get("long_texts", "truncate").replace("error", "truncate")},
        )
        for params in settings
    ]
    work = [
        (choose.randrange(len(settings)), [choose.randrange(200) for _ in range(choose.choice([1, 1, 1, 4, 40]))])
        for _ in range(n_calls)
    ]

    def call(given):
        (number, rows), cache = given, choose.choice(caches)
        try:
            found = embed([texts[row] for row in rows], model=tiny, cache=cache, **settings[number])
        except ValueError as error:
            return settings[number].get("long_texts") == "error" and "tokens" in str(error)
        return np.allclose(found, expected[number][rows], atol=1e-5)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(call, work))
    assert get_model(Settings(model=tiny)).turns.is_empty


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals as on Unix")
@pytest.mark.filterwarnings(  # an interrupt may leave a file open until it is garbage-collected
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
@pytest.mark.parametrize("n_interrupts", [60, pytest.param(2000, marks=pytest.mark.exhaustive)])
def test_interrupts_of_the_main_thread_harm_no_other_call(n_interrupts, tiny):
    texts = [f"fox number {number}" for number in range(60)]
    expected, is_over, failures, n_done = embed(texts, model=tiny, cache=None), threading.Event(), [], [0] * 4

    def keep_calling(number):
        choose = random.Random(number)
        while not is_over.is_set():
            rows = choose.sample(range(60), 3)
            try:
                found = embed([texts[row] for row in rows], model=tiny, cache=None)
            except BaseException as error:
                failures.append(error)
                return
            if not np.allclose(found, expected[rows], atol=1e-5):
                failures.append(rows)
            n_done[number] += 1

    threads = [threading.Thread(target=keep_calling, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    interrupted_at_random(lambda: embed(["a dog"], model=tiny, cache=None), lambda: None, n_interrupts)
    wait_until_all_advance(n_done)
    is_over.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
