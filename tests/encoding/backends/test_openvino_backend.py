"""The OpenVINO backend: its vectors are those of torch under any parameters, and conversions are stored safely."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, product, repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer

import skembed
from skembed import SentenceEmbeddingTransformer, TruncationWarning, embed
from skembed.atomic import atomic_write
from skembed.encoding.encoder import encode
from skembed.encoding.models import devices, loading, registry
from skembed.encoding.plan import make_plan
from skembed.encoding.settings import Settings
from skembed.encoding.texts import read_texts
from tests.tiny_models import make_bert, make_decoder

if find_spec("openvino") is None:  # it must not be imported here, but by the backend: without its telemetry
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from skembed.encoding.backends import openvino_backend, openvino_conversion, openvino_folder, openvino_trial

KINDS = ["bert", "roberta", "decoder", "gpt2", "modernbert", "gemma", "longt5", "dense", "dense_raw"]
POOLINGS = ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("max", "cls")]
FLOAT32 = {"backend": "openvino", "dtype": "float32", "cache": None}
TORCH = {"backend": "torch", "dtype": "float32", "cache": None}

pytestmark = [
    pytest.mark.filterwarnings("ignore::skembed.TruncationWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
native_bfloat16 = pytest.mark.skipif(
    not openvino_backend.multiplies_bfloat16(), reason="the processor has no native bfloat16"
)


REFUSE = """
import os, sys
SENDING = {"telemetry"} | {f"socket.{how}" for how in ("connect", "getaddrinfo", "gethostbyname", "sendto", "sendmsg")}
def refuse(event, arguments):
    if event in SENDING:
        with open(os.environ["REFUSED"], "a") as file:
            print(event, *arguments, file=file)
        raise OSError("nothing can be sent")
sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def user_caches(tmp_path_factory):
    """A home for caches that the tests of this file share, so that each model is converted once."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def _own_caches(user_caches, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(user_caches))
    monkeypatch.setattr(registry, "_not_convertible", set())
    skembed.unload_models()
    yield
    skembed.unload_models()


@pytest.fixture
def new_caches(tmp_path, monkeypatch):
    """A home for caches without any model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "skembed" / "openvino"


@pytest.fixture
def texts(mixed_texts):
    return [text for text in mixed_texts if text]  # some causal models have nothing to read in an empty one


def backends() -> list[str]:
    return [model.backend.name for model in registry._loaded.values()]


def conversion_of(caches: Path) -> Path:
    (folder,) = [path for path in caches.iterdir() if path.is_dir()]
    return folder


