"""``embedder=`` of every estimator: a fitted one is not fitted again, any other is, and a changed model is refused."""

from __future__ import annotations

import pickle
import shutil
from functools import partial
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process.kernels import RBF
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, Normalizer

import skembed
from skembed import (
    EmbeddingMapDisplay,
    ModelChangedError,
    NearDuplicates,
    PairSimilarity,
    SemanticSearch,
    SentenceEmbeddingClassifier,
    SentenceEmbeddingFineTuner,
    SentenceEmbeddingTransformer,
    SimilarityDisplay,
    TopicModel,
)
from skembed.embedders import is_fitted
from tests.tiny_models import make_bert
from tests.training.fast import FAST

TEXTS = ["a quick fox", "a lazy dog", "the wrong address", "login", "the update", "a fox jumps"]
OTHERS = ["a fox", "a dog", "an address", "log in", "an update", "foxes"]
LABELS = ["fox", "dog", "mail", "app", "app", "fox"]
DESCRIPTIONS = dict(zip("abcdef", TEXTS, strict=True))


@pytest.fixture(autouse=True)
def _close_figures():
    matplotlib.pyplot.switch_backend("agg")
    yield
    matplotlib.pyplot.close("all")


def pairs() -> pd.DataFrame:
    return pd.DataFrame({"a": TEXTS, "b": OTHERS})


# name -> fits an estimator that holds the embedder, or draws a display, and returns what came out, and the estimator
USES = {
    "search": lambda e: (s := SemanticSearch(e, n_neighbors=2).fit(TEXTS)) and (s.kneighbors(OTHERS)[0], s),
    "duplicates": lambda e: (s := NearDuplicates(e, threshold=-1).fit(TEXTS)) and (s.duplicates_["score"], s),
    "topics": lambda e: (s := TopicModel(2, embedder=e).fit(TEXTS)) and (s.transform(OTHERS), s),
    "descriptions": lambda e: (s := SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=e).fit()) and (
        s.decision_function(OTHERS), s
    ),
    "classifier": lambda e: (s := SentenceEmbeddingClassifier(DESCRIPTIONS, embedder=e).fit(TEXTS, LABELS)) and (
        s.decision_function(OTHERS), s
    ),
    "pairs": lambda e: (s := PairSimilarity(e).fit(pairs())) and (s.transform(pairs()), s),
    "map": lambda e: (EmbeddingMapDisplay.from_texts(TEXTS, embedder=e, method="pca").positions, None),
    "heat map": lambda e: (SimilarityDisplay.from_texts(TEXTS, OTHERS, embedder=e).similarities, None),
}  # fmt: skip
# name -> compares texts with a matrix, of which nothing says which model made it
GUESSES = {
    "search": lambda e, m: SemanticSearch(e, n_neighbors=1).fit(m).kneighbors(OTHERS),
    "duplicates": lambda e, m: NearDuplicates(e).fit(m).match(OTHERS),
    "topics": lambda e, m: TopicModel(2, embedder=e).fit(m).predict(OTHERS),
    "examples": lambda e, m: SentenceEmbeddingClassifier(embedder=e).fit(m, LABELS).predict(OTHERS),
    "descriptions": lambda e, m: (
        SentenceEmbeddingClassifier(dict(zip("abcdef", m, strict=True)), embedder=e).fit().predict(OTHERS)
    ),
    "pairs": lambda e, m: PairSimilarity(e).fit(pairs()).transform(pd.DataFrame({"a": TEXTS, "b": [*m]})),
}
ESTIMATORS = ["search", "duplicates", "topics", "descriptions", "classifier", "pairs"]
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)
each_estimator = pytest.mark.parametrize("use", [USES[name] for name in ESTIMATORS], ids=ESTIMATORS)


@pytest.mark.parametrize("compare", GUESSES.values(), ids=GUESSES)
def test_texts_are_compared_with_vectors_of_an_unknown_model_only_by_an_embedder_that_was_chosen(
    compare, tiny, counted, monkeypatch
):
    monkeypatch.setattr(SentenceEmbeddingTransformer.__init__, "__defaults__", (tiny,))
    vectors = np.random.default_rng(0).normal(size=(6, 32))
    with pytest.raises(ValueError, match=r"nothing says which model made the vectors of .*embedded with model="):
        compare(None, vectors)
    assert counted == []
    compare(SentenceEmbeddingTransformer(tiny), vectors)


