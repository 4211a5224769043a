"""Each call reads its columns once, and makes one plan for each side of what it compares."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

import skembed
from skembed import (
    EmbeddingMapDisplay,
    NearDuplicates,
    PairSimilarity,
    SemanticSearch,
    SentenceEmbeddingClassifier,
    SentenceEmbeddingTransformer,
    SimilarityDisplay,
    TopicModel,
)
from skembed.encoding import columns, plan, texts

TEXTS = ["a fox", "the dog", "a parcel", "the quick brown fox"]
LABELS = ["a", "b", "c", "a"]
FRAME = pd.DataFrame({"text": TEXTS, "other": TEXTS[::-1]})


@pytest.fixture
def counts(monkeypatch):
    """``counts``: how often plans were made, and columns read, wherever the functions were imported."""
    found = Counter()

    def count(module, name):
        original = getattr(module, name)

        def counted(*args, **kwargs):
            found[name] += 1
            return original(*args, **kwargs)

        for user in list(skembed_modules()):
            if getattr(user, name, None) is original:
                monkeypatch.setattr(user, name, counted)

    def skembed_modules():
        import sys

        return [module for key, module in sys.modules.items() if key.startswith("skembed.")]

    count(plan, "make_plan")
    count(texts, "read_texts")
    count(columns, "read_vectors")
    return found


@pytest.fixture
def embedder(tiny):
    return SentenceEmbeddingTransformer(tiny, cache=None, missing="nan")


def topics(embedder):
    return TopicModel(2, embedder=embedder).fit(TEXTS)


def described(embedder) -> SentenceEmbeddingClassifier:
    return SentenceEmbeddingClassifier({"a": TEXTS[0], "b": TEXTS[1]}, embedder=embedder)


CALLS = {
    "embed": (lambda embedder: skembed.embed(TEXTS, model=embedder.model), 1, 1),
    "text.embed": (lambda embedder: FRAME["text"].text.embed(model=embedder.model), 1, 1),
    "text.embed, vectors": (lambda embedder: FRAME["text"].text.embed(model=embedder.model, output="vector"), 1, 1),
    "transform": (lambda embedder: embedder.transform(TEXTS), 1, 1),
    "fit_transform": (lambda embedder: embedder.fit_transform(TEXTS), 1, 1),
    "text.similarity, one": (lambda embedder: FRAME["text"].text.similarity("a dog", model=embedder.model), 1, 2),
    "text.similarity, two": (
        lambda embedder: FRAME["text"].text.similarity(FRAME["other"], model=embedder.model),
        1,
        2,
    ),
    "text.search": (lambda embedder: FRAME["text"].text.search("a dog", k=1, model=embedder.model), 2, 2),
    "text.join": (lambda embedder: FRAME["text"].text.join(FRAME["other"], model=embedder.model), 2, 2),
    "text.duplicates": (lambda embedder: FRAME["text"].text.duplicates(model=embedder.model), 1, 1),
    "text.duplicates, against": (
        lambda embedder: FRAME["text"].text.duplicates(against=FRAME["other"], model=embedder.model),
        2,
        2,
    ),
    "text.cluster": (lambda embedder: FRAME["text"].text.cluster(2, model=embedder.model), 1, 1),
    "text.passages": (lambda embedder: FRAME["text"].text.passages(9, 3, model=embedder.model), 1, 1),
    "pairs": (lambda embedder: PairSimilarity(embedder).transform(FRAME), 1, 2),
    "search": (lambda embedder: SemanticSearch(embedder).fit(TEXTS).search(["a dog"], k=1), 2, 2),
    "search, kneighbors": (lambda embedder: SemanticSearch(embedder).fit(TEXTS).kneighbors(["a dog"], 1), 2, 2),
    "search, transform": (lambda embedder: SemanticSearch(embedder, n_neighbors=2).fit(TEXTS).transform(["a"]), 2, 2),
    "duplicates": (lambda embedder: NearDuplicates(embedder).fit(TEXTS), 1, 1),
    "duplicates, predict": (lambda embedder: NearDuplicates(embedder).fit(TEXTS).predict(TEXTS), 2, 2),
    "duplicates, match": (lambda embedder: NearDuplicates(embedder).fit(TEXTS).match(TEXTS), 2, 2),
    "topics": (lambda embedder: topics(embedder), 1, 1),
    "topics, predict": (lambda embedder: topics(embedder).predict(TEXTS), 2, 2),
    "topics, merged": (lambda embedder: topics(embedder).reduce(1), 1, 1),
    "descriptions": (lambda embedder: described(embedder).fit().predict(TEXTS), 2, 2),
    "classifier": (lambda embedder: described(embedder).fit(TEXTS, LABELS).predict(TEXTS), 2, 3),
    "map": (lambda embedder: EmbeddingMapDisplay.from_texts(TEXTS, embedder=embedder), 1, 1),
    "similarities": (lambda embedder: SimilarityDisplay.from_texts(TEXTS, embedder=embedder), 2, 1),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_reads_each_column_once_and_plans_each_side_once(call, embedder, counts):
    run, n_plans, n_columns = CALLS[call]
    run(embedder)
    assert counts["make_plan"] <= n_plans
    assert counts["read_texts"] == n_columns


@pytest.mark.parametrize(
    "run",
    [
        lambda: SemanticSearch().fit(np.eye(4)),
        lambda: NearDuplicates().fit(np.eye(4)),
        lambda: TopicModel(2).fit(np.eye(4)),
        lambda: PairSimilarity().transform(pd.DataFrame({"a": list(np.eye(4)), "b": list(np.eye(4))})),
    ],
)
def test_vectors_are_read_once_and_need_no_plan(run, counts):
    run()
    assert counts["make_plan"] == counts["read_texts"] == 0
    assert 1 <= counts["read_vectors"] <= 2


class Walked(list):
    """A list that counts how often it is walked."""

    n_walks = 0

    def __iter__(self):
        self.n_walks += 1
        return super().__iter__()


@pytest.mark.parametrize(
    "run",
    {
        "transform": lambda embedder, X: embedder.transform(X),
        "fit_transform": lambda embedder, X: embedder.fit_transform(X),
        "search, fit": lambda embedder, X: SemanticSearch(embedder).fit(X),
        "search": lambda embedder, X: SemanticSearch(embedder).fit(TEXTS).search(X, k=1),
        "kneighbors": lambda embedder, X: SemanticSearch(embedder).fit(TEXTS).kneighbors(X, 1),
        "duplicates": lambda embedder, X: NearDuplicates(embedder).fit(X),
        "duplicates, match": lambda embedder, X: NearDuplicates(embedder).fit(TEXTS).match(X),
        "topics": lambda embedder, X: TopicModel(2, embedder=embedder).fit(X),
        "topics, predict": lambda embedder, X: topics(embedder).predict(X),
        "topics, transform": lambda embedder, X: topics(embedder).transform(X),
        "descriptions": lambda embedder, X: described(embedder).fit().predict(X),
        "classifier": lambda embedder, X: described(embedder).fit(TEXTS, LABELS).predict(X),
        "classifier, fit": lambda embedder, X: described(embedder).fit(X, [*LABELS, "c"][: len(X)]),
        "map": lambda embedder, X: EmbeddingMapDisplay.from_texts(X, embedder=embedder),
        "similarities": lambda embedder, X: SimilarityDisplay.from_texts(X, embedder=embedder),
    }.values(),
)
@pytest.mark.parametrize("rows", [TEXTS, [None, *TEXTS]], ids=["texts", "one missing"])
def test_a_list_is_walked_once(run, rows, embedder):
    X = Walked(rows)
    run(embedder.set_params(missing="zero"), X)
    assert X.n_walks == 1
