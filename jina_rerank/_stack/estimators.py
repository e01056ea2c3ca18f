"""Estimate the next answer from those before: the tokens it is billed for, and the time it takes."""

import math
from typing import Final


class TokenEstimator:
    """How many tokens the server bills for each one estimated, learnt from `usage`.

    It plans with the mean of the last answers, weighted by size, plus twice the mean error: planning with the mean
    alone is throttled half of the time at the limit.
    """

    __slots__ = ("_billed", "_error", "_estimated")

    def __init__(self) -> None:
        self._estimated = self._billed = self._error = 0.0

    def observe(self, estimated: int, billed: int) -> None:
        """Learn from an answer."""
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
"""The weight of the past at each answer: about the last ten count."""


class LatencyEstimator:
    """Smoothed latency and its variation, as TCP estimates round trips (RFC 6298: SRTT and RTTVAR)."""

    __slots__ = ("_deviation", "mean")

    def __init__(self) -> None:
        self.mean: float = 0.0
        """Smoothed seconds of an answer; 0 before the first."""
        self._deviation = 0.0

    @property
    def upper_bound(self) -> float:
        """Seconds that an answer is unlikely to exceed: the mean and four mean deviations; 0 before the first."""
        return self.mean + 4 * self._deviation

    def observe(self, seconds: float) -> None:
        """Learn from an answer."""
        if not self.mean:
            self.mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self.mean) - self._deviation) / 4
            self.mean += (seconds - self.mean) / 8

    def observe_timeout(self, seconds: float) -> None:
        """Learn from a request without an answer after `seconds`, if an answer was to be expected by then.

        Nobody knows how long the answer would have taken. Twice as long is the guess, as in exponential backoff:
        otherwise a server that becomes slower than every deadline would never be noticed.
        """
        if seconds >= self.upper_bound:
            self.observe(2 * seconds)
