"""The sliding window of a limit per minute: its own use, and that of others. Sans-I/O, and without a clock."""

import math
from collections import deque
from typing import Final, NamedTuple

SERVER_WINDOW_SECONDS: Final = 60.0
"""Seconds for which the server counts a request, from its arrival."""
WINDOW_SECONDS: Final = SERVER_WINDOW_SECONDS + 1
"""Seconds for which a request counts here: one extra second for network latency."""
BUCKET_SECONDS: Final = 0.1
"""Requests sent within this time share a bucket, so that memory use is bounded."""
_PROBE_SECONDS: Final = 3.0
"""Seconds between two probes of a window that others have filled; free room is found within 3.5 s."""
_OTHERS_ACTIVE_SECONDS: Final = 10.0
"""Seconds for which others are assumed to keep sending after their use has grown."""
_STEADY_FILLS: Final = 2
"""Windows filled in a row that indicate a long-running client."""
_MAX_STEADY_PACE: Final = 0.5
"""The most seconds between two requests of a long-running client."""
_OTHERS_PROBE_SECONDS: Final = 20.0
"""Seconds between two probes while others are active: their use has not begun to expire."""
_REVISIT_SECONDS: Final = 300.0
"""Seconds until a probe of a limit that the window's own use explains: plans change, but rarely."""


class Bucket:
    """The amount sent within `BUCKET_SECONDS`."""

    __slots__ = ("amount", "expires_at")

    def __init__(self, expires_at: float) -> None:
        self.expires_at: float = expires_at
        self.amount: int = 0


class Use(NamedTuple):
    """The record of a request in the window."""

    bucket: Bucket
    total: int
    """The total amount ever used when the request was sent, including the request."""


