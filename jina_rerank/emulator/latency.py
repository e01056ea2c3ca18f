"""The emulator's latency: constant, or distributed by percentiles, as on a dashboard."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from random import Random


class Latency:
    """A sequence of latencies in seconds, reproducible by its seed.

    Args:
        latency: Seconds, or seconds by percentile: `{50: 0.12, 95: 0.4, 99: 1.2}`, with linear interpolation between
            percentiles, and constant below the first and above the last.
        seed: The seed of the random latencies.

    Raises:
        ValueError: A number is not finite or not a percentile, or a higher percentile has a lower latency.
    """

    def __init__(self, latency: float | Mapping[float, float], seed: int) -> None:
        points = sorted(latency.items()) if isinstance(latency, Mapping) else [(0.0, latency)]
        self._percentiles = [percentile for percentile, _ in points]
        self._seconds = [seconds for _, seconds in points]
        if not all(math.isfinite(seconds) and seconds >= 0 for seconds in self._seconds):
            raise ValueError("latency must be a finite number of seconds, 0 or more")
        if not points or not all(0 <= percentile <= 100 for percentile in self._percentiles):
            raise ValueError("latency: percentiles must be numbers from 0 to 100, like {50: 0.12, 99: 1.2}")
        if self._seconds != sorted(self._seconds):
            raise ValueError("latency: a higher percentile cannot be quicker than a lower one")
        # Independent of the faults' random numbers; otherwise a rare fault would hit only the fastest responses.
        self._random = Random(f"latency {seed}")

    def draw(self) -> float:
        """Return the seconds of the next response."""
        at = 100 * self._random.random()
        above = bisect_right(self._percentiles, at)
        if above in (0, len(self._percentiles)):
            return self._seconds[max(0, above - 1)]
        (low, high), (least, most) = self._percentiles[above - 1 : above + 1], self._seconds[above - 1 : above + 1]
        return least + (most - least) * (at - low) / (high - low)


def parse_latency(text: str) -> float | dict[float, float]:
    """Parse `0.2` or `50:0.12,95:0.4,99:1.2`.

    Raises:
        ValueError: The text has neither form.
    """
    try:
        if ":" not in text:
            return float(text)
        pairs = [(float(percentile), float(seconds)) for percentile, seconds in _pairs(text)]
    except ValueError:
        raise ValueError(f"latency {text!r}: must be seconds, or percentile:seconds, like 50:0.12,95:0.4") from None
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"latency {text!r}: a percentile is given twice")
    return dict(pairs)


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(percentile, seconds) for percentile, _, seconds in (part.partition(":") for part in text.split(","))]
