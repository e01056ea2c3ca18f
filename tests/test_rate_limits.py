"""Rate limits and the retry quota as the server sees them: which requests arrive, and when. In virtual time."""

import json
import logging
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import anyio
import httpx
import pytest

from jina_rerank import (
    ConfigurationError,
    DeadlineExceededError,
    RateLimit,
    RateLimitError,
    RerankClient,
    RerankError,
    RerankRequest,
    RetryPolicy,
    ServerError,
)
from jina_rerank.emulator import TIERS, create_app
from jina_rerank.emulator.scifact import claims
from jina_rerank.limits import RateLimitStatus

from . import virtual_time
from .fake_server import Body, FakeServer, client_for
from .servers import answer_body

WITHOUT_USAGE = {"results": [{"index": 0, "relevance_score": 0.5}]}
CODES = {
    "concurrent requests": "RATE_CONCURRENCY_LIMIT_EXCEEDED",
    "requests per minute": "RATE_REQUEST_LIMIT_EXCEEDED",
    "tokens per minute": "RATE_TOKEN_LIMIT_EXCEEDED",
}


anyio_backend = virtual_time.backend


class LimitedServer(FakeServer):
    """Answers after `latency` seconds, and refuses requests while `concurrency` others are in flight."""

    def __init__(
        self, latency: float = 1.0, *, concurrency: float = float("inf"), refusal: httpx.Response | None = None
    ) -> None:
        super().__init__()
        self.latency = latency
        self.concurrency = concurrency
        self.refusal = refusal or httpx.Response(429)
        self.refused = 0
        self.headers: dict[str, str] = {}

    def refuse(self) -> httpx.Response | None:
        if self.in_flight < self.concurrency:
            return None
        self.refused += 1
        return httpx.Response(429, headers=self.refusal.headers, content=self.refusal.content)

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await anyio.sleep(self.latency)
        return httpx.Response(200, headers=self.headers, json=WITHOUT_USAGE)


def query_of(request: httpx.Request) -> str:
    return str(json.loads(request.content)["query"])


def refused(current: int, limit: int, unit: str) -> httpx.Response:
    text = f"Limit exceeded: {current:,}/{limit:,} {unit}. Wait."
    return httpx.Response(429, json={"detail": text, "code": CODES[unit], "request_id": "f" * 32})


async def run_all(client: RerankClient, queries: Sequence[str], *, workers: int | None = None) -> list[RerankError]:
    """Rank all queries in `workers` tasks; return the errors in order of occurrence."""
    left, errors = deque(queries), list[RerankError]()

    async def work() -> None:
        while left:
            try:
                await client.rerank(left.popleft(), ["a"])
            except RerankError as error:
                errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(workers or len(queries)):
            tasks.start_soon(work)
    return errors


# A free key, as the emulator plays it: 2 at once, 100 requests and 100,000 tokens in any 60 seconds.


class FreeKey(httpx.AsyncBaseTransport):
    """The emulator with the limits of a free key, which counts its answers by status."""

    def __init__(self) -> None:
        self._app = httpx.ASGITransport(create_app(limits=RateLimit.FREE, latency=0.2))
        self.statuses: Counter[int] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._app.handle_async_request(request)
        self.statuses[response.status_code] += 1
        return response


