"""Servers on real sockets: one that plays scripted bytes, and the answers to play."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self

Play = Callable[[socket.socket], None]
"""Answers one request on a connection, which stays open if it returns, and is closed if it raises HangUpError."""


SERVER = "server of a test"
"""The name of all threads of servers."""


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


def send_and_reset(data: bytes) -> Play:
    """Sends bytes, and ends the connection with a TCP reset."""

    def play(connection: socket.socket) -> None:
        connection.sendall(data)
        reset(connection)

    return play


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

    def __init__(self, *plays: Play, greeting: Play | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.plays: Sequence[Play] = plays
        self.greeting = greeting
        """Played on each connection instead of reading a request; the connection ends with it."""
        self.tls = tls
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """Headers, names in lower case, and body of each request that arrived whole."""
        self.requests_of: dict[socket.socket, tuple[dict[str, str], bytes]] = {}
        """The last request of each connection."""
        self.connections = 0
        self.turned_away = 0
        """Connections that ended with a greeting, or in their handshake."""
        self.disconnected = threading.Event()
        """Set when a client has hung up."""
        self._listener = self._bind()
        self._open: set[socket.socket] = set()
        self.threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)

    def _bind(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def seen(self) -> int:
        """Attempts that reached it: whole requests, and connections that were turned away before."""
        return len(self.requests) + self.turned_away

    def heal(self, tls: ssl.SSLContext | None = None) -> None:
        """From now on it is a server as it should be."""
        self.plays, self.greeting, self.tls = [send(http(answer_body(2)))], None, tls

    def is_deserted(self, seconds: float = 5.0) -> bool:
        """Whether all its connections end within `seconds`."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._open, seconds)

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
        thread = threading.Thread(target=target, args=args, name=SERVER, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(HangUpError, OSError):
                if self.tls is None:
                    self._converse(connection)
                else:
                    self._converse_secretly(connection, self.tls)
        finally:
            with self._ended:
                self._open.discard(connection)
                self._ended.notify_all()
            self.disconnected.set()

    def _converse_secretly(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        try:
            # A copy of the descriptor, because what is wrapped is taken away, and the end of the test must find it.
            secure = tls.wrap_socket(connection.dup(), server_side=True)
        except OSError:
            with self._lock:
                self.turned_away += 1
            raise
        with secure:
            self._converse(secure)

    def _converse(self, connection: socket.socket) -> None:
        if self.greeting is not None:
            with self._lock:
                self.turned_away += 1
            self.greeting(connection)
            return
        for request in read_requests(connection):
            with self._lock:
                play = self.plays[min(len(self.requests), len(self.plays) - 1)]
                self.requests.append(request)
                self.requests_of[connection] = request
            play(connection)


class AbsentServer(RawServer):
    """Has its port, and refuses connections until it is healed."""

    def _bind(self) -> socket.socket:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        return listener

    def __enter__(self) -> Self:
        return self

    def heal(self, tls: ssl.SSLContext | None = None) -> None:
        super().heal(tls)
        self._listener.listen()
        super().__enter__()


class DeafServer(RawServer):
    """Takes no connection until it is healed, and the queue before it is full: to connect takes for ever."""

    def _bind(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0), backlog=0)

    def __enter__(self) -> Self:
        self._queue = [socket.socket() for _ in range(4)]
        for waiting in self._queue:
            waiting.setblocking(False)
            waiting.connect_ex(self._listener.getsockname())
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        super().__exit__()

    def heal(self, tls: ssl.SSLContext | None = None) -> None:
        super().heal(tls)
        self._leave()
        # Before the next call comes: a full queue would cost it the second after which TCP knocks again.
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
        self._listener.setblocking(True)
        super().__enter__()

    def _leave(self) -> None:
        for waiting in self._queue:
            waiting.close()


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
