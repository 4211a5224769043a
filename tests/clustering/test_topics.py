"""TopicModel: topics that do not depend on the order of the rows, their names, merging, counting, and odd input."""

from __future__ import annotations

import pickle
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from scipy.cluster.hierarchy import is_valid_linkage
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import skembed
from skembed import SentenceEmbeddingTransformer, TopicModel, TruncationWarning
from skembed.clustering import centers

NAN = float("nan")
WORDS = ["fox", "dog", "parcel", "address", "update", "login", "numbers", "texts"]
TEXTS = [f"{how} {word}" for word in WORDS for how in ("the", "a quick", "my wrong", "jumps over the")]
GAPPY = [*TEXTS, None, "the fox", NAN, "a quick dog"]
ABOUT_PARCELS = ["Where is my parcel?", "The parcel is late.", "My parcel has not arrived.", "When do you deliver it?"]
ABOUT_PASSWORDS = ["I forgot my password.", "How do I reset the password?", "The password does not work."]
FEW, MANY = {}, {"_FEW": 15, "_N_IN_TREE": 25, "_N_IN_KMEANS": 40, "_N_NEAREST": 3}  # sizes in centers.py


def vectors_around(n_topics: int, n_rows: int, seed: int = 0, noise: float = 0.2, dim: int = 6) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    middles = numbers.normal(size=(n_topics, dim))
    return middles[numbers.integers(n_topics, size=n_rows)] + noise * numbers.normal(size=(n_rows, dim))


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def n_distinct(column) -> int:
    """How many topics a column can have at most."""
    if isinstance(column, np.ndarray):
        return len(np.unique(unit(column[~np.isnan(column).any(axis=1)]).round(4) + 0, axis=0))
    return len({text for text in column if isinstance(text, str)})


@st.composite
def columns_of_vectors(draw) -> np.ndarray:
    """Return vectors in topics or at random, some of them repeated, of zeros or missing."""
    seed, n_rows = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 60))
    vectors = vectors_around(draw(st.integers(1, 8)), n_rows, seed, draw(st.sampled_from([0.0, 0.2, 2.0])))
    numbers = np.random.default_rng(seed)
    vectors = vectors[numbers.integers(n_rows, size=n_rows)] if draw(st.booleans()) else vectors
    for value in draw(st.lists(st.sampled_from([0.0, NAN]), max_size=3)):
        vectors = np.insert(vectors, numbers.integers(len(vectors) + 1), value, axis=0)
    return vectors


columns_of_texts = st.lists(st.sampled_from([*TEXTS, "", "!?", None]), min_size=1, max_size=50).filter(any)
at_random = st.randoms(use_true_random=False)
sizes = st.sampled_from([FEW, MANY])


def fit(column, n_topics="auto", of_centers=FEW, **params) -> TopicModel:
    """Fit a model; ``of_centers`` are sizes in centers.py."""
    n_topics = n_topics if n_topics == "auto" else min(n_topics, n_distinct(column))
    with pytest.MonkeyPatch.context() as patch:
        for name, size in of_centers.items():
            patch.setattr(centers, name, size)
        return TopicModel(n_topics, **params).fit(column)


def taken(column, rows):
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


@pytest.fixture
def embedder(tiny) -> SentenceEmbeddingTransformer:
    return SentenceEmbeddingTransformer(tiny, missing="nan")


@pytest.fixture
def model(embedder) -> TopicModel:
    """A model of 6 topics of texts."""
    return TopicModel(6, embedder=embedder).fit(GAPPY)


@pytest.fixture
def vectors() -> np.ndarray:
    return vectors_around(5, 60)


# The order of the rows, and what is predicted


@settings(deadline=None, max_examples=25)
@given(columns_of_vectors(), st.sampled_from(["auto", 1, 2, 5]), at_random, sizes)
def test_shuffled_vectors_have_the_same_topics_row_for_row(column, n_topics, random, of_centers):
    if np.isnan(column).any(axis=1).all():
        return
    order = random.sample(range(len(column)), len(column))
    one, other = (fit(rows, n_topics, of_centers) for rows in (column, column[order]))
    assert_array_equal(other.labels_, one.labels_[order])
    assert_array_equal(other.centers_, one.centers_)
    assert_array_equal(other.hierarchy_, one.hierarchy_)


@settings(deadline=None, max_examples=12)
@given(columns_of_texts, st.sampled_from(["auto", 1, 2, 5]), at_random, sizes)
def test_shuffled_texts_have_the_same_topics_row_for_row(tiny, column, n_topics, random, of_centers):
    order = random.sample(range(len(column)), len(column))
    embedder = SentenceEmbeddingTransformer(tiny, missing="nan", cache=None)
    one, other = (fit(rows, n_topics, of_centers, embedder=embedder) for rows in (column, taken(column, order)))
    assert_array_equal(other.labels_, one.labels_[order])
    assert_array_equal(other.centers_, one.centers_)
    assert_frame_equal(other.topics_, one.topics_)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.sampled_from(TEXTS), min_size=4, max_size=30), at_random, st.integers(0, 99))
def test_shuffled_texts_beside_vectors_have_the_same_topics_and_names(texts, random, seed):
    order = random.sample(range(len(texts)), len(texts))
    column, vectors = pd.Series(texts), vectors_around(3, len(texts), seed)  # equal texts with different vectors
    one = column.text.cluster(3, vectors=vectors).drop(columns="rank")
    other = column[order].text.cluster(3, vectors=vectors[order]).drop(columns="rank")
    assert_frame_equal(other.sort_index(), one)


