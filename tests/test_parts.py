"""Lists longer than one request: split and merged, ranked in rounds, or refused; and duplicate documents."""

import asyncio
import json
import math
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jina_rerank import (
    BadRequestError,
    ClientClosedError,
    DeadlineExceededError,
    ImageDocument,
    InvalidRequestError,
    RerankClient,
    RerankResponse,
    ResponseFormatError,
    RetryPolicy,
    SyncRerankClient,
    Usage,
)
from jina_rerank.emulator import create_app

from .fake_server import Body, FakeServer

POINTWISE = "jina-reranker-v2-base-multilingual"
LISTWISE = "jina-reranker-v3.5"


def few_scores(document: Any) -> float:
    """Return a pointwise score with few distinct values, so that ties are common."""
    return zlib.crc32(json.dumps(document).encode()) % 7 / 10


class ScoringServer(FakeServer):
    """Scores each document independently of the others."""

    client_options: ClassVar = {"model": POINTWISE}

    def __init__(self, score: Callable[[Any], float] = few_scores, **fields: Any) -> None:
        super().__init__()
        self.score = score
        self.fields = fields

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        return self.ranking(body)

    def ranking(self, body: Body) -> httpx.Response:
        results: list[Body] = [
            {"index": index, "relevance_score": self.score(document)}
            for index, document in enumerate(body["documents"])
        ]
        if body.get("return_embeddings"):
            results = [
                result | {"embedding": [float(len(document))]}
                for result, document in zip(results, body["documents"], strict=True)
            ]
        results.sort(key=lambda result: (-result["relevance_score"], result["index"]))
        usage = {"total_tokens": len(body["documents"]) + 1, "prompt_tokens": 1}
        fields = {"model": "a model", "usage": usage, **self.fields}
        return httpx.Response(200, json={**fields, "results": results[: body.get("top_n")]})

    @property
    def sizes(self) -> list[int]:
        return [len(body["documents"]) for body in self.bodies]


class HangingServer(ScoringServer):
    """Never answers."""

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError


def rows(response: RerankResponse[Any]) -> list[tuple[int, float]]:
    return [(result.index, result.relevance_score) for result in response.results]


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


@pytest.mark.anyio
async def test_pointwise_list_is_split_and_merged_like_one_request() -> None:
    server, given = ScoringServer(), texts(1000)
    async with server.client(max_documents=300, scoring=None) as client:
        response = await client.rerank("q", given)
    assert server.sizes == [250] * 4
    assert (response.calls, response.attempts, response.strategy) == (4, 4, "split")
    assert response.usage == Usage(total_tokens=1004, prompt_tokens=4)
    assert response.model == "a model"
    assert rows(response) == sorted(
        ((index, few_scores(text)) for index, text in enumerate(given)), key=lambda row: (-row[1], row[0])
    )
    assert all(result.document is given[result.index] for result in response.results)


@pytest.mark.anyio
async def test_split_list_of_5000_documents_has_exact_scores_of_one_request() -> None:
    given = [f"{number} {'plaster ' * (number % 7)}{'cut ' * (number % 97)}" for number in range(5000)]
    transport = httpx.ASGITransport(create_app())
    responses: list[RerankResponse[str]] = []
    for cap in (1024, 5000):
        http_client = httpx.AsyncClient(transport=transport)
        async with RerankClient("jina_key", model=POINTWISE, max_documents=cap, http_client=http_client) as client:
            responses.append(await client.rerank("cut plaster", given))
    split, whole = responses
    assert (split.calls, split.strategy, whole.calls, whole.strategy) == (5, "split", 1, "single")
    assert split.results == whole.results
    assert len({result.relevance_score for result in split.results}) > 100


@pytest.mark.anyio
async def test_each_part_requests_at_most_top_n_results() -> None:
    server = ScoringServer()
    async with server.client(max_documents=4) as client:
        few = await client.rerank("q", texts(10), top_n=3)
        many = await client.rerank("q", texts(10), top_n=9)
        assert rows(many)[:3] == rows(few)
        await client.rerank("q", [*texts(10), " ", "text 1"])
    asked = [(len(body["documents"]), body["top_n"]) for body in server.bodies]
    assert sorted(asked[:3]) == [(3, 3), (3, 3), (4, 3)]
    assert sorted(asked[3:6]) == [(3, 3), (3, 3), (4, 4)]
    assert sorted(asked[6:]) == [(3, 3), (3, 3), (4, 4)]  # without a top_n it is the number of documents sent
    assert (len(few.results), len(many.results)) == (3, 9)


