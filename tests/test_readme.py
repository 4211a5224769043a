"""The README, the guides and the recipes are true: their Python blocks run in order and print what they say."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest

from skembed import SentenceEmbeddingTransformer

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "docs" / "recipes"
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = ["docs/classification.md", "docs/linking.md", "docs/thresholds.md"]
RUN = ["README.md", *GUIDES, *sorted(f"docs/recipes/{path.name}" for path in RECIPES.glob("*.md"))]


def blocks_of(document: str) -> list[tuple[str, str]]:
    """Return the blocks of code and of output, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", document, flags=re.MULTILINE | re.DOTALL)


def without_trailing_spaces(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN)
def test_the_python_blocks_of_a_document_print_what_it_says(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    printed = ""
    for language, content in blocks_of((ROOT / path).read_text(encoding="utf-8")):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(content, path, "exec"), names)
            printed = output.getvalue()
        elif language == "text":
            assert without_trailing_spaces(printed) == without_trailing_spaces(content)


def test_every_block_is_run_by_a_test_or_by_ci():
    blocks = blocks_of(README)
    assert {language for language, _ in blocks} == {"python", "text", "sh"}
    commands = next(content for language, content in blocks if language == "sh").strip().splitlines()
    assert len(commands) == 2
    assert all("pip install -c constraints.txt" in command for command in commands)
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_parameter_table_names_every_parameter():
    section = README.partition("## Parameters")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == set(
        inspect.signature(SentenceEmbeddingTransformer).parameters
    )