def test_vectors_beside_texts_have_the_clusters_of_the_texts(embedder):
    column = pd.Series(GAPPY)
    vectors = column.text.embed(output="numpy", **embedder.get_params())
    expected = column.text.cluster(6, **embedder.get_params())
    for matrix in (vectors, pd.DataFrame(vectors), np.asfortranarray(vectors)):
        assert_frame_equal(column.text.cluster(6, vectors=matrix), expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_last_digits_of_vectors_beside_texts_do_not_number_equally_large_clusters(seed):
    column, middles = pd.Series(TEXTS[:8]), np.repeat(np.eye(4), 2, axis=0)
    noise = 1e-3 * np.random.default_rng(seed).normal(size=middles.shape)
    one, other = (column.text.cluster(4, vectors=vectors)["cluster"] for vectors in (middles, middles + noise))
    assert other.tolist() == one.tolist()


def test_shuffled_rows_are_merged_and_described_alike(embedder):
    order = np.random.default_rng(0).permutation(len(GAPPY))
    one, other = (TopicModel(8, embedder=embedder).fit(taken(GAPPY, rows)) for rows in (range(len(GAPPY)), order))
    assert_array_equal(other.reduce(3).labels_, one.reduce(3).labels_[order])
    assert_frame_equal(other.reduce(3).topics_, one.reduce(3).topics_)


@settings(deadline=None, max_examples=25)
@given(columns_of_vectors(), st.sampled_from(["auto", 1, 2, 5]), at_random, sizes)
def test_vectors_that_the_model_was_fitted_to_are_predicted_their_topic(column, n_topics, random, of_centers):
    if np.isnan(column).any(axis=1).all():
        return
    model = fit(column, n_topics, of_centers)
    assert_array_equal(model.predict(column), model.labels_)
    part = random.sample(range(len(column)), random.randint(0, len(column)))
    assert_array_equal(model.predict(column[part]), model.labels_[part])


@settings(deadline=None, max_examples=12)
@given(columns_of_texts, st.sampled_from(["auto", 1, 2, 5]), at_random, sizes)
def test_texts_that_the_model_was_fitted_to_are_predicted_their_topic(tiny, column, n_topics, random, of_centers):
    model = fit(column, n_topics, of_centers, embedder=SentenceEmbeddingTransformer(tiny, missing="nan"))
    assert_array_equal(model.predict(column), model.labels_)
    part = random.sample(range(len(column)), random.randint(0, len(column)))
    assert_array_equal(model.predict(taken(column, part)), model.labels_[part])


@settings(deadline=None, max_examples=25)
@given(columns_of_vectors(), st.integers(1, 9), sizes)
def test_topics_are_numbered_by_size_and_every_row_with_a_vector_has_one(column, n_topics, of_centers):
    if np.isnan(column).any(axis=1).all():
        return
    model = fit(column, n_topics, of_centers)
    assert_array_equal(model.labels_ == -1, np.isnan(column).any(axis=1))
    assert_array_equal(np.bincount(model.labels_[model.labels_ >= 0]), model.topics_["size"])
    assert model.topics_["size"].is_monotonic_decreasing
    assert model.topics_["size"].min() >= 1
    assert model.topics_.index.tolist() == list(range(model.n_topics_))
    assert model.topics_.index.name == "topic"
    assert model.n_topics_ <= n_topics


@settings(deadline=None, max_examples=25)
@given(columns_of_vectors(), st.integers(1, 9), sizes)
def test_the_topic_of_a_row_is_the_nearest_and_centres_are_of_unit_length(column, n_topics, of_centers):
    if np.isnan(column).any(axis=1).all():
        return
    model = fit(column, n_topics, of_centers)
    cosines = model.transform(column)
    assert cosines.shape == (len(column), model.n_topics_)
    assert cosines.dtype == model.centers_.dtype == np.float32
    has_vector = model.labels_ >= 0
    assert np.isnan(cosines[~has_vector]).all()
    own = cosines[has_vector, model.labels_[has_vector]]
    assert_allclose(own, cosines[has_vector].max(axis=1), atol=2e-6)
    assert np.abs(cosines[has_vector]).max() <= 1
    lengths = np.linalg.norm(model.centers_, axis=1)
    assert_allclose(lengths[lengths > 0], 1, atol=1e-6)


def test_labels_are_the_largest_cosine_of_transform(model):
    has_text = model.labels_ >= 0
    assert has_text.tolist() == [isinstance(text, str) for text in GAPPY]
    assert_array_equal(model.transform(GAPPY)[has_text].argmax(axis=1), model.labels_[has_text])


def test_transform_computes_cosines_to_the_centres(vectors):
    model = TopicModel(4).fit(vectors)
    assert_allclose(model.transform(vectors), unit(vectors) @ model.centers_.T, atol=1e-6)


def test_centres_are_the_mean_directions_of_their_rows(vectors):
    model = TopicModel(5).fit(vectors)
    means = [unit(unit(vectors)[model.labels_ == topic].mean(axis=0, keepdims=True))[0] for topic in range(5)]
    assert_allclose(model.centers_, means, atol=1e-6)


def test_repeated_rows_count(vectors):
    model = TopicModel(2).fit(np.vstack([vectors, np.repeat(vectors[:1], 90, axis=0)]))
    assert model.labels_[0] == 0
    assert model.topics_["size"].sum() == 150


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rows_that_cannot_be_told_apart_may_be_fewer_topics():
    model = TopicModel(2).fit(np.float32([[1, 0], [1, 1e-9], [1, 1e-9]]))
    assert len(model.topics_) == len(model.centers_) == model.n_topics_
    assert model.topics_["size"].sum() == 3


def test_with_the_real_model_texts_about_the_same_are_together_and_named(minilm_folder):
    asked = [*ABOUT_PARCELS, *ABOUT_PASSWORDS]
    model = TopicModel(2, embedder=SentenceEmbeddingTransformer(minilm_folder, missing="nan")).fit(asked)
    assert model.labels_.tolist() == [0] * 4 + [1] * 3
    assert "parcel" in model.topics_["terms"][0]
    assert model.topics_["terms"][1][0] == "password"
    assert model.topics_["name"][1].startswith("password")
    assert model.predict(["Your login page rejects my password", None]).tolist() == [1, -1]


@pytest.mark.slow
def test_with_the_real_model_auto_finds_how_many_topics_there_are(minilm_folder):
    things = {
        "parcel": ["late", "lost", "damaged", "at the wrong address", "still on its way", "held by customs"],
        "password": ["forgotten", "too short", "not accepted", "to be changed", "stolen", "not saved"],
        "coffee": ["too cold", "bitter", "delicious", "too strong", "with milk", "without sugar"],
        "train": ["delayed", "crowded", "cancelled", "on platform four", "fast", "without seats"],
    }
    texts = [f"{the} {thing} is {how}" for thing, hows in things.items() for how in hows for the in ("The", "My")]
    model = TopicModel(embedder=SentenceEmbeddingTransformer(minilm_folder, missing="nan")).fit(texts)
    assert model.n_topics_ == 4
    assert_array_equal(model.labels_.reshape(4, 12), np.repeat(model.labels_[::12, None], 12, axis=1))


# Names, terms and examples


def test_names_are_distinct_and_made_of_the_first_terms(model):
    assert model.topics_.columns.tolist() == ["size", "name", "terms", "examples"]
    assert model.topics_["name"].is_unique
    for name, terms in zip(model.topics_["name"], model.topics_["terms"], strict=True):
        assert name.split(", ") == terms[: name.count(",") + 1] or (terms == [] and name.startswith("topic "))


def test_examples_are_the_nearest_distinct_texts_of_the_topic(model):
    cosines = model.transform(GAPPY)
    for topic, examples in model.topics_["examples"].items():
        rows = sorted(np.flatnonzero(model.labels_ == topic), key=lambda row: -cosines[row, topic].round(5))
        nearest = list(dict.fromkeys(GAPPY[row] for row in rows))[:3]
        assert_allclose(*(model.transform(texts)[:, topic] for texts in (examples, nearest)), atol=1e-5)
        assert len(set(examples)) == len(examples) == len(nearest)


@pytest.mark.parametrize(("n_terms", "n_examples"), [(1, 1), (2, 5), (np.int64(3), np.int64(2))])
def test_there_are_as_many_terms_and_examples_as_asked_for(n_terms, n_examples, embedder):
    model = TopicModel(1, embedder=embedder, n_terms=n_terms, n_examples=n_examples).fit(TEXTS)
    assert len(model.topics_["terms"][0]) == n_terms
    assert len(model.topics_["examples"][0]) == n_examples


def test_a_namer_gets_terms_and_examples_of_each_topic(embedder):
    seen = []
    model = TopicModel(3, embedder=embedder, namer=lambda *given: seen.append(given) or f"Topic {len(seen)}")
    model.fit(TEXTS)
    assert model.topics_["name"].tolist() == ["Topic 1", "Topic 2", "Topic 3"]
    assert seen == list(zip(model.topics_["terms"], model.topics_["examples"], strict=True))


def test_a_namer_cannot_change_terms_and_examples(embedder):
    expected = TopicModel(2, embedder=embedder).fit(TEXTS).topics_
    emptied = TopicModel(2, embedder=embedder, namer=lambda terms, examples: terms.clear() or examples.clear() or "x")
    assert_frame_equal(emptied.fit(TEXTS).topics_[["terms", "examples"]], expected[["terms", "examples"]])


def test_equal_names_of_a_namer_are_numbered(embedder):
    model = TopicModel(3, embedder=embedder, namer=lambda *_: " the same ").fit(TEXTS)
    assert model.topics_["name"].tolist() == ["the same", "the same (2)", "the same (3)"]


def test_a_namer_names_merged_topics(embedder):
    model = TopicModel(4, embedder=embedder, namer=lambda terms, _: "/".join(terms[:2])).fit(TEXTS).reduce(2)
    assert model.topics_["name"].tolist() == ["/".join(terms[:2]) for terms in model.topics_["terms"]]


@pytest.mark.parametrize(
    ("namer", "error", "message"),
    [
        (lambda *_: None, TypeError, "namer must return a str, but for topic 0 it returned NoneType"),
        (lambda *_: " ", ValueError, "namer returned an empty name for topic 0"),
        (lambda *_: 1 / 0, ZeroDivisionError, "division by zero"),
        (lambda terms: "x", TypeError, "positional argument"),
    ],
)
def test_a_namer_that_returns_no_name_is_one_clear_error(namer, error, message, embedder):
    with pytest.raises(error, match=message):
        TopicModel(2, embedder=embedder, namer=namer).fit(TEXTS)


def test_topics_of_vectors_have_numbers_and_positions(vectors):
    rows = np.insert(vectors, 3, NAN, axis=0)
    model = TopicModel(3, namer=lambda *_: pytest.fail("there is nothing to name")).fit(rows)
    assert model.topics_["name"].tolist() == ["topic 0", "topic 1", "topic 2"]
    assert model.topics_["terms"].tolist() == [None] * 3
    cosines = model.transform(rows)
    for topic, positions in model.topics_["examples"].items():
        assert all(type(position) is int for position in positions)
        members = np.flatnonzero(model.labels_ == topic)
        assert positions == sorted(members, key=lambda row: -cosines[row, topic].round(5))[:3]


def test_vectors_alone_can_be_merged_renamed_and_counted(vectors):
    model = TopicModel(4).fit(vectors).reduce(2).rename({1: "the rest"})
    assert model.topics_["name"].tolist() == ["topic 0", "the rest"]
    assert model.topics_["terms"].tolist() == [None] * 2
    assert model.over(["now"] * 60).loc["now"].tolist() == model.topics_["size"].tolist()


# Merging


@pytest.mark.parametrize("column", [TEXTS, vectors_around(9, 80)], ids=["texts", "vectors"])
def test_merging_in_steps_is_as_merging_at_once(column, embedder):
    model = TopicModel(9, embedder=embedder).fit(column)
    for steps in ([5], [8, 7, 6, 5], [9, 5]):
        stepwise = model
        for n_topics in [*steps, 3]:
            stepwise = stepwise.reduce(n_topics)
        at_once = model.reduce(3)
        assert_array_equal(stepwise.labels_, at_once.labels_)
        assert_array_equal(stepwise.centers_, at_once.centers_)
        assert_array_equal(stepwise.hierarchy_, at_once.hierarchy_)
        assert_frame_equal(stepwise.topics_, at_once.topics_)
        assert_array_equal(stepwise.transform(column), at_once.transform(column))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), at_random)