async def run_on_a_free_key(jobs: Sequence[tuple[str, list[str]]]) -> tuple[Counter[int], float, int]:
    """Run all jobs in 200 tasks with a deadline of one hour; return their statuses, seconds and tokens."""
    server, left, tokens = FreeKey(), deque(jobs), 0
    start = anyio.current_time()

    async def work() -> None:
        nonlocal tokens
        while left:
            response = await client.rerank(*left.popleft())
            assert response.usage is not None
            tokens += response.usage.total_tokens

    http_client = httpx.AsyncClient(transport=server)
    async with (
        RerankClient("jina_key", http_client=http_client, deadline=3600) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(200):
            tasks.start_soon(work)
    return server.statuses, anyio.current_time() - start, tokens


@pytest.mark.anyio
async def test_thousand_queries_on_free_key_need_no_configuration() -> None:
    documents = ["chamomile lotion for sensitive skin", "bold lipsticks for spring"]
    statuses, seconds, _ = await run_on_a_free_key([(f"query {i}", documents) for i in range(1000)])
    assert statuses[200] == 1000
    assert statuses[429] <= 0.05 * statuses.total()
    assert seconds <= 1.1 * 600


@pytest.mark.anyio
async def test_long_documents_on_a_free_key_are_paced_by_their_tokens() -> None:
    jobs = [(claim.text, [abstract.passage for abstract in claim.candidates]) for claim in claims()] * 4
    statuses, seconds, tokens = await run_on_a_free_key(jobs)
    assert statuses[200] == len(jobs)
    assert statuses[429] <= 0.05 * statuses.total()
    assert seconds <= 1.1 * tokens / 100_000 * 60
    assert tokens > 900_000


# Concurrency


@pytest.mark.anyio
async def test_slow_start_begins_at_2_and_doubles_every_100_ms_to_100() -> None:
    server = LimitedServer(latency=30)
    seen: list[int] = []
    async with server.client() as client, anyio.create_task_group() as tasks:
        for _ in range(150):
            tasks.start_soon(client.with_options(deadline=None).rerank, "q", ["a"])
        await anyio.sleep(0.05)
        for _ in range(8):
            seen.append(server.in_flight)
            await anyio.sleep(0.1)
    assert seen == [2, 4, 8, 16, 32, 64, 100, 100]


@pytest.mark.anyio
async def test_slow_start_advances_with_use_not_with_time() -> None:
    server = LimitedServer(latency=1)
    async with server.client() as client:
        await client.rerank("alone", ["a"])
        await anyio.sleep(60)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(client.rerank, "q", ["a"])
            await anyio.sleep(0.05)
            assert server.in_flight == 2


@pytest.mark.anyio
async def test_max_concurrency_is_used_at_once_and_throttling_lowers_it() -> None:
    server = LimitedServer(latency=10)
    async with server.client(max_concurrency=30) as client:
        assert not await run_all(client, ["q"] * 60)
    assert server.max_in_flight == 30
    assert len(set(server.arrival_times)) == 2
    server = LimitedServer(latency=1, concurrency=5, refusal=refused(5, 5, "concurrent requests"))
    async with server.client(max_concurrency=8) as client:
        assert not await run_all(client, ["q"] * 100)
    assert 1 <= server.refused <= 3
    assert server.max_in_flight == 5


@pytest.mark.anyio
async def test_lower_of_configured_limits_applies() -> None:
    for rate_limit, max_concurrency, most in [
        (RateLimit(concurrency=7), None, 7),
        (RateLimit(concurrency=7), 20, 7),
        (RateLimit(concurrency=20), 7, 7),
        (RateLimit(concurrency=150), None, 150),
        (RateLimit.FREE, None, 2),
    ]:
        server = LimitedServer(latency=0.01)
        async with server.client(rate_limit=rate_limit, max_concurrency=max_concurrency) as client:
            await run_all(client.with_options(deadline=1e6), ["q"] * 200)
        assert server.max_in_flight == most
        assert not server.refused
    with pytest.raises(ConfigurationError, match="rate_limit"):
        RerankClient("jina_key", rate_limit=100)  # type: ignore[arg-type] # what is tested


@pytest.mark.anyio
async def test_concurrency_decreases_on_429_without_number_and_recovers() -> None:
    server = LimitedServer(latency=1, concurrency=8)
    async with server.client() as client:
        assert not await run_all(client.with_options(deadline=1e6), ["q"] * 1500, workers=100)
        assert server.max_in_flight == 8
        assert server.refused <= 0.05 * server.request_count
        server.concurrency = 40
        server.max_in_flight = 0
        assert not await run_all(client.with_options(deadline=1e6), ["q"] * 1500, workers=100)
    assert server.max_in_flight > 16


@pytest.mark.anyio
async def test_burst_of_429s_causes_one_retry_of_each_request() -> None:
    server, first, start = LimitedServer(latency=1), 20, anyio.current_time()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal first
        if first:
            first -= 1
            await anyio.sleep(0.1)
            return httpx.Response(429)
        return await server(request)

    async with client_for(answer, max_concurrency=20) as client:
        assert not await run_all(client, ["q"] * 20)
    assert server.request_count == 20
    assert anyio.current_time() - start < 8


@pytest.mark.anyio
async def test_repeated_429s_make_probes_rarer() -> None:
    server = LimitedServer(latency=0.5, concurrency=2)
    async with server.client() as client:
        assert not await run_all(client.with_options(deadline=1e6), ["q"] * 2000, workers=10)
    assert server.refused <= 0.02 * server.request_count
    assert anyio.current_time() <= 1.5 * 2000 * 0.5 / 2


@pytest.mark.anyio
async def test_slot_is_released_however_call_ends() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if query_of(request) == "hangs":
            await anyio.sleep_forever()
        if query_of(request) == "breaks":
            raise httpx.ReadError("cut")
        return httpx.Response(500 if query_of(request) == "fails" else 200, content=answer_body(1))

    async with client_for(answer, max_concurrency=1, deadline=5, retry=RetryPolicy(max_attempts=2)) as client:
        errors = await run_all(client, ["fails", "breaks", "hangs"], workers=1)
        assert [error.attempts for error in errors] == [2, 2, 1]
        assert not await run_all(client, ["works"])


# Requests and tokens per minute


@pytest.mark.anyio
async def test_configured_requests_per_minute_are_never_exceeded() -> None:
    server, start = LimitedServer(latency=0.1), anyio.current_time()
    limit = RateLimit(requests_per_minute=10, concurrency=4)
    async with server.client(rate_limit=limit, deadline=1000) as client:
        assert not await run_all(client, ["q"] * 35)
    times = [time - start for time in server.arrival_times]
    assert all(later - earlier > 60 for earlier, later in zip(times, times[10:], strict=False))
    assert times[-1] < 3 * 62


@pytest.mark.anyio
async def test_large_request_is_not_overtaken_by_small_ones() -> None:
    server = LimitedServer(latency=0.01)
    limit = RateLimit(tokens_per_minute=1000, concurrency=1)
    sizes = {"small 1": 300, "small 2": 300, "large": 900, "small 3": 10, "small 4": 10}
    async with server.client(rate_limit=limit) as client, anyio.create_task_group() as tasks:
        for query, tokens in sizes.items():
            tasks.start_soon(client.rerank, query, ["word" * (tokens - 2)])
            await anyio.sleep(0.1)
    assert server.queries == list(sizes)


@pytest.mark.anyio
async def test_token_estimate_adapts_to_reported_usage() -> None:
    counted: list[tuple[float, int]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        tokens = 250 + 20 * (len(counted) % 5)
        counted.append((anyio.current_time(), tokens))
        return httpx.Response(200, json={**WITHOUT_USAGE, "usage": {"total_tokens": tokens}})

    limit = RateLimit(tokens_per_minute=1000, concurrency=1)
    async with client_for(answer, rate_limit=limit, deadline=3600) as client:
        assert not await run_all(client, ["word" * 100] * 30)  # a hundred tokens, as they are estimated
    for end, _ in counted:
        assert sum(tokens for time, tokens in counted if end - 60 < time <= end) <= 1000


@pytest.mark.anyio
async def test_request_larger_than_token_limit_is_sent_alone() -> None:
    server, start = LimitedServer(latency=0.01), anyio.current_time()
    async with server.client(rate_limit=RateLimit(tokens_per_minute=100)) as client:
        for _ in range(2):
            await client.rerank("q", ["word" * 5000])
    assert server.arrival_times[1] - start > 60


@pytest.mark.anyio
async def test_wait_beyond_deadline_or_cap_raises_at_once() -> None:
    server, limit = LimitedServer(latency=0.01), RateLimit(requests_per_minute=1)
    async with server.client(rate_limit=limit) as client:
        await client.rerank("q", ["a"])
        start = anyio.current_time()
        for one in (client.with_options(deadline=30), client.with_options(retry=RetryPolicy(max_retry_after=20))):
            with pytest.raises(RateLimitError) as caught:
                await one.rerank("q", ["a"])
            assert caught.value.retry_after == pytest.approx(60, abs=2)
            assert (caught.value.status, caught.value.attempts) == (None, 0)
        assert anyio.current_time() == start
    assert server.request_count == 1


@pytest.mark.anyio
async def test_remaining_headers_delay_requests_on_shared_key() -> None:
    server = LimitedServer(latency=0.01)
    server.headers = {"x-ratelimit-remaining-requests": "0"}
    async with server.client() as client:
        for _ in range(3):
            await client.rerank("q", ["a"])
    assert all(interval >= 1 for interval in server.intervals)


# Throttling


@pytest.mark.anyio
async def test_throttled_call_is_resent_before_later_calls() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"rate_limit": RateLimit(concurrency=1)}, "abbcd"),
        ({"max_concurrency": 1}, "abcbd"),  # c took the slot that b released
    ]
    served: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        served.append(query_of(request))
        await anyio.sleep(1)
        if served == ["a", "b"]:
            return refused(100, 100, "requests per minute")
        return httpx.Response(200, json=WITHOUT_USAGE)

    for limit, order in cases:
        served.clear()
        async with client_for(answer, **limit) as client, anyio.create_task_group() as tasks:
            for query in "abcd":
                tasks.start_soon(client.rerank, query, ["x"])
                await anyio.sleep(0.001)
        assert "".join(served) == order


