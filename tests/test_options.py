"""Types of all options: a value of a wrong type raises an error that names the option, and is never coerced."""

import inspect
import ssl
from typing import Any

import pytest
from pydantic import ValidationError

from jina_rerank import ConfigurationError, RateLimit, RerankClient, RetryPolicy, SyncRerankClient

pytestmark = pytest.mark.smoke


class Whole:
    """An integer of another library, such as numpy's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


SECONDS: list[Any] = ["60", True, 0, -1.0, float("nan"), [60]]
COUNT: list[Any] = ["3", True, 2.0, 0, Whole(0), [3]]
FLAG: list[Any] = ["false", "no", 0, 1, None]
WRONG: dict[str, list[Any]] = {
    "api_key": [3, b"jina_key", ["jina_key"], True],
    "base_url": [3, b"https://example.com", True, ["https://example.com"]],
    "model": [3, b"jina-reranker-v3", True, ""],
    "timeout": SECONDS,
    "deadline": SECONDS,
    "retry": [3, None, {"max_attempts": 3}, RetryPolicy],
    "rate_limit": [100, {"concurrency": 2}, "free", RateLimit],
    "max_concurrency": COUNT,
    "max_documents": [*COUNT, None],
    "scoring": ["LISTWISE", True, b"listwise", ["listwise"]],
    "hedge_after": SECONDS,
    "fallback": ["none", True, 1],
    "shared_limits": ["redis://localhost", 3, True, open],
    "headers": ["x-a: 1", [("x-a", "1")], {"x-a": 1}, {1: "x-a"}, {"x-a": None}],
    "proxy": [3, True, b"http://localhost:1", ""],
    "verify": [0, 1, None, b"/etc/ssl", ssl.SSLContext],
    "trust_env": FLAG,
    "allow_insecure": FLAG,
    "transport": [None, 3, True, b"httpx", "HTTPX"],
    "http_client": [3, "httpx", True, object()],
}
CLIENTS = [RerankClient, SyncRerankClient]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", WRONG)
def test_client_option_of_another_type_is_refused_by_name(client: Any, name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(ConfigurationError, match=f"^{name}: "):
            client(**{"api_key": "jina_key", "base_url": "https://example.com", name: value})


def test_unencrypted_server_and_certificates_of_another_type_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="verify: expected"):
        RerankClient(base_url="http://localhost:9", verify=0)  # type: ignore[arg-type]  # the mistake that is tested


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_option_is_covered_by_wrong_types(client: Any) -> None:
    assert set(inspect.signature(client).parameters) == set(WRONG)


@pytest.mark.parametrize("name", ["timeout", "deadline"])
def test_clone_refuses_what_a_client_refuses(name: Any) -> None:
    client = RerankClient("jina_key")
    for value in SECONDS:
        with pytest.raises(ConfigurationError, match=f"^{name}: "):
            client.with_options(**{name: value})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (RetryPolicy, "max_attempts"),
        (RetryPolicy, "quota"),
        (RateLimit, "requests_per_minute"),
        (RateLimit, "tokens_per_minute"),
        (RateLimit, "concurrency"),
    ],
)
def test_counts_of_policies_take_integers_of_any_library_and_nothing_else(model: Any, name: str) -> None:
    assert getattr(model(**{name: Whole(7)}), name) == 7
    for value in COUNT:
        with pytest.raises(ValidationError, match=name):
            model(**{name: value})


@pytest.mark.parametrize("name", ["base_delay", "throttle_delay", "max_delay", "max_retry_after"])
def test_seconds_of_a_policy_are_numbers(name: str) -> None:
    assert getattr(RetryPolicy(**{name: 1}), name) == 1.0
    wrong: list[Any] = ["1", True, -1.0, float("inf")]
    for value in wrong:
        with pytest.raises(ValidationError, match=name):
            RetryPolicy(**{name: value})


def test_counts_of_a_client_may_be_integers_of_another_library() -> None:
    client: Any = RerankClient("jina_key", max_concurrency=Whole(3), max_documents=Whole(9))  # type: ignore[arg-type]  # as numpy's are
    options = client._core.config
    assert (type(options.max_concurrency), options.max_concurrency, options.max_documents) == (int, 3, 9)
    client.rerank_many([], max_concurrency=Whole(2))


WRONG_FIELDS: dict[str, list[Any]] = {
    "jina_api_key": WRONG["api_key"],
    "model": WRONG["model"],
    "top_n": COUNT,
    "user_agent": [3, None, True, b"langchain"],
    "base_url": WRONG["base_url"],
    "timeout": SECONDS,
    "deadline": SECONDS,
    "retry": [3, None, {"max_attempts": "3"}, RetryPolicy],  # a mapping of its fields is taken
    "max_concurrency": COUNT,
    "max_doc_length": COUNT,
    "extra_body": ["x", [("a", 1)], 3],
    "score_threshold": ["0.5", True, [0.5]],
    "client": ["x", RerankClient("jina_key")],
    "async_client": ["x", SyncRerankClient("jina_key")],
}


class TestJinaRerank:
    @pytest.fixture
    def jina(self) -> Any:
        """The class."""
        return pytest.importorskip("jina_rerank.langchain").JinaRerank

    @pytest.mark.parametrize("name", WRONG_FIELDS)
    def test_field_of_another_type_is_refused_and_changes_nothing(self, jina: Any, name: str) -> None:
        known, shown = {"base_url": "https://example.com"}, name.removeprefix("jina_")
        made = jina(**known)
        before = getattr(made, name)
        for value in WRONG_FIELDS[name]:
            with pytest.raises(ValidationError, match=shown):
                jina(**{**known, name: value})
            with pytest.raises(ValidationError, match=shown):
                setattr(made, name, value)
            with pytest.raises(ValidationError, match=shown):
                made.model_copy(update={name: value})
        assert getattr(made, name) == before

    def test_every_field_is_covered_by_wrong_types(self, jina: Any) -> None:
        assert set(jina.model_fields) - {"session"} == set(WRONG_FIELDS)
