"""``precompute``: the settings and texts that it finds in an estimator, a search that then only reads, and errors."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform, poisson, randint, rv_discrete, uniform
from sentence_transformers import SentenceTransformer
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - scikit-learn asks for it
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from skembed import (
    CacheError,
    EmbeddingCache,
    NearDuplicates,
    PairSimilarity,
    SemanticSearch,
    SentenceEmbeddingClassifier,
    SentenceEmbeddingFineTuner,
    SentenceEmbeddingTransformer,
    TopicModel,
    embed,
    precompute,
)
from tests.training.fast import FAST

TEXTS = [f"a {kind} number {number}" for number in range(20) for kind in ("fox", "parcel")]
LABELS = np.array([0, 1] * 20)


def pipeline(model, **params):
    return Pipeline([("embed", SentenceEmbeddingTransformer(model, **params)), ("clf", LogisticRegression())])


def report(done):
    return done.texts, done.models, done.settings


def lower(texts):
    return [text.lower() for text in texts]


# What it finds


def test_a_transformer_is_one_setting(tiny, counted):
    done = precompute(SentenceEmbeddingTransformer(tiny), [*TEXTS, TEXTS[0]])
    assert report(done) == (40, 1, 1)
    assert done["seconds"] > 0
    embed(TEXTS, model=tiny)
    assert sorted(counted) == sorted(TEXTS)


SEARCHES = {
    "grid": lambda pipe: GridSearchCV(
        pipe, {"embed__pooling": ["mean", "cls", "max"], "embed__layers": [-1, 1], "clf__C": [1, 10]}, cv=3
    ),
    "list of grids": lambda pipe: GridSearchCV(
        pipe, [{"embed__pooling": ["mean", "cls", "max"]}, {"embed__layers": [1, (1, 2)], "clf__C": [1, 10]}], cv=3
    ),
    "randomized": lambda pipe: RandomizedSearchCV(
        pipe,
        {"embed__pooling": ["mean", "max", "lasttoken"], "embed__truncate_dim": [None, 8], "clf__C": uniform(1, 9)},
        n_iter=4,
        random_state=0,
        cv=3,
    ),
    "halving grid": lambda pipe: HalvingGridSearchCV(
        pipe, {"embed__pooling": ["mean", "cls"], "clf__C": [1, 10]}, cv=2, min_resources=16, random_state=0
    ),
    "halving random": lambda pipe: HalvingRandomSearchCV(
        pipe,
        {"embed__pooling": ["mean", ("max", "cls")], "clf__C": uniform(1, 9)},
        cv=2,
        min_resources=16,
        random_state=0,
    ),
}
N_SETTINGS = {"grid": 6, "list of grids": 5, "randomized": 6, "halving grid": 2, "halving random": 2}


@pytest.mark.parametrize("kind", SEARCHES)
def test_after_it_a_search_encodes_nothing_and_each_text_went_through_the_model_once(kind, tiny, counted):
    search = SEARCHES[kind](pipeline(tiny))
    assert report(precompute(search, TEXTS)) == (40, 1, N_SETTINGS[kind])
    assert sorted(counted) == sorted(TEXTS)
    search.fit(TEXTS, LABELS)
    assert len(counted) == 40


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_all_layers_and_poolings_of_it_come_from_one_pass(kind, tiny, tmp_path, counted):
    cache = EmbeddingCache(tmp_path / "cache" if kind == "disk" else None)
    grid = {"embed__pooling": ["mean", "cls", "max"], "embed__layers": [-1, 0, 1, 2]}
    precompute(GridSearchCV(pipeline(tiny, cache=cache), grid), TEXTS)
    assert sorted(counted) == sorted(TEXTS)
    for layers in grid["embed__layers"]:
        for pooling in grid["embed__pooling"]:
            vectors = embed(TEXTS, model=tiny, layers=layers, pooling=pooling, cache=cache)
            assert len(counted) == 40
            expected = embed(TEXTS, model=tiny, layers=layers, pooling=pooling, cache=None)
            np.testing.assert_allclose(vectors, expected, atol=1e-6)
            del counted[40:]


def test_two_models_are_two_passes(tiny, model_folder, counted):
    search = GridSearchCV(
        pipeline(tiny), {"embed__model": [tiny, model_folder("roberta")], "embed__pooling": ["mean", "cls"]}, cv=3
    )
    assert report(precompute(search, TEXTS)) == (40, 2, 4)
    search.fit(TEXTS, LABELS)
    assert len(counted) == 80


def test_loaded_models_in_a_grid_are_found_again_in_their_copies(tiny, model_folder, counted):
    models = [SentenceTransformer(path, device="cpu") for path in (tiny, model_folder("roberta"))]
    search = GridSearchCV(pipeline(tiny), {"embed__model": models}, cv=3)
    assert report(precompute(search, TEXTS)) == (40, 2, 2)
    search.fit(TEXTS, LABELS)
    assert len(counted) == 80


@pytest.mark.parametrize("params", [{"prompt": "fox: "}, {"max_seq_length": 5}, {"long_texts": "mean"}], ids=str)
def test_a_parameter_that_changes_the_tokens_needs_a_pass_of_its_own(params, tiny, counted):
    ((name, value),) = params.items()
    before = SentenceEmbeddingTransformer().get_params()[name]
    done = precompute(GridSearchCV(pipeline(tiny), {f"embed__{name}": [before, value]}), TEXTS)
    assert report(done) == (40, 1, 2)
    assert len(counted) == 80


def test_the_vectors_are_those_that_would_be_computed_without_it(tiny):
    precompute(GridSearchCV(pipeline(tiny), {"embed__pooling": ["mean", "max", ("cls", "mean")]}), TEXTS)
    for pooling in ("mean", "max", ("cls", "mean")):
        expected = embed(TEXTS, model=tiny, pooling=pooling, cache=None)
        np.testing.assert_allclose(embed(TEXTS, model=tiny, pooling=pooling), expected, atol=1e-6)


FRAME = pd.DataFrame({"title": TEXTS, "body": [f"{text} in the mail" for text in TEXTS], "stars": range(40)})


def column_transformers(tiny):
    embedder = SentenceEmbeddingTransformer(tiny)
    return {
        "two columns": make_column_transformer((embedder, "title"), (clone(embedder), ["body"])),
        "by position": ColumnTransformer(
            [("t", embedder, 0), ("b", clone(embedder), [1]), ("s", StandardScaler(), [2])]
        ),
        "by a selector": make_column_transformer(
            (embedder, make_column_selector("title")), (clone(embedder), make_column_selector("body"))
        ),
        "in pipelines": make_column_transformer(
            (make_pipeline(FunctionTransformer(), embedder), "title"), (make_pipeline(clone(embedder), PCA(2)), "body")
        ),
    }


@pytest.mark.parametrize("kind", ["two columns", "by position", "by a selector", "in pipelines"])
def test_each_column_goes_to_its_own_transformer(kind, tiny, counted):
    columns = column_transformers(tiny)[kind]
    assert report(precompute(columns, FRAME)) == (80, 1, 1)
    columns.fit_transform(FRAME)
    assert len(counted) == 80


def test_a_step_before_the_transformer_is_seen(tiny, counted):
    pipe = make_pipeline(FunctionTransformer(lower), SentenceEmbeddingTransformer(tiny), LogisticRegression())
    assert report(precompute(pipe, [text.upper() for text in TEXTS])) == (40, 1, 1)
    assert sorted(counted) == sorted(TEXTS)


def test_a_parameter_of_a_step_before_the_transformer_is_tried_too(tiny, counted):
    pipe = make_pipeline(FunctionTransformer(lower), SentenceEmbeddingTransformer(tiny), LogisticRegression())
    search = GridSearchCV(pipe, {"functiontransformer__func": [lower, None], "logisticregression__C": [1, 2]}, cv=3)
    upper = [text.upper() for text in TEXTS]
    assert report(precompute(search, upper)) == (80, 1, 1)
    search.fit(upper, LABELS)
    assert len(counted) == 80


def test_steps_that_are_parameters_are_tried(tiny, counted):
    pipe = Pipeline([("features", TfidfVectorizer()), ("clf", LogisticRegression())])
    grid = {
        "features": [
            TfidfVectorizer(),
            SentenceEmbeddingTransformer(tiny),
            SentenceEmbeddingTransformer(tiny, layers=1),
        ],
        "clf": [LogisticRegression(), LogisticRegression(C=10)],
    }
    search = GridSearchCV(pipe, grid, cv=3)
    assert report(precompute(search, TEXTS)) == (40, 1, 2)
    search.fit(TEXTS, LABELS)
    assert len(counted) == 40


@pytest.mark.parametrize("before", ["passthrough", "embedder"])
def test_parameters_of_a_step_that_is_itself_tried_are_tried(before, tiny, counted):
    mine = SentenceEmbeddingTransformer(tiny)
    pipe = Pipeline([("embed", clone(mine) if before == "embedder" else before), ("clf", LogisticRegression())])
    search = GridSearchCV(pipe, {"embed": [mine], "embed__pooling": ["mean", "cls", "max"]}, cv=3)
    assert report(precompute(search, TEXTS)) == (40, 1, 3)
    assert mine.pooling == "default"
    search.fit(TEXTS, LABELS)
    assert len(counted) == 40


def test_parameters_of_a_pipeline_that_is_itself_tried_are_tried(tiny, counted):
    inner = make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression())
    grid = {"clf": [inner], "clf__sentenceembeddingtransformer__pooling": ["mean", "cls"]}
    search = GridSearchCV(Pipeline([("clf", LogisticRegression())]), grid, cv=3)
    assert report(precompute(search, TEXTS)) == (40, 1, 2)
    search.fit(TEXTS, LABELS)
    assert len(counted) == 40


def test_a_search_over_the_transformer_alone_is_seen(tiny):
    search = GridSearchCV(SentenceEmbeddingTransformer(tiny), {"pooling": ["mean", "cls"]}, scoring=lambda *_: 0.0)
    assert report(precompute(search, TEXTS)) == (40, 1, 2)


@pytest.mark.parametrize("tried", [True, False], ids=["in a grid", "as it is"])
def test_the_remainder_of_a_column_transformer_is_seen(tried, tiny, counted):
    embedder = SentenceEmbeddingTransformer(tiny)
    columns = make_column_transformer(
        (StandardScaler(), ["stars"]), ("drop", ["title"]), remainder="drop" if tried else embedder
    )
    pipe = make_pipeline(columns, LogisticRegression())
    grid = {"columntransformer__remainder": [embedder]} if tried else {"logisticregression__C": [1, 2]}
    search = GridSearchCV(pipe, grid, cv=3)
    assert report(precompute(search, FRAME)) == (40, 1, 1)
    search.fit(FRAME, LABELS)
    assert len(counted) == 40


def test_a_search_after_the_embedding_does_not_keep_its_grid_from_one_pass(tiny, counted):
    inner = GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2)
    pipe = Pipeline([("embed", SentenceEmbeddingTransformer(tiny)), ("clf", inner)])
    assert report(precompute(GridSearchCV(pipe, {"embed__pooling": ["mean", "max"]}), TEXTS)) == (40, 1, 2)
    assert len(counted) == 40


def test_a_step_without_fit_transform_before_the_transformer_is_seen(tiny):
    class Lower(BaseEstimator):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return lower(X)

    pipe = Pipeline([("lower", Lower()), ("embed", SentenceEmbeddingTransformer(tiny))])
    assert report(precompute(pipe, [*TEXTS, TEXTS[0].upper()])) == (40, 1, 1)


def test_many_candidates_of_a_column_transformer_read_its_texts_once(tiny, capsys):
    columns = make_column_transformer((SentenceEmbeddingTransformer(tiny, show_progress_bar=True), "title"))
    grid = {"columntransformer__sentenceembeddingtransformer__pooling": ["mean", "cls", "max"]}
    precompute(GridSearchCV(make_pipeline(columns, LogisticRegression()), grid), FRAME)
    assert "40/40" in capsys.readouterr().err


AROUND = {
    "union": lambda e: FeatureUnion([("a", e), ("b", clone(e).set_params(pooling="max"))]),
    "frozen": lambda e: FrozenEstimator(e.fit(["a"])),
    "voting": lambda e: VotingClassifier([("a", make_pipeline(e, LogisticRegression()))]),
    "calibrated": lambda e: CalibratedClassifierCV(make_pipeline(e, LogisticRegression())),
    "stacking": lambda e: StackingClassifier([("a", make_pipeline(e, LogisticRegression()))], LogisticRegression()),
    "one-vs-rest": lambda e: OneVsRestClassifier(make_pipeline(e, LogisticRegression())),
    "tuned threshold": lambda e: TunedThresholdClassifierCV(make_pipeline(e, LogisticRegression())),
    "transformed target": lambda e: TransformedTargetRegressor(make_pipeline(e, Ridge()), func=abs, inverse_func=abs),
    "frozen pipeline": lambda e: CalibratedClassifierCV(
        FrozenEstimator(make_pipeline(e, LogisticRegression()).fit(["a", "b"], [0, 1]))
    ),
    "search in a pipeline": lambda e: make_pipeline(
        e, GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2)
    ),
    "search in a search": lambda e: GridSearchCV(
        GridSearchCV(Pipeline([("e", e), ("clf", LogisticRegression())]), {"e__pooling": ["mean", "max"]}),
        {"cv": [2, 3]},
    ),
}  # fmt: skip
N_AROUND = {**dict.fromkeys(AROUND, 1), "union": 2, "search in a search": 2}


@pytest.mark.parametrize("kind", AROUND)
def test_it_is_found_inside_other_estimators(kind, tiny, counted):
    estimator = AROUND[kind](SentenceEmbeddingTransformer(tiny))
    counted.clear()
    assert report(precompute(estimator, TEXTS)) == (40, 1, N_AROUND[kind])
    estimator.fit(TEXTS, LABELS)
    assert len(counted) == 40


@pytest.mark.parametrize("wrap", [lambda e: e, CalibratedClassifierCV], ids=["alone", "calibrated"])
@pytest.mark.parametrize("tried", [{"embed__pooling": ["max"]}, {"clf__C": [1, 2]}], ids=["its pooling", "no pooling"])
def test_the_best_estimator_of_a_fitted_and_frozen_search_counts(tried, wrap, tiny, counted):
    few = ["a fox", "a parcel"] * 2
    search = GridSearchCV(pipeline(tiny, pooling="cls"), tried, cv=2).fit(few, [0, 1] * 2)
    frozen = wrap(FrozenEstimator(search))
    counted.clear()
    assert report(precompute(frozen, TEXTS)) == (40, 1, 1)
    search.predict(TEXTS)
    assert len(counted) == 40


@pytest.mark.slow
def test_the_best_fine_tuner_of_a_frozen_search_is_used_as_it_is(tiny, counted):
    pytest.importorskip("accelerate", reason="the extra train is not installed")
    pipe = Pipeline(
        [("tune", SentenceEmbeddingFineTuner(tiny, **{**FAST, "cache": "memory"})), ("clf", LogisticRegression())]
    )
    search = GridSearchCV(pipe, {"tune__batch_size": [4]}, cv=2).fit(TEXTS, LABELS)
    counted.clear()
    others = [f"{text} too" for text in TEXTS]
    assert report(precompute(FrozenEstimator(search), others)) == (40, 1, 1)
    search.predict(others)
    assert len(counted) == 40


@pytest.mark.parametrize(
    ("wrap", "y"),
    [
        (BaggingClassifier, LABELS),
        (MultiOutputClassifier, np.c_[LABELS, 1 - LABELS]),
    ],
    ids=["bagging", "multi-output"],
)
def test_it_is_found_inside_estimators_of_tables(wrap, y, tiny, counted):
    columns = make_column_transformer((SentenceEmbeddingTransformer(tiny), 0))
    table = np.array([[text] for text in TEXTS], dtype=object)
    estimator = wrap(make_pipeline(columns, LogisticRegression()))
    assert report(precompute(estimator, table)) == (40, 1, 1)
    estimator.fit(table, y)
    assert len(counted) == 40


# skembed's own estimators

PAIRS = pd.DataFrame({"a": TEXTS, "b": [f"{text} too" for text in TEXTS]})
OWN = {  # name: (estimator around an embedder, X, how many texts go through the model, how many settings)
    "pairs": (PairSimilarity, PAIRS, 80, 1),
    "search": (lambda e: SemanticSearch(e, n_neighbors=2), TEXTS, 80, 2),  # with the prompt of each side
    "search without prompts": (lambda e: SemanticSearch(e, query_prompt=None), TEXTS, 40, 1),
    "duplicates": (NearDuplicates, TEXTS, 40, 1),
    "topics": (lambda e: TopicModel(2, embedder=e), TEXTS, 40, 1),
    "classifier": (lambda e: SentenceEmbeddingClassifier(embedder=e), TEXTS, 40, 1),
    "classifier with descriptions": (
        lambda e: SentenceEmbeddingClassifier(dict.fromkeys(LABELS[:2], "a fox"), embedder=e),
        TEXTS,
        41,
        1,
    ),
    "search after a step": (lambda e: make_pipeline(FunctionTransformer(), SemanticSearch(e)), TEXTS, 80, 2),
}


def use(estimator, X) -> None:
    """Do what a cross-validation does: fit, and ask with the same texts."""
    estimator.fit(X, LABELS)
    for method in ("transform", "predict"):
        if hasattr(estimator, method):
            getattr(estimator, method)(X)


@pytest.mark.parametrize("prefix", ["", "sentenceembeddingclassifier__"], ids=["alone", "in a pipeline"])
def test_embedders_tried_in_place_of_one_without_a_model_are_computed(prefix, tiny, counted):
    classifier = SentenceEmbeddingClassifier(embedder=TfidfVectorizer())
    estimator = make_pipeline(FunctionTransformer(), classifier) if prefix else classifier
    grid = {f"{prefix}embedder": [SentenceEmbeddingTransformer(tiny), TfidfVectorizer()]}
    assert report(precompute(GridSearchCV(estimator, grid), TEXTS)) == (40, 1, 1)
    assert len(counted) == 40


SIDES = ["query_prompt", "document_prompt"]


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("prefix", ["", "semanticsearch__"], ids=["alone", "in a pipeline"])
def test_prompts_that_are_tried_for_one_side_of_a_search_are_computed(name, prefix, tiny, counted):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=2, **dict.fromkeys(SIDES))
    estimator = make_pipeline(FunctionTransformer(), search) if prefix else search
    grid = {f"{prefix}{name}": ["a: ", "b: ", "c: "], f"{prefix}n_neighbors": [1, 2]}
    assert report(precompute(GridSearchCV(estimator, grid), TEXTS)) == (40, 1, 4)
    assert len(counted) == 160
    for prompt in grid[f"{prefix}{name}"]:
        clone(estimator).set_params(**{f"{prefix}{name}": prompt}).fit(TEXTS).transform(TEXTS)
    assert len(counted) == 160


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize(
    "wrap",
    [lambda e: e, lambda e: make_pipeline(e, Normalizer()), lambda e: FrozenEstimator(e.fit(["a"]))],
    ids=["transformer", "pipeline", "frozen"],
)
def test_the_texts_of_skembeds_own_estimators_are_found(kind, wrap, tiny, counted):
    make, X, n_texts, n_settings = OWN[kind]
    is_pipeline = isinstance(wrap(SentenceEmbeddingTransformer(tiny)), Pipeline)
    if is_pipeline and kind.startswith("search"):  # a search knows the prompts of a transformer alone
        n_texts, n_settings = 40, 1
    estimator = make(wrap(SentenceEmbeddingTransformer(tiny)))
    counted.clear()
    done = precompute(estimator, X)
    assert (len(counted), done.settings) == (n_texts, n_settings)
    use(estimator, X)
    assert len(counted) == n_texts


@pytest.mark.parametrize("kind", OWN)
def test_after_it_every_candidate_of_a_search_over_the_embedder_only_reads(kind, tiny, counted):
    make, X, n_texts, _ = OWN[kind]
    estimator = make(SentenceEmbeddingTransformer(tiny))
    (name,) = (name for name in estimator.get_params() if name.endswith("embedder__pooling"))
    precompute(GridSearchCV(estimator, {name: ["mean", "cls", "max"]}), X)
    assert len(counted) == n_texts
    for pooling in ("mean", "cls", "max"):
        use(clone(estimator).set_params(**{name: pooling}), X)
    assert len(counted) == n_texts


def test_the_default_embedder_of_skembeds_own_estimators_is_found(counted):
    few = ["a fox", "a parcel", "a dog"]
    for estimator in (NearDuplicates(), TopicModel(), SemanticSearch(n_neighbors=1), SentenceEmbeddingClassifier()):
        assert precompute(estimator, few).texts == 3
    assert sorted(counted) == sorted(few)
    assert precompute(PairSimilarity(), [("a fox", "a cat"), ("a dog", None)]).texts == 3


def test_a_pair_of_columns_in_a_column_transformer_is_found(tiny, counted):
    columns = make_column_transformer(
        (PairSimilarity(SentenceEmbeddingTransformer(tiny)), ["title", "body"]), (StandardScaler(), ["stars"])
    )
    assert report(precompute(columns, FRAME)) == (80, 1, 1)
    columns.fit_transform(FRAME)
    assert len(counted) == 80


def test_descriptions_in_a_mapping_are_found(tiny, counted):
    descriptions = {"fox": ["a fox", "foxes"], "parcel": "a parcel"}
    classifier = SentenceEmbeddingClassifier(descriptions, embedder=SentenceEmbeddingTransformer(tiny))
    assert report(precompute(classifier, None)) == (3, 1, 1)
    classifier.fit()
    assert len(counted) == 3
    assert report(precompute(clone(classifier).set_params(description_weight=0), TEXTS)) == (40, 1, 1)


def test_descriptions_that_are_tried_are_computed(tiny, counted):
    classifier = SentenceEmbeddingClassifier(
        {"a": "one"}, embedder=SentenceEmbeddingTransformer(tiny), classifier=LogisticRegression()
    )
    grid = {
        "descriptions": [None, {"a": "two"}, {"a": ["two", "three"]}],
        "description_weight": [0, 1],
        "classifier__C": [1, 10],
        "embedder__pooling": ["mean", "cls"],
    }
    search = GridSearchCV(classifier, grid, cv=2, error_score="raise")
    assert report(precompute(search, TEXTS)) == (42, 1, 2)
    search.fit(TEXTS, ["a" if label == LABELS[0] else "b" for label in LABELS])
    assert len(counted) == 42


def test_vectors_as_descriptions_are_left_alone(tiny):
    embedder = SentenceEmbeddingTransformer(tiny)
    assert report(precompute(SentenceEmbeddingClassifier({"a": np.eye(2)}, embedder=embedder), TEXTS)) == (40, 1, 1)


def test_vectors_are_left_alone(tiny, counted):
    vectors = np.eye(4)
    pipe = make_pipeline(SentenceEmbeddingTransformer(tiny), SemanticSearch(n_neighbors=1))
    assert report(precompute(pipe, TEXTS)) == (40, 1, 1)
    with pytest.raises(ValueError, match="holds no SentenceEmbeddingTransformer that gets texts"):
        precompute(SemanticSearch(n_neighbors=1), vectors)


@pytest.fixture(scope="module")
def fitted_tuner(model_folder) -> SentenceEmbeddingFineTuner:
    pytest.importorskip("accelerate", reason="the extra train is not installed")
    return SentenceEmbeddingFineTuner(model_folder("bert"), **{**FAST, "cache": "memory"}).fit(TEXTS, LABELS)


@pytest.mark.parametrize("wrap", [lambda e: e, FrozenEstimator], ids=["fitted", "frozen"])
def test_the_vectors_of_a_fine_tuner_that_stays_as_it_is_are_computed(wrap, fitted_tuner, counted):
    estimator = NearDuplicates(wrap(fitted_tuner))
    assert report(precompute(estimator, TEXTS)) == (40, 1, 1)
    estimator.fit(TEXTS)
    assert len(counted) == 40


@pytest.mark.parametrize(
    "make",
    [lambda e: e, lambda e: make_pipeline(e, SemanticSearch()), SemanticSearch, lambda e: NearDuplicates(clone(e))],
    ids=["alone", "before a search", "of a search", "of duplicates"],
)
def test_a_fine_tuner_that_will_be_fitted_is_left_alone(make, fitted_tuner, counted, monkeypatch):
    monkeypatch.setattr("skembed.training.trainer.train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(ValueError, match="has no vectors before it is fitted"):
        precompute(make(clone(fitted_tuner)), TEXTS)


# Distributions


class Choices:
    """As optuna.distributions.CategoricalDistribution."""

    def __init__(self, choices):
        self.choices = tuple(choices)


class Integers:
    """As optuna.distributions.IntDistribution."""

    def __init__(self, low, high, step=1):
        self.low, self.high, self.step = low, high, step


class Floats:
    """As optuna.distributions.FloatDistribution."""

    def __init__(self, low, high):
        self.low, self.high, self.step = float(low), float(high), None


class OptunaLikeSearchCV(BaseEstimator):
    """As optuna_integration.OptunaSearchCV."""

    def __init__(self, estimator, param_distributions):
        self.estimator = estimator
        self.param_distributions = param_distributions


FINITE = {
    "choices": (Choices([None, 8, 16]), [None, 8, 16]),
    "integers": (Integers(8, 32, step=8), [8, 16, 24, 32]),
    "scipy's integers": (randint(8, 12), [8, 9, 10, 11]),
    "scipy's list": (rv_discrete(values=([8, 16], [0.5, 0.5])), [8, 16]),
}


@pytest.mark.parametrize("kind", FINITE)
@pytest.mark.parametrize("around", [OptunaLikeSearchCV, RandomizedSearchCV])
def test_all_values_of_a_finite_distribution_are_computed(kind, around, tiny, counted):
    distribution, values = FINITE[kind]
    tried = {"embed__truncate_dim": distribution, "embed__pooling": Choices(["mean", "max"]), "clf__C": Floats(0.1, 9)}
    assert report(precompute(around(pipeline(tiny), tried), TEXTS)) == (40, 1, 2 * len(values))
    for value in values:
        embed(TEXTS, model=tiny, truncate_dim=value, pooling="max")
    assert len(counted) == 40


@pytest.mark.parametrize(
    "distribution",
    [uniform(1, 9), loguniform(1, 9), poisson(5), randint(1, 10**9), Floats(1, 9), Integers(1, 10**9)],
    ids=["uniform", "loguniform", "without an end", "many", "floats", "many integers"],
)
def test_distributions_of_other_parameters_change_nothing(distribution, tiny):
    search = OptunaLikeSearchCV(pipeline(tiny), {"embed__pooling": ["mean", "max"], "clf__C": distribution})
    assert report(precompute(search, TEXTS)) == (40, 1, 2)
    search = OptunaLikeSearchCV(pipeline(tiny), {"embed__truncate_dim": distribution})
    with pytest.raises(ValueError, match=r"embed__truncate_dim has a distribution, .* pass a list"):
        precompute(search, TEXTS)


def test_embedders_may_be_choices(tiny, counted):
    embedders = [SentenceEmbeddingTransformer(tiny), SentenceEmbeddingTransformer(tiny, layers=1)]
    search = OptunaLikeSearchCV(
        Pipeline([("embed", TfidfVectorizer()), ("clf", LogisticRegression())]), {"embed": Choices(embedders)}
    )
    assert report(precompute(search, TEXTS)) == (40, 1, 2)


def test_the_real_distributions_of_optuna_are_understood(tiny):
    distributions = pytest.importorskip("optuna.distributions")
    tried = {
        "embed__truncate_dim": distributions.IntDistribution(8, 32, step=8),
        "embed__pooling": distributions.CategoricalDistribution(["mean", "max"]),
        "clf__C": distributions.FloatDistribution(0.1, 9, log=True),
    }
    assert report(precompute(OptunaLikeSearchCV(pipeline(tiny), tried), TEXTS)) == (40, 1, 8)


def test_nothing_that_was_passed_is_fitted_or_changed(tiny):
    search = SEARCHES["grid"](pipeline(tiny))
    before = repr(search)
    precompute(search, TEXTS)
    assert repr(search) == before
    assert not hasattr(search, "best_params_")
    assert not hasattr(search.estimator["embed"], "embedding_dim_")


def test_missing_texts_are_left_to_the_policy(tiny):
    embedder = SentenceEmbeddingTransformer(tiny, missing="zero")
    assert report(precompute(embedder, pd.Series(["a", None, "b"]))) == (2, 1, 1)


def test_one_bar_counts_all_passes(tiny, model_folder, capsys):
    pipe = pipeline(tiny, show_progress_bar=True)
    precompute(GridSearchCV(pipe, {"embed__model": [tiny, model_folder("roberta")]}), TEXTS)
    assert "80/80" in capsys.readouterr().err


# What it refuses


def test_a_bad_text_is_named_by_its_position_and_label(tiny):
    with pytest.raises(TypeError, match=r"X\[1\] \(index label 'r2'\) is float"):
        precompute(pipeline(tiny), pd.Series(["fine", 3.5], index=["r1", "r2"]))


def test_an_estimator_without_a_transformer_is_refused():
    with pytest.raises(ValueError, match="Pipeline holds no SentenceEmbeddingTransformer"):
        precompute(make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS)


def test_no_cache_is_refused(tiny):
    with pytest.raises(ValueError, match="cache=None keeps no vectors"):
        precompute(SentenceEmbeddingTransformer(tiny, cache=None), TEXTS)


def test_a_distribution_over_an_embedding_parameter_is_refused(tiny):
    search = RandomizedSearchCV(pipeline(tiny), {"embed__truncate_dim": uniform(1, 9)})
    with pytest.raises(ValueError, match=r"embed__truncate_dim has a distribution, .* pass a list"):
        precompute(search, TEXTS)


def test_a_cache_in_memory_is_refused_if_the_search_uses_processes(tiny, tmp_path):
    search = GridSearchCV(pipeline(tiny), {"embed__pooling": ["mean", "max"]}, n_jobs=2)
    with pytest.raises(ValueError, match=r"do not share a cache in memory\. Choose cache='disk'"):
        precompute(search, TEXTS)
    with joblib.parallel_config("threading"):
        precompute(search, TEXTS)
    precompute(search.set_params(estimator__embed__cache=tmp_path / "cache"), TEXTS)


def test_processes_around_it_do_not_matter_to_an_estimator_that_starts_none(tiny):
    with joblib.parallel_config(n_jobs=2):
        assert report(precompute(pipeline(tiny), TEXTS)) == (40, 1, 1)


def test_a_cache_that_turns_out_too_small_is_refused(tiny, tmp_path):
    texts = [f"{number} " + "long " * 2000 for number in range(20)]
    cache = EmbeddingCache(tmp_path / "cache", max_bytes=20 * 400)
    with pytest.raises(ValueError, match="too full to keep all vectors"):
        precompute(SentenceEmbeddingTransformer(tiny, cache=cache, batch_tokens=1), texts)


def test_a_full_disk_ends_it_at_once(tiny, tmp_path, monkeypatch, counted):
    def fail(*arguments):
        raise CacheError("no space left")

    monkeypatch.setattr("skembed.encoding.cache.disk_store.DiskStore.write", fail)
    with pytest.raises(CacheError, match="no space left"):
        precompute(SentenceEmbeddingTransformer(tiny, cache=tmp_path / "cache", batch_tokens=8), TEXTS)
    assert len(counted) < 40


def test_a_cache_that_is_too_small_is_refused_with_the_size_it_takes(tiny, counted):
    search = SEARCHES["grid"](pipeline(tiny, cache=EmbeddingCache(max_bytes=10_000)))
    with pytest.raises(ValueError, match=r"take about \d[\d,]+ bytes, but the cache holds 10,000"):
        precompute(search, TEXTS)
    assert counted == []


def test_an_illegal_candidate_is_refused_before_anything_is_computed(tiny, counted):
    with pytest.raises(ValueError, match="truncate_dim=999: the vectors have only 32 dimensions"):
        precompute(GridSearchCV(pipeline(tiny), {"embed__truncate_dim": [8, 999]}), TEXTS)
    assert counted == []


# In several processes


class LoggingTransformer(SentenceEmbeddingTransformer):
    """Writes each text that goes through the model to a file, in whatever process it happens."""

    def __init__(self, model=None, *, cache="memory", pooling="default", log=None):
        super().__init__(model, cache=cache, pooling=pooling, dtype="float32")  # in every process
        self.log = log

    def transform(self, X):
        from skembed.encoding import encoder

        original = getattr(encoder.run_model, "original", encoder.run_model)

        def logging(texts, *rest):
            for positions, *result in original(texts, *rest):
                with open(self.log, "a") as file:
                    file.write("".join(f"{texts[position]}\n" for position in positions))
                yield positions, *result

        logging.original = original
        encoder.run_model = logging
        try:
            return super().transform(X)
        finally:
            encoder.run_model = original

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [True, False], ids=["after precompute", "without precompute"])
def test_with_two_processes_and_a_cache_on_disk_no_text_is_encoded_twice_in_any_process(ahead, tiny, tmp_path):
    log = tmp_path / "encoded.txt"
    log.touch()
    cache = EmbeddingCache(tmp_path / "cache")
    pipe = make_pipeline(LoggingTransformer(tiny, cache=cache, log=log), LogisticRegression())
    grid = {"loggingtransformer__pooling": ["mean", "max"] if ahead else ["mean"], "logisticregression__C": [1, 10]}
    search = GridSearchCV(pipe, grid, cv=4, n_jobs=2)
    if ahead:
        precompute(search, TEXTS)
    search.fit(TEXTS, LABELS)
    assert sorted(log.read_text().splitlines()) == ([] if ahead else sorted(TEXTS))
    assert search.best_score_ > 0.4
    assert cache.stats()["texts"] == 40


class TransformerOfOneModel(SentenceEmbeddingTransformer):
    """A subclass that takes few parameters."""

    def __init__(self, model="all-MiniLM-L6-v2", *, cache="memory"):
        super().__init__(model, cache=cache)


def test_the_sides_of_a_search_are_found_with_a_subclass_that_takes_few_parameters(tiny, counted):
    search = SemanticSearch(TransformerOfOneModel(tiny), n_neighbors=1)
    precompute(search, ["a fox"])
    assert set(counted) == {"a fox"}
