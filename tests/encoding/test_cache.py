from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from itertools import chain
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

import skembed
from skembed.encoding.cache import MemoryCache, memory_cache
from skembed.encoding.encoder import Recipe

DIM = 4
UNKNOWN = -7

RECIPE = Recipe(
    format_version=1,
    fingerprint="a" * 64,
    backend="torch",
    dtype="float32",
    poolings=(("mean",),),
    layers=(6,),
    prompt="",
    max_seq_length=256,
    split_long_texts=False,
)
OTHER_VALUE = {
    "format_version": 2,
    "fingerprint": "b" * 64,
    "backend": "openvino",
    "dtype": "bfloat16",
    "poolings": (("cls",),),
    "layers": (5, 6),
    "prompt": "query: ",
    "max_seq_length": 255,
    "split_long_texts": True,
}


def write(cache, recipe, texts, fill=1.0, n_tokens=3):
    cache.write(recipe, texts, np.full((len(texts), DIM), fill, dtype=np.float32), np.full(len(texts), n_tokens))


def read(cache, recipe, texts):
    """What the cache gives for some texts: vectors, token counts and the positions it reports missing."""
    vectors = np.full((len(texts), DIM), UNKNOWN, dtype=np.float32)
    n_tokens = np.full(len(texts), UNKNOWN)
    missing = cache.read(recipe, texts, vectors, n_tokens)
    return vectors, n_tokens, missing.tolist()


def known(cache, recipe, texts):
    missing = read(cache, recipe, texts)[2]
    return [text for position, text in enumerate(texts) if position not in missing]


def n_bytes_of(text):
    """What the cache counts for one text."""
    cache = MemoryCache()
    write(cache, RECIPE, [text])
    return cache.n_bytes


def fresh(text):
    """An equal text that is an object of its own."""
    return "".join(list(text))


def test_what_was_written_comes_back_bit_for_bit():
    bits = np.random.default_rng(0).integers(0, 2**32, size=(200, DIM), dtype=np.uint32)
    bits[0] = [0x7F800001, 0xFFC12345, 0x80000000, 0x00000001]  # two NaNs with a payload, minus zero, a subnormal
    texts = [f"text {row}" for row in range(200)]
    cache = MemoryCache()
    cache.write(RECIPE, texts, bits.view(np.float32), np.arange(200))
    vectors, _, missing = read(cache, RECIPE, texts)
    assert missing == []
    assert (vectors.view(np.uint32) == bits).all()


def test_token_counts_come_back_with_the_vectors():
    cache = MemoryCache()
    cache.write(RECIPE, ["a", "b", "c"], np.zeros((3, DIM), dtype=np.float32), np.array([0, 7, 2**40]))
    assert read(cache, RECIPE, ["c", "a", "b"])[1].tolist() == [2**40, 0, 7]


def test_unknown_texts_are_reported_missing_by_their_position():
    cache = MemoryCache()
    write(cache, RECIPE, ["b", "d"])
    assert read(cache, RECIPE, ["a", "b", "c", "d", "a"])[2] == [0, 2, 4]


def test_the_rows_of_missing_texts_are_left_alone():
    cache = MemoryCache()
    write(cache, RECIPE, ["b"], fill=2.0, n_tokens=5)
    vectors, n_tokens, _ = read(cache, RECIPE, ["a", "b"])
    assert vectors.tolist() == [[UNKNOWN] * DIM, [2.0] * DIM]
    assert n_tokens.tolist() == [UNKNOWN, 5]


def test_in_an_empty_cache_everything_is_missing():
    assert read(MemoryCache(), RECIPE, ["a", "b"])[2] == [0, 1]


def test_reading_no_texts_finds_nothing_missing():
    missing = MemoryCache().read(RECIPE, [], np.empty((0, DIM), dtype=np.float32), np.empty(0, dtype=np.int64))
    assert missing.dtype == np.intp
    assert missing.size == 0


def test_writing_no_texts_holds_nothing():
    cache = MemoryCache()
    write(cache, RECIPE, [])
    assert cache.n_bytes == 0


@pytest.mark.parametrize(
    "text", ["", " ", "a\0b", "naïve 🦊", "long " * 10_000], ids=["empty", "blank", "NUL", "accents and emoji", "long"]
)
def test_any_text_can_be_kept(text):
    cache = MemoryCache()
    write(cache, RECIPE, [text])
    assert known(cache, RECIPE, [fresh(text)]) == [text]


