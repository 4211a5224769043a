"""Training runs: interrupted and resumed, stopped early, short of memory; and what they leave behind: nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import evaluation, losses
from sklearn.utils import check_random_state
from transformers import DefaultFlowCallback

from skembed import PairSimilarity, SentenceEmbeddingFineTuner
from skembed.training import checkpoints, evaluators, trainer
from skembed.training.batches import TextsApart
from skembed.training.data import KINDS, TrainingData, read_examples, split
from skembed.training.settings import TrainingSettings
from tests.training.fast import FAST, StoppedError, stop_training_at
from tests.training.test_settings import DEFAULTS


@pytest.fixture
def interrupt():
    """``interrupt(step)``: the next training stops there; ``interrupt(None)``: it runs to its end again."""
    with pytest.MonkeyPatch.context() as patch:

        def set_step(step):
            patch.undo()
            if step is not None:
                stop_training_at(step, patch)

        yield set_step


@pytest.mark.slow
class TestInterrupted:
    @pytest.mark.parametrize(
        ("kind", "parameters"),
        [
            ("classes", {}),
            ("scores", {"matryoshka_dims": [16]}),
            ("pair_classes", {}),  # its classifier is part of the loss, not of the model
            ("texts", {}),
            ("classes", {"lora_rank": 2}),
            ("classes", {"loss": "batch_all_triplet"}),
            ("scores", {"early_stopping": True, "validation_fraction": 0.3, "epochs": 4, "n_iter_no_change": 2}),
        ],
    )
    def test_an_interrupted_training_resumes_to_the_same_result(
        self, kind, parameters, training_data, tiny, tmp_path, interrupt
    ):
        X, y = training_data[kind]
        parameters = {**FAST, "epochs": 3, **parameters}
        whole = SentenceEmbeddingFineTuner(tiny, **parameters).fit(X, y)
        resumed = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **parameters)
        interrupt(int(whole.history_["step"].max() * 0.6))
        with pytest.raises(StoppedError):
            resumed.fit(X, y)
        steps_before = {int(folder.name.partition("-")[2]) for folder in tmp_path.glob("run-*/checkpoint-*")}
        interrupt(None)
        resumed.fit(X, y)
        assert max(steps_before) >= whole.history_["step"].max() / 3  # early stopping: one epoch of three
        texts = training_data["texts"][0]
        assert_array_equal(resumed.transform(texts), whole.transform(texts))
        pd.testing.assert_frame_equal(
            resumed.history_.drop(columns="seconds"),
            whole.history_.drop(columns="seconds"),
            check_exact=False,
            rtol=1e-5,
        )
        assert resumed.history_["seconds"].is_monotonic_increasing

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_a_drawn_seed_is_remembered(self, early_stopping, training_data, tiny, tmp_path, interrupt, monkeypatch):
        X, y = training_data["classes"]
        parameters = {**FAST, "random_state": None, "early_stopping": early_stopping}
        tuner = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, epochs=2, **parameters)
        interrupt(24)
        with pytest.raises(StoppedError):
            tuner.fit(X, y)
        (file,) = tmp_path.glob("run-*/run.json")
        seed = json.loads(file.read_text())["seed"]
        interrupt(None)
        seen = []
        monkeypatch.setattr(trainer, "set_seed", seen.append)
        tuner.fit(X, y)
        assert seen == [seed]

    def test_other_data_or_parameters_start_anew(self, training_data, tiny, tmp_path, interrupt):
        X, y = training_data["classes"]
        interrupt(8)
        for changed in ({}, {"learning_rate": 1e-4}, {"pooling": "cls"}, {"random_state": 1}):
            with pytest.raises(StoppedError):
                SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **{**FAST, **changed}).fit(X, y)
        with pytest.raises(StoppedError):
            SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST).fit(X[:-2], y[:-2])
        assert len(list(tmp_path.glob("run-*/run.json"))) == 5

    @pytest.mark.parametrize(
        "state", ["{}", "null", "[]", "3", "[" * 100_000, '{"best_model_checkpoint": null, "global_step": "14"}', "\0"]
    )
    def test_a_checkpoint_with_an_invalid_state_is_skipped(self, state, tmp_path):
        for step, written in (("13", '{"best_model_checkpoint": null, "global_step": 13}'), ("14", state)):
            (tmp_path / f"checkpoint-{step}").mkdir()
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(written)
            checkpoints.seal(tmp_path / f"checkpoint-{step}")
        assert checkpoints.find_last_checkpoint(tmp_path) == tmp_path / "checkpoint-13"
        assert not (tmp_path / "checkpoint-14").exists()

    @pytest.mark.parametrize("name", ["state.safetensors", "trainer_state.json", "optimizer.pt", "sealed.json"])
    def test_a_checkpoint_with_a_damaged_file_is_skipped(self, name, training_data, tiny, tmp_path, interrupt):
        X, y = training_data["classes"]
        whole = SentenceEmbeddingFineTuner(tiny, **FAST).fit(X, y).transform(X)
        tuner = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST)
        interrupt(12)
        with pytest.raises(StoppedError):
            tuner.fit(X, y)
        (file,) = tmp_path.glob(f"run-*/checkpoint-*/{name}")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        interrupt(None)
        assert_array_equal(tuner.fit(X, y).transform(X), whole)

    @pytest.mark.parametrize("written", ["{}", "null", "[" * 100_000, '{"seed": 1}', '{"seed": "x"}'])
    def test_a_damaged_seed_is_an_error_that_names_the_file(self, written, tmp_path):
        assert checkpoints.fix_seed(tmp_path, 7) == checkpoints.fix_seed(tmp_path, 8) == 7
        (tmp_path / "run.json").write_text(written)
        with pytest.raises(ValueError, match=r"run\.json is damaged\. Delete .* to train anew"):
            checkpoints.fix_seed(tmp_path, 7)

    def test_an_incomplete_checkpoint_is_skipped(self, training_data, tiny, tmp_path, interrupt):
        X, y = training_data["classes"]
        whole = SentenceEmbeddingFineTuner(tiny, **FAST).fit(X, y).transform(X)
        tuner = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST)
        interrupt(12)
        with pytest.raises(StoppedError):
            tuner.fit(X, y)
        (file,) = tmp_path.glob("run-*/run.json")
        run = file.parent
        (run / "checkpoint-13").mkdir()
        (run / "checkpoint-14").mkdir()
        (run / "checkpoint-14" / "trainer_state.json").write_text('{"global_st')
        interrupt(None)
        assert_array_equal(tuner.fit(X, y).transform(X), whole)

    def test_the_best_epoch_survives_a_move_of_the_folder(self, training_data, tiny, tmp_path, interrupt):
        X, y = training_data["scores"]
        parameters = {**FAST, "early_stopping": True, "validation_fraction": 0.3, "epochs": 4, "learning_rate": 1e-2}
        whole = SentenceEmbeddingFineTuner(tiny, **parameters).fit(X, y)
        interrupt(int(whole.history_["step"].max() * 0.8))
        with pytest.raises(StoppedError):
            SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path / "here", **parameters).fit(X, y)
        interrupt(None)
        (tmp_path / "here").rename(tmp_path / "there")
        moved = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path / "there", **parameters).fit(X, y)
        texts = training_data["texts"][0]
        assert_array_equal(moved.transform(texts), whole.transform(texts))

    def test_a_finished_training_leaves_no_files(self, training_data, tiny, tmp_path):
        SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST).fit(*training_data["classes"])
        assert list(tmp_path.iterdir()) == []

    def test_the_lock_file_remains_where_open_files_cannot_be_removed(self, training_data, tiny, tmp_path, monkeypatch):
        def unlink(self, missing_ok=False):
            raise PermissionError(self)

        monkeypatch.setattr(Path, "unlink", unlink)
        SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST).fit(*training_data["classes"])
        (left,) = tmp_path.iterdir()
        assert left.suffix == ".lock"

    def test_a_training_that_cannot_begin_leaves_no_files(self, training_data, tiny, tmp_path):
        X, y = training_data["scores"]
        with pytest.raises(ValueError, match="fewer than batch_size=64"):
            SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **{**FAST, "batch_size": 64}).fit(X, y)
        assert list(tmp_path.iterdir()) == []

    def test_no_pickle_of_settings_is_written(self, training_data, tiny, tmp_path, interrupt):
        interrupt(12)
        with pytest.raises(StoppedError):
            SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST).fit(*training_data["classes"])
        assert not list(tmp_path.rglob("training_args.bin"))

    def test_a_training_resumes_after_its_process_was_killed(self, training_data, tiny, tmp_path):
        X, y = training_data["classes"]
        script = textwrap.dedent(f"""
            import json, os, signal, sys
            from transformers import DefaultFlowCallback
            from skembed import SentenceEmbeddingFineTuner
            X, y = json.loads(sys.stdin.read())
            original = DefaultFlowCallback.on_step_end
            def on_step_end(self, args, state, control, **rest):
                if state.global_step == 30:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(self, args, state, control, **rest)
            DefaultFlowCallback.on_step_end = on_step_end
            SentenceEmbeddingFineTuner({tiny!r}, checkpoint_dir={str(tmp_path)!r}, epochs=2, **{FAST!r}).fit(X, y)
        """)
        done = subprocess.run([sys.executable, "-c", script], input=json.dumps([X, y]), text=True, env=_environment())
        assert done.returncode == -signal.SIGKILL
        assert list(tmp_path.glob("run-*/checkpoint-*"))
        resumed = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, epochs=2, **FAST).fit(X, y)
        whole = SentenceEmbeddingFineTuner(tiny, epochs=2, **FAST).fit(X, y)
        assert_allclose(resumed.transform(X), whole.transform(X), atol=1e-6)

    def test_another_process_waits_for_the_same_training_to_end(self, training_data, tiny, tmp_path):
        X, y = training_data["classes"]
        script = textwrap.dedent(f"""
            import json, sys, time
            from transformers import DefaultFlowCallback
            from skembed import SentenceEmbeddingFineTuner
            X, y = json.loads(sys.stdin.readline())
            def wait(self, args, state, control, **rest):
                print("training", flush=True)
                time.sleep(3)
            DefaultFlowCallback.on_train_end = wait
            SentenceEmbeddingFineTuner({tiny!r}, checkpoint_dir={str(tmp_path)!r}, **{FAST!r}).fit(X, y)
            print(time.time(), flush=True)
        """)
        other = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        other.stdin.write(json.dumps([X, y]) + "\n")
        other.stdin.flush()
        assert other.stdout.readline() == "training\n"
        tuner = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **FAST).fit(X, y)
        ended = time.time()
        assert float(other.communicate()[0]) < ended
        assert_array_equal(tuner.transform(X), SentenceEmbeddingFineTuner(tiny, **FAST).fit(X, y).transform(X))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_folder_of_a_training_belongs_to_one_process_at_a_time(tmp_path):
    script = textwrap.dedent(f"""
        import os
        from skembed.training.checkpoints import run_folder
        for _ in range(40):
            with run_folder({str(tmp_path)!r}, "key", seed=0) as (folder, seed):
                os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))
                (folder / "held").unlink()
    """)
    others = [subprocess.Popen([sys.executable, "-c", script], env=_environment()) for _ in range(4)]
    assert [other.wait() for other in others] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def _environment():
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


ANSWERS = [f"sentence {number} of the parcel" for number in range(8)]
FAQ = [(f"question {number} of the fox", ANSWERS[number % 8]) for number in range(96)]
SHARED = {
    "8 answers": FAQ,
    "one frequent answer": [
        (question, ANSWERS[0] if row < 40 else answer) for row, (question, answer) in enumerate(FAQ)
    ],
    "one negative": [(question, f"{answer} {row}", "a lazy dog") for row, (question, answer) in enumerate(FAQ)],
    "a circle": [(f"fox {row}", f"fox {(row + 1) % 96}") for row in range(96)],
}


class TestExamples:
    @pytest.fixture
    def seen(self, monkeypatch):
        """Examples in the order in which they were trained on, by batch."""
        batches, original = [], trainer.make_collator

        def make_collator(*given):
            collate = original(*given)

            def noting(features):
                batches.append([tuple(row[name] for name in row if name.startswith("text_")) for row in features])
                return collate(features)

            noting.include_prompt_lengths = False
            noting.valid_label_columns = collate.valid_label_columns
            return noting

        monkeypatch.setattr(trainer, "make_collator", make_collator)
        return batches

    @pytest.mark.slow
    @pytest.mark.parametrize("examples", SHARED.values(), ids=list(SHARED))
    @pytest.mark.parametrize(
        "loss",
        [
            "multiple_negatives_ranking",
            "cached_multiple_negatives_ranking",
            partial(losses.MultipleNegativesRankingLoss, scale=10.0),
            losses.MegaBatchMarginLoss,
        ],
    )
    def test_each_is_trained_on_once_per_epoch_even_if_many_share_a_text(self, examples, loss, seen, tiny):
        if loss is losses.MegaBatchMarginLoss:
            examples = [example[:2] for example in examples]  # it takes no negatives
        tuner = SentenceEmbeddingFineTuner(tiny, loss=loss, **{**FAST, "epochs": 3, "batch_size": 16}).fit(examples)
        n_steps = len(seen) // 3
        assert tuner.history_["step"].iloc[-1] == len(seen) == 3 * n_steps
        for epoch in range(3):
            batches = seen[epoch * n_steps : (epoch + 1) * n_steps]
            assert sorted(row for batch in batches for row in batch) == sorted(examples)
        assert tuner.n_iter_ == 3

    def test_the_learning_rate_reaches_zero_at_the_last_batch(self, seen, tiny, monkeypatch):
        rates, original = [], DefaultFlowCallback.on_step_end

        def on_step_end(self, args, state, control, lr_scheduler=None, **rest):
            rates.append(lr_scheduler.get_last_lr()[0])
            return original(self, args, state, control, **rest)

        monkeypatch.setattr(DefaultFlowCallback, "on_step_end", on_step_end)
        SentenceEmbeddingFineTuner(tiny, **{**FAST, "batch_size": 16, "epochs": 2}).fit(FAQ)
        assert len(rates) == len(seen) == 24
        assert rates[-1] == 0 < rates[-2]

    @pytest.mark.slow
    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_an_interrupted_training_resumes_with_the_remaining_ones(
        self, early_stopping, seen, tiny, tmp_path, interrupt
    ):
        parameters = {**FAST, "batch_size": 16, "epochs": 3, "early_stopping": early_stopping}
        whole = SentenceEmbeddingFineTuner(tiny, **parameters).fit(FAQ)
        every = [row for batch in seen for row in batch]
        tuner = SentenceEmbeddingFineTuner(tiny, checkpoint_dir=tmp_path, **parameters)
        interrupt(int(whole.history_["step"].max() * 0.7))
        with pytest.raises(StoppedError):
            tuner.fit(FAQ)
        seen.clear()
        interrupt(None)
        tuner.fit(FAQ)
        resumed = [row for batch in seen for row in batch]
        assert 0 < len(resumed) < len(every) / 2
        assert resumed == every[-len(resumed) :]
        texts = [question for question, _ in FAQ]
        assert_array_equal(tuner.transform(texts), whole.transform(texts))


class TestEarlyStopping:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_data_has_a_validation_score(self, kind, training_data, tiny):
        parameters = {**FAST, "early_stopping": True, "validation_fraction": 0.25, "epochs": 2}
        history = SentenceEmbeddingFineTuner(tiny, **parameters).fit(*training_data[kind]).history_
        assert history["validation_score"].notna().sum() == 2
        assert history.loc[history["validation_score"].notna(), "epoch"].tolist() == [1, 2]

    def test_the_best_epoch_is_restored(self, training_data, tiny, monkeypatch):
        X, y = training_data["scores"]
        texts, scripted, seen = training_data["texts"][0], [0.1, 0.5, 0.3, 0.2], []

        def score(self, model, *args, **rest):
            seen.append(model.encode(texts))
            return {"spearman_cosine": scripted[len(seen) - 1]}

        monkeypatch.setattr(evaluation.EmbeddingSimilarityEvaluator, "__call__", score)
        tuner = SentenceEmbeddingFineTuner(tiny, early_stopping=True, epochs=9, n_iter_no_change=2, **FAST).fit(X, y)
        assert tuner.n_iter_ == 4
        assert tuner.history_["validation_score"].dropna().tolist() == scripted
        assert_allclose(tuner.transform(texts), seen[1], atol=1e-6)
        assert np.abs(seen[3] - seen[1]).max() > 1e-3

    def test_validation_scores_are_those_of_the_examples_set_aside(self, training_data, tiny):
        X, y = training_data["scores"]
        parameters = {**FAST, "early_stopping": True, "validation_fraction": 0.3}
        tuner = SentenceEmbeddingFineTuner(tiny, **parameters).fit(X, y)
        seed = int(check_random_state(0).randint(np.iinfo(np.int32).max))
        _, aside = split(read_examples(X, y, missing="error"), 0.3, seed)
        left, right = (tuner.transform(column) for column in aside.columns)
        score = spearmanr(aside.labels, (left * right).sum(axis=1)).statistic
        assert tuner.history_["validation_score"].max() == pytest.approx(score, abs=0.02)

    def test_a_training_without_progress_ends(self, training_data, tiny):
        parameters = {**FAST, "early_stopping": True, "validation_fraction": 0.25, "learning_rate": 1e-12}
        tuner = SentenceEmbeddingFineTuner(tiny, epochs=20, n_iter_no_change=2, **parameters)
        tuner.fit(*training_data["classes"])
        assert tuner.n_iter_ == 3

    @pytest.mark.parametrize(
        ("X", "y"),
        [
            ([("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")] * 5, [0.1, 0.2, 0.3, 0.4] * 5),
            ([(str(row), "b") for row in range(20)], [1.0] * 19 + [0.0]),
            ([(str(row), f"b{row}") for row in range(9)], None),
        ],
        ids=["one pair", "one score", "one positive pair"],
    )
    def test_examples_set_aside_that_cannot_rank_models_are_refused(self, X, y, tiny):
        fraction = 0.04 if y and y[0] == 0.1 else 0.1
        tuner = SentenceEmbeddingFineTuner(tiny, early_stopping=True, validation_fraction=fraction, **FAST)
        with pytest.raises(ValueError, match=r"sets \d examples aside, which is too few, or all of one score"):
            tuner.fit(X, y)

    def test_an_undefined_score_is_an_error_and_not_the_last_epoch(self, training_data, tiny, monkeypatch):
        undefined = {"spearman_cosine": float("nan")}
        monkeypatch.setattr(evaluation.EmbeddingSimilarityEvaluator, "__call__", lambda self, *args, **rest: undefined)
        tuner = SentenceEmbeddingFineTuner(tiny, early_stopping=True, **FAST)
        with pytest.raises(ValueError, match="The validation score is undefined"):
            tuner.fit(*training_data["scores"])

    def test_a_text_set_aside_is_not_compared_with_itself(self):
        data, aside = (TrainingData("classes", (["a", "b", "c"],), np.array([0, 1, 0])), np.array([0, 1]))
        validation = TrainingData("classes", (["a", "d"],), aside)
        left, right, same = evaluators.pair_with_training(validation, data, np.random.default_rng(0))
        assert sorted(zip(left, right, same.tolist(), strict=True)) == [
            ("a", "b", 0), ("a", "c", 1), ("d", "a", 0), ("d", "b", 1), ("d", "c", 0)
        ]  # fmt: skip

    def test_without_early_stopping_all_epochs_are_run_and_nothing_is_set_aside(self, training_data, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, epochs=2, **FAST).fit(*training_data["classes"])
        assert tuner.n_iter_ == 2
        assert tuner.history_["validation_score"].isna().all()


@pytest.mark.slow
class TestShortOfMemory:
    @pytest.fixture
    def still(self, tiny):
        """A live tiny model without dropout, whose loss does not depend on how a batch is taken apart."""
        model = SentenceTransformer(tiny, device="cpu")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.transformers_model.config.attention_probs_dropout_prob = 0.0
        return model

    @pytest.fixture
    def small_memory(self, monkeypatch):
        """Memory for four texts at a time."""
        original = SentenceTransformer.forward

        def forward(self, features, **rest):
            if self.training and torch.is_grad_enabled() and len(features["input_ids"]) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return original(self, features, **rest)

        return lambda: monkeypatch.setattr(SentenceTransformer, "forward", forward)

    @pytest.mark.parametrize(
        ("kind", "loss"), [("binary", "contrastive"), ("scores", "cosine_similarity"), ("positives", "auto")]
    )
    def test_a_batch_in_parts_gives_the_same_model(self, kind, loss, training_data, still, small_memory):
        X, y = training_data[kind]
        y = y / 5 if kind == "scores" else y
        parameters = {**FAST, "learning_rate": 1e-4, "loss": loss}
        texts = training_data["texts"][0]
        whole = SentenceEmbeddingFineTuner(still, **parameters).fit(X, y).transform(texts)
        small_memory()
        with pytest.warns(UserWarning, match=r"Memory ran out: batches of 8 are computed in 2 parts\."):
            parts = SentenceEmbeddingFineTuner(still, **parameters).fit(X, y).transform(texts)
        assert np.abs(whole - still.encode(texts)).max() > 1e-3
        assert_allclose(parts, whole, atol=1e-4)

    def test_a_warning_says_that_a_loss_compares_examples_within_a_part(self, training_data, still, small_memory):
        small_memory()
        with pytest.warns(UserWarning, match="the loss compares examples within a part instead") as caught:
            SentenceEmbeddingFineTuner(still, **FAST).fit(*training_data["scores"])
        assert caught[0].filename == __file__

    def test_texts_that_do_not_fit_one_by_one_are_an_error(self, training_data, tiny, monkeypatch):
        def forward(self, features, **rest):
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(SentenceTransformer, "forward", forward)
        with (
            pytest.warns(UserWarning, match="Memory ran out"),
            pytest.raises(torch.OutOfMemoryError, match="out of memory"),
        ):
            SentenceEmbeddingFineTuner(tiny, **FAST).fit(*training_data["binary"])

    @pytest.mark.parametrize(
        ("batch_size", "n_parts", "expected"),
        [(16, 1, 2), (16, 8, 16), (16, 16, None), (6, 1, 2), (6, 2, 3), (7, 1, 7)],
    )
    def test_a_batch_is_divided_into_equal_parts(self, batch_size, n_parts, expected, tiny):
        assert n_parts_of(make_run(batch_size, n_parts, "cosent").in_more_parts()) == expected

    @pytest.mark.parametrize(("n_parts", "expected"), [(1, 2), (2, 4), (4, None)])
    def test_parts_in_which_classes_are_compared_hold_four_texts(self, n_parts, expected):
        assert n_parts_of(make_run(16, n_parts, "batch_all_triplet").in_more_parts()) == expected


@pytest.mark.parametrize(
    ("kind", "loss_name", "batches"),
    [
        ("positives", "SomeLossOfOnesOwn", TextsApart),
        ("classes", "SomeLossOfOnesOwn", "batch_sampler"),
        ("classes", "batch_all_triplet", "group_by_label"),
        ("scores", "cosent", "batch_sampler"),
    ],
)
def test_batches_are_composed_as_the_loss_needs_them(kind, loss_name, batches, training_data):
    run = make_run(16, 1, loss_name, loss=None, data=read_examples(*training_data[kind], missing="error"))
    assert run.batch_sampler == batches


def test_a_ranking_loss_keeps_the_texts_of_pairs_apart_and_not_their_negatives(training_data):
    data = read_examples(*training_data["triplets"], missing="error")
    sampler = make_run(16, 1, "multiple_negatives_ranking", data=data).batch_sampler
    assert (sampler.func, sampler.keywords) == (TextsApart, {"n_apart": 2})


def make_run(batch_size, n_parts, loss_name, loss="auto", data=None):
    settings = TrainingSettings(**{**DEFAULTS, "batch_size": batch_size, "loss": loss})
    return trainer.TrainingRun(None, settings, loss_name, data, 0, False, n_parts)


def n_parts_of(run):
    return None if run is None else run.n_parts


def test_a_training_uses_one_cuda_device_and_does_not_split_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.SentenceTransformerTrainingArguments, "n_gpu", property(lambda self: 4))
    arguments = trainer.OneDeviceArguments(output_dir=str(tmp_path), per_device_train_batch_size=8, use_cpu=True)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 8)


class TestTraces:
    def test_a_training_does_not_change_the_random_numbers_of_the_process(self, training_data, tiny):
        def draw():
            return random.random(), np.random.random(), torch.rand(1).item()

        def seed():
            random.seed(3), np.random.seed(3), torch.manual_seed(3)

        seed()
        expected = draw()
        seed()
        SentenceEmbeddingFineTuner(tiny, **FAST).fit(*training_data["classes"])
        assert draw() == expected

    def test_no_device_is_seeded_before_cuda_is_in_use(self, training_data, tiny, monkeypatch):
        saved, original = [], torch.random.fork_rng
        monkeypatch.setattr(torch.random, "fork_rng", lambda devices: saved.append(devices) or original(devices))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
        SentenceEmbeddingFineTuner(tiny, **FAST).fit(*training_data["classes"])
        assert saved == [[]]

    def test_a_training_leaves_environment_output_and_folder_unchanged(
        self, training_data, tiny, capfd, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        before = dict(os.environ)
        SentenceEmbeddingFineTuner(tiny, early_stopping=True, **FAST).fit(*training_data["classes"])
        assert dict(os.environ) == before
        assert capfd.readouterr() == ("", "")
        assert list(tmp_path.iterdir()) == []

    def test_the_model_does_not_keep_the_data(self, training_data, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, **FAST).fit(*training_data["classes"])
        assert not hasattr(tuner.model_.model_card_data, "trainer")
        assert all(parameter.grad is None for parameter in tuner.model_.parameters())

    def test_products_in_bfloat16_leave_a_plain_model(self, training_data, tiny, monkeypatch):
        original = trainer.OneDeviceArguments
        monkeypatch.setattr(trainer, "OneDeviceArguments", lambda **given: original(**{**given, "bf16": True}))
        X, y = training_data["classes"]
        tuner = SentenceEmbeddingFineTuner(tiny, **FAST).fit(X, y)
        assert {"forward", "_original_forward"}.isdisjoint(vars(tuner.model_))
        assert_allclose(tuner.model_.encode(X), tuner.transform(X), atol=1e-6)

    @pytest.mark.slow
    def test_threads_train_one_after_the_other(self, training_data, tiny):
        X, y = training_data["classes"]
        alone = SentenceEmbeddingFineTuner(tiny, **FAST).fit(X, y).transform(X)
        tuners = [SentenceEmbeddingFineTuner(tiny, **FAST) for _ in range(3)]
        threads = [threading.Thread(target=tuner.fit, args=(X, y)) for tuner in tuners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for tuner in tuners:
            assert_array_equal(tuner.transform(X), alone)

    def test_a_bar_shows_steps_and_loss(self, training_data, tiny, capsys):
        SentenceEmbeddingFineTuner(tiny, show_progress_bar=True, **FAST).fit(*training_data["scores"])
        shown = capsys.readouterr().err
        assert "Training: 100%" in shown
        assert "6/6" in shown
        assert "loss=" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "launched",
    [
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "ACCELERATE_USE_DEEPSPEED": "true"},
    ],
    ids=["LOCAL_RANK alone", "torchrun", "MPI and DeepSpeed"],
)
def test_a_process_started_by_a_launcher_trains_independently(launched, training_data, tiny):
    script = textwrap.dedent(f"""
        import json, os, sys
        from accelerate.state import PartialState
        from skembed import SentenceEmbeddingFineTuner
        X, y = json.loads(sys.stdin.read())
        tuner = SentenceEmbeddingFineTuner({tiny!r}, **{FAST!r})
        import skembed.training.trainer
        before = dict(os.environ)
        vectors = tuner.fit(X, y).transform(X)
        assert dict(os.environ) == before
        assert PartialState._shared_state == {{}}
        print(json.dumps(vectors.tolist()))
    """)
    X, y = training_data["classes"]
    environment = {**_environment(), **launched}
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps([X, y]), text=True, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    alone = SentenceEmbeddingFineTuner(tiny, **FAST).fit(X, y).transform(X)
    assert_allclose(json.loads(done.stdout), alone, atol=1e-5)


def test_pairs_are_tuned_by_their_similarity(training_data, tiny):
    X, y = training_data["scores"]
    tuner = SentenceEmbeddingFineTuner(tiny, epochs=3, **FAST)
    by_hand = tuner.fit(X, y)
    cosines = PairSimilarity(tuner).fit(X, y).transform(X)
    left, right = (by_hand.transform([pair[side] for pair in X]) for side in (0, 1))
    assert_allclose(cosines.ravel(), (left * right).sum(axis=1), atol=1e-6)
