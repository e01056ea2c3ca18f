"""Requests for other routes than that of rankings: the server's models, and whether the server accepts the key."""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from ._endpoint import Endpoint
from ._stack.http import SecretHeaders, translate
from ._stack.raw_response import BoundedBody
from ._stack.routes import route_to
from ._status_errors import error_from_response
from .errors import APITimeoutError, RerankError, ResponseFormatError

_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """The response of a server to one request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    url: str
    seconds: float
    tls: str | None
    """The protocol's version, such as TLSv1.3; None for plain http."""
    certificate_expires_at: float | None
    """When the server's certificate expires, in seconds since 1970; None if it was not verified."""
    _request_headers: SecretHeaders

    @property
    def error(self) -> RerankError | None:
        """The error that the status stands for; None for success."""
        if 200 <= self.status < 300:
            return None
        error = error_from_response(
            self.status,
            self.headers,
            self.body,
            url=self.url,
            now=time.time(),
            keyless=self._request_headers.keyless,
        )
        self._request_headers.redactor.error(error)
        return error

    def redacted(self, text: str) -> str:
        """Return a text of the response without the key, should the server have echoed it."""
        return self._request_headers.redactor.text(text)


class Probe:
    """A client for the routes beside that of rankings, with the same proxy and certificates as a `RerankClient`.

    Args:
        endpoint: The server.

    Raises:
        ConfigurationError: The environment's proxy or certificates cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._route = route_to(endpoint.url, proxy=None, verify=True, trust_env=True)

    @property
    def proxy_url(self) -> str | None:
        """The proxy that the environment sets for this server, without its password."""
        return None if self._route.proxy is None else str(self._route.proxy.url)

    def get(self, path: str) -> ProbeResponse:
        """Send one GET request, without retries.

        Args:
            path: The route, relative to the directory of the rankings' route.

        Raises:
            APIConnectionError: No complete response arrived in time.
            ResponseFormatError: The response is too large, or its compression is broken.
        """
        url = self._endpoint.beside(path)
        headers = SecretHeaders(self._endpoint, {"accept": "application/json", "accept-encoding": "gzip"})
        client = httpx.Client(
            proxy=self._route.proxy, verify=self._route.tls or True, trust_env=False, timeout=_TIMEOUT_SECONDS
        )
        started = time.perf_counter()
        try:
            with client, client.stream("GET", url, headers=headers.httpx) as response:
                tls: ssl.SSLObject | None = response.extensions["network_stream"].get_extra_info("ssl_object")
                body = BoundedBody(response.headers.get("content-encoding", ""))
                for chunk in response.iter_raw():
                    body.add(chunk)
                    # httpx restarts its own timeout with each chunk.
                    if time.perf_counter() - started > _TIMEOUT_SECONDS:
                        raise httpx.ReadTimeout("")
        except httpx.TimeoutException:
            error: RerankError = APITimeoutError(f"no whole answer in {_TIMEOUT_SECONDS:.0f} s", url=url)
        except ResponseFormatError as format_error:
            error = format_error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as http_error:
            error = translate(http_error, url)
        else:
            return ProbeResponse(
                response.status_code,
                {name.lower(): headers.redactor.text(value) for name, value in response.headers.items()},
                body.finish(),
                url,
                time.perf_counter() - started,
                tls.version() if tls else None,
                _certificate_expiry(tls),
                headers,
            )
        headers.redactor.error(error)
        raise error


def _certificate_expiry(tls: ssl.SSLObject | None) -> float | None:
    certificate = tls.getpeercert() if tls else None
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None
