"""`jina-rerank doctor`: what stands between this machine and a ranking."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, NamedTuple

import typer

from .._endpoint import API_KEY_VARIABLE, BASE_URL_VARIABLE, Endpoint
from .._stack.routes import Route
from .._version import __version__
from ..errors import APIConnectionError, ConfigurationError, RateLimitError, ResponseFormatError
from .console import readers_may_leave, show_rows
from .failures import ends_clearly, in_shell_words, shell_text
from .probe import ProbeResponse, configured, get, route
from .server import AllowInsecure, ApiKeyVariable, BaseUrl, ServerOptions

_KEY_LENGTH: Final = 65
"""Characters of a key of Jina's, `jina_` included, as its API says in its refusals."""
_CLOCK_SECONDS: Final = 60.0
"""How wrong a clock may be: the limits of the API are over a minute."""
_CERTIFICATE_DAYS: Final = 7.0
_DAY: Final = 86_400.0
_REMAINING: Final = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")
"""The headers that tell what a key has left in this minute: promised by Jina's API description, never seen outside."""


class CheckStatus(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


_STYLES: Final = {CheckStatus.OK: "green", CheckStatus.WARNING: "yellow", CheckStatus.FAILURE: "bold red"}


class Check(NamedTuple):
    """One line: what was looked at, what was found, and the way out where there is need of one."""

    verdict: CheckStatus
    subject: str
    finding: str


@ends_clearly
def doctor(
    *, base_url: BaseUrl = None, api_key_variable: ApiKeyVariable = None, allow_insecure: AllowInsecure = False
) -> None:
    """Find out what keeps rankings from coming: key, name, proxy, TLS, clock, limits.

    It looks at the settings and asks the server that they name for its
    models and for batch jobs, which costs nothing. The key is not shown. The
    exit code is 1 if anything failed.
    """
    server = ServerOptions(base_url=base_url, api_key_variable=api_key_variable, allow_insecure=allow_insecure)
    checks = list(examine(server))
    with readers_may_leave():  # the exit code tells all the same
        show_rows(("result", "check", "finding"), checks, [_STYLES[check.verdict] for check in checks])
    if any(check.verdict is CheckStatus.FAILURE for check in checks):
        raise typer.Exit(1)


def examine(server: ServerOptions) -> Iterator[Check]:
    """All checks, up to the first that makes the others pointless."""
    option = BASE_URL_VARIABLE if server.base_url is None else "--base-url"
    variable = server.api_key_variable or API_KEY_VARIABLE
    yield Check(CheckStatus.OK, "version", f"jina-rerank {__version__}")
    try:
        endpoint = configured(server)
        origin = f"of {option}" if server.base_url or not endpoint.hosted else "Jina's own"
        yield Check(CheckStatus.OK, "server", f"{endpoint.url} ({origin})")
        yield key_check(endpoint, variable, withheld=server.base_url is not None)
        way = route(endpoint)
        yield proxy_check(way)
    except ConfigurationError as error:
        yield Check(CheckStatus.FAILURE, "settings", in_shell_words(error, option))
        return
    try:
        answer = get(endpoint, "models", way)
        yield reach_check(answer)
        yield tls_check(answer, time.time())
        yield clock_check(answer, time.time())
        if endpoint.api_key is not None or not endpoint.hosted:
            probe = get(endpoint, "batches?limit=1", way)
            yield access_check(probe, endpoint, option)
            if probe.refused is None:
                yield limits_check(probe)
    except (APIConnectionError, ResponseFormatError) as error:
        yield Check(
            CheckStatus.FAILURE, "connection", f"{error.message}: look at the network, the proxy and {error.url}"
        )


def key_check(endpoint: Endpoint, variable: str, *, withheld: bool) -> Check:
    """Whether there is a key, and whether it can be one."""
    key = endpoint.api_key
    if key is None and withheld and not endpoint.hosted:
        finding = "none goes to the server of --base-url, which may need none; --api-key-variable NAME sends one"
        return Check(CheckStatus.OK, "key", finding)
    if key is None and endpoint.hosted:
        way_out = (
            f"get one at https://jina.ai/reranker and set {API_KEY_VARIABLE}. Without one, `jina-rerank serve` ranks "
            "on this machine, and in Python RerankClient.local()"
        )
        return Check(CheckStatus.FAILURE, "key", f"there is none, and the hosted API needs one: {way_out}")
    if key is None:
        return Check(CheckStatus.OK, "key", f"there is none, and this server may need none; {API_KEY_VARIABLE} sets it")
    length = len(key.get_secret_value())
    if not endpoint.hosted:
        return Check(CheckStatus.OK, "key", f"{length} characters, of {variable}")
    if not key.get_secret_value().startswith("jina_") or length != _KEY_LENGTH:
        shape = f"Jina's begin with jina_ and have {_KEY_LENGTH} characters, and this has {length}"
        return Check(CheckStatus.WARNING, "key", f"{shape}: was it copied whole?")
    return Check(CheckStatus.OK, "key", f"it has the shape of Jina's, {length} characters, of {variable}")


def proxy_check(way: Route) -> Check:
    """Which proxy the environment puts in between."""
    if way.proxy is None:
        return Check(CheckStatus.OK, "proxy", "none")
    return Check(CheckStatus.OK, "proxy", f"{way.proxy.url}, of the environment; NO_PROXY makes exceptions")


def reach_check(answer: ProbeResponse) -> Check:
    """Whether somebody answers. A refusal is an answer: not every server lists its models."""
    found = f"{answer.url} answered {answer.status} in {answer.seconds:.2f} s"
    if answer.status >= 500:
        return Check(CheckStatus.FAILURE, "connection", f"{found}: the server, or a proxy before it, is in trouble")
    if 300 <= answer.status < 400:
        return Check(
            CheckStatus.FAILURE, "connection", f"{found}, a redirect: set {BASE_URL_VARIABLE} to where it leads"
        )
    return Check(CheckStatus.OK, "connection", found)


def tls_check(answer: ProbeResponse, now: float) -> Check:
    """How the connection is secured, and for how long. A bad certificate has not come so far."""
    if answer.tls is None:
        return Check(CheckStatus.OK, "TLS", "none: plain http")
    until = answer.certificate_until
    if until is None:
        return Check(CheckStatus.OK, "TLS", answer.tls)
    left = (until - now) / _DAY
    found = f"{answer.tls}, a valid certificate for {left:.0f} more days"
    if left < _CERTIFICATE_DAYS:
        return Check(CheckStatus.WARNING, "TLS", f"{found}: its owner must renew it")
    return Check(CheckStatus.OK, "TLS", found)


def clock_check(answer: ProbeResponse, now: float) -> Check:
    """How far this machine's clock is from the server's."""
    try:
        wrong = now - parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return Check(CheckStatus.OK, "clock", "the server does not tell its time")
    if abs(wrong) <= _CLOCK_SECONDS:
        return Check(CheckStatus.OK, "clock", "it agrees with the server's")
    direction = "ahead of" if wrong > 0 else "behind"
    way_out = "set it, for certificates are judged by it"
    return Check(CheckStatus.WARNING, "clock", f"it is {abs(wrong):.0f} s {direction} the server's: {way_out}")


def access_check(probe: ProbeResponse, endpoint: Endpoint, option: str) -> Check:
    """Whether the server takes the key."""
    refused = probe.refused
    if refused is None:
        return Check(CheckStatus.OK, "access", "the server takes the key" if endpoint.api_key else "no key is needed")
    if probe.status in (404, 405) and not endpoint.hosted:
        return Check(CheckStatus.OK, "access", "this server has nothing to try a key on; a ranking will tell")
    verdict = CheckStatus.WARNING if isinstance(refused, RateLimitError) else CheckStatus.FAILURE
    said = f"HTTP {refused.status}: {refused.message.rstrip('.')}"
    return Check(verdict, "access", shell_text(". ".join([said, *getattr(refused, "__notes__", ())]), option))


def limits_check(probe: ProbeResponse) -> Check:
    """What the key has left in this minute, if the server tells."""
    told = {name.rpartition("-")[2]: probe.headers[name] for name in _REMAINING if name in probe.headers}
    if not told:
        return Check(CheckStatus.OK, "limits", "the server does not tell any")
    left = " and ".join(f"{count} {what}" for what, count in told.items())
    if "0" in told.values():
        return Check(CheckStatus.WARNING, "limits", f"{left} left: wait a minute")
    return Check(CheckStatus.OK, "limits", f"{left} left in this minute")
