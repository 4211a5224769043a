"""Private interfaces of other libraries are as skembed expects them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import joblib
import lmdb
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from packaging.version import Version
from pandas.api.extensions import ExtensionArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sklearn.tree import DecisionTreeClassifier
from transformers import masking_utils

from skembed import VectorArray, compat
from skembed.compat import forward_hooks, offloaded_weight, tensor_version
from tests.tiny_models import make_decoder

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")


WITHOUT_MEMORY = """
import resource
import numpy as np
from skembed import compat
openvino = compat.import_openvino()
from openvino import opset13
value, size = opset13.parameter([1], np.float32), opset13.parameter([1], np.int64)
model = openvino.Model([opset13.broadcast(value, size)], [value, size])
request = openvino.Core().compile_model(model, "CPU").create_infer_request()
request.infer([np.ones(1, np.float32), np.array([4])])
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    request.infer([np.ones(1, np.float32), np.array([2**30])])
except RuntimeError as error:
    print(compat.is_out_of_memory(error), error)
"""


def do_nothing(*_):
    pass


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_torch_lists_the_forward_hooks_of_a_module(register):
    module = torch.nn.Linear(2, 2)
    assert forward_hooks(module) == {}
    handle = getattr(module, register)(do_nothing)
    assert list(forward_hooks(module).values()) == [do_nothing]
    handle.remove()
    assert forward_hooks(module) == {}


def test_the_hooks_with_which_transformers_records_hidden_states_do_not_count(tiny):
    transformer = SentenceTransformer(tiny, device="cpu").transformers_model
    transformer(input_ids=torch.tensor([[1, 2]]), output_hidden_states=True)
    hooked = [module for module in transformer.modules() if module._forward_hooks]
    assert hooked
    assert [forward_hooks(module) for module in hooked] == [{}] * len(hooked)


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


@pytest.fixture
def model(tiny):
    """A model that the test may change."""
    return SentenceTransformer(tiny, device="cpu")


def read_hidden_layers(model):
    return model[0].model(torch.ones(1, 3, dtype=torch.long), output_hidden_states=True).hidden_states


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_the_kind_of_attention_is_the_one_that_was_set(model):
    assert compat.attention_kind(model[0].model) == "sdpa"
    model[0].model.set_attn_implementation("eager")
    assert compat.attention_kind(model[0].model) == "eager"


def test_masks_by_broadcasting_are_those_by_vmap():
    def causal(batch, head, query, key):
        return (key <= query) & (batch + head >= 0)

    indices = torch.arange(2), torch.arange(1), torch.arange(4), torch.arange(5)
    original = masking_utils._vmap_expansion_sdpa
    with masking_utils.TransformGetItemToIndex():
        expected = original(causal)(*indices)
    with compat.broadcast_masks():
        assert masking_utils._vmap_expansion_sdpa is not original
        with masking_utils.TransformGetItemToIndex():
            found = masking_utils._vmap_expansion_sdpa(causal)(*indices)
    assert masking_utils._vmap_expansion_sdpa is original
    assert_array_equal(found.expand(2, 1, 4, 5), expected)


def test_the_hooks_that_read_hidden_layers_are_known_and_removed(model):
    expected = [state.detach() for state in read_hidden_layers(model)]
    hooks = [hook for module in model.modules() for hook in module._forward_hooks.values()]
    assert hooks
    assert all(map(compat.captures_outputs, hooks))
    compat.remove_capturing_hooks(model)
    assert n_hooks(model) == 0
    for found, state in zip(read_hidden_layers(model), expected, strict=True):
        assert_array_equal(found.detach(), state)


def test_reading_hidden_layers_leaves_nothing_in_a_model(model):
    before = [set(vars(module)) for module in model.modules()]
    with compat.without_capturing_hooks(model):
        read_hidden_layers(model)
        assert n_hooks(model) > 0
    assert n_hooks(model) == 0
    assert [set(vars(module)) for module in model.modules()] == before


def test_hooks_that_were_there_before_stay(model):
    read_hidden_layers(model)
    before = n_hooks(model)
    with compat.without_capturing_hooks(model):
        read_hidden_layers(model)
    assert n_hooks(model) == before > 0


def test_rotary_positions_are_those_of_short_texts_until_they_are_restored(tmp_path):
    growing = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    make_decoder(tmp_path / "model", rope_parameters=growing, max_positions=8)
    transformer = SentenceTransformer(str(tmp_path / "model"), device="cpu")[0].model
    (rotary,) = compat.growing_rotary_modules(transformer)
    short = rotary.inv_freq.clone()
    with torch.no_grad():
        transformer(torch.ones(1, 40, dtype=torch.long))
    long, n_positions = rotary.inv_freq.clone(), rotary.max_seq_len_cached
    assert not torch.equal(short, long)
    with compat.short_positions([rotary]):
        assert_array_equal(rotary.inv_freq, short)
        assert rotary.max_seq_len_cached == rotary.original_max_seq_len
    assert_array_equal(rotary.inv_freq, long)
    assert rotary.max_seq_len_cached == n_positions > rotary.original_max_seq_len


def test_a_model_without_growing_positions_has_no_such_modules(model):
    assert compat.growing_rotary_modules(model) == []


@needs_openvino
def test_openvino_is_imported_without_its_telemetry():
    code = (
        "import sys; from skembed import compat; openvino = compat.import_openvino(); openvino.Core(); "
        "print('openvino' in sys.modules, 'openvino_telemetry' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["True", "False"]


class Counted(torch.nn.Module):
    """Counts how often it runs."""

    n_calls = 0

    def forward(self, x):
        Counted.n_calls += 1
        return x + 1


@needs_openvino
def test_openvino_converts_what_was_traced_in_a_single_run():
    openvino = compat.import_openvino()
    model = openvino.convert_model(compat.trace_for_openvino(Counted(), torch.ones(1, 2)))
    assert Counted.n_calls == 1
    compiled = openvino.compile_model(model, "CPU")
    assert compiled(np.zeros((3, 4), dtype=np.float32))[0].tolist() == [[1.0] * 4] * 3


def test_what_torch_compile_makes_is_known():
    layer = torch.nn.Linear(1, 1)
    assert compat.is_compiled(torch.compile(layer))
    assert not compat.is_compiled(layer)


def test_torch_without_memory_is_known():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert compat.is_out_of_memory(raised.value)
    assert compat.is_out_of_memory(torch.OutOfMemoryError(""))


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_openvino_without_memory_is_known():
    run = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("True"), run.stdout


@pytest.mark.parametrize(
    ("message", "is_memory"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("MPS backend out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", True),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.", True),
        ("std::bad_alloc", True),
        ("bad allocation", True),
        ("Could not allocate memory", True),
        ("[CPU] Failed to allocate 4294967296 bytes of memory", True),
        ("MemoryError: Unable to allocate 2.00 GiB for an array", True),
        ("Can't allocate registers for a snippet: not enough registers", False),
        ("Failed to allocate required number of vector registers", False),
        ("Cannot allocate memory for incompatible descriptors.", False),
        ("Memory has not been allocated", False),
        ("something else", False),
    ],
)
def test_messages_about_memory_are_told_from_others(message, is_memory):
    assert compat.is_out_of_memory(message) == is_memory
    assert compat.is_out_of_memory(RuntimeError(message)) == is_memory


def test_a_method_that_is_set_on_an_instance_is_told_from_a_replacement():
    layer, replaced = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    layer.forward, replaced.forward = layer.forward, lambda values: values
    assert compat.is_own_method(layer, "forward")
    assert not compat.is_own_method(replaced, "forward")


@needs_openvino
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_openvino_on_a_full_disk_is_known(tmp_path):
    openvino = compat.import_openvino()
    from openvino import opset13

    (tmp_path / "model.bin").symlink_to("/dev/full")
    values = opset13.parameter([4], np.float32)
    model = openvino.Model([opset13.add(values, opset13.constant(np.ones((10_000, 4), np.float32)))], [values])
    with pytest.raises(RuntimeError) as raised:
        openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    assert compat.is_write_error(raised.value)
    assert not compat.is_write_error(RuntimeError("something else"))


def test_arguments_for_the_tokenizer_are_found(tiny):
    assert not compat.processing_kwargs(Transformer(f"{tiny}-plain"))
    own = {"text": {"add_special_tokens": False}}
    assert compat.processing_kwargs(Transformer(f"{tiny}-plain", processing_kwargs=own)) == own


def test_a_model_of_transformers_own_reads_all_without_a_mask(model):
    transformer = model[0].model
    assert compat.reads_all_without_mask(transformer)
    ids = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        found, expected = transformer(ids), transformer(ids, attention_mask=torch.ones_like(ids))
    assert_array_equal(found.last_hidden_state, expected.last_hidden_state)
    transformer.__class__ = type("Own", (type(transformer),), {})
    assert not compat.reads_all_without_mask(transformer)


def test_a_transformer_of_plain_texts_is_told_from_others(tiny):
    assert compat.reads_plain_text(Transformer(f"{tiny}-plain"))
    assert not compat.reads_plain_text(Transformer(f"{tiny}-plain", transformer_task="fill-mask"))


@pytest.mark.parametrize("device_type", [torch.cuda, torch.mtia, torch.xpu], ids=["cuda", "mtia", "xpu"])
def test_the_locks_that_are_renewed_are_those_that_seeding_acquires(device_type):
    with device_type._initialization_lock:
        compat.renew_seeding_locks()
        seeding = threading.Thread(target=torch.manual_seed, args=(0,), daemon=True)
        seeding.start()
        seeding.join(60)
        assert not seeding.is_alive()


def test_the_route_of_a_task_is_the_routers(model):
    modules = list(model.children())[:2]
    router = Router({"query": modules, "document": modules}, default_route="document")
    assert [compat.route_of(router, task) for task in ("query", "document", None)] == ["query", "document", "document"]
    with pytest.raises(ValueError, match="route"):
        compat.route_of(Router({"query": modules}, allow_empty_key=False), "document")


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": ["x", "y"], "b": [1, 2], "c": [3, 4]})


class TestColumnsOfScikitLearn:
    @pytest.mark.parametrize(
        ("columns", "positions"),
        [
            ("b", [1]),
            (["a", "c"], [0, 2]),
            (2, [2]),
            (slice("b", "c"), [1, 2]),
            (np.array([True, False, True]), [0, 2]),
        ],
        ids=str,
    )
    def test_columns_have_positions_however_they_are_named(self, columns, positions, frame):
        assert compat.column_positions(frame, columns) == positions

    def test_a_label_selects_a_series_and_a_list_a_frame(self, frame):
        pd.testing.assert_series_equal(compat.select_columns(frame, "a"), frame["a"])
        pd.testing.assert_frame_equal(compat.select_columns(frame, ["c", "a"]), frame[["c", "a"]])
        pd.testing.assert_series_equal(compat.select_columns(frame, 1), frame["b"])


class TestOneVsRestOfScikitLearn:
    def test_a_clone_is_fitted_with_its_parameters(self):
        tree = DecisionTreeClassifier()
        fitted = compat.fit_binary(tree, np.eye(3), np.array([0, 1, 1]), "a", {"sample_weight": [1, 0, 1]})
        assert fitted.tree_.weighted_n_node_samples[0] == 2
        assert not hasattr(tree, "tree_")

    @pytest.mark.parametrize(("value", "label"), [(0, "not a"), (1, "a")])
    def test_a_constant_is_predicted_with_a_warning_that_names_the_label(self, value, label):
        with pytest.warns(UserWarning, match=f"Label {label} is present in all"):
            fitted = compat.fit_binary(DecisionTreeClassifier(), np.eye(3), np.full(3, value), "a", {})
        assert fitted.predict_proba(np.eye(2))[:, 1].tolist() == [value, value]


class TestJobsOfJoblib:
    @pytest.mark.parametrize(
        ("backend", "in_processes"), [("loky", True), ("multiprocessing", True), ("threading", False)]
    )
    def test_several_jobs_run_in_processes_if_the_backend_does(self, backend, in_processes):
        with joblib.parallel_config(backend):
            assert compat.runs_in_processes(2) is in_processes

    def test_one_job_runs_in_this_process(self):
        assert not compat.runs_in_processes(1)
        assert not compat.runs_in_processes(None)

    def test_jobs_that_are_not_given_are_those_of_the_context(self):
        with joblib.parallel_config("loky", n_jobs=2):
            assert compat.runs_in_processes(None)


class TestExtensionArraysOfPandas:
    """What the vector column overrides without being asked to in pandas' documentation."""

    @pytest.mark.parametrize("name", ["_accumulate", "_explode", "_groupby_op", "_mode", "_quantile", "_reduce"])
    def test_the_base_class_has_the_method(self, name):
        assert callable(getattr(ExtensionArray, name))
        assert name in vars(VectorArray)

    def test_the_sum_of_a_combination_of_categories_without_rows_is_missing(self):
        kind = pd.Categorical(["a", "a"], categories=["a", "b"])
        df = pd.DataFrame({"v": VectorArray([[1.0, 2.0], [3.0, 4.0]]), "kind": kind, "group": ["x", "y"]})
        sums = df.groupby(["kind", "group"], observed=False)["v"].sum()
        assert sums.isna().tolist() == [False, False, True, True]

    @pytest.mark.parametrize("value", [False, 0.0, 1, None, "0", np.zeros(2)])
    def test_other_values_do_not_fill_for_a_sum(self, value):
        assert not compat.fills_for_a_sum(value)
        assert compat.fills_for_a_sum(0) == (Version(pd.__version__) < Version("3"))

    @pytest.mark.skipif(Version(pd.__version__) < Version("3.1"), reason="new in pandas 3.1")
    def test_pandas_marks_the_array_of_an_index_as_read_only(self):
        array = pd.Index(VectorArray([[1.0, 2.0]])).array
        assert array._readonly
        with pytest.raises(ValueError, match="read-only"):
            array[0] = [3.0, 4.0]