@pytest.mark.anyio
async def test_retry_after_delays_all_clients_of_key() -> None:
    served: list[float] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        served.append(anyio.current_time())
        if len(served) == 1:
            return httpx.Response(429, headers={"retry-after": "7"})
        return httpx.Response(200, content=answer_body(1))

    start = anyio.current_time()
    async with client_for(answer) as one, client_for(answer) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(one.rerank, "q", ["a"])
        await anyio.sleep(1)
        tasks.start_soon(other.rerank, "q", ["a"])
    assert [time - start for time in served] == pytest.approx([0, 7, 7])


@pytest.mark.anyio
async def test_throttled_request_does_not_count_against_limits() -> None:
    replies = [httpx.Response(429, headers={"retry-after": "1"})]

    async def answer(request: httpx.Request) -> httpx.Response:
        return replies.pop() if replies else httpx.Response(200, json=WITHOUT_USAGE)

    start = anyio.current_time()
    limit = RateLimit(requests_per_minute=2, tokens_per_minute=100)
    async with client_for(answer, rate_limit=limit) as client:
        for _ in range(2):
            await client.rerank("q", ["word" * 40])
    assert anyio.current_time() == pytest.approx(start + 1)


@pytest.mark.anyio
async def test_date_in_429_is_not_parsed_as_limit() -> None:
    refusal = refused(100, 100, "requests per minute").json()
    refusal["detail"] = f"At 11/3/2026: {refusal['detail']}"
    replies = [httpx.Response(429, json=refusal)]

    async def answer(request: httpx.Request) -> httpx.Response:
        return replies.pop() if replies else httpx.Response(200, json=WITHOUT_USAGE)

    start = anyio.current_time()
    async with client_for(answer, deadline=3600) as client:
        assert not await run_all(client, ["q"] * 60)
    assert anyio.current_time() - start < 300  # with 3 a minute it would take 20 minutes


