"""The core of both clients: it resolves the arguments, composes the mechanisms, and performs calls."""

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, Unpack

import anyio

from ._call import Call, Destination, open_call, open_request, respond
from ._config import ClientConfig, ClientDefault, LocalOptions, OptionOverrides, local_config
from ._endpoint import Endpoint, resolve_endpoint
from ._stack import Send
from ._stack.call_context import CallContext
from ._stack.connections import Closable, Connections, LoopState
from ._stack.fallback import OutageLog, with_fallback
from ._stack.hedging import HedgeBudget, with_hedge
from ._stack.http import SecretHeaders, http_attempt
from ._stack.rate_limiting import with_max_concurrency, with_rate_limit
from ._stack.retrying import with_retry
from ._stack.splitting import with_parts
from ._stack.timing import with_deadline, with_timeout
from ._stack.transports import transport_opener
from ._tokens import estimate_tokens
from ._totals import Totals, UsageCounter, list_price
from ._version import __version__
from ._warnings import CallerLine
from .documents import Document, Query
from .errors import ClientClosedError, InvalidRequestError, RerankError
from .limits import RateLimitStatus
from .models import AnyRequest, RequestFields, RerankResponse
from .retry import RetryPolicy, RetryQuota

if TYPE_CHECKING:
    from .emulator.scorers import ScoreFunction, Scorer

T = TypeVar("T")

_DEFAULT_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "content-type": "application/json",
    "user-agent": f"jina-rerank/{__version__} python/{platform.python_version()}",
}
"""Sent with each request, unless the caller's `headers` replace one; `_endpoint.py` has those that they may not."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The state that a client shares with its clones."""

    endpoint: Endpoint
    connections: Connections[Closable]
    attempt: Callable[[ClientConfig], Send]
    """A function that makes the innermost Send: one HTTP attempt, or one scoring in this process."""
    only_model: str | None = None
    """The name of a local client's scorer; None for a client of a server."""
    usage: UsageCounter = field(default_factory=UsageCounter)
    hedges: HedgeBudget = field(default_factory=HedgeBudget)
    outages: OutageLog = field(default_factory=OutageLog)
    quotas: dict[int, RetryQuota] = field(default_factory=dict[int, RetryQuota])
    """The retry buckets by capacity: clones with another `RetryPolicy.quota` draw from another bucket."""

    def quota(self, policy: RetryPolicy) -> RetryQuota | None:
        """Return the token bucket for the retries of `policy`; None if its quota is None."""
        return None if policy.quota is None else self.quotas.setdefault(policy.quota, RetryQuota(policy.quota))


