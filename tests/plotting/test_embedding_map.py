"""EmbeddingMapDisplay: what is drawn, said and refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib.text
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import DBSCAN, KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

import skembed
from skembed import EmbeddingMapDisplay, TruncationWarning
from tests.plotting.drawn import (
    KINDS,
    TEXTS,
    color_bar_of,
    colors_of,
    legend_of,
    notes_of,
    points_of,
    ticks_of,
    written,
)


@pytest.fixture
def umap_calls(monkeypatch) -> list[dict]:
    """A stand-in for umap-learn, and what it was given."""
    calls: list[dict] = []

    class UMAP:
        def __init__(self, **params):
            calls.append(params)

        def fit_transform(self, X):
            return X[:, :2] * 7

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    return calls


class TestPositions:
    @pytest.mark.parametrize(("n_rows", "method"), [(2, "pca"), (6, "pca"), (49, "pca"), (50, "tsne"), (5_001, "pca")])
    def test_any_number_of_rows_gets_a_map_by_a_method_that_suits_it(self, n_rows, method):
        display = EmbeddingMapDisplay.from_embeddings(np.random.default_rng(0).normal(size=(n_rows, 8)))
        assert display.method == method
        assert np.isfinite(display.positions).all()
        assert len(points_of(display)[0].get_offsets()) == n_rows

    def test_pca_is_that_of_the_unit_vectors_and_the_axes_say_its_shares(self, vectors):
        pca = PCA(2)
        expected = pca.fit_transform(normalize(vectors))
        display = EmbeddingMapDisplay.from_embeddings(vectors * 3, method="pca")
        assert_allclose(display.positions, expected, atol=1e-4)
        x, y = (round(100 * share) for share in pca.explained_variance_ratio_)
        assert display.ax_.get_xlabel() == f"PCA 1 ({x} % of variance)"
        assert display.ax_.get_ylabel() == f"PCA 2 ({y} % of variance)"

    def test_tsne_keeps_neighbours_together(self):
        groups = np.repeat(np.arange(3), 20)
        vectors = np.eye(3, 60)[groups] * 4 + np.random.default_rng(0).normal(size=(60, 60)) / 4
        display = EmbeddingMapDisplay.from_embeddings(vectors, method="tsne")
        distances = np.linalg.norm(display.positions[:, None] - display.positions, axis=2)
        np.fill_diagonal(distances, np.inf)
        assert_array_equal(groups[distances.argmin(axis=1)], groups)
        assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("t-SNE 1", "t-SNE 2")

    @pytest.mark.parametrize("method", ["pca", "tsne"])
    @pytest.mark.parametrize(
        "X", [np.eye(2), np.eye(3), np.ones((60, 8)), np.zeros((60, 8)), np.arange(1.0, 61)[:, None]]
    )
    def test_few_equal_and_one_dimensional_vectors_get_a_map(self, method, X):
        display = EmbeddingMapDisplay.from_embeddings(X, method=method)
        assert np.isfinite(display.positions).all()

    @pytest.mark.parametrize("method", ["pca", "tsne"])
    def test_the_same_seed_gives_the_same_map(self, vectors, method):
        maps = [EmbeddingMapDisplay.from_embeddings(vectors, method=method, random_state=3) for _ in range(2)]
        assert_array_equal(maps[0].positions, maps[1].positions)

    @pytest.mark.parametrize(("random_state", "n_jobs"), [(0, 1), (None, -1)])
    def test_umap_is_used_if_it_is_there(self, vectors, umap_calls, random_state, n_jobs):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:6], method="umap", random_state=random_state)
        assert umap_calls == [{"n_neighbors": 5, "metric": "cosine", "random_state": random_state, "n_jobs": n_jobs}]
        assert_allclose(display.positions, 7 * normalize(vectors[:6])[:, :2], rtol=1e-5)
        assert display.ax_.get_xlabel() == "UMAP 1"

    def test_umap_needs_four_rows(self, vectors, umap_calls):
        with pytest.raises(ValueError, match=r"at least 4 rows with a vector; got 3, of 3 rows\."):
            EmbeddingMapDisplay.from_embeddings(vectors[:3], method="umap")

    def test_without_umap_the_error_says_what_to_install_before_anything_is_embedded(self, embedder, counted, without):
        without("umap")
        with pytest.raises(ImportError, match=r"^method='umap' needs umap-learn: pip install umap-learn\.$"):
            EmbeddingMapDisplay.from_texts(TEXTS, embedder=embedder, method="umap")
        assert counted == []

    def test_an_umap_that_is_broken_speaks_for_itself(self, vectors, tmp_path, monkeypatch):
        (tmp_path / "umap.py").write_text("import nowhere")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
            EmbeddingMapDisplay.from_embeddings(vectors, method="umap")

    @pytest.mark.parametrize(("n_missing", "title"), [(1, "1 row without"), (2, "2 rows without")])
    def test_rows_without_a_vector_are_left_out_and_the_title_says_so(self, vectors, n_missing, title):
        vectors[:n_missing] = np.nan
        display = EmbeddingMapDisplay.from_embeddings(vectors[:8], labels=list("abcdefgh"))
        assert_array_equal(np.isnan(display.positions[:, 0]), np.arange(8) < n_missing)
        assert legend_of(display) == list("abcdefgh")[n_missing:]
        assert display.ax_.get_title(loc="left") == f"left out: {title} a vector"


class TestColors:
    @pytest.mark.parametrize(
        ("labels", "legend"),
        [
            (["b", "a", "b"], ["a", "b"]),
            (["b", None, "a"], ["a", "b", "missing"]),
            ([10, 9, 10], ["9", "10"]),
            ([1, None, 0], ["0", "1", "missing"]),
            ([0, -1, 1], ["0", "1", "-1"]),
            ([True, False, None], ["False", "True", "missing"]),
            (["1", 1, None], ["1", "1", "missing"]),
            (np.array([2, 1, 1]), ["1", "2"]),
            (pd.Categorical(["low", "high", "low"], categories=["low", "middle", "high"]), ["low", "high"]),
            (pd.Series(["a", "b", "c"], index=[2, 1, 0]), ["a", "b", "c"]),
            (pd.Series([1, None, 2], dtype="Int64"), ["1", "2", "missing"]),
            (pl.Series(["a", None, "b"]), ["a", "b", "missing"]),
            (pa.chunked_array([[1, None, 2]]), ["1", "2", "missing"]),
            (["_hidden", "", "seen"], ['""', " _hidden", "seen"]),
        ],
        ids=str,
    )
    def test_every_kind_of_category_stands_in_the_legend(self, labels, legend, vectors):
        assert legend_of(EmbeddingMapDisplay.from_embeddings(vectors[:3], labels=labels)) == legend

    def test_labels_are_read_by_position(self, vectors):
        labels = pd.Series(["a", "b", "a"], index=[2, 1, 0])
        display = EmbeddingMapDisplay.from_embeddings(pd.DataFrame(vectors[:3]), labels=labels)
        assert_allclose(points_of(display)[0].get_offsets(), display.positions[[0, 2]])

    def test_every_category_has_a_look_of_its_own(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors, labels=np.arange(60) % 20)
        markers = [points.get_paths()[0].vertices.tobytes() for points in points_of(display)]
        assert len(set(zip(colors_of(display), markers, strict=True))) == 20
        assert len(set(markers[:8])) == len(set(colors_of(display)[:8])) == 8

    def test_what_belongs_to_no_category_is_grey_and_behind_the_others(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:4], labels=[0, -1, 1, None])
        assert colors_of(display)[2:] == ["#cccccc", "#cccccc"]
        *_, noise, missing = (points.get_zorder() for points in points_of(display))
        assert max(noise, missing) < min(points.get_zorder() for points in points_of(display)[:2])

    def test_of_many_categories_the_most_frequent_are_told_apart(self, vectors):
        labels = [f"k{row % 25:02}" for row in range(50)] + ["k24"] * 9 + ["k22"]
        assert legend_of(EmbeddingMapDisplay.from_embeddings(vectors, labels=labels)) == [
            *(f"k{number:02}" for number in [*range(17), 22, 24]),
            "6 others",
        ]

    def test_the_name_of_a_series_heads_the_legend(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:2], labels=pd.Series(["a", "b"], name="$ or $?"))
        assert written(display.ax_.get_legend().get_title()) == "$ or $?"

    def test_scores_get_a_color_bar_and_no_legend(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:3], labels=pd.Series([0.5, 1.0, 2.0], name="score"))
        assert color_bar_of(display).get_ylabel() == "score"
        assert_allclose(points_of(display)[0].get_array(), [0.5, 1, 2])
        assert legend_of(display) == []

    def test_missing_scores_are_grey(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:4], labels=[0.5, np.nan, 2, np.inf])
        assert_allclose(points_of(display)[0].get_array(), [0.5, 2])
        assert legend_of(display) == ["missing"]
        assert colors_of(display)[1] == "#cccccc"

    def test_without_labels_there_is_one_color_and_nothing_to_explain(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:3])
        assert len(points_of(display)) == 1
        assert (legend_of(display), color_bar_of(display)) == ([], None)

    def test_dollars_in_a_label_are_no_formula(self, vectors):
        labels = ["$5 to $10", r"\$5", "a_b^c $"]
        assert legend_of(EmbeddingMapDisplay.from_embeddings(vectors[:3], labels=labels)) == sorted(labels)


class TestTexts:
    def test_few_points_have_their_text_beside_them_and_not_over_any(self, vectors):
        texts = [f"text {row}, of $5 to $10" for row in range(20)]
        display = EmbeddingMapDisplay.from_embeddings(vectors[:20], texts=texts)
        assert notes_of(display) == texts
        display.figure_.canvas.draw()
        pixels = display.ax_.transData.transform(display.positions)
        for note in display.ax_.texts:
            box = matplotlib.text.Text.get_window_extent(note)
            assert not any(box.contains(*pixel) for pixel in pixels)

    def test_many_points_have_none(self, vectors):
        assert notes_of(EmbeddingMapDisplay.from_embeddings(vectors[:21], texts=["a"] * 21)) == []

    def test_long_texts_are_shortened_and_missing_ones_not_written(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:3], texts=["word " * 50, None, " two\n lines "])
        assert notes_of(display) == ["word word word word word\nword word word word word…", "two lines"]


class TestDrawing:
    def test_it_draws_on_the_axes_that_it_is_given_and_leaves_the_rest_of_pyplot_alone(self, vectors, plt):
        before = dict(plt.rcParams)
        figure, (left, right) = plt.subplots(1, 2)
        display = EmbeddingMapDisplay.from_embeddings(vectors[:6], ax=right, texts=TEXTS)
        assert (display.ax_, display.figure_) == (right, figure)
        assert not left.has_data()
        assert plt.get_fignums() == [figure.number]
        assert dict(plt.rcParams) == before

    def test_plot_draws_again_on_a_new_figure_and_returns_the_display(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:6])
        first = display.figure_
        assert display.plot() is display
        assert display.figure_ is not first

    def test_it_draws_on_a_part_of_a_figure(self, vectors, plt):
        parts = plt.figure(layout="constrained").subfigures(1, 2)
        display = EmbeddingMapDisplay.from_embeddings(vectors[:6], ax=parts[0].subplots(), labels=KINDS, texts=TEXTS)
        assert display.figure_ is parts[0]

    def test_both_directions_have_one_scale_and_no_units(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors[:6] * [9, 1, 1, 1, 1, 1, 1, 1], labels=KINDS)
        display.figure_.canvas.draw()
        (left, bottom), (right, top) = display.ax_.transData.transform([(0, 0), (1, 1)])
        assert right - left == pytest.approx(top - bottom, rel=1e-2)
        assert ticks_of(display.ax_.xaxis) == ticks_of(display.ax_.yaxis) == []

    def test_all_points_are_within_the_axes(self, vectors):
        display = EmbeddingMapDisplay.from_embeddings(vectors, method="pca", labels=np.arange(60) % 3)
        display.figure_.canvas.draw()
        box = display.ax_.get_window_extent()
        assert all(box.contains(*pixel) for pixel in display.ax_.transData.transform(display.positions))

    def test_many_points_are_small_faint_and_rasterized(self):
        few, many = (
            points_of(EmbeddingMapDisplay(np.random.default_rng(0).normal(size=(n, 2))).plot())[0] for n in (6, 6_000)
        )
        assert many.get_sizes()[0] < few.get_sizes()[0]
        assert many.get_alpha() < few.get_alpha()
        assert (few.get_rasterized(), many.get_rasterized()) == (False, True)

    def test_scatter_kw_has_the_last_word(self, vectors):
        (points,) = points_of(EmbeddingMapDisplay(vectors[:, :2]).plot(scatter_kw={"s": 5, "marker": "+", "c": "red"}))
        assert points.get_sizes().tolist() == [5]
        assert to_hex(points.get_edgecolor()[0]) == "#ff0000"

    def test_positions_from_elsewhere_can_be_drawn(self, vectors):
        display = EmbeddingMapDisplay(vectors[:, :2], method="MDS").plot()
        assert display.ax_.get_xlabel() == "MDS 1"
        assert EmbeddingMapDisplay(vectors[:, :2]).plot().ax_.get_ylabel() == "dimension 2"

    @pytest.mark.parametrize(
        "make",
        [
            lambda: EmbeddingMapDisplay(np.eye(2)).plot(),
            lambda: EmbeddingMapDisplay.from_texts(TEXTS),
        ],
    )
    def test_without_matplotlib_the_error_says_what_to_install_before_anything_is_embedded(
        self, make, counted, without
    ):
        without("matplotlib")
        with pytest.raises(
            ImportError, match=r"^EmbeddingMapDisplay needs matplotlib: pip install 'skembed\[plot\]'\.$"
        ):
            make()
        assert counted == []


class TestInteractive:
    def test_the_pointer_shows_text_label_position_and_index_label(self, vectors):
        X = pd.DataFrame(vectors[:3], index=["x", "y", "z"])
        labels = pd.Series(["a", "b", None], name="kind")
        display = EmbeddingMapDisplay.from_embeddings(X, labels=labels, texts=["one", "word " * 20, None])
        a, b, missing = display.plot_interactive().data
        assert (a.name, b.name, missing.name) == ("a", "b", "missing")
        assert a.hovertext == ("one<br>kind: a<br>row 0 (index label x)",)
        assert b.hovertext[0].startswith(
            "word word word word word word word word word word word word word word<br>word"
        )
        assert missing.hovertext[0].endswith("row 2 (index label z)")
        assert_allclose([a.x[0], a.y[0]], display.positions[0])

    def test_nothing_in_it_is_taken_for_html_or_a_formula(self, vectors):
        display = EmbeddingMapDisplay(np.eye(2), labels=["<b> & $5, $6", "b"], texts=["<i>", "t"])
        trace = display.plot_interactive().data[0]
        assert trace.name == "&lt;b&gt; &amp; &#36;5, &#36;6"
        assert trace.hovertext[0].startswith("&lt;i&gt;<br>label: &lt;b&gt;")

    def test_scores_get_a_color_bar(self):
        figure = EmbeddingMapDisplay(np.eye(2), labels=pd.Series([0.5, 1], name="score")).plot_interactive()
        assert figure.data[0].marker.showscale
        assert figure.data[0].marker.colorbar.title.text == "score"
        assert_allclose(figure.data[0].marker.color, [0.5, 1])

    def test_rows_without_a_vector_are_left_out_and_the_title_says_so(self):
        figure = EmbeddingMapDisplay([[0, 1], [np.nan, np.nan], [1, 0]], method="tsne").plot_interactive()
        assert len(figure.data[0].x) == 2
        assert figure.layout.title.text == "left out: 1 row without a vector"
        assert figure.layout.xaxis.title.text == "t-SNE 1"

    def test_without_plotly_the_error_says_what_to_install(self, without):
        without("plotly")
        with pytest.raises(
            ImportError, match=r"^EmbeddingMapDisplay.plot_interactive needs plotly: pip install plotly"
        ):
            EmbeddingMapDisplay(np.eye(2)).plot_interactive()


class TestMapOfTexts:
    def test_it_is_the_map_of_their_vectors(self, embedder, tiny):
        display = EmbeddingMapDisplay.from_texts(TEXTS, embedder=embedder, labels=KINDS)
        expected = EmbeddingMapDisplay.from_embeddings(skembed.embed(TEXTS, model=tiny))
        assert_allclose(display.positions, expected.positions, atol=1e-5)
        assert notes_of(display) == TEXTS
        assert legend_of(display) == ["animals", "app", "shipping"]

    @pytest.mark.parametrize(
        "make", [pd.Series, np.array, pl.Series, pa.array, lambda texts: pd.DataFrame({"t": texts})]
    )
    def test_any_column_of_texts_will_do(self, make, embedder):
        display = EmbeddingMapDisplay.from_texts(make(TEXTS), embedder=embedder)
        assert display.texts.tolist() == TEXTS

    def test_missing_texts_are_left_out_and_index_labels_kept(self, embedder):
        texts = pd.Series(["a fox", None, "login"], index=["x", "y", "z"])
        display = EmbeddingMapDisplay.from_texts(texts, embedder=embedder)
        assert np.isnan(display.positions[:, 0]).tolist() == [False, True, False]
        assert display.index.tolist() == ["x", "y", "z"]

    def test_anything_that_embeds_texts_will_do(self):
        embedder = make_pipeline(TfidfVectorizer(), TruncatedSVD(3))
        assert EmbeddingMapDisplay.from_texts(TEXTS, embedder=embedder).positions.shape == (6, 2)

    def test_a_warning_about_cut_texts_points_to_the_users_line(self, embedder):
        with pytest.warns(TruncationWarning) as caught:
            EmbeddingMapDisplay.from_texts(["fox " * 999, "a fox"], embedder=embedder)
        assert caught[0].filename == __file__

    def test_with_the_real_model_texts_of_one_kind_lie_together(self):
        texts = ["A cat sat.", "Stocks fell.", "A kitten sat.", None, "Markets dropped."]
        cat, stocks, kitten, _, markets = EmbeddingMapDisplay.from_texts(texts).positions
        assert np.linalg.norm(cat - kitten) < np.linalg.norm(cat - stocks)
        assert np.linalg.norm(stocks - markets) < np.linalg.norm(kitten - markets)


class TestMapOfAnEstimator:
    def test_of_a_transformer_it_is_the_map_of_its_output(self, embedder, tiny):
        display = EmbeddingMapDisplay.from_estimator(embedder, TEXTS)
        expected = EmbeddingMapDisplay.from_embeddings(skembed.embed(TEXTS, model=tiny))
        assert_allclose(display.positions, expected.positions, atol=1e-5)
        assert display.labels is None
        assert notes_of(display) == TEXTS

    def test_of_a_classifier_it_is_the_map_of_what_goes_into_it_colored_by_its_predictions(self, embedder):
        pipe = make_pipeline(embedder, StandardScaler(), LogisticRegression()).fit(TEXTS, KINDS)
        display = EmbeddingMapDisplay.from_estimator(pipe, TEXTS)
        expected = EmbeddingMapDisplay.from_embeddings(pipe[:-1].transform(TEXTS))
        assert_allclose(display.positions, expected.positions, atol=1e-5)
        assert display.labels.tolist() == pipe.predict(TEXTS).tolist()
        assert display.ax_.get_legend().get_title().get_text() == "prediction"

    def test_labels_and_texts_have_the_last_word(self, embedder):
        pipe = make_pipeline(embedder, LogisticRegression()).fit(TEXTS, KINDS)
        display = EmbeddingMapDisplay.from_estimator(pipe, TEXTS, labels=list("aabbcc"), texts=list("uvwxyz"))
        assert legend_of(display) == ["a", "b", "c"]
        assert notes_of(display) == list("uvwxyz")

    def test_of_a_search_it_is_the_map_of_its_best_estimator(self, embedder):
        search = GridSearchCV(make_pipeline(embedder, LogisticRegression()), {"logisticregression__C": [1]}, cv=2)
        search.fit(TEXTS, list("ababab"))
        assert EmbeddingMapDisplay.from_estimator(search, TEXTS).labels.tolist() == search.predict(TEXTS).tolist()

    @pytest.mark.parametrize("clusterer", [KMeans(2, n_init=1, random_state=0), DBSCAN(eps=0.1, min_samples=1)])
    def test_clusters_are_colors(self, clusterer, embedder):
        pipe = make_pipeline(embedder, clusterer).fit(TEXTS)
        display = EmbeddingMapDisplay.from_estimator(pipe, TEXTS)
        assert_array_equal(display.labels, pipe[-1].labels_)
        assert display.labels.name == "cluster"

    @pytest.mark.parametrize("wrap", [lambda classifier: classifier, make_pipeline])
    def test_a_classifier_of_vectors_will_do(self, wrap, vectors):
        X = pd.DataFrame(vectors[:6], index=list("uvwxyz"))
        display = EmbeddingMapDisplay.from_estimator(wrap(LogisticRegression().fit(X, KINDS)), X)
        assert_allclose(display.positions, EmbeddingMapDisplay.from_embeddings(X).positions)
        assert set(legend_of(display)) <= set(KINDS)
        assert display.index.tolist() == list("uvwxyz")

    def test_sparse_features_will_do(self):
        display = EmbeddingMapDisplay.from_estimator(
            TfidfVectorizer().fit(TEXTS), pd.Series(TEXTS, index=list("uvwxyz"))
        )
        assert display.positions.shape == (6, 2)
        assert display.index.tolist() == list("uvwxyz")

    def test_a_clusterer_that_cannot_say_where_rows_belong_is_an_error(self, vectors):
        with pytest.raises(TypeError, match=r"^LocalOutlierFactor has neither predict nor labels_; pass labels\.$"):
            EmbeddingMapDisplay.from_estimator(LocalOutlierFactor(3).fit(vectors), vectors)

    def test_a_clusterer_that_was_fitted_to_other_rows_is_an_error(self, vectors):
        with pytest.raises(ValueError, match=r"^labels must have the length 60; got 50\.$"):
            EmbeddingMapDisplay.from_estimator(DBSCAN().fit(vectors[:50]), vectors)

    def test_a_classifier_of_texts_alone_is_an_error_that_says_what_to_call(self):
        with pytest.raises(TypeError, match=r"^X holds texts, not vectors; use from_texts\.$"):
            EmbeddingMapDisplay.from_estimator(SimpleNamespace(predict=len, labels_=[0]), TEXTS, labels=KINDS)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EmbeddingMapDisplay([1.0, 2.0]), ValueError, r"the shape \(n_rows, 2\); got \(2,\)"),
        (lambda: EmbeddingMapDisplay(np.ones((3, 3))), ValueError, r"the shape \(n_rows, 2\); got \(3, 3\)"),
        (lambda: EmbeddingMapDisplay([[np.nan, 1]]), ValueError, "No row has a position"),
        (lambda: EmbeddingMapDisplay(np.eye(2), labels=["a"]), ValueError, "labels must have the length 2; got 1"),
        (lambda: EmbeddingMapDisplay(np.eye(2), texts=["a"] * 3), ValueError, "texts must have the length 2; got 3"),
        (lambda: EmbeddingMapDisplay(np.eye(2), labels=np.eye(2)), ValueError, r"labels must be one column.*\(2, 2\)"),
        (lambda: EmbeddingMapDisplay.from_embeddings(np.eye(2), labels=["a"]), ValueError, "labels must have the len"),
        (lambda: EmbeddingMapDisplay.from_embeddings(np.eye(2), texts=["a"]), ValueError, "texts must have the length"),
        (
            lambda: EmbeddingMapDisplay.from_texts(TEXTS, labels=["a"]),
            ValueError,
            "labels must have the length 6; got 1",
        ),
        (
            lambda: EmbeddingMapDisplay.from_embeddings([[1, 2], None]),
            ValueError,
            "at least 2 rows .* got 1, of 2 rows",
        ),
        (lambda: EmbeddingMapDisplay.from_embeddings([None, None]), ValueError, "at least 2 rows .* got 0, of 2 rows"),
        (
            lambda: EmbeddingMapDisplay.from_embeddings(np.eye(2), method="mds"),
            ValueError,
            "method must be one of 'auto', 'pca', 'tsne', 'umap'; got 'mds'",
        ),
        (lambda: EmbeddingMapDisplay.from_embeddings(TEXTS), TypeError, "X holds texts, not vectors; use from_texts"),
        (lambda: EmbeddingMapDisplay.from_texts(np.eye(2)), TypeError, "texts holds vectors, not texts; use from_emb"),
        (lambda: EmbeddingMapDisplay.from_texts("a fox"), TypeError, "is a single str; pass a list"),
        (lambda: EmbeddingMapDisplay.from_texts(["a", 1]), TypeError, r"texts\[1\] is int, not str"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_error(make, error, message, counted):
    with pytest.raises(error, match=message):
        make()
    assert counted == []
