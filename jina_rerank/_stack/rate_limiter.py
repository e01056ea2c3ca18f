"""The rate limiter of one key: which request may be sent, and when. Sans-I/O: callers pass in the time and wait."""

import math
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Final

from ..errors import RateLimitError
from ..limits import RateLimit
from .adaptive_limit import HOSTED_DOUBLING_SECONDS, MAX_GAP, AdaptiveLimit
from .estimators import LatencyEstimator, TokenEstimator
from .rate_limit_errors import Kind, parse_rate_limit
from .sliding_window import SlidingWindow, Use
from .waiter import Shortage, Waiter

_DEADLINE_MARGIN: Final = 0.9
"""Seconds by which a request is sent early if its call would otherwise miss its deadline: most of the extra second of
the sliding window."""
_MAX_PAUSE: Final = 3600.0
"""The longest pause that a Retry-After may cause, in seconds."""
_NO_REMAINING: Final[Mapping[Kind, int]] = {}


class RateLimiter:
    """The limits of one key, and its queue, which is FIFO whatever the size of the requests.

    A strict FIFO queue would serve almost no request in an overload with deadlines, because the request that has waited
    longest has the least time left. So a request with less time left than the latency of a response yields its place.
    """

    __slots__ = (
        "__weakref__",
        "_jitter",
        "_latency",
        "_paced_until",
        "_paused_until",
        "_queue",
        "_token_estimator",
        "concurrency",
        "in_flight",
        "requests",
        "tokens",
    )

    def __init__(
        self, doubling_seconds: float = HOSTED_DOUBLING_SECONDS, jitter: Callable[[], float] = random.random
    ) -> None:
        self.concurrency: AdaptiveLimit = AdaptiveLimit(doubling_seconds)
        self.requests: SlidingWindow = SlidingWindow()
        self.tokens: SlidingWindow = SlidingWindow()
        self.in_flight: int = 0
        self._paused_until = self._paced_until = -math.inf
        self._queue: list[Waiter] = []
        self._token_estimator = TokenEstimator()
        self._latency = LatencyEstimator()
        self._jitter = jitter

    def configure(self, limit: RateLimit | None, max_concurrency: int | None, max_delay: float = MAX_GAP) -> None:
        """Apply configured limits.

        Of several limits of a key the lowest counts; of several clients' `max_concurrency` and `max_delay` the largest.
        """
        self.concurrency.max_gap = min(MAX_GAP, max(self.concurrency.max_gap, max_delay))
        if limit is not None:
            if limit.concurrency is not None:
                self.concurrency.configure(limit.concurrency)
            if limit.requests_per_minute is not None:
                self.requests.configure(limit.requests_per_minute)
            if limit.tokens_per_minute is not None:
                self.tokens.configure(limit.tokens_per_minute)
        if max_concurrency is not None:
            self.concurrency.open_at(max_concurrency)

    def enter(self, waiter: Waiter, now: float) -> bool:
        """Admit a request at once if the queue is empty and there is room; return whether it was admitted."""
        if self._queue:
            return False
        self.concurrency.expire(now)
        if self.concurrency.slot_at(self.in_flight) > now or self._window_at(waiter, now) > now:
            return False
        self._send(waiter, now)
        return True

    def join(self, waiter: Waiter, now: float) -> None:
        """Insert a request into the queue."""
        waiter.state = "waiting"
        insort(self._queue, waiter, key=_ORDER)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Admit the requests that may be sent, in order. Reject the first one if it would have to wait too long."""
        self.concurrency.expire(now)
        while self._queue:
            waiter = self._queue[0]
            window_at = self._window_at(waiter, now)
            if window_at <= now:
                slot_at = self.concurrency.slot_at(self.in_flight)
                if slot_at > now:
                    self.concurrency.increase(now)
                    slot_at = self.concurrency.slot_at(self.in_flight)
                if slot_at > now:
                    grows_at = self.concurrency.increases_at
                    return self._wake_at(waiter, min(slot_at, grows_at) if grows_at > now else slot_at)
                if self._yield_place(waiter, now):
                    continue
                self._send(waiter, now)
            elif self._blocked_until(waiter, now) > min(waiter.deadline, now + waiter.patience):
                waiter.state, waiter.wait = "rejected", self._blocked_until(waiter, now) - now
            else:
                if self.requests.full_until(1, now) > now:
                    self.requests.fill(now)
                return self._wake_at(waiter, window_at)
            self._queue.pop(0)
            waiter.wakes_at = math.inf
            waiter.wake()
        return None

    @property
    def waiting(self) -> int:
        """The length of the queue."""
        return len(self._queue)

    def paused_seconds(self, now: float) -> float:
        """Return the seconds until the end of the pause that a Retry-After has requested."""
        return max(0.0, self._paused_until - now)

    def planned(self, waiter: Waiter) -> int:
        """Return the tokens to reserve for a request."""
        return self._token_estimator.planned(waiter.tokens)

    def share(self, share: RateLimit | None) -> None:
        """Apply this process's share of the limits while the store does not respond; None removes it."""
        limits = share or RateLimit()
        self.concurrency.share = limits.concurrency or math.inf
        self.requests.share = limits.requests_per_minute or math.inf
        self.tokens.share = limits.tokens_per_minute or math.inf

    @property
    def is_over_share(self) -> bool:
        """Whether the use exceeds this process's share."""
        return (
            self.in_flight > self.concurrency.share
            or self.requests.used > self.requests.share
            or self.tokens.used > self.tokens.share
        )

    def withdraw(self, waiter: Waiter, now: float) -> None:
        """Remove a request that was cancelled in the queue, or after it was admitted but before it was sent."""
        if waiter.state == "waiting":
            index = bisect_left(self._queue, waiter.order, key=_ORDER)
            while self._queue[index] is not waiter:  # the parts of one call share a place
                index += 1
            del self._queue[index]
            waiter.state = "done"
            self.advance(now)
        elif waiter.state == "sent":
            self._uncount(waiter)
            self._leave(waiter, now)

    def succeeded(
        self, waiter: Waiter, now: float, *, tokens: int | None = None, remaining: Mapping[Kind, int] = _NO_REMAINING
    ) -> None:
        """Learn from a success: the billed tokens, and what remains of the limits per minute."""
        self._latency.observe(now - waiter.sent_at)
        self.concurrency.latency = self._latency.mean
        difference = 0
        if tokens is not None:
            difference = tokens - waiter.tokens_planned
            if waiter.estimated is not None:
                self._token_estimator.observe(waiter.estimated, tokens)
        self.concurrency.succeeded(waiter.position, waiter.number, now - waiter.sent_at, now)
        kinds: tuple[tuple[Kind, SlidingWindow, Use | None, int, int], ...] = (
            ("requests", self.requests, waiter.requests_use, 1, 0),
            ("tokens", self.tokens, waiter.tokens_use, waiter.tokens_planned + difference, difference),
        )
        for kind, window, use, amount, more in kinds:
            if use is None:
                continue
            if more:
                window.correct(use, more)
            if waiter.probes or window.in_slow_start:
                window.accepted(amount, waiter.sent_at, now, probe=window in waiter.probes)
            if kind in remaining:
                in_flight = (waiter.position - 1) * amount
                window.observe_remaining(
                    remaining[kind], use, now, difference=more, in_flight=in_flight, sent_at=waiter.sent_at
                )
        waiter.probes = ()
        self._leave(waiter, now)

    def failed(self, waiter: Waiter, now: float) -> None:
        """Learn from a failure other than a 429: the server may have counted the request."""
        self._latency.observe_timeout(now - waiter.sent_at)
        self._leave(waiter, now)

    def throttled(self, waiter: Waiter, now: float, error: RateLimitError, *, is_shared: bool = False) -> bool:
        """Learn from a 429.

        Args:
            waiter: The request.
            now: The time.
            error: The 429.
            is_shared: Whether a store handles the limits that the server names.

        Returns:
            Whether the limits now delay all calls. If not, the 429 may be noise, and only this call should back off.
        """
        kind, limit = parse_rate_limit(error)
        self._uncount(waiter)
        self.in_flight -= 1
        jitter, delays_all = self._jitter(), True
        if is_shared and limit is not None:
            pass
        elif kind == "requests":
            self.requests.throttled(limit, 1, now, probe=self.requests in waiter.probes, jitter=jitter)
        elif kind == "tokens":
            planned = self.planned(waiter)
            # Without a limit the requests in flight were not counted; they are assumed to be as large as this one.
            uncounted = 0 if self.tokens.is_limited else planned * self.in_flight
            probe = self.tokens in waiter.probes
            self.tokens.throttled(limit, planned, now, probe=probe, jitter=jitter, uncounted=uncounted)
        elif limit is not None:
            if self.in_flight < limit and waiter.position <= limit:
                self.requests.observe_others(now)
            self.concurrency.throttled_by_name(limit, waiter.position, waiter.number, self.in_flight, now)
        else:
            delays_all = self.concurrency.throttled(waiter.number, self.in_flight, now)
        if error.retry_after:
            self._paused_until = max(self._paused_until, now + min(error.retry_after, _MAX_PAUSE))
            delays_all = True
        self.in_flight += 1
        self._leave(waiter, now)
        return delays_all

    def shortage(self, waiter: Waiter, now: float) -> Shortage | None:
        """Return the limit that delays `waiter`; None if only its place in the queue does."""
        planned = self.planned(waiter) if self.tokens.is_limited else 0
        for window, amount, unit in ((self.requests, 1, "requests"), (self.tokens, planned, "tokens")):
            frees_at = window.frees_at(amount, now)
            if frees_at > now:
                return Shortage(frees_at - now, window.foreign(now), window.limit, f"{unit} per minute")
        if self._paused_until > now:
            return Shortage(self._paused_until - now)
        if self.concurrency.value < 1:
            return Shortage(self.concurrency.gap)
        return None

    def _window_at(self, waiter: Waiter, now: float) -> float:
        """Return the time from which the sliding windows and pauses allow the request."""
        when = -math.inf
        if self.requests.is_limited:
            when = self.requests.fits_at(1, now)
        if self.tokens.is_limited:
            when = max(when, self.tokens.fits_at(self.planned(waiter), now))
        if when > waiter.deadline:
            when -= _DEADLINE_MARGIN
        return max(when, self._paused_until, self._paced_until)

    def _blocked_until(self, waiter: Waiter, now: float) -> float:
        """Return the time before which there is certainly no room, whatever other processes do."""
        when = self.requests.full_until(1, now)
        if self.tokens.is_limited:
            when = max(when, self.tokens.full_until(self.planned(waiter), now))
        return max(when - _DEADLINE_MARGIN, self._paused_until)

    def _yield_place(self, waiter: Waiter, now: float) -> bool:
        if waiter.is_late or len(self._queue) == 1 or waiter.deadline - now >= self._latency.upper_bound:
            return False
        waiter.is_late = True
        insort(self._queue, self._queue.pop(0), key=_ORDER)
        return True

    def _wake_at(self, waiter: Waiter, when: float) -> None:
        if when < waiter.wakes_at:
            waiter.wakes_at = when
            waiter.wake()

    def _send(self, waiter: Waiter, now: float) -> None:
        waiter.state, waiter.sent_at = "sent", now
        if self.tokens.is_limited:
            waiter.tokens_planned = self.planned(waiter)
        if self.requests.is_limited and self.requests.begin_probe(1, now):
            waiter.probes += (self.requests,)
        if self.tokens.is_limited and self.tokens.begin_probe(waiter.tokens_planned, now):
            waiter.probes += (self.tokens,)
        waiter.requests_use = self.requests.add(now, 1)
        waiter.tokens_use = self.tokens.add(now, waiter.tokens_planned)
        pace = self.requests.pace(now) if self.requests.is_limited else 0.0
        if pace:
            self._paced_until = now + pace * (0.75 + self._jitter() / 2)
        self.in_flight += 1
        waiter.position = self.in_flight
        waiter.number = self.concurrency.sent(now, self._jitter())

    def _uncount(self, waiter: Waiter) -> None:
        if waiter.requests_use is not None and waiter.tokens_use is not None:
            self.requests.correct(waiter.requests_use, -1)
            self.tokens.correct(waiter.tokens_use, -waiter.tokens_planned)

    def _leave(self, waiter: Waiter, now: float) -> None:
        for window in waiter.probes:
            window.end_probe()
        waiter.state, waiter.probes = "done", ()
        self.in_flight -= 1
        if self._queue:
            self.advance(now)


_ORDER: Final = attrgetter("order")