class SlidingWindow:
    """The requests, or tokens, of the last minute, and the limit on them.

    The limit is configured, named by a 429, or inferred from the remaining amount that the server reports. The amount
    that the server counts beyond the window's own use belongs to others: another process, or an earlier run of this
    one. The time at which it expires is unknown. So the window probes: it lets one request pass although there seems to
    be no room. If the probe is accepted, room opens as in TCP's slow start, two more for each one accepted; if it is
    throttled, the foreign use is measured again. A probe costs one request: a client with a fair share of its limit
    probes once a minute, one without any share every 3 s.
    """

    __slots__ = (
        "_buckets",
        "_configured",
        "_filled_at",
        "_fills",
        "_foreign",
        "_foreign_growth",
        "_is_named",
        "_observed_at",
        "_probe_at",
        "_probe_interval",
        "_probing",
        "_throttled_at",
        "_total",
        "in_slow_start",
        "limit",
        "others_active_until",
        "share",
        "used",
    )

    def __init__(self) -> None:
        self.limit: float = math.inf
        """The limit per minute; infinite while it is unknown."""
        self.share: float = math.inf
        """This process's share of the limit while a shared store does not respond."""
        self.others_active_until: float = -math.inf
        """The time until which others are assumed to send with the same key, since their use has grown recently."""
        self.used: int = 0
        """The amount sent from here within the window."""
        self._configured = math.inf
        self._is_named = False
        self._foreign = self._foreign_growth = 0.0
        self._observed_at = self._throttled_at = -math.inf
        self._probe_at = math.inf
        self._probe_interval = _PROBE_SECONDS
        self._probing = False
        self.in_slow_start: bool = False
        """Whether a probe was accepted recently, so that each success makes room for two requests more."""
        self._fills, self._filled_at = 0, -math.inf
        self._total = 0
        self._buckets: deque[Bucket] = deque()

    @property
    def is_limited(self) -> bool:
        """Whether a limit, or a share of it, is known."""
        return self.limit < math.inf or self.share < math.inf

    def used_at(self, now: float) -> int:
        """Return the window's own use at the time `now`."""
        self.expire(now)
        return self.used

    def foreign(self, now: float) -> float:
        """Return the use by others, as last observed; 0 once it must have expired."""
        age = now - self._observed_at
        if age >= 2 * WINDOW_SECONDS:
            return 0.0
        if now >= self.others_active_until:
            return self._foreign
        return min(max(self._foreign, self.limit - self.used), self._foreign + age * self._foreign_growth)

    def observe_others(self, now: float) -> None:
        """Record that others are sending with the same key."""
        self.others_active_until = now + _OTHERS_ACTIVE_SECONDS

    def fill(self, now: float) -> None:
        """Record that the window's own use fills it while a request waits."""
        if now >= self._filled_at + SERVER_WINDOW_SECONDS / 2:
            self._fills = self._fills + 1 if now < self._filled_at + 2 * WINDOW_SECONDS else 1
            self._filled_at = now

    def pace(self, now: float) -> float:
        """Return the seconds to leave between two requests; 0 for no pacing.

        While others are active, the rate is at most half of the limit. A client that repeatedly fills its window
        spreads its requests over half of the minute, which costs it nothing, and leaves gaps for the requests of a new
        client.
        """
        if self.limit == math.inf:
            return 0.0
        if now < self.others_active_until:
            return 2 * WINDOW_SECONDS / self.limit
        is_steady = self._fills >= _STEADY_FILLS and now < self._filled_at + 2 * WINDOW_SECONDS
        return min(_MAX_STEADY_PACE, WINDOW_SECONDS / self.limit / 2) if is_steady else 0.0

    def configure(self, limit: int) -> None:
        """Apply a configured limit. The lowest of several counts."""
        self._configured = min(self._configured, limit)
        self.limit = min(self.limit, self._configured)

    def add(self, now: float, amount: int) -> Use:
        """Count an amount that is sent now; return its record."""
        bucket = self._buckets[-1] if self._buckets else None
        if bucket is None or now >= bucket.expires_at - WINDOW_SECONDS + BUCKET_SECONDS:
            self.expire(now)
            bucket = Bucket(now + WINDOW_SECONDS)
            self._buckets.append(bucket)
        bucket.amount += amount
        self.used += amount
        self._total += amount
        return Use(bucket, self._total)

    def correct(self, use: Use, difference: int) -> None:
        """Correct the amount of a request; a no-op if it has expired."""
        bucket = use.bucket
        if self._buckets and bucket.expires_at >= self._buckets[0].expires_at:
            bucket.amount += difference
            self.used += difference
            self._total += difference

    def expire(self, now: float) -> None:
        """Drop the buckets that have expired."""
        while self._buckets and now >= self._buckets[0].expires_at:
            self.used -= self._buckets.popleft().amount

    def fits_at(self, amount: int, now: float) -> float:
        """Return the time from which `amount` may be sent, if nothing else is sent; a past time if it may be now."""
        excess = self._excess(amount, now)
        if excess <= 0:
            return -math.inf
        return min(self._falls_at(excess, now), self._next_probe_at)

    def full_until(self, amount: int, now: float) -> float:
        """Return the time before which the window's own use leaves no room for `amount`; -inf if there is room now."""
        excess = self.used + amount - min(self.limit, self.share)
        return -math.inf if excess <= 0 or not self.used else self._falls_at(excess, now)

    def frees_at(self, amount: int, now: float) -> float:
        """Return the latest time at which `amount` fits, if others send nothing more; -inf if it fits now."""
        excess = self._excess(amount, now)
        if excess <= 0:
            return -math.inf
        return self._observed_at + WINDOW_SECONDS if self.foreign(now) else self._falls_at(excess, now)

    def begin_probe(self, amount: int, now: float) -> bool:
        """Return whether sending `amount` now is a probe, since there seems to be no room for it; if so, record it."""
        if self._excess(amount, now) <= 0 or self._next_probe_at > now:
            return False
        self._probing = True
        return True

    def end_probe(self) -> None:
        """Allow another probe, after one that ended without a response."""
        self._probing = False

    def accepted(self, amount: int, sent_at: float, now: float, *, probe: bool) -> None:
        """Learn from a success: an accepted probe begins a slow start."""
        if probe:
            self._probing = False
            self.in_slow_start = True
            self._probe_interval = _PROBE_SECONDS
            self._probe_at = now + _PROBE_SECONDS
        if self.in_slow_start and sent_at >= self._observed_at:
            room = 2.0 * amount
            repaid = min(self._foreign, room)
            self._foreign -= repaid
            if self.limit < self._configured and self.used + self._foreign > self.limit - room:
                self.limit = min(self._configured, self.limit + room - repaid)

    def observe_remaining(
        self, remaining: int, use: Use, now: float, *, difference: int, in_flight: int, sent_at: float
    ) -> None:
        """Learn from the remaining amount that the server reports.

        Args:
            remaining: The remaining amount.
            use: The record of the request.
            now: The time.
            difference: The amount that the request has used beyond its record.
            in_flight: About how much of the record's total the server may not have counted when the request arrived.
            sent_at: When the request was sent.
        """
        if sent_at < self._throttled_at:
            return  # the 429 is more recent
        sent_since = self._total - use.total - difference
        if not self._is_named:
            inferred = remaining + min(self.used, self._recently_used(now) - sent_since - in_flight)
            self.limit = min(self._configured, inferred if self.limit == math.inf else max(self.limit, inferred))
        # The server may have counted when it admitted the request, or when it responded. If the requests sent in
        # between explain the difference, there is no foreign use.
        foreign = max(0.0, self.limit - remaining - self.used)
        growth = 0.0
        if foreign:
            foreign = max(foreign, self.limit - remaining - (self.used - sent_since))
            if now > self._observed_at > now - WINDOW_SECONDS and foreign > self._foreign + (not self._is_named):
                growth = (foreign - self._foreign) / (now - self._observed_at)
                self.observe_others(now)
        self._foreign, self._foreign_growth = foreign, (self._foreign_growth + growth) / 2
        self._observed_at, self.in_slow_start = now, False
        self._probe_at = now + (self._probe_interval if self._foreign else _REVISIT_SECONDS)

    def throttled(
        self, limit: int | None, amount: int, now: float, *, probe: bool, jitter: float, uncounted: int = 0
    ) -> None:
        """Learn from a 429 for this window.

        Args:
            limit: The limit, if the server names it.
            amount: The amount of the throttled request.
            now: The time.
            probe: Whether the request was a probe.
            jitter: From 0 to 1, so that processes with the same key do not probe at the same time.
            uncounted: The amount in flight from here that is not counted in `used`.
        """
        counted = self._recently_used(now) + uncounted
        self.limit = min(self._configured, max(1, counted) if limit is None else limit)
        self._is_named, self._throttled_at = limit is not None, now
        self._foreign = max(0.0, self.limit - amount - counted + 1)
        self._observed_at, self.in_slow_start = now, False
        if probe:
            self._probing = False
            self._probe_interval = WINDOW_SECONDS
        if limit is not None and not self._foreign:
            interval = _REVISIT_SECONDS
        elif now < self.others_active_until:
            interval = _OTHERS_PROBE_SECONDS
        elif not self.used:
            interval = _PROBE_SECONDS
        else:
            interval = self._probe_interval
        self._probe_at = now + interval * (5 / 6 + jitter / 3)

    @property
    def _next_probe_at(self) -> float:
        if self._probing:
            return math.inf
        if self._foreign:
            return min(self._probe_at, self._observed_at + WINDOW_SECONDS)
        return self._probe_at if self.limit < self._configured else math.inf

    def _excess(self, amount: int, now: float) -> float:
        """Return by how much `amount` exceeds the room that is left."""
        limit = min(self.limit, self.share)
        if limit == math.inf:
            return 0.0
        self.expire(now)
        foreign = self.foreign(now) if limit == self.limit else 0.0
        if not self.used and not foreign:
            return 0.0  # an amount above the limit may be sent when the window is empty
        return self.used + foreign + amount - limit

    def _falls_at(self, excess: float, now: float) -> float:
        """Return when the window's own use will have fallen by `excess`; inf if foreign use is in the way."""
        for bucket in self._buckets:
            excess -= bucket.amount
            if excess <= 0:
                return bucket.expires_at
        return self._buckets[-1].expires_at if self._buckets and not self.foreign(now) else math.inf

    def _recently_used(self, now: float) -> int:
        """Return how much of the window's own use the server still counts."""
        self.expire(now)
        expired = 0
        for bucket in self._buckets:
            if now < bucket.expires_at - WINDOW_SECONDS + SERVER_WINDOW_SECONDS:
                break
            expired += bucket.amount
        return self.used - expired
