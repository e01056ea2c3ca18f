"""Common user errors, and their messages: the field, the rule and the remedy."""

import json
import pickle
import re
from typing import Any

import pytest

from jina_rerank import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    RerankError,
    RerankRequest,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
    TextDocument,
)

from .servers import AbsentServer, RawServer, answer_body, http, send


class Table:
    """A DataFrame, as pandas and polars have it: iterating over it gives its column names, or its columns."""

    columns = ("title", "text")

    def __iter__(self) -> Any:
        return iter(self.columns)


class Whole:
    """An integer of another library, such as numpy's."""

    def __index__(self) -> int:
        return 2


ONCE = RetryPolicy(max_attempts=1)
MAPPING = {"title": "soup", "text": "onion"}
EMPTY: dict[str, None] = {"text": None}

CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "a DataFrame": ({"documents": Table()}, r'documents: .*a Table.*column names.*df\["text"\].tolist\(\)'),
    "a set": ({"documents": {"a", "b"}}, "documents: .*got set; make a list of it"),
    "a frozen set": ({"documents": frozenset("ab")}, "documents: .*got frozenset; make a list of it"),
    "the keys of a dict": ({"documents": MAPPING.keys()}, "documents: .*got dict_keys; make a list"),
    "the values of a dict": ({"documents": MAPPING.values()}, "documents: .*got dict_values; make a list"),
    "the items of a dict": ({"documents": MAPPING.items(), "key": str}, "documents: .*got dict_items; make a list"),
    "a view of bytes": ({"documents": memoryview(b"ab"), "key": str}, "documents: .*got one memoryview"),
    "a byte array": ({"documents": bytearray(b"ab"), "key": str}, "documents: .*got one bytearray"),
    "top_n as a text": ({"top_n": "3"}, "top_n: expected an integer, got str"),
    "top_n as a float": ({"top_n": 3.0}, "top_n: expected an integer, got float"),
    "top_n as a bool": ({"top_n": True}, "top_n: expected an integer, got bool"),
    "max_doc_length as a text": ({"max_doc_length": "9"}, "max_doc_length: expected an integer, got str"),
    "swapped arguments": (
        {"query": ["a", "b"], "documents": "tyre"},
        "query, documents: they look swapped: the query is a list, the documents a str",
    ),
    "a field's name for key": (
        {"documents": [MAPPING], "key": "title"},
        r"key: expected a function .*got str; pass key=lambda d: d\['title'\]",
    ),
    "a number for key": ({"documents": [MAPPING], "key": 0}, "key: expected a function .*got int$"),
    "a text that is None": (
        {"documents": ["a", EMPTY]},
        r'documents\[1\]: "text" holds NoneType, not a str; leave the document out',
    ),
    "an image that is None": ({"documents": [{"image": None}]}, r'documents\[0\]: "image" holds NoneType'),
    "a text that is a number": ({"documents": [{"text": 5, "image": None}]}, r'documents\[0\]: "text" holds int'),
}


@pytest.mark.parametrize(("arguments", "message"), CALLS.values(), ids=CALLS)
def test_mistaken_argument_is_named_before_anything_is_sent(
    arguments: dict[str, Any], message: str, raw_server: RawServer
) -> None:
    with SyncRerankClient(base_url=raw_server.url) as client, pytest.raises(InvalidRequestError, match=message):
        client.rerank(**{"query": "q", "documents": ["a"], **arguments})
    if "key" not in arguments and isinstance(arguments.get("query", ""), str):
        with pytest.raises(ValueError, match=r"documents|top_n|max_doc_length"):
            RerankRequest(**{"query": "q", "documents": ["a"], **arguments})
    assert raw_server.connections == 0


def test_valid_argument_is_accepted(raw_server: RawServer) -> None:
    class Rows(list[str]):
        columns = ("text",)

    class Result:
        """Rows that can tell their columns by a method, as those of a database."""

        def columns(self) -> None: ...

        def __iter__(self) -> Any:
            return iter(["a", "b"])

    raw_server.plays = [send(http(answer_body(2)))]
    with SyncRerankClient(base_url=raw_server.url) as client:
        for documents in (Rows("ab"), Result(), iter("ab"), (TextDocument(text="a"), "b")):
            given: Any = documents
            top_n: Any = Whole()
            assert len(client.rerank("q", given, top_n=top_n).results) == 2
            assert json.loads(raw_server.requests[-1][1])["top_n"] == 2


def openai(message: str, status: int, kind: str = "NotFoundError") -> bytes:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return http(json.dumps({"error": error}).encode(), status)


