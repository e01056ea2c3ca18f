"""Whole processes: exit, Ctrl-C, many event loops, and a notebook."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from .processes import HEAD, LONGEST_SECONDS, run, start, wait_for_requests
from .servers import RawServer, answer_body, http, send, silence

pytestmark = pytest.mark.smoke

GOOD = send(http(answer_body(2)))

EXITS = {
    "unclosed": "client = SyncRerankClient(base_url=url)\nprint(client.rerank('q', ['a', 'b']).documents)",
    "never used": "client = SyncRerankClient(base_url=url)\nprint(['b', 'a'])",
    "dropped": "print(SyncRerankClient(base_url=url).rerank('q', ['a', 'b']).documents)",
    "closed": "with SyncRerankClient(base_url=url) as client: print(client.rerank('q', ['a', 'b']).documents)",
    "by sys.exit": (
        "client = SyncRerankClient(base_url=url)\nprint(client.rerank('q', ['a', 'b']).documents)\nsys.exit()"
    ),
    "from atexit": (
        "import atexit\nclient = SyncRerankClient(base_url=url)\nclient.rerank('q', ['a', 'b'])\n"
        "atexit.register(lambda: print(client.rerank('q', ['a', 'b']).documents))"
    ),
    "from a thread that outlives main": (
        "import threading\nclient = SyncRerankClient(base_url=url)\nclient.rerank('q', ['a', 'b'])\n"
        "def work():\n    threading.main_thread().join()\n    print(client.rerank('q', ['a', 'b']).documents)\n"
        "threading.Thread(target=work).start()"
    ),
    "async, unclosed": (
        "import asyncio\nclient = RerankClient(base_url=url)\n"
        "async def main(): print((await client.rerank('q', ['a', 'b'])).documents)\nasyncio.run(main())"
    ),
    "trio, unclosed": (
        "import trio\nclient = RerankClient(base_url=url)\n"
        "async def main(): print((await client.rerank('q', ['a', 'b'])).documents)\ntrio.run(main)"
    ),
}


@pytest.mark.parametrize("code", EXITS.values(), ids=EXITS)
def test_open_clients_neither_delay_exit_nor_warn(raw_server: RawServer, code: str) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + code, raw_server.url) == ("['b', 'a']", "", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_first_call_during_interpreter_exit_succeeds_or_raises(raw_server: RawServer, host: str) -> None:
    """Some versions of Python start no thread any more at that point, for the loop or to look up a host."""
    raw_server.plays = [GOOD]
    code = (
        "import atexit\nclient = SyncRerankClient(base_url=url)\n"
        "def last():\n"
        "    try: print(client.rerank('q', ['a', 'b']).documents)\n"
        "    except ClientClosedError as error: print(error.message)\n"
        "atexit.register(last)"
    )
    out, err, code_ = run(HEAD + code, raw_server.url.replace("127.0.0.1", host))
    assert out in ("['b', 'a']", "the interpreter is exiting; the call cannot complete")
    assert (err, code_) == ("", 0)


AT_THE_END = """
class Buffer:
    def __init__(self):
        self.client = SyncRerankClient(base_url=url, deadline=5)
        {first}
    def __del__(self):
        try: self.client.rerank('q', ['a', 'b'])
        except RerankError as error: print(type(error).__name__, error.message)
buffer = Buffer()
"""


@pytest.mark.parametrize("first", ["self.client.rerank('q', ['a', 'b'])", "pass"], ids=["used", "never used"])
def test_call_in_a_finalizer_at_exit_raises_client_closed_error(raw_server: RawServer, first: str) -> None:
    raw_server.plays = [GOOD]
    said = "ClientClosedError the interpreter is exiting; the call cannot complete"
    assert run(HEAD + AT_THE_END.format(first=first), raw_server.url) == (said, "", 0)


IN_FLIGHT = {
    "in a daemon thread": (
        1,
        """
import threading
client = SyncRerankClient(base_url=url, deadline=None, timeout=None)
def work():
    try: client.rerank('q', ['a'])
    except ClientClosedError: pass
