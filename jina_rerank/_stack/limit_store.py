"""The interface of a store through which processes share the limits of a key."""

from dataclasses import dataclass
from typing import Final, Protocol

from ..limits import RateLimit
from .rate_limit_errors import Kind

__all__ = ["NO_FOREIGN_USE", "ForeignUse", "Kind", "LimitStore", "Permit", "SharedLimits"]


@dataclass(frozen=True, slots=True)
class ForeignUse:
    """The use of a key's limits by others: other processes, and programs that do not use the store."""

    requests: int = 0
    """Requests in the sliding window."""
    tokens: int = 0
    """Tokens in the sliding window."""
    in_flight: int = 0


NO_FOREIGN_USE: Final = ForeignUse()


class Permit:
    """The reservation of one request, which `LimitStore.release` ends."""

    __slots__ = ("at", "local", "released", "tokens")

    def __init__(self, at: float, tokens: int, *, local: bool) -> None:
        self.at: float = at
        """Event-loop time at which it was granted."""
        self.tokens: int = tokens
        self.local: bool = local
        """Whether the store did not respond, so that only the local limiter has admitted the request."""
        self.released: bool = False


class LimitStore(Protocol):
    """The limits of one key, shared with other processes, for one event loop.

    A request passes the local limiter first, and the store second. A failure of the store raises no exception.
    """

    @property
    def share(self) -> RateLimit | None:
        """None while the store responds. Otherwise this process's share of the last known limits: the limit divided by
        the number of live processes, never all of it, and at least 1."""
        ...  # pyright wants a body where something is returned

    @property
    def foreign(self) -> ForeignUse:
        """The use by others, as of the last response of the store."""
        ...  # as above

    async def acquire(self, tokens: int, latest: float) -> Permit | float:
        """Wait until the shared limits have room, and reserve one request of about `tokens`.

        Cancellation leaves nothing reserved. If the store does not respond in time, the permit is a local one.

        Args:
            latest: Event-loop time at which the request must have started; inf for no limit.

        Returns:
            The permit, or the seconds until there may be room if that is after `latest`.
        """
        ...  # as above

    def release(self, permit: Permit, *, tokens: int | None = None, counted: bool = True) -> None:
        """Release the slot of a finished request. Does not wait.

        Args:
            tokens: The billed tokens, if known, which replace the reserved ones.
            counted: Whether the server counts the request; False after a 429.
        """

    def learn(self, kind: Kind | None, limit: int | None, *, remaining: int = 0, pause: float = 0.0) -> None:
        """Share the limit in a 429. Call it before `release(permit, counted=False)`. Does not wait.

        Args:
            kind: The unit of the limit, if known.
            limit: The limit, if the server names it. The store attributes the difference to its own count to programs
                that do not use it.
            remaining: The most that may remain of the limit: 0 after a 429 for requests, the tokens of the request
                after a 429 for tokens.
            pause: Seconds for which no process may send (Retry-After).
        """

    async def aclose(self) -> None:
        """Leave the store and release all slots, with the same timeout as for other operations. Afterwards `acquire`
        returns local permits."""


class SharedLimits(Protocol):
    """A factory of stores, for `RerankClient(shared_limits=...)`."""

    def open(self, scope: str, stated: RateLimit | None) -> LimitStore:
        """Return the store for one key on one event loop. Does no I/O.

        Args:
            scope: A name of the key that does not contain it: the origin and a SHA-256 of the key.
            stated: The configured limits. The lowest of those of all processes counts.
        """
        ...  # as above
