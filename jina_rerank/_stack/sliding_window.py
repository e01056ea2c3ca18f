"""What counts against a limit per minute: a key's own use, and that of others. Decisions alone, without a clock."""

import math
from collections import deque
from typing import Final, NamedTuple

SERVER_WINDOW_SECONDS: Final = 60.0
"""Seconds for which the server counts a request, from its arrival."""
WINDOW_SECONDS: Final = SERVER_WINDOW_SECONDS + 1
"""Seconds for which a request counts here: one extra second for network latency."""
BUCKET_SECONDS: Final = 0.1
"""Requests sent within this time share a bucket, so that memory is bounded however much is sent."""
_PROBE_SECONDS: Final = 3.0
"""Between two probes of a window that others have filled: one that becomes free is found within 3.5 s."""
_COMPANY_SECONDS: Final = 10.0
"""How long others are taken to go on sending after their use has grown."""
_MAX_STEADY_PACE: Final = 0.5
"""Seconds between two requests of such a client at the most."""
_STEADY_FILLS: Final = 2
"""Windows filled in a row by which a client is known to run for long."""
_COMPANY_PROBE_SECONDS: Final = 20.0
"""Between two probes while others are known to send: what they use has not begun to expire."""
_REVISIT_SECONDS: Final = 300.0
"""Until a limit that this window's own use explains is probed: plans change, but rarely."""


class Bucket:
    """What was sent within one `BUCKET_SECONDS`."""

    __slots__ = ("amount", "expires_at")

    def __init__(self, expires_at: float) -> None:
        self.expires_at: float = expires_at
        self.amount: int = 0


class Use(NamedTuple):
    """What a request has used."""

    bucket: Bucket
    total: int
    """All that had ever been used when it was sent, itself included."""


