"""Estimators of the billed tokens and of the latency of a request, from earlier responses."""

import math
from typing import Final


class TokenEstimator:
    """The ratio of billed to estimated tokens, learnt from `usage`.

    It plans with the mean of the last responses, weighted by size, plus twice the mean error: planning with the mean
    alone would be throttled half of the time at the limit.
    """

    __slots__ = ("_billed", "_error", "_estimated")

    def __init__(self) -> None:
        self._estimated = self._billed = self._error = 0.0

    def observe(self, estimated: int, billed: int) -> None:
        """Learn from a response."""
        expected = estimated * self._billed / self._estimated if self._estimated else billed
        self._estimated = self._estimated * _DECAY + estimated
        self._billed = self._billed * _DECAY + billed
        self._error = self._error * _DECAY + abs(billed - expected)

    def planned(self, estimated: int) -> int:
        """Return the tokens to plan for a request estimated at `estimated`."""
        if not self._estimated:
            return estimated
        return max(1, math.ceil(estimated * (self._billed + 2 * self._error) / self._estimated))


_DECAY: Final = 0.9
"""The weight of the past at each response: about the last ten count."""


class LatencyEstimator:
    """The smoothed latency and its variation, as TCP estimates the round-trip time (RFC 6298: SRTT and RTTVAR)."""

    __slots__ = ("_deviation", "mean")

    def __init__(self) -> None:
        self.mean: float = 0.0
        """The smoothed latency in seconds; 0 before the first response."""
        self._deviation = 0.0

    @property
    def upper_bound(self) -> float:
        """The latency that is unlikely to be exceeded: the mean plus four mean deviations; 0 without samples."""
        return self.mean + 4 * self._deviation

    def observe(self, seconds: float) -> None:
        """Learn from a response."""
        if not self.mean:
            self.mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self.mean) - self._deviation) / 4
            self.mean += (seconds - self.mean) / 8

    def observe_timeout(self, seconds: float) -> None:
        """Learn from a request without a response after `seconds`, if a response was due by then.

        The actual latency is unknown; the estimate doubles the time, as exponential backoff does. Otherwise the
        estimator would never notice a server that becomes slower than every deadline.
        """
        if seconds >= self.upper_bound:
            self.observe(2 * seconds)
