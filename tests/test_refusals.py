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
from jina_rerank._status_errors import retry_after

from .servers import RawServer, answer_body, http, send

pytestmark = pytest.mark.anyio

URL = "https://api.jina.ai/v1/rerank"
KEY = "jina_0123456789abcdef"
ID = "f309f88e0c7d4b1f8a1c3d2e5f607182"


async def refused(response: httpx.Response) -> APIStatusError:
    with respx.mock() as router:
        route = router.post(URL).mock(return_value=response)
        async with RerankClient(KEY, retry=RetryPolicy(max_attempts=1)) as client:
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


def litellm(body: dict[str, Any]) -> dict[str, Any]:
    """A body as LiteLLM's proxy passes it on."""
    message = (
        f"litellm.APIError: Jina_aiException - {json.dumps(body)}. Received Model Group=r\nAvailable Fallbacks=None"
    )
    return {"error": {"message": message, "type": None, "param": None, "code": "400"}}


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
    "Cohere, with an id": (400, {"id": ID, "message": "no"}, {"message": "no", "request_id": ID, "code": None}),
    "LiteLLM around Jina": (
        400,
        litellm({"detail": "Too long", "request_id": ID, "code": "INPUT_TOKEN_LIMIT_EXCEEDED"}),
        {"message": "Too long", "code": "INPUT_TOKEN_LIMIT_EXCEEDED", "request_id": ID},
    ),
    "LiteLLM around Jina, nested": (
        500,
        litellm({"detail": {"message": "Oh", "code": "INTERNAL_ERROR"}, "request_id": ID}),
        {"message": "Oh", "code": "INTERNAL_ERROR", "request_id": ID},
    ),
    "LiteLLM around nothing": (
        500,
        {"error": {"message": "None of {}", "type": "None", "param": "None", "code": "500"}},
        {"message": "None of {}", "code": None},
    ),
    "Jina's own, of a document that looks like a refusal": (
        422,
        {"detail": 'no: {"detail": "x", "code": "RATE_REQUEST_LIMIT_EXCEEDED"}', "request_id": ID},
        {"code": None},
    ),
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
    "empty, of a status without a name": (524, b"", "the server gave no reason"),
    "half of JSON": (503, b'{"detail": "Serv', "Service Unavailable"),
    "an array": (400, b"[1, 2]", "Bad Request"),
    "text of any length": (400, json.dumps({"detail": "x" * 9999}).encode(), "x" * 500 + "…"),
    "brackets without end": (500, b"[" * 100_000, "Internal Server Error"),
}


@pytest.mark.parametrize(("status", "body", "message"), BODIES.values(), ids=BODIES)
async def test_body_without_envelope_still_gives_message(status: int, body: bytes, message: str) -> None:
    assert (await refused(httpx.Response(status, content=body))).message == message


async def test_empty_balance_raises_insufficient_balance_error() -> None:
    content = {"detail": "Insufficient account balance.", "request_id": ID, "code": "AUTHZ_INSUFFICIENT_BALANCE"}
    error = await refused(httpx.Response(403, json=content))
    assert type(error) is jina_rerank.InsufficientBalanceError
    assert str(error) == (
        "HTTP 403: Insufficient account balance. "
        f"(code=AUTHZ_INSUFFICIENT_BALANCE, request_id={ID}, attempts=1, url={URL})"
    )


CODES = {
    "INPUT_MODEL_NOT_FOUND": "BadRequestError",
    "INPUT_TOKEN_LIMIT_EXCEEDED": "BadRequestError",
    "AUTH_MISSING_API_KEY": "AuthenticationError",
    "AUTH_INVALID_API_KEY": "AuthenticationError",
    "AUTH_INVALID_FORMAT": "AuthenticationError",
    "AUTHZ_INSUFFICIENT_BALANCE": "InsufficientBalanceError",
    "AUTHZ_RESOURCE_LIMIT_EXCEEDED": "PermissionDeniedError",
    "RESOURCE_NOT_FOUND": "NotFoundError",
    "CONFLICT_RESOURCE_BUSY": "APIStatusError",
    "RATE_REQUEST_LIMIT_EXCEEDED": "RateLimitError",
    "RATE_TOKEN_LIMIT_EXCEEDED": "RateLimitError",
    "RATE_CONCURRENCY_LIMIT_EXCEEDED": "RateLimitError",
    "RATE_IP_LIMIT_EXCEEDED": "RateLimitError",
    "INTERNAL_ERROR": "ServerError",
    "SERVICE_UNAVAILABLE": "ServerError",
    "SERVICE_TIMEOUT": "ServerError",
}


