"""A second copy of a request that is slow, and the first answer of the two."""

from typing import Final

import anyio

from .._codec import Ranking, WireRequest
from ..errors import RerankError
from . import Send
from .call_context import CallContext
from .concurrently import run_until

_HEDGE: Final = 20
"""What a hedge takes from the allowance; a request gives 1, so that hedges add 5 % of requests."""
_MOST: Final = 5 * _HEDGE
"""The most that quiet times save up: an outage begins with no more than 5 hedges in a row."""


class HedgeBudget:
    """The hedges that a client and its clones may still send. In integers: twenty twentieths are one."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _HEDGE

    def earn(self) -> None:
        """Counts a request. Two threads that do so at once may count one: then there is a hedge less."""
        self._left = min(_MOST, self._left + 1)

    def take(self) -> bool:
        """Whether a hedge may be sent; if so, it is paid for."""
        if self._left < _HEDGE:
            return False
        self._left -= _HEDGE
        return True


def with_hedge(send: Send, seconds: float | None, allowance: HedgeBudget) -> Send:
    """Sends a copy of a request that has no answer after `seconds`; the loser is cancelled.

    A copy that fails leaves it to the other. If both fail, the first copy's error is raised.
    """
    if seconds is None:
        return send

    async def send_with_hedge(request: WireRequest, context: CallContext) -> Ranking:
        sent = 0

        async def send_copy() -> Ranking:
            nonlocal sent
            sent += 1
            return await send(request, context)

        async def hedge() -> Ranking:
            await _until_old(request, context, seconds)
            if not allowance.take():
                await anyio.sleep_forever()
            return await send_copy()

        def is_enough(outcome: Ranking | BaseException, count: int) -> bool:
            return _is_final(outcome) or count == sent

        allowance.earn()
        context.watch(request)
        outcomes = await run_until(is_enough, send_copy, hedge)
        outcome = next(filter(_is_final, outcomes.values()), None) or outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return send_with_hedge


async def _until_old(request: WireRequest, context: CallContext, seconds: float) -> None:
    """Waits until it is `seconds` since the request was sent: to wait for its turn is not the server's slowness."""
    wait = seconds
    while wait > 0:
        await anyio.sleep(wait)
        sent_at = context.sent_at(request)
        wait = seconds if sent_at is None else sent_at + seconds - anyio.current_time()


def _is_final(outcome: Ranking | BaseException) -> bool:
    """Whether the other copy need not be waited for: an answer, or trouble that is not of this request."""
    return not isinstance(outcome, RerankError)
