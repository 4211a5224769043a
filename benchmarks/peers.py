"""Other packages that run the same model, in a separate virtual environment; encode.py times them with the rest.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0 'sentence-transformers[openvino]' fastembed onnx
    /tmp/peers/bin/pip uninstall -y torchvision
    python benchmarks/encode.py --data FOLDER --peer-python /tmp/peers/bin/python

torch is the version in constraints.txt. optimum-intel requires torchvision, which is not needed here; the build on PyPI
cannot be imported together with a torch that was built without CUDA.

- sentence-transformers with ``backend="openvino"`` (optimum-intel, which requires an older transformers), in float32
  and, where the processor supports it, bfloat16; batches of 32 texts, its default.
- fastembed (onnxruntime), the most common way to run a sentence embedding from ONNX; batches of 256 texts, its default.
  It loads the same weights, exported with torch.onnx. Besides what sentence-transformers needs, that only requires the
  package onnx; optimum's exporter needs an environment with a still older transformers.

Whichever of the two is installed there takes part. ``Peer`` starts this file with the other Python, sends it texts and
asks it to encode them. A request is a line of JSON on standard input; an answer is a line on standard output, with the
seconds of the call as timed by the other process. Vectors are returned as .npy. This file imports only numpy at first,
because it runs on both sides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}
PACKAGES = ("sentence-transformers", "transformers", "optimum-intel", "openvino", "fastembed", "onnxruntime", "torch")

Encode = Callable[[list[str]], NDArray[np.float32]]


class Peer:
    """Another Python that encodes on request; to be used in a ``with`` statement.

    Parameters
    ----------
    python : str
        Of the virtual environment.
    model : str
        Folder of the model.
    dtypes : list of str
        Precisions to load it in.

    Attributes
    ----------
    contestants : list of [name, backend, dtype, batches]
    versions : dict
        Of its packages.
    """

    def __init__(self, python: str, model: str, dtypes: list[str]) -> None:
        self._folder = TemporaryDirectory(prefix="skembed-peer-")
        command = [python, __file__, model, self._folder.name, *dtypes]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._texts: list[str] = []
        about = self._answer()
        self.contestants: list[list[str]] = about["contestants"]
        self.versions: dict[str, str] = about["versions"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.communicate()  # closes its standard input, which ends it
        self._folder.cleanup()

    def encode(self, name: str, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors."""
        self._send(texts)
        file = f"{self._folder.name}/vectors.npy"
        self._ask(encode=name, file=file)
        vectors: NDArray[np.float32] = np.load(file)
        return vectors

    def seconds(self, name: str, texts: list[str]) -> float:
        """Return how long it takes, by its own clock."""
        self._send(texts)
        return float(self._ask(encode=name)["seconds"])

    def _send(self, texts: list[str]) -> None:
        if texts is not self._texts:
            self._ask(texts=texts)
            self._texts = texts

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._child.stdin
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer's python ended with exit status {self._child.wait()}; see what it printed.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Answer requests, in the other Python."""
    model, folder, *dtypes = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a package prints is not an answer
    ways: dict[str, tuple[Encode, list[str]]] = {}
    if find_spec("optimum") and find_spec("openvino"):
        ways |= {f"ST OpenVINO {dtype}": (load_st(model, dtype), ["openvino", dtype, "32 texts"]) for dtype in dtypes}
    if find_spec("fastembed"):
        ways["fastembed float32"] = (load_fastembed(model, f"{folder}/onnx"), ["onnx", "float32", "256 texts"])
    contestants = [[name, *about] for name, (_, about) in ways.items()]
    answers.write(json.dumps({"contestants": contestants, "versions": versions()}) + "\n")
    texts: list[str] = []
    for line in sys.stdin:
        request = json.loads(line)
        texts = request.get("texts", texts)
        seconds = None
        if "encode" in request:
            encode, _ = ways[request["encode"]]
            start = perf_counter()
            vectors = encode(texts)
            seconds = perf_counter() - start
            if "file" in request:
                np.save(request["file"], vectors)
        answers.write(json.dumps({"seconds": seconds}) + "\n")


def versions() -> dict[str, str]:
    return {f"peer's {package}": version(package) for package in PACKAGES if find_spec(module_of(package))}


def module_of(package: str) -> str:
    return "optimum" if package == "optimum-intel" else package.replace("-", "_")


def load_st(model: str, dtype: str) -> Encode:
    from sentence_transformers import SentenceTransformer

    config = {"INFERENCE_PRECISION_HINT": PRECISION_HINTS[dtype]}
    loaded = SentenceTransformer(model, device="cpu", backend="openvino", model_kwargs={"ov_config": config})
    encode: Encode = loaded.encode
    return encode


def load_fastembed(model: str, folder: str) -> Encode:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    export(model, folder)
    TextEmbedding.add_custom_model(
        "exported", PoolingType.MEAN, normalization=True, sources=ModelSource(hf="nobody/exported"), dim=384,
        model_file="model.onnx",
    )  # fmt: skip
    loaded = TextEmbedding("exported", specific_model_path=folder)
    return partial(encode_with, loaded)


def encode_with(loaded: Any, texts: list[str]) -> NDArray[np.float32]:
    return np.stack(list(loaded.embed(texts)))


def export(model: str, folder: str) -> None:
    """Write the model as ONNX, with the files that fastembed reads and the token limit where it looks for it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    copytree(model, folder, ignore=lambda *_: ["model.safetensors"])
    loaded = SentenceTransformer(model, device="cpu", model_kwargs={"attn_implementation": "eager"})
    config = Path(folder) / "tokenizer_config.json"
    facts = json.loads(config.read_text(encoding="utf-8")) | {"model_max_length": loaded.max_seq_length}
    config.write_text(json.dumps(facts), encoding="utf-8")
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class Core(torch.nn.Module):
        def __init__(self, transformer: Any) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Tensor, is_token: Tensor, types: Tensor) -> Any:
            # Laid out for the attention here, as transformers' own way to do it cannot be traced in every version.
            mask = (1.0 - is_token[:, None, None, :].float()) * torch.finfo(torch.float32).min
            return self.transformer(input_ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    inputs = tuple(torch.ones(2, 8, dtype=torch.long) for _ in names)
    axes = {name: {0: "text", 1: "token"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        Core(loaded[0].auto_model).eval(), inputs, f"{folder}/model.onnx", input_names=names,
        output_names=["last_hidden_state"], dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