def test_any_two_steps_of_merging_are_as_one(seed, n_topics, random):
    model = TopicModel(n_topics).fit(vectors_around(4, 30, seed, noise=1.0).round(0))
    last = random.randint(1, model.n_topics_)
    first = random.randint(last, model.n_topics_)
    assert_array_equal(model.reduce(first).reduce(last).labels_, model.reduce(last).labels_)
    assert_array_equal(model.reduce(first).reduce(last).hierarchy_, model.reduce(last).hierarchy_)


@pytest.mark.parametrize("n_topics", [1, 2, 4, 6])
def test_merged_topics_are_unions_of_topics(n_topics, model):
    merged = model.reduce(n_topics)
    assert merged.n_topics_ == len(merged.topics_) == len(merged.centers_) == n_topics
    pairs = set(zip(model.labels_.tolist(), merged.labels_.tolist(), strict=True))
    assert len(pairs) == 7  # of each topic, and of missing rows
    assert merged.topics_["size"].is_monotonic_decreasing
    assert_array_equal(np.bincount(merged.labels_[merged.labels_ >= 0]), merged.topics_["size"])
    assert_allclose(np.linalg.norm(merged.centers_, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("n_topics", [1, 2, 4, 6])
def test_a_merged_model_predicts_its_labels_and_the_largest_cosine(n_topics, model):
    merged = model.reduce(n_topics)
    assert_array_equal(merged.predict(GAPPY), merged.labels_)
    before = model.transform(GAPPY)
    number_of = dict(zip(model.labels_.tolist(), merged.labels_.tolist(), strict=True))
    groups = [[topic for topic in range(6) if number_of[topic] == group] for group in range(n_topics)]
    assert_array_equal(merged.transform(GAPPY), np.column_stack([before[:, group].max(axis=1) for group in groups]))


def test_merging_follows_the_hierarchy(model):
    left, right = model.hierarchy_[0, :2].astype(int)
    number_of = dict(zip(model.labels_.tolist(), model.reduce(5).labels_.tolist(), strict=True))
    assert number_of[left] == number_of[right]
    assert len({number_of[topic] for topic in range(6)}) == 5


@pytest.mark.parametrize("n_topics", [1, 2, 3, 6])
def test_the_hierarchy_is_one_of_scipy(n_topics, model):
    hierarchy = model.reduce(n_topics).hierarchy_
    assert hierarchy.shape == (n_topics - 1, 4)
    assert hierarchy.dtype == np.float64
    if n_topics > 1:
        assert is_valid_linkage(hierarchy, throw=True)
        assert hierarchy[-1, 3] == n_topics
        assert_array_equal(hierarchy[:, 2], model.hierarchy_[6 - n_topics :, 2])


def test_merging_changes_nothing_in_the_original(model):
    before = pickle.dumps(model)
    model.reduce(3).rename({0: "other"})
    assert pickle.dumps(model) == before
    assert model.n_topics == 6


def test_merging_to_the_same_number_changes_nothing(model):
    same = model.reduce(6)
    assert same is not model
    assert_array_equal(same.labels_, model.labels_)
    assert_array_equal(same.hierarchy_, model.hierarchy_)
    assert_frame_equal(same.topics_, model.topics_)
    assert_allclose(same.centers_, model.centers_, atol=1e-6)


def test_merging_embeds_nothing(model, counted, embedder):
    skembed.clear_cache()
    assert model.reduce(2).topics_["size"].sum() == 34
    assert counted == []


def test_examples_of_merged_topics_are_of_each_in_turn(model):
    merged = model.reduce(1)
    assert merged.topics_["examples"][0] == [model.topics_["examples"][topic][0] for topic in range(3)]


def test_examples_are_merged_without_repetition():
    texts, vectors = pd.Series(["the same", "the same", "another"]), np.eye(3)
    model = TopicModel(3)
    model._fit(vectors, texts)
    assert sorted(model.reduce(1).topics_["examples"][0]) == ["another", "the same"]


@pytest.mark.parametrize("n_topics", [0, -1, True, 2.0, "2", "auto", None], ids=repr)
def test_topics_are_merged_to_a_positive_number(n_topics, model):
    with pytest.raises(ValueError, match="n_topics must be a positive integer; got"):
        model.reduce(n_topics)


def test_topics_cannot_be_merged_to_more(model):
    with pytest.raises(ValueError, match=r"n_topics must be at most 6, the number of topics; got 7\.$"):
        model.reduce(7)


def test_a_clone_of_a_merged_model_finds_as_many_topics_anew(model):
    assert clone(model.reduce(np.int64(2))).fit(GAPPY).n_topics_ == 2


# Renaming


def test_topics_are_renamed_in_place(model):
    before = model.topics_["name"].tolist()
    assert model.rename({0: "Foxes", 3: " Parcels "}) is model
    assert model.topics_["name"].tolist() == ["Foxes", *before[1:3], "Parcels", *before[4:]]


def test_names_can_be_swapped(model):
    before = model.topics_["name"].tolist()
    model.rename({0: before[1], 1: before[0]})
    assert model.topics_["name"].tolist() == [before[1], before[0], *before[2:]]


def test_names_can_be_a_series(model):
    model.rename(pd.Series(["One", "Two"], index=[1, 2]))
    assert model.topics_["name"][[1, 2]].tolist() == ["One", "Two"]


def test_a_table_that_was_taken_before_keeps_its_names(model):
    table = model.topics_
    before = table["name"].tolist()
    model.rename({0: "other"})
    assert table["name"].tolist() == before


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({6: "x"}, ValueError, r"There is no topic 6; there are 0 to 5\."),
        ({-1: "x"}, ValueError, r"There is no topic -1; there are 0 to 5\."),
        ({"0": "x"}, ValueError, r"There is no topic '0'; there are 0 to 5\."),
        ({1: "good", 0: 5}, TypeError, r"The name of topic 0 must be a str; got 5\."),
        ({1: "good", 0: None}, TypeError, r"The name of topic 0 must be a str; got None\."),
        ({1: "good", 0: " "}, ValueError, r"The name of topic 0 is empty\."),
        ({1: "same", 4: "same "}, ValueError, r"Topics 1 and 4 would both be called 'same'; use distinct names\."),
        (["x"], TypeError, r"names must be a dict of topics and their names; got \['x'\]\."),
    ],
)
def test_names_that_cannot_be_are_one_clear_error_and_change_nothing(names, error, message, model):
    before = model.topics_["name"].tolist()
    with pytest.raises(error, match=message):
        model.rename(names)
    assert model.topics_["name"].tolist() == before


