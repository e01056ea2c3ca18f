"""The class that JinaRerank replaces and JinaRerank, side by side over the same server: one table of behaviour."""

import asyncio
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it is not maintained any more
    seed = pytest.importorskip("langchain_community.document_compressors.jina_rerank")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document

from jina_rerank.langchain import JinaRerank

from .servers import Play, RawServer, answer_body, http, send


class Side(NamedTuple):
    """One of the two classes, and the server it asks."""

    cls: Any
    server: RawServer

    def make(self, **fields: Any) -> Any:
        return self.cls(**{"jina_api_key": "jina_secret", **fields})

    @property
    def sent(self) -> Any:
        return json.loads(self.server.requests[-1][1])


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Side, Side]]:
    with RawServer(GOOD) as old, RawServer(GOOD) as new:
        monkeypatch.setattr(seed, "JINA_API_URL", f"{old.url}/v1/rerank")
        monkeypatch.setenv("JINA_RERANK_BASE_URL", new.url)
        yield Side(seed.JinaRerank, old), Side(JinaRerank, new)


GOOD = send(http(answer_body(3)))


class Article(Document):
    pass


def documents(**metadata: Any) -> list[Document]:
    return [Document("a", id="1", metadata=metadata), Article(page_content="b", id="2"), Document("c", id="3")]


def raised(call: Callable[[], Any]) -> type[BaseException] | None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # its class is the result
        return type(error)
    return None


def compressed(side: Side, **metadata: Any) -> list[Document]:
    found: list[Document] = side.make().compress_documents(documents(**metadata), "q")
    return found


def order(side: Side) -> Any:
    return [(document.page_content, document.metadata["relevance_score"]) for document in compressed(side)]


def positions(side: Side) -> Any:
    return side.make().rerank(["a", Document("b"), {"text": "c"}], "q")


def overwritten(side: Side) -> Any:
    return compressed(side, relevance_score="old")[2].metadata


def untouched(side: Side) -> Any:
    given = documents(nested={"list": [1]})
    side.make().compress_documents(given, "q")[2].metadata["nested"]["list"].append(2)
    return given[0].metadata


def top_n_sent(side: Side, **arguments: Any) -> Any:
    side.make(top_n=2).rerank(["a", "b", "c"], "q", **arguments)
    return side.sent.get("top_n", "left out")


def nothing(side: Side) -> Any:
    return side.make().rerank([], "q"), list(side.make().compress_documents([], "q")), len(side.server.requests)


def another_model(side: Side) -> Any:
    side.make().rerank(["a", "b", "c"], "q", model="jina-reranker-v3")
    return side.sent["model"]


def missing_key(side: Side) -> Any:
    try:
        # Ours needs no key for a server of one's own.
        side.cls(**({"base_url": "https://api.jina.ai"} if side.cls is JinaRerank else {}))
    except ValueError as error:
        return type(error).__name__, "Did not find jina_api_key" in str(error)
    return None


def failure(side: Side, play: Play) -> Any:
    side.server.plays = [play]
    error = raised(lambda: side.make().rerank(["a", "b", "c"], "q"))
    return error.__name__ if error else None


def is_caught_as_before(side: Side) -> Any:
    side.server.plays = [send(http(b'{"detail": "no"}', 401))]
    try:
        side.make().rerank(["a"], "q")
    except RuntimeError as error:
        return "no" in str(error)
    return None


def runs_traced(side: Side) -> Any:
    class Log(BaseCallbackHandler):
        def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
            names.append(kwargs["name"])

    names: list[str] = []
    side.make().compress_documents(documents(), "q", callbacks=[Log()])
    return names


def async_uses_a_thread(side: Side) -> Any:
    async def main() -> bool:
        before = set(threading.enumerate())  # other tests may have left some
        await side.make().acompress_documents(documents(), "q")
        return any(thread.name.startswith("asyncio_") for thread in set(threading.enumerate()) - before)

    return asyncio.run(main())


