"""Timers and fire-and-forget tasks on the running event loop: asyncio's, or trio's with system tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final

import anyio
from anyio.lowlevel import current_token

_running: Final[set["asyncio.Task[Any]"]] = set()
"""Strong references to the tasks, because an event loop keeps only weak ones."""


def spawn(function: Callable[..., Any], *arguments: Any) -> None:
    """Run an async function, which must not raise, in a new task."""
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        _spawn_on(loop, function, *arguments)
        return
    import trio  # noqa: PLC0415  # not a dependency, but installed if it is running

    trio.lowlevel.spawn_system_task(function, *arguments, context=copy_context())


def call_later(seconds: float, action: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run `action`, which must not raise, after `seconds`, if the event loop is still running then.

    Returns:
        A function that cancels the action if it has not started.
    """
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        # The end of the loop silently drops a timer, but asyncio warns of a task that is still sleeping.
        return loop.call_later(seconds, _spawn_on, loop, action).cancel
    pause = anyio.CancelScope()
    spawn(_after, seconds, action, pause)
    return pause.cancel


def _spawn_on(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *arguments: Any) -> None:
    task = loop.create_task(function(*arguments))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _after(seconds: float, action: Callable[[], Awaitable[None]], pause: anyio.CancelScope) -> None:
    with pause:
        await anyio.sleep(seconds)
    if not pause.cancel_called:
        await action()