def test_a_name_of_another_topic_is_refused(model):
    with pytest.raises(ValueError, match="Topics 0 and 2 would both be called"):
        model.rename({0: model.topics_["name"][2]})


# Topics over time; more in test_periods.py


def test_the_rows_of_each_topic_are_counted_over_time(model):
    months = pd.date_range("2026-01-01", periods=len(GAPPY), freq="7D")
    counts = model.over(months, freq="M")
    assert counts.columns.tolist() == list(range(6))
    assert counts.columns.name == "topic"
    assert_array_equal(counts.sum(), model.topics_["size"])
    expected = pd.crosstab(months.to_period("M")[model.labels_ >= 0], model.labels_[model.labels_ >= 0])
    assert_array_equal(counts, expected)


def test_the_rows_of_each_topic_are_counted_by_group(model):
    groups = ["x", "y"] * (len(GAPPY) // 2)
    counts = model.over([2026] * len(GAPPY), by=groups)
    assert counts.index.tolist() == [("x", 2026), ("y", 2026)]
    assert_array_equal(counts.sum(), model.topics_["size"])


def test_merged_topics_are_counted(model):
    assert model.reduce(2).over([2026] * len(GAPPY)).loc[2026].sum() == 34


def test_times_are_those_of_the_rows_that_the_model_was_fitted_to(model):
    with pytest.raises(ValueError, match="times must have the length 36; got 3"):
        model.over([1, 2, 3])


# Few rows, and odd ones


def test_more_topics_than_rows_are_one_clear_error(embedder):
    for column in (["a fox", None, "a dog"], [[1.0, 0.0], None, [0.0, 1.0]]):
        with pytest.raises(ValueError, match=r"^3 topics were asked for, but there are 2 rows with a text\.$"):
            TopicModel(3, embedder=embedder).fit(column)


def test_more_topics_than_distinct_rows_are_one_clear_error(embedder):
    for column in (["a fox", "a dog", "a fox"], [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]):
        with pytest.raises(
            ValueError, match=r"^3 topics were asked for, but there are 3 rows with a text, 2 of them distinct\.$"
        ):
            TopicModel(3, embedder=embedder).fit(column)


@pytest.mark.parametrize(
    "column", [[], [None], [NAN, None], np.empty((0, 3)), [[NAN, NAN]], pd.Series([], dtype="str")]
)
@pytest.mark.parametrize(
    ("n_topics", "message"),
    [
        ("auto", "There are no topics, because there are 0 rows with a text"),
        (2, "2 topics were asked for, but .* 0 ro"),
    ],
)
def test_no_text_is_one_clear_error(column, n_topics, message, embedder):
    with pytest.raises(ValueError, match=message):
        TopicModel(n_topics, embedder=embedder).fit(column)


@pytest.mark.parametrize("n_topics", ["auto", 1])
@pytest.mark.parametrize(
    "column",
    [["a fox"], ["a fox"] * 30, [None, "a fox"], [""], ["?!"] * 3, [[1.0, 2.0]], np.ones((30, 3)), np.zeros((3, 2))],
    ids=lambda column: f"{len(column)} of {np.asarray(column[-1]).dtype.kind}",
)
def test_rows_that_are_all_equal_are_one_topic(column, n_topics, embedder):
    model = TopicModel(n_topics, embedder=embedder).fit(column)
    assert set(model.labels_[model.labels_ >= 0]) == {0}
    assert model.n_topics_ == 1
    assert model.hierarchy_.shape == (0, 4)
    assert_array_equal(model.predict(column), model.labels_)
    assert model.reduce(1).n_topics_ == 1


def test_each_distinct_row_can_be_a_topic(embedder):
    model = TopicModel(4, embedder=embedder).fit(["a fox", "a dog", "login", "the address", "a dog"])
    assert model.labels_[1] == model.labels_[4] == 0
    assert sorted(model.labels_) == [0, 0, 1, 2, 3]


def test_texts_of_punctuation_have_numbers_for_names(embedder):
    model = TopicModel(2, embedder=embedder).fit(["!!!", "...", "?", ",,,", "\n"])
    assert model.topics_["name"].tolist() == ["topic 0", "topic 1"]
    assert model.topics_["terms"].tolist() == [[], []]
    assert model.reduce(1).topics_["name"].tolist() == ["topic 0"]


def test_vectors_of_zeros_have_a_topic(vectors):
    model = TopicModel(4).fit(np.vstack([vectors, np.zeros((2, 6))]))
    assert model.labels_[-1] == model.labels_[-2] >= 0


def test_opposite_vectors_have_a_topic():
    model = TopicModel(1).fit([[1.0, 0.0], [-1.0, 0.0]])
    assert model.labels_.tolist() == [0, 0]
    assert np.isfinite(model.transform([[1.0, 0.0]])).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_length_of_vectors_does_not_count(scale, vectors):
    assert_array_equal(TopicModel(4).fit(vectors * scale).labels_, TopicModel(4).fit(vectors).labels_)


def test_a_text_of_a_million_characters_is_read():
    model = TopicModel(3, embedder=TfidfVectorizer()).fit(["a fox " * 170_000, "the dog", "my address"])
    assert sorted(model.labels_) == [0, 1, 2]
    assert model.topics_["terms"][model.labels_[0]] == ["fox"]


def test_texts_in_many_scripts_have_names(embedder):
    model = TopicModel(3, embedder=embedder).fit(
        ["我的包裹在哪里", "包裹还没有到", "Straße und Fluß", "Где посылка?", "🦊🦊"]
    )
    assert model.topics_["name"].is_unique


# Input

CONTAINERS = {
    "tuple": tuple,
    "array": lambda texts: np.array(texts, dtype=object),
    "(n, 1) array": lambda texts: np.array(texts, dtype=object)[:, None],
    "Series of str": lambda texts: pd.Series(texts, dtype="str"),
    "Series of category": lambda texts: pd.Series(texts, dtype="category"),
    "frame of one column": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": lambda texts: pl.Series(texts, dtype=pl.String),
    "pyarrow array": lambda texts: pa.array(texts, pa.string()),
}
OF_VECTORS = {
    "list": lambda rows: rows.tolist(),
    "frame": lambda rows: pd.DataFrame(rows, index=range(100, 160)),
    "vector column": lambda rows: pd.Series(skembed.VectorArray(rows)),
    "polars": lambda rows: pl.Series(rows.tolist(), dtype=pl.List(pl.Float64)),
    "float16": lambda rows: rows.astype(np.float16).astype(np.float64),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_column_of_texts_has_the_same_topics(kind, embedder):
    texts = [text if isinstance(text, str) else None for text in GAPPY]
    expected = TopicModel(4, embedder=embedder).fit(texts)
    made = TopicModel(4, embedder=embedder).fit(CONTAINERS[kind](texts))
    assert_array_equal(made.labels_, expected.labels_)
    assert_array_equal(made.predict(CONTAINERS[kind](texts)), expected.labels_)
    assert_frame_equal(made.topics_, expected.topics_)


@pytest.mark.parametrize("kind", OF_VECTORS)
def test_every_column_of_vectors_has_the_same_topics(kind, vectors, counted):
    vectors = vectors.astype(np.float16).astype(np.float64)
    made = TopicModel(4).fit(OF_VECTORS[kind](vectors))
    assert_array_equal(made.labels_, TopicModel(4).fit(vectors).labels_)
    assert counted == []


def test_vectors_given_are_not_changed(vectors):
    given_vectors = vectors.astype(np.float32)
    before = given_vectors.copy()
    TopicModel(4).fit(given_vectors).transform(given_vectors)
    assert_array_equal(given_vectors, before)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (pd.Series(["b", 5, "a"], index=list("xyz")), TypeError, r"X\[1\] \(index label 'y'\) is int, not str"),
        (["b", "a", [1.0]], TypeError, r"X\[2\] is a vector of 1 numbers, not str"),
        ([[1.0, 2.0], [1.0]], ValueError, r"\[1\] has 1 dimensions, not 2"),
        ([[1.0, 2.0], [1.0, np.inf]], ValueError, r"X\[1\]"),
        ("a fox", TypeError, "X is a single str"),
        (None, TypeError, "X is builtins.NoneType, not a column of text"),
    ],
    ids=repr,
)
def test_a_value_that_is_neither_text_nor_vector_is_one_clear_error(X, error, message, embedder):
    with pytest.raises(error, match=message):
        TopicModel(2, embedder=embedder).fit(X)
    fitted = TopicModel(2, embedder=embedder).fit(["a fox", "a dog"] if "str" in message else np.eye(2))
    with pytest.raises(error, match=message):
        fitted.predict(X)


