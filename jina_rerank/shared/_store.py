"""The store of one event loop: one exchange with the server at a time, for all waiting requests."""

import logging
import math
import random
from collections.abc import Callable, Sequence
from itertools import islice
from types import AsyncGeneratorType
from typing import Any, Final

import anyio

from .._stack.connections import CLOSING_SECONDS, close_with_loop
from .._stack.limit_store import ForeignUse, Kind, Permit
from .._stack.timers import call_later, spawn
from ..limits import RateLimit
from ._exchange import ReserveReply
from ._member import Member
from ._server import SERVER_ERRORS, RedisServer, reason

_logger: Final = logging.getLogger("jina_rerank")

_CONNECT_SECONDS: Final = 2.0
_MAX_ASKED_PERMITS: Final = 100
"""Requests in one exchange, which bounds the run time of the script."""
_MAX_REPEATS: Final = 3
_REPORT_DELAY: Final = 0.05
"""The delay of reports on which no request waits, so that one report covers many."""
_IDLE_SECONDS: Final = 5.0
"""The time after which an idle connection is closed."""
_WARNING_INTERVAL: Final = 60.0
"""The minimum time between two warnings of a server that fails intermittently."""
_WARNING: Final = (
    "shared limits: the server at %s is unavailable (%s); until it answers, this process keeps to 1/%d of the limits"
)
_JITTER: Final = 0.1
_MIN_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 5.0


class _Waiter:
    __slots__ = ("done", "latest", "outcome", "tokens")

    def __init__(self, tokens: int, latest: float) -> None:
        self.tokens: int = tokens
        self.latest: float = latest
        self.done: anyio.Event = anyio.Event()
        self.outcome: Permit | float = 0.0

    def finish(self, outcome: Permit | float) -> None:
        self.outcome = outcome
        self.done.set()


