"""Private interfaces of other libraries, each in one function. Imports nothing of the package.

A test in tests/test_compat.py fails if an interface changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
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


def lmdb_file_bytes(environment: Any) -> tuple[int, int]:
    """Return the bytes that an LMDB file must have to hold all pages it counts, and the bytes of one page.

    LMDB reads through a memory map, and reading a page beyond the end of the file kills the process. py-lmdb documents
    both numbers. That the pages lie one after the other from the start of the file is LMDB's format.
    """
    page_bytes = environment.stat()["psize"]
    return (environment.info()["last_pgno"] + 1) * page_bytes, page_bytes


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


def open_lmdb(folder: Path, **options: Any) -> Any:
    """Open an LMDB file in a folder, in the format of LMDB 0.9, whose pages the caller checks and pads.

    lmdb 3 bundles two engines, 0.9 and 1.0, which write different formats. Without ``lib_version`` the environment
    variable LMDB_DEFAULT_LIB_VERSION chooses the engine of a new file. Earlier versions of lmdb have only 0.9.
    """
    import lmdb

    if int(lmdb.__version__.partition(".")[0]) >= 3:
        options["lib_version"] = 0
    return lmdb.open(os.fsencode(folder), **options)


def pad_lmdb_file(file: Path, n_bytes: int) -> None:
    """Make an LMDB file longer, within a writing transaction, while any number of processes have it open.

    LMDB does not write pages that were allocated and freed in one transaction, so that its file may end too early. It
    never reads what such pages contain, and on all systems with a unified page cache the map shows the longer file.
    """
    os.truncate(file, n_bytes)


def tensor_version(tensor: torch.Tensor) -> int:
    """Return the number of times that a tensor was written to in place, as autograd counts them.

    Inference tensors have no such counter.
    """
    return 0 if tensor.is_inference() else int(tensor._version)
