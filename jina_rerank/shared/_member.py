"""What one process knows about the shared limits, and what it has to report. No I/O."""

import uuid
from collections.abc import Sequence

from .._stack.limit_store import NO_FOREIGN_USE, ForeignUse, Kind, Permit
from ..limits import RateLimit
from ._exchange import LimitUpdates, ReserveReply, ReserveRequest, share_of, stated_limits
from ._usage_window import UsageWindow


class Member:
    """The requests of one process, and the last answer of the server."""

    def __init__(self, stated: RateLimit | None, *, window: float, lease: float) -> None:
        self._stated = stated_limits(stated)
        self.lease: float = lease
        """Seconds after which the slots of a process are taken back that reports nothing."""
        self._member = uuid.uuid4().hex[:12]
        self._usage = UsageWindow(window)
        self._limit_updates = LimitUpdates()
        self._unconfirmed = LimitUpdates()
        self._news: dict[int, tuple[int, int]] = {}
        """Use that is being reported: repeated under the same number until an answer comes."""
        self._news_seq = 0
        self._seq = 0
        self.held: int = 0
        """Requests in flight."""
        self.is_reported: bool = True
        """Whether nothing has happened since the last report."""
        self.last: ReserveReply = ReserveReply("", limits=self._stated)

    def grant(self, now: float, tokens: int, *, local: bool) -> Permit:
        """Return a permit, counted."""
        permit = Permit(now, tokens, local=local)
        self.held += 1
        self._usage.add(now, 1, tokens, counted=not local)
        self.is_reported = self.is_reported and not local
        return permit

    def release(self, permit: Permit, *, tokens: int | None, counted: bool) -> None:
        """Take a permit back, with what it has cost in the end."""
        if permit.released:
            return
        permit.released = True
        self.held -= 1
        self.is_reported = False
        requests = 0 if counted else -1
        difference = -permit.tokens if not counted else 0 if tokens is None else tokens - permit.tokens
        if requests or difference:
            self._usage.add(permit.at, requests, difference, counted=False)

    def learn(self, kind: Kind | None, limit: int | None, remaining: int, pause: float) -> None:
        """Remember what the API has said about its limits, for the next report."""
        self._limit_updates.add(kind, limit, remaining, pause)
        self.is_reported = False

    def report(self, now: float, asked: Sequence[int], *, want: int, leave: bool) -> ReserveRequest:
        """Return the next report. What an earlier one has said and no answer has confirmed is said again."""
        if not self._news:
            self._news = self._usage.take_news()
            self._news_seq += 1
        self._unconfirmed.add_all(self._limit_updates)
        self._limit_updates = LimitUpdates()
        self._seq += 1
        self.is_reported = True
        return ReserveRequest(
            member=self._member,
            seq=self._seq,
            epoch=self.last.epoch,
            held=self.held,
            use=self._usage.by_age(self._news, now),
            use_seq=self._news_seq,
            asked=asked,
            want=want,
            stated=self._stated,
            limit_updates=self._unconfirmed,
            window=self._usage.window,
            lease=self.lease,
            leave=leave,
        )

    def receive(self, answer: ReserveReply) -> bool:
        """Take the answer to the last report. Return whether it is one; otherwise the report has to be made again."""
        if answer.restate:
            self.last = ReserveReply(answer.epoch, limits=self.last.limits)
            self._usage.restate()
            self._news = {}
        if answer.restate or answer.stale:
            return False
        self.last, self._news, self._unconfirmed = answer, {}, LimitUpdates()
        return True

    def own(self, now: float) -> tuple[int, int]:
        """Return the requests and tokens of this process in the window."""
        return self._usage.used(now)

    def foreign(self, now: float) -> ForeignUse:
        """Return what others use, as of the last answer."""
        last = self.last
        if not last.epoch:
            return NO_FOREIGN_USE
        requests, tokens = self.own(now)
        others = (last.requests - requests, last.tokens - tokens, last.in_flight - self.held)
        return ForeignUse(*(max(0, figure) for figure in others))

    @property
    def members(self) -> int:
        """Live processes. Two at least: who shares limits is not alone, even if nobody was seen."""
        return max(2, self.last.members)

    def share(self) -> RateLimit:
        """Return the part of the last known limits that is left to this process while the server does not answer."""
        return share_of(self.last.limits, self.members)
