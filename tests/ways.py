"""The ways to call: each event loop and the sync facade, over each transport."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import anyio
import trio

from jina_rerank import RerankClient, RerankResponse, SyncRerankClient

from .servers import SERVER

T = TypeVar("T")

Scenario = Callable[[], Coroutine[Any, Any, T]]


@dataclass(frozen=True)
class Way:
    """One way to call."""

    loop: Literal["asyncio", "uvloop", "trio", "sync"]
    transport: Literal["httpx", "aiohttp"]

    def __str__(self) -> str:
        return f"{self.loop}-{self.transport}"

    def client(self, *args: Any, **options: Any) -> "RerankClient | AwaitedFacade":
        """A client of this way."""
        if self.loop == "sync":
            return AwaitedFacade(SyncRerankClient(*args, transport=self.transport, **options))
        return RerankClient(*args, transport=self.transport, **options)

    def run(self, scenario: Scenario[T]) -> T:
        """Carries a scenario out, after which there are as many tasks, or threads, as before."""
        if self.loop == "sync":
            return _run_facade(scenario)
        if self.loop == "trio":
            return anyio.run(_leaving_no_task, scenario, _tasks_of_trio, backend="trio")
        options = {"use_uvloop": self.loop == "uvloop"}
        return anyio.run(_leaving_no_task, scenario, _tasks_of_asyncio, backend_options=options)


WAYS: Final = [
    Way("asyncio", "httpx"),
    Way("uvloop", "httpx"),
    Way("trio", "httpx"),
    Way("sync", "httpx"),
    Way("asyncio", "aiohttp"),
    Way("uvloop", "aiohttp"),
    Way("sync", "aiohttp"),
]


class AwaitedFacade:
    """The sync facade under the methods of the async client, which never wait."""

    def __init__(self, client: SyncRerankClient) -> None:
        self.client = client

    async def rerank(self, *args: Any, **options: Any) -> RerankResponse[Any]:
        """Blocks."""
        return self.client.rerank(*args, **options)

    def with_options(self, **options: Any) -> "AwaitedFacade":
        """A clone."""
        return AwaitedFacade(self.client.with_options(**options))

    async def aclose(self) -> None:
        """Blocks."""
        self.client.close()


def descriptors() -> int:
    """Return the number of open file descriptors of this process; 0 if the system does not report it."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208


def comes_to(count: Callable[[], int], expected: int, seconds: float = 5.0) -> bool:
    """Whether a count that others change comes down to `expected` within `seconds`."""
    end = time.monotonic() + seconds
    while count() > expected and time.monotonic() < end:
        threading.Event().wait(0.001)
    return count() <= expected


async def _leaving_no_task(scenario: Scenario[T], count: Callable[[], int]) -> T:
    before = count()
    result = await scenario()
    for _ in range(1_000):
        if count() <= before:
            break
        await anyio.sleep(0.005)
    assert count() == before, "tasks are left"
    return result


def _tasks_of_asyncio() -> int:
    return len(asyncio.all_tasks())


def _tasks_of_trio() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def _run_facade(scenario: Scenario[T]) -> T:
    SyncRerankClient(base_url="http://127.0.0.1:9").rerank(
        "q", []
    )  # starts the background loop without sending a request
    before = _threads()
    result = _run_to_end(scenario())
    assert comes_to(_threads, before), "threads are left"
    return result


def _threads() -> int:
    # Without those in which the event loop looks up hosts: they are a pool.
    return sum(not thread.name.startswith((SERVER, "asyncio_")) for thread in threading.enumerate())


def _run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs what never waits, and so needs no event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the scenario waited without a loop")
