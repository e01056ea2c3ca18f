"""Servers on real sockets: one that plays scripted bytes, and the answers to play."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self

Play = Callable[[socket.socket], None]
"""Answers one request on a connection, which stays open if it returns, and is closed if it raises HangUpError."""


class HangUpError(Exception):
    """Ends a connection after what has been sent."""


def answer_body(count: int, **fields: Any) -> bytes:
    """A hosted answer to `count` documents, the last of them the best."""
    results = [{"index": i, "relevance_score": (i + 1) / 10} for i in reversed(range(count))]
    model = {"model": "jina-reranker-v3.5", "object": "list", "usage": {"total_tokens": 7}}
    return json.dumps({**model, "results": results, **fields}).encode()


def http(body: bytes = b"", status: int = 200, **headers: str) -> bytes:
    """A whole HTTP/1.1 answer; header names with underscores for dashes."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def send(data: bytes) -> Play:
    """Sends bytes and keeps the connection."""
    return lambda connection: connection.sendall(data)


def send_and_close(data: bytes = b"") -> Play:
    """Sends bytes and closes, in good order."""

    def play(connection: socket.socket) -> None:
        connection.sendall(data)
        raise HangUpError

    return play


def reset(connection: socket.socket) -> None:
    """Ends the connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise HangUpError


def silence(connection: socket.socket) -> None:
    """Never answers; ends when the client hangs up."""
    connection.recv(1)
    raise HangUpError


def trickle(data: bytes, pause: float = 0.02) -> Play:
    """Sends bytes one by one, for as long as the client stays."""

    def play(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause)

    return play


class RawServer:
    """Plays one script after the other, a request each; the last one again and again."""

    def __init__(self, *plays: Play) -> None:
        self.plays: Sequence[Play] = plays
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """Headers, names in lower case, and body of each request that arrived whole."""
        self.requests_of: dict[socket.socket, tuple[dict[str, str], bytes]] = {}
        """The last request of each connection."""
        self.connections = 0
        self.disconnected = threading.Event()
        """Set when a client has hung up."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # On Linux this wakes the accepting thread; closing alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            with connection, suppress(HangUpError, OSError):
                for request in read_requests(connection):
                    with self._lock:
                        play = self.plays[min(len(self.requests), len(self.plays) - 1)]
                        self.requests.append(request)
                        self.requests_of[connection] = request
                    play(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            self.disconnected.set()


def read_requests(connection: socket.socket) -> Iterator[tuple[dict[str, str], bytes]]:
    """The requests that come on a connection, each when it is whole: headers, names in lower case, and body."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(data) < length:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        yield headers, data[:length]
        data = data[length:]