def attempts_at_an_outage(side: Side) -> Any:
    side.server.plays = [send(http(b'{"detail": "down"}', 503))]
    raised(lambda: side.make().rerank(["a"], "q"))
    return len(side.server.requests)


Look = Callable[[Side], Any]

SAME: dict[str, tuple[Look, Any]] = {
    "best first, with scores": (order, [("c", 0.3), ("b", 0.2), ("a", 0.1)]),
    "positions and scores": (positions, [{"index": i, "relevance_score": (i + 1) / 10} for i in (2, 1, 0)]),
    "an old relevance_score is overwritten": (overwritten, {"relevance_score": 0.1}),
    "the caller's metadata stays": (untouched, {"nested": {"list": [1]}}),
    "top_n left out": (top_n_sent, 2),
    "top_n=-1": (lambda side: top_n_sent(side, top_n=-1), 2),
    "top_n=0": (lambda side: top_n_sent(side, top_n=0), 2),
    "top_n=1": (lambda side: top_n_sent(side, top_n=1), 1),
    "no documents": (nothing, ([], [], 0)),
    "another model for one call": (another_model, "jina-reranker-v3"),
    "an unknown field": (lambda side: (raised(lambda: side.make(top=3)) or object).__name__, "ValidationError"),
    "a positional argument": (lambda side: (raised(lambda: side.cls("key")) or object).__name__, "TypeError"),
    "no key": (missing_key, ("ValidationError", True)),
    "a failure is a RuntimeError": (is_caught_as_before, True),
    "default top_n": (lambda side: side.make().top_n, 3),
    "default user agent": (lambda side: side.make().user_agent, "langchain"),
}

DIFFERENT: dict[str, tuple[Look, Any, Any]] = {
    "default model": (lambda side: side.make().model, "jina-reranker-v1-base-en", "jina-reranker-v3.5"),
    "Document.id": (lambda side: [document.id for document in compressed(side)], [None] * 3, ["3", "2", "1"]),
    "subclasses": (lambda side: type(compressed(side)[1]).__name__, "Document", "Article"),
    "metadata that cannot be copied": (
        lambda side: (raised(lambda: compressed(side, lock=threading.Lock())) or type(None)).__name__,
        "TypeError",
        "NoneType",
    ),
    "the key in repr": (lambda side: "jina_secret" in repr(side.make()), True, False),
    "the key in model_dump": (lambda side: "jina_secret" in str(side.make().model_dump()), True, False),
    "top_n=None": (lambda side: top_n_sent(side, top_n=None), None, 3),
    "an HTML page": (lambda side: failure(side, send(http(b"<html>", 502))), "JSONDecodeError", "ServerError"),
    "an error without detail": (
        lambda side: failure(side, send(http(b'{"error": {"message": "bad"}}', 400))),
        "KeyError",
        "BadRequestError",
    ),
    "an invalid response": (
        lambda side: failure(side, send(http(b'{"results": [{"index": 9, "relevance_score": 1}]}'))),
        None,
        "ResponseFormatError",
    ),
    "attempts in an outage": (attempts_at_an_outage, 1, 3),
    "runs in the traces": (runs_traced, [], ["JinaRerank"]),
    "async in a thread": (async_uses_a_thread, True, False),
}


@pytest.mark.parametrize(("look", "expected"), SAME.values(), ids=SAME)
def test_correct_behavior_is_kept(sides: tuple[Side, Side], look: Look, expected: Any) -> None:
    assert [look(side) for side in sides] == [expected, expected]


@pytest.mark.parametrize(("look", "before", "after"), DIFFERENT.values(), ids=DIFFERENT)
def test_incorrect_behavior_is_changed(sides: tuple[Side, Side], look: Look, before: Any, after: Any) -> None:
    assert [look(side) for side in sides] == [before, after]


def test_docs_name_every_difference() -> None:
    page = (Path(__file__).parents[1] / "docs" / "langchain.md").read_text(encoding="utf-8")
    assert [name for name in DIFFERENT if f"| {name} |" not in page] == []
