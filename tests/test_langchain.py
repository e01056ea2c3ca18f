"""JinaRerank in LangChain: over real sockets, sync and async, in retrievers and chains."""

import asyncio
import json
import logging
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip("langchain_core")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from jina_rerank import (
    AuthenticationError,
    InvalidRequestError,
    RerankClient,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
)
from jina_rerank.langchain import Item, JinaRerank, RerankInput

from .servers import RawServer, answer_body, http, send

pytestmark = pytest.mark.smoke

GOOD = send(http(answer_body(3)))
"""The last of three documents is the best, with 0.3, 0.2 and 0.1."""


@pytest.fixture
def server(raw_server: RawServer) -> RawServer:
    raw_server.plays = [GOOD]
    return raw_server


@pytest.fixture
def compressor(server: RawServer) -> JinaRerank:
    return JinaRerank(api_key="jina_secret", base_url=server.url, retry=RetryPolicy(base_delay=0.001))


class Article(Document):
    section: str = "none"


def documents() -> list[Document]:
    return [
        Document("first", id="1", metadata={"nested": {"tags": ["a"]}}),
        Article(page_content="second", id="2", section="news"),
        Document("third", id="3", metadata={"relevance_score": "old", "lock": threading.Lock(), "list": [[1]]}),
    ]


def sent(server: RawServer) -> Any:
    return json.loads(server.requests[-1][1])


class Log(BaseCallbackHandler):
    """Everything that a tracer would see."""

    def __init__(self) -> None:
        self.starts: dict[UUID, tuple[str, Any, UUID | None]] = {}
        self.ends: dict[UUID, Any] = {}
        self.errors: dict[UUID, BaseException] = {}

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: Any = None, **kw: Any
    ) -> None:
        self.starts[run_id] = (str(kw.get("name")), inputs, parent_run_id)

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, parent_run_id: Any = None, **kw: Any
    ) -> None:
        self.starts[run_id] = ("retriever", query, parent_run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kw: Any) -> None:
        self.ends[run_id] = outputs

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kw: Any) -> None:
        self.errors[run_id] = error

    @property
    def rerank(self) -> UUID:
        (run,) = [run for run, (name, _, _) in self.starts.items() if name == "JinaRerank"]
        return run


def compress(compressor: JinaRerank, way: str, given: list[Document], **arguments: Any) -> list[Document]:
    if way == "sync":
        return compressor.compress_documents(given, "q", **arguments)
    return asyncio.run(compressor.acompress_documents(given, "q", **arguments))


BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@BOTH
def test_copies_are_returned_best_first_and_originals_unchanged(compressor: JinaRerank, way: str) -> None:
    given = documents()
    found = compress(compressor, way, given)
    assert [document.page_content for document in found] == ["third", "second", "first"]
    assert [document.id for document in found] == ["3", "2", "1"]
    assert [document.metadata["relevance_score"] for document in found] == [0.3, 0.2, 0.1]
    assert (type(found[1]), found[1].type, found[1].section) == (Article, "Document", "news")  # type: ignore[attr-defined]
    assert found[0].metadata["lock"] is given[2].metadata["lock"]
    found[0].metadata["list"][0].append(2)
    found[2].metadata["nested"]["tags"].append("b")
    assert given[0].metadata == {"nested": {"tags": ["a"]}}
    assert given[1].metadata == {}
    assert given[2].metadata["relevance_score"] == "old"
    assert given[2].metadata["list"] == [[1]]


@BOTH
def test_empty_input_sends_no_request(compressor: JinaRerank, server: RawServer, way: str) -> None:
    assert compress(compressor, way, []) == []
    assert compressor.rerank([], "q") == []
    assert server.requests == []


def test_request_body_has_expected_fields(compressor: JinaRerank, server: RawServer) -> None:
    compressor.compress_documents(documents(), "q")
    assert sent(server) == {
        "model": "jina-reranker-v3.5",
        "query": "q",
        "documents": ["first", "second", "third"],
        "top_n": 3,
        "return_documents": False,
    }
    headers = server.requests[-1][0]
    assert (headers["authorization"], headers["user-agent"]) == ("Bearer jina_secret", "langchain")