@pytest.mark.parametrize("unit", [None, *CODES])
@pytest.mark.anyio
async def test_endless_429s_raise_rate_limit_error_by_deadline(unit: str | None) -> None:
    server = LimitedServer(concurrency=0, refusal=refused(9, 9, unit) if unit else None)
    start = anyio.current_time()
    async with server.client() as client:
        errors = await run_all(client, ["q"] * 20)
    assert {type(error) for error in errors} == {RateLimitError}
    assert {error.status for error in errors} <= {429, None}  # None: the request was never sent
    assert anyio.current_time() - start <= 180
    assert sum(error.attempts or 0 for error in errors) == server.request_count <= 200


@pytest.mark.anyio
async def test_deadline_while_throttled_raises_rate_limit_error() -> None:
    server = LimitedServer(latency=1000, concurrency=1, refusal=refused(1, 1, "concurrent requests"))
    async with server.client(timeout=None) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.with_options(deadline=None).rerank, "q", ["a"])
        await anyio.sleep(1)
        with pytest.raises(RateLimitError, match="1/1 concurrent requests") as caught:
            await client.rerank("q", ["a"], deadline=10)
        assert (caught.value.attempts, caught.value.status) == (1, 429)
        assert anyio.current_time() == server.arrival_times[0] + 11
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_call_survives_more_429s_than_max_attempts() -> None:
    server = LimitedServer(latency=0, concurrency=0)
    async with server.client() as client, anyio.create_task_group() as tasks:

        async def open_later() -> None:
            await anyio.sleep(60)
            server.concurrency = 1

        tasks.start_soon(open_later)
        response = await client.rerank("q", ["a"])
    assert response.attempts == server.request_count > 3