def test_texts_that_look_alike_stay_apart():
    alike = ["\u00e9", "e\u0301", "a", "A", " a", "a ", "a\0"]
    cache = MemoryCache()
    for position, text in enumerate(alike):
        write(cache, RECIPE, [text], fill=position)
    assert read(cache, RECIPE, alike)[0][:, 0].tolist() == list(range(len(alike)))


def test_the_table_of_other_values_leaves_no_field_of_the_recipe_out():
    assert list(OTHER_VALUE) == [field.name for field in fields(Recipe)]


@pytest.mark.parametrize("field", OTHER_VALUE)
def test_recipes_that_differ_in_one_field_never_share(field):
    cache = MemoryCache()
    write(cache, RECIPE, ["a"])
    assert known(cache, replace(RECIPE, **{field: OTHER_VALUE[field]}), ["a"]) == []


def test_each_recipe_finds_its_own_vector_of_a_text():
    recipes = [replace(RECIPE, **{field: value}) for field, value in OTHER_VALUE.items()]
    cache = MemoryCache()
    for number, recipe in enumerate(recipes):
        write(cache, recipe, ["a"], fill=number)
    assert [read(cache, recipe, ["a"])[0][0, 0] for recipe in recipes] == list(range(len(recipes)))


def test_equal_recipes_share():
    cache = MemoryCache()
    write(cache, RECIPE, ["a"])
    assert known(cache, replace(RECIPE), ["a"]) == ["a"]


def test_writing_a_text_again_replaces_its_vector():
    cache = MemoryCache()
    write(cache, RECIPE, ["a"], fill=1.0, n_tokens=1)
    write(cache, RECIPE, ["a"], fill=2.0, n_tokens=2)
    vectors, n_tokens, _ = read(cache, RECIPE, ["a"])
    assert (vectors[0, 0], n_tokens[0]) == (2.0, 2)


def test_writing_a_text_again_takes_no_more_memory():
    cache = MemoryCache()
    write(cache, RECIPE, ["a", "a"])
    write(cache, RECIPE, ["a"])
    assert cache.n_bytes == n_bytes_of("a")


def test_stored_vectors_do_not_change_with_the_array_they_came_from():
    vectors, n_tokens = np.ones((1, DIM), dtype=np.float32), np.array([3])
    cache = MemoryCache()
    cache.write(RECIPE, ["a"], vectors, n_tokens)
    vectors[:], n_tokens[:] = 9.0, 9
    stored, stored_n_tokens, _ = read(cache, RECIPE, ["a"])
    assert (stored[0, 0], stored_n_tokens[0]) == (1.0, 3)


def test_stored_vectors_do_not_change_with_the_array_they_were_read_into():
    cache = MemoryCache()
    write(cache, RECIPE, ["a"])
    read(cache, RECIPE, ["a"])[0][:] = 9.0
    assert read(cache, RECIPE, ["a"])[0][0, 0] == 1.0


def test_a_stored_vector_keeps_no_other_row_in_memory():
    vectors = np.ones((1000, DIM), dtype=np.float32)
    alive = weakref.ref(vectors)
    cache = MemoryCache()
    cache.write(RECIPE, ["a"], vectors[:1], np.array([3]))
    del vectors
    assert alive() is None


def test_the_count_covers_vectors_and_texts():
    assert n_bytes_of("a" * 1000) >= 1000 + 4 * DIM


def test_the_count_of_several_is_the_sum_of_each():
    cache = MemoryCache()
    write(cache, RECIPE, ["a", "bb", "naïve"])
    assert cache.n_bytes == sum(map(n_bytes_of, ["a", "bb", "naïve"]))


def test_the_first_written_leaves_first():
    cache = MemoryCache(max_bytes=3 * n_bytes_of("a"))
    for text in "abcd":
        write(cache, RECIPE, [text])
    assert known(cache, RECIPE, ["a", "b", "c", "d"]) == ["b", "c", "d"]


def test_a_text_that_was_read_stays_longer():
    cache = MemoryCache(max_bytes=3 * n_bytes_of("a"))
    write(cache, RECIPE, ["a", "b", "c"])
    read(cache, RECIPE, ["a"])
    write(cache, RECIPE, ["d"])
    assert known(cache, RECIPE, ["a", "b", "c", "d"]) == ["a", "c", "d"]


