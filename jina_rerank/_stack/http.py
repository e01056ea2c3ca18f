"""One HTTP attempt: it sends a request, reads the response, and translates foreign exceptions to RerankErrors."""

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
"""The largest request body. Servers do not document their limits; a larger list is probably a mistake."""

# Without this a request would get the timeouts of the caller's own client; ours are cancel scopes.
_NO_TIMEOUTS: Final = {"timeout": {"connect": None, "read": None, "write": None, "pool": None}}

_MAY_BE_SECRET: Final = re.compile("auth|cookie|key|secret|token")
"""The pattern of names of headers whose values may be secrets."""

_FOREIGN_ERRORS: Final = (
    httpx.HTTPError,
    httpx.StreamError,
    ssl.SSLError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    UnicodeError,  # for a host name that is invalid in DNS
)

_HTTP_LIBRARIES: Final = frozenset(("aiohttp", "httpcore"))
"""Libraries whose frames hold the sent bytes, including the key, in local variables. They do not call hooks."""

INTERPRETER_EXITS: Final = "the interpreter is exiting; the call cannot complete"


class SecretHeaders:
    """The headers of every request, prepared once. The repr hides the key."""

    __slots__ = ("httpx", "keyless", "redactor")

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self.httpx: httpx.Headers = httpx.Headers(dict(headers))
        if endpoint.api_key is not None:
            self.httpx["authorization"] = f"Bearer {endpoint.api_key.get_secret_value()}"
        self.keyless: str | None = None if "authorization" in self.httpx else endpoint.keyless
        """Why no key is sent, and how to send one; None if an Authorization header is sent."""
        self.redactor: Redactor = Redactor(value for name, value in self.httpx.items() if _MAY_BE_SECRET.search(name))
        """The redactor of the key and other secret headers in responses."""

    def __repr__(self) -> str:
        return "SecretHeaders(...)"


def http_attempt(connections: Connections[Transport], endpoint: Endpoint, headers: SecretHeaders) -> Send:
    """Return a Send that makes one HTTP attempt."""
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
        handled = sys.exception()  # the caller may be handling an exception, which becomes the context of errors here
        try:
            outcome = _interpret(await transport.exchange(_post(url, headers, body)), request, endpoint, headers)
        except ResponseFormatError as error:
            error.url = endpoint.url
            # Without the frames that hold the response, which may quote secrets: tracebacks may show locals.
            error.__context__ = None
            outcome = error.with_traceback(None)
        except Exception as error:
            if not isinstance(error, _FOREIGN_ERRORS) and not _is_from_http_library(error):
                raise  # from a hook
            outcome = translate(error, endpoint.url, bytes_sent=len(body), handled=handled)
        except BaseException as error:
            # Usually a cancellation: it is raised unchanged, but without the frames that hold the key.
            for each in _chain(error, handled):
                each.__traceback__ = None
            raise
        if isinstance(outcome, RerankError):
            headers.redactor.error(outcome)
            # Raised outside the `except` blocks, so that its context does not hold the HTTP request with the key.
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
    """A body in one chunk. Unlike httpx's it is not an async generator: trio warns of those left open by a failure."""

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
    """Redact secrets in the attributes of a ranking that hold a server's text."""
    texts = [ranking.model, ranking.headers, ranking.extra]
    redacted = redactor.json(texts)
    if redacted is not texts:
        ranking.model, ranking.headers, ranking.extra = redacted if is_array(redacted) else (None, {}, {})


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
    error: BaseException, url: str, *, bytes_sent: int = 0, handled: BaseException | None = None
) -> APIConnectionError | ClientClosedError:
    """Return the RerankError for an exception of httpx, anyio, ssl, the operating system, or a socket blocker.

    Messages come from a short list or the operating system, because those of the HTTP library may quote headers.
    """
    causes = [cause for cause in _chain(error, handled) if not isinstance(cause, BaseExceptionGroup)]
    if isinstance(causes[0], RuntimeError) and not threading.main_thread().is_alive():
        return ClientClosedError(INTERPRETER_EXITS, url=url)  # no thread can be started to resolve a host
    permanent = _permanent_failure(causes)
    if permanent is not None:
        return APIConnectionError(permanent, url=url, should_retry=False)
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError("the HTTP client's own time limit passed", url=url)
    system = [reason for cause in causes if (reason := _system_reason(cause))]
    what = _FAILURES.get(type(error), "the connection failed")
    message = f"{what}: {system[0] if system else _brief(causes[0]) or 'it was closed'}"
    if bytes_sent >= LARGE_REQUEST_BYTES and not isinstance(error, httpx.ConnectError):
        message += f"; a request of {bytes_sent:,} bytes may be too large for the server"
    return APIConnectionError(message, url=url)


_FAILURES: Final[Mapping[type[BaseException], str]] = {
    httpx.ConnectError: "no connection",
    httpx.ReadError: "the connection broke while the answer was awaited",
    httpx.WriteError: "the connection broke while the request was sent",
    httpx.RemoteProtocolError: "the answer is not valid HTTP",
}


_PERMANENT_FAILURES: Final[Mapping[type[BaseException], str]] = {
    UnicodeError: "the host was not found: it is not a valid host name",
    httpx.ProxyError: "the proxy refused: {}",
    httpx.UnsupportedProtocol: "the request could not be written as HTTP/1.1",
    httpx.LocalProtocolError: "the request could not be written as HTTP/1.1",
}


def _permanent_failure(causes: list[BaseException]) -> str | None:
    """Return the message of a failure that retries cannot resolve; None for one that may be transient."""
    error = causes[0]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's TLS certificate is not valid: {cause.verify_message}"
        # EAI_AGAIN is a failure of the resolver itself; the other codes mean that the host does not exist.
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return f"the host was not found: {cause.strerror}"
    for kind, what in _PERMANENT_FAILURES.items():
        if isinstance(error, kind):
            return what.format(_brief(error) or "it was closed")
    if not isinstance(error, _FOREIGN_ERRORS):  # such as pytest-socket's
        return ": ".join(filter(None, ("the connection failed", type(error).__name__, _brief(error))))
    return None


def _system_reason(error: BaseException) -> str | None:
    """Return the operating system's message, even if the event loop has replaced it.

    asyncio's is "Connect call failed ('127.0.0.1', 9)", repeated in one text for several addresses.
    """
    if not isinstance(error, OSError):
        return None
    if isinstance(error, ssl.SSLError | socket.gaierror) or error.errno is None:
        return error.strerror
    return os.strerror(error.errno)


def _brief(error: BaseException) -> str:
    # The text after a colon is quoted from the peer, which may echo the key.
    return str(error).partition(":")[0][:100]


def _is_from_http_library(error: BaseException) -> bool:
    """Return whether an exception passed through an HTTP library; one raised by a hook did not."""
    return any(
        frame.f_globals.get("__name__", "").partition(".")[0] in _HTTP_LIBRARIES
        for frame, _ in walk_tb(error.__traceback__)
    )


def _chain(error: BaseException, end: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes and contexts, up to `end`."""
    seen = {id(end)}
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += (each.__context__, each.__cause__)
        # Happy Eyeballs (RFC 8305): one failure for each address tried.
        parts: tuple[BaseException, ...] = getattr(each, "exceptions", ())
        left += reversed(parts)
