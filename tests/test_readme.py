"""The README is true: its Python blocks run in order and print what it says, and .ci/run runs its commands."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest

from skembed import SentenceEmbeddingTransformer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def without_trailing_spaces(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.slow
def test_the_python_blocks_print_what_the_readme_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    printed = ""
    for language, content in BLOCKS:
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(content, "README.md", "exec"), names)
            printed = output.getvalue()
        elif language == "text":
            assert without_trailing_spaces(printed) == without_trailing_spaces(content)


def test_every_block_is_run_by_a_test_or_by_ci():
    assert {language for language, _ in BLOCKS} == {"python", "text", "sh"}
    commands = next(content for language, content in BLOCKS if language == "sh").strip().splitlines()
    assert len(commands) == 2
    assert all("pip install -c constraints.txt" in command for command in commands)
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_parameter_table_names_every_parameter():
    section = README.partition("## Parameters")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == set(
        inspect.signature(SentenceEmbeddingTransformer).parameters
    )
