"""The connections of one event loop: lanes of the client's own, or an HTTP client that the caller brings.

httpx's pool costs O(n) work for each of n requests in flight, and loses slots for good when a request is cancelled
while it waits for one (encode/httpcore#1093). A lane is a transport of httpx with a single connection, and nothing
shared: taking one is O(1), and a lane whose request failed or was cancelled is closed and forgotten.
"""

import os
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx

from ..endpoint import is_loopback
from ..errors import ClientClosedError, ConfigurationError
from .answers import Answer, read_answer
from .connections import CLOSING_SECONDS, Transport

KEEPALIVE_SECONDS: Final = 5.0
"""How long an idle connection is kept. Servers commonly close theirs after 5 s or more (uvicorn: 5, nginx: 75)."""
MAX_IDLE_LANES: Final = 100
"""Idle connections kept, as many as httpx's default pool has in all."""

OpenLane = Callable[[], httpx.AsyncBaseTransport]


class Lanes:
    """Free connections, the last used first: the one least likely to have been closed by the server."""

    def __init__(self, open_lane: OpenLane) -> None:
        self._open_lane = open_lane
        self._free: deque[tuple[float, httpx.AsyncBaseTransport]] = deque()
        self._closed = False

    async def exchange(self, request: httpx.Request, /) -> Answer:
        """Sends on a free lane, or on a new one."""
        socket = _NewSocket()
        if self._free:
            lane = self._free.pop()[1]
        else:
            lane = self._open_lane()
            request.extensions = {**request.extensions, "trace": socket.note}
        try:
            answer = await read_answer(await lane.handle_async_request(request))
        except BaseException:
            await _close(lane)
            await _close(socket)
            raise
        await self._give_back(lane)
        return answer

    async def aclose(self) -> None:
        self._closed = True
        while self._free:
            await _close(self._free.pop()[1])

    async def _give_back(self, lane: httpx.AsyncBaseTransport) -> None:
        if self._closed:
            await _close(lane)
            return
        now = time.monotonic()
        self._free.append((now, lane))
        # One at a time, so that no call pays for a crowd; a quiet client keeps at most what its last rush opened.
        since, oldest = self._free[0]
        if len(self._free) > MAX_IDLE_LANES or now - since > KEEPALIVE_SECONDS:
            self._free.popleft()
            await _close(oldest)


class _NewSocket:
    """The socket of a new lane. httpcore forgets it when the handshake of TLS is cancelled, and never closes it."""

    def __init__(self) -> None:
        self._stream: _Closable | None = None

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Told of each step by httpcore (its `trace` extension)."""
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()


class CallersClient:
    """A client that the caller brings: its transport, proxies, hooks and certificates are used."""

    def __init__(self, client: httpx.AsyncClient, *, owned: bool) -> None:
        self._client = client
        self._owned = owned

    async def exchange(self, request: httpx.Request, /) -> Answer:
        """Sends through the caller's client."""
        if self._client.is_closed:
            raise ClientClosedError("http_client: it is closed")
        try:
            return await read_answer(await self._client.send(request, stream=True, auth=None, follow_redirects=False))
        except httpx.HTTPStatusError as error:  # a hook called raise_for_status()
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            return Answer(error.response.status_code, headers, b"")
        except RuntimeError as error:
            if "Event loop is closed" not in str(error):
                raise
        raise ConfigurationError(
            "http_client: it was used on another event loop, which has ended; pass a function that makes one instead"
        )

    async def aclose(self) -> None:
        """Closes a client that a factory made for this loop; one that was handed over is its owner's to close."""
        if self._owned:
            await self._client.aclose()


class _Closable(Protocol):
    async def aclose(self) -> None: ...


async def _close(what: _Closable) -> None:
    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
        await what.aclose()


def transport_opener(
    url: str,
    *,
    proxy: str | None,
    verify: bool | str | ssl.SSLContext,
    trust_env: bool,
    http_client: httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None,
) -> Callable[[], Transport]:
    """A function that opens one event loop's transport to `url`, with proxy and TLS settled once.

    Raises:
        ConfigurationError: The proxy, the certificates or the HTTP client cannot be used.
    """
    if http_client is not None and (proxy is not None or verify is not True):
        raise ConfigurationError("http_client: it brings its own proxy and certificates; leave out proxy= and verify=")
    if isinstance(http_client, httpx.AsyncClient):
        own = CallersClient(http_client, owned=False)
        return lambda: own
    if http_client is not None:
        if not callable(http_client):
            kind = type(http_client).__name__
            raise ConfigurationError(
                f"http_client: expected an httpx.AsyncClient, or a function that makes one; got {kind}"
            )
        make = http_client
        return lambda: CallersClient(_made(make), owned=True)
    open_lane = _lane_opener(url, proxy=proxy, verify=verify, trust_env=trust_env)
    return lambda: Lanes(open_lane)


def _made(make: Callable[[], object]) -> httpx.AsyncClient:
    client = make()
    if not isinstance(client, httpx.AsyncClient):
        kind = type(client).__name__
        raise ConfigurationError(f"http_client: the function must make an httpx.AsyncClient; it made {kind}")
    return client


def _lane_opener(url: str, *, proxy: str | None, verify: bool | str | ssl.SSLContext, trust_env: bool) -> OpenLane:
    if proxy is None and trust_env:
        proxy = environment_proxy(url)
    secure = url.startswith("https:")
    context = _tls_context(verify, _certificate_variables(trust_env)) if secure else _unused_tls_context()
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)

    def open_lane() -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits, proxy=proxy)

    if proxy is not None:
        _check_proxy(proxy)
        try:
            open_lane()  # nothing is connected yet; a missing package shows here
        except ImportError as error:
            raise ConfigurationError(f"proxy: {error}") from None
    return open_lane


def _check_proxy(proxy: object) -> None:
    """Refuses what is no URL of a proxy, without a word of it: it may hold a password."""
    try:
        parts = urlsplit(proxy if isinstance(proxy, str) else "")
        usable = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname and parts.port != 0
        httpx.URL(parts.geturl())
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise ConfigurationError("proxy: expected a URL such as http://host:port or socks5://host:port")


def environment_proxy(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for `url`; None for a direct way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # A proxy cannot reach this machine's loopback, and should not see a key that is meant for it.
    if is_loopback(host) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


def _certificate_variables(trust_env: bool) -> tuple[tuple[str, str], ...]:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    return tuple((name, os.environ[name]) for name in names if trust_env and os.environ.get(name))


def _tls_context(verify: object, variables: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        return verify
    if not isinstance(verify, bool | str):
        raise ConfigurationError(f"verify: expected a bool, a path or an SSLContext, got {type(verify).__name__}")
    try:
        return _shared_tls_context(verify, variables)
    except OSError as error:  # ssl.SSLError is one too
        reason = error.strerror or type(error).__name__
    places = ", ".join(name for name, _ in variables) if verify is True else "verify"
    raise ConfigurationError(f"verify: the certificates that {places} names cannot be loaded: {reason}")


@lru_cache(maxsize=8)
def _shared_tls_context(verify: bool | str, variables: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    # One for all clients: loading the certificates takes about 17 ms. The variables are here to be part of the key.
    if isinstance(verify, str):
        directory = Path(verify).is_dir()
        return ssl.create_default_context(cafile=None if directory else verify, capath=verify if directory else None)
    return httpx.create_ssl_context(verify=verify, trust_env=bool(variables))


@lru_cache(maxsize=1)
def _unused_tls_context() -> ssl.SSLContext:
    # httpx wants one even for http://; it would load the certificates that nothing will read.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
