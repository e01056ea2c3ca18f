"""Every envelope in which servers refuse, to the error that users see."""

import json
import pickle
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import respx

import jina_rerank
from jina_rerank import APIStatusError, RerankClient, RetryPolicy, ServerError
from jina_rerank.refusals import retry_after

from .servers import RawServer, http, send

pytestmark = pytest.mark.anyio

URL = "https://api.jina.ai/v1/rerank"
ID = "f309f88e0c7d4b1f8a1c3d2e5f607182"


async def refused(response: httpx.Response) -> APIStatusError:
    with respx.mock() as router:
        route = router.post(URL).mock(return_value=response)
        async with RerankClient("jina_key", retry=RetryPolicy(max_attempts=1)) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.rerank("q", ["a"])
        assert route.call_count == caught.value.attempts == 1
    assert caught.value.url == URL
    return caught.value


STATUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "InsufficientBalanceError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "APIStatusError",
    413: "RequestTooLargeError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    451: "APIStatusError",
    500: "ServerError",
    501: "ServerError",
    502: "ServerError",
    503: "ServerError",
    524: "ServerError",
    599: "ServerError",
}


@pytest.mark.smoke
@pytest.mark.parametrize(("status", "name"), STATUSES.items())
async def test_each_status_has_its_class(status: int, name: str) -> None:
    error = await refused(httpx.Response(status, json={"detail": "because", "request_id": ID, "code": "SOME_CODE"}))
    assert type(error) is getattr(jina_rerank, name)
    assert (error.status, error.message, error.request_id, error.code) == (status, "because", ID, "SOME_CODE")


FIELD_ERROR = {"field": "body -> top_n", "message": "Input should be a valid integer", "type": "int_type"}
ENVELOPES: dict[str, tuple[int, Any, dict[str, Any]]] = {
    "flat": (
        401,
        {"detail": "Invalid API key", "request_id": ID, "code": "AUTH_INVALID_API_KEY"},
        {"message": "Invalid API key", "code": "AUTH_INVALID_API_KEY", "request_id": ID},
    ),
    "nested": (
        400,
        {"detail": {"message": "Too long", "request_id": ID, "code": "INPUT_TOKEN_LIMIT_EXCEEDED"}},
        {"message": "Too long", "code": "INPUT_TOKEN_LIMIT_EXCEEDED", "request_id": ID},
    ),
    "nested, the id outside": (
        404,
        {"detail": {"message": "No such model", "code": "RESOURCE_NOT_FOUND"}, "request_id": ID},
        {"message": "No such model", "code": "RESOURCE_NOT_FOUND", "request_id": ID},
    ),
    "422 with errors": (
        422,
        {
            "detail": "Validation error: 'body -> top_n' Input should be a valid integer",
            "request_id": ID,
            "errors": [{**FIELD_ERROR, "input": "a whole document"}],
        },
        {
            "message": "Validation error: 'body -> top_n' Input should be a valid integer",
            "request_id": ID,
            "errors": (FIELD_ERROR,),
        },
    ),
    "FastAPI": (
        422,
        {"detail": [{"loc": ["body", "documents", 0], "msg": "str type expected", "type": "type_error", "input": "x"}]},
        {
            "message": "body -> documents -> 0: str type expected",
            "errors": ({"field": "body -> documents -> 0", "message": "str type expected", "type": "type_error"},),
        },
    ),
    "OpenAI": (
        400,
        {"error": {"message": "bad model", "type": "invalid_request_error", "param": "model", "code": None}},
        {"message": "bad model", "code": "invalid_request_error"},
    ),
    "OpenAI with the status for a code": (
        500,
        {"error": {"code": 500, "message": "input is too large", "type": "server_error"}},
        {"message": "input is too large", "code": "server_error"},
    ),
    "vLLM, flat": (
        400,
        {"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400},
        {"message": "no"},
    ),
    "TEI": (413, {"error": "batch too large", "error_type": "Validation"}, {"message": "batch too large"}),
    "SiliconFlow": (400, {"code": 20012, "message": "Model does not exist", "data": None}, {"code": "20012"}),
    "Cohere": (400, {"message": "invalid request"}, {"message": "invalid request", "code": None}),
    "a bare string": (
        422,
        "top_n - should be greater than or equal to 1",
        {"message": "top_n - should be greater than or equal to 1"},
    ),
    "a license": (
        403,
        {"error": {"code": "expired", "message": "no license", "type": "license_error"}},
        {"code": "expired"},
    ),
    "numbers that are no code": (
        400,
        {"detail": "x", "code": 10**30, "request_id": 5},
        {"code": None, "request_id": None},
    ),
}


@pytest.mark.smoke
@pytest.mark.parametrize(("status", "content", "expected"), ENVELOPES.values(), ids=ENVELOPES)
async def test_each_envelope_is_read(status: int, content: Any, expected: dict[str, Any]) -> None:
    error = await refused(httpx.Response(status, content=json.dumps(content)))
    assert {name: getattr(error, name) for name in expected} == expected
    assert "whole document" not in repr(error.__dict__)


CLOUDFLARE = b"<!DOCTYPE html><html><head><title>api.jina.ai | 524: A timeout\n occurred</title></head></html>"
BODIES = {
    "Cloudflare": (524, CLOUDFLARE, "api.jina.ai | 524: A timeout occurred"),
    "empty": (502, b"", "Bad Gateway"),
    "empty, of a status without a name": (524, b"", "the server refused without saying why"),
    "half of JSON": (503, b'{"detail": "Serv', "Service Unavailable"),
    "an array": (400, b"[1, 2]", "Bad Request"),
    "text of any length": (400, json.dumps({"detail": "x" * 9999}).encode(), "x" * 500 + "…"),
    "brackets without end": (500, b"[" * 100_000, "Internal Server Error"),
}


@pytest.mark.parametrize(("status", "body", "message"), BODIES.values(), ids=BODIES)
async def test_a_body_that_is_no_envelope_still_says_something(status: int, body: bytes, message: str) -> None:
    assert (await refused(httpx.Response(status, content=body))).message == message


async def test_an_empty_balance_is_an_error_of_its_own() -> None:
    content = {"detail": "Insufficient account balance.", "request_id": ID, "code": "AUTHZ_INSUFFICIENT_BALANCE"}
    error = await refused(httpx.Response(403, json=content))
    assert type(error) is jina_rerank.InsufficientBalanceError
    assert str(error) == (
        "HTTP 403: Insufficient account balance. "
        f"(code=AUTHZ_INSUFFICIENT_BALANCE, request_id={ID}, attempts=1, url={URL})"
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_named_and_never_followed(status: int) -> None:
    location = "https://elsewhere.example/v1/rerank?key=jina_key"
    error = await refused(httpx.Response(status, headers={"location": location}))
    assert type(error) is APIStatusError
    assert "elsewhere.example" in error.message
    assert "jina_key" not in str(error)


async def test_a_key_that_the_server_quotes_is_taken_out() -> None:
    error = await refused(httpx.Response(401, json={"detail": "Invalid API key: jina_key"}))
    assert error.message == "Invalid API key: [key]"


async def test_a_request_id_may_come_in_a_header() -> None:
    assert (await refused(httpx.Response(500, headers={"x-request-id": "abc"}))).request_id == "abc"


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": formatdate(1_000_000_030, usegmt=True)}, 30.0),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:50 -0000"}, 10.0),
        ({"retry-after": formatdate(999_999_999, usegmt=True)}, None),
        ({}, None),
        *[
            ({"retry-after": garbage}, None)
            for garbage in ("", "-5", "inf", "nan", "1_000", "\uff11", "1e3", "9" * 34, "soon", "0x10", "+5")
        ],
        ({"retry-after": "Fri, 31 Dec 100000 23:59:59 GMT"}, None),
        ({"retry-after": "Foo, 99 Bar 2026 99:99:99 GMT"}, None),
    ],
)
def test_retry_after_is_read_strictly(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_000_000_000.0) == seconds