class TestVectors:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_those_of_torch(self, kind, model_folder, texts):
        model = model_folder(kind)
        vectors = embed(texts, model=model, **FLOAT32)
        assert "openvino" in backends()
        assert_allclose(vectors, embed(texts, model=model, **TORCH), atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("layers", [-1, 0, (0, 1)])
    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_of_any_pooling_and_layer_are_those_of_torch(self, pooling, layers, tiny, mixed_texts):
        view = {"model": tiny, "pooling": pooling, "layers": layers}
        assert_allclose(embed(mixed_texts, **view, **FLOAT32), embed(mixed_texts, **view, **TORCH), atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "params",
        [
            {"prompt": "query: "},
            {"long_texts": "mean", "max_seq_length": 12},
            {"max_seq_length": 5},
            {"normalize_embeddings": False},
            {"truncate_dim": 5},
            {"batch_tokens": 1},
            {"batch_tokens": 100_000},
        ],
        ids=str,
    )
    def test_under_any_other_parameter_are_those_of_torch(self, params, tiny, mixed_texts):
        vectors = embed(mixed_texts, model=tiny, **params, **FLOAT32)
        assert_allclose(vectors, embed(mixed_texts, model=tiny, **params, **TORCH), atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
    def test_leave_a_prompt_out_of_the_pooling_where_the_model_does(self, pooling, tmp_path, texts):

        view = {"model": make_bert(tmp_path, include_prompt=False), "prompt": "the fox says ", "pooling": pooling}
        assert_allclose(embed(texts, **view, **FLOAT32), embed(texts, **view, **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_of_texts_without_tokens_are_those_of_torch(self, model_folder):
        params = {"model": model_folder("gpt2")}
        vectors = embed(["", "fox", ""], **params, **FLOAT32)
        assert_allclose(vectors, embed(["", "fox", ""], **params, **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_in_single_precision_are_those_of_sentence_transformers(self, minilm_folder, reference, mixed_texts):
        vectors = embed(mixed_texts, model=minilm_folder, **FLOAT32)
        assert_allclose(vectors, reference("minilm").encode(mixed_texts), atol=1e-5)

    @pytest.mark.slow
    @native_bfloat16
    def test_by_default_are_those_of_sentence_transformers_nearly(self, minilm_folder, reference, mixed_texts):
        vectors = embed(mixed_texts, model=minilm_folder)
        (model,) = registry._loaded.values()
        assert (model.backend.name, model.dtype) == ("openvino", "bfloat16")
        cosines = openvino_backend.cosines(vectors, reference("minilm").encode(mixed_texts))
        assert cosines.min() >= 0.9999

    @pytest.mark.slow
    def test_of_calls_in_many_threads_are_right(self, tiny, texts):
        expected = embed(texts, model=tiny, **FLOAT32)
        found = [None] * 4

        def call(number):
            found[number] = [embed(texts, model=tiny, **FLOAT32) for _ in range(5)]

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.allclose(vectors, expected, atol=1e-6) for some in found for vectors in some)

    @pytest.mark.slow
    def test_are_right_after_a_call_that_was_interrupted(self, tiny, texts, monkeypatch):
        expected = embed(texts, model=tiny, **FLOAT32)

        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("skembed.encoding.call.check_finite", stop)
            with pytest.raises(KeyboardInterrupt):
                embed(texts, model=tiny, batch_tokens=8, **FLOAT32)
        assert_allclose(embed(texts, model=tiny, **FLOAT32), expected, atol=1e-6)

    @pytest.mark.slow
    def test_come_out_of_smaller_batches_where_memory_runs_out(self, tiny, texts, monkeypatch):
        expected = embed(texts, model=tiny, **FLOAT32)
        run_out_of_memory(monkeypatch, above=70)
        assert_allclose(embed(texts, model=tiny, batch_tokens=10_000, **FLOAT32), expected, atol=1e-6)

    @pytest.mark.slow
    def test_are_right_after_a_call_that_did_not_fit_into_memory(self, tiny, texts, monkeypatch):
        expected = embed(texts, model=tiny, **FLOAT32)
        with monkeypatch.context() as patched:
            run_out_of_memory(patched, above=4)
            with pytest.raises(MemoryError, match="a single text does not fit into memory; lower max_seq_length"):
                embed(texts, model=tiny, **FLOAT32)
        assert_allclose(embed(texts, model=tiny, **FLOAT32), expected, atol=1e-6)

    @pytest.mark.slow
    def test_come_out_of_smaller_batches_where_openvino_has_no_memory(self, tiny, texts, monkeypatch):
        expected = embed(texts, model=tiny, **FLOAT32)
        said = iter(["std::bad_alloc", *[None] * 1000])
        monkeypatch.setattr(FailingQueue, "says", said)
        monkeypatch.setattr(openvino_backend.openvino, "AsyncInferQueue", FailingQueue)
        skembed.unload_models()
        assert_allclose(embed(texts, model=tiny, batch_tokens=10_000, **FLOAT32), expected, atol=1e-6)
        assert next(said) is None

    @pytest.mark.slow
    def test_of_layers_in_turn_are_those_of_torch(self, tiny, texts):
        for layers in (0, 1, (0, 1), -1, 0):
            vectors = embed(texts, model=tiny, layers=layers, **FLOAT32)
            assert_allclose(vectors, embed(texts, model=tiny, layers=layers, **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_are_kept_apart_in_the_cache_by_backend(self, tiny, counted):
        for backend in ("torch", "openvino", "torch", "openvino"):
            embed(["a text"], model=tiny, backend=backend, dtype="float32")
        assert counted == ["a text"] * 2


class TestChoice:
    @pytest.mark.slow
    def test_auto_takes_openvino_for_a_path(self, tiny):
        embed(["a"], model=tiny, cache=None)
        assert backends() == ["openvino"]

    @pytest.mark.slow
    @pytest.mark.parametrize("params", [{"backend": "torch"}, {"dtype": "float16"}], ids=str)
    def test_auto_leaves_to_torch(self, params, tiny):
        embed(["a"], model=tiny, cache=None, **params)
        assert backends() == ["torch"]

    @pytest.mark.slow
    def test_auto_leaves_a_loaded_model_to_torch(self, reference):
        embed(["a"], model=reference("bert"), cache=None)
        assert backends() == ["torch"]

    @pytest.mark.slow
    def test_auto_does_not_warn_of_a_model_that_needs_no_openvino(self, model_folder):
        embed(["a"], model=model_folder("static"), cache=None)
        assert [model.backend.name for model in registry._loaded.values()] == ["torch"]

    @pytest.mark.slow
    def test_a_loaded_model_can_be_run(self, tiny, texts):
        given = SentenceTransformer(tiny, device="cpu")
        assert_allclose(embed(texts, model=given, **FLOAT32), embed(texts, model=tiny, **TORCH), atol=1e-5)
        assert backends() == ["openvino", "torch"]

    @pytest.mark.slow
    def test_a_loaded_model_that_was_trained_since_is_converted_again(self, tiny, texts):
        given = SentenceTransformer(tiny, device="cpu")
        before = embed(texts, model=given, **FLOAT32)
        given[0].model.get_input_embeddings().weight.data.mul_(-1)
        after = embed(texts, model=given, **FLOAT32)
        assert not np.allclose(before, after, atol=1e-3)
        assert_allclose(after, embed(texts, model=given, **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_float16_is_refused(self, tiny):
        with pytest.raises(ValueError, match="dtype='float16': backend='openvino' computes in float32 or bfloat16"):
            embed(["a"], model=tiny, backend="openvino", dtype="float16")

    @pytest.mark.slow
    def test_another_device_is_refused(self, tiny, monkeypatch):
        monkeypatch.setattr(devices, "_resolve_device", lambda *_: "cuda:0")
        with pytest.raises(ValueError, match="runs on the CPU, not on device='cuda:0'"):
            embed(["a"], model=tiny, backend="openvino", device="cuda")

    @pytest.mark.slow
    def test_bfloat16_that_changes_vectors_is_not_taken(self, tiny, monkeypatch):
        monkeypatch.setattr(openvino_backend, "multiplies_bfloat16", lambda: True)
        monkeypatch.setattr(openvino_backend, "_SMALLEST_PROBE_COSINE", 1.1)
        embed(["a"], model=tiny, cache=None)
        assert [model.dtype for model in registry._loaded.values()] == ["float32"]

    @pytest.mark.slow
    @pytest.mark.parametrize(("lost", "dtype"), [(4e-5, "bfloat16"), (7e-5, "float32"), (np.nan, "float32")])
    def test_bfloat16_must_keep_a_margin_on_the_probe_texts(self, lost, dtype, tiny, monkeypatch):
        """A text may lose 1e-4; the probe texts may lose less, because other texts lose more."""
        original = openvino_backend.embed_probe

        def losing(backend, texts, *rest):
            vectors = original(backend, texts, *rest)
            return vectors if backend.dtype == "float32" else less_near(vectors, lost)

        monkeypatch.setattr(openvino_backend, "multiplies_bfloat16", lambda: True)
        monkeypatch.setattr(openvino_backend.OpenVINOBackend, "_compile", compile_in_float32)
        embed(["a"], model=tiny, cache=None)
        skembed.unload_models()
        monkeypatch.setattr(openvino_backend, "embed_probe", losing)
        embed(["a"], model=tiny, cache=None)
        assert [model.dtype for model in registry._loaded.values()] == [dtype]

    @pytest.mark.slow
    def test_bfloat16_is_not_taken_where_every_probe_text_is_short(self, tmp_path, monkeypatch):

        model = SentenceTransformer(make_bert(tmp_path / "model"), device="cpu")
        model.max_seq_length = openvino_backend.SHORT_TEXT
        model.save(str(tmp_path / "model"), create_model_card=False)
        monkeypatch.setattr(openvino_backend, "multiplies_bfloat16", lambda: True)
        embed(["a"], model=str(tmp_path / "model"), cache=None)
        assert [model.dtype for model in registry._loaded.values()] == ["float32"]

    @pytest.mark.slow
    def test_a_processor_without_bfloat16_computes_in_single_precision(self, tiny, monkeypatch):
        monkeypatch.setattr(openvino_backend, "multiplies_bfloat16", lambda: False)
        embed(["a"], model=tiny, cache=None)
        assert [model.dtype for model in registry._loaded.values()] == ["float32"]

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    @pytest.mark.parametrize("backend", ["auto", "openvino"])
    def test_a_forked_child_does_not_hang(self, backend, tiny):
        embed(["a"], model=tiny, cache=None)
        skembed.unload_models()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                embed(["a"], model=tiny, cache=None, backend=backend)
                status = 0 if backends() == ["torch"] else 2
            except RuntimeError as error:
                status = 3 if "forked" in str(error) else 4
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if backend == "auto" else 3)

    @pytest.mark.slow
    def test_a_folder_called_openvino_is_not_openvino(self, tmp_path, monkeypatch):
        (tmp_path / "openvino").mkdir()
        monkeypatch.delitem(sys.modules, "openvino")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert devices._has_openvino.__wrapped__() is False

    @pytest.mark.slow
    def test_a_fine_tuner_refuses_what_openvino_cannot_do_before_it_trains(self, tiny):
        pytest.importorskip("accelerate")
        tuner = skembed.SentenceEmbeddingFineTuner(tiny, backend="openvino", dtype="float16")
        with pytest.raises(ValueError, match="dtype='float16'"):
            tuner.fit(["a", "b", "c", "d"], ["x", "x", "y", "y"])

    @pytest.mark.slow
    def test_a_tuned_model_can_be_run(self, tiny):
        pytest.importorskip("accelerate")
        texts, labels = ["a fox", "the fox", "a parcel", "the parcel"], ["x", "x", "y", "y"]
        params = {"batch_size": 2, "n_pairs_per_text": 2, "random_state": 0, "cache": None}
        tuned = skembed.SentenceEmbeddingFineTuner(tiny, backend="openvino", dtype="float32", **params)
        vectors = tuned.fit(texts, labels).transform(texts)
        assert_allclose(vectors, tuned.set_params(backend="torch").transform(texts), atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("content", ["", "{", "[]"])
    def test_a_damaged_folder_is_an_error_that_names_it(self, content, tmp_path):

        (Path(make_bert(tmp_path / "model")) / "modules.json").write_text(content)
        with pytest.raises(skembed.ModelNotFoundError, match="model"):
            embed(["a"], model=str(tmp_path / "model"))

    @pytest.mark.slow
    def test_a_model_whose_padding_matters_stays_with_torch(self, tmp_path, new_caches, monkeypatch):

        monkeypatch.setattr(
            "skembed.encoding.backends.torch_backend.TorchBackend._find_company", lambda _: "of its length"
        )
        with pytest.warns(UserWarning, match="its vectors depend on the padding of their batch. torch runs it instead"):
            embed(["a"], model=make_bert(tmp_path / "model", seed=11), backend="openvino")
        assert backends() == ["torch"]

    @pytest.mark.slow
    def test_a_folder_without_a_model_is_not_searched(self, tmp_path, monkeypatch):
        monkeypatch.setattr(registry, "folder_state", lambda *_: pytest.fail("it was searched"))
        with pytest.raises(skembed.ModelNotFoundError, match="a folder without a model"):
            embed(["a"], model=str(tmp_path))

    @pytest.mark.slow
    def test_half_a_snapshot_of_the_hub_is_loaded_under_its_name(self, tiny, new_caches, monkeypatch):
        """By its name, missing files are downloaded; by its folder, only what is there can be loaded."""
        monkeypatch.setattr(registry, "current_snapshot", lambda *_: tiny)

        def load(name, folder, *_):
            raise LookupError(name, folder)

        monkeypatch.setattr(registry, "load_named", load)
        with pytest.raises(LookupError) as asked:
            embed(["a"], model="some/model", cache=None)
        assert asked.value.args == ("some/model", None)


class TestAModelThatCannotBeConverted:
    MESSAGE = "OpenVINO cannot run .*: {}.* torch runs it instead"

    @pytest.mark.slow
    def test_is_run_by_torch_with_a_warning_that_says_why(self, model_folder):
        with pytest.warns(UserWarning, match=self.MESSAGE.format("its first module is StaticEmbedding")):
            vectors = embed(["a"], model=model_folder("static"), backend="openvino", cache=None)
        assert_array_equal(vectors, embed(["a"], model=model_folder("static"), **TORCH))

    @pytest.mark.slow
    def test_is_warned_of_once_and_tried_once(self, tiny, new_caches, monkeypatch):
        calls = fail_to_convert(monkeypatch, "no such operation")
        with pytest.warns(UserWarning, match=self.MESSAGE.format("RuntimeError: no such operation")) as caught:
            vectors = [embed(["a"], model=tiny, cache=None) for _ in range(2)]
        assert (len(caught), len(calls)) == (1, 2)  # with its own attention, and with the plainest
        assert_array_equal(vectors[1], embed(["a"], model=tiny, **TORCH))
        assert [path.name for path in new_caches.iterdir() if path.is_dir()] == []

    @pytest.mark.slow
    @pytest.mark.parametrize("changed", [None, "openvino", "skembed", "damaged"])
    def test_is_tried_again_by_the_next_process_only_if_something_changed(self, changed, tiny, new_caches, monkeypatch):
        calls, versions = fail_to_convert(monkeypatch, "no such operation"), openvino_conversion.versions()
        for _ in range(2):
            with pytest.warns(UserWarning, match=self.MESSAGE.format("RuntimeError: no such operation")):
                embed(["a"], model=tiny, cache=None)
            skembed.unload_models()  # as a new process knows nothing
            monkeypatch.setattr(registry, "_not_convertible", set())
            (failed,) = new_caches.glob("*.failed")
            if changed == "damaged":
                failed.write_text("[")
            elif changed == "skembed":
                monkeypatch.setattr(openvino_conversion, "version", lambda name: "9.9")
            elif changed:
                monkeypatch.setattr(openvino_conversion, "versions", lambda: {**versions, changed: "9.9"})
        assert len(calls) == (4 if changed else 2)  # with its own attention, and with the plainest

    @pytest.mark.slow
    def test_is_tried_again_where_memory_had_run_out(self, tiny, new_caches, monkeypatch):
        calls = fail_to_convert(monkeypatch, "std::bad_alloc")
        for _ in range(2):
            with pytest.warns(UserWarning, match="bad_alloc"):
                embed(["a"], model=tiny, cache=None)
            skembed.unload_models()
            monkeypatch.setattr(registry, "_not_convertible", set())
        assert len(calls) == 2

    @pytest.mark.slow
    def test_is_one_that_would_give_other_vectors(self, tiny, new_caches, monkeypatch):
        monkeypatch.setattr(openvino_conversion, "_LARGEST_DIFFERENCE", 0.0)
        with pytest.warns(UserWarning, match=self.MESSAGE.format("the converted model gives other vectors")):
            embed(["a"], model=tiny, cache=None)
        assert backends() == ["torch"]

    @pytest.mark.slow
    def test_is_one_that_fails_at_other_lengths_than_the_traced_one(self, model_folder, texts, new_caches, monkeypatch):
        model = model_folder("longt5")  # which cuts a text into blocks of four tokens, and fills up the last
        monkeypatch.setattr(openvino_conversion, "_TOKENS_TO_TRACE", 8)
        with pytest.warns(UserWarning, match="OpenVINO cannot run"):
            vectors = embed(texts, model=model, cache=None)
        assert_array_equal(vectors, embed(texts, model=model, **TORCH))

    @pytest.mark.slow
    def test_and_its_trained_copy_are_not_mixed_up(self, tiny, monkeypatch):
        monkeypatch.setattr(openvino_backend.openvino, "convert_model", lambda *_, **__: 1 / 0)
        given = SentenceTransformer(tiny, device="cpu")
        twin = copy.deepcopy(given)
        with pytest.warns(UserWarning, match="ZeroDivisionError"):
            before = embed(["a fox"], model=given, backend="openvino")
        given[0].model.get_input_embeddings().weight.data.mul_(-1)
        assert_allclose(embed(["a fox"], model=twin, backend="openvino", cache=None), before, atol=1e-6)

    @pytest.mark.slow
    def test_is_one_whose_positions_depend_on_the_length_of_a_text(self, tmp_path, new_caches):
        grow = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
        folder = make_decoder(tmp_path / "dynamic", rope_parameters=grow, max_positions=8)
        backend = registry.get_model(Settings(model=folder, backend="torch")).backend
        with pytest.raises(openvino_conversion.NotConvertibleError, match="depend on the padding of their batch"):
            openvino_conversion.make_converted(backend, None, "float32", "m", trust_remote_code=False)

    @pytest.mark.slow
    @pytest.mark.parametrize("is_converted", [False, True])
    def test_is_one_that_cannot_be_compiled(self, is_converted, tiny, new_caches, monkeypatch):
        if is_converted:
            embed(["a"], model=tiny, cache=None)
            skembed.unload_models()
        monkeypatch.setattr(openvino_backend.OpenVINOBackend, "_compile", fail_to_compile)
        with pytest.warns(UserWarning, match=self.MESSAGE.format(".*no such processor")):
            embed(["a"], model=tiny, cache=None)
        assert backends() == ["torch"]

    @pytest.mark.slow
    def test_is_one_that_has_other_layers_than_it_declares(self, tiny):
        backend = registry.get_model(Settings(model=tiny, backend="torch")).backend
        stranger = copy.copy(backend)
        stranger.spec = replace(backend.spec, n_layers=7)
        with pytest.raises(openvino_conversion.NotConvertibleError, match=r"hidden states for 7 layers"):
            openvino_conversion.make_converted(stranger, None, "float32", "m", trust_remote_code=False)

    @pytest.mark.slow
    def test_is_one_without_room_anywhere(self, tiny, monkeypatch):
        backend = registry.get_model(Settings(model=tiny, backend="torch")).backend

        def fail(**_):
            raise OSError("No space left on device")

        monkeypatch.setattr(openvino_conversion, "mkdtemp", fail)
        with pytest.raises(openvino_conversion.NotConvertibleError, match=r"no room .* No space left on device"):
            openvino_conversion.make_converted(backend, None, "float32", "m", trust_remote_code=False)

    @pytest.mark.slow
    def test_keeps_the_requested_precision(self, model_folder):
        with pytest.warns(UserWarning, match="OpenVINO cannot run"):
            embed(["a"], model=model_folder("static"), backend="openvino", dtype="bfloat16", cache=None)
        assert [model.dtype for model in registry._loaded.values()] == ["bfloat16"]


class TestAModelThatFailsWhenItRuns:
    """Torch takes over in the middle of a call; nothing is lost, and nothing is computed twice."""

    @pytest.fixture
    def failing_at(self, monkeypatch):
        """``failing_at(n)``: OpenVINO fails at the n-th batch from now on, and at all that follow."""

        def start(n):
            says = chain(repeat(None, n - 1), repeat("something else"))
            monkeypatch.setattr(FailingQueue, "says", says)
            monkeypatch.setattr(openvino_backend.openvino, "AsyncInferQueue", FailingQueue)
            for model in loading.all_models:
                getattr(model.backend, "_queues", {}).clear()  # which are of the other class

        return start

    @pytest.mark.slow
    @pytest.mark.filterwarnings("error:OpenVINO cannot run")
    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_is_done_by_torch_with_one_warning(self, n, tiny, texts, failing_at):
        embed(["a"], model=tiny, cache=None, dtype="float32")
        skembed.unload_models()
        failing_at(n)
        with pytest.warns(UserWarning, match="OpenVINO cannot run .*: something else. torch runs it instead") as caught:
            vectors = embed(texts, model=tiny, batch_tokens=30, **FLOAT32)
        assert len([one for one in caught if one.category is UserWarning]) == 1
        assert_allclose(vectors, embed(texts, model=tiny, **TORCH), atol=1e-5)
        assert_allclose(embed(texts, model=tiny, **FLOAT32), vectors, atol=1e-5)  # without a warning
        assert "openvino" not in backends()

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:OpenVINO cannot run")
    def test_loses_no_text_and_computes_none_twice(self, tiny, texts, failing_at, counted):
        failing_at(3)
        embed(texts, model=tiny, batch_tokens=30, backend="openvino", dtype="float32")
        assert sorted(counted) == sorted(set(texts))

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:OpenVINO cannot run")
    def test_is_kept_as_what_torch_computed(self, tiny, texts, failing_at, counted):
        failing_at(1)
        embed(texts, model=tiny, backend="openvino", dtype="float32")
        counted.clear()
        embed(texts, model=tiny, backend="torch", dtype="float32")
        assert counted == []

    @pytest.mark.slow
    @pytest.mark.filterwarnings("error:OpenVINO cannot run")
    def test_is_not_tried_again_by_plans_made_before(self, tiny, texts, failing_at):
        plan = make_plan(Settings(model=tiny, cache=None, backend="openvino", dtype="float32"))
        failing_at(1)
        with pytest.warns(UserWarning, match="OpenVINO cannot run"):
            encode(read_texts(texts, missing="error"), plan)
        found = encode(read_texts(texts, missing="error"), plan)
        assert_allclose(found, embed(texts, model=tiny, **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_of_a_tuned_model_is_done_by_torch_with_its_own_weights(self, tiny, failing_at):
        pytest.importorskip("accelerate")
        texts, labels = ["a fox", "the fox", "a parcel", "the parcel"], ["x", "x", "y", "y"]
        params = {"batch_size": 2, "n_pairs_per_text": 2, "random_state": 0, "cache": None}
        tuned = skembed.SentenceEmbeddingFineTuner(tiny, backend="openvino", dtype="float32", **params)
        tuned.fit(texts, labels)
        failing_at(1)
        with pytest.warns(UserWarning, match="OpenVINO cannot run"):
            vectors = tuned.transform(texts)
        assert_allclose(vectors, tuned.set_params(backend="torch").transform(texts), atol=1e-5)


class TestShortTexts:
    """In bfloat16, the shortest texts would lose most, so they are computed in float32."""

    @pytest.mark.slow
    @native_bfloat16
    @pytest.mark.parametrize("layers", [-1, 0])
    def test_have_the_vectors_of_float32_among_others(self, layers, minilm_folder):
        params = {"model": minilm_folder, "layers": layers, "cache": None, "backend": "openvino"}
        short = ["thank you", "yes", "", "how come?"]
        texts = [*short, "a text of a few more words and signs, so that it is not short"]
        found = embed(texts, dtype="bfloat16", **params)
        expected = embed(texts, dtype="float32", **params)
        assert_allclose(found[:4], expected[:4], atol=1e-6)
        assert layers == 0 or np.abs(found[4] - expected[4]).max() > 1e-4

    @native_bfloat16
    @pytest.mark.slow
    def test_and_others_stay_near_the_vectors_of_float32(self, minilm_folder):
        """Answers and small talk, which lose most."""
        says = ["thank you", "yes", "no", "i do not know", "okay", "that is wrong", "absolutely not", "how come"]
        more = ["", "so much", "very much indeed", "my dear friend", "for all of that", "and that is all i can say"]
        texts = [" ".join(words).strip() + sign for words in product(says, more, more[:4]) for sign in ("", "!", " .")]
        found = embed(texts, model=minilm_folder, cache=None)
        assert openvino_backend.cosines(found, embed(texts, model=minilm_folder, **FLOAT32)).min() >= 0.9999


class TestSeveralAtOnce:
    """Models that are converted or run at the same time leave each other and the libraries alone."""

    @pytest.mark.slow
    def test_two_conversions_leave_warnings_and_libraries_as_they_were(self, tmp_path):
        from transformers import masking_utils
        from transformers.utils import logging

        folders = [make_bert(tmp_path / str(seed), seed=seed) for seed in (71, 72, 73)]
        before = list(warnings.filters), logging.get_verbosity(), masking_utils._vmap_expansion_sdpa
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda folder: embed(["a fox"], model=folder, **FLOAT32), folders))
        assert (list(warnings.filters), logging.get_verbosity(), masking_utils._vmap_expansion_sdpa) == before

    @pytest.mark.slow
    def test_a_converted_model_does_not_hold_the_one_it_was_made_from(self, tmp_path):
        def n_loaded():
            gc.collect()
            return sum(type(kept) is SentenceTransformer for kept in gc.get_objects())

        folder, before = make_bert(tmp_path / "model", seed=74), n_loaded()
        embed(["a fox"], model=folder, **FLOAT32)
        assert n_loaded() == before

    @pytest.mark.slow
    def test_a_signal_handler_may_embed_in_the_midst_of_a_call(self, model_folder, texts, monkeypatch):
        params = {"model": model_folder("bert"), **FLOAT32}
        expected, in_handler = embed(texts, **params), []
        before = signal.signal(signal.SIGUSR1, lambda *_: in_handler.append(embed(texts[:3], **params)))
        batches = openvino_backend.length_batches

        def interrupted(*arguments):
            for number, batch in enumerate(batches(*arguments)):
                if number == 1 and not in_handler:
                    signal.raise_signal(signal.SIGUSR1)
                yield batch

        monkeypatch.setattr(openvino_backend, "length_batches", interrupted)
        try:
            found = embed(texts, batch_tokens=32, **params)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert_allclose(found, expected, atol=1e-6)
        assert_allclose(in_handler[0], expected[:3], atol=1e-6)
        assert {model.backend.name for model in registry._loaded.values()} == {"openvino"}


class TestAModelOfTheUsers:
    """Is left as it was by a conversion, however that ends."""

    @pytest.mark.slow
    @pytest.mark.parametrize("ends", ["well", "failing", "interrupted"])
    @pytest.mark.parametrize("kind", ["bert", "modernbert", "gemma"])
    def test_is_as_it_was(self, kind, ends, model_folder, monkeypatch, texts):
        given = SentenceTransformer(model_folder(kind), device="cpu").train()
        before, weights = pickle.dumps(given), [*given.parameters(), *given.buffers()]
        if ends != "well":
            error = KeyboardInterrupt if ends == "interrupted" else RuntimeError
            original = openvino_backend.openvino.save_model

            def fail(*arguments, **named):
                original(*arguments, **named)
                raise error

            monkeypatch.setattr(openvino_backend.openvino, "save_model", fail)
        with pytest.raises(KeyboardInterrupt) if ends == "interrupted" else nullcontext(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            embed(texts, model=given, **FLOAT32)
        assert pickle.dumps(given) == before
        assert all(a is b for a, b in zip(weights, [*given.parameters(), *given.buffers()], strict=True))
        assert all(module.training for module in given.modules())


@pytest.fixture(scope="module")
def first_use(tmp_path_factory) -> SimpleNamespace:
    """A process that uses the default model for the first time, in a terminal, where nothing can be sent.

    printed: its stdout; shown: what the terminal shows; sent: what it would have sent, its children included.
    """
    terminal, its_end = pytest.importorskip("pty").openpty()
    os.set_blocking(terminal, False)
    code = "import sys, skembed; skembed.embed(['a text']); print('torch' in sys.modules)"
    printed, sent = run_without_network(code, tmp_path_factory.mktemp("first_use"), its_end)
    shown = os.read(terminal, 2**16).decode()
    os.close(terminal)
    os.close(its_end)
    return SimpleNamespace(printed=printed, shown=shown, sent=sent)


def run_without_network(code: str, folder: Path, stderr: int) -> tuple[str, list[str]]:
    """Run code in a new process, where nothing can be sent; return what it prints and what it would have sent."""
    (folder / "sitecustomize.py").write_text(REFUSE)  # Python imports it as it starts
    (folder / "openvino_telemetry.py").write_text("from sitecustomize import refuse\nrefuse('telemetry', ())\n")
    (folder / "refused").touch()
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "REFUSED": str(folder / "refused"), "PYTHONPATH": path}
    environment.pop("HF_HUB_OFFLINE")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    return done.stdout, (folder / "refused").read_text().splitlines()


class TestAFirstUse:
    @pytest.mark.slow
    def test_sends_nothing(self, first_use):
        assert (first_use.printed, first_use.sent) == ("True\n", [])  # torch was needed, so it did convert

    @pytest.mark.slow
    def test_would_send_something_without_our_way_to_import_openvino(self, tmp_path):
        _, sent = run_without_network(
            "import contextlib, socket\nwith contextlib.suppress(OSError): import openvino\n"
            "with contextlib.suppress(OSError): socket.create_connection(('127.0.0.1', 9))",
            tmp_path,
            subprocess.DEVNULL,
        )
        assert [line.split()[0] for line in sent] == ["telemetry", "socket.getaddrinfo"]

    @pytest.mark.slow
    def test_says_in_one_line_what_it_does_where_a_terminal_shows_it(self, first_use):
        said = "skembed: converting all-MiniLM-L6-v2 for OpenVINO, once; later processes start without it."
        assert [line for line in first_use.shown.splitlines() if line.startswith("skembed")] == [said]

    @pytest.mark.slow
    def test_says_nothing_where_nobody_watches(self, tiny, new_caches, capfd, monkeypatch):
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
        embed(["a"], model=tiny, **FLOAT32)
        assert "skembed" not in "".join(capfd.readouterr())

    @pytest.mark.slow
    def test_of_a_loaded_model_promises_nothing_to_later_processes(self, tiny, capsys):
        embed(["a"], model=SentenceTransformer(tiny, device="cpu"), show_progress_bar=True, **FLOAT32)
        assert "skembed: converting the given SentenceTransformer for OpenVINO.\n" in capsys.readouterr().err

    @pytest.mark.slow
    def test_of_what_cannot_be_converted_says_so_only_once(self, tiny, new_caches, monkeypatch, capsys):
        fail_to_convert(monkeypatch, "it has no such thing")
        for _ in range(2):
            with pytest.warns(UserWarning, match="it has no such thing"):
                embed(["a"], model=tiny, show_progress_bar=True, cache=None)
            registry._not_convertible.clear()  # as in another process
            skembed.unload_models()
        assert capsys.readouterr().err.count("skembed: converting") == 1

    @pytest.mark.slow
    def test_compiles_only_to_compare_vectors_what_its_trial_compiled(self, tiny, new_caches, monkeypatch):
        compiled, original = [], openvino_backend.compile_variant
        monkeypatch.setattr(openvino_trial, "_outcomes", {})  # as in a new process
        monkeypatch.setattr(
            openvino_backend, "compile_variant", lambda *asked: (compiled.append(asked[1]), original(*asked))[1]
        )
        embed(["a", "a b c d e f g h i j k"], model=tiny, cache=None)
        assert {variant.dtype for variant in compiled} == {"float32"}


class TestTheSizeOfABatch:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("flags", "dtype", "batch_tokens"),
        [
            ({"avx512_bf16", "amx_bf16"}, "bfloat16", 2048),
            ({"avx512_bf16", "amx_bf16"}, "float32", 512),
            ({"avx512_bf16"}, "bfloat16", 512),
            (set(), "float32", 512),
        ],
    )
    def test_is_larger_where_the_processor_multiplies_tiles(self, flags, dtype, batch_tokens, tiny, monkeypatch):
        backend = registry.get_model(Settings(model=tiny, dtype="float32")).backend
        monkeypatch.setattr(openvino_backend, "processor_flags", lambda: tuple(flags))
        monkeypatch.setattr(backend, "dtype", dtype)
        assert make_plan(Settings(model=tiny, dtype="float32")).batch_tokens == batch_tokens


class TestAConversionThatIsKept:
    @pytest.mark.slow
    def test_is_used_without_repeating_it(self, tiny, new_caches, monkeypatch):
        before = embed(["a"], model=tiny, **FLOAT32)
        skembed.unload_models()
        monkeypatch.setattr(registry, "load_named", lambda *_: pytest.fail("it was loaded by torch"))
        assert_array_equal(embed(["a"], model=tiny, **FLOAT32), before)

    @pytest.mark.slow
    def test_is_for_its_owner_alone(self, tiny, new_caches):
        embed(["a"], model=tiny, **FLOAT32)
        assert new_caches.stat().st_mode & 0o777 == 0o700
        assert conversion_of(new_caches).stat().st_mode & 0o777 == 0o700

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("damage", "name"),
        [*(("flipped", name) for name in ("about.json", "model.xml", "model.bin", "probe.npy")), ("cut", "model.bin"),
         ("gone", "model.bin")],
    )  # fmt: skip
    def test_is_repeated_if_a_file_is_damaged(self, damage, name, tiny, new_caches):
        expected = embed(["a"], model=tiny, **FLOAT32)
        skembed.unload_models()
        for blob in conversion_of(new_caches).glob("*.blob"):
            blob.unlink()
        damage_file(conversion_of(new_caches) / name, damage)
        assert_allclose(embed(["a"], model=tiny, **FLOAT32), expected, atol=1e-6)
        assert backends() == ["openvino"]

    @pytest.mark.slow
    @pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
    def test_is_compiled_again_if_the_compiled_model_is_damaged(self, damage, tiny, new_caches):
        expected = embed(["a"], model=tiny, **FLOAT32)
        skembed.unload_models()
        (blob,) = conversion_of(new_caches).glob("*.blob")
        content = blob.read_bytes()
        damage_file(blob, damage)
        assert_allclose(embed(["a"], model=tiny, **FLOAT32), expected, atol=1e-6)
        assert len(blob.read_bytes()) == len(content)

    @pytest.mark.slow
    def test_is_not_used_for_a_model_that_changed(self, tmp_path, new_caches, texts):

        before = embed(texts, model=make_bert(tmp_path / "model"), **FLOAT32)
        make_bert(tmp_path / "model", seed=1)
        after = embed(texts, model=str(tmp_path / "model"), **FLOAT32)
        assert not np.allclose(before, after, atol=1e-3)
        assert_allclose(after, embed(texts, model=str(tmp_path / "model"), **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_is_private_to_the_process_where_nothing_can_be_written(self, tiny, tmp_path, monkeypatch, texts):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert_allclose(embed(texts, model=tiny, **FLOAT32), embed(texts, model=tiny, **TORCH), atol=1e-5)
        assert backends() == ["openvino", "torch"]

    @pytest.mark.slow
    def test_is_repeated_by_other_versions_of_libraries(self, tiny, new_caches, monkeypatch):
        expected = embed(["a"], model=tiny, **FLOAT32)
        skembed.unload_models()
        monkeypatch.setattr(openvino_folder, "version", lambda library: "0")
        assert_allclose(embed(["a"], model=tiny, **FLOAT32), expected, atol=1e-6)
        assert '"openvino": "0"' in (conversion_of(new_caches) / "about.json").read_text()

    @pytest.mark.slow
    def test_is_repeated_if_it_is_deleted_meanwhile(self, tiny, new_caches):
        embed(["a"], model=tiny, **FLOAT32)
        shutil.rmtree(new_caches)
        vectors = embed(["a"], model=tiny, layers=0, **FLOAT32)
        assert_allclose(vectors, embed(["a"], model=tiny, layers=0, **TORCH), atol=1e-5)

    @pytest.mark.slow
    def test_of_a_loaded_model_is_removed_with_it(self, tiny, new_caches, tmp_path, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        embed(["a"], model=SentenceTransformer(tiny, device="cpu"), **FLOAT32)
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        skembed.unload_models()
        gc.collect()
        assert list((tmp_path / "temporary").iterdir()) == []
        assert not new_caches.exists()

    @pytest.mark.slow
    def test_is_compiled_again_if_it_could_not_be_written(self, tiny, new_caches, monkeypatch):
        @contextmanager
        def full_disk(path, **params):
            with atomic_write(path, **params):
                yield SimpleNamespace(write=raise_no_space)

        monkeypatch.setattr(openvino_trial, "atomic_write", full_disk)
        vectors = embed(["a"], model=tiny, **FLOAT32)
        assert_allclose(vectors, embed(["a"], model=tiny, **TORCH), atol=1e-5)
        names = {path.name for path in conversion_of(new_caches).iterdir()}
        assert names == {"about.json", "model.xml", "model.bin", "probe.npy"}

    @pytest.mark.slow
    def test_that_was_left_unfinished_long_ago_is_removed(self, tiny, new_caches):
        for name, age in (("old", 100_000), ("new", 100)):
            folder = new_caches / f".unfinished-{name}"
            folder.mkdir(parents=True)
            os.utime(folder, (time.time() - age,) * 2)
        embed(["a"], model=tiny, **FLOAT32)
        assert [path.name for path in new_caches.iterdir() if path.name.startswith(".")] == [".unfinished-new"]

    @pytest.mark.slow
    def test_leaves_no_more_than_a_few_compiled_models(self, tiny, new_caches, monkeypatch):
        embed(["a"], model=tiny, **FLOAT32)
        skembed.unload_models()
        for number in range(20):
            (conversion_of(new_caches) / f"{number}.blob").touch()
        monkeypatch.setattr(openvino_trial, "_outcomes", {})
        monkeypatch.setattr(openvino_backend, "_n_threads", lambda: 7)
        embed(["a"], model=tiny, **FLOAT32)
        assert len(list(conversion_of(new_caches).glob("*.blob"))) == openvino_trial._MOST_BLOBS

    @pytest.mark.slow
    def test_leaves_nothing_unfinished_behind(self, tiny, new_caches):
        embed(["a"], model=tiny, **FLOAT32)
        assert [path.name for path in new_caches.iterdir() if path.name.startswith(".")] == []


class TestATextThatIsAlone:
    """A served request gets all cores, from a compiled model of its own."""

    @pytest.fixture
    def hints(self, monkeypatch):
        """How models were compiled, in order."""
        seen, original = [], openvino_backend.OpenVINOBackend._compile
        monkeypatch.setattr(
            openvino_backend.OpenVINOBackend,
            "_compile",
            lambda backend, variant: (seen.append(variant.hint), original(backend, variant))[1],
        )
        return seen

    @pytest.mark.slow
    def test_needs_nothing_that_several_need(self, tiny, hints):
        embed(["a"], model=tiny, **FLOAT32)
        skembed.unload_models()
        hints.clear()
        embed(["a"], model=tiny, **FLOAT32)
        assert hints == ["LATENCY"]
        embed(["a", "b"], model=tiny, **FLOAT32)
        embed(["c", "d"], model=tiny, batch_tokens=3, **FLOAT32)
        assert hints == ["LATENCY", "THROUGHPUT"]

    @pytest.mark.slow
    def test_of_inner_layers_is_compiled_once_for_one_and_several(self, tiny, hints):
        embed(["a"], model=tiny, layers=0, **FLOAT32)
        hints.clear()
        embed(["b"], model=tiny, layers=0, **FLOAT32)
        embed(["a", "b"], model=tiny, layers=0, batch_tokens=3, **FLOAT32)
        assert hints == []

    @pytest.mark.slow
    def test_has_the_vectors_that_it_has_among_others(self, tiny, texts):
        alone = np.concatenate([embed([text], model=tiny, **FLOAT32) for text in texts])
        assert_allclose(alone, embed(texts, model=tiny, batch_tokens=40, **FLOAT32), atol=1e-5)


class FailingQueue(openvino_backend.openvino.AsyncInferQueue):
    """A queue that fails with the messages of ``says``, and works where the message is None."""

    says = iter(())

    def start_async(self, *arguments):
        if (said := next(self.says)) is not None:
            raise RuntimeError(said)
        super().start_async(*arguments)


def run_out_of_memory(monkeypatch, above: int) -> None:
    """Make copies of the results of more than some tokens fail."""
    original = np.array

    def failing(values, *rest, **named):
        if getattr(values, "ndim", 0) == 3 and values.shape[0] * values.shape[1] > above:
            raise MemoryError("no room")
        return original(values, *rest, **named)

    monkeypatch.setattr(openvino_backend.np, "array", failing)


def compile_in_float32(backend, variant):
    """Stand in for a compilation in bfloat16, which not every processor has."""
    return openvino_trial.compile_variant(backend._folder, replace(variant, dtype="float32"))


def less_near(vectors, lost):
    """Turn vectors so that their cosine to what they were is 1 - lost."""
    sideways = np.roll(vectors, 1, axis=1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    sideways -= vectors * (sideways * vectors).sum(axis=1, keepdims=True) / norms**2
    sideways *= norms / np.linalg.norm(sideways, axis=1, keepdims=True)
    return vectors * (1 - lost) + sideways * np.sqrt(1 - (1 - lost) ** 2)


def raise_no_space(_):
    raise OSError("No space left on device")


def fail_to_convert(monkeypatch, message: str) -> list[str]:
    """Make conversions fail; return a list that grows by each attempt."""
    attempts = []

    def fail(*_, **__):
        attempts.append(message)
        raise RuntimeError(message)

    monkeypatch.setattr(openvino_backend.openvino, "convert_model", fail)
    return attempts


def fail_to_compile(*_):
    raise RuntimeError("no such processor")


def damage_file(file: Path, damage: str) -> None:
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)


@pytest.mark.slow
def test_an_estimator_that_was_fitted_says_which_model_it_knows(tiny):
    fitted = SentenceEmbeddingTransformer(tiny).fit(["a"])
    assert (
        fitted.model_fingerprint_ == SentenceEmbeddingTransformer(tiny, backend="torch").fit(["a"]).model_fingerprint_
    )


@pytest.mark.slow
def test_long_texts_are_warned_of(tiny):
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        embed(["fox " * 500, "fox"], model=tiny, **FLOAT32)


@pytest.mark.slow
def test_a_process_that_finds_its_model_converted_imports_no_torch_and_sends_no_telemetry(tiny, user_caches):
    embed(["a"], model=tiny, cache=None)
    code = (
        "import sys, skembed; skembed.embed(['a'], model=sys.argv[1]); "
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'sklearn', 'openvino_telemetry'}; "
        "print(sorted(heavy.intersection(sys.modules)))"
    )
    command = [sys.executable, "-c", code, tiny]
    environment = {**os.environ, "XDG_CACHE_HOME": str(user_caches)}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


@pytest.mark.slow
def test_many_processes_that_need_the_same_model_at_once_convert_it_once(tiny, new_caches):
    code = "import sys, skembed; print(skembed.embed(['a'], model=sys.argv[1], dtype='float32').tobytes().hex())"
    environment = {**os.environ, "XDG_CACHE_HOME": str(new_caches.parents[1])}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tiny], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len({*printed}) == 1
    assert conversion_of(new_caches).is_dir()
