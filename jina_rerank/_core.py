"""The core under both clients: it resolves the arguments, composes the mechanisms, and carries out calls."""

import os
import platform
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, cast

import anyio
from pydantic import SecretStr

from ._call import Call, open_request, respond
from ._config import Fallback, LocalOptions, OptionOverrides, Options, TransportName, check_flag, local_options
from ._endpoint import Endpoint, check_headers, resolve_endpoint
from ._stack import Send
from ._stack.connections import Connections, LoopState
from ._stack.fallback import OutageLog, with_fallback
from ._stack.hedging import HedgeBudget, with_hedge
from ._stack.http import SecretHeaders, http_attempt
from ._stack.limit_store import SharedLimits
from ._stack.rate_limiting import with_max_concurrency, with_rate_limit
from ._stack.retrying import with_retry
from ._stack.splitting import with_parts
from ._stack.timing import with_deadline, with_timeout
from ._stack.transports import transport_opener
from ._tokens import estimate_tokens
from ._totals import Totals, UsageCounter, list_price
from ._version import __version__
from .catalog import DEFAULT_MODEL, Scoring
from .documents import Document
from .errors import ClientClosedError, ConfigurationError, InvalidRequestError, RerankError
from .limits import RateLimit, RateLimitStatus
from .models import AnyRequest, RerankResponse
from .retry import RetryPolicy, RetryQuota

if TYPE_CHECKING:
    import httpx

    from .emulator.scorers import ScoreFunction, Scorer

T = TypeVar("T")

_OWN_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "content-type": "application/json",
    "user-agent": f"jina-rerank/{__version__} python/{platform.python_version()}",
}


@dataclass(frozen=True, slots=True)
class Shared:
    """What a client has in common with its clones."""

    endpoint: Endpoint
    connections: Connections
    scorer: "Scorer | None" = None
    """What scores in this process; None for a client of a server."""
    account: UsageCounter = field(default_factory=UsageCounter)
    hedges: HedgeBudget = field(default_factory=HedgeBudget)
    incident: OutageLog = field(default_factory=OutageLog)
    limits: SharedLimits | None = None
    """What shares the limits of the key with other processes."""
    quotas: dict[int, RetryQuota] = field(default_factory=dict[int, RetryQuota])
    """By capacity: clones with another `RetryPolicy.quota` draw from a bucket of their own."""

    def quota(self, policy: RetryPolicy) -> RetryQuota | None:
        """The bucket for the retries of `policy`; None if it wants none."""
        return None if policy.quota is None else self.quotas.setdefault(policy.quota, RetryQuota(policy.quota))


