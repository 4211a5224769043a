"""Fixtures of the tests of frames."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from packaging.version import Version

TEXTS = ["a fox", "a parcel", None, "a fox"]
DTYPES_OF_TEXT = [
    object,
    "string",
    "string[pyarrow]",
    pd.ArrowDtype(pa.string()),
    pd.ArrowDtype(pa.large_string()),
    "category",
    "str",
]


@pytest.fixture
def tiny_by_default(tiny, monkeypatch):
    """The default model is a tiny one."""
    from skembed.encoding.settings import Settings
    from skembed.transformer import SentenceEmbeddingTransformer

    monkeypatch.setattr(SentenceEmbeddingTransformer.__init__, "__defaults__", (tiny,))  # clone() sees its signature
    monkeypatch.setattr(Settings.__init__, "__defaults__", (tiny, *Settings.__init__.__defaults__[1:]))


@pytest.fixture(params=DTYPES_OF_TEXT, ids=str)
def text_column(request) -> pd.Series:
    """A column of every dtype in which pandas holds text, with a missing one."""
    column = pd.Series(TEXTS, name="review")
    if request.param == "str" and Version(pd.__version__) < Version("3"):
        return column  # "str" makes the text "None" there
    return column.astype(request.param)
