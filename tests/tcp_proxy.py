"""A proxy of TCP between a client and a server, which does to the answers what networks do."""

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence

from .servers import RawServer, reset

Toxic = Callable[[socket.socket, Iterator[bytes]], None]
"""Passes what comes from the server on to the client. The connection is closed when it returns, or by HangUpError."""


def cut(after: int) -> Toxic:
    """Closes after so many bytes."""

    def toxic(client: socket.socket, chunks: Iterator[bytes]) -> None:
        left = after
        for chunk in chunks:
            client.sendall(chunk[:left])
            left -= len(chunk[:left])
            if not left:
                return

    return toxic


def cut_by_reset(after: int) -> Toxic:
    """Ends with a TCP reset after so many bytes."""

    def toxic(client: socket.socket, chunks: Iterator[bytes]) -> None:
        cut(after)(client, chunks)
        reset(client)

    return toxic


def half_close(after: int) -> Toxic:
    """Closes one direction after so many bytes, and waits for the client to close the other."""

    def toxic(client: socket.socket, chunks: Iterator[bytes]) -> None:
        cut(after)(client, chunks)
        client.shutdown(socket.SHUT_WR)
        _drop(chunks)

    return toxic


def blackhole(after: int) -> Toxic:
    """Lets nothing through after so many bytes, and keeps the connection."""

    def toxic(client: socket.socket, chunks: Iterator[bytes]) -> None:
        cut(after)(client, chunks)
        _drop(chunks)

    return toxic


def delay(seconds: float, size: int = 65536) -> Toxic:
    """Passes all on, in pieces of at most `size` bytes, each so much later."""

    def toxic(client: socket.socket, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            for start in range(0, len(chunk), size):
                time.sleep(seconds)
                client.sendall(chunk[start : start + size])

    return toxic


class TcpProxy(RawServer):
    """Connects each client to `server` and applies one toxic to each connection's answers, repeating the last one."""

    def __init__(self, server: RawServer, *toxics: Toxic) -> None:
        super().__init__()
        self.server = server
        self.toxics: Sequence[Toxic] = toxics

    @property
    def seen(self) -> int:
        """Attempts that reached the server behind it."""
        return self.server.seen

    def heal(self, tls: ssl.SSLContext | None = None) -> None:
        """From now on it passes all on."""
        self.toxics = (delay(0),)

    def _converse(self, connection: socket.socket) -> None:
        toxic = self.toxics[min(self.connections, len(self.toxics)) - 1]
        with socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            toxic(connection, _relayed(connection, upstream))


def _relayed(client: socket.socket, server: socket.socket) -> Iterator[bytes]:
    """What the server sends, while all that the client sends is passed on; it ends when one of them closes."""
    while True:
        ready, _, _ = select.select([client, server], [], [])
        if client in ready:
            data = client.recv(65536)
            if not data:
                return
            server.sendall(data)
        if server in ready:
            data = server.recv(65536)
            if not data:
                return
            yield data


def _drop(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass
