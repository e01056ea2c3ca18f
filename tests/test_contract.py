"""What the client sends, and what it makes of the answer, at the seam of httpx."""

import copy
import json
import linecache
import pickle
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import anyio
import httpx
import pytest
import respx
from pydantic import SecretStr, ValidationError

import jina_rerank
from jina_rerank import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ImageDocument,
    InvalidRequestError,
    RerankClient,
    RerankRequest,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
    TextDocument,
)
from jina_rerank.documents import Document

pytestmark = [pytest.mark.smoke, pytest.mark.anyio]

URL = "https://api.jina.ai/v1/rerank"
PIXEL = "iVBORw0KGgo="


@pytest.fixture
def api() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


def ranked(*pairs: tuple[int, float], **fields: Any) -> httpx.Response:
    results = [{"index": index, "relevance_score": score} for index, score in pairs]
    return httpx.Response(200, json={"model": "m", "usage": {"total_tokens": 5}, "results": results, **fields})


def echo(request: httpx.Request) -> httpx.Response:
    """Scores documents by their position, the first the best."""
    count = len(json.loads(request.content)["documents"])
    return ranked(*[(i, 1 - i / 100) for i in range(count)])


def sent(route: respx.Route) -> Any:
    return json.loads(route.calls.last.request.content)


PUBLIC_NAMES = [
    "RerankClient",
    "SyncRerankClient",
    "RerankRequest",
    "TextDocument",
    "ImageDocument",
    "Usage",
    "RetryPolicy",
    "RateLimit",
    "RerankResponse",
    "RerankResult",
    "RerankOutcome",
    "BatchProgress",
    "Totals",
    "Document",
    "RerankStream",
    "SyncRerankStream",
    "RerankError",
    "ConfigurationError",
    "InvalidRequestError",
    "ClientClosedError",
    "DeadlineExceededError",
    "APIConnectionError",
    "APITimeoutError",
    "ResponseFormatError",
    "APIStatusError",
    "BadRequestError",
    "AuthenticationError",
    "InsufficientBalanceError",
    "PermissionDeniedError",
    "NotFoundError",
    "RequestTooLargeError",
    "UnprocessableEntityError",
    "RateLimitError",
    "ServerError",
]


def test_all_public_names_exist() -> None:
    assert set(PUBLIC_NAMES) | {"__version__"} == set(jina_rerank.__all__)
    assert all(hasattr(jina_rerank, name) for name in PUBLIC_NAMES)


def test_importing_package_imports_no_optional_dependency() -> None:
    # httpx imports rich for its own command line if it is installed, so its modules are not counted.
    code = "import sys, httpx; floor = set(sys.modules); import jina_rerank; print(*(set(sys.modules) - floor))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    roots = {name.partition(".")[0] for name in loaded}
    assert {"jina_rerank", "pydantic", "tenacity"} <= roots
    assert roots & {"typer", "rich", "starlette", "uvicorn", "onnxruntime", "numpy", "langchain_core", "trio"} == set()


async def test_smallest_request(api: respx.MockRouter) -> None:
    route = api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key") as client:
        await client.rerank("a query", ["one", "two"])
    assert sent(route) == {
        "model": "jina-reranker-v3.5",
        "query": "a query",
        "documents": ["one", "two"],
        "top_n": 2,
        "return_documents": False,
    }
    headers = route.calls.last.request.headers
    assert headers["authorization"] == "Bearer jina_key"
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "gzip"
    assert headers["user-agent"].startswith(f"jina-rerank/{jina_rerank.__version__} python/3.")


async def test_every_option_goes_out_under_its_name(api: respx.MockRouter) -> None:
    route = api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key", model="jina-reranker-v3", headers={"X-Team": "search"}) as client:
        await client.rerank(
            TextDocument(text="q"),
            ["a", "b"],
            model="jina-reranker-v3.5",
            top_n=2,
            return_embeddings=True,
            max_doc_length=100,
            extra_body={"instruction": "be strict", "nothing": None},
        )
    assert sent(route) == {
        "model": "jina-reranker-v3.5",
        "query": "q",
        "documents": ["a", "b"],
        "top_n": 2,
        "return_documents": False,
        "return_embeddings": True,
        "max_doc_length": 100,
        "instruction": "be strict",
        "nothing": None,
    }
    assert route.calls.last.request.headers["x-team"] == "search"