@pytest.mark.anyio
async def test_throttling_counts_as_attempt_without_deadline_or_retries() -> None:
    cases: list[tuple[dict[str, Any], int]] = [({"deadline": None}, 3), ({"retry": RetryPolicy(max_attempts=1)}, 1)]
    for options, attempts in cases:
        server = LimitedServer(concurrency=0)
        async with server.client(**options) as client:
            with pytest.raises(RateLimitError) as caught:
                await client.rerank("q", ["a"])
        assert caught.value.attempts == server.request_count == attempts


@pytest.mark.anyio
async def test_deadline_while_waiting_for_slot_raises_deadline_exceeded_error() -> None:
    server = LimitedServer(latency=1e6)
    async with server.client(max_concurrency=1, timeout=None, deadline=10) as client:
        errors = await run_all(client, ["q"] * 2)
    assert [type(error) for error in errors] == [DeadlineExceededError] * 2
    assert sorted(error.attempts or 0 for error in errors) == [0, 1]
    assert sum("waiting for its turn" in error.message for error in errors) == 1


# Sharing


@pytest.mark.anyio
async def test_limits_are_shared_per_key_and_host() -> None:
    limit = RateLimit(concurrency=2)
    for key, base_url, most in [("jina_key", None, 2), ("jina_other", None, 4), ("jina_key", "https://x.test/v1", 4)]:
        server = LimitedServer(latency=1)
        async with (
            server.client(rate_limit=limit) as one,
            server.client(api_key=key, rate_limit=limit, base_url=base_url) as other,
            anyio.create_task_group() as tasks,
        ):
            for client in (one, one.with_options(timeout=30), other):
                tasks.start_soon(run_all, client, ["q"] * 10)
        assert server.max_in_flight == most


@pytest.mark.anyio
async def test_learned_limits_are_dropped_with_last_client() -> None:
    server = LimitedServer(latency=1, concurrency=1, refusal=httpx.Response(429, headers={"retry-after": "100"}))
    async with server.client(deadline=50) as client:
        errors = await run_all(client, ["q"] * 2)
    assert [error.retry_after for error in errors] == [100]
    async with server.client(deadline=50) as client:
        assert not await run_all(client, ["q"])


