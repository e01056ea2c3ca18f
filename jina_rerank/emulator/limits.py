"""The rate limits and balance of a key, counted like the hosted API. No clock: callers pass the time."""

from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from ..limits import RateLimit
from .envelopes import insufficient_balance, too_many_at_once, too_many_requests, too_many_tokens

TIERS: Final[Mapping[str, RateLimit]] = {
    "free": RateLimit.FREE,
    "paid": RateLimit.PAID,
    "premium": RateLimit.PREMIUM,
}
"""The limits of the hosted API's tiers, as enforced; its API description promises more."""

_WINDOW_SECONDS: Final = 60.0


class KeyUsage:
    """The usage of a key in a sliding window of one minute, its requests in flight, and its balance.

    Rejected requests are not counted.
    """

    def __init__(self, limits: RateLimit, balance: int | None = None) -> None:
        self._limits = limits
        self._counts_minutes = limits.requests_per_minute is not None or limits.tokens_per_minute is not None
        self._balance = balance
        self._minute: deque[tuple[float, int]] = deque()
        self._tokens = 0
        self._at_once = 0

    @contextmanager
    def request(self, tokens: int, now: float) -> Generator[None, None, None]:
        """Admit a request of `tokens` at `now`, in flight as long as the context.

        Raises:
            RefusedError: 403 or 429; the request is not counted.
        """
        self._forget(now - _WINDOW_SECONDS)
        self._check(tokens)
        if self._counts_minutes:
            self._minute.append((now, tokens))
            self._tokens += tokens
        if self._balance is not None:
            self._balance -= tokens
        self._at_once += 1
        try:
            yield
        finally:
            self._at_once -= 1

    def remaining(self) -> dict[str, str]:
        """Return the headers with the remaining requests and tokens of the window, for the limits that are set."""
        left = {
            "x-ratelimit-remaining-requests": (self._limits.requests_per_minute, len(self._minute)),
            "x-ratelimit-remaining-tokens": (self._limits.tokens_per_minute, self._tokens),
        }
        return {name: str(limit - used) for name, (limit, used) in left.items() if limit is not None}

    def _forget(self, until: float) -> None:
        while self._minute and self._minute[0][0] <= until:
            self._tokens -= self._minute.popleft()[1]

    def _check(self, tokens: int) -> None:
        limits = self._limits
        if self._balance is not None and tokens > self._balance:
            raise insufficient_balance()
        if limits.concurrency is not None and self._at_once >= limits.concurrency:
            raise too_many_at_once(self._at_once, limits.concurrency)
        if limits.requests_per_minute is not None and len(self._minute) >= limits.requests_per_minute:
            raise too_many_requests(len(self._minute), limits.requests_per_minute)
        if limits.tokens_per_minute is not None and self._tokens + tokens > limits.tokens_per_minute:
            raise too_many_tokens(self._tokens + tokens, limits.tokens_per_minute)
