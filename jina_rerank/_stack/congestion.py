"""Congestion signals: whether the share of throttled requests exceeds noise, and whether more in flight only queues."""

import math
from typing import Final

_MIN_THROTTLES: Final = 3
"""The fewest throttled requests that are a signal: in total for a share, without a success between them for a streak.
"""
_NOISE_SHARE: Final = 0.12
"""The share of throttled requests that counts as noise when it is measured on many requests."""
_MIN_OUTCOMES: Final = 20.0
"""The fewest outcomes on which the share is measured."""
_DEFAULT_SHARE: Final = 0.02
"""The share assumed with fewer outcomes than `_MIN_OUTCOMES`."""
_WINDOW_OUTCOMES: Final = 100.0
"""Recent outcomes over which the share is measured: the time constant of an exponential decay."""
_MIN_SAMPLES: Final = 3
"""The fewest latency samples of a level that are compared."""
_MIN_LATENCY: Final = 1e-6
_MIN_GAIN: Final = 0.4
"""The fraction of an increase by which the throughput must grow: with less the server only queues."""


class ThrottleMeter:
    """The share of throttled requests among recent outcomes, and the current streak."""

    __slots__ = ("_succeeded", "_throttled", "streak")

    def __init__(self) -> None:
        self.streak: int = 0
        """Throttled requests since the last success."""
        self._throttled = self._succeeded = 0.0

    def throttled(self) -> None:
        """Count a throttled request."""
        self.streak += 1
        self._decay()
        self._throttled += 1

    def succeeded(self) -> None:
        """Count a success."""
        self.streak = 0
        self._decay()
        self._succeeded += 1

    def restart(self) -> None:
        """Restart the measurement of the share, because the level has changed."""
        self._throttled = self._succeeded = 0.0

    def is_outage(self, in_flight: int) -> bool:
        """Return whether most requests are throttled, even if all in flight succeed."""
        return self.streak >= _MIN_THROTTLES and self.streak > in_flight

    @property
    def share(self) -> float:
        """The share of throttled requests among recent outcomes; a default while these are few."""
        outcomes = self._throttled + self._succeeded
        return self._throttled / outcomes if outcomes >= _MIN_OUTCOMES else _DEFAULT_SHARE

    def excess(self, in_flight: int) -> float:
        """Return the share of throttled requests if it exceeds noise, even if all in flight succeed; else 0.

        The threshold is higher while outcomes are few.
        """
        outcomes = self._throttled + self._succeeded + in_flight
        share = self._throttled / outcomes if outcomes else 0.0
        is_signal = self._throttled >= _MIN_THROTTLES and share > _NOISE_SHARE + 0.8 / math.sqrt(outcomes)
        return share if is_signal else 0.0

    def _decay(self) -> None:
        self._throttled *= 1 - 1 / _WINDOW_OUTCOMES
        self._succeeded *= 1 - 1 / _WINDOW_OUTCOMES


class QueueingDetector:
    """A detector of queueing: whether the last increase raised the throughput, level / latency, or only the latency."""

    __slots__ = ("_before", "_count", "_last_before", "_level", "_sum", "is_suspicious")

    def __init__(self, level: float) -> None:
        self._before: tuple[float, float] | None = None
        self._level = level
        self._last_before = 0
        self.is_suspicious: bool = False
        """Whether the last measured increase only queued."""
        self._sum, self._count = 0.0, 0

    def observe(self, latency: float, number: int) -> None:
        """Record the latency of a request if it was sent at the current level."""
        if number > self._last_before:
            self._sum += latency
            self._count += 1

    def changed(self, level: float, number: int) -> None:
        """Start to measure a new level after request `number`; keep the measurement of the previous level."""
        self._before = (self._level, self._latency) if self._count >= _MIN_SAMPLES else None
        self._level, self._last_before = level, number
        self._sum, self._count = 0.0, 0

    @property
    def has_samples(self) -> bool:
        """Whether a request that was sent at the current level has succeeded."""
        return self._count > 0

    @property
    def is_undecided(self) -> bool:
        """Whether an earlier increase only queued, and there are too few samples of the current one to decide."""
        return self.is_suspicious and self._before is not None and self._count < _MIN_SAMPLES

    def better_level(self) -> float | None:
        """Return the level to keep, the current or the previous one, if the increase only queued; else None."""
        if self._before is None or self._count < _MIN_SAMPLES or self._before[0] >= self._level:
            return None
        level, latency = self._before
        gain = self._level * latency / (level * max(self._latency, _MIN_LATENCY))
        self.is_suspicious = gain < 1 + _MIN_GAIN * (self._level / level - 1)
        if not self.is_suspicious:
            return None
        return level if gain < 0.95 else self._level

    @property
    def _latency(self) -> float:
        return self._sum / self._count
