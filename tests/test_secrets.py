"""A canary for a key and one for a document: no channel shows the first, and no log the second."""

import asyncio
import copy
import io
import json
import logging
import pickle
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import anyio
import anyio.to_thread
import pytest

from jina_rerank import (
    ConfigurationError,
    RateLimit,
    RerankClient,
    RerankError,
    RerankRequest,
    RetryPolicy,
    SyncRerankClient,
)
from jina_rerank.langchain import JinaRerank

from .matrix.case import QUICK, server_tls, trust
from .servers import HangUpError, Play, RawServer, answer_body, http, reset, send, send_and_close, silence
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


def values_in(error: BaseException) -> Iterator[str]:
    """All that a report with local variables may show: of each frame of an error, and of all that it comes of."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            left += [other for other in (each.__cause__, each.__context__, *getattr(each, "exceptions", ())) if other]
            yield repr(each)
            for frame, _ in traceback.walk_tb(each.__traceback__):
                if frame.f_globals["__name__"] != __name__:
                    for value in frame.f_locals.values():
                        yield from reprs(value, depth=2)


def reprs(value: Any, depth: int) -> Iterator[str]:
    """The repr of a value, and of what is in it where that does not show."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        value = bytes(value[:10_000]) if isinstance(value, memoryview) else value[:10_000]  # headers are at the front
    yield repr(value)
    inner: list[Any] = []
    if isinstance(value, list | tuple | set | deque):
        inner = list(value)
    elif isinstance(value, dict):
        inner = [*value, *value.values()]
    elif " object at 0x" in repr(value):
        names = [*getattr(value, "__dict__", ()), *(name for cls in type(value).__mro__ for name in slots_of(cls))]
        inner = [getattr(value, name, None) for name in names]
    for each in inner if depth else ():
        yield from reprs(each, depth - 1)


def slots_of(cls: type) -> Sequence[str]:
    slots = getattr(cls, "__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


Call = Callable[[], Coroutine[Any, Any, None]]
Stops = list[Callable[[], object]]
"""What cancels the calls that are in flight."""


async def under_a_timeout(call: Call, stops: Stops) -> None:
    async with asyncio.timeout(None) as limit:
        stops.append(lambda: limit.reschedule(0))
        await call()


async def in_a_task_that_is_cancelled(call: Call, stops: Stops) -> None:
    task = asyncio.create_task(call())
    stops.append(task.cancel)
    await task


async def in_a_scope(call: Call, stops: Stops) -> None:
    with anyio.CancelScope() as scope:
        stops.append(scope.cancel)
        await call()


async def interrupted(way: Way, arrived: threading.Semaphore, text: str, **options: Any) -> list[BaseException]:
    """The errors of calls that were cancelled when their requests had begun to arrive."""
    client = RerankClient(KEY, transport=way.transport, verify=trust(), **options)
    wrappers = [in_a_scope, *([] if way.loop == "trio" else [under_a_timeout, in_a_task_that_is_cancelled])]
    errors: list[BaseException] = []
    stops: Stops = []

    async def call() -> None:
        try:
            await client.rerank("q", [text])
        except BaseException as error:
            errors.append(error)
            raise

    async def wrapped(wrapper: Callable[[Call, Stops], Coroutine[Any, Any, None]]) -> None:
        try:
            await wrapper(call, stops)
        except (TimeoutError, asyncio.CancelledError) as error:
            errors.append(error)

    async with client, anyio.create_task_group() as tasks:
        for wrapper in wrappers:
            tasks.start_soon(wrapped, wrapper)
        for _ in wrappers:
            await anyio.to_thread.run_sync(arrived.acquire)
        for stop in stops:
            stop()
    assert len(errors) >= len(wrappers)
    return errors


@pytest.mark.parametrize("way", [Way("asyncio", "httpx"), Way("trio", "httpx"), Way("uvloop", "aiohttp")], ids=str)
@pytest.mark.parametrize("size", [1, 5_000_000], ids=["small", "large"])
@pytest.mark.parametrize("place", ["http", "https", "proxy"])
def test_cancellation_in_flight_has_no_key_in_its_tracebacks(way: Way, size: int, place: str) -> None:
    arrived, over = threading.Semaphore(0), threading.Event()

    def hold(connection: socket.socket) -> None:
        connection.recv(100)
        arrived.release()
        over.wait(20)
        raise HangUpError

    with RawServer(greeting=hold, tls=server_tls() if place == "https" else None) as server:
        url = server.url.replace("http:", "https:") if place == "https" else server.url
        options: dict[str, Any] = {"base_url": url}
        if place == "proxy":
            options = {"base_url": "http://rerank.example", "proxy": url, "allow_insecure": True}
        errors = way.run(lambda: interrupted(way, arrived, "b" * size, **options))
        over.set()
    shown = [text for error in errors for text in values_in(error)]
    assert len(shown) > len(errors)
    assert [text for text in shown if KEY in text] == []
