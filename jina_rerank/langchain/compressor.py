"""The compressor: the fields of LangChain's JinaRerank, implemented with the clients of this package."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Self, TypeVar

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, model_validator
from pydantic.json_schema import SkipJsonSchema

from .._base import client_over, core_of
from .._config import DEFAULT_DEADLINE, DEFAULT_TIMEOUT
from .._core import Core
from .._endpoint import API_KEY_VARIABLE, MISSING_KEY
from .._typeguards import PositiveInteger, as_integer
from ..catalog import DEFAULT_MODEL, find_model
from ..client import RerankClient
from ..documents import Document as Rankable
from ..errors import ConfigurationError
from ..models import RerankResponse
from ..retry import RetryPolicy
from ..sync import SyncRerankClient
from .items import Item, Ranked, image_or_text, only_documents, ranked, scored, text_of
from .runnable import RerankInput, RerankRunnable
from .tracing import atraced, traced

ItemT = TypeVar("ItemT", bound=Item)

_CLIENT_FIELDS: Final = ("base_url", "deadline", "jina_api_key", "max_concurrency", "retry", "timeout", "user_agent")
"""The fields that a ready-made client replaces."""


def _secret(value: SecretStr | str | None) -> SecretStr | None:
    return SecretStr(value) if isinstance(value, str) else value


class JinaRerank(
    BaseDocumentCompressor,
    extra="forbid",
    strict=True,
    arbitrary_types_allowed=True,
    populate_by_name=True,
    hide_input_in_errors=True,
):
    """A reranker of Documents with the Jina Rerank API, or with an API-compatible server.

    One instance works in sync and async code, in threads and event loops, and need not be closed. Its errors are those
    of `jina_rerank`, which are all RuntimeErrors.
    """

    jina_api_key: Annotated[SecretStr | str | None, AfterValidator(_secret)] = Field(default=None, alias="api_key")
    """The key; by default from the variable JINA_API_KEY. The hosted API requires one."""
    model: str = DEFAULT_MODEL
    """The reranker."""
    top_n: PositiveInteger | None = 3
    """The number of Documents to return; None for all."""
    user_agent: str = "langchain"
    """The User-Agent header, for the server's statistics."""
    base_url: str | None = None
    """The server, as in RerankClient."""
    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds for one attempt; None for no limit."""
    deadline: float | None = DEFAULT_DEADLINE
    """Seconds for a whole call; None for no limit."""
    retry: RetryPolicy = RetryPolicy()
    """The retry policy."""
    max_concurrency: PositiveInteger | None = None
    """The maximum number of requests in flight on one event loop; None for no limit."""
    max_doc_length: PositiveInteger | None = None
    """Tokens of each Document that are scored; None for the model's own limit."""
    extra_body: dict[str, Any] | None = None
    """Additional request fields, for servers that extend the API."""
    score_threshold: float | None = None
    """The minimum score of returned Documents; ignored for degraded responses, whose scores are meaningless."""
    client: SkipJsonSchema[SyncRerankClient | None] = Field(default=None, exclude=True)
    """A ready-made client to use, which you close yourself."""
    async_client: SkipJsonSchema[RerankClient | None] = Field(default=None, exclude=True)
    """A ready-made client to use, which you close yourself."""
    session: SkipJsonSchema[Any] = Field(default=None, exclude=True, repr=False)
    """No longer used: pass `client=SyncRerankClient(http_client=...)`."""

    _made: tuple[list[Any], Core] | None = PrivateAttr(default=None)
    """The core of both clients, and the field values that it was created from."""

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if self.session is not None:
            replacement = "client=SyncRerankClient(http_client=lambda: httpx.AsyncClient(...))"
            warnings.warn(f"session is no longer used; pass {replacement}", DeprecationWarning, stacklevel=3)
        ready = self.client or self.async_client
        competing = [name for name in _CLIENT_FIELDS if name in self.model_fields_set]
        if ready is not None and competing:
            raise ValueError(f"{competing[0]}: a ready-made client has its own; give one of the two")
        try:
            _ = self._core
        except ConfigurationError as error:
            if error.code == MISSING_KEY:
                raise ValueError(
                    f"Did not find jina_api_key, please add an environment variable `{API_KEY_VARIABLE}` which "
                    "contains it, or pass `jina_api_key` as a named parameter."
                ) from None
            raise
        return self

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return copies of the best Documents, best first, each with its score in `metadata["relevance_score"]`.

        Args:
            documents: The candidates, which stay unchanged.
            query: The query to rank by.
            callbacks: Handlers of the run, in addition to those of a surrounding chain.

        Raises:
            RerankError: The call failed.
        """
        return self._compress(documents, query, ensure_config(_config_of(callbacks)))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Await the result of `compress_documents`, without a thread."""
        return await self._acompress(documents, query, ensure_config(_config_of(callbacks)))

    def rerank(
        self,
        documents: Sequence[Item],
        query: str,
        *,
        model: str | None = None,
        top_n: int | None = -1,
        max_chunks_per_doc: int | None = None,
    ) -> list[Ranked]:
        """Return the positions and scores of the documents, best first.

        Args:
            documents: The candidates.
            query: The query to rank by.
            model: A reranker other than `self.model`.
            top_n: The number of results; None for all, -1 or 0 for `self.top_n`.
            max_chunks_per_doc: No longer used, and never supported by the API: see `max_doc_length`.

        Raises:
            RerankError: The call failed.
        """
        _warn_of_chunks(max_chunks_per_doc)
        return ranked(self._ask(documents, query, model=model, top_n=top_n))

    async def arerank(
        self,
        documents: Sequence[Item],
        query: str,
        *,
        model: str | None = None,
        top_n: int | None = -1,
        max_chunks_per_doc: int | None = None,
    ) -> list[Ranked]:
        """Await the result of `rerank`, without a thread."""
        _warn_of_chunks(max_chunks_per_doc)
        return ranked(await self._aask(documents, query, model=model, top_n=top_n))

    def as_runnable(self) -> Runnable[RerankInput, list[Document]]:
        """Return a Runnable from `{"query": ..., "documents": ...}` to Documents, for sync and async chains."""
        return RerankRunnable(self._compress, self._acompress)

    def _compress(self, documents: Sequence[Document], query: str, config: RunnableConfig) -> list[Document]:
        with traced(documents, query, config) as outputs:
            response = self._ask(only_documents(documents), query)
            return self._record(response, outputs)

    async def _acompress(self, documents: Sequence[Document], query: str, config: RunnableConfig) -> list[Document]:
        async with atraced(documents, query, config) as outputs:
            response = await self._aask(only_documents(documents), query)
            return self._record(response, outputs)

    def _record(self, response: RerankResponse[Document], outputs: dict[str, Any]) -> list[Document]:
        """Return the Documents above the threshold, and record them and the cost of the call as the run's outputs."""
        least = self.score_threshold
        kept = [
            scored(result.document, result.relevance_score)
            for result in response.results
            if least is None or response.degraded or result.relevance_score >= least
        ]
        usage = None if response.usage is None else response.usage.model_dump(exclude_none=True)
        cost = {"usage": usage, "model": response.model, "attempts": response.attempts}
        outputs.update(documents=kept, degraded=response.degraded, **cost)
        return kept

    def _ask(
        self, documents: Sequence[ItemT], query: str, *, model: str | None = None, top_n: int | None = -1
    ) -> RerankResponse[ItemT]:
        chosen = self._chosen(model)
        return self._sync_client.rerank(
            query,
            documents,
            key=self._reader(chosen),
            model=chosen,
            top_n=self._number(top_n),
            max_doc_length=self.max_doc_length,
            extra_body=self.extra_body,
        )

    async def _aask(
        self, documents: Sequence[ItemT], query: str, *, model: str | None = None, top_n: int | None = -1
    ) -> RerankResponse[ItemT]:
        chosen = self._chosen(model)
        return await self._async_client.rerank(
            query,
            documents,
            key=self._reader(chosen),
            model=chosen,
            top_n=self._number(top_n),
            max_doc_length=self.max_doc_length,
            extra_body=self.extra_body,
        )

    def _chosen(self, model: str | None) -> str | None:
        """Return the model to ask for; None for that of a ready-made client."""
        is_own = self.client is None and self.async_client is None
        return model or (self.model if is_own or "model" in self.model_fields_set else None)

    def _reader(self, chosen: str | None) -> Callable[[Item], Rankable]:
        """Return what reads an item for a model: its image, if the model reads images, or its text."""
        known = find_model(chosen or self._core.config.model_name)
        return image_or_text if known is not None and known.images else text_of

    def _number(self, top_n: int | None) -> int | None:
        """Return how many results to ask for: -1 and 0 stand for `self.top_n`."""
        number = as_integer(top_n)
        return self.top_n if number is not None and number < 1 else top_n

    @property
    def _sync_client(self) -> SyncRerankClient:
        return self.client or client_over(SyncRerankClient, self._core)

    @property
    def _async_client(self) -> RerankClient:
        return self.async_client or client_over(RerankClient, self._core)

    @property
    def _core(self) -> Core:
        """The core of both clients, recreated after each change of a field."""
        ready = self.client or self.async_client
        if ready is not None:
            return core_of(ready)
        made = self._made
        values = [getattr(self, name) for name in ("model", *_CLIENT_FIELDS)]
        if made is None or made[0] != values:
            self._made = made = values, self._new_core()
        return made[1]

    def _new_core(self) -> Core:
        client = RerankClient(
            self.jina_api_key,
            base_url=self.base_url,
            model=self.model,
            timeout=self.timeout,
            deadline=self.deadline,
            retry=self.retry,
            max_concurrency=self.max_concurrency,
            headers={"user-agent": self.user_agent},
        )
        return core_of(client)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy. Unlike pydantic's method, it validates `update`, so that a key stays hidden."""
        twin = super().model_copy(deep=deep)
        if update:
            fields = type(self).model_fields
            names = {field.alias or name: name for name, field in fields.items()}
            changed = {(fields[name].alias or name) if name in fields else name: update[name] for name in update}
            given = {alias: getattr(self, name) for alias, name in names.items() if name in self.model_fields_set}
            checked = type(self).model_validate({**given, **changed})
            vars(twin).update({names[alias]: getattr(checked, names[alias]) for alias in changed})
            twin.model_fields_set.update(checked.model_fields_set)
        return twin

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Return an instance without validation, like pydantic, but with the key hidden."""
        made = super().model_construct(_fields_set, **values)
        vars(made)["jina_api_key"] = _secret(made.jina_api_key)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields:
            # Validate all fields together before this one changes.
            value = getattr(self.model_copy(update={name: value}), name)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[Any, Any]:
        # A pickle contains neither the key nor connections; the environment that loads it provides the key.
        state = super().__getstate__()
        values = {**state["__dict__"], "jina_api_key": None, "client": None, "async_client": None, "session": None}
        return {**state, "__dict__": values, "__pydantic_private__": {"_made": None}}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # The copy may share the connections, since no field is ever changed in place.
        return self.model_copy()


def _config_of(callbacks: Callbacks | None) -> RunnableConfig:
    # None keeps the callbacks of the surrounding chain, which ensure_config finds.
    return {} if callbacks is None else {"callbacks": callbacks}


def _warn_of_chunks(max_chunks_per_doc: int | None) -> None:
    if max_chunks_per_doc is not None:
        message = "max_chunks_per_doc was never sent, since the API does not support it; see max_doc_length"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
