"""One HTTP attempt: a request out, its answer in, and every foreign exception brought back to ours."""

import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from traceback import walk_tb
from typing import Final, Self

import anyio
import httpx

from .._codec import Ranking, WireRequest, decode, encode
from .._endpoint import Endpoint
from .._redaction import Redactor
from .._status_errors import error_from_response
from .._typeguards import is_array
from ..errors import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    InvalidRequestError,
    RerankError,
    ResponseFormatError,
)
from . import Send
from .call_context import CallContext
from .connections import LARGE_REQUEST_BYTES, Connections, Transport
from .raw_response import RawResponse
from .routes import checked_url

MAX_REQUEST_BYTES: Final = 64 * 2**20
"""The largest body sent. No server documents its limit; what is above this is a mistake rather than a list."""

# A request without this would get the time limits of the caller's own client; ours are cancel scopes.
_NO_TIMEOUTS: Final = {"timeout": {"connect": None, "read": None, "write": None, "pool": None}}

_MAY_BE_SECRET: Final = re.compile("auth|cookie|key|secret|token")
"""The names of headers whose values no message shows."""

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

_HTTP_LIBRARIES: Final = frozenset(("aiohttp", "httpcore"))
"""Their frames hold the bytes that are sent, the key among them, in local variables. Hooks do not run below them."""

INTERPRETER_EXITS: Final = "the interpreter exits, and the call cannot be carried out any more"


class SecretHeaders:
    """The headers of every request, prepared once. The key among them is kept out of every repr."""

    __slots__ = ("httpx", "keyless", "redactor")

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self.httpx: httpx.Headers = httpx.Headers(dict(headers))
        if endpoint.api_key is not None:
            self.httpx["authorization"] = f"Bearer {endpoint.api_key.get_secret_value()}"
        self.keyless: str | None = None if "authorization" in self.httpx else endpoint.keyless
        """Why no key is sent, and how to send one; None if one is sent, under whatever name."""
        self.redactor: Redactor = Redactor(value for name, value in self.httpx.items() if _MAY_BE_SECRET.search(name))
        """Takes the key, and what else is secret here, out of what a server says."""

    def __repr__(self) -> str:
        return "SecretHeaders(...)"


def http_attempt(connections: Connections[Transport], endpoint: Endpoint, headers: SecretHeaders) -> Send:
    """Sends a request once."""
    url = checked_url(endpoint.url)

    async def send_once(request: WireRequest, context: CallContext) -> Ranking:
        body = encode(request)
        if len(body) > MAX_REQUEST_BYTES:
            raise InvalidRequestError(
                f"documents: the request has {len(body):,} bytes, the most is {MAX_REQUEST_BYTES:,}; send fewer"
            )
        transport = connections.here().transport
        context.attempt_started(request, anyio.current_time())
        outcome: Ranking | RerankError
        handled = sys.exception()  # what the caller handles, of which every error here is told to be a consequence
        try:
            outcome = _interpret(await transport.exchange(_post(url, headers, body)), request, endpoint, headers)
        except ResponseFormatError as error:
            error.url = endpoint.url
            # Without the frames that hold the answer, which may quote anything: tracebacks may show their locals.
            error.__context__ = None
            outcome = error.with_traceback(None)
        except Exception as error:
            if not isinstance(error, _FOREIGN) and not _comes_of_http(error):
                raise  # of a hook
            outcome = translate(error, endpoint.url, sent=len(body), handled=handled)
        except BaseException as error:
            # A cancellation, in general: the caller gets it as it is, without the frames that hold the key.
            for each in _chain(error, handled):
                each.__traceback__ = None
            raise
        if isinstance(outcome, RerankError):
            headers.redactor.error(outcome)
            # Raised out here, so that no context of it holds the HTTP request, and with that the key.
            raise outcome
        _redact(outcome, headers.redactor)
        if outcome.usage is not None:
            context.answered(outcome.usage.total_tokens)
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


def _redact(ranking: Ranking, redactor: Redactor) -> None:
    """Take secrets out of what a response shows of a server's words."""
    words = [ranking.model, ranking.headers, ranking.extra]
    shown = redactor.json(words)
    if shown is not words:
        ranking.model, ranking.headers, ranking.extra = shown if is_array(shown) else (None, {}, {})


