"""What was sent in the last minute, and how the server counts its tokens: counts alone, without a clock."""

import math
from collections import deque
from typing import Final

MINUTE: Final = 61.0
"""Seconds for which a request counts. The server's minute begins when the request arrives there: the second more is
for the way, so that a limit that is known is not tripped again."""
STEP: Final = 0.1
"""What is sent within so many seconds is one entry: memory is bounded, however much is sent."""


class Entry:
    """What was sent at about one time."""

    __slots__ = ("ends", "requests", "tokens")

    def __init__(self, ends: float) -> None:
        self.ends: float = ends
        """From then on it does not count."""
        self.requests: int = 0
        self.tokens: int = 0


class Minute:
    """Requests and tokens of the last minute."""

    __slots__ = ("_entries", "requests", "tokens")

    def __init__(self) -> None:
        self.requests: int = 0
        self.tokens: int = 0
        self._entries: deque[Entry] = deque()

    def add(self, now: float, tokens: int) -> Entry:
        """Counts a request; the entry is for `correct`."""
        entry = self._entries[-1] if self._entries else None
        if entry is None or now >= entry.ends - MINUTE + STEP:
            self.forget(now)
            entry = Entry(now + MINUTE)
            self._entries.append(entry)
        self.correct(entry, 1, tokens)
        return entry

    def correct(self, entry: Entry, requests: int, tokens: int) -> None:
        """Adds to an entry, or takes from it. What is forgotten changes nothing any more."""
        if self._entries and entry.ends >= self._entries[0].ends:
            entry.requests += requests
            entry.tokens += tokens
            self.requests += requests
            self.tokens += tokens

    def forget(self, now: float) -> None:
        """Takes out what does not count any more."""
        while self._entries and now >= self._entries[0].ends:
            entry = self._entries.popleft()
            self.requests -= entry.requests
            self.tokens -= entry.tokens

    def at_most(self, *, requests: float = math.inf, tokens: float = math.inf) -> float:
        """The time from which no more than so much counts, if nothing is sent."""
        when = -math.inf
        requests_left, tokens_left = self.requests, self.tokens
        for entry in self._entries:
            if requests_left <= requests and tokens_left <= tokens:
                break
            requests_left -= entry.requests
            tokens_left -= entry.tokens
            when = entry.ends
        return when