def test_options_of_the_client(server: RawServer) -> None:
    compressor = JinaRerank(
        base_url=server.url,
        model="jina-reranker-v3",
        top_n=None,
        user_agent="mine",
        max_doc_length=64,
        extra_body={"instruction": "x"},
        timeout=5,
        deadline=None,
        max_concurrency=2,
    )
    compressor.compress_documents(documents(), "q")
    assert sent(server)["model"] == "jina-reranker-v3"
    assert sent(server)["top_n"] == 3
    assert (sent(server)["max_doc_length"], sent(server)["instruction"]) == (64, "x")
    assert server.requests[-1][0]["user-agent"] == "mine"


TOP_N = [({}, 2), ({"top_n": -1}, 2), ({"top_n": 0}, 2), ({"top_n": None}, None), ({"top_n": 1}, 1)]


@pytest.mark.parametrize(("arguments", "top_n"), TOP_N)
def test_rerank_gives_positions_and_scores(
    compressor: JinaRerank, server: RawServer, arguments: dict[str, Any], top_n: int | None
) -> None:
    compressor.top_n = 2
    mixed: list[Item] = ["a text", Document("a document"), {"text": "a mapping"}]
    expected = [{"index": 2, "relevance_score": 0.3}, {"index": 1, "relevance_score": 0.2}][:top_n]
    expected += [] if top_n else [{"index": 0, "relevance_score": 0.1}]
    assert compressor.rerank(mixed, "q", **arguments) == expected
    assert asyncio.run(compressor.arerank(mixed, "q", model="jina-reranker-v3", **arguments)) == expected
    assert sent(server)["top_n"] == (top_n or 3)
    assert sent(server)["model"] == "jina-reranker-v3"
    assert sent(server)["documents"] == ["a text", "a document", "a mapping"]


@BOTH
def test_low_scores_can_be_left_out(server: RawServer, way: str) -> None:
    compressor = JinaRerank(base_url=server.url, score_threshold=0.2)
    assert [document.id for document in compress(compressor, way, documents())] == ["3", "2"]


def test_images_go_out_as_images_to_models_that_read_them(server: RawServer) -> None:
    given = [Document("a", metadata={"image": "https://example.com/a.png"}), Document("b"), Document("c")]
    JinaRerank(base_url=server.url, model="jina-reranker-m0").compress_documents(given, "q")
    assert sent(server)["documents"] == [{"image": "https://example.com/a.png"}, "b", "c"]
    JinaRerank(base_url=server.url).compress_documents(given, "q")
    assert sent(server)["documents"] == ["a", "b", "c"]


@BOTH
def test_run_trace_has_inputs_and_outputs(compressor: JinaRerank, way: str) -> None:
    log, given = Log(), documents()
    found = compress(compressor, way, given, callbacks=[log])
    _, inputs, parent = log.starts[log.rerank]
    assert (inputs, parent) == ({"query": "q", "documents": given}, None)
    outputs = log.ends[log.rerank]
    assert outputs["documents"] == found
    assert (outputs["usage"], outputs["model"], outputs["attempts"]) == ({"total_tokens": 7}, "jina-reranker-v3.5", 1)
    assert all("usage" not in document.metadata for document in found)


@BOTH
def test_failure_is_traced_and_raised(compressor: JinaRerank, server: RawServer, way: str) -> None:
    server.plays = [send(http(b'{"detail": "down"}', 503))]
    log = Log()
    with pytest.raises(ServerError) as caught:
        compress(compressor, way, documents(), callbacks=[log])
    assert log.errors == {log.rerank: caught.value}
    assert isinstance(caught.value, RuntimeError)


