"""Fault injection in the emulator, and the log of its requests."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
import trio

from jina_rerank import PermissionDeniedError, RateLimit, RerankClient, RetryPolicy, SyncRerankClient
from jina_rerank.emulator import Server, create_app, serve

from . import virtual_time

QUERY = {"model": "jina-reranker-v3.5", "query": "secret", "documents": ["organic", "a secret"]}
HEADERS = {"Authorization": "Bearer jina_key"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


def ask(server: Server, fault: str | None = None) -> httpx.Response:
    headers = HEADERS if fault is None else HEADERS | {"x-jina-emulator-fault": fault}
    # To load certificates, which plain http needs none of, would take longer than the answer.
    return httpx.post(f"{server.url}/v1/rerank", json=QUERY, headers=headers, verify=False)


def local(**options: Any) -> httpx.AsyncClient:
    """A client of an emulator without a socket."""
    transport = httpx.ASGITransport(create_app(**options))
    return httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=HEADERS)


# --- kinds


BALANCE = "Insufficient account balance. Top up your account at https://jina.ai/api-dashboard/key-manager."
SUPPORT = "If this persists, contact support with the request_id from this response."


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (401, "AUTH_INVALID_API_KEY", "Invalid API key. "),
        (402, None, BALANCE),
        (403, "AUTHZ_INSUFFICIENT_BALANCE", BALANCE),
        (404, None, "Invalid endpoint"),
        (408, None, "Request Timeout"),
        (422, None, "Validation error: 'body -> top_n' Input should be greater than or equal to 1"),
        (429, "RATE_IP_LIMIT_EXCEEDED", "IP rate limit exceeded. Too many requests from this IP address. "),
    ],
)
def test_layer_in_front_of_the_application_refuses_flat(
    server: Server, status: int, code: str | None, text: str
) -> None:
    response = ask(server, str(status))
    body = response.json()
    assert (response.status_code, body.get("code"), len(body["request_id"])) == (status, code, 32)
    assert body["detail"].startswith(text)
    assert ("errors" in body) == (status == 422)


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (400, "INPUT_TOKEN_LIMIT_EXCEEDED", "Input text exceeds the model's maximum of 8192 tokens. "),
        (409, "CONFLICT_RESOURCE_BUSY", "The resource is busy."),
        (500, "INTERNAL_ERROR", f"An unexpected error occurred. {SUPPORT}"),
        (503, "SERVICE_UNAVAILABLE", "Service temporarily unavailable. Please retry with exponential backoff."),
        (504, "SERVICE_TIMEOUT", "Request timed out after 60 seconds. Try with smaller inputs or retry later."),
    ],
)
def test_application_refuses_in_the_nested_envelope(server: Server, status: int, code: str, text: str) -> None:
    response = ask(server, str(status))
    body = response.json()
    assert (response.status_code, body["detail"]["code"]) == (status, code)
    assert body["detail"]["message"].startswith(text)
    assert len((body | body["detail"])["request_id"]) == 32


@pytest.mark.parametrize("status", [413, 502, 520, 521, 522, 523, 524])
def test_gateway_answers_with_a_page(server: Server, status: int) -> None:
    response = ask(server, str(status))
    assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert f"<title>{status} " in response.text


def test_gateway_answers_with_nothing(server: Server) -> None:
    response = ask(server, "empty")
    assert (response.status_code, response.content) == (502, b"")


def test_plan_limit_is_not_insufficient_balance(server: Server) -> None:
    body = ask(server, "AUTHZ_RESOURCE_LIMIT_EXCEEDED").json()
    assert (body["code"], len(body["request_id"])) == ("AUTHZ_RESOURCE_LIMIT_EXCEEDED", 32)
    asking = {"x-jina-emulator-fault": "AUTHZ_RESOURCE_LIMIT_EXCEEDED"}
    with (
        SyncRerankClient("jina_key", base_url=server.url, headers=asking) as client,
        pytest.raises(PermissionDeniedError) as caught,
    ):
        client.rerank("q", ["a"])
    assert (type(caught.value), caught.value.status) == (PermissionDeniedError, 403)


@pytest.mark.parametrize(("fault", "seconds"), [("429:1:5s", "5"), ("503:1:0.5", "0.5"), ("429", None)])
def test_seconds_of_a_status_are_its_retry_after(server: Server, fault: str, seconds: str | None) -> None:
    assert ask(server, fault).headers.get("retry-after") == seconds


def test_garbage_is_half_an_answer_that_says_it_is_whole(server: Server) -> None:
    response = ask(server, "garbage")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.text.startswith('{"model":')
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_html_is_a_page_with_status_200(server: Server) -> None:
    response = ask(server, "html")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("fault", "error"), [("cut", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
def test_connection_that_ends_early(
    server: Server, fault: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        with pytest.raises(error):
            ask(server, fault)
    assert ask(server).status_code == 200
    assert caplog.text == ""


def test_first_half_of_cut_answer_arrives(server: Server) -> None:
    arrived = b""
    headers = HEADERS | {"x-jina-emulator-fault": "cut"}
    request = httpx.stream("POST", f"{server.url}/v1/rerank", json=QUERY, headers=headers)
    with request as response, suppress(httpx.RemoteProtocolError):
        for chunk in response.iter_raw():
            arrived += chunk
    assert response.status_code == 200
    assert len(arrived) == int(response.headers["content-length"]) // 2


@pytest.mark.parametrize(("fault", "error"), [("cut", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
@pytest.mark.anyio
async def test_without_a_socket_the_same_error_is_raised(fault: str, error: type[Exception]) -> None:
    async with local(faults=[fault]) as client:
        with pytest.raises(error):
            await client.post("/v1/rerank", json=QUERY)


def test_hang_ends_when_the_client_gives_up() -> None:
    with serve(limits=RateLimit(concurrency=1)) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{server.url}/v1/rerank",
                json=QUERY,
                headers=HEADERS | {"x-jina-emulator-fault": "hang"},
                timeout=httpx.Timeout(10, read=0.1),
            )
        while ask(server).status_code != 200:  # its place is free as soon as the server has seen the client go
            pass
        log = httpx.get(f"{server.url}/_emulator/requests").json()
        assert (log["by_status"]["unanswered"], log["by_fault"]) == (1, {"hang": 1})


def test_slow_and_hang_occupy_slot_in_virtual_time() -> None:
    async def main() -> None:
        async with local(limits=RateLimit(concurrency=1)) as client, anyio.create_task_group() as group:
            start = anyio.current_time()
            slow = await client.post("/v1/rerank", json=QUERY, headers={"x-jina-emulator-fault": "slow:1:30s"})
            assert (slow.status_code, anyio.current_time() - start) == (200, 30)

            async def hang() -> None:
                await client.post("/v1/rerank", json=QUERY, headers={"x-jina-emulator-fault": "hang"}, timeout=None)

            group.start_soon(hang)
            await anyio.sleep(3600)
            assert (await client.post("/v1/rerank", json=QUERY)).status_code == 429
            group.cancel_scope.cancel()

    virtual_time.run(main)


# --- chances


async def statuses(count: int, **options: Any) -> list[int]:
    async with local(**options) as client:
        return [(await client.post("/v1/rerank", json=QUERY)).status_code for _ in range(count)]


@pytest.mark.anyio
async def test_fault_rates_match_and_seed_fixes_sequence() -> None:
    faults = ["503:0.1", "429:0.2"]
    seen = await statuses(400, faults=faults, seed=1)
    count = Counter(seen)
    assert count[503] == pytest.approx(40, abs=20)
    assert count[429] == pytest.approx(80, abs=30)
    assert count[200] == 400 - count[503] - count[429]
    assert await statuses(50, faults=faults, seed=1) == seen[:50]
    assert await statuses(50, faults=faults, seed=2) != seen[:50]


def test_fault_strikes_quick_and_slow_answers_alike() -> None:
    async def main() -> list[float]:
        async with local(faults=["slow:0.1:1000s"], latency={0: 0.0, 100: 100.0}) as client:
            seconds: list[float] = []
            for _ in range(200):
                start = anyio.current_time()
                await client.post("/v1/rerank", json=QUERY)
                seconds.append(anyio.current_time() - start)
            return seconds

    seconds = virtual_time.run(main)
    struck = [second - 1000 for second in seconds if second >= 1000]
    assert 5 < len(struck) < 50
    assert min(struck) < 40
    assert max(struck) > 60


@pytest.mark.anyio
async def test_fault_probability_zero_and_one() -> None:
    assert set(await statuses(50, faults=["503:0", "500:1"])) == {500}
    assert set(await statuses(50, faults=[f"{status}:0.1" for status in [503] * 10])) == {503}


@pytest.mark.parametrize(
    ("faults", "rule"),
    [
        (["slo:0.1"], "no such kind; choose one of 400, 401"),
        ([""], "no such kind"),
        (["200"], "no such kind"),
        (["503:1.5"], "a number from 0 to 1"),
        (["503:-1"], "a number from 0 to 1"),
        (["503:"], "a number from 0 to 1"),
        (["503:nan"], "a number from 0 to 1"),
        (["503:10%"], "a number from 0 to 1"),
        (["slow"], "slow needs a probability and seconds"),
        (["slow:0.1"], "slow needs a probability and seconds"),
        (["slow:0.1:-2s"], "the seconds must be a number"),
        (["slow:0.1:2m"], "the seconds must be a number"),
        (["503:0.1:"], "the seconds must be a number"),
        (["hang:0.1:2s"], "hang takes no seconds"),
        (["slow:0.1:2s:3"], "must be kind"),
        (["503:0.6", "500:0.5"], "add up to 1.1"),
        ("503", "faults must be a list"),
    ],
)
def test_bad_fault_is_refused_with_the_rule_it_breaks(faults: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        create_app(faults=faults)


def test_bad_header_is_a_bad_request(server: Server) -> None:
    response = ask(server, "503:2")
    assert response.status_code == 400
    assert response.json()["detail"] == (
        "x-jina-emulator-fault: fault '503:2': the probability must be a number from 0 to 1, like 0.05"
    )


@pytest.mark.anyio
async def test_fault_header_overrides_configured_faults() -> None:
    async with local(faults=["503"]) as client:
        asked = await client.post("/v1/rerank", json=QUERY, headers={"x-jina-emulator-fault": "500"})
        spared = await client.post("/v1/rerank", json=QUERY, headers={"x-jina-emulator-fault": "500:0"})
        assert (asked.status_code, spared.status_code) == (500, 200)


@pytest.mark.anyio
async def test_injected_fault_does_not_count_against_limits() -> None:
    async with local(limits=RateLimit(requests_per_minute=1)) as client:
        for _ in range(3):
            refused = await client.post("/v1/rerank", json=QUERY, headers={"x-jina-emulator-fault": "503"})
            assert refused.status_code == 503
        assert (await client.post("/v1/rerank", json=QUERY)).status_code == 200


# --- the log


def test_log_counts_and_remembers_without_texts_and_keys() -> None:
    async def main() -> None:
        async with local(limits=RateLimit(requests_per_minute=2), latency=0.5) as client:
            for fault in ("slow:1:1s", "503", "", ""):
                await client.post("/v1/rerank", json=QUERY, headers={"x-jina-emulator-fault": fault})
            with anyio.move_on_after(0.1):
                await client.post("/v1/rerank", json=QUERY, headers=other)
            await client.post("/v1/rerank", json=QUERY | {"top_n": 0})
            await client.post("/v1/rerank", headers={"Authorization": "jina_key"})
            response = await client.get("/_emulator/requests")
            log = response.json()
            assert "secret" not in response.text
            assert "jina_key" not in response.text
            assert log["requests"] == 7
            assert log["by_status"] == {"200": 2, "503": 1, "429": 1, "unanswered": 1, "422": 1, "401": 1}
            assert log["by_code"] == {
                "SERVICE_UNAVAILABLE": 1,
                "RATE_REQUEST_LIMIT_EXCEEDED": 1,
                "AUTH_INVALID_FORMAT": 1,
            }
            assert log["by_fault"] == {"slow": 1, "503": 1}
            assert log["total_tokens"] == 8
            first, *_, third, _, cancelled, _, _ = log["last"]
            account = first.pop("account")
            assert first == {
                "at": 0.0,
                "seconds": 1.5,
                "model": "jina-reranker-v3.5",
                "documents": 2,
                "tokens": 4,
                "status": 200,
                "code": None,
                "fault": "slow",
            }
            assert third["account"] == account != cancelled["account"]
            assert (cancelled["status"], cancelled["seconds"]) == (None, pytest.approx(0.1))
            assert (await client.delete("/_emulator/requests")).json()["requests"] == 0
            assert (await client.get("/_emulator/requests")).json()["last"] == []

    other = {"Authorization": "Bearer jina_other"}
    virtual_time.run(main)


def test_log_keeps_the_last_thousand_requests() -> None:
    async def main() -> None:
        async with local(faults=["503"]) as client:
            for _ in range(1_005):
                await client.post("/v1/rerank")
            log = (await client.get("/_emulator/requests")).json()
        assert (log["requests"], log["by_status"], len(log["last"])) == (1_005, {"503": 1_005}, 1_000)

    trio.run(main)


def test_client_survives_transient_faults_and_log_has_every_attempt() -> None:
    async def main() -> None:
        faults = [f"{kind}:0.05" for kind in ("408", "429", "500", "502", "503", "504", "524", "cut", "reset")]
        retry = RetryPolicy(max_attempts=20)
        async with local(faults=[*faults, "slow:0.05:30s", "hang:0.05"]) as http:
            client = RerankClient("jina_key", http_client=http, timeout=60.0, deadline=None, retry=retry)
            answers = [await client.rerank("organic", ["food", "organic food"]) for _ in range(100)]
            assert {tuple(answer.documents) for answer in answers} == {("organic food", "food")}
            log = (await http.get("/_emulator/requests")).json()
            assert log["requests"] == sum(answer.attempts for answer in answers) > 150
            assert log["by_fault"].keys() == {fault.partition(":")[0] for fault in [*faults, "slow", "hang"]}
            await client.aclose()

    virtual_time.run(main)
