"""Makes requests wait for what the Governor decides: those of one key, on one event loop, in one queue."""

import copy
import math
import os
import random
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
from .connections import Connections
from .governor import Governor, Turn
from .lessons import Kind, lesson
from .minute import MINUTE

_governors: Final[WeakValueDictionary[tuple[int, EventLoopToken, str, SecretStr | None], Governor]] = (
    WeakValueDictionary()
)
"""By process, event loop, origin and key. Each is held by the clients that use it, until their loop ends."""

_SHORTEST_SCALE: Final = 0.1
"""Seconds of the scale of waits after a 429 at the least: some 20 requests a second for a call that is refused."""
_places: Final = count(1)
_PER_MINUTE: Final = ("requests", "tokens")
_REMAINING: Final[dict[str, Kind]] = {
    "x-ratelimit-remaining-requests": "requests",
    "x-ratelimit-remaining-tokens": "tokens",
}


def with_concurrency(send: Send, connections: Connections, limit: int | None) -> Send:
    """Lets `limit` requests of one client through at a time on each event loop, in the order in which they come."""
    if limit is None:
        return send

    async def send_in_turn(request: WireRequest) -> Ranking:
        state = connections.here()
        if state.own is None:
            state.own = Governor()
            state.own.state(RateLimit(concurrency=limit), None)
        turn = Turn(lambda: 0)
        if not state.own.enter(turn, anyio.current_time()):
            await _queue(state.own, turn, request)
        try:
            ranking = await send(request)
            state.own.succeeded(turn, anyio.current_time())
        finally:
            if turn.state == "sent":
                state.own.failed(turn, anyio.current_time())
        return ranking

    return send_in_turn


def with_governor(
    send: Send,
    connections: Connections,
    endpoint: Endpoint,
    *,
    policy: RetryPolicy,
    rate_limit: RateLimit | None,
    max_concurrency: int | None,
) -> Send:
    """Lets a request through when the limits of its key allow it. What is refused teaches, and is raised."""

    # A 429 that is waited out is asked again and again: never without a pause, whatever the policy says.
    paced = policy.model_copy(
        update={name: max(_SHORTEST_SCALE, getattr(policy, name)) for name in ("throttle_delay", "max_delay")}
    )
    # For a limit per minute that others use too, the waits grow to a minute.
    patient = paced.model_copy(update={"max_delay": max(MINUTE, policy.max_delay)})

    def governor_here() -> Governor:
        state = connections.here()
        if state.governor is None:
            state.governor = _shared_governor(endpoint)
            state.governor.clients += 1
            state.governor.state(rate_limit, max_concurrency)
        return state.governor

    async def send_when_allowed(request: WireRequest) -> Ranking:
        governor = governor_here()
        turn = Turn(lambda: _estimate(request))
        if not governor.enter(turn, anyio.current_time()):
            # A call of a batch that was never sent has all the time there is.
            turn.patience = policy.max_retry_after if request.tally.begin is None else math.inf
            await _queue(governor, turn, request)
        if request.tally.begin is not None:
            request.tally.begin()
            request.tally.begin = None
        try:
            ranking = await send(request)
            tokens = None if ranking.usage is None else ranking.usage.total_tokens
            governor.succeeded(turn, anyio.current_time(), tokens=tokens, spent=_spent(ranking))
        except RateLimitError as error:
            waits = patient if lesson(error).kind in _PER_MINUTE else paced
            pause = waits.delay(governor.refusals + 1, error, random.random())
            governor.refused(turn, anyio.current_time(), error, pause)
            raise
        finally:
            if turn.state == "sent":
                governor.failed(turn, anyio.current_time())
        return ranking

    return send_when_allowed


async def _queue(governor: Governor, turn: Turn, request: WireRequest) -> None:
    """Waits for the turn.

    Raises:
        RateLimitError: It would be too late for the call, or is further off than its patience.
    """
    last = request.tally.failure
    refusal = last if isinstance(last, RateLimitError) else None
    if request.tally.place is None:
        request.tally.place = next(_places)
    turn.place, turn.latest = request.tally.place, anyio.current_effective_deadline()
    try:
        governor.join(turn, anyio.current_time())
        while turn.state == "waiting":
            woken = anyio.Event()
            turn.wake = woken.set
            with anyio.CancelScope(deadline=turn.wakes_at):
                await woken.wait()
            if anyio.current_time() >= turn.wakes_at:
                turn.wakes_at = math.inf
                governor.advance(anyio.current_time())
        # A hedge may get its place just when the first copy's answer has cancelled it: then it must not go out.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        request.tally.waited_out = refusal
        governor.withdraw(turn, anyio.current_time())
        raise
    if turn.state == "turned away":
        raise _too_late(refusal, turn.wait)


def _too_late(refusal: RateLimitError | None, wait: float) -> RateLimitError:
    if refusal is None:
        message = "the limits of the key leave no room in time; nothing was sent"
        return RateLimitError(message, retry_after=wait, should_retry=False)
    error = copy.copy(refusal)
    error.retry_after, error.should_retry = wait, False
    return error


def _estimate(request: WireRequest) -> int:
    return estimate_tokens(request.query, request.documents, model=request.model, max_doc_length=request.max_doc_length)


def _spent(ranking: Ranking) -> tuple[Kind, ...]:
    headers = ranking.headers
    return tuple(kind for name, kind in _REMAINING.items() if headers.get(name) == "0")


def _shared_governor(endpoint: Endpoint) -> Governor:
    parts = urlsplit(endpoint.url)
    place = (os.getpid(), current_token(), f"{parts.scheme}://{parts.netloc.lower()}", endpoint.api_key)
    governor = _governors.get(place)
    if governor is None or not governor.clients:
        governor = _governors[place] = Governor()
    return governor
