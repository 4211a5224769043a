"""SentenceEmbeddingTransformer: its behaviour as a scikit-learn transformer."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skembed
from skembed import (
    ModelChangedError,
    ModelNotFoundError,
    SentenceEmbeddingFineTuner,
    SentenceEmbeddingTransformer,
    TruncationWarning,
    embed,
)
from tests.tiny_models import make_bert

TEXTS = ["a quick fox", "a lazy dog", "the wrong address", "an update of the app"] * 5
LABELS = np.array([0, 0, 1, 1] * 5)


@pytest.fixture
def transformer(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny)


# Parameters


def test_init_stores_its_arguments_and_nothing_else():
    params = SentenceEmbeddingTransformer("x", pooling="cls", cache=None).get_params()
    assert params["model"] == "x"
    assert vars(SentenceEmbeddingTransformer("x")) == SentenceEmbeddingTransformer("x").get_params()


def test_the_parameters_are_those_of_the_contract():
    assert SentenceEmbeddingTransformer().get_params() == {
        "model": "all-MiniLM-L6-v2", "pooling": "default", "layers": -1, "normalize_embeddings": "default",
        "truncate_dim": None, "prompt": None, "prompt_name": None, "task": None, "max_seq_length": None,
        "long_texts": "truncate", "missing": "error", "device": "auto", "backend": "auto", "dtype": "auto",
        "batch_tokens": "auto", "cache": "memory", "revision": None, "local_files_only": False,
        "trust_remote_code": False, "show_progress_bar": "auto",
    }  # fmt: skip


@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_an_illegal_parameter_is_refused_when_work_starts(method, tiny):
    transformer = SentenceEmbeddingTransformer(tiny, pooling="average")
    with pytest.raises(ValueError, match=r"pooling must be 'default' or 'cls' or .*; got 'average'"):
        getattr(transformer, method)(["a"])


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "max"},
        {"layers": 0},
        {"normalize_embeddings": False},
        {"truncate_dim": 5},
        {"prompt": "fox "},
        {"task": "query"},
        {"max_seq_length": 3},
        pytest.param({"dtype": "bfloat16"}, marks=pytest.mark.of_torch),  # OpenVINO rounds less
    ],
    ids=str,
)
def test_a_changed_parameter_takes_effect_at_once(change, transformer, tiny):
    before = transformer.fit_transform(["a quick brown fox"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        after = transformer.set_params(**change).transform(["a quick brown fox"])
        assert_array_equal(after, SentenceEmbeddingTransformer(tiny, **change).fit_transform(["a quick brown fox"]))
    assert after.shape != before.shape or not np.allclose(after, before, atol=1e-6)


@pytest.mark.parametrize("refit", [True, False], ids=["refit", "no refit"])
def test_another_model_takes_effect_at_once(refit, transformer, model_folder):
    transformer.fit(["fox"])
    transformer.set_params(model=model_folder("roberta"))
    if refit:
        transformer.fit(["fox"])
    assert_allclose(transformer.transform(["fox"]), embed(["fox"], model=model_folder("roberta")))


# Fit and transform


def test_transform_needs_no_fit(transformer, tiny):
    assert_array_equal(transformer.transform(TEXTS), embed(TEXTS, model=tiny))


def test_fit_transform_is_fit_then_transform(transformer):
    assert_array_equal(transformer.fit_transform(TEXTS), clone(transformer).fit(TEXTS).transform(TEXTS))


def test_fit_learns_the_dimension_and_the_fingerprint(transformer, model_folder):
    transformer.set_params(pooling=("cls", "max"), truncate_dim=20).fit(TEXTS)
    assert transformer.embedding_dim_ == transformer.transform(TEXTS).shape[1] == 40
    assert len(transformer.model_fingerprint_) == 64


@pytest.mark.parametrize("bad", ["one text", [1, 2], ["a", None], [b"a"], None, 5, [["a", "b"]], {"a": 1}], ids=repr)
def test_fit_refuses_what_transform_refuses(bad, transformer):
    refusals = []
    for method in (transformer.fit, transformer.transform):
        with pytest.raises((TypeError, ValueError)) as caught:
            method(bad)
        refusals.append((type(caught.value), str(caught.value)))
    assert refusals[0] == refusals[1]


def test_integers_are_not_embedded_as_strings(transformer):
    with pytest.raises(TypeError, match=r"X\[0\] \(index label 'r'\) is int, not str"):
        transformer.transform(pd.Series([1, 2], index=["r", "s"]))


@pytest.mark.parametrize("bad", [None, 3], ids=["missing", "no text"])
@pytest.mark.parametrize("columns", ["body", ["body"]], ids=["series", "frame"])
@pytest.mark.parametrize("method", ["fit_transform", "transform"])
@pytest.mark.parametrize("tuned", [False, True], ids=["transformer", "fine-tuner"])
def test_of_two_columns_the_one_with_the_bad_text_is_named(tuned, method, columns, bad, transformer, tiny):
    frame = pd.DataFrame({"title": ["a", "b", "c"], "body": ["d", "e", "f"]}, index=["p", "q", "r"])
    second = SentenceEmbeddingFineTuner(tiny) if tuned and method == "fit_transform" else clone(transformer)
    made = make_column_transformer((transformer, "title"), (second, columns))
    if method == "transform":
        made.fit(frame)
    broken = frame.assign(body=pd.Series(["d", bad, "f"], index=frame.index, dtype=object))
    with pytest.raises((TypeError, ValueError), match=r"X\[1\] \(index label 'q'\) is .* X is column 'body'\."):
        made.fit_transform(broken, [0, 1, 1]) if method == "fit_transform" else made.transform(broken)


def test_a_column_of_polars_is_named_too(transformer):
    with pytest.raises(ValueError, match=r"X\[1\] is missing .* X is column 'body'\."):
        transformer.transform(pl.DataFrame({"body": ["a", None]}))
    with pytest.raises(ValueError, match=r"X\[1\] is missing .* X is column 'body'\."):
        transformer.transform(pl.Series("body", ["a", None]))
    with pytest.raises(ValueError, match=r"X\[1\] is missing .* X is column 'body'\."):
        transformer.transform(pa.table({"body": ["a", None]}))
    with pytest.raises(ValueError, match=r"X\[1\] is missing"):
        transformer.transform(pl.Series(["a", None]))


def test_a_sparse_matrix_is_refused(transformer):
    with pytest.raises(TypeError, match="not a column of text"):
        transformer.fit(scipy.sparse.eye(3))


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "object array": lambda texts: np.array(texts, dtype=object),
    "str array": np.array,
    "column array": lambda texts: np.array(texts, dtype=object)[:, None],
    "Series": pd.Series,
    "string Series": lambda texts: pd.Series(texts, dtype="string"),
    "categorical": lambda texts: pd.Series(texts, dtype="category"),
    "Index": pd.Index,
    "DataFrame": lambda texts: pd.DataFrame({"t": texts}),
    "polars Series": pl.Series,
    "polars DataFrame": lambda texts: pl.DataFrame({"t": texts}),
    "pyarrow": pa.array,
    "pyarrow chunked": lambda texts: pa.chunked_array([texts[:3], texts[3:]]),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_matrix(container, transformer):
    vectors = transformer.transform(CONTAINERS[container](TEXTS))
    assert_array_equal(vectors, transformer.transform(TEXTS))
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


def as_series(texts):
    return pd.Series(texts, dtype=object)


def as_frame(texts):
    return pd.DataFrame({"t": as_series(texts)})


ODD_ELEMENTS = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "So", "Mn", "Lo"]), max_size=5),
    st.sampled_from([None, float("nan"), pd.NA, pd.NaT, 1, 2.5, b"bytes", ["nested"], ("a", "b"), True, "x\0y", "🦊"]),
)


@given(
    texts=st.lists(ODD_ELEMENTS, max_size=6),
    container=st.sampled_from([list, tuple, as_series, as_frame]),
    missing=st.sampled_from(["error", "empty", "zero", "nan"]),
)
@settings(max_examples=150, deadline=None)
def test_any_input_gives_right_rows_or_an_error_that_names_the_first_bad_one(texts, container, missing, tiny):
    def is_bad(text):
        if isinstance(text, str):
            return any("\ud800" <= character <= "\udfff" for character in text)
        is_missing = text is None or text is pd.NA or text is pd.NaT or text != text
        return not is_missing or missing == "error"

    bad = [row for row, text in enumerate(texts) if is_bad(text)]
    transformer = SentenceEmbeddingTransformer(tiny, missing=missing)
    if bad:
        with pytest.raises((TypeError, ValueError), match=rf"X\[{bad[0]}\]"):
            transformer.transform(container(texts))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        vectors = transformer.transform(container(texts))
        for text, vector in zip(texts, vectors, strict=True):
            if isinstance(text, str):
                assert_allclose(vector, embed([text], model=tiny)[0], atol=1e-6)
            else:
                fill = {"zero": 0.0, "nan": np.nan, "empty": embed([""], model=tiny)[0]}[missing]
                assert_allclose(vector, np.broadcast_to(fill, vector.shape), atol=1e-6)


def test_a_text_of_a_megabyte_is_read_and_counted_as_cut(transformer):
    with pytest.warns(TruncationWarning, match="1 of 1"):
        assert np.isfinite(transformer.transform(["fox " * 250_000])).all()


@pytest.mark.parametrize("method", ["transform", "fit_transform"])
def test_the_truncation_warning_points_to_the_callers_line(method, transformer):
    with pytest.warns(TruncationWarning) as caught:
        getattr(transformer, method)(["fox " * 100])
    assert caught[0].filename == __file__


def test_a_subclass_may_have_parameters_of_its_own(tiny):
    class Shouting(SentenceEmbeddingTransformer):
        def __init__(self, model=tiny, *, cache="memory", loudness=1):
            super().__init__(model, cache=cache)
            self.loudness = loudness

    assert_allclose(clone(Shouting(loudness=3)).fit_transform(TEXTS), embed(TEXTS, model=tiny))


# Clone, copy, pickle


def test_clones_share_a_loaded_model(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    assert clone(SentenceEmbeddingTransformer(model, pooling="cls")).model is model


def test_a_clone_of_a_subclass_shares_a_loaded_model_and_keeps_its_parameters(tiny):
    class Shouting(SentenceEmbeddingTransformer):
        def __init__(self, model=tiny, *, loudness=1):
            super().__init__(model)
            self.loudness = loudness

    model = SentenceTransformer(tiny, device="cpu")
    cloned = clone(Shouting(model, loudness=3).fit(TEXTS))
    assert (type(cloned), cloned.model is model, cloned.loudness) == (Shouting, True, 3)


def test_a_clone_keeps_parameters_and_output_setting_but_no_fit(transformer):
    fitted = transformer.set_params(layers=(0, 1)).set_output(transform="pandas").fit(TEXTS)
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    assert isinstance(cloned.transform(TEXTS), pd.DataFrame)
    assert not hasattr(cloned, "model_fingerprint_")


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_gives_the_same_vectors(again, transformer):
    expected = transformer.fit_transform(TEXTS)
    copied = again(transformer)
    assert copied.model_fingerprint_ == transformer.model_fingerprint_
    assert_array_equal(copied.transform(TEXTS), expected)


def test_a_pickle_holds_no_weights(transformer):
    transformer.fit_transform(TEXTS)
    assert len(pickle.dumps(transformer)) < 5_000
    buffer = io.BytesIO()
    joblib.dump(make_pipeline(transformer, LogisticRegression()).fit(TEXTS, LABELS), buffer)
    assert len(buffer.getvalue()) < 100_000


def test_a_pickled_loaded_model_travels_with_its_estimator(tiny):
    transformer = SentenceEmbeddingTransformer(SentenceTransformer(tiny, device="cpu")).fit(TEXTS)
    expected = transformer.transform(TEXTS)
    assert_array_equal(pickle.loads(pickle.dumps(transformer)).transform(TEXTS), expected)


def test_a_loaded_model_that_changes_after_fit_gives_its_new_vectors(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    transformer = SentenceEmbeddingTransformer(model).fit(TEXTS)
    model[1].pooling_mode = "cls"
    assert_allclose(transformer.transform(TEXTS), model.encode(TEXTS), atol=1e-5)


@pytest.mark.slow
def test_another_process_gives_the_same_vectors(transformer, tmp_path):
    expected = transformer.set_params(dtype="float32").fit_transform(TEXTS)
    path = tmp_path / "transformer.joblib"
    joblib.dump((transformer, TEXTS), path)
    code = (
        "import sys, joblib, numpy; transformer, texts = joblib.load(sys.argv[1]); "
        "numpy.save(sys.argv[2], transformer.transform(texts))"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "vectors.npy"], check=True, capture_output=True)
    assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)


def test_another_model_under_the_same_name_is_refused(tmp_path):
    folder = make_bert(tmp_path / "model", seed=1)
    pickled = pickle.dumps(SentenceEmbeddingTransformer(folder).fit(TEXTS))
    make_bert(tmp_path / "model", seed=2)
    loaded = pickle.loads(pickled)
    with pytest.raises(ModelChangedError, match="not the one this transformer was fitted with"):
        loaded.transform(TEXTS)
    assert_allclose(loaded.fit(TEXTS).transform(TEXTS), embed(TEXTS, model=folder))


def test_after_set_params_the_old_fingerprint_is_not_asked_for(tmp_path, tiny):
    folder = make_bert(tmp_path / "model", seed=1)
    transformer = SentenceEmbeddingTransformer(folder).fit(TEXTS)
    assert transformer.set_params(model=tiny).transform(TEXTS).shape == (20, 32)


def test_a_pickle_loads_even_where_its_model_is_not(transformer, tmp_path):
    folder = make_bert(tmp_path / "model", seed=1)
    pickled = pickle.dumps(transformer.set_params(model=folder).fit(TEXTS))
    Path(folder).rename(tmp_path / "elsewhere")
    loaded = pickle.loads(pickled)
    with pytest.raises(ModelNotFoundError):
        loaded.set_params(local_files_only=True).transform(TEXTS)


# Output


def test_the_columns_are_named_with_and_without_fit(transformer):
    names = transformer.get_feature_names_out()
    assert names.tolist()[:2] == ["sentenceembeddingtransformer0", "sentenceembeddingtransformer1"]
    assert_array_equal(transformer.fit(TEXTS).get_feature_names_out(["text"]), names)
    assert len(transformer.set_params(truncate_dim=7).get_feature_names_out()) == 7


def test_the_result_is_a_pandas_frame_with_the_callers_index(transformer):
    given = pd.DataFrame({"t": TEXTS[:3]}, index=["x", "y", "y"])
    frame = transformer.set_output(transform="pandas").fit_transform(given)
    assert frame.index.tolist() == ["x", "y", "y"]
    assert set(frame.dtypes) == {np.dtype("float32")}
    assert frame.columns.tolist() == transformer.get_feature_names_out().tolist()
    assert_array_equal(frame, embed(TEXTS[:3], model=transformer.model))


@pytest.mark.skipif(sklearn.__version__.startswith("1.6."), reason="scikit-learn 1.6 keeps the index of frames only")
def test_the_index_of_a_series_is_kept_too(transformer):
    series = pd.Series(TEXTS[:3], index=["x", "y", "y"])
    assert transformer.set_output(transform="pandas").transform(series).index.tolist() == ["x", "y", "y"]


def test_the_result_is_a_polars_frame_when_asked_for(transformer):
    frame = transformer.set_output(transform="polars").fit_transform(pl.Series(TEXTS))
    assert isinstance(frame, pl.DataFrame)
    assert set(frame.dtypes) == {pl.Float32}


def test_embed_returns_an_array_whatever_the_output_setting_of_scikit_learn(tiny):
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(embed(TEXTS, model=tiny), np.ndarray)


def test_the_html_repr_shows_the_parameters(transformer):
    html = transformer.set_params(pooling="max")._repr_html_()
    assert "SentenceEmbeddingTransformer" in html
    assert "pooling" in html
    assert repr(transformer).startswith("SentenceEmbeddingTransformer(model=")


# Composition


def test_two_text_columns_go_side_by_side(tiny):
    frame = pd.DataFrame({"title": TEXTS, "body": TEXTS[::-1], "stars": range(20)})
    columns = make_column_transformer(
        (SentenceEmbeddingTransformer(tiny), "title"),
        (SentenceEmbeddingTransformer(tiny, pooling="max"), ["body"]),
        (StandardScaler(), ["stars"]),
    )
    matrix = columns.fit_transform(frame)
    assert_allclose(matrix[:, :32], embed(TEXTS, model=tiny), atol=1e-6)
    assert_allclose(matrix[:, 32:64], embed(TEXTS[::-1], model=tiny, pooling="max"), atol=1e-6)
    names = columns.get_feature_names_out()
    assert len(set(names)) == len(names) == 65
    assert names[0] == "sentenceembeddingtransformer-1__sentenceembeddingtransformer0"


def test_a_column_transformer_on_a_polars_frame(tiny):
    frame = pl.DataFrame({"title": TEXTS, "stars": range(20)})
    columns = ColumnTransformer(
        [("e", SentenceEmbeddingTransformer(tiny), "title"), ("s", StandardScaler(), ["stars"])]
    )
    assert columns.set_output(transform="polars").fit_transform(frame).shape == (20, 33)


def test_two_columns_for_one_transformer_are_refused_with_their_names(tiny):
    frame = pd.DataFrame({"title": TEXTS, "body": TEXTS})
    columns = make_column_transformer((SentenceEmbeddingTransformer(tiny), ["title", "body"]))
    with pytest.raises(ValueError, match=r"X has 2 columns \('title', 'body'\)"):
        columns.fit(frame)


def test_a_union_of_two_poolings_is_both_side_by_side(tiny):
    union = FeatureUnion([(p, SentenceEmbeddingTransformer(tiny, pooling=p)) for p in ("cls", "max")])
    expected = np.hstack([embed(TEXTS, model=tiny, pooling=p) for p in ("cls", "max")])
    assert_allclose(union.fit_transform(TEXTS), expected, atol=1e-6)


@pytest.mark.parametrize("search_over_models", [False, True])
@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_a_grid_search_scores_what_it_says(backend, search_over_models, model_folder):
    pipe = Pipeline([("embed", SentenceEmbeddingTransformer(model_folder("bert"))), ("classify", LogisticRegression())])
    grid = {"embed__pooling": ["mean", "max"]}
    if search_over_models:
        grid["embed__model"] = [model_folder("bert"), model_folder("roberta")]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["fox", "dog", "parcel", "app", "update"], 4)) for _ in range(40)]
    labels = np.array(["fox" in text for text in texts]) ^ (rng.random(40) < 0.2)
    with joblib.parallel_config(backend):
        search = GridSearchCV(pipe, grid, cv=3, n_jobs=2).fit(texts, labels)
    results = search.cv_results_
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        vectors = embed(texts, model=params.get("embed__model", model_folder("bert")), pooling=params["embed__pooling"])
        assert score == pytest.approx(cross_val_score(LogisticRegression(), vectors, labels, cv=3).mean())


def test_a_grid_over_loaded_models_scores_each(model_folder, reference):
    pipe = Pipeline([("embed", SentenceEmbeddingTransformer("unused")), ("classify", LogisticRegression())])
    grid = {"embed__model": [reference("bert"), reference("roberta")]}
    search = GridSearchCV(pipe, grid, cv=2).fit(TEXTS, LABELS)
    assert_allclose(
        search.best_estimator_["embed"].transform(TEXTS),
        embed(TEXTS, model=reference(["bert", "roberta"][search.best_index_])),
        atol=1e-6,
    )


def test_no_fold_encodes_a_text_again(tiny, counted):
    pipe = make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression())
    GridSearchCV(pipe, {"logisticregression__C": [0.1, 1, 10]}, cv=5).fit(TEXTS, LABELS)
    assert sorted(counted) == sorted(set(TEXTS))


def test_a_pipeline_with_memory_gives_the_same_predictions(tiny, tmp_path):
    plain = make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression()).fit(TEXTS, LABELS)
    kept = make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression(), memory=str(tmp_path))
    for _ in range(2):
        assert_array_equal(kept.fit(TEXTS, LABELS).predict_proba(TEXTS), plain.predict_proba(TEXTS))


def test_a_frozen_transformer_transforms_the_same(transformer):
    frozen = FrozenEstimator(transformer.fit(TEXTS))
    assert_array_equal(clone(frozen).fit(TEXTS, LABELS).transform(TEXTS), transformer.transform(TEXTS))


def test_metadata_is_routed_past_it_to_the_step_that_requests_it(tiny):
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = LogisticRegression().set_fit_request(sample_weight=True)
        pipe = make_pipeline(SentenceEmbeddingTransformer(tiny), classifier)
        weights = np.where(LABELS == 1, 5.0, 1.0)
        weighted = pipe.fit(TEXTS, LABELS, sample_weight=weights).predict_proba(TEXTS)
    expected = LogisticRegression().fit(embed(TEXTS, model=tiny), LABELS, sample_weight=weights)
    assert_allclose(weighted, expected.predict_proba(embed(TEXTS, model=tiny)))


def test_a_batch_of_two_models_never_shares_vectors(model_folder):
    first = embed(TEXTS, model=model_folder("bert"))
    second = embed(TEXTS, model=model_folder("roberta"))
    assert not np.allclose(first, second, atol=1e-2)
    assert_array_equal(embed(TEXTS, model=model_folder("bert")), first)


def test_similar_meanings_are_closer_with_the_default_model():
    movie = ["This is a good movie.", "This is a bad movie.", "I really enjoyed the film."]
    vectors = skembed.embed(movie)
    assert_allclose(vectors @ vectors[0], [1.0, 0.689, 0.627], atol=1e-3)
