"""A canary for a key and one for a document: no channel shows the first, and no log the second."""

import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from jina_rerank import ConfigurationError, RateLimit, RerankError, RerankRequest, RetryPolicy, SyncRerankClient
from jina_rerank.langchain import JinaRerank

from .matrix.case import QUICK, server_tls, trust
from .servers import Play, RawServer, answer_body, http, reset, send, send_and_close, silence
from .ways import WAYS, Way

KEY = "jina_canary0123456789"
TEXT = "a document nobody else should read"
LOGGERS = ("httpx", "httpcore", "h11", "anyio", "asyncio", "aiohttp", "langchain", "jina_rerank", "tenacity")

PLAYS: dict[str, Play] = {
    "success": send(http(answer_body(2))),
    "a refusal that quotes key and document": send(http(json.dumps({"detail": f"{KEY} {TEXT}"}).encode(), 401)),
    "a redirect with the key": send(http(b"", 302, location=f"https://{KEY}@elsewhere.example/?key={KEY}")),
    "a header with the key": send(http(b"", 503, x_seen=f"Bearer {KEY}", retry_after=KEY)),
    "a page": send(http(b"<html>", 200)),
    "a broken header with the key": send_and_close(b"HTTP/1.1 200 OK\r\nyou sent Bearer %s\r\n\r\n" % KEY.encode()),
    "a status line of the key": send_and_close(KEY.encode() + b" 200 OK\r\n\r\n"),
    "JSON that quotes the key": send(http(json.dumps({"results": KEY}).encode())),
    "JSON cut after the key": send(http(b'{"results": "' + KEY.encode())),
    "a reset": reset,
    "silence": silence,
}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that anybody logs, at any level, with all that each record carries."""
    lines = io.StringIO()

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.write(f"{self.format(record)} {vars(record)}\n")

    handler = Everything()
    loggers = [logging.getLogger(name) for name in (None, *LOGGERS)]
    levels = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield lines
    logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def prints(thing: Any) -> Iterator[str]:
    """A thing in all ways in which it may end up somewhere."""
    yield from (repr(thing), str(thing), f"{thing}", repr(getattr(thing, "__dict__", "")))
    for twin in (copy.copy, copy.deepcopy, pickle.dumps):
        try:
            yield repr(twin(thing))
        except TypeError as error:  # a client, which refuses
            yield str(error)
    if isinstance(thing, BaseException):
        yield from traceback.TracebackException.from_exception(thing, capture_locals=True).format()
    if hasattr(thing, "to_dict"):
        yield json.dumps(thing.to_dict())


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS)
def test_a_canary_shows_in_no_channel(play: Play, way: Way, secure: bool, log: io.StringIO) -> None:
    tls = server_tls() if secure else None
    shown: list[str] = []

    async def call() -> None:
        url = server.url.replace("http:", "https:") if secure else server.url
        client = way.client(KEY, base_url=url, retry=QUICK, timeout=0.5, verify=trust())
        try:
            outcome: Any = await client.rerank("q", [TEXT, "b"])
        except RerankError as error:
            outcome = error
        inner: Any = getattr(client, "client", client)  # the facade's own
        shown.extend(prints(outcome))
        shown.extend(prints(inner))
        shown.extend(prints(inner.with_options(timeout=1.0)))
        await client.aclose()

    with RawServer(play, tls=tls) as server:
        way.run(call)
    assert {headers["authorization"] for headers, _ in server.requests} == {f"Bearer {KEY}"}
    assert [text for text in shown if KEY in text] == []
    assert log.getvalue() or way.transport == "aiohttp"  # which logs nothing
    assert KEY not in _without_what_the_server_said(log.getvalue())
    assert TEXT not in log.getvalue()


def _without_what_the_server_said(log: str) -> str:
    # httpcore logs, at DEBUG, the headers that a server answers with. They are the server's words.
    return "\n".join(line for line in log.splitlines() if "receive_response_headers" not in line)


BAD_KEYS = ["{}\n", "{}\r\nx-other: 1", "{}\0", "{}é", "{} {}", " ", "", "{}\u200b", "{}\ud800", "\x7f{}"]


@pytest.mark.parametrize("way", [way for way in WAYS if way.loop in ("asyncio", "sync")], ids=str)
@pytest.mark.parametrize("form", BAD_KEYS)
def test_a_bad_key_is_refused_and_not_quoted(
    form: str, way: Way, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    bad = form.replace("{}", KEY)
    if bad.strip() == KEY:
        pytest.skip("white space around a key is dropped")
    with pytest.raises(ConfigurationError) as caught:
        way.client(bad, base_url=raw_server.url)
    errors = [caught.value]
    if "\0" not in bad and "\ud800" not in bad and bad.strip():  # the environment holds no such thing
        monkeypatch.setenv("JINA_API_KEY", bad)
        with pytest.raises(ConfigurationError) as caught:
            way.client()
        errors.append(caught.value)
    for error in errors:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        ours = [f"{frame.locals}" for frame in frames if frame.filename != __file__ and "tests" not in frame.filename]
        assert [text for text in (str(error), repr(error), *ours) if KEY in text] == []
    assert KEY not in log.getvalue()
    assert raw_server.connections == 0


def test_langchain_logs_neither_key_nor_document(raw_server: RawServer, log: io.StringIO) -> None:
    from langchain_core.documents import Document  # noqa: PLC0415  # of an extra

    raw_server.plays = [send(http(b"", 503)), send(http(answer_body(2)))]
    compressor = JinaRerank(api_key=KEY, base_url=raw_server.url, retry=RetryPolicy(base_delay=0.001))
    ranked = compressor.compress_documents([Document(TEXT), Document("b")], "q")
    assert [document.page_content for document in ranked] == ["b", TEXT]
    assert KEY not in log.getvalue()
    assert TEXT not in log.getvalue()


QUOTES = http(json.dumps({"detail": f"{KEY} {TEXT}"}).encode(), 503)

MECHANISMS: dict[str, dict[str, Any]] = {
    "parts": {"max_documents": 2, "scoring": "pointwise"},
    "rounds": {"max_documents": 4, "scoring": "listwise"},
    "a hedge": {"hedge_after": 0.001},
    "a fallback": {"fallback": "original_order"},
    "limits": {"rate_limit": RateLimit(requests_per_minute=1000), "max_concurrency": 2},
}


@pytest.mark.parametrize("options", MECHANISMS.values(), ids=MECHANISMS)
def test_no_mechanism_logs_a_key_or_a_document(
    options: dict[str, Any], raw_server: RawServer, log: io.StringIO
) -> None:
    raw_server.plays = [send(QUOTES)]
    requests = [RerankRequest(query=TEXT, documents=[f"{TEXT} {i}" for i in range(9)], top_n=2)] * 3
    with SyncRerankClient(KEY, base_url=raw_server.url, retry=QUICK, **options) as client:
        outcomes = list(client.rerank_many(requests))
        shown = [text for outcome in outcomes for text in prints(outcome.error or outcome.response)]
        shown += [*prints(client), *prints(client.totals)]
    assert [text for text in shown if KEY in text] == []
    assert len(raw_server.requests) >= 3
    assert KEY not in log.getvalue()
    assert TEXT not in log.getvalue()


def test_langchain_shows_no_key_when_it_fails(raw_server: RawServer, log: io.StringIO) -> None:
    from langchain_core.documents import Document  # noqa: PLC0415  # of an extra
    from langchain_core.load import dumps  # noqa: PLC0415

    raw_server.plays = [send(QUOTES)]
    compressor = JinaRerank(api_key=KEY, base_url=raw_server.url, retry=QUICK)
    with pytest.raises(RerankError) as caught:
        compressor.compress_documents([Document(TEXT), Document("b")], "q")
    shown = [*prints(caught.value), *prints(compressor), dumps(compressor), compressor.model_dump_json()]
    assert [text for text in shown if KEY in text] == []
    assert KEY not in log.getvalue()
    assert TEXT not in log.getvalue()


def test_a_request_by_hand_hides_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="top_n") as caught:
        RerankRequest(query="q", documents=[TEXT], top_n=0)
    assert TEXT not in str(caught.value)
