"""The use of one process within the sliding window, and the part that the store has not counted yet. No I/O."""

from typing import Final

BUCKETS: Final = 122
"""The number of buckets of a window: half a second each, for a window of 61 s."""


class UsageWindow:
    """Requests and tokens in time buckets. The number of buckets bounds the memory."""

    __slots__ = ("_size", "_uncounted", "_used", "window")

    def __init__(self, window: float) -> None:
        self.window: float = window
        self._size: float = window / BUCKETS
        self._used: dict[int, tuple[int, int]] = {}
        self._uncounted: dict[int, tuple[int, int]] = {}

    def add(self, at: float, requests: int, tokens: int, *, counted: bool) -> None:
        """Count use at the time `at`.

        Args:
            counted: Whether the store has already counted it.
        """
        bucket = int(at // self._size)
        _add(self._used, bucket, requests, tokens)
        if not counted:
            _add(self._uncounted, bucket, requests, tokens)

    def used(self, now: float) -> tuple[int, int]:
        """Return the requests and tokens within the window."""
        self._expire(now)
        return sum(use[0] for use in self._used.values()), sum(use[1] for use in self._used.values())

    def take_uncounted(self) -> dict[int, tuple[int, int]]:
        """Return the use that the store has not counted, and mark it as counted."""
        uncounted, self._uncounted = self._uncounted, {}
        return uncounted

    def restate(self) -> None:
        """Mark all use as uncounted, to report it again to a store that has lost it."""
        self._uncounted = dict(self._used)

    def by_age(self, buckets: dict[int, tuple[int, int]], now: float) -> list[tuple[int, int, int]]:
        """Return age in milliseconds, requests and tokens of each bucket within the window."""
        self._expire(now)
        oldest = self._oldest(now)
        return [
            (max(0, round((now - (bucket + 1) * self._size) * 1000)), requests, tokens)
            for bucket, (requests, tokens) in buckets.items()
            if bucket >= oldest
        ]

    def _oldest(self, now: float) -> int:
        return int((now - self.window) // self._size)

    def _expire(self, now: float) -> None:
        oldest = self._oldest(now)
        for buckets in (self._used, self._uncounted):
            for bucket in [bucket for bucket in buckets if bucket < oldest]:
                del buckets[bucket]


def _add(buckets: dict[int, tuple[int, int]], bucket: int, requests: int, tokens: int) -> None:
    before = buckets.get(bucket, (0, 0))
    after = (before[0] + requests, before[1] + tokens)
    if after == (0, 0):
        buckets.pop(bucket, None)
    else:
        buckets[bucket] = after