def test_a_missing_text_that_the_embedder_refuses_is_named_by_its_position_in_the_column(tiny):
    column = pd.Series(["b", None, "a"], index=list("xyz"))
    with pytest.raises(ValueError, match=r"X\[1\] \(index label 'y'\) is missing"):
        TopicModel(2, embedder=SentenceEmbeddingTransformer(tiny)).fit(column)


def test_a_vector_that_is_not_finite_is_named_by_its_position_in_the_column():
    broken = FunctionTransformer(lambda texts: np.array([[1, np.inf if text == "a" else 1] for text in texts]))
    with pytest.raises(ValueError, match=r"X\[2\] \(index label 'z'\) holds NaN or infinity"):
        TopicModel(2, embedder=broken).fit(pd.Series(["c", "b", "a"], index=list("xyz")))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        *(({"n_topics": n}, ValueError, "n_topics must be a pos") for n in (0, -1, True, 2.0, "2", "AUTO", None, [2])),
        *(({"n_terms": n}, ValueError, "n_terms must be a positive integer") for n in (0, True, 2.5, None)),
        *(({"n_examples": n}, ValueError, "n_examples must be a positive integer") for n in (0, True, 2.5, None)),
        ({"namer": "x"}, TypeError, r"namer must be a function of terms and examples, or None; got 'x'\."),
        ({"random_state": "x"}, ValueError, "'x' cannot be used to seed"),
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_one_clear_error_before_anything_is_embedded(
    params, error, message, embedder, counted
):
    with pytest.raises(error, match=message):
        TopicModel(**{"n_topics": 2, **params}, embedder=embedder).fit(TEXTS)
    assert counted == []


