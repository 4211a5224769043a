"""Prompts of a search for queries and for documents: the model's own, or the caller's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import TfidfVectorizer

import skembed
from skembed import ModelNotFoundError, SemanticSearch, SentenceEmbeddingTransformer

CORPUS = ["a quick fox", "the wrong address", "an update of the app"]
QUERIES = ["where is the fox", "login"]
BGE = "Represent this sentence for searching relevant passages: "


@pytest.fixture(scope="session")
def with_prompts(tiny, tmp_path_factory):
    """Return ``with_prompts(prompts)``: the folder of the tiny model with other prompts."""

    def make(prompts, default_prompt_name=None, name="model") -> str:
        folder = tmp_path_factory.mktemp("prompts") / name
        shutil.copytree(tiny, folder)
        file = folder / "config_sentence_transformers.json"
        said = {**json.loads(file.read_text()), "prompts": prompts, "default_prompt_name": default_prompt_name}
        file.write_text(json.dumps(said))
        return str(folder)

    return make


@pytest.fixture(scope="session")
def plain(with_prompts) -> str:
    """The tiny model without prompts."""
    return with_prompts({})


def prompts_of(model, **params) -> tuple[str, str]:
    search = SemanticSearch(SentenceEmbeddingTransformer(model, **params))
    return search.query_prompt_, search.document_prompt_


def assert_embeds(search, model, query_prompt, document_prompt):
    """Check that scores are those of ``skembed.embed`` with these prompts."""
    made = search.set_params(n_neighbors=len(CORPUS)).fit(CORPUS).search(QUERIES).sort_values(["query", "position"])
    queries = skembed.embed(sorted(QUERIES), model=model, prompt=query_prompt, normalize_embeddings=True)
    documents = skembed.embed(CORPUS, model=model, prompt=document_prompt, normalize_embeddings=True)
    expected = np.einsum("id,jd->ij", queries.astype(float), documents.astype(float))
    assert_allclose(made["score"].to_numpy().reshape(expected.shape), expected, atol=1e-6)


# The model's own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({"query": "Q: ", "document": "D: "}, "Q: ", "D: "),
        ({"query": "Q: ", "passage": "P: "}, "Q: ", "P: "),
        ({"query": "Q: ", "corpus": "C: "}, "Q: ", "C: "),
        ({"query": "Q: ", "document": "D: ", "passage": "P: ", "corpus": "C: "}, "Q: ", "D: "),
        ({"query": "Q: ", "passage": "P: ", "corpus": "C: "}, "Q: ", "P: "),
        ({"query": "Q: ", "document": ""}, "Q: ", ""),
        ({"query": "Q: "}, "Q: ", ""),
        ({"document": "D: "}, "", "D: "),
        ({"passage": "P: "}, "", "P: "),
        ({"query": "", "document": ""}, "", ""),
        ({"classification": "Classify: "}, "", ""),
        ({}, "", ""),
    ],
    ids=str,
)
def test_queries_and_documents_get_the_prompts_that_the_model_has_for_them(prompts, query, document, with_prompts):
    assert prompts_of(with_prompts(prompts)) == (query, document)


def test_texts_are_embedded_with_the_prompts_of_their_side(with_prompts):
    model = with_prompts({"query": "where is ", "passage": "the address of "})
    assert_embeds(SemanticSearch(SentenceEmbeddingTransformer(model)), model, "where is ", "the address of ")


def test_the_prompts_are_known_before_fit_and_after(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny))
    before = search.query_prompt_, search.document_prompt_
    search.fit(CORPUS)
    assert before == (search.query_prompt_, search.document_prompt_) == ("search for: ", "")


def test_a_models_default_prompt_holds_for_both_sides_if_it_has_none_for_either(with_prompts):
    assert prompts_of(with_prompts({"all": "A: "}, "all")) == ("A: ", "A: ")


def test_a_models_default_prompt_is_not_put_before_the_other_side(with_prompts):
    assert prompts_of(with_prompts({"query": "Q: "}, "query")) == ("Q: ", "")


def test_a_loaded_model_has_its_prompts_too(tiny):
    model = SentenceTransformer(tiny, device="cpu")
    model.prompts = {"query": "Q: ", "document": "D: "}
    assert prompts_of(model) == ("Q: ", "D: ")


def test_a_static_model_without_prompts_has_none(model_folder):
    assert prompts_of(model_folder("static")) == ("", "")


def test_the_default_model_has_none():
    assert (SemanticSearch().query_prompt_, SemanticSearch().document_prompt_) == ("", "")


# Models that were trained with prompts that their files may lack


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        *[(name, "query: ", "passage: ") for name in ("e5-small", "E5-base-v2", "multilingual-e5-large")],
        *[(name, BGE, "") for name in ("bge-small-en", "bge-base-en-v1.5", "BGE-large-en-v1.5")],
        *[(name, "", "") for name in ("bge-m3", "my-e5-small", "e5-small-v2-tuned", "e5-mistral-7b-instruct")],
    ],
)
def test_the_prompts_of_e5_and_bge_models_are_known_by_their_names(name, query, document, plain, tmp_path):
    folder = tmp_path / name
    folder.symlink_to(plain, target_is_directory=True)
    assert prompts_of(str(folder)) == (query, document)


@pytest.mark.parametrize("spell", [str, lambda path: f"{path}/", Path], ids=["str", "with a slash", "Path"])
def test_a_folder_is_recognized_however_it_is_spelled(spell, plain, tmp_path):
    (tmp_path / "e5-small-v2").symlink_to(plain, target_is_directory=True)
    assert prompts_of(spell(tmp_path / "e5-small-v2")) == ("query: ", "passage: ")


def test_a_relative_folder_is_recognized(plain, tmp_path, monkeypatch):
    (tmp_path / "e5-small-v2").symlink_to(plain, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    assert prompts_of("e5-small-v2") == ("query: ", "passage: ")


def test_known_prompts_are_put_before_the_texts(plain, tmp_path):
    (tmp_path / "e5-small-v2").symlink_to(plain, target_is_directory=True)
    model = str(tmp_path / "e5-small-v2")
    assert_embeds(SemanticSearch(SentenceEmbeddingTransformer(model)), model, "query: ", "passage: ")


def test_prompts_in_the_models_files_override_those_known_by_its_name(with_prompts):
    assert prompts_of(with_prompts({"query": "Q: "}, name="e5-small-v2")) == ("Q: ", "")


# The caller's


@pytest.mark.parametrize(("prompt", "known"), [("where is ", "where is "), ("", ""), (None, "")])
def test_a_prompt_of_the_caller_replaces_that_of_the_model(prompt, known, with_prompts):
    model = with_prompts({"query": "Q: ", "document": "D: "})
    search = SemanticSearch(SentenceEmbeddingTransformer(model), query_prompt=prompt)
    assert (search.query_prompt_, search.document_prompt_) == (known, "D: ")
    assert_embeds(search, model, known, "D: ")


@pytest.mark.parametrize(("prompt", "known"), [("the address of ", "the address of "), (None, "")])
def test_a_document_prompt_of_the_caller_replaces_that_of_the_model(prompt, known, with_prompts):
    model = with_prompts({"query": "Q: ", "document": "D: "})
    search = SemanticSearch(SentenceEmbeddingTransformer(model), document_prompt=prompt)
    assert (search.query_prompt_, search.document_prompt_) == ("Q: ", known)
    assert_embeds(search, model, "Q: ", known)


@pytest.mark.parametrize(
    ("params", "prompt"), [({"prompt": "own: "}, "own: "), ({"prompt": ""}, ""), ({"prompt_name": "query"}, "Q: ")]
)
def test_the_prompt_of_the_embedder_is_used_for_both_sides(params, prompt, with_prompts):
    model = with_prompts({"query": "Q: ", "document": "D: "})
    assert prompts_of(model, **params) == (prompt, prompt)
    assert_embeds(SemanticSearch(SentenceEmbeddingTransformer(model, **params)), model, prompt, prompt)


def test_the_prompt_of_the_search_overrides_that_of_the_embedder(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny, prompt="own: "), query_prompt="Q: ")
    assert (search.query_prompt_, search.document_prompt_) == ("Q: ", "own: ")


def test_another_prompt_for_queries_takes_effect_without_fitting_again(tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=3).fit(CORPUS)
    expected = SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=3, query_prompt="fox ").fit(CORPUS)
    found = search.set_params(query_prompt="fox ").search(QUERIES)
    assert_allclose(found["score"], expected.search(QUERIES)["score"], atol=1e-6)


# Tasks


def cosines_of(queries, documents):
    queries, documents = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (queries, documents))
    return queries @ documents.T


@pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
@pytest.mark.parametrize("live", [False, True], ids=["by path", "loaded"])
@pytest.mark.parametrize("kind", ["router", "router_without_default", "router_static", "lengths"])
def test_queries_and_documents_take_their_own_route(kind, live, model_folder, reference):
    embedder = SentenceEmbeddingTransformer(reference(kind) if live else model_folder(kind))
    found = SemanticSearch(embedder).fit(CORPUS).search(QUERIES, k=3).sort_values(["query", "position"])
    expected = cosines_of(reference(kind).encode_query(sorted(QUERIES)), reference(kind).encode_document(CORPUS))
    assert_allclose(found["score"].to_numpy().reshape(expected.shape), expected, atol=1e-5)


def test_documents_that_are_added_and_a_search_that_was_saved_take_their_route_too(model_folder, reference, tmp_path):
    embedder = SentenceEmbeddingTransformer(model_folder("router_without_default"))
    SemanticSearch(embedder).fit(CORPUS[:1]).partial_fit(CORPUS[1:]).save(tmp_path / "search")
    found = SemanticSearch.load(tmp_path / "search").search(QUERIES[0], k=3).sort_values("position")
    model = reference("router_without_default")
    expected = cosines_of(model.encode_query(QUERIES[:1]), model.encode_document(CORPUS))
    assert_allclose(found["score"].to_numpy(), expected[0], atol=1e-5)


def test_a_prompt_of_the_caller_leaves_the_route(model_folder, reference):
    model = reference("router")
    search = SemanticSearch(SentenceEmbeddingTransformer(model), query_prompt="Q: ", document_prompt=None).fit(CORPUS)
    found = search.search(QUERIES[0], k=3).sort_values("position")
    queries, documents = model.encode_query(QUERIES[:1], prompt="Q: "), model.encode_document(CORPUS, prompt="")
    assert_allclose(found["score"].to_numpy(), cosines_of(queries, documents)[0], atol=1e-5)


@pytest.mark.parametrize("task", ["query", "document"])
def test_the_task_of_the_embedder_is_used_for_both_sides(task, model_folder, reference):
    search = SemanticSearch(SentenceEmbeddingTransformer(model_folder("router"), task=task)).fit(CORPUS)
    encode = {"query": reference("router").encode_query, "document": reference("router").encode_document}[task]
    found = search.search(QUERIES[0], k=3).sort_values("position")
    assert_allclose(found["score"].to_numpy(), cosines_of(encode(QUERIES[:1]), encode(CORPUS))[0], atol=1e-5)


def test_an_embedder_of_another_kind_has_no_prompts():
    search = SemanticSearch(TfidfVectorizer()).fit(CORPUS)
    assert (search.query_prompt_, search.document_prompt_) == ("", "")


def test_vectors_get_no_prompt(counted, tiny):
    search = SemanticSearch(SentenceEmbeddingTransformer(tiny), n_neighbors=1).fit(np.eye(3))
    assert search.search(np.eye(3))["position"].tolist() == [0, 1, 2]
    assert counted == []


@pytest.mark.parametrize("side", ["query_prompt", "document_prompt"])
@pytest.mark.parametrize("prompt", [5, b"Q: ", ["Q: "], True], ids=repr)
def test_fit_refuses_a_prompt_that_is_not_a_text(side, prompt, counted, tiny):
    with pytest.raises(TypeError, match=f"{side} must be a str or None; got {type(prompt).__name__}"):
        SemanticSearch(SentenceEmbeddingTransformer(tiny)).set_params(**{side: prompt}).fit(CORPUS)
    assert counted == []


def test_an_unknown_prompt_name_is_refused_with_those_that_the_model_has(tiny):
    with pytest.raises(ValueError, match="prompt_name='question': the model's prompts are 'query', 'document'"):
        SemanticSearch(SentenceEmbeddingTransformer(tiny, prompt_name="question")).fit(CORPUS)


def test_texts_without_their_model_are_an_error(tmp_path):
    with pytest.raises(ModelNotFoundError):
        SemanticSearch(SentenceEmbeddingTransformer(str(tmp_path / "nowhere"))).fit(CORPUS)


def test_a_search_of_vectors_whose_model_is_not_there_can_be_shown(tmp_path):
    search = SemanticSearch(SentenceEmbeddingTransformer(str(tmp_path / "nowhere")), n_neighbors=1).fit(np.eye(3))
    assert "SemanticSearch" in search._repr_html_()
    with pytest.raises(AttributeError, match="query_prompt_ is unknown: no text has been embedded yet"):
        _ = search.query_prompt_
