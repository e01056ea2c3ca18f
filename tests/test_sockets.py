"""Real sockets: answers that are cut, slow, compressed or huge, and connections that go away."""

import gzip
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest
import trustme

from jina_rerank import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    RerankClient,
    RerankError,
    ResponseFormatError,
    RetryPolicy,
    ServerError,
)

from .matrix.case import server_tls, trust
from .servers import (
    HangUpError,
    Play,
    RawServer,
    answer_body,
    http,
    read_requests,
    reset,
    send,
    send_and_close,
    silence,
    trickle,
)

pytestmark = pytest.mark.anyio

GOOD = http(answer_body(2))
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
FAST = RetryPolicy(base_delay=0.001)


_road: ContextVar[Literal["httpx", "aiohttp"]] = ContextVar("_road")


@pytest.fixture(autouse=True, params=["httpx", "aiohttp"])
def road(request: pytest.FixtureRequest, anyio_backend_name: str) -> Iterator[None]:
    """Every test here runs over both transports."""
    if request.param == "aiohttp" and anyio_backend_name == "trio":
        pytest.skip("aiohttp runs on asyncio alone")
    token = _road.set(request.param)
    yield
    _road.reset(token)


def connect(*args: Any, **options: Any) -> RerankClient:
    return RerankClient(*args, transport=_road.get(), **options)


async def rerank(server: RawServer, **options: Any) -> Any:
    async with connect("jina_key", base_url=server.url, retry=FAST, **options) as client:
        return await client.rerank("q", ["a", "b"])


CUTS: dict[str, Play] = {
    "closed before an answer": send_and_close(),
    "reset before an answer": reset,
    "half of the headers": send_and_close(GOOD[:40]),
    "half of the body": send_and_close(GOOD[:-20]),
    "half of a chunk": send_and_close(CHUNKED + b"ff\r\n{"),
    "a chunk of no size": send_and_close(CHUNKED + b"zz\r\n"),
    "no HTTP at all": send_and_close(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "half of JSON, ended by closing": send_and_close(UNTIL_CLOSE + answer_body(2)[:-9]),
    "half of gzip": send_and_close(http(gzip.compress(answer_body(2))[:-12], content_encoding="gzip")),
    "nothing in a good answer": send(http(b"")),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_truncated_answer_is_retried(raw_server: RawServer, cut: Play) -> None:
    raw_server.plays = [cut, send(GOOD)]
    response = await rerank(raw_server)
    assert response.documents == ["b", "a"]
    assert response.attempts == len(raw_server.requests) == 2


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_answer_truncated_every_time_raises_typed_error(raw_server: RawServer, cut: Play) -> None:
    raw_server.plays = [cut]
    with pytest.raises((APIConnectionError, ResponseFormatError)) as caught:
        await rerank(raw_server)
    # An attempt more, if a connection was used again before its end had arrived here.
    assert caught.value.attempts in (len(raw_server.requests), len(raw_server.requests) + 1)
    assert len(raw_server.requests) == (2 if isinstance(caught.value, ResponseFormatError) else 3)
    assert "jina_key" not in str(caught.value)


TRICKLES = {
    "an answer": GOOD,
    "a header": b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 10_000,
    "informational answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000,
    "chunks": CHUNKED + b"1\r\n \r\n" * 1_000,
}


@pytest.mark.parametrize("data", TRICKLES.values(), ids=TRICKLES)
async def test_trickling_server_cannot_outlast_timeout(raw_server: RawServer, data: bytes) -> None:
    raw_server.plays = [trickle(data)]
    start = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        await rerank(raw_server, timeout=0.4)
    assert 1.2 <= time.monotonic() - start < 6
    assert caught.value.attempts == len(raw_server.requests) == 3


async def test_silent_server_is_abandoned_at_deadline(raw_server: RawServer) -> None:
    raw_server.plays = [silence]
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=r"deadline of 0\.3 s"):
        await rerank(raw_server, deadline=0.3)
    assert 0.3 <= time.monotonic() - start < 2
    assert await anyio.to_thread.run_sync(raw_server.disconnected.wait, 5)


async def test_server_that_does_not_accept_is_abandoned_at_timeout() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        client = connect(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2, retry=FAST)
        with pytest.raises(APITimeoutError) as caught:
            await client.rerank("q", ["a"])
        assert caught.value.attempts == 3
        await client.aclose()
        for filler in fillers:
            filler.close()


async def test_refused_connection_raises_api_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with connect(base_url=url, retry=FAST) as client:
        with pytest.raises(APIConnectionError, match="no connection: ") as caught:
            await client.rerank("q", ["a"])
    assert caught.value.attempts == 3


class SocketBlockedError(RuntimeError):
    """As pytest-socket raises it."""


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])  # uvloop makes no sockets in Python
async def test_guard_that_forbids_sockets_is_quoted_in_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def guard(*_: Any, **__: Any) -> None:
        raise SocketBlockedError("A test tried to use socket.socket.")

    async with connect("jina_key", base_url="http://127.0.0.1:9", retry=RetryPolicy(base_delay=60)) as client:
        monkeypatch.setattr(socket.socket, "__init__", guard)
        with pytest.raises(
            APIConnectionError, match=r"SocketBlockedError: A test tried to use socket.socket\."
        ) as caught:
            await client.rerank("q", ["a"], deadline=20)
        monkeypatch.undo()
    assert caught.value.attempts == 1


