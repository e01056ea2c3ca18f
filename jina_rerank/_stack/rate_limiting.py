"""Make requests wait for what the RateLimiter decides: those of one key, on one event loop, in one queue."""

import copy
import math
import random
from collections.abc import Mapping
from typing import Final
from weakref import WeakSet

import anyio
import anyio.lowlevel

from .._codec import Ranking, WireRequest
from .._config import ClientConfig
from .._endpoint import Endpoint
from .._tokens import estimate_tokens
from ..errors import RateLimitError
from ..limits import RateLimit
from . import Send
from .call_context import CallContext
from .connections import Closable, Connections
from .key_limits import KeyLimits, key_limits
from .limit_store import Permit
from .rate_limit_errors import Kind
from .rate_limiter import RateLimiter
from .waiter import Shortage, Waiter

_MIN_BACKOFF: Final = 0.1
"""Minimum backoff scale after a 429, in seconds: a 429 that is waited out is sent again and again, so never without a
pause, whatever the policy says."""
_REMAINING: Final[dict[str, Kind]] = {
    "x-ratelimit-remaining-requests": "requests",
    "x-ratelimit-remaining-tokens": "tokens",
}


def with_max_concurrency(send: Send, connections: Connections[Closable], limit: int | None) -> Send:
    """Send `limit` requests of one client at a time on each event loop, in the order in which they come."""
    if limit is None:
        return send

    async def send_in_turn(request: WireRequest, context: CallContext) -> Ranking:
        limiters = connections.here().own_limits
        if limit not in limiters:
            limiters[limit] = RateLimiter()
            limiters[limit].configure(RateLimit(concurrency=limit), None)
        limiter, waiter = limiters[limit], Waiter(lambda: 0)
        if not limiter.enter(waiter, anyio.current_time()):
            await _wait_for_turn(limiter, waiter, context)
        try:
            ranking = await send(request, context)
            limiter.succeeded(waiter, anyio.current_time())
        finally:
            if waiter.state == "sent":
                limiter.failed(waiter, anyio.current_time())
        return ranking

    return send_in_turn


def with_rate_limit(
    send: Send,
    connections: Connections[Closable],
    endpoint: Endpoint,
    config: ClientConfig,
) -> Send:
    """Send a request when the limits of its key allow it. The limiter learns from a 429, which is raised."""
    policy, rate_limit = config.retry, config.rate_limit
    backoff = policy.model_copy(
        update={name: max(_MIN_BACKOFF, getattr(policy, name)) for name in ("throttle_delay", "max_delay")}
    )
    configured: WeakSet[KeyLimits] = WeakSet()

    def limits_here() -> KeyLimits:
        state = connections.here()
        if state.limits is None:
            state.limits = key_limits(endpoint, config.shared_limits, rate_limit)
        if state.limits not in configured:  # a clone may state another max_concurrency than its client
            configured.add(state.limits)
            state.limits.limiter.configure(rate_limit, config.max_concurrency, policy.max_delay)
        return state.limits

    async def send_when_allowed(request: WireRequest, context: CallContext) -> Ranking:
        limits, permit = limits_here(), None
        limiter, waiter = limits.limiter, Waiter(lambda: _estimate(request))
        if context.backs_off_until or limits.store is not None or not limiter.enter(waiter, anyio.current_time()):
            # A call of a batch that was never sent has all the time there is.
            waiter.patience = policy.max_retry_after if context.is_started else math.inf
            waiter, permit = await _wait_for_permit(limits, waiter, context)
        if not context.is_started:
            context.request_admitted(anyio.current_time())
        tokens: int | None = None
        try:
            ranking = await send(request, context)
            tokens = None if ranking.usage is None else ranking.usage.total_tokens
            remaining = _remaining(ranking.headers) if limits.store is None else {}
            limiter.succeeded(waiter, anyio.current_time(), tokens=tokens, remaining=remaining)
            limits.answered()
        except RateLimitError as error:
            now = anyio.current_time()
            context.throttled()
            if not limits.throttled(waiter, permit, now, error):
                context.back_off(now + backoff.delay(context.throttles, error, random.random()))
            raise
        finally:
            limits.end(waiter, permit, anyio.current_time(), tokens)
        return ranking

    return send_when_allowed


async def _wait_for_permit(limits: KeyLimits, waiter: Waiter, context: CallContext) -> tuple[Waiter, Permit | None]:
    """Wait for the limiter, and then for the store: local first, store second.

    Raises:
        RateLimitError: That would be too late for the call.
    """
    while True:
        if context.backs_off_until or not limits.limiter.enter(waiter, anyio.current_time()):
            await _wait_for_turn(limits.limiter, waiter, context, limits)
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
            context.waited(anyio.current_time() - began)
        if isinstance(permit, Permit):
            return waiter, permit
        limits.limiter.withdraw(waiter, anyio.current_time())
        if permit is not None:
            raise _throttled(_last_throttle(context), Shortage(permit))
        waiter = waiter.again()


async def _wait_for_turn(
    limiter: RateLimiter, waiter: Waiter, context: CallContext, limits: KeyLimits | None = None
) -> None:
    """Wait until the limiter admits the waiter; `limits` logs a long wait.

    Raises:
        RateLimitError: That would be too late for the call, or is further off than its patience.
    """
    began, last = anyio.current_time(), _last_throttle(context)
    waiter.place, waiter.deadline = context.take_place(), anyio.current_effective_deadline()
    try:
        if context.backs_off_until:
            await anyio.sleep_until(context.backs_off_until)
            context.backed_off()
        limiter.join(waiter, anyio.current_time())
        while waiter.state == "waiting":
            woken = anyio.Event()
            waiter.wake = woken.set
            if limits is not None and waiter.wakes_at < math.inf:
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
        if last is not None or shortage is not None:
            context.gave_up_waiting(_throttled(last, shortage))
        limiter.withdraw(waiter, now)
        raise
    finally:
        context.waited(anyio.current_time() - began)
        if limits is not None:
            limits.wait_is_over()
    if waiter.state == "rejected":
        shortage = limiter.shortage(waiter, anyio.current_time())
        raise _throttled(last, (shortage or Shortage(waiter.wait))._replace(seconds=waiter.wait))


def _last_throttle(context: CallContext) -> RateLimitError | None:
    """Return the 429 that ended the last attempt of the call, if one did."""
    return context.failure if isinstance(context.failure, RateLimitError) else None


def _throttled(last: RateLimitError | None, shortage: Shortage | None) -> RateLimitError:
    """Return the error of a call that the limits of its key leave no room: its own 429, if it has met one."""
    if last is None:
        error = RateLimitError("the limits of the key leave no room in time; nothing was sent")
    else:
        error = copy.copy(last)
    error.should_retry = False
    if shortage is not None:
        error.retry_after = shortage.seconds
        if shortage.foreign >= 1:
            error.message += f" (others hold {shortage.foreign:,.0f} of the {shortage.limit:,.0f} {shortage.unit})"
    return error


def _estimate(request: WireRequest) -> int:
    return estimate_tokens(request.query, request.documents, known=request.known, max_doc_length=request.max_doc_length)


def _remaining(headers: Mapping[str, str]) -> dict[Kind, int]:
    return {kind: int(headers[name]) for name, kind in _REMAINING.items() if headers.get(name, "").isdecimal()}