# The retry quota


@pytest.mark.parametrize("calls", [1, 17, 18, 200])
@pytest.mark.anyio
async def test_retry_quota_allows_35_retries_during_outage(calls: int) -> None:
    sent = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return httpx.Response(503)

    async with client_for(answer) as client:
        errors = await run_all(client, ["q"] * calls)
    assert sent == sum(error.attempts or 0 for error in errors) == min(3 * calls, calls + 35)
    assert {type(error) for error in errors} == {ServerError}


@pytest.mark.anyio
async def test_retry_quota_is_shared_by_clones_and_refilled_by_successes() -> None:
    up = False

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answer_body(1)) if up else httpx.Response(503)

    async with client_for(answer, retry=RetryPolicy(quota=28)) as client:
        attempts = [error.attempts for error in await run_all(client, ["q"] * 2, workers=1)]
        attempts += [error.attempts for error in await run_all(client.with_options(timeout=9), ["q"])]
        assert attempts == [3, 1, 1]
        free = client.with_options(retry=RetryPolicy(quota=None))
        assert [error.attempts for error in await run_all(free, ["q"] * 5)] == [3] * 5
        up = True
        await run_all(client, ["q"] * 14)
        up = False
        assert [error.attempts for error in await run_all(client, ["q"] * 2, workers=1)] == [2, 1]


@pytest.mark.anyio
async def test_policy_without_delays_still_backs_off_when_throttled() -> None:
    server = LimitedServer(latency=0, concurrency=0)
    async with server.client(retry=RetryPolicy(base_delay=0, throttle_delay=0, max_delay=0)) as client:
        with pytest.raises(RateLimitError):
            await client.rerank("q", ["a"], deadline=10)
    assert 50 < server.request_count < 1_000


@pytest.mark.anyio
async def test_batch_on_free_key_outlasts_deadline_without_losses() -> None:
    requests = [
        RerankRequest(query=claim.text, documents=[abstract.text for abstract in claim.candidates])
        for claim in claims()
    ]
    http_client, start = httpx.AsyncClient(transport=FreeKey()), anyio.current_time()
    async with RerankClient("jina_key", http_client=http_client, deadline=60) as client:
        outcomes = [outcome async for outcome in client.rerank_many(requests * 2)]
    assert anyio.current_time() - start > 60
    assert [outcome.error for outcome in outcomes] == [None] * len(requests) * 2


@pytest.mark.anyio
async def test_endless_429s_fail_request_of_batch_one_minute_after_deadline() -> None:
    start = anyio.current_time()
    async with LimitedServer(latency=0, concurrency=0).client(deadline=10) as client:
        outcomes = [outcome async for outcome in client.rerank_many([RerankRequest(query="q", documents=["a"])])]
    assert isinstance(outcomes[0].error, RateLimitError)
    assert 10 < anyio.current_time() - start <= 10 + 61


@pytest.mark.anyio
async def test_batch_waits_beyond_max_retry_after() -> None:
    options: dict[str, Any] = {"retry": RetryPolicy(max_retry_after=5), "rate_limit": RateLimit(requests_per_minute=2)}
    requests = [RerankRequest(query=str(number), documents=["a"]) for number in range(5)]
    async with LimitedServer().client(**options) as client:
        outcomes = [outcome async for outcome in client.rerank_many(requests)]
        assert [outcome.error for outcome in outcomes] == [None] * 5
        await client.rerank("the last of this minute", ["a"])
        with pytest.raises(RateLimitError, match="leave no room in time"):
            await client.rerank("q", ["a"])


