"""One connection to a Redis or Valkey server: commands out, replies in, over anyio."""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
from anyio.abc import ByteStream, SocketAttribute

try:
    import hiredis
except ModuleNotFoundError as _error:
    raise ImportError('jina_rerank.shared needs an extra: pip install "jina-rerank[redis]"') from _error

_DEFAULT_PORT: Final = 6379
_CHUNK_SIZE: Final = 64 * 2**10

LINK_ERRORS: Final = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, hiredis.HiredisError)
"""The exceptions of opening and calling a link: of sockets and TLS, invalid Redis replies, and error replies."""


Command: TypeAlias = Sequence[str | int]


class ServerError(hiredis.ReplyError):
    """An error reply of the server."""

    @property
    def code(self) -> str:
        """The first word: NOSCRIPT, MOVED, NOPERM ..."""
        return str(self).partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server, and the credentials for it."""

    host: str = "localhost"
    port: int = _DEFAULT_PORT
    path: str | None = None
    """The path of a Unix domain socket, instead of host and port."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: bool = False
    ca_certs: str | None = None
    verify: bool = True

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def moved(self, error: ServerError) -> "Address | None":
        """Return the address of the cluster node in a MOVED error, with the same host if it names none."""
        if error.code != "MOVED":
            return None
        host, _, port = str(error).rpartition(" ")[2].rpartition(":")
        return replace(self, host=host or self.host, port=int(port), path=None)


def parse_url(url: str) -> Address:
    """Return the address of a URL.

    Raises:
        ValueError: The URL is invalid. The message does not quote it, since it may contain a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise ValueError("url: not a valid URL (its port must be a number)") from error
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("url: must start with redis://, rediss:// (TLS) or unix:// (the path of a socket)")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    is_unix = parts.scheme == "unix"
    db = query.pop("db", "" if is_unix else parts.path.strip("/")) or "0"
    verify = query.pop("ssl_cert_reqs", "required")
    ca_certs = query.pop("ssl_ca_certs", None)
    if not db.isdecimal():
        raise ValueError("url: the database must be a number, as in redis://localhost:6379/0")
    if verify not in {"required", "none"}:
        raise ValueError("url: ssl_cert_reqs must be 'required' or 'none'")
    if query:
        raise ValueError(f"url: unknown options {sorted(query)}; known are db, ssl_ca_certs and ssl_cert_reqs")
    return Address(
        host=parts.hostname or "localhost",
        port=port,
        path=unquote(parts.path) if is_unix else None,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        db=int(db),
        tls=parts.scheme == "rediss",
        ca_certs=ca_certs,
        verify=verify == "required",
    )


class Link:
    """A connection to the server, logged in."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(replyError=ServerError, encoding="utf-8", errors="replace")

    @classmethod
    async def open(cls, address: Address) -> "Link":
        """Connect and log in. On failure or cancellation, the socket is closed."""
        link = cls(await _connect(address))
        try:
            await link.call(*_greeting(address))
        except BaseException:
            await link.aclose()
            raise
        return link

    async def call(self, *commands: Command) -> list[Any]:
        """Send commands in one write and return their replies. After an exception the link must be closed.

        Raises:
            ServerError: A reply is an error. If it is the reply to the only command, the link remains usable.
        """
        if not commands:
            return []
        await self._stream.send(b"".join(_pack(command) for command in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:  # hiredis needs more data
                try:
                    self._reader.feed(await self._stream.receive(_CHUNK_SIZE))
                except anyio.EndOfStream as error:
                    raise ConnectionResetError("the server has closed the connection") from error
            elif isinstance(reply, ServerError):
                raise reply
            else:
                replies.append(reply)
        return replies

    async def aclose(self) -> None:
        """Close the connection without waiting for the peer."""
        await anyio.aclose_forcefully(self._stream)


def _pack(command: Command) -> bytes:
    words = [str(word).encode() for word in command]
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def _greeting(address: Address) -> list[Command]:
    commands: list[Command] = []
    if address.password is not None:
        login = [address.username] if address.username else []
        commands.append(("AUTH", *login, address.password))
    if address.db:
        commands.append(("SELECT", address.db))
    return commands


async def _connect(address: Address) -> ByteStream:
    if address.path is not None:
        return await anyio.connect_unix(address.path)
    if not address.tls:
        stream: ByteStream = await anyio.connect_tcp(address.host, address.port)
    else:
        stream = await anyio.connect_tcp(
            address.host,
            address.port,
            ssl_context=_tls_context(address),
            tls_hostname=address.host,
            tls_standard_compatible=False,
        )
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  # anyio's, not Django's
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _tls_context(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=address.ca_certs)
    if not address.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
