"""Names: terms that tell topics apart, without repetition, and names made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.clustering import words
from skembed.clustering.names import make_names, name_with, top_terms
from skembed.clustering.terms import count_terms

ENGLISH = {
    "card": [
        "I lost my credit card in Paris",
        "where is my new credit card?",
        "My credit card was stolen",
        "the machine has eaten the credit card",
        "Credit cards are not accepted here",
        "How do I get a second credit card?",
    ],
    "PIN": [
        "How do I change my PIN?",
        "can I change the PIN at an ATM?",
        "My PIN is blocked",
        "I have forgotten the PIN",
        "the PIN was entered wrong three times",
        "Where do I find my PIN?",
    ],
    "exchange": [
        "How much is the exchange rate today?",
        "the exchange rate for dollars is wrong",
        "I want to change dollars to euros",
        "What are your exchange rates?",
        "is my exchange rate better than theirs?",
        "Where do I get dollars?",
    ],
}
GERMAN = {
    "Karte": [
        "Wo bleibt meine neue Karte?",
        "Die Karte wurde mir gestohlen",
        "Bitte sperren Sie meine Karten",
        "Der Automat hat die Karte eingezogen",
        "Ich habe meine Karte verloren",
        "Wann kommt die Karte an?",
    ],
    "Wechselkurs": [
        "Wie ist heute der Wechselkurs?",
        "Der Wechselkurs war falsch",
        "Welche Wechselkurse gelten am Sonntag?",
        "Ich habe Dollar zu einem schlechten Wechselkurs getauscht",
        "Wer legt den Wechselkurs fest?",
        "Wann ändert sich der Wechselkurs?",
    ],
    "Konto": [
        "Wie eröffne ich ein Konto?",
        "Bitte löschen Sie mein Konto",
        "Welche Konten gibt es für Kinder?",
        "Ich kann mein Konto nicht öffnen",
        "Wann ist das Konto wieder frei?",
        "Ist mein Konto gesperrt?",
    ],
}
CHINESE = {
    "信用卡": ["我的信用卡丢了怎么办", "信用卡被盗了", "如何申请新的信用卡", "信用卡还没有寄到", "我想取消信用卡"],
    "汇率": ["今天的汇率是多少", "美元汇率怎么算", "汇率错了请检查", "现在汇率好吗", "我想知道欧元汇率"],
    "包裹": ["我的包裹在哪里", "包裹还没有送到", "我想改包裹的地址", "包裹坏了怎么退货", "今天有包裹吗"],
}
LANGUAGES = pytest.mark.parametrize("topics", [ENGLISH, GERMAN, CHINESE], ids=["English", "German", "Chinese"])


def terms_of(topics, n_terms=8):
    """Return the terms of lists of texts, each a topic."""
    texts = [text for found in topics for text in found]
    topic_of = np.repeat(np.arange(len(topics)), [len(found) for found in topics])
    ones = np.ones(len(texts))
    return top_terms(count_terms(texts, ones, topic_of, ones, len(topics)), n_terms)


@LANGUAGES
def test_what_a_topic_is_about_is_its_first_term(topics):
    for word, terms in zip(topics, terms_of(topics.values()), strict=True):
        assert word.casefold() in terms[0].casefold()


@LANGUAGES
def test_no_word_of_a_topic_is_repeated_in_any_form(topics):
    for terms in terms_of(topics.values(), 20):
        found = [[words.key_of(token) for token in words.tokens_of(term, 100)] for term in terms]
        for number, term in enumerate(found):
            assert not any(
                words.are_variants(one, other) for before in found[:number] for one in term for other in before
            )


@LANGUAGES
def test_words_of_all_topics_are_in_no_name(topics):
    names = make_names(terms_of(topics.values()))
    assert not {"the", "my", "i", "is", "ich", "wann"} & set(", ".join(names).casefold().replace(",", "").split())


@LANGUAGES
def test_names_are_short(topics):
    assert all(2 <= len(name) <= 35 for name in make_names(terms_of(topics.values())))


def test_a_word_of_every_topic_names_none_however_frequent_it_is():
    topics = [[f"the card {word} {row}" for row in range(20)] for word in ("lost", "stolen", "expired")]
    assert make_names(terms_of(topics)) == ["lost", "stolen", "expired"]


def test_a_pair_stands_in_place_of_its_words():
    fillers = ["soon", "today", "there", "again", "please", "yesterday", "now", "abroad"]
    topics = [[f"{word} the {pair} {word}" for word in fillers] for pair in ("credit card", "exchange rate")]
    assert terms_of(topics) == [["credit card"], ["exchange rate"]]


def test_a_pair_with_a_word_of_all_topics_does_not_stand_in_place_of_the_other():
    fillers = ["soon", "today", "there", "again", "please", "yesterday", "now", "abroad"]
    topics = [[f"{word} my {thing}" for word in fillers] for thing in ("card", "phone", "salary")]
    assert terms_of(topics) == [["card"], ["phone"], ["salary"]]


def test_a_word_of_all_topics_belongs_to_the_word_that_stands_behind_no_other():
    fillers = ["soon", "today", "there", "again", "please", "yesterday", "now", "abroad"]
    new_york = [f"{word} in New York" for word in fillers]
    others = [
        [f"a {new} {thing} {word}" for word in fillers for new in ("new", "old", "good", "lost")]
        for thing in ("card", "phone")
    ]
    assert terms_of([new_york, *others])[0][0] == "New York"


def test_words_written_together_are_one_term():
    topics = [[f"{word} my {thing}" for word in ("is", "on", "in", "of", "at")] for thing in ("e-mail", "Wi-Fi", "fax")]
    assert terms_of(topics) == [["e-mail"], ["Wi-Fi"], ["fax"]]


def test_one_topic_has_words_of_content_before_short_ones():
    texts = [text for found in ENGLISH.values() for text in found]
    assert {"exchange rate", "credit card"} & set(terms_of([texts])[0][:2])


def test_one_text_names_its_topic():
    assert terms_of([["Where is my card?"]], 2) == [["Where", "card"]]


@pytest.mark.parametrize("texts", [["?!", "..."], [""], ["12345678"]])
def test_topics_without_words_have_numbers(texts):
    assert terms_of([["lost card"], texts])[1] == []
    assert make_names([["lost", "card"], []]) == ["lost, card", "topic 1"]


def test_a_text_of_a_million_characters_does_not_name_its_topic():
    topics = [[*ENGLISH["card"], "spam " * 200_000], ENGLISH["PIN"], ENGLISH["exchange"]]
    assert "spam" not in terms_of(topics, 2)[0]


def test_names_have_two_or_three_terms():
    assert make_names([["card", "PIN", "lost", "found"]]) == ["card, PIN, lost"]
    assert make_names([["exchange rate", "foreign currency", "dollars"]]) == ["exchange rate, foreign currency"]


def test_topics_with_the_same_first_terms_get_further_ones():
    assert make_names([["fee", "card", "cash", "ATM"], ["card", "fee", "cash", "extra"]]) == [
        "fee, card, cash",
        "card, fee, cash, extra",
    ]


def test_topics_with_the_same_terms_are_numbered():
    assert make_names([["fee"], ["Fee"], ["fee"]]) == ["fee", "Fee (2)", "fee (3)"]


@given(st.lists(st.lists(st.sampled_from(["fee", "Fee", "card", "topic 1", "fee (2)"]), max_size=4), max_size=8))
def test_names_are_distinct_whatever_the_terms(terms):
    names = make_names(terms)
    assert len({name.casefold() for name in names}) == len(terms)
    assert all(names)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.text(max_size=30), max_size=5), min_size=1, max_size=4))
def test_every_text_is_named(topics):
    seen: set[str] = set()
    distinct = [[text for text in found if not (text in seen or seen.add(text))] for found in topics]
    names = make_names(terms_of(distinct))
    assert len(set(names)) == len(topics)


def test_a_namer_gets_terms_and_examples():
    names = name_with(lambda terms, examples: f" {terms[0]}: {examples[-1]} ", [["fee"], ["PIN"]], [["a", "b"], ["c"]])
    assert names == ["fee: b", "PIN: c"]


def test_a_namer_may_change_what_it_gets():
    terms, examples = [["fee"]], [["a"]]
    name_with(lambda found, texts: found.pop() + texts.pop(), terms, examples)
    assert (terms, examples) == ([["fee"]], [["a"]])


def test_equal_names_of_a_namer_are_numbered():
    names = name_with(lambda terms, examples: terms[0], [["a"], ["A"], ["a (2)"], ["a"]], [[]] * 4)
    assert names == ["a", "A (3)", "a (2)", "a (4)"]


@pytest.mark.parametrize("name", [None, 3, b"fee", ["fee"]])
def test_a_name_that_is_no_string_is_refused(name):
    with pytest.raises(TypeError, match=r"namer must return a str, but for topic 1 it returned"):
        name_with(lambda terms, examples: "good" if terms else name, [["a"], []], [[], []])


@pytest.mark.parametrize("name", ["", "  \n"])
def test_an_empty_name_is_refused(name):
    with pytest.raises(ValueError, match=r"empty name for topic 0"):
        name_with(lambda terms, examples: name, [["a"]], [[]])


def test_errors_of_a_namer_pass_through():
    with pytest.raises(ZeroDivisionError):
        name_with(lambda terms, examples: str(1 // 0), [["a"]], [[]])
