"""Estimators from files of skops, and how estimators are told apart."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import skops.io
from sentence_transformers import SentenceTransformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from skembed import SemanticSearch, SentenceEmbeddingClassifier, SentenceEmbeddingTransformer, predict_parquet
from skembed.files.estimators import TRUSTED, identity_of, read_estimator
from tests.files.test_job import ROOT, _environment

TEXTS, KINDS = ["quick fox", "a parcel", "dog and fox", "late parcel"] * 3, ["animal", "post"] * 6
OFFLINE = {"trust_remote_code": False, "local_files_only": True}


@pytest.fixture
def pipeline(tiny):
    return make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression()).fit(TEXTS, KINDS)


@pytest.fixture
def file(tmp_path):
    """``file(estimator)``: the path of a file that holds it."""

    def write(estimator):
        skops.io.dump(estimator, tmp_path / "model.skops")
        return tmp_path / "model.skops"

    return write


def dangerous(X):
    return X


def in_an_array(value):
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


class TestFiles:
    def test_an_estimator_in_a_file_predicts_as_it_did(self, pipeline, file, tmp_path):
        pd.DataFrame({"text": TEXTS}).to_parquet(tmp_path / "a.parquet")
        predict_parquet(file(pipeline), tmp_path / "a.parquet", tmp_path / "out", "text")
        assert pd.read_parquet(tmp_path / "out")["prediction"].tolist() == pipeline.predict(TEXTS).tolist()

    def test_types_that_are_not_trusted_are_refused_by_name(self, pipeline, file):
        pipeline.steps.insert(0, ("shout", FunctionTransformer(dangerous)))
        with pytest.raises(ValueError, match=r"not trusted: tests\.files\.test_estimators\.dangerous\. If you know"):
            read_estimator(file(pipeline), **OFFLINE)

    def test_types_that_are_named_are_trusted(self, pipeline, file):
        pipeline.steps.insert(0, ("shout", FunctionTransformer(dangerous)))
        trusted = ["tests.files.test_estimators.dangerous"]
        estimator, _ = read_estimator(file(pipeline), trusted=trusted, **OFFLINE)
        assert estimator.predict(TEXTS).tolist() == pipeline.predict(TEXTS).tolist()

    def test_other_classes_of_skembed_are_not_trusted_by_their_package(self):
        assert all(name.count(".") >= 2 for name in TRUSTED)
        assert "skembed.encoding.cache.embedding_cache.EmbeddingCache" not in TRUSTED

    def test_a_model_with_code_of_its_own_is_refused_unless_it_is_allowed(self, pipeline, file):
        path = file(pipeline.set_params(sentenceembeddingtransformer__trust_remote_code=True))
        with pytest.raises(ValueError, match="runs Python code of its own; trust_remote_code=True allows it"):
            read_estimator(path, **OFFLINE)
        assert read_estimator(path, trust_remote_code=True, local_files_only=True)

    @pytest.mark.parametrize("hide", [lambda one: [one], lambda one: {"a": (one,)}, lambda one: {one}, in_an_array])
    def test_it_is_refused_wherever_it_is(self, hide, pipeline, file):
        pipeline.set_params(sentenceembeddingtransformer__trust_remote_code=True)
        pipeline.extra, pipeline.steps = hide(pipeline[0]), pipeline.steps[1:]
        with pytest.raises(ValueError, match="runs Python code of its own"):
            read_estimator(file(pipeline), **OFFLINE)

    def test_a_frozen_embedder_is_read(self, pipeline, file):
        frozen = make_pipeline(FrozenEstimator(pipeline[0]), LogisticRegression()).fit(TEXTS, KINDS)
        estimator, _ = read_estimator(file(frozen), **OFFLINE)
        assert estimator.predict(TEXTS).tolist() == frozen.predict(TEXTS).tolist()

    def test_one_name_may_be_given_alone_and_is_no_pattern(self, pipeline, file):
        pipeline.steps.insert(0, ("shout", FunctionTransformer(dangerous)))
        assert read_estimator(file(pipeline), trusted="tests.files.test_estimators.dangerous", **OFFLINE)
        with pytest.raises(ValueError, match="not trusted"):
            read_estimator(file(pipeline), trusted="x tests.files.test_estimators.dangerous x", **OFFLINE)

    @pytest.mark.parametrize("local_files_only", [True, False])
    def test_the_caller_decides_whether_the_hub_may_be_asked(self, local_files_only, pipeline, file):
        path = file(pipeline.set_params(sentenceembeddingtransformer__local_files_only=not local_files_only))
        estimator, _ = read_estimator(path, trust_remote_code=False, local_files_only=local_files_only)
        assert estimator[0].local_files_only is local_files_only

    def test_a_folder_for_the_cache_in_the_file_is_not_used(self, pipeline, file, tmp_path):
        path = file(pipeline.set_params(sentenceembeddingtransformer__cache=str(tmp_path / "cache")))
        estimator, _ = read_estimator(path, **OFFLINE)
        estimator.predict(["another fox"])
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("content", [b"", b"PK", b"pickle"])
    def test_what_is_no_file_of_skops_is_refused(self, content, tmp_path):
        (tmp_path / "model.skops").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.skops is not a file that skops\.io\.dump has written"):
            read_estimator(tmp_path / "model.skops", **OFFLINE)

    def test_a_missing_file_is_said(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"There is no file .*model\.skops"):
            read_estimator(tmp_path / "model.skops", **OFFLINE)


class TestIdentity:
    def test_a_copy_has_the_same(self, pipeline):
        assert identity_of(pickle.loads(pickle.dumps(pipeline))) == identity_of(pipeline)

    @pytest.mark.parametrize("name", ["logisticregression__verbose", "sentenceembeddingtransformer__cache"])
    def test_parameters_without_effect_do_not_count(self, name, pipeline):
        before = identity_of(pipeline)
        assert identity_of(pipeline.set_params(**{name: None})) == before

    def test_parameters_of_estimators_inside_do_not_count_either(self):
        forest = RandomForestClassifier(2, random_state=0, n_jobs=1).fit([[0], [1]], [0, 1])
        before = identity_of(forest)
        assert identity_of(forest.set_params(n_jobs=2)) == before

    @pytest.mark.parametrize("name", ["logisticregression__C", "sentenceembeddingtransformer__max_seq_length"])
    def test_other_parameters_count(self, name, pipeline):
        before = identity_of(pipeline)
        assert identity_of(pipeline.set_params(**{name: 9})) != before

    def test_what_was_learned_counts(self, pipeline):
        before = identity_of(pipeline)
        assert identity_of(pipeline.fit(TEXTS, KINDS[::-1])) != before

    def test_what_is_in_a_bunch_counts(self, pipeline):
        pipeline.extra = Bunch(number=1)
        before = identity_of(pipeline)
        pipeline.extra = Bunch(number=2)
        assert identity_of(pipeline) != before

    def test_a_search_over_parameters_has_one(self, pipeline):
        search = GridSearchCV(pipeline, {"logisticregression__C": [1, 2]}, cv=2).fit(TEXTS, KINDS)
        assert identity_of(search) == identity_of(pickle.loads(pickle.dumps(search)))

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda embedder: SentenceEmbeddingClassifier(embedder=embedder),
            lambda embedder: CalibratedClassifierCV(make_pipeline(embedder, LogisticRegression()), cv=2),
        ],
    )
    def test_that_of_a_loaded_model_stays(self, wrap, tiny):
        model = SentenceTransformer(tiny, device="cpu")
        fitted = wrap(SentenceEmbeddingTransformer(model)).fit(TEXTS, KINDS)
        before = identity_of(fitted)
        fitted.predict(TEXTS)
        assert identity_of(fitted) == before

    def test_reading_the_corpus_of_a_search_changes_nothing(self, tiny):
        search = SemanticSearch(SentenceEmbeddingTransformer(tiny)).fit(TEXTS)
        before = identity_of(search)
        assert len(search.corpus_) == len(TEXTS)
        assert identity_of(search) == before

    @pytest.mark.slow
    def test_it_is_the_same_in_another_process(self, pipeline, tmp_path):
        (tmp_path / "pipeline.pickle").write_bytes(pickle.dumps(pipeline))
        code = (
            "import pickle, sys; from skembed.files.estimators import identity_of; "
            "print(identity_of(pickle.load(open(sys.argv[1], 'rb'))))"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "pipeline.pickle")]
        done = subprocess.run(command, env=_environment(), cwd=ROOT, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == identity_of(pipeline)
