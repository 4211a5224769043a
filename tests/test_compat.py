"""Private interfaces of other libraries are as skembed expects them."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer

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