def _interpret(
    answer: RawResponse, request: WireRequest, endpoint: Endpoint, headers: SecretHeaders
) -> Ranking | RerankError:
    if not 200 <= answer.status < 300:
        return error_from_response(
            answer.status,
            answer.headers,
            answer.body,
            url=endpoint.url,
            now=time.time(),
            keyless=headers.keyless,
        )
    try:
        ranking = decode(answer.body, documents=len(request.documents), top_n=request.top_n)
    except ResponseFormatError as error:
        error.status = answer.status
        raise
    ranking.headers = answer.headers
    return ranking


def translate(
    error: BaseException, url: str, *, sent: int = 0, handled: BaseException | None = None
) -> APIConnectionError | ClientClosedError:
    """Our error for one of httpx, anyio, ssl, the operating system, or whatever forbids connections.

    Messages come from a short list or from the operating system: those of the HTTP library may quote headers.
    """
    causes = [cause for cause in _chain(error, handled) if not isinstance(cause, BaseExceptionGroup)]
    if isinstance(causes[0], RuntimeError) and not threading.main_thread().is_alive():
        return ClientClosedError(INTERPRETER_EXITS, url=url)  # no thread is started any more, to look up a host
    wrong_way = _wrong_way(causes)
    if wrong_way is not None:
        return APIConnectionError(wrong_way, url=url, should_retry=False)
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError("the HTTP client's own time limit passed", url=url)
    system = [reason for cause in causes if (reason := _system_reason(cause))]
    what = _WHERE.get(type(error), "the connection failed")
    message = f"{what}: {system[0] if system else _brief(causes[0]) or 'it was closed'}"
    if sent >= LARGE_REQUEST_BYTES and not isinstance(error, httpx.ConnectError):
        message += f"; a request of {sent:,} bytes may be too large for the server"
    return APIConnectionError(message, url=url)


_WHERE: Final[Mapping[type[BaseException], str]] = {
    httpx.ConnectError: "no connection",
    httpx.ReadError: "the connection broke while the answer was awaited",
    httpx.WriteError: "the connection broke while the request was sent",
    httpx.RemoteProtocolError: "the answer is not whole HTTP",
}


_WRONG_WAYS: Final[Mapping[type[BaseException], str]] = {
    UnicodeError: "the host was not found: it is no name of a host",
    httpx.ProxyError: "the proxy refused: {}",
    httpx.UnsupportedProtocol: "the request could not be written as HTTP/1.1",
    httpx.LocalProtocolError: "the request could not be written as HTTP/1.1",
}


def _wrong_way(causes: list[BaseException]) -> str | None:
    """What stays wrong however often it is tried; None for trouble that may pass."""
    error = causes[0]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's TLS certificate is not valid: {cause.verify_message}"
        # EAI_AGAIN is the resolver's own trouble; any other answer is that there is no such host.
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return f"the host was not found: {cause.strerror}"
    for kind, what in _WRONG_WAYS.items():
        if isinstance(error, kind):
            return what.format(_brief(error) or "it was closed")
    if not isinstance(error, _FOREIGN):  # such as pytest-socket's
        return ": ".join(filter(None, ("the connection failed", type(error).__name__, _brief(error))))
    return None


def _system_reason(error: BaseException) -> str | None:
    """Return the operating system's words, also where an event loop puts its own in their place.

    asyncio says "Connect call failed ('127.0.0.1', 9)", and several of these in one text for several addresses.
    """
    if not isinstance(error, OSError):
        return None
    if isinstance(error, ssl.SSLError | socket.gaierror) or error.errno is None:
        return error.strerror
    return os.strerror(error.errno)


def _brief(error: BaseException) -> str:
    # What follows a colon is quoted from the other side, which may echo the key.
    return str(error).partition(":")[0][:100]


def _comes_of_http(error: BaseException) -> bool:
    """Whether it has passed through an HTTP library: what hooks raise has not."""
    return any(
        frame.f_globals.get("__name__", "").partition(".")[0] in _HTTP_LIBRARIES
        for frame, _ in walk_tb(error.__traceback__)
    )


def _chain(error: BaseException, end: BaseException | None) -> Iterator[BaseException]:
    """An error, and all that it is told to come of, up to `end`."""
    seen = {id(end)}
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += (each.__context__, each.__cause__)
        # Happy eyeballs: one failure for each address that was tried.
        parts: tuple[BaseException, ...] = getattr(each, "exceptions", ())
        left += reversed(parts)
