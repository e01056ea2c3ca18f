"""The compressor: the fields that LangChain's users know, over the clients of this package."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Self

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
from ..errors import ConfigurationError
from ..models import RerankResponse
from ..retry import RetryPolicy
from ..sync import SyncRerankClient
from .items import Item, Ranked, image_or_text, only_documents, ranked, scored, text_of
from .runnable import RerankInput, RerankRunnable
from .tracing import atraced, traced

_CLIENT_FIELDS: Final = ("base_url", "deadline", "jina_api_key", "max_concurrency", "retry", "timeout", "user_agent")
"""What a ready-made client brings itself."""


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
    """Reranks Documents with the Jina Rerank API, or with a server that speaks its wire.

    One instance serves sync and async code, threads and event loops, and needs no closing. Errors are those of
    `jina_rerank`; all of them are RuntimeErrors.
    """

    jina_api_key: Annotated[SecretStr | str | None, AfterValidator(_secret)] = Field(default=None, alias="api_key")
    """The key; else the variable JINA_API_KEY. The hosted API needs one."""
    model: str = DEFAULT_MODEL
    """The reranker."""
    top_n: PositiveInteger | None = 3
    """How many Documents to return; None for all."""
    user_agent: str = "langchain"
    """Who asks, for the server's statistics."""
    base_url: str | None = None
    """The server, as RerankClient takes it."""
    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds for one attempt; None for no limit."""
    deadline: float | None = DEFAULT_DEADLINE
    """Seconds for a whole call; None for no limit."""
    retry: RetryPolicy = RetryPolicy()
    """When and how failures are retried."""
    max_concurrency: PositiveInteger | None = None
    """How many requests may be in flight at once, on one event loop; None for no limit."""
    max_doc_length: PositiveInteger | None = None
    """Tokens of each Document that are scored; None for the model's own limit."""
    extra_body: dict[str, Any] | None = None
    """Fields to send that only your server knows."""
    score_threshold: float | None = None
    """Documents with a lower score are left out; not when the answer is degraded, since its scores mean nothing."""
    client: SkipJsonSchema[SyncRerankClient | None] = Field(default=None, exclude=True)
    """A ready-made client to use; it stays yours to close."""
    async_client: SkipJsonSchema[RerankClient | None] = Field(default=None, exclude=True)
    """A ready-made client to use; it stays yours to close."""
    session: SkipJsonSchema[Any] = Field(default=None, exclude=True, repr=False)
    """Not used any more: pass `client=SyncRerankClient(http_client=...)`."""

    _made: tuple[list[Any], Core] | None = PrivateAttr(default=None)
    """The core under both clients, and the values of the fields that it was made from."""

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if self.session is not None:
            replacement = "client=SyncRerankClient(http_client=lambda: httpx.AsyncClient(...))"
            warnings.warn(f"session is not used any more; pass {replacement}", DeprecationWarning, stacklevel=3)
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
        """Copies of the best Documents, best first, each with its score in `metadata["relevance_score"]`.

        Args:
            documents: The candidates. They stay as they are.
            query: What to rank by.
            callbacks: Handlers that are told of the run; those of a surrounding chain are told in any case.

        Raises:
            RerankError: The call failed.
        """
        return self._compress(documents, query, ensure_config(_config_of(callbacks)))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents`, awaited; no thread is used."""
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
        """The order of documents: positions and scores, best first.

        Args:
            documents: The candidates.
            query: What to rank by.
            model: Another reranker than `self.model`.
            top_n: How many to return; None for all, -1 or 0 for `self.top_n`.
            max_chunks_per_doc: Not used any more, and never was by the API: see `max_doc_length`.

        Raises:
            RerankError: The call failed.
        """
        _refuse_chunks(max_chunks_per_doc)
        return ranked(self._sync_client.rerank(query, documents, **self._arguments(model=model, top_n=top_n)))

    async def arerank(
        self,
        documents: Sequence[Item],
        query: str,
        *,
        model: str | None = None,
        top_n: int | None = -1,
        max_chunks_per_doc: int | None = None,
    ) -> list[Ranked]:
        """`rerank`, awaited; no thread is used."""
        _refuse_chunks(max_chunks_per_doc)
        return ranked(await self._async_client.rerank(query, documents, **self._arguments(model=model, top_n=top_n)))

    def as_runnable(self) -> Runnable[RerankInput, list[Document]]:
        """A Runnable from `{"query": ..., "documents": ...}` to Documents, for chains: invoke, batch, and awaited."""
        return RerankRunnable(self._compress, self._acompress)

    def _compress(self, documents: Sequence[Document], query: str, config: RunnableConfig) -> list[Document]:
        with traced(documents, query, config) as outputs:
            response = self._sync_client.rerank(query, only_documents(documents), **self._arguments())
            return self._record(response, outputs)

    async def _acompress(self, documents: Sequence[Document], query: str, config: RunnableConfig) -> list[Document]:
        async with atraced(documents, query, config) as outputs:
            response = await self._async_client.rerank(query, only_documents(documents), **self._arguments())
            return self._record(response, outputs)

    def _record(self, response: RerankResponse[Document], outputs: dict[str, Any]) -> list[Document]:
        """The Documents to return; they, and what the call cost, are the outputs of the run."""
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

    def _arguments(self, *, model: str | None = None, top_n: int | None = -1) -> dict[str, Any]:
        own = self.client is None and self.async_client is None
        chosen = model or (self.model if own or "model" in self.model_fields_set else None)
        known, number = find_model(chosen or self._core.config.model_name), as_integer(top_n)
        return {
            "key": image_or_text if known is not None and known.images else text_of,
            "model": chosen,
            "top_n": self.top_n if number is not None and number < 1 else top_n,
            "max_doc_length": self.max_doc_length,
            "extra_body": self.extra_body,
        }

    @property
    def _sync_client(self) -> SyncRerankClient:
        return self.client or client_over(SyncRerankClient, self._core)

    @property
    def _async_client(self) -> RerankClient:
        return self.async_client or client_over(RerankClient, self._core)

    @property
    def _core(self) -> Core:
        """What both clients have in common. It follows the fields, however they were changed."""
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
        """Return a copy. Unlike pydantic's own, it validates what `update` changes: a key stays hidden."""
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
        """Return an instance without validation, as pydantic does; a key is hidden all the same."""
        made = super().model_construct(_fields_set, **values)
        vars(made)["jina_api_key"] = _secret(made.jina_api_key)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields:
            # All fields are validated together, before one of them changes.
            value = getattr(self.model_copy(update={name: value}), name)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[Any, Any]:
        # A pickle holds neither the key nor connections; where it is loaded, the environment has the key.
        state = super().__getstate__()
        values = {**state["__dict__"], "jina_api_key": None, "client": None, "async_client": None, "session": None}
        return {**state, "__dict__": values, "__pydantic_private__": {"_made": None}}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # The copy shares the connections: none of its fields is changed in place.
        return self.model_copy()


def _config_of(callbacks: Callbacks | None) -> RunnableConfig:
    # None keeps those of the chain around, which ensure_config finds.
    return {} if callbacks is None else {"callbacks": callbacks}


def _refuse_chunks(max_chunks_per_doc: int | None) -> None:
    if max_chunks_per_doc is not None:
        message = "max_chunks_per_doc was never sent, and is not known to the API; see max_doc_length"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
