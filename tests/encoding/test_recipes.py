from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skembed.encoding.recipes import Recipe

RECIPE = Recipe(
    format_version=1,
    fingerprint="a" * 64,
    backend="torch",
    dtype="float32",
    prompt="",
    max_seq_length=256,
    split_long_texts=False,
    layers=(6,),
    pooling=("mean",),
    route=None,
)
OTHER_VALUE = {
    "format_version": 2,
    "fingerprint": "b" * 64,
    "backend": "openvino",
    "dtype": "bfloat16",
    "prompt": "query: ",
    "max_seq_length": 255,
    "split_long_texts": True,
    "layers": (5, 6),
    "pooling": ("cls",),
    "route": "query",
}
VIEW = ["layers", "pooling"]  # what one forward pass can give several of

SOME_RECIPE = st.builds(
    Recipe,
    format_version=st.integers(1, 3),
    fingerprint=st.text("0123456789abcdef", max_size=64),
    backend=st.sampled_from(["torch", "openvino"]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    prompt=st.text(max_size=10),
    max_seq_length=st.none() | st.integers(1, 10**9),
    split_long_texts=st.booleans(),
    layers=st.none() | st.lists(st.integers(0, 100), min_size=1, max_size=3).map(tuple),
    pooling=st.none() | st.lists(st.sampled_from(["mean", "cls", "max"]), min_size=1, max_size=3).map(tuple),
    route=st.none() | st.text(max_size=10),
)


def test_the_table_of_other_values_leaves_no_field_of_the_recipe_out():
    assert list(OTHER_VALUE) == [field.name for field in fields(Recipe)]


@given(SOME_RECIPE)
def test_equal_recipes_are_written_in_the_same_way(recipe):
    assert Recipe(**dict(reversed(asdict(recipe).items()))).to_json() == recipe.to_json()


@given(SOME_RECIPE)
def test_all_fields_are_written_by_name(recipe):
    written = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}
    assert json.loads(recipe.to_json()) == written


@given(SOME_RECIPE, SOME_RECIPE)
def test_recipes_that_differ_have_different_digests(recipe, other):
    assume(recipe != other)
    assert recipe.digest() != other.digest()


@pytest.mark.parametrize("field", OTHER_VALUE)
def test_a_digest_covers_every_field(field):
    assert replace(RECIPE, **{field: OTHER_VALUE[field]}).digest() != RECIPE.digest()


@pytest.mark.parametrize("field", ["max_seq_length", "layers", "pooling"])
def test_a_digest_tells_nothing_from_something(field):
    assert replace(RECIPE, **{field: None}).digest() != RECIPE.digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"layers": (1, 23)}, {"layers": (12, 3)}),
        ({"pooling": ("cls", "mean")}, {"pooling": ("mean", "cls")}),
        ({"pooling": ("mean",)}, {"pooling": ("mean", "mean")}),
        ({"prompt": "é"}, {"prompt": "e\u0301"}),
        ({"prompt": "a"}, {"prompt": "a "}),
        ({"prompt": '", "split_long_texts": true'}, {"prompt": "", "split_long_texts": True}),
    ],
    ids=["digits", "order", "repetition", "accents", "blanks", "quotes"],
)
def test_recipes_that_look_alike_have_different_digests(one, other):
    assert replace(RECIPE, **one).digest() != replace(RECIPE, **other).digest()


@given(SOME_RECIPE)
def test_a_digest_has_16_bytes(recipe):
    assert len(recipe.digest()) == 16


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_digest_is_the_same_in_every_process(hash_seed):
    done = subprocess.run(
        [sys.executable, "-c", f"from skembed.encoding.recipes import Recipe; print({RECIPE!r}.digest().hex())"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
    )
    assert done.stdout.strip() == RECIPE.digest().hex()


@given(SOME_RECIPE, st.none() | st.just((1, 2)), st.none() | st.just(("cls", "max")))
def test_recipes_that_differ_in_layers_and_pooling_have_the_same_base_recipe(recipe, layers, pooling):
    assert replace(recipe, layers=layers, pooling=pooling).base_recipe == recipe.base_recipe


@pytest.mark.parametrize("field", [field for field in OTHER_VALUE if field not in VIEW])
def test_recipes_that_differ_in_anything_else_have_different_base_recipes(field):
    assert replace(RECIPE, **{field: OTHER_VALUE[field]}).base_recipe != RECIPE.base_recipe


@given(SOME_RECIPE)
def test_a_base_recipe_is_its_own_base_recipe(recipe):
    assert recipe.base_recipe.base_recipe == recipe.base_recipe


@pytest.mark.parametrize("field", OTHER_VALUE)
def test_recipes_cannot_be_changed(field):
    with pytest.raises(FrozenInstanceError):
        setattr(RECIPE, field, OTHER_VALUE[field])
