"""The parameters of a training: each illegal value is one clear error."""

from __future__ import annotations

import pytest

from skembed.training.settings import TrainingSettings

DEFAULTS = {
    "loss": "auto",
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 2e-5,
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
    "n_pairs_per_text": 20,
    "lora_rank": None,
    "matryoshka_dims": None,
    "validation_fraction": 0.1,
    "early_stopping": False,
    "n_iter_no_change": 3,
    "checkpoint_dir": None,
}


def test_the_defaults_are_valid():
    assert TrainingSettings(**DEFAULTS).epochs == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs must be a positive integer; got 0"),
        ("epochs", 1.5, "epochs must be a positive integer; got 1.5"),
        ("batch_size", True, "batch_size must be a positive integer; got True"),
        ("n_pairs_per_text", -1, "n_pairs_per_text must be a positive integer"),
        ("n_pairs_per_text", 1, "n_pairs_per_text must be 2 or more"),
        ("n_iter_no_change", "3", "n_iter_no_change must be a positive integer"),
        ("lora_rank", 0, "lora_rank must be a positive integer"),
        ("matryoshka_dims", (64, 0), "each of matryoshka_dims must be a positive integer; got 0"),
        ("matryoshka_dims", 64, r"matryoshka_dims must be a list of dimensions, e\.g\. \[256, 128\], or None; got 64"),
        ("matryoshka_dims", [], "matryoshka_dims must be a list of dimensions"),
        ("learning_rate", 0.0, "learning_rate must be a number, positive; got 0.0"),
        ("learning_rate", float("inf"), "learning_rate must be a number, positive; got inf"),
        ("warmup_ratio", 1.0, "warmup_ratio must be a number, from 0 to below 1; got 1.0"),
        ("weight_decay", -0.1, "weight_decay must be a number, 0 or more; got -0.1"),
        ("validation_fraction", 1.0, "validation_fraction must be a number, between 0 and 1; got 1.0"),
        ("early_stopping", "yes", "early_stopping must be True or False; got 'yes'"),
        ("checkpoint_dir", "", "checkpoint_dir must be a folder or None; got ''"),
        ("checkpoint_dir", 3, "checkpoint_dir must be a folder or None; got 3"),
    ],
)
def test_an_invalid_value_is_one_clear_error(name, value, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TrainingSettings(**{**DEFAULTS, name: value})
