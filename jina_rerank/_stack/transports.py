"""The available transports: lanes, aiohttp's connections, or an HTTP client of the caller."""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Final

import httpx

from .._config import ClientConfig
from ..errors import ClientClosedError, ConfigurationError
from .connections import Transport
from .raw_response import RawResponse, read_response
from .routes import route_to

_LAZY_IMPORTS: Final = ("anyio._backends._asyncio", "certifi", "concurrent.futures.thread", "encodings.idna")
"""Modules that anyio, httpx and asyncio import on first use."""


def transport_opener(url: str, config: ClientConfig) -> Callable[[], Transport]:
    """Return a function that opens the transport of one event loop to `url`; proxy and TLS are set up once.

    Raises:
        ConfigurationError: The proxy, the certificates or the HTTP client cannot be used, or aiohttp is not installed.
    """
    _import_early()
    transport: str = config.transport
    if config.http_client is not None:
        if config.proxy is not None or config.verify is not True or transport != "httpx":
            raise ConfigurationError(
                "http_client: it brings its own proxy, certificates and transport; leave out proxy=, verify= and "
                "transport="
            )
        return _callers_opener(config.http_client)
    route = route_to(url, proxy=config.proxy, verify=config.verify, trust_env=config.trust_env)
    if transport == "httpx":
        from .lanes import Lanes, lane_opener  # noqa: PLC0415  # httpcore imports trio, if it is installed

        open_lane = lane_opener(url, route)
        return lambda: Lanes(open_lane)
    if transport != "aiohttp":
        raise ConfigurationError(f"transport: expected 'httpx' or 'aiohttp', got {transport!r}")
    try:
        from .aiohttp import AiohttpTransport  # noqa: PLC0415  # from the extra [aiohttp]
    except ImportError as error:
        missing = error.name
        raise ConfigurationError(
            f"transport: aiohttp needs the package {missing}; pip install 'jina-rerank[aiohttp]'"
        ) from None
    return lambda: AiohttpTransport(route)


def _import_early() -> None:
    """Import what the first call would import: a process forked in the middle of an import can never finish it."""
    for name in _LAZY_IMPORTS:
        with suppress(ImportError):  # if a library renames a module, the first call imports it
            import_module(name)


def _callers_opener(http_client: object) -> Callable[[], Transport]:
    if isinstance(http_client, httpx.AsyncClient):
        transport = CallersClient(http_client, owned=False)
        return lambda: transport
    if not callable(http_client):
        kind = type(http_client).__name__
        raise ConfigurationError(
            f"http_client: expected an httpx.AsyncClient, or a function that makes one; got {kind}"
        )
    return lambda: CallersClient(_make_client(http_client), owned=True)


def _make_client(factory: Callable[[], object]) -> httpx.AsyncClient:
    client = factory()
    if not isinstance(client, httpx.AsyncClient):
        kind = type(client).__name__
        raise ConfigurationError(f"http_client: the function must make an httpx.AsyncClient; it made {kind}")
    return client


class CallersClient:
    """A transport over the caller's HTTP client, with its transport, proxies, hooks and certificates."""

    def __init__(self, client: httpx.AsyncClient, *, owned: bool) -> None:
        self._client = client
        self._owned = owned

    async def exchange(self, request: httpx.Request, /) -> RawResponse:
        """Send a request through the caller's client, and return the response."""
        if self._client.is_closed:
            raise ClientClosedError("http_client: it is closed")
        try:
            return await read_response(await self._client.send(request, stream=True, auth=None, follow_redirects=False))
        except httpx.HTTPStatusError as error:  # a hook called raise_for_status()
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            return RawResponse(error.response.status_code, headers, b"")
        except RuntimeError as error:
            if "Event loop is closed" not in str(error):
                raise
        raise ConfigurationError(
            "http_client: it was used on another event loop, which has ended; pass a function that makes one instead"
        )

    async def aclose(self) -> None:
        """Close a client that a factory made for this loop; a client passed by the caller remains open."""
        if self._owned:
            await self._client.aclose()
