"""Lanes: the client's own connections to one server, on one event loop.

httpx's pool costs O(n) work for each of n requests in flight, and loses slots for good when a request is cancelled
while it waits for one (encode/httpcore#1093). A lane is a transport of httpx over a single connection, and nothing
shared: taking one is O(1), and a lane whose request failed or was cancelled is closed and forgotten.
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
"""Idle connections kept, as many as httpx's default pool has in all."""

_UNUSED_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""httpx wants one in any case, and would load the certificates that nothing will read."""

_Connection = httpcore.AsyncHTTPConnection | httpcore.AsyncConnectionPool


class Lane(httpx.AsyncHTTPTransport):
    """A transport with one connection. What httpx calls sees, such as respx and instrumentation, sees it as any."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__(verify=_UNUSED_TLS)
        # One connection of httpcore has the same two methods as a pool, and none of its queues.
        self._pool = cast(Any, connection)
        self._connection = connection

    @property
    def has_surplus(self) -> bool:
        """Whether bytes have been read behind an answer, which would be taken for the next one."""
        if isinstance(self._connection, httpcore.AsyncHTTPConnection):
            return bool(_surplus(self._connection))
        return any(map(_surplus, self._connection.connections))

    def is_reusable(self) -> bool:
        """Whether it can carry another request: neither side has closed it, and nothing has come since the answer."""
        if isinstance(self._connection, httpcore.AsyncHTTPConnection):
            return self._connection.is_idle() and not self._connection.has_expired()
        return True  # the pool of a proxy looks after that itself


def _surplus(connection: object) -> bytes:
    """What has been read behind the last answer: httpcore keeps it for the next one."""
    while connection is not None:
        h11_state = getattr(connection, "_h11_state", None)
        if h11_state is not None:
            surplus: bytes = h11_state.trailing_data[0]
            return surplus
        connection = getattr(connection, "_connection", None)
    return b""


class Lanes:
    """Free connections, the last used first: the one least likely to have been closed by the server."""

    def __init__(self, open_lane: Callable[[], Lane]) -> None:
        self._open_lane = open_lane
        self._free: deque[tuple[float, Lane]] = deque()
        self._call_off_sweep: Callable[[], None] | None = None
        self._closed = False

    async def exchange(self, request: httpx.Request, /) -> RawResponse:
        """Sends on a free lane, or on a new one."""
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
        if self._call_off_sweep is not None:
            self._call_off_sweep()
        while self._free:
            await _close(self._free.pop()[1])

    async def _take(self) -> Lane:
        while self._free:
            since, lane = self._free.pop()
            if time.monotonic() - since < KEEPALIVE_SECONDS and lane.is_reusable():
                return lane
            await _close(lane)
        return self._open_lane()

    async def _give_back(self, lane: Lane) -> None:
        if self._closed or len(self._free) >= MAX_IDLE_LANES or lane.has_surplus:
            await _close(lane)
            return
        self._free.append((time.monotonic(), lane))
        if self._call_off_sweep is None:
            self._call_off_sweep = call_later(KEEPALIVE_SECONDS, self._sweep)

    async def _sweep(self) -> None:
        """Closes what nobody has used for a while, so that a quiet client holds no sockets."""
        now = time.monotonic()
        while self._free and now - self._free[0][0] >= KEEPALIVE_SECONDS:
            await _close(self._free.popleft()[1])
        self._call_off_sweep = None
        if self._free:
            self._call_off_sweep = call_later(self._free[0][0] + KEEPALIVE_SECONDS - now, self._sweep)


async def _close(lane: Lane) -> None:
    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
        await lane.aclose()


def lane_opener(url: str, route: Route) -> Callable[[], Lane]:
    """A function that opens a lane to the server of `url`."""
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
