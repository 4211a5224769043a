"""Terms: how many texts of each topic hold each word and pair of words, and how well they tell topics apart."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skembed.clustering import terms
from skembed.clustering.terms import count_terms, scores_of

WORDS = ["card", "Card", "cards", "lost", "PIN", "the", "the-card", "信用卡", "42", "a", "...", "don't"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=30, unique=True)


def counted(texts, topic_of, *, weights=None, closeness=None, n_topics=None):
    """Count with weights and closeness of 1."""
    ones = np.ones(len(texts))
    weights = ones if weights is None else np.asarray(weights)
    closeness = ones if closeness is None else np.asarray(closeness)
    return count_terms(texts, weights, np.asarray(topic_of), closeness, n_topics or max(topic_of) + 1)


def table(counts) -> dict[str, list[float]]:
    """Return the counts of each term."""
    return dict(zip(counts.vocabulary, counts.counts.toarray().T.tolist(), strict=True))


def assert_same(one, other):
    assert one.vocabulary == other.vocabulary
    assert_array_equal(one.counts.toarray(), other.counts.toarray())
    assert_array_equal(one.n_texts, other.n_texts)
    assert_array_equal(one.pairs, other.pairs)


def test_texts_are_counted_by_topic():
    found = table(counted(["lost card", "card", "new PIN"], [0, 0, 1]))
    assert found == {"card": [2, 0], "lost": [1, 0], "new": [0, 1], "PIN": [0, 1]}


def test_a_text_counts_once_for_a_word():
    assert table(counted(["card card, Card", "lost"], [0, 0]))["card"] == [1]


def test_rows_with_one_text_count_each():
    counts = counted(["card", "lost card"], [0, 0], weights=[10, 1])
    assert table(counts) == {"card": [11], "lost": [1]}
    assert counts.n_texts.tolist() == [11]


def test_close_texts_count_more_and_others_a_little():
    found = table(counted(["one", "two", "three"], [0, 0, 0], closeness=[0.8, 0.4, -1]))
    assert found["one"] == pytest.approx([0.8])
    assert found["two"] == pytest.approx([0.4])
    assert found["three"] == pytest.approx([0.1])


def test_pairs_of_adjacent_words_count_from_three_texts():
    texts = ["my credit card", "credit card lost", "credit card, new", "credit. Card", "lost a debit card"]
    counts = counted(texts, [0] * 5)
    assert table(counts)["credit card"] == [3]
    assert [term for term in counts.vocabulary if " " in term] == ["credit card"]
    assert [[counts.vocabulary[word] for word in pair] for pair in counts.pairs] == [["credit", "card"]]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["an iPhone", "the iPhone", "my iphone"], "iPhone"),
        (["Card lost", "my card", "Card"], "card"),  # a capital at the beginning says little
        (["Karte weg", "meine Karte", "eine Karte", "keine karte"], "Karte"),
        (["at NASA", "with NASA", "nasa"], "NASA"),
        (["Wi-Fi off", "my Wi-Fi", "a wi fi", "no Wi-Fi"], "Wi-Fi"),
        (["a Card", "a card"], "card"),
    ],
)
def test_a_term_is_shown_in_its_commonest_spelling(texts, expected):
    assert expected in counted(texts, [0] * len(texts)).vocabulary


def test_topics_without_texts_or_words_have_no_counts():
    counts = counted(["card", "?!"], [0, 1], n_topics=3)
    assert table(counts) == {"card": [1, 0, 0]}
    assert counts.n_texts.tolist() == [1, 1, 0]


@settings(deadline=None, max_examples=40)
@given(TEXTS, st.data())
def test_the_order_of_the_texts_does_not_matter(texts, data):
    numbers = st.lists(st.floats(-1, 1, width=32), min_size=len(texts), max_size=len(texts))
    closeness = np.array(data.draw(numbers))
    topic_of = np.array([len(text) % 3 for text in texts])
    order = data.draw(st.permutations(range(len(texts))))
    shuffled = counted([texts[row] for row in order], topic_of[order], closeness=closeness[order], n_topics=3)
    assert_same(shuffled, counted(texts, topic_of, closeness=closeness, n_topics=3))


@settings(deadline=None, max_examples=40)
@given(TEXTS)
@example(["Card card", "cards Card", "lost Card", "card card", "the-card", "card", "Card", "cards card"])
def test_merged_counts_are_the_counts_of_merged_topics(texts):
    merge = np.array([1, 0, 1, 2])
    topic_of = np.arange(len(texts)) % 4
    merged = counted(texts, topic_of, n_topics=4).merged(merge)
    assert_same(merged, counted(texts, merge[topic_of], n_topics=3))


def test_counts_pickle():
    counts = counted(["lost card", "new PIN"], [0, 1])
    assert_same(pickle.loads(pickle.dumps(counts)), counts)


def test_a_long_text_counts_as_one_and_only_its_beginning_is_read():
    texts = ["card " * 200_000 + "end", "信用卡" * 300_000, "lost card"]
    found = table(counted(texts, [0, 0, 0]))
    assert found["card"] == [2]
    assert "end" not in found
    assert found["信用"] == [1]


def test_texts_with_lone_surrogates_are_counted():
    assert "card" in counted(["card \ud800", "card \udfff"], [0, 0]).vocabulary


def many_texts() -> list[str]:
    numbers = np.random.default_rng(0)
    vocabulary = np.array([f"word{number}" for number in range(300)])
    return [f"{' '.join(vocabulary[numbers.integers(0, 300, 8)])} frequent pair text{row}" for row in range(400)]


def test_texts_are_counted_in_chunks(monkeypatch):
    whole = counted(many_texts(), [0, 1] * 200)
    monkeypatch.setattr(terms, "_CHUNK", 100)
    assert_same(counted(many_texts(), [0, 1] * 200), whole)


@pytest.mark.parametrize(("limit", "size"), [("_MOST_COUNTED", 200), ("_MOST_SPELLINGS", 310)])
def test_rare_terms_are_dropped_where_memory_is_short(monkeypatch, limit, size):
    monkeypatch.setattr(terms, "_CHUNK", 500)
    monkeypatch.setattr(terms, limit, size)
    counts = counted(many_texts(), [0, 1] * 200)
    assert table(counts)["frequent pair"] == [200, 200]
    assert len(counts.vocabulary) < 700


def test_the_best_terms_of_each_topic_are_kept_and_the_words_of_their_pairs(monkeypatch):
    monkeypatch.setattr(terms, "_FEWEST_KEPT", 5)
    monkeypatch.setattr(terms, "_KEPT", 5)
    counts = counted(
        [*many_texts(), "one more rare text", "another rare text", "a third rare text"], [0] * 400 + [1] * 3
    )
    assert counts.n_words <= 20
    assert "rare text" in counts.vocabulary
    assert {"rare", "text"} <= set(counts.vocabulary)


def test_few_characters_of_each_text_are_read_where_there_are_very_many(monkeypatch):
    monkeypatch.setattr(terms, "_ALL_TEXTS", 400)
    monkeypatch.setattr(terms, "_SHORTEST_CUT", 10)
    found = table(counted([f"{row} {'a ' * 50} b" for row in range(4)], [0] * 4))
    assert "a" in found
    assert "b" not in found


def test_words_that_are_equally_frequent_in_all_topics_have_no_score():
    counts = counted([f"the {word} {row}" for word in ("card", "bank") for row in range(10)], [0] * 10 + [1] * 10)
    scores, contrasts = scores_of(counts.counts, counts.n_texts)
    column = counts.vocabulary.index("the")
    assert_allclose(scores[:, [column]].toarray(), 0)
    assert_allclose(contrasts[:, [column]].toarray(), 0)
    card = counts.vocabulary.index("card")
    assert scores[0, card] > 0
    assert scores[1, card] == 0


def test_a_large_topic_does_not_hide_the_words_of_a_small_one():
    texts = (
        [f"fee {row}" for row in range(1000)]
        + [f"pin {row}" for row in range(20)]
        + [f"app {row}" for row in range(20)]
    )
    counts = counted(texts, [0] * 1000 + [1] * 20 + [2] * 20)
    scores, _ = scores_of(counts.counts, counts.n_texts)
    assert scores[1, counts.vocabulary.index("pin")] == pytest.approx(scores[2, counts.vocabulary.index("app")])
    assert scores[0].argmax() == counts.vocabulary.index("fee")
