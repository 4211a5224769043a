"""Measure what a search by words adds to a search by vectors: nDCG@10 on SciFact.

    python benchmarks/hybrid.py --data FOLDER --json benchmarks/results/hybrid.json

- Vectors: SemanticSearch with its defaults. Words: BM25 as bm25s computes it by default, and scikit-learn's
  TfidfVectorizer(sublinear_tf=True, stop_words="english"). A document is its title, a space and its text.
- Both: reciprocal rank fusion (Cormack, Clarke & Buettcher 2009) of the first 100 documents of each, as in
  docs/recipes/hybrid_search.md.

Figures are nDCG@10, times 100, over the 300 queries of the test split, with the standard error of the mean difference
from vectors alone. Exit status 1 unless fusion with BM25 is above vectors alone and BM25 alone.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import bm25s
import numpy as np
from data import add_data_argument, read_table, title_and_text
from numpy.typing import NDArray
from quality import TOP, ndcg
from report import add_json_argument, describe_machine, print_report, write_json
from sklearn.feature_extraction.text import TfidfVectorizer

import skembed
from skembed import SemanticSearch

N_HITS = 100
CONSTANT = 60  # of the paper
HEADER = ("search", "nDCG@10", "more than vectors", "standard error")

Ranks = NDArray[np.intp]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # the published scores truncate long texts, too
    table = read_table(arguments.data, "scifact/corpus")
    documents, ids = title_and_text(table), table["doc_id"].to_numpy()
    asked = read_table(arguments.data, "scifact/queries").query("split == 'test'")
    judged = read_table(arguments.data, "scifact/qrels").query("split == 'test' and score > 0")
    relevant, queries = judged.groupby("query_id")["doc_id"].agg(set), asked["text"].tolist()
    vectors = SemanticSearch().fit(documents).kneighbors(queries, N_HITS, return_distance=False)
    bm25, tfidf = search_bm25(documents, queries), search_tfidf(documents, queries)
    found = {
        "vectors": vectors,
        "BM25": bm25,
        "TF-IDF": tfidf,
        "vectors and BM25": fuse(vectors, bm25),
        "vectors and TF-IDF": fuse(vectors, tfidf),
    }
    gains = {
        name: 100
        * np.array([ndcg(ids[hits[:TOP]], relevant[q]) for q, hits in zip(asked["query_id"], ranks, strict=True)])
        for name, ranks in found.items()
    }
    results = [describe(name, own, gains["vectors"]) for name, own in gains.items()]
    machine = {**describe_machine(), "bm25s": bm25s.__version__}
    print_report(machine, HEADER, map(row, results))
    write_json(arguments.json, machine=machine, results=results)
    score = {name: float(own.mean()) for name, own in gains.items()}
    return 0 if score["vectors and BM25"] > max(score["vectors"], score["BM25"]) else 1


def search_bm25(documents: list[str], queries: list[str]) -> Ranks:
    index = bm25s.BM25()
    index.index(bm25s.tokenize(documents, show_progress=False), show_progress=False)
    positions: Ranks = index.retrieve(bm25s.tokenize(queries, show_progress=False), k=N_HITS, show_progress=False)[0]
    return positions


def search_tfidf(documents: list[str], queries: list[str]) -> Ranks:
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit(documents)
    cosines = (vectorizer.transform(queries) @ vectorizer.transform(documents).T).toarray()
    return np.argsort(-cosines, axis=1, kind="stable")[:, :N_HITS]


def fuse(*rankings: Ranks) -> Ranks:
    """Return the documents by the sum of 1 / (60 + rank) over the rankings."""
    n_documents = 1 + max(int(ranks.max()) for ranks in rankings)
    scores = np.zeros((len(rankings[0]), n_documents))
    for ranks in rankings:
        np.put_along_axis(
            scores, ranks, np.take_along_axis(scores, ranks, axis=1) + 1 / (CONSTANT + 1 + np.arange(N_HITS)), axis=1
        )
    return np.argsort(-scores, axis=1, kind="stable")[:, :N_HITS]


def describe(name: str, gains: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[str, Any]:
    more = gains - reference
    error = float(more.std(ddof=1) / np.sqrt(len(more)))
    return {"search": name, "ndcg": float(gains.mean()), "more": float(more.mean()), "standard_error": error}


def row(result: dict[str, Any]) -> list[str]:
    is_reference = result["search"] == "vectors"
    more = [] if is_reference else [f"{result['more']:+.2f}", f"{result['standard_error']:.2f}"]
    return [result["search"], f"{result['ndcg']:.2f}", *(more or ["", ""])]


if __name__ == "__main__":
    sys.exit(main())
