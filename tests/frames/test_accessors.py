"""df.text, series.text and series.embed never get in the way of a column, a row or an attribute."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import skembed
from skembed.frames.pandas import TextColumn, TextFrame, register

pytestmark = pytest.mark.usefixtures("tiny_by_default")


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"review": ["good", "bad", "good"], "stars": [5, 1, 4]}, index=["r1", "r2", "r3"])


def test_a_column_called_text_is_read_and_written_as_without_skembed(text_column):
    df = pd.DataFrame({"text": text_column, "n": [1, 2, 3, 4]})
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

    def test_a_column_named_text_comes_first(self, df):
        df = df.rename(columns={"review": "text"})
        assert type(df.text) is pd.Series
        assert df.text.embed().columns[0] == "text_0"

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

    def test_setting_an_attribute_that_is_not_a_list_does_not_warn(self):
        df, column = pd.DataFrame({"a": ["s"]}), pd.Series(["s"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            df.text = "plain"
            df.text = ["again", "and", "again"]
            column.embed = 3
        assert (df.text, column.embed) == (["again", "and", "again"], 3)

    def test_deleting_a_missing_attribute_is_an_attribute_error(self):
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

    def test_the_accessor_is_not_a_sequence(self, df):
        with pytest.raises(TypeError, match="not iterable"):
            list(df.text)

    def test_subclasses_have_the_accessors_too(self):
        class Sub(pd.DataFrame):
            @property
            def _constructor(self):
                return Sub

        assert isinstance(Sub({"text": ["a"]}).text, pd.Series)
        assert isinstance(Sub({"review": ["a"]}).text, TextFrame)

    def test_attributes_of_a_subclass_with_these_names_stay(self):
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


class TestWithoutText:
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


class TestRegistration:
    def test_registering_again_is_quiet(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            register()
        assert pd.DataFrame.text is TextFrame

    def test_an_accessor_of_somebody_else_stays(self, monkeypatch):
        other = object()
        monkeypatch.setattr(pd.Series, "embed", other)
        with pytest.warns(UserWarning, match=r"pandas.Series.embed is <object .* skembed leaves it as it is"):
            register()
        assert pd.Series.embed is other

    def test_an_accessor_registered_later_takes_over_with_pandas_own_warning(self, monkeypatch):
        monkeypatch.setattr(pd.Series, "embed", pd.Series.__dict__["embed"])  # put back at the end
        monkeypatch.setattr(pd.Series, "_accessors", set(pd.Series._accessors))

        class Other:
            def __init__(self, column):
                pass

        with pytest.warns(UserWarning, match="registration of accessor"):
            pd.api.extensions.register_series_accessor("embed")(Other)
        assert isinstance(pd.Series(["a"]).embed, Other)
