"""Answers that are small on the line and huge in memory, in a process of their own, whose memory is measured."""

import gzip
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from .servers import RawServer, answer_body, http, send

MIB = 2**20
BOUND = 64 * MIB
"""How much more memory a bomb may cost than a good answer."""

CALL = """
import asyncio, json, resource, sys
from jina_rerank import RerankClient, RerankError, RetryPolicy
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
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


def blanks(size: int) -> bytes:
    """So many bytes of blanks, compressed."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b" " * MIB) for _ in range(size // MIB)) + packer.flush()


def bomb() -> bytes:
    """300 MiB in 300 KiB."""
    packed = blanks(300 * MIB)
    assert len(packed) < MIB
    return http(packed, content_encoding="gzip")


def chunks_without_end(connection: Any) -> None:
    """Sends until nobody takes it any more."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    while True:
        connection.sendall(chunk)


BOMBS: dict[str, tuple[Any, str]] = {
    "300 MiB of gzip": (send(bomb()), "larger than 67,108,864 bytes"),
    "300 MiB of gzip in an error": (send(bomb().replace(b" 200 ", b" 400 ", 1)), "Bad Request"),
    "gzip in gzip": (
        send(http(gzip.compress(blanks(300 * MIB)), content_encoding="gzip, gzip")),
        "gzip was offered",
    ),
    "chunks without end": (chunks_without_end, "larger than 67,108,864 bytes"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is another elsewhere")
@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
@pytest.mark.parametrize(("play", "says"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_costs_less_than_the_memory_of_one_answer(
    raw_server: RawServer, play: Any, says: str, transport: str
) -> None:
    raw_server.plays = [send(http(answer_body(2))), play]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", CALL, raw_server.url, transport]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    name, message, attempts, cost = json.loads(done.stdout)
    assert (name, attempts) == ("BadRequestError" if says == "Bad Request" else "ResponseFormatError", 1)
    assert says in message
    assert cost < BOUND, f"{cost / MIB:.0f} MiB"
    assert {headers["accept-encoding"] for headers, _ in raw_server.requests} == {"gzip"}
