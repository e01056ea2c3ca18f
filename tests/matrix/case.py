"""The words of the fault matrix: a row for each fault, with the cases that inject it."""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import trustme

from jina_rerank import RerankError, RetryPolicy

from ..servers import Play, RawServer, answer_body, http, send
from ..ways import WAYS, Way

GOOD = http(answer_body(2))
TEXTS = ("a", "b")
"""The documents of each case; a good answer puts the last first."""
QUICK = RetryPolicy(base_delay=0.001, throttle_delay=0.001)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to inject a fault, and what a call must come to that meets it."""

    name: str
    plays: Sequence[Play] = (send(GOOD),)
    """What the server does with the requests, one after the other; the last again and again."""
    server: Callable[..., RawServer] = RawServer
    """Makes the server of `plays`."""
    url: str = "http://127.0.0.1:{port}"
    error: type[RerankError] | tuple[type[RerankError], ...] | None = None
    """What is raised; None if the call succeeds."""
    says: str = ""
    """A pattern of the error's message."""
    attempts: int | tuple[int, ...]
    """What `.attempts` must be."""
    unseen: bool = False
    """Whether no attempt of the faulty call reaches the server; otherwise it sees as many as `.attempts` says."""
    warm: int = 0
    """Calls that go well before."""
    documents: Callable[[], Sequence[str]] = lambda: TEXTS
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the client; what is left out is so that nothing takes long."""
    transports: Sequence[str] = ("httpx", "aiohttp")
    """Those it is shown for."""
    within: float = 5.0
    """Seconds that the faulty call may take at most, on a busy machine."""

    @property
    def ways(self) -> Sequence[Way]:
        """The event loops and transports that it is carried out on."""
        return [way for way in WAYS if way.transport in self.transports]


@dataclass(frozen=True)
class Row:
    """One fault of the matrix."""

    number: int
    fault: str
    promise: str
    cases: Sequence[Case] = ()
    """Injections, each carried out on every event loop and transport."""
    tests: Sequence[str] = ()
    """Tests of their own that show it, or more of it: `file::function`."""
    missing: str = ""
    """What is not shown, and why."""


@cache
def authority() -> trustme.CA:
    """The authority that the certificates of the tests are from."""
    return trustme.CA()


def server_tls(*names: str, of: trustme.CA | None = None, **options: Any) -> ssl.SSLContext:
    """What a server needs that is called `names`, with a certificate `of` an authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    (of or authority()).issue_cert(*(names or ("127.0.0.1",)), **options).configure_cert(context)
    return context


@cache
def trust() -> ssl.SSLContext:
    """What a client needs that trusts the tests' authority."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context
