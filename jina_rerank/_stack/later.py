"""Does something later on the running event loop, without a task that anybody must wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.lowlevel import current_token

_running: Final[set["asyncio.Task[None]"]] = set()
"""An event loop holds its tasks weakly."""


def call_later(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Runs `action`, which must not fail, after `seconds`, if the event loop still runs then."""
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        loop.call_later(seconds, _start, action)
        return
    import trio  # noqa: PLC0415  # it is there: it runs

    trio.lowlevel.spawn_system_task(_after, seconds, action)


def _start(action: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.get_running_loop().create_task(_after(0, action))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _after(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    await anyio.sleep(seconds)
    await action()
