"""Words: what of a text is a word, how a word is shown, and which words are forms of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skembed.clustering import words

SPACE = "\u2060"


def keys(text: str, longest: int = 10_000) -> list[str]:
    """Return the words of a text; "" where two do not belong together."""
    return [words.key_of(token) for token in words.tokens_of(text, longest)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't know the bank\u2019s rules", ["i", "don't", "know", "the", "bank", "rules"]),
        ("l'avion d\u2019Air France, qu'elle", ["avion", "air", "france", "", "elle"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("Wi-Fi e-mail top-up", ["wi", "fi", "e", "mail", "top", "up"]),
        ("C++, C# and F#", ["c++", "", "c#", "and", "f#"]),
        ("the U.S. stock, z.B. hier", ["the", "u.s.", "stock", "", "z.b.", "hier"]),
        ("Windows 7 in 2004, 123456789", ["windows", "7", "in", "2004", "", ""]),
        ("first line\nsecond\tline", ["first", "line", "second", "line"]),
        ("user_id and __init__", ["user", "id", "and", "init"]),
        ("good 😀 bad", ["good", "", "bad"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Kredit\u00adkarte und re\u0301sume\u0301", ["kreditkarte", "und", "résumé"]),
        ("", []),
        ("?!", ["", ""]),
    ],
)
def test_a_text_is_split_into_its_words(text, expected):
    assert keys(text) == expected


@pytest.mark.parametrize(
    "noise",
    [
        "https://example.com/a_b?c=1",
        "www.example.com",
        "me@example.com",
        "<br/>",
        '<a href="page">',
        "pub/pc/win3/file.zip",
        "mail.example.com",
        "3.11.2",
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w",
    ],
)
def test_addresses_tags_paths_and_data_are_no_words_and_separate_words(noise):
    assert [key for key in keys(f"left {noise} right") if key] == ["left", "right"]
    assert "" in keys(f"left {noise} right")


@pytest.mark.parametrize("text", ["R&amp;B", "R&B", "R&amp; B"])
def test_entities_are_read(text):
    assert [key for key in keys(text) if key] == ["r", "b"]


@pytest.mark.parametrize("text", ["he said #39;yes#39; quot;now quot;", "he said &#39;yes&#39; &quot;now&quot;"])
def test_entities_that_lost_their_first_sign_are_read(text):
    assert [key for key in keys(text) if key] == ["he", "said", "yes", "now"]


def test_line_breaks_that_were_escaped_end_a_line():
    assert keys("one\\nTwo\\r\\nThree") == ["one", "", "two", "", "", "three"]


def test_words_written_together_keep_the_joint():
    assert words.tokens_of("Wi-Fi at AT&T", 100) == ["Wi-", "Fi", "at", "AT&", "T"]
    assert words.joined("Wi-", "Fi") == "Wi-Fi"
    assert words.joined("AT&", "T") == "AT&T"
    assert words.joined("credit", "card") == "credit card"
    assert words.joined("bank's", "rules") == "bank rules"
    assert words.joined("U.S.", "stock") == "U.S. stock"


@pytest.mark.parametrize(
    ("run", "pieces", "pair"),
    [
        ("信用卡", [f"信用{SPACE}", "用卡"], "信用卡"),
        ("卡", ["卡"], None),
        ("バスの中", [f"バス{SPACE}", "の中"], "バスの中"),
        ("クレジットカード", ["クレジットカード"], None),
        ("บัตร", [f"บัต{SPACE}", "ตร"], "บัตร"),
    ],
)
def test_scripts_without_spaces_become_pairs_of_characters_that_join_again(run, pieces, pair):
    assert words.tokens_of(run, 100) == pieces
    if pair:
        assert words.joined(*pieces) == pair


def test_latin_words_inside_chinese_are_words():
    assert keys("我用iPhone付款") == ["我用", "iphone", "付款"]


def test_only_the_beginning_of_a_long_text_is_read():
    assert keys("word " * 10_000, 50) == ["word"] * 10


@pytest.mark.parametrize("sign", ["x", "信", "a.b/", "@", "<", "a@", "foo-", "a'", "&lt;", "\\n", "ก็", "http://", "U."])
def test_a_million_characters_of_any_kind_are_read(sign):
    assert len(words.tokens_of(sign * (1_000_000 // len(sign)), 10_000)) <= 10_000


@given(st.text())
def test_every_text_is_read_and_every_word_is_shown_as_it_stands_there(text):
    for token in words.tokens_of(text, 1000):
        assert token
        if words.key_of(token):
            assert words.shown(token).casefold() == words.key_of(token)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("card", "Cards"),
        ("fee", "fees"),
        ("city", "cities"),
        ("work", "working"),
        ("ride", "riding"),
        ("verify", "verified"),
        ("exchange", "exchanging"),
        ("top-up", "topup"),
        ("Karte", "Karten"),
        ("Buch", "Bücher"),
        ("Konto", "Konten"),
        ("Straße", "STRASSE"),
        ("信用", "用卡"),
        ("信用卡", "信用"),
    ],
)
def test_forms_of_one_word_are_variants(one, other):
    assert words.are_variants(one, other)
    assert words.are_variants(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("car", "card"), ("transfer", "transit"), ("fee", "feel"), ("bank", "Banner"), ("信用卡", "银行卡"), ("C", "C++")],
)
def test_other_words_are_no_variants(one, other):
    assert not words.are_variants(one, other)
    assert not words.are_variants(other, one)


@pytest.mark.parametrize(("key", "expected"), [("a", False), ("42", False), ("4g", True), ("in", True), ("信用", True)])
def test_numbers_and_single_letters_are_no_terms(key, expected):
    assert words.is_term(key) is expected


def test_short_words_in_small_letters_weigh_less():
    weights = [words.weight_of_length(word, 4) for word in ("in", "the", "card", "currency")]
    assert weights == sorted(weights)
    assert weights[0] < weights[1] < weights[2] == 1
    assert {words.weight_of_length(word, 4) for word in ("US", "信用", "카드", "3D")} == {1.0}