class Core:
    """The implementation of a client: it opens calls, sends them, and makes their responses."""

    __slots__ = ("_closes", "_connections", "_send", "_shared", "_to", "config")

    def __init__(self, shared: Shared, config: ClientConfig, *, closes: bool) -> None:
        self.config: ClientConfig = config
        self._shared = shared
        self._connections = shared.connections
        self._to = Destination(config, shared.endpoint.hosted, shared.only_model)
        self._closes = closes
        self._send = self._composed()

    @classmethod
    def create(cls, config: ClientConfig) -> Self:
        """Return the core of a client of a server.

        Raises:
            ConfigurationError: The key, the URL, a header, the proxy or the transport is invalid.
        """
        endpoint = resolve_endpoint(
            config.api_key, config.base_url, allow_insecure=config.allow_insecure, variable=os.getenv
        )
        checked = replace(config, headers=None).with_checked_headers(
            config.headers, has_key=endpoint.api_key is not None
        )
        connections = Connections(transport_opener(endpoint.url, checked))

        def attempt(config: ClientConfig) -> Send:
            headers = SecretHeaders(endpoint, {**_DEFAULT_HEADERS, **(config.headers or {})})
            return http_attempt(connections, endpoint, headers)

        return cls(Shared(endpoint, connections, attempt), checked, closes=True)

    @classmethod
    def local(cls, scorer: "str | Scorer | ScoreFunction", options: LocalOptions) -> Self:
        """Return the core of a client that ranks in this process.

        Raises:
            ConfigurationError: The scorer or an option is invalid, or the scorer's extra is not installed.
        """
        from ._stack import local  # noqa: PLC0415  # only local clients need it

        found = local.local_scorer(scorer)
        config = local_config(found.name, local.default_scoring(found), options)
        connections = Connections(lambda: local.LocalTransport(found))

        def attempt(config: ClientConfig) -> Send:
            return local.local_attempt(connections, listwise=config.scoring == "listwise")

        return cls(Shared(local.local_endpoint(found), connections, attempt, found.name), config, closes=True)

    def _composed(self) -> Send:
        config, shared, connections, url = self.config, self._shared, self._connections, self._shared.endpoint.url
        send = shared.attempt(config)
        send = with_timeout(send, config.timeout, url)
        send = with_rate_limit(send, connections, shared.endpoint, config)
        send = with_max_concurrency(send, connections, config.max_concurrency)
        send = with_hedge(send, config.hedge_after, shared.hedges)
        send = with_retry(send, config.retry, shared.quota(config.retry))
        send = with_parts(send, config.max_documents, config.scoring)
        send = with_deadline(send, connections, url)
        return with_fallback(send, config.fallback, shared.outages)

    def limits_here(self) -> RateLimitStatus:
        """Return the limits of the key on the running event loop."""
        limits = self._connections.here().limits
        return RateLimitStatus() if limits is None else limits.status(anyio.current_time())

    @property
    def hosted(self) -> bool:
        """Whether this is a client of Jina's own API."""
        return self._shared.endpoint.hosted

    def with_options(self, overrides: OptionOverrides) -> Self:
        """Return a core with some options changed over the same connections; closing it is a no-op."""
        config = self.config.overridden(overrides, has_key=self._shared.endpoint.api_key is not None)
        return type(self)(self._shared, config, closes=False)

    def with_own_totals(self) -> Self:
        """Return a core over the same connections that also has totals of its own calls."""
        return type(self)(replace(self._shared, usage=UsageCounter(self._shared.usage)), self.config, closes=False)

    @property
    def totals(self) -> Totals:
        """The total cost of the calls of this core."""
        return self._shared.usage.totals

    def open(
        self,
        query: Query,
        documents: Iterable[T],
        *,
        key: Callable[[T], Document] | None,
        deadline: float | ClientDefault | None,
        **fields: Unpack[RequestFields],
    ) -> Call[T]:
        """Return the call for the arguments of `rerank`.

        Raises:
            InvalidRequestError: An argument is invalid, or the hosted API is known to reject it.
        """
        return open_call(query, documents, key=key, deadline=deadline, to=self._to, **fields)

    def open_request(
        self,
        request: object,
        position: int,
        key: Callable[[Any], Document] | None,
        caller: CallerLine | None = None,
    ) -> Call[Any]:
        """Return the call for a request of `rerank_many`, with this client's model and deadline.

        Raises:
            InvalidRequestError: The request is invalid, or the hosted API is known to reject it.
        """
        return open_request(request, position, key=key, to=self._to, caller=caller)

    def estimate_tokens(self, request: AnyRequest, key: Callable[[Any], Document] | None) -> int:
        """Return about how many tokens a request will be billed for.

        Raises:
            InvalidRequestError: The request is invalid, or the hosted API is known to reject it.
        """
        call = self.open_request(request, 0, key)
        if not call.sent_positions:
            return 0
        wire = call.wire
        length = wire.max_doc_length
        return estimate_tokens(wire.query, wire.documents, known=wire.known, max_doc_length=length)

    def here(self) -> LoopState[Closable]:
        """Return the state of the running event loop.

        Raises:
            ClientClosedError: The client is closed.
        """
        return self._connections.here()

    async def perform(self, call: Call[T], *, is_batched: bool = False) -> RerankResponse[T]:
        """Send a call, and return its response.

        Raises:
            RerankError: The call failed; `attempts` is the number of HTTP requests it sent.
        """
        if not call.sent_positions:
            self._connections.check_open()
            return respond(call, None, 0, 0.0)
        context, requests = CallContext(call.deadline, is_batched=is_batched), 1
        try:
            ranking = await self._send(call.wire, context)
        except RerankError as error:
            error.attempts = context.attempts
            if isinstance(error, InvalidRequestError | ClientClosedError) and not context.attempts:
                requests = 0  # rejected before it was sent
            # The frames below hold the documents and the error itself, a cycle that only the garbage collector frees.
            context.forget_errors()
            error.with_traceback(None)
            raise
        finally:  # a cancelled call may be billed too
            price = list_price(call.wire.known, context.tokens)
            self._shared.usage.add(requests=requests, attempts=context.attempts, tokens=context.tokens, price=price)
        return respond(call, ranking, context.attempts, context.throttled_seconds)

    async def aclose(self) -> None:
        """Close the client; a no-op for a clone."""
        if self._closes:
            await self._connections.aclose()

    def close_elsewhere(self) -> None:
        """Mark the client as closed, from outside an event loop, where it has no connections."""
        if self._closes:
            self._connections.closed = True

    def __repr__(self) -> str:
        return f"(base_url={self._shared.endpoint.url!r}, model={self.config.model_name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a rerank client holds connections and a key, and cannot be pickled; make one in each process")
