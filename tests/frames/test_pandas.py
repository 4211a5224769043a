"""df.text.embed, series.text.embed and series.embed: what comes out, and how it is documented."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from numpydoc.docscrape import FunctionDoc
from packaging.version import Version
from pandas.testing import assert_frame_equal, assert_series_equal
from sklearn.cluster import KMeans
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import skembed
from skembed.frames.pandas import TextColumn, TextFrame

pytestmark = pytest.mark.usefixtures("tiny_by_default")


def matrix_of(column) -> np.ndarray:
    return np.asarray(column, dtype=np.float32)


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"review": ["good", "bad", "good"], "stars": [5, 1, 4]}, index=["r1", "r2", "r3"])


class TestEmbedding:
    def test_every_dtype_of_text_gives_the_vectors_of_its_texts(self, text_column):
        expected = skembed.embed(["a fox", "a parcel"])[[0, 1, 0, 0]]
        expected[2] = np.nan
        for embedded in (text_column.embed(), text_column.text.embed(), text_column.to_frame().text.embed()):
            assert_array_equal(embedded.to_numpy(), expected)

    def test_a_frame_has_the_index_and_a_float32_column_for_each_dimension(self, df):
        embedded = df.text.embed()
        assert embedded.index.equals(df.index)
        assert embedded.columns.tolist() == [f"review_{number}" for number in range(32)]
        assert set(embedded.dtypes) == {np.dtype("float32")}

    def test_a_frame_is_the_matrix_without_a_copy(self, df, monkeypatch):
        from skembed.transformer import SentenceEmbeddingTransformer

        matrix = np.arange(96, dtype=np.float32).reshape(3, 32)
        monkeypatch.setattr(SentenceEmbeddingTransformer, "_embed_texts", lambda *args, **params: matrix)
        embedded = df.text.embed()
        assert np.shares_memory(embedded.to_numpy(), matrix)
        assert embedded.to_numpy().flags.c_contiguous
        assert np.shares_memory(matrix_of(df["review"].embed(output="vector")), matrix)
        assert df["review"].embed(output="numpy") is matrix

    def test_a_column_without_a_name_makes_columns_called_text(self):
        assert pd.Series(["a"]).embed(truncate_dim=2).columns.tolist() == ["text_0", "text_1"]

    def test_a_column_of_several_levels_makes_columns_of_as_many(self):
        df = pd.DataFrame([["good", 1]], columns=pd.MultiIndex.from_tuples([("said", "review"), ("given", "stars")]))
        joined = df.join(df.text.embed(on=("said", "review"), truncate_dim=2))
        assert joined.columns.tolist()[2:] == [("said", "review_0"), ("said", "review_1")]

    def test_the_names_of_column_levels_are_kept(self, df):
        named = df.rename_axis(columns="what")
        assert named.join(named.text.embed()).columns.names == ["what"]

    def test_vectors_are_one_column_with_index_and_name(self, df):
        column = df["review"].embed(output="vector")
        assert (column.dtype, column.name) == ("vector[float32, 32]", "review")
        assert column.index.equals(df.index)
        assert_array_equal(matrix_of(column), df["review"].embed(output="numpy"))

    def test_numpy_is_what_embed_gives(self, df):
        assert_array_equal(df.text.embed(output="numpy"), skembed.embed(["good", "bad", "good"]))

    def test_parameters_of_the_transformer_are_passed_on(self, df):
        embedded = df.text.embed(pooling="cls", truncate_dim=3, normalize_embeddings=False, output="numpy")
        assert_array_equal(
            embedded, skembed.embed(df["review"], pooling="cls", truncate_dim=3, normalize_embeddings=False)
        )

    def test_missing_texts_are_nan_in_a_frame_and_missing_in_a_vector_column(self):
        column = pd.Series(["good", None, np.nan, pd.NA], dtype=object)
        assert column.embed().isna().all(axis=1).tolist() == [False, True, True, True]
        assert column.embed(output="vector").isna().tolist() == [False, True, True, True]
        assert column.embed(output="vector")[1] is pd.NA

    def test_missing_texts_become_what_the_user_says(self):
        column = pd.Series(["good", None])
        assert (column.embed(missing="zero", output="numpy")[1] == 0).all()
        assert_array_equal(column.embed(missing="empty", output="numpy")[1], skembed.embed([""])[0])
        with pytest.raises(ValueError, match="missing"):
            column.embed(missing="error")

    def test_each_text_is_encoded_once(self, counted):
        pd.Series(["one", "two", "one", "two", "one"]).embed()
        assert sorted(counted) == ["one", "two"]

    def test_of_categories_only_those_in_use_are_encoded(self, counted):
        column = pd.Series(pd.Categorical(["one", "two", "one"], categories=["zero", "one", "two", "three"]))
        column.embed()
        assert sorted(counted) == ["one", "two"]

    @pytest.mark.parametrize(
        "index",
        [
            pd.Index(["a", "a", "b"]),
            pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)]),
            pd.DatetimeIndex(["2026-01-01", "2026-01-01", "2026-01-03"]),
            pd.RangeIndex(5, 8),
            pd.CategoricalIndex(["u", "v", "u"]),
        ],
        ids=lambda index: type(index).__name__,
    )
    def test_any_index_is_kept(self, df, index):
        df = df.set_axis(index)
        assert df.text.embed().index.equals(index)
        df["v"] = df["review"].embed(output="vector")
        assert_array_equal(matrix_of(df["v"]), df["review"].embed(output="numpy"))
        joined = pd.concat([df, df.text.embed(on="review")], axis=1)
        assert joined.shape == (3, 35)

    def test_the_frame_goes_straight_into_an_estimator_and_a_join(self, df):
        assert len(KMeans(2, n_init=1).fit_predict(df.text.embed())) == 3
        assert df.join(df.text.embed()).shape == (3, 34)

    def test_the_matrix_of_a_vector_column_goes_into_estimators(self, df):
        nine = pd.concat([df, df, df]).assign(v=lambda frame: frame["review"].embed(output="vector"))
        assert len(KMeans(2, n_init=1).fit_predict(matrix_of(nine["v"]))) == 9
        assert cross_val_score(KNeighborsClassifier(1), matrix_of(nine["v"]), nine["stars"] > 2, cv=3).mean() == 1

    @pytest.mark.parametrize("output", ["frame", "vector", "numpy"])
    def test_no_rows_give_no_rows(self, df, output):
        embedded = df[:0].text.embed(output=output)
        assert len(embedded) == 0
        assert matrix_of(embedded).shape == (0, 32)

    def test_a_column_without_any_text_is_all_missing(self):
        assert pd.Series([None, None], dtype=object).embed(output="vector").isna().all()

    def test_a_truncation_warning_points_to_the_caller(self, df):
        df["review"] = "the quick brown fox " * 60
        for call in (
            lambda: df.text.embed(),
            lambda: df["review"].embed(),
            lambda: df["review"].text.embed(),
            lambda: df.text["review"].embed(),
        ):
            with pytest.warns(skembed.TruncationWarning, match="3 of 3") as caught:
                call()
            assert [warning.filename for warning in caught] == [__file__]

    def test_groups_assign_and_pipe_work_as_for_any_method(self, df):
        by_group = df.groupby("stars")[["review"]].apply(lambda group: group.text.embed(truncate_dim=2))
        assert by_group.shape == (3, 2)
        assert df.assign(v=lambda frame: frame.text.embed(output="vector"))["v"].notna().all()
        assert df.pipe(lambda frame: frame.text.embed()).shape == (3, 32)

    @pytest.mark.skipif(Version(pd.__version__) < Version("3"), reason="pd.col is new in pandas 3")
    def test_column_expressions_work(self, df):
        made = df.assign(v=pd.col("review").embed(output="vector"), w=pd.col("review").text.embed(output="vector"))
        assert_series_equal(made["v"], made["w"], check_names=False)
        assert made["v"].dtype == "vector[float32, 32]"


class TestBadInput:
    def test_a_value_that_is_not_a_text_is_named_by_column_position_and_label(self):
        column = pd.Series(["good", 3.5], index=["r1", "r2"], name="review", dtype=object)
        with pytest.raises(TypeError, match=r"column 'review'\[1\] \(index label 'r2'\) is float, not str"):
            column.embed()
        with pytest.raises(TypeError, match=r"series\[1\] \(index label 'r2'\)"):
            column.rename(None).embed()

    def test_a_column_of_lists_is_named(self):
        with pytest.raises(TypeError, match=r"column 'words'\[0\] \(index label 0\) is list"):
            pd.DataFrame({"words": [["a", "b"]]}).text.embed()

    def test_an_unknown_output_is_refused(self, df):
        with pytest.raises(ValueError, match="output must be 'frame' or 'vector' or 'numpy'; got 'list'"):
            df.text.embed(output="list")

    def test_an_unknown_parameter_is_refused(self, df):
        with pytest.raises(TypeError, match=r"^text\.embed\(\) got .* 'poolin'; it takes on, output, .*pooling"):
            df.text.embed(poolin="cls")
        with pytest.raises(TypeError, match=r"^text\.embed\(\) got .* 'poolin'; it takes output, .*pooling"):
            df["review"].text.embed(poolin="cls")

    def test_on_is_refused_for_a_single_column(self, df):
        with pytest.raises(TypeError, match=r"on='title': this is one column already, 'review'.*df\['title'\]\.embed"):
            df["review"].embed(on="title")


def test_a_round_trip_through_the_frame_and_the_vector_column_agree(df):
    wide, narrow = df.text.embed(), df.text.embed(output="vector")
    assert_frame_equal(wide, pd.DataFrame(matrix_of(narrow), index=df.index, columns=wide.columns))


class TestDocumentation:
    @pytest.mark.parametrize("owner", [TextColumn, TextFrame])
    @pytest.mark.parametrize("verb", ["embed", "similarity", "search", "join", "duplicates", "cluster"])
    def test_a_docstring_has_the_parameters_of_the_signature_in_their_order(self, owner, verb):
        method = getattr(owner, verb)
        names = [f"**{name}" if name == "params" else name for name in inspect.signature(method).parameters]
        documented = FunctionDoc(method)
        assert [parameter.name for parameter in documented["Parameters"]] == names[1:]
        assert all(parameter.desc for parameter in documented["Parameters"])
        assert documented["Returns"]
        assert documented["Raises"]
        assert documented["Examples"]

    def test_a_frame_says_how_columns_are_chosen(self):
        documented = FunctionDoc(TextFrame.search)
        types = {parameter.name: parameter.type for parameter in documented["Parameters"]}
        assert types["on"] == "column label, default=None"
        assert types["vectors"].startswith("column label, column of vectors, ")
        assert "KeyError" in [error.type for error in documented["Raises"]]
