"""TopicMapDisplay: names, colours and rows of the map, and what it says is not on it."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.text
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_hex, to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skembed import EmbeddingMapDisplay, TopicMapDisplay, TruncationWarning
from skembed.plotting import projections
from tests.plotting.drawn import TEXTS, notes_of, points_of


def blobs(n_topics: int, n_each: int = 8, scale: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Points around the places of a grid, and their topics."""
    rng, topics = np.random.default_rng(0), np.repeat(np.arange(n_topics), n_each)
    side = int(np.ceil(np.sqrt(n_topics)))
    places = np.stack(np.divmod(np.arange(n_topics), side), axis=1).astype(float)
    return places[topics] + rng.normal(scale=scale, size=(len(topics), 2)), topics


def names_on(display) -> list[str]:
    return [note.replace("\n", " ") for note in notes_of(display) if note]


def boxes_of(display) -> list:
    """Where the names are, in pixels."""
    display.figure_.canvas.draw()
    return [matplotlib.text.Text.get_window_extent(text) for text in display.ax_.texts if text.get_text()]


def title_of(display) -> str:
    return display.ax_.get_title(loc="left")


def note_of(display) -> str:
    return display.ax_.get_xlabel().replace("\n", " ")


def point_colors(display) -> list[str]:
    return [to_hex(color) for color in points_of(display)[0].get_facecolor()]


class TestNames:
    def test_names_are_written_the_largest_topic_first(self):
        positions, topics = blobs(3)
        display = TopicMapDisplay(positions[:-5], topics[:-5], names=["refund", "parcel", "login"]).plot()
        assert names_on(display) == ["refund", "parcel", "login"]
        assert names_on(TopicMapDisplay(positions[5:], topics[5:]).plot()) == ["topic 1", "topic 2", "topic 0"]

    @pytest.mark.parametrize(
        "names",
        [
            pd.Series(["b", "a"], index=[1, 0]),
            pd.Series({0: "a", 1: "b", 7: "of no row"}),
            {0: "a", 1: "b"},
            ["a", "b"],
            np.array(["a", "b"]),
        ],
    )
    def test_names_are_found_by_the_number_of_their_topic(self, names):
        assert names_on(TopicMapDisplay(*blobs(2), names=names).plot()) == ["a", "b"]

    def test_a_topic_without_a_name_has_its_number(self):
        assert names_on(TopicMapDisplay(*blobs(3), names={1: "parcel", 2: None}).plot()) == [
            "topic 0",
            "parcel",
            "topic 2",
        ]

    def test_a_name_is_in_the_crowd_of_its_topic_and_not_at_a_stray_point(self):
        positions, topics = blobs(2, n_each=30, scale=0.02)
        positions[0] = [1, 0.9]  # a text of topic 0 among those of topic 1
        display = TopicMapDisplay(positions, topics).plot()
        for text, place in zip(display.ax_.texts, [[0, 0], [0, 1]], strict=True):
            assert_allclose(text.xy, place, atol=0.1)

    @pytest.mark.parametrize("scale", [0.05, 0.5, 0])
    def test_up_to_thirty_names_are_within_the_map_and_not_over_each_other(self, scale):
        positions, topics = blobs(30, scale=scale)
        positions *= scale > 0  # 0: all texts at one place
        names = [f"quite a long name, of three words {number}" for number in range(30)]
        display = TopicMapDisplay(positions, topics, names=names).plot()
        boxes = boxes_of(display)
        assert len(boxes) == 30
        assert note_of(display) == "Similar texts are close together."
        area = display.ax_.get_window_extent()
        for number, box in enumerate(boxes):
            assert area.contains(*box.min)
            assert area.contains(*box.max)
            assert not any(box.overlaps(other) for other in boxes[:number])

    @pytest.mark.parametrize(("n_topics", "note"), [(31, "1 smaller topic."), (200, "170 smaller topics.")])
    def test_of_more_topics_the_largest_are_named_and_a_line_says_how_many_are_not(self, n_topics, note):
        positions, topics = blobs(n_topics, n_each=2)
        positions, topics = np.vstack([positions, [[0, 0]]]), np.append(topics, n_topics - 1)
        display = TopicMapDisplay(positions, topics).plot()
        assert names_on(display)[:2] == [f"topic {n_topics - 1}", "topic 0"]
        assert len(names_on(display)) == 30
        assert note_of(display).endswith(f"Not named: {note}")

    def test_names_without_room_are_left_out_and_a_line_says_how_many(self, plt):
        axes = plt.subplots(figsize=(1.5, 1.5))[1]
        display = TopicMapDisplay(*blobs(30)).plot(ax=axes)
        n_named = len(names_on(display))
        assert 0 < n_named < 30
        assert note_of(display).endswith(f"Not named: {30 - n_named} smaller topics.")

    def test_a_name_that_is_moved_has_a_line_to_its_topic(self):
        positions, topics = blobs(2, scale=0.001)
        apart = TopicMapDisplay(positions, topics).plot()
        together = TopicMapDisplay(np.vstack([positions * [1, 0], [[5, 5]]]), np.append(topics, 0)).plot()
        assert [text.arrow_patch is not None for text in apart.ax_.texts] == [False, False]
        assert any(text.arrow_patch is not None for text in together.ax_.texts)

    def test_long_names_are_wrapped_and_shortened(self):
        display = TopicMapDisplay(*blobs(1), names=["Krankenversicherungsbeitrag, Beitrag, Versicherung " * 3]).plot()
        assert notes_of(display) == ["Krankenversicherungs\nbeitrag, Beitrag,\nVersicherung…"]

    def test_dollars_in_a_name_are_not_read_as_a_formula(self):
        assert names_on(TopicMapDisplay(*blobs(1), names=["$5, $10"]).plot()) == ["$5, $10"]

    @pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # matplotlib's own, unless a font has Chinese
    def test_names_in_any_script_are_written(self):
        names = ["退款, 银行卡, 转账", "استرداد, بطاقة", "वापसी", "🎉 party"]
        assert names_on(TopicMapDisplay(*blobs(4), names=names).plot()) == names