async def test_texts_go_out_as_bare_strings_and_images_as_objects(api: respx.MockRouter, tmp_path: Path) -> None:
    route = api.post(URL).mock(side_effect=echo)
    file = tmp_path / "pixel.png"
    file.write_bytes(b"\x89PNG")
    documents: list[Document] = [
        "a string",
        TextDocument(text="a text document"),
        {"text": "a mapping", "source": "ours, not sent"},
        {"image": "https://example.com/a.png"},
        ImageDocument(image=f"data:image/png;base64,{PIXEL}"),
        ImageDocument.from_file(file),
    ]
    async with RerankClient("jina_key", model="jina-reranker-m0") as client:
        response = await client.rerank(ImageDocument(image="http://example.com/q.png"), documents)
    assert sent(route)["query"] == {"image": "http://example.com/q.png"}
    assert sent(route)["documents"] == [
        "a string",
        "a text document",
        "a mapping",
        {"image": "https://example.com/a.png"},
        {"image": PIXEL},
        {"image": "iVBORw=="},
    ]
    assert all(a is b for a, b in zip(response.documents, documents, strict=True))


@dataclass
class Article:
    title: str


async def test_original_objects_are_returned_best_first(api: respx.MockRouter) -> None:
    articles = [Article("low"), Article("high"), Article("middle")]
    route = api.post(URL).mock(return_value=ranked((0, -3.5), (1, 12), (2, 0.25)))
    async with RerankClient("jina_key") as client:
        response = await client.rerank("q", articles, key=lambda article: article.title)
    assert sent(route)["documents"] == ["low", "high", "middle"]
    assert [result.index for result in response.results] == [1, 2, 0]
    assert [result.relevance_score for result in response.results] == [12.0, 0.25, -3.5]
    assert [result.document is articles[result.index] for result in response.results] == [True] * 3
    assert response.model == "m"
    assert response.usage is not None
    assert response.usage.total_tokens == 5
    assert (response.attempts, response.calls, response.strategy, response.degraded) == (1, 1, "single", False)
    assert response.headers["content-type"] == "application/json"


async def test_results_are_a_sequence(api: respx.MockRouter) -> None:
    api.post(URL).mock(side_effect=echo)
    documents = [f"d{number}" for number in range(300)]
    async with RerankClient("jina_key") as client:
        results = (await client.rerank("q", documents)).results
    listed = list(results)
    assert [result.document for result in listed] == documents
    assert (results[-1], results[::-99], listed.index(results[260])) == (listed[-1], listed[::-99], 260)
    assert (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)) == (results, results)  # our own
    assert results == listed == results == tuple(listed)
    assert results != listed[1:]
    assert results != 3
    assert results == ANY  # any other type may define its own comparison
    with pytest.raises(IndexError):
        results[300]


async def test_equal_scores_keep_the_order_given(api: respx.MockRouter) -> None:
    api.post(URL).mock(return_value=ranked((3, 0.5), (1, 0.5), (2, 0.9), (0, 0.5)))
    async with RerankClient("jina_key") as client:
        response = await client.rerank("q", ["a", "b", "c", "d"])
    assert response.documents == ["c", "a", "b", "d"]


async def test_top_n_is_capped_at_number_of_documents(api: respx.MockRouter) -> None:
    route = api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key") as client:
        assert (await client.rerank("q", ["a", "b", "c"], top_n=1)).documents == ["a"]
        assert sent(route)["top_n"] == 1
        assert len((await client.rerank("q", ["a", "b", "c"], top_n=50)).results) == 3
        assert sent(route)["top_n"] == 3


async def test_empty_list_sends_nothing(api: respx.MockRouter) -> None:
    async with RerankClient("jina_key") as client:
        nothing: list[str] = []
        response = await client.rerank("q", nothing)
        blank = await client.rerank("q", ["", " \n"], top_n=1)
    assert (list(response.results), response.documents, response.attempts, response.calls) == ([], [], 0, 0)
    assert [(result.index, result.relevance_score) for result in blank.results] == [(0, 0.0)]
    assert len(api.calls) == 0


