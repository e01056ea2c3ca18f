"""The rate limiter against servers with many kinds of limits, alone or beside other programs, in virtual time."""

import random
from collections import Counter
from typing import Any

import anyio
import httpx
import pytest

from jina_rerank import RateLimit, RerankClient, RerankRequest
from jina_rerank.emulator import create_app

from . import virtual_time
from .simulation.run import run
from .simulation.scenarios import SCENARIOS, Scenario
from .simulation.verdict import verdict

anyio_backend = virtual_time.backend


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_limits_of_any_kind_are_used_fully(scenario: Scenario) -> None:
    seeds = 3 if "random" in scenario.name and scenario.calls < 1000 else 1
    assert not verdict(scenario, [run(scenario, seed) for seed in range(seeds)])


class CountedKey(httpx.AsyncBaseTransport):
    """The emulator with the limits of a free key, which counts its answers by status."""

    def __init__(self) -> None:
        self._app = httpx.ASGITransport(create_app(limits=RateLimit.FREE, latency=0.1))
        self.statuses: Counter[int] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._app.handle_async_request(request)
        self.statuses[response.status_code] += 1
        return response


def program(server: CountedKey, number: int) -> RerankClient:
    """Return a client that shares no limits with others of its key, as in a separate process."""
    http_client = httpx.AsyncClient(transport=server)
    return RerankClient("jina_key", base_url=f"http://127.0.0.{number}", http_client=http_client)


async def gather(client: RerankClient, calls: int, done: list[float]) -> None:
    async def call() -> None:
        await client.rerank("q", ["a", "b"])
        done.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(call)


async def batch(client: RerankClient, calls: int, done: list[float]) -> None:
    async for outcome in client.rerank_many(RerankRequest(query="q", documents=["a", "b"]) for _ in range(calls)):
        assert outcome.error is None
        done.append(anyio.current_time())


@pytest.mark.anyio
@pytest.mark.parametrize("way", [gather, batch])
@pytest.mark.parametrize("gap", [6, 10, 30, 50])
async def test_second_script_on_a_used_up_key_is_done_soon_after_the_minute(gap: int, way: Any) -> None:
    random.seed(gap)
    server, start, done = CountedKey(), anyio.current_time(), list[float]()
    async with program(server, 1) as first:
        await way(first, 100, [])
    await anyio.sleep_until(start + gap)
    async with program(server, 2) as second:
        await way(second, 100, done)
    assert len(done) == 100
    assert done[-1] - start <= 70


@pytest.mark.anyio
async def test_four_programs_on_free_key_all_finish_without_starvation() -> None:
    throttled = sorted([await share_of_429s_of_four_programs(seed) for seed in range(5)])
    assert throttled[2] <= 0.12  # the median


async def share_of_429s_of_four_programs(seed: int) -> float:
    random.seed(seed)
    server, start = CountedKey(), anyio.current_time()
    done: list[list[float]] = [[], [], [], []]
    clients = [program(server, number + 1) for number in range(4)]
    async with anyio.create_task_group() as tasks:
        for client, times in zip(clients, done, strict=True):
            tasks.start_soon(gather, client, 60, times)
    for client in clients:
        await client.aclose()
    assert [len(times) for times in done] == [60] * 4
    for times in done:
        assert len([time for time in times if time - start <= 90]) >= 20
    return server.statuses[429] / server.statuses.total()


@pytest.mark.anyio
async def test_second_program_beside_one_that_runs_for_long_gets_its_share() -> None:
    random.seed(1)
    server, done, served = CountedKey(), list[float](), list[float]()
    async with program(server, 1) as old, program(server, 2) as new, anyio.create_task_group() as tasks:

        async def work() -> None:
            while True:
                await old.rerank("q", ["a", "b"])
                served.append(anyio.current_time())

        for _ in range(10):
            tasks.start_soon(work)
        await anyio.sleep(600)
        joined = len(served)
        with anyio.move_on_after(600):
            await gather(new.with_options(deadline=900), 1000, done)
        tasks.cancel_scope.cancel()
    assert len(done) >= 0.3 * 1000
    assert len(served) - joined >= 0.3 * 1000