async def test_connection_error_quotes_no_error_that_the_caller_handles(raw_server: RawServer) -> None:
    raw_server.plays = [send_and_close(b"SSH-2.0-OpenSSH_9.2\r\n")]
    try:
        os.close(-1)
    except OSError:
        with pytest.raises(APIConnectionError) as caught:
            await rerank(raw_server)
    assert "Bad file descriptor" not in str(caught.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".com"])
async def test_unknown_host_is_not_retried(host: str) -> None:
    async with connect(base_url=f"https://{host}", retry=RetryPolicy(base_delay=60)) as client:
        with pytest.raises(APIConnectionError, match="host was not found") as caught:
            await client.rerank("q", ["a"], deadline=20)
    assert caught.value.attempts == 1


async def test_stalled_tls_handshake_leaks_no_socket(raw_server: RawServer) -> None:
    url = raw_server.url.replace("http:", "https:")
    async with connect("jina_key", base_url=url, timeout=0.5, retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(APITimeoutError):
            await client.rerank("q", ["a"])
        assert await anyio.to_thread.run_sync(raw_server.disconnected.wait, 5)


async def test_connections_are_kept_and_used_again(raw_server: RawServer) -> None:
    raw_server.plays = [send(GOOD)]
    async with connect(base_url=raw_server.url) as client:
        for _ in range(20):
            await client.rerank("q", ["a", "b"])
    assert (raw_server.connections, len(raw_server.requests)) == (1, 20)


def padded(model: str, size: int) -> bytes:
    """An answer of `size` bytes, or of as few as it takes."""
    short = len(http(answer_body(2, model=model)))
    body = answer_body(2, model=model)
    return http(body + b" " * max(0, size - short - len(str(size)) + len(str(len(body)))))


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("place", "size"),
    [
        ("http", 0),
        ("http", 2**16),  # as much as httpcore asks for at a time
        ("https", 0),
        ("https", 2**14),  # a whole record of TLS
        ("proxy", 0),
    ],
)
async def test_surplus_answer_is_not_used_for_next_request(place: str, size: int, late: bool) -> None:
    answered, sent = threading.Event(), threading.Event()

    def play(connection: socket.socket) -> None:
        answer = padded(json.loads(server.requests_of[connection][1])["query"], size)
        surplus = b"" if sent.is_set() else padded("surplus", 0)
        connection.sendall(answer if late else answer + surplus)
        if late and surplus:
            answered.wait(15)
            connection.sendall(surplus)
        sent.set()

    with RawServer(play, tls=server_tls() if place == "https" else None) as server:
        url = server.url.replace("http:", "https:") if place == "https" else server.url
        options: dict[str, Any] = {"base_url": "http://rerank.example", "proxy": url} if place == "proxy" else {}
        async with connect(**{"base_url": url, "verify": trust(), **options}) as client:
            models = [(await client.rerank("first", ["a", "b"])).model]
            answered.set()
            assert await anyio.to_thread.run_sync(sent.wait, 15)
            models += [(await client.rerank(query, ["a", "b"])).model for query in ("second", "third")]
    assert models == ["first", "second", "third"]
    # Some versions of aiohttp do not find a connection to a proxy again if it was opened on a second try.
    assert server.connections in ((2, 3) if _road.get() == "aiohttp" and place == "proxy" and late else (2,))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_large_request_is_sent_whole_and_its_connection_kept(scheme: str) -> None:
    with RawServer(send(GOOD), tls=server_tls() if scheme == "https" else None) as server:
        async with connect(base_url=f"{scheme}://127.0.0.1:{server.port}", verify=trust()) as client:
            responses = [await client.rerank("q", [str(i) * 5_000_000, "b"]) for i in range(3)]
    assert [response.attempts for response in responses] == [1, 1, 1]
    assert [json.loads(body)["documents"][0] for _, body in server.requests] == [str(i) * 5_000_000 for i in range(3)]
    assert server.connections == 1


