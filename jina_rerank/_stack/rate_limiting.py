"""The driver of the RateLimiter: requests wait until it admits them, in one queue per key and event loop."""

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
"""The minimum backoff scale after a 429, in seconds. A call may retry a 429 many times, so it never does without a
pause, whatever the policy."""
_REMAINING: Final[dict[str, Kind]] = {
    "x-ratelimit-remaining-requests": "requests",
    "x-ratelimit-remaining-tokens": "tokens",
}


def with_max_concurrency(send: Send, connections: Connections[Closable], limit: int | None) -> Send:
    """Send at most `limit` requests of one client at a time on each event loop, in FIFO order."""
    if limit is None:
        return send

    async def send_with_slot(request: WireRequest, context: CallContext) -> Ranking:
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

    return send_with_slot


def with_rate_limit(
    send: Send,
    connections: Connections[Closable],
    endpoint: Endpoint,
    config: ClientConfig,
) -> Send:
    """Delay a request until the limits of its key admit it. The limiter learns from a 429, which is then raised."""
    policy, rate_limit = config.retry, config.rate_limit
    backoff = policy.model_copy(
        update={name: max(_MIN_BACKOFF, getattr(policy, name)) for name in ("throttle_delay", "max_delay")}
    )
    configured: WeakSet[KeyLimits] = WeakSet()

    def limits_here() -> KeyLimits:
        state = connections.here()
        if state.limits is None:
            state.limits = key_limits(endpoint, config.shared_limits, rate_limit)
        if state.limits not in configured:  # a clone may have another max_concurrency than its client
            configured.add(state.limits)
            state.limits.limiter.configure(rate_limit, config.max_concurrency, policy.max_delay)
        return state.limits

    async def send_when_allowed(request: WireRequest, context: CallContext) -> Ranking:
        limits, permit = limits_here(), None
        limiter, waiter = limits.limiter, Waiter(lambda: _estimate(request))
        if context.backs_off_until or limits.store is not None or not limiter.enter(waiter, anyio.current_time()):
            # A batched call that was never sent has no deadline yet.
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
    """Wait for the local limiter, and then for the store.

    Raises:
        RateLimitError: There is no room before the deadline of the call.
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
        RateLimitError: There is no room before the deadline of the call, or within the waiter's patience.
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
                limits.log_wait(waiter.wakes_at - began)
            with anyio.CancelScope(deadline=waiter.wakes_at):
                await woken.wait()
            if anyio.current_time() >= waiter.wakes_at:
                waiter.wakes_at = math.inf
                limiter.advance(anyio.current_time())
        # The limiter may admit a hedge just when the response to the first copy cancels it: it must not be sent.
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
            limits.wait_ended()
    if waiter.state == "rejected":
        shortage = limiter.shortage(waiter, anyio.current_time())
        raise _throttled(last, (shortage or Shortage(waiter.wait))._replace(seconds=waiter.wait))


def _last_throttle(context: CallContext) -> RateLimitError | None:
    """Return the 429 that ended the last attempt of the call, if one did."""
    return context.failure if isinstance(context.failure, RateLimitError) else None


def _throttled(last: RateLimitError | None, shortage: Shortage | None) -> RateLimitError:
    """Return the error of a call for which the limits of its key have no room: a copy of its own 429, if it had one."""
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