@pytest.fixture(scope="module")
def fitted_tuner(model_folder) -> SentenceEmbeddingFineTuner:
    tuner = SentenceEmbeddingFineTuner(model_folder("bert"), **FAST)
    return tuner.fit([f"{text} {number}" for number in range(4) for text in TEXTS], LABELS * 4)


def lsa() -> object:
    return make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0), Normalizer())


class KernelFeatures(TransformerMixin, BaseEstimator):
    """A step that learns, with a parameter that is not an estimator."""

    def __init__(self, kernel):
        self.kernel = kernel

    def fit(self, X, y=None):
        self.landmarks_ = X
        return self

    def transform(self, X):
        return self.kernel(X, self.landmarks_)


FITTED = {
    "tf-idf": lambda: TfidfVectorizer(analyzer="char").fit([*TEXTS, *OTHERS, "7"]),
    "pipeline": lambda: lsa().fit([*TEXTS, *OTHERS, "7"]),
}


class TestFitted:
    @each_use
    def test_a_fine_tuner_is_not_trained_again(self, use, fitted_tuner, monkeypatch):
        monkeypatch.setattr("skembed.training.trainer.train", lambda *_, **__: pytest.fail("it was trained"))
        before = fitted_tuner.model_fingerprint_
        made, estimator = use(fitted_tuner)
        assert fitted_tuner.model_fingerprint_ == before
        assert estimator is None or estimator.embedder_ is fitted_tuner
        expected, _ = use(FrozenEstimator(fitted_tuner))
        assert_array_equal(made, expected)

    @each_use
    @pytest.mark.parametrize("kind", FITTED)
    def test_what_has_learned_elsewhere_does_not_learn_again(self, use, kind, monkeypatch):
        embedder = FITTED[kind]()
        for part in (TfidfVectorizer, TruncatedSVD):
            for method in ("fit", "fit_transform"):
                monkeypatch.setattr(part, method, lambda *_, **__: pytest.fail("it was fitted"))
        _, estimator = use(embedder)
        assert estimator is None or estimator.embedder_ is embedder

    @each_estimator
    def test_a_clone_has_one_that_learns_anew(self, use):
        embedder = FITTED["tf-idf"]()
        _, estimator = use(embedder)
        again = clone(estimator)
        assert not is_fitted(again.embedder)
        again.fit(pairs() if isinstance(estimator, PairSimilarity) else TEXTS, LABELS)
        assert "7" not in again.embedder_.vocabulary_

    @each_estimator
    def test_a_clone_keeps_what_is_frozen(self, use):
        embedder = FITTED["tf-idf"]()
        _, estimator = use(FrozenEstimator(embedder))
        again = clone(estimator)
        again.fit(pairs() if isinstance(estimator, PairSimilarity) else TEXTS, LABELS)
        assert again.embedder_ is embedder

    @each_use
    def test_a_frozen_transformer_is_the_transformer(self, use, tiny):
        embedder = SentenceEmbeddingTransformer(tiny).fit(["a fox"])
        assert_array_equal(use(FrozenEstimator(embedder))[0], use(embedder)[0])

    def test_a_frozen_transformer_gets_the_prompts_of_a_search(self, tiny):
        embedder = FrozenEstimator(SentenceEmbeddingTransformer(tiny).fit(["a fox"]))
        assert SemanticSearch(embedder).fit(TEXTS).query_prompt_ != ""

    @each_use
    def test_what_is_frozen_must_be_fitted(self, use):
        with pytest.raises(NotFittedError):
            use(FrozenEstimator(TfidfVectorizer()))

    def test_pairs_can_be_compared_without_a_fit(self, fitted_tuner):
        expected = PairSimilarity(fitted_tuner).fit(pairs()).transform(pairs())
        assert_array_equal(PairSimilarity(fitted_tuner).transform(pairs()), expected)
        with pytest.raises(NotFittedError):
            PairSimilarity(clone(fitted_tuner)).transform(pairs())


