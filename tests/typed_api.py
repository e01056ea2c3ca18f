"""What type checkers make of the public API: never run, checked by mypy --strict and pyright strict."""

from collections.abc import AsyncIterator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from jina_rerank import (
    BatchProgress,
    Document,
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
    Totals,
    Usage,
)
from jina_rerank.bulk import BatchReranker


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
    assert_type(len(response), int)
    assert_type(response[0], RerankResult[Article])
    assert_type(response[:2], Sequence[RerankResult[Article]])
    assert_type([result.document for result in response], list[Article])
    assert_type(response.scores, list[float])
    async with client.with_options(timeout=None, retry=RetryPolicy(max_attempts=1), headers={"a": "b"}) as clone:
        assert_type(clone, RerankClient)


async def inline(client: RerankClient, blocking: SyncRerankClient, image: ImageDocument, untyped: list[Any]) -> None:
    await client.rerank("q", ["a", image])
    await client.rerank("q", [TextDocument(text="a"), image, "c"])
    await client.rerank("q", ["a", {"image": "https://example.com/a.png"}])
    blocking.rerank("q", ["a", image])
    blocking.rerank("q", [{"text": "a"}, {"image": "https://example.com/a.png"}])
    assert_type(await client.rerank("q", untyped), RerankResponse[Any])
    assert_type(blocking.rerank("q", untyped), RerankResponse[Any])


def blocking(client: SyncRerankClient, articles: list[Article], mixed: list[str | TextDocument]) -> None:
    assert_type(client.rerank("q", ["a", "b"]), RerankResponse[str])
    assert_type(client.rerank("q", mixed), RerankResponse[str | TextDocument])
    assert_type(client.rerank("q", articles, key=lambda article: {"text": article.title}), RerankResponse[Article])
    with client.with_options(model="jina-reranker-v3") as clone:
        assert_type(clone, SyncRerankClient)
    client.with_options(fallback="original_order", hedge_after=1.0, max_concurrency=2)
    client.with_options(fallback=None, hedge_after=None, max_concurrency=None, max_documents=9, scoring="listwise")


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


async def many_mappings(client: RerankClient, blocking: SyncRerankClient, rows: list[dict[str, Any]]) -> None:
    assert_type(client.rerank_many(rows), RerankStream[dict[str, Any]])
    async for outcome in client.rerank_many(rows):
        assert_type(outcome, RerankOutcome[dict[str, Any]])
        assert_type(outcome.unwrap(), RerankResponse[Document])
    async for keyed in client.rerank_many(rows, key=lambda row: str(row["title"])):
        assert_type(keyed.unwrap().documents, list[Any])
    client.rerank_many([{"query": "q", "documents": ["a"], "top_n": 1}])
    with blocking.rerank_many(rows, key=title) as stream:
        assert_type(stream, SyncRerankStream[dict[str, Any], Any])
    assert_type(client.estimate_tokens(rows[0], key=title), int)


def title(article: Article) -> str:
    return article.title


def tables(reranker: BatchReranker, frame: dict[Hashable, list[Any]], table: dict[str, list[Any]]) -> None:
    assert_type(reranker(frame), dict[str, Any])  # as pandas has it: frame.to_dict("list")
    assert_type(reranker(table), dict[str, Any])  # as pyarrow has it: table.to_pydict()


def local(longest: list[str]) -> None:
    assert_type(RerankClient.local(), RerankClient)
    assert_type(SyncRerankClient.local("minilm", timeout=None, max_documents=10), SyncRerankClient)
    assert_type(SyncRerankClient.local(lambda _, documents: [len(text) for text in documents]), SyncRerankClient)
    RerankClient.local("bm25")  # type: ignore[arg-type]  # no scorer
    RerankClient.local(api_key="jina_key")  # type: ignore[call-arg]  # no server
    SyncRerankClient.local(base_url="http://127.0.0.1")  # type: ignore[call-arg]  # no server


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
    await client.rerank("q", "one text")  # type: ignore[call-overload]  # its characters would be ranked
    SyncRerankClient().rerank("q", "one text")  # type: ignore[call-overload]  # its characters would be ranked
    client.rerank_many(["a"])  # type: ignore[type-var]  # no requests
    client.with_options(base_url="x")  # type: ignore[call-arg]  # not a clone's
    client.with_options(rate_limit=None)  # type: ignore[call-arg]  # the key's
    client.with_options(timeout="1")  # type: ignore[arg-type]  # no number