threading.Thread(target=work, daemon=True).start()
sys.stdin.readline()
""",
    ),
    "of a stream": (
        9,
        """
import threading
client = SyncRerankClient(base_url=url, deadline=None, timeout=None)
stream = client.rerank_many([RerankRequest(query='q', documents=['a'])] * 9)
def work():
    try: next(stream)
    except ClientClosedError: pass
threading.Thread(target=work, daemon=True).start()
sys.stdin.readline()
""",
    ),
    "in a task of asyncio": (
        10,
        """
import asyncio
client = RerankClient(base_url=url, deadline=None, timeout=None)
async def main():
    global task, stream
    task = asyncio.create_task(client.rerank('q', ['a']))
    stream = client.rerank_many([RerankRequest(query='q', documents=['a'])] * 9)
    task = task, asyncio.create_task(anext(stream))
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
""",
    ),
    "in a task of trio": (
        10,
        """
import trio
client = RerankClient(base_url=url, deadline=None, timeout=None)
async def main():
    global stream
    stream = client.rerank_many([RerankRequest(query='q', documents=['a'])] * 9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.rerank, 'q', ['a'])
        nursery.start_soon(stream.__anext__)
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()
trio.run(main)
""",
    ),
}


@pytest.mark.parametrize(("requests", "code"), IN_FLIGHT.values(), ids=IN_FLIGHT)
def test_call_in_flight_does_not_delay_the_exit(raw_server: RawServer, requests: int, code: str) -> None:
    raw_server.plays = [silence]
    with start(HEAD + code + "print('end')", raw_server.url) as process:
        # All of them: where asyncio's loop ends while anyio connects, it leaves a coroutine that was never awaited.
        wait_for_requests(raw_server, requests)
        out, err = process.communicate("\n", timeout=LONGEST_SECONDS)
    assert (out.strip(), err, process.returncode) == ("end", "", 0)


OUTLIVES_MAIN = """
import threading
client = SyncRerankClient(base_url=url)
def work():
    print(client.rerank('in flight when main ends', ['a', 'b']).documents)
def end():
    threading.main_thread().join()
    client.rerank('main has ended', ['a', 'b'])
for target in (work, end): threading.Thread(target=target).start()
sys.stdin.readline()
"""


def test_call_in_flight_in_a_thread_that_outlives_main_gets_its_answer(raw_server: RawServer) -> None:
    ended = threading.Event()

    def play(connection: Any) -> None:
        if b"in flight" in raw_server.requests_of[connection][1]:
            ended.wait(LONGEST_SECONDS)
        else:
            ended.set()
        GOOD(connection)

    raw_server.plays = [play]
    with start(HEAD + OUTLIVES_MAIN, raw_server.url) as process:
        wait_for_requests(raw_server, 1)
        out, err = process.communicate("\n", timeout=LONGEST_SECONDS)
    assert (out.strip(), err, process.returncode) == ("['b', 'a']", "", 0)


def test_ctrl_c_cancels_the_request_in_flight_and_the_next_call_works(raw_server: RawServer) -> None:
    raw_server.plays = [silence, GOOD]
    code = (
        "client = SyncRerankClient(base_url=url)\n"
        "try: client.rerank('q', ['a', 'b'])\nexcept KeyboardInterrupt: print('interrupted', flush=True)\n"
        "sys.stdin.readline()\nprint(client.rerank('q', ['a', 'b']).documents)"
    )
    with start(HEAD + code, raw_server.url) as process:
        wait_for_requests(raw_server, 1)
        assert not raw_server.disconnected.is_set()
        process.send_signal(signal.SIGINT)
        assert raw_server.disconnected.wait(5)
        out, err = process.communicate("\n", timeout=LONGEST_SECONDS)
    assert (out.split("\n")[:2], err, process.returncode) == (["interrupted", "['b', 'a']"], "", 0)


LOOPS = """
import asyncio, gc, threading, trio
client = RerankClient(base_url=url)
async def main():
    return (await client.rerank('q', ['a', 'b'])).documents
