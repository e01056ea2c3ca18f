"""The route to a server: the proxy, and the trusted certificates."""

import os
import ssl
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from .._endpoint import is_loopback
from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Route:
    """The route to one server."""

    proxy: httpx.Proxy | None
    tls: ssl.SSLContext | None
    """The TLS context; None for plain http."""


def route_to(url: str, *, proxy: str | None, verify: bool | str | ssl.SSLContext, trust_env: bool) -> Route:
    """Return the route to the server of `url`, with the proxy and the certificates resolved once.

    Raises:
        ConfigurationError: The proxy or the certificates are invalid.
    """
    _check_verify(verify)
    if proxy is None and trust_env:
        proxy = environment_proxy(url)
    secure = url.startswith("https:")
    return Route(
        proxy=None if proxy is None else _usable_proxy(proxy),
        tls=_tls_context(verify, _certificate_variables(trust_env)) if secure else None,
    )


def checked_url(url: str) -> httpx.URL:
    """Return the URL as an httpx.URL.

    Raises:
        ConfigurationError: Its host, or another part, is invalid.
    """
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        reason = str(error)
    raise ConfigurationError(f"base_url: {reason}")


def _usable_proxy(proxy: object) -> httpx.Proxy:
    """Return the proxy for a URL. No message quotes an invalid URL, which may contain a password."""
    try:
        parts = urlsplit(proxy if isinstance(proxy, str) else "")
        usable = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname and parts.port != 0
        checked = httpx.Proxy(httpx.URL(parts.geturl())) if usable else None
    except (ValueError, httpx.InvalidURL):
        checked = None
    if checked is None:
        raise ConfigurationError("proxy: expected a URL such as http://host:port or socks5://host:port")
    if checked.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError("proxy: for SOCKS the package socksio is missing; pip install 'httpx[socks]'")
    return checked


def environment_proxy(url: str) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY set for `url`; None for no proxy."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # A proxy cannot reach this machine's loopback, and must not see a key for a server there.
    if is_loopback(host) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


def _check_verify(verify: object) -> None:
    if not isinstance(verify, bool | str | ssl.SSLContext):
        raise ConfigurationError(f"verify: expected a bool, a path or an SSLContext, got {type(verify).__name__}")


def _certificate_variables(trust_env: bool) -> tuple[tuple[str, str], ...]:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    return tuple((name, os.environ[name]) for name in names if trust_env and os.environ.get(name))


def _tls_context(verify: bool | str | ssl.SSLContext, variables: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        return verify
    try:
        return _shared_tls_context(verify, variables)
    except OSError as error:  # the base class of ssl.SSLError
        reason = error.strerror or type(error).__name__
    places = ", ".join(name for name, _ in variables) if verify is True else "verify"
    raise ConfigurationError(f"verify: the certificates that {places} names cannot be loaded: {reason}")


@lru_cache(maxsize=8)
def _shared_tls_context(verify: bool | str, variables: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    # All clients share one: loading the certificates takes about 17 ms. The variables are part of the cache key.
    if isinstance(verify, str):
        directory = Path(verify).is_dir()
        return ssl.create_default_context(cafile=None if directory else verify, capath=verify if directory else None)
    return httpx.create_ssl_context(verify=verify, trust_env=bool(variables))
