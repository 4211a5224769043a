"""Threads of torch: one for a small batch on busy cores, and the same number as before afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

import skembed
from skembed.encoding.backends import torch_threads
from skembed.encoding.backends.torch_threads import multiplications_per_token, suitable_threads

pytestmark = pytest.mark.skipif(torch_threads._library() is None, reason="torch computes by other threads here")
SMALL, LARGE = 1e6, 1e12
N_CORES = os.cpu_count() or 1


def in_new_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def let_run(monkeypatch, n_runnable):
    monkeypatch.setattr(torch_threads, "_count_runnable", lambda: n_runnable)


@pytest.fixture
def busy_cores(monkeypatch):
    let_run(monkeypatch, 4 * N_CORES + 4)


@pytest.mark.usefixtures("three_threads", "busy_cores")
class TestThreads:
    @pytest.mark.parametrize(("work", "n_threads"), [(SMALL, 1), (LARGE, 3)])
    def test_little_work_gets_one_thread_and_much_gets_all(self, work, n_threads):
        with suitable_threads(work):
            assert torch.get_num_threads() == n_threads
        assert torch.get_num_threads() == 3

    def test_the_number_is_restored_after_an_error(self):
        with pytest.raises(ZeroDivisionError), suitable_threads(SMALL):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3

    def test_a_thread_that_starts_meanwhile_has_all_of_them(self):
        with suitable_threads(SMALL):
            assert in_new_thread(torch.get_num_threads) == 3

    def test_the_number_that_a_user_set_is_restored(self):
        torch.set_num_threads(2)
        with suitable_threads(SMALL):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2

    def test_one_text_is_embedded_by_one_thread_and_many_by_all(self, minilm_folder, monkeypatch):
        seen = []

        def spy(module, *rest):
            seen.append(torch.get_num_threads())

        skembed.embed(["a dog"], model=minilm_folder, backend="torch", cache=None)  # loads it, which tries a few texts
        handle = torch.nn.modules.module.register_module_forward_pre_hook(spy)
        try:
            skembed.embed(["a fox"], model=minilm_folder, backend="torch", cache=None)
            few = set(seen)
            seen.clear()
            skembed.embed(
                [f"a fox and {number} dogs" for number in range(64)], model=minilm_folder, cache=None, backend="torch"
            )
        finally:
            handle.remove()
        assert (few, set(seen)) == ({1}, {3})


class TestBusyCores:
    @pytest.fixture(autouse=True)
    def long_ago(self, monkeypatch):
        monkeypatch.setattr(torch_threads, "_several_ended_at", -1e9)

    @pytest.mark.parametrize(("n_others", "is_busy"), [(0, False), (1, True)])
    def test_they_are_busy_if_others_leave_too_few(self, monkeypatch, n_others, is_busy):
        let_run(monkeypatch, 1 + n_others)
        assert torch_threads._are_cores_busy(N_CORES) == is_busy

    def test_torchs_own_threads_that_still_spin_are_not_others(self, monkeypatch):
        monkeypatch.setattr(torch_threads, "_several_ended_at", torch_threads.time.monotonic() + 60)
        let_run(monkeypatch, N_CORES)
        assert not torch_threads._are_cores_busy(N_CORES)
        let_run(monkeypatch, N_CORES + 1)
        assert torch_threads._are_cores_busy(N_CORES)

    @pytest.mark.usefixtures("three_threads")
    def test_a_small_batch_has_all_threads_on_idle_cores(self, monkeypatch):
        let_run(monkeypatch, 1 - 2 * N_CORES - 3)  # whatever the number of cores is
        with suitable_threads(SMALL):
            assert torch.get_num_threads() == 3

    @pytest.mark.parametrize("text", [None, "", "0.00 0.00 0.00 none", "0.5"])
    def test_a_system_that_does_not_tell_counts_as_idle(self, monkeypatch, text):
        def read(path):
            if text is None:
                raise FileNotFoundError(path)
            return text

        monkeypatch.setattr(torch_threads.Path, "read_text", read)
        assert not torch_threads._are_cores_busy(N_CORES)

    @pytest.mark.slow
    @pytest.mark.skipif(torch_threads._count_runnable() == 0, reason="the system does not say")
    def test_other_processes_make_them_busy(self):
        command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(N_CORES)]
        try:
            for process in processes:
                process.stdout.readline()  # it has started
            assert torch_threads._are_cores_busy(N_CORES)
        finally:
            for process in processes:
                process.kill()
                process.communicate()


def test_tables_of_vectors_do_not_count_as_work():
    network = torch.nn.Sequential(torch.nn.Embedding(1000, 8), torch.nn.Linear(8, 4))
    assert multiplications_per_token(network) == 8 * 4 + 4