class TestColors:
    @pytest.mark.parametrize("n_topics", [2, 9, 18])
    def test_each_of_up_to_18_topics_has_a_color_of_its_own(self, n_topics):
        assert len(set(point_colors(TopicMapDisplay(*blobs(n_topics)).plot()))) == n_topics

    def test_of_many_topics_those_beside_each_other_differ(self):
        positions, topics = blobs(36, n_each=1, scale=0)
        display = TopicMapDisplay(positions, topics).plot()
        color_at = dict(
            zip(map(tuple, points_of(display)[0].get_offsets().tolist()), point_colors(display), strict=True)
        )
        for (x, y), color in color_at.items():
            assert color not in (color_at.get((x + 1, y)), color_at.get((x, y + 1)))

    @pytest.mark.parametrize(
        "topics", [[0, -1, 1, -5], [0, None, 1, None], pd.Series([0, pd.NA, 1, -1], dtype="Int64")]
    )
    def test_rows_without_a_topic_are_grey_and_behind_the_others_and_counted(self, topics):
        display = TopicMapDisplay(np.random.default_rng(0).normal(size=(4, 2)), topics).plot()
        assert point_colors(display)[:2] == ["#cccccc", "#cccccc"]
        assert "#cccccc" not in point_colors(display)[2:]
        assert title_of(display) == "4 texts, 2 topics"
        assert note_of(display).endswith("Grey, without a topic: 2 texts.")

    def test_points_of_topics_are_mixed_so_that_none_hides_another(self):
        colors = point_colors(TopicMapDisplay(*blobs(2, n_each=50)).plot())
        assert 20 < sum(one != other for one, other in pairwise(colors)) < 80

    def test_every_name_is_in_a_dark_tone_that_is_readable_on_white(self):
        for text in TopicMapDisplay(*blobs(18)).plot().ax_.texts:
            linear = np.array(to_rgb(text.get_color())) ** 2.2
            assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 4.5  # WCAG 2.2, success criterion 1.4.3


