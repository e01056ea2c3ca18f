"""The measured clients, used as in their own documentation, with one reused client and default settings.

Comments explain the exceptions, mostly limits that would slow a contender down. Each contender yields a call that
returns index and score of every result. Libraries are imported where they are used, because each contender runs in a
separate process.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from .answers import QUERY, Pairs, texts

KEY = "jina_benchmark"
HEADERS = {"authorization": f"Bearer {KEY}"}
MODEL = "jina-reranker-v3.5"
TIMEOUT = 60.0
"""Seconds, for all contenders measured with many calls in flight: httpx's default of 5 would time out."""

AsyncCall = Callable[[], Awaitable[Pairs]]
Call = Callable[[], Pairs]


@dataclass(frozen=True)
class Case:
    """The server, the number of documents, and the number of calls in flight."""

    url: str
    documents: int
    in_flight: int = 1

    @property
    def texts(self) -> list[str]:
        return list(texts(self.documents))

    @property
    def body(self) -> dict[str, Any]:
        """The request body, for HTTP clients."""
        return {"model": MODEL, "query": QUERY, "documents": self.texts, "return_documents": False}


def _read(answer: Any) -> Pairs:
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


@asynccontextmanager
async def httpx_async(case: Case, **options: Any) -> AsyncIterator[AsyncCall]:
    import httpx

    async with httpx.AsyncClient(headers=HEADERS, timeout=TIMEOUT, **options) as client:
        yield _posting(client, case)


def httpx_tuned(case: Case) -> AbstractAsyncContextManager[AsyncCall]:
    """Use the limits with which httpx is fastest with many calls in flight: unlimited connections, few kept alive."""
    import httpx

    return httpx_async(case, limits=httpx.Limits(max_connections=None, max_keepalive_connections=20))


def httpx_over_aiohttp(case: Case) -> AbstractAsyncContextManager[AsyncCall]:
    import httpx
    from httpx_aiohttp import AiohttpTransport

    # 0 means no limit to aiohttp; with None this transport falls back to aiohttp's default of 100.
    return httpx_async(case, transport=AiohttpTransport(limits=httpx.Limits(max_connections=0, keepalive_expiry=5.0)))


def _posting(client: Any, case: Case) -> AsyncCall:
    url, body = f"{case.url}/v1/rerank", case.body

    async def call() -> Pairs:
        response = await client.post(url, json=body)
        return _read(response.json())

    return call


@asynccontextmanager
async def aiohttp_session(case: Case) -> AsyncIterator[AsyncCall]:
    import aiohttp

    url, body = f"{case.url}/v1/rerank", case.body
    limits, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(TIMEOUT)
    async with aiohttp.ClientSession(headers=HEADERS, connector=limits, timeout=timeout) as session:

        async def call() -> Pairs:
            async with session.post(url, json=body) as response:
                return _read(await response.json())

        yield call


@asynccontextmanager
async def jina_rerank_lanes(case: Case, **options: Any) -> AsyncIterator[AsyncCall]:
    from jina_rerank import RerankClient

    documents = case.texts
    if case.in_flight > 1:  # by default a client starts with 2 concurrent requests, and increases them up to 100
        options["max_concurrency"] = case.in_flight
    async with RerankClient(KEY, base_url=case.url, timeout=TIMEOUT, **options) as client:

        async def call() -> Pairs:
            response = await client.rerank(QUERY, documents)
            return [(result.index, result.relevance_score) for result in response.results]

        yield call


def jina_rerank_aiohttp(case: Case) -> AbstractAsyncContextManager[AsyncCall]:
    return jina_rerank_lanes(case, transport="aiohttp")


@asynccontextmanager
async def jina_rerank_langchain(case: Case) -> AsyncIterator[AsyncCall]:
    from jina_rerank.langchain import JinaRerank

    documents = _langchain_documents(case)
    reranker = JinaRerank(api_key=KEY, base_url=case.url, top_n=case.documents)

    async def call() -> Pairs:
        return _read_langchain(await reranker.acompress_documents(documents, QUERY))

    yield call


@asynccontextmanager
async def cohere_v2(case: Case) -> AsyncIterator[AsyncCall]:
    import httpx
    from cohere import AsyncClientV2

    documents = case.texts
    # Its default client: otherwise it would use httpx-aiohttp, which is installed only for another contender.
    async with (
        httpx.AsyncClient(timeout=300, follow_redirects=True) as http,
        AsyncClientV2(KEY, base_url=case.url, httpx_client=http) as client,
    ):

        async def call() -> Pairs:
            response = await client.rerank(model="rerank-v4.0-pro", query=QUERY, documents=documents)
            return [(result.index, result.relevance_score) for result in response.results]

        yield call


