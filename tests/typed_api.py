"""What type checkers make of the public API: never run, checked by mypy --strict and pyright strict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from jina_rerank import (
    ImageDocument,
    RerankClient,
    RerankResponse,
    RerankResult,
    RetryPolicy,
    SyncRerankClient,
    TextDocument,
    Usage,
)


@dataclass
class Article:
    title: str


async def awaited(
    client: RerankClient, articles: list[Article], rows: list[dict[str, Any]], texts: tuple[str, ...]
) -> None:
    assert_type(await client.rerank("q", ["a", "b"]), RerankResponse[str])
    assert_type(await client.rerank("q", texts, top_n=1, deadline=None), RerankResponse[str])
    assert_type(await client.rerank("q", [TextDocument(text="a")]), RerankResponse[TextDocument])
    assert_type(await client.rerank(ImageDocument(image=""), [ImageDocument(image="")]), RerankResponse[ImageDocument])
    assert_type(await client.rerank("q", rows), RerankResponse[dict[str, Any]])
    response = await client.rerank("q", articles, key=lambda article: article.title)
    assert_type(response, RerankResponse[Article])
    assert_type(response.documents, list[Article])
    assert_type(response.results, Sequence[RerankResult[Article]])
    assert_type(response.results[0].document.title, str)
    assert_type(response.results[0].relevance_score, float)
    assert_type(response.results[0].embedding, Sequence[float] | None)
    assert_type(response.usage, Usage | None)
    assert_type(response.headers, Mapping[str, str])
    assert_type(response.to_dict(), dict[str, Any])
    async with client.with_options(timeout=None, retry=RetryPolicy(max_attempts=1), headers={"a": "b"}) as clone:
        assert_type(clone, RerankClient)


def blocking(client: SyncRerankClient, articles: list[Article], mixed: list[str | TextDocument]) -> None:
    assert_type(client.rerank("q", ["a", "b"]), RerankResponse[str])
    assert_type(client.rerank("q", mixed), RerankResponse[str | TextDocument])
    assert_type(client.rerank("q", articles, key=lambda article: {"text": article.title}), RerankResponse[Article])
    with client.with_options(model="jina-reranker-v3") as clone:
        assert_type(clone, SyncRerankClient)


async def refused(client: RerankClient, articles: list[Article]) -> None:
    await client.rerank("q", articles)  # type: ignore[type-var]  # no key
    await client.rerank("q", articles, key=len)  # type: ignore[arg-type]  # no document
    client.with_options(base_url="x")  # type: ignore[call-arg]  # not a clone's
    client.with_options(timeout="1")  # type: ignore[arg-type]  # no number
