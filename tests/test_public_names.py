"""The public names: loaded when they are first used, and known to type checkers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skembed


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_type_checkers_see_the_same_names_in_the_same_modules():  # "as" makes them public to a strict one
    tree = ast.parse(Path(skembed.__file__).read_text(encoding="utf-8"))
    (for_checkers,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {name.asname: node.module for node in for_checkers.body for name in node.names}
    assert seen == skembed._MODULE_OF


@pytest.mark.parametrize("name", skembed.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(skembed, name).__doc__
    assert name in dir(skembed)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        skembed.nope  # noqa: B018


def test_importing_loads_no_model_library():
    heavy = ["torch", "transformers", "sentence_transformers", "tokenizers", "polars", "pyarrow", "sklearn"]
    code = f"print([name for name in {heavy!r} if name in __import__('sys').modules])"
    assert run_python(f"import skembed; {code}") == run_python(f"import pandas; {code}")
    assert "torch" not in run_python(f"from skembed import SentenceEmbeddingTransformer; {code}")
