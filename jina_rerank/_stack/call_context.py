"""The state of one call, shared by all requests that are sent for it. Sans-I/O, and without a clock."""

import math
from itertools import count
from typing import Final, Protocol

from .._codec import WireRequest
from ..errors import RateLimitError, RerankError
from .sliding_window import WINDOW_SECONDS

_places: Final = count(1)


class Clock(Protocol):
    """An object with a deadline that ends a call, such as a cancel scope."""

    @property
    def deadline(self) -> float: ...

    @deadline.setter
    def deadline(self, value: float) -> None: ...


class CallContext:
    """The attempts, tokens, waits, failures and deadline of one call.

    The retries, parts and hedges of a call share one context. Mechanisms read its attributes, and write only through
    its methods.

    Args:
        deadline: Seconds for the whole call; None for no limit.
        is_batched: Whether the deadline starts only when the first request is sent, as for a request of `rerank_many`,
            which may wait long in the queue.
    """

    __slots__ = (
        "_clock",
        "_is_extended",
        "_place",
        "_sent_at",
        "attempts",
        "backs_off_until",
        "deadline",
        "failure",
        "is_batched",
        "is_started",
        "throttled_seconds",
        "throttles",
        "tokens",
        "waited_out",
    )

    def __init__(self, deadline: float | None, *, is_batched: bool = False) -> None:
        self.deadline: float | None = deadline
        """Seconds for the whole call; None for no limit."""
        self.is_batched: bool = is_batched
        self.is_started: bool = not is_batched
        """Whether the deadline has started."""
        self.attempts: int = 0
        """HTTP requests sent."""
        self.tokens: int = 0
        """Tokens billed, as reported by the responses."""
        self.throttles: int = 0
        """429s received."""
        self.throttled_seconds: float = 0.0
        """The total seconds for which requests have waited for rate limits."""
        self.backs_off_until: float = 0.0
        """When the call's backoff after a 429 that counts as noise ends; 0 without a backoff."""
        self.failure: RerankError | None = None
        """The error of the last attempt."""
        self.waited_out: RerankError | None = None
        """The error to raise if the deadline passes while a request waits for the limits of its key."""
        self._clock: Clock | None = None
        self._is_extended = False
        self._place: int | None = None
        self._sent_at: dict[int, float] | None = None

    # The deadline

    def open(self, clock: Clock, now: float) -> None:
        """Set the deadline of `clock`; `request_admitted` starts that of a batched request."""
        self._clock = clock
        clock.deadline = now + self._seconds if self.is_started else math.inf

    def request_admitted(self, now: float) -> None:
        """Start the deadline, if it has not started: the limits have admitted a request."""
        if not self.is_started:
            self.is_started = True
            if self._clock is not None:
                self._clock.deadline = now + self._seconds

    @property
    def _seconds(self) -> float:
        return math.inf if self.deadline is None else self.deadline

    # Attempts

    def attempt_started(self, request: WireRequest, now: float) -> None:
        """Count an attempt that is sent."""
        self.attempts += 1
        if self._sent_at is not None:
            self._sent_at[id(request)] = now

    def answered(self, tokens: int) -> None:
        """Count the billed tokens of a response."""
        self.tokens += tokens

    def failed(self, error: RerankError) -> None:
        """Store the error of an attempt."""
        self.failure = error

    def watch(self, request: WireRequest) -> None:
        """Record when `request` is sent from now on, for `sent_at`."""
        if self._sent_at is None:
            self._sent_at = {}
        self._sent_at.pop(id(request), None)

    def sent_at(self, request: WireRequest) -> float | None:
        """Return when a watched request was last sent; None if it has not been sent."""
        return None if self._sent_at is None else self._sent_at.get(id(request))

    # Rate limits

    def take_place(self) -> int:
        """Return the call's place in the queue, which is assigned at its first wait, and kept."""
        if self._place is None:
            self._place = next(_places)
        return self._place

    def throttled(self) -> None:
        """Count a 429.

        The first one extends the deadline of a batched request by a minute, the time after which a sliding window is
        free again. Later ones do not: a server that always throttles must not block a batch forever.
        """
        self.throttles += 1
        if self.is_batched and self._clock is not None and not self._is_extended:
            self._is_extended = True
            self._clock.deadline += WINDOW_SECONDS

    def back_off(self, until: float) -> None:
        """Make the next request of the call wait."""
        self.backs_off_until = until

    def backed_off(self) -> None:
        """End the backoff."""
        self.backs_off_until = 0.0

    def waited(self, seconds: float) -> None:
        """Add a wait for rate limits."""
        self.throttled_seconds += seconds

    def gave_up_waiting(self, error: RateLimitError) -> None:
        """Store the error of a request that was still waiting when its call ended."""
        self.waited_out = error

    def forget_errors(self) -> None:
        """Drop the errors, whose frames refer to the call: a cycle that only the garbage collector frees."""
        self.failure = self.waited_out = None
