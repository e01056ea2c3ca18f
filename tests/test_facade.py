"""The sync facade: the async client's methods, blocking, from anywhere."""

import asyncio
import contextvars
import gc
import inspect
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from jina_rerank import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    RerankClient,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
)

from .servers import RawServer, answer_body, http, send, silence

pytestmark = pytest.mark.smoke

GOOD = send(http(answer_body(2)))


@pytest.fixture
def client(raw_server: RawServer) -> Iterator[SyncRerankClient]:
    raw_server.plays = [GOOD]
    with SyncRerankClient(base_url=raw_server.url, retry=RetryPolicy(base_delay=0.001)) as client:
        yield client


def parameters(function: Any) -> list[tuple[str, Any, Any, Any]]:
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default, p.annotation) for p in signature.parameters.values()]


TWINS = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}


def test_sync_client_has_same_methods_and_signatures() -> None:
    def methods(cls: type) -> set[str]:
        return {name for name, value in vars(cls).items() if inspect.isfunction(value) and not name.startswith("_")}

    assert {TWINS.get(name, name) for name in methods(RerankClient)} == methods(SyncRerankClient)
    for name in ("rerank", "with_options", "aclose", "__aenter__", "__aexit__"):
        ours, theirs = getattr(SyncRerankClient, TWINS.get(name, name)), getattr(RerankClient, name)
        assert parameters(ours) == parameters(theirs)
        assert inspect.signature(ours).return_annotation == inspect.signature(theirs).return_annotation
    differing = [
        ours[0]
        for ours, theirs in zip(parameters(SyncRerankClient), parameters(RerankClient), strict=True)
        if ours != theirs
    ]
    assert differing == ["http_client"]


def test_sync_client_ranks(client: SyncRerankClient, raw_server: RawServer) -> None:
    documents = [object(), object()]
    response = client.rerank("q", documents, key=lambda document: "text")
    assert [result.document is documents[result.index] for result in response.results] == [True, True]
    assert response.documents == documents[::-1]
    for _ in range(5):
        client.rerank("q", ["a", "b"])
    assert raw_server.connections == 1


def test_errors_are_those_of_the_async_client(client: SyncRerankClient, raw_server: RawServer) -> None:
    with pytest.raises(InvalidRequestError, match="top_n"):
        client.rerank("q", ["a"], top_n=0)
    assert raw_server.requests == []
    raw_server.plays = [send(http(b'{"detail": "no", "code": "AUTH_MISSING_API_KEY"}', 401))]
    with pytest.raises(AuthenticationError, match="no") as caught:
        client.rerank("q", ["a"])
    assert caught.value.code == "AUTH_MISSING_API_KEY"
    raw_server.plays = [send(http(b"", 503))]
    with pytest.raises(ServerError) as failed:
        client.rerank("q", ["a"])
    assert failed.value.attempts == 3
    raw_server.plays = [silence]
    with pytest.raises(DeadlineExceededError):
        client.rerank("q", ["a"], deadline=0.1)


def test_key_is_called_in_the_callers_thread(client: SyncRerankClient) -> None:
    threads = set()

    def key(document: str) -> str:
        threads.add(threading.current_thread())
        return document

    client.rerank("q", ["a", "b"], key=key)
    assert threads == {threading.current_thread()}


def test_error_of_key_function_propagates_unchanged(client: SyncRerankClient) -> None:
    with pytest.raises(KeyError, match="title"):
        client.rerank("q", [{"text": "a"}], key=lambda document: document["title"])


def test_threads_share_a_client(client: SyncRerankClient) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda i: client.rerank("q", [f"a{i}", f"b{i}"]).documents, range(200)))
    assert answers == [[f"b{i}", f"a{i}"] for i in range(200)]
    assert sum(thread.name == "jina-rerank" for thread in threading.enumerate()) == 1


def test_call_on_closed_client_raises_client_closed_error(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    client = SyncRerankClient(base_url=raw_server.url)
    clone = client.with_options(timeout=5)
    clone.close()
    clone.rerank("q", ["a", "b"])
    client.close()
    client.close()
    for closed in (client, clone):
        with pytest.raises(ClientClosedError):
            closed.rerank("q", ["a", "b"])
    unused = SyncRerankClient(base_url=raw_server.url)
    unused.close()
    with pytest.raises(ClientClosedError):
        unused.rerank("q", [])


def test_closing_ends_calls_of_other_threads(raw_server: RawServer) -> None:
    arrived = threading.Barrier(6)

    def play(connection: Any) -> None:
        arrived.wait(10)
        silence(connection)

    raw_server.plays = [play]
    client = SyncRerankClient(base_url=raw_server.url)
    with ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(client.rerank, "q", ["a"]) for _ in range(5)]
        arrived.wait(10)
        client.close()
        assert [type(call.exception(10)) for call in calls] == [ClientClosedError] * 5


