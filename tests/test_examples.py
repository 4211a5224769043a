"""The examples run from top to bottom, without a network, and say what their documents say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skembed
from tests.warm_processes import run_script

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(*arguments: str, cwd: Path, script: str = "quickstart.py", **variables: str) -> str:
    return run_script(EXAMPLES / script, arguments, cwd, {"HF_HUB_OFFLINE": "1", **variables})


@pytest.mark.slow
def test_the_quickstart_runs_on_its_own_data(tmp_path):
    command, environment = [sys.executable, str(EXAMPLES / "quickstart.py")], {**os.environ, "HF_HUB_OFFLINE": "1"}
    printed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    cosines = re.search(r"Good movie and bad movie: (\S+)\. Good movie and enjoyed film: (\S+)\.", printed)
    assert list(map(float, cosines.groups())) == pytest.approx([0.689, 0.627], abs=0.002)
    assert "300 texts with 6 labels" in printed


@pytest.mark.slow
def test_the_quickstart_runs_on_a_table_of_ones_own(tmp_path):
    rows = [(f"a fox, the {n}th", "animals") for n in range(6)] + [(f"bill no. {n}", "money") for n in range(7)]
    rows += [("", "money"), ("NA", "money"), ("alone", "rare")]
    pd.DataFrame(rows, columns=["body", "topic"]).to_csv(tmp_path / "own.csv.gz", index=False)
    printed = run_example("--csv", "own.csv.gz", "--text", "body", "--label", "topic", cwd=tmp_path)
    assert "14 texts with 2 labels" in printed
    assert "1 rows with an empty cell, 1 whose label has fewer than 5 texts" in printed


@pytest.mark.slow
def test_the_quickstart_names_the_columns_when_one_is_missing(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_example("--text", "body", cwd=tmp_path)
    assert "has no column 'body'; it has 'text', 'label'" in caught.value.stderr


@pytest.mark.slow
def test_the_grid_search_runs_on_its_own_data_and_draws_a_picture(tmp_path):
    printed = run_example("--folds", "2", cwd=tmp_path, script="grid_search.py")
    assert "225 for the search, 75 held out until the end" in printed
    assert "162 candidates x 2 folds, and the winner once more on all: 325 fits" in printed
    assert "precompute: 225 texts, 1 model, 54 settings" in printed
    assert "73,125 texts found in the cache, 0 encoded" in printed
    assert (tmp_path / "grid_search.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_grid_search_runs_on_a_table_of_ones_own_and_without_matplotlib(tmp_path):
    rows = [(f"a fox, the {n}th", "animals") for n in range(6)] + [(f"bill no. {n}", "money") for n in range(7)]
    rows += [("", "money"), ("NA", "money"), ("alone", "rare")]
    pd.DataFrame(rows, columns=["body", "topic"]).to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    arguments = ["--csv", "own.csv", "--text", "body", "--label", "topic", "--folds", "2"]
    printed = run_example(*arguments, cwd=tmp_path, script="grid_search.py", PYTHONPATH=str(tmp_path))
    assert "14 texts with 2 labels" in printed
    assert "1 rows with an empty cell, 1 with a label of too few texts" in printed
    assert "No picture: matplotlib is missing. To install it: pip install 'skembed[plot]'" in printed
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
def test_the_pandas_example_runs_on_its_own_data_and_leaves_a_file_and_a_picture(tmp_path):
    printed = run_example(cwd=tmp_path, script="pandas_reviews.py")
    assert "240 rows, 4 of them without a text, 8 products" in printed
    assert "vector[float32, 384], 4 rows missing" in printed
    assert "236 texts, 233 different, 233 read by the model" in printed
    assert "review_0 to review_383: 0 more read" in printed
    assert "11 of 236 rows could be dropped, 3 of them exact repeats" in printed
    assert "the same table as before: True" in printed
    assert (tmp_path / "pandas_reviews.png").read_bytes().startswith(b"\x89PNG")
    assert skembed.read_parquet(tmp_path / "reviews.parquet")["vector"].dtype == "vector[float32, 384]"


@pytest.mark.slow
def test_the_pandas_example_runs_on_a_table_of_ones_own_and_without_matplotlib(tmp_path):
    texts = ["a fox", "another fox", "", "a bill", "the bill, again", "a fox"]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    arguments = ["--csv", "own.csv", "--text", "text", "--clusters", "2"]
    printed = run_example(*arguments, cwd=tmp_path, script="pandas_reviews.py", PYTHONPATH=str(tmp_path))
    assert "6 rows, 1 of them without a text" in printed
    assert "No picture: matplotlib is missing. To install it: pip install 'skembed[plot]'" in printed


@pytest.mark.slow
def test_the_topics_run_on_the_tickets_and_leave_three_pictures(tmp_path):
    printed = run_example(cwd=tmp_path, script="clustering.py")
    assert "300 rows, 0 of them without a text" in printed
    assert "8 topics, because we asked for so many" in printed
    assert "The same reduced to 4" in printed
    assert "is now called 'wishes'" in printed
    assert re.search(r"\(none\) +Who won the race\?", printed)
    rows = [row.rsplit(maxsplit=6) for row in printed.partition("by month\n\n")[2].splitlines()[1:9]]
    most = {name: int(np.argmax(list(map(int, counts)))) for name, *counts in rows}
    assert {month for name, month in most.items() if "delivery" in name} == {3}  # December, as the script made it up
    assert {month for name, month in most.items() if "return" in name} == {4}
    for picture in ("map", "sizes", "over_time"):
        assert (tmp_path / f"clustering_{picture}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_topics_run_on_a_table_of_ones_own_and_without_matplotlib(tmp_path):
    texts = ["a fox", "another fox", "", "a bill", "the bill, again", "a fox"]
    days = pd.date_range("2026-01-20", periods=6, freq="W")
    pd.DataFrame({"body": texts, "sent": days}).to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    arguments = ["--csv", "own.csv", "--text", "body", "--time", "sent", "--topics", "2", "--new", "some foxes"]
    printed = run_example(*arguments, cwd=tmp_path, script="clustering.py", PYTHONPATH=str(tmp_path))
    assert "6 rows, 1 of them without a text" in printed
    assert "No pictures: matplotlib is missing. To install it: pip install 'skembed[plot]'" in printed
    assert "2026-01  2026-02" in printed
    assert "some foxes" in printed
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
def test_the_classification_runs_on_the_tickets_and_leaves_a_picture_and_a_file(tmp_path):
    printed = run_example(cwd=tmp_path, script="classification.py")
    assert "300 texts with 6 labels, half of them to learn from" in printed
    rows = [
        list(map(float, row)) for row in re.findall(r"^ *\d+ +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    ]
    assert len(rows) == 5
    assert all(described >= plain > words for described, plain, words in rows)
    assert "the same predictions: True" in printed
    assert (tmp_path / "classification.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_classification_runs_on_a_table_of_ones_own_and_without_matplotlib(tmp_path):
    rows = [(f"a fox, the {n}th", "animals") for n in range(10)] + [(f"bill no. {n}", "money") for n in range(10)]
    pd.DataFrame([*rows, ("", "money")], columns=["body", "topic"]).to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    arguments = ["--csv", "own.csv", "--text", "body", "--label", "topic", "--examples", "1", "2", "--tune", "0"]
    printed = run_example(*arguments, cwd=tmp_path, script="classification.py", PYTHONPATH=str(tmp_path))
    assert "20 texts with 2 labels" in printed
    assert "fine-tuned" not in printed
    assert "No picture: matplotlib is missing. To install it: pip install 'skembed[plot]'" in printed


@pytest.mark.slow
def test_the_products_of_two_shops_are_linked(tmp_path):
    printed = run_example(cwd=tmp_path, script="record_linkage.py")
    assert "120 and 119 rows, 96 links between them are known" in printed
    alone, learned = (float(re.search(pattern, printed)[1]) for pattern in (r"one to one.* (\S+)\n", r"F1 (0\.\d+)\n"))
    assert learned > 0.9 > alone + 0.2


@pytest.mark.slow
def test_tables_of_ones_own_are_linked_by_the_links_with_label_one(tmp_path):
    left = pd.read_csv(EXAMPLES / "data" / "products_a.csv").assign(description="sold since spring")
    links = pd.read_csv(EXAMPLES / "data" / "product_links.csv").assign(label=1)
    left.to_csv(tmp_path / "left.csv.gz", index=False)
    pd.concat([links, links.assign(id_b=links["id_b"].iloc[::-1].to_numpy(), label=0)]).to_csv(tmp_path / "links.csv")
    printed = run_example("--left", "left.csv.gz", "--links", "links.csv", cwd=tmp_path, script="record_linkage.py")
    assert "96 links between them are known" in printed
    assert "demonstration" not in printed


TOURS = {
    "classification.py",
    "quickstart.py",
    "grid_search.py",
    "pandas_reviews.py",
    "clustering.py",
    "record_linkage.py",
}
GALLERY = sorted({path.name for path in EXAMPLES.glob("*.py")} - TOURS)


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted({*GALLERY} - {"finetune_sentiment.py"}))  # which has a test of its own
def test_a_script_of_the_gallery_runs_and_leaves_its_picture(script, tmp_path):
    assert run_example(cwd=tmp_path, script=script, MPLBACKEND="Agg")
    assert (tmp_path / script).with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("script", GALLERY)
def test_a_script_of_the_gallery_is_short_and_shown(script):
    assert len((EXAMPLES / script).read_text(encoding="utf-8").splitlines()) < 80
    shown = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    picture = f"pictures/{Path(script).stem}.png"
    assert f"({script})" in shown
    assert f"({picture})" in shown
    assert (EXAMPLES / picture).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("grid_search.py", ["--text", "body"], "has no column 'body'; it has 'text', 'label'"),
        ("grid_search.py", ["--csv", "none.csv"], "there is no file none.csv"),
        ("grid_search.py", ["--folds", "26"], "'label' has fewer than two labels with 52 texts each"),
        ("grid_search.py", ["--plot", "none/plot.png"], "there is no folder none for the picture"),
        ("classification.py", ["--label", "topic"], "has no column 'topic'; it has 'text', 'label'"),
        ("classification.py", ["--csv", "none.csv"], "there is no file none.csv"),
        ("classification.py", ["--examples", "26"], "'label' has fewer than two labels with 53 texts each"),
        ("record_linkage.py", ["--links", "none.csv"], "there is no file none.csv"),
        (
            "record_linkage.py",
            ["--left", str(EXAMPLES / "data" / "reviews.csv")],
            "has no column 'id'; it has 'review'",
        ),
        ("clustering.py", ["--text", "body"], "has no column 'body'; it has 'text', 'label'"),
        ("clustering.py", ["--csv", "none.csv"], "there is no file none.csv"),
        ("clustering.py", ["--topics", "301"], "300 different texts do not make 301 topics"),
        ("pandas_reviews.py", ["--text", "body"], "has no column 'body'; it has 'review', 'product', 'stars'"),
        ("pandas_reviews.py", ["--csv", "none.csv"], "there is no file none.csv"),
        ("pandas_reviews.py", ["--clusters", "300"], "233 different texts do not make 300 clusters"),
        ("pandas_reviews.py", ["--parquet", "none/reviews.parquet"], "there is no folder none for reviews.parquet"),
    ],
)
def test_an_example_says_in_a_line_what_is_wrong(script, arguments, message, tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_example(*arguments, cwd=tmp_path, script=script)
    assert message in caught.value.stderr
    assert "Traceback" not in caught.value.stderr


def test_the_reviews_are_as_their_document_says():
    reviews = pd.read_csv(EXAMPLES / "data" / "reviews.csv")
    assert reviews["product"].value_counts().to_dict() == dict.fromkeys(reviews["product"].unique(), 30)
    assert len(reviews) == 240
    assert reviews["review"].isna().sum() == 4
    assert reviews["review"].dropna().duplicated().sum() == 3


def test_the_tickets_are_three_hundred_distinct_texts_in_six_equal_categories():
    tickets = pd.read_csv(EXAMPLES / "data" / "support_tickets.csv")
    assert tickets["label"].value_counts().to_dict() == dict.fromkeys(tickets["label"].unique(), 50)
    assert tickets["label"].nunique() == 6
    assert tickets["text"].is_unique


def test_the_opinions_are_as_their_document_says():
    opinions = pd.read_csv(EXAMPLES / "data" / "movie_opinions.csv")
    assert opinions["opinion"].value_counts().to_dict() == {"good": 120, "bad": 120}
    assert opinions["text"].is_unique


def test_the_pairs_are_as_their_document_says():
    pairs = pd.read_csv(EXAMPLES / "data" / "sentence_pairs.csv")
    assert len(pairs.drop_duplicates(["text_a", "text_b"])) == 160
    assert pairs["score"].between(0, 5).all()


def test_the_products_are_distinct_and_have_one_partner_at_most():
    left, right, links = (pd.read_csv(EXAMPLES / "data" / f"product{name}.csv") for name in ("s_a", "s_b", "_links"))
    for table, column in ((left, "id_a"), (right, "id_b")):
        assert table["id"].is_unique
        assert links[column].is_unique
        assert links[column].isin(table["id"]).all()


@pytest.mark.slow
def test_tuning_on_opinions_brings_sentences_of_one_opinion_together(tmp_path):
    printed = run_example(cwd=tmp_path, script="finetune_sentiment.py", MPLBACKEND="Agg")
    assert "tuned: 6 of 6 sentences are closer to each of their own opinion than to any of the other" in printed
    assert (tmp_path / "finetune_sentiment.png").read_bytes().startswith(b"\x89PNG")
