"""Private interfaces of other libraries, each in one function. Imports nothing of the package.

A test in tests/test_compat.py fails if an interface changes.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch


_CAPTURING_FLAG = "_output_capturing_hooks_installed"


# "Can't allocate registers for a snippet" is also among OpenVINO's errors, so "allocate" alone is not enough.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|bad[_ ]alloc|alloc_failed|(can't|cannot|could not|failed to|unable to) allocate (\d|memory(?! for))"
)


def accelerate_states() -> list[dict[str, Any]]:
    """Return the dicts in which accelerate keeps, for the whole process, its devices and its place among processes."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    return [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]


def attention_kind(transformer: Any) -> str:
    """Return the implementation of attention that a transformer uses, such as "sdpa" or "eager".

    transformers has a public method to set it, but none to read it.
    """
    return str(getattr(transformer.config.get_text_config(), "_attn_implementation", "eager"))


def _broadcast(mask_function: Callable[..., Any]) -> Callable[..., Any]:
    def mask(batch: Any, head: Any, query: Any, key: Any) -> Any:
        indices = batch[:, None, None, None], head[:, None, None], query[:, None], key
        # The shapes, because len() is not traced.
        return mask_function(*indices).expand(batch.shape[0], -1, query.shape[0], key.shape[0])

    return mask


@contextmanager
def broadcast_masks() -> Iterator[None]:
    """Let transformers compute attention masks by broadcasting: torch cannot trace the vmap that it uses instead.

    EmbeddingGemma is one of the models that need this. A conversion compares vectors, so a wrong mask would show.
    """
    from transformers import masking_utils

    stand_ins = {"_vmap_expansion_sdpa": _broadcast, "TransformGetItemToIndex": nullcontext}
    originals = {name: getattr(masking_utils, name) for name in stand_ins if hasattr(masking_utils, name)}
    for name in originals:
        setattr(masking_utils, name, stand_ins[name])
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(masking_utils, name, original)


def captures_outputs(hook: Any) -> bool:
    """Return whether transformers registered a hook to read hidden layers; it changes nothing."""
    return getattr(hook, "__module__", "") == "transformers.utils.output_capturing"


def column_positions(X: Any, columns: Any) -> list[int]:
    """Return the positions of columns in X, for any way in which a ColumnTransformer names them.

    Labels, positions, slices and masks are allowed; scikit-learn has no public function that reads them all.
    """
    from sklearn.utils._indexing import _get_column_indices

    return list(_get_column_indices(X, columns))


def fit_binary(estimator: Any, X: Any, y: Any, label: Any, fit_params: Mapping[str, Any]) -> Any:
    """Fit a clone of a classifier to 0 and 1 as OneVsRestClassifier does.

    If y is constant, that is a predictor of the constant, with a warning that names the label.
    """
    from sklearn.multiclass import _fit_binary

    return _fit_binary(estimator, X, y, fit_params=fit_params, classes=[f"not {label}", label])


def forward_hooks(module: Any) -> dict[int, Callable[..., Any]]:
    """Return the hooks that run before and after the forward of a torch module, by their numbers.

    torch can register and remove hooks, but not list them. The hooks with which transformers captures outputs are left
    out: they change nothing. Other objects than modules have no hooks.
    """
    kinds = (vars(module).get(name, {}) for name in ("_forward_hooks", "_forward_pre_hooks"))
    return {number: hook for kind in kinds for number, hook in kind.items() if not captures_outputs(hook)}


def fills_for_a_sum(value: Any) -> bool:
    """Return whether a value is the 0 with which pandas 2 fills the sums of combinations of categories without rows.

    It does so for every dtype. pandas 3 leaves them missing in columns that are not numbers.
    """
    import pandas as pd

    return type(value) is int and value == 0 and int(pd.__version__.partition(".")[0]) < 3


def growing_rotary_modules(model: Any) -> list[Any]:
    """Return the modules of a transformer whose rotary positions grow with the longest text so far."""
    return [module for module in model.modules() if "dynamic" in str(getattr(module, "rope_type", ""))]


def _grows(name: str) -> bool:
    is_grown = name.endswith(("inv_freq", "max_seq_len_cached", "attention_scaling"))
    return is_grown and "original" not in name


def import_openvino() -> Any:
    """Import openvino without its telemetry, which sends a message over the network at import, from a forked process.

    openvino copes with ``openvino_telemetry`` not being installed; for the import it looks so.
    """
    if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:  # the user imported one of them
        return importlib.import_module("openvino")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]


def is_compiled(module: Any) -> bool:
    """Return whether ``torch.compile`` wrapped a module. The wrapper computes what the module does."""
    return type(module).__module__.startswith("torch._dynamo.")


def is_out_of_memory(error: BaseException | str) -> bool:
    """Return whether an error of torch or OpenVINO, or its message, says that memory ran out, on any device.

    Only torch's CUDA error has a class of its own. Neither library needs to be imported for the check.
    """
    return type(error).__name__ == "OutOfMemoryError" or _OUT_OF_MEMORY.search(str(error).lower()) is not None


def is_own_method(instance: Any, name: str) -> bool:
    """Return whether an attribute set on an instance is its class's own method.

    transformers sets it so when it restores the forward that it replaced to capture outputs.
    """
    return getattr(vars(instance)[name], "__func__", None) is getattr(type(instance), name, instance)