class TestNotFitted:
    @each_use
    @pytest.mark.parametrize("make", [TfidfVectorizer, lsa], ids=["tf-idf", "pipeline that ends in a stateless step"])
    def test_what_learns_is_fitted_on_what_the_estimator_is_fitted_with(self, use, make):
        embedder = make()
        _, estimator = use(embedder)
        assert not is_fitted(embedder)
        assert estimator is None or is_fitted(estimator.embedder_)

    @pytest.mark.parametrize("use", [USES[name] for name in USES if name != "classifier"])
    @pytest.mark.parametrize("wrap", [lambda e: e, make_pipeline, make_union], ids=["alone", "pipeline", "union"])
    def test_a_fine_tuner_refuses_texts_without_labels(self, use, wrap, tiny, monkeypatch):
        monkeypatch.setattr("skembed.training.trainer.train", lambda *_, **__: pytest.fail("it was trained"))
        tuner = SentenceEmbeddingFineTuner(tiny, **FAST)
        if use is USES["pairs"]:  # which are labels enough for a fine-tuner itself
            tuner = make_pipeline(tuner, FunctionTransformer())
        with pytest.raises(
            ValueError, match=r"is not fitted, and the texts .* have no labels. Fit it on labelled texts"
        ):
            use(wrap(tuner))

    @each_use
    def test_a_parameter_that_is_not_an_estimator_is_left_alone(self, use):
        use(make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0), KernelFeatures(RBF())))

    def test_a_fine_tuner_is_trained_on_texts_alone_by_a_loss_for_that(self, tiny):
        params = {**FAST, "batch_size": 3}
        tuner = SentenceEmbeddingFineTuner(tiny, loss="multiple_negatives_ranking", **params)
        search = SemanticSearch(tuner, n_neighbors=2).fit(TEXTS)
        assert search.embedder_.loss_ == "multiple_negatives_ranking"
        assert not is_fitted(tuner)

    def test_a_fine_tuner_is_trained_on_the_labels_of_a_search(self, tiny):
        search = SemanticSearch(SentenceEmbeddingFineTuner(tiny, **FAST), n_neighbors=2).fit(TEXTS * 2, LABELS * 2)
        assert search.embedder_.loss_ == "cosine_similarity"

    def test_vectors_never_reach_it(self, tiny):
        assert TopicModel(3, embedder=SentenceEmbeddingFineTuner(tiny)).fit(np.eye(3)).n_topics_ == 3
        duplicates = NearDuplicates(SentenceEmbeddingFineTuner(tiny)).fit(np.eye(3))
        assert duplicates.labels_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("embedder", "expected"),
    [
        (TfidfVectorizer(), False),
        (TfidfVectorizer().fit(TEXTS), True),
        (FunctionTransformer(), True),
        (make_pipeline(TfidfVectorizer(), Normalizer()), False),
        (make_pipeline(TfidfVectorizer(), Normalizer()).fit(TEXTS), True),
        (make_union(TfidfVectorizer(), make_pipeline(TfidfVectorizer(), Normalizer())), False),
        (make_pipeline(TfidfVectorizer().fit(TEXTS), "passthrough"), True),
        (SentenceEmbeddingTransformer(), False),
    ],
    ids=str,
)
def test_fitted_is_what_needs_to_learn_nothing_more(embedder, expected):
    assert is_fitted(embedder) is expected


# Questions to an estimator after it was unpickled
QUESTIONS = {
    "search": lambda s: s.search("fox"),
    "duplicates": lambda s: s.match(["fox"]),
    "topics": lambda s: s.predict(["fox"]),
    "descriptions": lambda s: s.predict(["fox"]),
    "classifier": lambda s: s.predict(["fox"]),
    "pairs": lambda s: s.transform(pairs()),
    "map": lambda s: EmbeddingMapDisplay.from_estimator(s, TEXTS),
}


