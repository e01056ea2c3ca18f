"""rerank_many, blocking: whose thread reads, and every way to end it; and whole processes that leave streams open."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from jina_rerank import (
    ClientClosedError,
    InvalidRequestError,
    RerankError,
    RerankOutcome,
    RerankRequest,
    SyncRerankClient,
    SyncRerankStream,
    UnprocessableEntityError,
)
from jina_rerank.bulk import BatchProgress

from .processes import HEAD, LONGEST_SECONDS, run, start, wait_for_requests
from .servers import RawServer, answer_body, http, send, silence
from .test_bulk import INVALID, Job, Source, job, jobs
from .test_processes import GOOD


@pytest.fixture
def client(raw_server: RawServer) -> Iterator[SyncRerankClient]:
    def play(connection: Any) -> None:
        slow = b"slow" in raw_server.requests_of[connection][1]
        (silence if slow else send(http(answer_body(2))))(connection)

    raw_server.plays = [play]
    with SyncRerankClient(base_url=raw_server.url) as client:
        yield client


def up_to_the_error(stream: SyncRerankStream[Job]) -> tuple[list[RerankOutcome[Job]], Exception]:
    """The outcomes that come before the stream raises, and what it raises."""
    outcomes: list[RerankOutcome[Job]] = []
    while True:
        try:
            outcomes.append(next(stream))
        except (RerankError, LookupError, StopIteration) as error:
            return outcomes, error


@pytest.mark.parametrize(("invalid", "message"), INVALID.values(), ids=INVALID)
def test_invalid_request_has_its_error_in_its_outcome(invalid: Any, message: str) -> None:
    requests: list[Any] = [{"query": "q", "documents": ["a"]}, invalid, {"query": "q", "documents": [("b",)]}]
    with SyncRerankClient("jina_key", http_client=hosted) as client:
        good, refused, last = client.rerank_many(requests)
        by_key = client.rerank_many(requests[2:], key=lambda document: str(document[0]))
        assert [outcome.unwrap().documents for outcome in by_key] == [[("b",)]]
    assert good.unwrap().documents == ["a"]
    assert isinstance(last.error, InvalidRequestError)
    assert refused.request == invalid
    with pytest.raises(InvalidRequestError, match=message):
        refused.unwrap()


def hosted() -> httpx.AsyncClient:
    """The hosted API, which has one answer: to one document."""
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=answer_body(1))))


@pytest.mark.parametrize("ordered", [True, False])
def test_every_request_has_its_outcome(client: SyncRerankClient, raw_server: RawServer, ordered: bool) -> None:
    requests = jobs(100)
    stream = client.rerank_many(requests, max_concurrency=8, ordered=ordered)
    outcomes = list(stream)
    assert all(outcome.request is requests[outcome.index] for outcome in outcomes)
    indices = [outcome.index for outcome in outcomes]
    assert (indices if ordered else sorted(indices)) == list(range(100))
    assert all(outcome.response is not None and outcome.response.documents == ["b", "a"] for outcome in outcomes)
    assert raw_server.connections <= 8
    assert stream.totals == client.totals
    assert (stream.totals.requests, stream.totals.tokens) == (100, 700)
    assert client.estimate_tokens(requests[0]) == 4


def test_requests_are_read_lazily_in_callers_thread(client: SyncRerankClient) -> None:
    threads = set()

    def make(number: int) -> Job:
        threads.add(threading.current_thread())
        return job(number, "slow" if number == 5 else "quick")

    source = Source(make)
    steps: list[int] = []

    def progress(_: object) -> None:
        threads.add(threading.current_thread())
        steps.append(source.read)

    stream = client.rerank_many(iter(source), max_concurrency=3, progress=progress)
    assert source.read == 0
    assert [next(stream).index for _ in range(5)] == list(range(5))
    assert threads == {threading.current_thread()}
    assert all(read <= taken + 12 for taken, read in enumerate(steps, start=1))
    stream.close()
    assert list(stream) == []


def test_break_leaves_no_worker_behind(client: SyncRerankClient, raw_server: RawServer) -> None:
    for outcome in client.rerank_many(job(i, "slow" if i else "quick") for i in itertools.count()):
        assert outcome.index == 0
        break
    assert raw_server.disconnected.wait(5)
    assert client.rerank("quick", ["a", "b"]).documents == ["b", "a"]


def test_kept_stream_resumes_after_break(client: SyncRerankClient) -> None:
    stream = client.rerank_many(jobs(10), max_concurrency=2)
    first = list(itertools.islice(stream, 4))
    assert [outcome.index for outcome in [*first, *stream]] == list(range(10))


@pytest.mark.parametrize("closing", ["stream", "client"])
def test_closing_stream_ends_iteration_in_another_thread(
    client: SyncRerankClient, raw_server: RawServer, closing: str
) -> None:
    stream = client.rerank_many((job(number, "slow") for number in itertools.count()), max_concurrency=3)
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(up_to_the_error, stream)
        wait_for_requests(raw_server, 3)
        (stream if closing == "stream" else client).close()
        outcomes, error = ended.result(5)
    if closing == "stream":
        assert (outcomes, type(error)) == ([], StopIteration)
    else:
        assert 3 <= len(outcomes) <= 12  # it may have read on, up to four times the concurrency
        assert [outcome.index for outcome in outcomes] == list(range(len(outcomes)))
        assert {type(outcome.error) for outcome in outcomes} == {ClientClosedError}
        assert type(error) is ClientClosedError


def test_closing_client_ends_iteration_in_another_thread(client: SyncRerankClient) -> None:
    def read() -> Iterator[Job]:
        yield job(0)
        client.close()
        yield job(1)

    outcomes, error = up_to_the_error(client.rerank_many(read(), max_concurrency=1))
    assert [outcome.index for outcome in outcomes] == [0, 1]
    assert (type(outcomes[1].error), type(error)) == (ClientClosedError, ClientClosedError)


def test_error_of_iterable_is_raised_after_outcomes_read(client: SyncRerankClient) -> None:
    def read() -> Iterator[Job]:
        yield from jobs(7)
        raise KeyError("line 7")

    stream = client.rerank_many(read())
    outcomes, error = up_to_the_error(stream)
    assert [outcome.index for outcome in outcomes] == list(range(7))
    assert repr(error) == "KeyError('line 7')"
    assert list(stream) == []


def test_failed_request_does_not_stop_others(client: SyncRerankClient, raw_server: RawServer) -> None:
    raw_server.plays = [GOOD, send(http(b"", 422)), GOOD]
    with client.rerank_many(jobs(3), max_concurrency=1) as stream:
        first, failed, last = stream
    assert (first.error, last.error) == (None, None)
    assert isinstance(failed.error, UnprocessableEntityError)
    assert client.totals.attempts == 3


def test_end_of_iteration_that_progress_raises_is_an_error(client: SyncRerankClient) -> None:
    def progress(_: BatchProgress) -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(client.rerank_many(jobs(3), progress=progress))


def test_async_iterable_is_refused_with_hint_at_async_client(client: SyncRerankClient) -> None:
    async def read() -> AsyncIterator[RerankRequest]:
        yield job(0)

    requests: Any = read()
    with pytest.raises(InvalidRequestError, match="RerankClient takes it"):
        client.rerank_many(requests)


ROOT = Path(__file__).parents[1]
# One at a time, and so over one connection: where the loop's end cancels anyio's connecting, Python may complain of a
# coroutine that was never awaited (seen with anyio 4.16).
MANY = (
    "requests = (RerankRequest(query='q', documents=['a', 'b']) for _ in iter(int, 1))\n"
    "def many(client): return client.rerank_many(requests, max_concurrency=1)\n"
)

OPEN_AT_THE_END = {
    "sync": "stream = many(SyncRerankClient(base_url=url))\nprint(next(stream).response.documents)",
    "asyncio": (
        "import asyncio\nclient = RerankClient(base_url=url)\nstream = many(client)\n"
        "async def main(): print((await anext(stream)).response.documents)\nasyncio.run(main())"
    ),
    "uvloop": (
        "import uvloop\nclient = RerankClient(base_url=url)\nstream = many(client)\n"
        "async def main(): print((await anext(stream)).response.documents)\nuvloop.run(main())"
    ),
    "trio": (
        "import trio\nclient = RerankClient(base_url=url)\nstream = many(client)\n"
        "async def main(): print((await anext(stream)).response.documents)\ntrio.run(main)"
    ),
    "asyncio, left by break": (
        "import asyncio\nclient = RerankClient(base_url=url)\n"
        "async def main():\n"
        "    async for outcome in many(client):\n        print(outcome.response.documents)\n"
        "        break\nasyncio.run(main())"
    ),
    "trio, left by break": (
        "import trio\nclient = RerankClient(base_url=url)\n"
        "async def main():\n"
        "    async for outcome in many(client):\n        print(outcome.response.documents)\n"
        "        break\ntrio.run(main)"
    ),
}


@pytest.mark.parametrize("code", OPEN_AT_THE_END.values(), ids=OPEN_AT_THE_END)
def test_open_stream_neither_delays_exit_nor_warns(raw_server: RawServer, code: str) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + MANY + code, raw_server.url) == ("['b', 'a']", "", 0)


@pytest.mark.parametrize("where", ["waiting", "reading"])
def test_ctrl_c_ends_the_stream_and_the_client_goes_on(raw_server: RawServer, where: str) -> None:
    raw_server.plays = [silence, silence, GOOD]
    code = (
        "import threading\nclient = SyncRerankClient(base_url=url)\n"
        "def read():\n"
        "    for number in range(2): yield RerankRequest(query='q', documents=['a', 'b'])\n"
        f"    if {where == 'reading'}: threading.Event().wait()\n"
        "stream = client.rerank_many(read())\n"
        "try: next(stream)\nexcept KeyboardInterrupt: print('interrupted', flush=True)\n"
        "sys.stdin.readline()\nprint(list(stream), client.rerank('q', ['a', 'b']).documents)"
    )
    with start(HEAD + code, raw_server.url) as process:
        wait_for_requests(raw_server, 2)
        assert not raw_server.disconnected.is_set()
        process.send_signal(signal.SIGINT)
        assert raw_server.disconnected.wait(5)
        out, err = process.communicate("\n", timeout=LONGEST_SECONDS)
    assert (out.split("\n")[:2], err, process.returncode) == (["interrupted", "[] ['b', 'a']"], "", 0)


FORK = """
import os
client = SyncRerankClient(base_url=url)
requests = (RerankRequest(query='q', documents=['a', 'b']) for _ in range(50))
stream = client.rerank_many(requests, max_concurrency=2)
seen = [next(stream).index for _ in range(10)]
pid = os.fork()
if pid == 0:
    try: next(stream)
    except ConfigurationError as error: print('refused' if 'process' in str(error) else error)
    stream.close()
    print(sum(1 for _ in client.rerank_many([RerankRequest(query='q', documents=['a', 'b'])] * 5)), flush=True)
    del stream
    os._exit(0)
