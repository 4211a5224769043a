"""Passages: cut between words, no longer than asked, counted as the model counts, and together the whole text."""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed import embed
from skembed.clustering.words import UNSPACED_RUN

KINDS = ["bert", "roberta", "decoder", "gpt2", "gemma", "static", "router"]  # the last two tokenize by themselves
every_kind = pytest.mark.parametrize("kind", KINDS)

WORDS = ["the", " fox", "a parcel", "don't", "http://a.b/c", "x" * 40, "café", "e\u0301", "[SEP]", "<s>", "ﷺ", "\0"]
SPACES = [" ", "\n\n", " \u3000 ", "\u200b", "\t" * 9]
UNSPACED = ["北京的", "今日は。", "ไทย", "カタカナ", "「東京」"]
EMOJI = ["🦊", "👩‍👩‍👧", "👍🏽", "🇩🇪"]
TEXTS = st.lists(
    st.sampled_from(WORDS + SPACES + UNSPACED + EMOJI) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    max_size=40,
).map("".join)
REVIEW = "The zip broke on day two. Great sound, though."


@pytest.fixture(scope="module")
def count(reference):
    """``count(kind, text)``: tokens by the model's own tokenizer, special ones included."""

    def count(kind, text) -> int:
        tokenizer = reference(kind).tokenizer
        if kind == "static":
            return len(tokenizer.encode(text, add_special_tokens=False))
        return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    return count


def passages_of(text, *arguments, **params) -> pd.DataFrame:
    return pd.Series([text]).text.passages(*arguments, **params)


def word_around(text, at) -> str:
    return re.search(r"\S*$", text[:at])[0] + re.match(r"\S*", text[at:])[0]


@pytest.mark.slow
@every_kind
@settings(max_examples=100, deadline=None)
@given(text=TEXTS, max_tokens=st.integers(22, 24), overlap=st.integers(0, 5), prompt=st.sampled_from(["", "q: "]))
def test_any_text_is_cut_as_promised(model_folder, count, kind, text, max_tokens, overlap, prompt):
    params, n_tokens = {"model": model_folder(kind), "prompt": prompt}, partial(count, kind)
    assert "".join(passages_of(text, max_tokens, 0, **params)["text"]) == text
    found = passages_of(text, max_tokens, overlap, **params)
    assert [text[start:end] for start, end in found[["start", "end"]].to_numpy()] == found["text"].tolist()
    assert [n_tokens(prompt + passage) for passage in found["text"]] == found["n_tokens"].tolist()
    assert found["n_tokens"].max() <= max_tokens
    assert (found["start"].iloc[0], found["end"].iloc[-1]) == (0, len(text))
    for one, other in pairwise(found.itertuples()):
        assert one.start < other.start <= one.end < other.end
        assert n_tokens(prompt + text[other.start : one.end]) - n_tokens(prompt) <= overlap
        for at in {other.start, one.end}:
            is_in_word = not (
                text[at - 1].isspace() or text[at].isspace() or UNSPACED_RUN.search(word_around(text, at))
            )
            assert not is_in_word or (at == one.end and n_tokens(prompt + word_around(text, at)) > max_tokens)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n" * 300,
        "fox",
        f"  {REVIEW}\n",
        "a\0b " * 40,
        "e\u0301 " * 40,
        "👩‍👩‍👧" * 20,
        "北京是中国的首都。" * 9,
        "x" * 99,
    ],
)
def test_without_overlap_passages_are_the_text(tiny, text):
    assert "".join(passages_of(text, 9, 0, model=tiny)["text"]) == text


def test_passages_overlap_by_whole_words(minilm_folder):
    found = passages_of(REVIEW, 9, 3, model=minilm_folder)
    assert found["text"].tolist() == ["The zip broke on day two. ", "day two. Great sound, ", "Great sound, though."]
    assert found["n_tokens"].tolist() == [9, 8, 7]


def test_the_prompt_takes_its_share(minilm_folder):
    found = passages_of(REVIEW, 12, 0, model=minilm_folder, prompt="passage: ")
    assert found["text"].tolist() == ["The zip broke on day two. Great ", "sound, though."]
    assert found["n_tokens"].tolist() == [12, 8]


def test_a_passage_is_embedded_without_being_truncated(tiny, recwarn):
    found = passages_of("the quick brown fox jumps over the lazy dog " * 40, 24, 6, model=tiny)
    assert found["n_tokens"].max() == 24
    embed(found["text"], model=tiny)
    assert not recwarn.list


