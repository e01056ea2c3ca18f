"""Background tasks of an event loop, which outlive the call that starts them, on asyncio and trio.

They keep no task group or cancel scope open in the caller's task, so the caller may abandon them at any time, for
example with a plain `break`.
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
    """Tasks on the running event loop, which `aclose`, `cancel_soon` and the closing of their client cancel.

    They do not run in an anyio task group: the end of the loop cancels its tasks, and a task of a group that has not
    started by then leaves a coroutine that was never awaited, of which Python warns.
    """

    def __init__(self, state: LoopState[Closable]) -> None:
        self._state = state
        self._token = current_token()
        self._pid = os.getpid()
        self._scopes: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()

    @property
    def here(self) -> bool:
        """Whether the caller is on their event loop, and in their process."""
        return self._token == current_token() and self._pid == os.getpid()

    def spawn(self, function: Callable[[], Awaitable[None]]) -> anyio.CancelScope:
        """Start a task, which must not raise; return the scope that cancels it alone."""
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        spawn(self._run, function, scope)
        return scope

    def cancel_soon(self) -> None:
        """Cancel all tasks, from any thread, including one in which the garbage collector runs."""
        if self._pid != os.getpid():  # the loop belongs to the parent of this forked child
            return
        native: Any = self._token.native_token
        call_soon = native.call_soon_threadsafe if hasattr(native, "call_soon_threadsafe") else native.run_sync_soon
        with suppress(RuntimeError):  # the loop has ended, and its tasks with it
            call_soon(self._cancel)

    async def aclose(self) -> None:
        """Cancel all tasks and wait for a few seconds at most until they have unwound."""
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
        state.calls.add(scope)  # so that closing the client cancels it, and waits for it
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
