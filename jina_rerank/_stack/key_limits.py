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
"""By process, event loop, origin and key. The clients that use them hold them, until their loop ends."""


class KeyLimits:
    """A rate limiter, and the store that it shares with other processes, if there is one."""

    __slots__ = ("__weakref__", "_level_before", "_told_of_waits", "clients", "limiter", "store")

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter: RateLimiter = limiter
        self.store: LimitStore | None = None
        self.clients: int = 0
        """How many share it. Without any it is forgotten, even if an error's traceback still holds it."""
        self._told_of_waits = False
        self._level_before = 0.0

    async def leave(self) -> None:
        """Forget one client; close the store with the last."""
        self.clients -= 1
        if not self.clients and self.store is not None:
            await self.store.aclose()

    async def reserve(self, store: LimitStore, waiter: Waiter) -> Permit | float | None:
        """Reserve in the store what the limiter has let through.

        Returns:
            The permit; or the seconds until there may be room, if that is after the waiter's deadline; or None if the
            store does not answer and this process's share is used up, so that the waiter must wait in the queue again.
        """
        permit = await store.acquire(self.limiter.planned(waiter), waiter.deadline)
        self.limiter.share(store.share)
        if isinstance(permit, Permit) and permit.local and self.limiter.is_over_share:
            store.release(permit, counted=False)
            return None
        return permit

    def throttled(self, waiter: Waiter, permit: Permit | None, now: float, error: RateLimitError) -> bool:
        """Learn from a 429; return whether the limits now make everybody wait, and not the call alone."""
        before = self.limiter.concurrency.value
        if self.store is not None and permit is not None:
            kind, limit = parse_rate_limit(error)
            remaining = permit.tokens if kind == "tokens" else 0
            self.store.learn(kind, limit, remaining=remaining, pause=error.retry_after or 0.0)
            self.store.release(permit, counted=False)
        # A permit of its own shows that the store did not answer: then the limiter learns what it otherwise would not.
        is_shared = permit is not None and not permit.local
        everybody = self.limiter.throttled(waiter, now, error, is_shared=is_shared)
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
        return everybody

    def end(self, waiter: Waiter, permit: Permit | None, now: float, tokens: int | None) -> None:
        """End what is not ended: a request without an answer, and its reservation in the store."""
        if waiter.state == "sent":
            self.limiter.failed(waiter, now)
        if permit is not None and self.store is not None and not permit.released:
            self.store.release(permit, tokens=tokens)

    def answered(self) -> None:
        """Log that as many requests may be in flight as before the server refused some, once they may."""
        if self._level_before and self.limiter.concurrency.value >= self._level_before:
            _logger.debug("recovered; in flight allowed: %.3g", self.limiter.concurrency.value)
            self._level_before = 0.0

    def tell_of_wait(self, seconds: float) -> None:
        """Log once that calls begin to wait for long; again after all that waited have gone."""
        if seconds > _LONG_WAIT_SECONDS and not self._told_of_waits:
            self._told_of_waits = True
            _logger.info("calls wait for the rate limits of their key: %.0f s or more", seconds)

    def wait_is_over(self) -> None:
        """Note that a call waits no longer."""
        if not self.limiter.waiting:
            self._told_of_waits = False

    def status(self, now: float) -> RateLimitStatus:
        """Return what is allowed and used now."""
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
    """Return the limits of an endpoint's key on the running event loop, with one client more."""
    parts = urlsplit(endpoint.url)
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    place = (os.getpid(), current_token(), origin, endpoint.api_key)
    found = _limits.get(place)
    if found is None or not found.clients:
        # Where limits are shared there are limits: the server is no machine of one's own to be opened wide.
        is_careful = endpoint.hosted or shared is not None
        doubling = HOSTED_DOUBLING_SECONDS if is_careful else OWN_DOUBLING_SECONDS
        found = _limits[place] = KeyLimits(RateLimiter(doubling))
    found.clients += 1
    if shared is not None and found.store is None:
        key = "" if endpoint.api_key is None else endpoint.api_key.get_secret_value()
        found.store = shared.open(f"{origin} {hashlib.sha256(key.encode()).hexdigest()}", stated)
    return found
