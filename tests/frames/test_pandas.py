"""df.text, series.text and series.embed: they embed text, and never get in the way of a column or a row."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from packaging.version import Version
from pandas.testing import assert_frame_equal, assert_series_equal
from sklearn.cluster import KMeans
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import skembed
from skembed.encoding.settings import Settings
from skembed.frames import pandas as accessors
from skembed.frames.pandas import TextColumn, TextFrame

IS_PANDAS_3 = Version(pd.__version__) >= Version("3")
TEXT_DTYPES = [
    object,
    "string",
    "string[pyarrow]",
    pd.ArrowDtype(pa.string()),
    pd.ArrowDtype(pa.large_string()),
    "category",
    "str",
]
TEXTS = ["a fox", "a parcel", None, "a fox"]


def matrix_of(column) -> np.ndarray:
    return np.asarray(column, dtype=np.float32)


def text_series(dtype, name="review") -> pd.Series:
    if dtype == "str" and not IS_PANDAS_3:
        return pd.Series(TEXTS, name=name)  # "str" makes the text "None" there
    return pd.Series(TEXTS, name=name).astype(dtype)


@pytest.fixture
def df(tiny) -> pd.DataFrame:
    return pd.DataFrame({"review": ["good", "bad", "good"], "stars": [5, 1, 4]}, index=["r1", "r2", "r3"])


@pytest.fixture(autouse=True)
def _tiny_by_default(tiny, monkeypatch):
    """What is embedded without a word about the model is embedded by a tiny one."""
    from skembed.transformer import SentenceEmbeddingTransformer

    original = SentenceEmbeddingTransformer.__init__
    monkeypatch.setattr(
        SentenceEmbeddingTransformer,
        "__init__",
        lambda self, model=tiny, **params: original(self, model, **params),
    )
    monkeypatch.setattr(Settings.__init__, "__defaults__", (tiny, *Settings.__init__.__defaults__[1:]))


class TestEmbedding:
    @pytest.mark.parametrize("dtype", TEXT_DTYPES, ids=str)
    def test_every_dtype_of_text_gives_the_vectors_of_its_texts(self, dtype):
        column = text_series(dtype)
        expected = skembed.embed(["a fox", "a parcel"])[[0, 1, 0, 0]]
        expected[2] = np.nan
        for embedded in (column.embed(), column.text.embed(), column.to_frame().text.embed()):
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

    @pytest.mark.skipif(not IS_PANDAS_3, reason="pd.col is new in pandas 3")
    def test_column_expressions_work(self, df):
        made = df.assign(v=pd.col("review").embed(output="vector"), w=pd.col("review").text.embed(output="vector"))
        assert_series_equal(made["v"], made["w"], check_names=False)
        assert made["v"].dtype == "vector[float32, 32]"


class TestWhichColumn:
    def test_with_a_column_called_text_it_is_that_column(self, df):
        df = df.rename(columns={"review": "text"})
        assert type(df.text) is pd.Series
        assert df.text.embed().columns[0] == "text_0"

    def test_the_only_text_column_is_meant(self, df):
        assert df.text.embed().columns[0] == "review_0"

    @pytest.mark.parametrize(
        "other", [pd.Categorical(["x", "y", "x"]), [[1.0], [2.0], [3.0]], [1, 2.5, None], [None] * 3]
    )
    def test_categories_and_objects_that_are_no_texts_do_not_count_beside_text(self, df, other):
        df["other"] = pd.Series(other, index=df.index, dtype=getattr(other, "dtype", object))
        assert df.text.embed().columns[0] == "review_0"

    def test_a_column_with_some_texts_counts_so_that_one_bad_cell_chooses_no_other(self, df):
        df["title"] = pd.Series(["x", 3.5, "z"], index=df.index, dtype=object)
        with pytest.raises(ValueError, match="Several columns hold text: 'review', 'title'"):
            df.text.embed()

    def test_of_many_text_columns_ten_are_named(self):
        df = pd.DataFrame({f"c{number}": ["a"] for number in range(12)})
        with pytest.raises(ValueError, match=r"'c9', \.\.\.\. Say which"):
            df.text.embed()

    def test_categories_of_arrow_count_as_text(self):
        texts = pd.Series(pd.arrays.ArrowExtensionArray(pa.array(["a", "b"]).dictionary_encode()))
        assert texts.to_frame("review").text.embed().shape == (2, 32)
        numbers = pd.Series(pd.arrays.ArrowExtensionArray(pa.array([1, 2]).dictionary_encode()))
        assert not hasattr(numbers, "embed")

    @pytest.mark.parametrize("kind", ["list_view", "binary_view", "month_day_nano_interval"])
    def test_columns_of_arrow_that_pandas_has_no_class_for_are_left_alone(self, kind, df):
        arrow = pa.list_view(pa.string()) if kind == "list_view" else getattr(pa, kind)()
        column = pd.Series(pd.arrays.ArrowExtensionArray(pa.nulls(len(df), arrow)), index=df.index)
        assert not hasattr(column, "text")
        assert not hasattr(column, "embed")
        assert not hasattr(column.to_frame("other"), "text")
        assert df.assign(other=column).text.embed().columns[0] == "review_0"

    @pytest.mark.parametrize("is_encoded", [False, True])
    def test_strings_of_arrow_count_as_text_whatever_their_layout(self, is_encoded):
        arrow = pa.array(["a", "b"], type=pa.string_view())
        if is_encoded:
            arrow = pa.DictionaryArray.from_arrays(pa.array([0, 1]), arrow)
        texts = pd.Series(pd.arrays.ArrowExtensionArray(arrow))
        expected = skembed.embed(["a", "b"])
        assert_array_equal(texts.text.embed(), expected)
        assert_array_equal(texts.embed(), expected)
        assert_array_equal(texts.to_frame("review").text.embed(), expected)

    def test_vectors_do_not_count(self, df):
        df["v"] = df["review"].embed(output="vector")
        assert df.text.embed().columns[0] == "review_0"

    def test_categories_of_text_count_if_there_is_nothing_else(self, df):
        df["review"] = df["review"].astype("category")
        assert df.text.embed().columns[0] == "review_0"

    def test_several_text_columns_are_an_error_that_names_them(self, df):
        df["title"] = ["x", "y", "z"]
        with pytest.raises(
            ValueError, match=r"Several columns hold text: 'review', 'title'\. Say which, e\.g\. on='review'"
        ):
            df.text.embed()
        assert df.text.embed(on="title").columns[0] == "title_0"
        assert df.text.embed("title").columns[0] == "title_0"
        assert df.text["title"].embed().columns[0] == "title_0"

    def test_an_unknown_column_is_an_error_that_names_those_with_text(self, df):
        for call in (lambda: df.text.embed(on="nope"), lambda: df.text["nope"]):
            with pytest.raises(KeyError, match="There is no column 'nope'; columns with text: 'review'"):
                call()

    def test_an_accessor_that_outlives_the_only_text_column_says_so(self, df):
        accessor = df.text
        del df["review"]
        with pytest.raises(ValueError, match="No column holds text"):
            accessor.embed()

    def test_a_column_of_numbers_is_an_error(self, df):
        with pytest.raises(TypeError, match="Column 'stars' is int64, not text; columns with text: 'review'"):
            df.text.embed(on="stars")

    def test_a_column_of_vectors_is_an_error(self, df):
        df["v"] = df["review"].embed(output="vector")
        with pytest.raises(TypeError, match=r"Column 'v' is vector\[float32, 32\], not text"):
            df.text.embed(on="v")

    @pytest.mark.parametrize("on", [["review"], {"review"}, lambda df: df.index == "r1"])
    def test_what_is_no_label_is_an_error(self, df, on):
        with pytest.raises(ValueError, match="is no label of a column"):
            df.text.embed(on=on)

    def test_two_columns_of_one_name_are_an_error(self):
        df = pd.DataFrame([["a", "b"]], columns=["review", "review"])
        with pytest.raises(ValueError, match="'review' stands for 2 columns"):
            df.text.embed(on="review")
        with pytest.raises(ValueError, match="Several columns hold text: 'review', 'review'"):
            df.text.embed()

    def test_doubled_names_of_other_columns_do_no_harm(self):
        df = pd.DataFrame([["a", 1, 2]], columns=["review", "n", "n"])
        assert df.text.embed().shape == (1, 32)

    def test_on_is_refused_for_a_single_column(self, df):
        with pytest.raises(TypeError, match=r"on='title': this is one column already, 'review'.*df\['title'\]\.embed"):
            df["review"].embed(on="title")


class TestBadInput:
    def test_a_value_that_is_no_text_is_named_by_column_position_and_label(self):
        column = pd.Series(["good", 3.5], index=["r1", "r2"], name="review", dtype=object)
        with pytest.raises(TypeError, match=r"column 'review'\[1\] \(index label 'r2'\) is float, not str"):
            column.embed()
        with pytest.raises(TypeError, match=r"series\[1\] \(index label 'r2'\)"):
            column.rename(None).embed()

    def test_a_column_of_lists_is_named(self):
        with pytest.raises(TypeError, match=r"column 'words'\[0\] \(index label 0\) is list"):
            pd.DataFrame({"words": [["a", "b"]]}).text.embed()

    def test_a_frame_without_text_has_no_accessor_and_says_why(self):
        df = pd.DataFrame({"a": [1.0], "b": [2]})
        assert not hasattr(df, "text")
        with pytest.raises(AttributeError, match=r"no attribute 'text': none of its columns holds text \('a', 'b'\)"):
            df.text.embed()
        with pytest.raises(AttributeError, match="it has no columns"):
            pd.DataFrame().text.embed()

    def test_a_column_of_numbers_has_no_accessor_and_says_why(self):
        column = pd.Series([1.0])
        assert not hasattr(column, "text")
        assert not hasattr(column, "embed")
        with pytest.raises(AttributeError, match="its values are float64, not text"):
            column.embed()

    def test_an_unknown_output_is_refused(self, df):
        with pytest.raises(ValueError, match="output must be 'frame' or 'vector' or 'numpy'; got 'list'"):
            df.text.embed(output="list")

    def test_an_unknown_parameter_is_refused(self, df):
        with pytest.raises(TypeError, match=r"^text\.embed\(\) got .* 'poolin'; it takes on, output, .*pooling"):
            df.text.embed(poolin="cls")
        with pytest.raises(TypeError, match=r"^text\.embed\(\) got .* 'poolin'; it takes output, .*pooling"):
            df["review"].text.embed(poolin="cls")


@pytest.mark.parametrize("dtype", TEXT_DTYPES, ids=str)
def test_a_column_called_text_is_read_and_written_as_without_skembed(dtype):
    df = pd.DataFrame({"text": text_series(dtype), "n": [1, 2, 3, 4]})
    assert type(df.text) is pd.Series
    assert df.text.str.upper()[0] == "A FOX"
    assert (df.text == "a fox").tolist()[::3] == [True, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        df.text = ["p", "q", "r", "s"]
    assert df["text"].tolist() == df.text.tolist() == ["p", "q", "r", "s"]
    assert df.columns.tolist() == ["text", "n"]
    assert "text" not in df.__dict__


class TestDeference:
    @pytest.fixture
    def rows(self):
        return pd.DataFrame({"text": ["Hi", "Yo"], "embed": [1, 2], "n": [0, 1]})

    def test_rows_with_labels_of_these_names_keep_them(self, rows):
        assert [row.text for _, row in rows.iterrows()] == ["Hi", "Yo"]
        assert [row.embed for _, row in rows.iterrows()] == [1, 2]
        assert rows.apply(lambda row: row.text.lower(), axis=1).tolist() == ["hi", "yo"]
        assert rows.apply(lambda row: row.embed + 1, axis=1).tolist() == [2, 3]
        assert [row.text for row in rows.itertuples()] == ["Hi", "Yo"]

    def test_a_row_is_written_as_without_skembed(self, rows):
        row = rows.iloc[0].copy()
        row.text = "new"
        assert row["text"] == "new"
        del row["text"]
        assert isinstance(row.text, TextColumn)

    def test_queries_and_groups_see_the_column(self, rows):
        assert rows.query("text == 'Hi'").shape[0] == 1
        assert rows.groupby("n").text.first().tolist() == ["Hi", "Yo"]
        assert rows.embed.tolist() == [1, 2]

    def test_a_row_label_in_several_levels_counts(self):
        column = pd.Series(["a", "b"], index=pd.MultiIndex.from_tuples([("text", 1), ("other", 2)]))
        assert column.text.tolist() == ["a"]
        assert skembed.embed(column).shape == (2, 32)

    def test_an_accessor_is_never_stale(self, df):
        before = df.text
        assert isinstance(before, TextFrame)
        df["text"] = ["u", "v", "w"]
        assert df.text.tolist() == ["u", "v", "w"]
        df.loc["r1", "text"] = "changed"
        assert df.text.tolist() == ["changed", "v", "w"]
        del df["text"]
        assert isinstance(df.text, TextFrame)
        assert df.rename(columns={"review": "text"}).text.tolist() == ["good", "bad", "good"]

    def test_embeddings_follow_a_changed_column(self):
        column = pd.Series(["short", "b"])
        before = column.embed(output="numpy")
        column.iloc[0] = "a parcel"
        assert_array_equal(column.embed(output="numpy"), skembed.embed(["a parcel", "b"]))
        assert (column.embed(output="numpy")[0] != before[0]).any()

    def test_copies_slices_and_pickles_have_accessors_of_their_own(self, df):
        for other in (df.copy(), df[:2], df.iloc[::-1], copy.deepcopy(df), pickle.loads(pickle.dumps(df))):
            assert other.text.embed().index.equals(other.index)
        assert pickle.loads(pickle.dumps(df.text)).embed().shape == (3, 32)

    def test_no_reference_cycle_keeps_data_alive(self):
        gc.disable()
        try:
            for make in (lambda: pd.DataFrame({"review": ["a"]}), lambda: pd.Series(["a"])):
                made = make()
                watched = weakref.ref(made)
                made.text  # noqa: B018
                del made
                assert watched() is None
        finally:
            gc.enable()

    def test_doubled_and_levelled_columns_called_text_stay_what_they_are(self):
        doubled = pd.DataFrame([["a", "b"]], columns=["text", "text"])
        levelled = pd.DataFrame([["a", 1]], columns=pd.MultiIndex.from_tuples([("text", "x"), ("n", "y")]))
        assert isinstance(doubled.text, pd.DataFrame)
        assert isinstance(levelled.text, pd.DataFrame)
        assert isinstance(pd.DataFrame([["a", "b"]]).text, TextFrame)

    def test_setting_the_attribute_without_a_column_warns_once_as_pandas_does(self):
        for df in (pd.DataFrame({"a": ["s", "t"]}), pd.DataFrame({"a": [1, 2]})):
            with pytest.warns(UserWarning, match="columns to be created via a new attribute name") as caught:
                df.text = ["x", "y"]
            assert [warning.filename for warning in caught] == [__file__]
            assert df.text == ["x", "y"]
            assert df.columns.tolist() == ["a"]
            del df.text
            assert getattr(df, "text", None) != ["x", "y"]

    def test_setting_an_attribute_that_is_no_list_does_not_warn(self):
        df, column = pd.DataFrame({"a": ["s"]}), pd.Series(["s"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            df.text = "plain"
            df.text = ["again", "and", "again"]
            column.embed = 3
        assert (df.text, column.embed) == (["again", "and", "again"], 3)

    def test_deleting_what_is_not_there_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="text"):
            del pd.DataFrame({"a": ["s"]}).text

    def test_dir_and_the_class_show_the_accessors(self):
        assert "text" in dir(pd.DataFrame({"review": ["a"]}))
        assert {"text", "embed"} <= set(dir(pd.Series(["a"])))
        assert pd.DataFrame.text is TextFrame

    def test_taken_from_the_class_it_is_a_function_of_a_series(self, df):
        assert df["review"].pipe(pd.Series.embed, truncate_dim=2).shape == (3, 2)
        assert pd.Series.embed(df["review"], output="vector").dtype == "vector[float32, 32]"
        assert pd.Series.embed.__doc__ == TextColumn.embed.__doc__

    def test_the_accessor_is_no_sequence(self, df):
        with pytest.raises(TypeError, match="not iterable"):
            list(df.text)

    def test_subclasses_have_them_too(self):
        class Sub(pd.DataFrame):
            @property
            def _constructor(self):
                return Sub

        assert isinstance(Sub({"text": ["a"]}).text, pd.Series)
        assert isinstance(Sub({"review": ["a"]}).text, TextFrame)

    def test_what_a_subclass_has_under_these_names_stays(self):
        class WithMetadata(pd.DataFrame):
            _metadata = ["text"]  # noqa: RUF012 - as pandas documents it

            @property
            def _constructor(self):
                return WithMetadata

        class Dynamic(pd.DataFrame):
            def __getattr__(self, name):
                return "dynamic" if name == "text" else super().__getattr__(name)

        described = WithMetadata({"a": ["x", "y"]})
        assert getattr(described, "text", "default") == "default"
        described.text = ["kept", "through", "copies"]
        for made in (described.copy(), described[described.a == "x"], copy.deepcopy(described)):
            assert made.text == ["kept", "through", "copies"]
        assert Dynamic({"a": ["x"]}).text == "dynamic"

    def test_chained_assignment_does_what_it_does_with_brackets(self):
        def outcome(assign):
            df = pd.DataFrame({"text": ["a", "b"]})
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")
                assign(df)
            return df["text"].tolist()

        def by_attribute(df):
            df.text[0] = "Z"

        def by_brackets(df):
            df["text"][0] = "Z"

        assert outcome(by_attribute) == outcome(by_brackets)

    def test_looking_for_an_attribute_reads_no_data_and_hashes_no_index(self):
        column = pd.Series(["a", "b"], index=[10, 20])
        column.text  # noqa: B018
        assert not column.index._engine.is_mapping_populated


class TestRegistration:
    def test_registering_again_is_quiet(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            accessors.register()
        assert pd.DataFrame.text is TextFrame

    def test_an_accessor_of_somebody_else_stays(self, monkeypatch):
        other = object()
        monkeypatch.setattr(pd.Series, "embed", other)
        with pytest.warns(UserWarning, match=r"pandas.Series.embed is <object .* skembed leaves it as it is"):
            accessors.register()
        assert pd.Series.embed is other

    def test_one_that_is_registered_later_takes_over_with_pandas_own_warning(self, monkeypatch):
        monkeypatch.setattr(pd.Series, "embed", pd.Series.__dict__["embed"])  # put back at the end
        monkeypatch.setattr(pd.Series, "_accessors", set(pd.Series._accessors))

        class Other:
            def __init__(self, column):
                pass

        with pytest.warns(UserWarning, match="registration of accessor"):
            pd.api.extensions.register_series_accessor("embed")(Other)
        assert isinstance(pd.Series(["a"]).embed, Other)


def test_a_round_trip_through_the_frame_and_the_vector_column_agree(df):
    wide, narrow = df.text.embed(), df.text.embed(output="vector")
    assert_frame_equal(wide, pd.DataFrame(matrix_of(narrow), index=df.index, columns=wide.columns))
