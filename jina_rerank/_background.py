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
"""How long a thread waits for a call beyond the deadline of the call: after that, a hook blocks the loop."""
_JOIN_SECONDS: Final = 5.0
"""How long the exit of the interpreter waits for the thread."""
_START_SECONDS: Final = 0.2
"""How long a thread waits for another thread to start the loop before it starts one itself."""


class BackgroundLoop:
    """An event loop for threads that have none. It starts with the first coroutine.

    No method waits for a lock without a timeout: the caller may be a signal handler, or a finalizer, that has
    interrupted the thread that holds the lock.
    """

    def __init__(self) -> None:
        self._loops: list[_Loop] = []
        """The first open one is in use, so that threads that start a loop at the same time agree on one."""
        self._starting = threading.RLock()
        self._stopped = False
        self._abandoned: list[object] = []

    @property
    def started(self) -> bool:
        """Whether the loop is running in this process."""
        return self._open_loop() is not None and not sys.is_finalizing()

    def run(self, coroutine: Coroutine[Any, Any, R], *, deadline: float | None) -> R:
        """Run a coroutine, wait for it, and return its result.

        An exception that interrupts the wait, such as KeyboardInterrupt, cancels the coroutine.

        Args:
            coroutine: The coroutine.
            deadline: Seconds after which the coroutine ends on its own; None if it has no deadline.

        Raises:
            ClientClosedError: The interpreter exits.
            ConfigurationError: The caller runs on the loop's own thread: a hook, or a finalizer, used a sync client.
            APIConnectionError: The loop cannot be started.
            DeadlineExceededError: The coroutine did not end in time, because something blocks the loop.
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
        """Cancel all tasks at exit, close their sockets and end the thread; wait for it for a few seconds at most."""
        self._stopped = True
        for loop in tuple(self._loops):  # more than one if Ctrl-C interrupted a start
            if loop.is_open:
                loop.stop()

    def forget(self) -> None:
        """Drop the loop in a forked child: its thread and file descriptors belong to the parent."""
        self._starting = threading.RLock()
        self._stopped = False
        self._abandoned.append(self._loops)
        self._loops = []

    def _open_loop(self) -> "_Loop | None":
        return next((loop for loop in self._loops if loop.is_open), None)

    def _running(self) -> "_Loop":
        exiting = (
            self._stopped and threading.current_thread() is not threading.main_thread()
        )  # atexit handlers may call
        if exiting or sys.is_finalizing():  # a thread started now would never run
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
        except Exception as error:  # noqa: BLE001  # the process may be out of threads, files or sockets
            reason = f"{type(error).__name__}: {error}"
        else:
            if started is not self._open_loop():  # another thread, or a signal handler, was first
                started.stop()
            return self._running()
        if threading.main_thread().is_alive():
            raise APIConnectionError(f"the background event loop cannot be started: {reason}", should_retry=False)
        raise ClientClosedError(INTERPRETER_EXITS)


class _Loop:
    """An event loop and its thread.

    Args:
        loops: The list that the thread adds it to when it accepts calls, even if Ctrl-C interrupts the caller's wait.

    Raises:
        Exception: The thread or the loop cannot be created.
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
        # Creating a loop takes locks (of asyncio's policy, of logging), which a signal handler on the calling thread
        # would wait for; so this thread creates it.
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
        """Whether it accepts calls in this process."""
        return not self.stopping and not self._loop.is_closed() and self._pid == os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether the current thread is its thread."""
        return threading.get_ident() == self._thread.ident

    def call(self, function: Callable[[], None], context: contextvars.Context | None = None) -> None:
        """Call a function on the loop.

        Raises:
            ClientClosedError: The loop has ended.
        """
        try:
            self._loop.call_soon_threadsafe(function, context=context)
        except RuntimeError:
            raise ClientClosedError(INTERPRETER_EXITS) from None

    def stop(self) -> None:
        """Stop the loop and wait for its thread for a few seconds at most."""
        self.stopping = True
        if self._pid == os.getpid():
            with suppress(ClientClosedError):
                self.call(self._loop.stop)
            self._thread.join(_JOIN_SECONDS)


class _Handover(Generic[R]):
    """A coroutine handed over to the loop. Only the loop's thread runs it; the caller waits for a plain lock.

    A `concurrent.futures.Future` would not do: its condition is acquired and released in Python code, so an interrupt
    in between could leave it locked, and the loop would wait for it forever.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, R]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[R] | None = None
        self._cancelled = False
        self._done = threading.Lock()
        self._done.acquire()

    def start(self) -> None:
        """Create the task, on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(self._finish)
        if self._cancelled:
            self._task.cancel()

    def abandon(self, loop: _Loop | None) -> None:
        """Cancel the coroutine, whose caller no longer waits; without a loop it was not handed over, and is closed."""
        if loop is None:
            self._coroutine.close()
            return
        with suppress(ClientClosedError):  # the loop has ended, and everything on it
            loop.call(self._cancel)

    def wait(self, seconds: float | None) -> bool:
        """Wait for the end of the coroutine; return whether it ended in time."""
        seconds = threading.TIMEOUT_MAX if seconds is None else min(seconds, threading.TIMEOUT_MAX)
        if sys.platform != "win32":
            return self._done.acquire(timeout=seconds)
        # On Windows Ctrl-C does not interrupt a wait for a lock (anyio#532), so it waits in short steps.
        end = time.monotonic() + seconds
        while not self._done.acquire(timeout=0.2):
            if time.monotonic() > end:
                return False
        return True

    def result(self) -> R:
        """Return the coroutine's result, or raise its exception."""
        task, self._task = self._task, None
        if task is None:
            raise asyncio.CancelledError
        try:
            return task.result()
        finally:
            del task  # otherwise the traceback of an error would refer to the task, which refers to the error

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: "asyncio.Task[R]") -> None:
        if not task.cancelled():
            task.exception()  # marks it as retrieved: asyncio would log it if the caller is gone
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
    """Start all tasks before they are cancelled: Python warns of coroutines never awaited, such as anyio's."""
    for _ in range(20):  # tasks may start others
        coroutines = filter(inspect.iscoroutine, [task.get_coro() for task in asyncio.all_tasks(loop)])
        if all(inspect.getcoroutinestate(each) != inspect.CORO_CREATED for each in coroutines):
            return
        loop.run_until_complete(asyncio.sleep(0))


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # raised by a hook: only its own caller receives it
            continue
        return


background: Final = BackgroundLoop()
"""The background loop of this process."""

if sys.version_info < (3, 14):
    # asyncio creates the policy under a lock, which a child forked during the first call would wait for.
    asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]  # since 3.14

atexit.register(background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.forget)
