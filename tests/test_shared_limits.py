"""Limits shared through a real Redis server: room, fairness, and every way in which the server can be of no use."""

import asyncio
import json
import logging
import math
import os
import pickle
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jina_rerank import RateLimit, RerankError
from jina_rerank._stack.limit_store import LimitStore, Permit
from jina_rerank.shared import RedisLimits
from jina_rerank.shared._exchange import SCRIPT, ReserveReply
from jina_rerank.shared._member import Member

from .fake_server import Body, FakeServer, client_for
from .processes import LONGEST_SECONDS, run
from .redis_server import BINARY, RedisServer

pytestmark = pytest.mark.skipif(
    BINARY is None and not os.environ.get("CI"),
    reason="neither redis-server nor valkey-server is on PATH (apt-get install redis-server)",
)

PATIENT = 5.0
"""Seconds to wait for a server that is well, however busy the machine is."""
_scopes = count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One for the tests that do not break it."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def fragile() -> Iterator[RedisServer]:
    """One for a test that breaks it."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def scope() -> str:
    return f"https://api.example {next(_scopes)}"


def limits_of(url: str, *, timeout: float = PATIENT, window: float = 61.0, lease: float = 15.0) -> RedisLimits:
    return replace(RedisLimits.from_url(url, timeout=timeout), _window=window, _lease=lease)


@asynccontextmanager
async def stores(limits: RedisLimits, scope: str, *stated: RateLimit | None) -> AsyncIterator[list[LimitStore]]:
    """One for each process that takes part."""
    opened = [limits.open(scope, limit) for limit in stated]
    try:
        yield opened
    finally:
        for store in opened:
            await store.aclose()


async def permit_of(store: LimitStore, tokens: int = 1) -> Permit:
    with anyio.fail_after(LONGEST_SECONDS):
        permit = await store.acquire(tokens, math.inf)
    assert isinstance(permit, Permit)
    return permit


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(LONGEST_SECONDS):
        while not condition():  # noqa: ASYNC110  # it is about another process
            await anyio.sleep(0.01)


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# What is shared ----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_requests_over_the_limit_wait_until_the_window_has_room(server: RedisServer, scope: str) -> None:
    limit = RateLimit(requests_per_minute=5)
    async with stores(limits_of(server.url, window=0.6), scope, limit, None) as (one, other):
        start = anyio.current_time()
        for store in (one, one, one, other, other):
            store.release(await permit_of(store))
        assert anyio.current_time() - start < 0.6
        other.release(await permit_of(other))
        assert anyio.current_time() - start >= 0.6


@pytest.mark.anyio
async def test_wait_beyond_the_deadline_is_returned_instead(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, RateLimit(requests_per_minute=1)) as (store,):
        await permit_of(store)
        wait = await store.acquire(1, anyio.current_time() + 30)
        assert isinstance(wait, float)
        assert 55 < wait < 63


@pytest.mark.anyio
async def test_slots_are_shared_and_given_back(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, RateLimit(concurrency=2), None) as (one, other):
        first, second = await permit_of(one), await permit_of(other)
        assert one.share is None
        assert other.foreign.in_flight == 1
        with anyio.move_on_after(0.1):
            await other.acquire(1, math.inf)
            pytest.fail("a third one went")
        one.release(first)
        other.release(await permit_of(other))
        other.release(second)


@pytest.mark.anyio
async def test_lowest_configured_limit_counts(server: RedisServer, scope: str) -> None:
    high, low = RateLimit(requests_per_minute=100), RateLimit(requests_per_minute=1)
    async with stores(limits_of(server.url), scope, high, low, high) as opened:
        await permit_of(opened[0])
        for store in opened[1:]:
            assert isinstance(await store.acquire(1, anyio.current_time() + 1), float)


@pytest.mark.anyio
async def test_billed_tokens_replace_the_reserved_ones(server: RedisServer, scope: str) -> None:
    limit = RateLimit(tokens_per_minute=1000)
    async with stores(limits_of(server.url), scope, limit, limit) as (one, other):
        one.release(await permit_of(one, 900), tokens=100)
        await permit_of(one, 1)  # which reports it as well
        await permit_of(other, 899)
        assert isinstance(await other.acquire(1, anyio.current_time() + 1), float)


@pytest.mark.anyio
async def test_request_that_the_api_did_not_count_leaves_no_trace(server: RedisServer, scope: str) -> None:
    limit = RateLimit(requests_per_minute=1, tokens_per_minute=10, concurrency=1)
    async with stores(limits_of(server.url), scope, limit, limit) as (one, other):
        one.release(await permit_of(one, 10), counted=False)
        await permit_of(other, 10)


@pytest.mark.anyio
async def test_request_larger_than_the_limit_goes_alone(server: RedisServer, scope: str) -> None:
    limit = RateLimit(tokens_per_minute=10)
    async with stores(limits_of(server.url, window=0.5), scope, limit) as (store,):
        start = anyio.current_time()
        store.release(await permit_of(store, 5))
        store.release(await permit_of(store, 50))
        assert anyio.current_time() - start >= 0.5


@pytest.mark.anyio
async def test_limit_learned_by_one_process_applies_to_all(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, None, None) as (one, other):
        refused = await permit_of(one)
        one.learn("requests", 3)  # of which programs that do not take part have used what is not ours
        one.release(refused, counted=False)
        await until(lambda: one.foreign.requests == 3)
        assert isinstance(await other.acquire(1, anyio.current_time() + 30), float)
        assert other.foreign.requests == 3


@pytest.mark.anyio
async def test_slots_of_programs_outside_are_expected_back_soon(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, None, None) as (one, other):
        refused = await permit_of(one)
        one.learn("concurrency", 1)
        one.release(refused, counted=False)
        start = anyio.current_time()
        await permit_of(other)
        assert anyio.current_time() - start > 0.5


@pytest.mark.anyio
async def test_pause_holds_for_all(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, None, None) as (one, other):
        refused = await permit_of(one)
        one.learn(None, None, pause=30)
        one.release(refused, counted=False)
        await until(lambda: "pause" in server.command("HKEYS", f"jina_rerank:{{{scope}}}:state"))
        assert isinstance(await one.acquire(1, anyio.current_time() + 3), float)
        assert isinstance(await other.acquire(1, anyio.current_time() + 3), float)


@pytest.mark.anyio
async def test_cancelled_acquire_leaves_nothing_reserved(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, RateLimit(concurrency=1), None) as (one, other):
        held = await permit_of(one)
        async with anyio.create_task_group() as tasks:
            for steps in range(30):  # in the queue, before the exchange, during it, and after it
                tasks.start_soon(_acquire_and_be_cancelled, other if steps % 2 else one, steps)
        one.release(held)
        other.release(await permit_of(other))
        one.release(await permit_of(one))
        await until(lambda: server.command("HGET", f"jina_rerank:{{{scope}}}:state", "in_flight") == "0")


async def _acquire_and_be_cancelled(store: LimitStore, steps: int) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.acquire, 1, math.inf)
        for _ in range(steps):
            await checkpoint()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_keys_share_a_hash_tag_and_expire(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, RateLimit(concurrency=1)) as (store,):
        await permit_of(store)
        assert isinstance(await store.acquire(1, -math.inf), float)
        keys = server.command("KEYS", f"*{scope}*")
        assert {"state", "members", "leases"} <= {key.rpartition(":")[2] for key in keys}
        assert all(key.startswith(f"jina_rerank:{{{scope}}}:") for key in keys)
        assert all(0 < server.command("TTL", key) <= 3600 for key in keys)


# How much it costs -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_acquire_with_room_is_one_exchange(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, None) as (store,):
        store.release(await permit_of(store))
        before = server.exchanges()
        for _ in range(20):
            store.release(await permit_of(store))
        assert server.exchanges() - before <= 22  # and a report of what is over, each 50 ms


@pytest.mark.anyio
async def test_acquires_at_once_are_one_exchange(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(server.url), scope, None) as (store,):
        await permit_of(store)
        before = server.exchanges()
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(permit_of, store)
        assert server.exchanges() - before <= 3


# Fairness ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_processes_that_compete_get_equal_shares(server: RedisServer, scope: str) -> None:
    served: list[int] = []
    limits = limits_of(server.url)

    async def compete(number: int, store: LimitStore) -> None:
        for _ in range(20):
            permit = await permit_of(store)
            served.append(number)
            await anyio.sleep(0.002)
            store.release(permit)

    stated = [RateLimit(requests_per_minute=500, concurrency=2)] * 4
    async with stores(limits, scope, *stated) as opened, anyio.create_task_group() as tasks:
        for number, store in enumerate(opened * 3):  # three workers each
            tasks.start_soon(compete, number % 4, store)
    half = served[:120]
    assert all(27 <= half.count(number) <= 33 for number in range(4))


@pytest.mark.anyio
async def test_large_request_is_not_starved_by_small_ones(server: RedisServer, scope: str) -> None:
    limit = RateLimit(tokens_per_minute=100)
    limits = limits_of(server.url, window=0.5)
    async with stores(limits, scope, limit, limit) as (small, large), anyio.create_task_group() as tasks:

        async def keep_full() -> None:
            while True:
                small.release(await permit_of(small, 5))

        for _ in range(5):
            tasks.start_soon(keep_full)
        large.release(await permit_of(large, 90))
        tasks.cancel_scope.cancel()


# The script --------------------------------------------------------------------------------------------------


def exchange(server: RedisServer, scope: str, member: Member, asked: Sequence[int], now: float) -> ReserveReply:
    """One exchange of a process, answered; whether the answer arrives is the caller's to say."""
    report = member.report(now, asked, want=len(asked), leave=False)
    keys = [f"{{{scope}}}:{name}" for name in ("state", "members", "leases", "waiting")]
    return ReserveReply.decode(json.loads(server.command("EVAL", SCRIPT, len(keys), *keys, report.encode())))


