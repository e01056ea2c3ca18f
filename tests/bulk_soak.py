"""Stream many requests, some with faults, through a client in a separate process, and report the outcomes.

    python -m tests.bulk_soak [requests] [plot.svg]

Prints JSON: the outcomes, the seconds it took, and the resident memory along the way. With a second argument it draws
that memory (needs matplotlib: the dependency group `plot`).
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from jina_rerank import RerankClient, RerankRequest, RetryPolicy

from .servers import answer_body

FAULTS = 0.1
SAMPLES = 100


class Numbered(RerankRequest, frozen=True):
    """A request that knows its number."""

    number: int


def requests(count: int) -> Iterator[Numbered]:
    """Requests of about 10 KB each, so that what holds on to them is seen."""
    for number in range(count):
        documents = [f"{number} {position} " + "x" * 1000 for position in range(10)]
        yield Numbered(query=f"query {number}", documents=documents, number=number)


class Faulty:
    """Answers, and in one of ten cases fails in one of the ways in which servers fail."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.faults = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if self.random.random() >= FAULTS:
            return httpx.Response(200, content=answer_body(10))
        self.faults += 1
        match self.random.randrange(5):
            case 0:
                raise httpx.ConnectError("refused", request=request)
            case 1:
                return httpx.Response(503, content=b"")
            case 2:
                return httpx.Response(200, content=answer_body(10)[:-20])
            case 3:
                return httpx.Response(200, content=answer_body(3))
            case _:
                return httpx.Response(422, json={"detail": "no"})


async def soak(count: int) -> dict[str, Any]:
    """Counts how often each request has had an outcome."""
    server = Faulty(seed=1)
    http_client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    seen = bytearray(count)
    failed = 0
    memory: list[tuple[float, int]] = []
    start = time.monotonic()
    async with RerankClient("jina_key", http_client=http_client, retry=RetryPolicy(base_delay=0)) as client:
        stream = client.rerank_many(requests(count), max_concurrency=32, ordered=False)
        async for outcome in stream:
            assert outcome.request.number == outcome.index
            assert (outcome.response is None) != (outcome.error is None)
            seen[outcome.index] += 1
            failed += outcome.error is not None
            if outcome.index % (count // SAMPLES) == 0:
                memory.append((time.monotonic() - start, resident_bytes()))
    return {
        "requests": count,
        "once": seen.count(1),
        "failed": failed,
        "faults": server.faults,
        "attempts": stream.totals.attempts,
        "seconds": time.monotonic() - start,
        "memory": memory,
    }


def resident_bytes() -> int:
    """What this process holds of real memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def draw(result: dict[str, Any], path: str) -> None:
    """The resident memory over time, as a picture."""
    import matplotlib as mpl  # noqa: PLC0415  # from a separate dependency group

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    from benchmarks.plot import STYLE  # noqa: PLC0415

    mpl.rcParams.update({**STYLE, "svg.hashsalt": "bulk"})
    times, sizes = zip(*result["memory"], strict=True)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axes.plot(times, [size / 2**20 for size in sizes], color="#1f6f8b", linewidth=1.8)
    axes.set_ylim(0, max(sizes) / 2**20 * 1.4)
    axes.set_xlim(0, times[-1])
    axes.set_xlabel("seconds")
    axes.set_ylabel("resident memory, MiB")
    axes.set_title(f"{result['requests']:,} requests of 10 KB through rerank_many, {FAULTS:.0%} faults", fontsize=11)
    axes.grid(axis="y")
    figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    outcome_of_it = asyncio.run(soak(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
    if len(sys.argv) > 2:
        draw(outcome_of_it, sys.argv[2])
    print(json.dumps(outcome_of_it))
