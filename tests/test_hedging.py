"""Request hedging: a second copy of a slow request, in virtual time."""

import asyncio
from typing import Any, ClassVar

import anyio
import httpx
import pytest

from jina_rerank import (
    APIConnectionError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    RateLimit,
    RateLimitError,
    RerankClient,
    RerankError,
    RerankResponse,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
)

from . import virtual_time
from .fake_server import OK, Body, ScriptedServer
from .servers import RawServer, answer_body, http, send, silence

ONCE = RetryPolicy(max_attempts=1)

Play = tuple[float, int | Exception]
"""Seconds until a request is answered, and the status or the error."""


anyio_backend = virtual_time.backend


class HedgedServer(ScriptedServer):
    """Plays replies; the model in an answer names the copy that it answers."""

    client_options: ClassVar = {"hedge_after": 1, "retry": ONCE}

    def response(self, status: int, body: Body, number: int) -> httpx.Response:
        content = answer_body(len(body["documents"]), model=f"copy {number}")
        return httpx.Response(status, content=content if status == OK else b"")


async def success(client: RerankClient) -> tuple[RerankResponse[str], float]:
    """Return a response and the seconds it took."""
    start = anyio.current_time()
    async with client:
        response = await client.rerank("q", ["a"])
    return response, anyio.current_time() - start


async def failure(client: RerankClient) -> tuple[RerankError, float]:
    """Return an error and the seconds it took."""
    start = anyio.current_time()
    async with client:
        with pytest.raises(RerankError) as caught:
            await client.rerank("q", ["a"])
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return caught.value, anyio.current_time() - start


@pytest.mark.anyio
async def test_quick_answer_sends_no_second_copy() -> None:
    server = HedgedServer((0.9, OK))
    response, seconds = await success(server.client())
    assert (response.attempts, response.calls, seconds) == (1, 1, 0.9)


@pytest.mark.anyio
async def test_hedge_after_none_disables_hedging() -> None:
    server = HedgedServer((50.0, OK))
    response, seconds = await success(server.client(hedge_after=None))
    assert (response.attempts, seconds) == (1, 50.0)


@pytest.mark.parametrize(
    ("plays", "winner", "seconds"),
    [
        pytest.param([(50.0, OK), (0.5, OK)], 1, 1.5, id="the copy is quicker"),
        pytest.param([(2.0, OK), (50.0, OK)], 0, 2.0, id="the first is quicker"),
        pytest.param([(2.0, 503), (3.0, OK)], 1, 4.0, id="the first fails"),
        pytest.param([(3.0, OK), (1.0, 503)], 0, 3.0, id="the copy fails"),
        pytest.param([(3.0, OK), (1.0, httpx.ReadError("cut"))], 0, 3.0, id="the copy breaks"),
    ],
)
@pytest.mark.anyio
async def test_first_answer_of_two_copies_wins(plays: list[Play], winner: int, seconds: float) -> None:
    server = HedgedServer(*plays)
    response, taken = await success(server.client())
    assert response.model == f"copy {winner}"
    assert taken == pytest.approx(seconds)
    assert (response.attempts, response.calls, response.strategy) == (2, 1, "single")
    assert [time - server.arrival_times[0] for time in server.arrival_times] == [0.0, 1.0]
    loser = 1 - winner
    assert server.cancelled == ([] if plays[loser][1] != OK else [loser])


@pytest.mark.parametrize(
    ("plays", "error", "seconds"),
    [
        pytest.param([(0.5, 400)], BadRequestError, 0.5, id="before a copy is due"),
        pytest.param([(2.0, 429), (3.0, 503)], RateLimitError, 4.0, id="the first fails first"),
        pytest.param([(3.0, 429), (0.5, 503)], RateLimitError, 3.0, id="the copy fails first"),
        pytest.param([(2.0, httpx.ReadError("cut")), (1.0, 503)], APIConnectionError, 2.0, id="both at a time"),
    ],
)
@pytest.mark.anyio
async def test_failure_of_both_copies_raises_error_of_first(
    plays: list[Play], error: type[RerankError], seconds: float
) -> None:
    caught, taken = await failure(HedgedServer(*plays).client())
    assert type(caught) is error
    assert taken == pytest.approx(seconds)
    assert caught.attempts == len(plays)


@pytest.mark.anyio
async def test_retry_follows_failure_of_both_copies() -> None:
    server = HedgedServer((2.0, 503), (2.0, 503), (0.5, OK))
    response, seconds = await success(server.client(retry=RetryPolicy(base_delay=0.0)))
    assert response.attempts == 3
    assert seconds == pytest.approx(3.5)


@pytest.mark.anyio
async def test_hedge_budget_allows_one_copy_in_twenty_requests() -> None:
    server = HedgedServer((2.0, OK))
    async with server.client() as client:
        attempts = [(await client.rerank("q", ["a"])).attempts for _ in range(100)]
    # The budget starts with one copy; then it earns one every twenty requests.
    assert [number for number, count in enumerate(attempts) if count == 2] == [0, 19, 39, 59, 79, 99]
    assert len(server.arrival_times) == sum(attempts) == 106


@pytest.mark.anyio
async def test_hedge_budget_saves_up_five_copies_shared_by_clones() -> None:
    server = HedgedServer(*[(0.5, OK)] * 500, (2.0, OK))
    async with server.client() as client:
        for _ in range(500):
            await client.rerank("q", ["a"])
        clones = [client.with_options(timeout=50 + number) for number in range(10)]
        attempts = [(await clone.rerank("q", ["a"])).attempts for clone in clones]
    assert attempts == [2] * 5 + [1] * 5


