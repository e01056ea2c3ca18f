"""The retry policy: its decisions, and a client that follows them, in virtual time."""

import gc
import math
import time
import weakref
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest

from jina_rerank import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    ClientClosedError,
    DeadlineExceededError,
    RateLimitError,
    RerankClient,
    RerankError,
    RerankResponse,
    ResponseFormatError,
    RetryPolicy,
    ServerError,
)

from . import virtual_time
from .fake_server import OK, Reply, ScriptedServer, client_for
from .servers import answer_body

anyio_backend = virtual_time.backend


async def failure(client: RerankClient, **arguments: Any) -> tuple[RerankError, float]:
    """Return the error of a call and the seconds it took."""
    start = anyio.current_time()
    async with client:
        with pytest.raises(RerankError) as caught:
            await client.rerank("q", ["a"], **arguments)
    return caught.value, anyio.current_time() - start


async def success(client: RerankClient) -> RerankResponse[str]:
    async with client:
        return await client.rerank("q", ["a"])


def status(code: int, **headers: str) -> httpx.Response:
    return httpx.Response(code, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524])
@pytest.mark.anyio
async def test_transient_status_is_retried(code: int) -> None:
    server = ScriptedServer(status(code), status(code), OK)
    response = await success(server.client())
    assert (response.attempts, len(server.arrival_times)) == (3, 3)


@pytest.mark.parametrize("code", [301, 400, 401, 402, 403, 404, 405, 409, 413, 422, 501, 505])
@pytest.mark.anyio
async def test_permanent_status_is_not_retried(code: int) -> None:
    server = ScriptedServer(status(code))
    error, seconds = await failure(server.client())
    assert isinstance(error, APIStatusError)
    assert (error.status, error.attempts, len(server.arrival_times), seconds) == (code, 1, 1, 0.0)


@pytest.mark.anyio
async def test_outage_raises_after_three_attempts_and_short_delays() -> None:
    server = ScriptedServer(status(503))
    error, _ = await failure(server.client())
    assert isinstance(error, ServerError)
    assert error.attempts == len(server.arrival_times) == 3
    assert server.intervals[0] <= 0.1
    assert server.intervals[1] <= 0.2


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("no"), httpx.ReadError("cut"), httpx.RemoteProtocolError("cut"), httpx.WriteError("no")],
)
@pytest.mark.anyio
async def test_broken_connection_is_retried(error: Exception) -> None:
    server = ScriptedServer(error, OK)
    assert (await success(server.client())).attempts == 2
    last, _ = await failure(ScriptedServer(error).client())
    assert isinstance(last, APIConnectionError)
    assert last.attempts == 3


@pytest.mark.parametrize(
    "error", [httpx.ProxyError("407"), httpx.UnsupportedProtocol("x"), httpx.LocalProtocolError("x")]
)
@pytest.mark.anyio
async def test_proxy_and_protocol_errors_are_not_retried(error: Exception) -> None:
    last, seconds = await failure(ScriptedServer(error).client())
    assert isinstance(last, APIConnectionError)
    assert (last.attempts, seconds) == (1, 0.0)


@pytest.mark.anyio
async def test_malformed_answer_is_retried_once() -> None:
    half = httpx.Response(200, content=b'{"results": [')
    assert (await success(ScriptedServer(half, OK).client())).attempts == 2
    error, _ = await failure(ScriptedServer(half).client())
    assert isinstance(error, ResponseFormatError)
    assert error.attempts == 2
    broken = httpx.Response(200, json={"results": []})
    error, _ = await failure(ScriptedServer(broken).client())
    assert error.attempts == 1


@pytest.mark.parametrize(("headers", "seconds"), [({"retry_after": "7"}, 7.0), ({"retry_after_ms": "1500"}, 1.5)])
@pytest.mark.anyio
async def test_retry_after_sets_delay(headers: dict[str, str], seconds: float) -> None:
    server = ScriptedServer(status(429, **headers), status(503, **headers), OK)
    assert (await success(server.client())).attempts == 3
    assert server.intervals == pytest.approx([seconds, seconds])


@pytest.mark.anyio
async def test_retry_after_above_cap_or_deadline_raises_at_once() -> None:
    error, seconds = await failure(ScriptedServer(status(429, retry_after="121")).client())
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, error.attempts, seconds) == (121.0, 1, 0.0)
    server = ScriptedServer(status(429, retry_after="60"))
    error, seconds = await failure(server.client(), deadline=30)
    assert (type(error), error.retry_after, seconds) == (RateLimitError, 60.0, 0.0)


