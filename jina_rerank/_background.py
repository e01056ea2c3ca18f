"""One event loop on a daemon thread, shared by all sync clients of the process."""

import asyncio
import atexit
import concurrent.futures
import os
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from .errors import ClientClosedError, ConfigurationError, DeadlineExceededError

R = TypeVar("R")

_GRACE_SECONDS: Final = 5.0
"""How much longer than its own deadline a call is waited for: past that, the loop is stuck in somebody's hook."""
_JOIN_SECONDS: Final = 5.0
"""How long the interpreter's exit waits for the thread."""


_EXITS: Final = "the interpreter exits, and the call cannot be carried out any more"
_STUCK: Final = "the background loop is blocked, perhaps by a hook of http_client"


class BackgroundLoop:
    """Runs coroutines for threads that have no event loop. It starts with the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._abandoned: list[object] = []

    @property
    def started(self) -> bool:
        """Whether the loop runs in this process."""
        return self._loop is not None and self._pid == os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, R], *, deadline: float | None) -> R:
        """Runs a coroutine and waits for it.

        Whatever interrupts the wait, such as Ctrl-C, cancels the coroutine.

        Args:
            coroutine: What to run.
            deadline: Seconds within which it ends by itself; None if it may take for ever.

        Raises:
            ClientClosedError: The loop stopped, because the interpreter exits.
            ConfigurationError: It is the loop's own thread that waits: a hook called a sync client.
            DeadlineExceededError: It did not end, because something blocks the loop.
        """
        try:
            future = self._submit(coroutine)
        except BaseException as error:
            coroutine.close()
            if _exits(error):
                raise ClientClosedError(_EXITS) from None
            raise
        patience = None if deadline is None else deadline + _GRACE_SECONDS
        try:
            return _wait(future, patience)
        except BaseException as error:
            late = not future.done()
            future.cancel()
            if late and isinstance(error, TimeoutError):
                raise DeadlineExceededError(_STUCK) from None
            if _exits(error):
                raise ClientClosedError(_EXITS) from None
            raise

    def stop(self) -> None:
        """Cancels what is running, closes its sockets, and ends the thread; waits for that a few seconds at most."""
        if self.started and self._loop is not None and self._thread is not None:
            with suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_JOIN_SECONDS)

    def forget(self) -> None:
        """In a forked child: the thread is the parent's, and so are the loop's file descriptors."""
        self._lock = threading.Lock()
        self._abandoned.append(self._loop)
        self._loop = self._thread = None
        self._pid = os.getpid()

    def _submit(self, coroutine: Coroutine[Any, Any, R]) -> "concurrent.futures.Future[R]":
        loop, thread = self._running()
        if threading.current_thread() is thread:
            raise ConfigurationError(
                "a sync client was called on its own event loop, from a hook; use RerankClient in async code"
            )
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _running(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        if self._pid != os.getpid():
            self.forget()
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(loop,), name="jina-rerank", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    loop.close()
                    raise
                self._loop, self._thread = loop, thread
            return self._loop, self._thread


def _exits(error: BaseException) -> bool:
    """Whether it comes of the interpreter's exit: the loop has ended, or no thread is started to look up a host."""
    if isinstance(error, concurrent.futures.CancelledError):
        return True
    return type(error) is RuntimeError and any(word in str(error) for word in ("shutdown", "loop is closed"))


def _wait(future: "concurrent.futures.Future[R]", patience: float | None) -> R:
    if sys.platform != "win32":
        return future.result(patience)
    # On Windows nothing interrupts a wait (anyio#532), so it is cut in short pieces for Ctrl-C to come through.
    while patience is None or patience > 0:
        done, _ = concurrent.futures.wait([future], timeout=0.2)
        if done:
            break
        patience = None if patience is None else patience - 0.2
    return future.result(0)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


background: Final = BackgroundLoop()
"""The one of this process."""

atexit.register(background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.forget)
