"""Hedging: a second copy of a slow request, and the first response of the two (Dean and Barroso, The Tail at Scale)."""

from typing import Final

import anyio

from .._codec import Ranking, WireRequest
from ..errors import RerankError
from . import Send
from .call_context import CallContext
from .concurrently import run_until

_HEDGE_COST: Final = 20
"""The cost of a hedge in tokens; a request earns 1, so hedges add at most 5 % to the requests."""
_MAX_HEDGE_TOKENS: Final = 5 * _HEDGE_COST
"""The capacity of the budget: an outage starts with no more than 5 hedges in a row."""


class HedgeBudget:
    """The hedge budget of a client and its clones: a token bucket. Integers avoid float drift."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens = _HEDGE_COST

    def earn(self) -> None:
        """Add a token for a request. A race between two threads may lose one, which is harmless."""
        self._tokens = min(_MAX_HEDGE_TOKENS, self._tokens + 1)

    def take(self) -> bool:
        """Take the cost of a hedge from the budget; return False if the budget is too low."""
        if self._tokens < _HEDGE_COST:
            return False
        self._tokens -= _HEDGE_COST
        return True


def with_hedge(send: Send, seconds: float | None, budget: HedgeBudget) -> Send:
    """Send a copy of a request that has no response after `seconds`, and cancel the slower one.

    If one copy fails, the other continues. If both fail, the error of the first is raised.
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
            if not budget.take():
                await anyio.sleep_forever()
            return await send_copy()

        def is_enough(outcome: Ranking | BaseException, count: int) -> bool:
            return _is_final(outcome) or count == sent

        budget.earn()
        context.watch(request)
        outcomes = await run_until(is_enough, send_copy, hedge)
        outcome = next(filter(_is_final, outcomes.values()), None) or outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return send_with_hedge


async def _until_old(request: WireRequest, context: CallContext, seconds: float) -> None:
    """Wait until `seconds` after the request was sent; its time in the rate limiter's queue does not count."""
    wait = seconds
    while wait > 0:
        await anyio.sleep(wait)
        sent_at = context.sent_at(request)
        wait = seconds if sent_at is None else sent_at + seconds - anyio.current_time()


def _is_final(outcome: Ranking | BaseException) -> bool:
    """Return whether the other copy can be cancelled: for a ranking, or an error other than a RerankError."""
    return not isinstance(outcome, RerankError)
