"""Cancellation in the rate limiter, on asyncio, uvloop and trio: no slot leaks, and no waiter hangs."""

import random
from typing import Any

import anyio
import httpx
import pytest

from jina_rerank import RateLimit

from .fake_server import Body, FakeServer


class GatedServer(FakeServer):
    """Holds all requests until `opened` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = anyio.Event()

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await self.opened.wait()
        return await super().respond(body, number)


OPTIONS: list[dict[str, Any]] = [{"max_concurrency": 1}, {"rate_limit": RateLimit(concurrency=1)}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.anyio
async def test_cancelled_request_releases_slot_to_next_waiter(options: dict[str, Any]) -> None:
    gate, done = GatedServer(), list[int]()

    async def call(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await client.rerank("q", ["a"])
            done.append(number)

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with gate.client(**options) as client, anyio.create_task_group() as tasks:
        for number, scope in enumerate(scopes):
            tasks.start_soon(call, number, scope)
            await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()  # the holder
        await anyio.wait_all_tasks_blocked()
        assert gate.in_flight == 1
        gate.opened.set()
    assert done == [1, 2]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.anyio
async def test_cancelled_waiter_passes_slot_to_next_waiter(options: dict[str, Any]) -> None:
    gate, done = GatedServer(), list[int]()

    async def call(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await client.rerank("q", ["a"])
            done.append(number)

    scopes = [anyio.CancelScope() for _ in range(4)]
    async with gate.client(**options) as client, anyio.create_task_group() as tasks:
        for number, scope in enumerate(scopes):
            tasks.start_soon(call, number, scope)
            await anyio.wait_all_tasks_blocked()
        scopes[1].cancel()  # it waits
        gate.opened.set()
        scopes[2].cancel()  # its slot may be granted, but the task has not resumed yet
    assert done == [0, 3]


@pytest.mark.anyio
async def test_random_cancellations_keep_limit_and_serve_all_others() -> None:
    chance, gate, served = random.Random(1), GatedServer(), 0

    async def call(scope: anyio.CancelScope) -> None:
        nonlocal served
        with scope:
            await client.rerank("q", ["a"])
            served += 1

    gate.opened.set()
    async with gate.client(rate_limit=RateLimit(concurrency=3)) as client:
        scopes = [anyio.CancelScope() for _ in range(400)]
        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(call, scope)
            for scope in chance.sample(scopes, 200):
                scope.cancel()
                if chance.random() < 0.3:
                    await anyio.lowlevel.checkpoint()
        assert served >= 200
        assert gate.max_in_flight <= 3
        with anyio.fail_after(10):  # all three slots are free again
            gate.opened, gate.max_in_flight = anyio.Event(), 0
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(client.rerank, "q", ["a"])
                await anyio.wait_all_tasks_blocked()
                assert gate.in_flight == 3
                gate.opened.set()
