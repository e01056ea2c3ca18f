"""Limits of a key, for callers who know theirs: requests and tokens per minute, and requests at once."""

from typing import ClassVar

from pydantic import BaseModel

from ._narrow import PositiveInteger

_Count = PositiveInteger | None


class RateLimit(BaseModel, frozen=True, extra="forbid", strict=True):
    """What a key may do. What is None is not known: the client learns it from the server's refusals."""

    requests_per_minute: _Count = None
    """Requests in any 60 seconds."""
    tokens_per_minute: _Count = None
    """Tokens of queries and documents in any 60 seconds."""
    concurrency: _Count = None
    """Requests in flight at once."""

    FREE: ClassVar["RateLimit"]
    """A free key of the hosted API (jina.ai/reranker, rate limits)."""


RateLimit.FREE = RateLimit(requests_per_minute=100, tokens_per_minute=100_000, concurrency=2)
