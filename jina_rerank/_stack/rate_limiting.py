"""Make requests wait for what the RateLimiter decides: those of one key, on one event loop, in one queue."""

import copy
import math
import os
import random
from collections.abc import Mapping
from itertools import count
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel
from anyio.lowlevel import EventLoopToken, current_token
from pydantic import SecretStr

from ..endpoint import Endpoint
from ..errors import RateLimitError
from ..limits import RateLimit
from ..retry import RetryPolicy
from ..tokens import estimate_tokens
from ..wire import Ranking, WireRequest
from . import Send
from .adaptive_limit import HOSTED_DOUBLING_SECONDS, OWN_DOUBLING_SECONDS
from .connections import Connections
from .rate_limit_errors import Kind
from .rate_limiter import RateLimiter, Shortage, Waiter

_limiters: Final[WeakValueDictionary[tuple[int, EventLoopToken, str, SecretStr | None], RateLimiter]] = (
    WeakValueDictionary()
)
"""By process, event loop, origin and key. Each is held by the clients that use it, until their loop ends."""

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
        state = connections.here()
        if state.own_limiter is None:
            state.own_limiter = RateLimiter()
            state.own_limiter.configure(RateLimit(concurrency=limit), None)
        limiter, waiter = state.own_limiter, Waiter(lambda: 0)
        if not limiter.enter(waiter, anyio.current_time()):
            await _wait_for_turn(limiter, waiter, request)
        try:
            ranking = await send(request)
            limiter.succeeded(waiter, anyio.current_time())
        finally:
            if waiter.state == "sent":
                limiter.failed(waiter, anyio.current_time())
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
) -> Send:
    """Send a request when the limits of its key allow it. The limiter learns from a 429, which is raised."""
    backoff = policy.model_copy(
        update={name: max(_MIN_BACKOFF, getattr(policy, name)) for name in ("throttle_delay", "max_delay")}
    )

    def limiter_here() -> RateLimiter:
        state = connections.here()
        if state.limiter is None:
            state.limiter = _shared_limiter(endpoint)
            state.limiter.clients += 1
            state.limiter.configure(rate_limit, max_concurrency, policy.max_delay)
        return state.limiter

    async def send_when_allowed(request: WireRequest) -> Ranking:
        limiter, tally = limiter_here(), request.tally
        waiter = Waiter(lambda: _estimate(request))
        if tally.backs_off_until or not limiter.enter(waiter, anyio.current_time()):
            # A call of a batch that was never sent has all the time there is.
            waiter.patience = policy.max_retry_after if tally.begin is None else math.inf
            await _wait_for_turn(limiter, waiter, request)
        if tally.begin is not None:
            tally.begin()
            tally.begin = None
        try:
            ranking = await send(request)
            tokens = None if ranking.usage is None else ranking.usage.total_tokens
            limiter.succeeded(
                waiter, anyio.current_time(), tokens=tokens, remaining=_remaining(ranking.headers)
            )
        except RateLimitError as error:
            now = anyio.current_time()
            tally.throttles += 1
            if not limiter.throttled(waiter, now, error):
                tally.backs_off_until = now + backoff.delay(tally.throttles, error, random.random())
            raise
        finally:
            if waiter.state == "sent":
                limiter.failed(waiter, anyio.current_time())
        return ranking

    return send_when_allowed


async def _wait_for_turn(limiter: RateLimiter, waiter: Waiter, request: WireRequest) -> None:
    """Wait until the waiter is sent.

    Raises:
        RateLimitError: That would be too late for the call, or is further off than its patience.
    """
    tally = request.tally
    refusal = tally.failure if isinstance(tally.failure, RateLimitError) else None
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
    if waiter.state == "rejected":
        shortage = limiter.shortage(waiter, anyio.current_time())
        raise _throttled(refusal, (shortage or Shortage(waiter.wait))._replace(seconds=waiter.wait))


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


def _shared_limiter(endpoint: Endpoint) -> RateLimiter:
    parts = urlsplit(endpoint.url)
    place = (os.getpid(), current_token(), f"{parts.scheme}://{parts.netloc.lower()}", endpoint.api_key)
    limiter = _limiters.get(place)
    if limiter is None or not limiter.clients:
        limiter = _limiters[place] = RateLimiter(HOSTED_DOUBLING_SECONDS if endpoint.hosted else OWN_DOUBLING_SECONDS)
    return limiter
