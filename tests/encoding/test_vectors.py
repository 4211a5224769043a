"""Reading vectors: recognized beside texts, and read as VectorArray reads them (tests/frames/test_vectors.py)."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from skembed import VectorArray
from skembed.encoding.vectors import holds_vectors, read_vectors

TEXTS = [None, "a", "b", "a"]
ROWS = [None, [1.0, 2.0], [3.0, 4.0]]
ARRAYS = [None, np.array([1.0, 2.0]), np.array([3.0, 4.0])]
NAN = float("nan")
FIXED = pa.list_(pa.float32(), 2)
TENSOR = pa.fixed_shape_tensor(pa.float32(), [2])


def object_array(values) -> np.ndarray:
    """Return an array with one value per element."""
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = value
    return array


OF_TEXTS = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "object array": np.array(TEXTS, dtype=object),
    "(n, 1) object array": np.array(TEXTS, dtype=object)[:, None],
    "(n, 2) object array": np.array([["a", "b"]], dtype=object),
    "<U array": np.array(TEXTS[1:]),
    "(n, 1) <U array": np.array(TEXTS[1:])[:, None],
    "list of numpy strings": [np.str_("a")],
    "Series of object": pd.Series(TEXTS, dtype=object),
    "Series of str": pd.Series(TEXTS, dtype="str"),
    "Series of string[python]": pd.Series(TEXTS, dtype="string[python]"),
    "Series of string[pyarrow]": pd.Series(TEXTS, dtype="string[pyarrow]"),
    "Series of arrow strings": pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "Series of category": pd.Series(TEXTS, dtype="category"),
    "Index": pd.Index(TEXTS, dtype=object),
    "CategoricalIndex": pd.CategoricalIndex(TEXTS),
    "string extension array": pd.array(TEXTS, dtype="string"),
    "DataFrame": pd.DataFrame({"text": TEXTS}),
    "DataFrame of category": pd.DataFrame({"text": TEXTS}, dtype="category"),
    "DataFrame of text and number": pd.DataFrame({"text": ["a"], "x": [1.0]}),
    "pyarrow array": pa.array(TEXTS),
    "pyarrow chunks": pa.chunked_array([TEXTS[:2], TEXTS[2:]]),
    "pyarrow dictionaries": pa.array(TEXTS).dictionary_encode(),
    "pyarrow table": pa.table({"text": TEXTS}),
    "pyarrow batch": pa.record_batch({"text": TEXTS}),
    "polars String": pl.Series(TEXTS),
    "polars Categorical": pl.Series(TEXTS, dtype=pl.Categorical),
    "polars frame": pl.DataFrame({"text": TEXTS}),
}
OF_VECTORS = {
    "list of lists": ROWS,
    "list of tuples": [(1, 2)],
    "tuple of arrays": tuple(ARRAYS),
    "list of Series": [None, pd.Series([1.0, 2.0])],
    "object array of lists": object_array(ROWS),
    "matrix of float": np.ones((2, 3)),
    "matrix of int": np.ones((2, 3), dtype=np.int8),
    "matrix of unsigned": np.ones((2, 3), dtype=np.uint8),
    "masked matrix": np.ma.masked_invalid([[1.0, NAN]]),
    "Series of lists": pd.Series(ROWS, dtype=object),
    "Series of arrays": pd.Series(ARRAYS, dtype=object),
    "vector column": pd.Series(VectorArray(ROWS)),
    "VectorArray": VectorArray(ROWS),
    "Series of arrow lists": pd.Series(pa.array(ROWS), dtype=pd.ArrowDtype(pa.list_(pa.float64()))),
    "Series of arrow lists of fixed size": pd.Series(pa.array(ROWS, FIXED), dtype=pd.ArrowDtype(FIXED)),
    "DataFrame of numbers": pd.DataFrame({"x": [1.0, 2.0], "y": [1, 2]}),
    "DataFrame of one column of numbers": pd.DataFrame({"x": [1.0, 2.0]}),
    "DataFrame of nullable numbers": pd.DataFrame({"x": [1.0, None]}, dtype="Float64"),
    "DataFrame of a repeated name": pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]),
    "DataFrame of lists": pd.DataFrame({"v": ROWS}),
    "DataFrame of one vector column": pd.DataFrame({"v": VectorArray(ROWS)}),
    "pyarrow lists": pa.array(ROWS),
    "pyarrow lists of fixed size": pa.array(ROWS, FIXED),
    "pyarrow chunks": pa.chunked_array([ROWS[:1], ROWS[1:]], FIXED),
    "pyarrow tensors": pa.ExtensionArray.from_storage(TENSOR, pa.array(ROWS, FIXED)),
    "polars List": pl.Series(ROWS, dtype=pl.List(pl.Float32)),
    "polars Array": pl.Series(ROWS, dtype=pl.Array(pl.Float32, 2)),
}
NEITHER = {
    "numbers": [1.0, 2.0],
    "an array of numbers": np.array([1.0, 2.0]),
    "a Series of numbers": pd.Series([1.0, 2.0]),
    "bytes": [b"ab"],
    "truth values": pd.DataFrame({"x": [True]}),
    "a matrix of truth values": np.ones((2, 2), dtype=bool),
    "complex numbers": np.ones((2, 2), dtype=complex),
    "a str": "text",
    "None": None,
    "an int": 5,
}


@pytest.mark.parametrize("kind", OF_TEXTS)
def test_texts_are_not_vectors(kind):
    assert holds_vectors(OF_TEXTS[kind]) is False


@pytest.mark.parametrize("kind", OF_VECTORS)
def test_vectors_are_recognized_by_their_type_or_the_first_that_is_present(kind):
    assert holds_vectors(OF_VECTORS[kind]) is True


@pytest.mark.parametrize("kind", NEITHER)
def test_a_value_that_is_neither_is_left_to_the_texts_to_refuse(kind):
    assert holds_vectors(NEITHER[kind]) is False


@pytest.mark.parametrize("missing", [None, NAN, np.float32("nan"), pd.NA, pd.NaT, Decimal("sNaN")], ids=repr)
@pytest.mark.parametrize(("value", "is_vector"), [("a", False), ([1.0], True), (np.ones(2), True)], ids=repr)
def test_missing_values_before_the_first_are_passed_over(missing, value, is_vector):
    assert holds_vectors([missing] * 3 + [value]) is is_vector
    assert holds_vectors(pd.Series([missing] * 3 + [value], dtype=object)) is is_vector


@pytest.mark.parametrize(
    "column",
    [
        [],
        (),
        [None, NAN, pd.NA],
        np.array([], dtype=object),
        np.array([None], dtype=object),
        pd.Series([], dtype=object),
        pd.Series([NAN, NAN]),
        pd.Series([None], dtype="str"),
        pd.Series([], dtype="category"),
        pd.DataFrame({"text": []}, dtype=object),
        pd.DataFrame({"text": [None]}),
        pa.array([], pa.string()),
        pa.array([None], pa.string()),
        pl.Series([], dtype=pl.String),
        pl.Series([None], dtype=pl.String),
    ],
    ids=lambda column: f"{type(column).__name__}-{len(column)}-{getattr(column, 'type', getattr(column, 'dtype', ''))}",
)
def test_a_column_without_values_or_a_type_of_vectors_is_one_of_texts(column):
    assert holds_vectors(column) is False


@pytest.mark.parametrize("n_rows", [0, 1], ids=["empty", "all missing"])
@pytest.mark.parametrize(
    "kind",
    [
        "vector column",
        "VectorArray",
        "DataFrame of one vector column",
        "DataFrame of numbers",
        "matrix of float",
        "pyarrow lists of fixed size",
        "pyarrow chunks",
        "pyarrow tensors",
        "Series of arrow lists of fixed size",
    ],
)
def test_a_column_without_values_is_recognized_by_a_type_with_dimensions(kind, n_rows):
    assert holds_vectors(OF_VECTORS[kind][:n_rows]) is True  # the first row of most is missing


@pytest.mark.parametrize("kind", ["list of lists", "masked matrix", "DataFrame of numbers", "pyarrow tensors"])
def test_vectors_are_read_as_a_vector_column_reads_them(kind):
    matrix = read_vectors(OF_VECTORS[kind])
    assert matrix.dtype == np.float32
    assert_array_equal(matrix, VectorArray(OF_VECTORS[kind]).to_numpy("float32"))


@pytest.mark.parametrize("kind", sorted(OF_VECTORS.keys() - {"list of Series"}))
def test_a_wrong_length_is_an_error(kind):
    with pytest.raises(ValueError, match=r"dimensions, not 7\."):
        read_vectors(OF_VECTORS[kind], dim=7)


@pytest.mark.parametrize("wrap", [np.asarray, VectorArray], ids=["matrix", "VectorArray"])
def test_a_float32_matrix_is_read_without_a_copy(wrap):
    matrix = np.ones((2, 3), dtype=np.float32)
    assert np.shares_memory(read_vectors(wrap(matrix)), matrix)
