"""Compare skembed with sentence-transformers on one family, in a process of its own.

``python -m tests.families.check NAME FOLDER`` makes the model of that family in the folder, prints what was found as
one line of JSON and nothing else on standard output. The reference is always sentence-transformers in float32, one
text a batch: a vector must depend on its text alone.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

import skembed
from skembed.encoding.models.registry import get_model
from skembed.encoding.settings import POOLINGS, Settings
from tests.families.makers import FAMILIES

LARGEST_DIFFERENCE, SMALLEST_COSINE = 1e-5, 0.9999

TEXTS = [
    "Thanks a lot!",
    "The courier never rang, so where is my parcel now?",
    "fox",
    "My password was refused; unlock the account, please!",
    "Die Sendung kam beschädigt an. 東京で雨が降る。",
    "Share prices rose by 3.5 % on Tuesday, and bonds fell to 0.98 within the same hour (again).",
    "",
    "numbers 0 1 2 3 4 5 6 7",
    "Vectors of numbers stand for sentences. " * 3,
    "a cosine compares two of them " * 30,  # longer than any of these models reads
    *(
        f"Sentence number {number} of the letter is about the account, the update and the parcel."
        for number in range(9)
    ),
    *("word " * length for length in (2, 3, 5, 8, 13, 21, 34)),
]
WHOLE_TEXTS = [text for text in TEXTS if 0 < len(text) < 60]  # which no model cuts


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest distance of two rows, relative to the length of the expected one."""
    norms = np.maximum(np.linalg.norm(expected, axis=1), 1e-12)
    return float((np.linalg.norm(found - expected, axis=1) / norms).max())


def smallest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    products = np.einsum("ij,ij->i", found, expected, dtype=np.float64)
    norms = np.linalg.norm(found.astype(np.float64), axis=1) * np.linalg.norm(expected.astype(np.float64), axis=1)
    return float(np.where(norms > 0, products / np.maximum(norms, 1e-300), 1.0).min())


def forget_short_texts(model: SentenceTransformer) -> None:
    """Give BigBird back the sparse attention that it leaves for good once it has seen a short text."""
    network = model.transformers_model
    if hasattr(network, "set_attention_type"):
        network.set_attention_type(network.config.attention_type)


class Comparison:
    """One family's model, its reference, and what was found wrong so far."""

    def __init__(self, name: str, folder: Path) -> None:
        self.trusted = {"trust_remote_code": True} if name.startswith("own_") else {}
        self.reference = (
            SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"}, **self.trusted)
            .eval()
            .float()
        )
        tokenizer = getattr(self.reference, "tokenizer", None)
        if getattr(tokenizer, "pad_token", "") is None:  # else sentence-transformers refuses to pad, though nothing is
            tokenizer.pad_token = tokenizer.eos_token
        self.folder = str(folder)
        self.texts = [text for text in TEXTS if self.can_read(text)]
        self.whole_texts = [text for text in WHOLE_TEXTS if self.can_read(text)]
        self.problems: list[str] = []
        self.figures: dict[str, float] = {}
        self.ran: dict[str, str] = {}

    def can_read(self, text: str) -> bool:
        """Return whether sentence-transformers can: some architectures need a few tokens."""
        try:
            return bool(np.isfinite(self.one_by_one([text])).all())
        except (RuntimeError, TypeError, IndexError):
            return False

    def one_by_one(self, texts: list[str], model: SentenceTransformer | None = None, **params: Any) -> np.ndarray:
        model = model or self.reference
        is_cut_after_normalize = bool(model.truncate_dim) and type(list(model.children())[-1]).__name__ == "Normalize"
        params.setdefault("normalize_embeddings", is_cut_after_normalize)  # skembed normalises what was cut
        encode = {"query": model.encode_query, "document": model.encode_document}.get(
            params.pop("task", None), model.encode
        )
        vectors = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for text in texts:
                forget_short_texts(model)
                vectors.append(encode([text], batch_size=1, show_progress_bar=False, **params))
        return np.vstack(vectors)

    def embed(self, texts: list[str], **params: Any) -> np.ndarray:
        return skembed.embed(texts, **{"model": self.folder, "cache": None, **self.trusted, **params})

    def check(self, what: str, found: np.ndarray, expected: np.ndarray) -> None:
        value = difference(found, expected)
        self.figures[what] = value
        if not value <= LARGEST_DIFFERENCE:
            self.problems.append(f"{what}: differs by {value:.2e}")

    def note_reasons(self, caught: list[warnings.WarningMessage]) -> None:
        """Keep why OpenVINO does not run the model, which is said once a process."""
        beginning = f"OpenVINO cannot run {self.folder}: "
        said = [str(warning.message).partition(" torch runs it instead")[0] for warning in caught]
        self.figures |= {f"reason: {one.removeprefix(beginning)}": 0.0 for one in said if one.startswith(beginning)}

    def attempt(self, what: str, compare: Any, *args: Any) -> None:
        try:
            compare(*args)
        except Exception as error:
            self.problems.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")


