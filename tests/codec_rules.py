"""What must hold of the codec whatever comes in: for Hypothesis (`tests/test_fuzz.py`) and atheris (`make atheris`)."""

import json
import math
from collections.abc import Mapping

from jina_rerank import APIStatusError, ResponseFormatError
from jina_rerank._codec import Ranking, decode
from jina_rerank._status_errors import error_from_response, retry_after

COUNT = 4
"""Documents of the requests that the answers are for."""

ANSWER = json.dumps(
    {
        "model": "jina-reranker-v3.5",
        "usage": {"total_tokens": 15},
        "results": [{"index": i, "relevance_score": 0.5 - i / 8, "embedding": [0.1, -1e-9]} for i in (2, 0, 3, 1)],
    }
).encode()


def assert_decodes(body: bytes, top_n: int | None = None) -> None:
    """A ranking that obeys the rules, or an error of a bearable length."""
    try:
        ranking = decode(body, documents=COUNT, top_n=top_n)
    except ResponseFormatError as error:
        text = str(error)
    else:
        _assert_obeys(ranking, COUNT, top_n)
        return
    assert len(text) < 500


def _assert_obeys(ranking: Ranking, count: int, top_n: int | None) -> None:
    expected = count if top_n is None else min(top_n, count)
    assert len(ranking.indices) == len(ranking.scores) == expected
    assert len(set(ranking.indices)) == expected
    assert all(type(index) is int and 0 <= index < count for index in ranking.indices)
    assert all(type(score) is float and math.isfinite(score) for score in ranking.scores)
    assert ranking.scores == sorted(ranking.scores, reverse=True)
    assert ranking.embeddings is None or len(ranking.embeddings) == expected
    assert ranking.usage is None or ranking.usage.total_tokens >= 0


def assert_refuses(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """An error that can be shown, with the status."""
    error = error_from_response(status, headers, body, url="https://x", now=0.0)
    assert isinstance(error, APIStatusError)
    assert error.status == status
    assert len(error.message) <= 501
    assert str(error)


def assert_waits(headers: Mapping[str, str], now: float) -> None:
    """A wait that can be slept, or none."""
    wait = retry_after(headers, now)
    assert wait is None or (0 <= wait < math.inf)