class RedisStore:
    """A `LimitStore` on a Redis server. A task exchanges reports with the server only as long as requests wait."""

    def __init__(self, server: RedisServer, member: Member, *, timeout: float) -> None:
        self._server = server
        self._member = member
        self._timeout = timeout
        self._waiting: dict[_Waiter, None] = {}  # an ordered set
        self._share: RateLimit | None = None
        self._window_free_at = -math.inf
        """The time before which no request may be sent, by the last reply, even if the server has failed since."""
        self._failures = 0
        self._warns_at = -math.inf
        self._closed = False
        self._serving: anyio.CancelScope | None = None
        self._nudge = anyio.Event()
        self._rested = anyio.Event()
        self._closer: AsyncGeneratorType[None, None] | None = None
        self._timer: tuple[float, Callable[[], None]] | None = None

    @property
    def share(self) -> RateLimit | None:
        """See `LimitStore`."""
        return self._share

    @property
    def foreign(self) -> ForeignUse:
        """See `LimitStore`."""
        return self._member.foreign(anyio.current_time())

    async def acquire(self, tokens: int, latest: float) -> Permit | float:
        """See `LimitStore`."""
        if self._share is not None or self._closed:
            return self._grant(tokens, local=True)
        waiter = _Waiter(tokens, latest)
        self._waiting[waiter] = None
        self._closer = self._closer or close_with_loop(self)
        self._serve_soon()
        try:
            await waiter.done.wait()
        except BaseException:
            self._waiting.pop(waiter, None)
            if isinstance(waiter.outcome, Permit):
                self.release(waiter.outcome, counted=False)
            self._report_soon()
            raise
        return waiter.outcome

    def release(self, permit: Permit, *, tokens: int | None = None, counted: bool = True) -> None:
        """See `LimitStore`."""
        self._member.release(permit, tokens=tokens, counted=counted)
        last = self._member.last
        if last.waiting or "concurrency" in last.limits:
            self._report_soon()
        elif self._is_up and self._serving is None:
            self._serve_in(_REPORT_DELAY)

    def learn(self, kind: Kind | None, limit: int | None, *, remaining: int = 0, pause: float = 0.0) -> None:
        """See `LimitStore`."""
        self._member.learn(kind, limit, remaining, pause)
        self._report_soon()

    async def aclose(self) -> None:
        """See `LimitStore`."""
        if self._closed:
            return
        self._closed = True
        self._stop_waiting()
        if self._timer is not None:
            self._timer[1]()
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            self._nudge.set()
            with anyio.move_on_after(self._timeout):
                await self._wait_until_idle()
            if self._serving is not None:
                self._serving.cancel()
                await self._wait_until_idle()
            if self._server.is_connected and self._share is None:
                await self._exchange()
            await self._server.aclose()
            if (
                self._closer is not None and not self._closer.ag_running
            ):  # otherwise the loop is ending, and is closing it now
                await self._closer.aclose()

    async def _wait_until_idle(self) -> None:
        """Wait until no task serves requests."""
        while self._serving is not None:
            self._rested = anyio.Event()
            await self._rested.wait()

    def _grant(self, tokens: int, *, local: bool) -> Permit:
        return self._member.grant(anyio.current_time(), tokens, local=local)

    # When to serve -----------------------------------------------------------------------------------------------

    @property
    def _is_up(self) -> bool:
        return self._share is None and not self._closed

    def _report_soon(self) -> None:
        if self._is_up:  # otherwise the next probe reports it
            self._nudge.set()
            self._serve_soon()

    def _serve_soon(self) -> None:
        if self._serving is None:
            self._serving = anyio.CancelScope()
            spawn(self._serve, self._serving)

    def _serve_in(self, seconds: float) -> None:
        at = anyio.current_time() + seconds
        if self._timer is not None:
            if self._timer[0] <= at:
                return
            self._timer[1]()
        self._timer = at, call_later(seconds, self._on_timer)

    async def _on_timer(self) -> None:
        self._timer = None
        if self._serving is not None or self._closed:
            return
        if self._is_idle:
            await self._server.aclose()
        else:
            self._serving = anyio.CancelScope()
            await self._serve(self._serving)

    @property
    def _is_idle(self) -> bool:
        return self._is_up and self._member.is_reported and not self._member.held and not self._waiting

    async def _serve(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while await self._exchange() and not self._closed:
                    if self._waiting:
                        await self._pause()
                    elif not self._nudge.is_set():
                        break
        except BaseException:
            self._stop_waiting()  # all tasks are cancelled, or the event loop is closing
            raise
        finally:
            self._serving = None
            self._rested.set()
        if not self._closed:
            self._serve_in(self._next_report())

    async def _pause(self) -> None:
        """Wait until it is time to ask again, or until this process has changes to report."""
        if self._member.last.asks_in:
            with anyio.move_on_after(self._member.last.asks_in * (1 + _JITTER * random.random())):
                await self._nudge.wait()

    def _next_report(self) -> float:
        if self._share is not None:
            backoff = min(_MAX_BACKOFF, _MIN_BACKOFF * 2.0 ** min(self._failures, 10))
            return backoff * random.uniform(0.5, 1)
        if not self._member.is_reported:
            return _REPORT_DELAY
        return self._member.lease / 3 if self._member.held else _IDLE_SECONDS

    # One exchange ------------------------------------------------------------------------------------------------

    async def _exchange(self) -> bool:
        """Exchange one report with the server, and return whether it has answered."""
        try:
            await self._connect()
            for _ in range(_MAX_REPEATS):
                self._nudge = anyio.Event()
                waiters = tuple(islice(self._waiting, _MAX_ASKED_PERMITS))
                answer = await self._ask([waiter.tokens for waiter in waiters])
                if self._member.receive(answer):
                    self._take(answer, waiters)
                    return True
            self._fail("it does not keep the reported use")
        except TimeoutError as error:
            self._fail(str(error) or "no answer in time")
        except SERVER_ERRORS as error:
            self._fail(reason(error))
        return False

    async def _connect(self) -> None:
        if self._server.is_connected:
            return
        # Connecting may take longer than a call waits for the store.
        cancel_timer = call_later(self._timeout, self._degrade_soon)
        try:
            with anyio.fail_after(_CONNECT_SECONDS):
                await self._server.connect()
        finally:
            cancel_timer()

    async def _degrade_soon(self) -> None:
        self._degrade()

    async def _ask(self, asked: Sequence[int]) -> ReserveReply:
        now = anyio.current_time()
        report = self._member.report(now, asked, want=len(self._waiting), leave=self._closed)
        reply: Any = None
        with anyio.fail_after(self._timeout):
            reply = await self._server.run(report.encode())
        return ReserveReply.decode(reply)

    def _take(self, answer: ReserveReply, waiters: Sequence[_Waiter]) -> None:
        for waiter in waiters[: answer.granted]:
            permit = self._grant(waiter.tokens, local=False)
            if waiter in self._waiting:
                del self._waiting[waiter]
                waiter.finish(permit)
            else:  # cancelled, or served with a local permit, during the exchange
                self.release(permit, counted=False)
        self._window_free_at = anyio.current_time() + answer.wait
        for waiter in [waiter for waiter in self._waiting if waiter.latest < self._window_free_at]:
            del self._waiting[waiter]
            waiter.finish(max(answer.wait, answer.asks_in))
        if self._failures:
            _logger.info("shared limits: the server at %s answers again", self._server)
        self._failures, self._share = 0, None

    def _fail(self, why: str) -> None:
        self._failures += 1
        self._degrade()
        now = anyio.current_time()
        if not self._closed and now >= self._warns_at:
            self._warns_at = now + _WARNING_INTERVAL
            _logger.warning(_WARNING, self._server, why, self._member.members)

    def _degrade(self) -> None:
        """Grant local permits from now on, to waiting requests only once the window has room for them."""
        self._share = self._member.share()
        wait = self._window_free_at - anyio.current_time()
        if wait <= 0:
            self._stop_waiting()
        elif self._waiting:
            call_later(wait, self._stop_waiting_if_down)

    async def _stop_waiting_if_down(self) -> None:
        if self._share is not None:
            self._degrade()

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            waiter.finish(self._grant(waiter.tokens, local=True))
