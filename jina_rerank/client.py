"""RerankClient: the client for asyncio and trio."""

import ssl
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from pydantic import SecretStr

from ._base import BaseClient
from ._config import (
    CLIENT_DEFAULT,
    DEFAULT_DEADLINE,
    DEFAULT_MAX_DOCUMENTS,
    DEFAULT_TIMEOUT,
    ClientConfig,
    ClientDefault,
    Fallback,
    TransportName,
)
from ._core import Core
from ._endpoint import as_secret
from ._stack.limit_store import SharedLimits
from ._streams import OnProgress, RerankStream
from .catalog import Scoring
from .documents import Document, ImageDocument, Mixed, Query, SequenceNotStr, TextDocument
from .limits import RateLimit
from .models import AnyRequest, RerankResponse
from .retry import RetryPolicy

if TYPE_CHECKING:
    import httpx

D = TypeVar("D", bound=str | TextDocument | ImageDocument | Mapping[str, Any])
R = TypeVar("R", bound=AnyRequest)
T = TypeVar("T")


class RerankClient(BaseClient):
    """A client for the Jina Rerank API, and for servers that speak its wire, on asyncio and trio.

    One client serves any number of concurrent calls, from any number of event loops. It opens connections when they
    are needed, and closes them at `aclose()`, at the end of `async with`, or when the event loop ends.

    Args:
        api_key: The key; else the variable JINA_API_KEY. The hosted API needs one, other servers perhaps not. The
            variable's key is not sent to a `base_url` given here.
        base_url: The server; else the variable JINA_RERANK_BASE_URL; else the hosted API. Without a path it means
            `/v1/rerank`; a path that does not end in `/rerank` gets it appended.
        model: The reranker for calls that name none; None is `catalog.DEFAULT_MODEL`.
        timeout: Seconds for one attempt, its whole answer included; None for no limit.
        deadline: Seconds for a whole call, with all its attempts and waits; None for no limit.
        retry: When and how failures are retried.
        rate_limit: What the key may do, where it is known; None lets the client learn it from refusals.
        max_concurrency: How many requests may be in flight at once, on one event loop; None begins with 2 and doubles
            every 100 ms without a refusal, up to 100. A retry that waits is not in flight.
        max_documents: Documents in one request at the most. A longer list is sent in parts: how, `scoring` says.
        scoring: Whether the model scores each document alone ("pointwise": parts are merged exactly) or together
            ("listwise": parts are ranked in rounds); None is what the catalogue knows of the model.
        hedge_after: Seconds after which a second copy of a request that is not answered is sent, for at most about
            5 % of the requests; None for never. Both may be billed.
        fallback: "original_order" returns the documents in the order given when no ranking could be had, with
            `degraded` and `cause` set; None raises the error.
        shared_limits: A `jina_rerank.shared.RedisLimits`, through which processes and machines share the limits of
            the key; None lets each find its share by itself.
        headers: Headers to send with each request.
        proxy: The URL of a proxy; else those of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
        verify: How the server's certificate is checked: True by certifi's authorities, False not at all, a path to a
            file or directory of authorities, or an `ssl.SSLContext`.
        trust_env: Whether proxies, SSL_CERT_FILE and SSL_CERT_DIR are taken from the environment. The key and the
            base_url are so in any case.
        allow_insecure: Whether the key may travel over plain `http://` to another machine.
        transport: "httpx", or "aiohttp" for the faster connections of the extra [aiohttp], on asyncio alone.
        http_client: An `httpx.AsyncClient` to send through, which stays yours to close, or a function that makes
            one for each event loop, which is closed with it. Its transport, proxies, hooks and certificates are
            used; its timeout, base_url, auth, headers, cookies and redirects are not. Give it
            `limits=httpx.Limits(max_connections=None)`: its pool loses places when a deadline cancels a request.

    Raises:
        ConfigurationError: An argument, or a variable, breaks a rule.
    """

    def __init__(
        self,
        api_key: str | SecretStr | None = None,
        *,
        base_url: str | None = None,
        model: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        deadline: float | None = DEFAULT_DEADLINE,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        rate_limit: RateLimit | None = None,
        max_concurrency: int | None = None,
        max_documents: int = DEFAULT_MAX_DOCUMENTS,
        scoring: Scoring | None = None,
        hedge_after: float | None = None,
        fallback: Fallback | None = None,
        shared_limits: SharedLimits | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        verify: bool | str | ssl.SSLContext = True,
        trust_env: bool = True,
        allow_insecure: bool = False,
        transport: TransportName = "httpx",
        http_client: "httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None" = None,
    ) -> None:
        api_key = as_secret(api_key)  # before anything can fail, so that no traceback shows it
        config = ClientConfig(
            api_key=api_key,
            base_url=base_url,
            model=model,
            timeout=timeout,
            deadline=deadline,
            retry=retry,
            rate_limit=rate_limit,
            max_concurrency=max_concurrency,
            max_documents=max_documents,
            scoring=scoring,
            hedge_after=hedge_after,
            fallback=fallback,
            shared_limits=shared_limits,
            headers=headers,
            proxy=proxy,
            verify=verify,
            trust_env=trust_env,
            allow_insecure=allow_insecure,
            transport=transport,
            http_client=http_client,
        )
        self._core: Core = Core.create(config)

    @overload
    async def rerank(
        self,
        query: Query,
        documents: SequenceNotStr[D],
        *,
        key: None = None,
        model: str | None = None,
        top_n: int | None = None,
        deadline: float | ClientDefault | None = CLIENT_DEFAULT,
        return_embeddings: bool | None = None,
        max_doc_length: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> RerankResponse[D]: ...

    @overload
    async def rerank(
        self,
        query: Query,
        documents: SequenceNotStr[T],
        *,
        key: Callable[[T], Document],
        model: str | None = None,
        top_n: int | None = None,
        deadline: float | ClientDefault | None = CLIENT_DEFAULT,
        return_embeddings: bool | None = None,
        max_doc_length: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> RerankResponse[T]: ...

    # For mypy, which takes `object` for D where an inline list mixes texts and images. With any other return type it
    # would find `documents: list[Any]` ambiguous.
    @overload
    async def rerank(
        self,
        query: Query,
        documents: SequenceNotStr[Mixed],
        *,
        key: None = None,
        model: str | None = None,
        top_n: int | None = None,
        deadline: float | ClientDefault | None = CLIENT_DEFAULT,
        return_embeddings: bool | None = None,
        max_doc_length: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> RerankResponse[Any]: ...

    async def rerank(
        self,
        query: Query,
        documents: SequenceNotStr[Any],
        *,
        key: Callable[[Any], Document] | None = None,
        model: str | None = None,
        top_n: int | None = None,
        deadline: float | ClientDefault | None = CLIENT_DEFAULT,
        return_embeddings: bool | None = None,
        max_doc_length: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> RerankResponse[Any]:
        """Orders documents by their relevance to a query.

        Args:
            query: What to rank by: a text or, for models that read images, an image. Not blank.
            documents: The candidates: texts, TextDocuments, ImageDocuments, mappings with "text" or "image", or with
                `key` objects of any kind. None at all gives an empty response; blank ones rank last.
            key: Gives the document of each object, as in `sorted(key=)`.
            model: The reranker; None means the client's.
            top_n: How many of the best to return; None means all.
            deadline: Seconds for the whole call; None for no limit.
            return_embeddings: Whether each result carries its document's vector; None leaves it to the server.
            max_doc_length: Tokens of each document that are scored; None means the model's own limit.
            extra_body: Fields to send that only your server knows.

        Returns:
            The caller's own objects, best first, with their scores.

        Raises:
            InvalidRequestError: An argument breaks a rule; nothing was sent.
            DeadlineExceededError: The deadline passed.
            APIConnectionError: No complete answer came, in spite of retries; APITimeoutError if it took too long.
            APIStatusError: The server refused; the subclass says why.
            ResponseFormatError: The answer is not a valid ranking.
            ClientClosedError: The client is closed.
        """
        call = self._core.open(
            query,
            documents,
            key=key,
            model=model,
            top_n=top_n,
            deadline=deadline,
            return_embeddings=return_embeddings,
            max_doc_length=max_doc_length,
            extra_body=extra_body,
        )
        return await self._core.perform(call)

    @overload
    def rerank_many(
        self,
        requests: Iterable[R] | AsyncIterable[R],
        *,
        key: None = None,
        max_concurrency: int | None = None,
        ordered: bool = True,
        progress: OnProgress | None = None,
    ) -> RerankStream[R]: ...

    @overload
    def rerank_many(
        self,
        requests: Iterable[R] | AsyncIterable[R],
        *,
        key: Callable[[Any], Document],
        max_concurrency: int | None = None,
        ordered: bool = True,
        progress: OnProgress | None = None,
    ) -> RerankStream[R, Any]: ...

    def rerank_many(
        self,
        requests: Iterable[R] | AsyncIterable[R],
        *,
        key: Callable[[Any], Document] | None = None,
        max_concurrency: int | None = None,
        ordered: bool = True,
        progress: OnProgress | None = None,
    ) -> RerankStream[R, Any]:
        """Ranks any number of requests, several at once, as the outcomes are iterated over.

        Requests are read lazily, at most four times `max_concurrency` further than outcomes are taken: ten million of
        them need no more memory than a few hundred. A request that fails does not stop the others. Its deadline
        begins when it is its turn.

        Args:
            requests: RerankRequests or mappings with their fields, or a generator that makes them, also an async
                one. Each comes back in its outcome as it is, so that a subclass of RerankRequest can carry an id. A
                blocking iterable blocks the event loop.
            key: Gives the document of each object in the `documents` of a request, as in `rerank`. If it raises an
                exception, that request has an InvalidRequestError in its outcome.
            max_concurrency: How many are carried out at once; None, or a number above the client's, is the client's:
                the lower of its `max_concurrency` and its `rate_limit`'s, or 100 where neither is stated.
            ordered: True gives the outcomes in the order of the requests, False as they are ready.
            progress: Called with each outcome, just before it is handed over. What it raises is raised by the loop.

        Returns:
            A stream of RerankOutcome. It can be left by a plain `break`; `async with` and `aclose()` end it at once.

        Raises:
            InvalidRequestError: An argument breaks a rule. A request that does so has it in its outcome instead.

        Iterating raises what `requests` raises, and ClientClosedError if the client is closed, after the outcomes of
        all that was read before.
        """
        return RerankStream(
            self._core, requests, key=key, max_concurrency=max_concurrency, ordered=ordered, progress=progress
        )

    async def aclose(self) -> None:
        """Closes the client: calls in flight on this event loop end with ClientClosedError, and so do later ones."""
        await self._core.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
