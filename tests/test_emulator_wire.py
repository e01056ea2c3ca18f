"""What is known of the hosted API's wire and no capture shows: one test for each statement, for each model."""

from typing import Any

import anyio
import httpx
import pytest

from jina_rerank.catalog import Model, models
from jina_rerank.emulator import create_app

QUERY = "organic skin care"
DOCUMENTS: list[Any] = ["engine oil", {"text": "organic care of the skin", "id": 7}, "aloe vera cream for the skin"]
V2 = "jina-reranker-v2-base-multilingual"
EVERY_MODEL = pytest.mark.parametrize("model", models(), ids=lambda model: model.name)


def ask(body: dict[str, Any] | None = None, method: str = "POST", path: str = "/v1/rerank") -> httpx.Response:
    """What the emulator answers."""

    async def main() -> httpx.Response:
        headers = {"Authorization": "Bearer jina_any"}
        transport = httpx.ASGITransport(create_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=headers) as client:
            return await client.request(method, path, json=body)

    return anyio.run(main)


def rerank(model: str, **fields: Any) -> httpx.Response:
    return ask({"model": model, "query": QUERY, "documents": DOCUMENTS, **fields})


@EVERY_MODEL
def test_all_models_answer_with_the_same_keys_in_the_same_order(model: Model) -> None:
    answer = rerank(model.name, return_documents=False).json()
    assert list(answer) == ["model", "object", "usage", "results"]
    assert (answer["model"], answer["object"], list(answer["usage"])) == (model.name, "list", ["total_tokens"])
    assert [list(result) for result in answer["results"]] == [["index", "relevance_score"]] * 3


@EVERY_MODEL
def test_documents_come_back_in_the_manner_of_the_models_family(model: Model) -> None:
    echoed = {result["index"]: result["document"] for result in rerank(model.name).json()["results"]}
    as_sent = model.scoring == "pointwise"
    texts = [{"text": document["text"] if isinstance(document, dict) else document} for document in DOCUMENTS]
    assert [echoed[index] for index in range(3)] == (DOCUMENTS if as_sent else texts)


@EVERY_MODEL
def test_scores_of_pointwise_models_lie_between_0_and_1_and_cosines_may_be_negative(model: Model) -> None:
    scores = [result["relevance_score"] for result in rerank(model.name).json()["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert (scores[-1] < 0) == (model.scoring == "listwise")


@EVERY_MODEL
def test_query_is_billed_once_and_truncated_documents_in_full(model: Model) -> None:
    answers = [rerank(model.name, **fields).json() for fields in ({}, {"top_n": 1})]
    assert [len(answer["results"]) for answer in answers] == [3, 1]
    assert [answer["usage"] for answer in answers] == [{"total_tokens": 4 + 2 + 6 + 7}] * 2


@EVERY_MODEL
def test_only_models_with_vectors_return_embeddings(model: Model) -> None:
    response = rerank(model.name, return_embeddings=True)
    assert response.status_code == (200 if model.embeddings else 400)


@pytest.mark.parametrize(("model", "limit"), [("jina-reranker-v3", 2_048), ("jina-reranker-v3.5", 8_192)])
def test_listwise_models_read_a_document_up_to_their_own_limit(model: str, limit: int) -> None:
    def scores(words: int, **fields: Any) -> dict[int, float]:
        documents = [" ".join(["oil"] * words + ["skin"]), "oil"]
        results = rerank(model, documents=documents, **fields).json()["results"]
        return {result["index"]: result["relevance_score"] for result in results}

    assert scores(limit) == scores(limit + 1_000)  # of neither is the last word read
    assert scores(limit - 1) != scores(limit)
    assert scores(limit, truncate=False) != scores(limit)  # it fits into the context, and may not be cut
    long = rerank(model, documents=["oil " * (limit + 1_000)])
    assert long.json()["usage"] == {"total_tokens": 4 + limit}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"max_doc_length": 0}, "greater_than_equal"),
        ({"top_n": -1}, "greater_than_equal"),
        ({"documents": []}, "too_short"),
    ],
)
def test_request_that_violates_openapi_schema_is_invalid(fields: dict[str, Any], kind: str) -> None:
    response = rerank("jina-reranker-v3.5", **fields)
    assert response.status_code == 422
    body = response.json()
    assert list(body) == ["detail", "request_id", "errors"]
    [error] = body["errors"]
    assert (error["field"], error["type"]) == (f"body -> {next(iter(fields))}", kind)


@pytest.mark.parametrize(
    "field",
    [
        "task",
        "instruction",
        "max_query_length",
        "max_chunks_per_doc",
        "overlap_tokens",
        "raw_scores",
        "rank_fields",
        "user",
    ],
)
def test_fields_of_other_vendors_change_nothing(field: str) -> None:
    assert rerank(V2, **{field: True}).json() == rerank(V2).json()


@pytest.mark.parametrize("path", ["/health", "/ready", "/live"])
def test_probes_are_not_found_as_in_production(path: str) -> None:
    response = ask(method="GET", path=path)
    assert (response.status_code, response.json()["detail"]) == (404, "Invalid endpoint")
