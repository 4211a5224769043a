"""The cache that users see, in memory and in a folder; the two stores behind it have their own tests."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import skembed
from skembed import EmbeddingCache, SentenceEmbeddingTransformer, embed
from skembed.encoding.cache.embedding_cache import default_folder, find_store
from skembed.encoding.settings import POOLINGS
from tests.encoding.test_recipes import RECIPE
from tests.tiny_models import make_bert

DIM = 4
KINDS = ["memory", "disk"]

pytestmark = pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Run on one thread: several slow down tiny models on a busy processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=KINDS)
def cache(request, tmp_path):
    """Return an empty cache of each kind."""
    with EmbeddingCache(tmp_path / "cache" if request.param == "disk" else None) as made:
        yield made


@pytest.fixture
def memory():
    return EmbeddingCache()


@pytest.fixture
def disk(tmp_path):
    with EmbeddingCache(tmp_path / "cache") as made:
        yield made


@pytest.fixture(scope="module", params=KINDS)
def cache_of_a_module(request, tmp_path_factory):
    """Return one cache for many examples, which clear it first."""
    with EmbeddingCache(tmp_path_factory.mktemp("shared") if request.param == "disk" else None) as made:
        yield made


def put(cache, texts, fill=1.0):
    """Write vectors as the encoder would, without a model."""
    vectors = np.full((len(texts), DIM), fill, dtype=np.float32)
    cache.store.write(texts, np.full(len(texts), 3), {RECIPE: vectors})


def get(cache, texts):
    """Read the first number of each vector; nan where there is none."""
    vectors = np.full((len(texts), DIM), np.nan, dtype=np.float32)
    cache.store.read(RECIPE, texts, vectors, np.zeros(len(texts), dtype=np.int64))
    return vectors[:, 0].tolist()


def known(cache, texts):
    missing = set(cache.store.missing(RECIPE, texts).tolist())
    return [text for position, text in enumerate(texts) if position not in missing]


def bits(vectors):
    return np.ascontiguousarray(vectors).view(np.uint32)


def in_another_process(code, *pickled):
    """Run code in a new process, which finds the unpickled objects in ``objects``; return the lines that it printed."""
    head = (
        "import pickle, sys\n"
        "stream = sys.stdin.buffer\n"
        f"loads = [stream.read(int(stream.readline())) for _ in range({len(pickled)})]\n"
        "objects = [pickle.loads(load) for load in loads]\n"
    )
    sent = b"".join(b"%d\n%s" % (len(one), one) for one in pickled)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", head + code]
    done = subprocess.run(command, input=sent, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


class TestStats:
    def test_a_new_cache_has_counted_nothing(self, cache):
        assert cache.stats() == {"hits": 0, "misses": 0, "texts": 0, "bytes": 0}

    def test_encoded_texts_are_misses_and_cached_texts_are_hits(self, cache, tiny):
        embed(["a", "b", "c"], model=tiny, cache=cache)
        embed(["b", "c", "d", "a"], model=tiny, cache=cache)
        stats = cache.stats()
        assert (stats["hits"], stats["misses"], stats["texts"]) == (3, 4, 4)

    def test_a_text_that_occurs_twice_in_a_call_counts_once(self, cache, tiny):
        for _ in range(2):
            embed(["a", "b", "a", "a"], model=tiny, cache=cache)
        stats = cache.stats()
        assert (stats["hits"], stats["misses"], stats["texts"]) == (2, 2, 2)

    def test_a_text_with_vectors_of_several_poolings_is_one_text(self, cache, tiny):
        for pooling in ("mean", "cls", ("max", "mean")):
            embed(["a", "b"], model=tiny, pooling=pooling, cache=cache)
        assert cache.stats()["texts"] == 2
        assert cache.store.size()[0] >= 6

    def test_a_text_is_a_hit_only_if_all_its_poolings_are_cached(self, cache, tiny):
        embed(["a"], model=tiny, pooling="mean", cache=cache)
        embed(["a"], model=tiny, pooling=("mean", "cls"), cache=cache)
        assert (cache.stats()["hits"], cache.stats()["misses"]) == (0, 2)

    def test_missing_rows_are_neither_hits_nor_misses(self, cache, tiny):
        embed(["a", None], model=tiny, cache=cache, missing="nan")
        assert (cache.stats()["hits"], cache.stats()["misses"], cache.stats()["texts"]) == (0, 1, 1)

    def test_no_texts_count_nothing(self, cache, tiny):
        embed([], model=tiny, cache=cache)
        assert cache.stats() == {"hits": 0, "misses": 0, "texts": 0, "bytes": 0}

    def test_bytes_cover_the_vectors_and_do_not_grow_by_reading(self, cache, tiny):
        texts = [f"text {number}" for number in range(100)]
        embed(texts, model=tiny, cache=cache)
        n_bytes = cache.stats()["bytes"]
        embed(texts, model=tiny, cache=cache)
        assert cache.stats()["bytes"] == n_bytes >= 100 * 32 * 4

    def test_stats_are_plain_integers(self, cache, tiny):
        embed(["a"], model=tiny, cache=cache)
        assert {name: type(value) for name, value in cache.stats().items()} == dict.fromkeys(
            ["hits", "misses", "texts", "bytes"], int
        )

    def test_without_a_cache_nothing_is_counted(self, memory, tiny):
        embed(["a"], model=tiny, cache=None)
        assert memory.stats()["misses"] == 0

    def test_two_caches_in_memory_share_nothing(self, tiny, counted):
        first, second = EmbeddingCache(), EmbeddingCache()
        for one in (first, second):
            embed(["a"], model=tiny, cache=one)
        assert counted == ["a", "a"]
        assert (first.stats()["misses"], second.stats()["misses"]) == (1, 1)


class TestVectors:
    @pytest.mark.parametrize(
        "setting",
        [
            {},
            {"normalize_embeddings": False},
            {"normalize_embeddings": True, "truncate_dim": 7},
            {"normalize_embeddings": False, "truncate_dim": 1},
            {"pooling": ("mean", "cls", "max")},
            {"pooling": ("cls", "cls"), "truncate_dim": 20},
            {"layers": (0, -1)},
            {"layers": 1, "pooling": "weightedmean", "normalize_embeddings": False},
            {"prompt": "query: ", "max_seq_length": 9},
            {"long_texts": "mean", "pooling": ("mean", "lasttoken")},
            {"dtype": "bfloat16"},
        ],
        ids=str,
    )
    def test_cached_vectors_are_the_computed_ones_bit_for_bit(self, setting, cache, tiny, mixed_texts, counted):
        texts = [*mixed_texts, *(f"fox {number} " * (number % 7) for number in range(60))]
        computed = embed(texts, model=tiny, cache=cache, **setting)
        counted.clear()
        assert_array_equal(bits(embed(texts, model=tiny, cache=cache, **setting)), bits(computed))
        assert counted == []

    def test_any_part_in_any_order_is_read_back_bit_for_bit(self, cache, tiny):
        texts = [f"fox {number} " * (number % 7) for number in range(60)]
        computed = embed(texts, model=tiny, cache=cache, pooling=("mean", "cls"))
        order = np.random.default_rng(0).integers(60, size=200)
        again = embed([texts[number] for number in order], model=tiny, cache=cache, pooling=("mean", "cls"))
        assert_array_equal(bits(again), bits(computed[order]))

    @pytest.mark.parametrize("kind", ["bert", "decoder", "dense", "dense_raw", "static"])
    def test_every_kind_of_model_is_cached(self, kind, cache, model_folder, mixed_texts, counted):
        computed = embed(mixed_texts, model=model_folder(kind), cache=cache)
        counted.clear()
        assert_array_equal(bits(embed(mixed_texts, model=model_folder(kind), cache=cache)), bits(computed))
        assert counted == []

    def test_writing_into_a_result_does_not_change_what_is_cached(self, cache, tiny):
        computed = embed(["a", "b"], model=tiny, cache=cache)
        kept = computed.copy()
        computed[:] = 9
        embed(["a", "b"], model=tiny, cache=cache)[:] = 9
        assert_array_equal(embed(["a", "b"], model=tiny, cache=cache), kept)

    def test_settings_that_only_normalize_or_truncate_share_vectors(self, cache, tiny, counted):
        finishing = [{}, {"normalize_embeddings": False}, {"truncate_dim": 5}, {"truncate_dim": 8, "pooling": "mean"}]
        for setting in finishing:
            assert_allclose(
                embed(["fox", "dog"], model=tiny, cache=cache, **setting),
                embed(["fox", "dog"], model=tiny, cache=None, **setting),
                atol=1e-6,
            )
        assert (cache.stats()["misses"], cache.stats()["hits"]) == (2, 2 * (len(finishing) - 1))

    def test_equal_settings_in_other_spellings_share_vectors(self, cache, tiny):
        ways = [
            {"prompt": "search for: ", "layers": (0, -1), "pooling": ("mean",)},
            {"prompt_name": "query", "layers": (3, 0), "pooling": "mean"},
            {"prompt_name": "query", "layers": [-4, 3], "max_seq_length": 24},
            {"prompt_name": "query", "layers": (-1, 0), "dtype": "float32", "device": "cpu", "batch_tokens": 7},
        ]
        for way in ways:
            embed(["fox", "dog"], model=tiny, cache=cache, **way)
        assert cache.stats()["misses"] == 2

    def test_a_copy_of_a_model_in_another_folder_shares_vectors(self, cache, tiny, tmp_path, counted):
        copied = shutil.copytree(tiny, tmp_path / "copy")
        first = embed(["fox", "dog"], model=tiny, cache=cache)
        assert_array_equal(embed(["fox", "dog"], model=copied, cache=cache), first)
        assert counted == ["fox", "dog"]

    def test_two_models_of_one_name_never_share_vectors(self, cache, tmp_path):
        made = {seed: make_bert(tmp_path / f"seed {seed}", seed=seed) for seed in (1, 2)}
        folder, texts, seen = tmp_path / "model", ["fox", "dog"], []
        for seed in (1, 2, 1):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(made[seed], folder)
            seen.append(embed(texts, model=folder, cache=cache))
            assert_allclose(seen[-1], embed(texts, model=folder, cache=None), atol=1e-6)
        assert np.abs(seen[0] - seen[1]).max() > 0.01
        assert_array_equal(seen[0], seen[2])
        assert (cache.stats()["misses"], cache.stats()["hits"]) == (4, 2)


VALUES = {
    "pooling": ["default", *POOLINGS, ("mean", "cls"), ("cls", "mean"), ("max",), ("mean", "mean")],
    "layers": [-1, 3, 0, -4, 2, (0, -1), (-1, 0), (1, 2), (2, 1, 1), (-3, -2)],
    "prompt": [None, "", "search for: ", "fox"],
    "task": [None, "query", "document"],
    "max_seq_length": [None, 24, 12, 9, 64],
    "long_texts": ["truncate", "mean"],
    "dtype": ["auto", "float32", "bfloat16"],
    "normalize_embeddings": ["default", True, False],
    "truncate_dim": [None, 32, 8, 1],
}
SETTING = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})


def check_that_neither_reads_what_the_other_computed(first, second, cache, model):
    texts = ["fox", "", "a parcel was sent to the wrong address ", "the quick brown fox jumps over the lazy dog " * 4]
    cache.clear()
    for setting in (first, second, first):
        tolerance = 1e-2 if setting["dtype"] == "bfloat16" else 1e-5  # numbers of 8 bits
        assert_allclose(
            embed(texts, model=model, cache=cache, **setting),
            embed(texts, model=model, cache=None, **setting),
            rtol=tolerance,
            atol=tolerance,
        )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(first=SETTING, second=SETTING)
def test_no_setting_reads_what_another_one_computed(first, second, cache_of_a_module, tiny):
    check_that_neither_reads_what_the_other_computed(first, second, cache_of_a_module, tiny)


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=15, deadline=None)
@given(setting=SETTING, data=st.data())
def test_no_setting_reads_what_a_setting_with_one_difference_computed(name, setting, data, cache_of_a_module, tiny):
    values = st.lists(st.sampled_from(VALUES[name]), min_size=2, max_size=2, unique=True)
    first, second = (setting | {name: value} for value in data.draw(values))
    check_that_neither_reads_what_the_other_computed(first, second, cache_of_a_module, tiny)


class TestClearAndClose:
    def test_clear_removes_vectors_and_counts(self, cache, tiny):
        for _ in range(2):
            embed(["a"], model=tiny, cache=cache)
        cache.clear()
        assert cache.stats() == {"hits": 0, "misses": 0, "texts": 0, "bytes": 0}

    def test_cleared_vectors_are_computed_again(self, cache, tiny, counted):
        embed(["a"], model=tiny, cache=cache)
        cache.clear()
        embed(["a"], model=tiny, cache=cache)
        assert counted == ["a", "a"]

    def test_an_empty_cache_may_be_cleared_and_closed(self, cache):
        for _ in range(2):
            cache.clear()
            cache.close()
        assert cache.stats()["texts"] == 0

    def test_a_closed_cache_may_be_used_again(self, cache):
        put(cache, ["a"], fill=1.0)
        cache.close()
        put(cache, ["b"], fill=2.0)
        assert get(cache, ["b"]) == [2.0]

    def test_closing_frees_the_vectors_in_memory(self, memory):
        put(memory, ["a"])
        memory.close()
        assert (memory.stats()["texts"], memory.stats()["bytes"]) == (0, 0)

    def test_closing_keeps_the_vectors_on_disk(self, disk):
        put(disk, ["a"], fill=3.0)
        disk.close()
        assert get(disk, ["a"]) == [3.0]

    def test_closing_twice_does_no_harm(self, cache):
        put(cache, ["a"])
        cache.close()
        cache.close()
        put(cache, ["b"])
        assert known(cache, ["b"]) == ["b"]

    def test_closing_keeps_the_counts_of_hits_and_misses(self, cache, tiny):
        embed(["a"], model=tiny, cache=cache)
        cache.close()
        assert cache.stats()["misses"] == 1

    def test_the_end_of_a_with_block_closes(self, tmp_path):
        with EmbeddingCache() as memory, EmbeddingCache(tmp_path) as disk:
            put(memory, ["a"])
            put(disk, ["a"])
        assert (memory.stats()["texts"], disk.stats()["texts"]) == (0, 1)

    def test_a_with_block_returns_the_cache_itself(self, cache):
        with cache as same:
            assert same is cache

    def test_the_end_of_a_with_block_hides_no_error(self, cache):
        with pytest.raises(ZeroDivisionError), cache:
            _ = 1 / 0

    def test_clear_cache_empties_all_caches_in_memory_and_none_on_disk(self, disk, tiny):
        caches = ["memory", EmbeddingCache(), EmbeddingCache(), disk]
        for one in caches:
            embed(["a"], model=tiny, cache=one)
        skembed.clear_cache()
        assert [find_store(one).size()[0] for one in caches] == [0, 0, 0, 1]

    def test_clear_cache_resets_the_counts_in_memory(self, memory, tiny):
        embed(["a"], model=tiny, cache=memory)
        skembed.clear_cache()
        assert memory.stats()["misses"] == 0

    def test_a_cache_without_references_is_freed(self):
        import gc
        import weakref

        cache = EmbeddingCache()
        put(cache, ["a"])
        watched = weakref.ref(cache.store)
        del cache
        gc.collect()
        assert watched() is None


class TestRepr:
    def test_a_repr_shows_contents_and_counts(self, cache, tiny):
        for _ in range(3):
            embed(["a", "b"], model=tiny, cache=cache)
        shown = repr(cache)
        assert shown.startswith("EmbeddingCache(")
        assert "2 vectors" in shown
        assert "1,024.0 MiB" in shown
        assert "4 hits, 2 misses" in shown

    def test_a_repr_shows_the_folder(self, disk):
        assert repr(str(disk.path)) in repr(disk)

    def test_a_repr_of_a_cache_in_memory_shows_no_folder(self, memory):
        assert repr(memory) == "EmbeddingCache(0 vectors, 0.0 of 1,024.0 MiB; 0 hits, 0 misses)"

    def test_a_repr_creates_no_folder(self, disk):
        assert "0 vectors" in repr(disk)
        assert not disk.path.exists()

    def test_a_repr_never_fails(self, disk):
        disk.path.mkdir()
        (disk.path / "data.mdb").write_bytes(b"something else" * 1000)
        assert "failed: " in repr(disk)

    def test_a_transformer_shows_its_cache(self, cache):
        assert "EmbeddingCache(" in repr(SentenceEmbeddingTransformer(cache=cache))


def pickled_and_loaded(one):
    return pickle.loads(pickle.dumps(one))


COPIES = [copy.copy, copy.deepcopy, pickled_and_loaded]


class TestCopies:
    @pytest.mark.parametrize("copied", COPIES)
    def test_a_copy_in_the_same_process_is_the_same_cache(self, copied, cache):
        put(cache, ["a"], fill=5.0)
        assert copied(cache).store is cache.store
        assert get(copied(cache), ["a"]) == [5.0]

    @pytest.mark.parametrize("copied", COPIES)
    def test_a_copy_of_a_cache_in_memory_is_the_same_object(self, copied, memory):
        assert copied(memory) is memory

    @pytest.mark.parametrize("copied", COPIES)
    def test_a_copy_of_a_transformer_uses_the_same_cache(self, copied, cache, tiny, counted):
        transformer = SentenceEmbeddingTransformer(tiny, cache=cache)
        transformer.transform(["a", "b"])
        copied(transformer).transform(["a", "b"])
        assert counted == ["a", "b"]

    def test_a_clone_uses_the_same_object(self, cache):
        assert clone(clone(SentenceEmbeddingTransformer(cache=cache))).cache is cache

    def test_a_clone_of_a_pipeline_uses_the_same_object(self, cache):
        pipeline = Pipeline([("embed", SentenceEmbeddingTransformer(cache=cache)), ("classify", LogisticRegression())])
        assert clone(pipeline).named_steps["embed"].cache is cache

    def test_copies_in_a_container_stay_one_object(self, cache):
        first, second = pickle.loads(pickle.dumps([cache, cache]))
        assert first is second

    def test_a_pickle_is_small_and_holds_no_vectors(self, cache):
        empty = len(pickle.dumps(cache))
        put(cache, [f"text {number}" for number in range(1000)])
        assert len(pickle.dumps(cache)) == empty < 500

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_pickle_protocol_works(self, protocol, cache):
        assert pickle.loads(pickle.dumps(cache, protocol)).store is cache.store

    def test_in_another_process_a_cache_in_memory_is_empty(self, memory):
        put(memory, ["a"])
        memory.store.record_hits(1, 1)
        assert in_another_process("print(objects[0].stats())", pickle.dumps(memory)) == [
            "{'hits': 0, 'misses': 0, 'texts': 0, 'bytes': 0}"
        ]

    def test_in_another_process_two_pickles_of_a_cache_are_one_object(self, memory):
        put(memory, ["a"])
        pickled = pickle.dumps(memory)
        code = "print(objects[0] is objects[1], objects[0] is pickle.loads(pickle.dumps(objects[0])))"
        assert in_another_process(code, pickled, pickled) == ["True True"]

    def test_in_another_process_a_cache_is_kept_for_the_next_pickle(self, memory):
        code = (
            "import gc; first = objects.pop(); first.store.record_hits(7, 8); del first; gc.collect()\n"
            "print(pickle.loads(loads[0]).stats()['misses'])"
        )
        assert in_another_process(code, pickle.dumps(memory)) == ["8"]

    def test_in_another_process_two_caches_stay_separate(self, memory):
        code = "print(objects[0].store is objects[1].store)"
        assert in_another_process(code, pickle.dumps(memory), pickle.dumps(EmbeddingCache())) == ["False"]

    def test_in_another_process_a_cache_in_memory_has_the_same_bound(self):
        pickled = pickle.dumps(EmbeddingCache(max_bytes=12_345))
        assert in_another_process("print(objects[0].max_bytes)", pickled) == ["12345"]

    def test_in_another_process_a_cache_on_disk_is_the_same_folder(self, disk):
        put(disk, ["a", "b"])
        code = "print(objects[0].path); print(objects[0].stats()['texts']); objects[0].clear()"
        assert in_another_process(code, pickle.dumps(disk)) == [str(disk.path), "2"]
        assert disk.stats()["texts"] == 0

    def test_in_another_process_hits_and_misses_start_from_0(self, disk):
        put(disk, ["a"])
        disk.store.record_hits(3, 4)
        code = "stats = objects[0].stats(); print(stats['hits'], stats['misses'], stats['texts'])"
        assert in_another_process(code, pickle.dumps(disk)) == ["0 0 1"]

    def test_a_pickle_finds_the_folder_from_any_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        disk = EmbeddingCache("relative")
        put(disk, ["a"])
        monkeypatch.chdir("/")
        assert in_another_process("print(objects[0].stats()['texts'])", pickle.dumps(disk)) == ["1"]
        assert disk.path == tmp_path / "relative"

    @pytest.mark.slow
    def test_another_process_reads_what_this_one_computed(self, disk, tiny):
        transformer = SentenceEmbeddingTransformer(tiny, cache=disk, pooling=("mean", "cls"), dtype="float32")
        expected = transformer.transform(["fox", "dog"])
        code = (
            "transformer = objects[0]; vectors = transformer.transform(['fox', 'dog'])\n"
            "print(vectors.tobytes().hex(), transformer.cache.stats()['hits'])"
        )
        assert in_another_process(code, pickle.dumps(transformer)) == [f"{expected.tobytes().hex()} 2"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.parametrize("kind", KINDS)
    def test_forked_children_use_the_cache_while_a_thread_of_their_parent_uses_it(self, kind, tmp_path):
        code = (
            "import os, signal, sys, threading, warnings\n"
            "import numpy as np\n"
            "from skembed import EmbeddingCache\n"
            "from skembed.encoding.recipes import Recipe\n"
            "signal.alarm(60)  # a process that hangs fails\n"
            "sys.setswitchinterval(1e-5)\n"
            "warnings.simplefilter('ignore', DeprecationWarning)  # of forks beside threads\n"
            f"cache = EmbeddingCache({str(tmp_path) if kind == 'disk' else None!r})\n"
            f"recipe = {RECIPE!r}\n"
            "def put(*texts):\n"
            "    cache.store.write(texts, np.ones(len(texts), int), {recipe: np.ones((len(texts), 4), np.float32)})\n"
            "def knows(*texts): return not len(cache.store.missing(recipe, texts))\n"
            "def go_on():\n"
            "    while not done.is_set(): put('thread'); cache.stats()\n"
            "put('parent')\n"
            "done, thread = threading.Event(), threading.Thread(target=go_on); thread.start()\n"
            "for number in range(10):\n"
            "    child = os.fork()\n"
            "    if not child:\n"
            "        signal.alarm(20); put(f'child {number}')\n"
            "        os._exit(0 if knows('parent', f'child {number}') else 1)\n"
            "    print(os.waitpid(child, 0)[1])\n"
            "done.set(); thread.join()\n"
            "print(knows('parent', 'thread'), knows(*[f'child {number}' for number in range(10)]))\n"
        )
        assert in_another_process(code) == [*["0"] * 10, f"True {kind == 'disk'}"]


TEXTS = [f"{animal} number {number}" for number in range(6) for animal in ("fox", "dog", "parcel", "address")]
LABELS = ["animal", "animal", "post", "post"] * 6


class TestSearch:
    def search(self, tiny, cache, n_jobs):
        pipeline = Pipeline([("embed", SentenceEmbeddingTransformer(tiny)), ("classify", LogisticRegression())])
        grid = {"embed__cache": [cache], "embed__truncate_dim": [8, 32], "classify__C": [1, 10]}
        return GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_in_a_grid_search_all_clones_share_one_cache(self, n_jobs, cache, tiny):
        with joblib.parallel_config("threading"):
            search = self.search(tiny, cache, n_jobs).fit(TEXTS, LABELS)
        assert search.best_estimator_.named_steps["embed"].cache is cache
        assert {id(params["embed__cache"]) for params in search.cv_results_["params"]} == {id(cache)}
        stats = cache.stats()
        assert (stats["misses"], stats["texts"]) == (24, 24)
        # each of 4 candidates reads all texts in each of 3 folds, to learn or to test; the best reads them once more
        assert stats["hits"] + stats["misses"] == (4 * 3 + 1) * 24

    def test_a_text_that_two_threads_request_is_computed_once(self, cache, tiny, counted):
        transformer, start = SentenceEmbeddingTransformer(tiny, cache=cache), threading.Barrier(4)

        def ask(_):
            start.wait()
            return transformer.transform(TEXTS)

        with joblib.parallel_config("threading"):
            results = joblib.Parallel(n_jobs=4)(joblib.delayed(ask)(number) for number in range(4))
        assert sorted(counted) == sorted(TEXTS)
        for result in results[1:]:
            assert_array_equal(result, results[0])
        assert (cache.stats()["misses"], cache.stats()["hits"]) == (24, 3 * 24)


class TestFindStore:
    def test_none_caches_nothing(self):
        assert find_store(None) is None

    @pytest.mark.parametrize("word", ["memory", np.str_("memory")], ids=["str", "numpy str"])
    def test_memory_is_one_cache_of_one_gibibyte_per_process(self, word):
        assert find_store(word) is find_store("memory")
        assert find_store(word).limit() == 2**30

    def test_a_cache_is_its_own_store(self, cache):
        assert find_store(cache) is cache.store

    def test_a_user_s_cache_is_not_that_of_the_process(self, memory):
        assert find_store(memory) is not find_store("memory")

    def test_a_folder_is_one_store_in_any_spelling(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("folder", target_is_directory=True)
        ways = ["folder", "./folder", "folder/", "link", tmp_path / "folder", Path("folder"), np.str_("x/../folder")]
        assert len({id(find_store(way)) for way in ways}) == 1

    @pytest.mark.parametrize("word", ["memory", "disk"])
    def test_a_path_of_that_name_is_a_folder(self, word, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert find_store(Path(word)).folder == tmp_path / word

    def test_disk_is_the_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr("skembed.encoding.cache.embedding_cache.default_folder", lambda: tmp_path / "default")
        assert find_store("disk").folder == tmp_path / "default"

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the folder has no variable of this name")
    def test_the_default_folder_is_in_the_user_s_cache_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_folder() == tmp_path / "skembed" / "embeddings"

    def test_disk_without_a_home_folder_is_an_error_with_a_way_out(self, monkeypatch):
        def refuse(*_, **__):
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr("platformdirs.user_cache_path", refuse)
        with pytest.raises(skembed.CacheError, match=r"cache='disk' has no folder here.*Name a folder instead"):
            find_store("disk")

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the folder has no variable of this name")
    def test_disk_keeps_vectors_in_the_user_s_cache_folder(self, tiny, tmp_path, monkeypatch, counted):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        for _ in range(2):
            embed(["a", "b"], model=tiny, cache="disk")
        assert counted == ["a", "b"]
        assert EmbeddingCache(tmp_path / "skembed" / "embeddings").stats()["texts"] == 2

    def test_finding_the_store_of_disk_creates_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        find_store("disk")
        assert list(tmp_path.iterdir()) == []


class TestFolder:
    def test_a_folder_is_created_when_it_is_first_used(self, disk):
        assert not disk.path.exists()
        put(disk, ["a"])
        assert disk.path.is_dir()

    def test_the_parents_of_a_folder_are_created(self, tmp_path):
        with EmbeddingCache(tmp_path / "a" / "b" / "c") as disk:
            put(disk, ["a"])
            assert known(disk, ["a"]) == ["a"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
    def test_only_the_owner_has_access(self, umask, tiny, tmp_path):
        before = os.umask(umask)
        try:
            with EmbeddingCache(tmp_path / "cache") as disk:
                embed(["a"], model=tiny, cache=disk)
                disk.clear()
        finally:
            os.umask(before)
        assert stat.S_IMODE(disk.path.stat().st_mode) == 0o700
        modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in disk.path.iterdir()}
        assert modes == dict.fromkeys(modes, oct(0o600))
        assert "data.mdb" in modes

    def test_no_text_is_written_to_disk(self, disk, tiny):
        embed(["the secret password is swordfish"], model=tiny, cache=disk)
        disk.close()
        assert not any(b"swordfish" in file.read_bytes() for file in disk.path.iterdir())

    def test_two_caches_of_one_folder_share_vectors_and_counts(self, disk, tiny, counted):
        second = EmbeddingCache(str(disk.path))
        embed(["a", "b"], model=tiny, cache=disk)
        embed(["a"], model=tiny, cache=second)
        assert second.store is disk.store
        assert counted == ["a", "b"]
        assert disk.stats() == second.stats()
        assert (disk.stats()["hits"], disk.stats()["misses"]) == (1, 2)

    def test_a_str_and_a_cache_of_one_folder_share_vectors(self, disk, tiny, counted):
        embed(["a"], model=tiny, cache=str(disk.path))
        embed(["a"], model=tiny, cache=disk.path)
        embed(["a"], model=tiny, cache=disk)
        assert counted == ["a"]

    def test_closing_one_of_two_caches_does_not_stop_the_other(self, disk):
        second = EmbeddingCache(disk.path)
        put(second, ["a"])
        disk.close()
        put(second, ["b"])
        assert known(second, ["a", "b"]) == ["a", "b"]

    def test_caches_of_two_folders_share_nothing(self, tmp_path, tiny, counted):
        for name in ("one", "other"):
            embed(["a"], model=tiny, cache=tmp_path / name)
        assert counted == ["a", "a"]

    def test_a_folder_that_was_deleted_is_created_again(self, disk):
        put(disk, ["a"])
        shutil.rmtree(disk.path)
        assert known(disk, ["a"]) == []
        put(disk, ["b"], fill=2.0)
        assert get(disk, ["b"]) == [2.0]

    def test_a_file_in_place_of_the_folder_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("something")
        with pytest.raises(skembed.CacheError, match="file"):
            EmbeddingCache(tmp_path / "file").stats()


class TestBound:
    @pytest.mark.parametrize("max_bytes", [0, -1, 1.5, 1e9, "1 GiB", True, float("nan"), (5,), b"5"], ids=repr)
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_wrong_bound_is_refused(self, max_bytes, kind, tmp_path):
        with pytest.raises((TypeError, ValueError), match=r"^max_bytes must be a positive integer; got "):
            EmbeddingCache(tmp_path if kind == "disk" else None, max_bytes=max_bytes)

    def test_an_empty_path_is_refused(self):
        with pytest.raises(ValueError, match="path is an empty str"):
            EmbeddingCache("")

    @pytest.mark.parametrize("path", [5, ["folder"], True], ids=repr)
    def test_what_is_not_a_path_is_refused(self, path):
        with pytest.raises(TypeError):
            EmbeddingCache(path)

    def test_max_bytes_is_keyword_only(self, tmp_path):
        with pytest.raises(TypeError):
            EmbeddingCache(tmp_path, 10**6)

    def test_without_a_bound_it_is_one_gibibyte(self, cache):
        assert cache.max_bytes == 2**30

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_bound_is_the_given_one(self, kind, tmp_path):
        with EmbeddingCache(tmp_path if kind == "disk" else None, max_bytes=123_456) as cache:
            put(cache, ["a"])
            assert cache.max_bytes == 123_456

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_bound_always_holds(self, kind, tmp_path):
        max_bytes = 50_000
        with EmbeddingCache(tmp_path if kind == "disk" else None, max_bytes=max_bytes) as cache:
            for start in range(0, 600, 20):
                texts = [f"text {number}" for number in range(start, start + 20)]
                put(cache, texts)
                assert 0 < cache.stats()["bytes"] <= max_bytes
                assert known(cache, texts) == texts
            assert cache.stats()["texts"] < 500

    def test_in_memory_the_least_recently_used_is_evicted_first(self):
        cache = EmbeddingCache(max_bytes=4000)
        put(cache, ["hot", "cold"])
        for number in range(100):
            put(cache, [f"{number}"])
            assert known(cache, ["hot"]) == ["hot"]
            get(cache, ["hot"])
        assert known(cache, ["cold"]) == []

    def test_on_disk_the_oldest_is_evicted_first(self, tmp_path):
        batches = [[f"{number}-{row}" for row in range(10)] for number in range(12)]
        with EmbeddingCache(tmp_path) as disk:
            put(disk, batches[0])
            n_bytes = disk.stats()["bytes"]
        with EmbeddingCache(tmp_path, max_bytes=5 * n_bytes) as disk:
            for number, texts in enumerate(batches[1:], start=1):
                put(disk, texts)
                get(disk, batches[0])  # reading does not make it stay longer
                first = max(0, number - 4)
                kept = [known(disk, batch) for batch in batches]
                assert kept == [batch if first <= at <= number else [] for at, batch in enumerate(batches)]
                assert disk.stats()["bytes"] == (number - first + 1) * n_bytes <= disk.max_bytes
                assert disk.stats()["texts"] == 10 * (number - first + 1)

    @pytest.mark.parametrize("kind", KINDS)
    def test_vectors_that_can_never_fit_are_computed_anyway(self, kind, tmp_path, tiny, mixed_texts):
        with EmbeddingCache(tmp_path if kind == "disk" else None, max_bytes=1) as cache:
            for _ in range(2):
                assert_allclose(
                    embed(mixed_texts, model=tiny, cache=cache), embed(mixed_texts, model=tiny, cache=None), atol=1e-6
                )
            assert (cache.stats()["texts"], cache.stats()["bytes"], cache.stats()["hits"]) == (0, 0, 0)

    def test_a_folder_remembers_its_bound_in_another_process(self, tmp_path):
        with EmbeddingCache(tmp_path, max_bytes=77_777) as disk:
            put(disk, ["a"])
        code = f"from skembed import EmbeddingCache; print(EmbeddingCache({str(tmp_path)!r}).max_bytes)"
        assert in_another_process(code) == ["77777"]

    def test_a_folder_keeps_to_its_bound_in_another_process(self, tmp_path):
        with EmbeddingCache(tmp_path, max_bytes=20_000) as disk:
            put(disk, ["a"])
            code = (
                "import numpy as np; from skembed import EmbeddingCache; from skembed.encoding.recipes import Recipe\n"
                f"cache = EmbeddingCache({str(tmp_path)!r}); recipe = {RECIPE!r}\n"
                "for number in range(20):\n"
                "    cache.store.write([str(number)], np.ones(1, int), {recipe: np.ones((1, 4), np.float32)})\n"
                "    assert cache.stats()['bytes'] <= 20_000\n"
                "print(cache.stats()['texts'] < 20)"
            )
            assert in_another_process(code) == ["True"]
            assert known(disk, ["a"]) == []

    def test_a_new_bound_of_a_folder_replaces_the_old_one(self, tmp_path):
        for max_bytes in (77_777, 55_555):
            with EmbeddingCache(tmp_path, max_bytes=max_bytes) as disk:
                put(disk, [f"{max_bytes}"])
        code = f"from skembed import EmbeddingCache; print(EmbeddingCache({str(tmp_path)!r}).max_bytes)"
        assert in_another_process(code) == ["55555"]

    def test_a_smaller_bound_of_a_folder_applies_from_the_next_vector_on(self, tmp_path):
        with EmbeddingCache(tmp_path, max_bytes=10**6) as disk:
            for number in range(20):
                put(disk, [f"{number}"])
        with EmbeddingCache(tmp_path, max_bytes=20_000) as disk:
            put(disk, ["new"])
            assert disk.stats()["bytes"] <= 20_000
            assert known(disk, ["new"]) == ["new"]

    def test_a_cache_of_the_same_folder_without_a_bound_does_not_change_it(self, tmp_path):
        first = EmbeddingCache(tmp_path, max_bytes=77_777)
        second = EmbeddingCache(tmp_path)
        assert (first.max_bytes, second.max_bytes) == (77_777, 77_777)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted as Linux does")
def test_caches_on_disk_without_references_keep_no_file_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(60):
        put(EmbeddingCache(tmp_path / f"{number}"), ["a"])
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 40
    assert known(EmbeddingCache(tmp_path / "0"), ["a"]) == ["a"]


def test_a_folder_that_is_named_in_each_call_is_opened_once(tmp_path, tiny, monkeypatch):
    from skembed.encoding.cache.disk_store import DiskStore

    opened, open_one = [], DiskStore._open
    monkeypatch.setattr(DiskStore, "_open", lambda store, data: (opened.append(data), open_one(store, data)))
    for text in ("a", "b", "a"):
        embed([text], model=tiny, cache=str(tmp_path))
    assert len(opened) == 1
    assert EmbeddingCache(tmp_path).stats()["hits"] == 1
