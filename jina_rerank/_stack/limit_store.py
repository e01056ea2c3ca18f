"""What the rate limiter asks of a store through which processes share the limits of a key."""

from dataclasses import dataclass
from typing import Final, Protocol

from ..limits import RateLimit
from .rate_limit_errors import Kind

__all__ = ["NO_FOREIGN_USE", "ForeignUse", "Kind", "LimitStore", "Permit", "SharedLimits"]


@dataclass(frozen=True, slots=True)
class ForeignUse:
    """What others use of the limits of a key: other processes, and programs that do not take part in the store."""

    requests: int = 0
    """Requests in the sliding window."""
    tokens: int = 0
    """Tokens in the sliding window."""
    in_flight: int = 0


NO_FOREIGN_USE: Final = ForeignUse()


class Permit:
    """The reservation of one request. `LimitStore.release` takes it back, once."""

    __slots__ = ("at", "local", "released", "tokens")

    def __init__(self, at: float, tokens: int, *, local: bool) -> None:
        self.at: float = at
        """Event-loop time at which it was granted."""
        self.tokens: int = tokens
        self.local: bool = local
        """Whether the store did not answer, so that nothing but the local limiter has allowed this request."""
        self.released: bool = False


class LimitStore(Protocol):
    """The limits of one key, shared with other processes, as seen from one event loop.

    The local limiter comes first and the store second. None of the methods raises because of the store.
    """

    @property
    def share(self) -> RateLimit | None:
        """None while the store answers. Otherwise the part of the last known limits that is left to this process: the
        limit over the number of live processes, never all of it, and at least 1."""
        ...  # pyright wants a body where something is returned

    @property
    def foreign(self) -> ForeignUse:
        """What others use, as of the last answer."""
        ...  # as above

    async def acquire(self, tokens: int, latest: float) -> Permit | float:
        """Reserve one request of about `tokens`. Waits until the shared limits have room.

        A cancelled call leaves nothing reserved. If the store does not answer in time, the permit is a local one.

        Args:
            latest: Event-loop time at which the request must have started; inf for no limit.

        Returns:
            The permit; or the seconds until there may be room, if that is after `latest`.
        """
        ...  # as above

    def release(self, permit: Permit, *, tokens: int | None = None, counted: bool = True) -> None:
        """Give the slot of a request back that is over. Does not wait.

        Args:
            tokens: What was billed, if known. It replaces what was reserved.
            counted: Whether the server counts the request; not so after a 429.
        """

    def learn(self, kind: Kind | None, limit: int | None, *, remaining: int = 0, pause: float = 0.0) -> None:
        """Share what the server says about its limits. Call it before `release(permit, counted=False)`. Does not wait.

        Args:
            kind: What the limit counts, if known.
            limit: The limit, if the server names it. The difference to what the store has counted is taken for the
                use of programs that do not take part.
            remaining: How much of the limit is, or may be, left: 0 after a 429 for requests, the tokens of the request
                after a 429 for tokens.
            pause: Seconds for which no process may send (Retry-After).
        """

    async def aclose(self) -> None:
        """Leave the store: give all slots back. Waits for the store no longer than for any call. Afterwards `acquire`
        returns local permits."""


class SharedLimits(Protocol):
    """Opens stores: what `RerankClient(shared_limits=...)` takes."""

    def open(self, scope: str, stated: RateLimit | None) -> LimitStore:
        """Return the store for one key on one event loop. Does no I/O.

        Args:
            scope: Names the key without containing it: the origin and a SHA-256 of the key.
            stated: Limits that the caller has configured. Of those of all processes the lowest counts.
        """
        ...  # as above
