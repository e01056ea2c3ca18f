"""Starts things on the running event loop that nobody waits for: on asyncio, or as a system task of trio."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final

import anyio
from anyio.lowlevel import current_token

_running: Final[set["asyncio.Task[Any]"]] = set()
"""An event loop holds its tasks weakly."""


def spawn(function: Callable[..., Any], *arguments: Any) -> None:
    """Runs an async function, which must not fail, in a task of its own."""
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        _spawn_on(loop, function, *arguments)
        return
    import trio  # noqa: PLC0415  # no dependency: it is there where it runs

    trio.lowlevel.spawn_system_task(function, *arguments, context=copy_context())


def call_later(seconds: float, action: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Runs `action`, which must not fail, after `seconds`, if the event loop still runs then.

    Returns:
        What calls it off, if it has not begun.
    """
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        # A timer is dropped without a word when the loop ends; a task that still sleeps would be complained of.
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
