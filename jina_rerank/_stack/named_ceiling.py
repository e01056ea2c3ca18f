"""The limit on requests in flight that a server names, and the probes for whether it still holds."""

import math
from typing import Final

_PROBE_SUCCESSES: Final = 100
"""Successes between two probes, so that probes cause no more than 1 % of throttled requests."""
_MAX_PROBE_INTERVAL: Final = 30.0
_SLOW_PROBE_SUCCESSES: Final = 50
"""Successes that suffice for a client with few requests, `_MAX_PROBE_INTERVAL` after the probe was due."""
_MIN_PROBE_INTERVAL: Final = 1.0
_AGE_DIVISOR: Final = 4.0
"""The interval between two probes is the time since the server named the limit, divided by this."""
_MIN_PROOFS: Final = 3
"""Successes beyond the limit that prove it outdated. A single one proves nothing: the server frees a slot before its
response arrives here."""


class NamedCeiling:
    """The limit named by a 429; infinite until there is one."""

    __slots__ = ("_answers", "_named_at", "_proofs", "limit", "tries_at")

    def __init__(self) -> None:
        self.limit: float = math.inf
        self.tries_at: float = math.inf
        """When one request more may be sent as a probe, if there are enough successes by then."""
        self._named_at = -math.inf
        self._answers = self._proofs = 0

    def name(self, limit: int, now: float) -> None:
        """Set the limit that a 429 names."""
        if limit != self.limit:
            self.limit, self._named_at, self.tries_at = limit, now, now + _MIN_PROBE_INTERVAL
        self._proofs = 0

    def answered(self, position: int) -> None:
        """Count a success of the `position`-th request in flight; several beyond the limit remove it."""
        self._answers += 1
        if position > self.limit:
            self._proofs += 1
            if self._proofs >= _MIN_PROOFS:
                self.limit = math.inf

    def try_more(self, now: float) -> bool:
        """Return whether to probe with one request more now; if so, schedule the next probe."""
        needed = _SLOW_PROBE_SUCCESSES if now >= self.tries_at + _MAX_PROBE_INTERVAL else _PROBE_SUCCESSES
        if now < self.tries_at or self._answers < needed:
            return False
        age = now - self._named_at
        self.tries_at = now + min(_MAX_PROBE_INTERVAL, max(_MIN_PROBE_INTERVAL, age / _AGE_DIVISOR))
        self._answers = 0
        return True