@BOTH
def test_fallback_keeps_all_documents_whatever_the_threshold_and_shows_in_the_trace(
    server: RawServer, way: str
) -> None:
    options: dict[str, Any] = {
        "base_url": server.url,
        "fallback": "original_order",
        "retry": RetryPolicy(max_attempts=1),
    }
    server.plays = [send(http(b"", 503)), GOOD]
    log = Log()
    compressor = JinaRerank(
        client=SyncRerankClient(**options), async_client=RerankClient(**options), top_n=2, score_threshold=0.25
    )
    found = compress(compressor, way, documents(), callbacks=[log])
    assert [(document.id, document.metadata["relevance_score"]) for document in found] == [("1", 0.0), ("2", 0.0)]
    assert log.ends[log.rerank]["degraded"] is True
    log = Log()
    assert [document.id for document in compress(compressor, way, documents(), callbacks=[log])] == ["3"]
    assert log.ends[log.rerank]["degraded"] is False


class Found(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return documents()


def test_compression_for_retriever_is_child_run(compressor: JinaRerank) -> None:
    classic = pytest.importorskip("langchain_classic.retrievers")
    retriever = classic.ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Found())
    for invoke in (retriever.invoke, lambda *a, **k: asyncio.run(retriever.ainvoke(*a, **k))):
        log = Log()
        found = invoke("q", config={"callbacks": [log]})
        assert [document.id for document in found] == ["3", "2", "1"]
        parent = log.starts[log.rerank][2]
        assert parent is not None
        assert log.starts[parent][:2] == ("retriever", "q")
        assert log.ends[log.rerank]["usage"] == {"total_tokens": 7}


def test_reranker_composes_in_pipeline(compressor: JinaRerank) -> None:
    compressors = pytest.importorskip("langchain_classic.retrievers.document_compressors")
    pipeline = compressors.DocumentCompressorPipeline(transformers=[compressor, compressor])
    assert [document.id for document in pipeline.compress_documents(documents(), "q")] == ["1", "2", "3"]
    assert [document.id for document in asyncio.run(pipeline.acompress_documents(documents(), "q"))] == ["1", "2", "3"]


def test_surrounding_chain_is_parent_run_without_passing_callbacks(compressor: JinaRerank) -> None:
    def step(query: str) -> list[Document]:
        return compressor.compress_documents(documents(), query)

    async def astep(query: str) -> list[Document]:
        return await compressor.acompress_documents(documents(), query)

    log, alog = Log(), Log()
    RunnableLambda(step, name="outer").invoke("q", config={"callbacks": [log]})
    asyncio.run(RunnableLambda(astep, name="outer").ainvoke("q", config={"callbacks": [alog]}))
    for seen in (log, alog):
        parent = seen.starts[seen.rerank][2]
        assert parent is not None
        assert seen.starts[parent][0] == "outer"


def test_reranker_is_runnable(compressor: JinaRerank, server: RawServer) -> None:
    step = compressor.as_runnable()
    given: RerankInput = {"query": "q", "documents": documents()}

    def found(query: str) -> RerankInput:
        return {"query": query, "documents": documents()}

    chain = RunnableLambda(found) | step
    log = Log()
    assert [document.id for document in chain.invoke("q", config={"callbacks": [log]})] == ["3", "2", "1"]
    parent = log.starts[log.rerank][2]
    assert parent is not None
    assert log.starts[parent][0] == "RunnableSequence"
    assert [document.id for document in asyncio.run(step.ainvoke(given))] == ["3", "2", "1"]
    assert [len(ranked) for ranked in step.batch([given] * 3)] == [3, 3, 3]
    assert [len(ranked) for ranked in asyncio.run(step.abatch([given] * 3))] == [3, 3, 3]
    with pytest.raises(InvalidRequestError, match='"query" and "documents"'):
        step.invoke({"query": "q"})  # type: ignore[typeddict-item]  # the mistake that is tested


