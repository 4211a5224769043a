"""The store in memory: what is read back, what is evicted, what it counts, threads and interrupts."""

from __future__ import annotations

import signal
import sys
import tracemalloc
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, count
from threading import Barrier, Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from skembed.encoding.cache import memory_store
from skembed.encoding.cache.memory_store import MemoryStore
from tests.encoding.test_recipes import OTHER_VALUE, RECIPE
from tests.interrupts import at_each_line, interrupted_at_random

DIM = 4
UNKNOWN = -7
OTHER_RECIPE = replace(RECIPE, pooling=("cls",))


def write(store, recipe, texts, fill=1.0, n_tokens=3):
    vectors = np.full((len(texts), DIM), fill, dtype=np.float32)
    store.write(texts, np.full(len(texts), n_tokens), {recipe: vectors})


def read(store, recipe, texts):
    """Return what the store has for texts: vectors, token counts and the positions that it reports missing."""
    vectors = np.full((len(texts), DIM), UNKNOWN, dtype=np.float32)
    n_tokens = np.full(len(texts), UNKNOWN)
    missing = store.read(recipe, texts, vectors, n_tokens)
    return vectors, n_tokens, missing.tolist()


def known(store, recipe, texts):
    missing = read(store, recipe, texts)[2]
    return [text for position, text in enumerate(texts) if position not in missing]


def n_bytes_of(text):
    """Return what a store counts for one text and its vector by a recipe that it has already."""
    store = MemoryStore()
    write(store, RECIPE, [text + "another"])
    before = store.size()[1]
    write(store, RECIPE, [text])
    return store.size()[1] - before


def recipe_bytes(*recipes):
    """Return what a store counts for recipes beside their texts and vectors."""
    return sum(_recipe_bytes(recipe) for recipe in recipes)


def _recipe_bytes(recipe):
    store = MemoryStore()
    write(store, recipe, ["a"])
    return store.size()[1] - n_bytes_of("a")


def fresh(text):
    """Return an equal text that is another object."""
    return "".join(list(text))


def test_what_was_written_is_read_back_bit_for_bit():
    bits = np.random.default_rng(0).integers(0, 2**32, size=(200, DIM), dtype=np.uint32)
    bits[0] = [0x7F800001, 0xFFC12345, 0x80000000, 0x00000001]  # two NaNs with a payload, minus zero, a subnormal
    texts = [f"text {row}" for row in range(200)]
    store = MemoryStore()
    store.write(texts, np.arange(200), {RECIPE: bits.view(np.float32)})
    vectors, _, missing = read(store, RECIPE, texts)
    assert missing == []
    assert (vectors.view(np.uint32) == bits).all()


def test_token_counts_are_read_back_with_the_vectors():
    store = MemoryStore()
    store.write(["a", "b", "c"], np.array([0, 7, 2**40]), {RECIPE: np.zeros((3, DIM), dtype=np.float32)})
    assert read(store, RECIPE, ["c", "a", "b"])[1].tolist() == [2**40, 0, 7]


def test_unknown_texts_are_reported_missing_by_their_position():
    store = MemoryStore()
    write(store, RECIPE, ["b", "d"])
    assert read(store, RECIPE, ["a", "b", "c", "d", "a"])[2] == [0, 2, 4]


def test_the_rows_of_missing_texts_stay_as_they_are():
    store = MemoryStore()
    write(store, RECIPE, ["b"], fill=2.0, n_tokens=5)
    vectors, n_tokens, _ = read(store, RECIPE, ["a", "b"])
    assert vectors.tolist() == [[UNKNOWN] * DIM, [2.0] * DIM]
    assert n_tokens.tolist() == [UNKNOWN, 5]


def test_in_an_empty_store_everything_is_missing():
    assert read(MemoryStore(), RECIPE, ["a", "b"])[2] == [0, 1]


def test_reading_no_texts_finds_nothing_missing():
    missing = MemoryStore().read(RECIPE, [], np.empty((0, DIM), dtype=np.float32), np.empty(0, dtype=np.int64))
    assert missing.dtype == np.intp
    assert missing.size == 0


def test_writing_no_texts_stores_nothing():
    store = MemoryStore()
    write(store, RECIPE, [])
    assert store.size()[1] == 0


@pytest.mark.parametrize(
    "text", ["", " ", "a\0b", "naïve 🦊", "long " * 10_000], ids=["empty", "blank", "NUL", "accents and emoji", "long"]
)
def test_any_text_can_be_stored(text):
    store = MemoryStore()
    write(store, RECIPE, [text])
    assert known(store, RECIPE, [fresh(text)]) == [text]


