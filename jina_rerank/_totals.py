"""The total cost of calls, for a client and for each batch."""

from dataclasses import dataclass
from threading import get_ident

from .catalog import Model


@dataclass(frozen=True, slots=True)
class Totals:
    """A snapshot of the total cost."""

    requests: int = 0
    """Rankings requested, including failed ones. A call that was rejected before it was sent does not count."""
    attempts: int = 0
    """HTTP requests sent for them, including retries, throttled requests and those of cancelled calls."""
    tokens: int = 0
    """Tokens billed, as far as the server reports them."""
    price: float = 0.0
    """US dollars for these tokens at the hosted API's list price; 0 for models that the catalogue does not list. For
    self-hosted servers it is the hosted API's price."""


def list_price(known: Model | None, tokens: int) -> float:
    """Return the price in US dollars of `tokens`; 0.0 for a model that the catalogue does not list."""
    return 0.0 if known is None else known.price_per_million_tokens * tokens / 1_000_000


@dataclass(slots=True)
class _Sum:
    """The totals of one thread."""

    requests: int = 0
    attempts: int = 0
    tokens: int = 0
    price: float = 0.0


class UsageCounter:
    """A counter of totals for any number of threads.

    Each thread changes only its own sum, so there is no lock that a fork could leave held.
    """

    __slots__ = ("_parent", "_sums")

    def __init__(self, parent: "UsageCounter | None" = None) -> None:
        self._parent = parent
        self._sums: dict[int, _Sum] = {}

    def add(self, *, requests: int, attempts: int, tokens: int, price: float) -> None:
        """Add the cost of a call to this counter and its parent."""
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
        """The sum of all threads."""
        sums = list(self._sums.values())
        return Totals(
            requests=sum(own.requests for own in sums),
            attempts=sum(own.attempts for own in sums),
            tokens=sum(own.tokens for own in sums),
            price=sum(own.price for own in sums),
        )