class BarrierServer(ScoringServer):
    """Answers when all parts have arrived."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await self.wait_for_requests(self.parts)
        return self.ranking(body)


@pytest.mark.anyio
async def test_parts_are_sent_concurrently() -> None:
    server = BarrierServer(5)
    async with server.client(max_documents=2, max_concurrency=5) as client:
        assert (await client.rerank("q", texts(10), deadline=30)).calls == 5


@pytest.mark.anyio
async def test_parts_respect_max_concurrency() -> None:
    server = ScoringServer()
    async with server.client(max_documents=1, max_concurrency=2) as client:
        assert (await client.rerank("q", texts(20))).calls == 20
    assert server.max_in_flight == 2


class OnePartFailsServer(ScoringServer):
    """Fails the part with `text 0` when all parts have arrived, and never answers the other parts."""

    def __init__(self, parts: int, error: httpx.Response) -> None:
        super().__init__()
        self.parts = parts
        self.error = error

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await self.wait_for_requests(self.parts)
        if "text 0" not in body["documents"]:
            await anyio.sleep_forever()
        return self.error


@pytest.mark.anyio
async def test_failed_part_raises_its_error_and_cancels_other_parts() -> None:
    server = OnePartFailsServer(4, httpx.Response(400, json={"detail": "no"}))
    async with server.client(max_documents=5, max_concurrency=4) as client:
        with pytest.raises(BadRequestError, match="no") as caught:
            await client.rerank("q", texts(20))
    assert caught.value.attempts == 4
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert len(server.cancelled) == 3


@pytest.mark.anyio
async def test_parts_that_all_fail_raise_one_error() -> None:
    class MalformedServer(ScoringServer):
        def ranking(self, body: Body) -> httpx.Response:
            return httpx.Response(200, json={"results": []})

    async with MalformedServer().client(max_documents=1) as client:
        with pytest.raises(ResponseFormatError):
            await client.rerank("q", texts(20))


@pytest.mark.anyio
async def test_cancelled_call_cancels_all_parts() -> None:
    server = HangingServer()
    async with server.client(max_documents=5, max_concurrency=4) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.rerank, "q", texts(20))
            await server.wait_for_requests(4)
            tasks.cancel_scope.cancel()
        assert len(server.cancelled) == 4


def test_cancelled_asyncio_task_cancels_all_parts() -> None:
    async def main() -> None:
        server = HangingServer()
        async with server.client(max_documents=5, max_concurrency=4) as client:
            task = asyncio.create_task(client.rerank("q", texts(20)))
            await server.wait_for_requests(4)
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            assert len(server.cancelled) == 4
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.anyio
async def test_closing_client_cancels_all_parts() -> None:
    server = HangingServer()
    client = server.client(max_documents=5, max_concurrency=4)

    async def call() -> None:
        with pytest.raises(ClientClosedError) as caught:
            await client.rerank("q", texts(20))
        assert caught.value.attempts == 4

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await server.wait_for_requests(4)
        await client.aclose()
    assert len(server.cancelled) == 4


@pytest.mark.anyio
async def test_deadline_applies_to_all_parts_together() -> None:
    server = HangingServer()
    async with server.client(max_documents=5, max_concurrency=2) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.rerank("q", texts(20), deadline=0.3)
    assert caught.value.attempts == 2


class FailingOnceServer(ScoringServer):
    """Fails the first request with `text 0`."""

    async def respond(self, body: Body, number: int) -> httpx.Response:
        again = self.bodies.count(body) > 1
        return self.ranking(body) if again or "text 0" not in body["documents"] else httpx.Response(503)


@pytest.mark.anyio
async def test_retry_resends_only_failed_part() -> None:
    server = FailingOnceServer()
    async with server.client(max_documents=5, retry=RetryPolicy(base_delay=0.001)) as client:
        response = await client.rerank("q", texts(20))
    assert (response.calls, response.attempts) == (4, 5)


def test_error_of_hook_propagates_unchanged() -> None:
    async def hook(request: httpx.Request) -> None:
        raise SystemExit(3)

    def http_client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(ScoringServer()), event_hooks={"request": [hook]})

    with SyncRerankClient("jina_key", model=POINTWISE, max_documents=2, http_client=http_client) as client:
        with pytest.raises(SystemExit) as caught:
            client.rerank("q", texts(10))
        assert caught.value.code == 3


def test_hook_that_raises_cancelled_error_cancels_call() -> None:
    async def hook(request: httpx.Request) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        http_client = httpx.AsyncClient(transport=httpx.MockTransport(ScoringServer()), event_hooks={"request": [hook]})
        async with RerankClient("jina_key", model=POINTWISE, max_documents=2, http_client=http_client) as client:
            with pytest.raises(asyncio.CancelledError):
                await client.rerank("q", texts(10))

    asyncio.run(main())


@pytest.mark.parametrize("usage", [{}, {"usage": None}])
@pytest.mark.anyio
async def test_usage_is_none_if_one_part_omits_it(usage: Body) -> None:
    class PartialUsageServer(ScoringServer):
        def ranking(self, body: Body) -> httpx.Response:
            self.fields = usage if "text 0" in body["documents"] else {"usage": {"total_tokens": 5}}
            return super().ranking(body)

    async with PartialUsageServer().client(max_documents=5) as client:
        response = await client.rerank("q", texts(20))
    assert response.usage == (None if usage else Usage(total_tokens=21))


@pytest.mark.anyio
async def test_embeddings_stay_with_their_documents() -> None:
    given = ["a", "bb", "ccc", "bb", "dddd"]
    async with ScoringServer().client(max_documents=2) as client:
        response = await client.rerank("q", given, return_embeddings=True)
    assert response.strategy == "split"
    assert [result.embedding for result in response.results] == [[float(len(text))] for text in response.documents]


class TestRounds:
    @staticmethod
    def score(document: str) -> float:
        return math.sin(int(document.removeprefix("text ")))

    @pytest.mark.anyio
    async def test_listwise_list_is_ranked_in_rounds(self) -> None:
        server, given = ScoringServer(self.score), texts(100)
        async with server.client(model=LISTWISE, max_documents=25) as client:
            response = await client.rerank("q", given, top_n=10)
        # Four parts keep ten each; two parts of these twenty keep ten each; one request ranks the last twenty.
        assert server.sizes == [25, 25, 25, 25, 20, 20, 20]
        assert (response.calls, response.attempts, response.strategy) == (7, 7, "rounds")
        assert response.usage == Usage(total_tokens=167, prompt_tokens=7)
        best = sorted(given, key=self.score, reverse=True)[:10]
        assert response.documents == best
        assert [result.document is given[result.index] for result in response.results] == [True] * 10

    @pytest.mark.anyio
    async def test_scores_are_those_of_the_last_round(self) -> None:
        class RequestSizeServer(ScoringServer):
            def ranking(self, body: Body) -> httpx.Response:
                count = len(body["documents"])
                self.score = lambda document: TestRounds.score(document) / count
                return super().ranking(body)

        server = RequestSizeServer()
        async with server.client(model=LISTWISE, max_documents=10) as client:
            response = await client.rerank("q", texts(12), top_n=3)
        assert server.sizes == [6, 6, 6]
        assert rows(response) == [(index, self.score(f"text {index}") / 6) for index in (8, 2, 1)]

    @pytest.mark.anyio
    async def test_each_request_keeps_input_order_and_spreads_first_documents(self) -> None:
        server, given = ScoringServer(self.score), texts(40)
        async with server.client(model=LISTWISE, max_documents=10) as client:
            await client.rerank("q", given, top_n=5)
        places = [[given.index(text) for text in body["documents"]] for body in server.bodies]
        assert all(earlier < later for request in places for earlier, later in pairwise(request))
        assert sorted(request[:2] for request in places[:4]) == [[0, 4], [1, 5], [2, 6], [3, 7]]

    @pytest.mark.anyio
    async def test_embeddings_are_requested_in_last_round_only(self) -> None:
        server = ScoringServer(self.score)
        async with server.client(model=LISTWISE, max_documents=10) as client:
            response = await client.rerank("q", texts(20), top_n=5, return_embeddings=True)
        assert [body.get("return_embeddings") for body in server.bodies] == [None, None, True]
        assert all(result.embedding == [float(len(result.document))] for result in response.results)

    @pytest.mark.parametrize(("documents", "top_n", "max_documents"), [(26, None, 25), (26, 13, 25), (3, 1, 1)])
    @pytest.mark.anyio
    async def test_top_n_beyond_rounds_raises_before_sending(
        self, documents: int, top_n: int | None, max_documents: int
    ) -> None:
        server = ScoringServer()
        async with server.client(model=LISTWISE, max_documents=max_documents, fallback="original_order") as client:
            with pytest.raises(InvalidRequestError, match=r"documents: .*listwise.*raise.* max_documents") as caught:
                await client.rerank("q", texts(documents), top_n=top_n)
        assert ("top_n of at most 12" in caught.value.message) is (max_documents == 25)
        assert server.bodies == []

    @pytest.mark.parametrize("cap", range(2, 12))
    @pytest.mark.anyio
    async def test_rounds_terminate_and_find_best_documents(self, cap: int) -> None:
        server, given = ScoringServer(self.score), texts(150)
        async with server.client(model=LISTWISE, max_documents=cap) as client:
            response = await client.rerank("q", given, top_n=cap // 2)
        assert response.documents == sorted(given, key=self.score, reverse=True)[: cap // 2]
        assert max(server.sizes) <= cap


@pytest.mark.parametrize(
    ("model", "scoring", "requests"),
    [
        ("my-own-model", None, [30]),
        ("my-own-model", "pointwise", [10, 10, 10]),
        ("my-own-model", "listwise", [10, 10, 10, 6]),
        (LISTWISE, "pointwise", [10, 10, 10]),
        (POINTWISE, "listwise", [10, 10, 10, 6]),
        (f"jinaai/{POINTWISE}", None, [10, 10, 10]),
        (f"jinaai/{LISTWISE}", None, [10, 10, 10, 6]),
    ],
)
@pytest.mark.anyio
async def test_scoring_defaults_to_that_of_model(model: str, scoring: Any, requests: list[int]) -> None:
    server = ScoringServer()
    async with server.client(max_documents=10, scoring=scoring) as client:
        response = await client.rerank("q", texts(30), top_n=2, model=model)
    assert server.sizes == requests
    assert response.calls == len(requests)


class TestDuplicates:
    """Equal documents in one list."""

    @pytest.mark.anyio
    async def test_duplicate_texts_are_sent_once_and_all_returned(self) -> None:
        server = ScoringServer(len)
        given = [{"id": number, "text": "ab" if number % 2 else "abc"} for number in range(6)]
        async with server.client() as client:
            response = await client.rerank("q", given)
        assert server.bodies[0]["documents"] == ["abc", "ab"]
        assert rows(response) == [(0, 3.0), (2, 3.0), (4, 3.0), (1, 2.0), (3, 2.0), (5, 2.0)]
        assert all(result.document is given[result.index] for result in response.results)
        assert (response.calls, response.strategy, response.usage) == (
            1,
            "single",
            Usage(total_tokens=3, prompt_tokens=1),
        )

    @pytest.mark.parametrize("top_n", [1, 2, 3, 4, 5, 9, None])
    @pytest.mark.anyio
    async def test_equal_scores_sort_by_index_and_duplicates_count_for_top_n(self, top_n: int | None) -> None:
        async with ScoringServer(len).client() as client:
            response = await client.rerank("q", ["aa", "bb", "aa", "c", "bb"], top_n=top_n)
        assert rows(response) == [(0, 2.0), (1, 2.0), (2, 2.0), (4, 2.0), (3, 1.0)][:top_n]

    @pytest.mark.anyio
    async def test_duplicate_images_are_sent_once(self) -> None:
        server = ScoringServer()
        url = "https://example.com/a.png"
        given: list[Any] = [ImageDocument(image=url), url, {"image": url}, url]
        async with server.client(model="jina-reranker-m0") as client:
            response = await client.rerank("q", given)
        assert server.bodies[0]["documents"] == [{"image": url}, url]
        assert sorted(index for index, _ in rows(response)) == [0, 1, 2, 3]

    @pytest.mark.parametrize("model", [LISTWISE, "my-own-model"])
    @pytest.mark.anyio
    async def test_listwise_model_receives_duplicates(self, model: str) -> None:
        server = ScoringServer()
        async with server.client(model=model) as client:
            await client.rerank("q", ["a", "a", "b"])
        assert server.bodies[0]["documents"] == ["a", "a", "b"]

    @pytest.mark.anyio
    async def test_list_within_limit_after_deduplication_is_one_request(self) -> None:
        server = ScoringServer()
        async with server.client(max_documents=2) as client:
            response = await client.rerank("q", ["a", "b", " "] * 10, top_n=25)
        assert server.sizes == [2]
        assert (len(response.results), response.strategy) == (25, "single")
        assert [result.index for result in response.results[20:]] == [2, 5, 8, 11, 14]


TEXTS = st.lists(st.sampled_from(["", " ", "a", "b", "c", "d", "e", "f", "g", "h", "\n"]), max_size=40)


@settings(max_examples=150, deadline=None)
@given(given=TEXTS, cap=st.integers(1, 12), top_n=st.none() | st.integers(1, 50))
def test_any_split_list_equals_one_big_request(given: list[str], cap: int, top_n: int | None) -> None:
    async def results(**options: Any) -> list[tuple[int, float]]:
        async with server.client(**options) as client:
            return rows(await client.rerank("q", given, top_n=top_n))

    server = ScoringServer()
    whole = anyio.run(lambda: results(model="my-own-model"))
    del server.bodies[:]
    assert anyio.run(lambda: results(max_documents=cap)) == whole
    assert all(size <= cap for size in server.sizes)
    sent = [text for body in server.bodies for text in body["documents"]]
    assert sorted(sent) == sorted({text for text in given if text.strip()})
