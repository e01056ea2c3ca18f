"""What one call has learnt so far, shared by all requests that are sent for it. Decisions alone, without a clock."""

import math
from itertools import count
from typing import Final, Protocol

from .._codec import WireRequest
from ..errors import RateLimitError, RerankError
from .sliding_window import WINDOW_SECONDS

_places: Final = count(1)


class Clock(Protocol):
    """What ends a call, such as a cancel scope."""

    @property
    def deadline(self) -> float: ...

    @deadline.setter
    def deadline(self, value: float) -> None: ...


class CallContext:
    """The attempts, tokens, waits, failures and deadline of one call.

    The retries, parts and hedges of a call share one. Mechanisms read its attributes, and write by its methods alone.

    Args:
        deadline: Seconds for the whole call; None for no limit.
        is_batched: Whether the deadline starts when the first request is sent, as for a request of `rerank_many`,
            which may wait long for its turn.
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
        """Whether the deadline runs."""
        self.attempts: int = 0
        """HTTP requests sent."""
        self.tokens: int = 0
        """Tokens that answers have said to be billed."""
        self.throttles: int = 0
        """Requests that were answered with a 429."""
        self.throttled_seconds: float = 0.0
        """Seconds for which its requests have waited for rate limits, added up."""
        self.backs_off_until: float = 0.0
        """When the backoff of the call ends that follows a 429 taken for noise; 0 if there is none."""
        self.failure: RerankError | None = None
        """How the last attempt has failed."""
        self.waited_out: RerankError | None = None
        """The error for a deadline that ends while a request waits for the limits of its key."""
        self._clock: Clock | None = None
        self._is_extended = False
        self._place: int | None = None
        self._sent_at: dict[int, float] | None = None

    # The deadline: it starts here, whoever starts it.

    def open(self, clock: Clock, now: float) -> None:
        """Start the deadline by `clock`; that of a batched request starts with `request_admitted`."""
        self._clock = clock
        clock.deadline = now + self._seconds if self.is_started else math.inf

    def request_admitted(self, now: float) -> None:
        """Start the deadline, if it does not run yet: the limits let a request through."""
        if not self.is_started:
            self.is_started = True
            if self._clock is not None:
                self._clock.deadline = now + self._seconds

    @property
    def _seconds(self) -> float:
        return math.inf if self.deadline is None else self.deadline

    # Attempts

    def attempt_started(self, request: WireRequest, now: float) -> None:
        """Count an attempt, when it is sent."""
        self.attempts += 1
        if self._sent_at is not None:
            self._sent_at[id(request)] = now

    def answered(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        self.tokens += tokens

    def failed(self, error: RerankError) -> None:
        """Keep the error of an attempt."""
        self.failure = error

    def watch(self, request: WireRequest) -> None:
        """Keep from now on when `request` is sent, for `sent_at`."""
        if self._sent_at is None:
            self._sent_at = {}
        self._sent_at.pop(id(request), None)

    def sent_at(self, request: WireRequest) -> float | None:
        """Return when a watched request was last sent; None if it was not yet."""
        return None if self._sent_at is None else self._sent_at.get(id(request))

    # Rate limits

    def take_place(self) -> int:
        """Return the place in the queue, which the call takes when it first has to wait, and keeps."""
        if self._place is None:
            self._place = next(_places)
        return self._place

    def throttled(self) -> None:
        """Count a 429.

        The first one gives a batched request a minute more, since that is what a window takes to be free again. There
        is no second minute: a server that throttles without end must not hold a batch for ever.
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
        """Count a wait for rate limits."""
        self.throttled_seconds += seconds

    def gave_up_waiting(self, error: RateLimitError) -> None:
        """Keep the error of a request that was still waiting when its call ended."""
        self.waited_out = error

    def forget_errors(self) -> None:
        """Drop the errors: their frames hold the call, which would be garbage in a cycle."""
        self.failure = self.waited_out = None
