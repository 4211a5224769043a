"""pandas' own tests, once with skembed imported and once without: every one ends the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest

MODULES = [
    "apply",
    "frame.indexing",
    "frame.test_api",
    "frame.test_iteration",
    "frame.test_subclass",
    "generic",
    "series.accessors",
    "series.indexing",
    "series.test_api",
    "series.test_iteration",
    "series.test_subclass",
    "test_register_accessor",
]


def outcomes(folder, plugins: tuple[str, ...]) -> dict[tuple[str, str], list[str]]:
    """How each of pandas' tests ended: nothing for one that passed, else what befell it."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "--pyargs", *(f"pandas.tests.{module}" for module in MODULES)]
    command += ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", *plugins]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    cases = ElementTree.parse(report).iter("testcase")
    return {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in cases}


@pytest.mark.slow
def test_importing_skembed_changes_no_test_of_pandas(tmp_path):
    folders = [tmp_path / "with", tmp_path / "without"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "proof.py").write_text(
        "import pandas, skembed\n"
        "assert pandas.Series.__dict__['embed'].__class__.__name__ == 'FallbackAccessor'\n"
        "def pytest_sessionfinish(): open('imported', 'w').close()\n"
    )
    with ThreadPoolExecutor(2) as beside_each_other:
        with_skembed, without = beside_each_other.map(outcomes, folders, [("-p", "proof"), ()])
    assert (folders[0] / "imported").exists()
    assert len(with_skembed) > 3000
    assert with_skembed == without
