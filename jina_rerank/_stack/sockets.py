"""TCP and TLS for httpcore, over anyio: one implementation for asyncio and trio.

httpcore's own, beside this, enters a cancel scope for each read and each write, sends the head of a request apart from
its body, and leaves the socket open when a handshake is cancelled.
"""

import select
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import anyio
import httpcore  # httpx's own transport: it is there wherever httpx is
from anyio.abc import AnyByteStream, ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSAttribute, TLSStream

from .connections import CLOSING_SECONDS, LARGE_REQUEST_BYTES

_END_OF_HEAD: Final = b"\r\n\r\n"
_JOINED_BYTES: Final = 64 * 2**10
"""Up to this size a body is copied behind its head, to be sent in one piece: it is less work than a system call."""
_READ_BYTES: Final = 2**18
"""Read at once, whatever httpcore asks for: as much as asyncio and uvloop read, so that anyio keeps nothing back, which
neither httpcore nor the socket would tell of."""
_INFORMATIONAL: Final = b"HTTP/1.1 1"

_BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Sockets(httpcore.AsyncNetworkBackend):
    """Opens TCP connections. Time limits are left to the cancel scopes around the whole attempt."""

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
        """A connection to the first of the host's addresses that answers."""
        try:
            stream = await anyio.connect_tcp(host, port, local_host=local_address)
        except OSError as error:
            if self._to_proxy and not isinstance(error, socket.gaierror):
                raise httpcore.ProxyError("no connection to it") from error
            raise httpcore.ConnectError(str(error)) from error
        return Socket(stream)


class Socket(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._raw = stream.extra(SocketAttribute.raw_socket)
        self._tls = list(_tls_layers(stream))
        self._head = b""
        self._early = b""
        self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none at the end."""
        if self._head:  # of a request without a body: a proxy's CONNECT
            await self._send(b"")
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        try:
            return await self._stream.receive(_READ_BYTES)
        except anyio.EndOfStream:
            return b""
        except _BROKEN as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends; the head of a request waits for what comes next."""
        if buffer.endswith(_END_OF_HEAD):  # no JSON does
            self._head = buffer
        elif buffer:
            await self._send(buffer)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The connection encrypted. If that fails, or is cancelled, it is closed."""
        try:
            stream = await TLSStream.wrap(
                _Greedy(self._stream), hostname=server_hostname, ssl_context=ssl_context, standard_compatible=False
            )
        except BaseException as error:
            with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._stream.aclose()
            if isinstance(error, (*_BROKEN, anyio.EndOfStream)):
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
                await self._send_until_answered(pieces)
        except _BROKEN as error:
            raise httpcore.WriteError(str(error)) from error

    async def _send_until_answered(self, pieces: Sequence[bytes]) -> None:
        """Sends, and listens meanwhile. When the connection breaks asyncio drops what nobody has read: the refusal."""
        broken: BaseException | None = anyio.BrokenResourceError()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, tasks.cancel_scope)
            try:
                for piece in pieces:
                    await checkpoint()  # asyncio does first what is ready, and reads what has come after that
                    await self._stream.send(piece)
                broken = None
            except _BROKEN as error:
                broken = error
            tasks.cancel_scope.cancel()
        if broken is not None:  # or an answer has come, which httpcore goes on to read
            raise broken

    async def _listen(self, sending: anyio.CancelScope) -> None:
        with suppress(anyio.EndOfStream, *_BROKEN):
            while self._early.startswith(_INFORMATIONAL) or not self._early:
                self._early += await self._stream.receive(_READ_BYTES)
            sending.cancel()

    async def aclose(self) -> None:
        """Closes it."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: whether the server has sent something, or closed; and the socket of TLS."""
        if info == "is_readable":
            return bool(self._early) or is_readable(self._raw) or any(map(_has_data, self._tls))
        if info == "ssl_object":
            return self._tls[0] if self._tls else None
        return None


class _Greedy(ByteStream):
    """The stream under TLS, which reads as much as there is."""

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
    """The TLS of a connection, the innermost first; two, if the way to the proxy is encrypted too."""
    while True:
        if isinstance(stream, TLSStream):
            yield stream.extra(TLSAttribute.ssl_object)
            stream = stream.transport_stream
        elif isinstance(stream, _Greedy):
            stream = stream.stream
        else:
            return


def _has_data(tls: ssl.SSLObject) -> bool:
    """Whether TLS holds data that were received behind what was read."""
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except OSError:  # ssl.SSLError is one too
        pass
    return True


def is_readable(raw: socket.socket) -> bool:
    """Whether the other side has sent something, or closed."""
    if raw.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([raw], [], [], 0)[0])
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    return bool(poll.poll(0))
