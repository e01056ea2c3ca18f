"""Which request may go, and when: decisions alone. It is told the time, wakes whoever may go, and never waits."""

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from operator import attrgetter
from typing import Final, Literal

from ..errors import RateLimitError
from ..limits import RateLimit
from .allowance import Allowance
from .estimates import Latency, TokenScale
from .lessons import Kind, lesson
from .minute import Entry, Minute

OPENING_CONCURRENCY: Final = 2
"""Requests in flight at first: what a free key of the hosted API may have."""
MOST_CONCURRENCY: Final = 100
"""Requests in flight at the most, unless a caller says more."""
_KEPT: Final = 0.7
"""What is left of the concurrency after a refusal: the beta of CUBIC, as in botocore's adaptive mode."""
_LONGEST_HOLD: Final = 3600.0


class Turn:
    """One request that wants to go."""

    __slots__ = (
        "_estimate",
        "_estimated",
        "cost",
        "entry",
        "late",
        "latest",
        "patience",
        "place",
        "sent",
        "state",
        "wait",
        "wake",
        "wakes_at",
    )

    def __init__(self, estimate: Callable[[], int]) -> None:
        self._estimate = estimate
        self._estimated: int | None = None
        self.state: Literal["waiting", "sent", "turned away", "over"] = "waiting"
        self.place: int = 0
        """Its place in the queue: the lower goes first."""
        self.late: bool = False
        """Whether its call would probably end before the answer: then it goes when nobody else wants to."""
        self.latest: float = math.inf
        """When its call ends."""
        self.patience: float = math.inf
        """Seconds for which it waits at the most once it is the first in the queue."""
        self.wait: float = 0.0
        """Seconds it would have had to wait, when it was turned away."""
        self.wakes_at: float = math.inf
        """When it has to ask again, if nobody wakes it before."""
        self.wake: Callable[[], object] = _nobody
        """Called when its state or `wakes_at` has changed."""
        self.sent: float = 0.0
        self.cost: int = 0
        self.entry: Entry | None = None

    @property
    def tokens(self) -> int:
        """The estimate, made once, and only when somebody asks."""
        if self._estimated is None:
            self._estimated = self._estimate()
        return self._estimated

    @property
    def order(self) -> tuple[bool, float]:
        """What the queue is sorted by. Of those that are late, the one with the most time left is the first."""
        return self.late, -self.latest if self.late else self.place

    @property
    def planned(self) -> int | None:
        """The estimate, if somebody has asked for it."""
        return self._estimated


def _nobody() -> None:
    """Wakes nobody."""