@asynccontextmanager
async def voyageai_async(case: Case) -> AsyncIterator[AsyncCall]:
    from voyageai import AsyncClient

    documents = case.texts
    client = AsyncClient(KEY, base_url=case.url)

    async def call() -> Pairs:
        response = await client.rerank(QUERY, documents, model="rerank-2.5")
        return [(result.index, result.relevance_score) for result in response.results]

    yield call


@asynccontextmanager
async def mixedbread_async(case: Case) -> AsyncIterator[AsyncCall]:
    from mixedbread import AsyncMixedbread

    documents = case.texts
    async with AsyncMixedbread(api_key=KEY, base_url=case.url) as client:

        async def call() -> Pairs:
            response = await client.rerank(query=QUERY, input=documents)
            return [(result.index, result.score) for result in response.data]

        yield call


@contextmanager
def httpx_sync(case: Case) -> Iterator[Call]:
    import httpx

    url, body = f"{case.url}/v1/rerank", case.body
    with httpx.Client(headers=HEADERS, timeout=TIMEOUT) as client:
        yield lambda: _read(client.post(url, json=body).json())


@contextmanager
def jina_rerank_sync(case: Case) -> Iterator[Call]:
    from jina_rerank import SyncRerankClient

    documents = case.texts
    with SyncRerankClient(KEY, base_url=case.url, timeout=TIMEOUT) as client:

        def call() -> Pairs:
            response = client.rerank(QUERY, documents)
            return [(result.index, result.relevance_score) for result in response.results]

        yield call


@contextmanager
def langchain_community(case: Case) -> Iterator[Call]:
    from langchain_community.document_compressors import jina_rerank

    jina_rerank.JINA_API_URL = f"{case.url}/v1/rerank"  # it has no argument for the URL
    documents = _langchain_documents(case)
    reranker = jina_rerank.JinaRerank(jina_api_key=KEY, top_n=case.documents)
    yield lambda: _read_langchain(reranker.compress_documents(documents, QUERY))


@contextmanager
def llama_index(case: Case) -> Iterator[Call]:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    reranker = JinaRerank(api_key=KEY, base_url=case.url, top_n=case.documents)
    nodes = [NodeWithScore(node=TextNode(id_=str(i), text=text)) for i, text in enumerate(case.texts)]

    def call() -> Pairs:
        ranked = reranker.postprocess_nodes(nodes, query_str=QUERY)
        return [(int(result.node.node_id), result.score) for result in ranked]

    yield call


def _langchain_documents(case: Case) -> list[Any]:
    from langchain_core.documents import Document

    return [Document(text, metadata={"position": i}) for i, text in enumerate(case.texts)]


def _read_langchain(documents: Any) -> Pairs:
    return [(document.metadata["position"], document.metadata["relevance_score"]) for document in documents]


@dataclass(frozen=True)
class Contender:
    """A function that opens a client, and the response format that the client expects."""

    open: Callable[[Case], AbstractAsyncContextManager[AsyncCall] | AbstractContextManager[Call]]
    shape: str = "jina"


CONTENDERS = {
    "httpx": Contender(httpx_async),
    "httpx, tuned limits": Contender(httpx_tuned),
    "aiohttp": Contender(aiohttp_session),
    "httpx over aiohttp": Contender(httpx_over_aiohttp),
    "jina_rerank": Contender(jina_rerank_lanes),
    "jina_rerank[aiohttp]": Contender(jina_rerank_aiohttp),
    "jina_rerank.langchain": Contender(jina_rerank_langchain),
    "cohere": Contender(cohere_v2, "cohere"),
    "voyageai": Contender(voyageai_async, "voyageai"),
    "mixedbread": Contender(mixedbread_async, "mixedbread"),
    "langchain-community": Contender(langchain_community),
    "llama-index": Contender(llama_index),
    "httpx.Client": Contender(httpx_sync),
    "SyncRerankClient": Contender(jina_rerank_sync),
}


def available(name: str) -> bool:
    """Return whether the installed jina_rerank has the features that this contender needs."""
    from jina_rerank import RerankClient

    return name != "jina_rerank[aiohttp]" or "transport" in inspect.signature(RerankClient).parameters
