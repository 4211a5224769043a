"""Threads: no item lost, errors raised by the consumer, no thread left; nobody gets an outdated result."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.encoding.threads import LockedIterator, SharedResult, iterate_concurrently


@pytest.fixture(autouse=True)
def _no_thread_left():
    """Check that no thread is left, not even one that is about to end."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(), max_size=8), max_size=4), st.integers(1, 5))
def test_every_item_is_yielded_once(lists, n_ahead):
    found = list(iterate_concurrently(lists, n_ahead))
    assert sorted(found) == sorted(item for items in lists for item in items)


def test_the_items_of_one_iterable_keep_their_order():
    assert list(iterate_concurrently([range(100)], n_ahead=3)) == list(range(100))


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_an_error_in_a_thread_is_raised_in_the_consumer_and_ends_the_other_threads(error):
    def endless():
        while True:
            yield 1

    def failing():
        yield 2
        raise error

    with pytest.raises(type(error)):
        for _ in iterate_concurrently([endless(), failing()], n_ahead=2):
            pass


def test_leaving_early_ends_the_threads():
    with closing(iterate_concurrently([iter(int, 1), iter(int, 1)], n_ahead=1)) as items:
        assert next(items) == 0


@pytest.mark.parametrize("n_started", [0, 1, 2])
def test_an_interrupt_while_threads_are_started_leaves_none_running(n_started, monkeypatch):
    start, started = threading.Thread.start, []

    def interrupted(thread):
        start(thread)
        started.append(thread)
        if len(started) > n_started:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(iterate_concurrently([iter(int, 1), iter(int, 1), iter(int, 1)], n_ahead=1))


def test_an_error_and_what_it_refers_to_are_freed():
    class Held:
        pass

    def failing():
        held = Held()
        references.append(weakref.ref(held))
        yield 1
        raise ValueError(held)

    references, collects = [], gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(ValueError, match="Held") as error:
            list(iterate_concurrently([failing()], n_ahead=1))
        del error
        assert references[0]() is None
    finally:
        if collects:
            gc.enable()


def test_only_so_many_items_are_produced_ahead():
    produced, n_produced = [], threading.Semaphore(0)

    def work():
        for number in range(1000):
            produced.append(number)
            n_produced.release()
            yield number

    with closing(iterate_concurrently([work()], n_ahead=3)) as items:
        next(items)
        for _ in range(5):  # the consumed item, three that wait, and one that has no space to wait
            n_produced.acquire()
        assert len(produced) == 5
        for n_consumed, _ in enumerate(items, start=2):
            assert len(produced) <= n_consumed + 4


def test_threads_that_share_an_iterator_get_each_item_once():
    def slowly():
        for number in range(200):
            time.sleep(0)  # another thread may run
            yield number

    shared = LockedIterator(slowly())
    assert sorted(iterate_concurrently([shared, shared, shared], n_ahead=4)) == list(range(200))


class TestSharedResult:
    def test_is_computed_again_for_each_call_of_one_thread(self):
        shared, numbers = SharedResult(), iter(range(9))
        assert [shared.get(lambda: next(numbers)) for _ in range(3)] == [0, 1, 2]

    def test_those_who_asked_before_a_computation_began_share_it(self):
        shared, n_computed, is_computing, may_end = SharedResult(), [], threading.Event(), threading.Event()

        def compute():
            n_computed.append(1)
            is_computing.set()
            assert may_end.wait(30)
            return len(n_computed)

        found = []
        threads = [threading.Thread(target=lambda: found.append(shared.get(compute))) for _ in range(6)]
        threads[0].start()
        assert is_computing.wait(30)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.2)  # until they wait; a thread that asks later may compute once more
        may_end.set()
        for thread in threads:
            thread.join(30)
        assert found[0] == 1  # the others asked while the first computation was under way, which is not theirs
        assert set(found[1:]) == {2}

    def test_after_an_error_the_next_one_computes_for_itself(self):
        shared = SharedResult()
        with pytest.raises(ZeroDivisionError):
            shared.get(lambda: 1 / 0)
        assert shared.get(lambda: 2) == 2

    def test_a_signal_handler_amid_a_computation_gets_a_result_of_its_own(self):
        shared = SharedResult()
        assert shared.get(lambda: [1, *shared.get(lambda: [2])]) == [1, 2]
