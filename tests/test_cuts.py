"""A recorded answer, cut by the network at every byte: the whole result, or a typed error."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jina_rerank import APIConnectionError, RerankError, ResponseFormatError, RetryPolicy

from .servers import Play, RawServer, http, send_and_close, send_and_reset
from .ways import WAYS, Way

CAPTURE = json.loads((Path(__file__).parent / "data" / "captures.jsonl").read_text().splitlines()[1])
REQUEST = json.loads(CAPTURE["request"])
RESULTS = [(result["index"], result["relevance_score"]) for result in CAPTURE["response"]["results"]]
BODY = json.dumps(CAPTURE["response"]).encode()

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
FRAMINGS = {
    "a length": http(BODY),
    "chunks": HEAD
    + b"transfer-encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:50], BODY[50:90], BODY[90:], b"")),
    "closing": HEAD + b"connection: close\r\n\r\n" + BODY,
    "gzip": http(gzip.compress(BODY), content_encoding="gzip"),
    "gzip, until closing": HEAD + b"content-encoding: gzip\r\nconnection: close\r\n\r\n" + gzip.compress(BODY),
}


async def call_all(way: Way, server: RawServer, answer: bytes, cut: Callable[[bytes], Play]) -> dict[int, Any]:
    """What a call came to, by the bytes of the answer that arrived."""
    outcomes: dict[int, Any] = {}
    retry = RetryPolicy(max_attempts=1, quota=None)
    client = way.client("jina_key", base_url=server.url, retry=retry, timeout=5.0)
    for arrived in range(len(answer) + 1):
        server.plays = [cut(answer[:arrived])]
        try:
            response = await client.rerank(REQUEST["query"], REQUEST["documents"])
            outcomes[arrived] = [(result.index, result.relevance_score) for result in response.results]
        except RerankError as error:
            outcomes[arrived] = error
    await client.aclose()
    return outcomes


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("answer", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("cut", [send_and_close, send_and_reset])
def test_answer_cut_at_any_byte_is_whole_or_a_typed_error(
    answer: bytes, cut: Callable[[bytes], Play], way: Way
) -> None:
    with RawServer() as server:
        outcomes = way.run(lambda: call_all(way, server, answer, cut))
    assert len(outcomes) == len(answer) + 1
    assert len(server.requests) == len(outcomes)
    for arrived, outcome in outcomes.items():
        if isinstance(outcome, RerankError):
            assert type(outcome) in (APIConnectionError, ResponseFormatError), f"after {arrived} bytes"
            assert outcome.attempts == 1
        else:
            assert outcome == RESULTS, f"after {arrived} bytes"
    if cut is send_and_close:  # a reset may overtake the answer
        assert outcomes[len(answer)] == RESULTS
    assert isinstance(outcomes[len(answer) - 10], RerankError)
