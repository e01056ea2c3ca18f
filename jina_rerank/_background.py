"""One event loop on a daemon thread, shared by all sync clients of the process."""

import asyncio
import atexit
import contextvars
import os
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from .errors import ClientClosedError, ConfigurationError, DeadlineExceededError

R = TypeVar("R")

_GRACE_SECONDS: Final = 5.0
"""How much longer than its own deadline a call is waited for: past that, the loop is stuck in somebody's hook."""
_JOIN_SECONDS: Final = 5.0
"""How long the interpreter's exit waits for the thread."""
_EXITS: Final = "the interpreter exits, and the call cannot be carried out any more"


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
        return self._loop is not None and not self._loop.is_closed() and self._pid == os.getpid()

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
        handover = _Handover(coroutine)
        loop = None
        try:
            loop = self._running()
            loop.call_soon_threadsafe(handover.start, context=contextvars.copy_context())
            if handover.wait(None if deadline is None else deadline + _GRACE_SECONDS):
                return handover.result()
        except BaseException as error:
            _cancel(handover, loop)
            if _exits(error):
                raise ClientClosedError(_EXITS) from None
            raise
        _cancel(handover, loop)
        raise DeadlineExceededError("the background loop is blocked, perhaps by a hook of http_client")

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

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            self.forget()
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a sync client was called on its own event loop, from a hook; use RerankClient in async code"
            )
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(loop,), name="jina-rerank", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    loop.close()
                    raise
                self._loop, self._thread = loop, thread
            return self._loop


class _Handover(Generic[R]):
    """A coroutine that is handed to the loop. The loop's thread alone touches it; the caller waits for a bare lock.

    Not a Future of the standard library: its lock is taken and given back in Python, and an interrupt in between
    leaves it taken, so that the loop waits for it for ever.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, R]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[R] | None = None
        self._cancelled = False
        self._done = threading.Lock()
        self._done.acquire()

    def start(self) -> None:
        """Begins, on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(self._finish)
        if self._cancelled:
            self._task.cancel()

    def cancel(self) -> None:
        """Ends, on the loop, what nobody waits for any more."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def drop(self) -> None:
        """Ends what never reached a loop."""
        self._coroutine.close()

    def wait(self, seconds: float | None) -> bool:
        """Whether it ended in time."""
        seconds = threading.TIMEOUT_MAX if seconds is None else min(seconds, threading.TIMEOUT_MAX)
        if sys.platform != "win32":
            return self._done.acquire(timeout=seconds)
        # On Windows nothing interrupts a wait (anyio#532), so it is cut in short pieces for Ctrl-C to come through.
        end = time.monotonic() + seconds
        while not self._done.acquire(timeout=0.2):
            if time.monotonic() > end:
                return False
        return True

    def result(self) -> R:
        """What the coroutine has returned or raised."""
        task, self._task = self._task, None
        if task is None:
            raise asyncio.CancelledError
        try:
            return task.result()
        finally:
            del task  # an error's traceback would hold the task, which holds the error

    def _finish(self, task: "asyncio.Task[R]") -> None:
        if not task.cancelled():
            task.exception()  # looked at: nobody may come to fetch it, and that is no news
        self._done.release()


def _cancel(handover: _Handover[Any], loop: asyncio.AbstractEventLoop | None) -> None:
    if loop is None:
        handover.drop()
        return
    with suppress(RuntimeError):  # the loop has ended, and everything on it
        loop.call_soon_threadsafe(handover.cancel)


def _exits(error: BaseException) -> bool:
    """Whether it comes of the interpreter's exit: the loop has ended, or no thread is started to look up a host."""
    if isinstance(error, asyncio.CancelledError):
        return True
    return type(error) is RuntimeError and any(word in str(error) for word in ("shutdown", "Event loop is closed"))


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        _run_until_stopped(loop)
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of a hook: its own caller gets it, and all others go on
            continue
        return


background: Final = BackgroundLoop()
"""The one of this process."""

atexit.register(background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.forget)
