"""Reads a whole HTTP answer, decompressed, and never more of it than fits."""

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, cast

import anyio
import httpx

from ..errors import ResponseFormatError

MAX_ANSWER_BYTES: Final = 32 * 2**20
"""The largest answer read, counted after decompression: a thousand results with vectors take about 10 MiB."""

_PIECE_BYTES: Final = 2**20
"""Decompressed at a time: for a moment zlib holds twice what it gives."""

_CHUNKS_LEFT: Final = 64
"""How many chunks an abandoned answer may still hold: h11 gives at most those of one read of 64 KiB."""


class RawResponse(NamedTuple):
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Decompressed."""


async def read_response(response: httpx.Response) -> RawResponse:
    """The whole answer, read until it is larger than MAX_ANSWER_BYTES.

    Raises:
        ResponseFormatError: It is too large, or compressed in a way that was not asked for, or its compression is
            broken.
    """
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
    status = response.status_code
    try:
        body = await _read_body(response, headers.get("content-encoding", ""))
    except ResponseFormatError as error:
        error.status = status
        if 200 <= status < 300:
            raise
        body = b""  # the status says enough
    finally:
        await response.aclose()
    return RawResponse(status, headers, body)


async def _read_body(response: httpx.Response, encoding: str) -> bytes:
    if response.is_closed:  # a hook of the caller's client, or a mock, has read and decompressed it already
        return response.content
    body = BoundedBody(encoding)
    chunks = cast(httpx.AsyncByteStream, response.stream).__aiter__()  # both roads here are asynchronous
    try:
        async for chunk in chunks:
            body.add(chunk)
    except ResponseFormatError:
        await _abandon(response, chunks)
        raise
    return body.finish()


async def _abandon(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Closes an answer in the middle. Its generators are run to their end, because trio minds those that are not."""
    await response.aclose()
    with anyio.CancelScope() as scope, suppress(httpx.HTTPError, httpx.StreamError, StopAsyncIteration):
        scope.cancel()  # whatever would wait ends instead
        for _ in range(_CHUNKS_LEFT):
            await chunks.__anext__()


class BoundedBody:
    """Collects the chunks of a body, decompressed.

    Raises:
        ResponseFormatError: The compression is neither gzip nor none: the others that are common (br, zstd) have no
            decoder here that bounds what it gives.
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
        """Takes the next chunk.

        Raises:
            ResponseFormatError: The whole is too large, or the compression is broken.
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
            raise ResponseFormatError("there are bytes behind the compressed answer", should_retry=False)

    def _keep(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_ANSWER_BYTES:
            raise ResponseFormatError(f"the answer is larger than {MAX_ANSWER_BYTES:,} bytes", should_retry=False)

    def finish(self) -> bytes:
        """The body.

        Raises:
            ResponseFormatError: The compressed form ends early.
        """
        if self._gzip is not None and self._chunks and not self._gzip.eof:
            raise ResponseFormatError("the compressed answer ends early", should_retry=True)
        return b"".join(self._chunks)