async def test_the_wait_that_the_server_asks_for_is_on_the_error(raw_server: RawServer) -> None:
    date = formatdate(time.time() + 60, usegmt=True)
    raw_server.plays = [send(http(b'{"detail": "busy"}', 503, retry_after=date))]
    async with RerankClient(base_url=raw_server.url, retry=RetryPolicy(max_retry_after=1)) as client:
        with pytest.raises(ServerError) as caught:
            await client.rerank("q", ["a"])
    assert caught.value.retry_after is not None
    assert 30 < caught.value.retry_after <= 60
    assert len(raw_server.requests) == caught.value.attempts == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_request_without_a_key_says_why_none_was_sent(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failure(base_url: str | None = "http://127.0.0.1:9", **options: Any) -> APIStatusError:
        with respx.mock() as router:
            router.post("http://127.0.0.1:9/v1/rerank").respond(status, json={"detail": "Not authenticated"})
            async with RerankClient(base_url=base_url, retry=RetryPolicy(max_attempts=1), **options) as client:
                with pytest.raises(APIStatusError) as caught:
                    await client.rerank("q", ["a"])
        error: APIStatusError = pickle.loads(pickle.dumps(caught.value))
        return error

    monkeypatch.setenv("JINA_API_KEY", "jina_mine")
    withheld = await failure()
    assert withheld.message.startswith("Not authenticated; no key was sent: JINA_API_KEY goes only to the hosted API")
    assert withheld.message.endswith("to send a key there, pass api_key=")
    assert withheld.__notes__ == []  # "is the key whole?" is no question
    for sent in (await failure(api_key="sk-1"), await failure(headers={"Authorization": "Basic a"})):
        assert sent.message == "Not authenticated"
    monkeypatch.delenv("JINA_API_KEY")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", "http://127.0.0.1:9")
    missing = await failure(None)
    assert missing.message == "Not authenticated; no key was sent: JINA_API_KEY is not set; set it, or pass api_key="
