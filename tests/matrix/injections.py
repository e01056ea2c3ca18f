"""The pieces that the rows of the network are made of: servers that misbehave, and cases in pairs."""

import gzip
import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from jina_rerank import APIConnectionError, RequestTooLargeError, ResponseFormatError

from ..servers import HangUpError, Play, RawServer, answer_body, http, read_requests, send
from ..tcp_proxy import TcpProxy, Toxic
from .case import GOOD, Case, server_tls, trust

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
HALF_GZIP = http(gzip.compress(answer_body(2))[:-12], content_encoding="gzip")
HTTPS = "https://127.0.0.1:{port}"
OVER_TLS: Final[Mapping[str, Any]] = {"tls": server_tls(), "url": HTTPS, "options": {"verify": trust()}}
REFUSED: Final[Mapping[str, Any]] = {"error": RequestTooLargeError, "attempts": 1}
SHORT: Final = {"timeout": 0.3}


class Proxied(TcpProxy):
    """A proxy with a good server behind it."""

    def __init__(self, *toxics: Toxic) -> None:
        self._behind = ExitStack()
        super().__init__(self._behind.enter_context(RawServer(send(GOOD))), *toxics)

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._behind.close()


def through(*toxics: Toxic) -> Callable[..., RawServer]:
    """A server behind a proxy with these toxics."""
    return lambda *_, **__: Proxied(*toxics)


def once_and_always(name: str, play: Play) -> Sequence[Case]:
    """A connection that breaks once, and one that breaks whenever it is tried."""
    return (
        Case(name=name, plays=(play, send(GOOD)), attempts=2),
        Case(name=f"{name}, always", plays=(play,), error=APIConnectionError, attempts=3),
    )


def halves(name: str, play: Play) -> Sequence[Case]:
    """An answer that looks whole to HTTP and is half, once and always."""
    return (
        Case(name=name, plays=(play, send(GOOD)), attempts=2),
        Case(name=f"{name}, always", plays=(play,), error=ResponseFormatError, attempts=2),
    )


def deaf(connection: socket.socket) -> None:
    """Reads nothing, for longer than the client stays."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll(3_000)


def refuse_early(connection: socket.socket) -> None:
    """Refuses a body that is too large before it has come, and takes the rest of it nevertheless."""
    connection.recv(65536)
    connection.sendall(TOO_LARGE)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(2**20):
        pass


def refuse_early_and_close(connection: socket.socket) -> None:
    """Refuses a body that is too large as soon as it begins, and resets what still comes of it."""
    connection.recv(65536)
    connection.sendall(TOO_LARGE)
    raise HangUpError


def hint_early(connection: socket.socket) -> None:
    """Says something before the request has come that is no answer, and then answers."""
    connection.sendall(EARLY_HINTS)
    next(read_requests(connection))
    connection.sendall(http(answer_body(2), connection="close"))


TOO_LARGE = http(b'{"detail": "Request Entity Too Large"}', 413, connection="close")
"""What nginx says, in short."""


def large(megabytes: int) -> Sequence[str]:
    """Documents of so many MiB."""
    return ["x" * (megabytes * 2**20), "b"]


def interrupted(name: str, greeting: Play, *, tls: ssl.SSLContext | None = None, **case: Any) -> Case:
    """A server that speaks while 8 MiB are still being sent."""
    server = partial(RawServer, greeting=greeting, tls=tls)
    return Case(name=name, server=server, documents=partial(large, 8), **case)


def expired() -> ssl.SSLContext:
    """What a server has whose certificate ended years ago."""
    return server_tls(not_after=datetime(2020, 1, 2, tzinfo=UTC), not_before=datetime(2020, 1, 1, tzinfo=UTC))


def secure(context: ssl.SSLContext) -> Callable[..., RawServer]:
    """A server that speaks TLS."""
    return partial(RawServer, tls=context)
