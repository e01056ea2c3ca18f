"""RerankClient.local: rankings without a key, a server, or a network, through the same stack."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from jina_rerank import (
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    ImageDocument,
    InvalidRequestError,
    RerankClient,
    RerankError,
    RerankRequest,
    SyncRerankClient,
)
from jina_rerank.emulator import LexicalScorer

DOCUMENTS = ["Onion soup", "How to change a bicycle tyre", "Tyre pressure and grip"]
QUERY = "change a tyre"


def longest_first(query: str, documents: Sequence[str]) -> list[float]:
    return [len(document) for document in documents]


async def longest_first_awaited(query: str, documents: Sequence[str]) -> list[float]:
    await anyio.lowlevel.checkpoint()
    return longest_first(query, documents)


@pytest.fixture(autouse=True)
def no_socket_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a local client has connected a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.mark.anyio
async def test_local_client_ranks_without_key() -> None:
    async with RerankClient.local() as client:
        response = await client.rerank(QUERY, DOCUMENTS, top_n=2)
    assert response.documents == [DOCUMENTS[1], DOCUMENTS[2]]
    assert [result.index for result in response.results] == [1, 2]
    assert response.results[0].relevance_score > response.results[1].relevance_score > 0
    assert (response.model, response.attempts, response.calls, response.strategy) == ("lexical", 1, 1, "single")
    assert response.usage is not None
    assert client.totals.tokens == response.usage.total_tokens > 0
    assert (client.totals.requests, client.totals.attempts, client.totals.price) == (1, 1, 0.0)
    with pytest.raises(ClientClosedError):
        await client.rerank(QUERY, DOCUMENTS)


@pytest.mark.anyio
async def test_local_client_ignores_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_key_of_the_environment")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", "not a url")
    async with RerankClient.local() as client:
        assert (await client.rerank(QUERY, DOCUMENTS)).documents[0] == DOCUMENTS[1]
    assert repr(client) == "RerankClient(base_url='local://lexical', model='lexical')"


def test_local_client_blocking_ranks_in_many_threads() -> None:
    found: list[object] = []
    with SyncRerankClient.local() as client:
        threads = [
            threading.Thread(target=lambda: found.append(client.rerank(QUERY, DOCUMENTS).documents)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [[DOCUMENTS[1], DOCUMENTS[2], DOCUMENTS[0]]] * 8
    assert client.totals.requests == 8


def test_local_client_serves_several_event_loops() -> None:
    client = RerankClient.local()
    for _ in range(3):
        assert asyncio.run(client.rerank(QUERY, DOCUMENTS)).documents[0] == DOCUMENTS[1]


@pytest.mark.anyio
@pytest.mark.parametrize("scorer", [longest_first, longest_first_awaited])
async def test_local_client_with_function_takes_its_scores(scorer: Any) -> None:
    async with RerankClient.local(scorer) as client:
        response = await client.rerank(QUERY, DOCUMENTS)
    assert [result.relevance_score for result in response.results] == [28, 22, 10]
    assert response.model == scorer.__name__


@pytest.mark.anyio
async def test_local_client_with_scorer_object_takes_its_scores() -> None:
    async with RerankClient.local(LexicalScorer()) as client:
        assert (await client.rerank(QUERY, DOCUMENTS)).documents[0] == DOCUMENTS[1]


def test_local_client_with_minilm_ranks_by_meaning() -> None:
    with SyncRerankClient.local("minilm") as client:
        response = client.rerank("something warm to eat", DOCUMENTS, top_n=1)
    assert response.documents == ["Onion soup"]
    assert str(response.model).startswith("minilm")


@pytest.mark.anyio
async def test_local_client_ranks_many() -> None:
    requests = [RerankRequest(query=QUERY, documents=DOCUMENTS, top_n=1, model="jina-reranker-v3")] * 50
    async with RerankClient.local(max_concurrency=4) as client, client.rerank_many(requests) as stream:
        outcomes = [outcome async for outcome in stream]
    assert [outcome.response and outcome.response.documents for outcome in outcomes] == [[DOCUMENTS[1]]] * 50
    assert stream.totals == client.totals
    assert (client.totals.requests, client.totals.price) == (50, 0.0)


@pytest.mark.anyio
async def test_local_client_splits_long_lists_as_one_list_would_rank() -> None:
    documents = [f"{word} tyre number {number}" for number in range(50) for word in ("change", "sell")]
    async with RerankClient.local(max_documents=30) as client:
        split = await client.rerank(QUERY, documents, top_n=10)
        whole = await client.with_options(max_documents=1000).rerank(QUERY, documents, top_n=10)
        rounds = await client.with_options(scoring="listwise").rerank(QUERY, documents, top_n=10)
    assert (split.strategy, split.calls, whole.strategy, rounds.strategy) == ("split", 4, "single", "rounds")
    assert split.results == whole.results
    assert rounds.results[0].relevance_score != whole.results[0].relevance_score


@pytest.mark.anyio
async def test_local_client_with_function_sends_long_lists_whole() -> None:
    async with RerankClient.local(longest_first, max_documents=2) as client:
        response = await client.rerank(QUERY, DOCUMENTS, model="jina-reranker-v2-base-multilingual")
        assert (response.calls, response.model) == (1, "longest_first")
        clone = client.with_options(scoring="pointwise", model="jina-reranker-v3")
        assert (await clone.rerank(QUERY, DOCUMENTS)).calls == 2
    assert client.totals.price == 0


@pytest.mark.anyio
async def test_local_client_cuts_and_embeds_as_asked() -> None:
    async with RerankClient.local(longest_first) as client:
        response = await client.rerank("q", ["a b c d", "efghi"], max_doc_length=2, return_embeddings=True, top_n=1)
    assert response.documents == ["efghi"]
    assert [len(result.embedding or ()) for result in response.results] == [512]


@pytest.mark.anyio
async def test_local_client_refuses_images() -> None:
    image = ImageDocument(image="https://example.com/tyre.png")
    async with RerankClient.local() as client:
        with pytest.raises(InvalidRequestError, match=r"documents: a local client reads no images; .*jina-reranker-m0"):
            await client.rerank(QUERY, ["a tyre", image], model="jina-reranker-m0")
        with pytest.raises(InvalidRequestError, match="query: a local client reads no images"):
            await client.rerank(image, DOCUMENTS)
    assert client.totals.requests == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda query, documents: [1.0], "one finite number for each document; for 3 documents it returned 1 numbers"),
        (lambda query, documents: [float("nan")] * 3, "one finite number for each document"),
        (lambda query, documents: [1 / 0], "raised ZeroDivisionError: division by zero"),
        (lambda query, documents: None, "raised TypeError"),
    ],
)
async def test_local_client_with_failing_scorer_raises_rerank_error(scorer: Any, message: str) -> None:
    async with RerankClient.local(scorer) as client:
        with pytest.raises(RerankError, match=message) as caught:
            await client.rerank(QUERY, DOCUMENTS)
        assert caught.value.attempts == 1
        outcomes = [outcome async for outcome in client.rerank_many([RerankRequest(query=QUERY, documents=DOCUMENTS)])]
    assert type(outcomes[0].error) is RerankError


class Signalling(LexicalScorer):
    """Tells when it begins to score."""

    def __init__(self) -> None:
        self.begins = anyio.Event()

    def scoring(self, query: str, documents: Sequence[str], *, listwise: bool) -> Any:
        self.begins.set()
        return super().scoring(query, documents, listwise=listwise)


@pytest.mark.anyio
async def test_long_local_ranking_lets_short_ones_pass() -> None:
    scorer, done = Signalling(), list[str]()
    words = " ".join(f"{number:x}" for number in range(1_000, 1_500))

    async def rank(name: str, query: str, documents: Sequence[str]) -> None:
        await client.rerank(query, documents)
        done.append(name)

    async with RerankClient.local(scorer) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(rank, "long", words, [f"{number} {words}" for number in range(60)])
        await scorer.begins.wait()
        await rank("short", QUERY, DOCUMENTS)
    assert done == ["short", "long"]


@pytest.mark.anyio
async def test_blocking_local_scorer_leaves_event_loop_free() -> None:
    go_on = threading.Event()

    def slow(query: str, documents: Sequence[str]) -> list[float]:
        if query == "slow":
            assert go_on.wait(30)
        return longest_first(query, documents)

    async with RerankClient.local(slow) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.rerank, "slow", DOCUMENTS)
        await client.rerank(QUERY, DOCUMENTS)
        go_on.set()


@pytest.mark.anyio
async def test_local_scorer_slower_than_timeout_raises_timeout_error() -> None:
    go_on = threading.Event()

    def stuck(query: str, documents: Sequence[str]) -> list[float]:
        go_on.wait(30)
        return longest_first(query, documents)

    try:
        async with RerankClient.local(stuck, timeout=0.05, deadline=5.0) as client:
            with pytest.raises(APITimeoutError, match="within the timeout"):
                await client.rerank(QUERY, DOCUMENTS)
    finally:
        go_on.set()


@pytest.mark.parametrize("make", [RerankClient.local, SyncRerankClient.local])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scorer": "bm25"}, "scorer: expected 'lexical', 'minilm', a Scorer, or a function; got 'bm25'"),
        ({"scorer": 7}, r"scorer: expected a Scorer, or a function \(query, documents\) -> scores"),
        ({"scorer": LexicalScorer}, "scorer: expected a Scorer"),
        ({"api_key": "jina_key"}, r"api_key: local\(\) does not take it, but timeout, .*; give the others to RerankCl"),
        ({"base_url": "http://127.0.0.1"}, "base_url: local"),
        ({"deadline": -1}, "deadline: expected a positive number"),
    ],
)
def test_local_client_with_wrong_argument_raises_configuration_error(
    make: Callable[..., object], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**arguments)


WITHOUT_EXTRAS = """
import sys
for name in ("starlette", "uvicorn", "numpy", "onnxruntime", "tokenizers"):
    sys.modules[name] = None
from jina_rerank import ConfigurationError, SyncRerankClient
client = SyncRerankClient.local(lambda query, documents: [len(document) for document in documents])
print(client.rerank("flat tyre", ["soup", "flat tyres"]).documents)
print(SyncRerankClient.local().rerank("flat tyre", ["soup", "flat tyres"]).documents)
try:
    SyncRerankClient.local("minilm")
except ConfigurationError as error:
    print(error)
"""


def test_program_without_extras_ranks_and_exits() -> None:
    """It ends at once, though neither the clients nor their worker threads are closed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_EXTRAS], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    ranked, ranked_lexically, refused = done.stdout.splitlines()
    assert ranked == ranked_lexically == "['flat tyres', 'soup']"
    assert refused.startswith('scorer: minilm needs an extra: pip install "jina-rerank[minilm]" (')


def test_missing_key_names_ways_without_one() -> None:
    with pytest.raises(ConfigurationError, match=r"RerankClient\.local\(\).*`jina-rerank serve`"):
        RerankClient()
