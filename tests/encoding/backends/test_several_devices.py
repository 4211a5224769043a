"""A model on several devices: the vectors are the same, the work is shared, the caller's model stays where it was.

Two copies on the CPU stand for two CUDA devices, so what only CUDA does is not tested here.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize

from skembed import SentenceEmbeddingFineTuner, SentenceEmbeddingTransformer, embed, unload_models
from skembed.encoding.backends.torch_backend import TorchBackend
from skembed.encoding.models import devices, registry
from skembed.encoding.settings import Settings

TWO = ["cpu", "cpu"]

pytestmark = pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")


@pytest.fixture
def busy(monkeypatch):
    """Number of batches that each backend computed; each waits for the other before its first."""
    both, seen = threading.Barrier(2), {}
    original = TorchBackend._token_vectors

    def forward(backend, input_ids, *rest):
        if backend not in seen:
            both.wait(timeout=60)
        seen[backend] = seen.get(backend, 0) + 1
        return original(backend, input_ids, *rest)

    monkeypatch.setattr(TorchBackend, "_token_vectors", forward)
    return seen


@pytest.mark.parametrize("long_texts", ["truncate", "mean"])
@pytest.mark.parametrize("params", [{}, {"pooling": ("mean", "cls"), "layers": (-1, 0)}], ids=str)
def test_several_devices_give_the_vectors_of_one(tiny, mixed_texts, long_texts, params):
    params = {"model": tiny, "cache": None, "batch_tokens": 60, "long_texts": long_texts, **params}
    assert_allclose(embed(mixed_texts, device=TWO, **params), embed(mixed_texts, **params), atol=1e-6)


def test_the_devices_share_the_work(tiny, busy):
    embed([f"fox {number}" for number in range(50)], model=tiny, device=TWO, batch_tokens=20)
    assert len(busy) == 2
    assert sum(busy.values()) >= 10


def test_a_model_that_tokenizes_by_itself_gives_the_same_vectors_on_several_devices(reference, mixed_texts):
    modules = list(reference("bert").children())[:2]
    router = Router({"query": modules, "document": modules}, default_route="document")
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    params = {"model": model, "cache": None, "batch_tokens": 60}
    assert_allclose(embed(mixed_texts, device=TWO, **params), embed(mixed_texts, **params), atol=1e-6)


def test_every_device_gets_the_task(model_folder, mixed_texts):
    params = {"model": model_folder("router"), "cache": None, "batch_tokens": 60, "task": "query"}
    assert_allclose(embed(mixed_texts, device=TWO, **params), embed(mixed_texts, **params), atol=1e-6)


def test_a_given_model_stays_as_it_was(tiny):
    model = SentenceTransformer(tiny, device="cpu").train()
    before = [parameter.data_ptr() for parameter in model.parameters()]
    embed(["fox", "dog"], model=model, device=TWO)
    assert [parameter.data_ptr() for parameter in model.parameters()] == before
    assert all(module.training for module in model.modules())


def test_each_device_gets_its_model_once(tiny):
    unload_models()
    transformer = SentenceEmbeddingTransformer(tiny, device=TWO).fit(["a"])
    transformer.transform(["b"])
    (model,) = registry._loaded.values()
    each = [model.backend, *model.backend.replicas]
    assert len({id(backend.sentence_transformer) for backend in each}) == 2


def test_several_devices_use_the_cached_vectors_of_one(tiny):
    one = embed(["a fox", "a dog"], model=tiny)
    assert_array_equal(embed(["a fox", "a dog"], model=tiny, device=TWO), one)


@pytest.mark.parametrize("n_fit", [40, 12])
def test_batches_that_do_not_fit_are_halved_and_nothing_is_lost(tiny, mixed_texts, monkeypatch, n_fit):
    expected = embed(mixed_texts, model=tiny, cache=None)
    embed(["fox"], model=tiny, cache=None, device=TWO)  # loaded before memory is short
    original = TorchBackend._token_vectors

    def forward(backend, input_ids, *rest):
        if input_ids.size > n_fit and len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(backend, input_ids, *rest)

    monkeypatch.setattr(TorchBackend, "_token_vectors", forward)
    assert_allclose(embed(mixed_texts, model=tiny, cache=None, device=TWO), expected, atol=1e-6)


def test_an_error_on_one_device_is_raised(tiny, monkeypatch):
    backend = registry.get_model(Settings(model=tiny, device=TWO)).backend
    original = TorchBackend._token_vectors

    def forward(one, *given):
        if one is not backend:
            raise RuntimeError("something else")
        return original(one, *given)

    before = threading.active_count()
    monkeypatch.setattr(TorchBackend, "_token_vectors", forward)
    with pytest.raises(RuntimeError, match="something else"):
        embed([f"fox {number}" for number in range(500)], model=tiny, device=TWO, batch_tokens=20)
    assert threading.active_count() == before


def test_devices_of_several_kinds_are_rejected(tiny, monkeypatch):
    monkeypatch.setattr(devices, "_resolve_device", lambda name, _: name)
    with pytest.raises(ValueError, match=r"device=\['cpu', 'cuda:0'\] names devices of several types"):
        embed(["a"], model=tiny, device=["cpu", "cuda:0"])


@pytest.mark.parametrize("named", [["cuda:0", "cuda:0"], ["cuda", "cuda:0"]], ids=str)
def test_a_device_that_is_named_twice_is_rejected(tiny, named, monkeypatch):
    monkeypatch.setattr(devices, "_resolve_device", lambda name, _: "cuda:0")
    with pytest.raises(ValueError, match=r"names a device twice: cuda:0, cuda:0\."):
        embed(["a"], model=tiny, device=named)


def test_openvino_rejects_several_devices(tiny):
    with pytest.raises(ValueError, match=r"backend='openvino' runs on the CPU, not on device=\['cpu', 'cpu'\]"):
        embed(["a"], model=tiny, device=TWO, backend="openvino")


@pytest.mark.parametrize("device", [["cpu"], TWO], ids=str)
def test_several_devices_serve_a_tuned_model(tiny, device):
    tuner = SentenceEmbeddingFineTuner(tiny, device=device, epochs=1, random_state=0)
    tuner.fit(["a fox", "the dog", "a brown fox", "lazy dog"] * 4, ["f", "d", "f", "d"] * 4)
    expected = tuner.model_.encode(["fox", "dog"])
    assert_allclose(tuner.transform(["fox", "dog"]), expected, atol=1e-5)
    assert np.isfinite(expected).all()
