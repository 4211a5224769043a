"""The texts of the benchmarks: read from the data folder, and drawn as seeded samples.

``--data`` or the environment variable SKEMBED_DATA names the folder. It contains gzip-compressed CSV files (UTF-8,
first row = column names) with at least these columns:

    stsbenchmark/stsbenchmark.csv.gz                   text_a, text_b, score, split
    ag_news/ag_news.csv.gz                             text, label
    banking77/banking77.csv.gz                         text, label, split
    twenty_newsgroups/twenty_newsgroups.csv.gz         text, label
    stackoverflow_titles/stackoverflow_titles.csv.gz   text, label
    scifact/corpus.csv.gz                              doc_id, title, text
    scifact/queries.csv.gz                             query_id, text, split
    scifact/qrels.csv.gz                               query_id, doc_id, score, split
    clinc150/clinc150.csv.gz                           text, label, domain, split
    trec/trec.csv.gz                                   text, label, split
    sms_spam/sms_spam.csv.gz                           text
    sst2/sst2.csv.gz                                   text, label, split
    abt_buy/abt_buy_table_a.csv.gz                     id, text
    abt_buy/abt_buy_table_b.csv.gz                     id, text
    abt_buy/abt_buy_pairs.csv.gz                       id_a, id_b, label

duplicates.py also reads every other file of that kind in the folder. ``split`` is train, dev or test, as in the
sources. No row of this data is part of skembed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

CORPORA = ("short", "medium", "long")
COLUMNS_OF_TEXT = ("text", "text_a", "text_b", "title", "subject", "description")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default=os.environ.get("SKEMBED_DATA"), help="the data folder (default: the variable SKEMBED_DATA)"
    )


def read_table(folder: str | None, name: str) -> pd.DataFrame:
    """Read one file of the data folder, e.g. ``read_table(folder, "scifact/corpus")``."""
    if folder is None:
        raise SystemExit(f"Name the data folder with --data or SKEMBED_DATA.\n\n{__doc__}")
    path = Path(folder) / f"{name}.csv.gz"
    if not path.is_file():
        raise SystemExit(f"The data folder has no {name}.csv.gz.\n\n{__doc__}")
    return pd.read_csv(path, keep_default_na=False)


def read_corpus(folder: str | None, corpus: str) -> list[str]:
    """Read the short (Banking77), medium (20 newsgroups) or long (SciFact) texts, or the news (AG News)."""
    if corpus == "short":
        return read_table(folder, "banking77/banking77")["text"].tolist()
    if corpus == "medium":
        return read_table(folder, "twenty_newsgroups/twenty_newsgroups")["text"].tolist()
    if corpus == "news":
        return read_table(folder, "ag_news/ag_news")["text"].tolist()
    return title_and_text(read_table(folder, "scifact/corpus"))


def read_all_texts(folder: str | None) -> list[str]:
    """Read the distinct texts of all files in the folder."""
    if folder is None:
        raise SystemExit(f"Name the data folder with --data or SKEMBED_DATA.\n\n{__doc__}")
    files = sorted(Path(folder).glob("*/*.csv.gz"))
    tables = (read_table(folder, f"{file.parent.name}/{file.name.removesuffix('.csv.gz')}") for file in files)
    columns = (table[column] for table in tables for column in COLUMNS_OF_TEXT if column in table)
    return list(dict.fromkeys(text for column in columns for text in column if text))


def title_and_text(documents: pd.DataFrame) -> list[str]:
    return (documents["title"] + " " + documents["text"]).tolist()


def sample(texts: list[str], n_texts: int | None, seed: int = 0) -> list[str]:
    """Draw distinct texts in random order: all of them if there are fewer, or ``n_texts`` is None."""
    distinct = list(dict.fromkeys(texts))
    rows = np.random.default_rng(seed).permutation(len(distinct))[:n_texts]
    return [distinct[row] for row in rows]
