"""One event loop on a daemon thread, shared by all sync clients of the process."""

import asyncio
import atexit
import contextvars
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from ._stack.http import INTERPRETER_EXITS
from .errors import APIConnectionError, ClientClosedError, ConfigurationError, DeadlineExceededError

R = TypeVar("R")

_GRACE_SECONDS: Final = 5.0
"""How much longer than its own deadline a call is waited for: past that, the loop is stuck in somebody's hook."""
_JOIN_SECONDS: Final = 5.0
"""How long the interpreter's exit waits for the thread."""
_START_SECONDS: Final = 0.2
"""How long a thread waits for another that starts the loop, before it starts one itself."""


class BackgroundLoop:
    """Runs coroutines for threads that have no event loop. It starts with the first one.

    Nothing here waits for a lock without end: the thread that holds it may have been interrupted by the very signal
    handler, or the finalizer, that calls.
    """

    def __init__(self) -> None:
        self._loops: list[_Loop] = []
        """The first that is open is the one in use: all who have started one at the same time agree on that."""
        self._starting = threading.RLock()
        self._stopped = False
        self._abandoned: list[object] = []

    @property
    def started(self) -> bool:
        """Whether the loop runs in this process."""
        return self._open_loop() is not None and not sys.is_finalizing()

    def run(self, coroutine: Coroutine[Any, Any, R], *, deadline: float | None) -> R:
        """Runs a coroutine and waits for it.

        Whatever interrupts the wait, such as Ctrl-C, cancels the coroutine.

        Args:
            coroutine: What to run.
            deadline: Seconds within which it ends by itself; None if it may take for ever.

        Raises:
            ClientClosedError: The interpreter exits.
            ConfigurationError: It is the loop's own thread that waits: a hook, or a finalizer, called a sync client.
            APIConnectionError: The loop cannot be started.
            DeadlineExceededError: It did not end, because something blocks the loop.
        """
        handover = _Handover(coroutine)
        loop: _Loop | None = None
        try:
            loop = self._running()
            loop.call(handover.start, context=contextvars.copy_context())
            if handover.wait(None if deadline is None else deadline + _GRACE_SECONDS):
                return handover.result()
        except BaseException as error:
            handover.abandon(loop)
            if isinstance(error, asyncio.CancelledError) and loop is not None and loop.stopping:
                raise ClientClosedError(INTERPRETER_EXITS) from None
            raise
        handover.abandon(loop)
        raise DeadlineExceededError("the background loop is blocked, perhaps by a hook of http_client")

    def stop(self) -> None:
        """At exit, cancel what is running, close its sockets and end the thread; wait for it a few seconds at most."""
        self._stopped = True
        for loop in tuple(self._loops):  # more than one if Ctrl-C has interrupted a start
            if loop.is_open:
                loop.stop()

    def forget(self) -> None:
        """In a forked child: the thread is the parent's, and so are the loop's file descriptors."""
        self._starting = threading.RLock()
        self._stopped = False
        self._abandoned.append(self._loops)
        self._loops = []

    def _open_loop(self) -> "_Loop | None":
        return next((loop for loop in self._loops if loop.is_open), None)

    def _running(self) -> "_Loop":
        exiting = self._stopped and threading.current_thread() is not threading.main_thread()  # which runs atexit's
        if exiting or sys.is_finalizing():  # a thread that is started now never runs
            raise ClientClosedError(INTERPRETER_EXITS)
        loop = self._open_loop()
        if loop is None:
            starting = self._starting  # a fork replaces it
            acquired = starting.acquire(timeout=_START_SECONDS)
            try:
                loop = self._open_loop() or self._start()
            finally:
                if acquired:
                    starting.release()
        if loop.is_current:
            raise ConfigurationError(
                "a sync client was called on its own event loop, from a hook or a finalizer; use RerankClient in async "
                "code"
            )
        return loop

    def _start(self) -> "_Loop":
        try:
            started = _Loop(self._loops)
        except Exception as error:  # noqa: BLE001  # of a process that may have no more threads, files or sockets
            reason = f"{type(error).__name__}: {error}"
        else:
            if started is not self._open_loop():  # another thread, or a signal handler, was first
                started.stop()
            return self._running()
        if threading.main_thread().is_alive():
            raise APIConnectionError(f"the background event loop cannot be started: {reason}", should_retry=False)
        raise ClientClosedError(INTERPRETER_EXITS)


class _Loop:
    """An event loop, and the thread that it runs on.

    Args:
        loops: Where it is put when it takes calls, also if Ctrl-C interrupts the wait for that.

    Raises:
        Exception: Why it cannot be made.
    """

    def __init__(self, loops: "list[_Loop]") -> None:
        self.stopping: bool = False
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop
        self._failure: Exception | None = None
        self._made = threading.Lock()
        self._made.acquire()
        self._thread = threading.Thread(target=self._run, args=(loops,), name="jina-rerank", daemon=True)
        self._thread.start()
        self._made.acquire()
        if self._failure is not None:
            raise self._failure

    def _run(self, loops: "list[_Loop]") -> None:
        # The loop is made here, since making it takes locks (of asyncio's policy, of logging): a signal handler would
        # wait for them on the calling thread.
        try:
            self._loop = asyncio.new_event_loop()
            loops.append(self)
        except Exception as error:  # noqa: BLE001  # the caller raises it
            self._failure = error
            return
        finally:
            self._made.release()
        _serve(self._loop)

    @property
    def is_open(self) -> bool:
        """Whether it takes calls, in this process."""
        return not self.stopping and not self._loop.is_closed() and self._pid == os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether this is its thread."""
        return threading.get_ident() == self._thread.ident

    def call(self, function: Callable[[], None], context: contextvars.Context | None = None) -> None:
        """Calls a function on the loop.

        Raises:
            ClientClosedError: It has ended.
        """
        try:
            self._loop.call_soon_threadsafe(function, context=context)
        except RuntimeError:
            raise ClientClosedError(INTERPRETER_EXITS) from None

    def stop(self) -> None:
        """Ends it, and waits for that a few seconds at most."""
        self.stopping = True
        if self._pid == os.getpid():
            with suppress(ClientClosedError):
                self.call(self._loop.stop)
            self._thread.join(_JOIN_SECONDS)


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

    def abandon(self, loop: _Loop | None) -> None:
        """Cancel what nobody waits for any more; without a loop it was not handed over."""
        if loop is None:
            self._coroutine.close()
            return
        with suppress(ClientClosedError):  # the loop has ended, and everything on it
            loop.call(self._cancel)

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

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: "asyncio.Task[R]") -> None:
        if not task.cancelled():
            task.exception()  # looked at: nobody may come to fetch it, and that is no news
        self._done.release()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        _run_until_stopped(loop)
        _begin_all(loop)
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _begin_all(loop: asyncio.AbstractEventLoop) -> None:
    """Let tasks begin before they are cancelled: else Python complains of those of anyio, which were never awaited."""
    for _ in range(20):  # they may start others
        coroutines = filter(inspect.iscoroutine, [task.get_coro() for task in asyncio.all_tasks(loop)])
        if all(inspect.getcoroutinestate(each) != inspect.CORO_CREATED for each in coroutines):
            return
        loop.run_until_complete(asyncio.sleep(0))


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of a hook: its own caller gets it, and all others go on
            continue
        return


background: Final = BackgroundLoop()
"""The one of this process."""

if sys.version_info < (3, 14):
    # It is made under a lock, which a child that is forked during the first call would wait for.
    asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]  # from 3.14 on

atexit.register(background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.forget)
