"""Cancellation and load: a client that has been treated badly is as good as a new one."""

import random
import socket
import threading
import time
from typing import Any, Literal

import anyio
import pytest

from jina_rerank import ClientClosedError, DeadlineExceededError, RerankResponse, RetryPolicy, SyncRerankClient

from .matrix.case import QUICK, TEXTS
from .servers import RawServer, answer_body, http, send
from .ways import WAYS, Way

GOOD = http(answer_body(2))
LOOPS = [way for way in WAYS if way.loop != "sync"]
KINDS = pytest.mark.parametrize("way", LOOPS, ids=str)

CONNECTIONS = 10


async def ten_good_calls(client: Any) -> None:
    for _ in range(10):
        response = await client.rerank("q", TEXTS, deadline=20.0)
        assert (response.documents, response.attempts) == (["b", "a"], 1)


@KINDS
def test_cancellations_at_any_moment_leave_client_usable(way: Way) -> None:
    ends = {"cancelled": 0, "served": 0}
    chance = random.Random(1)

    async def caller(client: Any, times: int) -> None:
        for _ in range(times):
            with anyio.move_on_after(chance.uniform(0, 0.006)) as scope:
                response = await client.rerank("q", TEXTS)
                assert response.documents == ["b", "a"]
            ends["cancelled" if scope.cancelled_caught else "served"] += 1

    async def churn() -> None:
        client = way.client(base_url=server.url, retry=QUICK, max_concurrency=CONNECTIONS)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(caller, client, 100)
        await ten_good_calls(client)
        await client.aclose()

    with RawServer(send(GOOD)) as server:
        way.run(churn)
        assert server.is_deserted()
    assert sum(ends.values()) == 5_000
    assert ends["cancelled"] > 1_000


@KINDS
def test_overload_with_deadlines_leaves_client_usable(way: Way) -> None:
    ends = {"served": 0, "late": 0}
    chance = random.Random(1)

    def play(connection: socket.socket) -> None:
        threading.Event().wait(chance.uniform(0.05, 0.1))
        connection.sendall(GOOD)

    async def caller(client: Any, end: float) -> None:
        while anyio.current_time() < end:
            start = anyio.current_time()
            try:
                response = await client.rerank("q", TEXTS)
                assert response.documents == ["b", "a"]
                ends["served"] += 1
            except DeadlineExceededError:
                assert anyio.current_time() >= start + 0.2  # as the client adds it: a difference may round below 0.2
                ends["late"] += 1

    async def overload() -> None:
        client = way.client(base_url=server.url, retry=QUICK, deadline=0.2, max_concurrency=CONNECTIONS)
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(caller, client, anyio.current_time() + 2.0)
        server.heal()
        await ten_good_calls(client)
        await client.aclose()

    with RawServer(play) as server:
        way.run(overload)
        assert server.is_deserted()
    assert ends["late"] > 0
    assert ends["served"] >= 0.65 * CONNECTIONS * 2.0 / 0.075


@pytest.mark.parametrize("way", [Way("uvloop", "httpx"), Way("trio", "httpx"), Way("asyncio", "aiohttp")], ids=str)
def test_thousand_concurrent_calls_succeed(way: Way) -> None:
    release = threading.Event()
    arrived = threading.Semaphore(0)

    def play(connection: socket.socket) -> None:
        arrived.release()
        release.wait(1.0)
        connection.sendall(GOOD)

    responses: list[RerankResponse[Any]] = []

    async def call(client: Any) -> None:
        responses.append(await client.rerank("q", TEXTS))

    async def all_at_once() -> None:
        client = way.client(base_url=server.url, retry=RetryPolicy(max_attempts=1), max_concurrency=1_000)
        async with anyio.create_task_group() as tasks:
            for _ in range(1_000):
                tasks.start_soon(call, client)
        await client.aclose()

    with RawServer(play) as server:
        way.run(all_at_once)
    assert [(response.documents, response.attempts) for response in responses] == [(["b", "a"], 1)] * 1_000
    assert len(server.requests) == 1_000


@KINDS
def test_calls_racing_with_aclose_succeed_or_raise_client_closed_error(way: Way) -> None:
    ends: list[str] = []

    async def call(client: Any) -> None:
        try:
            ends.append((await client.rerank("q", TEXTS)).documents[0])
        except ClientClosedError:
            ends.append("closed")

    async def race() -> None:
        chance = random.Random(1)
        for _ in range(100):
            client = way.client(base_url=server.url, retry=QUICK)
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(call, client)
                await anyio.sleep(chance.uniform(0, 0.005))
                await client.aclose()
            await client.aclose()
            with pytest.raises(ClientClosedError):
                await client.rerank("q", TEXTS)

    with RawServer(send(GOOD)) as server:
        way.run(race)
        assert server.is_deserted()
    assert len(ends) == 500
    assert set(ends) <= {"b", "closed"}
    assert "closed" in ends


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
def test_threads_are_served_while_others_are_interrupted_by_deadlines(transport: Literal["httpx", "aiohttp"]) -> None:
    """The facade under the same treatment: twenty threads, and half of all calls too slow for their deadline."""
    ends: dict[str, int] = {"late": 0, "served": 0}
    lock = threading.Lock()

    def play(connection: socket.socket) -> None:
        threading.Event().wait(random.choice((0.0, 0.1)))
        connection.sendall(GOOD)

    def work(client: Any) -> None:
        for _ in range(20):
            try:
                client.rerank("q", TEXTS, deadline=0.05)
                end = "served"
            except DeadlineExceededError:
                end = "late"
            with lock:
                ends[end] += 1

    with RawServer(play) as server:
        client = SyncRerankClient(base_url=server.url, max_concurrency=20, transport=transport)
        threads = [threading.Thread(target=work, args=(client,)) for _ in range(20)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert time.monotonic() - start < 30
        server.heal()
        for _ in range(10):
            assert client.rerank("q", TEXTS).documents == ["b", "a"]
        client.close()
        assert server.is_deserted()
    assert sum(ends.values()) == 400
    assert min(ends.values()) > 0