def test_only_a_word_that_is_too_long_is_cut_inside(minilm_folder):
    found = passages_of("It was supercalifragilisticexpialidocious indeed.", 8, 0, model=minilm_folder)
    assert found["text"].tolist() == ["It was ", "supercalifragilistic", "expialidocious ", "indeed."]


def test_words_in_scripts_without_spaces_are_cut_between_tokens_but_not_before_punctuation(minilm_folder):
    found = passages_of("北京是中国的首都。上海是城市。", 10, 2, model=minilm_folder)
    assert found["text"].tolist() == ["北京是中国的首", "的首都。上海是城", "是城市。"]


def test_signs_that_belong_together_stay_together(model_folder):
    family = "👩‍👩‍👧"
    found = passages_of(family * 5, 24, 0, model=model_folder("gpt2"))["text"].tolist()
    assert set(found) == {family}


def test_each_passage_has_the_index_label_and_the_place_in_its_text(tiny):
    texts = pd.Series(["the quick fox", None, "", "the quick fox"], index=["a", "b", "c", "a"])
    found = texts.text.passages(6, 0, model=tiny)
    one = passages_of("the quick fox", 6, 0, model=tiny)
    assert found.index.tolist() == ["a"] * len(one) + ["c"] + ["a"] * len(one)
    assert found["start"].tolist() == [*one["start"], 0, *one["start"]]
    assert found.dtypes.iloc[1:].tolist() == [np.int64] * 3


@pytest.mark.parametrize("texts", [[], [None, None]], ids=["no rows", "no texts"])
def test_no_texts_have_no_passages(tiny, texts):
    found = pd.Series(texts, dtype=object).text.passages(9, 0, model=tiny)
    assert (len(found), found.columns.tolist()) == (0, ["text", "start", "end", "n_tokens"])


def test_a_frame_has_the_passages_of_its_column(tiny):
    frame = pd.DataFrame({"number": [1], "review": [REVIEW], "other": ["a fox"]}, index=["r1"])
    found = frame.text.passages(9, 0, on="review", model=tiny)
    pd.testing.assert_frame_equal(found, frame["review"].text.passages(9, 0, model=tiny))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_tokens": 25, "overlap": 0}, "max_tokens=25: the model reads 24 tokens of a text; choose at most 24."),
        ({"max_tokens": 20, "overlap": 0, "max_seq_length": 12}, "the model reads 12 tokens"),
        (
            {"max_tokens": 6, "overlap": 4},
            "no room for text beside overlap=4 and 2 special tokens; choose at least max_",
        ),
        (
            {"max_tokens": 7, "overlap": 4, "prompt": "fox "},
            "and 3 special tokens and those of the prompt; choose at l",
        ),
        ({"max_tokens": 0}, "max_tokens must be a positive integer; got 0"),
        ({"max_tokens": 9, "overlap": -1}, "overlap must be 0 or more; got -1"),
    ],
)
def test_tokens_that_leave_no_room_are_an_error(tiny, params, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        passages_of(REVIEW, **params, model=tiny)


def test_a_character_with_more_tokens_than_fit_is_an_error_that_names_it(model_folder):
    texts = pd.Series(["fox", "a 🦊"], index=["r1", "r2"], name="review")
    with pytest.raises(
        ValueError, match=r"column 'review'\[1\] \(index label 'r2'\) has at 2 the character '🦊', which "
    ):
        texts.text.passages(3, 0, model=model_folder("gpt2"))


def test_what_is_no_text_is_an_error(tiny):
    with pytest.raises(TypeError, match=r"\[1\].* is int, not str"):
        pd.Series(["a", 3]).text.passages(9, 0, model=tiny)


def test_other_keywords_are_an_error_that_lists_them(tiny):
    with pytest.raises(
        TypeError, match=r"text\.passages\(\) got an unexpected keyword argument 'size'; it takes max_tokens"
    ):
        passages_of(REVIEW, size=9)


@pytest.mark.parametrize(
    "text", ["the quick fox \u200b fox dog fox", "\u200b \u200b fox \u200b", "fox \x00 fox \x00 \x00 dog"]
)
def test_words_without_tokens_are_in_one_passage_each(text, tiny):
    passages = pd.Series([text]).text.passages(max_tokens=5, overlap=0, model=tiny)
    assert "".join(passages["text"]) == text
