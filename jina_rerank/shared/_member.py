"""One process's view of the shared limits, and its reports. No I/O."""

import uuid
from collections.abc import Sequence

from .._stack.limit_store import NO_FOREIGN_USE, ForeignUse, Kind, Permit
from ..limits import RateLimit
from ._exchange import LimitUpdates, ReserveReply, ReserveRequest, share_of, stated_limits
from ._usage_window import UsageWindow


class Member:
    """The requests of one process, and the last reply of the server."""

    def __init__(self, stated: RateLimit | None, *, window: float, lease: float) -> None:
        self._stated = stated_limits(stated)
        self.lease: float = lease
        """Seconds after which the server frees the slots of a process that sends no reports."""
        self._member = uuid.uuid4().hex[:12]
        self._usage = UsageWindow(window)
        self._limit_updates = LimitUpdates()
        self._unconfirmed = LimitUpdates()
        self._pending_use: dict[int, tuple[int, int]] = {}
        """Use in the current report, repeated under the same sequence number until a reply arrives."""
        self._use_seq = 0
        self._seq = 0
        self.held: int = 0
        """Requests in flight."""
        self.is_reported: bool = True
        """Whether nothing has changed since the last report."""
        self.last: ReserveReply = ReserveReply("", limits=self._stated)

    def grant(self, now: float, tokens: int, *, local: bool) -> Permit:
        """Count a request and return its permit."""
        permit = Permit(now, tokens, local=local)
        self.held += 1
        self._usage.add(now, 1, tokens, counted=not local)
        self.is_reported = self.is_reported and not local
        return permit

    def release(self, permit: Permit, *, tokens: int | None, counted: bool) -> None:
        """Take a permit back, and correct its tokens to the actual cost."""
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
        """Record the API's statement about a limit for the next report."""
        self._limit_updates.add(kind, limit, remaining, pause)
        self.is_reported = False

    def report(self, now: float, asked: Sequence[int], *, want: int, leave: bool) -> ReserveRequest:
        """Return the next report, which repeats everything that no reply has confirmed."""
        if not self._pending_use:
            self._pending_use = self._usage.take_uncounted()
            self._use_seq += 1
        self._unconfirmed.add_all(self._limit_updates)
        self._limit_updates = LimitUpdates()
        self._seq += 1
        self.is_reported = True
        return ReserveRequest(
            member=self._member,
            seq=self._seq,
            epoch=self.last.epoch,
            held=self.held,
            use=self._usage.by_age(self._pending_use, now),
            use_seq=self._use_seq,
            asked=asked,
            want=want,
            stated=self._stated,
            limit_updates=self._unconfirmed,
            window=self._usage.window,
            lease=self.lease,
            leave=leave,
        )

    def receive(self, answer: ReserveReply) -> bool:
        """Store the reply to the last report. Return whether it is valid; otherwise the report must be repeated."""
        if answer.restate:
            self.last = ReserveReply(answer.epoch, limits=self.last.limits)
            self._usage.restate()
            self._pending_use = {}
        if answer.restate or answer.stale:
            return False
        self.last, self._pending_use, self._unconfirmed = answer, {}, LimitUpdates()
        return True

    def own(self, now: float) -> tuple[int, int]:
        """Return the requests and tokens of this process in the window."""
        return self._usage.used(now)

    def foreign(self, now: float) -> ForeignUse:
        """Return the use of other processes, as of the last reply."""
        last = self.last
        if not last.epoch:
            return NO_FOREIGN_USE
        requests, tokens = self.own(now)
        others = (last.requests - requests, last.tokens - tokens, last.in_flight - self.held)
        return ForeignUse(*(max(0, figure) for figure in others))

    @property
    def members(self) -> int:
        """Live processes, at least two: shared limits imply another process, even if none has been seen yet."""
        return max(2, self.last.members)

    def share(self) -> RateLimit:
        """Return this process's share of the last known limits, for use while the server does not answer."""
        return share_of(self.last.limits, self.members)
