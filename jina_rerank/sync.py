"""SyncRerankClient: the same client for code without an event loop."""

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
    """RerankClient's methods, blocking: for scripts, threads and notebooks.

    All sync clients of a process share one event loop on a daemon thread, which starts with the first call. One
    client serves any number of threads; Ctrl-C cancels the call that waits; a client that is never closed delays no
    exit; after a fork, the child starts anew.

    Args:
        http_client: A function without arguments that makes an `httpx.AsyncClient`. It is called on the background
            loop, and its client is closed with this one.

    The other arguments are those of RerankClient.

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
        """Orders documents by their relevance to a query: RerankClient.rerank, blocking.

        Arguments, result and errors are the same. `key` is called in the calling thread.
        """
        _mention_running_loop()
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
        """Ranks any number of requests, several at once: RerankClient.rerank_many, blocking.

        Arguments, outcomes and errors are the same. `requests` is advanced, and `progress` called, in the thread that
        iterates over the stream; `key` is called on the background loop, which it must not block.
        """
        _mention_running_loop()
        return SyncRerankStream(
            self._core, requests, key=key, max_concurrency=max_concurrency, ordered=ordered, progress=progress
        )

    @property
    def limits(self) -> RateLimitStatus:
        """A snapshot of the key's limits: what is allowed, used, waited for, and held by others."""

        async def status() -> RateLimitStatus:
            return self._core.limits_here()

        return background.run(status(), deadline=CLOSING_SECONDS)

    def close(self) -> None:
        """Closes the client: calls in flight in other threads end with ClientClosedError, and so do later ones."""
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


_mentioned = threading.Event()


def _mention_running_loop() -> None:
    """Says, once per process, that an event loop stands still meanwhile. In a notebook that is as it should be."""
    if _mentioned.is_set():
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _mentioned.set()
    if "ipykernel" not in sys.modules:
        _logger.warning("SyncRerankClient blocks the event loop that runs in this thread; use RerankClient there")
