"""How much a key may have of something: it falls at a refusal and recovers. Decisions alone, without a clock."""

import math
from typing import Final

DOUBLING_SECONDS: Final = 0.1
_PATIENCE: Final = 1.0
_LONGEST_PATIENCE: Final = 64.0


class Allowance:
    """A limit that is stated, named by the server, or felt for.

    Until the first refusal an `opening` one doubles every 100 ms while it is used up. After a refusal it grows by a
    tenth each time that its patience has passed: a second at first, twice as long after every refusal up to about a
    minute, half as long after a growth that was borne. So those who share a key without knowing of each other find
    their shares, and rarely try for more.
    """

    __slots__ = ("_bearing", "_changed", "_fell", "_patience", "_stated", "ceiling", "opening", "value")

    def __init__(self, value: float = math.inf, *, ceiling: float = math.inf, opening: bool = False) -> None:
        self.value: float = value
        """What is allowed now."""
        self.ceiling: float = ceiling
        """What it grows to: the limit where that is known."""
        self.opening: bool = opening
        self._stated = math.inf
        self._changed: float | None = None
        self._fell = -math.inf
        self._patience = _PATIENCE
        self._bearing = False

    def state(self, limit: int) -> None:
        """Takes a limit that a caller states. Of several the lowest counts."""
        self._stated = min(self._stated, limit)
        self.ceiling = self._stated if self.opening else min(self.ceiling, self._stated)
        self.value = self.ceiling if self.opening else min(self.value, self._stated)

    def open_at(self, number: int) -> None:
        """Takes a number that a caller wants from the start; it has no effect once there was a refusal."""
        if self.opening:
            self.ceiling = min(self._stated, max(self.ceiling, number))
            self.value = min(self._stated, max(self.value, number))

    def name(self, limit: int) -> None:
        """Takes the limit that a server names."""
        self.opening = False
        self.ceiling = min(self._stated, limit)
        self.value = min(self.value, self.ceiling)

    def fall(self, now: float, *, to: float, sent: float) -> None:
        """Takes a refusal of what was sent at `sent`: no more than `to` is allowed, but always one."""
        self.opening = False
        if sent < self._fell or to >= self.value:
            return  # it was sent before the last fall, which it may have been a cause of; or it is explained
        self.value = max(1, math.floor(to))
        self._changed = self._fell = now
        self._patience = min(_LONGEST_PATIENCE, 2 * self._patience)
        self._bearing = False

    def grow(self, now: float) -> float:
        """Grows if it is time to. It is used up, and somebody waits. Returns when it may grow next."""
        if self.value >= self.ceiling:
            return math.inf
        if self._changed is None:
            self._changed = now
        if now >= self._changed + self._pace:
            self._changed = now
            if self.opening:
                self.value = min(self.ceiling, 2 * self.value)
            else:
                self.value = min(self.ceiling, self.value + max(1, self.value // 10))
                if self._bearing:
                    self._patience = max(_PATIENCE, self._patience / 2)
                self._bearing = True
        return self._changed + self._pace if self.value < self.ceiling else math.inf

    @property
    def _pace(self) -> float:
        return DOUBLING_SECONDS if self.opening else self._patience
