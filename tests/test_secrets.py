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
from base64 import b64encode, urlsafe_b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpx
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
TESTS = Path(__file__).parent
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
    """Return everything logged by any logger at any level, with all attributes of each record."""
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
def test_canary_key_appears_in_no_channel(play: Play, way: Way, secure: bool, log: io.StringIO) -> None:
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


ODD = "sk-CANARY/0123+4567&89ab<cdef%41GHIJ"
"""A key of a gateway, with all that is escaped somewhere."""
HALVES = ODD[:18], ODD[18:]


def percent(text: str) -> str:
    return quote(text, safe="")


ECHOES: dict[str, str] = {
    "raw": ODD,
    "glued to other letters": f"x{ODD}x",
    "twice": ODD + ODD,
    "in upper case": ODD.upper(),
    "cut short": ODD[:-4],
    "escaped for JSON": json.dumps(ODD).replace("/", "\\/").strip('"'),
    "escaped by code points": "".join(f"\\u{ord(letter):04x}" for letter in ODD),
    "escaped for a shell": "".join(f"\\x{ord(letter):02x}" for letter in ODD),
    "escaped for HTML": escape(ODD),
    "escaped for HTML by numbers": "".join(f"&#{ord(letter)};" for letter in ODD),
    "percent-encoded": percent(f"Bearer {ODD}"),
    "percent-encoded in lower case": "".join(f"%{ord(letter):02x}" for letter in ODD),
    "percent-encoded twice": percent(percent(ODD)),
    "percent-encoded and escaped": escape(percent(f"<{ODD}>")),
    "in base64": b64encode(f"Bearer {ODD}".encode()).decode(),
    "in base64 for URLs": urlsafe_b64encode(f"a:{ODD}".encode()).decode(),
    "in base64, one byte further": b64encode(f"Bearer  {ODD} ".encode()).decode(),
}
# What a server says, and how a client comes to show it. `one` and `two` are the echo, or the halves of the key.
PLACES: dict[str, Callable[[str, str], httpx.Response]] = {
    "flat": lambda one, two: httpx.Response(401, json={"detail": one, "code": two, "request_id": one}),
    "nested": lambda one, two: httpx.Response(500, json={"detail": {"message": one, "request_id": two, "code": one}}),
    "OpenAI": lambda one, two: httpx.Response(400, json={"error": {"message": one, "type": two, "code": one}}),
    "Cohere": lambda one, two: httpx.Response(429, json={"message": one, "id": two}),
    "a bare string": lambda one, two: httpx.Response(422, json=f"{one} {two}"),
    "LiteLLM": lambda one, two: httpx.Response(
        400, json={"error": {"message": json.dumps({"detail": one, "code": two})}}
    ),
    "fields": lambda one, two: httpx.Response(
        422, json={"detail": "x", "errors": [{"field": one, "message": two, "type": one}, {"field": two}]}
    ),
    "FastAPI": lambda one, two: httpx.Response(422, json={"detail": [{"loc": [one, two], "msg": two, "type": one}]}),
    "slashes escaped": lambda one, two: httpx.Response(
        401, text=json.dumps({"detail": one, "code": two}).replace("/", "\\/").replace("&", "\\u0026")
    ),
    "a title": lambda one, two: httpx.Response(502, text=f"<html><title>{escape(one)} {escape(two)}</title>"),
    "a title as it is": lambda one, two: httpx.Response(502, text=f"<html><title>{one} {two}</title>"),
    "at the end of what is shown": lambda one, two: httpx.Response(401, json={"detail": "x" * 480 + f"{one} {two}"}),
    "x-request-id": lambda one, two: httpx.Response(500, headers={"x-request-id": one, "x-seen": two}),
    "location": lambda one, two: httpx.Response(302, headers={"location": f"https://{one}/{two}"}),
    "a compression": lambda one, two: httpx.Response(200, headers={"content-encoding": one}, stream=Nothing()),
    "a success": lambda one, two: httpx.Response(
        200,
        headers={"x-seen": one, "x-request-id": two},
        json={
            "results": [{"index": 0, "relevance_score": 1.0, "document": one}],
            "model": one,
            "usage": {"total_tokens": 1, one: two},
            "meta": [{one: [one, two]}, two],
        },
    ),
}


class Nothing(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""


def outcome_of(key: str, answer: Callable[[], httpx.Response], **options: Any) -> Any:
    """What a call comes to, and what is logged of it."""

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer()))

    with SyncRerankClient(
        key, base_url="https://gateway.example", retry=RetryPolicy(max_attempts=1), http_client=make, **options
    ) as client:
        try:
            return client.rerank("q", ["a"])
        except RerankError as error:
            return error.with_traceback(None)  # the frames of this test hold the key


def shown_of(outcome: Any, log: io.StringIO) -> list[str]:
    return [*prints(outcome), outcome._repr_html_(), log.getvalue()]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_echo_of_the_key_is_masked_wherever_and_however_a_server_quotes_it(place: Any, log: io.StringIO) -> None:
    for name, echo in ECHOES.items():
        log.truncate(0)
        shown = shown_of(outcome_of(ODD, lambda echo=echo: place(echo, echo)), log)  # type: ignore[misc]  # bound early
        forms = {ODD, echo, ODD[:17], ODD[-17:], escape(echo), repr(echo)[1:-1], json.dumps(echo)[1:-1]}
        assert [text for text in shown for form in forms if form.lower() in text.lower()] == [], name


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_key_that_is_split_across_fields_is_masked(place: Any, log: io.StringIO) -> None:
    shown = shown_of(outcome_of(ODD, lambda: place(*HALVES)), log)
    assert [text for text in shown for half in HALVES if half in text or escape(half) in text] == []


def test_other_headers_with_secrets_are_masked_too() -> None:
    secrets = {"Authorization": "Token 0123456789abcdefgh", "X-Api-Key": "abcdefgh0123456789"}
    http_client = httpx.MockTransport(lambda request: httpx.Response(400, json={"detail": str(dict(request.headers))}))
    with (
        SyncRerankClient(
            base_url="https://gateway.example",
            headers={**secrets, "X-Team": "search-and-find"},
            http_client=lambda: httpx.AsyncClient(transport=http_client),
        ) as client,
        pytest.raises(RerankError, match="search-and-find") as caught,
    ):
        client.rerank("q", ["a"])
    assert "'authorization': 'Token [key]', 'x-api-key': '[key]'" in caught.value.message


@pytest.mark.parametrize("key", ["x", "EMPTY", "none", "test", "key", "token", "not-needed"])
def test_short_key_is_not_masked(key: str) -> None:
    said = "The model `test-model` does not exist; none of the tokens in the key matched 100%25 &amp; \\x. EMPTY"
    error = outcome_of(key, lambda: httpx.Response(400, json={"detail": said}))
    assert error.message == said
    assert outcome_of(ODD, lambda: httpx.Response(400, json={"detail": said})).message == said


BAD_KEYS = ["{}\n", "{}\r\nx-other: 1", "{}\0", "{}é", "{} {}", " ", "", "{}\u200b", "{}\ud800", "\x7f{}"]


@pytest.mark.parametrize("way", [way for way in WAYS if way.loop in ("asyncio", "sync")], ids=str)
@pytest.mark.parametrize("form", BAD_KEYS)
def test_bad_key_is_refused_and_not_quoted(
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
        ours = [f"{frame.locals}" for frame in frames if not Path(frame.filename).is_relative_to(TESTS)]
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


def test_invalid_request_object_hides_its_values() -> None:
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
