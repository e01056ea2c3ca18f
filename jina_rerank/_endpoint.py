"""The endpoint and its key, resolved from `api_key`, `base_url`, `headers` and the environment."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from ._typeguards import is_mapping
from .errors import ConfigurationError

HOSTED_BASE_URL: Final = "https://api.jina.ai/v1"
API_KEY_VARIABLE: Final = "JINA_API_KEY"
BASE_URL_VARIABLE: Final = "JINA_RERANK_BASE_URL"
MISSING_KEY: Final = "MISSING_API_KEY"
"""The code of the ConfigurationError for a key that is required but not set."""

_NO_KEY: Final = f"no key was sent: {API_KEY_VARIABLE} is not set; set it, or pass api_key="
_WITHHELD_KEY: Final = (
    f"no key was sent: {API_KEY_VARIABLE} goes only to the hosted API and to the server of {BASE_URL_VARIABLE}, not to "
    "base_url=; to send a key there, pass api_key="
)
_HOSTED_HOST: Final = "api.jina.ai"
# The characters of a header value (RFC 9110, section 5.5) without white space.
_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE_PATTERN: Final = re.compile(r"[\x20-\x7e\t]*")
_RESERVED_HEADERS: Final = frozenset(
    ("accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding")
)
"""Headers that callers cannot set, because the client depends on them."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A rerank route, and the key for it."""

    url: str
    """The full URL of the rerank route."""
    api_key: SecretStr | None
    """The key to send; None to send none."""
    hosted: bool
    """Whether this is Jina's own API."""
    keyless: str | None = None
    """Why no key is sent, and how to send one, for the error of a server that requires one. None if a key is sent."""

    def beside(self, route: str) -> str:
        """Return the URL of another route of the same server, such as `models`."""
        return self.url.removesuffix("rerank") + route


def resolve_endpoint(
    api_key: str | SecretStr | None,
    base_url: str | None,
    *,
    allow_insecure: bool,
    variable: Callable[[str], str | None],
) -> Endpoint:
    """Return the endpoint for these arguments and the environment variables, which `variable` looks up.

    Raises:
        ConfigurationError: A value is invalid, or the key for the hosted API is missing. No message shows the key.
    """
    from_environment = (variable(BASE_URL_VARIABLE) or "").strip()
    given, source = (base_url, "base_url") if base_url is not None else (from_environment, BASE_URL_VARIABLE)
    parts = _split(HOSTED_BASE_URL if given == "" and base_url is None else given, source)
    hosted = parts.hostname == _HOSTED_HOST
    key = _given_key(api_key)
    if key is None and (hosted or base_url is None):
        # The key of the environment is never sent to a base_url given in code.
        key = _checked_key(SecretStr(variable(API_KEY_VARIABLE) or ""), f"the variable {API_KEY_VARIABLE}")
    if hosted and key is None:
        raise ConfigurationError(
            f"api_key: the hosted API needs a key; pass api_key= or set {API_KEY_VARIABLE} (https://jina.ai/reranker). "
            "Without a key RerankClient.local() ranks in this process, and `jina-rerank serve` on this machine",
            code=MISSING_KEY,
        )
    if key is not None and parts.scheme == "http" and not (allow_insecure or is_loopback(parts.hostname or "")):
        raise ConfigurationError(
            f"{source}: the key would travel to {parts.hostname} unencrypted; use https://, or accept it with "
            "allow_insecure=True"
        )
    keyless = None if key is not None else _NO_KEY if base_url is None else _WITHHELD_KEY
    return Endpoint(_rerank_url(parts), key, hosted, keyless)


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine's loopback."""
    if host == "localhost":  # DNS may resolve its subdomains to other hosts
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_headers(headers: object, *, has_key: bool) -> dict[str, str]:
    """Return the caller's headers, with names in lower case.

    Raises:
        ConfigurationError: A header is invalid, is set by the client itself, or conflicts with the key. No message
            shows a value, which may be a secret.
    """
    if not is_mapping(headers):
        raise ConfigurationError(f"headers: expected a mapping of names and values, got {type(headers).__name__}")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME_PATTERN.fullmatch(name):
            raise ConfigurationError("headers: a name is not a valid header name (letters, digits and dashes)")
        if not isinstance(value, str) or not _HEADER_VALUE_PATTERN.fullmatch(value):
            raise ConfigurationError(f"headers: the value of {name} is not printable ASCII on one line")
        lowered = name.lower()
        if lowered in _RESERVED_HEADERS:
            raise ConfigurationError(f"headers: {name} is set by the client itself; leave it out")
        if lowered == "authorization" and has_key:
            raise ConfigurationError("headers: Authorization is made from api_key; give one of the two")
        checked[lowered] = value.strip()
    return checked


def _given_key(api_key: object) -> SecretStr | None:
    if api_key is None:
        return None
    if not isinstance(api_key, str | SecretStr):
        raise ConfigurationError(f"api_key: expected a str or SecretStr, got {type(api_key).__name__}")
    key = _checked_key(api_key if isinstance(api_key, SecretStr) else SecretStr(api_key), "api_key")
    if key is None:
        raise ConfigurationError(f"api_key: it is blank; leave it out to use {API_KEY_VARIABLE}")
    return key


def as_secret(api_key: str | SecretStr | None) -> SecretStr | None:
    """Return a str as a SecretStr, which tracebacks do not show; `resolve_endpoint` rejects other types."""
    return SecretStr(api_key) if isinstance(api_key, str) else api_key


def _checked_key(key: SecretStr, source: str) -> SecretStr | None:
    # No local variable holds the plain key, because tracebacks may show locals.
    if not key.get_secret_value().strip():
        return None
    if not _KEY_PATTERN.fullmatch(key.get_secret_value().strip()):
        raise ConfigurationError(
            f"api_key: {source} holds white space or letters outside ASCII; was more than the key copied?"
        )
    return SecretStr(key.get_secret_value().strip())


def _split(base_url: object, source: str) -> SplitResult:
    if not isinstance(base_url, str):
        raise ConfigurationError(f"{source}: expected a str, got {type(base_url).__name__}")
    base_url = base_url.strip()
    # urlsplit silently removes line breaks and tabs.
    if re.search(r"[\x00-\x20\x7f\\]", base_url):
        raise ConfigurationError(f"{source}: it holds white space, a control character or a backslash")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        found = _shown(base_url) if source == BASE_URL_VARIABLE else ""  # a traceback shows an argument
        raise ConfigurationError(f"{source}: expected http:// or https:// and a host, such as {HOSTED_BASE_URL}{found}")
    if "@" in parts.netloc or "?" in base_url or "#" in base_url:
        raise ConfigurationError(
            f"{source}: user info, a query or a fragment are not allowed (they leak to logs); pass api_key= or headers="
        )
    return parts


def _shown(base_url: str) -> str:
    """Return a text with the variable's value and its probable meaning; "" if it may contain a secret."""
    if re.search(r"[@?#]|://", base_url) or not re.search(r"[.:/]|^.{1,15}$", base_url):
        return ""
    scheme = "http" if is_loopback(base_url.partition(":")[0].partition("/")[0]) else "https"
    return f"; it is {base_url!r}: write {scheme}://{base_url}"


def _rerank_url(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    if not path:
        path = "/v1/rerank"
    elif not path.endswith("/rerank"):
        path += "/rerank"
    return f"{parts.scheme}://{parts.netloc}{path}"
