"""SyncRerankClient: the blocking client, for code without an event loop."""

import asyncio
import logging
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from pydantic import SecretStr

from ._background import background
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
from ._stack.connections import CLOSING_SECONDS
from ._stack.limit_store import SharedLimits
from ._streams import OnProgress, SyncRerankStream
from .catalog import Scoring
from .documents import Document, ImageDocument, Mixed, Query, SequenceNotStr, TextDocument
from .errors import ConfigurationError
from .limits import RateLimit, RateLimitStatus
from .models import AnyRequest, RerankResponse
from .retry import RetryPolicy

if TYPE_CHECKING:
    import httpx

D = TypeVar("D", bound=str | TextDocument | ImageDocument | Mapping[str, Any])
R = TypeVar("R", bound=AnyRequest)
T = TypeVar("T")

_logger = logging.getLogger("jina_rerank")


class SyncRerankClient(BaseClient):
    """A blocking client for the Jina Rerank API and API-compatible servers: for scripts, threads and notebooks.

    All sync clients of a process share one event loop on a daemon thread, which starts with the first call. One
    client serves any number of threads. Ctrl-C cancels the call that the main thread waits for. A client that is never
    closed does not delay the exit of the interpreter. After a fork, the child starts a loop of its own.

    Args:
        api_key: The key; defaults to the environment variable JINA_API_KEY. The hosted API requires one, other servers
            may not. The key of the variable is not sent to a `base_url` given here.
        base_url: The server; defaults to the environment variable JINA_RERANK_BASE_URL, then to the hosted API. A URL
            without a path means `/v1/rerank`; `/rerank` is appended to a path that does not end in it.
        model: The reranker for calls that name none; None means `catalog.DEFAULT_MODEL`.
        timeout: Seconds for one attempt, including its whole response; None for no limit.
        deadline: Seconds for a whole call, including all attempts and waits; None for no limit.
        retry: When and how failures are retried.
        rate_limit: The limits of the key, if known; with None the client learns them from the server's responses.
        max_concurrency: How many requests may be in flight at once. With None the client starts with 2, and doubles
            the number (slow start) every 100 ms, or every 4 ms on a self-hosted server, up to 100, until it is
            throttled. A retry that waits is not in flight.
        max_documents: The most documents in one request. A longer list is sent in parts, as `scoring` allows.
        scoring: Whether the model scores each document alone ("pointwise": parts are merged exactly) or together
            ("listwise": parts are ranked in rounds); None uses what the catalogue says about the model.
        hedge_after: Seconds without a response after which a second copy of a request (a hedge) is sent, for at most
            about 5 % of the requests; None for never. Both copies may be billed.
        fallback: "original_order" returns the documents in the order given if the server is unavailable, with
            `degraded` and `cause` set; None raises the error.
        shared_limits: A `jina_rerank.shared.RedisLimits`, through which processes and machines share the limits of
            the key; with None each process finds its own share.
        headers: Headers to send with each request.
        proxy: The URL of a proxy; defaults to the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
        verify: How the server's certificate is verified: True for certifi's authorities, False for no verification, a
            path to a file or directory of authorities, or an `ssl.SSLContext`.
        trust_env: Whether proxies, SSL_CERT_FILE and SSL_CERT_DIR are read from the environment. The key and the
            base_url always are.
        allow_insecure: Whether the key may be sent over plain `http://` to another machine.
        transport: "httpx", or "aiohttp" for the faster connections of the extra [aiohttp].
        http_client: A function without arguments that makes an `httpx.AsyncClient` to send through. It is called on
            the background loop, and its client is closed with this one. Its transport, proxies, hooks and certificates
            are used; its timeout, base_url, auth, headers, cookies and redirects are not. Give it
            `limits=httpx.Limits(max_connections=None)`: its pool loses slots when a deadline cancels a request.

    Raises:
        ConfigurationError: An argument, or an environment variable, is invalid.
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
        http_client: "Callable[[], httpx.AsyncClient] | None" = None,
    ) -> None:
        api_key = as_secret(api_key)  # before anything can fail, so that no traceback shows it
        if http_client is not None and not callable(http_client):
            raise ConfigurationError(
                "http_client: a sync client takes a function that makes an httpx.AsyncClient, because it must be made "
                "on the background loop; pass lambda: httpx.AsyncClient(...)"
            )
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
    def rerank(
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
    def rerank(
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
    def rerank(  # pyright: ignore[reportOverlappingOverload]  # it is for mypy alone
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

    def rerank(
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
        """Rank documents by their relevance to a query.

        Args:
            query: A text or, for models that read images, an image. It must not be blank.
            documents: The candidates: texts, TextDocuments, ImageDocuments, mappings with "text" or "image", or, with
                `key`, objects of any kind. An empty list gives an empty response; blank documents rank last.
            key: A function that returns the document of an object, as in `sorted(key=)`; called in this thread.
            model: The reranker; None means the client's.
            top_n: How many of the best documents to return; None means all.
            deadline: Seconds for the whole call; None for no limit. The default is the client's.
            return_embeddings: Whether each result carries its document's vector; None leaves it to the server.
            max_doc_length: Tokens of each document that are scored; None means the model's own limit.
            extra_body: Additional fields for the request body, which only your server knows.

        Returns:
            The caller's own objects, best first, with their scores.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            DeadlineExceededError: The deadline passed.
            APIConnectionError: No complete response arrived, despite retries; APITimeoutError if it took too long.
            APIStatusError: The server returned an error status; the subclass says why.
            ResponseFormatError: The response is not a valid ranking.
            ClientClosedError: The client is closed, or the interpreter exits.
            ConfigurationError: The call was made on the background loop, from a hook or a finalizer.
        """
        _warn_running_loop()
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
        return background.run(self._core.perform(call), deadline=call.deadline)

    @overload
    def rerank_many(
        self,
        requests: Iterable[R],
        *,
        key: None = None,
        max_concurrency: int | None = None,
        ordered: bool = True,
        progress: OnProgress | None = None,
    ) -> SyncRerankStream[R]: ...

    @overload
    def rerank_many(
        self,
        requests: Iterable[R],
        *,
        key: Callable[[Any], Document],
        max_concurrency: int | None = None,
        ordered: bool = True,
        progress: OnProgress | None = None,
    ) -> SyncRerankStream[R, Any]: ...

    def rerank_many(
        self,
        requests: Iterable[R],
        *,
        key: Callable[[Any], Document] | None = None,
        max_concurrency: int | None = None,
        ordered: bool = True,
        progress: OnProgress | None = None,
    ) -> SyncRerankStream[R, Any]:
        """Rank any number of requests concurrently, while the caller iterates over the outcomes.

        Requests are read lazily, at most four times `max_concurrency` ahead of the outcomes taken: ten million of them
        need no more memory than a few hundred. A request that fails does not stop the others. The deadline of a
        request starts when its first HTTP request is sent.

        Iterating raises what `requests` raises, and ClientClosedError if the client is closed, after the outcomes of
        all requests read before.

        Args:
            requests: RerankRequests or mappings with their fields, or a generator of these, which is advanced in the
                thread that iterates over the stream. Each outcome has its request, unchanged, so that a subclass of
                RerankRequest can carry an id.
            key: A function that returns the document of an object in a request's `documents`, as in `rerank`. It is
                called on the background loop, which it must not block. If it raises an exception, the outcome of that
                request has an InvalidRequestError.
            max_concurrency: How many requests to process at once. None, or a number above the client's limit, means
                the client's limit: the lower of its `max_concurrency` and the concurrency of its `rate_limit`, or 100
                if neither is set.
            ordered: True yields outcomes in the order of the requests, False in the order of completion.
            progress: A function called with a BatchProgress just before each outcome is yielded, in the thread that
                iterates over the stream. An exception that it raises is raised by the loop.

        Returns:
            A stream of RerankOutcome. A plain `break` may leave the loop; `with` and `close()` stop it at once.

        Raises:
            InvalidRequestError: An argument is invalid. For an invalid request, the error is in its outcome instead.
        """
        _warn_running_loop()
        return SyncRerankStream(
            self._core, requests, key=key, max_concurrency=max_concurrency, ordered=ordered, progress=progress
        )

    @property
    def limits(self) -> RateLimitStatus:
        """A snapshot of the key's rate limits, for all sync clients of the process."""

        async def status() -> RateLimitStatus:
            return self._core.limits_here()

        return background.run(status(), deadline=CLOSING_SECONDS)

    def close(self) -> None:
        """Close the client: calls in flight in other threads, and later calls, raise ClientClosedError."""
        if background.started:
            background.run(self._core.aclose(), deadline=CLOSING_SECONDS)
        else:
            self._core.close_elsewhere()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_has_warned = threading.Event()


def _warn_running_loop() -> None:
    """Log, once per process, that the call blocks a running event loop; in a notebook that is expected."""
    if _has_warned.is_set():
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _has_warned.set()
    if "ipykernel" not in sys.modules:
        _logger.warning("SyncRerankClient blocks the event loop that runs in this thread; use RerankClient there")
