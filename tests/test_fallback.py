"""The fallback to the original order when the API is unavailable, and its log."""

import json
import logging
import ssl
from collections.abc import Sequence
from typing import ClassVar

import anyio
import httpx
import pytest

from jina_rerank import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    DeadlineExceededError,
    InsufficientBalanceError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    RerankError,
    ResponseFormatError,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
    UnprocessableEntityError,
)

from .fake_server import Body, Reply, ScriptedServer
from .servers import answer_body

ONCE = RetryPolicy(max_attempts=1, throttle_delay=0.0)
QUICK = RetryPolicy(base_delay=0.0)
KEY = "jina_secretsecret"


class EchoingServer(ScriptedServer):
    """Plays replies; a body of an error quotes the key and the documents of its request."""

    client_options: ClassVar = {"api_key": KEY, "fallback": "original_order", "retry": ONCE}

    def response(self, status: int, body: Body, number: int) -> httpx.Response:
        return httpx.Response(status, json={"detail": f"{KEY} {json.dumps(body)}"})


def certificate_error() -> Exception:
    error = httpx.ConnectError("no")
    error.__cause__ = refused = ssl.SSLCertVerificationError()
    refused.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (429, RateLimitError),
        (500, ServerError),
        (501, ServerError),
        (httpx.ConnectError("no"), APIConnectionError),
        (httpx.ReadError("cut"), APIConnectionError),
        (certificate_error(), APIConnectionError),
    ],
)
@pytest.mark.anyio
async def test_outage_returns_original_order(reply: Reply, cause: type[RerankError]) -> None:
    server, given = EchoingServer(reply), [{"text": f"text {number}"} for number in range(5)]
    async with server.client() as client:
        response = await client.rerank("q", given, top_n=3)
    assert response.documents == given[:3]
    assert all(result.document is given[result.index] for result in response.results)
    assert [(result.index, result.relevance_score) for result in response.results] == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert response.degraded
    assert type(response.cause) is cause
    assert response.cause.attempts == response.attempts == server.request_count == 1
    assert (response.calls, response.strategy, response.usage, response.model) == (0, "single", None, None)
    assert response.to_dict()["cause"]["type"] == cause.__name__


@pytest.mark.anyio
async def test_timeout_and_deadline_return_original_order() -> None:
    async with EchoingServer(None).client(timeout=0.01, retry=QUICK) as client:
        response = await client.rerank("q", ["a", "b"])
        assert (type(response.cause), response.attempts, response.documents) == (APITimeoutError, 3, ["a", "b"])
        response = await client.with_options(timeout=None).rerank("q", ["a", "b"], deadline=0.3)
        assert (type(response.cause), response.attempts, response.documents) == (DeadlineExceededError, 1, ["a", "b"])


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientBalanceError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (413, RequestTooLargeError),
        (422, UnprocessableEntityError),
        (b"<html>", ResponseFormatError),
        (b'{"results": [', ResponseFormatError),
        (b'{"results": []}', ResponseFormatError),
    ],
)
@pytest.mark.anyio
async def test_error_that_needs_fixing_is_raised(reply: Reply, error: type[RerankError]) -> None:
    async with EchoingServer(reply).client() as client:
        with pytest.raises(error) as caught:
            await client.rerank("q", ["a"])
    assert type(caught.value) is error
    assert caught.value.attempts == 1


@pytest.mark.anyio
async def test_invalid_input_closed_client_and_cancellation_are_raised() -> None:
    async with EchoingServer(None).client() as client:
        with pytest.raises(InvalidRequestError):
            await client.rerank(" ", ["a"])
        with anyio.move_on_after(0.01) as scope:
            await client.rerank("q", ["a"])
        assert scope.cancelled_caught
    with pytest.raises(ClientClosedError):
        await client.rerank("q", ["a"])


@pytest.mark.anyio
async def test_aclose_during_call_raises_client_closed_error() -> None:
    async def call() -> None:
        with pytest.raises(ClientClosedError):
            await client.rerank("q", ["a"])

    client = EchoingServer(None).client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        await client.aclose()


@pytest.mark.anyio
async def test_errors_are_raised_without_fallback() -> None:
    async with EchoingServer(500).client(fallback=None) as client:
        with pytest.raises(ServerError):
            await client.rerank("q", ["a"])


@pytest.mark.parametrize("top_n", [None, 1, 4, 99])
@pytest.mark.anyio
async def test_blank_and_duplicate_documents_keep_original_positions(top_n: int | None) -> None:
    given = ["a", " ", "b", "", "a", "c"]
    async with EchoingServer(500).client(model="jina-reranker-m0", max_documents=2) as client:
        response = await client.rerank("q", given, top_n=top_n)
        assert response.documents == given[:top_n]
        assert [result.index for result in response.results] == list(range(6))[:top_n]
        blank = await client.rerank("q", ["", " "])
    assert (blank.degraded, blank.attempts) == (False, 0)  # nothing had to be sent


@pytest.mark.anyio
async def test_cause_has_no_traceback_and_no_key() -> None:
    async with EchoingServer(500).client() as client:
        cause = (await client.rerank("q", ["a"])).cause
    assert cause is not None
    assert (cause.__traceback__, cause.__cause__, cause.__context__) == (None, None, None)
    assert KEY not in str(cause)


def said(caplog: pytest.LogCaptureFixture) -> Sequence[tuple[str, str]]:
    assert {record.name for record in caplog.records} <= {"jina_rerank"}
    return [(record.levelname, record.getMessage()) for record in caplog.records]


WARNING = "rerank unavailable; returning the original order: "


@pytest.mark.anyio
async def test_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="jina_rerank")
    good = answer_body(1)
    server = EchoingServer(500, 500, 400, 503, good, good, 429, good)
    async with server.client() as client:
        degraded: list[bool | None] = []
        for number in range(8):
            clone = client.with_options(timeout=number + 1)
            try:
                degraded.append((await clone.rerank("q", ["a"])).degraded)
            except BadRequestError:  # neither starts nor ends an outage
                degraded.append(None)
    assert degraded == [True, True, None, True, False, False, True, False]
    assert said(caplog) == [
        ("WARNING", WARNING + "ServerError (HTTP 500)"),
        ("INFO", "rerank available again; calls that returned the original order: 3"),
        ("WARNING", WARNING + "RateLimitError (HTTP 429)"),
        ("INFO", "rerank available again; calls that returned the original order: 1"),
    ]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (500, "ServerError (HTTP 500)"),
        (None, "DeadlineExceededError"),
        (httpx.ConnectError("no"), "APIConnectionError: no connection: no"),
        (certificate_error(), "APIConnectionError: the server's TLS certificate is not valid: self-signed certificate"),
    ],
)
@pytest.mark.anyio
async def test_log_contains_neither_key_nor_documents(
    caplog: pytest.LogCaptureFixture, reply: Reply, reason: str
) -> None:
    async with EchoingServer(500, reply).client(retry=RetryPolicy(max_attempts=2, base_delay=0.0)) as client:
        response = await client.rerank("q", ["a private document"], deadline=0.5)
    assert response.degraded
    assert said(caplog) == [("WARNING", WARNING + reason)]


def test_sync_client_falls_back() -> None:
    def http_client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(EchoingServer(500)))

    with SyncRerankClient(KEY, fallback="original_order", retry=QUICK, http_client=http_client) as client:
        response = client.rerank("q", ["a", "b"])
    assert (response.documents, response.degraded, response.attempts) == (["a", "b"], True, 3)