@pytest.mark.parametrize("n_topics", [np.int64(3), np.array(3)], ids=repr)
def test_a_number_of_topics_of_numpy_is_welcome(n_topics, vectors):
    assert TopicModel(n_topics).fit(vectors).n_topics_ == 3


# The embedder


def test_each_text_is_embedded_once(counted, tiny):
    TopicModel(2, embedder=SentenceEmbeddingTransformer(tiny, missing="nan", cache=None)).fit(GAPPY)
    assert sorted(counted) == sorted(TEXTS)


@pytest.mark.parametrize(("missing", "label"), [("nan", -1), ("zero", 0), ("empty", 0)])
def test_the_embedder_decides_what_a_missing_text_is(missing, label, tiny):
    model = TopicModel(1, embedder=SentenceEmbeddingTransformer(tiny, missing=missing)).fit(["a fox", None])
    assert model.labels_.tolist() == model.predict(["a fox", None]).tolist() == [0, label]


def test_an_embedder_that_learns_is_fitted_on_the_texts():
    words = make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0))
    model = TopicModel(4, embedder=words).fit(TEXTS)
    assert not hasattr(words[0], "vocabulary_")
    assert "parcel" in model.embedder_[0].vocabulary_
    assert_array_equal(model.predict(TEXTS), model.labels_)


