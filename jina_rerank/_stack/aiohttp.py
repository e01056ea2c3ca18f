"""The faster transport, for asyncio: aiohttp's connections behind httpx-aiohttp's transport (the extra [aiohttp])."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from anyio.lowlevel import current_token
from httpx_aiohttp import AiohttpTransport as HttpxAiohttpTransport

from ..errors import ConfigurationError
from .connections import KEEPALIVE_SECONDS
from .raw_response import RawResponse, read_response
from .routes import Route
from .sockets import is_readable

_PIECE_BYTES: Final = 2**18
"""The size of the chunks of a large body. aiohttp warns of bodies of 1 MiB and more in bytes."""

_UNUSED_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A placeholder for the transport, which would otherwise load certificates that are never used."""


class AiohttpTransport:
    """A transport over aiohttp's connection pool, for one event loop."""

    def __init__(self, route: Route) -> None:
        if not isinstance(current_token().native_token, asyncio.AbstractEventLoop):
            raise ConfigurationError("transport: aiohttp runs on asyncio alone; leave it out on trio")
        session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=route.tls or True, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._transport = HttpxAiohttpTransport(client=session, proxy=route.proxy, verify=_UNUSED_TLS)

    async def exchange(self, request: httpx.Request, /) -> RawResponse:
        """Send a request and return the response; raise the errors that httpx's own transport would."""
        taken: list[asyncio.Transport] = []
        _taken.set(taken)
        try:
            return await self._read(request)
        except BaseException:
            # aiohttp closes gracefully: it first sends the rest of the request, and TLS sends close_notify. A server
            # that does not read would keep the socket open indefinitely.
            for transport in taken:
                transport.abort()
            raise

    async def _read(self, request: httpx.Request) -> RawResponse:
        try:
            return await read_response(await self._transport.handle_async_request(_in_pieces(request)))
        except httpx.TransportError as error:
            theirs = error.__cause__ or error
        except aiohttp.ClientError as error:
            theirs = error
        raise _true_error(theirs) from theirs.__cause__

    async def aclose(self) -> None:
        await self._transport.aclose()


_taken: Final[ContextVar[list[asyncio.Transport]]] = ContextVar("taken")
"""The connections of the request in the current task."""


class _Connector(aiohttp.TCPConnector):
    """A connector that records the connection of a request: aiohttp releases it before it reports a failure."""

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        """Return a connection without surplus bytes, which would be parsed as the next response."""
        while True:
            connection = await super().connect(*args, **options)
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or not _has_surplus(protocol, transport):
                break
            connection.close()
        if protocol is not None and transport is not None:
            _used.add(protocol)
            _taken.get().append(transport)
        return connection


_used: Final[WeakSet[ResponseHandler]] = WeakSet()
"""The connections that have carried a request."""


def _has_surplus(protocol: ResponseHandler, transport: asyncio.Transport) -> bool:
    if protocol not in _used:  # on a new connection the server's TLS may have sent bytes, such as session tickets
        return False
    raw = transport.get_extra_info("socket")
    return protocol.should_close or (raw is not None and is_readable(raw))


def _in_pieces(request: httpx.Request) -> httpx.Request:
    """Return the request with a large body as a stream: aiohttp warns of one in bytes, an error under `-W error`."""
    if len(request.content) <= _PIECE_BYTES:
        return request
    pieces = _Pieces(request.content)
    return httpx.Request(
        request.method, request.url, headers=request.headers, stream=pieces, extensions=request.extensions
    )


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE_BYTES):
            yield self._body[start : start + _PIECE_BYTES]


# The first match counts. httpx-aiohttp's own table maps a broken connection to ConnectTimeout.
_TRUE_CLASSES: Final[Sequence[tuple[type[Exception], type[httpx.TransportError], str]]] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError, "no connection to it"),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError, "{error.status}"),
    (aiohttp.ClientConnectorError, httpx.ConnectError, "it was refused"),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout, "it took too long"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the server closed the connection"),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "it ends early"),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError, "it is malformed"),
)


def _true_error(error: BaseException) -> httpx.TransportError:
    """Return the httpx error for an aiohttp error."""
    for theirs, ours, message in _TRUE_CLASSES:
        if isinstance(error, theirs):
            return ours(message.format(error=error))
    return httpx.ReadError("it was closed")