def test_texts_that_look_alike_stay_apart():
    alike = ["\u00e9", "e\u0301", "a", "A", " a", "a ", "a\0"]
    store = MemoryStore()
    for position, text in enumerate(alike):
        write(store, RECIPE, [text], fill=position)
    assert read(store, RECIPE, alike)[0][:, 0].tolist() == list(range(len(alike)))


@pytest.mark.parametrize("field", OTHER_VALUE)
def test_recipes_that_differ_in_one_field_never_share(field):
    store = MemoryStore()
    write(store, RECIPE, ["a"])
    assert known(store, replace(RECIPE, **{field: OTHER_VALUE[field]}), ["a"]) == []


def test_each_recipe_finds_its_own_vector_of_a_text():
    recipes = [replace(RECIPE, **{field: value}) for field, value in OTHER_VALUE.items()]
    store = MemoryStore()
    for number, recipe in enumerate(recipes):
        write(store, recipe, ["a"], fill=number)
    assert [read(store, recipe, ["a"])[0][0, 0] for recipe in recipes] == list(range(len(recipes)))


def test_equal_recipes_share():
    store = MemoryStore()
    write(store, RECIPE, ["a"])
    assert known(store, replace(RECIPE), ["a"]) == ["a"]


def test_writing_a_text_again_keeps_its_first_vector():
    store = MemoryStore()
    write(store, RECIPE, ["a"], fill=1.0, n_tokens=1)
    write(store, RECIPE, ["a"], fill=2.0, n_tokens=2)
    vectors, n_tokens, _ = read(store, RECIPE, ["a"])
    assert (vectors[0, 0], n_tokens[0]) == (1.0, 1)


def test_writing_a_text_again_takes_no_more_memory():
    store = MemoryStore()
    write(store, RECIPE, ["a", "a"])
    write(store, RECIPE, ["a"])
    assert store.size()[1] == n_bytes_of("a") + recipe_bytes(RECIPE)


def test_stored_vectors_do_not_change_with_the_array_that_was_written():
    vectors, n_tokens = np.ones((1, DIM), dtype=np.float32), np.array([3])
    store = MemoryStore()
    store.write(["a"], n_tokens, {RECIPE: vectors})
    vectors[:], n_tokens[:] = 9.0, 9
    stored, stored_n_tokens, _ = read(store, RECIPE, ["a"])
    assert (stored[0, 0], stored_n_tokens[0]) == (1.0, 3)


def test_stored_vectors_do_not_change_with_the_array_they_were_read_into():
    store = MemoryStore()
    write(store, RECIPE, ["a"])
    read(store, RECIPE, ["a"])[0][:] = 9.0
    assert read(store, RECIPE, ["a"])[0][0, 0] == 1.0


def test_a_stored_vector_does_not_keep_the_other_rows_in_memory():
    vectors = np.ones((1000, DIM), dtype=np.float32)
    alive = weakref.ref(vectors)
    store = MemoryStore()
    store.write(["a"], np.array([3]), {RECIPE: vectors[:1]})
    del vectors
    assert alive() is None


def test_the_bytes_cover_vectors_and_texts():
    assert n_bytes_of("a" * 1000) >= 1000 + 4 * DIM


def test_the_bytes_of_several_texts_are_the_sum_of_each():
    store = MemoryStore()
    write(store, RECIPE, ["a", "bb", "naïve"])
    assert store.size()[1] == sum(map(n_bytes_of, ["a", "bb", "naïve"])) + recipe_bytes(RECIPE)


def test_the_oldest_is_evicted_first():
    store = MemoryStore(max_bytes=3 * n_bytes_of("a") + recipe_bytes(RECIPE))
    for text in "abcd":
        write(store, RECIPE, [text])
    assert known(store, RECIPE, ["a", "b", "c", "d"]) == ["b", "c", "d"]