async def test_blank_documents_are_not_sent_and_rank_last(api: respx.MockRouter) -> None:
    route = api.post(URL).mock(return_value=ranked((1, 0.7), (0, -0.2)))
    async with RerankClient("jina_key") as client:
        response = await client.rerank("q", ["", "low", "\t", "high"])
        cut = await client.rerank("q", ["", "low", "\t", "high"], top_n=3)
    assert sent(route)["documents"] == ["low", "high"]
    assert [(r.index, r.relevance_score) for r in response.results] == [(3, 0.7), (1, -0.2), (0, -0.2), (2, -0.2)]
    assert [r.index for r in cut.results] == [3, 1, 0]
    assert [json.loads(call.request.content)["top_n"] for call in api.calls] == [2, 2]


async def test_clone_has_other_options_and_closes_nothing(api: respx.MockRouter) -> None:
    route = api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key", headers={"X-A": "1", "X-B": "1"}) as client:
        clone = client.with_options(model="jina-reranker-v3", headers={"x-b": "2"}, timeout=None, deadline=5)
        await clone.aclose()
        await clone.rerank("q", ["a"])
        assert sent(route)["model"] == "jina-reranker-v3"
        assert [route.calls.last.request.headers[name] for name in ("x-a", "x-b")] == ["1", "2"]
        await client.rerank("q", ["a"])
        assert sent(route)["model"] == "jina-reranker-v3.5"
    with pytest.raises(ClientClosedError):
        await clone.rerank("q", ["a"])
    with pytest.raises(ClientClosedError):
        await client.rerank("q", [])


async def test_clone_with_fallback_returns_order_given(api: respx.MockRouter) -> None:
    api.post(URL).mock(return_value=httpx.Response(503))
    async with RerankClient("jina_key", retry=RetryPolicy(max_attempts=1)) as client:
        clone = client.with_options(fallback="original_order")
        assert (await clone.rerank("q", ["a", "b"])).degraded
        with pytest.raises(ServerError):
            await client.rerank("q", ["a", "b"])
        with pytest.raises(ServerError):
            await clone.with_options(fallback=None).rerank("q", ["a", "b"])


async def test_clone_with_max_documents_and_scoring_splits(api: respx.MockRouter) -> None:
    api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key", base_url="https://api.jina.ai", model="unknown") as client:
        clone = client.with_options(max_documents=2, scoring="pointwise")
        assert (await clone.rerank("q", ["a", "b", "c"])).calls == 2
        assert (await clone.with_options(max_documents=3).rerank("q", ["a", "b", "c"])).calls == 1
        assert (await clone.with_options(scoring=None).rerank("q", ["a", "b", "c"])).calls == 1
        assert (await client.rerank("q", ["a", "b", "c"])).calls == 1


@pytest.mark.parametrize("option", ["rate_limit", "base_url", "api_key", "proxy"])
def test_clone_with_option_of_all_clones_raises_configuration_error(option: str) -> None:
    options: dict[str, Any] = {option: None}
    with pytest.raises(ConfigurationError, match=rf"{option}: with_options\(\) does not take it, but timeout, "):
        RerankClient("jina_key").with_options(**options)


async def test_response_is_data_that_json_takes(api: respx.MockRouter) -> None:
    api.post(URL).mock(return_value=ranked((0, 0.5), id="x"))
    async with RerankClient("jina_key") as client:
        response = await client.rerank("q", [Article("a")], key=lambda article: article.title)
    data = json.loads(json.dumps(response.to_dict()))
    assert data["results"] == [{"index": 0, "relevance_score": 0.5, "document": {"title": "a"}}]
    assert data["extra"] == {"id": "x"}
    api.post(URL).mock(return_value=ranked((0, 0.5)))
    async with RerankClient("jina_key") as client:
        binary = await client.rerank("q", [b"\xff"], key=lambda _: "a")
    assert json.loads(json.dumps(binary.to_dict()))["results"][0]["document"] == "_w=="
    assert data["cause"] is None


