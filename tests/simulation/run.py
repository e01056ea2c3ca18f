"""Runs a scenario: calls of a RerankClient against a SimulatedServer, in virtual time."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

from jina_rerank import RerankClient, RerankError
from jina_rerank.limits import RateLimitStatus

from .. import virtual_time
from .server import SimulatedServer

_SAMPLE_SECONDS = 0.02


@dataclass
class Outcome:
    """What a run of a scenario has come to."""

    seconds: float = 0.0
    """From the first call to the end of the last."""
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    server: SimulatedServer | None = None
    samples: list[tuple[float, RateLimitStatus]] = field(default_factory=list[tuple[float, RateLimitStatus]])
    """What the client has shown of its limits, over time."""

    @property
    def sent(self) -> int:
        """Requests that reached the server."""
        return len(self.server.arrivals) if self.server else 0

    @property
    def refused(self) -> int:
        """How many of them it refused."""
        return self.server.refused if self.server else 0

    def rate(self, start: float, end: float) -> float:
        """Requests served in each second of a span of time."""
        assert self.server
        return sum(start <= time < end for time in self.server.served_at) / (end - start)


async def gather(client: RerankClient, calls: int, outcome: Outcome) -> None:
    """Start all calls at once."""

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(_call, client, outcome)


def workers(number: int, seconds: float) -> Callable[[RerankClient, int, Outcome], Any]:
    """So many tasks that call again and again until some time is over."""

    async def run(client: RerankClient, calls: int, outcome: Outcome) -> None:
        async def work() -> None:
            while anyio.current_time() < end:
                await _call(client, outcome)

        end = anyio.current_time() + seconds
        with anyio.move_on_at(end):
            async with anyio.create_task_group() as tasks:
                for _ in range(number):
                    tasks.start_soon(work)

    return run


async def _call(client: RerankClient, outcome: Outcome) -> None:
    try:
        await client.rerank("q", ["a", "b"])
        outcome.done += 1
    except RerankError as error:
        outcome.failed[type(error).__name__] += 1


class Bare(httpx.AsyncClient):
    """Sends to its transport, without cookies, redirects and logs: they would take a quarter of the time of a run."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport)
        self._server = transport

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Takes only what RerankClient sends: nothing is followed or kept."""
        return await self._server.handle_async_request(request)


@asynccontextmanager
async def client_of(transport: httpx.AsyncBaseTransport, **options: Any) -> AsyncIterator[RerankClient]:
    async with Bare(transport) as http, RerankClient("jina_k", http_client=http, **options) as client:
        yield client


async def _watch(client: RerankClient, outcome: Outcome) -> None:
    assert outcome.server
    while True:
        outcome.samples.append((outcome.server.now, client.limits))
        await anyio.sleep(_SAMPLE_SECONDS)


def run(scenario: Any, seed: int, *, watched: bool = False) -> Outcome:
    """One run of a scenario, from a seed; `watched` takes samples of the client's limits."""

    async def main() -> Outcome:
        random.seed(seed)
        outcome = Outcome()
        start = anyio.current_time()
        outcome.server = SimulatedServer(scenario.limits(random.Random(seed)), scenario.latency, start)
        async with client_of(outcome.server, **scenario.options) as client, anyio.create_task_group() as tasks:
            if watched:
                tasks.start_soon(_watch, client, outcome)
            with anyio.move_on_after(3600):
                await scenario.way(client, scenario.calls, outcome)
            tasks.cancel_scope.cancel()
        outcome.seconds = anyio.current_time() - start
        return outcome

    return virtual_time.run(main)
