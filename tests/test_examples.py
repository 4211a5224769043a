"""The examples run from top to bottom, without a network, and say what their documents say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_quickstart_runs_on_its_own_data(tmp_path):
    printed = run_example(cwd=tmp_path)
    assert "Good movie and bad movie: 0.689. Good movie and enjoyed film: 0.627." in printed
    assert "300 texts with 6 labels" in printed


def test_the_quickstart_runs_on_a_table_of_ones_own(tmp_path):
    rows = [(f"a fox, the {n}th", "animals") for n in range(6)] + [(f"bill no. {n}", "money") for n in range(7)]
    rows += [("", "money"), ("NA", "money"), ("alone", "rare")]
    pd.DataFrame(rows, columns=["body", "topic"]).to_csv(tmp_path / "own.csv.gz", index=False)
    printed = run_example("--csv", "own.csv.gz", "--text", "body", "--label", "topic", cwd=tmp_path)
    assert "14 texts with 2 labels" in printed
    assert "1 rows with an empty cell, 1 whose label has fewer than 5 texts" in printed


def test_the_quickstart_names_the_columns_when_one_is_missing(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_example("--text", "body", cwd=tmp_path)
    assert "has no column 'body'; it has 'text', 'label'" in caught.value.stderr


def test_the_tickets_are_three_hundred_distinct_texts_in_six_equal_categories():
    tickets = pd.read_csv(EXAMPLES / "data" / "support_tickets.csv")
    assert tickets["label"].value_counts().to_dict() == dict.fromkeys(tickets["label"].unique(), 50)
    assert tickets["label"].nunique() == 6
    assert tickets["text"].is_unique