@pytest.mark.anyio
async def test_slow_start_on_busy_event_loop_waits_for_unread_429s() -> None:
    server = LimitedServer(latency=0.1, concurrency=2, refusal=refused(2, 2, "concurrent requests"))

    async def answer(request: httpx.Request) -> httpx.Response:
        for _ in range(4):  # connecting, sending and reading keep the loop busy
            await anyio.lowlevel.checkpoint()
            virtual_time.advance(0.003)
        return await server(request)

    async with client_for(answer, base_url="http://127.0.0.1") as client:
        assert not await run_all(client, ["q"] * 100)
    assert server.refused <= 14


# Observability


@pytest.mark.anyio
async def test_client_limits_report_usage_limits_and_waiters() -> None:
    server = LimitedServer(latency=1, concurrency=2, refusal=refused(2, 2, "concurrent requests"))
    server.headers = {"x-ratelimit-remaining-requests": "60"}
    limit = RateLimit(requests_per_minute=100)
    async with server.client(rate_limit=limit) as client, anyio.create_task_group() as tasks:
        assert client.limits == RateLimitStatus()
        for _ in range(10):
            tasks.start_soon(client.rerank, "q", ["a"])
        await anyio.sleep(2.5)
        status = client.limits
        assert (status.in_flight, status.concurrency, status.waiting) == (2, 2, 4)
        assert (status.requests.used, status.requests.limit) == (6, 100)
        assert 33 <= status.requests.held_by_others <= 38
        assert status.tokens.limit is None


@pytest.mark.anyio
async def test_response_reports_throttled_seconds() -> None:
    async with LimitedServer(latency=1).client(rate_limit=RateLimit(concurrency=1)) as client:
        seconds = list[float]()

        async def call() -> None:
            response = await client.rerank("q", ["a"])
            seconds.append(response.throttled_seconds)
            assert response.to_dict()["throttled_seconds"] == response.throttled_seconds

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)
    assert sorted(seconds) == pytest.approx([0, 1, 2])


@pytest.mark.anyio
async def test_decreases_recoveries_and_long_waits_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="jina_rerank")
    replies = [httpx.Response(429) for _ in range(6)] + [httpx.Response(429, headers={"retry-after": "20"})]

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.1)
        return replies.pop(0) if replies else httpx.Response(200, json=WITHOUT_USAGE)

    async with client_for(answer) as client:
        assert not await run_all(client, ["q"] * 200)
    lines = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "jina_rerank"]
    assert len([text for level, text in lines if level == logging.DEBUG and text.startswith("throttled")]) == 7
    assert any(text.endswith("pause: 20 s") for _, text in lines)
    assert any(text.startswith("recovered") for _, text in lines)
    assert len([text for level, text in lines if level == logging.INFO]) == 1
    assert "jina_key" not in caplog.text


@pytest.mark.anyio
async def test_rate_limit_error_reports_retry_after_and_usage_of_others() -> None:
    server = LimitedServer(concurrency=0, refusal=refused(100, 100, "requests per minute"))
    async with server.client() as client:
        with pytest.raises(RateLimitError, match=r"others hold 100 of the 100 requests per minute") as caught:
            await client.rerank("q", ["a"], deadline=20)
    assert caught.value.retry_after is not None
    assert 30 < caught.value.retry_after <= 61
    assert 2 <= server.request_count <= 9


@pytest.mark.anyio
@pytest.mark.parametrize(("of_client", "of_clone"), [(10, 2), (2, 10)])
async def test_clone_with_max_concurrency_has_separate_limit(of_client: int, of_clone: int) -> None:
    server = LimitedServer(latency=1)
    async with server.client(max_concurrency=of_client) as client:
        await client.rerank("q", ["a"])
        await run_all(client.with_options(max_concurrency=of_clone), ["q"] * 30)
    assert server.max_in_flight == of_clone


def test_rate_limit_plans_match_emulator_tiers() -> None:
    plans = {"free": RateLimit.FREE, "paid": RateLimit.PAID, "premium": RateLimit.PREMIUM}
    assert dict(TIERS) == plans
