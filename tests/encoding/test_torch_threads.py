"""Threads of torch: one for a small batch, and then as many again as before."""

from __future__ import annotations

import threading

import pytest
import torch

import skembed
from skembed.encoding import torch_threads
from skembed.encoding.torch_threads import as_many_as_worth, multiplications_a_token

pytestmark = pytest.mark.skipif(torch_threads._library() is None, reason="torch computes by other threads here")
SMALL, LARGE = 1e6, 1e12


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


@pytest.mark.usefixtures("three_threads")
class TestThreads:
    @pytest.mark.parametrize(("work", "n_threads"), [(SMALL, 1), (LARGE, 3)])
    def test_little_work_gets_one_thread_and_much_gets_all(self, work, n_threads):
        with as_many_as_worth(work):
            assert torch.get_num_threads() == n_threads
        assert torch.get_num_threads() == 3

    def test_the_number_comes_back_after_an_error(self):
        with pytest.raises(ZeroDivisionError), as_many_as_worth(SMALL):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3

    def test_a_thread_that_starts_meanwhile_has_all_of_them(self):
        with as_many_as_worth(SMALL):
            assert in_new_thread(torch.get_num_threads) == 3

    def test_what_a_user_sets_is_what_comes_back(self):
        torch.set_num_threads(2)
        with as_many_as_worth(SMALL):
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


def test_tables_of_vectors_are_no_work():
    network = torch.nn.Sequential(torch.nn.Embedding(1000, 8), torch.nn.Linear(8, 4))
    assert multiplications_a_token(network) == 8 * 4 + 4
