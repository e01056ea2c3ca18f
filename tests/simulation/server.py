"""A server with limits of any kind, in virtual time: what a rate limiter meets, without sockets."""

import json
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
import httpx

ANSWER: Final = {"results": [{"index": 0, "relevance_score": 0.5}]}
REFUSAL_SECONDS: Final = 0.005
"""How long the server takes to refuse a request."""


@dataclass(frozen=True)
class Refusal:
    """A 429: its headers, and the text and code by which it may name the limit."""

    text: str = "Too many requests"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Limit = Callable[["SimulatedServer"], Refusal | None]
"""Decides over a request that arrives: None admits it."""


class SimulatedServer(httpx.AsyncBaseTransport):
    """Answers after `latency` seconds what none of its limits refuses, and keeps a record of both."""

    def __init__(self, limits: Sequence[Limit], latency: Callable[[int], float], started_at: float) -> None:
        self.in_flight = 0
        self.arrivals: list[tuple[float, bool, int]] = []
        """Time since the start, whether it was admitted, and how many were in flight then."""
        self.served_at: list[float] = []
        self._limits = limits
        self._latency = latency
        self._started_at = started_at

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self._started_at

    @property
    def refused(self) -> int:
        """Requests refused so far."""
        return sum(not admitted for _, admitted, _ in self.arrivals)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        refusal = next((found for limit in self._limits if (found := limit(self)) is not None), None)
        self.arrivals.append((self.now, refusal is None, self.in_flight))
        if refusal is not None:
            await anyio.sleep(REFUSAL_SECONDS)
            body = {"detail": refusal.text} | ({"code": refusal.code} if refusal.code else {})
            return httpx.Response(429, json=body, headers=dict(refusal.headers))
        self.in_flight += 1
        try:
            await anyio.sleep(self._latency(self.in_flight))
        finally:
            self.in_flight -= 1
        self.served_at.append(self.now)
        results = [{"index": i, "relevance_score": -i} for i in range(len(json.loads(request.content)["documents"]))]
        return httpx.Response(200, json={"results": results})


def at_random(share: float, chance: random.Random) -> Limit:
    """Refuse a share of all requests, whatever the load."""
    return lambda _: Refusal() if chance.random() < share else None


def at_once(limit: Callable[[float], int], *, named: bool = False) -> Limit:
    """Refuse what is above a number in flight, which may change with time."""

    def decide(server: SimulatedServer) -> Refusal | None:
        allowed = limit(server.now)
        if server.in_flight < allowed:
            return None
        text = f"Concurrency limit exceeded: {server.in_flight}/{allowed} concurrent requests."
        return Refusal(text, "RATE_CONCURRENCY_LIMIT_EXCEEDED") if named else Refusal()

    return decide


def per_second(rate: float, burst: int) -> Limit:
    """Refuse what a token bucket does not hold."""
    level, filled_at = float(burst), 0.0

    def decide(server: SimulatedServer) -> Refusal | None:
        nonlocal level, filled_at
        level, filled_at = min(burst, level + rate * (server.now - filled_at)), server.now
        if level < 1:
            return Refusal()
        level -= 1
        return None

    return decide


def per_minute(limit: int) -> Limit:
    """Refuse what is above a number in any 60 seconds, without naming it."""
    admitted = deque[float]()

    def decide(server: SimulatedServer) -> Refusal | None:
        while admitted and admitted[0] <= server.now - 60:
            admitted.popleft()
        if len(admitted) >= limit:
            return Refusal()
        admitted.append(server.now)
        return None

    return decide


def between(start: float, end: float, refusal: Refusal | None = None) -> Limit:
    """Refuse everything for a while."""
    return lambda server: (refusal or Refusal()) if start <= server.now < end else None