def compare_whole_calls(case: Comparison, backend: str) -> None:
    settings = {"backend": backend, "dtype": "float32"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = get_model(Settings(model=case.folder, **settings, **case.trusted))
        case.ran[backend] = model.backend.name
    case.check(f"{backend}: texts", case.embed(case.texts, **settings), case.one_by_one(case.texts))
    case.ran[backend] = get_model(Settings(model=case.folder, **settings, **case.trusted)).backend.name
    case.note_reasons(caught)
    for name in case.reference.prompts:
        found = case.embed(case.whole_texts, prompt_name=name, **settings)
        case.check(f"{backend}: prompt {name}", found, case.one_by_one(case.whole_texts, prompt_name=name))
    for task in ("query", "document"):
        found = case.embed(case.texts, task=task, **settings)
        case.check(f"{backend}: task {task}", found, case.one_by_one(case.texts, task=task))
    # As many texts as a real call has: long batches, several at a time.
    many = [f"{text} {number}" for number in range(8) for text in case.whole_texts]
    case.check(f"{backend}: many texts", case.embed(many, **settings), case.one_by_one(many))


def compare_live(case: Comparison) -> None:
    before = {name: weights.clone() for name, weights in case.reference.state_dict().items()}
    for backend in ("torch", "auto"):
        found = case.embed(case.texts, model=case.reference, backend=backend, dtype="float32")
        case.check(f"live, {backend}: texts", found, case.one_by_one(case.texts))
    after = case.reference.state_dict()
    if any(not torch.equal(before[name], after[name]) for name in before):
        case.problems.append("live: the model was changed")


def compare_dimensions(case: Comparison, backend: str) -> None:
    expected = case.one_by_one(case.whole_texts, truncate_dim=8, normalize_embeddings=True)
    found = case.embed(case.whole_texts, truncate_dim=8, normalize_embeddings=True, backend=backend, dtype="float32")
    case.check(f"{backend}: truncate_dim", found, expected)


def is_standard(case: Comparison) -> bool:
    """Whether skembed takes the model apart; of others, pooling, layers and long texts are refused with a reason."""
    return get_model(Settings(model=case.folder, backend="torch", **case.trusted)).backend.spec is not None


def compare_poolings(case: Comparison, backend: str) -> None:
    modules = list(case.reference.children())
    dim, include_prompt = modules[1].embedding_dimension, modules[1].include_prompt
    normalized = bool(case.reference.truncate_dim) and type(modules[-1]).__name__ == "Normalize"
    after = modules[2] if len(modules) > 2 else None
    tail_dim = getattr(after, "in_features", getattr(after, "dimension", dim))
    if tail_dim != dim:
        return
    for pooling in POOLINGS:
        other = SentenceTransformer(
            modules=[modules[0], Pooling(dim, pooling, include_prompt), *modules[2:]], device="cpu",
            prompts=case.reference.prompts, default_prompt_name=case.reference.default_prompt_name,
            truncate_dim=case.reference.truncate_dim,
        )  # fmt: skip
        expected = case.one_by_one(case.whole_texts, other, normalize_embeddings=normalized)
        found = case.embed(case.whole_texts, pooling=pooling, backend=backend, dtype="float32")
        case.check(f"{backend}: pooling {pooling}", found, expected)


def has_layers(model: SentenceTransformer) -> bool:
    """Whether a transformer gives one hidden state a layer, all of one shape."""
    network = model.transformers_model
    features = model.preprocess([WHOLE_TEXTS[1]])
    read = {name: features[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        states = network(**read, output_hidden_states=True, return_dict=True).get("hidden_states")
    n_layers = getattr(network.config.get_text_config(), "num_hidden_layers", None)
    return states is not None and len(states) == n_layers + 1 and len({state.shape for state in states}) == 1


class HiddenLayer(nn.Module):
    """The first module of a model, giving an inner layer where it gave the last."""

    def __init__(self, transformer: Any, layer: int) -> None:
        super().__init__()
        self.transformer, self.layer = transformer, layer

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        read = {name: features[name] for name in ("input_ids", "attention_mask")}
        states = self.transformer.model(**read, output_hidden_states=True, return_dict=True).hidden_states
        return {**features, "token_embeddings": states[self.layer][:, : features["input_ids"].shape[1]]}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("transformer"), name)


def compare_layers(case: Comparison, backend: str) -> None:
    modules = list(case.reference.children())
    if not has_layers(case.reference):
        return
    for layer in (0, 1):
        other = SentenceTransformer(
            modules=[HiddenLayer(modules[0], layer), *modules[1:]], device="cpu", prompts=case.reference.prompts,
            default_prompt_name=case.reference.default_prompt_name, truncate_dim=case.reference.truncate_dim,
        )  # fmt: skip
        normalized = bool(case.reference.truncate_dim) and type(modules[-1]).__name__ == "Normalize"
        expected = case.one_by_one(case.whole_texts, other, normalize_embeddings=normalized)
        found = case.embed(case.whole_texts, layers=layer, backend=backend, dtype="float32")
        case.check(f"{backend}: layer {layer}", found, expected)


def compare_long_texts(case: Comparison, backend: str) -> None:
    """Whole texts are the same either way; long ones are read whole, alike by both backends."""
    read = {"long_texts": "mean", "dtype": "float32"}
    case.check(
        f"{backend}: whole texts",
        case.embed(case.whole_texts, backend=backend, **read),
        case.one_by_one(case.whole_texts),
    )
    by_torch = case.embed(case.texts, backend="torch", **read)
    case.check(f"{backend}: long texts", case.embed(case.texts, backend=backend, **read), by_torch)


def compare_search(case: Comparison) -> None:
    documents, queries = case.whole_texts, case.whole_texts[:4]
    embedder = skembed.SentenceEmbeddingTransformer(
        model=case.folder, backend="torch", dtype="float32", cache=None, **case.trusted
    )
    hits = skembed.SemanticSearch(embedder).fit(documents).search(queries, k=len(documents))
    of_queries, of_documents = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for vectors in (case.one_by_one(queries, task="query"), case.one_by_one(documents, task="document"))
    )
    expected = (of_queries @ of_documents.T)[np.repeat(range(len(queries)), len(documents)), hits["position"]]
    worst = float(np.abs(hits["score"].to_numpy() - expected).max())
    case.figures["search: cosines"] = worst
    if worst > LARGEST_DIFFERENCE:
        case.problems.append(f"SemanticSearch: cosines differ from encode_query and encode_document by {worst:.2e}")


def compare_defaults(case: Comparison) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        many = case.texts + [f"{text} {number}" for number in range(8) for text in case.whole_texts]
        found = case.embed(many)
        model = get_model(Settings(model=case.folder, **case.trusted))
    case.note_reasons(caught)
    if model.backend.unsupported_reason:
        case.figures[f"reason: {model.backend.unsupported_reason}"] = 0.0
    case.ran["default"] = f"{model.backend.name} {model.dtype}"
    cosine = smallest_cosine(found, case.one_by_one(many))
    case.figures["default: smallest cosine"] = cosine
    if cosine < SMALLEST_COSINE:
        case.problems.append(f"default ({case.ran['default']}): smallest cosine {cosine:.6f}")


def compare(name: str, folder: Path, *, only_default: bool) -> dict[str, Any]:
    """Run all comparisons that the family allows; return figures and problems."""
    has_openvino = _has_openvino()
    case = Comparison(name, folder)
    case.attempt("defaults", compare_defaults, case)
    backends = ["torch", *(["openvino"] if has_openvino else [])]
    for backend in backends[1:] if only_default else backends:
        case.attempt(f"{backend}", compare_whole_calls, case, backend)
        if only_default:
            continue
        case.attempt(f"{backend}: truncate_dim", compare_dimensions, case, backend)
        if is_standard(case):
            case.attempt(f"{backend}: poolings", compare_poolings, case, backend)
            case.attempt(f"{backend}: layers", compare_layers, case, backend)
            case.attempt(f"{backend}: long texts", compare_long_texts, case, backend)
    if not only_default:
        case.attempt("live", compare_live, case)
        case.attempt("search", compare_search, case)
    return {"name": name, "problems": case.problems, "figures": case.figures, "ran": case.ran, "refused": None}


def refusal(name: str, folder: Path) -> str | None:
    """Return why skembed refuses the model, if sentence-transformers makes no dense vectors of it, either."""
    if not name.startswith(("sparse_", "cross_", "multi_")):
        return None
    try:
        skembed.embed(["a"], model=str(folder))
    except ValueError as error:  # one of the package's own: it says what the model is
        return str(error)
    return None


def _has_openvino() -> bool:
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def main(name: str, folder: Path, *flags: str) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not folder.exists():
            FAMILIES[name](folder)
        why = refusal(name, folder)
        result = (
            {"name": name, "problems": [], "figures": {}, "ran": {}, "refused": why}
            if why
            else compare(name, folder, only_default="--default" in flags)
        )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
