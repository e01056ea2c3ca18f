"""One HTTP attempt: bytes out, a bounded answer in, and every foreign exception brought back to ours."""

import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, Self

import anyio
import httpx

from ..endpoint import Endpoint
from ..errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    InvalidRequestError,
    RerankError,
    ResponseFormatError,
)
from ..refusals import refusal
from ..wire import Ranking, WireRequest, decode, encode
from . import Send
from .connections import Connections

MAX_REQUEST_BYTES: Final = 64 * 2**20
"""The largest body sent. No server documents its limit; what is above this is a mistake rather than a list."""
MAX_ANSWER_BYTES: Final = 64 * 2**20
"""The largest answer read, counted after decompression: a thousand results with vectors take about 10 MiB."""


_CHUNKS_LEFT: Final = 64
"""How many chunks an abandoned answer may still hold: h11 gives at most those of one read of 64 KiB."""


class Answer(NamedTuple):
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Decompressed."""


class SecretHeaders:
    """The headers of every request, the key among them, prepared once and hidden from every repr."""

    __slots__ = ("httpx",)

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self.httpx = httpx.Headers(dict(headers))
        if endpoint.api_key is not None:
            self.httpx["authorization"] = f"Bearer {endpoint.api_key.get_secret_value()}"

    def __repr__(self) -> str:
        return "SecretHeaders(...)"


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


def http_attempt(connections: Connections, endpoint: Endpoint, headers: SecretHeaders) -> Send:
    """Sends a request once."""
    secret = endpoint.api_key.get_secret_value().encode() if endpoint.api_key else None
    url = _checked_url(endpoint.url)

    async def send_once(request: WireRequest) -> Ranking:
        body = encode(request)
        if len(body) > MAX_REQUEST_BYTES:
            raise InvalidRequestError(
                f"documents: the request has {len(body):,} bytes, the most is {MAX_REQUEST_BYTES:,}; send fewer"
            )
        transport = connections.here().transport
        request.attempts += 1
        failure: RerankError
        try:
            answer = await transport.exchange(_post(url, headers, body))
        except _FOREIGN as error:
            failure = translate(error, endpoint.url)
        else:
            if 200 <= answer.status < 300:
                ranking = decode(answer.body, documents=len(request.documents), top_n=request.top_n, url=endpoint.url)
                ranking.headers = answer.headers
                return ranking
            # A server that quotes the key in its refusal does not bring it into our errors.
            text = answer.body.replace(secret, b"[key]") if secret else answer.body
            failure = refusal(answer.status, answer.headers, text, url=endpoint.url, now=time.time())
        # Raised out here, so that no context of it holds the HTTP request, and with that the key.
        raise failure

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


def _checked_url(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        reason = str(error)
    raise ConfigurationError(f"base_url: {reason}")


async def read_answer(response: httpx.Response) -> Answer:
    """The whole answer, read until it is larger than MAX_ANSWER_BYTES.

    Raises:
        ResponseFormatError: It is too large, or compressed in a way that was not asked for, or its compression is
            broken.
    """
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
    status = response.status_code
    try:
        body = await _read_body(response, headers.get("content-encoding", ""))
    except ResponseFormatError:
        if 200 <= status < 300:
            raise
        body = b""  # the status says enough
    finally:
        await response.aclose()
    return Answer(status, headers, body)


async def _read_body(response: httpx.Response, encoding: str) -> bytes:
    if response.is_closed:  # a hook of the caller's client, or a mock, has read and decompressed it already
        return response.content
    inflate = _decompressor(encoding)
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("http_client: its transport gives an answer that cannot be read asynchronously")
    raw_chunks = stream.__aiter__()
    chunks: list[bytes] = []
    size = 0
    try:
        async for raw in raw_chunks:
            chunk = inflate(raw, MAX_ANSWER_BYTES + 1 - size)
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise ResponseFormatError(f"the answer is larger than {MAX_ANSWER_BYTES:,} bytes", should_retry=False)
    except ResponseFormatError:
        await _abandon(response, raw_chunks)
        raise
    if chunks:
        inflate(b"", 0)
    return b"".join(chunks)


async def _abandon(response: httpx.Response, raw_chunks: AsyncIterator[bytes]) -> None:
    """Closes an answer in the middle. Its generators are run to their end, because trio minds those that are not."""
    await response.aclose()
    with suppress(*_FOREIGN, StopAsyncIteration):
        for _ in range(_CHUNKS_LEFT):
            await raw_chunks.__anext__()


def _decompressor(encoding: str) -> Callable[[bytes, int], bytes]:
    """A function from the next raw bytes, and the most to give, to plain bytes; called with none at the end."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda raw, _: raw
    if encoding not in ("gzip", "x-gzip"):
        # The others that are common (br, zstd) have no decoder here that bounds what it gives.
        raise ResponseFormatError(
            f"the answer is compressed as {encoding[:40]!r}; gzip was offered", should_retry=False
        )
    gzip = zlib.decompressobj(wbits=31)

    def inflate(raw: bytes, most: int) -> bytes:
        if not raw and not gzip.eof:
            raise ResponseFormatError("the compressed answer ends early", should_retry=True)
        try:
            return gzip.decompress(raw, most) if raw else b""
        except zlib.error:
            pass
        raise ResponseFormatError("the compression of the answer is broken", should_retry=False)

    return inflate


def translate(error: BaseException, url: str) -> APIConnectionError:
    """Our error for one of httpx, anyio, ssl or the operating system.

    Messages come from a short list or from the operating system: those of the HTTP library may quote headers.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"the server's TLS certificate is not valid: {cause.verify_message}"
            return APIConnectionError(reason, url=url, should_retry=False)
        if isinstance(cause, socket.gaierror):
            # EAI_AGAIN is the resolver's own trouble; any other answer is that there is no such host.
            passing = cause.errno == socket.EAI_AGAIN
            return APIConnectionError(f"the host was not found: {cause.strerror}", url=url, should_retry=passing)
    if isinstance(error, UnicodeError):
        return APIConnectionError("the host was not found: it is no name of a host", url=url, should_retry=False)
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError("the HTTP client's own time limit passed", url=url)
    if isinstance(error, httpx.ProxyError):
        return APIConnectionError(f"the proxy refused: {error}", url=url, should_retry=False)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return APIConnectionError("the request could not be written as HTTP/1.1", url=url, should_retry=False)
    system = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    what = _WHERE.get(type(error), "the connection failed")
    return APIConnectionError(f"{what}: {(system or [str(error) or 'it was closed'])[0]}", url=url)


_WHERE: Final[Mapping[type[BaseException], str]] = {
    httpx.ConnectError: "no connection",
    httpx.ReadError: "the connection broke while the answer was awaited",
    httpx.WriteError: "the connection broke while the request was sent",
    httpx.RemoteProtocolError: "the answer is not whole HTTP",
}


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
