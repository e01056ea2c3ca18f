"""`jina-rerank doctor`: diagnoses connection, key and TLS."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, NamedTuple

import typer

from .._endpoint import API_KEY_VARIABLE, BASE_URL_VARIABLE, Endpoint
from .._probe import Probe, ProbeResponse
from .._version import __version__
from ..errors import APIConnectionError, ConfigurationError, RateLimitError, ResponseFormatError
from .console import ignoring_broken_pipe, show_rows
from .failures import in_shell_words, reporting_errors, shell_text
from .server import AllowInsecure, ApiKeyVariable, BaseUrl, ServerOptions

_KEY_LENGTH: Final = 65
"""Characters of a Jina key, `jina_` included, as the API states when it rejects a key."""
_MAX_CLOCK_SKEW_SECONDS: Final = 60.0
"""As long as the window of the API's rate limits."""
_MIN_CERTIFICATE_DAYS: Final = 7.0
_DAY_SECONDS: Final = 86_400.0
_REMAINING_HEADERS: Final = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")
"""What the key has left in this minute. In Jina's API description, but not observed in responses of the hosted API."""


class CheckStatus(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


_STYLES: Final = {CheckStatus.OK: "green", CheckStatus.WARNING: "yellow", CheckStatus.FAILURE: "bold red"}


class Check(NamedTuple):
    """One line: what was checked, what was found, and how to fix it if necessary."""

    status: CheckStatus
    subject: str
    finding: str


@reporting_errors
def doctor(
    *, base_url: BaseUrl = None, api_key_variable: ApiKeyVariable = None, allow_insecure: AllowInsecure = False
) -> None:
    """Diagnose the connection to the server: key, name, proxy, TLS, clock, limits.

    Checks the settings, then requests the server's list of models and of
    batch jobs, which costs nothing. The key is not shown. The exit code is 1
    if any check failed.
    """
    server = ServerOptions(base_url=base_url, api_key_variable=api_key_variable, allow_insecure=allow_insecure)
    checks = list(examine(server))
    with ignoring_broken_pipe():  # the exit code still reports failures
        show_rows(("result", "check", "finding"), checks, [_STYLES[check.status] for check in checks])
    if any(check.status is CheckStatus.FAILURE for check in checks):
        raise typer.Exit(1)


def examine(server: ServerOptions) -> Iterator[Check]:
    """Yield the results of all checks, up to the first failure that makes the others pointless."""
    option = BASE_URL_VARIABLE if server.base_url is None else "--base-url"
    variable = server.api_key_variable or API_KEY_VARIABLE
    yield Check(CheckStatus.OK, "version", f"jina-rerank {__version__}")
    try:
        endpoint = server.endpoint()
        origin = f"of {option}" if server.base_url or not endpoint.hosted else "Jina's own"
        yield Check(CheckStatus.OK, "server", f"{endpoint.url} ({origin})")
        yield key_check(endpoint, variable, withheld=server.base_url is not None)
        probe = Probe(endpoint)
        yield proxy_check(probe)
    except ConfigurationError as error:
        yield Check(CheckStatus.FAILURE, "settings", in_shell_words(error, option))
        return
    try:
        models = probe.get("models")
        yield connection_check(models)
        yield tls_check(models, time.time())
        yield clock_check(models, time.time())
        if endpoint.api_key is not None or not endpoint.hosted:
            batches = probe.get("batches?limit=1")
            yield access_check(batches, endpoint, option)
            if batches.error is None:
                yield limits_check(batches)
    except (APIConnectionError, ResponseFormatError) as error:
        yield Check(CheckStatus.FAILURE, "connection", f"{error.message}: check the network, the proxy and {error.url}")


def key_check(endpoint: Endpoint, variable: str, *, withheld: bool) -> Check:
    """Check that a key is set if one is required, and that it has the form of one."""
    key = endpoint.api_key
    if key is None and withheld and not endpoint.hosted:
        finding = "none is sent to the server of --base-url, which may not need one; --api-key-variable NAME sends one"
        return Check(CheckStatus.OK, "key", finding)
    if key is None and endpoint.hosted:
        remedy = (
            f"get one at https://jina.ai/reranker and set {API_KEY_VARIABLE}. Without one, `jina-rerank serve` ranks "
            "on this machine, and in Python RerankClient.local()"
        )
        return Check(CheckStatus.FAILURE, "key", f"none is set, and the hosted API requires one: {remedy}")
    if key is None:
        finding = f"none is set, and this server may not need one; {API_KEY_VARIABLE} sets it"
        return Check(CheckStatus.OK, "key", finding)
    length = len(key.get_secret_value())
    if not endpoint.hosted:
        return Check(CheckStatus.OK, "key", f"{length} characters, from {variable}")
    if not key.get_secret_value().startswith("jina_") or length != _KEY_LENGTH:
        mismatch = f"Jina's keys begin with jina_ and have {_KEY_LENGTH} characters, this one has {length}"
        return Check(CheckStatus.WARNING, "key", f"{mismatch}: was it copied completely?")
    return Check(CheckStatus.OK, "key", f"it has the form of Jina's keys, {length} characters, from {variable}")


def proxy_check(probe: Probe) -> Check:
    """Report the proxy that the environment sets."""
    if probe.proxy_url is None:
        return Check(CheckStatus.OK, "proxy", "none")
    return Check(CheckStatus.OK, "proxy", f"{probe.proxy_url}, from the environment; NO_PROXY makes exceptions")


def connection_check(response: ProbeResponse) -> Check:
    """Check that the server responds. A 4xx counts as a response: not every server lists its models."""
    found = f"{response.url} answered {response.status} in {response.seconds:.2f} s"
    if response.status >= 500:
        return Check(CheckStatus.FAILURE, "connection", f"{found}: the server, or a proxy in front of it, has failed")
    if 300 <= response.status < 400:
        return Check(CheckStatus.FAILURE, "connection", f"{found}, a redirect: set {BASE_URL_VARIABLE} to its target")
    return Check(CheckStatus.OK, "connection", found)


def tls_check(response: ProbeResponse, now: float) -> Check:
    """Report the TLS version and when the certificate expires. An invalid one has failed the request before."""
    if response.tls is None:
        return Check(CheckStatus.OK, "TLS", "none: plain http")
    if response.certificate_expires_at is None:
        return Check(CheckStatus.OK, "TLS", response.tls)
    days_left = (response.certificate_expires_at - now) / _DAY_SECONDS
    found = f"{response.tls}, a valid certificate for {days_left:.0f} more days"
    if days_left < _MIN_CERTIFICATE_DAYS:
        return Check(CheckStatus.WARNING, "TLS", f"{found}: its owner must renew it")
    return Check(CheckStatus.OK, "TLS", found)


def clock_check(response: ProbeResponse, now: float) -> Check:
    """Compare this machine's clock with the server's."""
    try:
        skew = now - parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return Check(CheckStatus.OK, "clock", "the server does not report its time")
    if abs(skew) <= _MAX_CLOCK_SKEW_SECONDS:
        return Check(CheckStatus.OK, "clock", "it agrees with the server's")
    direction = "ahead of" if skew > 0 else "behind"
    remedy = "set it, since certificates are checked against it"
    return Check(CheckStatus.WARNING, "clock", f"it is {abs(skew):.0f} s {direction} the server's: {remedy}")


def access_check(response: ProbeResponse, endpoint: Endpoint, option: str) -> Check:
    """Check that the server accepts the key."""
    error = response.error
    if error is None:
        return Check(CheckStatus.OK, "access", "the server accepts the key" if endpoint.api_key else "no key is needed")
    if response.status in (404, 405) and not endpoint.hosted:
        return Check(CheckStatus.OK, "access", "this server has no route to test a key with; only a ranking tests it")
    status = CheckStatus.WARNING if isinstance(error, RateLimitError) else CheckStatus.FAILURE
    summary = f"HTTP {error.status}: {error.message.rstrip('.')}"
    return Check(status, "access", shell_text(". ".join([summary, *getattr(error, "__notes__", ())]), option))


def limits_check(response: ProbeResponse) -> Check:
    """Report what the key has left in this minute, if the server states it."""
    remaining = {
        name.rpartition("-")[2]: response.headers[name] for name in _REMAINING_HEADERS if name in response.headers
    }
    if not remaining:
        return Check(CheckStatus.OK, "limits", "the server does not report any")
    left = " and ".join(f"{count} {unit}" for unit, count in remaining.items())
    if "0" in remaining.values():
        return Check(CheckStatus.WARNING, "limits", f"{left} left: wait a minute")
    return Check(CheckStatus.OK, "limits", f"{left} left in this minute")