os.waitpid(pid, 0)
print(seen + [outcome.index for outcome in stream] == list(range(50)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.usefixtures("no_coverage_in_programs")
def test_stream_stays_in_its_process(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    with start(HEAD + FORK, raw_server.url, "-W", "ignore:.*fork.*:DeprecationWarning") as process:
        out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert (out.split(), err) == (["refused", "5", "True"], "")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")
def test_thousands_of_requests_have_one_outcome_each_in_flat_memory() -> None:
    """10,000 with one fault in ten; `make soak-bulk` runs more of them, and draws the memory."""
    count = int(os.environ.get("BULK_SOAK", "10000"))
    plot = [os.environ["BULK_SOAK_PLOT"]] if "BULK_SOAK_PLOT" in os.environ else []
    command = [sys.executable, "-W", "error", "-m", "tests.bulk_soak", str(count), *plot]
    soak = subprocess.run(command, capture_output=True, text=True, timeout=count / 50, cwd=ROOT, check=True)
    result = json.loads(soak.stdout)
    assert (result["requests"], result["once"]) == (count, count)
    assert 0.08 * count < result["faults"] < 0.13 * count
    assert 0.03 * count < result["failed"] < 0.06 * count  # the faults that no retry mends
    assert result["attempts"] > count
    sizes = [size for _, size in result["memory"]]
    assert len(sizes) == 100
    # The requests are 10 KB each, 100 MB together. After the first tenth nothing more is needed.
    assert max(sizes) - sizes[10] < 8 * 2**20
