"""Devices and backends: what "auto" is, and what is refused."""

from __future__ import annotations

import pytest

from skembed import embed
from skembed.encoding.models import devices, registry

pytestmark = pytest.mark.usefixtures("no_models_left")


@pytest.mark.parametrize("device", ["hpu", "mkldnn", "cuda:77", "gpu", "cpu:x", "meta"])
def test_a_device_that_is_not_available_is_refused(device, tiny):
    with pytest.raises(ValueError, match=f"device='{device}' is not available on this machine"):
        embed(["a"], model=tiny, device=device)


def test_auto_is_the_best_available_device(monkeypatch):
    import torch

    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert devices.resolve_devices("auto", None)[0].startswith(expected)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [(["null", "zero"], True), (["null", "nvidia0"], False), (["kfd"], False), (["dxg"], False), (["nvidiactl"], True)],
)
def test_an_accelerator_is_seen_without_torch(listed, expected, tmp_path, monkeypatch):
    for name in listed:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "_DEVICE_FILES", str(tmp_path))
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.delitem(devices.sys.modules, "torch", raising=False)
    assert devices._has_only_cpu() is expected


def test_auto_is_torch_where_openvino_is_not_installed(tiny, monkeypatch):
    monkeypatch.setattr(devices, "_has_openvino", lambda: False)
    embed(["a"], model=tiny, cache=None)
    assert {model.backend.name for model in registry._loaded.values()} == {"torch"}


def test_without_openvino_the_error_names_the_command_that_installs_it(tiny, monkeypatch):
    monkeypatch.setattr(devices, "_has_openvino", lambda: False)
    monkeypatch.setitem(devices.sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"backend='openvino' needs openvino: pip install 'skembed\[openvino\]'"):
        embed(["a"], model=tiny, backend="openvino")