async def test_server_that_closes_after_each_answer_fails_no_call(raw_server: RawServer) -> None:
    raw_server.plays = [send_and_close(GOOD)]
    async with connect(base_url=raw_server.url, retry=FAST) as client:
        responses = [await client.rerank("q", ["a", "b"]) for _ in range(200)]
    assert [response.documents for response in responses] == [["b", "a"]] * 200


async def test_cancelled_call_closes_its_connection(raw_server: RawServer) -> None:
    arrived = threading.Event()

    def play(connection: socket.socket) -> None:
        arrived.set()
        silence(connection)

    raw_server.plays = [play, send(GOOD)]
    async with connect(base_url=raw_server.url) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.rerank, "q", ["a", "b"])
            assert await anyio.to_thread.run_sync(arrived.wait, 15)
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(raw_server.disconnected.wait, 5)
        assert (await client.rerank("q", ["a", "b"])).documents == ["b", "a"]
    assert raw_server.connections == 2


async def test_many_calls_at_once_each_get_their_own_answer(raw_server: RawServer) -> None:
    def play(connection: socket.socket) -> None:
        connection.sendall(GOOD)

    raw_server.plays = [play]
    documents: dict[int, list[str]] = {}

    async def call(i: int) -> None:
        documents[i] = (await client.rerank("q", [f"a{i}", f"b{i}"])).documents

    async with connect(base_url=raw_server.url) as client, anyio.create_task_group() as tasks:
        for i in range(100):
            tasks.start_soon(call, i)
    assert documents == {i: [f"b{i}", f"a{i}"] for i in range(100)}


def _chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


async def test_gzip_is_read_and_other_compression_is_named(raw_server: RawServer) -> None:
    raw_server.plays = [
        send(http(gzip.compress(answer_body(2)), content_encoding="gzip")),
        send(http(answer_body(2), content_encoding="br")),
        send(http(answer_body(2), content_encoding="gzip")),
        send(http(gzip.compress(gzip.compress(answer_body(2))), content_encoding="gzip, gzip")),
        send(CHUNKED.replace(b"OK\r\n", b"OK\r\ncontent-encoding: gzip\r\n") + _chunks(gzip.compress(b"[]"), b"more")),
    ]
    assert (await rerank(raw_server)).documents == ["b", "a"]
    for reason in ("'br'; gzip was offered", "compression of the answer is broken", "'gzip, gzip'", "bytes after"):
        with pytest.raises(ResponseFormatError, match=reason) as caught:
            await rerank(raw_server)
        assert caught.value.attempts == 1


async def test_endless_answer_is_cut_off_at_size_limit(raw_server: RawServer) -> None:
    bomb = gzip.compress(b" " * (65 * 2**20), compresslevel=1)
    raw_server.plays = [send(http(bomb, content_encoding="gzip"))]
    with pytest.raises(ResponseFormatError, match="larger than 33,554,432 bytes") as caught:
        await rerank(raw_server)
    assert caught.value.attempts == 1


async def test_error_status_with_broken_body_keeps_its_class(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(b"no gzip", 501, content_encoding="gzip"))]
    with pytest.raises(ServerError) as caught:
        await rerank(raw_server)
    assert caught.value.status == 501


