"""More callers than the server can serve, all with deadlines: throughput stays near capacity. In virtual time."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from jina_rerank import DeadlineExceededError, RateLimit, RerankClient

from . import virtual_time
from .fake_server import Body, FakeServer

pytestmark = pytest.mark.anyio

CALLERS = 60
CONNECTIONS = 10
SECONDS = 8.0


anyio_backend = virtual_time.backend


class SlowServer(FakeServer):
    """Answers each request after the seconds that `latency` returns."""

    def __init__(self, latency: Callable[[], float]) -> None:
        super().__init__()
        self.latency = latency

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await anyio.sleep(self.latency())
        return await super().respond(body, number)


async def served(latency: Callable[[], float], deadline: float, **options: Any) -> list[float]:
    """Run `CALLERS` that call in a loop for `SECONDS`; return when calls succeeded, in seconds since the start."""

    async def caller(client: RerankClient) -> None:
        while anyio.current_time() < start + SECONDS:
            try:
                await client.rerank("q", ["a"], deadline=deadline)
                times.append(anyio.current_time() - start)
            except DeadlineExceededError:
                pass

    times, start = list[float](), anyio.current_time()
    client = SlowServer(latency).client(**options)
    async with client, anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(caller, client)
    return times


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_concurrency": CONNECTIONS}, id="the client's own limit"),
        pytest.param({"rate_limit": RateLimit(concurrency=CONNECTIONS)}, id="the limit of the key"),
    ],
)
@pytest.mark.parametrize(
    ("fastest", "slowest", "deadline", "share"),
    [
        pytest.param(0.05, 0.1, 0.2, 0.9, id="there is time to wait"),
        pytest.param(0.05, 0.1, 0.11, 0.9, id="there is hardly time to wait"),
        pytest.param(0.01, 0.3, 0.2, 0.65, id="a third of all answers take longer than the deadline"),
    ],
)
async def test_overload_with_deadlines_sends_only_calls_that_can_finish(
    options: dict[str, Any], fastest: float, slowest: float, deadline: float, share: float
) -> None:
    chance = random.Random(1)
    times = await served(lambda: chance.uniform(fastest, slowest), deadline, **options)
    capacity = CONNECTIONS * SECONDS / ((fastest + slowest) / 2)
    assert len(times) >= share * capacity


async def test_latency_increase_raises_estimate_of_queued_calls() -> None:
    """Queued calls are allotted the higher latency, although no answer that slow has arrived yet."""
    start = anyio.current_time()

    def latency() -> float:
        return 0.15 if anyio.current_time() - start > SECONDS / 2 else 0.02

    times = await served(latency, 0.2, max_concurrency=1)
    assert len([time for time in times if time < SECONDS / 2]) >= 0.9 * SECONDS / 2 / 0.02
    assert len([time for time in times if time > SECONDS / 2]) >= 0.9 * SECONDS / 2 / 0.15


async def test_late_call_is_sent_when_queue_is_empty() -> None:
    """Answers are faster than estimated, so a remaining time that looked too short suffices."""
    latencies = iter([1.0, 1.0, 0.1, 0.1])
    async with SlowServer(lambda: next(latencies)).client(max_concurrency=1) as client:
        await client.rerank("q", ["a"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.rerank, "q", ["a"])
            await anyio.sleep(0.5)
            for deadline in (0.8, 0.9):  # 0.3 and 0.4 seconds remain when they reach the head of the queue
                tasks.start_soon(partial(client.rerank, "q", ["a"], deadline=deadline))
                await anyio.lowlevel.checkpoint()
    assert next(latencies, None) is None