def test_a_text_that_was_written_again_stays_longer():
    cache = MemoryCache(max_bytes=3 * n_bytes_of("a"))
    write(cache, RECIPE, ["a", "b", "c"])
    write(cache, RECIPE, ["a"])
    write(cache, RECIPE, ["d"])
    assert known(cache, RECIPE, ["a", "b", "c", "d"]) == ["a", "c", "d"]


def test_asking_for_a_text_that_is_missing_keeps_nothing_longer():
    cache = MemoryCache(max_bytes=2 * n_bytes_of("a"))
    write(cache, RECIPE, ["a", "b"])
    read(cache, replace(RECIPE, prompt="query: "), ["a"])
    write(cache, RECIPE, ["c"])
    assert known(cache, RECIPE, ["a", "b", "c"]) == ["b", "c"]


def test_all_recipes_share_the_memory():
    cache = MemoryCache(max_bytes=2 * n_bytes_of("a"))
    recipes = [replace(RECIPE, prompt=prompt) for prompt in ("1", "2", "3")]
    for recipe in recipes:
        write(cache, recipe, ["a"])
    assert [known(cache, recipe, ["a"]) for recipe in recipes] == [[], ["a"], ["a"]]


def test_exactly_what_fits_is_kept():
    cache = MemoryCache(max_bytes=2 * n_bytes_of("a"))
    write(cache, RECIPE, ["a", "b"])
    assert known(cache, RECIPE, ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("max_bytes", [0, 1, n_bytes_of("a" * 100) - 1], ids=["nothing", "one byte", "a byte too few"])
def test_a_text_larger_than_the_cache_is_not_kept(max_bytes):
    cache = MemoryCache(max_bytes=max_bytes)
    write(cache, RECIPE, ["a" * 100])
    assert known(cache, RECIPE, ["a" * 100]) == []
    assert cache.n_bytes == 0


def test_a_cache_works_on_after_a_text_larger_than_it():
    cache = MemoryCache(max_bytes=n_bytes_of("a"))
    write(cache, RECIPE, ["a" * 1000])
    write(cache, RECIPE, ["a"])
    assert known(cache, RECIPE, ["a"]) == ["a"]


def test_a_text_that_a_tokenizer_read_meanwhile_is_counted_out_as_it_was_counted_in():
    text = fresh("é" * 1000)
    cache = MemoryCache(max_bytes=n_bytes_of(text))
    write(cache, RECIPE, [text])
    Tokenizer(models.BPE()).encode(text)  # CPython now keeps the text in UTF-8 too, and sys.getsizeof counts it
    write(cache, RECIPE, ["a"])
    assert cache.n_bytes == n_bytes_of("a")


def test_an_equal_text_that_takes_more_memory_is_counted_out_as_it_was_counted_in():
    text, larger = fresh("é" * 1000), fresh("é" * 1000)
    Tokenizer(models.BPE()).encode(larger)
    cache = MemoryCache(max_bytes=n_bytes_of(text))
    write(cache, RECIPE, [text])
    write(cache, RECIPE, [larger])
    write(cache, RECIPE, ["a"])
    assert cache.n_bytes == n_bytes_of("a")


def test_the_bound_holds_after_texts_that_a_tokenizer_read_meanwhile():
    texts = [fresh(f"{number}" + "é" * 1000) for number in range(20)]
    cache = MemoryCache(max_bytes=20 * n_bytes_of(texts[0]) + 1000)
    write(cache, RECIPE, texts)
    Tokenizer(models.BPE()).encode_batch(texts)
    for number in range(1000):
        write(cache, RECIPE, [f"{number:04}"])
    n_held = len(known(cache, RECIPE, [f"{number:04}" for number in range(1000)]))
    assert n_held * n_bytes_of("0000") <= cache.max_bytes


def test_clear_forgets_everything():
    cache = MemoryCache()
    write(cache, RECIPE, ["a", "b"])
    cache.clear()
    assert known(cache, RECIPE, ["a", "b"]) == []
    assert cache.n_bytes == 0


def test_a_cleared_cache_gives_no_recipe_the_vectors_of_another():
    first, second = RECIPE, replace(RECIPE, prompt="query: ")
    cache = MemoryCache()
    write(cache, first, ["a"], fill=1.0)
    cache.clear()
    write(cache, second, ["a"], fill=2.0)
    assert known(cache, first, ["a"]) == []


def test_the_process_has_one_cache():
    assert memory_cache() is memory_cache()


def test_the_cache_of_the_process_holds_one_gibibyte():
    assert memory_cache().max_bytes == 2**30


def test_clear_cache_forgets_what_the_process_holds():
    write(memory_cache(), RECIPE, ["a"])
    skembed.clear_cache()
    assert known(memory_cache(), RECIPE, ["a"]) == []


def test_an_entry_that_could_never_stay_drives_nobody_out():
    cache = MemoryCache(max_bytes=n_bytes_of("a"))
    write(cache, RECIPE, ["a"], fill=1)
    write(cache, RECIPE, ["x" * 10_000], fill=2)
    assert read(cache, RECIPE, ["a"])[0][:, 0].tolist() == [1]


class LeastRecentlyUsed:
    """The cache once more, as plainly as can be: the outside reference of the property tests."""

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self.fills = OrderedDict()

    @property
    def n_bytes(self):
        return sum(n_bytes_of(text) for _, text in self.fills)

    def write(self, recipe, texts, fill):
        for text in texts:
            if n_bytes_of(text) <= self.max_bytes:
                self.fills[recipe, text] = fill
                self.fills.move_to_end((recipe, text))
        while self.n_bytes > self.max_bytes:
            self.fills.popitem(last=False)

    def read(self, recipe, texts):
        for text in texts:
            if (recipe, text) in self.fills:
                self.fills.move_to_end((recipe, text))
        return [self.fills.get((recipe, text), UNKNOWN) for text in texts]


SOME_TEXTS = st.lists(st.sampled_from(["", "a", "b", "é", "naïve 🦊", "x" * 300, "y" * 3000]), max_size=4)
SOME_RECIPE = st.sampled_from([RECIPE, replace(RECIPE, prompt="query: "), replace(RECIPE, layers=(5,))])
OPERATIONS = st.lists(
    st.tuples(st.just("write"), SOME_RECIPE, SOME_TEXTS)
    | st.tuples(st.just("read"), SOME_RECIPE, SOME_TEXTS)
    | st.tuples(st.just("clear"), st.none(), st.none()),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.integers(0, 6000))
def test_whatever_is_done_the_bound_holds_and_what_is_read_is_what_was_written_last(operations, max_bytes):
    cache, reference = MemoryCache(max_bytes), LeastRecentlyUsed(max_bytes)
    for step, (operation, recipe, texts) in enumerate(operations):
        if operation == "write":
            write(cache, recipe, texts, fill=step)
            reference.write(recipe, texts, fill=step)
        elif operation == "read":
            assert read(cache, recipe, texts)[0][:, 0].tolist() == reference.read(recipe, texts)
        else:
            cache.clear()
            reference.fills.clear()
        assert cache.n_bytes == reference.n_bytes <= max_bytes


@pytest.fixture
def _threads_take_turns_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_that_share_a_cache_never_see_a_wrong_vector_or_break_the_bound():
    texts = [f"text {number}" for number in range(10, 20)]
    recipes = [replace(RECIPE, prompt=f"{number}") for number in range(3)]
    cache = MemoryCache(max_bytes=12 * n_bytes_of(texts[0]))
    start = Barrier(8)

    def hammer(seed):
        random = np.random.default_rng(seed)
        wrong = []
        start.wait()
        for _ in range(300):
            recipe, some = recipes[random.integers(3)], random.integers(10, size=6)
            right = 100 * int(recipe.prompt) + some
            vectors, n_tokens, missing = read(cache, recipe, [texts[number] for number in some])
            found = np.setdiff1d(np.arange(6), missing)
            wrong.extend(found[(vectors[found] != right[found, None]).any(axis=1) | (n_tokens[found] != right[found])])
            written = np.repeat(right[:, None], DIM, axis=1).astype(np.float32)
            cache.write(recipe, [texts[number] for number in some], written, right)
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(chain.from_iterable(pool.map(hammer, range(8)))) == []
    held = sum(n_bytes_of(text) for recipe in recipes for text in known(cache, recipe, texts))
    assert cache.n_bytes == held <= cache.max_bytes


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_a_thread_may_clear_what_others_are_reading():
    texts = [f"text {number}" for number in range(300)]
    cache = MemoryCache()
    start = Barrier(4)

    def read_again_and_again():
        start.wait()
        for _ in range(400):
            read(cache, RECIPE, texts)

    def clear_again_and_again():
        start.wait()
        for _ in range(400):
            write(cache, RECIPE, texts)
            cache.clear()

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read_again_and_again) for _ in range(3)]
        pool.submit(clear_again_and_again).result()
        assert [reader.exception() for reader in readers] == [None] * 3
    assert cache.n_bytes == 0
