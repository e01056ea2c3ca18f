"""The emulator gives the answers that Jina's own server was seen to give."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from jina_rerank.emulator import create_app

pytestmark = pytest.mark.anyio


class Capture(NamedTuple):
    """One recorded exchange."""

    case: str
    model: str
    request: str
    status: int
    response: dict[str, Any]


LINES = (Path(__file__).parent / "data" / "captures.jsonl").read_text("utf-8").splitlines()
CAPTURES = [Capture(**json.loads(line)) for line in LINES]

# The hosted API requires a model, and has images for jina-reranker-m0 alone; what it answers instead.
HOSTED = {
    "no model": (422, "Validation error: 'body -> model' Field required"),
    "documents image": (422, "Validation error: 'body -> documents -> 0 -> text' Field required"),
}


@pytest.fixture
def anyio_backend() -> str:
    """One event loop is enough: that the emulator runs on all of them is tested elsewhere."""
    return "asyncio"


@pytest.fixture
async def container(capture: Capture) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(serving=capture.model))
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
        yield client


@pytest.fixture
async def hosted() -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer jina_any"}
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=headers) as client:
        yield client


async def send(client: httpx.AsyncClient, capture: Capture) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return await client.post("/v1/rerank", content=capture.request.encode(), headers=headers)


def without_request_id(text: str) -> str:
    """An error's body with its random part taken out."""
    return re.sub(r'"request_id":"[0-9a-f]{32}"', '"request_id":""', text)


def echoes(model: str, documents: object) -> dict[int, object]:
    """What was seen to come back for each of these documents, by index."""
    return {
        result["index"]: result["document"]
        for capture in CAPTURES
        if capture.model == model and capture.status == 200
        if json.loads(capture.request)["documents"] == documents
        for result in capture.response["results"]
        if "document" in result
    }


def assert_same(response: httpx.Response, capture: Capture) -> None:
    assert response.status_code == capture.status
    assert response.headers["content-type"] == "application/json"
    if capture.status != 200:
        recorded = json.dumps(capture.response, ensure_ascii=False, separators=(",", ":"))
        assert without_request_id(response.text) == without_request_id(recorded)
        return
    answer = response.json()
    assert list(answer) == list(capture.response)
    assert (answer["model"], answer["object"]) == (capture.model, "list")
    assert answer["usage"] == capture.response["usage"]
    assert [list(result) for result in answer["results"]] == [list(result) for result in capture.response["results"]]
    seen = echoes(capture.model, json.loads(capture.request)["documents"])
    assert all(result["document"] == seen[result["index"]] for result in answer["results"] if "document" in result)


def test_recording_is_complete() -> None:
    assert len(CAPTURES) == 72


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: f"{capture.model}-{capture.case}")
async def test_container_answers_as_recorded(container: httpx.AsyncClient, capture: Capture) -> None:
    assert_same(await send(container, capture), capture)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: f"{capture.model}-{capture.case}")
async def test_hosted_emulator_answers_like_recording(hosted: httpx.AsyncClient, capture: Capture) -> None:
    response = await send(hosted, capture)
    if capture.case in HOSTED:
        assert (response.status_code, response.json()["detail"]) == HOSTED[capture.case]
    else:
        assert_same(response, capture)
