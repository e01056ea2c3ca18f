"""Forks, and every other way in which a process makes others: each answer belongs to its own question."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jina_rerank import SyncRerankClient

from .processes import HEAD, LONGEST_SECONDS, start
from .servers import RawServer, answer_body, http

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
    pytest.mark.usefixtures("no_coverage_in_programs"),
]


@pytest.fixture
def echo() -> Iterator[RawServer]:
    """Tells in a header which document it was asked about. Of two it holds back, until it is asked for "go on":
    "slow", and "slow has come" until "slow" has."""
    came, may_go = threading.Event(), threading.Event()

    def play(connection: Any) -> None:
        document = json.loads(server.requests_of[connection][1])["documents"][0]
        if document == "slow":
            came.set()
            may_go.wait(LONGEST_SECONDS)
        if document == "slow has come":
            came.wait(LONGEST_SECONDS)
        if document == "go on":
            may_go.set()
        connection.sendall(http(answer_body(1), x_document=document))

    with RawServer(play) as server:
        yield server


def output_of(code: str, url: str) -> tuple[str, str]:
    with start(HEAD + code, url, "-W", "ignore:.*fork.*:DeprecationWarning") as process:
        try:
            out, err = process.communicate(timeout=LONGEST_SECONDS * 3)
        finally:
            process.kill()
    return out.strip(), err.strip()


WARM = """
import os, threading
client = SyncRerankClient(base_url=url)
def is_wrong(document):
    return client.rerank("q", [document]).headers["x-document"] != document
is_wrong("warm")
wrong = []
slow = threading.Thread(target=lambda: wrong.append(is_wrong("slow")))
slow.start()
wrong.append(is_wrong("slow has come"))
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        count = sum(is_wrong(f"{child}-{i}") for i in range(100))
        client.close()
        os._exit(count)
    children.append(pid)
wrong += [is_wrong(f"parent-{i}") for i in range(100)]
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
wrong.append(is_wrong("go on"))
slow.join()
print(len(wrong), sum(wrong), codes)
"""


def test_fork_with_calls_in_flight_gives_each_process_its_own_answers(echo: RawServer) -> None:
    assert output_of(WARM, echo.url) == ("103 0 [0, 0, 0, 0]", "")
    documents = [json.loads(body)["documents"][0] for _, body in echo.requests]
    assert (len(documents), len(set(documents))) == (504, 504)  # and each question was sent once


UNDER_LOAD = """
import os, threading
client = SyncRerankClient(base_url=url)
wrong, over = [], threading.Event()
def is_wrong(document):
    return client.rerank("q", [document]).headers["x-document"] != document
def work(name):
    count = 0
    while not over.is_set():
        wrong.append(is_wrong(f"{name}-{count}"))
        count += 1
threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
for thread in threads: thread.start()
codes = []
for child in range(60):
    pid = os.fork()
    if pid == 0:
        os._exit(sum(is_wrong(f"child-{child}-{i}") for i in range(3)))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
over.set()
for thread in threads: thread.join()
print(sum(wrong), len(wrong) > 60, set(codes))
"""


def test_forks_under_the_load_of_threads_lose_nothing(echo: RawServer) -> None:
    assert output_of(UNDER_LOAD, echo.url) == ("0 True {0}", "")


FIRST_CALL = """
import os, signal, threading, time
client = SyncRerankClient(base_url=url)
first = threading.Thread(target=client.rerank, args=("q", ["a"]))
first.start()
children = []
while len(children) < 5 or first.is_alive():
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # ends a child that hangs
        client.rerank("q", ["a"])
        os._exit(0)
    children.append(pid)
    time.sleep(0.001)
first.join()
print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children})
"""


def test_forks_during_the_very_first_call_lose_nothing(echo: RawServer) -> None:
    assert output_of(FIRST_CALL, echo.url) == ("{0}", "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
def test_first_call_imports_nothing(echo: RawServer, transport: str, host: str) -> None:
    """The lock of an import that was under way in another thread is never given back in a forked child."""
    if transport == "aiohttp":
        pytest.importorskip("httpx_aiohttp")
    code = (
        f"client = SyncRerankClient(base_url=url, transport={transport!r})\nbefore = set(sys.modules)\n"
        "print(client.rerank('q', ['a']).headers['x-document'], set(sys.modules) - before)"
    )
    assert output_of(code, echo.url.replace("127.0.0.1", host)) == ("a set()", "")


clients: dict[str, SyncRerankClient] = {}
"""Of this process by URL: what a program keeps in its module, which a forked child finds there."""


def ask(url: str, document: str) -> str:
    client = clients.get(url) or clients.setdefault(url, SyncRerankClient(base_url=url))
    return client.rerank("q", [document]).headers["x-document"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_module_level_client_works_in_process_pool(echo: RawServer, method: str) -> None:
    assert ask(echo.url, "warm") == "warm"
    documents = [f"document {i}" for i in range(40)]
    # The pool ends its processes by SIGTERM. A handler in Python, such as that of coverage.py, would not run in one
    # that has just begun to wait for the pool's lock.
    with multiprocessing.get_context(method).Pool(2, signal.signal, (signal.SIGTERM, signal.SIG_DFL)) as pool:
        answers = pool.starmap_async(ask, [(echo.url, document) for document in documents], chunksize=1)
        assert [ask(echo.url, f"parent {i}") for i in range(40)] == [f"parent {i}" for i in range(40)]
        assert answers.get(LONGEST_SECONDS * 2) == documents
    clients.pop(echo.url).close()