def test_a_text_that_was_read_stays_longer():
    store = MemoryStore(max_bytes=3 * n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a", "b", "c"])
    read(store, RECIPE, ["a"])
    write(store, RECIPE, ["d"])
    assert known(store, RECIPE, ["a", "b", "c", "d"]) == ["a", "c", "d"]


def test_a_text_that_was_written_again_stays_longer():
    store = MemoryStore(max_bytes=3 * n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a", "b", "c"])
    write(store, RECIPE, ["a"])
    write(store, RECIPE, ["d"])
    assert known(store, RECIPE, ["a", "b", "c", "d"]) == ["a", "c", "d"]


def test_reading_a_missing_text_makes_nothing_stay_longer():
    store = MemoryStore(max_bytes=2 * n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a", "b"])
    read(store, replace(RECIPE, prompt="query: "), ["a"])
    write(store, RECIPE, ["c"])
    assert known(store, RECIPE, ["a", "b", "c"]) == ["b", "c"]


def test_all_recipes_share_the_memory():
    recipes = [replace(RECIPE, prompt=prompt) for prompt in ("1", "2", "3")]
    store = MemoryStore(max_bytes=2 * n_bytes_of("a") + recipe_bytes(*recipes[:2]))
    for recipe in recipes:
        write(store, recipe, ["a"])
    assert [known(store, recipe, ["a"]) for recipe in recipes] == [[], ["a"], ["a"]]


def test_what_a_recipe_wrote_last_may_be_evicted_before_what_it_wrote_earlier():
    store = MemoryStore(max_bytes=2 * n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a", "b"])
    read(store, RECIPE, ["a"])
    write(store, OTHER_RECIPE, ["c", "d"])
    assert (known(store, RECIPE, ["a", "b"]), known(store, OTHER_RECIPE, ["c", "d"])) == ([], ["c", "d"])


def test_exactly_what_fits_stays():
    store = MemoryStore(max_bytes=2 * n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a", "b"])
    assert known(store, RECIPE, ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    "max_bytes", [0, 1, n_bytes_of("a" * 100) + recipe_bytes(RECIPE) - 1], ids=["nothing", "one byte", "a byte too few"]
)
def test_a_text_larger_than_the_store_is_not_stored(max_bytes):
    store = MemoryStore(max_bytes=max_bytes)
    write(store, RECIPE, ["a" * 100])
    assert known(store, RECIPE, ["a" * 100]) == []
    assert store.size()[1] == 0


def test_a_store_can_still_be_used_after_a_text_larger_than_it():
    store = MemoryStore(max_bytes=n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a" * 1000])
    write(store, RECIPE, ["a"])
    assert known(store, RECIPE, ["a"]) == ["a"]


def test_the_eviction_of_a_text_that_a_tokenizer_read_meanwhile_frees_what_was_counted():
    text = fresh("é" * 1000)
    store = MemoryStore(max_bytes=n_bytes_of(text) + recipe_bytes(RECIPE))
    write(store, RECIPE, [text])
    Tokenizer(models.BPE()).encode(text)  # CPython now also has the text in UTF-8, which sys.getsizeof counts
    write(store, RECIPE, ["a"])
    assert store.size()[1] == n_bytes_of("a") + recipe_bytes(RECIPE)


def test_the_eviction_of_a_text_frees_what_was_counted_although_an_equal_text_is_larger():
    text, larger = fresh("é" * 1000), fresh("é" * 1000)
    Tokenizer(models.BPE()).encode(larger)
    store = MemoryStore(max_bytes=n_bytes_of(text) + recipe_bytes(RECIPE))
    write(store, RECIPE, [text])
    write(store, RECIPE, [larger])
    write(store, RECIPE, ["a"])
    assert store.size()[1] == n_bytes_of("a") + recipe_bytes(RECIPE)


def test_the_bound_holds_after_texts_that_a_tokenizer_read_meanwhile():
    texts = [fresh(f"{number}" + "é" * 1000) for number in range(20)]
    store = MemoryStore(max_bytes=20 * n_bytes_of(texts[0]) + 1000 + recipe_bytes(RECIPE))
    write(store, RECIPE, texts)
    Tokenizer(models.BPE()).encode_batch(texts)
    for number in range(1000):
        write(store, RECIPE, [f"{number:04}"])
    n_held = len(known(store, RECIPE, [f"{number:04}" for number in range(1000)]))
    assert n_held * n_bytes_of("0000") + recipe_bytes(RECIPE) <= store.max_bytes


def test_clear_removes_everything():
    store = MemoryStore()
    write(store, RECIPE, ["a", "b"])
    store.clear()
    assert known(store, RECIPE, ["a", "b"]) == []
    assert store.size()[1] == 0


def test_in_a_cleared_store_no_recipe_reads_the_vectors_of_another():
    first, second = RECIPE, replace(RECIPE, prompt="query: ")
    store = MemoryStore()
    write(store, first, ["a"], fill=1.0)
    store.clear()
    write(store, second, ["a"], fill=2.0)
    assert known(store, first, ["a"]) == []


def test_an_entry_that_can_never_fit_evicts_nothing():
    store = MemoryStore(max_bytes=n_bytes_of("a") + recipe_bytes(RECIPE))
    write(store, RECIPE, ["a"], fill=1)
    write(store, RECIPE, ["x" * 10_000], fill=2)
    assert read(store, RECIPE, ["a"])[0][:, 0].tolist() == [1]


class LeastRecentlyUsed:
    """The simplest implementation of the store: the reference of the property test.

    It evicts vector by vector, like a store that is too small for blocks of several. What one call reads is used at
    the same time; of that, the oldest is evicted first.
    """

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self.fills = OrderedDict()
        self.written = {}
        self.clock = count()

    @property
    def n_bytes(self):
        return sum(SIZES[text] for _, text in self.fills) + sum(SIZES[recipe] for recipe in self.recipes)

    @property
    def recipes(self):
        return {recipe for recipe, _ in self.fills}

    def write(self, recipes, texts, fill):
        for key in [(recipe, text) for recipe in recipes for text in texts]:
            size = SIZES[key[1]]
            if key not in self.fills and size + SIZES[key[0]] <= self.max_bytes:
                while self.n_bytes + size + SIZES[key[0]] * (key[0] not in self.recipes) > self.max_bytes:
                    self.fills.popitem(last=False)
                self.fills[key], self.written[key] = fill, next(self.clock)
            if key in self.fills:
                self.fills.move_to_end(key)

    def read(self, recipe, texts):
        for key in sorted({(recipe, text) for text in texts if (recipe, text) in self.fills}, key=self.written.get):
            self.fills.move_to_end(key)
        return [self.fills.get((recipe, text), UNKNOWN) for text in texts]

    def missing(self, recipe, texts):
        return [position for position, text in enumerate(texts) if (recipe, text) not in self.fills]


TEXTS = ["", "a", "b", "né", "naïve 🦊", "x" * 300, "y" * 3000]
SOME_TEXTS = st.lists(st.sampled_from(TEXTS), max_size=4)
RECIPES = [RECIPE, replace(RECIPE, prompt="query: "), replace(RECIPE, layers=(5,))]
SIZES = {text: n_bytes_of(text) for text in TEXTS} | {recipe: recipe_bytes(recipe) for recipe in RECIPES}
SOME_RECIPES = st.lists(st.sampled_from(RECIPES), min_size=1, max_size=3, unique=True)
OPERATIONS = st.lists(
    st.tuples(st.just("write"), SOME_RECIPES, SOME_TEXTS)
    | st.tuples(st.just("read"), SOME_RECIPES, SOME_TEXTS)
    | st.tuples(st.just("missing"), SOME_RECIPES, SOME_TEXTS)
    | st.tuples(st.just("clear"), st.none(), st.none()),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS, st.sampled_from([0, 2500, 3000, 6000]) | st.integers(0, 12_000))
@pytest.mark.slow
def test_after_any_operations_the_store_equals_the_reference_and_stays_within_its_bound(operations, max_bytes):
    store, reference = MemoryStore(max_bytes), LeastRecentlyUsed(max_bytes)
    for step, (operation, recipes, texts) in enumerate(operations):
        if operation == "write":
            vectors = np.full((len(texts), DIM), step, dtype=np.float32)
            store.write(texts, np.zeros(len(texts), dtype=np.int64), dict.fromkeys(recipes, vectors))
            reference.write(recipes, texts, fill=step)
        elif operation == "read":
            assert read(store, recipes[0], texts)[0][:, 0].tolist() == reference.read(recipes[0], texts)
        elif operation == "missing":
            assert store.missing(recipes[0], texts).tolist() == reference.missing(recipes[0], texts)
        else:
            store.clear()
            reference.fills.clear()
        assert store.size() == (len(reference.fills), reference.n_bytes)
        assert store.size()[1] <= max_bytes


def full_of(n_bytes, *recipes):
    """Return a store with space for a number of bytes of texts and vectors."""
    return MemoryStore(n_bytes + recipe_bytes(*recipes or [RECIPE]))


class TestBlocks:
    """A store that is large enough for blocks of several vectors."""

    @pytest.mark.parametrize("n_a_block", [2, 7, 100])
    def test_the_oldest_block_is_evicted_first(self, n_a_block):
        size = n_bytes_of("000000")
        store, texts = full_of(512 * n_a_block * size), [f"{number:06}" for number in range(512 * n_a_block + 1)]
        write(store, RECIPE, texts)
        assert store.missing(RECIPE, texts).tolist() == list(range(n_a_block))

    def test_no_block_has_more_than_1024_vectors(self):
        size = n_bytes_of("000000")
        store, texts = MemoryStore(10**7 * size), [f"{number:06}" for number in range(3000)]
        write(store, RECIPE, texts)
        store.max_bytes = 3000 * size + recipe_bytes(RECIPE)  # as if it were full
        write(store, RECIPE, ["999999"])
        assert store.missing(RECIPE, texts).tolist() == list(range(1024))

    def test_reading_one_text_makes_its_whole_block_stay(self):
        size = n_bytes_of("0000")
        store, texts = full_of(512 * 3 * size), [f"{number:04}" for number in range(512 * 3)]
        write(store, RECIPE, texts)
        read(store, RECIPE, [texts[1]])
        write(store, RECIPE, ["9999"])
        assert store.missing(RECIPE, texts).tolist() == [3, 4, 5]

    def test_missing_makes_no_block_stay(self):
        size = n_bytes_of("0000")
        store, texts = full_of(512 * 3 * size), [f"{number:04}" for number in range(512 * 3)]
        write(store, RECIPE, texts)
        store.missing(RECIPE, [texts[1]])
        write(store, RECIPE, ["9999"])
        assert store.missing(RECIPE, texts).tolist() == [0, 1, 2]

    def test_texts_that_are_read_repeatedly_survive_a_stream_of_others(self):
        store = MemoryStore(512 * 5 * n_bytes_of("000000"))
        hot = [f"hot {number:02}" for number in range(20)]
        write(store, RECIPE, [f"old{number:03}" for number in range(3)])
        write(store, RECIPE, hot, fill=5.0, n_tokens=5)
        for start in range(0, 30_000, 500):
            write(store, RECIPE, [f"{number:06}" for number in range(start, start + 500)])
            vectors, n_tokens, missing = read(store, RECIPE, hot)
            assert (missing, set(vectors.flat), set(n_tokens)) == ([], {5.0}, {5})

    def test_a_block_has_vectors_of_one_recipe_only(self):
        size = n_bytes_of("0000")
        store, texts = full_of(512 * 4 * size, RECIPE, OTHER_RECIPE), [f"{number:04}" for number in range(512 * 2)]
        for text in texts:
            write(store, RECIPE, [text])
            write(store, OTHER_RECIPE, [text])
        write(store, RECIPE, ["9999"])
        assert store.missing(RECIPE, texts).tolist() == [0, 1, 2, 3]
        assert store.missing(OTHER_RECIPE, texts).tolist() == []

    def test_vectors_of_several_recipes_and_dimensions_stay_apart(self):
        store, texts = MemoryStore(10**7), [f"{number}" for number in range(2000)]
        by = {
            replace(RECIPE, layers=(dim,)): np.random.default_rng(dim).random((2000, dim), np.float32)
            for dim in (1, 4, 33)
        }
        for start in range(0, 2000, 300):
            rows = slice(start, start + 300)
            store.write(texts[rows], np.arange(2000)[rows], {recipe: vectors[rows] for recipe, vectors in by.items()})
        for recipe, expected in by.items():
            vectors, n_tokens = np.zeros_like(expected), np.zeros(2000, dtype=np.int64)
            assert store.read(recipe, texts, vectors, n_tokens).tolist() == []
            assert (vectors == expected).all()
            assert (n_tokens == np.arange(2000)).all()

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.tuples(*map(st.integers, [0, 1, 0, 0], [2, 60, 3000, 9])), min_size=20, max_size=40),
        st.integers(2**16, 2**19),
    )
    @pytest.mark.slow
    def test_the_bound_always_holds_and_little_is_evicted_at_once(self, writes, max_bytes):
        store, numbers, held = MemoryStore(max_bytes), count(), {recipe: [] for recipe in RECIPES}
        for which, n_texts, n_characters, n_read in writes:
            texts = [f"{next(numbers)}".ljust(n_characters, ".") for _ in range(n_texts)]
            recipe = RECIPES[which]
            for text in texts:
                before = store.size()[1]
                write(store, recipe, [text])
                held[recipe].append(text)
                n_bytes = n_bytes_of(text)
                assert store.size()[1] <= max_bytes
                # no more than it needs, except for the rest of the last block, and its recipe
                needed = max(before + n_bytes + SIZES[recipe] - max_bytes, 0)
                assert before + n_bytes - store.size()[1] <= needed + max(max_bytes // 512, 3500) + max(
                    SIZES[other] for other in RECIPES
                )
            assert known(store, recipe, texts[-1:]) == texts[-1:]
            known(store, recipe, held[recipe][-100:-90][:n_read])  # these stay longer
        still = [text for recipe in RECIPES for text in known(store, recipe, held[recipe])]
        n_recipes_bytes = recipe_bytes(*[recipe for recipe in RECIPES if known(store, recipe, held[recipe])])
        assert store.size() == (len(still), sum(map(n_bytes_of, still)) + n_recipes_bytes)

    def test_short_texts_do_not_make_blocks_in_which_many_long_texts_are_evicted_together(self):
        long = [f"{number:03}".ljust(100_000) for number in range(41)]
        store = full_of(n_bytes_of("short") + 41 * n_bytes_of(long[0]))
        write(store, RECIPE, ["short", *long])  # fills it to the last byte
        write(store, RECIPE, ["another"])
        assert len(known(store, RECIPE, long)) >= 40


@pytest.mark.slow
def test_memory_stays_within_the_bound():
    max_bytes, dim, n_a_batch = 10_000_000, 384, 64
    fits = max_bytes // (4 * dim + 200)
    store, random = MemoryStore(max_bytes), np.random.default_rng(0)
    tracemalloc.start()
    try:
        for start in range(0, 10 * fits // 2, n_a_batch):
            texts = [f"text number {number}" for number in range(start, start + n_a_batch)]
            vectors = random.random((2, n_a_batch, dim), np.float32)
            store.write(texts, np.full(n_a_batch, 5), {RECIPE: vectors[0], OTHER_RECIPE: vectors[1]})
        del texts, vectors
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.size()[1] > 0.9 * max_bytes
    assert held < 1.1 * max_bytes
    assert most < 1.1 * max_bytes


@pytest.mark.parametrize("n_texts", [1, 2, 5, 70])
def test_memory_stays_within_the_bound_with_many_recipes_of_few_texts(n_texts):
    max_bytes, dim = 8_000_000, 384
    texts, n_tokens, vectors = ["a text", *map(str, range(n_texts - 1))], np.full(n_texts, 3), np.ones((n_texts, dim))
    store = MemoryStore(max_bytes)
    tracemalloc.start()
    try:
        for number in range(4000 // n_texts):
            store.write(texts, n_tokens, {replace(RECIPE, prompt=f"prompt {number}"): vectors.astype(np.float32)})
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert store.size()[1] > 0.8 * max_bytes
    assert held < 1.1 * max_bytes


def test_vectors_of_several_recipes_are_written_at_once():
    store = MemoryStore()
    ones = np.ones((2, DIM), dtype=np.float32)
    store.write(["a", "b"], np.array([3, 4]), {RECIPE: ones, OTHER_RECIPE: 2 * ones})
    assert [read(store, recipe, ["b"])[0][0, 0] for recipe in (RECIPE, OTHER_RECIPE)] == [1, 2]
    assert [read(store, recipe, ["b"])[1][0] for recipe in (RECIPE, OTHER_RECIPE)] == [4, 4]


def test_the_last_of_several_recipes_that_are_written_at_once_stays_longest():
    store = MemoryStore(max_bytes=3 * n_bytes_of("a") + recipe_bytes(RECIPE, OTHER_RECIPE))
    ones = np.ones((1, DIM), dtype=np.float32)
    store.write(["a"], np.array([3]), {RECIPE: ones, OTHER_RECIPE: ones})
    write(store, RECIPE, ["b", "c"])
    assert (known(store, RECIPE, ["a"]), known(store, OTHER_RECIPE, ["a"])) == ([], ["a"])


def test_vectors_are_written_from_and_read_into_columns_of_a_wider_array():
    wide = np.arange(2 * 3 * DIM, dtype=np.float32).reshape(2, 3 * DIM)
    store, result = MemoryStore(), np.zeros_like(wide)
    store.write(["a", "b"], np.array([3, 3]), {RECIPE: wide[:, DIM : 2 * DIM]})
    store.read(RECIPE, ["b", "a"], result[:, DIM : 2 * DIM], np.zeros(2, dtype=np.int64))
    assert (result[::-1, DIM : 2 * DIM] == wide[:, DIM : 2 * DIM]).all()
    assert not np.delete(result, np.s_[DIM : 2 * DIM], axis=1).any()


def test_missing_returns_the_positions_that_read_returns():
    store = MemoryStore()
    write(store, RECIPE, ["b", "d"])
    missing = store.missing(RECIPE, ["a", "b", "c", "d", "a"])
    assert (missing.tolist(), missing.dtype) == ([0, 2, 4], np.intp)


@pytest.mark.parametrize("recipe", [RECIPE, OTHER_RECIPE], ids=["known", "unknown"])
def test_of_no_texts_none_is_missing(recipe):
    store = MemoryStore()
    write(store, RECIPE, ["a"])
    assert store.missing(recipe, []).tolist() == []


@pytest.mark.parametrize("n_texts", [1, 3, 2000])
def test_the_estimated_bytes_are_what_the_vectors_take_beside_the_prompt(n_texts):
    texts = [f"text {number}" for number in range(n_texts)]
    store = MemoryStore()
    write(store, RECIPE, texts)
    assert store.estimate_bytes(texts, DIM) == store.size()[1] - sys.getsizeof(RECIPE.prompt)


def test_size_counts_vectors_and_count_counts_texts():
    store = MemoryStore()
    write(store, RECIPE, ["a", "b"])
    write(store, OTHER_RECIPE, ["b", "c"])
    assert (store.size(), store.count()) == ((4, store.size()[1]), (3, store.size()[1]))


def test_an_empty_store_counts_nothing():
    assert (MemoryStore().size(), MemoryStore().count()) == ((0, 0), (0, 0))


@pytest.mark.parametrize(("max_bytes", "limit"), [(None, 2**30), (5, 5)])
def test_the_limit_is_the_given_one_or_one_gibibyte(max_bytes, limit):
    assert MemoryStore(max_bytes).limit() == limit


def test_closing_frees_the_memory_and_a_closed_store_may_be_used_again():
    store = MemoryStore()
    write(store, RECIPE, ["a"], fill=1.0)
    store.close()
    assert store.size() == (0, 0)
    write(store, RECIPE, ["a"], fill=2.0)
    assert read(store, RECIPE, ["a"])[0][0, 0] == 2.0


def test_hits_and_misses_add_up_until_the_store_is_cleared():
    store = MemoryStore()
    store.record_hits(3, 4)
    store.record_hits(5, 0)
    assert store.calls == (8, 4)
    store.clear()
    assert store.calls == (0, 0)


def test_reading_and_writing_do_not_count_as_hits_or_misses():
    store = MemoryStore()
    write(store, RECIPE, ["a"])
    read(store, RECIPE, ["a", "b"])
    assert store.calls == (0, 0)


def test_while_the_process_forks_other_threads_wait():
    store, order = MemoryStore(), []

    def write_and_note():
        write(store, RECIPE, ["a"])
        order.append("written")

    thread = Thread(target=write_and_note)
    store.before_fork()
    thread.start()
    assert known(store, RECIPE, ["a"]) == []
    order.append("forked")
    store.after_fork()
    thread.join()
    assert order == ["forked", "written"]
    assert known(store, RECIPE, ["a"]) == ["a"]


@pytest.fixture
def _threads_take_turns_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_that_share_a_store_never_see_a_wrong_vector_or_break_the_bound():
    texts = [f"text {number}" for number in range(10, 20)]
    recipes = [replace(RECIPE, prompt=f"{number}") for number in range(3)]
    store = MemoryStore(max_bytes=12 * n_bytes_of(texts[0]) + recipe_bytes(*recipes))
    start = Barrier(8)

    def hammer(seed):
        random = np.random.default_rng(seed)
        wrong = []
        start.wait()
        for _ in range(300):
            recipe, some = recipes[random.integers(3)], random.integers(10, size=6)
            right = 100 * int(recipe.prompt) + some
            vectors, n_tokens, missing = read(store, recipe, [texts[number] for number in some])
            found = np.setdiff1d(np.arange(6), missing)
            wrong.extend(found[(vectors[found] != right[found, None]).any(axis=1) | (n_tokens[found] != right[found])])
            written = np.repeat(right[:, None], DIM, axis=1).astype(np.float32)
            store.write([texts[number] for number in some], right, {recipe: written})
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(chain.from_iterable(pool.map(hammer, range(8)))) == []
    held_by = {recipe: known(store, recipe, texts) for recipe in recipes}
    held = sum(n_bytes_of(text) for texts in held_by.values() for text in texts)
    held += recipe_bytes(*[recipe for recipe, texts in held_by.items() if texts])
    assert store.size()[1] == held <= store.max_bytes


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_a_thread_may_clear_what_others_are_reading():
    texts = [f"text {number}" for number in range(300)]
    store = MemoryStore()
    start = Barrier(4)

    def read_again_and_again():
        start.wait()
        for _ in range(400):
            read(store, RECIPE, texts)

    def clear_again_and_again():
        start.wait()
        for _ in range(400):
            write(store, RECIPE, texts)
            store.clear()

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read_again_and_again) for _ in range(3)]
        pool.submit(clear_again_and_again).result()
        assert [reader.exception() for reader in readers] == [None] * 3
    assert store.size()[1] == 0


class TestInterrupts:
    """After an operation is interrupted, the vectors of the store are right, and so are its counts."""

    texts = tuple(f"text {number}" for number in range(40))
    recipes = (RECIPE, RECIPES[1])
    sizes = tuple(map(n_bytes_of, texts))

    def right(self, recipe, texts):
        fills = [int(text[5:]) + 100 * self.recipes.index(recipe) for text in texts]
        return np.repeat(np.array(fills, dtype=np.float32)[:, None], DIM, axis=1)

    def write(self, store, texts):
        n_tokens = np.array([int(text[5:]) for text in texts])
        store.write(texts, n_tokens, {recipe: self.right(recipe, texts) for recipe in self.recipes})

    def use(self, store):
        """Call every method, and write until much was evicted."""
        for start in range(0, 40, 8):
            self.write(store, self.texts[start : start + 8])
            read(store, RECIPE, self.texts[:start])
        store.missing(RECIPE, self.texts)
        store.record_hits(1, 2)
        assert (store.count(), store.size()) is not None
        store.clear()
        self.write(store, self.texts[:20])

    def check(self, store):
        n_bytes = 0
        for recipe in self.recipes:
            vectors, n_tokens, missing = read(store, recipe, self.texts)
            found = np.setdiff1d(np.arange(40), missing)
            assert (vectors[found] == self.right(recipe, [self.texts[position] for position in found])).all()
            assert n_tokens[found].tolist() == found.tolist()
            assert store.missing(recipe, self.texts).tolist() == missing
            n_bytes += sum(self.sizes[position] for position in found) + SIZES[recipe] * bool(len(found))
        assert store.size()[1] == n_bytes <= store.max_bytes

    def room(self):
        return 24 * n_bytes_of(self.texts[10]) + recipe_bytes(*self.recipes)

    @pytest.mark.parametrize("visits", [1, pytest.param(5, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("is_new", [True, False], ids=["one store each", "one store for all"])
    def test_an_interrupt_at_any_line_leaves_a_correct_store(self, is_new, visits):
        n_struck, store = 0, MemoryStore(self.room())
        for strike in at_each_line([memory_store], lambda: self.use(MemoryStore(self.room())), visits=visits):
            store = MemoryStore(self.room()) if is_new else store
            n_struck += strike(lambda: self.use(store))  # noqa: B023 - run at once
            self.check(store)
            self.use(store)
            self.check(store)
        assert n_struck > 70

    def test_an_interrupt_loses_only_what_was_being_written(self):
        def act(store):
            self.write(store, self.texts[8:10])
            read(store, RECIPE, self.texts)

        def made():
            store = MemoryStore()
            self.write(store, self.texts[:8])
            return store

        for strike in at_each_line([memory_store], lambda: act(made())):
            store = made()
            strike(lambda: act(store))  # noqa: B023
            assert known(store, RECIPE, self.texts[:8]) == list(self.texts[:8])

    def test_a_signal_handler_may_use_the_store_at_any_line_of_an_operation(self):
        """The handler clears, writes and reads at any line of the operation that it interrupts."""

        def handle(store):
            read(store, RECIPE, self.texts)
            self.write(store, self.texts[5:15])
            store.clear()
            self.write(store, self.texts[30:])
            read(store, self.recipes[1], self.texts)

        def act(store):
            self.write(store, self.texts[:20])
            read(store, RECIPE, self.texts[:25])
            assert (store.count(), store.size()) is not None

        lines = 0
        for strike in at_each_line([memory_store], lambda: act(MemoryStore(self.room())), visits=1):
            store = MemoryStore(self.room())
            lines += strike(lambda: act(store), instead=lambda: handle(store))  # noqa: B023
            self.check(store)
            self.use(store)
            self.check(store)
        assert lines > 70

    def test_after_a_clear_in_a_signal_handler_nothing_older_is_left(self):
        store = MemoryStore()
        self.write(store, self.texts)
        for strike in at_each_line([memory_store], lambda: read(store, RECIPE, self.texts)):
            self.write(store, self.texts)
            strike(lambda: read(store, RECIPE, self.texts), instead=store.clear)
            assert store.size() == (0, 0)

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers as on Unix")
    @pytest.mark.slow
    @pytest.mark.parametrize("n_interrupts", [50, pytest.param(2000, marks=pytest.mark.exhaustive)])
    def test_real_interrupts_leave_a_correct_store(self, n_interrupts):
        store = MemoryStore(self.room())
        assert interrupted_at_random(lambda: self.use(store), lambda: self.check(store), n_interrupts) == n_interrupts
