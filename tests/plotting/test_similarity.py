"""SimilarityDisplay: what is drawn, said and refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize

import skembed
from skembed import SimilarityDisplay, TruncationWarning
from tests.plotting.drawn import KINDS, TEXTS, color_bar_of, notes_of, ticks_of


class TestHeatMap:
    def test_its_cells_are_the_cosines(self, vectors):
        display = SimilarityDisplay.from_embeddings(vectors[:6] * 3)
        assert_allclose(display.similarities, normalize(vectors[:6]) @ normalize(vectors[:6]).T, atol=1e-6)
        assert_allclose(display.im_.get_array(), display.similarities)

    def test_rows_can_be_compared_with_others(self, vectors):
        display = SimilarityDisplay.from_embeddings(vectors[:1], vectors[1:6])
        assert_allclose(display.similarities, normalize(vectors[:1]) @ normalize(vectors[1:6]).T, atol=1e-6)
        assert ticks_of(display.ax_.yaxis) == ["0"]
        assert ticks_of(display.ax_.xaxis) == ["0", "1", "2", "3", "4"]

    def test_texts_name_rows_and_columns(self, embedder):
        display = SimilarityDisplay.from_texts(["costs $5, or $6", None, "fox " * 20], ["a fox"], embedder=embedder)
        first, missing, long = ticks_of(display.ax_.yaxis)
        assert (first, missing) == ("costs $5, or $6", "missing")
        assert long == "fox fox fox fox fox fox fox\nfox fox fox fox fox fox fox…"
        assert ticks_of(display.ax_.xaxis) == ["a fox"]
        assert np.isnan(display.similarities[:, 0]).tolist() == [False, True, False]

    @pytest.mark.parametrize(
        ("n_columns", "labels", "columns"),
        [(2, {}, ["u", "v"]), (2, {"row_labels": ["a", "b"]}, ["a", "b"]), (2, {"column_labels": [8, 9]}, ["8", "9"])],
    )
    def test_columns_are_called_as_the_rows_if_they_are_the_same(self, vectors, n_columns, labels, columns):
        X = pd.DataFrame(vectors[:2], index=["u", "v"])
        display = SimilarityDisplay.from_embeddings(X, **labels)
        assert ticks_of(display.ax_.xaxis) == columns

    def test_columns_of_other_vectors_are_not_called_as_the_rows(self, vectors):
        X = pd.DataFrame(vectors[:2], index=["u", "v"])
        assert ticks_of(SimilarityDisplay.from_embeddings(X, vectors[2:4]).ax_.xaxis) == ["0", "1"]
        assert ticks_of(SimilarityDisplay.from_embeddings(vectors[2:4], X).ax_.xaxis) == ["u", "v"]

    def test_vectors_of_two_models_are_not_compared(self, model_folder):
        X, Y = (pd.Series(TEXTS).embed(output="vector", model=model_folder(kind)) for kind in ("bert", "roberta"))
        with pytest.raises(ValueError, match=r"vectors of different models cannot be compared"):
            SimilarityDisplay.from_embeddings(X, Y)

    def test_colors_reach_from_minus_one_to_one_whatever_the_cosines(self, vectors):
        display = SimilarityDisplay(np.full((2, 2), 0.4)).plot()
        assert display.im_.get_clim() == (-1, 1)
        assert color_bar_of(display).get_ylabel() == "cosine"

    def test_cells_hold_numbers_that_can_be_read(self):
        display = SimilarityDisplay([[1, -1, 0.126], [-0.001, np.nan, 0.5]]).plot()
        assert notes_of(display) == ["1.00", "-1.00", "0.13", "0.00", "0.50"]
        assert [text.get_color() for text in display.ax_.texts] == ["white", "white", "black", "black", "black"]

    @pytest.mark.parametrize(("n_rows", "n_numbers"), [(20, 400), (21, 0)])
    def test_many_cells_hold_none(self, n_rows, n_numbers):
        assert len(notes_of(SimilarityDisplay(np.eye(n_rows)).plot())) == n_numbers

    @pytest.mark.parametrize(("n_rows", "n_ticks"), [(50, 50), (51, 0)])
    def test_many_rows_have_no_names(self, n_rows, n_ticks):
        display = SimilarityDisplay(np.eye(n_rows)).plot()
        assert len(ticks_of(display.ax_.yaxis)) == len(ticks_of(display.ax_.xaxis)) == n_ticks

    def test_it_draws_on_the_axes_that_it_is_given(self, vectors, plt):
        figure, (left, right) = plt.subplots(1, 2)
        display = SimilarityDisplay.from_embeddings(vectors[:3], ax=right)
        assert (display.ax_, display.figure_) == (right, figure)
        assert not left.has_data()

    def test_im_kw_has_the_last_word(self):
        display = SimilarityDisplay(np.eye(2)).plot(im_kw={"cmap": "viridis", "vmin": 0})
        assert display.im_.get_cmap().name == "viridis"
        assert display.im_.get_clim() == (0, 1)

    def test_of_an_estimator_it_compares_what_a_transformer_makes_or_a_classifier_is_given(self, embedder, tiny):
        vectors = skembed.embed(TEXTS, model=tiny)
        pipe = make_pipeline(embedder, LogisticRegression()).fit(TEXTS, KINDS)
        for estimator in (embedder, pipe):
            display = SimilarityDisplay.from_estimator(estimator, TEXTS, TEXTS[:2])
            assert_allclose(display.similarities, normalize(vectors) @ normalize(vectors[:2]).T, atol=1e-5)
            assert ticks_of(display.ax_.yaxis) == TEXTS
            assert ticks_of(display.ax_.xaxis) == TEXTS[:2]
        assert ticks_of(SimilarityDisplay.from_estimator(pipe, TEXTS).ax_.xaxis) == TEXTS

    def test_too_many_texts_are_an_error_before_they_are_embedded(self, embedder, counted):
        with pytest.raises(ValueError, match=r"^3,000 x 2,000 cosines are too many for a picture; pass a sample"):
            SimilarityDisplay.from_texts(["a fox"] * 3_000, ["a parcel"] * 2_000, embedder=embedder)
        assert counted == []

    def test_too_many_vectors_are_an_error(self):
        with pytest.raises(ValueError, match="2,001 x 2,001 cosines are too many"):
            SimilarityDisplay.from_embeddings(np.ones((2_001, 2)))

    def test_a_warning_about_cut_texts_points_to_the_users_line(self, embedder):
        with pytest.warns(TruncationWarning) as caught:
            SimilarityDisplay.from_texts(["fox " * 999, "a fox"], embedder=embedder)
        assert caught[0].filename == __file__

    @pytest.mark.parametrize(
        "make",
        [
            lambda: SimilarityDisplay(np.eye(2)).plot(),
            lambda: SimilarityDisplay.from_texts(TEXTS),
        ],
    )
    def test_without_matplotlib_the_error_says_what_to_install_before_anything_is_embedded(
        self, make, counted, without
    ):
        without("matplotlib")
        with pytest.raises(ImportError, match=r"^SimilarityDisplay needs matplotlib: pip install 'skembed\[plot\]'\.$"):
            make()
        assert counted == []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SimilarityDisplay([1.0]), ValueError, r"the shape \(n_rows, n_columns\); got \(1,\)"),
        (lambda: SimilarityDisplay.from_embeddings([]), ValueError, r"the shape \(n_rows, n_columns\); got \(0, 0\)"),
        (lambda: SimilarityDisplay([[1, 3.2]]), ValueError, r"must be cosines, from -1 to 1; got 3\.2"),
        (lambda: SimilarityDisplay(np.eye(2), ["a"]), ValueError, "row_labels must have the length 2; got 1"),
        (lambda: SimilarityDisplay(np.eye(2), None, ["a"]), ValueError, "column_labels must have the length 2; got 1"),
        (
            lambda: SimilarityDisplay.from_embeddings(np.eye(2), np.eye(3)),
            ValueError,
            "The vectors of X have 2 dimensions, those of Y 3",
        ),
        (lambda: SimilarityDisplay.from_embeddings(np.eye(2), ["a"]), TypeError, "Y holds texts, not vectors"),
        (lambda: SimilarityDisplay.from_texts(["a"], np.eye(2)), TypeError, "other holds vectors, not texts"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_error(make, error, message, counted):
    with pytest.raises(error, match=message):
        make()
    assert counted == []
