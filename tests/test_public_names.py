"""The public names: one sorted list, loaded lazily, at little cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import skembed


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_list_of_names_is_sorted_and_complete():
    assert skembed.__all__ == sorted(skembed._HOME_OF)


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
