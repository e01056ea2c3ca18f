"""What comes back when no ranking can be had."""

import logging
from typing import Final

from .._codec import Ranking, WireRequest
from .._config import Fallback
from ..errors import APIConnectionError, DeadlineExceededError, RateLimitError, RerankError, ServerError
from . import Send
from .call_context import CallContext

_logger = logging.getLogger("jina_rerank")

_OUTAGE: Final = (APIConnectionError, DeadlineExceededError, RateLimitError, ServerError)
"""Trouble on the way or at the server. What else fails is the caller's own to mend, or would hide a mistake."""


class OutageLog:
    """A time without rankings, of a client and its clones: from the first fallback to the next ranking."""

    __slots__ = ("_fallbacks",)

    def __init__(self) -> None:
        self._fallbacks = 0

    def goes_on(self, error: RerankError) -> None:
        """Counts a fallback, and tells of the first."""
        self._fallbacks += 1
        if self._fallbacks == 1:
            _logger.warning("no rankings for now; documents come back in the order given: %s", _reason(error))

    def ends(self) -> None:
        """Tells that there are rankings again, if there were none."""
        if self._fallbacks:
            _logger.info("rankings again; calls answered in the order given: %d", self._fallbacks)
            self._fallbacks = 0


def with_fallback(send: Send, fallback: Fallback | None, incident: OutageLog) -> Send:
    """Turns an outage into a ranking without rows, with its cause: the response keeps the order given."""
    if fallback is None:
        return send

    async def send_or_fall_back(request: WireRequest, context: CallContext) -> Ranking:
        try:
            ranking = await send(request, context)
        except _OUTAGE as error:
            error.attempts = context.attempts
            incident.goes_on(error)
            # Without the traceback, whose frames would keep the request for as long as the response is kept.
            return Ranking([], [], calls=0, cause=error.with_traceback(None))
        incident.ends()
        return ranking

    return send_or_fall_back


def _reason(error: RerankError) -> str:
    """What happened, in words that quote no server: it may repeat documents."""
    name = type(error).__name__
    if isinstance(error, APIConnectionError):
        return f"{name}: {error.message}"
    return name if error.status is None else f"{name} (HTTP {error.status})"
