"""What type checkers make of the public API: never run, checked by mypy --strict and pyright strict."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from jina_rerank import (
    ImageDocument,
    RerankClient,
    RerankError,
    RerankOutcome,
    RerankRequest,
    RerankResponse,
    RerankResult,
    RerankStream,
    RetryPolicy,
    SyncRerankClient,
    SyncRerankStream,
    TextDocument,
    Usage,
)
from jina_rerank.documents import Document
from jina_rerank.models import BatchProgress
from jina_rerank.totals import Totals


@dataclass
class Article:
    title: str


class Job(RerankRequest, frozen=True):
    id: int


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


async def many(client: RerankClient, jobs: list[Job], later: AsyncIterator[Job]) -> None:
    assert_type(client.rerank_many([RerankRequest(query="q", documents=[])]), RerankStream[RerankRequest])
    async with client.rerank_many(later, max_concurrency=8, ordered=False, progress=show) as stream:
        assert_type(stream, RerankStream[Job])
        async for outcome in stream:
            assert_type(outcome, RerankOutcome[Job])
            assert_type(outcome.request.id, int)
            assert_type(outcome.response, RerankResponse[Document] | None)
            assert_type(outcome.error, RerankError | None)
            assert_type(outcome.to_dict(), dict[str, Any])
        assert_type(stream.totals, Totals)
    assert_type(client.totals.price, float)
    assert_type(client.estimate_tokens(jobs[0]), int)


def show(progress: BatchProgress) -> None:
    assert_type((progress.done, progress.elapsed), tuple[int, float])


def many_blocking(client: SyncRerankClient, jobs: Iterator[Job]) -> None:
    with client.rerank_many(jobs, progress=show) as stream:
        assert_type(stream, SyncRerankStream[Job])
        assert_type([outcome.request.id for outcome in stream], list[int])
    assert_type(client.totals, Totals)


async def refused(client: RerankClient, articles: list[Article]) -> None:
    await client.rerank("q", articles)  # type: ignore[type-var]  # no key
    await client.rerank("q", articles, key=len)  # type: ignore[arg-type]  # no document
    client.rerank_many(["a"])  # type: ignore[type-var]  # no requests
    client.with_options(base_url="x")  # type: ignore[call-arg]  # not a clone's
    client.with_options(timeout="1")  # type: ignore[arg-type]  # no number
