"""How many requests may be in flight, learnt from answers and refusals. Decisions alone, without a clock.

The ways of TCP: slow start (RFC 5681), a decrease in proportion to the share of refusals (DCTCP, RFC 8257), a quick
return to the last good level and care beyond it (CUBIC, RFC 9438).
"""

import math
from collections import deque
from typing import Final

from .congestion import QueueingDetector, RefusalMeter
from .named_ceiling import NamedCeiling

MAX_CONCURRENCY: Final = 100
"""Requests in flight at the most, unless a caller says more."""
OPENING: Final = 2
"""Requests in flight at first: what a free key of the hosted API may have."""
HOSTED_DOUBLING_SECONDS: Final = 0.1
"""Slow start of the hosted API, whose keys have limits."""
OWN_DOUBLING_SECONDS: Final = 0.004
"""Slow start of a server of one's own: 100 in flight after 24 ms, unless it refuses within a round trip."""

_DEFAULT_LATENCY: Final = 0.1
"""Seconds of an answer, before the first."""
MAX_GAP: Final = 4.0
"""Seconds between two requests, however often the server refuses: the end of an outage is found within 4 s."""
_MAX_PACED_FLOOR: Final = 0.5
"""The lowest level, whatever the latency: below 1, so that the gap between two requests counts."""
_MIN_GAP: Final = 0.1
"""Seconds: the least that `max_gap` may be."""
_LEAST_JITTER: Final = 0.5
"""The part of a gap that is never left out; the rest is random, so that processes do not keep step."""
_PACED_DECREASES: Final = (0.85, 0.5, 0.25)
"""What is left of a level below 1 after the first, the second, and any further refusal in a row."""
_PACED_INCREASE: Final = 0.01
"""By how much a level below 1 grows at the first answer after a refusal; by twice as much at the second, and so on."""
_SHARED_LEVEL: Final = 0.125
"""The level after a refusal by a named limit whose slots others hold: one request for each eight latencies."""
_SHARED_DECREASE: Final = 0.5
"""What is left of a level below 1 after another such refusal."""
_SHARED_GAP: Final = 1.5
_SHARED_STREAK: Final = 10
"""The seconds between two requests do not grow beyond this before so many refusals in a row: others come and go."""
_SHARED_INTERVAL: Final = 2.0
"""Seconds, at the least, until the next step after a refusal for what others hold."""
_MIN_INTERVAL: Final = 0.1
_QUEUEING_INTERVAL: Final = 1.0
_MAX_INTERVAL: Final = 60.0
"""Seconds until the next step beyond a good level; they double with each step that fails."""