TOO_LONG = "input (33010 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
MODEL = "The model `nobody` does not exist."
ANSWERS: dict[str, tuple[bytes, type[RerankError], str, str]] = {
    "vLLM has no such model": (
        openai(MODEL, 404),
        NotFoundError,
        "HTTP 404: The model `nobody` does not exist; pass model= as the server names it",
        "base_url",
    ),
    "an older vLLM has no such model": (
        http(json.dumps({"object": "error", "message": MODEL, "type": "NotFoundError", "code": 404}).encode(), 404),
        NotFoundError,
        "does not exist; pass model= as the server names it",
        "base_url",
    ),
    "Xinference has no such model": (
        http(b'{"detail": "[address=0.0.0.0:1, pid=1] Model not found in the model list, uid: nobody"}', 404),
        NotFoundError,
        "uid: nobody; pass model= as the server names it",
        "base_url",
    ),
    "nothing is there": (http(b'{"detail": "Not Found"}', 404), NotFoundError, "Look at base_url", "model="),
    "something else is there": (
        http(b'{"detail": "Method Not Allowed"}', 405),
        APIStatusError,
        "HTTP 405: Method Not Allowed; there is something else at base_url",
        "model=",
    ),
    "llama.cpp takes no such long text": (
        openai(TOO_LONG, 500, "server_error"),
        ServerError,
        r"is too large to process.*; shorten documents with max_doc_length=.*chunks",
        "Try again later",
    ),
    "an older llama.cpp takes no such long text": (
        openai("input is too large to process. increase the physical batch size", 500, "server_error"),
        ServerError,
        "max_doc_length=",
        "Try again later",
    ),
}


@pytest.mark.parametrize(("answer", "kind", "says", "says_not"), ANSWERS.values(), ids=ANSWERS)
def test_error_status_names_cause_and_is_not_retried(
    answer: bytes, kind: type[RerankError], says: str, says_not: str, raw_server: RawServer
) -> None:
    raw_server.plays = [send(answer)]
    with SyncRerankClient(base_url=raw_server.url) as client, pytest.raises(kind) as caught:
        client.rerank("q", ["a"])
    shown = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert type(caught.value) is kind
    assert re.search(says, shown)
    assert says_not not in shown
    twin = pickle.loads(pickle.dumps(caught.value))
    assert "\n".join([str(twin), *getattr(twin, "__notes__", ())]) == shown
    assert len(raw_server.requests) == 1


def test_refused_connection_error_quotes_system_message() -> None:
    with AbsentServer() as server:
        for host in ("127.0.0.1", "localhost"):
            client = SyncRerankClient(base_url=server.url.replace("127.0.0.1", host), retry=ONCE)
            with client, pytest.raises(APIConnectionError, match=r"^no connection: Connection refused \(") as caught:
                client.rerank("q", ["a"])
            assert "Connect call failed" not in str(caught.value)


VARIABLES: dict[str, tuple[str, str]] = {
    "no scheme": (
        "localhost:8000",
        r"^JINA_RERANK_BASE_URL: expected http:// or https:// .*it is 'localhost:8000': write http://localhost:8000",
    ),
    "no scheme, elsewhere": ("rerank.example/v1", "^JINA_RERANK_BASE_URL: .*write https://rerank.example/v1"),
    "a key": (
        "jina_0123456789abcdef",
        "^JINA_RERANK_BASE_URL: expected http:// or https:// and a host, such as [^ ]*$",
    ),
    "user info": ("https://me:secret@host", "^JINA_RERANK_BASE_URL: user info"),
    "user info without a scheme": ("me:secret@host", "^JINA_RERANK_BASE_URL: expected"),
    "white space": ("https://a b", "^JINA_RERANK_BASE_URL: it holds white space"),
    "an unencrypted way": ("http://example.com", "^JINA_RERANK_BASE_URL: the key would travel to example.com"),
}


@pytest.mark.parametrize(("value", "message"), VARIABLES.values(), ids=VARIABLES)
def test_mistaken_variable_is_named(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_key")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", value)
    with pytest.raises(ConfigurationError, match=message) as caught:
        SyncRerankClient()
    assert "secret" not in str(caught.value)


def test_langchain_is_given_texts(raw_server: RawServer) -> None:
    jina = pytest.importorskip("jina_rerank.langchain").JinaRerank(base_url=raw_server.url)
    document = pytest.importorskip("langchain_core.documents").Document
    with pytest.raises(InvalidRequestError, match=r"documents\[1\]: expected a Document, got str; .*page_content"):
        jina.compress_documents([document("a"), "b"], "q")
    with pytest.raises(InvalidRequestError, match=r"documents\[0\]: expected a Document, got str"):
        jina.as_runnable().invoke({"documents": ["a"], "query": "q"})
    with pytest.raises(InvalidRequestError, match="top_n: expected an integer, got str"):
        jina.rerank(["a"], "q", top_n="3")
    with pytest.raises(InvalidRequestError, match="they look swapped: the query is a list, the documents a str"):
        jina.compress_documents("q", [document("a")])
    assert raw_server.connections == 0