@pytest.mark.parametrize("wrap", [lambda embedder: embedder, FrozenEstimator], ids=["fitted", "frozen"])
def test_a_fitted_embedder_is_used_as_it_is(wrap, monkeypatch):
    words = TfidfVectorizer().fit(TEXTS)
    monkeypatch.setattr(TfidfVectorizer, "fit", lambda *_: pytest.fail("it was fitted"))
    model = TopicModel(4, embedder=wrap(words)).fit(TEXTS)
    assert model.embedder_ is words
    assert_array_equal(model.predict(TEXTS), model.labels_)


def test_vectors_of_the_same_model_are_predicted_as_their_texts(model, tiny):
    column = pd.Series(TEXTS).embed(output="vector", model=tiny)
    assert_array_equal(model.predict(column), model.labels_[: len(TEXTS)])


def test_vectors_of_another_model_are_refused(model, model_folder):
    with pytest.raises(ValueError, match=r"vectors of X are of the model .*, those of the topics of .* cannot be comp"):
        model.predict(pd.Series(TEXTS).embed(output="vector", model=model_folder("roberta")))
    with pytest.raises(ValueError, match=r"The vectors of X have 3 dimensions, those of the topics 32\."):
        model.transform(np.eye(3))


def test_texts_of_another_model_than_the_vectors_are_refused(tiny, model_folder):
    column = pd.Series(TEXTS).embed(output="vector", model=model_folder("roberta"))
    with pytest.raises(ValueError, match="vectors of different models cannot be compared"):
        TopicModel(2, embedder=SentenceEmbeddingTransformer(tiny)).fit(column).predict(TEXTS)


def test_the_warning_about_long_texts_points_at_the_callers_line(embedder):
    with pytest.warns(TruncationWarning) as caught:
        TopicModel(1, embedder=embedder).fit(["fox " * 60])
    assert [warning.filename for warning in caught] == [__file__]


# Randomness


@pytest.mark.parametrize("column", [TEXTS, vectors_around(5, 60)], ids=["texts", "vectors"])
@pytest.mark.parametrize("seed", [0, 7, np.random.RandomState])
def test_a_seed_gives_the_same_topics_at_every_fit(seed, column, embedder):
    seeds = [seed(3) if callable(seed) else seed for _ in range(2)]
    one, other = (TopicModel(embedder=embedder, random_state=seed).fit(column) for seed in seeds)
    assert_array_equal(one.labels_, other.labels_)
    assert_frame_equal(one.topics_, other.topics_)


def test_without_a_seed_there_are_topics(vectors):
    assert TopicModel(random_state=None).fit(vectors).n_topics_ >= 1


def test_a_fit_leaves_the_random_numbers_of_numpy_alone(vectors):
    np.random.seed(5)
    before = np.random.get_state()[1]
    TopicModel().fit(vectors)
    assert_array_equal(np.random.get_state()[1], before)


# As a scikit-learn estimator


def test_init_stores_its_arguments_and_nothing_else():
    expected = {
        "n_topics": "auto", "embedder": None, "n_terms": 8, "n_examples": 3, "namer": None, "random_state": 0,
    }  # fmt: skip
    assert TopicModel().get_params() == vars(TopicModel()) == expected


def test_fit_returns_itself_and_fit_predict_the_labels(vectors):
    model = TopicModel(3)
    assert model.fit(vectors) is model
    assert_array_equal(model.fit_predict(vectors), model.labels_)


@pytest.mark.parametrize(
    "question",
    [
        lambda model: model.predict(TEXTS),
        lambda model: model.transform(TEXTS),
        lambda model: model.reduce(1),
        lambda model: model.rename({}),
        lambda model: model.over([1]),
        lambda model: model.get_feature_names_out(),
    ],
    ids=["predict", "transform", "reduce", "rename", "over", "get_feature_names_out"],
)
def test_what_is_not_fitted_answers_nothing(question):
    with pytest.raises(NotFittedError):
        question(TopicModel())


def test_a_clone_has_the_parameters_and_is_not_fitted(model):
    copied = clone(model)
    assert (copied.n_topics, copied.embedder.model) == (6, model.embedder.model)
    assert not hasattr(copied, "labels_")


def test_a_changed_parameter_takes_effect_at_the_next_fit(model):
    model.set_params(n_topics=2, embedder__pooling="cls")
    assert model.n_topics_ == 6
    assert model.fit(GAPPY).n_topics_ == len(model.topics_) == 2
    assert model.embedder_.pooling == "cls"


