"""Runs what the RetryPolicy decides: tenacity drives, anyio sleeps."""

import random
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from tenacity import AsyncRetrying, RetryCallState

from .._codec import Ranking, WireRequest
from ..errors import RerankError
from ..retry import RetryPolicy, RetryQuota
from . import Send
from .call_context import CallContext


def with_retry(send: Send, policy: RetryPolicy, quota: RetryQuota | None) -> Send:
    """Sends again what failed, as `policy` decides, while there is `quota`, unless the wait would outlast the deadline.

    A 429 is sent again at once, and is no failed attempt: the rate limiter makes it wait.
    """

    async def send_with_retry(request: WireRequest, context: CallContext) -> Ranking:
        try:
            ranking = await send(request, context)
        except RerankError as error:
            failure = error
        else:
            if quota is not None and quota.level < quota.capacity:
                quota.give(1)
            return ranking
        return await _Retries(partial(send, request, context), context, policy, quota).run(failure)

    return send_with_retry


class _Retries:
    """What follows the first attempt of a call."""

    def __init__(
        self,
        send: Callable[[], Awaitable[Ranking]],
        context: CallContext,
        policy: RetryPolicy,
        quota: RetryQuota | None,
    ) -> None:
        self._send = send
        self._context = context
        self._policy = policy
        self._quota = quota
        self._failures: list[RerankError] = []
        self._delay = 0.0
        self._cost = 0

    async def run(self, failure: RerankError) -> Ranking:
        """The ranking, or the error of the last attempt; `failure` is that of the first."""
        first: RerankError | None = failure

        async def attempt() -> Ranking:
            nonlocal first
            if first is not None:  # it was made, and failed, before tenacity was needed
                error, first = first, None
                raise error
            return await self._send()

        # A fresh object for each call: a shared one mixes up the attempts of concurrent calls (tenacity#93).
        retrying = AsyncRetrying(retry=self._goes_on, wait=lambda _: self._delay, sleep=anyio.sleep, reraise=True)
        try:
            ranking: Ranking = await retrying(attempt)
        finally:
            retrying.iter_state.reset()  # what is left in it refers to `retrying`, and that to all of the call
        if self._quota is not None:
            self._quota.give(self._cost or 1)
        return ranking

    def _goes_on(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, RerankError):
            return False
        self._context.failed(error)
        if self._policy.paces(error, self._context.deadline):
            self._delay = 0.0
            error.with_traceback(None)
            return True
        self._failures.append(error)
        chosen = self._policy.next_delay(self._failures, random.random())
        if chosen is None or chosen > anyio.current_effective_deadline() - anyio.current_time():
            return False
        if self._quota is not None:
            self._cost = self._quota.take(error)
            if not self._cost:
                return False
        self._delay = chosen
        error.with_traceback(None)  # nobody will see it, and its frames hold the request
        return True