STEPS = st.tuples(
    st.integers(0, 2),  # which process
    st.lists(st.integers(1, 50), max_size=3),  # what it asks for
    st.sampled_from(["answered", "lost", "repeated"]),
    st.sampled_from(["billed", "unknown", "not counted"]),  # how its oldest request ends
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=20))
def test_script_never_grants_over_the_limits_nor_forgets_what_was_used(
    server: RedisServer, steps: list[tuple[int, list[int], str, str]]
) -> None:
    scope = f"script {next(_scopes)}"
    limit = RateLimit(requests_per_minute=12, concurrency=5)
    accounts = [Member(limit, window=61, lease=15) for _ in range(3)]
    open_permits: list[list[Permit]] = [[], [], []]
    for number, (who, asked, fate, end) in enumerate(steps):
        member, now = accounts[who], number / 1000
        if open_permits[who]:
            tokens = 7 if end == "billed" else None
            member.release(open_permits[who].pop(0), tokens=tokens, counted=end != "not counted")
        answer = exchange(server, scope, member, asked, now)
        if fate == "lost":
            continue
        if fate == "repeated":  # the first answer is lost, and the process asks again
            answer = exchange(server, scope, member, asked, now)
        if not member.receive(answer):  # the very first answer was lost
            answer = exchange(server, scope, member, asked, now)
            assert member.receive(answer)
        open_permits[who] += [member.grant(now, tokens, local=False) for tokens in asked[: answer.granted]]
        assert answer.requests <= 12
        assert answer.in_flight <= 5
    for member in accounts:
        answer = exchange(server, scope, member, [], 1.0)
        if not member.receive(answer):
            answer = exchange(server, scope, member, [], 1.0)
            assert member.receive(answer)
    assert answer.in_flight == sum(map(len, open_permits))
    used = [member.own(1.0) for member in accounts]
    assert answer.requests >= sum(requests for requests, _ in used)
    if all(fate == "answered" for _, _, fate, _ in steps):
        assert (answer.requests, answer.tokens) == (sum(r for r, _ in used), sum(t for _, t in used))


