"""Tasks of the event loop's own, for what goes on between two calls of its user, on asyncio and trio.

No task group and no cancel scope of theirs is open in the caller's task, so that leaving them for good, by a plain
`break` for example, disturbs nobody.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import current_token

from .connections import CLOSING_SECONDS, Closable, LoopState
from .timers import spawn


class DetachedTasks:
    """Tasks on the running event loop. They end by themselves, by `aclose` or `cancel_soon`, and with their client.

    An anyio task group is not what holds them: the loop's end cancels tasks from outside, and a task of a group that
    has not begun by then leaves a coroutine behind that was never awaited, which Python complains of.
    """

    def __init__(self, state: LoopState[Closable]) -> None:
        self._state = state
        self._token = current_token()
        self._pid = os.getpid()
        self._scopes: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()

    @property
    def here(self) -> bool:
        """Whether this is their event loop, and their process."""
        return self._token == current_token() and self._pid == os.getpid()

    def spawn(self, function: Callable[[], Awaitable[None]]) -> anyio.CancelScope:
        """Starts a task, which raises nothing. It can be cancelled alone by its scope."""
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        spawn(self._run, function, scope)
        return scope

    def cancel_soon(self) -> None:
        """Cancels them all, from anywhere, the garbage collector's thread included."""
        if self._pid != os.getpid():  # a forked child has the parent's loop before it
            return
        native: Any = self._token.native_token
        call_soon = native.call_soon_threadsafe if hasattr(native, "call_soon_threadsafe") else native.run_sync_soon
        with suppress(RuntimeError):  # the loop has ended, and everything on it
            call_soon(self._cancel)

    async def aclose(self) -> None:
        """Cancels them all and waits, a few seconds at most, until they have unwound."""
        if not self.here:
            self.cancel_soon()
            return
        self._cancel()
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            while self._scopes:
                if self._idle.is_set():
                    self._idle = anyio.Event()
                await self._idle.wait()

    def _cancel(self) -> None:
        for scope in tuple(self._scopes):
            scope.cancel()

    async def _run(self, function: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        state = self._state
        state.calls.add(scope)  # what closing the client cancels, and waits for
        if state.ended:
            scope.cancel()
        try:
            with scope:
                await function()
        finally:
            state.leave(scope)
            self._scopes.discard(scope)
            if not self._scopes:
                self._idle.set()
