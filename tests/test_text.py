"""The verbs as functions: for columns of any kind, what the methods of series.text give."""

from __future__ import annotations

import inspect

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

import skembed
from skembed import VectorArray
from skembed.frames.pandas import TextColumn

TEXTS = ["a quick fox", "the wrong address", None, "a quick fox", "an update of the app"]
OTHER = ["the fox", "an address", "log in"]
CALLS = {
    "similarity": {"other": "a fox"},
    "search": {"query": "a fox", "k": 2},
    "join": {"other": OTHER, "k": 2},
    "duplicates": {"threshold": 0.5},
    "cluster": {"n_clusters": 2},
    "passages": {"max_tokens": 5, "overlap": 0},
}
COLUMNS = {"list": list, "tuple": tuple, "array": lambda texts: pd.array(texts), "pyarrow": pa.array}
VECTORS = ["matrix", "vector column", "lists", "frame"]
each_verb = pytest.mark.parametrize("verb", CALLS)


@pytest.fixture
def expected(tiny):
    return lambda verb: getattr(pd.Series(TEXTS).text, verb)(**CALLS[verb], model=tiny)


@each_verb
@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_a_column_of_any_kind_gives_a_frame_with_positions_for_labels(verb, make, expected, tiny):
    assert_frame_equal(getattr(skembed.text, verb)(make(TEXTS), **CALLS[verb], model=tiny), expected(verb))


@each_verb
def test_a_column_of_pandas_keeps_its_index(verb, tiny):
    column = pd.Series(TEXTS, index=list("abcde"))
    made = getattr(skembed.text, verb)(column, **CALLS[verb], model=tiny)
    assert_frame_equal(made, getattr(column.text, verb)(**CALLS[verb], model=tiny))


@each_verb
def test_a_column_of_polars_gives_a_frame_of_polars_whose_first_column_is_the_row(verb, expected, tiny):
    made = getattr(skembed.text, verb)(pl.Series("review", TEXTS), **CALLS[verb], model=tiny)
    wanted = expected(verb)
    assert isinstance(made, pl.DataFrame)
    assert made.columns == ["row", *wanted]
    assert made["row"].to_list() == wanted.index.tolist()
    for name in wanted:
        missing = wanted[name].isna()
        assert made[name].is_null().to_list() == missing.tolist() or made[name].is_nan().to_list() == missing.tolist()
        assert made[name].drop_nulls().drop_nans().to_list() == wanted[name][~missing].tolist()


@pytest.mark.parametrize("verb", ["similarity", "search", "join", "duplicates", "cluster"])
@pytest.mark.parametrize("make", [lambda v: v, VectorArray, lambda v: v.tolist(), pd.DataFrame], ids=VECTORS)
def test_a_column_of_vectors_is_one_as_well(verb, make, tiny):
    vectors = skembed.embed(TEXTS[:2] + TEXTS[3:], model=tiny)
    asked = {"other": vectors, "query": vectors[0], "k": 2}
    call = {name: asked.get(name, value) for name, value in CALLS[verb].items()}
    made = getattr(skembed.text, verb)(make(vectors), **call)
    assert_frame_equal(made, getattr(pd.Series(VectorArray(vectors)).text, verb)(**call))


@each_verb
def test_it_takes_what_the_method_takes(verb):
    method = list(inspect.signature(getattr(TextColumn, verb)).parameters.values())[1:]
    function = list(inspect.signature(getattr(skembed.text, verb)).parameters.values())
    assert function[0].name == "column"
    assert [(one.name, one.kind, one.default) for one in function[1:]] == [
        (one.name, one.kind, one.default) for one in method
    ]


@each_verb
def test_its_documentation_is_that_of_the_method_with_the_column(verb):
    said = inspect.getdoc(getattr(skembed.text, verb))
    assert f"\ncolumn : column of texts{' or of vectors' * (verb != 'passages')}\n" in said
    assert "the column's index" not in said


def test_what_is_no_text_is_named_by_its_position():
    with pytest.raises(TypeError, match=r"column\[1\] is int, not str"):
        skembed.text.search(["a fox", 3], "fox")


def test_it_is_not_among_the_names_that_a_star_imports():
    assert "text" not in skembed.__all__
