"""Private interfaces of other libraries are as skembed expects them."""

from __future__ import annotations

import lmdb
import pytest
import torch
from sentence_transformers import SentenceTransformer

from skembed import compat
from skembed.compat import added_forward_hooks, offloaded_weight, tensor_version


def do_nothing(*_):
    pass


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_torch_lists_the_forward_hooks_of_a_module(register):
    module = torch.nn.Linear(2, 2)
    assert added_forward_hooks(module) == {}
    handle = getattr(module, register)(do_nothing)
    assert list(added_forward_hooks(module).values()) == [do_nothing]
    handle.remove()
    assert added_forward_hooks(module) == {}


def test_the_hooks_with_which_transformers_records_hidden_states_do_not_count(tiny):
    transformer = SentenceTransformer(tiny, device="cpu").transformers_model
    transformer(input_ids=torch.tensor([[1, 2]]), output_hidden_states=True)
    hooked = [module for module in transformer.modules() if module._forward_hooks]
    assert hooked
    assert [added_forward_hooks(module) for module in hooked] == [{}] * len(hooked)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_accelerate_gives_a_weight_that_it_keeps_elsewhere(where, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    expected = model[0].weight.detach().clone()
    if where == "memory":
        accelerate.cpu_offload(model, torch.device("cpu"))
    else:
        accelerate.disk_offload(model, str(tmp_path), torch.device("cpu"))
    assert model[0].weight.is_meta
    assert torch.equal(torch.as_tensor(offloaded_weight(model, "0.weight")), expected)


def test_torch_counts_the_writes_to_a_tensor():
    tensor = torch.zeros(2)
    before = tensor_version(tensor)
    tensor.add_(1)
    assert tensor_version(tensor) == before + 1


def test_an_inference_tensor_has_no_count_of_writes():
    with torch.inference_mode():
        tensor = torch.zeros(2)
    assert tensor_version(tensor) == 0


@pytest.fixture
def environment(tmp_path):
    environment = compat.open_lmdb(tmp_path, map_size=2**24)
    yield environment
    environment.close()


def leave_out_pages(environment):
    """Put and delete a large value in one transaction, while older free pages take the list of those it frees."""
    sizes = [{b"kept": 100, b"large": 100_000}, {b"large": 0}, {b"small": 10}, {b"larger": 300_000}]
    for n_bytes_of in sizes:
        with environment.begin(write=True) as transaction:
            for key, n_bytes in n_bytes_of.items():
                transaction.put(key, b"a" * n_bytes)
            transaction.delete(b"larger")


def test_an_lmdb_file_may_be_shorter_than_the_bytes_it_must_have(environment, tmp_path):
    leave_out_pages(environment)
    n_bytes, page_bytes = compat.lmdb_file_bytes(environment)
    assert n_bytes % page_bytes == 0
    assert (tmp_path / "data.mdb").stat().st_size < n_bytes


def test_an_lmdb_file_that_is_full_has_the_bytes_it_must_have(environment, tmp_path):
    with environment.begin(write=True) as transaction:
        transaction.put(b"key", b"a" * 100_000)
    assert (tmp_path / "data.mdb").stat().st_size == compat.lmdb_file_bytes(environment)[0]


def test_a_padded_lmdb_file_is_read_and_written_by_whoever_has_it_open(environment, tmp_path):
    leave_out_pages(environment)
    n_bytes, _ = compat.lmdb_file_bytes(environment)
    with environment.begin(write=True):
        compat.pad_lmdb_file(tmp_path / "data.mdb", n_bytes)
    with environment.begin(write=True) as transaction:
        assert transaction.get(b"kept") == b"a" * 100
        transaction.put(b"new", b"c" * 50_000)
    with environment.begin() as transaction:
        assert transaction.get(b"new") == b"c" * 50_000


@pytest.mark.skipif(int(lmdb.__version__.partition(".")[0]) < 3, reason="lmdb with one engine")
def test_lmdb_writes_the_format_of_its_engine_0_9(environment):
    assert environment.lib_version()[:2] == (0, 9)