class AdaptiveLimit:
    """A limit on requests in flight that is configured, named by the server, or felt for.

    Slow start doubles the level until the server refuses. A refusal now and then is noise: nothing changes, except that
    the slot of the refused request rests for as long as an answer takes, so that refusals come no faster than answers.
    A share of refusals that is no noise lowers the level by that share; a streak of them lowers it to what the server
    still works on. A level below 1 is a rate: one request in 1 / level latencies. The level returns to the last good
    one with each answer, and steps beyond it, first by one; if the server refuses most requests beyond it, the next
    step comes twice as late.

    A limit that the server names is a ceiling, and tried again from time to time. If it is met with fewer in flight
    here, others hold the rest.
    """

    __slots__ = (
        "_calm_share",
        "_ceiling",
        "_doubling_seconds",
        "_interval",
        "_jitter",
        "_last_before_decrease",
        "_most",
        "_next_at",
        "_number",
        "_queueing",
        "_refusals",
        "_resting",
        "_run",
        "_sent_at",
        "_step",
        "_step_answers",
        "_step_refusals",
        "configured",
        "good",
        "latency",
        "max_gap",
        "share",
        "value",
    )

    def __init__(self, doubling_seconds: float = HOSTED_DOUBLING_SECONDS) -> None:
        self.value: float = OPENING
        """How many may be in flight; below 1, how many in one latency."""
        self.good: float = 1.0
        """The level to which it returns with each answer, and beyond which it steps."""
        self.max_gap: float = _MIN_GAP
        """Seconds between two requests at the most, however often the server refuses."""
        self.latency: float = _DEFAULT_LATENCY
        """Seconds that an answer takes: kept up to date from outside."""
        self._doubling_seconds: float | None = doubling_seconds
        self._most: float = MAX_CONCURRENCY
        self.configured: float = math.inf
        """The limit that callers have stated."""
        self.share: float = math.inf
        """The part of the limit that is left to this process while a shared store does not answer."""
        self._sent_at = -math.inf
        self._next_at = math.inf
        self._interval = _MIN_INTERVAL
        self._step = self._jitter = 1.0
        self._number = self._last_before_decrease = 0
        self._step_answers = self._step_refusals = 0
        self._calm_share = 0.0
        self._run = 0
        self._ceiling = NamedCeiling()
        self._resting: deque[float] = deque()
        self._refusals = RefusalMeter()
        self._queueing = QueueingDetector(OPENING)

    @property
    def named(self) -> float:
        """The limit that the server names; infinite as long as it does not."""
        return self._ceiling.limit

    @property
    def ceiling(self) -> float:
        """What the level grows to: the limit where that is known."""
        return min(self.configured, self._most, self.named)

    @property
    def is_opening(self) -> bool:
        """Whether slow start goes on: nothing was refused so far."""
        return self._doubling_seconds is not None

    @property
    def gap(self) -> float:
        """Seconds between two requests at a level below 1; otherwise 0."""
        if self.value >= 1:
            return 0.0
        return min(self.max_gap, self.latency / self.value) * (_LEAST_JITTER + (1 - _LEAST_JITTER) * self._jitter)

    def configure(self, limit: int) -> None:
        """Apply a limit that a caller states, from the start. Of several the lowest counts."""
        self.configured = min(self.configured, limit)
        if self.is_opening:
            self._most = self.value = self.configured
        self.value = min(self.value, self.configured)

    def open_at(self, number: int) -> None:
        """Apply a number that a caller wants from the start; it has no effect once there was a refusal."""
        if self.is_opening:
            self._most = max(self._most, number)
            self.value = min(self.configured, max(self.value, number))

    def slot_at(self, in_flight: int) -> float:
        """Return the time from which one more may be sent: in the past if it may be now, inf if one must end first."""
        if self.value < 1:
            return math.inf if in_flight else self._sent_at + self.gap
        if in_flight + len(self._resting) + 1 <= min(self.value, self.share):
            return -math.inf
        return self._resting[0] if self._resting else math.inf

    def expire(self, now: float) -> None:
        """Give back the slots that have rested."""
        while self._resting and self._resting[0] <= now:
            self._resting.popleft()

    def sent(self, now: float, jitter: float) -> int:
        """Note that a request is sent; return its number."""
        self._sent_at, self._jitter = now, jitter
        self._number += 1
        return self._number

    # Increases

    @property
    def increases_at(self) -> float:
        """When the level may grow next if it is used up; inf if it cannot before an answer comes."""
        if self.value < 1 or self.value >= min(self.configured, self._most):
            return math.inf
        if self.value >= self.named:
            return self._ceiling.tries_at
        if self.is_opening or self.value <= math.floor(self.good):
            return self._next_at
        return math.inf  # the last step is not decided, or the return to the last good level goes on

    def increase(self, now: float) -> None:
        """Grow, if it is time to: the level is used up, and somebody waits."""
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
            self._calm_share = self._refusals.share
            self._step_answers = self._step_refusals = 0
            self._set(min(self.ceiling, math.floor(self.good) + self._step))

    def _is_late(self, interval: float, now: float) -> bool:
        """Whether the event loop was too busy to read a refusal that may be there; an answer refutes that."""
        return now > self._next_at + interval / 4 and not self._queueing.has_samples

    def _keep_step(self, now: float) -> None:
        """Take the level for good: a round of answers has come with no more refusals than before."""
        self.good = math.floor(self.value)
        self._step *= 2
        self._refusals.restart()
        if not self._queueing.is_suspicious:
            self._interval = max(_MIN_INTERVAL, self._interval / 2)
            self._next_at = now

    def succeeded(self, position: int, number: int, latency: float, now: float) -> None:
        """Learn from an answer to what was the `position`-th request in flight."""
        self._refusals.succeeded()
        self._queueing.observe(latency, number)
        if self.value < 1:
            self._speed_up()
            return
        if number <= self._last_before_decrease:
            return
        self._ceiling.answered(position)
        if self.is_opening:
            self.good = max(self.good, position)
        elif self.good < self.value <= self.named:
            self._step_answers += 1
            if self._step_answers + self._step_refusals >= self.value:
                self._keep_step(now)
        if self.value < self.good:
            self.value = min(self.ceiling, self.good, self.value + 1)

    def _speed_up(self) -> None:
        self._run += 1
        if self.good >= 1:  # an outage, and it is over
            self.value = 1.0
        elif self.value < _SHARED_LEVEL and self.named < math.inf:
            self.value = min(_SHARED_LEVEL, 2 * self.value)
        else:
            self.value = min(1.0, self.value * (1 + _PACED_INCREASE * self._run))

    # Decreases

    def refused(self, number: int, in_flight: int, now: float) -> bool:
        """Learn from a refusal that names no limit; return whether everybody slows down, and not the caller alone."""
        self._refusals.refused()
        if number <= self._last_before_decrease:
            if self.value > in_flight >= 1:
                self._lower_to(in_flight, now)  # of the same burst
            return True
        if self.value < 1:
            self._lower_to(self.value * self._paced_decrease, now, keep=self.good >= 1)
            return True
        if self._refusals.is_outage(in_flight):
            self._lower_to(max(in_flight, self.value / 4), now, keep=not in_flight)
            return True
        if self.good < self.value and not self.is_opening:
            self._step_refusals += 1
            if self._step_refusals >= (self.value - self.good) / 2 + self._calm_share * self.value:
                self._lower_to(max(1.0, self.good), now, keep=True)
                self._back_off(now)
            else:
                self._resting.append(now + self.latency)
            return False
        excess = self._refusals.excess(in_flight)
        if excess:
            self._lower_to(self.value * (1 - excess), now)
            return True
        self._resting.append(now + self.latency)
        return False

    def refused_by_name(self, limit: int, position: int, number: int, in_flight: int, now: float) -> None:
        """Learn from a refusal that names the limit."""
        self._refusals.refused()
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
        """The level below 1 after a refusal for slots that others hold all of."""
        level = min(_SHARED_LEVEL, self.value * _SHARED_DECREASE)
        return level if self._refusals.streak > _SHARED_STREAK else max(level, min(1, self.latency / _SHARED_GAP))

    @property
    def _paced_decrease(self) -> float:
        return _PACED_DECREASES[min(self._refusals.streak, len(_PACED_DECREASES)) - 1]

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
        self._refusals.restart()
        self._queueing.changed(self.value, self._number)

    def _back_off(self, now: float) -> None:
        self._next_at = now + self._interval
        self._interval = min(_MAX_INTERVAL, 2 * self._interval)
        self._step = 1.0

    def _set(self, level: float) -> None:
        self.value = level
        self._queueing.changed(level, self._number)
