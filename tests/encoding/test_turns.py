"""Turns: first come, first served; work done together; and errors, interrupts and signals that disturb nobody else."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.encoding import turns as room
from skembed.encoding.turns import Turns
from tests.interrupts import at_each_line, interrupted_at_random, wait_until_all_advance


class Crowd:
    """Threads that take turns; all but the first wait until everybody is in the queue."""

    def __init__(self) -> None:
        self.turns, self.works, self.errors = Turns(), [], {}
        self.may_go, self._threads = threading.Event(), []

    def come(self, name, work=None, **place):
        """Start a thread that takes a turn, and return once it is in the queue."""

        def do(items):
            if not self.may_go.is_set():
                self.may_go.wait(30)
            self.works.append(items)
            (work or (lambda _: None))(items)

        def take():
            try:
                self.turns.take([name], do, **place)
            except BaseException as error:
                self.errors[name] = error

        n_before = len(self.turns._tickets)
        self._threads.append(threading.Thread(target=take, daemon=True))
        self._threads[-1].start()
        while len(self.turns._tickets) == n_before:
            time.sleep(0.001)

    def go(self):
        """Let the first thread work; return what was worked on together, in order, once all have left."""
        self.may_go.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert self.turns.is_empty
        return self.works


@pytest.fixture
def crowd():
    return Crowd()


def test_first_come_first_served(crowd):
    for name in "abcde":
        crowd.come(name)
    assert crowd.go() == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_those_of_one_key_are_worked_on_together(crowd):
    crowd.come("first")
    for name, key in zip("abcde", "xyxyx", strict=True):
        crowd.come(name, key=key, limit=0)
    assert crowd.go() == [["first"], ["a", "c", "e"], ["b", "d"]]


def test_no_more_are_worked_on_together_than_the_limit_allows(crowd):
    crowd.come("first")
    for name, size in zip("abcd", (2, 2, 1, 2), strict=True):
        crowd.come(name, key="x", size=size, limit=4)
    assert crowd.go() == [["first"], ["a", "b"], ["c", "d"]]


def test_an_error_reaches_its_own_thread_alone_and_the_others_take_their_turns(crowd):
    crowd.come("first")
    crowd.come("a", work=lambda _: 1 / 0, key="x")
    crowd.come("b", key="x")
    assert crowd.go() == [["first"], ["a", "b"], ["b"]]
    assert [*crowd.errors] == ["a"]


def test_a_signal_handler_amid_a_turn_works_at_once():
    turns, works = Turns(), []
    turns.take(["outer"], lambda items: (works.append(items), turns.take(["inner"], works.append)))
    assert works == [["outer"], ["inner"]]
    assert turns.is_empty


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals as on Unix")
def test_a_signal_handler_of_a_thread_that_waits_works_at_once(crowd):
    works = []
    crowd.come("first")
    before = signal.signal(signal.SIGALRM, lambda *_: (crowd.turns.take(["handler"], works.append), crowd.may_go.set()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        crowd.turns.take(["main"], works.append)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert works == [["handler"], ["main"]]


def test_an_interrupt_at_any_line_leaves_the_others_their_turns():
    def use(crowd):
        crowd.turns.take(["main"], lambda _: (crowd.come("a"), crowd.come("b")))

    n_struck = 0
    for strike in at_each_line([room], lambda: use(Crowd())):
        crowd = Crowd()
        n_struck += strike(lambda crowd=crowd: use(crowd))
        works = crowd.go()
        assert works in ([], [["a"]], [["a"], ["b"]])  # depending on how many had come
        assert crowd.errors == {}
    assert n_struck > 20


def test_a_first_one_that_does_not_come_is_passed(crowd, monkeypatch):
    """As if a signal handler kept its thread, perhaps waiting for the others."""
    monkeypatch.setattr(room, "_PATIENCE", 0.01)
    crowd.may_go.set()
    absent = room._Ticket(["absent"], None, 0)
    crowd.turns._tickets.append(absent)
    crowd.turns.take(["a"], crowd.works.append)
    assert crowd.works == [["a"]]
    absent.has_begun = True
    crowd.come("b")
    time.sleep(0.1)
    assert crowd.works == [["a"]]
    crowd.turns._leave(absent)
    assert crowd.go() == [["a"], ["b"]]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
@pytest.mark.parametrize("n_interrupts", [200, pytest.param(3000, marks=pytest.mark.exhaustive)])
def test_interrupts_at_random_moments_harm_no_other_thread(n_interrupts):
    turns, is_over, n_done, failures = Turns(), threading.Event(), [0] * 6, []

    def work(items):
        time.sleep(2e-4)
        for done in items:
            done.append(True)

    def keep_taking(number):
        while not is_over.is_set():
            done = []
            turns.take([done], work, key="x", limit=9)
            if not done:
                failures.append(number)
            n_done[number] += 1

    threads = [threading.Thread(target=keep_taking, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    interrupted_at_random(lambda: turns.take([[]], work, key="x", limit=9), lambda: None, n_interrupts)
    wait_until_all_advance(n_done)
    is_over.set()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert turns.is_empty


@given(
    places=st.lists(
        st.tuples(st.sampled_from(["x", "y", None]), st.integers(0, 5), st.booleans()), min_size=1, max_size=12
    )
)
@settings(max_examples=30, deadline=None)
def test_everything_is_worked_on_by_one_thread_at_a_time_within_the_limits(places):
    turns, is_working, works, outcomes = Turns(), threading.Lock(), [], {}
    keys, sizes = [key for key, _, _ in places], [size for _, size, _ in places]

    def work(items):
        assert is_working.acquire(blocking=False)
        works.append(items)
        time.sleep(1e-4)
        is_working.release()
        if places[items[0]][2]:
            raise ArithmeticError

    def take(number):
        try:
            turns.take([number], work, key=keys[number], size=sizes[number], limit=6)
        except ArithmeticError:
            return False
        return True

    with ThreadPoolExecutor(len(places)) as pool:
        outcomes = list(pool.map(take, range(len(places))))
    assert all(is_fine for is_fine, (_, _, fails) in zip(outcomes, places, strict=True) if not fails)
    assert {number for items in works for number in items} == set(range(len(places)))
    for first, *others in works:
        assert all(keys[other] == keys[first] is not None for other in others)
        assert not others or sum(sizes[number] for number in (first, *others)) <= 6
    assert turns.is_empty
