"""TCP and TLS for httpcore, over anyio: one implementation for asyncio and trio.

Unlike this, httpcore's own backend enters a cancel scope for each read and write, sends the head of a request
separately from its body, and leaks the socket when a TLS handshake is cancelled.
"""

import select
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import anyio
import httpcore  # a dependency of httpx
from anyio.abc import AnyByteStream, ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSAttribute, TLSStream

from .connections import CLOSING_SECONDS, LARGE_REQUEST_BYTES

_END_OF_HEAD: Final = b"\r\n\r\n"
_JOINED_BYTES: Final = 64 * 2**10
"""The largest body that is copied behind its head and sent with it: copying is cheaper than a system call."""
_READ_BYTES: Final = 2**18
"""The size of a read, whatever httpcore requests: as much as asyncio and uvloop read, so that anyio buffers nothing,
which neither httpcore nor the socket could detect."""
_INFORMATIONAL_PREFIX: Final = b"HTTP/1.1 1"

_BROKEN_ERRORS: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Sockets(httpcore.AsyncNetworkBackend):
    """A network backend that opens TCP connections, without timeouts: a cancel scope limits the whole attempt."""

    def __init__(self, *, to_proxy: bool) -> None:
        self._to_proxy = to_proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection to the first address of the host that accepts one."""
        try:
            stream = await anyio.connect_tcp(host, port, local_host=local_address)
        except OSError as error:
            if self._to_proxy and not isinstance(error, socket.gaierror):
                raise httpcore.ProxyError("no connection to it") from error
            raise httpcore.ConnectError(str(error)) from error
        return Socket(stream)


class Socket(httpcore.AsyncNetworkStream):
    """A TCP or TLS connection."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._raw = stream.extra(SocketAttribute.raw_socket)
        self._tls = list(_tls_layers(stream))
        self._head = b""
        self._early = b""
        self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next bytes, or b"" at end of stream."""
        if self._head:  # a request without a body: CONNECT to a proxy
            await self._send(b"")
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        try:
            return await self._stream.receive(_READ_BYTES)
        except anyio.EndOfStream:
            return b""
        except _BROKEN_ERRORS as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes, but hold the head of a request back until the next write or read."""
        if buffer.endswith(_END_OF_HEAD):  # JSON never does
            self._head = buffer
        elif buffer:
            await self._send(buffer)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return the connection with TLS. If the handshake fails or is cancelled, close the connection."""
        try:
            stream = await TLSStream.wrap(
                _Greedy(self._stream), hostname=server_hostname, ssl_context=ssl_context, standard_compatible=False
            )
        except BaseException as error:
            with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._stream.aclose()
            if isinstance(error, (*_BROKEN_ERRORS, anyio.EndOfStream)):
                raise httpcore.ConnectError(str(error)) from error
            raise
        return Socket(stream)

    async def _send(self, body: bytes) -> None:
        head, self._head = self._head, b""
        pieces = (head + body,) if len(body) <= _JOINED_BYTES else (head, body)
        try:
            if len(body) < LARGE_REQUEST_BYTES:
                for piece in pieces:
                    await self._stream.send(piece)
            else:
                await self._send_until_response(pieces)
        except _BROKEN_ERRORS as error:
            raise httpcore.WriteError(str(error)) from error

    async def _send_until_response(self, pieces: Sequence[bytes]) -> None:
        """Send, and stop when a response arrives early.

        It reads while it sends, because asyncio discards unread bytes, such as a 413, when the connection breaks.
        """
        broken: BaseException | None = anyio.BrokenResourceError()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, tasks.cancel_scope)
            try:
                for piece in pieces:
                    await checkpoint()  # lets asyncio run its ready callbacks, and then poll the socket for a response
                    await self._stream.send(piece)
                broken = None
            except _BROKEN_ERRORS as error:
                broken = error
            tasks.cancel_scope.cancel()
        if broken is not None:  # httpcore then reads the response, if one has arrived
            raise broken

    async def _listen(self, sending: anyio.CancelScope) -> None:
        with suppress(anyio.EndOfStream, *_BROKEN_ERRORS):
            while self._early.startswith(_INFORMATIONAL_PREFIX) or not self._early:
                self._early += await self._stream.receive(_READ_BYTES)
            sending.cancel()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Return `is_readable`, whether bytes or the end of stream have arrived, or `ssl_object`; None for others."""
        if info == "is_readable":
            return bool(self._early) or is_readable(self._raw) or any(map(_has_data, self._tls))
        if info == "ssl_object":
            return self._tls[0] if self._tls else None
        return None


class _Greedy(ByteStream):
    """The stream below TLS, which reads as many bytes as are available."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        return await self.stream.receive(_READ_BYTES)

    async def send(self, item: bytes) -> None:
        await self.stream.send(item)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        attributes: Mapping[Any, Callable[[], Any]] = cast(Any, self.stream).extra_attributes
        return attributes


def _tls_layers(stream: AnyByteStream) -> Iterator[ssl.SSLObject]:
    """Yield the TLS layers of a connection, innermost first; there are two behind an HTTPS proxy."""
    while True:
        if isinstance(stream, TLSStream):
            yield stream.extra(TLSAttribute.ssl_object)
            stream = stream.transport_stream
        elif isinstance(stream, _Greedy):
            stream = stream.stream
        else:
            return


def _has_data(tls: ssl.SSLObject) -> bool:
    """Return whether TLS holds bytes that were received but not read."""
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except OSError:  # the base class of ssl.SSLError
        pass
    return True


def is_readable(raw: socket.socket) -> bool:
    """Return whether bytes or the end of stream have arrived, or the socket is closed."""
    if raw.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([raw], [], [], 0)[0])
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    return bool(poll.poll(0))
