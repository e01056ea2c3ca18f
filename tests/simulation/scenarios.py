"""What a rate limiter is tried on, as data: a server, a load, and what must come out of it."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from .run import Outcome, gather, workers
from .server import Limit, Refusal, at_once, at_random, between, per_minute, per_second

OWN_SERVER: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Scenario:
    """A server, a load, and the limits of what may come out of it."""

    name: str
    limits: Callable[[random.Random], Sequence[Limit]]
    calls: int = 600
    latency: Callable[[int], float] = lambda _: 0.05
    way: Callable[..., Any] = gather
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = math.inf
    """The run takes no longer."""
    refused: float = math.inf
    """The server refuses no more requests."""
    check: Callable[[Outcome], str] = lambda _: ""
    """What else is wrong with the outcome; empty if nothing is."""


def _seconds(value: float) -> Callable[[int], float]:
    return lambda _: value


def _recovers(end: float, rate: float) -> Callable[[Outcome], str]:
    def check(outcome: Outcome) -> str:
        found = outcome.rate(end + 5, end + 15)
        return "" if found >= 0.9 * rate else f"{found:.0f}/s from 5 s after the outage; expected {rate:.0f}/s"

    return check


def _integral(limit: Callable[[float], int], seconds: float, latency: float, share: float) -> Callable[[Outcome], str]:
    def check(outcome: Outcome) -> str:
        best = sum(limit(step / 10) for step in range(int(seconds * 10))) / 10 / latency
        assert outcome.server
        served = len(outcome.server.served_at)
        return "" if served >= share * best else f"served {served} of {best:.0f} ({served / best:.0%})"

    return check


def _found(start: float, end: float, rate: float) -> Callable[[Outcome], str]:
    def check(outcome: Outcome) -> str:
        found = outcome.rate(start, end)
        return "" if found >= rate else f"{found:.0f}/s between {start:.0f} and {end:.0f} s; expected {rate:.0f}/s"

    return check


def _most(requests: int) -> Callable[[Outcome], str]:
    return lambda outcome: "" if outcome.sent <= requests else f"sent {outcome.sent} requests; at most {requests}"


def _steps(*steps: tuple[float, int]) -> Callable[[float], int]:
    return lambda now: [limit for start, limit in steps if start <= now][-1]


def _noise(share: float) -> Callable[[random.Random], list[Limit]]:
    return lambda chance: [at_random(share, chance)]


def _fixed(*limits: Callable[[], Limit]) -> Callable[[random.Random], list[Limit]]:
    return lambda _: [make() for make in limits]


def _scenarios() -> list[Scenario]:
    found = list[Scenario]()
    for share, seconds, more in [(0.01, 2.0, 2.0), (0.05, 3.0, 4.0), (0.10, 7.0, 8.0)]:
        found += [
            Scenario(f"{share:.0%} at random, 600 calls", _noise(share), seconds=seconds),
            Scenario(
                f"{share:.0%} at random, 600 calls, own server",
                _noise(share),
                seconds=seconds,
                options={"base_url": OWN_SERVER},
            ),
            Scenario(f"{share:.0%} at random, 3,000 calls", _noise(share), 3000, seconds=2 * 2.05 + more),
            Scenario(
                f"{share:.0%} at random, 3,000 calls, own server",
                _noise(share),
                3000,
                seconds=2 * 1.55 + more,
                options={"base_url": OWN_SERVER},
            ),
        ]
    for own in (False, True):
        options = {"base_url": OWN_SERVER} if own else {}
        where = ", own server" if own else ""
        found += [
            Scenario(
                f"8 at once, 600 calls{where}",
                _fixed(lambda: at_once(lambda _: 8)),
                options=options,
                seconds=1.15 * 3.75 + 1,
                refused=60 + 100 * own,
            ),
            Scenario(
                f"3 at once, 300 calls{where}",
                _fixed(lambda: at_once(lambda _: 3)),
                300,
                options=options,
                seconds=1.15 * 5 + 1,
                refused=30 + 100 * own,
            ),
            Scenario(
                f"5 at once, 200 ms, 300 calls{where}",
                _fixed(lambda: at_once(lambda _: 5)),
                300,
                options=options,
                latency=_seconds(0.2),
                seconds=1.15 * 12 + 1,
                refused=30 + 100 * own,
            ),
            Scenario(
                f"20 a second, 600 calls{where}",
                _fixed(lambda: per_second(20, 2)),
                options=options,
                seconds=31.5,
                refused=200,
            ),
            Scenario(
                f"10 a second, 300 calls{where}",
                _fixed(lambda: per_second(10, 2)),
                300,
                options=options,
                seconds=32,
                refused=100 + 100 * own,
            ),
            Scenario(
                f"20 a second, 200 ms, 600 calls{where}",
                _fixed(lambda: per_second(20, 2)),
                options=options,
                latency=_seconds(0.2),
                seconds=32,
                refused=200,
            ),
            Scenario(
                f"300 a minute, 600 calls{where}",
                _fixed(lambda: per_minute(300)),
                options=options,
                seconds=1.3 * 61,
                refused=200,
            ),
        ]
    for seconds in (10, 60):
        for headers in ({}, {"retry-after": "1"}):
            refusal = Refusal(headers=headers)
            found.append(
                Scenario(
                    f"{seconds} s of 429{', Retry-After: 1' if headers else ''}",
                    _fixed(partial(between, 20, 20 + seconds, refusal)),
                    latency=_seconds(0.1),
                    way=workers(10, seconds + 40),
                    check=_recovers(20 + seconds, 100),
                )
            )
    lifted = _steps((0, 2), (5, 50))
    changing = _steps((0, 50), (20, 2), (40, 50))
    found += [
        Scenario(
            "a named limit of 2, lifted to 50 after 5 s",
            _fixed(lambda: at_once(lifted, named=True)),
            latency=_seconds(0.5),
            way=workers(60, 75),
            check=_found(65, 75, 0.9 * 100),
        ),
        Scenario(
            "a named limit of 50, 2, 50, each for 20 s",
            _fixed(lambda: at_once(changing, named=True)),
            latency=_seconds(0.1),
            way=workers(60, 60),
            check=_integral(changing, 60, 0.1, 0.85),
        ),
        Scenario(
            "retry-after-ms: 1 for ever",
            _fixed(partial(between, 0, 1e9, Refusal(headers={"retry-after-ms": "1"}))),
            1,
            check=_most(400),
        ),
        Scenario(
            "retry-after-ms: 1 for ever, 20 calls",
            _fixed(partial(between, 0, 1e9, Refusal(headers={"retry-after-ms": "1"}))),
            20,
            check=_most(400),
        ),
        Scenario("429 for ever, 20 calls", _fixed(partial(between, 0, 1e9)), 20, check=_most(200)),
        Scenario("latency of 20 ms for each in flight", _fixed(), 1000, latency=lambda n: 0.02 * n, seconds=20 / 0.8),
        Scenario(
            "latency that grows with the square",
            _fixed(),
            1000,
            latency=lambda n: 0.02 + 0.002 * n * n,
            seconds=1000 * 0.038 / 3 / 0.6,
        ),
    ]
    for calls, most in [(20, 0.13), (100, 0.13), (500, 0.65)]:
        found.append(
            Scenario(
                f"opening: {calls} calls of 100 ms, own server",
                _fixed(),
                calls,
                latency=_seconds(0.1),
                options={"base_url": OWN_SERVER},
                seconds=most,
            )
        )
    return found


SCENARIOS: Final = _scenarios()
