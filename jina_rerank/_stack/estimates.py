"""What is expected of the next answer, learnt from those before: the tokens it costs, and the time it takes."""

import math
from typing import Final


class TokenScale:
    """How many tokens the server counts for each one estimated, learnt from `usage`.

    It is the mean of what came last, weighted by size, and twice the mean error: who plans with the mean alone is
    refused half of the time at which the limit is reached.
    """

    __slots__ = ("_counted", "_estimated", "_missed")

    def __init__(self) -> None:
        self._estimated = self._counted = self._missed = 0.0

    def learn(self, estimated: int, counted: int) -> None:
        """Takes note of an answer."""
        expected = estimated * self._counted / self._estimated if self._estimated else counted
        self._estimated = self._estimated * _MEMORY + estimated
        self._counted = self._counted * _MEMORY + counted
        self._missed = self._missed * _MEMORY + abs(counted - expected)

    def applied(self, estimated: int) -> int:
        """The tokens to plan with for a request that is estimated at so many."""
        if not self._estimated:
            return estimated
        return max(1, math.ceil(estimated * (self._counted + 2 * self._missed) / self._estimated))


_MEMORY: Final = 0.9


class Latency:
    """How long an answer takes at the most: mean and four times the mean deviation, smoothed as TCP does (RFC 6298)."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    @property
    def expected(self) -> float:
        """Seconds that an answer will hardly exceed; 0 before the first."""
        return self._mean + 4 * self._deviation

    def answered(self, seconds: float) -> None:
        """Takes note of an answer."""
        if not self._mean:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
            self._mean += (seconds - self._mean) / 8

    def missed(self, seconds: float) -> None:
        """Takes note of a request without an answer after so long. Only what was given time enough tells anything.

        How long the answer would have taken nobody knows; the guess is twice as long, as in a backoff, or a server that
        has become slower than all that wait have time for would never be noticed.
        """
        if seconds >= self.expected:
            self.answered(2 * seconds)