BAD_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "a blank query": ({"query": " \n"}, "query: it is blank"),
    "no query": ({"query": None}, "query: expected a str"),
    "one text for documents": ({"documents": "text"}, "documents: .*put it in a list"),
    "bytes for documents": ({"documents": b"text"}, "documents: .*put it in a list"),
    "one mapping for documents": ({"documents": {"text": "a"}}, "documents: .*put it in a list"),
    "one model for documents": ({"documents": TextDocument(text="a")}, "documents: .*put it in a list"),
    "a number for documents": ({"documents": 3}, "documents: expected a sequence"),
    "a document of no known kind": ({"documents": ["a", 3]}, r"documents\[1\].*key=.*got int"),
    "a mapping without text or image": ({"documents": [{"title": "a"}]}, r"documents\[0\].*neither"),
    "a mapping with both": ({"documents": [{"text": "a", "image": PIXEL}]}, r"documents\[0\].*both"),
    "a file name as image": ({"documents": [{"image": "cat.png"}]}, r"documents\[0\].*from_file"),
    "a key that gives no document": ({"documents": ["a"], "key": len}, r"documents\[0\].*got int"),
    "a text that is no unicode": ({"documents": ["a", "\ud800"]}, r"documents\[1\].*UTF-8"),
    "top_n of 0": ({"top_n": 0}, "top_n: .*greater than or equal to 1; leave it out"),
    "top_n of true": ({"top_n": True}, "top_n: .*integer"),
    "top_n as text": ({"top_n": "3"}, "top_n: .*integer"),
    "max_doc_length of 0": ({"max_doc_length": 0}, "max_doc_length: "),
    "an empty model": ({"model": ""}, "model: "),
    "a deadline of 0": ({"deadline": 0}, "deadline: expected a positive"),
    "a deadline as text": ({"deadline": "1"}, "deadline: expected seconds"),
    "extra_body that competes": ({"extra_body": {"top_n": 1}}, "extra_body: top_n"),
    "extra_body that is no JSON": ({"extra_body": {"x": object()}}, "x: .*JSON"),
    "extra_body with a figure that JSON has not": ({"extra_body": {"x": [float("nan")]}}, "x: .*JSON"),
    "an image for a text model": ({"documents": [{"image": PIXEL}]}, "documents: jina-reranker-v3.5 reads no images"),
    "an image query for a text model": (
        {"query": ImageDocument(image=PIXEL)},
        "query: jina-reranker-v3.5 reads no images",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
async def test_bad_input_is_refused_before_the_network(
    api: respx.MockRouter, arguments: dict[str, Any], message: str
) -> None:
    async with RerankClient("jina_key") as client:
        with pytest.raises(InvalidRequestError, match=message) as caught:
            await client.rerank(**{"query": "q", "documents": ["a"], **arguments})
    assert isinstance(caught.value, ValueError)
    assert len(api.calls) == 0


BAD_CLIENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no key for the hosted API": ({"api_key": None}, "JINA_API_KEY"),
    "a blank key": ({"api_key": "  "}, "api_key: it is blank"),
    "a key with a line break inside": ({"api_key": "jina_secret\nx"}, "api_key: "),
    "a key that is no text": ({"api_key": 3}, "api_key: expected"),
    "a key over http": ({"base_url": "http://example.com"}, "unencrypted.*allow_insecure"),
    "a base_url without a scheme": ({"base_url": "example.com"}, "base_url: "),
    "a base_url of another scheme": ({"base_url": "ftp://example.com"}, "base_url: "),
    "a base_url with user info": ({"base_url": "https://me:jina_secret@example.com"}, "base_url: user info"),
    "a base_url with a query": ({"base_url": "https://example.com/?key=jina_secret"}, "base_url: user info, a query"),
    "a base_url with a line break": ({"base_url": "https://exam\nple.com"}, "base_url: "),
    "a base_url with a broken port": ({"base_url": "https://example.com:x"}, "base_url: "),
    "a base_url with half an address": ({"base_url": "https://[::1"}, "base_url: "),
    "a base_url with a host that is no name": ({"base_url": "https://-ä-.com"}, "base_url: "),
    "a timeout of 0": ({"timeout": 0}, "timeout: "),
    "an endless timeout": ({"timeout": float("inf")}, "timeout: "),
    "a negative deadline": ({"deadline": -1}, "deadline: "),
    "a blank model": ({"model": " "}, "model: "),
    "a model that is no name": ({"model": 3}, "model: "),
    "a timeout of no float": ({"timeout": 10**400}, "timeout: "),
    "headers in pairs": ({"headers": [("X-A", "jina_secret")]}, "headers: expected a mapping"),
    "a proxy without a scheme": ({"proxy": "me:jina_secret@localhost:80"}, "proxy: expected a URL"),
    "a proxy with half an address": ({"proxy": "http://me:jina_secret@[::1"}, "proxy: expected a URL"),
    "a proxy with a bad port": ({"proxy": "http://me:jina_secret@localhost:99999"}, "proxy: expected a URL"),
    "certificates of another kind": ({"verify": 0}, "verify: expected"),
    "no concurrency at all": ({"max_concurrency": 0}, "max_concurrency: "),
    "no documents at a time": ({"max_documents": 0}, "max_documents: "),
    "no number of documents": ({"max_documents": None}, "max_documents: expected a positive integer; got None"),
    "a rate limit of another kind": ({"rate_limit": 100}, "rate_limit: expected a RateLimit, got int"),
    "a scoring of its own": ({"scoring": "pairwise"}, "scoring: expected 'pointwise' or 'listwise'"),
    "a hedge at once": ({"hedge_after": 0}, "hedge_after: "),
    "a fallback of its own": ({"fallback": "random"}, "fallback: expected 'original_order', or None"),
    "a transport of its own": ({"transport": "curl"}, "transport: expected 'httpx' or 'aiohttp', got 'curl'"),
    "an HTTP client and aiohttp": ({"http_client": httpx.AsyncClient, "transport": "aiohttp"}, "http_client: "),
    "a number of retries": ({"retry": 3}, "retry: .*RetryPolicy"),
    "a header with a line break": ({"headers": {"X-A": "jina_secret\r\nX-B: 2"}}, "headers: the value of X-A"),
    "a header with a bad name": ({"headers": {"X A": "1"}}, "headers: a name"),
    "a header of the client's": ({"headers": {"Content-Length": "1"}}, "headers: Content-Length"),
    "two keys": ({"headers": {"Authorization": "Bearer jina_secret"}}, "headers: Authorization"),
    "a proxy of no known scheme": ({"proxy": "ftp://me:jina_secret@localhost"}, "proxy: "),
    "certificates that are not there": ({"verify": "/no/such/file"}, "verify: "),
    "an HTTP client of another kind": ({"http_client": 3}, "http_client: "),
    "an HTTP client and a proxy": ({"http_client": httpx.AsyncClient, "proxy": "http://localhost"}, "http_client: "),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_CLIENTS.values(), ids=BAD_CLIENTS)