@pytest.mark.parametrize(("code", "name"), CODES.items())
async def test_code_decides_whatever_the_status(code: str, name: str) -> None:
    for status, content in (
        (400, {"detail": "no", "code": code}),
        (403, litellm({"detail": "no", "code": code})),
        (500, litellm({"detail": {"message": "no", "code": code}})),
    ):
        error = await refused(httpx.Response(status, json=content))
        assert type(error) is getattr(jina_rerank, name)
        assert (error.status, error.code, error.message) == (status, code, "no")
        assert RetryPolicy().retryable(error) is (name in ("RateLimitError", "ServerError"))


async def test_rate_limit_code_under_another_status_is_retried(raw_server: RawServer) -> None:
    limit = {
        "detail": "Concurrency limit exceeded: 2/2 concurrent requests.",
        "code": "RATE_CONCURRENCY_LIMIT_EXCEEDED",
    }
    raw_server.plays = [send(http(json.dumps(limit).encode(), 400, retry_after="0.01")), send(http(answer_body(1)))]
    async with RerankClient(base_url=raw_server.url) as client:
        assert (await client.rerank("q", ["a"])).attempts == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_named_and_never_followed(status: int) -> None:
    location = f"https://elsewhere.example/v1/rerank?key={KEY}"
    error = await refused(httpx.Response(status, headers={"location": location}))
    assert type(error) is APIStatusError
    assert "elsewhere.example" in error.message
    assert KEY not in str(error)


async def test_key_quoted_by_server_is_masked() -> None:
    error = await refused(httpx.Response(401, json={"detail": f"Invalid API key: {KEY}"}))
    assert error.message == "Invalid API key: [key]"


async def test_request_id_may_come_in_a_header() -> None:
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
        ({"retry-after": formatdate(2_000_000_007, usegmt=True), "date": formatdate(2_000_000_000, usegmt=True)}, 7.0),
        ({"retry-after": formatdate(1_000_000_007, usegmt=True), "date": formatdate(1_000_000_600, usegmt=True)}, None),
        ({"retry-after": formatdate(1_000_000_007, usegmt=True), "date": "yesterday"}, 7.0),
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


async def test_error_has_retry_after_of_server(raw_server: RawServer) -> None:
    date = formatdate(time.time() + 60, usegmt=True)
    raw_server.plays = [send(http(b'{"detail": "busy"}', 503, retry_after=date))]
    async with RerankClient(base_url=raw_server.url, retry=RetryPolicy(max_retry_after=1)) as client:
        with pytest.raises(ServerError) as caught:
            await client.rerank("q", ["a"])
    assert caught.value.retry_after is not None
    assert 30 < caught.value.retry_after <= 60
    assert len(raw_server.requests) == caught.value.attempts == 1


async def test_retry_after_date_is_measured_by_server_clock(raw_server: RawServer) -> None:
    sent_at = time.time() + 600  # the clock here is slow
    dates = {"date": formatdate(sent_at, usegmt=True), "retry_after": formatdate(sent_at + 1, usegmt=True)}
    raw_server.plays = [send(http(b'{"detail": "busy"}', 503, **dates))]
    async with RerankClient(base_url=raw_server.url, retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(ServerError) as caught:
            await client.rerank("q", ["a"])
    assert caught.value.retry_after == 1.0


@pytest.mark.parametrize("status", [401, 403])
async def test_unauthorized_error_explains_why_no_key_was_sent(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert not hasattr(withheld, "__notes__")  # "is the key whole?" is no question
    for sent in (await failure(api_key="sk-1"), await failure(headers={"Authorization": "Basic a"})):
        assert sent.message == "Not authenticated"
    monkeypatch.delenv("JINA_API_KEY")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", "http://127.0.0.1:9")
    missing = await failure(None)
    assert missing.message == "Not authenticated; no key was sent: JINA_API_KEY is not set; set it, or pass api_key="
