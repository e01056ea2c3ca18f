"""Signs of congestion: which refusals are more than noise, and whether more in flight only queues."""

import math
from typing import Final

_STREAK: Final = 3
"""Refusals in a row, without an answer between them, that are no accident."""
_NOISE: Final = 0.12
"""The share of refusals that is taken for noise where it is measured on many requests."""
_ENOUGH: Final = 20.0
_FEW_SHARE: Final = 0.02
"""The share that is assumed with fewer outcomes than `_ENOUGH`."""
_MEMORY: Final = 100.0
"""Outcomes over which the share is measured."""
_FEWEST: Final = 3
"""Samples of a latency that are compared at the least."""
_SHORTEST: Final = 1e-6
_GAIN: Final = 0.4
"""The part of an increase by which the throughput must grow: with less the server only queues."""


class RefusalMeter:
    """The share of refusals among recent outcomes, and their streaks."""

    __slots__ = ("_refused", "_succeeded", "streak")

    def __init__(self) -> None:
        self.streak: int = 0
        """Refusals since the last answer."""
        self._refused = self._succeeded = 0.0

    def refused(self) -> None:
        """Count a refusal."""
        self.streak += 1
        self._forget()
        self._refused += 1

    def succeeded(self) -> None:
        """Count an answer."""
        self.streak = 0
        self._forget()
        self._succeeded += 1

    def restart(self) -> None:
        """Measure the share anew: the level has changed."""
        self._refused = self._succeeded = 0.0

    def is_outage(self, in_flight: int) -> bool:
        """Return whether most of what is at the server is refused, even if all that is in flight is answered."""
        return self.streak >= _STREAK and self.streak > in_flight

    @property
    def share(self) -> float:
        """The share of refusals among recent outcomes; as long as these are few, what noise may be."""
        outcomes = self._refused + self._succeeded
        return self._refused / outcomes if outcomes >= _ENOUGH else _FEW_SHARE

    def excess(self, in_flight: int) -> float:
        """Return the share of refusals, if it is more than noise even if all that is in flight is answered; else 0.

        The fewer outcomes there are, the more it takes.
        """
        outcomes = self._refused + self._succeeded + in_flight
        share = self._refused / outcomes if outcomes else 0.0
        return share if self._refused >= _STREAK and share > _NOISE + 0.8 / math.sqrt(outcomes) else 0.0

    def _forget(self) -> None:
        self._refused *= 1 - 1 / _MEMORY
        self._succeeded *= 1 - 1 / _MEMORY


class QueueingDetector:
    """Whether the last increase raised the throughput, level / latency, or only the latency."""

    __slots__ = ("_before", "_count", "_last_before", "_level", "_sum", "is_suspicious")

    def __init__(self, level: float) -> None:
        self._before: tuple[float, float] | None = None
        self._level = level
        self._last_before = 0
        self.is_suspicious: bool = False
        """Whether the last increase that was measured only queued."""
        self._sum, self._count = 0.0, 0

    def observe(self, latency: float, number: int) -> None:
        """Note the latency of a request, if it was sent at the present level."""
        if number > self._last_before:
            self._sum += latency
            self._count += 1

    def changed(self, level: float, number: int) -> None:
        """Begin to measure a new level after the request of that number; keep what the last one was like."""
        self._before = (self._level, self._latency) if self._count >= _FEWEST else None
        self._level, self._last_before = level, number
        self._sum, self._count = 0.0, 0

    @property
    def has_samples(self) -> bool:
        """Whether a request that was sent at the present level was answered."""
        return self._count > 0

    @property
    def is_undecided(self) -> bool:
        """Whether an earlier increase only queued, and there are too few answers to tell whether this one does."""
        return self.is_suspicious and self._before is not None and self._count < _FEWEST

    def better_level(self) -> float | None:
        """Return the level to use instead of the present one, if that only queues: this one or the last; else None."""
        if self._before is None or self._count < _FEWEST or self._before[0] >= self._level:
            return None
        level, latency = self._before
        gain = self._level * latency / (level * max(self._latency, _SHORTEST))
        self.is_suspicious = gain < 1 + _GAIN * (self._level / level - 1)
        if not self.is_suspicious:
            return None
        return level if gain < 0.95 else self._level

    @property
    def _latency(self) -> float:
        return self._sum / self._count