def test_sixty_calls_are_in_flight_at_once(compressor: JinaRerank, server: RawServer) -> None:
    all_there = threading.Barrier(60, timeout=30)

    def play(connection: Any) -> None:
        all_there.wait()
        connection.sendall(http(answer_body(3)))

    async def main() -> list[list[Document]]:
        return await asyncio.gather(*[compressor.acompress_documents(documents(), f"q{i}") for i in range(60)])

    server.plays = [play]
    assert [len(found) for found in asyncio.run(main())] == [3] * 60


def test_batch_keeps_to_the_limit(server: RawServer) -> None:
    at_once = most = 0
    lock = threading.Lock()

    def play(connection: Any) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1
        connection.sendall(http(answer_body(3)))

    server.plays = [play]
    step = JinaRerank(base_url=server.url, max_concurrency=3).as_runnable()
    given: RerankInput = {"query": "q", "documents": documents()}
    asyncio.run(step.abatch([given] * 12))
    assert most == 3
    step.batch([given] * 12)
    assert most == 3


def test_one_instance_serves_threads_and_many_loops(compressor: JinaRerank) -> None:
    with ThreadPoolExecutor(8) as threads:
        mixed = list(threads.map(lambda i: compress(compressor, ("sync", "async")[i % 2], documents()), range(40)))
    assert {tuple(document.id for document in found) for found in mixed} == {("3", "2", "1")}


def test_missing_key_raises_at_construction() -> None:
    with pytest.raises(ValidationError, match=r"Did not find jina_api_key.*JINA_API_KEY"):
        JinaRerank()


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"top": 3}, "Extra inputs are not permitted"),
    ({"top_n": 0}, "greater than or equal to 1"),
    ({"base_url": "localhost:8000"}, "base_url: "),
    ({"timeout": -1}, "timeout: "),
    ({"max_concurrency": 0}, "max_concurrency"),
    ({"api_key": "jina_secret\nx"}, "api_key: "),
    ({"api_key": "jina_secret", "client": SyncRerankClient("k"), "timeout": 3}, "a ready-made client has its own"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_invalid_options_raise_at_construction(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        JinaRerank(**{"api_key": "jina_key", **arguments} if "client" not in arguments else arguments)
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError):
        JinaRerank("jina_key")  # type: ignore[call-arg]  # positional arguments must be rejected


def test_ready_made_clients_are_used_and_stay_open(server: RawServer) -> None:
    with SyncRerankClient("jina_mine", base_url=server.url, model="jina-reranker-v3") as client:
        for way in ("sync", "async"):
            assert len(compress(JinaRerank(client=client), way, documents())) == 3
            assert sent(server)["model"] == "jina-reranker-v3"
            assert server.requests[-1][0]["authorization"] == "Bearer jina_mine"
        compress(JinaRerank(client=client, model="jina-reranker-v2-base-multilingual"), "sync", documents())
        assert sent(server)["model"] == "jina-reranker-v2-base-multilingual"
        assert client.rerank("q", ["a", "b", "c"]).documents == ["c", "b", "a"]
    other = JinaRerank(async_client=RerankClient(base_url=server.url))
    for way in ("sync", "async"):
        assert len(compress(other, way, documents())) == 3


def test_options_of_old_class_are_accepted_with_warning(compressor: JinaRerank) -> None:
    with pytest.warns(DeprecationWarning, match=r"client=SyncRerankClient\(http_client=") as warned:
        JinaRerank(api_key="jina_key", session=object())
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="max_doc_length") as warned:
        compressor.rerank(["a", "b", "c"], "q", max_chunks_per_doc=3)
    assert warned[0].filename == __file__


def test_changing_a_field_changes_what_is_sent(compressor: JinaRerank, server: RawServer) -> None:
    compressor.compress_documents(documents(), "q")
    compressor.user_agent = "other"
    compressor.model = "jina-reranker-v3"
    compressor.compress_documents(documents(), "q")
    assert server.requests[-1][0]["user-agent"] == "other"
    assert sent(server)["model"] == "jina-reranker-v3"