class Core:
    """What a client and its facade have in common."""

    __slots__ = ("_closes", "_connections", "_endpoint", "_send", "_shared", "options")

    def __init__(self, shared: Shared, options: Options, *, closes: bool) -> None:
        self.options: Options = options
        self._shared = shared
        self._endpoint = shared.endpoint
        self._connections = shared.connections
        self._closes = closes
        self._send = self._composed()

    @classmethod
    def create(
        cls,
        api_key: str | SecretStr | None,
        *,
        base_url: str | None,
        model: str | None,
        timeout: float | None,
        deadline: float | None,
        retry: RetryPolicy,
        rate_limit: RateLimit | None,
        max_concurrency: int | None,
        max_documents: int,
        scoring: Scoring | None,
        hedge_after: float | None,
        fallback: Fallback | None,
        shared_limits: SharedLimits | None,
        headers: Mapping[str, str] | None,
        proxy: str | None,
        verify: bool | str | ssl.SSLContext,
        trust_env: bool,
        allow_insecure: bool,
        transport: TransportName,
        http_client: "httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None",
    ) -> Self:
        """The core for a client's arguments.

        Raises:
            ConfigurationError: One breaks a rule.
        """
        check_flag("trust_env", trust_env, ConfigurationError)
        check_flag("allow_insecure", allow_insecure, ConfigurationError)
        endpoint = resolve_endpoint(api_key, base_url, allow_insecure=allow_insecure, variable=os.getenv)
        options = Options(
            model=DEFAULT_MODEL if model is None else model,
            timeout=timeout,
            deadline=deadline,
            retry=retry,
            headers=check_headers({} if headers is None else headers, has_key=endpoint.api_key is not None),
            rate_limit=rate_limit,
            max_concurrency=max_concurrency,
            max_documents=max_documents,
            scoring=scoring,
            hedge_after=hedge_after,
            fallback=fallback,
        )
        opener = transport_opener(
            endpoint.url,
            proxy=proxy,
            verify=verify,
            trust_env=trust_env,
            transport=transport,
            http_client=http_client,
        )
        shared = Shared(endpoint, Connections(opener), limits=_checked_limits(shared_limits))
        return cls(shared, options, closes=True)

    @classmethod
    def local(cls, scorer: "str | Scorer | ScoreFunction", options: LocalOptions) -> Self:
        """The core of a client that ranks in this process.

        Raises:
            ConfigurationError: The scorer is none, its extra is missing, or an option breaks a rule.
        """
        from ._stack.local import LocalTransport, default_scoring, local_endpoint, local_scorer  # noqa: PLC0415  # rarely used

        found = local_scorer(scorer)
        checked = local_options(found.name, default_scoring(found), options)
        shared = Shared(local_endpoint(found), Connections(lambda: LocalTransport(found)), found)
        return cls(shared, checked, closes=True)

    def _attempt(self) -> Send:
        scorer = self._shared.scorer
        if scorer is None:
            headers = SecretHeaders(self._endpoint, {**_OWN_HEADERS, **self.options.headers})
            return http_attempt(self._connections, self._endpoint, headers)
        from ._stack.local import local_attempt  # noqa: PLC0415  # rarely used

        return local_attempt(self._connections, listwise=self.options.scoring == "listwise")

    def _composed(self) -> Send:
        options, connections, url = self.options, self._connections, self._endpoint.url
        send = self._attempt()
        send = with_timeout(send, options.timeout, url)
        send = with_rate_limit(
            send,
            connections,
            self._endpoint,
            policy=options.retry,
            rate_limit=options.rate_limit,
            max_concurrency=options.max_concurrency,
            shared_limits=self._shared.limits,
        )
        send = with_max_concurrency(send, connections, options.max_concurrency)
        send = with_hedge(send, options.hedge_after, self._shared.hedges)
        send = with_retry(send, options.retry, self._shared.quota(options.retry))
        send = with_parts(send, options.max_documents, options.scoring)
        send = with_deadline(send, connections, url)
        send = with_fallback(send, options.fallback, self._shared.incident)
        return self._named(send)

    def _named(self, send: Send) -> Send:
        scorer = self._shared.scorer
        if scorer is None:
            return send
        from ._stack.local import with_model  # noqa: PLC0415  # rarely used

        return with_model(send, scorer.name)

    def limits_here(self) -> RateLimitStatus:
        """Return the limits of the key on the running event loop."""
        limits = self._connections.here().limits
        return RateLimitStatus() if limits is None else limits.status(anyio.current_time())

    @property
    def hosted(self) -> bool:
        """Whether this is a client of Jina's own API."""
        return self._endpoint.hosted

    def with_options(self, overrides: OptionOverrides) -> Self:
        """A core with other options over the same connections; closing it closes nothing."""
        options = self.options.overridden(overrides, has_key=self._endpoint.api_key is not None)
        return type(self)(self._shared, options, closes=False)

    def with_account(self) -> Self:
        """A core over the same connections, whose calls are also added up apart."""
        return type(self)(replace(self._shared, account=UsageCounter(self._shared.account)), self.options, closes=False)

    @property
    def totals(self) -> Totals:
        """What the calls of this core have cost."""
        return self._shared.account.totals

    def open(self, request: object, position: int, key: Callable[[Any], Document] | None) -> Call[Any]:
        """The call that a request of `rerank_many` stands for, with this client's model and deadline.

        Raises:
            InvalidRequestError: It breaks a rule, or the hosted API is known to refuse it.
        """
        return open_request(request, position, key=key, options=self.options, hosted=self.hosted)

    def estimate_tokens(self, request: AnyRequest, key: Callable[[Any], Document] | None) -> int:
        """About how many tokens a request will be billed for.

        Raises:
            InvalidRequestError: It breaks a rule, or the hosted API is known to refuse it.
        """
        call = self.open(request, 0, key)
        if not call.sent:
            return 0
        wire = call.wire
        length = wire.max_doc_length
        return estimate_tokens(wire.query, wire.documents, model=wire.model, max_doc_length=length)

    def here(self) -> LoopState:
        """The state of the running event loop.

        Raises:
            ClientClosedError: The client is closed.
        """
        return self._connections.here()

    async def perform(self, call: Call[T]) -> RerankResponse[T]:
        """Carries a call out.

        Raises:
            RerankError: It failed; `attempts` says after how many HTTP requests.
        """
        if not call.sent:
            self._connections.check_open()
            return respond(call, None)
        tally, asked = call.wire.tally, 1
        try:
            ranking = await self._send(call.wire)
        except RerankError as error:
            error.attempts = tally.attempts
            if isinstance(error, InvalidRequestError | ClientClosedError) and not tally.attempts:
                asked = 0  # it was refused, as others are before they come here
            # The frames below hold the documents, and the error itself: it would be garbage in a circle, which stays
            # until the garbage collector comes by.
            tally.failure = tally.waited_out = None
            error.with_traceback(None)
            raise
        finally:  # a call that is cancelled has cost something too
            price = list_price(call.wire.model, tally.tokens)
            self._shared.account.add(requests=asked, attempts=tally.attempts, tokens=tally.tokens, price=price)
        return respond(call, ranking)

    async def aclose(self) -> None:
        """Closes the client; a clone closes nothing."""
        if self._closes:
            await self._connections.aclose()

    def close_elsewhere(self) -> None:
        """Closes the client from outside of any event loop, where it has no connections."""
        if self._closes:
            self._connections.closed = True

    def __repr__(self) -> str:
        return f"(base_url={self._endpoint.url!r}, model={self.options.model!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a rerank client holds connections and a key, and cannot be pickled; make one in each process")


def _checked_limits(value: object) -> SharedLimits | None:
    if value is None:
        return None
    if isinstance(value, type) or not callable(getattr(value, "open", None)):
        kind = type(value).__name__
        raise ConfigurationError(f"shared_limits: expected a RedisLimits, got {kind}; use RedisLimits.from_url(...)")
    return cast(SharedLimits, value)
