"""Whatever comes in, what comes out is a ranking that obeys the rules, or a RerankError."""

import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from jina_rerank import InvalidRequestError
from jina_rerank._codec import WireRequest, encode
from jina_rerank._endpoint import check_headers, is_loopback, resolve_endpoint
from jina_rerank.errors import ConfigurationError

from .codec_rules import ANSWER, COUNT, assert_decodes, assert_refuses, assert_waits

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
"""Of each test; `make fuzz` asks for more."""

fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.timeout(120 if EXAMPLES <= 200 else 7_200)

KEY = "jina_canary0123456789"

_numbers = st.integers() | st.floats() | st.integers(-2, 9) | st.sampled_from([10**400, -(10**4000), 2**63, 1e308])
_scalars = st.none() | st.booleans() | _numbers | st.text(st.characters(codec=None), max_size=9)
_names = st.sampled_from(
    [
        "results",
        "data",
        "index",
        "relevance_score",
        "score",
        "embedding",
        "usage",
        "meta",
        "tokens",
        "total_tokens",
        "detail",
        "error",
        "message",
        "code",
        "errors",
        "loc",
        "msg",
        "type",
        "request_id",
    ]
) | st.text(max_size=5)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_names, inner, max_size=5), max_leaves=30
)
_results = st.lists(
    st.fixed_dictionaries(
        {"index": st.integers(-1, COUNT) | _json, "relevance_score": st.floats(-2, 2) | _json},
        optional={"embedding": st.lists(st.floats(), max_size=3) | _json, "document": _json},
    ),
    max_size=COUNT + 1,
)
_whole = st.permutations(range(COUNT)).flatmap(
    lambda order: st.tuples(
        *[st.fixed_dictionaries({"index": st.just(i), "relevance_score": st.floats(-2, 2)}) for i in order]
    ).map(list)
)
_answers = st.fixed_dictionaries({"results": _whole | _results | _json}, optional={"usage": _json, "meta": _json})


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A good answer after some accidents: bytes that are lost, doubled, changed or put in."""
    body = bytearray(ANSWER)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        end = min(len(body), at + draw(st.integers(0, 12)))
        how = draw(st.sampled_from(["lose", "double", "change", "insert"]))
        if how == "lose":
            del body[at:end]
        elif how == "double":
            body[at:at] = body[at:end]
        elif how == "change" and at < len(body):
            body[at] = draw(st.integers(0, 255))
        else:
            body[at:at] = draw(st.binary(max_size=6))
    return bytes(body)


def _written(value: Any) -> bytes:
    """JSON as a careless server writes it: with NaN, lone surrogates, endless integers, and names that come twice."""
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    if len(text) % 7 == 0:
        text = text.replace(b'{"results"', b'{"results": 1, "results"', 1)
    return text.replace(b"0" * 4000, b"0" * 5000)


@fuzz
@given(_mutated(), st.none() | st.integers(1, 6))
def test_mutated_answer(body: bytes, top_n: int | None) -> None:
    assert_decodes(body, top_n)


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    assert_decodes(body)


@fuzz
@given(_answers | _json, st.none() | st.integers(1, 6))
def test_any_json(answer: Any, top_n: int | None) -> None:
    assert_decodes(_written(answer), top_n)


@fuzz
@given(st.integers(300, 999), st.dictionaries(_names, st.text(max_size=20)), _json | st.binary(max_size=99))
def test_any_refusal(status: int, headers: dict[str, str], content: Any) -> None:
    body = content if isinstance(content, bytes) else _written(content)
    assert_refuses(status, headers, body)


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "x-request-id"]),
        st.text(max_size=40) | _numbers.map(lambda number: f"{number:.3}" if isinstance(number, float) else "7" * 300),
    ),
    st.floats(0, 4e9),
)
def test_any_wait(headers: dict[str, str], now: float) -> None:
    assert_waits(headers, now)


@fuzz
@given(
    st.text(st.characters(codec=None)),
    st.lists(st.text(st.characters(codec=None)) | st.fixed_dictionaries({"image": st.text()}), max_size=50),
    st.none() | st.dictionaries(st.text(max_size=5), _json, max_size=3),
)
def test_any_request(query: str, documents: Sequence[Any], extra: dict[str, Any] | None) -> None:
    request = WireRequest(model="m", query=query, documents=list(documents), extra_body=extra)
    try:
        read = json.loads(encode(request))
    except InvalidRequestError:
        with pytest.raises(ValueError, match=r"surrogates|JSON compliant"):  # a lone surrogate, NaN or an infinity
            json.dumps([query, documents, extra], ensure_ascii=False, allow_nan=False).encode()
        return
    for name, value in {"query": query, "documents": documents}.items():
        if name not in (extra or {}):
            assert read[name] == value


@fuzz
@given(st.text(max_size=60) | st.from_regex(r"(https?|ftp)://[^ ]{0,30}", fullmatch=True), st.text(max_size=9))
def test_any_base_url_and_key(base_url: str, tail: str) -> None:
    try:
        endpoint = resolve_endpoint(
            SecretStr(KEY + tail), base_url, allow_insecure=False, variable=dict[str, str]().get
        )
    except ConfigurationError as error:
        shown = f"{error} {error!r}"
    else:
        shown = repr(endpoint)
        assert endpoint.url.endswith("/rerank")
        assert endpoint.url.startswith("https:") or is_loopback(urlsplit(endpoint.url).hostname or "")
    assert KEY not in shown


@fuzz
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12) | _json, max_size=3) | _json)
def test_any_headers(headers: Any) -> None:
    try:
        checked = check_headers(headers, has_key=True)
    except ConfigurationError:
        return
    for name, value in checked.items():
        assert f"{name}: {value}".isascii()
        assert "\n" not in value
        assert "\r" not in value
