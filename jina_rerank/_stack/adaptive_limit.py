"""The adaptive limit on requests in flight, learnt from successes and 429s. Sans-I/O, and without a clock.

It resembles TCP congestion control (AIMD): slow start (RFC 5681), a multiplicative decrease by the share of throttled
requests (DCTCP, RFC 8257), a quick return to the last good level and cautious probing beyond it (CUBIC, RFC 9438).
"""

import math
from collections import deque
from typing import Final

from .congestion import QueueingDetector, ThrottleMeter
from .named_ceiling import NamedCeiling

MAX_CONCURRENCY: Final = 100
"""The most requests in flight, unless a caller configures more."""
INITIAL_CONCURRENCY: Final = 2
"""Requests in flight at first: the limit of a free key of the hosted API."""
HOSTED_DOUBLING_SECONDS: Final = 0.1
"""The doubling time of slow start for the hosted API, whose keys have limits."""
OWN_DOUBLING_SECONDS: Final = 0.004
"""The doubling time of slow start for a self-hosted server: 100 in flight after 24 ms, unless it throttles within a
round trip."""

_DEFAULT_LATENCY: Final = 0.1
"""The assumed latency before the first response, in seconds."""
MAX_GAP: Final = 4.0
"""The most seconds between two requests, however many are throttled, so that the end of an outage is detected within
4 s."""
_MAX_PACED_FLOOR: Final = 0.5
"""The upper bound of the lowest level: below 1, so that the gap between two requests applies."""
_MIN_GAP: Final = 0.1
"""The lower bound of `max_gap`, in seconds."""
_MIN_JITTER: Final = 0.5
"""The fixed fraction of a gap; the rest is jitter, so that processes do not synchronize."""
_PACED_DECREASE_FACTORS: Final = (0.85, 0.5, 0.25)
"""The factors for a level below 1 at the first, the second, and any further 429 in a row."""
_PACED_INCREASE: Final = 0.01
"""The relative growth of a level below 1 at the first success after a 429; twice as much at the second, and so on."""
_SHARED_LEVEL: Final = 0.125
"""The level after a 429 for a named limit whose slots others hold: one request per eight latencies."""
_SHARED_DECREASE_FACTOR: Final = 0.5
"""The factor for a level below 1 at another such 429."""
_SHARED_GAP: Final = 1.5
"""The most seconds between two requests before `_SHARED_STREAK` such 429s in a row: others may soon finish."""
_SHARED_STREAK: Final = 10
_SHARED_INTERVAL: Final = 2.0
"""The fewest seconds until the next step after a 429 for slots that others hold."""
_MIN_INTERVAL: Final = 0.1
_QUEUEING_INTERVAL: Final = 1.0
_MAX_INTERVAL: Final = 60.0
"""The most seconds until the next step beyond a good level; the interval doubles with each step that fails."""


