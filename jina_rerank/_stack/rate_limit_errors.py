"""Parse what a 429 says of the limits of a key: its code, and the figures in its text."""

import re
from typing import Final, Literal, NamedTuple

from ..errors import RateLimitError

Kind = Literal["concurrency", "requests", "tokens"]
"""What a limit counts: requests in flight, requests per minute, tokens per minute."""


class NamedLimit(NamedTuple):
    """The limit that a 429 names."""

    kind: Kind | None
    """What the limit counts; None if the server does not say."""
    limit: int | None
    """The limit itself; None if the server does not say."""


def parse_rate_limit(error: RateLimitError) -> NamedLimit:
    """Return the limit that a 429 names, as in `2/2 concurrent requests` or `100/100 requests per minute`."""
    # Dates and addresses look like figures too: those with a unit take precedence.
    found = max(_FIGURES.finditer(error.message), key=lambda figures: figures["unit"] in _UNITS, default=None)
    kind = _CODES.get(error.code or "") or (_UNITS.get(found["unit"]) if found else None)
    limit = int(found["limit"].replace(",", "")) if kind and found else 0
    return NamedLimit(kind, limit or None)


_FIGURES: Final = re.compile(r"[0-9][0-9,]{0,14}\s*/\s*(?P<limit>[0-9][0-9,]{0,14})(?:\s+(?P<unit>\w+ \w+))?")
_CODES: Final[dict[str, Kind]] = {
    "RATE_CONCURRENCY_LIMIT_EXCEEDED": "concurrency",
    "RATE_REQUEST_LIMIT_EXCEEDED": "requests",
    "RATE_TOKEN_LIMIT_EXCEEDED": "tokens",
}
_UNITS: Final[dict[str | None, Kind]] = {
    "concurrent requests": "concurrency",
    "requests per": "requests",
    "tokens per": "tokens",
}
