"""Private interfaces of other libraries are what the package takes them for."""

from __future__ import annotations

import pytest

from skembed import compat


@pytest.fixture
def states():
    """The dicts of accelerate's states, restored afterwards."""
    pytest.importorskip("accelerate")
    states = compat.accelerate_states()
    kept = [dict(state) for state in states]
    yield states
    for state, before in zip(states, kept, strict=True):
        state.clear()
        state.update(before)


def test_accelerate_keeps_its_states_in_these_dicts(states):
    from accelerate import Accelerator, PartialState

    accelerator = Accelerator(cpu=True)
    made = [PartialState(), accelerator.state, accelerator.gradient_state]
    assert all(one.__dict__ is state for one, state in zip(made, states, strict=True))


def test_a_trainer_resumes_by_the_loader_that_was_set(tiny, tmp_path):
    datasets = pytest.importorskip("datasets")
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from transformers import TrainerState

    class Trainer(SentenceTransformerTrainer):
        pass

    class LoadedError(Exception):
        pass

    def load(trainer, path):
        raise LoadedError(path)

    compat.set_checkpoint_loader(Trainer, load)
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    TrainerState().save_to_json(str(checkpoint / "trainer_state.json"))
    trainer = Trainer(
        model=SentenceTransformer(tiny, device="cpu"),
        args=SentenceTransformerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
        train_dataset=datasets.Dataset.from_dict({"a": ["a fox", "a dog"], "b": ["a fox", "a dog"]}),
    )
    with pytest.raises(LoadedError, match="checkpoint-1"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