def test_report_that_arrives_after_a_later_one_is_ignored(server: RedisServer, scope: str) -> None:
    member = Member(RateLimit(concurrency=5), window=61, lease=15)
    keys = [f"{{{scope}}}:{name}" for name in ("state", "members", "leases", "waiting")]
    early = member.report(0.0, [1, 1, 1], want=3, leave=False).encode()
    assert member.receive(exchange(server, scope, member, [], 0.0))
    late = ReserveReply.decode(json.loads(server.command("EVAL", SCRIPT, len(keys), *keys, early)))
    assert late.stale
    assert exchange(server, scope, member, [], 0.0).in_flight == 0


@pytest.mark.anyio
async def test_expired_lease_is_forgotten_once(server: RedisServer, scope: str) -> None:
    killed, other = Member(None, window=61, lease=0.02), Member(None, window=61, lease=15)
    keys = [f"{{{scope}}}:{name}" for name in ("state", "members", "leases", "waiting")]
    late = other.report(0.0, [], want=0, leave=False).encode()
    assert killed.receive(exchange(server, scope, killed, [1, 1], 0.0))
    assert other.receive(exchange(server, scope, other, [], 0.0))
    assert other.last.in_flight == 2
    await anyio.sleep(0.1)  # by the server's clock
    assert ReserveReply.decode(json.loads(server.command("EVAL", SCRIPT, len(keys), *keys, late))).stale
    assert other.receive(exchange(server, scope, other, [], 0.0))
    assert (other.last.in_flight, other.last.members) == (0, 1)


