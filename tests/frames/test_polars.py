"""pl.col(...).text.embed and series.text.embed: eager, lazy and streaming, over fixed-size arrays."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal

import skembed
import skembed.frames.polars as namespaces

TEXTS = ["a fox", "a parcel", None, "a fox"]


@pytest.fixture
def df() -> pl.DataFrame:
    return pl.DataFrame({"review": TEXTS, "n": [1, 2, 3, 4]})


@pytest.fixture
def expected(tiny):
    return [None if text is None else skembed.embed([text], model=tiny)[0].tolist() for text in TEXTS]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "run",
    [
        lambda df, made: df.select(made),
        lambda df, made: df.lazy().select(made).collect(),
        lambda df, made: df.lazy().select(made).collect(engine="streaming"),
    ],
    ids=["eager", "lazy", "streaming"],
)
def test_an_expression_embeds_and_keeps_its_name(df, tiny, expected, run):
    column = run(df, pl.col("review").text.embed(model=tiny))["review"]
    assert column.dtype == pl.Array(pl.Float32, 32)
    assert column.to_list() == expected


def test_the_type_is_known_before_the_query_runs(df, tiny):
    query = df.lazy().select(pl.col("review").text.embed(model=tiny, truncate_dim=5))
    assert query.collect_schema() == {"review": pl.Array(pl.Float32, 5)}


def test_a_series_embeds_and_keeps_its_name(df, tiny, expected):
    column = df["review"].text.embed(model=tiny)
    assert (column.name, column.dtype) == ("review", pl.Array(pl.Float32, 32))
    assert column.to_list() == expected


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["a fox", "a parcel"])], ids=str)
def test_every_type_of_text_is_embedded(df, tiny, expected, dtype):
    assert df["review"].cast(dtype).text.embed(model=tiny).to_list() == expected


def test_numpy_gets_the_matrix_without_a_copy(tiny, monkeypatch):
    from skembed.transformer import SentenceEmbeddingTransformer

    matrix = np.arange(64, dtype=np.float32).reshape(2, 32)
    monkeypatch.setattr(SentenceEmbeddingTransformer, "_embed_and_tag", lambda *args: (matrix, "a model"))
    column = pl.Series(["a", "b"]).text.embed(model=tiny)
    assert np.shares_memory(column.to_numpy(allow_copy=False), matrix)


def test_missing_texts_become_what_the_user_says(df, tiny):
    assert df["review"].text.embed(model=tiny).is_null().to_list() == [False, False, True, False]
    assert df["review"].text.embed(model=tiny, missing="zero")[2].to_list() == [0.0] * 32
    with pytest.raises(ValueError, match=r"column 'review'\[2\] is missing"):
        df["review"].text.embed(model=tiny, missing="error")


def test_no_rows_and_rows_without_text_have_the_type(df, tiny):
    for column in (df["review"][:0], pl.Series([None, None], dtype=pl.String), pl.Series([None])):
        made = column.text.embed(model=tiny)
        assert made.dtype == pl.Array(pl.Float32, 32)
        assert made.null_count() == len(column) == len(made)


def test_whatever_is_missing_becomes_null(tiny):
    made = pl.Series(["a fox", float("nan"), None], dtype=pl.Object).text.embed(model=tiny)
    assert made.is_null().to_list() == [False, True, True]


def test_each_text_is_encoded_once(df, tiny, counted):
    pl.concat([df] * 3).select(pl.col("review").text.embed(model=tiny))
    assert sorted(counted) == ["a fox", "a parcel"]


def test_groups_and_filters_treat_it_as_elementwise(df, tiny, expected):
    by_n = df.lazy().with_columns(v=pl.col("review").text.embed(model=tiny)).filter(pl.col("n") > 1).collect()
    assert by_n["v"].to_list() == expected[1:]
    firsts = df.group_by("n", maintain_order=True).agg(pl.col("review").text.embed(model=tiny).first())
    assert firsts["review"].to_list() == expected


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_value_that_is_not_a_text_is_an_error_that_names_column_and_position(df, tiny, engine):
    query = df.lazy().select(pl.col("n").text.embed(model=tiny))
    with pytest.raises(TypeError, match=r"column 'n'\[0\] is int, not str"):
        query.collect(engine=engine)
    with pytest.raises(TypeError, match=r"series\[0\] is int, not str"):
        pl.Series([1]).text.embed(model=tiny)


def test_wrong_parameters_are_refused_when_the_expression_is_made():
    with pytest.raises(
        TypeError, match=r"^text\.embed\(\) got an unexpected keyword argument 'poolin'; it takes .*pooling"
    ):
        pl.col("review").text.embed(poolin="cls")
    with pytest.raises(ValueError, match="pooling must be"):
        pl.col("review").text.embed(pooling="best")


def test_a_truncation_warning_points_to_the_caller(tiny):
    with pytest.warns(skembed.TruncationWarning) as caught:
        pl.Series(["the quick brown fox " * 60]).text.embed(model=tiny)
    assert [warning.filename for warning in caught] == [__file__]


def test_pandas_and_polars_hand_vectors_to_each_other(df, tiny, expected):
    import pandas as pd

    made = df.with_columns(v=pl.col("review").text.embed(model=tiny))
    column = pd.Series(skembed.VectorArray(made["v"].to_arrow()))
    assert column.isna().tolist() == [False, False, True, False]
    assert_array_equal(
        column.dropna().to_numpy("float32"), np.array([row for row in expected if row], dtype=np.float32)
    )
    assert_array_equal(skembed.VectorArray(made["v"]).isna(), column.isna())
    assert pl.from_pandas(column.to_frame("v"))["v"].to_list() == expected


@pytest.mark.slow
def test_skembed_registers_if_polars_is_imported_already():
    has = "print(hasattr(polars.Series, 'text'), hasattr(polars.Expr, 'text'))"
    assert run_python(f"import polars, skembed; {has}") == "True True"
    assert run_python(f"import skembed, polars, skembed.frames.polars; {has}") == "True True"
    assert run_python("import skembed, sys; print('polars' in sys.modules)") == "False"
    assert run_python("import sys; sys.modules['polars'] = None; import skembed; print('imported')") == "imported"


def test_registering_again_is_quiet(recwarn):
    namespaces.register()
    assert not recwarn


def test_a_namespace_of_somebody_else_stays(monkeypatch):
    other = object()
    monkeypatch.setattr(pl.Expr, "text", other)
    with pytest.warns(UserWarning, match=r"polars.Expr.text is <object .* skembed leaves it as it is"):
        namespaces.register()
    assert pl.Expr.text is other
