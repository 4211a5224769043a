"""Private interfaces of other libraries, each in one function. Imports nothing of the package.

A test in tests/test_compat.py fails if an interface changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def added_forward_hooks(module: torch.nn.Module) -> dict[int, Callable[..., Any]]:
    """Return the forward hooks that were registered on a module, by their numbers.

    torch can register hooks, but not list them. The hooks with which transformers records hidden states are left out:
    they change nothing.
    """
    hooks: dict[int, Callable[..., Any]] = {**module._forward_hooks, **module._forward_pre_hooks}
    recording = "transformers.utils.output_capturing"
    return {number: hook for number, hook in hooks.items() if getattr(hook, "__module__", "") != recording}


def offloaded_weight(model: torch.nn.Module, name: str) -> torch.Tensor:
    """Return a weight that accelerate keeps in memory or on disk until it is needed, as ``device_map`` says.

    On the module itself stands an empty tensor on the device "meta". accelerate fetches the weight in a hook, just
    before the module runs.
    """
    place, _, own_name = name.rpartition(".")
    hook: Any = getattr(model.get_submodule(place), "_hf_hook", None)
    hooks = [hook, *getattr(hook, "hooks", ())]
    weights = next(weights for one in hooks if (weights := getattr(one, "weights_map", None)) is not None)
    fetched: torch.Tensor = weights[own_name]
    return fetched


def tensor_version(tensor: torch.Tensor) -> int:
    """Return the number of times that a tensor was written to in place, as autograd counts them.

    Inference tensors have no such counter.
    """
    return 0 if tensor.is_inference() else int(tensor._version)
