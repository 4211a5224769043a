"""Embedders: columns of texts or of vectors to vectors of unit length."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skembed
from skembed import SentenceEmbeddingTransformer, VectorArray
from skembed.embedders import check_same_model, embed_column, model_tag, unit_vectors
from skembed.encoding.columns import read_column

TEXTS = ["a quick fox", "login", "a quick fox", "the wrong address"]
NAN = float("nan")

matrices = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1024, 1024, width=32).map(round)
)


def lengths_and_texts(texts) -> np.ndarray:
    return np.array([[len(text), text.count("a")] for text in texts])


@settings(deadline=None)
@given(matrices)
def test_vectors_get_length_one_and_keep_their_direction(matrix):
    unit = unit_vectors(matrix, None)
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    assert (unit.dtype, unit.shape) == (np.float32, matrix.shape)
    assert_allclose(unit * lengths, matrix, rtol=1e-5, atol=1e-5)
    assert_allclose(np.linalg.norm(unit, axis=1), (lengths != 0).ravel(), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-20, 1e20, 1e37])
def test_length_one_is_found_for_very_small_and_very_large_numbers(scale):
    assert_allclose(unit_vectors(np.array([[3.0, -4.0]]) * scale, None), [[0.6, -0.8]], rtol=1e-4)


def test_a_vector_of_zeros_stays_one():
    assert_array_equal(unit_vectors([[0.0, 0.0], [0.0, 3.0]], None), [[0, 0], [0, 1]])


@pytest.mark.parametrize(
    "column",
    [
        [[3.0, 4.0], None],
        np.array([[3, 4], [NAN, NAN]]),
        pd.Series(VectorArray([[3, 4], None])),
        pd.DataFrame({"x": [3.0, NAN], "y": [4.0, NAN]}),
    ],
    ids=["list", "matrix", "vector column", "frame"],
)
def test_a_missing_vector_is_a_row_of_nan(column):
    assert_allclose(unit_vectors(column, None), [[0.6, 0.8], [NAN, NAN]], rtol=1e-6)


def test_vectors_need_no_embedder(counted):
    unit_vectors([[3.0, 4.0]], None)
    assert counted == []


def test_the_vectors_given_are_not_changed_and_share_no_memory():
    matrix = np.array([[3, 4]], dtype=np.float32)
    unit = unit_vectors(matrix, None)
    assert matrix.tolist() == [[3, 4]]
    assert not np.shares_memory(matrix, unit)


@given(arrays(np.float32, (5, 7), elements=st.floats(-1e3, 1e3, width=32)))
def test_vectors_of_unit_length_keep_every_digit_whatever_is_beside_them(matrix):
    unit = unit_vectors(matrix, None)
    assert_array_equal(unit_vectors(unit, None), unit)
    beside = unit_vectors(np.vstack([unit, np.full((1, 7), 3)]), None)
    assert_array_equal(beside[:-1], unit)


@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_are_copied_unless_they_may_be_shared_and_are_of_unit_length(order):
    unit, longer = np.eye(3, dtype=np.float32, order=order), np.full((3, 3), 3, dtype=np.float32)
    unit[1] = np.nan
    for vectors, copy, is_shared in ((unit, True, False), (unit, False, order == "C"), (longer, False, False)):
        made = embed_column(read_column(vectors), None, None, copy=copy)
        assert np.shares_memory(made, vectors) == is_shared
        assert made.flags.c_contiguous


@pytest.mark.parametrize("normalize", [True, False], ids=["normalised", "not normalised"])
def test_texts_become_the_vectors_of_the_embedder(normalize, tiny):
    embedder = SentenceEmbeddingTransformer(tiny, normalize_embeddings=normalize)
    expected = skembed.embed(TEXTS, model=tiny, normalize_embeddings=True)
    assert_allclose(unit_vectors(TEXTS, embedder), expected, atol=1e-6)


def test_without_an_embedder_missing_texts_are_rows_of_nan():
    unit = unit_vectors(["a fox", None], None)
    assert_allclose(unit[:1], skembed.embed(["a fox"]), atol=1e-6)
    assert np.isnan(unit[1]).all()


@pytest.mark.parametrize("texts", [[], [None, None]], ids=["none", "all missing"])
def test_a_column_without_a_text_has_the_dimensions_of_the_embedder(texts, tiny):
    unit = unit_vectors(texts, SentenceEmbeddingTransformer(tiny, missing="nan"))
    assert unit.shape == (len(texts), 32)
    assert np.isnan(unit).all()


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_any_transformer_of_texts_embeds(output):
    embedder = FunctionTransformer(lengths_and_texts, feature_names_out=lambda self, names: ["length", "a"])
    expected = lengths_and_texts(TEXTS) / np.linalg.norm(lengths_and_texts(TEXTS), axis=1, keepdims=True)
    assert_allclose(unit_vectors(TEXTS, embedder.set_output(transform=output)), expected, rtol=1e-6)


def test_a_pipeline_is_fitted_as_a_clone(tiny):
    embedder = make_pipeline(SentenceEmbeddingTransformer(tiny), PCA(2))
    assert unit_vectors(TEXTS, embedder).shape == (4, 2)
    assert not hasattr(embedder[-1], "components_")


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_the_embedder_is_never_changed(output, tiny):
    embedder = SentenceEmbeddingTransformer(tiny).set_output(transform=output)
    before = {**vars(embedder)}
    assert isinstance(unit_vectors(TEXTS, embedder), np.ndarray)
    assert vars(embedder) == before


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (["a fox", 3], TypeError, r"question\[1\] is int, not str"),
        (pd.Series(["a fox", 3], index=["r", "s"]), TypeError, r"question\[1\] \(index label 's'\) is int"),
        ([[1.0, 2.0], None, [1.0, np.inf]], ValueError, r"question\[2\]"),
        ([[1.0, 2.0], [NAN, 1.0]], ValueError, r"question\[1\]"),
    ],
    ids=["text", "labelled text", "infinite", "partly NaN"],
)
def test_a_message_names_the_column_and_the_position(column, error, message, tiny):
    with pytest.raises(error, match=message):
        unit_vectors(column, SentenceEmbeddingTransformer(tiny), name="question")


def test_an_infinite_number_from_an_embedder_is_an_error_that_names_the_position():
    embedder = FunctionTransformer(lambda texts: np.array([[1.0], [np.inf]]))
    with pytest.raises(ValueError, match=r"X\[1\]"):
        unit_vectors(["a", "b"], embedder)


def test_a_frozen_embedder_is_not_fitted(tiny):
    frozen = FrozenEstimator(make_pipeline(SentenceEmbeddingTransformer(tiny), PCA(2)).fit(TEXTS))
    column = read_column(TEXTS[:2])
    expected = embed_column(column, frozen, None)
    assert_allclose(embed_column(column, frozen, None, fit=True), expected)
    assert_allclose(unit_vectors(TEXTS[:2], frozen), expected)


class TestModelTags:
    """Tags of models, and which vectors may be compared."""

    def test_the_tag_of_texts_is_that_of_the_embedders_model(self, tiny):
        tag = model_tag(read_column(TEXTS), SentenceEmbeddingTransformer(tiny))
        assert tag == pd.Series(TEXTS).embed(output="vector", model=tiny).array.model
        assert tag.startswith("bert ")

    def test_the_tag_of_vectors_is_the_one_they_carry(self, tiny):
        column = pd.Series(VectorArray(np.eye(2), model="x 1"))
        for vectors in (column, column.array, column.to_frame(), pd.Index(column)):
            assert model_tag(read_column(vectors), SentenceEmbeddingTransformer(tiny)) == "x 1"
        assert model_tag(read_column(np.eye(2)), SentenceEmbeddingTransformer("no-such-model")) is None

    def test_another_embedder_has_no_tag(self, tiny):
        assert model_tag(read_column(TEXTS), make_pipeline(SentenceEmbeddingTransformer(tiny), PCA(2))) is None

    @pytest.mark.parametrize(
        ("tag", "other"),
        [
            (None, "a 0123456789abcdef"),
            ("a 0123456789abcdef", None),
            (None, None),
            ("a 0123456789abcdef", "another name 0123456789abcdef"),
            ("told by hand", "told by hand"),
            ("", ""),
        ],
    )
    def test_the_same_and_the_unknown_are_compared(self, tag, other):
        check_same_model(tag, other, ("X", "y"))

    @pytest.mark.parametrize(
        ("tag", "other"),
        [
            ("a 0123456789abcdef", "a fedcba9876543210"),
            ("OpenAI large", "Cohere large"),
            ("a 0123456789abcdef", "told by hand"),
            ("a 0123456789abcdef", ""),
        ],
    )
    def test_others_are_refused_with_both_names(self, tag, other):
        with pytest.raises(ValueError, match=f"of left are of the model {tag}, those of right of {other}: "):
            check_same_model(tag, other, ("left", "right"))


def test_a_loaded_model_and_the_folder_it_came_from_are_not_taken_for_different_models(tiny):
    live, named = (SentenceEmbeddingTransformer(model) for model in (SentenceTransformer(tiny, device="cpu"), tiny))
    check_same_model(
        model_tag(read_column(["a fox"]), live), model_tag(read_column(["a fox"]), named), ("left", "right")
    )


def test_two_loaded_models_are_different_models(tiny, model_folder):
    models = [SentenceTransformer(folder, device="cpu") for folder in (tiny, model_folder("static"))]
    tags = [model_tag(read_column(["a fox"]), SentenceEmbeddingTransformer(model)) for model in models]
    with pytest.raises(ValueError, match="vectors of different models cannot be compared"):
        check_same_model(*tags, ("left", "right"))
