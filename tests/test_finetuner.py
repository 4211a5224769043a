"""SentenceEmbeddingFineTuner: a scikit-learn transformer that learns, and whose model can be kept."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer import losses
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks

import skembed
from skembed import (
    EmbeddingCache,
    ModelChangedError,
    ModelNotFoundError,
    SentenceEmbeddingFineTuner,
    SentenceEmbeddingTransformer,
    atomic,
    finetuner,
)
from skembed.encoding.models.fingerprint import FolderState
from skembed.training import trainer
from skembed.training.saving import write_tuner
from tests.interrupts import at_each_line
from tests.training.conftest import corpus, training_data  # noqa: F401 - fixtures
from tests.training.fast import FAST


@pytest.fixture
def tuner(tiny):
    return SentenceEmbeddingFineTuner(tiny, **FAST)


@pytest.fixture(scope="module")
def labelled(corpus):  # noqa: F811
    """Texts whose class depends on one word."""
    texts = [f"{text} {'fox' if row % 2 else 'dog'}" for row, text in enumerate(corpus)]
    return texts, np.array(["dog", "fox"] * (len(texts) // 2))


@pytest.fixture(scope="module")
def fitted(model_folder, labelled):
    return SentenceEmbeddingFineTuner(model_folder("bert"), **FAST).fit(*labelled)


class Walked(Sequence):
    """A column of texts that counts its iterations."""

    def __init__(self, texts):
        self.texts, self.n_walks = texts, 0

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, row):
        return self.texts[row]

    def __iter__(self):
        self.n_walks += 1
        return iter(self.texts)


class TestLearning:
    def test_texts_of_a_class_come_together(self, labelled, tiny):
        texts, labels = labelled
        tuner = SentenceEmbeddingFineTuner(tiny, epochs=6, **FAST).fit(texts[:32], labels[:32])
        gaps = []
        for vectors in (skembed.embed(texts[32:], model=tiny), tuner.transform(texts[32:])):
            cosines, same = vectors @ vectors.T, labels[32:, None] == labels[None, 32:]
            gaps.append(cosines[same].mean() - cosines[~same].mean())
        assert gaps[1] > gaps[0] + 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("kind", "loss", "name"),
        [
            ("classes", "auto", "cosine_similarity"),
            ("classes", "contrastive", "contrastive"),
            ("classes", "cosent", "cosent"),
            ("classes", "online_contrastive", "online_contrastive"),
            ("classes", "batch_all_triplet", "batch_all_triplet"),
            ("classes", "batch_hard_triplet", "batch_hard_triplet"),
            ("classes", "batch_semi_hard_triplet", "batch_semi_hard_triplet"),
            ("classes", "batch_hard_soft_margin_triplet", "batch_hard_soft_margin_triplet"),
            ("label_sets", "auto", "cosine_similarity"),
            ("label_sets", "cosent", "cosent"),
            ("scores", "auto", "cosent"),
            ("binary", "auto", "contrastive"),
            ("binary", "online_contrastive", "online_contrastive"),
            ("binary", "cosine_similarity", "cosine_similarity"),
            ("pair_classes", "auto", "softmax"),
            ("positives", "auto", "multiple_negatives_ranking"),
            ("positives", "cached_multiple_negatives_ranking", "cached_multiple_negatives_ranking"),
            ("triplets", "auto", "multiple_negatives_ranking"),
            ("triplets", "triplet", "triplet"),
            ("texts", "auto", "multiple_negatives_ranking"),
            ("scores", losses.AnglELoss, "AnglELoss"),
            ("pair_classes", losses.SoftmaxLoss, "softmax"),
            ("binary", partial(losses.ContrastiveLoss, margin=0.2), "contrastive"),
        ],
    )
    def test_every_loss_trains_on_its_data(self, kind, loss, name, training_data, tiny):  # noqa: F811
        tuner = SentenceEmbeddingFineTuner(tiny, loss=loss, **FAST).fit(*training_data[kind])
        texts = training_data["texts"][0]
        assert tuner.loss_ == name
        assert np.abs(tuner.transform(texts) - skembed.embed(texts, model=tiny)).max() > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["binary", "scores", "positives", "triplets"])
    def test_pairs_move_as_their_labels_ask(self, kind, corpus, tiny):  # noqa: F811
        texts = corpus[:24]
        others = texts[1:] + texts[:1]
        near = np.arange(24) % 2 == 0
        X, y = {
            "binary": (list(zip(texts, others, strict=True)), near.astype(int)),
            "scores": (list(zip(texts, others, strict=True)), near.astype(float)),
            "positives": (list(zip(texts[::2], others[::2], strict=True)), None),
            "triplets": (list(zip(texts[::2], others[::2], others[1::2], strict=True)), None),
        }[kind]
        tuner = SentenceEmbeddingFineTuner(tiny, epochs=20, **FAST).fit(X, y)
        agreement = []
        for embed in (partial(skembed.embed, model=tiny), tuner.transform):
            cosines = (embed(texts) * embed(others)).sum(axis=1)
            agreement.append(np.corrcoef(cosines, near)[0, 1])
        assert agreement[1] > agreement[0] + 0.2

    @pytest.mark.slow
    def test_texts_come_together_as_far_as_they_share_labels(self, corpus, tiny):  # noqa: F811
        words = [("fox" if row % 2 else "dog", "app" if row % 3 else "week") for row in range(48)]
        texts = [f"{text} {one} {other}" for text, (one, other) in zip(corpus, words, strict=True)]
        vectors = SentenceEmbeddingFineTuner(tiny, epochs=6, **FAST).fit(texts[:36], words[:36]).transform(texts)
        cosines = vectors[36:] @ vectors[:36].T
        n_shared = np.array([[len({*one} & {*other}) for other in words[:36]] for one in words[36:]])
        means = [cosines[n_shared == n].mean() for n in (0, 1, 2)]
        assert means[0] + 0.05 < means[1] < means[2] - 0.05

    @pytest.mark.slow
    @pytest.mark.parametrize("several", [False, True])
    def test_descriptions_of_a_classifier_join_the_training(self, several, labelled, tuner, monkeypatch):
        texts, labels = labelled
        given = [[label, f"group {row % 3}"] for row, label in enumerate(labels.tolist())] if several else labels
        trained, original = [], trainer.train
        monkeypatch.setattr(trainer, "train", lambda run, key: trained.append(run.data) or original(run, key))
        descriptions = {"dog": "a lazy dog", "bird": ["a bird", "an eagle"]}
        classifier = skembed.SentenceEmbeddingClassifier(descriptions, embedder=tuner).fit(texts, given)
        data, classes = trained[0], classifier.classes_.tolist()
        assert data.columns[0] == [*texts, "a lazy dog", "a bird", "an eagle"]
        if several:
            assert [classes[row.argmax()] for row in data.labels[-3:]] == ["dog", "bird", "bird"]
            assert data.labels[-3:].sum() == 3
        else:
            assert data.classes[data.labels[-3:]].tolist() == ["dog", "bird", "bird"]
        assert len(classifier.predict(texts)) == len(texts)

    @pytest.mark.slow
    @pytest.mark.parametrize("counts", [(1, 1, 46), (2,) * 24, (1,) * 20 + (14, 14)])
    def test_classes_of_one_or_two_texts_are_learned_too(self, counts, corpus, tiny):  # noqa: F811
        labels = np.repeat(np.arange(len(counts)), counts)
        parameters = {**FAST, "early_stopping": True, "validation_fraction": 0.2}
        tuner = SentenceEmbeddingFineTuner(tiny, **parameters).fit(corpus, labels)
        assert np.isfinite(tuner.history_["validation_score"].dropna()).all()

    def test_a_loss_object_is_used_but_not_changed(self, training_data, tiny, reference):  # noqa: F811
        X, y = training_data["binary"]
        given = losses.ContrastiveLoss(SentenceTransformer(tiny, device="cpu"), margin=0.2)
        by_object = SentenceEmbeddingFineTuner(tiny, loss=given, **FAST).fit(X, y)
        by_class = SentenceEmbeddingFineTuner(tiny, loss=partial(losses.ContrastiveLoss, margin=0.2), **FAST).fit(X, y)
        texts = training_data["texts"][0]
        assert_array_equal(by_object.transform(texts), by_class.transform(texts))
        assert_array_equal(given.model.encode(texts), reference("bert").encode(texts))

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_vectors_and_another_gives_others(self, fitted, labelled, tiny):
        texts, labels = labelled
        assert_allclose(clone(fitted).fit(texts, labels).transform(texts), fitted.transform(texts), atol=1e-6)
        other = clone(fitted).set_params(random_state=1).fit(texts, labels)
        assert np.abs(other.transform(texts) - fitted.transform(texts)).max() > 1e-3

    def test_the_history_holds_the_loss_by_step(self, fitted):
        history = fitted.history_
        assert list(history) == ["step", "epoch", "loss", "validation_score", "seconds"]
        assert history["step"].iloc[-1] == 24  # 48 texts, 4 pairs each, 8 in a batch
        assert history["epoch"].iloc[-1] == fitted.n_iter_ == 1
        assert history["loss"].tail(5).mean() < history["loss"].head(5).mean()

    def test_low_rank_adapters_leave_a_plain_model(self, labelled, tiny, tmp_path):
        texts, labels = labelled
        tuner = SentenceEmbeddingFineTuner(tiny, lora_rank=2, **FAST).fit(texts, labels)
        vectors = tuner.transform(texts)
        tuner.save(tmp_path / "tuned")
        assert np.abs(vectors - skembed.embed(texts, model=tiny)).max() > 1e-4
        assert not (tmp_path / "tuned" / "adapter_config.json").exists()
        assert_allclose(SentenceTransformer(str(tmp_path / "tuned"), device="cpu").encode(texts), vectors, atol=1e-5)

    def test_vectors_are_trained_for_the_dimensions_they_will_be_cut_to(self, training_data, tiny):  # noqa: F811
        X, y = training_data["scores"]
        plain = SentenceEmbeddingFineTuner(tiny, truncate_dim=8, **FAST).fit(X, y)
        nested = SentenceEmbeddingFineTuner(tiny, truncate_dim=8, matryoshka_dims=[8], **FAST).fit(X, y)
        assert nested.embedding_dim_ == 8
        assert nested.history_["loss"].iloc[0] > 1.5 * plain.history_["loss"].iloc[0]  # a loss for each dimension

    @pytest.mark.slow
    @pytest.mark.parametrize("fit", ["fit", "pipeline"])
    @pytest.mark.parametrize(
        ("pairs", "said"),
        [
            ([("a fox", "a dog")] * 12, "All 12 pairs hold the text 'a (fox|dog)'.*the model learns nothing"),
            ([(f"fox {row}", "a dog") for row in range(12)], "All 12 pairs hold the text 'a dog'"),
            ([(f"fox {row}", f"dog {max(row, 8)}") for row in range(12)], "6 of them are alone"),
        ],
    )
    def test_a_warning_about_pairs_that_teach_nothing_points_to_the_users_line(self, fit, pairs, said, tuner):
        estimator = tuner if fit == "fit" else make_pipeline(tuner)
        with pytest.warns(UserWarning, match=said) as caught:
            estimator.fit(pairs)
        assert [warning.filename for warning in caught] == [__file__]

    def test_a_loss_that_is_always_zero_is_a_warning(self, training_data, tiny):  # noqa: F811
        loss = partial(losses.TripletLoss, triplet_margin=-100)  # which every triplet meets
        with pytest.warns(UserWarning, match="The loss was 0 from the first step to the last") as caught:
            SentenceEmbeddingFineTuner(tiny, loss=loss, **FAST).fit(*training_data["triplets"])
        assert [warning.filename for warning in caught] == [__file__]

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["static", "dense", "gpt2"])
    def test_other_kinds_of_models_are_tuned_too(self, kind, labelled, model_folder):
        texts, labels = labelled
        folder = model_folder(kind)
        tuner = SentenceEmbeddingFineTuner(folder, **FAST).fit(texts, labels)
        assert np.abs(tuner.transform(texts) - skembed.embed(texts, model=folder)).max() > 1e-3


class TestModel:
    def test_vectors_are_those_of_the_tuned_model(self, fitted, labelled):
        assert_allclose(fitted.transform(labelled[0]), fitted.model_.encode(labelled[0]), atol=1e-5)

    def test_a_given_model_is_not_changed(self, labelled, tiny, reference):
        live = SentenceTransformer(tiny, device="cpu")
        SentenceEmbeddingFineTuner(live, **FAST).fit(*labelled)
        assert_array_equal(live.encode(labelled[0]), reference("bert").encode(labelled[0]))

    def test_a_named_model_is_not_changed_for_others(self, labelled, tiny, tuner, reference):
        tuner.fit(*labelled)
        assert_allclose(skembed.embed(labelled[0], model=tiny), reference("bert").encode(labelled[0]), atol=1e-5)

    def test_vectors_of_two_models_are_kept_apart_in_the_cache(self, labelled, tiny, tuner):
        before = skembed.embed(labelled[0], model=tiny)
        tuner.set_params(cache="memory").fit(*labelled)
        assert np.abs(tuner.transform(labelled[0]) - before).max() > 1e-3
        assert_array_equal(skembed.embed(labelled[0], model=tiny), before)

    def test_texts_are_encoded_once(self, labelled, tuner, counted):
        tuner.set_params(cache="memory").fit(*labelled)
        first, second = tuner.transform(labelled[0] * 2), tuner.transform(labelled[0])
        assert_array_equal(first[: len(second)], second)
        assert len(counted) == len(set(labelled[0]))

    def test_a_model_that_is_changed_afterwards_is_noticed(self, labelled, tuner):
        texts = labelled[0]
        before = tuner.fit(*labelled).transform(texts)
        tuner.model_.transformers_model.embeddings.word_embeddings.weight.data.mul_(2)
        assert np.abs(tuner.transform(texts) - before).max() > 1e-3

    @pytest.mark.slow
    def test_models_of_earlier_fits_are_freed(self, labelled, tuner):
        import gc
        import weakref

        first = weakref.ref(tuner.fit(*labelled).model_)
        tuner.transform(labelled[0])
        tuner.fit(*labelled)
        gc.collect()
        assert first() is None

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "parameters",
        [{"pooling": "cls"}, {"pooling": ("mean", "max")}, {"prompt": "a dog: "}, {"max_seq_length": 6}],
        ids=lambda parameters: next(iter(parameters)),
    )
    @pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
    def test_what_shapes_vectors_is_trained_and_saved_with_the_model(self, parameters, labelled, tuner, tmp_path):
        vectors = tuner.set_params(**parameters).fit(*labelled).transform(labelled[0])
        tuner.save(tmp_path / "tuned")
        assert_allclose(
            SentenceTransformer(str(tmp_path / "tuned"), device="cpu").encode(labelled[0]), vectors, atol=1e-5
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("parameters", [{"prompt": "a dog: "}, {"max_seq_length": 5}])
    def test_the_training_reads_texts_as_they_are_embedded(self, parameters, labelled, tuner):
        plain = clone(tuner).fit(*labelled).model_
        changed = clone(tuner).set_params(**parameters).fit(*labelled).model_
        for name, weights in plain.named_parameters():
            if name.endswith("query.weight"):
                assert not torch.equal(weights, changed.get_parameter(name))

    @pytest.mark.parametrize(("kind", "dims"), [("pair_classes", None), ("scores", [16])])
    def test_a_model_that_cuts_vectors_is_trained_in_all_dimensions(self, kind, dims, training_data, tiny):  # noqa: F811
        live = SentenceTransformer(tiny, device="cpu", truncate_dim=8)
        tuner = SentenceEmbeddingFineTuner(live, matryoshka_dims=dims, **FAST).fit(*training_data[kind])
        assert tuner.transform(["a fox"]).shape == (1, 8)

    @pytest.mark.slow
    @pytest.mark.parametrize("task", ["query", "document"])
    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_a_task_is_trained_with_its_prompt_and_route(self, task, early_stopping, labelled, model_folder, reference):
        tuner = SentenceEmbeddingFineTuner(model_folder("router"), task=task, early_stopping=early_stopping, **FAST)
        texts = labelled[0][:6]
        vectors, model, before = tuner.fit(*labelled).transform(texts), tuner.model_, reference("router")
        trained, other = (model.encode_query, model.encode_document)[:: 1 if task == "query" else -1]
        untouched = {"query": before.encode_document, "document": before.encode_query}[task]
        assert_allclose(vectors, model.encode(texts), atol=1e-5)
        assert_allclose(vectors, trained(texts), atol=1e-5)
        assert_allclose(other(texts), untouched(texts), atol=1e-5)
        assert np.abs(vectors - skembed.embed(texts, model=model_folder("router"), task=task)).max() > 1e-4

    def test_a_task_is_trained_with_its_limit_of_tokens(self, labelled, model_folder):
        tuner = SentenceEmbeddingFineTuner(model_folder("lengths"), task="query", **FAST).fit(*labelled)
        with pytest.warns(skembed.TruncationWarning, match="more than 6 tokens"):
            tuner.transform(["fox " * 20])

    def test_of_several_poolings_each_is_cut(self, labelled, tiny):
        params = {"pooling": ("cls", "mean"), "normalize_embeddings": False}
        whole = SentenceEmbeddingFineTuner(tiny, **params, **FAST).fit(*labelled).transform(["fox"])
        cut = SentenceEmbeddingFineTuner(tiny, truncate_dim=4, **params, **FAST).fit(*labelled).transform(["fox"])
        assert_allclose(cut, np.hstack([whole[:, :4], whole[:, 32:36]]), atol=1e-6)

    def test_vectors_are_finished_as_asked(self, labelled, tuner):
        tuner.set_params(normalize_embeddings=False, truncate_dim=5).fit(*labelled)
        lengths = np.linalg.norm(tuner.transform(labelled[0]), axis=1)
        assert tuner.embedding_dim_ == 5
        assert np.abs(lengths - 1).max() > 1e-3


@pytest.mark.slow
class TestKeeping:
    def test_a_saved_model_is_one_of_sentence_transformers(self, labelled, tuner, tmp_path):
        texts = labelled[0]
        vectors = tuner.fit(*labelled).transform(texts)
        tuner.save(tmp_path / "new" / "tuned")
        folder = str(tmp_path / "new" / "tuned")
        assert (tmp_path / "new" / "tuned" / "model.safetensors").exists()
        assert_allclose(SentenceTransformer(folder, device="cpu").encode(texts), vectors, atol=1e-5)
        assert_allclose(SentenceEmbeddingTransformer(folder).transform(texts), vectors, atol=1e-6)
        assert_allclose(tuner.transform(texts), vectors, atol=1e-6)

    def test_a_pickle_holds_the_weights_or_after_save_the_path(self, labelled, tuner, tmp_path):
        vectors = tuner.fit(*labelled).transform(labelled[0])
        with_weights = pickle.dumps(tuner)
        tuner.save(tmp_path / "tuned")
        with_path = pickle.dumps(tuner)
        assert len(with_path) < 20_000 < len(with_weights)
        for pickled in (with_weights, with_path):
            assert_allclose(pickle.loads(pickled).transform(labelled[0]), vectors, atol=1e-6)
        assert_allclose(pickle.loads(with_path).model_.encode(labelled[0]), vectors, atol=1e-5)

    def test_a_model_whose_hidden_layers_were_read_is_pickled_too(self, labelled, tiny, tuner):
        skembed.embed(labelled[0], model=tiny, layers=1, cache=None)
        tuner.fit(*labelled)
        vectors = tuner.transform(labelled[0])
        layer = skembed.embed(labelled[0], model=tuner.model_, layers=1, cache=None)
        copied = pickle.loads(pickle.dumps(tuner))
        assert_allclose(copied.transform(labelled[0]), vectors, atol=1e-6)
        assert_allclose(skembed.embed(labelled[0], model=copied.model_, layers=1, cache=None), layer, atol=1e-6)

    @pytest.mark.parametrize("is_saved", [False, True])
    def test_a_fresh_process_gives_the_same_vectors(self, is_saved, labelled, tuner, tmp_path):
        vectors = tuner.fit(*labelled).transform(labelled[0][:4])
        if is_saved:
            tuner.save(tmp_path / "tuned")
        (tmp_path / "tuner.pickle").write_bytes(pickle.dumps((tuner, labelled[0][:4])))
        script = "import pickle, sys; t, x = pickle.load(open(sys.argv[1], 'rb')); print(t.transform(x).tolist())"
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "tuner.pickle")], capture_output=True, text=True, check=True
        )
        assert_allclose(np.array(eval(done.stdout)), vectors, atol=1e-6)

    @pytest.mark.parametrize("copied", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy], ids=["pickle", "copy"])
    def test_a_copy_uses_the_device_of_its_settings(self, copied, labelled, tuner, monkeypatch):
        tuner.fit(*labelled)
        monkeypatch.setattr(
            "skembed.encoding.models.devices._resolve_device",
            lambda device, live: str(live.device) if live is not None else "cuda:0" if device == "auto" else device,
        )
        devices = []
        monkeypatch.setattr("skembed.finetuner.load_private", lambda model, settings: devices.append(settings.device))
        for device in ("auto", "cpu"):
            other = copied(tuner.set_params(device=device))
            assert other.model_.device.type == "cpu"
            other._load_tuned(other._settings())
        assert devices == [["cuda:0"], ["cpu"]]

    def test_a_folder_with_another_model_is_refused(self, labelled, tuner, tmp_path, model_folder):
        tuner.fit(*labelled).save(tmp_path / "tuned")
        SentenceTransformer(model_folder("roberta")).save_pretrained(str(tmp_path / "tuned"))
        with pytest.raises(ModelChangedError, match="does not hold the model that was saved there"):
            tuner.transform(labelled[0])

    def test_a_failed_save_leaves_the_previous_model(self, labelled, tuner, tmp_path, tiny, monkeypatch):
        SentenceTransformer(tiny).save_pretrained(str(tmp_path / "tuned"))
        before = sorted(path.name for path in (tmp_path / "tuned").iterdir())
        tuner.fit(*labelled)
        rename = Path.rename

        def fail(self, target):
            if self.name.startswith(".unfinished-") and not self.name.endswith("-old"):
                raise OSError("no")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="no"):
            tuner.save(tmp_path / "tuned")
        assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == before
        assert [path.name for path in tmp_path.iterdir()] == ["tuned"]

    @pytest.mark.slow
    @pytest.mark.parametrize("one_in", [4, pytest.param(1, marks=pytest.mark.exhaustive)])
    def test_an_interrupt_at_any_line_of_saving_leaves_a_model_in_the_folder_and_in_memory(
        self, one_in, fitted, labelled, tiny, tmp_path
    ):
        texts, right, n_struck = labelled[0], fitted.transform(labelled[0]), 0
        before = skembed.embed(texts, model=tiny)
        first = pickle.loads(pickle.dumps(fitted))
        strikes = at_each_line([finetuner, atomic], lambda: first.save(tmp_path / "first"), visits=1)
        for number, strike in enumerate(islice(strikes, 0, None, one_in)):
            tuner, folder = pickle.loads(pickle.dumps(fitted)), tmp_path / str(number) / "tuned"
            SentenceTransformer(tiny).save_pretrained(str(folder))
            n_struck += strike(lambda tuner=tuner, folder=folder: tuner.save(folder))
            assert_allclose(tuner.transform(texts), right, atol=1e-6)
            there = SentenceTransformer(str(folder)).encode(texts)
            assert any(np.allclose(there, vectors, atol=1e-5) for vectors in (before, right))
            tuner.save(folder)
            assert_allclose(SentenceEmbeddingTransformer(str(folder)).fit_transform(texts), right, atol=1e-5)
            assert [path.name for path in folder.parent.iterdir()] == ["tuned"]
        assert n_struck > 20 / one_in

    def test_a_missing_folder_is_named(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).save(tmp_path / "tuned")
        (tmp_path / "tuned").rename(tmp_path / "elsewhere")
        with pytest.raises(ModelNotFoundError, match="tuned"):
            tuner.transform(labelled[0])

    def test_another_fit_is_another_model(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).save(tmp_path / "tuned")
        saved = tuner.transform(labelled[0])
        tuner.set_params(random_state=5).fit(*labelled)
        assert np.abs(tuner.transform(labelled[0]) - saved).max() > 1e-3

    def test_saving_replaces_a_model_and_nothing_else(self, fitted, labelled, tiny, tmp_path):
        tuner = pickle.loads(pickle.dumps(fitted))
        SentenceTransformer(tiny).save_pretrained(str(tmp_path / "tuned"))
        tuner.save(tmp_path / "tuned")
        assert_allclose(tuner.transform(labelled[0]), fitted.transform(labelled[0]), atol=1e-6)
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "note.txt").write_text("mine")
        with pytest.raises(FileExistsError, match="holds something that is not a model"):
            tuner.save(tmp_path / "notes")
        assert [path.name for path in (tmp_path / "notes").iterdir()] == ["note.txt"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "tuned"]

    def test_saving_twice_to_one_folder_changes_nothing(self, labelled, tuner, tmp_path):
        vectors = tuner.fit(*labelled).transform(labelled[0])
        tuner.save(tmp_path / "tuned")
        tuner.save(tmp_path / "tuned")
        assert_allclose(tuner.transform(labelled[0]), vectors, atol=1e-6)

    @pytest.mark.parametrize("make_cache", [lambda folder: folder, EmbeddingCache], ids=["folder", "EmbeddingCache"])
    def test_a_cache_on_disk_requires_a_saved_model(self, make_cache, labelled, tuner, tmp_path):
        vectors = clone(tuner).fit(*labelled).transform(labelled[0])
        (tmp_path / "cache").mkdir()
        cache = make_cache(tmp_path / "cache")
        tuner.set_params(cache=cache)
        with pytest.raises(ValueError, match=r"is on disk.*Call save\(path\) after fit"):  # before the training
            tuner.fit_transform(*labelled)
        assert not hasattr(tuner, "n_iter_")
        tuner.fit(*labelled)
        assert len(tuner.get_feature_names_out()) == tuner.embedding_dim_
        with pytest.raises(ValueError, match=r"is on disk.*Call save\(path\) after fit"):
            tuner.transform(labelled[0])
        tuner.save(tmp_path / "tuned")
        assert_allclose(tuner.transform(labelled[0]), vectors, atol=1e-6)


@pytest.mark.slow
class TestLoading:
    def test_a_loaded_tuner_transforms_as_before_and_has_its_parameters_and_history(self, labelled, tuner, tmp_path):
        parameters = {"pooling": ("mean", "max"), "matryoshka_dims": [16], "truncate_dim": 20, "prompt": "a dog: "}
        tuner.set_params(**parameters, early_stopping=True, validation_fraction=0.3).fit(*labelled)
        vectors = tuner.transform(labelled[0])
        tuner.save(tmp_path / "tuned")
        loaded = SentenceEmbeddingFineTuner.load(tmp_path / "tuned")
        assert_allclose(loaded.transform(labelled[0]), vectors, atol=1e-6)
        assert loaded.get_params() == tuner.get_params()
        assert (type(loaded.pooling), type(loaded.matryoshka_dims)) == (tuple, list)
        pd.testing.assert_frame_equal(loaded.history_, tuner.history_)
        for name in ("loss_", "n_iter_", "embedding_dim_", "model_fingerprint_"):
            assert getattr(loaded, name) == getattr(tuner, name)
        assert loaded.get_feature_names_out().tolist() == tuner.get_feature_names_out().tolist()

    def test_a_loaded_tuner_can_be_fitted_again_to_the_same_model(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).save(tmp_path / "tuned")
        loaded = SentenceEmbeddingFineTuner.load(str(tmp_path / "tuned"))
        assert_allclose(clone(loaded).fit(*labelled).transform(["a fox"]), loaded.transform(["a fox"]), atol=1e-6)

    def test_a_loaded_tuner_is_the_embedder_that_was_saved(self, labelled, tuner, tmp_path):
        search = skembed.SemanticSearch(tuner.fit(*labelled)).fit(labelled[0])
        tuner.save(tmp_path / "tuned")
        loaded = SentenceEmbeddingFineTuner.load(tmp_path / "tuned")
        assert loaded._model_note() == tuner._model_note() == search.embedder_._model_note()

    def test_objects_are_replaced_and_a_warning_names_them(self, labelled, tiny, tmp_path):
        given = {"loss": losses.CosineSimilarityLoss, "random_state": np.random.RandomState(0)}
        live = SentenceTransformer(tiny, device="cpu")
        tuner = SentenceEmbeddingFineTuner(live, **{**FAST, **given}).fit(*labelled)
        tuner.save(tmp_path / "tuned")
        with pytest.warns(UserWarning, match=r"In their place .* has loss=.*, model=.*, random_state=None") as caught:
            loaded = SentenceEmbeddingFineTuner.load(tmp_path / "tuned")
        assert [warning.filename for warning in caught] == [__file__]
        assert (loaded.model, loaded.loss, loaded.random_state) == (
            str(tmp_path / "tuned"), "cosine_similarity", None,
        )  # fmt: skip
        assert_allclose(loaded.transform(["a fox"]), tuner.transform(["a fox"]), atol=1e-6)

    @pytest.mark.parametrize("make_cache", [str, EmbeddingCache], ids=["folder", "EmbeddingCache"])
    def test_a_file_chooses_no_folder_for_a_cache(self, make_cache, labelled, tuner, tmp_path):
        tuner.fit(*labelled).set_params(cache=make_cache(tmp_path / "cache")).save(tmp_path / "tuned")
        assert SentenceEmbeddingFineTuner.load(tmp_path / "tuned").cache == "memory"

    def test_a_file_chooses_no_folder_for_checkpoints(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).set_params(checkpoint_dir=tmp_path / "checkpoints").save(tmp_path / "tuned")
        with pytest.warns(UserWarning, match="In their place the loaded fine-tuner has checkpoint_dir=None"):
            assert SentenceEmbeddingFineTuner.load(tmp_path / "tuned").checkpoint_dir is None

    def test_code_in_the_folder_is_named_unless_it_is_trusted(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).set_params(trust_remote_code=True).save(tmp_path / "tuned")
        config = tmp_path / "tuned" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "own.Model"}}))
        (tmp_path / "tuned" / "own.py").write_text("raise ImportError")
        fingerprint = FolderState(tmp_path / "tuned", trust_remote_code=True).fingerprint
        write_tuner(tmp_path / "tuned", tuner, fingerprint)  # which does not count
        assert FolderState(tmp_path / "tuned", trust_remote_code=True).fingerprint == fingerprint
        with pytest.raises(ValueError, match=r"has code of its own\. To run it, pass trust_remote_code=True"):
            SentenceEmbeddingFineTuner.load(tmp_path / "tuned")

    def test_a_file_does_not_decide_whether_code_runs(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).set_params(trust_remote_code=True).save(tmp_path / "tuned")
        assert "trust_remote_code" not in (tmp_path / "tuned" / "fine_tuner.json").read_text()
        assert not SentenceEmbeddingFineTuner.load(tmp_path / "tuned").trust_remote_code
        assert SentenceEmbeddingFineTuner.load(tmp_path / "tuned", trust_remote_code=True).trust_remote_code

    def test_a_moved_folder_is_loaded_from_its_new_place(self, labelled, tuner, tmp_path):
        vectors = tuner.fit(*labelled).transform(labelled[0])
        tuner.save(tmp_path / "tuned")
        (tmp_path / "tuned").rename(tmp_path / "elsewhere")
        assert_allclose(
            SentenceEmbeddingFineTuner.load(tmp_path / "elsewhere").transform(labelled[0]), vectors, atol=1e-6
        )

    def test_a_model_without_a_fine_tuner_is_named(self, tiny):
        with pytest.raises(FileNotFoundError, match=r"holds a model and no fine_tuner\.json.*SentenceEmbedding"):
            SentenceEmbeddingFineTuner.load(tiny)

    @pytest.mark.parametrize("name", [".", "nowhere"])
    def test_a_folder_of_something_else_is_named(self, name, tmp_path):
        with pytest.raises(FileNotFoundError, match="No fine-tuner is saved in"):
            SentenceEmbeddingFineTuner.load(tmp_path / name)

    def test_another_model_in_the_folder_is_refused(self, labelled, tuner, tmp_path, model_folder):
        tuner.fit(*labelled).save(tmp_path / "tuned")
        SentenceTransformer(model_folder("roberta")).save_pretrained(str(tmp_path / "tuned"))
        with pytest.raises(ModelChangedError, match="does not hold the model that was saved there"):
            SentenceEmbeddingFineTuner.load(tmp_path / "tuned")

    def test_a_damaged_file_or_one_of_another_version_is_one_clear_error(self, labelled, tuner, tmp_path):
        tuner.fit(*labelled).save(tmp_path / "tuned")
        file = tmp_path / "tuned" / "fine_tuner.json"
        text = file.read_text()
        damages = [text[: len(text) // 2], "[]", "{}", "", text.replace('"epochs": 1', '"epochs": 2')]
        damages += [text.replace('"version": 1', '"version": 99'), "[" * 100_000]
        for damaged in damages:
            file.write_text(damaged)
            with pytest.raises(ValueError, match=r"fine_tuner\.json (is damaged|has version 99)"):
                SentenceEmbeddingFineTuner.load(tmp_path / "tuned")

    def test_a_parameter_that_this_version_does_not_know_is_named(self, labelled, tuner, tmp_path, monkeypatch):
        tuner.fit(*labelled)
        params = {**tuner.get_params(), "tomorrow": 1}
        monkeypatch.setattr(SentenceEmbeddingFineTuner, "get_params", lambda self, deep=True: params)
        tuner.save(tmp_path / "tuned")
        with pytest.raises(ValueError, match=r"another version of skembed.*has no 'tomorrow'"):
            SentenceEmbeddingFineTuner.load(tmp_path / "tuned")


class TestScikitLearn:
    @pytest.mark.parametrize(
        "check",
        [
            estimator_checks.check_estimator_cloneable,
            estimator_checks.check_estimator_repr,
            estimator_checks.check_no_attributes_set_in_init,
            estimator_checks.check_parameters_default_constructible,
            estimator_checks.check_get_params_invariance,
            estimator_checks.check_set_params,
            estimator_checks.check_mixin_order,
            estimator_checks.check_valid_tag_types,
        ],
        ids=lambda check: check.__name__,
    )
    def test_scikit_learns_check_passes(self, check, tuner):
        check("SentenceEmbeddingFineTuner", tuner)

    def test_clones_do_not_share_what_was_learned(self, fitted):
        copy = clone(fitted)
        assert copy.get_params() == fitted.get_params()
        with pytest.raises(NotFittedError):
            copy.transform(["a"])

    def test_clones_share_a_loss_object(self, tiny):
        loss = losses.CoSENTLoss(SentenceTransformer(tiny, device="cpu"))
        assert clone(SentenceEmbeddingFineTuner(tiny, loss=loss)).loss is loss

    def test_clones_share_the_model_that_training_starts_from(self, tiny):
        live = SentenceTransformer(tiny, device="cpu")
        assert clone(SentenceEmbeddingFineTuner(live)).model is live

    @pytest.mark.parametrize(
        "use",
        [
            lambda tuner: tuner.transform(["a"]),
            lambda tuner: tuner.get_feature_names_out(),
            lambda tuner: tuner.model_,
            lambda tuner: tuner.save("nowhere"),
        ],
        ids=["transform", "get_feature_names_out", "model_", "save"],
    )
    @pytest.mark.parametrize("parameters", [{}, {"missing": "never", "cache": 5}], ids=["valid", "invalid parameters"])
    def test_methods_that_need_fit_raise_before_it(self, use, parameters, tuner):
        with pytest.raises(NotFittedError):
            use(tuner.set_params(**parameters))

    def test_fit_transform_is_fit_and_transform(self, fitted, labelled):
        assert_allclose(clone(fitted).fit_transform(*labelled), fitted.transform(labelled[0]), atol=1e-6)

    @pytest.mark.parametrize("call", ["fit", "fit_transform", "transform"])
    def test_texts_are_iterated_once_per_call(self, call, fitted, labelled):
        tuner = pickle.loads(pickle.dumps(fitted))
        texts = Walked(labelled[0])
        getattr(tuner, call)(texts, *([labelled[1]] if call != "transform" else []))
        assert texts.n_walks == 1

    def test_fit_transform_of_pairs_says_what_to_do_before_it_trains(self, tuner, monkeypatch):
        monkeypatch.setattr(trainer, "train", None)
        with pytest.raises(ValueError, match=r"X has 2 columns.*call fit\(X, y\), then transform a column"):
            tuner.fit_transform([("a", "b")] * 20, [0, 1] * 10)

    def test_frames_come_out_with_names_and_index(self, fitted, labelled):
        tuner = pickle.loads(pickle.dumps(fitted)).set_output(transform="pandas")
        frame = tuner.transform(pd.Series(labelled[0][:2], index=["r1", "r2"]))
        assert frame.index.tolist() == ["r1", "r2"]
        assert frame.columns[:2].tolist() == ["sentenceembeddingfinetuner0", "sentenceembeddingfinetuner1"]
        assert frame.shape[1] == fitted.embedding_dim_

    @pytest.mark.slow
    def test_each_fold_trains_on_its_own_part(self, labelled, tuner, monkeypatch):
        texts, labels = labelled
        trained, original = [], trainer.train
        monkeypatch.setattr(
            trainer, "train", lambda run, key: trained.append(set(run.data.columns[0])) or original(run, key)
        )
        scores = cross_val_score(make_pipeline(tuner, LogisticRegression()), texts, labels, cv=3)
        assert len(trained) == 3
        assert all(len(part) < len(set(texts)) for part in trained)
        assert set.union(*trained) == set(texts)
        assert scores.mean() > 0.7

    @pytest.mark.slow
    def test_a_grid_search_varies_parameters_of_the_training(self, labelled, tuner, monkeypatch):
        tried, original = set(), trainer.train

        def train(run, key):
            tried.add((run.settings.learning_rate, run.loss_name, run.settings.lora_rank))
            return original(run, key)

        monkeypatch.setattr(trainer, "train", train)
        rates, kinds = [1e-9, 1e-3], ["auto", "contrastive"]
        values = {"learning_rate": rates, "loss": kinds, "lora_rank": [None, 2]}
        grid = {f"tune__{name}": tries for name, tries in values.items()}
        pipeline = Pipeline([("tune", tuner), ("classify", LogisticRegression())])
        search = GridSearchCV(pipeline, grid, cv=2, refit=False, error_score="raise").fit(*labelled)
        assert tried == set(product(rates, ("cosine_similarity", "contrastive"), (None, 2)))
        assert len(search.cv_results_["mean_test_score"]) == 8

    def test_it_works_in_a_column_transformer_beside_numbers(self, labelled, tuner):
        texts, labels = labelled
        frame = pd.DataFrame({"text": texts, "length": [len(text) for text in texts]})
        features = ColumnTransformer([("tune", tuner, "text")], remainder="passthrough").fit_transform(frame, labels)
        assert features.shape == (len(texts), 33)

    def test_a_frozen_fine_tuner_embeds_for_a_search(self, fitted, labelled):
        search = skembed.SemanticSearch(FrozenEstimator(fitted)).fit(labelled[0])
        assert search.search([labelled[0][3]], k=1)["text"].tolist() == [labelled[0][3]]

    def test_rows_without_a_text_are_left_out_of_the_training_and_missing_in_the_result(self, labelled, tuner):
        texts, labels = labelled
        with_gaps = [*texts, None]
        vectors = tuner.set_params(missing="nan").fit_transform(with_gaps, [*labels, "fox"])
        assert np.isnan(vectors[-1]).all()
        assert not np.isnan(vectors[:-1]).any()


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "y", "parameters", "message"),
        [
            (["a", "b"] * 9, ["x"] * 18, {}, "y has one class only, 'x'"),
            ([("a", "b")] * 3, [0.1, 0.2, 0.3], {}, "There are 3 examples to train on, fewer than batch_size=8"),
            (["a", "b"] * 9, ["x", None] * 9, {}, r"y\[1\] is missing"),
            (["a", "b"] * 9, ["x", 1] * 9, {}, "y mixes labels of several types"),
            ([("a", "b")] * 9, np.arange(9.0), {"loss": "cosine_similarity"}, "go from 0 to 8"),
            (list("abcd"), ["x", "y"] * 2, {"loss": "triplet"}, "loss='triplet' learns from triplets"),
            (["a", "b"] * 9, ["x", "y"] * 9, {"epochs": 0}, "epochs must be a positive integer"),
            ([("a", "b")] * 9, ["x", "y", "z"] * 3, {"matryoshka_dims": [8]}, "loss='softmax' has a layer for all dim"),
            (list("abcdef"), ["x", "y"] * 3, {"matryoshka_dims": [99]}, "the vectors have only 32 dimensions"),
            (["a", "b"] * 9, ["x", "y"] * 9, {"pooling": "median"}, "pooling must be"),
            (["a", "b"] * 9, ["x", "y"] * 9, {}, "no two different texts of one class"),
        ],
    )
    def test_bad_input_is_one_clear_error_before_any_step(self, X, y, parameters, message, tuner, monkeypatch):
        monkeypatch.setattr(SentenceTransformerTrainer, "training_step", None)
        with pytest.raises((TypeError, ValueError), match=message):
            tuner.set_params(**parameters).fit(X, y)
        with pytest.raises(NotFittedError):
            tuner.transform(["a"])

    @pytest.mark.parametrize(
        ("X", "parameters", "message"),
        [
            ([["a fox"], ["a dog"]] * 9, {}, r"X\[0\] is list, not str"),
            (["a fox " * 30, "a dog"] * 9, {"long_texts": "error"}, "tokens, more than the 24 that the model reads"),
        ],
    )
    def test_fit_transform_refuses_before_it_trains_what_it_could_not_embed(self, X, parameters, message, tuner):
        with pytest.raises((TypeError, ValueError), match=message):
            tuner.set_params(**parameters).fit_transform(X, ["x", "y"] * 9)
        assert not hasattr(tuner, "n_iter_")

    def test_several_poolings_before_a_layer_for_one_are_an_error(self, labelled, model_folder):
        tuner = SentenceEmbeddingFineTuner(model_folder("dense"), pooling=("mean", "cls"), **FAST)
        with pytest.raises(ValueError, match="pooling="):
            tuner.fit(*labelled)

    @pytest.mark.parametrize("module", ["datasets", "accelerate"])
    def test_a_missing_library_is_named_with_the_command_that_installs_it(self, module, tuner, labelled, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(
            ImportError, match=rf"SentenceEmbeddingFineTuner needs {module}: pip install 'skembed\[train\]'"
        ):
            tuner.fit(*labelled)

    def test_adapters_need_peft(self, tuner, labelled, monkeypatch):
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(ImportError, match=r"lora_rank needs peft: pip install 'skembed\[train\]'"):
            tuner.set_params(lora_rank=2).fit(*labelled)
