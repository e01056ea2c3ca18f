"""The retry policy: when to retry, and how long to back off first. Sans-I/O, and without a clock."""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, Field

from ._typeguards import PositiveInteger
from .errors import APIConnectionError, APIStatusError, RateLimitError, RerankError, ResponseFormatError

RETRIED_STATUSES: Final = frozenset((408, 425, 429, 500, 502, 503, 504, *range(520, 525)))
"""The statuses of transient timeouts, throttling and outages. 520 to 524 come from Cloudflare, in front of the hosted
API; 524 has been observed there for slow responses."""

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RetryPolicy(BaseModel, frozen=True, extra="forbid", strict=True):
    """How failures of one call are retried: exponential backoff with full jitter. All times are in seconds.

    The backoff before attempt n + 1 is `jitter * min(max_delay, scale * 2 ** (n - 1))`, with jitter drawn uniformly
    from 0 to 1; `scale` is the `throttle_delay` after a 429, otherwise the `base_delay`. A wait that the server
    requests (`retry-after-ms`, `retry-after`) is used unchanged. The defaults are close to those of AWS's SDKs.

    Ranking is read-only, so a retry is safe; but a request whose response was lost may be billed.
    """

    max_attempts: PositiveInteger = 3
    """The most attempts of one call, or of each of its parts; 1 disables retries. A 429 that `paces` waits out does not
    count as an attempt."""
    base_delay: _Seconds = 0.1
    """The backoff scale after a failure of the network or the server."""
    throttle_delay: _Seconds = 1.0
    """The backoff scale after a 429."""
    max_delay: _Seconds = 8.0
    """The longest backoff of this policy."""
    max_retry_after: _Seconds = 120.0
    """The longest wait that the server may request; if it requests more, the error is raised at once."""
    quota: PositiveInteger | None = 500
    """The capacity of the token bucket that the retries of all calls of one client draw from; None for no bucket. See
    RetryQuota."""

    def retryable(self, error: RerankError) -> bool:
        """Return whether another attempt could succeed after `error`."""
        if (error.retry_after or 0.0) > self.max_retry_after:
            return False
        if error.should_retry is not None:
            return error.should_retry
        if isinstance(error, APIStatusError):
            return error.status in RETRIED_STATUSES
        return isinstance(error, APIConnectionError)

    def delay(self, attempt: int, error: RerankError, jitter: float) -> float:
        """Return the seconds to wait after `attempt` (from 1) failed with `error`; `jitter` is from 0 to 1."""
        if error.retry_after:  # 0 must not cause a tight loop
            return error.retry_after
        scale = self.throttle_delay if isinstance(error, RateLimitError) else self.base_delay
        # The exponent is bounded so that no number of attempts overflows a float.
        return jitter * min(self.max_delay, scale * 2.0 ** min(attempt - 1, 64))

    def paces(self, error: RerankError, deadline: float | None) -> bool:
        """Return whether the call waits `error` out: it is a 429, and does not count as a failed attempt.

        Without a `deadline` the call would never end, and `max_attempts=1` disables retries.
        """
        return (
            isinstance(error, RateLimitError)
            and deadline is not None
            and self.max_attempts > 1
            and self.retryable(error)
        )

    def next_delay(self, failures: Sequence[RerankError], jitter: float) -> float | None:
        """Return the seconds to wait before the next attempt after `failures`, oldest first; None to give up."""
        last = failures[-1]
        if len(failures) >= self.max_attempts or not self.retryable(last):
            return None
        # A malformed response once may be a transient fault; twice is the server.
        if sum(isinstance(failure, ResponseFormatError) for failure in failures) > 1:
            return None
        return self.delay(len(failures), last, jitter)


class RetryQuota:
    """The token bucket that all retries of one client draw from, so that retries do not triple the load in an outage.

    The figures are those of botocore's standard mode: a retry costs 14 tokens, after a 429 it costs 5; a success
    refunds the cost of the last retry, or 1 token if there was none. A full bucket of 500 pays for 35 retries.

    It needs no lock: a race between two event loops costs at worst one retry more or less.
    """

    __slots__ = ("capacity", "level")

    def __init__(self, capacity: int) -> None:
        self.capacity: int = capacity
        self.level: int = capacity

    def take(self, error: RerankError) -> int:
        """Take the cost of a retry after `error` from the bucket and return it; return 0 if the level is too low."""
        cost = _THROTTLE_COST if isinstance(error, RateLimitError) else _RETRY_COST
        if cost > self.level:
            return 0
        self.level = max(0, self.level - cost)
        return cost

    def give(self, tokens: int) -> None:
        """Refund `tokens` after a success: the cost of its last retry, or 1."""
        self.level = min(self.capacity, self.level + tokens)


_RETRY_COST: Final = 14
_THROTTLE_COST: Final = 5
