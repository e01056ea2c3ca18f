"""DNS resolvers that fail or hang. uvloop has its own resolver, which tests cannot replace."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from jina_rerank import APIConnectionError, APITimeoutError, DeadlineExceededError, RerankError

from .matrix.case import QUICK, TEXTS
from .servers import RawServer, answer_body, http, send
from .ways import WAYS, Way

LOOPS = pytest.mark.parametrize("way", [way for way in WAYS if way.loop != "uvloop"], ids=str)
HOST = "rerank.example"


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Sets what happens when the host of these tests is looked up, before its address is found."""
    real = socket.getaddrinfo

    def install(happens: Callable[[], None]) -> None:
        def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
            # With that flag trio asks only whether the host is an address.
            asked = host in (HOST, HOST.encode()) and not any(flags & socket.AI_NUMERICHOST for flags in args[4:])
            if asked:
                happens()
            return real("127.0.0.1" if asked else host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return install


async def call(way: Way, server: RawServer, **options: Any) -> Any:
    client = way.client(base_url=f"http://{HOST}:{server.port}", retry=QUICK, **options)
    try:
        return await client.rerank("q", TEXTS)
    except RerankError as error:
        return error
    finally:
        await client.aclose()


@LOOPS
def test_temporary_resolver_failure_is_retried(
    way: Way, raw_server: RawServer, resolve: Callable[[Callable[[], None]], None]
) -> None:
    lookups: list[float] = []

    def trouble(times: int) -> Callable[[], None]:
        def happens() -> None:
            lookups.append(time.monotonic())
            if len(lookups) <= times:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        lookups.clear()
        return happens

    raw_server.plays = [send(http(answer_body(2)))]
    resolve(trouble(2))
    response = way.run(lambda: call(way, raw_server))
    assert (response.documents, response.attempts) == (["b", "a"], 3)
    resolve(trouble(99))
    error = way.run(lambda: call(way, raw_server))
    assert isinstance(error, APIConnectionError)
    assert "Temporary failure in name resolution" in error.message
    assert error.attempts == len(lookups) == 3


@LOOPS
@pytest.mark.parametrize(
    ("options", "kind"), [({"deadline": 0.3}, DeadlineExceededError), ({"timeout": 0.1}, APITimeoutError)]
)
def test_hanging_resolver_blocks_neither_call_nor_aclose(
    way: Way,
    options: dict[str, float],
    kind: type[RerankError],
    raw_server: RawServer,
    resolve: Callable[[Callable[[], None]], None],
) -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(20)

    resolve(hang)

    async def timed() -> tuple[Any, float]:
        start = time.monotonic()
        try:
            return await call(way, raw_server, **options), time.monotonic() - start
        finally:
            release.set()  # the event loop itself waits at its end for the thread of a lookup

    error, seconds = way.run(timed)
    assert type(error) is kind
    assert seconds < 5
    assert raw_server.connections == 0