class SlidingWindow:
    """Requests, or tokens, of the last minute, and the limit on them.

    The limit is configured, named by a 429, or inferred from what the server says to be left. What the server counts
    beyond the window's own use belongs to others: another process, or the run before this one. That is a debt which
    expires at a time that nobody here can see. So the window probes: one request goes out although there seems to be
    no room. If it is accepted, room opens as in TCP's slow start, two more for each one accepted; if it is throttled,
    the debt is known anew. A probe costs one request: a client with a fair share of its limit probes once a minute,
    one that holds nothing every 3 s.
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
        "company_until",
        "in_slow_start",
        "limit",
        "share",
        "used",
    )

    def __init__(self) -> None:
        self.limit: float = math.inf
        """What is allowed in a minute, as far as it is known."""
        self.share: float = math.inf
        """The part of the limit that is left to this process while a shared store does not answer."""
        self.company_until: float = -math.inf
        """Until then others are taken to send with the same key: lately their use has grown."""
        self.used: int = 0
        """What was sent from here within the window."""
        self._configured = math.inf
        self._is_named = False
        self._foreign = self._foreign_growth = 0.0
        self._observed_at = self._throttled_at = -math.inf
        self._probe_at = math.inf
        self._probe_interval = _PROBE_SECONDS
        self._probing = False
        self.in_slow_start: bool = False
        """Whether a probe was accepted lately, so that each answer makes room for two requests more."""
        self._fills, self._filled_at = 0, -math.inf
        self._total = 0
        self._buckets: deque[Bucket] = deque()

    @property
    def is_limited(self) -> bool:
        """Whether a limit is known."""
        return self.limit < math.inf or self.share < math.inf

    def used_at(self, now: float) -> int:
        """Return the window's own use now."""
        self.expire(now)
        return self.used

    def foreign(self, now: float) -> float:
        """Return what others have used, as last observed, until it must have expired."""
        age = now - self._observed_at
        if age >= 2 * WINDOW_SECONDS:
            return 0.0
        if now >= self.company_until:
            return self._foreign
        return min(max(self._foreign, self.limit - self.used), self._foreign + age * self._foreign_growth)

    def meet_company(self, now: float) -> None:
        """Note that others are sending with the same key."""
        self.company_until = now + _COMPANY_SECONDS

    def fill(self, now: float) -> None:
        """Note that the window's own use fills it, and somebody waits."""
        if now >= self._filled_at + SERVER_WINDOW_SECONDS / 2:
            self._fills = self._fills + 1 if now < self._filled_at + 2 * WINDOW_SECONDS else 1
            self._filled_at = now

    def pace(self, now: float) -> float:
        """Return the seconds to leave between two requests; 0 for none.

        In company nobody is faster than half of the limit. A client that fills its window again and again spreads its
        requests over half of the minute: that costs it nothing, and leaves gaps in which a newcomer is let in.
        """
        if self.limit == math.inf:
            return 0.0
        if now < self.company_until:
            return 2 * WINDOW_SECONDS / self.limit
        is_steady = self._fills >= _STEADY_FILLS and now < self._filled_at + 2 * WINDOW_SECONDS
        return min(_MAX_STEADY_PACE, WINDOW_SECONDS / self.limit / 2) if is_steady else 0.0

    def configure(self, limit: int) -> None:
        """Apply a limit that a caller states. Of several the lowest counts."""
        self._configured = min(self._configured, limit)
        self.limit = min(self.limit, self._configured)

    def add(self, now: float, amount: int) -> Use:
        """Count what is sent now; return its record."""
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
        """Change what a request has used; what has expired stays as it was."""
        bucket = use.bucket
        if self._buckets and bucket.expires_at >= self._buckets[0].expires_at:
            bucket.amount += difference
            self.used += difference
            self._total += difference

    def expire(self, now: float) -> None:
        """Forget what does not count any more."""
        while self._buckets and now >= self._buckets[0].expires_at:
            self.used -= self._buckets.popleft().amount

    def fits_at(self, amount: int, now: float) -> float:
        """Return the time from which `amount` may be sent, if nothing else is: at most `now` if it may be now."""
        excess = self._excess(amount, now)
        if excess <= 0:
            return -math.inf
        return min(self._falls_at(excess, now), self._next_probe_at)

    def full_until(self, amount: int, now: float) -> float:
        """Return the time before which the window's own use leaves no room for `amount`; -inf if it does now."""
        excess = self.used + amount - min(self.limit, self.share)
        return -math.inf if excess <= 0 or not self.used else self._falls_at(excess, now)

    def frees_at(self, amount: int, now: float) -> float:
        """Return when `amount` fits at the latest, if others send nothing more; -inf if it fits now."""
        excess = self._excess(amount, now)
        if excess <= 0:
            return -math.inf
        return self._observed_at + WINDOW_SECONDS if self.foreign(now) else self._falls_at(excess, now)

    def begin_probe(self, amount: int, now: float) -> bool:
        """Note that `amount` is sent; return whether it is a probe, since there seems to be no room for it."""
        if self._excess(amount, now) <= 0 or self._next_probe_at > now:
            return False
        self._probing = True
        return True

    def end_probe(self) -> None:
        """Allow another probe: the last one has ended without an answer."""
        self._probing = False

    def accepted(self, amount: int, sent_at: float, now: float, *, probe: bool) -> None:
        """Learn from an answer: a probe that is accepted begins a slow start."""
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
        """Learn from what the server says to be left after a request.

        Args:
            remaining: What is left.
            use: The record of the request.
            now: The time.
            difference: What the request has used beyond that.
            in_flight: About how much of that record the server may not have counted when the request arrived.
            sent_at: When it was sent.
        """
        if sent_at < self._throttled_at:
            return  # what the 429 has said is newer
        sent_since = self._total - use.total - difference
        if not self._is_named:
            inferred = remaining + min(self.used, self._recently_used(now) - sent_since - in_flight)
            self.limit = min(self._configured, inferred if self.limit == math.inf else max(self.limit, inferred))
        # The server may have counted when it admitted the request, or when it answered. If what was sent meanwhile
        # explains the difference, nobody else is there.
        foreign = max(0.0, self.limit - remaining - self.used)
        growth = 0.0
        if foreign:
            foreign = max(foreign, self.limit - remaining - (self.used - sent_since))
            if now > self._observed_at > now - WINDOW_SECONDS and foreign > self._foreign + (not self._is_named):
                growth = (foreign - self._foreign) / (now - self._observed_at)
                self.meet_company(now)
        self._foreign, self._foreign_growth = foreign, (self._foreign_growth + growth) / 2
        self._observed_at, self.in_slow_start = now, False
        self._probe_at = now + (self._probe_interval if self._foreign else _REVISIT_SECONDS)

    def throttled(
        self, limit: int | None, amount: int, now: float, *, probe: bool, jitter: float, uncounted: int = 0
    ) -> None:
        """Learn from a 429 that names this window's limit, or is known to be about it.

        Args:
            limit: The limit that the server names, if it does.
            amount: What the throttled request would have used.
            now: The time.
            probe: Whether it was a probe.
            jitter: From 0 to 1, so that processes which share a key do not probe at the same time.
            uncounted: What is in flight from here, but not yet counted in `used`.
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
        elif now < self.company_until:
            interval = _COMPANY_PROBE_SECONDS
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
        """Return by how much `amount` is too much."""
        limit = min(self.limit, self.share)
        if limit == math.inf:
            return 0.0
        self.expire(now)
        foreign = self.foreign(now) if limit == self.limit else 0.0
        if not self.used and not foreign:
            return 0.0  # what is larger than the limit goes when nothing else counts
        return self.used + foreign + amount - limit

    def _falls_at(self, excess: float, now: float) -> float:
        """Return when the window's own use has fallen by `excess`; inf if it is less than that."""
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
