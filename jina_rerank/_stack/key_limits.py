"""The limits of one key on one event loop, shared by all clients that use it there, and the registry of them."""

import hashlib
import logging
import os
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from anyio.lowlevel import EventLoopToken, current_token
from pydantic import SecretStr

from .._endpoint import Endpoint
from ..errors import RateLimitError
from ..limits import LimitUse, RateLimit, RateLimitStatus
from .adaptive_limit import HOSTED_DOUBLING_SECONDS, OWN_DOUBLING_SECONDS
from .limit_store import LimitStore, Permit, SharedLimits
from .rate_limit_errors import parse_rate_limit
from .rate_limiter import RateLimiter
from .waiter import Waiter

_LONG_WAIT_SECONDS: Final = 5.0
_logger = logging.getLogger("jina_rerank")
_limits: Final[WeakValueDictionary[tuple[int, EventLoopToken, str, SecretStr | None], "KeyLimits"]] = (
    WeakValueDictionary()
)
"""The limits by process, event loop, origin and key. Their clients keep them alive until the event loop ends."""


class KeyLimits:
    """The rate limiter of a key, and the store that other processes share, if there is one."""

    __slots__ = ("__weakref__", "_has_logged_wait", "_level_before", "clients", "limiter", "store")

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter: RateLimiter = limiter
        self.store: LimitStore | None = None
        self.clients: int = 0
        """The number of clients that share it. Without clients it is replaced, even if a traceback keeps it alive."""
        self._has_logged_wait = False
        self._level_before = 0.0

    async def leave(self) -> None:
        """Remove one client; close the store after the last."""
        self.clients -= 1
        if not self.clients and self.store is not None:
            await self.store.aclose()

    async def reserve(self, store: LimitStore, waiter: Waiter) -> Permit | float | None:
        """Reserve in the store a request that the limiter has admitted.

        Returns:
            The permit; or the seconds until there may be room, if that is after the waiter's deadline; or None if the
            store does not respond and this process's share is exhausted, so that the waiter must queue again.
        """
        permit = await store.acquire(self.limiter.planned(waiter), waiter.deadline)
        self.limiter.share(store.share)
        if isinstance(permit, Permit) and permit.local and self.limiter.is_over_share:
            store.release(permit, counted=False)
            return None
        return permit

    def throttled(self, waiter: Waiter, permit: Permit | None, now: float, error: RateLimitError) -> bool:
        """Learn from a 429; return whether the limits now delay all calls, and not just this one."""
        before = self.limiter.concurrency.value
        if self.store is not None and permit is not None:
            kind, limit = parse_rate_limit(error)
            remaining = permit.tokens if kind == "tokens" else 0
            self.store.learn(kind, limit, remaining=remaining, pause=error.retry_after or 0.0)
            self.store.release(permit, counted=False)
        # With a local permit the store did not respond, so the limiter itself must learn the limit.
        is_shared = permit is not None and not permit.local
        delays_all = self.limiter.throttled(waiter, now, error, is_shared=is_shared)
        after = self.limiter.concurrency.value
        if after < before:
            self._level_before = max(self._level_before, before)
        if _logger.isEnabledFor(logging.DEBUG):
            kind, limit = parse_rate_limit(error)
            named = "no limit named" if kind is None else kind if limit is None else f"{limit} {kind}"
            pause = self.limiter.paused_seconds(now)
            _logger.debug(
                "throttled (%s); in flight allowed: %.3g (%.3g before); pause: %.3g s", named, after, before, pause
            )
        return delays_all

    def end(self, waiter: Waiter, permit: Permit | None, now: float, tokens: int | None) -> None:
        """End a request without a response in the limiter, and release its reservation in the store."""
        if waiter.state == "sent":
            self.limiter.failed(waiter, now)
        if permit is not None and self.store is not None and not permit.released:
            self.store.release(permit, tokens=tokens)

    def answered(self) -> None:
        """Log once that the level has recovered from a decrease."""
        if self._level_before and self.limiter.concurrency.value >= self._level_before:
            _logger.debug("recovered; in flight allowed: %.3g", self.limiter.concurrency.value)
            self._level_before = 0.0

    def log_wait(self, seconds: float) -> None:
        """Log a long wait, once until the queue is empty."""
        if seconds > _LONG_WAIT_SECONDS and not self._has_logged_wait:
            self._has_logged_wait = True
            _logger.info("calls wait for the rate limits of their key: %.0f s or more", seconds)

    def wait_ended(self) -> None:
        """Record the end of a wait."""
        if not self.limiter.waiting:
            self._has_logged_wait = False

    def status(self, now: float) -> RateLimitStatus:
        """Return a snapshot of the limits and their use."""
        limiter, foreign = self.limiter, None if self.store is None else self.store.foreign
        windows = [
            LimitUse(
                used=window.used_at(now),
                limit=None if window.limit == float("inf") else int(window.limit),
                held_by_others=int(window.foreign(now)) if foreign is None else held,
            )
            for window, held in (
                (limiter.requests, foreign.requests if foreign else 0),
                (limiter.tokens, foreign.tokens if foreign else 0),
            )
        ]
        concurrency = limiter.concurrency
        named = min(concurrency.configured, concurrency.named)
        return RateLimitStatus(
            in_flight=limiter.in_flight,
            allowed_in_flight=concurrency.value,
            concurrency=None if named == float("inf") else int(named),
            requests=windows[0],
            tokens=windows[1],
            waiting=limiter.waiting,
            paused_seconds=limiter.paused_seconds(now),
        )


def key_limits(endpoint: Endpoint, shared: SharedLimits | None, stated: RateLimit | None) -> KeyLimits:
    """Return the limits of an endpoint's key on the running event loop, and register one more client."""
    parts = urlsplit(endpoint.url)
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    place = (os.getpid(), current_token(), origin, endpoint.api_key)
    found = _limits.get(place)
    if found is None or not found.clients:
        # A caller who shares limits has limits, so the fast slow start of a self-hosted server does not apply.
        is_careful = endpoint.hosted or shared is not None
        doubling = HOSTED_DOUBLING_SECONDS if is_careful else OWN_DOUBLING_SECONDS
        found = _limits[place] = KeyLimits(RateLimiter(doubling))
    found.clients += 1
    if shared is not None and found.store is None:
        key = "" if endpoint.api_key is None else endpoint.api_key.get_secret_value()
        found.store = shared.open(f"{origin} {hashlib.sha256(key.encode()).hexdigest()}", stated)
    return found
