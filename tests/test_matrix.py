"""Run each case of the fault matrix on each event loop and transport."""

import ast
import logging
import re
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jina_rerank import APIStatusError, RerankError, RerankResponse

from .matrix import ROWS, Case
from .matrix.case import QUICK, TEXTS, server_tls, trust
from .matrix.page import PAGE, with_matrix
from .servers import HangUpError, RawServer, answer_body, http, send
from .ways import WAYS, Way, comes_to, descriptors

KEY = "jina_canary0123456789"
GOOD = http(answer_body(2))

TESTS = Path(__file__).parent


class Meeting(NamedTuple):
    """How a call met its fault, and how the next one went."""

    outcome: RerankResponse[Any] | RerankError
    seconds: float
    after: RerankResponse[Any]
    client: str
    """What the client says it is."""
    is_large: bool
    """Whether the documents are too large to print with the local variables of each frame."""


async def meet(case: Case, way: Way, server: RawServer) -> Meeting:
    """A call that meets the fault, and one that comes when it is over, with one client."""
    options = {"retry": QUICK, "timeout": 5.0, "deadline": 20.0, **case.options}
    client = way.client(KEY, base_url=case.url.format(port=server.port), **options)
    documents = case.documents()
    for _ in range(case.warm):
        assert (await client.rerank("q", TEXTS)).attempts == 1
    start = time.monotonic()
    outcome: RerankResponse[Any] | RerankError
    try:
        outcome = await client.rerank("q", documents)
    except RerankError as error:
        outcome = error
    seconds = time.monotonic() - start
    sent = 0 if case.unseen else outcome.attempts or 0
    comes_to(lambda: sent - (server.seen - case.warm), 0)  # a busy server may be late to look
    server.heal(server_tls() if case.url.startswith("https:") else None)
    # Over the same connections, with time enough for a busy machine.
    after = await client.with_options(timeout=20.0, deadline=20.0).rerank("q", TEXTS)
    await client.aclose()
    return Meeting(outcome, seconds, after, repr(client), sum(map(len, documents)) > 10**6)


CASES = [
    pytest.param(case, way, id=f"{row.number}-{case.name}-{way}")
    for row in ROWS
    for case in row.cases
    for way in case.ways
]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Open what each event loop keeps permanently, such as a pipe, before anything is counted."""

    async def nothing() -> None: ...

    for way in WAYS:
        way.run(nothing)
    trust()


@pytest.mark.parametrize(("case", "way"), CASES)
def test_fault_ends_as_documented(case: Case, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    before = descriptors()
    with caplog.at_level(logging.DEBUG), case.server(*case.plays) as server:
        meeting = way.run(lambda: meet(case, way, server))
        assert server.is_deserted()
    assert_outcome(case, meeting)
    assert (meeting.after.documents, meeting.after.attempts) == (["b", "a"], 1)
    assert server.seen == case.warm + (0 if case.unseen else meeting.outcome.attempts or 0) + 1
    assert comes_to(descriptors, before), "descriptors are left"
    assert_no_secret(meeting, caplog)


def assert_outcome(case: Case, meeting: Meeting) -> None:
    """The promised class, message, attempts and time."""
    outcome = meeting.outcome
    if isinstance(outcome, RerankError):
        assert case.error is not None, outcome
        assert isinstance(outcome, case.error), outcome
        assert type(outcome) is case.error or isinstance(case.error, tuple) or case.error is APIStatusError
        assert re.search(case.says, outcome.message)
    else:
        assert case.error is None
        assert [result.index for result in outcome.results] == [1, 0]
    allowed = case.attempts if isinstance(case.attempts, tuple) else (case.attempts,)
    assert outcome.attempts in allowed
    assert meeting.seconds < case.within


def assert_no_secret(meeting: Meeting, caplog: pytest.LogCaptureFixture) -> None:
    """Assert that no log, message or traceback has the key, and that no HTTP library error is chained."""
    shown = [repr(meeting.outcome), str(meeting.outcome), meeting.client, caplog.text]
    shown += [repr(vars(record)) for record in caplog.records]
    error: BaseException | None = meeting.outcome if isinstance(meeting.outcome, RerankError) else None
    while error is not None:
        assert type(error).__module__.partition(".")[0] in ("jina_rerank", "builtins", "zlib")
        shown += traceback.TracebackException.from_exception(error, capture_locals=not meeting.is_large).format()
        error = error.__context__
    assert [text for text in shown if KEY in text] == []


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("gap", [0.0, 0.001, 0.01])
def test_server_that_closes_idle_connections_fails_no_call(way: Way, gap: float) -> None:
    def play(connection: Any) -> None:
        connection.sendall(GOOD)
        connection.settimeout(gap or 1e-6)
        with suppress(TimeoutError):
            connection.recv(1)
        raise HangUpError

    async def call() -> list[RerankResponse[Any]]:
        client = way.client(KEY, base_url=server.url, retry=QUICK)
        responses = [await client.rerank("q", TEXTS) for _ in range(200)]
        await client.aclose()
        return responses

    with RawServer(play) as server:
        responses = way.run(call)
    assert [response.documents for response in responses] == [["b", "a"]] * 200
    # A request sent on a connection that closes at that moment may be lost unread.
    assert 200 <= len(server.requests) <= sum(response.attempts for response in responses)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_server_is_not_followed(status: int, way: Way) -> None:
    with RawServer(send(GOOD)) as other, RawServer(send(http(b"", status, location=other.url))) as server:

        async def call() -> None:
            client = way.client(KEY, base_url=server.url)
            with pytest.raises(APIStatusError, match=r"redirects to 127\.0\.0\.1"):
                await client.rerank("q", TEXTS)
            await client.aclose()

        way.run(call)
        assert (len(server.requests), other.connections) == (1, 0)


def test_matrix_has_every_row_once_with_test_or_reason() -> None:
    assert [row.number for row in ROWS] == list(range(1, 51))
    assert [row.number for row in ROWS if not (row.cases or row.tests or row.missing)] == [44]
    for row in ROWS:
        for test in row.tests:
            file, name = test.split("::")
            functions = ast.walk(ast.parse((TESTS / file).read_text()))
            names = [node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            assert name in names, f"row {row.number} names {test}"


def test_page_matches_matrix() -> None:
    page = PAGE.read_text()
    assert page == with_matrix(page), "run: python -m tests.matrix.page"