class TestRows:
    @pytest.mark.parametrize(
        ("positions", "topics", "title"),
        [
            ([[0, 0]], [0], "1 text, 1 topic"),
            ([[0, 0], [1, 1]], [0, 1], "2 texts, 2 topics"),
            ([[0, 0]] * 3, [0, 1, 1], "3 texts, 2 topics"),
            ([[0, 0], [1, 1]], [-1, -1], "2 texts, 0 topics"),
            ([[0, 0], [1, 1]], [10**12, 3], "2 texts, 2 topics"),
        ],
    )
    def test_few_rows_have_a_map(self, positions, topics, title):
        assert title_of(TopicMapDisplay(positions, topics).plot()) == title

    @pytest.mark.parametrize("n_topics", [3, 200])
    def test_sixty_thousand_rows_have_a_map(self, n_topics):
        positions, topics = blobs(n_topics, n_each=60_000 // n_topics)
        display = TopicMapDisplay(positions, topics).plot()
        assert title_of(display) == f"60,000 texts, {n_topics} topics"
        assert len(points_of(display)[0].get_offsets()) == 60_000

    def test_a_line_says_which_rows_are_not_on_the_map(self):
        positions = [[0, 0], [1, 1], [np.nan, np.nan], [np.nan, np.nan], [np.nan, np.nan]]
        display = TopicMapDisplay(positions, [0, 1, 1, 2, None]).plot()
        assert title_of(display) == "4 texts, 3 topics"
        assert len(points_of(display)[0].get_offsets()) == 2
        assert note_of(display) == (
            "Similar texts are close together. Not named: 1 smaller topic. Not drawn: 2 texts. "
            "Left out, without a text: 1 row."
        )


class TestDrawing:
    def test_there_are_no_axes_and_the_scale_is_the_same_in_both_directions(self):
        positions, topics = blobs(4)
        display = TopicMapDisplay(positions * [3, 1], topics).plot()
        assert [*display.ax_.get_xticks(), *display.ax_.get_yticks(), display.ax_.get_ylabel()] == [""]
        assert not any(spine.get_visible() for spine in display.ax_.spines.values())
        display.figure_.canvas.draw()
        (left, bottom), (right, top) = display.ax_.transData.transform([(0, 0), (1, 1)])
        assert right - left == pytest.approx(top - bottom, rel=1e-2)

    def test_it_draws_on_given_axes_and_leaves_the_rest_of_pyplot_unchanged(self, plt):
        before = dict(plt.rcParams)
        figure, (left, right) = plt.subplots(1, 2)
        display = TopicMapDisplay(*blobs(3))
        assert display.plot(ax=right) is display
        assert (display.ax_, display.figure_) == (right, figure)
        assert not left.has_data()
        assert plt.get_fignums() == [figure.number]
        assert dict(plt.rcParams) == before

    def test_scatter_kw_overrides_the_style(self):
        display = TopicMapDisplay(*blobs(3)).plot(scatter_kw={"s": 5, "c": "red", "alpha": 1})
        assert points_of(display)[0].get_sizes().tolist() == [5]
        assert set(point_colors(display)) == {"#ff0000"}

    @pytest.mark.parametrize(
        "make",
        [lambda model: TopicMapDisplay(*blobs(2)).plot(), lambda model: TopicMapDisplay.from_estimator(model, TEXTS)],
    )
    def test_without_matplotlib_the_error_says_what_to_install_before_anything_is_embedded(
        self, make, topic_model, counted, without
    ):
        without("matplotlib")
        with pytest.raises(ImportError, match=r"^TopicMapDisplay needs matplotlib: pip install 'skembed\[plot\]'\.$"):
            make(topic_model)
        assert counted == []


class TestOfAModel:
    def test_the_texts_that_it_was_fitted_to_have_their_topics_and_the_positions_of_their_vectors(self, topic_model):
        topic_model.fit(TEXTS)
        display = TopicMapDisplay.from_estimator(topic_model, TEXTS)
        assert_array_equal(display.topics, topic_model.labels_)
        assert display.names.tolist() == topic_model.topics_["name"].tolist()
        assert display.texts.tolist() == TEXTS
        expected = EmbeddingMapDisplay.from_texts(TEXTS, embedder=topic_model.embedder)
        assert_allclose(display.positions, expected.positions, atol=1e-5)
        assert title_of(display) == "6 texts, 2 topics"

    @pytest.mark.parametrize("make", [list, pd.Series, pl.Series])
    def test_new_texts_have_the_topics_that_it_predicts(self, make, topic_model):
        topic_model.fit(TEXTS)
        new = make([*TEXTS[::-1], "a new text", None])
        display = TopicMapDisplay.from_estimator(topic_model, new)
        assert_array_equal(display.topics, topic_model.predict(new))
        assert display.topics[-1] == -1
        assert note_of(display).endswith("Left out, without a text: 1 row.")

    def test_each_text_is_embedded_once(self, topic_model, counted):
        topic_model.embedder.set_params(cache=None)
        topic_model.fit(TEXTS)
        counted.clear()
        TopicMapDisplay.from_estimator(topic_model, TEXTS)
        assert sorted(counted) == sorted(TEXTS)

    @pytest.mark.parametrize(
        "wrap", [lambda model: model, FrozenEstimator, lambda model: make_pipeline("passthrough", model)]
    )
    def test_vectors_are_accepted_and_the_model_may_be_wrapped(self, wrap, topic_model, vectors):
        X = pd.DataFrame(vectors[:20], index=[f"row {number}" for number in range(20)])
        model = wrap(topic_model).fit(X) if wrap is not FrozenEstimator else FrozenEstimator(topic_model.fit(X))
        display = TopicMapDisplay.from_estimator(model, X, method="pca")
        assert_array_equal(display.topics, topic_model.labels_)
        assert display.texts is None
        assert display.index.tolist() == X.index.tolist()

    def test_in_a_pipeline_the_map_is_that_of_the_last_step(self, topic_model, embedder):
        model = make_pipeline(embedder, topic_model).fit(TEXTS)
        display = TopicMapDisplay.from_estimator(model, TEXTS)
        assert_array_equal(display.topics, topic_model.labels_)
        assert display.texts.tolist() == TEXTS

    def test_of_too_many_rows_for_tsne_a_random_sample_is_drawn(self, topic_model, vectors, monkeypatch):
        monkeypatch.setattr(projections, "_TSNE_UP_TO", 50)
        X = np.vstack([[np.full(8, np.nan)], vectors])
        topic_model.fit(X)
        display = TopicMapDisplay.from_estimator(topic_model, X)
        sample = ~np.isnan(display.positions).any(axis=1)
        assert sample.sum() == 50
        expected = EmbeddingMapDisplay.from_embeddings(X[sample], method="tsne").positions
        assert_allclose(display.positions[sample], expected)
        assert title_of(display) == "60 texts, 2 topics"
        assert note_of(display).endswith("Not drawn: 10 texts. Left out, without a text: 1 row.")

    @pytest.mark.parametrize(("method", "n_drawn"), [("auto", 50), ("pca", 60), ("tsne", 60)])
    def test_a_method_that_is_asked_for_draws_all_rows(self, method, n_drawn, topic_model, vectors, monkeypatch):
        monkeypatch.setattr(projections, "_TSNE_UP_TO", 50)
        display = TopicMapDisplay.from_estimator(topic_model.fit(vectors), vectors, method=method)
        assert np.isfinite(display.positions[:, 0]).sum() == n_drawn

    def test_the_same_seed_gives_the_same_map(self, topic_model, vectors, monkeypatch):
        monkeypatch.setattr(projections, "_TSNE_UP_TO", 50)
        topic_model.fit(vectors)
        maps = [TopicMapDisplay.from_estimator(topic_model, vectors, random_state=seed) for seed in (3, 3, 4)]
        assert_array_equal(maps[0].positions, maps[1].positions)
        assert not np.array_equal(np.isnan(maps[0].positions), np.isnan(maps[2].positions))

    @pytest.mark.parametrize("fit", [lambda model: clone(model), lambda model: KMeans(2).fit(np.eye(3)), make_pipeline])
    def test_what_is_no_fitted_topic_model_is_refused_before_anything_is_embedded(self, fit, topic_model, counted):
        with pytest.raises(TypeError, match=r"holds no fitted TopicModel\.$"):
            TopicMapDisplay.from_estimator(fit(topic_model), TEXTS)
        assert counted == []

    def test_a_warning_about_cut_texts_points_to_the_users_line(self, topic_model):
        topic_model.fit(TEXTS)
        with pytest.warns(TruncationWarning) as caught:
            TopicMapDisplay.from_estimator(topic_model, ["fox " * 999, "a fox"])
        assert {warning.filename for warning in caught} == {__file__}

    def test_an_unknown_method_is_an_error_before_anything_is_embedded(self, topic_model, counted):
        with pytest.raises(ValueError, match="method must be one of 'auto', 'pca', 'tsne', 'umap'; got 'mds'"):
            TopicMapDisplay.from_estimator(topic_model, TEXTS, method="mds")
        assert counted == []


class TestInteractive:
    def test_the_pointer_shows_the_text_and_the_name_of_its_topic(self):
        texts = ["my money back", "where is it", "hm"]
        display = TopicMapDisplay(
            np.eye(3)[:, :2], [1, 0, -1], names=["parcel", "refund"], texts=texts, index=list("xyz")
        )
        figure = display.plot_interactive()
        parcel, refund, none = figure.data
        assert (parcel.name, refund.name, none.name) == ("parcel", "refund", "missing")
        assert refund.hovertext == ("my money back<br>topic: refund<br>row 0 (index label x)",)
        assert figure.layout.title.text == "3 texts, 2 topics"
        assert not figure.layout.xaxis.title.text

    def test_topics_of_the_same_name_are_shown_together(self):
        figure = TopicMapDisplay(np.eye(2), [0, 1], names=["same", "same"]).plot_interactive()
        assert [trace.name for trace in figure.data] == ["same"]

    def test_without_plotly_the_error_says_what_to_install(self, without):
        without("plotly")
        with pytest.raises(ImportError, match=r"^TopicMapDisplay.plot_interactive needs plotly: pip install plotly"):
            TopicMapDisplay(np.eye(2), [0, 1]).plot_interactive()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TopicMapDisplay(np.ones((3, 3)), [0] * 3), ValueError, r"the shape \(n_rows, 2\); got \(3, 3\)"),
        (lambda: TopicMapDisplay([[np.nan, 1]], [0]), ValueError, "No row has a position"),
        (lambda: TopicMapDisplay(np.eye(2), [0]), ValueError, "topics must have the length 2; got 1"),
        (lambda: TopicMapDisplay(np.eye(2), ["a", "b"]), TypeError, "topics must be whole numbers, one for each row"),
        (lambda: TopicMapDisplay(np.eye(2), [0.5, 1]), TypeError, "topics must be whole numbers"),
        (lambda: TopicMapDisplay(np.eye(2), None), TypeError, "topics must be whole numbers"),
        (lambda: TopicMapDisplay(np.eye(2), [0, 1], texts=["a"]), ValueError, "texts must have the length 2; got 1"),
        (
            lambda: TopicMapDisplay(np.eye(2), [0, 1], names=pd.Series(["a", "b"], index=[0, 0])),
            ValueError,
            "names must have one name for each topic; its index has duplicates",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_error(make, error, message):
    with pytest.raises(error, match=message):
        make()