@pytest.fixture
def states():
    """The dicts of accelerate's states, restored afterwards."""
    pytest.importorskip("accelerate")
    states = compat.accelerate_states()
    kept = [dict(state) for state in states]
    yield states
    for state, before in zip(states, kept, strict=True):
        state.clear()
        state.update(before)


def test_accelerate_keeps_its_states_in_these_dicts(states):
    from accelerate import Accelerator, PartialState

    accelerator = Accelerator(cpu=True)
    made = [PartialState(), accelerator.state, accelerator.gradient_state]
    assert all(one.__dict__ is state for one, state in zip(made, states, strict=True))


def test_a_trainer_resumes_by_the_loader_that_was_set(tiny, tmp_path):
    datasets = pytest.importorskip("datasets")
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from transformers import TrainerState

    class Trainer(SentenceTransformerTrainer):
        pass

    class LoadedError(Exception):
        pass

    def load(trainer, path):
        raise LoadedError(path)

    compat.set_checkpoint_loader(Trainer, load)
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    TrainerState().save_to_json(str(checkpoint / "trainer_state.json"))
    trainer = Trainer(
        model=SentenceTransformer(tiny, device="cpu"),
        args=SentenceTransformerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
        train_dataset=datasets.Dataset.from_dict({"a": ["a fox", "a dog"], "b": ["a fox", "a dog"]}),
    )
    with pytest.raises(LoadedError, match="checkpoint-1"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
