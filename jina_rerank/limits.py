"""The rate limits of a key: the configured ones, and a snapshot of those that a client has learnt."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel

from ._typeguards import PositiveInteger

_Count = PositiveInteger | None


class RateLimit(BaseModel, frozen=True, extra="forbid", strict=True):
    """The rate limits of a key. None means unknown: the client learns the limit from the server."""

    requests_per_minute: _Count = None
    """Requests in any 60 seconds."""
    tokens_per_minute: _Count = None
    """Tokens of queries and documents in any 60 seconds."""
    concurrency: _Count = None
    """Requests in flight at once."""

    FREE: ClassVar["RateLimit"]
    """A free key of the hosted API: 100 requests and 100,000 tokens a minute, 2 at once (its dashboard, 2026-05;
    100,000 and 2 were also observed in 2026-06). The API description promises 500, 1,000,000 and 5."""
    PAID: ClassVar["RateLimit"]
    """A paid key of the hosted API: 500 requests and 2,000,000 tokens a minute, 50 at once (its dashboard,
    2026-05). The API description promises 10,000,000 tokens."""
    PREMIUM: ClassVar["RateLimit"]
    """A premium key of the hosted API: 5,000 requests and 50,000,000 tokens a minute, 500 at once (its
    dashboard, 2026-05). The API description promises 100,000,000 tokens."""


RateLimit.FREE = RateLimit(requests_per_minute=100, tokens_per_minute=100_000, concurrency=2)
RateLimit.PAID = RateLimit(requests_per_minute=500, tokens_per_minute=2_000_000, concurrency=50)
RateLimit.PREMIUM = RateLimit(requests_per_minute=5_000, tokens_per_minute=50_000_000, concurrency=500)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """The requests, or tokens, of a key in the sliding window of the last minute."""

    used: int = 0
    """The use of this process on this event loop."""
    limit: int | None = None
    """The limit per minute; None while it is unknown."""
    held_by_others: int = 0
    """The use of other processes, as last observed."""


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """A snapshot of a key's limits on one event loop: what `client.limits` returns."""

    in_flight: int = 0
    """Requests in flight now."""
    allowed_in_flight: float = 0.0
    """How many may be in flight now. A number below 1 is a rate: the requests allowed per latency of a response."""
    concurrency: int | None = None
    """The limit on requests in flight, configured or named by the server; None while it is unknown."""
    requests: LimitUse = LimitUse()
    tokens: LimitUse = LimitUse()
    waiting: int = 0
    """Requests in the queue of the key."""
    paused_seconds: float = 0.0
    """Seconds until the next request may be sent, because the server requested a pause (Retry-After)."""
