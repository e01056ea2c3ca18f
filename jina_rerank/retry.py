"""When to try again, and how long to wait first: pure decisions, without a clock and without I/O."""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, Field

from ._typeguards import PositiveInteger
from .errors import APIConnectionError, APIStatusError, RateLimitError, RerankError, ResponseFormatError

RETRIED_STATUSES: Final = frozenset((408, 425, 429, 500, 502, 503, 504, *range(520, 525)))
"""Time-outs, refusals and outages that may pass. 520 to 524 are Cloudflare's, before the hosted API; 524 has been
seen there for slow answers."""

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RetryPolicy(BaseModel, frozen=True, extra="forbid", strict=True):
    """How failures of one call are retried. All times are in seconds.

    The wait before attempt n + 1 is `jitter * min(max_delay, scale * 2 ** (n - 1))`, with jitter drawn evenly from
    0 to 1 and `scale` the `throttle_delay` after a 429, otherwise the `base_delay`. A wait that the server asks for
    (`retry-after-ms`, `retry-after`) is taken as it is. The defaults are close to those of AWS's SDKs.

    Ranking reads and changes nothing, so that a retry is safe; but a request whose answer was lost may be billed.
    """

    max_attempts: PositiveInteger = 3
    """Attempts of one call, or of each of its parts, at the most; 1 switches retries off. A 429 that is waited out is
    no attempt: see `paces`."""
    base_delay: _Seconds = 0.1
    """The scale of the wait after a failure of the network or the server."""
    throttle_delay: _Seconds = 1.0
    """The scale of the wait after a 429, in which nothing is sent with the same key."""
    max_delay: _Seconds = 8.0
    """The longest wait that this policy chooses itself."""
    max_retry_after: _Seconds = 120.0
    """The longest wait taken from the server: if it asks for more, the error is raised at once."""
    quota: PositiveInteger | None = 500
    """Tokens in the bucket that retries of all calls of one client draw from; None for no such bucket. It is that of
    botocore's standard mode: a retry takes 14 of it, after a 429 it takes 5, and a success gives back."""

    def retryable(self, error: RerankError) -> bool:
        """Whether another attempt could end better than with `error`."""
        if (error.retry_after or 0.0) > self.max_retry_after:
            return False
        if error.should_retry is not None:
            return error.should_retry
        if isinstance(error, APIStatusError):
            return error.status in RETRIED_STATUSES
        return isinstance(error, APIConnectionError)

    def delay(self, attempt: int, error: RerankError, jitter: float) -> float:
        """Seconds to wait after `attempt` (1 is the first) has failed with `error`; `jitter` is from 0 to 1."""
        if error.retry_after:  # 0 is no wish for a thousand requests a second
            return error.retry_after
        scale = self.throttle_delay if isinstance(error, RateLimitError) else self.base_delay
        # The exponent is bounded so that no number of attempts overflows a float.
        return jitter * min(self.max_delay, scale * 2.0 ** min(attempt - 1, 64))

    def paces(self, error: RerankError, deadline: float | None) -> bool:
        """Whether `error` is a 429 that is waited out and not counted as a failed attempt.

        Without a `deadline` there would be no end to it, and with `max_attempts=1` there is nothing to try again.
        """
        return (
            isinstance(error, RateLimitError)
            and deadline is not None
            and self.max_attempts > 1
            and self.retryable(error)
        )

    def next_delay(self, failures: Sequence[RerankError], jitter: float) -> float | None:
        """Seconds to wait before the next attempt of a call that has seen `failures`, in order; None to give up."""
        last = failures[-1]
        if len(failures) >= self.max_attempts or not self.retryable(last):
            return None
        # A malformed answer may be an accident of the line; the second one is the server's way.
        if sum(isinstance(failure, ResponseFormatError) for failure in failures) > 1:
            return None
        return self.delay(len(failures), last, jitter)


class RetryQuota:
    """The bucket that all retries of one client draw from, so that an outage is not met with thrice the requests.

    The figures are those of botocore's standard mode: a retry takes 14 tokens, after a 429 it takes 5; a success gives
    back what the last retry took, or 1 if there was none. A full bucket of 500 is good for 35 retries.

    There is no lock: two loops that meet here may at the worst make one retry more or less.
    """

    __slots__ = ("capacity", "level")

    def __init__(self, capacity: int) -> None:
        self.capacity: int = capacity
        self.level: int = capacity

    def take(self, error: RerankError) -> int:
        """Takes what a retry after `error` costs, and returns it; 0 if there is not enough."""
        cost = _THROTTLE_COST if isinstance(error, RateLimitError) else _RETRY_COST
        if cost > self.level:
            return 0
        self.level = max(0, self.level - cost)
        return cost

    def give(self, tokens: int) -> None:
        """Gives back after a success: what its last retry took, or 1."""
        self.level = min(self.capacity, self.level + tokens)


_RETRY_COST: Final = 14
_THROTTLE_COST: Final = 5