answers = [asyncio.run(main()) for _ in range(4)] + [trio.run(main) for _ in range(2)]
threads = [threading.Thread(target=lambda: answers.append(asyncio.run(main()))) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
import os
sockets = [fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')
           and os.readlink(f'/proc/self/fd/{fd}').startswith('socket:')] if os.path.isdir('/proc/self/fd') else []
print(len(answers), set(map(tuple, answers)), len(sockets))
"""


def test_one_client_serves_many_event_loops_and_leaves_no_socket(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + LOOPS, raw_server.url) == ("10 {('b', 'a')} 0", "", 0)


def test_client_works_in_notebook(raw_server: RawServer) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    raw_server.plays = [GOOD]
    source = (
        "import asyncio\nfrom jina_rerank import RerankClient, SyncRerankClient\n"
        f"client, later = SyncRerankClient(base_url={raw_server.url!r}), RerankClient(base_url={raw_server.url!r})\n"
        "print(client.rerank('q', ['a', 'b']).documents, (await later.rerank('q', ['a', 'b'])).documents)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [(output.get("name"), output.get("text")) for output in outputs] == [("stdout", "['b', 'a'] ['b', 'a']\n")]


DROPPED = """
import asyncio, gc, sys
async def main():
    for _ in range(3):
        client = RerankClient(base_url=url)
        print((await client.rerank('q', ['a', 'b'])).documents)
        cycle = [client]
        cycle.append(cycle)
        del client, cycle
        gc.collect()
        await asyncio.sleep(0.01)
asyncio.run(main())
for _ in range(3):
    cycle = [SyncRerankClient(base_url=url)]
    cycle[0].rerank('q', ['a', 'b'])
    cycle.append(cycle)
    del cycle
    gc.collect()
"""


def test_dropped_client_is_closed_without_warning(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + DROPPED, raw_server.url) == ("['b', 'a']\n['b', 'a']\n['b', 'a']", "", 0)


INTERRUPTED = """
import collections, random, signal
ends = collections.Counter()
armed = False
def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
client = SyncRerankClient(base_url=url)
client.rerank('q', ['a', 'b'])
def call():
    while armed: client.rerank('q', ['a', 'b'])
for _ in range(500):
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3))
            call()
        finally:
            armed = False
    except BaseException as error:  # also of an interrupt that comes in the line above
        ends[type(error).__name__] += 1
