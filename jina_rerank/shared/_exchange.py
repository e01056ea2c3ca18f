"""The JSON messages between a process and the script. No I/O."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

from .._stack.limit_store import Kind
from .._typeguards import is_object
from ..limits import RateLimit
from ._usage_window import BUCKETS

SCRIPT: Final = files("jina_rerank.shared").joinpath("limits.lua").read_text(encoding="utf-8")
SCRIPT_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
KINDS: Final[tuple[Kind, ...]] = ("requests", "tokens", "concurrency")


@dataclass(slots=True)
class LimitUpdates:
    """The API's statements about its limits since the last exchange."""

    limits: dict[Kind, tuple[int, int]] = field(default_factory=dict[Kind, tuple[int, int]])
    """The limit of each kind, and how much of it remained."""
    pause: float = 0.0
    """Seconds."""

    def add(self, kind: Kind | None, limit: int | None, remaining: int, pause: float) -> None:
        """Add one; the latest limit of a kind counts, and the longest pause."""
        if kind is not None and limit is not None:
            self.limits[kind] = (limit, remaining)
        self.pause = max(self.pause, pause)

    def add_all(self, later: "LimitUpdates") -> None:
        """Add those of `later`."""
        self.limits.update(later.limits)
        self.pause = max(self.pause, later.pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveRequest:
    """One request to the script: the use that a process reports, and the permits that it asks for."""

    member: str
    seq: int
    """Sequence number of the exchange: the script ignores exchanges that arrive out of order."""
    epoch: str
    """The generation of the shared state; empty before the first reply."""
    held: int
    """Requests in flight. A total, so that a lost exchange causes no drift."""
    use: Sequence[tuple[int, int, int]]
    """Age in milliseconds, requests and tokens of the use that the script has not counted yet."""
    use_seq: int
    """Sequence number of `use`, which is repeated until a reply arrives, and counted once."""
    asked: Sequence[int]
    """Tokens of the waiting requests, in order."""
    want: int
    """The number of waiting requests, including those beyond `asked`."""
    stated: dict[str, int]
    limit_updates: LimitUpdates
    window: float
    lease: float
    leave: bool = False

    def encode(self) -> str:
        """Return the argument of the script."""
        return json.dumps(
            {
                "member": self.member,
                "seq": self.seq,
                "epoch": self.epoch,
                "held": self.held,
                "use": self.use,
                "use_seq": self.use_seq,
                "ask": self.asked,
                "want": self.want,
                "stated": self.stated,
                "learn": [(kind, *limit) for kind, limit in self.limit_updates.limits.items()],
                "pause": round(self.limit_updates.pause * 1000),
                "window": round(self.window * 1000),
                "buckets": BUCKETS,
                "lease": round(self.lease * 1000),
                "leave": self.leave,
            }
        )


@dataclass(frozen=True, slots=True)
class ReserveReply:
    """The reply of the script."""

    epoch: str
    restate: bool = False
    """The shared state is new. Nothing was counted, and the process must report all its use again."""
    stale: bool = False
    """The script has already received this exchange, or a later one. It did nothing."""
    granted: int = 0
    """The number of permits granted, for the first of the asked requests."""
    wait: float = 0.0
    """Seconds until the next request may be sent, as far as known."""
    asks_in: float = 0.0
    """Seconds after which to ask again."""
    requests: int = 0
    tokens: int = 0
    in_flight: int = 0
    members: int = 1
    """Live processes, this one included."""
    waiting: int = 0
    """Waiting processes, this one included."""
    limits: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def decode(cls, values: object) -> "ReserveReply":
        """Return the reply decoded from JSON.

        Raises:
            TypeError: The value is not a reply of this script.
        """
        if not is_object(values):
            raise TypeError("the script's reply is not an object")
        seconds = {name: values.pop(name, 0) / 1000 for name in ("wait", "asks_in")}
        return cls(**values, **seconds)


def stated_limits(limit: RateLimit | None) -> dict[str, int]:
    """Return the configured limits by kind."""
    if limit is None:
        return {}
    figures = (limit.requests_per_minute, limit.tokens_per_minute, limit.concurrency)
    return {kind: figure for kind, figure in zip(KINDS, figures, strict=True) if figure is not None}


def share_of(limits: dict[str, int], members: int) -> RateLimit:
    """Return an equal share of the limits for one of the members: at least 1 of each limit."""
    parts = {kind: max(1, int(limit) // members) for kind, limit in limits.items()}
    return RateLimit(
        requests_per_minute=parts.get("requests"),
        tokens_per_minute=parts.get("tokens"),
        concurrency=parts.get("concurrency"),
    )
