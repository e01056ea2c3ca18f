"""What a client and its clones share: for each event loop, a transport and the calls in flight.

A client may be used from many event loops, one after the other or at once, and in forked children. Sockets belong to
one loop of one process; so each gets a `LoopState` of its own.
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
"""How long an idle connection is kept. Servers commonly close theirs after 5 s or more (uvicorn, Node: 5, nginx: 75).
One that is used again just when the server closes it costs an attempt."""
CLOSING_SECONDS: Final = 2.0
"""How long closing waits for calls to unwind, and for sockets to close."""
LARGE_REQUEST_BYTES: Final = 2**20
"""From this size on a server may refuse a request before all of it has come: it is the default limit of nginx."""

_abandoned: Final[list[object]] = []
"""The parent's sockets in a forked child: kept for ever, because even dropping them could touch the parent's loop."""


class Closable(Protocol):
    """Something that has to be closed on its event loop."""

    async def aclose(self) -> None: ...


class Transport(Closable, Protocol):
    """Sends an HTTP request and reads the whole answer, on one event loop."""

    async def exchange(self, request: "httpx.Request", /) -> "RawResponse": ...


T_co = TypeVar("T_co", bound=Closable, covariant=True)
"""What a client sends by on one event loop: a Transport, or what scores in this process."""


class LoopState(Generic[T_co]):
    """What one event loop has of a client."""

    __slots__ = ("_idle", "_transport", "calls", "ended", "limits", "own_limits")

    def __init__(self, transport: T_co) -> None:
        self._transport = transport
        self.calls: set[anyio.CancelScope] = set()
        self.ended: bool = False
        self.limits: KeyLimits | None = None
        """Shared by all clients of the same key on this loop."""
        self.own_limits: dict[int, RateLimiter] = {}
        """This client's alone, by `max_concurrency`: a clone with another one has its own."""
        self._idle: anyio.Event | None = None

    @property
    def transport(self) -> T_co:
        """What sends."""
        return self._transport

    def leave(self, call: anyio.CancelScope) -> None:
        """Takes a call out that is over."""
        self.calls.discard(call)
        if self._idle is not None and not self.calls:
            self._idle.set()

    async def aclose(self) -> None:
        """Cancels the calls in flight, lets them unwind, and closes the transport."""
        self.ended = True
        limits, self.limits = self.limits, None
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            if self.calls:
                self._idle = self._idle or anyio.Event()
                for call in self.calls:
                    call.cancel()
                await self._idle.wait()
        self.calls.clear()  # what has not unwound by now is waited for no more
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            if limits is not None:
                await limits.leave()
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await self._transport.aclose()


class Connections(Generic[T_co]):
    """The states of all event loops that a client and its clones have been used from."""

    def __init__(self, open_transport: Callable[[], T_co]) -> None:
        self.closed: bool = False
        self._open_transport = open_transport
        self._states: dict[EventLoopToken, tuple[LoopState[T_co], AsyncGeneratorType[None, None]]] = {}
        self._pid = os.getpid()
        # Held from outside, the sockets are no part of the garbage when the client is: they are closed on their loops,
        # by the closers that are dropped then, and not by the garbage collector.
        weakref.finalize(self, self._states.clear).atexit = False

    def check_open(self) -> None:
        """Refuses to go on, with ClientClosedError, once the client is closed."""
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")

    def here(self) -> LoopState[T_co]:
        """The state of the running event loop.

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
        """Closes the client everywhere, and its sockets on this loop. Those of other loops go when these end."""
        self.closed = True
        if self._pid == os.getpid():
            token = current_token()
            found = self._states.get(token)
            if found is not None:
                state, closer = found
                # Forgotten only when done: whoever cancels the closing may ask for it again.
                await state.aclose()
                self._states.pop(token, None)
                if not closer.ag_running:  # else the loop ends, and closes it at this moment
                    await closer.aclose()

    def _open(self, token: EventLoopToken) -> LoopState[T_co]:
        for other, (state, _) in list(self._states.items()):
            # A loop of asyncio may be closed without a word to its generators.
            is_closed: Callable[[], bool] = getattr(other.native_token, "is_closed", bool)
            if state.ended or is_closed():
                self._states.pop(other, None)
        state = LoopState(self._open_transport())
        closer = close_with_loop(state)
        self._states[token] = (state, closer)
        return state


def close_with_loop(resource: Closable) -> AsyncGeneratorType[None, None]:
    """Close it when the running event loop ends, or when the returned generator is dropped or closed."""
    closer = cast(AsyncGeneratorType[None, None], _close_at_the_end(resource))
    with suppress(StopIteration):
        closer.__anext__().send(None)  # to its yield
    return closer


async def _close_at_the_end(resource: Closable) -> AsyncGenerator[None]:
    # Event loops, asyncio's and trio's, close the async generators that are still open when they end. It is the one
    # moment at which sockets can be closed for a caller who forgot.
    try:
        yield
    finally:
        await resource.aclose()
