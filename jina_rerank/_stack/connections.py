"""The state that a client shares with its clones: a transport and the calls in flight, for each event loop.

A client may be used from several event loops, sequentially or concurrently, and in forked children. Sockets belong to
one loop of one process, so each loop has its own `LoopState`.
"""

import os
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, cast

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from ..errors import ClientClosedError

if TYPE_CHECKING:
    import httpx

    from .key_limits import KeyLimits
    from .rate_limiter import RateLimiter
    from .raw_response import RawResponse

KEEPALIVE_SECONDS: Final = 4.0
"""The keep-alive time of an idle connection. Servers commonly close theirs after 5 s or more (uvicorn, Node: 5,
nginx: 75). Reusing a connection just when the server closes it costs an attempt."""
CLOSING_SECONDS: Final = 2.0
"""How long closing waits for calls to unwind, and for sockets to close."""
LARGE_REQUEST_BYTES: Final = 2**20
"""The size from which a server may reject a request before it has read all of it: the default limit of nginx."""

_abandoned: Final[list[object]] = []
"""The parent's sockets in a forked child, kept forever, because even dropping them could affect the parent's loop."""


class Closable(Protocol):
    """A resource that must be closed on its event loop."""

    async def aclose(self) -> None: ...


class Transport(Closable, Protocol):
    """A transport that sends an HTTP request and reads the whole response, on one event loop."""

    async def exchange(self, request: "httpx.Request", /) -> "RawResponse": ...


T_co = TypeVar("T_co", bound=Closable, covariant=True)
"""The transport of a client on one event loop: a Transport, or a LocalTransport."""


class LoopState(Generic[T_co]):
    """The state of a client on one event loop."""

    __slots__ = ("_idle", "_transport", "calls", "ended", "limits", "own_limits")

    def __init__(self, transport: T_co) -> None:
        self._transport = transport
        self.calls: set[anyio.CancelScope] = set()
        self.ended: bool = False
        self.limits: KeyLimits | None = None
        """The limits of the key, which all its clients on this loop share."""
        self.own_limits: dict[int, RateLimiter] = {}
        """The limits of this client, by `max_concurrency`, in which clones may differ."""
        self._idle: anyio.Event | None = None

    @property
    def transport(self) -> T_co:
        """The transport."""
        return self._transport

    def leave(self, call: anyio.CancelScope) -> None:
        """Remove a finished call."""
        self.calls.discard(call)
        if self._idle is not None and not self.calls:
            self._idle.set()

    async def aclose(self) -> None:
        """Cancel the calls in flight, wait until they have unwound, and close the transport."""
        self.ended = True
        limits, self.limits = self.limits, None
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            if self.calls:
                self._idle = self._idle or anyio.Event()
                for call in self.calls:
                    call.cancel()
                await self._idle.wait()
        self.calls.clear()  # stops waiting for calls that have not unwound by now
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            if limits is not None:
                await limits.leave()
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await self._transport.aclose()


class Connections(Generic[T_co]):
    """The states of a client and its clones on all event loops that have used them."""

    def __init__(self, open_transport: Callable[[], T_co]) -> None:
        self.closed: bool = False
        self._open_transport = open_transport
        self._states: dict[EventLoopToken, tuple[LoopState[T_co], AsyncGeneratorType[None, None]]] = {}
        self._pid = os.getpid()
        # The finalizer keeps the states out of the client's garbage: when it runs, it drops the closers, which close
        # the sockets on their loops, instead of the garbage collector.
        weakref.finalize(self, self._states.clear).atexit = False

    def check_open(self) -> None:
        """Raise a ClientClosedError if the client is closed."""
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")

    def here(self) -> LoopState[T_co]:
        """Return the state of the running event loop.

        Raises:
            ClientClosedError: The client is closed.
        """
        self.check_open()
        if self._pid != os.getpid():
            _abandoned.append(dict(self._states))
            self._states.clear()
            self._pid = os.getpid()
        token = current_token()
        found = self._states.get(token)
        if found is not None and not found[0].ended:
            return found[0]
        return self._open(token)

    async def aclose(self) -> None:
        """Close the client, and its sockets on this loop. Sockets of other loops close when those loops end."""
        self.closed = True
        if self._pid == os.getpid():
            token = current_token()
            found = self._states.get(token)
            if found is not None:
                state, closer = found
                # Removed only after closing, so that a caller can close again after a cancellation.
                await state.aclose()
                self._states.pop(token, None)
                if not closer.ag_running:  # otherwise the ending loop is closing it right now
                    await closer.aclose()

    def _open(self, token: EventLoopToken) -> LoopState[T_co]:
        for other, (state, _) in list(self._states.items()):
            # An asyncio loop may be closed without a call of shutdown_asyncgens().
            is_closed: Callable[[], bool] = getattr(other.native_token, "is_closed", bool)
            if state.ended or is_closed():
                self._states.pop(other, None)
        state = LoopState(self._open_transport())
        closer = close_with_loop(state)
        self._states[token] = (state, closer)
        return state


def close_with_loop(resource: Closable) -> AsyncGeneratorType[None, None]:
    """Close a resource when the running event loop ends, or when the returned generator is dropped or closed."""
    closer = cast(AsyncGeneratorType[None, None], _close_at_the_end(resource))
    with suppress(StopIteration):
        closer.__anext__().send(None)  # runs it up to its yield
    return closer


async def _close_at_the_end(resource: Closable) -> AsyncGenerator[None]:
    # At their end, the event loops of asyncio and trio close the async generators that are still open: the only moment
    # at which the sockets of a client that was not closed can be closed.
    try:
        yield
    finally:
        await resource.aclose()
