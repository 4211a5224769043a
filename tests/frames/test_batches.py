"""BatchEmbedder: batches of any kind come back with vectors, and copies travel light."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

import skembed
from skembed import BatchEmbedder
from skembed.encoding.models import registry

TEXTS = ["a fox", "a parcel", None, "a fox"]


@pytest.fixture
def embedder(tiny) -> BatchEmbedder:
    return BatchEmbedder("text", model=tiny)


@pytest.fixture
def expected(tiny):
    return skembed.embed(TEXTS, model=tiny, missing="nan")


KINDS = {
    "pandas": lambda texts: pd.DataFrame({"text": texts, "n": range(len(texts))}),
    "table": lambda texts: pa.table({"text": pa.array(texts), "n": range(len(texts))}),
    "record batch": lambda texts: pa.record_batch({"text": pa.array(texts), "n": pa.array(range(len(texts)))}),
    "dict": lambda texts: {"text": np.array(texts, dtype=object), "n": np.arange(len(texts))},
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def matrix_of(batch):
    vectors = batch["vector"]
    return vectors if isinstance(vectors, np.ndarray) else skembed.VectorArray(vectors).to_numpy("float32")


def columns_of(batch):
    return list(batch.schema.names if hasattr(batch, "schema") else batch)


class TestPandas:
    """A DataFrame gets a vector column."""

    @pytest.mark.parametrize("index", [range(4), list("abca"), pd.MultiIndex.from_product([[1, 2], [1, 1]])], ids=str)
    def test_rows_and_index_stay_as_they_are(self, embedder, expected, index):
        df = pd.DataFrame({"text": TEXTS, "n": [1, 2, 3, 4]}, index=index)
        made = embedder(df)
        assert made["vector"].dtype == "vector[float32, 32]"
        assert_array_equal(matrix_of(made), expected)
        assert_frame_equal(made[["text", "n"]], df)
        assert df.columns.tolist() == ["text", "n"]

    @pytest.mark.parametrize("dtype", ["object", "string", "category"])
    def test_text_of_any_type_is_read(self, embedder, expected, dtype):
        made = embedder(pd.DataFrame({"text": pd.Series(TEXTS, dtype=dtype)}))
        assert_array_equal(matrix_of(made), expected)

    def test_the_vectors_name_their_model(self, embedder):
        note = embedder.transformer._model_note()
        assert embedder(KINDS["pandas"](TEXTS))["vector"].array.model == note


class TestArrow:
    """A Table or RecordBatch gets lists of a fixed number of float32."""

    @pytest.mark.parametrize("kind", ["table", "record batch"])
    def test_its_type_stays_and_a_column_is_added(self, embedder, expected, kind):
        batch = KINDS[kind](TEXTS)
        made = embedder(batch)
        assert type(made) is type(batch)
        assert made.schema.field("vector").type == pa.list_(pa.float32(), 32)
        assert made.column("vector").null_count == 1
        assert_array_equal(matrix_of(made), expected)
        assert made.select(["text", "n"]).equals(batch)

    def test_a_table_of_several_chunks_is_read_to_the_end(self, embedder, expected):
        table = pa.concat_tables([KINDS["table"](TEXTS)] * 2)
        assert_array_equal(matrix_of(embedder(table)), np.concatenate([expected, expected]))

    def test_a_column_of_nulls_has_no_vectors(self, embedder):
        assert embedder(pa.table({"text": pa.nulls(3)}))["vector"].null_count == 3


class TestDict:
    """A dict of arrays gets a float32 matrix."""

    def test_it_gets_a_matrix(self, embedder, expected):
        batch = KINDS["dict"](TEXTS)
        made = embedder(batch)
        assert list(made) == ["text", "n", "vector"]
        assert list(batch) == ["text", "n"]
        assert made["vector"].dtype == np.float32
        assert_array_equal(made["vector"], expected)

    def test_fixed_width_text_is_read(self, embedder, tiny):
        texts = np.array(["a fox", "a parcel"])
        assert_array_equal(embedder({"text": texts})["vector"], skembed.embed(texts, model=tiny))


class TestAnyBatch:
    """What is the same whatever a batch is."""

    @every_kind
    def test_a_batch_without_rows_gets_its_column(self, embedder, make):
        made = embedder(make([]))
        assert columns_of(made) == ["text", "n", "vector"]
        assert len(made["vector"]) == 0

    @every_kind
    def test_the_vectors_get_the_given_name(self, tiny, make):
        made = BatchEmbedder("text", vector_column="v", model=tiny)(make(TEXTS))
        assert columns_of(made) == ["text", "n", "v"]

    @every_kind
    def test_parameters_are_those_of_the_transformer(self, tiny, make):
        params = {"pooling": "cls", "truncate_dim": 5, "missing": "zero"}
        made = BatchEmbedder("text", model=tiny, **params)(make(TEXTS))
        assert_array_equal(matrix_of(made), skembed.embed(TEXTS, model=tiny, **params))

    @every_kind
    def test_a_repeated_text_is_encoded_once_per_batch(self, embedder, counted, make):
        for _ in range(2):
            embedder(make(TEXTS))
        assert sorted(counted) == ["a fox", "a fox", "a parcel", "a parcel"]

    @every_kind
    def test_a_missing_column_is_an_error_that_lists_the_columns(self, tiny, make):
        with pytest.raises(KeyError, match=r"The batch has no column 'review'; its columns are 'text', 'n'\."):
            BatchEmbedder("review", model=tiny)(make(TEXTS))

    @every_kind
    def test_a_vector_column_whose_name_is_taken_is_an_error(self, tiny, make):
        with pytest.raises(ValueError, match=r"has a column 'n' already; give another vector_column"):
            BatchEmbedder("text", vector_column="n", model=tiny)(make(TEXTS))

    @every_kind
    def test_a_missing_text_is_an_error_if_asked_for(self, tiny, make):
        with pytest.raises(ValueError, match=r"column 'text'\[2\].* is missing"):
            BatchEmbedder("text", model=tiny, missing="error")(make(TEXTS))

    @every_kind
    def test_a_column_that_is_not_text_is_named_with_a_position(self, tiny, make):
        with pytest.raises(TypeError, match=r"column 'n'\[0\].* is int, not str"):
            BatchEmbedder("n", model=tiny)(make(TEXTS))

    @pytest.mark.parametrize("make", [KINDS["pandas"], KINDS["dict"]], ids=["pandas", "dict"])
    def test_a_value_that_is_not_a_text_is_named_by_column_and_position(self, embedder, make):
        with pytest.raises(TypeError, match=r"column 'text'\[1\].* is int, not str"):
            embedder(make(["a fox", 3]))

    @pytest.mark.parametrize("batch", [None, "a fox", ["a fox"], np.array(["a fox"]), pd.Series(["a fox"])], ids=repr)
    def test_another_type_than_a_batch_is_an_error(self, embedder, batch):
        with pytest.raises(TypeError, match=r"The batch is a \w+; it must be a DataFrame of pandas, a Table"):
            embedder(batch)

    @every_kind
    def test_a_truncation_warning_points_to_the_caller(self, embedder, make):
        with pytest.warns(skembed.TruncationWarning) as caught:
            embedder(make(["the quick brown fox " * 60]))
        assert [warning.filename for warning in caught] == [__file__]


class TestTravel:
    """Copies take no weights along, and share those that they find."""

    def test_a_pickle_holds_no_weights_even_after_use(self, embedder):
        for _ in range(2):
            assert len(pickle.dumps(embedder)) < 2000
            embedder(KINDS["dict"](TEXTS))

    @every_kind
    def test_a_copy_gives_the_same_vectors(self, embedder, expected, make):
        assert_array_equal(matrix_of(pickle.loads(pickle.dumps(embedder))(make(TEXTS))), expected)

    def test_no_model_is_loaded_before_the_first_batch_and_then_one_for_all_copies(self, tiny):
        skembed.unload_models()
        copies = [pickle.loads(pickle.dumps(BatchEmbedder("text", model=tiny))) for _ in range(3)]
        assert len(registry._loaded) == 0
        for copy in copies:
            copy(KINDS["dict"](TEXTS))
        assert len(registry._loaded) == 1

    def test_no_vector_is_kept_in_the_cache_of_the_process(self, embedder, tiny, counted):
        embedder(KINDS["dict"](TEXTS))
        skembed.embed(["a fox"], model=tiny)
        assert counted.count("a fox") == 2

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"poolin": "cls"}, TypeError, "poolin"),
            ({"pooling": "best"}, ValueError, "pooling must be"),
            ({"missing": "drop"}, ValueError, "missing must be"),
            ({"batch_tokens": 0}, ValueError, "batch_tokens must be"),
        ],
        ids=str,
    )
    def test_wrong_parameters_are_refused_before_there_is_a_batch(self, params, error, message):
        with pytest.raises(error, match=message):
            BatchEmbedder("text", **params)