class Governor:
    """The limits of one key, and the queue for it: first come, first served, whatever the size.

    In an overload with deadlines that rule alone serves next to nobody: who has waited longest has the least time left
    for the answer. So whoever has less than an answer takes lets the others pass.
    """

    __slots__ = (
        "__weakref__",
        "_hold",
        "_latency",
        "_minute",
        "_queue",
        "_refused",
        "_scale",
        "clients",
        "concurrency",
        "in_flight",
        "refusals",
        "requests",
        "tokens",
    )

    def __init__(self) -> None:
        self.concurrency: Allowance = Allowance(OPENING_CONCURRENCY, ceiling=MOST_CONCURRENCY, opening=True)
        self.requests: Allowance = Allowance()
        self.tokens: Allowance = Allowance()
        self.clients: int = 0
        """How many share it. Without any it is forgotten, even if an error's traceback still holds it."""
        self.in_flight: int = 0
        self.refusals: int = 0
        """Refusals since the last success; of requests that were in flight at the same time one counts."""
        self._refused = self._hold = -math.inf
        self._queue: list[Turn] = []
        self._minute = Minute()
        self._scale = TokenScale()
        self._latency = Latency()

    def state(self, limit: RateLimit | None, max_concurrency: int | None) -> None:
        """Takes what a client states. Of the limits of a key the lowest counts; the largest number opens."""
        if limit is not None:
            stated = (limit.concurrency, limit.requests_per_minute, limit.tokens_per_minute)
            for allowance, figure in zip((self.concurrency, self.requests, self.tokens), stated, strict=True):
                if figure is not None:
                    allowance.state(figure)
        if max_concurrency is not None:
            self.concurrency.open_at(max_concurrency)

    def enter(self, turn: Turn, now: float) -> bool:
        """Lets a request go at once, if nobody waits and there is room."""
        if self._queue or max(self._room_at(turn, now), self._slot_at(now)) > now:
            return False
        self._send(turn, now)
        return True

    def join(self, turn: Turn, now: float) -> None:
        """Puts a request into the queue, at its place."""
        insort(self._queue, turn, key=_ORDER)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Lets go whoever may, in order. Turns away who is first and would wait for too long."""
        while self._queue:
            turn = self._queue[0]
            room = self._room_at(turn, now)
            if room <= now:
                room = self._slot_at(now)
                if room > now:
                    return self._wake_at(turn, room)
                if self._lets_pass(turn, now):
                    continue
                self._send(turn, now)
            elif room > turn.latest or room - now > turn.patience:
                turn.state, turn.wait = "turned away", room - now
            else:
                return self._wake_at(turn, room)
            self._queue.pop(0)
            turn.wakes_at = math.inf
            turn.wake()
        return None

    def withdraw(self, turn: Turn, now: float) -> None:
        """Takes out a request that was cancelled before it was sent."""
        if turn.state == "waiting":
            index = bisect_left(self._queue, turn.order, key=_ORDER)
            while self._queue[index] is not turn:  # the parts of one call are one in order
                index += 1
            del self._queue[index]
            turn.state = "over"
            self.advance(now)
        elif turn.state == "sent":
            self._uncount(turn)
            self._leave(turn, now)

    def succeeded(self, turn: Turn, now: float, *, tokens: int | None = None, spent: tuple[Kind, ...] = ()) -> None:
        """Takes a success: the tokens billed, and the limits of which the server says that nothing is left."""
        self.refusals = 0
        self._latency.answered(now - turn.sent)
        if tokens is not None:
            if turn.planned is not None:
                self._scale.learn(turn.planned, tokens)
            self._count(turn, 0, tokens - turn.cost)
        if "requests" in spent:
            self.requests.fall(turn.sent, to=self._minute.requests, sent=turn.sent)
        if "tokens" in spent:
            self.tokens.fall(turn.sent, to=self._minute.tokens, sent=turn.sent)
        self._leave(turn, now)

    def failed(self, turn: Turn, now: float) -> None:
        """Takes a failure: the server may have counted the request."""
        self._latency.missed(now - turn.sent)
        self._leave(turn, now)

    def refused(self, turn: Turn, now: float, error: RateLimitError, pause: float) -> None:
        """Takes a 429.

        The pause holds back everybody; but not where the refusal tells that slots of ours are taken, which become
        free one by one.
        """
        kind, limit = lesson(error)
        self._uncount(turn)
        if kind == "requests":
            self._limited(self.requests, limit, now, to=self._minute.requests, sent=turn.sent)
        elif kind == "tokens":
            # What is in flight was not counted while the limit was not known; it is taken to be like this one.
            uncounted = self.in_flight if math.isinf(self.tokens.value) else 1
            to = self._minute.tokens + uncounted * self._scale.applied(turn.tokens)
            self._limited(self.tokens, limit, now, to=to, sent=turn.sent)
        elif limit is None or self.in_flight <= limit:
            kept = _KEPT * min(self.concurrency.value, self.in_flight)
            self._limited(self.concurrency, limit, now, to=kept, sent=turn.sent)
        else:
            self.concurrency.name(limit)
        if error.retry_after or kind != "concurrency" or self.in_flight == 1:
            self._hold = max(self._hold, now + min(pause, _LONGEST_HOLD))
        if turn.sent >= self._refused:
            self._refused = now
            self.refusals += 1
        self._leave(turn, now)

    def _limited(self, allowance: Allowance, limit: int | None, now: float, *, to: float, sent: float) -> None:
        if limit is not None:
            allowance.name(limit)
        allowance.fall(now, to=to, sent=sent)

    def _room_at(self, turn: Turn, now: float) -> float:
        """When the minute, and a refusal before, leave room."""
        when = self._hold
        if self.requests.value < math.inf:
            self._minute.forget(now)
            if self._minute.requests + 1 > self.requests.value:
                grows = self.requests.grow(now)
                when = max(when, min(grows, self._minute.at_most(requests=self.requests.value - 1)))
        if self.tokens.value < math.inf:
            self._minute.forget(now)
            cost = self._scale.applied(turn.tokens)
            if self._minute.tokens and self._minute.tokens + cost > self.tokens.value:
                grows = self.tokens.grow(now)
                # What is larger than the limit goes when nothing else counts.
                left = max(0.0, self.tokens.value - cost)
                when = max(when, min(grows, self._minute.at_most(tokens=left)))
        return when

    def _slot_at(self, now: float) -> float:
        if self.in_flight < self.concurrency.value:
            return -math.inf
        grows = self.concurrency.grow(now)
        return -math.inf if self.in_flight < self.concurrency.value else grows

    def _lets_pass(self, turn: Turn, now: float) -> bool:
        if turn.late or len(self._queue) == 1 or turn.latest - now >= self._latency.expected:
            return False
        turn.late = True
        insort(self._queue, self._queue.pop(0), key=_ORDER)
        return True

    def _wake_at(self, turn: Turn, when: float) -> None:
        if when < turn.wakes_at:
            turn.wakes_at = when
            turn.wake()

    def _send(self, turn: Turn, now: float) -> None:
        turn.state, turn.sent = "sent", now
        if self.tokens.value < math.inf:
            turn.cost = self._scale.applied(turn.tokens)
        turn.entry = self._minute.add(now, turn.cost)
        self.in_flight += 1

    def _count(self, turn: Turn, requests: int, tokens: int) -> None:
        if turn.entry is not None:
            self._minute.correct(turn.entry, requests, tokens)

    def _uncount(self, turn: Turn) -> None:
        self._count(turn, -1, -turn.cost)

    def _leave(self, turn: Turn, now: float) -> None:
        turn.state = "over"
        self.in_flight -= 1
        self.advance(now)


_ORDER: Final = attrgetter("order")
