"""``task``: prompt, token limit and route, as in encode_query and encode_document of sentence-transformers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from tokenizers import normalizers

import skembed
from skembed import EmbeddingCache, SentenceEmbeddingTransformer, embed
from skembed.encoding.models.fingerprint import fingerprint_live

TASKS = ["query", "document"]
KINDS = ["router", "router_without_default", "router_static", "router_dense", "lengths", "bert", "static", "dense"]
LONG = "a parcel was sent to the wrong address last week and nobody answers " * 3

pytestmark = pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")


def encode_as(task, model):
    return {"query": model.encode_query, "document": model.encode_document, None: model.encode}[task]


@pytest.mark.parametrize("live", [False, True], ids=["by path", "loaded"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_encode_query_and_encode_document(kind, task, live, model_folder, reference, mixed_texts):
    model = reference(kind) if live else model_folder(kind)
    expected = encode_as(task, reference(kind))(mixed_texts)
    assert_allclose(embed(mixed_texts, model=model, task=task), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["router", "router_static", "router_dense", "lengths"])
def test_a_task_makes_a_difference_to_these_models(kind, model_folder):
    each = [embed(["a quick fox " * 9], model=model_folder(kind), task=task) for task in TASKS]
    assert each[0].shape != each[1].shape or np.abs(each[0] - each[1]).max() > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "router_without_default"])
def test_without_a_task_vectors_are_those_of_encode(kind, model_folder, reference, mixed_texts):
    assert_allclose(embed(mixed_texts, model=model_folder(kind)), reference(kind).encode(mixed_texts), atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("given", [{"prompt": "the fox "}, {"prompt": ""}, {"prompt_name": "query"}], ids=str)
@pytest.mark.parametrize("kind", ["router", "lengths"])
def test_a_prompt_that_is_given_wins_and_the_route_stays(kind, given, task, model_folder, reference, mixed_texts):
    expected = encode_as(task, reference(kind))(mixed_texts, **given)
    assert_allclose(embed(mixed_texts, model=model_folder(kind), task=task, **given), expected, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "prompts", [{"query": "q "}, {"passage": "p "}, {"corpus": "c "}, {"document": "d ", "passage": "p "}, {}], ids=str
)
def test_prompts_are_found_under_the_names_that_sentence_transformers_looks_for(prompts, task, tiny):
    model = SentenceTransformer(tiny, prompts={"all": "every "} | prompts, default_prompt_name="all", device="cpu")
    assert_allclose(embed(["fox"], model=model, task=task), encode_as(task, model)(["fox"]), atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_routes_by_mapping_are_taken_too(task, reference):
    query, document = (list(reference("router")[0].sub_modules[side]) for side in TASKS)
    mappings = {("query", "text"): "small", ("document", None): "large", (None, None): "large"}
    router = Router({"large": document, "small": query}, route_mappings=mappings)
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    assert_allclose(embed(["fox", LONG], model=model, task=task), encode_as(task, model)(["fox", LONG]), atol=1e-5)


def test_a_module_with_a_task_argument_is_passed_the_task(reference):
    class Scale(torch.nn.Module):
        forward_kwargs = {"task"}  # noqa: RUF012 - as sentence-transformers declares it

        def forward(self, features, task=None):
            features["sentence_embedding"] = features["sentence_embedding"] * {None: 1, "query": 2, "document": 3}[task]
            return features

    model = SentenceTransformer(modules=[*list(reference("bert").children())[:2], Scale()], device="cpu")
    for task in (None, *TASKS):
        assert_allclose(embed(["fox"], model=model, task=task), encode_as(task, model)(["fox"]), atol=1e-5)


def test_a_module_that_gets_the_task_by_the_models_files_is_passed_it(reference):
    class Shift(torch.nn.Module):
        def forward(self, features, task=None):
            features["sentence_embedding"] = features["sentence_embedding"] + len(task or "")
            return features

    model = SentenceTransformer(modules=[*list(reference("bert").children())[:2], Shift()], device="cpu")
    model.module_kwargs = {"2": ["task"]}  # as loading a model with such a modules.json leaves it
    for task in (None, *TASKS):
        assert_allclose(embed(["fox"], model=model, task=task), encode_as(task, model)(["fox"]), atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_model_without_a_place_for_the_task_is_not_passed_it(task, model_folder):
    class Plain(torch.nn.Module):
        max_seq_length = None

        def __init__(self, table):
            super().__init__()
            self.table = table

        def preprocess(self, inputs, prompt=None):
            return self.table.preprocess([(prompt or "") + text for text in inputs])

        def forward(self, features):
            return self.table(features)

    model = SentenceTransformer(model_folder("static"), device="cpu")
    model = SentenceTransformer(modules=[Plain(model[0])], device="cpu")
    assert_allclose(embed(["fox"], model=model, task=task), model.encode(["fox"]), atol=1e-6)
    assert n_computed(EmbeddingCache(), {"model": model}, {"model": model, "task": task}) == [2, 0]


# Token limits


@pytest.mark.parametrize(("task", "limit"), [("query", 6), (None, 24), ("document", 40)])
def test_the_models_own_limit_for_a_task_holds(task, limit, model_folder):
    with pytest.warns(skembed.TruncationWarning, match=f"1 of 1 texts have more than {limit} tokens"):
        embed([LONG], model=model_folder("lengths"), task=task)


def test_a_limit_that_is_given_wins(model_folder):
    params = {"model": model_folder("lengths"), "max_seq_length": 9}
    assert_array_equal(embed([LONG], task="query", **params), embed([LONG], prompt_name="query", **params))


def test_texts_that_a_route_cuts_are_counted_by_its_own_limit(reference):
    router = Router.for_query_document(*(list(reference("router")[0].sub_modules[side]) for side in TASKS))
    router.sub_modules["query"][0].query_length = 5
    try:
        model = SentenceTransformer(modules=[router], device="cpu")
        with pytest.warns(skembed.TruncationWarning, match="1 of 2 texts have more than 5 tokens"):
            embed(["fox", LONG], model=model, task="query")
        with pytest.raises(
            ValueError, match=r"X\[1\] has \d+ tokens, more than the 5 .* or choose long_texts='truncate'"
        ):
            embed(["fox", LONG], model=model, task="query", long_texts="error")
    finally:
        router.sub_modules["query"][0].query_length = None


# Cache


def n_computed(cache, *calls) -> list[int]:
    """Count the texts that each call computes."""
    counts = []
    for params in calls:
        before = cache.stats()["misses"]
        embed(["fox", LONG], cache=cache, **params)
        counts.append(cache.stats()["misses"] - before)
    return counts


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_routes_never_share_vectors(where, model_folder, reference, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache") if where == "disk" else EmbeddingCache()
    model = model_folder("router")
    for task in (*TASKS, *TASKS):
        found = embed(["fox", LONG], model=model, task=task, prompt="", cache=cache)
        assert_allclose(found, encode_as(task, reference("router"))(["fox", LONG], prompt=""), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "static", "dense"])
def test_a_task_that_changes_nothing_costs_no_second_vector(kind, model_folder):
    calls = [{"model": model_folder(kind), "task": task, "prompt": ""} for task in (None, *TASKS)]
    assert n_computed(EmbeddingCache(), *calls) == [2, 0, 0]


def test_the_default_route_and_its_task_share_vectors(model_folder):
    calls = [{"model": model_folder("router"), "task": task, "prompt": ""} for task in (None, "document", "query")]
    assert n_computed(EmbeddingCache(), *calls) == [2, 0, 2]


def test_a_task_and_the_same_prompt_by_name_share_vectors(tiny):
    calls = [{"model": tiny, "task": "query"}, {"model": tiny, "prompt_name": "query"}, {"model": tiny}]
    assert n_computed(EmbeddingCache(), *calls) == [2, 0, 2]


def test_a_limit_of_a_task_is_part_of_the_key(model_folder):
    calls = [{"model": model_folder("lengths"), "task": task, "prompt": ""} for task in (None, *TASKS)]
    assert n_computed(EmbeddingCache(), *calls) == [2, 2, 2]


def test_models_whose_routes_differ_in_a_tokenizer_alone_share_nothing(reference):
    models = [copy.deepcopy(reference("router")) for _ in range(2)]
    models[1][0].sub_modules["query"][0].tokenizer.backend_tokenizer.normalizer = normalizers.Replace("f", "d")
    assert fingerprint_live(models[0]) != fingerprint_live(models[1])
    for model in models:
        assert_allclose(embed(["fox"], model=model, task="query"), model.encode_query(["fox"]), atol=1e-5)


# Errors


@pytest.mark.parametrize("task", ["Query", "passage", "", 1, True, ["query"]], ids=repr)
def test_another_task_is_refused(task):
    with pytest.raises(ValueError, match="task must be None or 'query' or 'document'"):
        embed(["fox"], task=task)


def test_no_task_for_a_model_without_a_default_route_is_refused_with_its_routes(model_folder):
    with pytest.raises(ValueError, match=r"task=None .* routes are 'query' and 'document', .*; choose task='query' or"):
        embed(["fox"], model=model_folder("router_without_default"))


def test_a_task_without_a_route_is_refused_with_the_routes_of_the_model(reference):
    router = Router({"main": list(reference("bert").children())[:2]})
    model = SentenceTransformer(modules=[router], device="cpu")
    with pytest.raises(ValueError, match=r"task='query' .* routes are 'main', .*; omit it"):
        embed(["fox"], model=model, task="query")
    assert embed(["fox"], model=model).shape == (1, 32)


# As a parameter


def test_the_transformer_takes_it_and_a_change_takes_effect_at_once(model_folder):
    transformer = SentenceEmbeddingTransformer(model_folder("router"), task="query").fit(["fox"])
    for task in TASKS:
        found = transformer.set_params(task=task).transform(["fox"])
        assert_array_equal(found, embed(["fox"], model=model_folder("router"), task=task))


def test_the_dimensions_are_those_of_the_route(model_folder):
    for task, dim in [("query", 16), ("document", 20), (None, 20)]:
        transformer = SentenceEmbeddingTransformer(model_folder("router_dense"), task=task)
        assert len(transformer.get_feature_names_out()) == dim
        assert transformer.fit_transform(["fox"]).shape == (1, dim)


def test_it_is_searched_with_one_pass_for_each_route(model_folder):
    cache, X, y = EmbeddingCache(), [f"fox {number}" for number in range(12)], [0, 1] * 6
    pipe = make_pipeline(SentenceEmbeddingTransformer(model_folder("router"), cache=cache), LogisticRegression())
    search = GridSearchCV(pipe, {"sentenceembeddingtransformer__task": [None, *TASKS]}, cv=2)
    assert skembed.precompute(search, X).settings == 3
    assert (
        cache.stats()["misses"] == 36
    )  # without a task there is no prompt, so that it shares no vectors with documents
    search.fit(X, y)
    assert cache.stats()["misses"] == 36
