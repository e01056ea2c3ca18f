"""What calls have cost: added up for a client, and for each batch."""

from dataclasses import dataclass
from threading import get_ident

from .catalog import Model


@dataclass(frozen=True, slots=True)
class Totals:
    """What was spent up to a moment."""

    requests: int = 0
    """Rankings asked for, those that failed included. What was refused before it was sent is not counted."""
    attempts: int = 0
    """HTTP requests sent for them: also retries, refused ones and those of cancelled calls."""
    tokens: int = 0
    """Tokens billed, as far as the server tells them in its answers."""
    price: float = 0.0
    """US dollars for these tokens at the hosted API's list price; a model that the catalogue does not list counts as
    free. A server of your own bills nothing: there it is what the hosted API would have."""


def list_price(known: Model | None, tokens: int) -> float:
    """Return US dollars for `tokens` of a model of the catalogue; 0.0 for a model that it does not list."""
    return 0.0 if known is None else known.price_per_million_tokens * tokens / 1_000_000


@dataclass(slots=True)
class _Sum:
    """Totals that one thread adds to."""

    requests: int = 0
    attempts: int = 0
    tokens: int = 0
    price: float = 0.0


class UsageCounter:
    """Adds up totals, from any number of threads.

    Each thread has a sum of its own, which it alone changes: there is no lock that a fork could leave taken.
    """

    __slots__ = ("_parent", "_sums")

    def __init__(self, parent: "UsageCounter | None" = None) -> None:
        self._parent = parent
        self._sums: dict[int, _Sum] = {}

    def add(self, *, requests: int, attempts: int, tokens: int, price: float) -> None:
        """Add what a call has cost to this counter, and to the one it is part of."""
        thread = get_ident()
        own = self._sums.get(thread)
        if own is None:
            own = self._sums[thread] = _Sum()
        own.requests += requests
        own.attempts += attempts
        own.tokens += tokens
        own.price += price
        if self._parent is not None:
            self._parent.add(requests=requests, attempts=attempts, tokens=tokens, price=price)

    @property
    def totals(self) -> Totals:
        """All that was added up to now."""
        sums = list(self._sums.values())
        return Totals(
            requests=sum(own.requests for own in sums),
            attempts=sum(own.attempts for own in sums),
            tokens=sum(own.tokens for own in sums),
            price=sum(own.price for own in sums),
        )
