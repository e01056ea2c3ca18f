"""A request in the queue of the rate limiter, and the limit that delays it."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from .sliding_window import SlidingWindow, Use


class Shortage(NamedTuple):
    """The limit of the key that delays a request."""

    seconds: float
    """The most seconds until there is room, if others send nothing more."""
    foreign: float = 0.0
    """The use by others."""
    limit: float = math.inf
    unit: str = ""
    """The unit of the limit, in words; "" if it is unknown."""


class Waiter:
    """A request that waits to be sent."""

    __slots__ = (
        "_estimate",
        "_estimated",
        "deadline",
        "is_late",
        "number",
        "patience",
        "place",
        "position",
        "probes",
        "requests_use",
        "sent_at",
        "state",
        "tokens_planned",
        "tokens_use",
        "wait",
        "wake",
        "wakes_at",
    )

    def __init__(self, estimate: Callable[[], int]) -> None:
        self._estimate = estimate
        self._estimated: int | None = None
        self.state: Literal["new", "waiting", "sent", "rejected", "done"] = "new"
        self.place: int = 0
        """The place in the queue: lower places are sent first."""
        self.is_late: bool = False
        """Whether the call would probably end before the response; such requests are sent last."""
        self.deadline: float = math.inf
        """The time at which the call ends."""
        self.patience: float = math.inf
        """The most seconds to wait at the head of the queue."""
        self.wait: float = 0.0
        """Seconds that a rejected request would have had to wait."""
        self.wakes_at: float = math.inf
        """The time at which to call `advance` again, unless woken before."""
        self.wake: Callable[[], object] = _noop
        """The callback for a change of `state` or `wakes_at`."""
        self.sent_at: float = 0.0
        self.position: int = 0
        """Requests in flight when it was sent, including itself."""
        self.number: int = 0
        """The number that the concurrency limit assigned."""
        self.tokens_planned: int = 0
        self.requests_use: Use | None = None
        self.tokens_use: Use | None = None
        self.probes: tuple[SlidingWindow, ...] = ()
        """The windows that it probes, since they had no room when it was sent."""

    def again(self) -> "Waiter":
        """Return a new waiter for the same request, after this one was withdrawn."""
        waiter = Waiter(self._estimate)
        waiter._estimated, waiter.patience = self._estimated, self.patience
        return waiter

    @property
    def tokens(self) -> int:
        """The estimated tokens, which are computed on first access."""
        if self._estimated is None:
            self._estimated = self._estimate()
        return self._estimated

    @property
    def estimated(self) -> int | None:
        """The estimated tokens; None if they were not computed."""
        return self._estimated

    @property
    def order(self) -> tuple[bool, float]:
        """The sort key of the queue. Late requests are last, those with the most time left first."""
        return self.is_late, -self.deadline if self.is_late else self.place


def _noop() -> None:
    pass