def test_bad_configuration_is_refused_at_once(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODY_ELSES", "secret of another program")
    with pytest.raises(ConfigurationError, match=message) as caught:
        RerankClient(**{"api_key": "jina_secret", **arguments})
    assert isinstance(caught.value, ValueError)
    assert "secret" not in f"{caught.value} {caught.value!r}"
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [frame for frame in frames if frame.filename != __file__]
    shown = {name: value for frame in ours for name, value in (frame.locals or {}).items()}
    # base_url, proxy and headers are shown as the caller wrote them; the key and the environment are not.
    assert "secret" not in str({name: value for name, value in shown.items() if name in ("api_key", "key")})
    assert "another program" not in str(shown)


PATHS = {
    "https://example.com": "https://example.com/v1/rerank",
    "https://example.com/": "https://example.com/v1/rerank",
    "https://example.com/v1": "https://example.com/v1/rerank",
    "https://example.com/tenant/jina/": "https://example.com/tenant/jina/rerank",
    "https://example.com/rerank": "https://example.com/rerank",
    "https://example.com:8443/v2/rerank/": "https://example.com:8443/v2/rerank",
    "http://localhost:8000": "http://localhost:8000/v1/rerank",
    "http://[::1]:8000/v1": "http://[::1]:8000/v1/rerank",
}


@pytest.mark.parametrize(("base_url", "url"), PATHS.items())
async def test_any_common_form_of_base_url_is_taken(api: respx.MockRouter, base_url: str, url: str) -> None:
    route = api.post(url).mock(side_effect=echo)
    async with RerankClient("jina_key", base_url=base_url) as client:
        await client.rerank("q", ["a"])
    assert route.called


async def test_environment_key_is_sent_only_to_jina_or_environment_server(
    api: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = api.post(url__regex=".*").mock(side_effect=echo)
    monkeypatch.setenv("JINA_API_KEY", " jina_env ")

    async def authorization(**arguments: Any) -> object:
        async with RerankClient(**arguments) as client:
            await client.rerank("q", ["a"])
        headers: httpx.Headers = route.calls.last.request.headers
        return headers.get("authorization")

    assert await authorization() == "Bearer jina_env"
    assert await authorization(base_url="https://api.jina.ai") == "Bearer jina_env"
    assert await authorization(base_url="https://example.com") is None
    assert await authorization(api_key=SecretStr("mine"), base_url="https://example.com") == "Bearer mine"
    assert await authorization(api_key="mine") == "Bearer mine"
    monkeypatch.setenv("JINA_RERANK_BASE_URL", "http://localhost:9")
    assert await authorization() == "Bearer jina_env"
    assert route.calls.last.request.url == "http://localhost:9/v1/rerank"
    monkeypatch.setenv("JINA_API_KEY", "  ")
    assert await authorization() is None


async def test_key_over_http_requires_explicit_option(api: respx.MockRouter) -> None:
    api.post("http://gpu-box/v1/rerank").mock(side_effect=echo)
    async with RerankClient("jina_key", base_url="http://gpu-box", allow_insecure=True) as client:
        assert (await client.rerank("q", ["a"])).documents == ["a"]
    async with RerankClient(base_url="http://gpu-box") as client:
        assert (await client.rerank("q", ["a"])).documents == ["a"]


async def test_hosted_api_is_known_by_its_catalogue(api: respx.MockRouter) -> None:
    route = api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key") as client:
        with pytest.warns(DeprecationWarning, match="jina-reranker-v1-base-en.*use jina-reranker-v3.5") as warned:
            await client.rerank("q", ["a"], model="jina-reranker-v1-base-en")
        assert warned[0].filename == __file__
        await client.rerank("q", ["a"], model="jinaai/jina-reranker-v3")
        assert sent(route)["model"] == "jina-reranker-v3"
        await client.rerank("q", [{"image": PIXEL}], model="a-model-of-tomorrow")
        assert sent(route)["documents"] == [{"image": PIXEL}]


async def test_deprecated_model_warns_at_callers_line_from_every_entry_point(api: respx.MockRouter) -> None:
    api.post(URL).mock(side_effect=echo)
    old = "jina-reranker-v1-base-en"
    request = RerankRequest(query="q", documents=["a"], model=old)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with RerankClient("jina_key") as client:
            client.estimate_tokens(request)
            await client.rerank("q", ["a"], model=old)
            outcomes = client.rerank_many([request])
            assert [outcome.error async for outcome in outcomes] == [None]
            # In a separate thread, since a sync client blocks the event loop.
            await anyio.to_thread.run_sync(rank_in_sync, request)
    assert [each.filename for each in warned] == [__file__] * 6
    lines = [linecache.getline(__file__, each.lineno).split("(")[0].split(".")[-1] for each in warned]
    assert lines == ["estimate_tokens", "rerank", "rerank_many"] * 2


def rank_in_sync(request: RerankRequest) -> None:
    with SyncRerankClient("jina_key") as client:
        client.estimate_tokens(request)
        client.rerank("q", ["a"], model=request.model)
        outcomes = client.rerank_many([request])
        assert [outcome.error for outcome in outcomes] == [None]


async def test_other_servers_accept_any_model(api: respx.MockRouter) -> None:
    route = api.post("http://localhost:8000/v1/rerank").mock(side_effect=echo)
    async with RerankClient(base_url="http://localhost:8000", model="jinaai/jina-reranker-v1-base-en") as client:
        await client.rerank("q", [{"image": PIXEL}])
    assert sent(route)["model"] == "jinaai/jina-reranker-v1-base-en"


async def test_custom_http_client_keeps_transport_and_hooks_but_not_other_settings() -> None:
    seen: list[httpx.Request] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(request)

    def handler(request: httpx.Request) -> httpx.Response:
        return echo(request) if request.url.path == "/v1/rerank" else httpx.Response(500)

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(handler),
        event_hooks={"request": [hook]},
        auth=("me", "mine"),
        timeout=0.001,
        base_url="https://elsewhere.example",
        follow_redirects=True,
    ) as http_client:
        async with RerankClient("jina_key", http_client=http_client) as client:
            response = await client.rerank("q", ["a"])
        assert not http_client.is_closed
    assert response.documents == ["a"]
    assert [request.headers["authorization"] for request in seen] == ["Bearer jina_key"]
    assert seen[0].url == URL
    assert seen[0].extensions["timeout"] == {"connect": None, "read": None, "write": None, "pool": None}


async def test_http_client_from_a_factory_is_closed_with_ours() -> None:
    made: list[httpx.AsyncClient] = []

    def make() -> httpx.AsyncClient:
        made.append(httpx.AsyncClient(transport=httpx.MockTransport(echo)))
        return made[-1]

    async with RerankClient("jina_key", http_client=make) as client:
        assert made == []
        await client.rerank("q", ["a"])
        await client.rerank("q", ["a"])
    assert [http_client.is_closed for http_client in made] == [True]


@pytest.mark.parametrize("made", [None, 3, "client"])
async def test_factory_that_returns_no_http_client_raises(made: Any) -> None:
    async with RerankClient("jina_key", http_client=lambda: made) as client:
        with pytest.raises(ConfigurationError, match="http_client: the function must make"):
            await client.rerank("q", ["a"])


async def test_hook_that_raises_for_status_keeps_error_details() -> None:
    async def hook(response: httpx.Response) -> None:
        response.raise_for_status()

    asked = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(401)

    transport = httpx.MockTransport(handler)
    http_client = httpx.AsyncClient(transport=transport, event_hooks={"response": [hook]})
    async with http_client, RerankClient("jina_key", http_client=http_client) as client:
        with pytest.raises(AuthenticationError):
            await client.rerank("q", ["a"])
    assert asked == 1


async def test_closed_http_client_is_named() -> None:
    http_client = httpx.AsyncClient(transport=httpx.MockTransport(echo))
    await http_client.aclose()
    async with RerankClient("jina_key", http_client=http_client) as client:
        with pytest.raises(ClientClosedError, match="http_client"):
            await client.rerank("q", ["a"])


def test_request_object_is_validated_by_same_rules() -> None:
    mapping = {"text": "a"}
    request = RerankRequest(query="q", documents=[mapping, "b"], top_n=1)
    assert request.documents[0] is mapping
    mistakes: list[dict[str, Any]] = [
        {"query": " "},
        {"documents": "secret"},
        {"documents": [{}]},
        {"top_n": 0},
        {"x": 1},
    ]
    for mistake in mistakes:
        arguments: dict[str, Any] = {"query": "q", "documents": ["secret"], **mistake}
        with pytest.raises(ValidationError) as caught:
            RerankRequest(**arguments)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValidationError, match="frozen"):
        request.top_n = 2  # type: ignore[misc]  # that it is frozen is the point