def test_a_refit_forgets_what_was_there_before(model, vectors):
    model.reduce(2)
    model.rename({0: "old"}).fit(vectors)
    assert model.topics_["terms"].isna().all()
    assert model.topics_["name"][0] == "topic 0"
    assert_array_equal(model.predict(vectors), model.labels_)


@pytest.mark.parametrize("n_topics", [6, 3])
def test_a_pickle_keeps_everything(n_topics, model):
    model = model.reduce(n_topics).rename({0: "Renamed"})
    loaded = pickle.loads(pickle.dumps(model))
    assert_array_equal(loaded.labels_, model.labels_)
    assert_frame_equal(loaded.topics_, model.topics_)
    assert_array_equal(loaded.predict(GAPPY), model.labels_)
    assert_array_equal(loaded.transform(GAPPY), model.transform(GAPPY))
    assert_frame_equal(loaded.reduce(2).topics_, model.reduce(2).topics_)


def test_features_are_named_after_the_class(model):
    assert model.get_feature_names_out().tolist() == [f"topicmodel{topic}" for topic in range(6)]
    assert len(model.reduce(2).get_feature_names_out()) == 2


def test_transform_returns_the_container_that_was_asked_for(embedder):
    column = pd.Series(TEXTS, index=range(100, 132))
    model = TopicModel(3, embedder=embedder).set_output(transform="pandas")
    made = model.fit_transform(column)
    assert made.columns.tolist() == ["topicmodel0", "topicmodel1", "topicmodel2"]
    assert made.index.equals(column.index)
    assert isinstance(model.set_output(transform="polars").transform(column), pl.DataFrame)


@pytest.mark.parametrize("seed", [2, 3, 9])
def test_the_topics_of_auto_are_those_of_the_same_number(seed):
    vectors = np.random.default_rng(seed).normal(size=(120, 3))
    model = TopicModel().fit(vectors)
    assert_array_equal(TopicModel(model.n_topics_).fit(vectors).labels_, model.labels_)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_it_ends_a_pipeline(output, embedder):
    pipe = make_pipeline(embedder, TopicModel(3)).set_output(transform=output)
    vectors = embedder.fit_transform(GAPPY)
    expected = TopicModel(3).fit(vectors)
    assert_array_equal(pipe.fit_predict(GAPPY), expected.labels_)
    assert_array_equal(pipe.predict(GAPPY), expected.labels_)
    assert_allclose(pipe.transform(GAPPY), expected.transform(vectors), atol=1e-6)


def test_it_is_a_step_of_a_pipeline(embedder):
    pipe = make_pipeline(TopicModel(3, embedder=embedder), FunctionTransformer(lambda cosines: cosines.argmax(axis=1)))
    assert_array_equal(pipe.fit_transform(TEXTS), pipe[0].labels_)


DO_NOT_FIT = {
    "check_n_features_in": "a column of texts has no number of features",
    "check_n_features_in_after_fitting": "a column of texts has no number of features",
    "check_fit1d": "one dimension is a column of texts, and numbers in it are refused with a TypeError",
    "check_complex_data": "complex numbers are refused as every value that is neither text nor vector",
    "check_dtype_object": "a matrix of objects is no matrix of numbers, as for VectorArray",
    "check_estimators_empty_data_messages": "a matrix without columns is refused in other words",
    "check_transformer_data_not_an_array": "nested objects are no container of texts or vectors",
    "check_fit2d_predict1d": "one dimension is a column of texts",
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([TopicModel()], expected_failed_checks=lambda estimator: DO_NOT_FIT)
def test_scikit_learns_check_passes_on_vectors(estimator, check):
    check(estimator)


# In a notebook


class TestHtml:
    class Reader(HTMLParser):
        """Collects tags and texts."""

        def __init__(self):
            super().__init__()
            self.tags, self.texts = [], []

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)

        def handle_data(self, data):
            self.texts.append(data.strip())

    def read(self, model, *, bundle=False) -> Reader:
        reader = self.Reader()
        reader.feed(model._repr_mimebundle_()["text/html"] if bundle else model._repr_html_())
        return reader

    def test_a_fitted_model_shows_its_topics_with_examples(self, model):
        shown = self.read(model).texts
        for _, topic in model.topics_.iterrows():
            assert {str(topic["size"]), topic["name"], ", ".join(topic["terms"]), *topic["examples"]} <= set(shown)

    def test_what_is_not_fitted_shows_its_parameters_only(self):
        assert "TopicModel" in " ".join(self.read(TopicModel(3)).texts)
        assert "<th" not in TopicModel(3)._repr_html_()

    def test_texts_are_escaped(self, embedder):
        texts = ["<script>fox</script> & <b>", "<script>dog", "login"]
        model = TopicModel(2, embedder=embedder, namer=lambda terms, examples: f"<i>{terms[:1]}</i>").fit(texts)
        before = self.read(clone(model).set_params(namer=None)).tags
        after = self.read(model).tags
        assert after.count("script") == before.count("script")
        assert after.count("i") == before.count("i")
        assert "&lt;script&gt;fox&lt;/script&gt; &amp; &lt;b&gt;" in model._repr_html_()

    def test_long_texts_are_shortened(self, embedder):
        with pytest.warns(TruncationWarning):
            model = TopicModel(1, embedder=embedder).fit(["a quick fox " * 1000])
        assert len(model._topics_html()) < 5000

    def test_the_bundle_of_a_notebook_shows_the_same(self, model):
        assert self.read(model, bundle=True).tags == self.read(model).tags

    def test_vectors_have_positions(self, vectors):
        model = TopicModel(2).fit(vectors)
        assert ", ".join(map(str, model.topics_["examples"][0])) in self.read(model).texts

    def test_html_can_be_switched_off(self, model):
        with config_context(display="text"):
            assert not hasattr(model, "_repr_html_")
            assert list(model._repr_mimebundle_()) == ["text/plain"]
