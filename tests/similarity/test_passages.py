"""Passages: between words, no longer than asked, counted as the model counts, and together the whole text."""

from __future__ import annotations

import re
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skembed.similarity.passages import UNSPACED_RUN

KINDS = ["bert", "roberta", "decoder", "gpt2", "gemma", "static", "router"]
every_kind = pytest.mark.parametrize("kind", KINDS)

PIECES = st.one_of(
    st.sampled_from(["the", " ", " fox", "\n\n", "a parcel", "\0", "x" * 40, "e\u0301", "北京的", "今日は。", "ไทย", "カタカナ"]),
    st.sampled_from(["🦊", "👩‍👩‍👧", "👍🏽", "🇩🇪", "\u200b", "[SEP]", "<s>", "café", "don't", "http://a.b/c", " \u3000 ", "ﷺ"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


def passages(text, kind, **params) -> pd.DataFrame:
    return pd.Series([text]).text.passages(**params, model=kind)


@pytest.fixture(scope="module")
def count(model_folder, reference):
    """``count(text, kind)``: tokens by the model's own tokenizer, special ones included."""

    def tokens(text, kind):
        tokenizer = reference(kind).tokenizer
        if kind == "static":
            return len(tokenizer.encode(text, add_special_tokens=False))
        return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    return tokens


@every_kind
@settings(max_examples=200, deadline=None)
@given(text=TEXTS, max_tokens=st.integers(22, 24), overlap=st.integers(0, 5), prompt=st.sampled_from(["", "q: "]))
def test_all_holds(model_folder, count, kind, text, max_tokens, overlap, prompt):
    params = {"model": model_folder(kind), "prompt": prompt}
    found = pd.Series([text]).text.passages(max_tokens, 0, **params)
    assert "".join(found["text"]) == text
    found = pd.Series([text]).text.passages(max_tokens, overlap, **params)
    assert [count(prompt + part, kind) for part in found["text"]] == found["n_tokens"].tolist()
    assert found["n_tokens"].max() <= max_tokens
    assert [text[start:end] for start, end in zip(found["start"], found["end"])] == found["text"].tolist()
    assert found["start"].iloc[0] == 0 and found["end"].iloc[-1] == len(text)
    for (_, one), (_, other) in pairwise(found.iterrows()):
        assert one["start"] < other["start"] <= one["end"] < other["end"]
        assert count(prompt + text[other["start"]:one["end"]], kind) - count(prompt, kind) <= overlap
        for at in {other["start"], one["end"]}:
            word = re.search(r"\S*$", text[:at])[0] + re.match(r"\S*", text[at:])[0]
            is_between = text[at - 1].isspace() or text[at].isspace() or UNSPACED_RUN.search(text[at - 1 : at + 1])
            assert is_between or UNSPACED_RUN.search(word) or (at == one["end"] and count(prompt + word, kind) > max_tokens)
