"""JinaRerank as a step of a chain."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypedDict

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config

from ..errors import InvalidRequestError

Compress: TypeAlias = Callable[[Sequence[Document], str, RunnableConfig], list[Document]]
AsyncCompress: TypeAlias = Callable[[Sequence[Document], str, RunnableConfig], Awaitable[list[Document]]]


class RerankInput(TypedDict):
    """The input of the Runnable."""

    query: str
    documents: Sequence[Document]


class RerankRunnable(Runnable[RerankInput, list[Document]]):
    """JinaRerank as a step of a chain."""

    def __init__(self, compress: Compress, acompress: AsyncCompress) -> None:
        self._compress = compress
        self._acompress = acompress

    def invoke(self, input: RerankInput, config: RunnableConfig | None = None, **_: Any) -> list[Document]:  # noqa: A002  # LangChain's name
        """Rerank the documents of the input."""
        return self._compress(*_parts(input), ensure_config(config))

    async def ainvoke(self, input: RerankInput, config: RunnableConfig | None = None, **_: Any) -> list[Document]:  # noqa: A002  # LangChain's name
        """Rerank the documents of the input asynchronously."""
        return await self._acompress(*_parts(input), ensure_config(config))


def _parts(value: RerankInput) -> tuple[Sequence[Document], str]:
    try:
        return value["documents"], value["query"]
    except (KeyError, TypeError):
        pass
    raise InvalidRequestError('input: expected a mapping with "query" and "documents"')
