"""The timeout of an attempt, and the deadline of a call."""

import anyio

from .._codec import Ranking, WireRequest
from ..errors import APITimeoutError, ClientClosedError, DeadlineExceededError
from . import Send
from .call_context import CallContext
from .connections import Closable, Connections


def with_timeout(send: Send, timeout: float | None, url: str) -> Send:
    """Cancel an attempt after `timeout` seconds, even while a server trickles the response body."""
    if timeout is None:
        return send

    async def send_with_timeout(request: WireRequest, context: CallContext) -> Ranking:
        with anyio.move_on_after(timeout):
            return await send(request, context)
        raise APITimeoutError(f"no complete answer within the timeout of {timeout:g} s", url=url)

    return send_with_timeout


def with_deadline(send: Send, connections: Connections[Closable], url: str) -> Send:
    """Cancel a call at its deadline, or when the client is closed."""

    async def send_with_deadline(request: WireRequest, context: CallContext) -> Ranking:
        state = connections.here()
        with anyio.CancelScope() as scope:
            context.open(scope, anyio.current_time())
            state.calls.add(scope)
            try:
                return await send(request, context)
            finally:
                state.leave(scope)
        if state.ended:
            raise ClientClosedError("the client was closed while the call was in flight", url=url)
        if context.waited_out is not None:
            raise context.waited_out
        last = "" if context.failure is None else f"; the last attempt failed with: {context.failure.message}"
        if not context.attempts:
            last = "; it was still waiting for its turn, and nothing was sent"
        raise DeadlineExceededError(f"no ranking within the deadline of {context.deadline or 0:g} s{last}", url=url)

    return send_with_deadline