async def test_request_above_size_limit_is_not_sent(raw_server: RawServer) -> None:
    raw_server.plays = [send(GOOD)]
    async with connect(base_url=raw_server.url) as client:
        with pytest.raises(InvalidRequestError, match="the most is 67,108,864"):
            await client.rerank("q", ["x" * (64 * 2**20)])
    assert raw_server.requests == []


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_url(authority: trustme.CA) -> Iterator[str]:
    """A server with a certificate for localhost from an unknown authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with context.wrap_socket(connection, server_side=True) as secure:
                        for _ in read_requests(secure):
                            secure.sendall(GOOD)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


async def test_untrusted_certificate_is_not_retried(tls_url: str) -> None:
    async with connect("jina_key", base_url=tls_url) as client:
        with pytest.raises(APIConnectionError, match=r"certificate is not valid: .*issuer") as caught:
            await client.rerank("q", ["a", "b"])
    assert caught.value.attempts == 1


async def test_certificate_for_another_host_is_not_trusted(tls_url: str, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url = tls_url.replace("localhost", "127.0.0.1")
    async with connect("jina_key", base_url=url, verify=context) as client:
        with pytest.raises(APIConnectionError, match=r"certificate is not valid: .*IP address"):
            await client.rerank("q", ["a", "b"])


Trust = Callable[[trustme.CA, Any, pytest.MonkeyPatch], dict[str, Any]]


def _by_context(authority: trustme.CA, _: Any, __: pytest.MonkeyPatch) -> dict[str, Any]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"verify": context}


def _by_file(authority: trustme.CA, path: Any, _: pytest.MonkeyPatch) -> dict[str, Any]:
    authority.cert_pem.write_to_path(path)
    return {"verify": str(path)}


def _by_variable(authority: trustme.CA, path: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return {}


def _not_at_all(_: trustme.CA, __: Any, ___: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"verify": False}


@pytest.mark.parametrize("trust", [_by_context, _by_file, _by_variable, _not_at_all])
async def test_custom_certificate_authority_is_trusted(
    tls_url: str, authority: trustme.CA, trust: Trust, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = trust(authority, tmp_path / "authority.pem", monkeypatch)
    async with connect("jina_key", base_url=tls_url, **options) as client:
        assert (await client.rerank("q", ["a", "b"])).documents == ["b", "a"]


async def test_invalid_certificate_variable_raises_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(RerankError, match="SSL_CERT_FILE names cannot be loaded"):
        connect("jina_key")
    await connect("jina_key", trust_env=False).aclose()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_environment_proxy_is_used_except_for_localhost(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    raw_server.plays = [send(GOOD)]
    monkeypatch.setenv(variable, raw_server.url.removeprefix("http://"))
    url = "http://rerank.example"
    async with connect(base_url=url) as client:
        assert (await client.rerank("q", ["a", "b"])).documents == ["b", "a"]
    assert raw_server.requests[-1][0]["host"] == "rerank.example"
    monkeypatch.setenv("NO_PROXY", "example")
    for direct in (url, "http://127.0.0.1:1"):
        async with connect(base_url=direct, retry=RetryPolicy(max_attempts=1)) as client:
            with pytest.raises(APIConnectionError):
                await client.rerank("q", ["a"])
    assert len(raw_server.requests) == 1


async def test_refusing_proxy_is_not_retried(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(b"", 407))]
    async with connect("jina_key", base_url="https://rerank.example", proxy=raw_server.url) as client:
        with pytest.raises(APIConnectionError, match="the proxy refused: 407") as caught:
            await client.rerank("q", ["a"])
    assert (caught.value.attempts, len(raw_server.requests)) == (1, 1)


async def test_socks_proxy_without_package_raises_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"socksio is missing; pip install 'httpx\[socks\]'"):
        connect("jina_key", base_url="https://rerank.example")


async def test_unreachable_proxy_is_not_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for url in ("http://rerank.example", "https://rerank.example"):
        async with connect("jina_key", base_url=url, proxy=proxy, allow_insecure=True) as client:
            with pytest.raises(APIConnectionError, match="the proxy refused: no connection to it") as caught:
                await client.rerank("q", ["a"])
        assert caught.value.attempts == 1


async def test_idle_client_closes_its_socket_before_server_does(raw_server: RawServer) -> None:
    closed_by: list[str] = []

    def play(connection: socket.socket) -> None:
        connection.sendall(GOOD)
        connection.settimeout(5)  # uvicorn's own patience
        try:
            closed_by.append("client" if connection.recv(1) == b"" else "nobody")
        except TimeoutError:
            closed_by.append("server")
        raise HangUpError

    raw_server.plays = [play, send(GOOD)]
    async with connect(base_url=raw_server.url) as client:
        await client.rerank("q", ["a", "b"])
        # 4 s by design; the client stays idle and open.
        assert await anyio.to_thread.run_sync(raw_server.disconnected.wait, 15)
        assert (await client.rerank("q", ["a", "b"])).attempts == 1
    assert closed_by == ["client"]


async def test_cookies_are_neither_kept_nor_sent(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(answer_body(2), set_cookie="session=1; Path=/"))]
    async with connect(base_url=raw_server.url) as client:
        for _ in range(2):
            await client.rerank("q", ["a", "b"])
    assert [headers.get("cookie") for headers, _ in raw_server.requests] == [None, None]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_aiohttp_is_refused_on_trio(raw_server: RawServer) -> None:
    async with RerankClient(base_url=raw_server.url, transport="aiohttp") as client:
        with pytest.raises(ConfigurationError, match="transport: aiohttp runs on asyncio alone"):
            await client.rerank("q", ["a"])
    assert raw_server.connections == 0