class AdaptiveLimit:
    """A limit on requests in flight that is configured, named by the server, or learnt.

    Slow start doubles the level until the server throttles. Occasional 429s are noise: the level stays, but the slot of
    the throttled request rests for one latency, so that 429s are no more frequent than successes. If the share of
    throttled requests exceeds noise, the level decreases by that share; after a streak of 429s it drops to the number
    still in flight. A level below 1 is a rate: one request per 1 / level latencies. Each success increases the level up
    to the last good one. Beyond it the level grows in steps, first by one; if most requests of a step are throttled,
    the interval until the next step doubles.

    A limit that the server names is a ceiling, which is probed from time to time. If the server throttles with fewer in
    flight here, others hold the other slots.
    """

    __slots__ = (
        "_calm_share",
        "_ceiling",
        "_doubling_seconds",
        "_interval",
        "_jitter",
        "_last_before_decrease",
        "_max_level",
        "_next_at",
        "_number",
        "_queueing",
        "_resting",
        "_run",
        "_sent_at",
        "_step",
        "_step_successes",
        "_step_throttles",
        "_throttles",
        "configured",
        "good",
        "latency",
        "max_gap",
        "share",
        "value",
    )

    def __init__(self, doubling_seconds: float = HOSTED_DOUBLING_SECONDS) -> None:
        self.value: float = INITIAL_CONCURRENCY
        """The current level: how many requests may be in flight; below 1, how many per latency."""
        self.good: float = 1.0
        """The last good level, to which the level returns with each success."""
        self.max_gap: float = _MIN_GAP
        """The most seconds between two requests, however many are throttled."""
        self.latency: float = _DEFAULT_LATENCY
        """The latency in seconds, which the RateLimiter updates."""
        self._doubling_seconds: float | None = doubling_seconds
        self._max_level: float = MAX_CONCURRENCY
        self.configured: float = math.inf
        """The lowest limit that callers have configured."""
        self.share: float = math.inf
        """This process's share of the limit while a shared store does not respond."""
        self._sent_at = -math.inf
        self._next_at = math.inf
        self._interval = _MIN_INTERVAL
        self._step = self._jitter = 1.0
        self._number = self._last_before_decrease = 0
        self._step_successes = self._step_throttles = 0
        self._calm_share = 0.0
        self._run = 0
        self._ceiling = NamedCeiling()
        self._resting: deque[float] = deque()
        self._throttles = ThrottleMeter()
        self._queueing = QueueingDetector(INITIAL_CONCURRENCY)

    @property
    def named(self) -> float:
        """The limit that the server names; infinite until it does."""
        return self._ceiling.limit

    @property
    def ceiling(self) -> float:
        """The upper bound of the level."""
        return min(self.configured, self._max_level, self.named)

    @property
    def in_slow_start(self) -> bool:
        """Whether slow start continues: no request was throttled so far, and no increase queued."""
        return self._doubling_seconds is not None

    @property
    def gap(self) -> float:
        """Seconds between two requests at a level below 1; otherwise 0."""
        if self.value >= 1:
            return 0.0
        return min(self.max_gap, self.latency / self.value) * (_MIN_JITTER + (1 - _MIN_JITTER) * self._jitter)

    def configure(self, limit: int) -> None:
        """Apply a configured limit, without slow start. The lowest of several counts."""
        self.configured = min(self.configured, limit)
        if self.in_slow_start:
            self._max_level = self.value = self.configured
        self.value = min(self.value, self.configured)

    def open_at(self, number: int) -> None:
        """Raise the level to a caller's `max_concurrency`; a no-op after slow start."""
        if self.in_slow_start:
            self._max_level = max(self._max_level, number)
            self.value = min(self.configured, max(self.value, number))

    def slot_at(self, in_flight: int) -> float:
        """Return the time from which one more may be sent; a past time if it may be now, inf if one must end first."""
        if self.value < 1:
            return math.inf if in_flight else self._sent_at + self.gap
        if in_flight + len(self._resting) + 1 <= min(self.value, self.share):
            return -math.inf
        return self._resting[0] if self._resting else math.inf

    def expire(self, now: float) -> None:
        """Free the slots that have rested."""
        while self._resting and self._resting[0] <= now:
            self._resting.popleft()

    def sent(self, now: float, jitter: float) -> int:
        """Record that a request is sent; return its number."""
        self._sent_at, self._jitter = now, jitter
        self._number += 1
        return self._number

    # Increases

    @property
    def increases_at(self) -> float:
        """When the level may grow next if all slots are in use; inf if not before a response arrives."""
        if self.value < 1 or self.value >= min(self.configured, self._max_level):
            return math.inf
        if self.value >= self.named:
            return self._ceiling.tries_at
        if self.in_slow_start or self.value <= math.floor(self.good):
            return self._next_at
        return math.inf  # the last step is not decided, or the level has not yet returned to the last good one

    def increase(self, now: float) -> None:
        """Increase the level if it is due. Called when all slots are in use and a request waits."""
        if self._next_at == math.inf:
            self._next_at = now + (self._doubling_seconds or self._interval)
        if now < self.increases_at or self._queueing.is_undecided:
            return
        if self._doubling_seconds is not None and self._is_late(self._doubling_seconds, now):
            self._next_at = now + self._doubling_seconds
            return
        better = self._queueing.better_level()
        if self.value >= self.named:
            if self._ceiling.try_more(now):
                self._set(self.named + 1)
        elif better is not None:
            self._lower_to(better, now)
            self._interval = max(_QUEUEING_INTERVAL, self._interval)
            self._back_off(now)
        elif self._doubling_seconds is not None:
            self._set(min(self.ceiling, 2 * self.value))
            self._next_at = now + self._doubling_seconds
        else:
            self._calm_share = self._throttles.share
            self._step_successes = self._step_throttles = 0
            self._set(min(self.ceiling, math.floor(self.good) + self._step))

    def _is_late(self, interval: float, now: float) -> bool:
        """Return whether the event loop was too busy to read a 429 that may have arrived; a success disproves that."""
        return now > self._next_at + interval / 4 and not self._queueing.has_samples

    def _keep_step(self, now: float) -> None:
        """Accept the level as good: a whole round of responses had no more 429s than before."""
        self.good = math.floor(self.value)
        self._step *= 2
        self._throttles.restart()
        if not self._queueing.is_suspicious:
            self._interval = max(_MIN_INTERVAL, self._interval / 2)
            self._next_at = now

    def succeeded(self, position: int, number: int, latency: float, now: float) -> None:
        """Learn from a success of the `position`-th request in flight."""
        self._throttles.succeeded()
        self._queueing.observe(latency, number)
        if self.value < 1:
            self._speed_up()
            return
        if number <= self._last_before_decrease:
            return
        self._ceiling.answered(position)
        if self.in_slow_start:
            self.good = max(self.good, position)
        elif self.good < self.value <= self.named:
            self._step_successes += 1
            if self._step_successes + self._step_throttles >= self.value:
                self._keep_step(now)
        if self.value < self.good:
            self.value = min(self.ceiling, self.good, self.value + 1)

    def _speed_up(self) -> None:
        self._run += 1
        if self.good >= 1:  # an outage has ended
            self.value = 1.0
        elif self.value < _SHARED_LEVEL and self.named < math.inf:
            self.value = min(_SHARED_LEVEL, 2 * self.value)
        else:
            self.value = min(1.0, self.value * (1 + _PACED_INCREASE * self._run))

    # Decreases

    def throttled(self, number: int, in_flight: int, now: float) -> bool:
        """Learn from a 429 that names no limit; return whether the limit delays all calls, and not just this one."""
        self._throttles.throttled()
        if number <= self._last_before_decrease:
            if self.value > in_flight >= 1:
                self._lower_to(in_flight, now)  # the same burst
            return True
        if self.value < 1:
            self._lower_to(self.value * self._paced_decrease, now, keep=self.good >= 1)
            return True
        if self._throttles.is_outage(in_flight):
            self._lower_to(max(in_flight, self.value / 4), now, keep=not in_flight)
            return True
        if self.good < self.value and not self.in_slow_start:
            self._step_throttles += 1
            if self._step_throttles >= (self.value - self.good) / 2 + self._calm_share * self.value:
                self._lower_to(max(1.0, self.good), now, keep=True)
                self._back_off(now)
            else:
                self._resting.append(now + self.latency)
            return False
        excess = self._throttles.excess(in_flight)
        if excess:
            self._lower_to(self.value * (1 - excess), now)
            return True
        self._resting.append(now + self.latency)
        return False

    def throttled_by_name(self, limit: int, position: int, number: int, in_flight: int, now: float) -> None:
        """Learn from a 429 that names the limit."""
        self._throttles.throttled()
        self._ceiling.name(limit, now)
        self._doubling_seconds = None
        if in_flight >= limit or position > limit or number <= self._last_before_decrease:
            if self.value > limit:
                self._lower_to(limit, now)
        else:
            self._lower_to(in_flight or self._shared_level, now)
            self._interval = max(_SHARED_INTERVAL, self._interval)
            self._back_off(now)

    @property
    def _shared_level(self) -> float:
        """The level below 1 after a 429 if others hold all slots."""
        level = min(_SHARED_LEVEL, self.value * _SHARED_DECREASE_FACTOR)
        return level if self._throttles.streak > _SHARED_STREAK else max(level, min(1, self.latency / _SHARED_GAP))

    @property
    def _paced_decrease(self) -> float:
        return _PACED_DECREASE_FACTORS[min(self._throttles.streak, len(_PACED_DECREASE_FACTORS)) - 1]

    def _lower_to(self, level: float, now: float, *, keep: bool = False) -> None:
        self._doubling_seconds = None
        self.value = min(self.value, max(level, min(_MAX_PACED_FLOOR, self.latency / self.max_gap)))
        if not keep:
            self.good = self.value
        self._last_before_decrease = self._number
        self._next_at = now + self._interval
        self._run = 0
        self._step = 1.0
        self._resting.clear()
        self._throttles.restart()
        self._queueing.changed(self.value, self._number)

    def _back_off(self, now: float) -> None:
        self._next_at = now + self._interval
        self._interval = min(_MAX_INTERVAL, 2 * self._interval)
        self._step = 1.0

    def _set(self, level: float) -> None:
        self.value = level
        self._queueing.changed(level, self._number)
