"""Asking the configured server for other things than rankings: what it serves, and whether it takes the key."""

import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from .._endpoint import HOSTED_BASE_URL, MISSING_KEY, Endpoint, resolve_endpoint
from .._stack.http import SecretHeaders, translate
from .._stack.raw_response import BoundedBody
from .._stack.routes import Route, route_to
from .._status_errors import error_from_response
from ..errors import APITimeoutError, ConfigurationError, RerankError, ResponseFormatError
from .server import ServerOptions

_SECONDS: Final = 10.0
"""How long a person waits for a list."""


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """What a server has answered."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    url: str
    seconds: float
    tls: str | None
    """The protocol's version, such as TLSv1.3; None for plain http."""
    certificate_until: float | None
    """When the server's certificate ends, in seconds since 1970; None where it was not checked."""
    sent: SecretHeaders
    """The headers of the request, which know why there is no key, and take it out of what the server says."""

    @property
    def refused(self) -> RerankError | None:
        """The error that the status stands for; None for success."""
        if 200 <= self.status < 300:
            return None
        keyless = self.sent.keyless
        refused = error_from_response(
            self.status, self.headers, self.body, url=self.url, now=time.time(), keyless=keyless
        )
        self.sent.redactor.error(refused)
        return refused


def configured(server: ServerOptions = ServerOptions()) -> Endpoint:  # noqa: B008  # frozen
    """The server that the options or the environment name, or the hosted API; without a key where one is missing.

    Raises:
        CommandError: There is no key where the options say.
        ConfigurationError: An option, or a variable, breaks a rule.
    """
    try:
        return resolve_endpoint(server.key(), server.base_url, allow_insecure=server.allow_insecure, variable=os.getenv)
    except ConfigurationError as error:
        if error.code != MISSING_KEY:
            raise
        return Endpoint(f"{HOSTED_BASE_URL}/rerank", None, hosted=True)


def route(endpoint: Endpoint) -> Route:
    """The way that a client takes to it.

    Raises:
        ConfigurationError: The environment's proxy or certificates cannot be used.
    """
    return route_to(endpoint.url, proxy=None, verify=True, trust_env=True)


def get(endpoint: Endpoint, path: str, way: Route) -> ProbeResponse:
    """Asks for a route beside that of rankings.

    Raises:
        APIConnectionError: No whole answer came in time.
        ResponseFormatError: It is too large, or its compression is broken.
    """
    url = endpoint.beside(path)
    headers = SecretHeaders(endpoint, {"accept": "application/json", "accept-encoding": "gzip"})
    client = httpx.Client(proxy=way.proxy, verify=way.tls or True, trust_env=False, timeout=_SECONDS)
    started = time.perf_counter()
    try:
        with client, client.stream("GET", url, headers=headers.httpx) as response:
            secured: ssl.SSLObject | None = response.extensions["network_stream"].get_extra_info("ssl_object")
            body = BoundedBody(response.headers.get("content-encoding", ""))
            for chunk in response.iter_raw():
                body.add(chunk)
                if time.perf_counter() - started > _SECONDS:  # httpx's own limit begins anew with each chunk
                    raise httpx.ReadTimeout("")
    except httpx.TimeoutException:
        failure: RerankError = APITimeoutError(f"no whole answer in {_SECONDS:.0f} s", url=url)
    except ResponseFormatError as error:
        failure = error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        failure = translate(error, url)
    else:
        return ProbeResponse(
            response.status_code,
            {name.lower(): headers.redactor.text(value) for name, value in response.headers.items()},
            body.finish(),
            url,
            time.perf_counter() - started,
            secured.version() if secured else None,
            _end_of_certificate(secured),
            headers,
        )
    headers.redactor.error(failure)
    raise failure


def _end_of_certificate(secured: ssl.SSLObject | None) -> float | None:
    certificate = secured.getpeercert() if secured else None
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None
