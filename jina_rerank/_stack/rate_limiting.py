"""Make requests wait for what the RateLimiter decides: those of one key, on one event loop, in one queue."""

import copy
import math
import random
from collections.abc import Mapping
from itertools import count
from typing import Final
from weakref import WeakSet

import anyio
import anyio.lowlevel

from .._codec import Ranking, WireRequest
from .._endpoint import Endpoint
from .._tokens import estimate_tokens
from ..errors import RateLimitError
from ..limits import RateLimit
from ..retry import RetryPolicy
from . import Send
from .connections import Connections
from .key_limits import KeyLimits, key_limits
from .limit_store import Permit, SharedLimits
from .rate_limit_errors import Kind
from .rate_limiter import RateLimiter
from .sliding_window import WINDOW_SECONDS
from .waiter import Shortage, Waiter

_MIN_BACKOFF: Final = 0.1
"""Minimum backoff scale after a 429, in seconds: a 429 that is waited out is sent again and again, so never without a
pause, whatever the policy says."""
_places: Final = count(1)
_REMAINING: Final[dict[str, Kind]] = {
    "x-ratelimit-remaining-requests": "requests",
    "x-ratelimit-remaining-tokens": "tokens",
}


def with_max_concurrency(send: Send, connections: Connections, limit: int | None) -> Send:
    """Send `limit` requests of one client at a time on each event loop, in the order in which they come."""
    if limit is None:
        return send

    async def send_in_turn(request: WireRequest) -> Ranking:
        own = connections.here().own_limits
        if limit not in own:
            own[limit] = KeyLimits(RateLimiter())
            own[limit].limiter.configure(RateLimit(concurrency=limit), None)
        limits, waiter = own[limit], Waiter(lambda: 0)
        if not limits.limiter.enter(waiter, anyio.current_time()):
            await _wait_for_turn(limits, waiter, request)
        try:
            ranking = await send(request)
            limits.limiter.succeeded(waiter, anyio.current_time())
        finally:
            if waiter.state == "sent":
                limits.limiter.failed(waiter, anyio.current_time())
        return ranking

    return send_in_turn


def with_rate_limit(
    send: Send,
    connections: Connections,
    endpoint: Endpoint,
    *,
    policy: RetryPolicy,
    rate_limit: RateLimit | None,
    max_concurrency: int | None,
    shared_limits: SharedLimits | None,
) -> Send:
    """Send a request when the limits of its key allow it. The limiter learns from a 429, which is raised."""
    backoff = policy.model_copy(
        update={name: max(_MIN_BACKOFF, getattr(policy, name)) for name in ("throttle_delay", "max_delay")}
    )
    configured: WeakSet[KeyLimits] = WeakSet()

    def limits_here() -> KeyLimits:
        state = connections.here()
        if state.limits is None:
            state.limits = key_limits(endpoint, shared_limits, rate_limit)
        if state.limits not in configured:  # a clone may state another max_concurrency than its client
            configured.add(state.limits)
            state.limits.limiter.configure(rate_limit, max_concurrency, policy.max_delay)
        return state.limits

    async def send_when_allowed(request: WireRequest) -> Ranking:
        limits, tally, permit = limits_here(), request.tally, None
        limiter, waiter = limits.limiter, Waiter(lambda: _estimate(request))
        if tally.backs_off_until or limits.store is not None or not limiter.enter(waiter, anyio.current_time()):
            # A call of a batch that was never sent has all the time there is.
            waiter.patience = policy.max_retry_after if tally.begin is None else math.inf
            waiter, permit = await _wait_for_permit(limits, waiter, request)
        if tally.begin is not None:
            tally.begin()
            tally.begin = None
        tokens: int | None = None
        try:
            ranking = await send(request)
            tokens = None if ranking.usage is None else ranking.usage.total_tokens
            remaining = _remaining(ranking.headers) if limits.store is None else {}
            limiter.succeeded(waiter, anyio.current_time(), tokens=tokens, remaining=remaining)
            limits.answered()
        except RateLimitError as error:
            now = anyio.current_time()
            tally.throttles += 1
            if tally.extend is not None:
                # A request of a batch that is refused may wait as long as a minute takes to be free again. Once only:
                # a server that refuses without end holds no batch for ever.
                tally.extend(WINDOW_SECONDS)
                tally.extend = None
            if not limits.throttled(waiter, permit, now, error):
                tally.backs_off_until = now + backoff.delay(tally.throttles, error, random.random())
            raise
        finally:
            limits.end(waiter, permit, anyio.current_time(), tokens)
        return ranking

    return send_when_allowed


