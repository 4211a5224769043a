"""The door to optional dependencies."""

from __future__ import annotations

import json

import pytest

from skembed.optional import require


def test_an_installed_library_is_imported():
    assert require("json", extra="plot", needed_by="a test") is json


def test_a_missing_library_is_an_error_that_says_who_needs_it_and_how_to_install_it():
    with pytest.raises(ImportError, match=r"^a test needs nowhere: pip install 'skembed\[plot\]'\.$"):
        require("nowhere.part", extra="plot", needed_by="a test")


def test_a_broken_library_raises_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
        require("broken_library", extra="plot", needed_by="a test")
