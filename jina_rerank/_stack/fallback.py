"""The fallback for an outage: the documents in the order given."""

import logging
from typing import Final

from .._codec import Ranking, WireRequest
from .._config import Fallback
from ..errors import APIConnectionError, DeadlineExceededError, RateLimitError, RerankError, ServerError
from . import Send
from .call_context import CallContext

_logger = logging.getLogger("jina_rerank")

_OUTAGE_ERRORS: Final = (APIConnectionError, DeadlineExceededError, RateLimitError, ServerError)
"""Failures of the network or the server. Other errors are mistakes of the caller, which a fallback would hide."""


class OutageLog:
    """The log of the outages of a client and its clones, each from the first fallback to the next ranking."""

    __slots__ = ("_fallbacks",)

    def __init__(self) -> None:
        self._fallbacks = 0

    def count_fallback(self, error: RerankError) -> None:
        """Count a fallback; log the first of an outage."""
        self._fallbacks += 1
        if self._fallbacks == 1:
            _logger.warning("rerank unavailable; returning the original order: %s", _reason(error))

    def end(self) -> None:
        """Log the end of an outage, if there was one."""
        if self._fallbacks:
            _logger.info("rerank available again; calls that returned the original order: %d", self._fallbacks)
            self._fallbacks = 0


def with_fallback(send: Send, fallback: Fallback | None, outages: OutageLog) -> Send:
    """Return a ranking without rows, with its cause, in an outage: the response keeps the order given."""
    if fallback is None:
        return send

    async def send_or_fall_back(request: WireRequest, context: CallContext) -> Ranking:
        try:
            ranking = await send(request, context)
        except _OUTAGE_ERRORS as error:
            error.attempts = context.attempts
            outages.count_fallback(error)
            # Without the traceback, whose frames would keep the request alive as long as the response.
            return Ranking([], [], calls=0, cause=error.with_traceback(None))
        outages.end()
        return ranking

    return send_or_fall_back


def _reason(error: RerankError) -> str:
    """Return the reason without the server's text, which may quote documents."""
    name = type(error).__name__
    if isinstance(error, APIConnectionError):
        return f"{name}: {error.message}"
    return name if error.status is None else f"{name} (HTTP {error.status})"
