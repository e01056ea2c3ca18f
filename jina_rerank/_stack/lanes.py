"""Lanes: the client's own connections to one server, on one event loop.

httpx's connection pool does O(n) work for each of n requests in flight, and permanently loses slots when a request is
cancelled while it waits for one (encode/httpcore#1093). A lane is an httpx transport over a single connection, without
shared state: taking one from the pool is O(1), and a lane whose request fails or is cancelled is closed and dropped.
"""

import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import anyio
import httpcore
import httpx

from .connections import CLOSING_SECONDS, KEEPALIVE_SECONDS
from .raw_response import RawResponse, read_response
from .routes import Route, checked_url
from .sockets import Sockets
from .timers import call_later

MAX_IDLE_LANES: Final = 100
"""The most idle connections: the size of httpx's default pool."""

_UNUSED_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A placeholder for httpx, which would otherwise load certificates that are never used."""

_Connection = httpcore.AsyncHTTPConnection | httpcore.AsyncConnectionPool


class Lane(httpx.AsyncHTTPTransport):
    """An httpx transport with one connection, visible to tools that patch httpx, such as respx and instrumentation."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__(verify=_UNUSED_TLS)
        # A connection of httpcore has the two methods of a pool that httpx calls, without its queue.
        self._pool = cast(Any, connection)
        self._connection = connection

    @property
    def has_surplus(self) -> bool:
        """Whether bytes were read beyond the response, which would be parsed as the next response."""
        if isinstance(self._connection, httpcore.AsyncHTTPConnection):
            return bool(_surplus(self._connection))
        return any(map(_surplus, self._connection.connections))

    def is_reusable(self) -> bool:
        """Return whether it can carry another request: it is open, and nothing has arrived since the last response."""
        if isinstance(self._connection, httpcore.AsyncHTTPConnection):
            return self._connection.is_idle() and not self._connection.has_expired()
        return True  # a proxy's pool checks its connection itself


def _surplus(connection: object) -> bytes:
    """Return the bytes read beyond the last response, which httpcore keeps for the next one."""
    while connection is not None:
        h11_state = getattr(connection, "_h11_state", None)
        if h11_state is not None:
            surplus: bytes = h11_state.trailing_data[0]
            return surplus
        connection = getattr(connection, "_connection", None)
    return b""


class Lanes:
    """A connection pool of lanes. The last used one is first, since the server is least likely to have closed it."""

    def __init__(self, open_lane: Callable[[], Lane]) -> None:
        self._open_lane = open_lane
        self._idle: deque[tuple[float, Lane]] = deque()
        self._cancel_sweep: Callable[[], None] | None = None
        self._closed = False

    async def exchange(self, request: httpx.Request, /) -> RawResponse:
        """Send a request on an idle lane, or on a new one; return the response."""
        lane = await self._take()
        try:
            answer = await read_response(await lane.handle_async_request(request))
        except BaseException:
            await _close(lane)
            raise
        await self._give_back(lane)
        return answer

    async def aclose(self) -> None:
        self._closed = True
        if self._cancel_sweep is not None:
            self._cancel_sweep()
        while self._idle:
            await _close(self._idle.pop()[1])

    async def _take(self) -> Lane:
        while self._idle:
            since, lane = self._idle.pop()
            if time.monotonic() - since < KEEPALIVE_SECONDS and lane.is_reusable():
                return lane
            await _close(lane)
        return self._open_lane()

    async def _give_back(self, lane: Lane) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE_LANES or lane.has_surplus:
            await _close(lane)
            return
        self._idle.append((time.monotonic(), lane))
        if self._cancel_sweep is None:
            self._cancel_sweep = call_later(KEEPALIVE_SECONDS, self._sweep)

    async def _sweep(self) -> None:
        """Close lanes that have been idle for the keep-alive time, so that an idle client holds no sockets."""
        now = time.monotonic()
        while self._idle and now - self._idle[0][0] >= KEEPALIVE_SECONDS:
            await _close(self._idle.popleft()[1])
        self._cancel_sweep = None
        if self._idle:
            self._cancel_sweep = call_later(self._idle[0][0] + KEEPALIVE_SECONDS - now, self._sweep)


async def _close(lane: Lane) -> None:
    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
        await lane.aclose()


def lane_opener(url: str, route: Route) -> Callable[[], Lane]:
    """Return a function that opens a lane to the server of `url`."""
    origin = _httpcore_url(checked_url(url)).origin
    sockets = Sockets(to_proxy=route.proxy is not None)

    def open_lane() -> Lane:
        if route.proxy is None:
            return Lane(httpcore.AsyncHTTPConnection(origin, ssl_context=route.tls, network_backend=sockets))
        return Lane(_proxied(route.proxy, route, sockets))

    return open_lane


def _httpcore_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _proxied(proxy: httpx.Proxy, route: Route, sockets: Sockets) -> httpcore.AsyncConnectionPool:
    url = _httpcore_url(proxy.url)
    if proxy.url.scheme in ("http", "https"):
        return httpcore.AsyncHTTPProxy(
            url,
            proxy_auth=proxy.raw_auth,
            proxy_headers=proxy.headers.raw,
            ssl_context=route.tls,
            max_connections=1,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=sockets,
        )
    return httpcore.AsyncSOCKSProxy(
        url,
        proxy_auth=proxy.raw_auth,
        ssl_context=route.tls,
        max_connections=1,
        keepalive_expiry=KEEPALIVE_SECONDS,
        network_backend=sockets,
    )
