"""The limit on requests in flight that a server names, and when to find out whether it still holds."""

import math
from typing import Final

_ANSWERS: Final = 100
"""Answers between two tries, so that no more than 1 % of the requests are refused for them."""
_SECONDS: Final = 30.0
_FEW_ANSWERS: Final = 50
"""Where requests are few: after so many seconds so many answers are enough."""
_FIRST_SECONDS: Final = 1.0
_AGE: Final = 4.0
"""The time between two tries is the age of what the server said, divided by this."""
_PROOF: Final = 3
"""Answers beyond the limit that prove it outdated. One may be chance: the server is free before its answer is here."""


class NamedCeiling:
    """The limit that a 429 has named; infinite as long as none has."""

    __slots__ = ("_answers", "_named_at", "_proofs", "limit", "tries_at")

    def __init__(self) -> None:
        self.limit: float = math.inf
        self.tries_at: float = math.inf
        """When one request more may be tried, if there were answers enough by then."""
        self._named_at = -math.inf
        self._answers = self._proofs = 0

    def name(self, limit: int, now: float) -> None:
        """Take the limit that a 429 names."""
        if limit != self.limit:
            self.limit, self._named_at, self.tries_at = limit, now, now + _FIRST_SECONDS
        self._proofs = 0

    def answered(self, position: int) -> None:
        """Count an answer to what was the `position`-th request in flight; some beyond the limit refute it."""
        self._answers += 1
        if position > self.limit:
            self._proofs += 1
            if self._proofs >= _PROOF:
                self.limit = math.inf

    def try_more(self, now: float) -> bool:
        """Return whether one request more is to be tried now; if so, the next try is later."""
        needed = _FEW_ANSWERS if now >= self.tries_at + _SECONDS else _ANSWERS
        if now < self.tries_at or self._answers < needed:
            return False
        self.tries_at = now + min(_SECONDS, max(_FIRST_SECONDS, (now - self._named_at) / _AGE))
        self._answers = 0
        return True