class TestChangedModel:
    @pytest.fixture
    def model(self, tmp_path) -> str:
        """A model that a test may replace."""
        return make_bert(tmp_path / "model", seed=1)

    @staticmethod
    def replace(model: str) -> None:
        shutil.rmtree(model)
        make_bert(Path(model), seed=2)

    @pytest.mark.parametrize("wrap", [lambda e: e, make_pipeline], ids=["alone", "pipeline"])
    @pytest.mark.parametrize(("name", "question"), [*QUESTIONS.items()], ids=QUESTIONS)
    def test_another_model_of_the_same_name_is_refused_after_unpickling(self, name, question, wrap, model):
        _, estimator = USES["duplicates" if name == "map" else name](wrap(SentenceEmbeddingTransformer(model)))
        pickled = pickle.dumps(estimator)
        question(pickle.loads(pickled))
        self.replace(model)
        with pytest.raises(ModelChangedError, match="is not the one this transformer was fitted with"):
            question(pickle.loads(pickled))

    @each_use
    def test_a_transformer_that_was_fitted_before_keeps_to_its_model(self, use, model):
        embedder = SentenceEmbeddingTransformer(model).fit(["a fox"])
        self.replace(model)
        with pytest.raises(ModelChangedError):
            use(embedder)

    @each_estimator
    def test_another_fit_accepts_the_new_model(self, use, model):
        _, estimator = use(SentenceEmbeddingTransformer(model))
        self.replace(model)
        estimator.fit(pairs() if isinstance(estimator, PairSimilarity) else TEXTS, LABELS)

    @each_estimator
    def test_a_transformer_that_was_set_to_another_model_uses_that_one(self, use, model, tiny):
        embedder = SentenceEmbeddingTransformer(model).fit(["a fox"]).set_params(model=tiny)
        _, estimator = use(embedder)
        assert estimator.embedder_.model_fingerprint_ == SentenceEmbeddingTransformer(tiny).fit([]).model_fingerprint_


LABELLED = {
    "Series": pd.Series(["a fox", None], index=["r", "s"], name="title"),
    "frame": pd.DataFrame({"title": ["a fox", None]}, index=["r", "s"]),
}


class TestMessages:
    @pytest.mark.parametrize("X", LABELLED.values(), ids=LABELLED)
    def test_a_fitted_fine_tuner_names_column_position_and_label(self, X, fitted_tuner):
        search = SemanticSearch(fitted_tuner, n_neighbors=1).fit(TEXTS)
        with pytest.raises(ValueError, match=r"^queries\[1\] \(index label 's'\) is missing"):
            search.search(X)
        with pytest.raises(ValueError, match=r"^X\[1\] \(index label 's'\) is missing.* X is column 'title'\.$"):
            search.fit(X)

    @pytest.mark.parametrize("X", LABELLED.values(), ids=LABELLED)
    @pytest.mark.parametrize("is_fitted", [True, False], ids=["fitted", "not fitted"])
    def test_any_embedder_gets_index_labels_and_the_name_of_a_column(self, is_fitted, X):
        seen = []
        watch = FunctionTransformer(lambda texts: seen.append(texts) or texts.fillna(""))
        embedder = make_pipeline(watch, TfidfVectorizer())
        SemanticSearch(embedder.fit(X.squeeze()) if is_fitted else embedder, n_neighbors=1).fit(X, [0, 1]).search(X)
        assert [(texts.index.tolist(), texts.name) for texts in seen[is_fitted:]] == [(["r", "s"], "title")] * 2


# Questions to an estimator whose fine-tuner was fitted again
AFTER_ANOTHER_FIT = {
    "search": (lambda e: SemanticSearch(e, n_neighbors=2).fit(TEXTS), lambda s: s.search("fox")),
    "more documents": (lambda e: SemanticSearch(e, n_neighbors=2).fit(TEXTS), lambda s: s.partial_fit(["fox"])),
    "topics": (lambda e: TopicModel(2, embedder=e).fit(TEXTS), lambda s: s.predict(["fox"])),
    "descriptions": (
        lambda e: SentenceEmbeddingClassifier({"a": "fox", "b": "dog"}, embedder=e).fit(),
        lambda s: s.predict(["fox"]),
    ),
    "classifier": (lambda e: SentenceEmbeddingClassifier(embedder=e).fit(TEXTS, LABELS), lambda s: s.predict(["fox"])),
}


