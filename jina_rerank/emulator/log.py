"""The emulator's request log: counters, and the last requests without their texts."""

import logging
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Final

_MAX_ENTRIES: Final = 1_000
_LOG: Final = logging.getLogger(__name__.rpartition(".")[0] + ".requests")


@dataclass(slots=True)
class RequestLogEntry:
    """One request to rerank. A field is None if its value was not known when the request ended."""

    at: float
    """Seconds on the event loop's clock."""
    seconds: float | None = None
    """The time until the response was ready."""
    account: str | None = None
    """A digest of the key; `everybody` without keys."""
    model: str | None = None
    documents: int | None = None
    tokens: int | None = None
    status: int | None = None
    """None if the client disconnected before the response."""
    code: str | None = None
    """The API's code of the error."""
    fault: str | None = None
    """The kind of the injected fault."""

    def __str__(self) -> str:
        """Return one line without key and texts."""
        parts = [
            str(self.status or "unanswered"),
            self.code,
            f"fault={self.fault}" if self.fault else None,
            self.model,
            None if self.documents is None else f"documents={self.documents}",
            None if self.tokens is None else f"tokens={self.tokens}",
            None if self.seconds is None else f"{1000 * self.seconds:.1f} ms",
            f"key={self.account}" if self.account else None,
        ]
        return " ".join(filter(None, parts))


class RequestLog:
    """Counters of all requests, and the last thousand of them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._statuses = Counter[str]()
        self._codes = Counter[str]()
        self._faults = Counter[str]()
        self._tokens = 0
        self._last = deque[RequestLogEntry](maxlen=_MAX_ENTRIES)

    def add(self, entry: RequestLogEntry) -> None:
        """Count and log a finished request."""
        self._statuses[str(entry.status or "unanswered")] += 1
        if entry.code:
            self._codes[entry.code] += 1
        if entry.fault:
            self._faults[entry.fault] += 1
        if entry.status == 200:
            self._tokens += entry.tokens or 0
        self._last.append(entry)
        _LOG.info("%s", entry)

    def to_dict(self) -> dict[str, object]:
        """Return JSON data: `requests`, counted by status, code and fault; `total_tokens` of status 200; `last`."""
        return {
            "requests": self._statuses.total(),
            "by_status": dict(self._statuses),
            "by_code": dict(self._codes),
            "by_fault": dict(self._faults),
            "total_tokens": self._tokens,
            "last": [asdict(entry) for entry in self._last],
        }