def assigned(compressor: JinaRerank, fields: dict[str, Any]) -> JinaRerank:
    for name, value in fields.items():
        setattr(compressor, name, value)
    return compressor


CHANGES: list[Any] = [
    lambda jina, fields: jina.model_copy(update=fields),
    lambda jina, fields: jina.model_copy(update=fields, deep=True),
    lambda jina, fields: JinaRerank.model_construct(**fields),
    assigned,
]


@pytest.mark.parametrize("change", CHANGES, ids=["copy", "deep copy", "construct", "assign"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_changed_key_and_server_are_used_and_the_key_stays_hidden(
    compressor: JinaRerank, change: Any, way: str
) -> None:
    compress(compressor, way, documents())
    with RawServer(GOOD) as other:
        changed = change(compressor, {"jina_api_key": "jina_canary", "base_url": other.url, "user_agent": "tenant two"})
        compress(changed, way, documents())
    (request,) = other.requests
    assert (request[0]["authorization"], request[0]["user-agent"]) == ("Bearer jina_canary", "tenant two")
    shown = [repr(changed), str(changed), str(changed.model_dump()), changed.model_dump_json(), dumps(changed)]
    shown += [repr(changed.model_copy()), repr(deepcopy(changed)), repr(pickle.dumps(changed)), str(vars(changed))]
    assert [text for text in shown if "canary" in text] == []


@pytest.mark.parametrize("name", ["api_key", "jina_api_key"])
def test_copy_takes_the_key_under_both_names_and_leaves_its_original_alone(
    compressor: JinaRerank, server: RawServer, name: str
) -> None:
    compressor.model_copy(update={name: "jina_other", "deadline": 9.0}).compress_documents(documents(), "q")
    compressor.compress_documents(documents(), "q")
    assert [headers["authorization"] for headers, _ in server.requests] == ["Bearer jina_other", "Bearer jina_secret"]


def test_conflicting_fields_are_refused_without_change(compressor: JinaRerank) -> None:
    base_url = compressor.base_url
    with pytest.raises(ValidationError, match="unencrypted"):
        compressor.base_url = "http://example.com"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        compressor.model_copy(update={"top": 3})
    assert compressor.base_url == base_url
    assert compressor.model_copy(update={"jina_api_key": None, "base_url": "http://example.com"}).jina_api_key is None


def test_key_appears_nowhere(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.plays = [send(http(b'{"detail": "who is jina_canary0123456789?"}', 401)), GOOD]
    compressor = JinaRerank(api_key="jina_canary0123456789", base_url=server.url)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationError) as caught:
        compressor.compress_documents(documents(), "q")
    shown = [repr(compressor), str(compressor), str(compressor.model_dump()), compressor.model_dump_json()]
    shown += [json.dumps(JinaRerank.model_json_schema()), dumps(compressor), str(dumpd(compressor)), str(caught.value)]
    shown += [caplog.text, repr(pickle.dumps(compressor)), repr(compressor.as_runnable())]
    assert [text for text in shown if "canary" in text] == []
    monkeypatch.setenv("JINA_API_KEY", "jina_other")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", server.url)
    monkeypatch.setattr(compressor, "base_url", None)
    again = pickle.loads(pickle.dumps(compressor))
    assert len(again.compress_documents(documents(), "q")) == 3
    assert server.requests[-1][0]["authorization"] == "Bearer jina_other"


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with warnings.catch_warnings():
        # langchain-core's own, of its code under a newer pydantic or Python
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"langchain_.*")
        yield


def test_deep_copy_works(compressor: JinaRerank) -> None:
    compressor.compress_documents(documents(), "q")
    twin = deepcopy(compressor)
    assert [document.id for document in twin.compress_documents(documents(), "q")] == ["3", "2", "1"]


def test_without_langchain_the_extra_is_named() -> None:
    program = "import sys; sys.modules['langchain_core'] = None; import jina_rerank.langchain"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        'ImportError: JinaRerank needs langchain-core: pip install "jina-rerank[langchain]"',
    )
