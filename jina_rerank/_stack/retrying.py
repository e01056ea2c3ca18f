"""The driver of the RetryPolicy, with tenacity for the loop and anyio for the sleeps."""

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
    """Retry failed attempts as `policy` decides, while `quota` lasts, unless the backoff would outlast the deadline.

    A request with a 429 is retried at once, and does not count as a failed attempt: the rate limiter delays it.
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
    """The attempts of a call after the first."""

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
        """Return the ranking, or raise the error of the last attempt; `failure` is the error of the first."""
        first: RerankError | None = failure

        async def attempt() -> Ranking:
            nonlocal first
            if first is not None:  # the first attempt failed before tenacity was needed
                error, first = first, None
                raise error
            return await self._send()

        # One object per call: a shared one mixes up the attempts of concurrent calls (tenacity#93).
        retrying = AsyncRetrying(retry=self._should_retry, wait=lambda _: self._delay, sleep=anyio.sleep, reraise=True)
        try:
            ranking: Ranking = await retrying(attempt)
        finally:
            retrying.iter_state.reset()  # breaks the cycle through which `retrying` would keep the call alive
        if self._quota is not None:
            self._quota.give(self._cost or 1)
        return ranking

    def _should_retry(self, state: RetryCallState) -> bool:
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
        error.with_traceback(None)  # its frames hold the request, and it is not raised
        return True
