"""Parsing of the limit that a 429 names, from its code and the figures in its text."""

import re
from typing import Final, Literal, NamedTuple

from ..errors import RateLimitError

Kind = Literal["concurrency", "requests", "tokens"]
"""The unit of a limit: requests in flight, requests per minute, or tokens per minute."""


class NamedLimit(NamedTuple):
    """The limit that a 429 names."""

    kind: Kind | None
    """The unit of the limit; None if the server does not name it."""
    limit: int | None
    """The limit itself; None if the server does not name it."""


def parse_rate_limit(error: RateLimitError) -> NamedLimit:
    """Return the limit that a 429 names, as in `2/2 concurrent requests` or `100/100 requests per minute`."""
    # Dates and addresses match too, so figures with a known unit take precedence.
    found = max(
        _FIGURES_PATTERN.finditer(error.message), key=lambda figures: figures["unit"] in _KIND_OF_UNIT, default=None
    )
    kind = _KIND_OF_CODE.get(error.code or "") or (_KIND_OF_UNIT.get(found["unit"]) if found else None)
    limit = int(found["limit"].replace(",", "")) if kind and found else 0
    return NamedLimit(kind, limit or None)


_FIGURES_PATTERN: Final = re.compile(r"[0-9][0-9,]{0,14}\s*/\s*(?P<limit>[0-9][0-9,]{0,14})(?:\s+(?P<unit>\w+ \w+))?")
_KIND_OF_CODE: Final[dict[str, Kind]] = {
    "RATE_CONCURRENCY_LIMIT_EXCEEDED": "concurrency",
    "RATE_REQUEST_LIMIT_EXCEEDED": "requests",
    "RATE_TOKEN_LIMIT_EXCEEDED": "tokens",
}
_KIND_OF_UNIT: Final[dict[str | None, Kind]] = {
    "concurrent requests": "concurrency",
    "requests per": "requests",
    "tokens per": "tokens",
}
