"""``embed``: the vectors of the transformer, in one call and without scikit-learn."""

from __future__ import annotations

import subprocess
import sys

import pytest
from numpy.testing import assert_array_equal

import skembed
from skembed import SentenceEmbeddingTransformer, embed
from skembed.encoding.settings import Settings


def test_vectors_are_those_of_the_transformer(tiny, mixed_texts):
    params = {"model": tiny, "pooling": "max", "max_seq_length": 12, "long_texts": "mean"}
    assert_array_equal(embed(mixed_texts, **params), SentenceEmbeddingTransformer(**params).transform(mixed_texts))


def test_defaults_are_those_of_the_transformer():
    assert vars(Settings()) == SentenceEmbeddingTransformer().get_params()


def test_an_unknown_parameter_is_named_beside_those_there_are(tiny):
    with pytest.raises(TypeError, match=r"embed\(\) got an unexpected keyword argument 'batch_size'; .*batch_tokens"):
        embed(["a"], model=tiny, batch_size=3)


DOORS = {
    "BatchEmbedder": lambda **params: skembed.BatchEmbedder("text", **params),
    "embed_parquet": lambda **params: skembed.embed_parquet("texts.parquet", "out", "text", **params),
    "skembed.frames.dask.embed": lambda **params: pytest.importorskip("skembed.frames.dask").embed(
        None, "text", **params
    ),
    "skembed.frames.ray.embed": lambda **params: pytest.importorskip("skembed.frames.ray").embed(
        None, "text", **params
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_every_door_names_itself_and_what_it_takes(name):
    own = {"embed_parquet": "rows_per_file", "skembed.frames.ray.embed": "num_gpus"}.get(name, "vector_column")
    message = rf"^{name}\(\) got an unexpected keyword argument 'batch_size_'; it takes .*{own}.*batch_tokens"
    with pytest.raises(TypeError, match=message):
        DOORS[name](batch_size_=3)


def test_the_warning_of_cut_texts_points_to_the_callers_line(tiny):
    with pytest.warns(skembed.TruncationWarning) as caught:
        embed(["fox " * 500], model=tiny)
    assert caught[0].filename == __file__


@pytest.mark.slow
def test_scikit_learn_is_not_imported(tiny):
    code = "import sys; from skembed.embedding import embed; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