async def _wait_for_permit(limits: KeyLimits, waiter: Waiter, request: WireRequest) -> tuple[Waiter, Permit | None]:
    """Wait for the limiter, and then for the store: local first, store second.

    Raises:
        RateLimitError: That would be too late for the call.
    """
    while True:
        if request.tally.backs_off_until or not limits.limiter.enter(waiter, anyio.current_time()):
            await _wait_for_turn(limits, waiter, request)
        if limits.store is None:
            return waiter, None
        began = anyio.current_time()
        waiter.deadline = anyio.current_effective_deadline()
        try:
            permit = await limits.reserve(limits.store, waiter)
        except BaseException:
            limits.limiter.withdraw(waiter, anyio.current_time())
            raise
        finally:
            request.tally.throttled_seconds += anyio.current_time() - began
        if isinstance(permit, Permit):
            return waiter, permit
        limits.limiter.withdraw(waiter, anyio.current_time())
        if permit is not None:
            raise _throttled(_refusal(request), Shortage(permit))
        waiter = waiter.again()


async def _wait_for_turn(limits: KeyLimits, waiter: Waiter, request: WireRequest) -> None:
    """Wait until the waiter is sent.

    Raises:
        RateLimitError: That would be too late for the call, or is further off than its patience.
    """
    limiter, tally, began = limits.limiter, request.tally, anyio.current_time()
    refusal = _refusal(request)
    if tally.place is None:
        tally.place = next(_places)
    waiter.place, waiter.deadline = tally.place, anyio.current_effective_deadline()
    try:
        if tally.backs_off_until:
            await anyio.sleep_until(tally.backs_off_until)
            tally.backs_off_until = 0.0
        limiter.join(waiter, anyio.current_time())
        while waiter.state == "waiting":
            woken = anyio.Event()
            waiter.wake = woken.set
            if waiter.wakes_at < math.inf:
                limits.tell_of_wait(waiter.wakes_at - began)
            with anyio.CancelScope(deadline=waiter.wakes_at):
                await woken.wait()
            if anyio.current_time() >= waiter.wakes_at:
                waiter.wakes_at = math.inf
                limiter.advance(anyio.current_time())
        # A hedge may get its place just when the first copy's answer has cancelled it: then it must not go out.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        now = anyio.current_time()
        shortage = limiter.shortage(waiter, now)
        if refusal is not None or shortage is not None:
            tally.waited_out = _throttled(refusal, shortage)
        limiter.withdraw(waiter, now)
        raise
    finally:
        tally.throttled_seconds += anyio.current_time() - began
        limits.wait_is_over()
    if waiter.state == "rejected":
        shortage = limiter.shortage(waiter, anyio.current_time())
        raise _throttled(refusal, (shortage or Shortage(waiter.wait))._replace(seconds=waiter.wait))


def _refusal(request: WireRequest) -> RateLimitError | None:
    """Return the 429 that the call has met last, if that is how its last attempt ended."""
    return request.tally.failure if isinstance(request.tally.failure, RateLimitError) else None


def _throttled(refusal: RateLimitError | None, shortage: Shortage | None) -> RateLimitError:
    """Return the error of a call that the limits of its key leave no room: its own 429, if it has met one."""
    if refusal is None:
        error = RateLimitError("the limits of the key leave no room in time; nothing was sent")
    else:
        error = copy.copy(refusal)
    error.should_retry = False
    if shortage is not None:
        error.retry_after = shortage.seconds
        if shortage.foreign >= 1:
            error.message += f" (others hold {shortage.foreign:,.0f} of the {shortage.limit:,.0f} {shortage.unit})"
    return error


def _estimate(request: WireRequest) -> int:
    return estimate_tokens(request.query, request.documents, model=request.model, max_doc_length=request.max_doc_length)


def _remaining(headers: Mapping[str, str]) -> dict[Kind, int]:
    return {kind: int(headers[name]) for name, kind in _REMAINING.items() if headers.get(name, "").isdecimal()}
