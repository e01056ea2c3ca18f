"""How many requests are in flight at once."""

from ..wire import Ranking, WireRequest
from . import Send
from .connections import Connections


def with_concurrency(send: Send, connections: Connections, limit: int | None) -> Send:
    """Lets `limit` requests through at a time on each event loop, in the order in which they come."""
    if limit is None:
        return send

    async def send_in_turn(request: WireRequest) -> Ranking:
        async with connections.here().slots(limit):
            return await send(request)

    return send_in_turn