@pytest.mark.anyio
async def test_retry_after_beyond_callers_cancel_scope_raises_at_once() -> None:
    server = ScriptedServer(status(503, retry_after="60"))
    with anyio.fail_after(30):
        error, seconds = await failure(server.client(deadline=None))
    assert (type(error), seconds) == (ServerError, 0.0)


@pytest.mark.anyio
async def test_should_retry_header_overrides_policy() -> None:
    error, _ = await failure(ScriptedServer(status(503, x_should_retry="false")).client())
    assert error.attempts == 1
    assert (await success(ScriptedServer(status(400, x_should_retry="true"), OK).client())).attempts == 2
    error, _ = await failure(ScriptedServer(status(400, x_should_retry="perhaps")).client())
    assert (type(error), error.attempts) == (BadRequestError, 1)


@pytest.mark.anyio
async def test_max_attempts_of_one_disables_retries() -> None:
    client = ScriptedServer(status(503)).client(retry=RetryPolicy(max_attempts=1))
    error, seconds = await failure(client)
    assert (error.attempts, seconds) == (1, 0.0)


@pytest.mark.anyio
async def test_timeout_applies_to_each_attempt() -> None:
    server = ScriptedServer((100.0, OK), (59.0, OK))
    response = await success(server.client())
    assert response.attempts == 2
    assert 60 <= server.intervals[0] <= 60.1
    error, seconds = await failure(ScriptedServer((2.0, OK)).client(timeout=1))
    assert isinstance(error, APITimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.attempts == 3
    assert 3 <= seconds <= 3.3


@pytest.mark.anyio
async def test_deadline_during_attempt_raises_with_previous_error() -> None:
    server = ScriptedServer(status(503), (1e6, OK))
    error, seconds = await failure(server.client(timeout=None), deadline=5)
    assert isinstance(error, DeadlineExceededError)
    assert isinstance(error, TimeoutError)
    assert (error.attempts, seconds) == (2, 5.0)
    assert "deadline of 5 s" in error.message
    assert "Service Unavailable" in error.message


@pytest.mark.anyio
async def test_deadline_defaults_to_180_seconds_and_none_disables_it() -> None:
    error, seconds = await failure(ScriptedServer((1e6, OK)).client(timeout=None))
    assert (type(error), seconds) == (DeadlineExceededError, 180.0)
    async with ScriptedServer((1e5, OK)).client(timeout=None) as slow:
        assert (await slow.rerank("q", ["a"], deadline=None)).attempts == 1
        assert (await slow.with_options(deadline=None).rerank("q", ["a"])).attempts == 1


@pytest.mark.anyio
async def test_cancellation_by_caller_propagates() -> None:
    server = ScriptedServer((1e6, OK))
    async with server.client() as client:
        with anyio.move_on_after(3) as scope:
            await client.rerank("q", ["a"])
    assert scope.cancelled_caught
    assert len(server.arrival_times) == 1


@pytest.mark.anyio
async def test_concurrent_calls_do_not_mix_up_their_attempts() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        seen[request.content] = seen.get(request.content, 0) + 1
        await anyio.sleep(0.1)
        return status(503) if seen[request.content] < 3 else httpx.Response(200, content=answer_body(1))

    async def call(i: int) -> None:
        attempts[i] = (await client.rerank(f"query {i}", ["a"])).attempts

    seen: dict[bytes, int] = {}
    attempts: dict[int, int] = {}
    client = client_for(answer, retry=RetryPolicy(quota=None))
    async with client, anyio.create_task_group() as tasks:
        for i in range(50):
            tasks.start_soon(call, i)
    assert attempts == dict.fromkeys(range(50), 3)


@pytest.mark.anyio
async def test_at_most_max_concurrency_requests_are_in_flight_and_waiting_costs_no_timeout() -> None:
    server = ScriptedServer((10.0, OK))
    async with server.client(max_concurrency=2, timeout=11) as client, anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(client.with_options(deadline=None).rerank, "q", ["a"])
    assert [later - server.arrival_times[0] for later in server.arrival_times] == pytest.approx([0, 0, 10, 10, 20, 20])


@pytest.mark.anyio
async def test_backoff_holds_no_slot() -> None:
    server = ScriptedServer(status(503, retry_after="100"), OK)
    async with server.client(max_concurrency=1) as client, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(client.rerank, "q", ["a"])
    assert server.intervals == pytest.approx([0, 100])


@pytest.mark.anyio
async def test_aclose_cancels_calls_in_flight() -> None:
    errors: list[RerankError] = []

    async def call() -> None:
        with pytest.raises(ClientClosedError) as caught:
            await client.rerank("q", ["a"])
        errors.append(caught.value)

    waiting, sleeping = ScriptedServer((1e6, OK)), ScriptedServer(status(503, retry_after="100"))
    for server in (waiting, sleeping):
        client = server.client(timeout=None)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(call)
            await anyio.sleep(1)
            await client.aclose()
            assert anyio.current_time() == server.arrival_times[0] + 1
    assert [error.attempts for error in errors] == [1] * 10


@pytest.mark.anyio
async def test_aclose_closes_connections_after_two_seconds_if_call_does_not_end() -> None:
    async def does_not_end(request: httpx.Request) -> httpx.Response:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(60)
        return httpx.Response(200, content=answer_body(1))

    http_client = httpx.AsyncClient(transport=httpx.MockTransport(does_not_end))
    client = RerankClient("jina_key", http_client=lambda: http_client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.rerank, "q", ["a"])
        await anyio.sleep(1)
        start = anyio.current_time()
        await client.aclose()
        assert (http_client.is_closed, anyio.current_time() - start) == (True, 2.0)


DECISIONS: list[tuple[RerankError, bool]] = [
    (APIConnectionError("x"), True),
    (APITimeoutError("x"), True),
    (APIConnectionError("x", should_retry=False), False),
    (ServerError("x", status=503), True),
    (ServerError("x", status=501), False),
    (ServerError("x", status=503, retry_after=120), True),
    (ServerError("x", status=503, retry_after=120.1), False),
    (BadRequestError("x", status=400), False),
    (BadRequestError("x", status=400, should_retry=True), True),
    (ResponseFormatError("x"), False),
    (ResponseFormatError("x", should_retry=True), True),
    (DeadlineExceededError("x"), False),
    (ClientClosedError("x"), False),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("error", "retryable"), DECISIONS)
def test_policy_decides_whether_error_is_retryable(error: RerankError, retryable: bool) -> None:
    assert RetryPolicy().retryable(error) is retryable


@pytest.mark.smoke
def test_delays_grow_exponentially_to_max_delay() -> None:
    policy = RetryPolicy()
    failed, throttled = ServerError("x", status=503), RateLimitError("x", status=429)
    assert [policy.delay(n, failed, 1.0) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert [policy.delay(n, throttled, 0.5) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert policy.delay(10_000, failed, 1.0) == 8.0
    assert policy.delay(1, RateLimitError("x", status=429, retry_after=33.0), 0.5) == 33.0
    assert policy.delay(1, RateLimitError("x", status=429, retry_after=0.0), 1.0) == 1.0
    assert policy.next_delay([failed, failed, failed], 1.0) is None
    assert RetryPolicy(max_attempts=10**9).delay(10**6, failed, 0.0) == 0.0
    assert math.isfinite(RetryPolicy(base_delay=1e300, max_delay=1e308).delay(10**6, failed, 1.0))


@pytest.mark.anyio
async def test_wall_clock_jumps_do_not_affect_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ScriptedServer(status(503, retry_after="7"), status(503, retry_after="7"), (1e6, OK))
    wall = iter(range(10**9, 0, -86_400))
    monkeypatch.setattr(time, "time", lambda: float(next(wall)))
    error, seconds = await failure(server.client(timeout=20, retry=RetryPolicy(max_attempts=3)), deadline=100)
    assert isinstance(error, APITimeoutError)
    assert server.intervals == pytest.approx([7, 7])
    assert seconds == pytest.approx(34)


class Watched(str):
    """A text that weak references can refer to."""

    __slots__ = ("__weakref__",)


@pytest.mark.anyio
@pytest.mark.parametrize("reply", [status(503), httpx.Response(200, content=b"{")], ids=["refused", "garbled"])
async def test_failed_call_releases_its_documents(reply: Reply) -> None:
    """They are freed when the call ends, not when the garbage collector runs."""

    async def call() -> "weakref.ref[Watched]":
        document = Watched("a")
        with suppress(RerankError):
            await client.rerank("q", [document])
        return weakref.ref(document)

    gc.disable()
    try:
        async with ScriptedServer(reply).client() as client:
            document = await call()
        assert document() is None
    finally:
        gc.enable()
