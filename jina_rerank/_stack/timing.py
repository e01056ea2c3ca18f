"""The two clocks of a call: one for each attempt, one for the whole."""

import math

import anyio

from .._codec import Ranking, WireRequest
from ..errors import APITimeoutError, ClientClosedError, DeadlineExceededError
from . import Send
from .connections import Connections


def with_timeout(send: Send, timeout: float | None, url: str) -> Send:
    """Ends one attempt, its body included, after `timeout` seconds: a server that trickles cannot hold it."""
    if timeout is None:
        return send

    async def send_with_timeout(request: WireRequest) -> Ranking:
        with anyio.move_on_after(timeout):
            return await send(request)
        raise APITimeoutError(f"no complete answer within the timeout of {timeout:g} s", url=url)

    return send_with_timeout


def with_deadline(send: Send, connections: Connections, url: str) -> Send:
    """Ends the whole call at its deadline, or when the client is closed."""

    async def send_with_deadline(request: WireRequest) -> Ranking:
        state = connections.here()
        seconds = math.inf if request.deadline is None else request.deadline
        with anyio.CancelScope(deadline=anyio.current_time() + seconds) as scope:
            if request.tally.patient:
                scope.deadline = math.inf
                request.tally.begin = lambda: setattr(scope, "deadline", anyio.current_time() + seconds)
                request.tally.extend = lambda more: setattr(scope, "deadline", scope.deadline + more)
            state.calls.add(scope)
            try:
                return await send(request)
            finally:
                state.leave(scope)
        if state.ended:
            raise ClientClosedError("the client was closed while the call was in flight", url=url)
        if request.tally.waited_out is not None:
            raise request.tally.waited_out
        failure = request.tally.failure
        last = "" if failure is None else f"; the last attempt failed with: {failure.message}"
        if not request.tally.attempts:
            last = "; it was still waiting for its turn, and nothing was sent"
        raise DeadlineExceededError(f"no ranking within the deadline of {seconds:g} s{last}", url=url)

    return send_with_deadline
