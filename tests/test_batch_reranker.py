"""BatchReranker: a function from batch to batch that travels to the workers of an engine."""

import gc
import multiprocessing
import pickle
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from jina_rerank import ConfigurationError, InvalidRequestError, SyncRerankClient
from jina_rerank.bulk import BatchReranker

from .servers import RawServer, answer_body, http, send

GOOD = send(http(answer_body(2)))
BATCH = {"id": [7, 8], "query": ["q", "r"], "documents": [["a", "b"], ["c", "d"]]}
ADDED = {"indices": [[1, 0], [1, 0]], "scores": [[0.2, 0.1], [0.2, 0.1]], "error": [None, None]}


def test_call_adds_columns_to_batch(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    reranker = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url))
    assert reranker(BATCH) == {**BATCH, **ADDED}
    best = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url), query="q", documents="d", top_n=1)
    assert best({"q": ["x"], "d": [("a", "b")]})["indices"] == [[1]]
    assert reranker({"query": [], "documents": []}) == {
        "query": [],
        "documents": [],
        "indices": [],
        "scores": [],
        "error": [],
    }


def test_failed_row_keeps_its_position(raw_server: RawServer) -> None:
    refused = send(http(b'{"detail": "no", "code": "AUTH_INVALID_API_KEY"}', 401))
    raw_server.plays = [GOOD, refused]
    reranker = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url, max_concurrency=1))
    documents: list[Any] = [["a", "b"], None, ["a", "b"], []]
    done = reranker({"query": ["q", "q", "q", "q"], "documents": documents})
    assert done["indices"] == [[1, 0], [], [], []]
    assert done["error"][0] is None
    assert done["error"][1].startswith("documents: expected a sequence of documents, got NoneType")
    assert "AUTH_INVALID_API_KEY" in done["error"][2]
    assert done["error"][3] is None


def test_arguments_and_batches_are_checked(raw_server: RawServer) -> None:
    client: Any = SyncRerankClient(base_url=raw_server.url)
    with pytest.raises(ConfigurationError, match="make_client"):
        BatchReranker(client)
    with pytest.raises(InvalidRequestError, match="top_n"):
        BatchReranker(top_n=0)
    reranker = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url))
    for batch, message in (
        ({"query": []}, "no column 'documents', but query"),
        ({**BATCH, "scores": []}, "a column 'scores' already"),
        ({"query": ["q"], "documents": []}, "have different lengths"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            reranker(batch)


def test_pickle_holds_no_key_and_no_client(monkeypatch: pytest.MonkeyPatch, raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    monkeypatch.setenv("JINA_API_KEY", "jina_secret")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", raw_server.url)
    reranker = BatchReranker()
    reranker(BATCH)
    assert raw_server.requests[0][0]["authorization"] == "Bearer jina_secret"
    packed = pickle.dumps(reranker)
    assert b"jina_secret" not in packed
    assert pickle.loads(packed).client is reranker.client
    assert BatchReranker().client is not reranker.client


def test_threads_and_copies_share_a_client(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    reranker = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url, max_concurrency=2))
    with ThreadPoolExecutor(8) as threads:
        copies = [pickle.loads(pickle.dumps(reranker)) for _ in range(20)]
        assert list(threads.map(lambda copy: copy(BATCH), copies)) == [{**BATCH, **ADDED}] * 20
    assert (len(raw_server.requests), raw_server.connections) == (40, 2)


def test_reranker_works_in_process_pool(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    reranker = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url, max_concurrency=1))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as processes:
        assert list(processes.map(reranker, [BATCH] * 10)) == [{**BATCH, **ADDED}] * 10
    # Each task unpickles the function anew; the connection stays all the same.
    assert (len(raw_server.requests), raw_server.connections <= 2) == (20, True)


def test_dropped_rerankers_keep_few_clients(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    kept = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url))
    client = kept.client
    clients = []
    for _ in range(30):
        reranker = BatchReranker(partial(SyncRerankClient, base_url=raw_server.url))
        reranker(BATCH)
        clients.append(weakref.ref(reranker.client))
    del reranker
    gc.collect()
    assert 0 < sum(ref() is not None for ref in clients) <= 10
    assert clients[-1]() is not None  # the next batch of an engine finds it
    assert kept.client is client
