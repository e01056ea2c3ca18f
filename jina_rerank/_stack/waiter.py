"""One request that waits for its turn, and what keeps it waiting."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from .sliding_window import SlidingWindow, Use


class Shortage(NamedTuple):
    """What keeps a request waiting, if it is a limit of the key."""

    seconds: float
    """Until there is room, at the latest, if others send nothing more."""
    foreign: float = 0.0
    """What others hold of the limit."""
    limit: float = math.inf
    unit: str = ""
    """What the limit counts, in words; empty if it is not known."""


class Waiter:
    """One request that wants to be sent."""

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
        """Its place in the queue: the lower is sent first."""
        self.is_late: bool = False
        """Whether its call would probably end before the answer: then others go first."""
        self.deadline: float = math.inf
        """When its call ends."""
        self.patience: float = math.inf
        """Seconds for which it waits at the most once it is the first in the queue."""
        self.wait: float = 0.0
        """Seconds it would have had to wait, when it was rejected."""
        self.wakes_at: float = math.inf
        """When it has to ask again, if nobody wakes it before."""
        self.wake: Callable[[], object] = _noop
        """Called when its state or `wakes_at` has changed."""
        self.sent_at: float = 0.0
        self.position: int = 0
        """How many were in flight when it was sent, itself included."""
        self.number: int = 0
        """The number that the concurrency limit has given it."""
        self.tokens_planned: int = 0
        self.requests_use: Use | None = None
        self.tokens_use: Use | None = None
        self.probes: tuple[SlidingWindow, ...] = ()
        """The windows that had no room when it was sent."""

    def again(self) -> "Waiter":
        """Return a waiter for the same request, which has been withdrawn."""
        waiter = Waiter(self._estimate)
        waiter._estimated, waiter.patience = self._estimated, self.patience  # one of its own kind
        return waiter

    @property
    def tokens(self) -> int:
        """The estimated tokens, computed on first access."""
        if self._estimated is None:
            self._estimated = self._estimate()
        return self._estimated

    @property
    def estimated(self) -> int | None:
        """The estimated tokens, if anything has needed them so far."""
        return self._estimated

    @property
    def order(self) -> tuple[bool, float]:
        """What the queue is sorted by. Of those that are late, the one with the most time left is first."""
        return self.is_late, -self.deadline if self.is_late else self.place


def _noop() -> None:
    pass
