"""The errors: one tree, plain data, and no secret in any of them."""

import copy
import logging
import multiprocessing
import pickle
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import jina_rerank
from jina_rerank import (
    AuthenticationError,
    ImageDocument,
    RateLimit,
    RateLimitError,
    RerankClient,
    RerankError,
    RerankOutcome,
    RerankRequest,
    RerankResponse,
    RerankResult,
    RetryPolicy,
    SyncRerankClient,
    TextDocument,
    Usage,
)

from .servers import RawServer, answer_body, http, send, send_and_close

CLASSES = [value for value in vars(jina_rerank).values() if isinstance(value, type) and issubclass(value, RerankError)]
DATA: dict[str, Any] = {
    "status": 422,
    "code": "A_CODE",
    "request_id": "abc",
    "errors": ({"field": "f", "message": "m", "type": "t"},),
    "retry_after": 1.5,
    "attempts": 3,
    "url": "https://example.com/v1/rerank",
}


def test_error_hierarchy() -> None:
    assert len(CLASSES) == 18
    assert all(issubclass(cls, RuntimeError) for cls in CLASSES)
    assert {cls.__name__ for cls in CLASSES if issubclass(cls, ValueError)} == {
        "ConfigurationError",
        "InvalidRequestError",
    }
    assert {cls.__name__ for cls in CLASSES if issubclass(cls, TimeoutError)} == {
        "APITimeoutError",
        "DeadlineExceededError",
    }


@pytest.mark.smoke
@pytest.mark.parametrize("cls", CLASSES)
def test_errors_survive_pickle_copy_and_print(cls: type[RerankError]) -> None:
    error = cls("it failed", **DATA)
    error.add_note("a note")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is cls
        assert (str(twin), repr(twin), twin.__dict__) == (str(error), repr(error), error.__dict__)
    assert str(error) == (
        "HTTP 422: it failed (code=A_CODE, request_id=abc, retry_after=1.5, attempts=3, "
        "url=https://example.com/v1/rerank)"
    )
    bare = cls("it failed")
    assert str(bare) == "it failed"
    assert {getattr(bare, name) for name in DATA} == {None}


def fail(url: str) -> None:
    with SyncRerankClient(base_url=url, retry=RetryPolicy(max_attempts=1)) as client:
        client.rerank("q", ["a"])


def succeed(url: str) -> RerankResponse[str]:
    with SyncRerankClient(base_url=url) as client:
        return client.rerank("q", ["a", "b"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_errors_and_results_cross_a_process_pool(raw_server: RawServer, method: str) -> None:
    good = send(http(answer_body(2)))
    raw_server.plays = [good, send(http(b'{"detail": "no", "request_id": "abc"}', 401)), good]
    assert succeed(raw_server.url).documents == ["b", "a"]  # the background loop is there before the processes are
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        with pytest.raises(AuthenticationError) as caught:
            pool.submit(fail, raw_server.url).result(30)
        assert (caught.value.status, caught.value.request_id, caught.value.attempts) == (401, "abc", 1)
        assert pool.submit(succeed, raw_server.url).result(30).documents == ["b", "a"]


def send_back(thing: Any) -> Any:
    return thing


def raise_it(error: RerankError) -> None:
    raise error


def everything() -> list[Any]:
    """One of each type that a user may hold in hand, apart from errors."""
    request = RerankRequest(query="q", documents=[TextDocument(text="a"), ImageDocument(image="https://x/y.png")])
    result = RerankResult(0, 0.5, "a document", (0.5, -1.0))
    usage = Usage(total_tokens=3)
    cause = RateLimitError("it failed", **DATA)
    response = RerankResponse(
        results=(result,), model="m", usage=usage, attempts=1, calls=1, degraded=True, cause=cause
    )
    outcomes = [
        RerankOutcome(index=0, request=request, response=response),
        RerankOutcome(index=0, request=request, error=cause),
    ]
    totals = RerankClient(KEY).totals
    return [request, result, usage, response, *outcomes, totals, RetryPolicy(quota=None), RateLimit.FREE]


def test_every_error_and_every_result_crosses_a_process_pool() -> None:
    errors = [cls("it failed", **DATA) for cls in CLASSES]
    things = everything()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        raised = [pool.submit(raise_it, error).exception(30) for error in errors]
        assert list(map(repr, pool.map(send_back, things, timeout=30))) == list(map(repr, things))
    assert [type(error) for error in raised] == CLASSES
    assert [(str(error), vars(error)) for error in raised if error] == [(str(error), vars(error)) for error in errors]


def test_responses_pickle() -> None:
    result = RerankResult(0, 0.5, "a document")
    response = RerankResponse(results=(result,), model="m", usage=Usage(total_tokens=3), attempts=1, calls=1)
    assert pickle.loads(pickle.dumps(response)) == response
    assert copy.deepcopy(response).documents == ["a document"]


KEY = "jina_canary0123456789"
PACKAGE = Path(jina_rerank.__file__).parent


@pytest.mark.anyio
@pytest.mark.parametrize(
    "play",
    [
        send(http(f'{{"detail": "bad key {KEY}"}}'.encode(), 401)),
        send(http(b"", 503)),
        send(http(b"<html>", 200)),
        send_and_close(),
        send_and_close(b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n"),
        send_and_close(b"x" * 50_000 + b"\r\n\r\n"),
    ],
)
async def test_key_appears_nowhere(raw_server: RawServer, play: Any, caplog: pytest.LogCaptureFixture) -> None:
    raw_server.plays = [play]
    document = "a document nobody else should read"
    client = RerankClient(SecretStr(KEY), base_url=raw_server.url, retry=RetryPolicy(base_delay=0.001))
    with caplog.at_level(logging.DEBUG), pytest.raises(RerankError) as caught:
        await client.rerank("q", [document])
    await client.aclose()
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in frames.stack if Path(frame.filename).is_relative_to(PACKAGE)]
    assert [frame.name for frame in ours] == ["rerank"]  # it ends there
    shown = [str(caught.value), repr(caught.value), repr(client), caplog.text, repr(pickle.dumps(caught.value))]
    shown += [value for frame in ours for value in (frame.locals or {}).values()]
    assert [text for text in shown if KEY in text] == []
    assert document not in caplog.text
    assert len(str(caught.value)) < 1_000
    assert KEY.encode() in b"".join(value.encode() for value in raw_server.requests[0][0].values())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("client", [RerankClient, SyncRerankClient])
def test_client_is_not_pickled(client: type[Any]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client(KEY))
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(client(KEY))


@pytest.mark.anyio
async def test_key_that_comes_back_in_broken_http_is_not_quoted(raw_server: RawServer) -> None:
    raw_server.plays = [send_and_close(b"HTTP/1.1 200 OK\r\nyou sent Bearer %s\r\n\r\n" % KEY.encode())]
    async with RerankClient(KEY, base_url=raw_server.url, retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(RerankError, match="not valid HTTP: illegal header line") as caught:
            await client.rerank("q", ["a"])
    assert KEY not in str(caught.value)