@pytest.mark.anyio
async def test_second_copy_respects_max_concurrency() -> None:
    server = HedgedServer((5.0, OK))
    response, seconds = await success(server.client(max_concurrency=1))
    assert (response.attempts, seconds, len(server.arrival_times)) == (1, 5.0, 1)


@pytest.mark.anyio
async def test_each_part_can_be_hedged() -> None:
    server = HedgedServer((5.0, OK), (0.5, OK))
    async with server.client(scoring="pointwise", max_documents=2) as client:
        response = await client.rerank("q", ["a", "b", "c", "d"])
    assert (response.calls, response.attempts, response.strategy) == (2, 3, "split")


@pytest.mark.anyio
async def test_deadline_cancels_both_copies() -> None:
    server = HedgedServer((50.0, OK))
    error, seconds = await failure(server.client(deadline=3))
    assert isinstance(error, DeadlineExceededError)
    assert (error.attempts, seconds, sorted(server.cancelled)) == (2, 3.0, [0, 1])


@pytest.mark.anyio
async def test_cancellation_by_caller_cancels_both_copies_and_propagates() -> None:
    server = HedgedServer((50.0, OK))
    async with server.client() as client:
        with anyio.move_on_after(3) as scope:
            await client.rerank("q", ["a"])
    assert scope.cancelled_caught
    assert sorted(server.cancelled) == [0, 1]


@pytest.mark.anyio
async def test_closing_client_cancels_both_copies() -> None:
    async def call() -> None:
        with pytest.raises(ClientClosedError) as caught:
            await client.rerank("q", ["a"])
        assert caught.value.attempts == 2

    server = HedgedServer((50.0, OK))
    client = server.client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(3)
        await client.aclose()
    assert sorted(server.cancelled) == [0, 1]


def test_cancelled_asyncio_task_cancels_both_copies() -> None:
    async def main() -> None:
        server = HedgedServer((50.0, OK))
        async with server.client(hedge_after=0.001) as client:
            task = asyncio.create_task(client.rerank("q", ["a"]))
            await server.wait_for_requests(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sorted(server.cancelled) == [0, 1]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


class NestedGroupServer(HedgedServer):
    """Keeps a task group open while it answers, as connecting to the first of several addresses does."""

    async def respond(self, body: Body, number: int) -> httpx.Response:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            return await super().respond(body, number)
        raise AssertionError


@pytest.mark.parametrize(
    "options",
    [{"hedge_after": 0.001}, {"hedge_after": None, "scoring": "pointwise", "max_documents": 1}],
    ids=["hedge", "parts"],
)
def test_task_cancelled_while_copies_or_parts_are_in_flight_stays_cancelled(options: dict[str, Any]) -> None:
    async def main() -> None:
        server = NestedGroupServer((50.0, OK))
        async with server.client(**options) as client:
            task = asyncio.create_task(client.rerank("q", ["a", "b"]))
            await server.wait_for_requests(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelling() == 1

    asyncio.run(main())


def test_error_of_hook_propagates_unchanged() -> None:
    async def hook(request: httpx.Request) -> None:
        raise SystemExit(3)

    def http_client() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.MockTransport(HedgedServer((0.0, OK))), event_hooks={"request": [hook]}
        )

    with SyncRerankClient("jina_key", hedge_after=1, http_client=http_client) as client:
        with pytest.raises(SystemExit) as caught:
            client.rerank("q", ["a"])
        assert caught.value.code == 3


def test_losing_copy_disconnects_and_winner_keeps_connection(raw_server: RawServer) -> None:
    raw_server.plays = [silence, send(http(answer_body(1)))]
    with SyncRerankClient(base_url=raw_server.url, hedge_after=0.05) as client:
        assert [client.rerank("q", ["a"]).attempts for _ in range(3)] == [2, 1, 1]
        assert raw_server.disconnected.wait(10)
    assert raw_server.connections == 2


@pytest.mark.parametrize("seconds", [0, -1, True, "1", float("nan")])
def test_hedge_after_is_a_positive_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="hedge_after"):
        RerankClient("jina_key", hedge_after=seconds)


@pytest.mark.anyio
async def test_immediate_failure_sends_no_second_copy() -> None:
    server = HedgedServer((0.0, 503))
    error, seconds = await failure(server.client(retry=RetryPolicy(base_delay=0.0)))
    assert isinstance(error, ServerError)
    assert (error.attempts, seconds) == (3, 0.0)


@pytest.mark.anyio
async def test_hedge_timer_starts_when_request_is_sent() -> None:
    server = HedgedServer((1.0, OK))
    async with server.client(rate_limit=RateLimit(requests_per_minute=1)) as client:
        assert (await client.rerank("first", ["a"])).attempts == 1
        assert (await client.rerank("waits for a minute", ["a"])).attempts == 1
    assert len(server.arrival_times) == 2


@pytest.mark.anyio
async def test_clone_with_hedge_after_sends_second_copy() -> None:
    server = HedgedServer((10.0, OK), (0.1, OK), (10.0, OK))
    async with server.client(hedge_after=None, retry=RetryPolicy()) as client:
        assert (await client.with_options(hedge_after=1.0).rerank("q", ["a"])).attempts == 2
        assert (await client.rerank("q", ["a"])).attempts == 1
