"""The options of a client, checked."""

import enum
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypedDict, get_args

from pydantic import SecretStr

from ._endpoint import check_headers
from ._typeguards import as_integer
from .catalog import DEFAULT_MODEL, Scoring
from .errors import ConfigurationError, RerankError
from .limits import RateLimit
from .retry import RetryPolicy

if TYPE_CHECKING:
    import httpx

    from ._stack.limit_store import SharedLimits

DEFAULT_TIMEOUT: Final = 60.0
"""Seconds for one attempt. Long lists take several seconds, and users with 5 s had repeated failures."""
DEFAULT_DEADLINE: Final = 180.0
"""Seconds for a whole call: three attempts of DEFAULT_TIMEOUT."""
DEFAULT_MAX_DOCUMENTS: Final = 1024
"""Documents in one request. One pass of jina-reranker-v3 was trained on far fewer, the limit of the API is not
published, and other clients send up to 1,024."""

Fallback: TypeAlias = Literal["original_order"]
"""The result in an outage instead of an error: the documents in the order given."""

TransportName: TypeAlias = Literal["httpx", "aiohttp"]
"""The library whose connections are used."""

_MAX_SECONDS: Final = 1e9
"""The longest time limit, about 32 years; None means no limit."""


class ClientDefault(enum.Enum):
    """The type of CLIENT_DEFAULT, which selects the client's value for arguments where None means no limit."""

    CLIENT_DEFAULT = "the client's"

    def __repr__(self) -> str:
        return f"<{self.value}>"


CLIENT_DEFAULT: Final = ClientDefault.CLIENT_DEFAULT


class LocalOptions(TypedDict, total=False):
    """The options of `RerankClient.local`: all that do not concern a server."""

    timeout: float | None
    deadline: float | None
    retry: RetryPolicy
    max_concurrency: int | None
    max_documents: int
    scoring: Scoring | None
    hedge_after: float | None
    fallback: Fallback | None


class OptionOverrides(LocalOptions, total=False):
    """The options of `with_options`; absent ones keep their values."""

    model: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The arguments of a client; RerankClient documents them.

    Raises:
        ConfigurationError: A value is invalid.
    """

    api_key: SecretStr | None = field(default=None, repr=False)
    base_url: str | None = None
    model: str | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    deadline: float | None = DEFAULT_DEADLINE
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    rate_limit: RateLimit | None = None
    max_concurrency: int | None = None
    max_documents: int = DEFAULT_MAX_DOCUMENTS
    scoring: Scoring | None = None
    hedge_after: float | None = None
    fallback: Fallback | None = None
    shared_limits: "SharedLimits | None" = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str | ssl.SSLContext = True
    trust_env: bool = True
    allow_insecure: bool = False
    transport: TransportName = "httpx"
    http_client: "httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None" = None

    def __post_init__(self) -> None:
        check_flag("trust_env", self.trust_env, ConfigurationError)
        check_flag("allow_insecure", self.allow_insecure, ConfigurationError)
        if self.model is not None:
            _check_model(self.model)
        _check_retry(self.retry)
        check_seconds("timeout", self.timeout, ConfigurationError)
        check_seconds("deadline", self.deadline, ConfigurationError)
        check_seconds("hedge_after", self.hedge_after, ConfigurationError)
        _check_rate_limit(self.rate_limit)
        _check_shared_limits(self.shared_limits)
        object.__setattr__(self, "max_documents", as_count("max_documents", self.max_documents, ConfigurationError))
        if self.max_concurrency is not None:
            count = as_count("max_concurrency", self.max_concurrency, ConfigurationError, ", or None for no limit")
            object.__setattr__(self, "max_concurrency", count)
        _check_word("scoring", self.scoring, get_args(Scoring))
        _check_word("fallback", self.fallback, get_args(Fallback))

    @property
    def model_name(self) -> str:
        """The model of calls that name none."""
        return self.model or DEFAULT_MODEL

    def with_checked_headers(self, headers: Mapping[str, str] | None, *, has_key: bool) -> Self:
        """Return this config with more headers; `has_key` is whether a key is sent to the server."""
        checked = check_headers({} if headers is None else headers, has_key=has_key)
        return replace(self, headers={**(self.headers or {}), **checked})

    def overridden(self, overrides: OptionOverrides, *, has_key: bool) -> Self:
        """Return this config with some options changed. Headers are merged with the present ones."""
        _check_names(overrides, OptionOverrides, "with_options")
        changed = OptionOverrides(**overrides)
        headers = changed.pop("headers", None)
        config = self if headers is None else self.with_checked_headers(headers, has_key=has_key)
        if "model" in changed:
            _check_model(changed["model"])
        return replace(config, **changed)


def local_config(scorer_name: str, scoring: Scoring | None, given: LocalOptions) -> ClientConfig:
    """Return the config of a local client, whose only model is its scorer.

    Raises:
        ConfigurationError: An option concerns a server, or a value is invalid.
    """
    _check_names(given, LocalOptions, "local")
    return replace(ClientConfig(model=scorer_name, scoring=scoring), **given)


def _check_names(given: Mapping[str, object], known: type, method: str) -> None:
    names = list(known.__annotations__)
    for name in given:
        if name not in names:
            raise ConfigurationError(
                f"{name}: {method}() does not take it, but {', '.join(names)}; give the others to RerankClient()"
            )


def check_flag(name: str, value: object, error: type[RerankError]) -> None:
    """Raise `error` for a value other than True and False: a string such as "false" would count as true."""
    if not isinstance(value, bool):
        raise error(f"{name}: expected True or False, got {type(value).__name__}")


def check_seconds(name: str, value: object, error: type[RerankError]) -> None:
    """Raise `error` for a time limit that is neither None nor a positive, finite number."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise error(f"{name}: expected seconds as a number, or None for no limit; got {type(value).__name__}")
    if not 0 < value <= _MAX_SECONDS:
        raise error(f"{name}: expected a positive number of seconds, or None for no limit; got {value}")


def as_count(name: str, value: object, error: type[RerankError], way_out: str = "") -> int:
    """Return a positive integer, of numpy for example, as an int; raise `error` for any other value."""
    number = as_integer(value)
    if number is None or number < 1:
        raise error(f"{name}: expected a positive integer{way_out}; got {value!r}")
    return number


def _check_model(value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"model: expected the name of a reranker; leave it out for {DEFAULT_MODEL}")


def _check_retry(value: object) -> None:
    if not isinstance(value, RetryPolicy):
        kind = type(value).__name__
        way_out = "RetryPolicy(max_attempts=1) disables retries"
        raise ConfigurationError(f"retry: expected a RetryPolicy, got {kind}; {way_out}")


def _check_rate_limit(value: object) -> None:
    if value is not None and not isinstance(value, RateLimit):
        kind = type(value).__name__
        raise ConfigurationError(f"rate_limit: expected a RateLimit, got {kind}; leave it out to have it learnt")


def _check_shared_limits(value: object) -> None:
    if value is not None and (isinstance(value, type) or not callable(getattr(value, "open", None))):
        kind = type(value).__name__
        raise ConfigurationError(f"shared_limits: expected a RedisLimits, got {kind}; use RedisLimits.from_url(...)")


def _check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    if value is not None and value not in words:
        raise ConfigurationError(f"{name}: expected {' or '.join(map(repr, words))}, or None; got {value!r}")
