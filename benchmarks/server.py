"""A server that is not the bottleneck: fixed responses from a bare protocol on uvloop, in a separate process.

nginx is unsuitable: it answers a POST from a file before it has read the body, whereupon some clients drop the
connection, and it cannot delay a response without a module. The path selects the response:
`/{delay in ms}/{documents}/{shape}/...`; `/cpu` returns the seconds of CPU that the server has used.
"""

import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import cast

from .answers import answer

_END_OF_HEAD = b"\r\n\r\n"
_CONTENT_LENGTH = b"content-length:"


class Server:
    """A running server."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def url(self, shape: str, documents: int, *, delay: float = 0.0) -> str:
        """Return the URL for responses in this format, after `delay` seconds."""
        return f"{self._origin}/{round(delay * 1000)}/{documents}/{shape}"

    def cpu(self) -> float:
        """Return the seconds of CPU that the server has used."""
        with urllib.request.urlopen(f"{self._origin}/cpu") as response:
            return float(response.read())


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server on a free port of the loopback interface."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()


@lru_cache
def _response(path: bytes) -> tuple[float, bytes]:
    """Return the delay in seconds, and the response."""
    _, delay, documents, shape, *_ = path.decode().split("/")
    return int(delay) / 1000, _with_head(answer(shape, int(documents)))


def _with_head(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class _Connection(asyncio.Protocol):
    """One connection, which counts the bytes of a body without storing them."""

    def __init__(self) -> None:
        self._head = b""
        self._path = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the same methods, but not the base class

    def data_received(self, data: bytes) -> None:
        if not self._path:
            self._head += data
            head, end, body = self._head.partition(_END_OF_HEAD)
            if not end:
                return
            self._head = b""
            self._path = head.split(b" ", 2)[1]
            self._missing = _content_length(head.lower()) - len(body)
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._answer()

    def _answer(self) -> None:
        path, self._path = self._path, b""
        if path == b"/cpu":
            self._transport.write(_with_head(b"%f" % time.process_time()))
            return
        delay, response = _response(path)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._write, response)
        else:
            self._write(response)

    def _write(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)


def _content_length(head: bytes) -> int:
    _, found, rest = head.partition(_CONTENT_LENGTH)
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
