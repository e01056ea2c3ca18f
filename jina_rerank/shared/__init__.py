"""Limits that processes share through Redis or Valkey: `RerankClient(shared_limits=RedisLimits.from_url(...))`.

Needs the extra `redis`: `pip install "jina-rerank[redis]"`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .._stack.limit_store import LimitStore, SharedLimits
from ..limits import RateLimit
from ._link import Address, parse_url
from ._member import Member
from ._server import RedisServer
from ._store import RedisStore

__all__ = ["RedisLimits"]

_WINDOW_SECONDS: Final = 61.0
"""The API's window of one minute, plus one second for network latency."""
_LEASE_SECONDS: Final = 15.0
"""The time after which the slots of a process that died without releasing them are freed."""


@dataclass(frozen=True, slots=True)
class RedisLimits:
    """The limits of a key, shared by all processes with the same server and prefix.

    The object holds no connection, and can be pickled and passed to workers; the pickle contains the password.
    """

    _address: Address = field(repr=False)
    _prefix: str
    _timeout: float
    _window: float = field(default=_WINDOW_SECONDS, repr=False)
    _lease: float = field(default=_LEASE_SECONDS, repr=False)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "jina_rerank", timeout: float = 0.05) -> "RedisLimits":
        """Return the limits stored on a server.

        Args:
            url: `redis://[[user]:password@]host[:port][/db]`; `rediss://...` for TLS, with `?ssl_ca_certs=path` for a
                private certificate authority; `unix://[[user]:password@]/path[?db=0]`. Any node of a cluster works.
            prefix: The prefix of all keys on the server.
            timeout: Seconds that a call waits for the server. A slower server is treated as down.

        Raises:
            ValueError: An argument is invalid.
        """
        if not prefix or set("{}") & set(prefix):
            raise ValueError("prefix: must not be empty and must not contain { or }")
        if not timeout > 0:
            raise ValueError("timeout: must be greater than 0")
        return cls(parse_url(url), prefix, timeout)

    def __repr__(self) -> str:
        return f"RedisLimits({str(self._address)!r}, prefix={self._prefix!r}, timeout={self._timeout!r})"

    def open(self, scope: str, stated: RateLimit | None) -> LimitStore:
        """Return the store for one key on one event loop, as `RerankClient` does. Does no I/O.

        Args:
            scope: The identity of the API key without the key itself: the origin and a SHA-256 of the key.
            stated: The limits that the caller has configured.
        """
        # The hash tag in braces keeps all keys of a scope on the same node of a cluster.
        keys = [f"{self._prefix}:{{{scope}}}:{name}" for name in ("state", "members", "leases", "waiting")]
        server = RedisServer(self._address, keys)
        member = Member(stated, window=self._window, lease=self._lease)
        return RedisStore(server, member, timeout=self._timeout)


if TYPE_CHECKING:
    _: type[SharedLimits] = RedisLimits