def is_write_error(error: BaseException) -> bool:
    """Return whether OpenVINO could not write a file, such as on a full disk; it raises a plain RuntimeError."""
    return "iostream error" in str(error)


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
    return cast("torch.Tensor", weights[own_name])


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


def processing_kwargs(transformer: Any) -> Mapping[str, Any]:
    """Return the arguments that a Transformer of sentence-transformers passes to its tokenizer at each call."""
    return cast("Mapping[str, Any]", transformer.processing_kwargs)


def reads_all_without_mask(transformer: Any) -> bool:
    """Return whether a transformer takes a missing attention mask for one that hides nothing.

    transformers' own models do, except where they find padding in the input ids. Others may require a mask. An own
    model is known by its module.
    """
    return type(transformer).__module__.startswith("transformers.models.")


def reads_plain_text(transformer: Any) -> bool:
    """Return whether a Transformer of sentence-transformers only turns token ids into token vectors."""
    plain = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = transformer.modality_config
    is_plain = modalities.get("text") == plain and "message" not in modalities
    return is_plain and transformer.transformer_task == "feature-extraction"


def remove_capturing_hooks(model: Any) -> None:
    """Remove the hooks that transformers registers to read hidden layers; it registers them again when needed."""
    for module in model.modules():
        vars(module).pop(_CAPTURING_FLAG, None)
        for key, hook in list(module._forward_hooks.items()):
            if captures_outputs(hook):
                del module._forward_hooks[key]


def renew_seeding_locks() -> None:
    """Replace the locks that torch.manual_seed acquires on any machine; a forked child may find them held for ever."""
    import torch

    device_types: tuple[Any, ...] = (torch.cuda, torch.mtia, torch.xpu)
    for device_type in device_types:
        device_type._initialization_lock = threading.Lock()


def route_of(router: Any, task: str | None) -> str:
    """Return the name of the route that a Router sends the texts of a task through.

    Raises
    ------
    ValueError
        If the Router has no route for the task.
    """
    return str(router._resolve_route(task=task, modality="text"))


def runs_in_processes(n_jobs: int | None) -> bool:
    """Return whether joblib would run ``n_jobs`` jobs in processes, which do not share the caller's memory.

    joblib has a public way to choose a backend, but none to ask which one is active.
    """
    import joblib
    from joblib.parallel import get_active_backend

    backend, n_jobs_of_backend = get_active_backend()
    shares_memory = getattr(backend, "supports_sharedmem", False)  # as in joblib: backends without it are processes
    return joblib.effective_n_jobs(n_jobs or n_jobs_of_backend) > 1 and not shares_memory


def select_columns(X: Any, columns: Any) -> Any:
    """Return columns of X as a ColumnTransformer passes them on: one label selects a series, a list a frame."""
    from sklearn.utils._indexing import _safe_indexing

    return _safe_indexing(X, columns, axis=1)


def set_checkpoint_loader(trainer_class: Any, load: Callable[[Any, str], None]) -> None:
    """Make trainers of a class resume by ``load(trainer, path)``; by default they expect a complete model there."""
    trainer_class._load_from_checkpoint = load


@contextmanager
def short_positions(rotary: list[Any]) -> Iterator[None]:
    """Reset rotary positions that grow with the texts to those of short texts, and restore them afterwards.

    transformers keeps the positions of a long text for the next text, unless that is short (``dynamic_rope_update``).

    Parameters
    ----------
    rotary : list of Module
        The result of :func:`growing_rotary_modules`.
    """
    names = ((module, name) for module in rotary for name in {**vars(module), **module._buffers} if _grows(name))
    before = [(module, name, getattr(module, name)) for module, name in names]
    for module, name, value in before:
        if name.endswith("inv_freq"):
            original = getattr(module, name.replace("inv_freq", "original_inv_freq"))
            setattr(module, name, original.to(value.device))
        elif name.endswith("max_seq_len_cached"):
            setattr(module, name, module.original_max_seq_len)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def trace_for_openvino(module: torch.nn.Module, example_input: Any) -> Any:
    """Trace a module for ``openvino.convert_model``, but without the check with which torch runs and traces it again.

    A conversion compares vectors, so a wrong trace would show. Only openvino's decoder can leave the check out.
    """
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    return TorchScriptPythonDecoder(module, example_input=example_input, trace_kwargs={"check_trace": False})


def tensor_version(tensor: torch.Tensor) -> int:
    """Return the number of times that a tensor was written to in place, as autograd counts them.

    Inference tensors have no such counter.
    """
    return 0 if tensor.is_inference() else int(tensor._version)


@contextmanager
def without_capturing_hooks(model: Any) -> Iterator[None]:
    """Remove what transformers sets on a model to read its hidden layers, unless it was there before.

    The model may be the user's own.
    """
    had_hooks = any(_CAPTURING_FLAG in vars(module) for module in model.modules())
    untouched = [module for module in model.modules() if "forward" not in vars(module)]
    try:
        yield
    finally:
        for module in untouched:
            if "forward" in vars(module) and is_own_method(module, "forward"):
                del vars(module)["forward"]
        if not had_hooks:
            remove_capturing_hooks(model)