print(list(ends), client.rerank('q', ['a', 'b']).documents)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM on this system")
@pytest.mark.usefixtures("no_coverage_in_programs")
def test_interrupt_at_any_moment_raises_keyboard_interrupt_and_client_recovers(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    out, _, code = run(HEAD + INTERRUPTED, raw_server.url)
    # Python itself writes to stderr: it reports interrupts in finalizers, which cannot raise.
    assert (out, code) == ("['KeyboardInterrupt'] ['b', 'a']", 0)


HANDLER_DURING_THE_FIRST_CALL = """
import os, signal, threading
client = SyncRerankClient(base_url=url)
def call(*_):
    client.rerank('q', ['a', 'b'])
signal.signal(signal.SIGALRM, call)
codes = set()
for number in range(40):
    pid = os.fork()
    if pid == 0:
        threading.Timer(10, os._exit, [1]).start()  # ends a process that hangs
        signal.setitimer(signal.ITIMER_REAL, number // 2 * 1e-4 + 1e-5)
        if number % 2:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        else:
            call()
        loops = sum(thread.name == 'jina-rerank' for thread in threading.enumerate())
        os._exit(0 if loops == 1 else 2)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each first call needs a process, which is forked")
@pytest.mark.usefixtures("no_coverage_in_programs")
def test_signal_handler_that_calls_during_the_first_call_gets_its_answer(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    ignored = ("-W", "ignore:.*fork.*:DeprecationWarning")
    with start(HEAD + HANDLER_DURING_THE_FIRST_CALL, raw_server.url, *ignored) as process:
        out, err = process.communicate(timeout=LONGEST_SECONDS * 3)
    assert (out.strip(), err) == ("{0}", "")


NO_SOCKETS = """
import socket
def guard(*_, **__): raise RuntimeError('no sockets here')
real, socket.socket.__init__ = socket.socket.__init__, guard
client = SyncRerankClient(base_url=url)
try: client.rerank('q', ['a', 'b'])
except APIConnectionError as error: print(error.message)
socket.socket.__init__ = real
print(client.rerank('q', ['a', 'b']).documents)
"""


def test_background_loop_that_cannot_start_is_a_connection_error(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    out, _, code = run(HEAD + NO_SOCKETS, raw_server.url)  # on stderr Python complains of asyncio's half-made loop
    said = "the background event loop cannot be started: RuntimeError: no sockets here"
    assert (out.split("\n"), code) == ([said, "['b', 'a']"], 0)


FINALIZER_ON_THE_LOOP = """
import asyncio, gc, httpx, logging
logging.disable()  # of what says that the call blocks the loop
class Buffer:
    def __init__(self, client): self.client, self.me = client, self
    def __del__(self):
        try: self.client.rerank('q', ['a', 'b'])
        except RerankError as error: print(type(error).__name__)
async def collect(request): gc.collect()
def make(): return httpx.AsyncClient(event_hooks={'request': [collect]})
gc.disable()
Buffer(SyncRerankClient(base_url=url))
print(SyncRerankClient(base_url=url, http_client=make).rerank('q', ['a', 'b']).documents)
"""


def test_call_in_finalizer_on_loop_thread_raises_without_deadlock(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + FINALIZER_ON_THE_LOOP, raw_server.url) == ("ConfigurationError\n['b', 'a']", "", 0)


HOOK_THAT_EXITS = """
import httpx, threading
async def leave(request): sys.exit(3)
def make(): return httpx.AsyncClient(event_hooks={'request': [leave]})
def others():
    for _ in range(200): answers.add(tuple(client.rerank('q', ['a', 'b']).documents))
answers, client = set(), SyncRerankClient(base_url=url)
thread = threading.Thread(target=others)
thread.start()
for _ in range(20):
    try: SyncRerankClient(base_url=url, http_client=make).rerank('q', ['a'])
    except SystemExit as error: answers.add(error.code)
thread.join()
print(sorted(answers, key=str))
"""


def test_hook_that_raises_system_exit_ends_only_its_call(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + HOOK_THAT_EXITS, raw_server.url) == ("[('b', 'a'), 3]", "", 0)


CLOSED_LOOPS = """
import asyncio, gc, os, warnings
warnings.simplefilter('ignore')  # of sockets that a loop was closed with
client = RerankClient(base_url=url)
for _ in range(10):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.rerank('q', ['a', 'b']))
    loop.close()
gc.collect()
links = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')]
print(sum(os.readlink(link).startswith('socket:') for link in links if os.path.islink(link)) <= 1)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="sockets are counted in /proc")
def test_event_loops_closed_without_aclose_are_released(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + CLOSED_LOOPS, raw_server.url) == ("True", "", 0)


OPEN_AT_THE_END = """
import asyncio
async def stream():
    async with RerankClient(base_url=url) as client:
        yield (await client.rerank('q', ['a', 'b'])).documents
async def main():
    keep.append(stream())
    print(await keep[0].__anext__())
keep = []
asyncio.run(main())
"""


def test_client_that_is_open_when_the_loop_ends_is_closed_once(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + OPEN_AT_THE_END, raw_server.url) == ("['b', 'a']", "", 0)


CLOSING_CANCELLED = """
import asyncio, os
def sockets():
    links = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')]
    return sum(os.readlink(link).startswith('socket:') for link in links if os.path.islink(link))
async def main():
    before = sockets()
    client = RerankClient(base_url=url)
    await asyncio.gather(*[client.rerank('q', ['a', 'b']) for _ in range(20)])
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await client.aclose()
    await asyncio.sleep(0.05)
    print(sockets() - before)
asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="sockets are counted in /proc")
def test_cancelled_aclose_can_be_repeated(raw_server: RawServer) -> None:
    raw_server.plays = [GOOD]
    assert run(HEAD + CLOSING_CANCELLED, raw_server.url) == ("0", "", 0)