# When the server is of no use --------------------------------------------------------------------------------


SECRET = "hunter2-the-password"


@pytest.mark.anyio
async def test_server_that_is_down_costs_no_call_and_is_warned_of_once(
    fragile: RedisServer, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jina_rerank")
    fragile.kill()
    limit = RateLimit(requests_per_minute=100, concurrency=1)
    url = fragile.url.replace("//", f"//:{SECRET}@")
    fragile.options = ("--requirepass", SECRET)
    async with stores(limits_of(url), scope, limit) as (store,):
        for _ in range(50):
            permit = await permit_of(store)
            assert permit.local
            store.release(permit)
        assert store.share == RateLimit(requests_per_minute=50, concurrency=1)
        fragile.start()
        await until(lambda: store.share is None)
        assert not (await permit_of(store)).local
    assert len(messages(caplog)) == 1
    assert len(messages(caplog, logging.INFO)) == 1
    assert SECRET not in caplog.text


@pytest.mark.anyio
async def test_server_killed_with_requests_waiting_blocks_no_caller(fragile: RedisServer, scope: str) -> None:
    limit = RateLimit(concurrency=8)
    async with stores(limits_of(fragile.url), scope, limit, limit, None) as (one, other, late):
        held = [await permit_of(store) for store in (one, other) * 4]
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(permit_of, one)
            await until(lambda: fragile.command("ZCARD", f"jina_rerank:{{{scope}}}:waiting") == 1)
            fragile.kill()
        assert one.share == RateLimit(concurrency=4)
        fragile.start()
        # The new server is empty: the processes that are back have told it what they had used.
        await until(lambda: one.share is None)
        await permit_of(late)
        assert late.foreign.requests >= 7
        for store, permit in zip((one, other) * 4, held, strict=True):
            store.release(permit)


@pytest.mark.anyio
async def test_server_that_does_not_answer_costs_its_timeout_once(fragile: RedisServer, scope: str) -> None:
    limit = RateLimit(requests_per_minute=10)
    async with stores(limits_of(fragile.url, timeout=0.5), scope, limit) as (store,):
        store.release(await permit_of(store))
        fragile.freeze()
        start = anyio.current_time()
        for _ in range(100):
            permit = await permit_of(store)
            assert permit.local
            store.release(permit)
        assert 0.4 < anyio.current_time() - start < 1.5
        assert store.share == RateLimit(requests_per_minute=5)
        fragile.thaw()
        await until(lambda: store.share is None)
        assert isinstance(await store.acquire(1, anyio.current_time() + 1), float)  # the hundred and one were counted


@pytest.mark.anyio
async def test_host_that_accepts_and_says_nothing_costs_the_timeout(scope: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits = limits_of(f"redis://:{SECRET}@127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        async with stores(limits, scope, None) as (store,):
            with anyio.fail_after(1):
                permit = await store.acquire(1, math.inf)
            assert isinstance(permit, Permit)
            assert permit.local
            assert store.share == RateLimit()


@pytest.mark.anyio
async def test_window_that_is_full_is_respected_while_the_server_is_down(fragile: RedisServer, scope: str) -> None:
    limit = RateLimit(requests_per_minute=1)
    async with stores(limits_of(fragile.url, window=1), scope, limit) as (store,):
        await permit_of(store)
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(permit_of, store)
            await until(lambda: fragile.command("ZCARD", f"jina_rerank:{{{scope}}}:waiting") == 1)
            fragile.kill()
        assert anyio.current_time() - start >= 0.9


@pytest.mark.anyio
async def test_script_flushed_by_server_is_loaded_again(
    fragile: RedisServer, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with stores(limits_of(fragile.url), scope, None) as (store,):
        await permit_of(store)
        fragile.command("SCRIPT", "FLUSH")
        assert not (await permit_of(store)).local
    assert messages(caplog) == []


@pytest.mark.anyio
async def test_idle_connection_closed_by_the_server_is_opened_again(
    fragile: RedisServer, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with stores(limits_of(fragile.url), scope, None) as (store,):
        await permit_of(store)
        fragile.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert not (await permit_of(store)).local
    assert messages(caplog) == []


TROUBLES = {
    "wrong type": (("RPUSH", "jina_rerank:{SCOPE}:state", "x"), ("DEL", "jina_rerank:{SCOPE}:state"), "WRONGTYPE"),
    "not permitted": (("ACL", "SETUSER", "default", "-evalsha"), ("ACL", "SETUSER", "default", "+evalsha"), "NOPERM"),
    "replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_server_that_returns_errors_is_bypassed_until_it_recovers(
    fragile: RedisServer, scope: str, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    spoil, mend, code = TROUBLES[trouble]
    fragile.command(*[word.replace("SCOPE", scope) for word in spoil])
    async with stores(limits_of(fragile.url), scope, RateLimit(concurrency=2)) as (store,):
        assert (await permit_of(store)).local
        assert store.share == RateLimit(concurrency=1)
        (warning,) = messages(caplog)
        assert code in warning
        fragile.command(*[word.replace("SCOPE", scope) for word in mend])
        await until(lambda: store.share is None)
        assert not (await permit_of(store)).local
    assert len(messages(caplog)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("login", ["", f":{SECRET}@", f"user:{SECRET}@"])
async def test_wrong_password_warning_hides_password(
    fragile: RedisServer, scope: str, caplog: pytest.LogCaptureFixture, login: str
) -> None:
    fragile.command("CONFIG", "SET", "requirepass", "another")
    limits = limits_of(fragile.url.replace("//", f"//{login}"))
    async with stores(limits, scope, None) as (store,):
        assert (await permit_of(store)).local
    (warning,) = messages(caplog)
    assert "NOAUTH" in warning or "WRONGPASS" in warning
    assert SECRET not in caplog.text + repr(limits) + repr(store)


@pytest.mark.anyio
async def test_node_of_a_cluster_names_the_one_to_ask(server: RedisServer, scope: str) -> None:
    async def moved(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(f"-MOVED 1 127.0.0.1:{server.port}\r\n".encode())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, moved)
        async with stores(limits_of(f"redis://127.0.0.1:{port}"), scope, None) as (store,):
            assert not (await permit_of(store)).local
        tasks.cancel_scope.cancel()


# Processes, loops and connections ----------------------------------------------------------------------------


PROGRAM = """
import anyio, math, sys
from dataclasses import replace
from jina_rerank import RateLimit, RerankClient, RerankError
from jina_rerank.shared import RedisLimits
limits = replace(RedisLimits.from_url(sys.argv[1], timeout=5), _lease=0.6)
async def take(scope, *, count=1):
    store = limits.open(scope, RateLimit(concurrency=2))
    for _ in range(count): await store.acquire(1, math.inf)
    return store
"""


def test_slots_of_a_killed_process_are_free_again(server: RedisServer) -> None:
    code = PROGRAM + "async def main():\n await take('killed', count=2); print('taken', flush=True)\n"
    code += " await anyio.sleep(100)\nanyio.run(main)"
    command = [sys.executable, "-c", code, server.url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        process.kill()

    async def take_over() -> None:
        async with stores(limits_of(server.url, lease=0.6), "killed", None) as (store,):
            await permit_of(store)
            await permit_of(store)

    anyio.run(take_over)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_event_loop_may_end_with_a_store_open(server: RedisServer, backend: str) -> None:
    code = PROGRAM + (
        "async def main():\n"
        " store = await take('ends', count=2)\n"  # held, with a connection and timers
        f"for _ in range(3): anyio.run(main, backend='{backend}')\n"
        "async def waiting():\n"
        " store = await take('ends with a waiter', count=2)\n"
        " async with anyio.create_task_group() as tasks:\n"
        "  tasks.start_soon(store.acquire, 1, math.inf)\n"
        "  await anyio.sleep(0.02)\n"
        "  tasks.cancel_scope.cancel()\n"
        f"anyio.run(waiting, backend='{backend}')\n"
        "import gc; gc.collect(); print('ended')"
    )
    assert run(code, server.url) == ("ended", "", 0)


def test_cancelling_all_tasks_of_a_loop_releases_other_waiters(server: RedisServer, scope: str) -> None:
    async def main() -> None:
        async with stores(limits_of(server.url), scope, RateLimit(concurrency=1)) as (store,):
            await permit_of(store)
            mine, loop = asyncio.current_task(), asyncio.get_running_loop()

            def cancel_others() -> None:
                for task in asyncio.all_tasks(loop):
                    if task is not mine:
                        task.cancel()
                loop.call_later(0.05, cancel_others)

            loop.call_later(0.1, cancel_others)
            assert (await permit_of(store)).local

    asyncio.run(main())


def test_missing_extra_is_named(server: RedisServer) -> None:
    code = "import sys; sys.modules['hiredis'] = None; import jina_rerank.shared"
    _, errors, _ = run(code, server.url)
    assert errors.endswith('ImportError: jina_rerank.shared needs an extra: pip install "jina-rerank[redis]"')


@pytest.mark.anyio
async def test_connections_may_be_unix_sockets(server: RedisServer, scope: str) -> None:
    async with stores(limits_of(f"unix://{server.path}?db=3"), scope, None) as (store,):
        assert not (await permit_of(store)).local
    assert server.command("KEYS", f"*{scope}*") == []  # they are in database 3


@pytest.mark.anyio
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_certificate_of_the_server_is_verified(
    tmp_path: Path, scope: str, caplog: pytest.LogCaptureFixture, is_trusted: bool
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem")
    options = [str(tmp_path / word) if word.endswith(".pem") else word for word in files]
    with RedisServer("--tls-auth-clients", "no", *options) as server:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        server.command("CONFIG", "SET", "tls-port", port)
        trust = f"?ssl_ca_certs={tmp_path / 'ca.pem'}" if is_trusted else ""
        async with stores(limits_of(f"rediss://127.0.0.1:{port}/0{trust}"), scope, None) as (store,):
            assert (await permit_of(store)).local is not is_trusted
    assert len(messages(caplog)) == (0 if is_trusted else 1)


def test_limits_can_be_pickled_and_hide_the_password() -> None:
    limits = RedisLimits.from_url(f"redis://user:{SECRET}@redis.internal:6380/2", prefix="search")
    assert pickle.loads(pickle.dumps(limits)) == limits
    assert repr(limits) == "RedisLimits('redis.internal:6380', prefix='search', timeout=0.05)"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://localhost", "url: must start with redis://"),
        (f"redis://:{SECRET}@localhost:port", "url: not a valid URL"),
        (f"redis://:{SECRET}@localhost/zero", "url: the database must be a number"),
        (f"redis://:{SECRET}@localhost?protocol=3", r"url: unknown options \['protocol'\]"),
        (f"rediss://:{SECRET}@localhost?ssl_cert_reqs=maybe", "url: ssl_cert_reqs must be"),
    ],
)
def test_invalid_url_error_hides_password(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RedisLimits.from_url(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"prefix": ""}, {"prefix": "{a}"}, {"timeout": 0.0}])
def test_invalid_argument_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RedisLimits.from_url("redis://localhost", **wrong)  # type: ignore[arg-type]  # that is the point


# Through a client


@pytest.fixture
def key() -> str:
    """A key that no other test has used."""
    return f"jina_{uuid.uuid4().hex}"


class SlotServer(FakeServer):
    """Answers each request after 10 ms."""

    async def respond(self, body: Body, number: int) -> httpx.Response:
        await anyio.sleep(0.01)
        return await super().respond(body, number)

    async def rank(self, calls: int, key: str, **options: Any) -> list[RerankError]:
        """Rank with a client of this event loop's own; return the errors."""
        errors = list[RerankError]()

        async def call() -> None:
            try:
                await client.rerank("q", ["a"])
            except RerankError as error:
                errors.append(error)

        async with self.client(api_key=key, **options) as client, anyio.create_task_group() as tasks:
            for _ in range(calls):
                tasks.start_soon(call)
        return errors


def test_clients_of_two_event_loops_share_the_slots_of_a_key(server: RedisServer, key: str) -> None:
    slots = SlotServer()
    options = {"shared_limits": limits_of(server.url), "rate_limit": RateLimit(concurrency=3)}
    results = list[list[RerankError]]()
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(slots.rank(15, key, **options)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_SECONDS)
    assert results == [[], []]
    assert (slots.request_count, slots.max_in_flight) == (30, 3)


@pytest.mark.anyio
async def test_client_keeps_to_its_share_while_store_is_down(key: str, caplog: pytest.LogCaptureFixture) -> None:
    slots = SlotServer()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        limits = limits_of(f"redis://127.0.0.1:{closed.getsockname()[1]}")
        options: dict[str, Any] = {"shared_limits": limits, "rate_limit": RateLimit(concurrency=6)}
        assert not await slots.rank(20, key, **options)
    assert slots.request_count == 20
    assert slots.max_in_flight <= 3
    assert len(messages(caplog)) == 1


@pytest.mark.anyio
async def test_throttling_while_store_is_down_lowers_local_limit(key: str) -> None:
    slots, refused = SlotServer(), 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal refused
        if slots.in_flight:
            refused += 1
            return httpx.Response(429, json={"detail": "Limit exceeded: 1/1 concurrent requests"})
        return await slots(request)

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        limits = limits_of(f"redis://127.0.0.1:{closed.getsockname()[1]}")
        client = client_for(answer, key, shared_limits=limits)
        async with client, anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(client.rerank, "q", ["a"])
    assert slots.request_count == 30
    assert refused <= 10


@pytest.mark.anyio
async def test_throttling_of_one_client_lowers_limit_of_all(server: RedisServer, key: str) -> None:
    refused = [
        httpx.Response(429, json={"detail": "2/2 concurrent requests", "code": "RATE_CONCURRENCY_LIMIT_EXCEEDED"})
    ]
    slots = SlotServer()

    async def answer(request: httpx.Request) -> httpx.Response:
        return refused.pop() if refused else await slots(request)

    options: dict[str, Any] = {"shared_limits": limits_of(server.url)}
    async with client_for(answer, key, **options) as client:
        response = await client.rerank("q", ["a"])
        assert response.attempts == 2
        assert not await slots.rank(10, key, **options)
    assert slots.max_in_flight <= 2
