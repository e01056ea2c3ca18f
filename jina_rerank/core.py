"""The core under both clients: it resolves the arguments, composes the mechanisms, and carries out calls."""

import os
import platform
import ssl
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar

from pydantic import SecretStr

from ._stack import Send
from ._stack.connections import Connections
from ._stack.http import SecretHeaders, http_attempt
from ._stack.lanes import transport_opener
from ._stack.retrying import with_retry
from ._stack.timing import with_deadline, with_timeout
from ._version import __version__
from .call import Call, open_call, respond
from .catalog import DEFAULT_MODEL, find_model
from .documents import Document, Query, is_image
from .endpoint import Endpoint, check_headers, resolve_endpoint
from .errors import InvalidRequestError, RerankError
from .models import RerankResponse
from .options import ClientDefault, OptionOverrides, Options
from .retry import RetryPolicy

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_OWN_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "content-type": "application/json",
    "user-agent": f"jina-rerank/{__version__} python/{platform.python_version()}",
}


class Core:
    """What a client and its facade do, without a colour of its own: `prepare` here and now, `perform` on a loop."""

    __slots__ = ("_closes", "_connections", "_endpoint", "_send", "options")

    def __init__(self, endpoint: Endpoint, options: Options, connections: Connections, *, closes: bool) -> None:
        self.options = options
        self._endpoint = endpoint
        self._connections = connections
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
        headers: Mapping[str, str] | None,
        proxy: str | None,
        verify: bool | str | ssl.SSLContext,
        trust_env: bool,
        allow_insecure: bool,
        http_client: "httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None",
    ) -> Self:
        """The core for a client's arguments.

        Raises:
            ConfigurationError: One breaks a rule.
        """
        endpoint = resolve_endpoint(api_key, base_url, allow_insecure=allow_insecure, environ=os.environ)
        options = Options(
            model=DEFAULT_MODEL if model is None else model,
            timeout=timeout,
            deadline=deadline,
            retry=retry,
            headers=check_headers(headers or {}, has_key=endpoint.api_key is not None),
        )
        opener = transport_opener(
            endpoint.url, proxy=proxy, verify=verify, trust_env=trust_env, http_client=http_client
        )
        return cls(endpoint, options, Connections(opener), closes=True)

    def _composed(self) -> Send:
        options, connections, url = self.options, self._connections, self._endpoint.url
        headers = SecretHeaders(self._endpoint, {**_OWN_HEADERS, **options.headers})
        send = http_attempt(connections, self._endpoint, headers)
        return with_deadline(with_retry(with_timeout(send, options.timeout, url), options.retry), connections, url)

    def with_options(self, overrides: OptionOverrides) -> Self:
        """A core with other options over the same connections; closing it closes nothing."""
        options = self.options.overridden(overrides, has_key=self._endpoint.api_key is not None)
        return type(self)(self._endpoint, options, self._connections, closes=False)

    def prepare(
        self,
        query: Query,
        documents: Iterable[T],
        *,
        key: Callable[[T], Document] | None,
        model: str | None,
        top_n: int | None,
        deadline: float | ClientDefault | None,
        return_embeddings: bool | None,
        max_doc_length: int | None,
        extra_body: Mapping[str, Any] | None,
    ) -> Call[T]:
        """Checks a call's arguments; nothing is sent.

        Raises:
            InvalidRequestError: They break a rule.
        """
        call = open_call(
            query,
            documents,
            key=key,
            model=model,
            top_n=top_n,
            deadline=deadline,
            return_embeddings=return_embeddings,
            max_doc_length=max_doc_length,
            extra_body=extra_body,
            options=self.options,
        )
        if self._endpoint.hosted:
            _check_against_catalogue(call)
        return call

    async def perform(self, call: Call[T]) -> RerankResponse[T]:
        """Carries a call out.

        Raises:
            RerankError: It failed; `attempts` says after how many HTTP requests.
        """
        if not call.sent:
            self._connections.check_open()
            return respond(call, None)
        try:
            ranking = await self._send(call.wire)
        except RerankError as error:
            error.attempts = call.wire.attempts
            raise
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


def _check_against_catalogue(call: Call[Any]) -> None:
    """What the hosted API is known to refuse, or to give up soon; other servers know best what they serve."""
    model = find_model(call.wire.model)
    if model is None:
        return
    call.wire.model = model.name  # the API takes the name without a prefix
    if model.replaced_by is not None:
        # Four frames up: this function, prepare, the client's method, and there its caller.
        warnings.warn(f"{model.name} is deprecated by Jina; use {model.replaced_by}", DeprecationWarning, stacklevel=4)
    if not model.images and (is_image(call.wire.query) or any(map(is_image, call.wire.documents))):
        raise InvalidRequestError(f"documents: {model.name} reads no images; use jina-reranker-m0, or send texts")
