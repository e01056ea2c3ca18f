"""Reading of a whole HTTP response, decompressed, with a limit on its size."""

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, cast

import anyio
import httpx

from ..errors import ResponseFormatError

MAX_ANSWER_BYTES: Final = 32 * 2**20
"""The largest response, after decompression: a thousand results with vectors take about 10 MiB."""

_PIECE_BYTES: Final = 2**20
"""The most to decompress at once: zlib temporarily holds twice its output."""

_MAX_CHUNKS_LEFT: Final = 64
"""The most chunks of an abandoned response: h11 has at most those of one read of 64 KiB."""


class RawResponse(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    """The headers, with names in lower case."""
    body: bytes
    """The decompressed body."""


async def read_response(response: httpx.Response) -> RawResponse:
    """Read a whole response; stop when it exceeds MAX_ANSWER_BYTES.

    Raises:
        ResponseFormatError: The response is too large, has an encoding that was not offered, or is corrupt.
    """
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
    status = response.status_code
    try:
        body = await _read_body(response, headers.get("content-encoding", ""))
    except ResponseFormatError as error:
        error.status = status
        if 200 <= status < 300:
            raise
        body = b""  # the status alone determines the error
    finally:
        await response.aclose()
    return RawResponse(status, headers, body)


async def _read_body(response: httpx.Response, encoding: str) -> bytes:
    if response.is_closed:  # a hook of the caller's client, or a mock, has already read and decompressed it
        return response.content
    body = BoundedBody(encoding)
    chunks = cast(httpx.AsyncByteStream, response.stream).__aiter__()  # all transports are async
    try:
        async for chunk in chunks:
            body.add(chunk)
    except ResponseFormatError:
        await _abandon(response, chunks)
        raise
    return body.finish()


async def _abandon(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Close a response that is not fully read. Exhaust its async generators: trio warns of unfinished ones."""
    await response.aclose()
    with anyio.CancelScope() as scope, suppress(httpx.HTTPError, httpx.StreamError, StopAsyncIteration):
        scope.cancel()  # ends any wait
        for _ in range(_MAX_CHUNKS_LEFT):
            await chunks.__anext__()


class BoundedBody:
    """The decompressed chunks of a body, with a limit on their size.

    Raises:
        ResponseFormatError: The encoding is neither gzip nor identity. For the other common ones (br, zstd) there is no
            decoder here that limits its output.
    """

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise ResponseFormatError(
                f"the answer is compressed as {encoding[:40]!r}; gzip was offered", should_retry=False
            )
        self._gzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Add the next chunk.

        Raises:
            ResponseFormatError: The body is too large, or its compression is corrupt.
        """
        if self._gzip is None:
            self._keep(chunk)
            return
        was_whole, full = self._gzip.eof, True
        while chunk or full:
            try:
                piece = self._gzip.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                raise ResponseFormatError("the compression of the answer is broken", should_retry=False) from None
            self._keep(piece)
            chunk, full = self._gzip.unconsumed_tail, len(piece) == _PIECE_BYTES
        if was_whole or self._gzip.unused_data:
            raise ResponseFormatError("there are bytes after the compressed answer", should_retry=False)

    def _keep(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_ANSWER_BYTES:
            raise ResponseFormatError(f"the answer is larger than {MAX_ANSWER_BYTES:,} bytes", should_retry=False)

    def finish(self) -> bytes:
        """Return the body.

        Raises:
            ResponseFormatError: The compressed body is truncated.
        """
        if self._gzip is not None and self._chunks and not self._gzip.eof:
            raise ResponseFormatError("the compressed answer ends early", should_retry=True)
        return b"".join(self._chunks)