def test_documents_are_checked_when_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="from_file"):
        ImageDocument(image="cat.png")
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(ValidationError):
        ImageDocument.from_file(empty)
    with pytest.raises(OSError, match="No such file"):
        ImageDocument.from_file(tmp_path / "none.png")


@pytest.mark.parametrize("bad", [{"max_attempts": 0}, {"base_delay": -1}, {"max_delay": float("nan")}, {"retries": 1}])
def test_retry_policy_is_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy(**bad)


@pytest.mark.asyncio
async def test_client_works_from_plain_asyncio(api: respx.MockRouter) -> None:
    api.post(URL).mock(side_effect=echo)
    client = RerankClient("jina_key")
    documents: Sequence[str] = ("a", "b")
    assert (await client.rerank("q", documents)).documents == ["a", "b"]
    await client.aclose()
    await client.aclose()


async def test_response_is_a_sequence_of_its_results(api: respx.MockRouter) -> None:
    api.post(URL).mock(side_effect=echo)
    async with RerankClient("jina_key") as client:
        response = await client.rerank("q", ["a", "b", "c"])
        nothing: list[str] = []
        empty = await client.rerank("q", nothing)
    assert len(response) == 3
    assert list(response) == list(response.results)
    assert response[0] == response.results[0]
    assert response[1:] == response.results[1:]
    assert response.scores == [result.relevance_score for result in response.results]
    assert (len(empty), list(empty), empty.scores) == (0, [], [])
    assert empty, "`if outcome.response` asks whether there is a response, not whether it holds a document"
