"""Answers that are small on the line and huge in memory, in a process of their own, whose memory is measured."""

import gzip
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from .servers import RawServer, answer_body, http, send

MIB = 2**20
BOUND = 64 * MIB
"""How much more memory a bomb may cost than a good answer."""

CALL = r"""
import asyncio, json, re, sys
from pathlib import Path
from jina_rerank import RerankClient, RerankError, RetryPolicy
def peak():  # of this program alone: ru_maxrss begins with what the process was before exec
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
async def main(url, transport):
    client = RerankClient(base_url=url, transport=transport)
    await client.rerank("q", ["a", "b"])
    before = peak()
    try:
        await client.rerank("q", ["a", "b"])
    except RerankError as error:
        print(json.dumps([type(error).__name__, error.message, error.attempts, peak() - before]))
    await client.aclose()
asyncio.run(main(*sys.argv[1:]))
"""


@cache
def blanks(kind: str) -> bytes:
    """300 MiB of blanks, compressed to less than one."""
    packer: Any
    block = b" " * MIB
    if kind == "br":
        packer = pytest.importorskip("brotli").Compressor(quality=5)
        packed = b"".join(packer.process(block) for _ in range(300)) + packer.finish()
    elif kind == "zstd":
        packer = pytest.importorskip("zstandard").ZstdCompressor().compressobj()
        packed = b"".join(packer.compress(block) for _ in range(300)) + packer.flush()
    else:
        packer = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[kind])
        # After a full flush each block looks the same, and is packed once: all 300 would take seconds. There is no end.
        first, further = (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
        packed = first + 299 * further
    assert len(packed) < MIB
    return bytes(packed)


def bomb(kind: str, status: int = 200) -> Any:
    """Sends it. The decoder is installed here, so that httpx and aiohttp could unpack it."""
    return send(http(blanks(kind), status, content_encoding=kind.removeprefix("raw ")))


def chunks_without_end(connection: Any) -> None:
    """Sends until nobody takes it any more."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    while True:
        connection.sendall(chunk)


BOMBS: dict[str, tuple[Callable[[], Any], str]] = {
    "300 MiB of gzip": (lambda: bomb("gzip"), "larger than 33,554,432 bytes"),
    "300 MiB of gzip in an error": (lambda: bomb("gzip", 400), "Bad Request"),
    "gzip in gzip": (
        lambda: send(http(gzip.compress(blanks("gzip")), content_encoding="gzip, gzip")),
        "gzip was offered",
    ),
    **{
        f"300 MiB of {kind}": (partial(bomb, kind), "gzip was offered")
        for kind in ("deflate", "raw deflate", "br", "zstd")
    },
    "300 MiB of br in an error": (lambda: bomb("br", 400), "Bad Request"),
    "chunks without end": (lambda: chunks_without_end, "larger than 33,554,432 bytes"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read in /proc")
@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
@pytest.mark.parametrize(("make", "says"), BOMBS.values(), ids=BOMBS)
def test_decompression_bomb_uses_less_memory_than_one_answer(
    raw_server: RawServer, make: Callable[[], Any], says: str, transport: str
) -> None:
    raw_server.plays = [send(http(answer_body(2))), make()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", CALL, raw_server.url, transport]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    name, message, attempts, cost = json.loads(done.stdout)
    assert (name, attempts) == ("BadRequestError" if says == "Bad Request" else "ResponseFormatError", 1)
    assert says in message
    assert cost < BOUND, f"{cost / MIB:.0f} MiB"
    assert {headers["accept-encoding"] for headers, _ in raw_server.requests} == {"gzip"}
