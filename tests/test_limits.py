"""The emulator's rate limits and balance, over minutes of virtual time."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from jina_rerank import RateLimit
from jina_rerank.emulator import TIERS, LexicalScorer, create_app

from . import virtual_time

KEYS = "https://jina.ai/api-dashboard/key-manager"
UPGRADE = f"upgrade your plan at {KEYS}."
WAIT = "Wait for pending requests to complete before sending new ones."


anyio_backend = virtual_time.backend


class Caller:
    """Sends requests of a given number of tokens to an emulator."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def ask(self, tokens: int = 2, key: str = "jina_one", **fields: object) -> httpx.Response:
        """Send a request of `tokens` tokens: one for the query, the others for the document."""
        body = {"model": "jina-reranker-v3.5", "query": "a", "documents": ["b " * (tokens - 1)]}
        return await self.http.post("/v1/rerank", json=body | fields, headers={"Authorization": f"Bearer {key}"})


@asynccontextmanager
async def emulator(**options: Any) -> AsyncIterator[Caller]:
    transport = httpx.ASGITransport(create_app(**options))
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as http:
        yield Caller(http)


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and message of an error in the flat envelope."""
    body = response.json()
    assert list(body) == ["detail", "request_id", "code"]
    assert re.fullmatch("[0-9a-f]{32}", body["request_id"])
    assert "retry-after" not in response.headers
    return response.status_code, body["code"], body["detail"]


@pytest.mark.parametrize(
    ("tier", "figures"),
    [("free", (2, 100, 100_000)), ("paid", (50, 500, 2_000_000)), ("premium", (500, 5_000, 50_000_000))],
)
def test_tiers_match_hosted_api(tier: str, figures: tuple[int, int, int]) -> None:
    limits = TIERS[tier]
    assert (limits.concurrency, limits.requests_per_minute, limits.tokens_per_minute) == figures


@pytest.mark.anyio
async def test_concurrency_limit_refuses_third_request() -> None:
    async with emulator(limits=TIERS["free"], latency=1.0) as caller, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(caller.ask)
        await anyio.sleep(0.5)
        assert refusal(await caller.ask()) == (
            429,
            "RATE_CONCURRENCY_LIMIT_EXCEEDED",
            f"Concurrency limit exceeded: 2/2 concurrent requests. {WAIT}",
        )
        assert (await caller.ask(key="jina_two")).status_code == 200
        assert (await caller.ask()).status_code == 200


@pytest.mark.anyio
async def test_request_limit_refuses_101st_request() -> None:
    async with emulator(limits=TIERS["free"]) as caller:
        for _ in range(100):
            assert (await caller.ask()).status_code == 200
        assert refusal(await caller.ask()) == (
            429,
            "RATE_REQUEST_LIMIT_EXCEEDED",
            f"Request rate limit exceeded: 100/100 requests per minute. Reduce request frequency or {UPGRADE}",
        )


@pytest.mark.anyio
async def test_token_limit_counts_this_request_and_reported_usage() -> None:
    async with emulator(limits=TIERS["free"]) as caller:
        answer = await caller.ask(tokens=99_000, documents=["b " * 8_000] * 12 + ["b " * 2_999])
        assert answer.json()["usage"] == {"total_tokens": 99_000}
        assert refusal(await caller.ask(tokens=1_001)) == (
            429,
            "RATE_TOKEN_LIMIT_EXCEEDED",
            f"Token rate limit exceeded: 100,001/100,000 tokens per minute. Reduce batch sizes or {UPGRADE}",
        )
        assert (await caller.ask(tokens=1_000)).status_code == 200


@pytest.mark.parametrize("limits", [RateLimit(requests_per_minute=3), RateLimit(tokens_per_minute=30)])
@pytest.mark.anyio
async def test_window_slides_and_excludes_refused_requests(limits: RateLimit) -> None:
    async with emulator(limits=limits) as caller:
        start = anyio.current_time()
        accepted: list[float] = []
        for _ in range(90):  # every two seconds, although only three a minute are allowed
            if (await caller.ask(tokens=10)).status_code == 200:
                accepted.append(anyio.current_time() - start)
            await anyio.sleep(2)
    assert accepted == [0, 2, 4, 60, 62, 64, 120, 122, 124]


@pytest.mark.anyio
async def test_invalid_request_does_not_count_against_limits() -> None:
    async with emulator(limits=RateLimit(requests_per_minute=1)) as caller:
        for _ in range(3):
            assert (await caller.ask(top_n=0)).status_code == 422
            assert (await caller.ask(model="gpt-rerank")).status_code == 400
        assert (await caller.ask()).status_code == 200


@pytest.mark.anyio
async def test_cancelled_or_failed_request_releases_its_slot() -> None:
    class Broken(LexicalScorer):
        def score(self, *_: object, **__: object) -> list[float]:
            raise ZeroDivisionError

    async with emulator(limits=RateLimit(concurrency=1), latency=10.0, scorer=Broken()) as caller:
        with anyio.move_on_after(1):
            await caller.ask()
        assert [(await caller.ask()).status_code for _ in range(2)] == [500, 500]


@pytest.mark.anyio
async def test_answers_report_remaining_limits() -> None:
    async with emulator(limits=TIERS["free"]) as caller:
        for requests, tokens in [("99", "99990"), ("98", "99980")]:
            headers = (await caller.ask(tokens=10)).headers
            assert headers["x-ratelimit-remaining-requests"] == requests
            assert headers["x-ratelimit-remaining-tokens"] == tokens
    async with emulator() as caller:
        assert not [name for name in (await caller.ask()).headers if "ratelimit" in name]


@pytest.mark.anyio
async def test_exhausted_balance_refuses_requests() -> None:
    async with emulator(balance=25) as caller:
        assert [(await caller.ask(tokens=10)).status_code for _ in range(2)] == [200, 200]
        assert refusal(await caller.ask(tokens=10)) == (
            403,
            "AUTHZ_INSUFFICIENT_BALANCE",
            f"Insufficient account balance. Top up your account at {KEYS}.",
        )
        await anyio.sleep(3600)
        assert (await caller.ask(tokens=6)).status_code == 403
        assert (await caller.ask(tokens=6, key="jina_two")).status_code == 200


def test_balance_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="balance must be"):
        create_app(balance=-1)


@pytest.mark.anyio
async def test_container_has_one_account() -> None:
    async with emulator(limits=RateLimit(requests_per_minute=1), serving="jina-reranker-v3.5") as caller:
        assert [(await caller.ask(key=key)).status_code for key in ("jina_one", "jina_two")] == [200, 429]


@pytest.mark.anyio
async def test_any_sliding_minute_stays_within_request_limit() -> None:
    async with emulator(limits=TIERS["free"], latency=0.2) as caller:
        served: list[float] = []

        async def work() -> None:
            while len(served) < 500:
                if (await caller.ask(tokens=500)).status_code == 200:
                    served.append(anyio.current_time())
                else:
                    await anyio.sleep(3)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(work)
    served.sort()
    in_any_minute = [sum(start <= time < start + 60 for time in served) for start in served]
    assert max(in_any_minute) == 100
