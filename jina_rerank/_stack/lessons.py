"""What a refusal says of the limits of a key: by its code, or by its text."""

import re
from typing import Final, Literal, NamedTuple

from ..errors import RateLimitError

Kind = Literal["concurrency", "requests", "tokens"]


class Lesson(NamedTuple):
    """What a refusal teaches."""

    kind: Kind | None
    """The limit that was met; None if it is not told."""
    limit: int | None
    """The limit's figure; None if it is not told."""


def lesson(error: RateLimitError) -> Lesson:
    """What the server says by its code and its text, as in `2/2 concurrent requests`, `100/100 requests per minute`."""
    # Dates and addresses look like figures too: those with a unit go before.
    found = max(_FIGURES.finditer(error.message), key=lambda figures: figures["unit"] in _UNITS, default=None)
    kind = _CODES.get(error.code or "") or (_UNITS.get(found["unit"]) if found else None)
    limit = int(found["limit"].replace(",", "")) if kind and found else 0
    return Lesson(kind, limit or None)


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