class TestFineTunerThatIsFittedAgain:
    @staticmethod
    def fit(tuner, labels=LABELS) -> SentenceEmbeddingFineTuner:
        return tuner.fit(TEXTS * 2, labels * 2)

    @pytest.fixture
    def tuner(self, tiny) -> SentenceEmbeddingFineTuner:
        return self.fit(SentenceEmbeddingFineTuner(tiny, **FAST))

    @pytest.mark.slow
    @pytest.mark.parametrize("is_saved", [(False, False), (True, True), (False, True)], ids=str)
    @pytest.mark.parametrize(("make", "question"), AFTER_ANOTHER_FIT.values(), ids=AFTER_ANOTHER_FIT)
    def test_its_new_weights_are_refused(self, make, question, is_saved, tuner, tmp_path):
        if is_saved[0]:
            tuner.save(tmp_path / "first")
        estimator = make(tuner)
        self.fit(tuner, LABELS[::-1])
        if is_saved[1]:
            tuner.save(tmp_path / "second")
        with pytest.raises(
            ValueError, match=r"are of the model a tuned model .* of different models cannot be compared"
        ):
            question(estimator)
        question(make(tuner))

    @pytest.mark.slow
    @pytest.mark.parametrize(("make", "question"), AFTER_ANOTHER_FIT.values(), ids=AFTER_ANOTHER_FIT)
    def test_the_same_weights_are_taken_once_they_are_saved_and_after_the_same_training(
        self, make, question, tuner, tmp_path
    ):
        estimator = make(tuner)
        tuner.save(tmp_path / "tuned")
        question(estimator)
        question(pickle.loads(pickle.dumps(estimator)))
        self.fit(tuner)
        question(estimator)

    def test_one_that_the_search_itself_fitted_is_refused_too(self, tiny):
        search = SemanticSearch(SentenceEmbeddingFineTuner(tiny, **FAST), n_neighbors=2).fit(TEXTS * 2, LABELS * 2)
        search.search("fox")
        self.fit(search.embedder_, LABELS[::-1])
        with pytest.raises(ValueError, match="of different models"):
            search.search("fox")

    @pytest.mark.slow
    @pytest.mark.parametrize("is_saved", [False, True])
    def test_vectors_that_its_model_has_made_elsewhere_are_taken(self, is_saved, tuner, tmp_path):
        if is_saved:
            tuner.save(tmp_path / "tuned")
        models = [tuner.model_, str(tmp_path / "tuned")] if is_saved else [tuner.model_]
        for model in models:
            vectors = pd.Series(skembed.VectorArray(skembed.embed(TEXTS, model=model)))
            noted = pd.Series(TEXTS).text.embed(model=model, output="vector")
            for corpus in (vectors, noted):
                SemanticSearch(tuner, n_neighbors=2).fit(corpus).search("fox")


class TestSearch:
    def test_queries_change_nothing_in_the_embedder(self, tiny):
        search = SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=1).fit(skembed.embed(TEXTS, model=tiny))
        before = {**vars(search.embedder_)}
        search.search(["login"])
        assert vars(search.embedder_) == before

    def test_added_documents_bind_the_search_to_their_model(self, tiny):
        search = SemanticSearch(SentenceEmbeddingTransformer(tiny)).fit(skembed.embed(TEXTS, model=tiny))
        search.partial_fit(["login"])
        assert search.embedder_.model_fingerprint_ == SentenceEmbeddingTransformer(tiny).fit(TEXTS).model_fingerprint_

    def test_documents_that_are_refused_change_nothing_in_the_embedder(self, tiny):
        search = SemanticSearch(SentenceEmbeddingTransformer(tiny)).fit(np.eye(3))
        before = {**vars(search.embedder_)}
        with pytest.raises(ValueError, match="have 32 dimensions, those of the corpus 3"):
            search.partial_fit(["login"])
        assert vars(search.embedder_) == before

    def test_a_map_of_what_predicts_is_that_of_the_embedder_that_it_has(self):
        descriptions = {"fox": "a quick brown fox", "dog": "the lazy dog", "mail": "a wrong address and update"}
        classifier = SentenceEmbeddingClassifier(descriptions, embedder=TfidfVectorizer()).fit()
        made = EmbeddingMapDisplay.from_estimator(classifier, TEXTS, method="pca")
        vectors = classifier.embedder_.transform(TEXTS).toarray()
        expected = EmbeddingMapDisplay.from_embeddings(vectors, method="pca")
        assert_allclose(made.positions, expected.positions, atol=1e-6)

    @pytest.mark.parametrize("of", [SentenceEmbeddingClassifier, NearDuplicates, partial(TopicModel, 2)])
    def test_a_map_behind_other_steps_is_that_of_the_embedder_too(self, of):
        upper = FunctionTransformer(lambda texts: [text.lower() for text in texts])
        pipe = make_pipeline(upper, of(embedder=TfidfVectorizer())).fit(TEXTS, LABELS)
        shouted = [text.upper() for text in TEXTS]
        made = EmbeddingMapDisplay.from_estimator(pipe, shouted, labels=LABELS, method="pca")
        vectors = pipe[-1].embedder_.transform(TEXTS).toarray()
        assert_allclose(made.positions, EmbeddingMapDisplay.from_embeddings(vectors, method="pca").positions, atol=1e-6)
