"""One HTTP attempt: a request out, its answer in, and every foreign exception brought back to ours."""

import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final, Self

import anyio
import httpx

from ..endpoint import Endpoint
from ..errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    RerankError,
    ResponseFormatError,
)
from ..refusals import explain_keyless, refusal
from ..wire import Ranking, WireRequest, decode, encode
from . import Send
from .answers import Answer
from .connections import LARGE_REQUEST_BYTES, Connections
from .routes import checked_url

MAX_REQUEST_BYTES: Final = 64 * 2**20
"""The largest body sent. No server documents its limit; what is above this is a mistake rather than a list."""

# A request without this would get the time limits of the caller's own client; ours are cancel scopes.
_NO_TIMEOUTS: Final = {"timeout": {"connect": None, "read": None, "write": None, "pool": None}}

_FOREIGN: Final = (
    httpx.HTTPError,
    httpx.StreamError,
    ssl.SSLError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    UnicodeError,  # of a host name that DNS cannot hold
)


class SecretHeaders:
    """The headers of every request, prepared once. The key among them is kept out of every repr."""

    __slots__ = ("_key", "httpx")

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self._key = endpoint.api_key
        self.httpx = httpx.Headers(dict(headers))
        if endpoint.api_key is not None:
            self.httpx["authorization"] = f"Bearer {endpoint.api_key.get_secret_value()}"

    def redacted(self, body: bytes) -> bytes:
        """A server's words without the key, in case it quotes what it refuses."""
        return body.replace(self._key.get_secret_value().encode(), b"[key]") if self._key else body

    def __repr__(self) -> str:
        return "SecretHeaders(...)"


def http_attempt(connections: Connections, endpoint: Endpoint, headers: SecretHeaders) -> Send:
    """Sends a request once."""
    url = checked_url(endpoint.url)

    async def send_once(request: WireRequest) -> Ranking:
        body = encode(request)
        if len(body) > MAX_REQUEST_BYTES:
            raise InvalidRequestError(
                f"documents: the request has {len(body):,} bytes, the most is {MAX_REQUEST_BYTES:,}; send fewer"
            )
        transport = connections.here().transport
        request.tally.attempts += 1
        request.sent_at = anyio.current_time()
        outcome: Ranking | RerankError
        try:
            outcome = _interpret(await transport.exchange(_post(url, headers, body)), request, endpoint, headers)
        except ResponseFormatError as error:
            error.url = endpoint.url
            # Without the frames that hold the answer, which may quote anything: tracebacks may show their locals.
            error.__context__ = None
            outcome = error.with_traceback(None)
        except _FOREIGN as error:
            outcome = translate(error, endpoint.url, sent=len(body))
        if isinstance(outcome, RerankError):
            # Raised out here, so that no context of it holds the HTTP request, and with that the key.
            raise outcome
        if outcome.usage is not None:
            request.tally.tokens += outcome.usage.total_tokens
        return outcome

    return send_once


def _post(url: httpx.URL, headers: SecretHeaders, body: bytes) -> httpx.Request:
    request = httpx.Request("POST", url, headers=headers.httpx, content=body, extensions=_NO_TIMEOUTS)
    request.stream = OneChunk(body)
    return request


class OneChunk(httpx.AsyncByteStream):
    """A body in one piece. Unlike httpx's own it is no async generator: trio minds those that a failure leaves open."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._body)


class _Once:
    def __init__(self, body: bytes) -> None:
        self._left = [body]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _interpret(
    answer: Answer, request: WireRequest, endpoint: Endpoint, headers: SecretHeaders
) -> Ranking | RerankError:
    if not 200 <= answer.status < 300:
        body = headers.redacted(answer.body)
        refused = refusal(answer.status, answer.headers, body, url=endpoint.url, now=time.time())
        if endpoint.keyless is not None and "authorization" not in headers.httpx:
            explain_keyless(refused, endpoint.keyless)
        return refused
    try:
        ranking = decode(answer.body, documents=len(request.documents), top_n=request.top_n)
    except ResponseFormatError as error:
        error.status = answer.status
        raise
    ranking.headers = answer.headers
    return ranking


def translate(error: BaseException, url: str, *, sent: int = 0) -> APIConnectionError:
    """Our error for one of httpx, anyio, ssl or the operating system.

    Messages come from a short list or from the operating system: those of the HTTP library may quote headers.
    """
    causes = list(_causes(error))
    wrong_way = _wrong_way(error, causes)
    if wrong_way is not None:
        return APIConnectionError(wrong_way, url=url, should_retry=False)
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError("the HTTP client's own time limit passed", url=url)
    system = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    what = _WHERE.get(type(error), "the connection failed")
    message = f"{what}: {system[0] if system else _brief(error)}"
    if sent >= LARGE_REQUEST_BYTES and not isinstance(error, httpx.ConnectError):
        message += f"; a request of {sent:,} bytes may be too large for the server"
    return APIConnectionError(message, url=url)


_WHERE: Final[Mapping[type[BaseException], str]] = {
    httpx.ConnectError: "no connection",
    httpx.ReadError: "the connection broke while the answer was awaited",
    httpx.WriteError: "the connection broke while the request was sent",
    httpx.RemoteProtocolError: "the answer is not whole HTTP",
}


def _wrong_way(error: BaseException, causes: list[BaseException]) -> str | None:
    """What stays wrong however often it is tried; None for trouble that may pass."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's TLS certificate is not valid: {cause.verify_message}"
        # EAI_AGAIN is the resolver's own trouble; any other answer is that there is no such host.
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return f"the host was not found: {cause.strerror}"
    if isinstance(error, UnicodeError):
        return "the host was not found: it is no name of a host"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy refused: {_brief(error)}"
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return "the request could not be written as HTTP/1.1"
    return None


def _brief(error: BaseException) -> str:
    # What follows a colon is quoted from the other side, which may echo the key.
    return str(error).partition(":")[0][:100] or "it was closed"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        # Happy eyeballs: one failure for each address that was tried.
        parts: tuple[BaseException, ...] = getattr(error, "exceptions", ())
        for part in parts:
            yield from _causes(part)
        error = error.__cause__ or error.__context__
