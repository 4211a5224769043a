"""Every family of models gives sentence-transformers' vectors, whichever backend runs it; each in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.families.makers import FAMILIES

ROOT = Path(__file__).parents[2]
# One of each kind: position tables, relative and rotary positions, windows of attention, gated layers, encoders with
# and without decoder, no transformer at all, routes, modules and files out of the ordinary, no dense vectors.
SAMPLE = (
    "xlm_roberta", "deberta_v2", "modernbert", "nomic_bert", "qwen3", "embedding_gemma", "longt5", "fnet",
    "word_embeddings", "router_without_default", "mixed_tail", "cross_encoder",
)  # fmt: skip
GATED = (
    "nomic_bert", "gte", "eurobert", "qwen2", "qwen3", "llama", "gemma2", "embedding_gemma", "mt5", "umt5", "t5gemma"
)  # fmt: skip
_SECONDS = 600


def environment(tmp_path: Path, n_threads: str | None) -> dict[str, str]:
    own = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "caches")}
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), own.get("PYTHONPATH", "")])
    own.pop("OMP_NUM_THREADS", None)
    return own if n_threads is None else {**own, "OMP_NUM_THREADS": n_threads}


def run(arguments: list[str], tmp_path: Path, n_threads: str | None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment(tmp_path, n_threads), capture_output=True,
        text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    died = f"killed by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"exit {done.returncode}"
    assert done.returncode == 0, f"{died}: {done.stderr[-2000:]}"
    return done.stdout


def compare(name: str, tmp_path: Path, n_threads: str | None, *flags: str) -> dict:
    folder = tmp_path / name
    return json.loads(run(["-m", "tests.families.check", name, str(folder), *flags], tmp_path, n_threads))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_family_gives_the_vectors_of_sentence_transformers(name, tmp_path):
    assert compare(name, tmp_path, "1")["problems"] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("n_threads", ["1", "2", None])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_families_give_the_vectors_of_sentence_transformers(name, n_threads, tmp_path):
    flags = [] if n_threads == "1" else ["--default"]
    assert compare(name, tmp_path, n_threads, *flags)["problems"] == []


_GRID = """
import sys, warnings
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skembed import SentenceEmbeddingTransformer

texts = [f"{word} number {number} of the letter" for number in range(100) for word in ("parcel", "account")]
pipeline = make_pipeline(SentenceEmbeddingTransformer(model=sys.argv[1]), LogisticRegression())
grid = {"sentenceembeddingtransformer__layers": [-1, 1], "logisticregression__C": [1, 10]}
warnings.simplefilter("ignore")
search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(texts, [0, 1] * 100)
print("best", search.best_score_)
"""


def search_grid(name: str, tmp_path: Path) -> None:
    FAMILIES[name](tmp_path / name)
    assert run(["-c", _GRID, str(tmp_path / name)], tmp_path, None).startswith("best")


@pytest.mark.slow
def test_a_grid_search_over_processes_lives_through_gated_layers(tmp_path):
    search_grid("qwen3", tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GATED)
def test_every_grid_search_over_processes_lives_through_gated_layers(name, tmp_path):
    search_grid(name, tmp_path)
