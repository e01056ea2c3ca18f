"""Runs what the RetryPolicy decides: tenacity drives, anyio sleeps."""

import random

import anyio
from tenacity import AsyncRetrying, RetryCallState

from ..errors import RerankError
from ..retry import RetryPolicy
from ..wire import Ranking, WireRequest
from . import Send


def with_retry(send: Send, policy: RetryPolicy) -> Send:
    """Sends again what failed, as `policy` decides, unless the wait would outlast the deadline."""

    async def send_with_retry(request: WireRequest) -> Ranking:
        try:
            return await send(request)
        except RerankError as error:
            failure = error
        return await _send_again(send, request, policy, failure)

    return send_with_retry


async def _send_again(send: Send, request: WireRequest, policy: RetryPolicy, failure: RerankError) -> Ranking:
    failures: list[RerankError] = []
    delay = 0.0

    def should_go_on(state: RetryCallState) -> bool:
        nonlocal delay
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, RerankError):
            return False
        failures.append(error)
        request.tally.failure = error
        chosen = policy.next_delay(failures, random.random())
        if chosen is None or chosen > anyio.current_effective_deadline() - anyio.current_time():
            return False
        delay = chosen
        return True

    async def attempt() -> Ranking:
        if not failures:  # the first attempt was made, and failed, before tenacity was needed
            raise failure
        return await send(request)

    # A fresh object for each call: a shared one mixes up the attempts of concurrent calls (tenacity#93).
    retrying = AsyncRetrying(retry=should_go_on, wait=lambda _: delay, sleep=anyio.sleep, reraise=True)
    ranking: Ranking = await retrying(attempt)
    return ranking