def test_call_under_running_loop_works_and_warns_once(
    client: SyncRerankClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[str]:
        client.rerank("q", ["a", "b"])
        return client.rerank("q", ["a", "b"]).documents

    with caplog.at_level(logging.DEBUG, logger="jina_rerank"):
        assert asyncio.run(main()) == ["b", "a"]
        asyncio.run(main())
    assert len([record for record in caplog.records if "RerankClient" in record.message]) <= 1


async def _reenter(client: list[SyncRerankClient], request: httpx.Request) -> None:
    client[0].rerank("q", ["a"])


def test_hook_that_calls_client_raises_instead_of_deadlock() -> None:
    clients: list[SyncRerankClient] = []

    async def hook(request: httpx.Request) -> None:
        await _reenter(clients, request)

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(event_hooks={"request": [hook]})

    clients.append(SyncRerankClient(base_url="http://127.0.0.1:9", http_client=make))
    with clients[0] as client, pytest.raises(ConfigurationError, match="its own event loop"):
        client.rerank("q", ["a"])


@pytest.mark.parametrize("error", [RuntimeError("database shutdown"), asyncio.CancelledError("of a hook")], ids=repr)
def test_error_of_hook_propagates_unchanged(error: BaseException) -> None:
    async def hook(request: httpx.Request) -> None:
        raise error

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(event_hooks={"request": [hook]})

    client = SyncRerankClient(base_url="http://127.0.0.1:9", http_client=make)
    with client, pytest.raises(type(error), match=str(error)):
        client.rerank("q", ["a"])


def test_hook_that_blocks_loop_does_not_hang_caller() -> None:
    release = threading.Event()

    async def hook(request: httpx.Request) -> None:
        release.wait(20)

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(event_hooks={"request": [hook]})

    with SyncRerankClient(base_url="http://127.0.0.1:9", http_client=make) as client:
        with pytest.raises(DeadlineExceededError, match="blocked"):
            client.rerank("q", ["a"], deadline=0.1)
        release.set()


def test_http_client_is_made_by_a_function_on_the_background_loop() -> None:
    made: list[tuple[str, httpx.AsyncClient]] = []

    def make() -> httpx.AsyncClient:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=answer_body(2)))
        made.append((threading.current_thread().name, httpx.AsyncClient(transport=transport)))
        return made[-1][1]

    with SyncRerankClient("jina_key", http_client=make) as client:
        assert client.rerank("q", ["a", "b"]).documents == ["b", "a"]
        assert client.rerank("q", ["a", "b"]).documents == ["b", "a"]
    assert [(name, made_client.is_closed) for name, made_client in made] == [("jina-rerank", True)]
    with pytest.raises(ConfigurationError, match="lambda"):
        SyncRerankClient("jina_key", http_client=made[0][1])  # type: ignore[arg-type]  # the mistake that is tested


def test_context_variables_reach_hooks() -> None:
    span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")
    seen: list[str] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(span.get())

    def make() -> httpx.AsyncClient:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=answer_body(1)))
        return httpx.AsyncClient(transport=transport, event_hooks={"request": [hook]})

    with SyncRerankClient("jina_key", http_client=make) as client:
        span.set("mine")
        client.rerank("q", ["a"])
    assert seen == ["mine"]


def test_idle_client_closes_its_sockets(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(answer_body(2)))]
    with SyncRerankClient(base_url=raw_server.url) as client:
        client.rerank("q", ["a", "b"])
        assert raw_server.disconnected.wait(15)  # after 4 s, by design
        assert client.rerank("q", ["a", "b"]).documents == ["b", "a"]


def test_failed_call_releases_its_documents(raw_server: RawServer) -> None:
    class Watched(str):
        __slots__ = ("__weakref__",)

    def call() -> "weakref.ref[Watched]":
        document = Watched("a")
        with suppress(AuthenticationError):
            quiet.rerank("q", [document])
        return weakref.ref(document)

    raw_server.plays = [send(http(b"", 401))]
    gc.disable()
    try:
        with SyncRerankClient(base_url=raw_server.url) as quiet:
            document = call()
        assert document() is None
    finally:
        gc.enable()
